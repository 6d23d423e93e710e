//! What an orderer says and writes, word for word and row for row.

mod ending;
mod placing;
mod sending;

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use libp2p_identity::PeerId;

use super::*;
use crate::bundle::Secrets;
use crate::config::limits;
use crate::effect::{Effect, Say};
use crate::input::Recall;
use crate::now::Timestamp;
use crate::order::{Attempt, Cancel, Closing, Ended, Excerpt, Priority};
use crate::service::Needs;

const SECOND: Duration = Duration::from_secs(1);
const EPOCH: Epoch = Epoch(7);

/// Making a key takes longer than most of these tests.
static PEERS: LazyLock<Vec<PeerId>> = LazyLock::new(|| (0..8).map(|n| Secrets::from_seeds(&[n; 32], &[n; 32]).id()).collect());

pub(super) fn peer(n: u8) -> PeerId {
    PEERS[usize::from(n)]
}

fn me() -> PeerId {
    peer(1)
}

pub(super) fn fence(term: u64, leader: u8) -> Fence {
    Fence { term, leader: peer(leader) }
}

pub(super) fn coffee(items: usize) -> NewOrder {
    NewOrder {
        service: "coffee".parse().expect("a name"),
        args: vec!["latte".to_owned()],
        items: (0..items).map(|item| item.to_string()).collect(),
        stdin: None,
        priority: Priority::End,
        needs: Needs::default(),
        once: false,
        expires: None,
        key: None,
    }
}

pub(super) fn attempt(key: OrderKey, unit: u32, number: u32) -> Try {
    Try { order: key, unit, attempt: Attempt { term: 1, leader: peer(2), number } }
}

pub(super) fn report(of: Try, worker: PeerId, ended: Ended) -> Proven<Report> {
    let excerpt = Excerpt::default;
    let at = Timestamp(0);
    Proven::own(Report { of, worker, ended, stdout: excerpt(), stderr: excerpt(), started_at: at, ended_at: at, ran_ms: 1 }).unchecked()
}

/// An orderer, and what it did in its last batch.
struct Desk {
    orders: Orders,
    now: Now,
    config: Config,
    out: Out,
    requests: u64,
    /// Orders of which it was told that they have ended.
    ended: Vec<u64>,
}

impl Desk {
    fn new() -> Self {
        Desk::with(Config::default(), Vec::new(), 1, Vec::new())
    }

    fn with(config: Config, open: Vec<(Order, OrderState)>, next: u64, closed: Vec<(Epoch, End, Ranges)>) -> Self {
        let now = Now { mono: 100 * SECOND, wall: Timestamp(1_000_000) };
        let orders = Orders::new(me(), &config, open, next, closed, now);
        Desk { orders, now, config, out: Out { me: Some(me()), ..Out::default() }, requests: 0, ended: Vec::new() }
    }

    /// One that obeys peer 2 in term 1, who can be reached.
    fn led() -> Self {
        let mut desk = Desk::new();
        desk.orders.on_reachable(peer(2), desk.now);
        desk.orders.on_leader(Some(fence(1, 2)), desk.now, &mut desk.out);
        desk.expect([]);
        desk
    }

    fn place(&mut self, order: NewOrder) -> OrderKey {
        self.requests += 1;
        let request = RequestId(self.requests);
        let number = self.orders.next;
        if let Some(order) = self.orders.ask(request, order, &mut self.out) {
            self.orders.place(request, order, EPOCH, self.now, &mut self.out);
        }
        key(number)
    }

    /// Places an order, which the leader takes.
    fn placed(&mut self, items: usize) -> OrderKey {
        let key = self.place(coffee(items));
        self.close();
        self.queued(&[key]);
        self.close();
        key
    }

    fn queued(&mut self, keys: &[OrderKey]) {
        let fence = self.orders.leader.last().expect("somebody leads");
        self.orders.on_queued(fence.leader, fence, keys, self.now);
    }

    fn report(&mut self, of: Try, ended: Ended) {
        self.orders.on_reports(peer(3), vec![report(of, peer(3), ended)], self.now, &mut self.out);
    }

    fn cancel(&mut self, key: OrderKey) {
        self.orders.cancel(RequestId(99), &[key.number], self.now, &mut self.out);
    }

    fn cancel_taken(&mut self, key: OrderKey, running: &[u32], lost: &[u32]) {
        self.orders.on_cancel_taken(peer(2), key, running, lost, self.now, &mut self.out);
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall.0 += u64::try_from(time.as_millis()).expect("short");
    }

    /// Ends the batch: what was done in it.
    fn close(&mut self) -> (Vec<Effect>, Vec<What>) {
        self.orders.tick(self.now, &mut self.out);
        self.orders.close(self.now, &mut self.out);
        self.ended.extend(self.orders.take_ended().into_iter().map(|order| order.number));
        (std::mem::take(&mut self.out.effects), std::mem::take(&mut self.out.entries))
    }

    /// Ends the batch: nothing else was done in it.
    #[track_caller]
    fn expect<const N: usize>(&mut self, expected: [Effect; N]) {
        assert_eq!(self.close().0, expected);
        let at_once = self.orders.deadline() == Some(Duration::ZERO);
        assert!(!at_once, "a closed batch leaves nothing to do at once");
    }

    /// Ends the batch: words said in it, each by its numbers.
    fn words(&mut self) -> Vec<(PeerId, &'static str, Vec<u64>)> {
        let words = |effect| match effect {
            Effect::Send { to, say } => match *say {
                Say::Work(work) => Some((to, work.what(), numbers(&work))),
                other => panic!("{other:?}"),
            },
            _ => None,
        };
        self.close().0.into_iter().filter_map(words).collect()
    }

    /// Ends the batch: outcomes written in it.
    fn outcomes(&mut self) -> Vec<(u64, End, Option<String>)> {
        let outcome = |effect| match effect {
            Effect::Store(Change::OrderState(state)) => state.outcome.map(|outcome| (state.number, outcome.end, outcome.why)),
            _ => None,
        };
        self.close().0.into_iter().filter_map(outcome).collect()
    }
}

fn key(number: u64) -> OrderKey {
    OrderKey { orderer: me(), epoch: EPOCH, number }
}

fn numbers(work: &Work) -> Vec<u64> {
    match work {
        Work::Orders(orders) => orders.iter().map(|order| order.value.number).collect(),
        Work::Cancels(cancels) => cancels.iter().map(|cancel| cancel.value.order.number).collect(),
        Work::UnitsEnded(units) => units.iter().map(|of| of.order.number).collect(),
        Work::Closing(closing) => closing.value.closed.iter().flat_map(|(first, last)| first..=last).collect(),
        other => panic!("an orderer does not say {other:?}"),
    }
}

fn order(number: u64, items: usize) -> Order {
    let NewOrder { service, args, items, priority, needs, once, .. } = coffee(items);
    let placed = Timestamp(1_000_000);
    Order { orderer: me(), epoch: EPOCH, number, service, args, items, stdin: None, priority, needs, once, placed }
}

fn state(number: u64) -> OrderState {
    let none = Ranges::default;
    OrderState { number, epoch: EPOCH, expires_at: None, cancelled: None, done: none(), failed: none(), dropped: none(), outcome: None }
}

fn stored(state: OrderState) -> Effect {
    Effect::Store(Change::OrderState(Box::new(state)))
}

fn said(to: u8, work: Work) -> Effect {
    Effect::Send { to: peer(to), say: Box::new(Say::Work(work)) }
}

fn closing(to: u8, number: u64, end: End) -> Effect {
    said(to, Work::Closing(Box::new(Proven::own(closing_of(number, end)))))
}

fn closing_of(number: u64, end: End) -> Closing {
    Closing { orderer: me(), epoch: EPOCH, closed: Ranges::of(number, number), ends: vec![(number, end)] }
}

fn reply(request: u64, answer: Answer) -> Effect {
    Effect::Reply { request: RequestId(request), answer }
}

fn refused(desk: &mut Desk) -> Option<Refusal> {
    desk.close().0.into_iter().find_map(|effect| match effect {
        Effect::Reply { answer: Answer::Refused(refusal), .. } => Some(refusal),
        _ => None,
    })
}
