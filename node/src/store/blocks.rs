//! What is looked up by: of each thousand entries of a chain the time they span and hashes of what they are about.
//! Knows nothing of questions. Derived from the segments, made while the disk has nothing else to do; what has no block yet is read.

use std::collections::BTreeSet;

use protocol::log;
use protocol::segment::Opened;
use redb::{ReadableTable, WriteTransaction};

use super::fault::Fault;
use super::log::{COPY, OWN, chains, segments};
use super::medium::Slot;
use super::{rows, tables};

/// Entries of a block, at least (guess: reading one takes a millisecond).
const ENTRIES: u64 = 1_024;
/// Blocks made in one transaction (guess: a commit that comes meanwhile waits 50 ms at most).
const AT_ONCE: usize = 32;
const HEAD: usize = 6 * 8;

/// What some segments of a chain have in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The last segment.
    pub(crate) last: u64,
    /// Sequence of the first entry …
    pub(crate) first_entry: u64,
    /// … and of the one after the last.
    pub(crate) next_entry: u64,
    /// The earliest time …
    pub(crate) min: u64,
    /// … and the latest.
    pub(crate) max: u64,
    /// The latest time in the chain before it.
    pub(crate) before: u64,
    /// Ascending.
    hashes: Vec<u8>,
}

impl Block {
    pub(crate) fn read(key: (u8, u32, u64), bytes: &[u8]) -> Result<Block, Fault> {
        let short = || Fault::row(&tables::BLOCKS, &key, "too short");
        let mut numbers = [0; 6];
        for (number, bytes) in numbers.iter_mut().zip(bytes.get(..HEAD).ok_or_else(short)?.chunks_exact(8)) {
            *number = u64::from_be_bytes(bytes.try_into().map_err(|_| short())?);
        }
        let [last, first_entry, next_entry, min, max, before] = numbers;
        if last < key.2 {
            return Err(short());
        }
        Ok(Block { last, first_entry, next_entry, min, max, before, hashes: bytes[HEAD..].to_vec() })
    }

    /// Whether all that is in one of its segments is found by it.
    pub(crate) fn names(&self, segment: &Opened) -> bool {
        let (chunks, _) = self.hashes.as_chunks::<4>();
        let has = |hash: u32| chunks.binary_search(&hash.to_be_bytes()).is_ok();
        let mut named = segment.first >= self.first_entry;
        named &= segment.first + segment.entries.len() as u64 <= self.next_entry;
        for (time, what) in &segment.entries {
            named &= (self.min..=self.max).contains(&time.0);
            match what {
                Some(what) => log::index(&segment.author, what, |hash| named &= has(hash)),
                None => named &= has(log::EVERYTHING),
            }
        }
        named
    }

    fn bytes(&self) -> Vec<u8> {
        let head = [self.last, self.first_entry, self.next_entry, self.min, self.max, self.before];
        head.into_iter().flat_map(u64::to_be_bytes).chain(self.hashes.iter().copied()).collect()
    }

    /// Whether one of these, ascending, may be in it.
    pub(crate) fn has_one_of(&self, hashes: &[u32]) -> bool {
        let (chunks, _) = self.hashes.as_chunks::<4>();
        hashes.iter().any(|hash| chunks.binary_search(&hash.to_be_bytes()).is_ok())
    }
}

/// Makes blocks of what has none; true if there is more.
pub(crate) fn build(slot: &Slot) -> Result<bool, Fault> {
    if !is_due(slot)? {
        return Ok(false);
    }
    let txn = slot.begin_write()?;
    let made = build_some(&txn)?;
    txn.commit()?;
    Ok(made >= AT_ONCE)
}

fn is_due(slot: &Slot) -> Result<bool, Fault> {
    let txn = slot.begin_read()?;
    let blocks = txn.open_table(tables::BLOCKS)?;
    for (copy, ordinal) in
        [OWN, COPY].into_iter().flat_map(|copy| chains(&txn, copy).unwrap_or_default()).map(|chain| (chain.copy, chain.ordinal))
    {
        let table = segments(&txn, copy)?;
        let mut rows = table.range((ordinal, 0)..=(ordinal, u64::MAX))?;
        // A row that is damaged stops nothing but itself.
        let Some((first, entries)) = (loop {
            let Some((key, row)) = rows.next_back().transpose()? else { break None };
            if let Ok((first, entries, _)) = rows::read_segment_head(key.value(), row.value()) {
                break Some((first, entries));
            }
        }) else {
            continue;
        };
        let done = blocks.range((copy, ordinal, 0)..=(copy, ordinal, u64::MAX))?.next_back().transpose()?;
        let done = done.and_then(|(key, row)| Block::read(key.value(), row.value()).ok());
        let begin = match done {
            Some(block) => block.next_entry,
            None => {
                let mut heads = table.range((ordinal, 0)..=(ordinal, u64::MAX))?.map_while(Result::ok);
                let begin = heads.find_map(|(key, row)| rows::read_segment_head(key.value(), row.value()).ok().map(|(first, ..)| first));
                begin.unwrap_or(first)
            }
        };
        if (first + u64::from(entries)).saturating_sub(begin) >= ENTRIES {
            return Ok(true);
        }
    }
    Ok(false)
}

fn build_some(txn: &WriteTransaction) -> Result<usize, Fault> {
    let mut blocks = txn.open_table(tables::BLOCKS)?;
    let mut made = 0;
    for copy in [OWN, COPY] {
        let table = txn.open_table(if copy == OWN { tables::SEGMENTS } else { tables::COPIED })?;
        let ordinals: Vec<u32> = if copy == OWN {
            txn.open_table(tables::CHAINS)?.iter()?.map(|row| Ok(row?.0.value())).collect::<Result<_, Fault>>()?
        } else {
            txn.open_table(tables::COPY_CHAINS)?.iter()?.map(|row| Ok(row?.0.value())).collect::<Result<_, Fault>>()?
        };
        for ordinal in ordinals {
            // One that cannot be read is made again.
            let last = loop {
                let last = blocks.range((copy, ordinal, 0)..=(copy, ordinal, u64::MAX))?.next_back().transpose()?;
                let Some((key, read)) = last.map(|(key, row)| (key.value(), Block::read(key.value(), row.value()))) else { break None };
                match read {
                    Ok(block) => break Some(block),
                    Err(_) => drop(blocks.remove(key)?),
                }
            };
            let (from, mut clock) = last.map_or((0, 0), |block| (block.last + 1, block.before.max(block.max)));
            let mut open: Option<(u64, Block, BTreeSet<u32>)> = None;
            for row in table.range((ordinal, from)..=(ordinal, u64::MAX))? {
                let (key, row) = row?;
                let number = key.value().1;
                // What cannot be read is found damaged by who reads it; here it must not stop everything after it.
                let Ok((.., signed)) = rows::read_segment(key.value(), row.value()) else { continue };
                let Ok(segment) = protocol::segment::open(&signed.body) else { continue };
                let (_, block, hashes) = open.get_or_insert_with(|| {
                    let block = Block {
                        last: number,
                        first_entry: segment.first,
                        next_entry: 0,
                        min: u64::MAX,
                        max: 0,
                        before: clock,
                        hashes: Vec::new(),
                    };
                    (number, block, BTreeSet::new())
                });
                block.last = number;
                block.next_entry = segment.first + segment.entries.len() as u64;
                for (time, what) in &segment.entries {
                    (block.min, block.max) = (block.min.min(time.0), block.max.max(time.0));
                    match what {
                        Some(what) => log::index(&segment.author, what, |hash| {
                            hashes.insert(hash);
                        }),
                        None => {
                            hashes.insert(log::EVERYTHING);
                        }
                    }
                }
                clock = clock.max(block.max);
                if block.next_entry - block.first_entry >= ENTRIES
                    && let Some((first, mut block, hashes)) = open.take()
                {
                    block.hashes = hashes.into_iter().flat_map(u32::to_be_bytes).collect();
                    blocks.insert((copy, ordinal, first), block.bytes().as_slice())?;
                    made += 1;
                    if made >= AT_ONCE {
                        return Ok(made);
                    }
                }
            }
        }
    }
    Ok(made)
}
