//! Orders of this node, from placed to their outcome, which is written here alone.
//! Knows nothing of who works for whom. A number is on disk before it is told and belongs to one order; an order has one
//! outcome, which never changes.

mod book;
mod check;
mod closings;
mod courier;
mod entry;
mod frames;
mod keys;
mod leader;
mod running;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::config::{Config, limits};
use crate::effect::{Answer, Change, Notice, OrderState, Out, Outcome, Refusal};
use crate::id::{Epoch, RequestId};
use crate::input::NewOrder;
use crate::now::Now;
use crate::order::{Broken, Cancel, End, FORGOTTEN, Fence, Order, OrderKey, Report, Try};
use crate::peer::OrderView;
use crate::proven::Proven;
use crate::ranges::Ranges;
use crate::segment::What;
use crate::work::{Full, Progress, UnitsOf, Work};

use self::book::Book;
use self::closings::Closings;
use self::entry::Entry;
use self::keys::Keys;
use self::leader::Leader;
use self::running::Runs;

/// Orders that a memory can have missed; who speaks of a greater number is not believed (guess: more than any backup misses).
const FORGOTTEN_MOST: u64 = 1 << 32;

/// See the module.
#[derive(Debug)]
pub(crate) struct Orders {
    me: PeerId,
    book: Book,
    next: u64,
    keys: Keys,
    leader: Leader,
    /// The leader is new: it does not know which units of open orders have ended.
    owes_ends: bool,
    closings: Closings,
    runs: Runs,
    /// Reports that came in this batch, by the worker who told them.
    reported: BTreeMap<PeerId, BTreeSet<Try>>,
    /// First and last that were placed in this batch.
    placed: Option<(u64, u64)>,
    /// Ended in this batch, in that order.
    ended: Vec<OrderKey>,
}

impl Orders {
    /// Goes on where the disk ends.
    pub(crate) fn new(
        me: PeerId,
        config: &Config,
        open: Vec<(Order, OrderState)>,
        next: u64,
        closed: Vec<(Epoch, End, Ranges)>,
        now: Now,
    ) -> Self {
        let closings = Closings::new(me, closed);
        let mut orders = Orders {
            me,
            book: Book::new(config),
            next: next.max(1).max(closings.last() + 1),
            keys: Keys::default(),
            leader: Leader::new(me, config),
            owes_ends: false,
            closings,
            runs: Runs::default(),
            reported: BTreeMap::new(),
            placed: None,
            ended: Vec::new(),
        };
        for (order, state) in open {
            orders.next = orders.next.max(order.number + 1);
            orders.book.enter(Entry::recall(order, state, now));
        }
        orders
    }

    // -- placing

    /// An order is to be placed. Returns it at once, or after [`Orders::on_key`] if it has a key.
    pub(crate) fn ask(&mut self, request: RequestId, order: NewOrder, out: &mut Out) -> Option<NewOrder> {
        self.keys.ask(request, order, out)
    }

    /// The disk was asked for a key. Returns the order to place if the key is new.
    pub(crate) fn on_key(&mut self, key: &str, found: Option<(u64, [u8; 32])>, out: &mut Out) -> Option<(RequestId, NewOrder)> {
        self.keys.on_found(key, found, out)
    }

    /// The disk could not be asked for a key.
    pub(crate) fn on_key_failed(&mut self, key: &str, out: &mut Out) {
        self.keys.end(key, |_| Answer::Refused(Refusal::DiskUnreadable), out);
    }

    /// A request is refused: everyone who waits for its key learns why.
    pub(crate) fn refuse(&mut self, request: RequestId, key: Option<&str>, refusal: &Refusal, out: &mut Out) {
        self.keys.refuse(request, key, refusal, out);
    }

    /// Gives an order its number, or refuses it.
    pub(crate) fn place(&mut self, request: RequestId, order: NewOrder, epoch: Epoch, now: Now, out: &mut Out) {
        if let Err(refusal) = check::check(&order).and_then(|()| self.book.check_room(check::bytes(&order))) {
            return self.refuse(request, order.key.as_deref(), &refusal, out);
        }
        let key = order.key.as_ref().map(|key| (key.clone(), keys::digest(&order)));
        let number = self.next;
        self.next += 1;
        let entry = Entry::draw_up(self.me, epoch, number, order, now);
        debug_assert!(entry.order.within_limits(), "check() refuses what others would");
        out.store(Change::Order(Box::new(entry.order.clone())));
        out.store(Change::OrderState(Box::new(entry.state.clone())));

        match key {
            None => out.reply(request, Answer::Placed { number, repeated: false }),
            Some((key, digest)) => {
                out.store(Change::OrderKey { key: key.clone(), number, digest });
                self.keys.end(&key, |first| Answer::Placed { number, repeated: !first }, out);
            }
        }
        let first = self.placed.map_or(number, |(first, _)| first);
        self.placed = Some((first, number));
        self.book.enter(entry);
        self.leader.want(number);
    }

    /// Cancels orders of this node: all that have not ended, or none if one of them was never placed.
    pub(crate) fn cancel(&mut self, request: RequestId, numbers: &[u64], now: Now, out: &mut Out) {
        let mut answers = Vec::with_capacity(numbers.len());
        for number in numbers {
            let end = self.closings.end_of(*number);
            if end.is_none() && self.book.get(*number).is_none() {
                return out.refuse(request, Refusal::NoSuchOrder { number: *number });
            }
            answers.push((*number, end));
        }
        out.reply(request, Answer::Cancelling(answers));
        numbers.iter().for_each(|number| self.revoke(*number, false, now, out));
    }

    // -- the leader, and who can be reached

    /// Who leads, as far as this node knows.
    pub(crate) fn on_leader(&mut self, leader: Option<Fence>, _now: Now, _out: &mut Out) {
        match self.leader.on_leader(leader) {
            leader::Change::Same => {}
            leader::Change::Again(peer) => self.closings.on_lost(peer),
            leader::Change::New(peer) => {
                self.leader.restart(self.book.numbers());
                self.owes_ends = true;
                self.book.forget_refusals();
                self.closings.owe_all(peer);
            }
        }
    }

    /// A peer can be spoken to: what it may have missed goes again.
    pub(crate) fn on_reachable(&mut self, peer: PeerId, _now: Now) {
        self.leader.on_reachable(peer);
        self.closings.on_lost(peer);
    }

    /// It cannot any more.
    pub(crate) fn on_unreachable(&mut self, peer: PeerId, _now: Now) {
        self.leader.on_unreachable(&peer);
    }

    /// The network dropped frames to this peer: what they held goes again a little later.
    pub(crate) fn on_send_failed(&mut self, peer: PeerId, now: Now) {
        self.leader.on_send_failed(peer, now.mono);
        self.closings.on_lost(peer);
    }

    /// The leader has these on its disk.
    pub(crate) fn on_queued(&mut self, from: PeerId, fence: Fence, orders: &[OrderKey], now: Now) {
        if !self.leader.leads_under(fence, &from) {
            return;
        }
        for key in orders {
            match self.book.find(key) {
                None => self.close_again(from, key),
                Some(entry) => {
                    self.leader.on_queued(key.number, now.mono);
                    entry.queued = Some(fence);
                    entry.concerns(from);
                    entry.not_queued = None;
                    // Not before: a leader that does not know of the order does not know either of what runs of it.
                    if entry.state.cancelled.is_some() {
                        self.leader.want_cancel(key.number);
                    }
                }
            }
        }
    }

    /// The leader does not take these now.
    pub(crate) fn on_not_queued(&mut self, from: PeerId, fence: Fence, orders: &[(OrderKey, Full)], now: Now) {
        if !self.leader.leads_under(fence, &from) {
            return;
        }
        for (key, why) in orders {
            if let Some(entry) = self.book.find(key)
                && self.leader.on_not_queued(key.number, *why, now.mono)
            {
                entry.not_queued = Some(*why);
                if entry.state.cancelled.is_some() {
                    self.leader.want_cancel(key.number);
                }
            }
        }
    }

    /// The leader has the cancel of an order: these units may still run, and of those nobody can say.
    pub(crate) fn on_cancel_taken(&mut self, from: PeerId, order: OrderKey, running: &[u32], lost: &[u32], now: Now, out: &mut Out) {
        let Some(fence) = self.leader.last().filter(|fence| fence.leader == from) else { return };
        match self.book.find(&order) {
            None => self.close_again(from, &order),
            Some(entry) if entry.state.cancelled.is_some() => {
                self.leader.on_cancel_taken(order.number);
                entry.on_cancel_taken(fence, running, lost);
                self.settle(order.number, now, out);
            }
            // Nobody here wants it cancelled.
            Some(_) => {}
        }
    }

    /// Cancels that this node has signed come back to it: a memory of before it was put back wanted these orders no more.
    pub(crate) fn on_cancels(&mut self, cancels: &[Proven<Cancel>], now: Now, out: &mut Out) {
        for cancel in cancels.iter().map(|cancel| &cancel.value) {
            if self.book.find(&cancel.order).is_some_and(|entry| entry.state.cancelled.is_none()) {
                self.revoke(cancel.order.number, cancel.expired, now, out);
            }
        }
    }

    /// The leader has given up units.
    pub(crate) fn on_given_up(&mut self, from: PeerId, units: Vec<(OrderKey, u32, String)>, now: Now, out: &mut Out) {
        if !self.leader.is(&from) {
            return;
        }
        for (key, unit, why) in units {
            match self.book.find(&key) {
                None => self.close_again(from, &key),
                Some(entry) if entry.is_open(unit) => {
                    entry.give_up_unit(unit, why.clone());
                    self.on_unit_ended(key.number, unit, Err(why), now, out);
                }
                Some(_) => {}
            }
        }
    }

    // -- names

    /// Whether what this node has signed is not what it knows under that name: its memory was put back to before it gave it.
    pub(crate) fn is_another(&self, order: &Order) -> bool {
        self.book.of_key(&order.key()).is_some_and(|entry| entry.order != *order)
    }

    /// The memory of this node may have jumped back: what nobody has heard of yet is told under the new one.
    pub(crate) fn on_new_epoch(&mut self, epoch: Epoch, now: Now, out: &mut Out) {
        let untold: Vec<OrderKey> = self.book.after(0).filter(|entry| !entry.sent).map(|entry| entry.order.key()).collect();
        untold.into_iter().for_each(|order| self.rename(&order, epoch, now, out));
    }

    /// Others know another order by this name: the one that is here goes on as one of `epoch`, under its number, and whatever was said
    /// of it until now is void.
    pub(crate) fn rename(&mut self, order: &OrderKey, epoch: Epoch, now: Now, out: &mut Out) {
        let leader = self.leader.last().map(|fence| fence.leader);
        let Some(entry) = self.book.find(order).filter(|_| order.epoch != epoch) else { return };
        let told = entry.sent.then_some(leader).flatten();
        let told: Vec<PeerId> = std::mem::take(&mut entry.concerned).into_iter().chain(told).collect();
        entry.rename(epoch);
        out.store(Change::Order(Box::new(entry.order.clone())));
        out.note(What::OrdersPlaced { first: order.number, last: order.number });
        self.book.touch(order.number);
        self.runs.forget(order.number);
        self.leader.forget(order.number);
        self.leader.want(order.number);
        self.closings.forget(order.epoch, order.number);
        told.into_iter().for_each(|peer| self.closings.owe(peer, order.epoch, order.number));
        self.settle(order.number, now, out);
    }

    // -- workers

    /// A worker has begun to run these.
    pub(crate) fn on_started(&mut self, from: PeerId, tries: &[Try], now: Now) {
        for of in tries {
            if self.is_running(from, of) {
                self.runs.on_started(from, *of, now.mono);
            }
        }
    }

    /// A worker tells how far these are.
    pub(crate) fn on_progress(&mut self, from: PeerId, progress: Vec<Progress>, now: Now) {
        for progress in progress {
            if self.is_running(from, &progress.of) {
                self.runs.on_progress(from, progress, now.mono);
            }
        }
    }

    /// These came to nothing, and are tried again by the leader.
    pub(crate) fn on_broken(&mut self, _from: PeerId, broken: &[(Try, Broken)], _now: Now) {
        broken.iter().filter(|(of, _)| of.order.orderer == self.me).for_each(|(of, _)| self.runs.on_broken(of));
    }

    /// Units have ended, as their workers say, whoever brings the word.
    pub(crate) fn on_reports(&mut self, from: PeerId, reports: Vec<Proven<Report>>, now: Now, out: &mut Out) {
        for report in reports {
            let Report { of, worker, ended, .. } = &report.value;
            let (of, Try { order: key, unit, .. }, worker) = (*of, *of, *worker);
            let Some(entry) = self.book.find(&key) else {
                self.close_again(from, &key);
                self.close_again(worker, &key);
                // Who leads had it run although it has ended.
                if let Some(fence) = self.leader.last() {
                    self.close_again(fence.leader, &key);
                }
                continue;
            };
            entry.concerns(worker);
            if from == worker && from != self.me {
                self.reported.entry(from).or_default().insert(of);
            }
            // The first one counts. One that is older than the order tells of another of that name; it proves nothing to mint an epoch
            // for, since its worker alone has signed it.
            if entry.is_open(unit) && entry.is_older(of.attempt) {
                entry.give_up_unit(unit, FORGOTTEN.to_owned());
                self.on_unit_ended(key.number, unit, Err(FORGOTTEN.to_owned()), now, out);
            } else if entry.is_open(unit) {
                entry.end_unit(unit, ended);
                self.on_unit_ended(key.number, unit, Ok(Box::new(report)), now, out);
            }
        }
    }

    /// Those that have ended in this batch, in that order.
    pub(crate) fn take_ended(&mut self) -> Vec<OrderKey> {
        std::mem::take(&mut self.ended)
    }

    // -- questions

    /// An order that has not ended.
    pub(crate) fn view(&self, number: u64, now: Now) -> Option<OrderView> {
        self.book.get(number).map(|entry| self.view_of(entry, now))
    }

    /// Those after a number, ascending.
    pub(crate) fn views(&self, after: u64, most: usize, now: Now) -> Vec<OrderView> {
        self.book.after(after).take(most).map(|entry| self.view_of(entry, now)).collect()
    }

    /// Which have not ended, by memory.
    pub(crate) fn open_numbers(&self) -> BTreeMap<Epoch, Ranges> {
        let mut open: BTreeMap<Epoch, Ranges> = BTreeMap::new();
        for OrderKey { epoch, number, .. } in self.book.after(0).map(|entry| entry.order.key()) {
            open.entry(epoch).or_default().insert(number);
        }
        open
    }

    /// How many have not ended.
    pub(crate) fn open(&self) -> u64 {
        self.book.len()
    }

    // -- time

    /// Looks at whose time is up and what was not answered.
    pub(crate) fn tick(&mut self, now: Now, out: &mut Out) {
        self.leader.tick(now.mono);
        self.book.expired(now.mono).into_iter().for_each(|number| self.revoke(number, true, now, out));
    }

    /// Writes what changed in this batch, and says what is due: may be called again within a batch.
    pub(crate) fn close(&mut self, now: Now, out: &mut Out) {
        self.book.take_dirty().for_each(|state| out.store(Change::OrderState(Box::new(state))));
        if let Some((first, last)) = self.placed.take() {
            out.note(What::OrdersPlaced { first, last });
        }
        self.take_reports(out);
        let leader = &self.leader;
        for (peer, closing) in self.closings.take(|peer| leader.reaches(peer)) {
            out.work(peer, Work::Closing(Box::new(Proven::own(closing))));
        }
        let Some((to, orders, cancels)) = self.leader.depart(|number| self.book.size(number), now.mono) else { return };
        let gone = "what has ended is not sent";
        let fence = self.leader.last().expect("somebody leads to whom orders depart");
        // A new leader is told of all at once, before it hands out anything of what it kept or workers told it of.
        let told =
            if std::mem::take(&mut self.owes_ends) { self.book.after(0).map(|entry| entry.order.number).collect() } else { orders.clone() };
        let begun = told.iter().filter_map(|number| self.book.get(*number)).filter(|entry| entry.has_begun_to_end());
        let ended = begun.map(|entry| UnitsOf { order: entry.order.key(), units: entry.ended_units() });
        frames::units_ended(ended).into_iter().for_each(|word| out.work(to, word));
        let orders = orders.into_iter().map(|number| self.book.mark_sent(number, fence).expect(gone).order.clone());
        let mut words = frames::orders(orders);
        words.extend(frames::cancels(cancels.into_iter().map(|number| self.book.get(number).expect(gone).cancel())));
        words.into_iter().for_each(|word| out.work(to, word));
    }

    /// When [`Orders::tick`] or [`Orders::close`] has something to do; at once if a batch is open.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        if self.placed.is_some()
            || !self.ended.is_empty()
            || !self.reported.is_empty()
            || self.book.is_dirty()
            || self.closings.is_due(|peer| self.leader.reaches(peer))
        {
            return Some(Duration::ZERO);
        }
        self.book.deadline().into_iter().chain(self.leader.deadline(|number| self.book.size(number))).min()
    }

    // -- private

    /// Workers learn that their reports have come, unless they learn with this batch that the order has ended.
    fn take_reports(&mut self, out: &mut Out) {
        for (worker, tries) in std::mem::take(&mut self.reported) {
            // Who cannot be reached tells them again when it can be.
            if !self.leader.reaches(&worker) {
                continue;
            }
            let open: Vec<Try> = tries.into_iter().filter(|of| self.book.find(&of.order).is_some()).collect();
            for page in open.chunks(limits::WORDS) {
                out.work(worker, Work::ReportsTaken(page.to_vec()));
            }
        }
    }

    /// An order is not wanted any more: by its user, or because its time is up.
    fn revoke(&mut self, number: u64, expired: bool, now: Now, out: &mut Out) {
        let Some(entry) = self.book.revoke(number) else { return };
        entry.state.cancelled = Some((now.wall, expired));
        out.note(What::OrderCancelled { number, expired });
        let known = entry.queued.is_some() && entry.queued == self.leader.last();
        // A leader that takes no orders takes cancels.
        if known || entry.not_queued.is_some() || self.leader.full().is_some() {
            self.leader.want_cancel(number);
        }
        self.settle(number, now, out);
    }

    /// Whether a worker can be running this; notes that it is concerned, and answers if the order has ended.
    fn is_running(&mut self, from: PeerId, of: &Try) -> bool {
        let Some(entry) = self.book.find(&of.order) else {
            self.close_again(from, &of.order);
            return false;
        };
        entry.concerns(from);
        entry.is_open(of.unit)
    }

    /// Somebody has something of an order that may have ended: then it is told so.
    pub(crate) fn close_again(&mut self, peer: PeerId, order: &OrderKey) {
        if order.orderer != self.me || self.book.find(order).is_some() {
            return;
        }
        if !self.closings.contains(order) {
            self.on_forgotten(order);
        }
        self.closings.owe(peer, order.epoch, order.number);
    }

    /// Others know an order of this node that it does not know itself: its memory was put back to before it. It gets no outcome, and
    /// its number is not given again.
    fn on_forgotten(&mut self, order: &OrderKey) {
        if order.number < self.next.saturating_add(FORGOTTEN_MOST) {
            self.next = self.next.max(order.number + 1);
        }
        self.closings.forget(order.epoch, order.number);
    }

    /// Whether this order of this node has ended, or is forgotten for good.
    pub(crate) fn is_closed(&self, order: &OrderKey) -> bool {
        self.closings.contains(order)
    }

    /// A unit has ended, which may be the last one.
    fn on_unit_ended(&mut self, number: u64, unit: u32, report: Result<Box<Proven<Report>>, String>, now: Now, out: &mut Out) {
        self.book.touch(number);
        out.store(Change::UnitEnd { number, report, unit });
        self.runs.on_ended(number, unit);
        self.settle(number, now, out);
    }

    /// Writes the outcome of an order if it has one.
    fn settle(&mut self, number: u64, now: Now, out: &mut Out) {
        let Some((end, why)) = self.book.get(number).and_then(|entry| entry.outcome(self.leader.last())) else { return };
        let mut entry = self.book.remove(number).expect("just seen");
        entry.drop_rest();
        entry.state.outcome = Some(Outcome { end, why, at: now.wall });
        self.leader.forget(number);
        self.runs.forget(number);
        let epoch = entry.state.epoch;
        self.closings.insert(epoch, number, end);
        let leader = self.leader.last().map(|fence| fence.leader).filter(|_| entry.sent);
        entry.concerned.iter().copied().chain(leader).for_each(|peer| self.closings.owe(peer, epoch, number));
        out.store(Change::OrderState(Box::new(entry.state)));
        self.ended.push(OrderKey { orderer: self.me, epoch, number });
        out.note(What::OrderEnded { number, end });
        out.notify(Notice::OrderEnded { number, end });
    }

    fn view_of(&self, entry: &Entry, now: Now) -> OrderView {
        let queued = entry.queued.filter(|queued| self.leader.last() == Some(*queued));
        let full = entry.not_queued.or(self.leader.full());
        let running = self.runs.view(entry.order.number, now.mono);
        OrderView { state: entry.state.clone(), queued, not_queued: full.filter(|_| queued.is_none()), running }
    }
}
