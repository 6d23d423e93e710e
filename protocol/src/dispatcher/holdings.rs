//! Orders that this node holds while another leads: copies of that one's table, and what is left from when others led.
//! Knows nothing of where units run. Nothing is let go of before the leader has it, or it is said to have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use super::Dispatcher;
use super::doubt::by_memory;
use super::standbys::held;
use super::table::Row;
use crate::config::{Config, limits};
use crate::effect::{Change, Out, QueueState, Queued};
use crate::now::{Now, Timestamp};
use crate::order::{Fence, OrderKey};
use crate::segment::What;
use crate::work::{Copies, Held, Known, OrdersOf, Work};

/// Copies that are let go of at a time: one commit of a few milliseconds (guess).
const DROPPED: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Holdings {
    rows: BTreeMap<OrderKey, Holding>,
    bytes: u64,
    /// Who leads, and whether it can be reached.
    leader: Option<(Fence, bool)>,
    /// When the leader is told what is here that it may not have, and how long its answer is waited for.
    offer: Option<(Duration, Duration)>,
    /// What of it the leader wants.
    wanted: BTreeSet<OrderKey>,
    /// Of which this was sent, under that number.
    flying: Option<(u64, Vec<OrderKey>)>,
    next: u64,
    /// Copies that the leader has are not needed here from then on; none while it wants them here.
    spare_at: Option<Duration>,
    patience: Duration,
    patience_most: Duration,
    keep: Duration,
}

#[derive(Debug)]
struct Holding {
    row: Box<Row>,
    /// Under which the leader has it, too.
    with: Option<Fence>,
}

impl Holdings {
    pub(super) fn new(config: &Config) -> Self {
        Holdings {
            rows: BTreeMap::new(),
            bytes: 0,
            leader: None,
            offer: None,
            wanted: BTreeSet::new(),
            flying: None,
            next: 0,
            spare_at: None,
            patience: config.work_patience,
            patience_most: config.resend_most,
            keep: config.copies_kept,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    pub(super) fn get(&self, key: &OrderKey) -> Option<&Row> {
        self.rows.get(key).map(|holding| &*holding.row)
    }

    /// An order that no leader is known to have.
    pub(super) fn put(&mut self, row: Box<Row>) {
        self.insert(row, None);
    }

    fn insert(&mut self, row: Box<Row>, with: Option<Fence>) {
        self.bytes += row.order.body.len() as u64;
        self.rows.insert(row.key(), Holding { row, with });
    }

    fn take(&mut self, key: &OrderKey) -> Option<Box<Row>> {
        let row = self.rows.remove(key)?.row;
        self.bytes -= row.order.body.len() as u64;
        self.wanted.remove(key);
        Some(row)
    }

    /// All of it, for this node leads.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Box<Row>> + use<> {
        (self.leader, self.offer, self.flying, self.spare_at, self.bytes) = (None, None, None, None, 0);
        self.wanted.clear();
        std::mem::take(&mut self.rows).into_values().map(|holding| holding.row)
    }

    /// These have ended.
    pub(super) fn close(&mut self, first: OrderKey, last: OrderKey, out: &mut Out) {
        let gone: Vec<OrderKey> = self.rows.range(first..=last).map(|(key, _)| *key).collect();
        gone.iter().for_each(|key| self.drop(key, out));
    }

    fn drop(&mut self, key: &OrderKey, out: &mut Out) {
        if self.take(key).is_some() {
            out.store(Change::Unqueue(*key));
        }
    }

    /// Another leads, or nobody; `reachable`: it can be told what is here.
    pub(super) fn follow(&mut self, leader: Option<Fence>, reachable: bool, now: Now) {
        self.leader = leader.map(|fence| (fence, reachable));
        self.spare_at = Some(now.mono + self.keep);
        self.offer_again(now.mono);
    }

    /// What was said last to this peer, or by it, may be lost.
    pub(super) fn on_reachable(&mut self, peer: &PeerId, reachable: bool, now: Now) {
        if let Some((_, reached)) = self.leader.as_mut().filter(|(fence, _)| fence.leader == *peer) {
            *reached = reachable;
            self.offer_again(now.mono);
        }
    }

    /// Something for this peer was not sent.
    pub(super) fn on_send_failed(&mut self, peer: &PeerId, now: Now) {
        if self.leader.is_some_and(|(fence, _)| fence.leader == *peer) {
            self.offer_again(now.mono + self.patience);
        }
    }

    fn offer_again(&mut self, now: Duration) {
        self.wanted.clear();
        self.flying = None;
        let reached = self.leader.filter(|(_, reachable)| *reachable);
        let other = reached.is_some_and(|(fence, _)| self.rows.values().any(|holding| holding.with != Some(fence)));
        self.offer = other.then_some((now, self.patience));
    }

    /// Says what the leader may not know of, hands over what it wants, and lets go of what it has. `standby`: it wants copies here.
    pub(super) fn tick(&mut self, standby: bool, now: Now, out: &mut Out) {
        let Some((fence, true)) = self.leader else { return };
        if standby {
            self.spare_at = Some(now.mono + self.keep);
        }
        if let Some((_, patience)) = self.offer.filter(|(at, _)| *at <= now.mono) {
            // Also what it was sent and has not acknowledged.
            self.offer_again(now.mono);
            let others = self.rows.iter().filter(|(_, holding)| holding.with != Some(fence)).map(|(key, _)| *key);
            OrdersOf::pages(by_memory(others)).into_iter().for_each(|orders| out.work(fence.leader, Work::Holding { fence, orders }));
            let patience = (patience * 2).min(self.patience_most);
            self.offer = self.offer.map(|_| (now.mono + patience, patience));
        }
        if self.flying.is_none() && !self.wanted.is_empty() {
            self.hand_over(fence, now, out);
        }
        if self.spare_at.is_some_and(|at| at <= now.mono) {
            let spare = self.rows.iter().filter(|(_, holding)| holding.with == Some(fence)).map(|(key, _)| *key);
            let spare: Vec<OrderKey> = spare.take(DROPPED).collect();
            spare.iter().for_each(|key| self.drop(key, out));
            self.spare_at = (spare.len() == DROPPED).then_some(now.mono + self.patience);
        }
    }

    fn hand_over(&mut self, fence: Fence, now: Now, out: &mut Out) {
        let (mut orders, mut weight) = (Vec::new(), 0);
        for key in &self.wanted {
            let Some(holding) = self.rows.get(key) else { continue };
            let held = held(&holding.row, true, fence.leader, now);
            weight += held.weight();
            if !orders.is_empty() && (weight > limits::SEGMENTS_BYTES || orders.len() == limits::WORDS) {
                break;
            }
            orders.push(held);
        }
        if orders.is_empty() {
            return self.wanted.clear();
        }
        self.next += 1;
        self.flying = Some((self.next, orders.iter().map(|held| held.state.order).collect()));
        out.work(fence.leader, Work::Copies(Copies { fence, number: self.next, span: None, orders }));
    }

    /// The leader tells what some of what is here is to it.
    pub(super) fn on_known(&mut self, fence: Fence, known: Known, orders: &[OrdersOf], now: Now, out: &mut Out) {
        if self.leader.is_none_or(|(leads, _)| leads != fence) {
            return;
        }
        self.spare_at = self.spare_at.or(Some(now.mono + self.keep));
        for OrdersOf { orderer, epoch, numbers } in orders {
            let key = |number| OrderKey { orderer: *orderer, epoch: *epoch, number };
            for (first, last) in numbers.iter() {
                match known {
                    Known::Here => self.rows.range_mut(key(first)..=key(last)).for_each(|(_, holding)| holding.with = Some(fence)),
                    Known::Wanted => {
                        let others = self.rows.range(key(first)..=key(last)).filter(|(_, holding)| holding.with != Some(fence));
                        self.wanted.extend(others.map(|(key, _)| *key));
                    }
                    Known::Over => self.close(key(first), key(last), out),
                }
            }
        }
    }

    /// The leader has what it was handed.
    pub(super) fn on_copied(&mut self, fence: Fence, number: u64, now: Now) {
        self.spare_at = self.spare_at.or(Some(now.mono + self.keep));
        if self.leader.is_some_and(|(leads, _)| leads == fence)
            && let Some((_, orders)) = self.flying.take_if(|(flying, _)| *flying == number)
        {
            for key in orders {
                self.wanted.remove(&key);
                if let Some(holding) = self.rows.get_mut(&key) {
                    holding.with = Some(fence);
                }
            }
        }
    }

    /// Rows of the leader's table; false if something of them cannot be kept.
    fn copy(&mut self, copies: Copies, room: (u64, u64), now: Now, out: &mut Out) -> bool {
        let Copies { fence, span, orders, .. } = copies;
        if let Some(span) = span {
            let listed: BTreeSet<OrderKey> = orders.iter().map(|held| held.state.order).collect();
            let of_leader = self.rows.iter().filter(|(key, holding)| holding.with == Some(fence) && span.contains(key));
            // What the leader had and has no more has ended.
            let gone: Vec<OrderKey> = of_leader.map(|(key, _)| *key).filter(|key| !listed.contains(key)).collect();
            gone.iter().for_each(|key| self.drop(key, out));
        }
        let mut all = true;
        let mut new = Vec::new();
        for Held { order, age_ms, state } in orders {
            let at = Timestamp(now.wall.0.saturating_sub(age_ms));
            let before = self.take(&state.order);
            // What is on the disk of it stays.
            let mut stored = before.as_ref().map(|before| before.state());
            let state = match &before {
                Some(before) if order.as_ref().is_none_or(|order| order.body == before.order.body) => before.joined(state),
                _ => state,
            };
            let (order, at) = match (order, before) {
                (Some(order), None) if self.rows.len() as u64 >= room.0 || self.bytes + order.body.len() as u64 > room.1 => {
                    all = false;
                    continue;
                }
                (Some(order), before) => {
                    let other = before.map(|before| before.order.body != order.body);
                    if other == Some(true) {
                        out.store(Change::Unqueue(state.order));
                    }
                    if other != Some(false) {
                        new.push(state.order);
                        stored = Some(QueueState::new(state.order, state.sort));
                        out.store(Change::Queue(Box::new(Queued { order: order.clone(), sort: state.sort, at })));
                    }
                    (order, at)
                }
                (None, Some(before)) => (before.order, before.at),
                (None, None) => {
                    all = false;
                    continue;
                }
            };
            let queued = Queued { order, sort: state.sort, at };
            let row = Row::kept(queued, Some(state), now.mono);
            let state = row.state();
            if stored.is_none_or(|stored| stored != state) {
                out.store(Change::QueueState(Box::new(state)));
            }
            self.insert(Box::new(row), Some(fence));
        }
        for OrdersOf { orderer, epoch, numbers } in by_memory(new.into_iter()) {
            numbers.iter().for_each(|(first, last)| out.note(What::OrdersHeld { orderer, epoch, first, last }));
        }
        all
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.leader.filter(|(_, reachable)| *reachable && !self.rows.is_empty())?;
        let hand_over = (self.flying.is_none() && !self.wanted.is_empty()).then_some(Duration::ZERO);
        let offer = self.offer.map(|(at, _)| at);
        [hand_over, offer, self.spare_at].into_iter().flatten().min()
    }
}

impl Dispatcher {
    /// Rows of the leader's table, for this node would take over; it is told when they are on this disk. `disk_low`: they are not taken.
    pub(crate) fn on_copies(&mut self, mut copies: Copies, disk_low: bool, now: Now, out: &mut Out) {
        if self.fence.is_some() || disk_low {
            return;
        }
        copies.orders.retain(|held| !self.is_closed(&held.state.order));
        let (fence, number) = (copies.fence, copies.number);
        let room = (self.config.queue_orders, self.config.queue_bytes);
        // Who is not answered takes another for this.
        if self.holdings.copy(copies, room, now, out) {
            out.work(fence.leader, Work::Copied { fence, number });
        }
    }

    /// The leader tells what orders that are held here are to it.
    pub(crate) fn on_known(&mut self, fence: Fence, known: Known, orders: &[OrdersOf], now: Now, out: &mut Out) {
        self.holdings.on_known(fence, known, orders, now, out);
    }

    /// A frame of copies is on a disk: a standby's, or the leader's.
    pub(crate) fn on_copied(&mut self, from: PeerId, fence: Fence, number: u64, now: Now) {
        match self.fence {
            Some(leads) if leads == fence => self.standbys.on_copied(&from, number),
            None if fence.leader == from => self.holdings.on_copied(fence, number, now),
            _ => {}
        }
    }

    /// Hands over what the leader lacks while another leads. `standby`: that one wants its table here, too.
    pub(crate) fn tick_holdings(&mut self, standby: bool, now: Now, out: &mut Out) {
        if self.fence.is_none() {
            self.holdings.tick(standby, now, out);
        }
    }
}
