//! A node's directory: whose it is, that one process uses it, the keys in it, the swarm it belongs to.
//! Knows nothing of tables. A key never stands beside another key's database, and nothing here is ever deleted.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol::bundle::Secrets;

use super::files;
use super::open::{DATABASE, SENTINEL, STARTING};

/// How long a node that was killed may take to let go of the lock: the system ends what it was writing first (guess).
const RELEASE: Duration = Duration::from_secs(1);
/// Between two tries (guess).
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Holds the seeds of both keys.
pub(crate) const KEY: &str = "key";
/// Locked by the process that uses the directory.
pub(crate) const LOCK: &str = "lock";
/// Names the swarm.
pub(crate) const SWARM: &str = "swarm";
/// What its user wrote down for each start.
pub(crate) const CONFIG: &str = "node.toml";
/// Stands while a backup is being put back: see [`super::restore`].
pub(crate) const RESTORING: &str = "restoring";

/// First line of a key file; the two others hold the seeds in hex.
const KEY_FORMAT: &str = "swarm key 1";

/// Why a directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Others could read or change what is in it.
    #[error("{path} is open to others (mode {mode:03o}): chmod {wanted:03o} {path}")]
    Open {
        /// The directory or file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// As it must be.
        wanted: u32,
    },
    /// It belongs to another user.
    #[error("{path} belongs to user {owner}, and this is user {me}: choose another --data-dir")]
    Foreign {
        /// The directory or file.
        path: PathBuf,
        /// Whose it is, as a uid.
        owner: u32,
        /// Who asks.
        me: u32,
    },
    /// Another node uses it.
    #[error("{path} is in use by a node that runs already{}: stop it first, or choose another --data-dir", pid.map_or(String::new(), |pid| format!(" (process {pid})")))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// That node's process, if it said so.
        pid: Option<u32>,
    },
    /// There is a key and no database.
    #[error(
        "{path} has a key but no database: bring the whole directory back from a copy, or begin anew with `run --start-over`, which keeps the key"
    )]
    NoDatabase {
        /// The directory.
        path: PathBuf,
    },
    /// There is a database and no key.
    #[error(
        "{path} has a database but no key: bring the file `key` back from a copy, or begin anew as another peer with `run --start-over`"
    )]
    NoKey {
        /// The directory.
        path: PathBuf,
    },
    /// The key file cannot be understood.
    #[error("{path} is not a key file of this version ({why}): bring it back from a copy")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A backup was being put back here when the power went.
    #[error("{path}: a backup was being put back here, and that was cut off: remove what is in it, and type `restore` again")]
    HalfRestored {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to another swarm.
    #[error("{path} belongs to the swarm {remembered:?}, not to {asked:?}: choose another --data-dir, or --swarm {remembered}")]
    OtherSwarm {
        /// The directory.
        path: PathBuf,
        /// The swarm it belongs to.
        remembered: String,
        /// The one asked for.
        asked: String,
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

/// The directory of a node, locked as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    secrets: Secrets,
    new: bool,
    anew: Option<Anew>,
    /// Holds the lock.
    _lock: File,
}

/// What became of a directory whose user wanted to begin anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anew {
    /// Where its database is now; none if there was none.
    pub database: Option<PathBuf>,
    /// There was no key: its node is another peer from now on.
    pub key: bool,
}

impl Directory {
    /// Takes `path` for this process, made with a new key if there is nothing. With `start_over` its database is set
    /// aside and its key kept.
    ///
    /// # Errors
    /// [`DirectoryError`]; its text says what to type.
    pub fn open(path: &Path, start_over: bool) -> Result<Directory, DirectoryError> {
        let lock = take(path)?;
        if path.join(RESTORING).try_exists().map_err(at(&path.join(RESTORING)))? {
            return Err(DirectoryError::HalfRestored { path: path.to_owned() });
        }
        let (key, starting) = (path.join(KEY), path.join(STARTING));
        let exists = |name: &str| path.join(name).try_exists().map_err(at(&path.join(name)));
        let mut anew = start_over.then_some(Anew { database: None, key: false });
        if let Some(anew) = &mut anew {
            // From here until a database stands, a key alone is no loss. The sentinel goes last: without it a database
            // left over would be refused, with it a missing one is.
            files::write_whole(&starting, b"").map_err(at(&starting))?;
            anew.database = files::move_aside(&path.join(DATABASE)).map_err(at(&path.join(DATABASE)))?;
            files::move_aside(&path.join(SENTINEL)).map_err(at(&path.join(SENTINEL)))?;
        }
        let (has_key, has_database, begun) = (exists(KEY)?, exists(DATABASE)? || exists(SENTINEL)?, exists(STARTING)?);
        let secrets = match (has_key, has_database) {
            (true, false) if !begun => return Err(DirectoryError::NoDatabase { path: path.to_owned() }),
            (false, true) => return Err(DirectoryError::NoKey { path: path.to_owned() }),
            (true, _) => read_key(&key)?,
            (false, false) => {
                files::write_whole(&starting, b"").map_err(at(&starting))?;
                if let Some(anew) = &mut anew {
                    anew.key = true;
                }
                make_key(&key)?
            }
        };
        Ok(Directory { path: path.to_owned(), secrets, new: !has_database, anew, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys in it.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Whether it has no database yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// What was given up, if its user wanted to begin anew.
    #[must_use]
    pub fn anew(&self) -> Option<&Anew> {
        self.anew.as_ref()
    }

    /// The swarm that the directory is tied to, if it is.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn swarm(&self) -> Result<Option<String>, DirectoryError> {
        let file = self.path.join(SWARM);
        let text = files::read(&file).map_err(at(&file))?;
        Ok(text.map(|text| text.strip_suffix('\n').unwrap_or(&text).to_owned()))
    }

    /// Ties the directory to the swarm of this name, for ever.
    ///
    /// # Errors
    /// [`DirectoryError::OtherSwarm`] if it is tied to another.
    pub fn remember_swarm(&self, name: &str) -> Result<(), DirectoryError> {
        let file = self.path.join(SWARM);
        match self.swarm()? {
            None => files::write_whole(&file, format!("{name}\n").as_bytes()).map_err(at(&file)),
            Some(remembered) if remembered == name => Ok(()),
            Some(remembered) => Err(DirectoryError::OtherSwarm { path: self.path.clone(), remembered, asked: name.to_owned() }),
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError + use<> {
    let path = path.to_owned();
    move |error| DirectoryError::Io { path, error }
}

/// Refuses what another user owns, and what is wider than `wanted`.
fn private(path: &Path, wanted: u32) -> Result<(), DirectoryError> {
    let metadata = fs::metadata(path).map_err(at(path))?;
    let (owner, me) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != me {
        return Err(DirectoryError::Foreign { path: path.to_owned(), owner, me });
    }
    let mode = metadata.mode() & 0o777;
    if mode & !wanted == 0 { Ok(()) } else { Err(DirectoryError::Open { path: path.to_owned(), mode, wanted }) }
}

/// Takes a directory for this process, as long as what is returned lives; makes it if it is not there.
pub(crate) fn take(path: &Path) -> Result<File, DirectoryError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))?;
    private(path, 0o700)?;
    lock(path)
}

fn lock(dir: &Path) -> Result<File, DirectoryError> {
    let path = dir.join(LOCK);
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(at(&path))?;
    let began = Instant::now();
    let locked = loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if began.elapsed() < RELEASE => std::thread::sleep(BETWEEN_TRIES),
            outcome => break outcome,
        }
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Whoever holds it may not have written its number yet: then it stays unknown.
            drop(file.read_to_string(&mut text));
            return Err(DirectoryError::Locked { path: dir.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
    }
    let write = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(at(&path))?;
    Ok(file)
}

pub(crate) fn read_key(path: &Path) -> Result<Secrets, DirectoryError> {
    private(path, 0o600)?;
    let text = files::read(path).map_err(at(path))?.unwrap_or_default();
    let (signing, encryption) = parse_key(&text).map_err(|why| DirectoryError::Key { path: path.to_owned(), why })?;
    Ok(Secrets::from_seeds(&signing, &encryption))
}

/// The seeds for signing and encryption.
fn parse_key(text: &str) -> Result<([u8; 32], [u8; 32]), &'static str> {
    let mut lines = text.lines();
    if lines.next() != Some(KEY_FORMAT) {
        return Err("its first line is not `swarm key 1`");
    }
    let mut seed = |label: &str| -> Option<[u8; 32]> { unhex(lines.next()?.strip_prefix(label)?) };
    let signing = seed("signing ").ok_or("its second line is not `signing` and 64 hex digits")?;
    let encryption = seed("encryption ").ok_or("its third line is not `encryption` and 64 hex digits")?;
    if lines.next().is_some() {
        return Err("it has more than three lines");
    }
    Ok((signing, encryption))
}

fn make_key(path: &Path) -> Result<Secrets, DirectoryError> {
    let (mut signing, mut encryption) = ([0; 32], [0; 32]);
    for seed in [&mut signing, &mut encryption] {
        getrandom::fill(seed).map_err(|error| at(path)(io::Error::other(error)))?;
    }
    let text = format!("{KEY_FORMAT}\nsigning {}\nencryption {}\n", hex(&signing), hex(&encryption));
    files::write_whole(path, text.as_bytes()).map_err(at(path))?;
    Ok(Secrets::from_seeds(&signing, &encryption))
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(bytes)
}
