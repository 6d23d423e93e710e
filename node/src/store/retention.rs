//! How much of the record is kept, and what goes first when it is too much: the oldest, by its authors' clocks.
//! Knows nothing of signatures. Of each chain the last segment stays, so that what comes next has something to go on from.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use protocol::effect::Pruned;
use protocol::{PeerId, Timestamp};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::blocks::Block;
use super::fault::Fault;
use super::log::{COPY, OWN, Segments, chains, copy_chain, segments};
use super::{ReadError, Reader, rows, tables};

/// Segments that go at once, at most (guess: a commit that takes a tenth of a second).
const AT_ONCE: usize = 20_000;
/// Rows at each end of a table by which its size is reckoned.
const SAMPLE: usize = 32;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// Bytes of all segments, about.
    pub bytes: u64,
    /// For how long.
    pub age: Duration,
    /// That of others, too, while this node is the one who keeps it.
    pub others: bool,
}

impl Default for RecordLimits {
    /// A GiB and a year (guess: some millions of entries; nobody asks who was here the year before last).
    fn default() -> Self {
        RecordLimits { bytes: 1 << 30, age: Duration::from_secs(365 * 86_400), others: true }
    }
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordSize {
    /// Segments, copies included.
    pub segments: u64,
    /// Their bytes, about.
    pub bytes: u64,
    /// When the oldest of them was written, and by whom; nobody: by this node itself.
    pub oldest: Option<(Timestamp, Option<PeerId>)>,
}

impl Reader {
    /// How much of the record is here.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn record_size(&self) -> Result<RecordSize, ReadError> {
        self.with(size)
    }

    /// What of the record is to go now; with it every chain of which something has gone before. Nothing if nothing is to go.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn overdue(&self, limits: &RecordLimits, now: Timestamp) -> Result<Vec<Pruned>, ReadError> {
        self.with(|txn| overdue(txn, limits, now))
    }
}

pub(super) fn size(txn: &ReadTransaction) -> Result<RecordSize, Fault> {
    let mut size = RecordSize::default();
    for copy in [OWN, COPY] {
        let table = segments(txn, copy)?;
        let (mut rows, mut bytes) = (0, 0);
        for row in table.iter()?.take(SAMPLE).chain(table.iter()?.rev().take(SAMPLE)) {
            bytes += row?.1.value().len() as u64;
            rows += 1;
        }
        let all = table.len()?;
        size.segments += all;
        size.bytes += bytes.checked_div(rows).unwrap_or(0).saturating_mul(all);
        for chain in chains(txn, copy)? {
            if let Some((_, at)) = first(&table, chain.ordinal, 0)?
                && size.oldest.is_none_or(|(oldest, _)| at < oldest)
            {
                size.oldest = Some((at, chain.author));
            }
        }
    }
    Ok(size)
}

/// The first segment of a chain from this one on, and when it was written; none if it is the last one.
fn first(table: &Segments, ordinal: u32, from: u64) -> Result<Option<(u64, Timestamp)>, Fault> {
    let mut rows = table.range((ordinal, from)..=(ordinal, u64::MAX))?;
    let Some(row) = rows.next() else { return Ok(None) };
    let (key, row) = row?;
    let at = rows::read_segment(key.value(), row.value()).ok().and_then(|(.., signed)| protocol::segment::open(&signed.body).ok());
    // What cannot be read is as old as anything.
    let at = at.and_then(|opened| opened.entries.first().map(|(time, _)| *time)).unwrap_or(Timestamp(0));
    Ok(Some((key.value().1, at)))
}

fn overdue(txn: &ReadTransaction, limits: &RecordLimits, now: Timestamp) -> Result<Vec<Pruned>, Fault> {
    let size = size(txn)?;
    let before = now.0.saturating_sub(u64::try_from(limits.age.as_millis()).unwrap_or(u64::MAX));
    let too_old = size.oldest.is_some_and(|(oldest, _)| oldest.0 < before);
    if size.bytes <= limits.bytes && !too_old {
        return Ok(Vec::new());
    }
    // A twentieth below the limit, so that it is not reached again at once.
    let mut excess = size.bytes.saturating_sub(limits.bytes - limits.bytes / 20).min(if size.bytes > limits.bytes { u64::MAX } else { 0 });
    let tables = [segments(txn, OWN)?, segments(txn, COPY)?];
    let all: Vec<_> =
        [OWN, COPY].into_iter().map(|copy| chains(txn, copy)).collect::<Result<Vec<_>, Fault>>()?.into_iter().flatten().collect();
    let mut oldest = BinaryHeap::new();
    for (index, chain) in all.iter().enumerate() {
        if let Some((number, at)) = first(&tables[usize::from(chain.copy)], chain.ordinal, 0)? {
            oldest.push(Reverse((at, index, number)));
        }
    }
    let mut through: BTreeMap<usize, u64> = BTreeMap::new();
    let mut gone = 0;
    while let Some(Reverse((at, index, number))) = oldest.pop() {
        if gone >= AT_ONCE || (excess == 0 && at.0 >= before) {
            break;
        }
        let (table, ordinal) = (&tables[usize::from(all[index].copy)], all[index].ordinal);
        let Some((next, later)) = first(table, ordinal, number + 1)? else { continue };
        let bytes = table.get((ordinal, number))?.map_or(0, |row| row.value().len() as u64);
        excess = excess.saturating_sub(bytes);
        gone += 1;
        through.insert(index, number);
        oldest.push(Reverse((later, index, next)));
    }
    if gone == 0 {
        return Ok(Vec::new());
    }
    let mut pruned = Vec::new();
    for (index, chain) in all.iter().enumerate() {
        let table = &tables[usize::from(chain.copy)];
        let from = through.get(&index).map_or(0, |through| through + 1);
        let mut rows = table.range((chain.ordinal, from)..=(chain.ordinal, u64::MAX))?;
        let Some(row) = rows.next() else { continue };
        let (key, row) = row?;
        let number = key.value().1;
        // What stays cites the last that has gone.
        let Ok((.., signed)) = rows::read_segment(key.value(), row.value()) else { continue };
        let Ok(opened) = protocol::segment::open(&signed.body) else { continue };
        if number > 1 {
            pruned.push(Pruned {
                own: chain.copy == OWN,
                author: opened.author,
                chain: chain.chain,
                branch: chain.branch,
                through: number - 1,
                last_entry: opened.first.saturating_sub(1),
                hash: opened.previous,
                gone: through.contains_key(&index),
            });
        }
    }
    Ok(pruned)
}

/// Removes what goes.
pub(super) fn write(txn: &WriteTransaction, pruned: &[&Pruned]) -> Result<(), Fault> {
    let (own_chains, copy_chains) = (txn.open_table(tables::CHAINS)?, txn.open_table(tables::COPY_CHAINS)?);
    let (mut own, mut copied) = (txn.open_table(tables::SEGMENTS)?, txn.open_table(tables::COPIED)?);
    let (mut entries, mut arrivals, mut blocks) =
        (txn.open_table(tables::ENTRIES)?, txn.open_table(tables::ARRIVALS)?, txn.open_table(tables::BLOCKS)?);
    for one in pruned {
        let ordinal = if one.own {
            own_chains.iter()?.find_map(|row| row.ok().filter(|(_, chain)| chain.value() == one.chain).map(|(ordinal, _)| ordinal.value()))
        } else {
            let key = copy_chain(&one.author, one.chain, one.branch);
            copy_chains.iter()?.find_map(|row| row.ok().filter(|(_, row)| row.value() == key).map(|(ordinal, _)| ordinal.value()))
        };
        let Some(ordinal) = ordinal else { continue };
        let copy = if one.own { OWN } else { COPY };
        let table = if one.own { &mut own } else { &mut copied };
        let mut firsts = Vec::new();
        table.retain_in((ordinal, 0)..=(ordinal, one.through), |key, row| {
            firsts.extend(rows::read_segment_head(key, row).ok().map(|(first, ..)| first));
            false
        })?;
        for first in firsts.into_iter().filter(|_| one.own) {
            entries.remove(first)?;
        }
        let done = |key: (u8, u32, u64), row: &[u8]| Block::read(key, row).map_or(true, |block| block.last <= one.through);
        blocks.retain_in((copy, ordinal, 0)..=(copy, ordinal, one.through), |key, row| !done(key, row))?;
    }
    // What has gone is not told as new any more: as far as it is at the front.
    loop {
        let Some((no, (copy, ordinal, number))) = arrivals.first()?.map(|(no, place)| (no.value(), place.value())) else { break };
        let there = if copy == OWN { own.get((ordinal, number))?.is_some() } else { copied.get((ordinal, number))?.is_some() };
        // The last number is remembered, so that no later one is given twice.
        if there || arrivals.len()? == 1 {
            break;
        }
        arrivals.remove(no)?;
    }
    Ok(())
}
