//! The record on its way from peer to peer: which chains there are, and their segments as they were signed.
//! Knows nothing of what they say. A piece is taken for what its bytes say: numbers, hashes and the last signature are checked.

use std::fmt;

use libp2p_identity::PeerId;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_bytes::ByteArray;

use crate::codec;
use crate::edge::Cause;
use crate::segment::{self, Segment};
use crate::sign::Signed;

/// A chain as somebody has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// Who wrote it.
    pub author: PeerId,
    /// Which.
    pub chain: u64,
    /// The first segment there …
    pub first: u64,
    /// … and the last.
    pub last: u64,
    /// Of the last.
    pub hash: ByteArray<32>,
    /// Its author, who says so, writes on in it.
    pub newest: bool,
}

/// A segment that came from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its number in its chain.
    pub number: u64,
    /// The hash that it cites.
    pub previous: [u8; 32],
    /// Its own.
    pub hash: [u8; 32],
    /// Sequence of its first entry.
    pub first: u64,
    /// How many entries it has.
    pub entries: u32,
    /// CBOR of the signed segment.
    pub signed: Vec<u8>,
}

/// What is read of a segment that is only passed on.
#[derive(Deserialize)]
struct Bones {
    author: PeerId,
    chain: u64,
    number: u64,
    previous: ByteArray<32>,
    first: u64,
    entries: Count,
}

/// How long a list is.
struct Count(u32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counting;
        impl<'de> Visitor<'de> for Counting {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        deserializer.deserialize_seq(Counting)
    }
}

/// The segments of one frame: of this chain, each citing the one before. `is_signed` is asked of the last one, which vouches for all
/// before it, and of every one if `all`.
///
/// # Errors
/// They are not what they should be. None of them counts.
pub fn pieces(
    author: PeerId,
    chain: u64,
    segments: &[Signed<Segment>],
    all: bool,
    is_signed: impl Fn(&Signed<Segment>) -> bool,
) -> Result<Vec<Piece>, Cause> {
    let mut pieces: Vec<Piece> = Vec::with_capacity(segments.len());
    for signed in segments {
        let bones: Bones = codec::decode(&signed.body).map_err(|_| Cause::Malformed)?;
        let Bones { number, first, entries: Count(entries), .. } = bones;
        let (previous, hash) = (bones.previous.into_array(), segment::hash(signed));
        let fits = pieces.last().is_none_or(|last| {
            (number, first, previous) == (last.number + 1, last.first.saturating_add(u64::from(last.entries)), last.hash)
        });
        if (bones.author, bones.chain) != (author, chain) || number == 0 || number >= 1 << 62 || first >= 1 << 62 || entries == 0 || !fits {
            return Err(Cause::Inconsistent);
        }
        if all && !is_signed(signed) {
            return Err(Cause::Signature);
        }
        pieces.push(Piece { number, previous, hash, first, entries, signed: codec::encode(signed) });
    }
    match segments.last() {
        Some(last) if !all && !is_signed(last) => Err(Cause::Signature),
        _ => Ok(pieces),
    }
}

/// Of segments of one chain as they are on a disk, the first that are what they were, up to one that is not: a damaged one must not keep
/// those behind it from whoever asks. `is_signed` is asked only of the last one, and where two do not fit.
#[must_use]
pub fn whole(segments: Vec<Signed<Segment>>, is_signed: impl Fn(&Signed<Segment>) -> bool) -> Vec<Signed<Segment>> {
    let previous = |signed: &Signed<Segment>| codec::decode::<Bones>(&signed.body).ok().map(|bones| bones.previous.into_array());
    let mut doubted = vec![false; segments.len()];
    for (at, pair) in segments.windows(2).enumerate() {
        if previous(&pair[1]) != Some(segment::hash(&pair[0])) {
            (doubted[at], doubted[at + 1]) = (true, true);
        }
    }
    if let Some(last) = doubted.last_mut() {
        *last = true;
    }
    let good = segments.into_iter().zip(doubted).map(|(signed, doubted)| (!doubted || is_signed(&signed)).then_some(signed));
    good.skip_while(Option::is_none).map_while(|good| good).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Secrets;
    use crate::edge::Edge;
    use crate::now::Timestamp;
    use crate::segment::{Entry, What};

    const CHAIN: u64 = 7;

    fn edge(n: u8) -> (Edge, PeerId) {
        let secrets = Secrets::from_seeds(&[n; 32], &[n; 32]);
        let id = secrets.id();
        (Edge::new(secrets, "lan".to_owned()), id)
    }

    /// Segments 1 to `last` of peer 1.
    fn chain(last: u64) -> Vec<Signed<Segment>> {
        let (edge, author) = edge(1);
        let (mut segments, mut previous): (Vec<Signed<Segment>>, [u8; 32]) = (Vec::new(), [0; 32]);
        for number in 1..=last {
            let entries = vec![Entry { time: Timestamp(number), what: What::Stopped }; 2];
            let segment = Segment { author, chain: CHAIN, number, previous: previous.into(), first: 2 * number - 1, entries };
            let signed = edge.sign(&segment);
            previous = segment::hash(&signed);
            segments.push(signed);
        }
        segments
    }

    fn check(segments: &[Signed<Segment>], all: bool) -> Result<usize, Cause> {
        let author = edge(1).1;
        pieces(author, CHAIN, segments, all, |signed| signed.is_by(&author, "lan")).map(|pieces| pieces.len())
    }

    #[test]
    fn a_chain_is_taken_from_wherever_it_begins() {
        assert_eq!(check(&chain(5), true), Ok(5));
        assert_eq!(check(&chain(5)[2..], false), Ok(3));
        assert_eq!(check(&[], true), Ok(0));
        let author = edge(1).1;
        let of = |segments: &[Signed<Segment>]| pieces(author, CHAIN, segments, true, |_| true).expect("it is good");
        let piece = &of(&chain(3)[1..2])[0];
        assert_eq!((piece.number, piece.first, piece.entries), (2, 3, 2));
        assert_eq!(piece.signed, codec::encode(&chain(3)[1]), "as it was signed");
    }

    #[test]
    fn what_is_reordered_doubled_cut_or_somebody_elses_is_refused() {
        let good = chain(5);
        let swapped = [good[0].clone(), good[2].clone(), good[1].clone()];
        let holed = [good[0].clone(), good[2].clone()];
        let doubled = [good[0].clone(), good[0].clone()];
        for bad in [swapped.as_slice(), &holed, &doubled] {
            assert_eq!(check(bad, false), Err(Cause::Inconsistent));
        }
        let other = edge(2).1;
        assert_eq!(pieces(other, CHAIN, &good, false, |_| true), Err(Cause::Inconsistent));
        assert_eq!(pieces(edge(1).1, CHAIN + 1, &good, false, |_| true), Err(Cause::Inconsistent));
    }

    #[test]
    fn a_damaged_segment_does_not_keep_others_from_being_sent() {
        let author = edge(1).1;
        let sent = |segments: Vec<Signed<Segment>>| {
            let whole = whole(segments, |signed| signed.is_by(&author, "lan"));
            assert!(whole.is_empty() || pieces(author, CHAIN, &whole, true, |signed| signed.is_by(&author, "lan")).is_ok());
            whole.iter().map(|signed| signed.trusted().expect("a segment").number).collect::<Vec<_>>()
        };
        assert_eq!(sent(chain(5)), [1, 2, 3, 4, 5]);
        assert_eq!(sent(Vec::new()), []);
        let damaged = |at: usize| {
            let mut bad = chain(5);
            let middle = bad[at].body.len() / 2;
            bad[at].body[middle] ^= 1;
            bad
        };
        assert_eq!(sent(damaged(2)), [1, 2]);
        assert_eq!(sent(damaged(2)[2..].to_vec()), [4, 5], "what is behind it comes with the next page");
        assert_eq!(sent(damaged(4)), [1, 2, 3, 4]);
        assert_eq!(sent(damaged(0)), [2, 3, 4, 5]);
    }

    #[test]
    fn what_was_changed_or_signed_by_another_is_refused() {
        let mut changed = chain(3);
        let body = changed[1].body.clone();
        // One bit anywhere, and the next does not cite it any more, or the last signature does not fit.
        for at in 0..body.len() {
            changed[1].body = body.clone();
            changed[1].body[at] ^= 1;
            assert!(check(&changed, false).is_err(), "byte {at}");
        }
        let mut forged = chain(3);
        forged[2] = edge(2).0.sign_segment(forged[2].body.to_vec());
        assert_eq!(check(&forged, false), Err(Cause::Signature));
        // In the middle only who is not the author is held to it.
        let mut spoilt = chain(3);
        spoilt[1].signature[5] ^= 1;
        assert_eq!((check(&spoilt, false), check(&spoilt, true)), (Ok(3), Err(Cause::Signature)));
    }
}
