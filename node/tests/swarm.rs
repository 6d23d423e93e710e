//! Letters between real nodes, to one and to several, over restarts and in numbers.

mod nodes;

use std::time::Instant;

use node::driver::Fact;
use nodes::{began, delivered, inbox, letter, sees, send, wait_until};
use protocol::Answer;
use tokio::sync::oneshot;

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
