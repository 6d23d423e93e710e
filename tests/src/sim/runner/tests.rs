use protocol::effect::Change;
use protocol::order::{Attempt, Order, OrderKey};
use protocol::{Epoch, Timestamp};

use super::*;
use crate::sim::{a_service, an_order};

/// A node that offers `coffee`, so many at once, for a second each at most, and has ordered these of itself.
fn worker(limit: u32, orders: &[&[&str]]) -> Sim {
    let mut sim = Sim::new(1);
    let [ann] = sim.machines();
    sim.start(ann);
    sim.run_for(Duration::from_secs(1));
    let orderer = sim.nodes[ann].identity.id;
    let mut offering = a_service("coffee", limit);
    offering.time_limit_ms = Some(1_000);
    let mut changes = vec![Change::Offer(Box::new(offering))];
    for (number, args) in (1..).zip(orders) {
        let wanted = an_order("coffee", args);
        changes.push(Change::Order(Box::new(Order {
            orderer,
            epoch: Epoch(1),
            number,
            service: wanted.service,
            args: wanted.args,
            items: Vec::new(),
            stdin: None,
            priority: wanted.priority,
            needs: wanted.needs,
            once: false,
            placed: Timestamp(1),
        })));
        let task = a_try(&sim, number, 1);
        sim.nodes[ann].disk.tasks.started.insert(task, Timestamp(1));
    }
    sim.tasks.on_commit(ann, orderer, &sim.nodes[ann].disk, &changes).expect("a sound commit");
    sim
}

fn a_try(sim: &Sim, number: u64, attempt: u32) -> Try {
    let leader = sim.nodes[0].identity.id;
    let order = OrderKey { orderer: leader, epoch: Epoch(1), number };
    Try { order, unit: 1, attempt: Attempt { term: 1, leader, number: attempt } }
}

fn run(sim: &mut Sim, task: Try, args: &[&str]) {
    let program = Program::Command(vec!["/bin/simulated".to_owned()]);
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let service = "coffee".parse().expect("a name");
    let time_limit = Some(Duration::from_secs(1));
    sim.on_run(0, Box::new(Run { task, service, at_once: u32::MAX, program, args, stdin: None, time_limit, orderer: None }));
}

#[test]
fn a_program_runs_as_long_as_it_says_and_ends_as_it_says() {
    let scripts: [(&[&str], u64, Exit); 4] = [
        (&["for:300", "exit:3"], 300, Exit::Exited(3)),
        (&["for:300", "signal:9"], 300, Exit::Killed(9)),
        (&["for:5000"], 1_000, Exit::TimedOut),
        (&["missing"], 0, Exit::NotStarted("no such file".to_owned())),
    ];
    for (script, lasts, exit) in scripts {
        let mut sim = worker(1, &[script]);
        let (task, begin) = (a_try(&sim, 1, 1), sim.now());
        run(&mut sim, task, script);
        sim.run_until(|sim| sim.nodes[0].runner.running().next().is_none());
        assert_eq!((sim.now() - begin, sim.tasks.exit(0, task)), (Duration::from_millis(lasts), Some(&exit)), "{script:?}");
    }
}

#[test]
fn a_program_that_is_stopped_ends_soon_and_one_whose_node_dies_never_does() {
    let script: &[&str] = &["for:900", "write:300000"];
    let mut sim = worker(1, &[script]);
    let task = a_try(&sim, 1, 1);
    run(&mut sim, task, script);
    sim.run_for(Duration::from_millis(100));
    sim.on_stop(0, task);
    sim.on_stop(0, task);
    sim.within(STOPS_WITHIN, |sim| sim.nodes[0].runner.running().next().is_none());
    assert_eq!(sim.tasks.exit(0, task), Some(&Exit::Stopped));
    let pages = [0, 262_144, 999_999].map(|from| sim.nodes[0].runner.read(&task, false, from).map(|(bytes, more)| (bytes.len(), more)));
    assert_eq!(pages, [Some((262_144, true)), Some((37_876, false)), Some((0, false))]);
    let mut sim = worker(1, &[script]);
    run(&mut sim, task, script);
    sim.crash(0);
    sim.start(0);
    sim.run_for(Duration::from_secs(2));
    assert_eq!((sim.nodes[0].runner.running().count(), sim.tasks.exit(0, task)), (0, None));
}

#[test]
fn what_no_worker_may_run_is_seen() {
    let script: &[&str] = &["for:900"];
    let seen = |sim: &Sim, why: &str| {
        let said = sim.failure.clone().unwrap_or_default();
        assert!(said.contains(why), "{said:?} instead of {why:?}");
    };
    let mut sim = worker(1, &[script, script]);
    let (one, two) = (a_try(&sim, 1, 1), a_try(&sim, 2, 1));
    run(&mut sim, one, script);
    assert_eq!(sim.failure, None);
    run(&mut sim, two, script);
    seen(&sim, "runs 2 of coffee, at most 1 may");
    let mut sim = worker(2, &[script]);
    let again = a_try(&sim, 1, 2);
    sim.nodes[0].disk.tasks.started.insert(again, Timestamp(1));
    run(&mut sim, one, script);
    run(&mut sim, again, script);
    seen(&sim, "beside 1.1 attempt 1");
    let mut sim = worker(1, &[script]);
    run(&mut sim, again, script);
    seen(&sim, "not on its disk");
    let mut sim = worker(1, &[script]);
    run(&mut sim, one, &["for:1"]);
    seen(&sim, "not run as it was ordered");
}
