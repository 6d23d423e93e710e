//! One try while it runs: its process, what it writes, and when something is due.
//! Knows nothing of others. Which of its ends came first is decided once.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::Input;
use protocol::effect::Run;
use protocol::input::Exit;
use protocol::order::Try;
use protocol::service::ServiceName;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, test_kill_process_group, waitid, waitpgid, waitpid,
};

use super::directory::Changed;
use super::output::Keeper;
use super::progress::Lines;
use super::spawn::Started;
use super::watch::ONCE;

/// Between the two signals to a program whose time is up (DESIGN 6.9).
const GRACE: Duration = Duration::from_secs(5);
/// How long what a program wrote is read on after its end: another process may hold the other end, and none of ours may (guess).
const DRAIN: Duration = Duration::from_secs(1);
/// Between two looks for processes that are left, doubling up to the second (guess: a killed process is gone in a moment).
const LOOK: Duration = Duration::from_millis(1);
const LOOK_MOST: Duration = Duration::from_millis(100);
/// How long what a program writes stays in its pipe before anybody watches for it (guess: most short programs have ended, and
/// nobody sees the wait). It spares the loop up to three wake-ups a short program; what that saves was not told from noise.
const UNWATCHED: Duration = Duration::from_millis(5);

/// A try.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) task: Try,
    pub(super) service: ServiceName,
    /// Its place in the journal, when it has begun.
    pub(super) slot: u32,
    /// Its own directory, when it has begun.
    pub(super) place: u64,
    /// When that was changed last before it has begun, if it is not made for it.
    pub(super) place_changed: Option<Changed>,
    pub(super) phase: Phase,
    /// Standard output and standard error.
    pub(super) outputs: [Output; 2],
    pub(super) lines: Lines,
    time_limit: Option<Duration>,
    limit_at: Option<Instant>,
    /// Why we end it, if we do.
    ended_by: Option<Exit>,
    /// When all of it is killed, if it was told to end.
    kill_at: Option<Instant>,
    killed: bool,
    again_at: Option<Instant>,
    again_after: Duration,
    /// When it is called, as its owner has noted.
    pub(super) due: Option<Instant>,
}

/// One of the two outputs.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) open: Option<OwnedFd>,
    /// Its bytes are told of.
    pub(super) watched: bool,
    pub(super) keeper: Keeper,
}

impl Output {
    /// Reads what there is, up to what `chunk` holds; at its end it is closed. Returns what it has read.
    pub(super) fn take<'a>(&mut self, chunk: &'a mut [u8]) -> &'a [u8] {
        let Some(open) = &self.open else { return &[] };
        let mut took = 0;
        loop {
            match rustix::io::read(open, &mut chunk[took..]) {
                Ok(0) if took < chunk.len() => self.open = None,
                Ok(count) if count > 0 && took + count < chunk.len() => {
                    took += count;
                    continue;
                }
                Ok(count) => took += count,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(_) => self.open = None,
            }
            break;
        }
        self.keeper.take(&chunk[..took]);
        &chunk[..took]
    }

    /// From now on, or once more, it is told when there is something to read.
    pub(super) fn watch(&mut self, epoll: &OwnedFd, source: u64) {
        let Some(open) = &self.open else { return };
        let source = epoll::EventData::new_u64(source);
        let watched = if self.watched { epoll::modify(epoll, open, source, ONCE) } else { epoll::add(epoll, open, source, ONCE) };
        match watched {
            Ok(()) => self.watched = true,
            Err(error) => tracing::warn!(%error, "the rest of an output cannot be read"),
        }
    }

    /// Nothing more is read of what may still be written.
    pub(super) fn close(&mut self, epoll: &OwnedFd) {
        if let Some(open) = self.open.take().filter(|_| self.watched) {
            // Closing it is not enough: programs being started hold a copy for a moment, and for so long it would be told of again
            // and again.
            let _ = epoll::delete(epoll, &open);
        }
    }
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Phase {
    /// It waits for its turn.
    Waiting,
    /// It is being started.
    Starting,
    /// It runs.
    Alive {
        pid: Pid,
        /// Tells when it has ended.
        #[expect(dead_code, reason = "it is watched for as long as it is open")]
        handle: Arc<OwnedFd>,
        at: Instant,
        /// From when on its outputs are watched; none when they are.
        watch_at: Option<Instant>,
    },
    /// It has ended; what it left behind may not have.
    Dead { group: Pid, exit: Exit, ran: Duration, at: Instant },
}

impl Running {
    pub(super) fn new(run: &Run, outputs: [Keeper; 2]) -> Running {
        Running {
            task: run.task,
            service: run.service.clone(),
            slot: 0,
            place: 0,
            place_changed: None,
            phase: Phase::Waiting,
            outputs: outputs.map(|keeper| Output { open: None, watched: false, keeper }),
            lines: Lines::default(),
            time_limit: run.time_limit,
            limit_at: None,
            ended_by: None,
            kill_at: None,
            killed: false,
            again_at: None,
            again_after: LOOK,
            due: None,
        }
    }

    /// It is being started: that it runs is heard of when it ends, or when it is looked after.
    pub(super) fn begin(&mut self, slot: u32, now: Instant) {
        self.phase = Phase::Starting;
        self.slot = slot;
        self.again_after = UNWATCHED;
        self.look_again(now);
    }

    /// The program runs; if it was stopped meanwhile, not for long.
    pub(super) fn on_started(&mut self, started: Started) {
        let Started { pid, handle, stdout, stderr, at } = started;
        self.limit_at = self.time_limit.and_then(|limit| at.checked_add(limit));
        let [out, err] = &mut self.outputs;
        (out.open, err.open) = (Some(stdout), Some(stderr));
        self.phase = Phase::Alive { pid, handle, at, watch_at: Some(at + UNWATCHED) };
        (self.again_at, self.again_after) = (None, LOOK);
        if self.ended_by.is_some() {
            let _ = kill_process_group(pid, Signal::TERM);
        }
    }

    /// It is to end. `false`: it has ended, or is told to already.
    pub(super) fn stop(&mut self, cause: Exit, grace: Duration, now: Instant) -> bool {
        let kill_at = now.checked_add(grace).unwrap_or(now);
        if self.ended_by.is_some() {
            self.kill_at = self.kill_at.map(|at| at.min(kill_at));
            return false;
        }
        match self.phase {
            Phase::Dead { .. } => return false,
            Phase::Alive { pid, .. } => {
                let has_ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
                if matches!(waitid(WaitId::Pid(pid), has_ended), Ok(Some(_))) {
                    return false;
                }
                // One that was suspended must be woken to hear it.
                let _ = kill_process_group(pid, Signal::TERM);
                let _ = kill_process_group(pid, Signal::CONT);
            }
            Phase::Waiting | Phase::Starting => {}
        }
        self.ended_by = Some(cause);
        self.kill_at = Some(kill_at);
        true
    }

    /// Kills all of its group.
    pub(super) fn kill(&mut self) {
        self.killed = true;
        let (Phase::Alive { pid, .. } | Phase::Dead { group: pid, .. }) = self.phase else { return };
        // Who has gone meanwhile, or may not be killed, is seen when it is looked for.
        let _ = kill_process_group(pid, Signal::KILL);
    }

    /// The program has ended: what it left behind ends too, at once or, if it was told to end, when its time is up.
    /// `false`: it has not.
    pub(super) fn on_ended(&mut self, now: Instant) -> bool {
        let Phase::Alive { pid, at, .. } = &self.phase else { return false };
        let (pid, at) = (*pid, *at);
        if self.kill_at.is_none() {
            // Before it is asked how it ended: until then the number of the group cannot be another's.
            self.kill();
        }
        let status = match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => status,
            // Somebody traces it, and is told first.
            Ok(None) => {
                self.look_again(now);
                return false;
            }
            Err(error) => {
                tracing::error!(%error, task = %self.task, "how a program ended could not be found out");
                self.kill();
                self.phase = Phase::Dead { group: pid, exit: Exit::Killed(Signal::KILL.as_raw()), ran: at.elapsed(), at: now };
                return true;
            }
        };
        let itself = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Exited(code),
            (None, signal) => Exit::Killed(signal.unwrap_or(0)),
        };
        let exit = self.ended_by.clone().unwrap_or(itself);
        self.phase = Phase::Dead { group: pid, exit, ran: now.saturating_duration_since(at), at: now };
        true
    }

    /// Whether what it has left behind may live on for now.
    pub(super) fn may_clean_up(&self, now: Instant) -> bool {
        !self.killed && self.kill_at.is_some_and(|at| now < at)
    }

    /// Whether processes of its group are left, after its end; asks those that have ended how.
    pub(super) fn has_group(&self) -> bool {
        let Phase::Dead { group, .. } = self.phase else { return true };
        let left = || test_kill_process_group(group) != Err(rustix::io::Errno::SRCH);
        left() && {
            while matches!(waitpgid(group, WaitOptions::NOHANG), Ok(Some(_))) {}
            left()
        }
    }

    /// Whether something more may come of what it wrote.
    pub(super) fn is_read(&mut self, epoll: &OwnedFd, now: Instant) -> bool {
        let Phase::Dead { at, .. } = self.phase else { return false };
        if now >= at + DRAIN {
            self.outputs.iter_mut().for_each(|output| output.close(epoll));
        }
        self.outputs.iter().all(|output| output.open.is_none())
    }

    /// It is looked at again, ever more seldom.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.again_at = Some(now + self.again_after);
        self.again_after = (self.again_after * 2).min(LOOK_MOST);
    }

    /// Whether its outputs are to be watched from now on, as it has not ended soon.
    pub(super) fn takes_long(&mut self, now: Instant) -> bool {
        match &mut self.phase {
            Phase::Alive { watch_at, .. } => watch_at.take_if(|at| *at <= now).is_some(),
            _ => false,
        }
    }

    /// When it wants to be called.
    pub(super) fn wants(&self) -> Option<Instant> {
        let kill = self.kill_at.filter(|_| !self.killed && !matches!(self.phase, Phase::Waiting | Phase::Starting));
        let limit = self.limit_at.filter(|_| matches!(self.phase, Phase::Alive { .. }));
        let drained = match self.phase {
            Phase::Dead { at, .. } if self.outputs.iter().any(|output| output.open.is_some()) => Some(at + DRAIN),
            _ => None,
        };
        let watch = if let Phase::Alive { watch_at, .. } = self.phase { watch_at } else { None };
        [kill, limit, drained, watch, self.again_at, self.lines.due()].into_iter().flatten().min()
    }

    /// Does what is due; what it says is added. `true`: it may have come to its end.
    pub(super) fn tick(&mut self, now: Instant, said: &mut Vec<Input>) -> bool {
        if let Some(progress) = self.lines.tell(now) {
            said.push(Input::TaskProgressed { task: self.task, done: progress.done, total: progress.total, note: progress.note });
        }
        if self.limit_at.is_some_and(|at| now >= at) && matches!(self.phase, Phase::Alive { .. }) {
            self.limit_at = None;
            self.stop(Exit::TimedOut, GRACE, now);
        }
        if self.kill_at.is_some_and(|at| now >= at) && !self.killed {
            self.kill();
        }
        if self.again_at.is_some_and(|at| now >= at) {
            self.again_at = None;
            if matches!(self.phase, Phase::Starting) {
                self.look_again(now);
            }
            self.on_ended(now);
        }
        matches!(self.phase, Phase::Dead { .. })
    }
}
