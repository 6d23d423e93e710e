//! A process beside the node that outlives it by a moment: when the node has died, however that was, it ends its tasks.
//! Knows nothing of what they are. It reads a pipe that only the node holds, and does nothing until that is closed.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::processes;

/// How this program is told to be the reaper of a run: this word and the directory of the run.
const WORD: &str = "reaper";
/// How long an ending node waits for it (guess: it looks through the processes of a machine once).
const GOODBYE: Duration = Duration::from_secs(1);

/// This process is a node and nothing else.
static ALONE: OnceLock<()> = OnceLock::new();

/// To be called first of all by a program that is a node. If it was started to be a reaper, it is one, and this is its end;
/// else nodes in this process start it again as theirs, and take all children that it adopts for descendants of tasks.
#[must_use]
pub fn be_reaper_if_told() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let told = (words.next(), words.next(), words.next());
    if let (Some(word), Some(directory), None) = told
        && word == WORD
        && Path::new(&directory).is_absolute()
    {
        reap(Path::new(&directory));
        return Some(ExitCode::SUCCESS);
    }
    // It may be called only once, but more often does not hurt.
    let _ = ALONE.set(());
    None
}

/// Whether [`be_reaper_if_told`] was called.
pub(super) fn is_alone() -> bool {
    ALONE.get().is_some()
}

fn reap(directory: &Path) {
    let mut nothing = [0; 64];
    while matches!(io::stdin().read(&mut nothing), Ok(1..)) {}
    let found = processes::end_leftovers(directory);
    if found > 0 {
        eprintln!("the node has died: {found} processes of its tasks were ended");
    }
}

/// The program that is started as a reaper: this one, even if its file was replaced meanwhile.
pub(super) fn this_program() -> PathBuf {
    "/proc/self/exe".into()
}

/// A reaper that waits.
#[derive(Debug)]
pub(super) struct Reaper {
    child: Child,
    /// Tells when it has gone.
    pub(super) handle: OwnedFd,
}

impl Reaper {
    /// Starts one for the run of this directory.
    ///
    /// # Errors
    /// The system refuses a process.
    pub(super) fn start(program: &Path, directory: &Path) -> io::Result<Reaper> {
        let words: [OsString; 2] = [WORD.into(), directory.into()];
        let child = Command::new(program)
            .args(words)
            // Neither Ctrl-C at a terminal nor a directory that shall be unmounted concerns it.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Reaper { child, handle })
    }

    /// It ended, though nobody told it to: asks how, so that nothing stays of it.
    pub(super) fn bury(mut self) {
        let how = self.child.wait();
        tracing::warn!(?how, "the reaper has ended; another one is started");
    }

    /// The node ends in order, and so does it.
    pub(super) fn end(mut self) {
        drop(self.child.stdin.take());
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begin.elapsed() < GOODBYE {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
