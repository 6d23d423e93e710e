//! Fetching mail from custodians: one's own, or that of a mailbox one is custodian of too.
//! Knows nothing of what is in it. Of each mailbox one custodian at a time is asked for its list, in its order; what was
//! committed is released to whoever lists it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::config::{Config, limits};
use crate::edge::Cause;
use crate::effect::{Out, Say};
use crate::id::BundleId;
use crate::mail::{Listed, Mailbox, Offer, Release};
use crate::now::Now;

/// Mailboxes that are fetched or waited for at a time (guess: more are offered again).
const ROUNDS: usize = 1_000;
/// Mailboxes that are fetched at a time (guess: each has a window of its own).
const AT_A_TIME: usize = 16;
/// Bundles of one mailbox that are asked for and not here, whatever sizes were claimed (guess: twice a window of the smallest).
const ASKED: usize = 8_192;
/// Custodians that are remembered as having offered one mailbox (guess: twice R and some).
const OFFERERS: usize = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pickup {
    me: PeerId,
    config: Config,
    rounds: BTreeMap<Mailbox, Round>,
    /// Bundles to this node whose letters were all committed, the latest ones.
    committed: BTreeSet<BundleId>,
    order: VecDeque<BundleId>,
    /// To be released with this batch, by custodian.
    released: BTreeMap<PeerId, Vec<BundleId>>,
}

/// One mailbox being fetched.
#[derive(Debug, Default)]
struct Round {
    /// Who is asked now.
    from: Option<PeerId>,
    /// Not before this.
    begins_at: Duration,
    /// Who offered too.
    others: VecDeque<PeerId>,
    /// The last number of the last page.
    after: u64,
    /// A page is awaited.
    listing: bool,
    more: bool,
    listed: VecDeque<Listed>,
    /// Asked for and not here yet.
    asked: BTreeMap<BundleId, u64>,
    bytes: u64,
    progress_at: Duration,
}

impl Pickup {
    pub(crate) fn new(me: PeerId, config: &Config) -> Self {
        Pickup {
            me,
            config: config.clone(),
            rounds: BTreeMap::new(),
            committed: BTreeSet::new(),
            order: VecDeque::new(),
            released: BTreeMap::new(),
        }
    }

    /// A custodian holds something of a mailbox. `soon`: its author is here, and sends the same by itself.
    pub(crate) fn on_offer(&mut self, from: PeerId, offer: &Offer, soon: bool, now: Now, out: &mut Out) {
        if self.rounds.len() >= ROUNDS && !self.rounds.contains_key(&offer.mailbox) {
            return;
        }
        let begins_at = now.mono + if soon { self.config.deposit_after } else { Duration::ZERO };
        let round = self.rounds.entry(offer.mailbox).or_insert_with(|| Round { begins_at, ..Round::default() });
        if round.from != Some(from) && !round.others.contains(&from) && round.others.len() < OFFERERS {
            round.others.push_back(from);
        }
        if round.from.is_none() && round.begins_at <= now.mono && self.active() < AT_A_TIME {
            self.begin(offer.mailbox, now, out);
        }
    }

    /// A page of a list. `has` tells of bundles that need not come: committed here, or held here.
    ///
    /// # Errors
    /// Nobody asked for it.
    #[expect(clippy::too_many_arguments, reason = "a page, who sent it, what is known, the time and the output")]
    pub(crate) fn on_mail(
        &mut self,
        from: PeerId,
        mailbox: Mailbox,
        bundles: Vec<Listed>,
        more: bool,
        has: impl Fn(&BundleId) -> bool,
        now: Now,
        out: &mut Out,
    ) -> Result<(), Cause> {
        let Some(round) = self.rounds.get_mut(&mailbox).filter(|round| round.from == Some(from) && round.listing) else {
            return Err(Cause::Unexpected);
        };
        let sane = bundles.iter().all(|listed| listed.size <= limits::SEALED_BYTES as u64);
        let ascending = bundles.iter().map(|listed| listed.no).try_fold(round.after, |before, no| (no > before).then_some(no));
        let Some(after) = ascending.filter(|_| sane && (!more || !bundles.is_empty())) else {
            self.begin(mailbox, now, out);
            return Err(Cause::Inconsistent);
        };
        round.listing = false;
        round.after = after;
        round.more = more;
        round.progress_at = now.mono;
        for listed in bundles {
            if mailbox.recipient == self.me && self.committed.contains(&listed.bundle) {
                self.released.entry(from).or_default().push(listed.bundle);
            } else if !has(&listed.bundle) {
                round.listed.push_back(listed);
            }
        }
        self.go_on(mailbox, now, out);
        Ok(())
    }

    /// All letters of a bundle to this node are committed, by whatever road it came.
    pub(crate) fn on_committed(&mut self, bundle: BundleId, now: Now, out: &mut Out) {
        if self.committed.insert(bundle) {
            self.order.push_back(bundle);
        }
        while self.order.len() > self.config.tombstones
            && let Some(oldest) = self.order.pop_front()
        {
            self.committed.remove(&oldest);
        }
        self.on_arrived(bundle, true, now, out);
    }

    /// A bundle that was fetched is here; if it is `ours` whoever sent it may let go of it.
    pub(crate) fn on_arrived(&mut self, bundle: BundleId, ours: bool, now: Now, out: &mut Out) {
        let found = self.rounds.iter_mut().find_map(|(mailbox, round)| {
            let size = round.asked.remove(&bundle)?;
            round.bytes -= size;
            round.progress_at = now.mono;
            Some((*mailbox, round.from))
        });
        let Some((mailbox, from)) = found else { return };
        if ours && let Some(from) = from {
            self.released.entry(from).or_default().push(bundle);
        }
        self.go_on(mailbox, now, out);
    }

    /// A custodian cannot be reached any more.
    pub(crate) fn on_lost(&mut self, peer: PeerId, now: Now, out: &mut Out) {
        let mut stranded = Vec::new();
        for (mailbox, round) in &mut self.rounds {
            round.others.retain(|other| *other != peer);
            if round.from == Some(peer) {
                stranded.push(*mailbox);
            }
        }
        for mailbox in stranded {
            self.begin(mailbox, now, out);
        }
    }

    /// Begins what was put off, and asks another where one is silent.
    pub(crate) fn tick(&mut self, now: Now, out: &mut Out) {
        let due = |waiting: bool| -> Vec<Mailbox> {
            let due = self.rounds.iter().filter(|(_, round)| round.from.is_none() == waiting && self.due(round) <= now.mono);
            due.map(|(mailbox, _)| *mailbox).collect()
        };
        let (silent, waiting) = (due(false), due(true));
        silent.into_iter().for_each(|mailbox| self.begin(mailbox, now, out));
        for mailbox in waiting {
            if self.active() < AT_A_TIME {
                self.begin(mailbox, now, out);
            }
        }
    }

    /// When [`Pickup::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let full = self.active() >= AT_A_TIME;
        self.rounds.values().filter(|round| round.from.is_some() || !full).map(|round| self.due(round)).min()
    }

    /// Ends a batch: releases what was flushed with it.
    pub(crate) fn close(&mut self, linked: impl Fn(&PeerId) -> bool, out: &mut Out) {
        for (peer, bundles) in std::mem::take(&mut self.released) {
            if linked(&peer) {
                for part in bundles.chunks(limits::BUNDLE_IDS) {
                    out.send(peer, Say::Release(Release { recipient: self.me, bundles: part.to_vec() }));
                }
            }
        }
    }

    // -- private

    fn active(&self) -> usize {
        self.rounds.values().filter(|round| round.from.is_some()).count()
    }

    fn due(&self, round: &Round) -> Duration {
        if round.from.is_none() { round.begins_at } else { round.progress_at + self.config.fetch_patience }
    }

    /// The custodian asked is done, gone or silent, or none was: the next one's turn.
    fn begin(&mut self, mailbox: Mailbox, now: Now, out: &mut Out) {
        let Some(round) = self.rounds.get_mut(&mailbox) else { return };
        let Some(from) = round.others.pop_front() else {
            self.rounds.remove(&mailbox);
            return;
        };
        let others = std::mem::take(&mut round.others);
        *round = Round { from: Some(from), others, listing: true, progress_at: now.mono, ..Round::default() };
        out.send(from, Say::AskMail { mailbox, after: 0 });
    }

    /// Asks for what the window allows, then for the next page, then the next custodian.
    fn go_on(&mut self, mailbox: Mailbox, now: Now, out: &mut Out) {
        let Some(round) = self.rounds.get_mut(&mailbox) else { return };
        let Some(from) = round.from else { return };
        let mut ids = Vec::new();
        // Half a window at a time: a request for every bundle that comes in would be a frame each.
        if round.bytes * 2 <= self.config.fetch_window {
            while ids.len() < limits::BUNDLE_IDS
                && round.asked.len() < ASKED
                && let Some(next) = round.listed.front()
                && (round.bytes == 0 || round.bytes + next.size <= self.config.fetch_window)
                && let Some(next) = round.listed.pop_front()
            {
                // It may have come by another road since it was listed.
                if mailbox.recipient == self.me && self.committed.contains(&next.bundle) {
                    self.released.entry(from).or_default().push(next.bundle);
                } else if round.asked.insert(next.bundle, next.size).is_none() {
                    round.bytes += next.size;
                    ids.push(next.bundle);
                }
            }
        }
        if !ids.is_empty() {
            out.send(from, Say::Fetch(ids));
        }
        if round.listed.is_empty() && round.more && !round.listing {
            round.listing = true;
            out.send(from, Say::AskMail { mailbox, after: round.after });
        }
        if round.listed.is_empty() && round.asked.is_empty() && !round.listing {
            self.begin(mailbox, now, out);
        }
    }
}
