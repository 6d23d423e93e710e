//! One simulated node: a peer, its disk, its clock, and the driver between them.
//! Knows nothing of other nodes. Nothing is performed before the changes of its batch are on the disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use protocol::beacon::Statistics;
use protocol::bundle::Secrets;
use protocol::edge::{self, Edge};
use protocol::effect::{Change, Effect, Verdict as Judgement};
use protocol::id::MachineId;
use protocol::input::Disk as Room;
use protocol::name::PeerName;
use protocol::{Config, Identity, Input, Now, Peer, PeerId, Timestamp};

use super::chance::{Chance, generator};
use super::desk::{Desk, Gossip, Name};
use super::disk::Disk;
use super::runner::Runner;

/// What every simulated machine has, and has free.
pub(crate) const MACHINE: Statistics = Statistics { cores: 4, cores_free_percent: 400, memory_bytes: 8 << 30, memory_free_bytes: 8 << 30 };

/// Where in a commit a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// Nothing of the batch is on disk.
    BeforeCommit,
    /// All of it is, and nothing else of it is done.
    AfterCommit,
    /// All of it is on disk, and so many of the other effects are done.
    After(usize),
}

/// A death that waits for its commit.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) point: CrashPoint,
    pub(crate) when: fn(&Change) -> bool,
    pub(crate) silent: bool,
}

/// What one batch has led to and is not done yet.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) changes: Vec<Change>,
    pub(crate) effects: Vec<Effect>,
}

/// See the module.
pub(crate) struct Node {
    pub(crate) identity: Identity,
    pub(crate) desk: Desk,
    pub(crate) disk: Disk,
    pub(crate) runner: Runner,
    pub(crate) peer: Option<Peer>,
    /// Counts the starts: events of an earlier life are void.
    pub(crate) life: u64,
    pub(crate) queue: VecDeque<Input>,
    pub(crate) flushing: Option<Batch>,
    /// A [`Event::Wake`](super::agenda::Event::Wake) is under way.
    pub(crate) woken: bool,
    /// Names the timer that is wound up now.
    pub(crate) timer: u64,
    pub(crate) paused_until: Duration,
    /// When it started last, or stood still last.
    pub(crate) steady_since: Duration,
    pub(crate) plan: Option<Plan>,
    /// A copy of the disk, kept elsewhere.
    pub(crate) backup: Option<Disk>,
    wall: u64,
    pub(crate) port: u16,
    /// It has the address of this machine, if not one of its own.
    pub(crate) at: Option<usize>,
    heard: BTreeSet<Name>,
    tokens: BTreeMap<u64, (usize, Rc<Gossip>)>,
    next_token: u64,
    /// In which second how often its timer rang, for nothing but itself.
    rings: (u64, u32),
    pub(crate) commits: u64,
}

impl Node {
    /// A machine that was never started.
    pub(crate) fn new(number: usize, name: PeerName, seed: u64, config: &Config, cryptography: bool) -> Node {
        use rand_core::Rng as _;
        let mut rng = generator(seed, "keys", number as u64);
        let (mut signing, mut encryption, mut machine) = ([0; 32], [0; 32], [0; 16]);
        rng.fill_bytes(&mut signing);
        rng.fill_bytes(&mut encryption);
        rng.fill_bytes(&mut machine);
        let secrets = Secrets::from_seeds(&signing, &encryption);
        let identity = Identity {
            id: secrets.id(),
            name,
            machine: MachineId::new(machine),
            encryption_key: secrets.encryption_key(),
            key: secrets.key_id(),
        };
        let desk = Desk::new(identity.id, cryptography.then(|| Edge::new(secrets, config.swarm.clone())));
        Node {
            identity,
            desk,
            disk: Disk::default(),
            runner: Runner::default(),
            peer: None,
            life: 0,
            queue: VecDeque::new(),
            flushing: None,
            woken: false,
            timer: 0,
            paused_until: Duration::ZERO,
            steady_since: Duration::ZERO,
            plan: None,
            backup: None,
            wall: 1_800_000_000_000 + 1000 * number as u64,
            port: 6174,
            at: None,
            heard: BTreeSet::new(),
            tokens: BTreeMap::new(),
            next_token: 0,
            rings: (0, 0),
            commits: 0,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.identity.name.as_str()
    }

    pub(crate) fn address(&self, number: usize) -> String {
        format!("/ip4/10.0.0.{}/tcp/{}", self.at.unwrap_or(number) + 1, self.port)
    }

    /// Both clocks at this virtual time.
    pub(crate) fn clock(&self, now: Duration) -> Now {
        let since = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        Now { mono: now, wall: Timestamp(self.wall + since) }
    }

    /// Begins a new life from what the disk remembers.
    pub(crate) fn start(&mut self, number: usize, seed: u64, config: &Config, now: Duration, chance: &mut Chance) {
        self.life += 1;
        // People set clocks: now and then the wall clock has moved by up to a minute, also back.
        if chance.yes(0.2) {
            self.wall = self.wall + chance.below(120_000) - 60_000;
        }
        let rng = generator(seed, "node", ((number as u64) << 32) + self.life);
        self.peer = Some(Peer::new(self.identity.clone(), config.clone(), rng, self.disk.kept(), self.clock(now)));
        self.steady_since = now;
        self.queue.clear();
        self.queue.push_back(Input::Listening { addresses: vec![self.address(number)] });
        self.queue.push_back(Input::Measured { statistics: MACHINE, disk: Room::Enough });
    }

    /// Dies: what was not flushed is gone.
    pub(crate) fn die(&mut self) {
        self.peer = None;
        self.queue.clear();
        self.flushing = None;
        self.woken = false;
        self.timer += 1;
        self.plan = None;
        self.paused_until = Duration::ZERO;
        self.runner.die();
        self.heard.clear();
        self.tokens.clear();
    }

    /// Whether it is running.
    pub(crate) fn is_up(&self) -> bool {
        self.peer.is_some()
    }

    /// A gossip comes: what the peer is told of it, unless it was heard before.
    pub(crate) fn hear(&mut self, from: usize, peer: PeerId, gossip: &Rc<Gossip>) -> Option<Input> {
        if !self.heard.insert(gossip.name) {
            return None;
        }
        self.next_token += 1;
        Some(match self.desk.hear(gossip) {
            Ok(heard) => {
                let token = self.next_token;
                self.tokens.insert(token, (from, Rc::clone(gossip)));
                match heard {
                    edge::Gossip::Beacon(beacon) => Input::Heard { from: peer, token, beacon: *beacon },
                    edge::Gossip::Claim(claim) => Input::ClaimHeard { from: peer, token, claim },
                }
            }
            Err(cause) => Input::Refused { from: peer, cause },
        })
    }

    /// The peer has decided: the gossip, if it is to be passed on to others than the one it came from.
    pub(crate) fn judge(&mut self, token: u64, verdict: Judgement) -> Result<Option<(usize, Rc<Gossip>)>, String> {
        let Some(gossip) = self.tokens.remove(&token) else { return Err(format!("gossip {token} is judged, and was judged before")) };
        match verdict {
            Judgement::Accept => Ok(Some(gossip)),
            Judgement::Ignore => Ok(None),
            Judgement::Reject => Err("an honest beacon or claim is rejected".to_owned()),
        }
    }

    /// Whether every gossip that the peer was told of has been decided.
    pub(crate) fn all_judged(&self) -> bool {
        self.tokens.is_empty() || self.queue.iter().any(|input| matches!(input, Input::Heard { .. } | Input::ClaimHeard { .. }))
    }

    /// Own gossip comes back to oneself and is not new then.
    pub(crate) fn published(&mut self, gossip: &Gossip) {
        self.heard.insert(gossip.name);
    }

    /// The timer rang and nothing else was there; how often so far in this second.
    pub(crate) fn rang(&mut self, now: Duration) -> u32 {
        let second = now.as_secs();
        self.rings = if self.rings.0 == second { (second, self.rings.1 + 1) } else { (second, 1) };
        self.rings.1
    }

    /// What faces are told is what the disk says. Only to be asked when nothing is being flushed.
    pub(crate) fn check_status(&self) -> Result<(), String> {
        let (Some(peer), Some(me)) = (&self.peer, &self.disk.me) else { return Ok(()) };
        let status = peer.status();
        let same = |what: &str, told: u64, kept: u64| {
            if told == kept { Ok(()) } else { Err(format!("status of {} says {told} {what}, the disk {kept}", self.name())) }
        };
        same("copies wait", status.outbox_letters, self.disk.waiting_copies())?;
        same("bytes wait", status.outbox_bytes, self.disk.outbox_bytes())?;
        same("is the next entry", status.next_entry, self.disk.next_entry())?;
        same("is the next n", status.next_n, self.disk.last_n + 1)?;
        same("is available", status.available.into(), me.available.into())?;
        same("is inactive", status.inactive.into(), me.inactive.into())?;
        same("is the epoch", status.epoch.0, me.epoch.0)?;
        same("is the boot", status.boot, me.boot)?;
        same("other peers are known", status.peers.len() as u64, self.disk.known.len() as u64)
    }
}
