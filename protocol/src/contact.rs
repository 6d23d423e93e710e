//! A peer's signed card: who it is, where it is, how to seal for it.
//! Knows nothing of presence. Of two cards of one peer the greater sequence wins.

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::id::{KeyId, MachineId};
use crate::name::PeerName;
use crate::sign::Statement;

/// Addresses on one card (guess: a host has few interfaces; research/reliability.md 4.1 caps at 16).
pub const ADDRESSES_MAX: usize = 16;
/// Bytes of one address: the longest multiaddr with a DNS name is below this.
pub const ADDRESS_BYTES_MAX: usize = 300;

/// What a peer says of itself. Signed by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Who.
    pub id: PeerId,
    /// What people call it.
    pub name: PeerName,
    /// Where its node lives: nodes of one machine share their fate.
    pub machine: MachineId,
    /// HPKE suite of `encryption_key`: 1 is DHKEM-X25519, HKDF-SHA256, ChaCha20-Poly1305.
    pub suite: u8,
    /// The X25519 public key that bundles to this peer are sealed to.
    pub encryption_key: ByteArray<32>,
    /// Names `encryption_key`.
    pub key: KeyId,
    /// Multiaddrs, as text.
    pub addresses: Vec<String>,
    /// Grows with every change of this card.
    pub sequence: u64,
}

impl Contact {
    /// Whether every list and text is within its limit.
    #[must_use]
    pub fn within_limits(&self) -> bool {
        self.addresses.len() <= ADDRESSES_MAX && self.addresses.iter().all(|a| a.len() <= ADDRESS_BYTES_MAX && a.is_ascii())
    }
}

impl Statement for Contact {
    const LABEL: &'static str = "contact";

    fn signer(&self) -> PeerId {
        self.id
    }
}
