//! A backup becomes a directory again.
//! Knows nothing of networks. Nothing that is there already is touched; what is begun and fails is taken away again, and what is cut
//! off is never taken for a node.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use protocol::codec;
use protocol::effect::Me;
use redb::{ReadableTable, TableDefinition, TableHandle, WriteTransaction};

use super::backup::{BadBackup, FILES, Header, Parser, Part, Rows};
use super::directory::{self, DirectoryError, KEY, LOCK, RESTORING, SWARM};
use super::fault::{Fault, guarded};
use super::medium::{Medium, Slot};
use super::open::{DATABASE, SENTINEL};
use super::{OpenError, files, open, rows, tables};

/// Read from the file at once.
const READ_BYTES: usize = 256 * 1024;
/// Rows are committed when they are so many bytes (guess: what redb holds in memory for a transaction stays small).
const COMMIT_BYTES: u64 = 16 * 1024 * 1024;

/// Why a backup was not put back. There is no node in the directory, and what was in it before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is no backup that can be used.
    #[error("{path}: {why}")]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: BadBackup,
    },
    /// Something is there already.
    #[error("{path} is not empty (there is {found:?} in it): a backup is only put into an empty directory")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// One thing in it.
        found: String,
    },
    /// The directory cannot be used.
    #[error("{0}")]
    Directory(#[from] DirectoryError),
    /// The database could not be made, or what it says cannot be true.
    #[error("{0}")]
    Database(#[from] OpenError),
    /// The system refused.
    #[error("{path}: {error}")]
    Io {
        /// The file at fault.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl From<BadBackup> for RestoreError {
    fn from(why: BadBackup) -> RestoreError {
        RestoreError::Bad { path: PathBuf::new(), why }
    }
}

impl From<Fault> for RestoreError {
    fn from(fault: Fault) -> RestoreError {
        RestoreError::Database(fault.into())
    }
}

/// Reads all of a backup and says what it is of. `progress` is told the bytes read.
///
/// # Errors
/// [`RestoreError::Bad`] or [`RestoreError::Io`].
pub fn inspect(backup: &Path, progress: &mut dyn FnMut(u64)) -> Result<Header, RestoreError> {
    read(backup, progress, &mut |_| Ok(()))
}

/// Puts a backup into `dir`, which is empty or not there. Its node begins with a new epoch. `progress` is told the bytes read.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(backup: &Path, dir: &Path, progress: &mut dyn FnMut(u64)) -> Result<Header, RestoreError> {
    let existed = dir.exists();
    if existed {
        for entry in std::fs::read_dir(dir).map_err(at(dir))? {
            let found = entry.map_err(at(dir))?.file_name();
            if found != LOCK {
                return Err(RestoreError::NotEmpty { path: dir.to_owned(), found: found.to_string_lossy().into_owned() });
            }
        }
    }
    let _lock = directory::take(dir)?;
    let files = [LOCK, RESTORING, DATABASE, SENTINEL].into_iter().chain(FILES).map(|name| dir.join(name)).collect();
    let mut made = Made { dir: dir.to_owned(), files, existed, keep: false };
    let marker = dir.join(RESTORING);
    files::write_whole(&marker, b"").map_err(at(&marker))?;

    let path = dir.join(DATABASE);
    let slot = Slot::open(Medium::File(path.clone()), true).map_err(|fault| OpenError::from(fault).at(&path))?;
    let filled = fill(&slot, backup, dir, progress);
    slot.close();
    let header = filled.map_err(|error| match error {
        RestoreError::Database(error) => RestoreError::Database(error.at(&path)),
        other => other,
    })?;
    // What does not load would not start.
    let opened = open::open_medium(Medium::File(path.clone()), false).map_err(|error| error.at(&path))?;
    opened.slot.close();
    let secrets = directory::read_key(&dir.join(KEY))?;
    if secrets.id() != header.peer {
        return Err(bad(backup, BadBackup::Damaged("its key is another node's")));
    }
    if !dir.join(SWARM).exists() {
        return Err(bad(backup, BadBackup::Damaged("it does not say which swarm it belongs to")));
    }
    open::mark(dir, opened.id)?;
    files::remove(&marker).map_err(at(&marker))?;
    made.keep = true;
    Ok(header)
}

/// What to take away again if it comes to nothing.
struct Made {
    dir: PathBuf,
    files: Vec<PathBuf>,
    existed: bool,
    keep: bool,
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // What cannot be taken away stays marked as half restored: the marker goes after the rest.
        for file in self.files.iter().rev() {
            let _ = std::fs::remove_file(file);
        }
        if !self.existed {
            let _ = std::fs::remove_dir(&self.dir);
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RestoreError + use<> {
    let path = path.to_owned();
    move |error| RestoreError::Io { path, error }
}

fn bad(path: &Path, why: BadBackup) -> RestoreError {
    RestoreError::Bad { path: path.to_owned(), why }
}

/// Reads all of a backup, part by part.
fn read(
    backup: &Path,
    progress: &mut dyn FnMut(u64),
    take: &mut dyn FnMut(Part<'_>) -> Result<(), RestoreError>,
) -> Result<Header, RestoreError> {
    let named = |error| match error {
        RestoreError::Bad { why, .. } => bad(backup, why),
        other => other,
    };
    let mut file = File::open(backup).map_err(at(backup))?;
    let (mut parser, mut piece) = (Parser::default(), vec![0; READ_BYTES]);
    loop {
        let length = file.read(&mut piece).map_err(at(backup))?;
        if length == 0 {
            break;
        }
        parser.feed(&piece[..length], take).map_err(named)?;
        progress(parser.bytes());
    }
    parser.end().map_err(|why| bad(backup, why))
}

/// Writes all rows and files. The last commit says that this memory was put back.
fn fill(slot: &Slot, backup: &Path, dir: &Path, progress: &mut dyn FnMut(u64)) -> Result<Header, RestoreError> {
    let mut txn = Some(slot.begin_write()?);
    let mut uncommitted = 0;
    let header = read(backup, progress, &mut |part| match part {
        Part::File { name, content } => {
            let Some(name) = FILES.iter().find(|known| **known == name) else {
                return Err(BadBackup::Damaged("a file in it is none of a node's").into());
            };
            let path = dir.join(name);
            files::write_whole(&path, content).map_err(at(&path))
        }
        Part::Rows { table, rows } => {
            let open = txn.as_ref().expect("there is one until it is committed, and then another");
            uncommitted += guarded(|| insert(open, table, rows))?;
            if uncommitted >= COMMIT_BYTES {
                uncommitted = 0;
                commit(txn.take())?;
                txn = Some(slot.begin_write()?);
            }
            Ok(())
        }
    })?;
    let last = txn.take();
    guarded(|| -> Result<(), RestoreError> { settle(last.as_ref().expect("there is one until it is committed")) })?;
    commit(last)?;
    Ok(header)
}

fn commit(txn: Option<WriteTransaction>) -> Result<(), Fault> {
    guarded(|| txn.map_or(Ok(()), |txn| Ok(txn.commit()?)))
}

/// Another database with another id, whose node is told that it was put back.
fn settle(txn: &WriteTransaction) -> Result<(), RestoreError> {
    tables::create(txn)?;
    let settled = || -> Result<(), Fault> {
        let mut table = txn.open_table(tables::ME)?;
        let me = table.get(())?.map(|row| rows::cbor::<Me>(&tables::ME, &(), row.value())).transpose()?;
        let me = Me { restored: true, ..me.ok_or_else(|| Fault::row(&tables::ME, &(), "missing"))? };
        table.insert((), codec::encode(&me).as_slice())?;
        txn.open_table(tables::DATABASE)?.insert((), open::new_id()?.as_bytes())?;
        Ok(())
    };
    Ok(settled()?)
}

/// Inserts rows into the table of this name; returns their bytes.
fn insert(txn: &WriteTransaction, name: &str, rows: Rows<'_>) -> Result<u64, RestoreError> {
    macro_rules! find {
        ($($table:ident)*) => { $( if name == tables::$table.name() { return insert_into(txn, tables::$table, rows); } )* };
    }
    tables::every_table!(find);
    Err(BadBackup::Damaged("it has a table that this version does not know").into())
}

fn insert_into<K: redb::Key + 'static, V: redb::Value + 'static>(
    txn: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
    rows: Rows<'_>,
) -> Result<u64, RestoreError> {
    let mut open = txn.open_table(table).map_err(Fault::from)?;
    let fits = |width: Option<usize>, bytes: &[u8]| width.is_none_or(|width| width == bytes.len());
    let mut bytes = 0;
    for row in rows {
        let (key, value) = row?;
        if !fits(K::fixed_width(), key) || !fits(V::fixed_width(), value) {
            return Err(BadBackup::Damaged("a row is not what its table promises").into());
        }
        open.insert(K::from_bytes(key), V::from_bytes(value)).map_err(Fault::from)?;
        bytes += (key.len() + value.len()) as u64;
    }
    Ok(bytes)
}
