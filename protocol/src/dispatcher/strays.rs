//! What workers told of orders that this leader does not have yet.
//! Knows nothing of those orders. In memory only: under a new leader workers tell everything again.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::config::limits;
use crate::order::{Attempt, OrderKey, Try};
use crate::ranges::Ranges;
use crate::work::UnitsOf;

/// Units remembered; of more, nothing is (guess: as many as orders may be queued).
const UNITS: usize = 200_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Strays {
    orders: BTreeMap<OrderKey, Stray>,
    units: usize,
}

/// What is known of one order.
#[derive(Debug, Default)]
pub(super) struct Stray {
    /// Units that ended.
    pub(super) ended: Ranges,
    /// Units with a worker, and since when each runs.
    pub(super) tries: BTreeMap<u32, (Attempt, PeerId, Option<Duration>)>,
    units: usize,
}

impl Strays {
    fn room(&self, of: &Try) -> bool {
        self.units < UNITS && (1..=limits::ORDER_UNITS).contains(&(of.unit as usize))
    }

    /// A worker has a unit. Of two that have it, the one that has run longer counts.
    pub(super) fn on_holds(&mut self, from: PeerId, of: Try, since: Option<Duration>) {
        if !self.room(&of) {
            return;
        }
        let stray = self.orders.entry(of.order).or_default();
        let sooner = |known: &(Attempt, PeerId, Option<Duration>)| match (since, known.2) {
            (Some(this), Some(other)) => this < other,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let same = |known: &(Attempt, PeerId, Option<Duration>)| known.1 == from && known.0 == of.attempt && known.2.is_none();
        let known = stray.tries.get(&of.unit);
        if known.is_none() {
            stray.units += 1;
            self.units += 1;
        }
        if known.is_none_or(|known| sooner(known) || same(known)) {
            stray.tries.insert(of.unit, (of.attempt, from, since));
        }
    }

    /// A unit has ended.
    pub(super) fn on_report(&mut self, of: Try) {
        if !self.room(&of) {
            return;
        }
        let stray = self.orders.entry(of.order).or_default();
        if stray.ended.insert(u64::from(of.unit)) {
            stray.units += 1;
            self.units += 1;
        }
    }

    /// Units have ended, as their orderer says.
    pub(super) fn on_ended(&mut self, of: &UnitsOf) {
        for (first, last) in of.units.iter() {
            let count = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
            if first < 1 || last > limits::ORDER_UNITS as u64 || self.units + count > UNITS {
                return;
            }
            let stray = self.orders.entry(of.order).or_default();
            let known = stray.ended.len();
            stray.ended.insert_range(first, last);
            let fresh = usize::try_from(stray.ended.len() - known).unwrap_or(usize::MAX);
            stray.units += fresh;
            self.units += fresh;
        }
    }

    /// A worker does not have it any more.
    pub(super) fn on_broken(&mut self, from: PeerId, of: Try) {
        if let Some(stray) = self.orders.get_mut(&of.order)
            && stray.tries.get(&of.unit).is_some_and(|(attempt, worker, _)| *worker == from && *attempt == of.attempt)
        {
            stray.tries.remove(&of.unit);
        }
    }

    /// A worker is lost, or has listed all that it has.
    pub(super) fn keep(&mut self, worker: PeerId, listed: impl Fn(&Try) -> bool) {
        for (order, stray) in &mut self.orders {
            stray.tries.retain(|unit, (attempt, at, _)| *at != worker || listed(&Try { order: *order, unit: *unit, attempt: *attempt }));
        }
    }

    /// Units of an order that are with workers and have not ended.
    pub(super) fn running(&self, order: &OrderKey) -> Vec<(u32, PeerId)> {
        let Some(stray) = self.orders.get(order) else { return Vec::new() };
        let running = stray.tries.iter().filter(|(unit, _)| !stray.ended.contains(u64::from(**unit)));
        running.map(|(unit, (_, worker, _))| (*unit, *worker)).collect()
    }

    /// The order is here: what was known of it.
    pub(super) fn remove(&mut self, order: &OrderKey) -> Stray {
        let stray = self.orders.remove(order).unwrap_or_default();
        self.units -= stray.units;
        stray
    }

    /// These orders have ended.
    pub(super) fn close(&mut self, first: OrderKey, last: OrderKey) {
        while let Some(order) = self.orders.range(first..=last).next().map(|(order, _)| *order) {
            self.remove(&order);
        }
    }
}
