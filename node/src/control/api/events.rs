//! What the API tells of the node's record.
//! Knows nothing of how it is kept. The names of events are a closed set.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tasks::TaskState;

/// One entry of the node's own record, as `/v1/events` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its sequence; the id of the event.
    pub seq: u64,
    /// The chain it stands in.
    pub chain: String,
    /// When, by the node's clock.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happens; the name of the event is the value of `what`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
#[allow(missing_docs)] // The fields say what they are; a letter's numbers are those between two peers.
pub enum What {
    Started {
        boot: u64,
        epoch: String,
    },
    Stopped,
    EpochMinted {
        old: String,
        new: String,
    },
    Cloned {
        peer: String,
        peer_id: String,
    },
    PeerCame {
        peer: String,
        peer_id: String,
    },
    PeerLeft {
        peer: String,
        peer_id: String,
    },
    PeerRenamed {
        peer: String,
        peer_id: String,
        old: String,
    },
    NameOnNewKey {
        name: String,
        old_id: String,
        new_id: String,
    },
    Signalled {
        available: bool,
        inactive: bool,
    },
    LetterAccepted {
        letter: String,
        to_ids: Vec<String>,
    },
    LettersDenied {
        by: String,
        by_id: String,
        why: String,
    },
    Blocked {
        peer: String,
        peer_id: String,
        on: bool,
    },
    LettersDiscarded {
        to: String,
        to_id: String,
        epoch: String,
        first: u64,
        last: u64,
        letters: Vec<String>,
        more: bool,
    },
    LettersDelivered {
        to: String,
        to_id: String,
        epoch: String,
        first: u64,
        last: u64,
        letters: Vec<String>,
        more: bool,
    },
    LettersRead {
        by: String,
        by_id: String,
        epoch: String,
        first: u64,
        last: u64,
        letters: Vec<String>,
        more: bool,
    },
    LettersHeld {
        to: String,
        to_id: String,
        by: String,
        by_id: String,
        epoch: String,
        first: u64,
        last: u64,
        letters: Vec<String>,
        more: bool,
    },
    MailTaken {
        recipient: String,
        recipient_id: String,
        depositor: String,
        depositor_id: String,
        bundles: u64,
        bytes: u64,
    },
    MailReleased {
        recipient: String,
        recipient_id: String,
        depositor: String,
        depositor_id: String,
        bundles: u64,
    },
    MailWithdrawn {
        recipient: String,
        recipient_id: String,
        depositor: String,
        depositor_id: String,
        bundles: u64,
    },
    MailHandedOver {
        recipient: String,
        recipient_id: String,
        depositor: String,
        depositor_id: String,
        bundles: u64,
    },
    LettersTaken {
        author: String,
        author_id: String,
        epoch: String,
        first: u64,
        last: u64,
    },
    LettersShown {
        first_n: u64,
        last_n: u64,
    },
    Elected {
        term: u64,
        leader: String,
        leader_id: String,
    },
    Offered {
        service: String,
    },
    Withdrawn {
        service: String,
    },
    OrdersPlaced {
        first: u64,
        last: u64,
    },
    OrdersQueued {
        orderer: String,
        orderer_id: String,
        epoch: String,
        first: u64,
        last: u64,
    },
    OrdersHeld {
        orderer: String,
        orderer_id: String,
        epoch: String,
        first: u64,
        last: u64,
    },
    UnitAssigned {
        #[serde(flatten)]
        of: Try,
        worker: String,
        worker_id: String,
    },
    UnitStarted {
        #[serde(flatten)]
        of: Try,
    },
    UnitEnded {
        #[serde(flatten)]
        of: Try,
        ended: UnitEnd,
        exit_code: Option<i32>,
        why: Option<String>,
    },
    UnitsAssigned {
        #[serde(flatten)]
        of: Tries,
        worker: String,
        worker_id: String,
    },
    UnitsStarted {
        #[serde(flatten)]
        of: Tries,
    },
    UnitsEnded {
        #[serde(flatten)]
        of: Tries,
        ended: UnitEnd,
        exit_code: Option<i32>,
    },
    Drained {
        on: bool,
    },
    TryBroken {
        #[serde(flatten)]
        of: Try,
        why: Broken,
        signal: Option<i32>,
    },
    OrderCancelled {
        order: u64,
        expired: bool,
    },
    OrderEnded {
        order: u64,
        state: TaskState,
    },
    RecordRefused {
        of: String,
        of_id: String,
        by: String,
        by_id: String,
        chain_of: String,
        cause: String,
    },
    RecordPruned {
        of: String,
        of_id: String,
        chain_of: String,
        last_segment: u64,
        last_seq: u64,
    },
    RecordForked {
        of: String,
        of_id: String,
        chain_of: String,
    },
    Refused {
        cause: String,
        count: u64,
    },
    Gap {
        after: u64,
        next: u64,
    },
}

/// One try to run one unit, as events tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Try {
    /// The order's number.
    pub order: u64,
    /// Who ordered.
    pub orderer: String,
    /// The orderer's key.
    pub orderer_id: String,
    /// In which memory of the orderer.
    pub epoch: String,
    /// Which unit, from 1.
    pub unit: u32,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// In which term it was decided.
    pub term: u64,
}

/// Tries of several units that one commit tells of together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tries {
    /// Who ordered.
    pub orderer: String,
    /// The orderer's key.
    pub orderer_id: String,
    /// In which memory of the orderer.
    pub epoch: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// In which term it was decided.
    pub term: u64,
    /// How many units of all orders together.
    pub units: u64,
    /// Which.
    pub runs: Vec<Run>,
}

/// Each of these units of each of these orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// The first order …
    pub first_order: u64,
    /// … to the last.
    pub last_order: u64,
    /// The first unit of each …
    pub first_unit: u32,
    /// … to the last.
    pub last_unit: u32,
}

/// How a unit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnitEnd {
    /// By itself.
    Exited,
    /// Its time was up.
    TimedOut,
    /// It could not be started.
    NotStarted,
    /// It was cancelled.
    Cancelled,
}

/// Why an attempt came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Broken {
    /// Another attempt is preferred.
    Superseded,
    /// Its worker stopped in order.
    Stopping,
    /// Its process was killed by a signal that is not ours.
    Killed,
    /// Its worker was started anew.
    Crashed,
    /// Its worker was silent for too long.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_called_as_the_record_calls_them() {
        let read = |word: &str| serde_json::from_value::<What>(serde_json::json!({"what": word})).map_err(|error| error.to_string());
        let is_unknown = |word: &str| read(word).is_err_and(|error| error.contains("unknown variant"));
        assert!(is_unknown("flown"));
        for word in protocol::segment::What::WORDS {
            assert!(!is_unknown(word), "{word}");
        }
    }
}
