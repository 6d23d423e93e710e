//! How a command fails: with what was wrong, what to type next, and an exit code (DESIGN 10.1).
//! Knows nothing of single commands. With `--json` it is a problem document; a closed pipe is no failure that anyone hears of.

use std::io;

use super::places::{self, typed};
use super::terminal::line;
use crate::control::client;
use crate::control::problem::{Code, Problem};

/// Done.
pub const DONE: u8 = 0;
/// Refused; nothing was accepted.
pub const REFUSED: u8 = 1;
/// Not understood; an unknown or ambiguous name.
pub const USAGE: u8 = 2;
/// No node.
pub const NO_NODE: u8 = 3;
/// Accepted; the end is not known in time.
pub const PENDING: u8 = 4;
/// Accepted, and ended badly.
pub const ENDED_BADLY: u8 = 5;
/// The disk.
pub const DISK: u8 = 74;
/// Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// Somebody should read this.
    Said {
        /// The exit code.
        exit: u8,
        /// What was wrong. Others may have written parts of it: it is escaped when shown.
        what: String,
        /// What to type next, one suggestion a line.
        next: Vec<String>,
        /// What the node said, if it was the node.
        problem: Option<Box<Problem>>,
        /// The order that it is about, which was accepted: its number, and its id as `task` takes it.
        order: Option<(u64, String)>,
    },
    /// Whoever read our output has gone.
    ClosedPipe,
}

impl Failure {
    /// With an exit code.
    #[must_use]
    pub fn new(exit: u8, what: impl Into<String>) -> Failure {
        Failure::Said { exit, what: what.into(), next: Vec::new(), problem: None, order: None }
    }

    /// Not understood.
    #[must_use]
    pub fn usage(what: impl Into<String>) -> Failure {
        Failure::new(USAGE, what)
    }

    /// Of this line of the input, from 1.
    #[must_use]
    pub fn in_line(mut self, number: u64) -> Failure {
        if let Failure::Said { what, .. } = &mut self {
            *what = format!("line {number}: {what}");
        }
        self
    }

    /// About an order, for programs: people are told in words.
    #[must_use]
    pub fn of_order(mut self, number: u64, id: &str) -> Failure {
        if let Failure::Said { order, .. } = &mut self {
            *order = Some((number, id.to_owned()));
        }
        self
    }

    /// What to type next.
    #[must_use]
    pub fn next(mut self, suggestion: impl Into<String>) -> Failure {
        if let Failure::Said { next, .. } = &mut self {
            next.push(suggestion.into());
        }
        self
    }

    /// The exit code. A closed pipe is the reader's choice, not our failure.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Failure::Said { exit, .. } => *exit,
            Failure::ClosedPipe => DONE,
        }
    }

    /// As people read it, without the last newline.
    #[must_use]
    pub fn for_people(&self) -> Option<String> {
        let Failure::Said { what, next, .. } = self else { return None };
        let mut text = format!("error: {}", line(what));
        for suggestion in next {
            text += &format!("\n  {}", typed(&line(suggestion)));
        }
        Some(text)
    }

    /// As programs read it.
    #[must_use]
    pub fn for_programs(&self) -> Option<String> {
        let Failure::Said { exit, what, next, problem, order } = self else { return None };
        let mut document = match problem {
            Some(problem) => serde_json::to_value(problem).ok()?,
            None => Failure::document(*exit, what, next),
        };
        if let Some(hint) = document.get("hint").and_then(|hint| hint.as_str()).map(typed) {
            document["hint"] = hint.into();
        }
        if let (Some((number, id)), Some(fields)) = (order, document.as_object_mut()) {
            fields.insert("order".to_owned(), (*number).into());
            fields.insert("id".to_owned(), id.as_str().into());
        }
        Some(document.to_string())
    }

    /// What the node had no part in, as it would say it.
    fn document(exit: u8, what: &str, next: &[String]) -> serde_json::Value {
        let (code, title) = match exit {
            NO_NODE => ("no_node", "no node is running"),
            PENDING => ("pending", "the end is not known in time"),
            USAGE => ("usage", "the command is not understood"),
            _ => ("failed", "the command failed"),
        };
        let hint = if next.is_empty() { None } else { Some(next.join("; ")) };
        let kind = format!("urn:swarm:problem:{code}");
        let none: [String; 0] = [];
        serde_json::json!({
            "type": kind, "title": title, "status": null, "detail": what, "code": code, "hint": hint, "candidates": none,
        })
    }
}

/// Paragraphs: what was wrong, what may have been meant, how it is typed.
impl From<&clap::Error> for Failure {
    fn from(error: &clap::Error) -> Failure {
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n").map(|lines| lines.split_whitespace().collect::<Vec<_>>().join(" "));
        let what = paragraphs.next().unwrap_or_default();
        let failure = Failure::usage(what.strip_prefix("error: ").unwrap_or(&what));
        paragraphs.filter(|more| !more.is_empty() && !more.starts_with("For more information")).fold(failure, Failure::next)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        let exit = match problem.code {
            Code::Malformed
            | Code::BadAddress
            | Code::BadName
            | Code::BadKey
            | Code::BadOffer
            | Code::UnknownPeer
            | Code::AmbiguousPeer
            | Code::UnknownLetter
            | Code::UnknownOrder
            | Code::NotOffered
            | Code::AmbiguousLetter => USAGE,
            Code::Disk => DISK,
            Code::Stopping => NO_NODE,
            _ => REFUSED,
        };
        let mut what = problem.detail.clone();
        let mut next = Vec::new();
        match (problem.code, problem.candidates.as_slice()) {
            (Code::UnknownPeer, []) | (_, []) => {}
            (Code::UnknownPeer, nearest) => what += &format!("; did you mean {}?", nearest.join(" or ")),
            (_, candidates) => next.push(format!("one of: {}", candidates.join("  "))),
        }
        next.extend(problem.hint.clone());
        Failure::Said { exit, what, next, problem: Some(Box::new(problem)), order: None }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        match error {
            client::Error::Refused(problem) => (*problem).into(),
            client::Error::NoNode(ref dir) => {
                let start = places::start(dir, &places::Environment::new());
                Failure::new(NO_NODE, error.to_string()).next(format!("start one with: {start}"))
            }
            client::Error::NotOurs(_) => Failure::new(NO_NODE, error.to_string()).next("only the user who runs a node may speak to it"),
            client::Error::Broken(_) => Failure::new(NO_NODE, error.to_string()).next("is it still running? see with: node status"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            io::ErrorKind::StorageFull => Failure::new(DISK, error.to_string()),
            _ => Failure::new(REFUSED, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Refusal;

    #[test]
    fn an_unknown_name_is_a_usage_error_that_says_who_may_be_meant() {
        let refusal = Refusal::Unknown { name: "niki-pi".to_owned(), nearest: vec!["nikki-pi".to_owned()] };
        let failure = Failure::from(Problem { hint: Some("add --later".to_owned()), ..refusal.into() });
        assert_eq!(failure.exit(), USAGE);
        assert_eq!(failure.for_people().as_deref(), Some("error: nobody called niki-pi is known; did you mean nikki-pi?\n  add --later"));
        assert!(failure.for_programs().is_some_and(|text| text.contains("\"code\":\"unknown_peer\"")));
    }

    #[test]
    fn an_ambiguous_name_lists_all_who_bear_it() {
        let candidates = vec!["nikki@Kx9Ta7f3".to_owned(), "nikki@aaaaaaaa".to_owned()];
        let failure = Failure::from(Problem::from(Refusal::Ambiguous { name: "nikki".to_owned(), candidates }));
        assert_eq!(failure.exit(), USAGE);
        assert!(failure.for_people().is_some_and(|text| text.contains("one of: nikki@Kx9Ta7f3  nikki@aaaaaaaa")));
    }

    #[test]
    fn what_others_wrote_is_escaped_in_errors_too() {
        let failure = Failure::usage("\u{1b}[31mred");
        assert_eq!(failure.for_people().as_deref(), Some("error: \\u{1b}[31mred"));
    }

    #[test]
    fn programs_read_which_order_it_is_about() {
        let said = |failure: Failure| {
            let text = failure.of_order(17, "nikki-pi/17").for_programs().expect("it is said");
            let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            (document["order"].as_u64(), document["id"].as_str().map(str::to_owned), document["code"].as_str().map(str::to_owned))
        };
        let about = |code: &str| (Some(17), Some("nikki-pi/17".to_owned()), Some(code.to_owned()));
        assert_eq!(said(Failure::new(PENDING, "not ended in time")), about("pending"));
        assert_eq!(said(Problem::new(Code::UnknownOrder, "no such order").into()), about("unknown_order"));
        let plain = Failure::usage("x").for_programs().expect("it is said");
        assert!(!plain.contains("\"order\""), "{plain}");
    }

    #[test]
    fn exits_are_those_of_the_manual() {
        let refused = Refusal::DiskLow { free: 1 };
        assert_eq!(Failure::from(Problem::from(refused)).exit(), REFUSED);
        assert_eq!(Failure::from(client::Error::NoNode("/x".into())).exit(), NO_NODE);
        assert_eq!(Failure::from(Problem::disk("x")).exit(), DISK);
        assert_eq!(Failure::from(Problem::new(Code::BadOffer, "who may order it?")).exit(), USAGE);
        assert_eq!(Failure::from(Problem::new(Code::OffersFull, "too many")).exit(), REFUSED);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit(), DONE);
    }
}
