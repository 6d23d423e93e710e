//! The orders of which this worker does units.
//! Knows nothing of how they are done. An order with a unit here stays; of the others those that came last stay, while there is room.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::order::{Closing, Order, OrderKey};

/// Bytes of orders kept for units to come (guess: ten of the largest) …
const BYTES: usize = 64 * 1024 * 1024;
/// … and what each takes beside what its orderer wrote (guess).
const BYTES_EACH: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    bodies: BTreeMap<OrderKey, Body>,
    /// Those without a unit here, in the order in which they came to be so.
    idle: BTreeMap<u64, OrderKey>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Body {
    order: Arc<Order>,
    bytes: usize,
    units: u32,
    idle: Option<u64>,
    /// Its orderer does not want it any more.
    cancelled: bool,
}

impl Bodies {
    pub(super) fn put(&mut self, order: &Order) {
        let key = order.key();
        match self.bodies.get(&key) {
            // Its orderer was put back to before it gave that name: the leader has the new order, and nobody wants the other.
            Some(known) if known.units == 0 && *known.order != *order => self.remove(&key),
            Some(_) => return,
            None => {}
        }
        if self.is_full() {
            return;
        }
        let bytes = order.bytes() + BYTES_EACH;
        self.bytes += bytes;
        self.bodies.insert(key, Body { order: Arc::new(order.clone()), bytes, units: 0, idle: None, cancelled: false });
        self.rest(key);
    }

    pub(super) fn get(&self, key: &OrderKey) -> Option<&Arc<Order>> {
        self.bodies.get(key).map(|body| &body.order)
    }

    /// No order can be added: all that are here have units here.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BYTES && self.idle.is_empty()
    }

    pub(super) fn on_taken(&mut self, key: &OrderKey) {
        if let Some(body) = self.bodies.get_mut(key) {
            body.units += 1;
            if let Some(idle) = body.idle.take() {
                self.idle.remove(&idle);
            }
        }
    }

    pub(super) fn on_ended(&mut self, key: &OrderKey) {
        if let Some(body) = self.bodies.get_mut(key) {
            body.units = body.units.saturating_sub(1);
            if body.units == 0 {
                self.rest(*key);
            }
        }
    }

    pub(super) fn on_cancelled(&mut self, key: &OrderKey) {
        if let Some(body) = self.bodies.get_mut(key) {
            body.cancelled = true;
        }
    }

    pub(super) fn is_cancelled(&self, key: &OrderKey) -> bool {
        self.bodies.get(key).is_some_and(|body| body.cancelled)
    }

    /// Forgets those that are closed; what still runs of one has what it needs.
    pub(super) fn on_closing(&mut self, closing: &Closing) {
        for (first, last) in closing.closed.iter() {
            let closed: Vec<OrderKey> =
                self.bodies.range(super::keys(closing, first)..=super::keys(closing, last)).map(|(key, _)| *key).collect();
            for key in closed {
                self.remove(&key);
            }
        }
    }

    fn rest(&mut self, key: OrderKey) {
        if let Some(body) = self.bodies.get_mut(&key) {
            self.next += 1;
            body.idle = Some(self.next);
            self.idle.insert(self.next, key);
        }
        while self.bytes > BYTES
            && let Some((_, oldest)) = self.idle.first_key_value().map(|(at, key)| (*at, *key)).filter(|(_, oldest)| *oldest != key)
        {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &OrderKey) {
        if let Some(body) = self.bodies.remove(key) {
            self.bytes -= body.bytes;
            if let Some(idle) = body.idle {
                self.idle.remove(&idle);
            }
        }
    }
}
