//! A disk that fills, on a LAN of network namespaces, through the command line alone. Needs root, `ip`, `nft` and `mount`.
//! Nothing here sleeps for something to happen: every wait is a condition with a bound.

use std::time::Duration;

use serde_json::Value;
use swarm_tests::lab::{Host, Lab, wait_until};

/// For what is done in a moment, on a machine that compiles at the same time; a node measures its disk every five seconds.
const SOON: Duration = Duration::from_secs(20);

const MIB: u64 = 1 << 20;

fn texts(host: &Host) -> Vec<String> {
    let Value::Array(letters) = host.json(&["inbox"]) else { panic!("a list") };
    let mut texts: Vec<String> = letters.iter().filter_map(|letter| letter["payload"].as_str().map(str::to_owned)).collect();
    texts.sort();
    texts
}

fn is_low(host: &Host) -> bool {
    host.json(&["status"])["disk"]["low"].as_bool().expect("true or false")
}

fn state(host: &Host, letter: &str) -> String {
    host.json(&["sent", letter])["deliveries"][0]["state"].as_str().expect("a state").to_owned()
}

fn deliver(from: &Host, to: &Host, text: &str) -> String {
    from.ok(&["send", &to.name, "-m", text, "--until", "delivered", "--timeout", "20s"])
}

#[test]
fn on_a_full_disk_letters_are_refused_reading_goes_on_nothing_accepted_is_lost_and_all_goes_on_when_there_is_room() {
    let lab = Lab::new(2);
    let [ann, bea] = lab.hosts();
    ann.small_disk(100);
    for host in [ann, bea] {
        host.start(&[]);
    }
    wait_until(SOON, "they see each other", || [ann, bea].iter().all(|host| host.json(&["status"])["peers"]["available"] == 1));
    deliver(ann, bea, "from ann");
    let read = deliver(bea, ann, "to be read");

    ann.fill_disk(5 * MIB);
    wait_until(SOON, "it is noticed", || is_low(ann));
    for refused in [&["send", &bea.name, "-m", "too much"][..], &["order", "anything"]] {
        let output = ann.run(refused);
        assert!(output.code == 1 && output.stderr.contains("bytes are free on the disk"), "{output:?}");
    }
    let waiting = bea.ok(&["send", &ann.name, "-m", "waits for room"]);
    // Receipts and reading go on.
    ann.ok(&["read", &read]);
    wait_until(SOON, "that it was read is told", || state(bea, &read) == "read");
    assert_eq!(state(bea, &waiting), "accepted");
    // So does a start.
    ann.kill9();
    ann.start(&[]);
    assert_eq!(texts(ann), ["to be read"]);
    wait_until(SOON, "it is low still", || is_low(ann));
    assert_eq!(state(bea, &waiting), "accepted");

    ann.free_disk();
    wait_until(SOON, "what waited is taken", || state(bea, &waiting) == "delivered");
    wait_until(SOON, "there is room", || !is_low(ann));
    deliver(ann, bea, "after");

    // Not even the reserve is left: it ends, rather than pretend.
    let (mut inactive, mut said) = (false, 0);
    wait_until(SOON * 3, "it ends", || {
        ann.fill_disk(0);
        let wanted = if inactive { "no" } else { "yes" };
        if ann.run(&["inactive", wanted]).code == 0 {
            inactive = !inactive;
            said += 1;
        }
        ann.ended().is_some_and(|code| {
            assert_eq!(code, 74, "after {said} changes");
            true
        })
    });
    println!("{said} changes were promised on the full disk before it ended");
    ann.free_disk();
    ann.start(&[]);
    assert_eq!(texts(ann), ["to be read", "waits for room"]);
    // The last change may be there without having been promised.
    let status = ann.json(&["status"]);
    println!("inactive: promised {inactive}, there {}", status["inactive"]);
    deliver(ann, bea, "at the end");
    deliver(bea, ann, "to the end");
    assert_eq!(texts(bea), ["after", "at the end", "from ann"]);
    assert_eq!(texts(ann), ["to be read", "to the end", "waits for room"]);
    for host in [ann, bea] {
        host.ok(&["log", "--verify"]);
        host.stop();
    }
}
