//! What carriers say of mail that they hold for others: slips, offers, lists, releases.
//! Knows nothing of who holds what. A carrier sees recipient, depositor, size and age of a bundle, never what is in it.

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bundle::Bundle;
use crate::id::{BundleId, Epoch, MachineId};
use crate::now::Timestamp;
use crate::receipt::{Receipt, Sum};
use crate::sign::{Signed, Statement};

/// "This bundle is mine; count it against me." Signed by its depositor, carried with every copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slip {
    /// Who wrote the bundle and answers for the room it takes.
    pub depositor: PeerId,
    /// Which bundle; its id covers the recipient.
    pub bundle: BundleId,
    /// Bytes of header and sealed part.
    pub size: u64,
}

impl Statement for Slip {
    const LABEL: &'static str = "slip";

    fn signer(&self) -> PeerId {
        self.depositor
    }
}

/// A bundle as custodians carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// The depositor's slip.
    pub slip: Signed<Slip>,
    /// The bundle.
    pub bundle: Bundle,
}

/// All mail of one depositor for one recipient: the unit that custodians compare. Every peer computes from it who its
/// custodians are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mailbox {
    /// For whom.
    pub recipient: PeerId,
    /// From whom.
    pub depositor: PeerId,
}

/// "I hold this much of a mailbox."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Which.
    pub mailbox: Mailbox,
    /// Bundles.
    pub count: u64,
    /// Sum over their [`digest`]s, modulo 2^128: equal at two custodians that hold the same.
    pub digest: Sum,
}

/// One bundle in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its number at the custodian that lists it: in the order in which it was taken there.
    pub no: u64,
    /// Which.
    pub bundle: BundleId,
    /// Bytes of header and sealed part.
    pub size: u64,
}

/// "I have committed all that is in these." Signed by the recipient; whoever holds them lets go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Who signs.
    pub recipient: PeerId,
    /// At most [`limits::BUNDLE_IDS`](crate::config::limits::BUNDLE_IDS).
    pub bundles: Vec<BundleId>,
}

impl Statement for Release {
    const LABEL: &'static str = "release";

    fn signer(&self) -> PeerId {
        self.recipient
    }
}

/// Why a custodian does not hold a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It holds as much as it holds for anybody.
    Full,
    /// It holds as much as it holds of one depositor.
    DepositorFull,
    /// It holds as much as it holds for one recipient.
    RecipientFull,
    /// Its disk is nearly full.
    Disk,
    /// It is stopping.
    Leaving,
    /// The recipient has released it, or its author has withdrawn it.
    Released,
    /// Its user has blocked the depositor.
    Blocked,
}

impl Reason {
    /// In words, for the author: what "it" does.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Full => "holds as much mail as it may",
            Reason::DepositorFull => "holds as much mail of this node as it may",
            Reason::RecipientFull => "holds as much mail for this recipient as it may",
            Reason::Disk => "has too little room on its disk",
            Reason::Leaving => "is stopping",
            Reason::Released => "knows that the recipient has it",
            Reason::Blocked => "takes nothing from this node",
        }
    }
}

/// Why a recipient takes no letters of an author.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// Its user has blocked the author: the letters are parked until it says otherwise or they are discarded.
    Blocked,
    /// As much of the author is unread there as may be.
    Full,
    /// Its disk is nearly full.
    Disk,
}

impl Denial {
    /// The word in the record.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Denial::Blocked => "blocked",
            Denial::Full => "full",
            Denial::Disk => "disk",
        }
    }
}

/// A custodian that has acknowledged a flushed copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Who.
    pub peer: PeerId,
    /// Where its node lives: what is counted are machines.
    pub machine: MachineId,
    /// Its memory; once it is known to have another, this acknowledgement is void.
    pub epoch: Epoch,
    /// When it last said so, by this node's wall clock.
    pub at: Timestamp,
}

/// Where the receipt of one recipient for one author is kept while the author is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot {
    /// Whose letters.
    pub author: PeerId,
    /// The author's epoch.
    pub epoch: Epoch,
    /// Who signed.
    pub recipient: PeerId,
    /// The signer's epoch.
    pub recipient_epoch: Epoch,
}

impl Slot {
    /// Where `receipt` belongs.
    #[must_use]
    pub fn of(receipt: &Receipt) -> Slot {
        let Receipt { author, epoch, recipient, recipient_epoch, .. } = *receipt;
        Slot { author, epoch, recipient, recipient_epoch }
    }
}

/// What a bundle adds to the digest of its mailbox: the first 16 bytes of SHA-256 of its id, so that nobody can choose it.
#[must_use]
pub fn digest(bundle: &BundleId) -> Sum {
    let hash: [u8; 32] = Sha256::digest(bundle.as_bytes()).into();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    Sum::new(half)
}
