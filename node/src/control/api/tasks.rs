//! What the API says and hears of orders and tasks.
//! Knows nothing of who decides. Listed fields are always there, and unknown is null.

use std::borrow::Cow;

use protocol::order::End;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// An order as it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrder<'a> {
    /// What.
    #[serde(borrow)]
    pub service: Cow<'a, str>,
    /// What the service is told; in each unit `{}` is replaced by its item. Where there are items and no `{}`, it is added at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// One unit for each; without, there is one unit without an item. A list of none is refused.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
    /// What the service reads: text, or what `stdin_encoding` says.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Cow<'a, str>>,
    /// How `stdin` is written.
    #[serde(default)]
    pub stdin_encoding: Encoding,
    /// 1 to the front, 2 to the middle, 3 to the end of the queue.
    #[schema(minimum = 1, maximum = 3)]
    #[serde(default = "last", skip_serializing_if = "is_last")]
    pub priority: u8,
    /// Logical CPUs that each unit takes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cores: u32,
    /// Bytes of memory that each unit takes.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub memory_bytes: u64,
    /// Software that the worker must have declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub software: Vec<String>,
    /// Never start a unit twice.
    #[serde(default, skip_serializing_if = "is_false")]
    pub once: bool,
    /// What has not ended after this is not wanted any more; at most a hundred years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
    /// Makes the request idempotent for ever.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub key: Option<Cow<'a, str>>,
}

/// Whoever collects items and finds none does not mean one unit without.
fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let items = Vec::deserialize(from)?;
    if items.is_empty() {
        return Err(D::Error::custom("`items` is an empty list, of which no unit can be made; without items leave it out"));
    }
    Ok(items)
}

fn last() -> u8 {
    3
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands references.
fn is_last(priority: &u8) -> bool {
    *priority == last()
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands references.
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands references.
fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands references.
fn is_false(yes: &bool) -> bool {
    !yes
}

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Encoding {
    /// They are text.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// They are not, and are written as RFC 4648 has it, with padding.
    #[serde(rename = "base64")]
    Base64,
}

/// An order was accepted: it is on this node's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// Its number.
    pub order: u64,
    /// Who ordered.
    pub orderer_id: String,
    /// How far it is.
    pub state: TaskState,
    /// Machines other than the orderer's that hold it.
    pub held_by: u32,
    /// Its place in the queue, from 1.
    pub position: Option<u64>,
    /// Nothing changes any more.
    #[serde(rename = "final")]
    pub done: bool,
}

/// How far an order, or one unit of it, is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// On its orderer's disk; no dispatcher has it yet.
    #[default]
    Accepted,
    /// A dispatcher has it, and no worker.
    Queued,
    /// A worker has it, and has not started it.
    Assigned,
    /// It runs.
    Running,
    /// Its worker is silent.
    Unreachable,
    /// It is not wanted any more; what runs of it is being stopped.
    Cancelling,
    /// It ended well.
    Done,
    /// It did not.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It did not end in the time that it was given.
    Expired,
    /// Whether it ran cannot be known.
    Unknown,
}

impl TaskState {
    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            TaskState::Accepted => "accepted",
            TaskState::Queued => "queued",
            TaskState::Assigned => "assigned",
            TaskState::Running => "running",
            TaskState::Unreachable => "unreachable",
            TaskState::Cancelling => "cancelling",
            TaskState::Done => "done",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
            TaskState::Expired => "expired",
            TaskState::Unknown => "unknown",
        }
    }
}

impl From<End> for TaskState {
    fn from(end: End) -> TaskState {
        match end {
            End::Done => TaskState::Done,
            End::Failed => TaskState::Failed,
            End::Cancelled => TaskState::Cancelled,
            End::Expired => TaskState::Expired,
            End::Unknown => TaskState::Unknown,
        }
    }
}

/// An order and what becomes of it, or one unit of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// As commands take it: `17`, `nikki-pi/17`, `17.3`.
    pub id: String,
    /// The order's number.
    pub order: u64,
    /// The unit, if it is about one.
    pub unit: Option<u32>,
    /// The unit's item, if it has one and it is known here.
    pub item: Option<String>,
    /// Who ordered.
    pub orderer: String,
    /// The orderer's key.
    pub orderer_id: String,
    /// What was ordered.
    pub service: String,
    /// What the service is told; of an order of another node the beginning, as one text.
    pub args: Vec<String>,
    /// 1, 2 or 3.
    pub priority: u8,
    /// How far it is.
    pub state: TaskState,
    /// Nothing changes any more.
    #[serde(rename = "final")]
    pub done: bool,
    /// Who runs it, or ran it; null if several do.
    pub worker: Option<String>,
    /// The worker's key.
    pub worker_id: Option<String>,
    /// Which attempt that is.
    pub attempt: Option<u32>,
    /// How far the program says it is.
    pub progress: Option<Progress>,
    /// How far its units are.
    pub units: Units,
    /// Its place in the queue, from 1.
    pub position: Option<u64>,
    /// Machines other than the orderer's that hold it.
    pub held_by: u32,
    /// When it should start, or if it runs, end.
    pub eta_seconds: Option<f64>,
    /// How many runs were measured for that.
    pub eta_basis: u32,
    /// Why it is not farther, or how it ended, in a sentence.
    pub why: Option<String>,
    /// What each worker lacks to start it.
    pub lacks: Vec<Lacking>,
    /// The beginning of what it wrote to standard output; null until it has ended.
    pub stdout: Option<String>,
    /// The beginning of what it wrote to standard error; null until it has ended.
    pub stderr: Option<String>,
    /// All that it wrote to standard output.
    pub stdout_bytes: Option<u64>,
    /// All that it wrote to standard error.
    pub stderr_bytes: Option<u64>,
    /// `stdout` is not all; what is kept of the rest is at `tasks/{id}/stdout`.
    pub stdout_truncated: bool,
    /// `stderr` is not all; what is kept of the rest is at `tasks/{id}/stderr`.
    pub stderr_truncated: bool,
    /// Bytes of its standard output that its worker did not keep: from the middle, where all of it was too much.
    pub stdout_lost_bytes: u64,
    /// And of its standard error.
    pub stderr_lost_bytes: u64,
    /// How `stdout` and `stderr` are written.
    pub encoding: Encoding,
    /// What the program ended with.
    pub exit_code: Option<i32>,
    /// When it was placed.
    pub placed_at: String,
    /// When it was started, by its worker's clock.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// When it will not be wanted any more.
    pub expires_at: Option<String>,
}

/// The payload of the event that tells, in the inbox, how an order of this node ended: the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutcomePayload {
    /// Which event it is.
    pub event: OutcomeEvent,
    /// What became of the order.
    #[serde(flatten)]
    pub task: Task,
}

/// The one word that this event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeEvent {
    /// An order has ended.
    Outcome,
}

/// How far a program says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Steps done …
    pub done: u64,
    /// … of so many.
    pub of: u64,
    /// In its words.
    pub note: String,
}

/// How far the units of an order are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Units {
    /// All.
    pub total: u32,
    /// Ended well.
    pub done: u32,
    /// Ended, but not well.
    pub failed: u32,
    /// Cancelled before they ended.
    pub cancelled: u32,
    /// With a worker that runs them.
    pub running: u32,
    /// Neither.
    pub waiting: u32,
}

/// What one worker lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lacking {
    /// Who.
    pub worker: String,
    /// Its key.
    pub worker_id: String,
    /// What.
    pub lack: Lack,
    /// Of what it has too little: how much it has. For software: which is missing.
    pub detail: Option<String>,
}

/// Why a worker does not take something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// As many run there as may.
    Full,
    /// What runs there leaves too little.
    Busy,
    /// It finishes what runs and takes nothing new.
    Draining,
    /// It takes no work now.
    NotAvailable,
    /// Its disk is almost full.
    Disk,
    /// It has too few CPUs.
    Cores,
    /// It has too little memory.
    Memory,
    /// It has not declared some software.
    Software,
    /// Its user does not allow it.
    NotAllowed,
    /// It does not offer the service.
    NotOffered,
    /// It has not been given the order yet.
    NoOrder,
}
