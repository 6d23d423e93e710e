//! What a peer wants done: orders in the imperative, and the durable vocabulary.
//! Knows nothing of how it is done. All [`Effect::Store`]s of a batch are flushed before any other effect of it is performed.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::beacon::Beacon;
use crate::bundle::{Bundle, Draft};
use crate::contact::Contact;
use crate::copies::ChainHead;
use crate::envelope::{Envelope, Payload};
use crate::id::{BundleId, Epoch, LetterId, RequestId};
use crate::input::{Place, Recall};
use crate::log;
use crate::mail::{Denial, Holder, Listed, Mailbox, Offer, Parcel, Reason, Release, Slot};
use crate::message::{Lane, Listing};
use crate::name::PeerName;
use crate::now::Timestamp;
use crate::order::{Attempt, Cancel, Claim, End, Fence, Order, OrderKey, Report, Try};
use crate::proven::Proven;
use crate::ranges::Ranges;
use crate::receipt::Receipt;
use crate::segment::Segment;
use crate::service::{Offering, Program, ServiceName};
use crate::sign::Signed;
use crate::work::{Results, Work};

/// One order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make this durable with the rest of the batch.
    Store(Change),
    /// Seal this on a worker; answer with [`Input::Sealed`](crate::Input::Sealed).
    Seal(Box<Draft>),
    /// Sign what needs it and send it.
    Send {
        /// To this neighbour.
        to: PeerId,
        /// What.
        say: Box<Say>,
    },
    /// Send these stored bundles, in this order, as [`Message::Letters`](crate::message::Message::Letters).
    SendKept {
        /// To this neighbour.
        to: PeerId,
        /// Outgoing stream and first number of each.
        bundles: Vec<(u32, u64)>,
    },
    /// Deposit these stored bundles of ours, in this order, each with a slip, as
    /// [`Message::Deposit`](crate::message::Message::Deposit).
    DepositKept {
        /// With this neighbour.
        to: PeerId,
        /// Outgoing stream and first number of each.
        bundles: Vec<(u32, u64)>,
    },
    /// Send these bundles that are held for others, in this order; those that are gone meanwhile are left out.
    SendHeld {
        /// To this neighbour.
        to: PeerId,
        /// Number of each.
        held: Vec<u64>,
        /// To hold them too: as [`Message::Deposit`](crate::message::Message::Deposit), else as
        /// [`Message::Letters`](crate::message::Message::Letters).
        deposit: bool,
    },
    /// Ask this neighbour to let go of these stored bundles of ours: each with its secret, as
    /// [`Message::Withdraw`](crate::message::Message::Withdraw), and then whether it has.
    WithdrawKept {
        /// With whom they are.
        to: PeerId,
        /// Outgoing stream and first number of each.
        bundles: Vec<(u32, u64)>,
    },
    /// Send these stored segments, as [`Message::Segments`](crate::message::Message::Segments): at most
    /// [`limits::SEGMENTS`](crate::config::limits::SEGMENTS) and [`limits::SEGMENTS_BYTES`](crate::config::limits::SEGMENTS_BYTES).
    SendSegments {
        /// To this neighbour.
        to: PeerId,
        /// Whose.
        author: PeerId,
        /// Which chain.
        chain: u64,
        /// Which branch of a copy; none for this node's own record.
        branch: Option<u8>,
        /// After this one.
        after: u64,
    },
    /// Look up entries of the record; answer with [`Input::LogRead`](crate::Input::LogRead).
    ReadLog {
        /// Correlates the answer.
        token: u64,
        /// Which.
        question: Box<log::Question>,
    },
    /// Sign this beacon and gossip it.
    Publish(Beacon),
    /// Gossip this claim, signed if it is ours.
    PublishClaim(Box<Proven<Claim>>),
    /// Run this; answer with [`Input::TaskEnded`](crate::Input::TaskEnded), whatever happens.
    Run(Box<Run>),
    /// End this: SIGTERM to all of its processes, SIGKILL after the grace. The end is told by
    /// [`Input::TaskEnded`](crate::Input::TaskEnded).
    Stop {
        /// Which try.
        task: Try,
        /// Between the two signals.
        grace: Duration,
    },
    /// Do not begin this try if it has not begun; then its end is told as that of a stopped one. One that runs goes on.
    TakeBack {
        /// Which try.
        task: Try,
    },
    /// Read what a try wrote; answer with [`Input::OutputRead`](crate::Input::OutputRead).
    ReadOutput {
        /// Correlates the answer.
        token: u64,
        /// Which try.
        task: Try,
        /// Standard error rather than standard output.
        stderr: bool,
        /// From this byte of what is kept.
        from: u64,
    },
    /// Tell the network that these services can be found here: replaces what was told before.
    Advertise(Vec<ServiceName>),
    /// Decide on a gossip.
    Judge {
        /// Which.
        token: u64,
        /// How.
        verdict: Verdict,
    },
    /// Try to reach this peer.
    Dial {
        /// Who.
        peer: PeerId,
        /// Multiaddrs it may be found by.
        addresses: Vec<String>,
    },
    /// Sign this card of ours and put it where those who do not know us look for it; replaces what was put there before.
    PublishContact(Box<Contact>),
    /// Look for the card of this peer where it may have put it; answer with
    /// [`Input::ContactSought`](crate::Input::ContactSought).
    FindContact {
        /// Whose.
        peer: PeerId,
    },
    /// Look for those who say that they offer this service; answer with [`Input::ProvidersNamed`](crate::Input::ProvidersNamed).
    FindProviders {
        /// Correlates the answers.
        token: u64,
        /// What.
        service: ServiceName,
    },
    /// This peer is gone: no road should lead to it any more.
    Forget {
        /// Who.
        peer: PeerId,
    },
    /// Look this up, after this batch is flushed; answer with [`Input::Recalled`](crate::Input::Recalled).
    Recall(Recall),
    /// Answer a request.
    Reply {
        /// Which.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// Tell whoever watches.
    Notify(Notice),
}

/// A program to run, without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// For which try.
    pub task: Try,
    /// Of which service.
    pub service: ServiceName,
    /// How many tries of the service may run at once, this one included. Where as many run, it begins when one of them has ended,
    /// after all that came before it. Of several words about a service the last one counts.
    pub at_once: u32,
    /// What.
    pub program: Program,
    /// Its further arguments.
    pub args: Vec<String>,
    /// What it reads.
    pub stdin: Option<ByteBuf>,
    /// It is ended after this.
    pub time_limit: Option<Duration>,
    /// The orderer's name, for its environment; none if it is not known.
    pub orderer: Option<PeerName>,
}

/// What becomes of a gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// New and good: pass it on.
    Accept,
    /// Old, or not for now: do not pass it on.
    Ignore,
    /// False: do not pass it on, and think less of who did.
    Reject,
}

/// What can be said to a neighbour, before it is signed.
#[derive(Clone, Debug, PartialEq)]
pub enum Say {
    /// See [`Message::Hello`](crate::message::Message::Hello).
    Hello {
        /// My card.
        contact: Contact,
        /// My beacon.
        beacon: Beacon,
        /// The neighbour's latest beacon that I remember, and the last one of another start of it.
        yours: Vec<Signed<Beacon>>,
        /// I have not heard its hello.
        answer: bool,
    },
    /// My signals have changed.
    Beacon(Beacon),
    /// What I have of yours.
    Receipt(Receipt),
    /// Which letters do you have under these numbers?
    AskIds {
        /// My epoch.
        epoch: Epoch,
        /// Numbers.
        numbers: Ranges,
    },
    /// These.
    Ids {
        /// Your epoch.
        epoch: Epoch,
        /// Number and letter.
        ids: Vec<(u64, LetterId)>,
    },
    /// Whom do you know?
    AskPeers {
        /// After this one.
        after: Option<PeerId>,
    },
    /// These.
    Peers {
        /// Ascending by id.
        peers: Vec<Listing>,
        /// There are more.
        more: bool,
    },
    /// See [`Message::AskHeld`](crate::message::Message::AskHeld).
    AskHeld(Vec<BundleId>),
    /// See [`Message::Held`](crate::message::Message::Held).
    Held {
        /// My memory.
        epoch: Epoch,
        /// Flushed here.
        bundles: Vec<BundleId>,
        /// Not taken, and why.
        refused: Vec<(BundleId, Reason)>,
        /// Not here.
        absent: Vec<BundleId>,
    },
    /// I hold mail.
    Offers {
        /// At most a page.
        offers: Vec<Offer>,
        /// I am about to leave.
        leaving: bool,
    },
    /// What do you hold of a mailbox?
    AskMail {
        /// Which.
        mailbox: Mailbox,
        /// After this number.
        after: u64,
    },
    /// This.
    Mail {
        /// Which.
        mailbox: Mailbox,
        /// One page.
        bundles: Vec<Listed>,
        /// There are more.
        more: bool,
    },
    /// Send me these.
    Fetch(Vec<BundleId>),
    /// I have these.
    Release(Release),
    /// I take these back: bundle and secret.
    Withdraw(Vec<(BundleId, [u8; 32])>),
    /// Keep this receipt of mine for its author.
    KeepReceipt(Receipt),
    /// Take this receipt of somebody else's, as it was signed.
    PassReceipt(Signed<Receipt>),
    /// I keep a receipt.
    ReceiptKept {
        /// Where.
        slot: Slot,
        /// Which.
        number: u64,
    },
    /// I have taken in a receipt.
    ReceiptTaken {
        /// Where.
        slot: Slot,
        /// Which.
        number: u64,
    },
    /// See [`Message::AskChains`](crate::message::Message::AskChains).
    AskChains {
        /// Correlates the answer.
        ask: u32,
        /// All but so many.
        after: u32,
    },
    /// Which chains are here.
    Chains {
        /// As asked.
        ask: u32,
        /// At most a page.
        chains: Vec<ChainHead>,
        /// There are more.
        more: bool,
    },
    /// See [`Message::AskSegments`](crate::message::Message::AskSegments).
    AskSegments {
        /// Whose.
        author: PeerId,
        /// Which chain.
        chain: u64,
        /// Its last segment, as listed.
        tip: serde_bytes::ByteArray<32>,
        /// After this one.
        after: u64,
        /// Also those that are not written yet.
        follow: bool,
    },
    /// About leaders, orders and tasks.
    Work(Work),
    /// I do not take your letters for now.
    Denied(Option<Denial>),
    /// I leave in order.
    Leaving,
    /// I did not understand.
    Unsupported {
        /// Which.
        what: String,
    },
}

impl Say {
    /// The stream it goes by.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Say::Peers { .. } | Say::AskPeers { .. } | Say::Ids { .. } | Say::Mail { .. } | Say::Fetch(_) => Lane::Bulk,
            Say::AskChains { .. } | Say::Chains { .. } | Say::AskSegments { .. } => Lane::Bulk,
            Say::Work(work) => work.lane(),
            _ => Lane::Urgent,
        }
    }
}

/// The answer to a [`Command`](crate::Command).
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The letter is on this machine's disk.
    Accepted {
        /// Its name.
        letter: LetterId,
        /// Its number among the letters of this node.
        k: u64,
        /// It had been accepted before, under the same key.
        repeated: bool,
    },
    /// The order is on this machine's disk.
    Placed {
        /// Its number.
        number: u64,
        /// It had been placed before, under the same key.
        repeated: bool,
    },
    /// To [`Command::Ask`](crate::Command::Ask).
    Results(Box<Results>),
    /// To [`Command::FindProviders`](crate::Command::FindProviders): who is said to offer it; hearsay, to be checked with those it names.
    Named(Vec<PeerId>),
    /// To [`Command::Cancel`](crate::Command::Cancel): each order, and how it had ended already.
    Cancelling(Vec<(u64, Option<End>)>),
    /// The letter is not sent any more. Which of its copies are sure not to be delivered the disk tells.
    Discarded {
        /// Recipients that had it already.
        delivered: usize,
    },
    /// Done, and durable where it should be.
    Done,
    /// Not done.
    Refused(Refusal),
}

/// Why a command was refused. Nothing of it was kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A letter to nobody.
    #[error("a letter needs a recipient")]
    NoRecipient,
    /// A letter without content.
    #[error("the letter is empty")]
    Empty,
    /// More than [`limits::RECIPIENTS`](crate::config::limits::RECIPIENTS).
    #[error("{count} recipients; at most {limit} are allowed")]
    TooManyRecipients {
        /// Named.
        count: usize,
        /// Allowed.
        limit: usize,
    },
    /// More than [`limits::LETTER_BYTES`](crate::config::limits::LETTER_BYTES).
    #[error("the letter has {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// Bytes.
        size: usize,
        /// Allowed.
        limit: usize,
    },
    /// Size times recipients is more than [`limits::LETTER_BYTES_TIMES_RECIPIENTS`](crate::config::limits::LETTER_BYTES_TIMES_RECIPIENTS).
    #[error("{size} bytes to {recipients} recipients are more than {limit} bytes together")]
    TooLargeTogether {
        /// Bytes of one copy.
        size: usize,
        /// Copies.
        recipients: usize,
        /// Allowed in all.
        limit: usize,
    },
    /// The type of envelope is not one that users write.
    #[error("letters of type {0:?} with such a payload cannot be written")]
    Kind(String),
    /// Nobody of that name is known.
    #[error("nobody called {name} is known")]
    Unknown {
        /// As given.
        name: String,
        /// Known names that are close to it.
        nearest: Vec<String>,
    },
    /// Several peers of that name are known.
    #[error("{name} could be any of several peers")]
    Ambiguous {
        /// As given.
        name: String,
        /// Each in a form that is not ambiguous.
        candidates: Vec<String>,
    },
    /// The only recipient is this node itself.
    #[error("{name} is this node itself")]
    Yourself {
        /// As given.
        name: String,
    },
    /// Too many letters wait here for receipts.
    #[error("{waiting} letters wait in the outbox; at most {limit} may")]
    OutboxFull {
        /// Letters that wait.
        waiting: u64,
        /// Allowed.
        limit: u64,
    },
    /// Too many bytes wait here for receipts.
    #[error("{waiting} bytes wait in the outbox; at most {limit} may")]
    OutboxBytesFull {
        /// Bytes that wait.
        waiting: u64,
        /// Allowed.
        limit: u64,
    },
    /// The disk is below its reserve.
    #[error("only {free} bytes are free on the disk")]
    DiskLow {
        /// Bytes free.
        free: u64,
    },
    /// The key is empty or too long.
    #[error("an idempotency key has 1 to {limit} bytes")]
    Key {
        /// Allowed.
        limit: usize,
    },
    /// The key was used for another letter.
    #[error("this key was used for another letter, {letter}")]
    KeyReused {
        /// That letter.
        letter: LetterId,
    },
    /// Another letter is being accepted under this key at this moment.
    #[error("another letter is being accepted under this key at this moment")]
    KeyInUse,
    /// The disk did not tell whether the key is new.
    #[error("the disk cannot be read")]
    DiskUnreadable,
    /// More than an order may hold; which limit, in words.
    #[error("the order has {what}; at most {limit} are allowed")]
    OrderTooLarge {
        /// What there is too much of, with the number.
        what: String,
        /// Allowed.
        limit: usize,
    },
    /// Arguments are given to programs, where a NUL ends them.
    #[error("an argument contains a NUL character, which no program can be given")]
    Nul,
    /// Too many orders of this node have not ended.
    #[error("{open} orders of this node have not ended; at most {limit} may be open")]
    OrdersFull {
        /// Orders that have not ended.
        open: u64,
        /// Allowed.
        limit: u64,
    },
    /// Too many bytes of orders of this node have not ended.
    #[error("the open orders of this node hold {bytes} bytes; at most {limit} may be")]
    OrderBytesFull {
        /// Bytes of open orders.
        bytes: u64,
        /// Allowed.
        limit: u64,
    },
    /// No order of this node bears that number.
    #[error("this node has placed no order {number}")]
    NoSuchOrder {
        /// As given.
        number: u64,
    },
    /// This key was used for another order.
    #[error("this key was used for another order, {number}")]
    OrderKeyReused {
        /// That order.
        number: u64,
    },
    /// An order that is given no time.
    #[error("an order that expires at once would never run")]
    Expires,
    /// An order is given more time than [`limits::ORDER_EXPIRES`](crate::config::limits::ORDER_EXPIRES).
    #[error("an order cannot expire later than in {days} days")]
    ExpiresLate {
        /// Allowed.
        days: u64,
    },
    /// `--once` needs what this version does not have.
    #[error("orders that run at most once are not supported yet")]
    Once,
    /// An offer that cannot be: which rule it breaks, in words.
    #[error("{0}")]
    Offer(String),
    /// More than [`limits::SERVICES`](crate::config::limits::SERVICES).
    #[error("this node offers {limit} services already, which is the most")]
    TooManyServices {
        /// Allowed.
        limit: usize,
    },
    /// This node offers no such service.
    #[error("this node does not offer {0}")]
    NotOffered(String),
    /// This node does not lead.
    #[error("this node is not the dispatcher, and only that one can hand over")]
    NotLeading,
    /// Who was named cannot be reached.
    #[error("{0} cannot be reached now")]
    NotReachable(String),
    /// Too many questions wait for answers.
    #[error("too many questions wait for answers")]
    TooManyQuestions,
    /// Nobody answered in time.
    #[error("no answer came in time")]
    NoAnswer,
    /// All recipients of a letter that is to be discarded have it.
    #[error("all recipients of {letter} have it already")]
    Delivered {
        /// That letter.
        letter: LetterId,
    },
    /// The letter waits for a name whose bearer has just been found.
    #[error("{letter} is being sealed at this moment")]
    Sealing {
        /// That letter.
        letter: LetterId,
    },
    /// This node is stopping.
    #[error("this node is stopping")]
    Leaving,
    /// Another process with this node's key is running.
    #[error("another copy of this node is running with the same key, so that neither takes or sends letters")]
    Cloned,
}

/// News for whoever watches this node. Not durable; what is durable is in the record.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A peer can be reached now.
    PeerHere {
        /// Who.
        peer: PeerId,
        /// Its name.
        name: PeerName,
        /// Where.
        address: String,
    },
    /// A peer can no longer be reached.
    PeerGone {
        /// Who.
        peer: PeerId,
        /// Its name.
        name: PeerName,
        /// It said goodbye.
        in_order: bool,
    },
    /// A letter has its place in the inbox.
    LetterShown {
        /// Its inbox number.
        n: u64,
        /// Who wrote it.
        author: PeerId,
        /// The author's name.
        name: PeerName,
        /// The letter.
        letter: LetterId,
        /// Its beginning, at most 200 characters, unescaped.
        preview: String,
        /// Letters of that author that are missing before it.
        missing_before: u64,
    },
    /// Another peer leads, or (none) nobody that is known.
    Leader {
        /// Who, its name if it is known, and the term.
        leader: Option<(PeerId, Option<PeerName>, u64)>,
    },
    /// An order of this node has ended.
    OrderEnded {
        /// Its number.
        number: u64,
        /// How.
        end: End,
    },
    /// Letters were receipted or read.
    Receipted {
        /// By whom.
        by: PeerId,
    },
    /// Something a person should know.
    Warning(String),
}

/// What is made durable: everything that is ever persisted.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// This node's own facts, replacing those before.
    Me(Me),
    /// What is known of a peer, replacing what was.
    Known(Box<Known>),
    /// Nothing is taken from this peer any more (`true`), or again.
    Blocked {
        /// Whom.
        peer: PeerId,
        /// Whether.
        on: bool,
    },
    /// A letter that was accepted, or whose waiting names were found; keyed by `k`.
    Letter(Box<SentLetter>),
    /// The letter waits for the first bearer of a name (`true`), or no longer does.
    Waiting {
        /// The letter's `k`.
        k: u64,
        /// Whether it waits.
        waits: bool,
    },
    /// An idempotency key is taken.
    Key {
        /// The key.
        key: String,
        /// By this letter.
        letter: LetterId,
        /// Its `k`.
        k: u64,
        /// Of this request.
        digest: [u8; 32],
    },
    /// A sealed bundle waits for its receipt.
    Bundle(Box<KeptBundle>),
    /// A bundle is wholly receipted.
    DropBundle {
        /// Outgoing stream.
        stream: u32,
        /// Its first number.
        first: u64,
    },
    /// Who has acknowledged a flushed copy of a bundle that waits, replacing what was.
    Holders {
        /// Outgoing stream.
        stream: u32,
        /// The bundle's first number.
        first: u64,
        /// All of them; none takes the row away.
        holders: Vec<Holder>,
    },
    /// A bundle is held for others.
    Hold(Box<HeldBundle>),
    /// It is not held any more.
    Unhold {
        /// Its number.
        no: u64,
    },
    /// A receipt is kept for an absent author, replacing the one in its slot.
    KeepReceipt {
        /// Where.
        slot: Slot,
        /// The receipt.
        receipt: Signed<Receipt>,
    },
    /// It is not kept any more.
    DropReceipt {
        /// Where.
        slot: Slot,
    },
    /// An outgoing stream, replacing what was.
    OutStream(OutStream),
    /// These letters were receipted now.
    Delivered {
        /// Outgoing stream.
        stream: u32,
        /// From this number …
        first: u64,
        /// … to this.
        last: u64,
        /// When the receipt came.
        at: Timestamp,
    },
    /// These letters were discarded, and no copy of them will be delivered.
    Discarded {
        /// Outgoing stream.
        stream: u32,
        /// From this number …
        first: u64,
        /// … to this.
        last: u64,
        /// When that was sure.
        at: Timestamp,
    },
    /// These letters were read.
    ReadBy {
        /// Outgoing stream.
        stream: u32,
        /// From this number …
        first: u64,
        /// … to this.
        last: u64,
        /// When the receipt came.
        at: Timestamp,
    },
    /// An incoming stream, replacing what was.
    InStream(InStream),
    /// A letter to this node was committed.
    Taken(Box<Taken>),
    /// A committed letter got its place in the inbox.
    Shown {
        /// Which, and its place.
        place: Place,
        /// Letters of that author missing before it.
        missing_before: u64,
    },
    /// The outcome of an order of this node got its place in the inbox, in the batch that writes it.
    OutcomeShown {
        /// Its inbox number.
        n: u64,
        /// The order's number.
        number: u64,
        /// As what it is shown.
        id: LetterId,
    },
    /// An inbox letter was read.
    Read {
        /// Its inbox number.
        n: u64,
        /// When.
        at: Timestamp,
    },
    /// Whom this node obeys, or as whom it claims, replacing what was.
    Fence(FenceRow),
    /// A service of this node, replacing one of that name.
    Offer(Box<Offering>),
    /// It is not offered any more.
    DropOffer(ServiceName),
    /// Takes nothing new.
    Drain(bool),
    /// An order of this node, when it is placed; keyed by its number.
    Order(Box<Order>),
    /// How far an order of this node is, replacing what was.
    OrderState(Box<OrderState>),
    /// A unit of an order of this node has ended.
    UnitEnd {
        /// The order's number.
        number: u64,
        /// The first report of the unit that was stored; none if nobody could run it, for the reason given.
        report: Result<Box<Proven<Report>>, String>,
        /// Which unit.
        unit: u32,
    },
    /// An idempotency key is taken by an order.
    OrderKey {
        /// The key.
        key: String,
        /// By this order.
        number: u64,
        /// Of this request.
        digest: [u8; 32],
    },
    /// An order is in the queue of this node; keyed by its key.
    Queue(Box<Queued>),
    /// Where its units are, replacing what was.
    QueueState(Box<QueueState>),
    /// It is not in the queue any more.
    Unqueue(OrderKey),
    /// Orders of somebody have ended, replacing what was known.
    Closed {
        /// Whose.
        orderer: PeerId,
        /// Of which memory.
        epoch: Epoch,
        /// All that are known to have ended.
        closed: Ranges,
    },
    /// This node has begun to run a try.
    TryStarted {
        /// Which.
        task: Try,
        /// When.
        at: Timestamp,
    },
    /// A try of this node has ended: its report, replacing the start.
    TryEnded(Box<Report>),
    /// Nothing of a try needs to be remembered any more.
    DropTry(Try),
    /// A segment of somebody's record.
    Copied(Box<Copied>),
    /// Old segments go.
    Prune(Box<Pruned>),
    /// One more segment of this node's record: the CBOR of a [`Segment`], to be signed before the commit.
    Segment {
        /// Which chain.
        chain: u64,
        /// Its number there.
        number: u64,
        /// Sequence of its first entry.
        first: u64,
        /// How many it has.
        entries: u32,
        /// The bytes to sign and keep.
        body: Vec<u8>,
    },
}

/// Whom a node obeys, and as whom it has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceRow {
    /// The greatest heard or claimed; lower ones are refused.
    pub fence: Fence,
    /// The last claim of this node itself under it; 0 while another leads.
    pub counter: u64,
}

/// How far an order of this node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderState {
    /// Its number.
    pub number: u64,
    /// In which memory it was placed.
    pub epoch: Epoch,
    /// What has not ended by then is not wanted any more.
    pub expires_at: Option<Timestamp>,
    /// Its user does not want it any more, since then; and whether because its time was up.
    pub cancelled: Option<(Timestamp, bool)>,
    /// Units that ended well …
    pub done: Ranges,
    /// … not well …
    pub failed: Ranges,
    /// … and were cancelled before they ended.
    pub dropped: Ranges,
    /// The outcome, written once.
    pub outcome: Option<Outcome>,
}

/// How an order of this node ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How.
    pub end: End,
    /// In words, where the end does not say enough.
    pub why: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// An order in the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queued {
    /// The order.
    pub order: Proven<Order>,
    /// Its place: ascending, ties by key.
    pub sort: u64,
    /// When this node got it.
    pub at: Timestamp,
}

/// Where the units of an order in the queue are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// Which order.
    pub order: OrderKey,
    /// Its place now, if it is another than when it came.
    pub sort: u64,
    /// Its orderer's cancel.
    pub cancel: Option<Proven<Cancel>>,
    /// Units of which a report has come.
    pub ended: Ranges,
    /// Units that nobody could run.
    pub given_up: Ranges,
    /// Units with a worker: attempt and worker.
    pub tries: Vec<(u32, Attempt, PeerId)>,
    /// Units that were tried before: unit, attempts, and those of them whose process died.
    pub tried: Vec<(u32, u32, u32)>,
}

impl QueueState {
    /// Of an order of which nothing has happened.
    #[must_use]
    pub fn new(order: OrderKey, sort: u64) -> Self {
        let (ended, given_up) = (Ranges::default(), Ranges::default());
        QueueState { order, sort, cancel: None, ended, given_up, tries: Vec::new(), tried: Vec::new() }
    }
}

/// This node's own facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// Its memory.
    pub epoch: Epoch,
    /// How often it was started.
    pub boot: u64,
    /// Its name.
    pub name: PeerName,
    /// Sequence of its card.
    pub contact: u64,
    /// What the last card held, to see whether it changed: addresses.
    pub addresses: Vec<String>,
    /// Letters and tasks are welcome.
    pub available: bool,
    /// May not read soon.
    pub inactive: bool,
    /// The chain of its record.
    pub chain: u64,
    /// Its last starts, the present one last; at most [`STARTS`](crate::config::limits::STARTS).
    #[serde(default)]
    pub starts: Vec<Start>,
    /// Memories that were this peer's and are no more, those among them that it has forgotten and was shown; at most
    /// [`EPOCHS`](crate::config::limits::EPOCHS), the latest last.
    #[serde(default)]
    pub epochs: Vec<Epoch>,
    /// This memory was put back from a backup and has not been started since: the next start begins with a new epoch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
}

/// A start of this node. A beacon of its own that none of its starts can have made is from a memory that its disk does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Counts the starts of a memory.
    pub boot: u64,
    /// As in the beacons of this start.
    pub nonce: u64,
    /// The number of the last record segment when it began: no beacon of the start before names a later one.
    pub record: u64,
}

/// What is known of another peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its card.
    pub contact: Signed<Contact>,
    /// When anyone in reach first heard of it.
    pub first_seen: Timestamp,
    /// When anyone in reach last heard it, as far as known.
    pub last_seen: Timestamp,
    /// Its latest beacon that this node has heard itself.
    pub beacon: Option<Signed<Beacon>>,
}

/// A letter of this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SentLetter {
    /// Its number among the letters of this node, from 1.
    pub k: u64,
    /// Its name.
    pub id: LetterId,
    /// Its type.
    pub kind: String,
    /// Its content.
    pub payload: Payload,
    /// When it was accepted.
    pub timestamp: Timestamp,
    /// What it answers.
    pub in_reply_to: Option<LetterId>,
    /// To whom.
    pub to: Vec<Copy>,
}

/// One recipient's copy of a letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// The recipient's name when the letter was written.
    pub name: PeerName,
    /// The recipient and the copy's number; none while nobody of that name is known.
    pub place: Option<CopyPlace>,
}

/// Where a copy of a letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPlace {
    /// The recipient.
    pub peer: PeerId,
    /// The outgoing stream.
    pub stream: u32,
    /// The number in it.
    pub seq: u64,
}

/// In the first number of a bundle of voids: it bears the numbers of the letters that were discarded, with this bit.
pub const VOID: u64 = 1 << 63;

/// A bundle that waits for its receipt; keyed by stream and first number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBundle {
    /// Outgoing stream.
    pub stream: u32,
    /// Number of its first letter; the others follow without gaps. With [`VOID`] it holds their voids.
    pub first: u64,
    /// Its letters.
    pub ids: Vec<LetterId>,
    /// The sealed bytes.
    pub bundle: Bundle,
    /// The secret by which custodians let go of it.
    pub withdrawal: serde_bytes::ByteArray<32>,
}

/// A bundle that is held for others; keyed by `no`.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldBundle {
    /// What is known of it without its bytes.
    pub index: HeldIndex,
    /// Slip and bundle.
    pub parcel: Parcel,
}

/// A bundle that is held for others, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldIndex {
    /// Its number here, from 1, in the order of taking.
    pub no: u64,
    /// Which.
    pub id: BundleId,
    /// For whom, and from whom.
    pub mailbox: Mailbox,
    /// Bytes of header and sealed part.
    pub size: u64,
    /// SHA-256 of the secret by which its author can withdraw it.
    pub withdrawal: serde_bytes::ByteArray<32>,
    /// When it was taken.
    pub received: Timestamp,
}

/// An outgoing stream: one recipient, one epoch of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutStream {
    /// Its number on this disk.
    pub no: u32,
    /// The recipient.
    pub peer: PeerId,
    /// This node's epoch.
    pub epoch: Epoch,
    /// The next number to give.
    pub next: u64,
    /// Numbers receipted, as letters or as voids.
    pub delivered: Ranges,
    /// Numbers read.
    pub read: Ranges,
    /// Recipient's epoch and record number of the last receipt.
    pub receipt: Option<(Epoch, u64)>,
    /// Numbers that the user discarded: their letters are not sent any more.
    #[serde(default)]
    pub voided: Ranges,
    /// Those of them whose letters will not be delivered. Once their voids are receipted they are in `delivered` too.
    #[serde(default)]
    pub discarded: Ranges,
    /// Letters below this number may have left, for the recipient or for custodians.
    #[serde(default)]
    pub tried: u64,
}

impl OutStream {
    /// A stream that nothing was written to yet.
    #[must_use]
    pub fn new(no: u32, peer: PeerId, epoch: Epoch) -> OutStream {
        OutStream {
            no,
            peer,
            epoch,
            next: 1,
            delivered: Ranges::default(),
            read: Ranges::default(),
            receipt: None,
            voided: Ranges::default(),
            discarded: Ranges::default(),
            tried: 0,
        }
    }
}

/// An incoming stream: one author, one epoch of the author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InStream {
    /// Its number on this disk.
    pub no: u32,
    /// The author.
    pub author: PeerId,
    /// The author's epoch.
    pub epoch: Epoch,
    /// The greatest floor heard.
    pub floor: u64,
    /// Numbers committed, for ever.
    pub taken: Ranges,
    /// Numbers read.
    pub read: Ranges,
    /// All letters below have their place in the inbox, or were given up waiting for.
    pub shown: u64,
    /// The greatest number that has a place in the inbox; 0 while none has.
    pub last: u64,
    /// This node's epoch and record number of the last receipt.
    pub receipt: (Epoch, u64),
    /// About how many bytes of it are unread.
    #[serde(default)]
    pub unread_bytes: u64,
    /// Further letters under numbers that were known already, as (number, letter): the author's memory had jumped back.
    pub twins: BTreeSet<(u64, LetterId)>,
}

/// A letter to this node; keyed by stream, number and twin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// Incoming stream.
    pub stream: u32,
    /// Its number.
    pub seq: u64,
    /// 0, or which further letter under that number.
    pub twin: u8,
    /// When it was committed.
    pub received: Timestamp,
    /// Nobody reads it: it never has a place in the inbox, and what it said is elsewhere.
    pub silent: bool,
    /// The letter.
    pub envelope: Envelope,
}

/// The end of this node's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which chain.
    pub chain: u64,
    /// Number of the last segment.
    pub number: u64,
    /// Its hash.
    pub hash: [u8; 32],
    /// Sequence of the next entry.
    pub next_entry: u64,
}

/// A segment of somebody's record, of which this node keeps a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Whose.
    pub author: PeerId,
    /// Of which chain.
    pub chain: u64,
    /// 0; of segments under numbers that others of its author bear, 1 or more.
    pub branch: u8,
    /// Its number.
    pub number: u64,
    /// Sequence of its first entry.
    pub first: u64,
    /// How many it has.
    pub entries: u32,
    /// CBOR of the signed segment.
    pub signed: Vec<u8>,
}

/// Segments that go: what is written down of them in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Of this node's own record.
    pub own: bool,
    /// Whose.
    pub author: PeerId,
    /// Of which chain.
    pub chain: u64,
    /// As in [`Copied`].
    pub branch: u8,
    /// All up to this one.
    pub through: u64,
    /// Sequence of its last entry.
    pub last_entry: u64,
    /// Its hash.
    pub hash: [u8; 32],
    /// They go now; otherwise they have gone before, and it is only said again.
    pub gone: bool,
}

/// A chain on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// Who wrote it.
    pub author: PeerId,
    /// Which.
    pub chain: u64,
    /// As in [`Copied`]; 0 for this node's own.
    pub branch: u8,
    /// The first segment that is there …
    pub first: u64,
    /// … and the last.
    pub last: u64,
    /// Of the last.
    pub hash: [u8; 32],
}

/// What the disk remembers: the other half of [`Change`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// None on a new disk.
    pub me: Option<Me>,
    /// None while the record is empty.
    pub head: Option<Head>,
    /// Everybody ever heard of.
    pub known: Vec<Known>,
    /// From whom nothing is taken.
    pub blocked: BTreeSet<PeerId>,
    /// All outgoing streams.
    pub out_streams: Vec<OutStream>,
    /// All bundles that wait, by stream and first number. Their sealed bytes stay on disk: `size` tells how many.
    pub bundles: Vec<BundleIndex>,
    /// All bundles held for others, ascending by number.
    pub held: Vec<HeldIndex>,
    /// All receipts kept for others.
    pub receipts: Vec<Signed<Receipt>>,
    /// All incoming streams …
    pub in_streams: Vec<InStream>,
    /// … and the letters of each at or above its floor, and those that have no place in the inbox yet.
    pub recent: Vec<Recent>,
    /// Letters that wait for a name.
    pub waiting: Vec<SentLetter>,
    /// The next `k`.
    pub next_letter: u64,
    /// The next inbox number.
    pub next_n: u64,
    /// Whom this node obeys, or as whom it claimed.
    pub fence: Option<FenceRow>,
    /// Services of this node.
    pub offers: Vec<Offering>,
    /// It takes nothing new.
    pub draining: bool,
    /// Orders of this node that have not ended, ascending by number.
    pub open_orders: Vec<(Order, OrderState)>,
    /// The next number of an order.
    pub next_order: u64,
    /// Orders of this node that have ended, by memory and by how.
    pub closed_own: Vec<(Epoch, End, Ranges)>,
    /// Orders in the queue of this node, with the state of each that has one.
    pub queue: Vec<(Queued, Option<QueueState>)>,
    /// Orders of others that have ended.
    pub closed: Vec<(PeerId, Epoch, Ranges)>,
    /// Tries that this node had begun and that had not ended.
    pub tries_started: Vec<(Try, Timestamp)>,
    /// Tries that ended, and whose orders are not closed.
    pub tries_ended: Vec<Report>,
    /// Chains of this node's record, in the order in which they were begun …
    pub own_chains: Vec<ChainEnd>,
    /// … and those of others of which it keeps copies.
    pub copies: Vec<ChainEnd>,
}

/// A bundle that waits, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleIndex {
    /// Outgoing stream.
    pub stream: u32,
    /// Its first number.
    pub first: u64,
    /// Its letters.
    pub ids: Vec<LetterId>,
    /// Which it is.
    pub id: BundleId,
    /// Bytes of header and sealed part.
    pub size: usize,
    /// Who has acknowledged a flushed copy.
    pub holders: Vec<Holder>,
}

/// A letter of an incoming stream that is still of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// Incoming stream.
    pub stream: u32,
    /// Its number.
    pub seq: u64,
    /// Which letter.
    pub letter: LetterId,
    /// It has no place in the inbox yet.
    pub unshown: bool,
}

/// The segment a [`Change::Segment`] holds, decoded: for checkers.
///
/// # Errors
/// The body is not a segment.
pub fn segment_of(body: &[u8]) -> Result<Segment, crate::codec::DecodeError> {
    crate::codec::decode(body)
}

/// What the machines write to: effects, and entries for the record.
#[derive(Debug, Default)]
pub(crate) struct Out {
    /// Who writes: what it tells itself about work comes back to it in the same batch.
    pub(crate) me: Option<PeerId>,
    /// What it told itself, in order.
    pub(crate) to_myself: VecDeque<Work>,
    /// In the order in which they are to be done.
    pub(crate) effects: Vec<Effect>,
    /// In the order in which they happened.
    pub(crate) entries: Vec<crate::segment::What>,
}

impl Out {
    pub(crate) fn store(&mut self, change: Change) {
        self.effects.push(Effect::Store(change));
    }

    pub(crate) fn send(&mut self, to: PeerId, say: Say) {
        self.effects.push(Effect::Send { to, say: Box::new(say) });
    }

    /// Says something about work: to a neighbour, or to this node itself.
    pub(crate) fn work(&mut self, to: PeerId, work: Work) {
        if self.me == Some(to) { self.to_myself.push_back(work) } else { self.send(to, Say::Work(work)) }
    }

    pub(crate) fn reply(&mut self, request: RequestId, answer: Answer) {
        self.effects.push(Effect::Reply { request, answer });
    }

    pub(crate) fn refuse(&mut self, request: RequestId, refusal: Refusal) {
        self.reply(request, Answer::Refused(refusal));
    }

    pub(crate) fn notify(&mut self, notice: Notice) {
        self.effects.push(Effect::Notify(notice));
    }

    pub(crate) fn note(&mut self, what: crate::segment::What) {
        self.entries.push(what);
    }
}
