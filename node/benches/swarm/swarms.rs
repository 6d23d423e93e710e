//! How soon nodes know one another: two, ten, fifty.
//! Knows nothing of multicast: each node is told one other, as by `--peer`; multicast needs hosts of its own (`scripts/lab`).

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;

use crate::floors::TEXT;
use crate::machine;
use crate::nodes::{Node, wait};
use crate::rows::Bench;
use crate::table::Figure;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// A second node beside one that runs.
pub(crate) fn second(bench: &mut Bench) -> Vec<Figure> {
    let floor = bench.floor("net", "dial to both streams open");
    let runs = bench.repeat(|place| {
        let ann = Node::start(place, "ann", &[]);
        let begin = |peers: &[String]| {
            let bea = Node::begin(place, "bea", peers);
            let listed = wait(ann.peers(1, LOOK));
            wait(ann.write(&["bea".to_owned()], 1, TEXT));
            let delivered = wait(ann.receipted());
            let since = |at: u64| (at - bea.began) as f64 / 1e6;
            let took = (since(listed), since(delivered));
            bea.stop();
            wait(ann.peers(0, LOOK));
            took
        };
        let first = begin(std::slice::from_ref(&ann.address));
        let again = begin(&[]);
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
    let first = Node::start(place, "node-0", &[]);
    let told = [first.address.clone()];
    let mut nodes = vec![first];
    nodes.extend((1..count).map(|number| Node::begin(place, &format!("node-{number}"), &told)));
    let (began, last) = (nodes[1].began, nodes[count - 1].began);
    // Each is asked a few times a second: all of them together must not be kept from their work by our questions.
    let every = Duration::from_millis(4 * count as u64);
    let all = wait(join_all(nodes.iter_mut().map(async |node| {
        node.until_ready().await;
        node.peers(count - 1, every).await
    })));
    let all = all.into_iter().max().expect("there are some");
    let pids: Vec<u32> = nodes.iter().map(Node::pid).collect();
    let memory: Vec<f64> = pids.iter().map(|pid| machine::memory(*pid).private).collect();
    Run {
        after_first: (all - began) as f64 / 1e9,
        after_last: (all.saturating_sub(last)) as f64 / 1e9,
        cpu: pids.iter().map(|pid| machine::cpu(*pid).as_secs_f64()).sum(),
        memory: machine::median(&memory),
    }
}
