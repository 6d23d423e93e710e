//! Orders that are here from before this term: whether they have ended meanwhile, before workers get any of them.
//! Believes nobody but their orderers. What others take for ended is kept, and waits until its orderer speaks.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;

use super::Dispatcher;
use crate::effect::Out;
use crate::id::Epoch;
use crate::now::Now;
use crate::order::{Fence, OrderKey};
use crate::ranges::Ranges;
use crate::work::{OrdersOf, Work};

/// What is known of whether the orderer of an order still wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    /// It said so under this term.
    Said,
    /// It did before, and nobody has said otherwise.
    Kept,
    /// Somebody else brought it, and not all who are here have been asked.
    Asked,
    /// A peer takes the order for ended.
    Doubted,
    /// So does its orderer, whose closing has not come.
    Disowned,
}

impl Dispatcher {
    /// Another term, or none: whoever is to be heard on it is asked anew about all that is here.
    pub(super) fn restart_doubt(&mut self, now: Now) {
        let rows: Vec<OrderKey> = self.rows.iter().filter(|(_, row)| row.queued != row.wants_workers()).map(|(key, _)| *key).collect();
        rows.iter().for_each(|key| self.settle(key));
        self.ask_closed(self.awaited.clone());
        self.doubt = None;
        self.doubt_soon(now);
    }

    /// Orderers who have not spoken are asked again, sooner than they would be.
    pub(super) fn doubt_soon(&mut self, now: Now) {
        if self.fence.is_some() {
            let patience = self.config.work_patience;
            self.doubt = Some((now.mono + patience, patience));
        }
    }

    /// An orderer that is here speaks for itself under a new term, but its word, or the question, can be lost although the
    /// connection goes on.
    pub(super) fn ask_orderers(&mut self, now: Now) {
        let Some((_, patience)) = self.doubt.filter(|(at, _)| *at <= now.mono) else { return };
        let mut by_orderer: BTreeMap<PeerId, Vec<OrdersOf>> = BTreeMap::new();
        let silent =
            self.rows.iter().filter(|(_, row)| matches!(row.wanted, Wanted::Kept | Wanted::Asked | Wanted::Doubted)).map(|(key, _)| *key);
        for of in by_memory(silent.filter(|key| self.workers.is_reachable(&key.orderer))) {
            by_orderer.entry(of.orderer).or_default().push(of);
        }
        let patience = (patience * 2).min(self.config.resend_most);
        self.doubt = (!by_orderer.is_empty()).then_some((now.mono + patience, patience));
        for (orderer, orders) in by_orderer {
            self.ask(orderer, OrdersOf::pages(orders));
        }
    }

    /// These peers are asked which of the orders that are here from before have ended; before they have answered nothing is placed.
    pub(super) fn ask_closed(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        let unsure = self.rows.iter().filter(|(_, row)| matches!(row.wanted, Wanted::Kept | Wanted::Asked)).map(|(key, _)| *key);
        let pages = OrdersOf::pages(by_memory(unsure));
        if !pages.is_empty() {
            peers.into_iter().for_each(|peer| self.ask(peer, pages.clone()));
        }
    }

    /// Everybody is asked about orders that somebody else brought; before all have answered nothing of them is placed.
    pub(super) fn ask_about(&mut self, orders: Vec<OrderKey>, now: Now) {
        let pages = OrdersOf::pages(by_memory(orders.iter().copied()));
        self.brought.extend(orders);
        self.brought_until = Some(now.mono + self.config.gate);
        let peers: Vec<PeerId> = self.workers.reachable().collect();
        peers.into_iter().for_each(|peer| self.ask(peer, pages.clone()));
    }

    fn ask(&mut self, peer: PeerId, pages: Vec<Vec<OrdersOf>>) {
        let word = self.words.to(peer);
        // What is said in one batch is one question.
        if word.ask_closed.is_empty() {
            *self.asked.entry(peer).or_default() += 1;
        }
        word.ask_closed.extend(pages);
    }

    /// All who were asked about what somebody else brought have answered, or are not waited for any longer.
    pub(super) fn accept_brought(&mut self) {
        self.brought_until = None;
        for key in std::mem::take(&mut self.brought) {
            if let Some(row) = self.rows.get_mut(&key).filter(|row| row.wanted == Wanted::Asked) {
                row.wanted = Wanted::Kept;
                self.settle(&key);
            }
        }
    }

    /// Another node leads and has orders from before: those of them that are known here to have ended. `open` are this node's own.
    pub(crate) fn on_ask_closed(
        &self,
        from: PeerId,
        fence: Fence,
        orders: Vec<OrdersOf>,
        last: bool,
        open: &BTreeMap<Epoch, Ranges>,
        out: &mut Out,
    ) {
        let known = orders.into_iter().filter_map(|of| {
            let asked = &of.numbers;
            let numbers = if of.orderer == self.me {
                // What this node does not know of its own has ended, or is forgotten.
                open.get(&of.epoch).map_or_else(|| asked.clone(), |open| asked.minus(open))
            } else {
                let closed = self.closed.get(&(of.orderer, of.epoch))?;
                asked.minus(&asked.minus(closed))
            };
            (!numbers.is_empty()).then_some(OrdersOf { numbers, ..of })
        });
        let mut pages = OrdersOf::pages(known);
        // Who asks waits for the last one, also where none is known.
        let end = pages.pop().unwrap_or_default();
        pages.into_iter().for_each(|orders| out.work(from, Work::KnownClosed { fence, orders, last: false }));
        out.work(from, Work::KnownClosed { fence, orders: end, last });
    }

    /// A peer takes these for ended, of those it was asked about.
    pub(crate) fn on_known_closed(&mut self, from: PeerId, fence: Fence, orders: &[OrdersOf], last: bool) {
        if self.fence != Some(fence) {
            return;
        }
        for OrdersOf { orderer, epoch, numbers } in orders {
            let wanted = if from == *orderer { Wanted::Disowned } else { Wanted::Doubted };
            let key = |number| OrderKey { orderer: *orderer, epoch: *epoch, number };
            for (first, last) in numbers.iter() {
                let rows = self.rows.range_mut(key(first)..=key(last)).filter(|(_, row)| (Wanted::Kept..wanted).contains(&row.wanted));
                let doubted: Vec<OrderKey> = rows.map(|(key, row)| (row.wanted = wanted, *key).1).collect();
                doubted.iter().for_each(|key| self.settle(key));
            }
        }
        if last {
            self.has_answered(from);
        }
    }

    /// Its orderer offers an order that is here: whoever takes it for ended is wrong.
    pub(super) fn on_wanted(&mut self, key: &OrderKey) {
        if let Some(row) = self.rows.get_mut(key)
            && row.wanted != Wanted::Said
        {
            row.wanted = Wanted::Said;
            self.settle(key);
        }
    }
}

pub(super) fn by_memory(keys: impl Iterator<Item = OrderKey>) -> Vec<OrdersOf> {
    let mut all: Vec<OrdersOf> = Vec::new();
    for OrderKey { orderer, epoch, number } in keys {
        match all.last_mut().filter(|of| (of.orderer, of.epoch) == (orderer, epoch)) {
            Some(of) => drop(of.numbers.insert(number)),
            None => all.push(OrdersOf { orderer, epoch, numbers: Ranges::of(number, number) }),
        }
    }
    all
}
