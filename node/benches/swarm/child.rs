//! A process under measurement: a node, a bare network, or an echo. It does what it is asked, one line after another.
//! Knows nothing of rows. It ends when its input ends, so that none outlives the benchmark.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use node::driver::Fact;
use node::net::{self, Net};
use node::node::{Node, Settings, start};
use protocol::envelope::Payload;
use protocol::input::NewLetter;
use protocol::{Answer, Command, Notice, Status};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::machine::nanos;

/// The option by which this program knows that it is a child.
pub(crate) const FLAG: &str = "--child";
/// Time between two looks at something that has no event.
const LOOK: Duration = Duration::from_millis(2);

/// What to be.
#[derive(Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A whole node.
    Node { dir: PathBuf, name: String, peers: Vec<String> },
    /// Its network alone, which sends every frame back.
    Network,
    /// A TCP socket that sends everything back.
    Tcp,
}

/// What a child says first.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Where it listens.
    pub(crate) address: String,
    /// When it could answer a question.
    pub(crate) at: u64,
}

/// What a node is asked. Every answer but that to `OneByOne` and `Shown` is the moment at which it was so.
#[derive(Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Until it lists this many others as available.
    Peers { available: usize },
    /// To write letters, at most `window` of them unanswered: until all are accepted.
    Write { to: Vec<String>, letters: u64, bytes: usize, window: usize },
    /// Until everything it wrote is receipted.
    Receipted,
    /// To write letters, each after the last is receipted: [`Single`]s.
    OneByOne { to: String, letters: u64, bytes: usize },
    /// The latencies in nanoseconds of the letters of `OneByOne` that were shown here.
    Shown { letters: u64 },
    /// Ends.
    Stop,
}

/// What became of one letter, in nanoseconds after it was asked for.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Single {
    /// On the author's disk.
    pub(crate) accepted: u64,
    /// Signed for by the recipient.
    pub(crate) receipted: u64,
}

/// Is what the first argument says.
pub(crate) fn main(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let kind = arguments.next().expect("a child is told what to be");
    match serde_json::from_str(&kind).expect("written by `Process::start`") {
        Kind::Node { dir, name, peers } => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
            runtime.block_on(be_node(dir, name, peers));
        }
        Kind::Network => echo_frames(),
        Kind::Tcp => echo_bytes(),
    }
    ExitCode::SUCCESS
}

fn say(value: &impl Serialize) {
    let mut line = serde_json::to_string(value).expect("plain");
    line.push('\n');
    // Whoever asked may have been interrupted: then the end of input ends us.
    let _ = std::io::stdout().write_all(line.as_bytes());
}

/// Lines of standard input, read on a thread of their own; ends with the input.
fn lines() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn be_node(dir: PathBuf, name: String, peers: Vec<String>) {
    std::fs::create_dir_all(dir.parent().expect("below the bench's own")).expect("a directory");
    let settings = Settings {
        directory: dir,
        name: name.parse().expect("a name"),
        swarm: Some("bench".to_owned()),
        swarm_key: None,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")],
        peers: peers.iter().map(|address| address.parse().expect("a multiaddr")).collect(),
        mdns: false,
        start_over: false,
    };
    let node = start(settings).await.expect("the node starts");
    let _ = status(&node).await;
    let at = nanos();
    let mut notices = node.notices.subscribe();
    let address = loop {
        if let Some(address) = status(&node).await.addresses.pop() {
            break address;
        }
        tokio::time::sleep(LOOK).await;
    };
    say(&Ready { address, at });
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        match serde_json::from_str(&line).expect("written by `Process::tell`") {
            Ask::Peers { available } => {
                let mut notices = node.notices.subscribe();
                while status(&node).await.peers.iter().filter(|peer| peer.available).count() != available {
                    // Something happened, or it is time to look anyway.
                    let _ = tokio::time::timeout(Duration::from_millis(100), notices.recv()).await;
                }
                say(&nanos());
            }
            Ask::Write { to, letters, bytes, window } => {
                write(&node, &to, letters, bytes, window).await;
                say(&nanos());
            }
            Ask::Receipted => {
                while status(&node).await.outbox_letters > 0 {
                    tokio::time::sleep(LOOK).await;
                }
                say(&nanos());
            }
            Ask::OneByOne { to, letters, bytes } => say(&one_by_one(&node, &to, letters, bytes).await),
            Ask::Shown { letters } => say(&shown(&mut notices, letters).await),
            Ask::Stop => {
                node.stop().await.expect("the disk is well");
                say(&nanos());
                return;
            }
        }
    }
}

async fn status(node: &Node) -> Status {
    node.status().await.expect("the driver runs")
}

fn letter(to: &[String], text: String) -> Command {
    Command::Send(NewLetter {
        to: to.iter().map(|name| name.parse().expect("a name")).collect(),
        kind: "message".to_owned(),
        payload: Payload::Text(text),
        in_reply_to: None,
        key: None,
        later: false,
    })
}

async fn ask(facts: &mpsc::Sender<Fact>, command: Command) -> oneshot::Receiver<Answer> {
    let (reply, answer) = oneshot::channel();
    facts.send(Fact::Asked { command, reply }).await.expect("the driver runs");
    answer
}

fn accepted(answer: Answer) {
    assert!(matches!(answer, Answer::Accepted { repeated: false, .. }), "{answer:?}");
}

async fn write(node: &Node, to: &[String], letters: u64, bytes: usize, window: usize) {
    let facts = node.facts();
    let mut answers = std::collections::VecDeque::new();
    for number in 0..letters {
        if answers.len() >= window
            && let Some(answer) = answers.pop_front()
        {
            let answer: oneshot::Receiver<Answer> = answer;
            accepted(answer.await.expect("the driver runs"));
        }
        let mut text = format!("letter {number} ");
        text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
        answers.push_back(ask(&facts, letter(to, text)).await);
    }
    for answer in answers {
        accepted(answer.await.expect("the driver runs"));
    }
}

async fn one_by_one(node: &Node, to: &str, letters: u64, bytes: usize) -> Vec<Single> {
    let (facts, to) = (node.facts(), vec![to.to_owned()]);
    let mut notices = node.notices.subscribe();
    let mut singles = Vec::new();
    for _ in 0..letters {
        let began = nanos();
        let mut text = format!("{began} ");
        text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
        accepted(ask(&facts, letter(&to, text)).await.await.expect("the driver runs"));
        let on_disk = nanos();
        while !matches!(notices.recv().await, Ok(Notice::Receipted { .. })) {}
        singles.push(Single { accepted: on_disk - began, receipted: nanos() - began });
    }
    singles
}

async fn shown(notices: &mut broadcast::Receiver<Notice>, letters: u64) -> Vec<u64> {
    let mut latencies = Vec::new();
    while (latencies.len() as u64) < letters {
        let notice = notices.recv().await.expect("letters come one by one");
        let at = nanos();
        if let Notice::LetterShown { preview, .. } = notice
            && let Some(began) = preview.split(' ').next().and_then(|began| began.parse::<u64>().ok())
        {
            latencies.push(at - began);
        }
    }
    latencies
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
    // The end of input is the end.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    while let Some(event) = receiver.blocking_recv() {
        match event {
            net::Event::Listening { address } => say(&Ready { address: Multiaddr::to_string(&address), at: nanos() }),
            net::Event::Frame { from, lane, frame } => drop(net.try_send(net::Command::Send { to: from, lane, frame })),
            _ => {}
        }
    }
}

fn echo_bytes() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    say(&Ready { address: listener.local_addr().expect("bound").to_string(), at: nanos() });
    let (mut stream, _): (TcpStream, _) = listener.accept().expect("somebody comes");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = stream.read(&mut buffer) {
        if read == 0 || stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}
