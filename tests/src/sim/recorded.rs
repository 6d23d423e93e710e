//! The promise about the record: whoever keeps it has all that any survivor wrote or keeps, without a hole, and nothing else.
//! Knows nothing of machines: it looks at disks. It remembers every segment that was ever on the disk of its author.

use std::collections::{BTreeMap, BTreeSet};

use protocol::PeerId;
use protocol::codec;
use protocol::effect::{ChainEnd, Change, Kept};
use protocol::segment::{Segment, hash};
use protocol::sign::Signed;
use sha2::{Digest, Sha256};

use super::Sim;
use super::checker::Verdict;
use super::disk::Disk;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    written: BTreeMap<(PeerId, u64, u64), BTreeSet<[u8; 32]>>,
    /// Segments that others keep copies of, for reports.
    pub(crate) copied: u64,
}

impl Recorded {
    /// A node has committed `changes`.
    pub(crate) fn on_commit(&mut self, author: PeerId, changes: &[Change]) -> Verdict {
        for change in changes {
            match change {
                Change::Segment { chain, number, body, .. } => {
                    self.written.entry((author, *chain, *number)).or_default().insert(Sha256::digest(body).into());
                }
                Change::Copied(copied) => {
                    let signed: Signed<Segment> = codec::decode(&copied.signed).map_err(|error| error.to_string())?;
                    let known = self.written.get(&(copied.author, copied.chain, copied.number));
                    if !known.is_some_and(|known| known.contains(&hash(&signed))) {
                        return Err(format!("a copy of {}/{} of {}, which it never wrote", copied.chain, copied.number, copied.author));
                    }
                    self.copied += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn ends(disk: &Disk) -> Vec<ChainEnd> {
    let mut kept = Kept::default();
    disk.record.fill(&mut kept);
    kept.own_chains.into_iter().chain(kept.copies).collect()
}

/// Whether a chain as it ends somewhere is on this disk: copies go on from one another, so that its end
/// stands for all of it but the holes that pruning leaves.
fn has(disk: &Disk, end: &ChainEnd) -> bool {
    let own = disk.record.own.iter().filter(|(chain, _)| *chain == end.chain);
    let has_body =
        |bodies: &BTreeMap<u64, Vec<u8>>| bodies.get(&end.last).is_some_and(|body| <[u8; 32]>::from(Sha256::digest(body)) == end.hash);
    let mut lines = disk.record.copies.range((end.author, end.chain, 0)..=(end.author, end.chain, u8::MAX));
    // What it has let go of it had.
    let older = |first: Option<&u64>| first.is_some_and(|first| *first > end.last);
    own.clone().any(|(_, bodies)| has_body(bodies) || older(bodies.keys().next()))
        || lines.any(|(_, line)| line.get(&end.last).is_some_and(|signed| hash(signed) == end.hash) || older(line.keys().next()))
}

impl Sim {
    /// A place where something of somebody's record is missing without a word.
    pub(super) fn undetected(&self) -> Option<String> {
        // Who was away while others let go of more than it lacks has a hole, and who takes it from there has it, too.
        let holed = self.options.faults.prune.is_some();
        let holes = self.nodes.iter().filter_map(|node| node.disk.record.hole(holed).map(|hole| (node, hole)));
        holes.map(|(node, hole)| format!("on the disk of {} {hole}, and nothing says so", node.name())).next()
    }

    /// What is missing from the record of who keeps it, if something is.
    pub(super) fn unrecorded(&self) -> Option<String> {
        let leads = |node: &&super::node::Node| {
            node.peer.as_ref().is_some_and(|peer| peer.status().leader.is_some_and(|leader| leader.fence.leader == node.identity.id))
        };
        let Some(leader) = self.nodes.iter().find(leads) else { return Some("nobody keeps the record".to_owned()) };
        for node in self.nodes.iter().filter(|node| node.is_up()) {
            if let Some(end) = ends(&node.disk).into_iter().find(|end| !has(&leader.disk, end)) {
                return Some(format!("{}, who keeps the record, does not have {end:?}, which {} has", leader.name(), node.name()));
            }
        }
        None
    }
}
