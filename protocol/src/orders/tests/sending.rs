//! From a number to the leader's disk.

use super::*;

#[test]
fn a_window_of_orders_leaves_in_frames_and_acknowledged_ones_make_room() {
    let mut desk = Desk::led();
    for _ in 0..5_000 {
        desk.place(coffee(0));
    }
    let words = desk.words();
    assert_eq!(words.iter().map(|(_, _, numbers)| numbers.len()).collect::<Vec<_>>(), [1_024, 1_024]);
    assert_ne!(desk.orders.deadline(), Some(Duration::ZERO));
    desk.queued(&(1..=2_000).map(key).collect::<Vec<_>>());
    assert_eq!(desk.orders.deadline(), Some(Duration::ZERO), "the next ones leave at once");
    let sent: Vec<u64> = desk.words().into_iter().flat_map(|(_, _, numbers)| numbers).collect();
    assert_eq!(sent, (2_049..=4_048).collect::<Vec<_>>());
}

#[test]
fn an_order_that_is_larger_than_a_frame_should_be_leaves_alone() {
    let mut desk = Desk::led();
    let large = || NewOrder { stdin: Some(vec![0; 1_000_000]), ..coffee(0) };
    for order in [coffee(0), large(), coffee(0), large(), large()] {
        desk.place(order);
    }
    let frames = |words: Vec<(PeerId, &str, Vec<u64>)>| words.into_iter().map(|(_, _, numbers)| numbers).collect::<Vec<_>>();
    assert_eq!(frames(desk.words()), [vec![1], vec![2], vec![3], vec![4]], "2 MiB are under way");
    desk.queued(&[key(2)]);
    assert_eq!(frames(desk.words()), [[5]]);
}

#[test]
fn what_is_not_acknowledged_goes_again_later_and_later() {
    let mut desk = Desk::led();
    desk.place(coffee(0));
    desk.close();
    let mut waits = Vec::new();
    for _ in 0..6 {
        let due = desk.orders.deadline().expect("it waits for an answer");
        waits.push((due - desk.now.mono).as_secs());
        desk.now.mono = due;
        assert_eq!(desk.words(), [(peer(2), "Orders", vec![1])]);
    }
    assert_eq!(waits, [2, 4, 8, 16, 30, 30]);
    // Others cannot acknowledge it, nor can its leader under another fence.
    desk.orders.on_queued(peer(3), fence(1, 2), &[key(1)], desk.now);
    desk.orders.on_queued(peer(2), fence(2, 2), &[key(1)], desk.now);
    desk.queued(&[OrderKey { orderer: peer(3), ..key(1) }]);
    desk.pass(30 * SECOND);
    assert_eq!(desk.words(), [(peer(2), "Orders", vec![1])]);
    desk.queued(&[key(1)]);
    desk.pass(30 * SECOND);
    desk.expect([]);
    assert_eq!(desk.orders.view(1, desk.now).and_then(|view| view.queued), Some(fence(1, 2)));
}

#[test]
fn a_new_leader_is_told_at_once_which_units_have_ended() {
    let mut desk = Desk::led();
    for _ in 0..3_000 {
        desk.place(coffee(0));
    }
    let batch = desk.placed(4);
    desk.report(attempt(batch, 2, 1), Ended::Exited(0));
    desk.report(attempt(batch, 3, 1), Ended::Exited(1));
    desk.words();
    desk.orders.on_reachable(peer(3), desk.now);
    desk.orders.on_leader(Some(fence(2, 3)), desk.now, &mut desk.out);
    let (effects, _) = desk.close();
    let mut words = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, say } => match &**say {
            Say::Work(work) => Some((*to, work)),
            _ => None,
        },
        _ => None,
    });
    let ended = Work::UnitsEnded(vec![UnitsOf { order: batch, units: Ranges::of(2, 3) }]);
    assert_eq!(words.next(), Some((peer(3), &ended)), "before any order, though this one leaves much later");
    assert!(words.all(|(_, work)| work.what() == "Orders"));
    // It leaves again with its order, once for all others.
    desk.queued(&(1..=3_000).map(key).collect::<Vec<_>>());
    let said: Vec<&str> = desk.words().into_iter().map(|(_, what, _)| what).collect();
    assert_eq!(said, ["UnitsEnded", "Orders"]);
}

#[test]
fn what_may_be_lost_goes_again_when_its_leader_can_be_reached_again() {
    let mut desk = Desk::led();
    desk.place(coffee(0));
    desk.place(coffee(0));
    desk.close();
    desk.queued(&[key(1)]);
    desk.orders.on_send_failed(peer(2), desk.now);
    desk.expect([]);
    assert_eq!(desk.orders.deadline(), Some(desk.now.mono + desk.config.refused_wait));
    desk.pass(desk.config.refused_wait);
    assert_eq!(desk.words(), [(peer(2), "Orders", vec![2])]);
    desk.orders.on_unreachable(peer(2), desk.now);
    desk.pass(100 * SECOND);
    desk.expect([]);
    assert_eq!(desk.orders.deadline(), None);
    desk.orders.on_reachable(peer(2), desk.now);
    assert_eq!(desk.words(), [(peer(2), "Orders", vec![2])]);
    // Nobody leads, then the same again: what it has it has.
    desk.orders.on_leader(None, desk.now, &mut desk.out);
    desk.expect([]);
    desk.orders.on_leader(Some(fence(1, 2)), desk.now, &mut desk.out);
    assert_eq!(desk.words(), [(peer(2), "Orders", vec![2])]);
}

#[test]
fn a_new_leader_gets_the_closing_all_open_orders_and_then_the_cancels() {
    let mut desk = Desk::led();
    let keys = [desk.placed(0), desk.placed(0), desk.placed(0)];
    desk.report(attempt(keys[0], 1, 1), Ended::Exited(0));
    desk.cancel(keys[1]);
    desk.close();
    desk.cancel_taken(keys[1], &[1], &[]);
    desk.close();
    desk.orders.on_reachable(peer(4), desk.now);
    desk.orders.on_leader(Some(fence(2, 4)), desk.now, &mut desk.out);
    assert_eq!(desk.words(), [(peer(4), "Closing", vec![1]), (peer(4), "Orders", vec![2, 3])]);
    assert_eq!(desk.orders.view(3, desk.now).and_then(|view| view.queued), None);
    desk.queued(&[keys[1], keys[2]]);
    assert_eq!(desk.words(), [(peer(4), "Cancels", vec![2])]);
    // What the old leader says of it counts no more.
    desk.cancel_taken(keys[1], &[], &[]);
    desk.expect([]);
    desk.orders.on_cancel_taken(peer(4), keys[1], &[], &[], desk.now, &mut desk.out);
    assert_eq!(desk.outcomes(), [(2, End::Cancelled, None)]);
}

#[test]
fn a_full_leader_is_tried_with_a_few_orders_now_and_then() {
    let mut desk = Desk::led();
    for _ in 0..200 {
        desk.place(coffee(0));
    }
    desk.close();
    let refuse = |desk: &mut Desk, numbers: std::ops::RangeInclusive<u64>| {
        let refused: Vec<_> = numbers.map(|number| (key(number), Full::Orders)).collect();
        desk.orders.on_not_queued(peer(2), fence(1, 2), &refused, desk.now);
    };
    refuse(&mut desk, 1..=200);
    desk.queued(&[key(1)]);
    desk.expect([]);
    assert_eq!(desk.orders.view(2, desk.now).and_then(|view| view.not_queued), Some(Full::Orders));
    desk.place(coffee(0));
    desk.close();
    assert_eq!(desk.orders.view(201, desk.now).and_then(|view| view.not_queued), Some(Full::Orders), "it was not even sent");
    let mut waits = Vec::new();
    for _ in 0..6 {
        let due = desk.orders.deadline().expect("it is tried again");
        waits.push((due - desk.now.mono).as_secs());
        desk.now.mono = due;
        assert_eq!(desk.words(), [(peer(2), "Orders", (2..=65).collect::<Vec<_>>())]);
        refuse(&mut desk, 2..=65);
        desk.expect([]);
    }
    assert_eq!(waits, [2, 4, 8, 16, 30, 30]);
    desk.pass(30 * SECOND);
    desk.close();
    desk.queued(&(2..=65).map(key).collect::<Vec<_>>());
    assert_eq!(desk.words(), [(peer(2), "Orders", (66..=201).collect::<Vec<_>>())], "it has room again");
}
