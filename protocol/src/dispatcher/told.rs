//! What workers tell of their tries, what their silence means, and what they are told again.
//! A report ends its unit whichever attempt it is of; of two copies that run, the one that has run longer stays.

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p_identity::PeerId;

use super::Dispatcher;
use super::table::{Placement, Row, Stage};
use crate::effect::Out;
use crate::now::Now;
use crate::order::{Attempt, Broken, FORGOTTEN, Fence, OrderKey, Report, Try};
use crate::proven::Proven;
use crate::segment::What;
use crate::service::Lack;
use crate::work::{UnitsOf, Working};

/// How soon a worker that does not have a large order yet is asked again: it comes by a slower stream (guess).
const BODY_PATIENCE: Duration = Duration::from_millis(100);
/// What orderers are told of a unit whose process died too often.
const CRASHED: &str = "crashed its workers";

impl Dispatcher {
    // -- who can be reached

    /// A peer can be reached (again).
    pub(crate) fn on_reachable(&mut self, peer: PeerId, now: Now, _out: &mut Out) {
        self.workers.on_reachable(peer);
        if self.fence.is_none() {
            return self.holdings.on_reachable(&peer, true, now);
        }
        if self.gate.is_some() {
            self.awaited.insert(peer);
        }
        self.look.all();
        self.tell_again(peer, now);
        self.ask_closed([peer]);
        self.doubt_soon(now);
    }

    /// A peer cannot be reached any more. One that has said goodbye has ended all that ran there: nothing more comes of what it had.
    pub(crate) fn on_unreachable(&mut self, peer: PeerId, in_order: bool, now: Now) {
        let patience = if in_order { Duration::ZERO } else { self.config.lost_after };
        self.workers.on_unreachable(&peer, now.mono + patience);
        self.retell.remove(&peer);
        // What was kept for its sake is free.
        self.look.all();
        self.has_told(peer);
        self.forget_asked(&peer);
        self.standbys.forget(&peer);
        self.holdings.on_reachable(&peer, false, now);
    }

    /// Something for a peer was not sent: it is told again.
    pub(crate) fn on_send_failed(&mut self, peer: PeerId, now: Now) {
        if self.fence.is_none() {
            return self.holdings.on_send_failed(&peer, now);
        }
        if self.workers.is_reachable(&peer) {
            self.workers.doubt(&peer);
            self.standbys.restart(&peer);
            self.retell.entry(peer).or_insert(now.mono + self.config.refused_wait);
        }
    }

    /// Everything that a peer may have missed.
    pub(super) fn tell_again(&mut self, peer: PeerId, now: Now) {
        self.retell.remove(&peer);
        let tries: Vec<(OrderKey, u32)> = self.workers.get(&peer).into_iter().flat_map(|known| known.tries.keys().copied()).collect();
        for (key, unit) in tries {
            let Some(placement) = self.rows.get_mut(&key).and_then(|row| row.placement(unit)) else { continue };
            // Who has taken it tells by itself what became of it, unless that is lost.
            let wait = if placement.stage == Stage::Assigned { Duration::ZERO } else { placement.patience(&self.config) };
            self.expect_answer(&key, unit, Some(now.mono + wait));
        }
        if self.asked.remove(&peer).is_some() {
            self.ask_closed([peer]);
        }
        let first = OrderKey { orderer: peer, epoch: crate::id::Epoch(0), number: 0 };
        let of_peer = |set: &BTreeSet<OrderKey>| set.range(first..).take_while(|key| key.orderer == peer).copied().collect::<Vec<_>>();
        for key in of_peer(&self.given_up) {
            self.tell_given_up(&key);
        }
        for key in of_peer(&self.cancelled) {
            if let Some(row) = self.rows.get_mut(&key) {
                row.cancel_told = None;
            }
            self.cancels_due.insert(key);
        }
    }

    /// A worker was silent for too long: its units are tried elsewhere.
    pub(super) fn on_lost(&mut self, peer: PeerId, now: Now, out: &mut Out) {
        let tries: Vec<(OrderKey, u32)> = self.workers.get(&peer).into_iter().flat_map(|known| known.tries.keys().copied()).collect();
        for (key, unit) in tries {
            let Some(attempt) = self.rows.get_mut(&key).and_then(|row| row.placement(unit)).map(|placement| placement.attempt) else {
                continue;
            };
            self.on_try_broken(&key, unit, Broken::Lost, now);
            out.note(What::TryBroken { of: Try { order: key, unit, attempt }, why: Broken::Lost });
            if let Some(row) = self.rows.get_mut(&key)
                && let Some(known) = self.workers.get_mut(&peer)
            {
                known.lost.insert((key, unit));
                if let Some((_, before)) = row.lost.insert(unit, (attempt, peer)).filter(|(_, before)| *before != peer) {
                    self.workers.unlose(&before, &key, unit);
                }
            }
        }
        self.strays.keep(peer, |_| false);
        self.workers.forget(&peer);
    }

    /// This peer has told all that it is at, or will not.
    fn has_told(&mut self, peer: PeerId) {
        if self.awaited.remove(&peer) {
            self.open_when_told();
        }
    }

    /// It has told, too, which older orders it takes for ended.
    pub(super) fn has_answered(&mut self, peer: PeerId) {
        let Some(questions) = self.asked.get_mut(&peer) else { return };
        *questions -= 1;
        if *questions == 0 {
            self.forget_asked(&peer);
        }
    }

    /// This peer is asked nothing more, or will not answer.
    fn forget_asked(&mut self, peer: &PeerId) {
        if self.asked.remove(peer).is_some() && self.asked.is_empty() {
            self.accept_brought();
            self.open_when_told();
        }
    }

    fn open_when_told(&mut self) {
        if self.gate.is_some() && self.awaited.is_empty() && self.asked.is_empty() {
            self.open_gate();
        }
    }

    /// Older orders may be placed, and cancels answered.
    pub(super) fn open_gate(&mut self) {
        self.gate = None;
        self.awaited.clear();
        if self.brought.is_empty() {
            self.asked.clear();
        }
        self.cancels_due.extend(self.cancelled.iter().chain(self.early.keys()));
    }

    // -- answers

    /// A worker answers to assignments.
    pub(crate) fn on_answer(&mut self, from: PeerId, fence: Fence, taken: Vec<Try>, declined: Vec<(Try, Lack)>, now: Now, _out: &mut Out) {
        if self.fence != Some(fence) {
            return;
        }
        for of in taken {
            self.on_holds(from, of, None, now);
        }
        for (of, lack) in declined {
            self.on_declined(from, of, lack, now);
        }
    }

    fn on_declined(&mut self, from: PeerId, of: Try, lack: Lack, now: Now) {
        let connection = self.workers.connection(&from);
        let Some(row) = self.rows.get_mut(&of.order) else { return };
        // Who has taken it and declines it when it is asked again does not have it: its end was lost on its way, and it was started anew.
        let asked = |placement: &&mut Placement| {
            placement.worker == from && placement.attempt == of.attempt && (placement.stage <= Stage::Assigned || placement.asked > 0)
        };
        if row.placement(of.unit).filter(asked).is_none() {
            return;
        }
        if lack == Lack::NoOrder {
            if self.standbys.is_complete(&from) {
                self.standbys.restart(&from);
                row.untell(&from);
            }
            let told_at = connection.and_then(|connection| row.told_at(&from, connection));
            // It may be on its way still: orders are longer than assignments.
            let on_its_way = told_at.is_some_and(|at| now.mono < at + self.config.work_patience);
            if !on_its_way {
                row.untell(&from);
            }
            let again_at = if on_its_way { now.mono + BODY_PATIENCE } else { now.mono };
            self.expect_answer(&of.order, of.unit, Some(again_at));
            return;
        }
        self.workers.on_declined(&from, &row.order.value.service, &row.shape, lack, now.mono + self.config.declined_for);
        // A copy of the assignment may still be on its way to that worker: nobody else gets this number.
        row.used(of.unit, of.attempt.number);
        self.take_back(&of.order, of.unit);
        self.settle(&of.order);
    }

    /// A page of all that a worker is at.
    pub(crate) fn on_working(&mut self, from: PeerId, fence: Fence, tries: Vec<Working>, last: bool, now: Now, out: &mut Out) {
        if self.fence != Some(fence) {
            return;
        }
        for working in tries {
            let since = working.running_ms.map(|ms| now.mono.saturating_sub(Duration::from_millis(ms)));
            self.on_holds(from, working.of, since, now);
            if let Some(known) = self.workers.get_mut(&from) {
                known.list(working.of);
            }
        }
        if last {
            self.on_listed(from, now, out);
            self.has_told(from);
        }
    }

    /// A worker has told all that it is at: what it does not know is nowhere.
    fn on_listed(&mut self, from: PeerId, now: Now, out: &mut Out) {
        let Some(known) = self.workers.get_mut(&from) else { return };
        let listed = std::mem::take(&mut known.listing);
        let lost = std::mem::take(&mut known.lost);
        let tries: Vec<(OrderKey, u32)> = known.tries.keys().copied().collect();
        self.strays.keep(from, |of| listed.contains(of));
        for (key, unit) in lost {
            if let Some(row) = self.rows.get_mut(&key)
                && row.lost.get(&unit).is_some_and(|(_, worker)| *worker == from)
            {
                row.lost.remove(&unit);
                if row.cancel.is_some() {
                    self.cancels_due.insert(key);
                }
            }
        }
        for (key, unit) in tries {
            let Some(row) = self.rows.get_mut(&key) else { continue };
            let Some(placement) = row.placement(unit).copied() else { continue };
            let of = row.try_of(unit, placement.attempt);
            // An assignment of this term may have crossed the list: it is repeated until it is answered.
            if listed.contains(&of) || placement.stage == Stage::Assigned {
                continue;
            }
            out.note(What::TryBroken { of, why: Broken::Crashed });
            // What was not known to run cannot have been what broke it.
            let why = if placement.stage == Stage::Running { Broken::Crashed } else { Broken::Lost };
            self.on_try_broken(&key, unit, why, now);
        }
    }

    /// Units have begun to run.
    pub(crate) fn on_started(&mut self, from: PeerId, tries: &[Try], now: Now, _out: &mut Out) {
        if self.fence.is_some() {
            tries.iter().for_each(|of| self.on_holds(from, *of, Some(now.mono), now));
        }
    }

    /// A worker has a unit, and since when it runs.
    pub(super) fn on_holds(&mut self, from: PeerId, of: Try, since: Option<Duration>, now: Now) {
        if self.fence.is_none_or(|fence| of.attempt.fence() > fence) {
            return;
        }
        let closed = self.is_closed(&of.order);
        let Some(row) = self.rows.get_mut(&of.order) else {
            if closed {
                self.words.to(from).superseded.push(of);
            } else {
                self.strays.on_holds(from, of, since);
            }
            return;
        };
        if !row.is_unit(of.unit) {
            return;
        }
        // Said before the end of it was, and heard after.
        if row.is_dead(of.unit, of.attempt, &from) {
            return;
        }
        let over = row.is_over(of.unit);
        match row.placement(of.unit).copied() {
            _ if over => return self.words.to(from).superseded.push(of),
            Some(placement) if placement.worker == from && placement.attempt == of.attempt => {
                let Some(placement) = row.placement(of.unit) else { return };
                placement.hears(since, now.mono);
                let again_at = now.mono + placement.patience(&self.config);
                return self.expect_answer(&of.order, of.unit, Some(again_at));
            }
            Some(placement) => {
                let longer = match (since, placement.runs_since()) {
                    (Some(this), Some(other)) => this < other,
                    (Some(_), None) => true,
                    (None, _) => false,
                };
                if !longer {
                    return self.words.to(from).superseded.push(of);
                }
                row.broke(of.unit, placement.attempt.number, placement.worker, Broken::Superseded);
                self.supersede(&of.order, of.unit);
            }
            None => {}
        }
        let stage = if since.is_some() { Stage::Running } else { Stage::Taken };
        let (since, again_at) = (since.unwrap_or(now.mono), Some(now.mono + self.config.work_patience));
        let placement = Placement { attempt: of.attempt, worker: from, stage, since, again_at, asked: 0 };
        self.put(&of.order, of.unit, placement, None, now);
        self.settle(&of.order);
        if let Some(cancel) = self.rows.get(&of.order).and_then(|row| row.cancel.clone()) {
            self.words.to(from).cancels.insert(of.order, cancel);
            self.cancels_due.insert(of.order);
            self.cancel_at = self.cancel_at.or(Some(now.mono + super::cancels::REPEAT));
        }
    }

    // -- ends

    /// Units have ended; whose report it is has been checked.
    pub(crate) fn on_reports(&mut self, _from: PeerId, reports: &[Proven<Report>], _now: Now, _out: &mut Out) {
        for report in reports {
            let Report { of, worker, ran_ms, .. } = &report.value;
            let closed = self.is_closed(&of.order);
            let Some(row) = self.rows.get_mut(&of.order) else {
                if self.fence.is_some() && !closed {
                    self.strays.on_report(*of);
                    self.reports.keep(report);
                }
                continue;
            };
            if !row.is_unit(of.unit) {
                continue;
            }
            // Also if its end is known: a leader that was restarted has no reports.
            self.reports.keep(report);
            if row.is_over(of.unit) {
                continue;
            }
            let service = row.order.value.service.clone();
            // A lone unit's end need not be written: its worker tells it again, until the order is closed.
            self.end_unit(&of.order, of.unit, Some((*worker, of.attempt)));
            self.workers.measured(worker, &service, *ran_ms);
            self.settle(&of.order);
        }
    }

    /// Units have ended, as their orderer says, who has their reports: nothing of them runs any more, whatever became of their workers.
    pub(crate) fn on_units_ended(&mut self, units: &[UnitsOf]) {
        for of in units {
            let key = of.order;
            if !self.rows.contains_key(&key) {
                if !self.is_closed(&key) {
                    self.strays.on_ended(of);
                }
                continue;
            }
            for unit in of.units.iter().flat_map(|(first, last)| first..=last).map_while(|unit| u32::try_from(unit).ok()) {
                let Some(row) = self.rows.get_mut(&key).filter(|row| row.is_unit(unit)) else { break };
                if row.is_over(unit) {
                    continue;
                }
                self.end_unit(&key, unit, None);
                self.dirty.insert(key, None);
            }
            self.settle(&key);
        }
    }

    /// A unit that was not over has ended, by this attempt of this worker if that is known: whoever else has it must not go on.
    fn end_unit(&mut self, key: &OrderKey, unit: u32, by: Option<(PeerId, Attempt)>) {
        let placement = self.rows.get_mut(key).and_then(|row| row.placement(unit).copied());
        match placement.map(|placement| (placement.worker, placement.attempt)) {
            Some(has) if by == Some(has) => self.take_back(key, unit),
            Some(_) => self.supersede(key, unit),
            None => {}
        }
        let Some(row) = self.rows.get_mut(key) else { return };
        row.end(unit);
        if let Some((_, worker)) = row.lost.remove(&unit) {
            self.workers.unlose(&worker, key, unit);
        }
        if row.cancel.is_some() {
            self.cancels_due.insert(*key);
        }
    }

    /// Attempts came to nothing at a worker.
    pub(crate) fn on_broken(&mut self, from: PeerId, broken: &[(Try, Broken)], now: Now, _out: &mut Out) {
        if self.fence.is_none() {
            return;
        }
        for (of, why) in broken {
            self.strays.on_broken(from, *of);
            let Some(row) = self.rows.get_mut(&of.order) else { continue };
            row.bury(of.unit, of.attempt, from);
            let this = |placement: &&mut Placement| placement.worker == from && placement.attempt == of.attempt;
            if row.placement(of.unit).filter(this).is_none() {
                // A copy that was lost, and is gone now.
                if row.lost.get(&of.unit) == Some(&(of.attempt, from)) {
                    row.lost.remove(&of.unit);
                    self.workers.unlose(&from, &of.order, of.unit);
                    self.cancels_due.insert(of.order);
                }
                continue;
            }
            if *why == Broken::Closed {
                row.forgotten = true;
                self.take_back(&of.order, of.unit);
                self.give_up(&of.order, of.unit);
                self.settle(&of.order);
                continue;
            }
            if *why == Broken::Superseded {
                // It has not begun, and would have waited there for long. A late copy of the assignment has this number.
                self.workers.on_held_up(&from, &row.order.value.service);
                row.used(of.unit, of.attempt.number);
                self.take_back(&of.order, of.unit);
                self.settle(&of.order);
                continue;
            }
            if !why.blames_the_process() {
                // It will not be better at once; who died is counted.
                let until = now.mono + self.config.declined_for;
                self.workers.on_declined(&from, &row.order.value.service, &row.shape, Lack::NotAvailable, until);
            }
            self.on_try_broken(&of.order, of.unit, *why, now);
        }
    }

    /// A try of the table came to nothing.
    fn on_try_broken(&mut self, key: &OrderKey, unit: u32, why: Broken, _now: Now) {
        let Some(row) = self.rows.get_mut(key) else { return };
        let Some(placement) = row.placement(unit).copied() else { return };
        let crashed = row.broke(unit, placement.attempt.number, placement.worker, why);
        self.take_back(key, unit);
        if crashed >= self.config.attempts {
            self.give_up(key, unit);
        }
        self.settle(key);
    }

    /// A unit that is with nobody is tried no more.
    fn give_up(&mut self, key: &OrderKey, unit: u32) {
        let Some(row) = self.rows.get_mut(key) else { return };
        row.give_up(unit);
        if let Some((_, worker)) = row.lost.remove(&unit) {
            self.workers.unlose(&worker, key, unit);
        }
        let why = why_given_up(row, unit);
        self.given_up.insert(*key);
        self.dirty.insert(*key, None);
        self.words.to(key.orderer).given_up.push((*key, unit, why));
    }

    /// Units of an order that nobody could run, to its orderer.
    pub(super) fn tell_given_up(&mut self, key: &OrderKey) {
        let Some(row) = self.rows.get(key) else { return };
        let units = row.given_up.iter().flat_map(|(first, last)| first..=last).filter_map(|unit| u32::try_from(unit).ok());
        self.words.to(key.orderer).given_up.extend(units.map(|unit| (*key, unit, why_given_up(row, unit))));
    }
}

fn why_given_up(row: &Row, unit: u32) -> String {
    match row.killed_by(unit) {
        _ if row.forgotten => FORGOTTEN.to_owned(),
        Some(signal) => format!("{CRASHED}, the last time by {}", signal_name(signal)),
        None => CRASHED.to_owned(),
    }
}

/// As whoever wrote the program knows it: those that programs die of, by the numbers that all machines share.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}
