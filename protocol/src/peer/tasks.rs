//! The page on which election, queue, worker and orderer hang together: who hears what about work, in a written order.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;

use super::{Identity, OrderView, Peer};
use crate::beacon::Statistics;
use crate::catalog::Catalog;
use crate::config::{Config, limits};
use crate::dispatcher::{Dispatcher, WorkerView};
use crate::edge::Cause;
use crate::effect::{Answer, Effect, Kept, Notice, Out, Refusal};
use crate::election::{self, Election};
use crate::envelope::Kind;
use crate::id::RequestId;
use crate::input::{Command, Disk, Input, NewLetter, NewOrder, Recalled};
use crate::lookups::Lookups;
use crate::name::Addressee;
use crate::now::Now;
use crate::order::{Broken, Fence, OrderKey};
use crate::orders::Orders;
use crate::outbox::Recipient;
use crate::questions::{Asker, Questions};
use crate::report_letter;
use crate::service::{Lack, Services};
use crate::work::{Question, Results, Work};
use crate::worker::Worker;

/// What one batch tells itself is heard in so many rounds; what is left then waits for the next batch (guess: an order of this
/// node that runs on this node takes four).
const ROUNDS: usize = 16;
/// Outputs being read for others (guess: one for each of 100 peers).
const READING: usize = 128;

/// The machines of work, and what is between them.
#[derive(Debug)]
pub(super) struct Tasks {
    pub(super) election: Election,
    pub(super) dispatcher: Dispatcher,
    pub(super) worker: Worker,
    pub(super) orders: Orders,
    catalog: Catalog,
    questions: Questions,
    lookups: Lookups,
    /// Who asked for which output, by token.
    reading: BTreeMap<u64, (PeerId, u64)>,
    next_reading: u64,
    /// What this node told itself and has not heard yet.
    echoes: VecDeque<Work>,
    /// Stopping waits for what runs until then.
    stopping: Option<Duration>,
    started: Duration,
    advertised: bool,
    /// What the queue was told last of this node as a worker: that it takes work, that its user may be away, its cores and memory.
    told: Option<(bool, bool, u32, u64)>,
    /// Who led last, and who led before: what that one says until it has heard of the other is late, not false.
    led: Option<PeerId>,
    led_before: Option<PeerId>,
}

impl Tasks {
    /// Goes on where the disk ends.
    pub(super) fn new(identity: &Identity, boot: u64, config: &Config, kept: &mut Kept, now: Now) -> Tasks {
        let me = identity.id;
        let take = std::mem::take::<Vec<_>>;
        let mut tasks = Tasks {
            election: Election::new(me, identity.machine, boot, config, kept.fence, now),
            dispatcher: Dispatcher::new(me, config, std::mem::take(&mut kept.queue), std::mem::take(&mut kept.closed), now),
            worker: Worker::new(
                me,
                config,
                std::mem::take(&mut kept.offers),
                kept.draining,
                std::mem::take(&mut kept.tries_started),
                std::mem::take(&mut kept.tries_ended),
                now,
            ),
            orders: Orders::new(me, config, std::mem::take(&mut kept.open_orders), kept.next_order, take(&mut kept.closed_own), now),
            catalog: Catalog::new(me),
            questions: Questions::new(config),
            lookups: Lookups::new(me, config),
            reading: BTreeMap::new(),
            next_reading: 0,
            echoes: VecDeque::new(),
            stopping: None,
            started: now.mono,
            advertised: false,
            told: None,
            led: None,
            led_before: None,
        };
        kept.blocked.iter().for_each(|peer| tasks.worker.block(*peer, true, &mut Out::default()));
        tasks
    }

    /// The hash of what this node offers, for its beacon.
    pub(super) fn services(&self) -> u64 {
        self.worker.services().digest()
    }

    /// Another leads, or (none) nobody for a while.
    fn on_led(&mut self, leader: Option<PeerId>) {
        if let Some(leader) = leader.filter(|leader| self.led != Some(*leader)) {
            self.led_before = self.led.replace(leader);
        }
    }

    /// What a neighbour offers, as it told this node last.
    pub(super) fn services_of(&self, peer: &PeerId) -> Services {
        self.catalog.of(peer).cloned().unwrap_or_default()
    }

    /// What this node told itself and did not hear in this batch is heard in the next one.
    pub(super) fn keep_echoes(&mut self, out: &mut Out) {
        self.echoes = std::mem::take(&mut out.to_myself);
    }

    pub(super) fn deadlines(&self) -> [(Option<Duration>, &'static str); 9] {
        [
            ((!self.echoes.is_empty()).then_some(Duration::ZERO), "words to myself"),
            (self.election.deadline(), "the election"),
            (self.dispatcher.deadline(), "tasks to place"),
            (self.worker.deadline(), "tasks that run here"),
            (self.orders.deadline(), "orders of this node"),
            (self.catalog.deadline(), "services to ask for"),
            (self.questions.deadline(), "questions to give up"),
            (self.lookups.deadline(), "providers that are looked for"),
            (self.stopping, "the end of tasks"),
        ]
    }
}

impl Peer {
    /// Before an input: what this node told itself in the batch before comes first.
    pub(super) fn open_work(&mut self) -> Out {
        Out { me: Some(self.myself.identity().id), to_myself: std::mem::take(&mut self.tasks.echoes), ..Out::default() }
    }

    /// After an input: this node hears what it told itself.
    pub(super) fn settle_work(&mut self, now: Now, out: &mut Out) {
        let me = self.myself.identity().id;
        while let Some(work) = out.to_myself.pop_front() {
            if let Err(cause) = self.hear(me, work, now, out) {
                self.record.on_refused(cause);
            }
        }
    }

    // -- facts

    pub(super) fn on_task_input(&mut self, input: Input, now: Now, out: &mut Out) {
        let tasks = &mut self.tasks;
        match input {
            Input::ClaimHeard { token, claim, .. } => {
                let roster = self.presence.neighbours();
                let (verdict, facts) = tasks.election.on_claim(None, *claim, &roster, now, out);
                out.effects.push(Effect::Judge { token, verdict });
                match facts {
                    Ok(facts) => self.on_election(facts, now, out),
                    Err(cause) => self.record.on_refused(cause),
                }
            }
            Input::TaskProgressed { task, done, total, note } => tasks.worker.on_progressed(task, done, total, note, now),
            Input::TaskEnded { task, exit, stdout, stderr, ran } => tasks.worker.on_ended(task, exit, stdout, stderr, ran, now, out),
            Input::OutputRead { token, bytes, more } => {
                if let Some((peer, id)) = tasks.reading.remove(&token) {
                    let results = bytes.map_or(Results::NotHere, |bytes| Results::Output { bytes: bytes.into(), more });
                    out.work(peer, Work::QueryResults { id, results: Box::new(results) });
                }
            }
            Input::LogRead { token, answer } => {
                if let Some((peer, id)) = tasks.reading.remove(&token) {
                    let results = answer.map_or(Results::NotHere, |answer| Results::Log(*answer));
                    out.work(peer, Work::QueryResults { id, results: Box::new(results) });
                }
            }
            Input::ProvidersNamed { token, peers, ended } => {
                let presence = &self.presence;
                for peer in tasks.lookups.on_named(token, peers, ended, |peer| presence.is_reachable(peer)) {
                    match presence.contact(&peer) {
                        Some(contact) => out.effects.push(Effect::Dial { peer, addresses: contact.addresses.clone() }),
                        // Its card says where it is; whoever is known is dialled.
                        None => out.effects.push(Effect::FindContact { peer }),
                    }
                }
            }
            _ => {}
        }
    }

    /// Somebody is here, or has changed what it offers or signals.
    pub(super) fn on_worker_here(&mut self, peer: PeerId, came: bool, now: Now, out: &mut Out) {
        let digest = self.presence.beacon(&peer).map_or(0, |beacon| beacon.value.services);
        let _ = self.tasks.catalog.on_digest(peer, digest, now);
        self.tasks.dispatcher.on_workers_changed();
        if !came {
            return;
        }
        self.tasks.election.on_reachable(peer, now, out);
        self.tasks.dispatcher.on_reachable(peer, now, out);
        self.tasks.worker.on_reachable(peer, now);
        self.tasks.orders.on_reachable(peer, now);
        let leader = self.tasks.election.leader().filter(|fence| fence.leader == peer);
        if leader.is_some() {
            self.tasks.worker.on_leader(leader, true, now, out);
        }
    }

    pub(super) fn on_worker_gone(&mut self, peer: PeerId, in_order: bool, now: Now, out: &mut Out) {
        let roster = self.presence.neighbours();
        let facts = self.tasks.election.on_unreachable(peer, &roster, now, out);
        self.on_election(facts, now, out);
        self.tasks.catalog.on_unreachable(peer);
        self.tasks.dispatcher.on_unreachable(peer, in_order, now);
        self.tasks.worker.on_unreachable(peer);
        self.tasks.orders.on_unreachable(peer, now);
        self.tasks.questions.on_unreachable(peer, out);
    }

    pub(super) fn on_work_failed(&mut self, to: PeerId, now: Now) {
        self.tasks.dispatcher.on_send_failed(to, now);
        self.tasks.worker.on_send_failed(to, now);
        self.tasks.orders.on_send_failed(to, now);
    }

    /// Whoever leads: the queue opens or closes, orderer and worker turn to it.
    fn on_election(&mut self, facts: Vec<election::Fact>, now: Now, out: &mut Out) {
        for fact in facts {
            let me = self.myself.identity().id;
            let leader = match fact {
                election::Fact::Leads(fence) => {
                    let reachable = self.presence.neighbours().into_iter().map(|neighbour| neighbour.peer).chain([me]).collect();
                    self.tasks.dispatcher.begin(fence, reachable, now);
                    Some(fence)
                }
                election::Fact::Follows(fence) => {
                    self.tasks.dispatcher.end(Some(fence), self.presence.is_reachable(&fence.leader), now);
                    Some(fence)
                }
                election::Fact::Nobody => {
                    self.tasks.dispatcher.end(None, false, now);
                    None
                }
            };
            self.tasks.on_led(leader.map(|fence| fence.leader));
            let reachable = leader.is_some_and(|fence| fence.leader == me || self.presence.is_reachable(&fence.leader));
            self.tasks.orders.on_leader(leader, now, out);
            self.tasks.worker.on_leader(leader, reachable, now, out);
            self.name_leader(out);
        }
    }

    /// Faces are told of a leader by name.
    fn name_leader(&self, out: &mut Out) {
        let me = self.myself.identity().id;
        for effect in &mut out.effects {
            if let Effect::Notify(Notice::Leader { leader: Some((peer, name @ None, _)) }) = effect {
                *name = match self.presence.contact(peer) {
                    _ if *peer == me => Some(self.myself.facts().name.clone()),
                    contact => contact.map(|contact| contact.name.clone()),
                };
            }
        }
    }

    // -- who speaks

    /// A neighbour, or this node itself, says something about work.
    ///
    /// # Errors
    /// It may not say so; nothing changed.
    pub(super) fn hear(&mut self, from: PeerId, work: Work, now: Now, out: &mut Out) -> Result<(), Cause> {
        let me = self.myself.identity().id;
        let leads = self.tasks.election.leads().is_some();
        let tasks = &mut self.tasks;
        match work {
            Work::Claim(claim) => {
                let roster = self.presence.neighbours();
                let (_, facts) = tasks.election.on_claim(Some(from), *claim, &roster, now, out);
                self.on_election(facts?, now, out);
            }
            Work::AskLeader(fence) => tasks.election.on_ask_leader(from, fence, now, out),
            Work::LeaderHeard { fence, heard } => tasks.election.on_leader_heard(from, fence, heard, now, out),
            Work::HandOver(fence) => {
                let roster = self.presence.neighbours();
                let facts = tasks.election.on_hand_over(from, fence, &roster, now, out)?;
                self.on_election(facts, now, out);
            }
            Work::Orders(orders) => {
                let (low, orderer) = (matches!(self.disk, Disk::Low { .. }), &tasks.orders);
                let others = orders.iter().filter(|order| order.value.orderer == me && orderer.is_another(&order.value));
                let others = others.map(|order| order.value.key()).collect();
                self.on_twins(others, now, out);
                let tasks = &mut self.tasks;
                let leader = tasks.election.leader().map(|fence| fence.leader);
                if leader == Some(from) {
                    tasks.worker.on_orders(from, &orders, now, out);
                }
                if leads {
                    // Whoever leads hands orders of others to its workers: this node to its own, and who led until now to what it
                    // takes for one of its.
                    let for_workers = from == me || tasks.led_before == Some(from);
                    let orders =
                        if for_workers { orders.into_iter().filter(|order| order.value.orderer == from).collect() } else { orders };
                    tasks.dispatcher.on_orders(from, orders, low, now, out)?;
                } else if leader != Some(from) {
                    tasks.election.correct(from, out);
                }
            }
            Work::Queued { fence, orders } => {
                self.led_by(from, fence, out)?;
                self.tasks.orders.on_queued(from, fence, &orders, now);
            }
            Work::NotQueued { fence, orders } => {
                self.led_by(from, fence, out)?;
                self.tasks.orders.on_not_queued(from, fence, &orders, now);
            }
            Work::Assign { fence, units } => {
                self.led_by(from, fence, out)?;
                // A leader that has missed a closing is told again, and nothing of a closed order runs once more.
                let tasks = &mut self.tasks;
                let (closed, units): (Vec<_>, Vec<_>) = units.into_iter().partition(|of| tasks.dispatcher.is_closed(&of.order));
                closed.iter().for_each(|of| tasks.orders.close_again(from, &of.order));
                // No decline: this attempt may have run here, and its number must not be given to another.
                let broken: Vec<_> = closed.into_iter().filter(|of| !tasks.orders.is_closed(&of.order)).collect();
                if !broken.is_empty() {
                    out.work(from, Work::Broken(broken.into_iter().map(|of| (of, Broken::Closed)).collect()));
                }
                // Who would take over has got the orders already.
                let copies = units.iter().filter_map(|of| tasks.dispatcher.copy_of(&of.order));
                copies.for_each(|order| tasks.worker.on_copy(order));
                tasks.worker.on_assign(from, fence, units, now, out);
            }
            Work::Answer { fence, taken, declined } if leads => tasks.dispatcher.on_answer(from, fence, taken, declined, now, out),
            Work::Working { fence, tries, last } if leads => tasks.dispatcher.on_working(from, fence, tries, last, now, out),
            Work::KnownClosed { fence, orders, last } if leads => tasks.dispatcher.on_known_closed(from, fence, &orders, last),
            Work::Answer { .. } | Work::Working { .. } | Work::KnownClosed { .. } => tasks.election.correct(from, out),
            Work::Started(tries) => {
                if leads {
                    tasks.dispatcher.on_started(from, &tries, now, out);
                }
                tasks.orders.on_started(from, &tries, now);
            }
            Work::Progress(progress) => tasks.orders.on_progress(from, progress, now),
            Work::Reports(reports) => {
                if leads {
                    tasks.dispatcher.on_reports(from, &reports, now, out);
                }
                tasks.orders.on_reports(from, reports, now, out);
            }
            Work::ReportsTaken(tries) => tasks.worker.on_reports_taken(from, &tries, now),
            Work::Broken(broken) => {
                if tasks.election.leader().is_some_and(|fence| fence.leader == from) {
                    let tries: Vec<_> = broken.iter().map(|(of, _)| *of).collect();
                    tasks.worker.on_superseded(from, &tries, now, out);
                }
                if leads {
                    tasks.dispatcher.on_broken(from, &broken, now, out);
                }
                tasks.orders.on_broken(from, &broken, now);
            }
            Work::GivenUp(units) => {
                if tasks.election.leader().is_none_or(|fence| fence.leader != from) {
                    return self.late(from);
                }
                tasks.orders.on_given_up(from, units, now, out);
            }
            Work::Closing(closing) => {
                tasks.dispatcher.on_closing(&closing, now, out);
                tasks.worker.on_closing(&closing.value, out);
            }
            Work::AskClosed { fence, orders, last } => {
                self.led_by(from, fence, out)?;
                // Which units have ended is said first: with the answer the leader begins to hand out what it has from before.
                self.tasks.orders.close(now, out);
                let (tasks, open) = (&self.tasks, self.tasks.orders.open_numbers());
                tasks.dispatcher.on_ask_closed(from, fence, orders, last, &open, out);
            }
            Work::Copies(copies) => {
                let low = matches!(self.disk, Disk::Low { .. });
                if leads {
                    tasks.dispatcher.on_handed(from, copies, low, now, out);
                } else {
                    self.led_by(from, copies.fence, out)?;
                    self.tasks.dispatcher.on_copies(copies, low, now, out);
                }
            }
            Work::Copied { fence, number } => tasks.dispatcher.on_copied(from, fence, number, now),
            Work::Holding { fence, orders } if leads => tasks.dispatcher.on_holding(from, fence, orders),
            Work::Holding { .. } => tasks.election.correct(from, out),
            Work::Known { fence, known, orders } => {
                self.led_by(from, fence, out)?;
                self.tasks.dispatcher.on_known(fence, known, &orders, now, out);
            }
            Work::UnitsEnded(units) => {
                if units.iter().any(|of| of.order.orderer != from) {
                    return Err(Cause::Impostor);
                }
                if leads {
                    tasks.dispatcher.on_units_ended(&units);
                }
            }
            Work::Cancels(cancels) => {
                tasks.worker.on_cancels(from, &cancels, now, out);
                tasks.orders.on_cancels(&cancels, now, out);
                if leads {
                    tasks.dispatcher.on_cancels(from, cancels, now, out);
                }
            }
            Work::CancelTaken { order, running, lost } => {
                if order.orderer != me {
                    return Err(Cause::Impostor);
                }
                if tasks.election.leader().is_none_or(|fence| fence.leader != from) {
                    return self.late(from);
                }
                tasks.orders.on_cancel_taken(from, order, &running, &lost, now, out);
            }
            Work::Query { id, question } => self.answer(from, id, *question, now, out),
            Work::QueryResults { id, results } => {
                if let Some((peer, Results::Services(services))) = tasks.questions.on_results(from, id, *results, out)
                    && tasks.catalog.on_services(peer, services, now)
                {
                    tasks.dispatcher.on_workers_changed();
                }
            }
        }
        Ok(())
    }

    /// Others know other orders by the names of these: this node's memory was put back to before it gave them the first time.
    fn on_twins(&mut self, twins: Vec<OrderKey>, now: Now, out: &mut Out) {
        for twin in twins {
            if twin.epoch == self.myself.facts().epoch {
                self.on_jumped_back(now, out);
            }
            self.tasks.orders.rename(&twin, self.myself.facts().epoch, now, out);
        }
    }

    /// Said by who does not lead: too late by who has led, and else by who has no right to.
    fn late(&self, from: PeerId) -> Result<(), Cause> {
        if self.tasks.led_before == Some(from) { Ok(()) } else { Err(Cause::Impostor) }
    }

    /// Whether `from` leads, and under this fence. Who used a lower one is told of the greatest.
    fn led_by(&mut self, from: PeerId, fence: Fence, out: &mut Out) -> Result<(), Cause> {
        if fence.leader != from {
            return Err(Cause::Impostor);
        }
        if self.tasks.election.obeyed() == Some(fence) {
            return Ok(());
        }
        self.tasks.election.correct(from, out);
        Err(Cause::Unexpected)
    }

    fn answer(&mut self, from: PeerId, id: u64, question: Question, now: Now, out: &mut Out) {
        let me = self.myself.identity().id;
        let leads = self.tasks.election.leads().is_some();
        let results = match question {
            Question::Services => Results::Services(self.tasks.worker.services().clone()),
            Question::Availability { service, needs } => Results::Availability(self.tasks.worker.availability(&service, &needs, &from)),
            Question::Statistics => {
                let (running, queued) = self.tasks.worker.load();
                let up = now.mono.saturating_sub(self.tasks.started);
                let up_ms = u64::try_from(up.as_millis()).unwrap_or(u64::MAX);
                Results::Statistics { statistics: self.myself.statistics(), running, queued, up_ms }
            }
            Question::Tasks { .. } | Question::Task(_) if !leads => Results::NotHere,
            Question::Tasks { after } => {
                let (tasks, more) = self.with_workers(|dispatcher, workers| dispatcher.standings(after, limits::PAGE, workers, now));
                Results::Tasks { tasks, more }
            }
            Question::Task(order) => Results::Task(self.with_workers(|dispatcher, workers| dispatcher.standing(&order, workers, now))),
            Question::Peers { after } => {
                let mut peers = self.presence.seen(after, limits::PAGE + 1, now);
                let more = peers.len() > limits::PAGE;
                peers.truncate(limits::PAGE);
                Results::Peers { peers, more }
            }
            Question::Log(question) if self.tasks.reading.len() < READING => {
                self.tasks.next_reading += 1;
                let token = self.tasks.next_reading;
                self.tasks.reading.insert(token, (from, id));
                out.effects.push(Effect::ReadLog { token, question: Box::new(question) });
                return;
            }
            Question::Log(_) => Results::NotHere,
            // What a program wrote is for who ordered it.
            Question::Output { of, stderr, from: at } => {
                let may = (of.order.orderer == from || from == me) && self.tasks.reading.len() < READING;
                if may {
                    self.tasks.next_reading += 1;
                    let token = self.tasks.next_reading;
                    self.tasks.reading.insert(token, (from, id));
                    out.effects.push(Effect::ReadOutput { token, task: of, stderr, from: at });
                    return;
                }
                Results::NotHere
            }
        };
        out.work(from, Work::QueryResults { id, results: Box::new(results) });
    }

    /// Whether this node takes work, as far as it can tell before it is asked.
    fn welcomes_work(&self) -> bool {
        self.myself.facts().available && !self.myself.is_cloned() && !self.leaving
    }

    /// What every worker in reach offers, this node included, for the queue to choose from.
    fn with_workers<T>(&mut self, act: impl FnOnce(&mut Dispatcher, &[WorkerView<'_>]) -> T) -> T {
        let me = self.myself.identity().id;
        let welcomes = self.welcomes_work();
        let (inactive, statistics) = (self.myself.facts().inactive, self.myself.statistics());
        let tasks = &mut self.tasks;
        let mine: &Services = tasks.worker.services();
        let others = self.presence.neighbours().into_iter().filter_map(|neighbour| {
            let services = tasks.catalog.of(&neighbour.peer)?;
            let beacon = &self.presence.beacon(&neighbour.peer)?.value;
            Some(WorkerView {
                peer: neighbour.peer,
                services,
                statistics: beacon.statistics,
                welcomes: beacon.available && !beacon.cloned,
                inactive: beacon.inactive,
            })
        });
        let workers: Vec<WorkerView<'_>> =
            others.chain([WorkerView { peer: me, services: mine, statistics, welcomes, inactive }]).collect();
        act(&mut tasks.dispatcher, &workers)
    }

    // -- who asks

    pub(super) fn on_task_command(&mut self, request: RequestId, command: Command, now: Now, out: &mut Out) {
        let done = match command {
            Command::Order(order) => {
                if let Some(order) = self.tasks.orders.ask(request, *order, out) {
                    self.place(request, order, now, out);
                }
                return;
            }
            Command::Cancel(numbers) => return self.tasks.orders.cancel(request, &numbers, now, out),
            Command::Ask { to, question } => self.ask(request, to, *question, now, out),
            Command::FindProviders(service) => {
                self.tasks.lookups.look(request, service, now, out);
                Ok(None)
            }
            Command::Offer(_) | Command::Withdraw(_) | Command::Drain(_) => {
                let done = self.on_offer(command, now, out);
                if done.is_ok() {
                    self.tasks.dispatcher.on_workers_changed();
                    self.tell_neighbours(now, out);
                }
                done.map(|()| Some(Answer::Done))
            }
            Command::Transfer(to) if to == self.myself.identity().id || self.presence.is_reachable(&to) => {
                self.tasks.election.transfer(to, now, out).map(|()| Some(Answer::Done))
            }
            Command::Transfer(to) => Err(Refusal::NotReachable(self.name_of(&to))),
            _ => Ok(None),
        };
        match done {
            Ok(answer) => answer.into_iter().for_each(|answer| out.reply(request, answer)),
            Err(refusal) => out.refuse(request, refusal),
        }
    }

    fn on_offer(&mut self, command: Command, now: Now, out: &mut Out) -> Result<(), Refusal> {
        match command {
            Command::Offer(offering) => self.tasks.worker.offer(*offering, now, out),
            Command::Withdraw(name) => self.tasks.worker.withdraw(&name, out),
            Command::Drain(draining) => {
                self.tasks.worker.drain(draining, out);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn ask(&mut self, request: RequestId, to: PeerId, question: Question, now: Now, out: &mut Out) -> Result<Option<Answer>, Refusal> {
        if to != self.myself.identity().id && !self.presence.is_reachable(&to) {
            return Err(Refusal::NotReachable(self.name_of(&to)));
        }
        self.tasks.questions.ask(Asker::Request(request), to, question, now, out)?;
        Ok(None)
    }

    fn name_of(&self, peer: &PeerId) -> String {
        self.presence.contact(peer).map_or_else(|| peer.to_string(), |contact| contact.name.to_string())
    }

    pub(super) fn on_order_key(&mut self, recalled: Recalled, now: Now, out: &mut Out) {
        match recalled {
            Recalled::OrderKey { key, found } => {
                if let Some((request, order)) = self.tasks.orders.on_key(&key, found, out) {
                    self.place(request, order, now, out);
                }
            }
            Recalled::Failed(crate::input::Recall::OrderKey { key }) => self.tasks.orders.on_key_failed(&key, out),
            _ => {}
        }
    }

    fn place(&mut self, request: RequestId, order: NewOrder, now: Now, out: &mut Out) {
        let refusal = match self.disk {
            _ if self.leaving => Some(Refusal::Leaving),
            _ if self.myself.is_cloned() => Some(Refusal::Cloned),
            Disk::Low { free } => Some(Refusal::DiskLow { free }),
            Disk::Enough => None,
        };
        let epoch = self.myself.facts().epoch;
        match refusal {
            Some(refusal) => self.tasks.orders.refuse(request, order.key.as_deref(), &refusal, out),
            None => self.tasks.orders.place(request, order, epoch, now, out),
        }
    }

    // -- the end of a batch

    pub(super) fn close_work(&mut self, now: Now, out: &mut Out) {
        if !std::mem::replace(&mut self.tasks.advertised, true) {
            self.tasks.worker.advertise(out);
        }
        let closed = match self.disk {
            _ if self.leaving || self.myself.is_cloned() || !self.myself.facts().available => Some(Lack::NotAvailable),
            Disk::Low { .. } => Some(Lack::Disk),
            Disk::Enough => None,
        };
        let eligible = !self.leaving && !self.myself.is_cloned() && self.disk == Disk::Enough;
        self.tasks.worker.set_closed(closed, now);
        let facts = self.tasks.election.set_eligible(eligible, now, out);
        self.on_election(facts, now, out);
        if self.tasks.election.deadline().is_some_and(|at| at <= now.mono) {
            let roster = self.presence.neighbours();
            let facts = self.tasks.election.tick(&roster, now, out);
            self.on_election(facts, now, out);
        }
        // What others signal comes by their beacons.
        let Statistics { cores, memory_bytes, .. } = self.myself.statistics();
        let mine = Some((self.welcomes_work(), self.myself.facts().inactive, cores, memory_bytes));
        if std::mem::replace(&mut self.tasks.told, mine) != mine {
            self.tasks.dispatcher.on_workers_changed();
        }
        let presence = &self.presence;
        for peer in self.tasks.catalog.due(|peer| presence.is_reachable(peer), now) {
            // A full table of questions empties within a second; the catalog asks again.
            let _ = self.tasks.questions.ask(Asker::Catalog(peer), peer, Question::Services, now, out);
        }
        self.tasks.questions.tick(now, out);
        self.tasks.lookups.tick(|peer| presence.is_reachable(peer), now, out);
        self.tasks.dispatcher.set_standbys(self.tasks.election.standbys());
        let standby = self.tasks.election.standbys().contains(&self.myself.identity().id);
        self.tasks.dispatcher.tick_holdings(standby, now, out);
        for _ in 0..ROUNDS {
            self.settle_work(now, out);
            self.tasks.orders.tick(now, out);
            if self.tasks.election.leads().is_some() {
                self.with_workers(|dispatcher, workers| dispatcher.tick(workers, now, out));
            }
            for peer in self.tasks.dispatcher.take_silent() {
                self.tasks.election.on_standby_silent(peer, now);
            }
            self.tasks.dispatcher.close(now, out);
            self.tasks.worker.tick(now, out);
            let presence = &self.presence;
            let (me, mine) = (self.myself.identity().id, &self.myself.facts().name);
            let name = |peer: &PeerId| {
                if *peer == me { Some(mine.clone()) } else { presence.contact(peer).map(|contact| contact.name.clone()) }
            };
            self.tasks.worker.close(name, now, out);
            // Last: outcomes that this node's own worker and queue bring are written with this batch.
            self.tasks.orders.close(now, out);
            if out.to_myself.is_empty() {
                break;
            }
        }
        self.write_reports(now);
    }

    /// Orderers who are away are told by letter how their orders ended. Such a letter may use the reserve of the disk.
    fn write_reports(&mut self, now: Now) {
        let (presence, cloned) = (&self.presence, self.myself.is_cloned());
        let reports = self.tasks.worker.letters_due(|peer| cloned || presence.is_reachable(peer), now);
        for report in reports {
            let Some(contact) = self.presence.contact(&report.of.order.orderer).cloned() else { continue };
            let letter = NewLetter {
                to: vec![Addressee::Id(contact.id)],
                kind: Kind::Event.as_str().to_owned(),
                payload: report_letter::payload(&report),
                in_reply_to: None,
                key: None,
                later: false,
            };
            let epoch = self.myself.facts().epoch;
            // Nobody asked for it, so nobody is answered.
            self.outbox.accept(None, letter, vec![Recipient::Known(contact)], epoch, now, &mut self.rng);
        }
    }

    // -- stopping

    /// What runs is stopped, and another takes over the queue.
    pub(super) fn leave_work(&mut self, now: Now, out: &mut Out) {
        self.tasks.stopping = Some(now.mono + self.config.stop_tasks_most);
        self.tasks.worker.leave(now, out);
        let roster = self.presence.neighbours();
        let facts = self.tasks.election.leave(&roster, now, out);
        self.on_election(facts, now, out);
    }

    /// Whether nothing runs here any more, or it takes too long.
    pub(super) fn has_stopped_work(&self, now: Now) -> bool {
        self.tasks.worker.is_idle() || self.tasks.stopping.is_some_and(|until| until <= now.mono)
    }

    // -- for faces

    /// An order of this node that has not ended.
    #[must_use]
    pub fn order(&self, number: u64) -> Option<OrderView> {
        self.tasks.orders.view(number, self.heard)
    }

    /// At most `most` orders of this node that have not ended, ascending, after a number.
    #[must_use]
    pub fn orders(&self, after: u64, most: usize) -> Vec<OrderView> {
        self.tasks.orders.views(after, most, self.heard)
    }
}
