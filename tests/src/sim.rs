//! A whole swarm in one thread and in virtual time: peers, disks, wires, people and accidents, all from one seed.
//! Knows nothing of sockets and files. Same seed, same run; whatever breaks a promise ends it with the seed in hand.

mod agenda;
mod chance;
mod checker;
mod custodians;
mod desk;
mod disk;
mod driver;
mod faults;
mod network;
mod node;
pub mod options;
mod orderers;
mod recorded;
mod run;
mod runner;
mod stories;
mod tasks;
pub mod trace;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::input::{Command, Disk as Room};
use protocol::message::Lane;
use protocol::{Answer, Input, RequestId};

use self::agenda::{Agenda, Event};
use self::chance::Chance;
use self::checker::Checker;
use self::custodians::Custodians;
use self::disk::Disk;
use self::network::{Network, Sight};
pub use self::node::CrashPoint;
use self::node::Node;
pub use self::options::Options;
pub use self::orderers::{a_service, an_order};
use self::recorded::Recorded;
pub use self::run::{Outcome, run};
pub use self::stories::{Backup, Who};
use self::tasks::Tasks;
use self::trace::{Detail, Trace};
use self::workload::{Request, Workload};

/// How much happened: a run in which nothing did proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Letters that users were told are accepted.
    pub accepted: u64,
    /// Requests for letters that were refused.
    pub refused: u64,
    /// Copies of letters that reached their recipients.
    pub taken: u64,
    /// Segments of the record that somebody keeps copies of.
    pub copied: u64,
    /// Nodes killed.
    pub crashes: u64,
    /// Disks put back to a backup.
    pub restored: u64,
    /// Nodes gone for ever.
    pub departed: u64,
    /// Frames sent.
    pub frames: u64,
    /// Batches handled.
    pub batches: u64,
    /// Batches that were flushed.
    pub commits: u64,
    /// Orders that users were told are placed.
    pub placed: u64,
    /// Programs started.
    pub runs: u64,
    /// Claims sent from peer to peer; they are not counted as frames.
    pub claims: u64,
}

/// See the module.
pub struct Sim {
    seed: u64,
    options: Options,
    agenda: Agenda,
    nodes: Vec<Node>,
    network: Network,
    checker: Checker,
    recorded: Recorded,
    custodians: Custodians,
    tasks: Tasks,
    work: Workload,
    answers: BTreeMap<RequestId, Answer>,
    /// Chance of drivers and disks.
    chance: Chance,
    faults: Chance,
    /// Faults and work go on.
    faulty: bool,
    /// A story is told: refusals are for the story to judge, and nothing restarts by itself.
    by_hand: bool,
    cuts: u64,
    /// Cards that were put where strangers find them.
    cards: BTreeMap<protocol::PeerId, protocol::input::Heard<protocol::contact::Contact>>,
    leaving: BTreeSet<usize>,
    trace: Trace,
    counts: Counts,
    failure: Option<String>,
}

impl Sim {
    fn build(seed: u64, options: Options, detail: Detail) -> Sim {
        let network = Network::new(seed, options.weather.clone());
        Sim {
            seed,
            agenda: Agenda::default(),
            nodes: Vec::new(),
            network,
            checker: Checker::default(),
            recorded: Recorded::default(),
            custodians: Custodians::default(),
            tasks: Tasks::default(),
            work: Workload::new(seed),
            answers: BTreeMap::new(),
            chance: Chance::new(seed, "driver"),
            faults: Chance::new(seed, "faults"),
            faulty: false,
            by_hand: false,
            cuts: 0,
            cards: BTreeMap::new(),
            leaving: BTreeSet::new(),
            trace: Trace::new(detail),
            counts: Counts::default(),
            failure: None,
            options,
        }
    }

    /// One more machine, not started yet.
    fn add(&mut self, name: &str) -> usize {
        let number = self.nodes.len();
        let name = name.parse().expect("names of simulated peers are names");
        let node = Node::new(number, name, self.seed, &self.options.config, self.options.cryptography);
        self.checker.introduce(node.identity.id, number);
        self.trace.introduce(node.identity.id, node.name());
        self.nodes.push(node);
        number
    }

    fn now(&self) -> Duration {
        self.agenda.now()
    }

    fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    fn demand(&mut self, verdict: Result<(), String>) {
        if let Err(why) = verdict {
            self.fail(why);
        }
    }

    /// One event before `end` happens, or time goes on to `end` and there is none.
    fn step(&mut self, end: Duration) -> bool {
        let Some(event) = self.agenda.pop(end).filter(|_| self.failure.is_none()) else { return false };
        match event {
            Event::Wake { node, life } => self.on_wake(node, life),
            Event::Timer { node, life, version } => self.on_timer(node, life, version),
            Event::Flushed { node, life } => self.on_flushed(node, life),
            Event::Tell { node, life, input } => self.tell(node, life, *input),
            Event::Start { node } => self.on_start(node),
            Event::Gone { node, life } => {
                if self.nodes[node].life == life && self.nodes[node].is_up() {
                    self.die(node, false);
                }
            }
            Event::Connect { pair } => {
                let alive = self.nodes[pair.0].is_up() && self.nodes[pair.1].is_up();
                self.network.on_connect(pair, alive, &mut self.agenda);
            }
            Event::Seen { pair, generation, side } => {
                if let Some(sight) = self.network.on_seen(pair, generation, side) {
                    self.on_sight(network::end(pair, side), network::end(pair, 1 - side), &sight);
                }
            }
            Event::Lost { pair, generation, side } => {
                if self.network.on_lost(pair, generation, side) {
                    let (node, other) = (network::end(pair, side), network::end(pair, 1 - side));
                    let peer = self.nodes[other].identity.id;
                    self.tell_now(node, Input::PeerLost { peer });
                }
                // Even if neither end has seen it yet.
                self.reconnect(pair);
            }
            Event::Starved { pair, generation } => {
                if self.network.is_starved(pair, generation) {
                    self.network.break_link(pair, &mut self.agenda);
                }
            }
            Event::Torn { pair, generation } => {
                if self.network.is_torn(pair, generation) {
                    self.network.break_link(pair, &mut self.agenda);
                }
            }
            Event::Frame { from, to, generation, frame } => {
                if self.network.reaches(from, to, generation) {
                    let peer = self.nodes[from].identity.id;
                    for input in self.nodes[to].desk.admit(peer, &frame) {
                        self.tell_now(to, input);
                    }
                }
            }
            Event::Gossip { from, to, generation, gossip } => {
                if self.network.reaches(from, to, generation) {
                    let peer = self.nodes[from].identity.id;
                    if let Some(input) = self.nodes[to].hear(from, peer, &gossip) {
                        self.tell_now(to, input);
                    }
                }
            }
            Event::Heal { cut } => {
                self.network.heal(Some(cut), &mut self.agenda);
                self.reconnect_all();
            }
            Event::Fault(fault) => self.on_fault(fault),
            Event::Work => self.on_work(),
            Event::Repeat { job } => self.submit(*job),
            Event::RepeatOrder { job } => self.submit_order(*job),
            Event::Process { node, life, task, turn } => self.on_process(node, life, *task, &turn),
            Event::Restore { node } => self.on_restore(node),
        }
        true
    }

    /// A connection is up at one end. Whoever was told of one is told of its loss before the next; but one may take the
    /// place of another, and then only frames are missing.
    fn on_sight(&mut self, node: usize, other: usize, sight: &Sight) {
        let peer = self.nodes[other].identity.id;
        if *sight == Sight::Takeover {
            for lane in [Lane::Urgent, Lane::Bulk] {
                self.tell_now(node, Input::SendFailed { to: peer, lane });
            }
            return;
        }
        if *sight == Sight::AfterLoss {
            self.tell_now(node, Input::PeerLost { peer });
        }
        let address = self.nodes[other].address(other);
        self.tell_now(node, Input::PeerSeen { peer, address });
    }

    /// Two nodes that know where the other is try to connect.
    fn reconnect(&mut self, pair: network::Pair) {
        let neighbours = pair.1 == pair.0 + 1;
        // As a real node does, which dials whom it remembers, again and again.
        let remembers = |a: usize, b: usize| self.nodes[a].disk.known.contains_key(&self.nodes[b].identity.id);
        if self.options.multicast || neighbours || remembers(pair.0, pair.1) || remembers(pair.1, pair.0) {
            self.network.want(pair.0, pair.1, &mut self.agenda);
        }
    }

    fn reconnect_all(&mut self) {
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                self.reconnect((a, b));
            }
        }
    }

    // -- what happens to one node

    fn on_start(&mut self, node: usize) {
        if self.nodes[node].is_up() || self.custodians.departed.contains(&node) {
            return;
        }
        let disk = &self.nodes[node].disk;
        let verdict = self.checker.on_start(node, disk).and_then(|()| self.tasks.on_start(node, disk));
        self.demand(verdict);
        let now = self.now();
        if self.chance.yes(0.1) {
            self.nodes[node].port += 1;
        }
        self.nodes[node].start(node, self.seed, &self.options.config, now, &mut self.chance);
        self.trace.line(now, self.nodes[node].name(), "**", &"started");
        self.wake(node);
        for other in 0..self.nodes.len() {
            if other != node {
                self.reconnect(network::pair(node, other));
            }
        }
    }

    /// A node is killed at this moment. A flush under way may or may not have been the last thing.
    fn die(&mut self, node: usize, silent: bool) {
        if !self.nodes[node].is_up() {
            return;
        }
        if let Some(batch) = self.nodes[node].flushing.take()
            && self.chance.yes(0.5)
        {
            self.commit(node, &batch.changes);
        }
        self.trace.line(self.agenda.now(), self.nodes[node].name(), "**", &if silent { "died in silence" } else { "died" });
        self.nodes[node].die();
        self.leaving.remove(&node);
        self.network.on_down(node, silent, &mut self.agenda);
        self.on_unanswered(node);
        if self.faulty {
            self.restart_later(node);
        }
    }

    /// A node is asked to stop in order.
    fn begin_stop(&mut self, node: usize) {
        if !self.nodes[node].is_up() || !self.leaving.insert(node) {
            return;
        }
        self.ask(node, Command::Leave, Request::Other { node });
        let wait = self.options.grouping * 20 + self.options.flush * 25 + Duration::from_millis(50);
        self.agenda.after(wait, Event::Gone { node, life: self.nodes[node].life });
    }

    fn pause(&mut self, node: usize, until: Duration) {
        let until = until.max(self.nodes[node].paused_until);
        self.nodes[node].paused_until = until;
        self.nodes[node].steady_since = until;
    }

    fn measure(&mut self, node: usize, disk: Room) {
        self.tell_now(node, Input::Measured { statistics: node::MACHINE, disk });
    }

    fn snapshot(&self, node: usize) -> Disk {
        self.nodes[node].disk.clone()
    }

    /// A node's disk is replaced by an older copy of itself: by `restore`, which tells the node so, or behind its back.
    fn put_back(&mut self, node: usize, mut backup: Disk, told: bool) {
        assert!(!self.nodes[node].is_up(), "disks are put back while their node is down");
        self.checker.on_restored(node, &backup);
        self.tasks.on_restored(node, &backup);
        self.counts.restored += 1;
        if let Some(me) = backup.me.as_mut().filter(|_| told) {
            me.restored = true;
        }
        self.trace.line(self.agenda.now(), self.nodes[node].name(), "**", &if told { "restored" } else { "put back to its backup" });
        self.nodes[node].disk = backup;
    }

    fn on_restore(&mut self, node: usize) {
        if !self.faulty {
            return;
        }
        if let Some(backup) = self.nodes[node].backup.take() {
            self.die(node, false);
            let told = self.counts.restored.is_multiple_of(2);
            self.put_back(node, backup, told);
        }
    }

    /// A request enters a node's queue.
    fn ask(&mut self, node: usize, command: Command, request: Request) -> RequestId {
        let request = self.work.request(request);
        self.tell_now(node, Input::Asked { request, command });
        request
    }
}
