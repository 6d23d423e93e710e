//! The leader as an orderer sees it: what it was sent and has acknowledged, and when it can be spoken to.
//! Knows nothing of what orders hold. Nothing is sent to who cannot be reached, and never more than a window.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::config::Config;
use crate::order::Fence;
use crate::work::Full;

use super::courier::Courier;

/// Orders under way to the leader and not acknowledged (guess: several batches of a fast program, and a tenth of a second of work).
const WINDOW_ORDERS: usize = 2_048;
/// Bytes of them (guess: half of what the network layer queues) …
const WINDOW_BYTES: usize = 2 * 1024 * 1024;
/// … and orders that try whether a leader that was full has room again (guess).
const PROBE: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Leader {
    me: PeerId,
    /// Who leads, or did last.
    fence: Option<Fence>,
    /// It leads now.
    leads: bool,
    reachable: BTreeSet<PeerId>,
    /// Whose queue is full: until when nothing is sent there.
    held: BTreeMap<PeerId, Duration>,
    hold: Duration,
    /// Orders that are not on the leader's disk.
    orders: Courier,
    /// Cancels that are not, of orders that are, or that the leader refused.
    cancels: Courier,
    full: Option<Pause>,
    patience: Duration,
    patience_most: Duration,
}

/// A leader takes no orders now.
#[derive(Clone, Copy, Debug)]
struct Pause {
    why: Full,
    until: Duration,
    patience: Duration,
}

/// What became of who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that matters.
    Same,
    /// The one who led last leads again: what it has acknowledged it has.
    Again(PeerId),
    /// Another one, or under a new term: it has nothing.
    New(PeerId),
}

impl Leader {
    pub(super) fn new(me: PeerId, config: &Config) -> Self {
        let courier = || Courier::new(config.work_patience, config.resend_most, WINDOW_BYTES);
        Leader {
            me,
            fence: None,
            leads: false,
            reachable: BTreeSet::new(),
            held: BTreeMap::new(),
            hold: config.refused_wait,
            orders: courier(),
            cancels: courier(),
            full: None,
            patience: config.work_patience,
            patience_most: config.resend_most,
        }
    }

    /// Who leads, or did last.
    pub(super) fn last(&self) -> Option<Fence> {
        self.fence
    }

    /// Whether this peer leads, or did last.
    pub(super) fn is(&self, peer: &PeerId) -> bool {
        self.fence.is_some_and(|fence| fence.leader == *peer)
    }

    /// Whether this peer leads under this fence, or did last.
    pub(super) fn leads_under(&self, fence: Fence, peer: &PeerId) -> bool {
        self.fence == Some(fence) && fence.leader == *peer
    }

    /// Why it takes no orders now.
    pub(super) fn full(&self) -> Option<Full> {
        self.full.map(|full| full.why)
    }

    /// Whether this peer can be spoken to now.
    pub(super) fn reaches(&self, peer: &PeerId) -> bool {
        *peer == self.me || (self.reachable.contains(peer) && !self.held.contains_key(peer))
    }

    pub(super) fn on_leader(&mut self, leader: Option<Fence>) -> Change {
        let Some(fence) = leader else {
            self.leads = false;
            self.rewind();
            return Change::Same;
        };
        let led = std::mem::replace(&mut self.leads, true);
        match self.fence.replace(fence) {
            Some(last) if last == fence && led => Change::Same,
            Some(last) if last == fence => Change::Again(fence.leader),
            _ => Change::New(fence.leader),
        }
    }

    /// A new leader has nothing yet: these are all orders, ascending.
    pub(super) fn restart(&mut self, orders: impl Iterator<Item = u64>) {
        self.full = None;
        self.orders.restart(orders);
        self.cancels.restart(std::iter::empty());
    }

    pub(super) fn on_reachable(&mut self, peer: PeerId) {
        self.reachable.insert(peer);
        self.rewind_if(&peer);
    }

    pub(super) fn on_unreachable(&mut self, peer: &PeerId) {
        self.reachable.remove(peer);
        self.held.remove(peer);
        self.rewind_if(peer);
    }

    pub(super) fn on_send_failed(&mut self, peer: PeerId, now: Duration) {
        if self.reachable.contains(&peer) {
            self.held.insert(peer, now + self.hold);
        }
        self.rewind_if(&peer);
    }

    /// An order is to be sent.
    pub(super) fn want(&mut self, order: u64) {
        self.orders.want(order);
    }

    /// A cancel is to be sent: of an order that the leader has, or does not take.
    pub(super) fn want_cancel(&mut self, order: u64) {
        self.cancels.want(order);
    }

    /// The leader has an order.
    pub(super) fn on_queued(&mut self, order: u64, now: Duration) {
        self.orders.forget(order);
        if let Some(full) = &mut self.full {
            full.patience = self.patience;
        }
        // An order taken while it was paused had been sent before: the next ones wait for the end of the pause.
        self.full = self.full.filter(|full| full.until > now);
    }

    /// The leader does not take an order; true if it was asked to.
    pub(super) fn on_not_queued(&mut self, order: u64, why: Full, now: Duration) -> bool {
        if !self.orders.give_back(order) {
            return false;
        }
        let patience = match self.full {
            Some(full) if full.until > now => {
                self.full = Some(Pause { why, ..full });
                return true;
            }
            Some(full) => (full.patience * 2).min(self.patience_most),
            None => self.patience,
        };
        self.full = Some(Pause { why, until: now + patience, patience });
        true
    }

    /// The leader has a cancel.
    pub(super) fn on_cancel_taken(&mut self, order: u64) {
        self.cancels.forget(order);
    }

    /// An order has ended.
    pub(super) fn forget(&mut self, order: u64) {
        self.orders.forget(order);
        self.cancels.forget(order);
    }

    pub(super) fn tick(&mut self, now: Duration) {
        self.held.retain(|_, until| *until > now);
        self.orders.lapse(now);
        self.cancels.lapse(now);
    }

    /// Orders and cancels to send now, and to whom: `size` tells the bytes of an order.
    pub(super) fn depart(&mut self, size: impl Fn(u64) -> usize, now: Duration) -> Option<(PeerId, Vec<u64>, Vec<u64>)> {
        let to = self.open()?;
        let paused = self.full.is_some_and(|full| full.until > now);
        let orders = if paused { Vec::new() } else { self.orders.depart(self.window(), size, now) };
        Some((to, orders, self.cancels.depart(WINDOW_ORDERS, |_| 0, now)))
    }

    /// When something can be sent, at once if zero, or is to be looked at.
    pub(super) fn deadline(&self, size: impl Fn(u64) -> usize) -> Option<Duration> {
        let held = self.held.values().min().copied();
        let due = [self.orders.deadline(), self.cancels.deadline(), held];
        let open = self.open().is_some();
        let orders = (open && self.orders.is_ready(self.window(), size)).then(|| self.full.map_or(Duration::ZERO, |full| full.until));
        let cancels = (open && self.cancels.is_ready(WINDOW_ORDERS, |_| 0)).then_some(Duration::ZERO);
        due.into_iter().chain([orders, cancels]).flatten().min()
    }

    /// Who leads, if it can be spoken to.
    fn open(&self) -> Option<PeerId> {
        self.fence.filter(|_| self.leads).map(|fence| fence.leader).filter(|leader| self.reaches(leader))
    }

    fn window(&self) -> usize {
        if self.full.is_some() { PROBE } else { WINDOW_ORDERS }
    }

    fn rewind_if(&mut self, peer: &PeerId) {
        if self.fence.is_some_and(|fence| fence.leader == *peer) {
            self.rewind();
        }
    }

    fn rewind(&mut self) {
        self.orders.rewind();
        self.cancels.rewind();
    }
}
