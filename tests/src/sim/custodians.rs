//! What custody promises, watched over all disks: no untrue word that a copy is held, no copy let go of too early, none
//! lost with its author, none kept for nothing.
//! Knows nothing of machines: it looks at disks.

use std::collections::{BTreeMap, BTreeSet};

use protocol::effect::{Change, VOID};
use protocol::{BundleId, LetterId};

use super::Sim;

/// How many machines hold each bundle, where there are so many.
const COPIES: usize = 3;

/// What only the checker knows of a bundle.
#[derive(Clone, Debug)]
struct Sealed {
    to: usize,
    letters: Vec<LetterId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Custodians {
    sealed: BTreeMap<BundleId, Sealed>,
    /// Nodes that are gone for ever.
    pub(crate) departed: BTreeSet<usize>,
}

impl Sim {
    /// Bundles that this commit lets go of, as they were before it.
    pub(super) fn let_go(&self, node: usize, changes: &[Change]) -> Vec<BundleId> {
        let disk = &self.nodes[node].disk;
        let gone = changes.iter().filter_map(|change| match change {
            Change::Unhold { no } => disk.held.get(no),
            _ => None,
        });
        gone.map(|bundle| bundle.index.id).collect()
    }

    /// A node has committed `changes`, and let go of `gone`.
    pub(super) fn check_custody(&mut self, node: usize, changes: &[Change], gone: &[BundleId]) -> Result<(), String> {
        for change in changes {
            match change {
                Change::Bundle(kept) => {
                    let stream = self.nodes[node].disk.out_streams.get(&kept.stream);
                    let Some(to) = stream.and_then(|stream| self.checker.node(stream.peer)) else { continue };
                    let numbers = (kept.first & !VOID..).take(kept.ids.len());
                    let numbered = &self.nodes[node].disk.numbered;
                    let letters = numbers.filter_map(|seq| numbered.get(&(kept.stream, seq)).copied()).collect();
                    let sealed = Sealed { to, letters };
                    self.custodians.sealed.insert(kept.bundle.id(), sealed);
                }
                Change::Holders { stream, first, .. } => self.check_holders(node, (*stream, *first))?,
                _ => {}
            }
        }
        for id in gone {
            let elsewhere = self.holding(id).count();
            let Some(sealed) = self.custodians.sealed.get(id) else { return Err(format!("{id:?} was held and nobody sealed it")) };
            let taken = sealed.letters.iter().all(|letter| self.checker.ever_had(sealed.to, *letter));
            let wanted = sealed.letters.iter().any(|letter| !self.checker.is_discarded(*letter));
            if wanted && !taken && elsewhere < COPIES {
                return Err(format!("node {node} lets go of {id:?}, which node {} does not have and {elsewhere} others hold", sealed.to));
            }
        }
        Ok(())
    }

    /// Whoever an author counts as holding a bundle holds it, or knows that its recipient has it.
    fn check_holders(&self, node: usize, key: (u32, u64)) -> Result<(), String> {
        if self.counts.restored > 0 {
            return Ok(());
        }
        let disk = &self.nodes[node].disk;
        let (Some(kept), Some(holders)) = (disk.bundles.get(&key), disk.holders.get(&key)) else { return Ok(()) };
        let id = kept.bundle.id();
        for holder in holders {
            let other = self.checker.node(holder.peer).ok_or("a holder that is nobody")?;
            let holds = self.nodes[other].disk.held.values().any(|held| held.index.id == id);
            let taken =
                self.custodians.sealed[&id].letters.iter().all(|letter| self.checker.ever_had(self.custodians.sealed[&id].to, *letter));
            // A custodian outside the closest may have handed it over since it said so.
            let wanted = self.custodians.sealed[&id].letters.iter().any(|letter| !self.checker.is_discarded(*letter));
            if wanted && !holds && !taken && self.holding(&id).count() < COPIES {
                return Err(format!("node {node} counts on node {other} for {id:?}, which does not hold it"));
            }
        }
        Ok(())
    }

    fn holding<'a>(&'a self, id: &'a BundleId) -> impl Iterator<Item = usize> + 'a {
        let holds = |node: &usize| self.nodes[*node].disk.held.values().any(|held| held.index.id == *id);
        (0..self.nodes.len()).filter(|node| !self.custodians.departed.contains(node)).filter(holds)
    }

    /// Whether this letter is in that bundle.
    pub(super) fn is_in(&self, bundle: &BundleId, letter: LetterId) -> bool {
        self.custodians.sealed.get(bundle).is_some_and(|sealed| sealed.letters.contains(&letter))
    }

    /// A node is gone for ever, with its disk. What only it had, its users knew to be there only; what it was told others
    /// hold must arrive.
    pub(super) fn depart(&mut self, node: usize) {
        self.die(node, false);
        self.custodians.departed.insert(node);
        self.counts.departed += 1;
        self.trace.line(self.now(), self.nodes[node].name(), "**", &"is gone for ever");
        for (letter, author, to) in self.checker.open_copies() {
            let gone = |node: &usize| self.custodians.departed.contains(node);
            let held = self.is_held(author, letter, to) && !self.checker.is_discarded(letter);
            let lost = gone(&to) || (gone(&author) && !held);
            if lost || (gone(&author) && self.checker.ever_had(to, letter)) {
                self.checker.excuse(letter, to);
            }
        }
    }

    /// Whether an author was told that a custodian holds this copy, and one of those is not gone.
    fn is_held(&self, author: usize, letter: LetterId, to: usize) -> bool {
        let disk = &self.nodes[author].disk;
        disk.bundles.iter().any(|(key, kept)| {
            let holders = disk.holders.get(key).map(Vec::as_slice).unwrap_or_default();
            let mut nodes = holders.iter().filter_map(|holder| self.checker.node(holder.peer));
            let its =
                self.custodians.sealed.get(&kept.bundle.id()).is_some_and(|sealed| sealed.to == to && sealed.letters.contains(&letter));
            its && nodes.any(|node| !self.custodians.departed.contains(&node))
        })
    }

    /// Long after everything has calmed down: no copy that nobody needs, and enough of those that are needed.
    pub(super) fn custody_is_tidy(&self) -> Result<(), String> {
        let here: BTreeSet<usize> = (0..self.nodes.len()).filter(|node| !self.custodians.departed.contains(node)).collect();
        let mut copies: BTreeMap<BundleId, usize> = BTreeMap::new();
        for node in &here {
            for held in self.nodes[*node].disk.held.values() {
                let to = self.checker.node(held.index.mailbox.recipient).ok_or("mail for nobody")?;
                if here.contains(&to) {
                    return Err(format!("node {node} still holds {:?} for node {to}, who is here", held.index.id));
                }
                *copies.entry(held.index.id).or_default() += 1;
            }
        }
        for node in &here {
            for (key, kept) in &self.nodes[*node].disk.bundles {
                // Its recipient may have had it, released it, and gone without the author's knowledge.
                let sealed = &self.custodians.sealed[&kept.bundle.id()];
                let settled = |letter: &LetterId| self.checker.ever_had(sealed.to, *letter) || self.checker.is_discarded(*letter);
                if sealed.letters.iter().all(settled) {
                    continue;
                }
                let held = copies.get(&kept.bundle.id()).copied().unwrap_or(0);
                let wanted = COPIES.min(here.len() - 1);
                if held < wanted {
                    return Err(format!("{held} of {wanted} hold bundle {key:?} of node {node}"));
                }
            }
        }
        match copies.iter().find(|(_, copies)| **copies > COPIES + 1) {
            Some((id, copies)) => Err(format!("{copies} nodes hold {id:?}")),
            None => Ok(()),
        }
    }
}
