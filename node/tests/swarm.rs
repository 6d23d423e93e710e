//! Real nodes in one process, over loopback: libp2p, redb and threads as they are.

use std::path::Path;
use std::time::{Duration, Instant};

use node::driver::Fact;
use node::node::{Node, Settings, start};
use node::store::{InboxQuery, State};
use protocol::envelope::Payload;
use protocol::input::NewLetter;
use protocol::{Answer, Command, LetterId};
use tokio::sync::oneshot;

/// Longer than anything here should take, even on a busy machine.
const BOUND: Duration = Duration::from_secs(20);

fn settings(directory: &Path, name: &str) -> Settings {
    Settings {
        directory: directory.join(name),
        name: name.parse().expect("a name"),
        swarm: Some("test".to_owned()),
        swarm_key: None,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")],
        peers: Vec::new(),
        mdns: false,
        start_over: false,
    }
}

async fn began(directory: &Path, name: &str, near: Option<&Node>) -> Node {
    let mut settings = settings(directory, name);
    if let Some(near) = near {
        wait_until("the other listens", async || near.status().await.is_some_and(|status| !status.addresses.is_empty())).await;
        let status = near.status().await.expect("it runs");
        settings.peers = status.addresses.iter().map(|address| address.parse().expect("our own multiaddr")).collect();
    }
    start(settings).await.expect("it starts")
}

async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !condition().await {
        assert!(begin.elapsed() < BOUND, "waited {BOUND:?} for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn ask(node: &Node, command: Command) -> Answer {
    let (reply, answer) = oneshot::channel();
    node.facts().send(Fact::Asked { command, reply }).await.expect("it runs");
    answer.await.expect("it answers")
}

fn letter(to: &[&str], text: &str) -> Command {
    Command::Send(NewLetter {
        to: to.iter().map(|name| name.parse().expect("a name")).collect(),
        kind: "message".to_owned(),
        payload: Payload::Text(text.to_owned()),
        in_reply_to: None,
        key: None,
        later: false,
    })
}

async fn send(node: &Node, to: &[&str], text: &str) -> LetterId {
    match ask(node, letter(to, text)).await {
        Answer::Accepted { letter, repeated: false, .. } => letter,
        other => panic!("{other:?}"),
    }
}

fn inbox(node: &Node) -> Vec<String> {
    let query = InboxQuery { after: 0, before: None, unread: false, from: None, limit: 1_000_000, newest: false };
    let letters = node.reader.inbox(&query).expect("the disk can be read");
    let text = |payload| match payload {
        Payload::Text(text) => text,
        other => panic!("{other:?}"),
    };
    letters.into_iter().map(|letter| text(letter.envelope.payload)).collect()
}

async fn sees(node: &Node, others: usize) {
    wait_until("all see all", async || {
        node.status().await.is_some_and(|status| status.peers.iter().filter(|peer| peer.available).count() == others)
    })
    .await;
}

fn delivered(node: &Node, letter: LetterId) -> bool {
    let views = node.reader.sent_by_id(&letter.to_string()).expect("the disk can be read");
    views[0].deliveries.iter().all(|delivery| delivery.state >= State::Delivered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_reach_one_and_several_and_survive_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let ann = began(dir.path(), "ann", None).await;
    let bea = began(dir.path(), "bea", Some(&ann)).await;
    let carl = began(dir.path(), "carl", Some(&ann)).await;
    for node in [&ann, &bea, &carl] {
        sees(node, 2).await;
    }
    let first = send(&ann, &["bea"], "to one").await;
    let second = send(&ann, &["bea", "carl"], "to several").await;
    wait_until("receipts", async || delivered(&ann, first) && delivered(&ann, second)).await;
    assert_eq!(inbox(&bea), ["to one", "to several"]);
    assert_eq!(inbox(&carl), ["to several"]);

    bea.stop().await.expect("it stops");
    wait_until("bea is away", async || {
        ann.status().await.is_some_and(|status| status.peers.iter().filter(|peer| peer.available).count() == 1)
    })
    .await;
    let third = send(&ann, &["bea"], "while away").await;
    ann.stop().await.expect("it stops");
    let bea = began(dir.path(), "bea", Some(&carl)).await;
    let ann = began(dir.path(), "ann", Some(&carl)).await;
    wait_until("the letter that waited", async || delivered(&ann, third)).await;
    assert_eq!(inbox(&bea), ["to one", "to several", "while away"]);
    for node in [ann, bea, carl] {
        node.stop().await.expect("it stops");
    }
}

/// What a stopped node has on its disk, once more.
fn copy(directory: &Path, from: &str, to: &str) {
    std::fs::create_dir(directory.join(to)).expect("a new directory");
    for file in std::fs::read_dir(directory.join(from)).expect("a directory") {
        let file = file.expect("a file");
        if file.file_type().expect("a type").is_file() {
            std::fs::copy(file.path(), directory.join(to).join(file.file_name())).expect("it can be copied");
        }
    }
    std::fs::set_permissions(directory.join(to), std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("our own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_copies_of_one_directory_are_found_out_and_lose_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let bea = began(dir.path(), "bea", None).await;
    let ann = began(dir.path(), "ann", Some(&bea)).await;
    sees(&bea, 1).await;
    ann.stop().await.expect("it stops");
    copy(dir.path(), "ann", "twin");
    let ann = began(dir.path(), "ann", Some(&bea)).await;
    let twin = began(dir.path(), "twin", Some(&bea)).await;
    let begin = Instant::now();
    let known = async |node: &Node| {
        let status = node.status().await.expect("it runs");
        status.cloned || status.peers.iter().any(|peer| peer.cloned && peer.connected && !peer.available)
    };
    wait_until("all three know", async || known(&ann).await && known(&twin).await && known(&bea).await).await;
    assert!(begin.elapsed() < Duration::from_secs(10), "it took {:?}", begin.elapsed());
    println!("found out after {:?}", begin.elapsed());
    for node in [&ann, &twin] {
        assert!(node.status().await.is_some_and(|status| status.cloned));
        assert_eq!(ask(node, letter(&["bea"], "from whom?")).await, Answer::Refused(protocol::Refusal::Cloned));
    }
    let waiting = send(&bea, &["ann"], "to whom?").await;
    // The two keep contact: whoever is greeted and answers is not given up.
    wait_until("a while passes", async || begin.elapsed() > Duration::from_secs(14)).await;
    assert!(known(&ann).await && known(&twin).await && known(&bea).await && !delivered(&bea, waiting));
    let sees_bea = async |node: &Node| node.status().await.is_some_and(|status| status.peers.iter().any(|peer| peer.available));
    assert!(sees_bea(&ann).await && sees_bea(&twin).await, "both still hear bea");
    assert!(inbox(&ann).is_empty() && inbox(&twin).is_empty());

    twin.stop().await.expect("it stops");
    ann.stop().await.expect("it stops");
    let ann = began(dir.path(), "ann", Some(&bea)).await;
    wait_until("the letter that waited", async || delivered(&bea, waiting)).await;
    assert_eq!(inbox(&ann), ["to whom?"]);
    assert!(bea.status().await.is_some_and(|status| status.peers.iter().all(|peer| !peer.cloned && peer.available)));
    let last = send(&ann, &["bea"], "from the only one").await;
    wait_until("a letter of the survivor", async || delivered(&ann, last)).await;
    assert_eq!(inbox(&bea), ["from the only one"]);
    for node in [ann, bea] {
        node.stop().await.expect("it stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_letters_arrive_once_and_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let ann = began(dir.path(), "ann", None).await;
    let bea = began(dir.path(), "bea", Some(&ann)).await;
    sees(&ann, 1).await;
    let count: usize = std::env::var("SWARM_LETTERS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let begin = Instant::now();
    let facts = ann.facts();
    let mut answers = Vec::new();
    for n in 0..count {
        let (reply, answer) = oneshot::channel();
        facts.send(Fact::Asked { command: letter(&["bea"], &format!("letter {n} {}", "x".repeat(240))), reply }).await.expect("it runs");
        answers.push(answer);
    }
    for answer in answers {
        assert!(matches!(answer.await, Ok(Answer::Accepted { .. })));
    }
    let accepted = begin.elapsed();
    wait_until("all receipts", async || ann.status().await.is_some_and(|status| status.outbox_letters == 0)).await;
    println!("{count} letters: accepted in {accepted:?}, receipted in {:?}", begin.elapsed());
    let texts = inbox(&bea);
    assert_eq!(texts.len(), count);
    assert!(texts.iter().enumerate().all(|(n, text)| text.starts_with(&format!("letter {n} "))));
}
