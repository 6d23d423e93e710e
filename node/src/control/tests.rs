//! The doors from end to end: a real socket, a made-up node behind it.
//! The shelf is a few lists; the driver answers each ask at once. All waits are bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use protocol::beacon::Statistics;
use protocol::config::limits;
use protocol::effect::{OrderState, SentLetter};
use protocol::envelope::{Envelope, Payload};
use protocol::id::MachineId;
use protocol::input::{Disk, Place};
use protocol::mail::{Denial, Holder, Reason};
use protocol::name::Addressee;
use protocol::order::{Fence, Order, Report};
use protocol::peer::{LeaderStatus, OrderView, WorkerStatus};
use protocol::segment::{Entry, What};
use protocol::service::{Allowed, Availability, Lack, Needs, Offering, ServiceCard, Services};
use protocol::work::{Question, Results, Seen, Standing};
use protocol::{Answer, Command, Epoch, LetterId, PeerId, PeerStatus, Ranges, Refusal, Status, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::api;
use super::client::{Client, Error};
use super::desk::{
    About, Ask, Content, Counts, Delivery, Desk, InboxKind, InboxLetter, InboxQuery, OrderQuery, OrderSummary, SentView, Shelf, State,
    UnitEnd, Unreached,
};
use super::problem::{Code, Problem};
use super::server::{BATCHES, CONNECTIONS, Door, READERS, serve};

mod log;
mod misuse;
mod openapi;
mod tasks;

const PATIENCE: Duration = Duration::from_secs(10);

/// Whatever happens, a test ends.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it should have happened by now")
}

fn peer_id(n: u8) -> PeerId {
    static IDS: LazyLock<Vec<PeerId>> = LazyLock::new(|| {
        let id = |n| libp2p::identity::Keypair::ed25519_from_bytes([n; 32]).expect("32 bytes").public().to_peer_id();
        (0..10).map(id).collect()
    });
    IDS[usize::from(n)]
}

fn letter_id(n: u64) -> LetterId {
    LetterId::new((u128::from(n) << 64 | u128::from(n)).to_be_bytes())
}

fn peer_status(n: u8, name: &str, here: bool) -> PeerStatus {
    PeerStatus {
        id: peer_id(n),
        name: name.parse().expect("a name"),
        available: here,
        reachable: here,
        connected: here,
        welcomes: true,
        inactive: false,
        machine: MachineId::new([n; 16]),
        cloned: false,
        addresses: vec![format!("/ip4/10.0.0.{n}/tcp/6174")],
        services: if name == "nikki-pi" { services(["coffee", "tea"]) } else { Services::default() },
        statistics: statistics(),
        first_seen: Timestamp(1_000),
        last_seen: Timestamp(2_000),
        waiting: 0,
        // The made-up custodians of ada are full.
        denial: None,
        blocked: false,
        reasons: if name == "ada" { BTreeSet::from([Reason::Full]) } else { BTreeSet::new() },
    }
}

fn statistics() -> Statistics {
    Statistics { cores: 4, cores_free_percent: 250, memory_bytes: 4 << 30, memory_free_bytes: 1 << 30 }
}

fn card(name: &str) -> ServiceCard {
    let allowed = if name == "tea" { Allowed::Peers(BTreeSet::from([peer_id(3)])) } else { Allowed::Anyone };
    ServiceCard { name: name.parse().expect("a name"), about: "hot".to_owned(), limit: 2, needs: Needs::default(), allowed }
}

fn services<const N: usize>(names: [&str; N]) -> Services {
    Services { services: names.map(card).to_vec(), software: BTreeSet::from(["milk".to_owned()]), draining: false }
}

/// The name of an event.
fn called(what: &api::What) -> String {
    serde_json::to_value(what).expect("texts and numbers")["what"].as_str().expect("it has one").to_owned()
}

/// What the made-up node remembers.
#[derive(Default)]
struct World {
    orders: Vec<(OrderSummary, Order)>,
    ends: BTreeMap<(u64, u32), Result<Report, String>>,
    views: BTreeMap<u64, OrderView>,
    leader: Option<PeerId>,
    standings: Vec<Standing>,
    offers: Vec<Offering>,
    /// Peers that do not answer.
    silent: BTreeSet<PeerId>,
    /// Who takes nothing from this node.
    blocked_by: BTreeSet<PeerId>,
    /// All peers report the machine of this node.
    one_machine: bool,
    /// Whom adverts name.
    named: Vec<PeerId>,
    /// They offer nothing, whatever adverts say.
    idle: BTreeSet<PeerId>,
    /// What the worker keeps of the output of unit 1.
    output: Vec<u8>,
    inbox: Vec<InboxLetter>,
    sent: Vec<SentView>,
    entries: Vec<(u64, u64, Entry)>,
    /// Of what was before, not all is kept.
    whole_since: Option<Timestamp>,
    keys: BTreeMap<String, u64>,
    available: bool,
    commands: Vec<Command>,
    stopped: bool,
}

struct FakeShelf(Arc<Mutex<World>>);

impl FakeShelf {
    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.0.lock().expect("no test panics while it holds the world")
    }
}

impl Shelf for FakeShelf {
    fn log(&self, question: &protocol::log::Question) -> Result<protocol::log::Answer, String> {
        let world = self.world();
        let subject = question.about.as_ref().map(protocol::log::Subject::of);
        let wanted = |what: &What| subject.as_ref().is_none_or(|subject| subject.concerned(&peer_id(1), what));
        let wanted = |entry: &Entry| question.wants(entry.time, Some(&entry.what)) && wanted(&entry.what);
        let mut entries: Vec<_> = world.entries.iter().filter(|(_, _, entry)| wanted(entry)).cloned().collect();
        if question.newest {
            entries.reverse();
        }
        let entries = entries.into_iter();
        let logged = entries.map(|(seq, chain, Entry { time, what })| protocol::log::Logged {
            author: peer_id(1),
            chain,
            branch: 0,
            seq,
            time,
            what: Some(what),
            doubtful: false,
        });
        let whole_since = world.whole_since;
        Ok(protocol::log::Answer { entries: logged.take(question.limit).collect(), whole_since, ..protocol::log::Answer::default() })
    }

    fn back_up(
        &self,
        _: &crate::store::backup::Origin,
        take: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<(), crate::store::backup::BackupError> {
        if take(b"all there is".to_vec()) { Ok(()) } else { Err(crate::store::backup::BackupError::Gone) }
    }

    fn verify(&self, _: &PeerId, _: &str) -> Result<crate::store::Verification, String> {
        Ok(crate::store::Verification::default())
    }

    fn inbox(&self, query: &InboxQuery) -> Result<Vec<InboxLetter>, String> {
        let world = self.world();
        let fits = |letter: &&InboxLetter| {
            letter.n > query.after
                && query.before.is_none_or(|before| letter.n < before)
                && (!query.unread || letter.read.is_none())
                && query.from.is_none_or(|from| letter.envelope().is_some_and(|envelope| envelope.author == from))
                && match query.kind {
                    InboxKind::All => true,
                    InboxKind::Letters => letter.envelope().is_some(),
                    InboxKind::Outcomes => letter.envelope().is_none(),
                }
        };
        let mut found: Vec<InboxLetter> = world.inbox.iter().filter(fits).cloned().collect();
        if query.newest {
            found.reverse();
        }
        found.truncate(query.limit);
        Ok(found)
    }

    fn inbox_by_id(&self, prefix: &str) -> Result<Vec<InboxLetter>, String> {
        Ok(self.world().inbox.iter().filter(|letter| letter.id.to_string().starts_with(prefix)).cloned().collect())
    }

    fn inbox_n(&self, n: u64) -> Result<Option<InboxLetter>, String> {
        Ok(self.world().inbox.iter().find(|letter| letter.n == n).cloned())
    }

    fn sent(&self, after_k: u64, limit: usize, newest: bool) -> Result<Vec<SentView>, String> {
        let mut found: Vec<SentView> = self.world().sent.iter().filter(|view| view.letter.k > after_k).cloned().collect();
        if newest {
            found.reverse();
        }
        found.truncate(limit);
        Ok(found)
    }

    fn sent_by_id(&self, prefix: &str) -> Result<Vec<SentView>, String> {
        Ok(self.world().sent.iter().filter(|view| view.letter.id.to_string().starts_with(prefix)).cloned().collect())
    }

    fn sent_k(&self, k: u64) -> Result<Option<SentView>, String> {
        Ok(self.world().sent.iter().find(|view| view.letter.k == k).cloned())
    }

    fn entries(&self, after_seq: u64, limit: usize) -> Result<Vec<(u64, u64, Entry)>, String> {
        Ok(self.world().entries.iter().filter(|(seq, ..)| *seq > after_seq).take(limit).cloned().collect())
    }

    fn counts(&self) -> Result<Counts, String> {
        let world = self.world();
        Ok(Counts {
            inbox: world.inbox.len() as u64,
            unread: 1,
            sent: world.sent.len() as u64,
            record: crate::store::RecordSize::default(),
            database_bytes: 5,
            free_bytes: 6,
        })
    }

    fn delivered_ids(&self, _: &PeerId, _: Epoch, first: u64, last: u64, limit: usize) -> Result<Vec<LetterId>, String> {
        Ok((first..=last).take(limit).map(letter_id).collect())
    }

    fn orders(&self, query: &OrderQuery) -> Result<Vec<OrderSummary>, String> {
        let world = self.world();
        let fits = |order: &&OrderSummary| {
            order.number > query.after
                && query.before.is_none_or(|before| order.number < before)
                && (!query.open || order.state.outcome.is_none())
        };
        let mut found: Vec<OrderSummary> = world.orders.iter().map(|(summary, _)| summary).filter(fits).cloned().collect();
        if query.newest {
            found.reverse();
        }
        found.truncate(query.limit);
        Ok(found)
    }

    fn order(&self, number: u64, after: u32, limit: usize) -> Result<Option<(OrderSummary, Vec<UnitEnd>)>, String> {
        let world = self.world();
        let found = world.orders.iter().find(|(summary, _)| summary.number == number);
        let ends = world.ends.range((number, after + 1)..=(number, u32::MAX)).take(limit);
        Ok(found.map(|(summary, _)| (summary.clone(), ends.map(|((_, unit), end)| UnitEnd { unit: *unit, end: end.clone() }).collect())))
    }

    fn unit_end(&self, number: u64, unit: u32) -> Result<Option<UnitEnd>, String> {
        Ok(self.world().ends.get(&(number, unit)).map(|end| UnitEnd { unit, end: end.clone() }))
    }

    fn whole_order(&self, number: u64) -> Result<Option<Order>, String> {
        Ok(self.world().orders.iter().find(|(summary, _)| summary.number == number).map(|(_, order)| order.clone()))
    }
}

/// A made-up node and its door.
struct Node {
    world: Arc<Mutex<World>>,
    next: watch::Sender<u64>,
    client: Client,
    dir: tempfile::TempDir,
    stop: CancellationToken,
}

impl Node {
    async fn start() -> Node {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let world = Arc::new(Mutex::new(World { available: true, ..World::default() }));
        let (asks, inbox) = mpsc::channel(256);
        let (next, watch) = watch::channel(1);
        tokio::spawn(drive(inbox, Arc::clone(&world)));
        let desk = Desk {
            asks,
            shelf: Arc::new(FakeShelf(Arc::clone(&world))),
            watch,
            notices: broadcast::channel(16).0,
            unreached: watch::channel(BTreeMap::new()).1,
            search: Arc::new(api::Search::default),
            about: About {
                record: crate::store::RecordLimits::default(),
                id: peer_id(1),
                version: "0.1.0".to_owned(),
                swarm: "lan".to_owned(),
                open: true,
                machine: MachineId::new([1; 16]),
                data_dir: dir.path().to_owned(),
                started: Timestamp(3_000),
            },
        };
        let stop = CancellationToken::new();
        tokio::spawn(serve(desk, Door::open(dir.path()).expect("nothing is in the way"), stop.clone()));
        Node { world, next, client: Client::new(dir.path()), dir, stop }
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().expect("no test panics while it holds the world")
    }

    fn receive(&self, n: u64, from: u8, text: &str) {
        let envelope = Envelope {
            kind: "message".to_owned(),
            author: peer_id(from),
            recipients: vec![peer_id(1)],
            payload: Payload::Text(text.to_owned()),
            timestamp: Timestamp(n),
            id: letter_id(n << 40),
            seq: Some(n),
            in_reply_to: None,
        };
        let place = Place { stream: u32::from(from), seq: n, twin: 0, n };
        let (id, content) = (envelope.id, Content::Letter(envelope));
        self.world().inbox.push(InboxLetter { n, id, place, missing_before: 0, received: Timestamp(n), read: None, content });
    }

    fn happen(&self, seq: u64, what: What) {
        self.world().entries.push((seq, u64::MAX, Entry { time: Timestamp(seq), what }));
        self.next.send_replace(seq + 1);
    }

    /// Speaks HTTP by hand: what our own client would never say.
    async fn raw(&self, text: &str) -> String {
        let mut stream = soon(UnixStream::connect(self.path())).await.expect("the door is open");
        soon(stream.write_all(text.as_bytes())).await.expect("the door listens");
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.expect("the door answers");
        answer
    }

    fn path(&self) -> std::path::PathBuf {
        super::socket::path(self.dir.path())
    }

    async fn problem(&self, method: &str, path: &str, body: &str) -> Problem {
        self.problem_of(method, path, "content-type: application/json\r\n", body).await
    }

    /// Says one request after the other on one connection, and waits for each answer.
    async fn in_turn(&self, requests: &[String]) -> Vec<String> {
        let mut stream = soon(UnixStream::connect(self.path())).await.expect("the door is open");
        let mut answers = Vec::new();
        for request in requests {
            soon(stream.write_all(request.as_bytes())).await.expect("the door listens");
            let mut answer = Vec::new();
            let whole = |answer: &[u8]| {
                let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length = head.split("content-length: ").nth(1)?.lines().next()?.parse::<usize>().ok()?;
                (body.len() >= length).then_some(())
            };
            while whole(&answer).is_none() {
                let mut some = [0; 4096];
                let read = soon(stream.read(&mut some)).await.expect("the door answers");
                assert!(read > 0, "the connection was closed after {}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&some[..read]);
            }
            answers.push(String::from_utf8_lossy(&answer).into_owned());
        }
        answers
    }

    async fn problem_of(&self, method: &str, path: &str, headers: &str, body: &str) -> Problem {
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        let answer = self.raw(&request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        assert!(head.to_ascii_lowercase().contains("application/problem+json"), "{path} {body}: {answer}");
        let problem: Problem = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {}", problem.code.status())), "{head}");
        problem
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn drive(mut asks: mpsc::Receiver<Ask>, world: Arc<Mutex<World>>) {
    while let Some(ask) = asks.recv().await {
        let mut world = world.lock().expect("no test panics while it holds the world");
        match ask {
            Ask::Status(reply) => {
                let as_told = |peer: PeerStatus| PeerStatus {
                    denial: world.blocked_by.contains(&peer.id).then_some(Denial::Blocked),
                    machine: if world.one_machine { MachineId::new([1; 16]) } else { peer.machine },
                    ..peer
                };
                let _ = reply.send(Status {
                    id: peer_id(1),
                    name: "markus".parse().expect("a name"),
                    epoch: Epoch(u64::MAX),
                    boot: 1,
                    available: world.available,
                    inactive: false,
                    cloned: false,
                    addresses: vec!["/ip4/10.0.0.1/tcp/6174".to_owned()],
                    peers: [
                        peer_status(2, "nikki-pi", true),
                        peer_status(3, "ada", false),
                        peer_status(4, "bob", true),
                        peer_status(5, "bob", false),
                    ]
                    .map(as_told)
                    .to_vec(),
                    outbox_letters: 0,
                    outbox_bytes: 0,
                    held_bundles: 12,
                    held_bytes: 3_400_000,
                    next_entry: 1,
                    next_n: 1,
                    disk: Disk::Enough,
                    refused: BTreeMap::new(),
                    leader: world.leader.map(|leader| LeaderStatus {
                        fence: Fence { term: 3, leader },
                        for_: Duration::from_secs(5),
                        standbys: Vec::new(),
                    }),
                    worker: WorkerStatus {
                        offers: world.offers.iter().map(|offer| (offer.clone(), 1, 0)).collect(),
                        running: world.offers.len() as u32,
                        queued: 0,
                        draining: false,
                    },
                    statistics: statistics(),
                    open_orders: world.views.len() as u64,
                    queued_orders: 0,
                });
            }
            Ask::Order(number, reply) => {
                let _ = reply.send(world.views.get(&number).cloned());
            }
            Ask::Orders { after, most, reply } => {
                let _ = reply.send(world.views.range(after + 1..).take(most).map(|(_, view)| view.clone()).collect());
            }
            Ask::Connect { address, reply } => {
                let _ = reply.send(if address.contains("10.0.0.2") {
                    Ok("nikki-pi".to_owned())
                } else {
                    Err(Unreached::NoHost("x".to_owned()))
                });
            }
            Ask::Stop => world.stopped = true,
            Ask::Command { command, reply } => {
                let answer = answer(&mut world, &command);
                world.commands.push(command);
                let _ = reply.send(answer);
            }
        }
    }
}

fn answer(world: &mut World, command: &Command) -> Answer {
    match command {
        Command::Send(new) => {
            if new.payload == Payload::Text(String::new()) {
                return Answer::Refused(Refusal::Empty);
            }
            if let Some(Addressee::Name(name)) = new.to.first()
                && name.as_str() == "niki-pi"
                && !new.later
            {
                return Answer::Refused(Refusal::Unknown { name: name.to_string(), nearest: vec!["nikki-pi".to_owned()] });
            }
            if let Some(k) = new.key.as_ref().and_then(|key| world.keys.get(key)) {
                return Answer::Accepted { letter: letter_id(*k), k: *k, repeated: true };
            }
            let k = world.sent.len() as u64 + 1;
            if let Some(key) = &new.key {
                world.keys.insert(key.clone(), k);
            }
            let delivery = |to: &Addressee| {
                let (name, peer) = match to {
                    Addressee::Name(name) if name.as_str() == "niki-pi" => (name.clone(), None),
                    Addressee::Name(name) if name.as_str() == "ada" => (name.clone(), Some(peer_id(3))),
                    Addressee::Name(name) | Addressee::Ending(name, _) => (name.clone(), Some(peer_id(2))),
                    Addressee::Id(id) => ("x".parse().expect("a name"), Some(*id)),
                };
                Delivery { name, peer, state: State::Accepted, at: None, discarding: false, holders: Vec::new() }
            };
            let letter = SentLetter {
                k,
                id: letter_id(k),
                kind: new.kind.clone(),
                payload: new.payload.clone(),
                timestamp: Timestamp(k),
                in_reply_to: new.in_reply_to,
                to: Vec::new(),
            };
            world.sent.push(SentView { letter, deliveries: new.to.iter().map(delivery).collect() });
            Answer::Accepted { letter: letter_id(k), k, repeated: false }
        }
        Command::Order(new) => place(world, new),
        Command::Cancel(numbers) => cancel(world, numbers),
        Command::Offer(offering) => {
            world.offers.retain(|offer| offer.card.name != offering.card.name);
            world.offers.push((**offering).clone());
            Answer::Done
        }
        Command::Withdraw(name) => {
            let before = world.offers.len();
            world.offers.retain(|offer| offer.card.name != *name);
            if world.offers.len() < before { Answer::Done } else { Answer::Refused(Refusal::NotOffered(name.to_string())) }
        }
        Command::FindProviders(_) => Answer::Named(world.named.clone()),
        Command::Transfer(_) if world.leader != Some(peer_id(1)) => Answer::Refused(Refusal::NotLeading),
        Command::Ask { to, .. } if world.silent.contains(to) => Answer::Refused(Refusal::NoAnswer),
        Command::Ask { to, question } => Answer::Results(Box::new(results(world, *to, question))),
        Command::Discard(letter) => {
            let Some(view) = world.sent.iter_mut().find(|view| view.letter.k == letter.k) else { return Answer::Done };
            if view.deliveries.iter().all(|delivery| delivery.state >= State::Delivered) {
                return Answer::Refused(Refusal::Delivered { letter: letter.id });
            }
            view.deliveries.iter_mut().filter(|delivery| delivery.state < State::Delivered).for_each(|delivery| {
                delivery.state = State::Discarded;
            });
            Answer::Discarded { delivered: 0 }
        }
        Command::MarkRead { letters } => {
            for letter in &mut world.inbox {
                if letters.contains(&letter.place) {
                    letter.read = Some(Timestamp(9_000));
                }
            }
            Answer::Done
        }
        Command::SetAvailable(yes) => {
            world.available = *yes;
            Answer::Done
        }
        _ => Answer::Done,
    }
}

fn place(world: &mut World, new: &protocol::input::NewOrder) -> Answer {
    if new.once {
        return Answer::Refused(Refusal::Once);
    }
    if new.expires.is_some_and(|expires| expires > protocol::config::limits::ORDER_EXPIRES) {
        return Answer::Refused(Refusal::ExpiresLate { days: 36_600 });
    }
    if new.args.iter().any(|arg| arg.contains('\0')) {
        return Answer::Refused(Refusal::Nul);
    }
    if new.args.len() > limits::ORDER_ARGS {
        return Answer::Refused(Refusal::OrderTooLarge { what: format!("{} arguments", new.args.len()), limit: limits::ORDER_ARGS });
    }
    if new.key.as_deref() == Some("in use") {
        return Answer::Refused(Refusal::KeyInUse);
    }
    if let Some(number) = new.key.as_ref().and_then(|key| world.keys.get(key)) {
        return Answer::Placed { number: *number, repeated: true };
    }
    let number = world.orders.len() as u64 + 1;
    if let Some(key) = &new.key {
        world.keys.insert(key.clone(), number);
    }
    let order = Order {
        orderer: peer_id(1),
        epoch: Epoch(7),
        number,
        service: new.service.clone(),
        args: new.args.clone(),
        items: new.items.clone(),
        stdin: new.stdin.clone().map(serde_bytes::ByteBuf::from),
        priority: new.priority,
        needs: new.needs.clone(),
        once: false,
        placed: Timestamp(1_000),
    };
    let state = OrderState {
        number,
        epoch: Epoch(7),
        expires_at: new.expires.map(|_| Timestamp(9_000)),
        cancelled: None,
        done: Ranges::default(),
        failed: Ranges::default(),
        dropped: Ranges::default(),
        outcome: None,
    };
    let summary = OrderSummary {
        number,
        epoch: Epoch(7),
        service: order.service.clone(),
        args: order.args.clone(),
        priority: order.priority,
        needs: order.needs.clone(),
        once: false,
        placed: order.placed,
        units: order.units(),
        has_items: !order.items.is_empty(),
        stdin_bytes: order.stdin.as_ref().map(|stdin| stdin.len() as u64),
        state: state.clone(),
    };
    world.orders.push((summary, order));
    world.views.insert(number, OrderView { state, queued: None, not_queued: None, running: Vec::new() });
    Answer::Placed { number, repeated: false }
}

fn cancel(world: &mut World, numbers: &[u64]) -> Answer {
    let mut answers = Vec::new();
    for number in numbers {
        let Some((summary, _)) = world.orders.iter_mut().find(|(summary, _)| summary.number == *number) else {
            return Answer::Refused(Refusal::NoSuchOrder { number: *number });
        };
        let ended = summary.state.outcome.as_ref().map(|outcome| outcome.end);
        if ended.is_none() {
            summary.state.cancelled = Some((Timestamp(8_000), false));
        }
        answers.push((*number, ended));
    }
    Answer::Cancelling(answers)
}

fn results(world: &World, to: PeerId, question: &Question) -> Results {
    match question {
        Question::Services => Results::Services(services(["coffee"])),
        Question::Peers { after } => {
            let seen =
                |n: u8| Seen { peer: peer_id(n), name: "ada".parse().expect("a name"), available: true, inactive: false, for_ms: 1_500 };
            // Two pages.
            let peers = if after.is_none() { vec![seen(1), seen(3)] } else { vec![seen(5)] };
            Results::Peers { peers, more: after.is_none() }
        }
        Question::Availability { .. } if world.idle.contains(&to) => {
            Results::Availability(Availability { available: false, why: Some(Lack::NotOffered), ..Availability::default() })
        }
        Question::Availability { .. } => Results::Availability(Availability {
            available: false,
            why: Some(Lack::Full),
            remaining: 5,
            eta_ms: Some(7_400),
            basis: 4,
            running: 2,
            limit: 2,
            cores: (4, 1),
            memory_bytes: (4 << 30, 1 << 30),
            software: BTreeSet::new(),
        }),
        Question::Statistics => Results::Statistics { statistics: statistics(), running: 2, queued: 3, up_ms: 1_500 },
        Question::Tasks { after } if world.leader == Some(to) => {
            let rest: Vec<&Standing> = world.standings.iter().filter(|standing| Some(standing.order) > *after).collect();
            Results::Tasks { more: rest.len() > 2, tasks: rest.into_iter().take(2).cloned().collect() }
        }
        Question::Task(key) if world.leader == Some(to) => {
            Results::Task(world.standings.iter().find(|standing| standing.order == *key).cloned())
        }
        Question::Output { from, .. } if !world.output.is_empty() => {
            let from = usize::try_from(*from).unwrap_or(usize::MAX).min(world.output.len());
            let page = &world.output[from..world.output.len().min(from + 40_000)];
            Results::Output { bytes: page.to_vec().into(), more: from + page.len() < world.output.len() }
        }
        _ => Results::NotHere,
    }
}

fn hello(to: &str) -> serde_json::Value {
    serde_json::json!({"to": [to], "payload": "Hello"})
}

#[tokio::test]
async fn a_letter_is_accepted_and_shown_as_far_as_it_got() {
    let node = Node::start().await;
    let letter: api::Letter = soon(node.client.post("/v1/letters", &hello("nikki-pi"))).await.expect("accepted");
    assert_eq!((letter.envelope.author.as_str(), letter.envelope.kind.as_str(), letter.delivered), ("markus", "message", false));
    assert_eq!(letter.deliveries[0].why, Some(api::Why::AwaitingReceipt));
    let why = async |to: &str, later: bool| {
        let new = serde_json::json!({"to": [to], "payload": "Hello", "later": later});
        let letter: api::Letter = soon(node.client.post("/v1/letters", &new)).await.expect("accepted");
        letter.deliveries[0].why
    };
    assert_eq!(why("ada", false).await, Some(api::Why::Away));
    assert_eq!(why("niki-pi", true).await, Some(api::Why::NameNotKnown));
    assert_eq!(why(&peer_id(9).to_string(), false).await, Some(api::Why::NeverMet));
}

#[tokio::test]
async fn a_receipt_ends_the_wait() {
    let node = Node::start().await;
    let letter: api::Letter = soon(node.client.post("/v1/letters", &hello("nikki-pi"))).await.expect("accepted");
    {
        let mut world = node.world();
        world.sent[0].deliveries[0].state = State::Delivered;
        world.sent[0].deliveries[0].at = Some(Timestamp(7));
    }
    let letter: api::Letter = soon(node.client.get(&format!("/v1/sent/{}", letter.envelope.id))).await.expect("it is there");
    assert!(letter.delivered && letter.deliveries[0].done && letter.deliveries[0].why.is_none());
    assert_eq!(letter.deliveries[0].confirmed_at.as_deref(), Some("1970-01-01T00:00:00.007Z"));
}

#[tokio::test]
async fn machines_that_hold_a_letter_are_counted_and_not_nodes() {
    let node = Node::start().await;
    let letter: api::Letter = soon(node.client.post("/v1/letters", &hello("ada"))).await.expect("accepted");
    let path = format!("/v1/sent/{}", letter.envelope.id);
    let check = async |holders: &[(u8, u8, u64)], expected: (api::State, u32, u32, Option<&str>, usize)| {
        let holder = |&(n, machine, at): &(u8, u8, u64)| Holder {
            peer: peer_id(n),
            machine: MachineId::new([machine; 16]),
            epoch: Epoch(1),
            at: Timestamp(at),
        };
        node.world().sent[0].deliveries[0].holders = holders.iter().map(holder).collect();
        let letter: api::Letter = soon(node.client.get(&path)).await.expect("it is there");
        let api::Delivery { state, held_by, of, confirmed_at, why, why_not_held, done, .. } = &letter.deliveries[0];
        assert_eq!((*why, *done, letter.delivered), (Some(api::Why::Away), false, false));
        assert_eq!((*state, *held_by, *of, confirmed_at.as_deref(), why_not_held.len()), expected, "{holders:?}");
    };
    // Here are nikki-pi on machine 2 and a bob on machine 4; this node is on machine 1.
    check(&[], (api::State::Accepted, 0, 2, None, 1)).await;
    check(&[(6, 1, 5)], (api::State::Accepted, 0, 2, None, 1)).await;
    check(&[(2, 2, 5)], (api::State::Held, 1, 2, Some("1970-01-01T00:00:00.005Z"), 1)).await;
    check(&[(2, 2, 5), (7, 2, 9)], (api::State::Held, 1, 2, Some("1970-01-01T00:00:00.009Z"), 1)).await;
    check(&[(2, 2, 5), (4, 4, 3)], (api::State::Held, 2, 2, Some("1970-01-01T00:00:00.003Z"), 1)).await;
    // Who has left holds it all the same; three are enough, the latest count.
    check(&[(2, 2, 5), (4, 4, 3), (7, 7, 6), (8, 8, 9)], (api::State::Held, 3, 3, Some("1970-01-01T00:00:00.005Z"), 0)).await;
    let status: api::Status = soon(node.client.get("/v1/status")).await.expect("it answers");
    assert_eq!((status.letters.held_bundles, status.letters.held_bytes), (12, 3_400_000));
}

#[tokio::test]
async fn machines_that_report_this_one_are_not_called_absent() {
    let node = Node::start().await;
    node.world().one_machine = true;
    let letter: api::Letter = soon(node.client.post("/v1/letters", &hello("ada"))).await.expect("accepted");
    let why = &letter.deliveries[0].why_not_held;
    assert!(why.contains(&api::WhyNotHeld::SameMachine) && !why.contains(&api::WhyNotHeld::NoOtherMachine), "{why:?}");
}

#[tokio::test]
async fn what_is_blocked_is_parked_until_it_is_discarded_and_services_there_are_not_for_this_node() {
    let node = Node::start().await;
    let letter: api::Letter = soon(node.client.post("/v1/letters", &hello("nikki-pi"))).await.expect("accepted");
    node.world().blocked_by.insert(peer_id(2));
    let shown = async || -> api::Delivery {
        let one: api::Letter = soon(node.client.get(&format!("/v1/sent/{}", letter.envelope.id))).await.expect("it is there");
        let all: Vec<api::Letter> = soon(node.client.get("/v1/sent")).await.expect("a list");
        assert_eq!(all, std::slice::from_ref(&one), "the same everywhere");
        one.deliveries[0].clone()
    };
    assert_eq!((shown().await.state, shown().await.why), (api::State::Parked, Some(api::Why::Blocked)));
    node.world().sent[0].deliveries[0].discarding = true;
    assert_eq!((shown().await.state, shown().await.why), (api::State::Accepted, Some(api::Why::Discarding)));
    let services: Vec<api::Service> = soon(node.client.get("/v1/services")).await.expect("a list");
    assert!(services.iter().all(|service| service.worker != "nikki-pi" || !service.allowed), "{services:?}");
}

#[tokio::test]
async fn a_key_makes_a_letter_one() {
    let node = Node::start().await;
    let request = |key: &str| {
        let body = r#"{"to":["ada"],"payload":"x"}"#;
        format!(
            "POST /v1/letters HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\nidempotency-key: {key}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    assert!(node.raw(&request("k")).await.starts_with("HTTP/1.1 201"));
    assert!(node.raw(&request("k")).await.starts_with("HTTP/1.1 200"));
    assert_eq!(node.world().sent.len(), 1);
    let twice = node.problem_of(
        "POST",
        "/v1/letters",
        "content-type: application/json\r\nidempotency-key: a\r\n",
        r#"{"to":["ada"],"payload":"x","key":"b"}"#,
    );
    assert_eq!(twice.await.code, Code::BadKey);
}

#[tokio::test]
async fn everything_that_is_not_understood_is_refused_and_nothing_is_kept() {
    let node = Node::start().await;
    let large = format!(r#"{{"to":["ada"],"payload":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    for (method, path, body, code) in [
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":"x","untill":"read"}"#, Code::Malformed),
        ("POST", "/v1/letters", r#"{"to":["ada"],"to":["bob"],"payload":"x"}"#, Code::Malformed),
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":{"a":1,"a":2}}"#, Code::Malformed),
        ("POST", "/v1/letters", "{", Code::Malformed),
        ("POST", "/v1/letters", "", Code::Malformed),
        ("POST", "/v1/letters", "\u{0}", Code::Malformed),
        ("POST", "/v1/letters", r#"{"to":["a b"],"payload":"x"}"#, Code::BadName),
        ("POST", "/v1/letters", r#"{"to":["-a"],"payload":"x"}"#, Code::BadName),
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":"x","in_reply_to":"zzz"}"#, Code::Malformed),
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":"x","in_reply_to":"zzzz"}"#, Code::UnknownLetter),
        ("POST", "/v1/letters", r#"{"to":["ada"],"payload":""}"#, Code::Empty),
        ("POST", "/v1/letters", r#"{"to":["niki-pi"],"payload":"x"}"#, Code::UnknownPeer),
        ("POST", "/v1/letters", &large, Code::TooLarge),
        ("POST", "/v1/letters?dry=1", r#"{"to":["ada"],"payload":"x"}"#, Code::Malformed),
        ("GET", "/v1/letters", "", Code::MethodNotAllowed),
        ("DELETE", "/v1/status", "", Code::MethodNotAllowed),
        ("GET", "/v1/statuss", "", Code::NoSuchRoute),
        ("GET", "/", "", Code::NoSuchRoute),
        ("GET", "/v1/status?x=1", "", Code::Malformed),
        ("GET", "/v1/inbox?limit=0", "", Code::Malformed),
        ("GET", "/v1/inbox?limit=1001", "", Code::Malformed),
        ("GET", "/v1/inbox?limit=-1", "", Code::Malformed),
        ("GET", "/v1/inbox?limit=5&limit=6", "", Code::Malformed),
        ("GET", "/v1/inbox?untread=true", "", Code::Malformed),
        ("GET", "/v1/inbox?from=niki-pi", "", Code::UnknownPeer),
        ("GET", "/v1/inbox?from=a%20b", "", Code::BadName),
        ("GET", "/v1/inbox?from=bob", "", Code::AmbiguousPeer),
        ("GET", "/v1/sent/%ff", "", Code::Malformed),
        ("GET", "/v1/sent/zzz", "", Code::Malformed),
        ("GET", "/v1/sent/ilou", "", Code::Malformed),
        ("GET", "/v1/sent/zzzz", "", Code::UnknownLetter),
        ("GET", "/v1/sent?newest=true&after=1", "", Code::Malformed),
        ("GET", "/v1/events?after=x", "", Code::Malformed),
        ("POST", "/v1/inbox/read", r#"{"n":[7]}"#, Code::UnknownLetter),
        ("POST", "/v1/inbox/read", r#"{"n":["7"]}"#, Code::Malformed),
        ("POST", "/v1/inbox/read", r#"{"number":[7]}"#, Code::Malformed),
        ("PUT", "/v1/presence", r#"{"available":"no"}"#, Code::Malformed),
        ("PUT", "/v1/presence", r#"{"availible":false}"#, Code::Malformed),
        ("PUT", "/v1/name", r#"{"name":"a b"}"#, Code::BadName),
        ("PUT", "/v1/name", r#"{"name":"all"}"#, Code::BadName),
        ("POST", "/v1/connect", r#"{"address":"a b"}"#, Code::BadAddress),
        ("POST", "/v1/connect", r#"{"address":"/ip4/bogus"}"#, Code::BadAddress),
        ("POST", "/v1/connect", r#"{"address":"10.0.0.9"}"#, Code::NotReached),
    ] {
        let problem = node.problem(method, path, body).await;
        assert_eq!(problem.code, code, "{method} {path} {}: {problem:?}", &body[..body.len().min(80)]);
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let header = format!("content-type: {kind}\r\n");
        assert_eq!(node.problem_of("POST", "/v1/letters", &header, "{}").await.code, Code::UnsupportedMediaType);
        assert_eq!(node.problem_of("POST", "/v1/letters/batch", &header, "{}").await.code, Code::UnsupportedMediaType);
    }
    assert_eq!(node.problem_of("POST", "/v1/letters", "", "{}").await.code, Code::UnsupportedMediaType);
    let world = node.world();
    assert!(world.sent.is_empty() && !world.stopped, "nothing was kept");
    assert!(world.commands.iter().all(|command| matches!(command, Command::Send(_))), "only the node itself refuses letters");
}

#[tokio::test]
async fn bytes_that_are_not_http_do_no_harm() {
    let node = Node::start().await;
    for text in ["\u{0}\u{1}\u{2}\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000))] {
        let _ = node.raw(text).await;
    }
    let headers = "a: b\r\n".repeat(1_000);
    assert!(node.raw(&format!("GET /v1/status HTTP/1.1\r\n{headers}\r\n")).await.starts_with("HTTP/1.1 4"));
    let _: api::Status = soon(node.client.get("/v1/status")).await.expect("it still answers");
}

#[tokio::test]
async fn names_that_fit_several_or_nobody_come_with_candidates() {
    let node = Node::start().await;
    let ambiguous = node.problem("GET", "/v1/inbox?from=bob", "").await;
    let expected: Vec<String> = [4, 5].map(|n| protocol::name::distinct(&"bob".parse().expect("a name"), &peer_id(n))).to_vec();
    assert_eq!(ambiguous.candidates, expected);
    let hint = ambiguous.hint.unwrap_or_default();
    assert!(hint.contains(&format!("{} is here", expected[0])) && hint.contains(&format!("{} is away, last seen", expected[1])), "{hint}");
    let unknown = node.problem("GET", "/v1/inbox?from=nikki-pie", "").await;
    assert_eq!(unknown.candidates, ["nikki-pi"]);
    let _: Vec<api::InboxEntry> = soon(node.client.get(&format!("/v1/inbox?from={}", expected[0]))).await.expect("that is one of them");
}

#[tokio::test]
async fn beginnings_of_ids_must_be_of_one_letter() {
    let node = Node::start().await;
    for _ in 0..2 {
        let _: api::Letter = soon(node.client.post("/v1/letters", &hello("ada"))).await.expect("accepted");
    }
    let ids = [letter_id(1).to_string(), letter_id(2).to_string()];
    let problem = node.problem("GET", &format!("/v1/sent/{}", &ids[0][..4]), "").await;
    assert_eq!((problem.code, problem.candidates), (Code::AmbiguousLetter, ids.to_vec()));
    let found: api::Letter = soon(node.client.get(&format!("/v1/sent/{}", ids[1].to_ascii_uppercase()))).await.expect("the whole id");
    assert_eq!(found.envelope.id, ids[1]);
}

#[tokio::test]
async fn pages_follow_one_another_to_the_end() {
    let node = Node::start().await;
    for n in 1..=250 {
        node.receive(n, if n % 2 == 0 { 2 } else { 3 }, "Hello");
    }
    let first = soon(node.client.page::<Vec<api::InboxEntry>>("/v1/inbox")).await.expect("a page");
    assert_eq!((first.body.len(), first.next.as_deref()), (100, Some("/v1/inbox?limit=100&after=100")));
    let numbers = async |path: &str| -> Vec<u64> {
        soon(node.client.all::<api::InboxEntry>(path)).await.expect("pages").iter().map(|entry| entry.n).collect()
    };
    assert_eq!(numbers("/v1/inbox").await, (1..=250).collect::<Vec<_>>());
    assert_eq!(numbers("/v1/inbox?limit=7&after=200").await, (201..=250).collect::<Vec<_>>());
    assert_eq!(numbers("/v1/inbox?limit=50&newest=true").await, (1..=250).rev().collect::<Vec<_>>());
    assert_eq!(numbers("/v1/inbox?limit=9&from=nikki-pi&unread=true").await, (1..=125).map(|n| n * 2).collect::<Vec<_>>());
    let peers = soon(node.client.page::<Vec<api::Peer>>("/v1/peers?all=true&limit=3")).await.expect("a page");
    assert!(peers.body.len() == 3 && peers.next.is_some());
    assert_eq!(soon(node.client.all::<api::Peer>("/v1/peers?all=true&limit=1")).await.expect("pages").len(), 4);
    assert_eq!(soon(node.client.all::<api::Peer>("/v1/peers")).await.expect("pages").len(), 2);
    for _ in 0..5 {
        let _: api::Letter = soon(node.client.post("/v1/letters", &hello("ada"))).await.expect("accepted");
    }
    assert_eq!(soon(node.client.all::<api::Letter>("/v1/sent?limit=2")).await.expect("pages").len(), 5);
}

#[tokio::test]
async fn reading_marks_all_or_none() {
    let node = Node::start().await;
    node.receive(1, 2, "Hello");
    node.receive(2, 2, "again");
    let some = serde_json::json!({"n": [1, 7]});
    let refused = soon(node.client.post::<Vec<api::InboxEntry>>("/v1/inbox/read", &some)).await;
    assert!(matches!(refused, Err(Error::Refused(problem)) if problem.code == Code::UnknownLetter));
    assert!(node.world().inbox.iter().all(|letter| letter.read.is_none()));
    let both = serde_json::json!({"ids": [letter_id(1 << 40).to_string()], "n": [2]});
    let read: Vec<api::InboxEntry> = soon(node.client.post("/v1/inbox/read", &both)).await.expect("marked");
    assert_eq!(read.iter().map(|entry| entry.read_at.is_some()).collect::<Vec<_>>(), [true, true]);
    assert_eq!(node.world().commands.len(), 1);
    let _: Vec<api::InboxEntry> = soon(node.client.post("/v1/inbox/read", &both)).await.expect("they are read");
    assert_eq!(node.world().commands.len(), 1, "nothing was left to be marked");
}

#[tokio::test]
async fn a_letter_is_discarded_by_its_id_and_every_refusal_says_why() {
    let node = Node::start().await;
    for text in ["one", "two"] {
        let new = serde_json::json!({"to": ["ada"], "payload": text});
        let _: api::Letter = soon(node.client.post("/v1/letters", &new)).await.expect("accepted");
    }
    let refused = async |path: &str| match soon(node.client.take_back::<api::Letter>(path)).await {
        Err(Error::Refused(problem)) => problem.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("/v1/letters/zzzz").await, Code::UnknownLetter);
    assert_eq!(refused("/v1/letters/x").await, Code::Malformed);
    assert_eq!(refused("/v1/letters/0000").await, Code::AmbiguousLetter);
    let path = format!("/v1/letters/{}", letter_id(1));
    let letter: api::Letter = soon(node.client.take_back(&path)).await.expect("discarded");
    assert_eq!(letter.deliveries[0].state, api::State::Discarded);
    assert!(letter.deliveries[0].done && !letter.delivered);
    node.world().sent[1].deliveries[0].state = State::Delivered;
    assert_eq!(refused(&format!("/v1/letters/{}", letter_id(2))).await, Code::Delivered);
}

#[tokio::test]
async fn a_batch_is_answered_line_by_line_in_order() {
    let node = Node::start().await;
    let mut text = String::new();
    for n in 0..5_000 {
        text += match n {
            17 => "{\"to\":[\"niki-pi\"],\"payload\":\"x\"}\r\n",
            18 => "nonsense\n",
            19 => "\n",
            20 => "{\"to\":[\"a b\"],\"payload\":\"x\"}\n",
            _ => "{\"to\":[\"ada\"],\"payload\":\"x\"}\n",
        };
    }
    text += "{\"to\":[\"ada\"],\"payload\":\"the last has no line end\"}";
    // In odd pieces, so that lines are cut everywhere.
    let pieces: Vec<_> = text.into_bytes().chunks(1_013).map(Bytes::copy_from_slice).collect();
    let body = StreamBody::new(stream::iter(pieces.into_iter().map(|piece| Ok(Frame::data(piece)))));
    let mut lines = soon(node.client.batch("/v1/letters/batch", body)).await.expect("it begins");
    let mut answers = Vec::new();
    while let Some(line) = soon(lines.next()).await.expect("it goes on") {
        answers.push(line);
    }
    assert_eq!(answers.len(), 5_000, "one for each line but the empty one");
    let problems: Vec<Problem> = answers[17..20].iter().map(|line| serde_json::from_slice(line).expect("a problem")).collect();
    assert_eq!(
        problems.iter().map(|problem| (problem.line, problem.code)).collect::<Vec<_>>(),
        [(Some(18), Code::UnknownPeer), (Some(19), Code::Malformed), (Some(21), Code::BadName)]
    );
    let accepted = answers.iter().filter_map(|line| serde_json::from_slice::<api::BatchAccepted>(line).ok());
    let lines = (1..=5_001).filter(|line| !(18..=21).contains(line));
    let expected: Vec<(u64, String)> = lines.zip((1..=4_997).map(|k| letter_id(k).to_string())).collect();
    assert_eq!(accepted.map(|accepted| (accepted.line, accepted.id)).collect::<Vec<_>>(), expected);
    assert_eq!(node.world().sent.len(), 4_997);
}

#[tokio::test]
async fn orders_by_the_line_are_numbered_in_order_and_one_that_is_refused_harms_no_other() {
    let node = Node::start().await;
    let lines = [
        r#"{"service":"coffee","args":["latte"]}"#,
        r#"{"service":"-","args":[]}"#,
        r#"{"service":"coffee","priority":4}"#,
        r#"{"to":["ada"],"payload":"a letter"}"#,
        r#"{"service":"coffee","key":"monday"}"#,
        r#"{"service":"coffee","key":"monday"}"#,
        r#"{"service":"resize","items":["a","b"]}"#,
        r#"["coffee",["latte"]]"#,
        r#"{"service":"tea","key":"in use"}"#,
    ];
    let body = StreamBody::new(stream::iter(lines.map(|line| Ok(Frame::data(Bytes::from(format!("{line}\n")))))));
    let mut answers = soon(node.client.batch("/v1/orders/batch", body)).await.expect("it begins");
    let mut told = Vec::new();
    while let Some(line) = soon(answers.next()).await.expect("it goes on") {
        told.push(match serde_json::from_slice::<api::BatchPlaced>(&line) {
            Ok(placed) => Ok((placed.line, placed.order)),
            Err(_) => {
                let problem = serde_json::from_slice::<Problem>(&line).expect("a problem");
                let said = format!("{} {}", problem.detail, problem.hint.unwrap_or_default());
                assert!(!said.contains("letter") && !said.contains("sent") || problem.code == Code::Malformed, "{said}");
                Err((problem.line, problem.code))
            }
        });
    }
    let bad = |line, code| Err((Some(line), code));
    assert_eq!(
        told,
        [
            Ok((1, 1)),
            bad(2, Code::BadName),
            bad(3, Code::Malformed),
            bad(4, Code::Malformed),
            Ok((5, 2)),
            Ok((6, 2)),
            Ok((7, 3)),
            bad(8, Code::Malformed),
            bad(9, Code::KeyReused)
        ],
        "the same key is the same order"
    );
    assert_eq!(node.world().orders.len(), 3);
}

#[tokio::test]
async fn a_client_that_writes_all_before_it_reads_is_served() {
    let node = Node::start().await;
    let body = "{\"to\":[\"ada\"],\"payload\":\"x\"}\n".repeat(20_000);
    let head = format!(
        "POST /v1/letters/batch HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = node.raw(&(head + &body)).await;
    assert_eq!(answer.matches(",\"id\":\"").count(), 20_000);
}

#[tokio::test]
async fn a_line_without_end_is_cut_off() {
    let node = Node::start().await;
    let pieces = stream::iter((0..40).map(|_| Ok(Frame::data(Bytes::from(vec![b'x'; 64 * 1024])))));
    let mut lines = soon(node.client.batch("/v1/letters/batch", StreamBody::new(pieces))).await.expect("it begins");
    let line = soon(lines.next()).await.expect("it answers").expect("with a line");
    assert_eq!(serde_json::from_slice::<Problem>(&line).expect("a problem").code, Code::TooLarge);
}

#[tokio::test]
async fn events_are_told_as_they_happen_and_again_from_any_of_them() {
    let node = Node::start().await;
    let name: protocol::name::PeerName = "nikki-pi".parse().expect("a name");
    node.happen(1, What::Started { boot: 1, epoch: Epoch(u64::MAX) });
    let mut events = soon(node.client.events(None)).await.expect("it begins");
    node.happen(2, What::PeerCame { peer: peer_id(2), name });
    node.happen(3, What::LettersDelivered { to: peer_id(2), epoch: Epoch(1), first: 5, last: 6 });
    let second = soon(events.next()).await.expect("it goes on").expect("an event");
    assert_eq!((second.seq, called(&second.what).as_str(), second.chain.as_str()), (2, "peer_came", "18446744073709551615"));
    let third = soon(events.next()).await.expect("it goes on").expect("an event");
    let api::What::LettersDelivered { to, letters, more, .. } = third.what else { panic!("{third:?}") };
    assert_eq!((to.as_str(), letters, more), ("nikki-pi", vec![letter_id(5).to_string(), letter_id(6).to_string()], false));
    let mut again = soon(node.client.events(Some(0))).await.expect("it begins");
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(soon(again.next()).await.expect("it goes on").expect("an event").seq);
    }
    assert_eq!(seen, [1, 2, 3]);
}

#[tokio::test]
async fn what_becomes_of_mail_is_told() {
    let node = Node::start().await;
    let mut events = soon(node.client.events(None)).await.expect("it begins");
    let (recipient, depositor) = (peer_id(2), peer_id(3));
    node.happen(1, What::LettersHeld { to: peer_id(2), epoch: Epoch(1), first: 5, last: 5, by: peer_id(3) });
    node.happen(2, What::MailTaken { recipient, depositor, bundles: 2, bytes: 900 });
    node.happen(3, What::MailReleased { recipient, depositor, bundles: 1 });
    node.happen(4, What::MailWithdrawn { recipient, depositor, bundles: 1 });
    node.happen(5, What::MailHandedOver { recipient, depositor, bundles: 1 });
    let mut told = Vec::new();
    for _ in 0..5 {
        told.push(soon(events.next()).await.expect("it goes on").expect("an event").what);
    }
    assert_eq!(
        told.iter().map(called).collect::<Vec<_>>(),
        ["letters_held", "mail_taken", "mail_released", "mail_withdrawn", "mail_handed_over"]
    );
    let api::What::LettersHeld { to, by, letters, more, .. } = &told[0] else { panic!("{told:?}") };
    assert_eq!((to.as_str(), by.as_str(), letters, *more), ("nikki-pi", "ada", &vec![letter_id(5).to_string()], false));
    let api::What::MailTaken { recipient, depositor, bundles: 2, bytes: 900, .. } = &told[1] else { panic!("{told:?}") };
    assert_eq!((recipient.as_str(), depositor.as_str()), ("nikki-pi", "ada"));
}

#[tokio::test]
async fn last_event_id_resumes_and_names_each_event() {
    let node = Node::start().await;
    node.happen(1, What::Stopped);
    node.happen(2, What::Refused { cause: "x".to_owned(), count: 1 });
    let mut stream = soon(UnixStream::connect(node.path())).await.expect("the door is open");
    let request = "GET /v1/events HTTP/1.1\r\nhost: x\r\nlast-event-id: 1\r\n\r\n";
    soon(stream.write_all(request.as_bytes())).await.expect("the door listens");
    let mut text = String::new();
    while !text.contains("\"count\":1") {
        let mut some = [0; 1024];
        let read = soon(stream.read(&mut some)).await.expect("the door answers");
        assert!(read > 0, "{text}");
        text += &String::from_utf8_lossy(&some[..read]);
    }
    assert!(text.contains("text/event-stream") && text.contains("id: 2\n") && text.contains("event: refused\n"), "{text}");
    assert!(!text.contains("stopped"), "{text}");
}

#[tokio::test]
async fn who_is_refused_is_heard_out_and_may_ask_again_on_the_same_connection() {
    let node = Node::start().await;
    let say = |method: &str, path: &str, kind: &str, bytes: usize| {
        let body = "x".repeat(bytes);
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {bytes}\r\n\r\n{body}")
    };
    let requests = [
        say("POST", "/v1/nothing", "application/json", 500_000),
        say("DELETE", "/v1/letters", "application/json", 500_000),
        say("POST", "/v1/letters", "text/html", 500_000),
        say("POST", "/v1/letters?x=1", "application/json", 500_000),
        say("POST", "/v1/letters/batch", "application/json", 500_000),
        say("POST", "/v1/letters", "application/json", super::extract::BODY_MAX + 500_000),
        say("GET", "/v1/status", "application/json", 0),
    ];
    let answers = node.in_turn(&requests).await;
    let codes: Vec<&str> = answers.iter().map(|answer| &answer[9..12]).collect();
    assert_eq!(codes, ["404", "405", "415", "400", "415", "413", "200"]);
    // More than any request holds is not read, and no connection is promised.
    let huge = format!("POST /v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", u64::MAX / 2);
    assert!(node.raw(&huge).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn what_is_gone_from_the_record_is_said_as_a_gap() {
    let node = Node::start().await;
    node.happen(5, What::Stopped);
    let mut events = soon(node.client.events(Some(2))).await.expect("it begins");
    let gap = soon(events.next()).await.expect("it goes on").expect("an event");
    assert_eq!((gap.seq, gap.what), (4, api::What::Gap { after: 2, next: 5 }));
    assert_eq!(soon(events.next()).await.expect("it goes on").expect("an event").seq, 5);
    // Another record than the reader remembers: shorter.
    let mut events = soon(node.client.events(Some(77))).await.expect("it begins");
    let gap = soon(events.next()).await.expect("it goes on").expect("an event");
    assert_eq!((gap.seq, gap.what), (5, api::What::Gap { after: 77, next: 6 }));
    node.happen(6, What::Stopped);
    assert_eq!(soon(events.next()).await.expect("it goes on").expect("an event").seq, 6);
}

#[tokio::test]
async fn signals_connections_and_the_end_reach_the_node() {
    let node = Node::start().await;
    let now: api::Presence = soon(node.client.put("/v1/presence", &serde_json::json!({"available": false}))).await.expect("signalled");
    assert_eq!((now.available, now.inactive), (Some(false), Some(false)));
    let reached: api::Connected =
        soon(node.client.post("/v1/connect", &serde_json::json!({"address": "10.0.0.2"}))).await.expect("reached");
    assert_eq!((reached.address.as_str(), reached.reached.as_str()), ("/ip4/10.0.0.2/tcp/6174", "nikki-pi"));
    let status: api::Status = soon(node.client.get("/v1/status")).await.expect("it answers");
    assert_eq!((status.peers.available, status.peers.known, status.epoch.as_str()), (2, 4, "18446744073709551615"));
    let _: api::Stopping = soon(node.client.post("/v1/stop", &serde_json::json!({}))).await.expect("told");
    assert!(node.world().stopped);
}

#[tokio::test]
async fn one_connection_too_many_is_turned_away_with_a_reason() {
    let node = Node::start().await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(soon(UnixStream::connect(node.path())).await.expect("the door is open"));
    }
    let refused = soon(node.client.get::<api::Status>("/v1/status")).await;
    assert!(matches!(&refused, Err(Error::Refused(problem)) if problem.code == Code::Busy), "{refused:?}");
    drop(open);
    soon(async {
        while node.client.get::<api::Status>("/v1/status").await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_follows_or_sends_for_long_leaves_room_for_a_question() {
    let node = Node::start().await;
    let mut open = Vec::new();
    for _ in 0..READERS {
        open.push(soon(node.client.events(None)).await.expect("there is room"));
    }
    let refused = soon(node.client.events(None)).await;
    assert!(matches!(&refused, Err(Error::Refused(problem)) if problem.code == Code::Busy), "{:?}", refused.map(drop));
    let endless = || StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
    let mut batches = Vec::new();
    for _ in 0..BATCHES {
        batches.push(soon(node.client.batch("/v1/letters/batch", endless())).await.expect("there is room"));
    }
    let refused = soon(node.client.batch("/v1/letters/batch", endless())).await;
    assert!(matches!(&refused, Err(Error::Refused(problem)) if problem.code == Code::Busy), "{:?}", refused.map(drop));
    let _: api::Status = soon(node.client.get("/v1/status")).await.expect("it still answers");
    drop(open);
    soon(async {
        while node.client.events(None).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Twice as many as there are seats say half a request, or nothing, or half a body, and then nothing more.
#[tokio::test]
async fn whoever_says_nothing_makes_room_for_a_question() {
    let node = Node::start().await;
    let mut follows = Vec::new();
    for _ in 0..READERS {
        follows.push(soon(node.client.events(None)).await.expect("there is room"));
    }
    let half = [
        "",
        "GET /v1/status HTTP/1.1\r\nhost: x\r\n",
        "POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{",
    ];
    let mut stalled = Vec::new();
    for said in half.into_iter().cycle().take(2 * CONNECTIONS) {
        let mut stream = soon(UnixStream::connect(node.path())).await.expect("the door is open");
        soon(stream.write_all(said.as_bytes())).await.expect("the door listens");
        stalled.push(stream);
    }
    let began = std::time::Instant::now();
    while soon(node.client.get::<api::Status>("/v1/status")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    for mut events in follows {
        node.happen(1, What::Stopped);
        assert!(soon(events.next()).await.is_ok(), "who follows is left alone");
    }
}

#[tokio::test]
async fn many_who_are_turned_away_at_once_all_learn_why() {
    let node = Node::start().await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(soon(UnixStream::connect(node.path())).await.expect("the door is open"));
    }
    let asked = (0..3 * CONNECTIONS).map(|_| node.client.get::<api::Status>("/v1/status"));
    for refused in soon(futures::future::join_all(asked)).await {
        assert!(matches!(&refused, Err(Error::Refused(problem)) if problem.code == Code::Busy), "{refused:?}");
    }
}

/// The clock jumps to whatever is waited for.
#[tokio::test(start_paused = true)]
async fn a_batch_that_falls_silent_is_ended_and_says_where() {
    let node = Node::start().await;
    for (said, line) in [("{\"to\":[\"ada\"],\"payload\":\"x\"}\n", 1), ("\n\n{\"to\":", 3)] {
        let pieces = stream::iter([Ok(Frame::data(Bytes::from_static(said.as_bytes())))]).chain(stream::pending());
        let mut lines = node.client.batch("/v1/letters/batch", StreamBody::new(pieces)).await.expect("it begins");
        let mut last = Bytes::new();
        while let Some(line) = lines.next().await.expect("it goes on") {
            last = line;
        }
        let problem: Problem = serde_json::from_slice(&last).expect("a problem");
        assert_eq!((problem.code, problem.line), (Code::TooSlow, Some(line)));
    }
}

#[tokio::test]
async fn a_socket_that_was_deleted_is_made_again() {
    let node = Node::start().await;
    std::fs::remove_file(node.path()).expect("it is there");
    assert!(soon(node.client.get::<api::Status>("/v1/status")).await.is_err());
    soon(async {
        while node.client.get::<api::Status>("/v1/status").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_stops_leaves_no_socket_and_ends_its_streams() {
    let node = Node::start().await;
    let mut events = soon(node.client.events(None)).await.expect("it begins");
    node.stop.cancel();
    while let Ok(Some(_)) = soon(events.next()).await {}
    soon(async {
        while node.path().exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(
        matches!(soon(node.client.get::<api::Status>("/v1/status")).await, Err(Error::NoNode(dir)) if dir == Path::new(node.dir.path()))
    );
}
