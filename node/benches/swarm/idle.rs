//! What a node costs that does nothing, and how soon it can be asked.
//! Knows nothing of letters. Nodes are given time to settle before they are watched.

use std::time::Duration;

use crate::machine;
use crate::nodes::{Node, wait};
use crate::rows::Bench;
use crate::table::Figure;

/// Greetings and exchanges of lists are over by then.
const SETTLE: Duration = Duration::from_secs(3);

/// Process start to first answer.
pub(crate) fn start(bench: &mut Bench) -> Vec<Figure> {
    let floor = bench.floor("net", "network alone: process start to listening");
    let runs = bench.repeat(|place| {
        let took = |node: &Node| (node.ready - node.began) as f64 / 1e6;
        let (first, again): (Vec<f64>, Vec<f64>) = (0..5)
            .map(|number| {
                let name = format!("ann-{number}");
                let begin = || {
                    let node = Node::start(place, &name, &[]);
                    let took = took(&node);
                    node.stop();
                    took
                };
                (begin(), begin())
            })
            .unzip();
        (machine::median(&first), machine::median(&again))
    });
    let figure = |what: &str, runs| Figure::new("start", what, "ms", runs).beside("network alone", floor).target("<= 100 ms");
    vec![figure("a new node", runs.iter().map(|run| run.0).collect()), figure("the same again", runs.iter().map(|run| run.1).collect())]
}

/// Memory and CPU of a node alone, and of one of eleven.
pub(crate) fn idle(bench: &mut Bench) -> Vec<Figure> {
    let floor = bench.floor("net", "network alone, one connection: resident");
    let watch = Duration::from_secs(bench.options.idle);
    let mut figures = Vec::new();
    for peers in [0, 10] {
        let runs = bench.repeat(|place| {
            let ann = Node::start(place, "ann", &[]);
            let others: Vec<Node> =
                (0..peers).map(|number| Node::start(place, &format!("bea-{number}"), std::slice::from_ref(&ann.address))).collect();
            wait(ann.peers(peers, Duration::from_millis(20)));
            std::thread::sleep(SETTLE);
            let before = machine::cpu(ann.pid());
            std::thread::sleep(watch);
            let busy = (machine::cpu(ann.pid()) - before).as_secs_f64() / watch.as_secs_f64();
            let memory = machine::memory(ann.pid());
            drop(others);
            (memory, busy * 100.0)
        });
        let figure = |what: &str, unit, values| Figure::new("idle", format!("{peers} peers: {what}"), unit, values);
        figures.push(
            figure("resident memory", "MB", runs.iter().map(|run| run.0.rss).collect())
                .beside("network alone, one connection", floor)
                .target("<= 25 MB"),
        );
        figures.push(figure("private memory", "MB", runs.iter().map(|run| run.0.private).collect()));
        figures.push(figure("CPU", "% of a core", runs.iter().map(|run| run.1).collect()).target("<= 0.5 %"));
    }
    figures
}
