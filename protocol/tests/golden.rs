//! The bytes of everything that is sent, signed or kept, pinned: a difference here is a difference between peers.
//! `SWARM_WRITE_GOLDEN=1 cargo test -p protocol --test golden` writes them anew, for review in the diff.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::beacon::{Beacon, Statistics};
use protocol::bundle::{self, Bundle, Draft, OpenError, Secrets};
use protocol::contact::Contact;
use protocol::copies::ChainHead;
use protocol::edge::{Cause, Edge};
use protocol::effect::Say;
use protocol::envelope::{Envelope, Payload};
use protocol::id::{BundleId, Epoch, LetterId, MachineId};
use protocol::input::{Input, Said};
use protocol::mail::{self, Listed, Mailbox, Offer, Reason, Release, Slot};
use protocol::message::{Listing, Message};
use protocol::now::Timestamp;
use protocol::ranges::Ranges;
use protocol::receipt::{Receipt, Sum, digest};
use protocol::segment::{Entry, Segment, What};
use protocol::sign::Signed;
use protocol::{codec, effect};
use serde_bytes::ByteArray;
use serde_cbor::Value;

const SWARM: &str = "lan";

fn secrets(n: u8) -> Secrets {
    Secrets::from_seeds(&[n; 32], &[n + 100; 32])
}

fn contact(n: u8, name: &str) -> Contact {
    let secrets = secrets(n);
    Contact {
        id: secrets.id(),
        name: name.parse().expect("a name"),
        machine: MachineId::new([n; 16]),
        suite: bundle::SUITE,
        encryption_key: ByteArray::new(secrets.encryption_key()),
        key: secrets.key_id(),
        addresses: vec!["/ip4/192.168.1.17/tcp/6174".to_owned()],
        sequence: 3,
    }
}

fn beacon(n: u8) -> Beacon {
    Beacon {
        peer: secrets(n).id(),
        epoch: Epoch(0x0102_0304_0506_0708),
        boot: 2,
        nonce: 99,
        counter: 17,
        contact: 3,
        available: true,
        inactive: false,
        services: 0,
        known: u64::MAX,
        linked: 4,
        record: 12,
        other: None,
        cloned: false,
        statistics: Statistics { cores: 4, cores_free_percent: 350, memory_bytes: 8 << 30, memory_free_bytes: 5 << 30 },
    }
}

fn letter(seq: u64, payload: Payload, kind: &str) -> Envelope {
    Envelope {
        kind: kind.to_owned(),
        author: secrets(1).id(),
        recipients: vec![secrets(2).id()],
        payload,
        timestamp: Timestamp(1_795_446_768_266),
        id: LetterId::new([seq as u8; 16]),
        seq: Some(seq),
        in_reply_to: (seq > 1).then(|| LetterId::new([1; 16])),
    }
}

fn letters() -> Vec<Envelope> {
    let dict = BTreeMap::from([("what".to_owned(), Value::Text("status".to_owned()))]);
    vec![
        letter(1, Payload::Text("Hello".to_owned()), "message"),
        letter(2, Payload::List(vec![Value::Text("coffee".to_owned())]), "order"),
        letter(3, Payload::Number(17), "order_id"),
        letter(4, Payload::Dict(dict), "query"),
        letter(5, Payload::Nothing, "void"),
    ]
}

fn draft(envelopes: Vec<Envelope>) -> Draft {
    Draft {
        number: 1,
        to: contact(2, "nikki-pi"),
        contact: contact(1, "markus-thinkpad"),
        epoch: Epoch(7),
        floor: 1,
        envelopes,
        withdrawal: [5; 32],
        seed: [6; 32],
    }
}

fn edge(n: u8) -> Edge {
    Edge::new(secrets(n), SWARM.to_owned())
}

fn sealed() -> Bundle {
    edge(1).seal(&draft(letters())).expect("nikki's key is good")
}

fn receipt() -> Receipt {
    Receipt {
        recipient: secrets(2).id(),
        recipient_epoch: Epoch(8),
        number: 40,
        author: secrets(1).id(),
        epoch: Epoch(7),
        floor: 1,
        taken: Ranges::of(1, 5),
        digest: (1..=5).fold(Sum::default(), |sum, n| sum.plus(digest(n, LetterId::new([n as u8; 16])))),
        read: Ranges::of(1, 2),
    }
}

fn segment() -> Segment {
    let entry = |what| Entry { time: Timestamp(1_795_446_768_266), what };
    Segment {
        author: secrets(1).id(),
        chain: 77,
        number: 2,
        previous: ByteArray::new([9; 32]),
        first: 5,
        entries: vec![
            entry(What::Started { boot: 1, epoch: Epoch(7) }),
            entry(What::PeerCame { peer: secrets(2).id(), name: "nikki-pi".parse().expect("a name") }),
            entry(What::LetterAccepted { letter: LetterId::new([1; 16]), to: vec![(secrets(2).id(), 1)], epoch: Epoch(7) }),
            entry(What::LettersDelivered { to: secrets(2).id(), epoch: Epoch(7), first: 1, last: 5 }),
            entry(What::LettersHeld { to: secrets(2).id(), epoch: Epoch(7), first: 1, last: 5, by: secrets(3).id() }),
            entry(What::MailTaken { recipient: secrets(2).id(), depositor: secrets(3).id(), bundles: 2, bytes: 900 }),
            entry(What::MailReleased { recipient: secrets(2).id(), depositor: secrets(3).id(), bundles: 1 }),
            entry(What::MailWithdrawn { recipient: secrets(2).id(), depositor: secrets(3).id(), bundles: 1 }),
            entry(What::MailHandedOver { recipient: secrets(2).id(), depositor: secrets(3).id(), bundles: 1 }),
            entry(What::Cloned { peer: secrets(2).id() }),
            entry(What::Refused { cause: "sealed".to_owned(), count: 3 }),
        ],
    }
}

fn chain_head() -> ChainHead {
    ChainHead { author: secrets(1).id(), chain: 77, first: 1, last: 2, hash: ByteArray::new([9; 32]), newest: true }
}

fn messages() -> Vec<(&'static str, Message)> {
    let (one, two, three) = (edge(1), edge(2), edge(3));
    let mailbox = Mailbox { recipient: secrets(2).id(), depositor: secrets(1).id() };
    let listing = Listing { contact: two.sign(&contact(2, "nikki-pi")), first_seen_ago: 60_000, last_seen_ago: None };
    vec![
        (
            "hello",
            one.utter(Say::Hello {
                contact: contact(1, "markus-thinkpad"),
                beacon: beacon(1),
                yours: vec![two.sign(&beacon(2)), two.sign(&Beacon { nonce: 98, other: Some(99), cloned: true, ..beacon(2) })],
                answer: true,
            }),
        ),
        ("beacon", one.utter(Say::Beacon(beacon(1)))),
        ("letters", Message::Letters(vec![sealed()])),
        ("receipt", two.utter(Say::Receipt(receipt()))),
        ("ask_ids", one.utter(Say::AskIds { epoch: Epoch(7), numbers: Ranges::of(3, 9) })),
        ("ids", one.utter(Say::Ids { epoch: Epoch(7), ids: vec![(3, LetterId::new([3; 16]))] })),
        ("ask_peers", one.utter(Say::AskPeers { after: Some(secrets(3).id()) })),
        ("peers", one.utter(Say::Peers { peers: vec![listing], more: true })),
        ("deposit", Message::Deposit(vec![one.parcel(sealed())])),
        ("ask_held", one.utter(Say::AskHeld(vec![sealed().id()]))),
        (
            "held",
            three.utter(Say::Held {
                epoch: Epoch(9),
                bundles: vec![sealed().id()],
                refused: vec![(BundleId::new([1; 32]), Reason::DepositorFull), (BundleId::new([2; 32]), Reason::Released)],
                absent: vec![BundleId::new([3; 32])],
            }),
        ),
        (
            "offers",
            three.utter(Say::Offers { offers: vec![Offer { mailbox, count: 1, digest: mail::digest(&sealed().id()) }], leaving: false }),
        ),
        ("ask_mail", two.utter(Say::AskMail { mailbox, after: 4 })),
        ("mail", three.utter(Say::Mail { mailbox, bundles: vec![Listed { no: 5, bundle: sealed().id(), size: 1_400 }], more: true })),
        ("fetch", two.utter(Say::Fetch(vec![sealed().id()]))),
        ("release", two.utter(Say::Release(Release { recipient: secrets(2).id(), bundles: vec![sealed().id()] }))),
        ("withdraw", one.utter(Say::Withdraw(vec![(sealed().id(), [5; 32])]))),
        ("keep_receipt", two.utter(Say::KeepReceipt(receipt()))),
        ("receipt_kept", three.utter(Say::ReceiptKept { slot: Slot::of(&receipt()), number: 40 })),
        ("receipt_taken", one.utter(Say::ReceiptTaken { slot: Slot::of(&receipt()), number: 40 })),
        ("ask_chains", one.utter(Say::AskChains { ask: 7, after: 128 })),
        ("chains", one.utter(Say::Chains { ask: 7, chains: vec![chain_head()], more: true })),
        ("ask_segments", {
            let ChainHead { author, chain, hash, .. } = chain_head();
            one.utter(Say::AskSegments { author, chain, tip: hash, after: 2, follow: true })
        }),
        ("segments", Message::Segments { author: secrets(1).id(), chain: 77, segments: vec![one.sign(&segment())] }),
        ("leaving", one.utter(Say::Leaving)),
        ("denied", one.utter(Say::Denied(Some(protocol::mail::Denial::Blocked)))),
        ("denied_no_more", one.utter(Say::Denied(None))),
        ("unsupported", one.utter(Say::Unsupported { what: "version".to_owned() })),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.chunks(40).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n").collect()
}

fn pinned(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"));
    if std::env::var_os("SWARM_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, hex(bytes)).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("no {}", path.display()));
    assert_eq!(hex(bytes), golden, "the bytes of {name} have changed");
}

#[test]
fn the_bytes_of_every_message_are_pinned() {
    for (name, message) in messages() {
        let frame = message.to_frame();
        pinned(name, &frame);
        assert_eq!(Message::from_frame(&frame).as_ref(), Ok(&message), "{name}");
    }
}

#[test]
fn the_bytes_of_what_is_kept_are_pinned() {
    pinned("segment", &codec::encode(&edge(1).sign(&segment())));
    let contents = bundle::contents(secrets(1).id(), &draft(letters()), edge(1).sign(&contact(1, "markus-thinkpad")));
    pinned("contents", &codec::encode(&contents));
    let sent = effect::SentLetter {
        k: 1,
        id: LetterId::new([1; 16]),
        kind: "message".to_owned(),
        payload: Payload::Text("Hello".to_owned()),
        timestamp: Timestamp(1_795_446_768_266),
        in_reply_to: None,
        to: vec![effect::Copy {
            name: "nikki-pi".parse().expect("a name"),
            place: Some(effect::CopyPlace { peer: secrets(2).id(), stream: 1, seq: 1 }),
        }],
    };
    pinned("sent_letter", &codec::encode(&sent));
    assert_eq!(codec::decode::<effect::SentLetter>(&codec::encode(&sent)), Ok(sent));
}

#[test]
fn cut_or_changed_frames_are_refused_and_never_panic() {
    let nikki = edge(2);
    for (name, message) in messages() {
        let frame = message.to_frame();
        for end in 0..frame.len() {
            assert!(Message::from_frame(&frame[..end]).is_err(), "{name} cut at {end}");
        }
        for at in 0..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 1 << (at % 8);
            for input in nikki.admit(secrets(1).id(), &changed) {
                let Input::Arrived { said, .. } = &input else { continue };
                let signed = matches!(**said, Said::Hello { .. } | Said::Beacon(_) | Said::Letters { .. } | Said::Receipt(_));
                // A hello stays good without what it remembers of the listener, which is no statement of its speaker.
                assert!(!signed || (name == "hello" && matches!(**said, Said::Hello { .. })), "{name} changed at {at}: {input:?}");
            }
        }
    }
}

#[test]
fn a_bundle_opens_for_its_recipient_alone_and_tells_who_wrote_it() {
    let bundle = sealed();
    let contents = bundle::open(&secrets(2), SWARM, &bundle).expect("it is for nikki");
    assert_eq!((contents.author, contents.envelopes), (secrets(1).id(), letters()));
    assert_eq!(bundle::open(&secrets(3), SWARM, &bundle), Err(OpenError::NotForMe));
    assert_eq!(bundle::open(&secrets(2), "other", &bundle), Err(OpenError::Sealed));
    // Sealed again by somebody else, for somebody else or under his own name, the author's signature does not fit.
    let mut foreign = draft(letters());
    foreign.to = contact(3, "mallory");
    let again = edge(2).seal(&foreign).expect("mallory's key is good");
    assert_eq!(bundle::open(&secrets(3), SWARM, &again), Err(OpenError::Inconsistent("an envelope of another author")));
}

#[test]
fn contents_that_contradict_themselves_are_refused() {
    let refused = |change: fn(&mut Draft), why: &str| {
        let mut draft = draft(letters());
        change(&mut draft);
        let bundle = edge(1).seal(&draft).expect("nikki's key is good");
        match bundle::open(&secrets(2), SWARM, &bundle) {
            Err(OpenError::Inconsistent(said)) => assert_eq!(said, why),
            other => panic!("{why}: {other:?}"),
        }
    };
    refused(|draft| draft.envelopes.clear(), "too many or none");
    refused(|draft| draft.envelopes = (1..=65).map(|n| letter(n, Payload::Text("x".to_owned()), "message")).collect(), "too many or none");
    refused(|draft| draft.envelopes[0].seq = None, "a letter without a number");
    refused(|draft| draft.envelopes[1].seq = Some(1), "numbers out of order or too far ahead");
    refused(|draft| draft.envelopes[4].seq = Some(u64::MAX), "numbers out of order or too far ahead");
    refused(|draft| draft.envelopes[0].author = secrets(3).id(), "an envelope of another author");
    refused(|draft| draft.envelopes[0].recipients = vec![secrets(3).id()], "an envelope for others");
    refused(|draft| draft.envelopes[0].payload = Payload::Text("x".repeat(256 * 1024 + 1)), "a letter too large");
    refused(|draft| draft.envelopes[0].payload = Payload::Number(1), "a payload of another type");
}

#[test]
fn statements_of_others_and_of_other_swarms_are_refused() {
    let nikki = edge(2);
    let check = |from: u8, message: &Message, cause: Cause| {
        let from = secrets(from).id();
        assert_eq!(nikki.admit(from, &message.to_frame()), [Input::Refused { from, cause }]);
    };
    let hello = |edge: &Edge, n| edge.utter(Say::Hello { contact: contact(n, "x"), beacon: beacon(n), yours: Vec::new(), answer: false });
    check(3, &hello(&edge(1), 1), Cause::Impostor);
    check(1, &hello(&edge(3), 1), Cause::Signature);
    check(1, &hello(&Edge::new(secrets(1), "other".to_owned()), 1), Cause::Signature);
    check(3, &edge(1).utter(Say::Beacon(beacon(1))), Cause::Impostor);
    check(2, &edge(2).utter(Say::Receipt(receipt())), Cause::NotForMe);
    // A signature for one kind of statement does not pass for another.
    let disguised: Signed<Contact> = Signed::over(&secrets(1).signing, SWARM, codec::encode(&beacon(1)));
    assert!(disguised.check(SWARM).is_err());
    let mut weak = contact(1, "weak");
    weak.encryption_key = ByteArray::new([0; 32]);
    weak.key = bundle::key_id(&[0; 32]);
    check(1, &edge(1).utter(Say::Hello { contact: weak, beacon: beacon(1), yours: Vec::new(), answer: false }), Cause::Inconsistent);
}
