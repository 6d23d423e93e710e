//! Hashes of a run of numbered letters, so that the hash of any ranges within it is two subtractions.
//! Knows nothing of receipts. The run has no holes; what is below it is not known any more.

use std::collections::VecDeque;

use crate::id::LetterId;
use crate::ranges::Ranges;
use crate::receipt::{Sum, digest};

/// See the module.
#[derive(Debug)]
pub(crate) struct Sums {
    base: u64,
    /// The sum of all below `base`, counted from an arbitrary zero.
    before: Sum,
    /// `prefix[i]` is the sum of all up to `base + i`, from the same zero.
    prefix: VecDeque<Sum>,
}

impl Sums {
    /// An empty run that begins at `base`.
    pub(crate) fn new(base: u64) -> Self {
        Sums { base, before: Sum::default(), prefix: VecDeque::new() }
    }

    /// Adds a letter. One that does not follow the last begins a new run.
    pub(crate) fn push(&mut self, number: u64, id: LetterId) {
        if number != self.base + self.prefix.len() as u64 {
            *self = Sums::new(number);
        }
        let last = self.prefix.back().copied().unwrap_or(self.before);
        self.prefix.push_back(last.plus(digest(number, id)));
    }

    /// Another letter stands under a number.
    pub(crate) fn replace(&mut self, number: u64, old: LetterId, new: LetterId) {
        let Some(place) = number.checked_sub(self.base).and_then(|place| usize::try_from(place).ok()) else { return };
        let (old, new) = (digest(number, old), digest(number, new));
        self.prefix.iter_mut().skip(place).for_each(|sum| *sum = sum.minus(old).plus(new));
    }

    /// Forgets what is below `floor`.
    pub(crate) fn forget_below(&mut self, floor: u64) {
        while self.base < floor
            && let Some(sum) = self.prefix.pop_front()
        {
            self.before = sum;
            self.base += 1;
        }
        if self.prefix.capacity() / 4 > self.prefix.len().max(1024) {
            // A backlog is over: its room is given back.
            self.prefix.shrink_to(self.prefix.len() * 2);
        }
    }

    /// The hash of the letters under these numbers, if all of them are in the run.
    pub(crate) fn of(&self, numbers: &Ranges) -> Option<Sum> {
        numbers.iter().try_fold(Sum::default(), |sum, (first, last)| {
            let before = first.checked_sub(1)?;
            Some(sum.plus(self.upto(last)?.minus(self.upto(before)?)))
        })
    }

    fn upto(&self, number: u64) -> Option<Sum> {
        if number + 1 == self.base {
            return Some(self.before);
        }
        self.prefix.get(usize::try_from(number.checked_sub(self.base)?).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> LetterId {
        LetterId::new(u128::from(number).to_be_bytes())
    }

    fn plain(numbers: &[u64]) -> Sum {
        numbers.iter().fold(Sum::default(), |sum, n| sum.plus(digest(*n, id(*n))))
    }

    #[test]
    fn any_ranges_of_the_run_are_summed() {
        let mut sums = Sums::new(5);
        (5..20).for_each(|n| sums.push(n, id(n)));
        let mut ranges = Ranges::of(5, 6);
        ranges.insert_range(9, 9);
        assert_eq!(sums.of(&ranges), Some(plain(&[5, 6, 9])));
        sums.forget_below(9);
        assert_eq!(sums.of(&ranges), None);
        assert_eq!(sums.of(&Ranges::of(9, 10)), Some(plain(&[9, 10])));
        assert_eq!(sums.of(&Ranges::of(19, 20)), None);
        assert_eq!(sums.of(&Ranges::default()), Some(Sum::default()));
    }

    #[test]
    fn another_letter_under_a_number_changes_the_sums_that_hold_it_and_no_other() {
        let mut sums = Sums::new(1);
        (1..6).for_each(|n| sums.push(n, id(n)));
        sums.replace(3, id(3), id(33));
        let changed = plain(&[2, 4]).plus(digest(3, id(33)));
        assert_eq!(sums.of(&Ranges::of(2, 4)), Some(changed));
        assert_eq!(sums.of(&Ranges::of(4, 5)), Some(plain(&[4, 5])));
        assert_eq!(sums.of(&Ranges::of(1, 2)), Some(plain(&[1, 2])));
    }

    #[test]
    fn a_hole_begins_a_new_run() {
        let mut sums = Sums::new(1);
        sums.push(1, id(1));
        sums.push(7, id(7));
        assert_eq!(sums.of(&Ranges::of(1, 1)), None);
        assert_eq!(sums.of(&Ranges::of(7, 7)), Some(plain(&[7])));
    }
}
