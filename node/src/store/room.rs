//! Room on the file system: how much is left, and a reserve that can be given up when none is.
//! Knows nothing of the database. The reserve holds real blocks, so that deleting it frees them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use protocol::input::Disk;

/// Bytes set aside for receipts and reading when the disk is full (guess: thousands of receipts).
pub const RESERVE_BYTES: u64 = 8 * 1024 * 1024;
/// Below this, or below a tenth of a smaller file system, nothing new is accepted (DESIGN 9).
pub const LOW_BYTES: u64 = 64 * 1024 * 1024;

/// A file system's room, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free for this user.
    pub free: u64,
    /// In all.
    pub total: u64,
}

impl Room {
    /// What will be left when so many more bytes are written.
    #[must_use]
    pub fn less(self, bytes: u64) -> Room {
        Room { free: self.free.saturating_sub(bytes), ..self }
    }

    /// Whether that is enough to accept anything new.
    #[must_use]
    pub fn disk(self) -> Disk {
        if self.free < LOW_BYTES.min(self.total / 10) { Disk::Low { free: self.free } } else { Disk::Enough }
    }
}

/// The room of the file system that holds `dir`.
///
/// # Errors
/// The system does not say.
pub fn room(dir: &Path) -> io::Result<Room> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(Room { free: stat.f_bavail.saturating_mul(stat.f_frsize), total: stat.f_blocks.saturating_mul(stat.f_frsize) })
}

/// A file of [`RESERVE_BYTES`] beside the database.
#[derive(Debug)]
pub(crate) struct Reserve(PathBuf);

impl Reserve {
    /// The reserve of `dir`; not set aside yet.
    pub(crate) fn of(dir: &Path) -> Reserve {
        Reserve(dir.join("reserve"))
    }

    /// Sets it aside if it is not and there is room for it. Without room there is none, and the node does without.
    pub(crate) fn tend(&self) {
        let whole = || self.0.metadata().is_ok_and(|file| file.len() == RESERVE_BYTES);
        let fits = || self.0.parent().and_then(|dir| room(dir).ok()).is_some_and(|room| room.less(RESERVE_BYTES).disk() == Disk::Enough);
        if !whole()
            && fits()
            && let Err(error) = self.fill()
        {
            tracing::warn!(%error, "no reserve could be set aside for a full disk");
            self.give_up();
        }
    }

    /// Frees its blocks; true if there were any.
    pub(crate) fn give_up(&self) -> bool {
        fs::remove_file(&self.0).is_ok()
    }

    fn fill(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.0)?;
        // Written, not only allocated, and not with zeros: some file systems keep neither as blocks.
        let block: Vec<u8> = (0..64 * 1024u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        for _ in 0..RESERVE_BYTES / block.len() as u64 {
            file.write_all(&block)?;
        }
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_is_below_64_mib_or_a_tenth_of_a_small_file_system() {
        const MIB: u64 = 1024 * 1024;
        let check = |free, total, low| {
            let expected = if low { Disk::Low { free } } else { Disk::Enough };
            assert_eq!(Room { free, total }.disk(), expected, "{free} of {total}");
        };
        check(64 * MIB, 1024 * 1024 * MIB, false);
        check(64 * MIB - 1, 1024 * 1024 * MIB, true);
        check(10 * MIB, 100 * MIB, false);
        check(10 * MIB - 1, 100 * MIB, true);
    }

    #[test]
    fn a_reserve_given_up_is_set_aside_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bytes = || dir.path().join("reserve").metadata().map(|file| file.len()).ok();
        let reserve = Reserve::of(dir.path());
        reserve.tend();
        assert_eq!(bytes(), Some(RESERVE_BYTES));
        assert!(reserve.give_up());
        assert_eq!((bytes(), reserve.give_up()), (None, false));
        reserve.tend();
        assert_eq!(bytes(), Some(RESERVE_BYTES));
    }
}
