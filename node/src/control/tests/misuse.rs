use super::*;

/// Text that is JSON and cannot be meant, or is none; in each place where a body is read.
#[tokio::test]
async fn no_number_text_or_field_that_cannot_be_meant_gets_anywhere() {
    let node = Node::start().await;
    let deep = format!(r#"{{"to":["ada"],"payload":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    for (method, path, body) in [
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":1e400}"#),
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":[1e400]}"#),
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":-1}"#),
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":1.5}"#),
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":"\ud800"}"#),
        ("POST", "/v1/letters", r#"{"to":["\udc00a"],"payload":"x"}"#),
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":"x","\ud800":1}"#),
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":"x","key":"k","key":"k"}"#),
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":"x",}"#),
        ("POST", "/v1/letters", "{\"to\":[\"ada\"],\"payload\":\"a\tb\"}"),
        ("POST", "/v1/letters", "\u{feff}{\"to\":[\"ada\"],\"payload\":\"x\"}"),
        ("POST", "/v1/letters", r#"["ada","x"]"#),
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":"x"}{}"#),
        ("POST", "/v1/letters", &deep),
        ("POST", "/v1/orders", r#"{"service":"s","priority":4}"#),
        ("POST", "/v1/orders", r#"{"service":"s","priority":1e400}"#),
        ("POST", "/v1/orders", r#"{"service":"s","cores":-1}"#),
        ("POST", "/v1/orders", r#"{"service":"s","memory_bytes":18446744073709551616}"#),
        ("POST", "/v1/orders", r#"{"service":"s","args":["\ud800"]}"#),
        ("POST", "/v1/orders", r#"{"service":"s","service":"t"}"#),
        ("POST", "/v1/orders", r#"{"service":"s","argz":[]}"#),
        ("POST", "/v1/orders", r#"{"service":"s","items":[]}"#),
        ("POST", "/v1/orders", r#"{"service":"s","stdin":"?","stdin_encoding":"base64"}"#),
        ("POST", "/v1/offers", r#"{"name":"s","limit":-1}"#),
        ("POST", "/v1/offers", r#"{"name":"s","limit":4294967296}"#),
        ("POST", "/v1/offers", r#"{"name":"s","builtin":"fly"}"#),
        ("POST", "/v1/offers", r#"{"name":"s","name":"t"}"#),
        ("POST", "/v1/queries", r#"{"to":"swarm","what":"everything"}"#),
        ("POST", "/v1/drain", r#"{"draining":"yes"}"#),
        ("POST", "/v1/drain", "{}"),
        ("PUT", "/v1/blocks/ada", r#"{"blocked":1}"#),
        ("PUT", "/v1/presence", r#"{"available":true,"available":false}"#),
        ("PUT", "/v1/name", r#"{"name":"\ud800"}"#),
        ("POST", "/v1/dispatcher/transfer", r#"{"to":["ada"]}"#),
        ("POST", "/v1/inbox/read", r#"{"n":[1e400]}"#),
        ("POST", "/v1/inbox/read", r#"{"n":[18446744073709551616]}"#),
    ] {
        let problem = node.problem(method, path, body).await;
        let shown = &body[..body.len().min(80)];
        assert!(matches!(problem.code, Code::Malformed | Code::BadOrder | Code::BadOffer), "{method} {path} {shown}: {problem:?}");
        assert!(!problem.detail.contains("struct ") && !problem.detail.contains("enum "), "{problem:?}");
    }
    let world = node.world();
    assert!(world.sent.is_empty() && world.commands.is_empty(), "the node itself was asked nothing: {:?}", world.commands);
}

/// Time is the test's: it goes on as soon as everybody waits.
#[tokio::test(start_paused = true)]
async fn half_a_request_is_ended_in_time_and_nothing_is_done() {
    let node = Node::start().await;
    let head = "POST /v1/letters HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n";
    for (half, says) in [
        (format!("{head}\r\n{{\"to\":[\"ada\"],"), "HTTP/1.1 408"),
        // Nobody has asked anything yet, and so nobody is answered.
        (head.to_owned(), ""),
        ("GET /v1/sta".to_owned(), ""),
        (String::new(), ""),
    ] {
        let mut stream = UnixStream::connect(node.path()).await.expect("the door is open");
        stream.write_all(half.as_bytes()).await.expect("the door listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it is ended");
        assert!(answer.starts_with(says) && answer.is_empty() == says.is_empty(), "{half:?}: {answer:?}");
    }
    assert!(node.world().commands.is_empty());
    // Who goes away in the middle is no trouble either.
    let mut stream = UnixStream::connect(node.path()).await.expect("the door is open");
    stream.write_all(format!("{head}\r\n{{").as_bytes()).await.expect("the door listens");
    drop(stream);
    let _: api::Status = node.client.get("/v1/status").await.expect("it still answers");
    assert!(node.world().commands.is_empty());
}
