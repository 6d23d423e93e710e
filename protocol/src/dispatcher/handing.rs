//! Units that go to workers and come back: the table, what is in flight, and what is asked again, together.
//! A unit that is with a worker in the table is in flight at that worker, and nowhere else.

use std::time::Duration;

use super::Dispatcher;
use super::table::{Placement, Stage};
use super::workers::Takes;
use crate::now::Now;
use crate::order::OrderKey;

impl Dispatcher {
    /// A unit is with a worker, and takes something of it: what is known, or what its order says.
    pub(super) fn put(&mut self, key: &OrderKey, unit: u32, placement: Placement, takes: Option<Takes>, now: Now) {
        let Some(row) = self.rows.get_mut(key) else { return };
        row.put(unit, placement);
        let needs = &row.order.value.needs;
        let takes = takes.unwrap_or((needs.cores, needs.memory_bytes));
        self.workers.take(placement.worker, &row.order.value, unit, takes, now.mono + self.config.lost_after);
        if let Some(at) = placement.again_at {
            self.unanswered.insert((at, *key, unit));
        }
        self.dirty
            .entry(*key)
            .and_modify(|about| *about = about.filter(|about| *about == placement.worker))
            .or_insert(Some(placement.worker));
    }

    /// A unit is not with its worker any more, who has room for something else.
    pub(super) fn take_back(&mut self, key: &OrderKey, unit: u32) {
        self.expect_answer(key, unit, None);
        let Some(row) = self.rows.get_mut(key) else { return };
        let Some(placement) = row.take(unit) else { return };
        self.workers.give_back(&placement.worker, &row.order.value, unit);
        self.look.at_worker(placement.worker);
        if row.cancel.is_some() {
            self.cancels_due.insert(*key);
        }
    }

    /// A unit is not wanted where it is.
    pub(super) fn supersede(&mut self, key: &OrderKey, unit: u32) {
        let Some(row) = self.rows.get_mut(key) else { return };
        let Some(placement) = row.placement(unit).copied() else { return };
        let of = row.try_of(unit, placement.attempt);
        self.words.to(placement.worker).superseded.push(of);
        self.take_back(key, unit);
    }

    /// When a unit's assignment is sent again, if ever.
    pub(super) fn expect_answer(&mut self, key: &OrderKey, unit: u32, again_at: Option<Duration>) {
        let Some(placement) = self.rows.get_mut(key).and_then(|row| row.placement(unit)) else { return };
        if let Some(at) = placement.again_at {
            self.unanswered.remove(&(at, *key, unit));
        }
        placement.again_at = again_at;
        if let Some(at) = again_at {
            self.unanswered.insert((at, *key, unit));
        }
    }

    /// Assignments that nobody has answered go again, and those of whose end nothing was heard: workers know a try that they have, and
    /// how it ended.
    pub(super) fn ask_again(&mut self, now: Now) {
        while let Some(first) = self.unanswered.first().copied().filter(|(at, _, _)| *at <= now.mono) {
            self.unanswered.remove(&first);
            let (_, key, unit) = first;
            let Some(placement) = self.rows.get_mut(&key).and_then(|row| row.placement(unit)) else { continue };
            placement.again_at = None;
            placement.asked += u32::from(placement.stage > Stage::Assigned);
            // Who cannot be reached is asked when it is back, or is lost.
            if self.workers.is_reachable(&placement.worker) {
                self.expect_answer(&key, unit, Some(now.mono + self.config.work_patience));
                self.say_assign(&key, unit, now);
            }
        }
    }

    /// A unit goes to the worker that it is with, after its order if that is not there.
    pub(super) fn say_assign(&mut self, key: &OrderKey, unit: u32, now: Now) {
        let Some(row) = self.rows.get_mut(key) else { return };
        let Some(placement) = row.placement(unit) else { return };
        placement.stage = placement.stage.max(Stage::Assigned);
        let (worker, attempt) = (placement.worker, placement.attempt);
        let Some(connection) = self.workers.connection(&worker) else { return };
        let word = self.words.to(worker);
        // Who would take over has it.
        if row.tell(worker, connection, now.mono) && !self.standbys.is_complete(&worker) {
            word.orders.push(row.order.clone());
        }
        word.assign.push(row.try_of(unit, attempt));
        if let Some(cancel) = &row.cancel {
            word.cancels.insert(*key, cancel.clone());
        }
    }
}
