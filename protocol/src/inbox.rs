//! Letters to this node, from committed to read, and the outcomes of its orders among them.
//! Knows nothing of who carried them. A letter is entered once, however often it comes: every number ever committed is
//! remembered, with the letter under it; there is no window.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::bundle::Contents;
use crate::config::{Config, limits};
use crate::edge::Cause;
use crate::effect::{Change, Effect, InStream, Out, Recent, Say, Taken};
use crate::envelope::{Envelope, Kind, Payload, excludes, outcome_of};
use crate::id::{BundleId, Epoch, LetterId};
use crate::input::{OUTCOMES, Place, Recall};
use crate::now::Now;
use crate::order::OrderKey;
use crate::ranges::Ranges;
use crate::receipt::{Receipt, Sum, digest};
use crate::report_letter;
use crate::segment::What;

/// Bytes of a letter that a notice shows, at most.
const PREVIEW: usize = 200;
/// Letters held back whose beginnings are kept too (guess); further ones are shown without.
const HELD_PREVIEWS: usize = 1_024;
/// What a letter takes on the disk beside its payload (guess).
const AROUND: u64 = 256;
/// Lookups under way at most (guess: each holds at most one bundle of letters); more are dropped, and come again.
const RECALLS: usize = 64;
/// Further letters under known numbers that are remembered for one stream (guess; they come only from memories that jumped back).
const TWINS: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    me: PeerId,
    config: Config,
    streams: BTreeMap<(PeerId, Epoch), Stream>,
    by_no: BTreeMap<u32, (PeerId, Epoch)>,
    next_n: u64,
    /// Authors to whom receipts are to be sent again, and when.
    again: BTreeMap<PeerId, Duration>,
    /// Streams whose author should get a receipt with this batch.
    touched: BTreeSet<(PeerId, Epoch)>,
    recalls: BTreeMap<u64, Pending>,
    next_token: u64,
    /// Inbox numbers given in this batch.
    shown: Option<(u64, u64)>,
}

/// What became of a bundle.
#[derive(Debug, Default)]
pub(crate) struct Entered {
    /// Letters that got their place in the inbox.
    pub(crate) shown: Vec<Shown>,
    /// Some were left out: too much is missing before them.
    pub(crate) scattered: bool,
    /// The bundle, if all that is in it is committed with this batch.
    pub(crate) whole: Option<BundleId>,
}

/// A letter that got its place in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) n: u64,
    pub(crate) author: PeerId,
    pub(crate) letter: LetterId,
    pub(crate) preview: String,
    pub(crate) missing_before: u64,
}

#[derive(Debug)]
struct Stream {
    row: InStream,
    /// Letters at or above the floor.
    recent: BTreeMap<u64, (LetterId, Sum)>,
    digest: Sum,
    /// Committed, without a place in the inbox: something before them is missing.
    held: BTreeMap<u64, Held>,
    /// The same by the time since which they wait.
    held_since: BTreeSet<(Duration, u64)>,
    changed: bool,
    /// Committed in this batch.
    taken: Ranges,
    /// Read in this batch.
    read: Ranges,
}

#[derive(Debug)]
struct Held {
    letter: LetterId,
    preview: String,
    since: Duration,
}

/// What a lookup is for.
#[derive(Debug)]
enum Pending {
    /// Letters under numbers that are known but not in memory.
    Doubtful {
        stream: (PeerId, Epoch),
        envelopes: Vec<Envelope>,
        /// The bundle they came in, if all else in it is committed.
        bundle: Option<BundleId>,
    },
    /// An author asks what we have.
    Asked { stream: (PeerId, Epoch) },
}

impl Inbox {
    /// Goes on where the disk ends.
    pub(crate) fn new(me: PeerId, config: &Config, streams: Vec<InStream>, recent: Vec<Recent>, next_n: u64, now: Now) -> Self {
        let mut inbox = Inbox {
            me,
            config: config.clone(),
            streams: BTreeMap::new(),
            by_no: BTreeMap::new(),
            next_n: next_n.max(1),
            again: BTreeMap::new(),
            touched: BTreeSet::new(),
            recalls: BTreeMap::new(),
            next_token: 1,
            shown: None,
        };
        for row in streams {
            inbox.by_no.insert(row.no, (row.author, row.epoch));
            inbox.streams.insert((row.author, row.epoch), Stream::new(row));
        }
        for letter in recent {
            let Some(stream) = inbox.by_no.get(&letter.stream).and_then(|place| inbox.streams.get_mut(place)) else { continue };
            if letter.seq >= stream.row.floor {
                stream.remember(letter.seq, letter.letter);
            }
            if letter.unshown {
                stream.hold(letter.seq, Held { letter: letter.letter, preview: String::new(), since: now.mono });
            }
        }
        inbox
    }

    /// A bundle was opened: what is new in it is committed.
    ///
    /// # Errors
    /// More epochs of one author than are remembered; nothing was taken.
    pub(crate) fn on_bundle(&mut self, bundle: BundleId, contents: Contents, now: Now, out: &mut Out) -> Result<Entered, Cause> {
        let place = (contents.author, contents.epoch);
        self.open_stream(place)?;
        let mut shown = Vec::new();
        let mut doubtful = Vec::new();
        let mut scattered = false;
        let stream = self.streams.get_mut(&place).expect("just opened");
        stream.raise_floor(contents.floor);
        self.touched.insert(place);
        for envelope in contents.envelopes {
            let seq = envelope.seq.expect("checked at the edge: every letter in a bundle is numbered");
            let stream = self.streams.get_mut(&place).expect("just opened");
            if !stream.row.taken.contains(seq) {
                if stream.row.taken.pieces() >= limits::PIECES && !stream.continues(seq) {
                    scattered = true;
                    continue;
                }
                stream.row.taken.insert(seq);
                stream.taken.insert(seq);
                if seq >= stream.row.floor {
                    stream.remember(seq, envelope.id);
                }
                self.take(place, seq, 0, envelope, now, out, &mut shown);
            } else if !stream.knows(seq, envelope.id) {
                // Known by number, but the letter is not in memory: the disk tells which it was.
                doubtful.push(envelope);
            }
        }
        let whole = (doubtful.is_empty() && !scattered).then_some(bundle);
        if !doubtful.is_empty() {
            let bundle = (!scattered).then_some(bundle);
            self.recall(Pending::Doubtful { stream: place, envelopes: doubtful, bundle }, out);
        }
        self.release(place, now, out, &mut shown);
        Ok(Entered { shown, scattered, whole })
    }

    /// The disk was asked which letters it has.
    pub(crate) fn on_recalled(&mut self, token: u64, found: Vec<(u64, LetterId)>, now: Now, out: &mut Out) -> Entered {
        let mut entered = Entered::default();
        let shown = &mut entered.shown;
        match self.recalls.remove(&token) {
            Some(Pending::Asked { stream: (author, epoch) }) => {
                let ids = found.into_iter().take(limits::PAGE * limits::IDS_PER_ITEM).collect();
                out.send(author, Say::Ids { epoch, ids });
            }
            Some(Pending::Doubtful { stream: place, envelopes, bundle }) => {
                entered.whole = bundle;
                for envelope in envelopes {
                    let seq = envelope.seq.expect("checked at the edge");
                    let stream = self.streams.get_mut(&place).expect("streams are never removed");
                    // A second lookup of the same letter may have been under way.
                    let settled = |(number, id): &(u64, LetterId)| *number == seq && (*id == envelope.id || excludes(*id, envelope.id));
                    if found.iter().any(settled) || stream.knows(seq, envelope.id) {
                        continue;
                    }
                    let before = stream.row.twins.iter().filter(|(number, _)| *number == seq).count();
                    let Some(twin) = u8::try_from(before + 1).ok().filter(|_| stream.row.twins.len() < TWINS) else {
                        entered.whole = None;
                        continue;
                    };
                    stream.row.twins.insert((seq, envelope.id));
                    stream.taken.insert(seq);
                    self.take(place, seq, twin, envelope, now, out, shown);
                }
                self.touched.insert(place);
            }
            None => {}
        }
        entered
    }

    /// The disk could not be asked: whoever needs the answer comes again.
    pub(crate) fn on_recall_failed(&mut self, token: u64) {
        self.recalls.remove(&token);
    }

    /// An author asks which letters we have under numbers of his.
    pub(crate) fn on_ask_ids(&mut self, author: PeerId, epoch: Epoch, numbers: Ranges, out: &mut Out) -> Result<(), Cause> {
        if numbers.len() > (limits::PAGE * limits::IDS_PER_ITEM) as u64 {
            return Err(Cause::Malformed);
        }
        let place = (author, epoch);
        let Some(stream) = self.streams.get(&place) else { return Err(Cause::Unexpected) };
        let (no, token) = (stream.row.no, self.next_token);
        if self.recalls.len() < RECALLS {
            self.next_token += 1;
            self.recalls.insert(token, Pending::Asked { stream: place });
            out.effects.push(Effect::Recall(Recall::Letters { stream: no, numbers, token }));
        }
        Ok(())
    }

    /// An order of this node has ended: its outcome gets its place among the letters. It takes no room of what an author may have
    /// unread here.
    pub(crate) fn on_order_ended(&mut self, order: OrderKey, out: &mut Out) {
        let n = self.give_place();
        out.store(Change::OutcomeShown { n, number: order.number, id: outcome_of(order) });
    }

    /// These letters were read.
    pub(crate) fn mark_read(&mut self, letters: &[Place], now: Now, out: &mut Out) {
        for letter in letters {
            if letter.stream == OUTCOMES {
                // Nobody is told, and of several times the disk keeps the first.
                out.store(Change::Read { n: letter.n, at: now.wall });
            }
            let Some(place) = self.by_no.get(&letter.stream) else { continue };
            let stream = self.streams.get_mut(place).expect("by_no names streams");
            let first = letter.twin > 0 || stream.row.read.insert(letter.seq);
            if first {
                // Sizes are not remembered one by one: what is read is as large as the others.
                let unread = stream.row.taken.len().saturating_sub(stream.row.read.len()) + 1;
                stream.row.unread_bytes -= stream.row.unread_bytes / unread;
                stream.read.insert(letter.seq);
                stream.changed = true;
                self.touched.insert(*place);
                out.store(Change::Read { n: letter.n, at: now.wall });
            }
        }
    }

    /// The network dropped frames to this author: its receipts may be among them, and go again a little later.
    pub(crate) fn on_send_failed(&mut self, author: PeerId, now: Now) {
        if self.streams.range((author, Epoch(0))..=(author, Epoch(u64::MAX))).next().is_some() {
            self.again.entry(author).or_insert(now.mono + self.config.refused_wait);
        }
    }

    /// The author can be reached again: it may have missed receipts.
    pub(crate) fn on_reachable(&mut self, author: PeerId) {
        let streams = self.streams.range((author, Epoch(0))..=(author, Epoch(u64::MAX)));
        self.touched.extend(streams.map(|(place, _)| *place));
    }

    /// Gaps that were waited for long enough are passed over, and receipts that were dropped go again.
    pub(crate) fn tick(&mut self, now: Now, out: &mut Out) -> Vec<Shown> {
        let again: Vec<PeerId> = self.again.extract_if(.., |_, at| *at <= now.mono).map(|(author, _)| author).collect();
        again.into_iter().for_each(|author| self.on_reachable(author));
        let due: Vec<(PeerId, Epoch)> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.gap_at(&self.config).is_some_and(|at| at <= now.mono))
            .map(|(place, _)| *place)
            .collect();
        let mut shown = Vec::new();
        for place in due {
            self.release(place, now, out, &mut shown);
        }
        shown
    }

    /// When [`Inbox::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.streams.values().filter_map(|stream| stream.gap_at(&self.config)).chain(self.again.values().copied()).min()
    }

    /// Ends a batch: writes what changed and makes the receipts that go with it, under the record number of this commit.
    pub(crate) fn close(&mut self, epoch: Epoch, number: u64, out: &mut Out) -> Vec<Receipt> {
        if let Some((first, last)) = self.shown.take() {
            out.note(What::LettersShown { first, last });
        }
        let mut receipts = Vec::new();
        for place in std::mem::take(&mut self.touched) {
            let stream = self.streams.get_mut(&place).expect("only streams are touched");
            for (first, last) in std::mem::take(&mut stream.taken).iter() {
                out.note(What::LettersTaken { author: place.0, epoch: place.1, first, last });
                stream.changed = true;
            }
            for (first, last) in std::mem::take(&mut stream.read).iter() {
                out.note(What::LettersRead { by: self.me, epoch: place.1, first, last });
            }
            // Numbers belong to an epoch: under a new one also what did not change is signed anew.
            if std::mem::take(&mut stream.changed) || stream.row.receipt.0 != epoch {
                stream.row.receipt = (epoch, number);
                out.store(Change::InStream(stream.row.clone()));
            }
            if !stream.row.taken.is_empty() {
                receipts.push(stream.receipt(self.me, &self.config));
            }
        }
        receipts
    }

    /// The latest receipt of a stream.
    pub(crate) fn receipt(&self, place: (PeerId, Epoch)) -> Option<Receipt> {
        self.streams.get(&place).filter(|stream| !stream.row.taken.is_empty()).map(|stream| stream.receipt(self.me, &self.config))
    }

    /// All streams: author and epoch of each.
    pub(crate) fn places(&self) -> impl Iterator<Item = (PeerId, Epoch)> + '_ {
        self.streams.keys().copied()
    }

    /// Whether as much of an author is unread as may be.
    pub(crate) fn is_full_of(&self, author: PeerId) -> bool {
        let streams = self.streams.range((author, Epoch(0))..=(author, Epoch(u64::MAX)));
        streams.map(|(_, stream)| stream.row.unread_bytes).sum::<u64>() >= self.config.inbox_bytes_author
    }

    /// The next inbox number.
    pub(crate) fn next_n(&self) -> u64 {
        self.next_n
    }

    // -- private

    fn open_stream(&mut self, place: (PeerId, Epoch)) -> Result<(), Cause> {
        if self.streams.contains_key(&place) {
            return Ok(());
        }
        let epochs = self.streams.range((place.0, Epoch(0))..=(place.0, Epoch(u64::MAX))).count();
        if epochs >= self.config.epochs_per_author {
            return Err(Cause::Full);
        }
        let no = self.by_no.last_key_value().map_or(1, |(no, _)| no + 1);
        let row = InStream {
            no,
            author: place.0,
            epoch: place.1,
            floor: 1,
            taken: Ranges::default(),
            read: Ranges::default(),
            shown: 1,
            last: 0,
            receipt: (Epoch::default(), 0),
            unread_bytes: 0,
            twins: BTreeSet::new(),
        };
        self.by_no.insert(no, place);
        self.streams.insert(place, Stream::new(row));
        Ok(())
    }

    fn recall(&mut self, pending: Pending, out: &mut Out) {
        if self.recalls.len() >= RECALLS {
            return;
        }
        let Pending::Doubtful { stream: place, envelopes, .. } = &pending else { return };
        let mut numbers = Ranges::default();
        envelopes.iter().filter_map(|envelope| envelope.seq).for_each(|seq| numbers.insert_range(seq, seq));
        let stream = self.streams[place].row.no;
        let token = self.next_token;
        self.next_token += 1;
        self.recalls.insert(token, pending);
        out.effects.push(Effect::Recall(Recall::Letters { stream, numbers, token }));
    }

    /// Commits one letter; those that do not come in order are held back.
    #[expect(clippy::too_many_arguments, reason = "one letter, its place, the time and two outputs")]
    fn take(
        &mut self,
        place: (PeerId, Epoch),
        seq: u64,
        twin: u8,
        mut envelope: Envelope,
        now: Now,
        out: &mut Out,
        shown: &mut Vec<Shown>,
    ) {
        let stream = self.streams.get_mut(&place).expect("the caller has found it");
        stream.changed = true;
        let (letter, preview) = (envelope.id, preview(&envelope));
        // A void is for nobody's eyes, and what a worker reports by letter is told by the outcome of the order.
        let silent = envelope.known_kind() == Some(Kind::Void) || report_letter::is_for(&self.me, &envelope);
        if silent {
            // Nobody will read it: it takes no room among what is unread, and next to none on the disk.
            stream.row.read.insert(seq);
            envelope.payload = Payload::Nothing;
        } else {
            stream.row.unread_bytes += envelope.payload_bytes() as u64 + AROUND;
        }
        let no = stream.row.no;
        let late = seq < stream.row.shown;
        out.store(Change::Taken(Box::new(Taken { stream: no, seq, twin, received: now.wall, silent, envelope })));
        if silent {
            return;
        }
        if late || twin > 0 {
            self.show(place, seq, twin, Held { letter, preview, since: now.mono }, out, shown);
        } else {
            let preview = if stream.held.len() < HELD_PREVIEWS { preview } else { String::new() };
            stream.hold(seq, Held { letter, preview, since: now.mono });
        }
    }

    /// Gives places to all that is held and in order, and to what was held long enough.
    fn release(&mut self, place: (PeerId, Epoch), now: Now, out: &mut Out, shown: &mut Vec<Shown>) {
        loop {
            let (wait, most) = (self.config.gap_wait, self.config.held_letters);
            let stream = self.streams.get_mut(&place).expect("the caller has found it");
            let in_order = stream.row.taken.first_missing(stream.row.shown);
            // Nothing below the author's floor comes any more: what we do not have was receipted by a memory of ours that is gone.
            let reach = match stream.row.taken.first_present(in_order) {
                Some(next) if next <= stream.row.floor => next,
                _ => in_order.max(stream.row.floor),
            };
            if reach > stream.row.shown {
                let ready: Vec<u64> = stream.held.range(..reach).map(|(seq, _)| *seq).collect();
                for seq in ready {
                    self.show_held(place, seq, out, shown);
                }
                self.streams.get_mut(&place).expect("the caller has found it").pass_over(reach);
                continue;
            }
            let overdue = stream.held.len() > most || stream.held_since.first().is_some_and(|(since, _)| *since + wait <= now.mono);
            let Some(seq) = stream.held.first_key_value().map(|(seq, _)| *seq).filter(|_| overdue) else { return };
            self.touched.insert(place);
            self.show_held(place, seq, out, shown);
        }
    }

    /// Gives its place to a letter that was held.
    fn show_held(&mut self, place: (PeerId, Epoch), seq: u64, out: &mut Out, shown: &mut Vec<Shown>) {
        let stream = self.streams.get_mut(&place).expect("the caller has found it");
        let held = stream.unhold(seq);
        stream.pass_over(seq + 1);
        self.show(place, seq, 0, held, out, shown);
    }

    fn give_place(&mut self) -> u64 {
        let n = self.next_n;
        self.next_n += 1;
        self.shown = Some((self.shown.map_or(n, |(first, _)| first), n));
        n
    }

    fn show(&mut self, place: (PeerId, Epoch), seq: u64, twin: u8, held: Held, out: &mut Out, shown: &mut Vec<Shown>) {
        let n = self.give_place();
        let stream = self.streams.get_mut(&place).expect("the caller has found it");
        // What is missing was told already where a later one is in the inbox. Another letter under a known number stands out of the order,
        // and may have come before those that it would be told of: the first one under that number says it.
        let missing_before = if twin > 0 {
            0
        } else {
            let told = stream.row.last;
            stream.row.last = told.max(seq);
            Ranges::of(told + 1, seq - 1).minus(&stream.row.taken).len()
        };
        stream.changed = true;
        out.store(Change::Shown { place: Place { stream: stream.row.no, seq, twin, n }, missing_before });
        shown.push(Shown { n, author: place.0, letter: held.letter, preview: held.preview, missing_before });
    }
}

impl Stream {
    fn new(row: InStream) -> Self {
        Stream {
            row,
            recent: BTreeMap::new(),
            digest: Sum::default(),
            held: BTreeMap::new(),
            held_since: BTreeSet::new(),
            changed: false,
            taken: Ranges::default(),
            read: Ranges::default(),
        }
    }

    fn remember(&mut self, seq: u64, letter: LetterId) {
        // Of several letters under one number the first counts, here and after a start.
        self.recent.entry(seq).or_insert_with(|| {
            let sum = digest(seq, letter);
            self.digest = self.digest.plus(sum);
            (letter, sum)
        });
    }

    fn raise_floor(&mut self, floor: u64) {
        if floor <= self.row.floor {
            return;
        }
        self.row.floor = floor;
        self.changed = true;
        let rest = self.recent.split_off(&floor);
        for (_, sum) in std::mem::replace(&mut self.recent, rest).into_values() {
            self.digest = self.digest.minus(sum);
        }
    }

    /// Whether memory proves that this very letter was committed, or its void, or that it is the void of one that was.
    fn knows(&self, seq: u64, letter: LetterId) -> bool {
        self.recent.get(&seq).is_some_and(|(known, _)| *known == letter || excludes(*known, letter))
            || self
                .row
                .twins
                .range((seq, LetterId::new([0; 16]))..=(seq, LetterId::new([255; 16])))
                .any(|(_, known)| *known == letter || excludes(*known, letter))
    }

    /// Whether a number touches one that was committed: it begins no new range.
    fn continues(&self, seq: u64) -> bool {
        self.row.taken.contains(seq - 1) || self.row.taken.contains(seq + 1)
    }

    fn gap_at(&self, config: &Config) -> Option<Duration> {
        self.held_since.first().map(|(since, _)| *since + config.gap_wait)
    }

    /// Waits no longer for anything below `reach`.
    fn pass_over(&mut self, reach: u64) {
        if reach > self.row.shown {
            self.row.shown = reach;
            self.changed = true;
        }
    }

    fn hold(&mut self, seq: u64, held: Held) {
        self.held_since.insert((held.since, seq));
        self.held.insert(seq, held);
    }

    fn unhold(&mut self, seq: u64) -> Held {
        let held = self.held.remove(&seq).expect("the caller has seen it");
        self.held_since.remove(&(held.since, seq));
        held
    }

    fn receipt(&self, me: PeerId, config: &Config) -> Receipt {
        let mut read = self.row.read.clone();
        read.keep_highest(config.read_ranges);
        Receipt {
            recipient: me,
            recipient_epoch: self.row.receipt.0,
            number: self.row.receipt.1,
            author: self.row.author,
            epoch: self.row.epoch,
            floor: self.row.floor,
            taken: self.row.taken.from(self.row.floor),
            digest: self.digest,
            read,
        }
    }
}

fn preview(envelope: &Envelope) -> String {
    let cut = |text: &str| text[..text.floor_char_boundary(PREVIEW)].to_owned();
    match &envelope.payload {
        Payload::Text(text) => cut(text),
        _ => format!("({})", envelope.kind),
    }
}

#[cfg(test)]
mod tests {
    use serde_bytes::ByteArray;

    use super::*;
    use crate::bundle::{SUITE, Secrets};
    use crate::contact::Contact;
    use crate::edge::Edge;
    use crate::id::MachineId;
    use crate::now::Timestamp;

    const EPOCH: Epoch = Epoch(7);

    fn secrets(n: u8) -> Secrets {
        Secrets::from_seeds(&[n; 32], &[n; 32])
    }

    fn now(s: u64) -> Now {
        Now { mono: Duration::from_secs(s), wall: Timestamp(1_000 * s) }
    }

    /// Letters of peer 2, each its number and the first byte of its id.
    fn contents(letters: &[(u64, u8)]) -> Contents {
        let author = secrets(2);
        let envelope = |(seq, id): &(u64, u8)| Envelope {
            kind: "message".to_owned(),
            author: author.id(),
            recipients: vec![secrets(1).id()],
            payload: Payload::Text("Hello".to_owned()),
            timestamp: Timestamp(1),
            id: LetterId::new([*id; 16]),
            seq: Some(*seq),
            in_reply_to: None,
        };
        let contact = Contact {
            id: author.id(),
            name: "bea".parse().expect("a name"),
            machine: MachineId::new([2; 16]),
            suite: SUITE,
            encryption_key: ByteArray::new(author.encryption_key()),
            key: author.key_id(),
            addresses: Vec::new(),
            sequence: 1,
        };
        let (id, envelopes) = (author.id(), letters.iter().map(envelope).collect());
        Contents { author: id, epoch: EPOCH, floor: 1, contact: Edge::new(author, "lan".to_owned()).sign(&contact), envelopes }
    }

    #[test]
    fn what_is_missing_is_told_by_the_letter_behind_it_though_another_under_a_later_number_came_first() {
        let mut inbox = Inbox::new(secrets(1).id(), &Config::default(), Vec::new(), Vec::new(), 1, now(0));
        let mut out = Out::default();
        let bundle = BundleId::new([1; 32]);
        let took = |inbox: &mut Inbox, letters: &[(u64, u8)], out: &mut Out| {
            let entered = inbox.on_bundle(bundle, contents(letters), now(0), out).expect("it is taken");
            entered.shown.iter().map(|shown| (shown.letter, shown.missing_before)).collect::<Vec<_>>()
        };
        let id = |n: u8| LetterId::new([n; 16]);
        assert_eq!(took(&mut inbox, &[(1, 1), (3, 3), (4, 4)], &mut out), [(id(1), 0)], "the second is waited for");
        // Its author was put back: one more letter under the number of the fourth.
        assert_eq!(took(&mut inbox, &[(4, 5)], &mut out), []);
        let shown = inbox.on_recalled(1, vec![(4, id(4))], now(0), &mut out).shown;
        assert_eq!(shown.iter().map(|shown| (shown.letter, shown.missing_before)).collect::<Vec<_>>(), [(id(5), 0)]);
        let shown = inbox.tick(now(3_600), &mut out);
        assert_eq!(shown.iter().map(|shown| (shown.letter, shown.missing_before)).collect::<Vec<_>>(), [(id(3), 1), (id(4), 0)]);
    }
}
