//! Random lives of an orderer, among leaders and workers whose words are lost, repeated and overtaken, and with starts in
//! between from what is on its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::tests::{attempt, coffee, peer, report};
use super::*;
use crate::effect::{Effect, Say};
use crate::now::Timestamp;
use crate::order::Ended;

/// Of 100 words, how many are lost, and how many come twice.
const LOST: u32 = 15;
const TWICE: u32 = 15;

const ME: u8 = 1;
const LEADERS: [u8; 2] = [2, 3];
const WORKERS: [u8; 3] = [3, 4, 5];

/// What is on the orderer's disk: it accepts only what may be written.
#[derive(Default)]
struct Disk {
    orders: BTreeMap<u64, Order>,
    states: BTreeMap<u64, OrderState>,
    ends: BTreeSet<(u64, u32)>,
    noticed: BTreeSet<u64>,
}

impl Disk {
    fn commit(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Store(Change::Order(order)) => {
                    assert!(self.orders.insert(order.number, (**order).clone()).is_none(), "number {} was given twice", order.number);
                }
                Effect::Store(Change::OrderState(state)) => self.write(state),
                Effect::Store(Change::UnitEnd { number, unit, .. }) => {
                    assert!(self.ends.insert((*number, *unit)), "unit {number}.{unit} ended twice");
                }
                _ => {}
            }
        }
        for effect in effects {
            match effect {
                Effect::Notify(Notice::OrderEnded { number, .. }) => assert!(self.noticed.insert(*number), "{number} ended twice"),
                Effect::Reply { answer: Answer::Placed { number, .. }, .. } => assert!(self.orders.contains_key(number)),
                _ => {}
            }
        }
    }

    fn write(&mut self, state: &OrderState) {
        let units = u64::from(self.orders[&state.number].units());
        let all = state.done.len() + state.failed.len() + state.dropped.len();
        assert!(all <= units && (state.outcome.is_none() || all == units), "{state:?}");
        if let Some(before) = self.states.insert(state.number, state.clone()) {
            assert!(before.outcome.is_none() || before == *state, "an outcome changed: {before:?} to {state:?}");
            assert!(before.done.minus(&state.done).is_empty() && before.failed.minus(&state.failed).is_empty());
            assert!(before.cancelled.is_none() || before.cancelled == state.cancelled);
        }
    }

    fn read(&self, config: &Config, now: Now) -> Orders {
        let (mut open, mut closed) = (Vec::new(), BTreeMap::<(Epoch, End), Ranges>::new());
        for (number, state) in &self.states {
            match &state.outcome {
                None => open.push((self.orders[number].clone(), state.clone())),
                Some(outcome) => drop(closed.entry((state.epoch, outcome.end)).or_default().insert(*number)),
            }
        }
        let closed = closed.into_iter().map(|((epoch, end), numbers)| (epoch, end, numbers)).collect();
        let next = self.orders.last_key_value().map_or(1, |(number, _)| number + 1);
        Orders::new(peer(ME), config, open, next, closed, now)
    }
}

/// What the leader of a term knows.
#[derive(Default)]
struct Table {
    orders: BTreeMap<OrderKey, u32>,
    cancelled: BTreeSet<OrderKey>,
    given_up: BTreeSet<(OrderKey, u32)>,
    closed: BTreeMap<Epoch, Ranges>,
}

#[derive(Default)]
struct Worker {
    running: BTreeSet<Try>,
    reports: BTreeMap<Try, Ended>,
}

struct Story {
    rng: ChaCha8Rng,
    config: Config,
    now: Now,
    disk: Disk,
    orders: Orders,
    out: Out,
    epoch: Epoch,
    term: u64,
    leader: u8,
    table: Table,
    workers: BTreeMap<u8, Worker>,
    attempts: u32,
    /// From whom, to whom.
    wire: Vec<(u8, u8, Work)>,
    calm: bool,
}

impl Story {
    fn new(seed: u64) -> Self {
        let (config, now, disk) = (Config::default(), Now { mono: Duration::ZERO, wall: Timestamp(1_000_000) }, Disk::default());
        let mut story = Story {
            rng: ChaCha8Rng::seed_from_u64(seed),
            orders: disk.read(&config, now),
            config,
            now,
            disk,
            out: Out { me: Some(peer(ME)), ..Out::default() },
            epoch: Epoch(1),
            term: 1,
            leader: 2,
            table: Table::default(),
            workers: WORKERS.into_iter().map(|worker| (worker, Worker::default())).collect(),
            attempts: 0,
            wire: Vec::new(),
            calm: false,
        };
        story.meet();
        story
    }

    fn chance(&mut self, of_hundred: u32) -> bool {
        self.rng.next_u32() % 100 < of_hundred
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.rng.next_u32()).expect("64 bits") % most.max(1)
    }

    fn fence(&self) -> Fence {
        Fence { term: self.term, leader: peer(self.leader) }
    }

    fn meet(&mut self) {
        for other in [2, 3, 4, 5] {
            self.orders.on_reachable(peer(other), self.now);
        }
        let fence = self.fence();
        self.orders.on_leader(Some(fence), self.now, &mut self.out);
    }

    /// One batch of the orderer, and a move of everyone else.
    fn step(&mut self) {
        let past = self.rng.next_u64() % 1_500;
        self.now.mono += Duration::from_millis(past);
        self.now.wall.0 += past;
        for _ in 0..self.below(8) {
            self.deliver();
        }
        if !self.calm {
            self.trouble();
        }
        self.orders.tick(self.now, &mut self.out);
        self.orders.close(self.now, &mut self.out);
        self.orders.take_ended();
        let effects = std::mem::take(&mut self.out.effects);
        if !self.calm && self.chance(3) {
            // Killed before the commit: nothing of the batch happened.
            self.restart();
        } else {
            self.disk.commit(&effects);
            for effect in effects {
                if let Effect::Send { to, say } = effect
                    && let Say::Work(work) = *say
                {
                    let to = (2..=5).find(|other| peer(*other) == to).expect("one of them");
                    self.wire.push((ME, to, work));
                }
            }
            if !self.calm && self.chance(3) {
                self.restart();
            }
        }
        self.lead();
        self.work();
    }

    fn restart(&mut self) {
        self.orders = self.disk.read(&self.config, self.now);
        self.out.effects.clear();
        self.meet();
    }

    fn trouble(&mut self) {
        if self.chance(40) {
            let items = self.below(4);
            let expires = self.chance(20).then_some(Duration::from_secs(10));
            self.orders.place(RequestId(1), NewOrder { expires, ..coffee(items) }, self.epoch, self.now, &mut self.out);
        }
        if self.chance(10) {
            let open: Vec<u64> = self.orders.views(0, 100, self.now).iter().map(|view| view.state.number).collect();
            if let Some(number) = open.get(self.below(open.len())) {
                self.orders.cancel(RequestId(2), &[*number], self.now, &mut self.out);
            }
        }
        if self.chance(2) {
            self.epoch.0 += 1;
        }
        if self.chance(3) {
            self.orders.on_leader(None, self.now, &mut self.out);
        }
        if self.chance(6) {
            let leader = self.below(LEADERS.len());
            (self.term, self.leader, self.table) = (self.term + 1, LEADERS[leader], Table::default());
        }
        let fence = self.fence();
        self.orders.on_leader(Some(fence), self.now, &mut self.out);
        if self.chance(10) {
            let other = peer(2 + u8::try_from(self.below(4)).expect("small"));
            self.orders.on_unreachable(other, self.now);
            self.orders.on_reachable(other, self.now);
        }
    }

    /// Some word arrives, or does not.
    fn deliver(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let at = self.below(self.wire.len());
        let (from, to, work) = if !self.calm && self.chance(TWICE) { self.wire[at].clone() } else { self.wire.swap_remove(at) };
        if !self.calm && self.chance(LOST) {
            if from == ME {
                self.orders.on_send_failed(peer(to), self.now);
            }
            return;
        }
        if to == ME { self.hear(peer(from), work) } else { self.tell(to, work) }
    }

    /// The orderer hears a word.
    fn hear(&mut self, from: PeerId, work: Work) {
        let (now, out) = (self.now, &mut self.out);
        match work {
            Work::Queued { fence, orders } => self.orders.on_queued(from, fence, &orders, now),
            Work::NotQueued { fence, orders } => self.orders.on_not_queued(from, fence, &orders, now),
            Work::Started(tries) => self.orders.on_started(from, &tries, now),
            Work::Reports(reports) => self.orders.on_reports(from, reports, now, out),
            Work::Broken(broken) => self.orders.on_broken(from, &broken, now),
            Work::GivenUp(units) => self.orders.on_given_up(from, units, now, out),
            Work::CancelTaken { order, running, lost } => self.orders.on_cancel_taken(from, order, &running, &lost, now, out),
            other => panic!("nobody says {other:?}"),
        }
    }

    /// A leader or worker hears a word of the orderer.
    fn tell(&mut self, to: u8, work: Work) {
        match work {
            Work::Closing(closing) => {
                let (epoch, closed) = (closing.value.epoch, &closing.value.closed);
                let ended = |key: &OrderKey| key.epoch == epoch && closed.contains(key.number);
                if to == self.leader {
                    self.table.orders.retain(|key, _| !ended(key));
                    self.table.cancelled.retain(|key| !ended(key));
                    self.table.given_up.retain(|(key, _)| !ended(key));
                    let known = self.table.closed.entry(epoch).or_default();
                    closed.iter().for_each(|(first, last)| known.insert_range(first, last));
                }
                if let Some(worker) = self.workers.get_mut(&to) {
                    worker.running.retain(|of| !ended(&of.order));
                    worker.reports.retain(|of, _| !ended(&of.order));
                }
            }
            Work::Orders(orders) if to == self.leader => {
                let full = !self.calm && self.chance(10);
                let new = orders.iter().map(|order| (order.value.key(), order.value.units())).filter(|(key, _)| !self.is_closed(key));
                let new: Vec<(OrderKey, u32)> = new.collect();
                let fence = self.fence();
                let answer = if full {
                    Work::NotQueued { fence, orders: new.into_iter().map(|(key, _)| (key, Full::Disk)).collect() }
                } else {
                    self.table.orders.extend(new.iter().copied());
                    Work::Queued { fence, orders: new.into_iter().map(|(key, _)| key).collect() }
                };
                self.wire.push((to, ME, answer));
            }
            Work::Cancels(cancels) if to == self.leader => {
                let keys: Vec<OrderKey> = cancels.iter().map(|cancel| cancel.value.order).filter(|key| !self.is_closed(key)).collect();
                self.table.cancelled.extend(keys);
            }
            _ => {}
        }
    }

    fn is_closed(&self, key: &OrderKey) -> bool {
        self.table.closed.get(&key.epoch).is_some_and(|closed| closed.contains(key.number))
    }

    /// Tries of a unit that run, or whose reports wait.
    fn tried(&self, key: OrderKey, unit: u32) -> bool {
        let of = |of: &Try| of.order == key && of.unit == unit;
        self.workers.values().any(|worker| worker.running.iter().chain(worker.reports.keys()).any(of))
    }

    /// The leader gives out what waits, and says again what is not closed.
    fn lead(&mut self) {
        let leader = self.leader;
        for (key, units) in self.table.orders.clone() {
            for unit in 1..=units {
                let idle = !self.tried(key, unit);
                if self.table.cancelled.contains(&key) || !(idle || !self.calm && self.chance(3)) || !self.chance(30) {
                    continue;
                }
                if !self.calm && self.chance(10) {
                    self.table.given_up.insert((key, unit));
                    continue;
                }
                self.attempts += 1;
                let worker = WORKERS[self.below(WORKERS.len())];
                self.workers.get_mut(&worker).expect("one of them").running.insert(attempt(key, unit, self.attempts));
            }
        }
        for key in self.table.cancelled.clone() {
            let running = (1..=4).filter(|unit| self.tried(key, *unit)).collect();
            self.wire.push((leader, ME, Work::CancelTaken { order: key, running, lost: Vec::new() }));
        }
        let given_up: Vec<_> = self.table.given_up.iter().map(|(key, unit)| (*key, *unit, "crashed".to_owned())).collect();
        if !given_up.is_empty() {
            self.wire.push((leader, ME, Work::GivenUp(given_up)));
        }
    }

    /// Workers begin, end and tell.
    fn work(&mut self) {
        for name in WORKERS {
            let mut worker = std::mem::take(self.workers.get_mut(&name).expect("one of them"));
            for of in worker.running.clone() {
                if self.chance(30) {
                    self.wire.push((name, ME, Work::Started(vec![of])));
                }
                if self.chance(if self.calm { 50 } else { 10 }) {
                    worker.running.remove(&of);
                    let cancelled = self.table.cancelled.contains(&of.order) && self.chance(50);
                    let ended = if cancelled { Ended::Cancelled } else { Ended::Exited(i32::from(self.chance(20))) };
                    worker.reports.insert(of, ended);
                } else if !self.calm && self.chance(5) {
                    worker.running.remove(&of);
                    self.wire.push((name, ME, Work::Broken(vec![(of, Broken::Crashed)])));
                }
            }
            if self.chance(40) && !worker.reports.is_empty() {
                let reports = worker.reports.iter().map(|(of, ended)| report(*of, peer(name), ended.clone())).collect();
                self.wire.push((name, ME, Work::Reports(reports)));
            }
            self.workers.insert(name, worker);
        }
    }

    /// Nobody has anything of an order left.
    fn is_over(&self) -> bool {
        let idle = self.workers.values().all(|worker| worker.running.is_empty() && worker.reports.is_empty());
        self.orders.open() == 0 && idle && self.table.orders.is_empty()
    }
}

#[test]
fn whatever_is_lost_repeated_or_forgotten_each_order_ends_once_and_everybody_learns_of_it() {
    let mut ends = BTreeSet::new();
    for seed in 0..60 {
        let mut story = Story::new(seed);
        (0..400).for_each(|_| story.step());
        story.calm = true;
        story.meet();
        let steps = (0..4_000)
            .take_while(|_| {
                !story.is_over() && {
                    story.step();
                    true
                }
            })
            .count();
        assert!(story.is_over(), "seed {seed}: {} orders are open after {steps} calm steps", story.orders.open());
        ends.extend(story.disk.states.values().filter_map(|state| state.outcome.as_ref().map(|outcome| outcome.end)));
        assert_eq!(story.disk.noticed.len(), story.disk.orders.len(), "seed {seed}");
        assert!(story.disk.states.values().all(|state| state.outcome.is_some()), "seed {seed}");
        assert_ne!(story.orders.deadline(), Some(Duration::ZERO), "seed {seed}: it would be called for ever");
    }
    assert_eq!(ends, BTreeSet::from([End::Done, End::Failed, End::Cancelled, End::Expired]), "the stories tell of every end");
}
