//! What a node has done so far to find others: what people need to know who sit in front of one that finds nobody.
//! Finds nobody itself. Only counts and names; whom to believe is decided elsewhere.

use std::sync::Weak;

use crate::control::api::{Interface, Search};
use crate::net::Net;

/// What is looked at.
#[derive(Clone)]
pub(crate) struct Searching {
    net: Weak<Net>,
    multicast: bool,
    /// Multicast packets that this machine had sent before the node began.
    before: Option<u64>,
}

impl Searching {
    /// Begin it before the network is begun.
    pub(crate) fn packets_before() -> Option<u64> {
        sent_packets(&std::fs::read_to_string("/proc/net/netstat").ok()?)
    }

    pub(crate) fn new(net: Weak<Net>, multicast: bool, before: Option<u64>) -> Searching {
        Searching { net, multicast, before }
    }

    /// As it is now. Nothing of it while the network ends.
    pub(crate) fn now(&self) -> Search {
        let net = self.net.upgrade();
        let counters = net.as_ref().map(|net| net.counters()).unwrap_or_default();
        let others = net.map(|net| net.others_met()).unwrap_or_default();
        let sent = Searching::packets_before().zip(self.before).map(|(now, before)| now.saturating_sub(before));
        Search {
            multicast: self.multicast,
            interfaces: if self.multicast { interfaces() } else { Vec::new() },
            multicast_sent: sent.filter(|_| self.multicast),
            multicast_heard: counters.mdns_peers,
            dials: counters.dials,
            dials_failed: counters.dial_failures,
            mismatches: counters.mismatches,
            strangers: counters.strangers,
            other_swarms: others,
        }
    }
}

/// Those with an IPv4 address, by which multicast goes; loopback is none.
fn interfaces() -> Vec<Interface> {
    let networks = sysinfo::Networks::new_with_refreshed_list();
    let mut all: Vec<Interface> = networks
        .iter()
        .map(|(name, network)| {
            let addresses = network.ip_networks().iter().map(|network| network.addr).filter(|ip| ip.is_ipv4() && !ip.is_loopback());
            Interface { name: name.clone(), addresses: addresses.map(|ip| ip.to_string()).collect() }
        })
        .filter(|interface| !interface.addresses.is_empty())
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// `OutMcastPkts`, of all programs of this machine, from a table whose first line names what the second counts.
fn sent_packets(netstat: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, counts) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|name| name == "OutMcastPkts")?;
    counts.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_from_the_table_of_the_system() {
        let table =
            "TcpExt: SyncookiesSent OutMcastPkts\nTcpExt: 1 2\nIpExt: InNoRoutes InMcastPkts OutMcastPkts InBcastPkts\nIpExt: 0 5 7 0\n";
        assert_eq!(sent_packets(table), Some(7));
        for text in ["", "IpExt: A\n", "IpExt: OutMcastPkts\nIpExt: x\n", "IpExt: A OutMcastPkts\nIpExt: 1\n"] {
            assert_eq!(sent_packets(text), None, "{text:?}");
        }
    }
}
