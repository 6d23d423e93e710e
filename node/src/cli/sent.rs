//! `sent [ID]`: the letters of this node, and how far each got.
//! Knows nothing of why a rung is missing but what the node says. Nothing is ever shown higher than it was confirmed.

use std::collections::BTreeMap;

use clap::Args;

use super::failure::{DONE, Failure};
use super::places::typed;
use super::send::short;
use super::terminal::{block, line, print};
use super::{Context, log, outcome, words};
use crate::control::api::{Delivery, Envelope, Letter, Peer, State, Why, WhyNotHeld};
use crate::control::client::quoted;
use crate::control::time::{for_people, now, parse};

/// A copy that its author has discarded, of which it is not sure yet that it does not arrive.
const NOT_SENT: &str = "not sent any more";
/// Letters shown to a person who asks for no number.
const SCREEN: usize = 50;

#[derive(Debug, Args)]
pub(super) struct SentArgs {
    /// One letter in full: its id, or the first characters of it
    #[arg(value_name = "ID", value_parser = words::letter)]
    id: Option<String>,
    /// What everybody wrote down of it: who took, held, delivered and read it, and when
    #[arg(long, requires = "id")]
    history: bool,
    /// The newest N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000), conflicts_with = "id")]
    limit: Option<u16>,
}

pub(super) async fn execute(args: SentArgs, context: &Context) -> Result<u8, Failure> {
    if let Some(id) = args.id {
        if args.history {
            return log::history(None, Some(id), context).await;
        }
        let letter: Letter = context.client.get(&format!("/v1/sent/{}", quoted(&id))).await?;
        if context.json {
            context.document(&letter)?;
        } else {
            let since = away(context, std::slice::from_ref(&letter)).await?;
            print(&full(&letter, &since))?;
        }
        return Ok(DONE);
    }
    let newest = args.limit.map(usize::from).or(context.terminal.is.then_some(SCREEN));
    let letters: Vec<Letter> = match newest {
        Some(limit) => {
            let mut letters: Vec<Letter> = context.client.get(&format!("/v1/sent?newest=true&limit={limit}")).await?;
            letters.reverse();
            letters
        }
        None => context.client.all("/v1/sent?limit=1000").await?,
    };
    if context.json {
        context.document(&letters)?;
    } else if letters.is_empty() {
        if context.terminal.is {
            print(&typed("no letters sent yet; write one: node send NAME -m Hello\n"))?;
        }
    } else {
        let rows: Vec<[String; 5]> = letters.iter().map(row).collect();
        let mut text = context.terminal.table(["ID", "TO", "WRITTEN", "STATE", "TEXT"], &rows);
        if context.terminal.is && args.limit.is_none() && letters.len() == SCREEN {
            text += &format!("the newest {SCREEN}; more: --limit N\n");
        }
        print(&text)?;
    }
    Ok(DONE)
}

/// Since when those are away to whom something waits, by id.
pub(super) type Away = BTreeMap<String, String>;

/// Asked only if somebody is.
pub(super) async fn away(context: &Context, letters: &[Letter]) -> Result<Away, Failure> {
    if !letters.iter().flat_map(|letter| &letter.deliveries).any(|copy| copy.why == Some(Why::Away)) {
        return Ok(Away::new());
    }
    let peers: Vec<Peer> = context.client.all("/v1/peers?all=true&limit=1000").await?;
    Ok(peers.into_iter().map(|peer| (peer.id, peer.last_seen_at)).collect())
}

/// `nikki-pi is away since 15:13:40`.
pub(super) fn why(to: &str, to_id: Option<&str>, why: Why, since: &Away) -> String {
    let to = line(to);
    match why {
        Why::Away => match to_id.and_then(|id| since.get(id)).and_then(|at| parse(at)) {
            Some(at) => format!("{to} is away since {}", for_people(at, now())),
            None => format!("{to} is away"),
        },
        Why::NeverMet => format!("{to} was never met; its letter waits until it comes"),
        Why::Cloned => format!("{to} runs twice with one key and takes no letters until one of the two is stopped"),
        Why::NotAvailable => format!("{to} signals that it takes no letters now"),
        Why::NameNotKnown => format!("{to} is not known yet; waits for the first peer of that name"),
        Why::Blocked => format!("{to} has blocked this node: the letter is kept until it says otherwise, or until you discard it"),
        Why::RecipientFull => format!("{to} has as many unread bytes of this node as it takes"),
        Why::RecipientDisk => format!("{to} has too little room on its disk"),
        Why::Discarding => {
            format!("you discarded it: copies are called back, but it may arrive until {to} has signed for that")
        }
        Why::AwaitingReceipt => format!("{to} is here; waiting for its receipt"),
    }
}

/// Where a copy is that is not delivered, and what that means for this machine.
pub(super) fn place(copy: &Delivery) -> String {
    if copy.state == State::Parked {
        return "parked here".to_owned();
    }
    if copy.state < State::Held {
        let reasons: Vec<&str> = copy.why_not_held.iter().map(|reason| why_not_held(*reason)).collect();
        let why = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
        return format!("held here only: keep this machine on{why}");
    }
    let at = copy.confirmed_at.as_deref().map(|at| format!(", {}", time(at))).unwrap_or_default();
    format!("{}{at}: you may switch off", held(copy))
}

/// `held 2/3 by other machines`.
pub(super) fn held(copy: &Delivery) -> String {
    let who = if copy.held_by == 1 { "another machine" } else { "other machines" };
    format!("held {}/{} by {who}", copy.held_by, copy.of)
}

/// As many machines hold it as can, for now.
pub(super) fn held_by_all(copy: &Delivery) -> bool {
    copy.state >= State::Held && (copy.held_by >= copy.of || !copy.why_not_held.is_empty())
}

fn why_not_held(reason: WhyNotHeld) -> &'static str {
    match reason {
        WhyNotHeld::NoOtherMachine => "no other machine is here to hold it",
        WhyNotHeld::SameMachine => {
            "all others here report the same machine as this one (/etc/machine-id); if they are not, see --machine: node run --help"
        }
        WhyNotHeld::Full => "a machine that was asked holds as much mail as it may",
        WhyNotHeld::DepositorFull => "a machine that was asked holds as much mail of this node as it may",
        WhyNotHeld::RecipientFull => "a machine that was asked holds as much mail for this recipient as it may",
        WhyNotHeld::Disk => "a machine that was asked has too little room on its disk",
        WhyNotHeld::Leaving => "a machine that was asked is stopping",
        WhyNotHeld::Blocked => "a machine that was asked takes nothing from this node",
        WhyNotHeld::Released => "a machine that was asked knows that the recipient has it",
    }
}

/// The rung's name.
pub(super) fn state(state: State) -> &'static str {
    match state {
        State::Discarded => "discarded",
        State::Parked => "parked",
        State::Accepted => "accepted",
        State::Held => "held",
        State::Delivered => "delivered",
        State::Read => "read",
    }
}

fn row(letter: &Letter) -> [String; 5] {
    let to = match letter.deliveries.as_slice() {
        [one] => line(&one.to),
        [first, rest @ ..] => format!("{} and {} more", line(&first.to), rest.len()),
        [] => String::new(),
    };
    let wanted = |copy: &Delivery| copy.state != State::Discarded && copy.why != Some(Why::Discarding);
    let lowest = letter.deliveries.iter().filter(|copy| copy.state != State::Discarded).map(|copy| copy.state).min();
    let lowest = lowest.unwrap_or(if letter.deliveries.is_empty() { State::Accepted } else { State::Discarded });
    let there = letter.deliveries.iter().filter(|copy| copy.state >= State::Delivered).count();
    let rung = if lowest < State::Delivered && there > 0 {
        format!("delivered {there}/{}", letter.deliveries.len())
    } else if let [Delivery { state: State::Held, held_by, of, .. }] = letter.deliveries.as_slice() {
        format!("held {held_by}/{of}")
    } else if letter.deliveries.iter().any(|copy| copy.why == Some(Why::Discarding)) && letter.deliveries.iter().all(|copy| !wanted(copy)) {
        NOT_SENT.to_owned()
    } else {
        state(lowest).to_owned()
    };
    [short(&letter.envelope.id).to_owned(), to, time(&letter.envelope.timestamp), rung, line(&text(&letter.envelope))]
}

fn full(letter: &Letter, since: &Away) -> String {
    let body = text(&letter.envelope);
    let mut out = if body.contains('\n') {
        format!("{}  {}\n{}", letter.envelope.id, time(&letter.envelope.timestamp), block(&body, "    "))
    } else {
        format!("{}  \"{}\"  {}\n", letter.envelope.id, line(&body), time(&letter.envelope.timestamp))
    };
    if let Some(id) = &letter.envelope.in_reply_to {
        out += &format!("  in reply to {id}\n");
    }
    let width = letter.deliveries.iter().map(|copy| line(&copy.to).chars().count()).max().unwrap_or(0);
    for copy in &letter.deliveries {
        let to = line(&copy.to);
        let at = copy.confirmed_at.as_deref().map(time).map(|at| format!("  {at}")).unwrap_or_default();
        let pad = " ".repeat(width - to.chars().count());
        match copy.why {
            None => out += &format!("  {to}{pad}  {}{at}\n", state(copy.state)),
            Some(reason) => {
                let place = if reason == Why::Discarding { NOT_SENT.to_owned() } else { place(copy) };
                out += &format!("  {to}{pad}  {place}\n");
                let indent = " ".repeat(width + 4);
                out += &format!("{indent}why not delivered: {}\n", why(&copy.to, copy.to_id.as_deref(), reason, since));
                if copy.state == State::Held && copy.held_by < copy.of {
                    let reasons = copy.why_not_held.iter().map(|reason| why_not_held(*reason));
                    reasons.for_each(|reason| out += &format!("{indent}why not held by more: {reason}\n"));
                }
            }
        }
    }
    out
}

/// An instant of the API, for people.
pub(super) fn time(at: &str) -> String {
    parse(at).map_or_else(|| line(at), |at| for_people(at, now()))
}

/// A letter's content for people: a text as it is, the end of an order in words, anything else as JSON.
pub(super) fn text(envelope: &Envelope) -> String {
    let payload = &envelope.payload;
    let outcome = || outcome::of(envelope).map(|task| outcome::full(&task));
    ended(envelope).or_else(outcome).or_else(|| payload.as_str().map(str::to_owned)).unwrap_or_else(|| payload.to_string())
}

/// The letter by which a worker tells an orderer who is away how a unit ended: `order 1.1 ended: exit 0`.
fn ended(envelope: &Envelope) -> Option<String> {
    let payload = &envelope.payload;
    let ended = payload["ended"].as_str().filter(|_| envelope.kind == "event" && payload["event"] == "ended")?;
    Some(format!("order {}.{} ended: {ended}", payload["order"].as_u64()?, payload["unit"].as_u64()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli) fn copy(to: &str, state: State, why: Option<Why>) -> Delivery {
        Delivery {
            to: to.to_owned(),
            to_id: Some(format!("id-of-{to}")),
            state,
            held_by: 0,
            of: 0,
            confirmed_at: None,
            why,
            why_not_held: Vec::new(),
            done: why.is_none(),
        }
    }

    pub(in crate::cli) fn letter(deliveries: Vec<Delivery>) -> Letter {
        Letter {
            envelope: Envelope {
                id: "4kq7t2mx000000000000000000".to_owned(),
                kind: "message".to_owned(),
                author: "markus".to_owned(),
                author_id: "12D3Koo".to_owned(),
                recipients: deliveries.iter().map(|copy| copy.to.clone()).collect(),
                recipient_ids: deliveries.iter().map(|copy| copy.to_id.clone()).collect(),
                payload: "Back soon?".into(),
                timestamp: "1970-01-01T00:00:00.000Z".to_owned(),
                in_reply_to: None,
            },
            delivered: deliveries.iter().all(|copy| copy.state >= State::Delivered),
            deliveries,
        }
    }

    #[test]
    fn one_letter_says_for_each_recipient_how_far_and_why_not_farther() {
        let letter = letter(vec![copy("nikki-pi", State::Accepted, Some(Why::Away)), copy("ada", State::Delivered, None)]);
        assert_eq!(
            full(&letter, &Away::new()),
            "4kq7t2mx000000000000000000  \"Back soon?\"  1970-01-01\n  \
             nikki-pi  held here only: keep this machine on\n            \
             why not delivered: nikki-pi is away\n  \
             ada       delivered\n"
        );
    }

    #[test]
    fn a_machine_may_be_switched_off_only_when_another_holds_its_letters() {
        let check = |held_by: u32, of: u32, reasons: &[WhyNotHeld], expected: &str| {
            let state = if held_by > 0 { State::Held } else { State::Accepted };
            let at = (held_by > 0).then(|| "1970-01-01T00:00:00.000Z".to_owned());
            let copy = Delivery { held_by, of, confirmed_at: at, why_not_held: reasons.to_vec(), ..copy("a", state, Some(Why::Away)) };
            let whole = full(&letter(vec![copy]), &Away::new());
            assert_eq!(whole.lines().skip(1).collect::<Vec<_>>().join("\n"), expected);
        };
        let away = "why not delivered: a is away";
        check(
            0,
            0,
            &[WhyNotHeld::NoOtherMachine],
            &format!("  a  held here only: keep this machine on (no other machine is here to hold it)\n     {away}"),
        );
        check(0, 2, &[], &format!("  a  held here only: keep this machine on\n     {away}"));
        check(1, 1, &[], &format!("  a  held 1/1 by another machine, 1970-01-01: you may switch off\n     {away}"));
        check(
            2,
            3,
            &[WhyNotHeld::Full],
            &format!(
                "  a  held 2/3 by other machines, 1970-01-01: you may switch off\n     {away}\n     \
                 why not held by more: a machine that was asked holds as much mail as it may"
            ),
        );
    }

    #[test]
    fn the_end_of_an_order_is_told_in_words_and_only_by_such_a_letter() {
        let mut envelope = letter(Vec::new()).envelope;
        envelope.payload = serde_json::json!({"event": "ended", "order": 7, "unit": 1, "ended": "exit 0", "report": "a1"});
        assert!(text(&envelope).starts_with('{'), "whoever writes such a message is no worker");
        envelope.kind = "event".to_owned();
        assert_eq!(text(&envelope), "order 7.1 ended: exit 0");
        envelope.payload["unit"] = 3.into();
        assert_eq!(text(&envelope), "order 7.3 ended: exit 0");
        envelope.payload["order"] = "7".into();
        assert!(text(&envelope).starts_with('{'));
    }

    #[test]
    fn a_row_shows_the_lowest_rung_of_all() {
        let check = |copies: Vec<Delivery>, expected: &str| assert_eq!(row(&letter(copies))[3], expected);
        check(vec![copy("a", State::Read, None)], "read");
        check(vec![copy("a", State::Read, None), copy("b", State::Delivered, None)], "delivered");
        check(vec![copy("a", State::Read, None), copy("b", State::Accepted, Some(Why::Away))], "delivered 1/2");
        check(vec![copy("b", State::Accepted, Some(Why::Away))], "accepted");
        check(vec![copy("a", State::Discarded, None)], "discarded");
        check(vec![copy("a", State::Discarded, None), copy("b", State::Accepted, Some(Why::Discarding))], "not sent any more");
        check(vec![copy("a", State::Discarded, None), copy("b", State::Read, None)], "read");
        let held = Delivery { held_by: 1, of: 2, ..copy("b", State::Held, Some(Why::Away)) };
        check(vec![held.clone()], "held 1/2");
        check(vec![held.clone(), held.clone()], "held");
        check(vec![held, copy("a", State::Read, None)], "delivered 1/2");
    }

    #[test]
    fn a_text_of_several_lines_is_indented_and_escaped() {
        let mut letter = letter(vec![copy("a", State::Read, None)]);
        letter.envelope.payload = "one\n\u{1b}[2Jtwo".into();
        assert_eq!(full(&letter, &Away::new()), "4kq7t2mx000000000000000000  1970-01-01\n    one\n    \\u{1b}[2Jtwo\n  a  read\n");
        assert_eq!(row(&letter)[4], "one⏎\\u{1b}[2Jtwo");
    }
}
