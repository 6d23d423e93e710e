//! Orders that others hold from before: asked for where this leader lacks them, and joined with what is here.
//! Believes nobody that an order is still wanted: what its orderer has not said under this term is placed after all who are here
//! were asked whether it has ended.

use libp2p_identity::PeerId;

use super::Dispatcher;
use super::doubt::Wanted;
use super::table::{Placement, Row, Stage};
use crate::effect::{Change, Out, QueueState, Queued};
use crate::now::{Now, Timestamp};
use crate::order::{Attempt, Fence, OrderKey};
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
            if self.is_closed(&key) {
                continue;
            }
            if self.rows.contains_key(&key) {
                self.join(&key, &state.tries, &state.ended, now);
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
            let mut row = Box::new(Row::kept(queued, Some(QueueState { sort, ..state }), now.mono));
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

    /// What another leader knew of the units of an order that is here, too: an end beats all, and who may run one is waited for.
    fn join(&mut self, key: &OrderKey, tries: &[(u32, Attempt, PeerId)], ended: &Ranges, now: Now) {
        let Some(row) = self.rows.get_mut(key) else { return };
        let all = Ranges::of(1, u64::from(row.units()));
        let ended: Vec<u32> =
            ended.common(&all).iter().flat_map(|(first, last)| first..=last).filter_map(|unit| u32::try_from(unit).ok()).collect();
        for unit in ended {
            if self.rows.get(key).is_some_and(|row| !row.is_over(unit)) {
                self.end_unit(key, unit, None);
                self.dirty.insert(*key, None);
            }
        }
        for (unit, attempt, worker) in tries.iter().copied() {
            let Some(row) = self.rows.get_mut(key) else { return };
            if row.is_unit(unit) && !row.is_over(unit) && row.placement(unit).is_none() && !row.is_dead(unit, attempt, &worker) {
                row.used(unit, attempt.number);
                let again_at = Some(now.mono + self.config.work_patience);
                let placement = Placement { attempt, worker, stage: Stage::Unsure, since: now.mono, again_at, asked: 0 };
                self.put(key, unit, placement, None, now);
            }
        }
        self.settle(key);
    }
}
