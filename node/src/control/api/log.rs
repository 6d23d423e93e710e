//! What the API tells of the record of all peers.
//! Knows nothing of how it is kept. What an entry says beside its subject is in `detail`, by the names of the event of that kind.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The header of a page of the record that says that not everything written before that time is kept any more.
pub const WHOLE_SINCE: &str = "record-whole-since";

/// One entry of somebody's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEntry {
    /// Who wrote it down.
    pub peer: String,
    /// Its key.
    pub peer_id: String,
    /// In which chain of its record.
    pub chain: String,
    /// Its author has signed others under the same numbers: in which of these lines it is, from 1; 0 is the first that was seen.
    pub branch: u8,
    /// Its sequence there.
    pub seq: u64,
    /// When, by its author's clock.
    pub time: String,
    /// What happened: the name of the event of that kind, or `unknown` if this version does not know it.
    pub what: String,
    /// What or whom it is about; null where it is about its author.
    pub subject: Option<String>,
    /// The rest, as the event of that kind has it.
    pub detail: serde_json::Value,
    /// Its segment or the one beside it was changed where it is kept: `log --verify` there says which.
    pub doubtful: bool,
}

/// Whether the record that a node keeps is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// Nothing is wrong.
    pub good: bool,
    /// Every chain that is kept here.
    pub chains: Vec<LogChain>,
    /// What is wrong, at most a thousand …
    pub flaws: Vec<LogFlaw>,
    /// … of so many.
    pub flaws_in_all: u64,
}

/// A chain as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogChain {
    /// Who wrote it.
    pub peer: String,
    /// Its key.
    pub peer_id: String,
    /// Which.
    pub chain: String,
    /// It is another line of segments under the same numbers.
    pub branch: u8,
    /// It is a copy, and not this node's own.
    pub copy: bool,
    /// Its first segment here …
    pub first_segment: u64,
    /// … and its last.
    pub last_segment: u64,
    /// Its first entry here …
    pub first_seq: u64,
    /// … and its last.
    pub last_seq: u64,
    /// When the first was written …
    pub first_at: String,
    /// … and when the last.
    pub last_at: String,
    /// Nothing is wrong with it.
    pub good: bool,
    /// The chain that it goes on from; null for the first.
    pub follows: Option<String>,
    /// After which segment of that.
    pub follows_segment: Option<u64>,
    /// That one goes on, too: what its author wrote then it has forgotten, as after a restored backup.
    pub jumped_back: bool,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogFlaw {
    /// In whose record.
    pub peer: String,
    /// Its key.
    pub peer_id: String,
    /// In which chain.
    pub chain: String,
    /// It is in a copy.
    pub copy: bool,
    /// From this segment …
    pub first_segment: u64,
    /// … to this.
    pub last_segment: u64,
    /// The first entry concerned, if it is known …
    pub first_seq: Option<u64>,
    /// … and the last.
    pub last_seq: Option<u64>,
    /// What is wrong.
    pub kind: LogFlawKind,
}

/// What can be wrong with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFlawKind {
    /// It cannot be read.
    Damaged,
    /// Its signature does not fit its bytes.
    Signature,
    /// It stands in the place of another.
    Misplaced,
    /// It does not cite the one before it.
    Hash,
    /// Segments are missing.
    Missing,
    /// Its entries are not numbered on from those before.
    Sequence,
    /// There are two segments of one number, both of their author.
    Forked,
    /// Whoever looks for an order or a letter may miss some of it.
    Index,
}
