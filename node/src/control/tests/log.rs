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
