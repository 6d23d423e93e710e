//! What is ordered, and what becomes of it.
//! Knows nothing of who decides. One writer per fact: the orderer signs orders, cancels and closings, the worker its reports.

use std::fmt;

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::config::limits;
use crate::id::Epoch;
use crate::now::Timestamp;
use crate::ranges::Ranges;
use crate::service::{Needs, ServiceName};
use crate::sign::Statement;

/// An order everywhere: number `number` of this memory of this orderer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderKey {
    /// Who ordered.
    pub orderer: PeerId,
    /// In which memory.
    pub epoch: Epoch,
    /// 1, 2, 3 … per orderer; does not begin anew with an epoch.
    pub number: u64,
}

/// What becomes of a unit of whose name one had ended before the memory of its orderer was put back.
pub(crate) const FORGOTTEN: &str = "ended before this node was put back to an earlier state";

/// Where in the queue an order is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Priority {
    /// 1: to the front, behind earlier 1s.
    Front,
    /// 2: to the middle, behind all 1s and the last 2.
    Middle,
    /// 3: to the end.
    #[default]
    End,
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> u8 {
        match priority {
            Priority::Front => 1,
            Priority::Middle => 2,
            Priority::End => 3,
        }
    }
}

impl TryFrom<u8> for Priority {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, &'static str> {
        match number {
            1 => Ok(Priority::Front),
            2 => Ok(Priority::Middle),
            3 => Ok(Priority::End),
            _ => Err("priorities are 1, 2 and 3"),
        }
    }
}

/// A request for a service. Signed by its orderer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Who ordered.
    pub orderer: PeerId,
    /// In which memory.
    pub epoch: Epoch,
    /// Its number.
    pub number: u64,
    /// What.
    pub service: ServiceName,
    /// What the service is told; in each unit `{}` is replaced by its item.
    pub args: Vec<String>,
    /// One unit for each; empty: one unit without an item.
    pub items: Vec<String>,
    /// What the service reads on its standard input.
    pub stdin: Option<ByteBuf>,
    /// Where in the queue it goes.
    pub priority: Priority,
    /// What each unit takes.
    pub needs: Needs,
    /// Never start a unit twice, whatever happens.
    pub once: bool,
    /// When it was placed, by the orderer's wall clock: for people.
    pub placed: Timestamp,
}

impl Order {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> OrderKey {
        OrderKey { orderer: self.orderer, epoch: self.epoch, number: self.number }
    }

    /// How many units it has, 1 or more; they are numbered from 1.
    #[must_use]
    pub fn units(&self) -> u32 {
        u32::try_from(self.items.len()).unwrap_or(u32::MAX).max(1)
    }

    /// The arguments of one unit.
    #[must_use]
    pub fn args_of(&self, unit: u32) -> Vec<String> {
        match self.items.get(unit.saturating_sub(1) as usize) {
            None => self.args.clone(),
            Some(item) => self.args.iter().map(|arg| arg.replace("{}", item)).collect(),
        }
    }

    /// Bytes of all that its orderer wrote into it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = self.args.iter().chain(&self.items).chain(&self.needs.software);
        texts.map(String::len).sum::<usize>() + self.stdin.as_ref().map_or(0, |stdin| stdin.len())
    }

    /// Whether it keeps the limits that every peer checks.
    #[must_use]
    pub fn within_limits(&self) -> bool {
        let no_nul = |text: &String| !text.contains('\0');
        (1..limits::NUMBER_MAX).contains(&self.number)
            && self.args.len() <= limits::ORDER_ARGS
            && self.args.iter().map(String::len).sum::<usize>() <= limits::ORDER_ARGS_BYTES
            && self.args.iter().all(|arg| arg.len() < limits::ORDER_ARG_BYTES)
            && filled_bytes(&self.args, &self.items) <= limits::ORDER_ARGS_BYTES
            && self.items.len() <= limits::ORDER_UNITS
            && self.items.iter().map(String::len).sum::<usize>() <= limits::ORDER_ITEMS_BYTES
            && self.items.iter().all(|item| item.len() < limits::ORDER_ARG_BYTES)
            && self.stdin.as_ref().is_none_or(|stdin| stdin.len() <= limits::ORDER_STDIN_BYTES)
            && self.needs.software.len() <= limits::SOFTWARE
            && self.needs.software.iter().all(|word| word.len() <= limits::SOFTWARE_BYTES)
            && self.args.iter().chain(&self.items).all(no_nul)
    }
}

/// Bytes of all arguments of the unit with the longest item: a few `{}` and a long item make very much of very little.
pub(crate) fn filled_bytes(args: &[String], items: &[String]) -> usize {
    let bytes = args.iter().map(String::len).sum();
    let Some(longest) = items.iter().map(String::len).max() else { return bytes };
    let places: usize = args.iter().map(|arg| arg.matches("{}").count()).sum();
    (bytes - 2 * places).saturating_add(places.saturating_mul(longest))
}

impl Statement for Order {
    const LABEL: &'static str = "order";

    fn signer(&self) -> PeerId {
        self.orderer
    }
}

/// Which leader of which term: of two the greater is obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fence {
    /// Counts elections.
    pub term: u64,
    /// Who leads in it.
    pub leader: PeerId,
}

/// "I lead": signed by the leader, each second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Term and leader.
    pub fence: Fence,
    /// How often the leader was started.
    pub boot: u64,
    /// Counts the claims of a boot; on disk before it is said.
    pub counter: u64,
    /// Peers that the leader can reach: of two leaders the one with more goes on.
    pub followers: u32,
    /// Who would take over: at most [`limits::STANDBYS`].
    pub standbys: Vec<PeerId>,
    /// How long it has led, in milliseconds; 0 while it only wants to: nobody sends it work yet.
    pub led_ms: u64,
}

impl Claim {
    /// Orders the claims of one fence.
    #[must_use]
    pub fn order(&self) -> (Fence, u64, u64) {
        (self.fence, self.boot, self.counter)
    }
}

impl Statement for Claim {
    const LABEL: &'static str = "claim";

    fn signer(&self) -> PeerId {
        self.fence.leader
    }
}

/// One try to run one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Try {
    /// Of which order.
    pub order: OrderKey,
    /// Which unit, from 1.
    pub unit: u32,
    /// Which attempt.
    pub attempt: Attempt,
}

/// Names an attempt: of two attempts of one unit the greater is the later decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attempt {
    /// In which term it was decided …
    pub term: u64,
    /// … and by whom.
    pub leader: PeerId,
    /// Counts the attempts of the unit, from 1.
    pub number: u32,
}

impl Attempt {
    /// Under which fence it was decided.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence { term: self.term, leader: self.leader }
    }
}

impl fmt::Display for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} attempt {}", self.order.number, self.unit, self.attempt.number)
    }
}

/// How a unit ended for good, as its worker reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The program ended by itself; 0 is good.
    Exited(i32),
    /// It ran longer than its time limit and was killed.
    TimedOut,
    /// It could not be started, and why.
    NotStarted(String),
    /// It was cancelled before or while it ran, and is gone.
    Cancelled,
}

impl Ended {
    /// Whether the service did what it was asked for.
    #[must_use]
    pub fn is_good(&self) -> bool {
        *self == Ended::Exited(0)
    }
}

/// Part of what a program wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// The beginning, at most [`limits::EXCERPT_BYTES`].
    pub bytes: ByteBuf,
    /// All that was written.
    pub total: u64,
    /// What the worker keeps of it: head and tail, if it is less than all.
    pub kept: u64,
}

/// How a unit ended: signed by its worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which try.
    pub of: Try,
    /// Who ran it.
    pub worker: PeerId,
    /// How it ended.
    pub ended: Ended,
    /// What it wrote to standard output.
    pub stdout: Excerpt,
    /// What it wrote to standard error.
    pub stderr: Excerpt,
    /// When it began, by the worker's wall clock.
    pub started_at: Timestamp,
    /// When it ended, by the worker's wall clock.
    pub ended_at: Timestamp,
    /// How long it ran, in milliseconds.
    pub ran_ms: u64,
}

impl Report {
    /// Whether it keeps the limits that every peer checks.
    #[must_use]
    pub fn within_limits(&self) -> bool {
        let fits = |excerpt: &Excerpt| excerpt.bytes.len() <= limits::EXCERPT_BYTES;
        let why = match &self.ended {
            Ended::NotStarted(why) => why.len(),
            _ => 0,
        };
        fits(&self.stdout) && fits(&self.stderr) && why <= limits::WHY_BYTES && self.of.unit > 0
    }
}

impl Statement for Report {
    const LABEL: &'static str = "report";

    fn signer(&self) -> PeerId {
        self.worker
    }
}

/// Why an attempt ended without a result: the unit is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Broken {
    /// Another attempt is preferred: by the leader, which has one; or by its worker, where it would have waited for long and did not begin.
    Superseded,
    /// Its worker stops in order.
    Stopping,
    /// Its process was killed by a signal that is not ours.
    Killed(i32),
    /// Its worker was started anew; the process is gone.
    Crashed,
    /// Its worker was silent for too long.
    Lost,
    /// Its order has ended, as its orderer told the worker: it is not run.
    Closed,
}

impl Broken {
    /// Whether the process itself may be what broke it: after [`Config::attempts`](crate::Config) of those nobody tries again.
    #[must_use]
    pub fn blames_the_process(self) -> bool {
        matches!(self, Broken::Killed(_) | Broken::Crashed)
    }
}

/// How an order ended: one of a closed set, written once by its orderer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All units are done.
    Done,
    /// All units ended, and some not well; or nobody could run it to its end.
    Failed,
    /// Its orderer did not want it any more.
    Cancelled,
    /// It did not end in the time that its orderer gave it.
    Expired,
    /// Whether it ran cannot be known.
    Unknown,
}

impl End {
    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            End::Done => "done",
            End::Failed => "failed",
            End::Cancelled => "cancelled",
            End::Expired => "expired",
            End::Unknown => "unknown",
        }
    }
}

/// Which orders of one memory of their orderer have ended: signed by the orderer, cumulative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Whose orders.
    pub orderer: PeerId,
    /// Of which memory.
    pub epoch: Epoch,
    /// All that have ended, lowest ranges first, as many as fit.
    pub closed: Ranges,
    /// How the latest of them ended: at most [`limits::PAGE`].
    pub ends: Vec<(u64, End)>,
}

impl Statement for Closing {
    const LABEL: &'static str = "closing";

    fn signer(&self) -> PeerId {
        self.orderer
    }
}

/// An order is not wanted any more: signed by its orderer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Which.
    pub order: OrderKey,
    /// Its time is up, rather than its user's patience.
    pub expired: bool,
}

impl Statement for Cancel {
    const LABEL: &'static str = "cancel";

    fn signer(&self) -> PeerId {
        self.order.orderer
    }
}
