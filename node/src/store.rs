//! The disk: what a peer wants remembered, and what it remembered.
//! Knows nothing of why. What was committed is flushed; a batch is there as a whole or not at all.
//!
//! Reading order: `tables` (what is kept), `rows` (how it is packed), `write`, `load`, `read`, `inbox`, `sent`, `orders`; `medium`,
//! `open`, `room` (files); [`backup`], [`restore`]; [`directory`] (the rest of a node's directory).

pub mod backup;
mod blocks;
pub mod directory;
mod fault;
mod files;
mod inbox;
mod load;
mod log;
mod medium;
mod open;
mod orders;
mod read;
pub mod restore;
mod retention;
mod room;
mod rows;
mod sent;
mod tables;
#[cfg(test)]
mod tests;
mod verify;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use protocol::{Change, Kept};
use redb::backends::InMemoryBackend;
use tokio::sync::{mpsc, oneshot};

pub use directory::{Anew, Directory, DirectoryError};
pub use fault::{Fault, ReadError};
pub use inbox::{Content, HITS, InboxLetter, InboxQuery, Kind as InboxKind, Outcome};
pub use open::{DatabaseId, OpenError};
pub use orders::{OrderQuery, OrderSummary, UnitEnd};
pub use read::{Counts, Reader};
pub use retention::{RecordLimits, RecordSize};
pub use room::{LOW_BYTES, RESERVE_BYTES, Room, room};
pub use sent::{Delivery, SentView, State};
pub use verify::{ChainSeen, Flaw, FlawKind, Verification};

use fault::guarded;
use medium::{Medium, Slot};
use room::Reserve;

/// How long nothing is written before the record is indexed (guess: between two bursts).
const IDLE: Duration = Duration::from_millis(200);

/// One thing to make durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// As the peer said it. Never a [`Change::Segment`]: those are signed first.
    Change(Change),
    /// One more segment of this node's record, signed.
    Segment {
        /// Which chain.
        chain: u64,
        /// Its number there.
        number: u64,
        /// Sequence of its first entry.
        first: u64,
        /// CBOR of the signed segment.
        signed: Vec<u8>,
        /// How many entries it has.
        entries: u32,
    },
}

/// Everything that one commit makes durable, in the order of the peer's effects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// What.
    pub changes: Vec<Write>,
}

/// The batch is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The disk failed first; the reserve was given up and the batch written again. Somebody should make room.
    pub recovered: bool,
    /// Room after it; none in memory, and none if nothing was to be written.
    pub room: Option<Room>,
}

/// Why a batch is not on the disk. Nothing of it is, or all of it without our knowing: whoever gets this stops.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The disk failed twice, with the reserve given up in between. The node ends with exit code 74.
    #[error("the disk cannot be written: {0}")]
    Disk(Fault),
    /// What is on the disk contradicts the batch, or the file is not at its place any more. The node ends with exit code 74.
    #[error("{0}")]
    Damaged(Fault),
    /// A segment came unsigned. Nothing was kept.
    #[error("a record segment was not signed before its commit")]
    Unsigned,
    /// The thread that writes is gone. Nothing was kept.
    #[error("the disk is closed")]
    Closed,
}

/// The only writer of a database. Dropping it waits for the commit under way and closes the file.
#[derive(Debug)]
pub struct Store {
    id: DatabaseId,
    reader: Reader,
    /// None only while dropped.
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Order {
    Commit { batch: Batch, reply: oneshot::Sender<Result<Committed, CommitError>> },
    Measure(oneshot::Sender<Result<Option<Room>, CommitError>>),
}

impl Store {
    /// Opens the database of `dir`, or makes it if there never was one, and says what it remembers.
    ///
    /// # Errors
    /// [`OpenError`]: lost, damaged, another's or a newer one; its text says what to type.
    pub fn open(dir: &Path) -> Result<(Store, Kept), OpenError> {
        let opened = open::open(dir)?;
        let reserve = Reserve::of(dir);
        reserve.tend();
        Ok(Store::start(opened, Some(reserve)))
    }

    /// The same over memory, gone when the store and all its readers are.
    #[must_use]
    pub fn memory() -> (Store, Kept) {
        Store::over(Arc::new(InMemoryBackend::new())).expect("memory is never full or damaged")
    }

    /// The same over bytes that outlive the store.
    fn over(backend: Arc<dyn redb::StorageBackend>) -> Result<(Store, Kept), OpenError> {
        Ok(Store::start(open::open_medium(Medium::Backend(backend), true)?, None))
    }

    fn start(opened: open::Opened, reserve: Option<Reserve>) -> (Store, Kept) {
        let open::Opened { slot, id, kept } = opened;
        let reader = Reader::new(slot.clone());
        // One batch under way, one to follow: more would only hide that the disk is slow.
        let (orders, queue) = mpsc::channel(1);
        let writer = Writer { slot, reserve };
        let thread = std::thread::Builder::new().name("disk".to_owned()).spawn(move || writer.run(queue));
        let thread = thread.expect("a node needs a thread for its disk: set by the system's limits");
        (Store { id, reader, orders: Some(orders), thread: Some(thread) }, kept)
    }

    /// Names this database.
    #[must_use]
    pub fn database_id(&self) -> DatabaseId {
        self.id
    }

    /// Reads beside the commits.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Makes `batch` durable in one flushed transaction. An empty one is durable already. A caller that goes away does
    /// not stop a commit under way.
    ///
    /// # Errors
    /// [`CommitError`]; the node must not act on the batch.
    pub async fn commit(&self, batch: Batch) -> Result<Committed, CommitError> {
        if batch.changes.is_empty() {
            return Ok(Committed { recovered: false, room: None });
        }
        self.order(|reply| Order::Commit { batch, reply }).await
    }

    /// The room left, none in memory; looks that the file is still at its place, and sets the reserve aside again if it was
    /// given up and there is room for it.
    ///
    /// # Errors
    /// [`CommitError::Damaged`]: the file is gone. The node must not go on.
    pub async fn measure(&self) -> Result<Option<Room>, CommitError> {
        self.order(Order::Measure).await
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<Result<T, CommitError>>) -> Order) -> Result<T, CommitError> {
        let (reply, answer) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or(CommitError::Closed)?;
        orders.send(order(reply)).await.map_err(|_| CommitError::Closed)?;
        answer.await.map_err(|_| CommitError::Closed)?
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the disk panicked");
        }
    }
}

/// The thread's half.
struct Writer {
    slot: Slot,
    reserve: Option<Reserve>,
}

impl Writer {
    fn run(self, mut queue: mpsc::Receiver<Order>) {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let clock = clock.expect("a thread needs a clock: set by the system's limits");
        // What is looked up by is made when nothing else is to be done.
        let mut unindexed = true;
        loop {
            let next = if unindexed {
                let soon = async { tokio::time::timeout(IDLE, queue.recv()).await };
                let Ok(next) = clock.block_on(soon) else {
                    unindexed = self.index();
                    continue;
                };
                next
            } else {
                queue.blocking_recv()
            };
            // A caller that no longer waits has nothing to learn.
            match next {
                Some(Order::Commit { batch, reply }) => {
                    unindexed = true;
                    drop(reply.send(self.commit(&batch.changes)));
                }
                Some(Order::Measure(reply)) => drop(reply.send(self.measure())),
                None => break,
            }
        }
        self.slot.close();
    }

    /// Makes some of what is looked up by; true if there is more to make. What fails is left: look-ups take longer then.
    fn index(&self) -> bool {
        let made = guarded(|| blocks::build(&self.slot));
        made.unwrap_or_else(|fault| {
            tracing::debug!(%fault, "the record could not be indexed");
            false
        })
    }

    fn measure(&self) -> Result<Option<Room>, CommitError> {
        self.slot.is_there().map_err(CommitError::Damaged)?;
        if let Some(reserve) = &self.reserve {
            reserve.tend();
        }
        Ok(self.room())
    }

    /// None if the system does not say: then the first failing commit will.
    fn room(&self) -> Option<Room> {
        self.slot.medium().path().and_then(Path::parent).and_then(|dir| room(dir).ok())
    }

    /// Once, and once more after making room and opening the file again (DESIGN 9).
    fn commit(&self, changes: &[Write]) -> Result<Committed, CommitError> {
        if changes.iter().any(|change| matches!(change, Write::Change(Change::Segment { .. }))) {
            return Err(CommitError::Unsigned);
        }
        let attempt = || self.attempt(changes).and_then(|()| self.slot.is_there());
        let Err(fault) = attempt() else { return Ok(Committed { recovered: false, room: self.room() }) };
        // Opening it again must not mean opening another one.
        let fault = self.slot.is_there().err().unwrap_or(fault);
        if !fault.of_storage() {
            return Err(CommitError::Damaged(fault));
        }
        let freed = self.reserve.as_ref().is_some_and(Reserve::give_up);
        tracing::warn!(%fault, freed, "the disk failed; the batch is tried once more");
        self.slot.reopen().and_then(|()| attempt()).map_err(CommitError::Disk)?;
        Ok(Committed { recovered: true, room: self.room() })
    }

    fn attempt(&self, changes: &[Write]) -> Result<(), Fault> {
        guarded(|| {
            let txn = self.slot.begin_write()?;
            write::write(&txn, changes)?;
            Ok(txn.commit()?)
        })
    }
}
