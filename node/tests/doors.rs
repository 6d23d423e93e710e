//! The program as its users meet it: the binary, its exit codes and what it says. Over loopback, without multicast.

mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use program::{Node, Running, banner, fed, node, pair, run, terminal, told, until};

#[test]
fn a_node_whose_database_is_deleted_says_so_and_ends_with_74() {
    let node = Node::start("ann");
    std::fs::remove_file(node.dir.join("swarm.redb")).expect("it is there");
    let (code, said) = node.process.last_words();
    assert_eq!(code, Some(74), "{said}");
    assert!(said.contains("the database file is gone while the node runs"), "{said}");
}

#[test]
fn a_lost_database_or_key_is_the_disks_fault_and_names_the_way_out() {
    let mut node = Node::start("ann");
    assert!(node.ask(&["stop"]).status.success());
    assert!(node.process.ended().success());
    let dir = &node.dir;
    let refused = |what: &str| {
        let (code, said) = Running::new(run(dir, "ann")).last_words();
        assert_eq!(code, Some(74), "{said}");
        assert!(said.contains(what) && said.contains("run --start-over"), "{said}");
    };
    let aside = |file: &str| std::fs::rename(dir.join(file), dir.join("aside")).expect("it is there");
    let back = |file: &str| std::fs::rename(dir.join("aside"), dir.join(file)).expect("it was put aside");
    aside("swarm.redb");
    refused("the database is missing");
    back("swarm.redb");
    aside("key");
    refused("a database but no key");
    back("key");
    aside("swarm.redb");
    std::fs::write(dir.join("swarm.redb"), vec![0xff; 8192]).expect("the directory is ours");
    refused("from a copy");
}

#[test]
fn whoever_begins_anew_is_told_what_is_lost() {
    let mut node = Node::start("ann");
    assert!(node.ask(&["stop"]).status.success());
    assert!(node.process.ended().success());
    let anew = || {
        let mut command = run(&node.dir, "ann");
        command.arg("--start-over");
        let (mut process, text) = banner(command);
        assert!(node.ask(&["stop"]).status.success());
        assert!(process.ended().success());
        text
    };
    let text = anew();
    assert!(text.contains("begins anew") && text.contains("swarm.redb.old-") && text.contains("the key is kept"), "{text}");
    std::fs::remove_file(node.dir.join("key")).expect("it is there");
    std::fs::remove_file(node.dir.join("swarm.redb")).expect("it is there");
    let text = anew();
    assert!(text.contains("the database that is missing") && text.contains("with a new id"), "{text}");
    let (_, text) = banner(run(&node.dir, "ann"));
    assert!(!text.contains("anew"), "{text}");
}

#[test]
fn a_backup_is_taken_while_the_node_runs_and_put_back_where_nothing_is() {
    let mut node = Node::start("ann");
    node.address();
    let base = tempfile::tempdir().expect("a directory for the test");
    let (file, dir) = (base.path().join("ann.backup"), base.path().join("back"));
    let path = file.to_str().expect("text");
    let (code, _, said) = node.says(&["send", "--later", "somebody", "-m", "x"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, out, said) = node.says(&["backup", path, "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let made: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((made["peer"]["name"].as_str(), made["bytes"].as_u64()), (Some("ann"), file.metadata().map(|file| file.len()).ok()));
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.metadata().expect("it is there").permissions()) & 0o777, 0o600);
    let (code, _, said) = node.says(&["backup", path]);
    assert!(code == Some(1) && said.contains("is there already") && said.contains("--replace"), "{said}");
    assert_eq!(node.says(&["backup", path, "--replace"]), (Some(0), String::new(), String::new()));
    let nowhere = base.path().join("no/such/file");
    let (code, _, said) = node.says(&["backup", nowhere.to_str().expect("text")]);
    assert!(code == Some(2) && said.contains("there is no directory"), "{said}");
    assert_eq!(std::fs::read_dir(base.path()).expect("a directory").count(), 1, "nothing else is left");

    let restore = |dir: &Path, file: &str| told(&self::node(dir, &["restore", file]).output().expect("the program starts"));
    let (code, _, said) = restore(&dir, path);
    assert!(code == Some(1) && said.contains("ann is running, at /ip4/127.0.0.1/tcp/") && said.contains("node stop"), "{said}");
    let epoch = |says: (Option<i32>, String, String)| {
        let status: serde_json::Value = serde_json::from_str(&says.1).expect("JSON");
        (status["epoch"].as_str().expect("an epoch").to_owned(), status["letters"]["sent"].as_u64())
    };
    let before = epoch(node.says(&["status", "--json"]));
    assert!(node.ask(&["stop"]).status.success());
    assert!(node.process.ended().success());
    let (code, _, said) = restore(&node.dir, path);
    assert!(code == Some(1) && said.contains("is not empty") && said.contains("--data-dir"), "{said}");
    let (code, _, said) = restore(&dir, &format!("{path}-not-there"));
    assert!(code == Some(2) && said.contains("No such file"), "{said}");
    std::fs::write(base.path().join("cut"), &std::fs::read(&file).expect("it is there")[..700]).expect("written");
    let (code, _, said) = restore(&dir, base.path().join("cut").to_str().expect("text"));
    assert!(code == Some(1) && said.contains("it is not whole: it ends too early"), "{said}");
    assert!(!dir.exists());
    let (code, out, said) = restore(&dir, path);
    assert!(code == Some(0) && out.contains("goes on under a new epoch"), "{said}");
    let (mut process, _) = banner(run(&dir, "ann"));
    let after = epoch(told(&self::node(&dir, &["status", "--json"]).output().expect("the program starts")));
    assert!(after.0 != before.0 && after.1 == before.1, "{before:?} {after:?}");
    assert!(self::node(&dir, &["stop"]).output().expect("the program starts").status.success());
    assert!(process.ended().success());
}

#[test]
fn services_in_the_file_are_offered_at_each_start_until_they_are_taken_out() {
    let base = tempfile::tempdir().expect("a directory for the test");
    let dir = base.path().join("ann");
    std::fs::create_dir(&dir).expect("the directory is ours");
    std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("the directory is ours");
    let file = dir.join("node.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("the directory is ours");
    let says = |words: &[&str]| told(&node(&dir, words).output().expect("the program starts"));
    let runs = |during: &dyn Fn(String)| {
        let (mut process, text) = banner(run(&dir, "ann"));
        during(text);
        assert_eq!(says(&["stop"]).0, Some(0));
        assert!(process.ended().success());
    };
    let offered = || says(&["services"]).1;
    write("[services.e]\nbuiltin = \"echo\"\nallow = \"anyone\"\n\n[services.t]\ncommand = [\"/bin/true\"]\nallow = [\"nobody-yet\"]\n");
    runs(&|text| {
        assert!(offered().lines().any(|line| line.starts_with("e ")), "{}", offered());
        assert!(text.contains("warning: t is not offered") && text.contains("node.toml, line 5"), "{text}");
        let (code, out, _) = says(&["withdraw", "e"]);
        assert!(code == Some(0) && out.contains("node.toml") && out.contains("at the next start"), "{out}");
        assert_eq!(offered(), "");
        assert_eq!(says(&["offer", "mine", "--allow", "anyone", "--builtin", "echo"]).0, Some(0));
        assert!(!says(&["withdraw", "mine"]).1.contains("node.toml"));
        assert_eq!(says(&["offer", "mine", "--allow", "anyone", "--builtin", "echo"]).0, Some(0));
    });
    runs(&|_| assert!(offered().contains("\ne ") && offered().contains("\nmine "), "{}", offered()));
    write("swarm = \"lan\"\n");
    runs(&|_| assert!(!offered().contains("\ne ") && offered().contains("\nmine "), "{}", offered()));
    for (text, says) in [
        (
            "[services.e]\nbuiltin = \"echo\"\nallow = \"anyone\"\nlimit = 0\n",
            "node.toml, line 1: e cannot be offered: 0 at once cannot be",
        ),
        ("[services.e]\nbuiltin = \"echo\"\n", "who may order it?"),
        (
            "[services.e]\nbuiltin = \"echo\"\nallow = \"anyone\"\ncores = 60000\n",
            "node.toml, line 1: e cannot be offered: each run would take 60000 cores and this machine has",
        ),
        ("[services.e]\nbuiltin = \"echo\"\nallow = \"anyone\"\nmemory = \"1000T\"\n", "so that it would never run"),
        ("[services.e]\ncommand = [\"/no/such/brew\"]\nallow = \"anyone\"\n", "/no/such/brew cannot be run"),
        ("\n[services.e]\nbuilt_in = \"echo\"\n", "node.toml, line 3: unknown field `built_in`"),
        ("port = 7\n", "node.toml, line 1: unknown field `port`, expected one of `name`"),
    ] {
        write(text);
        let (code, said) = Running::new(run(&dir, "ann")).last_words();
        assert!(code == Some(2) && said.contains(says) && said.contains("run --help"), "{text}: {said}");
    }
}

#[test]
fn a_node_that_can_listen_nowhere_it_was_told_to_is_not_started() {
    let base = tempfile::tempdir().expect("a directory for the test");
    let dir = base.path().join("ann");
    // Nobody has this address (RFC 5737).
    let mut command = node(&dir, &["run", "--name", "ann", "--no-mdns", "--listen", "/ip4/192.0.2.1/tcp/6174"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let (code, said) = Running::new(command).last_words();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot listen at /ip4/192.0.2.1/tcp/6174") && said.contains("--listen /ip4/0.0.0.0/tcp/6174"), "{said}");
    assert!(!dir.exists());
}

#[test]
fn a_named_peer_that_cannot_be_found_is_said_at_the_start_and_in_status() {
    let base = tempfile::tempdir().expect("a directory for the test");
    let dir = base.path().join("ann");
    let mut command = run(&dir, "ann");
    let mut process = Running::new({
        command.args(["--peer", "no-such-host.invalid"]).stdout(Stdio::piped());
        command
    });
    let mut lines = BufReader::new(process.0.stdout.take().expect("piped")).lines();
    let said = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("warning"))).expect("it is said").expect("text");
    assert!(said.contains("the name no-such-host.invalid cannot be resolved; is it right?"), "{said}");
    let (_, status, _) = told(&node(&dir, &["status"]).output().expect("the program starts"));
    assert!(status.contains("tried    no-such-host.invalid:6174: nobody is reached yet: the name"), "{status}");
}

#[test]
fn no_address_of_a_former_run_is_shown() {
    let mut node = Node::start("ann");
    let before = node.address();
    assert!(node.ask(&["stop"]).status.success());
    assert!(node.process.ended().success());
    // Its port is taken by the time that it comes back.
    let port = before.rsplit('/').next().and_then(|port| port.parse().ok()).expect("a port");
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("it was let go of");
    let (_process, text) = banner(run(&node.dir, "ann"));
    assert!(text.contains("127.0.0.1:") && !text.contains(&format!("127.0.0.1:{port}\n")), "{text}");
}

#[test]
fn each_letter_that_is_to_be_discarded_is_handled_and_told() {
    let node = Node::start("ann");
    let send = |to: &str| {
        let (code, id, said) = node.says(&["send", to, "--later", "-m", "x"]);
        assert_eq!(code, Some(0), "{said}");
        id.trim().to_owned()
    };
    let (first, second) = (send("nobody"), send("nobody"));
    let (code, out, err) = node.says(&["discard", &first, "zzzzzzzz", &second]);
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(out.matches("discarded: it will not arrive").count(), 2, "{out}");
    assert!(err.contains("zzzzzzzz") && !err.contains("nothing was"), "{err}");
    let (code, out, _) = node.says(&["discard", "--json", &send("nobody"), "zzzzzzzz", &send("nobody")]);
    let letters: Vec<serde_json::Value> = serde_json::from_str(&out).expect("one document");
    assert_eq!((code, letters.len()), (Some(1), 2));
}

#[test]
fn a_killed_node_can_be_started_again_at_once() {
    let mut node = Node::start("ann");
    for _ in 0..3 {
        // Not waited for: what its death takes is the next one's matter.
        node.process.0.kill().expect("it is our child");
        let next = Running::new(run(&node.dir, "ann"));
        let mut killed = std::mem::replace(&mut node.process, next);
        killed.ended();
        until("it answers", || {
            assert!(node.process.0.try_wait().expect("it is our child").is_none(), "it gave up");
            node.ask(&["status"]).status.success().then_some(())
        });
    }
}

#[test]
fn what_cannot_be_meant_ends_with_2_and_a_sentence() {
    let node = Node::start("ann");
    let own = node.address();
    for (words, exit, says) in [
        (&["connect", "/ip4/bogus"][..], 2, "is not a multiaddr of a TCP port"),
        (&["sent", ""], 2, "a letter's id has 26 characters"),
        (&["read", "x"], 2, "a letter's id has 26 characters"),
        (&["connect", &own], 1, "is this node's own address"),
        (&["connect", "no-such-host.invalid"], 1, "no host called no-such-host.invalid is found"),
        (&["log", "--local", "--what", "foo"], 2, "all kinds: node log --data-dir"),
        (&["log", "--local", "--order", "99"], 2, "this node has placed no order 99"),
        (&["log", "--local", "--letter", "0000"], 2, "no letter whose id begins with 0000 is known"),
        (&["task", "99", "--history"], 2, "this node has placed no order 99"),
        (&["sent", "0000", "--history"], 2, "no letter whose id begins with 0000 is known"),
    ] {
        let (code, _, said) = node.says(words);
        assert_eq!(code, Some(exit), "{words:?}: {said}");
        assert!(said.contains(says) && !said.contains("/v1/") && !said.contains("Query {"), "{words:?}: {said}");
    }
    let dir = node.dir.with_file_name("other");
    let (code, kinds, _) = told(&self::node(&dir, &["log", "--what", "help"]).output().expect("the program starts"));
    assert!(
        code == Some(0)
            && kinds.lines().any(|word| word == "letter_accepted")
            && kinds.lines().count() == protocol::segment::What::WORDS.len(),
        "{kinds}"
    );
    let (code, _, said) = told(&self::node(&dir, &["run", "--log", "=!"]).output().expect("the program starts"));
    assert!(code == Some(2) && said.contains("--log node=debug"), "{said}");
}

#[test]
fn services_and_orders_that_cannot_be_meant_end_with_a_sentence_that_says_what_to_type() {
    let node = Node::start("ann");
    for (words, exit, says) in [
        (&["order", "coffee", "latte", "--wait"][..], 2, "put `--wait` before `coffee`, or write `order coffee -- latte --wait`"),
        (&["order", "coffee", "--help"], 2, "put `--help` before `coffee`, or write `order coffee -- --help`"),
        (&["order", "--wiat", "coffee"], 2, "order has no option --wiat"),
        (&["order", "--priority", "4", "coffee"], 2, "a priority is 1 (front), 2 (middle) or 3"),
        (&["order", "--cores", "0", "coffee"], 2, "cores are a whole number"),
        (&["order", "--memory", "4", "coffee"], 2, "like 512M or 4G"),
        (&["order", "--expires", "0s", "coffee"], 2, "no time at all"),
        (&["order", "a/b"], 2, "cannot be a service"),
        (&["order", "resize", ":::"], 2, "no item stands after :::"),
        (&["order", "resize", ":::", "a", ":::", "b"], 2, "::: stands twice"),
        (&["order", "--expires", "99999d", "coffee"], 2, "longer than the longest, 36600d"),
        (&["order", "--json", "--expires", "30", "coffee"], 2, "{\"candidates\":[],\"code\":\"usage\""),
        (&["order", "--batch"], 2, "no orders stand on standard input"),
        (&["send", "--batch"], 2, "no letters stand on standard input"),
        (&["offer", "s", "--allow", "anyone", "--", "/tmp"], 2, "/tmp is a directory, not a program"),
        (&["offer", "coffee", "brew"], 2, " coffee --allow anyone -- brew"),
        (&["offer", "coffee", "--", "no-such-program-here"], 2, "no program called no-such-program-here"),
        (&["offer", "e", "--builtin", "echo"], 2, "add --allow PEER… for some, or --allow anyone"),
        (&["offer", "e", "--builtin", "echo", "--allow", "nobody"], 2, "nobody called nobody is known"),
        (&["withdraw", "a b"], 2, "cannot be a service"),
        (&["task"], 1, "has placed no order yet"),
        (&["task", "99"], 2, "placed no order 99"),
        (&["task", "x"], 2, "like 17, nikki-pi/17 or 17.3"),
        (&["task", "99", "--stdout"], 2, "placed no order 99"),
        (&["wait", "99"], 2, "placed no order 99"),
        (&["cancel", "nobody/1"], 2, "nobody called nobody is known"),
        (&["cancel", "1.2"], 2, "node cancel --data-dir"),
        (&["query", "swarm", "what=x"], 2, "what=peers  what=services"),
        (&["query", "nobody", "what=status"], 2, "nobody called nobody is known"),
        (&["services", "nobody"], 2, "nobody called nobody is known"),
        (&["dispatcher", "--transfer", "nobody"], 2, "nobody called nobody is known"),
        (&["order", "nosuch"], 0, "nobody here is known to offer nosuch; order 1 starts when somebody does"),
    ] {
        // Where the node is told of stands before SERVICE.
        let mut command = self::node(&node.dir, &[]);
        let (code, _, said) = told(&command.args(words).output().expect("the program starts"));
        assert_eq!(code, Some(exit), "{words:?}: {said}");
        assert!(said.contains(says) && !said.contains("/v1/"), "{words:?}: {said}");
    }
}

#[test]
fn a_chat_in_a_pipe_says_which_line_was_refused_and_ends_with_1() {
    let (ann, bea) = pair();
    let (code, _, said) = ann.fed(&["chat", "bea"], b"Hello\n\xff\xfe\nagain\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("line 2: it is not UTF-8"), "{said}");
    until("what is text arrives", || {
        let (_, inbox, _) = bea.says(&["inbox"]);
        (inbox.contains("Hello") && inbox.contains("again")).then_some(())
    });
    let (code, _, said) = ann.fed(&["chat", "nobody-here"], b"Hello\n");
    assert_ne!(code, Some(0), "{said}");
    assert_eq!(ann.fed(&["chat", "bea"], b"Hello\n").0, Some(0));
}

#[test]
fn a_batch_says_in_one_sentence_which_line_is_wrong() {
    let node = Node::start("ann");
    let (code, _, said) = node.fed(&["send", "--batch"], b"{\"to\":[\"bea\"],\"payload\":\"x\",\"later\":true}\n\n{\"to\":3}\nnonsense\n");
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(
        said,
        "error: line 3: the number `3`, expected a list (column 7)\nerror: line 4: this is not JSON: expected ident (column 2)\n"
    );
}

#[test]
fn a_batch_in_json_answers_each_line_by_its_number() {
    let node = Node::start("ann");
    let mut command = self::node(&node.dir, &[]);
    let orders = b"{\"service\":\"tea\"}\n\n{\"service\":3}\n{\"service\":\"tea\"}\n";
    command.args(["order", "--batch", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (code, out, err) = fed(Running::new(command), orders);
    // What is odd is told once, beside the answers.
    let warning: serde_json::Value = serde_json::from_str(&err).expect("JSON");
    assert!(
        code == Some(1) && warning["warning"].as_str().is_some_and(|said| said.starts_with("nobody here is known to offer tea; ")),
        "{err}"
    );
    let answers: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<_> = answers.iter().map(|answer| (answer["line"].as_u64(), answer["order"].as_u64(), answer["code"].as_str())).collect();
    assert_eq!(told, [(Some(1), Some(1), None), (Some(3), None, Some("malformed")), (Some(4), Some(2), None)]);
    let (code, out, _) = node.fed(&["send", "--batch", "--json"], b"{\"to\":[\"bea\"],\"payload\":\"x\",\"later\":true}\n{}\n");
    let answers: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((code, answers.len()), (Some(1), 2), "{out}");
    assert!(answers[0]["line"] == 1 && answers[0]["id"].is_string() && answers[1]["line"] == 2, "{out}");
}

#[test]
fn who_waits_in_vain_reads_which_order_it_was_also_in_json() {
    let node = Node::start("ann");
    let mut command = self::node(&node.dir, &[]);
    let (code, out, err) =
        told(&command.args(["order", "--json", "--wait", "--timeout", "1s", "tea"]).output().expect("the program starts"));
    assert_eq!((code, out.as_str()), (Some(4), ""), "{err}");
    let problem: serde_json::Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!((&problem["order"], &problem["code"]), (&1.into(), &"pending".into()), "{err}");
    let (code, _, err) = node.says(&["wait", "1", "--json", "--timeout", "1s"]);
    let problem: serde_json::Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!((code, &problem["order"], &problem["id"]), (Some(4), &1.into(), &"1".into()), "{err}");
}

#[test]
fn an_order_that_nobody_can_ever_run_is_warned_of_also_in_a_pipe() {
    let node = Node::start("ann");
    assert_eq!(node.says(&["offer", "e", "--builtin", "echo", "--allow", "anyone"]).0, Some(0));
    let mut command = self::node(&node.dir, &[]);
    let (code, out, err) = told(&command.args(["order", "--software", "moon", "e"]).output().expect("the program starts"));
    assert_eq!((code, out.as_str()), (Some(0), "1\n"), "{err}");
    assert!(err.starts_with("warning: order 1 can run nowhere here: needs the software moon, which no worker has declared"), "{err}");
    let mut command = self::node(&node.dir, &[]);
    let (code, out, err) = told(&command.args(["order", "--cores", "1", "e"]).output().expect("the program starts"));
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "2\n", ""));
    // To programs it is told, too, and for a batch once.
    let mut command = self::node(&node.dir, &[]);
    let (code, out, err) = told(&command.args(["order", "--json", "nosuch"]).output().expect("the program starts"));
    let warning: serde_json::Value = serde_json::from_str(&err).expect("JSON");
    assert!(code == Some(0) && out.starts_with("{\"order\":3,"), "{out}");
    assert!(warning["warning"].as_str().is_some_and(|said| said.contains("offer nosuch; order 3 starts when somebody does")), "{err}");
    let lines = b"{\"service\":\"nosuch\"}\n\n{\"service\":7}\n{\"service\":\"nosuch\"}\n{\"service\":\"e\"}";
    let (code, out, err) = node.fed(&["order", "--batch"], lines);
    assert_eq!((code, out.as_str()), (Some(1), "4\n5\n6\n"), "{err}");
    let said: Vec<&str> = err.lines().filter(|line| !line.starts_with(' ')).collect();
    assert!(said.len() == 2 && said[0].starts_with("error: line 3: "), "{err}");
    assert!(said[1].starts_with("warning: nobody here is known to offer nosuch; what was ordered of it starts"), "{err}");
    // Whoever waits for several hears of those that are known.
    let (code, out, err) = node.says(&["wait", "2", "999", "6"]);
    assert_eq!((code, out.as_str()), (Some(2), "order 2 done\norder 6 done\n"), "{err}");
    assert!(err.starts_with("error: this node has placed no order 999\n"), "{err}");
}

#[test]
fn lists_of_nothing_are_silent_in_a_pipe_and_say_on_a_terminal_what_to_type() {
    let node = Node::start("ann");
    for words in [&["tasks"][..], &["tasks", "--running"], &["services"], &["workers"], &["sent"], &["inbox"], &["inbox", "--unread"]] {
        assert_eq!(node.says(words), (Some(0), String::new(), String::new()), "{words:?}");
        let mut command = self::node(&node.dir, words);
        let (master, end) = terminal();
        let mut process = Running::new({
            command.env("NO_COLOR", "1").stdout(end).stderr(Stdio::null());
            command
        });
        assert!(process.ended().success(), "{words:?}");
        let mut said = [0; 4096];
        let read = std::fs::File::from(master).read(&mut said).expect("it said something");
        let said = String::from_utf8_lossy(&said[..read]).into_owned();
        assert!(said.contains("no") && said.contains(": node "), "{words:?}: {said}");
    }
}

#[test]
fn whoever_follows_an_inbox_into_a_pipe_that_is_closed_ends_at_once_and_silently() {
    let node = Node::start("ann");
    let mut following = node.spawn(&["inbox", "--follow"]);
    drop(following.0.stdout.take());
    let began = Instant::now();
    let (code, said) = following.last_words();
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn waiting_for_a_rung_ends_on_its_time_and_says_which_was_reached() {
    let node = Node::start("ann");
    let began = Instant::now();
    let (code, _, said) = node.says(&["send", "bea", "-m", "Hello", "--later", "--until", "read", "--timeout", "1s"]);
    let took = began.elapsed();
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("not yet read") && said.contains("bea (accepted)"), "{said}");
    // A busy machine is no bug.
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_line_that_comes_does_not_break_into_the_one_that_is_typed() {
    let (ann, bea) = pair();
    let (master, end) = terminal();
    let again = || end.try_clone().expect("another handle");
    let mut command = node(&bea.dir, &["chat", "ann"]);
    command.env("TERM", "xterm").env("NO_COLOR", "1").stdin(again()).stdout(again()).stderr(end);
    let size = rustix::termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).expect("it is ours");
    let mut chat = Running::new(command);
    let mut typing = std::fs::File::from(master);
    let mut reading = typing.try_clone().expect("a second handle");
    let (out, shown) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut some = [0; 4096];
        // The terminal ends with the last who has it open.
        while let Ok(read @ 1..) = reading.read(&mut some) {
            if out.send(some[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut screen = String::new();
    let mut see = |what: &str, after: &str| {
        until(what, || {
            shown.try_iter().for_each(|piece| screen += &String::from_utf8_lossy(&piece));
            screen.split_once(after).filter(|(_, rest)| rest.contains(what)).map(drop)
        });
    };
    see("> ", "Ctrl-D ends");
    typing.write_all(b"half a li").expect("it listens");
    see("half a li", "> ");
    assert_eq!(ann.says(&["send", "bea", "-m", "meanwhile"]).0, Some(0));
    see("half a li", "ann: meanwhile");
    typing.write_all(b"ne\r").expect("it listens");
    until("it arrives whole", || ann.says(&["inbox"]).1.contains("half a line").then_some(()));
    typing.write_all(b"\x04").expect("it listens");
    assert!(chat.ended().success());
}

/// Set for the child that is somebody else: the socket that it should try.
const SOCKET: &str = "ANOTHER_USERS_SOCKET";

#[test]
fn another_user_gets_no_answer_even_where_the_directory_lets_him_in() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if let Some(socket) = std::env::var_os(SOCKET) {
        let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("everybody is let in");
        // It may be closed before it is written to.
        let _ = stream.write_all(b"POST /v1/stop HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("only root can be somebody else: not tested here");
        return;
    }
    let node = Node::start("ann");
    let open = |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    let base = node.dir.parent().expect("it has one");
    let socket = node.dir.join("control.sock");
    open(base, 0o755);
    open(&node.dir, 0o755);
    open(&socket, 0o666);
    // Where somebody else can run it.
    let this = std::env::current_exe().expect("it is there");
    let program = base.join("somebody");
    std::fs::hard_link(&this, &program).or_else(|_| std::fs::copy(&this, &program).map(drop)).expect("ours");
    let name = "another_user_gets_no_answer_even_where_the_directory_lets_him_in";
    let mut somebody = std::process::Command::new(&program);
    somebody.args(["--exact", name]).env(SOCKET, &socket).current_dir("/").uid(65_534).gid(65_534);
    let (code, out, err) = told(&somebody.output().expect("the program starts"));
    assert!(code == Some(0) && out.contains("1 passed"), "{code:?} {out} {err}");
    assert_eq!(node.ask(&["status"]).status.code(), Some(0), "it was not stopped");
}
