//! Stories of peers who take nothing from others. `SEED` and `TRACE` in the environment replay and print.

use std::time::Duration;

use protocol::edge::Cause;
use protocol::mail::{Denial, Reason};
use swarm_tests::sim::{Sim, Who};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settled<const N: usize>(sim: &mut Sim) -> [Who; N] {
    let peers = sim.peers();
    sim.run_for(seconds(3));
    peers
}

fn denied(sim: &Sim, author: Who, by: Who) -> Option<Denial> {
    sim.sees(author, by).and_then(|peer| peer.denial)
}

#[test]
fn letters_of_a_blocked_peer_are_parked_until_it_is_not_blocked_any_more() {
    let mut sim = Sim::new(800);
    let [nikki, markus, ada] = settled::<3>(&mut sim);
    sim.block(nikki, markus, true);
    let letter = sim.write(markus, nikki, "please");
    sim.within(seconds(1), |sim| denied(sim, markus, nikki) == Some(Denial::Blocked));
    sim.run_for(seconds(10));
    assert!(!sim.has_taken(nikki, letter) && !sim.holds(ada, letter));
    assert!(sim.status(nikki).refused[&Cause::Blocked] > 0);
    assert!(sim.frames() < 400, "it is not asked all the time: {}", sim.frames());
    // It outlives a restart, and the others may still write, and be written to.
    sim.stop(nikki);
    sim.start(nikki);
    sim.run_for(seconds(3));
    assert_eq!(denied(&sim, markus, nikki), Some(Denial::Blocked));
    let other = sim.write(nikki, markus, "no");
    let third = sim.write(ada, nikki, "hello");
    sim.within(seconds(1), |sim| sim.knows_delivered(nikki, other, markus) && sim.knows_delivered(ada, third, nikki));
    assert!(!sim.has_taken(nikki, letter));
    sim.block(nikki, markus, false);
    sim.within(seconds(30), |sim| sim.knows_delivered(markus, letter, nikki));
    sim.expect_quiet();
}

#[test]
fn what_is_parked_can_be_discarded() {
    let mut sim = Sim::new(801);
    let [nikki, markus] = settled::<2>(&mut sim);
    sim.block(nikki, markus, true);
    let letter = sim.write(markus, nikki, "please");
    sim.within(seconds(1), |sim| denied(sim, markus, nikki) == Some(Denial::Blocked));
    sim.discard(markus, letter);
    let next = sim.write(markus, nikki, "sorry");
    sim.block(nikki, markus, false);
    sim.within(seconds(60), |sim| sim.knows_discarded(markus, letter, nikki) && sim.knows_delivered(markus, next, nikki));
    assert_eq!(sim.inbox(nikki), [("sorry".to_owned(), 0)]);
    sim.expect_quiet();
}

#[test]
fn a_custodian_holds_nothing_of_a_blocked_peer_and_says_why() {
    let mut sim = Sim::new(802);
    let [nikki, markus, ada, bea] = settled::<4>(&mut sim);
    sim.block(ada, markus, true);
    sim.stop(nikki);
    let letter = sim.write(markus, nikki, "held by one");
    sim.within(seconds(1), |sim| sim.held_by(markus, letter, nikki) == 1);
    sim.run_for(seconds(5));
    assert!(sim.holds(bea, letter) && !sim.holds(ada, letter));
    assert!(sim.sees(markus, nikki).is_some_and(|peer| peer.reasons.contains(&Reason::Blocked)));
    assert!(sim.status(ada).refused[&Cause::Blocked] > 0);
    sim.start(nikki);
    sim.within(seconds(3), |sim| sim.knows_delivered(markus, letter, nikki));
}

#[test]
fn mail_of_a_blocked_peer_that_others_hold_is_not_fetched() {
    let mut sim = Sim::new(803);
    let [nikki, markus, ada] = settled::<3>(&mut sim);
    sim.block(nikki, markus, true);
    sim.stop(nikki);
    let letter = sim.write(markus, nikki, "held");
    sim.within(seconds(1), |sim| sim.held_by(markus, letter, nikki) == 1);
    sim.stop(markus);
    sim.start(nikki);
    sim.run_for(seconds(30));
    assert!(!sim.has_taken(nikki, letter) && sim.holds(ada, letter), "it is kept for the day that it is wanted");
}
