//! The writing half of the record: what this node did, as numbered, chained segments, one for each commit.
//! Knows nothing of what the entries mean. No number is given twice in a chain, and none is left out.

mod gathered;

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p_identity::PeerId;
use serde_bytes::ByteArray;
use sha2::{Digest, Sha256};

use crate::codec;
use crate::config::limits;
use crate::edge::Cause;
use crate::effect::{Change, Head, Out};
use crate::now::Now;
use crate::segment::{Entry, Segment, What};

/// See the module.
#[derive(Debug)]
pub(crate) struct Record {
    author: PeerId,
    head: Head,
    /// Of this batch.
    entries: Vec<Entry>,
    refused: BTreeMap<Cause, Refusals>,
    interval: Duration,
}

#[derive(Debug, Default)]
struct Refusals {
    total: u64,
    unwritten: u64,
    /// When the next entry may be written; none before the first.
    next: Option<Duration>,
}

impl Record {
    /// Goes on where the disk ends, or begins `chain`.
    pub(crate) fn new(author: PeerId, chain: u64, head: Option<Head>, interval: Duration) -> Self {
        let head = head.unwrap_or(Head { chain, number: 0, hash: [0; 32], next_entry: 1 });
        Record { author, head, entries: Vec::new(), refused: BTreeMap::new(), interval }
    }

    /// Opens a new chain that cites the end of this one.
    pub(crate) fn open_chain(&mut self, chain: u64) {
        self.head.chain = chain;
        self.head.number = 0;
    }

    /// The number of the last segment.
    pub(crate) fn number(&self) -> u64 {
        self.head.number
    }

    /// The last segment: chain, number and hash. A chain that is only begun has none: 0.
    pub(crate) fn head(&self) -> (u64, u64, [u8; 32]) {
        (self.head.chain, self.head.number, self.head.hash)
    }

    /// The sequence of the next entry.
    pub(crate) fn next_entry(&self) -> u64 {
        self.head.next_entry
    }

    /// What was refused since the start.
    pub(crate) fn refusals(&self) -> BTreeMap<Cause, u64> {
        self.refused.iter().map(|(cause, refusals)| (*cause, refusals.total)).collect()
    }

    /// Things happened: they are written with this batch.
    pub(crate) fn note(&mut self, entries: Vec<What>, now: Now) {
        self.entries.extend(entries.into_iter().map(|what| Entry { time: now.wall, what }));
    }

    /// Something was refused: counted, and written once an interval for each cause.
    pub(crate) fn on_refused(&mut self, cause: Cause) {
        let refusals = self.refused.entry(cause).or_default();
        refusals.total += 1;
        refusals.unwritten += 1;
    }

    /// Writes the entries of this batch as one segment, or as several if they are very many.
    pub(crate) fn close(&mut self, now: Now, out: &mut Out) {
        for (cause, refusals) in &mut self.refused {
            if refusals.unwritten > 0 && refusals.next.is_none_or(|next| next <= now.mono) {
                let what = What::Refused { cause: cause.as_str().to_owned(), count: refusals.unwritten };
                self.entries.push(Entry { time: now.wall, what });
                refusals.unwritten = 0;
                refusals.next = Some(now.mono + self.interval);
            }
        }
        let mut entries = gathered::gathered(std::mem::take(&mut self.entries)).into_iter().peekable();
        while entries.peek().is_some() {
            let (mut part, mut size) = (Vec::new(), 0);
            while let Some(entry) = entries.next_if(|entry| part.is_empty() || size + weight(&entry.what) <= limits::SEGMENT_BYTES) {
                size += weight(&entry.what);
                part.push(entry);
            }
            self.write(part, out);
        }
    }

    fn write(&mut self, entries: Vec<Entry>, out: &mut Out) {
        let count = entries.len() as u64;
        let segment = Segment {
            author: self.author,
            chain: self.head.chain,
            number: self.head.number + 1,
            previous: ByteArray::new(self.head.hash),
            first: self.head.next_entry,
            entries,
        };
        let body = codec::encode(&segment);
        self.head.number = segment.number;
        self.head.hash = Sha256::digest(&body).into();
        self.head.next_entry += count;
        let entries = u32::try_from(count).unwrap_or(u32::MAX);
        out.store(Change::Segment { chain: segment.chain, number: segment.number, first: segment.first, entries, body });
    }

    /// When refusals that were held back are due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.refused.values().filter(|refusals| refusals.unwritten > 0).map(|refusals| refusals.next.unwrap_or_default()).min()
    }
}

/// About how many bytes an entry takes (measured: 110 to 180, and 48 for each recipient of an accepted letter).
fn weight(what: &What) -> usize {
    match what {
        What::LetterAccepted { to, .. } => 100 + 48 * to.len(),
        What::UnitsAssigned { of, .. } | What::UnitsStarted { of } | What::UnitsEnded { of, .. } => 300 + 16 * of.runs.len(),
        _ => 200,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::{Effect, segment_of};

    fn now(seconds: u64) -> Now {
        Now { mono: Duration::from_secs(seconds), ..Now::default() }
    }

    fn segments(out: Out) -> Vec<Segment> {
        let bodies = out.effects.into_iter().map(|effect| match effect {
            Effect::Store(Change::Segment { body, .. }) => segment_of(&body).expect("our own"),
            other => panic!("{other:?}"),
        });
        bodies.collect()
    }

    #[test]
    fn segments_are_numbered_and_chained() {
        let mut record = Record::new(crate::bundle::Secrets::from_seeds(&[1; 32], &[2; 32]).id(), 7, None, Duration::from_secs(1));
        let mut out = Out::default();
        for _ in 0..3 {
            record.note(vec![What::Stopped, What::Stopped], now(1));
            record.close(now(1), &mut out);
            record.close(now(1), &mut out);
        }
        let written = segments(out);
        assert_eq!(written.iter().map(|s| (s.number, s.first)).collect::<Vec<_>>(), [(1, 1), (2, 3), (3, 5)]);
        for pair in written.windows(2) {
            let hash: [u8; 32] = Sha256::digest(codec::encode(&pair[0])).into();
            assert_eq!(pair[1].previous.into_array(), hash);
        }
    }

    #[test]
    fn refusals_are_counted_and_written_once_a_second() {
        let mut record = Record::new(crate::bundle::Secrets::from_seeds(&[1; 32], &[2; 32]).id(), 7, None, Duration::from_secs(1));
        let mut out = Out::default();
        for second in [1, 1, 1, 2] {
            record.on_refused(Cause::Sealed);
            record.on_refused(Cause::Sealed);
            record.close(now(second), &mut out);
        }
        let counts: Vec<_> = segments(out).into_iter().flat_map(|s| s.entries).map(|entry| entry.what).collect();
        let refused = |count| What::Refused { cause: "sealed".to_owned(), count };
        assert_eq!(counts, [refused(2), refused(6)]);
        assert_eq!(record.refusals(), BTreeMap::from([(Cause::Sealed, 8)]));
    }
}
