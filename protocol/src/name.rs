//! What peers may be called.
//! Knows nothing of who bears a name. A [`PeerName`] is printable, NFC, and cannot be mistaken for an option or an address.

use std::fmt;
use std::str::FromStr;

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// The longest name, in bytes of UTF-8 (DESIGN 5).
pub const NAME_MAX: usize = 64;

/// Words that commands use for somebody else (DESIGN 5).
const TAKEN: [&str; 4] = ["me", "all", "swarm", "anyone"];

/// A peer's name: 1 to 64 bytes of printable UTF-8 in NFC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerName(String);

/// Why a text cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is left of it.
    #[error("a name needs at least one character")]
    Empty,
    /// More than 64 bytes of UTF-8.
    #[error("a name has at most 64 bytes")]
    TooLong,
    /// A control, bidi, zero-width or space character, or one of `@ / :`.
    #[error("a name cannot contain {0:?}")]
    Forbidden(char),
    /// Begins with `.` or `-`.
    #[error("a name cannot begin with {0:?}")]
    Beginning(char),
    /// One of the words commands use themselves.
    #[error("{0:?} has a meaning of its own; choose another name")]
    Taken(&'static str),
}

impl PeerName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_MAX * 4 {
            return Err(NameError::TooLong);
        }
        let name: String = text.nfc().collect();
        if name.len() > NAME_MAX {
            return Err(NameError::TooLong);
        }
        let first = name.chars().next().ok_or(NameError::Empty)?;
        if let Some(bad) = name.chars().find(|c| !printable(*c) || matches!(c, '@' | '/' | ':')) {
            return Err(NameError::Forbidden(bad));
        }
        if matches!(first, '.' | '-') {
            return Err(NameError::Beginning(first));
        }
        if let Some(word) = TAKEN.iter().find(|word| name.eq_ignore_ascii_case(word)) {
            return Err(NameError::Taken(word));
        }
        Ok(PeerName(name))
    }
}

impl TryFrom<String> for PeerName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let name: PeerName = text.parse()?;
        // Signed bytes carry the one spelling; another would compare unequal to itself.
        if name.0 == text { Ok(name) } else { Err(NameError::Forbidden(first_difference(&text, &name.0))) }
    }
}

impl From<PeerName> for String {
    fn from(name: PeerName) -> String {
        name.0
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How somebody names a peer: by name, by name and the end of the id, or by the whole id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Addressee {
    /// `nikki-pi`: whoever bears that name, if it is one.
    Name(PeerName),
    /// `nikki-pi@Kx9Ta7f3`: the bearer of that name whose id ends so.
    Ending(PeerName, String),
    /// `12D3Koo…`: that very key.
    Id(PeerId),
}

impl FromStr for Addressee {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Ok(id) = text.parse::<PeerId>() {
            return Ok(Addressee::Id(id));
        }
        match text.split_once('@') {
            Some((name, ending)) => match ending.chars().find(|c| !c.is_ascii_alphanumeric()) {
                Some(bad) => Err(NameError::Forbidden(bad)),
                None if ending.is_empty() => Err(NameError::Forbidden('@')),
                None => Ok(Addressee::Ending(name.parse()?, ending.to_owned())),
            },
            None => Ok(Addressee::Name(text.parse()?)),
        }
    }
}

impl fmt::Display for Addressee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addressee::Name(name) => name.fmt(f),
            Addressee::Ending(name, ending) => write!(f, "{name}@{ending}"),
            Addressee::Id(id) => id.fmt(f),
        }
    }
}

/// A peer as people tell it from others of its name: name and the last 8 characters of its id.
#[must_use]
pub fn distinct(name: &PeerName, peer: &PeerId) -> String {
    let id = peer.to_base58();
    format!("{name}@{}", &id[id.len().saturating_sub(8)..])
}

fn first_difference(a: &str, b: &str) -> char {
    a.chars().zip(b.chars()).find(|(x, y)| x != y).map_or('\u{fffd}', |(x, _)| x)
}

/// Whether a character can stand in a name or be shown in a line as it is: no control, bidi, zero-width, space, or
/// private and unassigned code that would print as something else (Unicode TR 36).
#[must_use]
pub fn printable(c: char) -> bool {
    !(c.is_control()
        || c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}' | '\u{e000}'..='\u{f8ff}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{10ffff}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, NameError>) {
        assert_eq!(text.parse::<PeerName>().map(String::from), expected.map(str::to_owned), "{text:?}");
    }

    #[test]
    fn names_are_printable_and_not_ambiguous() {
        check("markus-thinkpad", Ok("markus-thinkpad"));
        check("Žofie", Ok("Žofie"));
        check("Z\u{30c}ofie", Ok("\u{17d}ofie"));
        check("", Err(NameError::Empty));
        check(&"x".repeat(64), Ok(&"x".repeat(64)));
        check(&"x".repeat(65), Err(NameError::TooLong));
        check("a b", Err(NameError::Forbidden(' ')));
        check("a\u{1b}[31m", Err(NameError::Forbidden('\u{1b}')));
        check("a\u{202e}b", Err(NameError::Forbidden('\u{202e}')));
        check("a\u{200d}b", Err(NameError::Forbidden('\u{200d}')));
        check("a@b", Err(NameError::Forbidden('@')));
        check("a:b", Err(NameError::Forbidden(':')));
        check(".a", Err(NameError::Beginning('.')));
        check("-a", Err(NameError::Beginning('-')));
        check("Me", Err(NameError::Taken("me")));
    }
}
