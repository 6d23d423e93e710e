//! When the latest terms began.
//! Knows nothing of who led in them. Many within a short time make everybody slower, but never slow for good.

use std::collections::VecDeque;
use std::time::Duration;

/// So many terms … (DESIGN 6.1)
const MANY: usize = 3;
/// … within this time make everybody slower (DESIGN 6.1) …
const WITHIN: Duration = Duration::from_secs(60);
/// … but by no more than this (guess: as long as a silent peer is waited for elsewhere).
const SLOWER_MOST: Duration = Duration::from_secs(10);
/// So many within that time, and a leader yields to whoever claims more, lest two that count differently go on for ever
/// (guess: a term that is contested and the answer to it count as two).
const CONTESTED: usize = 2 * MANY;
/// Terms that are remembered.
const KEPT: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Terms(VecDeque<Duration>);

impl Terms {
    pub(super) fn on_begun(&mut self, now: Duration) {
        self.0.push_back(now);
        while self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// How long a candidate of this rank waits.
    pub(super) fn delay(&self, rank: u32, step: Duration, now: Duration) -> Duration {
        let plain = step.saturating_mul(rank);
        let Some(over) = self.recent(now).checked_sub(MANY) else { return plain };
        let slower = step.saturating_mul(rank.saturating_add(1)).saturating_mul(2 << over.min(KEPT));
        slower.min(plain + SLOWER_MOST)
    }

    /// Candidates are slow.
    #[cfg(test)]
    pub(super) fn are_many(&self, now: Duration) -> bool {
        self.recent(now) >= MANY
    }

    /// A leader should not answer a term by another.
    pub(super) fn are_too_many(&self, now: Duration) -> bool {
        self.recent(now) >= CONTESTED
    }

    fn recent(&self, now: Duration) -> usize {
        self.0.iter().filter(|began| now.saturating_sub(**began) < WITHIN).count()
    }
}
