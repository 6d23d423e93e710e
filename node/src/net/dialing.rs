//! Whom to dial, when, and at which addresses: the book of addresses and the rule that keeps two from dialling at once.
//! Knows nothing of sockets; time and chance are handed in.
//! A peer is in the queue if and only if it waits for its next dial; at most [`FLYING_MAX`] dials are under way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

/// The greater id leaves the first dial to the lesser for this long (research/libp2p.md, table: dialling).
const POLITE_WAIT: Duration = Duration::from_millis(1500);
/// Waits after failures double from the first to the last (research/libp2p.md, table: dialling, has 60 s; a host that
/// comes back, or a cut that heals, should be met within a quarter of a minute: guess).
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(15);
/// An address given by hand is tried again from 1 s on: nodes that are started together name each other (guess).
const FIRST_ROAD_BACKOFF: Duration = Duration::from_secs(1);
/// With very many absent peers the last wait stretches, so that all together stay below ten dials a second. Guess.
const PER_ABSENT_PEER: Duration = Duration::from_millis(100);
/// After a lost connection both sides wait within this span, so that they seldom meet. Guess.
const REDIAL: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(1000));
/// Every backoff is stretched by up to a quarter. Guess.
const JITTER: f64 = 0.25;
/// A peer of another swarm is dialled as seldom as one that failed this often.
const STRANGER_FAILURES: u32 = 8;
/// Addresses kept per peer; a host has a few interfaces and a few old ports. Guess.
const ADDRESSES_MAX: usize = 16;
/// Peers in the book: the cap that the table of research/libp2p.md sets for mDNS, ten times the tested swarm.
const PEERS_MAX: usize = 2000;
/// Addresses without an id, given by hand. Guess: more than anybody types.
const ROADS_MAX: usize = 256;
/// Dials under way; below the limit of pending connections, so that Kademlia may dial too.
const FLYING_MAX: usize = 48;

/// What a dial is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// A peer known by its id.
    Peer(PeerId),
    /// Addresses given by hand: whoever answers there.
    Road(u64),
}

/// A dial to be made now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) target: Target,
    pub(crate) addresses: Vec<Multiaddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Waiting(Instant),
    Dialling,
    Connected,
}

struct Entry {
    /// The one that worked last first; what is merely heard comes after it, the newest first.
    addresses: Vec<Multiaddr>,
    /// The first of them has worked: no hearsay moves it.
    proven: bool,
    doing: Doing,
    failures: u32,
    /// Somebody asked while a dial was under way: dial again at once if that one fails.
    again: bool,
    /// Remembered or asked for: never evicted from the book by what is merely heard.
    kept: bool,
}

struct Road {
    addresses: Vec<Multiaddr>,
    /// Which of them is next: one is dialled at a time.
    next: usize,
    doing: Doing,
    failures: u32,
    /// Who answered there last.
    peer: Option<PeerId>,
    /// Tried for the life of the process, not only one round.
    kept: bool,
}

/// The book and the queue.
pub(crate) struct Dialing {
    me: PeerId,
    rng: ChaCha8Rng,
    peers: HashMap<PeerId, Entry>,
    roads: BTreeMap<u64, Road>,
    next_road: u64,
    queue: BTreeSet<(Instant, Target)>,
    flying: usize,
}

impl Dialing {
    /// An empty book of `me`.
    pub(crate) fn new(me: PeerId, rng: ChaCha8Rng) -> Self {
        Self { me, rng, peers: HashMap::new(), roads: BTreeMap::new(), next_road: 0, queue: BTreeSet::new(), flying: 0 }
    }

    /// Forgets dials and connections, keeps the book: the network below was rebuilt.
    pub(crate) fn start_over(&mut self, now: Instant) {
        self.queue.clear();
        self.flying = 0;
        for (&peer, entry) in &mut self.peers {
            entry.failures = 0;
            entry.doing = Doing::Waiting(now);
            self.queue.insert((now, Target::Peer(peer)));
        }
        for (&road, entry) in &mut self.roads {
            entry.doing = Doing::Waiting(now);
            self.queue.insert((now, Target::Road(road)));
        }
    }

    /// A peer was heard of. The lesser id dials at once, the greater a little later. `true`: there was news in it.
    pub(crate) fn found(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) -> bool {
        if !self.learn(peer, addresses) {
            return false;
        }
        let at = now + self.politeness(peer);
        self.advance(peer, at);
        true
    }

    /// A peer of former times: dialled at once, since whoever starts is the newcomer.
    pub(crate) fn remembered(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) {
        self.learn(peer, addresses);
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.kept = true;
            self.advance(peer, now);
        }
    }

    /// Somebody asked for this peer: dialled at once, whatever the rule and the backoff say.
    pub(crate) fn asked(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) {
        self.learn(peer, addresses);
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.kept = true;
            entry.failures = 0;
            entry.again = entry.doing == Doing::Dialling;
            self.advance(peer, now);
        }
    }

    /// Addresses without an id are dialled at once; if `kept`, again and again while nobody there is connected.
    /// `false`: too many are known already, these are not tried.
    pub(crate) fn asked_road(&mut self, addresses: Vec<Multiaddr>, kept: bool, now: Instant) -> bool {
        let known = self.roads.iter().find(|(_, road)| road.addresses == addresses).map(|(&id, _)| id);
        let id = match known {
            Some(id) => id,
            None if self.roads.len() >= ROADS_MAX => return false,
            None => {
                self.next_road += 1;
                let road = Road { addresses, next: 0, doing: Doing::Nothing, failures: 0, peer: None, kept };
                self.roads.insert(self.next_road, road);
                self.next_road
            }
        };
        if !matches!(self.roads[&id].doing, Doing::Dialling | Doing::Connected) {
            self.schedule(Target::Road(id), now);
        }
        true
    }

    /// A connection to the peer is up, dialled by whomever; `dialled` is the address if by us.
    pub(crate) fn on_connected(&mut self, peer: PeerId, dialled: Option<&Multiaddr>) {
        self.learn(peer, dialled.map(std::slice::from_ref).unwrap_or_default());
        if let Some(address) = dialled.map(without_peer)
            && let Some(entry) = self.peers.get_mut(&peer)
            && let Some(place) = entry.addresses.iter().position(|known| *known == address)
        {
            entry.addresses[..=place].rotate_right(1);
            entry.proven = true;
        }
        self.unschedule(Target::Peer(peer), Doing::Connected);
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.again = false;
        }
    }

    /// The peer speaks our protocol: its record is clean.
    pub(crate) fn on_seen(&mut self, peer: PeerId) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.failures = 0;
        }
    }

    /// The last connection to the peer is gone. `seen`: it had spoken our protocol.
    pub(crate) fn on_lost(&mut self, peer: PeerId, seen: bool, now: Instant) {
        self.unschedule(Target::Peer(peer), Doing::Nothing);
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        let wait = if seen {
            let span = REDIAL.1 - REDIAL.0;
            REDIAL.0 + span.mul_f64(self.chance()) + self.politeness(peer)
        } else {
            entry.failures += 1;
            let failures = entry.failures;
            self.backoff(FIRST_BACKOFF, failures)
        };
        self.schedule(Target::Peer(peer), now + wait);
        self.reopen_roads(peer, 1, now);
    }

    /// The peer is of another swarm: tried seldom, since it may change.
    pub(crate) fn on_stranger(&mut self, peer: PeerId, now: Instant) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.failures = entry.failures.max(STRANGER_FAILURES);
            let wait = self.backoff(FIRST_BACKOFF, STRANGER_FAILURES);
            self.schedule(Target::Peer(peer), now + wait);
            self.reopen_roads(peer, STRANGER_FAILURES, now);
        }
    }

    /// A dial of ours became a connection with `peer`.
    pub(crate) fn on_arrived(&mut self, target: Target, peer: PeerId) {
        self.flying = self.flying.saturating_sub(1);
        if let Target::Road(id) = target
            && let Some(road) = self.roads.get_mut(&id)
        {
            road.doing = Doing::Connected;
            road.failures = 0;
            road.peer = Some(peer);
            if !road.kept {
                self.roads.remove(&id);
            }
        }
    }

    /// A dial of ours failed.
    pub(crate) fn on_failed(&mut self, target: Target, now: Instant) {
        self.flying = self.flying.saturating_sub(1);
        match target {
            Target::Peer(peer) => {
                let Some(entry) = self.peers.get_mut(&peer) else {
                    return;
                };
                if entry.doing != Doing::Dialling {
                    return; // The peer's own dial came through meanwhile.
                }
                entry.failures += 1;
                let failures = entry.failures;
                let wait = match std::mem::take(&mut entry.again) {
                    true => Duration::ZERO,
                    false => self.backoff(FIRST_BACKOFF, failures),
                };
                self.schedule(target, now + wait);
            }
            Target::Road(id) => {
                let Some(road) = self.roads.get_mut(&id) else {
                    return;
                };
                road.next += 1;
                let round_is_over = road.next >= road.addresses.len();
                if !round_is_over {
                    self.schedule(target, now);
                } else if road.kept {
                    road.next = 0;
                    road.failures += 1;
                    let failures = road.failures;
                    let wait = self.backoff(FIRST_ROAD_BACKOFF, failures);
                    self.schedule(target, now + wait);
                } else {
                    self.roads.remove(&id);
                }
            }
        }
    }

    /// The address belongs to somebody else: to nobody we know, or (a road) to ourselves.
    pub(crate) fn on_wrong_address(&mut self, target: Target, address: &Multiaddr) {
        let address = without_peer(address);
        match target {
            Target::Peer(peer) => {
                if let Some(entry) = self.peers.get_mut(&peer) {
                    entry.addresses.retain(|known| *known != address);
                }
            }
            Target::Road(id) => {
                if let Some(road) = self.roads.get_mut(&id) {
                    road.addresses.retain(|known| *known != address);
                    // on_failed, which follows, steps on.
                    road.next = road.next.saturating_sub(1);
                }
            }
        }
    }

    /// The next dial that is due, if one is.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Order> {
        while self.flying < FLYING_MAX {
            let &(at, target) = self.queue.first()?;
            if at > now {
                return None;
            }
            self.queue.pop_first();
            if let Some(addresses) = self.take_off(target) {
                self.flying += 1;
                return Some(Order { target, addresses });
            }
        }
        None
    }

    /// When [`Self::due`] may have something; `None` if only an event can change that.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let (at, _) = self.queue.first()?;
        (self.flying < FLYING_MAX).then_some(*at)
    }

    /// What the book says about a peer.
    pub(crate) fn addresses(&self, peer: &PeerId) -> &[Multiaddr] {
        self.peers.get(peer).map_or(&[], |entry| entry.addresses.as_slice())
    }

    /// Marks the target as being dialled and says where; `None` if there is nothing to dial (any more).
    fn take_off(&mut self, target: Target) -> Option<Vec<Multiaddr>> {
        match target {
            Target::Peer(peer) => {
                let entry = self.peers.get_mut(&peer)?;
                if entry.addresses.is_empty() {
                    entry.doing = Doing::Nothing;
                    return None;
                }
                entry.doing = Doing::Dialling;
                Some(entry.addresses.clone())
            }
            Target::Road(id) => {
                let road = self.roads.get_mut(&id)?;
                let there = (self.peers.iter()).find(|(peer, entry)| {
                    entry.doing == Doing::Connected
                        && (road.peer == Some(**peer) || (entry.addresses.first()).is_some_and(|first| road.addresses.contains(first)))
                });
                if let Some((&peer, _)) = there {
                    road.peer = Some(peer);
                    road.doing = Doing::Connected;
                    return None;
                }
                let Some(address) = road.addresses.get(road.next) else {
                    self.roads.remove(&id);
                    return None;
                };
                road.doing = Doing::Dialling;
                Some(vec![address.clone()])
            }
        }
    }

    /// Enters addresses, newest first. `true`: one of them is new.
    fn learn(&mut self, peer: PeerId, addresses: &[Multiaddr]) -> bool {
        if peer == self.me || (!self.peers.contains_key(&peer) && !self.make_room()) {
            return false;
        }
        let entry = self.peers.entry(peer).or_insert_with(|| Entry {
            addresses: Vec::new(),
            proven: false,
            doing: Doing::Nothing,
            failures: 0,
            again: false,
            kept: false,
        });
        let mut news = false;
        let hearsay = usize::from(entry.proven);
        for address in addresses {
            let address = without_peer(address);
            match entry.addresses.iter().position(|known| *known == address) {
                Some(place) if place >= hearsay => entry.addresses[hearsay..=place].rotate_right(1),
                Some(_) => {}
                None => {
                    news = true;
                    entry.addresses.insert(hearsay.min(entry.addresses.len()), address);
                    entry.addresses.truncate(ADDRESSES_MAX);
                }
            }
        }
        news
    }

    /// Whether one more peer fits, after the least promising one has gone.
    fn make_room(&mut self) -> bool {
        if self.peers.len() < PEERS_MAX {
            return true;
        }
        let least = (self.peers.iter())
            .filter(|(_, entry)| !entry.kept && matches!(entry.doing, Doing::Nothing | Doing::Waiting(_)))
            .max_by_key(|(peer, entry)| (entry.failures, **peer))
            .map(|(&peer, _)| peer);
        let Some(peer) = least else {
            return false;
        };
        self.unschedule(Target::Peer(peer), Doing::Nothing);
        self.peers.remove(&peer);
        true
    }

    fn politeness(&self, peer: PeerId) -> Duration {
        if self.me < peer { Duration::ZERO } else { POLITE_WAIT }
    }

    /// The roads that led to the peer lead nowhere any more.
    fn reopen_roads(&mut self, peer: PeerId, failures: u32, now: Instant) {
        let roads: Vec<u64> = (self.roads.iter())
            .filter(|(_, road)| road.peer == Some(peer))
            .filter(|(_, road)| matches!(road.doing, Doing::Connected | Doing::Waiting(_)))
            .map(|(&id, _)| id)
            .collect();
        for road in roads {
            let wait = self.backoff(FIRST_ROAD_BACKOFF, failures);
            self.schedule(Target::Road(road), now + wait);
        }
    }

    /// Schedules for `at` unless the peer is being dialled, is connected or comes sooner anyway.
    fn advance(&mut self, peer: PeerId, at: Instant) {
        match self.peers.get(&peer).map(|entry| entry.doing) {
            Some(Doing::Nothing) => self.schedule(Target::Peer(peer), at),
            Some(Doing::Waiting(then)) if at < then => self.schedule(Target::Peer(peer), at),
            _ => {}
        }
    }

    fn schedule(&mut self, target: Target, at: Instant) {
        self.unschedule(target, Doing::Waiting(at));
        self.queue.insert((at, target));
    }

    /// Takes the target out of the queue; from now on it does `doing`.
    fn unschedule(&mut self, target: Target, doing: Doing) {
        let now_doing = match target {
            Target::Peer(peer) => self.peers.get_mut(&peer).map(|entry| &mut entry.doing),
            Target::Road(id) => self.roads.get_mut(&id).map(|road| &mut road.doing),
        };
        if let Some(now_doing) = now_doing {
            if let Doing::Waiting(at) = *now_doing {
                self.queue.remove(&(at, target));
            }
            *now_doing = doing;
        }
    }

    fn backoff(&mut self, first: Duration, failures: u32) -> Duration {
        let absent = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        let last = LAST_BACKOFF.max(PER_ABSENT_PEER.saturating_mul(absent));
        let doublings = failures.saturating_sub(1).min(16);
        let wait = first.saturating_mul(1 << doublings).min(last);
        wait.mul_f64(1.0 + JITTER * self.chance())
    }

    /// Between 0 and 1.
    fn chance(&mut self) -> f64 {
        f64::from(self.rng.next_u32()) / f64::from(u32::MAX)
    }
}

/// Whether an address can be dialled: TCP to one host and a port. Loopback only where `loopback` allows it.
pub(crate) fn usable(address: &Multiaddr, loopback: bool) -> bool {
    let mut parts = address.iter();
    let host = match parts.next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast() && (loopback || !ip.is_loopback()),
        // A link-local IPv6 address says nothing without the interface it belongs to.
        Some(Protocol::Ip6(ip)) => {
            !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local() && (loopback || !ip.is_loopback())
        }
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => true,
        _ => false,
    };
    let port = matches!(parts.next(), Some(Protocol::Tcp(port)) if port != 0);
    let rest = matches!((parts.next(), parts.next()), (None | Some(Protocol::P2p(_)), None));
    host && port && rest
}

/// Whether an address names a host that has to be looked up: nobody but our user makes us do that.
pub(crate) fn is_named(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)))
}

/// Whether an address is one of this host's own, reachable from nowhere else.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// The id an address ends in, if it does.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if peer_of(&address).is_some() {
        address.pop();
    }
    address
}

#[cfg(test)]
mod tests;
