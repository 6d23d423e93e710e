//! Letters of this node, from accepted to receipted.
//! Knows nothing of connections: it is told to whom letters can go. A letter is here until every recipient has signed
//! for it; its number is on disk before its first byte leaves; nothing is renumbered.

mod away;
mod deposits;
mod discards;
mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use serde_bytes::ByteArray;
use sha2::{Digest, Sha256};

use crate::bundle::{Bundle, Draft};
use crate::codec;
use crate::config::{Config, limits};
use crate::contact::Contact;
use crate::edge::Cause;
use crate::effect::{
    Answer, BundleIndex, Change, Copy, CopyPlace, Effect, KeptBundle, Notice, Out, OutStream, Refusal, Say, SentLetter, VOID,
};
use crate::envelope::{Envelope, Kind, Payload, void_of};
use crate::id::{BundleId, Epoch, LetterId, RequestId};
use crate::input::{Earlier, NewLetter, Recall};
use crate::mail::Denial;
use crate::name::{Addressee, PeerName};
use crate::now::Now;
use crate::ranges::Ranges;
use crate::receipt::{Receipt, Sum, digest};
use crate::segment::What;

use self::deposits::{Deposits, Key};
use self::discards::Discards;
use self::stream::{Delivered, Stream};

/// Bytes of bundles that leave in one frame, but at least one bundle (guess: a frame should not hold up the next lane).
const FRAME_TARGET: usize = 256 * 1024;
/// Numbers asked for at once when a receipt's digest does not fit: the answer fits one frame.
const ASK_MOST: u64 = (limits::PAGE * limits::IDS_PER_ITEM) as u64;
/// Receipts whose digest the disk is asked about at a time (guess); more are asked about by number.
const DOUBTED: usize = 64;
/// What an envelope takes beyond payload and recipients (measured: about 210 bytes).
const ENVELOPE_OVERHEAD: usize = 256;
/// What each recipient's id takes in an envelope (measured: 40 bytes).
const RECIPIENT_OVERHEAD: usize = 40;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    me: PeerId,
    config: Config,
    streams: BTreeMap<(PeerId, Epoch), Stream>,
    next_stream: u32,
    next_letter: u64,
    /// Accepted in this batch: numbered, not yet drafted.
    batch: Vec<Writing>,
    /// Drafted and being sealed, in the order in which they are to be committed.
    rounds: VecDeque<Round>,
    next_draft: u64,
    /// Requests whose key is being looked up, or whose letter is being sealed.
    keys: BTreeMap<String, Keyed>,
    /// Letters with names that nobody bears yet.
    waiting: BTreeMap<u64, SentLetter>,
    open: BTreeSet<PeerId>,
    copies: u64,
    bytes: u64,
    /// Copies accepted and not yet committed.
    unsealed: u64,
    /// Bytes of the letters that wait for names: they are kept in memory.
    waiting_bytes: u64,
    /// By recipient who is away: what custodians are asked to hold.
    deposits: BTreeMap<PeerId, Deposits>,
    /// Recipients whose deposits should be looked at with this batch.
    deposit_due: BTreeSet<PeerId>,
    /// Recipients that were not heard of since this start are away from then on.
    away_from: Duration,
    /// When deposits are looked at as a whole: custodians may have gone, or come.
    review_at: Duration,
    /// Outgoing stream by number.
    by_no: BTreeMap<u32, (PeerId, Epoch)>,
    /// Bundles that custodians were asked to hold.
    places: BTreeMap<BundleId, Key>,
    /// Custodians with acknowledgements of this memory; those not seen since this start are asked again.
    memories: BTreeMap<PeerId, (Epoch, bool)>,
    /// Receipts whose digest only the disk can check.
    doubted: BTreeMap<u64, Receipt>,
    next_token: u64,
    /// A letter began to wait for a name, which may have been found while it was sealed.
    new_waiting: bool,
    /// Letters that the user has discarded.
    discards: Discards,
    /// Recipients that take no letters of this node, why, and until when they are left alone.
    denied: BTreeMap<PeerId, (Denial, Duration)>,
}

#[derive(Debug)]
struct Writing {
    /// Who is answered.
    request: Option<RequestId>,
    letter: SentLetter,
    key: Option<(String, [u8; 32])>,
    /// It is not new: so many copies have waited for a name that was found. They are counted with the bundles from now on.
    found: Option<u64>,
}

#[derive(Debug)]
struct Round {
    letters: Vec<Writing>,
    drafts: BTreeMap<u64, Drafted>,
    unsealed: usize,
    /// Who asked for letters to be discarded, and how many recipients have each already.
    discarding: Vec<(RequestId, usize)>,
}

#[derive(Debug)]
struct Drafted {
    stream: (PeerId, Epoch),
    first: u64,
    ids: Vec<LetterId>,
    withdrawal: [u8; 32],
    bundle: Option<Bundle>,
}

#[derive(Debug)]
struct Keyed {
    digest: [u8; 32],
    /// Taken when the disk has answered.
    letter: Option<NewLetter>,
    first: RequestId,
    /// Later requests with the same key and letter.
    others: Vec<RequestId>,
}

/// One copy of a letter, on its way into a bundle.
#[derive(Debug)]
struct Numbered {
    seq: u64,
    envelope: Envelope,
    /// About how many bytes it will take.
    size: usize,
}

/// A recipient of a new letter.
#[derive(Clone, Debug)]
pub(crate) enum Recipient {
    Known(Contact),
    Later(PeerName),
}

impl Outbox {
    /// Goes on where the disk ends.
    pub(crate) fn new(
        me: PeerId,
        config: &Config,
        streams: Vec<OutStream>,
        bundles: Vec<BundleIndex>,
        waiting: Vec<SentLetter>,
        next_letter: u64,
        now: Now,
    ) -> Self {
        let mut outbox = Outbox {
            me,
            config: config.clone(),
            streams: BTreeMap::new(),
            next_stream: 1 + streams.iter().map(|row| row.no).max().unwrap_or(0),
            next_letter: next_letter.max(1),
            batch: Vec::new(),
            rounds: VecDeque::new(),
            next_draft: 1,
            keys: BTreeMap::new(),
            waiting: waiting.into_iter().map(|letter| (letter.k, letter)).collect(),
            open: BTreeSet::new(),
            copies: 0,
            bytes: 0,
            unsealed: 0,
            waiting_bytes: 0,
            new_waiting: false,
            deposits: BTreeMap::new(),
            deposit_due: BTreeSet::new(),
            away_from: now.mono + config.deposit_after,
            review_at: now.mono + config.deposit_after,
            by_no: BTreeMap::new(),
            places: BTreeMap::new(),
            memories: BTreeMap::new(),
            doubted: BTreeMap::new(),
            next_token: 1,
            discards: Discards::default(),
            denied: BTreeMap::new(),
        };
        let mut places = BTreeMap::new();
        for row in streams {
            places.insert(row.no, (row.peer, row.epoch));
            outbox.by_no.insert(row.no, (row.peer, row.epoch));
            outbox.streams.insert((row.peer, row.epoch), Stream::new(row));
        }
        for index in bundles {
            let Some(stream) = places.get(&index.stream).and_then(|place| outbox.streams.get_mut(place)) else { continue };
            outbox.copies += if index.first < VOID { index.ids.len() as u64 } else { 0 };
            outbox.bytes += index.size as u64;
            for holder in &index.holders {
                outbox.places.insert(index.id, (index.stream, index.first));
                outbox.memories.insert(holder.peer, (holder.epoch, false));
            }
            stream.keep(index);
        }
        outbox.copies += outbox.waiting.values().map(unplaced).sum::<u64>();
        outbox.waiting_bytes = outbox.waiting.values().map(text_bytes).sum();
        outbox
    }

    // -- accepting

    /// A letter is to be accepted. Returns it at once, or after [`Outbox::on_key`] if it has a key.
    pub(crate) fn ask(&mut self, request: RequestId, letter: NewLetter, out: &mut Out) -> Option<NewLetter> {
        let Some(key) = letter.key.clone() else { return Some(letter) };
        if key.is_empty() || key.len() > limits::KEY_BYTES {
            out.refuse(request, Refusal::Key { limit: limits::KEY_BYTES });
            return None;
        }
        let digest = request_digest(&letter);
        match self.keys.get_mut(&key) {
            // The same is being accepted right now: what becomes of it becomes of this one too.
            Some(keyed) if keyed.digest == digest => keyed.others.push(request),
            Some(_) => out.refuse(request, Refusal::KeyInUse),
            None => {
                self.keys.insert(key.clone(), Keyed { digest, letter: Some(letter), first: request, others: Vec::new() });
                out.effects.push(Effect::Recall(Recall::Key { key }));
            }
        }
        None
    }

    /// The disk was asked for a key. Returns the letter to accept if the key is new.
    pub(crate) fn on_key(&mut self, key: &str, found: Option<Earlier>, out: &mut Out) -> Option<(RequestId, NewLetter)> {
        let keyed = self.keys.get_mut(key)?;
        let Some(Earlier { letter, k, digest }) = found else { return keyed.letter.take().map(|letter| (keyed.first, letter)) };
        let same = digest == keyed.digest;
        let answer = if same { Answer::Accepted { letter, k, repeated: true } } else { Answer::Refused(Refusal::KeyReused { letter }) };
        self.end_key(key, |_| answer.clone(), out);
        None
    }

    /// The disk could not be asked for a key.
    pub(crate) fn on_key_failed(&mut self, key: &str, out: &mut Out) {
        self.end_key(key, |_| Answer::Refused(Refusal::DiskUnreadable), out);
    }

    /// Checks the limits of a letter before names are looked up.
    ///
    /// # Errors
    /// What is wrong with it; nothing was kept.
    pub(crate) fn check(&self, letter: &NewLetter) -> Result<(), Refusal> {
        if letter.to.is_empty() {
            return Err(Refusal::NoRecipient);
        }
        if letter.to.len() > limits::RECIPIENTS {
            return Err(Refusal::TooManyRecipients { count: letter.to.len(), limit: limits::RECIPIENTS });
        }
        let Payload::Text(text) = &letter.payload else { return Err(Refusal::Kind(letter.kind.clone())) };
        if letter.kind != Kind::Message.as_str() {
            return Err(Refusal::Kind(letter.kind.clone()));
        }
        if text.is_empty() {
            return Err(Refusal::Empty);
        }
        let (size, recipients) = (text.len(), letter.to.len());
        if size > limits::LETTER_BYTES {
            return Err(Refusal::TooLarge { size, limit: limits::LETTER_BYTES });
        }
        let limit = limits::LETTER_BYTES_TIMES_RECIPIENTS;
        if size * recipients > limit {
            return Err(Refusal::TooLargeTogether { size, recipients, limit });
        }
        let waiting = self.copies + self.unsealed;
        if waiting + recipients as u64 > self.config.outbox_letters {
            return Err(Refusal::OutboxFull { waiting, limit: self.config.outbox_letters });
        }
        if self.bytes + (size * recipients) as u64 > self.config.outbox_bytes {
            return Err(Refusal::OutboxBytesFull { waiting: self.bytes, limit: self.config.outbox_bytes });
        }
        if letter.later && self.waiting_bytes + size as u64 > self.config.later_bytes {
            return Err(Refusal::OutboxBytesFull { waiting: self.waiting_bytes, limit: self.config.later_bytes });
        }
        Ok(())
    }

    /// Takes a checked letter: its copies get their numbers, and it is accepted once it is sealed and on disk. One that this node
    /// writes by itself answers no request.
    pub(crate) fn accept(
        &mut self,
        request: Option<RequestId>,
        letter: NewLetter,
        to: Vec<Recipient>,
        epoch: Epoch,
        now: Now,
        rng: &mut ChaCha8Rng,
    ) {
        let key = letter.key.clone().map(|key| (key, request_digest(&letter)));
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let copies = to.into_iter().map(|recipient| match recipient {
            Recipient::Known(contact) => self.place(&contact, epoch),
            Recipient::Later(name) => Copy { name, place: None },
        });
        let letter = SentLetter {
            k: 0,
            id: LetterId::new(id),
            kind: letter.kind,
            payload: letter.payload,
            timestamp: now.wall,
            in_reply_to: letter.in_reply_to,
            to: copies.collect(),
        };
        let letter = SentLetter { k: self.next_letter, ..letter };
        self.next_letter += 1;
        self.unsealed += letter.to.len() as u64;
        self.batch.push(Writing { request, letter, key, found: None });
    }

    /// A key's request was refused after all: everyone who waits for it learns why.
    pub(crate) fn refuse(&mut self, request: RequestId, key: Option<&str>, refusal: &Refusal, out: &mut Out) {
        match key {
            Some(key) => self.end_key(key, |_| Answer::Refused(refusal.clone()), out),
            None => out.refuse(request, refusal.clone()),
        }
    }

    /// A name is borne now by exactly this peer: letters that wait for it get their numbers.
    pub(crate) fn on_named(&mut self, contact: &Contact, epoch: Epoch) {
        let waits = |copy: &Copy| copy.place.is_none() && copy.name == contact.name;
        let found: Vec<u64> = self.waiting.iter().filter(|(_, letter)| letter.to.iter().any(waits)).map(|(k, _)| *k).collect();
        for k in found {
            let Some(mut letter) = self.waiting.remove(&k) else { continue };
            self.waiting_bytes -= text_bytes(&letter);
            let already = letter.to.iter().any(|copy| copy.place.is_some_and(|place| place.peer == contact.id));
            let found = letter.to.iter().filter(|copy| waits(copy)).count() as u64;
            if already {
                letter.to.retain(|copy| !waits(copy));
            }
            for index in 0..letter.to.len() {
                if waits(&letter.to[index]) {
                    letter.to[index] = self.place(contact, epoch);
                }
            }
            self.unsealed += letter.to.len() as u64;
            self.batch.push(Writing { request: None, letter, key: None, found: Some(found) });
        }
    }

    /// Whether a letter began to wait for a name since this was last asked.
    pub(crate) fn take_new_waiting(&mut self) -> bool {
        std::mem::take(&mut self.new_waiting)
    }

    /// The names that letters wait for.
    pub(crate) fn waiting_names(&self) -> BTreeSet<PeerName> {
        let copies = self.waiting.values().flat_map(|letter| &letter.to);
        copies.filter(|copy| copy.place.is_none()).map(|copy| copy.name.clone()).collect()
    }

    /// Forms the bundles of this batch, to be sealed.
    pub(crate) fn close_batch(
        &mut self,
        mine: &Contact,
        contact_of: impl Fn(&PeerId) -> Option<Contact>,
        epoch: Epoch,
        rng: &mut ChaCha8Rng,
        out: &mut Out,
    ) {
        self.close_discards(mine, &contact_of, rng, out);
        if self.batch.is_empty() {
            return;
        }
        let letters = std::mem::take(&mut self.batch);
        let mut copies: BTreeMap<u32, (PeerId, Vec<Numbered>)> = BTreeMap::new();
        for writing in &letters {
            let recipients: Vec<PeerId> = writing.letter.to.iter().filter_map(|copy| copy.place.map(|place| place.peer)).collect();
            for place in writing.letter.to.iter().filter_map(|copy| copy.place) {
                // Letters whose waiting name was found have copies that were drafted long ago.
                if self.streams.get(&(place.peer, epoch)).is_none_or(|stream| stream.row.no != place.stream || place.seq < stream.drafted) {
                    continue;
                }
                let envelope = Envelope {
                    kind: writing.letter.kind.clone(),
                    author: self.me,
                    recipients: recipients.clone(),
                    payload: writing.letter.payload.clone(),
                    timestamp: writing.letter.timestamp,
                    id: writing.letter.id,
                    seq: Some(place.seq),
                    in_reply_to: writing.letter.in_reply_to,
                };
                let size = envelope.payload_bytes() + ENVELOPE_OVERHEAD + RECIPIENT_OVERHEAD * recipients.len();
                copies.entry(place.stream).or_insert_with(|| (place.peer, Vec::new())).1.push(Numbered { seq: place.seq, envelope, size });
            }
        }
        let mut round = Round { letters, drafts: BTreeMap::new(), unsealed: 0, discarding: Vec::new() };
        for (peer, mut envelopes) in copies.into_values() {
            envelopes.sort_by_key(|numbered| numbered.seq);
            let to = contact_of(&peer).expect("letters are only numbered for peers whose card is known");
            let stream = self.streams.get_mut(&(peer, epoch)).expect("made when the numbers were given");
            let floor = stream.row.delivered.first_missing(1);
            let mut rest = envelopes.into_iter().peekable();
            while rest.peek().is_some() {
                let (mut part, mut size) = (Vec::new(), 0);
                while let Some(next) = rest.peek()
                    && part.len() < limits::BUNDLE_ENVELOPES
                    && (part.is_empty() || size + next.size <= limits::BUNDLE_BYTES)
                {
                    size += next.size;
                    part.extend(rest.next().map(|numbered| numbered.envelope));
                }
                let (mut withdrawal, mut seed) = ([0; 32], [0; 32]);
                rng.fill_bytes(&mut withdrawal);
                rng.fill_bytes(&mut seed);
                let number = self.next_draft;
                self.next_draft += 1;
                let first = part.first().and_then(|envelope| envelope.seq).expect("parts are not empty and letters are numbered");
                stream.drafted = first + part.len() as u64;
                let ids = part.iter().map(|envelope| envelope.id).collect();
                round.drafts.insert(number, Drafted { stream: (peer, epoch), first, ids, withdrawal, bundle: None });
                let draft = Draft { number, to: to.clone(), contact: mine.clone(), epoch, floor, envelopes: part, withdrawal, seed };
                out.effects.push(Effect::Seal(Box::new(draft)));
            }
        }
        round.unsealed = round.drafts.len();
        self.rounds.push_back(round);
    }

    /// A draft is sealed: once all before it are, its round is written, accepted and sent.
    pub(crate) fn on_sealed(&mut self, draft: u64, bundle: Bundle, now: Now, out: &mut Out) {
        let Some(round) = self.rounds.iter_mut().find(|round| round.drafts.contains_key(&draft)) else { return };
        let drafted = round.drafts.get_mut(&draft).expect("just found");
        if drafted.bundle.replace(bundle).is_none() {
            round.unsealed -= 1;
        }
        self.commit_rounds(now, out);
    }

    /// Commits every round whose turn has come: also those of letters that only wait for names.
    pub(crate) fn commit_rounds(&mut self, now: Now, out: &mut Out) {
        let mut to = BTreeSet::new();
        while self.rounds.front().is_some_and(|round| round.unsealed == 0) {
            let round = self.rounds.pop_front().expect("just seen");
            for drafted in round.drafts.into_values() {
                to.insert(drafted.stream.0);
                if drafted.first >= VOID { self.commit_void(drafted, now, out) } else { self.commit_bundle(drafted, out) }
            }
            for (request, delivered) in round.discarding {
                out.reply(request, Answer::Discarded { delivered });
            }
            for writing in round.letters {
                self.commit_letter(writing, out);
            }
        }
        for peer in to {
            self.flow(peer, now, out);
        }
    }

    // -- delivering

    /// Letters can go to this peer now, or no longer.
    pub(crate) fn set_open(&mut self, peer: PeerId, open: bool, now: Now, out: &mut Out) {
        if open == self.open.contains(&peer) {
            return;
        }
        if open {
            // Whom its user has blocked learns from itself when that ends.
            if self.denial(&peer) != Some(Denial::Blocked) {
                self.denied.remove(&peer);
            }
            self.open.insert(peer);
            // What was deposited stays where it is; what was not goes by itself.
            self.deposits.remove(&peer);
            self.streams.range_mut(of(peer)).for_each(|(_, stream)| stream.rewind(&self.config));
            self.flow(peer, now, out);
        } else {
            self.open.remove(&peer);
            self.streams_of(peer).for_each(Stream::stop);
            self.begin_deposits(peer);
        }
    }

    /// The network dropped frames to this peer: what they held goes again a little later.
    pub(crate) fn on_send_failed(&mut self, peer: PeerId, now: Now) {
        if self.open.contains(&peer) {
            let soon = now.mono + self.config.refused_wait;
            self.streams_of(peer).for_each(|stream| stream.on_dropped(soon));
        }
    }

    /// A recipient tells what it has. Returns whether it has more than we remember writing.
    ///
    /// # Errors
    /// The receipt is of letters that were never written.
    pub(crate) fn on_receipt(&mut self, receipt: &Receipt, now: Now, out: &mut Out) -> Result<bool, Cause> {
        let peer = receipt.recipient;
        let Some(stream) = self.streams.get_mut(&(peer, receipt.epoch)) else { return Err(Cause::Unexpected) };
        let number = (receipt.recipient_epoch, receipt.number);
        if stream.row.receipt.is_some_and(|(epoch, last)| epoch == number.0 && number.1 < last) {
            // Overtaken; or its signer's memory jumped back without anybody's notice: then it would be ignored for ever.
            let known = Ranges::of(1, stream.row.next - 1);
            let mut new = receipt.taken.minus(&receipt.taken.minus(&known));
            new.insert_range(stream.floor(), receipt.floor.min(stream.row.next).saturating_sub(1));
            let new = new.minus(&stream.row.delivered);
            self.ask_ids((peer, receipt.epoch), new, now, out);
            return Ok(false);
        }
        // Signed for more than we remember writing under this epoch: we forgot.
        let jumped = receipt.floor > stream.row.next || receipt.taken.last().is_some_and(|last| last >= stream.row.next);
        let mine = Ranges::of(1, stream.row.next - 1);
        let beyond = receipt.taken.minus(&mine);
        let new = receipt.taken.minus(&beyond).minus(&stream.row.delivered);
        if stream.row.receipt != Some(number) {
            stream.row.receipt = Some(number);
            stream.dirty = true;
        }
        let below = Ranges::of(stream.floor(), receipt.floor.min(stream.row.next).saturating_sub(1)).minus(&stream.row.delivered);
        stream.claimed = receipt.read.clone();
        let sum = stream.sums.of(&receipt.taken).filter(|_| !jumped);
        let (voids, as_letters, as_voids) = stream.undecided(&new);
        let void = !voids.is_empty() && sum.map(|sum| sum.minus(as_letters).plus(as_voids)) == Some(receipt.digest);
        let fits = sum == Some(receipt.digest) || void;
        if fits {
            stream.sums.forget_below(receipt.floor.min(stream.floor()));
            if void {
                self.mark_discarded((peer, receipt.epoch), &voids, now, out);
                self.mark_delivered((peer, receipt.epoch), &new.minus(&voids), now, out);
            } else {
                self.mark_delivered((peer, receipt.epoch), &new, now, out);
            }
        } else if !jumped && !new.is_empty() && self.doubted.len() < DOUBTED && receipt.taken.len() <= limits::AHEAD / 8 {
            // After a start the hashes of what was receipted before are not in memory: the disk has the letters.
            let (stream, numbers, token) = (stream.row.no, receipt.taken.clone(), self.next_token);
            self.next_token += 1;
            self.doubted.insert(token, receipt.clone());
            out.effects.push(Effect::Recall(Recall::Written { stream, numbers, token }));
        } else {
            let mut doubtful = new;
            below.iter().for_each(|(first, last)| doubtful.insert_range(first, last));
            self.ask_ids((peer, receipt.epoch), doubtful, now, out);
        }
        if fits && !below.is_empty() {
            self.ask_ids((peer, receipt.epoch), below, now, out);
        }
        self.mark_read((peer, receipt.epoch), now, out);
        self.flow(peer, now, out);
        Ok(jumped)
    }

    /// The disk was asked what was written under the numbers of a receipt; none if it could not be read.
    pub(crate) fn on_written(&mut self, token: u64, found: Option<&[(u64, LetterId)]>, now: Now, out: &mut Out) {
        let Some(receipt) = self.doubted.remove(&token) else { return };
        let place = (receipt.recipient, receipt.epoch);
        let Some(stream) = self.streams.get_mut(&place) else { return };
        // Another memory of the recipient may have spoken meanwhile.
        stream.claimed = receipt.read.clone();
        let new = receipt.taken.minus(&stream.row.delivered);
        // Where the user has discarded a letter the recipient has its void.
        let stands = |number: u64, id| if stream.row.discarded.contains(number) { void_of(id) } else { id };
        let sum = found.map(|found| found.iter().fold(Sum::default(), |sum, (number, id)| sum.plus(digest(*number, stands(*number, *id)))));
        let (voids, as_letters, as_voids) = stream.undecided(&new);
        let void = !voids.is_empty() && sum.map(|sum| sum.minus(as_letters).plus(as_voids)) == Some(receipt.digest);
        let mut doubtful = Ranges::of(stream.floor(), receipt.floor.min(stream.row.next).saturating_sub(1)).minus(&stream.row.delivered);
        if void {
            self.mark_discarded(place, &voids, now, out);
            self.mark_delivered(place, &new.minus(&voids), now, out);
        } else if sum == Some(receipt.digest) {
            self.mark_delivered(place, &new, now, out);
        } else {
            new.iter().for_each(|(first, last)| doubtful.insert_range(first, last));
        }
        self.ask_ids(place, doubtful, now, out);
        self.mark_read(place, now, out);
        self.flow(place.0, now, out);
    }

    /// Whether nothing more can be learned from a receipt: whoever keeps it may let go of it.
    pub(crate) fn has_settled(&self, receipt: &Receipt) -> bool {
        self.streams.get(&(receipt.recipient, receipt.epoch)).is_none_or(|stream| receipt.taken.minus(&stream.row.delivered).is_empty())
    }

    /// A recipient tells which letters it has under numbers of ours.
    pub(crate) fn on_ids(&mut self, peer: PeerId, epoch: Epoch, ids: &[(u64, LetterId)], now: Now, out: &mut Out) -> Result<(), Cause> {
        let Some(stream) = self.streams.get_mut(&(peer, epoch)) else { return Err(Cause::Unexpected) };
        let (mut agreed, mut voids) = (Ranges::default(), Ranges::default());
        for (number, id) in ids {
            match stream.id_of(*number) {
                Some(mine) if mine == *id => agreed.insert_range(*number, *number),
                // Only we can have made it, even if a memory of ours that is gone did.
                Some(mine) if void_of(mine) == *id => voids.insert_range(*number, *number),
                _ => {}
            }
        }
        if std::mem::take(&mut stream.asked).is_empty() {
            return Err(Cause::Unexpected);
        }
        let (new, voids) = (agreed.minus(&stream.row.delivered), voids.minus(&agreed).minus(&stream.row.delivered));
        stream.reinstate(&new);
        self.mark_delivered((peer, epoch), &new, now, out);
        self.mark_discarded((peer, epoch), &voids, now, out);
        self.mark_read((peer, epoch), now, out);
        self.flow(peer, now, out);
        Ok(())
    }

    // -- time

    /// Sends again what was lost on its way.
    pub(crate) fn tick(&mut self, now: Now, out: &mut Out) {
        let asked_again: Vec<PeerId> = self.denied.iter().filter(|(_, (_, until))| *until <= now.mono).map(|(peer, _)| *peer).collect();
        for peer in asked_again {
            // One bundle is enough to learn whether anything has changed.
            if let Some((_, until)) = self.denied.get_mut(&peer) {
                *until = now.mono + self.config.denied_for;
            }
            self.ask_again(peer, now, out);
        }
        let mut due = BTreeSet::new();
        for ((peer, _), stream) in &mut self.streams {
            if stream.deadline(&self.config).is_some_and(|at| at <= now.mono) && stream.tick(now.mono, &self.config) {
                due.insert(*peer);
            }
        }
        for peer in due {
            self.flow(peer, now, out);
            if self.streams.range(of(peer)).any(|(_, stream)| stream.is_stuck(&self.config)) {
                self.begin_deposits(peer);
            }
        }
        self.review(now);
    }

    /// When [`Outbox::tick`] has something to do; at once if a batch is open.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        if !self.batch.is_empty() || !self.discards.is_empty() {
            return Some(Duration::ZERO);
        }
        let streams = self.streams.values().filter_map(|stream| stream.deadline(&self.config));
        let deposits = self.deposits.values().filter_map(|deposits| deposits.deadline(&self.config));
        let review = (self.copies > 0).then_some(self.review_at);
        let denied = self.denied.iter().filter(|(peer, _)| self.open.contains(*peer)).map(|(_, (_, until))| *until);
        streams.chain(deposits).chain(review).chain(denied).min()
    }

    /// Writes the streams that changed.
    pub(crate) fn close(&mut self, out: &mut Out) {
        for stream in self.streams.values_mut().filter(|stream| stream.dirty) {
            stream.dirty = false;
            out.store(Change::OutStream(stream.row.clone()));
        }
    }

    /// A peer is met: whether it takes letters of this node it says anew.
    pub(crate) fn on_met(&mut self, peer: PeerId) {
        self.denied.remove(&peer);
    }

    /// A recipient takes no letters of this node for now: they stay here, and it is asked again from time to time. Or it takes
    /// them again. That its user has blocked this node it says to who has not written too.
    pub(crate) fn on_denied(&mut self, peer: PeerId, why: Option<Denial>, now: Now, out: &mut Out) {
        let Some(why) = why else {
            if self.denied.remove(&peer).is_some() {
                self.streams.range_mut(of(peer)).for_each(|(_, stream)| stream.rewind(&self.config));
                self.flow(peer, now, out);
                out.notify(Notice::Receipted { by: peer });
            }
            return;
        };
        let waits = self.streams.range(of(peer)).any(|(_, stream)| stream.letters() > 0);
        if why != Denial::Blocked && (!self.open.contains(&peer) || !waits) {
            return;
        }
        let before = self.denied.insert(peer, (why, now.mono + self.config.denied_for));
        self.streams_of(peer).for_each(Stream::stop);
        if waits && before.is_none_or(|(before, _)| before != why) {
            out.note(What::LettersDenied { by: peer, why: why.as_str().to_owned() });
            out.notify(Notice::Receipted { by: peer });
        }
        if why != Denial::Blocked {
            self.begin_deposits(peer);
        }
    }

    /// Why a recipient takes no letters of this node, if it said so.
    pub(crate) fn denial(&self, peer: &PeerId) -> Option<Denial> {
        self.denied.get(peer).map(|(why, _)| *why)
    }

    // -- questions

    /// Copies that wait for a receipt, or for the first bearer of a name.
    pub(crate) fn copies(&self) -> u64 {
        self.copies
    }

    /// Bytes of bundles that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Copies that wait, by recipient.
    pub(crate) fn waiting_for(&self) -> BTreeMap<PeerId, u64> {
        let mut waiting = BTreeMap::new();
        for ((peer, _), stream) in &self.streams {
            let letters = stream.letters();
            if letters > 0 {
                *waiting.entry(*peer).or_default() += letters;
            }
        }
        waiting
    }

    // -- private

    fn streams_of(&mut self, peer: PeerId) -> impl Iterator<Item = &mut Stream> {
        self.streams.range_mut(of(peer)).map(|(_, stream)| stream)
    }

    fn place(&mut self, contact: &Contact, epoch: Epoch) -> Copy {
        let next_stream = &mut self.next_stream;
        let stream = self.streams.entry((contact.id, epoch)).or_insert_with(|| {
            let no = *next_stream;
            *next_stream += 1;
            self.by_no.insert(no, (contact.id, epoch));
            Stream::new(OutStream::new(no, contact.id, epoch))
        });
        let seq = stream.next;
        stream.next += 1;
        Copy { name: contact.name.clone(), place: Some(CopyPlace { peer: contact.id, stream: stream.row.no, seq }) }
    }

    fn commit_bundle(&mut self, drafted: Drafted, out: &mut Out) {
        let Drafted { stream: place, first, ids, withdrawal, bundle } = drafted;
        let bundle = bundle.expect("a round is committed when all its drafts are sealed");
        let stream = self.streams.get_mut(&place).expect("streams are never removed");
        stream.row.next = first + ids.len() as u64;
        stream.dirty = true;
        let size = bundle.size();
        self.copies += ids.len() as u64;
        self.bytes += size as u64;
        let no = stream.row.no;
        stream.keep(BundleIndex { stream: no, first, ids: ids.clone(), id: bundle.id(), size, holders: Vec::new() });
        if let Some(deposits) = self.deposits.get_mut(&place.0) {
            deposits.want(std::iter::once((no, first)));
            self.deposit_due.insert(place.0);
        } else if !self.open.contains(&place.0) {
            self.deposit_due.insert(place.0);
        }
        let kept = KeptBundle { stream: no, first, ids, bundle, withdrawal: ByteArray::new(withdrawal) };
        out.store(Change::Bundle(Box::new(kept)));
    }

    fn commit_letter(&mut self, writing: Writing, out: &mut Out) {
        let Writing { request, letter, key, found } = writing;
        let (id, k) = (letter.id, letter.k);
        let to = letter.to.iter().filter_map(|copy| copy.place.map(|place| (place.peer, place.seq))).collect();
        self.unsealed -= letter.to.len() as u64;
        self.copies -= found.unwrap_or(0);
        let place = letter.to.iter().rev().find_map(|copy| copy.place);
        let stream = place.and_then(|place| self.streams.range(of(place.peer)).rev().find(|(_, stream)| stream.row.no == place.stream));
        out.note(What::LetterAccepted { letter: id, to, epoch: stream.map_or(Epoch(0), |((_, epoch), _)| *epoch) });
        let waits = unplaced(&letter);
        if waits > 0 {
            self.copies += if found.is_none() { waits } else { 0 };
            self.waiting_bytes += text_bytes(&letter);
            self.waiting.insert(k, letter.clone());
            self.new_waiting = true;
        }
        out.store(Change::Letter(Box::new(letter)));
        if waits > 0 || found.is_some() {
            out.store(Change::Waiting { k, waits: waits > 0 });
        }
        match (request, key) {
            (Some(_), Some((key, digest))) => {
                out.store(Change::Key { key: key.clone(), letter: id, k, digest });
                self.end_key(&key, |first| Answer::Accepted { letter: id, k, repeated: !first }, out);
            }
            (Some(request), None) => out.reply(request, Answer::Accepted { letter: id, k, repeated: false }),
            (None, _) => {}
        }
    }

    fn end_key(&mut self, key: &str, answer: impl Fn(bool) -> Answer, out: &mut Out) {
        if let Some(keyed) = self.keys.remove(key) {
            out.reply(keyed.first, answer(true));
            for other in keyed.others {
                out.reply(other, answer(false));
            }
        }
    }

    /// Sends as much as the window allows, oldest epoch first.
    fn flow(&mut self, peer: PeerId, now: Now, out: &mut Out) {
        if !self.open.contains(&peer) {
            return;
        }
        match self.denial(&peer) {
            None => {}
            Some(Denial::Blocked) => return self.flow_voids(peer, now, out),
            Some(_) => return,
        }
        let mut streams: Vec<&mut Stream> = self.streams.range_mut(of(peer)).map(|(_, s)| s).collect();
        streams.sort_by_key(|stream| stream.row.no);
        let mut in_flight: usize = streams.iter().map(|stream| stream.in_flight()).sum();
        let mut bundles: Vec<(u32, u64, usize)> = Vec::new();
        for stream in streams {
            let room = self.config.window_bytes.saturating_sub(in_flight);
            let leaving = stream.depart(room, in_flight == 0, now.mono, &self.config);
            in_flight += leaving.iter().map(|(_, size)| size).sum::<usize>();
            bundles.extend(leaving.into_iter().map(|(first, size)| (stream.row.no, first, size)));
        }
        let mut frame = Vec::new();
        let mut size = 0;
        for (stream, first, bytes) in bundles {
            if !frame.is_empty() && (size + bytes > FRAME_TARGET || frame.len() == limits::PAGE) {
                out.effects.push(Effect::SendKept { to: peer, bundles: std::mem::take(&mut frame) });
                size = 0;
            }
            frame.push((stream, first));
            size += bytes;
        }
        if !frame.is_empty() {
            out.effects.push(Effect::SendKept { to: peer, bundles: frame });
        }
    }

    /// Who has blocked this node takes no letters of it, but signs for voids.
    fn flow_voids(&mut self, peer: PeerId, now: Now, out: &mut Out) {
        let voids = self.streams.range_mut(of(peer)).flat_map(|(_, stream)| {
            let leaving = stream.depart_voids(now.mono);
            // What is lost of them goes when the recipient is asked again.
            stream.stop();
            leaving.into_iter().map(|first| (stream.row.no, first))
        });
        for part in voids.collect::<Vec<_>>().chunks(limits::PAGE) {
            out.effects.push(Effect::SendKept { to: peer, bundles: part.to_vec() });
        }
    }

    /// The first bundle that waits goes to a recipient that took none.
    fn ask_again(&mut self, peer: PeerId, now: Now, out: &mut Out) {
        if !self.open.contains(&peer) {
            return;
        }
        let config = &self.config;
        let first = self.streams.range_mut(of(peer)).find_map(|(_, stream)| {
            stream.rewind(config);
            let first = stream.depart(0, true, now.mono, config).first().map(|(first, _)| (stream.row.no, *first));
            stream.stop();
            first
        });
        if let Some(key) = first {
            out.effects.push(Effect::SendKept { to: peer, bundles: vec![key] });
        }
        if self.denial(&peer) == Some(Denial::Blocked) {
            self.flow_voids(peer, now, out);
        }
    }

    fn mark_delivered(&mut self, place: (PeerId, Epoch), new: &Ranges, now: Now, out: &mut Out) {
        let stream = self.streams.get_mut(&place).expect("the caller has found it");
        if new.is_empty() {
            return;
        }
        let voids = new.minus(&new.minus(&stream.row.discarded));
        voids.iter().for_each(|(first, last)| stream.row.delivered.insert_range(first, last));
        stream.dirty = true;
        for (first, last) in new.minus(&voids).iter() {
            stream.row.delivered.insert_range(first, last);
            out.store(Change::Delivered { stream: stream.row.no, first, last, at: now.wall });
            out.note(What::LettersDelivered { to: place.0, epoch: place.1, first, last });
        }
        // Voids are signed for by who takes no letters, too.
        self.settle(place, new, *new != voids, now, out);
    }

    /// Nothing waits for these numbers any more: drops the bundles that are wholly so. `taken`: the recipient took letters.
    fn settle(&mut self, place: (PeerId, Epoch), new: &Ranges, taken: bool, now: Now, out: &mut Out) {
        let stream = self.streams.get_mut(&place).expect("the caller has found it");
        let no = stream.row.no;
        let delivered = stream.take_delivered(new, now.mono, &self.config);
        let progress = !delivered.is_empty();
        for Delivered { first, id, letters, size } in delivered {
            self.copies -= letters as u64;
            self.bytes -= size as u64;
            if self.places.remove(&id).is_some()
                && let Some(deposits) = self.deposits.get_mut(&place.0)
            {
                deposits.forget((no, first));
            }
            out.store(Change::DropBundle { stream: no, first });
        }
        // It answers again: what is left goes by itself.
        if progress && self.open.contains(&place.0) {
            let lifted = taken || self.denial(&place.0) != Some(Denial::Blocked);
            if lifted && self.denied.remove(&place.0).is_some() {
                self.streams.range_mut(of(place.0)).for_each(|(_, stream)| stream.rewind(&self.config));
            }
            self.deposits.remove(&place.0);
        }
        out.notify(Notice::Receipted { by: place.0 });
    }

    /// Believes of what the recipient says it has read all that it is known to have.
    fn mark_read(&mut self, place: (PeerId, Epoch), now: Now, out: &mut Out) {
        let stream = self.streams.get_mut(&place).expect("the caller has found it");
        // A void counts as read at once, and says nothing of the letter in whose place it stands.
        let taken = stream.row.delivered.minus(&stream.row.discarded);
        let new = stream.claimed.minus(&stream.row.read).minus(&stream.claimed.minus(&taken));
        for (first, last) in new.iter() {
            stream.row.read.insert_range(first, last);
            stream.dirty = true;
            out.store(Change::ReadBy { stream: stream.row.no, first, last, at: now.wall });
            out.note(What::LettersRead { by: place.0, epoch: place.1, first, last });
        }
        if !new.is_empty() {
            out.notify(Notice::Receipted { by: place.0 });
        }
    }

    fn ask_ids(&mut self, place: (PeerId, Epoch), doubtful: Ranges, now: Now, out: &mut Out) {
        let stream = self.streams.get_mut(&place).expect("the caller has found it");
        if stream.asked_at + self.config.resend_first <= now.mono {
            stream.asked = Ranges::default();
        }
        let mut numbers = Ranges::default();
        let mut room = ASK_MOST;
        for (first, last) in doubtful.minus(&stream.asked).iter() {
            if room == 0 || numbers.pieces() == limits::PAGE {
                break;
            }
            let last = last.min(first + room - 1);
            room -= last - first + 1;
            numbers.insert_range(first, last);
            stream.asked.insert_range(first, last);
        }
        if !numbers.is_empty() {
            stream.asked_at = now.mono;
            out.send(place.0, Say::AskIds { epoch: place.1, numbers });
        }
    }
}

/// The keys of all streams to a peer.
fn of(peer: PeerId) -> RangeInclusive<(PeerId, Epoch)> {
    (peer, Epoch(0))..=(peer, Epoch(u64::MAX))
}

fn text_bytes(letter: &SentLetter) -> u64 {
    match &letter.payload {
        Payload::Text(text) => text.len() as u64,
        _ => 0,
    }
}

fn unplaced(letter: &SentLetter) -> u64 {
    letter.to.iter().filter(|copy| copy.place.is_none()).count() as u64
}

/// What makes two requests with one key the same: everything but the moment.
fn request_digest(letter: &NewLetter) -> [u8; 32] {
    let to: Vec<String> = letter.to.iter().map(Addressee::to_string).collect();
    let whole = codec::encode(&(to, &letter.kind, &letter.payload, letter.in_reply_to, letter.later));
    Sha256::digest(whole).into()
}
