//! What the API says and hears of services, workers, the dispatcher, and questions to others.
//! Knows nothing of how anything is run. Listed fields are always there, and unknown is null.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tasks::Lack;

/// A service to offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOffer {
    /// By what name it is ordered.
    pub name: String,
    /// What it does, in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// How many run at once; one if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Logical CPUs that each run takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Bytes of memory that each run takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Software that is here and that orders may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub software: Vec<String>,
    /// A run is ended after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_seconds: Option<u64>,
    /// Who may order it: peers, or `anyone`. Must be said in an open swarm; anyone in a closed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// A program and its first arguments; those of the order follow. No shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// What is run without a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Builtin>,
}

/// What is run without a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Builtin {
    /// Answers with its arguments.
    Echo,
}

/// A service of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Offer {
    /// By what name it is ordered.
    pub name: String,
    /// What it does.
    pub about: String,
    /// How many run at once.
    pub limit: u32,
    /// Units that run …
    pub running: u32,
    /// … and that wait here.
    pub queued: u32,
    /// Logical CPUs that each run takes.
    pub cores: u32,
    /// Bytes of memory that each run takes.
    pub memory_bytes: u64,
    /// Software that it declares to be here.
    pub software: Vec<String>,
    /// A run is ended after this.
    pub time_limit_seconds: Option<u64>,
    /// Who may order it: peers, or `anyone`.
    pub allow: Vec<String>,
    /// A program and its first arguments.
    pub command: Option<Vec<String>>,
    /// What is run without a program.
    pub builtin: Option<Builtin>,
    /// It stands in `node.toml`: whatever is said of it now, at the next start it is offered as it stands there.
    pub configured: bool,
}

/// Take nothing new, or take it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Finish what runs and take nothing new.
    pub draining: bool,
}

/// What became of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Draining {
    /// Takes nothing new.
    pub draining: bool,
    /// Units that run here.
    pub running: u32,
    /// Units that wait here; they are being given back.
    pub queued: u32,
}

/// A service of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// By what name it is ordered.
    pub service: String,
    /// What it does, in its worker's words.
    pub about: String,
    /// Who offers it.
    pub worker: String,
    /// The worker's key.
    pub worker_id: String,
    /// The worker is here and takes work.
    pub available: bool,
    /// The worker finishes what runs and takes nothing new.
    pub draining: bool,
    /// How many run there at once.
    pub limit: u32,
    /// Logical CPUs that each run takes.
    pub cores: u32,
    /// Bytes of memory that each run takes.
    pub memory_bytes: u64,
    /// Software that each run uses.
    pub software: Vec<String>,
    /// Who may order it: peers, or `anyone`.
    pub allow: Vec<String>,
    /// This node may.
    pub allowed: bool,
}

/// A peer that offers services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// Its key.
    pub id: String,
    /// As it is called.
    pub name: String,
    /// Here, and it takes work.
    pub available: bool,
    /// It signals that its user may not be there.
    pub inactive: bool,
    /// It finishes what runs and takes nothing new.
    pub draining: bool,
    /// It answered within 0.3 s; without, what runs there is not known.
    pub answered: bool,
    /// When anyone in reach last heard it.
    pub last_seen_at: Option<String>,
    /// What it offers.
    pub services: Vec<String>,
    /// Units that run there.
    pub running: Option<u32>,
    /// Units that can run there at once, of all services.
    pub limit: u32,
    /// Units that wait there.
    pub queued: Option<u32>,
    /// Logical CPUs.
    pub cores: Cores,
    /// Memory.
    pub memory: Memory,
    /// Software that is declared there.
    pub software: Vec<String>,
}

/// Logical CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cores {
    /// All.
    pub total: u32,
    /// Idle, or not taken by units.
    pub free: f64,
}

/// Memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Memory {
    /// All.
    pub total_bytes: u64,
    /// Free, or not taken by units.
    pub free_bytes: u64,
}

/// What a worker says when it is asked whether it could start something now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Availability {
    /// Who.
    pub worker: String,
    /// Its key.
    pub worker_id: String,
    /// It answered within 0.3 s; without, all that follows is null.
    pub answered: bool,
    /// It would start at once.
    pub available: Option<bool>,
    /// Why not.
    pub why: Option<Lack>,
    /// Of what it has too little: how much it has. For software: which is missing.
    pub detail: Option<String>,
    /// Tasks of that service that run or wait there.
    pub tasks_remaining: Option<u32>,
    /// When it would be free.
    pub eta_seconds: Option<f64>,
    /// How many runs were measured for that.
    pub basis: Option<u32>,
    /// Runs of that service now …
    pub running: Option<u32>,
    /// … of so many.
    pub limit: Option<u32>,
    /// Logical CPUs: what running tasks leave.
    pub cores: Option<Cores>,
    /// Memory: what running tasks leave.
    pub memory: Option<Memory>,
    /// Software that is declared there.
    pub software: Vec<String>,
}

/// Who hands out the tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dispatcher {
    /// Its key.
    pub id: String,
    /// As it is called.
    pub name: String,
    /// Counts elections.
    pub term: u64,
    /// Since when it leads.
    pub since_at: String,
    /// Who would take over: they have the whole queue, too.
    pub standbys: Vec<Standby>,
}

/// A peer that would take over from the dispatcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Standby {
    /// Its key.
    pub id: String,
    /// As it is called.
    pub name: String,
}

/// Who should lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// A peer.
    pub to: String,
}

/// Another was asked to lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transferring {
    /// Who.
    pub to: String,
    /// Its key.
    pub to_id: String,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewQuery {
    /// A peer, or `swarm` for all that are here.
    pub to: String,
    /// What about.
    pub what: About,
}

/// What may be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// Whom it sees.
    Peers,
    /// What it offers.
    Services,
    /// How it is as a worker.
    Workers,
    /// What it is at as dispatcher.
    Tasks,
    /// CPU, memory and units.
    Statistics,
    /// Who it is and how it is.
    Status,
}

impl About {
    /// All of them.
    pub const ALL: [About; 6] = [About::Peers, About::Services, About::Workers, About::Tasks, About::Statistics, About::Status];

    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            About::Peers => "peers",
            About::Services => "services",
            About::Workers => "workers",
            About::Tasks => "tasks",
            About::Statistics => "statistics",
            About::Status => "status",
        }
    }
}

/// What one peer answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueryResults {
    /// Who.
    pub peer: String,
    /// Its key.
    pub peer_id: String,
    /// It answered in time.
    pub answered: bool,
    /// Why there are no results.
    pub why: Option<String>,
    /// The answer: services, workers, tasks as their own routes show them, a list of [`Seen`], or [`Statistics`]; null without one.
    pub results: serde_json::Value,
}

/// A peer as another sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Seen {
    /// Its key.
    pub id: String,
    /// As it is called there.
    pub name: String,
    /// It is here and welcomes letters and tasks.
    pub available: bool,
    /// It signals that its user may not be there.
    pub inactive: bool,
    /// For how long it has been seen.
    pub here_seconds: f64,
}

/// CPU, memory and units of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Statistics {
    /// Logical CPUs.
    pub cores: Cores,
    /// Memory.
    pub memory: Memory,
    /// Units that run.
    pub running: u32,
    /// Units that wait.
    pub queued: u32,
    /// For how long its node has run.
    pub up_seconds: f64,
}
