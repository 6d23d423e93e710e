//! What this node does for others: services offered, units taken, run and reported.
//! Knows nothing of who decides, nor of how a program is run. Never more runs than may, never twice the same unit at once; each
//! unit taken ends in one report, or in one word that its attempt came to nothing.

mod bodies;
mod early;
mod load;
mod offers;
mod reports;
mod unheard;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;
use serde_bytes::ByteBuf;

use self::bodies::Bodies;
use self::early::Early;
use self::load::{Load, Room};
use self::offers::Offers;
use self::reports::Reports;
use self::unheard::Unheard;
use self::words::Words;
use crate::beacon::Statistics;
use crate::config::{Config, limits};
use crate::effect::{Change, Effect, Out, Refusal, Run};
use crate::input::Exit;
use crate::name::PeerName;
use crate::now::{Now, Timestamp};
use crate::order::{Broken, Cancel, Closing, Ended, Excerpt, Fence, Order, OrderKey, Report, Try};
use crate::peer::WorkerStatus;
use crate::proven::Proven;
use crate::segment::What;
use crate::service::{Availability, Lack, Needs, Offering, ServiceName, Services};
use crate::work::{Progress, Working};

/// Between SIGTERM and SIGKILL (DESIGN 6).
const GRACE: Duration = Duration::from_secs(5);
/// How long a unit runs before it is told that it does: what ends sooner tells only that (guess: nobody can see it).
const STARTED_AFTER: Duration = Duration::from_millis(10);
/// Between two words about the progress of a unit (guess: what an eye can follow).
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A unit everywhere: its order and its number.
type Unit = (OrderKey, u32);

fn unit(of: &Try) -> Unit {
    (of.order, of.unit)
}

fn keys(closing: &Closing, number: u64) -> OrderKey {
    OrderKey { orderer: closing.orderer, epoch: closing.epoch, number }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Worker {
    me: PeerId,
    config: Config,
    offers: Offers,
    /// Why nothing new is taken, whatever is offered.
    closed: Option<Lack>,
    leaving: bool,
    leader: Option<Fence>,
    /// Who can be reached.
    here: BTreeSet<PeerId>,
    bodies: Bodies,
    early: Early,
    /// What waits for a slot, and what runs.
    tasks: BTreeMap<Unit, Task>,
    load: Load,
    reports: Reports,
    unheard: Unheard,
    /// What runs and is not told to, by when it shall be.
    started: VecDeque<(Duration, Try)>,
    /// What was told to run, by when it takes too long for others to wait behind it.
    overdue: BTreeSet<(Duration, Unit)>,
    /// Whose progress is to be told, and when.
    progressed: BTreeSet<(Duration, Unit)>,
    /// Whom everything is to be told that it may not know.
    debts: BTreeMap<PeerId, Debt>,
    words: Words,
}

/// A unit here that has not ended.
#[derive(Debug)]
struct Task {
    of: Try,
    service: ServiceName,
    needs: Room,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// For a slot; its place in the order of acceptance.
    Waiting(u64),
    Running(Running),
}

#[derive(Debug)]
struct Running {
    /// It does run; else it begins when another of its service has ended.
    begun: bool,
    /// It was told not to begin if it has not, for this reason.
    taken_back: Option<Broken>,
    /// It takes so long that nothing should wait behind it.
    overdue: bool,
    /// When it began, or was started ahead.
    at: Timestamp,
    since: Duration,
    /// Leader and orderer were told.
    told: bool,
    stop: Option<Stop>,
    /// Not told yet, and when it will be.
    progress: Option<Box<(Duration, Progress)>>,
    /// Not before this.
    progress_at: Duration,
}

/// Why a process was told to end; the greater overrules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    Leaving,
    Superseded,
    Cancelled,
    /// Its order has ended.
    Closed,
}

/// What a peer is told step by step: reports, and at last (if it leads) all that is here.
#[derive(Debug)]
struct Debt {
    /// The last report told.
    cursor: Option<Unit>,
    /// The next step; none when all was told.
    at: Option<Duration>,
    /// How long to wait when it fails.
    patience: Duration,
    failed_at: Option<Duration>,
}

/// What to answer to an assignment.
enum Verdict {
    Taken,
    Declined(Lack),
    /// An earlier attempt of the unit runs here, and goes on.
    Runs(Working),
    /// Its end is known.
    Reported(Box<Report>),
    /// It came to nothing.
    Broken(Try, Broken),
    /// A later attempt is known.
    Late,
}

impl Worker {
    pub(crate) fn new(
        me: PeerId,
        config: &Config,
        offers: Vec<Offering>,
        draining: bool,
        started: Vec<(Try, Timestamp)>,
        ended: Vec<Report>,
        _now: Now,
    ) -> Self {
        let mut reports = Reports::default();
        for report in ended {
            reports.put(report);
        }
        for (task, _) in started {
            // What is too much to remember now stays on the disk until the next start.
            reports.put_broken(task, Broken::Crashed, true, &mut Out::default());
        }
        Worker {
            me,
            config: config.clone(),
            offers: Offers::new(me, offers, draining),
            closed: None,
            leaving: false,
            leader: None,
            here: BTreeSet::from([me]),
            bodies: Bodies::default(),
            early: Early::default(),
            tasks: BTreeMap::new(),
            load: Load::default(),
            reports,
            unheard: Unheard::new(config),
            started: VecDeque::new(),
            overdue: BTreeSet::new(),
            progressed: BTreeSet::new(),
            debts: BTreeMap::from([(me, Debt::new(Duration::ZERO, config))]),
            words: Words::default(),
        }
    }

    // -- what is offered

    pub(crate) fn services(&self) -> &Services {
        self.offers.services()
    }

    /// Offers a service, or offers it otherwise. What runs goes on as it began; what waits will take what is offered now.
    ///
    /// # Errors
    /// It breaks a rule, which is named; nothing was changed.
    pub(crate) fn offer(&mut self, mut offering: Offering, _now: Now, out: &mut Out) -> Result<(), Refusal> {
        self.offers.check(&offering)?;
        // What stands in the configuration is withdrawn when it is taken out of it, also if it was changed meanwhile.
        offering.configured |= self.offers.get(&offering.card.name).is_some_and(|before| before.configured);
        let service = offering.card.name.clone();
        let before = self.offers.put(offering.clone());
        if before.as_ref() == Some(&offering) {
            return Ok(());
        }
        if before.is_some_and(|before| before.program != offering.program) {
            self.load.forget_measured(&service);
        }
        self.load.stirred = true;
        // Where it shall run now is the leader's to say: here, perhaps.
        self.recall(&service, |_| true, Broken::Superseded, out);
        for unit in self.load.waiting(&service) {
            if offering.card.allowed.allows(&unit.0.orderer, &self.me) {
                self.refit(unit, &offering);
            } else {
                self.give_back(unit, Broken::Stopping, out);
            }
        }
        out.store(Change::Offer(Box::new(offering)));
        out.note(What::Offered { service });
        self.advertise(out);
        Ok(())
    }

    fn refit(&mut self, unit: Unit, offering: &Offering) {
        let Some(order) = self.bodies.get(&unit.0) else { return };
        let needs = Room::of(Offers::needs(offering, &order.needs));
        if let Some(Task { needs: before, stage: Stage::Waiting(place), .. }) = self.tasks.get_mut(&unit) {
            *before = needs;
            self.load.refit(&offering.card.name, *place, needs);
        }
    }

    /// Offers a service no more. What runs goes on; what waits is given back.
    ///
    /// # Errors
    /// It is not offered.
    pub(crate) fn withdraw(&mut self, name: &ServiceName, out: &mut Out) -> Result<(), Refusal> {
        if !self.offers.remove(name) {
            return Err(Refusal::NotOffered(name.to_string()));
        }
        self.give_all_back(name, |_| true, Broken::Stopping, out);
        self.load.drop_unused(name);
        out.store(Change::DropOffer(name.clone()));
        out.note(What::Withdrawn { service: name.clone() });
        self.advertise(out);
        Ok(())
    }

    /// Finishes what runs and takes nothing new, or takes it again. What waits is given back.
    pub(crate) fn drain(&mut self, draining: bool, out: &mut Out) {
        if self.offers.drain(draining) {
            out.store(Change::Drain(draining));
            out.note(What::Drained { on: draining });
        }
        for service in self.load.services().into_iter().filter(|_| draining) {
            self.give_all_back(&service, |_| true, Broken::Stopping, out);
        }
    }

    /// Takes no orders of this peer any more, or takes them again. What runs goes on; what waits is given back.
    pub(crate) fn block(&mut self, peer: PeerId, on: bool, out: &mut Out) {
        self.offers.block(peer, on);
        for service in self.load.services().into_iter().filter(|_| on) {
            self.give_all_back(&service, |unit| unit.0.orderer == peer, Broken::Stopping, out);
        }
    }

    /// What has not begun will not run here.
    fn give_all_back(&mut self, service: &ServiceName, which: impl Fn(&Unit) -> bool, why: Broken, out: &mut Out) {
        self.recall(service, &which, why, out);
        for unit in self.load.waiting(service).into_iter().filter(which) {
            self.give_back(unit, why, out);
        }
    }

    /// What was started ahead and has not begun is given back: its end comes as that of what was stopped.
    fn recall(&mut self, service: &ServiceName, which: impl Fn(&Unit) -> bool, why: Broken, out: &mut Out) {
        for unit in self.load.ahead(service).into_iter().filter(which) {
            let Some(Task { of, stage: Stage::Running(running), .. }) = self.tasks.get_mut(&unit) else { continue };
            if running.taken_back.replace(why).is_none() {
                out.effects.push(Effect::TakeBack { task: *of });
            }
        }
    }

    /// Tells the network what can be found here.
    pub(crate) fn advertise(&self, out: &mut Out) {
        out.effects.push(Effect::Advertise(self.services().services.iter().map(|card| card.name.clone()).collect()));
    }

    /// Takes nothing new, for this reason; or takes it again.
    pub(crate) fn set_closed(&mut self, closed: Option<Lack>, _now: Now) {
        self.closed = closed;
    }

    /// The machine was measured.
    pub(crate) fn on_measured(&mut self, statistics: Statistics) {
        self.load.stirred |=
            (statistics.cores, statistics.memory_bytes) != (self.offers.statistics.cores, self.offers.statistics.memory_bytes);
        self.offers.statistics = statistics;
    }

    // -- who is there

    /// Whom this node obeys. A leader that is new, or newly reachable, is told everything.
    pub(crate) fn on_leader(&mut self, leader: Option<Fence>, reachable: bool, now: Now, _out: &mut Out) {
        let changed = self.leader != leader;
        self.leader = leader;
        let Some(Fence { leader: peer, .. }) = leader else { return };
        if peer != self.me && !reachable {
            self.on_unreachable(peer);
        } else if self.here.insert(peer) || changed {
            self.debts.insert(peer, Debt::new(now.mono, &self.config));
        }
    }

    /// A peer can be reached: what it is owed goes again.
    pub(crate) fn on_reachable(&mut self, peer: PeerId, now: Now) {
        self.here.insert(peer);
        if self.leads(&peer) || self.reports.owes(peer) || self.tasks.range(all_of(peer)).next().is_some() {
            self.debts.insert(peer, Debt::new(now.mono, &self.config));
        }
    }

    /// A peer cannot be reached: it is told nothing until it can.
    pub(crate) fn on_unreachable(&mut self, peer: PeerId) {
        if peer != self.me && self.here.remove(&peer) {
            self.debts.remove(&peer);
            self.reports.on_untold(peer);
            self.unheard.on_unreachable(peer);
        }
    }

    /// Something that was said to a peer was lost: everything goes again, after a while.
    pub(crate) fn on_send_failed(&mut self, peer: PeerId, now: Now) {
        if !self.here.contains(&peer) || !(self.leads(&peer) || self.reports.owes(peer) || self.tasks.range(all_of(peer)).next().is_some())
        {
            return;
        }
        self.reports.on_untold(peer);
        self.unheard.on_unreachable(peer);
        let debt = self.debts.entry(peer).or_insert_with(|| Debt::new(now.mono, &self.config));
        if debt.failed_at.is_some_and(|failed| now.mono > failed + self.config.resend_most * 2) {
            debt.patience = self.config.refused_wait;
        }
        // What waits to go again anyway need not wait longer because more of it was lost.
        if debt.cursor.is_some() || debt.at.is_none_or(|at| at <= now.mono) {
            debt.at = Some(now.mono + debt.patience);
            debt.patience = (debt.patience * 2).min(self.config.resend_most);
        }
        (debt.cursor, debt.failed_at) = (None, Some(now.mono));
    }

    // -- what is to be done

    /// Orders of which units may be assigned here.
    pub(crate) fn on_orders(&mut self, from: PeerId, orders: &[Proven<Order>], now: Now, out: &mut Out) {
        if !self.leads(&from) {
            return;
        }
        for order in orders {
            self.bodies.put(&order.value);
            for (fence, task) in self.early.take(&order.value.key()) {
                if self.leader == Some(fence) {
                    self.on_assign(from, fence, vec![task], now, out);
                }
            }
        }
    }

    /// An order that is held here for the leader.
    pub(crate) fn on_copy(&mut self, order: &Order) {
        if self.bodies.get(&order.key()).is_none() {
            self.bodies.put(order);
        }
    }

    /// The leader wants these units done here.
    pub(crate) fn on_assign(&mut self, from: PeerId, fence: Fence, units: Vec<Try>, now: Now, out: &mut Out) {
        for task in units {
            match self.judge(task, now, out) {
                Verdict::Taken => self.words.take(from, fence, task),
                Verdict::Declined(Lack::NoOrder) if self.early.put(fence, task, now.mono) => {}
                Verdict::Declined(lack) => self.words.decline(from, fence, task, lack),
                Verdict::Runs(working) => self.words.working(from, fence, vec![working], false),
                Verdict::Reported(report) => {
                    self.words.take(from, fence, task);
                    self.words.report(from, Proven::own(*report));
                }
                Verdict::Broken(of, why) => {
                    self.words.broken(from, of, why);
                    self.reports.on_broken_told(&unit(&of), out);
                }
                Verdict::Late => {}
            }
        }
    }

    fn judge(&mut self, task: Try, now: Now, out: &mut Out) -> Verdict {
        let unit = unit(&task);
        if let Some(report) = self.reports.get(&unit) {
            return Verdict::Reported(Box::new(report.clone()));
        }
        if let Some(here) = self.tasks.get_mut(&unit) {
            let known = here.of.attempt;
            return match &here.stage {
                _ if task.attempt < known => Verdict::Late,
                _ if task.attempt == known => Verdict::Taken,
                Stage::Running(Running { stop: Some(Stop::Leaving), .. }) => Verdict::Declined(Lack::NotAvailable),
                Stage::Running(Running { stop: Some(Stop::Superseded | Stop::Closed), .. }) => Verdict::Declined(Lack::Busy),
                Stage::Running(running) => Verdict::Runs(here.working(running, now)),
                Stage::Waiting(_) => {
                    here.of = task;
                    Verdict::Taken
                }
            };
        }
        if let Some(came) = self.reports.broken(&unit).filter(|came| task.attempt <= came.of.attempt) {
            return if task == came.of { Verdict::Broken(came.of, came.why) } else { Verdict::Late };
        }
        match self.accept(task, now, out) {
            Ok(()) => Verdict::Taken,
            Err(lack) => Verdict::Declined(lack),
        }
    }

    /// Takes a unit that is not known here.
    fn accept(&mut self, task: Try, now: Now, out: &mut Out) -> Result<(), Lack> {
        let Some(order) = self.bodies.get(&task.order) else {
            return Err(if self.leaving {
                Lack::NotAvailable
            } else if self.bodies.is_full() {
                Lack::Full
            } else {
                Lack::NoOrder
            });
        };
        // This version has no grants, so that it cannot promise to run something at most once; and no such unit can be asked for.
        if order.once || !(1..=order.units()).contains(&task.unit) {
            return Err(Lack::NotOffered);
        }
        let order = std::sync::Arc::clone(order);
        let offering = self.offers.suits(&order.service, &order.needs, &order.orderer)?;
        let (needs, limit) = (Room::of(Offers::needs(offering, &order.needs)), offering.card.limit);
        if self.leaving {
            return Err(Lack::NotAvailable);
        }
        if let Some(lack) = &self.closed {
            return Err(lack.clone());
        }
        if !self.bodies.is_cancelled(&task.order) {
            self.has_slot(&order.service, limit)?;
            self.has_room(&order.service, needs)?;
        }
        if !self.reports.reserve(self.tasks.len(), out) {
            return Err(Lack::Full);
        }
        if self.bodies.is_cancelled(&task.order) {
            self.report(task, Ended::Cancelled, (Excerpt::default(), Excerpt::default()), now.wall, Duration::ZERO, now, out);
            return Ok(());
        }
        self.reports.forget_broken(&unit(&task), out);
        let place = self.load.wait(&order.service, unit(&task), needs);
        self.bodies.on_taken(&task.order);
        self.tasks.insert(unit(&task), Task { of: task, service: order.service.clone(), needs, stage: Stage::Waiting(place) });
        Ok(())
    }

    /// Whether runs of a service are so short that some may wait here.
    fn is_short(&self, service: &ServiceName) -> bool {
        self.load.average(service).is_some_and(|(average, _)| average < self.config.short)
    }

    fn has_slot(&self, service: &ServiceName, limit: u32) -> Result<(), Lack> {
        let (running, waiting) = self.load.of(service);
        let waits_shortly = self.is_short(service) && (self.load.flows(service) || running < limit);
        // How many of them fit into a short time is the leader's to judge.
        let most = if waits_shortly { limit.saturating_mul(1 + self.config.prefetch_most) } else { limit };
        if running + waiting < most { Ok(()) } else { Err(Lack::Full) }
    }

    /// Cores and memory: those that short runs of the same service take will soon be free.
    fn has_room(&self, service: &ServiceName, needs: Room) -> Result<(), Lack> {
        let mut free = self.room();
        free.take(self.load.taken((self.is_short(service) && self.load.flows(service)).then_some(service)));
        if free.holds(needs) { Ok(()) } else { Err(Lack::Busy) }
    }

    /// All of this machine.
    fn room(&self) -> Room {
        Room::of((self.offers.cores(), self.offers.memory()))
    }

    /// Orderers do not want these any more.
    pub(crate) fn on_cancels(&mut self, _from: PeerId, cancels: &[Proven<Cancel>], now: Now, out: &mut Out) {
        for order in cancels.iter().map(|cancel| cancel.value.order) {
            self.bodies.on_cancelled(&order);
            for unit in self.units(order, order) {
                match self.tasks[&unit].stage {
                    Stage::Running(_) => self.stop(unit, Stop::Cancelled, out),
                    Stage::Waiting(_) => {
                        let (task, _) = self.remove(unit, None);
                        self.report(
                            task.of,
                            Ended::Cancelled,
                            (Excerpt::default(), Excerpt::default()),
                            now.wall,
                            Duration::ZERO,
                            now,
                            out,
                        );
                    }
                }
            }
        }
    }

    /// The leader prefers other attempts to these.
    pub(crate) fn on_superseded(&mut self, from: PeerId, tries: &[Try], _now: Now, out: &mut Out) {
        if !self.leads(&from) {
            return;
        }
        for of in tries {
            match self.tasks.get(&unit(of)).filter(|task| task.of == *of).map(|task| &task.stage) {
                None => {}
                Some(Stage::Running(_)) => self.stop(unit(of), Stop::Superseded, out),
                Some(Stage::Waiting(_)) => self.give_back(unit(of), Broken::Superseded, out),
            }
        }
    }

    /// Orders have ended: nothing of them needs to be done or remembered.
    pub(crate) fn on_closing(&mut self, closing: &Closing, out: &mut Out) {
        for (first, last) in closing.closed.iter() {
            let (first, last) = (keys(closing, first), keys(closing, last));
            for unit in self.units(first, last) {
                match self.tasks[&unit].stage {
                    Stage::Running(_) => self.stop(unit, Stop::Closed, out),
                    Stage::Waiting(_) => self.give_back(unit, Broken::Superseded, out),
                }
            }
            self.reports.close(first, last, out);
            self.unheard.close(first, last);
        }
        self.bodies.on_closing(closing);
    }

    // -- what becomes of it

    /// A program says how far it is.
    pub(crate) fn on_progressed(&mut self, task: Try, done: u64, total: u64, mut note: String, now: Now) {
        let Some(Task { of, stage: Stage::Running(running), .. }) = self.tasks.get_mut(&unit(&task)) else { return };
        if *of != task {
            return;
        }
        shorten(&mut note, limits::NOTE_BYTES);
        let due = running.progress.as_ref().map_or(running.progress_at.max(now.mono), |told| told.0);
        running.progress = Some(Box::new((due, Progress { of: task, done, total, note })));
        self.progressed.insert((due, unit(&task)));
    }

    /// A program has ended, and nothing of it is left.
    #[expect(clippy::too_many_arguments, reason = "how it ended, what it wrote, the time and the output")]
    pub(crate) fn on_ended(&mut self, task: Try, exit: Exit, stdout: Excerpt, stderr: Excerpt, ran: Duration, now: Now, out: &mut Out) {
        let Some(Task { of, stage: Stage::Running(running), .. }) = self.tasks.get(&unit(&task)) else { return };
        if *of != task {
            return;
        }
        let (at, stop, taken_back) = (running.at, running.stop, running.taken_back);
        let measured = matches!(exit, Exit::Exited(_) | Exit::TimedOut).then_some(ran);
        let (_, next) = self.remove(unit(&task), measured);
        next.into_iter().for_each(|unit| self.begin(unit, now));
        match end(stop, taken_back, exit) {
            Ok(ended) => self.report(task, ended, (stdout, stderr), at, ran, now, out),
            Err(why) => {
                out.store(Change::DropTry(task));
                self.break_off(task, why, stop == Some(Stop::Closed), out);
            }
        }
    }

    /// A unit has ended: kept first, then told.
    #[expect(clippy::too_many_arguments, reason = "how it ended, what it wrote, the times and the output")]
    fn report(&mut self, of: Try, ended: Ended, wrote: (Excerpt, Excerpt), started_at: Timestamp, ran: Duration, now: Now, out: &mut Out) {
        let (mut stdout, mut stderr) = wrote;
        for excerpt in [&mut stdout, &mut stderr] {
            excerpt.bytes.truncate(limits::EXCERPT_BYTES);
        }
        let ran_ms = u64::try_from(ran.as_millis()).unwrap_or(u64::MAX);
        let report = Report { of, worker: self.me, ended, stdout, stderr, started_at, ended_at: now.wall, ran_ms };
        out.store(Change::TryEnded(Box::new(report.clone())));
        out.note(What::UnitEnded { of, ended: report.ended.clone() });
        self.reports.forget_broken(&unit(&of), out);
        self.reports.put(report.clone());
        let proven = Proven::own(report);
        for peer in self.hearers(of.order.orderer) {
            self.words.report(peer, proven.clone());
        }
        if self.here.contains(&of.order.orderer) {
            self.on_told(unit(&of), now);
        }
    }

    /// The orderer of a unit was told how it ended. What this node tells itself cannot be lost.
    fn on_told(&mut self, unit: Unit, now: Now) {
        self.reports.on_told(unit);
        if unit.0.orderer != self.me {
            self.unheard.on_told(unit, now.mono);
        }
    }

    /// An orderer has these reports on its disk, though the orders go on.
    pub(crate) fn on_reports_taken(&mut self, from: PeerId, tries: &[Try], now: Now) {
        let kept = |of: &&Try| of.order.orderer == from && self.reports.get(&unit(of)).is_some();
        tries.iter().filter(kept).for_each(|of| self.unheard.on_taken(&unit(of), now.mono));
    }

    /// An attempt came to nothing; of a closed order nobody needs to remember it.
    fn break_off(&mut self, of: Try, why: Broken, closed: bool, out: &mut Out) {
        out.note(What::TryBroken { of, why });
        for peer in self.hearers(of.order.orderer) {
            self.words.broken(peer, of, why);
        }
        if !closed {
            self.reports.put_broken(of, why, false, out);
        }
    }

    /// What waits will not run here.
    fn give_back(&mut self, unit: Unit, why: Broken, out: &mut Out) {
        let (task, _) = self.remove(unit, None);
        self.break_off(task.of, why, false, out);
    }

    fn stop(&mut self, unit: Unit, why: Stop, out: &mut Out) {
        if let Some(Task { of, stage: Stage::Running(running), .. }) = self.tasks.get_mut(&unit) {
            if running.stop.is_none() {
                out.effects.push(Effect::Stop { task: *of, grace: GRACE });
            }
            running.stop = running.stop.max(Some(why));
        }
    }

    /// A unit waits or runs no more, and another begins in its place. `ran`: how long, if that tells how long runs take.
    fn remove(&mut self, unit: Unit, ran: Option<Duration>) -> (Task, Option<Unit>) {
        let mut next = None;
        let task = self.tasks.remove(&unit).expect("who removes a unit has found it");
        match &task.stage {
            Stage::Waiting(place) => self.load.leave(&task.service, *place),
            Stage::Running(running) => {
                if let Some(progress) = &running.progress {
                    self.progressed.remove(&(progress.0, unit));
                }
                self.overdue.remove(&(running.since + self.config.overdue, unit));
                if running.begun {
                    next = self.load.end(&task.service, task.needs, running.overdue, ran);
                } else {
                    self.load.drop_ahead(&task.service, &unit);
                }
            }
        }
        if self.offers.get(&task.service).is_none() {
            self.load.drop_unused(&task.service);
        }
        self.bodies.on_ended(&unit.0);
        (task, next)
    }

    /// What was started ahead begins.
    fn begin(&mut self, unit: Unit, now: Now) {
        if let Some(Task { of, stage: Stage::Running(running), .. }) = self.tasks.get_mut(&unit) {
            (running.begun, running.at, running.since) = (true, now.wall, now.mono);
            self.started.push_back((now.mono + STARTED_AFTER, *of));
        }
    }

    // -- what others ask

    /// Whether something could start here at once.
    pub(crate) fn availability(&self, service: &ServiceName, needs: &Needs, orderer: &PeerId) -> Availability {
        let why = self.lack(service, needs, orderer).err();
        let ((running, waiting), limit) = (self.load.of(service), self.offers.limit(service));
        let average = self.load.average(service);
        let eta = match (&why, average) {
            (None, _) => Some(Duration::ZERO),
            // When a run ends that takes long for once, nobody knows.
            (Some(Lack::Full | Lack::Busy), Some((average, _))) if self.load.flows(service) => Some(average * (waiting / limit.max(1) + 1)),
            _ => None,
        };
        let Statistics { cores, memory_bytes, .. } = self.offers.statistics;
        let taken = self.load.running();
        let free_cores = u64::from(cores).saturating_sub(taken.cores);
        let free_memory = u128::from(memory_bytes).saturating_sub(taken.memory);
        Availability {
            available: why.is_none(),
            why,
            remaining: running + waiting,
            eta_ms: eta.map(|eta| u64::try_from(eta.as_millis()).unwrap_or(u64::MAX)),
            basis: average.map_or(0, |(_, runs)| runs),
            running,
            limit,
            cores: (cores, u32::try_from(free_cores).unwrap_or(cores)),
            memory_bytes: (memory_bytes, u64::try_from(free_memory).unwrap_or(memory_bytes)),
            software: self.services().software.clone(),
        }
    }

    fn lack(&self, service: &ServiceName, needs: &Needs, orderer: &PeerId) -> Result<(), Lack> {
        let offering = self.offers.suits(service, needs, orderer)?;
        if self.leaving {
            return Err(Lack::NotAvailable);
        }
        if let Some(lack) = &self.closed {
            return Err(lack.clone());
        }
        let (running, waiting) = self.load.of(service);
        if running + waiting >= offering.card.limit {
            return Err(Lack::Full);
        }
        let mut free = self.room();
        free.take(self.load.taken(None));
        if free.holds(Room::of(Offers::needs(offering, needs))) { Ok(()) } else { Err(Lack::Busy) }
    }

    /// Units that run here, and that wait here.
    pub(crate) fn load(&self) -> (u32, u32) {
        self.load.all()
    }

    pub(crate) fn status(&self) -> WorkerStatus {
        let offers = self.offers.offerings().map(|offering| {
            let (running, waiting) = self.load.of(&offering.card.name);
            (offering.clone(), running, waiting)
        });
        let (running, queued) = self.load();
        WorkerStatus { offers: offers.collect(), running, queued, draining: self.services().draining }
    }

    /// Reports that shall go as letters, since their orderers are away; each once, and at most a page.
    pub(crate) fn letters_due(&mut self, reachable: impl Fn(&PeerId) -> bool, now: Now) -> Vec<Report> {
        let me = self.me;
        self.reports.letters_due(|peer| *peer == me || reachable(peer), self.config.report_letter_after, now.mono)
    }

    /// The node stops in order: what runs is ended, what waits is given back.
    pub(crate) fn leave(&mut self, _now: Now, out: &mut Out) {
        self.leaving = true;
        // First: what waits for one that runs would begin when that is stopped.
        for service in self.load.services() {
            self.give_all_back(&service, |_| true, Broken::Stopping, out);
        }
        for unit in self.tasks.keys().copied().collect::<Vec<_>>() {
            match self.tasks[&unit].stage {
                Stage::Running(_) => self.stop(unit, Stop::Leaving, out),
                Stage::Waiting(_) => self.give_back(unit, Broken::Stopping, out),
            }
        }
    }

    /// Nothing runs, and all that was to be said is said.
    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.words.is_empty()
    }

    // -- time

    pub(crate) fn tick(&mut self, now: Now, out: &mut Out) {
        while let Some((_, of)) = self.started.front().copied().filter(|(at, _)| *at <= now.mono) {
            self.started.pop_front();
            self.tell_started(&of);
            if let Some(Task { of: known, stage: Stage::Running(running), .. }) = self.tasks.get(&unit(&of)).filter(|task| task.of == of) {
                self.overdue.insert((running.since + self.config.overdue, unit(known)));
            }
        }
        while let Some((_, unit)) = self.overdue.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.overdue.pop_first();
            if let Some(Task { service, stage: Stage::Running(running), .. }) = self.tasks.get_mut(&unit) {
                running.overdue = true;
                self.load.overdue(service);
            }
        }
        while let Some((_, unit)) = self.progressed.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.progressed.pop_first();
            self.tell_progress(unit, now);
        }
        for (fence, task) in self.early.take_due(now.mono) {
            if self.leader == Some(fence) {
                self.words.decline(fence.leader, fence, task, Lack::NoOrder);
            }
        }
        let due = self.debts.iter().filter(|(_, debt)| debt.at.is_some_and(|at| at <= now.mono));
        for peer in due.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.pay(peer, now, out);
        }
        let reports = &self.reports;
        let size = |unit: &Unit| reports.get(unit).map_or(0, reports::size);
        for unit in self.unheard.take_due(now.mono, self.config.window_bytes, size) {
            if let Some(report) = self.reports.get(&unit) {
                self.words.report(unit.0.orderer, Proven::own(report.clone()));
            }
        }
    }

    /// The batch ends: what can start does, and words leave.
    pub(crate) fn close(&mut self, name_of: impl Fn(&PeerId) -> Option<PeerName>, now: Now, out: &mut Out) {
        self.start(name_of, now, out);
        self.words.leave(out);
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        let started = self.started.front().map(|(at, _)| *at);
        let overdue = self.overdue.first().map(|(at, _)| *at);
        let progressed = self.progressed.first().map(|(at, _)| *at);
        let debts = self.debts.values().filter_map(|debt| debt.at).min();
        let letters = self.reports.letters_deadline(self.config.report_letter_after);
        [started, overdue, progressed, debts, letters, self.unheard.deadline(), self.early.deadline()].into_iter().flatten().min()
    }

    /// What can start does; what would wait for long is given back, and may have kept others waiting.
    fn start(&mut self, name_of: impl Fn(&PeerId) -> Option<PeerName>, now: Now, out: &mut Out) {
        while std::mem::take(&mut self.load.stirred) {
            self.start_what_fits(&name_of, now, out);
            self.load.stirred = false;
            for service in self.load.stuck() {
                self.give_all_back(&service, |_| true, Broken::Superseded, out);
            }
        }
    }

    fn start_what_fits(&mut self, name_of: impl Fn(&PeerId) -> Option<PeerName>, now: Now, out: &mut Out) {
        let mut free = self.room();
        free.take(self.load.running());
        let mut held_up = BTreeSet::new();
        while let Some((unit, needs)) = self.load.next(|service| self.offers.limit(service), &held_up) {
            if !self.room().holds(needs) {
                // Taken before the machine was measured.
                self.give_back(unit, Broken::Stopping, out);
                continue;
            }
            // What it needs is kept for it, too, if there is not enough: others that came later shall not take it for ever.
            if !free.holds(needs) {
                held_up.insert(self.tasks[&unit].service.clone());
                free.take(needs);
            } else if self.run(unit, false, &name_of, now, out) {
                free.take(needs);
            }
        }
        while let Some(unit) = self.load.next_ahead(|service| self.offers.limit(service), self.config.short) {
            self.run(unit, true, &name_of, now, out);
        }
    }

    /// Runs what waited, now or (`ahead`) when one of its service has ended; false if it cannot be run at all.
    fn run(&mut self, unit: Unit, ahead: bool, name_of: impl Fn(&PeerId) -> Option<PeerName>, now: Now, out: &mut Out) -> bool {
        let task = self.tasks.get_mut(&unit).expect("who waits for a slot is here");
        let order = self.bodies.get(&unit.0).expect("an order stays while a unit of it waits");
        let offering = self.offers.get(&task.service).expect("what is not offered has no slots");
        let of = task.of;
        if let Some(why) = too_long(order, of.unit) {
            self.remove(unit, None);
            self.report(of, Ended::NotStarted(why), (Excerpt::default(), Excerpt::default()), now.wall, Duration::ZERO, now, out);
            return false;
        }
        let Stage::Waiting(place) = task.stage else { return false };
        let at_once = if ahead { self.load.start_ahead(&task.service, place) } else { self.load.start(&task.service, place) };
        let run = Run {
            task: of,
            service: task.service.clone(),
            at_once,
            program: offering.program.clone(),
            args: order.args_of(of.unit),
            stdin: order.stdin.as_ref().map(|stdin| ByteBuf::from(stdin.to_vec())),
            time_limit: offers::time_limit(offering),
            orderer: name_of(&order.orderer),
        };
        let running = Running {
            begun: !ahead,
            taken_back: None,
            overdue: false,
            at: now.wall,
            since: now.mono,
            told: false,
            stop: None,
            progress: None,
            progress_at: Duration::ZERO,
        };
        task.stage = Stage::Running(running);
        out.store(Change::TryStarted { task: of, at: now.wall });
        out.effects.push(Effect::Run(Box::new(run)));
        out.note(What::UnitStarted { of });
        if !ahead {
            self.started.push_back((now.mono + STARTED_AFTER, of));
        }
        true
    }

    fn tell_started(&mut self, of: &Try) {
        let Some(Task { of: known, stage: Stage::Running(running), .. }) = self.tasks.get_mut(&unit(of)) else { return };
        if known == of && !std::mem::replace(&mut running.told, true) {
            for peer in self.hearers(of.order.orderer) {
                self.words.started(peer, *of);
            }
        }
    }

    fn tell_progress(&mut self, unit: Unit, now: Now) {
        let Some(Task { of, stage: Stage::Running(running), .. }) = self.tasks.get_mut(&unit) else { return };
        let (of, Some((_, progress))) = (*of, running.progress.take().map(|progress| *progress)) else { return };
        running.progress_at = now.mono + PROGRESS_INTERVAL;
        self.tell_started(&of);
        for peer in self.hearers(of.order.orderer) {
            self.words.progress(peer, progress.clone());
        }
    }

    /// One step of telling a peer what it may not know. What has ended comes before the list of what has not, by which a leader
    /// knows what came to nothing.
    fn pay(&mut self, peer: PeerId, now: Now, out: &mut Out) {
        let leads = self.leads(&peer);
        let Some(debt) = self.debts.get_mut(&peer) else { return };
        let (reports, more) = self.reports.after(debt.cursor, (!leads).then_some(peer), self.config.window_bytes);
        debt.cursor = reports.last().map(|report| unit(&report.of)).or(debt.cursor).filter(|_| more);
        debt.at = more.then_some(now.mono + self.config.refused_wait);
        for report in reports {
            if report.of.order.orderer == peer {
                self.on_told(unit(&report.of), now);
            }
            self.words.report(peer, Proven::own(report));
        }
        if more {
            return;
        }
        if let Some(fence) = self.leader.filter(|_| leads) {
            for came in self.reports.all_broken().collect::<Vec<_>>() {
                self.words.broken(peer, came.of, came.why);
                if self.reports.on_broken_told(&unit(&came.of), out) {
                    for orderer in self.hearers(came.of.order.orderer).filter(|hearer| *hearer != peer).collect::<Vec<_>>() {
                        self.words.broken(orderer, came.of, came.why);
                    }
                }
            }
            let working = self.tasks.values().map(|task| match &task.stage {
                Stage::Running(running) => task.working(running, now),
                Stage::Waiting(_) => Working { of: task.of, running_ms: None },
            });
            self.words.working(peer, fence, working.collect(), true);
        } else {
            let told = |task: &&Task| matches!(&task.stage, Stage::Running(running) if running.told);
            for task in self.tasks.range(all_of(peer)).map(|(_, task)| task).filter(told) {
                self.words.started(peer, task.of);
            }
        }
    }

    fn leads(&self, peer: &PeerId) -> bool {
        self.leader.is_some_and(|fence| fence.leader == *peer)
    }

    /// Who is told what becomes of the units of an orderer: the leader and the orderer, as far as they can be reached.
    fn hearers(&self, orderer: PeerId) -> impl Iterator<Item = PeerId> + use<> {
        let leader = self.leader.map(|fence| fence.leader);
        let orderer = Some(orderer).filter(|orderer| Some(*orderer) != leader);
        let here = |peer: &PeerId| self.here.contains(peer);
        [leader.filter(here), orderer.filter(here)].into_iter().flatten()
    }

    /// Units here of orders from one key to another.
    fn units(&self, first: OrderKey, last: OrderKey) -> Vec<Unit> {
        self.tasks.range((first, 0)..=(last, u32::MAX)).map(|(unit, _)| *unit).collect()
    }
}

impl Task {
    fn working(&self, running: &Running, now: Now) -> Working {
        let ran = || u64::try_from(now.mono.saturating_sub(running.since).as_millis()).unwrap_or(u64::MAX);
        Working { of: self.of, running_ms: running.begun.then(ran) }
    }
}

impl Debt {
    fn new(at: Duration, config: &Config) -> Self {
        Debt { cursor: None, at: Some(at), patience: config.refused_wait, failed_at: None }
    }
}

/// What the end of a process is worth, or of what was taken back before it was one.
fn end(stop: Option<Stop>, taken_back: Option<Broken>, exit: Exit) -> Result<Ended, Broken> {
    match (stop, exit) {
        (Some(Stop::Superseded | Stop::Closed), _) => Err(Broken::Superseded),
        (_, Exit::Exited(code)) => Ok(Ended::Exited(code)),
        (_, Exit::TimedOut) => Ok(Ended::TimedOut),
        (Some(Stop::Leaving), _) => Err(Broken::Stopping),
        (None, Exit::Stopped) => Err(taken_back.unwrap_or(Broken::Stopping)),
        (Some(Stop::Cancelled), Exit::Killed(_) | Exit::Stopped) => Ok(Ended::Cancelled),
        (None, Exit::Killed(signal)) => Err(Broken::Killed(signal)),
        (_, Exit::NotStarted(mut why)) => {
            shorten(&mut why, limits::WHY_BYTES);
            Ok(Ended::NotStarted(why))
        }
    }
}

/// Why an argument of a unit, its item put in, is more than any program can be given. All of them together are bounded by
/// [`Order::within_limits`].
fn too_long(order: &Order, unit: u32) -> Option<String> {
    let item = order.items.get(unit.saturating_sub(1) as usize)?.len();
    let longest = order.args.iter().map(|arg| arg.len() + arg.matches("{}").count() * item).max()?;
    let most = limits::ORDER_ARG_BYTES;
    (longest >= most).then(|| format!("with its item in place an argument has {longest} bytes; a program can be given less than {most}"))
}

fn shorten(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

/// All units of one orderer.
fn all_of(orderer: PeerId) -> std::ops::RangeInclusive<Unit> {
    let key = |epoch, number| OrderKey { orderer, epoch: crate::id::Epoch(epoch), number };
    (key(0, 0), 0)..=(key(u64::MAX, u64::MAX), u32::MAX)
}

#[cfg(test)]
mod tests;
