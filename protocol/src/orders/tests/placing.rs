//! From a request to a number.

use super::*;

#[test]
fn an_order_is_written_answered_and_sent_in_one_batch() {
    let mut desk = Desk::led();
    desk.place(coffee(0));
    let (effects, entries) = desk.close();
    assert_eq!(
        effects,
        [
            Effect::Store(Change::Order(Box::new(order(1, 0)))),
            stored(state(1)),
            reply(1, Answer::Placed { number: 1, repeated: false }),
            said(2, Work::Orders(vec![Proven::own(order(1, 0))])),
        ]
    );
    assert_eq!(entries, [What::OrdersPlaced { first: 1, last: 1 }]);
    desk.queued(&[key(1)]);
    desk.expect([]);
    desk.pass(100 * SECOND);
    desk.expect([]);
}

#[test]
fn an_order_has_as_much_time_as_anybody_means_and_no_more() {
    let mut desk = Desk::led();
    desk.place(NewOrder { expires: Some(Duration::from_secs(u64::MAX)), ..coffee(0) });
    desk.expect([reply(1, Answer::Refused(Refusal::ExpiresLate { days: 36_600 }))]);
    desk.place(NewOrder { expires: Some(Duration::ZERO), ..coffee(0) });
    desk.expect([reply(2, Answer::Refused(Refusal::Expires))]);
    desk.place(NewOrder { expires: Some(limits::ORDER_EXPIRES), ..coffee(0) });
    assert_eq!(desk.close().1, [What::OrdersPlaced { first: 1, last: 1 }]);
}

#[test]
fn orders_are_placed_without_a_leader_and_leave_together_when_there_is_one() {
    let mut desk = Desk::new();
    for _ in 0..3 {
        desk.place(coffee(0));
    }
    let (effects, entries) = desk.close();
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Send { .. })).count(), 0);
    assert_eq!(entries, [What::OrdersPlaced { first: 1, last: 3 }], "one entry for a batch");
    desk.orders.on_leader(Some(fence(1, 2)), desk.now, &mut desk.out);
    assert_eq!(desk.words(), [], "it cannot be reached yet");
    desk.orders.on_reachable(peer(2), desk.now);
    assert_eq!(desk.words(), [(peer(2), "Orders", vec![1, 2, 3])]);
    // A node may lead itself.
    desk.orders.on_leader(Some(fence(2, 1)), desk.now, &mut desk.out);
    desk.expect([]);
    let orders = (1..=3).map(|number| Proven::own(order(number, 0))).collect();
    assert_eq!(desk.out.to_myself, [Work::Orders(orders)]);
}

#[test]
fn a_key_is_looked_up_before_and_the_same_order_is_placed_once() {
    let mut desk = Desk::led();
    let keyed = |key: &str| NewOrder { key: Some(key.to_owned()), ..coffee(0) };
    let other = |key: &str| NewOrder { args: Vec::new(), ..keyed(key) };
    desk.place(keyed("a"));
    desk.place(keyed("a"));
    desk.place(other("a"));
    desk.expect([Effect::Recall(Recall::OrderKey { key: "a".to_owned() }), reply(3, Answer::Refused(Refusal::KeyInUse))]);
    let (request, new) = desk.orders.on_key("a", None, &mut desk.out).expect("it is new");
    let digest = keys::digest(&new);
    desk.orders.place(request, new, EPOCH, desk.now, &mut desk.out);
    let placed = order(1, 0);
    desk.expect([
        Effect::Store(Change::Order(Box::new(placed.clone()))),
        stored(state(1)),
        Effect::Store(Change::OrderKey { key: "a".to_owned(), number: 1, digest }),
        reply(1, Answer::Placed { number: 1, repeated: false }),
        reply(2, Answer::Placed { number: 1, repeated: true }),
        said(2, Work::Orders(vec![Proven::own(placed)])),
    ]);
    for (order, answer) in
        [(keyed("a"), Answer::Placed { number: 1, repeated: true }), (other("a"), Answer::Refused(Refusal::OrderKeyReused { number: 1 }))]
    {
        desk.place(order);
        desk.close();
        assert_eq!(desk.orders.on_key("a", Some((1, digest)), &mut desk.out), None);
        desk.expect([reply(desk.requests, answer)]);
    }
    desk.place(keyed("b"));
    desk.close();
    desk.orders.on_key_failed("b", &mut desk.out);
    desk.expect([reply(6, Answer::Refused(Refusal::DiskUnreadable))]);
    desk.place(keyed(""));
    desk.expect([reply(7, Answer::Refused(Refusal::Key { limit: limits::KEY_BYTES }))]);
    // A refused order leaves its key free.
    desk.place(NewOrder { once: true, ..keyed("c") });
    desk.close();
    let (request, new) = desk.orders.on_key("c", None, &mut desk.out).expect("it is new");
    desk.orders.place(request, new, EPOCH, desk.now, &mut desk.out);
    desk.expect([reply(8, Answer::Refused(Refusal::Once))]);
    desk.place(keyed("c"));
    desk.expect([Effect::Recall(Recall::OrderKey { key: "c".to_owned() })]);
}

#[test]
fn what_no_peer_would_take_is_refused_in_words_and_takes_no_number() {
    let long = |bytes: usize| "x".repeat(bytes);
    let most = limits::ORDER_ARG_BYTES - 1;
    let software = |words: usize, bytes: usize| Needs {
        software: (0..words).map(|word| format!("{word:0bytes$}")).collect::<BTreeSet<_>>(),
        ..Needs::default()
    };
    let bad = [
        (NewOrder { once: true, ..coffee(0) }, "orders that run at most once are not supported yet"),
        (NewOrder { expires: Some(Duration::ZERO), ..coffee(0) }, "an order that expires at once would never run"),
        (NewOrder { args: vec!["a\0b".to_owned()], ..coffee(0) }, "an argument contains a NUL character, which no program can be given"),
        (NewOrder { items: vec!["\0".to_owned()], ..coffee(0) }, "an argument contains a NUL character, which no program can be given"),
        (NewOrder { args: vec![String::new(); 10_001], ..coffee(0) }, "the order has 10001 arguments; at most 10000 are allowed"),
        (NewOrder { args: vec![long(100_000); 3], ..coffee(0) }, "the order has 300000 bytes of arguments; at most 262144 are allowed"),
        (NewOrder { args: vec![long(most + 1)], ..coffee(0) }, "the order has an argument of 131072 bytes; at most 131071 are allowed"),
        (coffee(100_001), "the order has 100001 items; at most 100000 are allowed"),
        (NewOrder { items: vec![long(100_000); 42], ..coffee(0) }, "the order has 4200000 bytes of items; at most 4194304 are allowed"),
        (NewOrder { items: vec![long(most + 1)], ..coffee(0) }, "the order has an item of 131072 bytes; at most 131071 are allowed"),
        (
            NewOrder { args: vec!["{}{}{}".to_owned()], items: vec![long(most)], ..coffee(0) },
            "the order has 393213 bytes of arguments once its longest item is filled in; at most 262144 are allowed",
        ),
        (
            NewOrder { stdin: Some(vec![0; 1_048_577]), ..coffee(0) },
            "the order has 1048577 bytes of standard input; at most 1048576 are allowed",
        ),
        (NewOrder { needs: software(17, 2), ..coffee(0) }, "the order has 17 words of software; at most 16 are allowed"),
        (NewOrder { needs: software(1, 65), ..coffee(0) }, "the order has a word of software of 65 bytes; at most 64 are allowed"),
    ];
    let mut desk = Desk::led();
    for (order, sentence) in bad {
        desk.place(order);
        let (effects, entries) = desk.close();
        assert!(
            matches!(&effects[..], [Effect::Reply { answer: Answer::Refused(refusal), .. }] if refusal.to_string() == sentence),
            "{sentence}"
        );
        assert_eq!(entries, []);
    }
    let good = [
        coffee(100_000),
        NewOrder { args: vec![long(most); 2], items: vec![long(most); 32], stdin: Some(vec![0; 1_048_576]), ..coffee(0) },
        NewOrder { args: vec!["$(x);\n{}".to_owned()], items: vec![long(most)], needs: software(16, 64), ..coffee(0) },
        NewOrder { args: vec![String::new(); 10_000], ..coffee(0) },
        NewOrder { expires: Some(limits::ORDER_EXPIRES), ..coffee(0) },
    ];
    for (order, number) in good.into_iter().zip(1..) {
        desk.place(order);
        assert_eq!((refused(&mut desk), desk.orders.next), (None, number + 1));
    }
}

#[test]
fn as_many_orders_and_bytes_are_open_as_may_be() {
    let config = Config { open_orders: 2, open_order_bytes: 12, ..Config::default() };
    let mut desk = Desk::with(config, Vec::new(), 1, Vec::new());
    desk.place(coffee(0));
    desk.place(NewOrder { args: vec!["12345678".to_owned()], ..coffee(0) });
    assert_eq!(refused(&mut desk), Some(Refusal::OrderBytesFull { bytes: 5, limit: 12 }));
    desk.place(coffee(0));
    desk.place(coffee(0));
    assert_eq!(refused(&mut desk), Some(Refusal::OrdersFull { open: 2, limit: 2 }));
    desk.orders.cancel(RequestId(9), &[1, 2], desk.now, &mut desk.out);
    desk.place(NewOrder { args: vec!["12345678".to_owned()], ..coffee(0) });
    assert_eq!((refused(&mut desk), desk.orders.open()), (None, 1), "what has ended makes room");
}
