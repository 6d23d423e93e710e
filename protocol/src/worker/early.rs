//! Assignments that came before their orders, and wait for them.
//! Knows nothing of what is assigned. Signatures are checked beside one another: an assignment, which has none, easily overtakes
//! the order that was sent before it. What has waited long enough is declined, so that its leader sends the order again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::order::{Fence, OrderKey, Try};

/// How long an order is waited for (guess: a thousand orders are checked in less; longer ones, on a slow link, are asked for).
const PATIENCE: Duration = Duration::from_millis(50);
/// Assignments that wait at a time; of more, nothing is remembered (guess: as many as a leader sends at once to a large machine).
const MOST: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// By whom they were sent is said by the fence.
    by_order: BTreeMap<OrderKey, Vec<(Fence, Try)>>,
    due: VecDeque<(Duration, Fence, Try)>,
}

impl Early {
    /// It waits from now on; false if it cannot.
    pub(super) fn put(&mut self, fence: Fence, task: Try, now: Duration) -> bool {
        if self.due.len() >= MOST {
            return false;
        }
        let waiting = self.by_order.entry(task.order).or_default();
        if !waiting.contains(&(fence, task)) {
            waiting.push((fence, task));
            self.due.push_back((now + PATIENCE, fence, task));
        }
        true
    }

    /// The order is here: what waited for it.
    pub(super) fn take(&mut self, order: &OrderKey) -> Vec<(Fence, Try)> {
        self.by_order.remove(order).unwrap_or_default()
    }

    /// What has waited for too long.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<(Fence, Try)> {
        let mut late = Vec::new();
        while let Some((_, fence, task)) = self.due.front().copied().filter(|(at, ..)| *at <= now) {
            self.due.pop_front();
            if let Some(waiting) = self.by_order.get_mut(&task.order)
                && let Some(place) = waiting.iter().position(|one| *one == (fence, task))
            {
                late.push(waiting.remove(place));
                if waiting.is_empty() {
                    self.by_order.remove(&task.order);
                }
            }
        }
        late
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.due.front().map(|(at, ..)| *at).filter(|_| !self.by_order.is_empty())
    }
}
