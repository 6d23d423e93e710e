//! Where the database's bytes are, and the one place where it is opened, closed and opened again.
//! Knows nothing of tables. At most one [`Database`] is open on a medium; whoever reads while it is reopened waits.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Builder, Database, Durability, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};

use super::fault::{Fault, guarded};

/// Memory that redb may use for pages (DESIGN 2.3: not its default of 1 GiB).
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// A file, or bytes elsewhere that outlive the database opened on them.
#[derive(Clone, Debug)]
pub(crate) enum Medium {
    /// This file.
    File(PathBuf),
    /// These bytes.
    Backend(Arc<dyn StorageBackend>),
}

impl Medium {
    /// The file, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Medium::File(path) => Some(path),
            Medium::Backend(_) => None,
        }
    }

    /// What stands at its place: device and inode. None for bytes elsewhere.
    pub(crate) fn identity(&self) -> io::Result<Option<(u64, u64)>> {
        self.path().map(|path| path.metadata().map(|file| (file.dev(), file.ino()))).transpose()
    }

    /// Bytes it takes now; a file grows by doubling, but only what was written counts.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        match self {
            Medium::File(path) => {
                // stat(2): blocks are of 512 bytes whatever the file system's are.
                Ok(path.metadata()?.blocks() * 512)
            }
            Medium::Backend(backend) => backend.len(),
        }
    }

    /// Opens the database; `create` allows to make one where there is none.
    pub(crate) fn open(&self, create: bool) -> Result<Database, Fault> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        guarded(|| match self {
            Medium::File(path) if create => {
                // redb would make it readable by all.
                let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
                made.map_err(redb::StorageError::Io)?;
                Ok(builder.create(path)?)
            }
            Medium::File(path) => Ok(builder.open(path)?),
            Medium::Backend(backend) => Ok(builder.create_with_backend(Shared(Arc::clone(backend)))?),
        })
    }
}

/// The open database, shared by the writer and all readers.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    medium: Medium,
    /// The file that was opened: what is written to another, or to none, is lost with this process.
    identity: Option<(u64, u64)>,
    /// None after it was closed, or while it cannot be opened. Locked only to begin a transaction or to exchange it.
    database: Arc<RwLock<Option<Database>>>,
}

impl Slot {
    /// Opens `medium`.
    pub(crate) fn open(medium: Medium, create: bool) -> Result<Slot, Fault> {
        let database = medium.open(create)?;
        let identity = medium.identity().map_err(redb::StorageError::Io)?;
        Ok(Slot { medium, identity, database: Arc::new(RwLock::new(Some(database))) })
    }

    /// Where the bytes are.
    pub(crate) fn medium(&self) -> &Medium {
        &self.medium
    }

    /// Whether the file that was opened still stands at its place.
    pub(crate) fn is_there(&self) -> Result<(), Fault> {
        match self.medium.identity() {
            Ok(found) if found == self.identity => Ok(()),
            Ok(_) => Err(Fault::Gone("another file stands in its place")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Fault::Gone("it was deleted or moved")),
            Err(error) => Err(redb::StorageError::Io(error).into()),
        }
    }

    /// A view of what is committed now. It fails, once the database is reopened, for what it has not read yet.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, Fault> {
        // A poisoned lock guards an Option that is whole at every moment.
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        Ok(database.as_ref().ok_or(Fault::Closed)?.begin_read()?)
    }

    /// A transaction whose commit is flushed, and after which a crash costs no long repair (DESIGN 9).
    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, Fault> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let mut txn = database.as_ref().ok_or(Fault::Closed)?.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        txn.set_quick_repair(true);
        Ok(txn)
    }

    /// Closes the database and opens it again: redb refuses everything after one failed write.
    pub(crate) fn reopen(&self) -> Result<(), Fault> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Two at once would be refused by the file's lock. What closing says about the failed one is of no use.
        drop(database.take().map(Database::close));
        *database = Some(self.medium.open(false)?);
        Ok(())
    }

    /// Closes the database for good.
    pub(crate) fn close(&self) {
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = database.map(Database::close) {
            tracing::warn!(%error, "the database was not closed in order; it is repaired when it is opened next");
        }
    }
}

/// Passes everything on but the end: the bytes outlive the database.
#[derive(Debug)]
struct Shared(Arc<dyn StorageBackend>);

impl StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
