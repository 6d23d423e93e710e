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
    sim.within(seconds(1), |sim| denied(sim, markus, nikki) == Some(Denial::Blocked));
    let letter = sim.write(markus, nikki, "please");
    sim.run_for(seconds(10));
    assert!(!sim.has_taken(nikki, letter) && !sim.holds(ada, letter));
    assert!(!sim.status(nikki).refused.contains_key(&Cause::Blocked), "who knows that it is blocked sends nothing");
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
    sim.within(seconds(1), |sim| sim.knows_delivered(markus, letter, nikki));
    assert_eq!(denied(&sim, markus, nikki), None);
    sim.expect_quiet();
}

#[test]
fn who_is_blocked_knows_before_it_writes_and_for_as_long_as_it_is() {
    let mut sim = Sim::new(804);
    let [nikki, markus] = settled::<2>(&mut sim);
    sim.block(nikki, markus, true);
    sim.within(seconds(1), |sim| denied(sim, markus, nikki) == Some(Denial::Blocked));
    sim.available(nikki, false);
    sim.available(nikki, true);
    sim.run_for(seconds(1));
    assert_eq!(denied(&sim, markus, nikki), Some(Denial::Blocked));
    sim.stop(markus);
    sim.start(markus);
    sim.within(seconds(3), |sim| denied(sim, markus, nikki) == Some(Denial::Blocked));
    let letter = sim.write(markus, nikki, "please");
    sim.block(nikki, markus, false);
    sim.within(seconds(1), |sim| denied(sim, markus, nikki).is_none() && sim.knows_delivered(markus, letter, nikki));
    // An end of it that the author does not hear it learns when they meet again.
    sim.block(nikki, markus, true);
    sim.within(seconds(1), |sim| denied(sim, markus, nikki) == Some(Denial::Blocked));
    sim.partition(nikki, markus);
    sim.run_for(seconds(30));
    sim.block(nikki, markus, false);
    sim.heal();
    sim.run_until(|sim| denied(sim, markus, nikki).is_none());
    sim.expect_quiet();
}

#[test]
fn what_is_parked_and_discarded_is_settled_at_once_while_its_recipient_is_here() {
    let mut sim = Sim::new(805);
    let [nikki, markus] = settled::<2>(&mut sim);
    sim.block(nikki, markus, true);
    let letters = sim.write_at_once(markus, nikki, &["one".to_owned(), "two".to_owned(), "three".to_owned()]);
    sim.stop(markus);
    // It comes back and sends what it has before it hears that it is blocked.
    sim.start(markus);
    sim.within(seconds(3), |sim| denied(sim, markus, nikki) == Some(Denial::Blocked));
    sim.run_for(seconds(1));
    sim.discard(markus, letters[1]);
    sim.within(seconds(1), |sim| sim.knows_discarded(markus, letters[1], nikki));
    sim.run_for(seconds(1));
    assert_eq!(denied(&sim, markus, nikki), Some(Denial::Blocked), "that it signs for a void says nothing of letters");
    assert!(sim.inbox(nikki).is_empty());
    sim.block(nikki, markus, false);
    sim.within(seconds(1), |sim| sim.knows_delivered(markus, letters[0], nikki) && sim.knows_delivered(markus, letters[2], nikki));
    assert_eq!(sim.texts(nikki), ["one", "three"]);
    sim.expect_quiet();
}

#[test]
fn what_is_parked_can_be_discarded() {
    let mut sim = Sim::new(801);
    let [nikki, markus] = settled::<2>(&mut sim);
    sim.block(nikki, markus, true);
    let letter = sim.write(markus, nikki, "please");
    sim.within(seconds(1), |sim| denied(sim, markus, nikki) == Some(Denial::Blocked));
    // Had it left before that was heard, it would be refused by now.
    sim.run_for(seconds(1));
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
    // He does not hear of it.
    sim.stop(markus);
    sim.block(nikki, markus, true);
    sim.stop(nikki);
    sim.start(markus);
    sim.run_for(seconds(3));
    let letter = sim.write(markus, nikki, "held");
    sim.within(seconds(1), |sim| sim.held_by(markus, letter, nikki) == 1);
    sim.stop(markus);
    sim.start(nikki);
    sim.run_for(seconds(30));
    assert!(!sim.has_taken(nikki, letter) && sim.holds(ada, letter), "it is kept for the day that it is wanted");
}
