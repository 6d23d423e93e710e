//! Stories of letters to those who are away, and of those who hold them meanwhile. `SEED` and `TRACE` in the environment
//! replay and print.

use std::time::Duration;

use protocol::LetterId;
use protocol::effect::Change;
use protocol::mail::Reason;
use swarm_tests::sim::{CrashPoint, Options, Sim, Who};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// The letter is in the recipient's inbox, and its author knows.
fn arrived(sim: &Sim, from: Who, letter: LetterId, to: Who) -> bool {
    sim.has_shown(to, letter) && sim.knows_delivered(from, letter, to)
}

/// So many peers, who know for some seconds that all of them are here.
fn settled<const N: usize>(sim: &mut Sim) -> [Who; N] {
    let peers = sim.peers();
    sim.run_for(seconds(3));
    peers
}

/// So many letters, one after another.
fn write(sim: &mut Sim, from: Who, to: Who, texts: &[&str]) -> Vec<LetterId> {
    texts.iter().map(|text| sim.write(from, to, text)).collect()
}

/// All these are held by so many machines, as their author knows.
fn held(sim: &Sim, from: Who, letters: &[LetterId], to: Who, machines: usize) -> bool {
    letters.iter().all(|letter| sim.held_by(from, *letter, to) == machines)
}

/// Who of them really holds all of these.
fn holding(sim: &Sim, of: &[Who], letters: &[LetterId]) -> Vec<Who> {
    of.iter().copied().filter(|who| letters.iter().all(|letter| sim.holds(*who, *letter))).collect()
}

/// What the author believes is so: whoever it counts on holds the letter, under the memory it has.
fn honest(sim: &Sim, from: Who, letters: &[LetterId], to: Who) -> bool {
    let mut holders =
        letters.iter().flat_map(|letter| sim.holders(from, *letter, to).into_iter().map(|(who, epoch)| (*letter, who, epoch)));
    holders.all(|(letter, who, epoch)| sim.holds(who, letter) && sim.epoch(who) == epoch)
}

/// Nikki is away; markus writes her three letters; all are held by three of the `others` within a second. Whoever holds them.
fn three_letters(sim: &mut Sim, nikki: Who, markus: Who, others: &[Who]) -> (Vec<LetterId>, Vec<Who>) {
    sim.stop(nikki);
    let begin = sim.time();
    let letters = write(sim, markus, nikki, &["one", "two", "three"]);
    sim.within(seconds(1), |sim| held(sim, markus, &letters, nikki, 3));
    assert!(sim.time() - begin < seconds(1));
    assert!(honest(sim, markus, &letters, nikki));
    let custodians = holding(sim, others, &letters);
    assert_eq!(custodians.len(), 3);
    (letters, custodians)
}

fn all_shown(sim: &Sim, who: Who, letters: &[LetterId]) -> bool {
    letters.iter().all(|letter| sim.has_shown(who, *letter))
}

// -- whoever dies

#[test]
fn letters_arrive_though_their_author_is_gone_for_ever() {
    for seed in 100..110 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, others @ ..] = settled::<6>(&mut sim);
        let (letters, custodians) = three_letters(&mut sim, nikki, markus, &others);
        sim.lose_for_ever(markus);
        sim.lose_for_ever(custodians[seed as usize % 3]);
        sim.start(nikki);
        sim.within(seconds(2), |sim| all_shown(sim, nikki, &letters));
        assert_eq!(sim.inbox(nikki), [("one".to_owned(), 0), ("two".to_owned(), 0), ("three".to_owned(), 0)]);
        sim.within(seconds(2), |sim| holding(sim, &others, &letters).iter().all(|who| !sim.is_up(*who)));
        sim.expect_quiet();
        assert_eq!(sim.texts(nikki).len(), 3, "once each");
    }
}

#[test]
fn an_author_who_comes_back_learns_that_its_letters_arrived_though_the_recipient_is_away_again() {
    for seed in 110..120 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, others @ ..] = settled::<6>(&mut sim);
        let (letters, custodians) = three_letters(&mut sim, nikki, markus, &others);
        sim.crash(markus);
        sim.lose_for_ever(custodians[seed as usize % 3]);
        sim.start(nikki);
        sim.within(seconds(2), |sim| all_shown(sim, nikki, &letters));
        sim.within(seconds(2), |sim| others.iter().filter(|who| sim.is_up(**who) && sim.receipts_kept(**who) > 0).count() == 3);
        sim.lose_for_ever(nikki);
        sim.start(markus);
        sim.within(seconds(2), |sim| letters.iter().all(|letter| sim.knows_delivered(markus, *letter, nikki)));
        assert_eq!(sim.texts(nikki), ["one", "two", "three"]);
        sim.run_for(seconds(5));
        assert!(others.iter().all(|who| !sim.is_up(*who) || sim.receipts_kept(*who) == 0));
    }
}

#[test]
fn any_two_of_three_custodians_may_die_the_moment_they_are_counted() {
    for stays in 0..3 {
        for seed in 120..124 {
            let mut sim = Sim::new(seed);
            let [nikki, markus, others @ ..] = settled::<6>(&mut sim);
            let (letters, custodians) = three_letters(&mut sim, nikki, markus, &others);
            for (place, who) in custodians.iter().enumerate() {
                if place != stays {
                    sim.lose_for_ever(*who);
                }
            }
            sim.lose_for_ever(markus);
            sim.start(nikki);
            sim.within(seconds(2), |sim| all_shown(sim, nikki, &letters));
            assert_eq!(sim.texts(nikki), ["one", "two", "three"]);
            sim.expect_quiet();
        }
    }
}

#[test]
fn two_dead_custodians_are_replaced_while_the_author_is_there() {
    let mut sim = Sim::new(124);
    let [nikki, markus, others @ ..] = settled::<7>(&mut sim);
    let (letters, custodians) = three_letters(&mut sim, nikki, markus, &others);
    sim.lose_for_ever(custodians[0]);
    sim.lose_for_ever(custodians[1]);
    let live: Vec<Who> = others.into_iter().filter(|who| !custodians[..2].contains(who)).collect();
    sim.within(minutes(4), |sim| holding(sim, &live, &letters).len() == 3);
    sim.within(minutes(1), |sim| {
        letters.iter().all(|letter| {
            live.iter().filter(|who| sim.holders(markus, *letter, nikki).iter().any(|(holder, _)| holder == *who)).count() == 3
        })
    });
    sim.start(nikki);
    sim.within(seconds(2), |sim| letters.iter().all(|letter| arrived(sim, markus, *letter, nikki)));
    sim.expect_quiet();
}

#[test]
fn what_is_held_outlives_the_death_of_all_at_once() {
    for seed in 130..140 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, others @ ..] = settled::<6>(&mut sim);
        let (letters, custodians) = three_letters(&mut sim, nikki, markus, &others);
        sim.crash(markus);
        others.iter().for_each(|who| sim.crash(*who));
        // The author stays away in every other world.
        others.iter().for_each(|who| sim.start(*who));
        sim.start(nikki);
        if seed % 2 == 0 {
            sim.start(markus);
        }
        assert_eq!(holding(&sim, &others, &letters), custodians);
        sim.within(seconds(3), |sim| all_shown(sim, nikki, &letters));
        sim.start(markus);
        sim.within(seconds(3), |sim| letters.iter().all(|letter| arrived(sim, markus, *letter, nikki)));
        sim.expect_quiet();
        assert_eq!(sim.texts(nikki), ["one", "two", "three"]);
    }
}

#[test]
fn a_custodian_that_dies_before_it_has_flushed_has_acknowledged_nothing() {
    let holds = |change: &Change| matches!(change, Change::Hold(_));
    for (seed, point) in [(140, CrashPoint::BeforeCommit), (141, CrashPoint::AfterCommit), (142, CrashPoint::After(1))] {
        let mut sim = Sim::new(seed);
        let [nikki, markus, others @ ..] = settled::<5>(&mut sim);
        sim.stop(nikki);
        sim.crash_at(others[0], point, holds);
        let letter = sim.write(markus, nikki, "hi");
        sim.run_until(|sim| !sim.is_up(others[0]));
        sim.within(seconds(1), |sim| sim.held_by(markus, letter, nikki) >= 2);
        assert!(honest(&sim, markus, &[letter], nikki));
        sim.start(others[0]);
        sim.within(minutes(2), |sim| sim.held_by(markus, letter, nikki) == 3);
        assert!(honest(&sim, markus, &[letter], nikki));
        sim.lose_for_ever(markus);
        sim.start(nikki);
        sim.within(seconds(2), |sim| sim.has_shown(nikki, letter));
        sim.expect_quiet();
    }
}

// -- those who come and go meanwhile

#[test]
fn custodians_that_come_and_go_hand_on_what_they_hold_without_its_author() {
    for seed in 150..155 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, one, two, three, four] = settled(&mut sim);
        let late @ [five, six, seven, eight] = sim.machines();
        let others = [one, two, three, four, five, six, seven, eight];
        let (letters, custodians) = three_letters(&mut sim, nikki, markus, &others[..4]);
        sim.stop(markus);
        for (place, who) in late.into_iter().enumerate() {
            sim.start(who);
            sim.run_for(seconds(7));
            if place % 2 == 1 {
                sim.lose_for_ever(custodians[place / 2]);
                sim.run_for(seconds(100));
            }
        }
        let live: Vec<Who> = others.into_iter().filter(|who| sim.is_up(*who)).collect();
        assert_eq!(live.len(), 6);
        assert!(holding(&sim, &live, &letters).len() >= 3, "{:?} hold them", holding(&sim, &live, &letters));
        // The last of those who got them from their author goes too.
        sim.lose_for_ever(custodians[2]);
        sim.start(nikki);
        sim.within(seconds(2), |sim| all_shown(sim, nikki, &letters));
        assert_eq!(sim.texts(nikki), ["one", "two", "three"]);
        sim.start(markus);
        sim.within(seconds(3), |sim| letters.iter().all(|letter| arrived(sim, markus, *letter, nikki)));
        sim.expect_quiet();
    }
}

#[test]
fn copies_that_nobody_needs_are_let_go_of_after_a_quarter_of_an_hour() {
    let mut displaced = 0;
    for seed in 160..164 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, first @ ..] = settled::<5>(&mut sim);
        let late = sim.machines::<4>();
        let others: Vec<Who> = first.iter().chain(&late).copied().collect();
        let (letters, _) = three_letters(&mut sim, nikki, markus, &first);
        late.iter().for_each(|who| sim.start(*who));
        let joined = sim.time();
        sim.run_for(minutes(2));
        let all = holding(&sim, &others, &letters);
        assert!(all.len() > 3 || seed != 160, "the first world has closer peers: {all:?}");
        // Those who held it before closer ones came keep it for a quarter of an hour, and no longer than that and some rounds.
        while sim.time() - joined < minutes(15) {
            assert!(first.iter().all(|who| sim.holds(*who, letters[0])), "let go of {:?} after closer ones came", sim.time() - joined);
            sim.run_for(seconds(5));
        }
        sim.run_for(minutes(4));
        let closest = holding(&sim, &others, &letters);
        assert_eq!(closest.len(), 3, "{all:?} held them");
        displaced += first.iter().filter(|who| !closest.contains(who)).count();
        sim.lose_for_ever(markus);
        sim.start(nikki);
        sim.within(seconds(2), |sim| all_shown(sim, nikki, &letters));
        sim.expect_quiet();
        assert!(others.iter().all(|who| !sim.holds(*who, letters[0])), "and nothing is left behind");
    }
    assert!(displaced > 2, "{displaced} were displaced");
}

#[test]
fn a_copy_outside_is_kept_while_fewer_than_three_others_confirm_it() {
    let mut outside = 0;
    for seed in 164..172 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, first @ ..] = settled::<5>(&mut sim);
        let late = sim.machines::<4>();
        let (letters, _) = three_letters(&mut sim, nikki, markus, &first);
        // Of the newcomers none has room; so the first three are the only ones, wherever the newcomers are.
        for who in late {
            sim.start(who);
            sim.run_for(Duration::from_millis(1));
            sim.fill_disk(who, true);
        }
        sim.run_for(minutes(40));
        assert_eq!(holding(&sim, &first, &letters), first, "they are needed");
        outside += late.iter().filter(|who| sim.holds(**who, letters[0])).count();
        sim.lose_for_ever(markus);
        sim.start(nikki);
        sim.within(seconds(2), |sim| all_shown(sim, nikki, &letters));
    }
    assert_eq!(outside, 0, "a full disk takes nothing");
}

#[test]
fn two_peers_of_one_machine_count_as_one() {
    for seed in 172..176 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, ann, bea, carl] = sim.machines();
        sim.move_in(bea, ann);
        for who in [nikki, markus, ann, bea, carl] {
            sim.start(who);
        }
        sim.run_until(|sim| {
            [nikki, markus, ann, bea, carl].iter().all(|who| sim.status(*who).peers.iter().filter(|peer| peer.available).count() == 4)
        });
        sim.run_for(seconds(3));
        sim.stop(nikki);
        let letter = sim.write(markus, nikki, "hi");
        sim.within(seconds(1), |sim| sim.held_by(markus, letter, nikki) == 2);
        sim.run_for(minutes(2));
        assert_eq!(sim.held_by(markus, letter, nikki), 2, "there are no more than two other machines");
        // Two more machines come: who shares one with another may be outside now, and stays: three machines other than its own
        // do not hold the letter.
        let [dora, emil] = sim.machines();
        sim.start(dora);
        sim.start(emil);
        sim.within(minutes(5), |sim| sim.held_by(markus, letter, nikki) >= 3);
        sim.run_for(minutes(30));
        let machines =
            [[ann, bea].as_slice(), &[carl], &[dora], &[emil]].iter().filter(|of| of.iter().any(|who| sim.holds(*who, letter))).count();
        assert!(machines >= 3, "held on {machines} machines");
        sim.lose_for_ever(markus);
        sim.start(nikki);
        sim.within(seconds(2), |sim| sim.has_shown(nikki, letter));
    }
}

#[test]
fn an_author_and_a_custodian_of_one_machine_are_no_two_places() {
    author_and_custodian_together(Sim::move_in);
}

#[test]
fn an_author_and_a_custodian_in_containers_of_one_machine_are_no_two_places() {
    author_and_custodian_together(Sim::move_into_container);
}

fn author_and_custodian_together(move_in: fn(&mut Sim, Who, Who)) {
    let mut sim = Sim::new(176);
    let [nikki, markus, ann, bea, carl, dora] = sim.machines();
    move_in(&mut sim, ann, markus);
    let all = [nikki, markus, ann, bea, carl, dora];
    all.iter().for_each(|who| sim.start(*who));
    sim.run_until(|sim| all.iter().all(|who| sim.status(*who).peers.iter().filter(|peer| peer.available).count() == 5));
    sim.run_for(seconds(3));
    sim.stop(nikki);
    let letter = sim.write(markus, nikki, "hi");
    sim.within(seconds(1), |sim| sim.held_by(markus, letter, nikki) == 3);
    assert!(!sim.holds(ann, letter), "three other machines have it");
    sim.lose_for_ever(markus);
    sim.lose_for_ever(ann);
    sim.start(nikki);
    sim.within(seconds(2), |sim| sim.has_shown(nikki, letter));
}

// -- several roads at once

#[test]
fn letters_by_custody_and_a_letter_sent_directly_are_one_conversation() {
    for seed in 180..190 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, _others @ ..] = settled::<6>(&mut sim);
        sim.available(nikki, false);
        sim.within(seconds(5), |sim| sim.sees(markus, nikki).is_some_and(|nikki| !nikki.welcomes));
        let mut letters = write(&mut sim, markus, nikki, &["1", "2", "3", "4"]);
        sim.within(seconds(1), |sim| held(sim, markus, &letters, nikki, 3));
        // What markus sends of them himself when she takes letters again is lost on the way.
        sim.lose_letters(markus, 1);
        sim.available(nikki, true);
        sim.run_until(|sim| sim.sees(markus, nikki).is_some_and(|nikki| nikki.welcomes));
        sim.run_for(Duration::from_millis(2));
        letters.push(sim.write(markus, nikki, "5"));
        sim.within(seconds(5), |sim| letters.iter().all(|letter| arrived(sim, markus, *letter, nikki)));
        let shown: Vec<_> = ["1", "2", "3", "4", "5"].map(|text| (text.to_owned(), 0)).into();
        assert_eq!(sim.inbox(nikki), shown);
        sim.expect_quiet();
        assert_eq!(sim.inbox(nikki), shown);
    }
}

#[test]
fn two_who_cannot_reach_each_other_write_by_way_of_the_others() {
    for seed in 190..195 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, _others @ ..] = settled::<6>(&mut sim);
        sim.partition(nikki, markus);
        let mut letters = write(&mut sim, markus, nikki, &["1", "2", "3", "4"]);
        sim.within(seconds(20), |sim| all_shown(sim, nikki, &letters));
        sim.within(seconds(20), |sim| letters.iter().all(|letter| arrived(sim, markus, *letter, nikki)));
        sim.heal();
        letters.push(sim.write(markus, nikki, "5"));
        sim.within(seconds(20), |sim| letters.iter().all(|letter| arrived(sim, markus, *letter, nikki)));
        sim.expect_quiet();
        assert_eq!(sim.texts(nikki), ["1", "2", "3", "4", "5"]);
    }
}

#[test]
fn letters_that_all_who_had_them_took_with_them_are_told_as_missing() {
    for seed in 195..200 {
        let text = |n: u64| format!("{n}{}", "x".repeat(10_000));
        let mut options = Options::calm();
        options.config.custody_bytes_depositor = 45_000;
        let mut sim = Sim::with(seed, options);
        let [nikki, markus, others @ ..] = settled::<6>(&mut sim);
        sim.stop(nikki);
        let letters: Vec<_> = (1..=4).map(|n| sim.write(markus, nikki, &text(n))).collect();
        sim.within(seconds(1), |sim| held(sim, markus, &letters, nikki, 3));
        // The three hold as much of markus as they may: the fourth is all who takes the fifth.
        let fifth = sim.write(markus, nikki, &text(5));
        sim.within(seconds(1), |sim| sim.held_by(markus, fifth, nikki) == 1);
        let first = holding(&sim, &others, &letters);
        assert_eq!(first.len(), 3);
        first.into_iter().for_each(|who| sim.lose_for_ever(who));
        sim.lose_for_ever(markus);
        sim.start(nikki);
        sim.within(seconds(2), |sim| sim.has_taken(nikki, fifth));
        let taken = sim.time();
        sim.run_for(seconds(9));
        assert!(!sim.has_shown(nikki, fifth), "the others may be on their way");
        sim.run_until(|sim| sim.has_shown(nikki, fifth));
        assert!(sim.time() - taken <= seconds(11), "it took {:?}", sim.time() - taken);
        assert_eq!(sim.inbox(nikki), [(text(5), 4)]);
        sim.expect_quiet();
    }
}

#[test]
fn who_takes_no_letters_now_finds_them_held_later() {
    for seed in 200..205 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, others @ ..] = settled::<6>(&mut sim);
        sim.available(nikki, false);
        sim.within(seconds(5), |sim| sim.sees(markus, nikki).is_some_and(|nikki| !nikki.welcomes));
        let letters = write(&mut sim, markus, nikki, &["one", "two"]);
        sim.within(seconds(1), |sim| held(sim, markus, &letters, nikki, 3));
        sim.lose_for_ever(markus);
        sim.run_for(seconds(70));
        sim.stop(nikki);
        sim.run_for(seconds(40));
        sim.start(nikki);
        sim.run_for(seconds(70));
        assert!(letters.iter().all(|letter| !sim.has_taken(nikki, *letter)), "nothing comes that is not wanted");
        assert_eq!(holding(&sim, &others, &letters).len(), 3);
        sim.available(nikki, true);
        sim.within(seconds(2), |sim| all_shown(sim, nikki, &letters));
        assert_eq!(sim.texts(nikki), ["one", "two"]);
        sim.expect_quiet();
        assert!(holding(&sim, &others, &letters).is_empty());
    }
}

// -- memories that jump back

#[test]
fn what_a_custodian_has_forgotten_does_not_count() {
    for seed in 210..220 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, others @ ..] = settled::<6>(&mut sim);
        sim.stop(nikki);
        sim.run_for(seconds(3));
        let backups: Vec<_> = others.iter().map(|who| sim.back_up(*who)).collect();
        let letters = write(&mut sim, markus, nikki, &["one", "two"]);
        sim.within(seconds(1), |sim| held(sim, markus, &letters, nikki, 3));
        // Others have heard it say something later.
        sim.run_for(seconds(5));
        let custodians = holding(&sim, &others, &letters);
        let forgets = custodians[seed as usize % 3];
        let before = sim.epoch(forgets);
        sim.crash(forgets);
        let backup = backups.into_iter().zip(&others).find(|(_, who)| **who == forgets).expect("one of them").0;
        sim.restore(forgets, backup);
        sim.start(forgets);
        let counted = |sim: &Sim| letters.iter().any(|letter| sim.holders(markus, *letter, nikki).contains(&(forgets, before)));
        sim.within(seconds(10), |sim| !counted(sim));
        assert_ne!(sim.epoch(forgets), before);
        sim.within(seconds(10), |sim| held(sim, markus, &letters, nikki, 3) && honest(sim, markus, &letters, nikki));
        custodians.into_iter().filter(|who| *who != forgets).for_each(|who| sim.lose_for_ever(who));
        sim.lose_for_ever(markus);
        sim.start(nikki);
        sim.within(seconds(2), |sim| all_shown(sim, nikki, &letters));
        assert_eq!(sim.texts(nikki), ["one", "two"]);
    }
}

#[test]
fn what_a_custodian_forgot_before_anybody_could_notice_is_held_again_soon() {
    for seed in 220..225 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, others @ ..] = settled::<6>(&mut sim);
        sim.stop(nikki);
        sim.run_for(seconds(3));
        let backups: Vec<_> = others.iter().map(|who| sim.back_up(*who)).collect();
        let letters = write(&mut sim, markus, nikki, &["one", "two"]);
        sim.within(seconds(1), |sim| held(sim, markus, &letters, nikki, 3));
        let forgets = holding(&sim, &others, &letters)[seed as usize % 3];
        sim.crash(forgets);
        let backup = backups.into_iter().zip(&others).find(|(_, who)| **who == forgets).expect("one of them").0;
        sim.restore(forgets, backup);
        sim.start(forgets);
        sim.within(seconds(100), |sim| held(sim, markus, &letters, nikki, 3) && honest(sim, markus, &letters, nikki));
    }
}

// -- receipts for authors who are away

#[test]
fn receipts_of_two_memories_wait_for_an_absent_author() {
    for seed in 230..240 {
        let mut sim = Sim::new(seed);
        let [nikki, markus, others @ ..] = settled::<6>(&mut sim);
        let zero = sim.write(markus, nikki, "zero");
        sim.run_until(|sim| arrived(sim, markus, zero, nikki));
        sim.run_for(seconds(3));
        let backup = sim.back_up(nikki);
        let (letters, _) = three_letters(&mut sim, nikki, markus, &others);
        sim.stop(markus);
        sim.start(nikki);
        sim.within(seconds(2), |sim| all_shown(sim, nikki, &letters));
        let kept = |sim: &Sim, receipts: usize| others.iter().filter(|who| sim.receipts_kept(**who) == receipts).count();
        sim.within(seconds(2), |sim| kept(sim, 1) == 3);
        // A later receipt takes the place of the one before.
        sim.read_all(nikki);
        sim.run_for(seconds(5));
        // Those who were met first may keep it too.
        assert!(kept(&sim, 1) >= 3 && kept(&sim, 1) + kept(&sim, 0) == 4);
        let before = sim.epoch(nikki);
        sim.crash(nikki);
        sim.restore(nikki, backup);
        sim.start(nikki);
        sim.run_until(|sim| sim.epoch(nikki) != before);
        // What she remembers to have signed before is no news to those who keep the later one.
        sim.run_for(minutes(2));
        assert!(kept(&sim, 1) >= 3 && kept(&sim, 1) + kept(&sim, 0) == 4);
        sim.read_all(nikki);
        sim.within(seconds(2), |sim| kept(sim, 2) >= 3);
        sim.lose_for_ever(nikki);
        sim.start(markus);
        sim.within(seconds(3), |sim| {
            letters.iter().all(|letter| sim.knows_delivered(markus, *letter, nikki) && sim.knows_read(markus, *letter, nikki))
        });
        sim.within(seconds(70), |sim| kept(sim, 0) == 4);
    }
}

// -- limits

/// Frames sent and batches handled by all in ten minutes.
fn ten_minutes(sim: &mut Sim) -> (u64, u64) {
    let before = (sim.frames(), sim.batches());
    sim.run_for(minutes(10));
    (sim.frames() - before.0, sim.batches() - before.1)
}

#[test]
fn two_alone_keep_their_letters_and_their_peace() {
    let mut sim = Sim::new(240);
    let [nikki, markus] = settled(&mut sim);
    let usual = ten_minutes(&mut sim);
    sim.stop(nikki);
    let alone = ten_minutes(&mut sim);
    let letter = sim.write(markus, nikki, "hi");
    sim.run_for(seconds(20));
    let now = ten_minutes(&mut sim);
    assert_eq!(sim.held_by(markus, letter, nikki), 0);
    assert_eq!(now.0, 0, "there is nobody to talk to");
    assert!(now.1 <= alone.1 + 20, "{} batches, and without a letter {}", now.1, alone.1);
    sim.start(nikki);
    sim.within(seconds(2), |sim| arrived(sim, markus, letter, nikki));
    // And when she is here and does not take letters.
    sim.available(nikki, false);
    sim.run_for(seconds(5));
    let letter = sim.write(markus, nikki, "and this");
    sim.run_for(seconds(20));
    let now = ten_minutes(&mut sim);
    assert_eq!(sim.held_by(markus, letter, nikki), 0);
    assert!(now.0 <= usual.0 + 20, "{} frames, and without a letter {}", now.0, usual.0);
    assert!(now.1 <= usual.1 + usual.1 / 20, "{} batches, and without a letter {}", now.1, usual.1);
    sim.available(nikki, true);
    sim.within(seconds(2), |sim| arrived(sim, markus, letter, nikki));
    sim.expect_quiet();
}

#[test]
fn what_is_held_costs_little_while_it_is_held() {
    let mut sim = Sim::new(241);
    let [nikki, markus, others @ ..] = settled::<6>(&mut sim);
    sim.stop(nikki);
    let usual = ten_minutes(&mut sim);
    sim.start(nikki);
    sim.run_until(|sim| sim.sees(markus, nikki).is_some_and(|nikki| nikki.available));
    three_letters(&mut sim, nikki, markus, &others);
    sim.run_for(minutes(2));
    let now = ten_minutes(&mut sim);
    // Each minute three custodians tell two others what they hold.
    assert!(now.0 <= usual.0 + 10 * 3 * 2 + 6, "{} frames, and without letters {}", now.0, usual.0);
    assert!(now.1 <= usual.1 + usual.1 / 20, "{} batches, and without letters {}", now.1, usual.1);
}

/// A world in which each node holds about `of_one` letters of one author, and `in_all` of all of them.
fn narrow(seed: u64, of_one: u64, in_all: u64) -> Sim {
    let mut options = Options::calm();
    options.config.custody_bytes_depositor = of_one * 11_000;
    options.config.custody_bytes = in_all * 11_000;
    Sim::with(seed, options)
}

fn long(n: usize) -> String {
    format!("{n} {}", "x".repeat(10_000))
}

#[test]
fn an_author_learns_why_a_letter_is_not_held_and_does_not_lose_it() {
    for seed in 242..247 {
        let mut sim = narrow(seed, 1, 100);
        let [nikki, markus, others @ ..] = settled::<7>(&mut sim);
        sim.stop(nikki);
        let first = sim.write(markus, nikki, &long(1));
        sim.within(seconds(1), |sim| sim.held_by(markus, first, nikki) == 3);
        assert!(sim.sees(markus, nikki).is_some_and(|nikki| nikki.reasons.is_empty()));
        // The three closest have had enough of markus: the next closest are asked.
        let second = sim.write(markus, nikki, &long(2));
        sim.within(seconds(1), |sim| sim.held_by(markus, second, nikki) == 2);
        assert!(others.iter().all(|who| sim.holds(*who, first) != sim.holds(*who, second)));
        let third = sim.write(markus, nikki, &long(3));
        sim.run_for(seconds(5));
        assert_eq!(sim.held_by(markus, third, nikki), 0);
        assert!(sim.sees(markus, nikki).is_some_and(|nikki| nikki.reasons.contains(&Reason::DepositorFull)));
        sim.run_for(minutes(10));
        assert_eq!((sim.held_by(markus, third, nikki), sim.outbox(markus)), (0, 3));
        assert!(sim.sees(markus, nikki).is_some_and(|nikki| nikki.reasons.contains(&Reason::DepositorFull)), "it is still so");
        sim.stop(markus);
        sim.start(nikki);
        sim.within(seconds(3), |sim| all_shown(sim, nikki, &[first, second]));
        sim.start(markus);
        sim.within(seconds(3), |sim| [first, second, third].iter().all(|letter| arrived(sim, markus, *letter, nikki)));
        sim.expect_quiet();
        assert_eq!(sim.texts(nikki), [long(1), long(2), long(3)]);
    }
}

#[test]
fn room_that_comes_back_is_used() {
    let mut sim = narrow(247, 1, 100);
    let [nikki, markus, wilma, _others @ ..] = settled::<6>(&mut sim);
    sim.stop(nikki);
    sim.stop(wilma);
    let first = sim.write(markus, wilma, &long(1));
    sim.within(seconds(1), |sim| sim.held_by(markus, first, wilma) == 3);
    let second = sim.write(markus, nikki, &long(2));
    sim.run_for(seconds(5));
    assert_eq!(sim.held_by(markus, second, nikki), 0);
    sim.start(wilma);
    sim.within(minutes(3), |sim| sim.held_by(markus, second, nikki) == 3);
    sim.within(minutes(2), |sim| sim.sees(markus, nikki).is_some_and(|nikki| nikki.reasons.is_empty()));
}

#[test]
fn one_who_floods_does_not_keep_out_the_mail_of_others() {
    for seed in 250..255 {
        let mut sim = narrow(seed, 3, 9);
        let [nikki, markus, flood, others @ ..] = settled::<7>(&mut sim);
        sim.stop(nikki);
        let floods: Vec<_> = (0..40).map(|n| sim.write(flood, nikki, &long(n))).collect();
        sim.run_for(seconds(5));
        for who in others {
            let mine = floods.iter().filter(|letter| sim.holds(who, **letter)).count();
            assert!((1..=3).contains(&mine), "{mine} letters of one author where three are allowed");
        }
        let letters: Vec<_> = (0..3).map(|n| sim.write(markus, nikki, &long(n))).collect();
        sim.within(seconds(1), |sim| held(sim, markus, &letters, nikki, 3));
        sim.lose_for_ever(markus);
        sim.start(nikki);
        sim.within(seconds(3), |sim| all_shown(sim, nikki, &letters));
        sim.within(seconds(5), |sim| floods.iter().all(|letter| arrived(sim, flood, *letter, nikki)));
        sim.expect_quiet();
    }
}

#[test]
fn a_full_custodian_gives_way_to_the_next() {
    let mut sim = Sim::new(255);
    let [nikki, markus, others @ ..] = settled::<6>(&mut sim);
    let (_, custodians) = three_letters(&mut sim, nikki, markus, &others);
    let fourth = *others.iter().find(|who| !custodians.contains(who)).expect("one of four");
    sim.fill_disk(custodians[0], true);
    let letter = sim.write(markus, nikki, "four");
    sim.within(seconds(1), |sim| sim.held_by(markus, letter, nikki) == 3);
    assert!(sim.holds(fourth, letter) && !sim.holds(custodians[0], letter));
    sim.lose_for_ever(markus);
    sim.start(nikki);
    sim.within(seconds(2), |sim| sim.has_shown(nikki, letter));
    assert_eq!(sim.texts(nikki), ["one", "two", "three", "four"]);
}
