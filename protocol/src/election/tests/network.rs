//! The network of these tests: virtual time, streams in order, gossip that may be lost, disks that keep one row each.
//! Checks at every step that nothing was said before it was on disk, that fences only grow, and that no deadline is for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::bundle::Secrets;
use crate::effect::Say;
use crate::election::*;

/// How long it takes to notice that a silent peer is gone (as `gone_at_least`).
const GONE: Duration = Duration::from_secs(10);

thread_local! {
    static PEERS: Vec<PeerId> = (0..64u8).map(|no| Secrets::from_seeds(&[no + 1; 32], &[no + 1; 32]).id()).collect();
}

pub(super) fn peer(no: usize) -> PeerId {
    PEERS.with(|peers| peers[no])
}

pub(super) fn machine(no: usize) -> MachineId {
    MachineId::new([u8::try_from(no).expect("few"); 16])
}

#[derive(Default)]
struct Node {
    election: Option<Election>,
    disk: Option<FenceRow>,
    boot: u64,
    /// Whom it takes for reachable, since when.
    up: BTreeMap<usize, Duration>,
    frozen: bool,
    ticked_at: Duration,
    /// When it began to lead under what.
    led: Vec<(Duration, Fence)>,
}

enum Event {
    Tick(usize, Duration),
    Word { from: usize, to: usize, link: u64, work: Work },
    Gossip { from: usize, to: usize, claim: Proven<Claim> },
    Up { at: usize, peer: usize, link: u64 },
    Down { at: usize, peer: usize, link: u64 },
}

pub(super) struct Network {
    pub(super) now: Duration,
    /// Whether gossip works at all.
    pub(super) gossips: bool,
    nodes: Vec<Node>,
    /// Links that carry, each with its number.
    links: BTreeMap<(usize, usize), u64>,
    /// The last arrival of each direction of each link: streams keep their order.
    arrivals: BTreeMap<(usize, usize), Duration>,
    events: BTreeMap<(Duration, u64), Event>,
    next: u64,
    rng: ChaCha8Rng,
    /// Which boot of whom claimed under each fence.
    claimed: BTreeMap<Fence, u64>,
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

impl Network {
    pub(super) fn new(seed: u64, nodes: usize) -> Network {
        let mut network = Network {
            now: Duration::ZERO,
            gossips: true,
            nodes: (0..nodes).map(|_| Node::default()).collect(),
            links: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            events: BTreeMap::new(),
            next: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            claimed: BTreeMap::new(),
        };
        (0..nodes).for_each(|no| network.start(no));
        network
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn draw(&mut self, below: usize) -> usize {
        usize::try_from(self.rng.next_u64() % below as u64).expect("below a length")
    }

    fn within(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_micros()).expect("short");
        Duration::from_micros(self.rng.next_u64() % (most + 1))
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.next += 1;
        self.events.insert((at, self.next), event);
    }

    // -- what happens to nodes and links

    pub(super) fn start(&mut self, no: usize) {
        if self.nodes[no].election.is_some() {
            return;
        }
        let now = Now { mono: self.now, ..Now::default() };
        let node = &mut self.nodes[no];
        node.boot += 1;
        (node.frozen, node.ticked_at) = (false, self.now);
        let mut election = Election::new(peer(no), machine(no), node.boot, &Config::default(), node.disk, now);
        election.set_eligible(true, now, &mut Out::default());
        assert_eq!(election.obeyed(), node.disk.map(|row| row.fence));
        node.election = Some(election);
        self.at(self.now, Event::Tick(no, self.now));
    }

    /// Its connections close.
    pub(super) fn kill(&mut self, no: usize) {
        let others: Vec<usize> = (0..self.len()).filter(|other| *other != no).collect();
        for other in others {
            self.cut(no, other, false);
        }
        let node = &mut self.nodes[no];
        (node.election, node.frozen) = (None, false);
        node.up.clear();
    }

    pub(super) fn freeze(&mut self, no: usize) {
        self.nodes[no].frozen = self.nodes[no].election.is_some();
    }

    pub(super) fn thaw(&mut self, no: usize) {
        if std::mem::take(&mut self.nodes[no].frozen) {
            self.at(self.now, Event::Tick(no, self.now));
        }
    }

    /// Nothing is carried any more. `silent`: nobody is told until long afterwards.
    pub(super) fn cut(&mut self, one: usize, other: usize, silent: bool) {
        let Some(link) = self.links.remove(&pair(one, other)) else { return };
        for (at, peer) in [(one, other), (other, one)] {
            let after = if silent { GONE } else { self.within(Duration::from_millis(30)) };
            self.at(self.now + after, Event::Down { at, peer, link });
        }
    }

    pub(super) fn partition(&mut self, left: usize, silent: bool) {
        for one in 0..left {
            for other in left..self.len() {
                self.cut(one, other, silent);
            }
        }
    }

    /// All links that are missing come up, each at its time.
    pub(super) fn link_all(&mut self, within: Duration) {
        for one in 0..self.len() {
            for other in one + 1..self.len() {
                if self.links.contains_key(&(one, other)) || self.nodes[one].election.is_none() || self.nodes[other].election.is_none() {
                    continue;
                }
                self.next += 1;
                let link = self.next;
                self.links.insert((one, other), link);
                let at = self.now + self.within(within);
                for (here, there) in [(one, other), (other, one)] {
                    let later = self.within(Duration::from_millis(5));
                    self.at(at + later, Event::Up { at: here, peer: there, link });
                }
            }
        }
    }

    /// What a disk from elsewhere remembers.
    pub(super) fn remember(&mut self, no: usize, fence: Fence) {
        self.nodes[no].disk = Some(FenceRow { fence, counter: 1 });
    }

    pub(super) fn transfer(&mut self, no: usize, to: usize) {
        self.with(no, |election, _, now, out| {
            // Only a leader can, and the random story asks everybody.
            let _ = election.transfer(peer(to), now, out);
            Vec::new()
        });
    }

    pub(super) fn leave(&mut self, no: usize) {
        self.with(no, Election::leave);
    }

    pub(super) fn disable(&mut self, no: usize) {
        self.with(no, |election, _, now, out| election.set_eligible(false, now, out));
    }

    // -- time

    pub(super) fn run(&mut self, until: Duration) {
        while let Some((&(at, no), _)) = self.events.first_key_value()
            && at <= until
        {
            self.now = self.now.max(at);
            let event = self.events.remove(&(at, no)).expect("it was there");
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        let (Event::Tick(at, _)
        | Event::Word { to: at, .. }
        | Event::Gossip { to: at, .. }
        | Event::Up { at, .. }
        | Event::Down { at, .. }) = &event;
        let at = *at;
        if self.nodes[at].frozen {
            // It finds all of it when it wakes; its timers too.
            if !matches!(event, Event::Tick(..)) {
                self.at(self.now + Duration::from_millis(20), event);
            }
            return;
        }
        match event {
            Event::Tick(_, due) => {
                if self.nodes[at].election.as_ref().and_then(Election::deadline).is_some_and(|d| d <= self.now) || due == self.now {
                    self.with(at, |_, _, _, _| Vec::new());
                }
            }
            Event::Word { from, link, work, .. } => {
                // What is still under way when the link goes is lost with it.
                if self.links.get(&pair(from, at)) == Some(&link) && self.nodes[at].up.contains_key(&from) {
                    self.with(at, |election, roster, now, out| hear(election, peer(from), work, roster, now, out));
                }
            }
            Event::Gossip { from, claim, .. } => {
                let mut accepted = false;
                let heard = claim.clone();
                self.with(at, |election, roster, now, out| {
                    let (verdict, facts) = election.on_claim(None, heard, roster, now, out);
                    accepted = verdict == Verdict::Accept;
                    facts.expect("nobody lies")
                });
                if accepted {
                    self.gossip(at, Some(from), &claim);
                }
            }
            Event::Up { peer: other, link, .. } => {
                if self.links.get(&pair(at, other)) == Some(&link) && self.nodes[at].election.is_some() {
                    self.nodes[at].up.insert(other, self.now);
                    self.with(at, |election, _, now, out| {
                        election.on_reachable(peer(other), now, out);
                        Vec::new()
                    });
                }
            }
            Event::Down { peer: other, link, .. } => {
                let current = self.links.get(&pair(at, other)).is_none_or(|newer| *newer <= link);
                if current && self.nodes[at].up.remove(&other).is_some() {
                    self.with(at, |election, roster, now, out| election.on_unreachable(peer(other), roster, now, out));
                }
            }
        }
    }

    /// Does one thing to a node that runs, ends the batch, and does what it wants done.
    fn with(&mut self, no: usize, act: impl FnOnce(&mut Election, &[Neighbour], Now, &mut Out) -> Vec<Fact>) {
        let now = Now { mono: self.now, ..Now::default() };
        let node = &mut self.nodes[no];
        let Some(election) = &mut node.election else { return };
        let roster: Vec<Neighbour> =
            node.up.iter().map(|(no, since)| Neighbour { peer: peer(*no), machine: machine(*no), since: *since }).collect();
        if self.now > node.ticked_at + Duration::from_secs(30)
            || election.deadline().is_some_and(|due| due + Duration::from_secs(1) < self.now)
        {
            election.on_stalled(now);
        }
        node.ticked_at = self.now;
        let (mut out, leader) = (Out { me: Some(peer(no)), ..Out::default() }, election.leader());
        let mut facts = act(election, &roster, now, &mut out);
        facts.extend(election.tick(&roster, now, &mut out));
        assert!(out.to_myself.is_empty(), "it says nothing to itself");
        // The facts tell the truth.
        let mut known = leader;
        for fact in facts {
            known = match fact {
                Fact::Nobody => None,
                Fact::Leads(fence) => {
                    assert_eq!(fence.leader, peer(no));
                    node.led.push((self.now, fence));
                    Some(fence)
                }
                Fact::Follows(fence) => {
                    assert_ne!(fence.leader, peer(no));
                    Some(fence)
                }
            };
        }
        assert_eq!(known, election.leader());
        assert!(election.leader().is_none_or(|fence| Some(fence) == election.obeyed()), "who is obeyed leads");
        let deadline = election.deadline();
        assert!(deadline.is_none_or(|due| due > self.now), "node {no} is due for ever: {election:?}");
        assert_eq!(election.status(now).map(|status| status.fence), election.leader());
        self.perform(no, out);
        if let Some(due) = deadline {
            self.at(due, Event::Tick(no, due));
        }
    }

    fn perform(&mut self, no: usize, out: Out) {
        for effect in &out.effects {
            if let Effect::Store(Change::Fence(row)) = effect {
                let order = |row: &FenceRow| (row.fence, row.counter);
                assert!(self.nodes[no].disk.as_ref().is_none_or(|before| order(before) < order(row)), "fences only grow");
                self.nodes[no].disk = Some(*row);
            }
        }
        for effect in out.effects {
            match effect {
                Effect::Send { to, say } => {
                    let Say::Work(work) = *say else { panic!("an election speaks of work only") };
                    let to = (0..self.len()).find(|other| peer(*other) == to).expect("one of them");
                    self.send(no, to, work);
                }
                Effect::PublishClaim(claim) => {
                    let row = self.nodes[no].disk.expect("it is on disk");
                    assert_eq!((claim.value.fence, claim.value.counter), (row.fence, row.counter));
                    assert_eq!(claim.value.fence.leader, peer(no));
                    let boot = self.nodes[no].boot;
                    assert_eq!(*self.claimed.entry(row.fence).or_insert(boot), boot, "each start claims terms of its own");
                    self.gossip(no, None, &claim.unchecked());
                }
                Effect::Store(Change::Fence(_)) | Effect::Notify(Notice::Leader { .. }) => {}
                other => panic!("an election does not do this: {other:?}"),
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, work: Work) {
        let Some(link) = self.links.get(&pair(from, to)).copied() else { return };
        let work = match work {
            Work::Claim(claim) => Work::Claim(Box::new(claim.unchecked())),
            other => other,
        };
        let slow = if self.draw(50) == 0 { 30 } else { 3 };
        let at = self.now + self.within(Duration::from_millis(slow));
        let at = at.max(self.arrivals.get(&(from, to)).copied().unwrap_or_default());
        self.arrivals.insert((from, to), at);
        self.at(at, Event::Word { from, to, link, work });
    }

    /// To six others at most, as in a gossip mesh; one in ten is lost.
    fn gossip(&mut self, no: usize, but: Option<usize>, claim: &Proven<Claim>) {
        if !self.gossips {
            return;
        }
        let linked: Vec<usize> = self.nodes[no].up.keys().copied().filter(|to| Some(*to) != but).collect();
        for to in linked.into_iter().take(6) {
            if self.links.contains_key(&pair(no, to)) && self.draw(10) != 0 {
                let at = self.now + self.within(Duration::from_millis(50));
                self.at(at, Event::Gossip { from: no, to, claim: claim.clone() });
            }
        }
    }

    // -- what can be seen

    /// The one leader whom all that run obey.
    pub(super) fn agreed(&self) -> usize {
        self.agreed_but(&[])
    }

    pub(super) fn agreed_but(&self, but: &[usize]) -> usize {
        let running = self.nodes.iter().enumerate().filter(|(no, node)| !node.frozen && !but.contains(no));
        let leaders: Vec<(usize, Option<Fence>)> =
            running.filter_map(|(no, node)| node.election.as_ref().map(|election| (no, election.leader()))).collect();
        let (_, first) = leaders[0];
        assert!(first.is_some() && leaders.iter().all(|(_, leader)| *leader == first), "at {:?} no agreement: {leaders:#?}", self.now);
        (0..self.len()).find(|no| first.is_some_and(|fence| fence.leader == peer(*no))).expect("one of them")
    }

    /// Who takes itself for the leader.
    pub(super) fn leaders(&self) -> BTreeSet<usize> {
        let leads = |no: &usize| self.nodes[*no].election.as_ref().is_some_and(|election| election.leads().is_some());
        (0..self.len()).filter(leads).collect()
    }

    pub(super) fn led_since(&self, no: usize, at: Duration) -> Vec<(Duration, Fence)> {
        self.nodes[no].led.iter().filter(|(began, _)| *began >= at).copied().collect()
    }

    /// The greatest term anybody has on disk.
    pub(super) fn terms(&self) -> u64 {
        self.nodes.iter().filter_map(|node| node.disk.map(|row| row.fence.term)).max().unwrap_or_default()
    }

    /// Whether there have been so many terms that candidates are slow.
    pub(super) fn recent(&self) -> bool {
        self.nodes.iter().any(|node| node.election.as_ref().is_some_and(|election| election.terms.are_many(self.now)))
    }
}

fn hear(election: &mut Election, from: PeerId, work: Work, roster: &[Neighbour], now: Now, out: &mut Out) -> Vec<Fact> {
    election.on_leader_spoke(from, now);
    match work {
        Work::Claim(claim) => election.on_claim(Some(from), *claim, roster, now, out).1.expect("nobody lies"),
        Work::AskLeader(fence) => {
            election.on_ask_leader(from, fence, now, out);
            Vec::new()
        }
        Work::LeaderHeard { fence, heard } => {
            election.on_leader_heard(from, fence, heard, now, out);
            Vec::new()
        }
        Work::HandOver(fence) => election.on_hand_over(from, fence, roster, now, out).expect("nobody lies"),
        other => panic!("an election does not say this: {other:?}"),
    }
}
