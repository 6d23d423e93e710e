//! `read ID…`: letters in full, marked read for programs as for people.
//! Knows nothing of lists. All are marked, or none.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::sent::{text, time};
use super::terminal::{block, line, print};
use super::words::letter;
use crate::control::api::{InboxEntry, MarkRead};

#[derive(Debug, Args)]
pub(super) struct ReadArgs {
    /// Ids as `inbox` shows them
    #[arg(required = true, value_name = "ID", value_parser = letter)]
    ids: Vec<String>,
}

pub(super) async fn execute(args: ReadArgs, context: &Context) -> Result<u8, Failure> {
    let letters: Vec<InboxEntry> = context.client.post("/v1/inbox/read", &MarkRead { ids: args.ids, n: Vec::new() }).await?;
    if context.json {
        context.document(&letters)?;
    } else {
        print(&letters.iter().map(full).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(DONE)
}

fn full(entry: &InboxEntry) -> String {
    let envelope = &entry.envelope;
    let others = envelope.recipients.len().saturating_sub(1);
    let others = if others > 0 { format!(", also to {others} more") } else { String::new() };
    let reply = envelope.in_reply_to.as_ref().map(|id| format!("  in reply to {}\n", line(id))).unwrap_or_default();
    format!(
        "{}  from {}  {}{others}\n{reply}{}",
        envelope.id,
        line(&envelope.author),
        time(&envelope.timestamp),
        block(&text(envelope), "    ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::inbox::tests::entry;

    #[test]
    fn a_letter_in_full_keeps_its_lines_and_nothing_that_steers() {
        assert_eq!(
            full(&entry(1, "nikki", "x", "one\ntwo\u{202e}")),
            "4kq7t2mx000000000000000000  from nikki  1970-01-01\n    one\n    two\\u{202e}\n"
        );
    }
}
