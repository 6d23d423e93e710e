//! The identifiers of the protocol.
//! Plain values; nothing here knows what they identify. Each prints as people see it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

/// Correlates an [`Input::Asked`](crate::Input::Asked) with its reply; unique within one run of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// One unbroken memory of a peer: a random number minted with its database, and again whenever that memory may have
/// jumped back (DESIGN 3.2). In JSON it is a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(ByteArray<$len>);

        impl $name {
            /// Wraps raw bytes.
            #[must_use]
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(ByteArray::new(bytes))
            }

            /// The raw bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

bytes_id!(
    /// 128 random bits naming a letter; shown as 26 lower-case Crockford base32 characters.
    LetterId,
    16
);
bytes_id!(
    /// SHA-256 of a bundle's header and sealed bytes; recomputed by everyone who stores it.
    BundleId,
    32
);
bytes_id!(
    /// The first 8 bytes of SHA-256 of an encryption key.
    KeyId,
    8
);
bytes_id!(
    /// A machine, as a hash of its machine id and the swarm's name: nodes that share one share their fate.
    MachineId,
    16
);

const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(*self.as_bytes());
        // 26 characters hold 130 bits: the first carries the top three.
        for place in (0..26).rev() {
            let digit = (bits >> (place * 5)) & 31;
            write!(f, "{}", char::from(CROCKFORD[usize::try_from(digit).unwrap_or(0)]))?;
        }
        Ok(())
    }
}

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.as_bytes()[..4], f)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(self.as_bytes(), f)
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.as_bytes()[..4], f)
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// The text is not a letter id: 26 characters of Crockford base32 are expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a letter id has 26 characters of 0-9 and a-z without i, l, o and u")]
pub struct LetterIdError;

impl FromStr for LetterId {
    type Err = LetterIdError;

    fn from_str(text: &str) -> Result<Self, LetterIdError> {
        if text.len() != 26 {
            return Err(LetterIdError);
        }
        let mut bits: u128 = 0;
        for (place, byte) in text.bytes().enumerate() {
            let digit = CROCKFORD.iter().position(|c| *c == byte.to_ascii_lowercase()).ok_or(LetterIdError)?;
            if place == 0 && digit > 7 {
                return Err(LetterIdError);
            }
            bits = (bits << 5) | digit as u128;
        }
        Ok(LetterId::new(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_id_reads_back_as_it_was_shown() {
        for bytes in [[0u8; 16], [255; 16], [7; 16], *b"abcdefghijklmnop"] {
            let id = LetterId::new(bytes);
            assert_eq!(id.to_string().len(), 26);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn what_is_not_a_letter_id_is_refused() {
        for text in ["", "4kq7", "zzzzzzzzzzzzzzzzzzzzzzzzzz", "0000000000000000000000000u", "é000000000000000000000000"] {
            assert_eq!(text.parse::<LetterId>(), Err(LetterIdError), "{text}");
        }
    }
}
