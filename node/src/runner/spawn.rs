//! Starting a program: its argument vector, its environment, its directory, what it reads and where it writes.
//! Knows nothing of when, and nothing of its end. No shell is involved, and nothing runs between fork and exec.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use protocol::config::limits;
use protocol::service::Program;
use rustix::fs::{Access, MemfdFlags, OFlags, SealFlags, access, fcntl_add_seals, fcntl_setfl, memfd_create};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, kill_process_group, pidfd_open, prlimit, waitpid};

use super::journal::{Journal, ticks};
use super::processes::{MARK, Marks};
use super::{Start, directory};

/// Where programs are looked for if the node has no PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The language of programs if the node has none.
const LANG: &str = "C.UTF-8";

/// What all programs of a run of the node are started with.
#[derive(Debug)]
pub(super) struct Ground {
    directory: PathBuf,
    marks: Marks,
    journal: Journal,
    path: OsString,
    lang: OsString,
    /// Open files that a program is allowed, if that is less than this node is allowed.
    files: Option<Rlimit>,
}

/// A program that runs.
#[derive(Debug)]
pub(super) struct Started {
    /// It leads a process group of that number.
    pub(super) pid: Pid,
    /// Tells when it has ended.
    pub(super) handle: Arc<OwnedFd>,
    /// Reading these never waits.
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) at: Instant,
}

impl Ground {
    /// In the directory of a run, which exists; it is absolute.
    ///
    /// # Errors
    /// Its journal cannot be made.
    pub(super) fn new(directory: PathBuf, files: Option<Rlimit>) -> io::Result<Ground> {
        let of_node =
            |name: &str, default: &str| std::env::var_os(name).filter(|value| !value.is_empty()).unwrap_or_else(|| default.into());
        Ok(Ground {
            marks: Marks::new(&directory),
            journal: Journal::create(&directory)?,
            directory,
            path: of_node("PATH", PATH),
            lang: of_node("LANG", LANG),
            files,
        })
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The directory of that number.
    pub(super) fn own(&self, place: u64) -> PathBuf {
        self.directory.join(place.to_string())
    }

    /// Starts a program and writes it down.
    ///
    /// # Errors
    /// A sentence that says why it could not be started. No process is left; its directory may be.
    pub(super) fn start(&self, start: &Start) -> Result<Started, String> {
        let Start { number, slot, place, run } = start;
        let (number, slot) = (*number, *slot);
        let own = self.own(*place);
        directory::of_try(&own).map_err(|error| format!("no directory for it could be made: {error}"))?;
        let Program::Command(words) = &run.program else { return Err("it is no command".to_owned()) };
        let Some((name, first)) = words.split_first() else { return Err("the offer names no program".to_owned()) };
        let program = self.find(name)?;
        let stdin = match &run.stdin {
            None => Stdio::null(),
            Some(bytes) => readable(bytes).map_err(|error| format!("its input could not be kept: {error}"))?.into(),
        };
        let from = ticks();
        let mut child = Command::new(&program)
            .arg0(name)
            .args(first)
            .args(&run.args)
            .env_clear()
            .env("PATH", &self.path)
            .env("LANG", &self.lang)
            .env("HOME", &own)
            .env("TMPDIR", &own)
            .env("SWARM_ORDER", run.task.order.number.to_string())
            .env("SWARM_UNIT", run.task.unit.to_string())
            .env("SWARM_ATTEMPT", run.task.attempt.number.to_string())
            .env("SWARM_ORDERER", run.orderer.as_ref().map_or_else(|| run.task.order.orderer.to_string(), ToString::to_string))
            .env(MARK, self.marks.value(number))
            .current_dir(&own)
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| sentence(name, &program, &error))?;
        let at = Instant::now();
        let pid = Pid::from_child(&child);
        self.journal.born(slot, pid, from);
        if let Some(files) = self.files {
            // Programs that count on the usual number break with more, those that want more ask for it.
            let _ = prlimit(Some(pid), Resource::Nofile, files);
        }
        let outputs = child.stdout.take().map(OwnedFd::from).zip(child.stderr.take().map(OwnedFd::from));
        watchable(pid, outputs).map(|(handle, [stdout, stderr])| Started { pid, handle, stdout, stderr, at }).map_err(|error| {
            give_up(pid);
            format!("{name} could not be watched: {error}")
        })
    }

    /// The file that a name means. Were it looked for by who starts it, that would cost a fork.
    fn find(&self, name: &str) -> Result<PathBuf, String> {
        let runs = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
        if name.starts_with('/') {
            return Ok(name.into());
        }
        if name.is_empty() || name.contains('/') {
            return Err(short(format!("{name:?} is neither the name of a program nor a path from the root: offer the whole path")));
        }
        let places = self.path.as_bytes().split(|byte| *byte == b':').filter(|place| place.starts_with(b"/"));
        let mut files = places.map(|place| Path::new(OsStr::from_bytes(place)).join(name));
        files.find(|file| runs(file)).ok_or_else(|| short(format!("{name} is not installed: it is not in {}", self.path.to_string_lossy())))
    }
}

/// What a program is watched by.
fn watchable(pid: Pid, outputs: Option<(OwnedFd, OwnedFd)>) -> io::Result<(Arc<OwnedFd>, [OwnedFd; 2])> {
    let outputs: [OwnedFd; 2] = outputs.ok_or(io::ErrorKind::BrokenPipe)?.into();
    outputs.iter().try_for_each(|output| fcntl_setfl(output, OFlags::NONBLOCK))?;
    Ok((Arc::new(pidfd_open(pid, PidfdFlags::empty())?), outputs))
}

/// Ends a program that cannot be watched. It cannot ignore that, and so this does not take long.
pub(super) fn give_up(pid: Pid) {
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = waitpid(Some(pid), WaitOptions::empty());
}

/// Bytes as an open file that nobody can change: a pipe would have to be filled while the program runs.
fn readable(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create("stdin", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    file.rewind()?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

/// Why a program could not be started, for who ordered it.
fn sentence(name: &str, program: &Path, error: &io::Error) -> String {
    let there = program.exists();
    let why = match error.kind() {
        io::ErrorKind::NotFound if there => "the interpreter that its first line names is not installed".to_owned(),
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied if program.is_dir() => "it is a directory".to_owned(),
        io::ErrorKind::PermissionDenied => "it may not be run by the node's user".to_owned(),
        io::ErrorKind::ArgumentListTooLong => "its arguments are too long for this system".to_owned(),
        io::ErrorKind::InvalidInput => "an argument holds a NUL byte".to_owned(),
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            "it is neither a program of this machine nor a script with a first line like #!/bin/sh".to_owned()
        }
        _ => error.to_string(),
    };
    short(format!("{name}: {why}"))
}

/// What fits a report.
pub(super) fn short(mut text: String) -> String {
    let end = (0..=limits::WHY_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}
