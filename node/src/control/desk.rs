//! What the doors may ask of the node, and what they are shown.
//! Knows nothing of HTTP. Everything here is a question or a view; nothing can change the node but a [`Command`].

use std::path::PathBuf;
use std::sync::Arc;

use protocol::effect::SentLetter;
use protocol::envelope::Envelope;
use protocol::input::Place;
use protocol::name::PeerName;
use protocol::segment::Entry;
use protocol::{Answer, Command, Epoch, LetterId, Notice, PeerId, Status, Timestamp};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// What the doors may ask of the node.
#[derive(Clone)]
pub struct Desk {
    /// To the driver, which waits for nobody but the disk.
    pub asks: mpsc::Sender<Ask>,
    /// Reads from the disk.
    pub shelf: Arc<dyn Shelf>,
    /// The sequence of the next entry of the record; changes with each commit.
    pub watch: watch::Receiver<u64>,
    /// News that is not durable.
    pub notices: broadcast::Sender<Notice>,
    /// What does not change while the node runs.
    pub about: About,
}

/// What does not change while the node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Of this program.
    pub version: String,
    /// The swarm's name.
    pub swarm: String,
    /// Anyone on this network may join.
    pub open: bool,
    /// Where the node keeps its things.
    pub data_dir: PathBuf,
    /// When it started.
    pub started: Timestamp,
}

/// One question to the node.
#[derive(Debug)]
pub enum Ask {
    /// For the peer itself.
    Command {
        /// What.
        command: Command,
        /// Takes the answer, once it is durable.
        reply: oneshot::Sender<Answer>,
    },
    /// What the peer knows.
    Status(oneshot::Sender<Status>),
    /// Try to reach somebody.
    Connect {
        /// A multiaddr.
        address: String,
        /// Who was reached there, or why nobody was.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// Stop in order.
    Stop,
}

/// Reads from the disk; each call blocks. A trait only so that the doors are tested without a database.
pub trait Shelf: Send + Sync {
    /// Letters of the inbox: ascending by `n`, or descending if the newest are asked for.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn inbox(&self, query: &InboxQuery) -> Result<Vec<InboxLetter>, String>;
    /// Letters of the inbox whose id begins so.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn inbox_by_id(&self, prefix: &str) -> Result<Vec<InboxLetter>, String>;
    /// The letter with this number in the inbox.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn inbox_n(&self, n: u64) -> Result<Option<InboxLetter>, String>;
    /// Letters of this node with a greater `k`, ascending; or the newest, descending.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn sent(&self, after_k: u64, limit: usize, newest: bool) -> Result<Vec<SentView>, String>;
    /// Letters of this node whose id begins so.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn sent_by_id(&self, prefix: &str) -> Result<Vec<SentView>, String>;
    /// The letter of this node with this number.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn sent_k(&self, k: u64) -> Result<Option<SentView>, String>;
    /// Entries of this node's record with a greater sequence: (sequence, chain, entry), ascending.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn entries(&self, after_seq: u64, limit: usize) -> Result<Vec<(u64, u64, Entry)>, String>;
    /// How much there is.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn counts(&self) -> Result<Counts, String>;
    /// Ids of the letters to this peer with these numbers, in order.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn delivered_ids(&self, peer: &PeerId, epoch: Epoch, first: u64, last: u64, limit: usize) -> Result<Vec<LetterId>, String>;
}

/// Which letters of the inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboxQuery {
    /// With a greater `n`.
    pub after: u64,
    /// With a lesser `n`.
    pub before: Option<u64>,
    /// Only those not read.
    pub unread: bool,
    /// Only those of this author.
    pub from: Option<PeerId>,
    /// At most so many.
    pub limit: usize,
    /// The newest, descending, instead of the oldest, ascending.
    pub newest: bool,
}

/// A letter of the inbox.
#[derive(Clone, Debug, PartialEq)]
pub struct InboxLetter {
    /// Its number.
    pub n: u64,
    /// By which it is marked read.
    pub place: Place,
    /// Letters of its author missing before it.
    pub missing_before: u64,
    /// When it was committed.
    pub received: Timestamp,
    /// When it was read.
    pub read: Option<Timestamp>,
    /// The letter.
    pub envelope: Envelope,
}

/// A letter of this node and how far it got.
#[derive(Clone, Debug, PartialEq)]
pub struct SentView {
    /// The letter.
    pub letter: SentLetter,
    /// One for each recipient, in order.
    pub deliveries: Vec<Delivery>,
}

/// How far one copy got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The recipient's name when the letter was written.
    pub name: PeerName,
    /// The recipient; none while nobody of that name is known.
    pub peer: Option<PeerId>,
    /// The rung.
    pub state: State,
    /// When that was learned.
    pub at: Option<Timestamp>,
}

/// The rungs that the disk knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// On this machine's disk.
    Accepted,
    /// The recipient's node has signed for it.
    Delivered,
    /// And it was read.
    Read,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Letters of the inbox …
    pub inbox: u64,
    /// … and how many of them are not read.
    pub unread: u64,
    /// Letters of this node.
    pub sent: u64,
    /// Size of the database file.
    pub database_bytes: u64,
    /// Bytes free where it is.
    pub free_bytes: u64,
}
