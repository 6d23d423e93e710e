//! A node's disk: rows as the changes describe them, in memory.
//! Knows nothing of other nodes. It refuses, in words, every commit that a sound node would never make.

pub(crate) mod record;
pub(crate) mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::effect::{
    BundleIndex, Change, Head, HeldBundle, HeldIndex, InStream, KeptBundle, Known, Me, OutStream, Recent, SentLetter, Taken, VOID,
    segment_of,
};
use protocol::envelope::void_of;
use protocol::input::{Earlier, Place, Recall, Recalled};
use protocol::mail::{Holder, Slot};
use protocol::receipt::Receipt;
use protocol::segment::{Segment, What};
use protocol::sign::Signed;
use protocol::{Epoch, Kept, LetterId, PeerId, Ranges, Timestamp};
use sha2::{Digest, Sha256};

use self::record::Record;
use self::tasks::Tasks;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) me: Option<Me>,
    pub(crate) known: BTreeMap<PeerId, Known>,
    blocked: BTreeSet<PeerId>,
    pub(crate) letters: BTreeMap<u64, SentLetter>,
    pub(crate) by_id: BTreeMap<LetterId, u64>,
    pub(crate) waiting: BTreeSet<u64>,
    pub(crate) keys: BTreeMap<String, (LetterId, u64, [u8; 32])>,
    pub(crate) bundles: BTreeMap<(u32, u64), KeptBundle>,
    pub(crate) out_streams: BTreeMap<u32, OutStream>,
    /// Who holds a bundle that waits.
    pub(crate) holders: BTreeMap<(u32, u64), Vec<Holder>>,
    /// Bundles held for others, by number.
    pub(crate) held: BTreeMap<u64, HeldBundle>,
    pub(crate) receipts: BTreeMap<Slot, Signed<Receipt>>,
    /// What the rows of single copies say, by stream.
    delivered: BTreeMap<u32, Ranges>,
    discarded: BTreeMap<u32, Ranges>,
    pub(crate) read_by: BTreeMap<u32, Ranges>,
    /// Which letter has which number, by stream and number.
    pub(crate) numbered: BTreeMap<(u32, u64), LetterId>,
    pub(crate) in_streams: BTreeMap<u32, InStream>,
    pub(crate) taken: BTreeMap<(u32, u64, u8), Taken>,
    /// What the rows of single letters say, by stream; twins apart.
    taken_numbers: BTreeMap<u32, Ranges>,
    twins: BTreeMap<u32, BTreeMap<(u64, u8), LetterId>>,
    pub(crate) inbox: BTreeMap<u64, (Place, u64)>,
    pub(crate) places: BTreeMap<(u32, u64, u8), u64>,
    /// Orders whose outcomes are in the inbox, and their places there.
    pub(crate) outcomes: BTreeMap<u64, u64>,
    /// The greatest number given in the inbox.
    pub(crate) last_n: u64,
    /// Taken and without a place yet, and since when on the simulator's clock.
    pub(crate) unshown: BTreeMap<(u32, u64, u8), Duration>,
    now: Duration,
    pub(crate) read: BTreeMap<u64, Timestamp>,
    head: Option<Head>,
    pub(crate) segments: u64,
    pub(crate) tasks: Tasks,
    pub(crate) record: Record,
}

/// What is wrong with a commit.
type Verdict = Result<(), String>;

macro_rules! demand {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

impl Disk {
    /// Commits a batch of changes in one transaction.
    ///
    /// # Errors
    /// What a sound node would not have asked for. The disk is spoilt then, and the run is over.
    pub(crate) fn commit(&mut self, author: PeerId, now: Duration, changes: &[Change]) -> Verdict {
        self.now = now;
        let mut touched = Touched { before: self.me.as_ref().map(|me| me.epoch), ..Touched::default() };
        let mine = |change: &&Change| matches!(change, Change::Me(_));
        for change in changes.iter().filter(mine).chain(changes.iter().filter(|change| !mine(change))) {
            self.apply(author, change, &mut touched)?;
        }
        touched.entries_cover(self)?;
        let entries = touched.segments.iter().flat_map(|segment| &segment.entries).map(|entry| &entry.what);
        self.tasks.check(&touched.tasks, entries)?;
        for stream in &touched.out {
            self.check_out(*stream)?;
        }
        for stream in &touched.inn {
            self.check_in(*stream)?;
        }
        Ok(())
    }

    fn apply(&mut self, author: PeerId, change: &Change, touched: &mut Touched) -> Verdict {
        match change {
            Change::Me(me) => self.put_me(me),
            Change::Known(known) => self.put_known(author, known),
            Change::Blocked { peer, on } => {
                let new = if *on { self.blocked.insert(*peer) } else { self.blocked.remove(peer) };
                demand!(new && *peer != author, "{peer} is blocked, or not, as before");
                Ok(())
            }
            Change::Letter(letter) => self.put_letter(letter, touched),
            Change::Waiting { k, waits } => self.put_waiting(*k, *waits),
            Change::Key { key, letter, k, digest } => {
                demand!(self.by_id.get(letter) == Some(k), "key {key} of a letter that is not there");
                let before = self.keys.insert(key.clone(), (*letter, *k, *digest));
                demand!(before.is_none(), "key {key} taken twice");
                Ok(())
            }
            Change::Bundle(bundle) => self.put_bundle(bundle, touched),
            Change::DropBundle { stream, first } => {
                let gone = self.bundles.remove(&(*stream, *first));
                self.holders.remove(&(*stream, *first));
                let Some(gone) = gone else { return Err(format!("bundle {stream}/{first} dropped that is not there")) };
                let first = &(*first & !VOID);
                let last = first + gone.ids.len() as u64 - 1;
                touched.out.insert(*stream);
                let all = self.delivered.get(stream).is_some_and(|delivered| Ranges::of(*first, last).minus(delivered).is_empty());
                // The receipt may stand later in the same commit, so this is looked at again at its end.
                if !all {
                    touched.dropped.push((*stream, *first, last));
                }
                Ok(())
            }
            Change::Holders { stream, first, holders } => {
                let key = (*stream, *first);
                demand!(self.bundles.contains_key(&key), "holders of bundle {key:?}, which is not there");
                let peers: BTreeSet<PeerId> = holders.iter().map(|holder| holder.peer).collect();
                demand!(peers.len() == holders.len() && !peers.contains(&author), "bundle {key:?} is held by {holders:?}");
                self.holders.insert(key, holders.clone());
                Ok(())
            }
            Change::Hold(bundle) => self.put_held(author, bundle),
            Change::Unhold { no } => {
                demand!(self.held.remove(no).is_some(), "held bundle {no} is let go of and is not there");
                Ok(())
            }
            Change::KeepReceipt { slot, receipt } => {
                let new = receipt.trusted().map_err(|error| format!("a receipt that is none: {error}"))?;
                demand!(Slot::of(&new) == *slot && slot.author != author, "a receipt is kept where it does not belong");
                let old = self.receipts.get(slot).and_then(|old| old.trusted().ok());
                demand!(old.is_none_or(|old| old.number < new.number), "a receipt is replaced by an older one");
                self.receipts.insert(*slot, receipt.clone());
                Ok(())
            }
            Change::DropReceipt { slot } => {
                demand!(self.receipts.remove(slot).is_some(), "a receipt is dropped that is not there");
                Ok(())
            }
            Change::OutStream(stream) => self.put_out_stream(stream, touched),
            Change::Delivered { stream, first, last, .. } => {
                let delivered = self.delivered.entry(*stream).or_default();
                demand!(first <= last && *first >= 1, "delivered {first}..{last}");
                demand!(Ranges::of(*first, *last).minus(delivered).len() == last - first + 1, "delivered {stream}/{first}..{last} again");
                delivered.insert_range(*first, *last);
                // What was called discarded and turns out to have arrived is not discarded any more.
                if let Some(discarded) = self.discarded.get_mut(stream) {
                    *discarded = discarded.minus(&Ranges::of(*first, *last));
                }
                touched.out.insert(*stream);
                touched.delivered.push((*stream, *first, *last));
                Ok(())
            }
            Change::Discarded { stream, first, last, .. } => {
                let before = [&self.delivered, &self.discarded].map(|ranges| ranges.get(stream).cloned().unwrap_or_default());
                let new = before.iter().all(|before| Ranges::of(*first, *last).minus(before).len() == last - first + 1);
                demand!(new, "{stream}/{first}..{last} is discarded too late");
                self.discarded.entry(*stream).or_default().insert_range(*first, *last);
                touched.out.insert(*stream);
                touched.discarded.push((*stream, *first, *last));
                Ok(())
            }
            Change::ReadBy { stream, first, last, .. } => {
                demand!(first <= last && *first >= 1, "read {first}..{last}");
                self.read_by.entry(*stream).or_default().insert_range(*first, *last);
                touched.out.insert(*stream);
                touched.read_by.push((*stream, *first, *last));
                Ok(())
            }
            Change::InStream(stream) => self.put_in_stream(stream, touched),
            Change::Taken(taken) => self.put_taken(taken, touched),
            Change::Shown { place, missing_before } => self.put_shown(*place, *missing_before, touched),
            Change::OutcomeShown { n, number, .. } => {
                self.put_place(*n, touched)?;
                demand!(self.outcomes.insert(*number, *n).is_none(), "the outcome of order {number} is shown twice");
                touched.outcomes.push(*number);
                Ok(())
            }
            Change::Read { n, at } => {
                demand!((1..=self.last_n).contains(n), "read {n} that is not in the inbox");
                self.read.entry(*n).or_insert(*at);
                Ok(())
            }
            Change::Copied(copied) => self.record.put_copy(copied),
            Change::Prune(pruned) => {
                self.record.prune(pruned);
                Ok(())
            }
            Change::Segment { chain, number, first, body, .. } => self.put_segment(author, (*chain, *number, *first), body, touched),
            other => {
                let epochs = [touched.before, self.me.as_ref().map(|me| me.epoch)];
                let taken = self.tasks.apply(author, epochs, other, &mut touched.tasks)?;
                demand!(taken, "nobody knows what {other:?} does to a disk");
                Ok(())
            }
        }
    }

    fn put_me(&mut self, me: &Me) -> Verdict {
        if let Some(before) = &self.me {
            demand!(me.boot >= before.boot, "boot counter goes back from {} to {}", before.boot, me.boot);
            demand!(me.contact >= before.contact, "card sequence goes back from {} to {}", before.contact, me.contact);
            let changed = me.name != before.name || me.addresses != before.addresses;
            demand!(!changed || me.contact > before.contact, "another card under the same sequence {}", me.contact);
        }
        self.me = Some(me.clone());
        Ok(())
    }

    fn put_known(&mut self, author: PeerId, known: &Known) -> Verdict {
        let contact = known.contact.trusted().map_err(|error| format!("a card that is none: {error}"))?;
        demand!(contact.id != author, "a node keeps itself as a peer");
        if let Some(before) = self.known.get(&contact.id) {
            let old = before.contact.trusted().map_err(|error| format!("a card that is none: {error}"))?;
            demand!(contact.sequence >= old.sequence, "an older card of {} replaces a newer one", contact.name);
            demand!(known.first_seen <= before.first_seen, "first seen moves later: {:?} to {:?}", before.first_seen, known.first_seen);
        }
        self.known.insert(contact.id, known.clone());
        Ok(())
    }

    fn put_letter(&mut self, letter: &SentLetter, touched: &mut Touched) -> Verdict {
        demand!(!letter.to.is_empty(), "letter {} to nobody", letter.id);
        match self.letters.get(&letter.k) {
            None => {
                let next = self.letters.last_key_value().map_or(1, |(k, _)| k + 1);
                demand!(letter.k == next, "letter number {} where {next} was next", letter.k);
                demand!(self.by_id.insert(letter.id, letter.k).is_none(), "two letters are called {}", letter.id);
                touched.accepted.push(letter.k);
            }
            Some(before) => {
                let same = (before.id, &before.kind, &before.payload, before.timestamp, before.in_reply_to)
                    == (letter.id, &letter.kind, &letter.payload, letter.timestamp, letter.in_reply_to);
                demand!(same, "letter {} changed after it was accepted", letter.id);
                let kept = before.to.len() == letter.to.len()
                    && before.to.iter().zip(&letter.to).all(|(old, new)| old.place.is_none() || old.place == new.place);
                demand!(kept, "letter {} lost a recipient", letter.id);
            }
        }
        for place in letter.to.iter().filter_map(|copy| copy.place) {
            let before = self.numbered.insert((place.stream, place.seq), letter.id);
            demand!(before.is_none_or(|id| id == letter.id), "number {}/{} given twice", place.stream, place.seq);
            touched.out.insert(place.stream);
        }
        let mut peers: Vec<PeerId> = letter.to.iter().filter_map(|copy| copy.place.map(|place| place.peer)).collect();
        peers.sort_unstable();
        demand!(peers.windows(2).all(|two| two[0] != two[1]), "two copies of {} to one peer", letter.id);
        self.letters.insert(letter.k, letter.clone());
        touched.letters.insert(letter.k);
        Ok(())
    }

    fn put_waiting(&mut self, k: u64, waits: bool) -> Verdict {
        demand!(self.letters.contains_key(&k), "letter {k} waits and is not there");
        if waits {
            self.waiting.insert(k)
        } else {
            self.waiting.remove(&k)
        };
        Ok(())
    }

    fn put_bundle(&mut self, bundle: &KeptBundle, touched: &mut Touched) -> Verdict {
        let (stream, first) = (bundle.stream, bundle.first);
        demand!(!bundle.ids.is_empty() && first >= 1, "an empty bundle {stream}/{first}");
        let last = first + bundle.ids.len() as u64 - 1;
        let before = self.bundles.range((stream, 0)..=(stream, last)).next_back();
        let apart = before.is_none_or(|((_, begin), kept)| begin + (kept.ids.len() as u64) <= first);
        demand!(apart, "bundle {stream}/{first}..{last} overlaps another one");
        self.bundles.insert((stream, first), bundle.clone());
        touched.out.insert(stream);
        touched.bundles.push((stream, first));
        Ok(())
    }

    fn put_held(&mut self, author: PeerId, bundle: &HeldBundle) -> Verdict {
        let HeldIndex { no, id, mailbox, size, .. } = bundle.index;
        let last = self.held.last_key_value().map_or(0, |(no, _)| *no);
        demand!(no > last, "bundle {no} is held after {last}");
        demand!(mailbox.recipient != author && mailbox.depositor != author, "a node holds mail of its own");
        let twice = self.held.values().any(|other| other.index.id == id);
        demand!(!twice, "{id:?} is held twice");
        demand!(bundle.parcel.bundle.id() == id && bundle.parcel.bundle.size() as u64 == size, "{id:?} is held as another");
        self.held.insert(no, bundle.clone());
        Ok(())
    }

    fn put_out_stream(&mut self, stream: &OutStream, touched: &mut Touched) -> Verdict {
        let no = stream.no;
        match self.out_streams.get(&no) {
            None => {
                let twice = self.out_streams.values().any(|other| (other.peer, other.epoch) == (stream.peer, stream.epoch));
                demand!(!twice, "two outgoing streams to one peer in one epoch");
            }
            Some(before) => {
                demand!((before.peer, before.epoch) == (stream.peer, stream.epoch), "outgoing stream {no} became another");
                demand!(stream.next >= before.next, "next number of {no} goes back from {} to {}", before.next, stream.next);
                demand!(before.delivered.minus(&stream.delivered).is_empty(), "outgoing stream {no} forgets receipts");
                demand!(before.read.minus(&stream.read).is_empty(), "outgoing stream {no} forgets that it was read");
                // But for letters that the recipient turns out to have.
                let lost = |before: &Ranges, after: &Ranges| !before.minus(after).minus(&stream.delivered).is_empty();
                demand!(!lost(&before.voided, &stream.voided), "outgoing stream {no} forgets what the user discarded");
                demand!(!lost(&before.discarded, &stream.discarded), "outgoing stream {no} forgets what is discarded");
                demand!(stream.tried >= before.tried, "outgoing stream {no} forgets what may have left");
            }
        }
        self.out_streams.insert(no, stream.clone());
        touched.out.insert(no);
        Ok(())
    }

    fn put_in_stream(&mut self, stream: &InStream, touched: &mut Touched) -> Verdict {
        let no = stream.no;
        match self.in_streams.get(&no) {
            None => {
                let twice = self.in_streams.values().any(|other| (other.author, other.epoch) == (stream.author, stream.epoch));
                demand!(!twice, "two incoming streams of one author in one epoch");
            }
            Some(before) => {
                demand!((before.author, before.epoch) == (stream.author, stream.epoch), "incoming stream {no} became another");
                demand!(stream.floor >= before.floor, "floor of {no} goes back from {} to {}", before.floor, stream.floor);
                demand!(before.taken.minus(&stream.taken).is_empty(), "incoming stream {no} forgets letters");
                demand!(before.read.minus(&stream.read).is_empty(), "incoming stream {no} forgets what was read");
                demand!(stream.shown >= before.shown, "display of {no} goes back from {} to {}", before.shown, stream.shown);
                // Record numbers begin anew with a new epoch.
                let back = stream.receipt.0 == before.receipt.0 && stream.receipt.1 < before.receipt.1;
                demand!(!back, "receipts of {no} go back from {:?} to {:?}", before.receipt, stream.receipt);
                let twins = before.twins.iter().all(|twin| stream.twins.contains(twin));
                demand!(twins, "incoming stream {no} forgets twins");
            }
        }
        self.in_streams.insert(no, stream.clone());
        touched.inn.insert(no);
        Ok(())
    }

    fn put_taken(&mut self, taken: &Taken, touched: &mut Touched) -> Verdict {
        let key = (taken.stream, taken.seq, taken.twin);
        demand!(taken.envelope.seq == Some(taken.seq), "letter {key:?} says number {:?}", taken.envelope.seq);
        let id = taken.envelope.id;
        for twin in 0..taken.twin {
            let other = self.taken.get(&(taken.stream, taken.seq, twin));
            demand!(other.is_some_and(|other| other.envelope.id != id), "twin {key:?} without its elder, or the same letter");
        }
        demand!(self.taken.insert(key, taken.clone()).is_none(), "letter {key:?} is overwritten");
        if taken.twin == 0 {
            self.taken_numbers.entry(taken.stream).or_default().insert(taken.seq);
        } else {
            self.twins.entry(taken.stream).or_default().insert((taken.seq, taken.twin), id);
        }
        if !taken.silent {
            self.unshown.insert(key, self.now);
        }
        touched.inn.insert(taken.stream);
        touched.taken.push(key);
        Ok(())
    }

    fn put_shown(&mut self, place: Place, missing_before: u64, touched: &mut Touched) -> Verdict {
        let key = (place.stream, place.seq, place.twin);
        demand!(self.taken.contains_key(&key), "{key:?} is shown and was never taken");
        self.put_place(place.n, touched)?;
        demand!(self.places.insert(key, place.n).is_none(), "{key:?} is shown twice");
        self.inbox.insert(place.n, (place, missing_before));
        self.unshown.remove(&key);
        touched.inn.insert(place.stream);
        Ok(())
    }

    fn put_place(&mut self, n: u64, touched: &mut Touched) -> Verdict {
        demand!(n == self.last_n + 1, "place {n} in the inbox after {}", self.last_n);
        self.last_n = n;
        touched.shown.push(n);
        Ok(())
    }

    fn put_segment(&mut self, author: PeerId, (chain, number, first): (u64, u64, u64), body: &[u8], touched: &mut Touched) -> Verdict {
        let segment = segment_of(body).map_err(|error| format!("a segment that is none: {error}"))?;
        demand!((segment.chain, segment.number, segment.first) == (chain, number, first), "a segment's row does not fit it");
        demand!(segment.author == author && !segment.entries.is_empty(), "an empty segment, or somebody else's");
        // More than one only of what would not fit the frame of one.
        demand!(
            touched.segments.is_empty() || touched.segment_bytes > protocol::config::limits::SEGMENT_BYTES / 4,
            "two segments in one commit, of little"
        );
        touched.segment_bytes = body.len();
        let head = self.head.unwrap_or(Head { chain, number: 0, hash: [0; 32], next_entry: 1 });
        demand!(segment.previous.into_array() == head.hash, "segment {chain}/{number} does not cite the one before");
        let next = if chain == head.chain { head.number + 1 } else { 1 };
        demand!(number == next, "segment {chain}/{number} where {next} was next");
        demand!(first == head.next_entry, "entry {first} where {} was next", head.next_entry);
        let next_entry = first + segment.entries.len() as u64;
        self.head = Some(Head { chain, number, hash: Sha256::digest(body).into(), next_entry });
        self.segments += 1;
        self.record.put_own(author, chain, number, body);
        touched.segments.push(segment);
        Ok(())
    }

    /// What must hold of an outgoing stream whenever a commit has touched it.
    fn check_out(&self, no: u32) -> Verdict {
        let Some(stream) = self.out_streams.get(&no) else { return Err(format!("rows of an outgoing stream {no} that is not there")) };
        let mut delivered = self.delivered.get(&no).cloned().unwrap_or_default();
        let discarded = self.discarded.get(&no).cloned().unwrap_or_default();
        demand!(discarded == stream.discarded, "outgoing stream {no} says {:?}, its rows say {discarded:?}", stream.discarded);
        // Of a letter that is discarded the void is receipted, sooner or later.
        let voids = discarded.minus(&discarded.minus(&stream.delivered));
        voids.iter().for_each(|(first, last)| delivered.insert_range(first, last));
        demand!(delivered == stream.delivered, "outgoing stream {no} says {:?}, its rows say {delivered:?}", stream.delivered);
        let read = self.read_by.get(&no).cloned().unwrap_or_default();
        demand!(read == stream.read, "outgoing stream {no} says read {:?}, its rows say {read:?}", stream.read);
        let mut covered = delivered;
        demand!(covered.last().is_none_or(|last| last < stream.next), "delivered {covered:?} below {}", stream.next);
        for ((_, first), bundle) in self.bundles.range((no, 0)..(no, VOID)) {
            covered.insert_range(*first, first + bundle.ids.len() as u64 - 1);
        }
        let whole = if stream.next == 1 { Ranges::default() } else { Ranges::of(1, stream.next - 1) };
        demand!(covered == whole, "outgoing stream {no} gave numbers below {}, but only {covered:?} are delivered or wait", stream.next);
        let numbered = self.numbered.range((no, 0)..=(no, u64::MAX)).next_back().map_or(1, |((_, seq), _)| seq + 1);
        demand!(numbered == stream.next, "outgoing stream {no} says next is {}, its letters say {numbered}", stream.next);
        Ok(())
    }

    /// What must hold of an incoming stream whenever a commit has touched it.
    fn check_in(&self, no: u32) -> Verdict {
        let Some(stream) = self.in_streams.get(&no) else { return Err(format!("rows of an incoming stream {no} that is not there")) };
        let taken = self.taken_numbers.get(&no).cloned().unwrap_or_default();
        demand!(taken == stream.taken, "incoming stream {no} says {:?}, its rows say {taken:?}", stream.taken);
        let rows = self.twins.get(&no).map_or(0, BTreeMap::len);
        demand!(rows == stream.twins.len(), "incoming stream {no} says {:?}, its rows have {rows} twins", stream.twins);
        let late = self.unshown.range((no, 0, 0)..(no, stream.shown, 0)).find(|((_, _, twin), _)| *twin == 0);
        demand!(late.is_none(), "incoming stream {no} has shown all below {}, but not {late:?}", stream.shown);
        Ok(())
    }

    /// What the next start begins with.
    pub(crate) fn kept(&self) -> Kept {
        let floor = |no: u32| self.in_streams.get(&no).map_or(0, |stream| stream.floor);
        let mut recent: BTreeMap<(u32, u64, u8), Recent> = BTreeMap::new();
        for no in self.in_streams.keys() {
            for (key, taken) in self.taken.range((*no, floor(*no), 0)..=(*no, u64::MAX, u8::MAX)) {
                recent.insert(*key, recent_of(taken, self.unshown.contains_key(key)));
            }
        }
        for key in self.unshown.keys() {
            recent.insert(*key, recent_of(&self.taken[key], true));
        }
        let index = |((stream, first), kept): (&(u32, u64), &KeptBundle)| BundleIndex {
            stream: *stream,
            first: *first,
            ids: kept.ids.clone(),
            id: kept.bundle.id(),
            size: kept.bundle.size(),
            holders: self.holders.get(&(*stream, *first)).cloned().unwrap_or_default(),
        };
        let mut kept = Kept {
            me: self.me.clone(),
            head: self.head,
            known: self.known.values().cloned().collect(),
            blocked: self.blocked.clone(),
            out_streams: self.out_streams.values().cloned().collect(),
            bundles: self.bundles.iter().map(index).collect(),
            held: self.held.values().map(|bundle| bundle.index).collect(),
            receipts: self.receipts.values().cloned().collect(),
            in_streams: self.in_streams.values().cloned().collect(),
            recent: recent.into_values().collect(),
            waiting: self.waiting.iter().map(|k| self.letters[k].clone()).collect(),
            next_letter: self.letters.last_key_value().map_or(1, |(k, _)| k + 1),
            next_n: self.last_n + 1,
            ..Kept::default()
        };
        self.tasks.fill(&mut kept);
        self.record.fill(&mut kept);
        kept
    }

    /// Answers what a node asked of it.
    pub(crate) fn recall(&self, recall: &Recall) -> Recalled {
        match recall {
            Recall::Letters { stream, numbers, token } => {
                let rows = numbers.iter().flat_map(|(first, last)| self.taken.range((*stream, first, 0)..=(*stream, last, u8::MAX)));
                let found = rows.map(|((_, seq, _), taken)| (*seq, taken.envelope.id)).collect();
                Recalled::Letters { token: *token, found }
            }
            Recall::Written { stream, numbers, token } => {
                let rows = numbers.iter().flat_map(|(first, last)| self.numbered.range((*stream, first)..=(*stream, last)));
                Recalled::Written { token: *token, found: rows.map(|((_, seq), id)| (*seq, *id)).collect() }
            }
            Recall::Key { key } => {
                let found = self.keys.get(key).map(|(letter, k, digest)| Earlier { letter: *letter, k: *k, digest: *digest });
                Recalled::Key { key: key.clone(), found }
            }
            Recall::Segment { from, head } => Recalled::Segment { from: *from, head: *head, known: self.record.stands(head) },
            Recall::OrderKey { key } => Recalled::OrderKey { key: key.clone(), found: self.tasks.keys.get(key).copied() },
        }
    }

    /// Copies of letters that wait here for a receipt, or for the first bearer of a name. A bundle waits as a whole.
    pub(crate) fn waiting_copies(&self) -> u64 {
        let nameless = |k: &u64| self.letters[k].to.iter().filter(|copy| copy.place.is_none()).count();
        let letters = self.bundles.iter().filter(|((_, first), _)| *first < VOID);
        let bundled: usize = letters.map(|(_, kept)| kept.ids.len()).sum();
        (bundled + self.waiting.iter().map(nameless).sum::<usize>()) as u64
    }

    /// Whether this copy of a letter is receipted; none if the letter or the copy is not here.
    pub(crate) fn is_delivered(&self, letter: LetterId, to: PeerId) -> Option<bool> {
        let letter = &self.letters[self.by_id.get(&letter)?];
        let place = letter.to.iter().filter_map(|copy| copy.place).find(|place| place.peer == to)?;
        Some(self.out_streams.get(&place.stream).is_some_and(|stream| stream.delivered.contains(place.seq)))
    }

    /// Bytes of all bundles that wait.
    pub(crate) fn outbox_bytes(&self) -> u64 {
        self.bundles.values().map(|kept| kept.bundle.size() as u64).sum()
    }

    /// The sequence of the next record entry.
    pub(crate) fn next_entry(&self) -> u64 {
        self.head.map_or(1, |head| head.next_entry)
    }
}

fn recent_of(taken: &Taken, unshown: bool) -> Recent {
    Recent { stream: taken.stream, seq: taken.seq, letter: taken.envelope.id, unshown }
}

/// What one commit has touched, to be looked at when all of it is in.
#[derive(Default)]
struct Touched {
    /// The memory that the node had before.
    before: Option<Epoch>,
    out: BTreeSet<u32>,
    inn: BTreeSet<u32>,
    letters: BTreeSet<u64>,
    accepted: Vec<u64>,
    bundles: Vec<(u32, u64)>,
    dropped: Vec<(u32, u64, u64)>,
    delivered: Vec<(u32, u64, u64)>,
    discarded: Vec<(u32, u64, u64)>,
    read_by: Vec<(u32, u64, u64)>,
    taken: Vec<(u32, u64, u8)>,
    shown: Vec<u64>,
    outcomes: Vec<u64>,
    segments: Vec<Segment>,
    /// Of the last of them.
    segment_bytes: usize,
    tasks: tasks::Touched,
}

impl Touched {
    /// What was done is written down in the same commit, and rows that belong together are all there.
    fn entries_cover(&self, disk: &Disk) -> Verdict {
        let mut accepted: BTreeSet<LetterId> = BTreeSet::new();
        let mut delivered: BTreeMap<(PeerId, u64), Ranges> = BTreeMap::new();
        let mut read: BTreeMap<(PeerId, u64), Ranges> = BTreeMap::new();
        let mut discarded: BTreeMap<(PeerId, u64), Ranges> = BTreeMap::new();
        let mut taken: BTreeMap<(PeerId, u64), Ranges> = BTreeMap::new();
        let mut shown = Ranges::default();
        for entry in self.segments.iter().flat_map(|segment| &segment.entries) {
            match &entry.what {
                What::LetterAccepted { letter, .. } => drop(accepted.insert(*letter)),
                What::LettersDelivered { to, epoch, first, last } => {
                    delivered.entry((*to, epoch.0)).or_default().insert_range(*first, *last)
                }
                What::LettersDiscarded { to, epoch, first, last } => {
                    discarded.entry((*to, epoch.0)).or_default().insert_range(*first, *last)
                }
                What::LettersRead { by, epoch, first, last } => read.entry((*by, epoch.0)).or_default().insert_range(*first, *last),
                What::LettersTaken { author, epoch, first, last } => {
                    taken.entry((*author, epoch.0)).or_default().insert_range(*first, *last)
                }
                What::LettersShown { first, last } => shown.insert_range(*first, *last),
                _ => {}
            }
        }
        let within = |ranges: &BTreeMap<(PeerId, u64), Ranges>, key: (PeerId, u64), first, last| {
            ranges.get(&key).is_some_and(|ranges| Ranges::of(first, last).minus(ranges).is_empty())
        };
        let out = |no: &u32| disk.out_streams.get(no).map(|stream| (stream.peer, stream.epoch.0));
        let inn = |no: &u32| disk.in_streams.get(no).map(|stream| (stream.author, stream.epoch.0));
        for k in &self.accepted {
            let id = disk.letters[k].id;
            demand!(accepted.contains(&id), "letter {id} was accepted without an entry in the record");
        }
        for (stream, first, last) in &self.delivered {
            let noted = out(stream).is_some_and(|key| within(&delivered, key, *first, *last));
            demand!(noted, "{stream}/{first}..{last} were receipted without an entry in the record");
        }
        for (stream, first, last) in &self.discarded {
            let noted = out(stream).is_some_and(|key| within(&discarded, key, *first, *last));
            demand!(noted, "{stream}/{first}..{last} were discarded without an entry in the record");
        }
        for (stream, first, last) in &self.read_by {
            let noted = out(stream).is_some_and(|key| within(&read, key, *first, *last));
            demand!(noted, "{stream}/{first}..{last} were read without an entry in the record");
        }
        for (stream, seq, twin) in &self.taken {
            let noted = inn(stream).is_some_and(|key| within(&taken, key, *seq, *seq));
            demand!(noted, "{stream}/{seq}/{twin} was taken without an entry in the record");
        }
        for n in &self.shown {
            demand!(shown.contains(*n), "inbox {n} was shown without an entry in the record");
        }
        let shown: BTreeSet<u64> = self.outcomes.iter().copied().collect();
        demand!(shown == self.tasks.ended_orders(), "the outcomes of {shown:?} are shown, of {:?} written", self.tasks.ended_orders());
        for (stream, first, last) in &self.dropped {
            let all = disk.out_streams.get(stream).is_some_and(|row| Ranges::of(*first, *last).minus(&row.delivered).is_empty());
            demand!(all, "bundle {stream}/{first}..{last} is dropped and not all of it is receipted");
        }
        for key in &self.bundles {
            // A bundle can be receipted and dropped in the commit that writes it.
            let Some(kept) = disk.bundles.get(key) else { continue };
            for (seq, id) in (key.1 & !VOID..).zip(&kept.ids) {
                let stands = disk.numbered.get(&(key.0, seq)).map(|id| if key.1 < VOID { *id } else { void_of(*id) });
                demand!(stands == Some(*id), "bundle {key:?} holds {id} as {seq}, which no letter says");
            }
        }
        for k in &self.letters {
            let nameless = disk.letters[k].to.iter().any(|copy| copy.place.is_none());
            demand!(nameless || !disk.waiting.contains(k), "letter {k} waits for a name, or does not, and its row says otherwise");
        }
        Ok(())
    }
}
