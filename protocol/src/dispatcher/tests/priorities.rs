//! Which order is next, which worker gets it, and what it costs to find out.

use super::*;

fn numbers(done: &Done) -> Vec<u64> {
    done.assigned().iter().map(|(_, of)| of.order.number).collect()
}

#[test]
fn an_order_is_stored_acknowledged_and_given_out_in_one_batch() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let done = desk.order(order(1));
    let of = Try { order: key(1), unit: 1, attempt: Attempt { term: 1, leader: peer(ME), number: 1 } };
    let to = |number| done.said.iter().filter(|(to, _)| *to == peer(number)).map(|(_, work)| work.clone()).collect::<Vec<_>>();
    assert_eq!(to(ORDERER), [Work::Queued { fence: fence(1), orders: vec![key(1)] }]);
    assert_eq!(to(3), [Work::Orders(vec![Proven::own(order(1))]), Work::Assign { fence: fence(1), units: vec![of] }]);
    assert_eq!(done.said.len(), 3);
    assert!(matches!(done.stored[..], [Change::Queue(_), Change::QueueState(_)]), "{:?}", done.stored);
    let QueueState { tries, .. } = desk.queue[&key(1)].1.clone().expect("it is stored");
    assert_eq!(tries, [(1, of.attempt, peer(3))], "the intent is on disk before it leaves");
    let done = desk.end(peer(3), of);
    assert!(done.stored.is_empty() && done.said.is_empty(), "{done:?}");
    assert!(matches!(desk.close(1).stored[..], [Change::Unqueue(_), Change::Closed { .. }]));
    assert_eq!(desk.dispatcher.orders(), 0);
}

#[test]
fn of_four_3s_a_2_and_a_1_the_1_is_first_and_the_2_in_the_middle() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let mut running = desk.order(order(1)).assigned();
    (2..=5).for_each(|number| assert!(desk.order(order(number)).assigned().is_empty()));
    desk.order(Order { priority: Priority::Middle, ..order(6) });
    desk.order(Order { priority: Priority::Front, ..order(7) });
    desk.order(Order { priority: Priority::Front, ..order(8) });
    assert_eq!(desk.standing(7).position, Some(1));
    assert_eq!(desk.standing(6).position, Some(5));
    let mut came = Vec::new();
    while let Some((at, of)) = running.pop() {
        let done = desk.end(at, of);
        came.extend(numbers(&done));
        running = done.assigned();
    }
    assert_eq!(came, [7, 8, 2, 3, 6, 4, 5]);
}

#[test]
fn units_of_an_order_go_to_distinct_workers_first() {
    let mut desk = Desk::new(vec![worker(3, 8), worker(4, 1), worker(5, 2)]);
    let done = desk.order(of_units(1, 3));
    let workers: BTreeSet<PeerId> = done.assigned().iter().map(|(worker, _)| *worker).collect();
    assert_eq!(workers.len(), 3);
    assert_eq!(done.said("Orders"), 3, "each got the order itself, once");
}

#[test]
fn the_idle_one_of_four_gets_the_third_order_and_an_inactive_one_gets_it_last() {
    let mut desk = Desk::new((3..=6).map(|number| worker(number, 2)).collect());
    desk.workers[0].inactive = true;
    let mut got = BTreeSet::new();
    for number in 1..=3 {
        got.extend(desk.order(order(number)).assigned().iter().map(|(worker, _)| *worker));
    }
    assert_eq!(got, (4..=6).map(peer).collect());
    for number in 4..=6 {
        assert_ne!(desk.order(order(number)).assigned()[0].0, peer(3));
    }
    assert_eq!(desk.order(order(7)).assigned()[0].0, peer(3));
}

#[test]
fn a_hundred_units_over_limits_of_2_4_and_4_never_exceed_them() {
    let limits = [(3, 2), (4, 4), (5, 4)];
    let mut desk = Desk::new(limits.iter().map(|(number, limit)| worker(*number, *limit)).collect());
    let mut running = desk.order(of_units(1, 100)).assigned();
    assert_eq!(running.len(), 10);
    let mut ended = BTreeSet::new();
    while !running.is_empty() {
        for (number, limit) in limits {
            assert!(running.iter().filter(|(worker, _)| *worker == peer(number)).count() <= limit as usize);
        }
        let (at, of) = running.remove(running.len() / 2);
        assert!(ended.insert(of.unit), "each unit ends once");
        running.extend(desk.end(at, of).assigned());
    }
    assert_eq!(ended.len(), 100);
    assert_eq!(desk.standing(1).ended, 100);
}

#[test]
fn a_short_service_is_prefetched_and_a_long_one_is_not() {
    // Four a slot, or as many as fit into 100 ms: 25 of 4 ms.
    for (ran_ms, most) in [(30, 10), (4, 52), (1_000, 2)] {
        let mut desk = Desk::new(vec![worker(3, 2)]);
        let mut running = desk.order(of_units(1, 100)).assigned();
        assert_eq!(running.len(), 2, "nothing was measured yet");
        for _ in 0..20 {
            let (at, of) = running.remove(0);
            let mut report = report(of, at);
            report.value.ran_ms = ran_ms;
            running.extend(desk.batch(|dispatcher, now, out| dispatcher.on_reports(at, &[report], now, out)).assigned());
            assert!(running.len() <= most);
        }
        assert_eq!(running.len(), most, "{ran_ms} ms");
    }
}

#[test]
fn who_could_start_it_at_once_is_better_than_who_would_let_it_wait() {
    let mut desk = Desk::new(vec![worker(3, 1), worker(4, 1)]);
    for number in 1..=8 {
        let (at, of) = desk.order(order(number)).assigned()[0];
        let measured = desk.workers.iter().position(|worker| worker.peer == at).expect("it is one of the two");
        let mut report = report(of, at);
        report.value.ran_ms = 24;
        desk.batch(|dispatcher, now, out| dispatcher.on_reports(at, &[report], now, out));
        if number == 4 {
            // The other one's turn to be measured.
            desk.workers[measured].welcomes = false;
        }
    }
    desk.workers.iter_mut().for_each(|worker| worker.welcomes = true);
    let two: BTreeSet<PeerId> = desk.order(of_units(9, 2)).assigned().iter().map(|(worker, _)| *worker).collect();
    assert_eq!(two.len(), 2);
    let rest = desk.order(of_units(10, 20)).assigned();
    assert_eq!(rest.len(), 8, "four more wait at each");
}

#[test]
fn what_a_batch_looks_at_does_not_grow_with_the_queue() {
    let mut desk = Desk::new(vec![worker(3, 4)]);
    let mut running = Vec::new();
    for thousand in 0..100 {
        running.extend(desk.orders((1..=1_000).map(|n| order(thousand * 1_000 + n)).collect()).assigned());
    }
    assert_eq!(desk.dispatcher.orders(), 100_000);
    let before = desk.dispatcher.visited;
    for _ in 0..1_000 {
        let (at, of) = running.remove(0);
        let now = desk.now();
        let mut out = Out::default();
        desk.dispatcher.on_reports(at, &[report(of, at)], now, &mut out);
        desk.dispatcher.tick(&[desk.workers[0].view()], now, &mut out);
        desk.dispatcher.close(now, &mut out);
        let assigned = out.effects.into_iter().filter_map(|effect| match effect {
            Effect::Send { say, .. } => match *say {
                Say::Work(Work::Assign { units, .. }) => Some(units),
                _ => None,
            },
            _ => None,
        });
        running.extend(assigned.flatten().map(|of| (at, of)));
    }
    assert_eq!(running.len(), 4);
    assert!(desk.dispatcher.visited - before <= 2_000, "{}", desk.dispatcher.visited - before);
    let before = desk.dispatcher.visited;
    desk.batch(|dispatcher, _, _| dispatcher.on_workers_changed());
    desk.batch(|_, _, _| {});
    assert_eq!(desk.dispatcher.visited, before, "nobody has room, or nothing has changed");
}

#[test]
fn orders_of_many_shapes_that_nobody_can_take_are_looked_at_once() {
    let mut desk = Desk::new(vec![worker(3, 4)]);
    let big =
        |number: u64| Order { needs: Needs { cores: 100 + u32::try_from(number).expect("small"), ..Needs::default() }, ..order(number) };
    desk.orders((1..=1_000).map(big).collect());
    let before = desk.dispatcher.visited;
    let (worker, of) = desk.order(order(2_000)).assigned()[0];
    assert_eq!((worker, of.order.number), (peer(3), 2_000), "they are in nobody's way");
    desk.end(worker, of);
    assert!(desk.dispatcher.visited - before <= 2, "{}", desk.dispatcher.visited - before);
    desk.workers[0].statistics.cores = 103;
    assert_eq!(numbers(&desk.batch(|dispatcher, _, _| dispatcher.on_workers_changed())), [1], "until workers change");
}

#[test]
fn a_full_queue_refuses_politely() {
    let config = Config { queue_orders: 2, ..Config::default() };
    let mut desk = Desk::with(config, Vec::new());
    desk.orders(vec![order(1), order(2)]);
    let done = desk.order(order(3));
    assert_eq!(done.said, [(peer(ORDERER), Work::NotQueued { fence: fence(1), orders: vec![(key(3), Full::Orders)] })]);
    assert!(done.stored.is_empty());
    desk.close(1);
    assert_eq!(desk.order(order(3)).said("Queued"), 1);
    let bytes = Proven::own(order(1)).body.len() as u64;
    let mut desk = Desk::with(Config { queue_bytes: bytes * 3 / 2, ..Config::default() }, Vec::new());
    let done = desk.orders(vec![order(1), order(2)]);
    assert!(done.said.iter().any(|(_, work)| matches!(work, Work::NotQueued { orders, .. } if orders[..] == [(key(2), Full::Bytes)])));
}

#[test]
fn a_used_up_gap_renumbers_the_queue_and_keeps_its_order() {
    let mut desk = Desk::new(Vec::new());
    desk.orders((1..=4).map(order).collect());
    for (place, number) in [3, 1, 4, 2].into_iter().enumerate() {
        let (queued, _) = &desk.queue[&key(number)];
        let sort = place as u64;
        desk.queue.insert(key(number), (Queued { sort, ..queued.clone() }, None));
    }
    desk.restart();
    desk.all_told();
    let done = desk.order(Order { priority: Priority::Middle, ..order(5) });
    assert_eq!(done.stored.len(), 5, "each got a new key");
    let positions = |desk: &Desk| [3, 1, 5, 4, 2].map(|number| desk.standing(number).position);
    assert_eq!(positions(&desk), [1, 2, 3, 4, 5].map(Some));
    desk.restart();
    assert_eq!(positions(&desk), [1, 2, 3, 4, 5].map(Some));
}
