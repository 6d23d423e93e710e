//! The nodes under measurement: real ones, each a process, spoken to as everyone does, through the API on its socket.
//! Knows nothing of rows. A node is ended by its own id however a row ends, and what it says is thrown away.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use node::control::api::{self, BatchAccepted, BatchPlaced, What};
use node::control::client::{Client, Events};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::machine::nanos;

/// Bytes of a piece of a batch.
const PIECE: usize = 64 * 1024;
/// Time between two looks at something that has no event.
const LOOK: Duration = Duration::from_millis(2);
/// An election is over within this, most often.
const TERM: Duration = Duration::from_millis(200);
/// How long anything may take: beyond it the benchmark ends rather than hang.
const BOUND: Duration = Duration::from_secs(300);

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    // One thread: what asks should take as little as can be from those who are asked.
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
});

/// Nodes that are started keep nobody else's record.
static ALONE: AtomicBool = AtomicBool::new(false);

/// Whether nodes that are started from now on keep the record of others while they lead.
pub(crate) fn keep_others(others: bool) {
    ALONE.store(!others, Ordering::Relaxed);
}

/// Waits for something, but not for ever.
pub(crate) fn wait<T>(what: impl Future<Output = T>) -> T {
    RUNTIME.block_on(async { tokio::time::timeout(BOUND, what).await.expect("within five minutes") })
}

/// One node.
pub(crate) struct Node {
    child: Child,
    client: Client,
    /// When it was started, in nanoseconds.
    pub(crate) began: u64,
    /// When it first answered.
    pub(crate) ready: u64,
    /// Where it listens, once it is ready.
    pub(crate) address: String,
}

/// What became of one letter, in milliseconds after it was asked for.
pub(crate) struct Single {
    /// The author's API said that it is on the disk.
    pub(crate) accepted: f64,
    /// The recipient's API said that it is there.
    pub(crate) shown: f64,
    /// The author's API said that it was signed for.
    pub(crate) receipted: f64,
}

impl Node {
    /// Starts a node in a directory of its own below `place`; it is not ready yet.
    pub(crate) fn begin(place: &Path, name: &str, peers: &[String]) -> Node {
        Node::begin_on(None, place, name, peers)
    }

    /// Starts a node on a machine of its own, as far as others are told.
    pub(crate) fn start_apart(place: &Path, name: &str, peers: &[String]) -> Node {
        let mut node = Node::begin_on(Some(name), place, name, peers);
        wait(node.until_ready());
        node
    }

    fn begin_on(machine: Option<&str>, place: &Path, name: &str, peers: &[String]) -> Node {
        let dir: PathBuf = place.join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
        command.arg("--data-dir").arg(&dir).args(["--name", name, "run", "--swarm", "bench", "--no-mdns"]);
        command.args(["--listen", "/ip4/127.0.0.1/tcp/0"]);
        command.args(peers.iter().flat_map(|peer| ["--peer", peer]));
        command.args(machine.iter().flat_map(|machine| ["--machine", machine]));
        if ALONE.load(Ordering::Relaxed) {
            command.arg("--no-others");
        }
        command.env_remove("SWARM_DATA_DIR").env_remove("SWARM_NODE");
        let began = nanos();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the system starts a process");
        Node { child, client: Client::new(&dir), began, ready: 0, address: String::new() }
    }

    /// Starts a node and waits until it answers.
    pub(crate) fn start(place: &Path, name: &str, peers: &[String]) -> Node {
        let mut node = Node::begin(place, name, peers);
        wait(node.until_ready());
        node
    }

    /// Waits until it answers, and listens.
    pub(crate) async fn until_ready(&mut self) {
        loop {
            if let Ok(status) = self.client.get::<api::Status>("/v1/status").await {
                if self.ready == 0 {
                    self.ready = nanos();
                }
                if let Some(address) = status.addresses.into_iter().next() {
                    self.address = address;
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn status(&self) -> api::Status {
        self.client.get("/v1/status").await.expect("the node runs")
    }

    /// When it lists this many others as available; it is asked this often.
    pub(crate) async fn peers(&self, available: usize, every: Duration) -> u64 {
        while self.status().await.peers.available != available {
            tokio::time::sleep(every).await;
        }
        nanos()
    }

    /// When everything it wrote is receipted.
    pub(crate) async fn receipted(&self) -> u64 {
        while self.status().await.letters.waiting > 0 {
            tokio::time::sleep(LOOK).await;
        }
        nanos()
    }

    /// When its letter of this number, counted from 1, is held by so many machines.
    pub(crate) async fn held(&self, number: u64, machines: u32) -> u64 {
        let path = format!("/v1/sent?limit=1&after={}", number - 1);
        loop {
            let letters: Vec<api::Letter> = self.client.get(&path).await.expect("the node runs");
            if letters[0].deliveries.iter().all(|delivery| delivery.held_by >= machines) {
                return nanos();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// When this many letters are in its inbox.
    pub(crate) async fn taken(&self, letters: u64) -> u64 {
        while self.status().await.letters.inbox < letters {
            tokio::time::sleep(LOOK).await;
        }
        nanos()
    }

    /// When it holds nothing for others.
    pub(crate) async fn released(&self) -> u64 {
        while self.status().await.letters.held_bundles > 0 {
            tokio::time::sleep(LOOK).await;
        }
        nanos()
    }

    /// Writes letters in one batch; when all are accepted.
    pub(crate) async fn write(&self, to: &[String], letters: u64, bytes: usize) -> u64 {
        let to = to.to_vec();
        self.batch::<BatchAccepted>("/v1/letters/batch", letters, move |number| letter(&to, number, bytes)).await
    }

    async fn batch<T: DeserializeOwned>(&self, path: &str, lines: u64, line: impl Fn(u64) -> Value + Send + Sync + 'static) -> u64 {
        let pieces = stream::unfold(0, move |mut number| {
            let mut piece = Vec::with_capacity(PIECE + 1024);
            while number < lines && piece.len() < PIECE {
                serde_json::to_writer(&mut piece, &line(number)).expect("plain");
                piece.push(b'\n');
                number += 1;
            }
            let piece = (!piece.is_empty()).then(|| (Ok(Frame::data(Bytes::from(piece))), number));
            async { piece }
        });
        let mut answers = self.client.batch(path, StreamBody::new(pieces)).await.expect("the node runs");
        for number in 0..lines {
            let line = answers.next().await.expect("the node runs").expect("as many answers as lines");
            assert!(serde_json::from_slice::<T>(&line).is_ok(), "line {number}: {}", String::from_utf8_lossy(&line));
        }
        nanos()
    }

    /// Offers a service to anyone: a program, or what answers with its arguments.
    pub(crate) async fn offer(&self, name: &str, slots: u32, command: Option<&str>) {
        let mut offer = json!({ "name": name, "limit": slots, "allow": ["anyone"] });
        match command {
            Some(command) => offer["command"] = json!([command]),
            None => offer["builtin"] = json!("echo"),
        }
        let _: Value = self.client.post("/v1/offers", &offer).await.expect("it can be offered");
    }

    /// Becomes the dispatcher: whoever of the others is one hands over.
    pub(crate) async fn lead(&self, others: &[Node]) {
        let me = self.status().await.peer.name;
        while self.leader().await.as_deref() != Some(me.as_str()) {
            for other in others {
                // Refused by those that do not lead.
                let _: Result<Value, _> = other.client.post("/v1/dispatcher/transfer", &json!({ "to": me })).await;
            }
            tokio::time::sleep(TERM).await;
        }
    }

    /// Waits until this peer is its dispatcher.
    pub(crate) async fn follows(&self, name: &str) {
        while self.leader().await.as_deref() != Some(name) {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn leader(&self) -> Option<String> {
        self.status().await.dispatcher.map(|leader| leader.name)
    }

    /// Places orders in one batch; when all are accepted.
    pub(crate) async fn order(&self, service: &str, orders: u64) -> u64 {
        let service = service.to_owned();
        self.batch::<BatchPlaced>("/v1/orders/batch", orders, move |_| json!({ "service": service })).await
    }

    /// Places one order of so many units.
    pub(crate) async fn order_units(&self, service: &str, units: u64) {
        let items: Vec<String> = (1..=units).map(|unit| unit.to_string()).collect();
        let _: Value = self.client.post("/v1/orders", &json!({ "service": service, "items": items })).await.expect("it is accepted");
    }

    /// When all that it has ordered has ended.
    pub(crate) async fn ended(&self, look: Duration) -> u64 {
        loop {
            let open = self.status().await.orders.open;
            if open == 0 {
                break;
            }
            // Seldom while many are left: a look takes CPU that they could use, and 500 take longer than the shortest wait.
            tokio::time::sleep(look * u32::try_from(open / 500).unwrap_or(u32::MAX).clamp(1, 10)).await;
        }
        nanos()
    }

    /// Places orders, each after the last has ended: milliseconds until the worker began it, and until the outcome.
    pub(crate) async fn orders_one_by_one(&self, worker: &Node, service: &str, orders: u64) -> Vec<(f64, f64)> {
        let (mut mine, mut theirs) = (self.client.events(None).await.expect("it runs"), worker.client.events(None).await.expect("it runs"));
        let (order, mut singles) = (json!({ "service": service }), Vec::new());
        for _ in 0..orders {
            let begin = nanos();
            let since = || (nanos() - begin) as f64 / 1e6;
            let accepted = async {
                let _: Value = self.client.post("/v1/orders", &order).await.expect("the order is accepted");
            };
            let started = async {
                until(&mut theirs, |what| matches!(what, What::UnitStarted { .. })).await;
                since()
            };
            let ended = async {
                until(&mut mine, |what| matches!(what, What::OrderEnded { .. })).await;
                since()
            };
            let ((), started, ended) = tokio::join!(accepted, started, ended);
            singles.push((started, ended));
        }
        singles
    }

    /// Writes letters, each after the last was receipted.
    pub(crate) async fn one_by_one(&self, to: &Node, name: &str, letters: u64, bytes: usize) -> Vec<Single> {
        let (mut mine, mut theirs) = (self.client.events(None).await.expect("it runs"), to.client.events(None).await.expect("it runs"));
        let (name, mut singles) = (vec![name.to_owned()], Vec::new());
        for number in 0..letters {
            let begin = nanos();
            let since = || (nanos() - begin) as f64 / 1e6;
            let accepted = async {
                let letter = letter(&name, number, bytes);
                let _: Value = self.client.post("/v1/letters", &letter).await.expect("the letter is accepted");
                since()
            };
            let shown = async {
                until(&mut theirs, |what| matches!(what, What::LettersShown { .. })).await;
                since()
            };
            let receipted = async {
                until(&mut mine, |what| matches!(what, What::LettersDelivered { .. })).await;
                since()
            };
            let (accepted, shown, receipted) = tokio::join!(accepted, shown, receipted);
            singles.push(Single { accepted, shown, receipted });
        }
        singles
    }

    /// Ends it as a user would, and waits.
    pub(crate) fn stop(mut self) {
        let _: api::Stopping = wait(self.client.post("/v1/stop", &json!({}))).expect("the node runs");
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Ended already, or not wanted any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn letter(to: &[String], number: u64, bytes: usize) -> Value {
    let mut text = format!("letter {number} ");
    text.push_str(&"x".repeat(bytes.saturating_sub(text.len())));
    json!({ "to": to, "payload": text })
}

async fn until(events: &mut Events, wanted: impl Fn(&What) -> bool) {
    while !wanted(&events.next().await.expect("the node runs").expect("it does not end").what) {}
}

/// Two nodes that see each other.
pub(crate) fn pair(place: &Path) -> (Node, Node) {
    let ann = Node::start(place, "ann", &[]);
    let bea = Node::start(place, "bea", std::slice::from_ref(&ann.address));
    wait(async { tokio::join!(ann.peers(1, LOOK), bea.peers(1, LOOK)) });
    (ann, bea)
}
