//! An order in the leader's table, and where each of its units is.
//! Knows nothing of who decides. A unit is over, with a worker, or waits: never two of these.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use super::doubt::Wanted;
use super::lines::Shape;
use super::queue::Place;
use crate::config::Config;
use crate::effect::{QueueState, Queued};
use crate::now::Timestamp;
use crate::order::{Attempt, Broken, Cancel, Order, OrderKey, Try};
use crate::proven::Proven;
use crate::ranges::Ranges;

/// After so many questions the time between them does not double any more (guess: it is days by then, and has another limit).
const ASKED_MOST: u32 = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) order: Proven<Order>,
    pub(super) shape: Shape,
    pub(super) sort: u64,
    pub(super) at: Timestamp,
    pub(super) cancel: Option<Proven<Cancel>>,
    /// What the orderer was told last of its cancel: running and lost.
    pub(super) cancel_told: Option<(Vec<u32>, Vec<u32>)>,
    pub(super) wanted: Wanted,
    /// It is in the queue.
    pub(super) queued: bool,
    pub(super) given_up: Ranges,
    ended: Ranges,
    /// Units had ended before the memory of the orderer was put back to an earlier state.
    pub(super) forgotten: bool,
    /// How many are in these two.
    over: u32,
    tries: BTreeMap<u32, Placement>,
    /// Units of it at each worker.
    at_workers: BTreeMap<PeerId, u32>,
    /// Units below `fresh` that wait again.
    again: BTreeSet<u32>,
    /// Units from here on wait unless they are over or with a worker.
    fresh: u32,
    /// Attempts of units that came to nothing, also of those that are given up: of what they died.
    tried: BTreeMap<u32, Tried>,
    /// Attempts of units that their workers said were gone, the last of each: words about them may come late.
    dead: BTreeMap<u32, BTreeMap<PeerId, Attempt>>,
    /// The last try of units whose worker is lost.
    pub(super) lost: BTreeMap<u32, (Attempt, PeerId)>,
    /// When its orderer is asked for its closing, and how long it was waited for.
    pub(super) told_over: Option<(Duration, Duration)>,
    /// Workers that have the order itself, by connection.
    told: BTreeMap<PeerId, (u64, Duration)>,
}

/// Attempts of a unit.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    /// How many came to nothing …
    attempts: u32,
    /// … those whose process died …
    crashed: u32,
    /// … by which signal the last of those died, if by one …
    signal: Option<i32>,
    /// … and where the last one was: another worker is better.
    last: Option<PeerId>,
}

/// A unit with a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    pub(super) attempt: Attempt,
    pub(super) worker: PeerId,
    pub(super) stage: Stage,
    /// Since when.
    pub(super) since: Duration,
    /// When the assignment is sent again: until it is answered, and then now and then, lest the end of the unit was lost on its way.
    pub(super) again_at: Option<Duration>,
    /// How often its worker was asked again after it had answered.
    pub(super) asked: u32,
}

/// How far a unit with a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// An earlier leader, or this one before its restart, gave it to the worker.
    Unsure,
    /// It was sent under this term.
    Assigned,
    /// The worker has taken it.
    Taken,
    /// It runs, since then.
    Running,
}

impl Placement {
    /// Since when it runs.
    pub(super) fn runs_since(&self) -> Option<Duration> {
        (self.stage == Stage::Running).then_some(self.since)
    }

    /// How long its worker, which has answered, may be silent about it before it is asked again.
    pub(super) fn patience(&self, config: &Config) -> Duration {
        config.work_patience.saturating_mul(1 << self.asked.min(ASKED_MOST)).min(config.resend_most)
    }

    /// Its worker says that it has it, and since when it runs.
    pub(super) fn hears(&mut self, since: Option<Duration>, now: Duration) {
        match (since, self.stage) {
            (Some(_), Stage::Running) | (None, Stage::Running | Stage::Taken) => {}
            (Some(since), _) => (self.stage, self.since) = (Stage::Running, since),
            (None, _) => (self.stage, self.since) = (Stage::Taken, now),
        }
    }
}

impl Row {
    /// A new one.
    pub(super) fn new(order: Proven<Order>, sort: u64, at: Timestamp) -> Self {
        Row {
            shape: Shape::of(&order.value),
            order,
            sort,
            at,
            cancel: None,
            cancel_told: None,
            wanted: Wanted::Said,
            queued: false,
            given_up: Ranges::default(),
            ended: Ranges::default(),
            forgotten: false,
            over: 0,
            tries: BTreeMap::new(),
            at_workers: BTreeMap::new(),
            again: BTreeSet::new(),
            fresh: 1,
            tried: BTreeMap::new(),
            dead: BTreeMap::new(),
            lost: BTreeMap::new(),
            told_over: None,
            told: BTreeMap::new(),
        }
    }

    /// One from the disk.
    pub(super) fn kept(queued: Queued, state: Option<QueueState>, now: Duration) -> Self {
        let mut row = Row { wanted: Wanted::Kept, ..Row::new(queued.order, queued.sort, queued.at) };
        let Some(state) = state else { return row };
        row.sort = state.sort;
        row.cancel = state.cancel;
        let all = Ranges::of(1, u64::from(row.units()));
        row.ended = state.ended.common(&all);
        row.given_up = state.given_up.common(&all).minus(&row.ended);
        row.over = u32::try_from(row.ended.len() + row.given_up.len()).unwrap_or(u32::MAX);
        row.tried = state
            .tried
            .into_iter()
            .filter(|(unit, _, _)| row.is_unit(*unit))
            .map(|(unit, attempts, crashed)| (unit, Tried { attempts, crashed, signal: None, last: None }))
            .collect();
        for (unit, attempt, worker) in state.tries {
            if row.is_unit(unit) && !row.is_over(unit) && !row.tries.contains_key(&unit) {
                row.put(unit, Placement { attempt, worker, stage: Stage::Unsure, since: now, again_at: None, asked: 0 });
            }
        }
        row
    }

    /// As it is on the disk.
    pub(super) fn state(&self) -> QueueState {
        // How often a unit was tried that is given up makes no difference any more.
        let tried = self.tried.iter().filter(|(unit, _)| !self.is_over(**unit));
        QueueState {
            order: self.key(),
            sort: self.sort,
            cancel: self.cancel.clone(),
            ended: self.ended.clone(),
            given_up: self.given_up.clone(),
            tries: self.tries.iter().map(|(unit, placement)| (*unit, placement.attempt, placement.worker)).collect(),
            tried: tried.map(|(unit, tried)| (*unit, tried.attempts, tried.crashed)).collect(),
        }
    }

    /// As another tells of it, and what was known here of ends and of a cancel.
    pub(super) fn joined(&self, mut state: QueueState) -> QueueState {
        self.ended.iter().for_each(|(first, last)| state.ended.insert_range(first, last));
        self.given_up.iter().for_each(|(first, last)| state.given_up.insert_range(first, last));
        state.cancel = state.cancel.or_else(|| self.cancel.clone());
        state
    }

    pub(super) fn key(&self) -> OrderKey {
        self.order.value.key()
    }

    pub(super) fn place(&self) -> Place {
        (self.sort, self.key())
    }

    pub(super) fn units(&self) -> u32 {
        self.order.value.units()
    }

    pub(super) fn is_unit(&self, unit: u32) -> bool {
        (1..=self.units()).contains(&unit)
    }

    /// A report has come, or nobody can run it.
    pub(super) fn is_over(&self, unit: u32) -> bool {
        self.ended.contains(u64::from(unit)) || self.given_up.contains(u64::from(unit))
    }

    /// Units that are over.
    pub(super) fn over(&self) -> u32 {
        self.over
    }

    /// Units that are neither over nor with a worker.
    pub(super) fn waiting(&self) -> u32 {
        let busy = u32::try_from(self.tries.len()).unwrap_or(u32::MAX);
        self.units().saturating_sub(self.over).saturating_sub(busy)
    }

    /// Whether it belongs into the queue.
    pub(super) fn wants_workers(&self) -> bool {
        self.cancel.is_none() && self.waiting() > 0 && self.wanted <= Wanted::Kept
    }

    /// Nothing of it is with a worker, and nothing more is to be given to one. What only others take for ended may go on.
    pub(super) fn is_done_with(&self) -> bool {
        self.tries.is_empty() && !self.wants_workers() && !matches!(self.wanted, Wanted::Asked | Wanted::Doubted)
    }

    pub(super) fn tries(&self) -> &BTreeMap<u32, Placement> {
        &self.tries
    }

    pub(super) fn placement(&mut self, unit: u32) -> Option<&mut Placement> {
        self.tries.get_mut(&unit)
    }

    pub(super) fn try_of(&self, unit: u32, attempt: Attempt) -> Try {
        Try { order: self.key(), unit, attempt }
    }

    /// Workers that have units of it now.
    pub(super) fn workers(&self) -> impl Iterator<Item = &PeerId> + '_ {
        self.at_workers.keys()
    }

    pub(super) fn is_at(&self, worker: &PeerId) -> bool {
        self.at_workers.contains_key(worker)
    }

    /// The next unit that waits; it stays where it is until it is put somewhere.
    pub(super) fn next_unit(&mut self) -> Option<u32> {
        if let Some(unit) = self.again.first() {
            return Some(*unit);
        }
        while self.fresh <= self.units() && (self.is_over(self.fresh) || self.tries.contains_key(&self.fresh)) {
            self.fresh += 1;
        }
        (self.fresh <= self.units()).then_some(self.fresh)
    }

    /// The number of the next attempt of a unit: one that was declined was none.
    pub(super) fn next_number(&self, unit: u32) -> u32 {
        self.tried.get(&unit).map_or(0, |tried| tried.attempts).saturating_add(1)
    }

    /// Where the last attempt of a unit came to nothing.
    pub(super) fn avoids(&self, unit: u32) -> Option<PeerId> {
        self.tried.get(&unit).and_then(|tried| tried.last)
    }

    /// A unit that waits is with a worker now.
    pub(super) fn put(&mut self, unit: u32, placement: Placement) {
        debug_assert!(!self.is_over(unit) && !self.tries.contains_key(&unit), "only waiting units are placed");
        self.again.remove(&unit);
        *self.at_workers.entry(placement.worker).or_default() += 1;
        self.tries.insert(unit, placement);
    }

    /// It waits again.
    pub(super) fn take(&mut self, unit: u32) -> Option<Placement> {
        let placement = self.tries.remove(&unit)?;
        if let Some(count) = self.at_workers.get_mut(&placement.worker) {
            *count -= 1;
            if *count == 0 {
                self.at_workers.remove(&placement.worker);
            }
        }
        if unit < self.fresh {
            self.again.insert(unit);
        }
        Some(placement)
    }

    /// A report has come: of a unit that is not with a worker (any more).
    pub(super) fn end(&mut self, unit: u32) {
        if !self.is_over(unit) {
            self.ended.insert(u64::from(unit));
            self.over += 1;
        }
        self.again.remove(&unit);
        self.tried.remove(&unit);
        self.dead.remove(&unit);
    }

    /// Nobody can run it.
    pub(super) fn give_up(&mut self, unit: u32) {
        if !self.is_over(unit) {
            self.given_up.insert(u64::from(unit));
            self.over += 1;
        }
        self.again.remove(&unit);
        self.dead.remove(&unit);
    }

    /// By which signal a unit last died, if by one and as far as that was seen.
    pub(super) fn killed_by(&self, unit: u32) -> Option<i32> {
        self.tried.get(&unit).and_then(|tried| tried.signal)
    }

    /// An attempt came to nothing; returns how many have died.
    pub(super) fn broke(&mut self, unit: u32, number: u32, worker: PeerId, why: Broken) -> u32 {
        let tried = self.tried.entry(unit).or_default();
        tried.attempts = tried.attempts.max(number);
        if why.blames_the_process() {
            tried.crashed += 1;
            tried.signal = if let Broken::Killed(signal) = why { Some(signal) } else { None };
        }
        tried.last = Some(worker);
        tried.crashed
    }

    /// Attempts up to this number were given away.
    pub(super) fn used(&mut self, unit: u32, number: u32) {
        let tried = self.tried.entry(unit).or_default();
        tried.attempts = tried.attempts.max(number);
    }

    /// A worker says that an attempt of its is gone.
    pub(super) fn bury(&mut self, unit: u32, attempt: Attempt, worker: PeerId) {
        if self.is_unit(unit) && !self.is_over(unit) {
            let last = self.dead.entry(unit).or_default().entry(worker).or_insert(attempt);
            *last = attempt.max(*last);
        }
    }

    /// Whether this attempt is gone, as its worker said: a worker has a unit once, so that what it had before is gone, too.
    pub(super) fn is_dead(&self, unit: u32, attempt: Attempt, worker: &PeerId) -> bool {
        self.dead.get(&unit).and_then(|dead| dead.get(worker)).is_some_and(|last| attempt <= *last)
    }

    /// The order itself goes to a worker; false if that has it already.
    pub(super) fn tell(&mut self, worker: PeerId, connection: u64, now: Duration) -> bool {
        let known = self.told.get(&worker).is_some_and(|(told, _)| *told == connection);
        if !known {
            self.told.insert(worker, (connection, now));
        }
        !known
    }

    /// When the order went to a worker on this connection.
    pub(super) fn told_at(&self, worker: &PeerId, connection: u64) -> Option<Duration> {
        self.told.get(worker).filter(|(told, _)| *told == connection).map(|(_, at)| *at)
    }

    /// A worker does not have it after all.
    pub(super) fn untell(&mut self, worker: &PeerId) {
        self.told.remove(worker);
    }

    /// It is not wanted any more.
    pub(super) fn end_all(&mut self) {
        self.over = self.units();
    }

    /// All that is with workers is asked about then.
    pub(super) fn expect_answers(&mut self, again_at: Duration) -> impl Iterator<Item = u32> + '_ {
        self.tries.iter_mut().map(move |(unit, placement)| {
            placement.again_at = Some(again_at);
            *unit
        })
    }

    /// Nothing is known of what workers have.
    pub(super) fn begin(&mut self, now: Duration) {
        self.told.clear();
        self.told_over = None;
        self.cancel_told = None;
        self.queued = false;
        self.wanted = Wanted::Kept;
        for placement in self.tries.values_mut() {
            placement.stage = Stage::Unsure;
            placement.since = now;
            placement.again_at = None;
        }
    }
}
