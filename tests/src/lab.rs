//! A LAN of real nodes on this machine: each host a network namespace with its own address, machine id and data directory.
//! Knows nothing of what nodes promise one another: it starts, asks, cuts and kills them, and hands over what they print.
//! Nothing of a lab outlives it, not even after a panic; what a killed test left behind is swept by the next one.

mod host;
mod system;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use self::host::{Host, Output};

/// As in `scripts/lab`; hosts beyond are called host7, host8 …
const PEOPLE: [&str; 6] = ["nikki", "markus", "ada", "bea", "carl", "dora"];
/// Between two looks at a condition: a look is a process of some milliseconds. Guess.
const LOOK: Duration = Duration::from_millis(20);
/// Last words of each node, printed when a test fails.
const LAST_LINES: usize = 30;

/// Labs of one test process are told apart by a number.
static LABS: AtomicU32 = AtomicU32::new(0);

/// A LAN of hosts; dropping it ends everything on it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    hosts: Vec<Host>,
    directory: TempDir,
}

impl Lab {
    /// Makes a LAN of so many hosts. No node runs yet.
    ///
    /// # Panics
    /// Without root, `ip` or `nft`: says what to install.
    #[must_use]
    pub fn new(count: usize) -> Lab {
        system::require();
        system::sweep();
        let name = format!("{}{}-{}", system::PREFIX, std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::Builder::new().prefix("swarm-lab-").tempdir().expect("a temporary directory can be made");
        let mut lab = Lab { name, hosts: Vec::new(), directory };
        system::add_bridge(&lab.name);
        for number in 1..=count {
            let called = PEOPLE.get(number - 1).map_or_else(|| format!("host{number}"), ToString::to_string);
            lab.hosts.push(Host::new(&lab.name, &called, number, lab.directory.path()));
        }
        lab
    }

    /// All hosts, by the pattern they are bound to: `let [nikki, markus] = lab.hosts();`
    ///
    /// # Panics
    /// If there is another number of them.
    #[must_use]
    pub fn hosts<const N: usize>(&self) -> [&Host; N] {
        let hosts: Vec<&Host> = self.hosts.iter().collect();
        hosts.try_into().expect("as many hosts as the lab was made with")
    }

    /// A name that no other lab of this machine has.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drops multicast on every host, for ever.
    pub fn multicast_off(&self) {
        self.hosts.iter().for_each(Host::multicast_off);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.hosts.clear();
        system::remove(&self.name);
        if thread::panicking() {
            for (node, log) in logs(self.directory.path()) {
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("---- last words of {node}");
                lines.iter().skip(lines.len().saturating_sub(LAST_LINES)).for_each(|line| eprintln!("{line}"));
            }
            return;
        }
        // An error is a bug, or something for an operator to act upon: there is neither in a test that passes.
        for (node, log) in logs(self.directory.path()) {
            let error = log.lines().find(|line| line.contains(" ERROR ") || line.contains("panicked at"));
            assert!(error.is_none(), "{node} said: {}", error.unwrap_or_default());
        }
    }
}

fn logs(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut logs: Vec<_> = entries
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
        .map(|entry| {
            let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap_or_default()).into_owned();
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .collect();
    logs.sort();
    logs
}

/// Looks until the condition holds, and says how long that took.
///
/// # Panics
/// If it does not hold within the bound.
pub fn wait_until(bound: Duration, what: &str, condition: impl FnMut() -> bool) -> Duration {
    look_every(LOOK, bound, what, condition)
}

fn look_every(interval: Duration, bound: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < bound, "not within {bound:?}: {what}");
        thread::sleep(interval);
    }
    began.elapsed()
}
