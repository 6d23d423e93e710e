//! The order in which waiting orders are looked at: the specification's three priorities, as sort keys.
//! Knows nothing of services and workers. 1s are before everything else; a key once given is changed by a renumbering only.

use std::collections::BTreeSet;

use crate::order::{OrderKey, Priority};

/// A place in the queue: sort key, ties by order.
pub(super) type Place = (u64, OrderKey);

/// Between two orders that are put at the end: 2^31 of them follow one another before the keys are used up.
const GAP: u64 = 1 << 32;
/// Between two orders that are put one behind another elsewhere: a million of them fit into a gap.
const STEP: u64 = 1 << 12;
/// The first key of an empty queue: as much room before it as behind it.
const MIDDLE: u64 = 1 << 63;

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    /// The first half of the queue, rounded down …
    front: BTreeSet<Place>,
    /// … and the rest: the middle is where they meet.
    back: BTreeSet<Place>,
    ones: BTreeSet<Place>,
    twos: BTreeSet<Place>,
    /// The greatest key given: who was at the end and works now may come back.
    high: Option<u64>,
}

impl Queue {
    /// An empty one.
    pub(super) fn new() -> Self {
        Queue { front: BTreeSet::new(), back: BTreeSet::new(), ones: BTreeSet::new(), twos: BTreeSet::new(), high: None }
    }

    /// The key for a new order of this priority; none if there is no number left there: renumber, and ask again.
    pub(super) fn sort_for(&self, priority: Priority) -> Option<u64> {
        match priority {
            Priority::End => self.end(),
            Priority::Front => self.behind(self.ones.last()),
            Priority::Middle => self.behind([self.front.last(), self.ones.last(), self.twos.last()].into_iter().flatten().max()),
        }
    }

    fn end(&self) -> Option<u64> {
        match self.high {
            None => Some(MIDDLE),
            Some(high) => high.checked_add(GAP),
        }
    }

    /// Right behind an order of the queue, or before all.
    fn behind(&self, before: Option<&Place>) -> Option<u64> {
        let next = match before {
            None => self.iter().next(),
            Some(place) => self.after(place),
        };
        match (before, next) {
            (_, None) => self.end(),
            (None, Some((first, _))) => first.checked_sub(GAP),
            (Some((before, _)), Some((next, _))) => {
                let step = STEP.min(next.saturating_sub(*before) / 2);
                (step > 0).then(|| before + step)
            }
        }
    }

    fn after(&self, place: &Place) -> Option<&Place> {
        use std::ops::Bound::{Excluded, Unbounded};
        let beyond = (Excluded(place), Unbounded);
        self.front.range::<Place, _>(beyond).next().or_else(|| self.back.range::<Place, _>(beyond).next())
    }

    /// An order waits.
    pub(super) fn insert(&mut self, priority: Priority, place: Place) {
        self.high = self.high.max(Some(place.0));
        let first_half = self.back.first().is_some_and(|first| place < *first);
        if first_half {
            self.front.insert(place)
        } else {
            self.back.insert(place)
        };
        if let Some(set) = self.of(priority) {
            set.insert(place);
        }
        self.balance();
    }

    /// It does not wait any more.
    pub(super) fn remove(&mut self, priority: Priority, place: &Place) {
        if !self.front.remove(place) {
            self.back.remove(place);
        }
        if let Some(set) = self.of(priority) {
            set.remove(place);
        }
        self.balance();
    }

    /// A key was given, though its order does not wait.
    pub(super) fn remember(&mut self, sort: u64) {
        self.high = self.high.max(Some(sort));
    }

    /// No order is left, waiting or not: keys begin anew.
    pub(super) fn clear(&mut self) {
        *self = Queue::new();
    }

    fn of(&mut self, priority: Priority) -> Option<&mut BTreeSet<Place>> {
        match priority {
            Priority::Front => Some(&mut self.ones),
            Priority::Middle => Some(&mut self.twos),
            Priority::End => None,
        }
    }

    fn balance(&mut self) {
        let half = self.len() / 2;
        while self.front.len() > half {
            self.back.extend(self.front.pop_last());
        }
        while self.front.len() < half {
            self.front.extend(self.back.pop_first());
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.front.len() + self.back.len()
    }

    /// All, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Place> + '_ {
        self.front.iter().chain(&self.back)
    }

    /// The keys of a renumbered queue, in order.
    pub(super) fn numbers() -> impl Iterator<Item = u64> {
        (0..).map(|n| MIDDLE + n * GAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;

    fn key(number: u64) -> OrderKey {
        OrderKey { orderer: super::super::tests::peer(1), epoch: Epoch(1), number }
    }

    fn add(queue: &mut Queue, number: u64, priority: Priority) {
        let sort = queue.sort_for(priority).expect("there is room");
        queue.insert(priority, (sort, key(number)));
    }

    fn numbers(queue: &Queue) -> Vec<u64> {
        queue.iter().map(|(_, key)| key.number).collect()
    }

    #[test]
    fn four_3s_then_a_2_in_the_middle_and_1s_in_front_behind_earlier_1s() {
        let mut queue = Queue::new();
        (1..=4).for_each(|n| add(&mut queue, n, Priority::End));
        add(&mut queue, 5, Priority::Middle);
        assert_eq!(numbers(&queue), [1, 2, 5, 3, 4]);
        add(&mut queue, 6, Priority::Front);
        add(&mut queue, 7, Priority::Front);
        assert_eq!(numbers(&queue), [6, 7, 1, 2, 5, 3, 4]);
        add(&mut queue, 8, Priority::Middle);
        assert_eq!(numbers(&queue), [6, 7, 1, 2, 5, 8, 3, 4], "behind the last 2, which is behind the middle");
    }

    #[test]
    fn a_2_goes_behind_all_1s_even_if_those_reach_beyond_the_middle() {
        let mut queue = Queue::new();
        add(&mut queue, 1, Priority::End);
        (2..=4).for_each(|n| add(&mut queue, n, Priority::Front));
        add(&mut queue, 5, Priority::Middle);
        assert_eq!(numbers(&queue), [2, 3, 4, 5, 1]);
        add(&mut queue, 6, Priority::Front);
        assert_eq!(numbers(&queue), [2, 3, 4, 6, 5, 1]);
    }

    #[test]
    fn many_2s_and_1s_in_a_row_do_not_use_up_a_gap() {
        let mut queue = Queue::new();
        (1..=10).for_each(|n| add(&mut queue, n, Priority::End));
        (11..=20_000).for_each(|n| add(&mut queue, n, if n % 2 == 0 { Priority::Middle } else { Priority::Front }));
        assert_eq!(queue.len(), 20_000);
    }

    #[test]
    fn the_queue_agrees_with_a_plain_list() {
        use rand_chacha::ChaCha8Rng;
        use rand_core::{Rng, SeedableRng};
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (mut queue, mut plain) = (Queue::new(), Vec::<(u64, Priority, Place)>::new());
        for number in 1..3_000 {
            if !plain.is_empty() && rng.next_u32().is_multiple_of(3) {
                let (_, priority, place) = plain.remove(rng.next_u32() as usize % plain.len().min(5));
                queue.remove(priority, &place);
                continue;
            }
            let priority = Priority::try_from(u8::try_from(1 + rng.next_u32() % 3).expect("small")).expect("1 to 3");
            let behind = |which: Priority| plain.iter().rposition(|(_, other, _)| *other == which).map_or(0, |at| at + 1);
            let at = match priority {
                Priority::Front => behind(Priority::Front),
                Priority::Middle => (plain.len() / 2).max(behind(Priority::Front)).max(behind(Priority::Middle)),
                Priority::End => plain.len(),
            };
            let place = (queue.sort_for(priority).expect("there is room"), key(number));
            queue.insert(priority, place);
            plain.insert(at, (number, priority, place));
            assert_eq!(numbers(&queue), plain.iter().map(|(number, ..)| *number).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_used_up_gap_says_so() {
        let mut queue = Queue::new();
        queue.insert(Priority::Front, (5, key(1)));
        queue.insert(Priority::End, (6, key(2)));
        assert_eq!(queue.sort_for(Priority::Front), None);
    }
}
