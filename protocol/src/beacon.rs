//! The small signed heartbeat by which peers know of one another.
//! Knows nothing of who hears it. Of two beacons of one peer the greater (boot, counter) is the later.

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};

use crate::id::Epoch;
use crate::sign::Statement;

/// Bytes of CPU and memory statistics that travel with a beacon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Logical CPUs.
    pub cores: u32,
    /// CPUs idle, in percent of one CPU (400 = four idle).
    pub cores_free_percent: u32,
    /// Physical memory.
    pub memory_bytes: u64,
    /// Memory that could be used without swapping.
    pub memory_free_bytes: u64,
}

/// "I am here", idempotent. Signed by its peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// Who.
    pub peer: PeerId,
    /// Its memory.
    pub epoch: Epoch,
    /// How often this memory was started; persisted.
    pub boot: u64,
    /// Random for each start: tells two copies of one directory apart.
    pub nonce: u64,
    /// Counts the beacons of this start.
    pub counter: u64,
    /// Sequence of its current card.
    pub contact: u64,
    /// Takes letters and tasks now.
    pub available: bool,
    /// Says that it may not read soon.
    pub inactive: bool,
    /// Hash of the list of its services; 0 while it offers none.
    pub services: u64,
    /// Hash of the (id, card sequence) of all peers it knows: where it differs, lists are exchanged.
    pub known: u64,
    /// Neighbours it is connected with: whoever is not much better connected need not pass its beacons on.
    pub linked: u32,
    /// Its last record segment.
    pub record: u64,
    /// The nonce of the last start of this peer, and none of those it remembers, that a neighbour showed it.
    #[serde(default)]
    pub other: Option<u64>,
    /// Another process with this key is running: this one takes and sends no letters until it is started again.
    #[serde(default)]
    pub cloned: bool,
    /// Load.
    pub statistics: Statistics,
}

impl Beacon {
    /// Orders the beacons of one epoch of one peer.
    #[must_use]
    pub fn order(&self) -> (u64, u64) {
        (self.boot, self.counter)
    }
}

impl Statement for Beacon {
    const LABEL: &'static str = "beacon";

    fn signer(&self) -> PeerId {
        self.peer
    }
}
