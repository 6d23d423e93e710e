//! Values of the tables that need more than an integer: bytes from our words and back.
//! Knows nothing of transactions. What one function packs, its neighbour unpacks; damaged bytes are a [`Fault::Row`].

pub(crate) mod work;

use std::fmt::Debug;

use protocol::bundle::Bundle;
use protocol::codec;
use protocol::effect::{BundleIndex, Copy, HeldIndex, KeptBundle, SentLetter, Taken};
use protocol::envelope::{Envelope, Payload};
use protocol::id::BundleId;
use protocol::mail::{Mailbox, Parcel, Slip, Slot};
use protocol::segment::Segment;
use protocol::sign::Signed;
use protocol::{LetterId, PeerId, Timestamp};
use redb::TableHandle;
use serde::de::DeserializeOwned;

use super::fault::Fault;
use super::tables;

const ID: usize = 16;
const BUNDLE_ID: usize = 32;
const WITHDRAWAL: usize = 32;

/// The value of a row that is CBOR throughout.
pub(crate) fn cbor<T: DeserializeOwned>(table: &impl TableHandle, key: &impl Debug, bytes: &[u8]) -> Result<T, Fault> {
    codec::decode(bytes).map_err(|error| Fault::row(table, key, error))
}

/// The letter that a row of [`tables::SENT`] or [`tables::TAKEN`] begins with.
pub(crate) fn id(table: &impl TableHandle, key: &impl Debug, bytes: &[u8]) -> Result<LetterId, Fault> {
    bytes.first_chunk::<ID>().map(|id| LetterId::new(*id)).ok_or_else(|| Fault::row(table, key, "too short"))
}

/// Raw id, then CBOR of the list `[type, payload, timestamp, in_reply_to, copies]`. A list, because names of fields would
/// take as much room as a short letter.
pub(crate) fn sent(letter: &SentLetter) -> Vec<u8> {
    let mut bytes = letter.id.as_bytes().to_vec();
    bytes.extend(codec::encode(&(&letter.kind, &letter.payload, letter.timestamp, letter.in_reply_to, CopiesRef(&letter.to))));
    bytes
}

/// The letter in a row of [`tables::SENT`].
pub(crate) fn read_sent(k: u64, bytes: &[u8]) -> Result<SentLetter, Fault> {
    type Rest = (String, Payload, Timestamp, Option<LetterId>, Vec<CopyRow>);
    let id = id(&tables::SENT, &k, bytes)?;
    let (kind, payload, timestamp, in_reply_to, copies): Rest = cbor(&tables::SENT, &k, &bytes[ID..])?;
    let to = copies
        .into_iter()
        .map(|(name, place)| Copy { name, place: place.map(|(peer, stream, seq)| protocol::effect::CopyPlace { peer, stream, seq }) })
        .collect();
    Ok(SentLetter { k, id, kind, payload, timestamp, in_reply_to, to })
}

/// A copy as a list: name, and (recipient, outgoing stream, number) or nothing.
type CopyRow = (protocol::name::PeerName, Option<(PeerId, u32, u64)>);

struct CopiesRef<'a>(&'a [Copy]);

impl serde::Serialize for CopiesRef<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|copy| (&copy.name, copy.place.map(|place| (place.peer, place.stream, place.seq)))))
    }
}

/// Raw id, then CBOR of the list `[received, type, author, recipients, payload, timestamp, seq, in_reply_to]`.
pub(crate) fn taken(letter: &Taken) -> Vec<u8> {
    let Envelope { kind, author, recipients, payload, timestamp, id, seq, in_reply_to } = &letter.envelope;
    let mut bytes = id.as_bytes().to_vec();
    bytes.extend(codec::encode(&(letter.received, kind, author, recipients, payload, timestamp, seq, in_reply_to)));
    bytes
}

/// When the letter in a row of [`tables::TAKEN`] was committed, and the letter.
pub(crate) fn read_taken(key: (u32, u64, u8), bytes: &[u8]) -> Result<(Timestamp, Envelope), Fault> {
    type Rest = (Timestamp, String, PeerId, Vec<PeerId>, Payload, Timestamp, Option<u64>, Option<LetterId>);
    let id = id(&tables::TAKEN, &key, bytes)?;
    let (received, kind, author, recipients, payload, timestamp, seq, in_reply_to): Rest = cbor(&tables::TAKEN, &key, &bytes[ID..])?;
    Ok((received, Envelope { kind, author, recipients, payload, timestamp, id, seq, in_reply_to }))
}

/// Size of header and sealed part together (u64), the bundle's id, then the raw ids of its letters.
pub(crate) fn bundle_index(kept: &KeptBundle) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + BUNDLE_ID + kept.ids.len() * ID);
    bytes.extend_from_slice(&(kept.bundle.size() as u64).to_be_bytes());
    bytes.extend_from_slice(kept.bundle.id().as_bytes());
    kept.ids.iter().for_each(|id| bytes.extend_from_slice(id.as_bytes()));
    bytes
}

/// The index in a row of [`tables::BUNDLES`]; its holders are in a table of their own.
pub(crate) fn read_bundle_index((stream, first): (u32, u64), bytes: &[u8]) -> Result<BundleIndex, Fault> {
    let fault = || Fault::row(&tables::BUNDLES, &(stream, first), "of an odd length");
    let (size, rest) = bytes.split_first_chunk::<8>().ok_or_else(fault)?;
    let (id, ids) = rest.split_first_chunk::<BUNDLE_ID>().ok_or_else(fault)?;
    let (ids, rest) = ids.as_chunks::<ID>();
    if !rest.is_empty() {
        return Err(fault());
    }
    let size = usize::try_from(u64::from_be_bytes(*size)).map_err(|_| fault())?;
    let ids = ids.iter().map(|id| LetterId::new(*id)).collect();
    Ok(BundleIndex { stream, first, ids, id: BundleId::new(*id), size, holders: Vec::new() })
}

/// Withdrawal secret, then as in [`bundle`].
pub(crate) fn sealed(kept: &KeptBundle) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(WITHDRAWAL + 4 + kept.bundle.size());
    bytes.extend_from_slice(kept.withdrawal.as_ref());
    bundle(&kept.bundle, &mut bytes);
    bytes
}

/// Length of the header (u32), header, sealed part.
fn bundle(Bundle { header, sealed }: &Bundle, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&length(header));
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(sealed);
}

fn read_bundle(bytes: &[u8]) -> Option<Bundle> {
    let (header, sealed) = split_by_length(bytes)?;
    Some(Bundle { header: header.to_vec().into(), sealed: sealed.to_vec().into() })
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("slips and headers have some hundred bytes").to_be_bytes()
}

fn split_by_length(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// The bundle in a row of [`tables::SEALED`].
pub(crate) fn read_sealed(key: (u32, u64), bytes: &[u8]) -> Result<Bundle, Fault> {
    let rest = bytes.split_first_chunk::<WITHDRAWAL>().map(|(_, rest)| rest);
    rest.and_then(read_bundle).ok_or_else(|| Fault::row(&tables::SEALED, &key, "too short"))
}

/// The withdrawal secret in a row of [`tables::SEALED`].
pub(crate) fn read_withdrawal(key: (u32, u64), bytes: &[u8]) -> Result<[u8; WITHDRAWAL], Fault> {
    bytes.first_chunk().copied().ok_or_else(|| Fault::row(&tables::SEALED, &key, "too short"))
}

/// CBOR of the list `[bundle, recipient, depositor, size, hash of the withdrawal secret, received]`.
pub(crate) fn held(index: &HeldIndex) -> Vec<u8> {
    let HeldIndex { id, mailbox: Mailbox { recipient, depositor }, size, withdrawal, received, .. } = index;
    codec::encode(&(id, recipient, depositor, size, withdrawal, received))
}

/// The index in a row of [`tables::HELD`].
pub(crate) fn read_held(no: u64, bytes: &[u8]) -> Result<HeldIndex, Fault> {
    let (id, recipient, depositor, size, withdrawal, received) = cbor(&tables::HELD, &no, bytes)?;
    Ok(HeldIndex { no, id, mailbox: Mailbox { recipient, depositor }, size, withdrawal, received })
}

/// Length of the slip (u32), CBOR of the `Signed<Slip>`, then as in [`bundle`].
pub(crate) fn parcel(parcel: &Parcel) -> Vec<u8> {
    let slip = codec::encode(&parcel.slip);
    let mut bytes = Vec::with_capacity(8 + slip.len() + parcel.bundle.size());
    bytes.extend_from_slice(&length(&slip));
    bytes.extend_from_slice(&slip);
    bundle(&parcel.bundle, &mut bytes);
    bytes
}

/// The parcel in a row of [`tables::HELD_PARCELS`].
pub(crate) fn read_parcel(no: u64, bytes: &[u8]) -> Result<Parcel, Fault> {
    let parts = || {
        let (slip, rest) = split_by_length(bytes)?;
        Some((slip, read_bundle(rest)?))
    };
    let (slip, bundle) = parts().ok_or_else(|| Fault::row(&tables::HELD_PARCELS, &no, "too short"))?;
    let slip: Signed<Slip> = cbor(&tables::HELD_PARCELS, &no, slip)?;
    Ok(Parcel { slip, bundle })
}

/// Author, its epoch, signer, its epoch, so that all of one author lie together. The bytes of an id say how long they are.
pub(crate) fn slot(slot: &Slot) -> Vec<u8> {
    let mut bytes = slot.author.to_bytes();
    bytes.extend_from_slice(&slot.epoch.0.to_be_bytes());
    bytes.extend(slot.recipient.to_bytes());
    bytes.extend_from_slice(&slot.recipient_epoch.0.to_be_bytes());
    bytes
}

/// Sequence of its first entry (u64), how many entries (u32), CBOR of `Signed<Segment>`.
pub(crate) fn segment(first: u64, entries: u32, signed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + signed.len());
    bytes.extend_from_slice(&first.to_be_bytes());
    bytes.extend_from_slice(&entries.to_be_bytes());
    bytes.extend_from_slice(signed);
    bytes
}

/// First entry, how many, and the bytes of the signed segment in a row of [`tables::SEGMENTS`].
pub(crate) fn read_segment_head(key: (u32, u64), bytes: &[u8]) -> Result<(u64, u32, &[u8]), Fault> {
    let parts = || {
        let (first, rest) = bytes.split_first_chunk::<8>()?;
        let (entries, signed) = rest.split_first_chunk::<4>()?;
        Some((u64::from_be_bytes(*first), u32::from_be_bytes(*entries), signed))
    };
    parts().ok_or_else(|| Fault::row(&tables::SEGMENTS, &key, "too short"))
}

/// First entry, how many, and the signed segment in a row of [`tables::SEGMENTS`].
pub(crate) fn read_segment(key: (u32, u64), bytes: &[u8]) -> Result<(u64, u32, Signed<Segment>), Fault> {
    let (first, entries, signed) = read_segment_head(key, bytes)?;
    Ok((first, entries, cbor(&tables::SEGMENTS, &key, signed)?))
}
