//! Services, orders and tasks through the doors.

use protocol::effect::Outcome;
use protocol::order::{Attempt, End, Ended, Excerpt, OrderKey, Try};
use protocol::peer::RunningView;
use protocol::work::{Placed, PlacedState};

use super::*;
use crate::control::desk;

fn key(number: u64) -> OrderKey {
    OrderKey { orderer: peer_id(1), epoch: Epoch(7), number }
}

fn attempt(number: u32) -> Attempt {
    Attempt { term: 3, leader: peer_id(2), number }
}

fn standing(order: OrderKey) -> Standing {
    Standing {
        order,
        service: "coffee".parse().expect("a name"),
        args: "latte".to_owned(),
        priority: 3,
        held_by: 2,
        position: None,
        units: 1,
        ended: 0,
        waiting: 1,
        tries: Vec::new(),
        cancelling: false,
        lacks: BTreeMap::new(),
        eta_ms: Some(8_000),
        basis: 4,
        age_ms: 1_000,
    }
}

fn placed(unit: u32, number: u32, state: PlacedState) -> Placed {
    Placed { unit, attempt: attempt(number), worker: peer_id(2), state, since_ms: 2_000 }
}

fn report(unit: u32, ended: Ended, stdout: &[u8], stderr: &str) -> Report {
    let excerpt = |bytes: &[u8]| Excerpt { bytes: bytes.to_vec().into(), total: bytes.len() as u64, kept: bytes.len() as u64 };
    Report {
        of: Try { order: key(1), unit, attempt: attempt(1) },
        worker: peer_id(2),
        ended,
        stdout: excerpt(stdout),
        stderr: excerpt(stderr.as_bytes()),
        started_at: Timestamp(2_000),
        ended_at: Timestamp(3_000),
        ran_ms: 1_000,
    }
}

impl Node {
    async fn order(&self, body: serde_json::Value) -> api::Order {
        soon(self.client.post("/v1/orders", &body)).await.expect("accepted")
    }

    async fn task(&self, id: &str) -> api::Task {
        soon(self.client.get(&format!("/v1/tasks/{}", crate::control::client::quoted(id)))).await.expect("it is known")
    }

    async fn tasks(&self, query: &str) -> Vec<String> {
        let tasks: Vec<api::Task> = soon(self.client.all(&format!("/v1/tasks?{query}"))).await.expect("a list");
        tasks.into_iter().map(|task| task.id).collect()
    }

    fn ends(&self, unit: u32, report: Report, outcome: Option<(End, Option<&str>)>) {
        let mut world = self.world();
        let good = report.ended.is_good();
        world.ends.insert((1, unit), Ok(report));
        let state = &mut world.orders[0].0.state;
        if good { &mut state.done } else { &mut state.failed }.insert(u64::from(unit));
        state.outcome = outcome.map(|(end, why)| Outcome { end, why: why.map(str::to_owned), at: Timestamp(4_000) });
        if outcome.is_some() {
            world.views.remove(&1);
        }
    }

    /// The dispatcher says this of order 1.
    fn says(&self, standing: Standing) {
        let mut world = self.world();
        world.leader = Some(peer_id(2));
        world.standings.retain(|known| known.order != standing.order);
        world.standings.push(standing);
        world.standings.sort_by_key(|standing| standing.order);
    }

    fn runs(&self, unit: u32, number: u32, progress: Option<(u64, u64, &str)>) {
        let mut world = self.world();
        let view = world.views.get_mut(&1).expect("it is open");
        let progress = progress.map(|(done, of, note)| (done, of, note.to_owned()));
        let of = Try { order: key(1), unit, attempt: attempt(number) };
        view.running.push(RunningView { of, worker: peer_id(2), for_: Duration::from_secs(6), progress });
    }

    async fn output(&self, path: &str) -> Result<Vec<u8>, Error> {
        let mut pieces = soon(self.client.bytes(path)).await?;
        let mut all = Vec::new();
        while let Some(piece) = soon(pieces.next()).await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

fn latte() -> serde_json::Value {
    serde_json::json!({"service": "coffee", "args": ["latte", "--no-milk"]})
}

#[tokio::test]
async fn an_order_has_its_number_at_once_and_says_why_it_waits() {
    let node = Node::start().await;
    let order = node.order(latte()).await;
    assert_eq!((order.order, order.state, order.done, order.held_by), (1, api::TaskState::Accepted, false, 0));
    assert_eq!(order.orderer_id, peer_id(1).to_string());
    let task = node.task("1").await;
    assert_eq!((task.service.as_str(), task.args.join(" ").as_str(), task.priority), ("coffee", "latte --no-milk", 3));
    assert_eq!((task.state, task.units.waiting, task.placed_at.as_str()), (api::TaskState::Accepted, 1, "1970-01-01T00:00:01.000Z"));
    assert!(task.why.is_some_and(|why| why.contains("nobody is dispatcher now")));
    node.world().leader = Some(peer_id(2));
    assert_eq!(node.task("1").await.why.as_deref(), Some("it is on its way to the dispatcher, nikki-pi"));
    node.world().silent.insert(peer_id(2));
    assert_eq!(node.task("1").await.why.as_deref(), Some("the dispatcher, nikki-pi, does not answer now"));
}

#[tokio::test]
async fn what_workers_lack_is_said_in_a_sentence() {
    let node = Node::start().await;
    node.order(serde_json::json!({"service": "coffee", "cores": 16, "memory_bytes": 8_u64 << 30})).await;
    let why = async |lacks: &[(u8, Lack)]| {
        let lacks = lacks.iter().map(|(peer, lack)| (peer_id(*peer), lack.clone())).collect();
        node.says(Standing { lacks, ..standing(key(1)) });
        let task = node.task("1").await;
        assert_eq!(task.state, api::TaskState::Queued);
        task.why.unwrap_or_default()
    };
    assert_eq!(why(&[]).await, "it is about to be given to a worker");
    assert_eq!(why(&[(3, Lack::NotOffered)]).await, "nobody here offers coffee; it starts when somebody does");
    assert_eq!(why(&[(2, Lack::Cores(4)), (3, Lack::Cores(2))]).await, "needs 16 cores, largest worker (nikki-pi) has 4");
    assert_eq!(why(&[(2, Lack::Memory(4 << 30))]).await, "needs 8 GiB of memory, largest worker (nikki-pi) has 4 GiB");
    assert_eq!(why(&[(2, Lack::Full)]).await, "nikki-pi is busy");
    assert_eq!(why(&[(2, Lack::Full), (3, Lack::Cores(2))]).await, "nikki-pi is busy; needs 16 cores, largest worker (ada) has 2");
    assert_eq!(why(&[(2, Lack::NotAllowed)]).await, "nikki-pi does not allow it to be ordered from here");
    assert_eq!(why(&[(2, Lack::Software("gpu".to_owned()))]).await, "needs the software gpu, which no worker has declared");
    assert_eq!(why(&[(2, Lack::Draining)]).await, "nikki-pi finishes what it has and takes nothing new");
    let many: Vec<_> = (2..=6).map(|peer| (peer, Lack::Busy)).collect();
    assert_eq!(why(&many).await, "5 workers are busy");
    let task = node.task("1").await;
    assert_eq!(
        (task.lacks.len(), task.lacks[0].lack, task.held_by, task.eta_seconds, task.eta_basis),
        (5, api::Lack::Busy, 2, Some(8.0), 4)
    );
    // Of what no worker would take, no time can be told.
    assert_eq!(why(&[(2, Lack::NotAllowed), (3, Lack::Draining)]).await.matches("; ").count(), 1);
    assert_eq!(node.task("1").await.eta_seconds, None);
    node.says(Standing { position: Some(4), ..standing(key(1)) });
    assert_eq!(node.task("1").await.why.as_deref(), Some("3 others are before it in the queue"));
}

#[tokio::test]
async fn a_task_is_what_disk_node_and_dispatcher_know_together() {
    let node = Node::start().await;
    node.order(latte()).await;
    let check = async |expected, attempt| {
        let task = node.task("1").await;
        assert_eq!((task.state, task.attempt), (expected, attempt), "{task:?}");
        task
    };
    node.says(Standing { waiting: 0, tries: vec![placed(1, 1, PlacedState::Assigned)], ..standing(key(1)) });
    let task = check(api::TaskState::Assigned, Some(1)).await;
    assert_eq!((task.units.running, task.units.waiting, task.started_at), (0, 1, None));
    // The worker told its orderer before the dispatcher said so.
    node.runs(1, 1, Some((3, 5, "grinding")));
    let task = check(api::TaskState::Running, Some(1)).await;
    assert_eq!(task.progress, Some(api::Progress { done: 3, of: 5, note: "grinding".to_owned() }));
    assert_eq!((task.worker.as_deref(), task.eta_seconds, task.units.running), (Some("nikki-pi"), Some(4.0), 1));
    node.says(Standing { waiting: 0, tries: vec![placed(1, 1, PlacedState::Unreachable)], ..standing(key(1)) });
    let task = check(api::TaskState::Unreachable, Some(1)).await;
    assert!(task.why.is_some_and(|why| why.starts_with("nothing is heard of nikki-pi")));
    // A second attempt elsewhere is later news than the first that still seems to run.
    node.says(Standing { waiting: 0, tries: vec![placed(1, 2, PlacedState::Assigned)], ..standing(key(1)) });
    check(api::TaskState::Assigned, Some(2)).await;
    node.runs(1, 3, None);
    check(api::TaskState::Running, Some(3)).await;
    let _: api::Task = soon(node.client.tell("/v1/tasks/1/cancel")).await.expect("it is mine");
    assert_eq!(check(api::TaskState::Cancelling, Some(3)).await.why.as_deref(), Some("it is being stopped at nikki-pi"));
    // The disk beats every word: it had ended by itself.
    node.ends(1, report(1, Ended::Exited(0), b"one latte\n", ""), Some((End::Done, None)));
    let task = check(api::TaskState::Done, Some(1)).await;
    assert_eq!((task.stdout.as_deref(), task.stdout_bytes, task.exit_code, task.done), (Some("one latte\n"), Some(10), Some(0), true));
    assert_eq!(task.ended_at.as_deref(), Some("1970-01-01T00:00:03.000Z"));
    assert_eq!((task.units.done, task.units.waiting, task.why), (1, 0, None));
}

#[tokio::test]
async fn nobody_says_when_units_end_that_wait_behind_one_that_hangs() {
    let node = Node::start().await;
    node.order(serde_json::json!({"service": "resize", "args": ["{}", "800"], "items": ["a.png", "b.png", "c.png"]})).await;
    node.ends(1, report(1, Ended::Exited(0), b"", ""), None);
    node.runs(2, 1, None);
    let says = |waiting, eta_ms| {
        let (lacks, tries) = (BTreeMap::from([(peer_id(2), Lack::Full)]), vec![placed(2, 1, PlacedState::Running)]);
        node.says(Standing { units: 3, ended: 1, waiting, eta_ms, lacks, tries, ..standing(key(1)) });
    };
    says(1, Some(8_000));
    let task = node.task("1").await;
    assert_eq!((task.units.running, task.units.waiting, task.eta_basis, task.eta_seconds.is_some()), (1, 1, 1, true), "from its own pace");
    says(1, None);
    let task = node.task("1").await;
    assert_eq!((task.units.waiting, task.eta_basis, task.eta_seconds, task.lacks.len()), (1, 0, None, 1));
    // Nor when the last one ends, where all others took much less.
    node.ends(3, report(3, Ended::Exited(0), b"", ""), None);
    node.says(Standing { units: 3, ended: 2, waiting: 0, eta_ms: None, ..standing(key(1)) });
    assert!(node.task("1").await.eta_seconds.is_some());
    node.world().views.get_mut(&1).expect("it is open").running[0].for_ = Duration::from_secs(1 << 34); // The order is of 1970.
    let task = node.task("1").await;
    assert_eq!((task.units.running, task.units.waiting, task.eta_seconds), (1, 0, None));
}

#[tokio::test]
async fn the_outcome_of_an_order_is_an_event_in_the_inbox_and_is_read_like_a_letter() {
    let node = Node::start().await;
    node.receive(1, 2, "Hello");
    node.order(latte()).await;
    node.ends(1, report(1, Ended::Exited(0), b"one latte\n", ""), Some((End::Done, None)));
    {
        let mut world = node.world();
        let outcome = desk::Outcome { order: world.orders[0].0.clone(), end: Some(UnitEnd { unit: 1, end: world.ends[&(1, 1)].clone() }) };
        let place = Place { stream: protocol::input::OUTCOMES, seq: 1, twin: 0, n: 2 };
        let (id, content) = (letter_id(77 << 40), Content::Outcome(Box::new(outcome)));
        world.inbox.push(InboxLetter { n: 2, id, place, missing_before: 0, received: Timestamp(4_000), read: None, content });
    }
    let list = async |query: &str| -> Vec<api::InboxEntry> { soon(node.client.get(&format!("/v1/inbox?{query}"))).await.expect("a list") };
    let ns = async |query: &str| list(query).await.iter().map(|entry| entry.n).collect::<Vec<_>>();
    let entry = list("after=1").await.remove(0);
    let me = peer_id(1).to_string();
    assert_eq!((entry.n, entry.envelope.kind.as_str(), &entry.envelope.author_id), (2, "event", &me));
    let payload = &entry.envelope.payload;
    assert_eq!((&payload["event"], &payload["order"], &payload["state"]), (&"outcome".into(), &1.into(), &"done".into()));
    assert_eq!((&payload["worker"], &payload["stdout"]), (&"nikki-pi".into(), &"one latte\n".into()), "words, not bytes");
    let told: api::OutcomePayload = serde_json::from_value(payload.clone()).expect("it reads as it is written");
    assert_eq!(told.task, node.task("1").await, "the same as the task says");
    assert_eq!((ns("").await, ns("only=letters").await, ns("only=outcomes").await), (vec![1, 2], vec![1], vec![2]));
    assert_eq!((ns("from=nikki-pi").await, ns(&format!("from={me}")).await), (vec![1], vec![2]));
    let refused = soon(node.client.get::<Vec<api::InboxEntry>>("/v1/inbox?only=all")).await.expect_err("no such word");
    assert!(refused.to_string().contains("letters"), "{refused}");
    let read = api::MarkRead { ids: vec![entry.envelope.id.clone()], n: Vec::new() };
    let read: Vec<api::InboxEntry> = soon(node.client.post("/v1/inbox/read", &read)).await.expect("marked");
    assert!(read[0].read_at.is_some() && ns("unread=true").await == [1]);
}

#[tokio::test]
async fn a_failed_unit_says_how_and_what_it_last_complained_about() {
    let node = Node::start().await;
    node.order(serde_json::json!({"service": "resize", "args": ["{}", "800"], "items": ["a.png", "b.png", "c.png"]})).await;
    node.ends(2, report(2, Ended::Exited(1), b"", "reading\nnot a PNG\n\n"), None);
    node.ends(1, report(1, Ended::Exited(0), b"a", ""), None);
    let task = node.task("1").await;
    assert_eq!(task.units, api::Units { total: 3, done: 1, failed: 1, cancelled: 0, running: 0, waiting: 1 });
    let unit = node.task("1.2").await;
    assert_eq!((unit.id.as_str(), unit.item.as_deref(), unit.args.join(" ").as_str()), ("1.2", Some("b.png"), "b.png 800"));
    assert_eq!((unit.state, unit.why.as_deref(), unit.exit_code), (api::TaskState::Failed, Some("exit 1"), Some(1)));
    assert_eq!(node.task("1.3").await.state, api::TaskState::Accepted);
    let failed: Vec<api::Task> = soon(node.client.get("/v1/tasks/1/units?failed=true")).await.expect("a list");
    assert_eq!(failed.iter().map(|unit| (unit.unit, unit.stderr.as_deref())).collect::<Vec<_>>(), [(Some(2), Some("not a PNG"))]);
    assert_eq!((failed[0].stdout_truncated, failed[0].stderr_truncated), (false, true));
    let units: Vec<api::Task> = soon(node.client.all("/v1/tasks/1/units?limit=2")).await.expect("pages");
    assert_eq!(units.iter().map(|unit| unit.item.as_deref().unwrap_or("")).collect::<Vec<_>>(), ["a.png", "b.png", "c.png"]);
    node.ends(3, report(3, Ended::TimedOut, b"c", ""), Some((End::Failed, None)));
    let task = node.task("1").await;
    assert_eq!((task.state, task.why.as_deref(), task.exit_code), (api::TaskState::Failed, Some("1 done, 2 failed"), None));
    assert_eq!(node.task("1.3").await.why.as_deref(), Some("time limit"));
    assert_eq!(node.output("/v1/tasks/1/stdout").await.expect("all of them"), b"ac");
    assert_eq!(node.output("/v1/tasks/1.3/stdout").await.expect("one"), b"c");
}

#[tokio::test]
async fn output_that_is_no_text_is_written_as_base64_and_raw_where_it_is_asked_for() {
    let node = Node::start().await;
    node.order(latte()).await;
    let none = node.problem("GET", "/v1/tasks/1/stdout", "").await;
    assert!(none.code == Code::NoOutput && none.detail.contains("has not been started yet"), "{none:?}");
    node.ends(1, report(1, Ended::Exited(0), b"\xff\x00", "x"), Some((End::Done, None)));
    let task = node.task("1").await;
    assert_eq!((task.encoding, task.stdout.as_deref(), task.stderr.as_deref()), (api::Encoding::Base64, Some("/wA="), Some("eA==")));
    assert_eq!(node.output("/v1/tasks/1/stdout").await.expect("it is here"), b"\xff\x00");
    assert_eq!(node.output("/v1/tasks/1/stderr").await.expect("it is here"), b"x");
}

#[tokio::test]
async fn the_rest_of_a_long_output_is_fetched_from_its_worker() {
    let node = Node::start().await;
    node.order(latte()).await;
    let whole: Vec<u8> = "é".repeat(50_000).into_bytes();
    let mut long = report(1, Ended::Exited(0), &whole[..32_769], "");
    (long.stdout.total, long.stdout.kept) = (whole.len() as u64, whole.len() as u64);
    node.ends(1, long, Some((End::Done, None)));
    let task = node.task("1").await;
    // Cut in the middle of a character, and still text.
    assert_eq!((task.encoding, task.stdout_truncated, task.stdout_bytes), (api::Encoding::Utf8, true, Some(100_000)));
    assert_eq!(task.stdout.map(|text| text.len()), Some(32_768));
    let away = node.problem("GET", "/v1/tasks/1/stdout", "").await;
    assert_eq!(away.code, Code::NotReached);
    assert!(away.detail.contains("the first 32769 bytes are here"), "{}", away.detail);
    assert_eq!(node.output("/v1/tasks/1/stdout?here=true").await.expect("what is here").len(), 32_769);
    node.world().output = whole.clone();
    assert!(node.output("/v1/tasks/1/stdout").await.expect("all of it") == whole);
}

#[tokio::test]
async fn a_key_places_an_order_only_once() {
    let node = Node::start().await;
    let body = serde_json::json!({"service": "coffee", "key": "k"});
    assert_eq!(node.order(body.clone()).await.order, 1);
    node.ends(1, report(1, Ended::Exited(0), b"", ""), Some((End::Done, None)));
    let again = node.order(body).await;
    assert_eq!((again.order, again.state, again.done), (1, api::TaskState::Done, true));
    assert_eq!(node.world().orders.len(), 1);
}

#[tokio::test]
async fn every_order_that_cannot_be_is_answered_with_a_sentence() {
    let node = Node::start().await;
    let many = serde_json::json!({"service": "s", "args": vec!["x"; 100_000]}).to_string();
    for (body, code, says) in [
        (r#"{"service":"a b"}"#, Code::BadName, "cannot be a service"),
        (r#"{"service":"a/b"}"#, Code::BadName, "cannot be a service"),
        (r#"{"service":""}"#, Code::BadName, "at least one character"),
        (r#"{"service":"anyone"}"#, Code::BadName, "has a meaning of its own"),
        (r#"{"service":"s","priority":4}"#, Code::Malformed, "4 is no priority"),
        (r#"{"service":"s","priority":0}"#, Code::Malformed, "0 is no priority"),
        (r#"{"service":"s","expires_seconds":0}"#, Code::Malformed, "expire at once"),
        (r#"{"service":"s","expires_seconds":18446744073709551615}"#, Code::BadOrder, "later than in 36600 days"),
        (r#"{"service":"s","expires_seconds":-5}"#, Code::Malformed, "whole number"),
        (r#"{"service":"s","cores":4294967296}"#, Code::Malformed, "4294967296"),
        (r#"{"service":"s","cores":-1}"#, Code::Malformed, "-1"),
        (r#"{"service":"s","cores":65537}"#, Code::Malformed, "at most 65536"),
        (r#"{"service":"s","memory_bytes":9223372036854775807}"#, Code::Malformed, "more than any machine has"),
        (r#"{"service":"s","items":[]}"#, Code::Malformed, "`items` is an empty list"),
        (r#"["s",["a"]]"#, Code::Malformed, "a list, expected an object"),
        (r#"{"service":"s","software":[""]}"#, Code::Malformed, "word of software"),
        (r#"{"service":"s","stdin":"?","stdin_encoding":"base64"}"#, Code::Malformed, "not Base64"),
        (r#"{"service":"s","once":true}"#, Code::OnceNotSupported, "at most once"),
        (r#"{"service":"s","args":["a\u0000b"]}"#, Code::BadOrder, "NUL"),
        (r#"{"service":"s","argz":[]}"#, Code::Malformed, "unknown field"),
        (&many, Code::TooLarge, "100000 arguments; at most 10000"),
    ] {
        let problem = node.problem("POST", "/v1/orders", body).await;
        assert_eq!(problem.code, code, "{}: {problem:?}", &body[..body.len().min(60)]);
        assert!(problem.detail.contains(says), "{}: {}", &body[..body.len().min(60)], problem.detail);
        assert!(!problem.hint.as_deref().unwrap_or_default().contains("nothing was sent"), "{problem:?}");
    }
    let literal = serde_json::json!({"service": "s", "args": ["$(x)", ";", "a\nb", "{}"]});
    node.order(literal).await;
    assert_eq!(node.task("1").await.args, ["$(x)", ";", "a\nb", "{}"]);
    // Otherwise its units would not learn of their items.
    node.order(serde_json::json!({"service": "resize", "args": ["800"], "items": ["a.png", "b.png"]})).await;
    node.order(serde_json::json!({"service": "resize", "args": ["in/{}", "800"], "items": ["a.png"]})).await;
    assert_eq!(node.task("2").await.args, ["800", "{}"]);
    assert_eq!(node.task("3").await.args, ["in/{}", "800"]);
}

#[tokio::test]
async fn ids_that_mean_no_task_are_told_apart() {
    let node = Node::start().await;
    node.order(latte()).await;
    for (id, code, says) in [
        ("2", Code::UnknownOrder, "placed no order 2"),
        ("0", Code::Malformed, "is not the id of a task"),
        ("x", Code::Malformed, "is not the id of a task"),
        ("1.", Code::Malformed, "is not the id of a task"),
        ("1.0", Code::Malformed, "is not the id of a task"),
        ("-1", Code::Malformed, "is not the id of a task"),
        ("99999999999999999999", Code::Malformed, "is not the id of a task"),
        ("1.2", Code::UnknownOrder, "order 1 has 1 unit, and no unit 2"),
        ("nobody%2F1", Code::UnknownPeer, "nobody called nobody"),
        ("bob%2F1", Code::AmbiguousPeer, "bob could be any"),
        ("nikki-pi%2F1", Code::UnknownOrder, "nobody is dispatcher now who would know it"),
    ] {
        let problem = node.problem("GET", &format!("/v1/tasks/{id}"), "").await;
        assert_eq!(problem.code, code, "{id}: {problem:?}");
        assert!(problem.detail.contains(says) && problem.hint.is_some(), "{id}: {problem:?}");
    }
    assert_eq!(node.task("markus/1").await.id, "1");
    node.world().leader = Some(peer_id(2));
    let problem = node.problem("GET", "/v1/tasks/nikki-pi%2F1", "").await;
    assert!(problem.detail.contains("knows no open order nikki-pi/1"), "{problem:?}");
}

#[tokio::test]
async fn an_order_of_somebody_else_is_seen_through_the_dispatcher_and_not_cancelled() {
    let node = Node::start().await;
    let hers = |epoch: u64, number: u64| OrderKey { orderer: peer_id(2), epoch: Epoch(epoch), number };
    for order in [hers(1, 3), hers(1, 16), hers(2, 17), hers(2, 18)] {
        node.says(standing(order));
    }
    node.says(Standing { waiting: 0, tries: vec![placed(1, 1, PlacedState::Running)], ..standing(hers(2, 17)) });
    let task = node.task("nikki-pi/17").await;
    assert_eq!((task.id.as_str(), task.state, task.worker.as_deref()), ("nikki-pi/17", api::TaskState::Running, Some("nikki-pi")));
    assert_eq!(task.args, ["latte"]);
    assert_eq!(node.task("nikki-pi/3").await.state, api::TaskState::Queued);
    let problem = node.problem("POST", "/v1/tasks/nikki-pi%2F17/cancel", "").await;
    assert_eq!(problem.code, Code::NotYours);
    assert!(problem.detail.contains("only who placed it can cancel it"), "{problem:?}");
    assert!(!node.world().commands.iter().any(|command| matches!(command, Command::Cancel(_))));
}

#[tokio::test]
async fn only_what_has_not_ended_can_be_cancelled() {
    let node = Node::start().await;
    assert_eq!(node.problem("POST", "/v1/tasks/1/cancel", "").await.code, Code::UnknownOrder);
    node.order(latte()).await;
    assert!(node.problem("POST", "/v1/tasks/1.1/cancel", "").await.detail.contains("cannot be cancelled alone"));
    let task: api::Task = soon(node.client.tell("/v1/tasks/1/cancel")).await.expect("it is mine");
    assert_eq!(task.state, api::TaskState::Cancelling);
    node.ends(1, report(1, Ended::Exited(0), b"", ""), Some((End::Done, None)));
    let problem = node.problem("POST", "/v1/tasks/1/cancel", "").await;
    assert_eq!((problem.code, problem.detail.as_str()), (Code::AlreadyEnded, "order 1 had ended already: done"));
}

#[tokio::test]
async fn lists_have_mine_first_and_then_those_of_others_page_by_page() {
    let node = Node::start().await;
    for _ in 0..5 {
        node.order(latte()).await;
    }
    node.ends(1, report(1, Ended::Exited(0), b"text", ""), Some((End::Done, None)));
    assert_eq!(node.tasks("limit=2").await, ["1", "2", "3", "4", "5"]);
    assert_eq!(node.tasks("which=running&limit=2").await, ["2", "3", "4", "5"]);
    for number in 1..=3 {
        node.says(standing(OrderKey { orderer: peer_id(2), epoch: Epoch(1), number }));
        node.says(standing(key(number + 1)));
        node.says(standing(OrderKey { orderer: peer_id(4), epoch: Epoch(1), number }));
    }
    for limit in [1, 2, 3, 100] {
        let mut all = node.tasks(&format!("which=all&limit={limit}")).await;
        assert_eq!(all.iter().take(5).map(String::as_str).collect::<Vec<_>>(), ["1", "2", "3", "4", "5"], "{limit}");
        all.sort();
        let others: Vec<String> =
            [bob(), "nikki-pi".to_owned()].iter().flat_map(|who| (1..=3).map(move |number| format!("{who}/{number}"))).collect();
        assert_eq!(all.iter().skip(5).map(String::as_str).collect::<Vec<_>>(), others, "{limit}");
    }
    let newest: Vec<api::Task> = soon(node.client.get("/v1/tasks?newest=true&limit=2")).await.expect("a list");
    assert_eq!(newest.iter().map(|task| task.order).collect::<Vec<_>>(), [5, 4]);
    let first: Vec<api::Task> = soon(node.client.get("/v1/tasks?limit=1")).await.expect("a list");
    assert_eq!(
        (first[0].stdout.as_deref(), first[0].stdout_bytes, first[0].stdout_truncated),
        (None, Some(4), false),
        "what is left out is not called cut"
    );
    for bad in ["which=x", "after=x", "after=a/b/c", "limit=0", "newest=true&after=1", "newest=true&which=all"] {
        assert_eq!(node.problem("GET", &format!("/v1/tasks?{bad}"), "").await.code, Code::Malformed, "{bad}");
    }
}

#[tokio::test]
async fn services_are_offered_shown_and_withdrawn() {
    let node = Node::start().await;
    let offer =
        serde_json::json!({"name": "brew", "command": ["/bin/sh", "-c", "true"], "allow": ["anyone"], "limit": 3, "software": ["gpu"]});
    let offered: api::Offer = soon(node.client.put("/v1/offers", &offer)).await.expect("offered");
    assert_eq!((offered.limit, offered.allow.join(","), offered.software.join(",")), (3, "anyone".to_owned(), "gpu".to_owned()));
    let some = serde_json::json!({"name": "echo", "builtin": "echo", "allow": ["nikki-pi", "ada"], "time_limit_seconds": 5});
    let offered: api::Offer = soon(node.client.post("/v1/offers", &some)).await.expect("offered");
    assert_eq!((offered.builtin, offered.time_limit_seconds, offered.allow.len()), (Some(api::Builtin::Echo), Some(5), 2));
    let offers: Vec<api::Offer> = soon(node.client.get("/v1/offers")).await.expect("a list");
    assert_eq!(offers.iter().map(|offer| offer.name.as_str()).collect::<Vec<_>>(), ["brew", "echo"]);
    let services: Vec<api::Service> = soon(node.client.all("/v1/services?limit=1")).await.expect("pages");
    let shown: Vec<_> = services.iter().map(|one| (one.service.as_str(), one.worker.as_str(), one.allowed)).collect();
    assert_eq!(shown, [("brew", "markus", true), ("coffee", "nikki-pi", true), ("echo", "markus", true), ("tea", "nikki-pi", false)]);
    let hers: Vec<api::Service> = soon(node.client.get("/v1/services?peer=nikki-pi")).await.expect("she answers");
    assert_eq!(hers.iter().map(|one| one.service.as_str()).collect::<Vec<_>>(), ["coffee"]);
    let only: Vec<api::Service> = soon(node.client.all("/v1/services?limit=1&service=tea")).await.expect("a list");
    assert!(!only.is_empty() && only.iter().all(|one| one.service == "tea"), "{only:?}");
    soon(node.client.delete("/v1/offers/brew")).await.expect("withdrawn");
    assert_eq!(node.problem("DELETE", "/v1/offers/brew", "").await.code, Code::NotOffered);
    let draining: api::Draining = soon(node.client.post("/v1/drain", &serde_json::json!({"draining": true}))).await.expect("told");
    assert_eq!(draining.running, 1);
    assert!(node.world().commands.contains(&Command::Drain(true)));
}

#[tokio::test]
async fn every_offer_that_cannot_be_is_answered_with_a_sentence() {
    let node = Node::start().await;
    for (body, code, says) in [
        (r#"{"name":"a b","builtin":"echo","allow":["anyone"]}"#, Code::BadName, "cannot be a service"),
        (r#"{"name":"s","builtin":"echo"}"#, Code::BadOffer, "who may order it?"),
        (r#"{"name":"s","builtin":"echo","allow":[]}"#, Code::BadOffer, "who may order it?"),
        (r#"{"name":"s","builtin":"echo","allow":["anyone","ada"]}"#, Code::BadOffer, "do not go together"),
        (r#"{"name":"s","builtin":"echo","allow":["nobody"]}"#, Code::UnknownPeer, "nobody called nobody"),
        (r#"{"name":"s","allow":["anyone"]}"#, Code::BadOffer, "what should be run?"),
        (r#"{"name":"s","command":[],"allow":["anyone"]}"#, Code::BadOffer, "the command is empty"),
        (r#"{"name":"s","command":["/bin/sh"],"builtin":"echo","allow":["anyone"]}"#, Code::BadOffer, "not both"),
        (r#"{"name":"s","command":["./x"],"allow":["anyone"]}"#, Code::BadOffer, "not a whole path"),
        (r#"{"name":"s","command":["/no/such"],"allow":["anyone"]}"#, Code::BadOffer, "cannot be run"),
        (r#"{"name":"s","command":["/etc/passwd"],"allow":["anyone"]}"#, Code::BadOffer, "chmod +x"),
        (r#"{"name":"s","command":["/tmp"],"allow":["anyone"]}"#, Code::BadOffer, "/tmp is a directory, not a program"),
        (r#"{"name":"s","command":["/bin/sh","\u0000"],"allow":["anyone"]}"#, Code::BadOffer, "NUL"),
        (r#"{"name":"s","builtin":"echo","allow":["anyone"],"limit":0}"#, Code::BadOffer, "0 at once"),
        (r#"{"name":"s","builtin":"echo","allow":["anyone"],"cores":5}"#, Code::BadOffer, "this machine has 4"),
        (r#"{"name":"s","builtin":"echo","allow":["anyone"],"memory_bytes":9999999999}"#, Code::BadOffer, "this machine has 4 GiB"),
        (r#"{"name":"s","builtin":"echo","allow":["anyone"],"about":"a\nb"}"#, Code::BadOffer, "one line"),
        (r#"{"name":"s","builtin":"echo","allow":["anyone"],"time_limit_seconds":0}"#, Code::BadOffer, "time limit"),
        (r#"{"name":"s","builtin":"fly","allow":["anyone"]}"#, Code::Malformed, "fly"),
    ] {
        let problem = node.problem("POST", "/v1/offers", body).await;
        assert_eq!(problem.code, code, "{body}: {problem:?}");
        assert!(problem.detail.contains(says) && (problem.hint.is_some() || code == Code::Malformed), "{body}: {problem:?}");
    }
    assert!(node.world().offers.is_empty());
}

#[tokio::test]
async fn workers_and_who_are_asked_now_and_silence_is_listed() {
    let node = Node::start().await;
    let workers: Vec<api::Worker> = soon(node.client.get("/v1/workers")).await.expect("a list");
    let [nikki] = workers.as_slice() else { panic!("{workers:?}") };
    assert_eq!((nikki.name.as_str(), nikki.running, nikki.queued, nikki.limit, nikki.answered), ("nikki-pi", Some(2), Some(3), 4, true));
    assert_eq!((nikki.cores, nikki.services.join(",")), (api::Cores { total: 4, free: 2.5 }, "coffee,tea".to_owned()));
    let who: Vec<api::Availability> = soon(node.client.get("/v1/who/coffee?cores=2&software=milk,gpu")).await.expect("a list");
    let [one] = who.as_slice() else { panic!("{who:?}") };
    assert_eq!((one.available, one.why, one.tasks_remaining, one.eta_seconds), (Some(false), Some(api::Lack::Full), Some(5), Some(7.4)));
    let asked = |command: &Command| match command {
        Command::Ask { question, .. } => {
            matches!(&**question, Question::Availability { needs, .. } if needs.cores == 2 && needs.software.len() == 2)
        }
        _ => false,
    };
    assert!(node.world().commands.iter().any(asked));
    node.world().silent.insert(peer_id(2));
    let who: Vec<api::Availability> = soon(node.client.get("/v1/who/coffee")).await.expect("a list");
    assert_eq!((who[0].worker.as_str(), who[0].answered, who[0].available), ("nikki-pi", false, None));
    let workers: Vec<api::Worker> = soon(node.client.get("/v1/workers")).await.expect("a list");
    assert_eq!((workers[0].answered, workers[0].running), (false, None));
    assert_eq!(node.problem("GET", "/v1/services?peer=nikki-pi", "").await.code, Code::NoAnswer);
    let none: Vec<api::Availability> = soon(node.client.get("/v1/who/wine")).await.expect("a list");
    assert!(none.is_empty());
    // Adverts name some that nobody's beacon told of: who has it is listed, who has not is left out, and silence is said.
    {
        let mut world = node.world();
        world.named = vec![peer_id(1), peer_id(2), peer_id(3), peer_id(4), peer_id(9)];
        world.silent = BTreeSet::from([peer_id(9)]);
        world.idle = BTreeSet::from([peer_id(1), peer_id(3)]);
    }
    let who: Vec<api::Availability> = soon(node.client.get("/v1/who/wine")).await.expect("a list");
    let said: Vec<_> = who.iter().map(|one| (one.worker_id.clone(), one.answered)).collect();
    let said: BTreeSet<_> = said.into_iter().collect();
    let expected = [(2, true), (4, true), (9, false)].map(|(n, answered)| (peer_id(n).to_string(), answered));
    assert_eq!(said, BTreeSet::from(expected));
    let who: Vec<api::Availability> = soon(node.client.get("/v1/who/coffee")).await.expect("a list");
    assert_eq!(who.iter().filter(|one| one.worker == "nikki-pi").count(), 1, "whoever is named twice is asked once");
}

#[tokio::test]
async fn the_dispatcher_is_told_and_only_it_hands_over() {
    let node = Node::start().await;
    let nobody: Option<api::Dispatcher> = soon(node.client.get("/v1/dispatcher")).await.expect("it answers");
    assert_eq!(nobody, None);
    node.world().leader = Some(peer_id(2));
    let somebody: Option<api::Dispatcher> = soon(node.client.get("/v1/dispatcher")).await.expect("it answers");
    assert!(somebody.is_some_and(|one| one.name == "nikki-pi" && one.term == 3 && one.id == peer_id(2).to_string()));
    let status: api::Status = soon(node.client.get("/v1/status")).await.expect("it answers");
    assert!(status.dispatcher.is_some_and(|one| one.name == "nikki-pi"));
    let problem = node.problem("POST", "/v1/dispatcher/transfer", r#"{"to":"ada"}"#).await;
    assert_eq!((problem.code, problem.hint.as_deref()), (Code::NotDispatcher, Some("the dispatcher is nikki-pi: ask there")));
    node.world().leader = Some(peer_id(1));
    let body = serde_json::json!({"to": "ada"});
    let asked: api::Transferring = soon(node.client.post("/v1/dispatcher/transfer", &body)).await.expect("asked");
    assert_eq!(asked.to, "ada");
    assert!(node.world().commands.contains(&Command::Transfer(peer_id(3))));
    // As `peers` shows them, and as they are told apart.
    let id = peer_id(2).to_string();
    let end = &id[id.len() - 8..];
    for to in ["nikki-pi", &format!("nikki-pi@{end}"), &id] {
        let body = serde_json::json!({"to": to});
        let asked: api::Transferring = soon(node.client.post("/v1/dispatcher/transfer", &body)).await.expect("asked");
        assert_eq!((asked.to.as_str(), asked.to_id.as_str()), ("nikki-pi", id.as_str()), "{to}");
    }
    assert_eq!(node.problem("POST", "/v1/dispatcher/transfer", r#"{"to":"niki-pi"}"#).await.candidates, ["nikki-pi"]);
    for nobody in [peer_id(9).to_string(), "Kx9Ta7f3".to_owned(), end[1..].to_owned()] {
        let problem = node.problem("POST", "/v1/dispatcher/transfer", &serde_json::json!({"to": nobody}).to_string()).await;
        assert_eq!(problem.code, Code::UnknownPeer, "{nobody}");
    }
}

/// One of the two who bear that name.
fn bob() -> String {
    protocol::name::distinct(&"bob".parse().expect("a name"), &peer_id(4))
}

#[tokio::test]
async fn a_query_is_answered_by_each_who_is_asked() {
    let node = Node::start().await;
    node.world().silent.insert(peer_id(4));
    let ask = async |to: &str, what: &str| -> Vec<api::QueryResults> {
        soon(node.client.post("/v1/queries", &serde_json::json!({"to": to, "what": what}))).await.expect("asked")
    };
    let all = ask("swarm", "statistics").await;
    let shown: Vec<_> = all.iter().map(|one| (one.peer.as_str(), one.answered)).collect();
    assert_eq!(shown, [(bob().as_str(), false), ("markus", true), ("nikki-pi", true)]);
    assert_eq!(all[2].results["running"], 2);
    assert_eq!(ask("nikki-pi", "services").await[0].results[0]["service"], "coffee");
    let seen = ask("nikki-pi", "peers").await.remove(0).results;
    let ids: Vec<_> = seen.as_array().expect("a list").iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, [1, 3, 5].map(|n| serde_json::Value::from(peer_id(n).to_string())), "all pages of whom it sees");
    assert_eq!((&seen[0]["name"], &seen[0]["available"], &seen[0]["here_seconds"]), (&"ada".into(), &true.into(), &1.5.into()));
    let all = ask("swarm", "peers").await;
    assert_eq!(all.iter().map(|one| one.answered).collect::<Vec<_>>(), [false, true, true], "each says whom it sees");
    assert_eq!(ask("nikki-pi", "workers").await[0].results["limit"], 4);
    assert_eq!(ask("nikki-pi", "status").await[0].results["dispatcher"], false);
    assert_eq!(ask("nikki-pi", "tasks").await[0].why.as_deref(), Some("it cannot answer that"));
    node.world().leader = Some(peer_id(3));
    let why = "it is not the dispatcher, which alone knows all tasks; that is ada";
    assert_eq!(ask("nikki-pi", "tasks").await[0].why.as_deref(), Some(why));
    node.world().leader = None;
    assert_eq!(node.problem("POST", "/v1/queries", r#"{"to":"swarm","what":"tasks"}"#).await.code, Code::NoAnswer);
    assert_eq!(node.problem("POST", "/v1/queries", r#"{"to":"swarm","what":"x"}"#).await.code, Code::Malformed);
}

#[tokio::test]
async fn what_becomes_of_orders_is_told_in_events() {
    let node = Node::start().await;
    let mut events = soon(node.client.events(None)).await.expect("it begins");
    let of = Try { order: key(1), unit: 2, attempt: attempt(3) };
    let service: protocol::service::ServiceName = "coffee".parse().expect("a name");
    let happened = [
        What::Elected { term: 3, leader: peer_id(2) },
        What::Offered { service: service.clone() },
        What::Withdrawn { service },
        What::OrdersPlaced { first: 1, last: 2 },
        What::OrdersQueued { orderer: peer_id(2), epoch: Epoch(u64::MAX), first: 1, last: 2 },
        What::OrdersHeld { orderer: peer_id(2), epoch: Epoch(u64::MAX), first: 1, last: 2 },
        What::UnitAssigned { of, worker: peer_id(2) },
        What::UnitStarted { of },
        What::UnitEnded { of, ended: Ended::NotStarted("no such file".to_owned()) },
        What::TryBroken { of, why: protocol::order::Broken::Killed(9) },
        What::OrderCancelled { number: 1, expired: true },
        What::OrderEnded { number: 1, end: End::Expired },
    ];
    let names = [
        "elected",
        "offered",
        "withdrawn",
        "orders_placed",
        "orders_queued",
        "orders_held",
        "unit_assigned",
        "unit_started",
        "unit_ended",
        "try_broken",
        "order_cancelled",
        "order_ended",
    ];
    let mut told = Vec::new();
    for (seq, what) in (1..).zip(happened) {
        node.happen(seq, what);
        told.push(soon(events.next()).await.expect("it goes on").expect("an event").what);
    }
    assert_eq!(told.iter().map(called).collect::<Vec<_>>(), names);
    let api::What::UnitAssigned { of, worker, .. } = &told[6] else { panic!("{told:?}") };
    assert_eq!((of.order, of.unit, of.attempt, of.orderer.as_str(), worker.as_str()), (1, 2, 3, "markus", "nikki-pi"));
    let api::What::TryBroken { why: api::Broken::Killed, signal: Some(9), .. } = &told[9] else { panic!("{told:?}") };
    assert_eq!(told[11], api::What::OrderEnded { order: 1, state: api::TaskState::Expired });
}
