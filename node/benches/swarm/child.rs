//! A process of the floors: a bare network or a socket, which send back what they get.
//! Knows nothing of nodes. It ends when its input ends, so that none outlives the benchmark.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, ExitCode, Stdio};

use libp2p::identity::Keypair;
use node::net::{self, Net};
use tokio::sync::mpsc;

use crate::machine::nanos;

/// The option by which this program knows that it is a child.
pub(crate) const FLAG: &str = "--child";
/// What it is then: the network of a node …
pub(crate) const NETWORK: &str = "network";
/// … or a socket.
pub(crate) const TCP: &str = "tcp";

/// The other end of a child.
pub(crate) struct Echo {
    child: Child,
    /// When it was started, in nanoseconds.
    pub(crate) began: u64,
    /// When it listened.
    pub(crate) ready: u64,
    /// Where.
    pub(crate) address: String,
}

impl Echo {
    /// Starts this very program as one of the above, and waits until it listens.
    pub(crate) fn start(kind: &str) -> Echo {
        let program = std::env::current_exe().expect("a running program has a file");
        let began = nanos();
        let mut child = Command::new(program)
            .args([FLAG, kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the system starts a process");
        let mut line = String::new();
        let output = child.stdout.take().expect("asked for");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let (ready, address) = line.trim().split_once(' ').expect("written by `listens`");
        Echo { child, began, ready: ready.parse().expect("a number"), address: address.to_owned() }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is what the first argument says.
pub(crate) fn main(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    match arguments.next().as_deref() {
        Some(NETWORK) => echo_frames(),
        Some(TCP) => echo_bytes(),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn listens(address: impl std::fmt::Display) {
    println!("{} {address}", nanos());
}

/// A network without a node.
pub(crate) fn bare(events: mpsc::Sender<net::Event>) -> Net {
    let config = net::Config {
        keypair: Keypair::generate_ed25519(),
        swarm_name: "bench".to_owned(),
        swarm_key: None,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")],
        mdns: false,
        remembered: Vec::new(),
        limits: net::Limits::default(),
    };
    Net::start(config, events).expect("the network starts")
}

fn echo_frames() {
    let (events, mut receiver) = mpsc::channel(256);
    let net = bare(events);
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    while let Some(event) = receiver.blocking_recv() {
        match event {
            net::Event::Listening { address } => listens(address),
            net::Event::Frame { from, lane, frame } => drop(net.try_send(net::Command::Send { to: from, lane, frame })),
            _ => {}
        }
    }
}

fn echo_bytes() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listens(listener.local_addr().expect("bound"));
    let (mut stream, _) = listener.accept().expect("somebody comes");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = stream.read(&mut buffer) {
        if read == 0 || stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}
