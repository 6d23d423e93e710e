//! The sealed unit: envelopes from one author to one recipient, signed inside, opaque outside.
//! Knows nothing of when or by whom it is carried. Formed once; its id is the hash of its bytes.

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem as _, OpModeR, OpModeS, Serializable};
use libp2p_identity::{Keypair, PeerId};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use sha2::{Digest, Sha256};

use crate::codec::{self, DecodeError};
use crate::contact::Contact;
use crate::envelope::Envelope;
use crate::id::{BundleId, Epoch, KeyId};
use crate::sign::{self, Signed};

type Kem = X25519HkdfSha256;
type PrivateKey = <Kem as hpke::Kem>::PrivateKey;

/// HPKE (RFC 9180) base mode: DHKEM-X25519, HKDF-SHA256, ChaCha20-Poly1305.
pub const SUITE: u8 = 1;
/// Length of an encapsulated X25519 key.
const ENCAPSULATED: usize = 32;
const LABEL: &str = "bundle";

/// The clear part of a bundle: what carriers may know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// How it is sealed; see [`SUITE`].
    pub suite: u8,
    /// For whom.
    pub recipient: PeerId,
    /// To which of the recipient's encryption keys.
    pub key: KeyId,
    /// SHA-256 of the secret by which the author can withdraw it from custodians.
    pub withdrawal: ByteArray<32>,
}

/// A sealed bundle, as sent, stored and held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// CBOR of [`Header`].
    pub header: ByteBuf,
    /// Encapsulated key, then the sealed [`Contents`] and their signature.
    pub sealed: ByteBuf,
}

/// What is sealed in a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    /// Who wrote all of it.
    pub author: PeerId,
    /// The author's memory that the numbers belong to.
    pub epoch: Epoch,
    /// The author's lowest unreceipted number to this recipient when the bundle was formed: nothing below is waited for.
    pub floor: u64,
    /// The author's card, so that a stranger's letter arrives with a name.
    pub contact: Signed<Contact>,
    /// 1 to 64, numbered ascending.
    pub envelopes: Vec<Envelope>,
}

/// [`Contents`] as they are written: nothing is copied.
#[derive(Serialize)]
struct Drafted<'a> {
    author: PeerId,
    epoch: Epoch,
    floor: u64,
    contact: Signed<Contact>,
    envelopes: &'a [Envelope],
}

/// The signed inside.
#[derive(Serialize, Deserialize)]
struct Inside {
    body: ByteBuf,
    signature: ByteBuf,
}

/// Everything a worker needs to seal one bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Correlates the sealed bundle with this draft.
    pub number: u64,
    /// The recipient's card: whom to seal for, and to which key.
    pub to: Contact,
    /// The author's card.
    pub contact: Contact,
    /// The author's epoch.
    pub epoch: Epoch,
    /// See [`Contents::floor`].
    pub floor: u64,
    /// What to seal.
    pub envelopes: Vec<Envelope>,
    /// The withdrawal secret.
    pub withdrawal: [u8; 32],
    /// Seed of the sealing's randomness, fresh for every draft.
    pub seed: [u8; 32],
}

/// Why a bundle was not opened. Nothing was taken from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The header, the inside or the contents are not what they should be.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Sealed by a suite that this version does not know.
    #[error("sealed by suite {0}, which this version does not know")]
    Suite(u8),
    /// For somebody else, or to a key that is not ours.
    #[error("sealed for somebody else")]
    NotForMe,
    /// Does not open: changed, or sealed to another key.
    #[error("does not open")]
    Sealed,
    /// Opens, but its author did not sign it for this recipient in this swarm.
    #[error("its author did not sign it for this recipient")]
    Signature,
    /// More envelopes than allowed, numbers missing or out of order, or an author or recipient that does not fit.
    #[error("its envelopes contradict it: {0}")]
    Inconsistent(&'static str),
}

/// The two keys of a peer, derived from the seeds in its key file.
#[derive(Clone)]
pub struct Secrets {
    /// Signs, and is the identity.
    pub signing: Keypair,
    opening: PrivateKey,
    encryption_key: [u8; 32],
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.id())
    }
}

impl Secrets {
    /// Derives both keys; the same seeds give the same keys for ever.
    #[must_use]
    pub fn from_seeds(signing: &[u8; 32], encryption: &[u8; 32]) -> Self {
        let signing = Keypair::ed25519_from_bytes(*signing).expect("any 32 bytes are an Ed25519 seed");
        let (opening, public) = Kem::derive_keypair(encryption);
        Secrets { signing, opening, encryption_key: public.to_bytes().into() }
    }

    /// The identity.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.signing.public().to_peer_id()
    }

    /// The public half of the encryption key.
    #[must_use]
    pub fn encryption_key(&self) -> [u8; 32] {
        self.encryption_key
    }

    /// The name of the encryption key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        key_id(&self.encryption_key)
    }
}

/// Names an encryption key: the first 8 bytes of its SHA-256.
#[must_use]
pub fn key_id(encryption_key: &[u8; 32]) -> KeyId {
    let hash: [u8; 32] = Sha256::digest(encryption_key).into();
    let mut id = [0; 8];
    id.copy_from_slice(&hash[..8]);
    KeyId::new(id)
}

/// Whether something can be sealed to a key: points of small order yield no secret (RFC 7748 section 6.1), whatever the
/// other side's key is; HPKE refuses them when sealing (RFC 9180 section 7.1.4).
#[must_use]
pub fn can_seal_to(encryption_key: &[u8; 32]) -> bool {
    /// The u-coordinates of the points of small order on curve and twist, reduced, in little endian; and those below
    /// 2^255 that reduce to them. Computed from the group orders; listed alike at <https://cr.yp.to/ecdh.html#validate>.
    const SMALL: [[u8; 32]; 7] = [
        [0; 32],
        with_ends(1, 0, 0),
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c,
            0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58,
            0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
        ],
        with_ends(0xec, 0xff, 0x7f),
        with_ends(0xed, 0xff, 0x7f),
        with_ends(0xee, 0xff, 0x7f),
    ];
    const fn with_ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
        let mut bytes = [middle; 32];
        bytes[0] = first;
        bytes[31] = last;
        bytes
    }
    let mut reduced = *encryption_key;
    reduced[31] &= 0x7f;
    !SMALL.contains(&reduced)
}

impl Bundle {
    /// SHA-256 over the header's length, the header and the sealed bytes.
    #[must_use]
    pub fn id(&self) -> BundleId {
        let mut hash = Sha256::new();
        hash.update(u32::try_from(self.header.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(&self.header);
        hash.update(&self.sealed);
        BundleId::new(hash.finalize().into())
    }

    /// Bytes of header and sealed part together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.header.len() + self.sealed.len()
    }

    /// The clear header.
    ///
    /// # Errors
    /// It is not a header.
    pub fn read_header(&self) -> Result<Header, DecodeError> {
        codec::decode(&self.header)
    }
}

fn info(swarm: &str, recipient: &PeerId, key: KeyId) -> Vec<u8> {
    let mut info = b"swarm/1 bundle ".to_vec();
    info.extend_from_slice(&u32::try_from(swarm.len()).unwrap_or(u32::MAX).to_be_bytes());
    info.extend_from_slice(swarm.as_bytes());
    info.extend_from_slice(&recipient.to_bytes());
    info.extend_from_slice(key.as_bytes());
    info
}

/// Seals a draft. `contact` is the author's card, signed.
///
/// # Errors
/// The recipient's card holds a key that nothing can be sealed to; nothing was made.
pub fn seal(me: &Secrets, swarm: &str, draft: &Draft, contact: Signed<Contact>) -> Result<Bundle, OpenError> {
    let public = <Kem as hpke::Kem>::PublicKey::from_bytes(draft.to.encryption_key.as_ref()).map_err(|_| OpenError::Sealed)?;
    let withdrawal: [u8; 32] = Sha256::digest(draft.withdrawal).into();
    let header = codec::encode(&Header { suite: SUITE, recipient: draft.to.id, key: draft.to.key, withdrawal: ByteArray::new(withdrawal) });
    let body = codec::encode(&Drafted { author: me.id(), epoch: draft.epoch, floor: draft.floor, contact, envelopes: &draft.envelopes });
    let signature = sign::sign(&me.signing, LABEL, swarm, &[&header, &body]);
    let inside = codec::encode(&Inside { body: ByteBuf::from(body), signature: ByteBuf::from(signature) });
    let mut rng = ChaCha20Rng::from_seed(draft.seed);
    let (key, ciphertext) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeS::Base,
        &public,
        &info(swarm, &draft.to.id, draft.to.key),
        &inside,
        &header,
        &mut rng,
    )
    .map_err(|_| OpenError::Sealed)?;
    let mut sealed = key.to_bytes().to_vec();
    sealed.extend_from_slice(&ciphertext);
    Ok(Bundle { header: ByteBuf::from(header), sealed: ByteBuf::from(sealed) })
}

/// What a draft's bundle will contain.
#[must_use]
pub fn contents(author: PeerId, draft: &Draft, contact: Signed<Contact>) -> Contents {
    Contents { author, epoch: draft.epoch, floor: draft.floor, contact, envelopes: draft.envelopes.clone() }
}

/// Opens a bundle sealed for `me` and checks its signature and its limits. The author's contact inside is checked too.
///
/// # Errors
/// [`OpenError`]; nothing was taken.
pub fn open(me: &Secrets, swarm: &str, bundle: &Bundle) -> Result<Contents, OpenError> {
    let header = bundle.read_header()?;
    if header.suite != SUITE {
        return Err(OpenError::Suite(header.suite));
    }
    if header.recipient != me.id() || header.key != me.key_id() {
        return Err(OpenError::NotForMe);
    }
    let (key, ciphertext) = bundle.sealed.split_at_checked(ENCAPSULATED).ok_or(OpenError::Sealed)?;
    let key = <Kem as hpke::Kem>::EncappedKey::from_bytes(key).map_err(|_| OpenError::Sealed)?;
    let inside = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeR::Base,
        &me.opening,
        &key,
        &info(swarm, &header.recipient, header.key),
        ciphertext,
        &bundle.header,
    )
    .map_err(|_| OpenError::Sealed)?;
    let inside: Inside = codec::decode(&inside)?;
    let contents: Contents = codec::decode(&inside.body)?;
    if !sign::verify(&contents.author, LABEL, swarm, &[&bundle.header, &inside.body], &inside.signature) {
        return Err(OpenError::Signature);
    }
    consistent(&contents, me.id())?;
    Ok(contents)
}

/// Whether contents fit their limits and themselves.
///
/// # Errors
/// [`OpenError::Inconsistent`].
pub fn consistent(contents: &Contents, recipient: PeerId) -> Result<(), OpenError> {
    use crate::config::limits;
    let fail = |why| Err(OpenError::Inconsistent(why));
    if contents.envelopes.is_empty() || contents.envelopes.len() > limits::BUNDLE_ENVELOPES {
        return fail("too many or none");
    }
    if contents.floor == 0 || contents.floor > limits::NUMBER_MAX {
        return fail("a floor that no author has");
    }
    let mut before = 0;
    for envelope in &contents.envelopes {
        let Some(seq) = envelope.seq else { return fail("a letter without a number") };
        if seq <= before || seq > limits::NUMBER_MAX || seq - contents.floor.min(seq) > limits::AHEAD {
            return fail("numbers out of order or too far ahead");
        }
        before = seq;
        if envelope.author != contents.author {
            return fail("an envelope of another author");
        }
        if envelope.recipients.len() > limits::RECIPIENTS || !envelope.recipients.contains(&recipient) {
            return fail("an envelope for others");
        }
        if envelope.payload_bytes() > limits::LETTER_BYTES {
            return fail("a letter too large");
        }
        if envelope.kind.len() > limits::KIND_BYTES || !envelope.consistent() {
            return fail("a payload of another type");
        }
    }
    Ok(())
}
