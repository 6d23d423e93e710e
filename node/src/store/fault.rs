//! What can go wrong within one transaction.
//! Knows nothing of what was attempted. A fault leaves nothing behind: the transaction is gone with it.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a transaction came to nothing. Nothing was read or written.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file could not be read or written, or the library refuses to go on after such a failure.
    #[error("the database failed: {0}")]
    Storage(Box<redb::Error>),
    /// A row is not what its table promises, or one that must be there is not.
    #[error("the database is damaged: table {table}, key {key}: {why}")]
    Row {
        /// The table's name.
        table: String,
        /// The row's key, as debug text.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The library gave up on what it found in the file.
    #[error("the database is damaged: {0}")]
    Panicked(String),
    /// The file is not where it was opened. What is written now nobody will find again.
    #[error("the database file is gone while the node runs: {0}")]
    Gone(&'static str),
    /// The database was closed, or could not be opened again after a failure.
    #[error("the database is closed")]
    Closed,
}

/// What a [`Reader`](super::Reader) fails by.
pub type ReadError = Fault;

impl Fault {
    /// A row of `table` that is not what it should be.
    pub(crate) fn row(table: &impl redb::TableHandle, key: &impl std::fmt::Debug, why: impl ToString) -> Fault {
        Fault::Row { table: table.name().to_owned(), key: format!("{key:?}"), why: why.to_string() }
    }

    /// The file is at fault, not what is in it: opening it again may help.
    pub(crate) fn of_storage(&self) -> bool {
        matches!(self, Fault::Storage(_) | Fault::Closed)
    }
}

macro_rules! from_redb {
    ($($error:ty)*) => { $(
        impl From<$error> for Fault {
            fn from(error: $error) -> Fault {
                Fault::Storage(Box::new(error.into()))
            }
        }
    )* };
}
from_redb!(redb::StorageError redb::TableError redb::TransactionError redb::CommitError redb::DatabaseError redb::SetDurabilityError);

/// Runs `work` on a file that may be damaged: redb trusts a file that was closed in order and may panic on a changed one.
pub(crate) fn guarded<T, E: From<Fault>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // Every transaction lives inside `work`: a panic drops it, which aborts it, so nothing half done is seen afterwards.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(Fault::Panicked(text.unwrap_or_else(|| "the database library panicked".to_owned())).into())
    })
}
