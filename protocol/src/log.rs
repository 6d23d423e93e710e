//! Questions to the record, and what answers them.
//! Knows nothing of disks. Whether an entry concerns an order or a letter is decided here, for whoever keeps entries.

use std::collections::BTreeSet;

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};

use crate::id::{Epoch, LetterId};
use crate::now::Timestamp;
use crate::order::Try;
use crate::segment::{Tries, What};

/// Entries of one page of a question at most (as pages of the API).
pub const PAGE: usize = 1_000;
/// Bytes of the entries of one page, about, but at least one entry (guess: a page then fits a frame, and comes in a moment).
pub const PAGE_BYTES: usize = 1024 * 1024;
/// Kinds of entry that a question names at most (guess: nobody types more).
const KINDS: usize = 16;
/// Bytes of one such word.
const KIND_BYTES: usize = 32;
/// Numbers that share one hash of the index: orders, and letters of one stream (guess: a commit's worth).
const BUCKET: u64 = 64;
/// Hashes that one entry leaves in the index, at most: beyond it the entry counts as being about everything.
const HASHES: u64 = 4_096;
/// In the index, of an entry that is about too much to be named.
pub const EVERYTHING: u32 = u32::MAX;

/// What somebody wants to know of the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Where the page before ended; none for the first.
    pub after: Option<Cursor>,
    /// Entries wanted.
    pub limit: usize,
    /// In the order in which the keeper got them, not by time: whoever follows misses nothing.
    pub arrivals: bool,
    /// By time, but from the newest back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub newest: bool,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// Only what this peer wrote down.
    pub peer: Option<PeerId>,
    /// Only what concerns this.
    pub about: Option<About>,
    /// Only kinds whose names begin with one of these words; all if there are none.
    pub what: Vec<String>,
}

/// An order or a letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// An order, or one unit of it.
    Order {
        /// Whose.
        orderer: PeerId,
        /// Its number.
        number: u64,
        /// Which unit; none for all.
        unit: Option<u32>,
    },
    /// The letter whose id begins so: 4 to 26 characters.
    Letter {
        /// In lower case.
        prefix: String,
    },
}

/// A place between two entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// By time: the time up to which, and of entries of one time the chain and the sequence.
    Time {
        /// In milliseconds; never less than that of an earlier entry of the chain.
        clock: u64,
        /// The chain is a copy of another peer's.
        copy: bool,
        /// Its number on the keeper's disk.
        ordinal: u32,
        /// The last entry.
        seq: u64,
    },
    /// By arrival: the segment's number on the keeper's disk, and how many of its entries were told.
    Arrival {
        /// Which.
        no: u64,
        /// So many.
        told: u32,
    },
}

/// One page of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// In the order asked for.
    pub entries: Vec<Logged>,
    /// Where the next page begins; none if there is none. By arrival there always is one.
    pub next: Option<Cursor>,
    /// Letters whose ids begin as asked, where there are several: nothing else was looked for.
    pub candidates: Vec<LetterId>,
    /// Not everything that was written before this is kept any more; told with the first page of what reaches so far back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_since: Option<Timestamp>,
}

/// One entry of somebody's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// Who wrote it down.
    pub author: PeerId,
    /// In which chain.
    pub chain: u64,
    /// Its author has signed others under the same numbers: in which of these lines it is, from 1; 0 is the first that its keeper saw.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub branch: u8,
    /// Its sequence.
    pub seq: u64,
    /// When, by its author's clock.
    pub time: Timestamp,
    /// What; none if it is of a kind that its keeper does not know.
    pub what: Option<What>,
    /// Its segment and the one beside it do not fit: one of the two was changed on the keeper's disk. Only `log --verify` proves the rest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubtful: bool,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

impl Logged {
    /// About how many bytes it takes in an answer.
    #[must_use]
    pub fn weight(&self) -> usize {
        match &self.what {
            Some(What::LetterAccepted { to, .. }) => 150 + 48 * to.len(),
            Some(What::UnitsAssigned { of, .. } | What::UnitsStarted { of } | What::UnitsEnded { of, .. }) => 350 + 16 * of.runs.len(),
            _ => 250,
        }
    }
}

impl Question {
    /// Whether every keeper will look at it.
    #[must_use]
    pub fn within_limits(&self) -> bool {
        let about = match &self.about {
            Some(About::Letter { prefix }) => is_prefix(prefix),
            _ => true,
        };
        about
            && !(self.newest && self.arrivals)
            && (1..=PAGE).contains(&self.limit)
            && self.what.len() <= KINDS
            && self.what.iter().all(|word| word.len() <= KIND_BYTES)
    }

    /// Whether an entry of this time and kind is wanted, whatever it is about.
    #[must_use]
    pub fn wants(&self, time: Timestamp, what: Option<&What>) -> bool {
        let kind = || what.map_or("unknown", What::word);
        self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time <= until)
            && (self.what.is_empty() || self.what.iter().any(|word| kind().starts_with(word.as_str())))
    }
}

/// Whether a letter's id can begin so: 4 to 26 characters, as ids are shown.
#[must_use]
pub fn is_prefix(prefix: &str) -> bool {
    (4..=26).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_digit() || (b.is_ascii_lowercase() && !b"ilou".contains(&b)))
}

/// What is looked for, once it is known where its author has put it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An order, or one unit of it.
    Order {
        /// Whose.
        orderer: PeerId,
        /// Its number.
        number: u64,
        /// Which unit; none for all.
        unit: Option<u32>,
    },
    /// A letter that is not found yet: its acceptance.
    Unfound {
        /// How its id begins.
        prefix: String,
    },
    /// A letter.
    Letter {
        /// Its id.
        id: LetterId,
        /// Who wrote it.
        author: PeerId,
        /// To whom, in which epoch of the author, as which number.
        copies: BTreeSet<(PeerId, Epoch, u64)>,
    },
}

impl Subject {
    /// What is looked for first.
    #[must_use]
    pub fn of(about: &About) -> Subject {
        match about {
            About::Order { orderer, number, unit } => Subject::Order { orderer: *orderer, number: *number, unit: *unit },
            About::Letter { prefix } => Subject::Unfound { prefix: prefix.clone() },
        }
    }

    /// One of these is in the index wherever an entry concerns this.
    #[must_use]
    pub fn hashes(&self) -> Vec<u32> {
        let mut hashes = vec![EVERYTHING];
        match self {
            Subject::Order { orderer, number, .. } => hashes.push(order_hash(orderer, number / BUCKET)),
            Subject::Unfound { prefix } => hashes.push(letter_hash(prefix)),
            Subject::Letter { id, author, copies } => {
                hashes.push(letter_hash(&id.to_string()));
                hashes.extend(copies.iter().map(|(peer, _, seq)| copy_hash(author, peer, seq / BUCKET)));
            }
        }
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }

    /// Whether an entry that `writer` wrote down is about this.
    #[must_use]
    pub fn concerned(&self, writer: &PeerId, what: &What) -> bool {
        match self {
            Subject::Order { orderer, number, unit } => of_order(writer, what, orderer, *number, *unit),
            Subject::Unfound { prefix } => {
                matches!(what, What::LetterAccepted { letter, .. } if letter.to_string().starts_with(prefix.as_str()))
            }
            Subject::Letter { id, author, copies } => {
                if let What::LetterAccepted { letter, .. } = what {
                    return letter == id;
                }
                let Some((by, to, epoch, first, last)) = of_copies(writer, what) else { return false };
                by == *author && copies.range((to, epoch, first)..=(to, epoch, last)).next().is_some()
            }
        }
    }
}

/// Author, recipient, epoch and numbers of the letters that an entry is about.
fn of_copies(writer: &PeerId, what: &What) -> Option<(PeerId, PeerId, Epoch, u64, u64)> {
    match what {
        What::LettersDelivered { to, epoch, first, last }
        | What::LettersDiscarded { to, epoch, first, last }
        | What::LettersHeld { to, epoch, first, last, .. } => Some((*writer, *to, *epoch, *first, *last)),
        // At the reader itself it does not say whose letters they are: their author has written it down, too.
        What::LettersRead { by, epoch, first, last } if by != writer => Some((*writer, *by, *epoch, *first, *last)),
        What::LettersTaken { author, epoch, first, last } => Some((*author, *writer, *epoch, *first, *last)),
        _ => None,
    }
}

fn of_order(writer: &PeerId, what: &What, orderer: &PeerId, number: u64, unit: Option<u32>) -> bool {
    let mine = writer == orderer;
    let one = |of: &Try| of.order.orderer == *orderer && of.order.number == number && unit.is_none_or(|unit| unit == of.unit);
    let many = |of: &Tries| {
        let within = |(first, last, from, to): &(u64, u64, u32, u32)| {
            (first..=last).contains(&&number) && unit.is_none_or(|unit| (*from..=*to).contains(&unit))
        };
        of.orderer == *orderer && of.runs.iter().any(within)
    };
    match what {
        What::OrdersPlaced { first, last } => mine && (first..=last).contains(&&number),
        What::OrdersQueued { orderer: by, first, last, .. } | What::OrdersHeld { orderer: by, first, last, .. } => {
            by == orderer && (first..=last).contains(&&number)
        }
        What::UnitAssigned { of, .. } | What::UnitStarted { of } | What::UnitEnded { of, .. } | What::TryBroken { of, .. } => one(of),
        What::UnitsAssigned { of, .. } | What::UnitsStarted { of } | What::UnitsEnded { of, .. } => many(of),
        What::OrderCancelled { number: of, .. } | What::OrderEnded { number: of, .. } => mine && *of == number,
        _ => false,
    }
}

/// Tells `found` of everything by which an entry of `writer` can be looked up.
pub fn index(writer: &PeerId, what: &What, mut found: impl FnMut(u32)) {
    let orders = |orderer: &PeerId, first: u64, last: u64, found: &mut dyn FnMut(u32)| {
        if (last / BUCKET).saturating_sub(first / BUCKET) >= HASHES {
            return found(EVERYTHING);
        }
        (first / BUCKET..=last / BUCKET).for_each(|bucket| found(order_hash(orderer, bucket)));
    };
    match what {
        What::OrdersPlaced { first, last } => orders(writer, *first, *last, &mut found),
        What::OrdersQueued { orderer, first, last, .. } | What::OrdersHeld { orderer, first, last, .. } => {
            orders(orderer, *first, *last, &mut found)
        }
        What::UnitAssigned { of, .. } | What::UnitStarted { of } | What::UnitEnded { of, .. } | What::TryBroken { of, .. } => {
            orders(&of.order.orderer, of.order.number, of.order.number, &mut found);
        }
        What::UnitsAssigned { of, .. } | What::UnitsStarted { of } | What::UnitsEnded { of, .. } => {
            of.runs.iter().for_each(|(first, last, ..)| orders(&of.orderer, *first, *last, &mut found));
        }
        What::OrderCancelled { number, .. } | What::OrderEnded { number, .. } => orders(writer, *number, *number, &mut found),
        What::LetterAccepted { letter, .. } => found(letter_hash(&letter.to_string())),
        _ => {
            let Some((author, to, _, first, last)) = of_copies(writer, what) else { return };
            if (last / BUCKET).saturating_sub(first / BUCKET) >= HASHES {
                return found(EVERYTHING);
            }
            (first / BUCKET..=last / BUCKET).for_each(|bucket| found(copy_hash(&author, &to, bucket)));
        }
    }
}

fn order_hash(orderer: &PeerId, bucket: u64) -> u32 {
    hash(&[b"order", &orderer.to_bytes(), &bucket.to_be_bytes()])
}

fn copy_hash(author: &PeerId, to: &PeerId, bucket: u64) -> u32 {
    hash(&[b"copy", &author.to_bytes(), &to.to_bytes(), &bucket.to_be_bytes()])
}

/// By the first four characters, which is the least that people may type.
fn letter_hash(id: &str) -> u32 {
    hash(&[b"letter", id.as_bytes().get(..4).unwrap_or_default()])
}

/// FNV-1a, folded (RFC 9923): where two are alike by chance, a block is looked at in vain.
fn hash(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let folded = u32::try_from((hash >> 32) ^ (hash & 0xffff_ffff)).unwrap_or_default();
    if folded == EVERYTHING { 0 } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Secrets;
    use crate::order::{Attempt, End, OrderKey};

    fn peer(n: u8) -> PeerId {
        Secrets::from_seeds(&[n; 32], &[n; 32]).id()
    }

    fn all_of(number: u64) -> Vec<(PeerId, What)> {
        let attempt = Attempt { term: 1, leader: peer(2), number: 1 };
        let of = Try { order: OrderKey { orderer: peer(1), epoch: Epoch(1), number }, unit: 1, attempt };
        let runs = vec![(number - 1, number + 1, 1, 1)];
        let many = Tries { orderer: peer(1), epoch: Epoch(1), attempt, runs };
        vec![
            (peer(1), What::OrdersPlaced { first: number, last: number }),
            (peer(2), What::OrdersQueued { orderer: peer(1), epoch: Epoch(1), first: 1, last: 200_000 }),
            (peer(2), What::UnitAssigned { of, worker: peer(3) }),
            (peer(3), What::UnitsStarted { of: many }),
            (peer(1), What::OrderEnded { number, end: End::Done }),
        ]
    }

    /// What is found without the index is found with it, and nothing of others is.
    fn check(subject: &Subject, entries: &[(PeerId, What)], expected: usize) {
        let hashes = subject.hashes();
        let found = entries.iter().filter(|(writer, what)| {
            let mut named = false;
            index(writer, what, |hash| named |= hashes.contains(&hash));
            let is = subject.concerned(writer, what);
            assert!(named || !is, "{what:?} is not in the index");
            is
        });
        assert_eq!(found.count(), expected, "{subject:?}");
    }

    #[test]
    fn an_order_is_found_in_whatever_anybody_wrote_of_it() {
        let entries = all_of(1000);
        let subject = |orderer, number, unit| Subject::Order { orderer, number, unit };
        check(&subject(peer(1), 1000, None), &entries, 5);
        check(&subject(peer(1), 1000, Some(1)), &entries, 5);
        check(&subject(peer(1), 1000, Some(2)), &entries, 3);
        check(&subject(peer(1), 1001, None), &entries, 2);
        check(&subject(peer(2), 1000, None), &entries, 0);
    }

    #[test]
    fn a_letter_is_found_by_its_beginning_and_then_by_its_numbers() {
        let (id, other) = (LetterId::new([1; 16]), LetterId::new([2; 16]));
        let entries = vec![
            (peer(1), What::LetterAccepted { letter: id, to: vec![(peer(2), 70)], epoch: Epoch(1) }),
            (peer(1), What::LetterAccepted { letter: other, to: vec![(peer(2), 71)], epoch: Epoch(1) }),
            (peer(1), What::LettersDelivered { to: peer(2), epoch: Epoch(1), first: 3, last: 70 }),
            (peer(1), What::LettersDelivered { to: peer(2), epoch: Epoch(2), first: 3, last: 70 }),
            (peer(2), What::LettersTaken { author: peer(1), epoch: Epoch(1), first: 70, last: 70 }),
            (peer(1), What::LettersRead { by: peer(2), epoch: Epoch(1), first: 71, last: 72 }),
        ];
        check(&Subject::Unfound { prefix: id.to_string()[..4].to_owned() }, &entries, 1);
        let copies = BTreeSet::from([(peer(2), Epoch(1), 70)]);
        check(&Subject::Letter { id, author: peer(1), copies }, &entries, 3);
    }

    #[test]
    fn questions_that_no_keeper_looks_at() {
        let good = Question { limit: 1, ..Question::default() };
        assert!(good.within_limits());
        let letter = |prefix: &str| Some(About::Letter { prefix: prefix.to_owned() });
        assert!(Question { about: letter("4kq7"), ..good.clone() }.within_limits());
        for bad in ["4kq", "4KQ7", "ilou", "4kq7/", ""] {
            assert!(!Question { about: letter(bad), ..good.clone() }.within_limits(), "{bad}");
        }
        assert!(!Question { limit: 0, ..good.clone() }.within_limits());
        assert!(!Question { limit: PAGE + 1, ..good.clone() }.within_limits());
        assert!(!Question { what: vec!["x".repeat(33)], ..good }.within_limits());
    }
}
