//! Stories of services and orders, of those who hand them out, and of what dies meanwhile. `SEED` and `TRACE` in the environment
//! replay and print.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::Refusal;
use protocol::edge::Cause;
use protocol::effect::Change;
use protocol::input::NewOrder;
use protocol::order::{End, Ended, Priority};
use protocol::service::{Allowed, Lack, Needs, Offering, Program, ServiceCard};
use protocol::work::{Question, Results, Standing};
use swarm_tests::sim::{CrashPoint, Options, Sim, Who, a_service, an_order};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// So many peers, who see one another and follow one leader.
fn settled<const N: usize>(sim: &mut Sim) -> [Who; N] {
    let peers = sim.peers();
    sim.elected();
    sim.run_for(seconds(3));
    peers
}

/// All of them offer `coffee`, so many at once each.
fn brewers(sim: &mut Sim, workers: &[Who], limit: u32) {
    workers.iter().for_each(|who| sim.offer(*who, a_service("coffee", limit)));
    // Until everybody has heard of it.
    sim.run_for(seconds(3));
}

fn coffee(args: &[&str]) -> NewOrder {
    an_order("coffee", args)
}

/// One unit for each of so many items.
fn batch(args: &[&str], units: u32) -> NewOrder {
    NewOrder { items: (1..=units).map(|unit| format!("cup {unit}")).collect(), ..coffee(args) }
}

fn prioritised(priority: Priority, args: &[&str]) -> NewOrder {
    NewOrder { priority, ..coffee(args) }
}

/// Who of the others it is not.
fn other_than(all: &[Who], not: &[Who]) -> Vec<Who> {
    all.iter().copied().filter(|who| !not.contains(who)).collect()
}

/// Where the leader says that an order is.
fn standing(sim: &mut Sim, who: Who, number: u64) -> Standing {
    let (leader, key) = (sim.elected(), sim.order_key(who, number));
    match sim.question(who, leader, Question::Task(key)) {
        Some(Results::Task(Some(standing))) => standing,
        other => panic!("order {number} stands nowhere: {other:?}"),
    }
}

fn all_ended(sim: &Sim, who: Who, numbers: &[u64]) -> bool {
    numbers.iter().all(|number| sim.outcome(who, *number).is_some())
}

/// How many more of a peer's starts there are than units.
fn extra_starts(sim: &Sim, who: Who, number: u64) -> usize {
    let starts = sim.starts(who, number);
    let units: BTreeSet<u32> = starts.iter().map(|(_, unit, _)| *unit).collect();
    starts.len() - units.len()
}

#[test]
fn a_leader_that_works_goes_on_with_its_queue_when_it_is_available_again() {
    let mut sim = Sim::new(180);
    let [leader] = settled(&mut sim);
    brewers(&mut sim, &[leader], 1);
    sim.available(leader, false);
    let number = sim.place(leader, coffee(&[]));
    sim.run_for(seconds(10));
    assert!(sim.queues(leader, leader, number) && sim.starts(leader, number).is_empty());
    sim.available(leader, true);
    sim.within(seconds(1), |sim| !sim.starts(leader, number).is_empty());
    sim.expect_done();
}

#[test]
fn a_worker_does_nothing_for_whom_it_blocks_until_it_does_not() {
    let mut sim = Sim::new(181);
    let [ann, bea, carl] = settled(&mut sim);
    brewers(&mut sim, &[bea], 1);
    sim.block(bea, ann, true);
    let number = sim.place(ann, coffee(&[]));
    let other = sim.place(carl, coffee(&[]));
    sim.within(seconds(20), |sim| sim.outcome(carl, other).is_some());
    // It outlives a restart.
    sim.stop(bea);
    sim.start(bea);
    sim.run_for(seconds(10));
    assert!(sim.starts(ann, number).is_empty() && sim.outcome(ann, number).is_none());
    let asked = Question::Availability { service: "coffee".parse().expect("a name"), needs: Needs::default() };
    assert!(matches!(sim.question(ann, bea, asked), Some(Results::Availability(said)) if said.why == Some(Lack::NotAllowed)));
    let waits = standing(&mut sim, ann, number);
    assert!(waits.lacks.iter().any(|(_, lack)| *lack == Lack::NotAllowed), "{waits:?}");
    sim.block(bea, ann, false);
    sim.within(seconds(20), |sim| sim.outcome(ann, number).is_some());
    assert_eq!(sim.starts(ann, number).len(), 1);
    sim.expect_done();
}

#[test]
fn a_hand_over_makes_nobody_an_impostor() {
    for seed in 182..192 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 4] = settled(&mut sim);
        brewers(&mut sim, &peers, 1);
        let leader = sim.elected();
        let others = other_than(&peers, &[leader]);
        let numbers: Vec<u64> = (0..8).map(|_| sim.place(others[0], coffee(&[]))).collect();
        let cancelled = sim.place(others[2], batch(&[], 20));
        sim.order(others[0], coffee(&[]));
        sim.transfer(leader, others[1]);
        sim.cancel(others[2], cancelled);
        sim.run_until(|sim| all_ended(sim, others[0], &numbers));
        for who in peers {
            assert!(!sim.status(who).refused.contains_key(&Cause::Impostor), "seed {seed}: {:?}", sim.status(who).refused);
        }
        sim.expect_done();
    }
}

// -- election

#[test]
fn peers_that_meet_agree_on_one_leader() {
    for seed in 200..210 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 5] = settled(&mut sim);
        let leader = sim.elected();
        assert!(peers.contains(&leader));
        let fence = sim.follows(leader);
        sim.run_for(seconds(60));
        assert_eq!(sim.follows(leader), fence, "nobody is displaced by nothing");
        sim.expect_done();
    }
}

#[test]
fn two_peers_are_enough_and_one_alone_leads_itself() {
    let mut sim = Sim::new(210);
    let [ann, bea] = settled(&mut sim);
    let (leader, other) = if sim.elected() == ann { (ann, bea) } else { (bea, ann) };
    sim.crash(leader);
    sim.within(seconds(3), |sim| sim.leader() == Some(other));
    sim.start(leader);
    sim.run_for(seconds(10));
    assert_eq!(sim.leader(), Some(other), "who comes back does not push out who leads");
}

#[test]
fn a_leader_that_dies_is_replaced_within_a_second_under_a_greater_term() {
    for seed in 211..221 {
        let mut sim = Sim::new(seed);
        let _: [Who; 5] = settled(&mut sim);
        let leader = sim.elected();
        let before = sim.follows(leader).expect("it follows itself");
        sim.crash(leader);
        sim.within(seconds(1), |sim| sim.leader().is_some_and(|now| now != leader));
        let after = sim.follows(sim.leader().expect("just seen")).expect("it follows itself");
        assert!(after.term > before.term);
        sim.expect_done();
    }
}

#[test]
fn a_leader_that_vanishes_is_replaced_within_five_seconds() {
    for seed in 221..226 {
        let mut sim = Sim::new(seed);
        let _: [Who; 5] = settled(&mut sim);
        let leader = sim.elected();
        sim.vanish(leader);
        sim.within(seconds(5), |sim| sim.leader().is_some_and(|now| now != leader));
    }
}

#[test]
fn a_leader_that_leaves_or_is_asked_to_hands_over() {
    let mut sim = Sim::new(226);
    let peers: [Who; 4] = settled(&mut sim);
    let leader = sim.elected();
    let to = other_than(&peers, &[leader])[0];
    sim.transfer(leader, to);
    sim.within(seconds(2), |sim| sim.leader() == Some(to));
    sim.stop(to);
    sim.within(seconds(1), |sim| sim.leader().is_some_and(|now| now != to));
    sim.expect_done();
}

#[test]
fn each_side_of_a_partition_leads_itself_and_one_leads_again_when_it_heals() {
    for seed in 227..232 {
        let mut sim = Sim::new(seed);
        let [ann, bea, carl, dora] = settled(&mut sim);
        for one in [ann, bea] {
            for other in [carl, dora] {
                sim.partition(one, other);
            }
        }
        let led_by = |sim: &Sim, side: [Who; 2]| {
            let fences = side.map(|who| sim.follows(who));
            fences[0].is_some() && fences[0] == fences[1] && side.iter().any(|who| fences[0] == sim.follows(*who) && sim.is_up(*who))
        };
        sim.run_until(|sim| led_by(sim, [ann, bea]) && led_by(sim, [carl, dora]) && sim.follows(ann) != sim.follows(carl));
        sim.heal();
        sim.within(seconds(60), |sim| sim.leader().is_some());
        sim.expect_done();
    }
}

// -- an order and its end

#[test]
fn an_order_is_placed_run_and_done_with_its_output() {
    let mut sim = Sim::new(240);
    let [ann, bea, _carl] = settled(&mut sim);
    brewers(&mut sim, &[bea], 1);
    assert_eq!(sim.advertised(bea), ["coffee"]);
    let number = sim.place(ann, coffee(&["latte", "--no-milk", "for:100"]));
    assert_eq!(number, 1);
    sim.within(millis(50), |sim| sim.running(bea) == 1);
    sim.within(seconds(1), |sim| sim.end(ann, 1) == Some(End::Done));
    let report = sim.unit_end(ann, 1, 1).cloned().expect("it ended").expect("it ran");
    assert_eq!((&report.ended, report.stdout.bytes.as_slice()), (&Ended::Exited(0), b"latte --no-milk for:100".as_slice()));
    assert_eq!((sim.place(ann, coffee(&[])), sim.place(bea, coffee(&[]))), (2, 1), "each orderer counts for itself");
    sim.expect_done();
    assert_eq!(sim.reports_kept(bea), 0, "a closed order is forgotten by its worker");
}

#[test]
fn an_idle_swarm_starts_an_order_at_once() {
    for seed in 241..246 {
        let mut sim = Sim::new(seed);
        let [ann, bea, carl] = settled(&mut sim);
        brewers(&mut sim, &[bea, carl], 1);
        let number = sim.place(ann, coffee(&["for:50"]));
        sim.within(millis(20), |sim| !sim.starts(ann, number).is_empty());
    }
}

#[test]
fn an_order_that_fails_says_how() {
    let mut sim = Sim::new(246);
    let [ann, bea] = settled(&mut sim);
    sim.offer(bea, Offering { time_limit_ms: Some(200), ..a_service("coffee", 2) });
    sim.run_for(seconds(3));
    let ways = [("exit:3", "exit 3"), ("missing", "could not"), ("for:5000", "time limit")];
    for (arg, why) in ways {
        let number = sim.place(ann, coffee(&[arg]));
        sim.run_until(|sim| sim.outcome(ann, number).is_some());
        let outcome = sim.outcome(ann, number).expect("just seen");
        assert_eq!(outcome.end, End::Failed);
        assert!(outcome.why.as_ref().is_some_and(|said| said.contains(why)), "{outcome:?}");
        assert_eq!(sim.starts(ann, number).len(), 1, "what ended is not tried again");
    }
    sim.expect_done();
}

#[test]
fn a_program_killed_by_a_stranger_is_tried_again_and_after_five_times_no_more() {
    let mut sim = Sim::new(247);
    let [ann, bea, carl] = settled(&mut sim);
    brewers(&mut sim, &[bea, carl], 2);
    let number = sim.place(ann, coffee(&["signal:9", "for:10"]));
    sim.run_until(|sim| sim.outcome(ann, number).is_some());
    let outcome = sim.outcome(ann, number).expect("just seen");
    assert_eq!((outcome.end, sim.starts(ann, number).len()), (End::Failed, 5));
    assert!(outcome.why.as_ref().is_some_and(|why| why.contains("crashed its workers")), "{outcome:?}");
    sim.expect_done();
}

#[test]
fn orders_under_one_key_are_one_order() {
    let mut sim = Sim::new(248);
    let [ann, bea] = settled(&mut sim);
    brewers(&mut sim, &[bea], 1);
    let keyed = |args: &[&str]| NewOrder { key: Some("breakfast".to_owned()), ..coffee(args) };
    let first = sim.place(ann, keyed(&["latte"]));
    assert_eq!(sim.place(ann, keyed(&["latte"])), first);
    sim.crash(ann);
    sim.start(ann);
    assert_eq!(sim.place(ann, keyed(&["latte"])), first);
    assert!(matches!(sim.try_to_place(ann, keyed(&["tea"])), Err(Refusal::OrderKeyReused { number }) if number == first));
    sim.expect_done();
}

#[test]
fn an_order_is_accepted_with_nobody_there_and_runs_when_a_worker_comes() {
    let mut sim = Sim::new(249);
    let [ann, bea] = sim.machines();
    sim.start(ann);
    let number = sim.place(ann, coffee(&[]));
    sim.run_for(seconds(20));
    assert_eq!(sim.outcome(ann, number), None);
    sim.start(bea);
    sim.elected();
    sim.offer(bea, a_service("coffee", 1));
    sim.within(seconds(5), |sim| sim.end(ann, number) == Some(End::Done));
    sim.expect_done();
}

#[test]
fn what_cannot_be_ordered_is_refused_and_takes_no_number() {
    let mut sim = Sim::new(250);
    let [ann, _bea] = settled(&mut sim);
    assert_eq!(sim.try_to_place(ann, coffee(&["a\0b"])), Err(Refusal::Nul));
    let many = vec!["x"; 100_000];
    assert!(matches!(sim.try_to_place(ann, coffee(&many)), Err(Refusal::OrderTooLarge { .. })));
    assert!(matches!(sim.try_to_place(ann, NewOrder { once: true, ..coffee(&[]) }), Err(Refusal::Once)));
    let strange = ["$(reboot)", ";", "a\nb", "{}"];
    assert_eq!(sim.place(ann, coffee(&strange)), 1);
}

// -- many workers

#[test]
fn a_third_order_goes_to_an_idle_worker_and_a_fifth_waits_for_a_slot() {
    let mut sim = Sim::new(260);
    let [ann, workers @ ..] = settled::<5>(&mut sim);
    brewers(&mut sim, &workers, 1);
    let long: Vec<u64> = (0..2).map(|_| sim.place(ann, coffee(&["for:20000"]))).collect();
    sim.within(seconds(1), |sim| workers.iter().map(|who| sim.running(*who)).sum::<usize>() == 2);
    let third = sim.place(ann, coffee(&["for:3000"]));
    sim.within(millis(100), |sim| sim.starts(ann, third).len() == 1);
    let busy: BTreeSet<Who> = long.iter().flat_map(|number| sim.starts(ann, *number)).map(|(who, _, _)| who).collect();
    assert!(!busy.contains(&sim.starts(ann, third)[0].0));
    let fourth = sim.place(ann, coffee(&["for:20000"]));
    sim.within(millis(100), |sim| sim.starts(ann, fourth).len() == 1);
    let fifth = sim.place(ann, coffee(&["for:10"]));
    sim.run_for(seconds(1));
    let stands = standing(&mut sim, ann, fifth);
    assert_eq!((stands.waiting, stands.position), (1, Some(1)));
    assert!(workers.iter().all(|who| sim.starts(ann, fifth).is_empty() && sim.running(*who) == 1));
    let lacks: Vec<&Lack> = stands.lacks.values().filter(|lack| **lack != Lack::NotOffered).collect();
    assert_eq!(lacks, [&Lack::Full; 4], "{stands:?}");
    sim.run_until(|sim| sim.outcome(ann, third).is_some());
    sim.within(seconds(1), |sim| sim.starts(ann, fifth).len() == 1);
}

#[test]
fn a_hundred_units_over_three_workers_end_once_each_and_distinct_workers_come_first() {
    for seed in 261..264 {
        let mut sim = Sim::new(seed);
        let [ann, bea, carl, dora] = settled(&mut sim);
        for (who, limit) in [(bea, 2), (carl, 4), (dora, 4)] {
            brewers(&mut sim, &[who], limit);
        }
        let number = sim.place(ann, batch(&["{}", "for:100"], 100));
        sim.within(seconds(10), |sim| sim.end(ann, number) == Some(End::Done));
        let starts = sim.starts(ann, number);
        assert_eq!((starts.len(), extra_starts(&sim, ann, number)), (100, 0));
        let first: BTreeSet<Who> = starts.iter().filter(|(_, unit, _)| *unit <= 3).map(|(who, _, _)| *who).collect();
        assert_eq!(first, BTreeSet::from([bea, carl, dora]));
        let item = sim.unit_end(ann, number, 7).cloned().expect("it ended").expect("it ran");
        assert_eq!(item.stdout.bytes.as_slice(), b"cup 7 for:100");
        sim.expect_done();
    }
}

#[test]
fn a_batch_of_which_some_fail_has_failed_and_says_which() {
    let mut sim = Sim::new(264);
    let [ann, bea] = settled(&mut sim);
    brewers(&mut sim, &[bea], 4);
    let items = ["exit:0", "exit:1", "exit:0", "missing"].map(str::to_owned).to_vec();
    let number = sim.place(ann, NewOrder { items, ..coffee(&["{}", "for:10"]) });
    sim.run_until(|sim| sim.outcome(ann, number).is_some());
    assert_eq!(sim.end(ann, number), Some(End::Failed));
    let good = |unit| sim.unit_end(ann, number, unit).is_some_and(|end| end.as_ref().is_ok_and(|report| report.ended.is_good()));
    assert_eq!([1, 2, 3, 4].map(good), [true, false, true, false]);
    sim.expect_done();
}

#[test]
fn every_worker_of_many_gets_work() {
    let mut sim = Sim::new(265);
    let [ann, workers @ ..] = settled::<12>(&mut sim);
    brewers(&mut sim, &workers, 1);
    let number = sim.place(ann, batch(&["for:1000"], 11));
    sim.within(seconds(2), |sim| workers.iter().all(|who| sim.running(*who) == 1));
    sim.within(seconds(5), |sim| sim.end(ann, number) == Some(End::Done));
    sim.expect_done();
}

#[test]
fn what_nobody_has_keeps_an_order_queued_and_says_what_is_lacking() {
    let mut sim = Sim::new(266);
    let [ann, bea, carl] = settled(&mut sim);
    brewers(&mut sim, &[bea], 1);
    let with = |needs| NewOrder { needs, ..coffee(&[]) };
    let huge = sim.place(ann, with(Needs { cores: 1_000_000, ..Needs::default() }));
    let soft = sim.place(ann, with(Needs { software: BTreeSet::from(["grinder".to_owned()]), ..Needs::default() }));
    let nobody = sim.place(ann, an_order("tea", &[]));
    sim.run_for(seconds(5));
    assert!(standing(&mut sim, ann, huge).lacks.values().any(|lack| *lack == Lack::Cores(4)));
    assert!(standing(&mut sim, ann, soft).lacks.values().any(|lack| *lack == Lack::Software("grinder".to_owned())));
    assert_eq!(standing(&mut sim, ann, nobody).waiting, 1);
    assert_eq!(sim.outcome(ann, soft), None);
    sim.offer(carl, Offering { software: BTreeSet::from(["grinder".to_owned()]), ..a_service("coffee", 1) });
    sim.within(seconds(5), |sim| sim.end(ann, soft) == Some(End::Done));
    assert_eq!(sim.starts(ann, soft)[0].0, carl);
    sim.cancel(ann, huge);
    sim.within(seconds(2), |sim| sim.end(ann, huge) == Some(End::Cancelled));
}

#[test]
fn a_worker_runs_only_for_whom_it_allows() {
    let mut sim = Sim::new(267);
    let [ann, bea, carl] = settled(&mut sim);
    let allowed = Allowed::Peers(BTreeSet::from([sim.status(ann).id]));
    let offering = a_service("coffee", 1);
    sim.offer(bea, Offering { card: ServiceCard { allowed, ..offering.card.clone() }, ..offering });
    sim.run_for(seconds(3));
    let (hers, his) = (sim.place(ann, coffee(&[])), sim.place(carl, coffee(&[])));
    sim.within(seconds(2), |sim| sim.end(ann, hers) == Some(End::Done));
    sim.run_for(seconds(5));
    assert_eq!(sim.starts(carl, his), []);
    assert!(standing(&mut sim, carl, his).lacks.values().any(|lack| *lack == Lack::NotAllowed));
}

#[test]
fn priorities_are_taken_literally() {
    let mut sim = Sim::new(268);
    let [ann, bea] = settled(&mut sim);
    brewers(&mut sim, &[bea], 1);
    let blocking = sim.place(ann, coffee(&["for:3000"]));
    sim.within(seconds(1), |sim| sim.running(bea) == 1);
    let threes: Vec<u64> = (0..4).map(|_| sim.place(ann, prioritised(Priority::End, &["for:10"]))).collect();
    let two = sim.place(ann, prioritised(Priority::Middle, &["for:10"]));
    let ones: Vec<u64> = (0..2).map(|_| sim.place(ann, prioritised(Priority::Front, &["for:10"]))).collect();
    let order = [ones[0], ones[1], threes[0], threes[1], two, threes[2], threes[3]];
    sim.run_until(|sim| all_ended(sim, ann, &order));
    // The middle of four is behind the second; ones came later, before all of them.
    let started = |number: u64| sim.starts(ann, number)[0];
    assert!(order.iter().all(|number| started(*number).0 == bea));
    let ends: Vec<u64> = {
        let at = |number: u64| sim.unit_end(ann, number, 1).and_then(|end| end.as_ref().ok()).map(|report| report.started_at);
        let mut sorted = order.to_vec();
        sorted.sort_by_key(|number| at(*number));
        sorted
    };
    assert_eq!(ends, order);
    assert_eq!(sim.end(ann, blocking), Some(End::Done));
}

#[test]
fn a_large_order_at_the_head_of_the_queue_is_not_starved_by_small_ones() {
    let mut sim = Sim::new(269);
    let [ann, bea] = settled(&mut sim);
    brewers(&mut sim, &[bea], 4);
    let sized = |cores| NewOrder { needs: Needs { cores, ..Needs::default() }, ..coffee(&["for:500"]) };
    let small: Vec<u64> = (0..3).map(|_| sim.place(ann, sized(1))).collect();
    sim.within(seconds(1), |sim| sim.running(bea) == 3);
    let large = sim.place(ann, sized(4));
    let later: Vec<u64> = (0..20).map(|_| sim.place(ann, sized(1))).collect();
    sim.within(seconds(3), |sim| sim.end(ann, large) == Some(End::Done));
    assert!(all_ended(&sim, ann, &small));
    sim.run_until(|sim| all_ended(sim, ann, &later));
    sim.expect_done();
}

#[test]
fn a_draining_worker_finishes_what_it_runs_and_takes_nothing_new() {
    let mut sim = Sim::new(270);
    let [ann, bea, carl] = settled(&mut sim);
    brewers(&mut sim, &[bea], 2);
    let first = sim.place(ann, coffee(&["for:3000"]));
    sim.within(seconds(1), |sim| sim.running(bea) == 1);
    sim.drain(bea, true);
    let second = sim.place(ann, coffee(&["for:10"]));
    sim.run_for(seconds(1));
    assert_eq!((sim.starts(ann, second).len(), sim.running(bea)), (0, 1));
    sim.offer(carl, a_service("coffee", 1));
    sim.within(seconds(4), |sim| sim.end(ann, second) == Some(End::Done) && sim.end(ann, first) == Some(End::Done));
    sim.crash(bea);
    sim.start(bea);
    sim.run_for(seconds(5));
    assert!(sim.status(bea).worker.draining, "it outlives a restart");
}

// -- a unit that runs long for once

/// One unit for each of so many milliseconds.
fn lasting(ms: &[u64]) -> NewOrder {
    NewOrder { items: ms.iter().map(|ms| format!("for:{ms}")).collect(), ..coffee(&["{}"]) }
}

/// These workers, of whom the leader knows that `coffee` takes 5 ms.
fn quick(sim: &mut Sim, ann: Who, workers: &[Who], limit: u32) {
    brewers(sim, workers, limit);
    let number = sim.place(ann, lasting(&[5; 100]));
    sim.within(seconds(5), |sim| sim.end(ann, number) == Some(End::Done));
}

fn units_done(sim: &Sim, who: Who, number: u64, units: u32) -> u32 {
    (1..=units).filter(|unit| sim.unit_end(who, number, *unit).is_some()).count().try_into().expect("few")
}

#[test]
fn what_waits_behind_a_unit_that_hangs_is_done_by_another_worker() {
    for (seed, limit) in (271..276).flat_map(|seed| [(seed, 1), (seed, 3)]) {
        let mut sim = Sim::new(seed);
        let [ann, bea, carl] = settled(&mut sim);
        quick(&mut sim, ann, &[bea, carl], limit);
        let slots = usize::try_from(limit).expect("few");
        let items = [vec![5; 40], vec![60_000; slots], vec![5; 40]].concat();
        let units = u32::try_from(items.len()).expect("few");
        let number = sim.place(ann, lasting(&items));
        sim.within(seconds(2), |sim| units_done(sim, ann, number, units) == units - limit);
        // Nothing is counted against a unit that never began, and none ran twice.
        assert_eq!((extra_starts(&sim, ann, number), sim.outcome(ann, number)), (0, None), "seed {seed}");
        sim.within(seconds(65), |sim| sim.end(ann, number) == Some(End::Done));
        sim.expect_done();
    }
}

#[test]
fn where_nobody_else_can_all_goes_on_when_the_unit_that_hangs_has_ended() {
    for seed in 276..280 {
        let mut sim = Sim::new(seed);
        let [ann, bea, carl] = settled(&mut sim);
        quick(&mut sim, ann, &[bea], 1);
        let number = sim.place(ann, lasting(&[vec![5; 20], vec![60_000], vec![5; 200]].concat()));
        sim.run_for(seconds(2));
        let frames = sim.frames();
        let stands = standing(&mut sim, ann, number);
        assert_eq!((stands.ended, stands.waiting, stands.tries.len(), stands.eta_ms), (20, 200, 1, None), "seed {seed}");
        assert!(stands.lacks.values().any(|lack| *lack == Lack::Full), "seed {seed}: {stands:?}");
        sim.run_for(seconds(10));
        assert!(sim.frames() - frames < 500, "seed {seed}: nothing goes to and fro");
        let later = sim.place(ann, coffee(&["for:5"]));
        sim.run_for(seconds(2));
        assert_eq!(sim.starts(ann, later), []);
        sim.within(seconds(60), |sim| all_ended(sim, ann, &[number, later]));
        assert_eq!((sim.end(ann, number), sim.starts(ann, number).len()), (Some(End::Done), 221));
        // One that hangs and a worker that comes.
        quick(&mut sim, ann, &[bea], 1);
        let number = sim.place(ann, lasting(&[vec![60_000], vec![5; 40]].concat()));
        sim.run_for(seconds(5));
        sim.offer(carl, a_service("coffee", 1));
        sim.within(seconds(5), |sim| units_done(sim, ann, number, 41) == 40);
        sim.within(seconds(65), |sim| sim.end(ann, number) == Some(End::Done));
        sim.expect_done();
    }
}

#[test]
fn a_draining_worker_begins_nothing_that_waits_and_others_do_it() {
    let mut sim = Sim::new(281);
    let [ann, bea, carl] = settled(&mut sim);
    quick(&mut sim, ann, &[bea], 1);
    let number = sim.place(ann, lasting(&[vec![45; 1], vec![5; 40]].concat()));
    sim.within(seconds(1), |sim| sim.running(bea) == 1);
    sim.drain(bea, true);
    sim.run_for(seconds(1));
    let begun = sim.starts(ann, number).len();
    assert!(begun < 10 && sim.running(bea) == 0, "{begun} had begun");
    assert_eq!(standing(&mut sim, ann, number).waiting, u32::try_from(41 - begun).expect("few"));
    sim.offer(carl, a_service("coffee", 1));
    sim.within(seconds(5), |sim| sim.end(ann, number) == Some(End::Done));
    assert_eq!(extra_starts(&sim, ann, number), 0);
    sim.expect_done();
}

#[test]
fn what_waits_begins_at_once_when_more_may_run_at_once() {
    let mut sim = Sim::new(282);
    let [ann, bea] = settled(&mut sim);
    quick(&mut sim, ann, &[bea], 1);
    let number = sim.place(ann, lasting(&[vec![10_000], vec![5; 40]].concat()));
    for wait in [100, 1_000] {
        sim.run_for(millis(wait));
        assert_eq!(sim.running(bea), 1);
    }
    sim.offer(bea, a_service("coffee", 2));
    sim.within(seconds(2), |sim| units_done(sim, ann, number, 41) == 40);
    let number = sim.place(ann, lasting(&[vec![10_000; 2], vec![5; 40]].concat()));
    sim.within(seconds(30), |sim| sim.running(bea) == 2 && sim.starts(ann, number).len() == 2);
    sim.offer(bea, a_service("coffee", 3));
    sim.within(seconds(3), |sim| units_done(sim, ann, number, 42) == 40);
    assert_eq!(extra_starts(&sim, ann, number), 0);
    sim.expect_done();
}

// -- deaths

#[test]
fn a_leader_that_dies_with_two_hundred_orders_loses_none_and_restarts_none() {
    for seed in 280..284 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 6] = settled(&mut sim);
        let leader = sim.elected();
        let others = other_than(&peers, &[leader]);
        let (ann, workers) = (others[0], &others[1..]);
        brewers(&mut sim, workers, 4);
        let numbers: Vec<u64> = (0..200).map(|n| sim.place(ann, coffee(&[&format!("for:{}", 100 + n * 37 % 1_900)]))).collect();
        sim.run_for(seconds(2));
        assert!(!all_ended(&sim, ann, &numbers));
        sim.crash(leader);
        let begun = |sim: &Sim| numbers.iter().map(|number| sim.starts(ann, *number).len()).sum::<usize>();
        let before = begun(&sim);
        sim.within(seconds(1), |sim| begun(sim) > before || all_ended(sim, ann, &numbers));
        let fresh = sim.place(ann, coffee(&["for:10"]));
        sim.run_until(|sim| all_ended(sim, ann, &numbers) && sim.outcome(ann, fresh).is_some());
        assert!(numbers.iter().all(|number| sim.end(ann, *number) == Some(End::Done)));
        let again: usize = numbers.iter().map(|number| extra_starts(&sim, ann, *number)).sum();
        assert_eq!(again, 0, "running work is adopted, not restarted");
        sim.expect_done();
    }
}

#[test]
fn a_worker_that_dies_has_its_unit_run_elsewhere_as_the_second_attempt() {
    for seed in 284..288 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 4] = settled(&mut sim);
        let leader = sim.elected();
        let others = other_than(&peers, &[leader]);
        let (ann, workers) = (others[0], &others[1..]);
        brewers(&mut sim, workers, 1);
        let number = sim.place(ann, coffee(&["for:5000"]));
        sim.within(seconds(1), |sim| sim.starts(ann, number).len() == 1);
        let (first, ..) = sim.starts(ann, number)[0];
        sim.crash(first);
        sim.start_after(first, seconds(2));
        sim.run_until(|sim| sim.starts(ann, number).len() == 2);
        let (_, unit, attempt) = sim.starts(ann, number)[1];
        assert_eq!((unit, attempt), (1, 2));
        sim.run_until(|sim| sim.end(ann, number) == Some(End::Done));
        sim.expect_done();
    }
}

#[test]
fn a_worker_that_is_gone_for_ever_is_given_up_after_half_a_minute() {
    let mut sim = Sim::new(288);
    let peers: [Who; 4] = settled(&mut sim);
    let leader = sim.elected();
    let others = other_than(&peers, &[leader]);
    let (ann, workers) = (others[0], &others[1..]);
    brewers(&mut sim, workers, 1);
    let number = sim.place(ann, coffee(&["for:1000"]));
    sim.within(seconds(1), |sim| sim.starts(ann, number).len() == 1);
    let (first, ..) = sim.starts(ann, number)[0];
    sim.lose_for_ever(first);
    sim.run_for(seconds(20));
    assert_eq!(sim.starts(ann, number).len(), 1, "it may come back");
    sim.within(seconds(15), |sim| sim.end(ann, number) == Some(End::Done));
    sim.expect_done();
}

#[test]
fn what_an_orderer_knows_to_have_ended_does_not_run_again_though_its_worker_died_with_the_leader() {
    for seed in 1_289..1_297 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 4] = settled(&mut sim);
        let leader = sim.elected();
        let others = other_than(&peers, &[leader]);
        let (ann, bea) = (others[0], others[1]);
        // One that led before has its queue of then, too.
        if seed % 2 == 0 {
            sim.transfer(leader, others[2]);
            sim.run_until(|sim| sim.leader() == Some(others[2]));
        }
        brewers(&mut sim, &[leader, bea], 2);
        let number = sim.place(ann, batch(&["for:300"], 40));
        let ended = |sim: &Sim| (1..=40).filter(|unit| sim.unit_end(ann, number, *unit).is_some()).count();
        if seed % 2 == 0 {
            sim.run_until(|sim| ended(sim) >= 4);
            sim.transfer(others[2], leader);
            sim.run_until(|sim| sim.leader() == Some(leader));
        }
        sim.run_until(|sim| ended(sim) >= 16);
        let before: BTreeSet<u32> = (1..=40).filter(|unit| sim.unit_end(ann, number, *unit).is_some()).collect();
        assert!(sim.starts(ann, number).iter().any(|(who, unit, _)| *who == leader && before.contains(unit)));
        let begun = sim.starts(ann, number).len();
        sim.crash(leader);
        sim.run_until(|sim| sim.end(ann, number) == Some(End::Done));
        let again: Vec<_> = sim.starts(ann, number).split_off(begun).into_iter().filter(|(_, unit, _)| before.contains(unit)).collect();
        assert_eq!(again, [], "seed {seed}");
        sim.start(leader);
        sim.expect_done();
    }
}

#[test]
fn a_worker_cut_off_while_it_runs_tells_its_end_when_it_is_back_and_nothing_runs_twice() {
    for seed in 289..293 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 4] = settled(&mut sim);
        let leader = sim.elected();
        let others = other_than(&peers, &[leader]);
        let (ann, bea) = (others[0], others[1]);
        brewers(&mut sim, &[bea], 1);
        let number = sim.place(ann, coffee(&["for:2000"]));
        sim.within(seconds(1), |sim| sim.running(bea) == 1);
        other_than(&peers, &[bea]).into_iter().for_each(|other| sim.partition(bea, other));
        sim.run_for(seconds(8));
        assert_eq!((sim.running(bea), sim.outcome(ann, number)), (0, None));
        sim.heal();
        sim.within(seconds(15), |sim| sim.end(ann, number) == Some(End::Done));
        assert_eq!(sim.starts(ann, number).len(), 1);
        sim.expect_done();
    }
}

#[test]
fn an_orderer_that_dies_at_any_point_of_placing_keeps_its_word_and_repeats_no_number() {
    for (seed, point) in (293..).zip([CrashPoint::BeforeCommit, CrashPoint::AfterCommit, CrashPoint::After(1), CrashPoint::After(3)]) {
        let mut sim = Sim::new(seed);
        let [ann, bea, _carl] = settled(&mut sim);
        brewers(&mut sim, &[bea], 1);
        let first = sim.place(ann, coffee(&[]));
        sim.crash_at(ann, point, |change| matches!(change, Change::Order(_)));
        let request = sim.order(ann, coffee(&["for:20"]));
        sim.run_until(|sim| !sim.is_up(ann));
        let told = sim.answer(request).is_some();
        sim.start(ann);
        sim.elected();
        let third = sim.place(ann, coffee(&[]));
        assert!(third > first && (!told || third == first + 2), "{third} after {first}");
        sim.expect_done();
        assert_eq!(sim.end(ann, first), Some(End::Done));
    }
}

#[test]
fn an_orderer_away_when_its_order_ends_learns_of_it_when_it_is_back() {
    for seed in 297..301 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 5] = settled(&mut sim);
        let leader = sim.elected();
        let others = other_than(&peers, &[leader]);
        let (ann, bea) = (others[0], others[1]);
        brewers(&mut sim, &[bea], 1);
        let number = sim.place(ann, coffee(&["for:1000"]));
        sim.within(seconds(1), |sim| sim.running(bea) == 1);
        sim.stop(ann);
        sim.run_for(seconds(8));
        assert_eq!(sim.running(bea), 0, "it ran to its end without its orderer");
        // And its worker is gone before it is back: the report waits with others.
        sim.stop(bea);
        sim.start(ann);
        sim.within(seconds(10), |sim| sim.end(ann, number) == Some(End::Done));
        assert_eq!(sim.starts(ann, number).len(), 1);
        // Everything about it has come by now: the outcome is in the inbox, and the letters that told of it are not.
        sim.start(bea);
        sim.expect_done();
        assert_eq!((sim.outcomes_shown(ann), sim.inbox(ann)), (vec![number], Vec::new()));
    }
}

#[test]
fn a_worker_that_dies_around_a_report_tells_it_once_or_again_and_one_counts() {
    type When = fn(&Change) -> bool;
    let begins: When = |change| matches!(change, Change::TryStarted { .. });
    let ends: When = |change| matches!(change, Change::TryEnded(_));
    let points = [CrashPoint::BeforeCommit, CrashPoint::AfterCommit, CrashPoint::After(1)];
    for (seed, (when, point)) in (301..).zip([begins, ends].into_iter().flat_map(|when| points.map(|point| (when, point)))) {
        let mut sim = Sim::new(seed);
        let peers: [Who; 3] = settled(&mut sim);
        let leader = sim.elected();
        let others = other_than(&peers, &[leader]);
        let (ann, bea) = (others[0], others[1]);
        brewers(&mut sim, &[bea], 1);
        let number = sim.place(ann, coffee(&["for:100"]));
        sim.crash_at(bea, point, when);
        sim.run_until(|sim| !sim.is_up(bea) || sim.outcome(ann, number).is_some());
        sim.start(bea);
        sim.within(seconds(40), |sim| sim.end(ann, number) == Some(End::Done));
        sim.expect_done();
    }
}

#[test]
fn a_leader_that_dies_around_its_commits_hands_nothing_out_twice() {
    type When = fn(&Change) -> bool;
    let takes: When = |change| matches!(change, Change::Queue(_));
    let assigns: When = |change| matches!(change, Change::QueueState(_));
    let points = [CrashPoint::BeforeCommit, CrashPoint::AfterCommit, CrashPoint::After(1), CrashPoint::After(2)];
    for (seed, (when, point)) in (310..).zip([takes, assigns].into_iter().flat_map(|when| points.map(|point| (when, point)))) {
        let mut sim = Sim::new(seed);
        let peers: [Who; 5] = settled(&mut sim);
        let leader = sim.elected();
        let others = other_than(&peers, &[leader]);
        let (ann, workers) = (others[0], &others[1..]);
        brewers(&mut sim, workers, 2);
        sim.crash_at(leader, point, when);
        let number = sim.place(ann, batch(&["for:500"], 6));
        sim.run_until(|sim| !sim.is_up(leader));
        sim.start_after(leader, seconds(2));
        sim.run_until(|sim| sim.end(ann, number) == Some(End::Done));
        assert_eq!(extra_starts(&sim, ann, number), 0);
        sim.expect_done();
    }
}

#[test]
fn everybody_may_die_at_once_and_every_order_ends() {
    for seed in 320..325 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 4] = settled(&mut sim);
        brewers(&mut sim, &peers[1..], 2);
        let numbers: Vec<u64> = (0..20).map(|_| sim.place(peers[0], coffee(&["for:700"]))).collect();
        sim.run_for(seconds(1));
        peers.iter().for_each(|who| sim.crash(*who));
        peers.iter().for_each(|who| sim.start(*who));
        sim.run_until(|sim| all_ended(sim, peers[0], &numbers));
        assert!(numbers.iter().all(|number| sim.end(peers[0], *number) == Some(End::Done)));
        sim.expect_done();
    }
}

#[test]
fn both_sides_of_a_partition_go_on_working_and_each_order_has_one_outcome() {
    for seed in 325..330 {
        let mut sim = Sim::new(seed);
        let [ann, bea, carl, dora] = settled(&mut sim);
        brewers(&mut sim, &[bea, dora], 2);
        let before: Vec<u64> = (0..10).map(|_| sim.place(ann, coffee(&["for:800"]))).collect();
        for one in [ann, bea] {
            for other in [carl, dora] {
                sim.partition(one, other);
            }
        }
        sim.run_for(seconds(10));
        let here = sim.place(ann, coffee(&["for:100"]));
        let there = sim.place(carl, coffee(&["for:100"]));
        sim.within(seconds(30), |sim| sim.end(ann, here) == Some(End::Done) && sim.end(carl, there) == Some(End::Done));
        sim.heal();
        sim.run_until(|sim| all_ended(sim, ann, &before));
        sim.expect_done();
    }
}

// -- standbys

/// How many hold an order beside its orderer, as the leader tells.
fn held_by(sim: &mut Sim, asker: Who, orderer: Who, number: u64) -> u32 {
    let (leader, order) = (sim.elected(), sim.order_key(orderer, number));
    match sim.question(asker, leader, Question::Task(order)) {
        Some(Results::Task(Some(standing))) => standing.held_by,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_order_that_three_hold_is_done_though_its_orderer_and_its_leader_are_gone() {
    for seed in 500..510 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 5] = settled(&mut sim);
        let leader = sim.elected();
        let others = other_than(&peers, &[leader]);
        let (ann, bea) = (others[0], others[1]);
        let numbers: Vec<u64> = (0..20).map(|_| sim.place(ann, coffee(&["for:100"]))).collect();
        sim.within(seconds(1), |sim| numbers.iter().all(|number| peers.iter().filter(|who| sim.queues(**who, ann, *number)).count() == 3));
        // Ann herself may be a standby, and does not count.
        assert!((2..=3).contains(&held_by(&mut sim, bea, ann, numbers[0])));
        sim.crash(ann);
        sim.crash(leader);
        sim.elected();
        brewers(&mut sim, &[bea], 2);
        sim.within(seconds(10), |sim| numbers.iter().all(|number| sim.starts(ann, *number).len() == 1));
        sim.start(ann);
        sim.run_until(|sim| all_ended(sim, ann, &numbers));
        assert!(numbers.iter().all(|number| sim.end(ann, *number) == Some(End::Done) && sim.starts(ann, *number).len() == 1));
        sim.expect_done();
    }
}

#[test]
fn everyone_who_holds_the_queue_has_it_in_one_order() {
    let mut sim = Sim::new(511);
    let peers: [Who; 5] = settled(&mut sim);
    let leader = sim.elected();
    let ann = other_than(&peers, &[leader])[0];
    let order = |priority| NewOrder { priority, ..coffee(&[]) };
    for priority in [Priority::End, Priority::End, Priority::End, Priority::End, Priority::Middle, Priority::Front, Priority::Front] {
        sim.place(ann, order(priority));
    }
    sim.run_for(seconds(1));
    let queue = sim.queue(leader);
    assert_eq!(queue, [6, 7, 1, 2, 5, 3, 4]);
    let holders: Vec<Who> = peers.into_iter().filter(|who| sim.queues(*who, ann, 1)).collect();
    assert_eq!(holders.len(), 3);
    assert!(holders.iter().all(|who| sim.queue(*who) == queue));
    sim.crash(leader);
    let next = sim.elected();
    assert!(holders.contains(&next), "who holds the queue comes first");
    sim.run_for(seconds(5));
    assert_eq!(sim.queue(next), queue);
}

#[test]
fn a_standby_that_does_not_answer_is_replaced_and_waited_for_by_nobody() {
    for seed in 512..516 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 5] = settled(&mut sim);
        let leader = sim.elected();
        let standbys = sim.standbys(leader);
        assert_eq!(standbys.len(), 2);
        let others = other_than(&peers, &[leader, standbys[0], standbys[1]]);
        let (ann, bea) = (others[0], others[1]);
        brewers(&mut sim, &[bea], 2);
        sim.sleep(standbys[0], seconds(8));
        let number = sim.place(ann, coffee(&["for:10"]));
        sim.within(seconds(1), |sim| sim.end(ann, number) == Some(End::Done));
        sim.within(seconds(2), |sim| sim.standbys(leader).len() == 2 && !sim.standbys(leader).contains(&standbys[0]));
        let number = sim.place(ann, coffee(&["for:10"]));
        sim.within(millis(100), |sim| sim.end(ann, number) == Some(End::Done));
        sim.run_for(seconds(30));
        assert_eq!(sim.elected(), leader);
        sim.expect_done();
    }
}

#[test]
fn what_a_worker_has_that_the_next_leader_does_not_hear_is_waited_for() {
    for seed in 516..520 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 5] = settled(&mut sim);
        let leader = sim.elected();
        let standbys = sim.standbys(leader);
        let others = other_than(&peers, &[leader, standbys[0], standbys[1]]);
        let (ann, bea) = (others[0], others[1]);
        brewers(&mut sim, &[bea], 1);
        let number = sim.place(ann, coffee(&["for:12000"]));
        sim.within(seconds(1), |sim| sim.running(bea) == 1);
        for other in &peers {
            sim.partition(bea, *other);
        }
        sim.crash(leader);
        sim.run_for(seconds(3));
        brewers(&mut sim, &[standbys[0]], 1);
        sim.run_for(seconds(10));
        assert_eq!(sim.starts(ann, number).len(), 1, "it may run on where nobody hears of it");
        sim.heal();
        sim.run_until(|sim| sim.end(ann, number) == Some(End::Done));
        assert_eq!(sim.starts(ann, number).len(), 1);
        sim.expect_done();
    }
}

#[test]
fn a_leader_that_works_and_is_suspended_has_its_own_work_waited_for() {
    for seed in 520..524 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 4] = settled(&mut sim);
        let leader = sim.elected();
        let ann = other_than(&peers, &[leader])[0];
        brewers(&mut sim, &[leader], 1);
        let number = sim.place(ann, coffee(&["for:15000"]));
        sim.within(seconds(1), |sim| sim.running(leader) == 1);
        sim.sleep(leader, seconds(8));
        sim.run_for(seconds(5));
        brewers(&mut sim, &other_than(&peers, &[leader, ann])[..1], 1);
        sim.run_until(|sim| sim.end(ann, number) == Some(End::Done));
        assert_eq!(sim.starts(ann, number).len(), 1, "it went on all the time");
        sim.expect_done();
    }
}

#[test]
fn the_side_that_gives_way_hands_over_what_its_orderer_cannot() {
    for seed in 524..530 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 5] = settled(&mut sim);
        let leader = sim.elected();
        let others = other_than(&peers, &[leader]);
        let (ann, bea, carl, dora) = (others[0], others[1], others[2], others[3]);
        // Ann and Bea on one side; what Ann orders there nobody can run.
        for one in [ann, bea] {
            for other in [leader, carl, dora] {
                sim.partition(one, other);
            }
        }
        sim.run_for(seconds(10));
        let number = sim.place(ann, coffee(&["for:100"]));
        sim.within(seconds(2), |sim| sim.queues(bea, ann, number));
        sim.crash(ann);
        sim.run_for(seconds(10));
        sim.heal();
        sim.run_for(seconds(10));
        brewers(&mut sim, &[dora], 1);
        sim.within(seconds(5), |sim| sim.starts(ann, number).len() == 1);
        sim.start(ann);
        sim.run_until(|sim| sim.end(ann, number) == Some(End::Done));
        assert_eq!(sim.starts(ann, number).len(), 1);
        sim.run_for(seconds(30));
        let holders = peers.iter().filter(|who| sim.queues(**who, ann, number)).count();
        assert_eq!(holders, 0, "what has ended is held by nobody");
        sim.expect_done();
    }
}

// -- cancelling

#[test]
fn an_order_cancelled_while_it_waits_never_runs() {
    let mut sim = Sim::new(340);
    let [ann, bea, _carl] = settled(&mut sim);
    brewers(&mut sim, &[bea], 1);
    let first = sim.place(ann, coffee(&["for:2000"]));
    sim.within(seconds(1), |sim| sim.running(bea) == 1);
    let second = sim.place(ann, coffee(&["for:10"]));
    sim.run_for(millis(100));
    assert_eq!(sim.cancel(ann, second), None);
    sim.within(seconds(1), |sim| sim.end(ann, second) == Some(End::Cancelled));
    sim.run_until(|sim| sim.end(ann, first) == Some(End::Done));
    sim.run_for(seconds(2));
    assert_eq!(sim.starts(ann, second), []);
    assert_eq!(sim.cancel(ann, first), Some(End::Done), "what has ended stays so");
    sim.expect_done();
}

#[test]
fn an_order_cancelled_while_it_runs_is_stopped() {
    let mut sim = Sim::new(341);
    let [ann, bea, carl] = settled(&mut sim);
    brewers(&mut sim, &[bea, carl], 2);
    let number = sim.place(ann, batch(&["for:60000"], 6));
    sim.within(seconds(1), |sim| sim.running(bea) + sim.running(carl) == 4);
    sim.cancel(ann, number);
    sim.within(seconds(6), |sim| sim.running(bea) + sim.running(carl) == 0);
    sim.within(seconds(2), |sim| sim.end(ann, number) == Some(End::Cancelled));
    assert_eq!(sim.starts(ann, number).len(), 4, "the others never begin");
    sim.expect_done();
}

#[test]
fn a_cancel_that_comes_around_the_end_tells_the_truth() {
    // 30 ms of run; the cancel comes 0 to 40 ms after the order.
    for after in 0..40 {
        let mut sim = Sim::new(342 + after);
        let [ann, bea] = settled(&mut sim);
        brewers(&mut sim, &[bea], 1);
        let number = sim.place(ann, coffee(&["for:30"]));
        sim.run_for(millis(after));
        sim.cancel(ann, number);
        sim.within(seconds(8), |sim| sim.outcome(ann, number).is_some());
        let exited = sim.unit_end(ann, number, 1).is_some_and(|end| end.as_ref().is_ok_and(|report| report.ended == Ended::Exited(0)));
        assert_eq!(sim.end(ann, number), Some(if exited { End::Done } else { End::Cancelled }));
        sim.expect_done();
    }
}

#[test]
fn a_cancel_holds_though_the_leader_dies_with_it() {
    for seed in 390..395 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 5] = settled(&mut sim);
        let leader = sim.elected();
        let others = other_than(&peers, &[leader]);
        let (ann, bea) = (others[0], others[1]);
        brewers(&mut sim, &[bea], 1);
        let number = sim.place(ann, batch(&["for:60000"], 3));
        sim.within(seconds(1), |sim| sim.running(bea) == 1);
        sim.crash(leader);
        sim.cancel(ann, number);
        sim.within(seconds(12), |sim| sim.end(ann, number) == Some(End::Cancelled) && sim.running(bea) == 0);
        assert_eq!(sim.starts(ann, number).len(), 1);
        sim.expect_done();
    }
}

#[test]
fn a_cancel_whose_worker_is_lost_ends_unconfirmed() {
    let mut sim = Sim::new(395);
    let peers: [Who; 4] = settled(&mut sim);
    let leader = sim.elected();
    let others = other_than(&peers, &[leader]);
    let (ann, bea) = (others[0], others[1]);
    brewers(&mut sim, &[bea], 1);
    let number = sim.place(ann, coffee(&["for:60000"]));
    sim.within(seconds(1), |sim| sim.running(bea) == 1);
    sim.lose_for_ever(bea);
    sim.cancel(ann, number);
    sim.run_for(seconds(10));
    assert_eq!(sim.outcome(ann, number), None, "it may still run");
    sim.within(seconds(40), |sim| sim.end(ann, number) == Some(End::Cancelled));
    let why = sim.outcome(ann, number).and_then(|outcome| outcome.why.clone());
    assert!(why.is_some_and(|why| why.contains("unconfirmed")));
}

#[test]
fn an_order_whose_time_is_up_expires_whether_it_waits_or_runs() {
    let mut sim = Sim::new(396);
    let [ann, bea] = settled(&mut sim);
    brewers(&mut sim, &[bea], 1);
    let soon = |args: &[&str]| NewOrder { expires: Some(seconds(2)), ..coffee(args) };
    let runs = sim.place(ann, soon(&["for:60000"]));
    let waits = sim.place(ann, soon(&["for:10"]));
    let nobody = sim.place(ann, NewOrder { service: "tea".parse().expect("a name"), ..soon(&[]) });
    sim.within(seconds(10), |sim| all_ended(sim, ann, &[runs, waits, nobody]));
    assert!([runs, waits, nobody].iter().all(|number| sim.end(ann, *number) == Some(End::Expired)));
    assert_eq!((sim.running(bea), sim.starts(ann, waits)), (0, vec![]));
    sim.expect_done();
}

#[test]
fn nobody_cancels_an_order_of_somebody_else() {
    let mut sim = Sim::new(397);
    let [ann, bea, carl] = settled(&mut sim);
    brewers(&mut sim, &[bea], 1);
    let number = sim.place(ann, coffee(&["for:1000"]));
    sim.within(seconds(1), |sim| sim.running(bea) == 1);
    let own = sim.place(carl, coffee(&["for:10"]));
    assert_eq!(own, number, "both are called 1");
    sim.cancel(carl, own);
    sim.within(seconds(3), |sim| sim.end(ann, number) == Some(End::Done) && sim.outcome(carl, own).is_some());
    sim.expect_done();
}

// -- what is seen, and bad weather

#[test]
fn a_question_is_answered_with_what_is_so() {
    let mut sim = Sim::new(400);
    let [ann, bea, _carl] = settled(&mut sim);
    brewers(&mut sim, &[bea], 2);
    let number = sim.place(ann, coffee(&["for:2000", "steps:3", "write:40000"]));
    sim.within(seconds(1), |sim| sim.running(bea) == 1);
    let ask = Question::Availability { service: "coffee".parse().expect("a name"), needs: Needs::default() };
    let answer = sim.question(ann, bea, ask);
    let Some(Results::Availability(availability)) = answer else { panic!("{answer:?}") };
    assert_eq!((availability.available, availability.running, availability.limit, availability.remaining), (true, 1, 2, 1));
    let answer = sim.question(ann, bea, Question::Services);
    assert!(matches!(&answer, Some(Results::Services(services)) if services.services.len() == 1), "{answer:?}");
    sim.run_until(|sim| sim.outcome(ann, number).is_some());
    let report = sim.unit_end(ann, number, 1).cloned().expect("it ended").expect("it ran");
    assert!(report.stdout.total > 40_000 && report.stdout.bytes.len() == 32 * 1024, "a report holds the beginning");
    sim.expect_done();
}

#[test]
fn an_echo_answers_without_a_process_and_two_thousand_of_them_all_end() {
    let mut sim = Sim::new(401);
    let [ann, bea, carl] = settled(&mut sim);
    for who in [bea, carl] {
        sim.offer(who, Offering { program: Program::Echo, ..a_service("coffee", 8) });
    }
    sim.run_for(seconds(3));
    let number = sim.place(ann, batch(&["{}"], 2_000));
    sim.run_until(|sim| sim.end(ann, number) == Some(End::Done));
    let by: BTreeMap<Who, usize> = sim.starts(ann, number).iter().fold(BTreeMap::new(), |mut by, (who, _, _)| {
        *by.entry(*who).or_default() += 1;
        by
    });
    assert!(by.len() == 2 && by.values().all(|runs| *runs > 200), "{by:?}");
    sim.expect_done();
}

#[test]
fn signatures_and_frames_of_orders_are_real_where_they_are() {
    let mut options = Options::calm();
    options.cryptography = true;
    let mut sim = Sim::with(407, options);
    let peers: [Who; 4] = settled(&mut sim);
    let leader = sim.elected();
    let others = other_than(&peers, &[leader]);
    let (ann, workers) = (others[0], &others[1..]);
    brewers(&mut sim, workers, 2);
    let done = sim.place(ann, batch(&["for:200"], 8));
    let cancelled = sim.place(ann, coffee(&["for:60000"]));
    sim.run_for(millis(300));
    sim.crash(leader);
    sim.cancel(ann, cancelled);
    sim.run_until(|sim| sim.end(ann, done) == Some(End::Done) && sim.end(ann, cancelled) == Some(End::Cancelled));
    sim.expect_done();
    assert!(peers.iter().filter(|who| sim.is_up(**who)).all(|who| sim.status(*who).refused.is_empty()), "nothing was refused at an edge");
}

#[test]
fn a_leader_that_takes_work_again_runs_what_waits_for_it() {
    let mut sim = Sim::new(320);
    let [ann, bea] = settled(&mut sim);
    let leader = sim.elected();
    let other = if leader == ann { bea } else { ann };
    brewers(&mut sim, &[leader], 1);
    sim.available(leader, false);
    sim.run_for(seconds(5));
    let number = sim.place(other, coffee(&[]));
    sim.run_for(seconds(5));
    assert_eq!(sim.outcome(other, number), None, "it takes no work");
    sim.available(leader, true);
    sim.within(seconds(2), |sim| sim.end(other, number) == Some(End::Done));
    sim.expect_done();
}

#[test]
fn orders_end_and_are_forgotten_though_frames_vanish_from_connections_that_go_on() {
    for seed in 321..325 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 4] = settled(&mut sim);
        brewers(&mut sim, &peers, 2);
        sim.lose(0.3);
        let numbers: Vec<u64> = (0..10).map(|n| sim.place(peers[0], batch(&[], 1 + n % 4))).collect();
        sim.run_for(seconds(20));
        sim.lose(0.0);
        sim.within(seconds(60), |sim| all_ended(sim, peers[0], &numbers));
        sim.within(seconds(60), |sim| peers.iter().all(|who| sim.reports_kept(*who) == 0));
        sim.expect_done();
    }
}

#[test]
fn an_order_that_had_ended_before_its_orderer_was_put_back_ends_and_says_so() {
    let mut sim = Sim::new(326);
    let peers: [Who; 3] = settled(&mut sim);
    let leader = sim.elected();
    let others = other_than(&peers, &[leader]);
    let (ann, bea) = (others[0], others[1]);
    let number = sim.place(ann, coffee(&[]));
    sim.run_for(seconds(1));
    let backup = sim.back_up(ann);
    brewers(&mut sim, &[bea], 1);
    assert_eq!(sim.end(ann, number), Some(End::Done));
    sim.crash(ann);
    sim.restore(ann, backup);
    sim.start(ann);
    sim.within(seconds(15), |sim| sim.end(ann, number) == Some(End::Failed));
    let why = sim.outcome(ann, number).and_then(|outcome| outcome.why.clone()).unwrap_or_default();
    assert!(why.starts_with("ended before"), "{why}");
}

#[test]
fn an_order_under_the_name_of_one_that_its_orderer_has_forgotten_goes_on_under_another() {
    let mut sim = Sim::new(327);
    let peers: [Who; 3] = settled(&mut sim);
    let leader = sim.elected();
    let others = other_than(&peers, &[leader]);
    let (ann, bea) = (others[0], others[1]);
    brewers(&mut sim, &[bea], 1);
    let (backup, epoch) = (sim.back_up(ann), sim.epoch(ann));
    let tea = NewOrder { service: "tea".parse().expect("a name"), ..coffee(&[]) };
    let forgotten = sim.place(ann, tea);
    sim.within(seconds(1), |sim| sim.queues(leader, ann, forgotten));
    sim.crash(ann);
    sim.restore(ann, backup);
    sim.start(ann);
    sim.run_for(seconds(5));
    assert_eq!(sim.epoch(ann), epoch, "its last beacon was from before the order");
    let number = sim.place(ann, coffee(&[]));
    assert_eq!(number, forgotten);
    sim.within(seconds(5), |sim| sim.end(ann, number) == Some(End::Done));
    assert_ne!(sim.epoch(ann), epoch);
    assert_eq!(sim.starts(ann, number).len(), 1);
    sim.expect_done();
}

#[test]
fn a_leader_that_was_down_when_an_order_ended_does_not_run_it_again_though_its_orderer_is_away() {
    for seed in 328..332 {
        let mut sim = Sim::new(seed);
        let peers: [Who; 5] = settled(&mut sim);
        let first = sim.elected();
        let others = other_than(&peers, &[first]);
        let (ann, bea) = (others[0], others[1]);
        let number = sim.place(ann, coffee(&[]));
        sim.within(seconds(1), |sim| sim.queues(first, ann, number));
        sim.crash(first);
        let second = sim.elected();
        brewers(&mut sim, &[bea], 1);
        assert_eq!(sim.end(ann, number), Some(End::Done));
        // Who could run it now has never heard of it.
        sim.withdraw(bea, "coffee");
        brewers(&mut sim, &other_than(&peers, &[first, second, ann, bea])[..1], 1);
        // Restarted, it does not know any more whom it has not told.
        sim.crash(ann);
        sim.start(ann);
        sim.run_for(seconds(5));
        sim.crash(ann);
        sim.start(first);
        sim.run_for(seconds(5));
        assert!(!sim.queues(first, ann, number), "who leads has told it");
        let leader = sim.elected();
        sim.transfer(leader, first);
        sim.run_for(seconds(10));
        assert_eq!((sim.elected(), sim.starts(ann, number).len()), (first, 1));
        sim.start(ann);
        sim.within(seconds(5), |sim| !sim.queues(first, ann, number));
        sim.expect_done();
        assert_eq!(sim.starts(ann, number).len(), 1);
    }
}
