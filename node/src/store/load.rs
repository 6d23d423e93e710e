//! What a peer starts with: the disk's memory as [`Kept`].
//! Knows nothing of what is made of it. Reads what is open, never what is done: its time does not grow with history.

use std::collections::{BTreeMap, BTreeSet};

use protocol::Kept;
use protocol::effect::{BundleIndex, Head, InStream, Recent};
use protocol::{LetterId, PeerId};
use redb::{ReadTransaction, ReadableTable, TableDefinition};

use super::fault::Fault;
use super::{rows, tables};

/// Everything that waits, everybody known, and where each count goes on.
pub(crate) fn load(txn: &ReadTransaction) -> Result<Kept, Fault> {
    let me = txn.open_table(tables::ME)?.get(())?.map(|row| rows::cbor(&tables::ME, &(), row.value())).transpose()?;
    let known = all(txn, tables::KNOWN, |key, row| rows::cbor(&tables::KNOWN, &key, row))?;
    let out_streams = all(txn, tables::OUT_STREAMS, |no, row| rows::cbor(&tables::OUT_STREAMS, &no, row))?;
    let in_streams: Vec<InStream> = all(txn, tables::IN_STREAMS, |no, row| rows::cbor(&tables::IN_STREAMS, &no, row))?;
    let sent = txn.open_table(tables::SENT)?;
    let waiting = txn.open_table(tables::WAITING)?;
    let waiting = waiting.iter()?.map(|row| {
        let k = row?.0.value();
        let row = sent.get(k)?.ok_or_else(|| Fault::row(&tables::SENT, &k, "missing"))?;
        rows::read_sent(k, row.value())
    });
    Ok(Kept {
        me,
        head: head(txn)?,
        known,
        blocked: blocked(txn)?,
        out_streams,
        bundles: bundles(txn)?,
        held: all(txn, tables::HELD, rows::read_held)?,
        receipts: all(txn, tables::RECEIPTS, |key, row| rows::cbor(&tables::RECEIPTS, &key, row))?,
        recent: recent(txn, &in_streams)?,
        in_streams,
        waiting: waiting.collect::<Result<_, _>>()?,
        next_letter: sent.last()?.map_or(1, |(k, _)| k.value() + 1),
        next_n: txn.open_table(tables::INBOX)?.last()?.map_or(1, |(n, _)| n.value() + 1),
    })
}

/// Every row of a table, in the order of its keys.
fn all<K: redb::Key + 'static, T>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, &'static [u8]>,
    read: impl for<'k> Fn(K::SelfType<'k>, &[u8]) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut values = Vec::new();
    for row in txn.open_table(table)?.iter()? {
        let (key, row) = row?;
        values.push(read(key.value(), row.value())?);
    }
    Ok(values)
}

/// The bundles that wait, each with its holders.
fn bundles(txn: &ReadTransaction) -> Result<Vec<BundleIndex>, Fault> {
    let mut bundles = all(txn, tables::BUNDLES, rows::read_bundle_index)?;
    let holders = txn.open_table(tables::HOLDERS)?;
    for row in holders.iter()? {
        let (key, row) = row?;
        // Holders of no bundle would be of no use: they go when it goes.
        if let Ok(at) = bundles.binary_search_by_key(&key.value(), |index| (index.stream, index.first)) {
            bundles[at].holders = rows::cbor(&tables::HOLDERS, &key.value(), row.value())?;
        }
    }
    Ok(bundles)
}

fn blocked(txn: &ReadTransaction) -> Result<BTreeSet<PeerId>, Fault> {
    let mut blocked = BTreeSet::new();
    for row in txn.open_table(tables::BLOCKED)?.iter()? {
        let key = row?.0;
        blocked.insert(PeerId::from_bytes(key.value()).map_err(|error| Fault::row(&tables::BLOCKED, &key.value(), error))?);
    }
    Ok(blocked)
}

fn head(txn: &ReadTransaction) -> Result<Option<Head>, Fault> {
    let segments = txn.open_table(tables::SEGMENTS)?;
    let Some((key, row)) = segments.last()? else { return Ok(None) };
    let (ordinal, number) = key.value();
    let chain = txn.open_table(tables::CHAINS)?.get(ordinal)?.ok_or_else(|| Fault::row(&tables::CHAINS, &ordinal, "missing"))?.value();
    let (first, entries, signed) = rows::read_segment((ordinal, number), row.value())?;
    let next_entry = first.saturating_add(u64::from(entries));
    Ok(Some(Head { chain, number, hash: protocol::segment::hash(&signed), next_entry }))
}

fn recent(txn: &ReadTransaction, streams: &[InStream]) -> Result<Vec<Recent>, Fault> {
    let (taken, unshown) = (txn.open_table(tables::TAKEN)?, txn.open_table(tables::UNSHOWN)?);
    let mut recent: BTreeMap<(u32, u64, u8), (LetterId, bool)> = BTreeMap::new();
    for stream in streams {
        for row in taken.range((stream.no, stream.floor, 0)..=(stream.no, u64::MAX, u8::MAX))? {
            let (key, row) = row?;
            recent.insert(key.value(), (rows::id(&tables::TAKEN, &key.value(), row.value())?, false));
        }
    }
    for row in unshown.iter()? {
        let key = row?.0.value();
        if let Some((_, unshown)) = recent.get_mut(&key) {
            *unshown = true;
        } else {
            let row = taken.get(key)?.ok_or_else(|| Fault::row(&tables::TAKEN, &key, "missing"))?;
            recent.insert(key, (rows::id(&tables::TAKEN, &key, row.value())?, true));
        }
    }
    Ok(recent.into_iter().map(|((stream, seq, _), (letter, unshown))| Recent { stream, seq, letter, unshown }).collect())
}
