//! How soon nodes know one another: two, ten, fifty.
//! Knows nothing of multicast: each node is told one other, as by `--peer`; multicast needs hosts of its own (`scripts/lab`).

use std::path::Path;

use crate::child::{Ask, Ready};
use crate::machine;
use crate::nodes::{self, Node};
use crate::rows::Bench;
use crate::table::Figure;

/// A second node beside one that runs.
pub(crate) fn second(bench: &mut Bench) -> Vec<Figure> {
    let floor = bench.floor("net", "dial to both streams open");
    let runs = bench.repeat(|place| {
        let mut ann = nodes::node(place, "ann", &[]);
        let begin = |ann: &mut Node, peers: &[String]| {
            let bea = nodes::node(place, "bea", peers);
            let listed: u64 = ann.process.ask(&Ask::Peers { available: 1 });
            ann.process.tell(&Ask::Write { to: vec!["bea".to_owned()], letters: 1, bytes: 256, window: 1 });
            let _: u64 = ann.process.hear();
            let delivered: u64 = ann.process.ask(&Ask::Receipted);
            let since = |at: u64| (at - bea.process.began) as f64 / 1e6;
            let took = (since(listed), since(delivered));
            bea.process.stop();
            let _: u64 = ann.process.ask(&Ask::Peers { available: 0 });
            took
        };
        let address = ann.ready.address.clone();
        let first = begin(&mut ann, &[address]);
        let again = begin(&mut ann, &[]);
        (first, again)
    });
    let figure = |what: &str, runs| Figure::new("second", what, "ms", runs);
    vec![
        figure("new, told the other: start to listed there", runs.iter().map(|run| run.0.0).collect())
            .beside("dial to both streams open", floor)
            .target("<= 300 ms"),
        figure("new, told the other: start to letter delivered", runs.iter().map(|run| run.0.1).collect()),
        figure("again, remembering: start to listed there", runs.iter().map(|run| run.1.0).collect()).target("<= 300 ms"),
        figure("again, remembering: start to letter delivered", runs.iter().map(|run| run.1.1).collect()),
    ]
}

/// Ten nodes.
pub(crate) fn ten(bench: &mut Bench) -> Vec<Figure> {
    mesh(bench, "ten", 10, "<= 1 s")
}

/// Fifty nodes.
pub(crate) fn fifty(bench: &mut Bench) -> Vec<Figure> {
    mesh(bench, "fifty", 50, "<= 5 s")
}

fn mesh(bench: &Bench, row: &'static str, count: usize, target: &'static str) -> Vec<Figure> {
    let runs = bench.repeat(|place| gather(place, count));
    vec![
        Figure::new(row, "last start to all list all", "s", runs.iter().map(|run| run.after_last).collect()).target(target),
        Figure::new(row, "first start to all list all", "s", runs.iter().map(|run| run.after_first).collect()),
        Figure::new(row, "CPU of all until then", "s", runs.iter().map(|run| run.cpu).collect()),
        Figure::new(row, "private memory of a node then, median", "MB", runs.iter().map(|run| run.memory).collect()),
    ]
}

struct Run {
    after_first: f64,
    after_last: f64,
    cpu: f64,
    memory: f64,
}

/// The first is started alone, as somebody has to be; all others at once, each told the first.
fn gather(place: &Path, count: usize) -> Run {
    let first = nodes::node(place, "node-0", &[]);
    let told = [first.ready.address.clone()];
    let mut nodes = vec![first.process];
    nodes.extend((1..count).map(|number| nodes::begin(place, &format!("node-{number}"), &told)));
    let (began, last) = (nodes[1].began, nodes[count - 1].began);
    for node in &mut nodes[1..] {
        let _: Ready = node.hear();
    }
    nodes.iter_mut().for_each(|node| node.tell(&Ask::Peers { available: count - 1 }));
    let all = nodes.iter_mut().map(|node| node.hear::<u64>()).max().expect("there are some");
    let pids: Vec<u32> = nodes.iter().map(nodes::Process::pid).collect();
    let memory: Vec<f64> = pids.iter().map(|pid| machine::memory(*pid).private).collect();
    Run {
        after_first: (all - began) as f64 / 1e9,
        after_last: (all.saturating_sub(last)) as f64 / 1e9,
        cpu: pids.iter().map(|pid| machine::cpu(*pid).as_secs_f64()).sum(),
        memory: machine::median(&memory),
    }
}
