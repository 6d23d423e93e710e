//! Commands that a node is begun, renamed and ended by, and those that need none. Over loopback, without multicast.

mod program;

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use program::{Node, Running, banner, node, pair, run, told, until};

/// Which node is meant stands first: what follows may be all for a service. The exit code.
fn typed(to: &Node, words: &[&str]) -> Option<i32> {
    told(&node(&to.dir, &[]).args(words).output().expect("the program starts")).0
}

#[test]
fn a_node_goes_on_in_the_background_and_its_failures_reach_who_started_it() {
    let base = tempfile::tempdir().expect("a directory for the test");
    let dir = base.path().join("ann");
    let says = |words: &[&str]| told(&node(&dir, words).output().expect("the program starts"));
    let start = || {
        let mut command = run(&dir, "ann");
        told(&command.arg("--detach").stdout(Stdio::piped()).output().expect("the program starts"))
    };
    let (code, out, err) = start();
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("  address  127.0.0.1:") && out.contains("node.log; end it with: node stop"), "{out}");
    assert_eq!(says(&["status"]).0, Some(0), "ready means that it answers");
    // A second one in that directory cannot be.
    let (code, _, err) = start();
    assert!(code == Some(1) && err.contains("in use by a node that runs already"), "{code:?} {err}");
    let log = dir.join("node.log");
    assert_eq!(std::fs::metadata(&log).expect("it is there").permissions().mode() & 0o777, 0o600);
    assert_eq!(says(&["stop"]).0, Some(0));
    until("its last words are in its log", || {
        let said = std::fs::read_to_string(&log).expect("it is there");
        said.contains("stopping").then_some(())
    });
}

#[test]
fn another_name_is_seen_by_others_at_once_and_its_node_warned_of_who_bears_it_too() {
    let (ann, bea) = pair();
    assert_eq!(ann.says(&["rename", "ada"]), (Some(0), "this node is called ada now\n".to_owned(), String::new()));
    until("the other sees it", || bea.says(&["peers"]).1.contains("ada").then_some(()));
    assert_eq!(bea.says(&["send", "ada", "-m", "Hello", "--until", "delivered", "--timeout", "10s"]).0, Some(0));
    let (code, out, err) = ann.says(&["rename", "bea"]);
    assert_eq!((code, out.as_str()), (Some(0), "this node is called bea now\n"));
    assert!(err.starts_with("warning: another peer bears that name: bea@"), "{err}");
    let (code, _, err) = ann.says(&["rename", "me"]);
    assert!(code == Some(2) && err.contains("NEW"), "{err}");
    let (code, out, _) = ann.says(&["rename", "--json", "ada"]);
    let me: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, me["name"].as_str()), (Some(0), Some("ada")));
}

#[test]
fn a_node_that_drains_first_ends_what_runs_and_takes_orders_again_after_its_next_start() {
    let mut ann = Node::start("ann");
    assert_eq!(typed(&ann, &["offer", "nap", "--allow", "anyone", "--", "/bin/sleep"]), Some(0));
    let order = |seconds: &str| assert_eq!(typed(&ann, &["order", "nap", seconds]), Some(0));
    let running = |id: &str| {
        until("it runs", || {
            let task: serde_json::Value = serde_json::from_str(&ann.says(&["task", id, "--json"]).1).expect("JSON");
            (task["state"] == "running").then_some(())
        });
    };
    order("30");
    running("1");
    let (code, _, err) = ann.says(&["stop", "--drain", "--timeout", "1s"]);
    assert!(code == Some(4) && err.contains("1 unit still running; the node was not stopped"), "{code:?} {err}");
    assert_eq!((ann.says(&["cancel", "1"]).0, ann.says(&["drain", "--off"]).0), (Some(0), Some(0)));
    order("1");
    running("2");
    let (code, out, err) = ann.says(&["stop", "--drain"]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    assert!(err.contains("1 unit to finish before the node stops"), "{err}");
    assert!(ann.process.ended().success());
    let (_again, _) = banner(run(&ann.dir, "ann"));
    let (_, tasks, _) = ann.says(&["tasks", "--all"]);
    assert!(tasks.contains("done"), "{tasks}");
    let status: serde_json::Value = serde_json::from_str(&ann.says(&["status", "--json"]).1).expect("JSON");
    assert_eq!(status["orders"]["draining"], false, "{status}");
}

#[test]
fn a_swarm_with_a_key_lets_in_who_has_it_and_nobody_else() {
    let base = tempfile::tempdir().expect("a directory for the test");
    let nowhere = base.path().join("nowhere");
    let key = |file: &str| {
        let path = base.path().join(file);
        let (code, out, err) = told(&node(&nowhere, &["key", "new", &path.to_string_lossy()]).output().expect("the program starts"));
        assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", ""));
        path
    };
    let (key, other) = (key("swarm.key"), key("other.key"));
    let (code, _, err) = told(&node(&nowhere, &["key", "new", &key.to_string_lossy()]).output().expect("the program starts"));
    assert!(code == Some(1) && err.contains("is there already"), "{err}");
    assert!(!nowhere.exists(), "no node is needed");
    let start = |name: &str, key: &std::path::Path| {
        let dir = base.path().join(name);
        let mut command = run(&dir, name);
        command.arg("--swarm-key").arg(key);
        (banner(command), dir)
    };
    let ((_ann, text), ann) = start("ann", &key);
    assert!(text.contains("closed: only with its key"), "{text}");
    let address = text.lines().find_map(|line| line.strip_prefix("  address  ")).expect("it listens").to_owned();
    let ((_bea, _), bea) = start("bea", &key);
    let ((_eve, _), eve) = start("eve", &other);
    let connect = |dir: &std::path::Path| told(&node(dir, &["connect", &address]).output().expect("the program starts"));
    assert_eq!(connect(&bea).0, Some(0));
    assert_eq!(connect(&eve).0, Some(1));
    let (_, peers, _) = told(&node(&ann, &["peers"]).output().expect("the program starts"));
    assert!(peers.contains("bea") && !peers.contains("eve"), "{peers}");
}

#[test]
fn shells_and_manuals_are_told_every_command_under_the_name_of_the_program() {
    let base = tempfile::tempdir().expect("a directory for the test");
    let swarm = base.path().join("swarm");
    std::fs::hard_link(env!("CARGO_BIN_EXE_node"), &swarm)
        .or_else(|_| std::fs::copy(env!("CARGO_BIN_EXE_node"), &swarm).map(drop))
        .expect("ours");
    let says = |words: &[&str]| told(&std::process::Command::new(&swarm).args(words).output().expect("the program starts"));
    for (shell, hook) in [("bash", "complete -F _swarm"), ("zsh", "#compdef swarm"), ("fish", "complete -c swarm")] {
        let (code, out, _) = says(&["completions", shell]);
        assert!(code == Some(0) && out.contains(hook) && out.contains("until-peers"), "{shell}");
    }
    let pages = base.path().join("man");
    std::fs::create_dir(&pages).expect("ours");
    assert_eq!(says(&["manual", &pages.to_string_lossy()]).0, Some(0));
    let page = std::fs::read_to_string(pages.join("swarm-send.1")).expect("each command has a page");
    assert!(page.contains("swarm\\-send") || page.contains("swarm send"), "{page}");
    let (code, _, err) = says(&["manual", "/nonexistent/dir"]);
    assert!(code == Some(1) && err.contains("cannot be written"), "{err}");
}

#[test]
fn whoever_interrupts_what_waits_for_a_drain_leaves_the_node_as_it_was_told() {
    let ann = Node::start("ann");
    assert_eq!(typed(&ann, &["offer", "nap", "--allow", "anyone", "--", "/bin/sleep"]), Some(0));
    assert_eq!(typed(&ann, &["order", "nap", "30"]), Some(0));
    until("it runs", || ann.says(&["task", "1"]).1.contains("running").then_some(()));
    let mut draining: Running = ann.spawn(&["stop", "--drain"]);
    until("it drains", || ann.says(&["status"]).1.contains("nothing new is taken").then_some(()));
    let pid = rustix::process::Pid::from_child(&draining.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is our child");
    let began = Instant::now();
    let ended = draining.ended();
    assert!(ended.code() == Some(130) && began.elapsed() < Duration::from_secs(5), "{ended}");
    assert_eq!(ann.says(&["status"]).0, Some(0), "the node goes on");
}

#[test]
fn a_service_manager_is_told_when_the_node_is_ready_and_when_it_stops() {
    let base = tempfile::tempdir().expect("a directory for the test");
    let manager = std::os::unix::net::UnixDatagram::bind(base.path().join("notify")).expect("ours");
    manager.set_read_timeout(Some(Duration::from_secs(20))).expect("a bound");
    let told_of = |wanted: &str| {
        let mut said = [0; 256];
        let read = manager.recv(&mut said).expect("it is told in time");
        assert_eq!(String::from_utf8_lossy(&said[..read]).trim_end(), wanted);
    };
    let dir = base.path().join("ann");
    let mut command = run(&dir, "ann");
    command.env("NOTIFY_SOCKET", base.path().join("notify"));
    let mut process = Running::new(command);
    told_of("READY=1");
    assert_eq!(told(&node(&dir, &["status"]).output().expect("the program starts")).0, Some(0), "ready means that it answers");
    assert_eq!(told(&node(&dir, &["stop"]).output().expect("the program starts")).0, Some(0));
    told_of("STOPPING=1");
    assert!(process.ended().success());
}
