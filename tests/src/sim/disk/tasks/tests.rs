use protocol::effect::Outcome;
use protocol::input::NewOrder;
use protocol::order::{Attempt, Excerpt, Fence};

use super::*;
use crate::sim::an_order;

fn peer(seed: u8) -> PeerId {
    protocol::bundle::Secrets::from_seeds(&[seed; 32], &[seed; 32]).id()
}

fn order(number: u64) -> Order {
    let NewOrder { service, args, priority, needs, once, .. } = an_order("coffee", &["{}"]);
    let items = vec!["a".to_owned(), "b".to_owned()];
    let placed = Timestamp(1);
    Order { orderer: peer(1), epoch: Epoch(7), number, service, args, items, stdin: None, priority, needs, once, placed }
}

fn state(number: u64, done: u64, outcome: Option<End>) -> OrderState {
    let outcome = outcome.map(|end| Outcome { end, why: None, at: Timestamp(2) });
    let (failed, dropped) = (Ranges::default(), Ranges::default());
    let done = Ranges::of(1, done);
    OrderState { number, epoch: Epoch(7), expires_at: None, cancelled: None, done, failed, dropped, outcome }
}

fn a_try(unit: u32, number: u32) -> Try {
    Try { order: order(1).key(), unit, attempt: Attempt { term: 1, leader: peer(2), number } }
}

fn report(of: Try) -> Report {
    let (stdout, stderr) = (Excerpt::default(), Excerpt::default());
    let (started_at, ended_at) = (Timestamp(1), Timestamp(2));
    Report { of, worker: peer(1), ended: Ended::Exited(0), stdout, stderr, started_at, ended_at, ran_ms: 1 }
}

fn unit_end(unit: u32) -> Change {
    Change::UnitEnd { number: 1, unit, report: Ok(Box::new(Proven::own(report(a_try(unit, 1))))) }
}

fn set(state: OrderState) -> Change {
    Change::OrderState(Box::new(state))
}

/// One commit: these changes, and these entries in the record.
fn commit(disk: &mut Tasks, changes: &[Change], entries: &[What]) -> Verdict {
    let mut touched = Touched::default();
    for change in changes {
        assert!(disk.apply(peer(1), [Some(Epoch(7)); 2], change, &mut touched)?, "{change:?}");
    }
    disk.check(&touched, entries.iter())
}

fn placed(number: u64) -> ([Change; 2], What) {
    ([Change::Order(Box::new(order(number))), set(state(number, 0, None))], What::OrdersPlaced { first: number, last: number })
}

/// A disk with order 1, whose two units are done, and its outcome.
fn done() -> Tasks {
    let mut disk = Tasks::default();
    let (changes, entry) = placed(1);
    commit(&mut disk, &changes, &[entry]).expect("a sound commit");
    commit(&mut disk, &[unit_end(1), set(state(1, 1, None))], &[]).expect("a sound commit");
    let outcome = What::OrderEnded { number: 1, end: End::Done };
    commit(&mut disk, &[unit_end(2), set(state(1, 2, Some(End::Done)))], &[outcome]).expect("a sound commit");
    disk
}

/// Refused, for a reason that says this.
fn refused(verdict: Verdict, why: &str) {
    let said = verdict.expect_err("no sound node does that");
    assert!(said.contains(why), "{said}");
}

#[test]
fn what_a_node_kept_is_what_it_begins_with() {
    let mut disk = done();
    let (changes, entry) = placed(2);
    commit(&mut disk, &changes, &[entry]).expect("a sound commit");
    let mut kept = Kept::default();
    disk.fill(&mut kept);
    assert_eq!(kept.next_order, 3);
    assert_eq!(kept.open_orders, [(order(2), state(2, 0, None))]);
    assert_eq!(kept.closed_own, [(Epoch(7), End::Done, Ranges::of(1, 1))]);
}

#[test]
fn an_outcome_is_true_written_down_and_final() {
    let failed = Outcome { end: End::Failed, why: None, at: Timestamp(2) };
    refused(commit(&mut done(), &[set(OrderState { outcome: Some(failed), ..state(1, 2, None) })], &[]), "after its outcome");
    refused(commit(&mut done(), &[set(state(1, 2, None))], &[]), "after its outcome");
    let mut disk = Tasks::default();
    let (changes, entry) = placed(1);
    commit(&mut disk, &changes, &[entry]).expect("a sound commit");
    let early = [unit_end(1), set(state(1, 1, Some(End::Done)))];
    refused(commit(&mut disk.clone(), &early, &[]), "not what became of it");
    refused(commit(&mut disk.clone(), &[set(state(1, 1, None))], &[]), "its units say");
    let whole = [unit_end(1), unit_end(2), set(state(1, 2, Some(End::Done)))];
    refused(commit(&mut disk, &whole, &[]), "the record says");
}

#[test]
fn numbers_ascend_and_units_end_once() {
    let (changes, entry) = placed(1);
    refused(commit(&mut done(), &changes, &[entry]), "placed after 1");
    let (changes, _) = placed(2);
    refused(commit(&mut done(), &changes, &[]), "without an entry");
    refused(commit(&mut done(), &[unit_end(2)], &[]), "ends twice");
    let third = Change::UnitEnd { number: 1, unit: 3, report: Err(String::new()) };
    refused(commit(&mut done(), &[third], &[]), "has no unit 3");
}

#[test]
fn fences_do_not_go_back_and_tries_start_and_end_once() {
    let fence = |term, counter| Change::Fence(FenceRow { fence: Fence { term, leader: peer(1) }, counter });
    let mut disk = Tasks::default();
    commit(&mut disk, &[fence(2, 5), fence(2, 6)], &[]).expect("a sound commit");
    refused(commit(&mut disk.clone(), &[fence(1, 9)], &[]), "goes back");
    refused(commit(&mut disk.clone(), &[fence(2, 5)], &[]), "go back");
    let start = Change::TryStarted { task: a_try(1, 1), at: Timestamp(1) };
    let started = What::UnitStarted { of: a_try(1, 1) };
    refused(commit(&mut disk.clone(), std::slice::from_ref(&start), &[]), "without an entry");
    commit(&mut disk, std::slice::from_ref(&start), std::slice::from_ref(&started)).expect("a sound commit");
    refused(commit(&mut disk.clone(), std::slice::from_ref(&start), &[started]), "starts twice");
    let end = Change::TryEnded(Box::new(report(a_try(1, 1))));
    let ended = What::UnitEnded { of: a_try(1, 1), ended: Ended::Exited(0) };
    commit(&mut disk, std::slice::from_ref(&end), std::slice::from_ref(&ended)).expect("a sound commit");
    refused(commit(&mut disk.clone(), &[end], &[ended]), "ends twice");
    refused(commit(&mut disk.clone(), &[start], &[]), "after its end");
    refused(commit(&mut disk, &[Change::DropTry(a_try(2, 1))], &[]), "not there");
}

#[test]
fn the_queue_holds_what_has_not_ended_with_one_worker_for_a_unit() {
    let queued = Queued { order: Proven::own(order(1)).unchecked(), sort: 1, at: Timestamp(1) };
    let queue = Change::Queue(Box::new(queued));
    let entry = What::OrdersQueued { orderer: peer(1), epoch: Epoch(7), first: 1, last: 1 };
    let closed = |last| Change::Closed { orderer: peer(1), epoch: Epoch(7), closed: Ranges::of(1, last) };
    let placed = |tries: &[(u32, u32)]| {
        let tries = tries.iter().map(|(unit, number)| (*unit, a_try(*unit, *number).attempt, peer(3))).collect();
        let (ended, given_up) = (Ranges::default(), Ranges::default());
        Change::QueueState(Box::new(QueueState { order: order(1).key(), sort: 1, cancel: None, ended, given_up, tries, tried: Vec::new() }))
    };
    let mut disk = Tasks::default();
    refused(commit(&mut disk.clone(), &[placed(&[])], &[]), "not in the queue");
    refused(commit(&mut disk.clone(), &[closed(1), queue.clone()], &[]), "known to have ended");
    refused(commit(&mut disk.clone(), &[closed(2), closed(1)], &[]), "forgotten");
    commit(&mut disk, std::slice::from_ref(&queue), &[entry]).expect("a sound commit");
    refused(commit(&mut disk.clone(), &[queue], &[]), "queued again");
    commit(&mut disk, &[placed(&[(1, 2), (2, 1)])], &[]).expect("a sound commit");
    refused(commit(&mut disk.clone(), &[placed(&[(1, 2), (1, 3)])], &[]), "two workers");
    commit(&mut disk.clone(), &[placed(&[(1, 1)])], &[]).expect("of two running copies the longer-running stays");
    refused(commit(&mut disk.clone(), &[placed(&[(3, 1)])], &[]), "does not have");
    commit(&mut disk, &[Change::Unqueue(order(1).key())], &[]).expect("a sound commit");
    refused(commit(&mut disk, &[Change::Unqueue(order(1).key())], &[]), "was not in it");
}
