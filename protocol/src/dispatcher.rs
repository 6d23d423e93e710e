//! Hands out the units of orders to workers, while this node leads.
//! Knows nothing of elections and outcomes. A unit is with one worker at a time as far as this node can know, no worker gets
//! more than it may have, and what a worker is sent was on this disk before.

mod cancels;
mod closing;
mod doubt;
mod handing;
mod holdings;
mod joining;
mod judging;
mod lines;
mod over;
mod placing;
mod queue;
mod reports;
mod standbys;
mod standing;
mod strays;
mod table;
#[cfg(test)]
mod tests;
mod told;
mod words;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use self::holdings::Holdings;
use self::lines::Lines;
use self::placing::Look;
use self::queue::{Place, Queue};
use self::reports::Reports;
use self::standbys::Standbys;
use self::strays::Strays;
use self::table::Row;
use self::words::Words;
use self::workers::Workers;
use crate::beacon::Statistics;
use crate::config::Config;
use crate::edge::Cause;
use crate::effect::{Change, Out, QueueState, Queued};
use crate::id::Epoch;
use crate::now::Now;
use crate::order::{Cancel, Fence, Order, OrderKey, Priority, Try};
use crate::proven::Proven;
use crate::ranges::Ranges;
use crate::segment::What;
use crate::service::{ServiceName, Services};
use crate::work::Full;

/// A worker as the dispatcher needs to see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerView<'a> {
    /// Who.
    pub(crate) peer: PeerId,
    /// What it offers.
    pub(crate) services: &'a Services,
    /// What it has; zeros while nothing was measured.
    pub(crate) statistics: Statistics,
    /// It takes work now.
    pub(crate) welcomes: bool,
    /// Its user may be away: dispatched to last.
    pub(crate) inactive: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    me: PeerId,
    config: Config,
    /// Under which this node leads.
    fence: Option<Fence>,
    /// Until then nothing is placed, unless all of `awaited` have told what they are at, and all of `asked` what they take for ended.
    gate: Option<Duration>,
    awaited: BTreeSet<PeerId>,
    /// Questions that each of them has not answered.
    asked: BTreeMap<PeerId, u32>,
    /// Orders that somebody else brought, of which all who are here are asked, and until when that is waited for.
    brought: BTreeSet<OrderKey>,
    brought_until: Option<Duration>,
    /// When orderers who have not spoken under this term are asked again, and how long they were waited for.
    doubt: Option<(Duration, Duration)>,
    /// In boxes: a map moves its entries as it grows.
    rows: BTreeMap<OrderKey, Box<Row>>,
    bytes: u64,
    /// Orders that are here while another leads: then the table is empty.
    holdings: Holdings,
    standbys: Standbys,
    reports: Reports,
    queue: Queue,
    lines: Lines,
    workers: Workers,
    strays: Strays,
    closed: BTreeMap<(PeerId, Epoch), Ranges>,
    /// Cancels that came before their orders.
    early: BTreeMap<OrderKey, Proven<Cancel>>,
    /// Orders with a cancel.
    cancelled: BTreeSet<OrderKey>,
    /// Those of them with workers are told again then.
    cancel_at: Option<Duration>,
    /// Orders with units that nobody could run.
    given_up: BTreeSet<OrderKey>,
    /// Assignments without an answer: when they are sent again.
    unanswered: BTreeSet<(Duration, OrderKey, u32)>,
    /// Orders that may have come to where nothing is left to do …
    over: BTreeSet<OrderKey>,
    /// … and those of which a closing is waited for: when it is asked for.
    over_at: BTreeSet<(Duration, OrderKey)>,
    /// Who may have missed something, and when it is told again.
    retell: BTreeMap<PeerId, Duration>,
    /// Per service: the order at the head that needs a worker emptier than it is, and that worker.
    reserved: BTreeMap<ServiceName, (Place, PeerId)>,
    /// Where something may be placed.
    look: Look,
    /// Orders looked at since the start.
    #[cfg(test)]
    visited: u64,
    words: Words,
    /// Of this batch: rows to write, each with the worker that all changes of it are about if they are about one; closed ranges to write,
    /// cancels to answer, orders for the record.
    dirty: BTreeMap<OrderKey, Option<PeerId>>,
    dirty_closed: BTreeSet<(PeerId, Epoch)>,
    cancels_due: BTreeSet<OrderKey>,
    taken: BTreeMap<(PeerId, Epoch), Ranges>,
}

impl Dispatcher {
    /// Goes on where the disk ends, and waits to be elected.
    pub(crate) fn new(
        me: PeerId,
        config: &Config,
        queue: Vec<(Queued, Option<QueueState>)>,
        closed: Vec<(PeerId, Epoch, Ranges)>,
        now: Now,
    ) -> Self {
        let mut dispatcher = Dispatcher {
            me,
            config: config.clone(),
            fence: None,
            gate: None,
            awaited: BTreeSet::new(),
            asked: BTreeMap::new(),
            brought: BTreeSet::new(),
            brought_until: None,
            doubt: None,
            rows: BTreeMap::new(),
            bytes: 0,
            holdings: Holdings::new(config),
            standbys: Standbys::new(config),
            reports: Reports::default(),
            queue: Queue::new(),
            lines: Lines::default(),
            workers: Workers::new(),
            strays: Strays::default(),
            closed: closed.into_iter().map(|(orderer, epoch, closed)| ((orderer, epoch), closed)).collect(),
            early: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            cancel_at: None,
            given_up: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            over: BTreeSet::new(),
            over_at: BTreeSet::new(),
            retell: BTreeMap::new(),
            reserved: BTreeMap::new(),
            look: Look::default(),
            #[cfg(test)]
            visited: 0,
            words: Words::default(),
            dirty: BTreeMap::new(),
            dirty_closed: BTreeSet::new(),
            cancels_due: BTreeSet::new(),
            taken: BTreeMap::new(),
        };
        for (queued, state) in queue {
            dispatcher.holdings.put(Box::new(Row::kept(queued, state, now.mono)));
        }
        dispatcher
    }

    /// This node leads from now, and these can be reached.
    pub(crate) fn begin(&mut self, fence: Fence, reachable: Vec<PeerId>, now: Now) {
        self.fence = Some(fence);
        self.workers.begin(&reachable, now.mono + self.config.lost_after);
        self.awaited = reachable.into_iter().collect();
        self.forget_questions();
        self.standbys.clear();
        self.gate = (!self.awaited.is_empty()).then_some(now.mono + self.config.gate);
        self.unanswered.clear();
        self.retell.clear();
        self.reserved.clear();
        self.forget_strays();
        self.early.clear();
        self.cancel_at = (!self.cancelled.is_empty()).then_some(now.mono);
        self.look.all();
        self.put_away(now);
        for mut row in self.holdings.take_all() {
            row.begin(now.mono);
            self.insert(row, now);
        }
        for (key, row) in &mut self.rows {
            // Whoever does not tell what it is at in time is asked by a repeated assignment.
            let again_at = now.mono + self.config.gate;
            self.unanswered.extend(row.expect_answers(again_at).map(|unit| (again_at, *key, unit)));
        }
        self.restart_over();
        self.restart_doubt(now);
    }

    /// Another leads, who can be reached or not, or nobody: what is here is kept, and nobody else is told anything.
    pub(crate) fn end(&mut self, leader: Option<Fence>, reachable: bool, now: Now) {
        self.fence = None;
        self.gate = None;
        self.awaited.clear();
        self.forget_questions();
        self.standbys.clear();
        self.unanswered.clear();
        self.retell.clear();
        self.reserved.clear();
        self.forget_strays();
        self.early.clear();
        self.cancel_at = None;
        self.words.clear();
        self.doubt = None;
        self.put_away(now);
        self.holdings.follow(leader, reachable, now);
    }

    /// The table is empty, and all of it held here.
    fn put_away(&mut self, now: Now) {
        self.queue.clear();
        self.lines.clear();
        self.workers.clear();
        (self.over, self.over_at) = (BTreeSet::new(), BTreeSet::new());
        (self.cancelled, self.given_up) = (BTreeSet::new(), BTreeSet::new());
        self.cancels_due.clear();
        self.bytes = 0;
        for (_, mut row) in std::mem::take(&mut self.rows) {
            row.begin(now.mono);
            self.holdings.put(row);
        }
    }

    fn forget_questions(&mut self) {
        self.asked.clear();
        self.brought.clear();
        self.brought_until = None;
    }

    /// What was told of orders that are not here: under another term it is told again.
    fn forget_strays(&mut self) {
        self.strays = Strays::default();
        let (rows, holdings) = (&self.rows, &self.holdings);
        self.reports.keep_of(|key| rows.contains_key(key) || holdings.get(key).is_some());
    }

    /// These would take over; of those who can be reached each gets the table.
    pub(crate) fn set_standbys(&mut self, named: &[PeerId]) {
        if self.fence.is_some() {
            self.standbys.name(named.iter().copied().filter(|peer| self.workers.is_reachable(peer)));
        }
    }

    /// Standbys that did not answer in time, since this was asked last.
    pub(crate) fn take_silent(&mut self) -> Vec<PeerId> {
        self.standbys.take_silent()
    }

    /// This node was held up.
    pub(crate) fn on_stalled(&mut self, now: Now) {
        self.standbys.on_stalled(now.mono);
    }

    /// The copy of an order that the leader has sent.
    pub(crate) fn copy_of(&self, key: &OrderKey) -> Option<&Order> {
        self.holdings.get(key).map(|row| &row.order.value)
    }

    /// Orders held here, whether or not this node leads.
    pub(crate) fn orders(&self) -> u64 {
        self.rows.len() as u64 + self.holdings.len()
    }

    // -- orders

    /// Orders from their orderer. Those that contradict what is here are left out; the others are taken.
    ///
    /// # Errors
    /// Some are somebody else's, or not what they were.
    pub(crate) fn on_orders(
        &mut self,
        from: PeerId,
        orders: Vec<Proven<Order>>,
        disk_low: bool,
        now: Now,
        out: &mut Out,
    ) -> Result<(), Cause> {
        let mut verdict = Ok(());
        if self.fence.is_none() {
            return verdict;
        }
        for order in orders {
            let key = order.value.key();
            if key.orderer != from {
                verdict = Err(Cause::Impostor);
                continue;
            }
            if self.is_closed(&key) {
                self.tell_closed(&order.value);
                continue;
            }
            if let Some(row) = self.rows.get(&key) {
                if row.order.body != order.body {
                    verdict = Err(Cause::Inconsistent);
                    // Its memory was put back to before it signed the first: it is shown that.
                    self.words.to(from).orders.push(row.order.clone());
                    continue;
                }
                self.on_wanted(&key);
                self.words.to(from).queued.push(key);
                self.tell_given_up(&key);
                continue;
            }
            if let Some(full) = self.full(&order, disk_low) {
                self.words.to(from).not_queued.push((key, full));
                continue;
            }
            self.words.to(from).queued.push(key);
            self.queue_order(order, now, out);
        }
        verdict
    }

    fn full(&self, order: &Proven<Order>, disk_low: bool) -> Option<Full> {
        if disk_low {
            Some(Full::Disk)
        } else if self.rows.len() as u64 >= self.config.queue_orders {
            Some(Full::Orders)
        } else {
            (self.bytes + order.body.len() as u64 > self.config.queue_bytes).then_some(Full::Bytes)
        }
    }

    fn queue_order(&mut self, order: Proven<Order>, now: Now, out: &mut Out) {
        let (key, priority) = (order.value.key(), order.value.priority);
        let sort = self.queue.sort_for(priority).unwrap_or_else(|| self.renumber(priority));
        out.store(Change::Queue(Box::new(Queued { order: order.clone(), sort, at: now.wall })));
        let mut row = Box::new(Row::new(order, sort, now.wall));
        if let Some(cancel) = self.early.remove(&key) {
            row.cancel = Some(cancel);
            self.cancels_due.insert(key);
            self.dirty.insert(key, None);
        }
        // What workers told of it before it came.
        let stray = self.strays.remove(&key);
        let mut units = stray.ended.iter().flat_map(|(first, last)| first..=last).filter_map(|unit| u32::try_from(unit).ok());
        while let Some(unit) = units.next().filter(|unit| row.is_unit(*unit)) {
            row.end(unit);
        }
        self.insert(row, now);
        for (unit, (attempt, worker, since)) in stray.tries {
            self.on_holds(worker, Try { order: key, unit, attempt }, since, now);
        }
        self.taken.entry((key.orderer, key.epoch)).or_default().insert(key.number);
    }

    /// All keys anew; returns the one that was missing.
    fn renumber(&mut self, priority: Priority) -> u64 {
        let mut order: Vec<Place> = self.rows.values().map(|row| row.place()).collect();
        order.sort_unstable();
        self.queue.clear();
        self.lines.clear();
        self.reserved.clear();
        for ((_, key), sort) in order.into_iter().zip(Queue::numbers()) {
            let Some(row) = self.rows.get_mut(&key) else { continue };
            row.sort = sort;
            row.queued = false;
            self.queue.remember(sort);
            self.dirty.insert(key, None);
            self.settle(&key);
        }
        self.queue.sort_for(priority).expect("a renumbered queue has room everywhere")
    }

    /// A row that is new here, with all that follows from it.
    fn insert(&mut self, row: Box<Row>, now: Now) {
        let key = row.key();
        self.bytes += row.order.body.len() as u64;
        self.queue.remember(row.sort);
        for (unit, placement) in row.tries() {
            let order = &row.order.value;
            let takes = (order.needs.cores, order.needs.memory_bytes);
            self.workers.take(placement.worker, order, *unit, takes, now.mono + self.config.lost_after);
        }
        row.lost.iter().for_each(|(unit, (_, worker))| self.workers.lose(*worker, &key, *unit));
        if row.cancel.is_some() {
            self.cancelled.insert(key);
            self.cancel_at = Some(now.mono);
        }
        if !row.given_up.is_empty() {
            self.given_up.insert(key);
        }
        self.rows.insert(key, row);
        self.standbys.on_changed(&key, true, None);
        self.settle(&key);
    }

    /// An order is where it belongs: in the queue while something of it waits.
    fn settle(&mut self, key: &OrderKey) {
        let Some(row) = self.rows.get_mut(key) else { return };
        let (wants, place) = (row.wants_workers(), row.place());
        let order = &row.order.value;
        if wants != row.queued {
            row.queued = wants;
            if wants {
                self.queue.insert(order.priority, place);
                self.lines.insert(&order.service, &row.shape, place, order.units());
            } else {
                self.queue.remove(order.priority, &place);
                self.lines.remove(&order.service, &row.shape, &place);
                if let Some((_, worker)) = self.reserved.get(&order.service).filter(|(reserving, _)| *reserving == place) {
                    self.look.at_worker(*worker);
                    self.reserved.remove(&order.service);
                }
            }
        }
        if wants {
            self.look.at(&order.service);
        }
        self.note_over(key);
    }

    // -- time

    /// What is due by the clock, then whatever can be placed.
    pub(crate) fn tick(&mut self, workers: &[WorkerView<'_>], now: Now, out: &mut Out) {
        let Some(fence) = self.fence else { return };
        if self.gate.is_some_and(|gate| gate <= now.mono) {
            self.open_gate();
        }
        while let Some(peer) = self.workers.pop_lost(now.mono) {
            self.on_lost(peer, now, out);
        }
        for service in self.workers.forgive(now.mono) {
            self.look.at(&service);
        }
        let due: Vec<PeerId> = self.retell.iter().filter(|(_, at)| **at <= now.mono).map(|(peer, _)| *peer).collect();
        due.iter().for_each(|peer| self.tell_again(*peer, now));
        self.standbys.tick(now.mono);
        if self.brought_until.is_some_and(|at| at <= now.mono) {
            self.asked.clear();
            self.accept_brought();
        }
        self.ask_again(now);
        self.ask_for_closings(now);
        self.ask_orderers(now);
        self.repeat_cancels(now);
        if self.gate.is_none() {
            self.place_all(workers, fence, now, out);
        }
    }

    /// Words of this batch leave, and what they rely on is stored.
    pub(crate) fn close(&mut self, now: Now, out: &mut Out) {
        self.answer_cancels();
        for (key, about) in std::mem::take(&mut self.dirty) {
            if let Some(row) = self.rows.get(&key).map(|row| &**row).or_else(|| self.holdings.get(&key)) {
                out.store(Change::QueueState(Box::new(row.state())));
                self.standbys.on_changed(&key, false, about);
            }
        }
        for memory in std::mem::take(&mut self.dirty_closed) {
            if let Some(closed) = self.closed.get(&memory) {
                out.store(Change::Closed { orderer: memory.0, epoch: memory.1, closed: closed.clone() });
            }
        }
        for ((orderer, epoch), taken) in std::mem::take(&mut self.taken) {
            taken.iter().for_each(|(first, last)| out.note(What::OrdersQueued { orderer, epoch, first, last }));
        }
        match self.fence {
            Some(fence) => {
                let words = std::mem::take(&mut self.words);
                self.standbys.depart(&self.rows, !words.is_empty(), fence, now, out);
                if !words.is_empty() {
                    self.standbys.hold(words);
                }
                while let Some(words) = self.standbys.release() {
                    words.leave(fence, |peer| *peer == self.me || self.workers.is_reachable(peer), out);
                }
            }
            None => self.words.clear(),
        }
    }

    /// When something is due by the clock.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        if self.fence.is_none() {
            return self.holdings.deadline();
        }
        let unanswered = self.unanswered.first().map(|(at, _, _)| *at);
        let retell = self.retell.values().min().copied();
        let over = self.over_at.first().map(|(at, _)| *at);
        let doubt = self.doubt.map(|(at, _)| at);
        [self.gate, self.brought_until, self.standbys.deadline(), self.workers.deadline(), unanswered, retell, over, doubt, self.cancel_at]
            .into_iter()
            .flatten()
            .min()
    }
}
