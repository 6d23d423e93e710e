use super::*;

#[tokio::test]
async fn the_record_is_told_with_what_it_is_about() {
    let node = Node::start().await;
    node.happen(1, What::PeerCame { peer: peer_id(2), name: "nikki-pi".parse().expect("a name") });
    node.happen(2, What::OrdersPlaced { first: 3, last: 5 });
    node.happen(3, What::Stopped);
    let told: Vec<api::LogEntry> = soon(node.client.get("/v1/log?local=true")).await.expect("it is told");
    let short: Vec<_> = told.iter().map(|entry| (entry.peer.as_str(), entry.seq, entry.what.as_str(), entry.subject.as_deref())).collect();
    assert_eq!(
        short,
        [("markus", 1, "peer_came", Some("nikki-pi")), ("markus", 2, "orders_placed", Some("markus/3-5")), ("markus", 3, "stopped", None)]
    );
    assert_eq!(told[1].detail, serde_json::json!({"first": 3, "last": 5}));
    let told: Vec<api::LogEntry> = soon(node.client.get("/v1/log?local=true&what=orders,peer_c&limit=1")).await.expect("it is told");
    assert_eq!(told.len(), 1);
}

#[tokio::test]
async fn a_question_that_cannot_be_meant_is_refused_with_what_may_be() {
    let node = Node::start().await;
    for (query, hint) in [
        ("what=leters", "beginning of a kind"),
        ("after=x", ""),
        ("after=now", ""),
        ("since=yesterday", ""),
        ("order=3&letter=4kq7", ""),
        ("letter=x", "26 characters"),
        ("order=x", "node tasks"),
        ("limit=0", ""),
        ("nonsense=1", ""),
        ("by=chance", ""),
        ("by=arrival&newest=true", ""),
    ] {
        let problem = node.problem("GET", &format!("/v1/log?local=true&{query}"), "").await;
        assert_eq!(problem.code, Code::Malformed, "{query}");
        assert!(problem.hint.unwrap_or_default().contains(hint), "{query}");
    }
    let problem = node.problem("GET", "/v1/log?local=true&what=leter", "").await;
    assert!(problem.candidates.iter().any(|word| word.starts_with("letter")), "{:?}", problem.candidates);
    assert_eq!(node.problem("GET", "/v1/log?local=true&peer=nobody", "").await.code, Code::UnknownPeer);
}

#[tokio::test]
async fn whoever_does_not_keep_the_record_asks_who_does() {
    let node = Node::start().await;
    let problem = node.problem("GET", "/v1/log", "").await;
    assert_eq!(problem.code, Code::NoAnswer);
    assert!(problem.hint.is_some_and(|hint| hint.contains("--local")));
    node.world().leader = Some(peer_id(1));
    node.happen(1, What::Stopped);
    let told: Vec<api::LogEntry> = soon(node.client.get("/v1/log")).await.expect("it keeps it itself");
    assert_eq!(told.len(), 1);
}

#[tokio::test]
async fn the_newest_come_first_and_what_is_cut_is_said() {
    let node = Node::start().await;
    for seq in 1..=5 {
        node.happen(seq, What::OrdersPlaced { first: seq, last: seq });
    }
    let path = "/v1/log?local=true&newest=true&limit=2";
    let page = soon(node.client.page::<Vec<api::LogEntry>>(path)).await.expect("it is told");
    assert_eq!((page.body.iter().map(|entry| entry.seq).collect::<Vec<_>>(), page.whole_since), (vec![5, 4], None));
    node.world().whole_since = Some(Timestamp(3));
    let page = soon(node.client.page::<Vec<api::LogEntry>>(path)).await.expect("it is told");
    assert_eq!(page.whole_since.as_deref(), Some("1970-01-01T00:00:00.003Z"));
}

#[tokio::test]
async fn what_was_never_ordered_or_written_has_no_history() {
    let node = Node::start().await;
    let check = async |query: &str, code: Code| {
        let problem = node.problem("GET", &format!("/v1/log?local=true&{query}"), "").await;
        assert_eq!(problem.code, code, "{query}: {problem:?}");
    };
    check("order=3", Code::UnknownOrder).await;
    check("order=markus/3.1&what=unit", Code::UnknownOrder).await;
    check("letter=0000", Code::UnknownLetter).await;
    check("letter=0000&what=letters_read", Code::UnknownLetter).await;
    let empty = async |query: &str| {
        let told: Vec<api::LogEntry> = soon(node.client.get(&format!("/v1/log?local=true&{query}"))).await.expect("it is told");
        assert_eq!(told, [], "{query}");
    };
    // What others have ordered, only they know; and who follows is told of it when it comes.
    empty("order=nikki-pi/3").await;
    empty("order=3&by=arrival&after=now").await;
    node.happen(1, What::OrdersPlaced { first: 3, last: 3 });
    let told: Vec<api::LogEntry> = soon(node.client.get("/v1/log?local=true&order=3")).await.expect("this node has forgotten it");
    assert_eq!(told.len(), 1);
    // It is known, though nothing of that kind is written down of it.
    node.receive(7, 2, "Hello");
    empty(&format!("letter={}", letter_id(7 << 40))).await;
    node.happen(2, What::LetterAccepted { letter: letter_id(9), to: Vec::new(), epoch: Epoch(1) });
    empty(&format!("letter={}&what=letters_read", letter_id(9))).await;
}
