//! The loop that owns all tries: what it is told, what they write, their ends and what is due come in at one place.
//! Knows nothing of why a try runs. Whoever is told that a try runs is told once how it ended, when no process of it is left.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use protocol::Input;
use protocol::effect::Run;
use protocol::input::Exit;
use protocol::order::{Excerpt, Try};
use protocol::service::ServiceName;
use rustix::event::{Timespec, epoll};
use tokio::sync::mpsc;

use super::directory::{self, Changed};
use super::output::{Keeper, Outputs};
use super::reaper::Reaper;
use super::running::{Phase, Running};
use super::spawn::{Ground, Started, give_up, short};
use super::strays::{Judge, Strays};
use super::turns::Turns;
use super::{Bell, Chore, Start};
use crate::driver::Fact;

/// Read at once from one program (Linux: what a pipe holds).
const CHUNK: usize = 64 * 1024;
/// How long ends of a service's tries are gathered while others of it wait for their slots (guess: less than half of the work that waits then, as
/// long as many commits, and nothing that a person sees).
const GATHER: Duration = Duration::from_millis(40);
/// Events taken at once (guess).
const EVENTS: usize = 256;
/// Directories of tries that are kept for others (guess: what an unusual machine runs at once).
const SPARE: usize = 64;
/// Between two looks for processes that have left their task, while anything runs (guess: they take little until then).
const LOOK: Duration = Duration::from_secs(5);
/// Least time between two starts of a reaper (guess: one that ends at once should not keep a machine busy).
const REAPER: Duration = Duration::from_secs(1);
/// How long an ending node waits for killed programs to be gone (guess: one that waits for a disk may take longer).
const LAST: Duration = Duration::from_secs(2);

/// Sources of events that are no try's.
pub(super) const BELL: u64 = u64::MAX;
const REAPER_GONE: u64 = u64::MAX - 1;
/// What a try is watched for: most sources have one thing to tell, and need not be taken out again.
pub(super) const ONCE: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ONESHOT);
/// A try's number is multiplied by this; its process is 0, its outputs are 1 and 2.
const SOURCES: u64 = 4;

/// What the loop is told.
#[derive(Debug)]
pub(super) enum Order {
    Run(Box<Run>),
    Stop { task: Try, grace: Duration },
    TakeBack(Try),
    Read { token: u64, task: Try, stderr: bool, from: u64 },
    Started { number: u64, started: Started },
    NotStarted { number: u64, why: String },
    End,
}

/// The loop.
pub(super) struct Watch {
    pub(super) epoll: Arc<OwnedFd>,
    pub(super) bell: Arc<Bell>,
    pub(super) orders: Receiver<Order>,
    pub(super) facts: mpsc::Sender<Fact>,
    pub(super) starts: Sender<Start>,
    pub(super) chores: Sender<Chore>,
    pub(super) ground: Arc<Ground>,
    pub(super) directory: PathBuf,
    pub(super) outputs: Outputs,
    pub(super) strays: Strays,
    /// How the reaper is started, if it can be.
    pub(super) reaper_program: Option<PathBuf>,
    /// Programs at a time: each takes some open files of this process.
    pub(super) most: usize,
    pub(super) state: State,
}

/// What changes.
#[derive(Default)]
pub(super) struct State {
    tries: BTreeMap<u64, Box<Running>>,
    numbers: BTreeMap<Try, u64>,
    next: u64,
    /// Tries that wait for others to end.
    turns: Turns,
    slots: u32,
    free_slots: Vec<u32>,
    /// Directories of tries that have ended, as new; each bears the number of the first try in it.
    spare: Vec<(u64, Changed)>,
    /// Which try is in which directory.
    places: BTreeMap<u64, u64>,
    due: BTreeSet<(Instant, u64)>,
    pids: BTreeMap<i32, u64>,
    /// What is handed over at the end of this turn.
    said: Vec<Input>,
    said_bytes: usize,
    /// Ends of tries, by service and in their order, that may be handed over with later ones.
    ended: BTreeMap<ServiceName, Ended>,
    reaper: Option<Reaper>,
    reaper_started: Option<Instant>,
    look_at: Option<Instant>,
    ending: Option<Instant>,
}

/// Ends of tries of one service.
struct Ended {
    inputs: Vec<Input>,
    /// When they are handed over at the latest.
    at: Instant,
}

/// The loop is woken when that program has ended, which it has been told to have been started.
///
/// # Errors
/// The system does not watch it.
pub(super) fn until_ended(epoll: &OwnedFd, number: u64, handle: &OwnedFd) -> rustix::io::Result<()> {
    epoll::add(epoll, handle, epoll::EventData::new_u64(number * SOURCES), ONCE)
}

impl Watch {
    /// Runs until told to end.
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let mut chunk = vec![0; CHUNK];
        loop {
            events.clear();
            let wait = self.wait();
            if let Err(error) = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), wait.as_ref())
                && error != rustix::io::Errno::INTR
            {
                tracing::error!(%error, "the loop of the tasks cannot wait");
                break;
            }
            self.bell.answer(events.iter().any(|event| event.data.u64() == BELL));
            while let Ok(order) = self.orders.try_recv() {
                self.on_order(order);
            }
            // Ends of programs come last: what they wrote is read by then, and each is looked at once.
            events.sort_by_key(|event| event.data.u64().is_multiple_of(SOURCES));
            for event in &events {
                self.on_event(event.data.u64(), &mut chunk);
            }
            self.on_due();
            self.tell();
            let over = |since: Instant| self.state.tries.is_empty() || since.elapsed() > LAST;
            if self.state.ending.is_some_and(over) {
                break;
            }
        }
        self.end();
    }

    fn wait(&self) -> Option<Timespec> {
        let due = self.state.due.first().map(|(at, _)| *at);
        let tell_at = self.state.ended.values().map(|ended| ended.at).min();
        let at = [due, tell_at, self.state.look_at, self.state.ending.map(|since| since + LAST)].into_iter().flatten().min()?;
        // Rounded up to the millisecond, in which the system counts: woken early, the loop would turn in vain.
        let wait = at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        Some(Timespec { tv_sec: wait.as_secs().min(3600) as i64, tv_nsec: (i64::from(wait.subsec_millis()) * 1_000_000) as _ })
    }

    fn on_order(&mut self, order: Order) {
        match order {
            Order::Run(run) => self.on_run(run),
            Order::Stop { task, grace } => {
                let Some(&number) = self.state.numbers.get(&task) else { return };
                if self.take_back(number) {
                    return;
                }
                if let Some(running) = self.state.tries.get_mut(&number) {
                    running.stop(Exit::Stopped, grace, Instant::now());
                }
                self.schedule(number);
            }
            Order::TakeBack(task) => {
                if let Some(&number) = self.state.numbers.get(&task) {
                    self.take_back(number);
                }
            }
            Order::Read { token, task, stderr, from } => {
                match self.state.numbers.get(&task).and_then(|number| self.state.tries.get(number)) {
                    Some(running) => {
                        let bytes = running.outputs[usize::from(stderr)].keeper.page(from);
                        self.say(Input::OutputRead { token, more: false, bytes: Some(bytes) });
                    }
                    // It hangs up only when this loop has ended.
                    None => drop(self.chores.send(Chore::Read { token, path: self.outputs.path(&task, stderr), from })),
                }
            }
            Order::Started { number, started } => self.on_started(number, started),
            Order::NotStarted { number, why } => self.on_not_started(number, why),
            Order::End => {
                self.state.ending = Some(Instant::now());
                for number in self.state.turns.remove_all() {
                    self.finish(number, Some(Exit::Stopped));
                }
                let numbers: Vec<u64> = self.state.tries.keys().copied().collect();
                for number in numbers {
                    if let Some(running) = self.state.tries.get_mut(&number) {
                        running.stop(Exit::Stopped, Duration::ZERO, Instant::now());
                        running.kill();
                    }
                    self.schedule(number);
                }
            }
        }
    }

    /// Ends a try that waits for its turn; false if it does not.
    fn take_back(&mut self, number: u64) -> bool {
        let waits = self.state.tries.get(&number).is_some_and(|running| self.state.turns.remove(&running.service, number));
        if waits {
            self.finish(number, Some(Exit::Stopped));
        }
        waits
    }

    fn on_run(&mut self, run: Box<Run>) {
        if self.state.numbers.contains_key(&run.task) || self.state.ending.is_some() {
            tracing::warn!(task = %run.task, "a try is to run that runs already, or comes after the end");
            return;
        }
        let number = self.state.next;
        self.state.next += 1;
        let keeper = |which: &str| Keeper::new(self.directory.join(format!("{number}.{which}")));
        let running = Running::new(&run, [keeper("out"), keeper("err")]);
        self.state.numbers.insert(run.task, number);
        self.state.tries.insert(number, Box::new(running));
        self.state.turns.put(number, run);
        self.start_waiting();
    }

    fn start_waiting(&mut self) {
        while let Some((number, run)) = self.state.turns.next(self.most) {
            self.keep_reaper();
            self.state.look_at.get_or_insert_with(|| Instant::now() + LOOK);
            let Some(running) = self.state.tries.get_mut(&number) else { continue };
            let slot = self.state.free_slots.pop().unwrap_or_else(|| {
                self.state.slots += 1;
                self.state.slots - 1
            });
            running.begin(slot, Instant::now());
            let spare = self.state.spare.pop();
            (running.place, running.place_changed) = spare.map_or((number, None), |(place, changed)| (place, Some(changed)));
            self.state.places.insert(running.place, number);
            // The threads that start programs end after this loop.
            drop(self.starts.send(Start { number, slot, place: running.place, run }));
            self.schedule(number);
        }
    }

    /// Sees to it that the tasks do not outlive this process.
    fn keep_reaper(&mut self) {
        let Some(program) = self.reaper_program.as_ref().filter(|_| self.state.reaper.is_none()) else { return };
        let now = Instant::now();
        if self.state.reaper_started.is_some_and(|at| now < at + REAPER) {
            return;
        }
        self.state.reaper_started = Some(now);
        let started = Reaper::start(program, &self.directory).and_then(|reaper| {
            epoll::add(&self.epoll, &reaper.handle, epoll::EventData::new_u64(REAPER_GONE), epoll::EventFlags::IN)?;
            Ok(reaper)
        });
        match started {
            Ok(reaper) => self.state.reaper = Some(reaper),
            Err(error) => tracing::warn!(%error, "no reaper could be started: tasks would outlive a node that is killed"),
        }
    }

    fn on_started(&mut self, number: u64, started: Started) {
        let Some(running) = self.state.tries.get_mut(&number) else { return };
        self.state.pids.insert(started.pid.as_raw_nonzero().get(), number);
        running.on_started(started);
        if self.state.ending.is_some() {
            running.stop(Exit::Stopped, Duration::ZERO, Instant::now());
            running.kill();
        }
        self.schedule(number);
    }

    /// No process of it is left, or one that nobody would see the end of.
    fn on_not_started(&mut self, number: u64, why: String) {
        let Some(running) = self.state.tries.get(&number) else { return };
        if let Phase::Alive { pid, .. } = running.phase {
            give_up(pid);
        }
        self.finish(number, Some(Exit::NotStarted(short(why))));
    }

    fn on_event(&mut self, source: u64, chunk: &mut [u8]) {
        match source {
            BELL => {}
            REAPER_GONE => {
                if let Some(reaper) = self.state.reaper.take() {
                    reaper.bury();
                }
            }
            _ => {
                let (number, which) = (source / SOURCES, source % SOURCES);
                if which == 0 { self.on_process_ended(number, chunk) } else { self.on_written(number, which == 2, chunk) }
            }
        }
    }

    fn on_process_ended(&mut self, number: u64, chunk: &mut [u8]) {
        let Some(running) = self.state.tries.get_mut(&number) else { return };
        if running.on_ended(Instant::now()) {
            for (which, output) in running.outputs.iter_mut().enumerate().filter(|(_, output)| !output.watched) {
                let took = output.take(chunk);
                if which == 1 {
                    running.lines.take(took);
                }
            }
            self.watch_outputs(number);
            self.settle(number);
        } else {
            self.schedule(number);
        }
    }

    /// From now on what a try writes is told of.
    fn watch_outputs(&mut self, number: u64) {
        let Some(running) = self.state.tries.get_mut(&number) else { return };
        for (which, output) in (1..).zip(&mut running.outputs) {
            output.watch(&self.epoll, number * SOURCES + which);
        }
    }

    fn on_written(&mut self, number: u64, stderr: bool, chunk: &mut [u8]) {
        let Some(running) = self.state.tries.get_mut(&number) else { return };
        let output = &mut running.outputs[usize::from(stderr)];
        let took = output.take(chunk);
        if stderr {
            running.lines.take(took);
        }
        output.watch(&self.epoll, number * SOURCES + if stderr { 2 } else { 1 });
        if output.open.is_none() && matches!(running.phase, Phase::Dead { .. }) {
            self.settle(number);
        } else {
            self.schedule(number);
        }
    }

    /// The program has ended: so does its try, when nothing of it is left and what it wrote is read.
    fn settle(&mut self, number: u64) {
        let now = Instant::now();
        let Some(running) = self.state.tries.get_mut(&number) else { return };
        let mut left = running.has_group();
        if !(left && running.may_clean_up(now)) {
            if left {
                running.kill();
            }
            left |= self.end_strays(Some(number));
        }
        let Some(running) = self.state.tries.get_mut(&number) else { return };
        if left {
            running.look_again(now);
        } else if running.is_read(&self.epoll, now) {
            self.finish(number, None);
            return;
        }
        self.schedule(number);
    }

    fn end_strays(&mut self, ended: Option<u64>) -> bool {
        let state = &self.state;
        let goes_on = |number: u64| {
            state
                .tries
                .get(&number)
                .is_some_and(|running| ended != Some(number) && !matches!(running.phase, Phase::Waiting | Phase::Starting))
        };
        self.strays.end(&Judge {
            marks: self.ground.marks(),
            in_place: &|place| state.places.get(&place).copied().unwrap_or(place),
            ended,
            lives: &|number| state.tries.contains_key(&number) && ended != Some(number),
            leads: &|pid| state.pids.contains_key(&pid),
            oldest: state.tries.keys().copied().find(|number| goes_on(*number)),
            next: state.next,
        })
    }

    /// A try has ended, as is known from its program or is given.
    fn finish(&mut self, number: u64, given: Option<Exit>) {
        let Some(running) = self.state.tries.remove(&number) else { return };
        self.state.numbers.remove(&running.task);
        if let Some(at) = running.due {
            self.state.due.remove(&(at, number));
        }
        let began = !matches!(running.phase, Phase::Waiting);
        if began {
            self.state.turns.end(&running.service);
            self.state.free_slots.push(running.slot);
        }
        let (exit, ran, pid) = match running.phase {
            Phase::Dead { group, exit, ran, .. } => (given.unwrap_or(exit), ran, Some(group)),
            Phase::Alive { pid, .. } => (given.unwrap_or(Exit::Stopped), Duration::ZERO, Some(pid)),
            Phase::Waiting | Phase::Starting => (given.unwrap_or(Exit::Stopped), Duration::ZERO, None),
        };
        if let Some(pid) = pid {
            self.state.pids.remove(&pid.as_raw_nonzero().get());
        }
        if began {
            self.state.places.remove(&running.place);
            let own = self.ground.own(running.place);
            let changed = directory::as_new(&own, running.place_changed).filter(|_| self.state.spare.len() < SPARE);
            match changed {
                Some(changed) => self.state.spare.push((running.place, changed)),
                None => drop(self.chores.send(Chore::Remove(own))),
            }
        }
        let task = running.task;
        let [stdout, stderr] = running.outputs;
        let (stdout, stderr) = (self.kept(&task, false, stdout.keeper), self.kept(&task, true, stderr.keeper));
        let ended = self.state.ended.entry(running.service);
        let ended = ended.or_insert_with(|| Ended { inputs: Vec::new(), at: Instant::now() + GATHER });
        ended.inputs.push(Input::TaskEnded { task, exit, stdout, stderr, ran });
        self.start_waiting();
    }

    fn kept(&mut self, task: &Try, stderr: bool, keeper: Keeper) -> Excerpt {
        let path = self.outputs.path(task, stderr);
        let (excerpt, length) = keeper.finish(&path);
        if let Some(length) = length {
            self.outputs.add(path, length);
        }
        excerpt
    }

    fn on_due(&mut self) {
        let now = Instant::now();
        while let Some(&(at, number)) = self.state.due.first()
            && at <= now
        {
            self.state.due.pop_first();
            let Some(running) = self.state.tries.get_mut(&number) else { continue };
            running.due = None;
            let mut said = Vec::new();
            let may_end = running.tick(now, &mut said);
            let watches = running.takes_long(now);
            said.into_iter().for_each(|input| self.say(input));
            if watches {
                self.watch_outputs(number);
            }
            if may_end { self.settle(number) } else { self.schedule(number) }
        }
        if self.state.look_at.is_some_and(|at| at <= now) {
            self.end_strays(None);
            self.state.look_at = (!self.state.tries.is_empty()).then(|| now + LOOK);
        }
    }

    /// Notes when a try is to be called.
    fn schedule(&mut self, number: u64) {
        let Some(running) = self.state.tries.get_mut(&number) else { return };
        let wants = running.wants();
        if wants != running.due {
            if let Some(at) = std::mem::replace(&mut running.due, wants) {
                self.state.due.remove(&(at, number));
            }
            self.state.due.extend(wants.map(|at| (at, number)));
        }
    }

    fn say(&mut self, input: Input) {
        self.state.said_bytes += match &input {
            Input::TaskEnded { stdout, stderr, .. } => stdout.bytes.len() + stderr.bytes.len(),
            Input::OutputRead { bytes, .. } => bytes.as_ref().map_or(0, Vec::len),
            _ => 0,
        };
        self.state.said.push(input);
    }

    /// Hands over what was said; waits while the driver has enough to do. While others of a service take the slots of those that
    /// end, nobody waits for what is said of these: then it is gathered, so that one commit does for all of it. Ends of one
    /// service are told in their order, which says which have begun; of different services nobody relies on it.
    fn tell(&mut self) {
        let now = Instant::now();
        let (turns, ended) = (&self.state.turns, &mut self.state.ended);
        let told: Vec<Ended> =
            ended.extract_if(.., |service, ended| ended.at <= now || !turns.is_busy(service)).map(|(_, ended)| ended).collect();
        told.into_iter().flat_map(|ended| ended.inputs).for_each(|input| self.say(input));
        if self.state.said.is_empty() {
            return;
        }
        let (inputs, bytes) = (std::mem::take(&mut self.state.said), std::mem::take(&mut self.state.said_bytes));
        if self.facts.blocking_send(Fact::Inputs { inputs, bytes }).is_err() {
            tracing::debug!("nobody hears any more how tasks ended");
        }
    }

    /// Nothing is left of this run but the outputs that are kept.
    fn end(mut self) {
        self.state.tries.clear();
        self.end_strays(None);
        if let Some(reaper) = self.state.reaper.take() {
            reaper.end();
        }
        super::directory::remove(&self.directory);
    }
}
