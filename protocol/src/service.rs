//! What workers offer: names, needs, who may order, and how much of it they can take.
//! Knows nothing of how it is run. A [`ServiceName`] can stand in a command line and in a path.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};

use crate::config::limits;
use crate::name::{NameError, PeerName};

/// The name of a service: by the rules of names of peers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceName(PeerName);

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().map(ServiceName)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What work takes of a machine while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Logical CPUs.
    pub cores: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Software that the worker must have declared.
    pub software: BTreeSet<String>,
}

/// Who may order a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowed {
    /// Everyone in the swarm.
    Anyone,
    /// These, and the worker itself.
    Peers(BTreeSet<PeerId>),
}

impl Allowed {
    /// Whether `orderer` may order it of `worker`.
    #[must_use]
    pub fn allows(&self, orderer: &PeerId, worker: &PeerId) -> bool {
        match self {
            Allowed::Anyone => true,
            Allowed::Peers(peers) => orderer == worker || peers.contains(orderer),
        }
    }
}

/// A service as its worker tells it to others: what they need to know to order it, not how it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCard {
    /// Its name.
    pub name: ServiceName,
    /// What it does, in its offerer's words; at most [`limits::ABOUT_BYTES`].
    pub about: String,
    /// How many of it run at once on this worker.
    pub limit: u32,
    /// What each of them takes.
    pub needs: Needs,
    /// Who may order it.
    pub allowed: Allowed,
}

impl ServiceCard {
    /// Whether it keeps the limits that every peer checks.
    #[must_use]
    pub fn within_limits(&self) -> bool {
        let peers = match &self.allowed {
            Allowed::Anyone => 0,
            Allowed::Peers(peers) => peers.len(),
        };
        self.about.len() <= limits::ABOUT_BYTES
            && peers <= limits::RECIPIENTS
            && (1..=limits::SLOTS).contains(&self.limit)
            && software_within_limits(&self.needs.software, limits::SOFTWARE)
    }
}

fn software_within_limits(software: &BTreeSet<String>, most: usize) -> bool {
    software.len() <= most && software.iter().all(|word| !word.is_empty() && word.len() <= limits::SOFTWARE_BYTES)
}

/// All that a worker offers now. Its hash is in the worker's beacon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// Ascending by name.
    pub services: Vec<ServiceCard>,
    /// Software that is declared there.
    pub software: BTreeSet<String>,
    /// Finishes what runs and takes nothing new.
    pub draining: bool,
}

impl Services {
    /// Whether it keeps the limits that every peer checks.
    #[must_use]
    pub fn within_limits(&self) -> bool {
        self.services.len() <= limits::SERVICES
            && self.services.iter().all(ServiceCard::within_limits)
            && software_within_limits(&self.software, limits::SERVICES * limits::SOFTWARE)
    }

    /// The hash in the beacon; 0 for who offers nothing.
    #[must_use]
    pub fn digest(&self) -> u64 {
        use sha2::{Digest, Sha256};
        if self.services.is_empty() {
            return 0;
        }
        let hash: [u8; 32] = Sha256::digest(crate::codec::encode(self)).into();
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash[..8]);
        // 0 means nothing.
        u64::from_be_bytes(bytes).max(1)
    }
}

/// How a service is run by the worker that offers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// Answers with its arguments, without a process: for trying things out and for measuring.
    Echo,
    /// A program and its first arguments; those of the order follow. No shell.
    Command(Vec<String>),
}

/// A service of this node, as its user offers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offering {
    /// What others are told.
    pub card: ServiceCard,
    /// How it is run.
    pub program: Program,
    /// A run is ended after so many milliseconds.
    pub time_limit_ms: Option<u64>,
    /// Software that this offer declares to be on this machine.
    pub software: BTreeSet<String>,
    /// It stands in the configuration of this node, which says it anew at each start.
    #[serde(default)]
    pub configured: bool,
}

/// What a worker answers when it is asked whether it could take something now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// It would start at once.
    pub available: bool,
    /// Why not.
    pub why: Option<Lack>,
    /// Tasks of that service that run or wait at this worker.
    pub remaining: u32,
    /// When it would be free, in milliseconds; none if nothing was measured yet.
    pub eta_ms: Option<u64>,
    /// How many runs were measured for that.
    pub basis: u32,
    /// Runs of that service now …
    pub running: u32,
    /// … of so many.
    pub limit: u32,
    /// Logical CPUs: all, and what running tasks leave.
    pub cores: (u32, u32),
    /// Bytes of memory: all, and what running tasks leave.
    pub memory_bytes: (u64, u64),
    /// What is declared there.
    pub software: BTreeSet<String>,
}

/// Why a worker does not take something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// It does not offer the service (any more).
    NotOffered,
    /// The orderer may not order it there.
    NotAllowed,
    /// As many run as may.
    Full,
    /// Never enough CPUs: this many are there.
    Cores(u32),
    /// Never enough memory: so many bytes are there.
    Memory(u64),
    /// CPUs or memory are taken by what runs now.
    Busy,
    /// This software is not declared there.
    Software(String),
    /// It finishes what runs and takes nothing new.
    Draining,
    /// It signals that it takes no work now, or is about to stop.
    NotAvailable,
    /// Its disk is low.
    Disk,
    /// It does not have the order that it should take a unit of.
    NoOrder,
}
