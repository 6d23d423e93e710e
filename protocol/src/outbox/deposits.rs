//! Who is asked to hold what for one absent recipient.
//! Knows nothing of the disk. A bundle is asked to be held by the closest machines, each within a window; who does not
//! answer or refuses gives way to the next closest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::config::Config;
use crate::id::MachineId;
use crate::mail::{Holder, Reason};
use crate::placement::{Candidate, machines};

/// One bundle: outgoing stream and first number.
pub(super) type Key = (u32, u64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Deposits {
    /// Bundles that should be looked at: perhaps too few machines hold them, or are asked to. In their order.
    wanting: BTreeSet<Key>,
    /// Bundles that are held by fewer than they should be because others refuse.
    lacking: BTreeSet<Key>,
    asked: BTreeMap<PeerId, Asked>,
    refusing: BTreeMap<PeerId, (Duration, Option<Reason>)>,
    /// Bundles that a custodian knows to be with their recipient.
    settled: BTreeSet<(Key, PeerId)>,
}

/// Bundles on their way to one custodian.
#[derive(Debug, Default)]
struct Asked {
    flight: BTreeMap<Key, usize>,
    bytes: usize,
    progress_at: Duration,
}

impl Deposits {
    /// These bundles wait.
    pub(super) fn want(&mut self, bundles: impl Iterator<Item = Key>) {
        self.wanting.extend(bundles);
    }

    /// A bundle is receipted, or as many machines hold it as should.
    pub(super) fn forget(&mut self, key: Key) {
        self.wanting.remove(&key);
        self.lacking.remove(&key);
        for (peer, asked) in &mut self.asked {
            asked.remove(key);
            self.settled.remove(&(key, *peer));
        }
    }

    /// A custodian has answered about a bundle.
    pub(super) fn on_answer(&mut self, from: PeerId, key: Key, now: Duration) {
        if let Some(asked) = self.asked.get_mut(&from) {
            asked.remove(key);
            asked.progress_at = now;
        }
        self.wanting.insert(key);
    }

    /// A custodian does not take a bundle.
    pub(super) fn on_refused(&mut self, from: PeerId, key: Key, reason: Reason, now: Duration, config: &Config) {
        self.on_answer(from, key, now);
        if reason == Reason::Released {
            self.settled.insert((key, from));
        } else {
            self.refuse(from, Some(reason), now + config.refused_for);
        }
    }

    /// A custodian cannot be reached: what was on its way to it goes elsewhere.
    pub(super) fn on_lost(&mut self, peer: PeerId) {
        if let Some(asked) = self.asked.remove(&peer) {
            self.wanting.extend(asked.flight.into_keys());
        }
    }

    /// Why custodians refuse, for those who ask why letters are not held.
    pub(super) fn reasons(&self) -> BTreeSet<Reason> {
        self.refusing.values().filter_map(|(_, reason)| *reason).collect()
    }

    /// Gives up on custodians that do not answer.
    pub(super) fn tick(&mut self, now: Duration, config: &Config) {
        let silent: Vec<PeerId> =
            self.asked.iter().filter(|(_, asked)| asked.due(config).is_some_and(|at| at <= now)).map(|(peer, _)| *peer).collect();
        for peer in silent {
            self.on_lost(peer);
            self.refuse(peer, None, now + config.deposit_patience * 3);
        }
        let refusing = self.refusing.len();
        self.refusing.retain(|_, (until, _)| *until > now);
        if self.refusing.len() < refusing {
            self.wanting.append(&mut self.lacking);
        }
    }

    /// When [`Deposits::tick`] has something to do.
    pub(super) fn deadline(&self, config: &Config) -> Option<Duration> {
        let refusing = self.refusing.values().map(|(until, _)| *until);
        self.asked.values().filter_map(|asked| asked.due(config)).chain(refusing).min()
    }

    /// What goes to whom now. `ranked`: who could hold mail for this recipient, best first; `of`: size of a bundle and those of
    /// its holders that are not silent.
    pub(super) fn depart(
        &mut self,
        mine: MachineId,
        ranked: &[Candidate],
        of: impl Fn(Key) -> Option<(usize, Vec<Holder>)>,
        now: Duration,
        config: &Config,
    ) -> BTreeMap<PeerId, Vec<(Key, usize)>> {
        let mut leaving: BTreeMap<PeerId, Vec<(Key, usize)>> = BTreeMap::new();
        // Machines count; but where there are too few of them, peers are better than nothing.
        let machines_most = machines(&[mine], ranked.iter().map(|candidate| candidate.machine)).min(config.custodians);
        let peers_most = ranked.len().min(config.custodians);
        let (mut done, mut asked_all, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
        for &key in &self.wanting {
            let Some((size, holders)) = of(key) else {
                done.push(key);
                continue;
            };
            let mut on: BTreeSet<MachineId> = holders.iter().map(|holder| holder.machine).filter(|machine| *machine != mine).collect();
            let mut peers = holders.len();
            if on.len() >= config.custodians || (on.len() >= machines_most && peers >= peers_most) {
                done.push(key);
                continue;
            }
            let (mut moves, mut full) = (false, false);
            for candidate in ranked {
                if on.len() >= config.custodians || (on.len() >= machines_most && peers >= peers_most) {
                    break;
                }
                let holds = holders.iter().any(|holder| holder.peer == candidate.peer);
                if holds || self.refusing.contains_key(&candidate.peer) {
                    continue;
                }
                on.insert(candidate.machine);
                peers += 1;
                let asked = self.asked.entry(candidate.peer).or_default();
                if asked.flight.contains_key(&key) || self.settled.contains(&(key, candidate.peer)) {
                    moves = true;
                } else if asked.bytes > 0 && asked.bytes + size > config.deposit_window {
                    full = true;
                } else {
                    moves = true;
                    if asked.flight.is_empty() {
                        asked.progress_at = now;
                    }
                    asked.flight.insert(key, size);
                    asked.bytes += size;
                    leaving.entry(candidate.peer).or_default().push((key, size));
                }
            }
            match (full, moves) {
                // Every window is full: the rest waits for an answer.
                (true, false) => break,
                (true, true) => {}
                // Who was asked answers; beyond that nobody is left to ask.
                (false, _) if on.len() >= config.custodians || (on.len() >= machines_most && peers >= peers_most) => asked_all.push(key),
                (false, _) => lacking.push(key),
            }
        }
        for key in asked_all.into_iter().chain(lacking.iter().copied()) {
            self.wanting.remove(&key);
        }
        self.lacking.extend(lacking);
        done.into_iter().for_each(|key| self.forget(key));
        leaving
    }

    fn refuse(&mut self, peer: PeerId, reason: Option<Reason>, until: Duration) {
        self.refusing.insert(peer, (until, reason));
    }
}

impl Asked {
    fn remove(&mut self, key: Key) {
        if let Some(size) = self.flight.remove(&key) {
            self.bytes -= size;
        }
    }

    fn due(&self, config: &Config) -> Option<Duration> {
        (!self.flight.is_empty()).then_some(self.progress_at + config.deposit_patience)
    }
}
