//! Whole swarms from seeds: a hundred fixed ones, and proof that a seed is a run.

use swarm_tests::sim::run;
use swarm_tests::sim::trace::Detail;

/// Runs seeds; the first that breaks a promise is told with the command that replays it.
fn check(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(why) = run(seed, Detail::None) {
            panic!("SEED={seed} {why}\n  replay: SEED={seed} scripts/sim");
        }
    }
}

#[test]
fn no_promise_is_broken_whatever_breaks() {
    check(0..50);
}

#[test]
fn no_promise_is_broken_whatever_else_breaks() {
    check(50..100);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let once = run(seed, Detail::Hash);
        let again = run(seed, Detail::Hash);
        assert_eq!(once, again, "SEED={seed}");
        assert_ne!(once.map(|run| run.hash), run(seed + 1, Detail::Hash).map(|run| run.hash), "SEED={seed}: the hash sees nothing");
    }
}

#[test]
fn the_seeds_are_worth_running() {
    let runs: Vec<_> = (0..100).filter_map(|seed| run(seed, Detail::None).ok()).collect();
    let sum = |of: fn(&swarm_tests::sim::Counts) -> u64| runs.iter().map(|run| of(&run.counts)).sum::<u64>();
    assert!(sum(|counts| counts.taken) > 1_000, "hardly a letter arrives");
    assert!(sum(|counts| counts.crashes) > 50, "hardly a node dies");
    assert!(sum(|counts| counts.restored) > 0, "no disk is put back");
    assert!(sum(|counts| counts.placed) > 100, "hardly anything is ordered");
    assert!(sum(|counts| counts.runs) > 200, "hardly anything is run");
}
