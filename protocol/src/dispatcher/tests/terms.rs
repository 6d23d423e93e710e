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
    desk.batch(|dispatcher, now, _| dispatcher.end(now));
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
