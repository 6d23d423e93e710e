//! From reports, cancels and time to outcomes, and who is told.

use super::*;

#[test]
fn the_first_report_of_the_last_unit_ends_an_order_once_and_for_all() {
    let mut desk = Desk::led();
    desk.orders.on_reachable(peer(3), desk.now);
    let key = desk.placed(0);
    let good = report(attempt(key, 1, 1), peer(3), Ended::Exited(0));
    desk.orders.on_reports(peer(3), vec![good.clone()], desk.now, &mut desk.out);
    let outcome = Some(Outcome { end: End::Done, why: None, at: desk.now.wall });
    let mut to = [(peer(2), 2), (peer(3), 3)];
    to.sort();
    let (effects, entries) = desk.close();
    assert_eq!(
        effects,
        [
            Effect::Store(Change::UnitEnd { number: 1, report: Ok(Box::new(good.clone())), unit: 1 }),
            stored(OrderState { done: Ranges::of(1, 1), outcome, ..state(1) }),
            Effect::Notify(Notice::OrderEnded { number: 1, end: End::Done }),
            closing(to[0].1, 1, End::Done),
            closing(to[1].1, 1, End::Done),
        ]
    );
    assert_eq!(entries, [What::OrderEnded { number: 1, end: End::Done }]);
    assert_eq!(desk.ended, [1]);
    assert_eq!(desk.orders.view(1, desk.now), None);
    // Whoever has something of it is told again, and nothing else happens.
    let bad = report(attempt(key, 1, 2), peer(3), Ended::Exited(1));
    desk.orders.on_reports(peer(3), vec![good, bad], desk.now, &mut desk.out);
    desk.expect([closing(to[0].1, 1, End::Done), closing(to[1].1, 1, End::Done)]);
    desk.orders.on_started(peer(3), &[attempt(key, 1, 3)], desk.now);
    desk.expect([closing(3, 1, End::Done)]);
    desk.queued(&[key]);
    desk.expect([closing(2, 1, End::Done)]);
    desk.cancel_taken(key, &[1], &[]);
    desk.orders.on_given_up(peer(2), vec![(key, 1, "no".to_owned())], desk.now, &mut desk.out);
    desk.expect([closing(2, 1, End::Done)]);
    desk.cancel(key);
    desk.expect([reply(99, Answer::Cancelling(vec![(1, Some(End::Done))]))]);
    assert_eq!(desk.ended, [1], "an outcome is told once");
}

#[test]
fn a_failed_order_says_why() {
    let whys = [
        (Ended::Exited(3), "exit 3"),
        (Ended::TimedOut, "time limit"),
        (Ended::NotStarted("no such file".to_owned()), "could not start: no such file"),
        (Ended::Cancelled, "its worker cancelled it"),
    ];
    let mut desk = Desk::led();
    for (ended, why) in whys {
        let key = desk.placed(0);
        desk.report(attempt(key, 1, 1), ended);
        assert_eq!(desk.outcomes(), [(key.number, End::Failed, Some(why.to_owned()))]);
    }
    let key = desk.placed(0);
    let given_up = vec![(key, 1, "crashed its workers".to_owned())];
    desk.orders.on_given_up(peer(3), given_up.clone(), desk.now, &mut desk.out);
    desk.expect([]);
    desk.orders.on_given_up(peer(2), given_up, desk.now, &mut desk.out);
    let outcome = Some(Outcome { end: End::Failed, why: Some("crashed its workers".to_owned()), at: desk.now.wall });
    desk.expect([
        Effect::Store(Change::UnitEnd { number: 5, report: Err("crashed its workers".to_owned()), unit: 1 }),
        stored(OrderState { failed: Ranges::of(1, 1), outcome, ..state(5) }),
        Effect::Notify(Notice::OrderEnded { number: 5, end: End::Failed }),
        said(
            2,
            Work::Closing(Box::new(Proven::own(Closing {
                orderer: me(),
                epoch: EPOCH,
                closed: Ranges::of(1, 5),
                ends: (1..=5).map(|number| (number, End::Failed)).collect(),
            }))),
        ),
    ]);
}

#[test]
fn an_order_of_many_units_ends_with_the_last_and_its_state_is_written_once_a_batch() {
    let mut desk = Desk::led();
    let key = desk.placed(4);
    desk.report(attempt(key, 1, 1), Ended::Exited(0));
    desk.report(attempt(key, 3, 1), Ended::Exited(9));
    desk.report(attempt(key, 3, 2), Ended::Exited(0));
    desk.report(attempt(key, 0, 1), Ended::Exited(0));
    desk.report(attempt(key, 5, 1), Ended::Exited(0));
    let (effects, entries) = desk.close();
    let states: Vec<_> = effects.iter().filter(|effect| matches!(effect, Effect::Store(Change::OrderState(_)))).collect();
    assert_eq!(states, [&stored(OrderState { done: Ranges::of(1, 1), failed: Ranges::of(3, 3), ..state(1) })]);
    assert_eq!((effects.len(), entries), (3, Vec::new()), "two ends of units and a state");
    desk.report(attempt(key, 2, 1), Ended::Exited(0));
    desk.report(attempt(key, 4, 1), Ended::Exited(0));
    assert_eq!(desk.outcomes(), [(1, End::Failed, Some("1 of 4 units failed".to_owned()))]);
}

#[test]
fn what_others_say_of_orders_that_are_not_ours_is_nothing() {
    let mut desk = Desk::led();
    let mine = desk.placed(0);
    let key = OrderKey { orderer: peer(3), ..mine };
    desk.report(attempt(key, 1, 1), Ended::Exited(0));
    desk.orders.on_started(peer(3), &[attempt(key, 1, 1)], desk.now);
    desk.orders.on_given_up(peer(2), vec![(key, 1, "no".to_owned())], desk.now, &mut desk.out);
    desk.cancel_taken(key, &[], &[]);
    desk.cancel_taken(mine, &[], &[]);
    desk.expect([]);
    assert_eq!(desk.orders.view(1, desk.now).map(|view| view.running), Some(Vec::new()));
}

#[test]
fn a_worker_learns_that_its_report_has_come_while_the_order_goes_on() {
    let mut desk = Desk::led();
    desk.orders.on_reachable(peer(3), desk.now);
    let key = desk.placed(2);
    let of = |unit| Try { unit, ..attempt(key, 1, 1) };
    for _ in 0..2 {
        desk.report(of(1), Ended::Exited(0));
        let (effects, _) = desk.close();
        assert!(effects.contains(&said(3, Work::ReportsTaken(vec![of(1)]))), "also when it is told again");
    }
    desk.report(of(2), Ended::Exited(0));
    let mut told: Vec<_> = desk.words().into_iter().map(|(to, what, _)| (to == peer(3), what)).collect();
    told.sort_unstable();
    assert_eq!(told, [(false, "Closing"), (true, "Closing")], "the end of the order says it, too");
}

#[test]
fn an_order_that_is_forgotten_here_is_closed_and_its_number_is_not_given_again() {
    let mut desk = Desk::led();
    desk.queued(&[key(7)]);
    assert_eq!(desk.words(), [(peer(2), "Closing", vec![7])], "its memory was put back to before it");
    assert_eq!(desk.place(coffee(0)).number, 8);
}

#[test]
fn an_order_of_whose_name_others_know_another_goes_on_under_a_name_of_its_own() {
    let mut desk = Desk::led();
    let key = desk.placed(0);
    desk.orders.on_started(peer(4), &[attempt(key, 1, 1)], desk.now);
    desk.orders.on_reachable(peer(4), desk.now);
    desk.close();
    assert!(!desk.orders.is_another(&order(1, 0)) && desk.orders.is_another(&order(1, 3)));
    let (epoch, now) = (Epoch(8), desk.now);
    desk.orders.rename(&key, epoch, now, &mut desk.out);
    let renamed = Order { epoch, ..order(1, 0) };
    let (effects, entries) = desk.close();
    assert_eq!(effects[..2], [Effect::Store(Change::Order(Box::new(renamed.clone()))), stored(OrderState { epoch, ..state(1) }),]);
    let forgotten = |to| said(to, Work::Closing(Box::new(Proven::own(Closing { ends: vec![], ..closing_of(1, End::Done) }))));
    let mut told = effects[2..4].to_vec();
    told.sort_by_key(|effect| effect == &forgotten(4));
    assert_eq!(told, [forgotten(2), forgotten(4)], "before the new name");
    assert_eq!(effects[4..], [said(2, Work::Orders(vec![Proven::own(renamed)]))]);
    assert_eq!(entries, [What::OrdersPlaced { first: 1, last: 1 }]);
    desk.report(attempt(key, 1, 1), Ended::Exited(0));
    assert_eq!(desk.outcomes(), [], "that was the other one");
    desk.queued(&[OrderKey { epoch, ..key }]);
    desk.report(attempt(OrderKey { epoch, ..key }, 1, 1), Ended::Exited(0));
    assert_eq!(desk.outcomes(), [(1, End::Done, None)]);
}

#[test]
fn what_nobody_was_told_of_gets_a_name_of_the_new_memory_and_the_rest_keeps_its_own() {
    let mut desk = Desk::led();
    desk.placed(0);
    desk.orders.on_leader(None, desk.now, &mut desk.out);
    desk.place(coffee(0));
    let now = desk.now;
    desk.orders.on_new_epoch(Epoch(8), now, &mut desk.out);
    desk.close();
    let epochs: Vec<_> = desk.orders.views(0, 9, now).iter().map(|view| view.state.epoch).collect();
    assert_eq!(epochs, [EPOCH, Epoch(8)]);
}

#[test]
fn a_report_that_is_older_than_its_order_is_of_another_of_that_name() {
    let mut desk = Desk::led();
    desk.orders.on_leader(Some(fence(2, 2)), desk.now, &mut desk.out);
    let key = desk.placed(0);
    desk.report(attempt(key, 1, 1), Ended::Exited(0));
    assert_eq!(desk.outcomes(), [(1, End::Failed, Some(FORGOTTEN.to_owned()))]);
    let key = desk.placed(0);
    let attempt = Attempt { term: 2, leader: peer(2), number: 1 };
    desk.report(Try { order: key, unit: 1, attempt }, Ended::Exited(0));
    assert_eq!(desk.outcomes(), [(2, End::Done, None)]);
}

// -- closings

#[test]
fn who_worked_on_an_order_while_it_could_be_reached_is_told_when_it_can_be_again() {
    let mut desk = Desk::led();
    let key = desk.placed(0);
    desk.orders.on_started(peer(4), &[attempt(key, 1, 1)], desk.now);
    desk.report(attempt(key, 1, 2), Ended::Exited(0));
    assert_eq!(desk.words(), [(peer(2), "Closing", vec![1])]);
    desk.orders.on_reachable(peer(4), desk.now);
    desk.expect([closing(4, 1, End::Done)]);
    desk.orders.on_reachable(peer(5), desk.now);
    desk.expect([]);
    // It may not have arrived.
    desk.orders.on_send_failed(peer(4), desk.now);
    desk.expect([]);
    desk.pass(desk.config.refused_wait);
    desk.expect([closing(4, 1, End::Done)]);
}

#[test]
fn a_closing_that_cannot_hold_all_holds_what_is_new() {
    let mut scattered = Ranges::default();
    (1..=2_000).for_each(|n| scattered.insert_range(n * 2, n * 2));
    let open = vec![(order(9_000, 0), state(9_000))];
    let mut desk = Desk::with(Config::default(), open, 9_001, vec![(EPOCH, End::Failed, scattered.clone())]);
    desk.orders.on_reachable(peer(2), desk.now);
    desk.orders.on_leader(Some(fence(1, 2)), desk.now, &mut desk.out);
    let words = desk.words();
    let told: Vec<u64> = words.iter().filter(|word| word.1 == "Closing").flat_map(|word| word.2.clone()).collect();
    assert_eq!(told, scattered.iter().map(|(n, _)| n).collect::<Vec<_>>(), "a new leader is told all of it");
    assert_eq!(words.iter().filter(|word| word.1 == "Closing").map(|word| word.2.len()).collect::<Vec<_>>(), [1_024, 976]);
    desk.report(attempt(key(9_000), 1, 1), Ended::Exited(0));
    assert_eq!(desk.words(), [(peer(2), "Closing", vec![9_000])]);
    desk.orders.on_reachable(peer(3), desk.now);
    desk.report(attempt(key(4_000), 1, 1), Ended::Exited(0));
    assert_eq!(desk.words(), [(peer(2), "Closing", vec![4_000]), (peer(3), "Closing", vec![4_000, 9_000])]);
}

// -- cancels

#[test]
fn an_order_that_no_leader_was_sent_is_cancelled_at_once() {
    let mut desk = Desk::new();
    desk.place(coffee(2));
    desk.close();
    desk.cancel(key(1));
    let cancelled = Some((desk.now.wall, false));
    let outcome = Some(Outcome { end: End::Cancelled, why: None, at: desk.now.wall });
    let (effects, entries) = desk.close();
    assert_eq!(
        effects,
        [
            reply(99, Answer::Cancelling(vec![(1, None)])),
            stored(OrderState { dropped: Ranges::of(1, 2), cancelled, outcome, ..state(1) }),
            Effect::Notify(Notice::OrderEnded { number: 1, end: End::Cancelled }),
        ]
    );
    let ended = What::OrderEnded { number: 1, end: End::Cancelled };
    assert_eq!(entries, [What::OrderCancelled { number: 1, expired: false }, ended]);
    desk.orders.on_reachable(peer(2), desk.now);
    desk.orders.on_leader(Some(fence(1, 2)), desk.now, &mut desk.out);
    desk.expect([closing(2, 1, End::Cancelled)]);
}

#[test]
fn a_cancel_is_said_until_it_is_taken_and_the_order_ends_when_nothing_of_it_runs() {
    let mut desk = Desk::led();
    let key = desk.placed(3);
    desk.report(attempt(key, 1, 1), Ended::Exited(0));
    desk.close();
    desk.cancel(key);
    let cancelled = Some((desk.now.wall, false));
    desk.expect([
        reply(99, Answer::Cancelling(vec![(1, None)])),
        stored(OrderState { done: Ranges::of(1, 1), cancelled, ..state(1) }),
        said(2, Work::Cancels(vec![Proven::own(Cancel { order: key, expired: false })])),
    ]);
    desk.pass(2 * SECOND);
    assert_eq!(desk.words(), [(peer(2), "Cancels", vec![1])]);
    desk.cancel(key);
    desk.expect([reply(99, Answer::Cancelling(vec![(1, None)]))]);
    desk.cancel_taken(key, &[1, 2], &[]);
    desk.pass(100 * SECOND);
    desk.expect([]);
    desk.report(attempt(key, 2, 1), Ended::Cancelled);
    assert_eq!(desk.outcomes(), [(1, End::Cancelled, None)], "unit 3 was dropped, unit 2 is gone, unit 1 had ended");
}

#[test]
fn an_order_that_ended_by_itself_was_not_cancelled() {
    let mut desk = Desk::led();
    let key = desk.placed(2);
    desk.cancel(key);
    desk.close();
    desk.cancel_taken(key, &[1, 2], &[]);
    desk.report(attempt(key, 1, 1), Ended::Exited(0));
    desk.report(attempt(key, 2, 1), Ended::Exited(0));
    assert_eq!(desk.outcomes(), [(1, End::Done, None)]);
}

#[test]
fn a_cancelled_order_whose_worker_is_lost_is_said_to_be_unconfirmed() {
    let mut desk = Desk::led();
    let key = desk.placed(2);
    desk.cancel(key);
    desk.close();
    desk.cancel_taken(key, &[1, 2], &[2]);
    desk.expect([]);
    desk.cancel_taken(key, &[], &[2]);
    let why = Some("unconfirmed: its worker cannot be reached".to_owned());
    assert_eq!(desk.outcomes(), [(1, End::Cancelled, why)]);
}

#[test]
fn what_a_former_leader_said_of_a_cancel_is_void_since_another_may_have_begun_more() {
    let mut desk = Desk::led();
    let key = desk.placed(2);
    desk.cancel(key);
    desk.close();
    desk.cancel_taken(key, &[1], &[]);
    desk.orders.on_leader(Some(fence(2, 2)), desk.now, &mut desk.out);
    desk.report(attempt(key, 1, 1), Ended::Cancelled);
    assert_eq!(desk.outcomes(), []);
    desk.cancel_taken(key, &[2], &[]);
    desk.report(attempt(key, 2, 1), Ended::Exited(0));
    assert_eq!(desk.outcomes(), [(1, End::Cancelled, None)]);
}

#[test]
fn a_cancel_follows_its_order_and_never_overtakes_it() {
    let mut desk = Desk::led();
    let key = desk.place(coffee(0));
    desk.close();
    desk.cancel(key);
    assert_eq!(desk.words(), [], "the leader does not know of the order yet");
    desk.queued(&[key]);
    assert_eq!(desk.words(), [(peer(2), "Cancels", vec![1])]);
    let second = desk.place(coffee(0));
    desk.close();
    desk.cancel(second);
    desk.orders.on_not_queued(peer(2), fence(1, 2), &[(second, Full::Disk)], desk.now);
    assert_eq!(desk.words(), [(peer(2), "Cancels", vec![2])], "and it goes alone to who does not take the order");
}

#[test]
fn whoever_led_and_had_an_order_in_its_queue_is_told_of_its_end_too() {
    let mut desk = Desk::led();
    let key = desk.placed(1);
    desk.orders.on_reachable(peer(4), desk.now);
    desk.orders.on_leader(Some(fence(2, 4)), desk.now, &mut desk.out);
    desk.close();
    desk.queued(&[key]);
    desk.orders.on_unreachable(peer(2), desk.now);
    desk.report(attempt(key, 1, 1), Ended::Exited(0));
    let told =
        |desk: &mut Desk| desk.words().into_iter().filter(|(_, word, _)| *word == "Closing").map(|(peer, ..)| peer).collect::<Vec<_>>();
    assert!(told(&mut desk).contains(&peer(4)));
    desk.orders.on_reachable(peer(2), desk.now);
    assert_eq!(told(&mut desk), [peer(2)], "when it is back");
}

#[test]
fn a_cancel_of_ones_own_that_comes_back_is_heeded_by_a_memory_that_does_not_know_it() {
    let mut desk = Desk::led();
    let key = desk.placed(1);
    desk.close();
    let cancel = |key| vec![Proven::own(Cancel { order: key, expired: false })];
    desk.orders.on_cancels(&cancel(OrderKey { epoch: Epoch(99), ..key }), desk.now, &mut desk.out);
    desk.expect([]);
    desk.orders.on_cancels(&cancel(key), desk.now, &mut desk.out);
    desk.orders.on_cancels(&cancel(key), desk.now, &mut desk.out);
    let cancelled = Some((desk.now.wall, false));
    desk.expect([stored(OrderState { cancelled, ..state(1) }), said(2, Work::Cancels(cancel(key)))]);
    desk.cancel_taken(key, &[], &[]);
    assert_eq!(desk.outcomes(), [(1, End::Cancelled, None)]);
}

#[test]
fn one_unknown_number_refuses_a_whole_cancel() {
    let mut desk = Desk::led();
    let key = desk.placed(0);
    desk.orders.cancel(RequestId(5), &[key.number, 2], desk.now, &mut desk.out);
    desk.expect([reply(5, Answer::Refused(Refusal::NoSuchOrder { number: 2 }))]);
}

#[test]
fn an_order_whose_time_is_up_is_cancelled_and_then_expired() {
    let mut desk = Desk::led();
    let late = || NewOrder { expires: Some(10 * SECOND), ..coffee(0) };
    let (key, _) = (desk.place(late()), desk.place(late()));
    desk.close();
    desk.queued(&[key, self::key(2)]);
    desk.report(attempt(self::key(2), 1, 1), Ended::Exited(0));
    desk.close();
    assert_eq!(desk.orders.deadline(), Some(110 * SECOND));
    desk.pass(10 * SECOND);
    let (cancelled, expires_at) = (Some((desk.now.wall, true)), Some(Timestamp(1_010_000)));
    desk.expect([
        stored(OrderState { cancelled, expires_at, ..state(1) }),
        said(2, Work::Cancels(vec![Proven::own(Cancel { order: key, expired: true })])),
    ]);
    desk.cancel_taken(key, &[], &[]);
    assert_eq!(desk.outcomes(), [(1, End::Expired, None)]);
}

// -- what runs

#[test]
fn what_runs_is_shown_with_its_worker_time_and_progress() {
    let mut desk = Desk::led();
    let key = desk.placed(300);
    let tries: Vec<Try> = (1..=300).map(|unit| attempt(key, unit, 1)).collect();
    desk.orders.on_started(peer(3), &tries, desk.now);
    desk.pass(5 * SECOND);
    let progress = |of| Progress { of, done: 3, total: 10, note: "words".to_owned() };
    desk.orders.on_progress(peer(3), vec![progress(tries[0])], desk.now);
    desk.orders.on_progress(peer(4), vec![progress(tries[1])], desk.now);
    desk.expect([]);
    let running = desk.orders.view(1, desk.now).expect("open").running;
    assert_eq!(running.len(), 256, "no more are remembered of one order");
    let words = Some((3, 10, "words".to_owned()));
    assert_eq!((running[0].worker, running[0].for_, &running[0].progress), (peer(3), 5 * SECOND, &words));
    assert_eq!((running[1].worker, &running[1].progress), (peer(3), &None), "its worker alone tells");
    // A later attempt replaces an earlier one; what broke or ended does not run.
    let later = attempt(key, 1, 2);
    desk.orders.on_started(peer(4), &[later], desk.now);
    desk.orders.on_started(peer(3), &[tries[0]], desk.now);
    desk.orders.on_broken(peer(2), &[(tries[0], Broken::Lost), (tries[1], Broken::Crashed)], desk.now);
    desk.report(tries[2], Ended::Exited(0));
    let running = desk.orders.views(0, 10, desk.now).pop().expect("open").running;
    assert_eq!(running.iter().map(|run| (run.of.unit, run.of.attempt.number)).take(2).collect::<Vec<_>>(), [(1, 2), (4, 1)]);
    assert_eq!((running[0].worker, running[0].for_, &running[0].progress), (peer(4), Duration::ZERO, &None));
}

// -- starts

#[test]
fn after_a_start_numbers_go_on_and_open_orders_go_to_the_leader_under_their_own_memory() {
    let cancelled = Some((Timestamp(5), false));
    let open = vec![
        (Order { epoch: Epoch(6), ..order(3, 0) }, OrderState { epoch: Epoch(6), ..state(3) }),
        (order(5, 3), OrderState { done: Ranges::of(1, 2), cancelled, ..state(5) }),
        (order(6, 0), OrderState { expires_at: Some(Timestamp(1_004_000)), ..state(6) }),
    ];
    let closed = vec![(Epoch(6), End::Done, Ranges::of(1, 2)), (EPOCH, End::Failed, Ranges::of(4, 4))];
    let mut desk = Desk::with(Config::default(), open, 7, closed);
    assert_eq!(desk.orders.deadline(), Some(104 * SECOND), "its time goes on");
    desk.cancel(key(3));
    let open = desk.outcomes();
    assert_eq!(open, [], "a leader may know of it from before");
    desk.orders.cancel(RequestId(1), &[1, 4], desk.now, &mut desk.out);
    desk.expect([reply(1, Answer::Cancelling(vec![(1, Some(End::Done)), (4, Some(End::Failed))]))]);
    desk.orders.on_reachable(peer(2), desk.now);
    desk.orders.on_leader(Some(fence(1, 2)), desk.now, &mut desk.out);
    let words = desk.words();
    assert_eq!(
        words,
        [
            (peer(2), "Closing", vec![1, 2]),
            (peer(2), "Closing", vec![4]),
            (peer(2), "UnitsEnded", vec![5]),
            (peer(2), "Orders", vec![3, 5, 6])
        ],
        "one closing for each memory"
    );
    desk.queued(&[OrderKey { epoch: Epoch(6), ..key(3) }, key(5), key(6)]);
    assert_eq!(desk.words(), [(peer(2), "Cancels", vec![3, 5])]);
    assert_eq!(desk.place(coffee(0)).number, 7);
    desk.close();
    desk.report(attempt(key(5), 3, 1), Ended::Exited(0));
    assert_eq!(desk.outcomes(), [(5, End::Done, None)]);
}
