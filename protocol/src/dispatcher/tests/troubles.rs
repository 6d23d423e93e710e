//! Declines, silence, crashes, cancels, and words that are lost or false.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_decline_goes_on_to_the_next_and_when_all_decline_it_waits_for_a_change() {
    let mut desk = Desk::new(vec![worker(3, 1), worker(4, 1)]);
    let (first, of) = desk.order(order(1)).assigned()[0];
    let (second, again) = desk.decline(first, of, Lack::Full).assigned()[0];
    assert_ne!(first, second);
    assert_eq!(again.attempt.number, of.attempt.number + 1, "the first may still be asked once more, by a copy that is late");
    assert!(desk.decline(second, again, Lack::Full).assigned().is_empty());
    assert_eq!(desk.standing(1).lacks, [(first, Lack::Full), (second, Lack::Full)].into_iter().collect());
    assert_eq!(desk.wait(desk.config.declined_for).assigned().len(), 1, "forgiven");
    let placed = desk.standing(1).tries[0].clone();
    desk.decline(placed.worker, Try { attempt: Attempt { number: of.attempt.number + 2, ..of.attempt }, ..of }, Lack::Full);
    desk.workers.push(worker(5, 1));
    desk.find(peer(5));
    assert_eq!(desk.standing(1).waiting, 0, "somebody came who can");
}

#[test]
fn an_unanswered_assignment_goes_again_and_an_answered_one_less_and_less_often() {
    let mut desk = Desk::new(vec![worker(3, 2)]);
    let first = desk.order(order(1)).assigned();
    let second = desk.order(order(2)).assigned();
    desk.take(peer(3), &[second[0].1]);
    let done = desk.wait(desk.config.work_patience);
    let both: BTreeSet<_> = first.iter().chain(&second).copied().collect();
    assert_eq!(BTreeSet::from_iter(done.assigned()), both, "its end may have been lost");
    assert_eq!(done.said("Orders"), 0, "it has the order");
    desk.take(peer(3), &[second[0].1]);
    assert_eq!(desk.wait(desk.config.work_patience).assigned(), first);
    assert_eq!(BTreeSet::from_iter(desk.wait(desk.config.work_patience).assigned()), both);
    desk.batch(|dispatcher, now, _| dispatcher.on_send_failed(peer(3), now));
    let done = desk.wait(desk.config.refused_wait);
    assert_eq!((done.assigned(), done.said("Orders")), (first, 1), "nobody knows what has arrived");
}

#[test]
fn a_worker_without_the_order_gets_it_again_but_not_while_it_is_on_its_way() {
    let mut desk = Desk::new(vec![worker(3, 2)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    assert!(desk.decline(at, of, Lack::NoOrder).said.is_empty());
    let done = desk.wait(Duration::from_millis(100));
    assert_eq!((done.said("Orders"), done.assigned().len()), (0, 1));
    desk.mono += desk.config.work_patience;
    let done = desk.decline(at, of, Lack::NoOrder);
    assert_eq!((done.said("Orders"), done.assigned().len()), (1, 1));
}

#[test]
fn a_silent_worker_is_unreachable_at_once_and_lost_after_30_s() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.start(at, of);
    desk.workers.push(worker(4, 1));
    desk.find(peer(4));
    desk.lose(at);
    desk.workers.remove(0);
    assert_eq!(desk.standing(1).tries[0].state, PlacedState::Unreachable);
    assert!(desk.wait(SECOND * 29).assigned().is_empty());
    let done = desk.wait(SECOND);
    let (elsewhere, second) = done.assigned()[0];
    assert_eq!((elsewhere, second.attempt.number), (peer(4), 2));
    assert_eq!(done.noted[0], What::TryBroken { of, why: Broken::Lost });
    // It is back, and has run all the time: the longer-running one stays.
    desk.start(elsewhere, second);
    desk.workers.push(worker(3, 1));
    desk.find(at);
    let done = desk.working(at, vec![Working { of, running_ms: Some(40_000) }]);
    assert_eq!(done.superseded(), [(elsewhere, second)]);
    assert_eq!(desk.standing(1).tries[0].worker, at);
}

#[test]
fn a_worker_that_comes_back_in_time_goes_on() {
    let mut desk = Desk::new(vec![worker(3, 1), worker(4, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.start(at, of);
    desk.lose(at);
    desk.wait(SECOND * 20);
    desk.find(at);
    assert!(desk.working(at, vec![Working { of, running_ms: Some(20_000) }]).said.is_empty());
    desk.wait(SECOND * 60);
    let standing = desk.standing(1);
    assert_eq!((standing.tries[0].attempt.number, standing.tries[0].state), (1, PlacedState::Running));
}

#[test]
fn a_worker_that_forgot_what_ran_is_avoided_for_the_next_attempt() {
    let mut desk = Desk::new(vec![worker(3, 2), worker(4, 2)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.start(at, of);
    desk.lose(at);
    desk.find(at);
    let done = desk.working(at, Vec::new());
    let (elsewhere, second) = done.assigned()[0];
    assert!(elsewhere != at && second.attempt.number == 2);
    assert_eq!(desk.end(elsewhere, second).assigned(), []);
}

#[test]
fn an_assignment_that_crosses_a_worker_s_list_is_repeated_and_not_given_up() {
    let mut desk = Desk::new(vec![worker(3, 2), worker(4, 2)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    assert!(desk.working(at, Vec::new()).said.is_empty());
    assert_eq!(desk.wait(desk.config.work_patience).assigned(), [(at, of)]);
}

#[test]
fn a_worker_that_declines_what_it_had_taken_when_it_is_asked_again_does_not_have_it() {
    let mut desk = Desk::new(vec![worker(3, 1), worker(4, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.take(at, &[of]);
    assert_eq!(desk.decline(at, of, Lack::NotOffered).assigned(), [], "said before it was taken, and heard after");
    assert_eq!(desk.wait(desk.config.work_patience).assigned(), [(at, of)]);
    let (elsewhere, again) = desk.decline(at, of, Lack::NotOffered).assigned()[0];
    assert!(elsewhere != at && again.attempt.number == 2);
}

#[test]
fn what_a_worker_had_that_said_goodbye_goes_elsewhere_at_once() {
    let mut desk = Desk::new(vec![worker(3, 1), worker(4, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.start(at, of);
    desk.workers.retain(|worker| worker.peer != at);
    let (elsewhere, again) = desk.batch(|dispatcher, now, _| dispatcher.on_unreachable(at, true, now)).assigned()[0];
    assert!(elsewhere != at && again.attempt.number == 2);
}

#[test]
fn who_says_goodbye_by_one_connection_and_is_heard_by_another_keeps_its_units() {
    let mut desk = Desk::new(vec![worker(3, 1), worker(4, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.start(at, of);
    let done = desk.batch(|dispatcher, now, out| {
        dispatcher.on_unreachable(at, true, now);
        dispatcher.on_reachable(at, now, out);
    });
    assert_eq!(done.assigned(), []);
    assert_eq!(desk.standing(1).tries.iter().map(|placed| placed.worker).collect::<Vec<_>>(), [at]);
}

fn given_up(of: &str) -> (PeerId, Work) {
    (peer(ORDERER), Work::GivenUp(vec![(key(1), 1, format!("crashed its workers{of}"))]))
}

#[test]
fn after_five_dead_processes_a_unit_is_given_up_and_lost_connections_do_not_count() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let mut next = desk.order(order(1)).assigned();
    desk.broken(next[0].0, next[0].1, Broken::Stopping);
    next = desk.wait(desk.config.declined_for).assigned();
    for death in 1..=5 {
        let (at, of) = next[0];
        assert_eq!(of.attempt.number, death + 1);
        let done = desk.broken(at, of, Broken::Killed(9));
        if death < 5 {
            next = done.assigned();
            continue;
        }
        assert_eq!(done.said, [given_up(", the last time by signal 9 (SIGKILL)")]);
        assert_eq!(done.assigned(), []);
    }
    let state = desk.queue[&key(1)].1.as_ref().expect("it is on disk");
    assert!(state.given_up.contains(1) && state.tried.is_empty());
    assert!(desk.order(order(1)).said.contains(&given_up(", the last time by signal 9 (SIGKILL)")), "whoever asks again is told the same");
    desk.lose(peer(ORDERER));
    assert!(desk.find(peer(ORDERER)).said.contains(&given_up(", the last time by signal 9 (SIGKILL)")));
    desk.restart();
    assert!(desk.order(order(1)).said.contains(&given_up("")), "of what it died is not on disk");
    assert_eq!(desk.all_told().assigned(), []);
}

#[test]
fn a_queued_order_that_is_cancelled_runs_nowhere() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.order(order(2));
    let done = desk.cancel(2);
    assert_eq!(done.said, [(peer(ORDERER), Work::CancelTaken { order: key(2), running: vec![], lost: vec![] })]);
    assert!(desk.queue[&key(2)].1.as_ref().is_some_and(|state| state.cancel.is_some()), "stored before it is said");
    assert_eq!(desk.end(at, of).assigned(), []);
    desk.restart();
    assert_eq!(desk.all_told().assigned().iter().filter(|(_, of)| of.order == key(2)).count(), 0);
}

#[test]
fn a_cancel_is_repeated_to_the_worker_until_it_reports() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let (at, of) = desk.order(of_units(1, 5)).assigned()[0];
    desk.start(at, of);
    let done = desk.cancel(1);
    assert_eq!(done.said.iter().filter(|(to, work)| *to == at && work.what() == "Cancels").count(), 1);
    assert_eq!(done.cancel_taken(), Some((vec![1], vec![])));
    for _ in 0..3 {
        let done = desk.wait(SECOND);
        assert_eq!((done.said("Cancels"), done.said("CancelTaken")), (1, 0));
    }
    assert_eq!(desk.cancel(1).said("CancelTaken"), 1, "its orderer asks again, and is told again");
    let done = desk.end(at, of);
    assert_eq!((done.cancel_taken(), done.assigned()), (Some((vec![], vec![])), vec![]));
    assert_eq!(desk.wait(SECOND).said("Cancels"), 0);
}

#[test]
fn a_cancel_whose_worker_is_lost_says_so_until_the_worker_is_back() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.start(at, of);
    desk.cancel(1);
    desk.lose(at);
    assert_eq!(desk.wait(SECOND * 30).cancel_taken(), Some((vec![], vec![1])));
    desk.find(at);
    let done = desk.working(at, vec![Working { of, running_ms: Some(1) }]);
    assert_eq!((done.cancel_taken(), done.said("Cancels")), (Some((vec![1], vec![])), 1));
    assert_eq!(desk.end(at, of).cancel_taken(), Some((vec![], vec![])));
}

#[test]
fn a_cancel_that_overtakes_its_order_wins() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    assert_eq!(desk.cancel(1).cancel_taken(), Some((vec![], vec![])));
    let done = desk.order(order(1));
    assert_eq!((done.said("Queued"), done.said("CancelTaken"), done.assigned()), (1, 1, vec![]));
    assert!(desk.queue[&key(1)].1.as_ref().is_some_and(|state| state.cancel.is_some()));
}

#[test]
fn a_report_ends_its_unit_whatever_the_attempt() {
    let mut desk = Desk::new(vec![worker(3, 1), worker(4, 1)]);
    let (at, first) = desk.order(order(1)).assigned()[0];
    desk.lose(at);
    desk.workers.retain(|worker| worker.peer != at);
    let (elsewhere, second) = desk.wait(SECOND * 30).assigned()[0];
    desk.find(at);
    let done = desk.end(at, first);
    assert_eq!(done.superseded(), [(elsewhere, second)]);
    assert_eq!(desk.standing(1).ended, 1);
    assert!(desk.end(elsewhere, second).said.is_empty(), "and only once");
    assert_eq!(desk.start(elsewhere, second).superseded(), [(elsewhere, second)]);
}

#[test]
fn a_report_before_its_order_is_remembered() {
    let mut desk = Desk::new(vec![worker(3, 2)]);
    let of = Try { order: key(1), unit: 2, attempt: Attempt { term: 9, leader: peer(9), number: 1 } };
    desk.end(peer(3), of);
    let assigned = desk.order(of_units(1, 2)).assigned();
    assert_eq!(assigned.iter().map(|(_, of)| of.unit).collect::<Vec<_>>(), [1]);
    assert_eq!(desk.standing(1).ended, 1);
}

#[test]
fn a_report_is_passed_on_whether_it_came_before_its_order_or_again_after_a_restart() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let of = Try { order: key(1), unit: 1, attempt: Attempt { term: 9, leader: peer(9), number: 1 } };
    let passed_on = |desk: &mut Desk| {
        let done = desk.wait(desk.config.work_patience);
        done.said.contains(&(peer(ORDERER), Work::Reports(vec![report(of, peer(3))])))
    };
    desk.end(peer(3), of);
    desk.lose(peer(3));
    assert_eq!(desk.order(order(1)).assigned(), []);
    assert!(passed_on(&mut desk), "nobody but this node has it");
    desk.cancel(1);
    desk.restart();
    assert!(!passed_on(&mut desk), "it was not written");
    desk.end(peer(3), of);
    desk.wait(desk.config.work_patience);
    assert!(passed_on(&mut desk), "its worker has told it again");
    desk.close(1);
    assert!(!passed_on(&mut desk));
}

#[test]
fn only_its_orderer_places_an_order_and_only_once() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    desk.batch(|dispatcher, now, out| {
        let stolen = dispatcher.on_orders(peer(7), vec![Proven::own(order(1))], false, now, out);
        assert_eq!(stolen, Err(Cause::Impostor));
        assert_eq!(dispatcher.orders(), 0);
    });
    desk.order(order(1));
    let other = Order { args: vec!["tea".to_owned()], ..order(1) };
    let done = desk.batch(|dispatcher, now, out| {
        let changed = dispatcher.on_orders(peer(ORDERER), vec![Proven::own(other), Proven::own(order(2))], false, now, out);
        assert_eq!(changed, Err(Cause::Inconsistent));
        assert_eq!(dispatcher.rows[&key(1)].order.value, order(1), "the first stays");
    });
    assert!(done.said.iter().any(|(_, work)| matches!(work, Work::Queued { orders, .. } if orders[..] == [key(2)])), "the rest is taken");
    assert!(done.said.contains(&(peer(ORDERER), Work::Orders(vec![Proven::own(order(1))]))), "it learns that it has signed that once");
    assert_eq!(desk.order(order(1)).said("Queued"), 1);
}

#[test]
fn a_closed_order_is_forgotten_stopped_and_never_queued_again() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    let done = desk.close(1);
    assert_eq!(done.superseded(), [(at, of)]);
    assert!(desk.queue.is_empty());
    let ended_before = [(peer(ORDERER), Work::GivenUp(vec![(key(1), 1, FORGOTTEN.to_owned())]))];
    assert_eq!(desk.order(order(1)).said, ended_before, "its orderer was put back to before its end");
    desk.restart();
    desk.all_told();
    assert_eq!(desk.order(order(1)).said, ended_before, "and the disk remembers");
    assert_eq!(desk.start(at, of).superseded(), [(at, of)]);
    assert_eq!(desk.order(order(2)).assigned().len(), 1);
}

#[test]
fn closed_orders_in_many_pieces_keep_a_bounded_row() {
    let mut desk = Desk::new(Vec::new());
    for number in 1..=2_000 {
        desk.close(number * 2);
    }
    assert_eq!(desk.closed[&(peer(ORDERER), Epoch(1))].pieces(), limits::PIECES);
    assert_eq!(desk.order(order(4_000)).said("Queued"), 0);
}

#[test]
fn a_closing_forgets_all_that_it_names_and_nothing_else() {
    let mut desk = Desk::new(Vec::new());
    desk.orders((1..=6).map(order).collect());
    let mut closed = Ranges::of(1, 3);
    closed.insert(5);
    let closing = Closing { orderer: peer(ORDERER), epoch: Epoch(1), closed: closed.clone(), ends: Vec::new() };
    desk.batch(|dispatcher, now, out| dispatcher.on_closing(&Proven::own(closing.clone()), now, out));
    assert_eq!(desk.queue.keys().map(|key| key.number).collect::<Vec<_>>(), [4, 6]);
    assert_eq!(desk.closed[&(peer(ORDERER), Epoch(1))], closed);
    let said = desk.orders((1..=6).map(order).collect()).said;
    assert_eq!(said[0], (peer(ORDERER), Work::Queued { fence: fence(1), orders: vec![key(4), key(6)] }));
    assert!(matches!(&said[1..], [(_, Work::GivenUp(units))] if units.iter().map(|(key, ..)| key.number).eq([1, 2, 3, 5])));
    let done = desk.batch(|dispatcher, now, out| dispatcher.on_closing(&Proven::own(closing.clone()), now, out));
    assert!(done.stored.is_empty(), "hearing it again changes nothing");
}

#[test]
fn a_closing_that_does_not_come_is_asked_for_less_and_less_often_with_all_that_may_be_lost() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.end(at, of);
    let reports = Work::Reports(vec![report(of, at)]);
    for wait in [2, 4, 8, 16, 30, 30] {
        assert!(desk.wait(SECOND * wait - SECOND / 2).said.is_empty());
        let queued = Work::Queued { fence: fence(1), orders: vec![key(1)] };
        assert_eq!(desk.wait(SECOND / 2).said, [(peer(ORDERER), queued), (peer(ORDERER), reports.clone())]);
    }
    desk.close(1);
    assert!(desk.wait(SECOND * 60).said.is_empty());
}

#[test]
fn what_is_said_of_an_attempt_and_comes_after_its_end_is_not_heeded() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    let (_, next) = desk.broken(at, of, Broken::Killed(9)).assigned()[0];
    assert!(next.attempt > of.attempt);
    assert!(desk.start(at, of).said.is_empty() && desk.take(at, &[of]).said.is_empty());
    let standing = desk.standing(1);
    assert_eq!(standing.tries[0].attempt, next.attempt);
}

#[test]
fn an_order_that_its_worker_knows_to_have_ended_is_given_up() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    let done = desk.broken(at, of, Broken::Closed);
    let given_up = Work::GivenUp(vec![(key(1), 1, FORGOTTEN.to_owned())]);
    assert_eq!(done.said, [(peer(ORDERER), given_up)], "its orderer knows it again, or has closed it meanwhile");
}

// -- what would wait for long

/// Of these it is known that a unit takes 4 ms there.
fn measured(workers: Vec<Fake>) -> Desk {
    let mut desk = Desk::new(workers);
    let mut open = desk.order(of_units(1, 200)).assigned();
    while !open.is_empty() {
        let (at, of) = open.remove(0);
        open.extend(ends(&mut desk, at, of, 4));
    }
    desk.close(1);
    desk
}

fn ends(desk: &mut Desk, at: PeerId, of: Try, ran_ms: u64) -> Vec<(PeerId, Try)> {
    let mut report = report(of, at);
    report.value.ran_ms = ran_ms;
    desk.batch(|dispatcher, now, out| dispatcher.on_reports(at, &[report], now, out)).assigned()
}

fn gives_back(desk: &mut Desk, at: PeerId, tries: &[Try]) -> Vec<(PeerId, Try)> {
    let broken: Vec<(Try, Broken)> = tries.iter().map(|of| (*of, Broken::Superseded)).collect();
    desk.batch(|dispatcher, now, out| dispatcher.on_broken(at, &broken, now, out)).assigned()
}

#[test]
fn what_a_worker_gives_back_unbegun_goes_to_another_under_a_new_number_and_not_back_until_a_run_there_has_ended() {
    let mut desk = measured(vec![worker(3, 1), worker(4, 1)]);
    let given = desk.order(of_units(2, 60)).assigned();
    let of = |peer: PeerId, given: &[(PeerId, Try)]| given.iter().filter(|(at, _)| *at == peer).map(|(_, of)| *of).collect::<Vec<Try>>();
    let (slow, quick) = (of(peer(3), &given), of(peer(4), &given));
    assert_eq!((slow.len(), quick.len()), (26, 26));
    desk.take(peer(3), &slow);
    desk.start(peer(3), slow[0]);
    assert_eq!(gives_back(&mut desk, peer(3), &slow[1..]), [], "the other has all that it may have");
    let stands = desk.standing(2);
    assert_eq!((stands.waiting, stands.lacks.get(&peer(3))), (33, Some(&Lack::Full)));
    let (mut open, mut ran) = (quick, 0);
    while let Some(one) = open.pop() {
        ran += 1;
        for (at, of) in ends(&mut desk, peer(4), one, 4) {
            assert!(at == peer(4) && of.attempt.number == 1 + u32::from(slow[1..].iter().any(|before| before.unit == of.unit)));
            open.push(of);
        }
    }
    assert_eq!((ran, desk.standing(2).ended), (59, 59));
    assert_eq!(ends(&mut desk, peer(3), slow[0], 8_000), []);
    desk.close(2);
}

#[test]
fn what_one_worker_alone_gives_back_waits_in_the_queue_and_is_never_given_up() {
    let mut desk = measured(vec![worker(3, 2)]);
    let mut given = desk.order(of_units(2, 600)).assigned();
    for _ in 0..8 {
        assert_eq!(given.len(), 52);
        let waiting: Vec<Try> = given.split_off(2).into_iter().map(|(_, of)| of).collect();
        desk.take(peer(3), &waiting);
        assert_eq!(gives_back(&mut desk, peer(3), &waiting), []);
        assert_eq!(gives_back(&mut desk, peer(3), &waiting), [], "said again");
        let stands = desk.standing(2);
        assert_eq!((stands.eta_ms, stands.lacks.get(&peer(3))), (None, Some(&Lack::Full)), "nobody knows when those that run end");
        let waited = desk.wait(Duration::from_secs(1)).assigned();
        assert!(waited.iter().all(|(_, of)| given.iter().any(|(_, given)| given == of)), "only what runs is asked about");
        // One of them ends at last, and was quick.
        let (_, last) = given.pop().expect("two run");
        given.extend(ends(&mut desk, peer(3), last, 4));
        assert!(desk.standing(2).eta_ms.is_some());
    }
    while let Some((at, of)) = given.pop() {
        given.extend(ends(&mut desk, at, of, 4));
    }
    assert_eq!(desk.standing(2).ended, 600);
    assert!(desk.queue[&key(2)].1.as_ref().is_some_and(|state| state.given_up.is_empty()));
    desk.close(2);
}
