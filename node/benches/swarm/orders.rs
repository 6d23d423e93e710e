//! Orders: how many, how soon, and what the death of the dispatcher costs.
//! Knows nothing of the way they take. Counted when their outcomes are on the orderer's disk.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::floors::rows_now;
use crate::machine::{self, median, quantile};
use crate::nodes::{Node, wait};
use crate::rows::Bench;
use crate::table::Figure;

/// How many run at once at the worker.
const SLOTS: u32 = 8;
/// Orders of the row that places one at a time.
const SINGLES: u64 = 200;
/// Units that start a program: seconds of work.
const PROGRAMS: u64 = 5_000;
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// The same while thousands of orders are done: a look takes CPU that they could use.
const RARE: Duration = Duration::from_millis(20);
const TRUE: &str = "/bin/true";
const ROWS: &str = "redb, 1,000 rows a commit";

/// Whoever orders is dispatcher too; another machine works.
pub(crate) fn orderer_and_worker(place: &Path, command: Option<&str>) -> (Node, Node) {
    let ann = Node::start_apart(place, "ann", &[]);
    let bea = Node::start_apart(place, "bea", std::slice::from_ref(&ann.address));
    wait(async { tokio::join!(ann.peers(1, LOOK), bea.peers(1, LOOK)) });
    wait(bea.offer("work", SLOTS, command));
    wait(ann.lead(std::slice::from_ref(&bea)));
    // The first order pays for the tables, and for learning what the worker offers.
    wait(ann.order("work", 100));
    wait(ann.ended(RARE));
    (ann, bea)
}

/// Orders that do nothing.
pub(crate) fn many(bench: &mut Bench) -> Vec<Figure> {
    struct Run {
        accepted: f64,
        ended: f64,
        units: f64,
        orderer: f64,
        worker: f64,
        memory: f64,
        floor: f64,
    }
    let orders = bench.options.letters;
    let runs = bench.repeat(|place| {
        let floor = rows_now(place);
        let (ann, bea) = orderer_and_worker(place, None);
        let cpu = |node: &Node| machine::cpu(node.pid());
        let (orderer, worker, begin) = (cpu(&ann), cpu(&bea), machine::nanos());
        let rate = |begin: u64, end: u64| orders as f64 * 1e9 / (end - begin) as f64;
        let accepted = rate(begin, wait(ann.order("work", orders)));
        let ended = rate(begin, wait(ann.ended(RARE)));
        let spent = |before: Duration, after: Duration| (after - before).as_secs_f64() * 1e6 / orders as f64;
        let (orderer, worker) = (spent(orderer, cpu(&ann)), spent(worker, cpu(&bea)));
        let begin = machine::nanos();
        wait(ann.order_units("work", orders));
        let units = rate(begin, wait(ann.ended(RARE)));
        let memory = machine::memory(ann.pid()).private;
        ann.stop();
        bea.stop();
        Run { accepted, ended, units, orderer, worker, memory, floor }
    });
    let floors: Vec<f64> = runs.iter().map(|run| run.floor).collect();
    let of = |what: &str, unit, value: fn(&Run) -> f64| Figure::new("orders", what, unit, runs.iter().map(value).collect());
    vec![
        of("accepted", "orders/s", |run| run.accepted),
        of("ended", "orders/s", |run| run.ended).beside_each(ROWS, &floors).target(">= 10,000/s, then 20,000/s"),
        of("CPU of the orderer and dispatcher", "us/order", |run| run.orderer),
        of("CPU of the worker", "us/order", |run| run.worker),
        of("ended, as units of one order", "units/s", |run| run.units).beside_each(ROWS, &floors),
        of("private memory of the orderer afterwards", "MB", |run| run.memory),
    ]
}

/// Orders that start a program.
pub(crate) fn programs(bench: &mut Bench) -> Vec<Figure> {
    let runs = bench.repeat(|place| {
        let before = [bare(None), bare(Some("1"))];
        let (ann, bea) = orderer_and_worker(place, Some(TRUE));
        let rate = |begin: u64, end: u64| PROGRAMS as f64 * 1e9 / (end - begin) as f64;
        let begin = machine::nanos();
        wait(ann.order("work", PROGRAMS));
        let orders = rate(begin, wait(ann.ended(RARE)));
        let begin = machine::nanos();
        wait(ann.order_units("work", PROGRAMS));
        let units = rate(begin, wait(ann.ended(RARE)));
        ann.stop();
        bea.stop();
        // The means of before and after.
        let [none, one] = before;
        (orders, units, f64::midpoint(none, bare(None)), f64::midpoint(one, bare(Some("1"))))
    });
    let of = |what: &str, runs, floors: Vec<f64>| {
        Figure::new("programs", what, "per second", runs).beside_each("bare spawn and wait", &floors).target(">= 0.8 x")
    };
    vec![
        of("orders of /bin/true ended", runs.iter().map(|run| run.0).collect(), runs.iter().map(|run| run.2).collect()),
        // Each unit has an argument: with one, it looks for words of the user's language, which takes longer.
        of("/bin/true ITEM as units of one order", runs.iter().map(|run| run.1).collect(), runs.iter().map(|run| run.3).collect()),
    ]
}

/// How many programs a second this machine starts and waits for, with as many at once as the worker has slots.
fn bare(arg: Option<&str>) -> f64 {
    let (begin, left) = (Instant::now(), AtomicU64::new(PROGRAMS));
    std::thread::scope(|scope| {
        for _ in 0..SLOTS {
            scope.spawn(|| {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    // A worker takes both outputs, so this does.
                    let mut program = Command::new(TRUE);
                    program.args(arg);
                    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
                    program.output().expect("the system starts a process");
                }
            });
        }
    });
    PROGRAMS as f64 / begin.elapsed().as_secs_f64()
}

/// One order at a time, in an idle swarm.
pub(crate) fn started(bench: &mut Bench) -> Vec<Figure> {
    let runs: Vec<(Vec<(f64, f64)>, f64)> = bench.repeat(|place| {
        let (ann, bea) = orderer_and_worker(place, None);
        let singles = wait(ann.orders_one_by_one(&bea, "work", SINGLES));
        let killed = dispatcher_killed(place);
        ann.stop();
        bea.stop();
        (singles, killed)
    });
    let figure = |what: &str, share: f64, value: fn(&(f64, f64)) -> f64| {
        let of = |singles: &[(f64, f64)]| quantile(&singles.iter().map(value).collect::<Vec<_>>(), share);
        Figure::new("started", what, "ms", runs.iter().map(|(singles, _)| of(singles)).collect())
    };
    vec![
        figure("asked for to started at the worker, p50", 0.5, |single| single.0).target("<= 5 ms"),
        figure("asked for to started at the worker, p99", 0.99, |single| single.0),
        figure("asked for to outcome, p50", 0.5, |single| single.1),
        Figure::new(
            "started",
            "dispatcher killed: an order placed then is done after",
            "ms",
            vec![median(&runs.iter().map(|run| run.1).collect::<Vec<_>>())],
        )
        .target("<= 1,000 ms"),
    ]
}

/// Milliseconds from the end of the dispatcher to the outcome of an order placed at once.
fn dispatcher_killed(place: &Path) -> f64 {
    let place = place.join("killed");
    std::fs::create_dir_all(&place).expect("a directory on the disk");
    let carl = Node::start_apart(&place, "carl", &[]);
    let others = ["dora", "emil", "fay", "gus"].map(|name| Node::start_apart(&place, name, std::slice::from_ref(&carl.address)));
    wait(async { futures::future::join_all(others.iter().chain([&carl]).map(|node| node.peers(4, LOOK))).await });
    let [dora, emil, ..] = &others;
    wait(emil.offer("work", SLOTS, None));
    wait(carl.lead(&others));
    wait(dora.follows("carl"));
    wait(dora.order("work", 1));
    wait(dora.ended(LOOK));
    let begin = machine::nanos();
    drop(carl);
    wait(dora.order("work", 1));
    let took = (wait(dora.ended(LOOK)) - begin) as f64 / 1e6;
    others.into_iter().for_each(Node::stop);
    took
}
