//! `query PEER|swarm what=…`: one question to one peer, or to all that are here.
//! Knows nothing of the answers: they are shown as they come, in JSON.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure, REFUSED};
use super::terminal::{block, line, print};
use crate::control::api::{About, NewQuery, QueryResults};

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
    let answers: Vec<QueryResults> = context.client.post("/v1/queries", &NewQuery { to: args.to, what: args.what }).await?;
    if context.json {
        context.document(&answers)?;
    } else {
        print(&answers.iter().map(told).collect::<String>())?;
    }
    match answers.as_slice() {
        [only] if !only.answered => {
            let why = only.why.as_deref().unwrap_or("no answer came in time");
            Err(Failure::new(REFUSED, format!("{} gave no answer: {why}", only.peer)).next("who is here: node peers"))
        }
        _ => Ok(DONE),
    }
}

fn told(answer: &QueryResults) -> String {
    if !answer.answered {
        return format!("{}: no answer ({})\n", line(&answer.peer), line(answer.why.as_deref().unwrap_or("it took too long")));
    }
    let results = serde_json::to_string_pretty(&answer.results).unwrap_or_default();
    format!("{}:\n{}", line(&answer.peer), block(&results, "  "))
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

    #[test]
    fn who_did_not_answer_is_listed_as_such() {
        let answer = QueryResults {
            peer: "nikki".to_owned(),
            peer_id: "x".to_owned(),
            answered: true,
            why: None,
            results: serde_json::json!({"running": 1}),
        };
        assert_eq!(told(&answer), "nikki:\n  {\n    \"running\": 1\n  }\n");
        assert_eq!(told(&QueryResults { answered: false, why: Some("x\u{1b}".to_owned()), ..answer }), "nikki: no answer (x\\u{1b})\n");
    }
}
