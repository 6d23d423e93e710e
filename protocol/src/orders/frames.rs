//! Orders and cancels as words of a size that a stream carries well.
//! Knows nothing of whether they arrive. No order is left out, and none is cut.

use crate::config::limits;
use crate::order::{Cancel, Order};
use crate::proven::Proven;
use crate::work::{UnitsOf, Work};

/// Bytes of orders that leave in one frame, but at least one order (guess: a frame should not hold up the next for long).
const TARGET: usize = 256 * 1024;

/// These orders, in as few words as may be; what is larger than a frame should be goes alone.
pub(super) fn orders(orders: impl Iterator<Item = Order>) -> Vec<Work> {
    let (mut words, mut frame, mut bytes) = (Vec::new(), Vec::new(), 0);
    for order in orders.map(Proven::own) {
        if !frame.is_empty() && (bytes + order.body.len() > TARGET || frame.len() == limits::WORDS) {
            words.push(Work::Orders(std::mem::take(&mut frame)));
            bytes = 0;
        }
        bytes += order.body.len();
        frame.push(order);
    }
    if !frame.is_empty() {
        words.push(Work::Orders(frame));
    }
    words
}

/// Which units of these orders have ended, likewise.
pub(super) fn units_ended(units: impl Iterator<Item = UnitsOf>) -> Vec<Work> {
    UnitsOf::pages(units).into_iter().map(Work::UnitsEnded).collect()
}

/// These cancels, likewise.
pub(super) fn cancels(cancels: impl Iterator<Item = Cancel>) -> Vec<Work> {
    let cancels: Vec<Proven<Cancel>> = cancels.map(Proven::own).collect();
    cancels.chunks(limits::WORDS).map(|part| Work::Cancels(part.to_vec())).collect()
}
