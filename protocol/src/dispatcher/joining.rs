//! Orders that others hold from before: asked for where this leader lacks them.
//! Believes nobody that an order is still wanted, nor what has ended of it: what its orderer has not said under this term is placed
//! after all who are here were asked whether it has ended, and ends are told by workers and orderers. Who may run a unit is waited for.

use libp2p_identity::PeerId;

use super::Dispatcher;
use super::doubt::Wanted;
use super::table::Row;
use crate::effect::{Change, Out, QueueState, Queued};
use crate::now::{Now, Timestamp};
use crate::order::{Fence, OrderKey};
use crate::ranges::Ranges;
use crate::work::{Copies, Held, Known, OrdersOf};

impl Dispatcher {
    /// A peer holds these: it is told which of them are here, which it is to send, and which it may forget.
    pub(crate) fn on_holding(&mut self, from: PeerId, fence: Fence, orders: Vec<OrdersOf>) {
        if self.fence != Some(fence) {
            return;
        }
        for of in orders {
            let key = |number| OrderKey { orderer: of.orderer, epoch: of.epoch, number };
            let over = self.closed.get(&(of.orderer, of.epoch)).map_or_else(Ranges::default, |closed| of.numbers.common(closed));
            let mut here = Ranges::default();
            for (first, last) in of.numbers.iter() {
                for (key, _) in self.rows.range(key(first)..=key(last)) {
                    here.insert(key.number);
                }
            }
            let wanted = of.numbers.minus(&over).minus(&here);
            for (known, numbers) in [(Known::Here, here), (Known::Wanted, wanted), (Known::Over, over)] {
                if !numbers.is_empty() {
                    self.words.to(from).known.entry(known).or_default().push(OrdersOf { numbers, ..of });
                }
            }
        }
    }

    /// Orders that a peer held, as this leader wanted them. Where there is no room, nothing is answered, and they come again.
    pub(crate) fn on_handed(&mut self, from: PeerId, copies: Copies, disk_low: bool, now: Now, out: &mut Out) {
        let Copies { fence, number, orders, .. } = copies;
        if self.fence != Some(fence) {
            return;
        }
        let mut all = true;
        let mut new = Vec::new();
        for Held { order, age_ms, state } in orders {
            let key = state.order;
            if self.is_closed(&key) || self.rows.contains_key(&key) {
                continue;
            }
            let Some(order) = order.filter(|order| self.full(order, disk_low).is_none()) else {
                all = false;
                continue;
            };
            let at = Timestamp(now.wall.0.saturating_sub(age_ms));
            let sort = self.queue.sort_for(order.value.priority).unwrap_or_else(|| self.renumber(order.value.priority));
            let queued = Queued { order, sort, at };
            out.store(Change::Queue(Box::new(queued.clone())));
            let state = QueueState { tries: state.tries, cancel: state.cancel, ..QueueState::new(key, sort) };
            let mut row = Box::new(Row::kept(queued, Some(state), now.mono));
            row.wanted = Wanted::Asked;
            let again_at = now.mono + self.config.gate;
            self.unanswered.extend(row.expect_answers(again_at).map(|unit| (again_at, key, unit)));
            self.insert(row, now);
            self.dirty.insert(key, None);
            self.taken.entry((key.orderer, key.epoch)).or_default().insert(key.number);
            new.push(key);
        }
        if !new.is_empty() {
            self.ask_about(new, now);
        }
        if all {
            self.words.to(from).copied.push(number);
        }
    }
}
