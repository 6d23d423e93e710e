//! What a lab asks of the operating system: namespaces, a bridge, addresses, dropped packets.
//! Knows nothing of nodes. Everything made here bears the prefix, and nothing without it is ever touched.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::wait_until;

/// Of all namespaces of tests; the number of the test's process follows.
pub(super) const PREFIX: &str = "swarm-test-";
/// Where `ip netns` keeps its names.
const NAMESPACES: &str = "/run/netns";
/// Killed processes are gone at once, but for what they do in the kernel. Guess.
const GONE: Duration = Duration::from_secs(10);

/// Says what is missing here, in a sentence.
pub(super) fn require() {
    assert!(
        rustix::process::geteuid().is_root(),
        "the tests of the lab make network namespaces: run them as root, for example by `sudo -E cargo test -p swarm-tests --features lab --test lab -- --test-threads=1`"
    );
    for (program, package) in [("ip", "iproute2"), ("nft", "nftables")] {
        let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        assert!(found, "the tests of the lab need `{program}`: apt-get install {package}");
    }
}

/// Removes what tests left behind that were killed before they could.
pub(super) fn sweep() {
    for namespace in namespaces(PREFIX) {
        let owner = namespace.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()).unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            delete(&namespace);
        }
    }
}

/// Puts a disk of so many MiB, of memory, at this directory.
pub(super) fn mount_memory(directory: &Path, mebibytes: u64) {
    let size = format!("size={mebibytes}m,mode=700");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "swarm-test"]).arg(directory).status();
    assert!(mounted.is_ok_and(|status| status.success()), "{} cannot be mounted", directory.display());
}

/// Takes it away again, if there is one.
pub(super) fn unmount(directory: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    if mounts.lines().any(|line| line.split(' ').nth(1) == directory.to_str()) {
        // Whoever still has a file open there is about to end.
        let _ = Command::new("umount").arg("--lazy").arg(directory).status();
    }
}

/// The switch of a LAN, in a namespace of its own: nothing of it is seen outside.
pub(super) fn add_bridge(lab: &str) {
    let bridge = bridge(lab);
    ip(&["netns", "add", &bridge]);
    // Snooping would wait for a multicast querier, which no such bridge has.
    ip(&["-n", &bridge, "link", "add", "lan", "type", "bridge", "mcast_snooping", "0", "forward_delay", "0"]);
    ip(&["-n", &bridge, "link", "set", "lan", "up"]);
}

/// A host on the LAN: its namespace, its cable, its machine id.
pub(super) fn add_host(lab: &str, namespace: &str, number: usize, port: &str, address: &str) {
    let bridge = bridge(lab);
    let settings = settings(namespace);
    fs::create_dir_all(&settings).expect("/etc/netns can be written by root");
    // Bound over /etc/machine-id by `ip netns exec`.
    fs::write(settings.join("machine-id"), format!("{number:032x}\n")).expect("/etc/netns can be written by root");
    ip(&["netns", "add", namespace]);
    ip(&["link", "add", "lan0", "netns", namespace, "type", "veth", "peer", "name", port, "netns", &bridge]);
    ip(&["-n", &bridge, "link", "set", port, "master", "lan", "up"]);
    ip(&["-n", namespace, "link", "set", "lo", "up"]);
    ip(&["-n", namespace, "address", "add", address, "dev", "lan0"]);
    ip(&["-n", namespace, "link", "set", "lan0", "up"]);
}

/// Replaces a host's address.
pub(super) fn change_address(namespace: &str, address: &str) {
    ip(&["-n", namespace, "address", "flush", "dev", "lan0", "scope", "global"]);
    ip(&["-n", namespace, "address", "add", address, "dev", "lan0"]);
}

/// Drops packets by rules, silently. One table a kind of fault: they come and go without knowing of one another.
/// What a host sends is dropped where it enters the bridge: a sender is not told of a packet that is lost on the way.
pub(super) fn drop_packets(lab: &str, namespace: &str, port: &str, kind: &str, incoming: &str, outgoing: &str) {
    let incoming = if incoming.is_empty() { String::new() } else { format!("iifname \"lan0\" {incoming}") };
    let hook = "type filter hook input priority 0";
    nft(namespace, &format!("inet {kind}"), &format!("{hook}\n{incoming}"));
    let hook = format!("type filter hook ingress device \"{port}\" priority 0");
    nft(&bridge(lab), &format!("netdev {kind}_{port}"), &format!("{hook}\n{outgoing}"));
}

/// Replaces a table, in one transaction.
fn nft(namespace: &str, table: &str, chain: &str) {
    let rules = format!("table {table}\ndelete table {table}\ntable {table} {{\nchain lab {{\n{chain}\n}}\n}}\n");
    let mut nft = Command::new("ip")
        .args(["netns", "exec", namespace, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip can be started: require() looked");
    nft.stdin.take().expect("stdin is piped").write_all(rules.as_bytes()).expect("nft reads its rules");
    assert!(nft.wait().expect("nft ends").success(), "nft refuses:\n{rules}");
}

/// Ends all that runs on a LAN and removes it.
pub(super) fn remove(lab: &str) {
    // The dash keeps lab 1 from removing lab 10.
    namespaces(&format!("{lab}-")).iter().for_each(|namespace| delete(namespace));
}

fn bridge(lab: &str) -> String {
    format!("{lab}-bridge")
}

fn settings(namespace: &str) -> PathBuf {
    Path::new("/etc/netns").join(namespace)
}

fn namespaces(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name.starts_with(prefix)).collect()
}

/// Must do what it can and never panic: it is called while a test panics.
fn delete(namespace: &str) {
    for pid in processes(namespace) {
        // Gone meanwhile: that is what is wanted.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    if !std::thread::panicking() {
        wait_until(GONE, "killed processes are gone", || processes(namespace).is_empty());
    }
    let deleted = Command::new("ip").args(["netns", "delete", namespace]).status();
    if !deleted.is_ok_and(|status| status.success()) {
        eprintln!("lab: the namespace {namespace} is left behind: ip netns delete {namespace}");
    }
    // There is none for a bridge.
    let _ = fs::remove_dir_all(settings(namespace));
}

fn processes(namespace: &str) -> Vec<rustix::process::Pid> {
    let output = Command::new("ip").args(["netns", "pids", namespace]).stderr(Stdio::null()).output();
    let listed = output.map(|output| output.stdout).unwrap_or_default();
    let pids = String::from_utf8_lossy(&listed).lines().filter_map(|line| line.trim().parse().ok()).collect::<Vec<i32>>();
    pids.into_iter().filter_map(rustix::process::Pid::from_raw).collect()
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip can be started: require() looked");
    assert!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
}
