//! Reports of orders that are not closed, for their orderers: who has not heard one is told, though its worker may be gone.
//! Knows nothing of the queue: a report may come before its order. In memory only; of more than fits, their workers alone have them.

use std::collections::BTreeMap;

use crate::order::{OrderKey, Report};
use crate::proven::Proven;

/// Bytes of reports that are kept (guess: what a small machine can spare).
const BYTES: usize = 64 * 1024 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reports {
    kept: BTreeMap<(OrderKey, u32), Box<Proven<Report>>>,
    bytes: usize,
}

impl Reports {
    /// A unit has ended. Of several reports of one unit the first stays: it is the one that its orderer may have heard.
    pub(super) fn keep(&mut self, report: &Proven<Report>) {
        let unit = (report.value.of.order, report.value.of.unit);
        if self.bytes + report.body.len() <= BYTES && !self.kept.contains_key(&unit) {
            self.bytes += report.body.len();
            self.kept.insert(unit, Box::new(report.clone()));
        }
    }

    /// All of one order.
    pub(super) fn of(&self, order: &OrderKey) -> impl Iterator<Item = &Proven<Report>> {
        self.kept.range((*order, 0)..=(*order, u32::MAX)).map(|(_, report)| &**report)
    }

    /// These orders are closed.
    pub(super) fn close(&mut self, first: OrderKey, last: OrderKey) {
        while let Some(unit) = self.kept.range((first, 0)..=(last, u32::MAX)).next().map(|(unit, _)| *unit) {
            self.bytes -= self.kept.remove(&unit).map_or(0, |report| report.body.len());
        }
    }

    /// Nothing is to be remembered of other orders.
    pub(super) fn keep_of(&mut self, known: impl Fn(&OrderKey) -> bool) {
        self.kept.retain(|(order, _), _| known(order));
        self.bytes = self.kept.values().map(|report| report.body.len()).sum();
    }
}
