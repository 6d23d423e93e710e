//! Real nodes in one process, over loopback: libp2p, redb and threads as they are. Each is on a machine of its own.

#![allow(dead_code, reason = "each file of tests uses some of these")]

use std::path::Path;
use std::time::{Duration, Instant};

use node::driver::Fact;
use node::node::{Node, Settings, start};
use node::store::{Content, InboxLetter, InboxQuery, State};
use protocol::envelope::{Envelope, Payload};
use protocol::input::NewLetter;
use protocol::{Answer, Command, LetterId};
use tokio::sync::oneshot;

/// Longer than anything here should take, even on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) fn settings(directory: &Path, name: &str) -> Settings {
    Settings {
        directory: directory.join(name),
        name: name.parse().expect("a name"),
        swarm: Some("test".to_owned()),
        swarm_key: None,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")],
        peers: Vec::new(),
        mdns: false,
        machine: None,
        record: node::store::RecordLimits::default(),
        start_over: false,
    }
}

pub(crate) async fn began(directory: &Path, name: &str, near: Option<&Node>) -> Node {
    began_on(directory, name, name, near).await
}

/// One whose machine is called so.
pub(crate) async fn began_on(directory: &Path, name: &str, machine: &str, near: Option<&Node>) -> Node {
    let mut settings = Settings { machine: Some(machine.to_owned()), ..settings(directory, name) };
    if let Some(near) = near {
        // After a restart a node tells where it was before, until it listens again.
        let answers = |address: &String| {
            let port = address.rsplit('/').next().and_then(|port| port.parse().ok()).expect("our own multiaddr");
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        };
        wait_until("the other listens", async || {
            near.status().await.is_some_and(|status| !status.addresses.is_empty() && status.addresses.iter().all(answers))
        })
        .await;
        let status = near.status().await.expect("it runs");
        settings.peers = status.addresses.iter().map(|address| address.parse().expect("our own multiaddr")).collect();
    }
    start(settings).await.expect("it starts")
}

pub(crate) async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !condition().await {
        assert!(begin.elapsed() < BOUND, "waited {BOUND:?} for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn ask(node: &Node, command: Command) -> Answer {
    let (reply, answer) = oneshot::channel();
    node.facts().send(Fact::Asked { command, reply }).await.expect("it runs");
    answer.await.expect("it answers")
}

pub(crate) fn letter(to: &[&str], text: &str) -> Command {
    Command::Send(NewLetter {
        to: to.iter().map(|name| name.parse().expect("a name")).collect(),
        kind: "message".to_owned(),
        payload: Payload::Text(text.to_owned()),
        in_reply_to: None,
        key: None,
        later: false,
    })
}

pub(crate) async fn send(node: &Node, to: &[&str], text: &str) -> LetterId {
    match ask(node, letter(to, text)).await {
        Answer::Accepted { letter, repeated: false, .. } => letter,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn inbox(node: &Node) -> Vec<String> {
    let query = InboxQuery { limit: 1_000_000, ..InboxQuery::default() };
    let letters = node.reader.inbox(&query).expect("the disk can be read");
    let text = |letter: InboxLetter| match letter.content {
        Content::Letter(Envelope { payload: Payload::Text(text), .. }) => text,
        other => panic!("{other:?}"),
    };
    letters.into_iter().map(text).collect()
}

pub(crate) async fn sees(node: &Node, others: usize) {
    wait_until("all see all", async || {
        node.status().await.is_some_and(|status| status.peers.iter().filter(|peer| peer.available).count() == others)
    })
    .await;
}

pub(crate) fn delivered(node: &Node, letter: LetterId) -> bool {
    let views = node.reader.sent_by_id(&letter.to_string()).expect("the disk can be read");
    views[0].deliveries.iter().all(|delivery| delivery.state >= State::Delivered)
}

/// Other nodes that have acknowledged a flushed copy of it.
pub(crate) fn holders(node: &Node, letter: LetterId) -> usize {
    let views = node.reader.sent_by_id(&letter.to_string()).expect("the disk can be read");
    views[0].deliveries.iter().map(|delivery| delivery.holders.len()).min().unwrap_or(0)
}

pub(crate) async fn status(node: &Node) -> protocol::Status {
    node.status().await.expect("it runs")
}
