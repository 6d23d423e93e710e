//! Receipts of this node for authors who are away, until custodians keep them.
//! Knows nothing of what is in them. A receipt replaces the one before it, so that only the latest of each stream is due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::config::Config;
use crate::id::Epoch;
use crate::now::Now;

/// Least time between two receipts of one stream: what comes meanwhile is in the next (guess: a drain makes hundreds a second).
const GATHER: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct Returns {
    config: Config,
    due: BTreeMap<(PeerId, Epoch), Due>,
}

#[derive(Debug)]
struct Due {
    /// None once enough custodians keep it.
    at: Option<Duration>,
    /// When it last went to custodians.
    sent_at: Option<Duration>,
    /// The number that custodians were asked to keep, and who keeps it; none while a newer one has not left.
    number: Option<u64>,
    kept_by: BTreeSet<PeerId>,
}

impl Returns {
    /// What custodians kept before this start is not remembered: every stream of an absent author is due once more.
    pub(crate) fn new(config: &Config, streams: impl Iterator<Item = (PeerId, Epoch)>, now: Now) -> Self {
        let at = Some(now.mono + config.custody_settle);
        let due = |place| (place, Due { at, sent_at: None, number: None, kept_by: BTreeSet::new() });
        Returns { config: config.clone(), due: streams.map(due).collect() }
    }

    /// There is a new receipt for an author who is away.
    pub(crate) fn note(&mut self, place: (PeerId, Epoch), now: Now) {
        let due = self.due.entry(place).or_insert_with(|| Due { at: None, sent_at: None, number: None, kept_by: BTreeSet::new() });
        let soon = due.sent_at.map_or(now.mono, |sent| (sent + GATHER).max(now.mono));
        due.at = Some(due.at.map_or(soon, |at| at.min(soon)));
        // Who says now that it keeps one means the one before.
        due.number = None;
        due.kept_by.clear();
    }

    /// An author is here and gets its receipts from us.
    pub(crate) fn on_reachable(&mut self, author: PeerId) {
        self.due.retain(|(peer, _), _| *peer != author);
    }

    /// Somebody came: receipts that too few keep may go there too.
    pub(crate) fn on_membership(&mut self, now: Now) {
        let soon = now.mono + GATHER;
        for due in self.due.values_mut().filter(|due| due.kept_by.len() < self.config.custodians) {
            due.at = Some(due.at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// A custodian keeps a receipt of ours.
    pub(crate) fn on_kept(&mut self, from: PeerId, place: (PeerId, Epoch), number: u64) {
        if let Some(due) = self.due.get_mut(&place)
            && due.number.is_some_and(|sent| number >= sent)
        {
            due.kept_by.insert(from);
        }
    }

    /// Streams whose receipts should go to custodians now, with those who keep them already. Each must be answered with
    /// [`Returns::sent`].
    pub(crate) fn due(&self, now: Now) -> Vec<((PeerId, Epoch), BTreeSet<PeerId>)> {
        self.due
            .iter()
            .filter(|(_, due)| due.at.is_some_and(|at| at <= now.mono))
            .map(|(place, due)| (*place, due.kept_by.clone()))
            .collect()
    }

    /// The receipt of this number went to custodians, or (`done`) as many keep it as should.
    pub(crate) fn sent(&mut self, place: (PeerId, Epoch), number: u64, done: bool, now: Now) {
        if let Some(due) = self.due.get_mut(&place) {
            due.number = Some(number);
            due.at = (!done).then_some(now.mono + self.config.deposit_patience);
            due.sent_at = Some(now.mono);
        }
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.due.values().filter_map(|due| due.at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_word_about_the_receipt_before_does_not_count_for_a_newer_one() {
        let at = |ms| Now { mono: Duration::from_millis(ms), wall: crate::now::Timestamp(ms) };
        let peer = |n: u8| crate::bundle::Secrets::from_seeds(&[n; 32], &[n; 32]).id();
        let place = (peer(1), Epoch(7));
        let mut returns = Returns::new(&Config::default(), std::iter::empty(), at(0));
        returns.note(place, at(0));
        returns.sent(place, 5, false, at(0));
        // A newer receipt is due, and gathers; now the custodian says that it keeps number 5.
        returns.note(place, at(10));
        returns.on_kept(peer(2), place, 5);
        assert_eq!(returns.due(at(200)), [(place, BTreeSet::new())], "number 6 is with nobody");
        returns.sent(place, 6, false, at(200));
        returns.on_kept(peer(2), place, 5);
        returns.on_kept(peer(3), place, 6);
        assert_eq!(returns.due(at(10_000)), [(place, BTreeSet::from([peer(3)]))]);
    }
}
