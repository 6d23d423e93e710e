//! Real nodes on a LAN of network namespaces: what the README promises, seen through the command line alone.
//! Needs root, `ip` and `nft`. Run it with `--test-threads=1`: several labs at once make each other late.
//! Nothing here sleeps for something to happen: every wait is a condition with a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde_json::Value;
use swarm_tests::lab::{Host, Lab, wait_until};

/// For what is done in a moment, on a machine that compiles at the same time.
const SOON: Duration = Duration::from_secs(10);
/// Nothing was heard of a peer for so long that it counts as not available (DESIGN 5), and a little more to notice.
const SILENCE: Duration = Duration::from_secs(13);

/// What is promised within a time is printed with it, and fails only well beyond: a busy machine is no bug.
fn promised(what: &str, promise: Duration, bound: Duration, condition: impl FnMut() -> bool) {
    let took = wait_until(bound, what, condition);
    println!("{what}: {:.2} s (promised: {:.2} s)", took.as_secs_f32(), promise.as_secs_f32());
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn names(peers: &Value, which: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let peers = peers.as_array().expect("a list of peers");
    peers.iter().filter(|peer| which(peer)).map(|peer| text(&peer["name"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}

/// The names of those it shows as available.
fn available(host: &Host) -> BTreeSet<String> {
    names(&host.json(&["peers"]), |peer| peer["available"] == true)
}

/// The names of all it ever heard of.
fn known(host: &Host) -> BTreeSet<String> {
    names(&host.json(&["peers", "--all"]), |_| true)
}

fn named(hosts: &[&Host]) -> BTreeSet<String> {
    hosts.iter().map(|host| host.name.clone()).collect()
}

/// Each of them shows all the others as available.
fn all_here(hosts: &[&Host]) -> bool {
    hosts.iter().all(|host| {
        let mut others = named(hosts);
        others.remove(&host.name);
        available(host).is_superset(&others)
    })
}

fn start_together(hosts: &[&Host]) {
    hosts.iter().for_each(|host| host.begin(&[]));
    hosts.iter().for_each(|host| host.await_ready());
    wait_until(SOON, "all see each other", || all_here(hosts));
}

/// Writes a letter and gives its id.
fn send(from: &Host, to: &[&Host], message: &str) -> String {
    let mut arguments = vec!["send"];
    arguments.extend(to.iter().map(|host| host.name.as_str()));
    arguments.extend(["-m", message]);
    from.ok(&arguments)
}

/// The state of a letter at each of its recipients, as its author's node shows it.
fn states(author: &Host, letter: &str) -> BTreeMap<String, String> {
    let letter = author.json(&["sent", letter]);
    // One letter may come as a document or as a list of one.
    let letter = letter.as_array().map_or(&letter, |list| &list[0]);
    let deliveries = letter["deliveries"].as_array().expect("deliveries");
    deliveries.iter().map(|delivery| (text(&delivery["to"]), text(&delivery["state"]))).collect()
}

fn delivered(author: &Host, letter: &str) -> bool {
    states(author, letter).values().all(|state| state == "delivered" || state == "read")
}

/// Texts in an inbox with their authors' names, in order.
fn inbox(host: &Host) -> Vec<(String, String)> {
    let letters = host.json(&["inbox"]);
    let letters = letters.as_array().expect("a list of letters");
    letters.iter().map(|letter| (text(&letter["author"]), text(&letter["payload"]))).collect()
}

fn texts(host: &Host) -> Vec<String> {
    inbox(host).into_iter().map(|(_, text)| text).collect()
}

#[test]
fn five_hosts_see_each_other_by_multicast_alone() {
    let lab = Lab::new(5);
    let hosts: [&Host; 5] = lab.hosts();
    hosts.iter().for_each(|host| host.begin(&[]));
    promised("five hosts see each other after the last start", seconds(2), seconds(5), || {
        hosts.iter().all(|host| host.run(&["status", "--json"]).code == 0) && all_here(&hosts)
    });
}

#[test]
fn a_letter_by_name_arrives_once_at_one_and_at_several() {
    let lab = Lab::new(4);
    let [nikki, markus, ada, bea] = lab.hosts();
    start_together(&[nikki, markus, ada]);

    let letter = send(nikki, &[markus], "Hello");
    promised("a letter is delivered", seconds(1), seconds(5), || delivered(nikki, &letter));
    assert_eq!(inbox(markus), [("nikki".to_owned(), "Hello".to_owned())]);

    let letter = send(nikki, &[markus, ada], "Lunch?");
    promised("a letter to two is delivered", seconds(1), seconds(5), || delivered(nikki, &letter));
    assert_eq!(texts(markus), ["Hello", "Lunch?"]);
    assert_eq!(texts(ada), ["Lunch?"]);

    let again = ["send", "ada", "--key", "soup", "-m", "Soup!"];
    assert_eq!(nikki.ok(&again), nikki.ok(&again), "the same key is the same letter");
    wait_until(SOON, "the letter with a key arrives", || texts(ada).len() > 1);
    assert_eq!(texts(ada), ["Lunch?", "Soup!"]);

    // Bea was never seen before; she writes as soon as she knows whom to write to.
    bea.start(&[]);
    wait_until(SOON, "bea may write to ada", || bea.run(&["send", "ada", "--key", "first", "-m", "New here"]).code == 0);
    wait_until(SOON, "the letter of the newcomer arrives", || inbox(ada).contains(&("bea".to_owned(), "New here".to_owned())));
}

#[test]
fn a_node_that_returns_under_another_address_is_reached() {
    let lab = Lab::new(2);
    let [nikki, markus] = lab.hosts();
    start_together(&[nikki, markus]);
    let before = send(nikki, &[markus], "before");
    wait_until(SOON, "a letter is delivered", || delivered(nikki, &before));

    markus.stop();
    let meanwhile = send(nikki, &[markus], "meanwhile");
    markus.change_address("10.77.0.99");
    markus.start(&[]);
    wait_until(SOON, "the letter that waited is delivered", || delivered(nikki, &meanwhile));
    let answer = send(markus, &[nikki], "back");
    wait_until(SOON, "the answer is delivered", || delivered(markus, &answer));
    assert_eq!(texts(markus), ["before", "meanwhile"]);
    assert_eq!(texts(nikki), ["back"]);
}

#[test]
fn a_node_whose_address_changes_while_it_runs_is_reached() {
    let lab = Lab::new(2);
    let [nikki, markus] = lab.hosts();
    start_together(&[nikki, markus]);
    markus.change_address("10.77.0.99");
    let letter = send(nikki, &[markus], "Where are you?");
    wait_until(seconds(30), "a letter reaches the new address", || delivered(nikki, &letter));
}

#[test]
fn two_nodes_on_one_host_see_each_other_and_the_rest() {
    let lab = Lab::new(2);
    let [nikki, markus] = lab.hosts();
    let robot = nikki.second("robot");
    start_together(&[nikki, &robot, markus]);
    let letter = send(&robot, &[nikki, markus], "beep");
    wait_until(SOON, "a letter of the second node is delivered", || delivered(&robot, &letter));
    assert_eq!(texts(nikki), ["beep"]);
    assert_eq!(texts(markus), ["beep"]);
}

#[test]
fn without_multicast_one_named_peer_leads_to_all() {
    let lab = Lab::new(3);
    let [nikki, markus, ada] = lab.hosts();
    lab.multicast_off();
    nikki.start(&[]);
    let peer = format!("{}:6174", nikki.address());
    markus.start(&["--peer", &peer]);
    wait_until(SOON, "the named peer is found", || all_here(&[nikki, markus]));
    ada.start(&["--peer", &nikki.address()]);
    // Markus and ada were told of nikki only.
    wait_until(SOON, "those named to nobody find each other", || all_here(&[nikki, markus, ada]));
    let letter = send(markus, &[ada], "Nice to meet you");
    wait_until(SOON, "they write to each other", || delivered(markus, &letter));

    // And all remember each other: no name is needed a second time.
    for host in [nikki, markus, ada] {
        host.stop();
    }
    start_together(&[nikki, markus, ada]);
}

#[test]
fn a_host_that_hears_nobody_is_shown_as_not_available_and_letters_wait() {
    cut_one_way(Host::cut_incoming);
}

#[test]
fn a_host_that_nobody_hears_is_shown_as_not_available_and_letters_wait() {
    cut_one_way(Host::cut_outgoing);
}

fn cut_one_way(cut: fn(&Host)) {
    let lab = Lab::new(3);
    let [nikki, markus, ada] = lab.hosts();
    start_together(&[nikki, markus, ada]);
    cut(ada);
    promised("a host cut one way is not available", seconds(10), SILENCE, || {
        [nikki, markus].iter().all(|host| !available(host).contains("ada"))
    });
    let letter = send(nikki, &[ada, markus], "Hello?");
    wait_until(SOON, "the other recipient has it", || texts(markus) == ["Hello?"]);
    wait_until(SOON, "the third host holds it", || states(nikki, &letter)["ada"] == "held");
    ada.heal();
    wait_until(seconds(40), "the letter arrives after the cut", || delivered(nikki, &letter));
    assert_eq!(texts(ada), ["Hello?"]);
    wait_until(SOON, "all see each other again", || all_here(&[nikki, markus, ada]));
}

#[test]
fn a_host_that_is_silently_gone_is_shown_as_not_available() {
    let lab = Lab::new(3);
    let [nikki, markus, ada] = lab.hosts();
    start_together(&[nikki, markus, ada]);
    // Written into the silence, before anybody has noticed.
    ada.cut();
    let letter = send(nikki, &[ada], "Hello?");
    promised("a silent host is not available", seconds(10), SILENCE, || {
        [nikki, markus].iter().all(|host| !available(host).contains("ada"))
    });
    promised("the cut host shows nobody as available", seconds(10), SILENCE, || available(ada).is_empty());
    ada.heal();
    wait_until(seconds(40), "all see each other again", || all_here(&[nikki, markus, ada]));
    wait_until(SOON, "the letter arrives", || delivered(nikki, &letter));
    assert_eq!(texts(ada), ["Hello?"]);
}

#[test]
fn a_killed_node_is_away_at_once_and_never_forgotten() {
    let lab = Lab::new(4);
    let [nikki, markus, ada, bea] = lab.hosts();
    start_together(&[nikki, markus, ada]);
    ada.kill9();
    // The bound lies below that of missed heartbeats: it is the connection's end that is noticed.
    promised("a killed node is not available", seconds(1), seconds(4), || {
        [nikki, markus].iter().all(|host| !available(host).contains("ada"))
    });
    assert!(known(nikki).contains("ada"));
    nikki.stop();
    nikki.start(&[]);
    assert!(known(nikki).contains("ada"), "a restart forgets nobody");
    assert!(!available(nikki).contains("ada"));
    // Bea never met ada.
    bea.start(&[]);
    wait_until(SOON, "a newcomer learns of those that are away", || known(bea).is_superset(&named(&[nikki, markus, ada])));
    assert!(!available(bea).contains("ada"));
    // Who is known only by hearsay can be written to all the same.
    let letter = send(bea, &[ada], "We have not met");
    ada.start(&[]);
    wait_until(SOON, "the letter to somebody never met arrives", || delivered(bea, &letter));
    assert_eq!(inbox(ada), [("bea".to_owned(), "We have not met".to_owned())]);
}

#[test]
fn not_available_holds_letters_at_their_author_over_restarts_of_both() {
    let lab = Lab::new(2);
    let [nikki, markus] = lab.hosts();
    start_together(&[nikki, markus]);
    markus.ok(&["available", "no"]);
    promised("nikki sees that markus is not available", seconds(5), SOON, || available(nikki).is_empty());
    let letter = send(nikki, &[markus], "When you are back");
    let held = || states(nikki, &letter)["markus"] == "accepted" && texts(markus).is_empty();
    assert!(held());

    // Each restarts; the other way round they talk, so what does not come is held back and not merely late.
    for host in [markus, nikki] {
        host.stop();
        host.start(&[]);
        wait_until(SOON, "nikki has markus again", || known(nikki).contains("markus") && connected(nikki, "markus"));
        let other = send(markus, &[nikki], "busy");
        wait_until(SOON, "the other direction works", || delivered(markus, &other));
        assert!(held(), "after the restart of {}", host.name);
    }
    assert!(available(nikki).is_empty());

    markus.ok(&["available", "yes"]);
    promised("available yes brings the letter", seconds(1), SOON, || delivered(nikki, &letter));
    assert_eq!(texts(markus), ["When you are back"]);
}

fn connected(host: &Host, name: &str) -> bool {
    names(&host.json(&["peers", "--all"]), |peer| peer["connected"] == true).contains(name)
}

#[test]
fn inactive_is_seen_and_letters_still_arrive() {
    let lab = Lab::new(3);
    let [nikki, markus, ada] = lab.hosts();
    start_together(&[nikki, markus, ada]);
    let inactive = |host: &Host| names(&host.json(&["peers"]), |peer| peer["inactive"] == true).contains("ada");
    ada.ok(&["inactive", "yes"]);
    promised("inactive is seen", seconds(5), SOON, || inactive(nikki) && inactive(markus));
    let letter = send(nikki, &[ada], "No hurry");
    wait_until(SOON, "a letter arrives at an inactive peer", || delivered(nikki, &letter));
    ada.stop();
    ada.start(&[]);
    wait_until(SOON, "inactive outlives a restart", || inactive(nikki));
    ada.ok(&["inactive", "no"]);
    promised("active again is seen", seconds(5), SOON, || !inactive(nikki) && !inactive(markus));
}

#[test]
fn letters_arrive_over_a_line_that_loses_every_tenth_packet() {
    let lab = Lab::new(2);
    let [nikki, markus] = lab.hosts();
    start_together(&[nikki, markus]);
    markus.lose(10);
    let numbers: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    for number in &numbers {
        send(nikki, &[markus], number);
        send(markus, &[nikki], number);
    }
    for host in [nikki, markus] {
        let nothing_waits = || host.json(&["status"])["letters"]["waiting"] == 0;
        wait_until(seconds(60), &format!("all letters of {} are receipted", host.name), nothing_waits);
    }
    assert_eq!(texts(markus), numbers);
    assert_eq!(texts(nikki), numbers);
}

/// Letters of the run below.
const LETTERS: usize = 1_000;
/// Kills of the run below.
const KILLS: usize = 30;
/// Lines of a batch in the run below.
const BATCH: usize = 10;

#[test]
fn every_accepted_letter_arrives_once_and_in_order_however_often_nodes_are_killed() {
    let seed = std::env::var("SEED").ok().map_or_else(|| u64::from(std::process::id()), |seed| seed.parse().expect("SEED is a number"));
    println!("SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let lab = Lab::new(3);
    let hosts: [&Host; 3] = lab.hosts();
    start_together(&hosts);

    let accepted = AtomicUsize::new(0);
    let began = Instant::now();
    thread::scope(|scope| {
        let writers: Vec<_> = hosts
            .iter()
            .enumerate()
            .map(|(author, host)| {
                let (share, accepted) = (LETTERS / 3 + usize::from(author < LETTERS % 3), &accepted);
                // Two write letter by letter, one in batches.
                scope.spawn(move || {
                    if author == 0 { write_in_batches(host, &hosts, share, accepted) } else { write_singly(host, &hosts, share, accepted) }
                })
            })
            .collect();
        for kill in 0..KILLS {
            let due = LETTERS * (kill + 1) / (KILLS + 2);
            wait_until(seconds(120), "letters are accepted", || {
                accepted.load(Ordering::Relaxed) >= due || writers.iter().any(thread::ScopedJoinHandle::is_finished)
            });
            let mut below = |limit: u64| rng.next_u64() % limit;
            let victim = hosts[usize::try_from(below(3)).expect("small")];
            // Every fourth dies a second time, while it starts.
            let twice = below(4) == 0;
            let away = Duration::from_millis(below(300));
            victim.kill9();
            // How long it is away is part of the fault, not a wait for anything.
            thread::sleep(away);
            if twice {
                victim.begin(&[]);
                thread::sleep(Duration::from_millis(below(150)));
                victim.kill9();
            }
            victim.start(&[]);
        }
    });
    println!("{LETTERS} letters accepted and {KILLS} kills in {:.1} s", began.elapsed().as_secs_f32());

    for host in hosts {
        let nothing_waits = || host.json(&["status"])["letters"]["waiting"] == 0;
        wait_until(seconds(60), &format!("all letters of {} are receipted", host.name), nothing_waits);
    }
    println!("all receipted {:.1} s after the first letter", began.elapsed().as_secs_f32());
    for recipient in hosts {
        let inbox = inbox(recipient);
        for (author, host) in hosts.iter().enumerate().filter(|(_, host)| host.name != recipient.name) {
            let share = LETTERS / 3 + usize::from(author < LETTERS % 3);
            let written: Vec<String> = (0..share).map(|number| number.to_string()).collect();
            let arrived: Vec<&String> = inbox.iter().filter(|(from, _)| *from == host.name).map(|(_, text)| text).collect();
            assert!(
                written.iter().eq(arrived.iter().copied()),
                "from {} at {}: {}",
                host.name,
                recipient.name,
                difference(&written, &arrived)
            );
        }
    }
}

/// Names of the two others.
fn others<'a>(host: &Host, hosts: &[&'a Host; 3]) -> Vec<&'a str> {
    hosts.iter().map(|host| host.name.as_str()).filter(|name| *name != host.name).collect()
}

/// Asks again, with the same key, whenever there was no node to answer.
fn persist(mut ask: impl FnMut() -> i32) {
    wait_until(seconds(60), "the letter is accepted", || match ask() {
        0 => true,
        3 => false,
        code => panic!("a send ended with {code}"),
    });
}

fn write_singly(host: &Host, hosts: &[&Host; 3], count: usize, accepted: &AtomicUsize) {
    let others = others(host, hosts);
    for number in 0..count {
        let number = number.to_string();
        persist(|| {
            let sent = host.run(&["send", others[0], others[1], "--key", &number, "-m", &number]);
            if ![0, 3].contains(&sent.code) {
                println!("{}: {sent:?}", host.name);
            }
            sent.code
        });
        accepted.fetch_add(1, Ordering::Relaxed);
    }
}

fn write_in_batches(host: &Host, hosts: &[&Host; 3], count: usize, accepted: &AtomicUsize) {
    let others = others(host, hosts);
    let numbers: Vec<usize> = (0..count).collect();
    for batch in numbers.chunks(BATCH) {
        let lines = batch.iter().map(|number| {
            let number = number.to_string();
            serde_json::json!({"to": others, "payload": number, "key": number}).to_string() + "\n"
        });
        let lines: String = lines.collect();
        persist(|| {
            let sent = host.run_with(&["send", "--batch"], &lines);
            if ![0, 3].contains(&sent.code) {
                println!("{}: {sent:?}", host.name);
            }
            sent.code
        });
        accepted.fetch_add(batch.len(), Ordering::Relaxed);
    }
}

/// What is missing, doubled, or where the order first breaks.
fn difference(written: &[String], arrived: &[&String]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for text in arrived {
        *counts.entry(text.as_str()).or_default() += 1;
    }
    let missing: Vec<_> = written.iter().filter(|text| !counts.contains_key(text.as_str())).collect();
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    let first = written.iter().zip(arrived).position(|(written, arrived)| written != *arrived);
    format!("missing {missing:?}, more than once {doubled:?}, first out of order at {first:?} of {}", arrived.len())
}

// -- letters for those who are away

/// Bundles that a host holds for others.
fn holds(host: &Host) -> u64 {
    host.json(&["status"])["letters"]["held_bundles"].as_u64().expect("a number of bundles")
}

/// By how many machines a letter to one is held, as its author's node shows it.
fn held_by(author: &Host, letter: &str) -> u64 {
    let letter = author.json(&["sent", letter]);
    let letter = letter.as_array().map_or(&letter, |list| &list[0]);
    letter["deliveries"][0]["held_by"].as_u64().expect("a number of machines")
}

#[test]
fn letters_reach_who_was_away_though_their_author_and_two_custodians_are_gone() {
    let lab = Lab::new(6);
    let hosts: [&Host; 6] = lab.hosts();
    start_together(&hosts);
    let [nikki, markus, others @ ..] = hosts;

    nikki.kill9();
    wait_until(SOON, "markus sees that nikki is away", || !available(markus).contains("nikki"));
    let letters: Vec<String> = (1..=3).map(|n| send(markus, &[nikki], &format!("letter {n}"))).collect();
    promised("three letters are held by three machines", seconds(1), seconds(5), || letters.iter().all(|id| held_by(markus, id) == 3));
    let custodians: Vec<&Host> = others.into_iter().filter(|host| holds(host) > 0).collect();
    assert_eq!(custodians.len(), 3);

    markus.kill9();
    custodians[..2].iter().for_each(|host| host.kill9());
    nikki.start(&[]);
    promised("the letters are there", seconds(2), SOON, || texts(nikki).len() == 3);
    assert_eq!(texts(nikki), ["letter 1", "letter 2", "letter 3"]);
    wait_until(SOON, "the custodian lets go of what has arrived", || holds(custodians[2]) == 0);

    nikki.kill9();
    markus.start(&[]);
    wait_until(SOON, "their author learns of it from those who are left", || letters.iter().all(|id| delivered(markus, id)));
}

#[test]
fn letters_in_custody_outlive_the_death_of_all_hosts() {
    let lab = Lab::new(5);
    let hosts: [&Host; 5] = lab.hosts();
    start_together(&hosts);
    let [nikki, markus, others @ ..] = hosts;

    nikki.kill9();
    wait_until(SOON, "markus sees that nikki is away", || !available(markus).contains("nikki"));
    let letters: Vec<String> = (1..=20).map(|n| send(markus, &[nikki], &format!("letter {n}"))).collect();
    wait_until(SOON, "all are held", || letters.iter().all(|id| held_by(markus, id) == 3));
    markus.kill9();
    others.iter().for_each(|host| host.kill9());

    [&[nikki], &others[..]].concat().iter().for_each(|host| host.begin(&[]));
    [&[nikki], &others[..]].concat().iter().for_each(|host| host.await_ready());
    wait_until(SOON, "all arrive without their author", || texts(nikki).len() == 20);
    let expected: Vec<String> = (1..=20).map(|n| format!("letter {n}")).collect();
    assert_eq!(texts(nikki), expected);
    markus.start(&[]);
    wait_until(SOON, "their author learns of it", || letters.iter().all(|id| delivered(markus, id)));
    assert_eq!(texts(nikki), expected, "nothing comes twice");
}

#[test]
fn a_custodian_that_stops_in_order_hands_over() {
    let lab = Lab::new(6);
    let hosts: [&Host; 6] = lab.hosts();
    start_together(&hosts);
    let [nikki, markus, others @ ..] = hosts;

    nikki.kill9();
    wait_until(SOON, "markus sees that nikki is away", || !available(markus).contains("nikki"));
    let letter = send(markus, &[nikki], "keep this");
    wait_until(SOON, "it is held", || held_by(markus, &letter) == 3);
    markus.kill9();
    let (custodians, free): (Vec<&Host>, Vec<&Host>) = others.into_iter().partition(|host| holds(host) > 0);
    assert_eq!((custodians.len(), free.len()), (3, 1));
    custodians[0].stop();
    assert_eq!(holds(free[0]), 1, "when it has stopped another one holds it");
}

/// Texts "letter 1" to "letter N".
fn numbered(letters: usize) -> Vec<String> {
    (1..=letters).map(|n| format!("letter {n}")).collect()
}

/// Writes letters to one who is away, and waits until each is held by three machines.
fn write_into_custody(author: &Host, away: &Host, letters: usize) -> Vec<String> {
    away.kill9();
    wait_until(SOON, "the author sees who is away", || !available(author).contains(&away.name));
    let letters: Vec<String> = numbered(letters).iter().map(|text| send(author, &[away], text)).collect();
    wait_until(SOON, "all are held", || letters.iter().all(|id| held_by(author, id) == 3));
    letters
}

/// How many letters are said to be missing before each one of an inbox.
fn missing(host: &Host) -> Vec<u64> {
    let letters = host.json(&["inbox"]);
    let letters = letters.as_array().expect("a list of letters");
    letters.iter().map(|letter| letter["missing_before"].as_u64().expect("a number of letters")).collect()
}

#[test]
fn letters_in_custody_outlive_four_hosts_that_join_and_two_that_leave() {
    let lab = Lab::new(10);
    let hosts: [&Host; 10] = lab.hosts();
    let (first, newcomers) = hosts.split_at(6);
    start_together(first);
    let (nikki, markus, others) = (first[0], first[1], &first[2..]);

    let letters = write_into_custody(markus, nikki, 3);
    markus.kill9();
    newcomers.iter().for_each(|host| host.begin(&[]));
    newcomers.iter().for_each(|host| host.await_ready());
    let here: Vec<&Host> = others.iter().chain(newcomers).copied().collect();
    wait_until(SOON, "all see each other", || all_here(&here));
    let custodians: Vec<&Host> = others.iter().copied().filter(|host| holds(host) > 0).collect();
    assert_eq!(custodians.len(), 3);
    // Each hands over to those that are closest now; then the last of the first three dies.
    custodians[..2].iter().for_each(|host| host.stop());
    let left: Vec<&Host> = here.into_iter().filter(|host| !custodians[..2].iter().any(|gone| gone.name == host.name)).collect();
    wait_until(SOON, "three of those that are left hold all", || left.iter().filter(|host| holds(host) == 3).count() >= 3);
    custodians[2].kill9();

    nikki.start(&[]);
    promised("the letters are there", seconds(2), SOON, || texts(nikki).len() == 3);
    assert_eq!(texts(nikki), numbered(3));
    nikki.kill9();
    markus.start(&[]);
    wait_until(SOON, "their author learns of it from those who came later", || letters.iter().all(|id| delivered(markus, id)));
}

#[test]
fn letters_in_custody_and_one_sent_directly_are_shown_once_and_in_order() {
    let lab = Lab::new(5);
    let hosts: [&Host; 5] = lab.hosts();
    start_together(&hosts);
    let [nikki, markus, ..] = hosts;

    let mut letters = write_into_custody(markus, nikki, 4);
    nikki.start(&[]);
    letters.push(send(markus, &[nikki], "letter 5"));
    wait_until(SOON, "all are delivered", || letters.iter().all(|id| delivered(markus, id)));
    assert_eq!(texts(nikki), numbered(5));
    assert_eq!(missing(nikki), [0; 5]);
}

#[test]
fn a_letter_whose_predecessors_were_destroyed_is_shown_after_ten_seconds_and_says_how_many_are_missing() {
    let lab = Lab::new(7);
    let hosts: [&Host; 7] = lab.hosts();
    start_together(&hosts);
    let [nikki, markus, others @ ..] = hosts;

    write_into_custody(markus, nikki, 4);
    let (custodians, rest): (Vec<&Host>, Vec<&Host>) = others.into_iter().partition(|host| holds(host) > 0);
    assert_eq!((custodians.len(), rest.len()), (3, 2));
    custodians.iter().for_each(|host| host.kill9());
    wait_until(SOON, "markus sees that they are gone", || custodians.iter().all(|host| !available(markus).contains(&host.name)));
    let fifth = send(markus, &[nikki], "letter 5");
    wait_until(SOON, "the fifth is held by the others", || held_by(markus, &fifth) == 2);
    markus.kill9();
    custodians.iter().chain(&[markus]).for_each(|host| host.lose_disk());
    assert!(rest.iter().all(|host| holds(host) == 1));

    nikki.start(&[]);
    let took = wait_until(seconds(20), "the fifth is shown", || texts(nikki) == ["letter 5"]);
    println!("shown after {:.2} s (promised: 10 s)", took.as_secs_f32());
    assert!(took > seconds(8), "the others were waited for: {took:?}");
    assert_eq!(missing(nikki), [4]);
    assert!(nikki.ok(&["inbox"]).contains("4 missing"));
    // Nothing blocks: who is written to now has the answer at once.
    let after = send(rest[0], &[nikki], "hello");
    wait_until(seconds(5), "a letter of somebody else arrives", || delivered(rest[0], &after));
}

#[test]
fn one_of_64_letters_written_in_a_batch_is_discarded_while_others_hold_it() {
    let lab = Lab::new(5);
    let hosts: [&Host; 5] = lab.hosts();
    start_together(&hosts);
    let [nikki, markus, others @ ..] = hosts;

    nikki.kill9();
    wait_until(SOON, "markus sees that nikki is away", || !available(markus).contains("nikki"));
    let line = |text: &String| serde_json::json!({"to": ["nikki"], "payload": text}).to_string() + "\n";
    let sent = markus.run_with(&["send", "--batch"], &numbered(64).iter().map(line).collect::<String>());
    assert_eq!(sent.code, 0, "{sent:?}");
    let letters: Vec<&str> = sent.stdout.lines().collect();
    assert_eq!(letters.len(), 64);
    wait_until(SOON, "all are held", || letters.iter().all(|id| held_by(markus, id) == 3));
    markus.ok(&["discard", letters[39]]);

    nikki.start(&[]);
    promised("the other letters are there", seconds(2), SOON, || texts(nikki).len() >= 63);
    let ended = |id: &&str| states(markus, id).values().all(|state| state == "delivered" || state == "discarded");
    wait_until(SOON, "all are delivered or discarded", || letters.iter().all(ended));
    // Custodians hold it in one bundle with the others. Where they were faster than its author, it has arrived, and its author is told so.
    let arrived = texts(nikki).contains(&"letter 40".to_owned());
    assert_eq!(states(markus, letters[39])["nikki"], if arrived { "delivered" } else { "discarded" });
    let expected: Vec<String> = numbered(64).into_iter().filter(|text| arrived || text != "letter 40").collect();
    assert_eq!(texts(nikki), expected);
    assert!(missing(nikki).iter().all(|missing| *missing == 0), "none is called missing");
    wait_until(SOON, "custodians let go", || others.iter().all(|host| holds(host) == 0));
}
