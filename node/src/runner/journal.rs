//! Which processes a node has started and may not have seen the end of, in a small file: for who must end them when it cannot.
//! Knows nothing of tries. A place is overwritten by who comes after; no later process is taken for one that has ended. Nothing
//! here needs to outlive the machine.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

use super::processes::Process;

const FILE: &str = "journal";
/// Numbers of processes mean nothing after the machine was started anew: its start is named at the beginning of the file.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const BOOT_BYTES: usize = 64;
const ROW: usize = 24;
/// Bytes that are read of it, more than there are slots (guess).
const MOST: usize = 64 * 1024 * ROW;

/// A process, and between which ticks of the machine's clock it began: no other process of that number did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Birth {
    pub(super) pid: i32,
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Birth {
    /// Whether this is the process that was written down, rather than a later one of its number.
    pub(super) fn is(&self, process: &Process) -> bool {
        // The kernel's number is rounded down.
        process.pid.as_raw_nonzero().get() == self.pid && (self.from.saturating_sub(1)..=self.to).contains(&process.start)
    }
}

/// The machine's clock in the unit in which the kernel says when a process began.
pub(super) fn ticks() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, rest) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    let second = rustix::param::clock_ticks_per_second();
    seconds * second + rest * second / 1_000_000_000
}

/// The file, open for writing.
#[derive(Debug)]
pub(super) struct Journal(File);

impl Journal {
    /// A new one in the directory of a run.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn create(directory: &Path) -> io::Result<Journal> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(directory.join(FILE))?;
        let mut head = std::fs::read(BOOT).unwrap_or_default();
        head.resize(BOOT_BYTES, 0);
        file.write_all_at(&head, 0)?;
        Ok(Journal(file))
    }

    /// Writes a process down.
    pub(super) fn born(&self, slot: u32, pid: Pid, from: u64) {
        let mut row = [0; ROW];
        row[..8].copy_from_slice(&i64::from(pid.as_raw_nonzero().get()).to_le_bytes());
        row[8..16].copy_from_slice(&from.to_le_bytes());
        row[16..].copy_from_slice(&ticks().to_le_bytes());
        self.put(slot, &row);
    }

    /// A process that is not written down is still found by its marks.
    fn put(&self, slot: u32, bytes: &[u8]) {
        if let Err(error) = self.0.write_all_at(bytes, (BOOT_BYTES + slot as usize * ROW) as u64) {
            tracing::debug!(%error, "a process could not be written down");
        }
    }
}

/// What was written down in the directory of a run; nothing if that was before the machine was started.
pub(super) fn read(directory: &Path) -> Vec<Birth> {
    let Ok(bytes) = std::fs::read(directory.join(FILE)) else { return Vec::new() };
    let mut boot = std::fs::read(BOOT).unwrap_or_default();
    boot.resize(BOOT_BYTES, 0);
    let Some(rows) = bytes.strip_prefix(boot.as_slice()) else { return Vec::new() };
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let rows = rows[..rows.len().min(MOST)].chunks_exact(ROW);
    let births =
        rows.map(|row| Birth { pid: i32::try_from(number(&row[..8])).unwrap_or(0), from: number(&row[8..16]), to: number(&row[16..]) });
    births.filter(|birth| birth.pid > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_ended_or_was_born_at_another_time_is_not_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Journal::create(directory.path()).expect("it is made");
        let me = rustix::process::getpid();
        journal.born(0, me, 0);
        journal.born(2, Pid::from_raw(7).expect("a number"), 5);
        journal.born(2, me, u64::MAX);
        let [birth, later] = read(directory.path())[..] else { panic!("both are found") };
        let process = Process::read(me).expect("it runs");
        assert!(birth.is(&process) && !later.is(&process));
        assert!(!Birth { to: process.start - 2, ..birth }.is(&process), "of that number, but not born then");
    }

    #[test]
    fn numbers_from_before_the_machine_was_started_say_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Journal::create(directory.path()).expect("it is made");
        journal.born(0, rustix::process::getpid(), 0);
        journal.0.write_all_at(b"another", 0).expect("written");
        assert_eq!(read(directory.path()), []);
    }
}
