//! Letters: how many, how soon, to how many.
//! Knows nothing of the way they take. Counted when receipted: on both disks, and signed for.

use std::path::Path;
use std::time::Duration;

use crate::child::{Ask, Single};
use crate::floors::{TEXT, commit_now, rows_now};
use crate::machine::{self, median, quantile};
use crate::nodes::{self, Node};
use crate::rows::Bench;
use crate::table::Figure;

/// Letters that an author has unanswered at once: what one request of the API allows itself.
const WINDOW: usize = 1024;
/// Letters of the rows that write one at a time.
const SINGLES: u64 = 500;
const ROWS: &str = "redb, 1,000 rows a commit";

fn write(node: &mut Node, to: &[String], letters: u64) -> u64 {
    node.process.ask(&Ask::Write { to: to.to_vec(), letters, bytes: TEXT, window: WINDOW })
}

fn per_second(letters: u64, from: u64, until: u64) -> f64 {
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
        let (mut ann, bea) = nodes::pair(place);
        // The first letters pay for the tables and the first connection.
        write(&mut ann, &["bea".to_owned()], 1000);
        let _: u64 = ann.process.ask(&Ask::Receipted);
        let cpu = |node: &Node| machine::cpu(node.process.pid());
        let (author, recipient, begin) = (cpu(&ann), cpu(&bea), machine::nanos());
        let accepted = write(&mut ann, &["bea".to_owned()], letters);
        let receipted: u64 = ann.process.ask(&Ask::Receipted);
        let run = Run {
            accepted: per_second(letters, begin, accepted),
            receipted: per_second(letters, begin, receipted),
            author: spent(author, cpu(&ann), letters),
            recipient: spent(recipient, cpu(&bea), letters),
            memory: [&ann, &bea].map(|node| machine::memory(node.process.pid()).private),
            floor,
        };
        ann.process.stop();
        bea.process.stop();
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
    let runs: Vec<(Vec<f64>, Vec<Single>, f64)> = bench.repeat(|place| {
        let before = commit_now(place);
        let (mut ann, mut bea) = nodes::pair(place);
        bea.process.tell(&Ask::Shown { letters: SINGLES });
        let singles = ann.process.ask(&Ask::OneByOne { to: "bea".to_owned(), letters: SINGLES, bytes: TEXT });
        let shown: Vec<u64> = bea.process.hear();
        ann.process.stop();
        bea.process.stop();
        // The mean of before and after, for each of the two disks.
        let commits = before + commit_now(place);
        (shown.into_iter().map(|nanos| nanos as f64 / 1e6).collect(), singles, (commits + seal + open + trip / 2.0) / 1e3)
    });
    let floors: Vec<f64> = runs.iter().map(|run| run.2).collect();
    let shown = |share: f64| runs.iter().map(|(shown, ..)| quantile(shown, share)).collect();
    let single = |value: fn(&Single) -> u64| {
        let of = |singles: &[Single]| median(&singles.iter().map(|single| value(single) as f64 / 1e6).collect::<Vec<_>>());
        runs.iter().map(|(_, singles, _)| of(singles)).collect()
    };
    let figure = |what: &str, runs| Figure::new("latency", what, "ms", runs);
    vec![
        figure("asked for to accepted, p50", single(|single| single.accepted)),
        figure("asked for to shown, p50", shown(0.5)).beside_each("2 commits, seal, open, half a trip", &floors).target("<= 1.3 x"),
        figure("asked for to shown, p99", shown(0.99)),
        figure("asked for to receipted, p50", single(|single| single.receipted)),
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
    let mut ann = nodes::node(place, "ann", &[]);
    let names: Vec<String> = (0..recipients).map(|number| format!("bea-{number}")).collect();
    let others: Vec<Node> = names.iter().map(|name| nodes::node(place, name, std::slice::from_ref(&ann.ready.address))).collect();
    let _: u64 = ann.process.ask(&Ask::Peers { available: recipients });
    write(&mut ann, &names, 1);
    let _: u64 = ann.process.ask(&Ask::Receipted);
    let cpu = |ann: &Node| others.iter().chain([ann]).map(|node| machine::cpu(node.process.pid()).as_secs_f64()).sum::<f64>();
    let (before, begin) = (cpu(&ann), machine::nanos());
    write(&mut ann, &names, letters);
    let receipted: u64 = ann.process.ask(&Ask::Receipted);
    ((receipted - begin) as f64 / 1e9, cpu(&ann) - before)
}

/// Letters that wait for one who comes back.
pub(crate) fn drain(bench: &mut Bench) -> Vec<Figure> {
    let letters = bench.options.letters;
    let runs = bench.repeat(|place| {
        let floor = rows_now(place);
        let (mut ann, bea) = nodes::pair(place);
        bea.process.stop();
        let _: u64 = ann.process.ask(&Ask::Peers { available: 0 });
        let begin = machine::nanos();
        let written = per_second(letters, begin, write(&mut ann, &["bea".to_owned()], letters));
        let bea = nodes::node(place, "bea", std::slice::from_ref(&ann.ready.address));
        let receipted: u64 = ann.process.ask(&Ask::Receipted);
        let rates = (written, per_second(letters, bea.process.began, receipted), per_second(letters, bea.ready.at, receipted), floor);
        ann.process.stop();
        bea.process.stop();
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
