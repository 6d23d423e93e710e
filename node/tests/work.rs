//! Work between real nodes: who is said to offer a service, and the outcome of an order, which is in its orderer's inbox, once,
//! whether it was there when the order ended or not.

mod nodes;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use node::node::Node;
use node::store::{Content, InboxLetter, InboxQuery, Outcome};
use nodes::{ask, began, inbox, sees, wait_until};
use protocol::input::NewOrder;
use protocol::order::{End, Priority, Report};
use protocol::service::{Allowed, Needs, Offering, Program, ServiceCard};
use protocol::{Answer, Command};

async fn offer(node: &Node, name: &str, program: Program) {
    let card = ServiceCard {
        name: name.parse().expect("a name"),
        about: String::new(),
        limit: 4,
        needs: Needs::default(),
        allowed: Allowed::Anyone,
    };
    let offering = Offering { card, program, time_limit_ms: None, software: BTreeSet::new(), configured: false };
    assert_eq!(ask(node, Command::Offer(Box::new(offering))).await, Answer::Done);
}

async fn order(node: &Node, service: &str, items: usize) -> u64 {
    let order = NewOrder {
        service: service.parse().expect("a name"),
        args: vec!["hello".to_owned(), "{}".to_owned()],
        items: (0..items).map(|item| item.to_string()).collect(),
        stdin: None,
        priority: Priority::default(),
        needs: Needs::default(),
        once: false,
        expires: None,
        key: None,
    };
    match ask(node, Command::Order(Box::new(order))).await {
        Answer::Placed { number, repeated: false } => number,
        other => panic!("{other:?}"),
    }
}

fn outcomes(node: &Node) -> Vec<(u64, Outcome)> {
    let letters = node.reader.inbox(&InboxQuery::default()).expect("the disk can be read");
    let outcome = |InboxLetter { n, content, .. }| match content {
        Content::Outcome(outcome) => (n, *outcome),
        Content::Letter(envelope) => panic!("{envelope:?}"),
    };
    letters.into_iter().map(outcome).collect()
}

fn first_report(node: &Node) -> Report {
    outcomes(node).remove(0).1.end.expect("its only unit").end.expect("somebody ran it")
}

fn told(node: &Node) -> Vec<(u64, u64, Option<End>)> {
    let end = |outcome: &Outcome| outcome.order.state.outcome.as_ref().map(|outcome| outcome.end);
    outcomes(node).iter().map(|(n, outcome)| (*n, outcome.order.number, end(outcome))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_offers_is_named_by_adverts_also_when_it_is_gone_and_nobody_is_waited_for_long() {
    let dir = tempfile::tempdir().expect("a directory");
    let ann = began(dir.path(), "ann", None).await;
    let bea = began(dir.path(), "bea", Some(&ann)).await;
    let carl = began(dir.path(), "carl", Some(&ann)).await;
    for node in [&ann, &bea, &carl] {
        sees(node, 2).await;
    }
    offer(&bea, "echo", Program::Echo).await;
    offer(&carl, "echo", Program::Echo).await;
    let named = async |node: &Node, service: &str| {
        let began = Instant::now();
        let Answer::Named(peers) = ask(node, Command::FindProviders(service.parse().expect("a name"))).await else { panic!("no names") };
        assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
        peers.into_iter().collect::<BTreeSet<_>>()
    };
    let both = BTreeSet::from([bea.id, carl.id]);
    wait_until("both are named", async || named(&ann, "echo").await == both).await;
    assert!(named(&ann, "tea").await.is_empty());
    carl.stop().await.expect("it stops");
    assert_eq!(named(&ann, "echo").await, both, "hearsay outlives who it is about");
    for node in [ann, bea] {
        node.stop().await.expect("it stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_order_has_one_outcome_in_the_inbox_however_many_units_it_has() {
    let dir = tempfile::tempdir().expect("a directory");
    let ann = began(dir.path(), "ann", None).await;
    let bea = began(dir.path(), "bea", Some(&ann)).await;
    for node in [&ann, &bea] {
        sees(node, 1).await;
    }
    offer(&bea, "echo", Program::Echo).await;
    assert_eq!(order(&ann, "echo", 0).await, 1);
    wait_until("the first outcome", async || told(&ann).len() == 1).await;
    let report = first_report(&ann);
    assert!(report.stdout.bytes.starts_with(b"hello"), "its output is with it");
    assert_eq!(order(&ann, "echo", 100).await, 2);
    wait_until("the second outcome", async || told(&ann).len() == 2).await;
    assert_eq!(told(&ann), [(1, 1, Some(End::Done)), (2, 2, Some(End::Done))]);
    assert!(inbox(&bea).is_empty(), "it is nobody else's");
    ann.stop().await.expect("it stops");
    let ann = began(dir.path(), "ann", Some(&bea)).await;
    sees(&ann, 1).await;
    // Whatever is told again.
    assert_eq!(order(&ann, "echo", 0).await, 3);
    wait_until("the third outcome", async || told(&ann).len() == 3).await;
    assert_eq!(told(&ann)[2], (3, 3, Some(End::Done)));
    for node in [ann, bea] {
        node.stop().await.expect("it stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_finds_the_outcome_though_the_worker_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let carl = began(dir.path(), "carl", None).await;
    let bea = began(dir.path(), "bea", Some(&carl)).await;
    let ann = began(dir.path(), "ann", Some(&carl)).await;
    for node in [&ann, &bea, &carl] {
        sees(node, 2).await;
    }
    let go = dir.path().join("go");
    let script = format!("until test -e {}; do sleep 0.02; done; echo late", go.display());
    offer(&bea, "wait", Program::Command(["/bin/sh", "-c", script.as_str()].map(str::to_owned).to_vec())).await;
    assert_eq!(order(&ann, "wait", 0).await, 1);
    let running = async || bea.status().await.is_some_and(|status| status.worker.offers[0].1 == 1);
    wait_until("it runs", running).await;
    ann.stop().await.expect("it stops");
    std::fs::write(&go, "").expect("a file");
    let holds = async || carl.status().await.is_some_and(|status| status.held_bundles > 0);
    wait_until("the word of it waits at a third", holds).await;
    bea.stop().await.expect("it stops");
    let ann = began(dir.path(), "ann", Some(&carl)).await;
    wait_until("the outcome", async || !told(&ann).is_empty()).await;
    let bea = began(dir.path(), "bea", Some(&carl)).await;
    for node in [&ann, &bea, &carl] {
        sees(node, 2).await;
    }
    wait_until("nothing waits any more", async || {
        carl.status().await.is_some_and(|status| status.held_bundles == 0) && bea.status().await.is_some_and(|s| s.outbox_letters == 0)
    })
    .await;
    assert_eq!(told(&ann), [(1, 1, Some(End::Done))], "once, and no letter beside it");
    let report = first_report(&ann);
    assert_eq!(&*report.stdout.bytes, b"late\n");
    for node in [ann, bea, carl] {
        node.stop().await.expect("it stops");
    }
}
