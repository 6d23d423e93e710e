//! The one file that names the byte format: CBOR (RFC 8949), for the wire and for the disk.
//! Knows nothing of what is encoded. Nothing is decoded before its shape was scanned: depth, length, whole input.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The deepest nesting that is decoded (DESIGN 3.1; .NET chose 64, CCF 16: research/reliability.md 4.1).
pub const DEPTH_MAX: usize = 16;

/// Why bytes were not decoded. Nothing was kept of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Ends early, goes on after its end, or claims more items than there are bytes.
    #[error("not one whole CBOR item")]
    Malformed,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested too deeply")]
    TooDeep,
    /// Well-formed CBOR of another shape.
    #[error("unexpected shape: {0}")]
    Shape(String),
}

/// The bytes of `value`.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_cbor::to_vec(value).expect("our own types have string keys, known lengths and no failing serializers")
}

/// The value of `bytes`, which must hold exactly one item.
///
/// # Errors
/// Whatever [`DecodeError`] names; memory use is bounded by a small multiple of the input's length.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    scan(bytes)?;
    serde_cbor::from_slice(bytes).map_err(|error| DecodeError::Shape(error.to_string()))
}

/// Checks that `bytes` is one whole item of bounded depth, without recursion and without allocation beyond the depth.
fn scan(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut open: Vec<u64> = Vec::with_capacity(DEPTH_MAX);
    let mut at = 0usize;
    loop {
        let head = *bytes.get(at).ok_or(DecodeError::Malformed)?;
        at += 1;
        let (major, info) = (head >> 5, head & 31);
        let argument = match info {
            0..=23 => u64::from(info),
            24..=27 => {
                let width = 1usize << (info - 24);
                let field = bytes.get(at..at + width).ok_or(DecodeError::Malformed)?;
                at += width;
                field.iter().fold(0u64, |value, byte| (value << 8) | u64::from(*byte))
            }
            // Indefinite lengths are never written by us and hide the size of what follows.
            _ => return Err(DecodeError::Malformed),
        };
        let left = (bytes.len() - at) as u64;
        match major {
            2 | 3 => {
                if argument > left {
                    return Err(DecodeError::Malformed);
                }
                at += usize::try_from(argument).map_err(|_| DecodeError::Malformed)?;
            }
            4..=6 => {
                let items = match major {
                    4 => argument,
                    5 => argument.checked_mul(2).ok_or(DecodeError::Malformed)?,
                    _ => 1,
                };
                if items > left {
                    return Err(DecodeError::Malformed);
                }
                if items > 0 {
                    if open.len() == DEPTH_MAX {
                        return Err(DecodeError::TooDeep);
                    }
                    open.push(items);
                    continue;
                }
            }
            _ => {}
        }
        // An item is complete: close every container that it completes.
        loop {
            match open.last_mut() {
                None => return if at == bytes.len() { Ok(()) } else { Err(DecodeError::Malformed) },
                Some(1) => {
                    open.pop();
                }
                Some(items) => {
                    *items -= 1;
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_cbor::Value;

    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = vec![0x81; depth];
        bytes.push(0);
        bytes
    }

    #[test]
    fn shapes_that_lie_are_refused_before_decoding() {
        let check = |bytes: &[u8], expected: DecodeError| assert_eq!(decode::<Value>(bytes), Err(expected), "{bytes:x?}");
        check(&[], DecodeError::Malformed);
        check(&[0x82, 1], DecodeError::Malformed);
        check(&[1, 1], DecodeError::Malformed);
        check(&[0x5b, 255, 255, 255, 255, 255, 255, 255, 255], DecodeError::Malformed);
        check(&[0x9b, 255, 255, 255, 255, 255, 255, 255, 255], DecodeError::Malformed);
        check(&[0xbb, 128, 0, 0, 0, 0, 0, 0, 1, 0], DecodeError::Malformed);
        check(&[0x5f, 0x41, 0, 0xff], DecodeError::Malformed);
        check(&[0x9f, 0xff], DecodeError::Malformed);
        check(&nested(17), DecodeError::TooDeep);
        check(&nested(100_000), DecodeError::TooDeep);
        assert!(decode::<Value>(&nested(16)).is_ok());
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = encode(&vec![("word", 7u64), ("another", 1 << 40)]);
        assert!(decode::<Value>(&whole).is_ok());
        for end in 0..whole.len() {
            assert!(decode::<Value>(&whole[..end]).is_err());
        }
    }
}
