//! Processes as `/proc` shows them: which belong to tasks, by what they inherited, and an end to all of those.
//! Knows nothing of tries beyond their numbers. Never touches this process or its ancestors.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::journal::{self, Birth};

/// In the environment of every process of a task: the run of the node and the number of the try, as `RUN.NUMBER`.
pub(super) const MARK: &str = "SWARM_TASK";
/// Bytes of an environment that are looked through (Linux gives a program at most a quarter of its stack of 8 MiB).
const ENVIRONMENT: u64 = 2 * 1024 * 1024;
/// How long the processes of a node that died are hunted (guess: a kill takes milliseconds; one that waits for a disk longer).
const HUNT: Duration = Duration::from_secs(10);
/// Between two looks while some are left, doubling up to the second (guess).
const LOOK: Duration = Duration::from_millis(5);
const LOOK_MOST: Duration = Duration::from_millis(200);

/// One line of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// In clock ticks since the machine was started.
    pub(super) start: u64,
    /// It has ended, and nobody has asked how.
    pub(super) zombie: bool,
}

impl Process {
    /// None if it has gone.
    pub(super) fn read(pid: Pid) -> Option<Process> {
        let text = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        Process::parse(pid, &text)
    }

    /// The name in it may hold anything, also brackets and spaces: what follows the last bracket counts.
    fn parse(pid: Pid, text: &[u8]) -> Option<Process> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<i32>().ok();
        Some(Process {
            pid,
            parent: number(1)?,
            group: number(2)?,
            session: number(3)?,
            start: fields.get(19)?.parse().ok()?,
            zombie: matches!(*fields.first()?, "Z" | "X"),
        })
    }

    /// All that there are.
    pub(super) fn all() -> Vec<Process> {
        let Ok(directory) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = directory.filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?));
        pids.filter_map(Process::read).collect()
    }
}

/// Children of this process that it did not start: what descendants that ended have left behind, as it is their subreaper.
/// Those are given to the main thread; what other threads have started is not among them.
#[derive(Debug)]
pub(super) struct Adopted {
    /// None with a kernel that does not have it.
    list: Option<File>,
}

impl Adopted {
    pub(super) fn open() -> Adopted {
        let me = rustix::process::getpid().as_raw_nonzero();
        Adopted { list: File::open(format!("/proc/self/task/{me}/children")).ok() }
    }

    /// Those that there are now.
    pub(super) fn read(&mut self) -> Vec<Pid> {
        let mut text = String::new();
        let read = self.list.as_mut().is_some_and(|list| list.rewind().and_then(|()| list.read_to_string(&mut text)).is_ok());
        if !read {
            let me = rustix::process::getpid().as_raw_nonzero().get();
            return Process::all().into_iter().filter(|process| process.parent == me).map(|process| process.pid).collect();
        }
        text.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }
}

/// What the processes of one run of a node have inherited: a word in their environment, and a directory.
#[derive(Debug)]
pub(super) struct Marks {
    token: String,
    directory: PathBuf,
}

impl Marks {
    /// Of the run whose directory this is; its last part names the run.
    pub(super) fn new(directory: &Path) -> Marks {
        let token = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Marks { token, directory: directory.to_path_buf() }
    }

    /// The value of [`MARK`] for a try.
    pub(super) fn value(&self, number: u64) -> String {
        format!("{}.{number}", self.token)
    }

    /// Of which try a process is, if it says so: by its environment, or else by the directory that it is in.
    pub(super) fn of(&self, pid: Pid, in_place: impl Fn(u64) -> u64) -> Option<u64> {
        self.by_environment(pid).or_else(|| self.by_directory(pid).map(in_place))
    }

    fn by_environment(&self, pid: Pid) -> Option<u64> {
        let mut text = Vec::new();
        File::open(format!("/proc/{}/environ", pid.as_raw_nonzero())).ok()?.take(ENVIRONMENT).read_to_end(&mut text).ok()?;
        let value = text.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))?;
        std::str::from_utf8(value).ok()?.strip_prefix(&self.token)?.strip_prefix('.')?.parse().ok()
    }

    fn by_directory(&self, pid: Pid) -> Option<u64> {
        let at = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())).ok()?;
        let first = at.strip_prefix(&self.directory).ok()?.components().next()?;
        // A directory that was removed is called "12 (deleted)".
        let digits = OsStr::as_bytes(first.as_os_str()).split(|byte| !byte.is_ascii_digit()).next()?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

/// Ends every process that a run of a node has left behind: those in its journal with their groups, those that carry its
/// marks, and the descendants of all these. Returns how many were found; it takes up to ten seconds while some do not die.
pub(super) fn end_leftovers(directory: &Path) -> usize {
    let marks = Marks::new(directory);
    let births = journal::read(directory);
    let (begin, mut found, mut pause) = (Instant::now(), BTreeSet::new(), LOOK);
    loop {
        let left = kill_leftovers(&marks, &births);
        if left.is_empty() || begin.elapsed() > HUNT {
            return found.len();
        }
        found.extend(left);
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK_MOST);
    }
}

fn kill_leftovers(marks: &Marks, births: &[Birth]) -> Vec<i32> {
    let all = Process::all();
    let find = |pid: i32| all.iter().find(|process| process.pid.as_raw_nonzero().get() == pid);
    let mut spared = BTreeSet::new();
    let mut next = rustix::process::getpid().as_raw_nonzero().get();
    while next > 0 && spared.insert(next) {
        next = find(next).map_or(0, |process| process.parent);
    }
    // Its number alone says nothing: only who was born then is who was written down. While it lives, or is not yet waited
    // for, its group and its session are its own.
    let leaders: BTreeSet<i32> = births
        .iter()
        .filter_map(|birth| find(birth.pid).filter(|process| birth.is(process)))
        .map(|of| of.pid.as_raw_nonzero().get())
        .collect();
    let belongs = |process: &Process| {
        leaders.contains(&process.group) || leaders.contains(&process.session) || marks.of(process.pid, |place| place).is_some()
    };
    let mut theirs: BTreeSet<i32> = all.iter().filter(|process| belongs(process)).map(|of| of.pid.as_raw_nonzero().get()).collect();
    loop {
        let before = theirs.len();
        let children = all.iter().filter(|process| theirs.contains(&process.parent)).map(|process| process.pid.as_raw_nonzero().get());
        let children: Vec<i32> = children.collect();
        theirs.extend(children);
        if theirs.len() == before {
            break;
        }
    }
    let mut left = Vec::new();
    for process in &all {
        let pid = process.pid.as_raw_nonzero().get();
        if theirs.contains(&pid) && !process.zombie && !spared.contains(&pid) {
            // Who has gone meanwhile, or may not be killed, is seen the next time.
            let _ = kill_process(process.pid, Signal::KILL);
            left.push(pid);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_hide_a_parent() {
        let pid = Pid::from_raw(42).expect("a number");
        let text = b"42 (a ) S 1 (x) Z 7 8 9 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 123456 0 0";
        let read = Process::parse(pid, text).expect("a line");
        assert_eq!((read.parent, read.group, read.session, read.start, read.zombie), (7, 8, 9, 123_456, true));
        assert_eq!(Process::parse(pid, b"42 (a"), None);
    }

    #[test]
    fn this_process_is_found_with_its_parent() {
        let me = Process::read(rustix::process::getpid()).expect("it runs");
        let parent = rustix::process::getppid().expect("a parent");
        assert_eq!(me.parent, parent.as_raw_nonzero().get());
        assert!(!me.zombie);
        assert!(me.start > 0 && me.start <= journal::ticks());
    }
}
