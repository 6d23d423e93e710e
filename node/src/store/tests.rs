//! The disk as its users see it: what goes in comes back, and nothing is taken for what it is not.

mod backup;
mod comes_back;
mod damage;
mod directory;
mod power;
mod record;
mod work;

use protocol::bundle::Bundle;
use protocol::effect::{Change, Copy, CopyPlace, HeldBundle, HeldIndex, InStream, KeptBundle, Me, OutStream, SentLetter, Taken};
use protocol::envelope::{Envelope, Payload};
use protocol::input::Place;
use protocol::mail::{Mailbox, Parcel, Slip};
use protocol::segment::{Entry, Segment, What};
use protocol::sign::Signed;
use protocol::{Epoch, LetterId, PeerId, Ranges, Timestamp};

use super::{Batch, Committed, Store, Write};

fn peer(seed: u8) -> PeerId {
    protocol::bundle::Secrets::from_seeds(&[seed; 32], &[seed; 32]).id()
}

fn id(number: u64) -> LetterId {
    let mut bytes = [0; 16];
    // Ids are random: spread the numbers over their beginning.
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    LetterId::new(bytes)
}

fn me() -> Me {
    Me {
        epoch: Epoch(7),
        boot: 3,
        name: "ann".parse().expect("a name"),
        contact: 2,
        addresses: vec!["/ip4/10.0.0.1/tcp/6174".to_owned()],
        available: true,
        inactive: false,
        chain: u64::MAX,
        starts: Vec::new(),
        epochs: Vec::new(),
        restored: false,
    }
}

/// Letter `k`, its copy having number `k` in outgoing stream 1.
fn letter(k: u64, text: &str) -> SentLetter {
    let place = Some(CopyPlace { peer: peer(2), stream: 1, seq: k });
    SentLetter {
        k,
        id: id(k),
        kind: "message".to_owned(),
        payload: Payload::Text(text.to_owned()),
        timestamp: Timestamp(1_000 + k),
        in_reply_to: None,
        to: vec![Copy { name: "bea".parse().expect("a name"), place }],
    }
}

fn bundle(first: u64, letters: u64, bytes: usize) -> KeptBundle {
    KeptBundle {
        stream: 1,
        first,
        ids: (first..first + letters).map(id).collect(),
        bundle: Bundle { header: vec![1; 90].into(), sealed: vec![2; bytes].into() },
        withdrawal: [3; 32].into(),
    }
}

/// Number `no` of the bundles held for others.
fn held(no: u64, bytes: usize) -> HeldBundle {
    let bundle = Bundle { header: vec![4; 90].into(), sealed: vec![5; bytes].into() };
    let slip = Slip { depositor: peer(5), bundle: bundle.id(), size: bundle.size() as u64 };
    let index = HeldIndex {
        no,
        id: slip.bundle,
        mailbox: Mailbox { recipient: peer(6), depositor: slip.depositor },
        size: slip.size,
        withdrawal: [7; 32].into(),
        received: Timestamp(8),
    };
    HeldBundle { index, parcel: Parcel { slip: Signed::unchecked(&slip), bundle } }
}

fn out_stream(next: u64) -> OutStream {
    OutStream { next, ..OutStream::new(1, peer(2), Epoch(7)) }
}

fn in_stream(no: u32, author: u8, floor: u64) -> InStream {
    InStream {
        no,
        author: peer(author),
        epoch: Epoch(9),
        floor,
        taken: Ranges::default(),
        read: Ranges::default(),
        shown: 1,
        last: 0,
        receipt: (Epoch(0), 0),
        unread_bytes: 0,
        twins: std::collections::BTreeSet::new(),
    }
}

/// Letter `seq` of incoming stream `stream`, whose id is `id(1000 * stream + seq)`.
fn taken(stream: u32, seq: u64, text: &str) -> Taken {
    let envelope = Envelope {
        kind: "message".to_owned(),
        author: peer(3),
        recipients: vec![peer(1)],
        payload: Payload::Text(text.to_owned()),
        timestamp: Timestamp(5),
        id: id(1_000 * u64::from(stream) + seq),
        seq: Some(seq),
        in_reply_to: Some(id(1)),
    };
    Taken { stream, seq, twin: 0, received: Timestamp(6), silent: false, envelope }
}

fn shown(stream: u32, seq: u64, n: u64) -> Change {
    Change::Shown { place: Place { stream, seq, twin: 0, n }, missing_before: 0 }
}

fn segment(chain: u64, number: u64, first: u64, entries: u32) -> (Write, Signed<Segment>) {
    let entry = |i| Entry { time: Timestamp(u64::from(i)), what: What::Stopped };
    let value = Segment { author: peer(1), chain, number, previous: [0; 32].into(), first, entries: (0..entries).map(entry).collect() };
    let signed = Signed::unchecked(&value);
    (Write::Segment { chain, number, first, signed: protocol::codec::encode(&signed), entries }, signed)
}

fn batch(changes: impl IntoIterator<Item = Change>) -> Batch {
    Batch { changes: changes.into_iter().map(Write::Change).collect() }
}

/// Commits as a driver does, from outside of any runtime.
fn commit(store: &Store, batch: Batch) -> Committed {
    runtime().block_on(store.commit(batch)).expect("the commit succeeds")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}
