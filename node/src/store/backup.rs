//! A backup: everything that a node needs to live on elsewhere, in one stream of bytes that can be checked.
//! Knows nothing of where it goes. It is one snapshot of the database, and whole only with its last part.
//!
//! The line `swarm backup 1`, then parts: a byte that says what it is, its length (4 bytes, big-endian), and so many bytes. First a [`Header`]
//! (CBOR), then files (name, a zero byte, content), then for each table its name and rows (length and bytes of key and of value,
//! again and again), then the SHA-256 of all before.

use protocol::codec;
use protocol::effect::Me;
use protocol::name::PeerName;
use protocol::{PeerId, Timestamp};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::directory::{CONFIG, KEY, SWARM};
use super::fault::{Fault, guarded};
use super::read::Reader;
use super::{rows, tables};

/// The first line. A later format has a greater number.
const MAGIC: &[u8] = b"swarm backup 1\n";
/// What the first lines of all formats have in common.
const MAGIC_ANY: &[u8] = b"swarm backup ";
/// Rows are gathered until they are so many bytes (guess: a page of a bulk stream has as many).
const PART_BYTES: usize = 64 * 1024;
/// The longest part that is read: the largest row is an order with 6 MiB of items and input.
const PART_MAX: usize = 32 * 1024 * 1024;

const HEADER: u8 = b'H';
const FILE: u8 = b'F';
const TABLE: u8 = b'T';
const ROWS: u8 = b'R';
const END: u8 = b'E';

/// The files beside the database that a node takes with it, the first of which it cannot do without.
pub(crate) const FILES: [&str; 3] = [KEY, SWARM, CONFIG];

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the program that made it.
    pub program: String,
    /// Format of the tables in it.
    pub format: u32,
    /// Whose it is.
    pub peer: PeerId,
    /// As it is called.
    pub name: PeerName,
    /// Its swarm.
    pub swarm: String,
    /// Anyone may join that swarm.
    pub open: bool,
    /// Where it was to be reached.
    pub addresses: Vec<String>,
    /// When it was made.
    pub made: Timestamp,
    /// Rows in it.
    pub rows: u64,
}

/// What the disk does not know of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Version of this program.
    pub program: String,
    /// Whose database it is.
    pub peer: PeerId,
    /// Its swarm.
    pub swarm: String,
    /// Anyone may join it.
    pub open: bool,
    /// Now.
    pub made: Timestamp,
}

/// Why a backup was not made. What was given out of it is of no use.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database cannot be read.
    #[error("{0}")]
    Read(#[from] Fault),
    /// A file beside it cannot be read.
    #[error("the file {0} cannot be read: {1}")]
    File(&'static str, std::io::Error),
    /// Whoever wanted it does not take it any more.
    #[error("nobody takes the backup any more")]
    Gone,
}

impl Reader {
    /// Hands everything out, piece by piece, as it is now; `take` says whether it took one. The node goes on meanwhile, and what it
    /// changes grows the file until this is done.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn back_up(&self, origin: &Origin, take: &mut dyn FnMut(Vec<u8>) -> bool) -> Result<(), BackupError> {
        let dir = self.dir();
        let mut found = Vec::new();
        for name in FILES {
            let content = dir.as_deref().map(|dir| std::fs::read(dir.join(name)));
            match content {
                Some(Ok(bytes)) => found.push((name, bytes)),
                Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound || name == KEY => {
                    return Err(BackupError::File(name, error));
                }
                _ => {}
            }
        }
        let txn = self.snapshot()?;
        guarded(|| {
            let mut out = Writer { take, hash: Sha256::new(), part: Vec::with_capacity(PART_BYTES * 2) };
            out.give(MAGIC.to_vec())?;
            out.part(HEADER, &codec::encode(&header(&txn, origin)?))?;
            for (name, content) in found {
                out.part(FILE, &[name.as_bytes(), b"\0", &content].concat())?;
            }
            macro_rules! tables {
                ($($table:ident)*) => { $( out.table(&txn, tables::$table)?; )* };
            }
            tables::every_table!(tables);
            let digest = out.hash.clone().finalize();
            out.part(END, &digest)
        })
    }
}

fn header(txn: &ReadTransaction, origin: &Origin) -> Result<Header, Fault> {
    let me = txn.open_table(tables::ME)?.get(())?;
    let me: Me = match me {
        Some(row) => rows::cbor(&tables::ME, &(), row.value())?,
        None => return Err(Fault::row(&tables::ME, &(), "missing")),
    };
    let mut count = 0;
    macro_rules! count {
        ($($table:ident)*) => { $( count += txn.open_table(tables::$table)?.len()?; )* };
    }
    tables::every_table!(count);
    let Origin { program, peer, swarm, open, made } = origin.clone();
    Ok(Header { program, format: tables::FORMAT_VERSION, peer, name: me.name, swarm, open, addresses: me.addresses, made, rows: count })
}

/// The side that makes parts.
struct Writer<'a> {
    take: &'a mut dyn FnMut(Vec<u8>) -> bool,
    hash: Sha256,
    /// Rows that are gathered.
    part: Vec<u8>,
}

impl Writer<'_> {
    fn give(&mut self, bytes: Vec<u8>) -> Result<(), BackupError> {
        self.hash.update(&bytes);
        if (self.take)(bytes) { Ok(()) } else { Err(BackupError::Gone) }
    }

    fn part(&mut self, kind: u8, content: &[u8]) -> Result<(), BackupError> {
        let length = length(content)?;
        self.give([&[kind], &length[..], content].concat())
    }

    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &mut self,
        txn: &ReadTransaction,
        table: TableDefinition<'_, K, V>,
    ) -> Result<(), BackupError> {
        self.part(TABLE, table.name().as_bytes())?;
        let open = txn.open_table(table).map_err(Fault::from)?;
        for row in open.iter().map_err(Fault::from)? {
            let (key, value) = row.map_err(Fault::from)?;
            let (key, value) = (key.value(), value.value());
            for field in [K::as_bytes(&key).as_ref(), V::as_bytes(&value).as_ref()] {
                self.part.extend_from_slice(&length(field)?);
                self.part.extend_from_slice(field);
            }
            if self.part.len() >= PART_BYTES {
                self.rows()?;
            }
        }
        self.rows()
    }

    fn rows(&mut self) -> Result<(), BackupError> {
        let part = std::mem::take(&mut self.part);
        let result = if part.is_empty() { Ok(()) } else { self.part(ROWS, &part) };
        self.part = part;
        self.part.clear();
        result
    }
}

fn length(bytes: &[u8]) -> Result<[u8; 4], Fault> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length as usize <= PART_MAX);
    length.map(u32::to_be_bytes).ok_or_else(|| Fault::row(&tables::ORDER_BODIES, &bytes.len(), "a row too large for a backup"))
}

/// Why bytes are no backup that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBackup {
    /// Something else.
    #[error("it is not a backup of a node")]
    NotOne,
    /// Made by a later version.
    #[error("it was made by a later version of this program{}: use that one", .0.as_ref().map_or(String::new(), |program| format!(" ({program})")))]
    Newer(Option<String>),
    /// Tables that this version does not read any more.
    #[error("its tables have format {0}, which this version does not read any more: use the version that made it ({1})")]
    Older(u32, String),
    /// It ends too early, or not where it should.
    #[error("it is not whole: {0}")]
    NotWhole(&'static str),
    /// Something in it is not as it was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// One part of a backup.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    File { name: &'a str, content: &'a [u8] },
    Rows { table: &'a str, rows: Rows<'a> },
}

/// Takes a backup in as it comes, in pieces of any size, and hands on its parts; that it is whole is known at the end.
#[derive(Debug, Default)]
pub struct Parser {
    unread: Vec<u8>,
    hash: Sha256,
    begun: bool,
    header: Option<Header>,
    table: Option<String>,
    rows: u64,
    bytes: u64,
    whole: bool,
}

impl Parser {
    /// What it says of itself, once that was read.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Rows so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next piece, only to be checked.
    ///
    /// # Errors
    /// [`BadBackup`]: no more of it is of any use.
    pub fn check(&mut self, piece: &[u8]) -> Result<(), BadBackup> {
        self.feed(piece, &mut |_| Ok(()))
    }

    /// The next piece; what `take` does not want ends it.
    pub(crate) fn feed<E: From<BadBackup>>(&mut self, piece: &[u8], take: &mut dyn FnMut(Part<'_>) -> Result<(), E>) -> Result<(), E> {
        self.unread.extend_from_slice(piece);
        self.bytes += piece.len() as u64;
        let unread = std::mem::take(&mut self.unread);
        let mut at = 0;
        loop {
            match self.next(&unread[at..], take)? {
                0 => break,
                taken => at += taken,
            }
        }
        self.unread = unread;
        self.unread.drain(..at);
        Ok(())
    }

    /// Takes one part from the beginning of `bytes`, and says how long it was; 0 if it is not all there.
    fn next<E: From<BadBackup>>(&mut self, bytes: &[u8], take: &mut dyn FnMut(Part<'_>) -> Result<(), E>) -> Result<usize, E> {
        if !self.begun {
            let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
            return match (begins(MAGIC), bytes.len() >= MAGIC.len()) {
                (true, true) => {
                    self.begun = true;
                    self.hash.update(MAGIC);
                    Ok(MAGIC.len())
                }
                (true, false) => Ok(0),
                (false, _) if begins(MAGIC_ANY) && bytes.len() > MAGIC_ANY.len() => Err(BadBackup::Newer(None).into()),
                (false, _) => Err(BadBackup::NotOne.into()),
            };
        }
        if self.whole && !bytes.is_empty() {
            return Err(BadBackup::NotWhole("something follows its end").into());
        }
        let Some((head, rest)) = bytes.split_at_checked(5) else { return Ok(0) };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > PART_MAX {
            return Err(BadBackup::Damaged("a part is longer than any can be").into());
        }
        let Some(content) = rest.get(..length) else { return Ok(0) };
        if head[0] == END {
            if content != self.hash.clone().finalize().as_slice() {
                return Err(BadBackup::Damaged("the checksum does not fit").into());
            }
            if self.header.as_ref().map(|header| header.rows) != Some(self.rows) {
                return Err(BadBackup::Damaged("it has more or fewer rows than it says").into());
            }
            self.whole = true;
        } else {
            self.hash.update(head);
            self.hash.update(content);
            self.part(head[0], content, take)?;
        }
        Ok(head.len() + length)
    }

    fn part<E: From<BadBackup>>(&mut self, kind: u8, content: &[u8], take: &mut dyn FnMut(Part<'_>) -> Result<(), E>) -> Result<(), E> {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| BadBackup::Damaged("a name is no text"));
        match kind {
            HEADER if self.header.is_none() => {
                let header: Header = codec::decode(content).map_err(|_| BadBackup::Damaged("its header cannot be read"))?;
                if header.format > tables::FORMAT_VERSION {
                    return Err(BadBackup::Newer(Some(header.program)).into());
                }
                if header.format < tables::FORMAT_OLDEST {
                    return Err(BadBackup::Older(header.format, header.program).into());
                }
                self.header = Some(header);
                Ok(())
            }
            _ if self.header.is_none() => Err(BadBackup::Damaged("it does not begin with its header").into()),
            FILE => {
                let end = content.iter().position(|byte| *byte == 0).ok_or(BadBackup::Damaged("a file has no name"))?;
                take(Part::File { name: text(&content[..end])?, content: &content[end + 1..] })
            }
            TABLE => {
                self.table = Some(text(content)?.to_owned());
                Ok(())
            }
            ROWS => {
                let rows = Rows(content);
                self.rows += rows.clone().try_fold(0, |count, row| row.map(|_| count + 1))?;
                let table = self.table.as_deref().ok_or(BadBackup::Damaged("rows stand before any table"))?;
                take(Part::Rows { table, rows })
            }
            _ => Err(BadBackup::Damaged("a part of an unknown kind").into()),
        }
    }

    /// There is no more. Returns what the backup says of itself.
    ///
    /// # Errors
    /// [`BadBackup`]: it ended too early.
    pub fn end(self) -> Result<Header, BadBackup> {
        match self.header {
            Some(header) if self.whole => Ok(header),
            None if !self.begun => Err(BadBackup::NotOne),
            _ => Err(BadBackup::NotWhole("it ends too early")),
        }
    }
}

/// Keys and values, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Rows<'a>(&'a [u8]);

impl<'a> Rows<'a> {
    fn field(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (field, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        self.0 = rest;
        Some(field)
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), BadBackup>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let row = self.field().and_then(|key| Some((key, self.field()?)));
        if row.is_none() {
            self.0 = &[];
        }
        Some(row.ok_or(BadBackup::Damaged("a row does not fit into its part")))
    }
}
