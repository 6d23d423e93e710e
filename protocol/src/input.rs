//! What a peer is told: facts in the past tense, parsed and authenticated.
//! Knows nothing of what follows from them.

use libp2p_identity::PeerId;

use crate::beacon::{Beacon, Statistics};
use crate::bundle::{Bundle, Contents};
use crate::contact::Contact;
use crate::copies::{ChainHead, Piece};
use crate::edge::Cause;
use crate::effect::{Pruned, SentLetter};
use crate::envelope::Payload;
use crate::id::{BundleId, Epoch, LetterId, RequestId};
use crate::log;
use crate::mail::{Denial, Listed, Mailbox, Offer, Parcel, Reason, Release, Slot};
use crate::message::{Lane, Listing};
use crate::name::{Addressee, PeerName};
use crate::order::{Claim, Excerpt, Priority, Try};
use crate::proven::Proven;
use crate::ranges::Ranges;
use crate::receipt::Receipt;
use crate::service::{Needs, Offering, ServiceName};
use crate::sign::Signed;
use crate::work::{Question, Work};

/// One fact.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The batch ends here, or a deadline has come. Drivers end every batch with one.
    Tick,
    /// A connection to this peer is up and frames can be sent to it.
    PeerSeen {
        /// Who, as proved by the transport.
        peer: PeerId,
        /// The multiaddr it is connected by.
        address: String,
    },
    /// The last connection to this peer has closed.
    PeerLost {
        /// Who.
        peer: PeerId,
    },
    /// This node can be reached by these multiaddrs; replaces what was said before.
    Listening {
        /// Without loopback ones, unless there are no others.
        addresses: Vec<String>,
    },
    /// A neighbour said something.
    Arrived {
        /// Who.
        from: PeerId,
        /// What.
        said: Box<Said>,
    },
    /// A beacon came by gossip.
    Heard {
        /// By whom it was passed on.
        from: PeerId,
        /// Names the gossip for [`Effect::Judge`](crate::Effect::Judge).
        token: u64,
        /// The beacon, its signature checked.
        beacon: Heard<Beacon>,
    },
    /// A claim came by gossip.
    ClaimHeard {
        /// By whom it was passed on.
        from: PeerId,
        /// Names the gossip for [`Effect::Judge`](crate::Effect::Judge).
        token: u64,
        /// The claim, its signature checked.
        claim: Box<Proven<Claim>>,
    },
    /// A program says how far it is.
    TaskProgressed {
        /// Which try.
        task: Try,
        /// Steps done …
        done: u64,
        /// … of so many.
        total: u64,
        /// In its words; at most [`limits::NOTE_BYTES`](crate::config::limits::NOTE_BYTES).
        note: String,
    },
    /// What [`Effect::Run`](crate::Effect::Run) began has ended, and none of its processes is left.
    TaskEnded {
        /// Which try.
        task: Try,
        /// How.
        exit: Exit,
        /// What it wrote to standard output.
        stdout: Excerpt,
        /// What it wrote to standard error.
        stderr: Excerpt,
        /// How long it ran.
        ran: std::time::Duration,
    },
    /// What a program wrote, as [`Effect::ReadOutput`](crate::Effect::ReadOutput) asked.
    OutputRead {
        /// Correlates the answer.
        token: u64,
        /// None if it is not kept any more.
        bytes: Option<Vec<u8>>,
        /// There is more after these.
        more: bool,
    },
    /// Entries of the record, as [`Effect::ReadLog`](crate::Effect::ReadLog) asked.
    LogRead {
        /// Correlates the answer.
        token: u64,
        /// None if the disk could not be read.
        answer: Option<Box<log::Answer>>,
    },
    /// The record is larger or older than it may be: what is to go, and what has gone.
    RecordOverdue(Vec<Pruned>),
    /// Something from a neighbour was refused at the edge.
    Refused {
        /// From whom.
        from: PeerId,
        /// Why.
        cause: Cause,
    },
    /// A draft was sealed. `None`: the recipient's card holds a key that cannot be sealed to.
    Sealed {
        /// Which draft.
        draft: u64,
        /// The bundle.
        bundle: Option<Bundle>,
    },
    /// Frames to this peer were dropped: its queue was full or its stream broke.
    SendFailed {
        /// To whom.
        to: PeerId,
        /// By which stream.
        lane: Lane,
    },
    /// The disk was asked, and this is what it remembers.
    Recalled(Recalled),
    /// Somebody who may steer this node asked for something.
    Asked {
        /// Correlates the answer.
        request: RequestId,
        /// What.
        command: Command,
    },
    /// A card was looked for, and these were found.
    ContactSought {
        /// Whose.
        peer: PeerId,
        /// Its own, checked; none if there is none.
        found: Option<Box<Heard<Contact>>>,
        /// Nothing more will be found.
        ended: bool,
    },
    /// Who offers a service was looked for, and these are said to: hearsay.
    ProvidersNamed {
        /// As asked.
        token: u64,
        /// Who, beside those named before.
        peers: Vec<PeerId>,
        /// Nobody else will be named.
        ended: bool,
    },
    /// What the machine has free now; travels with beacons.
    Measured {
        /// CPU and memory.
        statistics: Statistics,
        /// Bytes free where the database is, and whether that is below the reserve (DESIGN 9).
        disk: Disk,
    },
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Exited(i32),
    /// By a signal that is not ours.
    Killed(i32),
    /// It was killed because its time was up.
    TimedOut,
    /// It was stopped by [`Effect::Stop`](crate::Effect::Stop).
    Stopped,
    /// It could not be started; why, in at most [`limits::WHY_BYTES`](crate::config::limits::WHY_BYTES).
    NotStarted(String),
}

/// Room left on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Enough.
    Enough,
    /// Below the reserve: nothing new is accepted.
    Low {
        /// Bytes free.
        free: u64,
    },
}

/// A signed statement together with its checked value.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard<T> {
    /// What it says.
    pub value: T,
    /// The bytes as received, to pass on and to keep.
    pub signed: Signed<T>,
}

/// What a neighbour can say, with all signatures checked and all bundles opened.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// See [`Message::Hello`](crate::message::Message::Hello).
    Hello {
        /// The neighbour's card.
        contact: Heard<Contact>,
        /// Its beacon.
        beacon: Heard<Beacon>,
        /// My own beacons, as it remembers them; proved to be mine.
        yours: Vec<Beacon>,
        /// It has not heard my hello.
        answer: bool,
    },
    /// Its signals have changed.
    Beacon(Heard<Beacon>),
    /// A bundle for me, opened; possibly written by a third peer.
    Letters {
        /// The bundle's id.
        bundle: BundleId,
        /// What was in it.
        contents: Contents,
        /// The author's card in it.
        contact: Heard<Contact>,
    },
    /// What its signer has of mine.
    Receipt(Receipt),
    /// See [`Message::AskIds`](crate::message::Message::AskIds).
    AskIds {
        /// The neighbour's epoch.
        epoch: Epoch,
        /// Numbers.
        numbers: Ranges,
    },
    /// See [`Message::Ids`](crate::message::Message::Ids).
    Ids {
        /// My epoch.
        epoch: Epoch,
        /// Number and letter.
        ids: Vec<(u64, LetterId)>,
    },
    /// See [`Message::AskPeers`](crate::message::Message::AskPeers).
    AskPeers {
        /// The last one of the page before.
        after: Option<PeerId>,
    },
    /// One page of peers, their cards checked.
    Peers {
        /// Card and listing.
        peers: Vec<(Contact, Listing)>,
        /// There are more.
        more: bool,
    },
    /// Parcels to hold for others, their slips and ids checked.
    Deposit(Vec<Deposited>),
    /// See [`Message::AskHeld`](crate::message::Message::AskHeld).
    AskHeld(Vec<BundleId>),
    /// See [`Message::Held`](crate::message::Message::Held).
    Held {
        /// The neighbour's memory.
        epoch: Epoch,
        /// Flushed there.
        bundles: Vec<BundleId>,
        /// Not taken, and why.
        refused: Vec<(BundleId, Reason)>,
        /// Not there.
        absent: Vec<BundleId>,
    },
    /// See [`Message::Offers`](crate::message::Message::Offers).
    Offers {
        /// At most a page.
        offers: Vec<Offer>,
        /// It is about to leave.
        leaving: bool,
    },
    /// See [`Message::AskMail`](crate::message::Message::AskMail).
    AskMail {
        /// Which mailbox.
        mailbox: Mailbox,
        /// After this number.
        after: u64,
    },
    /// See [`Message::Mail`](crate::message::Message::Mail).
    Mail {
        /// Which mailbox.
        mailbox: Mailbox,
        /// One page.
        bundles: Vec<Listed>,
        /// There are more.
        more: bool,
    },
    /// See [`Message::Fetch`](crate::message::Message::Fetch).
    Fetch(Vec<BundleId>),
    /// A release, its signature checked; it may have come by way of others.
    Release(Release),
    /// Bundles that their author withdraws, each with the SHA-256 of the secret given.
    Withdraw(Vec<(BundleId, [u8; 32])>),
    /// A receipt to keep for its author.
    KeepReceipt(Heard<Receipt>),
    /// See [`Message::ReceiptKept`](crate::message::Message::ReceiptKept).
    ReceiptKept {
        /// Where.
        slot: Slot,
        /// Which.
        number: u64,
    },
    /// See [`Message::ReceiptTaken`](crate::message::Message::ReceiptTaken).
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
    /// Which chains are there.
    Chains {
        /// As asked.
        ask: u32,
        /// One page.
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
        tip: [u8; 32],
        /// After this one.
        after: u64,
        /// Also those that are not written yet.
        follow: bool,
    },
    /// Segments, each citing the one before, signed by their author; or why they are none.
    Segments {
        /// Whose.
        author: PeerId,
        /// Which chain.
        chain: u64,
        /// Ascending.
        segments: Result<Vec<Piece>, Cause>,
    },
    /// About leaders, orders and tasks; what others have signed in it is checked.
    Work(Work),
    /// It does not take my letters for now.
    Denied(Option<Denial>),
    /// It leaves in order.
    Leaving,
    /// It did not understand something I sent.
    Unsupported {
        /// Which.
        what: String,
    },
}

/// A parcel to hold, checked: the slip is its depositor's and fits the bundle, and the bundle is for somebody else than
/// its depositor and this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Deposited {
    /// The bundle's id, computed here.
    pub id: BundleId,
    /// For whom and from whom.
    pub mailbox: Mailbox,
    /// Bytes of header and sealed part.
    pub size: u64,
    /// SHA-256 of the secret by which its author can withdraw it.
    pub withdrawal: [u8; 32],
    /// The parcel.
    pub parcel: Parcel,
}

/// What the disk was asked for; see [`Effect::Recall`](crate::Effect::Recall).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recall {
    /// Which letters are stored under these numbers of this incoming stream.
    Letters {
        /// The stream's number.
        stream: u32,
        /// The numbers.
        numbers: Ranges,
        /// Correlates the answer.
        token: u64,
    },
    /// Which letters this node wrote under these numbers of this outgoing stream.
    Written {
        /// The stream's number.
        stream: u32,
        /// The numbers.
        numbers: Ranges,
        /// Correlates the answer.
        token: u64,
    },
    /// Which letter was accepted under this idempotency key.
    Key {
        /// The key.
        key: String,
    },
    /// Whether the last segment of this chain stands in a chain here, under its number.
    Segment {
        /// Who has it.
        from: PeerId,
        /// As listed.
        head: ChainHead,
    },
    /// Which order was placed under this idempotency key; orders and letters have keys of their own.
    OrderKey {
        /// The key.
        key: String,
    },
}

/// What the disk answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// To [`Recall::Letters`]: number and letter, ascending; a number may stand more than once.
    Letters {
        /// As asked.
        token: u64,
        /// What is there.
        found: Vec<(u64, LetterId)>,
    },
    /// To [`Recall::Written`]: number and letter, ascending.
    Written {
        /// As asked.
        token: u64,
        /// What is there.
        found: Vec<(u64, LetterId)>,
    },
    /// To [`Recall::OrderKey`].
    OrderKey {
        /// As asked.
        key: String,
        /// Number of the order, and digest of the request that made it.
        found: Option<(u64, [u8; 32])>,
    },
    /// To [`Recall::Segment`].
    Segment {
        /// As asked.
        from: PeerId,
        /// As asked.
        head: ChainHead,
        /// Whether it is here; none: nothing stands under its number.
        known: Option<bool>,
    },
    /// The disk could not be read.
    Failed(Recall),
    /// To [`Recall::Key`].
    Key {
        /// As asked.
        key: String,
        /// The letter.
        found: Option<Earlier>,
    },
}

/// A letter that was accepted under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Its name.
    pub letter: LetterId,
    /// Its number among the letters of this node.
    pub k: u64,
    /// Of the request that made it.
    pub digest: [u8; 32],
}

/// What the user of this node can ask for. Reads are served from the disk and from [`Status`](crate::Status).
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Accept a letter.
    Send(NewLetter),
    /// Do not send this letter any more, to any of its recipients. As it is on the disk.
    Discard(Box<SentLetter>),
    /// These inbox letters were read.
    MarkRead {
        /// Their place: stream, number, and which of the letters under that number.
        letters: Vec<Place>,
    },
    /// Signal that letters and tasks are welcome, or not. Outlives restarts.
    SetAvailable(bool),
    /// Signal that letters may not be read soon, or will. Outlives restarts.
    SetInactive(bool),
    /// Take no letters, deposits or receipts to keep from this peer any more (`true`), or again. Outlives restarts.
    Block {
        /// Whom.
        peer: PeerId,
        /// Whether.
        on: bool,
    },
    /// Be called something else.
    Rename(PeerName),
    /// Place an order.
    Order(Box<NewOrder>),
    /// Cancel these orders of this node.
    Cancel(Vec<u64>),
    /// Offer a service, or offer it otherwise. Outlives restarts.
    Offer(Box<Offering>),
    /// Offer it no more; what runs goes on. Outlives restarts.
    Withdraw(ServiceName),
    /// Finish what runs and take nothing new, or take it again. Outlives restarts.
    Drain(bool),
    /// Let another peer lead.
    Transfer(PeerId),
    /// Ask a peer, or this node itself.
    Ask {
        /// Whom.
        to: PeerId,
        /// What.
        question: Box<Question>,
    },
    /// Look for those who are said to offer this service, beside those who told this node.
    FindProviders(ServiceName),
    /// Say goodbye: the node is about to stop in order.
    Leave,
}

/// An order as its user wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// What.
    pub service: ServiceName,
    /// What the service is told.
    pub args: Vec<String>,
    /// One unit for each; empty: one unit without an item.
    pub items: Vec<String>,
    /// What the service reads.
    pub stdin: Option<Vec<u8>>,
    /// Where in the queue it goes.
    pub priority: Priority,
    /// What each unit takes.
    pub needs: Needs,
    /// At most once.
    pub once: bool,
    /// What has not ended after this is not wanted any more.
    pub expires: Option<std::time::Duration>,
    /// Makes the request idempotent for ever.
    pub key: Option<String>,
}

/// Stands for a stream where an outcome is meant: those of letters count from 1.
pub const OUTCOMES: u32 = 0;

/// Where an inbox letter is: incoming stream, number, and which of the letters under that number (0 but after an
/// author's memory jumped back), and its `n`. The outcome of an order is in the stream [`OUTCOMES`], under the order's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The incoming stream, or [`OUTCOMES`].
    pub stream: u32,
    /// The number in it.
    pub seq: u64,
    /// Which of the letters under that number.
    pub twin: u8,
    /// The inbox number.
    pub n: u64,
}

/// A letter as its user wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewLetter {
    /// To whom; each peer gets one copy even if named twice.
    pub to: Vec<Addressee>,
    /// The type of envelope: `message` from people.
    pub kind: String,
    /// The content.
    pub payload: Payload,
    /// The letter it answers.
    pub in_reply_to: Option<LetterId>,
    /// Makes the request idempotent for ever.
    pub key: Option<String>,
    /// Names that nobody bears yet are accepted and wait for their first bearer.
    pub later: bool,
}
