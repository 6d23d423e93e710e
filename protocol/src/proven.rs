//! Statements that are signed many at a time: one signature over a Merkle root, and for each statement its path to it.
//! Knows nothing of what is stated. Bytes are signed and checked as they are, never re-encoded.

use libp2p_identity::{Keypair, PeerId};
use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use sha2::{Digest, Sha256};

use crate::codec;
use crate::sign::{Statement, StatementError, sign, verify};

/// The longest path: 2^16 statements under one signature are more than a frame can carry.
const PATH_MAX: usize = 16;

/// A statement, its bytes, and what proves that its signer made it. One of our own has no proof: it is signed whenever it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven<T> {
    /// What it says.
    pub value: T,
    /// CBOR of the value, as signed.
    pub body: ByteBuf,
    /// None while it is our own.
    pub proof: Option<Proof>,
}

/// The way from one statement to a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Which of the statements under the root it is, from 0.
    pub index: u32,
    /// The neighbours on the way up: RFC 9162 section 2.1, but a lone node is carried up unchanged.
    pub path: Vec<Option<ByteArray<32>>>,
    /// Ed25519 over label, swarm and root.
    pub signature: ByteBuf,
}

impl<T: Statement> Proven<T> {
    /// A statement of this node, to be signed when it is sent.
    #[must_use]
    pub fn own(value: T) -> Self {
        Proven { body: ByteBuf::from(codec::encode(&value)), value, proof: None }
    }

    /// A statement whose signature nobody will check: for simulations, which pass authenticated values.
    #[must_use]
    pub fn unchecked(self) -> Self {
        let proof = Proof { index: 0, path: Vec::new(), signature: ByteBuf::new() };
        Proven { proof: Some(self.proof.unwrap_or(proof)), ..self }
    }

    /// The root that the path leads to.
    fn root(&self) -> Option<[u8; 32]> {
        let proof = self.proof.as_ref().filter(|proof| proof.path.len() <= PATH_MAX)?;
        let (mut hash, mut index) = (leaf(&self.body), proof.index);
        for step in &proof.path {
            hash = match step {
                None => hash,
                Some(other) if index & 1 == 0 => node(&hash, other.as_ref()),
                Some(other) => node(other.as_ref(), &hash),
            };
            index >>= 1;
        }
        (index == 0).then_some(hash)
    }
}

/// Signs those of `statements` that have no proof yet, all by one signature.
pub fn prove<T: Statement>(statements: &mut [Proven<T>], key: &Keypair, swarm: &str) {
    prove_all(statements.iter_mut(), key, swarm);
}

/// As [`prove`], of statements that stand apart.
pub(crate) fn prove_all<'a, T: Statement + 'a>(statements: impl Iterator<Item = &'a mut Proven<T>>, key: &Keypair, swarm: &str) {
    let mut own: Vec<&mut Proven<T>> = statements.filter(|statement| statement.proof.is_none()).collect();
    if own.is_empty() {
        return;
    }
    let mut levels = vec![own.iter().map(|statement| leaf(&statement.body)).collect::<Vec<_>>()];
    while let Some(last) = levels.last().filter(|level| level.len() > 1) {
        let next = last
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node(left, right),
                lone => lone[0],
            })
            .collect();
        levels.push(next);
    }
    let root = levels.last().map(|level| level[0]).expect("there is one statement or more");
    let signature = ByteBuf::from(sign(key, T::LABEL, swarm, &[&root]));
    for (position, statement) in own.iter_mut().enumerate() {
        let path = levels[..levels.len() - 1]
            .iter()
            .enumerate()
            .map(|(height, level)| level.get((position >> height) ^ 1).map(|hash| ByteArray::new(*hash)))
            .collect();
        let index = u32::try_from(position).expect("a frame holds fewer");
        statement.proof = Some(Proof { index, path, signature: signature.clone() });
    }
}

/// Whether each of `statements` was made by its signer for `swarm`. A signature over many of them is checked once.
///
/// # Errors
/// One of them has no proof or a false one; nothing should be kept of any.
pub fn check<'a, T: Statement + 'a>(statements: impl IntoIterator<Item = &'a Proven<T>>, swarm: &str) -> Result<(), StatementError> {
    let mut good: Option<(PeerId, [u8; 32], &ByteBuf)> = None;
    for statement in statements {
        let (Some(root), Some(proof)) = (statement.root(), &statement.proof) else { return Err(StatementError::Signature) };
        let this = (statement.value.signer(), root, &proof.signature);
        if good.as_ref() != Some(&this) {
            if !verify(&this.0, T::LABEL, swarm, &[&root], &proof.signature) {
                return Err(StatementError::Signature);
            }
            good = Some(this);
        }
    }
    Ok(())
}

/// Leaves and inner nodes are hashed apart, so that no inner node passes for a statement (RFC 9162 section 2.1).
fn leaf(body: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix([0]).chain_update(body).finalize().into()
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

impl<T> Serialize for Proven<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.body, &self.proof).serialize(serializer)
    }
}

impl<'de, T: Statement> Deserialize<'de> for Proven<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (body, proof) = <(ByteBuf, Option<Proof>)>::deserialize(deserializer)?;
        let value = codec::decode(&body).map_err(de::Error::custom)?;
        Ok(Proven { value, body, proof })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Secrets;
    use crate::id::Epoch;
    use crate::mail::Slip;

    const SWARM: &str = "lan";

    fn secrets() -> Secrets {
        Secrets::from_seeds(&[1; 32], &[2; 32])
    }

    fn statements(count: u64) -> Vec<Proven<Slip>> {
        let bundle = |n: u64| crate::id::BundleId::new(Sha256::digest(Epoch(n).0.to_be_bytes()).into());
        let mut made: Vec<Proven<Slip>> =
            (0..count).map(|n| Proven::own(Slip { depositor: secrets().id(), bundle: bundle(n), size: n })).collect();
        prove(&mut made, &secrets().signing, SWARM);
        made
    }

    #[test]
    fn statements_of_any_number_are_proved_together_and_each_alone() {
        for count in [1, 2, 3, 4, 5, 7, 8, 9, 100] {
            let made = statements(count);
            assert_eq!(check(&made, SWARM), Ok(()), "{count}");
            for statement in &made {
                let bytes = codec::encode(statement);
                let back: Proven<Slip> = codec::decode(&bytes).expect("our own");
                assert_eq!(&back, statement);
                assert_eq!(check(&[back], SWARM), Ok(()));
            }
        }
    }

    #[test]
    fn nothing_else_is_proved() {
        let made = statements(5);
        let refused = |statement: Proven<Slip>| assert_eq!(check(&[statement], SWARM), Err(StatementError::Signature));
        refused(Proven { body: made[1].body.clone(), ..made[0].clone() });
        refused(Proven { proof: made[1].proof.clone(), ..made[0].clone() });
        refused(Proven { proof: None, ..made[0].clone() });
        let mut longer = made[0].clone();
        if let Some(proof) = &mut longer.proof {
            proof.path.push(None);
            proof.index |= 1 << 9;
        }
        refused(longer);
        assert_eq!(check(&made, "another"), Err(StatementError::Signature));
    }

    #[test]
    fn what_is_proved_already_is_not_signed_again() {
        let mut made = statements(3);
        let before = made.clone();
        prove(&mut made, &Secrets::from_seeds(&[9; 32], &[9; 32]).signing, SWARM);
        assert_eq!(made, before);
    }
}
