//! `query PEER|swarm what=…`: one question to one peer, or to all that are here.
//! Knows nothing of how an answer came. For people it is shown as the commands that list the same show it.

use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::failure::{DONE, Failure, REFUSED};
use super::status::size;
use super::terminal::{Terminal, block, line, print};
use super::{Context, services, tasks, workers};
use crate::control::api::{About, NewQuery, Peer, QueryResults, Seen, Service, Statistics, Task, Worker};

#[derive(Debug, Args)]
pub(super) struct QueryArgs {
    /// Whom: a peer, or swarm for all that are here
    #[arg(value_name = "PEER|swarm")]
    to: String,
    /// What about: what=peers (whom it sees), services, workers, tasks, statistics or status
    #[arg(value_name = "what=WORD", value_parser = what)]
    what: About,
}

fn what(text: &str) -> Result<About, String> {
    let word = text.strip_prefix("what=");
    About::ALL.into_iter().find(|about| Some(about.word()) == word).ok_or_else(|| {
        let words: Vec<&str> = About::ALL.iter().map(|about| about.word()).collect();
        format!("type one of: what={}", words.join("  what="))
    })
}

pub(super) async fn execute(args: QueryArgs, context: &Context) -> Result<u8, Failure> {
    let what = args.what;
    let answers: Vec<QueryResults> = context.client.post("/v1/queries", &NewQuery { to: args.to, what }).await?;
    let silent = match answers.as_slice() {
        [only] if !only.answered => Some(no_answer(only)),
        _ => None,
    };
    if context.json {
        context.document(&answers)?;
    } else if silent.is_none() {
        print(&told(what, &answers, &context.terminal))?;
    }
    silent.map_or(Ok(DONE), Err)
}

fn no_answer(answer: &QueryResults) -> Failure {
    let why = answer.why.as_deref().unwrap_or("no answer came in time");
    let next = if why.contains("dispatcher") { "its tasks: node query swarm what=tasks" } else { "who is here: node peers" };
    Failure::new(REFUSED, format!("{} gives no answer: {why}", answer.peer)).next(next)
}

/// What was asked about, one peer after the other; where each has one thing to say, one line each.
fn told(what: About, answers: &[QueryResults], terminal: &Terminal) -> String {
    let (answered, silent): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.answered);
    let text = match what {
        About::Workers => {
            let offers = |answer: &&QueryResults| read::<Option<Worker>>(answer).map(|worker| worker.as_ref().map(workers::row));
            let rows: Option<Vec<_>> = answered.iter().map(offers).collect();
            rows.map(|rows| {
                let rows: Vec<[String; 6]> = rows.into_iter().flatten().collect();
                let idle = answered.len() - rows.len();
                let none = if idle == 0 { String::new() } else { format!("{idle} offer{} nothing\n", if idle == 1 { "s" } else { "" }) };
                table(terminal, workers::HEADS, &rows) + &none
            })
        }
        About::Statistics => rows(&answered, |answer| read(answer).map(|statistics| measured(&answer.peer, &statistics)))
            .map(|rows| table(terminal, ["NAME", "RUNNING", "WAITING", "CORES FREE", "MEMORY FREE", "UP"], &rows)),
        About::Status => rows(&answered, |answer| read(answer).map(|status| state(&answer.peer, &status)))
            .map(|rows| table(terminal, ["NAME", "STATE", "RUNNING", "WAITING", "UP", "SERVICES"], &rows)),
        About::Peers => each(&answered, "nobody", |answer| {
            let seen = read::<Vec<Seen>>(answer)?;
            Some(table(terminal, ["NAME", "STATE", "SEEN FOR"], &seen.iter().map(seen_row).collect::<Vec<_>>()))
        }),
        About::Services => each(&answered, "nothing", |answer| {
            let offered = read::<Vec<Service>>(answer)?;
            Some(table(terminal, services::HEADS, &offered.iter().map(services::of_one).collect::<Vec<_>>()))
        }),
        About::Tasks => each(&answered, "no tasks", |answer| {
            let open = read::<Vec<Task>>(answer)?;
            Some(table(terminal, tasks::HEADS, &open.iter().map(tasks::row).collect::<Vec<_>>()))
        }),
    };
    // A newer node may answer in words that this program does not know.
    let text = text.unwrap_or_else(|| answered.iter().map(|answer| unread(answer)).collect());
    let why = |answer: &&QueryResults| line(answer.why.as_deref().unwrap_or("it took too long"));
    text + &silent.iter().map(|answer| format!("{}: no answer ({})\n", line(&answer.peer), why(answer))).collect::<String>()
}

fn read<T: DeserializeOwned>(answer: &QueryResults) -> Option<T> {
    serde_json::from_value(answer.results.clone()).ok()
}

fn rows<const N: usize>(answers: &[&QueryResults], row: impl Fn(&QueryResults) -> Option<[String; N]>) -> Option<Vec<[String; N]>> {
    answers.iter().map(|answer| row(answer)).collect()
}

/// A table without rows is nothing.
fn table<const N: usize>(terminal: &Terminal, heads: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() { String::new() } else { terminal.table(heads, rows) }
}

/// Each with what it says below its name.
fn each(answers: &[&QueryResults], none: &str, text: impl Fn(&QueryResults) -> Option<String>) -> Option<String> {
    let one = |answer: &&QueryResults| {
        let (peer, text) = (line(&answer.peer), text(answer)?);
        Some(if text.is_empty() { format!("{peer}: {none}\n") } else { format!("{peer}:\n{text}") })
    };
    answers.iter().map(one).collect()
}

fn unread(answer: &QueryResults) -> String {
    let results = serde_json::to_string_pretty(&answer.results).unwrap_or_default();
    format!("{}:\n{}", line(&answer.peer), block(&results, "  "))
}

fn seen_row(seen: &Seen) -> [String; 3] {
    let state = if !seen.available {
        "not available"
    } else if seen.inactive {
        "inactive"
    } else {
        "available"
    };
    [line(&seen.name), state.to_owned(), up(seen.here_seconds)]
}

fn measured(peer: &str, statistics: &Statistics) -> [String; 6] {
    [
        line(peer),
        statistics.running.to_string(),
        statistics.queued.to_string(),
        format!("{:.1} of {}", statistics.cores.free, statistics.cores.total),
        format!("{} of {}", size(statistics.memory.free_bytes), size(statistics.memory.total_bytes)),
        up(statistics.up_seconds),
    ]
}

/// What a peer is asked about with `what=status`; of the node itself there is no peer.
#[derive(Deserialize)]
struct Whole {
    peer: Option<Peer>,
    dispatcher: bool,
    statistics: Statistics,
}

fn state(name: &str, Whole { peer, dispatcher, statistics }: &Whole) -> [String; 6] {
    let word = match peer {
        Some(Peer { cloned: true, .. }) => "runs twice",
        Some(Peer { available: false, .. }) => "not available",
        Some(Peer { inactive: true, .. }) => "inactive",
        _ => "available",
    };
    let services = peer.as_ref().map(|peer| line(&peer.services.join(", "))).unwrap_or_default();
    [
        line(name),
        format!("{word}{}", if *dispatcher { ", dispatcher" } else { "" }),
        statistics.running.to_string(),
        statistics.queued.to_string(),
        up(statistics.up_seconds),
        if services.is_empty() { "-".to_owned() } else { services },
    ]
}

fn up(seconds: f64) -> String {
    match seconds.clamp(0.0, 1e12) as u64 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_is_a_closed_set() {
        assert_eq!(what("what=tasks"), Ok(About::Tasks));
        for text in ["tasks", "what=", "what=x", "What=tasks", "what=tasks "] {
            assert!(what(text).is_err_and(|said| said.contains("what=peers  what=services")), "{text}");
        }
    }

    fn answer(peer: &str, results: serde_json::Value) -> QueryResults {
        QueryResults { peer: peer.to_owned(), peer_id: "x".to_owned(), answered: true, why: None, results }
    }

    #[test]
    fn answers_are_told_in_lines_and_who_did_not_answer_is_listed_as_such() {
        let none = Terminal::none();
        let statistics = serde_json::json!({
            "cores": {"total": 4, "free": 2.5}, "memory": {"total_bytes": 4_u64 << 30, "free_bytes": 1_u64 << 30}, "running": 1, "queued": 3,
            "up_seconds": 300.5,
        });
        let silent = QueryResults { answered: false, why: Some("x\u{1b}".to_owned()), ..answer("ada", serde_json::Value::Null) };
        assert_eq!(
            told(About::Statistics, &[silent.clone(), answer("nikki", statistics.clone())], &none),
            "NAME   RUNNING  WAITING  CORES FREE  MEMORY FREE         UP\n\
             nikki  1        3        2.5 of 4    1.0 GiB of 4.0 GiB  5 min\n\
             ada: no answer (x\\u{1b})\n"
        );
        let status = serde_json::json!({"peer": null, "dispatcher": true, "statistics": statistics});
        assert!(
            told(About::Status, &[answer("nikki", status)], &none).contains("\nnikki  available, dispatcher  1        3        5 min  -\n")
        );
        let seen = serde_json::json!([{"id": "x", "name": "ada", "available": true, "inactive": false, "here_seconds": 7.9}]);
        let told_of = told(About::Peers, &[answer("bea", serde_json::json!([])), answer("nikki", seen)], &none);
        assert_eq!(told_of, "bea: nobody\nnikki:\nNAME  STATE      SEEN FOR\nada   available  7 s\n");
        assert_eq!(told(About::Workers, &[answer("bea", serde_json::Value::Null)], &none), "1 offers nothing\n");
        assert_eq!(told(About::Statistics, &[answer("new", serde_json::json!({"x": 1}))], &none), "new:\n  {\n    \"x\": 1\n  }\n");
    }

    #[test]
    fn why_one_peer_gives_no_answer_is_said_with_what_to_type() {
        let silent = QueryResults {
            answered: false,
            why: Some("it is not the dispatcher; that is ada".to_owned()),
            ..answer("bea", serde_json::Value::Null)
        };
        let said = no_answer(&silent).for_people().expect("it is said");
        assert_eq!(said, "error: bea gives no answer: it is not the dispatcher; that is ada\n  its tasks: node query swarm what=tasks");
    }
}
