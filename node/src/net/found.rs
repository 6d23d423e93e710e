//! Whether a key answers at an address, asked with a key that is thrown away.
//! Speaks no protocol of the swarm: the handshake of noise alone proves who is there.

use std::time::Duration;

use futures::future;
use libp2p::core::Endpoint;
use libp2p::core::transport::{DialOpts, PortUse, Transport};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};

use super::transport::transport;

/// How long an answer is waited for (guess: on a LAN a handshake takes milliseconds, and a host that is off says nothing).
const PATIENCE: Duration = Duration::from_secs(2);

/// The first of these addresses at which a process with the key of `peer` answers.
pub async fn found_at(peer: PeerId, addresses: Vec<Multiaddr>, swarm_key: Option<[u8; 32]>) -> Option<Multiaddr> {
    let look = |address: Multiaddr| async move {
        let mut transport = transport(&Keypair::generate_ed25519(), swarm_key).ok()?;
        let dial = transport.dial(address.clone(), DialOpts { role: Endpoint::Dialer, port_use: PortUse::New }).ok()?;
        let (found, _connection) = tokio::time::timeout(PATIENCE, dial).await.ok()?.ok()?;
        (found == peer).then_some(address)
    };
    future::join_all(addresses.into_iter().map(look)).await.into_iter().flatten().next()
}
