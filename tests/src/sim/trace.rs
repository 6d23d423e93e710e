//! What happened, in order: as one number to compare runs by, or as lines to read.
//! Knows nothing of what is right. Off, it costs nothing.

use std::fmt::{self, Debug, Write as _};
use std::time::Duration;

use protocol::PeerId;

/// How much of a run is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    #[default]
    None,
    /// A running hash of everything.
    Hash,
    /// Lines on standard output.
    Lines,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    detail: Detail,
    hash: Fnv,
    names: Vec<(String, String)>,
}

/// FNV-1a, 64 bits: enough to tell two runs apart.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    pub(crate) fn new(detail: Detail) -> Trace {
        Trace { detail, ..Trace::default() }
    }

    pub(crate) fn introduce(&mut self, peer: PeerId, name: &str) {
        self.names.push((format!("PeerId(\"{peer}\")"), name.to_owned()));
    }

    /// Something happened at a node.
    pub(crate) fn line(&mut self, at: Duration, name: &str, what: &str, thing: &dyn Debug) {
        match self.detail {
            Detail::None => {}
            Detail::Hash => write!(self.hash, "{at:?} {name} {what} {thing:?}").expect("hashing cannot fail"),
            Detail::Lines => {
                let mut text = format!("{thing:?}");
                for (id, name) in &self.names {
                    text = text.replace(id, name);
                }
                println!("{:>12.6} {name:<5} {what} {}", at.as_secs_f64(), shorten(&text));
            }
        }
    }

    /// The hash of everything so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }
}

/// Long lists of numbers as their length, long texts as their beginning.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 700;
    let mut short = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        short.push_str(&rest[..open]);
        rest = &rest[open..];
        let end = rest[1..].find(|c: char| !(c.is_ascii_digit() || c == ',' || c == ' ')).map_or(rest.len(), |end| end + 1);
        if rest[end..].starts_with(']') && end > 30 {
            let _ = write!(short, "[..{}]", rest[..end].matches(',').count() + 1);
            rest = &rest[end + 1..];
        } else {
            short.push('[');
            rest = &rest[1..];
        }
    }
    short.push_str(rest);
    if short.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| short.is_char_boundary(*end)).unwrap_or(0);
        short.truncate(end);
        short.push('…');
    }
    short
}
