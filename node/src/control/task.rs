//! One order, or one unit of it, as the API shows it: what the disk has, what runs now, what the dispatcher says.
//! Asks nobody. Its orderer's disk is believed before anyone's word, and the later attempt before the earlier.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use protocol::order::{Attempt, Ended, Excerpt, Report};
use protocol::peer::OrderView;
use protocol::service::Lack;
use protocol::work::{PlacedState, Standing};
use protocol::{PeerId, Timestamp};

use super::api::{self, Encoding, TaskState};
use super::desk::{OrderSummary, UnitEnd};
use super::names::Names;
use super::time::rfc3339;
use super::why;

/// Units that take so many times as long as those before them do not end at their pace (guess).
const SLOWER: u32 = 4;

/// What the dispatcher says of an order.
#[derive(Clone, Debug, Default)]
pub(super) enum Word {
    /// Nobody leads, as far as is known.
    #[default]
    NoDispatcher,
    /// It did not answer.
    Silent(PeerId),
    /// It knows nothing of it.
    Unknown(PeerId),
    /// This.
    Standing(Box<Standing>),
}

/// Who looks, and when.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) names: &'a Names<'a>,
    pub(super) now: Timestamp,
}

/// A unit that is with a worker.
#[derive(Clone, Debug)]
struct Live {
    state: PlacedState,
    worker: PeerId,
    attempt: Attempt,
    since: Duration,
    progress: Option<(u64, u64, String)>,
}

/// What is known of an order of this node.
pub(super) struct Own<'a> {
    look: Look<'a>,
    order: &'a OrderSummary,
    view: Option<&'a OrderView>,
    word: &'a Word,
    live: BTreeMap<u32, Live>,
}

impl<'a> Own<'a> {
    pub(super) fn new(look: Look<'a>, order: &'a OrderSummary, view: Option<&'a OrderView>, word: &'a Word) -> Own<'a> {
        let mut live: BTreeMap<u32, Live> = BTreeMap::new();
        for running in view.into_iter().flat_map(|view| &view.running) {
            let (state, worker, attempt) = (PlacedState::Running, running.worker, running.of.attempt);
            live.insert(running.of.unit, Live { state, worker, attempt, since: running.for_, progress: running.progress.clone() });
        }
        if let Word::Standing(standing) = word {
            for placed in &standing.tries {
                merge(&mut live, placed);
            }
        }
        let state = &order.state;
        live.retain(|unit, _| ![&state.done, &state.failed, &state.dropped].iter().any(|ended| ended.contains(u64::from(*unit))));
        if state.outcome.is_some() {
            live.clear();
        }
        Own { look, order, view, word, live }
    }

    fn standing(&self) -> Option<&'a Standing> {
        match self.word {
            Word::Standing(standing) => Some(standing),
            _ => None,
        }
    }

    fn is_queued(&self) -> bool {
        self.standing().is_some() || self.view.is_some_and(|view| view.queued.is_some())
    }

    /// The whole order; `end` is how its only unit ended, if it has only one and that has.
    pub(super) fn whole(&self, end: Option<&UnitEnd>) -> api::Task {
        let order = self.order;
        let state = self.state();
        let units = self.units();
        let mut task = self.bare(order.number.to_string(), state, order.state.outcome.is_some());
        task.units = units;
        if order.units == 1 {
            self.tell_unit(&mut task, 1, end);
        } else if task.done {
            task.ended_at = order.state.outcome.as_ref().map(|outcome| rfc3339(outcome.at));
        }
        if order.units > 1 {
            let begun = self.live.values().filter(|live| live.state != PlacedState::Assigned).map(|live| live.since).max();
            task.started_at = begun.filter(|_| units.done + units.failed == 0).map(|since| self.ago(since));
            (task.eta_seconds, task.eta_basis) = self.eta_of_many(units).unwrap_or((task.eta_seconds, task.eta_basis));
        }
        task.why = match &order.state.outcome {
            Some(outcome) => outcome.why.clone().or_else(|| self.how_badly(state, units, end)),
            None => self.why(state),
        };
        task
    }

    /// One of its units.
    pub(super) fn unit(&self, unit: u32, item: Option<String>, end: Option<&UnitEnd>) -> api::Task {
        let at = u64::from(unit);
        let order = self.order;
        let live = self.live.get(&unit);
        let cancelled = order.state.cancelled;
        let state =
            match end.map(|end| &end.end) {
                Some(Ok(report)) if report.ended.is_good() => TaskState::Done,
                Some(Ok(Report { ended: Ended::Cancelled, .. })) => TaskState::Cancelled,
                Some(_) => TaskState::Failed,
                None if order.state.done.contains(at) => TaskState::Done,
                None if order.state.failed.contains(at) => TaskState::Failed,
                None if order.state.dropped.contains(at) || order.state.outcome.is_some() => {
                    if cancelled.is_some_and(|(_, expired)| expired) { TaskState::Expired } else { TaskState::Cancelled }
                }
                None if cancelled.is_some() => TaskState::Cancelling,
                None => live.map_or(if self.is_queued() { TaskState::Queued } else { TaskState::Accepted }, |live| word(live.state)),
            };
        let ended = matches!(state, TaskState::Done | TaskState::Cancelled | TaskState::Failed | TaskState::Expired);
        let mut task = self.bare(format!("{}.{unit}", order.number), state, ended);
        (task.unit, task.item) = (Some(unit), item);
        if !matches!(state, TaskState::Accepted | TaskState::Queued) {
            // Those are of units that wait.
            task.lacks.clear();
        }
        if let Some(item) = &task.item {
            task.args = task.args.iter().map(|arg| arg.replace("{}", item)).collect();
        }
        let one = |is: bool| u32::from(is);
        task.units = api::Units {
            total: 1,
            done: one(state == TaskState::Done),
            failed: one(state == TaskState::Failed),
            cancelled: one(matches!(state, TaskState::Cancelled | TaskState::Expired)),
            running: one(!ended && live.is_some_and(|live| live.state != PlacedState::Assigned)),
            waiting: one(!ended && live.is_none_or(|live| live.state == PlacedState::Assigned)),
        };
        self.tell_unit(&mut task, unit, end);
        task.why = match end.map(|end| &end.end) {
            Some(Ok(report)) => why::ended(&report.ended),
            Some(Err(why)) => Some(why.clone()),
            None if ended => None,
            None => self.why(state),
        };
        task
    }

    fn bare(&self, id: String, state: TaskState, done: bool) -> api::Task {
        let (order, standing) = (self.order, self.standing().filter(|_| !done));
        let names = self.look.names;
        let lacks = standing.filter(|standing| standing.waiting > 0).map(|standing| why::lacking(&standing.lacks, names));
        // The disk of a dispatcher on another machine is one.
        let elsewhere = self.view.and_then(|view| view.queued).filter(|fence| names.are_apart(&fence.leader, &names.me()));
        api::Task {
            id,
            order: order.number,
            orderer: names.of(&names.me()),
            orderer_id: names.me().to_string(),
            service: order.service.to_string(),
            args: order.args.clone(),
            priority: order.priority.into(),
            state,
            done,
            position: standing.and_then(|standing| standing.position),
            held_by: standing.map_or(u32::from(elsewhere.is_some()), |standing| held_by(standing, names)),
            eta_seconds: standing.and_then(until_start),
            eta_basis: standing.map_or(0, |standing| standing.basis),
            lacks: lacks.unwrap_or_default(),
            placed_at: rfc3339(order.placed),
            ended_at: order.state.outcome.as_ref().map(|outcome| rfc3339(outcome.at)),
            expires_at: order.state.expires_at.map(rfc3339),
            // What is known of one unit alone is filled in by `tell_unit`.
            ..api::Task::default()
        }
    }

    /// Who has the unit, or how it ended.
    fn tell_unit(&self, task: &mut api::Task, unit: u32, end: Option<&UnitEnd>) {
        let names = self.look.names;
        if let Some(Ok(report)) = end.map(|end| &end.end) {
            task.worker = Some(names.of(&report.worker));
            task.worker_id = Some(report.worker.to_string());
            task.attempt = Some(report.of.attempt.number);
            let (stdout, stderr, encoding) = texts(&report.stdout, &report.stderr);
            (task.stdout, task.stderr, task.encoding) = (Some(stdout), Some(stderr), encoding);
            (task.stdout_bytes, task.stderr_bytes) = (Some(report.stdout.total), Some(report.stderr.total));
            task.stdout_truncated = report.stdout.total > report.stdout.bytes.len() as u64;
            task.stderr_truncated = report.stderr.total > report.stderr.bytes.len() as u64;
            (task.stdout_lost_bytes, task.stderr_lost_bytes) = (lost(&report.stdout), lost(&report.stderr));
            task.exit_code = if let Ended::Exited(code) = report.ended { Some(code) } else { None };
            task.started_at = Some(rfc3339(report.started_at));
            task.ended_at = Some(rfc3339(report.ended_at));
            return;
        }
        let Some(live) = self.live.get(&unit) else { return };
        task.worker = Some(names.of(&live.worker));
        task.worker_id = Some(live.worker.to_string());
        task.attempt = Some(live.attempt.number);
        if live.state != PlacedState::Assigned {
            task.started_at = Some(self.ago(live.since));
        }
        if let Some((done, of, note)) = &live.progress {
            task.progress = Some(api::Progress { done: *done, of: *of, note: note.clone() });
            task.eta_seconds = left(live.since, *done, *of);
            task.eta_basis = 0;
        } else if live.state != PlacedState::Assigned {
            // What is measured at the dispatcher is when something starts.
            task.eta_seconds = None;
        }
    }

    fn state(&self) -> TaskState {
        if let Some(outcome) = &self.order.state.outcome {
            return outcome.end.into();
        }
        if self.order.state.cancelled.is_some() {
            return TaskState::Cancelling;
        }
        let any = |state: PlacedState| self.live.values().any(|live| live.state == state);
        let first = [PlacedState::Running, PlacedState::Assigned, PlacedState::Unreachable].into_iter().find(|state| any(*state));
        let begun = self.standing().is_some_and(|standing| standing.ended > 0 && standing.waiting == 0);
        match first {
            Some(state) => word(state),
            // The last reports are on their way here.
            None if begun => TaskState::Running,
            None if self.is_queued() => TaskState::Queued,
            None => TaskState::Accepted,
        }
    }

    fn units(&self) -> api::Units {
        let state = &self.order.state;
        let count = |ranges: &protocol::Ranges| u32::try_from(ranges.len()).unwrap_or(u32::MAX);
        let total = self.order.units;
        let (done, failed, cancelled) = (count(&state.done), count(&state.failed), count(&state.dropped));
        let left = total.saturating_sub(done).saturating_sub(failed).saturating_sub(cancelled);
        if state.outcome.is_some() {
            // What was neither done nor has failed was not wanted any more.
            return api::Units { total, done, failed, cancelled: cancelled + left, running: 0, waiting: 0 };
        }
        let running = self.live.values().filter(|live| live.state != PlacedState::Assigned).count();
        // The dispatcher names only some of many; the rest of what it has given away is taken to run.
        let unnamed = self.standing().map_or(0, |standing| {
            let given = standing.units.saturating_sub(standing.ended).saturating_sub(standing.waiting);
            given.saturating_sub(u32::try_from(standing.tries.len()).unwrap_or(u32::MAX))
        });
        let running = u32::try_from(running).unwrap_or(u32::MAX).saturating_add(unnamed).min(left);
        api::Units { total, done, failed, cancelled, running, waiting: left - running }
    }

    /// From how fast its own units ended so far.
    fn eta_of_many(&self, units: api::Units) -> Option<(Option<f64>, u32)> {
        let ended = units.done + units.failed;
        if self.order.state.outcome.is_some() || ended == 0 || units.running == 0 {
            return None;
        }
        // Where its dispatcher knows of no pace either, units wait behind some that take long for once.
        if self.standing().is_some_and(|standing| standing.waiting > 0 && standing.eta_ms.is_none()) {
            return Some((None, 0));
        }
        let since = Duration::from_millis(self.look.now.0.saturating_sub(self.order.placed.0));
        // The last ones take so much longer than those before that their pace says nothing.
        let each = since * units.running / ended;
        if units.waiting == 0 && self.live.values().all(|live| live.since > each * SLOWER) {
            return Some((None, 0));
        }
        Some((left(since, u64::from(ended), u64::from(units.total - units.cancelled)), ended))
    }

    fn how_badly(&self, state: TaskState, units: api::Units, end: Option<&UnitEnd>) -> Option<String> {
        match end.map(|end| &end.end) {
            Some(Ok(report)) => why::ended(&report.ended).filter(|_| state == TaskState::Failed),
            Some(Err(why)) => Some(why.clone()),
            None if units.total > 1 && state == TaskState::Failed => Some(format!("{} done, {} failed", units.done, units.failed)),
            None => None,
        }
    }

    fn why(&self, state: TaskState) -> Option<String> {
        let names = self.look.names;
        let who = |state: PlacedState| self.live.values().find(|live| live.state == state).map(|live| names.of(&live.worker));
        match state {
            TaskState::Unreachable => who(PlacedState::Unreachable)
                .map(|worker| format!("nothing is heard of {worker}; it is tried elsewhere if that stays so for 30 s")),
            TaskState::Cancelling => Some(match (who(PlacedState::Unreachable), who(PlacedState::Running)) {
                (Some(worker), _) => format!("{worker}, which runs it, cannot be reached to stop it"),
                (None, Some(worker)) => format!("it is being stopped at {worker}"),
                (None, None) => self.without_word().unwrap_or_else(|| "it is being taken out of the queue".to_owned()),
            }),
            TaskState::Accepted | TaskState::Queued => Some(self.without_word().unwrap_or_else(|| self.waits())),
            TaskState::Running | TaskState::Assigned => self.unheard(),
            _ => None,
        }
    }

    /// Who has units of it that go on elsewhere, and is not heard of.
    fn unheard(&self) -> Option<String> {
        let unheard: Vec<PeerId> =
            self.live.values().filter(|live| live.state == PlacedState::Unreachable).map(|live| live.worker).collect();
        let workers: BTreeSet<PeerId> = unheard.iter().copied().collect();
        let units = unheard.len();
        (units > 0).then(|| {
            let (has, they) = (if workers.len() == 1 { "has" } else { "have" }, if units == 1 { "it is" } else { "they are" });
            let workers = why::list(&workers.iter().map(|worker| self.look.names.of(worker)).collect::<Vec<_>>());
            format!("nothing is heard of {workers}, which {has} {units} of its units; {they} tried elsewhere if that stays so for 30 s")
        })
    }

    /// Why the dispatcher has said nothing of it.
    fn without_word(&self) -> Option<String> {
        let names = self.look.names;
        let not_queued = self.view.and_then(|view| view.not_queued).map(why::full);
        match self.word {
            Word::NoDispatcher => Some("nobody is dispatcher now; it is handed on as soon as one is elected".to_owned()),
            Word::Silent(leader) => Some(format!("the dispatcher, {}, does not answer now", names.of(leader))),
            Word::Unknown(leader) => Some(match not_queued {
                Some(full) => format!("the dispatcher, {}, {full}; it is offered again", names.of(leader)),
                None => format!("it is on its way to the dispatcher, {}", names.of(leader)),
            }),
            Word::Standing(..) => None,
        }
    }

    fn waits(&self) -> String {
        let Some(standing) = self.standing() else { return String::new() };
        let needs = Some(&self.order.needs);
        if standing.waiting == 0 {
            return "its end is on its way here".to_owned();
        }
        if standing.lacks.is_empty() {
            let others = standing.position.unwrap_or(1).saturating_sub(1);
            return if others > 0 { before(others) } else { "it is about to be given to a worker".to_owned() };
        }
        why::waits(self.order.service.as_str(), needs, &standing.lacks, self.look.names)
    }

    fn ago(&self, since: Duration) -> String {
        ago(self.look.now, since)
    }
}

fn before(others: u64) -> String {
    format!("{others} {} before it in the queue", if others == 1 { "other is" } else { "others are" })
}

/// Bytes that were not kept anywhere.
fn lost(excerpt: &Excerpt) -> u64 {
    excerpt.total.saturating_sub(excerpt.kept.max(excerpt.bytes.len() as u64))
}

/// When what waits should start. What no worker will take as things are has no such time.
fn until_start(standing: &Standing) -> Option<f64> {
    let soon = |lack: &Lack| matches!(lack, Lack::Full | Lack::Busy | Lack::NoOrder);
    let stuck = !standing.lacks.is_empty() && !standing.lacks.values().any(soon);
    standing.eta_ms.filter(|_| standing.waiting > 0 && !stuck).map(seconds)
}

/// On how many machines an order is, besides its orderer's: the dispatcher counts itself, and may be of that machine.
fn held_by(standing: &Standing, names: &Names<'_>) -> u32 {
    let with_orderer = names.leader().is_some_and(|leader| !names.are_apart(&leader, &standing.order.orderer));
    standing.held_by.saturating_sub(u32::from(with_orderer))
}

/// An order of another node, as the dispatcher knows it.
pub(super) fn others(look: Look<'_>, standing: &Standing) -> api::Task {
    let Look { names, now } = look;
    let any = |state: PlacedState| standing.tries.iter().any(|placed| placed.state == state);
    let over = standing.ended >= standing.units;
    let state = if standing.cancelling {
        TaskState::Cancelling
    } else if any(PlacedState::Running) || over {
        TaskState::Running
    } else if any(PlacedState::Assigned) {
        TaskState::Assigned
    } else if any(PlacedState::Unreachable) {
        TaskState::Unreachable
    } else {
        TaskState::Queued
    };
    let orderer = names.of(&standing.order.orderer);
    let only = if standing.units == 1 { standing.tries.first() } else { None };
    let waits = standing.waiting > 0 && state == TaskState::Queued;
    let lacks: &BTreeMap<PeerId, Lack> = &standing.lacks;
    let why = if over {
        Some("it has ended at its worker; its orderer has not confirmed it yet".to_owned())
    } else if waits && lacks.is_empty() && standing.position.is_some_and(|position| position > 1) {
        Some(before(standing.position.unwrap_or(1) - 1))
    } else {
        waits.then(|| why::waits(standing.service.as_str(), None, lacks, names))
    };
    let running = standing.units.saturating_sub(standing.ended).saturating_sub(standing.waiting);
    api::Task {
        id: format!("{orderer}/{}", standing.order.number),
        order: standing.order.number,
        unit: None,
        item: None,
        orderer_id: standing.order.orderer.to_string(),
        orderer,
        service: standing.service.to_string(),
        args: if standing.args.is_empty() { Vec::new() } else { vec![standing.args.clone()] },
        priority: standing.priority,
        state,
        done: false,
        worker: only.map(|placed| names.of(&placed.worker)),
        worker_id: only.map(|placed| placed.worker.to_string()),
        attempt: only.map(|placed| placed.attempt.number),
        progress: None,
        units: api::Units { total: standing.units, done: standing.ended, failed: 0, cancelled: 0, running, waiting: standing.waiting },
        position: standing.position,
        held_by: held_by(standing, names),
        eta_seconds: until_start(standing),
        eta_basis: standing.basis,
        why,
        lacks: if standing.waiting > 0 { why::lacking(lacks, names) } else { Vec::new() },
        placed_at: ago(now, Duration::from_millis(standing.age_ms)),
        started_at: only
            .filter(|placed| placed.state != PlacedState::Assigned)
            .map(|placed| ago(now, Duration::from_millis(placed.since_ms))),
        // What it writes only its orderer is told.
        ..api::Task::default()
    }
}

/// The later attempt counts; of one attempt the dispatcher knows whether its worker is silent, and the orderer whether it has begun.
fn merge(live: &mut BTreeMap<u32, Live>, placed: &protocol::work::Placed) {
    let known = live.get(&placed.unit);
    let same = known.filter(|known| known.attempt == placed.attempt);
    let stale = known.is_some_and(|known| known.attempt > placed.attempt);
    if stale || same.is_some() && placed.state == PlacedState::Assigned {
        return;
    }
    let progress = same.and_then(|known| known.progress.clone());
    let since = Duration::from_millis(placed.since_ms);
    live.insert(placed.unit, Live { state: placed.state, worker: placed.worker, attempt: placed.attempt, since, progress });
}

fn word(state: PlacedState) -> TaskState {
    match state {
        PlacedState::Assigned => TaskState::Assigned,
        PlacedState::Running => TaskState::Running,
        PlacedState::Unreachable => TaskState::Unreachable,
    }
}

/// If the rest is as fast as what is done.
fn left(since: Duration, done: u64, of: u64) -> Option<f64> {
    if done == 0 || done > of {
        return None;
    }
    #[allow(clippy::cast_precision_loss)] // For people.
    let rest = (of - done) as f64 / done as f64;
    Some((since.as_secs_f64() * rest * 10.0).round() / 10.0)
}

#[allow(clippy::cast_precision_loss)] // For people.
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

fn ago(now: Timestamp, since: Duration) -> String {
    rfc3339(Timestamp(now.0.saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))))
}

/// Both outputs as text, or both in Base64 if one is none.
fn texts(stdout: &Excerpt, stderr: &Excerpt) -> (String, String, Encoding) {
    match (text(stdout), text(stderr)) {
        (Some(out), Some(err)) => (out.to_owned(), err.to_owned(), Encoding::Utf8),
        _ => {
            let base64 = base64::engine::general_purpose::STANDARD;
            (base64.encode(&stdout.bytes), base64.encode(&stderr.bytes), Encoding::Base64)
        }
    }
}

/// An excerpt may end in the middle of a character.
fn text(excerpt: &Excerpt) -> Option<&str> {
    let cut = excerpt.total > excerpt.bytes.len() as u64;
    match std::str::from_utf8(&excerpt.bytes) {
        Ok(text) => Some(text),
        Err(error) if cut && error.error_len().is_none() => std::str::from_utf8(&excerpt.bytes[..error.valid_up_to()]).ok(),
        Err(_) => None,
    }
}
