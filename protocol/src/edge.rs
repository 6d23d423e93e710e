//! Between bytes and facts: what leaves is signed and encoded here, what arrives is decoded, checked and opened here.
//! Holds no state but the keys; run by workers, never inside the machines. Nothing reaches a machine unchecked.

use libp2p_identity::PeerId;
use serde_bytes::ByteArray;
use sha2::{Digest, Sha256};

use crate::beacon::Beacon;
use crate::bundle::{self, Bundle, Contents, Draft, OpenError, Secrets};
use crate::codec;
use crate::config::limits;
use crate::contact::Contact;
use crate::copies;
use crate::effect::Say;
use crate::id::BundleId;
use crate::input::{Deposited, Heard, Input, Said};
use crate::mail::{Mailbox, Parcel, Slip};
use crate::message::{FrameError, Message};
use crate::order::Claim;
use crate::proven::Proven;
use crate::receipt::Receipt;
use crate::report_letter;
use crate::segment::Segment;
use crate::sign::{Signed, Statement, StatementError};
use crate::work::Work;

/// Why something from a neighbour was refused. Nothing changed but a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// No message of this version: garbage, too long, too deep, too many.
    Malformed,
    /// Another version of the protocol.
    Version,
    /// A signature does not fit.
    Signature,
    /// A card or beacon of somebody else than it says.
    Impostor,
    /// A bundle for somebody else.
    NotForMe,
    /// A bundle that does not open.
    Sealed,
    /// A bundle or card that contradicts itself or exceeds a limit.
    Inconsistent,
    /// A beacon that was heard before, or an older one.
    Replayed,
    /// More peers, streams or letters than this node keeps.
    Full,
    /// The right message at the wrong time: answers nobody asked for.
    Unexpected,
    /// Letters for a node that runs twice: they stay with their authors.
    Cloned,
    /// Letters or mail of a peer that this node's user has blocked.
    Blocked,
}

impl Cause {
    /// The word in the record and in `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Malformed => "malformed",
            Cause::Version => "version",
            Cause::Signature => "signature",
            Cause::Impostor => "impostor",
            Cause::NotForMe => "not_for_me",
            Cause::Sealed => "sealed",
            Cause::Inconsistent => "inconsistent",
            Cause::Replayed => "replayed",
            Cause::Full => "full",
            Cause::Unexpected => "unexpected",
            Cause::Cloned => "cloned",
            Cause::Blocked => "blocked",
        }
    }
}

impl From<FrameError> for Cause {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Version(_) => Cause::Version,
            FrameError::Size(_) | FrameError::Decode(_) | FrameError::TooMany(_) => Cause::Malformed,
        }
    }
}

impl From<StatementError> for Cause {
    fn from(error: StatementError) -> Self {
        match error {
            StatementError::Decode(_) => Cause::Malformed,
            StatementError::Signature => Cause::Signature,
        }
    }
}

impl From<OpenError> for Cause {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Decode(_) => Cause::Malformed,
            OpenError::Suite(_) => Cause::Version,
            OpenError::NotForMe => Cause::NotForMe,
            OpenError::Sealed => Cause::Sealed,
            OpenError::Signature => Cause::Signature,
            OpenError::Inconsistent(_) => Cause::Inconsistent,
        }
    }
}

/// What may travel by gossip, its signature checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Gossip {
    /// Somebody is here.
    Beacon(Box<Heard<Beacon>>),
    /// Somebody leads.
    Claim(Box<Proven<Claim>>),
}

/// The keys and the swarm: what it takes to sign, seal, check and open.
#[derive(Clone, Debug)]
pub struct Edge {
    secrets: Secrets,
    swarm: String,
}

impl Edge {
    /// For this identity in this swarm.
    #[must_use]
    pub fn new(secrets: Secrets, swarm: String) -> Self {
        Edge { secrets, swarm }
    }

    /// The swarm's name.
    #[must_use]
    pub fn swarm(&self) -> &str {
        &self.swarm
    }

    /// Signs what needs it.
    #[must_use]
    pub fn utter(&self, say: Say) -> Message {
        match say {
            Say::Hello { contact, beacon, yours, answer } => {
                Message::Hello { contact: self.sign(&contact), beacon: self.sign(&beacon), yours, answer }
            }
            Say::Beacon(beacon) => Message::Beacon(self.sign(&beacon)),
            Say::Receipt(receipt) => Message::Receipt(self.sign(&receipt)),
            Say::AskIds { epoch, numbers } => Message::AskIds { epoch, numbers },
            Say::Ids { epoch, ids } => Message::Ids { epoch, ids },
            Say::AskPeers { after } => Message::AskPeers { after },
            Say::Peers { peers, more } => Message::Peers { peers, more },
            Say::AskHeld(bundles) => Message::AskHeld(bundles),
            Say::Held { epoch, bundles, refused, absent } => Message::Held { epoch, bundles, refused, absent },
            Say::Offers { offers, leaving } => Message::Offers { offers, leaving },
            Say::AskMail { mailbox, after } => Message::AskMail { mailbox, after },
            Say::Mail { mailbox, bundles, more } => Message::Mail { mailbox, bundles, more },
            Say::Fetch(bundles) => Message::Fetch(bundles),
            Say::Release(release) => Message::Release(self.sign(&release)),
            Say::Withdraw(bundles) => {
                Message::Withdraw(bundles.into_iter().map(|(bundle, secret)| (bundle, ByteArray::new(secret))).collect())
            }
            Say::KeepReceipt(receipt) => Message::KeepReceipt(self.sign(&receipt)),
            Say::PassReceipt(receipt) => Message::Receipt(receipt),
            Say::ReceiptKept { slot, number } => Message::ReceiptKept { slot, number },
            Say::ReceiptTaken { slot, number } => Message::ReceiptTaken { slot, number },
            Say::AskChains { ask, after } => Message::AskChains { ask, after },
            Say::Chains { ask, chains, more } => Message::Chains { ask, chains, more },
            Say::AskSegments { author, chain, tip, after, follow } => Message::AskSegments { author, chain, tip, after, follow },
            Say::Work(mut work) => {
                work.prove(&self.secrets.signing, &self.swarm);
                Message::Work(work)
            }
            Say::Denied(why) => Message::Denied(why),
            Say::Leaving => Message::Leaving,
            Say::Unsupported { what } => Message::Unsupported { what },
        }
    }

    /// Signs one statement of ours.
    #[must_use]
    pub fn sign<T: Statement>(&self, value: &T) -> Signed<T> {
        Signed::new(&self.secrets.signing, &self.swarm, value)
    }

    /// A bundle of ours as custodians carry it.
    #[must_use]
    pub fn parcel(&self, bundle: Bundle) -> Parcel {
        let slip = Slip { depositor: self.secrets.id(), bundle: bundle.id(), size: bundle.size() as u64 };
        Parcel { slip: self.sign(&slip), bundle }
    }

    /// Signs a segment whose bytes are made already.
    #[must_use]
    pub fn sign_segment(&self, body: Vec<u8>) -> Signed<Segment> {
        Signed::over(&self.secrets.signing, &self.swarm, body)
    }

    /// Seals a draft; none if the recipient's card holds no usable key.
    #[must_use]
    pub fn seal(&self, draft: &Draft) -> Option<Bundle> {
        bundle::seal(&self.secrets, &self.swarm, draft, self.sign(&draft.contact)).ok()
    }

    /// The bytes of a gossiped beacon.
    #[must_use]
    pub fn gossip(&self, beacon: &Beacon) -> Vec<u8> {
        Message::Beacon(self.sign(beacon)).to_frame()
    }

    /// The bytes of a gossiped claim.
    #[must_use]
    pub fn gossip_claim(&self, claim: Box<Proven<Claim>>) -> Vec<u8> {
        self.utter(Say::Work(Work::Claim(claim))).to_frame()
    }

    /// Reads a gossip.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn hear(&self, bytes: &[u8]) -> Result<Gossip, Cause> {
        if bytes.len() > limits::GOSSIP_BYTES {
            return Err(Cause::Malformed);
        }
        match Message::from_frame(bytes)? {
            Message::Beacon(signed) => Ok(Gossip::Beacon(Box::new(self.check(signed)?))),
            Message::Work(work @ Work::Claim(_)) if !work.within_limits() => Err(Cause::Inconsistent),
            Message::Work(work) => {
                work.check(&self.swarm)?;
                match work {
                    Work::Claim(claim) => Ok(Gossip::Claim(claim)),
                    _ => Err(Cause::Unexpected),
                }
            }
            _ => Err(Cause::Unexpected),
        }
    }

    /// What follows from a frame: the facts in it, or that it was refused.
    #[must_use]
    pub fn admit(&self, from: PeerId, frame: &[u8]) -> Vec<Input> {
        let message = match Message::from_frame(frame) {
            Ok(message) => message,
            Err(error) => return vec![Input::Refused { from, cause: error.into() }],
        };
        if let Message::Letters(bundles) = message {
            return bundles.iter().flat_map(|bundle| self.open(from, bundle)).collect();
        }
        match self.said(from, message) {
            Ok(said) => vec![Input::Arrived { from, said: Box::new(said) }],
            Err(cause) => vec![Input::Refused { from, cause }],
        }
    }

    fn open(&self, from: PeerId, bundle: &Bundle) -> Vec<Input> {
        let opened = bundle::open(&self.secrets, &self.swarm, bundle).map_err(Cause::from).and_then(|contents| {
            let contact = self.contact(contents.contact.clone())?;
            if contact.value.id == contents.author { Ok((contents, contact)) } else { Err(Cause::Impostor) }
        });
        match opened {
            Ok((contents, contact)) => opened_letters(from, bundle.id(), contents, contact),
            Err(cause) => vec![Input::Refused { from, cause }],
        }
    }

    fn said(&self, from: PeerId, message: Message) -> Result<Said, Cause> {
        Ok(match message {
            Message::Hello { contact, beacon, yours, answer } => {
                let (contact, beacon) = (self.contact(contact)?, self.check(beacon)?);
                if contact.value.id != from || beacon.value.peer != from {
                    return Err(Cause::Impostor);
                }
                // What somebody else remembers of me counts only if it is mine; otherwise it is as if nothing were said.
                let values = yours.into_iter().filter_map(|signed| self.check(signed).ok()).map(|heard| heard.value);
                Said::Hello { contact, beacon, yours: values.filter(|mine| mine.peer == self.secrets.id()).collect(), answer }
            }
            Message::Beacon(signed) => {
                let beacon = self.check(signed)?;
                if beacon.value.peer != from {
                    return Err(Cause::Impostor);
                }
                Said::Beacon(beacon)
            }
            Message::Receipt(signed) => {
                let receipt = self.receipt(signed)?.value;
                if receipt.author != self.secrets.id() {
                    Err(Cause::NotForMe)?
                }
                Said::Receipt(receipt)
            }
            Message::KeepReceipt(signed) => Said::KeepReceipt(self.receipt(signed)?),
            Message::ReceiptKept { slot, number } => Said::ReceiptKept { slot, number },
            Message::ReceiptTaken { slot, number } => Said::ReceiptTaken { slot, number },
            Message::Deposit(parcels) => {
                Said::Deposit(parcels.into_iter().map(|parcel| self.deposited(parcel)).collect::<Result<_, Cause>>()?)
            }
            Message::AskHeld(bundles) => Said::AskHeld(bundles),
            Message::Held { epoch, bundles, refused, absent } => Said::Held { epoch, bundles, refused, absent },
            Message::Offers { offers, leaving } => Said::Offers { offers, leaving },
            Message::AskMail { mailbox, after } => Said::AskMail { mailbox, after },
            Message::Mail { mailbox, bundles, more } => Said::Mail { mailbox, bundles, more },
            Message::Fetch(bundles) => Said::Fetch(bundles),
            Message::Release(signed) => {
                let release = self.check(signed)?.value;
                if release.bundles.len() > limits::BUNDLE_IDS {
                    return Err(Cause::Malformed);
                }
                Said::Release(release)
            }
            Message::Withdraw(bundles) => {
                Said::Withdraw(bundles.into_iter().map(|(bundle, secret)| (bundle, Sha256::digest(secret.as_ref()).into())).collect())
            }
            Message::AskIds { epoch, numbers } => Said::AskIds { epoch, numbers },
            Message::Ids { epoch, ids } => Said::Ids { epoch, ids },
            Message::AskPeers { after } => Said::AskPeers { after },
            Message::Peers { peers, more } => {
                let checked: Result<Vec<_>, Cause> =
                    peers.into_iter().map(|listing| Ok((self.contact(listing.contact.clone())?.value, listing))).collect();
                Said::Peers { peers: checked?, more }
            }
            Message::AskChains { ask, after } => Said::AskChains { ask, after },
            Message::Chains { ask, chains, more } => Said::Chains { ask, chains, more },
            Message::AskSegments { author, chain, tip, after, follow } => {
                Said::AskSegments { author, chain, tip: tip.into_array(), after, follow }
            }
            Message::Segments { author, chain, segments } => {
                // Its author may spoil the signatures of its own segments; anybody else must not.
                let is_signed = |signed: &Signed<Segment>| signed.is_by(&author, &self.swarm);
                Said::Segments { author, chain, segments: copies::pieces(author, chain, &segments, from != author, is_signed) }
            }
            Message::Work(work) => {
                if !work.within_limits() {
                    return Err(Cause::Inconsistent);
                }
                work.check(&self.swarm)?;
                Said::Work(work)
            }
            Message::Denied(why) => Said::Denied(why),
            Message::Leaving => Said::Leaving,
            Message::Unsupported { what } => Said::Unsupported { what },
            Message::Letters(_) => return Err(Cause::Unexpected),
        })
    }

    fn receipt(&self, signed: Signed<Receipt>) -> Result<Heard<Receipt>, Cause> {
        let heard = self.check(signed)?;
        if heard.value.within_limits() { Ok(heard) } else { Err(Cause::Inconsistent) }
    }

    /// A parcel is taken for what its bytes say, not for what its bearer says.
    fn deposited(&self, parcel: Parcel) -> Result<Deposited, Cause> {
        let slip = self.check(parcel.slip.clone())?.value;
        let (id, size) = (parcel.bundle.id(), parcel.bundle.size());
        let header = parcel.bundle.read_header().map_err(|_| Cause::Malformed)?;
        let fits = slip.bundle == id && slip.size == size as u64 && size <= limits::SEALED_BYTES;
        if !fits || header.recipient == slip.depositor || header.recipient == self.secrets.id() {
            return Err(Cause::Inconsistent);
        }
        let mailbox = Mailbox { recipient: header.recipient, depositor: slip.depositor };
        Ok(Deposited { id, mailbox, size: slip.size, withdrawal: header.withdrawal.into_array(), parcel })
    }

    fn check<T: Statement>(&self, signed: Signed<T>) -> Result<Heard<T>, Cause> {
        let value = signed.check(&self.swarm)?;
        Ok(Heard { value, signed })
    }

    fn contact(&self, signed: Signed<Contact>) -> Result<Heard<Contact>, Cause> {
        check_contact(&self.swarm, signed)
    }

    /// A card of ours as others keep it for those who look for it, and the key it stands under.
    #[must_use]
    pub fn card(&self, contact: &Contact) -> ([u8; 32], Vec<u8>) {
        (self.card_key(&contact.id), codec::encode(&self.sign(contact)))
    }

    /// The key under which the card of a peer stands.
    #[must_use]
    pub fn card_key(&self, peer: &PeerId) -> [u8; 32] {
        card_key(&self.swarm, peer)
    }

    /// What was found when cards of this peer were looked for: the latest that is its own.
    #[must_use]
    pub fn sought(&self, peer: PeerId, cards: &[impl AsRef<[u8]>], ended: bool) -> Input {
        let cards = cards.iter().filter_map(|card| read_card(&self.swarm, card.as_ref()).ok());
        let found = cards.filter(|card| card.value.id == peer).max_by_key(|card| card.value.sequence);
        Input::ContactSought { peer, found: found.map(Box::new), ended }
    }
}

/// The facts in an opened bundle: its letters, and the reports of work among them.
#[must_use]
pub fn opened_letters(from: PeerId, bundle: BundleId, contents: Contents, contact: Heard<Contact>) -> Vec<Input> {
    let reports = report_letter::reports(&contents.author, &contents.envelopes);
    let arrived = |said| Input::Arrived { from, said: Box::new(said) };
    let mut inputs = vec![arrived(Said::Letters { bundle, contents, contact })];
    if !reports.is_empty() {
        inputs.push(arrived(Said::Work(Work::Reports(reports))));
    }
    inputs
}

/// The key under which the card of a peer of a swarm stands.
fn card_key(swarm: &str, peer: &PeerId) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [swarm.as_bytes(), b"contact", &peer.to_bytes()] {
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// For whoever keeps cards for others: the sequence of this one, if it is that of `from` and stands under its key.
#[must_use]
pub fn kept_card(swarm: &str, from: &PeerId, key: &[u8], card: &[u8]) -> Option<u64> {
    if key != card_key(swarm, from) {
        return None;
    }
    read_card(swarm, card).ok().filter(|card| card.value.id == *from).map(|card| card.value.sequence)
}

fn read_card(swarm: &str, card: &[u8]) -> Result<Heard<Contact>, Cause> {
    if card.len() > limits::CONTACT_BYTES {
        return Err(Cause::Malformed);
    }
    check_contact(swarm, codec::decode(card).map_err(|_| Cause::Malformed)?)
}

fn check_contact(swarm: &str, signed: Signed<Contact>) -> Result<Heard<Contact>, Cause> {
    let value = signed.check(swarm)?;
    let key = value.encryption_key.into_array();
    let fits = value.within_limits() && bundle::key_id(&key) == value.key && bundle::can_seal_to(&key);
    if fits { Ok(Heard { value, signed }) } else { Err(Cause::Inconsistent) }
}
