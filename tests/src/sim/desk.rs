//! The edge of a simulated node: with real keys and frames, or with values that are passed as they are.
//! Knows nothing of machines. Either way nothing reaches a machine that its own edge would have refused.

use std::rc::Rc;

use protocol::beacon::Beacon;
use protocol::bundle::{self, Bundle, Draft, Header};
use protocol::codec;
use protocol::config::limits;
use protocol::contact::Contact;
use protocol::copies;
use protocol::edge::{self, Cause, Edge};
use protocol::effect::{Say, segment_of};
use protocol::input::{Deposited, Heard, Input, Said};
use protocol::mail::{Mailbox, Parcel, Slip};
use protocol::message::Message;
use protocol::order::{Claim, Fence};
use protocol::proven::Proven;
use protocol::segment::Segment;
use protocol::sign::{Signed, Statement};
use protocol::work::{Copies, Work};
use protocol::{Epoch, PeerId};
use serde_bytes::{ByteArray, ByteBuf};
use sha2::{Digest, Sha256};

/// What one peer hands to the network for another.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// A value, taken as authenticated.
    Say(Box<Say>),
    /// Bundles whose seal is a mere wrapping.
    Letters(Vec<Bundle>),
    /// Parcels whose slips nobody has signed.
    Deposit(Vec<Parcel>),
    /// Segments that nobody has signed.
    Segments { author: PeerId, chain: u64, segments: Vec<Signed<Segment>> },
    /// What would go over a real wire.
    Bytes { bytes: Vec<u8>, what: &'static str },
}

/// What goes to everyone.
#[derive(Clone, Debug)]
pub(crate) struct Gossip {
    pub(crate) name: Name,
    what: What,
    bytes: Option<Vec<u8>>,
}

/// What makes it the same gossip for whoever hears it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// Peer, epoch, boot, nonce and counter.
    Beacon(PeerId, Epoch, u64, u64, u64),
    /// Fence, boot and counter.
    Claim(Fence, u64, u64),
}

#[derive(Clone, Debug)]
enum What {
    Beacon(Beacon),
    Claim(Box<Proven<Claim>>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Desk {
    me: PeerId,
    edge: Option<Edge>,
}

/// A pretended signature.
fn heard<T: Statement>(value: T) -> Heard<T> {
    Heard { signed: Signed::unchecked(&value), value }
}

fn trusted<T: Statement>(signed: Signed<T>) -> Heard<T> {
    Heard { value: signed.trusted().expect("peers pass on what was signed"), signed }
}

fn deposited(parcel: &Parcel) -> Deposited {
    let header = parcel.bundle.read_header().expect("sealed by a desk");
    let slip = trusted(parcel.slip.clone()).value;
    let mailbox = Mailbox { recipient: header.recipient, depositor: slip.depositor };
    Deposited { id: slip.bundle, mailbox, size: slip.size, withdrawal: header.withdrawal.into_array(), parcel: parcel.clone() }
}

impl Desk {
    pub(crate) fn new(me: PeerId, edge: Option<Edge>) -> Desk {
        Desk { me, edge }
    }

    pub(crate) fn utter(&self, say: Say) -> Frame {
        match &self.edge {
            None => {
                let say = match say {
                    Say::Work(work) => Say::Work(self.vouch(work)),
                    other => other,
                };
                Frame::Say(Box::new(say))
            }
            Some(edge) => {
                let what = name(&say);
                Frame::Bytes { bytes: edge.utter(say).to_frame(), what }
            }
        }
    }

    /// Pretends to sign what is ours in it. What is somebody else's must have come with a proof.
    fn vouch(&self, work: Work) -> Work {
        match work {
            Work::Claim(claim) => Work::Claim(Box::new(self.vouched(*claim))),
            Work::Orders(orders) => Work::Orders(orders.into_iter().map(|order| self.vouched(order)).collect()),
            Work::Reports(reports) => Work::Reports(reports.into_iter().map(|report| self.vouched(report)).collect()),
            Work::Closing(closing) => Work::Closing(Box::new(self.vouched(*closing))),
            Work::Cancels(cancels) => Work::Cancels(cancels.into_iter().map(|cancel| self.vouched(cancel)).collect()),
            Work::Copies(Copies { fence, number, span, orders }) => {
                let vouched = orders.into_iter().map(|mut held| {
                    held.order = held.order.map(|order| self.vouched(order));
                    held.state.cancel = held.state.cancel.map(|cancel| self.vouched(cancel));
                    held
                });
                Work::Copies(Copies { fence, number, span, orders: vouched.collect() })
            }
            other => other,
        }
    }

    fn vouched<T: Statement>(&self, statement: Proven<T>) -> Proven<T> {
        let signer = statement.value.signer();
        assert!(statement.proof.is_some() || signer == self.me, "{} would sign what only {signer} can", self.me);
        statement.unchecked()
    }

    /// A card as those find it who look for it.
    pub(crate) fn card(&self, contact: Contact) -> Heard<Contact> {
        match &self.edge {
            None => heard(contact),
            Some(edge) => Heard { signed: edge.sign(&contact), value: contact },
        }
    }

    pub(crate) fn letters(&self, bundles: Vec<Bundle>) -> Frame {
        match &self.edge {
            None => Frame::Letters(bundles),
            Some(_) => Frame::Bytes { bytes: Message::Letters(bundles).to_frame(), what: "Letters" },
        }
    }

    pub(crate) fn parcel(&self, bundle: Bundle) -> Parcel {
        match &self.edge {
            Some(edge) => edge.parcel(bundle),
            None => {
                let slip = Slip { depositor: self.me, bundle: bundle.id(), size: bundle.size() as u64 };
                Parcel { slip: Signed::unchecked(&slip), bundle }
            }
        }
    }

    pub(crate) fn deposit(&self, parcels: Vec<Parcel>) -> Frame {
        match &self.edge {
            None => Frame::Deposit(parcels),
            Some(_) => Frame::Bytes { bytes: Message::Deposit(parcels).to_frame(), what: "Deposit" },
        }
    }

    /// A segment of this node itself, as its disk keeps it.
    pub(crate) fn segment(&self, body: Vec<u8>) -> Signed<Segment> {
        match &self.edge {
            Some(edge) => edge.sign_segment(body),
            None => Signed::unchecked(&segment_of(&body).expect("its own")),
        }
    }

    pub(crate) fn segments(&self, author: PeerId, chain: u64, segments: Vec<Signed<Segment>>) -> Frame {
        match &self.edge {
            None => Frame::Segments { author, chain, segments },
            Some(_) => Frame::Bytes { bytes: Message::Segments { author, chain, segments }.to_frame(), what: "Segments" },
        }
    }

    /// What follows from a frame.
    pub(crate) fn admit(&self, from: PeerId, frame: &Frame) -> Vec<Input> {
        match (frame, &self.edge) {
            (Frame::Bytes { bytes, .. }, Some(edge)) => edge.admit(from, bytes),
            (Frame::Bytes { .. }, None) => unreachable!("all desks of a run are of one kind"),
            (Frame::Letters(bundles), _) => bundles.iter().flat_map(|bundle| self.open(from, bundle)).collect(),
            (Frame::Deposit(parcels), _) => {
                let parcels = parcels.iter().map(deposited).collect();
                vec![Input::Arrived { from, said: Box::new(Said::Deposit(parcels)) }]
            }
            (Frame::Segments { author, chain, segments }, _) => {
                let segments = copies::pieces(*author, *chain, segments, from != *author, |_| true);
                vec![Input::Arrived { from, said: Box::new(Said::Segments { author: *author, chain: *chain, segments }) }]
            }
            (Frame::Say(say), _) => vec![self.said(from, Say::clone(say))],
        }
    }

    fn open(&self, from: PeerId, bundle: &Bundle) -> Vec<Input> {
        let contents: bundle::Contents = codec::decode(&bundle.sealed).expect("sealed by a desk");
        if bundle.read_header().expect("sealed by a desk").recipient != self.me {
            return vec![Input::Refused { from, cause: Cause::NotForMe }];
        }
        if bundle::consistent(&contents, self.me).is_err() {
            return vec![Input::Refused { from, cause: Cause::Inconsistent }];
        }
        let contact = trusted(contents.contact.clone());
        edge::opened_letters(from, bundle.id(), contents, contact)
    }

    fn said(&self, from: PeerId, say: Say) -> Input {
        let refused = |cause| Input::Refused { from, cause };
        let said = match say {
            Say::Hello { yours, .. } if yours.len() > limits::YOURS => return refused(Cause::Malformed),
            Say::Hello { contact, beacon, yours, answer } => {
                let yours = yours.into_iter().map(|signed| trusted(signed).value).filter(|mine| mine.peer == self.me).collect();
                Said::Hello { contact: heard(contact), beacon: heard(beacon), yours, answer }
            }
            Say::Beacon(beacon) => Said::Beacon(heard(beacon)),
            Say::Receipt(receipt) if receipt.author != self.me => return refused(Cause::NotForMe),
            Say::Receipt(receipt) => Said::Receipt(receipt),
            Say::AskIds { numbers, .. } if numbers.pieces() > limits::PAGE => return refused(Cause::Malformed),
            Say::AskIds { epoch, numbers } => Said::AskIds { epoch, numbers },
            Say::Ids { ids, .. } if ids.len().div_ceil(limits::IDS_PER_ITEM) > limits::PAGE => return refused(Cause::Malformed),
            Say::Ids { epoch, ids } => Said::Ids { epoch, ids },
            Say::AskPeers { after } => Said::AskPeers { after },
            Say::Peers { peers, .. } if peers.len() > limits::PAGE => return refused(Cause::Malformed),
            Say::Peers { peers, more } => {
                let peers = peers.into_iter().map(|listing| (trusted(listing.contact.clone()).value, listing)).collect();
                Said::Peers { peers, more }
            }
            Say::AskHeld(bundles) | Say::Fetch(bundles) if bundles.len() > limits::BUNDLE_IDS => {
                unreachable!("{} ids in one frame", bundles.len())
            }
            Say::AskHeld(bundles) => Said::AskHeld(bundles),
            Say::Held { epoch, bundles, refused, absent } => Said::Held { epoch, bundles, refused, absent },
            Say::Offers { offers, leaving } => Said::Offers { offers, leaving },
            Say::AskMail { mailbox, after } => Said::AskMail { mailbox, after },
            Say::Mail { mailbox, bundles, more } => Said::Mail { mailbox, bundles, more },
            Say::Fetch(bundles) => Said::Fetch(bundles),
            Say::Release(release) => Said::Release(release),
            Say::Withdraw(bundles) => {
                Said::Withdraw(bundles.into_iter().map(|(bundle, secret)| (bundle, Sha256::digest(secret).into())).collect())
            }
            Say::KeepReceipt(receipt) => Said::KeepReceipt(heard(receipt)),
            Say::PassReceipt(signed) => Said::Receipt(trusted(signed).value),
            Say::ReceiptKept { slot, number } => Said::ReceiptKept { slot, number },
            Say::ReceiptTaken { slot, number } => Said::ReceiptTaken { slot, number },
            Say::AskChains { ask, after } => Said::AskChains { ask, after },
            Say::Chains { ask, chains, more } => Said::Chains { ask, chains, more },
            Say::AskSegments { author, chain, tip, after, follow } => {
                Said::AskSegments { author, chain, tip: tip.into_array(), after, follow }
            }
            Say::Work(work) if work.items() > limits::WORDS => unreachable!("{} items in one {}", work.items(), work.what()),
            Say::Work(work) if !work.within_limits() => unreachable!("{} is beyond its limits: {work:?}", work.what()),
            Say::Work(work) => Said::Work(work),
            Say::Denied(why) => Said::Denied(why),
            Say::Leaving => Said::Leaving,
            Say::Unsupported { what } => Said::Unsupported { what },
        };
        Input::Arrived { from, said: Box::new(said) }
    }

    pub(crate) fn seal(&self, draft: &Draft) -> Option<Bundle> {
        match &self.edge {
            Some(edge) => edge.seal(draft),
            None => {
                let withdrawal = ByteArray::new(Sha256::digest(draft.withdrawal).into());
                let header = Header { suite: bundle::SUITE, recipient: draft.to.id, key: draft.to.key, withdrawal };
                let contents = bundle::contents(self.me, draft, Signed::unchecked(&draft.contact));
                Some(Bundle { header: ByteBuf::from(codec::encode(&header)), sealed: ByteBuf::from(codec::encode(&contents)) })
            }
        }
    }

    pub(crate) fn gossip(&self, beacon: Beacon) -> Rc<Gossip> {
        let name = Name::Beacon(beacon.peer, beacon.epoch, beacon.boot, beacon.nonce, beacon.counter);
        let bytes = self.edge.as_ref().map(|edge| edge.gossip(&beacon));
        Rc::new(Gossip { name, what: What::Beacon(beacon), bytes })
    }

    pub(crate) fn gossip_claim(&self, claim: Box<Proven<Claim>>) -> Rc<Gossip> {
        let Claim { fence, boot, counter, .. } = claim.value;
        let bytes = self.edge.as_ref().map(|edge| edge.gossip_claim(claim.clone()));
        Rc::new(Gossip { name: Name::Claim(fence, boot, counter), what: What::Claim(Box::new(self.vouched(*claim))), bytes })
    }

    pub(crate) fn hear(&self, gossip: &Gossip) -> Result<edge::Gossip, Cause> {
        match (&self.edge, &gossip.bytes, &gossip.what) {
            (Some(edge), Some(bytes), _) => edge.hear(bytes),
            (_, _, What::Beacon(beacon)) => Ok(edge::Gossip::Beacon(Box::new(heard(beacon.clone())))),
            (_, _, What::Claim(claim)) => Ok(edge::Gossip::Claim(claim.clone())),
        }
    }
}

fn name(say: &Say) -> &'static str {
    match say {
        Say::Hello { .. } => "Hello",
        Say::Beacon(_) => "Beacon",
        Say::Receipt(_) => "Receipt",
        Say::AskIds { .. } => "AskIds",
        Say::Ids { .. } => "Ids",
        Say::AskPeers { .. } => "AskPeers",
        Say::Peers { .. } => "Peers",
        Say::AskHeld(_) => "AskHeld",
        Say::Held { .. } => "Held",
        Say::Offers { .. } => "Offers",
        Say::AskMail { .. } => "AskMail",
        Say::Mail { .. } => "Mail",
        Say::Fetch(_) => "Fetch",
        Say::Release(_) => "Release",
        Say::Withdraw(_) => "Withdraw",
        Say::KeepReceipt(_) => "KeepReceipt",
        Say::PassReceipt(_) => "PassReceipt",
        Say::ReceiptKept { .. } => "ReceiptKept",
        Say::ReceiptTaken { .. } => "ReceiptTaken",
        Say::AskChains { .. } => "AskChains",
        Say::Chains { .. } => "Chains",
        Say::AskSegments { .. } => "AskSegments",
        Say::Work(work) => work.what(),
        Say::Denied(_) => "Denied",
        Say::Leaving => "Leaving",
        Say::Unsupported { .. } => "Unsupported",
    }
}

impl Frame {
    /// One word for traces.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Frame::Say(say) => name(say),
            Frame::Letters(_) => "Letters",
            Frame::Deposit(_) => "Deposit",
            Frame::Segments { .. } => "Segments",
            Frame::Bytes { what, .. } => what,
        }
    }
}
