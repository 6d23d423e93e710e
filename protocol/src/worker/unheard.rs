//! Reports of which their orderers have not said that they have them: when each is told again.
//! Knows nothing of what they say, nor of who is reachable. A frame can be lost although its connection goes on; a report that waits
//! here is told until its orderer has answered, or has closed its order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use super::{Unit, all_of};
use crate::config::Config;
use crate::order::OrderKey;

/// See the module.
#[derive(Debug)]
pub(super) struct Unheard {
    /// The first wait for an answer …
    first: Duration,
    /// … doubling up to this.
    most: Duration,
    /// When each is told again, and how long it was waited for.
    waits: BTreeMap<Unit, (Duration, Duration)>,
    /// The same by time.
    due: BTreeSet<(Duration, Unit)>,
    /// A window was filled: the rest waits for a moment.
    pause: Duration,
    pause_until: Duration,
}

impl Unheard {
    pub(super) fn new(config: &Config) -> Self {
        Unheard {
            first: config.work_patience,
            most: config.resend_most,
            waits: BTreeMap::new(),
            due: BTreeSet::new(),
            pause: config.refused_wait,
            pause_until: Duration::ZERO,
        }
    }

    /// Its orderer was told, and is to answer.
    pub(super) fn on_told(&mut self, unit: Unit, now: Duration) {
        if !self.waits.contains_key(&unit) {
            self.wait(unit, now, self.first);
        }
    }

    /// Its orderer has it, and its order goes on. That this order has ended may be lost on its way, too: one report of each is told now
    /// and then until it is known.
    pub(super) fn on_taken(&mut self, unit: &Unit, now: Duration) {
        self.on_heard(unit);
        if self.waits.range((unit.0, 0)..=(unit.0, u32::MAX)).next().is_none() {
            self.wait(*unit, now, self.most);
        }
    }

    /// Nothing of it is to be told again.
    pub(super) fn on_heard(&mut self, unit: &Unit) {
        if let Some((at, _)) = self.waits.remove(unit) {
            self.due.remove(&(at, *unit));
        }
    }

    /// Orders from one key to another are closed.
    pub(super) fn close(&mut self, first: OrderKey, last: OrderKey) {
        let closed: Vec<Unit> = self.waits.range((first, 0)..=(last, u32::MAX)).map(|(unit, _)| *unit).collect();
        closed.iter().for_each(|unit| self.on_heard(unit));
    }

    /// Nothing is told to this orderer until it can be reached again; then everything is.
    pub(super) fn on_unreachable(&mut self, orderer: PeerId) {
        let waiting: Vec<Unit> = self.waits.range(all_of(orderer)).map(|(unit, _)| *unit).collect();
        waiting.iter().for_each(|unit| self.on_heard(unit));
    }

    /// What is to be told again now, about so many bytes of it; each is waited for twice as long from then on.
    pub(super) fn take_due(&mut self, now: Duration, most_bytes: usize, size: impl Fn(&Unit) -> usize) -> Vec<Unit> {
        let (mut due, mut bytes) = (Vec::new(), 0);
        if now < self.pause_until {
            return due;
        }
        while let Some((_, unit)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            if bytes >= most_bytes {
                self.pause_until = now + self.pause;
                break;
            }
            let patience = self.waits.get(&unit).map_or(self.first, |(_, patience)| (*patience * 2).min(self.most));
            self.on_heard(&unit);
            self.wait(unit, now, patience);
            bytes += size(&unit);
            due.push(unit);
        }
        due
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| (*at).max(self.pause_until))
    }

    fn wait(&mut self, unit: Unit, now: Duration, patience: Duration) {
        self.waits.insert(unit, (now + patience, patience));
        self.due.insert((now + patience, unit));
    }
}
