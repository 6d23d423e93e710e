//! `chat PEER…`: lines typed are letters sent; their letters are lines shown.
//! Keeps nothing: all of it is in `sent` and `inbox`. Works in pipes too; ends with the input.

use clap::Args;
use protocol::envelope::Payload;

use super::failure::{DONE, Failure, INTERRUPTED, NO_NODE, REFUSED};
use super::prompt::{Prompt, Typed};
use super::sent::{self, text, time};
use super::terminal::{block, line, print};
use super::{Context, inbox, send};
use crate::control::api::{Content, InboxEntry, Letter, NewLetter, What, Why};
use crate::control::client::quoted;

/// Letters not read yet that a chat begins with, of each peer.
const BEFORE: usize = 20;

#[derive(Debug, Args)]
pub(super) struct ChatArgs {
    /// With whom
    #[arg(required = true, value_name = "PEER")]
    peers: Vec<String>,
}

pub(super) async fn execute(args: ChatArgs, context: &Context) -> Result<u8, Failure> {
    let mut events = context.client.events(None).await?;
    let mut cursor = inbox::last(context).await?;
    let mut before: Vec<InboxEntry> = Vec::new();
    for peer in &args.peers {
        let path = format!("/v1/inbox?unread=true&newest=true&limit={BEFORE}&from={}", quoted(peer));
        before.extend(context.client.get::<Vec<InboxEntry>>(&path).await?);
    }
    before.sort_by_key(|entry| entry.n);
    before.dedup_by_key(|entry| entry.n);
    cursor = cursor.max(before.last().map_or(0, |entry| entry.n));
    if context.terminal.is && !context.json {
        print(&context.terminal.dim(&format!("with {}; Ctrl-D ends\n", line(&args.peers.join(", ")))))?;
    }
    let mut prompt = Prompt::open(context.terminal.is && !context.json)?;
    show(&before, context, &mut prompt).await?;
    let (mut told, mut number, mut refused) = (Vec::new(), 0u64, false);
    loop {
        tokio::select! {
            event = events.next() => match event? {
                None => return Err(Failure::new(NO_NODE, "the node stopped")),
                Some(event) if matches!(event.what, What::LettersShown { last_n, .. } if last_n > cursor)
                    || matches!(event.what, What::Gap { .. }) =>
                {
                    let newest = inbox::last(context).await?;
                    let mut new = Vec::new();
                    for peer in &args.peers {
                        let path = format!("/v1/inbox?after={cursor}&before={}&limit=1000&from={}", newest + 1, quoted(peer));
                        new.extend(context.client.all::<InboxEntry>(&path).await?);
                    }
                    new.sort_by_key(|entry| entry.n);
                    new.dedup_by_key(|entry| entry.n);
                    cursor = newest;
                    show(&new, context, &mut prompt).await?;
                }
                Some(_) => {}
            },
            typed = prompt.next() => {
                number += 1;
                let failure = match typed {
                    // Whoever typed has seen what was refused; whoever piped learns it from the exit code too.
                    None => return Ok(if refused && !prompt.edits() { REFUSED } else { DONE }),
                    Some(Typed::Line(text)) if text.trim().is_empty() => continue,
                    Some(Typed::Line(text)) => match say(text, &args.peers, context).await {
                        Ok(letter) => {
                            accepted(letter, context, &mut told, &mut prompt).await?;
                            continue;
                        }
                        Err(failure) if failure.exit() == NO_NODE => return Err(failure),
                        Err(failure) => failure,
                    },
                    Some(Typed::NotText) => Failure::usage("it is not UTF-8 and was not sent"),
                    Some(Typed::Interrupted) => return Ok(INTERRUPTED),
                    Some(Typed::Failed(error)) => return Err(error.into()),
                };
                // Refused, and said so; the conversation goes on.
                refused = true;
                let said = if prompt.edits() { failure } else { failure.in_line(number) }.for_people().unwrap_or_default() + "\n";
                if prompt.edits() {
                    prompt.show(&said)?;
                } else {
                    eprint!("{said}");
                }
            },
        }
    }
}

async fn say(text: String, to: &[String], context: &Context) -> Result<Letter, Failure> {
    let new = NewLetter {
        to: to.iter().map(Into::into).collect(),
        payload: Content(Payload::Text(text)),
        kind: None,
        in_reply_to: None,
        key: None,
        later: false,
    };
    Ok(context.client.post("/v1/letters", &new).await?)
}

/// Says why a letter waits and where it is, if it does and that is news.
async fn accepted(letter: Letter, context: &Context, told: &mut Vec<(String, Why)>, prompt: &mut Prompt) -> Result<(), Failure> {
    if context.json {
        return context.document(&letter);
    }
    if !context.terminal.is {
        return Ok(());
    }
    if reasons(&letter) == *told {
        return Ok(());
    }
    // Others hold it within milliseconds; nobody should be told to keep the machine on for those.
    let letter = send::a_moment_later(context, letter).await?;
    let now = reasons(&letter);
    if now != *told {
        let since = sent::away(context, std::slice::from_ref(&letter)).await?;
        prompt.show(&context.terminal.dim(&waits(&letter, &since)))?;
        *told = now;
    }
    Ok(())
}

/// Why a letter waits that does, but for receipts that are due at once.
fn reasons(letter: &Letter) -> Vec<(String, Why)> {
    let waits = letter.deliveries.iter().filter_map(|copy| copy.why.map(|why| (copy.to.clone(), why)));
    waits.filter(|(_, why)| *why != Why::AwaitingReceipt).collect()
}

fn waits(letter: &Letter, since: &sent::Away) -> String {
    let copies = letter.deliveries.iter().filter_map(|copy| copy.why.filter(|why| *why != Why::AwaitingReceipt).map(|why| (copy, why)));
    copies.map(|(copy, why)| format!("  {}; {}\n", sent::why(&copy.to, copy.to_id.as_deref(), why, since), sent::place(copy))).collect()
}

async fn show(entries: &[InboxEntry], context: &Context, prompt: &mut Prompt) -> Result<(), Failure> {
    if context.json {
        return entries.iter().try_for_each(|entry| context.document(entry));
    }
    prompt.show(&entries.iter().map(spoken).collect::<String>())?;
    if context.terminal.is {
        let unread: Vec<u64> = entries.iter().filter(|entry| entry.read_at.is_none()).map(|entry| entry.n).collect();
        inbox::mark(&unread, context).await?;
    }
    Ok(())
}

fn spoken(entry: &InboxEntry) -> String {
    let head = format!("{}  {}: ", time(&entry.envelope.timestamp), line(&entry.envelope.author));
    let body = text(&entry.envelope);
    let missing = if entry.missing_before > 0 { format!("({} missing) ", entry.missing_before) } else { String::new() };
    match body.split_once('\n') {
        None => format!("{head}{missing}{}\n", line(&body)),
        Some((first, rest)) => format!("{head}{missing}{}\n{}", line(first), block(rest, "    ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::inbox::tests::entry;
    use crate::cli::sent::tests::{copy, letter};
    use crate::control::api::State;

    #[test]
    fn where_a_letter_waits_is_said_with_why() {
        let mut held = copy("nikki", State::Held, Some(Why::Away));
        (held.held_by, held.of) = (3, 3);
        let copies = vec![held, copy("markus", State::Accepted, Some(Why::Away)), copy("ada", State::Accepted, Some(Why::AwaitingReceipt))];
        let held = letter(copies);
        let text = waits(&held, &sent::Away::new());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains("nikki") && lines[0].contains("; held 3/3"), "{text}");
        assert!(lines[0].ends_with("you may switch off") && lines[1].ends_with("keep this machine on"), "{text}");
    }

    #[test]
    fn what_is_said_is_shown_with_who_said_it() {
        assert_eq!(spoken(&entry(1, "nikki", "x", "Hi")), "1970-01-01  nikki: Hi\n");
        assert_eq!(spoken(&entry(1, "nikki", "x", "one\ntwo\u{1b}")), "1970-01-01  nikki: one\n    two\\u{1b}\n");
    }
}
