//! Runs tasks: programs without a shell, each in a process group and a directory of its own, and the built-in echo.
//! Knows nothing of orders, nor why something runs or is to end. Nobody is told that a try has ended while a process of it is left.
//!
//! **What a program gets.** Its argument vector as it is, nothing is expanded. Its standard input is a file, or `/dev/null`. Its
//! environment is `PATH` and `LANG` of the node, `HOME` and `TMPDIR` (its own directory, mode 0700, removed when it has ended),
//! `SWARM_ORDER`, `SWARM_UNIT`, `SWARM_ATTEMPT`, `SWARM_ORDERER` (a name, or an id if no name is known) and `SWARM_TASK`, by which
//! its processes are recognised; nothing else of the node's.
//!
//! **What is contained.** A program is ended by SIGTERM to its group, a grace, and SIGKILL to its group; when it has ended by
//! itself, what it has left in its group is killed. A process that has left the group (`setsid`) becomes a child of the node when
//! its parents have ended, as the node is its subreaper: it is killed when its try has ended, which it tells by its environment
//! or its directory; if it tells nothing, when all tries that ran at the time have ended. When the node is killed itself, a
//! reaper process ends all that is written in the journal, that carries those marks, and their descendants. The next start
//! does so again, should the reaper have been killed too.
//!
//! **What is not contained.** A process that has left its group, its environment and its directory, and whose parents had ended
//! before the node was killed. One that may not be killed by the node's user (a set-uid program): its try does not end before it. Memory, disk
//! and network are not limited here.

mod directory;
mod journal;
mod output;
mod processes;
mod progress;
mod reaper;
mod running;
mod spawn;
mod strays;
mod turns;
mod watch;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use protocol::Input;
use protocol::config::limits;
use protocol::effect::Run;
use protocol::input::Exit;
use protocol::order::{Excerpt, Try};
use protocol::service::Program;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, set_child_subreaper, setrlimit};
use tokio::sync::mpsc;

pub use self::reaper::be_reaper_if_told;

use self::output::{KEPT_BYTES, Outputs};
use self::spawn::Ground;
use self::strays::Strays;
use self::watch::{BELL, Order, State, Watch};
use crate::driver::Fact;

/// Echoes answered in one fact (guess: some microseconds each).
const ECHOES: usize = 1_024;
/// Open files of this process that are left for all else than tasks (guess: the connections of 100 peers and the disk) …
const FILES_LEFT: u64 = 512;
/// … and how many a running program takes of the others: two pipes, its process, and what its start takes for a moment.
const FILES_EACH: u64 = 6;
/// Programs at a time even where files are scarce.
const LEAST_AT_ONCE: u64 = 8;

/// A program to start.
#[derive(Debug)]
struct Start {
    number: u64,
    slot: u32,
    /// Its own directory.
    place: u64,
    run: Box<Run>,
}

/// Work on files that nobody should wait for.
#[derive(Debug)]
enum Chore {
    Remove(PathBuf),
    Read { token: u64, path: PathBuf, from: u64 },
}

/// Wakes the loop; rung again before it was heard, it costs nothing.
#[derive(Debug)]
struct Bell {
    file: OwnedFd,
    rung: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // It fails only if it was rung 2^64 times.
            let _ = rustix::io::write(&self.file, &1_u64.to_ne_bytes());
        }
    }

    /// Who rings after this is heard again.
    fn answer(&self, heard: bool) {
        if heard {
            let _ = rustix::io::read(&self.file, &mut [0; 8]);
        }
        self.rung.store(false, Ordering::SeqCst);
    }
}

/// The way to the loop. What waits on it is bounded by those who give orders: tries by the slots of services, the rest by tries.
#[derive(Clone, Debug)]
struct Line {
    orders: Sender<Order>,
    bell: Arc<Bell>,
}

impl Line {
    fn give(&self, order: Order) {
        // It hangs up only when the loop has ended, and then nothing runs.
        let _ = self.orders.send(order);
        self.bell.ring();
    }
}

/// The handle; its verbs never wait. Dropping it kills all that runs.
#[derive(Debug)]
pub struct Runner {
    echoes: Sender<Box<Run>>,
    line: Line,
    watch: Option<JoinHandle<()>>,
}

impl Runner {
    /// Starts the threads, after the end of all that an earlier run in this data directory has left behind. What becomes of
    /// tries is told to the driver; the threads wait for it when it has enough to do.
    ///
    /// # Errors
    /// The directories of tasks cannot be made or read, or the system refuses a thread.
    pub fn start(data: &Path, facts: mpsc::Sender<Fact>) -> io::Result<Runner> {
        Runner::start_with(data, facts, reaper::is_alone().then(reaper::this_program))
    }

    /// The same, with the program that is told to be the reaper ([`be_reaper_if_told`]); without one, tasks outlive this process
    /// if it is killed.
    ///
    /// # Errors
    /// As [`Runner::start`].
    pub fn start_with(data: &Path, facts: mpsc::Sender<Fact>, reaper: Option<PathBuf>) -> io::Result<Runner> {
        let (tasks, output) = directory::of_node(data)?;
        for run in directory::of_earlier_runs(&tasks)? {
            let found = processes::end_leftovers(&run);
            if found > 0 {
                tracing::warn!(found, "processes of tasks had outlived the node and were ended");
            }
            directory::remove(&run);
        }
        if let Err(error) = set_child_subreaper(Some(rustix::process::getpid())) {
            tracing::warn!(%error, "a task's process that leaves its group may outlive it");
        }
        let directory = directory::of_run(&tasks)?;
        let (files, most) = allowances(reaper::is_alone());
        let ground = Arc::new(Ground::new(directory.clone(), files)?);
        let bell = Arc::new(Bell { file: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?, rung: AtomicBool::new(false) });
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        epoll::add(&epoll, &bell.file, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?;

        let (orders, given) = unbounded();
        let (starts, to_start) = unbounded();
        let (chores, to_do) = unbounded();
        let (echoes, to_echo) = unbounded();
        let line = Line { orders, bell: Arc::clone(&bell) };
        for number in 0..starters() {
            let (line, epoll, ground, to_start) = (line.clone(), Arc::clone(&epoll), Arc::clone(&ground), to_start.clone());
            thread(&format!("task-start-{number}"), move || start(&line, &epoll, &ground, &to_start))?;
        }
        let driver = facts.clone();
        thread("task-files", move || do_chores(&to_do, &driver))?;
        let driver = facts.clone();
        thread("task-echo", move || echo(&to_echo, &driver))?;
        let watch = Watch {
            epoll,
            bell,
            orders: given,
            facts,
            starts,
            chores,
            ground,
            directory,
            outputs: Outputs::open(output, KEPT_BYTES)?,
            strays: Strays::new(reaper::is_alone()),
            reaper_program: reaper,
            most,
            state: State::default(),
        };
        let watch = thread("tasks", move || watch.run())?;
        Ok(Runner { echoes, line, watch: Some(watch) })
    }

    /// Runs a try, when it is its turn; its end is told, whatever happens. A try that runs already is not run again.
    pub fn run(&self, run: Box<Run>) {
        match run.program {
            // It hangs up only after this handle.
            Program::Echo => drop(self.echoes.send(run)),
            Program::Command(_) => self.line.give(Order::Run(run)),
        }
    }

    /// Ends a try: SIGTERM to its group, SIGKILL after the grace. One that has ended, or is not known, is left alone.
    pub fn stop(&self, task: Try, grace: Duration) {
        self.line.give(Order::Stop { task, grace });
    }

    /// Ends a try that has not begun. One that runs, has ended or is not known is left alone.
    pub fn take_back(&self, task: Try) {
        self.line.give(Order::TakeBack(task));
    }

    /// Reads a page, of at most [`limits::OUTPUT_PAGE`], of what a try wrote. Of one that runs, its beginning. Of one that has ended,
    /// head, a line that says what is left out, and tail; nothing if all of it is in the excerpt that its end was told with.
    pub fn read_output(&self, token: u64, task: Try, stderr: bool, from: u64) {
        self.line.give(Order::Read { token, task, stderr, from });
    }

    /// Kills all that runs and waits until it is gone, for about two seconds at most.
    pub fn shut_down(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.line.give(Order::End);
        if let Some(watch) = self.watch.take()
            && watch.join().is_err()
        {
            tracing::error!("the loop of the tasks panicked");
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if self.watch.is_some() {
            self.end();
        }
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Threads that start programs: each waits for the system to load one (measured on two cores: with four, a tenth fewer programs
/// are run).
fn starters() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8))
}

/// How many processes are written down in the directory of a run. For tests: one that is not cannot be told from others after a kill.
#[doc(hidden)]
#[must_use]
pub fn written_down(run: &Path) -> usize {
    journal::read(run).len()
}

/// Open files for programs, if they are to be allowed less than this process, and how many programs run at a time. A process
/// that is a node and nothing else allows itself as many as it may.
fn allowances(alone: bool) -> (Option<Rlimit>, usize) {
    let before = getrlimit(Resource::Nofile);
    let mut now = before;
    if alone && before.current != before.maximum {
        now.current = before.maximum;
        if setrlimit(Resource::Nofile, now).is_err() {
            now = before;
        }
    }
    let files = now.current.unwrap_or(u64::MAX);
    let most = (files.saturating_sub(FILES_LEFT) / FILES_EACH).max(LEAST_AT_ONCE);
    let raised = (now.current != before.current).then_some(before);
    (raised, usize::try_from(most).unwrap_or(usize::MAX))
}

/// Starts programs. The loop need not be woken for one that runs: it hears of it before its end, or when it looks after it.
fn start(line: &Line, epoll: &OwnedFd, ground: &Ground, starts: &Receiver<Start>) {
    while let Ok(start) = starts.recv() {
        let number = start.number;
        let failed = match ground.start(&start) {
            Ok(started) => {
                let handle = Arc::clone(&started.handle);
                // It hangs up only when the loop has ended, and then nothing runs.
                let _ = line.orders.send(Order::Started { number, started });
                watch::until_ended(epoll, number, &handle).err().map(|error| format!("it could not be watched: {error}"))
            }
            Err(why) => Some(why),
        };
        if let Some(why) = failed {
            line.give(Order::NotStarted { number, why });
        }
    }
}

fn do_chores(chores: &Receiver<Chore>, driver: &mpsc::Sender<Fact>) {
    while let Ok(chore) = chores.recv() {
        match chore {
            Chore::Remove(path) => directory::remove(&path),
            Chore::Read { token, path, from } => {
                let (bytes, more) = output::page(&path, from).map_or((None, false), |(bytes, more)| (Some(bytes), more));
                let size = bytes.as_ref().map_or(0, Vec::len);
                // Without a driver nobody asks.
                let _ = driver.blocking_send(Fact::Inputs { inputs: vec![Input::OutputRead { token, bytes, more }], bytes: size });
            }
        }
    }
}

fn echo(runs: &Receiver<Box<Run>>, driver: &mpsc::Sender<Fact>) {
    while let Ok(first) = runs.recv() {
        let runs = std::iter::once(first).chain(runs.try_iter()).take(ECHOES);
        let (mut inputs, mut bytes) = (Vec::new(), 0);
        for run in runs {
            let stdout = said(&run);
            bytes += stdout.bytes.len();
            inputs.push(Input::TaskEnded {
                task: run.task,
                exit: Exit::Exited(0),
                stdout,
                stderr: Excerpt::default(),
                ran: Duration::ZERO,
            });
        }
        if driver.blocking_send(Fact::Inputs { inputs, bytes }).is_err() {
            return;
        }
    }
}

/// What the built-in echo answers: its arguments on a line, then what it was given to read. Of much, only the beginning is kept.
fn said(run: &Run) -> Excerpt {
    let mut text = run.args.join(" ").into_bytes();
    text.push(b'\n');
    text.extend_from_slice(run.stdin.as_deref().map_or(&[], |bytes| bytes.as_slice()));
    let total = text.len() as u64;
    text.truncate(limits::EXCERPT_BYTES);
    Excerpt { kept: text.len() as u64, bytes: text.into(), total }
}
