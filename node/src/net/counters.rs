//! What the network has done so far, in numbers that anyone may read at any time.
//! Knows nothing of why; a number only ever grows, but for `mdns_peers`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// One number.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Other swarms whose names are remembered; who makes up more is counted, not named (guess: more than anyone wants to read).
const NAMES_MAX: usize = 8;

/// Names of swarms whose nodes were met that speak another protocol than this one: other swarms, or this one in another version.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<BTreeSet<String>>);

impl Names {
    pub(crate) fn add(&self, name: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < NAMES_MAX {
            names.insert(name.to_owned());
        }
    }

    pub(crate) fn read(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The live numbers, shared by the loop, its tasks and the handle.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)* pub(crate) others: Names }

        /// What [`super::Net::counters`] returns: the numbers of this moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.read(),)* }
            }
        }
    };
}

counters! {
    /// Different peers heard by mDNS so far (of any swarm), up to the limit of the list.
    mdns_peers,
    /// Dials begun by us.
    dials,
    /// Dials that did not become a connection.
    dial_failures,
    /// Of those and of the connections accepted: broken off in the handshake, as by another swarm key or
    /// another version, or answered by another identity than expected.
    mismatches,
    /// Connections to peers that do not speak this swarm's protocol: other swarms, other programs.
    strangers,
    /// Frames read.
    frames_in,
    /// Frames handed to a connection.
    frames_out,
    /// Bytes of frames read, without their prefixes.
    bytes_in,
    /// Bytes of frames handed to a connection, without their prefixes.
    bytes_out,
    /// Frames not sent: queue full, over-long, no connection.
    frames_dropped,
    /// Gossip messages heard.
    gossip_in,
    /// Gossip messages published.
    gossip_out,
    /// Gossip messages heard but not passed on because the receiver of events was behind, or published in vain.
    gossip_dropped,
    /// Frames refused: empty, over-long or stalled. Each cost its peer the connection.
    refused_frames,
    /// Inbound streams beyond those a peer needs; closed at once.
    refused_streams,
}
