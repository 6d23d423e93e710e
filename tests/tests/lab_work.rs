//! Services, orders and the dispatcher with real nodes and real processes on a LAN of network namespaces, through the command line alone.
//! Needs root, `ip` and `nft`. Run it with `--test-threads=1`: several labs at once make each other late.
//! Nothing here sleeps for something to happen: every wait is a condition with a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use swarm_tests::lab::{Host, Lab, wait_until};

/// For what is done in a moment, on a machine that compiles at the same time.
const SOON: Duration = Duration::from_secs(10);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("a list, not {other}"),
    }
}

/// What is promised within a time is printed with it, and fails only well beyond: a busy machine is no bug.
fn promised(what: &str, promise: Duration, bound: Duration, condition: impl FnMut() -> bool) {
    let took = wait_until(bound, what, condition);
    println!("{what}: {:.2} s (promised: {:.2} s)", took.as_secs_f32(), promise.as_secs_f32());
}

/// Who leads, as a host knows it.
fn dispatcher(host: &Host) -> Option<(String, u64)> {
    let dispatcher = &host.json(&["status"])["dispatcher"];
    Some((dispatcher["name"].as_str()?.to_owned(), dispatcher["term"].as_u64()?))
}

fn all_here(hosts: &[&Host]) -> bool {
    hosts.iter().all(|host| host.json(&["status"])["peers"]["available"].as_u64() == Some(hosts.len() as u64 - 1))
}

/// All see each other and agree on who leads, who is one of them.
fn settled(hosts: &[&Host]) -> bool {
    let leaders: BTreeSet<_> = hosts.iter().map(|host| dispatcher(host)).collect();
    let one = leaders.len() == 1 && leaders.iter().flatten().any(|(name, _)| hosts.iter().any(|host| host.name == *name));
    one && all_here(hosts)
}

fn start_together(hosts: &[&Host]) {
    hosts.iter().for_each(|host| host.begin(&[]));
    hosts.iter().for_each(|host| host.await_ready());
    wait_until(seconds(30), "all see each other and one leads", || settled(hosts));
}

fn leader_of<'a>(hosts: &[&'a Host]) -> &'a Host {
    let name = dispatcher(hosts[0]).expect("somebody leads").0;
    hosts.iter().find(|host| host.name == name).expect("one of them leads")
}

/// Offers a service that anyone may order.
fn offer(host: &Host, service: &str, limit: u32, command: &[&str]) {
    let limit = limit.to_string();
    let mut arguments = vec!["offer", service, "--limit", &limit, "--allow", "anyone", "--"];
    arguments.extend(command);
    host.ok(&arguments);
}

/// Everyone knows that these offer the service.
fn await_offers(hosts: &[&Host], service: &str, workers: &[&Host]) {
    let wanted: BTreeSet<String> = workers.iter().map(|worker| worker.name.clone()).collect();
    wait_until(SOON, "the service is known everywhere", || {
        hosts.iter().all(|host| {
            let found = list(host.json(&["who", service])).iter().map(|worker| text(&worker["worker"])).collect::<BTreeSet<_>>();
            found == wanted
        })
    });
}

fn task(host: &Host, id: &str) -> Value {
    host.json(&["task", id])
}

fn state(host: &Host, id: &str) -> String {
    text(&task(host, id)["state"])
}

/// All orders of a host: number and state.
fn mine(host: &Host) -> BTreeMap<u64, String> {
    let tasks = list(host.json(&["tasks", "--mine"]));
    tasks.iter().map(|task| (task["order"].as_u64().expect("a number"), text(&task["state"]))).collect()
}

/// Author, chain and sequence of all that a node tells of the record.
fn entries(host: &Host, arguments: &[&str]) -> BTreeSet<(String, String, u64)> {
    let place = |entry: &Value| (text(&entry["peer_id"]), text(&entry["chain"]), entry["seq"].as_u64().expect("a number"));
    list(host.json(&[&["log"], arguments].concat())).iter().map(place).collect()
}

/// No row of anybody's record is damaged, no chain has a hole, and whoever keeps everybody's says what they say themselves.
fn the_record_is_whole(hosts: &[&Host]) {
    wait_until(seconds(30), "all see each other and one leads", || settled(hosts));
    wait_until(SOON, "who keeps the record has what everybody wrote, and nothing else", || {
        let keeper = leader_of(hosts);
        let before: BTreeSet<_> = hosts.iter().flat_map(|host| entries(host, &["--local", "--peer", &host.name])).collect();
        let kept = entries(keeper, &[]);
        let after: BTreeSet<_> = hosts.iter().flat_map(|host| entries(host, &["--local", "--peer", &host.name])).collect();
        println!("{} entries, {} kept, {} after", before.len(), kept.len(), after.len());
        before.is_subset(&kept) && kept.is_subset(&after)
    });
    for host in hosts {
        host.ok(&["log", "--verify"]);
    }
}

#[test]
fn coffee_is_ordered_brewed_and_served() {
    let lab = Lab::new(3);
    let hosts: [&Host; 3] = lab.hosts();
    let [markus, nikki, _] = hosts;
    start_together(&hosts);
    offer(nikki, "coffee", 2, &["/bin/echo", "one"]);
    await_offers(&hosts, "coffee", &[nikki]);
    assert_eq!(markus.ok(&["order", "coffee", "latte", "--no-milk"]), "1");
    wait_until(SOON, "the coffee is done", || state(markus, "1") == "done");
    assert_eq!(markus.ok(&["task", "1", "--stdout"]), "one latte --no-milk");
    let done = task(markus, "1");
    assert_eq!(done["worker"], Value::from(nikki.name.as_str()));
    assert_eq!((&done["attempt"], &done["exit_code"]), (&Value::from(1), &Value::from(0)));
    // With the output on standard output alone.
    let waited = markus.run(&["order", "--wait", "coffee", "espresso"]);
    assert_eq!((waited.code, waited.stdout.trim()), (0, "one espresso"));
    // Nobody offers tea: the order waits, and says what for.
    assert_eq!(markus.ok(&["order", "tea"]), "3");
    wait_until(SOON, "the reason is known", || task(markus, "3")["why"].as_str().is_some_and(|why| why.contains("tea")));
    assert_eq!(state(markus, "3"), "queued");
    offer(nikki, "tea", 1, &["/bin/echo", "tea"]);
    promised("an order starts once its service is offered", seconds(1), SOON, || state(markus, "3") == "done");
}

#[test]
fn what_ends_while_its_orderer_is_away_waits_for_him() {
    let lab = Lab::new(4);
    let hosts: [&Host; 4] = lab.hosts();
    let [markus, nikki, ..] = hosts;
    start_together(&hosts);
    offer(nikki, "slow", 1, &["/bin/sh", "-c", "sleep 3; echo ready"]);
    await_offers(&hosts, "slow", &[nikki]);
    markus.ok(&["order", "slow"]);
    wait_until(SOON, "it runs", || state(markus, "1") == "running");
    markus.kill9();
    // By the letter that the worker wrote, which others hold; then the worker may go too.
    wait_until(seconds(20), "others hold the outcome", || {
        list(nikki.json(&["sent"])).iter().any(|letter| letter["deliveries"][0]["state"] == "held")
    });
    nikki.kill9();
    markus.start(&[]);
    promised("the outcome is there when its orderer is back", seconds(2), SOON, || state(markus, "1") == "done");
    assert_eq!(markus.ok(&["task", "1", "--stdout"]), "ready");
    wait_until(SOON, "it is in the mailbox, in words", || markus.ok(&["inbox"]).contains("order 1 slow: done"));
}

#[test]
fn orders_go_to_who_is_idle_and_wait_when_nobody_is() {
    let lab = Lab::new(5);
    let hosts: [&Host; 5] = lab.hosts();
    let [markus, workers @ ..] = hosts;
    start_together(&hosts);
    let gate = "while [ ! -e /tmp/swarm-gate-$SWARM_ORDER-$0 ]; do sleep 0.05; done";
    for worker in workers {
        offer(worker, "mill", 1, &["/bin/sh", "-c", gate, lab.name()]);
    }
    await_offers(&hosts, "mill", &workers);
    let open = |order: u64| std::fs::write(format!("/tmp/swarm-gate-{order}-{}", lab.name()), "").expect("a file in /tmp");
    for number in 1..=4 {
        assert_eq!(markus.ok(&["order", "mill"]), number.to_string());
        wait_until(SOON, "it runs", || state(markus, &number.to_string()) == "running");
    }
    let busy: BTreeSet<String> = (1..=4).map(|number| text(&task(markus, &number.to_string())["worker"])).collect();
    assert_eq!(busy.len(), 4, "each went to one that was idle: {busy:?}");
    markus.ok(&["order", "mill"]);
    wait_until(SOON, "it waits, and says why", || {
        let task = task(markus, "5");
        task["state"] == "queued" && task["why"].is_string()
    });
    open(2);
    promised("a waiting order starts when a slot is free", seconds(1), SOON, || state(markus, "5") == "running");
    assert_eq!(task(markus, "5")["worker"], task(markus, "2")["worker"]);
    [1, 3, 4, 5].into_iter().for_each(open);
    wait_until(SOON, "all are done", || mine(markus).values().all(|state| state == "done"));
    (1..=5).for_each(|order| drop(std::fs::remove_file(format!("/tmp/swarm-gate-{order}-{}", lab.name()))));
}

#[test]
fn a_hundred_units_are_spread_over_workers_and_no_limit_is_passed() {
    let lab = Lab::new(4);
    let hosts: [&Host; 4] = lab.hosts();
    let [markus, workers @ ..] = hosts;
    start_together(&hosts);
    // Each run counts those that run beside it on its host.
    let directory = format!("/tmp/{}-units", lab.name());
    std::fs::create_dir_all(&directory).expect("a directory in /tmp");
    let script = "touch $0/$1.$SWARM_UNIT; ls $0 | grep -c \"^$1\\.\"; sleep 0.1; rm $0/$1.$SWARM_UNIT";
    for (worker, limit) in workers.iter().zip([2, 4, 4]) {
        offer(worker, "count", limit, &["/bin/sh", "-c", script, &directory, &worker.name]);
    }
    await_offers(&hosts, "count", &workers);
    let mut arguments = vec!["order", "count", ":::"];
    let items: Vec<String> = (1..=100).map(|item| item.to_string()).collect();
    arguments.extend(items.iter().map(String::as_str));
    markus.ok(&arguments);
    wait_until(seconds(60), "all units are done", || state(markus, "1") == "done");
    let units = list(markus.json(&["task", "1", "--units"]));
    assert_eq!(units.len(), 100);
    let mut by_worker: BTreeMap<String, u64> = BTreeMap::new();
    for unit in &units {
        let worker = text(&unit["worker"]);
        let limit = if worker == workers[0].name { 2 } else { 4 };
        // Lists leave out what was written.
        let beside: u64 = markus.ok(&["task", &text(&unit["id"]), "--stdout"]).parse().expect("a count");
        assert!(beside <= limit, "{beside} at once on {worker}");
        *by_worker.entry(worker).or_default() += 1;
    }
    assert_eq!(by_worker.len(), 3, "{by_worker:?}");
    std::fs::remove_dir_all(&directory).expect("the directory is there");
}

#[test]
fn twenty_five_workers_of_one_service_all_get_work() {
    let lab = Lab::new(26);
    let hosts: [&Host; 26] = lab.hosts();
    let [markus, workers @ ..] = hosts;
    start_together(&hosts);
    for worker in workers {
        // The item comes after it, as an argument of the shell that nobody reads.
        offer(worker, "nap", 1, &["/bin/sh", "-c", "sleep 0.5"]);
    }
    wait_until(seconds(30), "all are known", || list(markus.json(&["who", "nap"])).len() == 25);
    let mut arguments = vec!["order", "nap", ":::"];
    let items: Vec<String> = (1..=25).map(|item| item.to_string()).collect();
    arguments.extend(items.iter().map(String::as_str));
    markus.ok(&arguments);
    wait_until(seconds(60), "all units are done", || state(markus, "1") == "done");
    let workers: BTreeSet<String> = list(markus.json(&["task", "1", "--units"])).iter().map(|unit| text(&unit["worker"])).collect();
    assert_eq!(workers.len(), 25);
}

#[test]
fn no_order_is_lost_or_refused_when_the_dispatcher_is_killed() {
    let lab = Lab::new(5);
    let hosts: [&Host; 5] = lab.hosts();
    start_together(&hosts);
    let leader = leader_of(&hosts);
    let others: Vec<&Host> = hosts.into_iter().filter(|host| host.name != leader.name).collect();
    let (markus, workers) = (others[0], &others[1..]);
    for worker in workers {
        offer(worker, "work", 8, &["/bin/sh", "-c", "sleep $0; echo did"]);
    }
    await_offers(&others, "work", workers);
    let mut numbers = Vec::new();
    let order = |numbers: &mut Vec<String>, tenths: u64| {
        let length = format!("{}.{}", tenths / 10, tenths % 10);
        numbers.push(markus.ok(&["order", "work", &length]));
    };
    (0..100).for_each(|n| order(&mut numbers, 1 + n % 20));
    leader.kill9();
    let killed = Instant::now();
    let killed_at = time_of_day();
    // At the front, so that nothing but the election and a slot is waited for.
    let next = markus.ok(&["order", "--priority", "1", "work", "0.1"]);
    numbers.push(next.clone());
    wait_until(SOON, "a new dispatcher leads", || dispatcher(markus).is_some_and(|(name, _)| name != leader.name));
    println!("a new dispatcher leads after {:.2} s", killed.elapsed().as_secs_f32());
    (0..99).for_each(|n| order(&mut numbers, 1 + n % 20));
    wait_until(seconds(120), "every order is done", || {
        let mine = mine(markus);
        mine.len() == 200 && mine.values().all(|state| state == "done")
    });
    assert_eq!(numbers, (1..=200).map(|number| number.to_string()).collect::<Vec<_>>());
    let restarted = numbers.iter().filter(|number| task(markus, number)["attempt"] != 1).count();
    assert_eq!(restarted, 0, "what runs is adopted, not started again");
    let started = text(&task(markus, &next)["started_at"]);
    let after = (seconds_of(&started) - killed_at).rem_euclid(86_400.0);
    println!("the order placed right after the kill started {after:.2} s after it (promised: 1.00 s)");
    assert!(after < 5.0, "{after} s");
    leader.start(&[]);
    the_record_is_whole(&hosts);
}

#[test]
fn an_order_that_others_hold_is_done_though_its_orderer_and_its_dispatcher_are_gone() {
    let lab = Lab::new(5);
    let hosts: [&Host; 5] = lab.hosts();
    start_together(&hosts);
    let leader = leader_of(&hosts);
    let others: Vec<&Host> = hosts.into_iter().filter(|host| host.name != leader.name).collect();
    let (markus, nikki) = (others[0], others[1]);
    let numbers: Vec<String> = (0..20).map(|_| markus.ok(&["order", "later"])).collect();
    wait_until(SOON, "others hold all", || numbers.iter().all(|number| task(markus, number)["held_by"].as_u64() >= Some(2)));
    markus.kill9();
    leader.kill9();
    offer(nikki, "later", 4, &["/bin/echo", "now"]);
    let ended = || {
        let tasks = list(nikki.json(&["tasks", "--all"]));
        tasks.iter().filter(|task| task["orderer"] == markus.name.as_str() && task["units"]["done"] == 1).count()
    };
    promised("all ran though orderer and dispatcher are gone", seconds(5), seconds(20), || ended() == 20);
    markus.start(&[]);
    wait_until(SOON, "their outcomes are with who ordered them", || mine(markus).values().all(|state| state == "done"));
    assert!(numbers.iter().all(|number| task(markus, number)["attempt"] == 1), "nothing ran twice");
    leader.start(&[]);
    the_record_is_whole(&hosts);
}

#[test]
fn whoever_hands_out_the_work_may_be_killed_again_and_again() {
    const KILLS: usize = 6;
    let lab = Lab::new(5);
    let hosts: [&Host; 5] = lab.hosts();
    start_together(&hosts);
    for host in hosts {
        offer(host, "work", 1, &["/bin/sleep"]);
    }
    await_offers(&hosts, "work", &hosts);
    let markus = hosts[0];
    let mut numbers: Vec<String> =
        (0..200_u64).map(|n| markus.ok(&["order", "work", &format!("{}.{}", (1 + n % 20) / 10, (1 + n % 20) % 10)])).collect();
    for _ in 0..KILLS {
        wait_until(seconds(30), "all see each other and one leads", || settled(&hosts));
        let leader = leader_of(&hosts);
        leader.kill9();
        let killed = Instant::now();
        // In front of all, from whoever is there.
        let other = hosts.into_iter().find(|host| host.name != leader.name).expect("four others");
        let next = other.ok(&["order", "--priority", "1", "work", "0"]);
        wait_until(SOON, "an order placed now is done", || state(other, &next) == "done");
        println!("killed: an order placed then is done {:.2} s later", killed.elapsed().as_secs_f32());
        leader.start(&[]);
        if other.name == markus.name {
            numbers.push(next);
        }
    }
    wait_until(seconds(120), "every order is done", || {
        let mine = mine(markus);
        numbers.iter().all(|number| mine.get(&number.parse().expect("a number")).is_some_and(|state| state == "done"))
    });
    the_record_is_whole(&hosts);
}

fn time_of_day() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is set");
    since.as_secs_f64().rem_euclid(86_400.0)
}

/// The seconds since midnight of an instant like `2026-01-01T12:34:56.789Z`.
fn seconds_of(instant: &str) -> f64 {
    let time = instant.split_once('T').expect("a date and a time").1.trim_end_matches('Z');
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().expect("a number"))
}

#[test]
fn a_killed_worker_leaves_no_process_and_its_work_is_done_elsewhere() {
    let lab = Lab::new(4);
    let hosts: [&Host; 4] = lab.hosts();
    start_together(&hosts);
    let leader = leader_of(&hosts);
    let others: Vec<&Host> = hosts.into_iter().filter(|host| host.name != leader.name).collect();
    let [markus, nikki, ada] = others[..] else { unreachable!() };
    // A name that no other process has, and a child that leaves its group.
    let mark = format!("31{}", std::process::id());
    let script = format!("setsid sleep {mark} & sleep {mark}");
    offer(nikki, "hang", 1, &["/bin/sh", "-c", &script]);
    await_offers(&hosts, "hang", &[nikki]);
    markus.ok(&["order", "hang"]);
    wait_until(SOON, "it runs", || state(markus, "1") == "running" && processes(&mark) == 3);
    offer(ada, "hang", 1, &["/bin/echo", "rescued"]);
    await_offers(&hosts, "hang", &[nikki, ada]);
    nikki.kill9();
    promised("no process of a killed worker is left", seconds(10), seconds(15), || processes(&mark) == 0);
    wait_until(seconds(45), "it is done elsewhere", || state(markus, "1") == "done");
    let done = task(markus, "1");
    assert_eq!((text(&done["worker"]), done["attempt"].as_u64()), (ada.name.clone(), Some(2)));
    nikki.start(&[]);
    the_record_is_whole(&hosts);
}

/// How many processes have this word in their command line.
fn processes(word: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(word.len()).any(|part| part == word.as_bytes())).count()
}

#[test]
fn cancelled_tasks_stop_and_say_so() {
    let lab = Lab::new(3);
    let hosts: [&Host; 3] = lab.hosts();
    let [markus, nikki, _] = hosts;
    start_together(&hosts);
    let mark = format!("32{}", std::process::id());
    // Deaf to SIGTERM, with a child that left its group.
    let script = format!("trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep {mark}' & while :; do :; done # {mark}");
    offer(nikki, "spin", 1, &["/bin/sh", "-c", &script]);
    await_offers(&hosts, "spin", &[nikki]);
    markus.ok(&["order", "spin"]);
    wait_until(SOON, "it runs", || state(markus, "1") == "running");
    markus.ok(&["order", "spin"]);
    wait_until(SOON, "the second waits", || state(markus, "2") == "queued");
    // Waiting: at once.
    markus.ok(&["cancel", "2"]);
    promised("a waiting order is cancelled", seconds(1), SOON, || state(markus, "2") == "cancelled");
    assert_eq!(state(markus, "1"), "running");
    // Running: the truth is shown until it is gone.
    markus.ok(&["cancel", "1"]);
    assert_eq!(state(markus, "1"), "cancelling");
    promised("a deaf busy loop is gone", seconds(6), seconds(12), || state(markus, "1") == "cancelled");
    assert_eq!(processes(&mark), 0, "nothing of it is left");
    // Somebody else's, ended and unknown ones.
    let refused = |id: &str| {
        let said = markus.run(&["cancel", id]);
        (said.code, said.stderr)
    };
    let stranger = refused(&format!("{}/1", nikki.name));
    assert_eq!(stranger.0, 1, "{}", stranger.1);
    let unknown = refused("99");
    assert_eq!(unknown.0, 2, "{}", unknown.1);
}

#[test]
fn the_queue_keeps_the_priorities_literally() {
    let lab = Lab::new(2);
    let hosts: [&Host; 2] = lab.hosts();
    let [markus, nikki] = hosts;
    start_together(&hosts);
    let place = |priority: &str| markus.ok(&["order", "--priority", priority, "later"]);
    let orders: Vec<String> = ["3", "3", "3", "3", "2", "1", "1"].into_iter().map(place).collect();
    let positions = || -> Vec<Option<u64>> {
        let standing = |order: &String| nikki.json(&["task", &format!("{}/{order}", markus.name)])["position"].as_u64();
        orders.iter().map(standing).collect()
    };
    // Behind: 1s in their order, then two 3s, the 2, two 3s.
    let wanted: Vec<Option<u64>> = [3, 4, 6, 7, 5, 1, 2].into_iter().map(Some).collect();
    wait_until(SOON, "all are queued", || positions() == wanted);
    offer(nikki, "later", 1, &["/bin/echo", "now"]);
    wait_until(SOON, "all are done", || mine(markus).values().all(|state| state == "done"));
    let started: BTreeMap<String, String> = orders.iter().map(|order| (text(&task(markus, order)["started_at"]), order.clone())).collect();
    println!("in the order of starting: {:?}", started.values().collect::<Vec<_>>());
}
