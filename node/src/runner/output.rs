//! What programs write: counted in full, its head and its tail kept, read in pages.
//! Knows nothing of processes. Memory holds an excerpt of it; a file what is longer; all files together have a limit.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use protocol::codec;
use protocol::config::limits;
use protocol::order::{Excerpt, Try};
use sha2::{Digest, Sha256};

/// Bytes of all outputs that are kept; beyond it the oldest go (guess: what a small disk can spare).
pub(super) const KEPT_BYTES: u64 = 1024 * 1024 * 1024;
/// Room for the line that says what was left out.
const LINE: u64 = 128;
/// Bytes up to which nothing is left out.
const ALL: u64 = limits::OUTPUT_BYTES as u64;
/// The beginning that is kept of an output longer than that, and its end.
const HEAD: u64 = ALL / 2 - LINE;
const TAIL: u64 = ALL / 2;
/// What is behind the head while it is written: until all is known, the room of the line is of use, too.
const RING: u64 = ALL - HEAD;

/// One output while it is written.
#[derive(Debug)]
pub(super) struct Keeper {
    excerpt: Vec<u8>,
    total: u64,
    /// Made when there is more than fits the excerpt. Behind the head, the latest goes round in it.
    file: Option<File>,
    path: PathBuf,
    /// The disk took no more: only the excerpt is kept.
    broken: bool,
}

impl Keeper {
    /// Nothing yet; what does not fit the excerpt goes to `path`.
    pub(super) fn new(path: PathBuf) -> Keeper {
        Keeper { excerpt: Vec::new(), total: 0, file: None, path, broken: false }
    }

    /// More was written.
    pub(super) fn take(&mut self, chunk: &[u8]) {
        let room = limits::EXCERPT_BYTES - self.excerpt.len();
        if self.file.is_none() && !self.broken && chunk.len() > room {
            self.spill();
        }
        if let Some(file) = &self.file
            && let Err(error) = put(file, self.total, chunk)
        {
            tracing::warn!(%error, "an output could not be kept");
            self.give_up();
        }
        self.excerpt.extend_from_slice(&chunk[..chunk.len().min(room)]);
        self.total += chunk.len() as u64;
    }

    /// Until now all of it is in the excerpt.
    fn spill(&mut self) {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&self.path);
        match file.and_then(|file| put(&file, 0, &self.excerpt).map(|()| file)) {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "an output could not be kept");
                self.give_up();
            }
        }
    }

    fn give_up(&mut self) {
        self.broken = true;
        self.file = None;
        // Nothing may have been made.
        let _ = fs::remove_file(&self.path);
    }

    /// A page of what there is while it is still being written: the beginning.
    pub(super) fn page(&self, from: u64) -> Vec<u8> {
        let Some(file) = &self.file else { return self.excerpt.get(index(from)..).unwrap_or_default().to_vec() };
        read(file, from, self.total.min(HEAD)).unwrap_or_default()
    }

    /// It is complete: the excerpt for the report, and the length of the file that is now at `kept`, if there is one.
    pub(super) fn finish(mut self, kept: &Path) -> (Excerpt, Option<u64>) {
        let file = self.file.take().and_then(|file| {
            let moved = straighten(&file, self.total).and_then(|length| fs::rename(&self.path, kept).map(|()| length));
            moved.inspect_err(|error| tracing::warn!(%error, "an output could not be kept")).ok()
        });
        if file.is_none() && self.total > self.excerpt.len() as u64 {
            self.give_up();
        }
        let kept = match file {
            Some(_) if self.total > ALL => HEAD + TAIL,
            Some(_) => self.total,
            None => self.excerpt.len() as u64,
        };
        (Excerpt { bytes: self.excerpt.into(), total: self.total, kept }, file)
    }
}

fn index(from: u64) -> usize {
    usize::try_from(from).unwrap_or(usize::MAX)
}

/// Writes what was written as the bytes from `from` on where it belongs.
fn put(file: &File, mut from: u64, mut chunk: &[u8]) -> io::Result<()> {
    while !chunk.is_empty() {
        let (place, room) = if from < HEAD {
            (from, HEAD - from)
        } else {
            let turn = (from - HEAD) % RING;
            (HEAD + turn, RING - turn)
        };
        let (now, later) = chunk.split_at(chunk.len().min(index(room)));
        file.write_all_at(now, place)?;
        from += now.len() as u64;
        chunk = later;
    }
    Ok(())
}

/// Makes the file what it is read as: if something was left out, the head, a line that says so, and the tail from its
/// beginning. Returns its length.
fn straighten(file: &File, total: u64) -> io::Result<u64> {
    if total <= ALL {
        return Ok(total);
    }
    let mut ring = vec![0; index(RING)];
    file.read_exact_at(&mut ring, HEAD)?;
    ring.rotate_left(index((total - HEAD) % RING));
    let tail = &ring[index(RING - TAIL)..];
    let line = format!("\n[swarm: {} bytes are left out here]\n", total - HEAD - TAIL);
    file.write_all_at(line.as_bytes(), HEAD)?;
    file.write_all_at(tail, HEAD + line.len() as u64)?;
    let length = HEAD + line.len() as u64 + TAIL;
    file.set_len(length)?;
    Ok(length)
}

fn read(file: &File, from: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut page = vec![0; index(end.saturating_sub(from)).min(limits::OUTPUT_PAGE)];
    file.read_exact_at(&mut page, from)?;
    Ok(page)
}

/// One page of an output that is complete, and whether there is more behind it; none if it is not kept.
pub(super) fn page(path: &Path, from: u64) -> Option<(Vec<u8>, bool)> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let page = read(&file, from, length).ok()?;
    let more = from.saturating_add(page.len() as u64) < length;
    Some((page, more))
}

/// The outputs that are kept, the oldest first.
#[derive(Debug)]
pub(super) struct Outputs {
    directory: PathBuf,
    files: VecDeque<(PathBuf, u64)>,
    bytes: u64,
    limit: u64,
}

impl Outputs {
    /// What is in the directory.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn open(directory: PathBuf, limit: u64) -> io::Result<Outputs> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let data = entry.metadata()?;
            if data.is_file() {
                found.push((data.modified()?, entry.path(), data.len()));
            }
        }
        found.sort();
        let mut outputs = Outputs { directory, files: VecDeque::new(), bytes: 0, limit };
        found.into_iter().for_each(|(_, path, length)| outputs.add(path, length));
        Ok(outputs)
    }

    /// Where an output of a try is when it is complete.
    pub(super) fn path(&self, of: &Try, stderr: bool) -> PathBuf {
        let hash = Sha256::digest(codec::encode(of));
        let name: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.directory.join(name + if stderr { ".err" } else { ".out" })
    }

    /// One more is kept.
    pub(super) fn add(&mut self, path: PathBuf, length: u64) {
        self.files.push_back((path, length));
        self.bytes += length;
        while self.bytes > self.limit
            && let Some((path, length)) = self.files.pop_front()
        {
            self.bytes -= length;
            if let Err(error) = fs::remove_file(&path) {
                tracing::debug!(%error, path = %path.display(), "an old output could not be removed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(chunks: impl Iterator<Item = Vec<u8>>) -> (Excerpt, Option<Vec<u8>>) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut keeper = Keeper::new(directory.path().join("partial"));
        chunks.for_each(|chunk| keeper.take(&chunk));
        let kept = directory.path().join("kept");
        let (excerpt, length) = keeper.finish(&kept);
        let read = length.map(|length| {
            let mut all = Vec::new();
            loop {
                let (bytes, more) = page(&kept, all.len() as u64).expect("it is kept");
                all.extend(bytes);
                if !more {
                    break;
                }
            }
            assert_eq!(all.len() as u64, length);
            all
        });
        (excerpt, read)
    }

    #[test]
    fn a_short_output_needs_no_file() {
        let (excerpt, file) = written([b"one ".to_vec(), b"two".to_vec()].into_iter());
        assert_eq!((excerpt.bytes.as_slice(), excerpt.total, excerpt.kept, file), (&b"one two"[..], 7, 7, None));
        let (excerpt, file) = written(std::iter::once(vec![b'x'; limits::EXCERPT_BYTES]));
        assert_eq!((excerpt.kept, file), (limits::EXCERPT_BYTES as u64, None));
    }

    #[test]
    fn up_to_a_mebibyte_all_is_kept_however_it_was_cut() {
        for size in [limits::EXCERPT_BYTES + 1, index(HEAD) + 1, index(HEAD + TAIL), limits::OUTPUT_BYTES - 1, limits::OUTPUT_BYTES] {
            let bytes: Vec<u8> = (0..size).map(|number| (number % 251) as u8).collect();
            let (excerpt, file) = written(bytes.chunks(777).map(<[u8]>::to_vec));
            assert_eq!((excerpt.total, excerpt.kept), (size as u64, size as u64));
            assert_eq!(file.as_deref(), Some(bytes.as_slice()));
            assert_eq!(excerpt.bytes.as_slice(), &bytes[..limits::EXCERPT_BYTES]);
        }
    }

    #[test]
    fn of_more_the_head_and_the_tail_are_kept_and_the_gap_is_told() {
        for size in [limits::OUTPUT_BYTES + 1, limits::OUTPUT_BYTES + index(LINE), 3 * limits::OUTPUT_BYTES + 12_345] {
            let bytes: Vec<u8> = (0..size).map(|number| (number % 251) as u8).collect();
            let (excerpt, file) = written(bytes.chunks(65_536).map(<[u8]>::to_vec));
            let file = file.expect("it is kept");
            assert_eq!((excerpt.total, excerpt.kept), (bytes.len() as u64, HEAD + TAIL));
            assert!(file.len() <= limits::OUTPUT_BYTES);
            let (head, rest) = file.split_at(index(HEAD));
            let (line, tail) = rest.split_at(rest.len() - index(TAIL));
            assert_eq!(head, &bytes[..index(HEAD)]);
            assert_eq!(tail, &bytes[bytes.len() - index(TAIL)..]);
            let left_out = bytes.len() as u64 - HEAD - TAIL;
            assert_eq!(String::from_utf8_lossy(line), format!("\n[swarm: {left_out} bytes are left out here]\n"));
        }
    }

    #[test]
    fn without_room_on_the_disk_the_excerpt_is_kept_and_the_rest_counted() {
        let mut keeper = Keeper::new("/nowhere/at/all".into());
        keeper.take(&vec![b'x'; 50_000]);
        keeper.take(b"more");
        let (excerpt, file) = keeper.finish(Path::new("/nowhere/else"));
        assert_eq!((excerpt.bytes.len(), excerpt.total, excerpt.kept), (limits::EXCERPT_BYTES, 50_004, limits::EXCERPT_BYTES as u64));
        assert_eq!(file, None);
    }

    #[test]
    fn when_all_are_too_long_together_the_oldest_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let mut outputs = Outputs::open(directory.path().to_path_buf(), 100).expect("it is empty");
        for name in ["a", "b", "c"] {
            fs::write(path(name), [0; 40]).expect("written");
            outputs.add(path(name), 40);
        }
        assert!(!path("a").exists() && path("b").exists() && path("c").exists());
        drop(outputs);
        Outputs::open(directory.path().to_path_buf(), 30).expect("it is read");
        assert!(!path("b").exists() && !path("c").exists(), "also those of an earlier run count");
    }
}
