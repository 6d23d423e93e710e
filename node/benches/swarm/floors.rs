//! What the machine and the libraries reach without us: disk, database, signatures, wire.
//! Knows nothing of letters but their size. Held against in the same run, so that a busy machine is busy for both.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use node::net::{self, Lane};
use protocol::bundle::{self, Draft, Secrets};
use protocol::contact::Contact;
use protocol::envelope::{Envelope, Payload};
use protocol::id::MachineId;
use protocol::sign::Signed;
use protocol::{Epoch, LetterId, Timestamp};
use redb::{Database, Durability, TableDefinition};
use serde_bytes::ByteArray;
use tokio::sync::mpsc;

use crate::child::{Echo, NETWORK, TCP, bare};
use crate::machine::{self, median, quantile};
use crate::rows::Bench;
use crate::table::Figure;

/// Bytes of a letter's text everywhere in this benchmark.
pub(crate) const TEXT: usize = 256;
/// Round trips of one run (each well below a millisecond).
const TRIPS: usize = 2000;
const SWARM: &str = "bench";

fn seconds(of: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    of();
    begin.elapsed().as_secs_f64()
}

/// How long each of `times` takes, in microseconds.
fn each(times: usize, mut of: impl FnMut()) -> Vec<f64> {
    (0..times).map(|_| seconds(&mut of) * 1e6).collect()
}

/// Appends of 4 KiB, each flushed.
pub(crate) fn disk(bench: &mut Bench) -> Vec<Figure> {
    let runs = bench.repeat(|place| {
        let mut file = File::create(place.join("appended")).expect("a file");
        let page = [7; 4096];
        each(1000, || {
            file.write_all(&page).expect("the disk has room");
            file.sync_data().expect("the disk is well");
        })
    });
    vec![
        Figure::new(
            "disk",
            "append 4 KiB + fdatasync",
            "flushes/s",
            runs.iter().map(|run| 1e6 * run.len() as f64 / run.iter().sum::<f64>()).collect(),
        ),
        Figure::new("disk", "append 4 KiB + fdatasync, p50", "us", runs.iter().map(|run| median(run)).collect()),
        Figure::new("disk", "append 4 KiB + fdatasync, p99", "us", runs.iter().map(|run| quantile(run, 0.99)).collect()),
    ]
}

/// Commits of rows of 256 B, sequential keys, in the mode of DESIGN 9.
pub(crate) fn redb(bench: &mut Bench) -> Vec<Figure> {
    let mut figures = Vec::new();
    let sizes = [
        (1, 500, "1 row a commit", "1 row a commit, p50"),
        (100, 300, "100 rows a commit", "100 rows a commit, p50"),
        (1000, 100, "1,000 rows a commit", "1,000 rows a commit, p50"),
    ];
    for (rows, commits, rate, middle) in sizes {
        let runs = bench.repeat(|place| commit(place, rows, commits));
        let per_second = |run: &Vec<f64>| 1e6 * (rows as f64) * run.len() as f64 / run.iter().sum::<f64>();
        figures.push(Figure::new("redb", rate, "rows/s", runs.iter().map(per_second).collect()));
        figures.push(Figure::new("redb", middle, "us", runs.iter().map(|run| median(run)).collect()));
    }
    figures
}

/// Rows a second at 1,000 a commit, now; and the file is gone.
pub(crate) fn rows_now(place: &Path) -> f64 {
    let commits = commit(place, 1000, 60);
    1e9 * commits.len() as f64 / commits.iter().sum::<f64>()
}

/// What one commit of one row takes, now, in microseconds; and the file is gone.
pub(crate) fn commit_now(place: &Path) -> f64 {
    median(&commit(place, 1, 200))
}

/// What each commit takes, in microseconds.
fn commit(place: &Path, rows: u64, commits: usize) -> Vec<f64> {
    const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("rows");
    let mut builder = Database::builder();
    builder.set_cache_size(16 << 20);
    let file = place.join("floor.redb");
    let database = builder.create(&file).expect("a database");
    let mut key = 0;
    let took = each(commits, || {
        let mut txn = database.begin_write().expect("the only writer");
        txn.set_durability(Durability::Immediate).expect("no savepoints");
        txn.set_quick_repair(true);
        {
            let mut table = txn.open_table(TABLE).expect("a table");
            for _ in 0..rows {
                key += 1;
                table.insert(key, [key as u8; TEXT].as_slice()).expect("the disk has room");
            }
        }
        txn.commit().expect("the disk is well");
    });
    drop(database);
    std::fs::remove_file(file).expect("just made");
    took
}

/// Public-key operations, by letter and by bundle.
pub(crate) fn crypto(bench: &mut Bench) -> Vec<Figure> {
    let (me, other) = (Secrets::from_seeds(&[1; 32], &[2; 32]), Secrets::from_seeds(&[3; 32], &[4; 32]));
    let hash = [7; 32];
    let signature = me.signing.sign(&hash).expect("Ed25519 signs all");
    let public = me.signing.public();
    let (one, full) = (draft(&me, &other, 1), draft(&me, &other, 64));
    let card = Signed::new(&me.signing, SWARM, &one.contact);
    let seal = |draft: &Draft| bundle::seal(&me, SWARM, draft, card.clone()).expect("a good key");
    let (one_sealed, full_sealed) = (seal(&one), seal(&full));
    let times = |count: usize, of: &dyn Fn()| bench.repeat(|_| median(&each(count, of)));
    let figure = |what: &str, runs| Figure::new("crypto", what, "us", runs);
    vec![
        figure("Ed25519 sign", times(2000, &|| drop(me.signing.sign(&hash)))),
        figure("Ed25519 verify", times(2000, &|| assert!(public.verify(&hash, &signature)))),
        figure("sign and seal a bundle of 1 x 256 B", times(500, &|| drop(seal(&one)))),
        figure("open and verify a bundle of 1 x 256 B", times(500, &|| drop(bundle::open(&other, SWARM, &one_sealed).expect("ours")))),
        figure("sign and seal a bundle of 64 x 256 B", times(200, &|| drop(seal(&full)))),
        figure("open and verify a bundle of 64 x 256 B", times(200, &|| drop(bundle::open(&other, SWARM, &full_sealed).expect("ours")))),
    ]
}

fn contact(of: &Secrets) -> Contact {
    Contact {
        id: of.id(),
        name: "ann".parse().expect("a name"),
        machine: MachineId::new([0; 16]),
        suite: bundle::SUITE,
        encryption_key: ByteArray::new(of.encryption_key()),
        key: of.key_id(),
        addresses: vec!["/ip4/127.0.0.1/tcp/6174".to_owned()],
        sequence: 1,
    }
}

fn draft(from: &Secrets, to: &Secrets, letters: u64) -> Draft {
    let envelopes = (1..=letters).map(|seq| Envelope {
        kind: "message".to_owned(),
        author: from.id(),
        recipients: vec![to.id()],
        payload: Payload::Text("x".repeat(TEXT)),
        timestamp: Timestamp(1),
        id: LetterId::new([seq as u8; 16]),
        seq: Some(seq),
        in_reply_to: None,
    });
    Draft {
        number: 1,
        to: contact(to),
        contact: contact(from),
        epoch: Epoch(1),
        floor: 1,
        envelopes: envelopes.collect(),
        withdrawal: [5; 32],
        seed: [6; 32],
    }
}

/// Round trips between two processes, and what a network without a node costs.
pub(crate) fn net(bench: &mut Bench) -> Vec<Figure> {
    let tcp = bench.repeat(|_| tcp_trips());
    let bare: Vec<Bare> = bench.repeat(|_| network());
    let of = |what: &str, unit, value: fn(&Bare) -> f64| Figure::new("net", what, unit, bare.iter().map(value).collect());
    vec![
        Figure::new("net", "TCP round trip 256 B, p50", "us", tcp.iter().map(|run| median(run)).collect()),
        of("stream round trip 256 B, p50", "us", |bare| bare.trip),
        of("stream round trip 256 B, p99", "us", |bare| bare.trip_p99),
        of("dial to both streams open", "ms", |bare| bare.dial),
        of("network alone: process start to listening", "ms", |bare| bare.start),
        of("network alone, one connection: private memory", "MB", |bare| bare.private),
        of("network alone, one connection: resident", "MB", |bare| bare.rss),
    ]
}

fn tcp_trips() -> Vec<f64> {
    let echo = Echo::start(TCP);
    let mut stream = TcpStream::connect(&echo.address).expect("it listens");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut buffer = [9; TEXT];
    each(TRIPS, || {
        stream.write_all(&buffer).expect("it lives");
        stream.read_exact(&mut buffer).expect("it lives");
    })
}

struct Bare {
    trip: f64,
    trip_p99: f64,
    dial: f64,
    start: f64,
    private: f64,
    rss: f64,
}

fn network() -> Bare {
    let echo = Echo::start(NETWORK);
    let (events, mut receiver) = mpsc::channel(256);
    let net = bare(events);
    let address: Multiaddr = echo.address.parse().expect("its own");
    let begin = Instant::now();
    net.try_send(net::Command::Dial { peer: None, addresses: vec![address], urgent: true }).expect("room for one command");
    let mut until = |wanted: &dyn Fn(&net::Event) -> Option<PeerId>| loop {
        if let Some(found) = wanted(&receiver.blocking_recv().expect("the network lives")) {
            return found;
        }
    };
    let peer = until(&|event| if let net::Event::PeerSeen { peer, .. } = event { Some(*peer) } else { None });
    let dial = begin.elapsed().as_secs_f64() * 1e3;
    let frame = Bytes::from_static(&[9; TEXT]);
    let trips = each(TRIPS, || {
        net.try_send(net::Command::Send { to: peer, lane: Lane::Bulk, frame: frame.clone() }).expect("room for one command");
        until(&|event| if let net::Event::Frame { from, .. } = event { Some(*from) } else { None });
    });
    // It has had time to settle.
    std::thread::sleep(Duration::from_millis(500));
    let memory = machine::memory(echo.pid());
    Bare {
        trip: median(&trips),
        trip_p99: quantile(&trips, 0.99),
        dial,
        start: (echo.ready - echo.began) as f64 / 1e6,
        private: memory.private,
        rss: memory.rss,
    }
}
