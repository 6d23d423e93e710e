//! Signatures: every one covers a label and the swarm's name besides the bytes.
//! Knows nothing of what is signed. Bytes are signed and checked as they are, never re-encoded.

use std::marker::PhantomData;

use libp2p_identity::{Keypair, PeerId, PublicKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

use crate::codec::{self, DecodeError};

/// A value that peers sign: its label keeps a signature for one kind from passing for another.
pub trait Statement: Serialize + DeserializeOwned {
    /// The domain of the signature.
    const LABEL: &'static str;
    /// Who must have signed it.
    fn signer(&self) -> PeerId;
}

/// The bytes of a statement and the signature over them, as received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Signed<T> {
    /// CBOR of the statement.
    pub body: ByteBuf,
    /// Ed25519 over label, swarm and body.
    pub signature: ByteBuf,
    #[serde(skip)]
    of: PhantomData<T>,
}

/// Why a signed statement was refused. Nothing was kept of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The body is not what it should be.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The signer's id holds no Ed25519 key, or the signature does not fit.
    #[error("the signature does not fit")]
    Signature,
}

impl<T: Statement> Signed<T> {
    /// Signs `value` for `swarm`.
    #[must_use]
    pub fn new(key: &Keypair, swarm: &str, value: &T) -> Self {
        Self::over(key, swarm, codec::encode(value))
    }

    /// Signs the bytes of a statement.
    #[must_use]
    pub fn over(key: &Keypair, swarm: &str, body: Vec<u8>) -> Self {
        let signature = sign(key, T::LABEL, swarm, &[&body]);
        Signed { body: ByteBuf::from(body), signature: ByteBuf::from(signature), of: PhantomData }
    }

    /// A statement whose signature nobody will check: for simulations, which pass authenticated values.
    #[must_use]
    pub fn unchecked(value: &T) -> Self {
        Signed { body: ByteBuf::from(codec::encode(value)), signature: ByteBuf::new(), of: PhantomData }
    }

    /// The statement, if its signer signed these very bytes for `swarm`.
    ///
    /// # Errors
    /// [`StatementError`]; nothing is kept.
    pub fn check(&self, swarm: &str) -> Result<T, StatementError> {
        let value: T = codec::decode(&self.body)?;
        if verify(&value.signer(), T::LABEL, swarm, &[&self.body], &self.signature) { Ok(value) } else { Err(StatementError::Signature) }
    }

    /// Whether `signer` signed these very bytes for `swarm`, whatever they say.
    #[must_use]
    pub fn is_by(&self, signer: &PeerId, swarm: &str) -> bool {
        verify(signer, T::LABEL, swarm, &[&self.body], &self.signature)
    }

    /// The statement without looking at the signature: for what was checked before, or came from our own disk.
    ///
    /// # Errors
    /// The body is not what it should be.
    pub fn trusted(&self) -> Result<T, DecodeError> {
        codec::decode(&self.body)
    }
}

/// What Ed25519 signs: the label, the swarm, and the SHA-256 of the parts. Lengths make the joins unambiguous. Hashing first
/// matters for bundles: Ed25519 itself runs over its input twice to sign and once to verify, with the slower SHA-512.
fn statement(label: &str, swarm: &str, parts: &[&[u8]]) -> Vec<u8> {
    // No part comes near 4 GiB.
    let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(length(part));
        hash.update(part);
    }
    let mut bytes = b"swarm/1".to_vec();
    for part in [label.as_bytes(), swarm.as_bytes()] {
        bytes.extend_from_slice(&length(part));
        bytes.extend_from_slice(part);
    }
    bytes.extend_from_slice(&hash.finalize());
    bytes
}

/// Signs `parts` under `label` for `swarm`.
#[must_use]
pub fn sign(key: &Keypair, label: &str, swarm: &str, parts: &[&[u8]]) -> Vec<u8> {
    key.sign(&statement(label, swarm, parts)).expect("Ed25519 signing cannot fail")
}

/// Whether `signature` is that of `signer` over `parts` under `label` for `swarm`.
#[must_use]
pub fn verify(signer: &PeerId, label: &str, swarm: &str, parts: &[&[u8]], signature: &[u8]) -> bool {
    public_key(signer).is_some_and(|key| key.verify(&statement(label, swarm, parts), signature))
}

/// The Ed25519 key that a peer id holds within itself; none for ids of other kinds.
#[must_use]
pub fn public_key(peer: &PeerId) -> Option<PublicKey> {
    // An identity multihash (code 0) holds the protobuf of the key itself: libp2p's peer-id specification.
    let hash = peer.as_ref();
    if hash.code() != 0 {
        return None;
    }
    PublicKey::try_decode_protobuf(hash.digest()).ok()
}
