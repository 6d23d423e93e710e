//! Stories of letters that their authors discarded. `SEED` and `TRACE` in the environment replay and print.

use std::time::Duration;

use protocol::effect::Change;
use protocol::{Answer, LetterId, Refusal};
use swarm_tests::sim::{CrashPoint, Sim, Who};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many peers, who know for some seconds that all of them are here.
fn settled<const N: usize>(sim: &mut Sim) -> [Who; N] {
    let peers = sim.peers();
    sim.run_for(seconds(3));
    peers
}

fn texts(letters: usize) -> Vec<String> {
    (1..=letters).map(|number| format!("letter {number}")).collect()
}

fn without(number: usize, of: usize) -> Vec<(String, u64)> {
    (1..=of).filter(|n| *n != number).map(|n| (format!("letter {n}"), 0)).collect()
}

/// 64 letters of one bundle that three others hold while nikki is away.
fn a_bundle_in_custody(sim: &mut Sim, nikki: Who, markus: Who) -> Vec<LetterId> {
    sim.stop(nikki);
    let letters = sim.write_at_once(markus, nikki, &texts(64));
    sim.within(seconds(1), |sim| letters.iter().all(|letter| sim.held_by(markus, *letter, nikki) == 3));
    letters
}

#[test]
fn one_of_64_letters_held_by_others_is_discarded_and_the_others_arrive() {
    for seed in 700..710 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, others @ ..] = settled::<6>(&mut sim);
        let letters = a_bundle_in_custody(&mut sim, nikki, markus);
        assert_eq!(sim.discard(markus, letters[39]), Answer::Discarded { delivered: 0 });
        assert!(!sim.knows_discarded(markus, letters[39], nikki), "copies are out");
        sim.run_for(seconds(1));
        sim.start(nikki);
        // Where letter and void come from several, the author asks which of the two it was.
        sim.within(seconds(5), |sim| letters.iter().all(|letter| sim.knows_delivered(markus, *letter, nikki)));
        // Custodians cannot take it out of its bundle; where they are faster than its author it arrives, and is called delivered.
        let shown = sim.has_shown(nikki, letters[39]);
        assert_eq!(sim.inbox(nikki), without(if shown { 0 } else { 40 }, 64), "none is called missing");
        assert_eq!(sim.knows_discarded(markus, letters[39], nikki), !shown);
        sim.within(seconds(15), |sim| !others.iter().any(|who| letters.iter().any(|letter| sim.holds(*who, *letter))));
        assert_eq!(sim.outbox(markus), 0);
        sim.expect_quiet();
    }
}

#[test]
fn one_of_64_letters_whose_author_has_left_is_told_truthfully() {
    for seed in 710..720 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, ..] = settled::<6>(&mut sim);
        let letters = a_bundle_in_custody(&mut sim, nikki, markus);
        sim.discard(markus, letters[39]);
        sim.run_for(seconds(1));
        sim.stop(markus);
        let begin = sim.time();
        sim.start(nikki);
        sim.within(seconds(2), |sim| sim.inbox(nikki).len() >= 63);
        assert!(sim.time() - begin < seconds(2), "nothing blocks");
        sim.run_for(seconds(15));
        let shown = sim.has_shown(nikki, letters[39]);
        assert!(sim.inbox(nikki).iter().all(|(_, missing)| *missing == 0));
        sim.start(markus);
        sim.within(seconds(5), |sim| letters.iter().all(|letter| sim.knows_delivered(markus, *letter, nikki)));
        assert_eq!(sim.knows_discarded(markus, letters[39], nikki), !shown);
        sim.expect_quiet();
    }
}

#[test]
fn a_letter_that_is_all_of_its_bundle_is_given_back_and_never_shown() {
    for seed in 720..730 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, ..] = settled::<6>(&mut sim);
        sim.stop(nikki);
        let first = sim.write(markus, nikki, "one");
        let second = sim.write(markus, nikki, "two");
        sim.within(seconds(1), |sim| sim.held_by(markus, second, nikki) == 3 && sim.held_by(markus, first, nikki) == 3);
        sim.discard(markus, first);
        sim.within(seconds(1), |sim| sim.held_by(markus, first, nikki) == 0);
        sim.lose_for_ever(markus);
        sim.start(nikki);
        sim.within(seconds(2), |sim| sim.has_shown(nikki, second));
        sim.run_for(seconds(15));
        assert_eq!(sim.inbox(nikki), [("two".to_owned(), 0)], "nothing is called missing");
    }
}

#[test]
fn a_letter_that_never_left_is_discarded_at_once() {
    let mut sim = Sim::new(730);
    let [nikki, markus] = settled::<2>(&mut sim);
    sim.stop(nikki);
    let letter = sim.write(markus, nikki, "never mind");
    let other = sim.write(markus, nikki, "come");
    sim.discard(markus, letter);
    assert!(sim.knows_discarded(markus, letter, nikki));
    sim.start(nikki);
    sim.within(seconds(2), |sim| sim.knows_delivered(markus, other, nikki) && sim.outbox(markus) == 0);
    assert_eq!(sim.inbox(nikki), [("come".to_owned(), 0)]);
    sim.expect_quiet();
}

#[test]
fn what_is_delivered_is_not_discarded() {
    let mut sim = Sim::new(731);
    let [nikki, markus] = settled::<2>(&mut sim);
    let letter = sim.write(markus, nikki, "too late");
    sim.within(seconds(1), |sim| sim.knows_delivered(markus, letter, nikki));
    assert_eq!(sim.discard(markus, letter), Answer::Refused(Refusal::Delivered { letter }));
    assert!(!sim.knows_discarded(markus, letter, nikki));
}

#[test]
fn a_letter_that_waits_for_a_name_is_discarded_and_the_name_comes_in_vain() {
    let mut sim = Sim::new(732);
    let [markus, _ada] = sim.peers();
    let [nikki] = sim.machines();
    let letter = sim.write_later(markus, nikki, "whoever you are");
    assert_eq!(sim.discard(markus, letter), Answer::Discarded { delivered: 0 });
    assert_eq!(sim.discard(markus, letter), Answer::Discarded { delivered: 0 }, "twice is once");
    assert_eq!(sim.outbox(markus), 0);
    sim.start(nikki);
    sim.run_for(seconds(10));
    assert!(sim.inbox(nikki).is_empty());
}

#[test]
fn a_discard_outlives_a_crash_at_its_commit_and_the_recipient_restored() {
    for (seed, point) in [(733, CrashPoint::AfterCommit), (734, CrashPoint::After(1)), (735, CrashPoint::BeforeCommit)] {
        let mut sim = Sim::new(seed);
        let [nikki, markus, ada] = settled::<3>(&mut sim);
        sim.stop(nikki);
        let letter = sim.write(markus, nikki, "never mind");
        sim.within(seconds(1), |sim| sim.held_by(markus, letter, nikki) == 1);
        sim.crash_at(markus, point, |change| matches!(change, Change::Bundle(kept) if kept.first >= protocol::effect::VOID));
        sim.discard_unheard(markus, letter);
        sim.within(seconds(1), |sim| !sim.is_up(markus));
        sim.start(markus);
        sim.run_for(seconds(3));
        sim.start(nikki);
        sim.within(seconds(3), |sim| sim.knows_delivered(markus, letter, nikki));
        assert_eq!(sim.knows_discarded(markus, letter, nikki), !sim.has_shown(nikki, letter));
        assert!(point == CrashPoint::BeforeCommit || !sim.has_shown(nikki, letter));
        sim.within(seconds(3), |sim| !sim.holds(ada, letter));
    }
}

#[test]
fn a_letter_that_a_memory_put_back_discards_is_called_delivered_when_its_recipient_has_it() {
    let mut sim = Sim::new(736);
    let [nikki, markus] = settled::<2>(&mut sim);
    sim.stop(nikki);
    let letter = sim.write(markus, nikki, "one");
    let backup = sim.back_up(markus);
    sim.start(nikki);
    sim.within(seconds(3), |sim| sim.knows_delivered(markus, letter, nikki));
    sim.stop(nikki);
    sim.stop(markus);
    // As far as this memory knows the letter has never left.
    sim.restore(markus, backup);
    sim.start(markus);
    sim.discard(markus, letter);
    sim.start(nikki);
    sim.within(seconds(5), |sim| sim.knows_delivered(markus, letter, nikki) && !sim.knows_discarded(markus, letter, nikki));
    assert_eq!(sim.inbox(nikki).len(), 1);
    sim.within(seconds(5), |sim| sim.outbox(markus) == 0);
}

#[test]
fn discarded_letters_take_no_room_among_what_is_unread() {
    let mut sim = Sim::new(737);
    let [nikki, markus] = settled::<2>(&mut sim);
    sim.stop(nikki);
    let never: Vec<_> = (0..20).map(|n| sim.write(markus, nikki, &format!("never mind {n}"))).collect();
    never.into_iter().for_each(|letter| drop(sim.discard(markus, letter)));
    sim.start(nikki);
    for n in 0..5 {
        let letter = sim.write(markus, nikki, &format!("come {n}"));
        sim.within(seconds(3), |sim| sim.knows_delivered(markus, letter, nikki));
        sim.read_all(nikki);
        assert_eq!(sim.unread_bytes(nikki, markus), 0, "{n}");
    }
}
