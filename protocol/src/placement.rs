//! Who is here, and who holds mail for whom: the same answer at everyone who sees the same peers.
//! Knows nothing of what is held. Closest by XOR over hashes, as in Kademlia; different machines first.
//! Nodes are of one machine if they say so, or if all addresses of one are the other's too.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

use crate::id::MachineId;

/// A peer that could hold mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) peer: PeerId,
    pub(crate) machine: MachineId,
}

/// A peer that is reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) peer: PeerId,
    pub(crate) machine: MachineId,
    /// Since when, on the clock of this run.
    pub(crate) since: Duration,
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

/// The IP addresses of a card that tell machines apart, ascending. Loopback ones do not: every machine has them.
pub(crate) fn ips(addresses: &[String]) -> Vec<IpAddr> {
    let ip = |address: &String| {
        let mut parts = address.split('/').skip(1);
        let ip: IpAddr = match (parts.next()?, parts.next()?) {
            ("ip4", text) => text.parse::<Ipv4Addr>().ok()?.into(),
            ("ip6", text) => text.parse::<Ipv6Addr>().ok()?.into(),
            _ => return None,
        };
        Some(ip.to_canonical()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
    };
    let ips: BTreeSet<IpAddr> = addresses.iter().filter_map(ip).collect();
    ips.into_iter().collect()
}

/// Which machines are one under several ids: containers and chroots have ids of their own on the addresses of their host.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    /// Those that are the same as an earlier one.
    same: BTreeMap<MachineId, MachineId>,
}

impl Machines {
    /// Of cards: machine and [`ips`] of each. Of those that are one, the first stands for all.
    ///
    /// One common address is not enough: every host with virtual machines or containers has the same one for them. So all
    /// addresses of one card must be on the other.
    pub(crate) fn new<'a>(cards: impl Iterator<Item = (MachineId, &'a [IpAddr])>) -> Machines {
        let cards: Vec<(MachineId, &[IpAddr])> = cards.collect();
        let mut with: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
        for (card, (_, ips)) in cards.iter().enumerate() {
            ips.iter().for_each(|ip| with.entry(*ip).or_default().push(card));
        }
        let rank: BTreeMap<MachineId, usize> = cards.iter().enumerate().rev().map(|(card, (machine, _))| (*machine, card)).collect();
        let mut machines = Machines::default();
        for (machine, ips) in &cards {
            let Some(rarest) = ips.iter().map(|ip| &with[ip]).min_by_key(|with| with.len()) else { continue };
            for (other, others) in rarest.iter().map(|card| cards[*card]) {
                let (one, two) = (machines.of(*machine), machines.of(other));
                if one != two && ips.iter().all(|ip| others.binary_search(ip).is_ok()) {
                    let (first, second) = if rank[&one] < rank[&two] { (one, two) } else { (two, one) };
                    machines.same.values_mut().filter(|stands| **stands == second).for_each(|stands| *stands = first);
                    machines.same.insert(second, first);
                }
            }
        }
        machines
    }

    /// Which machine this one is.
    pub(crate) fn of(&self, machine: MachineId) -> MachineId {
        self.same.get(&machine).copied().unwrap_or(machine)
    }
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

    /// Which machine each of these cards is of, cards having the machines 0, 1, 2 …
    fn grouped(cards: &[&[&str]]) -> Vec<u8> {
        let cards: Vec<Vec<IpAddr>> = cards.iter().map(|card| ips(&card.iter().map(ToString::to_string).collect::<Vec<_>>())).collect();
        let machine = |n: usize| MachineId::new([u8::try_from(n).expect("few"); 16]);
        let machines = Machines::new(cards.iter().enumerate().map(|(n, ips)| (machine(n), ips.as_slice())));
        (0..cards.len()).map(|n| machines.of(machine(n)).as_bytes()[0]).collect()
    }

    #[test]
    fn nodes_that_share_their_addresses_are_of_one_machine() {
        let lan = "/ip4/10.0.0.1/tcp/6174";
        assert_eq!(grouped(&[&[lan], &["/ip4/10.0.0.2/tcp/6174"], &["/ip4/10.0.0.1/tcp/6175"]]), [0, 1, 0]);
        assert_eq!(grouped(&[&["/ip6/fd00::1/tcp/1"], &["/ip6/fd00:0::1/tcp/2"], &["/ip6/fd00::2/tcp/1"]]), [0, 0, 2]);
        // One of them listens at one address only.
        assert_eq!(grouped(&[&["/ip6/fd00::1/tcp/1", lan], &[lan]]), [0, 0]);
        assert_eq!(grouped(&[&[lan], &["/ip6/fd00::1/tcp/1", lan]]), [0, 0]);
        // The third is of the machine of the first two.
        assert_eq!(grouped(&[&[lan], &["/ip6/fd00::1/tcp/1"], &["/ip6/fd00::1/tcp/1", lan]]), [0, 0, 0]);
        assert_eq!(grouped(&[&["/ip4/10.0.0.9/tcp/1"], &[lan], &["/ip6/fd00::1/tcp/1"], &["/ip6/fd00::1/tcp/1", lan]]), [0, 1, 1, 1]);
    }

    #[test]
    fn addresses_that_many_machines_have_do_not_make_them_one() {
        assert_eq!(
            grouped(&[&["/ip4/127.0.0.1/tcp/1"], &["/ip4/127.0.0.1/tcp/2"], &["/ip6/::1/tcp/2"], &["/ip6/::1/tcp/3"]]),
            [0, 1, 2, 3]
        );
        assert_eq!(grouped(&[&["/ip6/::ffff:127.0.0.1/tcp/1"], &["/ip6/::ffff:127.0.0.1/tcp/1"]]), [0, 1]);
        assert_eq!(grouped(&[&[], &[], &["/dns4/host/tcp/1"], &["/dns4/host/tcp/1"], &["nonsense"]]), [0, 1, 2, 3, 4]);
        let docker = "/ip4/172.17.0.1/tcp/6174";
        assert_eq!(grouped(&[&[docker, "/ip4/10.0.0.1/tcp/6174"], &[docker, "/ip4/10.0.0.2/tcp/6174"]]), [0, 1]);
    }

    #[test]
    fn who_is_one_machine_does_not_depend_on_the_order_of_the_roster() {
        let chain: [&[&str]; 5] = [
            &["/ip4/10.0.0.1/tcp/1"],
            &["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1"],
            &["/ip4/10.0.0.2/tcp/1"],
            &["/ip4/10.0.0.3/tcp/1", "/ip4/10.0.0.2/tcp/1"],
            &["/ip4/10.0.0.4/tcp/1"],
        ];
        for turn in 0..5 {
            let mut turned = chain;
            turned.rotate_left(turn);
            let mut found = grouped(&turned);
            found.rotate_right(turn);
            assert!(found[..4].iter().all(|machine| *machine == found[0]) && found[4] != found[0], "{found:?}");
        }
    }
}
