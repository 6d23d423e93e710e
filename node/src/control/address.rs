//! Addresses as people type them, made multiaddrs.
//! Resolves nothing and connects to nothing. What begins with `/` is passed on as it is, if it is one.

use std::net::{IpAddr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Where a node listens if nothing else was said (DESIGN 8).
pub const PORT: u16 = 6174;

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing is left of it.
    #[error("an address is HOST, HOST:PORT or a multiaddr like /ip4/192.168.1.17/tcp/6174")]
    Empty,
    /// It begins like a multiaddr and is none, or not one of a TCP port.
    #[error("{0:?} is not a multiaddr of a TCP port, like /ip4/192.168.1.17/tcp/6174")]
    Multiaddr(String),
    /// The port is not a number of 1 to 65535.
    #[error("{0:?} is not a port: 1 to 65535 is expected")]
    Port(String),
    /// The host is neither an IP address nor a name.
    #[error("{0:?} is neither an IP address nor the name of a host")]
    Host(String),
}

/// `192.168.1.17`, `nikki.local:7000`, `[fe80::1]:6174` or a multiaddr, as a multiaddr.
///
/// # Errors
/// It is none of these.
pub fn multiaddr(text: &str) -> Result<String, AddressError> {
    if text.starts_with('/') {
        let address = text.parse::<Multiaddr>().map_err(|_| AddressError::Multiaddr(text.to_owned()))?;
        let dialled = address.iter().any(|part| matches!(part, Protocol::Tcp(_)));
        return if dialled { Ok(text.to_owned()) } else { Err(AddressError::Multiaddr(text.to_owned())) };
    }
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return Ok(format!("/ip6/{ip}/tcp/{PORT}"));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').unwrap_or(rest)) }),
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None => PORT,
        Some(port) => port.parse().ok().filter(|p| *p > 0).ok_or_else(|| AddressError::Port(port.to_owned()))?,
    };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => Ok(format!("/ip4/{ip}/tcp/{port}")),
        Ok(IpAddr::V6(ip)) => Ok(format!("/ip6/{ip}/tcp/{port}")),
        Err(_) if is_host(host) => Ok(format!("/dns/{host}/tcp/{port}")),
        Err(_) => Err(AddressError::Host(host.to_owned())),
    }
}

/// RFC 1123, with `_` as many networks have it. All digits and dots would be a mistyped IP address.
fn is_host(text: &str) -> bool {
    text.len() <= 253
        && text.bytes().any(|b| b.is_ascii_alphabetic())
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_becomes_a_multiaddr() {
        for (text, expected) in [
            ("192.168.1.17", "/ip4/192.168.1.17/tcp/6174"),
            ("192.168.1.17:7000", "/ip4/192.168.1.17/tcp/7000"),
            ("nikki-pi", "/dns/nikki-pi/tcp/6174"),
            ("nikki.local:7000", "/dns/nikki.local/tcp/7000"),
            ("fe80::1", "/ip6/fe80::1/tcp/6174"),
            ("[fe80::1]", "/ip6/fe80::1/tcp/6174"),
            ("[fe80::1]:7000", "/ip6/fe80::1/tcp/7000"),
            ("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"),
        ] {
            assert_eq!(multiaddr(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "/ip4/bogus",
            "/ip4/300.0.0.1/tcp/1",
            "/ip4/10.0.0.1",
            "/ip4/10.0.0.1/udp/1",
            "/nonsense/x",
            "",
            "/",
            "a b",
            "host:",
            "host:0",
            "host:65536",
            "host:x",
            "300.1.1.1",
            "-h",
            "a..b",
            "[fe80::1",
            "[fe80::1]x",
            "a/b",
            "é",
        ] {
            assert!(multiaddr(text).is_err(), "{text:?}");
        }
    }
}
