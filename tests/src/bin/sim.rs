//! Runs seeds of the simulator: `sim --seeds N [--from S] [--threads T]`, or one with its trace: `SEED=S sim`.
//! Exits with 1 at the first seed that breaks a promise, and says how to replay it.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use swarm_tests::sim::trace::Detail;
use swarm_tests::sim::{Counts, Options, run};

struct Wish {
    from: u64,
    seeds: u64,
    threads: u64,
    keep_going: bool,
}

fn wish() -> Result<Wish, String> {
    let mut wish = Wish { from: 0, seeds: 500, threads: 2, keep_going: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let place = match word.as_str() {
            "--seeds" => &mut wish.seeds,
            "--from" => &mut wish.from,
            "--threads" => &mut wish.threads,
            "--keep-going" => {
                wish.keep_going = true;
                continue;
            }
            _ => return Err(format!("unknown option {word}")),
        };
        let number = words.next().and_then(|number| number.parse().ok());
        *place = number.ok_or_else(|| format!("{word} needs a number"))?;
    }
    Ok(wish)
}

fn main() -> ExitCode {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        return replay(seed);
    }
    let wish = match wish() {
        Ok(wish) => wish,
        Err(why) => {
            eprintln!("{why}\nusage: sim [--seeds N] [--from S] [--threads T] [--keep-going], or SEED=S sim");
            return ExitCode::from(2);
        }
    };
    println!("SEED={}..{}", wish.from, wish.from + wish.seeds);
    // A panic within a run is reported with its seed; its own message would only be in the way.
    std::panic::set_hook(Box::new(|_| {}));
    search(&wish)
}

/// One seed: its trace is printed if it fails, or if `TRACE` is set.
fn replay(seed: u64) -> ExitCode {
    println!("SEED={seed}");
    let first = if std::env::var_os("TRACE").is_some() { Detail::Lines } else { Detail::None };
    if first == Detail::None
        && let Ok(outcome) = run(seed, first)
    {
        println!("{outcome:?}");
        return ExitCode::SUCCESS;
    }
    println!("{:#?}", Options::of_seed(seed));
    match run(seed, Detail::Lines) {
        Ok(outcome) => {
            println!("{outcome:?}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("FAILED SEED={seed} {why}");
            ExitCode::FAILURE
        }
    }
}

fn search(wish: &Wish) -> ExitCode {
    let begin = Instant::now();
    let (next, end) = (AtomicU64::new(wish.from), wish.from + wish.seeds);
    let failures: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());
    let total = Mutex::new((0u64, Counts::default()));
    std::thread::scope(|scope| {
        for _ in 0..wish.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let failed = !failures.lock().expect("no thread panics").is_empty();
                    if seed >= end || (failed && !wish.keep_going) {
                        return;
                    }
                    match run(seed, Detail::None) {
                        Ok(outcome) => add(&mut total.lock().expect("no thread panics"), &outcome.counts),
                        Err(why) => failures.lock().expect("no thread panics").push((seed, why)),
                    }
                }
            });
        }
    });
    let (seeds, counts) = *total.lock().expect("no thread panics");
    let seconds = begin.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss)]
    let pace = seeds as f64 / seconds;
    println!("{seeds} seeds held in {seconds:.1} s, {pace:.0} a second: {counts:?}");
    let mut failures = failures.into_inner().expect("no thread panics");
    failures.sort();
    for (seed, why) in &failures {
        println!("FAILED SEED={seed} {why}\n  replay: SEED={seed} scripts/sim");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn add((seeds, total): &mut (u64, Counts), counts: &Counts) {
    *seeds += 1;
    total.accepted += counts.accepted;
    total.refused += counts.refused;
    total.taken += counts.taken;
    total.crashes += counts.crashes;
    total.restored += counts.restored;
    total.copied += counts.copied;
    total.departed += counts.departed;
    total.frames += counts.frames;
    total.batches += counts.batches;
    total.commits += counts.commits;
    total.placed += counts.placed;
    total.runs += counts.runs;
    total.claims += counts.claims;
}
