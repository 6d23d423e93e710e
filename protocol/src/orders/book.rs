//! All orders of this node that have not ended.
//! Knows nothing of what ends them. What changed in a batch is known until it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::Config;
use crate::effect::{OrderState, Refusal};
use crate::order::{Fence, OrderKey};

use super::entry::Entry;

/// What an order takes in a frame beyond what its user wrote (measured: 150 to 200 bytes).
const OVERHEAD: usize = 192;
/// Orders whose time is up that are told at once (guess: the rest follow in the next batch).
const EXPIRE_MOST: usize = 2_048;

/// See the module.
#[derive(Debug)]
pub(super) struct Book {
    /// Orders that may be open …
    most: u64,
    /// … and their bytes.
    bytes_most: u64,
    open: BTreeMap<u64, Box<Entry>>,
    /// Of all of them.
    bytes: u64,
    /// When the time of one is up.
    expiries: BTreeSet<(Duration, u64)>,
    /// Those that changed in this batch.
    dirty: BTreeSet<u64>,
}

impl Book {
    pub(super) fn new(config: &Config) -> Self {
        let (most, bytes_most) = (config.open_orders, config.open_order_bytes);
        Book { most, bytes_most, open: BTreeMap::new(), bytes: 0, expiries: BTreeSet::new(), dirty: BTreeSet::new() }
    }

    /// Whether there is room for an order of so many bytes.
    ///
    /// # Errors
    /// There is not, for this reason.
    pub(super) fn check_room(&self, bytes: usize) -> Result<(), Refusal> {
        let open = self.len();
        if open >= self.most {
            return Err(Refusal::OrdersFull { open, limit: self.most });
        }
        if self.bytes + bytes as u64 > self.bytes_most {
            return Err(Refusal::OrderBytesFull { bytes: self.bytes, limit: self.bytes_most });
        }
        Ok(())
    }

    pub(super) fn enter(&mut self, entry: Entry) {
        let number = entry.order.number;
        self.bytes += entry.bytes as u64;
        self.expiries.extend(entry.expires.map(|at| (at, number)));
        self.open.insert(number, Box::new(entry));
    }

    /// The order of this key, if it is ours and has not ended.
    pub(super) fn of_key(&self, key: &OrderKey) -> Option<&Entry> {
        self.open.get(&key.number).map(|entry| &**entry).filter(|entry| entry.order.key() == *key)
    }

    /// The same, to be changed.
    pub(super) fn find(&mut self, key: &OrderKey) -> Option<&mut Entry> {
        self.open.get_mut(&key.number).map(|entry| &mut **entry).filter(|entry| entry.order.key() == *key)
    }

    /// The order of this number, if it has not ended.
    pub(super) fn get(&self, number: u64) -> Option<&Entry> {
        self.open.get(&number).map(|entry| &**entry)
    }

    /// Those after a number, ascending.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = &Entry> {
        self.open.range(number.saturating_add(1)..).map(|(_, entry)| &**entry)
    }

    /// The state of this one is to be written.
    pub(super) fn touch(&mut self, number: u64) {
        self.dirty.insert(number);
    }

    /// States to be written.
    pub(super) fn take_dirty(&mut self) -> impl Iterator<Item = OrderState> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().filter_map(|number| self.open.get(&number).map(|entry| entry.state.clone()))
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The order, to be marked as not wanted any more; none if it has ended or is so already.
    pub(super) fn revoke(&mut self, number: u64) -> Option<&mut Entry> {
        let entry = self.open.get_mut(&number).filter(|entry| entry.state.cancelled.is_none())?;
        if let Some(at) = entry.expires.take() {
            self.expiries.remove(&(at, number));
        }
        self.dirty.insert(number);
        Some(entry)
    }

    /// Takes out an order that has ended.
    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.open.remove(&number)?;
        self.bytes -= entry.bytes as u64;
        self.dirty.remove(&number);
        if let Some(at) = entry.expires {
            self.expiries.remove(&(at, number));
        }
        Some(*entry)
    }

    /// Numbers whose time is up, not more than fit a batch.
    pub(super) fn expired(&self, now: Duration) -> Vec<u64> {
        self.expiries.iter().take_while(|(at, _)| *at <= now).take(EXPIRE_MOST).map(|(_, number)| *number).collect()
    }

    /// When the next one's time is up.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.expiries.first().map(|(at, _)| *at)
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.open.keys().copied()
    }

    /// About how many bytes of a window an order takes.
    pub(super) fn size(&self, number: u64) -> usize {
        self.open.get(&number).map_or(0, |entry| entry.bytes) + OVERHEAD
    }

    pub(super) fn len(&self) -> u64 {
        self.open.len() as u64
    }

    /// Another leader leads: what the last one said of room is void.
    pub(super) fn forget_refusals(&mut self) {
        self.open.values_mut().for_each(|entry| entry.not_queued = None);
    }

    /// This one leaves for a leader.
    pub(super) fn mark_sent(&mut self, number: u64, leader: Fence) -> Option<&Entry> {
        let entry = self.open.get_mut(&number)?;
        entry.on_sent(leader);
        Some(entry)
    }
}
