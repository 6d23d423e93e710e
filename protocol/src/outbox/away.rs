//! Letters for recipients who are away: what custodians are asked to hold, and what they have acknowledged.
//! Knows nothing of who custodians are: it is told, best first. The other half of [`Outbox`].

use std::collections::BTreeSet;

use libp2p_identity::PeerId;

use super::deposits::{Deposits, Key};
use super::stream::Stream;
use super::{FRAME_TARGET, Outbox, of};
use crate::config::limits;
use crate::effect::{Change, Effect, Notice, Out, Say, VOID};
use crate::id::{BundleId, Epoch, MachineId};
use crate::mail::{Denial, Holder, Reason};
use crate::now::Now;
use crate::placement::{Candidate, Machines};
use crate::segment::What;

impl Outbox {
    /// Custodians have answered: what they hold, what they do not take, what they do not have.
    #[expect(clippy::too_many_arguments, reason = "an answer of three lists, who gave it, the time and the output")]
    pub(crate) fn on_held(
        &mut self,
        from: (PeerId, MachineId),
        epoch: Epoch,
        bundles: &[BundleId],
        refused: &[(BundleId, Reason)],
        absent: &[BundleId],
        now: Now,
        out: &mut Out,
    ) {
        let (peer, machine) = from;
        for id in bundles {
            let Some((recipient, stream, key)) = self.deposited(id) else { continue };
            let (no, first) = key;
            let letters = stream.held(first).map_or(0, |(_, letters, _)| letters as u64);
            let place = (stream.row.peer, stream.row.epoch);
            let Some(holders) = stream.holders(first) else { continue };
            let new = holders.iter().all(|holder| holder.peer != peer);
            holders.retain(|holder| holder.peer != peer);
            holders.push(Holder { peer, machine, epoch, at: now.wall });
            out.store(Change::Holders { stream: no, first, holders: holders.clone() });
            if new && first < VOID {
                out.note(What::LettersHeld { to: place.0, epoch: place.1, first, last: first + letters - 1, by: peer });
            }
            self.memories.insert(peer, (epoch, true));
            if new {
                self.on_held_in_vain(peer, key, out);
            }
            self.answered(recipient, peer, key, now);
        }
        for (id, reason) in refused {
            let Some((recipient, _, key)) = self.deposited(id) else { continue };
            if let Some(deposits) = self.deposits.get_mut(&recipient) {
                deposits.on_refused(peer, key, *reason, now.mono, &self.config);
                self.deposit_due.insert(recipient);
            }
        }
        for id in absent {
            let Some((recipient, stream, key)) = self.deposited(id) else { continue };
            if stream.holders(key.1).is_some_and(|holders| holders.iter().any(|holder| holder.peer == peer)) {
                self.let_go_of(key, |holder| holder.peer != peer, out);
            }
            self.answered(recipient, peer, key, now);
        }
        if !bundles.is_empty() {
            out.notify(Notice::Receipted { by: peer });
        }
    }

    /// A peer is here, with this memory: what it acknowledged under another is void, and what it acknowledged before this
    /// node's start is asked for again.
    pub(crate) fn on_memory(&mut self, peer: PeerId, epoch: Epoch, out: &mut Out) {
        let Some((known, seen)) = self.memories.get(&peer).copied() else { return };
        if known == epoch && seen {
            return;
        }
        let mut void = Vec::new();
        let mut ask = Vec::new();
        for stream in self.streams.values() {
            for (first, id, _, holders) in stream.waiting() {
                match holders.iter().find(|holder| holder.peer == peer) {
                    Some(holder) if holder.epoch != epoch => void.push((stream.row.no, first)),
                    Some(_) => ask.push(id),
                    None => {}
                }
            }
        }
        for key in void {
            self.let_go_of(key, |holder| holder.peer != peer || holder.epoch == epoch, out);
        }
        self.memories.insert(peer, (epoch, true));
        for part in ask.chunks(limits::BUNDLE_IDS) {
            out.send(peer, Say::AskHeld(part.to_vec()));
        }
    }

    /// Somebody came or went: other custodians may be closer now.
    pub(crate) fn on_membership(&mut self, peer: PeerId, here: bool, now: Now) {
        self.review_at = self.review_at.min(now.mono + self.config.deposit_after / 2).max(self.away_from);
        if !here {
            for (recipient, deposits) in &mut self.deposits {
                deposits.on_lost(peer);
                self.deposit_due.insert(*recipient);
            }
        }
    }

    /// Recipients whose deposits should be looked at now.
    pub(crate) fn take_deposit_due(&mut self, now: Now) -> BTreeSet<PeerId> {
        for (recipient, deposits) in &mut self.deposits {
            if deposits.deadline(&self.config).is_some_and(|at| at <= now.mono) {
                deposits.tick(now.mono, &self.config);
                self.deposit_due.insert(*recipient);
            }
        }
        if now.mono < self.away_from {
            // Who was not heard of since this start may be about to be; who went since is away.
            return self.deposit_due.extract_if(.., |recipient| self.deposits.contains_key(recipient)).collect();
        }
        std::mem::take(&mut self.deposit_due)
    }

    /// Custodians with acknowledgements of this memory.
    pub(crate) fn custodians(&self) -> impl Iterator<Item = PeerId> {
        self.memories.keys().copied()
    }

    /// Asks custodians to hold what waits for somebody who is away. `mine`: this machine, and which are one; `ranked`: who could, best first; `silent`: who was not
    /// heard for long and does not count.
    pub(crate) fn deposit(
        &mut self,
        recipient: PeerId,
        (mine, machines): (MachineId, &Machines),
        ranked: &[Candidate],
        silent: impl Fn(&PeerId) -> bool,
        now: Now,
        out: &mut Out,
    ) {
        if self.denial(&recipient) == Some(Denial::Blocked) {
            self.deposits.remove(&recipient);
            return;
        }
        if !self.deposits.contains_key(&recipient) {
            if self.open.contains(&recipient) {
                return;
            }
            self.begin_deposits(recipient);
        }
        let Some(deposits) = self.deposits.get_mut(&recipient) else { return };
        let (streams, by_no) = (&self.streams, &self.by_no);
        let of = |(no, first): Key| {
            let stream = by_no.get(&no).and_then(|place| streams.get(place)).filter(|stream| stream.is_wanted(first))?;
            let (size, _, holders) = stream.held(first)?;
            let counted = holders.iter().filter(|holder| !silent(&holder.peer));
            Some((size, counted.map(|holder| Holder { machine: machines.of(holder.machine), ..*holder }).collect()))
        };
        for (peer, bundles) in deposits.depart(mine, ranked, of, now.mono, &self.config) {
            let (mut frame, mut size) = (Vec::new(), 0);
            for (key, bytes) in bundles {
                if !frame.is_empty() && (size + bytes > FRAME_TARGET || frame.len() == limits::PAGE) {
                    out.effects.push(Effect::DepositKept { to: peer, bundles: std::mem::take(&mut frame) });
                    size = 0;
                }
                if let Some(stream) = self.by_no.get(&key.0).and_then(|place| self.streams.get_mut(place)) {
                    stream.leaves(key.1);
                    self.places.extend(stream.bundle(key.1).map(|id| (id, key)));
                }
                frame.push(key);
                size += bytes;
            }
            if !frame.is_empty() {
                out.effects.push(Effect::DepositKept { to: peer, bundles: frame });
            }
        }
    }

    /// Why custodians refuse mail for this recipient.
    pub(crate) fn reasons(&self, recipient: &PeerId) -> BTreeSet<Reason> {
        self.deposits.get(recipient).map(Deposits::reasons).unwrap_or_default()
    }

    // -- private

    /// Looks at all deposits from time to time: a custodian may be silent for too long by now.
    pub(super) fn review(&mut self, now: Now) {
        if now.mono < self.review_at {
            return;
        }
        self.review_at = now.mono + self.config.custody_interval;
        let away: BTreeSet<PeerId> = self.streams.keys().map(|(peer, _)| *peer).filter(|peer| !self.open.contains(peer)).collect();
        let stuck: Vec<PeerId> = self.deposits.keys().copied().collect();
        away.into_iter().chain(stuck).for_each(|peer| self.begin_deposits(peer));
    }

    /// All that waits for this peer should be held by others.
    pub(super) fn begin_deposits(&mut self, peer: PeerId) {
        let streams = self.streams.range(of(peer));
        let wanted = streams.flat_map(|(_, stream)| {
            stream.waiting().filter(|(first, ..)| stream.is_wanted(*first)).map(|(first, ..)| (stream.row.no, first))
        });
        let bundles: Vec<Key> = wanted.collect();
        if !bundles.is_empty() {
            self.deposits.entry(peer).or_default().want(bundles.into_iter());
            self.deposit_due.insert(peer);
        }
    }

    /// A bundle that custodians were asked to hold: for whom, its stream, its key.
    fn deposited(&mut self, id: &BundleId) -> Option<(PeerId, &mut Stream, Key)> {
        let key = *self.places.get(id)?;
        let place = self.by_no.get(&key.0)?;
        self.streams.get_mut(place).map(|stream| (place.0, stream, key))
    }

    fn answered(&mut self, recipient: PeerId, from: PeerId, key: Key, now: Now) {
        if let Some(deposits) = self.deposits.get_mut(&recipient) {
            deposits.on_answer(from, key, now.mono);
            self.deposit_due.insert(recipient);
        }
    }

    /// Keeps only those holders of a bundle that `stay`.
    fn let_go_of(&mut self, key: Key, stay: impl Fn(&Holder) -> bool, out: &mut Out) {
        let Some(place) = self.by_no.get(&key.0).copied() else { return };
        let Some(holders) = self.streams.get_mut(&place).and_then(|stream| stream.holders(key.1)) else { return };
        holders.retain(stay);
        out.store(Change::Holders { stream: key.0, first: key.1, holders: holders.clone() });
        if let Some(deposits) = self.deposits.get_mut(&place.0) {
            deposits.want(std::iter::once(key));
            self.deposit_due.insert(place.0);
        }
    }
}
