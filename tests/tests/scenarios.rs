//! Stories of a swarm, told by hand: one story, one test. `SEED` and `TRACE` in the environment replay and print.

use std::time::Duration;

use protocol::effect::Change;
use protocol::{Answer, LetterId};
use swarm_tests::sim::{CrashPoint, Sim, Who};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn takes(change: &Change) -> bool {
    matches!(change, Change::Taken(_))
}

fn accepts(change: &Change) -> bool {
    matches!(change, Change::Letter(_))
}

/// The letter is in the recipient's inbox, and its author knows.
fn arrived(sim: &Sim, from: Who, letter: LetterId, to: Who) -> bool {
    sim.has_shown(to, letter) && sim.knows_delivered(from, letter, to)
}

// -- letters between peers that are there

#[test]
fn a_letter_to_a_present_peer_arrives_once() {
    let mut sim = Sim::new(1);
    let [ann, bea, carl] = sim.peers();
    let letter = sim.write(ann, bea, "hi");
    sim.within(seconds(1), |sim| arrived(sim, ann, letter, bea));
    sim.expect_quiet();
    assert_eq!(sim.texts(bea), ["hi"]);
    assert!(sim.texts(carl).is_empty());
}

#[test]
fn one_letter_to_several_is_one_letter() {
    let mut sim = Sim::new(2);
    let [ann, bea, carl] = sim.peers();
    let letter = sim.write_to(ann, &[bea, carl], "hi both");
    sim.within(seconds(1), |sim| arrived(sim, ann, letter, bea) && arrived(sim, ann, letter, carl));
    sim.expect_quiet();
}

#[test]
fn an_author_learns_what_was_read() {
    let mut sim = Sim::new(3);
    let [ann, bea] = sim.peers();
    let letter = sim.write(ann, bea, "hi");
    sim.within(seconds(1), |sim| arrived(sim, ann, letter, bea));
    assert!(!sim.knows_read(ann, letter, bea));
    sim.read_all(bea);
    sim.within(seconds(1), |sim| sim.knows_read(ann, letter, bea));
    sim.expect_quiet();
}

#[test]
fn two_requests_with_one_key_are_one_letter() {
    let mut sim = Sim::new(4);
    let [ann, bea] = sim.peers();
    let first = sim.write_keyed(ann, bea, "pay 5", "invoice 17");
    let second = sim.write_keyed(ann, bea, "pay 5", "invoice 17");
    sim.crash(ann);
    sim.start(ann);
    let third = sim.write_keyed(ann, bea, "pay 5", "invoice 17");
    assert_eq!((first, first), (second, third));
    sim.run_until(|sim| arrived(sim, ann, first, bea));
    sim.expect_quiet();
    assert_eq!(sim.texts(bea), ["pay 5"]);
}

// -- deaths at the worst moment

#[test]
fn a_recipient_that_dies_between_commit_and_receipt_shows_one_copy() {
    let mut sim = Sim::new(10);
    let [ann, bea] = sim.peers();
    sim.crash_at(bea, CrashPoint::AfterCommit, takes);
    let letter = sim.write(ann, bea, "hi");
    sim.run_until(|sim| !sim.is_up(bea));
    assert!(sim.has_taken(bea, letter) && !sim.knows_delivered(ann, letter, bea));
    sim.start(bea);
    sim.run_until(|sim| arrived(sim, ann, letter, bea));
    sim.expect_quiet();
    assert_eq!(sim.texts(bea), ["hi"]);
}

#[test]
fn a_recipient_that_dies_before_its_commit_gets_the_letter_again() {
    let mut sim = Sim::new(11);
    let [ann, bea] = sim.peers();
    sim.crash_at(bea, CrashPoint::BeforeCommit, takes);
    let letter = sim.write(ann, bea, "hi");
    sim.run_until(|sim| !sim.is_up(bea));
    assert!(!sim.has_taken(bea, letter));
    sim.start(bea);
    sim.run_until(|sim| arrived(sim, ann, letter, bea));
    sim.expect_quiet();
}

#[test]
fn an_author_that_dies_between_commit_and_sending_sends_after_its_restart() {
    let mut sim = Sim::new(12);
    let [ann, bea] = sim.peers();
    sim.crash_at(ann, CrashPoint::AfterCommit, accepts);
    let request = sim.hand_in(ann, bea, "hi");
    sim.run_until(|sim| !sim.is_up(ann));
    sim.run_for(seconds(3));
    assert!(sim.answer(request).is_none() && sim.texts(bea).is_empty());
    sim.start(ann);
    sim.run_until(|sim| sim.texts(bea) == ["hi"]);
    sim.expect_quiet();
}

#[test]
fn an_author_that_dies_before_its_commit_has_accepted_nothing() {
    let mut sim = Sim::new(13);
    let [ann, bea] = sim.peers();
    sim.crash_at(ann, CrashPoint::BeforeCommit, accepts);
    let request = sim.hand_in(ann, bea, "hi");
    sim.run_until(|sim| !sim.is_up(ann));
    sim.start(ann);
    sim.expect_quiet();
    assert!(sim.answer(request).is_none() && sim.texts(bea).is_empty() && sim.outbox(ann) == 0);
}

#[test]
fn an_author_that_dies_after_its_reply_has_kept_its_word() {
    let mut sim = Sim::new(14);
    let [ann, bea] = sim.peers();
    sim.crash_at(ann, CrashPoint::After(1), accepts);
    let request = sim.hand_in(ann, bea, "hi");
    sim.run_until(|sim| !sim.is_up(ann));
    let told = matches!(sim.answer(request), Some(Answer::Accepted { .. }));
    sim.start(ann);
    sim.run_until(|sim| sim.texts(bea) == ["hi"]);
    assert!(told || sim.answer(request).is_none());
    sim.expect_quiet();
}

// -- those who are away

#[test]
fn a_letter_to_an_absent_peer_waits_and_is_delivered_on_its_return() {
    let mut sim = Sim::new(20);
    let [ann, bea] = sim.peers();
    sim.stop(bea);
    let letter = sim.write(ann, bea, "hi");
    sim.run_for(seconds(30));
    sim.stop(ann);
    sim.start(ann);
    sim.start(bea);
    sim.within(seconds(5), |sim| arrived(sim, ann, letter, bea));
    sim.expect_quiet();
}

#[test]
fn who_is_not_available_gets_letters_only_when_it_is_again() {
    let mut sim = Sim::new(21);
    let [ann, bea] = sim.peers();
    sim.available(bea, false);
    sim.within(seconds(5), |sim| sim.sees(ann, bea).is_some_and(|bea| !bea.available && bea.connected));
    let letter = sim.write(ann, bea, "hi");
    sim.run_for(seconds(20));
    assert!(!sim.has_taken(bea, letter) && sim.outbox(ann) == 1);
    for one in [ann, bea] {
        sim.stop(one);
        sim.start(one);
        sim.run_for(seconds(20));
        assert!(!sim.has_taken(bea, letter) && sim.outbox(ann) == 1, "a restart brings nothing that is not wanted");
    }
    sim.available(bea, true);
    sim.within(seconds(5), |sim| arrived(sim, ann, letter, bea));
    sim.expect_quiet();
}

#[test]
fn inactive_is_seen_by_others_within_5_s_and_outlives_a_restart() {
    let mut sim = Sim::new(22);
    let [ann, bea, carl] = sim.peers();
    sim.inactive(bea, true);
    let seen = |sim: &Sim| [ann, carl].iter().all(|who| sim.sees(*who, bea).is_some_and(|bea| bea.inactive && bea.available));
    sim.within(seconds(5), seen);
    sim.stop(bea);
    sim.start(bea);
    sim.within(seconds(5), seen);
    let letter = sim.write(ann, bea, "read it some day");
    sim.within(seconds(1), |sim| arrived(sim, ann, letter, bea));
    sim.expect_quiet();
}

#[test]
fn a_silent_death_is_noticed_within_10_s() {
    let mut sim = Sim::new(23);
    let [ann, bea, carl] = sim.peers();
    sim.run_for(seconds(5));
    sim.vanish(bea);
    sim.within(seconds(10), |sim| [ann, carl].iter().all(|who| sim.sees(*who, bea).is_some_and(|bea| !bea.available)));
}

#[test]
fn a_silent_death_is_noticed_also_by_who_is_writing() {
    let mut sim = Sim::new(24);
    let [ann, bea, carl] = sim.peers();
    sim.vanish(bea);
    for n in 0..20 {
        sim.write(ann, carl, &format!("letter {n}"));
        sim.run_for(Duration::from_millis(500));
    }
    assert!(sim.sees(ann, bea).is_some_and(|bea| !bea.available), "ten seconds after it died");
}

#[test]
fn a_goodbye_is_news_at_once() {
    let mut sim = Sim::new(25);
    let [ann, bea] = sim.peers();
    sim.stop(bea);
    sim.within(seconds(1), |sim| sim.sees(ann, bea).is_some_and(|bea| !bea.available));
}

#[test]
fn a_node_that_stood_still_judges_nobody() {
    let mut sim = Sim::new(26);
    let [ann, bea] = sim.peers();
    sim.run_for(seconds(3));
    sim.sleep(ann, seconds(30));
    sim.run_for(Duration::from_millis(30_050));
    assert!(sim.sees(ann, bea).is_some_and(|bea| bea.available), "it was ann who did not listen");
    sim.expect_quiet();
}

// -- broken wires

#[test]
fn letters_written_while_one_direction_is_cut_arrive_once_it_is_healed() {
    let mut sim = Sim::new(30);
    let [ann, bea] = sim.peers();
    sim.cut_one_way(ann, bea);
    let there = sim.write(ann, bea, "there");
    let back = sim.write(bea, ann, "back");
    sim.run_for(seconds(5));
    assert!(!sim.has_taken(bea, there));
    sim.heal();
    sim.within(seconds(30), |sim| arrived(sim, ann, there, bea) && arrived(sim, bea, back, ann));
    sim.expect_quiet();
}

#[test]
fn a_lost_receipt_does_not_make_two_letters() {
    let mut sim = Sim::new(31);
    let [ann, bea] = sim.peers();
    sim.cut_one_way(bea, ann);
    let letter = sim.write(ann, bea, "hi");
    sim.within(seconds(1), |sim| sim.has_shown(bea, letter));
    assert!(!sim.knows_delivered(ann, letter, bea));
    sim.heal();
    sim.within(seconds(30), |sim| sim.knows_delivered(ann, letter, bea));
    sim.expect_quiet();
    assert_eq!(sim.texts(bea), ["hi"]);
}

#[test]
fn both_sides_of_a_partition_go_on_and_meet_again() {
    let mut sim = Sim::new(32);
    let [ann, bea, carl] = sim.peers();
    sim.partition(ann, carl);
    sim.partition(bea, carl);
    sim.run_for(seconds(60));
    assert!(sim.sees(ann, bea).is_some_and(|bea| bea.available) && sim.sees(ann, carl).is_some_and(|carl| !carl.available));
    let letter = sim.write(carl, ann, "are you there?");
    sim.heal();
    sim.within(seconds(15), |sim| arrived(sim, carl, letter, ann) && sim.sees(ann, carl).is_some_and(|carl| carl.available));
    sim.expect_quiet();
}

#[test]
fn letters_get_through_when_a_fifth_of_all_frames_is_lost() {
    let mut sim = Sim::new(33);
    let [ann, bea] = sim.peers();
    sim.lose(0.2);
    let letters: Vec<_> = (0..100).map(|n| sim.write(ann, bea, &format!("letter {n}"))).collect();
    sim.within(seconds(60), |sim| letters.iter().all(|letter| arrived(sim, ann, *letter, bea)));
    assert_eq!(sim.texts(bea), (0..100).map(|n| format!("letter {n}")).collect::<Vec<_>>(), "in the order in which they were written");
}

#[test]
fn a_gap_holds_the_display_until_it_is_filled() {
    let mut sim = Sim::new(34);
    let [ann, bea] = sim.peers();
    sim.lose_letters(ann, 1);
    let lost = sim.write(ann, bea, "one");
    let later = sim.write(ann, bea, "two");
    sim.within(seconds(1), |sim| sim.has_taken(bea, later));
    assert!(!sim.has_shown(bea, later), "the first is still missing");
    sim.within(seconds(10), |sim| arrived(sim, ann, lost, bea) && arrived(sim, ann, later, bea));
    assert_eq!(sim.inbox(bea), [("one".to_owned(), 0), ("two".to_owned(), 0)]);
    sim.expect_quiet();
}

#[test]
fn a_gap_that_is_not_filled_holds_the_display_for_10_s() {
    let mut sim = Sim::new(35);
    let [ann, bea] = sim.peers();
    sim.lose_letters(ann, 1);
    let lost = sim.write(ann, bea, "one");
    let later = sim.write(ann, bea, "two");
    sim.within(seconds(1), |sim| sim.has_taken(bea, later));
    sim.crash(ann);
    let taken = sim.time();
    sim.run_for(seconds(9));
    assert!(!sim.has_shown(bea, later));
    sim.run_until(|sim| sim.has_shown(bea, later));
    assert!(sim.time() - taken <= seconds(11), "it took {:?}", sim.time() - taken);
    assert_eq!(sim.inbox(bea), [("two".to_owned(), 1)]);
    // What comes after all is shown after all.
    sim.start(ann);
    sim.run_until(|sim| arrived(sim, ann, lost, bea));
    assert_eq!(sim.texts(bea), ["two", "one"]);
    sim.expect_quiet();
}

#[test]
fn a_full_disk_takes_no_letters_and_loses_none() {
    let mut sim = Sim::new(36);
    let [ann, bea] = sim.peers();
    sim.fill_disk(bea, true);
    let letter = sim.write(ann, bea, "hi");
    let refused = sim.hand_in(bea, ann, "no room for this");
    sim.run_for(seconds(10));
    assert!(!sim.has_taken(bea, letter));
    assert!(matches!(sim.answer(refused), Some(Answer::Refused(protocol::Refusal::DiskLow { .. }))));
    sim.fill_disk(bea, false);
    sim.within(seconds(40), |sim| arrived(sim, ann, letter, bea));
    sim.expect_quiet();
}

// -- those one has not met

#[test]
fn a_newcomer_learns_of_a_peer_it_never_met() {
    let mut sim = Sim::new(40);
    let [ann, bea] = sim.peers();
    let [carl] = sim.machines();
    sim.stop(ann);
    sim.start(carl);
    sim.within(seconds(15), |sim| sim.sees(carl, ann).is_some_and(|ann| !ann.available));
    let letter = sim.write(carl, ann, "we have not met");
    sim.stop(bea);
    sim.start(ann);
    sim.within(seconds(15), |sim| arrived(sim, carl, letter, ann));
    sim.expect_quiet();
}

#[test]
fn a_letter_for_later_goes_to_the_first_of_that_name() {
    let mut sim = Sim::new(41);
    let [ann, _bea] = sim.peers();
    let [carl] = sim.machines();
    let letter = sim.write_later(ann, carl, "welcome");
    assert_eq!(sim.outbox(ann), 1);
    sim.stop(ann);
    sim.start(ann);
    sim.start(carl);
    sim.within(seconds(10), |sim| arrived(sim, ann, letter, carl));
    sim.expect_quiet();
}

#[test]
fn a_letter_for_later_written_while_that_peer_arrives_is_not_forgotten() {
    let mut sim = Sim::new(42);
    let [ann, _bea] = sim.peers();
    let [carl] = sim.machines();
    sim.start(carl);
    // It is met at any moment of the next second; the letters are accepted before, at and after it.
    let letters: Vec<_> = (0..40)
        .map(|n| {
            sim.run_for(Duration::from_micros(700));
            sim.write_later(ann, carl, &format!("welcome {n}"))
        })
        .collect();
    sim.within(seconds(10), |sim| letters.iter().all(|letter| arrived(sim, ann, *letter, carl)));
    sim.expect_quiet();
}

#[test]
fn a_stranger_without_an_introduction_is_met_by_dialling() {
    let mut sim = Sim::new(43);
    let [ann, bea] = sim.peers();
    let [carl] = sim.machines();
    sim.estrange(ann, carl);
    sim.start(carl);
    sim.within(seconds(15), |sim| sim.sees(ann, carl).is_some() && sim.sees(carl, ann).is_some());
    assert!(sim.sees(ann, carl).is_some_and(|carl| !carl.connected), "they know of each other by {bea} alone");
}

// -- memories that jump back

#[test]
fn an_author_put_back_to_a_backup_loses_and_doubles_nothing() {
    let mut sim = Sim::new(50);
    let [ann, bea] = sim.peers();
    let first = sim.write(ann, bea, "first");
    sim.run_until(|sim| arrived(sim, ann, first, bea));
    let (backup, epoch) = (sim.back_up(ann), sim.epoch(ann));
    let forgotten = sim.write(ann, bea, "forgotten");
    sim.run_until(|sim| arrived(sim, ann, forgotten, bea));
    sim.run_for(seconds(3));
    sim.stop(ann);
    sim.restore(ann, backup);
    // Nobody is there to tell ann: this letter bears the number of the forgotten one.
    sim.partition(ann, bea);
    sim.start(ann);
    let twin = sim.write(ann, bea, "twin");
    assert_eq!(sim.epoch(ann), epoch);
    sim.heal();
    sim.within(seconds(40), |sim| arrived(sim, ann, twin, bea));
    assert_ne!(sim.epoch(ann), epoch, "a memory that jumped back is another memory");
    let fresh = sim.write(ann, bea, "fresh");
    sim.run_until(|sim| arrived(sim, ann, fresh, bea));
    sim.expect_quiet();
    assert_eq!(sim.texts(bea), ["first", "forgotten", "twin", "fresh"]);
}

#[test]
fn whoever_is_restored_by_command_writes_nothing_under_the_old_epoch_though_nobody_is_met() {
    let mut sim = Sim::new(56);
    let [ann, bea] = sim.peers();
    let first = sim.write(ann, bea, "first");
    sim.run_until(|sim| arrived(sim, ann, first, bea));
    let (backup, epoch) = (sim.back_up(ann), sim.epoch(ann));
    let forgotten = sim.write(ann, bea, "forgotten");
    sim.run_until(|sim| arrived(sim, ann, forgotten, bea));
    sim.run_for(seconds(3));
    sim.stop(ann);
    sim.restore_by_command(ann, backup);
    sim.partition(ann, bea);
    sim.start(ann);
    let alone = sim.write(ann, bea, "alone");
    let restored = sim.epoch(ann);
    assert_ne!(restored, epoch, "before anybody is met");
    // Said once: the next start goes on.
    sim.crash(ann);
    sim.start(ann);
    let alone_too = sim.write(ann, bea, "alone too");
    assert_eq!(sim.epoch(ann), restored);
    sim.heal();
    sim.within(seconds(40), |sim| arrived(sim, ann, alone, bea) && arrived(sim, ann, alone_too, bea));
    assert_eq!(sim.epoch(ann), restored, "what the neighbours show is of the epoch before");
    sim.expect_quiet();
    assert_eq!(sim.texts(bea), ["first", "forgotten", "alone", "alone too"]);
}

#[test]
fn an_author_put_back_to_a_backup_and_often_started_alone_is_told_all_the_same() {
    let mut sim = Sim::new(55);
    let [ann, bea] = sim.peers();
    let begun = sim.write(ann, bea, "begun");
    sim.run_until(|sim| arrived(sim, ann, begun, bea));
    let restart = |sim: &mut Sim| {
        let boot = sim.boot(ann);
        sim.stop(ann);
        sim.start(ann);
        sim.run_until(|sim| sim.boot(ann) > boot);
    };
    while sim.boot(ann) < 5 {
        restart(&mut sim);
    }
    let (backup, epoch) = (sim.back_up(ann), sim.epoch(ann));
    let mut texts = vec!["begun".to_owned()];
    for boot in 6..=7 {
        restart(&mut sim);
        texts.push(format!("forgotten {boot}"));
        let letter = sim.write(ann, bea, &texts[texts.len() - 1]);
        sim.within(seconds(10), |sim| arrived(sim, ann, letter, bea));
    }
    assert_eq!((sim.boot(ann), sim.epoch(ann)), (7, epoch), "honest restarts mint nothing");
    sim.stop(ann);
    sim.restore(ann, backup);
    sim.partition(ann, bea);
    let mut letters = Vec::new();
    for _ in 0..3 {
        sim.start(ann);
        // More than the original wrote down: neither boots nor the record's length tell the two apart.
        for _ in 0..10 {
            texts.push(format!("alone {}", letters.len()));
            letters.push(sim.write(ann, bea, &texts[texts.len() - 1]));
        }
        sim.stop(ann);
    }
    sim.start(ann);
    assert_eq!(sim.epoch(ann), epoch, "there was nobody to tell");
    sim.heal();
    sim.within(seconds(40), |sim| letters.iter().all(|letter| arrived(sim, ann, *letter, bea)));
    assert_ne!(sim.epoch(ann), epoch, "a memory that jumped back is another memory");
    sim.expect_quiet();
    let mut shown = sim.texts(bea);
    shown.sort();
    texts.sort();
    assert_eq!(shown, texts, "each once");
}

#[test]
fn an_author_put_back_to_the_same_backup_again_and_again_is_told_each_time() {
    let mut sim = Sim::new(56);
    let [ann, bea, carl] = sim.peers();
    let mut texts = vec!["before".to_owned(), "forgotten".to_owned()];
    let begun = sim.write(ann, bea, "before");
    sim.run_until(|sim| arrived(sim, ann, begun, bea));
    let (backup, mut epochs) = (sim.back_up(ann), vec![sim.epoch(ann)]);
    let forgotten = sim.write(ann, bea, "forgotten");
    sim.run_until(|sim| arrived(sim, ann, forgotten, bea));
    sim.run_for(seconds(3));
    for time in 1..=3 {
        sim.stop(ann);
        sim.restore(ann, backup.clone());
        sim.start(ann);
        sim.within(seconds(20), |sim| !epochs.contains(&sim.epoch(ann)));
        let epoch = sim.epoch(ann);
        epochs.push(epoch);
        for _ in 0..time % 3 {
            // A start in between, of which the next memory knows nothing.
            sim.stop(ann);
            sim.start(ann);
            sim.run_for(seconds(5));
            assert_eq!(sim.epoch(ann), epoch, "the {time}. time it was told already");
        }
        texts.push(format!("the {time}. time"));
        let letter = sim.write(ann, bea, &texts[texts.len() - 1]);
        sim.within(seconds(40), |sim| arrived(sim, ann, letter, bea));
    }
    sim.expect_quiet();
    assert_eq!(sim.texts(bea), texts);
    let _ = carl;
}

#[test]
fn a_recipient_put_back_to_a_backup_goes_on_from_there() {
    let mut sim = Sim::new(51);
    let [ann, bea] = sim.peers();
    let first = sim.write(ann, bea, "first");
    sim.run_until(|sim| arrived(sim, ann, first, bea));
    let (backup, epoch) = (sim.back_up(bea), sim.epoch(bea));
    let forgotten = sim.write(ann, bea, "forgotten");
    sim.run_until(|sim| arrived(sim, ann, forgotten, bea));
    sim.run_for(seconds(3));
    sim.stop(bea);
    let waiting = sim.write(ann, bea, "waiting");
    sim.restore(bea, backup);
    sim.start(bea);
    sim.within(seconds(20), |sim| arrived(sim, ann, waiting, bea));
    assert_ne!(sim.epoch(bea), epoch);
    for n in 0..5 {
        let letter = sim.write(ann, bea, &format!("{n}"));
        sim.within(seconds(5), |sim| arrived(sim, ann, letter, bea));
    }
    sim.read_all(bea);
    sim.expect_quiet();
    assert_eq!(sim.texts(bea), ["first", "waiting", "0", "1", "2", "3", "4"]);
    // What was receipted by the memory that is gone does not come again, and she is told.
    let missing: Vec<u64> = sim.inbox(bea).into_iter().map(|(_, missing)| missing).collect();
    assert_eq!(missing, [0, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn a_recipient_put_back_by_less_than_a_beacon_goes_on_too() {
    let mut sim = Sim::new(53);
    let [ann, bea] = sim.peers();
    sim.run_for(seconds(3));
    let backup = sim.back_up(bea);
    for n in 0..30 {
        let letter = sim.write(ann, bea, &format!("forgotten {n}"));
        sim.run_until(|sim| arrived(sim, ann, letter, bea));
    }
    sim.crash(bea);
    sim.restore(bea, backup);
    sim.start(bea);
    let letter = sim.write(ann, bea, "new");
    sim.within(seconds(20), |sim| arrived(sim, ann, letter, bea));
    sim.expect_quiet();
}

#[test]
fn an_author_put_back_by_less_than_a_beacon_loses_nothing() {
    let mut sim = Sim::new(54);
    let [ann, bea] = sim.peers();
    sim.run_for(seconds(3));
    let backup = sim.back_up(ann);
    let forgotten: Vec<_> = (0..30).map(|n| sim.write(ann, bea, &format!("forgotten {n}"))).collect();
    sim.run_until(|sim| forgotten.iter().all(|letter| arrived(sim, ann, *letter, bea)));
    sim.crash(ann);
    sim.restore(ann, backup);
    sim.start(ann);
    let letters: Vec<_> = (0..40).map(|n| sim.write(ann, bea, &format!("new {n}"))).collect();
    sim.within(seconds(20), |sim| letters.iter().all(|letter| arrived(sim, ann, *letter, bea)));
    sim.expect_quiet();
    assert_eq!(sim.texts(bea).len(), 70);
}

#[test]
fn a_card_from_a_backup_wins_over_what_others_remember() {
    let mut sim = Sim::new(52);
    let [ann, bea] = sim.peers();
    let backup = sim.back_up(bea);
    sim.rename(bea, "beatrix");
    sim.within(seconds(5), |sim| sim.sees(ann, bea).is_some_and(|bea| bea.name.as_str() == "beatrix"));
    sim.stop(bea);
    sim.restore(bea, backup);
    sim.start(bea);
    sim.within(seconds(15), |sim| sim.sees(ann, bea).is_some_and(|seen| seen.name.as_str() == "bea" && seen.available));
    sim.expect_quiet();
}
