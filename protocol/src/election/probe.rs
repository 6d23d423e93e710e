//! One round of asking others about a silent leader.
//! Knows nothing of who is asked, or why. A yes counts at once, a no only when nobody may still say yes.

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::config::Config;

/// The wait before asking again after a first yes, doubling up to [`Config::probe_patience`] (guess: who said yes may just not
/// have noticed yet; a connection that was closed is noticed by all within milliseconds).
const AGAIN: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(super) struct Probe {
    /// Counts the rounds of one suspicion, from 0.
    pub(super) round: u32,
    asked: BTreeSet<PeerId>,
    /// Of those, who has not answered.
    open: BTreeSet<PeerId>,
    yes: bool,
    until: Duration,
    again_at: Duration,
}

/// What the answers so far mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing yet.
    Open,
    /// Others hear the leader: it is this node that is cut off.
    CutOff,
    /// Nobody hears it.
    Gone,
}

impl Probe {
    pub(super) fn new(round: u32, asked: BTreeSet<PeerId>, config: &Config, now: Duration) -> Self {
        let again = AGAIN.saturating_mul(1 << round.min(8)).min(config.probe_patience);
        Probe { round, open: asked.clone(), asked, yes: false, until: now + config.probe_patience, again_at: now + again }
    }

    pub(super) fn on_answer(&mut self, from: &PeerId, heard: bool) {
        self.open.remove(from);
        self.yes |= heard && self.asked.contains(from);
    }

    /// Who cannot be reached any more cannot say yes.
    pub(super) fn on_unreachable(&mut self, peer: &PeerId) {
        self.open.remove(peer);
    }

    pub(super) fn finding(&self, now: Duration) -> Finding {
        if self.yes {
            Finding::CutOff
        } else if self.open.is_empty() || self.until <= now {
            Finding::Gone
        } else {
            Finding::Open
        }
    }

    /// When there is something to do: to ask again, or to conclude.
    pub(super) fn due(&self) -> Duration {
        match (self.yes, self.open.is_empty()) {
            (true, _) => self.again_at,
            (false, true) => Duration::ZERO,
            (false, false) => self.until,
        }
    }

    /// Somebody hears the leader.
    pub(super) fn is_yes(&self) -> bool {
        self.yes
    }
}
