//! What the leader knows of each worker: whether it can be reached, what is with it, what it declined, how fast it is.
//! Knows nothing of the queue. What is in flight at a worker is exactly the tries of the table that name it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use super::lines::Shape;
use crate::config::{Config, limits};
use crate::order::{Order, OrderKey, Try};
use crate::service::{Lack, ServiceCard, ServiceName};

/// Runs of a service at a worker before its average counts (guess: one may be a fluke).
const BASIS: u32 = 4;
/// Of the average, the newest run makes up one part in so many, once there are as many (TCP's round-trip time: RFC 6298).
const MEMORY: u64 = 8;
/// Services without anything in flight that are remembered of a worker: more than it may offer at a time.
const REMEMBERED: usize = 2 * limits::SERVICES;
/// Tries in one list of a worker (guess: beyond what all slots of a large machine hold).
const LISTED: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Workers {
    known: BTreeMap<PeerId, Known>,
    /// When those who are silent are lost.
    lost_at: BTreeSet<(Duration, PeerId)>,
    /// Counts connections.
    connections: u64,
    /// When the first decline is forgotten.
    forgive_at: Option<Duration>,
}

/// One peer; every neighbour is a worker until its services say otherwise.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Which connection; none while there is none.
    connection: Option<u64>,
    lost_at: Option<Duration>,
    /// Its units, each with what it takes while it runs.
    pub(super) tries: BTreeMap<(OrderKey, u32), Takes>,
    /// Units that were its when it was lost.
    pub(super) lost: BTreeSet<(OrderKey, u32)>,
    /// What it listed so far.
    pub(super) listing: BTreeSet<Try>,
    uses: BTreeMap<ServiceName, Use>,
    /// What it declined, from whom if that matters, until when, and why.
    declined: BTreeMap<(ServiceName, Option<Shape>), (Duration, Lack)>,
}

/// Cores and bytes of memory.
pub(super) type Takes = (u32, u64);

/// A service at a worker.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    in_flight: u32,
    /// As it offered last: how many run at once, and what each of them takes at least.
    limit: u32,
    least: Takes,
    /// Of all in flight, waiting there or not.
    cores: u64,
    memory_bytes: u128,
    /// Average run, in microseconds …
    mean: u64,
    /// … of so many, and more.
    runs: u32,
    /// All its slots are taken by runs that take long for once, as it said, and none has ended since: nothing is to wait there.
    held_up: bool,
}

/// What a worker has to do for one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Units of the service that are there …
    pub(super) in_flight: u32,
    /// … and at most may be.
    pub(super) most: u32,
    /// Taken by all services.
    pub(super) cores: u64,
    pub(super) memory_bytes: u128,
}

impl Workers {
    pub(super) fn new() -> Self {
        Workers { known: BTreeMap::new(), lost_at: BTreeSet::new(), connections: 0, forgive_at: None }
    }

    pub(super) fn get(&self, peer: &PeerId) -> Option<&Known> {
        self.known.get(peer)
    }

    pub(super) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Known> {
        self.known.get_mut(peer)
    }

    /// Its connection; none while it cannot be reached.
    pub(super) fn connection(&self, peer: &PeerId) -> Option<u64> {
        self.known.get(peer).and_then(|known| known.connection)
    }

    pub(super) fn is_reachable(&self, peer: &PeerId) -> bool {
        self.connection(peer).is_some()
    }

    /// These can be reached, and nobody else; what they have is to be found out.
    pub(super) fn begin(&mut self, reachable: &[PeerId], lost_at: Duration) {
        self.forgive_at = None;
        for known in self.known.values_mut() {
            known.declined.clear();
            known.listing.clear();
        }
        let gone: Vec<PeerId> = self.known.keys().filter(|peer| !reachable.contains(peer)).copied().collect();
        for peer in &gone {
            // The time of silence before this term was somebody else's to judge.
            self.on_reachable(*peer);
            self.on_unreachable(peer, lost_at);
        }
        reachable.iter().for_each(|peer| self.on_reachable(*peer));
    }

    pub(super) fn on_reachable(&mut self, peer: PeerId) {
        self.connections += 1;
        let connection = self.connections;
        let known = self.known.entry(peer).or_default();
        known.connection = Some(connection);
        known.listing.clear();
        if let Some(at) = known.lost_at.take() {
            self.lost_at.remove(&(at, peer));
        }
    }

    /// It is silent: lost at `lost_at`, unless it comes back or was silent already.
    pub(super) fn on_unreachable(&mut self, peer: &PeerId, lost_at: Duration) {
        let Some(known) = self.known.get_mut(peer) else { return };
        known.connection = None;
        known.listing.clear();
        known.declined.clear();
        if known.lost_at.is_none() {
            known.lost_at = Some(lost_at);
            self.lost_at.insert((lost_at, *peer));
        }
    }

    /// It is not certain what of the last words has arrived: as if it were another connection.
    pub(super) fn doubt(&mut self, peer: &PeerId) {
        self.connections += 1;
        let connection = self.connections;
        if let Some(known) = self.known.get_mut(peer).filter(|known| known.connection.is_some()) {
            known.connection = Some(connection);
        }
    }

    /// The next one that was silent for too long.
    pub(super) fn pop_lost(&mut self, now: Duration) -> Option<PeerId> {
        let (_, peer) = self.lost_at.first().copied().filter(|(at, _)| *at <= now)?;
        self.lost_at.pop_first();
        if let Some(known) = self.known.get_mut(&peer) {
            known.lost_at = None;
        }
        Some(peer)
    }

    /// Forgets a peer that is gone and of which nothing is left but averages.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        let left =
            |known: &Known| known.connection.is_some() || known.lost_at.is_some() || !known.tries.is_empty() || !known.lost.is_empty();
        if self.known.get(peer).is_some_and(|known| !left(known)) {
            self.known.remove(peer);
        }
    }

    /// A unit was its when it was lost.
    pub(super) fn lose(&mut self, peer: PeerId, order: &OrderKey, unit: u32) {
        self.known.entry(peer).or_default().lost.insert((*order, unit));
    }

    /// A unit that it had when it was lost is over.
    pub(super) fn unlose(&mut self, peer: &PeerId, order: &OrderKey, unit: u32) {
        if let Some(known) = self.known.get_mut(peer) {
            known.lost.remove(&(*order, unit));
            self.forget(peer);
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.lost_at.first().map(|(at, _)| *at).into_iter().chain(self.forgive_at).min()
    }

    /// Everyone who can be reached.
    pub(super) fn reachable(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.known.iter().filter(|(_, known)| known.connection.is_some()).map(|(peer, _)| *peer)
    }

    /// Another leads: who has what is kept with the orders.
    pub(super) fn clear(&mut self) {
        for known in self.known.values_mut() {
            known.tries.clear();
            known.lost.clear();
            known.uses.values_mut().for_each(|used| (used.in_flight, used.cores, used.memory_bytes) = (0, 0, 0));
        }
    }

    // -- in flight

    /// A unit is with a worker; one that nobody has heard of yet is lost at `lost_at`.
    pub(super) fn take(&mut self, peer: PeerId, order: &Order, unit: u32, takes: Takes, lost_at: Duration) {
        let known = self.known.entry(peer).or_default();
        if known.connection.is_none() && known.lost_at.is_none() {
            known.lost_at = Some(lost_at);
            self.lost_at.insert((lost_at, peer));
        }
        if known.tries.insert((order.key(), unit), takes).is_some() {
            return;
        }
        let used = known.uses_of(&order.service);
        used.in_flight += 1;
        used.cores += u64::from(takes.0);
        used.memory_bytes += u128::from(takes.1);
    }

    /// It is not any more.
    pub(super) fn give_back(&mut self, peer: &PeerId, order: &Order, unit: u32) {
        let Some(known) = self.known.get_mut(peer) else { return };
        let Some(takes) = known.tries.remove(&(order.key(), unit)) else { return };
        let used = known.uses_of(&order.service);
        used.in_flight -= 1;
        used.cores -= u64::from(takes.0);
        used.memory_bytes -= u128::from(takes.1);
    }

    /// A unit ran so long there.
    pub(super) fn measured(&mut self, peer: &PeerId, service: &ServiceName, ran_ms: u64) {
        let Some(known) = self.known.get_mut(peer) else { return };
        // An hour is as good as a day: nothing overflows.
        let ran = ran_ms.min(86_400_000) * 1_000;
        let used = known.uses_of(service);
        used.runs = used.runs.saturating_add(1);
        let weight = MEMORY.min(u64::from(used.runs));
        used.mean = (used.mean * (weight - 1) + ran) / weight;
        used.held_up = false;
        // It has taken and ended something: what it declined for want of room may fit now.
        known.declined.retain(|(name, shape), _| name != service || shape.is_some());
    }

    /// A worker gives back what waits there for a service: it gets no more than it has slots, until one of its runs has ended.
    pub(super) fn on_held_up(&mut self, peer: &PeerId, service: &ServiceName) {
        if let Some(known) = self.known.get_mut(peer) {
            known.uses_of(service).held_up = true;
        }
    }

    /// Whether a worker has said that its runs of a service take long for once.
    pub(super) fn is_held_up(&self, peer: &PeerId, service: &ServiceName) -> bool {
        self.known.get(peer).and_then(|known| known.uses.get(service)).is_some_and(|used| used.held_up)
    }

    /// Average run of a service at a worker in microseconds, and of how many; none while nothing was measured.
    pub(super) fn mean(&self, peer: &PeerId, service: &ServiceName) -> Option<(u64, u32)> {
        let used = self.known.get(peer)?.uses.get(service).filter(|used| used.runs > 0)?;
        Some((used.mean, used.runs))
    }

    /// Units that are with workers.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.known.values().map(|known| known.tries.len()).sum()
    }

    // -- declining

    /// A worker did not take a unit.
    pub(super) fn on_declined(&mut self, peer: &PeerId, service: &ServiceName, shape: &Shape, lack: Lack, until: Duration) {
        if lack == Lack::Full {
            self.on_held_up(peer, service);
        }
        let Some(known) = self.known.get_mut(peer) else { return };
        let shape = match lack {
            Lack::NotAllowed | Lack::Cores(_) | Lack::Memory(_) | Lack::Software(_) | Lack::Busy => Some(shape.clone()),
            _ => None,
        };
        known.declined.insert((service.clone(), shape), (until, lack));
        self.forgive_at = Some(self.forgive_at.map_or(until, |at| at.min(until)));
    }

    /// Declines that are over; returns their services.
    pub(super) fn forgive(&mut self, now: Duration) -> BTreeSet<ServiceName> {
        let mut services = BTreeSet::new();
        if self.forgive_at.is_none_or(|at| at > now) {
            return services;
        }
        self.forgive_at = None;
        for known in self.known.values_mut() {
            known.declined.retain(|(service, _), (until, _)| {
                if *until <= now {
                    services.insert(service.clone());
                    return false;
                }
                self.forgive_at = Some(self.forgive_at.map_or(*until, |at| at.min(*until)));
                true
            });
        }
        services
    }

    /// Why a worker is not asked for a service for now: whoever orders, or for orders of this shape.
    pub(super) fn declines(&self, peer: &PeerId, service: &ServiceName, shape: Option<&Shape>) -> Option<&Lack> {
        let declined = &self.known.get(peer).filter(|known| !known.declined.is_empty())?.declined;
        declined.get(&(service.clone(), shape.cloned())).map(|(_, lack)| lack)
    }

    // -- loads

    /// How busy a worker is, for one of its services; remembers its limit.
    pub(super) fn load(&mut self, peer: &PeerId, card: &ServiceCard, config: &Config) -> Load {
        if let Some(known) = self.known.get_mut(peer)
            && let Some(used) = known.uses.get_mut(&card.name)
        {
            used.limit = card.limit;
            used.least = (card.needs.cores, card.needs.memory_bytes);
        }
        self.load_of(peer, card, config)
    }

    /// How busy a worker is, for one of its services.
    pub(super) fn load_of(&self, peer: &PeerId, card: &ServiceCard, config: &Config) -> Load {
        let mut load = Load { in_flight: 0, most: card.limit, cores: 0, memory_bytes: 0 };
        let Some(known) = self.known.get(peer) else { return load };
        for used in known.uses.values().filter(|used| used.in_flight > 0) {
            let there = u64::from(used.in_flight);
            let mut cores = used.cores.max(u64::from(used.least.0) * there);
            let mut memory = used.memory_bytes.max(u128::from(used.least.1) * u128::from(there));
            if used.limit > 0 && used.in_flight > used.limit {
                // What waits there for a slot takes nothing.
                cores = (cores * u64::from(used.limit)).div_ceil(there);
                memory = memory / u128::from(there) * u128::from(used.limit);
            }
            load.cores += cores;
            load.memory_bytes += memory;
        }
        if let Some(used) = known.uses.get(&card.name) {
            load.in_flight = used.in_flight;
            let short = u64::try_from(config.short.as_micros()).unwrap_or(u64::MAX);
            if used.runs >= BASIS && used.mean < short && !used.held_up {
                let waiting = u64::try_from(config.prefetch_work.as_micros()).unwrap_or(u64::MAX);
                let fitting = u32::try_from(waiting / used.mean.max(1)).unwrap_or(u32::MAX);
                load.most = card.limit.saturating_mul(1 + fitting.clamp(config.prefetch, config.prefetch_most));
            }
        }
        load
    }
}

impl Known {
    fn uses_of(&mut self, service: &ServiceName) -> &mut Use {
        if !self.uses.contains_key(service) {
            if self.uses.len() >= REMEMBERED {
                self.uses.retain(|_, used| used.in_flight > 0);
            }
            self.uses.insert(service.clone(), Use::default());
        }
        self.uses.get_mut(service).expect("it was put there if it was not there")
    }

    /// One more of its list.
    pub(super) fn list(&mut self, of: Try) {
        if self.listing.len() < LISTED {
            self.listing.insert(of);
        }
    }
}
