//! Cumulative receipts: what a recipient has of one author, checkable by that author.
//! Knows nothing of streams. Within one epoch of the recipient the greater record number replaces the lesser.

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::limits;
use crate::id::{Epoch, LetterId};
use crate::ranges::Ranges;
use crate::sign::Statement;

/// What `recipient` has of `author`'s letters. Signed by the recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Who signs.
    pub recipient: PeerId,
    /// The recipient's own memory.
    pub recipient_epoch: Epoch,
    /// The recipient's record segment that this receipt was committed with.
    pub number: u64,
    /// Whose letters.
    pub author: PeerId,
    /// The author's epoch that the numbers belong to.
    pub epoch: Epoch,
    /// The floor last heard from the author: `taken` and `digest` begin here.
    pub floor: u64,
    /// Numbers committed, from `floor` on.
    pub taken: Ranges,
    /// Sum over `taken` of [`digest`], modulo 2^128.
    pub digest: Sum,
    /// Numbers shown to a person or marked read, of all.
    pub read: Ranges,
}

impl Receipt {
    /// Whether every number and list is within its limit.
    #[must_use]
    pub fn within_limits(&self) -> bool {
        let lists = [&self.taken, &self.read];
        (1..=limits::NUMBER_MAX).contains(&self.floor)
            && lists
                .iter()
                .all(|ranges| ranges.pieces() <= limits::PIECES + 1 && ranges.last().is_none_or(|last| last <= limits::NUMBER_MAX))
            && lists.iter().all(|ranges| !ranges.contains(0))
    }
}

impl Statement for Receipt {
    const LABEL: &'static str = "receipt";

    fn signer(&self) -> PeerId {
        self.recipient
    }
}

/// An additive hash of a set of (number, id): sums and differences of it are those of the sets (Bellare and Micciancio,
/// "A New Paradigm for Collision-Free Hashing", 1997). It guards against accidents, not attackers: both sides are honest here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "serde_bytes::ByteArray<16>", into = "serde_bytes::ByteArray<16>")]
pub struct Sum(u128);

impl Sum {
    /// The first 16 bytes of a hash.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Sum {
        Sum(u128::from_be_bytes(bytes))
    }

    /// With `other` added.
    #[must_use]
    pub fn plus(self, other: Sum) -> Sum {
        Sum(self.0.wrapping_add(other.0))
    }

    /// With `other` taken away.
    #[must_use]
    pub fn minus(self, other: Sum) -> Sum {
        Sum(self.0.wrapping_sub(other.0))
    }
}

impl From<serde_bytes::ByteArray<16>> for Sum {
    fn from(bytes: serde_bytes::ByteArray<16>) -> Self {
        Sum(u128::from_be_bytes(bytes.into_array()))
    }
}

impl From<Sum> for serde_bytes::ByteArray<16> {
    fn from(sum: Sum) -> Self {
        serde_bytes::ByteArray::new(sum.0.to_be_bytes())
    }
}

/// The hash of one numbered letter: the first 16 bytes of SHA-256 over number and id.
#[must_use]
pub fn digest(number: u64, id: LetterId) -> Sum {
    let mut hash = Sha256::new();
    hash.update(number.to_be_bytes());
    hash.update(id.as_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    Sum::new(half)
}
