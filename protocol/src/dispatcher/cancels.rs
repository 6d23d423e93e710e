//! Cancels: a state of an order, told to its workers until they have told how its units ended.
//! Nothing more of a cancelled order is assigned, and its orderer knows what may still run.

use std::time::Duration;

use libp2p_identity::PeerId;

use super::Dispatcher;
use crate::effect::Out;
use crate::now::Now;
use crate::order::{Cancel, OrderKey};
use crate::proven::Proven;

/// How often workers are told (DESIGN 6: repeated until the worker confirms).
pub(super) const REPEAT: Duration = Duration::from_secs(1);
/// Cancels of orders that have not come (yet); more are not taken, and their orderers say them again (guess).
const EARLY: usize = 16_384;

impl Dispatcher {
    /// Orders that are not wanted any more; the signatures were checked.
    pub(crate) fn on_cancels(&mut self, _from: PeerId, cancels: Vec<Proven<Cancel>>, now: Now, _out: &mut Out) {
        if self.fence.is_none() {
            return;
        }
        for cancel in cancels {
            let key = cancel.value.order;
            if self.is_closed(&key) {
                continue;
            }
            let Some(row) = self.rows.get_mut(&key) else {
                if self.early.len() < EARLY || self.early.contains_key(&key) {
                    self.early.insert(key, cancel);
                    self.cancels_due.insert(key);
                }
                continue;
            };
            // Whoever says it again has not heard the answer.
            row.cancel_told = None;
            self.cancels_due.insert(key);
            if row.cancel.is_none() {
                row.cancel = Some(cancel);
                self.dirty.insert(key, None);
                self.cancelled.insert(key);
                self.settle(&key);
                self.say_cancel(&key);
                self.cancel_at = self.cancel_at.or(Some(now.mono + REPEAT));
            }
        }
    }

    fn say_cancel(&mut self, key: &OrderKey) {
        let Some(row) = self.rows.get(key) else { return };
        let Some(cancel) = &row.cancel else { return };
        for worker in row.workers() {
            self.words.to(*worker).cancels.insert(*key, cancel.clone());
        }
    }

    /// Workers that have not told how cancelled units ended are told again.
    pub(super) fn repeat_cancels(&mut self, now: Now) {
        if self.cancel_at.is_none_or(|at| at > now.mono) {
            return;
        }
        let waits = |key: &&OrderKey| self.rows.get(key).is_some_and(|row| !row.tries().is_empty());
        let waiting: Vec<OrderKey> = self.cancelled.iter().filter(waits).copied().collect();
        waiting.iter().for_each(|key| self.say_cancel(key));
        self.cancel_at = (!waiting.is_empty()).then_some(now.mono + REPEAT);
    }

    /// Orderers learn what of their cancelled orders may still run: now, and whenever it changes.
    pub(super) fn answer_cancels(&mut self) {
        // Before workers have told what they are at, nobody knows.
        if self.fence.is_none() || self.gate.is_some() {
            return;
        }
        for key in std::mem::take(&mut self.cancels_due) {
            let Some(row) = self.rows.get_mut(&key) else {
                if let Some(cancel) = self.early.get(&key) {
                    let running = self.strays.running(&key);
                    for (_, worker) in &running {
                        self.words.to(*worker).cancels.insert(key, cancel.clone());
                    }
                    let running = running.into_iter().map(|(unit, _)| unit).collect();
                    self.words.to(key.orderer).cancel_taken.push((key, running, Vec::new()));
                }
                continue;
            };
            if row.cancel.is_none() {
                continue;
            }
            let lost = row.lost.keys().filter(|unit| !row.tries().contains_key(unit));
            let told = (row.tries().keys().copied().collect(), lost.copied().collect());
            if row.cancel_told.as_ref() != Some(&told) {
                row.cancel_told = Some(told.clone());
                self.words.to(key.orderer).cancel_taken.push((key, told.0, told.1));
            }
        }
    }
}
