//! What the leader has to say to each peer, gathered during a batch.
//! Knows nothing of why. What makes room is said before what takes it, an order before its units, a cancel after them.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;

use crate::config::limits;
use crate::effect::Out;
use crate::order::{Broken, Cancel, Fence, Order, OrderKey, Report, Try};
use crate::proven::Proven;
use crate::work::{Full, Known, OrdersOf, Work};

/// Bytes of orders or reports in one frame, about: so much still goes by the urgent stream, ahead of the units.
const FRAME_TARGET: usize = limits::URGENT_BYTES;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Words(BTreeMap<PeerId, Word>);

/// For one peer.
#[derive(Debug, Default)]
pub(super) struct Word {
    pub(super) queued: Vec<OrderKey>,
    pub(super) not_queued: Vec<(OrderKey, Full)>,
    pub(super) reports: Vec<Proven<Report>>,
    pub(super) given_up: Vec<(OrderKey, u32, String)>,
    pub(super) cancel_taken: Vec<(OrderKey, Vec<u32>, Vec<u32>)>,
    pub(super) superseded: Vec<Try>,
    pub(super) orders: Vec<Proven<Order>>,
    pub(super) assign: Vec<Try>,
    pub(super) cancels: BTreeMap<OrderKey, Proven<Cancel>>,
    pub(super) ask_closed: Vec<Vec<OrdersOf>>,
    pub(super) known: BTreeMap<Known, Vec<OrdersOf>>,
    pub(super) copied: Vec<u64>,
}

impl Words {
    /// What is to be said to a peer.
    pub(super) fn to(&mut self, peer: PeerId) -> &mut Word {
        self.0.entry(peer).or_default()
    }

    /// Says it, to those who can hear it.
    pub(super) fn leave(self, fence: Fence, hears: impl Fn(&PeerId) -> bool, out: &mut Out) {
        for (peer, word) in self.0 {
            if hears(&peer) {
                word.leave(peer, fence, out);
            }
        }
    }

    /// Whether nothing is to be said.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says nothing of it.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Word {
    fn leave(self, peer: PeerId, fence: Fence, out: &mut Out) {
        paged(self.queued, |orders| out.work(peer, Work::Queued { fence, orders }));
        paged(self.not_queued, |orders| out.work(peer, Work::NotQueued { fence, orders }));
        framed(self.reports, |reports| out.work(peer, Work::Reports(reports)));
        paged(self.given_up, |units| out.work(peer, Work::GivenUp(units)));
        for (order, running, lost) in self.cancel_taken {
            out.work(peer, Work::CancelTaken { order, running, lost });
        }
        let superseded = self.superseded.into_iter().map(|of| (of, Broken::Superseded)).collect();
        paged(superseded, |tries| out.work(peer, Work::Broken(tries)));
        framed(self.orders, |orders| out.work(peer, Work::Orders(orders)));
        paged(self.assign, |units| out.work(peer, Work::Assign { fence, units }));
        let mut pages = self.ask_closed.into_iter().peekable();
        while let Some(orders) = pages.next() {
            out.work(peer, Work::AskClosed { fence, orders, last: pages.peek().is_none() });
        }
        paged(self.cancels.into_values().collect(), |cancels| out.work(peer, Work::Cancels(cancels)));
        for (known, orders) in self.known {
            OrdersOf::pages(orders).into_iter().for_each(|orders| out.work(peer, Work::Known { fence, known, orders }));
        }
        self.copied.into_iter().for_each(|number| out.work(peer, Work::Copied { fence, number }));
    }
}

/// What has bytes of its own: as much as fits a frame.
fn framed<T>(items: Vec<Proven<T>>, mut say: impl FnMut(Vec<Proven<T>>)) {
    let (mut frame, mut size) = (Vec::new(), 0);
    for item in items {
        if !frame.is_empty() && (size + item.body.len() > FRAME_TARGET || frame.len() == limits::WORDS) {
            say(std::mem::take(&mut frame));
            size = 0;
        }
        size += item.body.len();
        frame.push(item);
    }
    if !frame.is_empty() {
        say(frame);
    }
}

fn paged<T>(mut items: Vec<T>, mut say: impl FnMut(Vec<T>)) {
    while items.len() > limits::WORDS {
        let rest = items.split_off(limits::WORDS);
        say(std::mem::replace(&mut items, rest));
    }
    if !items.is_empty() {
        say(items);
    }
}
