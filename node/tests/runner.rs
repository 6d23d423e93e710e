//! Real programs: what they are given, what is kept of what they write, and that nothing of them outlives its try.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use node::driver::Fact;
use node::runner::Runner;
use protocol::Input;
use protocol::config::limits;
use protocol::effect::Run;
use protocol::id::Epoch;
use protocol::input::Exit;
use protocol::order::{Attempt, Excerpt, OrderKey, Try};
use protocol::service::Program;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Longer than anything here should take, even on a busy machine.
const BOUND: Duration = Duration::from_secs(30);
/// Tells the test that hosts tasks where, and with which word its processes are found.
const HOST: &str = "SWARM_RUNNER_TEST_HOST";

fn task(number: u64) -> Try {
    let peer: PeerId = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X".parse().expect("an id");
    let order = OrderKey { orderer: peer, epoch: Epoch(7), number };
    Try { order, unit: 2, attempt: Attempt { term: 1, leader: peer, number: 3 } }
}

fn command(number: u64, words: &[&str]) -> Run {
    Run {
        task: task(number),
        service: "work".parse().expect("a name"),
        at_once: u32::MAX,
        program: Program::Command(words.iter().map(|word| (*word).to_owned()).collect()),
        args: Vec::new(),
        stdin: None,
        time_limit: None,
        orderer: Some("nikki-pi".parse().expect("a name")),
    }
}

fn shell(number: u64, script: &str) -> Run {
    command(number, &["sh", "-c", script])
}

/// How a try ended.
#[derive(Debug)]
struct End {
    exit: Exit,
    stdout: Excerpt,
    stderr: Excerpt,
    ran: Duration,
}

impl End {
    fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout.bytes).into_owned()
    }
}

/// A runner in a directory of its own, and what it says.
struct Bench {
    runner: Runner,
    facts: mpsc::Receiver<Fact>,
    heard: Vec<Input>,
    directory: TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench::within(tempfile::tempdir().expect("a directory"))
    }

    fn within(directory: TempDir) -> Bench {
        let (sender, facts) = mpsc::channel(64);
        let runner = Runner::start(directory.path(), sender).expect("it starts");
        Bench { runner, facts, heard: Vec::new(), directory }
    }

    /// The next thing it says of which something can be made; the others are kept.
    async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&Input) -> Option<T>) -> T {
        let found = tokio::time::timeout(BOUND, async {
            loop {
                if let Some((place, found)) = self.heard.iter().enumerate().find_map(|(place, input)| Some((place, pick(input)?))) {
                    self.heard.remove(place);
                    return found;
                }
                match self.facts.recv().await {
                    Some(Fact::Inputs { inputs, .. }) => self.heard.extend(inputs),
                    other => panic!("not said by a runner: {other:?}"),
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("waited {BOUND:?} for: {what}"))
    }

    async fn end(&mut self, number: u64) -> End {
        let wanted = task(number);
        self.until(&format!("the end of {number}"), |input| match input {
            Input::TaskEnded { task, exit, stdout, stderr, ran } if *task == wanted => {
                Some(End { exit: exit.clone(), stdout: stdout.clone(), stderr: stderr.clone(), ran: *ran })
            }
            _ => None,
        })
        .await
    }

    async fn run(&mut self, run: Run) -> End {
        let number = run.task.order.number;
        self.runner.run(Box::new(run));
        self.end(number).await
    }

    async fn page(&mut self, number: u64, stderr: bool, from: u64) -> (Option<Vec<u8>>, bool) {
        self.runner.read_output(from, task(number), stderr, from);
        self.until("a page", |input| match input {
            Input::OutputRead { token, bytes, more } if *token == from => Some((bytes.clone(), *more)),
            _ => None,
        })
        .await
    }

    /// The directory of the run: the only one beside the outputs.
    fn run_directory(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.directory.path().join("tasks")).expect("it is there");
        let runs = entries.map(|entry| entry.expect("it is there").path());
        runs.filter(|path| !path.ends_with("output")).last().expect("one run")
    }
}

async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < BOUND, "waited {BOUND:?} for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Live processes in whose command line the word stands.
fn with_word(word: &str) -> BTreeSet<i32> {
    let pids = std::fs::read_dir("/proc").expect("a system").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        // That of one that has ended is empty.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id().cast_signed() && String::from_utf8_lossy(&line).contains(word)
    })
    .collect()
}

/// A time to sleep that nobody else sleeps: it is found in the command line of who does.
fn sleep() -> String {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("chance");
    format!("1000.{:010}", u32::from_be_bytes(bytes))
}

#[tokio::test]
async fn echo_answers_with_its_arguments_and_its_input_many_at_a_time() {
    let mut bench = Bench::new();
    let echo = |number| Run { program: Program::Echo, args: vec!["latte".to_owned(), "--no-milk".to_owned()], ..shell(number, "") };
    let end = bench.run(echo(1)).await;
    assert_eq!((end.exit.clone(), end.out(), end.stdout.total), (Exit::Exited(0), "latte --no-milk\n".to_owned(), 16));
    let end = bench.run(Run { stdin: Some(b"milk".to_vec().into()), ..echo(2) }).await;
    assert_eq!(end.out(), "latte --no-milk\nmilk");
    let end = bench.run(Run { stdin: Some(vec![b'x'; 100_000].into()), ..echo(3) }).await;
    assert_eq!((end.stdout.bytes.len(), end.stdout.total), (limits::EXCERPT_BYTES, 100_016));
    (10..10_010).for_each(|number| bench.runner.run(Box::new(echo(number))));
    let mut facts = 0;
    let mut ended = 0;
    while ended < 10_000 {
        let Some(Fact::Inputs { inputs, .. }) = tokio::time::timeout(BOUND, bench.facts.recv()).await.expect("in time") else {
            panic!("facts")
        };
        facts += 1;
        ended += inputs.len();
    }
    assert!(facts < 5_000, "{facts} facts for 10,000 echoes");
}

#[tokio::test]
async fn arguments_are_taken_literally() {
    let mut bench = Bench::new();
    let args = ["$(touch x)", ";", "a b", "line\nbreak", "*", "", "`id`", "--", "ä"];
    let run = Run { args: args.iter().map(|arg| (*arg).to_owned()).collect(), ..command(1, &["printf", "<%s>"]) };
    let end = bench.run(run).await;
    assert_eq!(end.out(), args.map(|arg| format!("<{arg}>")).concat());
    assert_eq!((end.exit, end.stderr.total), (Exit::Exited(0), 0));
}

#[tokio::test]
async fn of_the_environment_only_what_is_promised_is_there() {
    let mut bench = Bench::new();
    let end = bench.run(command(17, &["env"])).await;
    let text = end.out();
    let names: BTreeSet<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let promised = ["HOME", "LANG", "PATH", "SWARM_ATTEMPT", "SWARM_ORDER", "SWARM_ORDERER", "SWARM_TASK", "SWARM_UNIT", "TMPDIR"];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), promised);
    for line in ["SWARM_ORDER=17", "SWARM_UNIT=2", "SWARM_ATTEMPT=3", "SWARM_ORDERER=nikki-pi"] {
        assert!(text.lines().any(|there| there == line), "{line} in {text}");
    }
    let end = bench.run(Run { orderer: None, ..command(18, &["sh", "-c", "echo $SWARM_ORDERER"]) }).await;
    assert_eq!(end.out(), format!("{}\n", task(18).order.orderer));
}

#[tokio::test]
async fn each_has_a_directory_of_its_own_that_goes_with_it() {
    let mut bench = Bench::new();
    let end = bench
        .run(shell(
            1,
            "pwd; stat -c %a .; ls -A; mkdir -p a/b; echo x > a/b/c; chmod 500 a/b a; cat /proc/self/stat | cut -d' ' -f5; echo $$",
        ))
        .await;
    let text = end.out();
    let lines: Vec<&str> = text.lines().collect();
    let [own, mode, group, pid] = lines[..] else { panic!("{text}") };
    assert_eq!(mode, "700");
    assert_eq!(group, pid, "it leads its group");
    assert!(Path::new(own).starts_with(bench.directory.path().canonicalize().expect("it is there").join("tasks")));
    wait_until("its directory is gone", || !Path::new(own).exists()).await;
    let tasks = bench.directory.path().join("tasks");
    let run = bench.run_directory();
    assert_eq!(std::fs::metadata(&tasks).expect("it is there").permissions().mode() & 0o777, 0o700);
    bench.runner.shut_down();
    assert!(!run.exists(), "nothing of the run is left");
    assert!(tasks.join("output").exists());
}

#[tokio::test]
async fn how_a_program_ended_is_told_as_it_was() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(command(1, &["true"])).await.exit, Exit::Exited(0));
    assert_eq!(bench.run(shell(2, "echo out; echo err >&2; exit 3")).await.exit, Exit::Exited(3));
    assert_eq!(bench.run(shell(3, "kill -KILL $$")).await.exit, Exit::Killed(9));
    assert_eq!(bench.run(shell(4, "kill -SEGV $$")).await.exit, Exit::Killed(11));
    let end = bench.run(shell(5, "echo out; echo err >&2; sleep 0.2")).await;
    assert_eq!((end.out().as_str(), end.stderr.bytes.as_slice()), ("out\n", &b"err\n"[..]));
    assert!(end.ran >= Duration::from_millis(200) && end.ran < BOUND, "{:?}", end.ran);
}

#[tokio::test]
async fn who_cannot_be_started_says_why_in_a_sentence() {
    let mut bench = Bench::new();
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str, mode: u32| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        path.to_str().expect("a path").to_owned()
    };
    let (script, closed) = (file("script", "#!/no/such/interpreter\n", 0o700), file("closed", "#!/bin/sh\n", 0o600));
    let plain = file("plain", "echo no first line\n", 0o700);
    let long = "x".repeat(1000);
    let cases: [(&[&str], &str); 9] = [
        (&["no-such-program-at-all"], "is not installed"),
        (&["/no/such/program"], "there is no such file"),
        (&["./program"], "offer the whole path"),
        (&[&script], "interpreter"),
        (&[&closed], "may not be run"),
        (&["/"], "directory"),
        (&[&plain], "neither a program"),
        (&["true", "a\0b"], "NUL"),
        (&[&long], "is not installed"),
    ];
    for (number, (words, said)) in (1..).zip(cases) {
        let end = bench.run(command(number, words)).await;
        let Exit::NotStarted(why) = end.exit else { panic!("{words:?}: {:?}", end.exit) };
        assert!(why.len() <= limits::WHY_BYTES && (why.contains(said) || words[0].len() > 500), "{words:?}: {why}");
    }
    let args = vec!["x".repeat(100_000); 200];
    let end = bench.run(Run { args, ..command(20, &["true"]) }).await;
    assert!(matches!(&end.exit, Exit::NotStarted(why) if why.contains("too long")), "{:?}", end.exit);
    // The journal stays, and an empty directory for the next one.
    let run = bench.run_directory();
    wait_until("their directories are gone", || std::fs::read_dir(&run).expect("it is there").count() <= 2).await;
}

#[tokio::test]
async fn standard_input_is_given_whole_or_empty() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(command(1, &["cat"])).await.out(), "");
    let bytes: Vec<u8> = (0..limits::ORDER_STDIN_BYTES).map(|number| (number % 251) as u8).collect();
    let end = bench.run(Run { stdin: Some(bytes.clone().into()), ..command(2, &["cat"]) }).await;
    assert_eq!((end.exit, end.stdout.total), (Exit::Exited(0), bytes.len() as u64));
    assert_eq!(end.stdout.bytes.as_slice(), &bytes[..limits::EXCERPT_BYTES]);
    let end = bench.run(Run { stdin: Some(bytes.into()), ..command(3, &["true"]) }).await;
    assert_eq!(end.exit, Exit::Exited(0), "nobody has to read it");
}

#[tokio::test]
async fn of_an_endless_output_head_and_tail_are_kept_and_nobody_waits() {
    const BYTES: u64 = 256 << 20;
    let mut bench = Bench::new();
    let end = bench.run(shell(1, &format!("echo begin; yes | head -c {BYTES}; echo end; echo short >&2"))).await;
    assert_eq!(end.exit, Exit::Exited(0));
    assert_eq!((end.stdout.total, end.stdout.bytes.len()), (BYTES + 10, limits::EXCERPT_BYTES));
    assert!(end.stdout.kept < end.stdout.total && end.stdout.kept > limits::EXCERPT_BYTES as u64);
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let (bytes, more) = bench.page(1, false, all.len() as u64).await;
        all.extend(bytes.expect("it is kept"));
        pages += 1;
        if !more {
            break;
        }
    }
    assert_eq!(pages, 4);
    assert!(all.len() <= limits::OUTPUT_BYTES);
    let text = String::from_utf8_lossy(&all);
    assert!(text.starts_with("begin\ny\n") && text.ends_with("y\nend\n"));
    assert!(text.contains(&format!("\n[swarm: {} bytes are left out here]\n", BYTES + 10 - end.stdout.kept)));
    assert_eq!(bench.page(1, true, 0).await, (None, false), "the end was told with all of it");
    assert_eq!(bench.page(99, false, 0).await, (None, false), "nobody knows it");
    assert_eq!(bench.page(1, false, u64::MAX).await, (Some(Vec::new()), false));
    let files = std::fs::read_dir(bench.directory.path().join("tasks/output")).expect("it is there");
    let modes: Vec<u32> = files.map(|file| file.expect("a file").metadata().expect("a file").permissions().mode() & 0o777).collect();
    assert_eq!(modes, [0o600]);
    // Another run finds it again.
    let Bench { runner, directory, .. } = bench;
    runner.shut_down();
    let mut bench = Bench::within(directory);
    assert_eq!(bench.page(1, false, 0).await.0.as_deref(), Some(&all[..limits::OUTPUT_PAGE]));
}

#[tokio::test]
async fn what_a_program_has_written_can_be_read_while_it_runs() {
    let mut bench = Bench::new();
    bench.runner.run(Box::new(shell(1, "echo so far; head -c 100000 /dev/zero >&2; echo >&2; echo progress: 1/2 >&2; exec sleep 1000")));
    bench.until("progress", |input| matches!(input, Input::TaskProgressed { .. }).then_some(())).await;
    assert_eq!(bench.page(1, false, 0).await, (Some(b"so far\n".to_vec()), false));
    let (bytes, _) = bench.page(1, true, 50_000).await;
    assert_eq!(bytes.map(|bytes| bytes.len()), Some(50_000 + "\nprogress: 1/2\n".len()));
    bench.runner.stop(task(1), Duration::ZERO);
    assert_eq!(bench.end(1).await.exit, Exit::Stopped);
}

#[tokio::test]
async fn progress_is_told_in_order_and_not_too_often() {
    let mut bench = Bench::new();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do echo \"progress: $i/10 step $i\" >&2; sleep 0.1; done";
    bench.runner.run(Box::new(shell(1, script)));
    let end = bench.end(1).await;
    assert!(String::from_utf8_lossy(&end.stderr.bytes).contains("progress: 10/10"), "it stays in the output");
    let told: Vec<(u64, u64, String)> = (bench.heard.iter())
        .filter_map(|input| match input {
            Input::TaskProgressed { done, total, note, .. } => Some((*done, *total, note.clone())),
            _ => None,
        })
        .collect();
    assert!(told.iter().all(|(done, total, note)| *total == 10 && *note == format!("step {done}")), "{told:?}");
    assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0), "{told:?}");
    let most = 1 + usize::try_from(end.ran.as_millis() / 200).expect("a second");
    assert!((2..=most).contains(&told.len()), "{} times in {:?}", told.len(), end.ran);
}

#[tokio::test]
async fn one_that_runs_longer_than_it_may_is_ended() {
    let mut bench = Bench::new();
    let begin = Instant::now();
    let end = bench.run(Run { time_limit: Some(Duration::from_millis(300)), ..shell(1, "sleep 1000; echo never") }).await;
    assert_eq!((end.exit.clone(), end.out()), (Exit::TimedOut, String::new()));
    assert!(end.ran >= Duration::from_millis(300) && begin.elapsed() < Duration::from_secs(5), "{:?}", end.ran);
    let end = bench.run(Run { time_limit: Some(Duration::from_secs(60)), ..command(2, &["true"]) }).await;
    assert_eq!(end.exit, Exit::Exited(0));
}

#[tokio::test]
async fn one_that_is_stopped_may_clean_up_and_one_that_will_not_hear_is_killed() {
    let mut bench = Bench::new();
    let ready = |number: u64, script: &str| shell(number, &format!("{script}; echo progress: 1/2 >&2; while :; do sleep 0.05; done"));
    bench.runner.run(Box::new(ready(1, "trap 'echo cleaned; exit 0' TERM")));
    bench.until("it runs", |input| matches!(input, Input::TaskProgressed { .. }).then_some(())).await;
    bench.runner.stop(task(1), BOUND);
    let end = bench.end(1).await;
    assert_eq!((end.exit.clone(), end.out()), (Exit::Stopped, "cleaned\n".to_owned()));

    let word = sleep();
    bench.runner.run(Box::new(ready(2, &format!("trap '' TERM INT HUP; sleep {word} & true"))));
    bench.until("it runs", |input| matches!(input, Input::TaskProgressed { .. }).then_some(())).await;
    let begin = Instant::now();
    bench.runner.stop(task(2), Duration::from_millis(300));
    let end = bench.end(2).await;
    assert_eq!(end.exit, Exit::Stopped);
    assert!(begin.elapsed() >= Duration::from_millis(300), "it had its grace");
    assert_eq!(with_word(&word), BTreeSet::new());

    // A suspended one hears it too; and one that has ended stays as it ended.
    bench.runner.run(Box::new(shell(3, "echo progress: 1/2 >&2; sleep 0.3; kill -STOP $$")));
    bench.until("it runs", |input| matches!(input, Input::TaskProgressed { .. }).then_some(())).await;
    bench.runner.stop(task(3), BOUND);
    assert_eq!(bench.end(3).await.exit, Exit::Stopped);
    assert_eq!(bench.run(command(4, &["true"])).await.exit, Exit::Exited(0));
    bench.runner.stop(task(4), BOUND);
    assert_eq!(bench.run(command(5, &["true"])).await.exit, Exit::Exited(0));
    assert!(!bench.heard.iter().any(|input| matches!(input, Input::TaskEnded { .. })), "each end is told once");
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it() {
    let mut bench = Bench::new();
    let word = sleep();
    let scripts = [
        format!("sleep {word} & exit 4"),
        format!("setsid sleep {word} & sleep 0.1; exit 4"),
        format!("setsid sh -c 'setsid sleep {word} & setsid sleep {word} & exec sleep {word}' >/dev/null 2>&1 & sleep 0.2; exit 4"),
        // It has cleared its environment, and is still found where it is.
        format!("env -i setsid sleep {word} & sleep 0.1; exit 4"),
        // It holds what we read.
        format!("setsid sh -c \"trap '' TERM HUP; sleep {word}; :\" & sleep 0.1; exit 4"),
    ];
    for (number, script) in (1..).zip(&scripts) {
        let end = bench.run(shell(number, script)).await;
        assert_eq!(end.exit, Exit::Exited(4), "{script}");
        assert_eq!(with_word(&word), BTreeSet::new(), "left by {script}");
    }
    for (number, script) in (11..).zip(&scripts) {
        let script = script.replace("exit 4", "echo progress: 1/2 >&2; wait; sleep 1000");
        bench.runner.run(Box::new(shell(number, &script)));
        bench.until("it runs", |input| matches!(input, Input::TaskProgressed { .. }).then_some(())).await;
        bench.runner.stop(task(number), Duration::from_millis(100));
        assert_eq!(bench.end(number).await.exit, Exit::Stopped, "{script}");
        assert_eq!(with_word(&word), BTreeSet::new(), "left by {script}");
    }
}

#[tokio::test]
async fn the_end_of_one_leaves_the_processes_of_others_alone() {
    let mut bench = Bench::new();
    let word = sleep();
    // Its child has left its group and its parent has ended: it has nobody but the runner.
    bench.runner.run(Box::new(shell(1, &format!("(setsid sleep {word} &) ; sleep 0.1; echo progress: 1/2 >&2; exec sleep 1000"))));
    bench.until("it runs", |input| matches!(input, Input::TaskProgressed { .. }).then_some(())).await;
    for number in 2..20 {
        assert_eq!(bench.run(command(number, &["true"])).await.exit, Exit::Exited(0));
    }
    assert_eq!(with_word(&word).len(), 1);
    bench.runner.stop(task(1), Duration::from_secs(1));
    assert_eq!(bench.end(1).await.exit, Exit::Stopped);
    assert_eq!(with_word(&word), BTreeSet::new());
}

#[tokio::test]
async fn what_runs_when_the_runner_ends_is_killed() {
    let bench = Bench::new();
    let word = sleep();
    for number in 1..=5 {
        bench.runner.run(Box::new(shell(number, &format!("trap '' TERM; setsid sleep {word} & sleep {word}"))));
    }
    wait_until("they run", || with_word(&word).len() >= 10).await;
    bench.runner.shut_down();
    assert_eq!(with_word(&word), BTreeSet::new());
}

/// Not a test by itself: the ones below start it as a process of its own, and kill that.
#[test]
fn hosts_tasks_when_told() {
    let Ok(told) = std::env::var(HOST) else { return };
    let (directory, word) = told.split_once('|').expect("directory and word");
    let (sender, mut facts) = mpsc::channel(64);
    let runner = Runner::start_with(Path::new(directory), sender, Some(env!("CARGO_BIN_EXE_node").into())).expect("it starts");
    let scripts = [
        format!("exec sleep {word}"),
        format!("trap '' TERM HUP INT; sleep {word}; :"),
        format!("(setsid sleep {word} &); exec sleep {word}"),
        format!("(env -i setsid sleep {word} &); exec sleep {word}"),
        // Its environment and its directory say nothing, but its group does.
        format!("cd /; (env -i sleep {word} &); exec env -i sleep {word}"),
    ];
    for (number, script) in (1..).zip(scripts) {
        runner.run(Box::new(shell(number, &script)));
    }
    while facts.blocking_recv().is_some() {}
}

/// Processes with the word when all tasks of the host run: its own among them, and the shell that waits.
const HOSTED: usize = 9;
/// Programs that it starts.
const SCRIPTS: usize = 5;

fn host(directory: &Path, word: &str) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "hosts_tasks_when_told", "--test-threads=1"])
        .env(HOST, format!("{}|{word}", directory.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

/// Whether the host has written down all programs that it has started: until then one without marks cannot be told from others.
fn are_written_down(directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(directory.join("tasks")) else { return false };
    entries.flatten().any(|run| node::runner::written_down(&run.path()) == SCRIPTS)
}

#[tokio::test]
async fn when_the_node_is_killed_its_reaper_ends_what_it_ran() {
    let (directory, word) = (tempfile::tempdir().expect("a directory"), sleep());
    let mut host = host(directory.path(), &word);
    wait_until("its tasks run", || with_word(&word).len() == HOSTED && are_written_down(directory.path())).await;
    host.kill().expect("it runs");
    assert_eq!(host.wait().expect("it was killed").signal(), Some(9));
    let begin = Instant::now();
    wait_until("nothing is left", || with_word(&word).is_empty()).await;
    assert!(begin.elapsed() < Duration::from_secs(10), "no orphan ten seconds later");
    let reaper = directory.path().canonicalize().expect("it is there").join("tasks");
    wait_until("the reaper is gone", || with_word(&reaper.to_string_lossy()).is_empty()).await;
}

#[tokio::test]
async fn what_outlived_node_and_reaper_ends_when_the_node_starts_again() {
    let (directory, word) = (tempfile::tempdir().expect("a directory"), sleep());
    let mut host = host(directory.path(), &word);
    wait_until("its tasks run", || with_word(&word).len() == HOSTED && are_written_down(directory.path())).await;
    let tasks = directory.path().canonicalize().expect("it is there").join("tasks");
    let reaper = with_word(&tasks.to_string_lossy());
    let reaper = *reaper.first().expect("it has a reaper");
    let kill =
        |pid: i32| rustix::process::kill_process(rustix::process::Pid::from_raw(pid).expect("a number"), rustix::process::Signal::KILL);
    kill(reaper).expect("it runs");
    host.kill().expect("it runs");
    host.wait().expect("it was killed");
    assert_eq!(with_word(&word).len(), HOSTED, "nobody ended them");
    let mut bench = Bench::within(directory);
    // They were told to die; the system takes its moment.
    wait_until("nothing is left", || with_word(&word).is_empty()).await;
    assert_eq!(bench.run(command(1, &["true"])).await.exit, Exit::Exited(0));
    let run = bench.run_directory();
    let others = std::fs::read_dir(run.parent().expect("tasks")).expect("it is there").count();
    assert_eq!(others, 2, "the outputs and this run");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_some_wait_for_their_slots_only_ends_of_their_own_service_are_gathered() {
    let mut bench = Bench::new();
    let gate = bench.directory.path().join("gate");
    for number in 1..=2 {
        bench
            .runner
            .run(Box::new(Run { at_once: 1, ..shell(number, &format!("while ! test -e {}; do sleep 0.01; done", gate.display())) }));
    }
    let mut fastest = BOUND;
    for number in 3..13 {
        let began = Instant::now();
        let other = Run { service: "other".parse().expect("a name"), ..command(number, &["true"]) };
        assert_eq!(bench.run(other).await.exit, Exit::Exited(0));
        fastest = fastest.min(began.elapsed());
    }
    // Gathered for the others, none would be told before 40 ms.
    assert!(fastest < Duration::from_millis(30), "{fastest:?}");
    std::fs::write(&gate, "").expect("written");
    for number in 1..=2 {
        assert_eq!(bench.end(number).await.exit, Exit::Exited(0), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_of_a_service_run_at_once_than_may_and_what_has_not_begun_can_be_taken_back() {
    let mut bench = Bench::new();
    let (gate, log) = (bench.directory.path().join("gate"), bench.directory.path().join("log"));
    let script = |number: u64| {
        format!(
            "echo begin {number} >> {log}; while ! test -e {gate}; do sleep 0.01; done; echo end {number} >> {log}",
            log = log.display(),
            gate = gate.display()
        )
    };
    for number in 1..=4 {
        bench.runner.run(Box::new(Run { at_once: 1, ..shell(number, &script(number)) }));
    }
    bench.runner.run(Box::new(Run { service: "other".parse().expect("a name"), ..shell(9, "true") }));
    // Another service does not wait for them.
    assert_eq!(bench.end(9).await.exit, Exit::Exited(0));
    bench.runner.take_back(task(3));
    let taken_back = bench.end(3).await;
    assert_eq!((taken_back.exit, taken_back.ran), (Exit::Stopped, Duration::ZERO));
    // One that runs goes on.
    bench.runner.take_back(task(1));
    std::fs::write(&gate, "").expect("written");
    for number in [1, 2, 4] {
        assert_eq!(bench.end(number).await.exit, Exit::Exited(0), "{number}");
    }
    let log = std::fs::read_to_string(&log).expect("written");
    assert_eq!(log, "begin 1\nend 1\nbegin 2\nend 2\nbegin 4\nend 4\n");
}
