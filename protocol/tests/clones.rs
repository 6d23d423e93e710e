//! Two processes with one key, told by hand: peers and their edges, joined by wires that lose nothing, in virtual time.
//! A frame to a peer reaches every process of that key that is connected, as the network of a node sends it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;
use protocol::bundle::{Bundle, Secrets};
use protocol::edge::{Cause, Edge, Gossip};
use protocol::effect::{Change, Effect, Head, Kept, Known, Me, Notice, Refusal, Say, segment_of};
use protocol::envelope::Payload;
use protocol::id::{MachineId, RequestId};
use protocol::input::{Command, NewLetter, Recall, Recalled};
use protocol::message::Message;
use protocol::name::Addressee;
use protocol::now::{Now, Timestamp};
use protocol::segment::What;
use protocol::{Answer, Config, Identity, Input, Peer, PeerStatus};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use sha2::{Digest, Sha256};

const SWARM: &str = "lan";
/// Within this everybody must know (the brief of the feature says ten seconds with real nodes).
const SOON: Duration = Duration::from_secs(8);

/// What of a disk these stories need.
#[derive(Clone, Default)]
struct Disk {
    me: Option<Me>,
    head: Option<Head>,
    known: BTreeMap<PeerId, Known>,
    bundles: BTreeMap<(u32, u64), Bundle>,
    taken: usize,
    record: Vec<What>,
}

struct Process {
    id: PeerId,
    edge: Edge,
    peer: Peer,
    disk: Disk,
    hellos: usize,
    warnings: Vec<String>,
    answers: Vec<Answer>,
}

/// A frame, or a gossip, from one process to another.
enum Wire {
    Frame(Vec<u8>),
    Gossip(Vec<u8>),
}

#[derive(Default)]
struct World {
    now: Duration,
    processes: BTreeMap<&'static str, Process>,
    links: BTreeSet<(&'static str, &'static str)>,
    wires: VecDeque<(&'static str, &'static str, Wire)>,
    starts: u64,
}

fn secrets(n: u8) -> Secrets {
    Secrets::from_seeds(&[n; 32], &[n + 100; 32])
}

impl World {
    /// Starts a process of key `n` on this disk and connects it with everybody of another key.
    fn start(&mut self, name: &'static str, n: u8, disk: Disk) {
        self.starts += 1;
        let secrets = secrets(n);
        let identity = Identity {
            id: secrets.id(),
            name: format!("peer-{n}").parse().expect("a name"),
            machine: MachineId::new([n; 16]),
            encryption_key: secrets.encryption_key(),
            key: secrets.key_id(),
        };
        let kept = Kept { me: disk.me.clone(), head: disk.head, known: disk.known.values().cloned().collect(), ..Kept::default() };
        let rng = ChaCha8Rng::seed_from_u64(self.starts);
        let peer = Peer::new(identity, Config::default(), rng, kept, self.clock());
        let id = secrets.id();
        let edge = Edge::new(secrets, SWARM.to_owned());
        let process = Process { id, edge, peer, disk, hellos: 0, warnings: Vec::new(), answers: Vec::new() };
        self.processes.insert(name, process);
        self.handle(name, Input::Listening { addresses: vec![format!("/ip4/10.0.0.{}/tcp/{}", n, 1000 + self.starts)] });
        let others: Vec<_> = self.processes.iter().filter(|(_, other)| other.id != id).map(|(other, _)| *other).collect();
        for other in others {
            for (one, two) in [(name, other), (other, name)] {
                let peer = self.processes[two].id;
                // As the network tells it: a second connection with the same key is no news.
                let news = !self.linked(one).any(|linked| self.processes[linked].id == peer);
                self.links.insert((one, two));
                if news {
                    self.handle(one, Input::PeerSeen { peer, address: "/ip4/10.0.0.1/tcp/1".to_owned() });
                }
            }
        }
    }

    /// Kills a process; what is left is its disk.
    fn kill(&mut self, name: &'static str) -> Disk {
        let process = self.processes.remove(name).expect("it runs");
        let others: Vec<_> = self.links.iter().filter(|(one, _)| *one == name).map(|(_, other)| *other).collect();
        self.links.retain(|(one, two)| *one != name && *two != name);
        self.wires.retain(|(from, to, _)| *from != name && *to != name);
        for other in others {
            if !self.linked(other).any(|linked| self.processes[linked].id == process.id) {
                self.handle(other, Input::PeerLost { peer: process.id });
            }
        }
        process.disk
    }

    fn linked<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'static str> + 'a {
        self.links.iter().filter(move |(one, _)| *one == name).map(|(_, other)| *other)
    }

    fn clock(&self) -> Now {
        Now { mono: self.now, wall: Timestamp(1_795_446_768_266 + u64::try_from(self.now.as_millis()).expect("a short story")) }
    }

    fn handle(&mut self, name: &'static str, input: Input) {
        let now = self.clock();
        let mut inputs = VecDeque::from([input, Input::Tick]);
        while let Some(input) = inputs.pop_front() {
            let process = self.processes.get_mut(name).expect("it runs");
            let again = inputs.len();
            for effect in process.peer.handle(input, now) {
                let process = self.processes.get_mut(name).expect("it runs");
                match effect {
                    Effect::Seal(draft) => inputs.push_back(Input::Sealed { draft: draft.number, bundle: process.edge.seal(&draft) }),
                    Effect::Recall(Recall::Letters { token, .. }) => {
                        inputs.push_back(Input::Recalled(Recalled::Letters { token, found: Vec::new() }));
                    }
                    Effect::Recall(Recall::Key { key }) => inputs.push_back(Input::Recalled(Recalled::Key { key, found: None })),
                    Effect::Store(change) => process.disk.commit(change),
                    Effect::Send { to, say } => {
                        process.hellos += usize::from(matches!(*say, Say::Hello { .. }));
                        let frame = process.edge.utter(*say).to_frame();
                        self.send(name, to, &frame);
                    }
                    Effect::SendKept { to, bundles } => {
                        let bundles = bundles.iter().map(|key| process.disk.bundles[key].clone()).collect();
                        self.send(name, to, &Message::Letters(bundles).to_frame());
                    }
                    Effect::Publish(beacon) => {
                        let bytes = process.edge.gossip(&beacon);
                        let to: Vec<_> = self.linked(name).collect();
                        self.wires.extend(to.into_iter().map(|to| (name, to, Wire::Gossip(bytes.clone()))));
                    }
                    Effect::Notify(Notice::Warning(text)) => process.warnings.push(text),
                    Effect::Reply { answer, .. } => process.answers.push(answer),
                    _ => {}
                }
            }
            if inputs.len() > again && !inputs.contains(&Input::Tick) {
                inputs.push_back(Input::Tick);
            }
        }
    }

    fn send(&mut self, from: &'static str, to: PeerId, frame: &[u8]) {
        let all: Vec<_> = self.linked(from).filter(|other| self.processes[other].id == to).collect();
        self.wires.extend(all.into_iter().map(|to| (from, to, Wire::Frame(frame.to_vec()))));
    }

    /// Everything that happens up to `end`.
    fn run_to(&mut self, end: Duration) {
        let (mut frames, mut rings) = (0, 0);
        loop {
            rings += 1;
            assert!(rings < 20_000, "a timer rings without end");
            while let Some((from, to, wire)) = self.wires.pop_front() {
                frames += 1;
                assert!(frames < 20_000, "they talk without end");
                // A wire takes a while, or a second would have room for endlessly many frames.
                self.now += Duration::from_micros(20);
                let (source, target) = (self.processes[from].id, &self.processes[to]);
                let inputs = match wire {
                    Wire::Frame(frame) => target.edge.admit(source, &frame),
                    Wire::Gossip(bytes) => {
                        vec![match target.edge.hear(&bytes).expect("an honest gossip") {
                            Gossip::Beacon(beacon) => Input::Heard { from: source, token: 1, beacon: *beacon },
                            Gossip::Claim(claim) => Input::ClaimHeard { from: source, token: 1, claim },
                        }]
                    }
                };
                inputs.into_iter().for_each(|input| self.handle(to, input));
            }
            let next = self.processes.iter().filter_map(|(name, process)| Some((process.peer.deadline()?.at, *name))).min();
            match next.filter(|(at, _)| *at <= end) {
                Some((at, name)) => {
                    self.now = self.now.max(at);
                    self.handle(name, Input::Tick);
                }
                None => break,
            }
        }
        self.now = self.now.max(end);
    }

    fn run_for(&mut self, time: Duration) {
        self.run_to(self.now + time);
    }

    #[track_caller]
    fn within(&mut self, time: Duration, what: &str, so: impl Fn(&World) -> bool) {
        let end = self.now + time;
        while !so(self) {
            assert!(self.now < end, "not within {time:?}: {what}");
            self.run_for(Duration::from_millis(10));
        }
    }

    fn sees(&self, name: &str, other: u8) -> PeerStatus {
        let id = secrets(other).id();
        let peers = self.processes[name].peer.status().peers;
        peers.into_iter().find(|peer| peer.id == id).expect("it knows of it")
    }

    fn is_cloned(&self, name: &str) -> bool {
        self.processes[name].peer.status().cloned
    }

    fn refused(&self, name: &str, cause: Cause) -> u64 {
        self.processes[name].peer.status().refused.get(&cause).copied().unwrap_or(0)
    }

    /// How often this was written down there.
    fn noted(&self, name: &str, what: impl Fn(&What) -> bool) -> usize {
        self.processes[name].disk.record.iter().filter(|entry| what(entry)).count()
    }

    fn write(&mut self, name: &'static str, to: u8) -> Answer {
        let letter = NewLetter {
            to: vec![Addressee::Id(secrets(to).id())],
            kind: "message".to_owned(),
            payload: Payload::Text("words".to_owned()),
            in_reply_to: None,
            key: None,
            later: false,
        };
        self.handle(name, Input::Asked { request: RequestId(1), command: Command::Send(letter) });
        self.processes.get_mut(name).expect("it runs").answers.pop().expect("an answer")
    }
}

impl Disk {
    fn commit(&mut self, change: Change) {
        match change {
            Change::Me(me) => self.me = Some(me),
            Change::Known(known) => {
                let id = known.contact.clone().trusted().expect("our own row").id;
                self.known.insert(id, *known);
            }
            Change::Bundle(kept) => drop(self.bundles.insert((kept.stream, kept.first), kept.bundle)),
            Change::Taken(_) => self.taken += 1,
            Change::Segment { chain, number, first, entries, body } => {
                self.record.extend(segment_of(&body).expect("our own").entries.into_iter().map(|entry| entry.what));
                let hash = Sha256::digest(&body).into();
                self.head = Some(Head { chain, number, hash, next_entry: first + u64::from(entries) });
            }
            _ => {}
        }
    }
}

fn minted(what: &What) -> bool {
    matches!(what, What::EpochMinted { .. })
}

fn cloned(what: &What) -> bool {
    matches!(what, What::Cloned { .. })
}

/// Ann and bea are neighbours; ann has been started `boots` times. Returns a copy of ann's disk, while she is away.
fn before(world: &mut World, boots: u64) -> Disk {
    world.start("bea", 2, Disk::default());
    world.start("carl", 3, Disk::default());
    let mut disk = Disk::default();
    for _ in 0..boots {
        world.start("ann", 1, disk);
        world.run_for(Duration::from_secs(5));
        disk = world.kill("ann");
    }
    disk
}

fn all_know(world: &World) -> bool {
    world.is_cloned("ann") && world.is_cloned("twin") && ["bea", "carl"].iter().all(|name| world.sees(name, 1).cloned)
}

#[test]
fn two_copies_are_found_out_and_everybody_sees_it() {
    let mut world = World::default();
    let disk = before(&mut world, 3);
    world.start("ann", 1, disk.clone());
    world.run_for(Duration::from_secs(30));
    assert!(!world.is_cloned("ann") && !world.sees("bea", 1).cloned);
    world.start("twin", 1, disk);
    world.within(SOON, "all know", all_know);
    for name in ["ann", "twin"] {
        assert_eq!(world.write(name, 2), Answer::Refused(Refusal::Cloned));
        assert!(world.noted(name, minted) <= 1, "{name} goes on under one new epoch at most");
        assert_eq!(world.noted(name, cloned), 1);
        assert!(world.processes[name].warnings.iter().any(|text| text.contains("another copy of this node")));
    }
    let epoch = |world: &World, name: &str| world.processes[name].peer.status().epoch;
    assert_ne!(epoch(&world, "ann"), epoch(&world, "twin"));

    // Letters to the two stay with their author.
    assert!(matches!(world.write("bea", 1), Answer::Accepted { .. }));
    assert!(!world.sees("bea", 1).available);
    // They go on for a while: nothing but greetings at leisure.
    let hellos = |world: &World| world.processes.values().map(|process| process.hellos).sum::<usize>();
    let before = (hellos(&world), world.noted("ann", |_| true), world.noted("bea", |_| true));
    let cards = |world: &World| ["ann", "twin"].map(|name| world.processes[name].disk.me.as_ref().map(|me| me.contact));
    let sequences = cards(&world);
    world.run_for(Duration::from_secs(60));
    assert!(all_know(&world), "once known, always known");
    assert!(hellos(&world) - before.0 < 60 * 5, "{} hellos of four processes in a minute", hellos(&world) - before.0);
    for (name, count) in [("ann", before.1), ("bea", before.2)] {
        let new = &world.processes[name].disk.record[count..];
        assert!(new.is_empty(), "{name} wrote down {new:?}");
    }
    assert_eq!(cards(&world), sequences, "neither wants the greater card for ever");
    assert_eq!(world.sees("bea", 1).waiting, 1);
    for name in ["ann", "twin", "bea", "carl"] {
        assert_eq!(world.refused(name, Cause::Replayed), 0, "{name}");
        assert_eq!(world.noted(name, cloned), 1, "{name}");
    }
    assert_eq!(world.processes["ann"].disk.taken + world.processes["twin"].disk.taken, 0);

    // One is stopped: the other goes on as soon as it is started again.
    world.kill("twin");
    let disk = world.kill("ann");
    world.start("ann", 1, disk);
    world.within(SOON, "all is well", |world| {
        !world.is_cloned("ann") && ["bea", "carl"].iter().all(|name| !world.sees(name, 1).cloned && world.sees(name, 1).available)
    });
    world.within(SOON, "the letter that waited", |world| world.sees("bea", 1).waiting == 0);
    assert_eq!(world.processes["ann"].disk.taken, 1);
    assert!(matches!(world.write("ann", 2), Answer::Accepted { .. }));
    world.within(SOON, "a letter of the survivor", |world| world.processes["bea"].disk.taken == 1);
    world.run_for(Duration::from_secs(30));
    assert!(!world.is_cloned("ann") && !world.sees("bea", 1).cloned);
}

#[test]
fn copies_that_were_started_in_any_order_and_number_are_found_out() {
    for (ann, twin) in [(1, 1), (1, 4), (4, 1)] {
        for late in [0, 1, 7] {
            let mut world = World::default();
            let disk = before(&mut world, 2);
            // Each was started alone before, where nobody saw it.
            let alone = |disk: &Disk, starts: u64| {
                let mut disk = disk.clone();
                for _ in 1..starts {
                    let mut elsewhere = World { starts: 1_000 * (ann * 10 + twin) + starts, ..World::default() };
                    elsewhere.start("alone", 1, disk);
                    elsewhere.run_for(Duration::from_secs(1));
                    disk = elsewhere.kill("alone");
                }
                disk
            };
            world.start("ann", 1, alone(&disk, ann));
            world.run_for(Duration::from_secs(late));
            world.start("twin", 1, alone(&disk, twin));
            world.within(SOON, &format!("{ann} and {twin} starts, {late} s apart"), all_know);
            for name in ["ann", "twin"] {
                assert!(world.noted(name, minted) <= 1, "{name} of {ann} and {twin} starts, {late} s apart");
            }
        }
    }
}

#[test]
fn a_copy_of_a_directory_in_use_is_found_out_too() {
    let mut world = World::default();
    let disk = before(&mut world, 2);
    world.start("ann", 1, disk);
    world.run_for(Duration::from_secs(3));
    // The copy remembers the start that made it, and that start is not over.
    let disk = world.processes["ann"].disk.clone();
    world.start("twin", 1, disk);
    world.within(SOON, "all know", all_know);
}

#[test]
fn one_that_is_killed_and_started_again_is_no_clone() {
    let mut world = World::default();
    let mut disk = before(&mut world, 1);
    for n in 0..40 {
        world.start("ann", 1, disk);
        world.run_for(Duration::from_millis(50 * n));
        assert!(!world.is_cloned("ann") && ["bea", "carl"].iter().all(|name| !world.sees(name, 1).cloned));
        assert_eq!(world.noted("ann", minted), 0);
        disk = world.kill("ann");
    }
}
