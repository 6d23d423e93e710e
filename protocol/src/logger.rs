//! Who keeps the record of all: pulls everybody's segments by number, and gives what it has to whoever keeps it next.
//! Knows nothing of what they say. A hole is left only where nobody who was asked had what is missing, and what turns up later is kept beside
//! it; two segments of one number are both kept, in branches of the chain; a liar stops nobody's entries but those of whom it lies.

mod serve;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;
use serde_bytes::ByteArray;

use crate::config::Config;
use crate::copies::{ChainHead, Piece};
use crate::edge::Cause;
use crate::effect::{ChainEnd, Change, Copied, Effect, Out, Pruned, Say};
use crate::input::Recall;
use crate::now::Now;
use crate::segment::What;

/// Chains that one peer may tell of (guess: a hundred peers with some chains each).
const HEADS: usize = 4_096;
/// Branches of one chain: whoever signs more than these lies without end.
const BRANCHES: u8 = 4;
/// Chains told of that are known to be here, remembered so that the disk is not asked again.
const SETTLED: usize = 16_384;
/// Pages asked of one peer at a time (guess: one is written while the other comes).
const PULLS_EACH: usize = 2;

/// Author, chain and branch.
pub(crate) type Line = (PeerId, u64, u8);

/// Author, chain, number and hash of a segment that somebody has.
type Sighted = (PeerId, u64, u64, [u8; 32]);

/// The end of a chain as it is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    first: u64,
    last: u64,
    hash: [u8; 32],
}

/// How long after a change those who keep the record, or kept it, are asked once more what they have (guess: what goes round after a
/// change has gone round by then).
const RELIST: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(crate) struct Logger {
    me: PeerId,
    keeps: bool,
    /// Who else does.
    others: Vec<PeerId>,
    /// Those who did until others were named: they may have more of somebody who has gone since.
    former: BTreeSet<PeerId>,
    /// When these are asked again what they have: soon after somebody went away, which they may have missed later, or somebody else
    /// began to keep the record, and once more.
    relist_at: VecDeque<Duration>,
    /// Chains of this node, in the order in which they were begun.
    own: Vec<(u64, End)>,
    copies: BTreeMap<Line, End>,
    sources: BTreeMap<PeerId, Source>,
    pulls: BTreeMap<Line, Pull>,
    /// Ends of chains that are within what is here, as the disk has said.
    settled: BTreeSet<Sighted>,
    /// Ends of chains about which the disk is being asked.
    recalling: BTreeSet<Sighted>,
    /// Counts the lists asked for.
    asks: u32,
    /// Something may be had that is not asked for yet.
    dirty: bool,
    /// There was room on the disk when it was looked at last.
    room: bool,
    /// Who waits for what this node writes next: chain, and the last segment it has.
    parked: BTreeMap<PeerId, (u64, u64)>,
    served_at: Option<Duration>,
    looked_at: Duration,
    interval: Duration,
    patience: Duration,
    shun: Duration,
    /// Pages asked for at a time; 0: nothing of others is kept.
    most: usize,
}

/// A neighbour, and what it has.
#[derive(Debug, Default)]
struct Source {
    heads: Vec<ChainHead>,
    /// A list under way: what it was asked for by, and the heads that it has brought so far. What answers an earlier question is late.
    listing: Option<(u32, Vec<ChainHead>)>,
    asked_at: Option<Duration>,
    /// Which branch of a chain its line is, where that is not the first: by author, chain and the last segment as listed.
    branches: BTreeMap<(PeerId, u64, [u8; 32]), u8>,
    /// Author, chain and number after which it has not what it lists.
    holes: BTreeSet<(PeerId, u64, u64)>,
    /// What it is not asked for before then.
    shunned: BTreeMap<(PeerId, u64), Duration>,
}

/// A page that was asked for.
#[derive(Clone, Copy, Debug)]
struct Pull {
    from: PeerId,
    /// Its line, by the last segment as listed.
    tip: [u8; 32],
    after: u64,
    asked_at: Duration,
    /// Its author answers when there is something.
    follows: bool,
}

impl Logger {
    /// Goes on with what is on the disk.
    pub(crate) fn new(me: PeerId, config: &Config, own: Vec<ChainEnd>, copies: Vec<ChainEnd>) -> Self {
        let end = |end: &ChainEnd| End { first: end.first, last: end.last, hash: end.hash };
        Logger {
            me,
            keeps: false,
            others: Vec::new(),
            former: BTreeSet::new(),
            relist_at: VecDeque::new(),
            own: own.iter().map(|of| (of.chain, end(of))).collect(),
            copies: copies.iter().map(|of| ((of.author, of.chain, of.branch), end(of))).collect(),
            sources: BTreeMap::new(),
            pulls: BTreeMap::new(),
            settled: BTreeSet::new(),
            recalling: BTreeSet::new(),
            asks: 0,
            dirty: false,
            room: true,
            parked: BTreeMap::new(),
            served_at: None,
            looked_at: Duration::ZERO,
            interval: config.record_interval,
            patience: config.record_patience,
            shun: config.record_shun,
            most: config.record_pulls,
        }
    }

    /// Who keeps the record, from now on. What is here stays when others do, for whoever lacks it.
    pub(crate) fn set_keepers(&mut self, keepers: impl Iterator<Item = PeerId>, now: Now, out: &mut Out) {
        let others = keepers.collect();
        let before = std::mem::replace(&mut self.others, others);
        let keeps = self.most > 0 && self.others.contains(&self.me);
        self.others.retain(|keeper| *keeper != self.me);
        self.former.extend(before.iter().filter(|keeper| self.sources.contains_key(keeper)));
        self.former.retain(|keeper| !self.others.contains(keeper));
        if std::mem::replace(&mut self.keeps, keeps) == keeps {
            if keeps {
                // Who keeps it anew may have kept it before, and have more of somebody than this node.
                let new: Vec<PeerId> = self.others.iter().filter(|other| !before.contains(other)).copied().collect();
                if !new.is_empty() {
                    self.relist(now);
                }
                new.into_iter().for_each(|other| self.list(other, now, out));
            }
            return;
        }
        self.pulls.clear();
        if keeps {
            let peers: Vec<PeerId> = self.sources.keys().copied().collect();
            peers.into_iter().for_each(|peer| self.list(peer, now, out));
        }
    }

    pub(crate) fn on_reachable(&mut self, peer: PeerId, now: Now, out: &mut Out) {
        self.sources.insert(peer, Source::default());
        if self.keeps {
            self.list(peer, now, out);
        }
    }

    pub(crate) fn on_unreachable(&mut self, peer: PeerId, now: Now, out: &mut Out) {
        self.sources.remove(&peer);
        self.former.remove(&peer);
        self.parked.remove(&peer);
        self.pulls.retain(|_, pull| pull.from != peer);
        self.dirty = true;
        self.list_others(now, out);
        self.relist(now);
    }

    fn relist(&mut self, now: Now) {
        self.relist_at = [self.patience, RELIST].map(|wait| now.mono + wait).into();
    }

    /// Others who keep the record, or kept it, may have had more of somebody than this node.
    fn list_others(&mut self, now: Now, out: &mut Out) {
        if self.keeps {
            let others: Vec<PeerId> = self.others.iter().chain(&self.former).copied().collect();
            others.into_iter().for_each(|other| self.list(other, now, out));
        }
    }

    /// It has another memory than before: other chains, perhaps.
    pub(crate) fn on_memory(&mut self, peer: PeerId, now: Now, out: &mut Out) {
        if self.keeps && self.sources.contains_key(&peer) {
            self.list(peer, now, out);
        }
    }

    /// Somebody was heard of for the first time: whose record others have may be of interest now.
    pub(crate) fn on_named(&mut self) {
        self.dirty = true;
    }

    /// What was sent to it, or what it was asked, may be lost.
    pub(crate) fn on_send_failed(&mut self, peer: PeerId, now: Now) {
        let due = now.mono.saturating_sub(self.patience / 2);
        for pull in self.pulls.values_mut().filter(|pull| pull.from == peer) {
            pull.asked_at = pull.asked_at.min(due);
        }
        if let Some(source) = self.sources.get_mut(&peer) {
            source.asked_at = source.asked_at.map(|at| at.min(due));
        }
    }

    fn list(&mut self, peer: PeerId, now: Now, out: &mut Out) {
        if let Some(source) = self.sources.get_mut(&peer) {
            self.asks = self.asks.wrapping_add(1);
            source.listing = Some((self.asks, Vec::new()));
            source.asked_at = Some(now.mono);
            out.send(peer, Say::AskChains { ask: self.asks, after: 0 });
        }
    }

    /// A page of what it has.
    ///
    /// # Errors
    /// Nobody asked for it, or it is too long.
    pub(crate) fn on_chains(
        &mut self,
        from: PeerId,
        ask: u32,
        (chains, more): (Vec<ChainHead>, bool),
        now: Now,
        out: &mut Out,
    ) -> Result<(), Cause> {
        let Some(source) = self.sources.get_mut(&from) else { return Ok(()) };
        let Some((_, listing)) = source.listing.as_mut().filter(|(asked, _)| *asked == ask) else { return Ok(()) };
        if chains.iter().any(|head| head.first == 0 || head.last < head.first || (head.newest && head.author != from)) {
            source.listing = None;
            return Err(Cause::Inconsistent);
        }
        if listing.len() + chains.len() > HEADS || (more && chains.is_empty()) {
            source.listing = None;
            return Err(Cause::Full);
        }
        listing.extend(chains);
        if more && self.keeps {
            let after = u32::try_from(listing.len()).unwrap_or(u32::MAX);
            source.asked_at = Some(now.mono);
            out.send(from, Say::AskChains { ask, after });
            return Ok(());
        }
        source.heads = source.listing.take().map(|(_, heads)| heads).unwrap_or_default();
        // It may write in another chain now, or once more what it has forgotten.
        self.pulls.retain(|_, pull| pull.from != from || !pull.follows);
        source.asked_at = None;
        self.dirty = true;
        Ok(())
    }

    /// A page of segments, checked by the edge: one chain, each citing the one before.
    pub(crate) fn on_segments(&mut self, from: PeerId, author: PeerId, chain: u64, pieces: Vec<Piece>, now: Now, out: &mut Out) {
        let asked = self.pulls.iter().find(|(line, pull)| pull.from == from && (line.0, line.1) == (author, chain));
        // What comes too late was asked of another meanwhile.
        let Some((line, pull)) = asked.map(|(line, pull)| (*line, *pull)) else { return };
        if pieces.first().is_some_and(|first| first.number <= pull.after) {
            // It was taken before.
            return;
        }
        self.pulls.remove(&line);
        self.dirty = true;
        let end = self.copies.get(&line).copied();
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
            // It has not what it said it had.
            self.shun(from, author, chain, now);
            return self.list(from, now, out);
        };
        let declared = first.number == pull.after + 1;
        if !declared {
            // What was there when it listed it is gone: old segments go. Where it is not, others are asked first.
            let source = self.sources.get_mut(&from);
            if source.is_some_and(|source| source.holes.len() < HEADS && source.holes.insert((author, chain, pull.after))) {
                self.shun(from, author, chain, now);
                return self.list(from, now, out);
            }
            // Nobody had it: what comes behind is taken, and what is missing can be seen.
            out.note(What::RecordRefused { of: author, by: from, chain, cause: Cause::Inconsistent.as_str().to_owned() });
        }
        if let Some(end) = end {
            let meets = pieces.iter().find(|piece| piece.number == end.last).map(|piece| piece.hash);
            let meets = meets.or((first.number == end.last + 1).then_some(first.previous));
            if meets.is_some_and(|hash| hash != end.hash) {
                return self.fork(from, author, chain, pull.tip, true, out);
            }
        }
        let tip = self.heard_of(from, &line, &pull, last);
        if end.is_some_and(|end| end.last > last.number) {
            // Its author writes once more what it has forgotten, or others had it before: the disk is asked which.
            return;
        }
        let begins = first.number;
        if declared && begins > end.map_or(1, |end| end.last + 1) {
            // Whoever had what was before has let go of it: from here on this node stands for what it has.
            let (of, chain, branch) = line;
            let (last_entry, hash) = (first.first.saturating_sub(1), ByteArray::new(first.previous));
            out.note(What::RecordPruned { of, chain, branch, through: begins - 1, last_entry, hash });
        }
        let new = End { first: end.map_or(begins, |end| end.first), last: last.number, hash: last.hash };
        for Piece { number, first, entries, signed, .. } in pieces.into_iter().filter(|piece| end.is_none_or(|end| piece.number > end.last))
        {
            let (author, chain, branch) = line;
            out.store(Change::Copied(Box::new(Copied { author, chain, branch, number, first, entries, signed })));
        }
        self.copies.insert(line, new);
        if pull.follows && self.keeps {
            self.pull(line, Pull { tip, after: new.last, asked_at: now.mono, ..pull }, out);
        }
    }

    /// Somebody has more of a line than when it listed it. Returns by what the line is asked for from now on.
    fn heard_of(&mut self, from: PeerId, line: &Line, pull: &Pull, last: &Piece) -> [u8; 32] {
        let (author, chain, branch) = *line;
        let source = self.sources.get_mut(&from);
        let head = source.and_then(|source| {
            let of = |head: &&mut ChainHead| (head.author, head.chain, head.hash.into_array()) == (author, chain, pull.tip);
            let head = source.heads.iter_mut().find(of).filter(|head| head.last < last.number)?;
            (head.last, head.hash) = (last.number, ByteArray::new(last.hash));
            if source.branches.remove(&(author, chain, pull.tip)).is_some() {
                source.branches.insert((author, chain, last.hash), branch);
            }
            Some(last.hash)
        });
        head.unwrap_or(pull.tip)
    }

    /// What it sent of somebody's record is false.
    pub(crate) fn on_false(&mut self, from: PeerId, author: PeerId, chain: u64, cause: Cause, now: Now, out: &mut Out) {
        let asked = self.pulls.iter().find(|(line, pull)| pull.from == from && (line.0, line.1) == (author, chain));
        let Some(line) = asked.map(|(line, _)| *line) else { return };
        self.pulls.remove(&line);
        self.shun(from, author, chain, now);
        out.note(What::RecordRefused { of: author, by: from, chain, cause: cause.as_str().to_owned() });
    }

    fn shun(&mut self, from: PeerId, author: PeerId, chain: u64, now: Now) {
        if let Some(source) = self.sources.get_mut(&from) {
            source.shunned.insert((author, chain), now.mono + self.shun);
        }
        self.dirty = true;
    }

    /// Its line of the chain is another than the one it was taken for: both were signed by the author. The next branch is tried, and
    /// made if there is none. Where here is a hole it may be the same (not `differs`), and is taken beside it.
    fn fork(&mut self, from: PeerId, author: PeerId, chain: u64, tip: [u8; 32], differs: bool, out: &mut Out) {
        self.dirty = true;
        let first = u8::from(author == self.me);
        let Some(source) = self.sources.get_mut(&from) else { return };
        let branch = source.branches.entry((author, chain, tip)).or_insert(first);
        *branch = branch.saturating_add(1);
        if *branch >= BRANCHES {
            // It is not kept here; that it is missing can be read.
            let cause = Cause::Full.as_str().to_owned();
            return out.note(What::RecordRefused { of: author, by: from, chain, cause });
        }
        if differs && !self.copies.contains_key(&(author, chain, *branch)) {
            out.note(What::RecordForked { of: author, chain });
        }
    }

    /// The disk says whether a segment that somebody has is here, too.
    pub(crate) fn on_recalled(&mut self, from: PeerId, head: &ChainHead, known: Option<bool>, out: &mut Out) {
        let hash = head.hash.into_array();
        let sighted = (head.author, head.chain, head.last, hash);
        self.recalling.remove(&sighted);
        self.dirty = true;
        if known == Some(true) {
            if self.settled.len() >= SETTLED {
                self.settled.clear();
            }
            self.settled.insert(sighted);
            return;
        }
        if self.keeps {
            match self.sources.get_mut(&from) {
                // What this node wrote itself and has forgotten is its first branch.
                Some(source) if head.author == self.me && !source.branches.contains_key(&(head.author, head.chain, hash)) => {
                    source.branches.insert((head.author, head.chain, hash), 1);
                    self.dirty = true;
                }
                _ => self.fork(from, head.author, head.chain, hash, known.is_some(), out),
            }
        }
    }

    /// The disk did not say: it is asked again when there is something else to ask.
    pub(crate) fn on_recall_failed(&mut self, head: &ChainHead) {
        self.recalling.remove(&(head.author, head.chain, head.last, head.hash.into_array()));
    }

    /// Old segments go; what is written down of them is signed with this commit.
    pub(crate) fn on_overdue(&mut self, pruned: Vec<Pruned>, out: &mut Out) {
        for one in pruned {
            let Pruned { author: of, chain, branch, through, last_entry, hash, .. } = one;
            out.note(What::RecordPruned { of, chain, branch, through, last_entry, hash: ByteArray::new(hash) });
            if !one.gone {
                continue;
            }
            let end = if one.own {
                self.own.iter_mut().find(|(own, _)| *own == chain).map(|(_, end)| end)
            } else {
                self.copies.get_mut(&(of, chain, branch))
            };
            if let Some(end) = end {
                end.first = end.first.max(through + 1);
                out.store(Change::Prune(Box::new(one)));
            }
        }
    }

    /// Asks for what can be had and is not here. `knows` says whose record is of interest, `record` the last segment that a peer spoke of.
    pub(crate) fn tick(
        &mut self,
        knows: impl Fn(&PeerId) -> bool,
        record: impl Fn(&PeerId) -> Option<u64>,
        room: bool,
        now: Now,
        out: &mut Out,
    ) {
        if !self.keeps {
            return;
        }
        // Without room on the disk nothing of others is taken; what was under way is asked for again when there is some.
        if std::mem::replace(&mut self.room, room) != room {
            self.pulls.clear();
            self.dirty = room;
        }
        while self.relist_at.pop_front_if(|at| *at <= now.mono).is_some() {
            self.list_others(now, out);
        }
        self.give_up(record, now, out);
        if room && std::mem::take(&mut self.dirty) {
            self.plan(knows, now, out);
        }
        self.looked_at = now.mono;
    }

    fn give_up(&mut self, record: impl Fn(&PeerId) -> Option<u64>, now: Now, out: &mut Out) {
        let mut late = Vec::new();
        for (line, pull) in &self.pulls {
            let waits = pull.follows && record(&pull.from).is_none_or(|record| record <= pull.after);
            if !waits && pull.asked_at + self.patience <= now.mono {
                late.push((*line, *pull));
            }
        }
        for (line, pull) in late {
            self.pulls.remove(&line);
            if !pull.follows {
                self.shun(pull.from, line.0, line.1, now);
            }
            self.dirty = true;
        }
        let mut again = Vec::new();
        for (peer, source) in &mut self.sources {
            let before = source.shunned.len();
            source.shunned.retain(|_, until| *until > now.mono);
            self.dirty |= source.shunned.len() < before;
            if source.asked_at.is_some_and(|at| at + self.patience <= now.mono) {
                again.push(*peer);
            }
        }
        again.into_iter().for_each(|peer| self.list(peer, now, out));
    }

    fn plan(&mut self, knows: impl Fn(&PeerId) -> bool, now: Now, out: &mut Out) {
        // Of several who have more of a line its author comes first, and then who has most.
        let mut wanted: BTreeMap<Line, ((bool, u64), Pull)> = BTreeMap::new();
        let mut recalls = Vec::new();
        for (peer, source) in &self.sources {
            for head in source.heads.iter().filter(|head| knows(&head.author) || head.author == self.me) {
                let (hash, is_its_own) = (head.hash.into_array(), head.author == *peer);
                let (key, sighted) = ((head.author, head.chain, hash), (head.author, head.chain, head.last, hash));
                let lines = self.copies.range((head.author, head.chain, 0)..=(head.author, head.chain, u8::MAX));
                let is_here = self.settled.contains(&sighted) || lines.clone().any(|(_, end)| (end.last, end.hash) == (head.last, hash));
                let follows = is_its_own && head.newest;
                let is_asked = self.recalling.contains(&sighted);
                if source.shunned.contains_key(&(head.author, head.chain)) || is_asked || (is_here && !follows) {
                    continue;
                }
                let branch = source.branches.get(&key).copied();
                if branch.is_some_and(|branch| branch >= BRANCHES) {
                    continue;
                }
                if head.author == self.me
                    && let Some((_, own)) = self.own.iter().find(|(chain, own)| *chain == head.chain && own.last >= head.last)
                    && branch.is_none()
                {
                    if (own.last, own.hash) != (head.last, hash) && own.first <= head.last {
                        recalls.push((*peer, *head));
                    }
                    continue;
                }
                let line = (head.author, head.chain, branch.unwrap_or(u8::from(head.author == self.me)));
                let after = match self.copies.get(&line) {
                    None => head.first - 1,
                    Some(end) if head.last > end.last => end.last.max(head.first - 1),
                    // Its author goes on where it says that it is, wherever it has been.
                    Some(_) if is_here => head.last,
                    // Older than what is kept of it here.
                    Some(end) if head.last < end.first && follows => end.last,
                    Some(end) if head.last < end.first => continue,
                    Some(_) => {
                        recalls.push((*peer, *head));
                        continue;
                    }
                };
                // Of one chain a source is asked for one line at a time: its answers do not say which it is.
                let alike = |other: &Line, from: &PeerId| from == peer && (other.0, other.1) == (line.0, line.1);
                let asked = self.pulls.iter().any(|(other, pull)| *other == line || alike(other, &pull.from))
                    || wanted.iter().any(|(other, (_, pull))| *other != line && alike(other, &pull.from));
                let rank = (is_its_own, head.last);
                if !asked && wanted.get(&line).is_none_or(|(best, _)| *best < rank) {
                    wanted.insert(line, (rank, Pull { from: *peer, tip: hash, after, asked_at: now.mono, follows }));
                }
            }
        }
        for (from, head) in recalls {
            self.recalling.insert((head.author, head.chain, head.last, head.hash.into_array()));
            out.effects.push(Effect::Recall(Recall::Segment { from, head }));
        }
        for (line, (_, pull)) in wanted {
            let busy = self.pulls.values().filter(|pull| !pull.follows).count();
            let each = self.pulls.values().filter(|other| !other.follows && other.from == pull.from).count();
            if pull.follows || (busy < self.most && each < PULLS_EACH) {
                self.pull(line, pull, out);
            }
        }
    }

    fn pull(&mut self, line: Line, pull: Pull, out: &mut Out) {
        let (author, chain, tip) = (line.0, line.1, ByteArray::new(pull.tip));
        out.send(pull.from, Say::AskSegments { author, chain, tip, after: pull.after, follow: pull.follows });
        self.pulls.insert(line, pull);
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        let news = self.news_at();
        if !self.keeps {
            return news;
        }
        let pulls = self.pulls.values().filter(|pull| !pull.follows).map(|pull| pull.asked_at + self.patience);
        let sources = self.sources.values();
        let lists = sources.clone().filter_map(|source| source.asked_at.map(|at| at + self.patience));
        let shunned = sources.flat_map(|source| source.shunned.values().copied());
        // Whether somebody speaks of more than it has sent is looked at now and then: frames may be lost.
        let follows = self.pulls.values().any(|pull| pull.follows).then(|| self.looked_at + self.patience);
        let soon = (self.dirty && self.room).then_some(Duration::ZERO);
        pulls.chain(lists).chain(shunned).chain(follows).chain(soon).chain(news).chain(self.relist_at.front().copied()).min()
    }
}
