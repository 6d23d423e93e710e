//! Processes under measurement: started, asked line by line, and ended by their own id however a row ends.
//! Knows nothing of what they do with what they are asked. One question is under way to each at a time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;

use crate::child::{Ask, FLAG, Kind, Ready};
use crate::machine;

/// One process.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// When it was started, in nanoseconds.
    pub(crate) began: u64,
}

impl Process {
    /// Starts this very program as something else.
    pub(crate) fn start(kind: &Kind) -> Process {
        let program = std::env::current_exe().expect("a running program has a file");
        let kind = serde_json::to_string(kind).expect("plain");
        let began = machine::nanos();
        let mut child = Command::new(program)
            .args([FLAG, &kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the system starts another process");
        let input = child.stdin.take().expect("asked for");
        let output = BufReader::new(child.stdout.take().expect("asked for"));
        Process { child, input, output, began }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks without waiting for the answer.
    pub(crate) fn tell(&mut self, ask: &Ask) {
        let mut line = serde_json::to_string(ask).expect("plain");
        line.push('\n');
        self.input.write_all(line.as_bytes()).expect("the process lives");
    }

    /// Waits for the answer.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> T {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the process lives");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("process {} ended or failed: {error}: {line:?}", self.pid()))
    }

    /// Asks and waits.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, ask: &Ask) -> T {
        self.tell(ask);
        self.hear()
    }

    /// Ends it as a user would, and waits.
    pub(crate) fn stop(mut self) {
        let _: u64 = self.ask(&Ask::Stop);
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, or not wanted any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node and what it said of itself.
pub(crate) struct Node {
    /// Its process.
    pub(crate) process: Process,
    /// What it said when it was ready.
    pub(crate) ready: Ready,
}

/// Starts a node in a directory of its own below `place`, and waits until it is ready.
pub(crate) fn node(place: &Path, name: &str, peers: &[String]) -> Node {
    let mut process = begin(place, name, peers);
    let ready = process.hear();
    Node { process, ready }
}

/// Starts a node without waiting for it.
pub(crate) fn begin(place: &Path, name: &str, peers: &[String]) -> Process {
    Process::start(&Kind::Node { dir: place.join(name), name: name.to_owned(), peers: peers.to_vec() })
}

/// Two nodes that see each other.
pub(crate) fn pair(place: &Path) -> (Node, Node) {
    let mut ann = node(place, "ann", &[]);
    let mut bea = node(place, "bea", std::slice::from_ref(&ann.ready.address));
    for node in [&mut ann, &mut bea] {
        let _: u64 = node.process.ask(&Ask::Peers { available: 1 });
    }
    (ann, bea)
}
