//! Rows of services, orders, the queue and tasks.
//! Knows nothing of letters. It refuses, in words, every change that a sound node would never make.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use protocol::effect::{Change, FenceRow, OrderState, QueueState, Queued};
use protocol::order::{End, Ended, Order, OrderKey, Report, Try};
use protocol::proven::Proven;
use protocol::segment::What;
use protocol::service::{Offering, ServiceName};
use protocol::{Epoch, Kept, PeerId, Ranges, Timestamp};

use super::Verdict;

/// How a unit ended: the report that counts, or why nobody could run it.
pub(crate) type UnitEnd = Result<Report, String>;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    pub(crate) fence: Option<FenceRow>,
    pub(crate) offers: BTreeMap<ServiceName, Offering>,
    pub(crate) draining: bool,
    pub(crate) orders: BTreeMap<u64, Order>,
    pub(crate) states: BTreeMap<u64, OrderState>,
    pub(crate) ends: BTreeMap<(u64, u32), UnitEnd>,
    pub(crate) keys: BTreeMap<String, (u64, [u8; 32])>,
    pub(crate) queue: BTreeMap<OrderKey, Queued>,
    pub(crate) queue_states: BTreeMap<OrderKey, QueueState>,
    closed: BTreeMap<(PeerId, Epoch), Ranges>,
    pub(crate) started: BTreeMap<Try, Timestamp>,
    pub(crate) ended: BTreeMap<Try, Report>,
}

/// What one commit has touched, to be looked at when all of it is in.
#[derive(Default)]
pub(super) struct Touched {
    placed: BTreeSet<u64>,
    states: BTreeSet<u64>,
    outcomes: BTreeMap<u64, End>,
    cancelled: BTreeMap<u64, bool>,
    queued: BTreeSet<OrderKey>,
    started: BTreeSet<Try>,
    ended: BTreeMap<Try, Ended>,
}

impl Touched {
    /// Orders that have ended in this commit.
    pub(super) fn ended_orders(&self) -> BTreeSet<u64> {
        self.outcomes.keys().copied().collect()
    }
}

macro_rules! demand {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

impl Tasks {
    /// Takes a change; false if it is about something else.
    pub(super) fn apply(
        &mut self,
        author: PeerId,
        epochs: [Option<Epoch>; 2],
        change: &Change,
        touched: &mut Touched,
    ) -> Result<bool, String> {
        match change {
            Change::Fence(row) => self.put_fence(author, *row)?,
            Change::Offer(offering) => {
                demand!(offering.card.within_limits(), "{} is offered beyond all limits", offering.card.name);
                self.offers.insert(offering.card.name.clone(), Offering::clone(offering));
            }
            Change::DropOffer(name) => demand!(self.offers.remove(name).is_some(), "{name} is withdrawn and was not offered"),
            Change::Drain(draining) => self.draining = *draining,
            Change::Order(order) => self.put_order(author, epochs, order, touched)?,
            Change::OrderState(state) => self.put_state(state, touched)?,
            Change::UnitEnd { number, unit, report } => {
                self.put_end((*number, *unit), report.as_ref().map(|report| &**report))?;
                touched.states.insert(*number);
            }
            Change::OrderKey { key, number, digest } => {
                demand!(self.orders.contains_key(number), "key {key} of an order that is not there");
                demand!(self.keys.insert(key.clone(), (*number, *digest)).is_none(), "key {key} taken twice");
            }
            Change::Queue(queued) => {
                let key = queued.order.value.key();
                demand!(queued.order.proof.is_some() || key.orderer == author, "{key:?} is queued without its orderer's signature");
                demand!(!self.is_closed(key), "{key:?} is queued, and is known to have ended");
                demand!(self.queue.insert(key, Queued::clone(queued)).is_none(), "{key:?} is queued again");
                touched.queued.insert(key);
            }
            Change::QueueState(state) => {
                demand!(self.queue.contains_key(&state.order), "state of {:?}, which is not in the queue", state.order);
                self.put_queue_state(state)?;
            }
            Change::Unqueue(order) => {
                demand!(self.queue.remove(order).is_some(), "{order:?} leaves the queue and was not in it");
                self.queue_states.remove(order);
            }
            Change::Closed { orderer, epoch, closed } => {
                let before = self.closed.insert((*orderer, *epoch), closed.clone()).unwrap_or_default();
                demand!(before.minus(closed).is_empty(), "ended orders of {orderer} are forgotten: {before:?} to {closed:?}");
            }
            Change::TryStarted { task, at } => {
                demand!(!self.ended.contains_key(task), "{task} starts after its end");
                demand!(self.started.insert(*task, *at).is_none(), "{task} starts twice");
                touched.started.insert(*task);
            }
            Change::TryEnded(report) => {
                demand!(report.worker == author && report.within_limits(), "{} ends as somebody else's", report.of);
                self.started.remove(&report.of);
                demand!(self.ended.insert(report.of, Report::clone(report)).is_none(), "{} ends twice", report.of);
                touched.ended.insert(report.of, report.ended.clone());
            }
            Change::DropTry(task) => {
                let there = self.started.remove(task).is_some() | self.ended.remove(task).is_some();
                demand!(there, "{task} is dropped and is not there");
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn put_fence(&mut self, author: PeerId, row: FenceRow) -> Verdict {
        if let Some(before) = self.fence {
            demand!(row.fence >= before.fence, "the fence goes back from {:?} to {:?}", before.fence, row.fence);
            let back = row.fence == before.fence && row.counter < before.counter;
            demand!(!back, "claims of {:?} go back from {} to {}", row.fence, before.counter, row.counter);
        }
        demand!(row.counter == 0 || row.fence.leader == author, "a claim {} as somebody else: {:?}", row.counter, row.fence);
        self.fence = Some(row);
        Ok(())
    }

    fn put_order(&mut self, author: PeerId, epochs: [Option<Epoch>; 2], order: &Order, touched: &mut Touched) -> Verdict {
        let number = order.number;
        demand!(order.orderer == author && order.within_limits(), "order {number} is somebody else's, or beyond all limits");
        // One may be accepted, and a new memory begun, in one commit.
        demand!(epochs.contains(&Some(order.epoch)), "order {number} is of another memory than its node");
        let last = self.orders.last_key_value().map_or(0, |(number, _)| *number);
        // It goes on under a name of a new memory if others know another order by the one that it had.
        let open = self.states.get(&number).is_some_and(|state| state.outcome.is_none());
        let other = |before: &Order| before.epoch != order.epoch && Order { epoch: order.epoch, ..before.clone() } == *order;
        let renamed = open && self.orders.get(&number).is_some_and(other);
        demand!(number > last || renamed, "order {number} is placed after {last}");
        self.orders.insert(number, order.clone());
        touched.placed.insert(number);
        touched.states.insert(number);
        Ok(())
    }

    fn put_state(&mut self, state: &OrderState, touched: &mut Touched) -> Verdict {
        let number = state.number;
        let Some(order) = self.orders.get(&number) else { return Err(format!("state of order {number}, which is not there")) };
        demand!(order.epoch == state.epoch, "order {number} changes its memory");
        let last = [&state.done, &state.failed, &state.dropped].into_iter().filter_map(Ranges::last).max();
        demand!(last.is_none_or(|last| last <= u64::from(order.units())), "order {number} has no unit {last:?}");
        if let Some(before) = self.states.get(&number) {
            demand!(before.expires_at == state.expires_at, "order {number} expires at another time than it was placed with");
            demand!(before.cancelled.is_none() || before.cancelled == state.cancelled, "order {number} was cancelled, and is no more");
            let kept = |before: &Ranges, now: &Ranges| before.minus(now).is_empty();
            demand!(kept(&before.done, &state.done) && kept(&before.failed, &state.failed), "order {number} forgets ended units");
            demand!(before.outcome.is_none() || before == state, "order {number} changes after its outcome: {before:?} to {state:?}");
        }
        let before = self.states.insert(number, state.clone());
        let known = |of: fn(&OrderState) -> bool| before.as_ref().is_some_and(of);
        if let Some(outcome) = state.outcome.as_ref().filter(|_| !known(|state| state.outcome.is_some())) {
            touched.outcomes.insert(number, outcome.end);
        }
        if let Some((_, expired)) = state.cancelled.filter(|_| !known(|state| state.cancelled.is_some())) {
            touched.cancelled.insert(number, expired);
        }
        touched.states.insert(number);
        Ok(())
    }

    fn put_end(&mut self, key: (u64, u32), report: Result<&Proven<Report>, &String>) -> Verdict {
        let (number, unit) = key;
        let Some(order) = self.orders.get(&number) else { return Err(format!("a unit of order {number}, which is not there")) };
        demand!((1..=order.units()).contains(&unit), "order {number} has no unit {unit}");
        let end = report.map(|report| report.value.clone()).map_err(Clone::clone);
        let fits = end.as_ref().map_or(true, |report| (report.of.order, report.of.unit) == (order.key(), unit));
        demand!(fits, "unit {number}.{unit} is ended by a report of another: {end:?}");
        demand!(self.ends.insert(key, end).is_none(), "unit {number}.{unit} ends twice");
        Ok(())
    }

    fn put_queue_state(&mut self, state: &QueueState) -> Verdict {
        let order = state.order;
        let units = self.queue.get(&order).map_or(0, |queued| queued.order.value.units());
        let placed: BTreeSet<u32> = state.tries.iter().map(|(unit, _, _)| *unit).collect();
        demand!(placed.len() == state.tries.len(), "a unit of {order:?} is with two workers: {:?}", state.tries);
        demand!(placed.iter().all(|unit| (1..=units).contains(unit)), "a unit of {order:?} that it does not have is with a worker");
        let twice = placed.iter().find(|unit| state.ended.contains(u64::from(**unit)) || state.given_up.contains(u64::from(**unit)));
        demand!(twice.is_none(), "unit {twice:?} of {order:?} has ended and is with a worker");
        if let Some(before) = self.queue_states.get(&order) {
            demand!(before.cancel.is_none() || state.cancel.is_some(), "the cancel of {order:?} is forgotten");
            demand!(before.ended.minus(&state.ended).is_empty(), "ended units of {order:?} are forgotten");
            // An earlier attempt may take the place of a later one: of two running copies the longer-running stays (DESIGN 6.1).
        }
        self.queue_states.insert(order, state.clone());
        Ok(())
    }

    fn is_closed(&self, OrderKey { orderer, epoch, number }: OrderKey) -> bool {
        self.closed.get(&(orderer, epoch)).is_some_and(|closed| closed.contains(number))
    }

    /// What must hold of orders whenever a commit has touched them.
    fn check_order(&self, number: u64) -> Verdict {
        let order = &self.orders[&number];
        let Some(state) = self.states.get(&number) else { return Err(format!("order {number} has no state")) };
        let (mut done, mut not) = (Ranges::default(), Ranges::default());
        for ((_, unit), end) in self.ends.range((number, 0)..=(number, u32::MAX)) {
            let good = end.as_ref().is_ok_and(|report| report.ended.is_good());
            if good { &mut done } else { &mut not }.insert(u64::from(*unit));
        }
        demand!(state.done == done, "order {number} says that {:?} are done, its units say {done:?}", state.done);
        let mut other = state.failed.clone();
        state.dropped.iter().for_each(|(first, last)| other.insert_range(first, last));
        demand!(not.minus(&other).is_empty(), "order {number} says {other:?} of units of which {not:?} have ended otherwise");
        demand!(done.minus(&other) == done, "units of order {number} are done and are not: {done:?}, {other:?}");
        let Some(outcome) = &state.outcome else { return Ok(()) };
        let all = Ranges::of(1, u64::from(order.units()));
        let fits = match outcome.end {
            End::Done => done == all,
            End::Failed => all.minus(&done).minus(&other).is_empty() && !state.failed.is_empty(),
            End::Cancelled => state.cancelled.is_some_and(|(_, expired)| !expired) && done != all,
            End::Expired => state.cancelled.is_some_and(|(_, expired)| expired) && done != all,
            End::Unknown => order.once,
        };
        demand!(fits, "the outcome of order {number} is not what became of it: {state:?}");
        Ok(())
    }

    /// What was done is written down in the same commit, and rows that belong together are all there.
    pub(super) fn check<'a>(&self, touched: &Touched, entries: impl Iterator<Item = &'a What>) -> Verdict {
        touched.states.iter().try_for_each(|number| self.check_order(*number))?;
        let (mut placed, mut outcomes, mut cancelled) = (Ranges::default(), BTreeMap::new(), BTreeMap::new());
        let mut queued: BTreeMap<(PeerId, Epoch), Ranges> = BTreeMap::new();
        let (mut started, mut ended) = (BTreeSet::new(), BTreeMap::new());
        for what in entries {
            match what {
                What::OrdersPlaced { first, last } => placed.insert_range(*first, *last),
                What::OrdersQueued { orderer, epoch, first, last } | What::OrdersHeld { orderer, epoch, first, last } => {
                    queued.entry((*orderer, *epoch)).or_default().insert_range(*first, *last);
                }
                What::OrderEnded { number, end } => drop(outcomes.insert(*number, *end)),
                What::OrderCancelled { number, expired } => drop(cancelled.insert(*number, *expired)),
                What::UnitStarted { of } => drop(started.insert(*of)),
                What::UnitEnded { of, ended: how } => drop(ended.insert(*of, how.clone())),
                What::UnitsStarted { of } => started.extend(of.iter()),
                What::UnitsEnded { of, ended: how } => ended.extend(of.iter().map(|of| (of, how.clone()))),
                _ => {}
            }
        }
        let unsaid = touched.placed.iter().find(|number| !placed.contains(**number));
        demand!(unsaid.is_none(), "order {unsaid:?} was placed without an entry in the record");
        let unsaid =
            touched.queued.iter().find(|key| !queued.get(&(key.orderer, key.epoch)).is_some_and(|known| known.contains(key.number)));
        demand!(unsaid.is_none(), "{unsaid:?} was queued without an entry in the record");
        demand!(outcomes == touched.outcomes, "orders ended as {:?}, the record says {outcomes:?}", touched.outcomes);
        demand!(cancelled == touched.cancelled, "orders were cancelled as {:?}, the record says {cancelled:?}", touched.cancelled);
        let unsaid = touched.started.difference(&started).next();
        demand!(unsaid.is_none(), "{unsaid:?} was started without an entry in the record");
        let unsaid = touched.ended.iter().find(|(of, how)| ended.get(of) != Some(*how));
        demand!(unsaid.is_none(), "{unsaid:?} without an entry in the record");
        Ok(())
    }

    /// What the next start begins with.
    pub(super) fn fill(&self, kept: &mut Kept) {
        let mut closed: BTreeMap<(Epoch, End), Ranges> = BTreeMap::new();
        for state in self.states.values() {
            if let Some(outcome) = &state.outcome {
                closed.entry((state.epoch, outcome.end)).or_default().insert(state.number);
            }
        }
        let open = self.states.values().filter(|state| state.outcome.is_none());
        kept.fence = self.fence;
        kept.offers = self.offers.values().cloned().collect();
        kept.draining = self.draining;
        kept.open_orders = open.map(|state| (self.orders[&state.number].clone(), state.clone())).collect();
        kept.next_order = self.orders.last_key_value().map_or(1, |(number, _)| number + 1);
        kept.closed_own = closed.into_iter().map(|((epoch, end), ranges)| (epoch, end, ranges)).collect();
        kept.queue = self.queue.iter().map(|(key, queued)| (queued.clone(), self.queue_states.get(key).cloned())).collect();
        kept.closed = self.closed.iter().map(|((orderer, epoch), closed)| (*orderer, *epoch, closed.clone())).collect();
        kept.tries_started = self.started.iter().map(|(task, at)| (*task, *at)).collect();
        kept.tries_ended = self.ended.values().cloned().collect();
    }
}
