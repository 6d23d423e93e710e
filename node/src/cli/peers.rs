//! `peers [--all]`: who is here, or who was ever heard of.
//! Knows nothing of oneself: the list leaves one out. Two of one name are told apart by their keys.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::places::typed;
use super::sent::time;
use super::terminal::{line, print};
use crate::control::api::Peer;

#[derive(Debug, Args)]
pub(super) struct PeersArgs {
    /// Also those who are away
    #[arg(long)]
    all: bool,
}

pub(super) async fn execute(args: PeersArgs, context: &Context) -> Result<u8, Failure> {
    let mut peers: Vec<Peer> = context.client.all(&format!("/v1/peers?all={}&limit=1000", args.all)).await?;
    peers.sort_by(|a, b| (!a.connected, &a.name, &a.id).cmp(&(!b.connected, &b.name, &b.id)));
    if context.json {
        context.document(&peers)?;
    } else if !peers.is_empty() {
        let rows: Vec<[String; 4]> = peers.iter().map(row).collect();
        print(&context.terminal.table(["NAME", "STATE", "ADDRESS", "ID"], &rows))?;
    } else if context.terminal.is {
        let all = if args.all { "nobody was ever here" } else { "nobody else is here; who was: node peers --all" };
        print(&typed(&format!("{all}\n  to reach a node that is not found by itself: node connect HOST\n")))?;
    }
    Ok(DONE)
}

fn row(peer: &Peer) -> [String; 4] {
    let state = match (peer.connected, peer.available, peer.inactive) {
        (false, ..) => format!("away since {}", time(&peer.last_seen_at)),
        _ if peer.cloned => "runs twice".to_owned(),
        (true, false, _) => "not available".to_owned(),
        (true, true, true) => "inactive".to_owned(),
        (true, true, false) => "available".to_owned(),
    };
    let address = peer.addresses.first().map(|address| line(&host_port(address))).unwrap_or_default();
    [line(&peer.name), state, address, line(peer.id.get(peer.id.len().saturating_sub(8)..).unwrap_or(&peer.id))]
}

/// A multiaddr as people write addresses; one of another kind as it is.
pub(super) fn host_port(address: &str) -> String {
    let mut parts = address.split('/').skip(1);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("ip6"), Some(host), Some("tcp"), Some(port)) => format!("[{host}]:{port}"),
        (Some("ip4" | "dns" | "dns4" | "dns6"), Some(host), Some("tcp"), Some(port)) => format!("{host}:{port}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_said_in_words() {
        let peer = Peer {
            id: "12D3KooWKx9Ta7f3".to_owned(),
            name: "nikki-pi".to_owned(),
            available: true,
            inactive: false,
            cloned: false,
            connected: true,
            addresses: vec!["/ip4/192.168.1.23/tcp/6174".to_owned()],
            first_seen_at: String::new(),
            last_seen_at: "1970-01-01T00:00:00.000Z".to_owned(),
            services: Vec::new(),
        };
        assert_eq!(row(&peer), ["nikki-pi", "available", "192.168.1.23:6174", "Kx9Ta7f3"]);
        let check = |connected, available, inactive, expected: &str| {
            assert_eq!(row(&Peer { connected, available, inactive, ..peer.clone() })[1], expected);
        };
        check(true, true, true, "inactive");
        check(true, false, true, "not available");
        check(false, false, false, "away since 1970-01-01");
        assert_eq!(row(&Peer { cloned: true, available: false, ..peer.clone() })[1], "runs twice");
    }

    #[test]
    fn addresses_are_written_as_people_write_them() {
        for (address, expected) in [
            ("/ip4/1.2.3.4/tcp/5", "1.2.3.4:5"),
            ("/ip6/fe80::1/tcp/5/p2p/12D3", "[fe80::1]:5"),
            ("/dns/nikki/tcp/5", "nikki:5"),
            ("/ip4/1.2.3.4/udp/5/quic-v1", "/ip4/1.2.3.4/udp/5/quic-v1"),
            ("odd", "odd"),
        ] {
            assert_eq!(host_port(address), expected);
        }
    }
}
