//! Reading the inbox: letters, and the outcomes of orders.
//! Knows nothing of who looks. Lists are ascending by `n`; a letter is decoded only when it is handed out.

use protocol::effect::InStream;
use protocol::envelope::Envelope;
use protocol::input::{OUTCOMES, Place};
use protocol::{LetterId, PeerId, Timestamp};
use redb::{ReadTransaction, ReadableTable};

use super::fault::Fault;
use super::orders::{self, OrderSummary, UnitEnd};
use super::read::{Reader, ids_beginning};
use super::tables::InboxRow;
use super::{ReadError, rows, tables};

/// Letters that a prefix of an id may name at once (guess: whoever typed it must type more anyway).
pub const HITS: usize = 10;

/// Which inbox letters are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxQuery {
    /// Only those with a greater `n`.
    pub after: u64,
    /// Only those with a lesser `n`.
    pub before: Option<u64>,
    /// Only those that were not read.
    pub unread: bool,
    /// Only letters of this author.
    pub from: Option<PeerId>,
    /// Letters, outcomes, or both.
    pub kind: Kind,
    /// At most so many …
    pub limit: usize,
    /// … and of more the last instead of the first.
    pub newest: bool,
}

impl Default for InboxQuery {
    /// The first page of everything.
    fn default() -> Self {
        InboxQuery { after: 0, before: None, unread: false, from: None, limit: 100, newest: false, kind: Kind::All }
    }
}

/// What is in the inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Everything.
    #[default]
    All,
    /// What peers wrote.
    Letters,
    /// How orders of this node ended.
    Outcomes,
}

/// A letter in the inbox, or an outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct InboxLetter {
    /// Its number in the inbox.
    pub n: u64,
    /// What it is called.
    pub id: LetterId,
    /// The same, and where it is among its author's letters.
    pub place: Place,
    /// Letters of its author that were missing before it when it was shown.
    pub missing_before: u64,
    /// When it was committed.
    pub received: Timestamp,
    /// When it was read.
    pub read: Option<Timestamp>,
    /// What it says.
    pub content: Content,
}

impl InboxLetter {
    /// The letter, if it is one.
    #[must_use]
    pub fn envelope(&self) -> Option<&Envelope> {
        match &self.content {
            Content::Letter(envelope) => Some(envelope),
            Content::Outcome(_) => None,
        }
    }
}

/// What an entry of the inbox says.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most are letters, and each is handed on once")]
pub enum Content {
    /// What a peer wrote.
    Letter(Envelope),
    /// How an order of this node ended, as far as its own rows tell.
    Outcome(Box<Outcome>),
}

/// How an order of this node ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The order.
    pub order: OrderSummary,
    /// How its unit ended, if it has only one and that has.
    pub end: Option<UnitEnd>,
}

impl Reader {
    /// The inbox letters that `query` asks for, ascending by `n`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn inbox(&self, query: &InboxQuery) -> Result<Vec<InboxLetter>, ReadError> {
        let first = query.after.saturating_add(1);
        let Some(last) = query.before.unwrap_or(u64::MAX).checked_sub(1).filter(|last| *last >= first) else { return Ok(Vec::new()) };
        self.with(|txn| {
            let inbox = txn.open_table(tables::INBOX)?;
            let streams = query.from.map(|author| streams_of(txn, author)).transpose()?;
            let wanted = |row: &InboxRow<'_>| match query.kind {
                Kind::Outcomes => row.0 == OUTCOMES && streams.is_none(),
                Kind::Letters if row.0 == OUTCOMES => false,
                Kind::All | Kind::Letters => streams.as_ref().is_none_or(|streams| streams.contains(&row.0)),
            };
            let mut letters = Vec::new();
            let mut keep = |n: u64, row: InboxRow<'_>| -> Result<bool, Fault> {
                if letters.len() < query.limit && wanted(&row) {
                    letters.push(letter(txn, n, row)?);
                }
                Ok(letters.len() < query.limit)
            };
            if query.unread {
                let unread = txn.open_table(tables::UNREAD)?;
                let range = unread.range(first..=last)?;
                visit(range, query.newest, |n, ()| {
                    let row = inbox.get(n)?.ok_or_else(|| Fault::row(&tables::INBOX, &n, "missing"))?;
                    keep(n, row.value())
                })?;
            } else {
                visit(inbox.range(first..=last)?, query.newest, keep)?;
            }
            if query.newest {
                letters.reverse();
            }
            Ok(letters)
        })
    }

    /// The inbox letters whose id begins so, at most [`HITS`] and of more the newest; ascending by `n`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn inbox_by_id(&self, prefix: &str) -> Result<Vec<InboxLetter>, ReadError> {
        let Some((least, greatest)) = ids_beginning(prefix) else { return Ok(Vec::new()) };
        self.with(|txn| {
            let inbox = txn.open_table(tables::INBOX)?;
            let mut letters = Vec::new();
            for row in inbox.iter()?.rev() {
                let (n, row) = row?;
                let id = row.value().5;
                if (least.as_bytes()..=greatest.as_bytes()).contains(&id) {
                    letters.push(letter(txn, n.value(), row.value())?);
                    if letters.len() == HITS {
                        break;
                    }
                }
            }
            letters.reverse();
            Ok(letters)
        })
    }

    /// The inbox letter of this number.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn inbox_n(&self, n: u64) -> Result<Option<InboxLetter>, ReadError> {
        self.with(|txn| txn.open_table(tables::INBOX)?.get(n)?.map(|row| letter(txn, n, row.value())).transpose())
    }
}

/// Calls `visit` for each row of `range`, from its end if `newest`, until it says false.
pub(crate) fn visit<V: redb::Value + 'static>(
    mut range: redb::Range<'_, u64, V>,
    newest: bool,
    mut visit: impl for<'v> FnMut(u64, V::SelfType<'v>) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    while let Some(row) = if newest { range.next_back() } else { range.next() } {
        let (n, row) = row?;
        if !visit(n.value(), row.value())? {
            break;
        }
    }
    Ok(())
}

/// The incoming streams of `author`, one for each of its epochs.
fn streams_of(txn: &ReadTransaction, author: PeerId) -> Result<Vec<u32>, Fault> {
    let mut streams = Vec::new();
    for row in txn.open_table(tables::IN_STREAMS)?.iter()? {
        let (no, row) = row?;
        let stream: InStream = rows::cbor(&tables::IN_STREAMS, &no.value(), row.value())?;
        if stream.author == author {
            streams.push(stream.no);
        }
    }
    Ok(streams)
}

fn letter(txn: &ReadTransaction, n: u64, row: InboxRow<'_>) -> Result<InboxLetter, Fault> {
    let (stream, seq, twin, missing_before, read, id) = row;
    let (place, id, read) = (Place { stream, seq, twin, n }, LetterId::new(*id), (read > 0).then_some(Timestamp(read)));
    if stream == OUTCOMES {
        let (order, end) = orders::outcome(txn, seq)?;
        let received = order.state.outcome.as_ref().map_or(order.placed, |outcome| outcome.at);
        let content = Content::Outcome(Box::new(Outcome { order, end }));
        return Ok(InboxLetter { n, id, place, missing_before, received, read, content });
    }
    let key = (stream, seq, twin);
    let taken = txn.open_table(tables::TAKEN)?;
    let row = taken.get(key)?.ok_or_else(|| Fault::row(&tables::TAKEN, &key, "missing"))?;
    let (received, envelope) = rows::read_taken(key, row.value())?;
    Ok(InboxLetter { n, id, place, missing_before, received, read, content: Content::Letter(envelope) })
}
