//! One participant: the page on which the machines hang together.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;

use crate::config::Config;
use crate::edge::Cause;
use crate::effect::{Effect, Kept};
use crate::id::{Epoch, KeyId, MachineId};
use crate::input::{Disk, Input};
use crate::name::PeerName;
use crate::now::{Now, Timestamp};

/// Who a participant is: what its key file and its machine say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: PeerId,
    /// Its name if its disk remembers none.
    pub name: PeerName,
    /// Its machine.
    pub machine: MachineId,
    /// Its public encryption key.
    pub encryption_key: [u8; 32],
    /// Names that key.
    pub key: KeyId,
}

/// When a peer wants to be called again, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// At this time, on the clock of [`Now::mono`].
    pub at: Duration,
    /// What is due then.
    pub reason: &'static str,
}

/// What a peer knows, for faces and checkers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Itself.
    pub id: PeerId,
    /// Its name.
    pub name: PeerName,
    /// Its memory.
    pub epoch: Epoch,
    /// How often it was started.
    pub boot: u64,
    /// Signals that letters and tasks are welcome.
    pub available: bool,
    /// Signals that letters may not be read soon.
    pub inactive: bool,
    /// Where it can be reached.
    pub addresses: Vec<String>,
    /// All other peers ever heard of, by id.
    pub peers: Vec<PeerStatus>,
    /// Letters accepted here and not yet receipted by all.
    pub outbox_letters: u64,
    /// Bytes of bundles that wait for receipts.
    pub outbox_bytes: u64,
    /// The sequence of the next record entry.
    pub next_entry: u64,
    /// The next inbox number.
    pub next_n: u64,
    /// Room on the disk.
    pub disk: Disk,
    /// What was refused since the start, by cause.
    pub refused: BTreeMap<Cause, u64>,
}

/// What a peer knows of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub id: PeerId,
    /// As it is called.
    pub name: PeerName,
    /// Connected, heard from, and not signalled otherwise.
    pub available: bool,
    /// Connected and heard from: letters can be sent, if it wants them.
    pub reachable: bool,
    /// A connection is up.
    pub connected: bool,
    /// Signals that it takes letters; the last it said.
    pub welcomes: bool,
    /// Signals that it may not read soon; the last it said.
    pub inactive: bool,
    /// Its machine.
    pub machine: MachineId,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// When anyone in reach first heard of it.
    pub first_seen: Timestamp,
    /// When anyone in reach last heard it.
    pub last_seen: Timestamp,
    /// Letters to it that wait for its receipt.
    pub waiting: u64,
}

/// One participant.
#[derive(Debug)]
pub struct Peer {}

impl Peer {
    /// A participant as its disk remembers it. `rng` must be seeded from true randomness, or from the simulator's seed.
    #[must_use]
    pub fn new(_me: Identity, _config: Config, _rng: ChaCha8Rng, _kept: Kept, _now: Now) -> Peer {
        Peer {}
    }

    /// Takes one fact and says what to do. Cannot fail, cannot wait, asks nobody.
    #[must_use]
    pub fn handle(&mut self, _input: Input, _now: Now) -> Vec<Effect> {
        Vec::new()
    }

    /// When to call again with [`Input::Tick`], and why. Calling earlier or later is harmless.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        None
    }
}
