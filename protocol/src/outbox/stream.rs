//! What is written to one recipient under one epoch: numbers given, bundles that wait, and what of them is on its way.
//! Knows nothing of where the letters came from, nor of the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::Config;
use crate::effect::{BundleIndex, OutStream, VOID};
use crate::envelope::void_of;
use crate::id::{BundleId, LetterId};
use crate::mail::Holder;
use crate::ranges::Ranges;
use crate::receipt::{Sum, digest};
use crate::sums::Sums;

/// Bytes that go again when nothing was heard for a while: enough to learn what arrived, too little to get in the way (guess:
/// RFC 9002 section 6.2.4 sends one or two packets).
const PROBE_BYTES: usize = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) row: OutStream,
    pub(super) dirty: bool,
    /// The next number to give; those up to `row.next` are committed.
    pub(super) next: u64,
    /// Numbers below are in a draft or a bundle.
    pub(super) drafted: u64,
    pub(super) sums: Sums,
    pub(super) asked: Ranges,
    pub(super) asked_at: Duration,
    /// What the recipient last said it has read.
    pub(super) claimed: Ranges,
    bundles: BTreeMap<u64, Waiting>,
    flight: Flight,
}

#[derive(Debug)]
struct Waiting {
    id: BundleId,
    ids: Vec<LetterId>,
    size: usize,
    /// Custodians that have acknowledged a flushed copy.
    holders: Vec<Holder>,
    /// Its place in the order in which bundles left, while it is on its way.
    sent: Option<u64>,
}

/// A bundle all of whose letters are receipted.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) first: u64,
    pub(super) id: BundleId,
    pub(super) letters: usize,
    pub(super) size: usize,
}

/// Which bundles are on their way. What left before something that arrived, and has not arrived, is lost: frames of one
/// connection come in order (loss detection by packet number, RFC 9002 section 6.1).
#[derive(Debug, Default)]
struct Flight {
    /// Bundles that begin at or above were not sent on this road yet.
    cursor: u64,
    /// To go again, before anything new.
    lost: BTreeSet<u64>,
    /// On their way, in the order in which they left: first number, bytes, when.
    sent: BTreeMap<u64, (u64, usize, Duration)>,
    next: u64,
    /// What left last of all that arrived.
    arrived: u64,
    bytes: usize,
    /// When something goes again if nothing arrives.
    probe_at: Option<Duration>,
    patience: Duration,
}

impl Stream {
    pub(super) fn new(row: OutStream) -> Self {
        let next = row.next;
        Stream {
            row,
            dirty: false,
            next,
            drafted: next,
            sums: Sums::new(next),
            asked: Ranges::default(),
            asked_at: Duration::ZERO,
            claimed: Ranges::default(),
            bundles: BTreeMap::new(),
            flight: Flight::default(),
        }
    }

    /// The lowest number without a receipt.
    pub(super) fn floor(&self) -> u64 {
        self.row.delivered.first_missing(1)
    }

    /// Takes a bundle that the disk has.
    pub(super) fn keep(&mut self, index: BundleIndex) {
        if index.first < VOID {
            for (number, id) in (index.first..).zip(&index.ids) {
                self.sums.push(number, if self.row.discarded.contains(number) { void_of(*id) } else { *id });
            }
        }
        let BundleIndex { first, ids, id, size, holders, .. } = index;
        self.bundles.insert(first, Waiting { id, ids, size, holders, sent: None });
    }

    /// The bundles that wait: first number, id, letters, bytes and holders of each.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (u64, BundleId, usize, &[Holder])> {
        self.bundles.iter().map(|(first, bundle)| (*first, bundle.id, bundle.size, bundle.holders.as_slice()))
    }

    /// Size, number of letters and holders of a bundle that waits.
    pub(super) fn held(&self, first: u64) -> Option<(usize, usize, &[Holder])> {
        self.bundles.get(&first).map(|bundle| (bundle.size, bundle.ids.len(), bundle.holders.as_slice()))
    }

    /// Who holds a bundle, to be changed.
    pub(super) fn holders(&mut self, first: u64) -> Option<&mut Vec<Holder>> {
        self.bundles.get_mut(&first).map(|bundle| &mut bundle.holders)
    }

    /// The id of a bundle that waits.
    pub(super) fn bundle(&self, first: u64) -> Option<BundleId> {
        self.bundles.get(&first).map(|bundle| bundle.id)
    }

    /// Whether anybody should still get this bundle: voids, and letters of which not all are receipted or discarded.
    pub(super) fn is_wanted(&self, first: u64) -> bool {
        let Some(bundle) = self.bundles.get(&first) else { return false };
        first >= VOID || !self.open(first, bundle.ids.len()).minus(&self.row.voided).is_empty()
    }

    /// The numbers in a bundle of letters that are not receipted, nor sure to be discarded.
    fn open(&self, first: u64, letters: usize) -> Ranges {
        Ranges::of(first, first + letters as u64 - 1).minus(&self.row.delivered)
    }

    /// The bundle of letters that a number is in, with those of its numbers that are open.
    pub(super) fn bundle_of(&self, number: u64) -> Option<(u64, Ranges)> {
        let (first, bundle) = self.bundles.range(..=number).next_back()?;
        let letters = bundle.ids.len();
        (number - first < letters as u64).then(|| (*first, self.open(*first, letters)))
    }

    /// Discarded numbers among these of which nobody knows yet whether letter or void arrives, and the sum over their
    /// letters and over their voids.
    pub(super) fn undecided(&self, numbers: &Ranges) -> (Ranges, Sum, Sum) {
        let voided = numbers.minus(&numbers.minus(&self.row.voided)).minus(&self.row.delivered).minus(&self.row.discarded);
        let (mut found, mut letters, mut voids) = (Ranges::default(), Sum::default(), Sum::default());
        for number in voided.iter().flat_map(|(first, last)| first..=last) {
            if let Some(id) = self.id_of(number) {
                found.insert(number);
                letters = letters.plus(digest(number, id));
                voids = voids.plus(digest(number, void_of(id)));
            }
        }
        (found, letters, voids)
    }

    /// The void stands under these numbers from now on.
    pub(super) fn discard(&mut self, numbers: &Ranges) {
        for number in numbers.iter().flat_map(|(first, last)| first..=last) {
            self.row.discarded.insert(number);
            if let Some(id) = self.id_of(number) {
                self.sums.replace(number, id, void_of(id));
            }
        }
    }

    /// The recipient has these letters themselves. Where they were discarded as never sent, a memory that is gone had sent them.
    pub(super) fn reinstate(&mut self, numbers: &Ranges) {
        let wrong = numbers.minus(&numbers.minus(&self.row.discarded));
        for number in wrong.iter().flat_map(|(first, last)| first..=last) {
            if let Some(id) = self.id_of(number) {
                self.sums.replace(number, void_of(id), id);
            }
        }
        self.row.discarded = self.row.discarded.minus(&wrong);
        self.row.voided = self.row.voided.minus(&wrong);
    }

    /// Letters that wait for a receipt.
    pub(super) fn letters(&self) -> u64 {
        self.bundles.range(..VOID).map(|(_, bundle)| bundle).map(|bundle| bundle.ids.len() as u64).sum()
    }

    pub(super) fn id_of(&self, number: u64) -> Option<LetterId> {
        let (first, bundle) = self.bundles.range(..=number).next_back()?;
        bundle.ids.get(usize::try_from(number - first).ok()?).copied()
    }

    /// These numbers were receipted: takes out the bundles that are wholly so.
    pub(super) fn take_delivered(&mut self, new: &Ranges, now: Duration, config: &Config) -> Vec<Delivered> {
        let mut whole = Vec::new();
        for (first, last) in new.iter() {
            let begin = self.bundles.range(..=first).next_back().map_or(first, |(begin, _)| *begin);
            let touched: Vec<u64> = self.bundles.range(begin..=last).map(|(begin, _)| *begin).collect();
            for begin in touched {
                let end = begin + self.bundles[&begin].ids.len() as u64;
                if self.row.delivered.first_missing(begin) < end {
                    continue;
                }
                let bundle = self.bundles.remove(&begin).expect("just seen");
                self.flight.on_arrived(begin, bundle.sent);
                whole.push(Delivered { first: begin, id: bundle.id, letters: bundle.ids.len(), size: bundle.size });
            }
            let begin = self.bundles.range(VOID..=VOID | first).next_back().map_or(VOID | first, |(begin, _)| *begin);
            let voids: Vec<u64> = self.bundles.range(begin..=VOID | last).map(|(begin, _)| *begin).collect();
            for begin in voids {
                let number = begin & !VOID;
                if self.row.delivered.first_missing(number) < number + self.bundles[&begin].ids.len() as u64 {
                    continue;
                }
                let bundle = self.bundles.remove(&begin).expect("just seen");
                self.flight.on_arrived(begin, bundle.sent);
                whole.push(Delivered { first: begin, id: bundle.id, letters: 0, size: bundle.size });
            }
        }
        if !whole.is_empty() {
            self.flight.wait(now, config.resend_first);
        }
        whole
    }

    // -- the road

    /// A new road: everything goes again, from the lowest number.
    pub(super) fn rewind(&mut self, config: &Config) {
        self.flight = Flight { next: self.flight.next, arrived: self.flight.arrived, patience: config.resend_first, ..Flight::default() };
        self.bundles.values_mut().for_each(|bundle| bundle.sent = None);
    }

    /// The road is closed: nothing goes again by itself.
    pub(super) fn stop(&mut self) {
        self.flight.probe_at = None;
    }

    /// Frames were dropped: which, only an answer to what follows can tell.
    pub(super) fn on_dropped(&mut self, soon: Duration) {
        if !self.flight.sent.is_empty() {
            self.flight.probe_at = Some(self.flight.probe_at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// Finds what was lost. True if something is to go again.
    pub(super) fn tick(&mut self, now: Duration, config: &Config) -> bool {
        let flight = &mut self.flight;
        while let Some((first, _)) = flight.passed().filter(|(_, at)| *at + config.refused_wait <= now) {
            flight.lose(first, &mut self.bundles);
        }
        if flight.probe_at.is_some_and(|at| at <= now) {
            flight.patience = (flight.patience * 2).min(config.resend_most);
            flight.probe_at = Some(now + flight.patience);
            let mut size = 0;
            while size < PROBE_BYTES
                && let Some((_, &(first, bytes, _))) = flight.sent.first_key_value()
            {
                size += bytes;
                flight.lose(first, &mut self.bundles);
            }
        }
        !flight.lost.is_empty()
    }

    /// When [`Stream::tick`] has something to do.
    pub(super) fn deadline(&self, config: &Config) -> Option<Duration> {
        // A closed road has no probe; what was lost on it is of no interest.
        let probe_at = self.flight.probe_at?;
        let passed = self.flight.passed().map(|(_, at)| at + config.refused_wait);
        Some(passed.map_or(probe_at, |at| at.min(probe_at)))
    }

    /// Nothing has been heard of what was sent for longer than is usual.
    pub(super) fn is_stuck(&self, config: &Config) -> bool {
        self.flight.patience > config.resend_first
    }

    /// Bytes on their way.
    pub(super) fn in_flight(&self) -> usize {
        self.flight.bytes
    }

    /// What goes now, within `room` bytes, but at least one bundle if `idle`: first number and bytes of each.
    pub(super) fn depart(&mut self, mut room: usize, mut idle: bool, now: Duration, config: &Config) -> Vec<(u64, usize)> {
        let mut leaving = Vec::new();
        while let Some(first) = self.next_to_send() {
            let bundle = self.bundles.get_mut(&first).expect("what is lost or not sent waits");
            if bundle.size > room && !idle {
                break;
            }
            idle = false;
            room = room.saturating_sub(bundle.size);
            bundle.sent = Some(self.flight.on_sent(first, bundle.size, now));
            leaving.push((first, bundle.size));
            self.leaves(first);
        }
        if self.flight.probe_at.is_none() {
            self.flight.wait(now, self.flight.patience.max(config.resend_first));
        }
        leaving
    }

    /// The voids that did not go on this road yet, by their first number.
    pub(super) fn depart_voids(&mut self, now: Duration) -> Vec<u64> {
        let voids: Vec<u64> = self.bundles.range(VOID..).filter(|(_, bundle)| bundle.sent.is_none()).map(|(first, _)| *first).collect();
        for first in &voids {
            let bundle = self.bundles.get_mut(first).expect("just seen");
            bundle.sent = Some(self.flight.on_sent(*first, bundle.size, now));
        }
        voids
    }

    /// A bundle leaves this machine, for its recipient or somebody else.
    pub(super) fn leaves(&mut self, first: u64) {
        let end = first.saturating_add(self.bundles.get(&first).map_or(0, |bundle| bundle.ids.len() as u64));
        if first < VOID && end > self.row.tried {
            self.row.tried = end;
            self.dirty = true;
        }
    }

    /// Voids first, so that their letters are not taken any more; then what was lost, then what is new. Letters that are all
    /// discarded stay here.
    fn next_to_send(&mut self) -> Option<u64> {
        if let Some((first, _)) = self.bundles.range(VOID..).find(|(_, bundle)| bundle.sent.is_none()) {
            return Some(*first);
        }
        while let Some(first) = self.flight.lost.first().copied() {
            if self.is_wanted(first) {
                return Some(first);
            }
            self.flight.lost.remove(&first);
        }
        let wanted = |first: &u64| self.is_wanted(*first);
        self.bundles.range(self.flight.cursor.min(VOID)..VOID).map(|(first, _)| *first).find(wanted)
    }
}

impl Flight {
    fn on_sent(&mut self, first: u64, size: usize, now: Duration) -> u64 {
        if !self.lost.remove(&first) && first < VOID {
            self.cursor = first + 1;
        }
        self.next += 1;
        self.bytes += size;
        self.sent.insert(self.next, (first, size, now));
        self.next
    }

    fn on_arrived(&mut self, first: u64, sent: Option<u64>) {
        self.lost.remove(&first);
        if let Some(number) = sent
            && let Some((_, size, _)) = self.sent.remove(&number)
        {
            self.bytes -= size;
            self.arrived = self.arrived.max(number);
        }
    }

    /// The oldest on its way if something that left later has arrived, and when it left.
    fn passed(&self) -> Option<(u64, Duration)> {
        self.sent.first_key_value().filter(|(number, _)| **number < self.arrived).map(|(_, (first, _, at))| (*first, *at))
    }

    /// The oldest on its way goes again.
    fn lose(&mut self, first: u64, bundles: &mut BTreeMap<u64, Waiting>) {
        if let Some((_, (_, size, _))) = self.sent.pop_first() {
            self.bytes -= size;
            self.lost.insert(first);
        }
        if let Some(bundle) = bundles.get_mut(&first) {
            bundle.sent = None;
        }
    }

    /// Waits for the next that arrives.
    fn wait(&mut self, now: Duration, patience: Duration) {
        self.patience = patience;
        self.probe_at = (!self.sent.is_empty()).then_some(now + patience);
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;
    use crate::id::Epoch;

    const SIZE: usize = 1_000;

    /// A stream with so many bundles of one letter, all of them sent at 1 s.
    fn flying(bundles: u64) -> (Stream, Config) {
        let config = Config::default();
        let peer = crate::bundle::Secrets::from_seeds(&[1; 32], &[2; 32]).id();
        let mut stream = Stream::new(row(peer));
        for first in 1..=bundles {
            let id = BundleId::new([0; 32]);
            stream.keep(BundleIndex { stream: 1, first, ids: vec![LetterId::new([0; 16])], id, size: SIZE, holders: Vec::new() });
        }
        stream.rewind(&config);
        assert_eq!(stream.depart(usize::MAX, true, at(1_000), &config).len() as u64, bundles);
        (stream, config)
    }

    fn row(peer: PeerId) -> OutStream {
        OutStream::new(1, peer, Epoch(1))
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn receipt(stream: &mut Stream, first: u64, last: u64, now: Duration, config: &Config) {
        stream.row.delivered.insert_range(first, last);
        stream.take_delivered(&Ranges::of(first, last), now, config);
    }

    fn again(stream: &mut Stream, now: Duration, config: &Config) -> Vec<u64> {
        stream.tick(now, config);
        stream.depart(usize::MAX, stream.in_flight() == 0, now, config).into_iter().map(|(first, _)| first).collect()
    }

    #[test]
    fn only_what_was_passed_goes_again_and_once() {
        let (mut stream, config) = flying(1_000);
        receipt(&mut stream, 1, 9, at(1_010), &config);
        receipt(&mut stream, 12, 500, at(1_020), &config);
        assert!(again(&mut stream, at(1_030), &config).is_empty(), "it may still be on its way by another connection");
        assert_eq!(stream.deadline(&config), Some(at(1_000) + config.refused_wait));
        assert_eq!(again(&mut stream, at(1_210), &config), [10, 11]);
        receipt(&mut stream, 501, 900, at(1_500), &config);
        assert!(again(&mut stream, at(1_900), &config).is_empty(), "nothing that left after it has arrived");
        receipt(&mut stream, 10, 10, at(1_950), &config);
        // Number 10 left again after all others: they are lost, and 11 went in the same moment.
        assert_eq!(again(&mut stream, at(1_960), &config), (901..=1_000).collect::<Vec<u64>>());
    }

    #[test]
    fn silence_sends_little_again_and_ever_more_rarely() {
        let (mut stream, config) = flying(1_000);
        let most = PROBE_BYTES.div_ceil(SIZE);
        assert!(again(&mut stream, at(2_999), &config).is_empty());
        assert_eq!(again(&mut stream, at(3_000), &config).len(), most);
        assert!(again(&mut stream, at(6_999), &config).is_empty());
        assert_eq!(again(&mut stream, at(7_000), &config).len(), most);
        receipt(&mut stream, 1_000, 1_000, at(7_001), &config);
        assert_eq!(stream.deadline(&config), Some(at(1_000) + config.refused_wait), "what left with it is lost");
    }

    #[test]
    fn bytes_on_the_way_are_those_of_what_is_on_the_way() {
        let (mut stream, config) = flying(10);
        assert_eq!(stream.in_flight(), 10 * SIZE);
        receipt(&mut stream, 3, 10, at(1_010), &config);
        assert_eq!(stream.in_flight(), 2 * SIZE);
        assert_eq!(again(&mut stream, at(1_300), &config), [1, 2]);
        assert_eq!(stream.in_flight(), 2 * SIZE);
        receipt(&mut stream, 1, 2, at(1_310), &config);
        assert_eq!((stream.in_flight(), stream.deadline(&config)), (0, None));
    }
}
