//! Who holds mail for whom: the same answer at everyone who sees the same peers.
//! Knows nothing of what is held. Closest by XOR over hashes, as in Kademlia; different machines first.

use std::collections::BTreeSet;

use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

use crate::id::MachineId;

/// A peer that could hold mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) peer: PeerId,
    pub(crate) machine: MachineId,
}

/// `candidates` in the order in which they are asked to hold mail for `recipient`: by distance, but every machine once
/// before any twice, and those of `shared` (the author's and the recipient's own) last.
pub(crate) fn ranked(recipient: &PeerId, shared: &[MachineId], mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    let target = place(recipient);
    candidates.sort_by_cached_key(|candidate| {
        let mut distance = place(&candidate.peer);
        distance.iter_mut().zip(target).for_each(|(byte, other)| *byte ^= other);
        distance
    });
    let mut seen: BTreeSet<MachineId> = shared.iter().copied().collect();
    let (mut first, rest): (Vec<Candidate>, Vec<Candidate>) = candidates.into_iter().partition(|candidate| seen.insert(candidate.machine));
    first.extend(rest);
    first
}

/// How many of these are on machines of their own, not counting `shared`.
pub(crate) fn machines(shared: &[MachineId], candidates: impl Iterator<Item = MachineId>) -> usize {
    candidates.filter(|machine| !shared.contains(machine)).collect::<BTreeSet<_>>().len()
}

fn place(peer: &PeerId) -> [u8; 32] {
    Sha256::digest(peer.to_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u8) -> PeerId {
        crate::bundle::Secrets::from_seeds(&[seed; 32], &[seed; 32]).id()
    }

    fn candidate(seed: u8, machine: u8) -> Candidate {
        Candidate { peer: peer(seed), machine: MachineId::new([machine; 16]) }
    }

    #[test]
    fn everyone_finds_the_same_order_whatever_the_order_of_the_roster() {
        let roster: Vec<Candidate> = (1..9).map(|seed| candidate(seed, seed)).collect();
        let mut reversed = roster.clone();
        reversed.reverse();
        let ranked_once = ranked(&peer(20), &[], roster.clone());
        assert_eq!(ranked_once, ranked(&peer(20), &[], reversed));
        assert_ne!(ranked_once, ranked(&peer(21), &[], roster), "another recipient has other custodians");
    }

    #[test]
    fn machines_come_once_before_any_comes_twice() {
        let roster = vec![candidate(1, 1), candidate(2, 1), candidate(3, 2), candidate(4, 2), candidate(5, 3)];
        let order = ranked(&peer(20), &[MachineId::new([3; 16])], roster.clone());
        let first: BTreeSet<MachineId> = order[..2].iter().map(|candidate| candidate.machine).collect();
        assert_eq!(first, BTreeSet::from([MachineId::new([1; 16]), MachineId::new([2; 16])]));
        assert_eq!(order.len(), 5);
        assert_eq!(machines(&[MachineId::new([3; 16])], roster.iter().map(|candidate| candidate.machine)), 2);
    }
}
