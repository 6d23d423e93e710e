//! Who comes before whom: as candidates, as standbys, as those who are asked.
//! Knows nothing of time. Everyone who sees the same peers finds the same order.

use std::collections::BTreeSet;

use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

use super::Neighbour;
use crate::config::limits;
use crate::id::MachineId;

/// How many of `peers` are to claim `term` before `me`: the standbys of the last leader come first, that leader itself last.
pub(super) fn rank(me: PeerId, term: u64, standbys: &[PeerId], last: Option<PeerId>, peers: impl Iterator<Item = PeerId>) -> u32 {
    let key = |peer: PeerId| {
        let standby = standbys.iter().position(|standby| *standby == peer).unwrap_or(standbys.len());
        (last == Some(peer), standby, place(term, &peer), peer)
    };
    let mine = key(me);
    u32::try_from(peers.filter(|peer| *peer != me && key(*peer) < mine).count()).unwrap_or(u32::MAX)
}

/// Who would take over: on machines of their own first, and those who have been here longest.
pub(super) fn standbys<'a>(machine: MachineId, roster: impl Iterator<Item = &'a Neighbour>) -> Vec<PeerId> {
    let mut longest: Vec<&Neighbour> = roster.collect();
    longest.sort_by_key(|neighbour| (neighbour.since, neighbour.peer));
    let mut machines = BTreeSet::from([machine]);
    let (mut first, rest): (Vec<&Neighbour>, Vec<&Neighbour>) = longest.into_iter().partition(|one| machines.insert(one.machine));
    first.extend(rest);
    first.into_iter().take(limits::STANDBYS).map(|neighbour| neighbour.peer).collect()
}

/// At most `most` of `peers`, others for every `salt`.
pub(super) fn some(salt: u64, most: usize, peers: impl Iterator<Item = PeerId>) -> BTreeSet<PeerId> {
    let mut peers: Vec<PeerId> = peers.collect();
    peers.sort_by_cached_key(|peer| place(salt, peer));
    peers.into_iter().take(most).collect()
}

fn place(salt: u64, peer: &PeerId) -> [u8; 32] {
    Sha256::new_with_prefix(salt.to_be_bytes()).chain_update(peer.to_bytes()).finalize().into()
}
