//! Reading the letters of this node and what became of each copy.
//! Knows nothing of what holders are worth. A copy's state never goes back: accepted, delivered, read; or
//! accepted, discarded.

use std::collections::BTreeMap;

use protocol::effect::{Copy, CopyPlace, OutStream, SentLetter};
use protocol::mail::Holder;
use protocol::name::PeerName;
use protocol::{PeerId, Timestamp};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};

use super::fault::Fault;
use super::inbox::HITS;
use super::read::{Reader, ids_beginning};
use super::{ReadError, rows, tables};

/// A letter of this node with what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SentView {
    /// The letter.
    pub letter: SentLetter,
    /// One for each recipient, in the letter's order.
    pub deliveries: Vec<Delivery>,
}

/// What became of one recipient's copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The recipient's name when the letter was written.
    pub name: PeerName,
    /// The recipient; none while nobody of that name is known.
    pub peer: Option<PeerId>,
    /// How far it came.
    pub state: State,
    /// When it came so far; none if that was not noted.
    pub at: Option<Timestamp>,
    /// The user does not want it sent; it may arrive all the same until it is called discarded.
    pub discarding: bool,
    /// Who has acknowledged a flushed copy of it; nobody once it is delivered.
    pub holders: Vec<Holder>,
}

/// How far a copy came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is on this machine's disk.
    Accepted,
    /// The user discarded it, and it will not arrive.
    Discarded,
    /// It is on the recipient's disk.
    Delivered,
    /// The recipient read it.
    Read,
}

impl Reader {
    /// The letters of this node after `after`, ascending by `k`: the first `limit` of them, or if `newest` the last.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn sent(&self, after: u64, limit: usize, newest: bool) -> Result<Vec<SentView>, ReadError> {
        self.with(|txn| {
            let table = txn.open_table(tables::SENT)?;
            let mut streams = Streams::open(txn)?;
            let mut rows = table.range(after.saturating_add(1)..)?;
            let mut views = Vec::new();
            while views.len() < limit
                && let Some(row) = if newest { rows.next_back() } else { rows.next() }
            {
                let (k, row) = row?;
                views.push(streams.view(rows::read_sent(k.value(), row.value())?)?);
            }
            if newest {
                views.reverse();
            }
            Ok(views)
        })
    }

    /// The letters of this node whose id begins so, at most [`HITS`] and of more the newest; ascending by `k`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn sent_by_id(&self, prefix: &str) -> Result<Vec<SentView>, ReadError> {
        let Some((least, greatest)) = ids_beginning(prefix) else { return Ok(Vec::new()) };
        self.with(|txn| {
            let table = txn.open_table(tables::SENT)?;
            let mut streams = Streams::open(txn)?;
            let mut views = Vec::new();
            for row in table.iter()?.rev() {
                let (k, row) = row?;
                if (least..=greatest).contains(&rows::id(&tables::SENT, &k.value(), row.value())?) {
                    views.push(streams.view(rows::read_sent(k.value(), row.value())?)?);
                    if views.len() == HITS {
                        break;
                    }
                }
            }
            views.reverse();
            Ok(views)
        })
    }

    /// The letter of this node with this number.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn sent_k(&self, k: u64) -> Result<Option<SentView>, ReadError> {
        self.with(|txn| {
            let table = txn.open_table(tables::SENT)?;
            let Some(row) = table.get(k)? else { return Ok(None) };
            Ok(Some(Streams::open(txn)?.view(rows::read_sent(k, row.value())?)?))
        })
    }
}

/// What is known of copies. A stream is decoded once for all letters of a page.
struct Streams {
    waiting: ReadOnlyTable<u64, ()>,
    delivered: ReadOnlyTable<(u32, u64), (u64, u64)>,
    discarded: ReadOnlyTable<(u32, u64), (u64, u64)>,
    read_by: ReadOnlyTable<(u32, u64), (u64, u64)>,
    rows: ReadOnlyTable<u32, &'static [u8]>,
    bundles: ReadOnlyTable<(u32, u64), &'static [u8]>,
    holders: ReadOnlyTable<(u32, u64), &'static [u8]>,
    streams: BTreeMap<u32, Option<OutStream>>,
}

impl Streams {
    fn open(txn: &ReadTransaction) -> Result<Streams, Fault> {
        Ok(Streams {
            waiting: txn.open_table(tables::WAITING)?,
            delivered: txn.open_table(tables::DELIVERED)?,
            discarded: txn.open_table(tables::DISCARDED)?,
            read_by: txn.open_table(tables::READ_BY)?,
            rows: txn.open_table(tables::OUT_STREAMS)?,
            bundles: txn.open_table(tables::BUNDLES)?,
            holders: txn.open_table(tables::HOLDERS)?,
            streams: BTreeMap::new(),
        })
    }

    fn view(&mut self, letter: SentLetter) -> Result<SentView, Fault> {
        let waits = self.waiting.get(letter.k)?.is_some();
        let deliveries = letter.to.iter().map(|copy| self.delivery(copy, waits, letter.timestamp)).collect::<Result<_, _>>()?;
        Ok(SentView { letter, deliveries })
    }

    fn delivery(&mut self, copy: &Copy, waits: bool, accepted: Timestamp) -> Result<Delivery, Fault> {
        let (state, at) = match copy.place {
            None if waits => (State::Accepted, Some(accepted)),
            // It waits for its name no more: it was discarded before it had a number.
            None => (State::Discarded, None),
            Some(place) => self.state(place, accepted)?,
        };
        let holders = match copy.place {
            Some(place) if state == State::Accepted => self.holders(place)?,
            _ => Vec::new(),
        };
        let stream = copy.place.and_then(|place| self.streams.get(&place.stream)?.as_ref().zip(Some(place.seq)));
        let discarding = state == State::Accepted && stream.is_some_and(|(stream, seq)| stream.voided.contains(seq));
        Ok(Delivery { name: copy.name.clone(), peer: copy.place.map(|place| place.peer), state, at, discarding, holders })
    }

    /// Those who hold the bundle that a copy waits in.
    fn holders(&self, CopyPlace { stream, seq, .. }: CopyPlace) -> Result<Vec<Holder>, Fault> {
        let Some(row) = self.bundles.range((stream, 0)..=(stream, seq))?.next_back() else { return Ok(Vec::new()) };
        let (key, row) = row?;
        let key = key.value();
        if seq - key.1 >= rows::read_bundle_index(key, row.value())?.ids.len() as u64 {
            return Ok(Vec::new());
        }
        let row = self.holders.get(key)?;
        row.map_or_else(|| Ok(Vec::new()), |row| rows::cbor(&tables::HOLDERS, &key, row.value()))
    }

    /// The stream's ranges decide; the rows beside them say when.
    fn state(&mut self, CopyPlace { stream, seq, .. }: CopyPlace, accepted: Timestamp) -> Result<(State, Option<Timestamp>), Fault> {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.streams.entry(stream) {
            let row = self.rows.get(stream)?;
            entry.insert(row.map(|row| rows::cbor(&tables::OUT_STREAMS, &stream, row.value())).transpose()?);
        }
        let known = self.streams[&stream].as_ref();
        if let Some(at) = time(&self.read_by, stream, seq)? {
            return Ok((State::Read, Some(at)));
        }
        if known.is_some_and(|stream| stream.read.contains(seq)) {
            return Ok((State::Read, None));
        }
        if let Some(at) = time(&self.delivered, stream, seq)? {
            return Ok((State::Delivered, Some(at)));
        }
        if known.is_some_and(|stream| stream.discarded.contains(seq)) {
            return Ok((State::Discarded, time(&self.discarded, stream, seq)?));
        }
        let delivered = known.is_some_and(|stream| stream.delivered.contains(seq));
        Ok(if delivered { (State::Delivered, None) } else { (State::Accepted, Some(accepted)) })
    }
}

/// When the range of `table` that holds `seq` was noted.
fn time(table: &ReadOnlyTable<(u32, u64), (u64, u64)>, stream: u32, seq: u64) -> Result<Option<Timestamp>, Fault> {
    let Some(row) = table.range((stream, 0)..=(stream, seq))?.next_back() else { return Ok(None) };
    let (last, at) = row?.1.value();
    Ok((last >= seq).then_some(Timestamp(at)))
}
