//! What the API says and hears, as types (DESIGN 10.2).
//! Knows nothing of redb or libp2p. Listed fields are always there, unknown is null, and every word is from a closed set.

mod events;
mod log;
mod services;
mod tasks;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::events::*;
pub use self::log::*;
pub use self::services::*;
pub use self::tasks::*;
pub use super::json::{Content, NewLetter};

/// Letters or peers of a page if nothing else is asked for …
pub const PAGE: usize = 100;
/// … and at most.
pub const PAGE_MAX: usize = 1_000;

/// What this node is and sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The node itself.
    pub peer: Me,
    /// The swarm's name.
    pub swarm: String,
    /// Anyone on this network may join.
    pub open: bool,
    /// Multiaddrs by which it is reached.
    pub addresses: Vec<String>,
    /// How many others there are.
    pub peers: PeerCounts,
    /// The elected dispatcher; null while none is known.
    pub dispatcher: Option<Dispatcher>,
    /// The node's unbroken memory.
    pub epoch: String,
    /// Of the program.
    pub version: String,
    /// Signals that letters and tasks are welcome.
    pub available: bool,
    /// Signals that letters may not be read soon.
    pub inactive: bool,
    /// Another process with the same key is running: no letters are taken or sent.
    pub cloned: bool,
    /// Letters here.
    pub letters: LetterCounts,
    /// Orders here.
    pub orders: OrderCounts,
    /// What is kept of the record of all.
    pub record: RecordRoom,
    /// Room.
    pub disk: Disk,
    /// What was refused from others since the start, by cause.
    pub refused: BTreeMap<String, u64>,
    /// Addresses that the node was told to reach (`--peer`) and where nobody answers yet; each is tried again now and then.
    pub unreached: Vec<Missing>,
    /// What was done to find others.
    pub search: Search,
    /// Where the node keeps its things.
    pub data_dir: String,
    /// When the node started.
    pub started_at: String,
    /// How often it was started.
    pub boot: u64,
}

/// What was done so far to find others, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Search {
    /// They are looked for by multicast.
    pub multicast: bool,
    /// By which interfaces.
    pub interfaces: Vec<Interface>,
    /// Multicast packets that this machine has sent, other programs' included; null where the system does not count them.
    pub multicast_sent: Option<u64>,
    /// Different nodes heard by multicast, of any swarm.
    pub multicast_heard: u64,
    /// Connections begun …
    pub dials: u64,
    /// … of which so many came to nothing.
    pub dials_failed: u64,
    /// Somebody was there, with another swarm key, another version or another identity than expected.
    pub mismatches: u64,
    /// Connections to nodes that are not of this swarm.
    pub strangers: u64,
    /// Swarms of such nodes, as far as they said so, eight at most; this one's own name means that they speak another version.
    pub other_swarms: Vec<String>,
}

/// A way into a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// As the system calls it.
    pub name: String,
    /// Its IPv4 addresses.
    pub addresses: Vec<String>,
}

/// An address where nobody is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Missing {
    /// The multiaddr.
    pub address: String,
    /// What happened the last time.
    pub why: String,
}

/// A node itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// Its key.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// How many other peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerCounts {
    /// Here, and they take letters.
    pub available: usize,
    /// Ever heard of.
    pub known: usize,
}

/// How many letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LetterCounts {
    /// In the inbox: letters to this node, and outcomes of its orders.
    pub inbox: u64,
    /// Of these, not read.
    pub unread: u64,
    /// Of this node.
    pub sent: u64,
    /// Of these, not yet receipted by all.
    pub waiting: u64,
    /// Bytes that wait for receipts.
    pub waiting_bytes: u64,
    /// Bundles held here for others: one or more letters each …
    pub held_bundles: u64,
    /// … and their bytes.
    pub held_bytes: u64,
}

/// How many orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderCounts {
    /// Of this node, not ended.
    pub open: u64,
    /// In the queue, if this node is the dispatcher.
    pub queued: u64,
    /// Services that this node offers.
    pub offers: usize,
    /// It takes nothing new.
    pub draining: bool,
}

/// Room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// Below the reserve: nothing new is accepted.
    pub low: bool,
    /// Size of the database.
    pub database_bytes: u64,
    /// Free where it is.
    pub free_bytes: u64,
}

/// How much of the record is kept here, and how much may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordRoom {
    /// Segments, those of others included.
    pub segments: u64,
    /// Their bytes, about.
    pub bytes: u64,
    /// Beyond so many the oldest go.
    pub limit_bytes: u64,
    /// So do those that are older.
    pub limit_seconds: u64,
    /// When the oldest was written …
    pub oldest_at: Option<String>,
    /// … and by whom.
    pub oldest_of: Option<String>,
}

/// Another peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Its key.
    pub id: String,
    /// As it is called.
    pub name: String,
    /// Here, and it takes letters.
    pub available: bool,
    /// It signals that it may not read soon.
    pub inactive: bool,
    /// It runs twice with one key: it takes and sends no letters.
    pub cloned: bool,
    /// A connection is up and it was heard lately.
    pub connected: bool,
    /// Multiaddrs of it.
    pub addresses: Vec<String>,
    /// When anyone in reach first heard of it.
    pub first_seen_at: String,
    /// When anyone in reach last heard it.
    pub last_seen_at: String,
    /// What it offers.
    pub services: Vec<String>,
}

/// What is written: a text in a message; a whole number, a list or an object where a type of envelope has those. At most 8 deep.
#[derive(ToSchema)]
#[schema(as = Payload)]
#[serde(untagged)]
#[allow(dead_code)] // It describes what [`Content`] reads.
pub(super) enum Payload {
    /// As people write.
    Text(String),
    /// Not negative.
    Number(u64),
    /// Any values.
    List(Vec<serde_json::Value>),
    /// Any values by name.
    Object(BTreeMap<String, serde_json::Value>),
}

/// An envelope as people and programs see it (DESIGN 3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Envelope {
    /// Names the letter.
    pub id: String,
    /// What the payload is.
    #[serde(rename = "type")]
    pub kind: String,
    /// Who wrote it.
    pub author: String,
    /// The author's key.
    pub author_id: String,
    /// To whom.
    pub recipients: Vec<String>,
    /// Their keys; null while nobody of that name is known.
    pub recipient_ids: Vec<Option<String>>,
    /// The content.
    pub payload: serde_json::Value,
    /// When it was written, by its author's clock.
    pub timestamp: String,
    /// The letter it answers.
    pub in_reply_to: Option<String>,
}

/// A letter of this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Letter {
    /// What was written.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Every recipient's node has signed for it.
    pub delivered: bool,
    /// How far each copy got.
    pub deliveries: Vec<Delivery>,
}

/// How far one copy got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// The recipient.
    pub to: String,
    /// Its key; null while nobody of that name is known.
    pub to_id: Option<String>,
    /// The rung.
    pub state: State,
    /// Other machines that have acknowledged a flushed copy, three at most …
    pub held_by: u32,
    /// … of so many that there are to hold it.
    pub of: u32,
    /// When the rung was learned; for `held` the longest ago that one of those machines said so.
    pub confirmed_at: Option<String>,
    /// Why it is not delivered; null if it is.
    pub why: Option<Why>,
    /// Why no more machines hold it, as far as known; empty once it is delivered, or if three do.
    pub why_not_held: Vec<WhyNotHeld>,
    /// Nothing is left to be done for it: it was signed for, or given up.
    #[serde(rename = "final")]
    pub done: bool,
}

/// The rungs, lowest first; `discarded` and `parked` are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its user discarded it, and it will not arrive.
    Discarded,
    /// It waits for its author to decide.
    Parked,
    /// On this machine's disk.
    Accepted,
    /// On other machines' disks too.
    Held,
    /// The recipient's node has signed for it.
    Delivered,
    /// And it was read.
    Read,
}

/// Why a copy is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The recipient was here before and is not now.
    Away,
    /// The recipient's key is known, and nothing else of it.
    NeverMet,
    /// The recipient signals that it takes no letters now.
    NotAvailable,
    /// The recipient runs twice with one key.
    Cloned,
    /// Nobody of that name is known: it waits for the first.
    NameNotKnown,
    /// The recipient is here; its receipt is awaited.
    AwaitingReceipt,
    /// The recipient has blocked this node: the letter is parked until it says otherwise, or until it is discarded.
    Blocked,
    /// As much of this node is unread at the recipient as may be.
    RecipientFull,
    /// The recipient's disk is nearly full.
    RecipientDisk,
    /// Its user discarded it; copies are called back, and until the recipient has signed for that it may arrive all the same.
    Discarding,
}

/// Why no more machines hold a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhyNotHeld {
    /// No other machine is here but the recipient's.
    NoOtherMachine,
    /// Others are here, and all of them say that they run on this machine.
    SameMachine,
    /// A machine that was asked holds as much mail as it may.
    Full,
    /// One holds as much mail of this node as it may.
    DepositorFull,
    /// One holds as much mail for that recipient as it may.
    RecipientFull,
    /// One has too little room on its disk.
    Disk,
    /// One is stopping.
    Leaving,
    /// One knows that the recipient has it; its receipt is awaited.
    Released,
    /// One takes nothing from this node.
    Blocked,
}

/// A letter to this node, or the outcome of an order of this node: an `event` that it writes to itself, see [`OutcomePayload`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InboxEntry {
    /// What was written.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Its number here.
    pub n: u64,
    /// Letters of its author missing before it.
    pub missing_before: u64,
    /// When it was committed here.
    pub received_at: String,
    /// When it was read.
    pub read_at: Option<String>,
}

/// Letters that were read, by id or by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkRead {
    /// Ids, or unique beginnings of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub n: Vec<u64>,
}

/// Someone to reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// `HOST`, `HOST:PORT` or a multiaddr.
    pub address: String,
}

/// Someone reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connected {
    /// The address that was tried.
    pub address: String,
    /// Who is there.
    pub reached: String,
}

/// What this node signals; what is left out stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// Letters and tasks are welcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<bool>,
    /// Letters may not be read soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inactive: Option<bool>,
}

/// Whether something is taken from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Nothing is taken from it: no letters, and no mail to hold.
    pub blocked: bool,
}

/// What this node is called from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The name.
    pub name: String,
}

/// The node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stopping {
    /// Always true.
    pub stopping: bool,
}

/// A line of the answer to a batch of letters: the letter's id. What was refused is a problem, with its line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchAccepted {
    /// Which line of the request, from 1.
    pub line: u64,
    /// Names the letter.
    pub id: String,
}

/// A line of the answer to a batch of orders: the order's number. What was refused is a problem, with its line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchPlaced {
    /// Which line of the request, from 1.
    pub line: u64,
    /// Counted by this node from 1.
    pub order: u64,
}
