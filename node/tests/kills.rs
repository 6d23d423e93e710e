//! Commands killed at any moment, as scripts are: what was asked for with a key is done once, and what is followed is seen whole.
//! Some kills here; `scripts/kills` has a thousand of them and ten thousand letters. `SEED=…` repeats one run.

mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use program::{Node, Running, banner, node, run};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// From the environment, for `scripts/kills`.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

fn chance() -> ChaCha8Rng {
    let seed = number("SEED", u64::from(std::process::id()));
    println!("SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

fn below(chance: &mut ChaCha8Rng, most: u64) -> u64 {
    chance.next_u64() % most.max(1)
}

fn micros(chance: &mut ChaCha8Rng, most: Duration) -> Duration {
    Duration::from_micros(below(chance, most.as_micros() as u64))
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_send_that_is_killed_and_repeated_with_its_key_makes_one_letter() {
    let (kills, mut chance) = (number("KILLS", 100), chance());
    let ann = Node::start("ann");
    let send = |i: u64| {
        let mut command = node(&ann.dir, &["send", "bob", "--later"]);
        command.args(["-m", &format!("letter {i}"), "--key", &format!("key-{i}")]).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    // As long as one takes here, and a little more: some kills come before anything was said, some after all was done.
    let began = Instant::now();
    assert!(send(0).status().expect("the program starts").success());
    let takes = began.elapsed() * 5 / 4;
    let (mut finished, mut accepted) = (0, 0);
    for i in 1..=kills {
        let mut killed = Running::new(send(i));
        std::thread::sleep(micros(&mut chance, takes));
        finished += u64::from(killed.0.try_wait().expect("it is our child").is_some());
        drop(killed);
        // What was accepted before its killed command could say so.
        let before = sent(&ann);
        assert!(send(i).status().expect("the program starts").success());
        accepted += u64::from(before == sent(&ann));
    }
    println!("{kills} kills: {finished} came too late, {accepted} letters had been accepted by then, the others by the repetition");
    let texts = all(&ann, "sent");
    let distinct: BTreeSet<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!((texts.len() as u64, distinct.len() as u64), (kills + 1, kills + 1));
}

fn sent(node: &Node) -> u64 {
    json(&node.says(&["status", "--json"]).1)["letters"]["sent"].as_u64().expect("a number")
}

/// The text of each letter of a list.
fn all(node: &Node, list: &str) -> Vec<String> {
    let letters = json(&node.says(&[list, "--json"]).1);
    letters.as_array().expect("a list").iter().map(|letter| letter["payload"].as_str().unwrap_or_default().to_owned()).collect()
}

/// A follower of an inbox, and what it prints.
fn follow(node: &Node, after: u64) -> (Running, mpsc::Receiver<String>) {
    let mut process = node.spawn(&["inbox", "--follow", "--json", "--after", &after.to_string()]);
    let lines = BufReader::new(process.0.stdout.take().expect("piped")).lines();
    let (out, seen) = mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).all(|line| out.send(line).is_ok()));
    (process, seen)
}

#[test]
fn whoever_follows_and_is_killed_and_begun_again_sees_every_letter() {
    let (letters, mut chance) = (number("LETTERS", 500), chance());
    let (ann, mut bea) = program::pair();
    let mut batch = ann.spawn(&["send", "--batch"]);
    // The ids of the letters; a program to whom nobody listens ends.
    let mut ids = batch.0.stdout.take().expect("piped");
    std::thread::spawn(move || std::io::copy(&mut ids, &mut std::io::sink()));
    let mut input = batch.0.stdin.take().expect("piped");
    // In pieces, so that some are written while somebody is dead.
    let writing = std::thread::spawn(move || {
        use std::io::Write;
        for i in 0..letters {
            writeln!(input, "{{\"to\":[\"bea\"],\"payload\":\"{i}\"}}").expect("it reads");
            if i % 50 == 49 {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let mut seen: BTreeMap<u64, String> = BTreeMap::new();
    let (mut last, mut repeats, mut begun, mut restarts) = (0, 0, 0, 0);
    let deadline = Instant::now() + Duration::from_secs(15) + Duration::from_millis(30) * u32::try_from(letters).expect("not so many");
    let mut texts = BTreeSet::new();
    while (texts.len() as u64) < letters {
        assert!(Instant::now() < deadline, "{} of {letters} letters were seen", texts.len());
        let (mut follower, lines) = follow(&bea, last);
        begun += 1;
        let until = Instant::now() + micros(&mut chance, Duration::from_millis(300));
        // A program that has read some and remembers what it had read before those: it sees some again.
        let forgets = below(&mut chance, 4) == 0;
        let from = last;
        let mut take = |line: String| {
            let letter = json(&line);
            let (n, text) = (letter["n"].as_u64().expect("a number"), letter["payload"].as_str().expect("a text").to_owned());
            assert!(n > from, "only what comes after {from} was asked for: {line}");
            if let Some(before) = seen.insert(n, text.clone()) {
                assert_eq!(before, text, "a number is one letter's for ever");
                repeats += 1;
            } else {
                assert!(texts.insert(text), "one letter has one number: {line}");
            }
            last = n;
        };
        while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            take(line);
        }
        if below(&mut chance, 5) == 0 {
            restarts += 1;
            bea.process.0.kill().expect("it is our child");
            lines.iter().for_each(take);
            assert_eq!(follower.ended().code(), Some(3), "it says that the node has gone");
            bea.process.ended();
            bea.process = banner(run(&bea.dir, "bea")).0;
        }
        drop(follower);
        if forgets {
            last = from;
        }
    }
    writing.join().expect("it has written all");
    println!("{letters} letters: the follower was begun {begun} times and its node {restarts} times anew; {repeats} lines came again");
    assert_eq!(seen.len() as u64, letters);
    assert_eq!(texts.len() as u64, letters);
    assert!(batch.ended().success());
}
