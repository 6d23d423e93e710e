//! What those who would take over have before anybody else is told, and what becomes of copies.

use super::*;
use crate::work::{Copies, Held, Known, Span};

/// Who would take over, beside a worker of two slots.
const FIRST: u8 = 5;
const SECOND: u8 = 6;

/// A desk with standbys that have its empty table.
fn followed(standbys: &[u8]) -> Desk {
    let mut desk = Desk::new(vec![worker(9, 2), idle(FIRST), idle(SECOND)]);
    let done = name(&mut desk, standbys);
    for (to, number) in sent(&done) {
        copied(&mut desk, to, number);
    }
    desk
}

/// Somebody who offers nothing that is ordered.
fn idle(number: u8) -> Fake {
    worker_of("tea", peer(number), 1)
}

fn name(desk: &mut Desk, standbys: &[u8]) -> Done {
    let standbys: Vec<PeerId> = standbys.iter().map(|number| peer(*number)).collect();
    desk.batch(|dispatcher, _, _| dispatcher.set_standbys(&standbys))
}

fn copied(desk: &mut Desk, from: PeerId, number: u64) -> Done {
    let fence = fence(desk.term);
    desk.batch(|dispatcher, now, _| dispatcher.on_copied(from, fence, number, now))
}

fn copies(done: &Done) -> Vec<(PeerId, &Copies)> {
    done.said.iter().filter_map(|(to, work)| if let Work::Copies(copies) = work { Some((*to, copies)) } else { None }).collect()
}

fn sent(done: &Done) -> Vec<(PeerId, u64)> {
    copies(done).into_iter().map(|(to, copies)| (to, copies.number)).collect()
}

#[test]
fn nothing_is_said_before_every_standby_has_what_it_relies_on() {
    let mut desk = followed(&[FIRST, SECOND]);
    let done = desk.order(order(1));
    let waiting = sent(&done);
    assert_eq!(waiting.iter().map(|(to, _)| *to).collect::<BTreeSet<_>>(), BTreeSet::from([peer(FIRST), peer(SECOND)]));
    assert_eq!(done.said.len(), 2, "only copies");
    for (_, copies) in copies(&done) {
        let [Held { order: Some(whole), state, .. }] = &copies.orders[..] else { panic!("{copies:?}") };
        assert_eq!((whole.value.clone(), state.tries.len()), (order(1), 1), "with whom its unit will be is known before it is there");
    }
    assert_eq!(copied(&mut desk, waiting[0].0, waiting[0].1).said, []);
    let done = copied(&mut desk, waiting[1].0, waiting[1].1);
    assert_eq!((done.said("Queued"), done.assigned().len()), (1, 1));
    assert_eq!(desk.standing(1).held_by, 3);
}

#[test]
fn a_silent_standby_is_waited_for_half_a_second_and_then_by_nobody() {
    let mut desk = followed(&[FIRST]);
    let done = desk.order(order(1));
    assert_eq!(sent(&done).len(), 1);
    assert_eq!(desk.wait(Duration::from_millis(499)).said, []);
    let done = desk.wait(Duration::from_millis(2));
    assert_eq!(done.assigned().len(), 1);
    assert_eq!(desk.dispatcher.take_silent(), [peer(FIRST)]);
    assert_eq!(desk.standing(1).held_by, 1);
    // The next one gets the table, and is waited for when it has it.
    let done = name(&mut desk, &[SECOND]);
    let page = copies(&done);
    assert_eq!(page.len(), 1);
    assert_eq!((page[0].0, page[0].1.span, page[0].1.orders.len()), (peer(SECOND), Some(Span { after: None, upto: None }), 1));
    assert_eq!(desk.order(order(2)).said("Queued"), 1);
}

#[test]
fn a_page_is_followed_by_what_changed_meanwhile() {
    let mut desk = Desk::new(vec![worker(9, 2), idle(FIRST)]);
    let large = |number| Order { args: vec!["x".repeat(100_000)], service: "soup".parse().expect("a name"), ..order(number) };
    (1..=5).for_each(|number| drop(desk.order(large(number))));
    let mut done = name(&mut desk, &[FIRST]);
    let mut whole = BTreeSet::new();
    let mut pages = 0;
    while let Some((to, copies)) = copies(&done).first().copied() {
        assert_eq!(sent(&done).len(), 1, "one at a time");
        whole.extend(copies.orders.iter().filter(|held| held.order.is_some()).map(|held| held.state.order));
        pages += 1;
        let number = copies.number;
        if pages == 1 {
            // One that the first page had is over, and one comes.
            desk.close(1);
            assert_eq!(desk.order(order(6)).said("Copies"), 0);
        }
        done = copied(&mut desk, to, number);
        done.said.retain(|(_, work)| work.what() == "Copies");
    }
    assert!(pages > 2);
    assert_eq!(whole, (1..=6).map(key).collect());
}

#[test]
fn a_standby_that_works_gets_no_order_twice_and_knows_itself_what_it_has() {
    let mut desk = Desk::new(vec![worker(FIRST, 1)]);
    let done = name(&mut desk, &[FIRST]);
    copied(&mut desk, peer(FIRST), sent(&done)[0].1);
    let done = desk.order(order(1));
    let [(_, Copies { orders, number, .. })] = copies(&done)[..] else { panic!("{done:?}") };
    assert!(orders[0].order.is_some() && orders[0].state.tries.is_empty());
    let done = copied(&mut desk, peer(FIRST), *number);
    assert_eq!((done.assigned().len(), done.said("Orders")), (1, 0));
    // Its copy is lost: it is sent the order after all.
    let of = done.assigned()[0].1;
    let mut done = desk.decline(peer(FIRST), of, Lack::NoOrder);
    done.said.extend(desk.wait(Duration::from_millis(100)).said);
    assert_eq!((done.said("Orders"), done.assigned()), (1, vec![(peer(FIRST), of)]));
}

#[test]
fn closings_are_passed_on_to_standbys() {
    let mut desk = followed(&[FIRST, SECOND]);
    desk.order(order(1));
    assert_eq!(desk.close(1).said.iter().filter(|(_, work)| matches!(work, Work::Closing(_))).count(), 2);
    assert_eq!(desk.close(1).said("Closing"), 0);
}

// -- who follows

const LEADER: u8 = 7;

fn led(term: u64) -> Fence {
    Fence { term, leader: peer(LEADER) }
}

/// A desk that follows, and holds these orders as they were in its own table.
fn following(numbers: &[u64]) -> Desk {
    let mut desk = Desk::new(vec![]);
    numbers.iter().for_each(|number| drop(desk.order(order(*number))));
    desk
}

fn follow(desk: &mut Desk, term: u64) -> Done {
    follow_as(desk, term, false)
}

fn follow_as(desk: &mut Desk, term: u64, standby: bool) -> Done {
    desk.batch(|dispatcher, now, out| {
        dispatcher.end(Some(led(term)), true, now);
        dispatcher.tick_holdings(standby, now, out);
    })
}

fn of(numbers: &[u64]) -> Vec<OrdersOf> {
    let mut all = Ranges::default();
    for number in numbers {
        all.insert(*number);
    }
    vec![OrdersOf { orderer: peer(ORDERER), epoch: Epoch(1), numbers: all }]
}

#[test]
fn who_follows_tells_what_it_holds_hands_over_what_is_lacking_and_lets_go() {
    let mut desk = following(&[1, 2, 3]);
    let done = follow(&mut desk, 9);
    assert_eq!(done.said, [(peer(LEADER), Work::Holding { fence: led(9), orders: of(&[1, 2, 3]) })]);
    let done = desk.batch(|dispatcher, now, out| {
        dispatcher.on_known(led(9), Known::Here, &of(&[1]), now, out);
        dispatcher.on_known(led(9), Known::Over, &of(&[2]), now, out);
        dispatcher.on_known(led(9), Known::Wanted, &of(&[3]), now, out);
        dispatcher.tick_holdings(false, now, out);
    });
    assert_eq!(done.stored, [Change::Unqueue(key(2))]);
    let [(_, Copies { orders, number, span: None, .. })] = copies(&done)[..] else { panic!("{done:?}") };
    assert_eq!(orders.iter().map(|held| held.state.order).collect::<Vec<_>>(), [key(3)]);
    // Nothing is let go of before the leader has it on its disk.
    desk.mono += Duration::from_secs(10);
    let done = desk.batch(|dispatcher, now, out| dispatcher.tick_holdings(false, now, out));
    assert_eq!(done.stored, [Change::Unqueue(key(1))]);
    let number = *number;
    desk.batch(|dispatcher, now, _| dispatcher.on_copied(peer(LEADER), led(9), number, now));
    desk.mono += Duration::from_secs(10);
    let done = desk.batch(|dispatcher, now, out| dispatcher.tick_holdings(false, now, out));
    assert_eq!(done.stored, []);
    desk.mono += Duration::from_secs(10);
    desk.batch(|dispatcher, now, out| dispatcher.tick_holdings(false, now, out));
    assert_eq!(desk.queue.len(), 1, "it was offered again, since its answer came too late");
}

#[test]
fn a_standby_keeps_copies_and_drops_what_is_not_in_the_leaders_table_any_more() {
    let mut desk = following(&[]);
    follow_as(&mut desk, 9, true);
    let held = |number, whole: bool| {
        let state = QueueState {
            tries: vec![(1, Attempt { term: 9, leader: peer(LEADER), number: 1 }, peer(9))],
            ..QueueState::new(key(number), 7)
        };
        Held { order: whole.then(|| Proven::own(order(number)).unchecked()), age_ms: 50, state }
    };
    let copy = |desk: &mut Desk, number, span, orders: Vec<Held>| {
        let copies = Copies { fence: led(9), number, span, orders };
        desk.batch(|dispatcher, now, out| dispatcher.on_copies(copies, false, now, out))
    };
    let all = Some(Span { after: None, upto: None });
    let done = copy(&mut desk, 1, all, vec![held(1, true), held(2, true)]);
    assert_eq!(done.said, [(peer(LEADER), Work::Copied { fence: led(9), number: 1 })]);
    assert_eq!((desk.queue.len(), done.noted.len()), (2, 1));
    // Of what it does not have it gets no state.
    assert_eq!(copy(&mut desk, 2, None, vec![held(3, false)]).said, []);
    // The same again changes nothing; what is missing has ended.
    let done = copy(&mut desk, 3, all, vec![held(2, true)]);
    assert_eq!(done.stored, [Change::Unqueue(key(1))]);
    // What has ended for its orderer does not come back.
    desk.close(2);
    assert_eq!(copy(&mut desk, 4, None, vec![held(2, true)]).stored, []);
    assert!(desk.queue.is_empty());
}

#[test]
fn what_somebody_else_brings_waits_until_all_who_are_here_were_asked() {
    let mut desk = Desk::new(vec![worker(9, 2)]);
    let term = desk.term;
    let holding = Work::Holding { fence: fence(term), orders: of(&[1, 2]) };
    let Work::Holding { orders, .. } = holding else { unreachable!() };
    let done = desk.batch(|dispatcher, _, _| dispatcher.on_holding(peer(LEADER), fence(term), orders));
    assert_eq!(done.said, [], "it is not a neighbour");
    let brought =
        |number| Held { order: Some(Proven::own(order(number)).unchecked()), age_ms: 1_000, state: QueueState::new(key(number), 7) };
    let copies = Copies { fence: fence(term), number: 1, span: None, orders: vec![brought(1), brought(2)] };
    let done = desk.batch(|dispatcher, now, out| dispatcher.on_handed(peer(ORDERER), copies, false, now, out));
    assert_eq!((done.said("AskClosed"), done.said("Copied"), done.assigned().len()), (3, 1, 0));
    let done = desk.knows_closed(peer(9), &[2]);
    assert_eq!(done.assigned(), []);
    desk.knows_closed(peer(ME), &[]);
    let done = desk.knows_closed(peer(ORDERER), &[]);
    assert_eq!(done.assigned().iter().map(|(_, of)| of.order).collect::<Vec<_>>(), [key(1)], "the other waits for its orderer");
}
