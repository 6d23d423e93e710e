//! Whether the record on this disk is whole: every row of every chain, its number, its hash, its signature.
//! Knows nothing of who is to blame. What is wrong is named by author, chain, segment and entries; reading goes on behind it.

use std::collections::{BTreeMap, BTreeSet};

use protocol::segment::{self, Segment, What};
use protocol::sign::Signed;
use protocol::{PeerId, Timestamp};
use redb::ReadTransaction;
use sha2::{Digest, Sha256};

use super::blocks::Block;
use super::fault::Fault;
use super::log::{COPY, Chain, OWN, chains, segments};
use super::{ReadError, Reader, rows, tables};

/// Flaws told one by one; more are counted.
const FLAWS: usize = 1_000;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Every chain, this node's own first.
    pub chains: Vec<ChainSeen>,
    /// What is wrong, at most a thousand …
    pub flaws: Vec<Flaw>,
    /// … of so many.
    pub flaws_in_all: u64,
}

/// A chain as it is on this disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainSeen {
    /// Who wrote it.
    pub author: PeerId,
    /// Which.
    pub chain: u64,
    /// 0, or another line of segments under the same numbers.
    pub branch: u8,
    /// It is a copy.
    pub copy: bool,
    /// Its first segment here …
    pub first: u64,
    /// … and its last.
    pub last: u64,
    /// Its first entry …
    pub first_entry: u64,
    /// … and its last.
    pub last_entry: u64,
    /// When the first was written …
    pub from: Timestamp,
    /// … and when the last.
    pub to: Timestamp,
    /// Nothing is wrong with it.
    pub good: bool,
    /// The chain that it goes on from, and after which segment of it; where that one goes on too, its author's memory had jumped back.
    pub follows: Option<(u64, u64, bool)>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// In whose record.
    pub author: PeerId,
    /// In which chain.
    pub chain: u64,
    /// It is in a copy.
    pub copy: bool,
    /// From this segment …
    pub first: u64,
    /// … to this.
    pub last: u64,
    /// The entries concerned, as far as known.
    pub entries: Option<(u64, u64)>,
    /// What is wrong.
    pub kind: FlawKind,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlawKind {
    /// It cannot be read.
    Damaged,
    /// Its signature does not fit: its bytes, or the signature's, are not what its author wrote.
    Signature,
    /// It stands in the place of another.
    Misplaced,
    /// It does not cite the one before it: one of the two was changed.
    Hash,
    /// Segments are missing.
    Missing,
    /// Its entries are not numbered on from those before.
    Sequence,
    /// There are two segments of one number: their author wrote both.
    Forked,
    /// Whoever looks for an order or a letter may miss some of it: what these are looked up by does not name all of it.
    Index,
}

impl Reader {
    /// Looks at every row.
    ///
    /// # Errors
    /// [`ReadError`]: the database itself cannot be read.
    pub fn verify(&self, me: &PeerId, swarm: &str) -> Result<Verification, ReadError> {
        self.with(|txn| {
            let mut look = Look {
                swarm,
                found: Verification::default(),
                cited: BTreeMap::new(),
                lines: BTreeMap::new(),
                cites: Vec::new(),
                me: *me,
                summaries: BTreeSet::new(),
                missing: Vec::new(),
                bad: BTreeSet::new(),
            };
            let mut all = chains(txn, OWN)?;
            all.append(&mut chains(txn, COPY)?);
            for chain in &all {
                look.note_citation(txn, chain)?;
            }
            for (at, chain) in all.iter().enumerate() {
                let others = all.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other);
                let mut others =
                    others.filter(|other| (other.chain, other.author.unwrap_or(*me)) == (chain.chain, chain.author.unwrap_or(*me)));
                let forked = others.try_fold(false, |forked, other| Ok::<_, Fault>(forked || differ(txn, chain, other)?))?;
                look.chain(txn, chain, forked)?;
            }
            look.fill_holes(txn, &all)?;
            for chain in &all {
                look.blocks(txn, chain)?;
            }
            Ok(look.finish())
        })
    }
}

/// Whether two lines of a chain have different segments of one number: where the one has a hole, the other may only fill it.
fn differ(txn: &ReadTransaction, one: &Chain, other: &Chain) -> Result<bool, Fault> {
    let (first, second) = (segments(txn, one.copy)?, segments(txn, other.copy)?);
    for row in first.range((one.ordinal, 0)..=(one.ordinal, u64::MAX))? {
        let (key, row) = row?;
        if second.get((other.ordinal, key.value().1))?.is_some_and(|there| there.value() != row.value()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Author, chain, segment and branch.
type Place = (PeerId, u64, u64, u8);

/// What is said of a line if it is one too many, which it is, and the hash of its last segment.
type Line = (Flaw, u8, Option<[u8; 32]>);

struct Look<'a> {
    swarm: &'a str,
    found: Verification,
    /// Hashes that first segments cite, and where the segment was found that has each.
    cited: BTreeMap<[u8; 32], Option<Place>>,
    /// Lines of one chain that differ: two segments of one number were signed. That is no wonder where another chain goes on
    /// from the end of all of them but one: their author's memory had jumped back, and it had noticed.
    lines: BTreeMap<(PeerId, u64), Vec<Line>>,
    /// What was let go of, and written down by this node or its author: author, chain, last segment and its hash.
    summaries: BTreeSet<(PeerId, u64, u64, [u8; 32])>,
    /// What is missing, and which summary would account for it.
    missing: Vec<(Flaw, u8, [u8; 32])>,
    /// Author, chain, branch and whether it is a copy: something is wrong with these.
    bad: BTreeSet<(PeerId, u64, u8, bool)>,
    /// What the first segment of each chain cites.
    cites: Vec<Option<[u8; 32]>>,
    me: PeerId,
}

impl Look<'_> {
    fn note_citation(&mut self, txn: &ReadTransaction, chain: &Chain) -> Result<(), Fault> {
        let table = segments(txn, chain.copy)?;
        let first = table.get((chain.ordinal, 1))?;
        let opened = first.and_then(|row| rows::read_segment((chain.ordinal, 1), row.value()).ok());
        let previous = opened.and_then(|(.., signed)| segment::open(&signed.body).ok()).map(|opened| opened.previous);
        let previous = previous.filter(|hash| *hash != [0; 32]);
        if let Some(hash) = previous {
            self.cited.insert(hash, None);
        }
        self.cites.push(previous);
        Ok(())
    }

    fn chain(&mut self, txn: &ReadTransaction, chain: &Chain, forked: bool) -> Result<(), Fault> {
        let table = segments(txn, chain.copy)?;
        let author = chain.author.unwrap_or(self.me);
        let mut seen = ChainSeen {
            author,
            chain: chain.chain,
            branch: chain.branch,
            copy: chain.copy == COPY,
            first: 0,
            last: 0,
            first_entry: 0,
            last_entry: 0,
            from: Timestamp(0),
            to: Timestamp(0),
            good: true,
            follows: None,
        };
        // A hole: what came before it is missing.
        let mut hole: Option<(u64, u64)> = None;
        // Hash of the last segment, and the entry after it; none where one could not be read.
        let mut end: Option<([u8; 32], u64)> = None;
        for row in table.range((chain.ordinal, 0)..=(chain.ordinal, u64::MAX))? {
            let (key, row) = row?;
            let number = key.value().1;
            if seen.first == 0 {
                seen.first = number;
                hole = (number > 1).then_some((1, number - 1));
            } else if number > seen.last + 1 {
                hole = Some((seen.last + 1, number - 1));
                end = None;
            }
            seen.last = number;
            let head = rows::read_segment_head(key.value(), row.value()).ok();
            let told = head.map(|(first, entries, _)| (first, (first + u64::from(entries)).saturating_sub(1)));
            let signed: Option<Signed<Segment>> = rows::read_segment(key.value(), row.value()).ok().map(|(.., signed)| signed);
            let Some((signed, opened)) = signed.and_then(|signed| segment::open(&signed.body).ok().map(|opened| (signed, opened))) else {
                if let Some(missing) = hole.take() {
                    self.flaw(&seen, missing, None, FlawKind::Missing);
                }
                self.flaw(&seen, (number, number), told, FlawKind::Damaged);
                end = None;
                continue;
            };
            let last_entry = (opened.first + opened.entries.len() as u64).saturating_sub(1);
            let entries = Some((opened.first, last_entry));
            let hash: [u8; 32] = Sha256::digest(&signed.body).into();
            if (opened.author, opened.chain, opened.number) != (author, chain.chain, number) || told != entries || opened.entries.is_empty()
            {
                self.flaw(&seen, (number, number), entries, FlawKind::Misplaced);
            } else if !signed.is_by(&author, self.swarm) {
                self.flaw(&seen, (number, number), entries, FlawKind::Signature);
            }
            if let Some((first, last)) = hole.take() {
                let flaw = Flaw { author, chain: seen.chain, copy: seen.copy, first, last, entries: None, kind: FlawKind::Missing };
                self.missing.push((flaw, seen.branch, opened.previous));
            }
            let told_by = opened.author;
            for (_, what) in &opened.entries {
                if let Some(What::RecordPruned { of, chain, through, hash, .. }) = what
                    && (told_by == self.me || told_by == *of)
                {
                    self.summaries.insert((*of, *chain, *through, hash.into_array()));
                }
            }
            if let Some((previous, next)) = end {
                if opened.previous != previous {
                    self.flaw(&seen, (number - 1, number), entries, FlawKind::Hash);
                }
                if opened.first != next {
                    self.flaw(&seen, (number, number), entries, FlawKind::Sequence);
                }
            }
            if seen.first_entry == 0 {
                seen.first_entry = opened.first;
                seen.from = opened.entries.first().map_or(Timestamp(0), |(time, _)| *time);
            }
            seen.last_entry = last_entry;
            seen.to = opened.entries.last().map_or(seen.to, |(time, _)| *time);
            if let Some(place) = self.cited.get_mut(&hash) {
                *place = Some((author, chain.chain, number, chain.branch));
            }
            end = Some((hash, last_entry + 1));
        }
        if forked && seen.last > 0 {
            let ChainSeen { author, chain, copy, first, last, branch, .. } = seen;
            let flaw = Flaw { author, chain, copy, first, last, entries: None, kind: FlawKind::Forked };
            self.lines.entry((author, chain)).or_default().push((flaw, branch, end.map(|(hash, _)| hash)));
        }
        self.found.chains.push(seen);
        Ok(())
    }

    /// What is missing in one line and stands in another is here: it was had later than what comes after it.
    fn fill_holes(&mut self, txn: &ReadTransaction, all: &[Chain]) -> Result<(), Fault> {
        let tables = [segments(txn, OWN)?, segments(txn, COPY)?];
        let mut missing = Vec::new();
        for (flaw, branch, hash) in std::mem::take(&mut self.missing) {
            let others = all.iter().filter(|chain| (chain.author.unwrap_or(self.me), chain.chain) == (flaw.author, flaw.chain));
            let mut there = false;
            for other in others {
                let table = &tables[usize::from(other.copy)];
                let rows = table.range((other.ordinal, flaw.first)..=(other.ordinal, flaw.last))?;
                let all_of_them = rows.count() as u64 == flaw.last - flaw.first + 1;
                let key = (other.ordinal, flaw.last);
                let is_it = |row: &[u8]| rows::read_segment(key, row).is_ok_and(|(.., signed)| segment::hash(&signed) == hash);
                there |= all_of_them && table.get(key)?.is_some_and(|row| is_it(row.value()));
            }
            if !there {
                missing.push((flaw, branch, hash));
            }
        }
        self.missing = missing;
        Ok(())
    }

    /// What is looked up by must name all that a listing shows.
    fn blocks(&mut self, txn: &ReadTransaction, chain: &Chain) -> Result<(), Fault> {
        let table = segments(txn, chain.copy)?;
        let all = (chain.copy, chain.ordinal, 0)..=(chain.copy, chain.ordinal, u64::MAX);
        // The latest time so far; where old segments have gone, the first block knows more of it than what is left.
        let mut clock = None;
        let mut end = 0;
        for row in txn.open_table(tables::BLOCKS)?.range(all)? {
            let (key, row) = row?;
            let first = key.value().2;
            let block = Block::read(key.value(), row.value()).ok().filter(|_| first > end);
            let last = block.as_ref().map_or(first, |block| block.last);
            end = last;
            let mut entries = None;
            let (mut read, mut times) = (0, None);
            let before = block.as_ref().map_or(0, |block| block.before);
            let mut good = block.is_some() && clock.is_none_or(|clock| clock == before);
            for row in table.range((chain.ordinal, first)..=(chain.ordinal, last))? {
                let (key, row) = row?;
                // What cannot be read is a flaw of its own.
                let Ok((.., signed)) = rows::read_segment(key.value(), row.value()) else { continue };
                let Ok(opened) = segment::open(&signed.body) else { continue };
                let next = opened.first + opened.entries.len() as u64;
                entries = Some((entries.map_or(opened.first, |(first, _)| first), next.saturating_sub(1)));
                good &= block.as_ref().is_some_and(|block| block.names(&opened));
                read += 1;
                for (time, _) in &opened.entries {
                    times = Some(times.map_or((time.0, time.0), |(min, max): (u64, u64)| (min.min(time.0), max.max(time.0))));
                }
            }
            // Where all of it is still there, it spans that and no more.
            if let (Some(block), true) = (&block, last - first + 1 == read) {
                let spans = (Some((block.first_entry, block.next_entry.saturating_sub(1))), Some((block.min, block.max)));
                good &= spans == (entries, times);
            }
            clock = block.map(|block| before.max(block.max));
            if !good {
                let (author, copy) = (chain.author.unwrap_or(self.me), chain.copy == COPY);
                self.bad.insert((author, chain.chain, chain.branch, copy));
                self.tell(Flaw { author, chain: chain.chain, copy, first, last, entries, kind: FlawKind::Index });
            }
        }
        Ok(())
    }

    fn tell(&mut self, flaw: Flaw) {
        self.found.flaws_in_all += 1;
        if self.found.flaws.len() < FLAWS {
            self.found.flaws.push(flaw);
        }
    }

    fn flaw(&mut self, seen: &ChainSeen, (first, last): (u64, u64), entries: Option<(u64, u64)>, kind: FlawKind) {
        self.bad.insert((seen.author, seen.chain, seen.branch, seen.copy));
        self.tell(Flaw { author: seen.author, chain: seen.chain, copy: seen.copy, first, last, entries, kind });
    }

    /// Which chain goes on from which.
    fn finish(mut self) -> Verification {
        let ends: Vec<(PeerId, u64, u64)> = self.found.chains.iter().map(|seen| (seen.author, seen.chain, seen.last)).collect();
        let mut forked = Vec::new();
        for lines in self.lines.values() {
            let ends = lines.iter().filter(|(.., end)| end.is_none_or(|hash| !self.cited.contains_key(&hash)));
            // The first of them is the chain itself.
            forked.extend(ends.skip(1).cloned());
        }
        for (flaw, branch, _) in forked {
            self.bad.insert((flaw.author, flaw.chain, branch, flaw.copy));
            self.tell(flaw);
        }
        for (flaw, branch, hash) in std::mem::take(&mut self.missing) {
            if self.summaries.contains(&(flaw.author, flaw.chain, flaw.last, hash)) {
                continue;
            }
            self.bad.insert((flaw.author, flaw.chain, branch, flaw.copy));
            self.tell(flaw);
        }
        for seen in &mut self.found.chains {
            seen.good = !self.bad.contains(&(seen.author, seen.chain, seen.branch, seen.copy));
        }
        for (seen, cites) in self.found.chains.iter_mut().zip(&self.cites) {
            let place = cites.and_then(|hash| self.cited.get(&hash).copied().flatten());
            seen.follows = place.filter(|(author, ..)| *author == seen.author).map(|(author, chain, number, _)| {
                let goes_on = ends.iter().any(|(of, other, last)| (*of, *other) == (author, chain) && *last > number);
                (chain, number, goes_on)
            });
        }
        self.found
    }
}
