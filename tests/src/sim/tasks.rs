//! What services and orders promise, watched over all nodes: one outcome an order and never another, no unit run twice at once
//! by one node, no worker beyond what it offers, no end that nobody had, and in the end everything that can run has ended.
//! Knows nothing of machines: it looks at disks, at processes and at what users were told.

use std::collections::{BTreeMap, BTreeSet};

use protocol::PeerId;
use protocol::effect::{Change, OrderState, Outcome, Run};
use protocol::input::{Exit, NewOrder};
use protocol::order::{End, Ended, Order, OrderKey, Report, Try};
use protocol::service::{Needs, Offering, ServiceName};

use super::Sim;
use super::checker::Verdict;
use super::disk::Disk;
use super::node::MACHINE;

/// An order that was ever on its orderer's disk.
#[derive(Clone, Debug)]
struct Placed {
    node: usize,
    order: Order,
    /// Others of that name: its orderer was put back to before it gave it.
    earlier: Vec<Order>,
    /// Its orderer's user was told.
    accepted: bool,
    /// It was on a disk that was then put back to before it.
    forgotten: bool,
    outcome: Option<Outcome>,
    /// Units whose end counts.
    counted: BTreeSet<u32>,
}

/// A run of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Which try.
    pub(crate) task: Try,
    /// By which node.
    pub(crate) node: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    placed: BTreeMap<OrderKey, Placed>,
    /// The greatest number that each node ever gave.
    numbers: BTreeMap<usize, u64>,
    keys: BTreeMap<(usize, String), u64>,
    /// What each node offered last under each name, also if it has withdrawn it.
    offered: BTreeMap<(usize, ServiceName), Offering>,
    /// Every report that a worker's disk ever held.
    reports: BTreeMap<Try, Vec<Report>>,
    /// What each run takes, as it began last: its service, cores and memory, whatever is offered now or ordered under its name.
    takes: BTreeMap<(usize, Try), (ServiceName, u32, u64)>,
    /// How every process ended that was not killed with its node.
    exits: BTreeMap<(usize, Try), Exit>,
    /// All that ever ran, in the order of starting.
    pub(crate) ran: Vec<Ran>,
    restored: bool,
}

macro_rules! demand {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

/// What one unit takes of a worker: the greater of what its order and the worker's offer say.
fn needs(order: &Order, offering: &Offering) -> (ServiceName, u32, u64) {
    let (one, other) = (&order.needs, &offering.card.needs);
    (order.service.clone(), one.cores.max(other.cores), one.memory_bytes.max(other.memory_bytes))
}

impl Tasks {
    /// A node has committed `changes`, and this is its disk now.
    pub(crate) fn on_commit(&mut self, node: usize, me: PeerId, disk: &Disk, changes: &[Change]) -> Verdict {
        for change in changes {
            match change {
                Change::Order(order) => self.on_order(node, order)?,
                Change::OrderState(state) => self.on_state(me, state)?,
                Change::UnitEnd { number, unit, report } => {
                    let report = report.as_ref().ok().map(|report| &report.value);
                    self.on_unit_end(disk.tasks.orders[number].key(), *unit, report)?;
                }
                Change::Offer(offering) => drop(self.offered.insert((node, offering.card.name.clone()), Offering::clone(offering))),
                Change::TryEnded(report) => self.on_try_ended(node, report)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn on_order(&mut self, node: usize, order: &Order) -> Verdict {
        let last = self.numbers.entry(node).or_default();
        demand!(order.number > *last || self.restored, "number {} is given after {last}", order.number);
        *last = order.number.max(*last);
        let (order, mut counted, mut accepted) = (order.clone(), BTreeSet::new(), false);
        let is_this = |placed: &&mut Placed| {
            placed.node == node && !placed.forgotten && Order { epoch: order.epoch, ..placed.order.clone() } == order
        };
        if let Some(before) = self.placed.values_mut().find(is_this) {
            demand!(self.restored, "order {} goes on under another name", order.number);
            (before.forgotten, accepted, counted) = (true, before.accepted, before.counted.clone());
        }
        let before = self.placed.remove(&order.key());
        demand!(before.as_ref().is_none_or(|before| before.forgotten), "{:?} is the name of two orders", order.key());
        let earlier = before.map(|before| before.earlier.into_iter().chain([before.order]).collect()).unwrap_or_default();
        let fresh = Placed { node, order: order.clone(), earlier, accepted, forgotten: false, outcome: None, counted };
        self.placed.insert(order.key(), fresh);
        Ok(())
    }

    fn on_state(&mut self, orderer: PeerId, state: &OrderState) -> Verdict {
        let key = OrderKey { orderer, epoch: state.epoch, number: state.number };
        let Some(placed) = self.placed.get_mut(&key) else { return Err(format!("{key:?} has a state and was never placed")) };
        let before = placed.outcome.as_ref();
        let same = before.is_none_or(|before| state.outcome.as_ref() == Some(before));
        demand!(same, "the outcome of order {} was {before:?} and is {:?}", key.number, state.outcome);
        placed.outcome.clone_from(&state.outcome);
        Ok(())
    }

    /// A unit has one end that counts, and it is one that a worker had on its disk.
    fn on_unit_end(&mut self, key: OrderKey, unit: u32, report: Option<&Report>) -> Verdict {
        let Some(placed) = self.placed.get_mut(&key) else { return Err(format!("a unit of {key:?}, which was never placed")) };
        demand!(placed.counted.insert(unit), "two ends of unit {}.{unit} count", key.number);
        if let Some(report) = report {
            let made = self.reports.get(&report.of).is_some_and(|made| made.contains(report));
            demand!(made, "unit {}.{unit} is ended by a report that nobody made: {report:?}", key.number);
        }
        Ok(())
    }

    fn on_try_ended(&mut self, node: usize, report: &Report) -> Verdict {
        let exit = self.exits.get(&(node, report.of));
        let true_to = match (&report.ended, exit) {
            (Ended::Exited(code), Some(Exit::Exited(exit))) => code == exit,
            (Ended::TimedOut, Some(Exit::TimedOut)) => true,
            (Ended::NotStarted(why), Some(Exit::NotStarted(reason))) => why == reason,
            // One that waits is cancelled without a process. Of one that is killed while it is being cancelled nobody knows by whom.
            (Ended::Cancelled, None | Some(Exit::Stopped | Exit::Killed(_))) => true,
            _ => false,
        };
        demand!(true_to, "{} is reported as {:?}, and its process ended by {exit:?}", report.of, report.ended);
        let made = self.reports.entry(report.of).or_default();
        demand!(made.is_empty() || self.restored, "{} has two reports: {made:?}, {report:?}", report.of);
        made.push(report.clone());
        Ok(())
    }

    /// A process has ended and is gone.
    pub(crate) fn on_exit(&mut self, node: usize, task: Try, exit: Exit) {
        self.exits.insert((node, task), exit);
    }

    /// How a process of a node ended.
    #[cfg(test)]
    pub(crate) fn exit(&self, node: usize, task: Try) -> Option<&Exit> {
        self.exits.get(&(node, task))
    }

    /// A node's user was told that its order is placed.
    pub(crate) fn on_placed(&mut self, node: usize, disk: &Disk, number: u64, wanted: &NewOrder) -> Verdict {
        let Some(order) = disk.tasks.orders.get(&number) else { return Err(format!("order {number} was accepted and is not on the disk")) };
        let same = (&order.service, &order.args, &order.items, order.priority, &order.needs, order.once)
            == (&wanted.service, &wanted.args, &wanted.items, wanted.priority, &wanted.needs, wanted.once);
        let input = order.stdin.as_ref().map(|stdin| stdin.as_slice()) == wanted.stdin.as_deref();
        demand!(same && input, "order {number} was accepted and is another: {order:?}");
        if let Some(key) = &wanted.key {
            let before = self.keys.insert((node, key.clone()), number);
            demand!(before.is_none_or(|before| before == number), "key {key} stood for order {before:?} and stands for {number} now");
        }
        let Some(placed) = self.placed.get_mut(&order.key()) else { return Err(format!("order {number} was accepted before its commit")) };
        placed.accepted = true;
        Ok(())
    }

    /// A node's user was told of orders that they are cancelled now, or how they had ended.
    pub(crate) fn on_cancelling(&self, disk: &Disk, orders: &[(u64, Option<End>)]) -> Verdict {
        for (number, end) in orders {
            let Some(state) = disk.tasks.states.get(number) else { return Err(format!("order {number} is cancelled and not there")) };
            let known = state.outcome.as_ref().map(|outcome| outcome.end);
            demand!(end.is_none() || *end == known, "order {number} is said to have ended as {end:?}, it did as {known:?}");
            demand!(end.is_some() || state.cancelled.is_some(), "order {number} is said to be cancelled, and is not");
        }
        Ok(())
    }

    /// A node's disk was put back to `disk`.
    pub(crate) fn on_restored(&mut self, node: usize, disk: &Disk) {
        self.restored = true;
        for placed in self.placed.values_mut().filter(|placed| placed.node == node) {
            let number = placed.order.number;
            let state = disk.tasks.states.get(&number).filter(|state| state.epoch == placed.order.epoch);
            placed.forgotten = state.is_none();
            placed.outcome = state.and_then(|state| state.outcome.clone());
            let ends = disk.tasks.ends.range((number, 0)..=(number, u32::MAX));
            placed.counted = ends.map(|((_, unit), _)| *unit).collect();
        }
        // What it offered after that it does not know either.
        let offered = disk.tasks.offers.iter().map(|(name, offering)| ((node, name.clone()), offering.clone()));
        self.offered.extend(offered);
        self.keys.retain(|(owner, key), _| *owner != node || disk.tasks.keys.contains_key(key));
    }

    /// A node is about to start from this disk: all that its users were told is on it.
    pub(crate) fn on_start(&self, node: usize, disk: &Disk) -> Verdict {
        let mine = |placed: &&Placed| placed.node == node && placed.accepted && !placed.forgotten;
        for placed in self.placed.values().filter(mine) {
            let kept = disk.tasks.orders.get(&placed.order.number) == Some(&placed.order);
            demand!(kept, "order {} was accepted and is not on the disk any more", placed.order.number);
        }
        Ok(())
    }

    /// Every run of an order's units so far.
    pub(crate) fn runs_of(&self, key: OrderKey) -> impl Iterator<Item = Ran> {
        self.ran.iter().filter(move |ran| ran.task.order == key).copied()
    }
}

impl Sim {
    /// A node is about to run something: it is what was ordered, what was offered, written down, and there is room for it.
    pub(super) fn check_run(&mut self, node: usize, run: &Run) -> Verdict {
        let task = run.task;
        let state = &self.nodes[node];
        demand!(state.disk.tasks.started.contains_key(&task), "{task} is run by node {node} and not on its disk");
        let Some(placed) = self.tasks.placed.get(&task.order) else { return Err(format!("{task} is run and was never ordered")) };
        let is_this = |order: &&Order| run.args == order.args_of(task.unit) && run.stdin == order.stdin;
        let order = placed.earlier.iter().find(is_this).unwrap_or(&placed.order);
        let Some(offering) = self.tasks.offered.get(&(node, order.service.clone())) else {
            return Err(format!("{task} is run by node {node}, which never offered {}", order.service));
        };
        let allowed = offering.card.allowed.allows(&order.orderer, &state.identity.id);
        demand!(allowed, "{task} is run by node {node}, which does not allow it");
        demand!((1..=order.units()).contains(&task.unit), "{task} is run and there is no such unit");
        let what = run.program == offering.program && run.args == order.args_of(task.unit) && run.stdin == order.stdin;
        let limit = offering.time_limit_ms.map(std::time::Duration::from_millis);
        demand!(what && run.time_limit == limit, "{task} is not run as it was ordered and offered: {run:?}");
        let takes = needs(order, offering);
        let (mut beside, mut cores, mut memory) = (1, takes.1, takes.2);
        for other in state.runner.running() {
            demand!((other.order, other.unit) != (task.order, task.unit), "{task} is run by node {node} beside {other}");
            let (service, of_cores, of_memory) = &self.tasks.takes[&(node, *other)];
            beside += u32::from(*service == order.service);
            (cores, memory) = (cores + of_cores, memory + of_memory);
        }
        demand!(beside <= offering.card.limit, "node {node} runs {beside} of {}, at most {} may", order.service, offering.card.limit);
        let fits = cores <= MACHINE.cores && memory <= MACHINE.memory_bytes;
        demand!(fits, "node {node} runs what takes {cores} cores and {memory} bytes: more than it has");
        self.tasks.takes.insert((node, task), takes);
        self.tasks.ran.push(Ran { task, node });
        Ok(())
    }

    /// An order that can run, or is not wanted any more, and has not ended; after faults there must be none.
    pub(super) fn unfinished(&self) -> Option<String> {
        let gone = |node: usize| self.custodians.departed.contains(&node);
        for placed in self.tasks.placed.values().filter(|placed| !placed.forgotten && !gone(placed.node)) {
            let order = &placed.order;
            let Some(state) = self.nodes[placed.node].disk.tasks.states.get(&order.number) else { continue };
            if state.epoch != order.epoch || state.outcome.is_some() {
                continue;
            }
            let able = (0..self.nodes.len()).find(|node| !gone(*node) && self.could_run(*node, order));
            if able.is_some() || state.cancelled.is_some() {
                let number = order.number;
                return Some(format!("order {number} of node {} has not ended, node {able:?} could run it: {state:?}", placed.node));
            }
        }
        None
    }

    fn could_run(&self, node: usize, order: &Order) -> bool {
        let tasks = &self.nodes[node].disk.tasks;
        let software: BTreeSet<&String> = tasks.offers.values().flat_map(|offering| &offering.software).collect();
        let Needs { cores, memory_bytes, software: wanted } = &order.needs;
        let has = *cores <= MACHINE.cores && *memory_bytes <= MACHINE.memory_bytes && wanted.iter().all(|word| software.contains(word));
        let offering = tasks.offers.get(&order.service);
        let offers = offering.is_some_and(|offering| offering.card.allowed.allows(&order.orderer, &self.nodes[node].identity.id));
        has && offers && !tasks.draining && self.nodes[node].is_up()
    }

    /// Somebody who does not follow the leader that the others follow.
    pub(super) fn undecided(&self) -> Option<String> {
        let up = self.nodes.iter().filter_map(|node| node.peer.as_ref().map(|peer| (node, peer.status().leader)));
        let leaders: Vec<_> = up.map(|(node, leader)| (node.name().to_owned(), leader.map(|leader| leader.fence))).collect();
        let same = leaders.iter().all(|(_, fence)| fence.is_some() && *fence == leaders[0].1);
        let there = leaders.first().and_then(|(_, fence)| *fence).and_then(|fence| self.checker.node(fence.leader));
        let lives = there.is_some_and(|node| self.nodes[node].is_up());
        (!same || !lives).then(|| format!("one leader is not agreed on: {leaders:?}"))
    }

    /// What is not done of orders, when nothing breaks any more.
    pub(super) fn tasks_open(&self) -> Option<String> {
        let running = self.nodes.iter().find(|node| node.runner.running().next().is_some());
        let running = running.map(|node| format!("{} still runs {:?}", node.name(), node.runner.running().next()));
        self.unfinished().or(running).or_else(|| self.left_over())
    }

    /// What is kept of orders that have ended, and should not be: everybody was told.
    fn left_over(&self) -> Option<String> {
        let ended = |key: &OrderKey| {
            let placed = self.tasks.placed.get(key).filter(|placed| !self.custodians.departed.contains(&placed.node));
            placed.is_some_and(|placed| placed.outcome.is_some() && !placed.forgotten)
        };
        for node in self.nodes.iter().filter(|node| node.is_up()) {
            let tasks = &node.disk.tasks;
            let leads = tasks.fence.is_some_and(|row| row.fence.leader == node.identity.id);
            if let Some(key) = tasks.queue.keys().find(|key| leads && ended(key)) {
                return Some(format!("{} leads and still holds {key:?}, which has ended", node.name()));
            }
            if let Some(task) = tasks.ended.keys().find(|task| ended(&task.order)) {
                return Some(format!("{} still keeps the report of {task}, whose order has ended", node.name()));
            }
        }
        None
    }
}
