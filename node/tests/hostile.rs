//! Real nodes among which one peer is hostile: nothing it says changes anything but counters, and letters go on.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::AsyncWriteExt;
use libp2p::{Multiaddr, PeerId};
use node::driver::Fact;
use node::net::{self, Event, Lane, Net};
use node::node::{Node, Settings, start};
use node::store::{Content, InboxLetter, InboxQuery, State};
use protocol::beacon::{Beacon, Statistics};
use protocol::bundle::{self, Draft, Secrets};
use protocol::config::limits::NUMBER_MAX;
use protocol::contact::Contact;
use protocol::edge::{Cause, Edge};
use protocol::effect::Say;
use protocol::envelope::{Envelope, Payload};
use protocol::id::{Epoch, LetterId, MachineId};
use protocol::input::{Disk, NewLetter};
use protocol::message::{Listing, Message};
use protocol::receipt::{Receipt, Sum};
use protocol::{Answer, Command, Input, Ranges, Status, Timestamp};
use raw::Raw;
use tokio::sync::{mpsc, oneshot};

#[path = "hostile/raw.rs"]
mod raw;

const SWARM: &str = "test";
/// Longer than anything here should take, even on a busy machine.
const BOUND: Duration = Duration::from_secs(30);
/// What an honest letter may take while somebody floods.
const PROMPT: Duration = Duration::from_secs(10);
/// What one test may add to the memory of the process.
const MEMORY: usize = 300 << 20;

/// Tests here measure memory and time: one after the other.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// Panics and errors of the nodes' threads.
static FAULTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn faults() -> std::sync::MutexGuard<'static, Vec<String>> {
    FAULTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Remembers every panic of a node's thread and every line of level ERROR.
fn watch() {
    static WATCH: Once = Once::new();
    struct Line(Vec<u8>);
    impl Write for Line {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Drop for Line {
        fn drop(&mut self) {
            faults().push(String::from_utf8_lossy(&self.0).into_owned());
        }
    }
    WATCH.call_once(|| {
        tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_ansi(false).with_writer(|| Line(Vec::new())).init();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            if ["driver", "worker-", "net", "disk", "tokio"].iter().any(|name| thread.starts_with(name)) {
                faults().push(format!("{thread}: {panic}"));
            }
            before(panic);
        }));
    });
}

fn memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("it is Linux");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
}

fn settings(directory: PathBuf, name: &str, near: &[String]) -> Settings {
    Settings {
        directory,
        name: name.parse().expect("a name"),
        swarm: Some(SWARM.to_owned()),
        swarm_key: None,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")],
        peers: near.iter().map(|address| address.parse().expect("our own multiaddr")).collect(),
        mdns: false,
        machine: None,
        record: node::store::RecordLimits::default(),
        start_over: false,
    }
}

async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    wait_within(BOUND, what, &mut condition).await;
}

async fn wait_within(bound: Duration, what: &str, condition: &mut impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !condition().await {
        assert!(begin.elapsed() < bound, "waited {bound:?} for: {what}; faults: {:?}", faults());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn status(node: &Node) -> Status {
    tokio::time::timeout(PROMPT, node.status())
        .await
        .expect("it answers in time")
        .unwrap_or_else(|| panic!("the node has ended: {:?}", faults()))
}

async fn send(node: &Node, to: &[&str], text: &str) -> LetterId {
    let letter = NewLetter {
        to: to.iter().map(|name| name.parse().expect("a name")).collect(),
        kind: "message".to_owned(),
        payload: Payload::Text(text.to_owned()),
        in_reply_to: None,
        key: None,
        later: false,
    };
    let (reply, answer) = oneshot::channel();
    node.facts().send(Fact::Asked { command: Command::Send(letter), reply }).await.expect("it runs");
    match answer.await.expect("it answers") {
        Answer::Accepted { letter, .. } => letter,
        other => panic!("{other:?}"),
    }
}

fn inbox(node: &Node) -> Vec<String> {
    let query = InboxQuery { limit: 1_000_000, ..InboxQuery::default() };
    let letters = node.reader.inbox(&query).expect("the disk can be read");
    let text = |letter: InboxLetter| match letter.content {
        Content::Letter(Envelope { payload: Payload::Text(text), .. }) => text,
        other => format!("{other:?}"),
    };
    letters.into_iter().map(text).collect()
}

fn delivered(node: &Node, letter: LetterId) -> bool {
    let views = node.reader.sent_by_id(&letter.to_string()).expect("the disk can be read");
    views[0].deliveries.iter().all(|delivery| delivery.state >= State::Delivered)
}

/// Ann under attack, bea who wants to write with her, and the hostile one, met by both.
struct Stage {
    ann: Node,
    bea: Node,
    mallory: Mallory,
    memory: usize,
    letters: usize,
    directory: tempfile::TempDir,
    _one: tokio::sync::MutexGuard<'static, ()>,
}

/// A network with a key, and no scruples.
struct Mallory {
    edge: Edge,
    id: PeerId,
    net: Net,
    events: mpsc::Receiver<Event>,
    ann: PeerId,
    counter: u64,
}

impl Stage {
    async fn new() -> Stage {
        let one = ONE.lock().await;
        watch();
        faults().clear();
        let directory = tempfile::tempdir().expect("a directory");
        let ann = start(settings(directory.path().join("ann"), "ann", &[])).await.expect("it starts");
        let near = address(&ann).await;
        let bea = start(settings(directory.path().join("bea"), "bea", std::slice::from_ref(&near))).await.expect("it starts");
        let mallory = Mallory::meets(&ann, near.parse().expect("our own multiaddr")).await;
        let mut stage = Stage { ann, bea, mallory, memory: 0, letters: 0, directory, _one: one };
        for node in [&stage.ann, &stage.bea] {
            wait_until("they see each other", async || {
                status(node).await.peers.iter().any(|peer| peer.available && peer.id != stage.mallory.id)
            })
            .await;
        }
        stage.exchanges_letters().await;
        stage.memory = memory();
        stage
    }

    /// A letter each way, soon, in order, and nothing else in either inbox.
    async fn exchanges_letters(&mut self) {
        let begin = Instant::now();
        self.letters += 1;
        let text = format!("honest {}", self.letters);
        let letters = [(&self.ann, send(&self.ann, &["bea"], &text).await), (&self.bea, send(&self.bea, &["ann"], &text).await)];
        for (node, letter) in letters {
            wait_within(PROMPT, "honest letters are delivered", &mut async || delivered(node, letter)).await;
        }
        println!("honest letters both ways took {:?}", begin.elapsed());
    }

    /// Ann will ask mallory for peers after they met: an empty page ends that, and she is left alone for half a minute.
    async fn ends_exchange(&mut self) {
        let unexpected = async |node: &Node| status(node).await.refused.get(&Cause::Unexpected).copied().unwrap_or(0);
        let (before, mut said) = (unexpected(&self.ann).await, 0);
        let page = Message::Peers { peers: Vec::new(), more: false }.to_frame();
        wait_until("one page was expected", async || {
            self.mallory.says_by(Lane::Bulk, page.clone()).await;
            said += 1;
            tokio::time::sleep(Duration::from_millis(300)).await;
            unexpected(&self.ann).await - before < said
        })
        .await;
    }

    fn honest(&self) -> Vec<String> {
        (1..=self.letters).map(|n| format!("honest {n}")).collect()
    }

    /// Ann lives on as before: counters of what was refused are all that changed.
    async fn is_unharmed(&mut self, before: &Status, refused: &[(Cause, u64)]) {
        self.exchanges_letters().await;
        let after = status(&self.ann).await;
        let mut grown: BTreeMap<Cause, u64> = after.refused.clone();
        for (cause, count) in &before.refused {
            grown.entry(*cause).and_modify(|now| *now -= count);
        }
        grown.retain(|_, count| *count > 0);
        assert_eq!(grown, refused.iter().copied().collect(), "refused");
        self.is_the_same(before).await;
    }

    async fn is_the_same(&mut self, before: &Status) {
        let after = status(&self.ann).await;
        let who =
            |status: &Status| status.peers.iter().map(|peer| (peer.id, peer.name.clone(), peer.addresses.clone())).collect::<Vec<_>>();
        assert_eq!(who(&after), who(before), "peers");
        assert_eq!((after.outbox_letters, after.epoch), (before.outbox_letters, before.epoch));
        assert_eq!(inbox(&self.ann), self.honest(), "the inbox");
        self.is_sound();
    }

    /// No panic, no error, no memory without bound.
    fn is_sound(&self) {
        assert!(faults().is_empty(), "{:?}", faults());
        let grown = memory().saturating_sub(self.memory);
        println!("memory grew by {} KiB", grown >> 10);
        assert!(grown < MEMORY, "memory grew by {grown} bytes");
    }

    /// Ann stops and starts again, and has what she had; her directory goes with the second value.
    async fn restarts(self) -> (Node, tempfile::TempDir) {
        let before = inbox(&self.ann);
        self.ann.stop().await.expect("it stops");
        let ann = start(settings(self.directory.path().join("ann"), "ann", &[])).await.expect("it starts again");
        assert_eq!(inbox(&ann), before);
        self.bea.stop().await.expect("it stops");
        assert!(faults().is_empty(), "{:?}", faults());
        (ann, self.directory)
    }
}

async fn address(node: &Node) -> String {
    wait_until("it listens", async || !status(node).await.addresses.is_empty()).await;
    status(node).await.addresses.remove(0)
}

fn secrets(n: u8) -> Secrets {
    Secrets::from_seeds(&[n; 32], &[n.wrapping_add(100); 32])
}

fn edge(n: u8) -> Edge {
    Edge::new(secrets(n), SWARM.to_owned())
}

fn contact(n: u8) -> Contact {
    let secrets = secrets(n);
    Contact {
        id: secrets.id(),
        name: format!("peer-{n}").parse().expect("a name"),
        machine: MachineId::new([n; 16]),
        suite: bundle::SUITE,
        encryption_key: secrets.encryption_key().into(),
        key: secrets.key_id(),
        addresses: Vec::new(),
        sequence: 1,
    }
}

fn beacon(n: u8, counter: u64) -> Beacon {
    Beacon {
        peer: secrets(n).id(),
        epoch: Epoch(n.into()),
        boot: 1,
        nonce: 1,
        counter,
        contact: 1,
        available: true,
        inactive: false,
        services: 0,
        known: 0,
        linked: 0,
        record: 1,
        other: None,
        cloned: false,
        statistics: Statistics::default(),
    }
}

const MALLORY: u8 = 66;

impl Mallory {
    async fn meets(ann: &Node, near: Multiaddr) -> Mallory {
        let secrets = secrets(MALLORY);
        let (sender, events) = mpsc::channel(4096);
        let net = Net::start(
            net::Config {
                keypair: secrets.signing.clone(),
                swarm_name: SWARM.to_owned(),
                swarm_key: None,
                listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")],
                mdns: false,
                remembered: Vec::new(),
                limits: net::Limits {
                    frame_max: 1 << 20,
                    queue_frames: 1 << 16,
                    urgent_queue_bytes: 1 << 28,
                    bulk_queue_bytes: 1 << 28,
                    ..net::Limits::default()
                },
            },
            sender,
        )
        .expect("the network starts");
        let dial = net::Command::Dial { peer: Some(ann.id), addresses: vec![near], urgent: true };
        net.try_send(dial).expect("room for a command");
        let edge = edge(MALLORY);
        let mut mallory = Mallory { id: secrets.id(), edge, net, events, ann: ann.id, counter: 1 };
        mallory
            .hears("ann is seen", |event| matches!(event, Event::PeerSeen { peer, .. } if *peer == mallory_sees(ann)).then_some(()))
            .await;
        mallory.greets().await;
        wait_until("she is met", async || status(ann).await.peers.iter().any(|peer| peer.id == mallory.id && peer.available)).await;
        mallory
    }

    async fn hears<T>(&mut self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let heard = async {
            loop {
                let event = self.events.recv().await.expect("the network lives");
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(BOUND, heard).await.unwrap_or_else(|_| panic!("waited for: {what}"))
    }

    /// Frames that came so far.
    fn heard(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if let Event::Frame { frame, .. } = event {
                messages.extend(Message::from_frame(&frame));
            }
        }
        messages
    }

    async fn says(&self, frame: impl Into<Bytes>) {
        self.says_by(Lane::Urgent, frame).await;
    }

    async fn says_by(&self, lane: Lane, frame: impl Into<Bytes>) {
        self.orders(net::Command::Send { to: self.ann, lane, frame: frame.into() }).await;
    }

    /// Waits for room.
    async fn orders(&self, mut command: net::Command) {
        let begin = Instant::now();
        while let Err(back) = self.net.try_send(command) {
            assert!(begin.elapsed() < BOUND, "waited {BOUND:?} for room for a command");
            command = back;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn gossips(&self, bytes: impl Into<Bytes>) {
        self.net.try_send(net::Command::Publish(bytes.into())).expect("room for a command");
    }

    fn beacon(&mut self) -> Beacon {
        self.counter += 1;
        beacon(MALLORY, self.counter)
    }

    fn hello(&mut self, answer: bool) -> Vec<u8> {
        let say = Say::Hello { contact: contact(MALLORY), beacon: self.beacon(), yours: Vec::new(), answer };
        self.edge.utter(say).to_frame()
    }

    async fn greets(&mut self) {
        let hello = self.hello(true);
        self.says(hello).await;
    }

    fn draft(&self, to: &Node, epoch: u64, floor: u64, envelopes: Vec<Envelope>) -> Draft {
        let to = to_contact(to);
        let mut seed = [1; 32];
        seed[..8].copy_from_slice(&envelopes.first().and_then(|envelope| envelope.seq).unwrap_or(0).to_be_bytes());
        seed[8..16].copy_from_slice(&epoch.to_be_bytes());
        Draft { number: 1, to, contact: contact(MALLORY), epoch: Epoch(epoch), floor, envelopes, withdrawal: [1; 32], seed }
    }

    fn letters(&self, to: &Node, epoch: u64, floor: u64, envelopes: Vec<Envelope>) -> Vec<u8> {
        Message::Letters(vec![self.edge.seal(&self.draft(to, epoch, floor, envelopes)).expect("a good key")]).to_frame()
    }

    fn letter(&self, to: PeerId, seq: u64, text: &str) -> Envelope {
        let mut id = [66; 16];
        id[8..].copy_from_slice(&seq.to_be_bytes());
        Envelope {
            kind: "message".to_owned(),
            author: self.id,
            recipients: vec![to],
            payload: Payload::Text(text.to_owned()),
            timestamp: Timestamp(u64::MAX),
            id: LetterId::new(id),
            seq: Some(seq),
            in_reply_to: None,
        }
    }

    fn receipt(&self, epoch: Epoch) -> Receipt {
        Receipt {
            recipient: self.id,
            recipient_epoch: Epoch(MALLORY.into()),
            number: 1,
            author: self.ann,
            epoch,
            floor: 1,
            taken: Ranges::default(),
            digest: Sum::default(),
            read: Ranges::default(),
        }
    }

    async fn signs(&self, receipt: &Receipt) {
        self.says(self.edge.utter(Say::Receipt(receipt.clone())).to_frame()).await;
    }
}

fn mallory_sees(node: &Node) -> PeerId {
    node.id
}

/// The card of a node, as another would have it: what is needed to seal for it comes from its key file.
fn to_contact(node: &Node) -> Contact {
    CARDS.with_borrow(|cards| cards.get(&node.id).cloned()).expect("its card was asked for")
}

thread_local! {
    static CARDS: std::cell::RefCell<BTreeMap<PeerId, Contact>> = const { std::cell::RefCell::new(BTreeMap::new()) };
}

/// Learns ann's card from her hello and bea's from ann's list.
async fn learn_cards(stage: &mut Stage) {
    stage.mallory.greets().await;
    stage.mallory.says_by(Lane::Bulk, Message::AskPeers { after: None }.to_frame()).await;
    let mut wanted = 2;
    while wanted > 0 {
        let frame = stage.mallory.hears("cards", |event| match event {
            Event::Frame { frame, .. } => Some(frame.clone()),
            _ => None,
        });
        let cards = match Message::from_frame(&frame.await) {
            Ok(Message::Hello { contact, .. }) => vec![contact],
            Ok(Message::Peers { peers, .. }) => peers.into_iter().map(|listing| listing.contact).collect(),
            _ => continue,
        };
        for card in cards {
            let card = card.check(SWARM).expect("honest peers sign their cards");
            let id = card.id;
            // Her own is in the list as well.
            if id == secrets(MALLORY).id() {
                continue;
            }
            wanted -= usize::from(CARDS.with_borrow_mut(|cards| cards.insert(id, card)).is_none());
        }
    }
}

fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(std::iter::repeat_n(0x81, depth));
    bytes.push(0);
    bytes
}

#[tokio::test]
async fn garbage_lies_and_forgeries_change_nothing_but_counters() {
    let mut stage = Stage::new().await;
    learn_cards(&mut stage).await;
    let bea = stage.bea.id;
    let (ann, mallory) = (stage.ann.id, &mut stage.mallory);
    let hello = mallory.hello(false);
    let hello_with = |change: fn(&mut Contact)| {
        let mut contact = contact(MALLORY);
        contact.sequence = 2;
        change(&mut contact);
        edge(MALLORY).utter(Say::Hello { contact, beacon: beacon(MALLORY, 1), yours: Vec::new(), answer: false }).to_frame()
    };
    let weak = |contact: &mut Contact| {
        let mut key = [0xff; 32];
        key[0] = 0xec;
        contact.encryption_key = key.into();
        contact.key = bundle::key_id(&key);
    };
    let stranger = |edge: &Edge, n: u8| {
        edge.utter(Say::Hello { contact: contact(n), beacon: beacon(n, 1), yours: Vec::new(), answer: false }).to_frame()
    };
    let other_swarm = Edge::new(secrets(MALLORY), "other".to_owned());
    let foreign_receipt = Receipt { author: bea, ..mallory.receipt(Epoch(1)) };
    let third = Receipt { recipient: bea, ..mallory.receipt(Epoch(1)) };
    let bundle_of = |stage: &Node, envelopes: Vec<Envelope>, floor: u64| mallory.letters(stage, 1, floor, envelopes);
    let one = |seq: u64| mallory.letter(ann, seq, "x");
    let good = mallory.edge.seal(&mallory.draft(&stage.ann, 1, 1, vec![one(1)])).expect("a good key");
    let junk = |bytes: Vec<u8>| {
        let mut bundle = good.clone();
        bundle.sealed = bytes.into();
        Message::Letters(vec![bundle]).to_frame()
    };
    let to_bea = Message::Letters(vec![mallory.edge.seal(&mallory.draft(&stage.bea, 1, 1, vec![one(1)])).expect("a good key")]).to_frame();
    let strewn = Ranges::try_from((0..129).map(|n| (n * 4 + 1, n * 4 + 1)).collect::<Vec<_>>()).expect("sorted");
    let listing = Listing { contact: edge(5).sign(&contact(5)), first_seen_ago: u64::MAX, last_seen_ago: Some(u64::MAX) };
    let pages = |count: usize| Message::Peers { peers: vec![listing.clone(); count], more: true }.to_frame();
    let dup = [&[1, 0xa2], &b"\x67leaving\xf6\x67leaving\xf6"[..]].concat();
    let attacks: Vec<(&str, Vec<u8>, Cause)> = vec![
        ("one byte", vec![1], Cause::Malformed),
        ("garbage", [&[1][..], &[0xff; 300]].concat(), Cause::Malformed),
        ("a cut hello", hello[..hello.len() / 2].to_vec(), Cause::Malformed),
        ("a hello and more", [&hello[..], &[0]].concat(), Cause::Malformed),
        ("17 deep", nested(17), Cause::Malformed),
        ("100,000 deep", nested(100_000), Cause::Malformed),
        ("2^40 items", vec![1, 0x9b, 0, 0, 1, 0, 0, 0, 0, 0], Cause::Malformed),
        ("2^64 pairs", [&[1, 0xbb][..], &[0xff; 8]].concat(), Cause::Malformed),
        ("2^40 bytes", vec![1, 0x5b, 0, 0, 1, 0, 0, 0, 0, 0, 1], Cause::Malformed),
        ("endless list", vec![1, 0x9f, 0, 0xff], Cause::Malformed),
        ("endless text", vec![1, 0x7f, 0x61, 0x61, 0xff], Cause::Malformed),
        ("an unknown type", [&[1, 0xa1, 0x65][..], b"order\x01"].concat(), Cause::Malformed),
        ("two in one", dup, Cause::Malformed),
        ("version 0", vec![0, 0xf6], Cause::Version),
        ("version 2", [&[2][..], &hello[1..]].concat(), Cause::Version),
        ("somebody else's hello", stranger(&edge(5), 5), Cause::Impostor),
        ("a hello signed by another", stranger(&edge(MALLORY), 5), Cause::Signature),
        ("a hello of another swarm", stranger(&other_swarm, MALLORY), Cause::Signature),
        ("somebody else's beacon", edge(5).utter(Say::Beacon(beacon(5, 1))).to_frame(), Cause::Impostor),
        ("a forged beacon", mallory.edge.utter(Say::Beacon(beacon(5, 1))).to_frame(), Cause::Signature),
        ("a beacon of another swarm", other_swarm.utter(Say::Beacon(beacon(MALLORY, 1))).to_frame(), Cause::Signature),
        ("17 addresses", hello_with(|c| c.addresses = vec!["/ip4/127.0.0.1/tcp/1".to_owned(); 17]), Cause::Inconsistent),
        ("a long address", hello_with(|c| c.addresses = vec!["x".repeat(301)]), Cause::Inconsistent),
        ("another key id", hello_with(|c| c.key = bundle::key_id(&[9; 32])), Cause::Inconsistent),
        (
            "a weak key",
            {
                let mut c = contact(MALLORY);
                weak(&mut c);
                edge(MALLORY).utter(Say::Hello { contact: c, beacon: beacon(MALLORY, 1), yours: Vec::new(), answer: false }).to_frame()
            },
            Cause::Inconsistent,
        ),
        ("a receipt for another", mallory.edge.utter(Say::Receipt(foreign_receipt)).to_frame(), Cause::NotForMe),
        ("a receipt in bea's name", mallory.edge.utter(Say::Receipt(third)).to_frame(), Cause::Signature),
        ("a receipt for nothing", mallory.edge.utter(Say::Receipt(mallory.receipt(Epoch(u64::MAX)))).to_frame(), Cause::Unexpected),
        ("a bundle for bea", to_bea, Cause::NotForMe),
        ("junk in a bundle", junk(vec![7; 500]), Cause::Sealed),
        ("a short bundle", junk(vec![7; 31]), Cause::Sealed),
        ("an empty bundle", junk(Vec::new()), Cause::Sealed),
        ("no letters", bundle_of(&stage.ann, Vec::new(), 1), Cause::Inconsistent),
        ("a letter far ahead", bundle_of(&stage.ann, vec![one(u64::MAX)], 1), Cause::Inconsistent),
        ("one too far ahead", bundle_of(&stage.ann, vec![one((1 << 20) + 2)], 1), Cause::Inconsistent),
        ("number 0", bundle_of(&stage.ann, vec![one(0)], 0), Cause::Inconsistent),
        ("all numbers asked for", Message::AskIds { epoch: Epoch(1), numbers: Ranges::of(1, u64::MAX) }.to_frame(), Cause::Malformed),
        ("from nought", Message::AskIds { epoch: Epoch(1), numbers: Ranges::of(0, u64::MAX) }.to_frame(), Cause::Malformed),
        ("129 ranges", Message::AskIds { epoch: Epoch(1), numbers: strewn }.to_frame(), Cause::Malformed),
        ("an unknown epoch", Message::AskIds { epoch: Epoch(1), numbers: Ranges::of(1, 1) }.to_frame(), Cause::Unexpected),
        ("ids nobody wants", Message::Ids { epoch: Epoch(1), ids: vec![(u64::MAX, LetterId::new([1; 16]))] }.to_frame(), Cause::Unexpected),
        ("peers nobody wants", pages(1), Cause::Unexpected),
        ("129 peers", pages(129), Cause::Malformed),
        ("it did not understand", Message::Unsupported { what: "x".repeat(100_000) }.to_frame(), Cause::Version),
    ];
    stage.ends_exchange().await;
    let before = status(&stage.ann).await;
    let mut expected: BTreeMap<Cause, u64> = BTreeMap::new();
    for (name, frame, cause) in attacks {
        stage.mallory.says_by(Lane::Bulk, frame).await;
        *expected.entry(cause).or_default() += 1;
        let (node, base) = (&stage.ann, before.refused.get(&cause).copied().unwrap_or(0));
        wait_within(PROMPT, name, &mut async || status(node).await.refused.get(&cause).copied().unwrap_or(0) == base + expected[&cause])
            .await;
    }
    stage.is_unharmed(&before, &expected.into_iter().collect::<Vec<_>>()).await;
    let (ann, _directory) = stage.restarts().await;
    ann.stop().await.expect("it stops");
}

#[tokio::test]
async fn false_gossip_is_counted_and_goes_no_further() {
    let mut stage = Stage::new().await;
    let before = status(&stage.ann).await;
    let old = stage.mallory.edge.gossip(&Beacon { available: false, ..beacon(MALLORY, 1) });
    let own = [
        (vec![1, 0xff, 0xff], Cause::Malformed),
        (vec![7; 3000], Cause::Malformed),
        (vec![7; 60_000], Cause::Malformed),
        (vec![2, 0xf6], Cause::Version),
        (Message::Leaving.to_frame(), Cause::Unexpected),
        (stage.mallory.edge.gossip(&beacon(5, 1)), Cause::Signature),
        (Edge::new(secrets(MALLORY), "other".to_owned()).gossip(&beacon(MALLORY, 9)), Cause::Signature),
        (old, Cause::Replayed),
    ];
    // Gossip flows once both have told each other of the topic.
    let (mut expected, mut again) = (BTreeMap::new(), 100);
    wait_until("gossip flows", async || {
        again += 1;
        stage.mallory.gossips(stage.mallory.edge.gossip(&beacon(MALLORY, again)));
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.ann.net.counters().gossip_in > 5
    })
    .await;
    for (bytes, cause) in own {
        stage.mallory.gossips(bytes);
        *expected.entry(cause).or_insert(0) += 1;
        let (node, count, base) = (&stage.ann, expected[&cause], before.refused.get(&cause).copied().unwrap_or(0));
        wait_within(PROMPT, cause.as_str(), &mut async || status(node).await.refused.get(&cause).copied().unwrap_or(0) == base + count)
            .await;
    }
    stage.is_unharmed(&before, &expected.clone().into_iter().collect::<Vec<_>>()).await;
    // Bea heard each from its author at most, and none of it again from ann.
    for (cause, count) in status(&stage.bea).await.refused {
        assert!(count <= expected[&cause], "{count} times {cause:?} at bea");
    }
    // The greatest numbers there are, signed by their own peer.
    let odd = Beacon {
        boot: u64::MAX,
        counter: u64::MAX,
        known: u64::MAX,
        record: u64::MAX,
        contact: u64::MAX,
        services: u64::MAX,
        nonce: u64::MAX,
        statistics: Statistics { cores: u32::MAX, cores_free_percent: u32::MAX, memory_bytes: u64::MAX, memory_free_bytes: u64::MAX },
        ..beacon(MALLORY, 1)
    };
    stage.mallory.gossips(stage.mallory.edge.gossip(&odd));
    stage.mallory.says(stage.mallory.edge.utter(Say::Beacon(odd)).to_frame()).await;
    stage.exchanges_letters().await;
    stage.is_the_same(&before).await;
    let (ann, _directory) = stage.restarts().await;
    ann.stop().await.expect("it stops");
}

#[tokio::test]
async fn letters_come_once_whatever_numbers_they_bear() {
    let mut stage = Stage::new().await;
    learn_cards(&mut stage).await;
    let ann = stage.ann.id;
    let mallory = &stage.mallory;
    let one = |seq: u64| mallory.letter(ann, seq, &format!("m{seq}"));
    let thrice = mallory.letters(&stage.ann, 1, 1, vec![one(1), one(2)]);
    for lane in [Lane::Bulk, Lane::Urgent, Lane::Bulk] {
        mallory.says_by(lane, thrice.clone()).await;
    }
    let frames = [
        mallory.letters(&stage.ann, 2, NUMBER_MAX, vec![one(3)]),
        mallory.letters(&stage.ann, 2, NUMBER_MAX, vec![one(4)]),
        mallory.letters(&stage.ann, 3, NUMBER_MAX, vec![one(NUMBER_MAX - 1)]),
        mallory.letters(&stage.ann, 4, 1, vec![one(5), one(1 << 20)]),
    ];
    for frame in frames {
        mallory.says_by(Lane::Bulk, frame).await;
    }
    let expected = ["honest 1", "m1", "m2", "m3", "m4", "m1048576", "m4611686018427387903", "m5"];
    let node = &stage.ann;
    let mut at = Instant::now();
    wait_until("all are shown, after the gaps", async || {
        if at.elapsed() > Duration::from_secs(1) {
            // Whoever is silent for so long is taken to be gone.
            at = Instant::now();
            mallory.says(mallory.edge.utter(Say::Beacon(beacon(MALLORY, 2))).to_frame()).await;
        }
        inbox(node).len() >= expected.len()
    })
    .await;
    let mut shown = inbox(node);
    shown.sort();
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(shown, expected);
    // Asked which they are, at most a page is told.
    mallory.says_by(Lane::Bulk, Message::AskIds { epoch: Epoch(1), numbers: Ranges::of(1, 4096) }.to_frame()).await;
    stage
        .mallory
        .hears("ids", |event| match event {
            Event::Frame { frame, .. } => {
                matches!(Message::from_frame(frame), Ok(Message::Ids { ids, .. }) if ids.len() == 2).then_some(())
            }
            _ => None,
        })
        .await;
    stage.is_sound();
    let (node, _directory) = stage.restarts().await;
    assert_eq!(status(&node).await.peers.len(), 2);
    node.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_void_is_never_shown_also_after_a_restart() {
    let mut stage = Stage::new().await;
    learn_cards(&mut stage).await;
    let ann = stage.ann.id;
    let void = Envelope { kind: "void".to_owned(), payload: Payload::Nothing, ..stage.mallory.letter(ann, 1, "") };
    let frame = stage.mallory.letters(&stage.ann, 1, 1, vec![void]);
    stage.mallory.says_by(Lane::Bulk, frame).await;
    stage
        .mallory
        .hears("a receipt", |event| match event {
            Event::Frame { frame, .. } => matches!(Message::from_frame(frame), Ok(Message::Receipt(_))).then_some(()),
            _ => None,
        })
        .await;
    assert_eq!(inbox(&stage.ann), stage.honest());
    let honest = stage.honest();
    let (node, _directory) = stage.restarts().await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(inbox(&node), honest);
}

#[tokio::test]
async fn receipts_that_lie_leave_the_outbox_as_it_was() {
    let mut stage = Stage::new().await;
    let epoch = status(&stage.ann).await.epoch;
    // A letter to the hostile one, who signs for it as she likes.
    let letter = send(&stage.ann, &["peer-66"], "to mallory").await;
    let before = status(&stage.ann).await;
    let of = |number, floor, taken: Ranges| Receipt { number, floor, read: taken.clone(), taken, ..stage.mallory.receipt(epoch) };
    let lies = [
        of(1, 1, Ranges::of(1, 1)),
        of(2, 2, Ranges::default()),
        of(3, 1, Ranges::of(0, 1)),
        // An older one, again.
        of(1, 1, Ranges::of(1, 1)),
        Receipt { recipient_epoch: Epoch(u64::MAX), ..of(u64::MAX, 1, Ranges::of(1, 1)) },
    ];
    for receipt in lies {
        stage.mallory.signs(&receipt).await;
    }
    // What comes before she has asked is refused as such: it goes by another stream.
    let mallory = &mut stage.mallory;
    wait_until("she asks which letter that was", async || mallory.heard().iter().any(|said| matches!(said, Message::AskIds { .. }))).await;
    let wrong =
        Message::Ids { epoch, ids: vec![(0, LetterId::new([1; 16])), (1, LetterId::new([1; 16])), (u64::MAX, LetterId::new([1; 16]))] };
    stage.mallory.says_by(Lane::Bulk, wrong.to_frame()).await;
    stage.is_unharmed(&before, &[(Cause::Inconsistent, 1)]).await;
    assert!(!delivered(&stage.ann, letter));
    assert_eq!(status(&stage.ann).await.outbox_letters, 1);
    // The truth is believed all the same.
    let first = stage.mallory.receipt(epoch);
    let digest = protocol::receipt::digest(1, letter);
    stage.mallory.signs(&Receipt { recipient_epoch: Epoch(1), taken: Ranges::of(1, 1), digest, ..first }).await;
    // She once had it forgotten how to check her receipts: so she is asked letter by letter.
    stage.mallory.says_by(Lane::Bulk, Message::Ids { epoch, ids: vec![(1, letter)] }.to_frame()).await;
    let node = &stage.ann;
    wait_within(PROMPT, "it is delivered", &mut async || delivered(node, letter)).await;
    stage.is_sound();
}

#[tokio::test]
async fn while_the_disk_is_low_letters_are_refused_and_nothing_else() {
    let mut stage = Stage::new().await;
    learn_cards(&mut stage).await;
    let ann = stage.ann.id;
    let frame = stage.mallory.letters(&stage.ann, 1, 1, vec![stage.mallory.letter(ann, 1, "m1")]);
    let base = status(&stage.ann).await.refused.get(&Cause::Full).copied().unwrap_or(0);
    let low = || Input::Measured { statistics: Statistics::default(), disk: Disk::Low { free: 1 } };
    let node = &stage.ann;
    let mallory = &stage.mallory;
    wait_until("it is refused", async || {
        // The node measures its disk by itself now and then; the letter may fall behind that.
        node.facts().send(Fact::Inputs { inputs: vec![low()], bytes: 0 }).await.expect("it runs");
        mallory.says_by(Lane::Bulk, frame.clone()).await;
        status(node).await.refused.get(&Cause::Full).copied().unwrap_or(0) > base
    })
    .await;
    let enough = Input::Measured { statistics: Statistics::default(), disk: Disk::Enough };
    stage.ann.facts().send(Fact::Inputs { inputs: vec![enough], bytes: 0 }).await.expect("it runs");
    stage.mallory.says_by(Lane::Bulk, frame.clone()).await;
    let node = &stage.ann;
    wait_until("it is taken when there is room", async || inbox(node) == ["honest 1", "m1"]).await;
    stage.exchanges_letters().await;
    stage.is_sound();
}

/// Says `frame(n)` so many times while honest letters are exchanged, and waits until ann has read them all.
async fn flood(stage: &mut Stage, name: &str, count: u64, lane: Lane, frame: impl Fn(u64) -> Vec<u8>) {
    let begin = Instant::now();
    let before = stage.ann.net.counters().frames_in;
    for n in 0..count {
        stage.mallory.says_by(lane, frame(n)).await;
    }
    stage.exchanges_letters().await;
    let node = &stage.ann;
    // What ann drops of the flood is hers to decide; that she has read it is known by its number.
    wait_until(name, async || node.net.counters().frames_in >= before + count * 9 / 10).await;
    stage.exchanges_letters().await;
    drop(stage.mallory.heard());
    println!("{name}: {count} frames took {:?}; refused {:?}", begin.elapsed(), status(&stage.ann).await.refused);
    stage.is_sound();
}

#[tokio::test]
async fn letters_go_on_through_floods() {
    let mut stage = Stage::new().await;
    learn_cards(&mut stage).await;
    let before = status(&stage.ann).await;
    flood(&mut stage, "garbage", 10_000, Lane::Urgent, |_| vec![1, 0xff, 0xff]).await;
    flood(&mut stage, "not understood", 10_000, Lane::Urgent, |_| Message::Unsupported { what: "version".to_owned() }.to_frame()).await;
    flood(&mut stage, "asking for peers", 10_000, Lane::Bulk, |_| Message::AskPeers { after: None }.to_frame()).await;
    let card = edge(MALLORY).sign(&contact(MALLORY));
    flood(&mut stage, "hellos", 3_000, Lane::Urgent, |n| {
        Message::Hello { contact: card.clone(), beacon: edge(MALLORY).sign(&beacon(MALLORY, 1000 + n)), yours: Vec::new(), answer: true }
            .to_frame()
    })
    .await;
    flood(&mut stage, "coming and going", 3_000, Lane::Urgent, |n| match n % 2 {
        0 => Message::Leaving.to_frame(),
        _ => Message::Hello {
            contact: card.clone(),
            beacon: edge(MALLORY).sign(&beacon(MALLORY, 5000 + n)),
            yours: Vec::new(),
            answer: false,
        }
        .to_frame(),
    })
    .await;
    flood(&mut stage, "unwanted pages", 300, Lane::Bulk, |_| {
        let listing = Listing { contact: card.clone(), first_seen_ago: 1, last_seen_ago: None };
        Message::Peers { peers: vec![listing; 128], more: true }.to_frame()
    })
    .await;
    stage.is_the_same(&before).await;
    // The hostile one is no worse off than others: said goodbye, it may write.
    stage.mallory.says(Message::Leaving.to_frame()).await;
    let letter = stage.mallory.letter(stage.ann.id, 1, "after all");
    let frame = stage.mallory.letters(&stage.ann, 1, 1, vec![letter]);
    stage.mallory.says_by(Lane::Bulk, frame).await;
    let node = &stage.ann;
    wait_until("its letter", async || inbox(node).last().is_some_and(|text| text == "after all")).await;
    let (ann, _directory) = stage.restarts().await;
    ann.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_flood_of_gossip_does_not_hold_letters_up() {
    let mut stage = Stage::new().await;
    let before = status(&stage.ann).await;
    let begin = Instant::now();
    for n in 0..20_000u64 {
        let gossip = stage.mallory.edge.gossip(&beacon(MALLORY, 100 + n));
        stage.mallory.orders(net::Command::Publish(gossip.into())).await;
        if n % 5_000 == 4_999 {
            stage.exchanges_letters().await;
        }
    }
    stage.exchanges_letters().await;
    println!(
        "gossip: {:?}; heard {}, dropped {}",
        begin.elapsed(),
        stage.ann.net.counters().gossip_in,
        stage.ann.net.counters().gossip_dropped
    );
    stage.is_the_same(&before).await;
}

#[tokio::test]
async fn streams_that_lie_cost_their_peer_the_connection_and_nobody_else() {
    let mut stage = Stage::new().await;
    let before = status(&stage.ann).await;
    let near: Multiaddr = address(&stage.ann).await.parse().expect("our own multiaddr");
    let cut: [(&str, &[u8]); 6] = [
        ("an empty frame", &[0, 0, 0, 0]),
        ("2^31 bytes", &[0x80, 0, 0, 0, 1]),
        ("u32::MAX bytes", &[0xff; 5]),
        ("one byte too many", &[0, 0x60, 0, 1, 1]),
        ("a good frame and a lie", &[0, 0, 0, 1, 1, 0xff, 0xff, 0xff, 0xff]),
        ("many empty frames", &[0; 4096]),
    ];
    for (name, bytes) in cut {
        let refused = stage.ann.net.counters().refused_frames;
        let mut raw = Raw::dial(near.clone(), SWARM).await;
        let mut stream = raw.stream("urgent").await.expect("a stream");
        stream.write_all(bytes).await.expect("it is sent");
        stream.flush().await.expect("it is sent");
        assert!(raw.ends_within(PROMPT).await, "{name}");
        let node = &stage.ann;
        wait_within(PROMPT, name, &mut async || node.net.counters().refused_frames == refused + 1).await;
    }
    stage.exchanges_letters().await;

    // Begun and never ended: a megabyte announced, some of it sent. Then silence, or the end.
    let mut stalled = Raw::dial(near.clone(), SWARM).await;
    let mut streams = Vec::new();
    for lane in ["urgent", "bulk"] {
        let mut stream = stalled.stream(lane).await.expect("a stream");
        stream.write_all(&[&[0, 0x0f, 0, 0, 1][..], &[0; 1000]].concat()).await.expect("it is sent");
        stream.flush().await.expect("it is sent");
        streams.push(stream);
    }
    let closing = Raw::dial(near.clone(), SWARM).await;
    let mut stream = closing.stream("bulk").await.expect("a stream");
    stream.write_all(&[0, 0, 1, 0, 1, 2, 3]).await.expect("it is sent");
    stream.close().await.expect("it is closed");
    stage.exchanges_letters().await;
    assert!(stalled.ends_within(Duration::from_secs(15)).await, "a frame that stalls");
    drop((streams, closing));

    // Very many streams, and very many connections that say nothing.
    let many = Raw::dial(near.clone(), SWARM).await;
    let mut held = Vec::new();
    for n in 0..500 {
        match many.stream(if n % 2 == 0 { "urgent" } else { "bulk" }).await {
            Some(stream) => held.push(stream),
            None => break,
        }
    }
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(Raw::dial(near.clone(), SWARM).await);
    }
    stage.exchanges_letters().await;
    println!("{} streams held; refused streams {}", held.len(), stage.ann.net.counters().refused_streams);
    assert!(stage.ann.net.counters().refused_streams > 0);
    stage.is_the_same(&before).await;
    drop((many, held, idle));
    let (ann, _directory) = stage.restarts().await;
    ann.stop().await.expect("it stops");
}

#[tokio::test]
async fn two_versions_do_not_tell_each_other_for_ever_that_they_differ() {
    let mut stage = Stage::new().await;
    let mut newer = Message::Unsupported { what: "version".to_owned() }.to_frame();
    newer[0] = 2;
    stage.mallory.says(newer.clone()).await;
    let begin = Instant::now();
    let mut answers = 0;
    while begin.elapsed() < Duration::from_secs(2) {
        for message in stage.mallory.heard() {
            if matches!(message, Message::Unsupported { .. }) {
                answers += 1;
                stage.mallory.says(newer.clone()).await;
            }
        }
        tokio::task::yield_now().await;
    }
    assert!(answers < 10, "{answers} in two seconds");
}

#[tokio::test]
async fn a_receipt_from_floor_nought_ends_no_node() {
    let mut stage = Stage::new().await;
    let epoch = status(&stage.ann).await.epoch;
    send(&stage.ann, &["peer-66"], "to mallory").await;
    stage.mallory.signs(&Receipt { floor: 0, ..stage.mallory.receipt(epoch) }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    stage.exchanges_letters().await;
}

#[tokio::test]
async fn the_last_number_there_is_ends_no_node() {
    let mut stage = Stage::new().await;
    learn_cards(&mut stage).await;
    let letter = stage.mallory.letter(stage.ann.id, u64::MAX, "the last");
    let frame = stage.mallory.letters(&stage.ann, 1, u64::MAX, vec![letter]);
    stage.mallory.says_by(Lane::Bulk, frame).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    stage.exchanges_letters().await;
}

#[tokio::test]
async fn small_questions_do_not_fill_the_memory_with_pages() {
    let mut stage = Stage::new().await;
    learn_cards(&mut stage).await;
    // 128 peers that do not exist, with as much on their cards as there may be.
    for n in 100..228 {
        let mut card = contact(n);
        card.addresses = (0..16).map(|a| format!("{a:x<300}")).collect();
        let mut draft =
            stage.mallory.draft(&stage.ann, 1, 1, vec![Envelope { author: card.id, ..stage.mallory.letter(stage.ann.id, 1, "x") }]);
        draft.contact = card;
        let frame = Message::Letters(vec![edge(n).seal(&draft).expect("a good key")]).to_frame();
        stage.mallory.says_by(Lane::Bulk, frame).await;
    }
    let node = &stage.ann;
    wait_until("the peers are known", async || status(node).await.peers.len() == 130).await;
    let before = memory();
    let peak = tokio::spawn(async {
        let mut peak = 0;
        for _ in 0..1_000 {
            peak = peak.max(memory());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        peak
    });
    let mut raw = Raw::dial(address(&stage.ann).await.parse().expect("our own multiaddr"), SWARM).await;
    let mut stream = raw.stream("bulk").await.expect("a stream");
    let ask = Message::AskPeers { after: None }.to_frame();
    let one = [&u32::try_from(ask.len()).expect("short").to_be_bytes()[..], &ask].concat();
    stream.write_all(&one.repeat(4_000)).await.expect("it is sent");
    stream.flush().await.expect("it is sent");
    let peak = peak.await.expect("it ends").saturating_sub(before);
    println!("{} bytes of questions raised the memory by {} MiB", one.len() * 4_000, peak >> 20);
    stage.exchanges_letters().await;
    assert!(!raw.ends_within(Duration::from_millis(1)).await, "it still listens");
    assert!(peak < 100 << 20, "{} bytes of questions raised the memory by {peak}", one.len() * 4_000);
}

#[tokio::test]
async fn connections_that_never_greet_leave_room_for_others() {
    let stage = Stage::new().await;
    let near = address(&stage.ann).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(tokio::time::timeout(PROMPT, Raw::dial(near.parse().expect("our own multiaddr"), SWARM)).await);
    }
    let carl = start(settings(stage.directory.path().join("carl"), "carl", std::slice::from_ref(&near))).await.expect("it starts");
    // Two nodes that are let in late are let in.
    wait_until("carl is met", async || status(&stage.ann).await.peers.iter().any(|peer| peer.id == carl.id && peer.available)).await;
    carl.stop().await.expect("it stops");
    drop(idle);
}
