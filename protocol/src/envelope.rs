//! What goes over the wire: type, author, recipients, payload, timestamp.
//! Knows nothing of sealing or delivery. An envelope holds one payload, whose shape fits its type.

use std::collections::BTreeMap;
use std::fmt;

use libp2p_identity::PeerId;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_cbor::Value;
use sha2::{Digest, Sha256};

use crate::id::LetterId;
use crate::now::Timestamp;
use crate::order::OrderKey;

/// One payload from an author to recipients. The wire carries keys, not names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// What the payload is; the closed set that this version knows is listed at [`Kind`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Who wrote it.
    pub author: PeerId,
    /// Everyone it was written to; each has a copy of their own.
    pub recipients: Vec<PeerId>,
    /// The content.
    pub payload: Payload,
    /// When it was written, by its author's wall clock.
    pub timestamp: Timestamp,
    /// Names the letter, the same in every copy.
    pub id: LetterId,
    /// Number of this copy in the letters lane from author to recipient; none on the events lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The letter that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<LetterId>,
}

/// The content of an envelope, by its shape on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// `message`.
    Text(String),
    /// `order_id`.
    Number(u64),
    /// `peers`, `order`.
    List(Vec<Value>),
    /// `query`, `query_results`, `event`.
    Dict(BTreeMap<String, Value>),
    /// `void`: the place of a letter that its author discarded.
    Nothing,
}

/// The types of envelope that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A person's or a program's words: text.
    Message,
    /// Peers that the author knows: list.
    Peers,
    /// A request for a service: list.
    Order,
    /// The number that an order was given: number.
    OrderId,
    /// A question: dict.
    Query,
    /// Its answer: dict.
    QueryResults,
    /// Progress, outcome, cancel …: dict.
    Event,
    /// A letter that was discarded before it was delivered: nothing.
    Void,
}

impl Kind {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Peers => "peers",
            Kind::Order => "order",
            Kind::OrderId => "order_id",
            Kind::Query => "query",
            Kind::QueryResults => "query_results",
            Kind::Event => "event",
            Kind::Void => "void",
        }
    }

    fn fits(self, payload: &Payload) -> bool {
        matches!(
            (self, payload),
            (Kind::Message, Payload::Text(_))
                | (Kind::Peers | Kind::Order, Payload::List(_))
                | (Kind::OrderId, Payload::Number(_))
                | (Kind::Query | Kind::QueryResults | Kind::Event, Payload::Dict(_))
                | (Kind::Void, Payload::Nothing)
        )
    }
}

/// The name of the void of a letter: another one than the letter's own, so that a receipt tells which of the two its
/// signer has.
#[must_use]
pub fn void_of(letter: LetterId) -> LetterId {
    let hash: [u8; 32] = Sha256::new().chain_update(b"swarm/1 void ").chain_update(letter.as_bytes()).finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    LetterId::new(half)
}

/// The name of the outcome of an order, where the inbox of its orderer shows it.
#[must_use]
pub fn outcome_of(OrderKey { orderer, epoch, number }: OrderKey) -> LetterId {
    let hash = Sha256::new().chain_update(b"swarm/1 outcome ").chain_update(orderer.to_bytes());
    let hash: [u8; 32] = hash.chain_update(epoch.0.to_be_bytes()).chain_update(number.to_be_bytes()).finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    LetterId::new(half)
}

/// Whether one of these is the void of the other: whoever has the one does not take the other.
#[must_use]
pub fn excludes(one: LetterId, other: LetterId) -> bool {
    void_of(one) == other || void_of(other) == one
}

impl Envelope {
    /// What this envelope is, if this version knows its type.
    #[must_use]
    pub fn known_kind(&self) -> Option<Kind> {
        [Kind::Message, Kind::Peers, Kind::Order, Kind::OrderId, Kind::Query, Kind::QueryResults, Kind::Event, Kind::Void]
            .into_iter()
            .find(|kind| kind.as_str() == self.kind)
    }

    /// Whether the payload has the shape that the type promises. True for types this version does not know: their
    /// letters are kept and shown as such, not lost.
    #[must_use]
    pub fn consistent(&self) -> bool {
        self.known_kind().is_none_or(|kind| kind.fits(&self.payload))
    }

    /// About how many bytes the payload takes.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match &self.payload {
            Payload::Text(text) => text.len(),
            Payload::Number(_) => 9,
            Payload::Nothing => 1,
            other => crate::codec::encode(other).len(),
        }
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Payload::Text(text) => serializer.serialize_str(text),
            Payload::Number(number) => serializer.serialize_u64(*number),
            Payload::List(items) => items.serialize(serializer),
            Payload::Dict(items) => items.serialize(serializer),
            Payload::Nothing => serializer.serialize_unit(),
        }
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PayloadVisitor;

        impl<'de> Visitor<'de> for PayloadVisitor {
            type Value = Payload;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, a list, a dict or nothing")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Payload, E> {
                Ok(Payload::Text(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Payload, E> {
                Ok(Payload::Number(number))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Payload, E> {
                Ok(Payload::Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Payload, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Payload::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Payload, A::Error> {
                let mut dict = BTreeMap::new();
                while let Some((key, value)) = items.next_entry::<String, Value>()? {
                    if dict.insert(key, value).is_some() {
                        return Err(de::Error::custom("a key stands twice"));
                    }
                }
                Ok(Payload::Dict(dict))
            }
        }

        deserializer.deserialize_any(PayloadVisitor)
    }
}
