//! Backups of real nodes: taken under load, put back elsewhere after the original went on, and started beside it.

mod nodes;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use node::driver::Fact;
use node::node::{Node, Settings, StartError, start};
use node::store::State;
use node::store::backup::Origin;
use node::store::restore::restore;
use nodes::{began, inbox, letter, sees, send, settings, status, wait_until};
use protocol::input::Place;
use protocol::{Answer, Command, Timestamp};
use tokio::sync::oneshot;

/// Letters that the original writes after the backup, half to each of two recipients.
const AFTER: usize = 500;

fn back_up(node: &Node, file: &Path) {
    let origin = Origin { program: "test".to_owned(), peer: node.id, swarm: node.swarm.clone(), open: true, made: Timestamp(1) };
    let mut bytes = Vec::new();
    let made = node.reader.back_up(&origin, &mut |piece| {
        bytes.extend(piece);
        true
    });
    made.expect("it can be read");
    fs::write(file, bytes).expect("written");
}

fn put_back(file: &Path, dir: PathBuf) {
    restore(file, &dir, &mut |_| {}).expect("it is put back");
}

/// Writes so many letters, as fast as it can.
async fn write(from: &Node, to: &str, what: &str, count: usize) -> Vec<String> {
    let facts = from.facts();
    let (mut answers, mut texts) = (Vec::new(), Vec::new());
    for n in 0..count {
        texts.push(format!("{what} {n}"));
        let (reply, answer) = oneshot::channel();
        facts.send(Fact::Asked { command: letter(&[to], &texts[n]), reply }).await.expect("it runs");
        answers.push(answer);
    }
    for answer in answers {
        assert!(matches!(answer.await, Ok(Answer::Accepted { .. })));
    }
    texts
}

fn times(texts: &[String]) -> BTreeMap<&str, usize> {
    let mut times = BTreeMap::new();
    texts.iter().for_each(|text| *times.entry(text.as_str()).or_default() += 1);
    times
}

/// Letters of a node by recipient, text and whether they are called delivered there.
fn sent(node: &Node) -> Vec<(String, String, bool)> {
    let views = node.reader.sent(0, 1_000_000, false).expect("the disk can be read");
    let text = |view: &node::store::SentView| match &view.letter.payload {
        protocol::envelope::Payload::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    let to = |view: &node::store::SentView| view.letter.to[0].name.to_string();
    views.iter().map(|view| (to(view), text(view), view.deliveries.iter().all(|delivery| delivery.state >= State::Delivered))).collect()
}

/// Marks all that is in the inbox read.
async fn read_all(node: &Node) -> usize {
    let query = node::store::InboxQuery { limit: 1_000_000, ..Default::default() };
    let letters: Vec<Place> = node.reader.inbox(&query).expect("the disk can be read").into_iter().map(|letter| letter.place).collect();
    let count = letters.len();
    assert_eq!(nodes::ask(node, Command::MarkRead { letters }).await, Answer::Done);
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_under_load_and_restored_after_500_more_letters_loses_nothing_and_doubles_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("backup");
    let ann = began(dir.path(), "ann", None).await;
    let bea = began(dir.path(), "bea", Some(&ann)).await;
    let carl = began(dir.path(), "carl", Some(&ann)).await;
    let dan = began(dir.path(), "dan", Some(&ann)).await;
    for node in [&ann, &bea, &carl, &dan] {
        sees(node, 3).await;
    }
    // The backup is taken while these are written, sealed, sent and receipted.
    let load = {
        let writing = write(&ann, "bea", "load", 2_000);
        let file = file.clone();
        let taking = async {
            wait_until("some are there", async || ann.reader.counts().is_ok_and(|counts| counts.sent > 300)).await;
            tokio::task::block_in_place(|| back_up(&ann, &file));
        };
        tokio::join!(writing, taking).0
    };
    let mut to_bea = load;
    let mut to_carl = write(&ann, "carl", "before", 50).await;
    wait_until("all that is delivered", async || status(&ann).await.outbox_letters == 0).await;
    // The original goes on: to bea, who reads, and to carl, who is away; bea answers, and that is receipted too.
    carl.stop().await.expect("it stops");
    to_bea.extend(write(&ann, "bea", "after", AFTER / 2).await);
    to_carl.extend(write(&ann, "carl", "after", AFTER / 2).await);
    wait_until("bea has hers", async || inbox(&bea).len() == to_bea.len()).await;
    let read = read_all(&bea).await;
    let forgotten = send(&bea, &["ann"], "forgotten by the backup").await;
    wait_until("ann has signed for it", async || nodes::delivered(&bea, forgotten)).await;
    // What only the original has goes with it; what is held does not.
    wait_until("others hold what carl has not", async || {
        let views = ann.reader.sent(0, 1_000_000, false).expect("the disk can be read");
        views.iter().flat_map(|view| &view.deliveries).all(|delivery| delivery.state >= State::Delivered || delivery.holders.len() >= 2)
    })
    .await;
    let undelivered = status(&ann).await.outbox_letters;
    let old_epoch = status(&ann).await.epoch;
    ann.stop().await.expect("it stops");
    let waits = send(&bea, &["ann"], "waits for ann").await;
    bea.stop().await.expect("it stops");
    dan.stop().await.expect("it stops");

    put_back(&file, dir.path().join("moved"));
    // It writes before it meets anybody.
    let moved = started(Settings { machine: Some("moved".to_owned()), ..settings(dir.path(), "moved") }).await;
    let begun = Instant::now();
    let in_backup = sent(&moved).len();
    assert!(in_backup > 300, "{in_backup} letters are in the backup");
    wait_until("a new epoch", async || status(&moved).await.epoch != old_epoch).await;
    let epoch = status(&moved).await.epoch;
    to_bea.extend(write(&moved, "bea", "alone", 20).await);
    to_carl.extend(write(&moved, "carl", "alone", 20).await);
    assert_eq!(status(&moved).await.epoch, epoch);

    let bea = began(dir.path(), "bea", Some(&moved)).await;
    let dan = began(dir.path(), "dan", Some(&moved)).await;
    let carl = began(dir.path(), "carl", Some(&moved)).await;
    wait_until("bea has all", async || times(&inbox(&bea)).len() >= to_bea.len()).await;
    wait_until("carl has all", async || times(&inbox(&carl)).len() >= to_carl.len()).await;
    to_bea.extend(write(&moved, "bea", "met", 20).await);
    wait_until("all is delivered", async || status(&moved).await.outbox_letters == 0).await;
    wait_until("what waited is there", async || nodes::delivered(&bea, waits)).await;
    println!(
        "{in_backup} letters in the backup, {AFTER} more by the original, {read} of them and before read, {undelivered} undelivered; all there {:?} \
         after the start of the restored one",
        begun.elapsed()
    );
    for (node, wanted) in [(&bea, &to_bea), (&carl, &to_carl)] {
        let (found, wanted) = (inbox(node), times(wanted));
        let found = times(&found);
        assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
        assert!(found.values().all(|count| *count == 1), "each once");
    }
    for (to, text, delivered) in sent(&moved) {
        let has = inbox(if to == "bea" { &bea } else { &carl }).contains(&text);
        assert!(delivered && has, "{text} to {to}: delivered {delivered}, there {has}");
    }
    assert_eq!(status(&moved).await.epoch, epoch, "what others remember changes nothing more");
    let forgotten_too = inbox(&moved);
    assert_eq!(forgotten_too.iter().filter(|text| *text == "waits for ann").count(), 1, "{forgotten_too:?}");
    for node in [moved, bea, carl, dan] {
        node.stop().await.expect("it stops");
    }
}

async fn started(settings: Settings) -> Node {
    start(settings).await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_node_is_not_started_while_the_original_answers_and_the_original_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("backup");
    let bea = began(dir.path(), "bea", None).await;
    let ann = began(dir.path(), "ann", Some(&bea)).await;
    sees(&ann, 1).await;
    wait_until("it listens", async || !status(&ann).await.addresses.is_empty()).await;
    back_up(&ann, &file);
    put_back(&file, dir.path().join("second"));
    let settings_of = || settings(dir.path(), "second");
    let refused = start(settings_of()).await;
    assert!(matches!(&refused, Err(StartError::Alive(_))), "{:?}", refused.err().map(|error| error.to_string()));
    // Nothing came of it: she goes on, and is no clone.
    let letter = send(&ann, &["bea"], "still me").await;
    wait_until("it is delivered", async || nodes::delivered(&ann, letter)).await;
    let statuses = [status(&ann).await, status(&bea).await];
    assert!(!statuses[0].cloned && statuses[1].peers.iter().all(|peer| !peer.cloned) && statuses[1].peers.len() == 1);
    ann.stop().await.expect("it stops");
    let second = started(settings_of()).await;
    assert!(!status(&second).await.cloned);
    second.stop().await.expect("it stops");
    bea.stop().await.expect("it stops");
}
