//! Orders that have ended: forgotten here, and remembered as such.
//! A closed order is never queued again, whoever offers it.

use super::Dispatcher;
use crate::config::limits;
use crate::effect::{Change, Out};
use crate::now::Now;
use crate::order::{Closing, FORGOTTEN, Order, OrderKey};
use crate::proven::Proven;
use crate::work::Work;

/// Memories of orderers of which it is known what has ended; of more, it is not remembered (guess: peers mint few).
const MEMORIES: usize = 65_536;

impl Dispatcher {
    /// An orderer tells which of its orders have ended.
    pub(crate) fn on_closing(&mut self, proven: &Proven<Closing>, _now: Now, out: &mut Out) {
        let closing = &proven.value;
        let memory = (closing.orderer, closing.epoch);
        let known = self.closed.get(&memory);
        let is_new = known.is_none();
        let new = known.map_or_else(|| closing.closed.clone(), |known| closing.closed.minus(known));
        if new.is_empty() {
            return;
        }
        if self.fence.is_some() {
            self.standbys.peers().for_each(|peer| out.work(peer, Work::Closing(Box::new(proven.clone()))));
        }
        let key = |number| OrderKey { orderer: closing.orderer, epoch: closing.epoch, number };
        for (first, last) in new.iter() {
            let gone: Vec<OrderKey> = self.rows.range(key(first)..=key(last)).map(|(key, _)| *key).collect();
            gone.iter().for_each(|key| self.remove(key, out));
            self.holdings.close(key(first), key(last), out);
            while let Some((key, _)) = self.early.range(key(first)..=key(last)).next().map(|(key, cancel)| (*key, cancel.clone())) {
                self.early.remove(&key);
            }
            self.strays.close(key(first), key(last));
            self.reports.close(key(first), key(last));
        }
        if is_new && self.closed.len() >= MEMORIES {
            return;
        }
        let closed = self.closed.entry(memory).or_default();
        new.iter().for_each(|(first, last)| closed.insert_range(first, last));
        // The orderer itself knows all of them: nobody else may offer them again.
        closed.keep_highest(limits::PIECES);
        self.dirty_closed.insert(memory);
    }

    /// Whether its orderer has said that it has ended.
    pub(crate) fn is_closed(&self, key: &OrderKey) -> bool {
        self.closed.get(&(key.orderer, key.epoch)).is_some_and(|closed| closed.contains(key.number))
    }

    /// Its orderer offers an order that it has itself said to have ended: its memory was put back to before that. What became of the
    /// units that have not ended for it nobody knows any more.
    pub(super) fn tell_closed(&mut self, order: &Order) {
        let units = (1..=order.units()).map(|unit| (order.key(), unit, FORGOTTEN.to_owned()));
        self.words.to(order.orderer).given_up.extend(units);
    }

    /// An order has ended: nothing of it is left here, and what still runs of it is stopped.
    fn remove(&mut self, key: &OrderKey, out: &mut Out) {
        let units: Vec<u32> = self.rows.get(key).into_iter().flat_map(|row| row.tries().keys().copied()).collect();
        for unit in units {
            self.supersede(key, unit);
        }
        self.forget_over(key);
        let Some(row) = self.rows.get_mut(key) else { return };
        for (unit, (_, worker)) in std::mem::take(&mut row.lost) {
            self.workers.unlose(&worker, key, unit);
        }
        // Out of the queue: as a cancelled one would be.
        if row.queued {
            row.end_all();
            self.settle(key);
        }
        if let Some(row) = self.rows.remove(key) {
            self.bytes -= row.order.body.len() as u64;
        }
        if self.rows.is_empty() {
            self.queue.clear();
        }
        self.standbys.on_removed(key);
        self.cancelled.remove(key);
        self.given_up.remove(key);
        self.dirty.remove(key);
        self.cancels_due.remove(key);
        self.over.remove(key);
        out.store(Change::Unqueue(*key));
    }
}
