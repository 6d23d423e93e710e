use super::*;
use rand_core::SeedableRng;

fn address(n: u16) -> Multiaddr {
    format!("/ip4/10.0.0.1/tcp/{n}").parse().expect("an address")
}

/// Three ids in ascending order.
fn ids() -> [PeerId; 3] {
    let mut ids = [PeerId::random(), PeerId::random(), PeerId::random()];
    ids.sort();
    ids
}

fn dialing(me: PeerId) -> (Dialing, Instant) {
    (Dialing::new(me, ChaCha8Rng::seed_from_u64(7)), Instant::now())
}

/// The wait until the next dial, which is made.
fn next(dialing: &mut Dialing, now: Instant) -> (Duration, Order) {
    let at = dialing.deadline().expect("a dial is planned");
    (at.saturating_duration_since(now), dialing.due(at.max(now)).expect("due at its deadline"))
}

#[test]
fn the_lesser_id_dials_at_once_and_the_greater_waits() {
    let [low, me, high] = ids();
    let (mut dialing, now) = dialing(me);
    assert!(dialing.found(low, &[address(1)], now));
    assert!(dialing.found(high, &[address(2)], now));
    let (wait, order) = next(&mut dialing, now);
    assert_eq!((wait, order.target), (Duration::ZERO, Target::Peer(high)));
    let (wait, order) = next(&mut dialing, now);
    assert_eq!((wait, order.target), (POLITE_WAIT, Target::Peer(low)));
    assert_eq!(dialing.deadline(), None);
}

#[test]
fn who_connects_meanwhile_is_not_dialled() {
    let [low, me, _] = ids();
    let (mut dialing, now) = dialing(me);
    dialing.found(low, &[address(1)], now);
    dialing.on_connected(low, None);
    assert_eq!(dialing.due(now + POLITE_WAIT), None);
    assert!(!dialing.found(low, &[address(1)], now), "no news");
}

#[test]
fn one_is_never_dialled_by_oneself() {
    let [me, ..] = ids();
    let (mut dialing, now) = dialing(me);
    assert!(!dialing.found(me, &[address(1)], now));
    dialing.asked(me, &[address(1)], now);
    assert_eq!(dialing.deadline(), None);
}

#[test]
fn waits_double_up_to_the_last_and_asking_breaks_them() {
    let [me, peer, _] = ids();
    let (mut dialing, mut now) = dialing(me);
    dialing.found(peer, &[address(1)], now);
    next(&mut dialing, now);
    for n in 0..10u32 {
        dialing.on_failed(Target::Peer(peer), now);
        let (wait, order) = next(&mut dialing, now);
        let base = FIRST_BACKOFF.saturating_mul(1 << n).min(LAST_BACKOFF);
        assert!(wait >= base && wait <= base.mul_f64(1.0 + JITTER), "{n}: {wait:?}");
        assert_eq!(order.addresses, [address(1)]);
        now += wait;
    }
    dialing.on_failed(Target::Peer(peer), now);
    dialing.asked(peer, &[], now);
    assert_eq!(next(&mut dialing, now).0, Duration::ZERO);
}

#[test]
fn asking_during_a_dial_dials_again_at_once_when_it_fails() {
    let [me, peer, _] = ids();
    let (mut dialing, now) = dialing(me);
    dialing.found(peer, &[address(1)], now);
    next(&mut dialing, now);
    dialing.asked(peer, &[address(2)], now);
    assert_eq!(dialing.due(now), None, "one dial at a time");
    dialing.on_failed(Target::Peer(peer), now);
    let (wait, order) = next(&mut dialing, now);
    assert_eq!((wait, order.addresses), (Duration::ZERO, vec![address(2), address(1)]));
}

#[test]
fn a_lost_peer_is_dialled_again_soon() {
    let [me, peer, _] = ids();
    let (mut dialing, now) = dialing(me);
    dialing.on_connected(peer, Some(&address(1)));
    dialing.on_seen(peer);
    dialing.on_lost(peer, true, now);
    let (wait, _) = next(&mut dialing, now);
    assert!(wait >= REDIAL.0 && wait <= REDIAL.1, "{wait:?}");
}

#[test]
fn a_stranger_is_tried_seldom() {
    let [me, stranger, _] = ids();
    let (mut dialing, now) = dialing(me);
    dialing.on_connected(stranger, Some(&address(1)));
    dialing.on_stranger(stranger, now);
    assert!(next(&mut dialing, now).0 >= LAST_BACKOFF);
}

#[test]
fn a_road_is_walked_address_by_address_and_for_ever() {
    let [me, peer, _] = ids();
    let (mut dialing, mut now) = dialing(me);
    assert!(dialing.asked_road(vec![address(1), address(2)], true, now));
    for round in 1..6 {
        for n in 1..=2 {
            let (wait, order) = next(&mut dialing, now);
            let first = FIRST_ROAD_BACKOFF.saturating_mul(1 << (round - 1)) / 2;
            assert!(wait.is_zero() || (n == 1 && wait >= first.min(LAST_BACKOFF)));
            assert_eq!(order.addresses, [address(n)]);
            now += wait;
            dialing.on_failed(order.target, now);
        }
    }
    let (_, order) = next(&mut dialing, now);
    dialing.on_arrived(order.target, peer);
    dialing.on_connected(peer, Some(&address(1)));
    assert_eq!(dialing.deadline(), None, "somebody is connected there");
    dialing.on_lost(peer, true, now);
    let targets = [next(&mut dialing, now).1.target, next(&mut dialing, now).1.target];
    assert_eq!(targets, [Target::Peer(peer), order.target]);
}

#[test]
fn a_road_to_a_connected_peer_is_not_walked() {
    let [me, peer, _] = ids();
    let (mut dialing, now) = dialing(me);
    dialing.on_connected(peer, Some(&address(1)));
    dialing.asked_road(vec![address(1)], true, now);
    assert_eq!(dialing.due(now), None);
}

#[test]
fn ones_own_address_ends_a_road() {
    let [me, ..] = ids();
    let (mut dialing, now) = dialing(me);
    dialing.asked_road(vec![address(1)], true, now);
    let (_, order) = next(&mut dialing, now);
    dialing.on_wrong_address(order.target, &address(1));
    dialing.on_failed(order.target, now);
    while dialing.deadline().is_some_and(|at| dialing.due(at).is_none()) {}
    assert_eq!(dialing.deadline(), None);
}

#[test]
fn no_more_dials_fly_than_allowed() {
    let [me, ..] = ids();
    let (mut dialing, now) = dialing(me);
    for n in 0..60 {
        dialing.remembered(PeerId::random(), &[address(n + 1)], now);
    }
    let flying: Vec<_> = std::iter::from_fn(|| dialing.due(now)).collect();
    assert_eq!((flying.len(), dialing.deadline()), (FLYING_MAX, None));
    dialing.on_failed(flying[0].target, now);
    assert!(dialing.due(now).is_some());
}

#[test]
fn a_full_book_forgets_the_least_promising_but_never_a_remembered_peer() {
    let [me, ..] = ids();
    let (mut dialing, now) = dialing(me);
    let remembered: Vec<_> = (1..PEERS_MAX).map(|_| PeerId::random()).collect();
    for peer in &remembered {
        dialing.remembered(*peer, &[address(1)], now);
    }
    let heard = PeerId::random();
    assert!(dialing.found(heard, &[address(2)], now));
    assert!(dialing.found(PeerId::random(), &[address(3)], now));
    assert!(dialing.addresses(&heard).is_empty());
    assert!(remembered.iter().all(|peer| !dialing.addresses(peer).is_empty()));
}

#[test]
fn sixteen_addresses_are_kept_and_the_one_that_worked_comes_first() {
    let [me, peer, _] = ids();
    let (mut dialing, now) = dialing(me);
    for n in 1..=20 {
        dialing.found(peer, &[address(n)], now);
    }
    assert_eq!(dialing.addresses(&peer).len(), ADDRESSES_MAX);
    dialing.on_connected(peer, Some(&address(9)));
    assert_eq!(dialing.addresses(&peer)[..2], [address(9), address(20)]);
}

#[test]
fn only_addresses_that_can_be_dialled_are_usable() {
    for (address, usable_anywhere, usable_here) in [
        ("/ip4/192.168.1.7/tcp/6174", true, true),
        ("/ip4/127.0.0.1/tcp/6174", false, true),
        ("/ip6/::1/tcp/6174", false, true),
        ("/dns4/pi.local/tcp/6174", true, true),
        ("/ip4/192.168.1.7/tcp/0", false, false),
        ("/ip4/0.0.0.0/tcp/6174", false, false),
        ("/ip4/224.0.0.251/tcp/6174", false, false),
        ("/ip6/fe80::1/tcp/6174", false, false),
        ("/ip4/192.168.1.7/udp/6174/quic-v1", false, false),
        ("/ip4/192.168.1.7/tcp/6174/ws", false, false),
    ] {
        let parsed = address.parse().expect("an address");
        assert_eq!(usable(&parsed, false), usable_anywhere, "{address}");
        assert_eq!(usable(&parsed, true), usable_here, "{address}");
    }
}
