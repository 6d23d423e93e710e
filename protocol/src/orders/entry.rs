//! One order of this node that has not ended: what its units came to, and what that makes of it.
//! Knows nothing of who is told. The first end of a unit counts; the order ends when no unit can come to anything else.

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p_identity::PeerId;
use serde_bytes::ByteBuf;

use crate::effect::OrderState;
use crate::id::Epoch;
use crate::input::NewOrder;
use crate::now::{Now, Timestamp};
use crate::order::{Attempt, Cancel, End, Ended, Fence, Order};
use crate::ranges::Ranges;
use crate::work::Full;

/// Peers that are told when one order has ended (guess: more than a LAN has; others are told when they speak of it again).
const CONCERNED: usize = 256;
/// The longest time that an order can be given; longer ones are cut to it, so that no clock runs over.
const EXPIRES_MOST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// See the module.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) order: Order,
    /// Of what its user wrote.
    pub(super) bytes: usize,
    pub(super) state: OrderState,
    /// Some leader may know of it.
    pub(super) sent: bool,
    /// The first that was told of it, where that was in this start of the node.
    first_told: Option<Fence>,
    /// The leader on whose disk it is.
    pub(super) queued: Option<Fence>,
    /// Why the leader does not take it.
    pub(super) not_queued: Option<Full>,
    /// When its time is up.
    pub(super) expires: Option<Duration>,
    /// Who has begun or ended units of it, or had it in its queue: whoever leads no more must not run it when it leads again.
    pub(super) concerned: Vec<PeerId>,
    /// What the leader says of its cancel.
    taken: Option<Taken>,
    /// Units that have ended.
    ended: u64,
    /// Why the last unit failed that did.
    why: Option<String>,
}

/// A cancel is on the leader's disk: no further unit begins.
#[derive(Debug)]
struct Taken {
    /// The leader's: another one may not know of it.
    fence: Fence,
    /// Units that may still run and have not ended.
    running: BTreeSet<u32>,
    /// Units of which nobody can say whether they run.
    lost: BTreeSet<u32>,
}

/// What a unit came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Done,
    Failed,
    Dropped,
}

impl Entry {
    /// What its user wants, as order of that number of that memory of this node.
    pub(super) fn draw_up(orderer: PeerId, epoch: Epoch, number: u64, new: NewOrder, now: Now) -> Self {
        let expires = new.expires.map(|expires| expires.min(EXPIRES_MOST));
        let wall = |expires: Duration| now.wall.0.saturating_add(u64::try_from(expires.as_millis()).unwrap_or(u64::MAX));
        let order = Order {
            orderer,
            epoch,
            number,
            service: new.service,
            args: new.args,
            items: new.items,
            stdin: new.stdin.map(ByteBuf::from),
            priority: new.priority,
            needs: new.needs,
            once: new.once,
            placed: now.wall,
        };
        let state = OrderState {
            number,
            epoch,
            expires_at: expires.map(|expires| Timestamp(wall(expires))),
            cancelled: None,
            done: Ranges::default(),
            failed: Ranges::default(),
            dropped: Ranges::default(),
            outcome: None,
        };
        Entry::new(order, state, false, expires.map(|expires| now.mono + expires))
    }

    /// An order as the disk remembers it. Whether a leader was told of it is not known: it may have been.
    pub(super) fn recall(order: Order, state: OrderState, now: Now) -> Self {
        let left = |at: Timestamp| Duration::from_millis(at.0.saturating_sub(now.wall.0)).min(EXPIRES_MOST);
        let expires = state.expires_at.filter(|_| state.cancelled.is_none()).map(|at| now.mono + left(at));
        Entry::new(order, state, true, expires)
    }

    fn new(order: Order, state: OrderState, sent: bool, expires: Option<Duration>) -> Self {
        let ended = state.done.len() + state.failed.len() + state.dropped.len();
        Entry {
            bytes: order.bytes(),
            order,
            state,
            sent,
            first_told: None,
            queued: None,
            not_queued: None,
            expires,
            concerned: Vec::new(),
            taken: None,
            ended,
            why: None,
        }
    }

    /// It leaves for this leader.
    pub(super) fn on_sent(&mut self, leader: Fence) {
        if !self.sent {
            self.first_told = Some(leader);
        }
        self.sent = true;
    }

    /// Whether an attempt of its name is from before anybody was told of it.
    pub(super) fn is_older(&self, attempt: Attempt) -> bool {
        !self.sent || self.first_told.is_some_and(|first| attempt.fence() < first)
    }

    /// It is an order of this memory from now on, of which nobody knows yet.
    pub(super) fn rename(&mut self, epoch: Epoch) {
        (self.order.epoch, self.state.epoch) = (epoch, epoch);
        (self.sent, self.first_told) = (false, None);
        (self.queued, self.not_queued, self.taken) = (None, None, None);
        self.concerned.clear();
    }

    /// Its cancel.
    pub(super) fn cancel(&self) -> Cancel {
        Cancel { order: self.order.key(), expired: self.state.cancelled.is_some_and(|(_, expired)| expired) }
    }

    /// A peer has something to do with it.
    pub(super) fn concerns(&mut self, peer: PeerId) {
        if self.concerned.len() < CONCERNED && !self.concerned.contains(&peer) {
            self.concerned.push(peer);
        }
    }

    /// Whether it has this unit and the unit has not ended.
    pub(super) fn is_open(&self, unit: u32) -> bool {
        let ended = [&self.state.done, &self.state.failed, &self.state.dropped];
        (1..=self.order.units()).contains(&unit) && !ended.into_iter().any(|units| units.contains(u64::from(unit)))
    }

    /// Whether some of its units have ended.
    pub(super) fn has_begun_to_end(&self) -> bool {
        self.ended > 0
    }

    /// Those that have.
    pub(super) fn ended_units(&self) -> Ranges {
        let mut ended = self.state.done.clone();
        let others = self.state.failed.iter().chain(self.state.dropped.iter());
        others.for_each(|(first, last)| ended.insert_range(first, last));
        ended
    }

    /// A unit that had not ended has.
    pub(super) fn end_unit(&mut self, unit: u32, ended: &Ended) {
        let (came, why) = match ended {
            Ended::Exited(0) => (Came::Done, None),
            Ended::Exited(code) => (Came::Failed, Some(format!("exit {code}"))),
            Ended::TimedOut => (Came::Failed, Some("time limit".to_owned())),
            Ended::NotStarted(why) => (Came::Failed, Some(format!("could not start: {why}"))),
            Ended::Cancelled if self.state.cancelled.is_some() => (Came::Dropped, None),
            // Nobody here wanted that.
            Ended::Cancelled => (Came::Failed, Some("its worker cancelled it".to_owned())),
        };
        self.enter(unit, came, why);
    }

    /// Nobody could run a unit that had not ended to its end.
    pub(super) fn give_up_unit(&mut self, unit: u32, why: String) {
        self.enter(unit, Came::Failed, Some(why));
    }

    /// The leader has its cancel, and these units may still run, or nobody can say whether they do.
    pub(super) fn on_cancel_taken(&mut self, fence: Fence, running: &[u32], lost: &[u32]) {
        let open = |units: &[u32]| units.iter().copied().filter(|unit| self.is_open(*unit)).collect::<BTreeSet<u32>>();
        let lost = open(lost);
        let running = open(running).difference(&lost).copied().collect();
        self.taken = Some(Taken { fence, running, lost });
    }

    /// How it has ended and why, if it has: `leader` leads, or did last.
    pub(super) fn outcome(&self, leader: Option<Fence>) -> Option<(End, Option<String>)> {
        let stopped = self.state.cancelled.map(|(_, expired)| if expired { End::Expired } else { End::Cancelled });
        if self.ended >= u64::from(self.order.units()) {
            return Some(match stopped {
                Some(end) if !self.state.dropped.is_empty() => (end, None),
                _ if self.state.failed.is_empty() => (End::Done, None),
                _ => (End::Failed, self.why_failed()),
            });
        }
        let end = stopped?;
        if !self.sent {
            return Some((end, None));
        }
        let taken = self.taken.as_ref().filter(|taken| leader == Some(taken.fence) && taken.running.is_empty())?;
        let unconfirmed = "unconfirmed: its worker cannot be reached";
        Some((end, (!taken.lost.is_empty()).then(|| unconfirmed.to_owned())))
    }

    /// Units that came to nothing are dropped with the order.
    pub(super) fn drop_rest(&mut self) {
        let all = Ranges::of(1, u64::from(self.order.units()));
        let rest = all.minus(&self.state.done).minus(&self.state.failed);
        rest.iter().for_each(|(first, last)| self.state.dropped.insert_range(first, last));
    }

    fn enter(&mut self, unit: u32, came: Came, why: Option<String>) {
        let units = match came {
            Came::Done => &mut self.state.done,
            Came::Failed => &mut self.state.failed,
            Came::Dropped => &mut self.state.dropped,
        };
        units.insert(u64::from(unit));
        self.ended += 1;
        self.why = why.or(self.why.take());
        if let Some(taken) = &mut self.taken {
            taken.running.remove(&unit);
            taken.lost.remove(&unit);
        }
    }

    fn why_failed(&self) -> Option<String> {
        match self.order.units() {
            1 => self.why.clone(),
            units => Some(format!("{} of {units} units failed", self.state.failed.len())),
        }
    }
}
