use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// What DESIGN 10.2 lists, and what was added since.
const ROUTES: &[(&str, &str)] = &[
    ("/v1/backup", "post"),
    ("/v1/blocks", "get"),
    ("/v1/blocks/{peer}", "put"),
    ("/v1/connect", "post"),
    ("/v1/dispatcher", "get"),
    ("/v1/dispatcher/transfer", "post"),
    ("/v1/drain", "post"),
    ("/v1/events", "get"),
    ("/v1/inbox", "get"),
    ("/v1/inbox/read", "post"),
    ("/v1/letters", "post"),
    ("/v1/letters/batch", "post"),
    ("/v1/letters/{id}", "delete"),
    ("/v1/log", "get"),
    ("/v1/log/verification", "get"),
    ("/v1/name", "put"),
    ("/v1/offers", "get"),
    ("/v1/offers", "post"),
    ("/v1/offers", "put"),
    ("/v1/offers/{name}", "delete"),
    ("/v1/openapi.json", "get"),
    ("/v1/orders", "post"),
    ("/v1/orders/batch", "post"),
    ("/v1/peers", "get"),
    ("/v1/presence", "put"),
    ("/v1/queries", "post"),
    ("/v1/sent", "get"),
    ("/v1/sent/{id}", "get"),
    ("/v1/services", "get"),
    ("/v1/status", "get"),
    ("/v1/stop", "post"),
    ("/v1/tasks", "get"),
    ("/v1/tasks/{id}", "get"),
    ("/v1/tasks/{id}/cancel", "post"),
    ("/v1/tasks/{id}/stderr", "get"),
    ("/v1/tasks/{id}/stdout", "get"),
    ("/v1/tasks/{id}/units", "get"),
    ("/v1/who/{service}", "get"),
    ("/v1/workers", "get"),
];

async fn document(node: &Node) -> Value {
    soon(node.client.get("/v1/openapi.json")).await.expect("it is served")
}

/// The words of a schema that is a closed list, or whose variants each have one in this field.
fn words(schema: &Value, field: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let texts = |of: &Value| of.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    all.extend(texts(&schema["enum"]));
    all.extend(texts(&schema["properties"][field]["enum"]));
    for part in ["oneOf", "allOf"] {
        schema[part].as_array().into_iter().flatten().for_each(|inner| all.extend(words(inner, field)));
    }
    all
}

#[tokio::test]
async fn every_route_is_described_and_every_description_is_of_a_route() {
    let node = Node::start().await;
    let document = document(&node).await;
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, methods)| methods.as_object().expect("methods").keys().map(|method| (path.clone(), method.clone())))
        .collect();
    let expected: BTreeSet<(String, String)> = ROUTES.iter().map(|(path, method)| ((*path).to_owned(), (*method).to_owned())).collect();
    assert_eq!(described, expected);
    for (path, method) in described {
        let operation = &document["paths"][&path][&method];
        assert!(operation["summary"].is_string() || operation["description"].is_string(), "{method} {path} says what it is for");
        assert_eq!(operation["responses"]["4XX"]["content"]["application/problem+json"]["schema"]["$ref"], "#/components/schemas/Problem");
        // A parameter that nobody knows is refused by each route, and only by a route: nothing is done by this.
        let place = path.replace("{id}", "zzzz").replace("{peer}", "ada").replace("{service}", "s").replace("{name}", "s");
        let problem = node.problem(&method.to_uppercase(), &format!("{place}?no-such-parameter=1"), "{}").await;
        assert!(!matches!(problem.code, Code::NoSuchRoute | Code::MethodNotAllowed), "{method} {path}: {problem:?}");
    }
}

#[tokio::test]
async fn words_of_a_closed_set_are_all_named() {
    let node = Node::start().await;
    let document = document(&node).await;
    let schema = |name: &str| &document["components"]["schemas"][name];
    assert_eq!(words(schema("Code"), ""), Code::ALL.iter().map(|code| code.word().to_owned()).collect());
    let states = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(words(schema("State"), ""), states(&["accepted", "delivered", "discarded", "held", "parked", "read"]));
    assert_eq!(
        words(schema("TaskState"), ""),
        states(&[
            "accepted",
            "assigned",
            "cancelled",
            "cancelling",
            "done",
            "expired",
            "failed",
            "queued",
            "running",
            "unknown",
            "unreachable"
        ])
    );
    assert!(words(schema("Why"), "").contains("never_met") && words(schema("Lack"), "").contains("draining"));
    let events = words(schema("What"), "what");
    let told: BTreeSet<String> = protocol::segment::What::WORDS.iter().copied().chain(["gap"]).map(str::to_owned).collect();
    assert_eq!(events, told);
    for end in ["Broken", "UnitEnd", "WhyNotHeld", "LogFlawKind", "About", "Encoding"] {
        assert!(!words(schema(end), "").is_empty(), "{end}");
    }
}

#[tokio::test]
async fn answers_have_all_their_fields_and_requests_no_others() {
    let node = Node::start().await;
    let document = document(&node).await;
    let schema = |name: &str| &document["components"]["schemas"][name];
    let status: Value = soon(node.client.get("/v1/status")).await.expect("it is there");
    let fields: BTreeSet<&str> = status.as_object().expect("an object").keys().map(String::as_str).collect();
    let described: BTreeSet<&str> = schema("Status")["required"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(fields, described);
    for request in
        ["NewLetter", "NewOrder", "NewOffer", "NewQuery", "MarkRead", "Connect", "Presence", "Block", "Rename", "Drain", "Transfer"]
    {
        assert_eq!(schema(request)["additionalProperties"], false, "{request}");
    }
    assert_eq!(schema("NewLetter")["required"], serde_json::json!(["to", "payload"]));
    // No description points at what is not there.
    let text = document.to_string();
    for (_, rest) in text.match_indices("\"#/components/schemas/").map(|(at, found)| text.split_at(at + found.len())) {
        let name = rest.split('"').next().unwrap_or_default();
        assert!(schema(name).is_object(), "{name} is not described");
    }
}
