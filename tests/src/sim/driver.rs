//! What a node's driver does: gathers a batch, commits it, performs it, and winds up the timer.
//! Knows nothing of what the effects mean. A node that dies on the way has done a beginning of this, never a middle.

use std::time::Duration;

use protocol::effect::{Change, Effect, Say};
use protocol::message::Lane;
use protocol::order::Claim;
use protocol::{Input, config::limits};

use super::agenda::Event;
use super::network::{Fate, pair};
use super::node::{Batch, CrashPoint};
use super::{Sim, desk::Frame};

/// A timer that rings so often within a second, with nothing else to do, is a loop.
const RINGS_MOST: u32 = 200;

impl Sim {
    /// A fact reaches a node, if it still lives that life.
    pub(super) fn tell(&mut self, node: usize, life: u64, input: Input) {
        if self.nodes[node].life == life {
            self.tell_now(node, input);
        }
    }

    /// A fact reaches a node, if it is up.
    pub(super) fn tell_now(&mut self, node: usize, input: Input) {
        if self.nodes[node].is_up() {
            self.nodes[node].queue.push_back(input);
            self.wake(node);
        }
    }

    pub(super) fn wake(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if state.woken || state.flushing.is_some() || !state.is_up() {
            return;
        }
        state.woken = true;
        let wait = if self.options.grouping.is_zero() { Duration::ZERO } else { self.chance.about(self.options.grouping) };
        self.agenda.after(wait, Event::Wake { node, life: state.life });
    }

    pub(super) fn on_wake(&mut self, node: usize, life: u64) {
        let state = &mut self.nodes[node];
        if state.life != life || !state.is_up() || !state.woken {
            return;
        }
        if state.flushing.is_some() {
            // The timer was quicker. What has queued up is looked at after the flush.
            state.woken = false;
            return;
        }
        if state.paused_until > self.agenda.now() {
            self.agenda.at(state.paused_until, Event::Wake { node, life });
            return;
        }
        state.woken = false;
        self.handle(node);
    }

    pub(super) fn on_timer(&mut self, node: usize, life: u64, version: u64) {
        let now = self.agenda.now();
        let state = &mut self.nodes[node];
        if state.life != life || !state.is_up() || state.timer != version || state.flushing.is_some() {
            return;
        }
        if state.paused_until > now {
            self.agenda.at(state.paused_until, Event::Timer { node, life, version });
            return;
        }
        if state.queue.is_empty() && state.rang(now) > RINGS_MOST {
            let why = state.peer.as_ref().and_then(protocol::Peer::deadline);
            self.fail(format!("the timer of {} rings without end: {why:?}", self.nodes[node].name()));
            return;
        }
        self.handle(node);
    }

    /// One batch: everything that is queued, then a tick.
    fn handle(&mut self, node: usize) {
        let now = self.agenda.now();
        let some = self.chance.yes(0.1);
        let state = &mut self.nodes[node];
        let take = if some { 1 + self.chance.index(state.queue.len().max(1)) } else { state.queue.len() };
        let mut inputs: Vec<Input> = state.queue.drain(..take.min(state.queue.len())).collect();
        inputs.push(Input::Tick);
        let clock = state.clock(now);
        let mut batch = Batch { changes: Vec::new(), effects: Vec::new() };
        self.counts.batches += 1;
        for input in inputs {
            let state = &mut self.nodes[node];
            self.trace.line(now, state.identity.name.as_str(), "<-", &input);
            let peer = state.peer.as_mut().expect("only nodes that are up are woken");
            for effect in peer.handle(input, clock) {
                self.trace.line(now, state.identity.name.as_str(), "  ->", &effect);
                match effect {
                    Effect::Store(change) => batch.changes.push(change),
                    other => batch.effects.push(other),
                }
            }
        }
        if batch.changes.is_empty() {
            self.perform(node, batch.effects);
            self.rest(node);
            return;
        }
        let state = &mut self.nodes[node];
        state.flushing = Some(batch);
        let life = state.life;
        if self.options.flush.is_zero() {
            self.on_flushed(node, life);
        } else {
            let wait = self.chance.about(self.options.flush);
            self.agenda.after(wait, Event::Flushed { node, life });
        }
    }

    /// The disk has flushed: now, and not before, others may learn of it.
    pub(super) fn on_flushed(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life {
            return;
        }
        let Some(mut batch) = self.nodes[node].flushing.take() else { return };
        let plan = self.nodes[node].plan.filter(|plan| batch.changes.iter().any(plan.when));
        if let Some(plan) = plan {
            if plan.point != CrashPoint::BeforeCommit {
                self.commit(node, &batch.changes);
            }
            if let CrashPoint::After(some) = plan.point {
                batch.effects.truncate(some);
                self.perform(node, batch.effects);
            }
            self.die(node, plan.silent);
            return;
        }
        self.commit(node, &batch.changes);
        self.perform(node, batch.effects);
        self.rest(node);
    }

    pub(super) fn commit(&mut self, node: usize, changes: &[Change]) {
        let now = self.agenda.now();
        let state = &mut self.nodes[node];
        state.commits += 1;
        self.counts.commits += 1;
        let gone = self.let_go(node, changes);
        let state = &mut self.nodes[node];
        let verdict = state.disk.commit(state.identity.id, now, changes);
        let verdict = verdict.map_err(|why| format!("the disk of {}: {why}", state.name()));
        let verdict = verdict.and_then(|()| self.checker.on_commit(node, &self.nodes[node].disk, changes, &self.custodians.departed));
        let author = self.nodes[node].identity.id;
        let verdict = verdict.and_then(|()| self.recorded.on_commit(author, changes));
        let verdict = verdict.and_then(|()| self.check_custody(node, changes, &gone));
        let state = &self.nodes[node];
        let verdict = verdict.and_then(|()| self.tasks.on_commit(node, state.identity.id, &state.disk, changes));
        self.demand(verdict);
    }

    /// After a batch: the next one if something has queued up, or the timer.
    fn rest(&mut self, node: usize) {
        if !self.nodes[node].is_up() || self.failure.is_some() {
            return;
        }
        if self.chance.below(32) == 0 {
            let verdict = self.nodes[node].check_status();
            self.demand(verdict);
        }
        if !self.nodes[node].all_judged() {
            self.fail(format!("{} was told a gossip and did not judge it", self.nodes[node].name()));
        }
        if !self.nodes[node].queue.is_empty() {
            self.wake(node);
        }
        let late = if self.options.lateness.is_zero() { Duration::ZERO } else { self.chance.about(self.options.lateness) };
        let state = &mut self.nodes[node];
        state.timer += 1;
        if let Some(deadline) = state.peer.as_ref().and_then(protocol::Peer::deadline) {
            let at = deadline.at.max(self.agenda.now()) + late;
            self.agenda.at(at, Event::Timer { node, life: state.life, version: state.timer });
        }
    }

    fn perform(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            if self.failure.is_some() || !self.nodes[node].is_up() {
                return;
            }
            self.perform_one(node, effect);
        }
    }

    fn perform_one(&mut self, node: usize, effect: Effect) {
        let life = self.nodes[node].life;
        match effect {
            Effect::Store(_) => unreachable!("changes are committed, not performed"),
            Effect::Seal(draft) => {
                let bundle = self.nodes[node].desk.seal(&draft);
                let wait = self.chance.between(Duration::ZERO, self.options.sealing);
                self.agenda.after(wait, Event::Tell { node, life, input: Box::new(Input::Sealed { draft: draft.number, bundle }) });
            }
            Effect::Send { to, say } => {
                let lane = say.lane();
                let frame = self.nodes[node].desk.utter(*say);
                self.send(node, to, lane, frame);
            }
            Effect::SendKept { to, bundles } => {
                let rows = bundles.iter().filter_map(|key| self.nodes[node].disk.bundles.get(key));
                let bundles: Vec<_> = rows.map(|kept| kept.bundle.clone()).collect();
                let size: usize = bundles.iter().map(protocol::bundle::Bundle::size).sum();
                if bundles.len() > limits::PAGE || (bundles.len() > 1 && size > limits::FRAME_BYTES) {
                    self.fail(format!("{} bundles of {size} bytes are to be sent in one frame", bundles.len()));
                }
                if !bundles.is_empty() {
                    let frame = self.nodes[node].desk.letters(bundles);
                    self.send(node, to, Lane::Bulk, frame);
                }
            }
            Effect::DepositKept { to, bundles } => {
                let rows = bundles.iter().filter_map(|key| self.nodes[node].disk.bundles.get(key));
                let parcels: Vec<_> = rows.map(|kept| self.nodes[node].desk.parcel(kept.bundle.clone())).collect();
                self.deposit(node, to, parcels);
            }
            Effect::WithdrawKept { to, bundles } => {
                let rows = bundles.iter().filter_map(|key| self.nodes[node].disk.bundles.get(key));
                let secrets: Vec<_> = rows.map(|kept| (kept.bundle.id(), kept.withdrawal.into_array())).collect();
                if !secrets.is_empty() {
                    let ids = secrets.iter().map(|(id, _)| *id).collect();
                    for say in [Say::Withdraw(secrets), Say::AskHeld(ids)] {
                        let (lane, frame) = (say.lane(), self.nodes[node].desk.utter(say));
                        self.send(node, to, lane, frame);
                    }
                }
            }
            Effect::SendHeld { to, held, deposit } => {
                let rows = held.iter().filter_map(|no| self.nodes[node].disk.held.get(no));
                let parcels: Vec<_> = rows.map(|held| held.parcel.clone()).collect();
                if deposit {
                    self.deposit(node, to, parcels);
                } else if !parcels.is_empty() {
                    let frame = self.nodes[node].desk.letters(parcels.into_iter().map(|parcel| parcel.bundle).collect());
                    self.send(node, to, Lane::Bulk, frame);
                }
            }
            Effect::SendSegments { to, author, chain, branch, after } => {
                let desk = &self.nodes[node].desk;
                let segments =
                    self.nodes[node].disk.record.page(branch.map(|branch| (author, branch)), chain, after, |body| desk.segment(body));
                let frame = self.nodes[node].desk.segments(author, chain, segments);
                self.send(node, to, Lane::Bulk, frame);
            }
            Effect::ReadLog { token, .. } => {
                // Nobody asks that in a simulation.
                self.agenda.after(Duration::ZERO, Event::Tell { node, life, input: Box::new(Input::LogRead { token, answer: None }) });
            }
            Effect::Publish(beacon) => {
                let gossip = self.nodes[node].desk.gossip(beacon);
                self.nodes[node].published(&gossip);
                self.network.spread(node, None, &gossip, &mut self.agenda);
            }
            Effect::PublishClaim(claim) => {
                let verdict = self.check_claim(node, &claim.value);
                self.demand(verdict);
                let gossip = self.nodes[node].desk.gossip_claim(claim);
                self.nodes[node].published(&gossip);
                self.network.spread(node, None, &gossip, &mut self.agenda);
            }
            Effect::Run(run) => self.on_run(node, run),
            Effect::Stop { task, .. } => self.on_stop(node, task),
            Effect::TakeBack { task } => drop(self.on_take_back(node, task)),
            Effect::ReadOutput { token, task, stderr, from } => self.on_read_output(node, token, (task, stderr, from)),
            Effect::Advertise(services) => self.nodes[node].runner.advertised = services,
            Effect::Judge { token, verdict } => match self.nodes[node].judge(token, verdict) {
                Ok(Some((from, gossip))) => self.network.spread(node, Some(from), &gossip, &mut self.agenda),
                Ok(None) => {}
                Err(why) => self.fail(why),
            },
            Effect::Dial { peer, .. } => {
                if let Some(other) = self.checker.node(peer).filter(|other| *other != node) {
                    self.network.want(node, other, &mut self.agenda);
                }
            }
            Effect::PublishContact(contact) => {
                let contact = self.nodes[node].desk.card(*contact);
                self.cards.insert(contact.value.id, contact);
            }
            Effect::FindContact { peer } => {
                // Cards are kept by others: they are found though their owner is away.
                let found = self.cards.get(&peer).cloned().map(Box::new);
                let wait = self.chance.between(Duration::ZERO, Duration::from_secs(1));
                self.agenda.after(wait, Event::Tell { node, life, input: Box::new(Input::ContactSought { peer, found, ended: true }) });
            }
            Effect::FindProviders { token, service } => {
                // Adverts outlive those who told them, and not everybody is named.
                let told = self.nodes.iter().filter(|one| one.runner.advertised.contains(&service)).map(|one| one.identity.id);
                let told: Vec<_> = told.collect();
                let peers = told.into_iter().filter(|_| self.chance.index(4) > 0).collect();
                let wait = self.chance.between(Duration::ZERO, Duration::from_millis(400));
                self.agenda.after(wait, Event::Tell { node, life, input: Box::new(Input::ProvidersNamed { token, peers, ended: true }) });
            }
            Effect::Forget { peer } => {
                if let Some(other) = self.checker.node(peer) {
                    self.network.break_link(pair(node, other), &mut self.agenda);
                    self.network.forget(node, other, &mut self.agenda);
                }
            }
            Effect::Recall(recall) => {
                let found = self.nodes[node].disk.recall(&recall);
                let wait = self.chance.between(Duration::ZERO, Duration::from_millis(1));
                self.agenda.after(wait, Event::Tell { node, life, input: Box::new(Input::Recalled(found)) });
            }
            Effect::Reply { request, answer } => {
                let verdict = self.on_reply(node, request, answer);
                self.demand(verdict);
            }
            Effect::Notify(notice) => {
                if let protocol::Notice::LetterShown { n, letter, .. } = notice {
                    let disk = &self.nodes[node].disk;
                    let there = disk.inbox.get(&n).and_then(|(place, _)| disk.taken.get(&(place.stream, place.seq, place.twin)));
                    if there.is_none_or(|taken| taken.envelope.id != letter) {
                        self.fail(format!("{letter} is announced as {n} and is not there on the disk"));
                    }
                }
            }
        }
    }

    /// Nobody claims what its disk does not say: after a crash it would claim less.
    fn check_claim(&self, node: usize, claim: &Claim) -> Result<(), String> {
        let state = &self.nodes[node];
        let mine = claim.fence.leader == state.identity.id;
        let kept =
            state.disk.tasks.fence.is_some_and(|row| row.fence >= claim.fence && (row.fence > claim.fence || row.counter >= claim.counter));
        if kept || !mine { Ok(()) } else { Err(format!("{} claims what is not on its disk: {claim:?}", state.name())) }
    }

    fn deposit(&mut self, node: usize, to: protocol::PeerId, parcels: Vec<protocol::mail::Parcel>) {
        let size: usize = parcels.iter().map(|parcel| parcel.bundle.size()).sum();
        if parcels.len() > limits::PAGE || (parcels.len() > 1 && size > limits::FRAME_BYTES) {
            self.fail(format!("{} parcels of {size} bytes are to be sent in one frame", parcels.len()));
        }
        if !parcels.is_empty() {
            let frame = self.nodes[node].desk.deposit(parcels);
            self.send(node, to, Lane::Bulk, frame);
        }
    }

    fn send(&mut self, node: usize, to: protocol::PeerId, lane: Lane, frame: Frame) {
        let Some(other) = self.checker.node(to) else { return };
        // A leader claims for ever; a quiet swarm is one in which nothing else is said.
        let counter = if frame.what() == "Claim" { &mut self.counts.claims } else { &mut self.counts.frames };
        *counter += 1;
        self.trace.line(self.agenda.now(), self.nodes[node].name(), "  =>", &(self.nodes[other].name(), frame.what()));
        if self.network.send(node, other, lane, frame, &mut self.agenda) == Fate::Refused {
            let wait = self.chance.between(Duration::ZERO, Duration::from_millis(2));
            self.agenda.after(wait, Event::Tell { node, life: self.nodes[node].life, input: Box::new(Input::SendFailed { to, lane }) });
        }
    }
}
