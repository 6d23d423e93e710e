//! Entries of one commit that say the same of many units, said once.
//! Knows nothing of chains. Every unit is still named; of one unit the order of what happened to it stays.

use crate::order::{Ended, Try};
use crate::segment::{Entry, Tries, What};

/// Runs of one entry, at most (guess: it is then about 2 KiB).
const RUNS_MOST: usize = 128;
/// Entries of a kind that are looked at for a place, the latest ones (guess: as many workers as are given work in one commit).
const LOOK: usize = 32;

/// The entries with those of single units gathered: in the order in which they came, and of one commit "assigned" before "started"
/// before "ended", the orders that ended with them last.
pub(super) fn gathered(entries: Vec<Entry>) -> Vec<Entry> {
    let (mut others, mut assigned, mut started, mut broken, mut ended, mut over) = (vec![], vec![], vec![], vec![], vec![], vec![]);
    for entry in entries {
        match &entry.what {
            What::UnitAssigned { .. } => gather(&mut assigned, entry),
            What::UnitStarted { .. } => gather(&mut started, entry),
            What::TryBroken { .. } => broken.push(entry),
            What::UnitEnded { .. } => gather(&mut ended, entry),
            What::OrderEnded { .. } => over.push(entry),
            _ => others.push(entry),
        }
    }
    let parts = [assigned, started, broken, ended, over];
    others.into_iter().chain(parts.into_iter().flatten()).collect()
}

fn gather(kind: &mut Vec<Entry>, entry: Entry) {
    if !kind.iter_mut().rev().take(LOOK).any(|before| joined(&mut before.what, &entry.what)) {
        kind.push(entry);
    }
}

/// Adds the try of `new` to an entry that says the same of others; false if it says something else.
fn joined(before: &mut What, new: &What) -> bool {
    match (&mut *before, new) {
        (What::UnitAssigned { of: one, worker }, What::UnitAssigned { of, worker: to }) if worker == to && alike(one, of) => {
            *before = What::UnitsAssigned { of: two(one, of), worker: *to };
            true
        }
        (What::UnitsAssigned { of: many, worker }, What::UnitAssigned { of, worker: to }) => worker == to && added(many, of),
        (What::UnitStarted { of: one }, What::UnitStarted { of }) if alike(one, of) => {
            *before = What::UnitsStarted { of: two(one, of) };
            true
        }
        (What::UnitsStarted { of: many }, What::UnitStarted { of }) => added(many, of),
        (What::UnitEnded { of: one, ended }, What::UnitEnded { of, ended: how }) if same(ended, how) && alike(one, of) => {
            *before = What::UnitsEnded { of: two(one, of), ended: how.clone() };
            true
        }
        (What::UnitsEnded { of: many, ended }, What::UnitEnded { of, ended: how }) => same(ended, how) && added(many, of),
        _ => false,
    }
}

/// A reason in words belongs to one unit.
fn same(one: &Ended, other: &Ended) -> bool {
    one == other && !matches!(one, Ended::NotStarted(_))
}

fn alike(one: &Try, other: &Try) -> bool {
    (one.order.orderer, one.order.epoch, one.attempt) == (other.order.orderer, other.order.epoch, other.attempt)
}

fn two(one: &Try, other: &Try) -> Tries {
    let first = (one.order.number, one.order.number, one.unit, one.unit);
    let mut tries = Tries { orderer: one.order.orderer, epoch: one.order.epoch, attempt: one.attempt, runs: vec![first] };
    extend(&mut tries, other);
    tries
}

fn added(many: &mut Tries, new: &Try) -> bool {
    let fits = (many.orderer, many.epoch, many.attempt) == (new.order.orderer, new.order.epoch, new.attempt);
    let room = many.runs.len() < RUNS_MOST;
    if fits && room {
        extend(many, new);
    }
    fits && room
}

/// Grows the last run by what follows it, or begins another.
fn extend(tries: &mut Tries, new: &Try) {
    let (number, unit) = (new.order.number, new.unit);
    match tries.runs.last_mut() {
        Some((first, last, _, to)) if first == last && *last == number && unit == to.saturating_add(1) => *to = unit,
        Some((_, last, from, to)) if from == to && *from == unit && number == last.saturating_add(1) => *last = number,
        _ => tries.runs.push((number, number, unit, unit)),
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;
    use crate::bundle::Secrets;
    use crate::id::Epoch;
    use crate::now::Timestamp;
    use crate::order::{Attempt, End, OrderKey};

    fn peer(n: u8) -> PeerId {
        Secrets::from_seeds(&[n; 32], &[n; 32]).id()
    }

    fn of(number: u64, unit: u32) -> Try {
        let attempt = Attempt { term: 1, leader: peer(9), number: 1 };
        Try { order: OrderKey { orderer: peer(1), epoch: Epoch(7), number }, unit, attempt }
    }

    fn check(whats: Vec<What>) -> Vec<What> {
        let entries = whats.into_iter().map(|what| Entry { time: Timestamp(1), what }).collect();
        gathered(entries).into_iter().map(|entry| entry.what).collect()
    }

    fn runs(what: &What) -> &[(u64, u64, u32, u32)] {
        match what {
            What::UnitsAssigned { of, .. } | What::UnitsStarted { of } | What::UnitsEnded { of, .. } => &of.runs,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn many_units_of_one_order_are_one_entry() {
        let many = check((1..=100_000).map(|unit| What::UnitStarted { of: of(3, unit) }).collect());
        assert_eq!(many.len(), 1);
        assert_eq!(runs(&many[0]), [(3, 3, 1, 100_000)]);
        let What::UnitsStarted { of } = &many[0] else { unreachable!() };
        assert_eq!((of.count(), of.iter().count()), (100_000, 100_000));
    }

    #[test]
    fn many_orders_that_two_workers_share_are_an_entry_each() {
        let worker = |n: u64| peer(if n.is_multiple_of(2) { 2 } else { 3 });
        let many = check((1..=200).map(|n| What::UnitAssigned { of: of(n, 1), worker: worker(n) }).collect());
        assert_eq!(many.iter().map(|what| runs(what).len()).collect::<Vec<_>>(), [100, 100]);
        assert_eq!(check((1..=9).map(|n| What::UnitStarted { of: of(n, 1) }).collect()).len(), 1);
    }

    #[test]
    fn one_stays_as_it_is_and_nothing_ends_before_it_began() {
        let one = What::UnitStarted { of: of(1, 1) };
        assert_eq!(check(vec![one.clone()]), [one]);
        let end = |n| What::UnitEnded { of: of(n, 1), ended: Ended::Exited(0) };
        let over = What::OrderEnded { number: 1, end: End::Done };
        let told = check(vec![end(1), over.clone(), What::UnitStarted { of: of(2, 1) }, end(2), What::Stopped]);
        assert_eq!(told[..2], [What::Stopped, What::UnitStarted { of: of(2, 1) }]);
        assert_eq!((runs(&told[2]), &told[3]), ([(1, 2, 1, 1)].as_slice(), &over));
    }

    #[test]
    fn what_differs_is_told_apart() {
        let end = |n, code| What::UnitEnded { of: of(n, 1), ended: Ended::Exited(code) };
        assert_eq!(check(vec![end(1, 0), end(2, 1), end(3, 0), end(4, 1)]).len(), 2);
        let not = |n| What::UnitEnded { of: of(n, 1), ended: Ended::NotStarted("no such file".to_owned()) };
        assert_eq!(check(vec![not(1), not(2)]).len(), 2);
    }

    #[test]
    fn an_entry_has_an_end() {
        let many = check((1..=1_000).map(|n| What::UnitStarted { of: of(2 * n, 1) }).collect());
        assert!(many.iter().all(|what| runs(what).len() <= RUNS_MOST), "{}", many.len());
    }
}
