//! Everything one peer may say to another, hop by hop.
//! Knows nothing of connections. A version byte leads; unknown versions and types are answered politely.

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::beacon::Beacon;
use crate::bundle::Bundle;
use crate::codec::{self, DecodeError};
use crate::config::limits;
use crate::contact::Contact;
use crate::copies::ChainHead;
use crate::id::{BundleId, Epoch, LetterId};
use crate::mail::{Denial, Listed, Mailbox, Offer, Parcel, Reason, Release, Slot};
use crate::ranges::Ranges;
use crate::receipt::Receipt;
use crate::segment::Segment;
use crate::sign::Signed;
use crate::work::Work;

/// The version of the wire format that this crate speaks.
pub const VERSION: u8 = 1;

/// Which of the two streams to a peer a message goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Greetings, receipts, later orders and cancels: never behind a backlog.
    Urgent,
    /// Letters and lists.
    Bulk,
}

/// One frame between two neighbours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The first thing on a connection, and again whenever the other asks for it.
    Hello {
        /// My card.
        contact: Signed<Contact>,
        /// My beacon.
        beacon: Signed<Beacon>,
        /// The latest beacon of yours that I remember, and the last one of another start of yours; at most
        /// [`limits::YOURS`]. Your signatures, in case your memory jumped back or runs twice.
        yours: Vec<Signed<Beacon>>,
        /// I have not heard your hello on this connection.
        answer: bool,
    },
    /// A beacon by stream: my signals have changed.
    Beacon(Signed<Beacon>),
    /// Letters for the one who reads this.
    Letters(Vec<Bundle>),
    /// What I have of yours.
    Receipt(Signed<Receipt>),
    /// Your receipt's digest does not fit what I sent: which letters do you have under these numbers of mine?
    AskIds {
        /// My epoch.
        epoch: Epoch,
        /// Numbers.
        numbers: Ranges,
    },
    /// The answer: every letter I have under those numbers.
    Ids {
        /// Your epoch.
        epoch: Epoch,
        /// Number and letter; a number may stand more than once.
        ids: Vec<(u64, LetterId)>,
    },
    /// Whom do you know, after this id?
    AskPeers {
        /// The last one of the page before; none for the first page.
        after: Option<PeerId>,
    },
    /// One page of the answer.
    Peers {
        /// Ascending by id.
        peers: Vec<Listing>,
        /// There are more after the last of these.
        more: bool,
    },
    /// Keep these for their recipients.
    Deposit(Vec<Parcel>),
    /// Which of these do you hold?
    AskHeld(Vec<BundleId>),
    /// The answer to both.
    Held {
        /// My memory: under another one this word is void.
        epoch: Epoch,
        /// Flushed here.
        bundles: Vec<BundleId>,
        /// Not taken, and why.
        refused: Vec<(BundleId, Reason)>,
        /// Asked for, and not here.
        absent: Vec<BundleId>,
    },
    /// I hold mail: for you, or of a mailbox that you are custodian of too.
    Offers {
        /// At most a page.
        offers: Vec<Offer>,
        /// I am about to leave: take over what I hold.
        leaving: bool,
    },
    /// What do you hold of a mailbox?
    AskMail {
        /// Which.
        mailbox: Mailbox,
        /// After this number of yours; 0 for the first page.
        after: u64,
    },
    /// One page of the answer.
    Mail {
        /// Which.
        mailbox: Mailbox,
        /// Ascending by number.
        bundles: Vec<Listed>,
        /// There are more after the last of these.
        more: bool,
    },
    /// Send me these: as letters if they are for me, otherwise to hold them too.
    Fetch(Vec<BundleId>),
    /// I have these: let go of them.
    Release(Signed<Release>),
    /// I do not want these delivered any more: bundle and the secret that proves that it is mine.
    Withdraw(Vec<(BundleId, ByteArray<32>)>),
    /// Keep this for its author.
    KeepReceipt(Signed<Receipt>),
    /// I keep the receipt of that number, or a later one.
    ReceiptKept {
        /// Where.
        slot: Slot,
        /// Its record number.
        number: u64,
    },
    /// I am its author, and have taken in the receipt of that number.
    ReceiptTaken {
        /// Where.
        slot: Slot,
        /// Its record number.
        number: u64,
    },
    /// Which chains of whose record do you have? All but so many that I know from the pages before.
    AskChains {
        /// Correlates the answer.
        ask: u32,
        /// How many.
        after: u32,
    },
    /// One page of the answer.
    Chains {
        /// As asked.
        ask: u32,
        /// My own in the order in which they were begun, then copies.
        chains: Vec<ChainHead>,
        /// There are more after the last of these.
        more: bool,
    },
    /// Send me what comes after this segment.
    AskSegments {
        /// Whose.
        author: PeerId,
        /// Which chain.
        chain: u64,
        /// How its last segment was listed to me: tells branches of one chain apart.
        tip: ByteArray<32>,
        /// After this number.
        after: u64,
        /// If there is nothing yet, as soon as there is.
        follow: bool,
    },
    /// Some of them: at most [`limits::SEGMENTS`], each citing the one before; none if there are none.
    Segments {
        /// Whose.
        author: PeerId,
        /// Which chain.
        chain: u64,
        /// As they were signed.
        segments: Vec<Signed<Segment>>,
    },
    /// About leaders, orders and tasks.
    Work(Work),
    /// I do not take your letters for now: keep them. Without a reason: I take them again.
    Denied(Option<Denial>),
    /// I leave in order; do not wait for my connection to close.
    Leaving,
    /// I do not understand a version or a type that you used.
    Unsupported {
        /// Which.
        what: String,
    },
}

/// A peer as another remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Its card.
    pub contact: Signed<Contact>,
    /// How long ago the teller's swarm first heard of it, in milliseconds.
    pub first_seen_ago: u64,
    /// How long ago the teller last heard it, in milliseconds; none if it never did itself.
    pub last_seen_ago: Option<u64>,
}

/// Why a frame was refused. Nothing was kept of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No bytes at all, or more than [`limits::FRAME_BYTES`].
    #[error("a frame of {0} bytes")]
    Size(usize),
    /// Of another version.
    #[error("version {0}, this is {VERSION}")]
    Version(u8),
    /// Not a message that this version knows.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A list in it is longer than allowed.
    #[error("a list of {0} items")]
    TooMany(usize),
}

impl Message {
    /// The stream it goes by.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Message::Letters(_)
            | Message::Peers { .. }
            | Message::AskPeers { .. }
            | Message::Ids { .. }
            | Message::Deposit(_)
            | Message::Mail { .. }
            | Message::AskChains { .. }
            | Message::Chains { .. }
            | Message::AskSegments { .. }
            | Message::Segments { .. }
            | Message::Fetch(_) => Lane::Bulk,
            Message::Work(work) => work.lane(),
            _ => Lane::Urgent,
        }
    }

    /// The bytes of one frame, version byte first.
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        let mut frame = vec![VERSION];
        frame.append(&mut codec::encode(self));
        frame
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// [`FrameError`]; nothing is kept.
    pub fn from_frame(frame: &[u8]) -> Result<Message, FrameError> {
        let (version, body) = frame.split_first().ok_or(FrameError::Size(0))?;
        if frame.len() > limits::FRAME_BYTES {
            return Err(FrameError::Size(frame.len()));
        }
        if *version != VERSION {
            return Err(FrameError::Version(*version));
        }
        let message: Message = codec::decode(body)?;
        if let Message::Hello { yours, .. } = &message
            && yours.len() > limits::YOURS
        {
            return Err(FrameError::TooMany(yours.len()));
        }
        let items = match &message {
            Message::Letters(bundles) => bundles.len(),
            Message::Peers { peers, .. } => peers.len(),
            Message::Ids { ids, .. } => ids.len().div_ceil(limits::IDS_PER_ITEM),
            Message::AskIds { numbers, .. } => numbers.pieces(),
            Message::Deposit(parcels) => parcels.len(),
            Message::Offers { offers, .. } => offers.len(),
            Message::AskHeld(bundles) | Message::Fetch(bundles) => bundles.len().div_ceil(limits::BUNDLE_IDS / limits::PAGE),
            Message::Held { bundles, refused, absent, .. } => {
                (bundles.len() + refused.len() + absent.len()).div_ceil(limits::BUNDLE_IDS / limits::PAGE)
            }
            Message::Mail { bundles, .. } => bundles.len().div_ceil(limits::BUNDLE_IDS / limits::PAGE),
            Message::Withdraw(bundles) => bundles.len().div_ceil(limits::BUNDLE_IDS / limits::PAGE),
            Message::Chains { chains, .. } => chains.len(),
            Message::Segments { segments, .. } => segments.len().div_ceil(limits::SEGMENTS / limits::PAGE),
            Message::Work(work) => work.items().div_ceil(limits::WORDS / limits::PAGE),
            Message::Receipt(_)
            | Message::AskMail { .. }
            | Message::Release(_)
            | Message::KeepReceipt(_)
            | Message::ReceiptKept { .. }
            | Message::ReceiptTaken { .. }
            | Message::Hello { .. }
            | Message::Beacon(_)
            | Message::AskPeers { .. }
            | Message::AskChains { .. }
            | Message::AskSegments { .. }
            | Message::Denied(_)
            | Message::Leaving
            | Message::Unsupported { .. } => 0,
        };
        if items > limits::PAGE { Err(FrameError::TooMany(items)) } else { Ok(message) }
    }
}
