//! Opening the database of a directory: never mistaking a lost or damaged one for a new one.
//! Knows nothing of keys or locks. A sentinel file beside the database names it; both must agree.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use protocol::Kept;

use super::fault::{Fault, guarded};
use super::medium::{Medium, Slot};
use super::{files, load, tables};

/// The database.
pub(crate) const DATABASE: &str = "swarm.redb";
/// Stands beside it from its first commit on.
pub(crate) const SENTINEL: &str = "swarm.created";
/// Stands while a directory has a key but no database yet: see [`super::directory`].
pub(crate) const STARTING: &str = "starting";

const SENTINEL_FORMAT: &str = "swarm database 1 ";

/// Names one database: 128 random bits, made with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatabaseId([u8; 16]);

impl DatabaseId {
    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseId({self})")
    }
}

macro_rules! ways_out {
    () => {
        "bring the whole directory back from a copy, or begin anew with `run --start-over`, which keeps the key and sets what is left \
         of the old database aside"
    };
}

/// Why the database was not opened. Nothing was changed but that a half-made first start may have been set aside.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There was one, and it is gone.
    #[error("{path}: the database is missing: {}", ways_out!())]
    Lost {
        /// Where it was.
        path: PathBuf,
    },
    /// It holds data, but nothing beside it says that it belongs here.
    #[error("{path}: the file {SENTINEL} beside the database is missing, so it may be an old copy: {}", ways_out!())]
    Unmarked {
        /// The database.
        path: PathBuf,
    },
    /// It is not the one that was made here.
    #[error("{path}: this is another database than the one made here ({SENTINEL} names {expected}, it is {found}): {}", ways_out!())]
    Another {
        /// The database.
        path: PathBuf,
        /// As the sentinel says.
        expected: String,
        /// As it says itself.
        found: String,
    },
    /// It cannot be read, or what it says cannot be true.
    #[error("{path}: {fault}: {}", ways_out!())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A later version of this program made it.
    #[error("{path}: the database has format {found}, and this version knows {} at most: use a newer version", tables::FORMAT_VERSION)]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// An earlier version of this program made it, and its format is not read any more.
    #[error(
        "{path}: the database has format {found}, and this version knows only {} and later ones: use the version that made it, or \
         begin anew with `run --start-over`, which keeps the key and sets the old database aside",
        tables::FORMAT_OLDEST
    )]
    Older {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Another process has it open.
    #[error("{path}: another process has the database open")]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{path}: {error}")]
    Io {
        /// The file at fault.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        OpenError::Damaged { path: PathBuf::new(), fault }
    }
}

/// An opened database.
pub(crate) struct Opened {
    pub(crate) slot: Slot,
    pub(crate) id: DatabaseId,
    pub(crate) kept: Kept,
}

/// The database of `dir`, made if there never was one.
pub(crate) fn open(dir: &Path) -> Result<Opened, OpenError> {
    let (path, sentinel) = (dir.join(DATABASE), dir.join(SENTINEL));
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| OpenError::Io { path, error }
    };
    let marked = files::read(&sentinel).map_err(io(&sentinel))?;
    let exists = path.try_exists().map_err(io(&path))?;
    if marked.is_some() && !exists {
        return Err(OpenError::Lost { path });
    }
    if marked.is_none() && exists && half_made(&path).map_err(io(&path))? {
        files::move_aside(&path).map_err(io(&path))?;
    }
    let found = look(Medium::File(path.clone()), marked.is_none()).map_err(|error| error.at(&path))?;
    if let Some(text) = &marked {
        let (expected, found) = (text.trim().trim_start_matches(SENTINEL_FORMAT).to_owned(), found.id.to_string());
        if expected != found {
            return Err(OpenError::Another { path, expected, found });
        }
    } else if found.has_data {
        return Err(OpenError::Unmarked { path });
    }
    let opened = found.load().map_err(|error| error.at(&path))?;
    if marked.is_none() {
        if opened.kept != empty() {
            return Err(OpenError::Unmarked { path });
        }
        mark(dir, opened.id)?;
    }
    let starting = dir.join(STARTING);
    files::remove(&starting).map_err(io(&starting))?;
    Ok(opened)
}

/// Puts the sentinel beside the database of `dir`: from now on one that is missing is lost, and not a new one.
pub(crate) fn mark(dir: &Path, id: DatabaseId) -> Result<(), OpenError> {
    let sentinel = dir.join(SENTINEL);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| OpenError::Io { path, error }
    };
    files::sync_parent(&sentinel).map_err(io(dir))?;
    files::write_whole(&sentinel, format!("{SENTINEL_FORMAT}{id}\n").as_bytes()).map_err(io(&sentinel))
}

/// The database on `medium`; with `create`, made if there is nothing.
pub(crate) fn open_medium(medium: Medium, create: bool) -> Result<Opened, OpenError> {
    look(medium, create)?.load()
}

/// A database whose format and id are known, and of which nothing else was read or changed.
struct Found {
    slot: Slot,
    id: DatabaseId,
    format: u32,
    /// A node has written to it.
    has_data: bool,
}

fn look(medium: Medium, create: bool) -> Result<Found, OpenError> {
    let slot = Slot::open(medium, create)?;
    let found = guarded(|| {
        let txn = slot.begin_read()?;
        match tables::format(&txn)? {
            None if create => Ok((make(&slot)?, tables::FORMAT_VERSION, false)),
            None => Err(Fault::row(&tables::FORMAT, &(), "missing").into()),
            Some(found) if found > tables::FORMAT_VERSION => Err(OpenError::Newer { path: PathBuf::new(), found }),
            Some(found) if found < tables::FORMAT_OLDEST => Err(OpenError::Older { path: PathBuf::new(), found }),
            Some(format) => Ok(identity(&txn).map(|(id, has_data)| (id, format, has_data))?),
        }
    });
    match found {
        Ok((id, format, has_data)) => Ok(Found { slot, id, format, has_data }),
        Err(error) => {
            slot.close();
            Err(error)
        }
    }
}

/// A database's id, and whether a node has written to it.
fn identity(txn: &redb::ReadTransaction) -> Result<(DatabaseId, bool), Fault> {
    let row = txn.open_table(tables::DATABASE)?.get(())?;
    let id = DatabaseId(*row.ok_or_else(|| Fault::row(&tables::DATABASE, &(), "missing"))?.value());
    Ok((id, txn.open_table(tables::ME)?.get(())?.is_some()))
}

impl Found {
    /// Brings it to the format of this version, and reads what it remembers.
    fn load(self) -> Result<Opened, OpenError> {
        let Found { slot, id, format, .. } = self;
        let kept = guarded(|| {
            if format < tables::FORMAT_VERSION {
                upgrade(&slot)?;
            }
            load::load(&slot.begin_read()?)
        });
        match kept {
            Ok(kept) => Ok(Opened { slot, id, kept }),
            Err(fault) => {
                slot.close();
                Err(fault.into())
            }
        }
    }
}

/// What was there stays as it is; what later formats have besides is made, in the commit that says so.
fn upgrade(slot: &Slot) -> Result<(), Fault> {
    let txn = slot.begin_write()?;
    tables::create(&txn)?;
    txn.open_table(tables::FORMAT)?.insert((), tables::FORMAT_VERSION)?;
    Ok(txn.commit()?)
}

/// The first commit: all tables, the format and a new id.
fn make(slot: &Slot) -> Result<DatabaseId, Fault> {
    let id = new_id()?;
    let txn = slot.begin_write()?;
    tables::create(&txn)?;
    txn.open_table(tables::FORMAT)?.insert((), tables::FORMAT_VERSION)?;
    txn.open_table(tables::DATABASE)?.insert((), id.as_bytes())?;
    txn.commit()?;
    Ok(id)
}

/// The name of a database that is made now.
pub(crate) fn new_id() -> Result<DatabaseId, Fault> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| redb::StorageError::Io(io::Error::other(error)))?;
    Ok(DatabaseId(id))
}

/// Whether redb never finished making this file: it writes its magic number last.
fn half_made(path: &Path) -> io::Result<bool> {
    let mut magic = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, 9), &mut magic)?;
    Ok(!magic.is_empty() && magic.iter().all(|byte| *byte == 0))
}

fn empty() -> Kept {
    Kept { next_letter: 1, next_n: 1, next_order: 1, ..Kept::default() }
}

impl OpenError {
    /// The same, of the database at `path`.
    pub(crate) fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            OpenError::Newer { found, .. } => OpenError::Newer { path, found },
            OpenError::Older { found, .. } => OpenError::Older { path, found },
            OpenError::Damaged { fault: Fault::Storage(error), .. } => match *error {
                redb::Error::DatabaseAlreadyOpen => OpenError::Busy { path },
                redb::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData && error.kind() != io::ErrorKind::UnexpectedEof => {
                    OpenError::Io { path, error }
                }
                error => OpenError::Damaged { path, fault: Fault::Storage(Box::new(error)) },
            },
            OpenError::Damaged { fault, .. } => OpenError::Damaged { path, fault },
            other => other,
        }
    }
}
