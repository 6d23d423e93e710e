//! One dispatcher among workers that are played by hand; `model` has workers that play by themselves.

use std::collections::BTreeSet;

use super::*;
use crate::bundle::Secrets;
use crate::config::limits;
use crate::effect::{Effect, Say};
use crate::now::Timestamp;
use crate::order::{Attempt, Broken, Closing, End, Ended, Excerpt, FORGOTTEN, Report};
use crate::service::{Allowed, Lack, Needs, ServiceCard};
use crate::work::{OrdersOf, PlacedState, UnitsOf, Work, Working};

mod model;
mod priorities;
mod requirements;
mod standbys;
mod terms;
mod troubles;

/// A peer of that number.
pub(super) fn peer(number: u8) -> PeerId {
    Secrets::from_seeds(&[number; 32], &[number; 32]).id()
}

/// The dispatcher's own node in all tests.
const ME: u8 = 1;
/// Who orders, where not said otherwise.
const ORDERER: u8 = 2;

fn fence(term: u64) -> Fence {
    Fence { term, leader: peer(ME) }
}

/// A worker with everything that a test may want to change.
#[derive(Clone)]
struct Fake {
    peer: PeerId,
    services: Services,
    statistics: Statistics,
    welcomes: bool,
    inactive: bool,
}

impl Fake {
    fn view(&self) -> WorkerView<'_> {
        WorkerView {
            peer: self.peer,
            services: &self.services,
            statistics: self.statistics,
            welcomes: self.welcomes,
            inactive: self.inactive,
        }
    }
}

/// A worker of one service.
fn worker(number: u8, limit: u32) -> Fake {
    worker_of("coffee", peer(number), limit)
}

fn worker_of(service: &str, peer: PeerId, limit: u32) -> Fake {
    let services = vec![card(service, limit)];
    Fake {
        peer,
        services: Services { services, software: BTreeSet::new(), draining: false },
        statistics: Statistics { cores: 8, cores_free_percent: 800, memory_bytes: 1 << 33, memory_free_bytes: 1 << 33 },
        welcomes: true,
        inactive: false,
    }
}

fn card(service: &str, limit: u32) -> ServiceCard {
    ServiceCard { name: service.parse().expect("a name"), about: String::new(), limit, needs: Needs::default(), allowed: Allowed::Anyone }
}

fn order(number: u64) -> Order {
    Order {
        orderer: peer(ORDERER),
        epoch: Epoch(1),
        number,
        service: "coffee".parse().expect("a name"),
        args: vec!["latte".to_owned(), "--no-milk".to_owned()],
        items: Vec::new(),
        stdin: None,
        priority: Priority::End,
        needs: Needs::default(),
        once: false,
        placed: Timestamp(1),
    }
}

fn key(number: u64) -> OrderKey {
    order(number).key()
}

fn of_units(number: u64, units: usize) -> Order {
    Order { items: (0..units).map(|n| n.to_string()).collect(), ..order(number) }
}

fn report(of: Try, worker: PeerId) -> Proven<Report> {
    let ended = Ended::Exited(0);
    let (stdout, stderr) = (Excerpt::default(), Excerpt::default());
    Proven::own(Report { of, worker, ended, stdout, stderr, started_at: Timestamp(1), ended_at: Timestamp(2), ran_ms: 1_000 })
}

/// What a batch did.
#[derive(Debug, Default)]
struct Done {
    said: Vec<(PeerId, Work)>,
    stored: Vec<Change>,
    noted: Vec<What>,
}

impl Done {
    fn assigned(&self) -> Vec<(PeerId, Try)> {
        let assigned = |(to, work): &(PeerId, Work)| match work {
            Work::Assign { units, .. } => units.iter().map(|of| (*to, *of)).collect(),
            _ => Vec::new(),
        };
        self.said.iter().flat_map(assigned).collect()
    }

    fn superseded(&self) -> Vec<(PeerId, Try)> {
        let broken = |(to, work): &(PeerId, Work)| match work {
            Work::Broken(tries) => tries.iter().map(|(of, _)| (*to, *of)).collect(),
            _ => Vec::new(),
        };
        self.said.iter().flat_map(broken).collect()
    }

    fn said(&self, what: &str) -> usize {
        self.said.iter().filter(|(_, work)| work.what() == what).count()
    }

    fn cancel_taken(&self) -> Option<(Vec<u32>, Vec<u32>)> {
        self.said.iter().rev().find_map(|(_, work)| match work {
            Work::CancelTaken { running, lost, .. } => Some((running.clone(), lost.clone())),
            _ => None,
        })
    }
}

/// A dispatcher, its disk, its clock and the workers it sees.
struct Desk {
    dispatcher: Dispatcher,
    config: Config,
    workers: Vec<Fake>,
    mono: Duration,
    term: u64,
    queue: BTreeMap<OrderKey, (Queued, Option<QueueState>)>,
    closed: BTreeMap<(PeerId, Epoch), Ranges>,
}

impl Desk {
    /// Leads, and all workers have told that they are at nothing.
    fn new(workers: Vec<Fake>) -> Self {
        Desk::with(Config::default(), workers)
    }

    fn with(config: Config, workers: Vec<Fake>) -> Self {
        let mono = Duration::from_secs(100);
        let now = Now { mono, wall: Timestamp(100_000) };
        let dispatcher = Dispatcher::new(peer(ME), &config, Vec::new(), Vec::new(), now);
        let mut desk = Desk { dispatcher, config, workers, mono, term: 0, queue: BTreeMap::new(), closed: BTreeMap::new() };
        desk.lead();
        desk.all_told();
        desk
    }

    fn now(&self) -> Now {
        Now { mono: self.mono, wall: Timestamp(u64::try_from(self.mono.as_millis()).expect("small")) }
    }

    fn lead(&mut self) -> Done {
        let mut done = self.lead_unanswered();
        // Nobody knows of anything that has ended.
        for peer in self.dispatcher.asked.keys().copied().collect::<Vec<_>>() {
            done.said.extend(self.knows_closed(peer, &[]).said);
        }
        done.said.retain(|(_, work)| work.what() != "AskClosed");
        done
    }

    fn lead_unanswered(&mut self) -> Done {
        self.term += 1;
        let reachable = self.workers.iter().map(|worker| worker.peer).chain([peer(ME), peer(ORDERER)]).collect();
        let now = self.now();
        self.dispatcher.begin(fence(self.term), reachable, now);
        self.batch(|_, _, _| {})
    }

    fn knows_closed(&mut self, from: PeerId, numbers: &[u64]) -> Done {
        let of = |number: &u64| OrdersOf { orderer: peer(ORDERER), epoch: Epoch(1), numbers: Ranges::of(*number, *number) };
        let (orders, term): (Vec<_>, _) = (numbers.iter().map(of).collect(), self.term);
        self.batch(|dispatcher, _, _| dispatcher.on_known_closed(from, fence(term), &orders, true))
    }

    fn units_ended(&mut self, number: u64, units: &[(u64, u64)]) -> Done {
        let mut ended = Ranges::default();
        units.iter().for_each(|(first, last)| ended.insert_range(*first, *last));
        let of = UnitsOf { order: key(number), units: ended };
        self.batch(|dispatcher, _, _| dispatcher.on_units_ended(&[of]))
    }

    /// Everybody is at nothing.
    fn all_told(&mut self) -> Done {
        let peers: BTreeSet<PeerId> = self.workers.iter().map(|worker| worker.peer).chain([peer(ME), peer(ORDERER)]).collect();
        let term = self.term;
        self.batch(|dispatcher, now, out| {
            peers.iter().for_each(|peer| dispatcher.on_working(*peer, fence(term), Vec::new(), true, now, out));
        })
    }

    /// Restarted from what was stored; leads under the next term.
    fn restart(&mut self) -> Done {
        let queue = self.queue.values().cloned().collect();
        let closed = self.closed.iter().map(|((orderer, epoch), closed)| (*orderer, *epoch, closed.clone())).collect();
        self.dispatcher = Dispatcher::new(peer(ME), &self.config, queue, closed, self.now());
        self.lead()
    }

    fn batch(&mut self, act: impl FnOnce(&mut Dispatcher, Now, &mut Out)) -> Done {
        // No two batches are at the same time.
        self.mono += Duration::from_nanos(1);
        let now = self.now();
        let mut out = Out::default();
        act(&mut self.dispatcher, now, &mut out);
        let views: Vec<WorkerView<'_>> = self.workers.iter().map(Fake::view).collect();
        self.dispatcher.tick(&views, now, &mut out);
        self.dispatcher.close(now, &mut out);
        assert!(self.dispatcher.deadline().is_none_or(|at| at > now.mono), "no deadline stays in the past");
        self.check();
        let mut done = Done { noted: out.entries, ..Done::default() };
        for effect in out.effects {
            match effect {
                Effect::Send { to, say } => match *say {
                    Say::Work(work) => done.said.push((to, work)),
                    other => panic!("{other:?}"),
                },
                Effect::Store(change) => {
                    self.store(change.clone());
                    done.stored.push(change);
                }
                other => panic!("{other:?}"),
            }
        }
        done
    }

    fn store(&mut self, change: Change) {
        match change {
            Change::Queue(queued) => {
                self.queue.insert(queued.order.value.key(), (*queued, None));
            }
            Change::QueueState(state) => {
                let (_, kept) = self.queue.get_mut(&state.order).expect("its order is stored");
                *kept = Some(*state);
            }
            Change::Unqueue(key) => {
                self.queue.remove(&key);
            }
            Change::Closed { orderer, epoch, closed } => {
                self.closed.insert((orderer, epoch), closed);
            }
            other => panic!("{other:?}"),
        }
    }

    /// What holds after every batch.
    fn check(&self) {
        let dispatcher = &self.dispatcher;
        let mut waiting = 0;
        for (key, row) in &dispatcher.rows {
            assert_eq!(row.queued, row.wants_workers(), "{key:?}");
            waiting += usize::from(row.queued);
            for (unit, placement) in row.tries() {
                assert!(!row.is_over(*unit));
                let known = dispatcher.workers.get(&placement.worker).expect("who has a unit is known");
                assert!(known.tries.contains_key(&(*key, *unit)));
            }
        }
        for worker in &self.workers {
            let placements =
                || dispatcher.rows.values().flat_map(|row| row.tries().values()).filter(|placement| placement.worker == worker.peer);
            let given_now = placements().any(|placement| placement.since == self.mono && placement.again_at.is_some());
            let load = dispatcher.workers.load_of(&worker.peer, &worker.services.services[0], &self.config);
            assert!(!given_now || worker.services.services.len() > 1 || placements().count() <= load.most as usize, "{load:?}");
        }
        assert_eq!(dispatcher.queue.len(), waiting);
        let tries: usize = dispatcher.rows.values().map(|row| row.tries().len()).sum();
        assert_eq!(dispatcher.workers.in_flight(), tries);
    }

    fn order(&mut self, order: Order) -> Done {
        self.orders(vec![order])
    }

    fn orders(&mut self, orders: Vec<Order>) -> Done {
        let from = orders[0].orderer;
        let orders = orders.into_iter().map(Proven::own).collect();
        self.batch(|dispatcher, now, out| dispatcher.on_orders(from, orders, false, now, out).expect("they are good"))
    }

    fn take(&mut self, from: PeerId, tries: &[Try]) -> Done {
        let term = self.term;
        self.batch(|dispatcher, now, out| dispatcher.on_answer(from, fence(term), tries.to_vec(), Vec::new(), now, out))
    }

    fn decline(&mut self, from: PeerId, of: Try, lack: Lack) -> Done {
        let term = self.term;
        self.batch(|dispatcher, now, out| dispatcher.on_answer(from, fence(term), Vec::new(), vec![(of, lack)], now, out))
    }

    fn start(&mut self, from: PeerId, of: Try) -> Done {
        self.batch(|dispatcher, now, out| dispatcher.on_started(from, &[of], now, out))
    }

    fn end(&mut self, from: PeerId, of: Try) -> Done {
        self.batch(|dispatcher, now, out| dispatcher.on_reports(from, &[report(of, from)], now, out))
    }

    fn broken(&mut self, from: PeerId, of: Try, why: Broken) -> Done {
        self.batch(|dispatcher, now, out| dispatcher.on_broken(from, &[(of, why)], now, out))
    }

    fn cancel(&mut self, number: u64) -> Done {
        let cancel = Proven::own(Cancel { order: key(number), expired: false });
        self.batch(|dispatcher, now, out| dispatcher.on_cancels(peer(ORDERER), vec![cancel], now, out))
    }

    fn working(&mut self, from: PeerId, tries: Vec<Working>) -> Done {
        let term = self.term;
        self.batch(|dispatcher, now, out| dispatcher.on_working(from, fence(term), tries, true, now, out))
    }

    fn lose(&mut self, gone: PeerId) -> Done {
        self.batch(|dispatcher, now, _| dispatcher.on_unreachable(gone, false, now))
    }

    fn find(&mut self, back: PeerId) -> Done {
        self.batch(|dispatcher, now, out| dispatcher.on_reachable(back, now, out))
    }

    fn close(&mut self, number: u64) -> Done {
        let closed = Ranges::of(number, number);
        let closing = Closing { orderer: peer(ORDERER), epoch: Epoch(1), closed, ends: vec![(number, End::Done)] };
        self.batch(|dispatcher, now, out| dispatcher.on_closing(&Proven::own(closing), now, out))
    }

    fn wait(&mut self, time: Duration) -> Done {
        self.mono += time;
        self.batch(|_, _, _| {})
    }

    fn standing(&self, number: u64) -> crate::work::Standing {
        let views: Vec<WorkerView<'_>> = self.workers.iter().map(Fake::view).collect();
        self.dispatcher.standing(&key(number), &views, self.now()).expect("it is here")
    }
}
