//! `inbox`: letters to this node and the outcomes of its orders, in the order they were given their place.
//! Knows nothing of how they came. A letter is marked read only when a person has seen it on a terminal.

use std::collections::BTreeMap;

use clap::Args;

use super::failure::{DONE, Failure, NO_NODE};
use super::places::typed;
use super::send::short;
use super::sent::{text, time};
use super::terminal::{Terminal, closed, line, print};
use super::{Context, outcome};
use crate::control::api::{InboxEntry, MarkRead, What};
use crate::control::client::quoted;

/// Letters shown to a person who asks for no number.
const SCREEN: usize = 50;

#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal the newest 50 are shown, and marked read. In a pipe, and with --json, all are shown and none is marked: for\n\
                        that, `node read ID`. Each order of this node has one outcome here, also where it was away when the order ended."
)]
pub(super) struct InboxArgs {
    /// Only what was not read yet
    #[arg(long)]
    unread: bool,
    /// Only letters, not the outcomes of orders
    #[arg(long, conflicts_with = "outcomes")]
    letters: bool,
    /// Only the outcomes of orders, no letters
    #[arg(long, conflicts_with = "from")]
    outcomes: bool,
    /// Only letters of this peer
    #[arg(long, value_name = "PEER")]
    from: Option<String>,
    /// Only what came after this number
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    /// Go on showing what comes
    #[arg(long)]
    follow: bool,
    /// The newest N; with --after, the first N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: Option<u16>,
}

pub(super) async fn execute(args: InboxArgs, context: &Context) -> Result<u8, Failure> {
    // First the events, then the look: a letter that comes between them is told.
    let events = if args.follow { Some(context.client.events(None).await?) } else { None };
    let mut cursor = last(context).await?;
    let entries = listed(&args, context).await?;
    cursor = cursor.max(entries.last().map_or(0, |entry| entry.n));
    show(&entries, &args, context, true).await?;
    if context.terminal.is && !context.json && args.limit.is_none() && args.after.is_none() && entries.len() == SCREEN {
        print(&format!("the newest {SCREEN}; all of them: --after 0\n"))?;
    }
    let Some(mut events) = events else { return Ok(DONE) };
    let mut closed = std::pin::pin!(closed());
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            () = &mut closed => return Err(Failure::ClosedPipe),
        };
        let Some(event) = event else { return Err(Failure::new(NO_NODE, "the node stopped")) };
        if matches!(event.what, What::LettersShown { last_n, .. } if last_n > cursor) || matches!(event.what, What::Gap { .. }) {
            let entries: Vec<InboxEntry> = context.client.all(&path(&args, &format!("after={cursor}&limit=1000"))).await?;
            if let Some(newest) = entries.last() {
                cursor = newest.n;
            }
            show(&entries, &args, context, false).await?;
        }
    }
}

/// The greatest number given.
pub(super) async fn last(context: &Context) -> Result<u64, Failure> {
    let newest: Vec<InboxEntry> = context.client.get("/v1/inbox?newest=true&limit=1").await?;
    Ok(newest.first().map_or(0, |entry| entry.n))
}

fn path(args: &InboxArgs, which: &str) -> String {
    let mut path = format!("/v1/inbox?{which}");
    if args.unread {
        path += "&unread=true";
    }
    if args.letters {
        path += "&only=letters";
    }
    if args.outcomes {
        path += "&only=outcomes";
    }
    if let Some(from) = &args.from {
        path += &format!("&from={}", quoted(from));
    }
    path
}

async fn listed(args: &InboxArgs, context: &Context) -> Result<Vec<InboxEntry>, Failure> {
    let limit = args.limit.map(usize::from);
    let screen = if context.terminal.is && !context.json { Some(SCREEN) } else { None };
    Ok(match (args.after, limit.or(screen)) {
        (Some(after), _) => match limit {
            Some(limit) => context.client.get(&path(args, &format!("after={after}&limit={limit}"))).await?,
            None => context.client.all(&path(args, &format!("after={after}&limit=1000"))).await?,
        },
        (None, Some(limit)) => {
            let mut newest: Vec<InboxEntry> = context.client.get(&path(args, &format!("newest=true&limit={limit}"))).await?;
            newest.reverse();
            newest
        }
        (None, None) => context.client.all(&path(args, "limit=1000")).await?,
    })
}

async fn show(entries: &[InboxEntry], args: &InboxArgs, context: &Context, first: bool) -> Result<(), Failure> {
    let following = args.follow;
    if context.json {
        if !following {
            return context.document(&entries);
        }
        return entries.iter().try_for_each(|entry| context.document(entry));
    }
    if entries.is_empty() {
        if first && !following && context.terminal.is {
            print(&nothing(args))?;
        }
        return Ok(());
    }
    let mut text = table(entries, context.terminal, first);
    let unread: Vec<u64> = entries.iter().filter(|entry| entry.read_at.is_none()).map(|entry| entry.n).collect();
    if context.terminal.is && !following {
        text += &summary(entries, unread.len());
    }
    print(&text)?;
    if context.terminal.is {
        mark(&unread, context).await?;
    }
    Ok(())
}

/// What a person is told where there is no table.
fn nothing(args: &InboxArgs) -> String {
    let what = match (args.outcomes, args.letters) {
        (true, _) => "outcomes of orders",
        (_, true) => "letters",
        _ => "letters or outcomes of orders",
    };
    let unread = if args.unread { "unread " } else { "" };
    let next = match (args.unread || args.after.is_some() || args.from.is_some(), args.outcomes) {
        (true, _) => "all that came: node inbox",
        (false, true) => "orders that have not ended: node tasks",
        (false, false) => "to show what comes, when it comes: node inbox --follow",
    };
    typed(&format!("no {unread}{what}\n  {next}\n"))
}

/// Says that a person has seen them.
pub(super) async fn mark(numbers: &[u64], context: &Context) -> Result<(), Failure> {
    for some in numbers.chunks(1_000) {
        let read = MarkRead { ids: Vec::new(), n: some.to_vec() };
        let _: Vec<InboxEntry> = context.client.post("/v1/inbox/read", &read).await?;
    }
    Ok(())
}

fn table(entries: &[InboxEntry], terminal: Terminal, head: bool) -> String {
    let mut bearers: BTreeMap<&str, &str> = BTreeMap::new();
    // Two of one name in one table: their keys tell them apart.
    let mut doubled: Vec<&str> = Vec::new();
    for entry in entries {
        let (name, id) = (entry.envelope.author.as_str(), entry.envelope.author_id.as_str());
        if *bearers.entry(name).or_insert(id) != id {
            doubled.push(name);
        }
    }
    let rows: Vec<[String; 4]> = entries
        .iter()
        .map(|entry| {
            let envelope = &entry.envelope;
            let tail = envelope.author_id.get(envelope.author_id.len().saturating_sub(8)..).unwrap_or_default();
            let from =
                if doubled.contains(&envelope.author.as_str()) { format!("{}@{tail}", envelope.author) } else { envelope.author.clone() };
            let missing = if entry.missing_before > 0 { format!("({} missing) ", entry.missing_before) } else { String::new() };
            [
                short(&envelope.id).to_owned(),
                line(&from),
                time(&envelope.timestamp),
                missing + &line(&outcome::of(envelope).map_or_else(|| text(envelope), |task| outcome::brief(&task))),
            ]
        })
        .collect();
    let table = terminal.table(["ID", "FROM", "WRITTEN", "TEXT"], &rows);
    if head { table } else { table.split_once('\n').map_or(String::new(), |(_, rows)| rows.to_owned()) }
}

fn summary(entries: &[InboxEntry], unread: usize) -> String {
    let outcomes = entries.iter().filter(|entry| outcome::of(&entry.envelope).is_some()).count();
    let count = |count: usize, one: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        many => Some(format!("{many} {one}s")),
    };
    let shown: Vec<String> = count(entries.len() - outcomes, "letter").into_iter().chain(count(outcomes, "outcome")).collect();
    let shown = shown.join(", ");
    match unread {
        0 => format!("{shown}, read before\n"),
        new if new == entries.len() => format!("{shown}, marked read\n"),
        new => format!("{shown}, {new} of them new and now marked read\n"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::sent;
    use crate::control::api::{OutcomeEvent, OutcomePayload, Task, TaskState};

    pub(in crate::cli) fn entry(n: u64, from: &str, id: &str, text: &str) -> InboxEntry {
        let mut envelope = sent::tests::letter(Vec::new()).envelope;
        envelope.author = from.to_owned();
        envelope.author_id = id.to_owned();
        envelope.payload = text.into();
        InboxEntry { envelope, n, missing_before: 0, received_at: "1970-01-01T00:00:00.000Z".to_owned(), read_at: None }
    }

    #[test]
    fn letters_are_shown_one_a_line_whatever_is_in_them() {
        let mut letters = [entry(1, "markus", "12D3KooWaaaaaaaa", "Hello"), entry(2, "nikki", "12D3KooWbbbbbbbb", "two\nlines\u{1b}[0m")];
        letters[1].missing_before = 2;
        assert_eq!(
            table(&letters, Terminal::none(), true),
            "ID        FROM    WRITTEN     TEXT\n\
             4kq7t2mx  markus  1970-01-01  Hello\n\
             4kq7t2mx  nikki   1970-01-01  (2 missing) two⏎lines\\u{1b}[0m\n"
        );
        assert!(!table(&letters, Terminal::none(), false).contains("FROM"));
    }

    #[test]
    fn two_of_one_name_are_told_apart() {
        let letters = [entry(1, "nikki", "12D3KooWaaaaaaaa", "a"), entry(2, "nikki", "12D3KooWbbbbbbbb", "b")];
        let table = table(&letters, Terminal::none(), true);
        assert!(table.contains("nikki@aaaaaaaa") && table.contains("nikki@bbbbbbbb"), "{table}");
    }

    #[test]
    fn the_last_line_says_what_was_marked() {
        let letter = || entry(1, "markus", "12D3KooWaaaaaaaa", "Hello");
        assert_eq!(summary(&[letter()], 1), "1 letter, marked read\n");
        assert_eq!(summary(&[letter(), letter(), letter()], 1), "3 letters, 1 of them new and now marked read\n");
        assert_eq!(summary(&[letter(), letter(), letter()], 0), "3 letters, read before\n");
        assert_eq!(summary(&[ended(), letter()], 2), "1 letter, 1 outcome, marked read\n");
        assert_eq!(summary(&[ended(), ended()], 0), "2 outcomes, read before\n");
    }

    fn ended() -> InboxEntry {
        let task = Task { order: 17, service: "coffee".to_owned(), state: TaskState::Done, ..Task::default() };
        let task = Task { worker: Some("nikki-pi".to_owned()), stdout: Some("one\nlatte\n".to_owned()), ..task };
        let mut entry = entry(1, "markus", "12D3KooWaaaaaaaa", "");
        entry.envelope.kind = "event".to_owned();
        entry.envelope.payload = serde_json::to_value(OutcomePayload { event: OutcomeEvent::Outcome, task }).expect("good");
        entry
    }

    #[test]
    fn an_outcome_is_one_line_among_the_letters_and_whole_where_it_is_read() {
        let told = table(&[ended()], Terminal::none(), false);
        assert!(told.ends_with("order 17 coffee: done at nikki-pi: one …\n"), "{told}");
        assert_eq!(text(&ended().envelope), "order 17 coffee: done at nikki-pi\none\nlatte");
    }
}
