//! The binary under test: nodes that run, and commands that speak to them. Over loopback, without multicast.
#![allow(dead_code, missing_docs, unreachable_pub)] // Each test binary uses some of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

/// Longer than anything here should take, even on a busy machine.
pub const BOUND: Duration = Duration::from_secs(20);

pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begin.elapsed() < BOUND, "waited {BOUND:?} for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Nothing of the caller's own swarm gets in.
pub fn node(data_dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SWARM_")) {
        command.env_remove(variable);
    }
    command.args(words).arg("--data-dir").arg(data_dir).stdin(Stdio::null());
    command
}

pub fn run(data_dir: &Path, name: &str) -> Command {
    let mut command = node(data_dir, &["run", "--name", name, "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A process that does not outlive its test.
pub struct Running(pub Child);

impl Running {
    pub fn new(mut command: Command) -> Running {
        Running(command.spawn().expect("the program starts"))
    }

    pub fn ended(&mut self) -> ExitStatus {
        until("the process ends", || self.0.try_wait().expect("it is our child"))
    }

    /// How it ended, and all that it said on stderr.
    pub fn last_words(mut self) -> (Option<i32>, String) {
        let status = self.ended();
        let mut text = String::new();
        self.0.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
        (status.code(), text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node that runs.
pub struct Node {
    pub process: Running,
    pub dir: PathBuf,
    _base: TempDir,
}

impl Node {
    pub fn start(name: &str) -> Node {
        let base = tempfile::tempdir().expect("a directory for the test");
        let dir = base.path().join(name);
        let process = Running::new(run(&dir, name));
        let node = Node { process, dir, _base: base };
        until("it answers", || node.ask(&["status"]).status.success().then_some(()));
        node
    }

    pub fn ask(&self, words: &[&str]) -> Output {
        node(&self.dir, words).output().expect("the program starts")
    }

    /// The exit code, stdout and stderr.
    pub fn says(&self, words: &[&str]) -> (Option<i32>, String, String) {
        told(&self.ask(words))
    }

    pub fn spawn(&self, words: &[&str]) -> Running {
        let mut command = node(&self.dir, words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::new(command)
    }

    /// Puts this into the command's pipe and closes it.
    pub fn fed(&self, words: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
        fed(self.spawn(words), input)
    }

    pub fn address(&self) -> String {
        until("it listens", || {
            let (_, status, _) = self.says(&["status", "--json"]);
            let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
            status["addresses"][0].as_str().map(str::to_owned)
        })
    }
}

pub fn fed(mut process: Running, input: &[u8]) -> (Option<i32>, String, String) {
    process.0.stdin.take().expect("piped").write_all(input).expect("it reads");
    process.ended();
    let mut text = [String::new(), String::new()];
    process.0.stdout.take().expect("piped").read_to_string(&mut text[0]).expect("text");
    process.0.stderr.take().expect("piped").read_to_string(&mut text[1]).expect("text");
    let [out, err] = text;
    (process.ended().code(), out, err)
}

pub fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// All that a node says on standard output until it is ready.
pub fn banner(mut command: Command) -> (Running, String) {
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Running::new(command);
    let mut lines = BufReader::new(process.0.stdout.take().expect("piped")).lines();
    let mut text = String::new();
    while !text.contains("  ready; ") {
        text += &lines.next().expect("it becomes ready").expect("text");
        text.push('\n');
    }
    // What it says later is read by nobody, and is no reason to end.
    (process, text)
}

/// Two nodes that know each other.
pub fn pair() -> (Node, Node) {
    let (ann, bea) = (Node::start("ann"), Node::start("bea"));
    let (code, _, said) = ann.says(&["connect", &bea.address()]);
    assert_eq!(code, Some(0), "{said}");
    (ann, bea)
}

/// A terminal: where it is read and typed, and what programs have of it.
pub fn terminal() -> (OwnedFd, std::fs::File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
    let place = ptsname(&master, Vec::new()).expect("it has a name").into_string().expect("text");
    let end = std::fs::OpenOptions::new().read(true).write(true).open(&place).expect("it is ours");
    (master, end)
}
