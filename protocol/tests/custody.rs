//! What carriers may say to a custodian, as bytes at its edge and as facts at its door: mail is held and let go of only as
//! its depositor's slip and its recipient's signature say.

use std::time::Duration;

use protocol::bundle::{self, Bundle, Draft, Secrets};
use protocol::config::limits;
use protocol::contact::Contact;
use protocol::edge::{Cause, Edge};
use protocol::effect::Say;
use protocol::envelope::{Envelope, Payload};
use protocol::id::{BundleId, Epoch, LetterId, MachineId};
use protocol::input::{Input, Said};
use protocol::mail::{Mailbox, Parcel, Reason, Release, Slip, Slot};
use protocol::message::Message;
use protocol::receipt::{Receipt, Sum};
use protocol::{Change, Config, Effect, Identity, Kept, Now, Peer, PeerId, Ranges, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use serde_bytes::ByteArray;

const AUTHOR: u8 = 1;
const RECIPIENT: u8 = 2;
const CUSTODIAN: u8 = 3;
const STRANGER: u8 = 4;

fn secrets(n: u8) -> Secrets {
    Secrets::from_seeds(&[n; 32], &[n + 100; 32])
}

fn id(n: u8) -> PeerId {
    secrets(n).id()
}

fn edge(n: u8) -> Edge {
    Edge::new(secrets(n), "lan".to_owned())
}

fn contact(n: u8) -> Contact {
    let secrets = secrets(n);
    Contact {
        id: secrets.id(),
        name: format!("peer-{n}").parse().expect("a name"),
        machine: MachineId::new([n; 16]),
        suite: bundle::SUITE,
        encryption_key: ByteArray::new(secrets.encryption_key()),
        key: secrets.key_id(),
        addresses: Vec::new(),
        sequence: 1,
    }
}

/// A bundle of one letter, withdrawn by `[number; 32]`.
fn sealed(from: u8, to: u8, number: u8) -> Bundle {
    let envelope = Envelope {
        kind: "message".to_owned(),
        author: id(from),
        recipients: vec![id(to)],
        payload: Payload::Text("for your eyes".to_owned()),
        timestamp: Timestamp(5),
        id: LetterId::new([number; 16]),
        seq: Some(number.into()),
        in_reply_to: None,
    };
    let draft = Draft {
        number: 1,
        to: contact(to),
        contact: contact(from),
        epoch: Epoch(7),
        floor: 1,
        envelopes: vec![envelope],
        withdrawal: [number; 32],
        seed: [number; 32],
    };
    edge(from).seal(&draft).expect("the key is good")
}

/// A custodian under test, with all that it committed and said.
struct Custodian {
    peer: Peer,
    held: Vec<BundleId>,
    let_go: usize,
    kept: Vec<(Slot, u64)>,
    said: Vec<(PeerId, Say)>,
    sent: Vec<(PeerId, Vec<u64>)>,
}

impl Custodian {
    fn new(config: Config) -> Custodian {
        let secrets = secrets(CUSTODIAN);
        let identity = Identity {
            id: secrets.id(),
            name: "carl".parse().expect("a name"),
            machine: MachineId::new([CUSTODIAN; 16]),
            encryption_key: secrets.encryption_key(),
            key: secrets.key_id(),
        };
        let peer = Peer::new(identity, config, ChaCha8Rng::seed_from_u64(1), Kept::default(), now());
        let mut custodian = Custodian { peer, held: Vec::new(), let_go: 0, kept: Vec::new(), said: Vec::new(), sent: Vec::new() };
        // Everybody is a neighbour: what is said to strangers is not said at all.
        for n in [AUTHOR, RECIPIENT, STRANGER] {
            custodian.handle(Input::PeerSeen { peer: id(n), address: "/ip4/10.0.0.9/tcp/6174".to_owned() });
        }
        custodian
    }

    fn handle(&mut self, input: Input) {
        for input in [input, Input::Tick] {
            for effect in self.peer.handle(input, now()) {
                match effect {
                    Effect::Store(Change::Hold(bundle)) => self.held.push(bundle.index.id),
                    Effect::Store(Change::Unhold { .. }) => self.let_go += 1,
                    Effect::Store(Change::KeepReceipt { slot, receipt }) => {
                        self.kept.push((slot, receipt.trusted().expect("a receipt").number));
                    }
                    Effect::Send { to, say } => self.said.push((to, *say)),
                    Effect::SendHeld { to, held, .. } => self.sent.push((to, held)),
                    _ => {}
                }
            }
        }
    }

    /// A frame arrives, as its edge admits it.
    fn hears(&mut self, from: u8, message: &Message) {
        for input in edge(CUSTODIAN).admit(id(from), &message.to_frame()) {
            self.handle(input);
        }
    }

    fn refused(&self, cause: Cause) -> u64 {
        self.peer.status().refused.get(&cause).copied().unwrap_or(0)
    }

    fn reasons(&self) -> Vec<Reason> {
        let refused = self.said.iter().filter_map(|(_, say)| match say {
            Say::Held { refused, .. } => Some(refused.iter().map(|(_, reason)| *reason)),
            _ => None,
        });
        refused.flatten().collect()
    }
}

fn now() -> Now {
    Now { mono: Duration::from_secs(100), wall: Timestamp(1_795_446_768_266) }
}

fn deposit(from: u8, bundles: Vec<Bundle>) -> Message {
    Message::Deposit(bundles.into_iter().map(|bundle| edge(from).parcel(bundle)).collect())
}

#[test]
fn a_bundle_is_flushed_before_it_is_acknowledged_and_taken_once() {
    let mut carl = Custodian::new(Config::default());
    let bundle = sealed(AUTHOR, RECIPIENT, 1);
    carl.hears(AUTHOR, &deposit(AUTHOR, vec![bundle.clone()]));
    carl.hears(AUTHOR, &deposit(AUTHOR, vec![bundle.clone()]));
    assert_eq!(carl.held, [bundle.id()]);
    let words =
        carl.said.iter().filter(|(to, say)| *to == id(AUTHOR) && matches!(say, Say::Held { bundles, .. } if *bundles == [bundle.id()]));
    assert_eq!(words.count(), 2, "the second word is as good as the first");
    assert_eq!((carl.peer.status().held_bundles, carl.peer.status().held_bytes), (1, bundle.size() as u64));
}

#[test]
fn parcels_that_are_not_what_they_say_are_refused_at_the_edge() {
    let mut carl = Custodian::new(Config::default());
    let (bundle, other) = (sealed(AUTHOR, RECIPIENT, 1), sealed(AUTHOR, RECIPIENT, 2));
    let size = bundle.size() as u64;
    let slip = |signer: u8, depositor: u8, bundle: BundleId, size: u64| edge(signer).sign(&Slip { depositor: id(depositor), bundle, size });
    let parcel = |slip| Message::Deposit(vec![Parcel { slip, bundle: bundle.clone() }]);
    // A slip that somebody else signed, one for another bundle, one with another size.
    carl.hears(STRANGER, &parcel(slip(STRANGER, AUTHOR, bundle.id(), size)));
    carl.hears(STRANGER, &parcel(slip(AUTHOR, AUTHOR, other.id(), size)));
    carl.hears(STRANGER, &parcel(slip(AUTHOR, AUTHOR, bundle.id(), size - 1)));
    // A changed bundle under the slip of the true one.
    let mut changed = bundle.clone();
    changed.sealed[40] ^= 1;
    carl.hears(STRANGER, &Message::Deposit(vec![Parcel { slip: slip(AUTHOR, AUTHOR, bundle.id(), size), bundle: changed }]));
    // For its own depositor, and for the custodian itself.
    carl.hears(RECIPIENT, &deposit(RECIPIENT, vec![bundle.clone()]));
    carl.hears(AUTHOR, &deposit(AUTHOR, vec![sealed(AUTHOR, CUSTODIAN, 3)]));
    // Larger than any bundle.
    let mut large = bundle.clone();
    large.sealed.resize(limits::SEALED_BYTES, 0);
    carl.hears(AUTHOR, &deposit(AUTHOR, vec![large]));
    assert!(carl.held.is_empty());
    assert_eq!((carl.refused(Cause::Signature), carl.refused(Cause::Inconsistent)), (1, 6));
    // Without any of that it is taken.
    carl.hears(STRANGER, &parcel(slip(AUTHOR, AUTHOR, bundle.id(), size)));
    assert_eq!(carl.held, [bundle.id()]);
}

#[test]
fn only_its_recipient_releases_and_only_its_author_withdraws() {
    let mut carl = Custodian::new(Config::default());
    let bundles: Vec<Bundle> = (1..=3).map(|n| sealed(AUTHOR, RECIPIENT, n)).collect();
    carl.hears(AUTHOR, &deposit(AUTHOR, bundles.clone()));
    let ids: Vec<BundleId> = bundles.iter().map(Bundle::id).collect();
    // Signed by somebody else, as oneself and in the recipient's name.
    carl.hears(STRANGER, &edge(STRANGER).utter(Say::Release(Release { recipient: id(STRANGER), bundles: ids.clone() })));
    carl.hears(STRANGER, &edge(STRANGER).utter(Say::Release(Release { recipient: id(RECIPIENT), bundles: ids.clone() })));
    carl.hears(AUTHOR, &edge(AUTHOR).utter(Say::Release(Release { recipient: id(AUTHOR), bundles: ids.clone() })));
    // With the secret of another one.
    carl.hears(AUTHOR, &edge(AUTHOR).utter(Say::Withdraw(vec![(ids[0], [2; 32])])));
    assert_eq!((carl.let_go, carl.refused(Cause::Impostor), carl.refused(Cause::Signature)), (0, 3, 1));
    // The recipient's own word counts, whoever brings it.
    carl.hears(STRANGER, &edge(RECIPIENT).utter(Say::Release(Release { recipient: id(RECIPIENT), bundles: vec![ids[0]] })));
    assert_eq!(carl.let_go, 1);
    carl.hears(AUTHOR, &edge(AUTHOR).utter(Say::Withdraw(vec![(ids[1], [2; 32])])));
    assert_eq!((carl.let_go, carl.peer.status().held_bundles), (2, 1));
    // What was let go of is not taken again, and its depositor learns why.
    carl.hears(AUTHOR, &deposit(AUTHOR, bundles));
    assert_eq!((carl.held.len(), carl.reasons()), (3, vec![Reason::Released, Reason::Released]));
}

#[test]
fn an_author_whose_question_overtakes_its_withdrawal_learns_that_the_copy_is_gone() {
    let mut custodian = Custodian::new(Config::default());
    let bundle = sealed(AUTHOR, RECIPIENT, 1);
    let bundle_id = bundle.id();
    custodian.hears(AUTHOR, &deposit(AUTHOR, vec![bundle]));
    custodian.hears(AUTHOR, &Message::AskHeld(vec![bundle_id]));
    custodian.said.clear();
    custodian.hears(AUTHOR, &Message::Withdraw(vec![(bundle_id, ByteArray::new([1; 32]))]));
    let absent = |(to, say): &(PeerId, Say)| *to == id(AUTHOR) && matches!(say, Say::Held { absent, .. } if *absent == [bundle_id]);
    assert!(custodian.said.iter().any(absent), "{:?}", custodian.said);
}

#[test]
fn one_depositor_cannot_keep_out_the_others() {
    let size = sealed(AUTHOR, RECIPIENT, 1).size() as u64;
    let config = Config { custody_bytes: size * 6 + 60, custody_bytes_depositor: size * 3 + 30, ..Config::default() };
    let mut carl = Custodian::new(config);
    carl.hears(STRANGER, &deposit(STRANGER, (1..=20).map(|n| sealed(STRANGER, RECIPIENT, n)).collect()));
    assert_eq!((carl.held.len(), carl.reasons()), (3, vec![Reason::DepositorFull; 17]));
    carl.hears(AUTHOR, &deposit(AUTHOR, vec![sealed(AUTHOR, RECIPIENT, 1)]));
    assert_eq!(carl.held.len(), 4);
    // Under other keys a flooder gets no further than the whole.
    for n in 5..20 {
        carl.hears(STRANGER, &deposit(n, vec![sealed(n, RECIPIENT, 1)]));
    }
    assert_eq!(carl.held.len(), 6);
    assert!(carl.reasons().contains(&Reason::Full));
}

#[test]
fn lists_and_bundles_are_told_to_who_asks_and_nothing_else() {
    let mut carl = Custodian::new(Config::default());
    let bundles: Vec<Bundle> = (1..=5).map(|n| sealed(AUTHOR, RECIPIENT, n)).collect();
    carl.hears(AUTHOR, &deposit(AUTHOR, bundles.clone()));
    let mailbox = Mailbox { recipient: id(RECIPIENT), depositor: id(AUTHOR) };
    carl.said.clear();
    carl.hears(RECIPIENT, &edge(RECIPIENT).utter(Say::AskMail { mailbox, after: 2 }));
    let listed = carl.said.iter().find_map(|(_, say)| match say {
        Say::Mail { bundles, more, .. } => Some((bundles.iter().map(|listed| listed.no).collect::<Vec<_>>(), *more)),
        _ => None,
    });
    assert_eq!(listed, Some((vec![3, 4, 5], false)));
    let absurd = Mailbox { recipient: id(STRANGER), depositor: id(STRANGER) };
    carl.hears(STRANGER, &edge(STRANGER).utter(Say::AskMail { mailbox: absurd, after: u64::MAX }));
    carl.hears(STRANGER, &edge(STRANGER).utter(Say::Fetch(vec![BundleId::new([9; 32]); limits::BUNDLE_IDS])));
    carl.hears(STRANGER, &edge(STRANGER).utter(Say::AskHeld(vec![BundleId::new([9; 32]); limits::BUNDLE_IDS])));
    assert!(carl.sent.is_empty());
    carl.hears(RECIPIENT, &edge(RECIPIENT).utter(Say::Fetch(vec![bundles[1].id(), BundleId::new([9; 32])])));
    assert_eq!(carl.sent, [(id(RECIPIENT), vec![2])]);
    // Answers that nobody asked for change nothing.
    carl.hears(STRANGER, &edge(STRANGER).utter(Say::Mail { mailbox, bundles: Vec::new(), more: true }));
    carl.hears(
        STRANGER,
        &edge(STRANGER).utter(Say::Held { epoch: Epoch(1), bundles: vec![bundles[0].id()], refused: Vec::new(), absent: Vec::new() }),
    );
    assert_eq!(carl.let_go, 0);
}

#[test]
fn of_the_receipts_for_an_absent_author_the_latest_is_kept_until_the_author_has_it() {
    let mut carl = Custodian::new(Config::default());
    let receipt = |recipient: u8, number: u64| Receipt {
        recipient: id(recipient),
        recipient_epoch: Epoch(8),
        number,
        author: id(AUTHOR),
        epoch: Epoch(7),
        floor: 1,
        taken: Ranges::of(1, number),
        digest: Sum::default(),
        read: Ranges::default(),
    };
    for number in [4, 9, 5] {
        carl.hears(RECIPIENT, &edge(RECIPIENT).utter(Say::KeepReceipt(receipt(RECIPIENT, number))));
    }
    let slot = Slot::of(&receipt(RECIPIENT, 9));
    assert_eq!(carl.kept, [(slot, 4), (slot, 9)], "an older one replaces nothing");
    // In somebody else's name, of the author itself.
    carl.hears(STRANGER, &edge(STRANGER).utter(Say::KeepReceipt(receipt(RECIPIENT, 99))));
    carl.hears(AUTHOR, &edge(AUTHOR).utter(Say::KeepReceipt(receipt(AUTHOR, 99))));
    // Only its author takes it away, and only that one or a later one.
    carl.hears(STRANGER, &edge(STRANGER).utter(Say::ReceiptTaken { slot, number: 99 }));
    assert_eq!((carl.kept.len(), carl.refused(Cause::Signature), carl.refused(Cause::Impostor)), (2, 1, 1));
    carl.hears(AUTHOR, &edge(AUTHOR).utter(Say::ReceiptTaken { slot, number: 9 }));
    carl.hears(RECIPIENT, &edge(RECIPIENT).utter(Say::KeepReceipt(receipt(RECIPIENT, 4))));
    assert_eq!(carl.kept.len(), 3, "the slot was empty");
}

#[test]
fn a_custodian_cannot_open_what_it_holds() {
    let bundle = sealed(AUTHOR, RECIPIENT, 1);
    let frame = Message::Letters(vec![bundle]).to_frame();
    assert!(!frame.windows(8).any(|bytes| bytes == b"for your"));
    let inputs = edge(CUSTODIAN).admit(id(AUTHOR), &frame);
    assert!(matches!(inputs[..], [Input::Refused { cause: Cause::NotForMe, .. }]));
    let opened = edge(RECIPIENT).admit(id(CUSTODIAN), &frame);
    assert!(matches!(&opened[..], [Input::Arrived { said, .. }] if matches!(**said, Said::Letters { .. })));
}
