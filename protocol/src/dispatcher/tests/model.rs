//! Workers that play by themselves, words that are lost, restarts of everybody: whatever happens, each unit ends once.

use std::collections::VecDeque;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::config::Config;

/// A worker as the dispatcher may expect it to be: persists what it started and what ended, knows each try that it has.
struct Player {
    fake: Fake,
    fence: Fence,
    up: bool,
    linked: bool,
    orders: BTreeSet<OrderKey>,
    waiting: Vec<Try>,
    /// Since when, and until when.
    running: BTreeMap<Try, (Duration, Duration)>,
    reports: BTreeMap<Try, Proven<Report>>,
    dead: BTreeMap<Try, Broken>,
}

/// The swarm around a desk: an orderer and players.
struct World {
    rng: ChaCha8Rng,
    desk: Desk,
    players: Vec<Player>,
    /// To the dispatcher, in order per sender.
    to_desk: VecDeque<(PeerId, Work)>,
    placed: BTreeMap<OrderKey, Order>,
    queued: BTreeSet<OrderKey>,
    cancelled: BTreeSet<OrderKey>,
    confirmed: BTreeSet<OrderKey>,
    /// The one counted end of each unit.
    ends: BTreeMap<(OrderKey, u32), PeerId>,
    /// How often each unit ran to its end.
    ran: BTreeMap<(OrderKey, u32), u32>,
    closed: Ranges,
    /// Words are lost.
    faults: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = 2 + u8::try_from(rng.next_u32() % 4).expect("small");
        let fakes: Vec<Fake> = (0..count).map(|number| worker(10 + number, 1 + rng.next_u32() % 3)).collect();
        let config = Config { lost_after: Duration::from_secs(5), ..Config::default() };
        let desk = Desk::with(config, fakes.clone());
        let player = |fake| Player {
            fake,
            fence: fence(1),
            up: true,
            linked: true,
            orders: BTreeSet::new(),
            waiting: Vec::new(),
            running: BTreeMap::new(),
            reports: BTreeMap::new(),
            dead: BTreeMap::new(),
        };
        World {
            rng,
            desk,
            players: fakes.into_iter().map(player).collect(),
            to_desk: VecDeque::new(),
            placed: BTreeMap::new(),
            queued: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            ends: BTreeMap::new(),
            ran: BTreeMap::new(),
            closed: Ranges::default(),
            faults: true,
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.faults && self.rng.next_u32().is_multiple_of(one_in)
    }

    fn hear(&mut self, done: Done) {
        for (to, work) in done.said {
            // A lost word is a lost connection, or a full queue that says so.
            if self.chance(60) {
                let now = self.desk.now();
                self.desk.dispatcher.on_send_failed(to, now);
                continue;
            }
            if to == peer(ORDERER) {
                self.orderer_hears(work);
            } else if let Some(at) = self.players.iter().position(|player| player.fake.peer == to && player.up && player.linked) {
                self.player_hears(at, work);
            }
        }
    }

    fn orderer_hears(&mut self, work: Work) {
        match work {
            Work::Queued { orders, .. } => self.queued.extend(orders),
            Work::GivenUp(units) => {
                for (order, unit, _) in units {
                    self.ends.entry((order, unit)).or_insert(peer(ME));
                }
            }
            Work::CancelTaken { order, running, lost } => {
                self.confirmed.insert(order);
                if self.cancelled.contains(&order) {
                    for unit in 1..=self.placed[&order].units() {
                        if !running.contains(&unit) && !lost.contains(&unit) {
                            self.ends.entry((order, unit)).or_insert(peer(ORDERER));
                        }
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn player_hears(&mut self, at: usize, work: Work) {
        let mut declines = Vec::new();
        let mut takes = Vec::new();
        let picky = self.chance(20);
        let player = &mut self.players[at];
        match work {
            Work::Orders(orders) => player.orders.extend(orders.iter().map(|order| order.value.key())),
            Work::Assign { fence, units } => {
                assert!(fence >= player.fence, "the dispatcher's fence only rises");
                for of in units {
                    let room = player.waiting.len() + player.running.len() < player.fake.services.services[0].limit as usize;
                    if player.waiting.contains(&of) || player.running.contains_key(&of) {
                        takes.push(of);
                    } else if let Some(report) = player.reports.get(&of) {
                        self.to_desk.push_back((player.fake.peer, Work::Reports(vec![report.clone()])));
                    } else if let Some(why) = player.dead.get(&of) {
                        self.to_desk.push_back((player.fake.peer, Work::Broken(vec![(of, *why)])));
                    } else if !player.orders.contains(&of.order) {
                        declines.push((of, Lack::NoOrder));
                    } else if !room || picky {
                        declines.push((of, Lack::Full));
                    } else {
                        takes.push(of);
                        player.waiting.push(of);
                    }
                }
                let answer = Work::Answer { fence, taken: takes, declined: declines };
                self.to_desk.push_back((player.fake.peer, answer));
            }
            Work::Broken(tries) => {
                for (of, why) in tries {
                    assert_eq!(why, Broken::Superseded);
                    player.waiting.retain(|waiting| *waiting != of);
                    player.running.remove(&of);
                }
            }
            Work::Cancels(cancels) => {
                let of_these = |of: &&Try| cancels.iter().any(|cancel| cancel.value.order == of.order);
                let tries: Vec<Try> = player.waiting.iter().chain(player.running.keys()).filter(of_these).copied().collect();
                tries.into_iter().for_each(|of| self.end(at, of, Ended::Cancelled));
            }
            // `Desk::lead` answers it.
            Work::AskClosed { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, at: usize, of: Try, ended: Ended) {
        let player = &mut self.players[at];
        player.waiting.retain(|waiting| *waiting != of);
        player.running.remove(&of);
        let mut report = report(of, player.fake.peer);
        report.value.ended = ended;
        player.reports.insert(of, report.clone());
        self.to_desk.push_back((player.fake.peer, Work::Reports(vec![report.clone()])));
        let unit = (of.order, of.unit);
        self.ends.entry(unit).or_insert(report.value.worker);
        *self.ran.entry(unit).or_default() += 1;
    }

    /// What a worker tells a leader that is new to it, or it to it: reports first, then all that it is at.
    fn introduce(&mut self, at: usize) {
        let now = self.desk.mono;
        let player = &mut self.players[at];
        player.fence = fence(self.desk.term);
        let from = player.fake.peer;
        if !player.reports.is_empty() {
            self.to_desk.push_back((from, Work::Reports(player.reports.values().cloned().collect())));
        }
        let dead = player.dead.iter().map(|(of, why)| (*of, *why)).collect();
        self.to_desk.push_back((from, Work::Broken(dead)));
        let waiting = player.waiting.iter().map(|of| Working { of: *of, running_ms: None });
        let running_ms = |since: Duration| u64::try_from((now - since).as_millis()).ok();
        let running = player.running.iter().map(|(of, (since, _))| Working { of: *of, running_ms: running_ms(*since) });
        let tries = waiting.chain(running).collect();
        self.to_desk.push_back((from, Work::Working { fence: player.fence, tries, last: true }));
    }

    fn deliver(&mut self) {
        while let Some((from, work)) = self.to_desk.pop_front() {
            let linked = self.players.iter().any(|player| player.fake.peer == from && player.linked && player.up);
            if from != peer(ORDERER) && !linked {
                continue;
            }
            let done = self.desk.batch(|dispatcher, now, out| match work {
                Work::Answer { fence, taken, declined } => dispatcher.on_answer(from, fence, taken, declined, now, out),
                Work::Working { fence, tries, last } => dispatcher.on_working(from, fence, tries, last, now, out),
                Work::Started(tries) => dispatcher.on_started(from, &tries, now, out),
                Work::Reports(reports) => dispatcher.on_reports(from, &reports, now, out),
                Work::Broken(broken) => dispatcher.on_broken(from, &broken, now, out),
                other => panic!("{other:?}"),
            });
            self.hear(done);
            self.limits_hold();
        }
    }

    fn limits_hold(&self) {
        for player in &self.players {
            let card = &player.fake.services.services[0];
            let there = player.waiting.len() + player.running.len();
            assert!(there <= card.limit as usize, "a worker has {there} of {}", card.limit);
        }
    }

    fn orderer_says(&mut self) {
        let closed = self.closed.clone();
        let open = |key: &&OrderKey| !closed.contains(key.number);
        let missing: Vec<Order> =
            self.placed.keys().filter(open).filter(|key| !self.queued.contains(key)).map(|key| self.placed[key].clone()).collect();
        if !missing.is_empty() {
            let done = self.desk.orders(missing);
            self.hear(done);
        }
        let unsure: Vec<OrderKey> = self.cancelled.iter().filter(open).filter(|key| !self.confirmed.contains(key)).copied().collect();
        for key in unsure {
            let done = self.desk.cancel(key.number);
            self.hear(done);
        }
        let ended = |key: &&OrderKey| (1..=self.placed[key].units()).all(|unit| self.ends.contains_key(&(**key, unit)));
        let over: Vec<OrderKey> = self.placed.keys().filter(open).filter(ended).copied().collect();
        for key in over {
            self.closed.insert(key.number);
            for player in &mut self.players {
                player.waiting.retain(|of| of.order != key);
                player.running.retain(|of, _| of.order != key);
                player.reports.retain(|of, _| of.order != key);
                player.orders.remove(&key);
            }
        }
        if !self.closed.is_empty() {
            let closing = Closing { orderer: peer(ORDERER), epoch: Epoch(1), closed: self.closed.clone(), ends: Vec::new() };
            let done = self.desk.batch(|dispatcher, now, out| dispatcher.on_closing(&Proven::own(closing), now, out));
            self.hear(done);
        }
    }

    fn players_work(&mut self) {
        let now = self.desk.mono;
        for at in 0..self.players.len() {
            if !self.players[at].up {
                continue;
            }
            let over: Vec<Try> = self.players[at].running.iter().filter(|(_, (_, until))| *until <= now).map(|(of, _)| *of).collect();
            for of in over {
                if self.chance(40) {
                    let player = &mut self.players[at];
                    player.running.remove(&of);
                    player.dead.insert(of, Broken::Crashed);
                    self.to_desk.push_back((player.fake.peer, Work::Broken(vec![(of, Broken::Killed(9))])));
                } else {
                    self.end(at, of, Ended::Exited(0));
                }
            }
            for of in std::mem::take(&mut self.players[at].waiting) {
                // It would have waited for long.
                if self.chance(20) {
                    let player = &mut self.players[at];
                    player.dead.insert(of, Broken::Superseded);
                    self.to_desk.push_back((player.fake.peer, Work::Broken(vec![(of, Broken::Superseded)])));
                    continue;
                }
                let until = now + Duration::from_millis(u64::from(self.rng.next_u32() % 2_000));
                let player = &mut self.players[at];
                player.running.insert(of, (now, until));
                self.to_desk.push_back((player.fake.peer, Work::Started(vec![of])));
            }
        }
    }

    fn trouble(&mut self) {
        for at in 0..self.players.len() {
            let gone = self.players[at].fake.peer;
            if self.players[at].linked && self.chance(80) {
                self.players[at].linked = false;
                if self.chance(2) {
                    let player = &mut self.players[at];
                    player.up = false;
                    player.waiting.clear();
                    player.orders.clear();
                    player.dead.extend(std::mem::take(&mut player.running).into_keys().map(|of| (of, Broken::Crashed)));
                }
                let done = self.desk.lose(gone);
                self.hear(done);
            } else if !self.players[at].linked && (!self.faults || self.chance(30)) {
                (self.players[at].linked, self.players[at].up) = (true, true);
                let done = self.desk.find(gone);
                self.hear(done);
                self.introduce(at);
            }
        }
        if self.chance(100) {
            self.desk.workers = self.players.iter().filter(|player| player.linked).map(|player| player.fake.clone()).collect();
            let done = if self.rng.next_u32().is_multiple_of(2) { self.desk.restart() } else { self.desk.lead() };
            self.hear(done);
            // A new leader: everything is told again.
            self.queued.clear();
            self.confirmed.clear();
            let leader = fence(self.desk.term);
            for at in 0..self.players.len() {
                if self.players[at].linked {
                    self.introduce(at);
                }
            }
            for other in [peer(ME), peer(ORDERER)] {
                let done = self.desk.batch(|dispatcher, now, out| dispatcher.on_working(other, leader, Vec::new(), true, now, out));
                self.hear(done);
            }
        }
        self.desk.workers = self.players.iter().filter(|player| player.linked).map(|player| player.fake.clone()).collect();
    }

    fn step(&mut self) {
        self.trouble();
        if self.faults && self.placed.len() < 40 && self.rng.next_u32().is_multiple_of(3) {
            let number = self.placed.len() as u64 + 1;
            let units = [1, 1, 1, 7][self.rng.next_u32() as usize % 4];
            let priority = [Priority::Front, Priority::Middle, Priority::End][self.rng.next_u32() as usize % 3];
            let order = Order { priority, ..of_units(number, units) };
            self.placed.insert(order.key(), order);
            if self.chance(6) {
                self.cancelled.insert(key(number));
            }
        }
        self.orderer_says();
        self.players_work();
        self.deliver();
        let done = self.desk.wait(Duration::from_millis(100));
        self.hear(done);
        self.deliver();
        self.limits_hold();
    }
}

#[test]
fn whatever_is_lost_and_restarted_each_unit_gets_one_end_and_everything_ends() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        (0..400).for_each(|_| world.step());
        world.faults = false;
        let mut steps = 0;
        while world.closed.len() < world.placed.len() as u64 {
            world.step();
            steps += 1;
            assert!(
                steps < 2_000,
                "SEED={seed}: {:?} are open",
                world.placed.keys().filter(|key| !world.closed.contains(key.number)).count()
            );
        }
        world.step();
        assert_eq!(world.desk.dispatcher.orders(), 0, "SEED={seed}");
        assert_eq!(world.desk.dispatcher.workers.in_flight(), 0, "SEED={seed}");
        assert!(world.desk.queue.is_empty(), "SEED={seed}: the disk has forgotten them too");
        let twice = world.ran.values().filter(|times| **times > 1).count();
        assert!(twice * 5 < world.ran.len(), "SEED={seed}: {twice} of {} units ran more than once", world.ran.len());
    }
}
