//! Where a node that nobody looks at says what it says: a file in its directory that does not grow for ever.
//! Knows nothing of what is said. Standard output and standard error are that file from then on.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Its name; what was said before the last turn is beside it, as `node.log.old`.
const FILE: &str = "node.log";
/// It is turned when it is longer (guess: some 100,000 lines).
const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The file.
pub(super) struct Logbook(PathBuf);

impl Logbook {
    /// Away from the terminal that the node was started from: its Ctrl-C and its end are not for this node.
    pub(super) fn leave_terminal() {
        // It leads a session already if somebody saw to that before.
        let _ = rustix::process::setsid();
    }

    /// From now on all that is said goes there. Whoever waited at the other end of standard output sees its end.
    pub(super) fn open(directory: &Path) -> io::Result<Logbook> {
        let logbook = Logbook(directory.join(FILE));
        logbook.take()?;
        Ok(logbook)
    }

    /// Where it is.
    pub(super) fn path(directory: &Path) -> PathBuf {
        directory.join(FILE)
    }

    /// Begins a new one if this one is long enough. A failure leaves everything as it is.
    pub(super) fn turn_if_long(&self) -> io::Result<()> {
        if std::fs::metadata(&self.0)?.len() > BYTES_MAX {
            std::fs::rename(&self.0, self.0.with_extension("log.old"))?;
            self.take()?;
        }
        Ok(())
    }

    fn take(&self) -> io::Result<()> {
        let file: File = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.0)?;
        rustix::stdio::dup2_stdout(&file)?;
        rustix::stdio::dup2_stderr(&file)?;
        Ok(())
    }
}
