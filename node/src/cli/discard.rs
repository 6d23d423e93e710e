//! `discard ID…`: letters that should not be sent any more.
//! Knows nothing of how copies are called back. Says of each recipient whether the letter is sure not to arrive.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::send::short;
use super::sent;
use super::terminal::{line, print};
use super::words::letter;
use crate::control::api::{Delivery, Letter, State, Why};
use crate::control::client::quoted;

#[derive(Debug, Args)]
#[command(after_help = "A recipient that has the letter keeps it. Copies held by others are called back; where that is not sure yet,\n\
                        `node sent ID` shows it later: discarded, or delivered.")]
pub(super) struct DiscardArgs {
    /// Ids as `sent` shows them
    #[arg(required = true, value_name = "ID", value_parser = letter)]
    ids: Vec<String>,
}

pub(super) async fn execute(args: DiscardArgs, context: &Context) -> Result<u8, Failure> {
    // One that is wrong must not leave half of them discarded: all are looked up first.
    let mut ids = Vec::with_capacity(args.ids.len());
    for id in &args.ids {
        let letter: Letter = context.client.get(&format!("/v1/sent/{}", quoted(id))).await?;
        ids.push(letter.envelope.id);
    }
    let (mut letters, mut failed): (Vec<Letter>, Option<Failure>) = (Vec::new(), None);
    for id in ids {
        match context.client.take_back::<Letter>(&format!("/v1/letters/{}", quoted(&id))).await {
            Ok(letter) => letters.push(letter),
            // The others are discarded all the same.
            Err(error) => failed = Some(failed.unwrap_or_else(|| error.into())),
        }
    }
    if context.json {
        if failed.is_none() || !letters.is_empty() {
            context.document(&letters)?;
        }
    } else {
        print(&letters.iter().map(told).collect::<String>())?;
    }
    failed.map_or(Ok(DONE), Err)
}

fn told(letter: &Letter) -> String {
    let mut text = String::new();
    for copy in &letter.deliveries {
        text += &format!("{}  {}  {}\n", short(&letter.envelope.id), line(&copy.to), fate(copy));
    }
    text
}

fn fate(copy: &Delivery) -> String {
    match copy.state {
        State::Discarded => "discarded: it will not arrive".to_owned(),
        State::Delivered | State::Read => format!("{} before: it stays there", sent::state(copy.state)),
        _ if copy.why == Some(Why::Discarding) => {
            "not sent any more; copies are called back, but it may arrive until this recipient has signed for that".to_owned()
        }
        _ => sent::state(copy.state).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sent::tests::{copy, letter};

    #[test]
    fn of_each_recipient_it_is_said_whether_the_letter_may_still_arrive() {
        let letter = letter(vec![
            copy("a", State::Discarded, None),
            copy("b", State::Accepted, Some(Why::Discarding)),
            copy("c\u{1b}", State::Read, None),
        ]);
        assert_eq!(
            told(&letter),
            "4kq7t2mx  a  discarded: it will not arrive\n\
             4kq7t2mx  b  not sent any more; copies are called back, but it may arrive until this recipient has signed for that\n\
             4kq7t2mx  c\\u{1b}  read before: it stays there\n"
        );
    }
}
