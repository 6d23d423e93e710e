//! The record of real nodes: who keeps it has what everybody wrote down, also when the one before it was killed in the middle.

mod nodes;

use std::path::Path;
use std::time::{Duration, Instant};

use node::driver::Fact;
use node::node::Node;
use node::store::{ChainSeen, Verification};
use nodes::{ask, began, inbox, letter, sees, send, status, wait_until};
use protocol::log::{About, Question};
use protocol::{Answer, PeerId};

const SWARM: &str = "test";

fn verified(node: &Node) -> Verification {
    let found = node.reader.verify(&node.id, SWARM).expect("the disk can be read");
    assert_eq!(found.flaws, [], "of {}", node.id);
    found
}

/// The chain that a node writes on in, as it has it itself.
fn own(node: &Node) -> ChainSeen {
    verified(node).chains.into_iter().rfind(|chain| !chain.copy).expect("it wrote something down")
}

/// Whether all that `author` has of its own record is with `keeper`.
fn has_all_of(keeper: &Node, author: &Node) -> bool {
    let (theirs, kept) = (own(author), verified(keeper));
    kept.chains.iter().any(|chain| (chain.author, chain.chain) == (theirs.author, theirs.chain) && chain.last >= theirs.last)
}

async fn leader(node: &Node) -> Option<PeerId> {
    node.status().await?.leader.map(|leader| leader.fence.leader)
}

async fn three(dir: &Path) -> [Node; 3] {
    let ann = began(dir, "ann", None).await;
    let bea = began(dir, "bea", Some(&ann)).await;
    let carl = began(dir, "carl", Some(&ann)).await;
    let nodes = [ann, bea, carl];
    for node in &nodes {
        sees(node, 2).await;
    }
    wait_until("one leads", async || {
        let first = leader(&nodes[0]).await;
        first.is_some() && leader(&nodes[1]).await == first && leader(&nodes[2]).await == first
    })
    .await;
    nodes
}

async fn write(from: &Node, to: &str, count: usize) {
    let asks = (0..count).map(|n| ask(from, letter(&[to], &format!("{n}"))));
    for answer in futures::future::join_all(asks).await {
        assert!(matches!(answer, Answer::Accepted { .. }), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_keeps_the_record_has_what_everybody_wrote_within_a_second() {
    let dir = tempfile::tempdir().expect("a directory");
    let nodes = three(dir.path()).await;
    let led_by = leader(&nodes[0]).await.expect("somebody");
    let keeper = nodes.iter().find(|node| node.id == led_by).expect("one of them");
    wait_until("all of it is there", async || nodes.iter().all(|node| node.id == led_by || has_all_of(keeper, node))).await;
    let [one, two] = [0, 1].map(|n| nodes.iter().filter(|node| node.id != led_by).nth(n).expect("there are two others"));
    let to = status(two).await.name.to_string();
    let begin = Instant::now();
    let sent = send(one, &[&to], "Hello").await;
    let about = Some(About::Letter { prefix: sent.to_string()[..8].to_owned() });
    let words = |node: &Node| {
        let answer = node.reader.log(&Question { limit: 100, about: about.clone(), ..Question::default() }).expect("the disk can be read");
        answer.entries.into_iter().map(|entry| (entry.author, entry.what.expect("our own").word())).collect::<Vec<_>>()
    };
    let all = [(one.id, "letter_accepted"), (two.id, "letters_taken"), (one.id, "letters_delivered")];
    wait_until("it is told", async || all.iter().all(|entry| words(keeper).contains(entry))).await;
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    // And it says nothing else than they do.
    for node in [one, two] {
        let local = node.reader.log(&Question { limit: 1_000, peer: Some(node.id), ..Question::default() }).expect("the disk can be read");
        let kept = keeper.reader.log(&Question { limit: 1_000, peer: Some(node.id), ..Question::default() }).expect("the disk can be read");
        assert!(kept.entries.len() > 5 && local.entries.starts_with(&kept.entries));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_keeps_the_record_next_has_all_of_a_burst_in_which_the_one_before_was_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let nodes = three(dir.path()).await;
    let led_by = leader(&nodes[0]).await.expect("somebody");
    let (killed, left): (Vec<Node>, Vec<Node>) = nodes.into_iter().partition(|node| node.id == led_by);
    let [one, two] = left.as_slice() else { panic!("there are two others") };
    let names = [status(one).await.name.to_string(), status(two).await.name.to_string()];
    let before = own(one).last_entry + own(two).last_entry;
    let burst = async { tokio::join!(write(one, &names[1], 3_500), write(two, &names[0], 3_500)) };
    let kill = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        killed[0].facts().send(Fact::Stop).await.expect("it runs");
        Instant::now()
    };
    let (_, killed_at) = tokio::join!(burst, kill);
    wait_until("all is delivered", async || inbox(one).len() + inbox(two).len() == 7_000).await;
    let written = own(one).last_entry + own(two).last_entry - before;
    assert!(written > 7_000, "{written}");
    wait_until("another leads", async || {
        let led_by = leader(one).await;
        led_by.is_some() && led_by != Some(killed[0].id) && led_by == leader(two).await
    })
    .await;
    let next = leader(one).await.expect("somebody");
    let (keeper, other) = if next == one.id { (one, two) } else { (two, one) };
    wait_until("it has all of it", async || has_all_of(keeper, other)).await;
    let took = killed_at.elapsed();
    println!("{written} entries, {took:?} after the kill");
    assert!(took < Duration::from_secs(10), "{took:?}");
}
