//! Everything one peer may say to another, hop by hop.
//! Knows nothing of connections. A version byte leads; unknown versions and types are answered politely.

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};

use crate::beacon::Beacon;
use crate::bundle::Bundle;
use crate::codec::{self, DecodeError};
use crate::config::limits;
use crate::contact::Contact;
use crate::id::{Epoch, LetterId};
use crate::ranges::Ranges;
use crate::receipt::Receipt;
use crate::sign::Signed;

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
            Message::Letters(_) | Message::Peers { .. } | Message::AskPeers { .. } | Message::Ids { .. } => Lane::Bulk,
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
            Message::Receipt(_)
            | Message::Hello { .. }
            | Message::Beacon(_)
            | Message::AskPeers { .. }
            | Message::Leaving
            | Message::Unsupported { .. } => 0,
        };
        if items > limits::PAGE { Err(FrameError::TooMany(items)) } else { Ok(message) }
    }
}
