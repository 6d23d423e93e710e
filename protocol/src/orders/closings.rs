//! Which orders of this node have ended, and who is to be told.
//! Knows nothing of open orders. What has ended stays so; a closing holds all of it, or as much as fits one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use libp2p_identity::PeerId;

use crate::config::limits;
use crate::id::Epoch;
use crate::order::{Closing, End, OrderKey};
use crate::ranges::Ranges;

/// Peers that are remembered as told or to be told (guess: as many as a swarm has; who is forgotten asks by reporting again).
const PEERS: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Closings {
    me: PeerId,
    by_epoch: BTreeMap<Epoch, Closed>,
    /// Orders that others know and this node does not: its memory was put back to before them. They never get an outcome.
    forgotten: BTreeMap<Epoch, Ranges>,
    /// Numbers of orders that ended otherwise than done.
    otherwise: BTreeMap<End, Ranges>,
    /// Who is to be told what.
    owed: BTreeMap<PeerId, Owed>,
    /// Who was told something since the start of this node.
    told: BTreeSet<PeerId>,
}

#[derive(Debug, Default)]
struct Closed {
    numbers: Ranges,
    /// How the latest ended.
    recent: VecDeque<(u64, End)>,
}

#[derive(Debug)]
enum Owed {
    /// These, and what else fits.
    These(BTreeMap<Epoch, Ranges>),
    /// All.
    All,
}

impl Closings {
    /// Goes on where the disk ends.
    pub(super) fn new(me: PeerId, closed: Vec<(Epoch, End, Ranges)>) -> Self {
        let mut closings = Closings {
            me,
            by_epoch: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            otherwise: BTreeMap::new(),
            owed: BTreeMap::new(),
            told: BTreeSet::new(),
        };
        for (epoch, end, numbers) in closed {
            for (first, last) in numbers.iter() {
                closings.by_epoch.entry(epoch).or_default().numbers.insert_range(first, last);
                if end != End::Done {
                    closings.otherwise.entry(end).or_default().insert_range(first, last);
                }
            }
        }
        closings
    }

    /// The greatest number that has ended.
    pub(super) fn last(&self) -> u64 {
        self.by_epoch.values().filter_map(|closed| closed.numbers.last()).max().unwrap_or(0)
    }

    /// An order has ended.
    pub(super) fn insert(&mut self, epoch: Epoch, number: u64, end: End) {
        let closed = self.by_epoch.entry(epoch).or_default();
        closed.numbers.insert(number);
        closed.recent.push_back((number, end));
        if closed.recent.len() > limits::PAGE {
            closed.recent.pop_front();
        }
        if end != End::Done {
            self.otherwise.entry(end).or_default().insert(number);
        }
    }

    /// An order of this node that nobody here remembers: whoever knows of it may forget it, too.
    pub(super) fn forget(&mut self, epoch: Epoch, number: u64) {
        let forgotten = self.forgotten.entry(epoch).or_default();
        forgotten.insert(number);
        // Who still knows of another one speaks of it again.
        forgotten.keep_highest(limits::PIECES);
    }

    /// Whether this order has ended, or is forgotten for good.
    pub(super) fn contains(&self, order: &OrderKey) -> bool {
        let forgotten = || self.forgotten.get(&order.epoch).is_some_and(|numbers| numbers.contains(order.number));
        let closed = || self.by_epoch.get(&order.epoch).is_some_and(|closed| closed.numbers.contains(order.number));
        order.orderer == self.me && (closed() || forgotten())
    }

    /// How the order of that number ended, in whatever memory; none if it has not.
    pub(super) fn end_of(&self, number: u64) -> Option<End> {
        self.by_epoch.values().find(|closed| closed.numbers.contains(number))?;
        let otherwise = self.otherwise.iter().find(|(_, numbers)| numbers.contains(number));
        Some(otherwise.map_or(End::Done, |(end, _)| *end))
    }

    /// This peer is to be told that this order has ended.
    pub(super) fn owe(&mut self, peer: PeerId, epoch: Epoch, number: u64) {
        if self.owed.len() >= PEERS && !self.owed.contains_key(&peer) {
            return;
        }
        if let Owed::These(numbers) = self.owed.entry(peer).or_insert_with(|| Owed::These(BTreeMap::new())) {
            let of_epoch = numbers.entry(epoch).or_default();
            of_epoch.insert(number);
            if of_epoch.pieces() > limits::PIECES {
                self.owed.insert(peer, Owed::All);
            }
        }
    }

    /// This peer is to be told all that has ended.
    pub(super) fn owe_all(&mut self, peer: PeerId) {
        if (self.by_epoch.is_empty() && self.forgotten.is_empty()) || (self.owed.len() >= PEERS && !self.owed.contains_key(&peer)) {
            return;
        }
        self.owed.insert(peer, Owed::All);
    }

    /// What this peer was told last may not have arrived.
    pub(super) fn on_lost(&mut self, peer: PeerId) {
        if self.told.contains(&peer) {
            self.owe_all(peer);
        }
    }

    /// Whether somebody of these is to be told something.
    pub(super) fn is_due(&self, open: impl Fn(&PeerId) -> bool) -> bool {
        self.owed.keys().any(open)
    }

    /// What is to be said now, to whom it can be said.
    pub(super) fn take(&mut self, open: impl Fn(&PeerId) -> bool) -> Vec<(PeerId, Closing)> {
        let peers: Vec<PeerId> = self.owed.keys().filter(|peer| open(peer)).copied().collect();
        let mut said = Vec::new();
        for peer in peers {
            let Some(owed) = self.owed.remove(&peer) else { continue };
            if self.told.len() < PEERS {
                self.told.insert(peer);
            }
            for (epoch, closed) in &self.by_epoch {
                let numbers = match &owed {
                    Owed::These(numbers) => numbers.get(epoch),
                    Owed::All => Some(&closed.numbers),
                };
                if let Some(numbers) = numbers {
                    for part in closed.parts(numbers) {
                        let ends = closed.recent.iter().copied().filter(|(number, _)| part.contains(*number)).collect();
                        said.push((peer, Closing { orderer: self.me, epoch: *epoch, closed: part, ends }));
                    }
                }
            }
            for (epoch, closed) in &self.forgotten {
                if matches!(&owed, Owed::All) || matches!(&owed, Owed::These(numbers) if numbers.contains_key(epoch)) {
                    said.push((peer, Closing { orderer: self.me, epoch: *epoch, closed: closed.clone(), ends: Vec::new() }));
                }
            }
        }
        said
    }
}

impl Closed {
    /// Everything if one closing can hold it; else what is wanted, in as many as are needed.
    fn parts(&self, wanted: &Ranges) -> Vec<Ranges> {
        if self.numbers.pieces() <= limits::PIECES {
            return vec![self.numbers.clone()];
        }
        let pieces: Vec<(u64, u64)> = wanted.iter().collect();
        let part = |pieces: &[(u64, u64)]| {
            let mut part = Ranges::default();
            pieces.iter().for_each(|(first, last)| part.insert_range(*first, *last));
            part
        };
        pieces.chunks(limits::PIECES).map(part).collect()
    }
}
