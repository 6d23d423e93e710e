//! Receipts of this node for authors who are away, until custodians keep them.
//! Knows nothing of what is in them. A receipt replaces the one before it, so that only the latest of each stream is due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::config::Config;
use crate::id::Epoch;
use crate::now::Now;

/// How long receipts of one stream are gathered into one (guess: a drain makes hundreds a second).
const GATHER: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct Returns {
    config: Config,
    due: BTreeMap<(PeerId, Epoch), Due>,
}

#[derive(Debug)]
struct Due {
    at: Duration,
    /// The number that custodians were asked to keep, and who keeps it.
    number: u64,
    kept_by: BTreeSet<PeerId>,
}

impl Returns {
    /// What custodians kept before this start is not remembered: every stream of an absent author is due once more.
    pub(crate) fn new(config: &Config, streams: impl Iterator<Item = (PeerId, Epoch)>, now: Now) -> Self {
        let due = |place| (place, Due { at: now.mono + config.custody_settle, number: 0, kept_by: BTreeSet::new() });
        Returns { config: config.clone(), due: streams.map(due).collect() }
    }

    /// There is a new receipt for an author who is away.
    pub(crate) fn note(&mut self, place: (PeerId, Epoch), now: Now) {
        let soon = now.mono + GATHER;
        let due = self.due.entry(place).or_insert_with(|| Due { at: soon, number: 0, kept_by: BTreeSet::new() });
        due.at = due.at.min(soon);
        due.kept_by.clear();
    }

    /// An author is here and gets its receipts from us.
    pub(crate) fn on_reachable(&mut self, author: PeerId) {
        self.due.retain(|(peer, _), _| *peer != author);
    }

    /// A custodian keeps a receipt of ours.
    pub(crate) fn on_kept(&mut self, from: PeerId, place: (PeerId, Epoch), number: u64) {
        if let Some(due) = self.due.get_mut(&place)
            && number >= due.number
        {
            due.kept_by.insert(from);
        }
    }

    /// Streams whose receipts should go to custodians now, with those who keep them already. Each must be answered with
    /// [`Returns::sent`].
    pub(crate) fn due(&self, now: Now) -> Vec<((PeerId, Epoch), BTreeSet<PeerId>)> {
        self.due.iter().filter(|(_, due)| due.at <= now.mono).map(|(place, due)| (*place, due.kept_by.clone())).collect()
    }

    /// The receipt of this number went to custodians, or (`done`) as many keep it as should.
    pub(crate) fn sent(&mut self, place: (PeerId, Epoch), number: u64, done: bool, now: Now) {
        if done {
            self.due.remove(&place);
        } else if let Some(due) = self.due.get_mut(&place) {
            due.number = number;
            due.at = now.mono + self.config.deposit_patience;
        }
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.due.values().map(|due| due.at).min()
    }
}
