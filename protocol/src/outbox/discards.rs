//! Letters that their author has discarded: voids in their place, and copies called back from who holds them.
//! Knows nothing of who asked. A letter is called discarded only when its recipient has signed for the void, or when no copy
//! of it has left this machine. The third part of [`Outbox`].

use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use serde_bytes::ByteArray;

use super::deposits::Key;
use super::{Drafted, Outbox, Round, text_bytes, unplaced};
use crate::bundle::Draft;
use crate::config::limits;
use crate::contact::Contact;
use crate::effect::{BundleIndex, Change, Effect, KeptBundle, Out, Refusal, SentLetter, VOID};
use crate::envelope::{Envelope, Kind, Payload, void_of};
use crate::id::{Epoch, LetterId, RequestId};
use crate::now::{Now, Timestamp};
use crate::ranges::Ranges;
use crate::segment::What;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Discards {
    /// Discarded in this batch: by stream, number and letter.
    fresh: BTreeMap<(PeerId, Epoch), BTreeMap<u64, LetterId>>,
    requests: Vec<(RequestId, usize)>,
    /// Numbers whose void is being sealed.
    sealing: BTreeSet<Key>,
    /// When the latest was asked for.
    at: Timestamp,
}

impl Discards {
    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.requests.is_empty()
    }
}

impl Outbox {
    /// The user does not want a letter sent any more. It is as the disk has it.
    pub(crate) fn discard(&mut self, request: RequestId, letter: &SentLetter, now: Now, out: &mut Out) {
        if unplaced(letter) > 0 && !self.waiting.contains_key(&letter.k) && self.is_being_placed(letter.k) {
            return out.refuse(request, Refusal::Sealing { letter: letter.id });
        }
        let (mut delivered, mut discarded) = (0, 0);
        for place in letter.to.iter().filter_map(|copy| copy.place) {
            let Some(stream) = self.by_no.get(&place.stream).and_then(|place| self.streams.get(place)) else { continue };
            let key = (place.stream, place.seq);
            if stream.row.delivered.contains(place.seq) && !stream.row.discarded.contains(place.seq) {
                delivered += 1;
                continue;
            }
            discarded += 1;
            if stream.row.voided.contains(place.seq) || !self.discards.sealing.insert(key) {
                continue;
            }
            self.discards.fresh.entry((stream.row.peer, stream.row.epoch)).or_default().insert(place.seq, letter.id);
        }
        if discarded == 0 && unplaced(letter) == 0 {
            return out.refuse(request, Refusal::Delivered { letter: letter.id });
        }
        if let Some(waiting) = self.waiting.remove(&letter.k) {
            // It has no number: nobody will ever know of it.
            self.copies -= unplaced(&waiting);
            self.waiting_bytes -= text_bytes(&waiting);
            out.store(Change::Waiting { k: letter.k, waits: false });
        }
        self.discards.requests.push((request, delivered));
        self.discards.at = now.wall;
    }

    /// Whether the copies of a letter that waited for a name are being sealed.
    fn is_being_placed(&self, k: u64) -> bool {
        self.batch.iter().chain(self.rounds.iter().flat_map(|round| &round.letters)).any(|writing| writing.letter.k == k)
    }

    /// Forms the voids of this batch, to be sealed.
    pub(super) fn close_discards(
        &mut self,
        mine: &Contact,
        contact_of: impl Fn(&PeerId) -> Option<Contact>,
        rng: &mut ChaCha8Rng,
        out: &mut Out,
    ) {
        if self.discards.is_empty() {
            return;
        }
        let discarding = std::mem::take(&mut self.discards.requests);
        let mut round = Round { letters: Vec::new(), drafts: BTreeMap::new(), unsealed: 0, discarding };
        for ((peer, epoch), letters) in std::mem::take(&mut self.discards.fresh) {
            let (Some(to), Some(stream)) = (contact_of(&peer), self.streams.get(&(peer, epoch))) else { continue };
            let floor = stream.floor();
            let mut numbers = Ranges::default();
            letters.keys().for_each(|number| numbers.insert_range(*number, *number));
            for (first, last) in numbers.iter() {
                for first in (first..=last).step_by(limits::BUNDLE_ENVELOPES) {
                    let last = last.min(first + limits::BUNDLE_ENVELOPES as u64 - 1);
                    let void = |seq: u64| Envelope {
                        kind: Kind::Void.as_str().to_owned(),
                        author: self.me,
                        recipients: vec![peer],
                        payload: Payload::Nothing,
                        timestamp: self.discards.at,
                        id: void_of(letters[&seq]),
                        seq: Some(seq),
                        in_reply_to: Some(letters[&seq]),
                    };
                    let envelopes: Vec<Envelope> = (first..=last).map(void).collect();
                    let (mut withdrawal, mut seed) = ([0; 32], [0; 32]);
                    rng.fill_bytes(&mut withdrawal);
                    rng.fill_bytes(&mut seed);
                    let number = self.next_draft;
                    self.next_draft += 1;
                    let ids = envelopes.iter().map(|envelope| envelope.id).collect();
                    round.drafts.insert(number, Drafted { stream: (peer, epoch), first: VOID | first, ids, withdrawal, bundle: None });
                    let (to, contact) = (to.clone(), mine.clone());
                    let draft = Draft { number, to, contact, epoch, floor, envelopes, withdrawal, seed };
                    out.effects.push(Effect::Seal(Box::new(draft)));
                }
            }
        }
        round.unsealed = round.drafts.len();
        self.rounds.push_back(round);
    }

    /// Voids are sealed: from now on they go in the place of their letters.
    pub(super) fn commit_void(&mut self, drafted: Drafted, now: Now, out: &mut Out) {
        let Drafted { stream: place, first, ids, withdrawal, bundle } = drafted;
        let bundle = bundle.expect("a round is committed when all its drafts are sealed");
        let stream = self.streams.get_mut(&place).expect("streams are never removed");
        let no = stream.row.no;
        let numbers = Ranges::of(first & !VOID, (first & !VOID) + ids.len() as u64 - 1);
        for seq in numbers.iter().flat_map(|(first, last)| first..=last) {
            self.discards.sealing.remove(&(no, seq));
        }
        // Its receipt may have come while it was sealed.
        let open = numbers.minus(&stream.row.delivered);
        if open.is_empty() {
            return;
        }
        open.iter().for_each(|(first, last)| stream.row.voided.insert_range(first, last));
        stream.dirty = true;
        let size = bundle.size();
        stream.keep(BundleIndex { stream: no, first, ids: ids.clone(), id: bundle.id(), size, holders: Vec::new() });
        self.bytes += size as u64;
        if let Some(deposits) = self.deposits.get_mut(&place.0) {
            deposits.want(std::iter::once((no, first)));
        }
        self.deposit_due.insert(place.0);
        out.store(Change::Bundle(Box::new(KeptBundle { stream: no, first, ids, bundle, withdrawal: ByteArray::new(withdrawal) })));
        let bundles: BTreeSet<u64> = open
            .iter()
            .flat_map(|(first, last)| first..=last)
            .filter_map(|seq| self.streams.get(&place)?.bundle_of(seq))
            .map(|(first, _)| first)
            .collect();
        for first in bundles {
            if let Some((place, open)) = self.call_back((no, first), out) {
                // Its void goes all the same: without it the recipient would wait for the number.
                self.be_sure(place, &open, now, out);
            }
        }
    }

    /// Asks everybody who holds a bundle of letters to give it back, if all of them are discarded. If it never left, nothing
    /// more is to be known of it. What custodians give back proves nothing: the recipient may have fetched it just before.
    fn call_back(&self, (no, first): Key, out: &mut Out) -> Option<((PeerId, Epoch), Ranges)> {
        let place = *self.by_no.get(&no)?;
        let stream = self.streams.get(&place).filter(|stream| !stream.is_wanted(first))?;
        for holder in stream.held(first).into_iter().flat_map(|(_, _, holders)| holders) {
            out.effects.push(Effect::WithdrawKept { to: holder.peer, bundles: vec![(no, first)] });
        }
        stream.bundle_of(first).filter(|_| first >= stream.row.tried).map(|(_, open)| (place, open))
    }

    /// A custodian has acknowledged a bundle for the first time: if it is not wanted any more, it is to give it back.
    pub(super) fn on_held_in_vain(&self, from: PeerId, key: Key, out: &mut Out) {
        let stream = self.by_no.get(&key.0).and_then(|place| self.streams.get(place));
        if stream.is_some_and(|stream| !stream.is_wanted(key.1)) {
            out.effects.push(Effect::WithdrawKept { to: from, bundles: vec![key] });
        }
    }

    /// A peer can be reached: what it still holds in vain it is to give back.
    pub(crate) fn call_back_from(&self, peer: PeerId, out: &mut Out) {
        let discarding = self.streams.values().filter(|stream| !stream.row.voided.minus(&stream.row.delivered).is_empty());
        let unwanted = discarding.flat_map(|stream| {
            let held = stream.waiting().filter(|(.., holders)| holders.iter().any(|holder| holder.peer == peer));
            held.filter(|(first, ..)| !stream.is_wanted(*first)).map(|(first, ..)| (stream.row.no, first))
        });
        for part in unwanted.collect::<Vec<Key>>().chunks(limits::BUNDLE_IDS) {
            out.effects.push(Effect::WithdrawKept { to: peer, bundles: part.to_vec() });
        }
    }

    /// The recipient has signed for the voids of these letters.
    pub(super) fn mark_discarded(&mut self, place: (PeerId, Epoch), voids: &Ranges, now: Now, out: &mut Out) {
        if voids.is_empty() {
            return;
        }
        self.be_sure(place, voids, now, out);
        let stream = self.streams.get_mut(&place).expect("the caller has found it");
        voids.iter().for_each(|(first, last)| stream.row.delivered.insert_range(first, last));
        self.settle(place, voids, false, now, out);
    }

    /// These letters will not arrive, whether or not their voids have.
    fn be_sure(&mut self, place: (PeerId, Epoch), voids: &Ranges, now: Now, out: &mut Out) {
        let stream = self.streams.get_mut(&place).expect("the caller has found it");
        stream.dirty = true;
        let new = voids.minus(&stream.row.discarded);
        stream.discard(&new);
        for (first, last) in new.iter() {
            stream.row.voided.insert_range(first, last);
            out.store(Change::Discarded { stream: stream.row.no, first, last, at: now.wall });
            out.note(What::LettersDiscarded { to: place.0, epoch: place.1, first, last });
        }
    }
}
