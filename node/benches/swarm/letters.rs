//! Letters: how many, how soon, to how many.
//! Knows nothing of the way they take. Counted when receipted: on both disks, and signed for.

use std::path::Path;
use std::time::Duration;

use crate::floors::{TEXT, commit_now, rows_now};
use crate::machine::{self, quantile};
use crate::nodes::{self, Node, Single, wait};
use crate::rows::Bench;
use crate::table::Figure;

/// Letters of the rows that write one at a time.
const SINGLES: u64 = 500;
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(5);
const ROWS: &str = "redb, 1,000 rows a commit";

pub(crate) fn per_second(letters: u64, from: u64, until: u64) -> f64 {
    letters as f64 * 1e9 / (until - from) as f64
}

/// CPU of both by letter, in microseconds.
fn spent(before: Duration, after: Duration, letters: u64) -> f64 {
    (after - before).as_secs_f64() * 1e6 / letters as f64
}

/// One author to one recipient.
pub(crate) fn many(bench: &mut Bench) -> Vec<Figure> {
    struct Run {
        accepted: f64,
        receipted: f64,
        author: f64,
        recipient: f64,
        memory: [f64; 2],
        floor: f64,
    }
    let letters = bench.options.letters;
    let runs = bench.repeat(|place| {
        let floor = rows_now(place);
        let (ann, bea) = nodes::pair(place);
        // The first letters pay for the tables and the first connection.
        let to = ["bea".to_owned()];
        wait(ann.write(&to, 1000, TEXT));
        wait(ann.receipted());
        let cpu = |node: &Node| machine::cpu(node.pid());
        let (author, recipient, begin) = (cpu(&ann), cpu(&bea), machine::nanos());
        let accepted = wait(ann.write(&to, letters, TEXT));
        let receipted = wait(ann.receipted());
        let run = Run {
            accepted: per_second(letters, begin, accepted),
            receipted: per_second(letters, begin, receipted),
            author: spent(author, cpu(&ann), letters),
            recipient: spent(recipient, cpu(&bea), letters),
            memory: [&ann, &bea].map(|node| machine::memory(node.pid()).private),
            floor,
        };
        ann.stop();
        bea.stop();
        run
    });
    let floors: Vec<f64> = runs.iter().map(|run| run.floor).collect();
    let of = |what: &str, unit, value: fn(&Run) -> f64| Figure::new("letters", what, unit, runs.iter().map(value).collect());
    vec![
        of("accepted", "letters/s", |run| run.accepted),
        of("receipted", "letters/s", |run| run.receipted).beside_each(ROWS, &floors).target(">= 20,000/s, then 65,000/s"),
        of("CPU of both", "us/letter", |run| run.author + run.recipient).target("30 us, then less"),
        of("CPU of the author", "us/letter", |run| run.author),
        of("CPU of the recipient", "us/letter", |run| run.recipient),
        of("private memory of the author afterwards", "MB", |run| run.memory[0]),
        of("private memory of the recipient afterwards", "MB", |run| run.memory[1]),
    ]
}

/// One letter at a time.
pub(crate) fn latency(bench: &mut Bench) -> Vec<Figure> {
    let seal = bench.floor("crypto", "sign and seal a bundle of 1 x 256 B");
    let open = bench.floor("crypto", "open and verify a bundle of 1 x 256 B");
    let trip = bench.floor("net", "stream round trip 256 B, p50");
    let runs: Vec<(Vec<Single>, f64)> = bench.repeat(|place| {
        let before = commit_now(place);
        let (ann, bea) = nodes::pair(place);
        let singles = wait(ann.one_by_one(&bea, "bea", SINGLES, TEXT));
        ann.stop();
        bea.stop();
        // The mean of before and after, for each of the two disks.
        let commits = before + commit_now(place);
        (singles, (commits + seal + open + trip / 2.0) / 1e3)
    });
    let floors: Vec<f64> = runs.iter().map(|run| run.1).collect();
    let figure = |what: &str, share: f64, value: fn(&Single) -> f64| {
        let of = |singles: &[Single]| quantile(&singles.iter().map(value).collect::<Vec<_>>(), share);
        Figure::new("latency", what, "ms", runs.iter().map(|(singles, _)| of(singles)).collect())
    };
    vec![
        figure("asked for to accepted, p50", 0.5, |single| single.accepted),
        figure("asked for to told at the recipient, p50", 0.5, |single| single.shown)
            .beside_each("2 commits, seal, open, half a trip", &floors)
            .target("<= 1.3 x (with API)"),
        figure("asked for to told at the recipient, p99", 0.99, |single| single.shown),
        figure("asked for to receipted, p50", 0.5, |single| single.receipted),
    ]
}

/// One author to several.
pub(crate) fn fanout(bench: &mut Bench) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (recipients, target) in [(10, None), (50, Some(">= 40,000/s"))] {
        let letters = (bench.options.letters / recipients as u64).max(1);
        let deliveries = letters * recipients as u64;
        let runs = bench.repeat(|place| (rows_now(place), spread(place, recipients, letters)));
        let floors: Vec<f64> = runs.iter().map(|run| run.0).collect();
        let figure = Figure::new(
            "fanout",
            format!("to {recipients}: deliveries"),
            "per second",
            runs.iter().map(|run| deliveries as f64 / run.1.0).collect(),
        );
        let figure = figure.beside_each(ROWS, &floors);
        figures.push(if let Some(target) = target { figure.target(target) } else { figure });
        let cpu = runs.iter().map(|run| run.1.1 * 1e6 / deliveries as f64).collect();
        figures.push(Figure::new("fanout", format!("to {recipients}: CPU of all"), "us/delivery", cpu));
    }
    figures
}

/// Seconds that it took, and seconds of CPU of all nodes.
fn spread(place: &Path, recipients: usize, letters: u64) -> (f64, f64) {
    let ann = Node::start(place, "ann", &[]);
    let names: Vec<String> = (0..recipients).map(|number| format!("bea-{number}")).collect();
    let others: Vec<Node> = names.iter().map(|name| Node::start(place, name, std::slice::from_ref(&ann.address))).collect();
    wait(ann.peers(recipients, LOOK));
    wait(ann.write(&names, 1, TEXT));
    wait(ann.receipted());
    let cpu = |ann: &Node| others.iter().chain([ann]).map(|node| machine::cpu(node.pid()).as_secs_f64()).sum::<f64>();
    let (before, begin) = (cpu(&ann), machine::nanos());
    wait(ann.write(&names, letters, TEXT));
    let receipted = wait(ann.receipted());
    ((receipted - begin) as f64 / 1e9, cpu(&ann) - before)
}

/// Letters that wait for one who comes back.
pub(crate) fn drain(bench: &mut Bench) -> Vec<Figure> {
    let letters = bench.options.letters;
    let runs = bench.repeat(|place| {
        let floor = rows_now(place);
        let (ann, bea) = nodes::pair(place);
        bea.stop();
        wait(ann.peers(0, LOOK));
        let begin = machine::nanos();
        let written = per_second(letters, begin, wait(ann.write(&["bea".to_owned()], letters, TEXT)));
        let bea = Node::start(place, "bea", std::slice::from_ref(&ann.address));
        let receipted = wait(ann.receipted());
        let rates = (written, per_second(letters, bea.began, receipted), per_second(letters, bea.ready, receipted), floor);
        ann.stop();
        bea.stop();
        rates
    });
    let floors: Vec<f64> = runs.iter().map(|run| run.3).collect();
    let figure = |what: &str, runs| Figure::new("drain", what, "letters/s", runs);
    vec![
        figure("accepted while the recipient is away", runs.iter().map(|run| run.0).collect()),
        figure("receipted, from its process's start", runs.iter().map(|run| run.1).collect())
            .beside_each(ROWS, &floors)
            .target(">= 76,000/s (from custody)"),
        figure("receipted, from its being ready", runs.iter().map(|run| run.2).collect()),
    ]
}

/// Letters that others hold for one who is away, fetched when their author is away too.
pub(crate) fn custody(bench: &mut Bench) -> Vec<Figure> {
    struct Run {
        held: f64,
        taken: f64,
        ready: f64,
        released: f64,
        memory: f64,
        floor: f64,
    }
    let letters = bench.options.letters;
    let runs = bench.repeat(|place| {
        let floor = rows_now(place);
        let ann = Node::start_apart(place, "ann", &[]);
        let others = ["bea", "carl", "dora", "emil"].map(|name| Node::start_apart(place, name, std::slice::from_ref(&ann.address)));
        wait(ann.peers(4, LOOK));
        let [bea, custodians @ ..] = others;
        let addresses: Vec<String> = custodians.iter().map(|node| node.address.clone()).collect();
        bea.stop();
        wait(ann.peers(3, LOOK));
        let begin = machine::nanos();
        wait(ann.write(&["bea".to_owned()], letters, TEXT));
        let held = wait(ann.held(letters, 3));
        let memory = custodians.iter().map(|node| machine::memory(node.pid()).private).fold(0.0, f64::max);
        ann.stop();
        let bea = Node::start_apart(place, "bea", &addresses);
        let taken = wait(bea.taken(letters));
        let released = custodians.iter().map(|node| wait(node.released())).max().unwrap_or(taken);
        let run = Run {
            held: per_second(letters, begin, held),
            taken: per_second(letters, bea.began, taken),
            ready: per_second(letters, bea.ready, taken),
            released: per_second(letters, bea.began, released),
            memory,
            floor,
        };
        bea.stop();
        custodians.into_iter().for_each(Node::stop);
        run
    });
    let floors: Vec<f64> = runs.iter().map(|run| run.floor).collect();
    let of = |what: &str, unit, value: fn(&Run) -> f64| Figure::new("custody", what, unit, runs.iter().map(value).collect());
    vec![
        of("written and held by 3", "letters/s", |run| run.held).beside_each(ROWS, &floors).target(">= 10,000/s, then 20,000/s"),
        of("taken, from its process's start", "letters/s", |run| run.taken).beside_each(ROWS, &floors).target(">= 30,000/s, then 76,000/s"),
        of("taken, from its being ready", "letters/s", |run| run.ready),
        of("released by all, from its process's start", "letters/s", |run| run.released),
        of("private memory of a custodian with all of them", "MB", |run| run.memory),
    ]
}
