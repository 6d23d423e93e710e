//! What the leader has not acknowledged yet: numbers, in a window, again and again.
//! Knows nothing of what is numbered. A number waits, or is under way and due again at a time, or is not here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(super) struct Courier {
    /// The first wait for an answer …
    first: Duration,
    /// … doubling up to this.
    most: Duration,
    /// Bytes under way, but at least one number.
    window_bytes: usize,
    /// Numbers that wait to leave, each with how long it will be waited for.
    waiting: BTreeMap<u64, Duration>,
    under_way: BTreeMap<u64, Sent>,
    /// The same by time.
    due: BTreeSet<(Duration, u64)>,
    /// Of all that is under way.
    bytes: usize,
}

#[derive(Debug)]
struct Sent {
    bytes: usize,
    due: Duration,
    patience: Duration,
}

impl Courier {
    pub(super) fn new(first: Duration, most: Duration, window_bytes: usize) -> Self {
        Courier { first, most, window_bytes, waiting: BTreeMap::new(), under_way: BTreeMap::new(), due: BTreeSet::new(), bytes: 0 }
    }

    /// This is to leave, if it is not under way already.
    pub(super) fn want(&mut self, number: u64) {
        if !self.under_way.contains_key(&number) {
            self.waiting.insert(number, self.first);
        }
    }

    /// Nobody needs this any more, or it was answered.
    pub(super) fn forget(&mut self, number: u64) {
        self.waiting.remove(&number);
        self.land(number);
    }

    /// This was refused, and leaves again; false if it was not under way.
    pub(super) fn give_back(&mut self, number: u64) -> bool {
        let landed = self.land(number).is_some();
        if landed {
            self.waiting.insert(number, self.first);
        }
        landed
    }

    /// All of these, ascending, are to leave, as if none ever had.
    pub(super) fn restart(&mut self, numbers: impl Iterator<Item = u64>) {
        let first = self.first;
        *self = Courier::new(first, self.most, self.window_bytes);
        self.waiting = numbers.map(|number| (number, first)).collect();
    }

    /// What is under way may be lost: it leaves again.
    pub(super) fn rewind(&mut self) {
        self.due.clear();
        self.bytes = 0;
        self.waiting.extend(std::mem::take(&mut self.under_way).into_iter().map(|(number, sent)| (number, sent.patience)));
    }

    /// What was not answered in time leaves again, and is waited for twice as long.
    pub(super) fn lapse(&mut self, now: Duration) {
        while let Some((_, number)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            let sent = self.land(number).expect("what is due is under way");
            self.waiting.insert(number, (sent.patience * 2).min(self.most));
        }
    }

    /// The lowest that may leave now, at most `most` under way in all.
    pub(super) fn depart(&mut self, most: usize, size: impl Fn(u64) -> usize, now: Duration) -> Vec<u64> {
        let mut leaving = Vec::new();
        while let Some((number, bytes)) = self.next(most, &size) {
            let patience = self.waiting.remove(&number).unwrap_or(self.first);
            let due = now + patience;
            self.under_way.insert(number, Sent { bytes, due, patience });
            self.due.insert((due, number));
            self.bytes += bytes;
            leaving.push(number);
        }
        leaving
    }

    /// Whether something may leave now.
    pub(super) fn is_ready(&self, most: usize, size: impl Fn(u64) -> usize) -> bool {
        self.next(most, &size).is_some()
    }

    /// When something is due again.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    fn next(&self, most: usize, size: &impl Fn(u64) -> usize) -> Option<(u64, usize)> {
        let number = *self.waiting.first_key_value()?.0;
        let bytes = size(number);
        let fits = self.under_way.is_empty() || (self.under_way.len() < most && self.bytes + bytes <= self.window_bytes);
        fits.then_some((number, bytes))
    }

    fn land(&mut self, number: u64) -> Option<Sent> {
        let sent = self.under_way.remove(&number)?;
        self.due.remove(&(sent.due, number));
        self.bytes -= sent.bytes;
        Some(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn courier() -> Courier {
        Courier::new(2 * SECOND, 30 * SECOND, 100)
    }

    #[test]
    fn only_a_window_is_under_way_and_an_answer_makes_room() {
        let mut courier = courier();
        (1..=50).for_each(|number| courier.want(number));
        assert_eq!(courier.depart(10, |_| 1, SECOND), (1..=10).collect::<Vec<_>>(), "as many as may");
        assert!(!courier.is_ready(10, |_| 1));
        courier.forget(3);
        assert_eq!(courier.depart(10, |_| 1, SECOND), [11]);
        assert_eq!(courier.depart(100, |_| 45, SECOND), [12, 13], "as many bytes as may: 10 + 45 + 45");
    }

    #[test]
    fn what_is_larger_than_the_window_leaves_alone() {
        let mut courier = courier();
        [1, 2, 3].into_iter().for_each(|number| courier.want(number));
        let size = |number| if number == 2 { 1_000 } else { 1 };
        assert_eq!(courier.depart(10, size, SECOND), [1]);
        courier.forget(1);
        assert_eq!(courier.depart(10, size, SECOND), [2]);
        assert_eq!(courier.depart(10, size, SECOND), [0; 0]);
        courier.forget(2);
        assert_eq!(courier.depart(10, size, SECOND), [3]);
    }

    #[test]
    fn what_is_not_answered_leaves_again_after_twice_as_long_each_time() {
        let mut courier = courier();
        courier.want(7);
        let (mut now, mut waits) = (Duration::ZERO, Vec::new());
        for _ in 0..6 {
            assert_eq!(courier.depart(10, |_| 1, now), [7]);
            let due = courier.deadline().expect("it is under way");
            courier.lapse(due - Duration::from_millis(1));
            assert!(courier.waiting.is_empty());
            courier.lapse(due);
            waits.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(waits, [2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn what_is_refused_leaves_again_and_what_waits_cannot_be() {
        let mut courier = courier();
        [1, 2].into_iter().for_each(|number| courier.want(number));
        courier.depart(1, |_| 1, SECOND);
        assert!(courier.give_back(1) && !courier.give_back(1) && !courier.give_back(2) && !courier.give_back(3));
        assert_eq!(courier.depart(10, |_| 1, SECOND), [1, 2]);
    }

    #[test]
    fn what_may_be_lost_leaves_again_at_once() {
        let mut courier = courier();
        [1, 2].into_iter().for_each(|number| courier.want(number));
        courier.depart(1, |_| 1, SECOND);
        courier.rewind();
        assert_eq!((courier.deadline(), courier.bytes), (None, 0));
        assert_eq!(courier.depart(10, |_| 1, SECOND), [1, 2]);
    }
}
