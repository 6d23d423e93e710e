//! What the doors may ask of the node, and what they are shown.
//! Knows nothing of HTTP. Everything here is a question or a view; nothing can change the node but a [`Command`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use libp2p::Multiaddr;
use protocol::id::MachineId;
use protocol::log::{self, Question};
use protocol::order::Order;
use protocol::peer::OrderView;
use protocol::segment::Entry;
use protocol::{Answer, Command, Epoch, LetterId, Notice, PeerId, Status, Timestamp};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::api::Search;
use crate::store::backup::{BackupError, Origin};
pub use crate::store::{
    Content, Delivery, InboxKind, InboxLetter, InboxQuery, OrderQuery, OrderSummary, Outcome, SentView, State, UnitEnd,
};
use crate::store::{ReadError, Reader, RecordLimits, RecordSize, Verification};

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
    /// Addresses that the node was told to reach and where nobody answers, with the reason.
    pub unreached: watch::Receiver<BTreeMap<Multiaddr, String>>,
    /// What was done so far to find others.
    pub search: Arc<dyn Fn() -> Search + Send + Sync>,
    /// What does not change while the node runs.
    pub about: About,
}

/// What does not change while the node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// This node.
    pub id: PeerId,
    /// Of this program.
    pub version: String,
    /// The swarm's name.
    pub swarm: String,
    /// Anyone on this network may join.
    pub open: bool,
    /// The machine it runs on, as others know it.
    pub machine: MachineId,
    /// Where the node keeps its things.
    pub data_dir: PathBuf,
    /// When it started.
    pub started: Timestamp,
    /// How much of the record it keeps.
    pub record: RecordLimits,
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
    /// What the peer knows of an order of its own that has not ended.
    Order(u64, oneshot::Sender<Option<OrderView>>),
    /// The same of those with a greater number, ascending.
    Orders {
        /// The number.
        after: u64,
        /// At most so many.
        most: usize,
        /// Takes the answer.
        reply: oneshot::Sender<Vec<OrderView>>,
    },
    /// Try to reach somebody.
    Connect {
        /// A multiaddr.
        address: String,
        /// Who was reached there, or why nobody was.
        reply: oneshot::Sender<Result<String, Unreached>>,
    },
    /// Stop in order.
    Stop,
}

/// Why nobody was reached at an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// It is this node's own.
    #[error("{0} is this node's own address")]
    Itself(String),
    /// No host is called so.
    #[error("no host called {0} is found")]
    NoHost(String),
    /// It, or whoever keeps it closed, let go of the connection before it said who it is.
    #[error("somebody answers at {0}, but not as a node of this swarm: the swarm key may be another, or it may be no node")]
    NotOurs(String),
    /// Whatever the network said.
    #[error("{0}")]
    Other(String),
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
    /// A page of the record of all peers, as far as it is kept here.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn log(&self, question: &Question) -> Result<log::Answer, String>;
    /// Whether what is kept of it is whole.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn verify(&self, me: &PeerId, swarm: &str) -> Result<Verification, String>;
    /// All there is, handed out piece by piece.
    ///
    /// # Errors
    /// [`BackupError`].
    fn back_up(&self, origin: &Origin, take: &mut dyn FnMut(Vec<u8>) -> bool) -> Result<(), BackupError>;
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
    /// Orders of this node: ascending by number, or descending if the newest are asked for.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn orders(&self, query: &OrderQuery) -> Result<Vec<OrderSummary>, String>;
    /// An order of this node, and the ends of at most `limit` of its units after `after`, ascending by unit.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn order(&self, number: u64, after: u32, limit: usize) -> Result<Option<(OrderSummary, Vec<UnitEnd>)>, String>;
    /// How a unit of an order of this node ended; none if it has not.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn unit_end(&self, number: u64, unit: u32) -> Result<Option<UnitEnd>, String>;
    /// An order of this node with its items and its input: up to 6 MiB.
    ///
    /// # Errors
    /// The disk cannot be read; in words.
    fn whole_order(&self, number: u64) -> Result<Option<Order>, String>;
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
    /// What is kept of the record of all.
    pub record: RecordSize,
    /// Size of the database file.
    pub database_bytes: u64,
    /// Bytes free where it is.
    pub free_bytes: u64,
}

/// The disk itself. Pages of the newest are turned round: the disk tells them ascending, the doors show them descending.
impl Shelf for Reader {
    fn inbox(&self, query: &InboxQuery) -> Result<Vec<InboxLetter>, String> {
        let mut found = words(Reader::inbox(self, query))?;
        if query.newest {
            found.reverse();
        }
        Ok(found)
    }

    fn inbox_by_id(&self, prefix: &str) -> Result<Vec<InboxLetter>, String> {
        words(Reader::inbox_by_id(self, prefix))
    }

    fn inbox_n(&self, n: u64) -> Result<Option<InboxLetter>, String> {
        words(Reader::inbox_n(self, n))
    }

    fn sent(&self, after_k: u64, limit: usize, newest: bool) -> Result<Vec<SentView>, String> {
        let mut found = words(Reader::sent(self, after_k, limit, newest))?;
        if newest {
            found.reverse();
        }
        Ok(found)
    }

    fn sent_by_id(&self, prefix: &str) -> Result<Vec<SentView>, String> {
        words(Reader::sent_by_id(self, prefix))
    }

    fn sent_k(&self, k: u64) -> Result<Option<SentView>, String> {
        words(Reader::sent_k(self, k))
    }

    fn entries(&self, after_seq: u64, limit: usize) -> Result<Vec<(u64, u64, Entry)>, String> {
        words(Reader::entries(self, after_seq, limit))
    }

    fn log(&self, question: &Question) -> Result<log::Answer, String> {
        words(Reader::log(self, question))
    }

    fn verify(&self, me: &PeerId, swarm: &str) -> Result<Verification, String> {
        words(Reader::verify(self, me, swarm))
    }

    fn back_up(&self, origin: &Origin, take: &mut dyn FnMut(Vec<u8>) -> bool) -> Result<(), BackupError> {
        Reader::back_up(self, origin, take)
    }

    fn counts(&self) -> Result<Counts, String> {
        let counts = words(Reader::counts(self))?;
        let free_bytes = counts.room.map_or(0, |room| room.free);
        Ok(Counts {
            inbox: counts.inbox,
            unread: counts.unread,
            sent: counts.sent,
            record: counts.record,
            database_bytes: counts.database_bytes,
            free_bytes,
        })
    }

    fn delivered_ids(&self, peer: &PeerId, epoch: Epoch, first: u64, last: u64, limit: usize) -> Result<Vec<LetterId>, String> {
        words(Reader::delivered_ids(self, *peer, epoch, first, last, limit))
    }

    fn orders(&self, query: &OrderQuery) -> Result<Vec<OrderSummary>, String> {
        let mut found = words(Reader::orders(self, query))?;
        if query.newest {
            found.reverse();
        }
        Ok(found)
    }

    fn order(&self, number: u64, after: u32, limit: usize) -> Result<Option<(OrderSummary, Vec<UnitEnd>)>, String> {
        words(Reader::order(self, number, after, limit))
    }

    fn unit_end(&self, number: u64, unit: u32) -> Result<Option<UnitEnd>, String> {
        words(Reader::unit_end(self, number, unit))
    }

    fn whole_order(&self, number: u64) -> Result<Option<Order>, String> {
        words(Reader::whole_order(self, number))
    }
}

fn words<T>(result: Result<T, ReadError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}
