//! What peers say to one another about leaders, orders and tasks.
//! Knows nothing of who decides. Each word is idempotent: hearing it twice, or late, does no harm.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::beacon::Statistics;
use crate::config::limits;
use crate::effect::QueueState;
use crate::id::Epoch;
use crate::log;
use crate::message::Lane;
use crate::name::PeerName;
use crate::order::{Attempt, Broken, Cancel, Claim, Closing, Fence, Order, OrderKey, Report, Try};
use crate::proven::{Proven, check, prove, prove_all};
use crate::ranges::Ranges;
use crate::service::{Availability, Lack, Needs, ServiceName, Services};
use crate::sign::StatementError;

/// One word of work between two neighbours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// I lead, or: this is the greatest claim I know.
    Claim(Box<Proven<Claim>>),
    /// Has this leader said anything to you, on a stream, within the last second?
    AskLeader(Fence),
    /// The answer.
    LeaderHeard {
        /// Which leader.
        fence: Fence,
        /// It has.
        heard: bool,
    },
    /// Take over from me.
    HandOver(Fence),
    /// Orders: from their orderer to the leader, and from the leader to a worker.
    Orders(Vec<Proven<Order>>),
    /// They are on my disk, and I lead under this fence.
    Queued {
        /// The leader's.
        fence: Fence,
        /// At most a page.
        orders: Vec<OrderKey>,
    },
    /// I do not take these now.
    NotQueued {
        /// The leader's.
        fence: Fence,
        /// At most a page, each with the reason.
        orders: Vec<(OrderKey, Full)>,
    },
    /// Run these, if you can: the availability query and the assignment in one word.
    Assign {
        /// The leader's; lower ones than the greatest heard are refused.
        fence: Fence,
        /// At most a page.
        units: Vec<Try>,
    },
    /// The answer to an assignment.
    Answer {
        /// The leader's.
        fence: Fence,
        /// These I take: each starts at once or waits here for a slot.
        taken: Vec<Try>,
        /// These I do not.
        declined: Vec<(Try, Lack)>,
    },
    /// Everything I am at under whatever leader: what a worker tells a leader that is new to it.
    Working {
        /// The leader's.
        fence: Fence,
        /// At most a page.
        tries: Vec<Working>,
        /// There is nothing more.
        last: bool,
    },
    /// These have begun to run: from a worker to leader and orderer.
    Started(Vec<Try>),
    /// How far these are.
    Progress(Vec<Progress>),
    /// How these ended: from a worker to leader and orderer, and again until the orderer closes the order.
    Reports(Vec<Proven<Report>>),
    /// The reports of these tries are on my disk, and their orders go on: from the orderer to the worker, who need not tell them again.
    ReportsTaken(Vec<Try>),
    /// These attempts came to nothing.
    Broken(Vec<(Try, Broken)>),
    /// Nobody could run these units to their end: from the leader to the orderer.
    GivenUp(Vec<(OrderKey, u32, String)>),
    /// These orders of mine have ended: whoever holds anything of them may forget it.
    Closing(Box<Proven<Closing>>),
    /// I lead, and have these from before: which of them have ended, as far as you know?
    AskClosed {
        /// The leader's.
        fence: Fence,
        /// At most [`limits::WORDS`] ranges.
        orders: Vec<OrdersOf>,
        /// I ask about nothing more.
        last: bool,
    },
    /// These have: they wait until their orderers speak for them.
    KnownClosed {
        /// As asked.
        fence: Fence,
        /// At most [`limits::WORDS`] ranges.
        orders: Vec<OrdersOf>,
        /// I know of nothing more.
        last: bool,
    },
    /// These are in my table: from the leader to who would take over, and from who holds orders of before to the leader that asked for them.
    Copies(Copies),
    /// They are on my disk, too; said by a leader: and on those of who would take over from me.
    Copied {
        /// The leader's.
        fence: Fence,
        /// As counted.
        number: u64,
    },
    /// I hold copies of these orders from before, and you lead.
    Holding {
        /// The leader's.
        fence: Fence,
        /// At most [`limits::WORDS`] ranges.
        orders: Vec<OrdersOf>,
    },
    /// The answer: each of them is in one of these.
    Known {
        /// The leader's.
        fence: Fence,
        /// What they are to me.
        known: Known,
        /// At most [`limits::WORDS`] ranges.
        orders: Vec<OrdersOf>,
    },
    /// Of these orders of mine these units have ended: to a leader that may not know it, before the orders themselves.
    UnitsEnded(Vec<UnitsOf>),
    /// I do not want these any more: from their orderer to the leader, and on to workers.
    Cancels(Vec<Proven<Cancel>>),
    /// A cancel is on my disk: from the leader to the orderer, whenever it changes.
    CancelTaken {
        /// Which order.
        order: OrderKey,
        /// These units may still run; no other will begin to.
        running: Vec<u32>,
        /// Of these the worker is lost: nobody can say that they are gone.
        lost: Vec<u32>,
    },
    /// A question.
    Query {
        /// Correlates the answer.
        id: u64,
        /// What.
        question: Box<Question>,
    },
    /// Its answer.
    QueryResults {
        /// As asked.
        id: u64,
        /// What.
        results: Box<Results>,
    },
}

/// Rows of a table, for another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Copies {
    /// The leader's.
    pub fence: Fence,
    /// Counts what one says to the other.
    pub number: u64,
    /// Of the leader's table this is all between these.
    pub span: Option<Span>,
    /// As they are now.
    pub orders: Vec<Held>,
}

/// A part of a leader's table, by the keys of its orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Beyond this one; none: from the beginning.
    pub after: Option<OrderKey>,
    /// Up to this one; none: to the end.
    pub upto: Option<OrderKey>,
}

impl Span {
    /// Whether this order would be in it.
    #[must_use]
    pub fn contains(&self, key: &OrderKey) -> bool {
        self.after.is_none_or(|after| after < *key) && self.upto.is_none_or(|upto| *key <= upto)
    }
}

/// An order in a table, and where its units are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The order; none if the other has it.
    pub order: Option<Proven<Order>>,
    /// How long ago it was queued, in milliseconds.
    pub age_ms: u64,
    /// Its place, and its units.
    pub state: QueueState,
}

impl Held {
    /// Whether its parts are of one order.
    #[must_use]
    pub fn within_limits(&self) -> bool {
        let key = self.state.order;
        self.order.as_ref().is_none_or(|order| order.value.key() == key && order.value.within_limits())
            && self.state.cancel.as_ref().is_none_or(|cancel| cancel.value.order == key)
    }

    /// Bytes on the wire, about.
    pub(crate) fn weight(&self) -> usize {
        /// Of one try, measured; all else of a row is small beside its order.
        const TRY: usize = 64;
        let state = &self.state;
        let tries = state.tries.len() + state.tried.len() + state.ended.pieces() + state.given_up.pieces();
        self.order.as_ref().map_or(0, |order| order.body.len()) + (1 + tries) * TRY
    }
}

/// What an order that another holds is to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// It is in my table.
    Here,
    /// It is not: send me a copy.
    Wanted,
    /// It has ended: forget it.
    Over,
}

/// Orders of one memory of an orderer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrdersOf {
    /// Who ordered.
    pub orderer: PeerId,
    /// In which memory.
    pub epoch: Epoch,
    /// Which.
    pub numbers: Ranges,
}

impl OrdersOf {
    /// As many as one word may hold to a page; no page is empty.
    pub(crate) fn pages(orders: impl IntoIterator<Item = OrdersOf>) -> Vec<Vec<OrdersOf>> {
        paged(orders.into_iter().map(|of| ((of.orderer, of.epoch), of.numbers)), |(orderer, epoch), numbers| OrdersOf {
            orderer,
            epoch,
            numbers,
        })
    }
}

/// Units of one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitsOf {
    /// Which order.
    pub order: OrderKey,
    /// Which of its units.
    pub units: Ranges,
}

impl UnitsOf {
    /// As many as one word may hold to a page; no page is empty.
    pub(crate) fn pages(units: impl IntoIterator<Item = UnitsOf>) -> Vec<Vec<UnitsOf>> {
        paged(units.into_iter().map(|of| (of.order, of.units)), |order, units| UnitsOf { order, units })
    }
}

/// As many ranges as one word may hold to a page.
fn paged<K: Copy, T>(all: impl Iterator<Item = (K, Ranges)>, of: impl Fn(K, Ranges) -> T) -> Vec<Vec<T>> {
    let (mut pages, mut page, mut room) = (Vec::new(), Vec::new(), limits::WORDS);
    for (key, ranges) in all {
        let mut part = Ranges::default();
        for (first, last) in ranges.iter() {
            if room == 0 {
                page.push(of(key, std::mem::take(&mut part)));
                pages.push(std::mem::take(&mut page));
                room = limits::WORDS;
            }
            part.insert_range(first, last);
            room -= 1;
        }
        page.push(of(key, part));
    }
    if !page.is_empty() {
        pages.push(page);
    }
    pages
}

/// Why a leader does not take an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Full {
    /// It holds as many orders as it may.
    Orders,
    /// It holds as many bytes of orders as it may.
    Bytes,
    /// Its disk is low.
    Disk,
}

/// Where a try is, at its worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Working {
    /// Which.
    pub of: Try,
    /// For how long it has run, in milliseconds; none while it waits for a slot.
    pub running_ms: Option<u64>,
}

/// How far a try is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which.
    pub of: Try,
    /// Steps done …
    pub done: u64,
    /// … of so many.
    pub total: u64,
    /// In the program's words; at most [`limits::NOTE_BYTES`].
    pub note: String,
}

/// What may be asked of a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// What do you offer?
    Services,
    /// Could you take this now?
    Availability {
        /// Which service.
        service: ServiceName,
        /// For something that takes this.
        needs: Needs,
    },
    /// How are you?
    Statistics,
    /// What is in your queue, and with whom? To the leader.
    Tasks {
        /// The last one of the page before.
        after: Option<OrderKey>,
    },
    /// Where is this order? To the leader.
    Task(OrderKey),
    /// Whom do you see?
    Peers {
        /// The last one of the page before.
        after: Option<PeerId>,
    },
    /// What does the record say? To who keeps it.
    Log(log::Question),
    /// What did this unit write? To its worker.
    Output {
        /// Which try.
        of: Try,
        /// Standard error rather than standard output.
        stderr: bool,
        /// From this byte of what is kept.
        from: u64,
    },
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Results {
    /// To [`Question::Services`].
    Services(Services),
    /// To [`Question::Availability`].
    Availability(Availability),
    /// To [`Question::Statistics`].
    Statistics {
        /// The machine.
        statistics: Statistics,
        /// Units that run.
        running: u32,
        /// Units that wait here.
        queued: u32,
        /// Since the start of the node.
        up_ms: u64,
    },
    /// To [`Question::Tasks`].
    Tasks {
        /// In the order of their keys.
        tasks: Vec<Standing>,
        /// There are more after the last of these.
        more: bool,
    },
    /// To [`Question::Task`]; none if it is not known there.
    Task(Option<Standing>),
    /// To [`Question::Peers`].
    Peers {
        /// By id.
        peers: Vec<Seen>,
        /// There are more after the last of these.
        more: bool,
    },
    /// To [`Question::Log`].
    Log(log::Answer),
    /// To [`Question::Output`].
    Output {
        /// At most [`limits::OUTPUT_PAGE`].
        bytes: ByteBuf,
        /// There is more after these.
        more: bool,
    },
    /// I cannot answer that.
    NotHere,
}

/// A peer as another sees it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Who.
    pub peer: PeerId,
    /// As it is called there.
    pub name: PeerName,
    /// It signals that letters and tasks are welcome.
    pub available: bool,
    /// It signals that its user may not be there.
    pub inactive: bool,
    /// For how long it has been here.
    pub for_ms: u64,
}

/// Where an order stands, at its leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Which.
    pub order: OrderKey,
    /// What was ordered.
    pub service: ServiceName,
    /// The beginning of its arguments, for people; at most [`limits::NOTE_BYTES`].
    pub args: String,
    /// 1, 2 or 3.
    pub priority: u8,
    /// Machines other than the orderer's that hold it.
    pub held_by: u32,
    /// Its place in the queue, from 1; none when none of its units waits.
    pub position: Option<u64>,
    /// Units: all …
    pub units: u32,
    /// … ended, as far as the leader was told …
    pub ended: u32,
    /// … waiting …
    pub waiting: u32,
    /// … and with a worker now, at most [`limits::PAGE`].
    pub tries: Vec<Placed>,
    /// Its orderer does not want it any more.
    pub cancelling: bool,
    /// Why its units wait: what each worker of the swarm lacks, at most [`limits::PAGE`].
    pub lacks: BTreeMap<PeerId, Lack>,
    /// When the next unit should start, in milliseconds; none if nothing was measured.
    pub eta_ms: Option<u64>,
    /// How many runs were measured for that.
    pub basis: u32,
    /// How long ago it was placed, as far as the leader knows, in milliseconds.
    pub age_ms: u64,
}

/// A unit with a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Which unit.
    pub unit: u32,
    /// Which attempt.
    pub attempt: Attempt,
    /// With whom.
    pub worker: PeerId,
    /// Where it is.
    pub state: PlacedState,
    /// For how long it has been so, in milliseconds.
    pub since_ms: u64,
}

/// Where a unit with a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlacedState {
    /// It was given to the worker, who has not answered, or has not started it.
    Assigned,
    /// It runs.
    Running,
    /// The worker is silent.
    Unreachable,
}

impl Work {
    /// The stream it goes by: what is long must not delay what is urgent.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Work::Orders(orders) if orders.iter().map(|order| order.body.len()).sum::<usize>() > limits::URGENT_BYTES => Lane::Bulk,
            Work::Copies(Copies { orders, .. }) if orders.iter().map(Held::weight).sum::<usize>() > limits::URGENT_BYTES => Lane::Bulk,
            Work::Query { .. } | Work::QueryResults { .. } => Lane::Bulk,
            _ => Lane::Urgent,
        }
    }

    /// Signs what is ours in it.
    pub(crate) fn prove(&mut self, key: &libp2p_identity::Keypair, swarm: &str) {
        match self {
            Work::Claim(claim) => prove(std::slice::from_mut(&mut **claim), key, swarm),
            Work::Orders(orders) => prove(orders, key, swarm),
            Work::Reports(reports) => prove(reports, key, swarm),
            Work::Closing(closing) => prove(std::slice::from_mut(&mut **closing), key, swarm),
            Work::Cancels(cancels) => prove(cancels, key, swarm),
            Work::Copies(Copies { orders, .. }) => {
                prove_all(orders.iter_mut().filter_map(|held| held.order.as_mut()), key, swarm);
                prove_all(orders.iter_mut().filter_map(|held| held.state.cancel.as_mut()), key, swarm);
            }
            _ => {}
        }
    }

    /// Checks what others have signed in it.
    ///
    /// # Errors
    /// Something in it was not made by whom it says.
    pub(crate) fn check(&self, swarm: &str) -> Result<(), StatementError> {
        match self {
            Work::Claim(claim) => check(std::slice::from_ref(&**claim), swarm),
            Work::Orders(orders) => check(orders, swarm),
            Work::Reports(reports) => check(reports, swarm),
            Work::Closing(closing) => check(std::slice::from_ref(&**closing), swarm),
            Work::Cancels(cancels) => check(cancels, swarm),
            Work::Copies(Copies { orders, .. }) => {
                check(orders.iter().filter_map(|held| held.order.as_ref()), swarm)?;
                check(orders.iter().filter_map(|held| held.state.cancel.as_ref()), swarm)
            }
            _ => Ok(()),
        }
    }

    /// Items of its longest list.
    #[must_use]
    pub fn items(&self) -> usize {
        match self {
            Work::Orders(orders) => orders.len(),
            Work::Queued { orders, .. } => orders.len(),
            Work::NotQueued { orders, .. } => orders.len(),
            Work::Assign { units, .. } => units.len(),
            Work::Answer { taken, declined, .. } => taken.len() + declined.len(),
            Work::Working { tries, .. } => tries.len(),
            Work::Started(tries) => tries.len(),
            Work::Progress(progress) => progress.len(),
            Work::Reports(reports) => reports.len(),
            Work::ReportsTaken(tries) => tries.len(),
            Work::Broken(tries) => tries.len(),
            Work::GivenUp(units) => units.len(),
            Work::AskClosed { orders, .. }
            | Work::KnownClosed { orders, .. }
            | Work::Holding { orders, .. }
            | Work::Known { orders, .. } => orders.iter().map(|of| of.numbers.pieces().max(1)).sum(),
            Work::UnitsEnded(units) => units.iter().map(|of| of.units.pieces().max(1)).sum(),
            Work::Copies(Copies { orders, .. }) => orders.len(),
            Work::Cancels(cancels) => cancels.len(),
            Work::CancelTaken { running, lost, .. } => (running.len() + lost.len()).div_ceil(limits::UNITS_PER_ITEM),
            Work::QueryResults { results, .. } => match &**results {
                Results::Services(services) => services.services.len(),
                Results::Tasks { tasks, .. } => tasks.len(),
                Results::Peers { peers, .. } => peers.len(),
                _ => 0,
            },
            Work::Claim(_)
            | Work::AskLeader(_)
            | Work::LeaderHeard { .. }
            | Work::HandOver(_)
            | Work::Closing(_)
            | Work::Copied { .. }
            | Work::Query { .. } => 0,
        }
    }

    /// Whether what it holds keeps the limits that every peer checks, beyond the length of its lists.
    #[must_use]
    pub fn within_limits(&self) -> bool {
        match self {
            Work::Claim(claim) => claim.value.standbys.len() <= limits::STANDBYS,
            Work::Orders(orders) => orders.iter().all(|order| order.value.within_limits()),
            Work::Copies(Copies { orders, .. }) => orders.iter().all(Held::within_limits),
            Work::Reports(reports) => reports.iter().all(|report| report.value.within_limits()),
            Work::Progress(progress) => progress.iter().all(|progress| progress.note.len() <= limits::NOTE_BYTES),
            Work::GivenUp(units) => units.iter().all(|(_, _, why)| why.len() <= limits::WHY_BYTES),
            Work::Closing(closing) => closing.value.closed.pieces() <= limits::PIECES && closing.value.ends.len() <= limits::PAGE,
            Work::Query { question, .. } => match &**question {
                Question::Log(question) => question.within_limits(),
                _ => true,
            },
            Work::QueryResults { results, .. } => match &**results {
                Results::Log(answer) => answer.entries.len() <= log::PAGE && answer.candidates.len() <= log::PAGE,
                Results::Services(services) => services.within_limits(),
                Results::Output { bytes, .. } => bytes.len() <= limits::OUTPUT_PAGE,
                _ => true,
            },
            _ => true,
        }
    }

    /// One word for traces.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self {
            Work::Claim(_) => "Claim",
            Work::AskLeader(_) => "AskLeader",
            Work::LeaderHeard { .. } => "LeaderHeard",
            Work::HandOver(_) => "HandOver",
            Work::Orders(_) => "Orders",
            Work::Queued { .. } => "Queued",
            Work::NotQueued { .. } => "NotQueued",
            Work::Assign { .. } => "Assign",
            Work::Answer { .. } => "Answer",
            Work::Working { .. } => "Working",
            Work::Started(_) => "Started",
            Work::Progress(_) => "Progress",
            Work::Reports(_) => "Reports",
            Work::ReportsTaken(_) => "ReportsTaken",
            Work::Broken(_) => "Broken",
            Work::GivenUp(_) => "GivenUp",
            Work::Closing(_) => "Closing",
            Work::AskClosed { .. } => "AskClosed",
            Work::KnownClosed { .. } => "KnownClosed",
            Work::Copies(_) => "Copies",
            Work::Copied { .. } => "Copied",
            Work::Holding { .. } => "Holding",
            Work::Known { .. } => "Known",
            Work::UnitsEnded(_) => "UnitsEnded",
            Work::Cancels(_) => "Cancels",
            Work::CancelTaken { .. } => "CancelTaken",
            Work::Query { .. } => "Query",
            Work::QueryResults { .. } => "QueryResults",
        }
    }
}
