//! JSON as the API reads it: strictly.
//! Knows nothing of what it means. Unknown fields, doubled keys, depth and numbers that no letter can carry are refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use protocol::LetterId;
use protocol::envelope::Payload;
use protocol::name::Addressee;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_cbor::Value;
use utoipa::ToSchema;

use super::problem::Problem;

/// How deep a payload may be nested: with the envelopes and the bundle around it that is below the codec's limit.
const DEPTH_MAX: usize = 8;

/// A letter as it is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLetter<'a> {
    /// Names, names with endings, or ids.
    #[serde(borrow)]
    pub to: Vec<Cow<'a, str>>,
    /// The content.
    #[schema(value_type = super::api::Payload)]
    pub payload: Content,
    /// The type of envelope; a message if nothing is said.
    #[serde(default, rename = "type", borrow, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Cow<'a, str>>,
    /// The letter it answers.
    #[serde(default, alias = "reply_to", borrow, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<Cow<'a, str>>,
    /// Makes the request idempotent for ever.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub key: Option<Cow<'a, str>>,
    /// Names that nobody bears yet are accepted and wait for their first bearer.
    #[serde(default)]
    pub later: bool,
}

/// Why a letter that is good JSON is none of ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum LetterError {
    #[error("{name:?} cannot be a recipient: {error}")]
    Name { name: String, error: protocol::name::NameError },
    #[error("in_reply_to: {0}")]
    Reply(#[from] protocol::id::LetterIdError),
}

impl NewLetter<'_> {
    /// As the peer takes it. `key` is the one of the header, if there was one.
    pub(super) fn command(self, key: Option<String>) -> Result<protocol::input::NewLetter, LetterError> {
        let to = self
            .to
            .iter()
            .map(|name| name.parse::<Addressee>().map_err(|error| LetterError::Name { name: name.clone().into_owned(), error }));
        Ok(protocol::input::NewLetter {
            to: to.collect::<Result<_, _>>()?,
            kind: self.kind.map_or_else(|| "message".to_owned(), Cow::into_owned),
            payload: self.payload.0,
            in_reply_to: self.in_reply_to.map(|id| id.parse::<LetterId>()).transpose()?,
            key: key.or(self.key.map(Cow::into_owned)),
            later: self.later,
        })
    }
}

/// A payload in JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Content(pub Payload);

impl Serialize for Content {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        shown(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let payload = match (Strict { depth: 0 }).deserialize(deserializer)? {
            Value::Text(text) => Payload::Text(text),
            Value::Integer(number) => {
                Payload::Number(u64::try_from(number).map_err(|_| de::Error::custom("a number here is not negative"))?)
            }
            Value::Array(items) => Payload::List(items),
            Value::Map(items) => Payload::Dict(
                items.into_iter().filter_map(|(key, value)| if let Value::Text(key) = key { Some((key, value)) } else { None }).collect(),
            ),
            _ => return Err(de::Error::custom("a payload is a text, a number, a list or an object")),
        };
        Ok(Content(payload))
    }
}

/// Reads any JSON value, but none that is doubled, too deep, or no finite number.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Strict, E> {
        if self.depth == DEPTH_MAX { Err(E::custom("nested too deep")) } else { Ok(Strict { depth: self.depth + 1 }) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        if number.is_finite() { Ok(Value::Float(number)) } else { Err(E::custom("a number is too large")) }
    }

    fn visit_bool<E: de::Error>(self, yes: bool) -> Result<Value, E> {
        Ok(Value::Bool(yes))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = BTreeMap::new();
        while let Some(key) = items.next_key::<String>()? {
            let value = items.next_value_seed(inner)?;
            if map.insert(Value::Text(key), value).is_some() {
                return Err(de::Error::custom("a key stands twice"));
            }
        }
        Ok(Value::Map(map))
    }
}

/// A payload as JSON. What JSON has no word for is written as near to it as can be: bytes in hexadecimal, keys as text.
pub(super) fn shown(payload: &Payload) -> serde_json::Value {
    match payload {
        Payload::Text(text) => text.as_str().into(),
        Payload::Number(number) => (*number).into(),
        Payload::List(items) => items.iter().map(value).collect(),
        Payload::Dict(items) => items.iter().map(|(key, item)| (key.clone(), value(item))).collect(),
        Payload::Nothing => serde_json::Value::Null,
    }
}

fn value(from: &Value) -> serde_json::Value {
    match from {
        Value::Bool(yes) => (*yes).into(),
        Value::Integer(number) => match (u64::try_from(*number), i64::try_from(*number)) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => number.to_string().into(),
        },
        Value::Float(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Bytes(bytes) => hex(bytes).into(),
        Value::Array(items) => items.iter().map(value).collect(),
        Value::Map(items) => items
            .iter()
            .map(|(key, item)| {
                let key = match value(key) {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                };
                (key, value(item))
            })
            .collect(),
        Value::Tag(_, inner) => value(inner),
        _ => serde_json::Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request, which is an object. A list of the values of its fields, in their order, is one to serde; to us it is a mistake.
pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Problem> {
    if text.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::malformed("a list, expected an object (column 1)"));
    }
    serde_json::from_slice(text).map_err(|error| Problem::malformed(plainly(&error)))
}

/// Why a text is not what was expected, for those who wrote it: without the words of the language we are written in.
fn plainly(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    let place = if line > 1 { format!("line {line}, column {column}") } else { format!("column {column}") };
    match error.classify() {
        Category::Eof => format!("this is not JSON: it ends too early ({place})"),
        Category::Syntax | Category::Io => format!("this is not JSON: {text} ({place})"),
        Category::Data => {
            // serde says `invalid type: WHAT, expected WHAT`.
            let words = [
                ("invalid type: ", ""),
                ("invalid value: ", ""),
                ("struct NewLetter", "a letter: an object with `to` and `payload`"),
                ("sequence", "list"),
                ("map", "object"),
                ("a borrowed string", "a text"),
                ("a string", "a text"),
                ("string \"", "the text \""),
                ("integer `", "the number `"),
                ("floating point `", "the number `"),
                ("boolean `", "`"),
                ("u64", "a whole number"),
                ("usize", "a whole number"),
                ("a boolean", "true or false"),
            ];
            let known =
                text.starts_with("invalid ").then(|| words.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours)));
            format!("{} ({place})", known.as_deref().unwrap_or(text).replace("expected struct ", "expected an object: "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NewLetter<'_>, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_letter_reads_as_it_is_written() {
        let letter =
            read(r#"{"to":["nikki-pi"],"payload":"Hello \u00e9","reply_to":"00000000000000000000000001","key":"k"}"#).expect("good");
        assert_eq!(letter.payload, Content(Payload::Text("Hello é".to_owned())));
        let command = letter.command(None).expect("good");
        assert_eq!(command.kind, "message");
        assert_eq!(command.key.as_deref(), Some("k"));
        assert!(command.in_reply_to.is_some() && !command.later);
    }

    #[test]
    fn every_misspelt_request_is_refused() {
        let deep = format!(r#"{{"to":["a"],"payload":{}1{}}}"#, "[".repeat(9), "]".repeat(9));
        let deeper = format!(r#"{{"to":["a"],"payload":{}"#, "[".repeat(100_000));
        for (text, says) in [
            (r#"{"to":["a"],"payload":"x","untill":"read"}"#, "unknown field"),
            (r#"{"to":["a"],"payload":"x","payload":"y"}"#, "duplicate field"),
            (r#"{"to":["a"],"payload":"x","in_reply_to":"y","reply_to":"z"}"#, "duplicate field"),
            (r#"{"to":["a"],"payload":{"a":1,"a":2}}"#, "stands twice"),
            (r#"{"to":["a"],"payload":[{"a":{"b":1,"b":2}}]}"#, "stands twice"),
            (r#"{"to":["a"],"payload":null}"#, "a payload is"),
            (r#"{"to":["a"],"payload":true}"#, "a payload is"),
            (r#"{"to":["a"],"payload":-1}"#, "not negative"),
            (r#"{"to":["a"],"payload":1e400}"#, "out of range"),
            (r#"{"to":["a"],"payload":"\ud800"}"#, "hex escape"),
            (r#"{"to":["a"]}"#, "missing field"),
            (r#"{"payload":"x"}"#, "missing field"),
            (r#"{"to":"a","payload":"x"}"#, "invalid type"),
            (r#"{"to":["a"],"payload":"x"} {}"#, "trailing"),
            ("", "EOF"),
            ("[]", "invalid"),
            (&deep, "too deep"),
            (&deeper, "too deep"),
        ] {
            let error = read(text).expect_err(&text[..text.len().min(60)]);
            assert!(error.contains(says), "{error} does not say {says:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_words_of_our_language() {
        for (text, says) in [
            (r#"{"to":["a"],"payload":"x""#, "this is not JSON: it ends too early (column 25)"),
            ("nonsense", "this is not JSON: expected ident (column 2)"),
            (r#"{"to":"a","payload":"x"}"#, "the text \"a\", expected a list (column 9)"),
            (r#"{"to":["a"]}"#, "missing field `payload` (column 12)"),
            ("17", "the number `17`, expected a letter: an object with `to` and `payload` (column 2)"),
            ("{\"to\":[3],\n\"payload\":\"x\"}", "the number `3`, expected a text (column 8)"),
        ] {
            let error = serde_json::from_str::<NewLetter<'_>>(text).expect_err(text);
            assert_eq!(plainly(&error), says, "{text}");
        }
    }

    #[test]
    fn a_recipient_that_cannot_be_one_is_refused() {
        for name in ["", "a b", "-a", "me", "a@", "a\u{202e}b"] {
            let letter = NewLetter {
                to: vec![name.into()],
                payload: Content(Payload::Text("x".to_owned())),
                kind: None,
                in_reply_to: None,
                key: None,
                later: false,
            };
            assert!(matches!(letter.command(None), Err(LetterError::Name { .. })), "{name:?}");
        }
    }

    #[test]
    fn what_json_has_no_word_for_is_shown_all_the_same() {
        let dict: BTreeMap<Value, Value> =
            [(Value::Integer(1), Value::Bytes(vec![1, 255])), (Value::Null, Value::Float(f64::NAN))].into_iter().collect();
        let shown = shown(&Payload::List(vec![Value::Map(dict), Value::Integer(i128::MAX)]));
        assert_eq!(shown.to_string(), r#"[{"1":"01ff","null":null},"170141183460469231731687303715884105727"]"#);
    }
}
