//! The record read from its end: the newest entries first, page by page back to the beginning.
//! Knows nothing of arrivals. Each chain is read a block at a time, since only the beginning of a block knows its clock.

use std::collections::VecDeque;

use protocol::log::{self, Answer, Cursor, Logged, Question, Subject};
use protocol::segment::Opened;

use super::{Chain, Key, LOOKED_AT, Look, Shelves, is_wanted, opened, place};
use crate::store::blocks::Block;
use crate::store::fault::Fault;

/// One page, from the newest back.
pub(super) fn by_time(shelves: &Shelves, question: &Question, subject: Option<&Subject>) -> Result<Answer, Fault> {
    let after: Key = match question.after {
        Some(Cursor::Time { clock, copy, ordinal, seq }) => (clock, u8::from(copy), ordinal, seq),
        _ => (u64::MAX, u8::MAX, u32::MAX, u64::MAX),
    };
    let hashes = subject.map(Subject::hashes);
    let look = Look { shelves, question, subject, hashes: hashes.as_deref(), after };
    let chains = shelves.of_peer(question.peer)?;
    // Each moves on in every call, so that the next page begins earlier.
    let budget = LOOKED_AT / chains.len().max(1) + 1;
    let begin = |chain| Walk { chain, last: Some(u64::MAX), ready: VecDeque::new(), frontier: after, budget };
    let mut walks: Vec<Walk> = chains.into_iter().map(begin).collect();
    let (mut entries, mut weight) = (Vec::new(), 0);
    loop {
        for walk in &mut walks {
            walk.fill(&look)?;
        }
        // Whoever has looked at enough knows nothing of what comes before that.
        let known = walks.iter().filter(|walk| walk.ready.is_empty() && walk.last.is_some()).map(|walk| walk.frontier).max();
        let next = walks.iter_mut().filter(|walk| !walk.ready.is_empty()).max_by_key(|walk| walk.ready.front().map(|(key, _)| *key));
        let Some((key, logged)) = next.and_then(|walk| walk.ready.pop_front()) else {
            return Ok(Answer { entries, next: known.and_then(place), ..Answer::default() });
        };
        if let Some(known) = known.filter(|known| key < *known) {
            return Ok(Answer { entries, next: place(known), ..Answer::default() });
        }
        weight += logged.weight();
        entries.push(logged);
        if entries.len() == question.limit || weight >= log::PAGE_BYTES {
            return Ok(Answer { entries, next: place(key), ..Answer::default() });
        }
    }
}

/// A way back through one chain.
struct Walk {
    chain: Chain,
    /// The last segment that is not looked at yet; none if all are.
    last: Option<u64>,
    /// The newest first.
    ready: VecDeque<(Key, Logged)>,
    /// All from here on is looked at.
    frontier: Key,
    /// Entries that it may still look at.
    budget: usize,
}

impl Walk {
    /// Reads back until something is found.
    fn fill(&mut self, look: &Look<'_>) -> Result<(), Fault> {
        let Chain { copy, ordinal, chain, branch, .. } = self.chain;
        let table = look.shelves.of(copy);
        while self.ready.is_empty() && self.budget > 0 {
            let Some(last) = self.last else { break };
            let Some((key, _)) = table.range((ordinal, 0)..=(ordinal, last))?.next_back().transpose()? else {
                self.last = None;
                break;
            };
            let last = key.value().1;
            let block = look.shelves.blocks.range((copy, ordinal, 0)..=(copy, ordinal, last))?.next_back().transpose()?;
            let block = block.map(|(key, row)| Ok::<_, Fault>((key.value().2, Block::read(key.value(), row.value())?))).transpose()?;
            let (first, mut clock) = match block {
                Some((first, block)) if block.last >= last => {
                    self.last = first.checked_sub(1);
                    let begin = (block.before, copy, ordinal, block.first_entry);
                    if begin >= look.after || !look.may_be_in(&block) {
                        self.frontier = self.frontier.min(begin);
                        continue;
                    }
                    (first, block.before)
                }
                // No block is made of these yet.
                Some((_, block)) => {
                    self.last = Some(block.last);
                    (block.last + 1, block.before.max(block.max))
                }
                None => {
                    self.last = None;
                    (0, 0)
                }
            };
            let mut before: Option<(u64, [u8; 32], usize)> = None;
            for row in table.range((ordinal, first)..=(ordinal, last))? {
                let (key, row) = row?;
                if look.shelves.is_shared(&self.chain, key.value().1, row.value())? {
                    continue;
                }
                let Some((Opened { number, previous, author, first, entries, .. }, hash)) = opened(key.value(), row.value()) else {
                    continue;
                };
                let doubted = before.filter(|(before, cited, _)| before + 1 == number && *cited != previous);
                let doubtful = doubted.is_some();
                // What was found in the one before stands at the front.
                let of_before = self.ready.iter_mut().take(doubted.map_or(0, |(.., found)| found));
                of_before.for_each(|(_, logged)| logged.doubtful = true);
                let so_far = self.ready.len();
                for (seq, (time, what)) in (first..).zip(entries) {
                    if self.ready.is_empty() {
                        self.frontier = self.frontier.min((clock, copy, ordinal, seq));
                    }
                    clock = clock.max(time.0);
                    let place = (clock, copy, ordinal, seq);
                    self.budget = self.budget.saturating_sub(1);
                    if place < look.after && is_wanted(look.question, look.subject, &author, time, what.as_ref()) {
                        self.ready.push_front((place, Logged { author, chain, branch, seq, time, what, doubtful }));
                    }
                }
                before = Some((number, hash, self.ready.len() - so_far));
            }
        }
        Ok(())
    }
}
