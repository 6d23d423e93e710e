//! Letters for those who are away, held by others: the author may leave too.

mod nodes;

use std::path::Path;

use node::node::Node;
use node::store::State;
use nodes::{ask, began, began_on, delivered, holders, inbox, sees, send, status, wait_until};
use protocol::{Answer, Command, LetterId};

/// Until as many nodes as can hold each of them.
async fn held(author: &Node, letters: &[LetterId], by: usize) {
    wait_until("custodians", async || letters.iter().all(|letter| holders(author, *letter) >= by)).await;
}

async fn gone(node: &Node, name: &str) {
    wait_until("it is away", async || status(node).await.peers.iter().any(|peer| peer.name.as_str() == name && !peer.reachable)).await;
}

async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.stop().await.expect("it stops");
    }
}

/// Whether any file of that node holds this text as it is.
fn can_read(directory: &Path, name: &str, text: &str) -> bool {
    std::fs::read_dir(directory.join(name)).expect("its directory").any(|file| {
        let bytes = std::fs::read(file.expect("a file").path()).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_reach_one_who_comes_back_after_their_author_has_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let markus = began(dir.path(), "markus", None).await;
    let ada = began(dir.path(), "ada", Some(&markus)).await;
    let bea = began(dir.path(), "bea", Some(&markus)).await;
    let nikki = began(dir.path(), "nikki", Some(&markus)).await;
    for node in [&markus, &ada, &bea, &nikki] {
        sees(node, 3).await;
    }
    nikki.stop().await.expect("it stops");
    gone(&markus, "nikki").await;

    let texts = ["the first of three", "the second of three", "the third of three"];
    let mut letters = Vec::new();
    for text in texts {
        letters.push(send(&markus, &["nikki"], text).await);
    }
    held(&markus, &letters, 2).await;
    assert_eq!((status(&ada).await.held_bundles, status(&bea).await.held_bundles), (3, 3));
    markus.stop().await.expect("it stops");
    gone(&ada, "markus").await;

    let nikki = began(dir.path(), "nikki", Some(&ada)).await;
    wait_until("the letters", async || inbox(&nikki).len() == 3).await;
    assert_eq!(inbox(&nikki), texts);
    wait_until("custodians let go", async || status(&ada).await.held_bundles + status(&bea).await.held_bundles == 0).await;
    // Its receipt has found keepers too.
    wait_until("the receipt is kept", async || kept_receipts(&ada) + kept_receipts(&bea) > 0).await;
    nikki.stop().await.expect("it stops");
    gone(&ada, "nikki").await;

    let markus = began(dir.path(), "markus", Some(&ada)).await;
    wait_until("receipts by way of others", async || letters.iter().all(|letter| delivered(&markus, *letter))).await;
    assert_eq!(status(&markus).await.outbox_letters, 0);
    stop([markus, ada, bea]).await;
}

/// As the API takes it: the letter is read from the disk.
async fn discard(node: &Node, letter: LetterId) -> Answer {
    let view = node.reader.sent_by_id(&letter.to_string()).expect("the disk can be read").remove(0);
    ask(node, Command::Discard(Box::new(view.letter))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_discarded_letter_is_given_back_and_its_place_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let markus = began(dir.path(), "markus", None).await;
    let ada = began(dir.path(), "ada", Some(&markus)).await;
    let nikki = began(dir.path(), "nikki", Some(&markus)).await;
    for node in [&markus, &ada, &nikki] {
        sees(node, 2).await;
    }
    nikki.stop().await.expect("it stops");
    gone(&markus, "nikki").await;
    let mut letters = Vec::new();
    for text in ["never mind", "come"] {
        letters.push(send(&markus, &["nikki"], text).await);
    }
    held(&markus, &letters, 1).await;
    assert_eq!(discard(&markus, letters[0]).await, Answer::Discarded { delivered: 0 });
    // Its void is held in its stead.
    wait_until("it is given back", async || holders(&markus, letters[0]) == 0 && status(&ada).await.held_bundles == 2).await;
    markus.stop().await.expect("it stops");
    gone(&ada, "markus").await;
    let nikki = began(dir.path(), "nikki", Some(&ada)).await;
    wait_until("the other", async || inbox(&nikki) == ["come"]).await;
    let markus = began(dir.path(), "markus", Some(&ada)).await;
    let state = || markus.reader.sent_by_id(&letters[0].to_string()).expect("the disk can be read")[0].deliveries[0].state;
    wait_until("it is sure", async || state() == State::Discarded && delivered(&markus, letters[1])).await;
    assert_eq!(discard(&markus, letters[1]).await, Answer::Refused(protocol::Refusal::Delivered { letter: letters[1] }));
    assert_eq!(inbox(&nikki), ["come"]);
    stop([markus, ada, nikki]).await;
}

fn kept_receipts(node: &Node) -> usize {
    node.reader.receipts().expect("the disk can be read")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custodian_holds_letters_over_its_restart_and_cannot_read_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let markus = began(dir.path(), "markus", None).await;
    let ada = began(dir.path(), "ada", Some(&markus)).await;
    let nikki = began(dir.path(), "nikki", Some(&markus)).await;
    for node in [&markus, &ada, &nikki] {
        sees(node, 2).await;
    }
    nikki.stop().await.expect("it stops");
    gone(&markus, "nikki").await;
    let text = "nobody but nikki may read these words ".repeat(10);
    let letter = send(&markus, &["nikki"], &text).await;
    held(&markus, &[letter], 1).await;
    stop([markus, ada]).await;
    let secret = "nobody but nikki may read";
    assert!(can_read(dir.path(), "markus", secret), "or this proves nothing of the others");
    assert!(!can_read(dir.path(), "ada", secret));

    let ada = began(dir.path(), "ada", None).await;
    assert_eq!(status(&ada).await.held_bundles, 1);
    let nikki = began(dir.path(), "nikki", Some(&ada)).await;
    wait_until("the letter", async || inbox(&nikki) == [text.clone()]).await;
    wait_until("ada lets go", async || status(&ada).await.held_bundles == 0).await;
    stop([ada, nikki]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_for_one_who_takes_none_now_wait_with_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let markus = began(dir.path(), "markus", None).await;
    let ada = began(dir.path(), "ada", Some(&markus)).await;
    let nikki = began(dir.path(), "nikki", Some(&markus)).await;
    for node in [&markus, &ada, &nikki] {
        sees(node, 2).await;
    }
    nodes::ask(&nikki, Command::SetAvailable(false)).await;
    wait_until("markus knows", async || status(&markus).await.peers.iter().any(|peer| !peer.welcomes)).await;
    let letter = send(&markus, &["nikki"], "when you like").await;
    held(&markus, &[letter], 1).await;
    assert_eq!(inbox(&nikki), [""; 0]);
    markus.stop().await.expect("it stops");
    nodes::ask(&nikki, Command::SetAvailable(true)).await;
    wait_until("the letter", async || inbox(&nikki) == ["when you like"]).await;
    stop([ada, nikki]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_one_machine_are_asked_last_and_not_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let markus = began(dir.path(), "markus", None).await;
    let twin = began_on(dir.path(), "twin", "markus", Some(&markus)).await;
    let nikki = began(dir.path(), "nikki", Some(&markus)).await;
    sees(&markus, 2).await;
    assert_eq!(twin.machine, markus.machine);
    assert_ne!(nikki.machine, markus.machine);
    nikki.stop().await.expect("it stops");
    gone(&markus, "nikki").await;
    let letter = send(&markus, &["nikki"], "hello").await;
    held(&markus, &[letter], 1).await;
    let view = markus.reader.sent_by_id(&letter.to_string()).expect("the disk can be read");
    assert!(view[0].deliveries[0].holders.iter().all(|holder| holder.machine == markus.machine));
    stop([markus, twin]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_letters_wait_with_others_and_arrive_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let markus = began(dir.path(), "markus", None).await;
    let ada = began(dir.path(), "ada", Some(&markus)).await;
    let nikki = began(dir.path(), "nikki", Some(&markus)).await;
    for node in [&markus, &ada, &nikki] {
        sees(node, 2).await;
    }
    nikki.stop().await.expect("it stops");
    gone(&markus, "nikki").await;
    let count: usize = std::env::var("SWARM_LETTERS").ok().and_then(|n| n.parse().ok()).unwrap_or(5_000);
    let begin = std::time::Instant::now();
    let mut answers = Vec::new();
    for n in 0..count {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let command = nodes::letter(&["nikki"], &format!("letter {n} {}", "x".repeat(240)));
        markus.facts().send(node::driver::Fact::Asked { command, reply }).await.expect("it runs");
        answers.push(answer);
    }
    let mut last = None;
    for answer in answers {
        let Ok(protocol::Answer::Accepted { letter, .. }) = answer.await else { panic!("not accepted") };
        last = Some(letter);
    }
    let accepted = begin.elapsed();
    held(&markus, &last.into_iter().collect::<Vec<_>>(), 1).await;
    wait_until("all are held", async || {
        let views = markus.reader.sent(0, count, false).expect("the disk can be read");
        views.iter().all(|view| view.deliveries[0].holders.len() == 1)
    })
    .await;
    let held = begin.elapsed();
    markus.stop().await.expect("it stops");
    let begin = std::time::Instant::now();
    let nikki = began(dir.path(), "nikki", Some(&ada)).await;
    wait_until("all letters", async || status(&nikki).await.next_n == count as u64 + 1).await;
    println!("{count} letters: accepted in {accepted:?}, held in {held:?}, taken after the start in {:?}", begin.elapsed());
    assert!(inbox(&nikki).iter().enumerate().all(|(n, text)| text.starts_with(&format!("letter {n} "))));
    wait_until("ada lets go", async || status(&ada).await.held_bundles == 0).await;
    stop([ada, nikki]).await;
}

/// Knows the protocols of the network and nothing of letters: nobody it is connected with can tell others of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_to_an_id_is_accepted_though_nobody_has_met_its_bearer() {
    use node::net::{Command as NetCommand, Config, Event, Limits, Net};

    let dir = tempfile::tempdir().expect("a directory");
    let bea = began(dir.path(), "bea", None).await;
    let ann = began(dir.path(), "ann", Some(&bea)).await;
    sees(&ann, 1).await;
    let secrets = protocol::bundle::Secrets::from_seeds(&[7; 32], &[8; 32]);
    let carl = protocol::contact::Contact {
        id: secrets.id(),
        name: "carl".parse().expect("a name"),
        machine: protocol::id::MachineId::new([7; 16]),
        suite: protocol::bundle::SUITE,
        encryption_key: secrets.encryption_key().into(),
        key: secrets.key_id(),
        addresses: Vec::new(),
        sequence: 3,
    };
    let id = carl.id.to_string();
    let began = std::time::Instant::now();
    let answer = ask(&ann, nodes::letter(&[&id], "Who are you?")).await;
    assert!(matches!(answer, Answer::Refused(protocol::Refusal::Unknown { .. })), "{answer:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());

    let (events, mut heard) = tokio::sync::mpsc::channel(64);
    let config = Config {
        keypair: secrets.signing.clone(),
        swarm_name: "test".to_owned(),
        swarm_key: None,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")],
        mdns: false,
        remembered: Vec::new(),
        limits: Limits::default(),
    };
    let net = Net::start(config, events).expect("it starts");
    let (key, card) = protocol::edge::Edge::new(secrets, "test".to_owned()).card(&carl);
    net.try_send(NetCommand::PutCard { key, card: card.into() }).expect("room");
    let addresses = status(&bea).await.addresses.iter().map(|address| address.parse().expect("our own multiaddr")).collect();
    net.try_send(NetCommand::Dial { peer: None, addresses, urgent: true }).expect("room");
    while !matches!(heard.recv().await, Some(Event::PeerSeen { .. })) {}

    wait_until("its card is found", async || matches!(ask(&ann, nodes::letter(&[&id], "Hello")).await, Answer::Accepted { .. })).await;
    let known = status(&ann).await.peers.into_iter().find(|peer| peer.id == carl.id).expect("its card was found");
    assert_eq!((known.name.as_str(), known.reachable), ("carl", false));
    // Bea holds it for whoever has that key.
    wait_until("a custodian", async || status(&bea).await.held_bundles == 1).await;
    stop([ann, bea]).await;
}
