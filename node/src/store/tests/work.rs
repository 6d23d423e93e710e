use std::collections::BTreeSet;

use protocol::Kept;
use protocol::effect::{FenceRow, OrderState, Outcome, QueueState, Queued};
use protocol::input::{Recall, Recalled};
use protocol::order::{Attempt, Cancel, End, Ended, Excerpt, Fence, Order, OrderKey, Priority, Report, Try};
use protocol::proven::Proven;
use protocol::service::{Allowed, Needs, Offering, Program, ServiceCard};

use super::super::{Content, InboxKind, InboxQuery, OrderQuery, OrderSummary, Reader, UnitEnd, rows};
use super::comes_back::check;
use super::*;

const EPOCH: Epoch = Epoch(7);

fn needs() -> Needs {
    Needs { cores: 2, memory_bytes: 5, software: BTreeSet::from(["ffmpeg".to_owned()]) }
}

/// Order `number` of this node, with an item for each of its units.
fn order(number: u64, items: &[&str]) -> Order {
    Order {
        orderer: peer(1),
        epoch: EPOCH,
        number,
        service: "coffee".parse().expect("a name"),
        args: vec!["latte".to_owned(), "{}".to_owned()],
        items: items.iter().map(|item| (*item).to_owned()).collect(),
        stdin: None,
        priority: Priority::Middle,
        needs: needs(),
        once: true,
        placed: Timestamp(1_000 + number),
    }
}

fn state(number: u64) -> OrderState {
    OrderState {
        number,
        epoch: EPOCH,
        expires_at: Some(Timestamp(9)),
        cancelled: None,
        done: Ranges::default(),
        failed: Ranges::default(),
        dropped: Ranges::default(),
        outcome: None,
    }
}

fn ended(number: u64) -> OrderState {
    let outcome = Some(Outcome { end: End::Failed, why: Some("exit 1".to_owned()), at: Timestamp(70) });
    let (done, failed) = (Ranges::of(1, 2), Ranges::of(3, 3));
    OrderState { outcome, done, failed, cancelled: Some((Timestamp(60), true)), ..state(number) }
}

fn placed(number: u64) -> [Change; 2] {
    [Change::Order(order(number, &[]).into()), Change::OrderState(state(number).into())]
}

fn closed(number: u64) -> Change {
    Change::OrderState(ended(number).into())
}

/// Order `number` of somebody else.
fn key(orderer: u8, number: u64) -> OrderKey {
    OrderKey { orderer: peer(orderer), epoch: Epoch(3), number }
}

fn queued(key: OrderKey, sort: u64) -> Queued {
    let order = Order { orderer: key.orderer, epoch: key.epoch, ..order(key.number, &["a", "b"]) };
    Queued { order: Proven::own(order).unchecked(), sort, at: Timestamp(4) }
}

fn attempt(number: u32) -> Attempt {
    Attempt { term: 3, leader: peer(8), number }
}

fn queue_state(order: OrderKey, sort: u64) -> QueueState {
    QueueState {
        order,
        sort,
        cancel: Some(Proven::own(Cancel { order, expired: true }).unchecked()),
        ended: Ranges::of(1, 1),
        given_up: Ranges::of(5, 6),
        tries: vec![(2, attempt(1), peer(9))],
        tried: vec![(3, 4, 1)],
    }
}

fn a_try(orderer: u8, number: u64, unit: u32, tried: u32) -> Try {
    Try { order: key(orderer, number), unit, attempt: attempt(tried) }
}

fn report(of: Try, ended: Ended) -> Report {
    let excerpt = |text: &str| Excerpt { bytes: text.as_bytes().to_vec().into(), total: 900, kept: 800 };
    Report {
        of,
        worker: peer(9),
        ended,
        stdout: excerpt("out"),
        stderr: excerpt("err"),
        started_at: Timestamp(1),
        ended_at: Timestamp(2),
        ran_ms: 3,
    }
}

fn offering(name: &str, limit: u32) -> Offering {
    let card = ServiceCard {
        name: name.parse().expect("a name"),
        about: "brews".to_owned(),
        limit,
        needs: needs(),
        allowed: Allowed::Peers(BTreeSet::from([peer(2), peer(3)])),
    };
    let program = Program::Command(vec!["/bin/brew".to_owned(), "-f".to_owned()]);
    Offering { card, program, time_limit_ms: Some(5), software: BTreeSet::from(["brew".to_owned()]), configured: true }
}

/// As [`check`], and once more with each batch written twice: nothing changes by that.
fn check_twice(batches: &[Batch], look: impl Fn(Kept, Reader)) {
    check(batches, &look);
    let twice: Vec<Batch> = batches.iter().flat_map(|batch| [batch.clone(), batch.clone()]).collect();
    check(&twice, &look);
}

#[test]
fn outcomes_stand_among_the_letters_and_are_told_apart_from_them() {
    let one = report(Try { order: OrderKey { orderer: peer(1), epoch: EPOCH, number: 4 }, ..a_try(1, 4, 1, 1) }, Ended::Exited(1));
    let end = Change::UnitEnd { number: 4, report: Ok(Box::new(Proven::own(one.clone()).unchecked())), unit: 1 };
    let shows = |n, number| Change::OutcomeShown { n, number, id: id(900 + number) };
    let many = [Change::Order(order(5, &["a", "b", "c"]).into()), closed(5), shows(3, 5)];
    let silent = Taken { silent: true, ..taken(1, 2, "") };
    let batches = [
        batch(placed(4).into_iter().chain([
            Change::InStream(in_stream(1, 3, 1)),
            Change::Taken(taken(1, 1, "one").into()),
            shown(1, 1, 1),
        ])),
        batch([end, closed(4), shows(2, 4), Change::Taken(silent.into())].into_iter().chain(many)),
        batch([Change::Read { n: 2, at: Timestamp(80) }]),
        batch([Change::Read { n: 2, at: Timestamp(90) }]),
    ];
    check_twice(&batches, |kept, reader| {
        assert_eq!(kept.next_n, 4);
        assert!(kept.recent.iter().all(|letter| !letter.unshown), "what nobody reads waits for no place");
        let found = |query: InboxQuery| reader.inbox(&query).expect("the inbox");
        let ns = |query| found(query).iter().map(|letter| letter.n).collect::<Vec<_>>();
        let only = |kind| InboxQuery { kind, ..InboxQuery::default() };
        assert_eq!(ns(InboxQuery::default()), [1, 2, 3]);
        assert_eq!((ns(only(InboxKind::Letters)), ns(only(InboxKind::Outcomes))), (vec![1], vec![2, 3]));
        assert_eq!(ns(InboxQuery { unread: true, ..only(InboxKind::Outcomes) }), [3]);
        assert_eq!(ns(InboxQuery { from: Some(peer(3)), ..InboxQuery::default() }), [1]);
        assert_eq!(ns(InboxQuery { from: Some(peer(3)), ..only(InboxKind::Outcomes) }), [0u64; 0]);
        let letters = found(InboxQuery::default());
        assert_eq!((letters[1].received, letters[1].read), (Timestamp(70), Some(Timestamp(80))), "the first time counts");
        let Content::Outcome(outcome) = &letters[1].content else { panic!("{letters:?}") };
        assert_eq!((outcome.order.number, &outcome.end), (4, &Some(UnitEnd { unit: 1, end: Ok(one.clone()) })));
        let Content::Outcome(outcome) = &letters[2].content else { panic!("{letters:?}") };
        assert_eq!((outcome.order.units, &outcome.end), (3, &None), "of many units none stands for all");
        let by_id = reader.inbox_by_id(&id(905).to_string()).expect("the inbox");
        assert_eq!((by_id.len(), by_id[0].n), (1, 3));
        assert_eq!(reader.counts().map(|counts| (counts.inbox, counts.unread)).expect("counts"), (3, 2));
    });
}

#[test]
fn fence_offers_and_draining_come_back_as_last_said() {
    let fence = |term, counter| FenceRow { fence: Fence { term, leader: peer(4) }, counter };
    let echo = Offering {
        card: ServiceCard { allowed: Allowed::Anyone, ..offering("echo", 1).card },
        program: Program::Echo,
        time_limit_ms: None,
        software: BTreeSet::new(),
        configured: false,
    };
    let batches = [
        batch([Change::Fence(fence(5, 0)), Change::Offer(offering("tea", 1).into()), Change::Offer(offering("coffee", 2).into())]),
        batch([Change::Drain(true), Change::Offer(echo.clone().into()), Change::DropOffer("tea".parse().expect("a name"))]),
        batch([Change::Fence(fence(6, 7)), Change::Offer(offering("coffee", 4).into())]),
    ];
    check_twice(&batches, |kept, _| {
        assert_eq!((kept.fence, kept.draining), (Some(fence(6, 7)), true));
        assert_eq!(kept.offers, [offering("coffee", 4), echo.clone()]);
    });
    check_twice(&[batches[1].clone(), batch([Change::Drain(false)])], |kept, _| assert!(!kept.draining));
}

#[test]
fn open_orders_come_back_whole_and_ended_ones_as_ranges() {
    let mut large = order(6, &["one", "two", "three"]);
    large.stdin = Some(vec![0xff; 100_000].into());
    let only_input = Order { items: Vec::new(), ..Order { number: 7, ..large.clone() } };
    let cancelled = OrderState { cancelled: Some((Timestamp(5), false)), done: Ranges::of(1, 2), expires_at: None, ..state(6) };
    let batches = [
        batch((1..=5).flat_map(placed)),
        batch([Change::Order(large.clone().into()), Change::OrderState(state(6).into())]),
        batch([closed(1), closed(3), Change::OrderState(cancelled.clone().into())]),
        batch([closed(5), closed(2), Change::Order(only_input.clone().into()), Change::OrderState(state(7).into())]),
    ];
    check_twice(&batches, |kept, reader| {
        assert_eq!(kept.next_order, 8);
        let open = [(order(4, &[]), state(4)), (large.clone(), cancelled.clone()), (only_input.clone(), state(7))];
        assert_eq!(kept.open_orders, open);
        let mut ranges = Ranges::of(1, 3);
        ranges.insert(5);
        assert_eq!(kept.closed_own, [(EPOCH, End::Failed, ranges)]);
        let counts = reader.counts().expect("counts");
        assert_eq!((counts.orders, counts.open_orders), (7, 3));
        assert_eq!(reader.whole_order(6).expect("an order"), Some(large.clone()));
        assert_eq!(reader.whole_order(8).expect("no order"), None);
    });
}

#[test]
fn an_order_that_goes_on_under_another_name_is_there_once() {
    let (before, epoch) = (order(1, &["one", "two"]), Epoch(8));
    let (after, goes_on) = (Order { epoch, ..before.clone() }, OrderState { epoch, ..state(1) });
    let batches = [
        batch([Change::Order(before.into()), Change::OrderState(state(1).into())]),
        batch([Change::Order(after.clone().into()), Change::OrderState(goes_on.clone().into())]),
    ];
    check_twice(&batches, |kept, reader| {
        assert_eq!(kept.open_orders, [(after.clone(), goes_on.clone())]);
        assert_eq!((kept.next_order, reader.whole_order(1).expect("an order")), (2, Some(after.clone())));
    });
}

#[test]
fn ranges_of_ended_orders_are_joined_as_a_set_would_join_them() {
    // 250 of 300 orders end, neither forwards nor backwards, in batches of 1 to 5, in two memories and in two ways.
    let number = |at: u64| 1 + at * 173 % 300;
    let (mut batches, mut at) = (vec![batch((1..=300).flat_map(placed))], 0);
    let mut expected = std::collections::BTreeMap::new();
    while at < 250 {
        let some: Vec<u64> = (at..at + 1 + at % 5).map(number).collect();
        at += some.len() as u64;
        let ends = some.iter().map(|number| {
            let (epoch, end) = (Epoch(8 + number / 151), if number % 100 < 7 { End::Cancelled } else { End::Done });
            expected.entry((epoch, end)).or_insert_with(Ranges::default).insert(*number);
            let outcome = Some(Outcome { end, why: None, at: Timestamp(1) });
            Change::OrderState(OrderState { epoch, outcome, ..ended(*number) }.into())
        });
        batches.push(batch(ends));
    }
    assert!(expected.values().map(Ranges::pieces).sum::<usize>() > 12, "a test of one range would show nothing");
    check_twice(&batches, |kept, reader| {
        let expected = expected.clone();
        let rows = reader.with(|txn| Ok(redb::ReadableTableMetadata::len(&txn.open_table(super::super::tables::CLOSED_OWN)?)?));
        assert_eq!(rows.expect("a number"), expected.values().map(Ranges::pieces).sum::<usize>() as u64);
        assert_eq!(kept.open_orders.len() as u64, 300 - expected.values().map(Ranges::len).sum::<u64>());
        assert!(kept.closed_own.into_iter().eq(expected.into_iter().map(|((epoch, end), ranges)| (epoch, end, ranges))));
    });
}

#[test]
fn orders_are_listed_as_asked_without_what_is_large() {
    let mut large = order(3, &["one", "two", "three"]);
    large.stdin = Some(vec![1; 10].into());
    let mut changes: Vec<Change> = [1, 2].into_iter().flat_map(placed).collect();
    changes.extend([Change::Order(large.clone().into()), Change::OrderState(state(3).into())]);
    changes.extend([4, 5].into_iter().flat_map(placed));
    check(&[batch(changes), batch([closed(3), closed(1)])], |_, reader| {
        let numbers = |query: OrderQuery| reader.orders(&query).expect("orders").iter().map(|order| order.number).collect::<Vec<_>>();
        let query = OrderQuery::default();
        assert_eq!(numbers(query.clone()), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(OrderQuery { after: 1, limit: 2, ..query.clone() }), [2, 3]);
        assert_eq!(numbers(OrderQuery { limit: 2, newest: true, ..query.clone() }), [4, 5]);
        assert_eq!(numbers(OrderQuery { before: Some(4), limit: 2, newest: true, ..query.clone() }), [2, 3]);
        assert_eq!(numbers(OrderQuery { open: true, ..query.clone() }), [2, 4, 5]);
        assert_eq!(numbers(OrderQuery { open: true, limit: 2, newest: true, ..query.clone() }), [4, 5]);
        assert_eq!(numbers(OrderQuery { limit: 0, ..query.clone() }), [0u64; 0]);
        assert_eq!(numbers(OrderQuery { after: u64::MAX, before: Some(0), ..query.clone() }), [0u64; 0]);
        let summary = OrderSummary {
            number: 3,
            epoch: EPOCH,
            service: large.service.clone(),
            args: large.args.clone(),
            priority: Priority::Middle,
            needs: needs(),
            once: true,
            placed: Timestamp(1_003),
            units: 3,
            has_items: true,
            stdin_bytes: Some(10),
            state: ended(3),
        };
        assert_eq!(reader.orders(&query).expect("orders")[2], summary);
        let (one, ends) = reader.order(1, 0, 9).expect("an order").expect("it is there");
        assert_eq!((one.units, one.has_items, one.stdin_bytes, ends), (1, false, None, vec![]));
        assert_eq!(reader.order(6, 0, 9).expect("no order"), None);
    });
}

#[test]
fn the_ends_of_units_come_back_page_by_page_and_one_by_one() {
    let of = |unit| a_try(1, 2, unit, 1);
    let end = |number, unit, ended| {
        let report = Proven::own(report(of(unit), ended)).unchecked();
        Change::UnitEnd { number, unit, report: Ok(Box::new(report)) }
    };
    let given_up = Change::UnitEnd { number: 2, unit: 3, report: Err("crashed its workers: é".to_owned()) };
    let first = batch([Change::Order(order(2, &["a", "b", "c", "d"]).into()), Change::OrderState(state(2).into())]);
    let ends = batch([end(2, 4, Ended::TimedOut), end(2, 1, Ended::Exited(0)), given_up, end(3, 1, Ended::Cancelled)]);
    check_twice(&[first, ends], |_, reader| {
        let units = |after, limit| {
            let (_, ends) = reader.order(2, after, limit).expect("an order").expect("it is there");
            ends.iter().map(|end| end.unit).collect::<Vec<_>>()
        };
        assert_eq!(
            (units(0, 9), units(1, 1), units(4, 9), units(u32::MAX, 9), units(0, 0)),
            (vec![1, 3, 4], vec![3], vec![], vec![], vec![])
        );
        let one = |unit| reader.unit_end(2, unit).expect("an answer");
        assert_eq!(one(4), Some(UnitEnd { unit: 4, end: Ok(report(of(4), Ended::TimedOut)) }));
        assert_eq!(one(3), Some(UnitEnd { unit: 3, end: Err("crashed its workers: é".to_owned()) }));
        assert_eq!(one(2), None);
    });
}

#[test]
fn a_key_is_remembered_with_its_order_and_apart_from_those_of_letters() {
    let order = Change::OrderKey { key: "a".to_owned(), number: 4, digest: [6; 32] };
    let letter = Change::Key { key: "b".to_owned(), letter: id(1), k: 1, digest: [5; 32] };
    check_twice(&[batch([order, letter])], |_, reader| {
        let recall = |key: &str| reader.recall(&Recall::OrderKey { key: key.to_owned() }).expect("an answer");
        assert_eq!(recall("a"), Recalled::OrderKey { key: "a".to_owned(), found: Some((4, [6; 32])) });
        assert_eq!(recall("b"), Recalled::OrderKey { key: "b".to_owned(), found: None });
    });
}

#[test]
fn the_queue_comes_back_with_where_its_units_are_until_orders_leave_it() {
    let (ann, bea) = (5, 6);
    let put = |orderer, number, sort| Change::Queue(queued(key(orderer, number), sort).into());
    let place = |orderer, number, sort| Change::QueueState(queue_state(key(orderer, number), sort).into());
    let batches = [
        batch([put(ann, 1, 10), put(bea, 1, 20), put(ann, 2, 30), put(bea, 300, 40), place(bea, 1, 20)]),
        batch([place(ann, 2, 31), Change::Unqueue(key(bea, 1)), place(ann, 2, 32), Change::Unqueue(key(bea, 99))]),
        // What comes and goes within one batch leaves nothing; what is put back begins anew; the state of what is not there is not kept.
        batch([put(ann, 7, 50), place(ann, 7, 50), Change::Unqueue(key(ann, 7)), place(ann, 8, 1)]),
        batch([Change::Unqueue(key(ann, 2)), put(ann, 2, 60), put(bea, 2, 70), place(bea, 2, 71)]),
    ];
    check_twice(&batches, |kept, _| {
        let mut queue = kept.queue;
        queue.sort_by_key(|(queued, _)| queued.sort);
        let state = |number, sort| Some(queue_state(key(bea, number), sort));
        let expected = [(ann, 1, 10, None), (bea, 300, 40, None), (ann, 2, 60, None), (bea, 2, 70, state(2, 71))];
        assert_eq!(queue, expected.map(|(orderer, number, sort, state)| (queued(key(orderer, number), sort), state)));
    });
    // A state that comes when its order had left does not come back with it.
    check(&[batch([place(ann, 1, 5)]), batch([put(ann, 1, 6)])], |kept, _| {
        assert_eq!(kept.queue, [(queued(key(ann, 1), 6), None)]);
    });
}

#[test]
fn what_is_known_of_ended_orders_of_others_is_replaced_by_memory() {
    let closed = |orderer, epoch, last| Change::Closed { orderer: peer(orderer), epoch: Epoch(epoch), closed: Ranges::of(1, last) };
    check_twice(&[batch([closed(2, 1, 5), closed(2, 2, 6)]), batch([closed(2, 1, 9), closed(3, 1, 1)])], |kept, _| {
        let found: BTreeSet<(PeerId, u64, u64)> =
            kept.closed.iter().map(|(orderer, epoch, closed)| (*orderer, epoch.0, closed.len())).collect();
        assert_eq!(found, BTreeSet::from([(peer(2), 1, 9), (peer(2), 2, 6), (peer(3), 1, 1)]));
        assert_eq!(kept.closed.len(), 3);
    });
}

#[test]
fn a_try_comes_back_as_started_then_as_ended_then_not_at_all() {
    let start = |task, at| Change::TryStarted { task, at: Timestamp(at) };
    let end = |task| Change::TryEnded(report(task, Ended::NotStarted("no such file".to_owned())).into());
    let (runs, ends, gone, brief) = (a_try(5, 1, 1, 1), a_try(5, 1, 2, 1), a_try(5, 2, 1, 1), a_try(5, 3, 1, 1));
    let again = a_try(5, 2, 1, 2);
    let batches = [
        batch([start(runs, 4), start(ends, 5), start(gone, 6), start(again, 7)]),
        batch([end(ends), end(gone), start(brief, 8), end(brief), Change::DropTry(brief)]),
        batch([Change::DropTry(gone), Change::DropTry(a_try(9, 9, 9, 9)), end(again)]),
    ];
    check_twice(&batches, |kept, _| {
        assert_eq!(kept.tries_started, [(runs, Timestamp(4))]);
        let not_started = || Ended::NotStarted("no such file".to_owned());
        assert_eq!(kept.tries_ended, [report(ends, not_started()), report(again, not_started())]);
    });
}

#[test]
fn rows_of_one_orderer_are_added_at_the_end_of_its_range() {
    let keys: Vec<Vec<u8>> = [1, 2, 255, 256, 65_536, u64::MAX >> 2].map(|number| rows::work::order_key(key(5, number))).to_vec();
    assert!(keys.is_sorted());
    let tries =
        [(1, 1, 1), (1, 1, 2), (1, 2, 1), (1, 300, 1), (2, 1, 1)].map(|(n, unit, tried)| rows::work::try_key(a_try(5, n, unit, tried)));
    assert!(tries.is_sorted() && tries[0].starts_with(&keys[0]) && keys[0].starts_with(&rows::work::memory(peer(5), Epoch(3))));
}

#[test]
fn what_happens_to_a_large_order_does_not_write_it_again() {
    let (store, _) = Store::memory();
    let mut large = order(1, &[]);
    large.stdin = Some(vec![7; protocol::config::limits::ORDER_STDIN_BYTES].into());
    large.items = vec!["x".repeat(1024); 4096];
    let in_queue = Queued { order: Proven::own(large.clone()).unchecked(), sort: 1, at: Timestamp(1) };
    commit(&store, batch([Change::Order(large.into()), Change::OrderState(state(1).into()), Change::Queue(in_queue.clone().into())]));
    let stored = |store: &Store| {
        let bytes = |txn: &redb::ReadTransaction| {
            use redb::ReadableTableMetadata;
            let written = [txn.open_table(super::super::tables::ORDER_STATES)?.stats()?.stored_bytes()];
            let queue = txn.open_table(super::super::tables::QUEUE_STATES)?.stats()?.stored_bytes();
            Ok(written[0] + queue)
        };
        store.reader().with(bytes).expect("statistics")
    };
    commit(&store, batch([Change::QueueState(queue_state(in_queue.order.value.key(), 2).into()), closed(1)]));
    assert!(stored(&store) < 1_000, "states hold no bodies");
    assert_eq!(store.reader().whole_order(1).expect("an order").map(|order| order.bytes()), Some(in_queue.order.value.bytes()));
}

#[test]
fn an_order_of_which_a_part_is_missing_is_damage_and_not_another_order() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = Store::open(dir.path()).expect("the store opens");
    commit(&store, batch([Change::Order(order(1, &["a"]).into()), Change::OrderState(state(1).into())]));
    drop(store);
    let database = redb::Database::open(dir.path().join(super::super::open::DATABASE)).expect("it opens");
    let txn = database.begin_write().expect("a transaction");
    txn.open_table(super::super::tables::ORDER_BODIES).expect("the table").remove(1).expect("removed");
    txn.commit().expect("committed");
    drop(database);
    let error = Store::open(dir.path()).map(drop).expect_err("a damaged order").to_string();
    assert!(error.contains("table order_bodies, key 1"), "{error}");
}
