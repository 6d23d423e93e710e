//! What a peer starts with: the disk's memory as [`Kept`].
//! Knows nothing of what is made of it. Reads what is open, never what is done: its time does not grow with history.

use std::collections::{BTreeMap, BTreeSet};

use protocol::effect::{BundleIndex, Head, InStream, OrderState, QueueState, Queued, Recent};
use protocol::order::{End, Order, Report, Try};
use protocol::{Epoch, Kept, LetterId, PeerId, Ranges, Timestamp};
use redb::{ReadTransaction, ReadableTable, TableDefinition};

use super::fault::Fault;
use super::log::{COPY, OWN, ends};
use super::rows::work::{self, TryRow};
use super::{orders, rows, tables};

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
    let (tries_started, tries_ended) = tries(txn)?;
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
        fence: txn.open_table(tables::FENCE)?.get(())?.map(|row| rows::cbor(&tables::FENCE, &(), row.value())).transpose()?,
        offers: all(txn, tables::OFFERS, |name, row| rows::cbor(&tables::OFFERS, &name, row))?,
        draining: txn.open_table(tables::DRAINING)?.get(())?.is_some(),
        open_orders: open_orders(txn)?,
        next_order: txn.open_table(tables::ORDERS)?.last()?.map_or(1, |(number, _)| number.value() + 1),
        closed_own: closed_own(txn)?,
        queue: queue(txn)?,
        closed: all(txn, tables::CLOSED, |key, row| rows::cbor(&tables::CLOSED, &key, row))?,
        tries_started,
        tries_ended,
        own_chains: ends(txn, OWN)?,
        copies: ends(txn, COPY)?,
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

/// The orders of this node that have not ended, whole.
fn open_orders(txn: &ReadTransaction) -> Result<Vec<(Order, OrderState)>, Fault> {
    let (open, tables) = (txn.open_table(tables::OPEN_ORDERS)?, orders::Tables::open(txn)?);
    open.iter()?
        .map(|row| {
            let number = row?.0.value();
            let missing = || Fault::row(&tables::ORDERS, &number, "missing");
            Ok((tables.whole(number)?.ok_or_else(missing)?, tables.state(number)?))
        })
        .collect()
}

/// The orders of this node that have ended, by epoch and by how.
fn closed_own(txn: &ReadTransaction) -> Result<Vec<(Epoch, End, Ranges)>, Fault> {
    let mut closed: BTreeMap<(Epoch, u8), (End, Ranges)> = BTreeMap::new();
    for row in txn.open_table(tables::CLOSED_OWN)?.iter()? {
        let (key, last) = row?;
        let (epoch, end, first) = key.value();
        let (_, ranges) = closed.entry((Epoch(epoch), end)).or_insert((work::read_end(key.value())?, Ranges::default()));
        ranges.insert_range(first, last.value());
    }
    Ok(closed.into_iter().map(|((epoch, _), (end, ranges))| (epoch, end, ranges)).collect())
}

/// The orders in the queue, each with where its units are.
fn queue(txn: &ReadTransaction) -> Result<Vec<(Queued, Option<QueueState>)>, Fault> {
    let states = txn.open_table(tables::QUEUE_STATES)?;
    all(txn, tables::QUEUE, |key, row| {
        let state = states.get(key)?.map(|row| work::read_queue_state(key, row.value())).transpose()?;
        Ok((work::read_queued(key, row)?, state))
    })
}

/// Tries that had begun, and those that have ended.
type Tries = (Vec<(Try, Timestamp)>, Vec<Report>);

fn tries(txn: &ReadTransaction) -> Result<Tries, Fault> {
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    for row in all(txn, tables::TRIES, work::read_try)? {
        match row {
            TryRow::Started(task, at) => started.push((task, at)),
            TryRow::Ended(report) => ended.push(report),
        }
    }
    Ok((started, ended))
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
