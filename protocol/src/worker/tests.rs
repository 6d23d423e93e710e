use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::bundle::Secrets;
use crate::effect::Say;
use crate::id::Epoch;
use crate::order::{Attempt, Priority};
use crate::ranges::Ranges;
use crate::service::{Allowed, Program, ServiceCard};
use crate::work::Work;

const ME: u8 = 0;
const LEADER: u8 = 1;
const ORDERER: u8 = 2;
const NEXT_LEADER: u8 = 3;

fn peer(n: u8) -> PeerId {
    Secrets::from_seeds(&[n; 32], &[n; 32]).id()
}

fn fence(term: u64, leader: u8) -> Fence {
    Fence { term, leader: peer(leader) }
}

fn name(text: &str) -> ServiceName {
    text.parse().expect("a name")
}

fn offering(service: &str, limit: u32) -> Offering {
    let card = ServiceCard { name: name(service), about: String::new(), limit, needs: Needs::default(), allowed: Allowed::Anyone };
    Offering {
        card,
        program: Program::Command(vec!["/bin/brew".to_owned()]),
        time_limit_ms: Some(60_000),
        software: BTreeSet::new(),
        configured: false,
    }
}

fn taking(cores: u32, memory_bytes: u64) -> Needs {
    Needs { cores, memory_bytes, ..Needs::default() }
}

fn order(number: u64, service: &str) -> Order {
    Order {
        orderer: peer(ORDERER),
        epoch: Epoch(7),
        number,
        service: name(service),
        args: vec!["latte".to_owned()],
        items: Vec::new(),
        stdin: None,
        priority: Priority::End,
        needs: Needs::default(),
        once: false,
        placed: Timestamp(0),
    }
}

/// One that takes more than others do: it waits for a slot, and is not started ahead of one.
fn unlike(number: u64) -> Order {
    Order { needs: taking(1, 0), ..order(number, "coffee") }
}

fn key(number: u64) -> OrderKey {
    order(number, "coffee").key()
}

fn attempt(number: u64, term: u64, leader: u8, attempt: u32) -> Try {
    Try { order: key(number), unit: 1, attempt: Attempt { term, leader: peer(leader), number: attempt } }
}

/// The first attempt of the only unit of an order, under the first leader.
fn first(number: u64) -> Try {
    attempt(number, 1, LEADER, 1)
}

fn wrote(text: &str) -> Excerpt {
    Excerpt { bytes: ByteBuf::from(text.as_bytes()), total: text.len() as u64, kept: text.len() as u64 }
}

/// A worker with a leader and an orderer in reach, and what it did.
struct Cafe {
    worker: Worker,
    out: Out,
    now: Now,
}

impl Cafe {
    fn new(offers: Vec<Offering>) -> Self {
        Cafe::after(offers, Vec::new(), Vec::new())
    }

    /// As its disk remembers it.
    fn after(offers: Vec<Offering>, started: Vec<(Try, Timestamp)>, ended: Vec<Report>) -> Self {
        let now = Now { mono: Duration::from_secs(100), wall: Timestamp(1_000) };
        let worker = Worker::new(peer(ME), &Config::default(), offers, false, started, ended, now);
        Cafe { worker, out: Out { me: Some(peer(ME)), ..Out::default() }, now }
    }

    /// … whose leader and orderer have heard that it is at nothing.
    fn open(offers: Vec<Offering>) -> Self {
        let mut cafe = Cafe::new(offers);
        cafe.led_by(fence(1, LEADER));
        cafe.worker.on_reachable(peer(ORDERER), cafe.now);
        cafe.expect(&[working(LEADER, fence(1, LEADER), &[], true)]);
        cafe
    }

    fn led_by(&mut self, fence: Fence) {
        self.worker.on_leader(Some(fence), true, self.now, &mut self.out);
    }

    /// Whether a try is here, or its report.
    fn knows(&self, task: &Try) -> bool {
        let here = self.worker.tasks.get(&unit(task)).is_some_and(|known| known.of == *task);
        here || self.worker.reports.get(&unit(task)).is_some_and(|report| report.of == *task)
    }

    fn wait(&mut self, ms: u64) {
        self.now.mono += Duration::from_millis(ms);
        self.now.wall.0 += ms;
    }

    fn assign(&mut self, orders: &[Order], tries: &[Try]) {
        let orders: Vec<_> = orders.iter().cloned().map(Proven::own).collect();
        let fence = self.worker.leader.expect("somebody leads");
        self.worker.on_orders(fence.leader, &orders, self.now, &mut self.out);
        self.worker.on_assign(fence.leader, fence, tries.to_vec(), self.now, &mut self.out);
    }

    fn end(&mut self, task: Try, exit: Exit, ran_ms: u64) {
        let ran = Duration::from_millis(ran_ms);
        self.worker.on_ended(task, exit, wrote("hot"), Excerpt::default(), ran, self.now, &mut self.out);
    }

    fn cancel(&mut self, number: u64) {
        let cancel = Proven::own(Cancel { order: key(number), expired: false });
        self.worker.on_cancels(peer(LEADER), &[cancel], self.now, &mut self.out);
    }

    fn close_orders(&mut self, first: u64, last: u64) {
        let closing = Closing { orderer: peer(ORDERER), epoch: Epoch(7), closed: Ranges::of(first, last), ends: Vec::new() };
        self.worker.on_closing(&closing, &mut self.out);
    }

    /// Ends the batch; what it did.
    fn done(&mut self) -> Vec<Effect> {
        self.worker.tick(self.now, &mut self.out);
        self.worker.close(|_| None, self.now, &mut self.out);
        assert!(self.worker.deadline().is_none_or(|at| at > self.now.mono), "a deadline is in the past");
        std::mem::take(&mut self.out.effects)
    }

    /// Ends the batch; it did this and nothing else.
    #[track_caller]
    fn expect(&mut self, effects: &[Effect]) {
        assert_eq!(self.done(), effects);
    }

    /// Runs the first attempts of orders 1 to `count`, and forgets that it was told.
    fn running(&mut self, service: &str, count: u64) {
        let orders: Vec<Order> = (1..=count).map(|number| order(number, service)).collect();
        self.assign(&orders, &(1..=count).map(first).collect::<Vec<_>>());
        self.done();
        self.wait(10);
        self.done();
    }

    fn report(&self, of: Try, ended: Ended, ran_ms: u64) -> Report {
        let stdout = if matches!(ended, Ended::Cancelled) && ran_ms == 0 { Excerpt::default() } else { wrote("hot") };
        let started_at = self.now.wall.before(Duration::from_millis(ran_ms));
        Report { of, worker: peer(ME), ended, stdout, stderr: Excerpt::default(), started_at, ended_at: self.now.wall, ran_ms }
    }
}

fn say(to: u8, work: Work) -> Effect {
    Effect::Send { to: peer(to), say: Box::new(Say::Work(work)) }
}

fn taken(tries: &[Try]) -> Effect {
    say(LEADER, Work::Answer { fence: fence(1, LEADER), taken: tries.to_vec(), declined: Vec::new() })
}

fn declined(task: Try, lack: Lack) -> Effect {
    say(LEADER, Work::Answer { fence: fence(1, LEADER), taken: Vec::new(), declined: vec![(task, lack)] })
}

fn working(to: u8, fence: Fence, tries: &[(Try, Option<u64>)], last: bool) -> Effect {
    let tries = tries.iter().map(|(of, running_ms)| Working { of: *of, running_ms: *running_ms }).collect();
    say(to, Work::Working { fence, tries, last })
}

fn starts(task: Try, at: u64) -> Effect {
    Effect::Store(Change::TryStarted { task, at: Timestamp(at) })
}

fn runs(task: Try) -> Effect {
    runs_of("coffee", task, 1)
}

/// Runs it, with so many of its service at once.
fn runs_of(service: &str, task: Try, at_once: u32) -> Effect {
    Effect::Run(Box::new(Run {
        task,
        service: name(service),
        at_once,
        program: Program::Command(vec!["/bin/brew".to_owned()]),
        args: vec!["latte".to_owned()],
        stdin: None,
        time_limit: Some(Duration::from_secs(60)),
        orderer: None,
    }))
}

fn stops(task: Try) -> Effect {
    Effect::Stop { task, grace: Duration::from_secs(5) }
}

fn keeps(report: &Report) -> Effect {
    Effect::Store(Change::TryEnded(Box::new(report.clone())))
}

fn drops(task: Try) -> Effect {
    Effect::Store(Change::DropTry(task))
}

fn tells(to: u8, reports: &[&Report]) -> Effect {
    say(to, Work::Reports(reports.iter().map(|report| Proven::own((*report).clone())).collect()))
}

fn broke(to: u8, task: Try, why: Broken) -> Effect {
    say(to, Work::Broken(vec![(task, why)]))
}

/// To leader and orderer, in the order in which words leave.
fn both(what: impl Fn(u8) -> Effect) -> Vec<Effect> {
    let mut both = [LEADER, ORDERER];
    both.sort_by_key(|n| peer(*n));
    both.map(what).to_vec()
}

fn all(parts: Vec<Vec<Effect>>) -> Vec<Effect> {
    parts.into_iter().flatten().collect()
}

// -- a unit, from its assignment to the end of its order

#[test]
fn a_unit_is_committed_before_it_runs_and_its_end_before_it_is_told_and_forgotten_when_its_order_closes() {
    let mut cafe = Cafe::open(vec![offering("coffee", 2)]);
    cafe.assign(&[order(1, "coffee")], &[first(1)]);
    cafe.expect(&[starts(first(1), 1_000), runs(first(1)), taken(&[first(1)])]);
    assert_eq!(cafe.out.entries, [What::UnitStarted { of: first(1) }]);
    assert_eq!(cafe.worker.load(), (1, 0));
    cafe.wait(10);
    cafe.expect(&both(|to| say(to, Work::Started(vec![first(1)]))));
    cafe.wait(490);
    cafe.end(first(1), Exit::Exited(0), 500);
    let report = cafe.report(first(1), Ended::Exited(0), 500);
    cafe.expect(&all(vec![vec![keeps(&report)], both(|to| tells(to, &[&report]))]));
    assert_eq!(cafe.out.entries[1..], [What::UnitEnded { of: first(1), ended: Ended::Exited(0) }]);
    assert!(cafe.knows(&first(1)) && cafe.worker.is_idle());
    cafe.close_orders(1, 1);
    cafe.expect(&[drops(first(1))]);
    assert!(!cafe.knows(&first(1)));
    assert_eq!(cafe.worker.deadline(), None);
}

#[test]
fn what_ends_at_once_tells_only_its_end() {
    let mut cafe = Cafe::open(vec![offering("coffee", 1)]);
    cafe.assign(&[order(1, "coffee")], &[first(1)]);
    cafe.done();
    cafe.end(first(1), Exit::Exited(3), 0);
    let report = cafe.report(first(1), Ended::Exited(3), 0);
    cafe.expect(&all(vec![vec![keeps(&report)], both(|to| tells(to, &[&report]))]));
    cafe.wait(1_000);
    cafe.expect(&[]);
}

#[test]
fn the_same_assignment_again_is_answered_again_and_never_run_twice() {
    let mut cafe = Cafe::open(vec![offering("coffee", 2)]);
    cafe.assign(&[order(1, "coffee")], &[first(1), first(1)]);
    cafe.expect(&[starts(first(1), 1_000), runs(first(1)), taken(&[first(1), first(1)])]);
    cafe.assign(&[], &[first(1)]);
    cafe.expect(&[taken(&[first(1)])]);
    cafe.end(first(1), Exit::Exited(0), 0);
    cafe.done();
    let report = cafe.report(first(1), Ended::Exited(0), 0);
    cafe.assign(&[], &[first(1)]);
    cafe.expect(&[taken(&[first(1)]), tells(LEADER, &[&report])]);
    // A later attempt of what has ended: the end is the truth.
    cafe.assign(&[], &[attempt(1, 1, LEADER, 2)]);
    cafe.expect(&[taken(&[attempt(1, 1, LEADER, 2)]), tells(LEADER, &[&report])]);
}

#[test]
fn what_runs_goes_on_under_a_new_leader_and_earlier_attempts_are_not_heeded() {
    let mut cafe = Cafe::open(vec![offering("coffee", 2)]);
    cafe.running("coffee", 1);
    cafe.wait(90);
    cafe.led_by(fence(2, NEXT_LEADER));
    cafe.expect(&[working(NEXT_LEADER, fence(2, NEXT_LEADER), &[(first(1), Some(100))], true)]);
    cafe.led_by(fence(2, NEXT_LEADER));
    cafe.expect(&[]);
    let again = attempt(1, 2, NEXT_LEADER, 2);
    cafe.assign(&[order(1, "coffee")], &[again]);
    cafe.expect(&[working(NEXT_LEADER, fence(2, NEXT_LEADER), &[(first(1), Some(100))], false)]);
    cafe.assign(&[], &[attempt(1, 1, LEADER, 0)]);
    cafe.expect(&[]);
    cafe.end(first(1), Exit::Exited(0), 100);
    let report = cafe.report(first(1), Ended::Exited(0), 100);
    let mut told = [NEXT_LEADER, ORDERER];
    told.sort_by_key(|n| peer(*n));
    cafe.expect(&all(vec![vec![keeps(&report)], told.map(|to| tells(to, &[&report])).to_vec()]));
}

#[test]
fn a_waiting_unit_takes_the_name_of_its_latest_attempt() {
    let mut cafe = short(1);
    cafe.assign(&[order(11, "coffee"), unlike(12)], &[first(11), first(12)]);
    cafe.expect(&[starts(first(11), 1_010), runs(first(11)), taken(&[first(11), first(12)])]);
    let again = attempt(12, 1, LEADER, 2);
    cafe.assign(&[], &[again]);
    cafe.expect(&[taken(&[again])]);
    cafe.end(first(11), Exit::Exited(0), 1);
    assert!(cafe.done().contains(&runs(again)));
}

// -- what is taken, and what is not

/// A café whose service was measured to be short.
fn short(limit: u32) -> Cafe {
    let mut cafe = Cafe::open(vec![offering("coffee", limit)]);
    cafe.worker.on_measured(Statistics { cores: 4, memory_bytes: 1 << 30, ..Statistics::default() });
    cafe.running("coffee", 1);
    cafe.end(first(1), Exit::Exited(0), 10);
    cafe.close_orders(1, 1);
    cafe.done();
    cafe
}

#[test]
fn only_a_service_known_to_be_short_has_units_waiting_and_they_start_in_the_order_of_acceptance() {
    let mut cafe = Cafe::open(vec![offering("coffee", 1)]);
    // As many for the slot as a leader may send at most, and one in it; and the first.
    let (next, last) = (2, 2 + u64::from(cafe.worker.config.prefetch_most));
    let orders: Vec<Order> = (1..=last + 1).map(|number| order(number, "coffee")).collect();
    cafe.assign(&orders, &[first(1), first(2)]);
    let answer = Work::Answer { fence: fence(1, LEADER), taken: vec![], declined: vec![(first(2), Lack::Full)] };
    cafe.expect(&[starts(first(1), 1_000), runs(first(1)), taken(&[first(1)]), say(LEADER, answer)]);
    cafe.end(first(1), Exit::Exited(0), 10);
    cafe.done();
    let tries: Vec<Try> = (next..=last + 1).map(first).collect();
    cafe.assign(&[], &tries);
    let (fitting, too_many) = tries.split_at(tries.len() - 1);
    let ahead = fitting.iter().flat_map(|task| [starts(*task, 1_000), runs(*task)]);
    cafe.expect(&ahead.chain([taken(fitting), declined(too_many[0], Lack::Full)]).collect::<Vec<_>>());
    assert_eq!(cafe.worker.load(), (1, cafe.worker.config.prefetch_most));
    for number in next..last {
        cafe.end(first(number), Exit::Exited(0), 10);
        cafe.done();
        let began = |number| matches!(&cafe.worker.tasks[&unit(&first(number))].stage, Stage::Running(running) if running.begun);
        assert!(began(number + 1) && (number + 2 > last || !began(number + 2)), "{number}");
    }
    // One long run makes it a long service: nothing waits any more.
    cafe.end(first(last), Exit::Exited(0), 3_000);
    cafe.done();
    let (one, other) = (last + 2, last + 3);
    cafe.assign(&[order(one, "coffee"), order(other, "coffee")], &[first(one), first(other)]);
    assert!(cafe.done().contains(&declined(first(other), Lack::Full)));
}

#[test]
fn what_is_lacking_is_said_exactly() {
    let mut coffee = offering("coffee", 1);
    coffee.card.allowed = Allowed::Peers(BTreeSet::from([peer(ORDERER)]));
    coffee.software = BTreeSet::from(["grinder".to_owned()]);
    let mut private = offering("private", 1);
    private.card.allowed = Allowed::Peers(BTreeSet::from([peer(LEADER)]));
    let mut cafe = Cafe::open(vec![coffee, private]);
    let needing = |number, needs| Order { needs, ..order(number, "coffee") };
    let software = |word: &str| Needs { software: BTreeSet::from([word.to_owned()]), ..Needs::default() };
    // Before the machine was measured nothing is too much; such work is given back if it turns out to be.
    cafe.assign(&[needing(1, taking(64, 1 << 50))], &[first(1)]);
    cafe.expect(&[starts(first(1), 1_000), runs(first(1)), taken(&[first(1)])]);
    cafe.end(first(1), Exit::Exited(0), 100);
    cafe.close_orders(1, 1);
    cafe.done();
    cafe.worker.on_measured(Statistics { cores: 4, memory_bytes: 1 << 30, ..Statistics::default() });
    let mut check = |order: Order, lack: Lack| {
        let task = first(order.number);
        cafe.assign(&[order], &[task]);
        cafe.expect(&[declined(task, lack)]);
    };
    check(order(2, "tea"), Lack::NotOffered);
    check(order(3, "private"), Lack::NotAllowed);
    check(needing(4, taking(5, 0)), Lack::Cores(4));
    check(needing(5, taking(u32::MAX, u64::MAX)), Lack::Cores(4));
    check(needing(6, taking(0, (1 << 30) + 1)), Lack::Memory(1 << 30));
    check(needing(7, software("kettle")), Lack::Software("kettle".to_owned()));
    check(Order { once: true, ..order(8, "coffee") }, Lack::NotOffered);
    cafe.assign(&[], &[first(9)]);
    cafe.expect(&[]);
    cafe.wait(50);
    cafe.expect(&[declined(first(9), Lack::NoOrder)]);
    cafe.assign(&[order(9, "coffee")], &[Try { unit: 2, ..first(9) }, Try { unit: 0, ..first(9) }]);
    assert_eq!(cafe.worker.load(), (0, 0), "units that the order does not have");
    cafe.done();
    for lack in [Lack::NotAvailable, Lack::Disk] {
        cafe.worker.set_closed(Some(lack.clone()), cafe.now);
        cafe.assign(&[], &[first(9)]);
        cafe.expect(&[declined(first(9), lack)]);
    }
    cafe.worker.set_closed(None, cafe.now);
    cafe.worker.drain(true, &mut cafe.out);
    cafe.worker.drain(true, &mut cafe.out);
    cafe.assign(&[], &[first(9)]);
    cafe.expect(&[Effect::Store(Change::Drain(true)), declined(first(9), Lack::Draining)]);
    cafe.worker.drain(false, &mut cafe.out);
    cafe.assign(&[needing(10, software("grinder"))], &[first(10)]);
    cafe.expect(&[Effect::Store(Change::Drain(false)), starts(first(10), 1_050), runs(first(10)), taken(&[first(10)])]);
}

#[test]
fn cores_and_memory_are_accounted_across_services() {
    let mut tea = offering("tea", 4);
    tea.card.needs = taking(2, 0);
    let mut cafe = Cafe::open(vec![offering("coffee", 4), tea]);
    cafe.worker.on_measured(Statistics { cores: 4, memory_bytes: 100, ..Statistics::default() });
    let order = |number, service: &str, needs| Order { needs, ..order(number, service) };
    cafe.assign(&[order(1, "tea", taking(3, 0)), order(2, "coffee", taking(0, 80))], &[first(1), first(2)]);
    cafe.done();
    let free = cafe.worker.availability(&name("tea"), &Needs::default(), &peer(ORDERER));
    assert_eq!((free.cores, free.memory_bytes, free.available, free.why), ((4, 1), (100, 20), false, Some(Lack::Busy)));
    cafe.assign(&[order(3, "tea", Needs::default()), order(4, "coffee", taking(0, 21))], &[first(3)]);
    cafe.expect(&[declined(first(3), Lack::Busy)]);
    cafe.assign(&[], &[first(4)]);
    cafe.expect(&[declined(first(4), Lack::Busy)]);
    cafe.end(first(1), Exit::Exited(0), 1_000);
    cafe.assign(&[], &[first(3)]);
    assert!(cafe.done().contains(&runs_of("tea", first(3), 1)));
}

#[test]
fn a_big_unit_that_waits_is_not_passed_by_small_ones_that_came_later() {
    let mut cafe = short(4);
    cafe.worker.on_measured(Statistics { cores: 4, memory_bytes: 100, ..Statistics::default() });
    let needing = |number, cores| Order { needs: taking(cores, 0), ..order(number, "coffee") };
    cafe.assign(&[needing(11, 3), needing(12, 4), needing(13, 1)], &[first(11), first(12), first(13)]);
    cafe.expect(&[starts(first(11), 1_010), runs(first(11)), taken(&[first(11), first(12), first(13)])]);
    cafe.end(first(11), Exit::Exited(0), 5);
    let effects = cafe.done();
    assert!(effects.contains(&runs(first(12))) && !effects.contains(&runs(first(13))));
    cafe.end(first(12), Exit::Exited(0), 5);
    assert!(cafe.done().contains(&runs(first(13))));
}

#[test]
fn availability_says_what_an_assignment_would_get() {
    let mut cafe = Cafe::open(vec![offering("coffee", 1)]);
    let ask = |cafe: &Cafe, service: &str| cafe.worker.availability(&name(service), &Needs::default(), &peer(ORDERER));
    let free = ask(&cafe, "coffee");
    assert_eq!((free.available, free.remaining, free.eta_ms, free.basis), (true, 0, Some(0), 0));
    cafe.running("coffee", 1);
    let busy = ask(&cafe, "coffee");
    assert_eq!((busy.available, busy.why, busy.remaining, busy.eta_ms, busy.basis), (false, Some(Lack::Full), 1, None, 0));
    cafe.end(first(1), Exit::Exited(0), 2_000);
    cafe.assign(&[order(2, "coffee")], &[first(2)]);
    cafe.done();
    let busy = ask(&cafe, "coffee");
    assert_eq!((busy.why, busy.eta_ms, busy.basis, busy.running, busy.limit), (Some(Lack::Full), Some(2_000), 1, 1, 1));
    assert_eq!(ask(&cafe, "tea").why, Some(Lack::NotOffered));
    assert_eq!(cafe.worker.status().offers.iter().map(|(_, running, waiting)| (*running, *waiting)).collect::<Vec<_>>(), [(1, 0)]);
}

#[test]
fn room_for_a_report_is_reserved_before_a_unit_is_taken_and_excerpts_that_were_told_make_room() {
    let mut cafe = Cafe::open(vec![offering("coffee", 4)]);
    let big = || Excerpt { bytes: ByteBuf::from(vec![b'x'; limits::EXCERPT_BYTES]), total: 1 << 20, kept: 1 << 20 };
    let fill = |cafe: &mut Cafe| {
        let mut ended = 0;
        for number in 1..5_000 {
            cafe.assign(&[order(number, "coffee")], &[first(number)]);
            let effects = cafe.done();
            if effects.contains(&declined(first(number), Lack::Full)) {
                return ended;
            }
            assert!(effects.contains(&runs(first(number))), "{number}");
            cafe.worker.on_ended(first(number), Exit::Exited(0), big(), big(), Duration::from_secs(1), cafe.now, &mut cafe.out);
            cafe.done();
            ended += 1;
        }
        ended
    };
    cafe.worker.on_unreachable(peer(ORDERER));
    assert_eq!(fill(&mut cafe), 4_096, "256 MiB of excerpts, 64 KiB each");
    cafe.worker.on_reachable(peer(ORDERER), cafe.now);
    for _ in 0..70 {
        cafe.done();
        cafe.wait(200);
    }
    // All were told: the oldest excerpt goes, on the disk too; how it ended stays.
    cafe.assign(&[], &[first(4_097)]);
    let effects = cafe.done();
    let cut = |effect: &Effect| matches!(effect, Effect::Store(Change::TryEnded(report)) if report.of == first(1) && report.stdout.bytes.is_empty() && report.stdout.total == 1 << 20 && report.ended == Ended::Exited(0));
    assert!(effects.iter().any(cut) && effects.contains(&runs(first(4_097))));
}

// -- how units end

#[test]
fn each_end_is_a_report_or_the_end_of_an_attempt_and_never_both() {
    let stop = [None, Some(Stop::Leaving), Some(Stop::Superseded), Some(Stop::Cancelled), Some(Stop::Closed)];
    let check =
        |exit: Exit, expected: [Result<Ended, Broken>; 5]| assert_eq!(stop.map(|stop| end(stop, None, exit.clone())), expected, "{exit:?}");
    let gone = Err(Broken::Superseded);
    let truth = |ended: Ended| [Ok(ended.clone()), Ok(ended.clone()), gone.clone(), Ok(ended), gone.clone()];
    check(Exit::Exited(7), truth(Ended::Exited(7)));
    check(Exit::TimedOut, truth(Ended::TimedOut));
    let stopped = |alone| [Err(alone), Err(Broken::Stopping), Err(Broken::Superseded), Ok(Ended::Cancelled), Err(Broken::Superseded)];
    check(Exit::Killed(9), stopped(Broken::Killed(9)));
    check(Exit::Stopped, stopped(Broken::Stopping));
    let no = || Ok(Ended::NotStarted("no such file".to_owned()));
    check(Exit::NotStarted("no such file".to_owned()), [no(), Err(Broken::Stopping), gone.clone(), no(), gone]);
    let long = end(None, None, Exit::NotStarted("é".repeat(1_000)));
    assert_eq!(long, Ok(Ended::NotStarted("é".repeat(256))));
}

#[test]
fn a_killed_process_ends_its_attempt_and_the_next_one_may_run_here() {
    let mut cafe = Cafe::open(vec![offering("coffee", 1)]);
    cafe.running("coffee", 1);
    cafe.end(first(1), Exit::Killed(9), 10);
    cafe.expect(&all(vec![vec![drops(first(1))], both(|to| broke(to, first(1), Broken::Killed(9)))]));
    cafe.assign(&[], &[first(1)]);
    cafe.expect(&[broke(LEADER, first(1), Broken::Killed(9))]);
    let again = attempt(1, 1, LEADER, 2);
    cafe.assign(&[], &[again]);
    cafe.expect(&[
        starts(again, 1_010),
        runs(again),
        say(LEADER, Work::Answer { fence: fence(1, LEADER), taken: vec![again], declined: vec![] }),
    ]);
    cafe.assign(&[], &[first(1)]);
    cafe.expect(&[]);
}

#[test]
fn a_cancel_ends_what_waits_at_once_and_stops_what_runs_once() {
    let mut cafe = short(1);
    cafe.assign(&[order(11, "coffee"), unlike(12)], &[first(11), first(12)]);
    cafe.done();
    cafe.cancel(11);
    cafe.cancel(12);
    let waiting = cafe.report(first(12), Ended::Cancelled, 0);
    cafe.expect(&all(vec![vec![stops(first(11)), keeps(&waiting)], both(|to| tells(to, &[&waiting]))]));
    cafe.cancel(11);
    cafe.expect(&[]);
    cafe.end(first(11), Exit::Stopped, 10);
    let running = Report { started_at: Timestamp(1_010), ..cafe.report(first(11), Ended::Cancelled, 10) };
    cafe.expect(&all(vec![vec![keeps(&running)], both(|to| tells(to, &[&running]))]));
    // A cancelled order's unit that is assigned late is not begun.
    cafe.assign(&[Order { items: vec!["a".to_owned(), "b".to_owned()], ..order(13, "coffee") }], &[]);
    cafe.cancel(13);
    let second = Try { unit: 2, ..first(13) };
    cafe.assign(&[], &[second]);
    let late = cafe.report(second, Ended::Cancelled, 0);
    let told = both(|to| tells(to, &[&late]));
    let at = usize::from(told[0] != tells(LEADER, &[&late]));
    let mut expected = all(vec![vec![keeps(&late)], told]);
    expected.insert(1 + at, taken(&[second]));
    cafe.expect(&expected);
}

#[test]
fn what_the_leader_does_not_want_any_more_is_stopped_without_a_report() {
    let mut cafe = Cafe::open(vec![offering("coffee", 1)]);
    cafe.running("coffee", 1);
    cafe.worker.on_superseded(peer(ORDERER), &[first(1)], cafe.now, &mut cafe.out);
    cafe.worker.on_superseded(peer(LEADER), &[attempt(1, 1, LEADER, 2), first(9)], cafe.now, &mut cafe.out);
    cafe.expect(&[]);
    cafe.worker.on_superseded(peer(LEADER), &[first(1)], cafe.now, &mut cafe.out);
    cafe.worker.on_superseded(peer(LEADER), &[first(1)], cafe.now, &mut cafe.out);
    cafe.expect(&[stops(first(1))]);
    // While it is being stopped it must not run a second time.
    cafe.assign(&[], &[attempt(1, 1, LEADER, 2)]);
    cafe.expect(&[declined(attempt(1, 1, LEADER, 2), Lack::Busy)]);
    cafe.end(first(1), Exit::Exited(0), 10);
    cafe.expect(&all(vec![vec![drops(first(1))], both(|to| broke(to, first(1), Broken::Superseded))]));
}

#[test]
fn a_closed_order_is_stopped_and_nothing_of_it_stays() {
    let mut cafe = short(1);
    cafe.assign(&[order(11, "coffee"), unlike(12)], &[first(11), first(12)]);
    cafe.done();
    cafe.close_orders(1, 12);
    cafe.expect(&all(vec![vec![stops(first(11))], both(|to| broke(to, first(12), Broken::Superseded))]));
    cafe.cancel(11);
    cafe.end(first(11), Exit::Stopped, 10);
    cafe.expect(&all(vec![vec![drops(first(11))], both(|to| broke(to, first(11), Broken::Superseded))]));
    assert!(cafe.worker.is_idle());
    assert_eq!(cafe.worker.reports.all_broken().count(), 0);
    cafe.assign(&[], &[first(11)]);
    cafe.wait(50);
    cafe.expect(&[declined(first(11), Lack::NoOrder)]);
}

#[test]
fn an_assignment_that_overtakes_its_order_waits_for_it_a_moment() {
    let mut cafe = Cafe::open(vec![offering("coffee", 2)]);
    cafe.assign(&[], &[first(1), first(2)]);
    cafe.assign(&[], &[first(1)]);
    cafe.expect(&[]);
    cafe.wait(49);
    cafe.assign(&[order(1, "coffee")], &[]);
    cafe.expect(&[starts(first(1), 1_049), runs(first(1)), taken(&[first(1)])]);
    cafe.wait(1);
    cafe.expect(&[declined(first(2), Lack::NoOrder)]);
    // Another leader's are its own to send again.
    cafe.assign(&[], &[first(3)]);
    cafe.done();
    cafe.led_by(fence(2, 9));
    cafe.assign(&[order(3, "coffee")], &[]);
    cafe.wait(50);
    assert_eq!(cafe.worker.load(), (1, 0));
}

#[test]
fn a_node_that_stops_in_order_gives_back_what_waits_and_stops_what_runs() {
    let mut cafe = short(1);
    cafe.assign(&[order(11, "coffee"), unlike(12)], &[first(11), first(12)]);
    cafe.done();
    cafe.worker.leave(cafe.now, &mut cafe.out);
    cafe.expect(&all(vec![vec![stops(first(11))], both(|to| broke(to, first(12), Broken::Stopping))]));
    cafe.assign(&[order(13, "coffee")], &[first(13)]);
    cafe.expect(&[declined(first(13), Lack::NotAvailable)]);
    assert!(!cafe.worker.is_idle());
    cafe.end(first(11), Exit::Stopped, 10);
    cafe.expect(&all(vec![vec![drops(first(11))], both(|to| broke(to, first(11), Broken::Stopping))]));
    assert!(cafe.worker.is_idle());
}

#[test]
fn a_node_that_stops_begins_nothing_of_what_was_started_ahead() {
    let mut cafe = one_ahead_and_one_waiting();
    cafe.worker.leave(cafe.now, &mut cafe.out);
    let effects = cafe.done();
    let at =
        |wanted: &Effect| effects.iter().position(|effect| effect == wanted).unwrap_or_else(|| panic!("{wanted:?} is not in {effects:?}"));
    assert!(at(&Effect::TakeBack { task: first(12) }) < at(&stops(first(11))), "or it would take that one's slot");
    cafe.end(first(12), Exit::Stopped, 0);
    cafe.end(first(11), Exit::Stopped, 10);
    let effects = cafe.done();
    assert!(cafe.worker.is_idle() && effects.contains(&drops(first(11))) && effects.contains(&drops(first(12))), "{effects:?}");
}

#[test]
fn arguments_that_no_program_can_be_given_are_not_made() {
    let mut cafe = Cafe::open(vec![offering("coffee", 4)]);
    let with = |number, args: Vec<String>, item: usize| Order { args, items: vec!["x".repeat(item)], ..order(number, "coffee") };
    let orders = [with(1, vec!["{}{}".to_owned()], 100_000), with(2, vec!["{} {}".to_owned()], 50_000)];
    assert!(orders.iter().all(Order::within_limits));
    cafe.assign(&orders, &[first(1), first(2)]);
    let effects = cafe.done();
    let not_started = |number| {
        let of = first(number);
        let told = |effect: &&Effect| matches!(effect, Effect::Store(Change::TryEnded(report)) if report.of == of && matches!(report.ended, Ended::NotStarted(_)));
        effects.iter().filter(told).count()
    };
    assert_eq!([not_started(1), not_started(2)], [1, 0]);
    assert_eq!(cafe.worker.load(), (1, 0));
}

#[test]
fn progress_is_told_at_most_five_times_a_second_and_the_latest_counts() {
    let mut cafe = Cafe::open(vec![offering("coffee", 1)]);
    cafe.assign(&[order(1, "coffee")], &[first(1)]);
    cafe.done();
    let progress = |done| Progress { of: first(1), done, total: 10, note: "cups".to_owned() };
    let say_so = |cafe: &mut Cafe, done| cafe.worker.on_progressed(first(1), done, 10, "cups".to_owned(), cafe.now);
    say_so(&mut cafe, 1);
    // Nobody is told of the progress of what they do not know to run.
    cafe.expect(&all(both(|to| say(to, Work::Started(vec![first(1)])))
        .into_iter()
        .zip(both(|to| say(to, Work::Progress(vec![progress(1)]))))
        .map(|(a, b)| vec![a, b])
        .collect()));
    for done in 2..9 {
        say_so(&mut cafe, done);
        cafe.wait(20);
        cafe.expect(&[]);
    }
    assert_eq!(cafe.worker.deadline(), Some(Duration::from_millis(100_200)));
    cafe.wait(60);
    cafe.expect(&both(|to| say(to, Work::Progress(vec![progress(8)]))));
    say_so(&mut cafe, 9);
    cafe.end(first(1), Exit::Exited(0), 200);
    cafe.done();
    cafe.wait(1_000);
    cafe.expect(&[]);
    cafe.worker.on_progressed(first(7), 1, 2, String::new(), cafe.now);
    cafe.expect(&[]);
}

// -- who is told what, and when again

#[test]
fn after_a_crash_the_next_leader_hears_what_ended_and_then_what_came_to_nothing() {
    let before = Cafe::new(vec![offering("coffee", 2)]);
    let report = before.report(first(1), Ended::Exited(0), 5);
    let mut cafe = Cafe::after(vec![offering("coffee", 2)], vec![(first(2), Timestamp(5))], vec![report.clone()]);
    cafe.worker.on_reachable(peer(ORDERER), cafe.now);
    cafe.expect(&[tells(ORDERER, &[&report])]);
    cafe.led_by(fence(2, LEADER));
    let to_leader = |effects: &mut Vec<Effect>| {
        effects.push(tells(LEADER, &[&report]));
        effects.push(broke(LEADER, first(2), Broken::Crashed));
        effects.push(working(LEADER, fence(2, LEADER), &[], true));
    };
    let mut expected = vec![drops(first(2))];
    let mut order = [LEADER, ORDERER];
    order.sort_by_key(|n| peer(*n));
    for to in order {
        if to == LEADER { to_leader(&mut expected) } else { expected.push(broke(ORDERER, first(2), Broken::Crashed)) }
    }
    cafe.expect(&expected);
    // The attempt that crashed is not begun again; the next one is.
    cafe.assign(&[order_of_two()], &[first(2)]);
    cafe.expect(&[broke(LEADER, first(2), Broken::Crashed)]);
    let again = attempt(2, 2, LEADER, 2);
    cafe.assign(&[], &[again]);
    assert!(cafe.done().contains(&runs(again)));
}

fn order_of_two() -> Order {
    order(2, "coffee")
}

#[test]
fn a_long_list_of_reports_goes_in_steps_and_the_leader_hears_what_runs_only_after_them() {
    let big = Excerpt { bytes: ByteBuf::from(vec![b'x'; limits::EXCERPT_BYTES]), total: 1 << 20, kept: 1 << 20 };
    let blank = Cafe::new(Vec::new());
    let ended = (1..=300).map(|number| Report { stdout: big.clone(), ..blank.report(first(number), Ended::Exited(0), 5) }).collect();
    let mut cafe = Cafe::after(Vec::new(), Vec::new(), ended);
    cafe.led_by(fence(1, LEADER));
    let (mut told, mut steps) = (0, 0);
    loop {
        let (mut bytes, mut whole) = (0, false);
        for effect in cafe.done() {
            let Effect::Send { say, .. } = effect else { panic!("{effect:?}") };
            match *say {
                Say::Work(Work::Reports(reports)) => {
                    told += reports.len();
                    bytes += reports.iter().map(|report| report.body.len()).sum::<usize>();
                }
                Say::Work(Work::Working { last, .. }) => whole = last,
                other => panic!("{other:?}"),
            }
        }
        assert!(bytes < 5 << 20);
        steps += 1;
        if whole {
            break;
        }
        let due = cafe.worker.deadline().expect("there is more");
        cafe.now.mono = due;
    }
    assert_eq!((told, steps), (300, 3));
    assert_eq!(cafe.worker.deadline(), None);
}

#[test]
fn what_could_not_be_sent_goes_again_later_and_later() {
    let mut cafe = Cafe::open(vec![offering("coffee", 2)]);
    cafe.running("coffee", 2);
    cafe.wait(200);
    cafe.end(first(1), Exit::Exited(0), 210);
    cafe.done();
    let report = cafe.report(first(1), Ended::Exited(0), 210);
    let mut waits = Vec::new();
    for _ in 0..9 {
        cafe.worker.on_send_failed(peer(ORDERER), cafe.now);
        cafe.worker.on_send_failed(peer(ORDERER), cafe.now);
        cafe.expect(&[]);
        let due = cafe.worker.deadline().expect("it goes again");
        waits.push((due - cafe.now.mono).as_millis());
        cafe.now.mono = due;
        cafe.expect(&[say(ORDERER, Work::Started(vec![first(2)])), tells(ORDERER, &[&report])]);
    }
    assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000]);
    let due = cafe.worker.deadline();
    cafe.worker.on_send_failed(peer(NEXT_LEADER), cafe.now);
    assert_eq!(cafe.worker.deadline(), due, "nothing is owed to a stranger");
    cafe.worker.on_send_failed(peer(LEADER), cafe.now);
    cafe.wait(200);
    let ran = 200 + 210 + u64::try_from(waits.iter().sum::<u128>()).expect("small");
    cafe.expect(&[tells(LEADER, &[&report]), working(LEADER, fence(1, LEADER), &[(first(2), Some(ran))], true)]);
}

#[test]
fn a_report_is_told_again_until_its_orderer_has_it_and_now_and_then_until_its_order_is_closed() {
    let mut cafe = Cafe::open(vec![offering("coffee", 2)]);
    cafe.running("coffee", 1);
    cafe.end(first(1), Exit::Exited(0), 10);
    cafe.done();
    let report = cafe.report(first(1), Ended::Exited(0), 10);
    let again = |cafe: &mut Cafe| {
        let due = cafe.worker.deadline().expect("it is told again");
        let waited = due - cafe.now.mono;
        cafe.now.mono = due;
        cafe.expect(&[tells(ORDERER, &[&report])]);
        waited.as_secs()
    };
    let waits: Vec<u64> = (0..6).map(|_| again(&mut cafe)).collect();
    assert_eq!(waits, [2, 4, 8, 16, 30, 30]);
    cafe.worker.on_reports_taken(peer(NEXT_LEADER), &[first(1)], cafe.now);
    cafe.wait(10_000);
    cafe.worker.on_reports_taken(peer(ORDERER), &[first(1)], cafe.now);
    assert_eq!(again(&mut cafe), 30, "the closing may be lost, too");
    cafe.close_orders(1, 1);
    cafe.expect(&[drops(first(1))]);
    assert_eq!(cafe.worker.deadline(), None);
}

#[test]
fn what_waits_takes_what_is_offered_when_it_starts() {
    let mut cafe = Cafe::open(vec![offering("coffee", 1)]);
    cafe.worker.on_measured(Statistics { cores: 4, memory_bytes: 1 << 30, ..Statistics::default() });
    // Short enough that others may wait here.
    cafe.running("coffee", 1);
    cafe.end(first(1), Exit::Exited(0), 1);
    cafe.done();
    let orders: Vec<Order> = [order(2, "coffee")].into_iter().chain((3..=5).map(unlike)).collect();
    cafe.assign(&orders, &(2..=5).map(first).collect::<Vec<_>>());
    cafe.done();
    let mut other = offering("coffee", 4);
    other.card.needs = taking(2, 0);
    cafe.worker.offer(other, cafe.now, &mut cafe.out).expect("within the rules");
    let runs = cafe.done().iter().filter(|effect| matches!(effect, Effect::Run(_))).count();
    assert_eq!(runs, 2, "beside the one that runs and takes nothing, two that take two of four cores each");
}

#[test]
fn who_is_away_is_told_nothing_and_everything_on_return() {
    let mut cafe = Cafe::open(vec![offering("coffee", 2)]);
    cafe.running("coffee", 2);
    cafe.worker.on_unreachable(peer(ORDERER));
    cafe.worker.on_leader(Some(fence(1, LEADER)), false, cafe.now, &mut cafe.out);
    cafe.end(first(1), Exit::Exited(0), 10);
    let report = cafe.report(first(1), Ended::Exited(0), 10);
    cafe.expect(&[keeps(&report)]);
    cafe.end(first(2), Exit::Killed(11), 10);
    cafe.expect(&[drops(first(2))]);
    cafe.worker.on_reachable(peer(LEADER), cafe.now);
    cafe.worker.on_leader(Some(fence(1, LEADER)), true, cafe.now, &mut cafe.out);
    cafe.expect(&[tells(LEADER, &[&report]), broke(LEADER, first(2), Broken::Killed(11)), working(LEADER, fence(1, LEADER), &[], true)]);
    cafe.worker.on_reachable(peer(ORDERER), cafe.now);
    cafe.expect(&[tells(ORDERER, &[&report])]);
}

#[test]
fn reports_for_an_orderer_that_is_away_go_as_letters_once() {
    let mut cafe = Cafe::open(vec![offering("coffee", 2)]);
    cafe.running("coffee", 2);
    cafe.wait(200);
    cafe.end(first(1), Exit::Exited(0), 210);
    cafe.done();
    let report = cafe.report(first(1), Ended::Exited(0), 210);
    cafe.worker.on_reports_taken(peer(ORDERER), &[first(1)], cafe.now);
    let told_again = Some(cafe.now.mono + Duration::from_secs(30));
    assert!(cafe.worker.letters_due(|_| true, cafe.now).is_empty());
    assert_eq!(cafe.worker.deadline(), told_again);
    assert!(cafe.worker.letters_due(|_| false, cafe.now).is_empty());
    assert_eq!(cafe.worker.deadline(), Some(cafe.now.mono + Duration::from_secs(2)));
    cafe.wait(1_999);
    assert!(cafe.worker.letters_due(|_| false, cafe.now).is_empty());
    cafe.wait(1);
    assert_eq!(cafe.worker.letters_due(|_| false, cafe.now), [report]);
    assert!(cafe.worker.letters_due(|_| false, cafe.now).is_empty());
    assert_eq!(cafe.worker.deadline(), told_again);
}

#[test]
fn orderer_leader_and_worker_may_be_one_and_everything_is_told_once() {
    let mut cafe = Cafe::new(vec![offering("coffee", 2)]);
    cafe.led_by(fence(1, ME));
    cafe.done();
    let words = |cafe: &mut Cafe| cafe.out.to_myself.drain(..).map(|work| work.what()).collect::<Vec<_>>();
    assert_eq!(words(&mut cafe), ["Working"]);
    let mine = Order { orderer: peer(ME), ..order(1, "coffee") };
    let task = Try { order: mine.key(), ..first(1) };
    cafe.assign(&[mine], &[task]);
    cafe.expect(&[starts(task, 1_000), runs(task)]);
    cafe.wait(10);
    cafe.expect(&[]);
    cafe.end(task, Exit::Exited(0), 10);
    let report = cafe.report(task, Ended::Exited(0), 10);
    cafe.expect(&[keeps(&report)]);
    assert_eq!(words(&mut cafe), ["Answer", "Started", "Reports"]);
    assert!(cafe.worker.letters_due(|_| false, cafe.now).is_empty());
}

// -- offers

#[test]
fn offers_are_checked_in_sentences() {
    let mut cafe = Cafe::new(Vec::new());
    let mut check = |change: &dyn Fn(&mut Offering), expected: &str| {
        let mut bad = offering("coffee", 1);
        change(&mut bad);
        let refusal = cafe.worker.offer(bad, cafe.now, &mut cafe.out).expect_err(expected);
        assert!(matches!(refusal, Refusal::Offer(_)));
        assert!(refusal.to_string().contains(expected), "{refusal}");
        assert!(cafe.worker.services().services.is_empty() && cafe.out.effects.is_empty());
    };
    check(&|it| it.card.limit = 0, "1 to 4096 at once, not 0");
    check(&|it| it.card.limit = 4_097, "not 4097");
    check(&|it| it.card.about = "x".repeat(257), "257 bytes; at most 256");
    check(&|it| it.software = (0..17).map(|n| n.to_string()).collect(), "declares 17 words");
    check(&|it| it.card.needs.software = BTreeSet::from([String::new()]), "needs software without a name");
    check(&|it| it.software = BTreeSet::from(["x".repeat(65)]), "a name of 65 bytes");
    check(&|it| it.program = Program::Command(Vec::new()), "needs a program");
    check(&|it| it.program = Program::Command(vec![String::new()]), "needs a program");
    check(&|it| it.program = Program::Command(vec!["a".to_owned(), "b\0".to_owned()]), "NUL");
    check(&|it| it.program = Program::Command(vec!["x".repeat(200_000)]), "200000 bytes");
    check(&|it| it.time_limit_ms = Some(0), "more than nothing");
    for n in 0..64 {
        cafe.worker.offer(offering(&format!("service-{n}"), 1), cafe.now, &mut cafe.out).expect("room");
    }
    assert_eq!(cafe.worker.offer(offering("one-more", 1), cafe.now, &mut cafe.out), Err(Refusal::TooManyServices { limit: 64 }));
    cafe.worker.offer(offering("service-0", 2), cafe.now, &mut cafe.out).expect("it replaces one");
    assert!(cafe.worker.services().within_limits());
}

#[test]
fn an_offer_is_stored_recorded_and_advertised_once_and_withdrawn_likewise() {
    let mut cafe = Cafe::new(Vec::new());
    let coffee = offering("coffee", 1);
    for _ in 0..2 {
        cafe.worker.offer(coffee.clone(), cafe.now, &mut cafe.out).expect("good");
    }
    cafe.expect(&[Effect::Store(Change::Offer(Box::new(coffee))), Effect::Advertise(vec![name("coffee")])]);
    assert_ne!(cafe.worker.services().digest(), 0);
    cafe.worker.withdraw(&name("coffee"), &mut cafe.out).expect("offered");
    cafe.expect(&[Effect::Store(Change::DropOffer(name("coffee"))), Effect::Advertise(Vec::new())]);
    assert_eq!(cafe.worker.withdraw(&name("coffee"), &mut cafe.out), Err(Refusal::NotOffered("coffee".to_owned())));
    assert_eq!(cafe.out.entries, [What::Offered { service: name("coffee") }, What::Withdrawn { service: name("coffee") }]);
    assert_eq!(cafe.worker.services().digest(), 0);
}

#[test]
fn a_withdrawn_service_finishes_what_runs_and_gives_back_what_waits() {
    let mut cafe = short(1);
    cafe.assign(&[order(11, "coffee"), unlike(12)], &[first(11), first(12)]);
    cafe.done();
    cafe.worker.withdraw(&name("coffee"), &mut cafe.out).expect("offered");
    let effects = [Effect::Store(Change::DropOffer(name("coffee"))), Effect::Advertise(Vec::new())];
    cafe.expect(&all(vec![effects.to_vec(), both(|to| broke(to, first(12), Broken::Stopping))]));
    cafe.end(first(11), Exit::Exited(0), 5);
    assert!(cafe.done().iter().any(|effect| matches!(effect, Effect::Store(Change::TryEnded(_)))));
    assert_eq!(cafe.worker.load(), (0, 0));
}

#[test]
fn a_lower_limit_holds_at_once_for_what_is_not_running_and_a_higher_one_starts_what_waits() {
    let mut cafe = short(2);
    let orders: Vec<Order> = [11, 12].map(|number| order(number, "coffee")).into_iter().chain([13, 14].map(unlike)).collect();
    cafe.assign(&orders, &(11..=14).map(first).collect::<Vec<_>>());
    cafe.done();
    assert_eq!(cafe.worker.load(), (2, 2));
    cafe.worker.offer(offering("coffee", 1), cafe.now, &mut cafe.out).expect("good");
    cafe.end(first(11), Exit::Exited(0), 5);
    cafe.done();
    assert_eq!(cafe.worker.load(), (1, 2));
    cafe.worker.offer(offering("coffee", 3), cafe.now, &mut cafe.out).expect("good");
    cafe.done();
    assert_eq!(cafe.worker.load(), (3, 0));
}

#[test]
fn nothing_is_started_ahead_of_a_slot_that_may_be_too_small_for_it() {
    let mut cafe = short(2);
    let needing = |number, cores| Order { needs: taking(cores, 0), ..order(number, "coffee") };
    // Two that take as much together as two that are like the third.
    cafe.assign(&[needing(11, 0), needing(12, 2), needing(13, 1)], &[first(11), first(12), first(13)]);
    let started = |effects: Vec<Effect>| effects.iter().filter(|effect| matches!(effect, Effect::Run(_))).count();
    assert_eq!((started(cafe.done()), cafe.worker.load()), (2, (2, 1)));
    cafe.end(first(12), Exit::Exited(0), 5);
    assert_eq!((started(cafe.done()), cafe.worker.load()), (1, (2, 0)));
}

#[test]
fn what_stands_in_the_configuration_still_does_when_it_was_offered_otherwise() {
    let mut cafe = Cafe::open(vec![Offering { configured: true, ..offering("coffee", 1) }]);
    cafe.worker.offer(offering("coffee", 2), cafe.now, &mut cafe.out).expect("good");
    let stored = Effect::Store(Change::Offer(Box::new(Offering { configured: true, ..offering("coffee", 2) })));
    assert!(cafe.done().contains(&stored));
}

#[test]
fn what_was_started_ahead_and_has_not_begun_is_taken_back_when_its_service_changes() {
    let mut cafe = short(1);
    cafe.assign(&[order(11, "coffee"), order(12, "coffee")], &[first(11), first(12)]);
    let started = [starts(first(11), 1_010), runs(first(11)), starts(first(12), 1_010), runs(first(12))];
    cafe.expect(&[started.to_vec(), vec![taken(&[first(11), first(12)])]].concat());
    assert_eq!(cafe.worker.load(), (1, 1));
    cafe.wait(10);
    cafe.expect(&both(|to| say(to, Work::Started(vec![first(11)]))));
    cafe.worker.offer(offering("coffee", 2), cafe.now, &mut cafe.out).expect("good");
    assert!(cafe.done().contains(&Effect::TakeBack { task: first(12) }));
    cafe.end(first(12), Exit::Stopped, 0);
    cafe.expect(&all(vec![vec![drops(first(12))], both(|to| broke(to, first(12), Broken::Superseded))]));
    assert_eq!(cafe.worker.load(), (1, 0));
}

// -- a run that takes long for once

/// A café whose service was measured to be short: one runs, one is started ahead, one waits.
fn one_ahead_and_one_waiting() -> Cafe {
    let mut cafe = short(1);
    cafe.assign(&[order(11, "coffee"), order(12, "coffee"), unlike(13)], &[first(11), first(12), first(13)]);
    cafe.done();
    assert_eq!(cafe.worker.load(), (1, 2));
    cafe.wait(10);
    cafe.expect(&both(|to| say(to, Work::Started(vec![first(11)]))));
    cafe
}

#[test]
fn what_waits_behind_a_run_that_takes_long_for_once_is_given_back_and_none_is_taken_until_it_has_ended() {
    let mut cafe = one_ahead_and_one_waiting();
    cafe.wait(189);
    cafe.expect(&[]);
    cafe.wait(1);
    cafe.expect(&all(vec![vec![Effect::TakeBack { task: first(12) }], both(|to| broke(to, first(13), Broken::Superseded))]));
    // A late copy of its assignment does not make it run, nor does what the leader sent meanwhile.
    cafe.assign(&[order(14, "coffee")], &[first(14), first(13)]);
    cafe.expect(&[declined(first(14), Lack::Full), broke(LEADER, first(13), Broken::Superseded)]);
    cafe.end(first(12), Exit::Stopped, 0);
    cafe.expect(&all(vec![vec![drops(first(12))], both(|to| broke(to, first(12), Broken::Superseded))]));
    assert_eq!((cafe.worker.load(), cafe.worker.deadline()), ((1, 0), None));
    let said = cafe.worker.availability(&name("coffee"), &Needs::default(), &peer(ORDERER));
    assert_eq!((said.why, said.remaining, said.eta_ms), (Some(Lack::Full), 1, None), "nobody knows when it ends");
    cafe.wait(60_000);
    cafe.end(first(11), Exit::Exited(0), 60_200);
    cafe.done();
    let again = attempt(13, 1, LEADER, 2);
    cafe.assign(&[], &[again]);
    assert!(cafe.done().iter().any(|effect| matches!(effect, Effect::Run(run) if run.task == again)));
}

#[test]
fn what_was_taken_back_and_had_begun_meanwhile_goes_on() {
    let mut cafe = one_ahead_and_one_waiting();
    cafe.wait(190);
    assert!(cafe.done().contains(&Effect::TakeBack { task: first(12) }));
    cafe.end(first(11), Exit::Exited(0), 200);
    cafe.done();
    assert_eq!(cafe.worker.load(), (1, 0));
    cafe.end(first(12), Exit::Exited(0), 5);
    let report = cafe.report(first(12), Ended::Exited(0), 5);
    let told = cafe.done();
    assert!(told.iter().any(|effect| matches!(effect, Effect::Store(Change::TryEnded(kept)) if kept.of == report.of)), "{told:?}");
}

#[test]
fn what_waits_stays_while_one_slot_of_its_service_goes_on() {
    let mut cafe = short(2);
    let orders: Vec<Order> = (11..=15).map(|number| order(number, "coffee")).collect();
    cafe.assign(&orders, &(11..=15).map(first).collect::<Vec<_>>());
    let taken_back = |cafe: &mut Cafe| {
        let task = |effect| if let Effect::TakeBack { task } = effect { Some(task) } else { None };
        cafe.done().into_iter().filter_map(task).collect::<Vec<Try>>()
    };
    // The first hangs; the other slot has one of 150 ms, and another.
    for (wait, ended) in [(10, None), (140, Some(12)), (60, None), (90, Some(13)), (10, None), (180, None)] {
        cafe.wait(wait);
        ended.into_iter().for_each(|number| cafe.end(first(number), Exit::Exited(0), 10));
        assert_eq!(taken_back(&mut cafe), []);
    }
    cafe.assign(&[order(16, "coffee")], &[first(16)]);
    assert_eq!((taken_back(&mut cafe), cafe.worker.load()), (vec![], (2, 2)));
    // Then that one takes long, too.
    cafe.wait(10);
    assert_eq!(taken_back(&mut cafe), [first(15), first(16)]);
    cafe.end(first(14), Exit::Exited(0), 10);
    assert_eq!((taken_back(&mut cafe), cafe.worker.load()), (vec![], (2, 1)), "it had begun before it could be taken back");
}

#[test]
fn who_drains_gives_back_what_has_not_begun() {
    let mut cafe = one_ahead_and_one_waiting();
    cafe.worker.drain(true, &mut cafe.out);
    let stored = [Effect::Store(Change::Drain(true)), Effect::TakeBack { task: first(12) }];
    cafe.expect(&all(vec![stored.to_vec(), both(|to| broke(to, first(13), Broken::Stopping))]));
    cafe.end(first(12), Exit::Stopped, 0);
    cafe.expect(&all(vec![vec![drops(first(12))], both(|to| broke(to, first(12), Broken::Stopping))]));
    assert_eq!(cafe.worker.load(), (1, 0));
}

#[test]
fn orders_of_strangers_are_not_kept_and_those_without_units_here_make_room() {
    let mut cafe = Cafe::open(vec![offering("coffee", 1)]);
    cafe.worker.on_orders(peer(ORDERER), &[Proven::own(order(1, "coffee"))], cafe.now, &mut cafe.out);
    cafe.assign(&[], &[first(1)]);
    cafe.expect(&[]);
    cafe.wait(50);
    cafe.expect(&[declined(first(1), Lack::NoOrder)]);
    cafe.running("coffee", 1);
    let heavy = |number| Order { stdin: Some(ByteBuf::from(vec![0; limits::ORDER_STDIN_BYTES])), ..order(number, "coffee") };
    for number in 2..100 {
        cafe.assign(&[heavy(number)], &[]);
    }
    assert!(cafe.worker.bodies.get(&key(1)).is_some(), "a unit of it runs here");
    assert!(cafe.worker.bodies.get(&key(2)).is_none() && cafe.worker.bodies.get(&key(99)).is_some());
}

// -- anything

/// What a disk would remember, and a machine would run.
#[derive(Default)]
struct World {
    started: BTreeMap<Try, Timestamp>,
    ended: BTreeMap<Try, Report>,
    /// Those whose orders are closed, too.
    reported: BTreeSet<Try>,
    running: BTreeMap<Try, ServiceName>,
    /// Those that begin when others of their service have ended, and how many of it may run at once.
    waiting: Vec<(Try, ServiceName)>,
    at_once: BTreeMap<ServiceName, u32>,
    /// Taken back before they began.
    stopped: Vec<Try>,
    /// Taken and neither reported nor broken, as its leader sees it.
    open: BTreeSet<Try>,
    runs: u64,
    /// How many were seen to wait in `waiting` …
    ahead: usize,
    /// … and how many were taken back.
    taken_back: usize,
}

impl World {
    fn begin_waiting(&mut self) {
        let (running, at_once) = (&mut self.running, &self.at_once);
        self.waiting.retain(|(task, service)| {
            let beside = running.values().filter(|other| *other == service).count();
            let begins = beside < at_once[service] as usize;
            if begins {
                running.insert(*task, service.clone());
                self.runs += 1;
            }
            !begins
        });
    }

    fn end(&mut self, task: &Try) {
        self.running.remove(task);
        self.begin_waiting();
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in &effects {
            match effect {
                Effect::Store(Change::TryStarted { task, at }) => assert_eq!(self.started.insert(*task, *at), None),
                Effect::Store(Change::TryEnded(report)) => {
                    self.started.remove(&report.of);
                    self.reported.insert(report.of);
                    assert_eq!(self.ended.insert(report.of, (**report).clone()), None, "reported twice");
                }
                Effect::TakeBack { .. } => self.taken_back += 1,
                Effect::Store(Change::DropTry(task)) => assert!(self.started.remove(task).is_some() || self.ended.remove(task).is_some()),
                _ => {}
            }
        }
        for effect in effects {
            match effect {
                Effect::Run(run) => {
                    assert!(self.started.contains_key(&run.task), "run before it was committed");
                    let mut others = self.running.keys().chain(self.waiting.iter().map(|(other, _)| other));
                    assert!(others.all(|other| unit(other) != unit(&run.task)), "two runs of one unit");
                    self.at_once.insert(run.service.clone(), run.at_once);
                    self.waiting.push((run.task, run.service));
                    self.begin_waiting();
                }
                Effect::Stop { task, .. } | Effect::TakeBack { task } => {
                    let before = self.waiting.len();
                    self.waiting.retain(|(waiting, _)| *waiting != task);
                    self.stopped.extend((self.waiting.len() < before).then_some(task));
                }
                Effect::Send { say, to } if to == peer(LEADER) => match *say {
                    // Of two attempts of a unit that were taken it is the later that goes on.
                    Say::Work(Work::Answer { taken, .. }) => {
                        for task in taken {
                            self.open.retain(|open| unit(open) != unit(&task) || open.attempt > task.attempt);
                            self.open.insert(task);
                        }
                    }
                    Say::Work(Work::Reports(reports)) => {
                        for report in reports {
                            assert!(self.reported.contains(&report.value.of), "told before it was committed");
                            self.open.retain(|open| unit(open) != unit(&report.value.of));
                        }
                    }
                    Say::Work(Work::Broken(broken)) => broken.iter().for_each(|(task, _)| {
                        self.open.remove(task);
                    }),
                    // What is not on the list came to nothing; what is goes on under its own name.
                    Say::Work(Work::Working { tries, last, .. }) => {
                        for working in &tries {
                            self.open.retain(|open| unit(open) != unit(&working.of));
                            self.open.insert(working.of);
                        }
                        if last {
                            self.open.retain(|open| tries.iter().any(|working| working.of == *open));
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }
}

#[test]
fn whatever_comes_limits_hold_no_unit_runs_twice_at_once_and_every_unit_taken_ends_once() {
    let (mut ahead, mut taken_back) = (0, 0);
    for seed in 0..40 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let offers = || {
            vec![
                offering("coffee", 2),
                Offering { card: ServiceCard { needs: taking(2, 0), ..offering("tea", 3).card }, ..offering("tea", 3) },
            ]
        };
        let limits = BTreeMap::from([(name("coffee"), 2), (name("tea"), 3)]);
        let services: BTreeMap<u64, ServiceName> = (1..=12).map(|n| (n, name(if n % 3 == 0 { "tea" } else { "coffee" }))).collect();
        // Of the same service some take more than others.
        let cores_of = |number: u64| if services[&number] == name("tea") { 2 } else { u32::from(number.is_multiple_of(2)) * 2 };
        let of = |number: u64| Order {
            items: vec!["a".to_owned(), "b".to_owned()],
            service: services[&number].clone(),
            needs: taking(cores_of(number), 0),
            ..order(number, "coffee")
        };
        let mut cafe = Cafe::open(offers());
        let measured = Statistics { cores: 5, memory_bytes: 1 << 30, ..Statistics::default() };
        cafe.worker.on_measured(measured);
        let (mut world, mut latest, mut reports_told) = (World::default(), BTreeMap::<Unit, u32>::new(), 0);
        let (mut term, mut closed) = (1, 0);
        for _ in 0..800 {
            let number = u64::from(rng.next_u32() % 12) + 1;
            let dice = rng.next_u32() % 100;
            let some = |rng: &mut ChaCha8Rng, world: &World| {
                let nth = rng.next_u32() as usize % world.running.len().max(1);
                world.running.keys().nth(nth).copied()
            };
            match dice {
                0..40 => {
                    let unit_number = rng.next_u32() % 2 + 1;
                    let of_unit = (key(number), unit_number);
                    let last = latest.entry(of_unit).or_insert(1);
                    *last += u32::from(rng.next_u32() % 4 == 0);
                    let number = last.saturating_sub(rng.next_u32() % 5 / 4).max(1);
                    let task = Try { order: of_unit.0, unit: unit_number, attempt: Attempt { term, leader: peer(LEADER), number } };
                    cafe.assign(&[of(of_unit.0.number)], &[task]);
                }
                40..75 => {
                    if let Some(task) = some(&mut rng, &world) {
                        world.end(&task);
                        let exits = [
                            Exit::Exited(0),
                            Exit::Exited(1),
                            Exit::Killed(9),
                            Exit::Stopped,
                            Exit::TimedOut,
                            Exit::NotStarted("no".to_owned()),
                        ];
                        let exit = exits[rng.next_u32() as usize % 6].clone();
                        cafe.end(task, exit, u64::from(rng.next_u32() % 80));
                    }
                }
                75..78 => cafe.cancel(number),
                78..81 => {
                    if let Some(task) = some(&mut rng, &world) {
                        cafe.worker.on_superseded(peer(LEADER), &[task], cafe.now, &mut cafe.out);
                    }
                }
                81..89 => {
                    // A closed order is never ordered again in life; here its attempts go on counting.
                    closed += 1;
                    cafe.close_orders(number, number);
                    world.open.retain(|open| open.order != key(number) || world.running.contains_key(open));
                }
                89..92 => {
                    term += 1;
                    cafe.led_by(fence(term, LEADER));
                }
                92..94 => cafe.worker.on_send_failed(peer(LEADER), cafe.now),
                94..96 => {
                    cafe.worker.on_unreachable(peer(LEADER));
                    cafe.worker.on_reachable(peer(LEADER), cafe.now);
                }
                96..97 => {
                    // A crash: the batch that was not ended is lost with the rest, and the processes are killed.
                    world.running.clear();
                    world.waiting.clear();
                    let ended = world.ended.values().cloned().collect();
                    let started = world.started.iter().map(|(task, at)| (*task, *at)).collect();
                    let now = cafe.now;
                    cafe = Cafe::after(offers(), started, ended);
                    cafe.now = now;
                    cafe.worker.on_measured(measured);
                    cafe.worker.on_reachable(peer(ORDERER), cafe.now);
                    term += 1;
                    cafe.led_by(fence(term, LEADER));
                }
                97..98 => [true, false].into_iter().for_each(|draining| cafe.worker.drain(draining, &mut cafe.out)),
                _ => cafe.wait(u64::from(rng.next_u32() % 400)),
            }
            if rng.next_u32() % 3 > 0 || dice >= 40 {
                loop {
                    let effects = cafe.done();
                    reports_told += effects.iter().filter(|effect| matches!(effect, Effect::Store(Change::TryEnded(_)))).count();
                    world.perform(effects);
                    if world.stopped.is_empty() {
                        break;
                    }
                    std::mem::take(&mut world.stopped).into_iter().for_each(|task| cafe.end(task, Exit::Stopped, 0));
                }
                let cores: u32 = world.running.keys().map(|task| cores_of(task.order.number)).sum();
                for (service, limit) in &limits {
                    let running = world.running.values().filter(|running| *running == service).count();
                    assert!(running <= *limit, "seed {seed}: {running} of {service}");
                }
                assert!(cores <= 5, "seed {seed}: {cores} cores");
                let began: BTreeSet<Try> = world.running.keys().copied().collect();
                let ahead: BTreeSet<Try> = world.waiting.iter().map(|(task, _)| *task).collect();
                world.ahead += ahead.len();
                let known = |begun: bool| {
                    let is = |task: &&Task| matches!(&task.stage, Stage::Running(running) if running.begun == begun);
                    cafe.worker.tasks.values().filter(is).map(|task| task.of).collect::<BTreeSet<Try>>()
                };
                assert_eq!((began, ahead), (known(true), known(false)), "seed {seed}");
                assert_eq!(world.ended.len(), cafe.worker.reports.after(None, None, usize::MAX).0.len());
            }
        }
        // Everything ends: each unit that was taken is reported or broken, and nothing is left but reports.
        for _ in 0..200 {
            let effects = cafe.done();
            world.perform(effects);
            for task in std::mem::take(&mut world.stopped) {
                cafe.end(task, Exit::Stopped, 0);
            }
            while let Some(task) = world.running.keys().next().copied() {
                world.end(&task);
                cafe.end(task, Exit::Exited(0), 5);
            }
            cafe.wait(1_000);
        }
        assert!(world.open.is_empty(), "seed {seed}: {:?}", world.open);
        assert!(world.started.is_empty() && cafe.worker.is_idle(), "seed {seed}");
        cafe.close_orders(1, 12);
        world.perform(cafe.done());
        assert_eq!(cafe.worker.deadline(), None, "seed {seed}");
        assert!(world.ended.is_empty() && cafe.worker.reports.all_broken().next().is_none(), "seed {seed}");
        assert!(world.runs > 60 && reports_told > 30 && closed > 5, "seed {seed}: {} runs, {reports_told} reports", world.runs);
        ahead += world.ahead;
        taken_back += world.taken_back;
    }
    assert!(ahead > 100 && taken_back > 10, "{ahead} times a unit was started ahead, {taken_back} times taken back");
}

#[test]
fn an_order_takes_the_place_of_another_of_its_name_unless_that_runs_here() {
    let mut cafe = Cafe::open(vec![offering("coffee", 2)]);
    let twin = Order { args: vec!["tea".to_owned()], ..order(1, "coffee") };
    cafe.assign(std::slice::from_ref(&twin), &[]);
    cafe.assign(&[order(1, "coffee")], &[first(1)]);
    let ran = |cafe: &mut Cafe| cafe.done().into_iter().any(|effect| matches!(effect, Effect::Run(run) if run.args == ["latte"]));
    assert!(ran(&mut cafe));
    cafe.assign(&[twin], &[]);
    assert_eq!(**cafe.worker.bodies.get(&key(1)).expect("it runs here"), order(1, "coffee"));
}
