//! When what others shall keep for us is told them: at once, soon after somebody came who may be among them, and again soon where
//! nobody was reached. Knows nothing of what is told, nor how. What reached nobody is always due again.

use std::time::{Duration, Instant};

/// So long after somebody came (DESIGN 6).
const AFTER_NEWCOMER: Duration = Duration::from_secs(2);
/// Among many, at least this between two times: the next newcomers come in twos and threes, and each time dozens are told. Guess.
const SPACING_OF_MANY: Duration = Duration::from_secs(10);
/// Where nobody was reached: who is connected is in the routing table a moment later. Doubled each time. Guess.
const FIRST_AGAIN: Duration = Duration::from_secs(1);
/// But no more seldom than this; alone it costs nothing. Guess.
const LAST_AGAIN: Duration = Duration::from_secs(64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Telling {
    due: Option<Instant>,
    told: Option<Instant>,
    /// Told, and not known yet whether anybody heard.
    open: bool,
    /// How often in a row nobody was reached.
    missed: u32,
}

impl Telling {
    /// There is something new to tell.
    pub(super) fn begin(&mut self, now: Instant) {
        *self = Telling { due: Some(now), ..Telling::default() };
    }

    /// Somebody came.
    pub(super) fn on_newcomer(&mut self, many: bool, now: Instant) {
        self.missed = 0;
        let soon = now + AFTER_NEWCOMER;
        let spacing = if many { SPACING_OF_MANY } else { AFTER_NEWCOMER };
        self.not_later_than(self.told.map_or(soon, |told| soon.max(told + spacing)));
    }

    /// Nobody was reached.
    pub(super) fn on_missed(&mut self, now: Instant) {
        if std::mem::take(&mut self.open) {
            self.not_later_than(now + LAST_AGAIN.min(FIRST_AGAIN * (1 << self.missed.min(16))));
            self.missed += 1;
        }
    }

    /// Somebody was reached.
    pub(super) fn on_reached(&mut self) {
        self.missed = 0;
    }

    /// If it is to be told now, this says so once.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            *self = Telling { due: None, told: Some(now), open: true, missed: self.missed };
        }
        due
    }

    pub(super) fn not_later_than(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_reached_nobody_is_told_again_after_a_second_and_then_ever_more_seldom() {
        let mut telling = Telling::default();
        let mut now = Instant::now();
        telling.begin(now);
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert!(telling.take(now) && !telling.take(now));
            // Of several things told at once each says that it missed.
            telling.on_missed(now);
            telling.on_missed(now);
            let next = telling.deadline().expect("due again");
            waits.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        // A newcomer may be who was missing.
        telling.on_newcomer(true, now);
        assert!(telling.take(now));
        telling.on_missed(now);
        assert_eq!(telling.deadline(), Some(now + SECOND));
    }

    #[test]
    fn newcomers_are_told_soon_but_among_many_not_each_of_them() {
        let mut telling = Telling::default();
        let now = Instant::now();
        telling.begin(now);
        assert!(telling.take(now));
        telling.on_reached();
        assert_eq!(telling.deadline(), None);
        telling.on_newcomer(true, now);
        assert_eq!(telling.deadline(), Some(now + SPACING_OF_MANY));
        telling.on_newcomer(false, now + SECOND);
        assert_eq!(telling.deadline(), Some(now + SECOND + AFTER_NEWCOMER));
    }
}
