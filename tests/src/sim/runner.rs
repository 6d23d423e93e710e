//! The programs of a simulated node: how long each runs, how it ends, what it writes.
//! Knows nothing of orders. All of a node's processes die with it, and none runs without the checker's knowledge.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use protocol::Input;
use protocol::config::limits;
use protocol::effect::Run;
use protocol::input::Exit;
use protocol::order::{Excerpt, Try};
use protocol::service::{Program, ServiceName};

use super::Sim;
use super::agenda::Event;

/// How long a program that is told to stop takes for it, at most.
const STOPS_WITHIN: Duration = Duration::from_millis(20);

/// One process.
#[derive(Debug)]
struct Process {
    service: ServiceName,
    /// Names the end that is waited for: a stop replaces it.
    end: u64,
    began: Duration,
    exit: Exit,
    stopped: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// The processes of one node, and what they wrote.
#[derive(Debug, Default)]
pub(crate) struct Runner {
    running: BTreeMap<Try, Process>,
    /// Those that begin when others of their service have ended.
    waiting: VecDeque<Box<Run>>,
    /// How many of a service may run at once, as it was said last.
    at_once: BTreeMap<ServiceName, u32>,
    /// Standard output and standard error of those that have ended; they outlive the node, as files do.
    written: BTreeMap<Try, (Vec<u8>, Vec<u8>)>,
    /// What the network was told last.
    pub(crate) advertised: Vec<ServiceName>,
    ends: u64,
}

/// What happens to a process.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It says how far it is.
    Progress {
        /// Steps done …
        done: u64,
        /// … of so many.
        total: u64,
    },
    /// It ends, if this end is still the one that is waited for.
    End(u64),
}

/// What a program is told to do, by its arguments; what they leave open is chance.
#[derive(Debug, Default)]
struct Script {
    runs: Option<Duration>,
    exit: Option<Exit>,
    steps: u64,
    writes: usize,
}

impl Script {
    /// `for:MILLISECONDS`, `exit:CODE`, `signal:NUMBER`, `missing`, `steps:COUNT`, `write:BYTES`; other words mean nothing.
    fn read(args: &[String]) -> Script {
        let mut script = Script::default();
        for word in args {
            let (name, value) = word.split_once(':').unwrap_or((word, ""));
            let number = value.parse::<u32>();
            match (name, number) {
                ("for", Ok(milliseconds)) => script.runs = Some(Duration::from_millis(milliseconds.into())),
                ("exit", Ok(code)) => script.exit = i32::try_from(code).ok().map(Exit::Exited),
                ("signal", Ok(signal)) => script.exit = i32::try_from(signal).ok().map(Exit::Killed),
                ("steps", Ok(steps)) => script.steps = steps.into(),
                ("write", Ok(bytes)) => script.writes = bytes as usize,
                ("missing", _) => script.exit = Some(Exit::NotStarted("no such file".to_owned())),
                _ => {}
            }
        }
        script
    }
}

impl Runner {
    /// The node is gone, and all its processes with it.
    pub(crate) fn die(&mut self) {
        self.running.clear();
        self.waiting.clear();
    }

    /// The next that may begin.
    fn next(&mut self) -> Option<Box<Run>> {
        let beside = |service: &ServiceName| self.running.values().filter(|process| process.service == *service).count();
        let may = |run: &Run| beside(&run.service) < self.at_once.get(&run.service).map_or(0, |most| *most as usize);
        let place = self.waiting.iter().position(|run| may(run))?;
        self.waiting.remove(place)
    }

    /// The tries that run now.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Try> {
        self.running.keys()
    }

    /// What a try wrote, from this byte on, and whether there is more.
    fn read(&self, task: &Try, stderr: bool, from: u64) -> Option<(Vec<u8>, bool)> {
        let running = self.running.get(task).map(|process| (&process.stdout, &process.stderr));
        let (out, err) = running.or_else(|| self.written.get(task).map(|(out, err)| (out, err)))?;
        let all = if stderr { err } else { out };
        let all = &all[..all.len().min(limits::OUTPUT_BYTES)];
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(all.len());
        let upto = (from + limits::OUTPUT_PAGE).min(all.len());
        Some((all[from..upto].to_vec(), upto < all.len()))
    }
}

fn excerpt(written: &[u8]) -> Excerpt {
    let bytes = written[..written.len().min(limits::EXCERPT_BYTES)].to_vec().into();
    let total = written.len() as u64;
    Excerpt { bytes, total, kept: total.min(limits::OUTPUT_BYTES as u64) }
}

impl Sim {
    /// A node starts a program, or will when another has ended.
    pub(super) fn on_run(&mut self, node: usize, run: Box<Run>) {
        let runner = &mut self.nodes[node].runner;
        runner.at_once.insert(run.service.clone(), run.at_once);
        runner.waiting.push_back(run);
        self.begin_waiting(node);
    }

    fn begin_waiting(&mut self, node: usize) {
        while let Some(run) = self.nodes[node].runner.next() {
            self.begin(node, &run);
        }
    }

    /// A node does not start a program after all, if it has not begun; false if it has.
    pub(super) fn on_take_back(&mut self, node: usize, task: Try) -> bool {
        let waiting = &mut self.nodes[node].runner.waiting;
        let Some(place) = waiting.iter().position(|run| run.task == task) else { return false };
        waiting.remove(place);
        self.tasks.on_exit(node, task, Exit::Stopped);
        let (stdout, stderr) = (Excerpt::default(), Excerpt::default());
        self.tell_now(node, Input::TaskEnded { task, exit: Exit::Stopped, stdout, stderr, ran: Duration::ZERO });
        true
    }

    /// A program begins.
    fn begin(&mut self, node: usize, run: &Run) {
        let verdict = self.check_run(node, run);
        self.demand(verdict);
        let programs = &self.options.programs;
        let script = Script::read(&run.args);
        let (mut runs, mut exit) = match run.program {
            Program::Echo => (Duration::ZERO, Exit::Exited(0)),
            Program::Command(_) => {
                let runs = script.runs.unwrap_or_else(|| self.chance.between(Duration::ZERO, programs.longest));
                let (dies, fails) = (self.chance.yes(programs.dies), self.chance.yes(programs.fails));
                let drawn = if dies { Exit::Killed(9) } else { Exit::Exited(i32::from(fails)) };
                (runs, script.exit.unwrap_or(drawn))
            }
        };
        if matches!(exit, Exit::NotStarted(_)) {
            runs = Duration::ZERO;
        }
        if let Some(limit) = run.time_limit.filter(|limit| *limit < runs) {
            (runs, exit) = (limit, Exit::TimedOut);
        }
        let (life, now, task) = (self.nodes[node].life, self.now(), run.task);
        for step in 1..=script.steps {
            let at = runs * u32::try_from(step).unwrap_or(1) / u32::try_from(script.steps + 1).unwrap_or(1);
            self.agenda
                .after(at, Event::Process { node, life, task: Box::new(task), turn: Turn::Progress { done: step, total: script.steps } });
        }
        let mut stdout = run.args.join(" ").into_bytes();
        stdout.extend(run.stdin.iter().flat_map(|stdin| stdin.iter()));
        stdout.extend(std::iter::repeat_n(b'.', script.writes));
        let runner = &mut self.nodes[node].runner;
        runner.ends += 1;
        let service = run.service.clone();
        let process = Process { service, end: runner.ends, began: now, exit, stopped: false, stdout, stderr: b"said".to_vec() };
        let end = Turn::End(process.end);
        runner.running.insert(task, process);
        self.counts.runs += 1;
        self.agenda.after(runs, Event::Process { node, life, task: Box::new(task), turn: end });
    }

    /// A node ends a program; it may have ended by itself meanwhile.
    pub(super) fn on_stop(&mut self, node: usize, task: Try) {
        if self.on_take_back(node, task) {
            return;
        }
        let wait = self.chance.between(Duration::ZERO, STOPS_WITHIN);
        let life = self.nodes[node].life;
        let runner = &mut self.nodes[node].runner;
        let Some(process) = runner.running.get_mut(&task).filter(|process| !process.stopped) else { return };
        runner.ends += 1;
        process.end = runner.ends;
        process.stopped = true;
        process.exit = Exit::Stopped;
        let turn = Turn::End(process.end);
        self.agenda.after(wait, Event::Process { node, life, task: Box::new(task), turn });
    }

    /// A node reads what a program wrote.
    pub(super) fn on_read_output(&mut self, node: usize, token: u64, (task, stderr, from): (Try, bool, u64)) {
        let found = self.nodes[node].runner.read(&task, stderr, from);
        let more = found.as_ref().is_some_and(|(_, more)| *more);
        let input = Input::OutputRead { token, bytes: found.map(|(bytes, _)| bytes), more };
        let wait = self.chance.between(Duration::ZERO, Duration::from_millis(1));
        self.agenda.after(wait, Event::Tell { node, life: self.nodes[node].life, input: Box::new(input) });
    }

    /// Something happens to a process.
    pub(super) fn on_process(&mut self, node: usize, life: u64, task: Try, turn: &Turn) {
        let state = &mut self.nodes[node];
        if state.life != life || !state.is_up() {
            return;
        }
        match turn {
            Turn::Progress { done, total } => {
                if state.runner.running.contains_key(&task) {
                    let input = Input::TaskProgressed { task, done: *done, total: *total, note: format!("step {done}") };
                    self.tell_now(node, input);
                }
            }
            Turn::End(end) => {
                if state.runner.running.get(&task).is_none_or(|process| process.end != *end) {
                    return;
                }
                let Some(process) = state.runner.running.remove(&task) else { return };
                let ran = self.agenda.now() - process.began;
                let (stdout, stderr) = (excerpt(&process.stdout), excerpt(&process.stderr));
                state.runner.written.insert(task, (process.stdout, process.stderr));
                self.tasks.on_exit(node, task, process.exit.clone());
                self.tell_now(node, Input::TaskEnded { task, exit: process.exit, stdout, stderr, ran });
                self.begin_waiting(node);
            }
        }
    }
}
