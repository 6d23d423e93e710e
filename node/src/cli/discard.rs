//! `discard ID…`: letters that should not be sent any more.
//! Knows nothing of how copies are called back. Says of each recipient whether the letter is sure not to arrive. A letter that
//! is refused keeps no other from being discarded.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure, NO_NODE, REFUSED};
use super::send::short;
use super::sent;
use super::terminal::{line, print};
use super::words::letter;
use crate::control::api::{Delivery, Letter, State, Why};
use crate::control::client::quoted;

#[derive(Debug, Args)]
#[command(
    after_help = "A recipient that has the letter keeps it. Copies held by others are called back: whoever holds one lets go of it when it\n\
                        hears of that, at the latest when the recipient has signed that the letter is not wanted any more. Where that is not\n\
                        sure yet, `node sent ID` shows it later: discarded, or delivered."
)]
pub(super) struct DiscardArgs {
    /// Ids as `sent` shows them
    #[arg(required = true, value_name = "ID", value_parser = letter)]
    ids: Vec<String>,
}

pub(super) async fn execute(args: DiscardArgs, context: &Context) -> Result<u8, Failure> {
    let (mut letters, mut refused): (Vec<Letter>, Option<u8>) = (Vec::new(), None);
    for id in &args.ids {
        match context.client.take_back::<Letter>(&format!("/v1/letters/{}", quoted(id))).await.map_err(Failure::from) {
            Ok(letter) if context.json => letters.push(letter),
            Ok(letter) => print(&told(&letter))?,
            Err(failure) if args.ids.len() == 1 || matches!(failure.exit(), NO_NODE) => return Err(failure),
            Err(failure) => {
                let text = if context.json { failure.for_programs() } else { failure.for_people() };
                eprintln!("{}", text.unwrap_or_default());
                refused = Some(REFUSED);
            }
        }
    }
    if context.json {
        context.document(&letters)?;
    }
    Ok(refused.unwrap_or(DONE))
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
