//! The record on a simulated disk: this node's own segments, and the copies of others' that it keeps.
//! Knows nothing of what they say. A copy is refused that does not go on from the one before.

use std::collections::{BTreeMap, BTreeSet};

use protocol::PeerId;
use protocol::codec;
use protocol::config::limits;
use protocol::copies::ChainHead;
use protocol::effect::{ChainEnd, Copied, Kept, Pruned, segment_of};
use protocol::segment::{Segment, What, hash};
use protocol::sign::Signed;
use sha2::{Digest, Sha256};

/// Author, chain and branch.
pub(crate) type Line = (PeerId, u64, u8);

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    me: Option<PeerId>,
    /// Chains in the order in which they were begun, each with the bodies of its segments by number.
    pub(crate) own: Vec<(u64, BTreeMap<u64, Vec<u8>>)>,
    /// Copies, by number.
    pub(crate) copies: BTreeMap<Line, BTreeMap<u64, Signed<Segment>>>,
}

impl Record {
    pub(crate) fn put_own(&mut self, author: PeerId, chain: u64, number: u64, body: &[u8]) {
        self.me = Some(author);
        if self.own.last().is_none_or(|(last, _)| *last != chain) {
            self.own.push((chain, BTreeMap::new()));
        }
        if let Some((_, segments)) = self.own.last_mut() {
            segments.insert(number, body.to_vec());
        }
    }

    /// # Errors
    /// It does not come after the one before, or does not cite it.
    pub(crate) fn put_copy(&mut self, copied: &Copied) -> Result<(), String> {
        let signed: Signed<Segment> = codec::decode(&copied.signed).map_err(|error| format!("a copy that is none: {error}"))?;
        let segment = signed.trusted().map_err(|error| format!("a copy that is none: {error}"))?;
        let told = (segment.author, segment.chain, segment.number, segment.first, segment.entries.len());
        if told != (copied.author, copied.chain, copied.number, copied.first, copied.entries as usize) {
            return Err(format!("the copy {told:?} is not what its row says"));
        }
        let line = self.copies.entry((copied.author, copied.chain, copied.branch)).or_default();
        if let Some((number, last)) = line.last_key_value() {
            let cites = copied.number > number + 1 || segment.previous.into_array() == hash(last);
            if copied.number <= *number || !cites {
                return Err(format!("copy {}/{} of {} does not go on after {number}", copied.chain, copied.number, copied.author));
            }
        }
        line.insert(copied.number, signed);
        Ok(())
    }

    pub(crate) fn fill(&self, kept: &mut Kept) {
        let Some(me) = self.me else { return };
        let own = self.own.iter().filter_map(|(chain, segments)| {
            let (first, (last, body)) = (segments.first_key_value()?.0, segments.last_key_value()?);
            Some(ChainEnd { author: me, chain: *chain, branch: 0, first: *first, last: *last, hash: Sha256::digest(body).into() })
        });
        kept.own_chains = own.collect();
        let copies = self.copies.iter().filter_map(|((author, chain, branch), segments)| {
            let (first, (last, signed)) = (segments.first_key_value()?.0, segments.last_key_value()?);
            Some(ChainEnd { author: *author, chain: *chain, branch: *branch, first: *first, last: *last, hash: hash(signed) })
        });
        kept.copies = copies.collect();
    }

    /// As a node's driver reads it.
    pub(crate) fn page(
        &self,
        of: Option<(PeerId, u8)>,
        chain: u64,
        after: u64,
        sign: impl Fn(Vec<u8>) -> Signed<Segment>,
    ) -> Vec<Signed<Segment>> {
        let segments: Vec<(u64, Signed<Segment>)> = match of {
            None => {
                let found = self.own.iter().find(|(own, _)| *own == chain);
                let rest = found.map(|(_, segments)| segments.range(after + 1..)).into_iter().flatten();
                rest.take(limits::SEGMENTS).map(|(number, body)| (*number, sign(body.clone()))).collect()
            }
            Some((author, branch)) => {
                let rest = self.copies.get(&(author, chain, branch)).map(|line| line.range(after + 1..)).into_iter().flatten();
                rest.take(limits::SEGMENTS).map(|(number, signed)| (*number, signed.clone())).collect()
            }
        };
        // Behind a hole begins another page.
        let first = segments.first().map_or(0, |(number, _)| *number);
        let unbroken = (first..).zip(segments).take_while(|(expected, (number, _))| expected == number);
        unbroken.map(|(_, (_, signed))| signed).collect()
    }

    /// Every segment that is here: author, chain, number and hash.
    pub(crate) fn all(&self) -> impl Iterator<Item = (PeerId, u64, u64, [u8; 32])> + '_ {
        let own = self.me.into_iter().flat_map(|me| {
            let chains = self.own.iter();
            chains.flat_map(move |(chain, bodies)| {
                bodies.iter().map(move |(number, body)| (me, *chain, *number, Sha256::digest(body).into()))
            })
        });
        let copies = self
            .copies
            .iter()
            .flat_map(|((author, chain, _), line)| line.iter().map(|(number, signed)| (*author, *chain, *number, hash(signed))));
        own.chain(copies)
    }

    /// What is to go if no more than `most` segments of a chain are kept; with it every chain of which something has gone before.
    pub(crate) fn overdue(&self, most: u64) -> Vec<Pruned> {
        let Some(me) = self.me else { return Vec::new() };
        let own = self.own.iter().map(|(chain, bodies)| {
            let segments = bodies.iter().filter_map(|(number, body)| Some((*number, segment_of(body).ok()?)));
            ((true, me, *chain, 0), segments.collect::<BTreeMap<u64, Segment>>())
        });
        let copies = self.copies.iter().map(|((author, chain, branch), line)| {
            let segments = line.iter().filter_map(|(number, signed)| Some((*number, signed.trusted().ok()?)));
            ((false, *author, *chain, *branch), segments.collect())
        });
        let mut all = Vec::new();
        for ((own, author, chain, branch), segments) in own.chain(copies) {
            let (Some(first), Some(last)) = (segments.keys().next().copied(), segments.keys().last().copied()) else { continue };
            let after = last.saturating_sub(most);
            let gone = after >= first;
            // What stays cites the last that has gone.
            let Some((number, segment)) = segments.range(if gone { after + 1 } else { first }..).next() else { continue };
            if *number > 1 {
                let (through, last_entry) = (number - 1, segment.first - 1);
                all.push(Pruned { own, author, chain, branch, through, last_entry, hash: segment.previous.into_array(), gone });
            }
        }
        if all.iter().any(|one| one.gone) { all } else { Vec::new() }
    }

    pub(crate) fn prune(&mut self, pruned: &Pruned) {
        let rest = pruned.through + 1;
        if pruned.own {
            let chain = self.own.iter_mut().find(|(chain, _)| *chain == pruned.chain);
            chain.into_iter().for_each(|(_, bodies)| *bodies = bodies.split_off(&rest));
        } else if let Some(line) = self.copies.get_mut(&(pruned.author, pruned.chain, pruned.branch)) {
            *line = line.split_off(&rest);
        }
    }

    /// A place where something is missing, at the beginning of a chain or, unless chains may have holes (`holed`), in one, and nobody
    /// has signed for it whom `log --verify` believes.
    pub(crate) fn hole(&self, holed: bool) -> Option<String> {
        let me = self.me?;
        let own = self.own.iter().flat_map(|(_, bodies)| bodies.values().filter_map(|body| segment_of(body).ok()));
        let copies = self.copies.values().flat_map(|line| line.values().filter_map(|signed| signed.trusted().ok()));
        let mut accounted = BTreeSet::new();
        for segment in own.chain(copies) {
            for entry in &segment.entries {
                if let What::RecordPruned { of, chain, through, hash, .. } = &entry.what
                    && (segment.author == me || segment.author == *of)
                {
                    accounted.insert((*of, *chain, *through, hash.into_array()));
                }
            }
        }
        let own = self.own.iter().map(|(chain, bodies)| {
            let cites = bodies.iter().filter_map(|(number, body)| Some((*number, segment_of(body).ok()?.previous)));
            ((me, *chain), cites.collect::<Vec<_>>())
        });
        let copies = self.copies.iter().map(|((author, chain, _), line)| {
            let cites = line.iter().filter_map(|(number, signed)| Some((*number, signed.trusted().ok()?.previous)));
            ((*author, *chain), cites.collect())
        });
        for ((author, chain), segments) in own.chain(copies) {
            let mut before = 0;
            for (number, previous) in segments {
                if number != before + 1
                    && !(holed && before > 0)
                    && !accounted.contains(&(author, chain, number - 1, previous.into_array()))
                {
                    return Some(format!("segments {} to {} of chain {chain} of {author} are missing", before + 1, number - 1));
                }
                before = number;
            }
        }
        None
    }

    /// Whether it is here; none: nothing stands under its number.
    pub(crate) fn stands(&self, head: &ChainHead) -> Option<bool> {
        let of =
            |(author, chain, number, _): &(PeerId, u64, u64, [u8; 32])| (*author, *chain, *number) == (head.author, head.chain, head.last);
        self.all().filter(of).map(|(.., hash)| hash == head.hash.into_array()).max()
    }
}
