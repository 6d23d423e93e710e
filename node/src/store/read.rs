//! Reading beside the writer: one snapshot a call, from any thread.
//! Knows nothing of what is asked on the wire. Sees only what is committed; survives the database being opened again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::bundle::Bundle;
use protocol::id::BundleId;
use protocol::input::{Earlier, Recall, Recalled};
use protocol::mail::Parcel;
use protocol::segment::Entry;
use protocol::{Epoch, LetterId, PeerId};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::fault::{Fault, guarded};
use super::medium::Slot;
use super::room::{Room, room};
use super::{ReadError, RecordSize, retention, rows, tables};

/// How often a read is begun again while the writer opens a failed database anew, and how long it waits in between
/// (guess: deleting the reserve and opening take some milliseconds).
const TRIES: usize = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Reads the database. Cheap to clone; each call blocks its thread for its own disk access and for nothing else.
#[derive(Clone, Debug)]
pub struct Reader {
    slot: Slot,
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Letters in the inbox.
    pub inbox: u64,
    /// Those of them that were not read.
    pub unread: u64,
    /// Letters of this node.
    pub sent: u64,
    /// Orders of this node.
    pub orders: u64,
    /// Those of them that have not ended.
    pub open_orders: u64,
    /// What is kept of the record of all.
    pub record: RecordSize,
    /// Bytes that the database takes.
    pub database_bytes: u64,
    /// Room on its file system; none for a database in memory.
    pub room: Option<Room>,
}

impl Reader {
    pub(crate) fn new(slot: Slot) -> Reader {
        Reader { slot }
    }

    /// The waiting bundle of this outgoing stream that begins with this number; none once it is receipted.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn bundle(&self, stream: u32, first: u64) -> Result<Option<Bundle>, ReadError> {
        Ok(self.bundles(&[(stream, first)])?.pop())
    }

    /// Those of these waiting bundles that are still there, in the order asked for.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn bundles(&self, keys: &[(u32, u64)]) -> Result<Vec<Bundle>, ReadError> {
        self.with(|txn| {
            let sealed = txn.open_table(tables::SEALED)?;
            let mut bundles = Vec::with_capacity(keys.len());
            for key in keys {
                if let Some(row) = sealed.get(key)? {
                    bundles.push(rows::read_sealed(*key, row.value())?);
                }
            }
            Ok(bundles)
        })
    }

    /// Those of these waiting bundles that are still there, each with the secret by which custodians let go of it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn withdrawals(&self, keys: &[(u32, u64)]) -> Result<Vec<(BundleId, [u8; 32])>, ReadError> {
        self.with(|txn| {
            let (bundles, sealed) = (txn.open_table(tables::BUNDLES)?, txn.open_table(tables::SEALED)?);
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                if let Some((index, row)) = bundles.get(key)?.zip(sealed.get(key)?) {
                    found.push((rows::read_bundle_index(*key, index.value())?.id, rows::read_withdrawal(*key, row.value())?));
                }
            }
            Ok(found)
        })
    }

    /// Those of these bundles held for others that are still there, in the order asked for.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn held(&self, numbers: &[u64]) -> Result<Vec<Parcel>, ReadError> {
        self.with(|txn| {
            let table = txn.open_table(tables::HELD_PARCELS)?;
            let mut parcels = Vec::with_capacity(numbers.len());
            for no in numbers {
                if let Some(row) = table.get(no)? {
                    parcels.push(rows::read_parcel(*no, row.value())?);
                }
            }
            Ok(parcels)
        })
    }

    /// Receipts kept for others who are away.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn receipts(&self) -> Result<usize, ReadError> {
        self.with(|txn| Ok(usize::try_from(txn.open_table(tables::RECEIPTS)?.len()?).unwrap_or(usize::MAX)))
    }

    /// The answer to a peer's [`Recall`](protocol::Effect::Recall).
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn recall(&self, recall: &Recall) -> Result<Recalled, ReadError> {
        self.with(|txn| match recall {
            Recall::Letters { stream, numbers, token } => {
                let taken = txn.open_table(tables::TAKEN)?;
                let mut found = Vec::new();
                for (first, last) in numbers.iter() {
                    for row in taken.range((*stream, first, 0)..=(*stream, last, u8::MAX))? {
                        let (key, row) = row?;
                        found.push((key.value().1, rows::id(&tables::TAKEN, &key.value(), row.value())?));
                    }
                }
                Ok(Recalled::Letters { token: *token, found })
            }
            Recall::Written { stream, numbers, token } => {
                let (copies, sent) = (txn.open_table(tables::COPIES)?, txn.open_table(tables::SENT)?);
                let mut found = Vec::new();
                for (first, last) in numbers.iter() {
                    for row in copies.range((*stream, first)..=(*stream, last))? {
                        let (key, k) = row?;
                        let k = k.value();
                        let row = sent.get(k)?.ok_or_else(|| Fault::row(&tables::SENT, &k, "missing"))?;
                        found.push((key.value().1, rows::id(&tables::SENT, &k, row.value())?));
                    }
                }
                Ok(Recalled::Written { token: *token, found })
            }
            Recall::Key { key } => {
                let found = txn.open_table(tables::KEYS)?.get(key.as_str())?.map(|row| {
                    let (letter, k, digest) = row.value();
                    Earlier { letter: LetterId::new(*letter), k, digest: *digest }
                });
                Ok(Recalled::Key { key: key.clone(), found })
            }
            Recall::Segment { from, head } => Ok(Recalled::Segment { from: *from, head: *head, known: self.stands(head)? }),
            Recall::OrderKey { key } => {
                let found = txn.open_table(tables::ORDER_KEYS)?.get(key.as_str())?.map(|row| {
                    let (number, digest) = row.value();
                    (number, *digest)
                });
                Ok(Recalled::OrderKey { key: key.clone(), found })
            }
        })
    }

    /// This node's record after the entry with sequence `after` (they count from 1), at most `limit` entries: sequence,
    /// chain and entry, ascending.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entries(&self, after: u64, limit: usize) -> Result<Vec<(u64, u64, Entry)>, ReadError> {
        let from = after.saturating_add(1);
        self.with(|txn| {
            let (chains, segments) = (txn.open_table(tables::CHAINS)?, txn.open_table(tables::SEGMENTS)?);
            let index = txn.open_table(tables::ENTRIES)?;
            // The segment that holds `from` began there or before.
            let begin = index.range(..=from)?.next_back().transpose()?.map_or(from, |(first, _)| first.value());
            let mut entries = Vec::new();
            for row in index.range(begin..)? {
                if entries.len() >= limit {
                    break;
                }
                let key = row?.1.value();
                let row = segments.get(key)?.ok_or_else(|| Fault::row(&tables::SEGMENTS, &key, "missing"))?;
                let chain = chains.get(key.0)?.ok_or_else(|| Fault::row(&tables::CHAINS, &key.0, "missing"))?.value();
                let (first, _, signed) = rows::read_segment(key, row.value())?;
                let segment = signed.trusted().map_err(|error| Fault::row(&tables::SEGMENTS, &key, error))?;
                let numbered = (first..).zip(segment.entries).filter(|(seq, _)| *seq >= from);
                entries.extend(numbered.take(limit - entries.len()).map(|(seq, entry)| (seq, chain, entry)));
            }
            Ok(entries)
        })
    }

    /// Which letters went to `peer` under these numbers of this node's `epoch`, ascending by number, at most `limit`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn delivered_ids(&self, peer: PeerId, epoch: Epoch, first: u64, last: u64, limit: usize) -> Result<Vec<LetterId>, ReadError> {
        self.with(|txn| {
            let (copies, sent) = (txn.open_table(tables::COPIES)?, txn.open_table(tables::SENT)?);
            let mut ids = Vec::new();
            for row in txn.open_table(tables::OUT_STREAMS)?.iter()? {
                let (no, row) = row?;
                let stream: protocol::effect::OutStream = rows::cbor(&tables::OUT_STREAMS, &no.value(), row.value())?;
                if stream.peer != peer || stream.epoch != epoch {
                    continue;
                }
                for row in copies.range((stream.no, first)..=(stream.no, last.max(first)))?.take(limit.saturating_sub(ids.len())) {
                    let k = row?.1.value();
                    let row = sent.get(k)?.ok_or_else(|| Fault::row(&tables::SENT, &k, "missing"))?;
                    ids.push(rows::id(&tables::SENT, &k, row.value())?);
                }
            }
            Ok(ids)
        })
    }

    /// How much there is; takes no longer with more of it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn counts(&self) -> Result<Counts, ReadError> {
        let medium = self.slot.medium();
        let stat = || Ok((medium.bytes()?, medium.path().and_then(|path| path.parent()).map(room).transpose()?));
        let (database_bytes, room) = stat().map_err(redb::StorageError::Io)?;
        self.with(|txn| {
            Ok(Counts {
                inbox: txn.open_table(tables::INBOX)?.len()?,
                unread: txn.open_table(tables::UNREAD)?.len()?,
                sent: txn.open_table(tables::SENT)?.len()?,
                orders: txn.open_table(tables::ORDERS)?.len()?,
                open_orders: txn.open_table(tables::OPEN_ORDERS)?.len()?,
                record: retention::size(txn)?,
                database_bytes,
                room,
            })
        })
    }

    /// Where the database is; none for one in memory.
    pub(crate) fn dir(&self) -> Option<PathBuf> {
        self.slot.medium().path().and_then(Path::parent).map(Path::to_owned)
    }

    /// One snapshot. It fails, once the database is reopened, for what was not read from it yet.
    pub(crate) fn snapshot(&self) -> Result<ReadTransaction, Fault> {
        guarded(|| self.slot.begin_read())
    }

    /// Runs `read` on one snapshot, again if the database is reopened meanwhile.
    pub(crate) fn with<T>(&self, read: impl Fn(&ReadTransaction) -> Result<T, Fault>) -> Result<T, Fault> {
        let attempt = || guarded(|| read(&self.slot.begin_read()?));
        for _ in 1..TRIES {
            match attempt() {
                Err(Fault::Storage(error)) if matches!(*error, redb::Error::DatabaseClosed | redb::Error::PreviousIo) => {
                    std::thread::sleep(BETWEEN_TRIES);
                }
                outcome => return outcome,
            }
        }
        attempt()
    }
}

/// The ids that a prefix in the shown base32 form stands for, as the least and greatest of them; none if no id begins so.
pub(crate) fn ids_beginning(prefix: &str) -> Option<(LetterId, LetterId)> {
    let whole = |fill: &str| -> Option<LetterId> { format!("{prefix}{}", fill.repeat(26usize.checked_sub(prefix.len())?)).parse().ok() };
    if prefix.is_empty() { None } else { whole("0").zip(whole("z")) }
}
