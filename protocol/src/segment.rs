//! The unit of the record: what one commit of one peer did.
//! Knows nothing of who reads it. Numbered without gaps, chained by hash, signed, copied opaque.

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use sha2::{Digest, Sha256};

use crate::codec::{self, DecodeError};
use crate::id::{Epoch, LetterId};
use crate::name::PeerName;
use crate::now::Timestamp;
use crate::order::{Attempt, Broken, End, Ended, OrderKey, Try};
use crate::service::ServiceName;
use crate::sign::{Signed, Statement};

/// One commit's entries. Signed by its author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Whose record.
    pub author: PeerId,
    /// Which chain of it; a node that cannot prove continuity opens a new one. In JSON a string.
    pub chain: u64,
    /// Counts the segments of this chain, from 1.
    pub number: u64,
    /// SHA-256 of the body of segment `number - 1`; for the first, the last hash known of the chain before, or zeros.
    pub previous: ByteArray<32>,
    /// Sequence of the first entry; the others follow.
    pub first: u64,
    /// What happened, 1 or more.
    pub entries: Vec<Entry>,
}

impl Statement for Segment {
    const LABEL: &'static str = "segment";

    fn signer(&self) -> PeerId {
        self.author
    }
}

/// The hash by which the next segment names this one.
#[must_use]
pub fn hash(segment: &Signed<Segment>) -> [u8; 32] {
    Sha256::digest(&segment.body).into()
}

/// A segment as it is read back: some entries may be of kinds that this version does not know.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// Whose record.
    pub author: PeerId,
    /// Which chain of it.
    pub chain: u64,
    /// Its number there.
    pub number: u64,
    /// The hash of what comes before.
    pub previous: [u8; 32],
    /// Sequence of the first entry.
    pub first: u64,
    /// When, and what if that is known.
    pub entries: Vec<(Timestamp, Option<What>)>,
}

/// Reads the body of a segment.
///
/// # Errors
/// It is none.
pub fn open(body: &[u8]) -> Result<Opened, DecodeError> {
    #[derive(Deserialize)]
    struct Loose {
        author: PeerId,
        chain: u64,
        number: u64,
        previous: ByteArray<32>,
        first: u64,
        entries: Vec<LooseEntry>,
    }
    #[derive(Deserialize)]
    struct LooseEntry {
        time: Timestamp,
        what: serde_cbor::Value,
    }
    if let Ok(segment) = codec::decode::<Segment>(body) {
        let Segment { author, chain, number, previous, first, entries } = segment;
        let entries = entries.into_iter().map(|entry| (entry.time, Some(entry.what))).collect();
        return Ok(Opened { author, chain, number, previous: previous.into_array(), first, entries });
    }
    let Loose { author, chain, number, previous, first, entries } = codec::decode(body)?;
    let known = |entry: LooseEntry| (entry.time, serde_cbor::value::from_value(entry.what).ok());
    let entries = entries.into_iter().map(known).collect();
    Ok(Opened { author, chain, number, previous: previous.into_array(), first, entries })
}

/// One thing that happened. Envelope data only, never a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by this node's wall clock.
    pub time: Timestamp,
    /// What.
    pub what: What,
}

/// The kinds of thing that happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// This node started.
    Started {
        /// Counts its starts.
        boot: u64,
        /// The memory it started with.
        epoch: Epoch,
    },
    /// This node was stopped in order.
    Stopped,
    /// This node's memory may have jumped back; what it writes from now on bears a new epoch.
    EpochMinted {
        /// Before.
        old: Epoch,
        /// From now on.
        new: Epoch,
    },
    /// A peer, or this node itself, runs twice with one key.
    Cloned {
        /// Who.
        peer: PeerId,
    },
    /// A peer became reachable.
    PeerCame {
        /// Who.
        peer: PeerId,
        /// As it is called.
        name: PeerName,
    },
    /// A peer is no longer reachable.
    PeerLeft {
        /// Who.
        peer: PeerId,
    },
    /// A known key bears a new name.
    PeerRenamed {
        /// Who.
        peer: PeerId,
        /// Before.
        old: PeerName,
        /// Now.
        new: PeerName,
    },
    /// A known name appears on another key.
    NameOnNewKey {
        /// The name.
        name: PeerName,
        /// Who bore it before.
        old: PeerId,
        /// Who bears it too now.
        new: PeerId,
    },
    /// This node's own signals.
    Signalled {
        /// Takes letters and tasks.
        available: bool,
        /// May not read soon.
        inactive: bool,
    },
    /// A letter was accepted from this node's user.
    LetterAccepted {
        /// Which.
        letter: LetterId,
        /// To whom, with its number there; no number while nobody of that name is known.
        to: Vec<(PeerId, u64)>,
        /// In which epoch of this node those numbers are.
        #[serde(default)]
        epoch: Epoch,
    },
    /// Letters of this node were receipted.
    LettersDelivered {
        /// By whom.
        to: PeerId,
        /// In which epoch of this node.
        epoch: Epoch,
        /// From this number …
        first: u64,
        /// … to this.
        last: u64,
    },
    /// Letters of this node were discarded, and will not be delivered.
    LettersDiscarded {
        /// To whom they were.
        to: PeerId,
        /// In which epoch of this node.
        epoch: Epoch,
        /// From this number …
        first: u64,
        /// … to this.
        last: u64,
    },
    /// A recipient takes no letters of this node.
    LettersDenied {
        /// Who.
        by: PeerId,
        /// Why: a [`Denial`](crate::mail::Denial) as a word.
        why: String,
    },
    /// This node's user blocked a peer, or no longer does.
    Blocked {
        /// Whom.
        peer: PeerId,
        /// Whether.
        on: bool,
    },
    /// A custodian has flushed a copy of letters of this node.
    LettersHeld {
        /// For whom they are.
        to: PeerId,
        /// In which epoch of this node.
        epoch: Epoch,
        /// From this number …
        first: u64,
        /// … to this.
        last: u64,
        /// The custodian.
        by: PeerId,
    },
    /// Mail of others was taken to be held.
    MailTaken {
        /// For whom it is.
        recipient: PeerId,
        /// Whose it is.
        depositor: PeerId,
        /// How many bundles.
        bundles: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Mail was released by its recipient.
    MailReleased {
        /// For whom it was.
        recipient: PeerId,
        /// Whose it was.
        depositor: PeerId,
        /// How many bundles.
        bundles: u64,
    },
    /// Mail was withdrawn by its author.
    MailWithdrawn {
        /// For whom it was.
        recipient: PeerId,
        /// Whose it was.
        depositor: PeerId,
        /// How many bundles.
        bundles: u64,
    },
    /// Mail is held by closer peers, and not here any more.
    MailHandedOver {
        /// For whom it is.
        recipient: PeerId,
        /// Whose it is.
        depositor: PeerId,
        /// How many bundles.
        bundles: u64,
    },
    /// Letters of this node were read.
    LettersRead {
        /// By whom.
        by: PeerId,
        /// In which epoch of this node.
        epoch: Epoch,
        /// From this number …
        first: u64,
        /// … to this.
        last: u64,
    },
    /// Letters to this node were committed.
    LettersTaken {
        /// Whose.
        author: PeerId,
        /// In which epoch of the author.
        epoch: Epoch,
        /// From this number …
        first: u64,
        /// … to this.
        last: u64,
    },
    /// Letters got their place in the inbox.
    LettersShown {
        /// From this `n` …
        first: u64,
        /// … to this.
        last: u64,
    },
    /// Another peer leads now, as far as this node knows.
    Elected {
        /// In which term.
        term: u64,
        /// Who.
        leader: PeerId,
    },
    /// This node offers a service, or offers it otherwise.
    Offered {
        /// Which.
        service: ServiceName,
    },
    /// It offers it no more.
    Withdrawn {
        /// Which.
        service: ServiceName,
    },
    /// Orders of this node were placed.
    OrdersPlaced {
        /// From this number …
        first: u64,
        /// … to this.
        last: u64,
    },
    /// This node, as leader, took orders into its queue.
    OrdersQueued {
        /// Whose.
        orderer: PeerId,
        /// Of which memory.
        epoch: Epoch,
        /// From this number …
        first: u64,
        /// … to this.
        last: u64,
    },
    /// This node has copies of these orders of the leader's queue, to take over.
    OrdersHeld {
        /// Whose.
        orderer: PeerId,
        /// Of which memory.
        epoch: Epoch,
        /// From this number …
        first: u64,
        /// … to this.
        last: u64,
    },
    /// This node, as leader, gave a unit to a worker.
    UnitAssigned {
        /// Which try.
        of: Try,
        /// To whom.
        worker: PeerId,
    },
    /// This node began to run a unit.
    UnitStarted {
        /// Which try.
        of: Try,
    },
    /// A unit ended at this node.
    UnitEnded {
        /// Which try.
        of: Try,
        /// How.
        ended: Ended,
    },
    /// This node, as leader, gave several units to a worker.
    UnitsAssigned {
        /// Which tries.
        of: Tries,
        /// To whom.
        worker: PeerId,
    },
    /// This node began to run several units.
    UnitsStarted {
        /// Which tries.
        of: Tries,
    },
    /// Several units ended alike at this node.
    UnitsEnded {
        /// Which tries.
        of: Tries,
        /// How each of them did.
        ended: Ended,
    },
    /// This node takes no new work, or takes it again.
    Drained {
        /// Whether.
        on: bool,
    },
    /// An attempt at this node came to nothing, or this node, as leader, gave it up.
    TryBroken {
        /// Which try.
        of: Try,
        /// Why.
        why: Broken,
    },
    /// The user of this node does not want an order any more.
    OrderCancelled {
        /// Its number.
        number: u64,
        /// Its time was up.
        expired: bool,
    },
    /// An order of this node has its outcome.
    OrderEnded {
        /// Its number.
        number: u64,
        /// How.
        end: End,
    },
    /// A peer sent something false as the record of another, or of its own.
    RecordRefused {
        /// Whose record it should have been.
        of: PeerId,
        /// Who sent it.
        by: PeerId,
        /// Of which chain.
        chain: u64,
        /// Why: a cause of [`Cause`](crate::edge::Cause) as a word.
        cause: String,
    },
    /// Old segments were let go of here. What is left of the chain goes on from this.
    RecordPruned {
        /// Whose.
        of: PeerId,
        /// Of which chain.
        chain: u64,
        /// Another line of segments of it, if not 0.
        branch: u8,
        /// All up to this one.
        through: u64,
        /// Sequence of its last entry.
        last_entry: u64,
        /// Its hash.
        hash: ByteArray<32>,
    },
    /// A peer has signed two segments of one number: both are kept.
    RecordForked {
        /// Who.
        of: PeerId,
        /// In which chain.
        chain: u64,
    },
    /// Input was refused.
    Refused {
        /// Why: a cause of [`Cause`](crate::edge::Cause) as a word.
        cause: String,
        /// How often since the last such entry.
        count: u64,
    },
}

/// Tries of one orderer and one attempt that one commit tells of together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Who ordered.
    pub orderer: PeerId,
    /// In which memory of the orderer.
    pub epoch: Epoch,
    /// Which attempt.
    pub attempt: Attempt,
    /// Of these orders these units: first and last order, first and last unit; each unit of each order is meant.
    pub runs: Vec<(u64, u64, u32, u32)>,
}

impl Tries {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        let sizes = self.runs.iter().map(|(first, last, from, to)| {
            let orders = last.saturating_sub(*first).saturating_add(1);
            orders.saturating_mul(u64::from(to.saturating_sub(*from)) + 1)
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// Each of them, order by order.
    pub fn iter(&self) -> impl Iterator<Item = Try> + '_ {
        self.runs.iter().flat_map(move |(first, last, from, to)| {
            (*first..=*last).flat_map(move |number| {
                let order = OrderKey { orderer: self.orderer, epoch: self.epoch, number };
                (*from..=*to).map(move |unit| Try { order, unit, attempt: self.attempt })
            })
        })
    }
}

macro_rules! kinds {
    ($($kind:ident = $word:literal,)+) => {
        impl What {
            /// All words for kinds.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for its kind: in the record, in the API, in `log`.
            #[must_use]
            pub fn word(&self) -> &'static str {
                match self { $(What::$kind { .. } => $word,)+ }
            }
        }
    };
}

kinds! {
    Started = "started",
    Stopped = "stopped",
    EpochMinted = "epoch_minted",
    Cloned = "cloned",
    PeerCame = "peer_came",
    PeerLeft = "peer_left",
    PeerRenamed = "peer_renamed",
    NameOnNewKey = "name_on_new_key",
    Signalled = "signalled",
    LetterAccepted = "letter_accepted",
    LettersDelivered = "letters_delivered",
    LettersDiscarded = "letters_discarded",
    LettersDenied = "letters_denied",
    Blocked = "blocked",
    LettersHeld = "letters_held",
    MailTaken = "mail_taken",
    MailReleased = "mail_released",
    MailWithdrawn = "mail_withdrawn",
    MailHandedOver = "mail_handed_over",
    LettersRead = "letters_read",
    LettersTaken = "letters_taken",
    LettersShown = "letters_shown",
    Elected = "elected",
    Offered = "offered",
    Withdrawn = "withdrawn",
    OrdersPlaced = "orders_placed",
    OrdersQueued = "orders_queued",
    OrdersHeld = "orders_held",
    UnitAssigned = "unit_assigned",
    UnitStarted = "unit_started",
    UnitEnded = "unit_ended",
    UnitsAssigned = "units_assigned",
    UnitsStarted = "units_started",
    UnitsEnded = "units_ended",
    Drained = "drained",
    TryBroken = "try_broken",
    OrderCancelled = "order_cancelled",
    OrderEnded = "order_ended",
    RecordRefused = "record_refused",
    RecordPruned = "record_pruned",
    RecordForked = "record_forked",
    Refused = "refused",
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Secrets;

    #[test]
    fn a_kind_that_a_later_version_writes_hides_no_other_entry() {
        #[derive(Serialize)]
        struct Later {
            author: PeerId,
            chain: u64,
            number: u64,
            previous: ByteArray<32>,
            first: u64,
            entries: Vec<serde_cbor::Value>,
        }
        let entry = |what: serde_cbor::Value| {
            let fields = [("time", serde_cbor::Value::Integer(5)), ("what", what)];
            serde_cbor::Value::Map(fields.into_iter().map(|(name, value)| (serde_cbor::Value::Text(name.to_owned()), value)).collect())
        };
        let text = |text: &str| serde_cbor::Value::Text(text.to_owned());
        let author = Secrets::from_seeds(&[1; 32], &[2; 32]).id();
        let entries = vec![entry(text("flown")), entry(text("stopped"))];
        let body = codec::encode(&Later { author, chain: 1, number: 1, previous: ByteArray::new([0; 32]), first: 9, entries });
        let opened = open(&body).expect("a segment");
        assert_eq!((opened.author, opened.first), (author, 9));
        assert_eq!(opened.entries, [(Timestamp(5), None), (Timestamp(5), Some(What::Stopped))]);
    }

    #[test]
    fn every_kind_is_called_as_it_is_written_down() {
        for word in What::WORDS {
            // As in the bytes, whose names serde makes of the same kinds.
            let bare = serde_cbor::Value::Map([(serde_cbor::Value::Text((*word).to_owned()), serde_cbor::Value::Null)].into());
            let read = serde_cbor::value::from_value::<What>(bare);
            assert!(read.err().is_none_or(|error| !error.to_string().contains("unknown variant")), "{word}");
        }
        assert!(What::WORDS.contains(&What::Stopped.word()) && What::WORDS.contains(&What::Drained { on: true }.word()));
    }
}
