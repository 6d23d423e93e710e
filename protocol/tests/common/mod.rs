//! One peer under attack, and those who attack it: for the tests of what outsiders may say.
#![allow(dead_code, reason = "each test crate uses its share")]

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::beacon::{Beacon, Statistics};
use protocol::bundle::{self, Bundle, Draft, Secrets};
use protocol::contact::Contact;
use protocol::edge::{Cause, Edge};
use protocol::effect::{HeldIndex, Me, Say, segment_of};
use protocol::envelope::{Envelope, Payload};
use protocol::id::{BundleId, Epoch, LetterId, MachineId};
use protocol::input::{NewLetter, Recall, Recalled};
use protocol::mail::{Holder, Slot};
use protocol::message::Message;
use protocol::name::Addressee;
use protocol::segment::What;
use protocol::{Change, Command, Config, Effect, Identity, Input, Kept, Now, Peer, PeerId, RequestId, Timestamp, codec};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use serde_bytes::ByteArray;

pub(crate) const SWARM: &str = "lan";
/// The most effects that one fact of an outsider may have: a page of peers that are all new, and what follows from each.
pub(crate) const EFFECTS: usize = 1_000;

pub(crate) fn secrets(n: u8) -> Secrets {
    Secrets::from_seeds(&[n; 32], &[n.wrapping_add(100); 32])
}

pub(crate) fn edge(n: u8) -> Edge {
    Edge::new(secrets(n), SWARM.to_owned())
}

pub(crate) fn contact_of(secrets: &Secrets, name: &str) -> Contact {
    Contact {
        id: secrets.id(),
        name: name.parse().expect("a name"),
        machine: MachineId::new([1; 16]),
        suite: bundle::SUITE,
        encryption_key: ByteArray::new(secrets.encryption_key()),
        key: secrets.key_id(),
        addresses: vec!["/ip4/127.0.0.1/tcp/6174".to_owned()],
        sequence: 1,
    }
}

pub(crate) fn contact(n: u8) -> Contact {
    Contact { machine: MachineId::new([n; 16]), ..contact_of(&secrets(n), &format!("peer-{n}")) }
}

pub(crate) fn beacon(n: u8, counter: u64) -> Beacon {
    Beacon {
        peer: secrets(n).id(),
        epoch: Epoch(n.into()),
        boot: 1,
        nonce: 1,
        counter,
        contact: 1,
        available: true,
        inactive: false,
        services: 0,
        known: 7,
        linked: 1,
        record: 1,
        other: None,
        cloned: false,
        statistics: Statistics::default(),
    }
}

pub(crate) fn letter(author: PeerId, to: PeerId, seq: u64) -> Envelope {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&seq.to_be_bytes());
    Envelope {
        kind: "message".to_owned(),
        author,
        recipients: vec![to],
        payload: Payload::Text(format!("letter {seq}")),
        timestamp: Timestamp(u64::MAX),
        id: LetterId::new(id),
        seq: Some(seq),
        in_reply_to: None,
    }
}

/// One peer under attack, with its disk.
pub(crate) struct Victim {
    pub(crate) edge: Edge,
    pub(crate) id: PeerId,
    pub(crate) peer: Peer,
    pub(crate) now: Now,
    pub(crate) taken: BTreeMap<(u32, u64, u8), LetterId>,
    /// Bytes that its commits wrote, and the longest frame that it wanted to send.
    pub(crate) written: usize,
    pub(crate) longest: usize,
    pub(crate) segment: usize,
    pub(crate) sent: Vec<(PeerId, Say)>,
    /// What it holds for others, who it counts on, what it keeps of its own, and what it believes to be delivered.
    pub(crate) held: BTreeMap<u64, HeldIndex>,
    pub(crate) receipts: BTreeMap<Slot, u64>,
    pub(crate) bundles: BTreeMap<(u32, u64), Bundle>,
    pub(crate) holders: BTreeMap<(u32, u64), Vec<Holder>>,
    pub(crate) delivered: u64,
    /// Whom it asked to hold what of its own, and whom it sent what it holds.
    pub(crate) deposited: Vec<(PeerId, BundleId)>,
    pub(crate) fetched: Vec<(PeerId, u64)>,
    /// What it keeps of the record of others: author, branch and number; and what it has written into its own.
    pub(crate) copied: Vec<(PeerId, u8, u64)>,
    pub(crate) noted: Vec<What>,
}

impl Victim {
    pub(crate) fn new(n: u8, config: Config) -> Victim {
        let secrets = secrets(n);
        let identity = Identity {
            id: secrets.id(),
            name: format!("peer-{n}").parse().expect("a name"),
            machine: MachineId::new([n; 16]),
            encryption_key: secrets.encryption_key(),
            key: secrets.key_id(),
        };
        let me = Me {
            epoch: Epoch(7),
            boot: 1,
            name: identity.name.clone(),
            contact: 3,
            addresses: Vec::new(),
            available: true,
            inactive: false,
            chain: 1,
            starts: Vec::new(),
            epochs: vec![Epoch(6)],
            restored: false,
        };
        let kept = Kept { me: Some(me), ..Kept::default() };
        let now = Now { mono: Duration::from_secs(100), wall: Timestamp(1_795_446_768_266) };
        let peer = Peer::new(identity, config, ChaCha8Rng::seed_from_u64(n.into()), kept, now);
        let (edge, id) = (edge(n), secrets.id());
        Victim {
            edge,
            id,
            peer,
            now,
            taken: BTreeMap::new(),
            written: 0,
            longest: 0,
            segment: 0,
            sent: Vec::new(),
            held: BTreeMap::new(),
            receipts: BTreeMap::new(),
            bundles: BTreeMap::new(),
            holders: BTreeMap::new(),
            delivered: 0,
            deposited: Vec::new(),
            fetched: Vec::new(),
            copied: Vec::new(),
            noted: Vec::new(),
        }
    }

    /// One fact and all that follows from it: what is to be sealed is sealed, what is to be looked up is looked up.
    pub(crate) fn handle(&mut self, input: Input) {
        let mut next = vec![input];
        let commit = matches!(next[0], Input::Tick);
        while let Some(input) = next.pop() {
            let effects = self.peer.handle(input, self.now);
            assert!(commit || effects.len() <= EFFECTS, "{} effects of one fact", effects.len());
            for effect in effects {
                match effect {
                    Effect::Seal(draft) => next.push(Input::Sealed { draft: draft.number, bundle: self.edge.seal(&draft) }),
                    Effect::Recall(Recall::Letters { stream, numbers, token }) => {
                        let rows = numbers.iter().flat_map(|(first, last)| self.taken.range((stream, first, 0)..=(stream, last, u8::MAX)));
                        let found = rows.map(|((_, seq, _), id)| (*seq, *id)).collect();
                        next.push(Input::Recalled(Recalled::Letters { token, found }));
                    }
                    Effect::Recall(Recall::Key { key }) => next.push(Input::Recalled(Recalled::Key { key, found: None })),
                    Effect::Store(Change::Taken(row)) => {
                        self.taken.insert((row.stream, row.seq, row.twin), row.envelope.id);
                        self.written += codec::encode(&row).len();
                    }
                    Effect::Store(Change::InStream(row)) => self.written += codec::encode(&row).len(),
                    Effect::Store(Change::Segment { body, .. }) => {
                        self.written += body.len();
                        self.segment = self.segment.max(body.len());
                        self.noted.extend(segment_of(&body).expect("its own").entries.into_iter().map(|entry| entry.what));
                    }
                    Effect::Store(Change::Copied(copied)) => self.copied.push((copied.author, copied.branch, copied.number)),
                    Effect::Store(Change::Hold(held)) => {
                        self.held.insert(held.index.no, held.index);
                    }
                    Effect::Store(Change::Unhold { no }) => drop(self.held.remove(&no)),
                    Effect::Store(Change::KeepReceipt { slot, receipt }) => {
                        self.receipts.insert(slot, receipt.trusted().expect("a receipt").number);
                    }
                    Effect::Store(Change::DropReceipt { slot }) => drop(self.receipts.remove(&slot)),
                    Effect::Store(Change::Bundle(kept)) => drop(self.bundles.insert((kept.stream, kept.first), kept.bundle)),
                    Effect::Store(Change::Holders { stream, first, holders }) => drop(self.holders.insert((stream, first), holders)),
                    Effect::Store(Change::Delivered { first, last, .. }) => self.delivered += last - first + 1,
                    Effect::DepositKept { to, bundles } => {
                        self.deposited.extend(bundles.iter().map(|key| (to, self.bundles[key].id())));
                    }
                    Effect::SendHeld { to, held, .. } => self.fetched.extend(held.iter().map(|no| (to, *no))),
                    Effect::Send { to, say } => {
                        if let Say::Receipt(receipt) = &*say {
                            self.longest = self.longest.max(codec::encode(receipt).len());
                        }
                        self.sent.push((to, *say));
                    }
                    _ => {}
                }
            }
        }
    }

    pub(crate) fn tick(&mut self) {
        self.handle(Input::Tick);
        let _ = (self.peer.deadline(), self.peer.next_entry());
    }

    pub(crate) fn later(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall = Timestamp(self.now.wall.0 + u64::try_from(time.as_millis()).expect("a short time"));
    }

    pub(crate) fn hears(&mut self, from: PeerId, frame: &[u8]) {
        for input in self.edge.admit(from, frame) {
            self.handle(input);
            self.tick();
        }
    }

    pub(crate) fn refused(&self, cause: Cause) -> u64 {
        self.peer.status().refused.get(&cause).copied().unwrap_or(0)
    }

    /// `n` connects and greets.
    pub(crate) fn meets(&mut self, n: u8) {
        let from = secrets(n).id();
        self.handle(Input::PeerSeen { peer: from, address: "/ip4/127.0.0.1/tcp/1".to_owned() });
        let hello = Say::Hello { contact: contact(n), beacon: beacon(n, 1), yours: Vec::new(), answer: true };
        self.hears(from, &edge(n).utter(hello).to_frame());
        assert!(self.peer.status().peers.iter().any(|peer| peer.id == from && peer.available), "peer-{n} was met");
    }

    pub(crate) fn writes(&mut self, to: u8, letters: usize) {
        for _ in 0..letters {
            let letter = NewLetter {
                to: vec![Addressee::Id(secrets(to).id())],
                kind: "message".to_owned(),
                payload: Payload::Text("words".to_owned()),
                in_reply_to: None,
                key: None,
                later: false,
            };
            self.handle(Input::Asked { request: RequestId(1), command: Command::Send(letter) });
        }
        self.tick();
    }

    /// What it last said of itself.
    pub(crate) fn beacon(&self) -> Beacon {
        let said = self.sent.iter().rev().find_map(|(_, say)| match say {
            Say::Hello { beacon, .. } | Say::Beacon(beacon) => Some(beacon.clone()),
            _ => None,
        });
        said.expect("it greets whom it meets")
    }

    pub(crate) fn waiting(&self, to: u8) -> u64 {
        self.peer.status().peers.iter().find(|peer| peer.id == secrets(to).id()).map_or(0, |peer| peer.waiting)
    }
}

/// Nikki, who knows markus, has letters of his and wrote to him.
pub(crate) fn nikki() -> Victim {
    let mut nikki = Victim::new(2, Config::default());
    nikki.meets(1);
    nikki.writes(1, 3);
    let envelopes = (1..=3).map(|seq| letter(secrets(1).id(), nikki.id, seq)).collect();
    nikki.hears(secrets(1).id(), &letters(1, &nikki, Epoch(7), 1, envelopes));
    nikki
}

pub(crate) fn letters(n: u8, to: &Victim, epoch: Epoch, floor: u64, envelopes: Vec<Envelope>) -> Vec<u8> {
    let seq = envelopes.first().and_then(|envelope| envelope.seq).unwrap_or(0);
    let draft = Draft {
        number: 1,
        to: contact_of(&secrets(2), "peer-2"),
        contact: contact(n),
        epoch,
        floor,
        envelopes,
        withdrawal: [1; 32],
        seed: {
            let mut seed = [n; 32];
            seed[..8].copy_from_slice(&seq.to_be_bytes());
            seed
        },
    };
    assert_eq!(to.id, draft.to.id);
    Message::Letters(vec![edge(n).seal(&draft).expect("a good key")]).to_frame()
}
