//! Orders of which nothing is left to do here: their orderers are told so until they say that the orders have ended.
//! Knows nothing of how they ended. A closing can be lost although its connection goes on; whoever has closed an order says it
//! again when it hears of it, and who has not is told all that it may have missed: a worker that had its report may be gone.

use std::time::Duration;

use super::Dispatcher;
use crate::now::Now;
use crate::order::OrderKey;

impl Dispatcher {
    /// An order may have come to where nothing is left to do, or have left it.
    pub(super) fn note_over(&mut self, key: &OrderKey) {
        let Some(row) = self.rows.get(key) else { return };
        if row.is_done_with() != row.told_over.is_some() {
            self.over.insert(*key);
        }
    }

    /// Nobody waits for the closing of this order any more.
    pub(super) fn forget_over(&mut self, key: &OrderKey) {
        self.over.remove(key);
        if let Some((at, _)) = self.rows.get_mut(key).and_then(|row| row.told_over.take()) {
            self.over_at.remove(&(at, *key));
        }
    }

    /// Under a new term everything is to be told again.
    pub(super) fn restart_over(&mut self) {
        self.over_at.clear();
        self.over.clear();
        for (key, row) in &mut self.rows {
            row.told_over = None;
            if row.is_done_with() {
                self.over.insert(*key);
            }
        }
    }

    /// Closings that have not come are asked for.
    pub(super) fn ask_for_closings(&mut self, now: Now) {
        for key in std::mem::take(&mut self.over) {
            self.forget_over(&key);
            if self.rows.get(&key).is_some_and(|row| row.is_done_with()) {
                self.await_closing(key, now.mono, self.config.work_patience);
            }
        }
        while let Some((_, key)) = self.over_at.first().copied().filter(|(at, _)| *at <= now.mono) {
            let patience = self.rows.get(&key).and_then(|row| row.told_over).map_or(self.config.work_patience, |(_, patience)| patience);
            self.forget_over(&key);
            let Some(row) = self.rows.get_mut(&key) else { continue };
            let cancel = row.cancel.clone();
            if cancel.is_some() {
                row.cancel_told = None;
                self.cancels_due.insert(key);
            }
            let word = self.words.to(key.orderer);
            // A memory put back may not know that it wanted it cancelled: its own signature tells it.
            word.cancels.extend(cancel.map(|cancel| (key, cancel)));
            word.queued.push(key);
            word.reports.extend(self.reports.of(&key).cloned());
            self.tell_given_up(&key);
            self.await_closing(key, now.mono, (patience * 2).min(self.config.resend_most));
        }
    }

    fn await_closing(&mut self, key: OrderKey, now: Duration, patience: Duration) {
        if let Some(row) = self.rows.get_mut(&key) {
            row.told_over = Some((now + patience, patience));
            self.over_at.insert((now + patience, key));
        }
    }
}
