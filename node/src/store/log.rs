//! The record read back: this node's own chains and the copies of others', as one.
//! Knows nothing of who asks. By time, each chain's entries in its own order; or by arrival, where nothing is ever told too late.

mod newest;

use std::collections::VecDeque;

use protocol::config::limits;
use protocol::copies::ChainHead;
use protocol::effect::ChainEnd;
use protocol::log::{self, About, Answer, Cursor, Logged, Question, Subject};
use protocol::segment::{Opened, Segment, What};
use protocol::sign::Signed;
use protocol::{LetterId, PeerId, Timestamp, codec};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};

use super::blocks::Block;
use super::fault::Fault;
use super::{ReadError, Reader, rows, tables};

/// In keys: a chain of this node itself …
pub(crate) const OWN: u8 = 0;
/// … or a copy of one.
pub(crate) const COPY: u8 = 1;
/// Entries that one call looks at; then it answers with what it has (measured: about 1 us each).
const LOOKED_AT: usize = 200_000;
/// Letters told of, if several are meant.
const CANDIDATES: usize = 10;

pub(crate) type Segments = ReadOnlyTable<(u32, u64), &'static [u8]>;
type Blocks = ReadOnlyTable<(u8, u32, u64), &'static [u8]>;
/// Orders entries of all chains: time, copy or not, chain, sequence.
type Key = (u64, u8, u32, u64);

/// A chain on this disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) copy: u8,
    pub(crate) ordinal: u32,
    /// None: this node itself.
    pub(crate) author: Option<PeerId>,
    pub(crate) chain: u64,
    pub(crate) branch: u8,
}

/// The chains of this node itself, or those it keeps copies of.
pub(crate) fn chains(txn: &ReadTransaction, copy: u8) -> Result<Vec<Chain>, Fault> {
    let mut chains = Vec::new();
    if copy == OWN {
        for row in txn.open_table(tables::CHAINS)?.iter()? {
            let (ordinal, chain) = row?;
            chains.push(Chain { copy, ordinal: ordinal.value(), author: None, chain: chain.value(), branch: 0 });
        }
    } else {
        for row in txn.open_table(tables::COPY_CHAINS)?.iter()? {
            let (ordinal, row) = row?;
            let ordinal = ordinal.value();
            let (author, chain, branch): (PeerId, u64, u8) = rows::cbor(&tables::COPY_CHAINS, &ordinal, row.value())?;
            chains.push(Chain { copy, ordinal, author: Some(author), chain, branch });
        }
    }
    Ok(chains)
}

/// Where the segments of this node itself stand, or the copies of others'.
pub(crate) fn segments(txn: &ReadTransaction, copy: u8) -> Result<Segments, Fault> {
    Ok(txn.open_table(if copy == OWN { tables::SEGMENTS } else { tables::COPIED })?)
}

/// The tables that are read.
struct Shelves {
    own: Segments,
    copies: Segments,
    blocks: Blocks,
    chains: Vec<Chain>,
}

impl Shelves {
    fn open(txn: &ReadTransaction) -> Result<Shelves, Fault> {
        let mut all = chains(txn, OWN)?;
        all.append(&mut chains(txn, COPY)?);
        let mut shelves =
            Shelves { own: segments(txn, OWN)?, copies: segments(txn, COPY)?, blocks: txn.open_table(tables::BLOCKS)?, chains: Vec::new() };
        let mut me = None;
        for chain in all.iter().filter(|chain| chain.copy == OWN) {
            me = if me.is_some() { me } else { shelves.author(chain)? };
        }
        all.iter_mut().filter(|chain| chain.copy == OWN).for_each(|chain| chain.author = me);
        shelves.chains = all;
        Ok(shelves)
    }

    fn of(&self, copy: u8) -> &Segments {
        if copy == OWN { &self.own } else { &self.copies }
    }

    /// Who wrote a chain; none if it is empty.
    fn author(&self, chain: &Chain) -> Result<Option<PeerId>, Fault> {
        if chain.author.is_some() {
            return Ok(chain.author);
        }
        for row in self.own.range((chain.ordinal, 0)..=(chain.ordinal, u64::MAX))? {
            let (key, row) = row?;
            if let Some((segment, _)) = opened(key.value(), row.value()) {
                return Ok(Some(segment.author));
            }
        }
        Ok(None)
    }

    /// The chains of one peer, or of all.
    fn of_peer(&self, peer: Option<PeerId>) -> Result<Vec<Chain>, Fault> {
        let mut chains = Vec::new();
        for chain in &self.chains {
            if peer.is_none() || peer == self.author(chain)? {
                chains.push(*chain);
            }
        }
        Ok(chains)
    }

    /// What was written before this is not all here any more; none if all is.
    fn whole_since(&self, peer: Option<PeerId>) -> Result<Option<Timestamp>, Fault> {
        let mut since = None;
        for chain in self.of_peer(peer)?.iter().filter(|chain| chain.branch == 0) {
            let mut rows = self.of(chain.copy).range((chain.ordinal, 0)..=(chain.ordinal, u64::MAX))?;
            let Some((key, row)) = rows.next().transpose()? else { continue };
            if key.value().1 > 1 {
                let segment = opened(key.value(), row.value());
                since = since.max(segment.and_then(|(segment, _)| segment.entries.first().map(|(time, _)| *time)));
            }
        }
        Ok(since)
    }

    /// Whether a segment of a branch stands in the main branch, too.
    fn is_shared(&self, chain: &Chain, number: u64, row: &[u8]) -> Result<bool, Fault> {
        if chain.branch == 0 {
            return Ok(false);
        }
        let main = self.chains.iter().find(|other| (other.author, other.chain, other.branch) == (chain.author, chain.chain, 0));
        let Some(main) = main else { return Ok(false) };
        Ok(self.of(main.copy).get((main.ordinal, number))?.is_some_and(|main| main.value() == row))
    }
}

/// The segment of a row, and its hash; none if it cannot be read: verification says so, and what stands beside it can be read.
fn opened(key: (u32, u64), row: &[u8]) -> Option<(Opened, [u8; 32])> {
    let read = || {
        let (.., signed) = rows::read_segment(key, row).map_err(|fault| fault.to_string())?;
        let opened = protocol::segment::open(&signed.body).map_err(|error| error.to_string())?;
        Ok::<_, String>((opened, protocol::segment::hash(&signed)))
    };
    read().inspect_err(|error| tracing::debug!(%error, chain = key.0, number = key.1, "a segment of the record cannot be read")).ok()
}

impl Reader {
    /// One page of what the record says. It may be short of the limit, and go on all the same.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn log(&self, question: &Question) -> Result<Answer, ReadError> {
        self.with(|txn| {
            let shelves = Shelves::open(txn)?;
            let subject = match &question.about {
                None => None,
                Some(about @ About::Order { .. }) => Some(Subject::of(about)),
                Some(about) => match found(&shelves, about)? {
                    Found::One(subject) => Some(subject),
                    Found::None => return Ok(Answer::default()),
                    Found::Several(candidates) => return Ok(Answer { candidates, ..Answer::default() }),
                },
            };
            let mut answer = match (question.arrivals, question.newest) {
                (true, _) => by_arrival(txn, &shelves, question, subject.as_ref())?,
                (false, true) => newest::by_time(&shelves, question, subject.as_ref())?,
                (false, false) => by_time(&shelves, question, subject.as_ref())?,
            };
            if question.after.is_none() {
                let whole_since = shelves.whole_since(question.peer)?;
                answer.whole_since = whole_since.filter(|whole| question.since.is_none_or(|since| since < *whole));
            }
            Ok(answer)
        })
    }
}

/// Reading for whoever keeps the record next.
impl Reader {
    /// Segments of a chain of this node, or of a branch of somebody's, after this one: a page.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn segments(&self, of: Option<(PeerId, u8)>, chain: u64, after: u64) -> Result<Vec<Signed<Segment>>, ReadError> {
        self.with(|txn| {
            let copy = if of.is_some() { COPY } else { OWN };
            let found = chains(txn, copy)?
                .into_iter()
                .find(|one| one.chain == chain && of.is_none_or(|of| Some(of.0) == one.author && of.1 == one.branch));
            let Some(found) = found else { return Ok(Vec::new()) };
            let table = segments(txn, copy)?;
            let (mut segments, mut bytes, mut next) = (Vec::new(), 0, after.saturating_add(1));
            for row in table.range((found.ordinal, next)..=(found.ordinal, u64::MAX))? {
                let (key, row) = row?;
                // One that cannot be read is a hole, too.
                let Ok((.., signed)) = rows::read_segment(key.value(), row.value()) else { continue };
                bytes += row.value().len();
                let full = segments.len() >= limits::SEGMENTS || bytes > limits::SEGMENTS_BYTES;
                // Behind a hole begins another page.
                let hole = key.value().1 != next && !segments.is_empty();
                if (full || hole) && !segments.is_empty() {
                    break;
                }
                next = key.value().1 + 1;
                segments.push(signed);
            }
            Ok(segments)
        })
    }

    /// Whether a segment with this hash stands under its number in a chain of its author; none if nothing does.
    pub(crate) fn stands(&self, head: &ChainHead) -> Result<Option<bool>, ReadError> {
        self.with(|txn| {
            let mut there = false;
            let is_it = |row: &[u8], key| -> Result<bool, Fault> {
                let (.., signed) = rows::read_segment(key, row)?;
                Ok(protocol::segment::hash(&signed) == head.hash.into_array())
            };
            for copy in [OWN, COPY] {
                let table = segments(txn, copy)?;
                for chain in chains(txn, copy)?
                    .into_iter()
                    .filter(|chain| chain.chain == head.chain && chain.author.is_none_or(|author| author == head.author))
                {
                    let key = (chain.ordinal, head.last);
                    let Some(row) = table.get(key)? else { continue };
                    if is_it(row.value(), key)? {
                        return Ok(Some(true));
                    }
                    there = true;
                }
            }
            Ok(there.then_some(false))
        })
    }
}

/// The ends of the chains of this node itself, or of those it keeps copies of.
pub(crate) fn ends(txn: &ReadTransaction, copy: u8) -> Result<Vec<ChainEnd>, Fault> {
    let table = segments(txn, copy)?;
    let mut ends = Vec::new();
    for chain in chains(txn, copy)? {
        let mut rows = table.range((chain.ordinal, 0)..=(chain.ordinal, u64::MAX))?;
        let Some((key, row)) = rows.next_back().transpose()? else { continue };
        let last = key.value().1;
        let first = rows.next().transpose()?.map_or(last, |(key, _)| key.value().1);
        // A row that cannot be read is found by verification; it must not keep the node from starting.
        let (.., signed) = rows::read_segment(key.value(), row.value())?;
        let author = match chain.author {
            Some(author) => author,
            None => signed.trusted().map_err(|error| Fault::row(&tables::SEGMENTS, &key.value(), error))?.author,
        };
        ends.push(ChainEnd { author, chain: chain.chain, branch: chain.branch, first, last, hash: protocol::segment::hash(&signed) });
    }
    Ok(ends)
}

enum Found {
    None,
    One(Subject),
    Several(Vec<LetterId>),
}

/// The letter that is meant, and where its copies are.
fn found(shelves: &Shelves, about: &About) -> Result<Found, Fault> {
    let question = Question { limit: usize::MAX, ..Question::default() };
    let mut after = None;
    let mut letters: Vec<Subject> = Vec::new();
    let unfound = Subject::of(about);
    loop {
        let page = by_time(shelves, &Question { after, ..question.clone() }, Some(&unfound))?;
        for logged in page.entries {
            let Some(What::LetterAccepted { letter, to, epoch }) = logged.what else { continue };
            let new = to.into_iter().map(|(peer, seq)| (peer, epoch, seq));
            let known = letters.iter_mut().find_map(|known| match known {
                Subject::Letter { id, copies, .. } if *id == letter => Some(copies),
                _ => None,
            });
            match known {
                Some(copies) => copies.extend(new),
                None => letters.push(Subject::Letter { id: letter, author: logged.author, copies: new.collect() }),
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(match (letters.pop(), letters.is_empty()) {
        (None, _) => Found::None,
        (Some(one), true) => Found::One(one),
        (Some(last), false) => {
            letters.push(last);
            let ids = letters.iter().filter_map(|one| if let Subject::Letter { id, .. } = one { Some(*id) } else { None });
            Found::Several(ids.take(CANDIDATES).collect())
        }
    })
}

fn by_arrival(txn: &ReadTransaction, shelves: &Shelves, question: &Question, subject: Option<&Subject>) -> Result<Answer, Fault> {
    let arrivals = txn.open_table(tables::ARRIVALS)?;
    let end = arrivals.last()?.map_or(0, |(no, _)| no.value());
    let (mut no, mut told) = match question.after {
        Some(Cursor::Arrival { no, told }) if no <= end => (no, told),
        // Later than anything: from now on. A record that is shorter than it was is another one, from a backup.
        Some(_) => (end, u32::MAX),
        None => (0, 0),
    };
    let (mut entries, mut looked_at, mut weight) = (Vec::new(), 0, 0);
    for row in arrivals.range(no..)? {
        let (key, place) = row?;
        let (copy, ordinal, number) = place.value();
        let begin = if key.value() == no { told } else { 0 };
        let Some(chain) = shelves.chains.iter().find(|chain| (chain.copy, chain.ordinal) == (copy, ordinal)) else { continue };
        // Old segments go: what is gone cannot be told.
        let Some(row) = shelves.of(copy).get((ordinal, number))? else { continue };
        (no, told) = (key.value(), u32::MAX);
        if shelves.is_shared(chain, number, row.value())? {
            continue;
        }
        let Some((Opened { author, first, entries: all, .. }, _)) = opened((ordinal, number), row.value()) else { continue };
        looked_at += all.len();
        for ((index, seq), (time, what)) in (0..).zip(first..).zip(all) {
            if index < begin || !is_wanted(question, subject, &author, time, what.as_ref()) {
                continue;
            }
            if entries.len() == question.limit || weight >= log::PAGE_BYTES {
                told = index;
                return Ok(Answer { entries, next: Some(Cursor::Arrival { no, told }), ..Answer::default() });
            }
            let logged = Logged { author, chain: chain.chain, branch: chain.branch, seq, time, what, doubtful: false };
            weight += logged.weight();
            entries.push(logged);
        }
        if looked_at >= LOOKED_AT {
            break;
        }
    }
    Ok(Answer { entries, next: Some(Cursor::Arrival { no, told }), ..Answer::default() })
}

fn is_wanted(question: &Question, subject: Option<&Subject>, author: &PeerId, time: Timestamp, what: Option<&What>) -> bool {
    question.peer.is_none_or(|peer| peer == *author)
        && question.wants(time, what)
        && subject.is_none_or(|subject| what.is_some_and(|what| subject.concerned(author, what)))
}

fn by_time(shelves: &Shelves, question: &Question, subject: Option<&Subject>) -> Result<Answer, Fault> {
    let after: Key = match question.after {
        Some(Cursor::Time { clock, copy, ordinal, seq }) => (clock, u8::from(copy), ordinal, seq),
        _ => (0, 0, 0, 0),
    };
    let hashes = subject.map(Subject::hashes);
    let look = Look { shelves, question, subject, hashes: hashes.as_deref(), after };
    let chains = shelves.of_peer(question.peer)?;
    // Each moves on in every call, so that the next page begins later.
    let budget = LOOKED_AT / chains.len().max(1) + 1;
    let mut walks = chains.into_iter().map(|chain| Walk::begin(&look, chain, budget)).collect::<Result<Vec<_>, Fault>>()?;
    let (mut entries, mut weight) = (Vec::new(), 0);
    loop {
        for walk in &mut walks {
            walk.fill(&look)?;
        }
        // Whoever has looked at enough knows nothing of what comes after that.
        let known = walks.iter().filter(|walk| walk.ready.is_empty() && !walk.ended).map(|walk| walk.frontier).min();
        let next = walks.iter_mut().filter(|walk| !walk.ready.is_empty()).min_by_key(|walk| walk.ready.front().map(|(key, _)| *key));
        let Some(walk) = next else {
            return Ok(Answer { entries, next: known.and_then(place), ..Answer::default() });
        };
        let Some((key, logged)) = walk.ready.pop_front() else { continue };
        if let Some(known) = known
            && key > known
        {
            return Ok(Answer { entries, next: place(known), ..Answer::default() });
        }
        weight += logged.weight();
        entries.push(logged);
        if entries.len() == question.limit || weight >= log::PAGE_BYTES {
            return Ok(Answer { entries, next: place(key), ..Answer::default() });
        }
    }
}

fn place((clock, copy, ordinal, seq): Key) -> Option<Cursor> {
    Some(Cursor::Time { clock, copy: copy == COPY, ordinal, seq })
}

struct Look<'a> {
    shelves: &'a Shelves,
    question: &'a Question,
    subject: Option<&'a Subject>,
    hashes: Option<&'a [u32]>,
    /// Where the page before ended.
    after: Key,
}

impl Look<'_> {
    fn may_be_in(&self, block: &Block) -> bool {
        self.question.since.is_none_or(|since| block.max >= since.0)
            && self.question.until.is_none_or(|until| block.min <= until.0)
            && self.hashes.is_none_or(|hashes| block.has_one_of(hashes))
    }
}

/// A segment's number, its hash, and what is wanted of it.
type Uncited = (u64, [u8; 32], Vec<(Key, Logged)>);

/// A way through one chain.
struct Walk {
    chain: Chain,
    /// The next segment.
    next: u64,
    /// The last segment of a block that was found worth reading; up to it no other block is looked for.
    reads_to: u64,
    rows: Option<redb::Range<'static, (u32, u64), &'static [u8]>>,
    clock: u64,
    ready: VecDeque<(Key, Logged)>,
    /// What was read last, until the segment behind it has cited it.
    held: Option<Uncited>,
    frontier: Key,
    /// Entries that it may still look at.
    budget: usize,
    ended: bool,
}

impl Walk {
    fn begin(look: &Look<'_>, chain: Chain, budget: usize) -> Result<Walk, Fault> {
        let (ready, frontier) = (VecDeque::new(), look.after);
        let mut walk = Walk { chain, next: 0, reads_to: 0, rows: None, clock: 0, ready, held: None, frontier, budget, ended: false };
        let all = (chain.copy, chain.ordinal, 0)..=(chain.copy, chain.ordinal, u64::MAX);
        let Some(last) = look.shelves.blocks.range(all.clone())?.next_back().transpose()?.map(|(key, _)| key.value().2) else {
            return Ok(walk);
        };
        // The last block before which no entry is later than where the page before ended.
        let (mut low, mut high) = (0, last);
        while low <= high {
            let middle = low + (high - low) / 2;
            let block =
                look.shelves.blocks.range((chain.copy, chain.ordinal, 0)..=(chain.copy, chain.ordinal, middle))?.next_back().transpose()?;
            let Some((key, row)) = block else {
                low = middle + 1;
                continue;
            };
            let (first, block) = (key.value().2, Block::read(key.value(), row.value())?);
            if (block.before, chain.copy, chain.ordinal, block.first_entry.saturating_sub(1)) <= look.after {
                (walk.next, walk.clock) = (first, block.before);
                low = middle + 1;
            } else if first == 0 {
                break;
            } else {
                high = first - 1;
            }
        }
        Ok(walk)
    }

    /// Reads on until something is found.
    fn fill(&mut self, look: &Look<'_>) -> Result<(), Fault> {
        let Chain { copy, ordinal, chain, branch, .. } = self.chain;
        let table = look.shelves.of(copy);
        while self.ready.is_empty() && !self.ended && self.budget > 0 {
            if self.rows.is_none() || self.next > self.reads_to {
                let block = look.shelves.blocks.range((copy, ordinal, self.next)..=(copy, ordinal, u64::MAX))?.next().transpose()?;
                let block = block.map(|(key, row)| Ok::<_, Fault>((key.value().2, Block::read(key.value(), row.value())?))).transpose()?;
                match block {
                    // At the beginning of a chain the numbers may begin anywhere.
                    Some((first, block)) if first == self.next || self.next == 0 => {
                        if !look.may_be_in(&block) {
                            self.next = block.last + 1;
                            self.clock = self.clock.max(block.before).max(block.max);
                            self.frontier = self.frontier.max((self.clock, copy, ordinal, block.next_entry.saturating_sub(1)));
                            self.rows = None;
                            self.release();
                            continue;
                        }
                        self.reads_to = block.last;
                    }
                    Some((first, _)) => self.reads_to = first - 1,
                    None => self.reads_to = u64::MAX,
                }
            }
            if self.rows.is_none() {
                self.rows = Some(table.range((ordinal, self.next)..=(ordinal, u64::MAX))?);
            }
            let Some(row) = self.rows.as_mut().and_then(Iterator::next) else {
                self.ended = true;
                break;
            };
            let (key, row) = row?;
            self.next = key.value().1 + 1;
            if look.shelves.is_shared(&self.chain, key.value().1, row.value())? {
                continue;
            }
            let Some((segment, hash)) = opened(key.value(), row.value()) else {
                self.release();
                continue;
            };
            let number = key.value().1;
            let before = self.held.as_mut().filter(|(before, ..)| before + 1 == number);
            let doubtful = before.is_some_and(|(_, cited, entries)| {
                let differs = *cited != segment.previous;
                entries.iter_mut().for_each(|(_, logged)| logged.doubtful |= differs);
                differs
            });
            self.release();
            let (author, mut wanted) = (segment.author, Vec::new());
            for (seq, (time, what)) in (segment.first..).zip(segment.entries) {
                self.clock = self.clock.max(time.0);
                let place = (self.clock, copy, ordinal, seq);
                if place > look.after {
                    self.budget = self.budget.saturating_sub(1);
                }
                self.frontier = self.frontier.max(place);
                if place > look.after && is_wanted(look.question, look.subject, &author, time, what.as_ref()) {
                    wanted.push((place, Logged { author, chain, branch, seq, time, what, doubtful }));
                }
            }
            self.held = Some((number, hash, wanted));
        }
        if self.ready.is_empty() {
            self.release();
        }
        Ok(())
    }

    /// Nothing more will be known of what was read last.
    fn release(&mut self) {
        self.ready.extend(self.held.take().into_iter().flat_map(|(.., entries)| entries));
    }
}

/// The row that names a copied chain.
pub(crate) fn copy_chain(author: &PeerId, chain: u64, branch: u8) -> Vec<u8> {
    codec::encode(&(author, chain, branch))
}
