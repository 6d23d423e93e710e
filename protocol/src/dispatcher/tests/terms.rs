//! New terms and restarts: what waits for whom, what is adopted, what goes on.

use super::*;

#[test]
fn nothing_is_placed_before_all_have_told_what_they_are_at() {
    let mut desk = Desk::new(vec![worker(3, 1), worker(4, 1)]);
    desk.lead();
    assert_eq!(desk.order(order(1)).assigned(), []);
    for number in [ME, ORDERER, 3] {
        assert_eq!(desk.working(peer(number), Vec::new()).assigned(), []);
    }
    assert_eq!(desk.working(peer(4), Vec::new()).assigned().len(), 1);
}

#[test]
fn what_is_about_to_be_given_to_a_worker_lacks_nothing() {
    let mut desk = Desk::new(vec![worker(3, 1), worker_of("tea", peer(4), 1)]);
    desk.lead();
    desk.order(order(1));
    assert_eq!(desk.standing(1).lacks, BTreeMap::new(), "peer 4 does not offer it, and is not why it waits");
    desk.workers.remove(0);
    assert_eq!(desk.standing(1).lacks.into_values().collect::<Vec<_>>(), [Lack::NotOffered]);
}

#[test]
fn the_gate_opens_after_2_s_or_when_the_last_who_is_silent_is_gone() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    desk.lead();
    let gate = desk.mono - Duration::from_nanos(1) + desk.config.gate;
    desk.order(order(1));
    assert_eq!(desk.dispatcher.deadline(), Some(gate));
    assert_eq!(desk.wait(desk.config.gate).assigned().len(), 1);
    let mut desk = Desk::new(vec![worker(3, 1), worker(4, 1)]);
    desk.lead();
    desk.order(order(1));
    for number in [ME, ORDERER, 3] {
        desk.working(peer(number), Vec::new());
    }
    desk.workers.pop();
    assert_eq!(desk.lose(peer(4)).assigned().len(), 1);
}

#[test]
fn a_new_leader_adopts_what_runs_whether_or_not_it_knows_the_order() {
    let mut desk = Desk::new(vec![worker(3, 2), worker(4, 2)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.start(at, of);
    desk.restart();
    let unknown = Try { order: key(2), unit: 1, attempt: Attempt { term: 1, leader: peer(9), number: 3 } };
    desk.working(at, vec![Working { of, running_ms: Some(5_000) }, Working { of: unknown, running_ms: None }]);
    for other in [ME, ORDERER, 3, 4].map(peer).into_iter().filter(|other| *other != at) {
        assert_eq!(desk.working(other, Vec::new()).said, []);
    }
    assert_eq!(desk.standing(1).tries[0].state, PlacedState::Running);
    let done = desk.order(order(2));
    assert_eq!((done.said("Queued"), done.assigned()), (1, vec![]));
    assert_eq!(desk.standing(2).tries[0].attempt, unknown.attempt);
    desk.broken(at, unknown, Broken::Killed(9));
    assert_eq!(desk.standing(2).tries[0].attempt.number, 4, "attempts go on counting");
}

#[test]
fn what_an_orderer_says_has_ended_is_given_to_nobody() {
    let mut desk = Desk::new(vec![worker(3, 2), worker(4, 2)]);
    let assigned = desk.order(of_units(1, 10)).assigned();
    desk.lead();
    // Before the order of a leader that has none, and after that of one that kept it; a copy that runs all the same is stopped.
    desk.units_ended(2, &[(2, 7), (9, 90)]);
    let done = desk.units_ended(1, &[(1, 1), (3, 6), (8, 90)]);
    let (at, of) = *assigned.iter().find(|(_, of)| of.unit == 1).expect("it is with somebody");
    assert_eq!(done.superseded().iter().filter(|told| **told == (at, of)).count(), 1);
    desk.order(of_units(2, 8));
    let mut given: Vec<(PeerId, Try)> = desk.all_told().assigned();
    let mut units: BTreeSet<(u64, u32)> = BTreeSet::new();
    while let Some((at, of)) = given.pop() {
        assert!(units.insert((of.order.number, of.unit)), "{of}");
        given.extend(desk.end(at, of).assigned());
    }
    assert_eq!(units, BTreeSet::from([(1, 2), (1, 7), (2, 1), (2, 8)]));
    desk.restart();
    assert_eq!(desk.standing(1).ended, 8, "what its orderer said is on the disk");
}

#[test]
fn a_restarted_dispatcher_goes_on_and_restarts_nothing_that_runs() {
    let mut desk = Desk::new(vec![worker(3, 2), worker(4, 2)]);
    let mut running = desk.order(of_units(1, 10)).assigned();
    assert_eq!(running.len(), 4);
    let (at, of) = running.remove(0);
    running.extend(desk.end(at, of).assigned());
    desk.restart();
    let (mut first, mut assigned) = (true, Vec::new());
    for number in [ME, ORDERER, 3, 4] {
        let here = running.iter().filter(|(worker, _)| *worker == peer(number));
        let list: Vec<Working> = here.map(|(_, of)| Working { of: *of, running_ms: Some(1) }).collect();
        first &= assigned.is_empty();
        assigned.extend(desk.working(peer(number), list).assigned());
    }
    assert!(first && assigned.is_empty(), "all slots are taken: {assigned:?}");
    assert_eq!(desk.standing(1).tries.iter().filter(|placed| placed.state == PlacedState::Running).count(), 4);
    let mut ended = BTreeSet::from([of.unit]);
    while let Some((at, of)) = running.pop() {
        assert!(ended.insert(of.unit), "{of}");
        running.extend(desk.end(at, of).assigned());
    }
    assert_eq!(ended.len(), 10);
}

#[test]
fn who_does_not_list_what_it_was_given_did_not_get_it() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.restart();
    let (again, second) = desk.all_told().assigned()[0];
    assert_eq!((again, second.unit, second.attempt.term, second.attempt.number), (at, of.unit, 2, 2));
}

#[test]
fn a_worker_that_does_not_tell_in_time_is_asked_by_the_same_assignment() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.restart();
    let done = desk.wait(desk.config.gate);
    assert_eq!(done.assigned(), [(at, of)]);
    assert_eq!(done.said("Orders"), 1);
    assert!(done.said.iter().any(|(_, work)| matches!(work, Work::Assign { fence, .. } if fence.term == 2)));
}

#[test]
fn a_cancel_is_answered_only_when_workers_have_told_what_runs() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    desk.lead();
    assert_eq!(desk.cancel(1).said, [], "nobody knows yet");
    let of = Try { order: key(1), unit: 1, attempt: Attempt { term: 1, leader: peer(9), number: 1 } };
    desk.working(peer(ME), Vec::new());
    desk.working(peer(ORDERER), Vec::new());
    let done = desk.working(peer(3), vec![Working { of, running_ms: Some(1) }]);
    assert_eq!((done.cancel_taken(), done.said("Cancels")), (Some((vec![1], vec![])), 1));
}

#[test]
fn who_does_not_lead_says_nothing_and_keeps_its_rows() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.batch(|dispatcher, now, _| dispatcher.end(None, false, now));
    assert!(desk.order(order(2)).said.is_empty());
    assert!(desk.decline(at, of, Lack::Full).said.is_empty());
    assert_eq!(desk.dispatcher.deadline(), None);
    assert_eq!(desk.dispatcher.orders(), 1);
    desk.lead();
    assert_eq!(desk.all_told().assigned().len(), 1);
}

#[test]
fn words_of_another_term_change_nothing() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    let done = desk.batch(|dispatcher, now, out| {
        dispatcher.on_answer(at, fence(7), Vec::new(), vec![(of, Lack::Full)], now, out);
        dispatcher.on_working(at, fence(7), Vec::new(), true, now, out);
    });
    assert!(done.said.is_empty());
    assert_eq!(desk.standing(1).tries.len(), 1);
}

/// An order that was queued under the term before, and a worker that could run it now.
fn kept() -> Desk {
    let mut desk = Desk::new(Vec::new());
    desk.order(order(1));
    desk.workers.push(worker(3, 1));
    desk.lead_unanswered();
    desk.all_told();
    desk
}

#[test]
fn an_order_from_before_waits_until_all_have_said_whether_it_has_ended_and_not_for_ever() {
    let mut desk = kept();
    for number in [ME, ORDERER] {
        assert_eq!(desk.knows_closed(peer(number), &[]).assigned(), []);
    }
    assert_eq!(desk.knows_closed(peer(3), &[]).assigned().len(), 1);
    let mut desk = kept();
    assert_eq!(desk.wait(desk.config.gate).assigned().len(), 1, "nobody is waited for longer than for what workers run");
    let mut desk = kept();
    desk.knows_closed(peer(ME), &[]);
    desk.knows_closed(peer(3), &[]);
    assert_eq!(desk.lose(peer(ORDERER)).assigned().len(), 1, "who is gone is not waited for");
}

#[test]
fn what_a_peer_takes_for_ended_waits_for_its_orderer_whatever_it_says() {
    let mut desk = kept();
    desk.knows_closed(peer(3), &[1]);
    desk.lose(peer(ORDERER));
    assert_eq!(desk.wait(Duration::from_secs(3600)).assigned(), []);
    assert!(desk.queue.contains_key(&key(1)), "a peer may be wrong");
    desk.find(peer(ORDERER));
    desk.lead();
    assert_eq!(desk.all_told().assigned().len(), 1, "under a new term it is asked anew");

    let mut desk = kept();
    desk.knows_closed(peer(3), &[1]);
    let done = desk.order(order(1));
    assert_eq!((done.said("Queued"), done.assigned()), (1, vec![]), "others may know of others");
    desk.knows_closed(peer(ME), &[1]);
    assert_eq!(desk.knows_closed(peer(ORDERER), &[]).assigned().len(), 1);

    let mut desk = kept();
    [3, ME, ORDERER].iter().for_each(|number| drop(desk.knows_closed(peer(*number), &[1])));
    let queued = Work::Queued { fence: fence(2), orders: vec![key(1)] };
    assert_eq!(desk.wait(desk.config.work_patience).said, [(peer(ORDERER), queued)], "it is asked for its closing");
    desk.close(1);
    assert!(desk.queue.is_empty());
}

#[test]
fn an_orderer_whose_word_was_lost_is_asked_again_and_nobody_else_is() {
    let mut desk = kept();
    desk.knows_closed(peer(3), &[1]);
    let orders = vec![OrdersOf { orderer: peer(ORDERER), epoch: Epoch(1), numbers: Ranges::of(1, 1) }];
    let again = Work::AskClosed { fence: fence(2), orders, last: true };
    let patience = desk.config.work_patience;
    for times in [1, 2, 4] {
        assert_eq!(desk.wait(patience * times).said, [(peer(ORDERER), again.clone())]);
    }
    desk.knows_closed(peer(ORDERER), &[1]);
    assert_eq!(desk.wait(patience).said("Queued"), 1, "its closing is all that is missing now");
    desk.close(1);
    assert_eq!(desk.wait(Duration::from_secs(3600)).said, []);
}

#[test]
fn a_leader_asks_about_what_it_has_from_before_and_about_nothing_else() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let asked =
        |done: &Done| done.said.iter().find(|(to, work)| *to == peer(3) && work.what() == "AskClosed").map(|(_, work)| work.clone());
    assert_eq!(asked(&desk.lead_unanswered()), None);
    desk.all_told();
    desk.orders((1..=3).map(order).collect());
    let orders = vec![OrdersOf { orderer: peer(ORDERER), epoch: Epoch(1), numbers: Ranges::of(1, 3) }];
    assert_eq!(asked(&desk.lead_unanswered()), Some(Work::AskClosed { fence: fence(3), orders, last: true }));
    desk.orders(vec![order(1), order(3)]);
    desk.lose(peer(3));
    let orders = vec![OrdersOf { orderer: peer(ORDERER), epoch: Epoch(1), numbers: Ranges::of(2, 2) }];
    assert_eq!(asked(&desk.find(peer(3))), Some(Work::AskClosed { fence: fence(3), orders, last: true }), "its orderer has spoken for two");
}

#[test]
fn who_is_asked_tells_what_it_knows_to_have_ended_in_as_many_words_as_it_takes() {
    let mut desk = Desk::new(Vec::new());
    (1..=10).for_each(|number| drop(desk.close(number * 2)));
    let of = |orderer: u8, numbers| OrdersOf { orderer: peer(orderer), epoch: Epoch(1), numbers };
    let open = BTreeMap::from([(Epoch(1), Ranges::of(5, 6))]);
    let asked = vec![of(ORDERER, Ranges::of(4, 7)), of(3, Ranges::of(1, 9)), of(ME, Ranges::of(4, 7))];
    let done = desk.batch(|dispatcher, _, out| dispatcher.on_ask_closed(peer(3), fence(9), asked, true, &open, out));
    let two = |one, other| [one, other].into_iter().fold(Ranges::default(), |mut two, number| (two.insert(number), two).1);
    let orders = vec![of(ORDERER, two(4, 6)), of(ME, two(4, 7))];
    assert_eq!(done.said, [(peer(3), Work::KnownClosed { fence: fence(9), orders, last: true })]);
    let odd = (0..3_000).fold(Ranges::default(), |mut odd, number| (odd.insert(number * 2 + 1), odd).1);
    let asked = vec![of(ME, odd.clone())];
    let done = desk.batch(|dispatcher, _, out| dispatcher.on_ask_closed(peer(3), fence(9), asked, true, &BTreeMap::new(), out));
    let (mut told, mut lasts) = (Ranges::default(), Vec::new());
    for (_, work) in done.said {
        assert!(work.items() <= limits::WORDS);
        let Work::KnownClosed { orders, last, .. } = work else { panic!("{work:?}") };
        orders.iter().flat_map(|of| of.numbers.iter()).for_each(|(first, last)| told.insert_range(first, last));
        lasts.push(last);
    }
    assert_eq!((told, lasts), (odd, vec![false, false, true]));
}
