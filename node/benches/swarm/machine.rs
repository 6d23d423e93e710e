//! The machine under the figures: what it is, how busy it is, what a process costs it.
//! Knows nothing of nodes. Everything is read from /proc, so that nothing needs to be asked for.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

/// What the figures were measured on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    cpu: String,
    kernel: String,
    /// Where the disks of the nodes are.
    directory: PathBuf,
    file_system: String,
    /// Of 1, 5 and 15 minutes, before the first row: others may be building here.
    load_before: String,
    commit: String,
}

impl Machine {
    /// Looks at it; refuses a directory in memory.
    pub(crate) fn look(directory: &Path) -> Machine {
        fs::create_dir_all(directory).expect("the directory can be made");
        let directory = directory.canonicalize().expect("it was just made");
        let file_system = file_system(&directory);
        assert!(file_system != "tmpfs", "{} is in memory: say --dir DIR on a disk", directory.display());
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpus = line("/proc/cpuinfo");
        let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown").to_owned();
        let commit = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu,
            kernel: line("/proc/sys/kernel/osrelease"),
            directory,
            file_system,
            load_before: load(),
            commit: commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cores, cpu, kernel, directory, file_system, load_before, commit } = self;
        writeln!(f, "{cores} x {cpu}, Linux {kernel}, {file_system} at {}", directory.display())?;
        write!(f, "commit {commit}, load average before: {load_before}; all processes of a row share these cores")
    }
}

/// The load averages of 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn file_system(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let under = mounts.filter(|(place, _)| directory.starts_with(place));
    under.max_by_key(|(place, _)| place.len()).map_or("unknown", |(_, kind)| kind).to_owned()
}

/// Nanoseconds of the clock that all processes of this machine share.
pub(crate) fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// CPU time of all living threads of a process, to the nanosecond where /proc/PID/stat has hundredths.
pub(crate) fn cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let spent = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}

/// What a process holds in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident, shared pages counted in full.
    pub(crate) rss: f64,
    /// Only its own.
    pub(crate) private: f64,
}

/// In megabytes (10^6 bytes).
pub(crate) fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process lives");
    let sum = |names: &[&str]| {
        let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        let kib = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kib.sum::<f64>() * 1024.0 / 1e6
    };
    Memory { rss: sum(&["Rss:"]), private: sum(&["Private_Clean:", "Private_Dirty:"]) }
}

/// The value below which a share of all lie; they need not be sorted.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1).expect("something was measured");
    sorted[((last as f64) * share).round() as usize]
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}
