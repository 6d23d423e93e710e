//! `send TO… [-m TEXT]`: one letter, or many with `--batch`.
//! Knows nothing of delivery but what the node says. The id is printed before anything is waited for.

use std::io::{IsTerminal, Read};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use protocol::config::limits::LETTER_BYTES;
use protocol::envelope::Payload;

use super::failure::{DONE, ENDED_BADLY, Failure, PENDING, REFUSED};
use super::terminal::{line, print};
use super::words::{self, brief, duration};
use super::{Context, batch, sent};
use crate::control::api::{Content, Delivery, Letter, NewLetter, State, What, Why};
use crate::control::client::Events;

/// How long `send` looks for a better rung when somebody watches (DESIGN 10.1).
const GLANCE: Duration = Duration::from_secs(1);
/// How long it relies on events alone (guess: who refuses is asked again after a minute).
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(override_usage = "send TO... [-m TEXT] [OPTIONS]\n       send --batch [OPTIONS] < FILE")]
pub(super) struct SendArgs {
    /// To whom: names as `peers` shows them
    #[arg(required_unless_present = "batch", conflicts_with = "batch", value_name = "TO")]
    to: Vec<String>,
    /// The text; without it, it is read from a pipe
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "batch")]
    message: Option<String>,
    /// Wait until all recipients have come so far
    #[arg(long, value_name = "RUNG", conflicts_with = "batch")]
    until: Option<Until>,
    /// How long to wait: 30s, 5m, 2h, 1d
    #[arg(long, value_name = "D", value_parser = duration, requires = "until")]
    timeout: Option<Duration>,
    /// A name that nobody bears yet: wait for its first bearer
    #[arg(long, conflicts_with = "batch")]
    later: bool,
    /// Send only once, however often this is repeated with the same key
    #[arg(long, value_name = "KEY", conflicts_with = "batch")]
    key: Option<String>,
    /// The letter that this one answers
    #[arg(long, value_name = "ID", value_parser = words::letter, conflicts_with = "batch")]
    reply_to: Option<String>,
    /// Read letters as JSON lines: {"to": ["nikki"], "payload": "Hello"}, and optionally "key", "reply_to", "later". Good lines are
    /// sent, whatever the others are; the exit code is 1 if any was refused
    #[arg(long)]
    batch: bool,
}

/// Rungs that can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Until {
    /// On the disks of as many other machines as can hold it: this one may be switched off
    Held,
    /// The recipient's node has signed for it
    Delivered,
    /// And it was read
    Read,
}

impl Until {
    fn state(self) -> State {
        match self {
            Until::Held => State::Held,
            Until::Delivered => State::Delivered,
            Until::Read => State::Read,
        }
    }
}

pub(super) async fn execute(args: SendArgs, context: &Context) -> Result<u8, Failure> {
    if args.batch {
        return batch::letters(context).await;
    }
    let text = match args.message {
        Some(text) => text,
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::usage("what should the letter say?").next("add -m TEXT, or pipe a text in"));
        }
        None => piped(std::io::stdin().lock())?,
    };
    let new = NewLetter {
        to: args.to.iter().map(Into::into).collect(),
        payload: Content(Payload::Text(text)),
        kind: None,
        in_reply_to: args.reply_to.map(Into::into),
        key: args.key.map(Into::into),
        later: args.later,
    };
    let began = Instant::now();
    let mut letter: Letter = context.client.post("/v1/letters", &new).await.map_err(|error| Failure::from(error).for_sending())?;
    let first = match (context.json, context.terminal.is) {
        (true, _) => Ok(()),
        (false, true) => print(&format!("accepted {}", short(&letter.envelope.id))),
        (false, false) => print(&format!("{}\n", letter.envelope.id)),
    };
    first.map_err(|failure| failure.after_accepting(&letter.envelope.id))?;
    let wanted = args.until.map_or(State::Delivered, Until::state);
    // Patience is the caller's: it began when the command did.
    let patience = if args.until.is_some() { args.timeout.map(|all| all.saturating_sub(began.elapsed())) } else { Some(GLANCE) };
    if args.until.is_some() || (context.terminal.is && !context.json) {
        let hopeless = |letter: &Letter| args.until.is_none() && !letter.deliveries.iter().any(may_rise);
        letter = climb(context, letter, wanted, patience, hopeless).await?;
    }
    let shown = if context.json {
        context.document(&letter)
    } else if context.terminal.is {
        let since = sent::away(context, std::slice::from_ref(&letter)).await?;
        print(&told(&letter, began.elapsed(), &since))
    } else {
        Ok(())
    };
    shown.map_err(|failure| failure.after_accepting(&letter.envelope.id))?;
    if args.until.is_some()
        && let Some(copy) = letter.deliveries.iter().find(|copy| copy.state == State::Discarded)
    {
        let said = format!("{} was discarded before it reached {}", letter.envelope.id, line(&copy.to));
        return Err(Failure::new(ENDED_BADLY, said));
    }
    let missing: Vec<&Delivery> = letter.deliveries.iter().filter(|copy| copy.state < wanted).collect();
    if args.until.is_none() || missing.is_empty() {
        return Ok(DONE);
    }
    Err(pending(&letter, wanted, &missing))
}

/// Patience has ended before the rung was reached.
fn pending(letter: &Letter, wanted: State, missing: &[&Delivery]) -> Failure {
    let word = match wanted {
        State::Held => "held by another machine",
        State::Read => "read",
        _ => "delivered",
    };
    let copies: Vec<String> = missing.iter().map(|copy| format!("{} ({})", copy.to, sent::state(copy.state))).collect();
    let said = format!("{} is accepted, but not yet {word} by the end of the time: {}", letter.envelope.id, copies.join(", "));
    let failure = Failure::new(PENDING, said);
    let failure = match missing.iter().find(|copy| copy.state < State::Held) {
        Some(copy) if wanted == State::Held => failure.next(sent::place(copy)),
        _ => failure,
    };
    failure.next(format!("see how far it got: node sent {}", short(&letter.envelope.id)))
}

impl Failure {
    /// What could not be shown was accepted all the same: whoever sends it again would double it.
    fn after_accepting(self, id: &str) -> Failure {
        match self {
            Failure::Said { what, next, .. } => {
                let told = Failure::new(PENDING, format!("letter {id} is accepted, but this could not be shown: {what}"));
                next.into_iter().fold(told, Failure::next)
            }
            quiet => quiet,
        }
    }

    /// Says in the words of the command line what the API says in its own.
    fn for_sending(self) -> Failure {
        let Failure::Said { exit, what, next, problem, order } = self else { return self };
        let swap = |hint: String| {
            if hint.contains("\"later\"") {
                "nothing was sent. To wait for the first peer of that name: add --later".to_owned()
            } else {
                hint
            }
        };
        Failure::Said { exit, what, next: next.into_iter().map(swap).collect(), problem, order }
    }
}

/// The text of a pipe, as long as a letter may be.
fn piped(input: impl Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    input.take(LETTER_BYTES as u64 + 2).read_to_end(&mut bytes)?;
    // `echo Hello |` means Hello.
    if bytes.ends_with(b"\n") {
        bytes.pop();
    }
    if bytes.len() > LETTER_BYTES {
        return Err(
            Failure::new(REFUSED, format!("the text has more than {LETTER_BYTES} bytes")).next("nothing was sent; send it in parts")
        );
    }
    String::from_utf8(bytes)
        .map_err(|_| Failure::usage("the text is not UTF-8").next("nothing was sent; letters are texts, and files must be encoded as such"))
}

fn reached(letter: &Letter, wanted: State) -> bool {
    // Held is a rung with degrees: as many machines as can.
    let ended = |copy: &Delivery| copy.state == State::Discarded;
    letter.deliveries.iter().any(ended)
        || letter.deliveries.iter().all(|copy| copy.state >= wanted && (copy.state != State::Held || sent::held_by_all(copy)))
}

/// Nobody who watches gains by waiting for those who are known to be away, once others hold what they can.
fn may_rise(copy: &Delivery) -> bool {
    match copy.why {
        None => false,
        Some(Why::AwaitingReceipt) => true,
        Some(_) => copy.of > 0 && !sent::held_by_all(copy),
    }
}

/// The letter a moment later, when it is delivered or held by as many machines as can: what is said of it then stays true for longer.
pub(super) async fn a_moment_later(context: &Context, letter: Letter) -> Result<Letter, Failure> {
    climb(context, letter, State::Delivered, Some(GLANCE), |letter| !letter.deliveries.iter().any(may_rise)).await
}

/// Waits until the letter has come so far, for as long as there is patience and hope.
async fn climb(
    context: &Context,
    letter: Letter,
    wanted: State,
    patience: Option<Duration>,
    hopeless: impl Fn(&Letter) -> bool,
) -> Result<Letter, Failure> {
    if reached(&letter, wanted) || hopeless(&letter) {
        return Ok(letter);
    }
    let path = format!("/v1/sent/{}", letter.envelope.id);
    let mut latest = letter;
    let climbing = async {
        // First the events, then the look: what happens between them is told.
        let mut events = context.client.events(None).await?;
        loop {
            latest = context.client.get::<Letter>(&path).await?;
            if reached(&latest, wanted) || hopeless(&latest) {
                return Ok::<(), Failure>(());
            }
            // What others refuse, or who has lost its memory, is not told by events.
            if let Ok(news) = tokio::time::timeout(LOOK, news_of(&latest.envelope.id, &mut events)).await {
                news?;
            }
        }
    };
    match patience {
        None => climbing.await?,
        Some(patience) => match tokio::time::timeout(patience, climbing).await {
            Ok(ended) => ended?,
            Err(_) => return Ok(latest),
        },
    }
    Ok(latest)
}

async fn news_of(id: &str, events: &mut Events) -> Result<(), Failure> {
    while let Some(event) = events.next().await? {
        match event.what {
            What::LettersDelivered { letters, more, .. }
            | What::LettersDiscarded { letters, more, .. }
            | What::LettersRead { letters, more, .. }
            | What::LettersHeld { letters, more, .. }
                if more || letters.iter().any(|letter| letter == id) =>
            {
                return Ok(());
            }
            What::Gap { .. } | What::LettersDenied { .. } | What::PeerCame { .. } | What::PeerLeft { .. } => return Ok(()),
            _ => {}
        }
    }
    Err(Failure::new(PENDING, format!("{id} is accepted; the node stopped before more was known")))
}

/// The first characters of an id, as tables show it.
pub(super) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// What follows `accepted 4kq7t2mx`.
fn told(letter: &Letter, took: Duration, since: &sent::Away) -> String {
    let far = |copy: &Delivery| if copy.state == State::Read { "read" } else { "delivered" };
    if let [copy] = letter.deliveries.as_slice() {
        return match copy.why {
            None => format!("; {}: {} ({})\n", line(&copy.to), far(copy), brief(took)),
            // Its receipt comes within milliseconds: where it is until then need not be said.
            Some(why @ Why::AwaitingReceipt) if copy.state < State::Held => {
                format!("; {}\n", sent::why(&copy.to, copy.to_id.as_deref(), why, since))
            }
            Some(why) => format!("; {}\n  {}\n", sent::why(&copy.to, copy.to_id.as_deref(), why, since), sent::place(copy)),
        };
    }
    let there = letter.deliveries.iter().filter(|copy| copy.why.is_none()).count();
    let mut text = format!("; delivered to {there} of {} ({})\n", letter.deliveries.len(), brief(took));
    for copy in &letter.deliveries {
        if let Some(why) = copy.why {
            let held = if copy.state == State::Held { format!("; {}", sent::held(copy)) } else { String::new() };
            text += &format!("  {}{held}\n", sent::why(&copy.to, copy.to_id.as_deref(), why, since));
        }
    }
    text + &here_only(letter)
}

/// Only what nobody else has depends on this machine.
fn here_only(letter: &Letter) -> String {
    let waiting = || letter.deliveries.iter().filter(|copy| copy.why.is_some());
    let here = waiting().find(|copy| copy.state == State::Accepted && copy.why != Some(Why::AwaitingReceipt));
    match here {
        Some(copy) => format!("  {}\n", sent::place(copy)),
        None if waiting().count() > 0 && waiting().all(|copy| copy.state == State::Held) => "  you may switch off\n".to_owned(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sent::tests::{copy, letter};
    use crate::control::problem::Problem;

    #[test]
    fn what_is_typed_into_a_pipe_is_the_text() {
        assert_eq!(piped(&b"Hello\n"[..]).expect("a text"), "Hello");
        assert_eq!(piped(&b"two\nlines\n\n"[..]).expect("a text"), "two\nlines\n");
        assert_eq!(piped(&b""[..]).expect("the node refuses it"), "");
        assert_eq!(piped(&b"\xff\xfe"[..]).expect_err("binary").exit(), 2);
        assert_eq!(piped(std::io::repeat(b'x')).expect_err("it does not end").exit(), 1);
        let most = vec![b'x'; LETTER_BYTES];
        assert_eq!(piped(&most[..]).expect("just so").len(), LETTER_BYTES);
    }

    #[test]
    fn a_delivery_is_told_with_its_time() {
        let letter = letter(vec![copy("nikki-pi", State::Delivered, None)]);
        assert_eq!(told(&letter, Duration::from_millis(3), &sent::Away::default()), "; nikki-pi: delivered (3 ms)\n");
    }

    #[test]
    fn for_one_who_is_away_this_machine_must_stay_on() {
        let letter = letter(vec![copy("nikki-pi", State::Accepted, Some(Why::Away))]);
        assert_eq!(
            told(&letter, Duration::from_millis(3), &sent::Away::default()),
            "; nikki-pi is away\n  held here only: keep this machine on\n"
        );
    }

    #[test]
    fn for_one_who_is_away_others_may_hold_it() {
        let held = Delivery { held_by: 2, of: 3, ..copy("nikki-pi", State::Held, Some(Why::Away)) };
        let away = sent::Away::default();
        assert_eq!(
            told(&letter(vec![held.clone()]), Duration::from_millis(3), &away),
            "; nikki-pi is away\n  held 2/3 by other machines: you may switch off\n"
        );
        let several = letter(vec![held.clone(), copy("a", State::Read, None), held.clone()]);
        assert_eq!(
            told(&several, Duration::from_millis(3), &away),
            "; delivered to 1 of 3 (3 ms)\n  nikki-pi is away; held 2/3 by other machines\n  \
             nikki-pi is away; held 2/3 by other machines\n  you may switch off\n"
        );
        let one_here = letter(vec![held, copy("b", State::Accepted, Some(Why::Away))]);
        assert!(told(&one_here, Duration::from_millis(3), &away).ends_with("\n  held here only: keep this machine on\n"));
    }

    #[test]
    fn waiting_until_held_ends_when_all_that_can_hold_it_do() {
        use crate::control::api::WhyNotHeld;
        let check = |held_by: u32, of: u32, reasons: &[WhyNotHeld], ends: bool| {
            let state = if held_by > 0 { State::Held } else { State::Accepted };
            let copy = Delivery { held_by, of, why_not_held: reasons.to_vec(), ..copy("a", state, Some(Why::Away)) };
            assert_eq!(reached(&letter(vec![copy]), State::Held), ends, "{held_by}/{of} {reasons:?}");
        };
        check(0, 0, &[WhyNotHeld::NoOtherMachine], false);
        check(0, 2, &[], false);
        check(1, 2, &[], false);
        check(1, 2, &[WhyNotHeld::Full], true);
        check(2, 2, &[], true);
        assert!(reached(&letter(vec![copy("a", State::Delivered, None)]), State::Held));
        let here = letter(vec![Delivery { why_not_held: vec![WhyNotHeld::NoOtherMachine], ..copy("a", State::Accepted, Some(Why::Away)) }]);
        let text = pending(&here, State::Held, &here.deliveries.iter().collect::<Vec<_>>()).for_people().unwrap_or_default();
        assert!(
            text.contains("not yet held by another machine by the end of the time: a (accepted)")
                && text.contains("keep this machine on (no other"),
            "{text}"
        );
    }

    #[test]
    fn of_several_only_those_not_reached_are_named() {
        let copies = vec![
            copy("a", State::Read, None),
            copy("b", State::Accepted, Some(Why::AwaitingReceipt)),
            copy("c", State::Accepted, Some(Why::NameNotKnown)),
        ];
        assert_eq!(
            told(&letter(copies), Duration::from_millis(1_000), &sent::Away::default()),
            "; delivered to 1 of 3 (1.0 s)\n  b is here; waiting for its receipt\n  \
             c is not known yet; waits for the first peer of that name\n  held here only: keep this machine on\n"
        );
    }

    #[test]
    fn an_unknown_name_is_answered_as_a_command_not_as_json() {
        let refusal = protocol::Refusal::Unknown { name: "niki-pi".to_owned(), nearest: vec!["nikki-pi".to_owned()] };
        assert_eq!(
            Failure::from(Problem::from(refusal)).for_sending().for_people().as_deref(),
            Some(
                "error: nobody called niki-pi is known; did you mean nikki-pi?\n  \
                 nothing was sent. To wait for the first peer of that name: add --later"
            )
        );
    }
}
