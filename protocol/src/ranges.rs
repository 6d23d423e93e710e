//! A set of numbers, kept as ranges.
//! Knows nothing of what is numbered. The ranges are sorted, apart from one another and never empty.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A set of `u64` as closed ranges. On the wire and on disk: a list of `[first, last]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<(u64, u64)>", try_from = "Vec<(u64, u64)>")]
pub struct Ranges(BTreeMap<u64, u64>);

/// The ranges are not sorted, touch one another, or one ends before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ranges are not sorted and apart")]
pub struct RangesError;

impl Ranges {
    /// The range `first..=last` alone; empty if `last < first`.
    #[must_use]
    pub fn of(first: u64, last: u64) -> Self {
        let mut ranges = Self::default();
        ranges.insert_range(first, last);
        ranges
    }

    /// Whether `number` is in the set.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
    }

    /// Adds one number; true if it was new.
    pub fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        self.insert_range(number, number);
        true
    }

    /// Adds `first..=last`, joining what touches.
    pub fn insert_range(&mut self, mut first: u64, mut last: u64) {
        if last < first {
            return;
        }
        if let Some((&before, &end)) = self.0.range(..=first).next_back()
            && end >= first.saturating_sub(1)
        {
            first = before;
            last = last.max(end);
        }
        while let Some((&begin, &end)) = self.0.range(first..=last.saturating_add(1)).next() {
            last = last.max(end);
            self.0.remove(&begin);
        }
        self.0.insert(first, last);
    }

    /// What is in both.
    #[must_use]
    pub fn common(&self, other: &Ranges) -> Ranges {
        self.minus(&self.minus(other))
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Ranges) -> Ranges {
        let mut rest = Ranges::default();
        for (mut first, last) in self.iter() {
            let from = other.0.range(..=first).next_back().map_or(first, |(begin, _)| *begin);
            let mut open = true;
            for (&begin, &end) in other.0.range(from..=last) {
                if end < first {
                    continue;
                }
                if begin > first {
                    rest.insert_range(first, begin - 1);
                }
                if end >= last {
                    open = false;
                    break;
                }
                first = end + 1;
            }
            if open {
                rest.insert_range(first, last);
            }
        }
        rest
    }

    /// What is in the set and at or above `floor`.
    #[must_use]
    pub fn from(&self, floor: u64) -> Ranges {
        let mut rest = Ranges::default();
        for (first, last) in self.iter() {
            rest.insert_range(first.max(floor), last);
        }
        rest
    }

    /// The lowest number at or above `floor` that is not in the set.
    #[must_use]
    pub fn first_missing(&self, floor: u64) -> u64 {
        match self.0.range(..=floor).next_back() {
            Some((_, last)) if *last >= floor => last.saturating_add(1),
            _ => floor,
        }
    }

    /// The lowest number at or above `floor` that is in the set.
    #[must_use]
    pub fn first_present(&self, floor: u64) -> Option<u64> {
        if self.contains(floor) { Some(floor) } else { self.0.range(floor..).next().map(|(first, _)| *first) }
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(first, last)| (*first, *last))
    }

    /// How many separate ranges there are.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.0.len()
    }

    /// How many numbers are in the set.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.iter().map(|(first, last)| (last - first).saturating_add(1)).sum()
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The greatest number in the set.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.0.last_key_value().map(|(_, last)| *last)
    }

    /// Keeps only the `pieces` highest ranges.
    pub fn keep_highest(&mut self, pieces: usize) {
        while self.0.len() > pieces {
            self.0.pop_first();
        }
    }
}

impl From<Ranges> for Vec<(u64, u64)> {
    fn from(ranges: Ranges) -> Self {
        ranges.0.into_iter().collect()
    }
}

impl TryFrom<Vec<(u64, u64)>> for Ranges {
    type Error = RangesError;

    fn try_from(pairs: Vec<(u64, u64)>) -> Result<Self, RangesError> {
        let mut before: Option<u64> = None;
        for (first, last) in &pairs {
            let apart = before.is_none_or(|end| end.checked_add(1).is_some_and(|next| next < *first));
            if last < first || !apart {
                return Err(RangesError);
            }
            before = Some(*last);
        }
        Ok(Ranges(pairs.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    fn pairs(ranges: &Ranges) -> Vec<(u64, u64)> {
        ranges.iter().collect()
    }

    #[test]
    fn ranges_agree_with_a_plain_set() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..300 {
            let (mut a, mut b) = (Ranges::default(), Ranges::default());
            let (mut plain_a, mut plain_b) = (BTreeSet::new(), BTreeSet::new());
            for _ in 0..12 {
                let first = u64::from(rng.next_u32() % 40);
                let last = first + u64::from(rng.next_u32() % 6);
                if rng.next_u32() % 2 == 0 {
                    a.insert_range(first, last);
                    plain_a.extend(first..=last);
                } else {
                    b.insert_range(first, last);
                    plain_b.extend(first..=last);
                }
            }
            let as_set = |r: &Ranges| r.iter().flat_map(|(f, l)| f..=l).collect::<BTreeSet<u64>>();
            assert_eq!(as_set(&a), plain_a);
            assert_eq!(as_set(&a.minus(&b)), plain_a.difference(&plain_b).copied().collect());
            assert_eq!(as_set(&a.from(20)), plain_a.range(20..).copied().collect());
            for n in 0..50 {
                assert_eq!(a.contains(n), plain_a.contains(&n));
                assert_eq!(a.first_missing(n), (n..).find(|m| !plain_a.contains(m)).expect("endless"));
                assert_eq!(a.first_present(n), plain_a.range(n..).next().copied());
            }
            assert!(Ranges::try_from(pairs(&a)).is_ok());
        }
    }

    #[test]
    fn ranges_out_of_order_are_refused() {
        for bad in [vec![(3, 2)], vec![(1, 2), (3, 4)], vec![(5, 6), (1, 2)], vec![(1, u64::MAX), (0, 0)]] {
            assert_eq!(Ranges::try_from(bad), Err(RangesError));
        }
    }
}
