//! `who SERVICE`: who could start it now, asked now; whoever told this node that it offers it, and whoever the swarm's adverts name.
//! Orders nothing. Those who do not answer within 0.3 s are listed as such.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::places::typed;
use super::terminal::{line, print};
use super::words::{about, cores, size};
use crate::control::api::{Availability, Lack};
use crate::control::client::quoted;

#[derive(Debug, Args)]
pub(super) struct WhoArgs {
    /// The service
    #[arg(value_name = "SERVICE", value_parser = super::words::service)]
    service: String,
    /// For something that takes so many logical CPUs
    #[arg(long, value_name = "N", value_parser = cores)]
    cores: Option<u32>,
    /// And so much memory: 512M, 4G
    #[arg(long, value_name = "S", value_parser = size)]
    memory: Option<u64>,
    /// And this software; may be repeated
    #[arg(long, value_name = "X", value_delimiter = ',')]
    software: Vec<String>,
}

pub(super) async fn execute(args: WhoArgs, context: &Context) -> Result<u8, Failure> {
    let path = format!(
        "/v1/who/{}?cores={}&memory_bytes={}&software={}",
        quoted(&args.service),
        args.cores.unwrap_or(0),
        args.memory.unwrap_or(0),
        quoted(&args.software.join(","))
    );
    let answers: Vec<Availability> = context.client.get(&path).await?;
    if context.json {
        context.document(&answers)?;
    } else if !answers.is_empty() {
        let rows: Vec<[String; 4]> = answers.iter().map(row).collect();
        print(&context.terminal.table(["WORKER", "RUNNING", "WAITING", "NOW"], &rows))?;
    } else if context.terminal.is {
        print(&format!("{}\n", nobody(&args.service)))?;
    } else {
        // A list of nobody is empty, and whoever looks on is told why.
        eprintln!("{}", nobody(&args.service));
    }
    Ok(DONE)
}

fn nobody(service: &str) -> String {
    typed(&format!("nobody here offers {}; what is offered: node services", line(service)))
}

fn row(answer: &Availability) -> [String; 4] {
    let number = |number: Option<u32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let (running, limit) = (number(answer.running), number(answer.limit));
    let waiting = answer.tasks_remaining.map(|all| all.saturating_sub(answer.running.unwrap_or(0)));
    let now = match (answer.answered, answer.available) {
        (false, _) => "did not answer".to_owned(),
        (true, Some(true)) => "would start at once".to_owned(),
        (true, _) => {
            let why = answer.why.map_or_else(|| "not now".to_owned(), |lack| lacks(lack, answer.detail.as_deref()));
            let runs = answer.basis.unwrap_or(0);
            let plural = if runs == 1 { "" } else { "s" };
            let free = answer.eta_seconds.map(|eta| format!("; free in {} ({runs} run{plural} measured)", about(eta)));
            why + &free.unwrap_or_default()
        }
    };
    [line(&answer.worker), format!("{running}/{limit}"), number(waiting), now]
}

/// What a worker lacks, said of it.
pub(super) fn lacks(lack: Lack, detail: Option<&str>) -> String {
    let detail = line(detail.unwrap_or("too little"));
    match lack {
        Lack::Full => "as many run as may".to_owned(),
        Lack::Busy => "what runs there leaves too little".to_owned(),
        Lack::Draining => "takes nothing new".to_owned(),
        Lack::NotAvailable => "takes no work now".to_owned(),
        Lack::Disk => "too little room on its disk".to_owned(),
        Lack::Cores => format!("never: it has {detail} cores"),
        Lack::Memory => format!("never: it has {detail} of memory"),
        Lack::Software => format!("never: it has not declared {detail}"),
        Lack::NotAllowed => "does not allow it to be ordered from here".to_owned(),
        Lack::NotOffered => "does not offer it".to_owned(),
        Lack::NoOrder => "is being given the order".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_a_line_and_so_is_silence() {
        let answer = Availability {
            worker: "nikki-pi".to_owned(),
            worker_id: "12D3".to_owned(),
            answered: true,
            available: Some(false),
            why: Some(Lack::Full),
            detail: None,
            tasks_remaining: Some(5),
            eta_seconds: Some(7.4),
            basis: Some(4),
            running: Some(2),
            limit: Some(2),
            cores: None,
            memory: None,
            software: Vec::new(),
        };
        assert_eq!(row(&answer), ["nikki-pi", "2/2", "3", "as many run as may; free in about 8 s (4 runs measured)"]);
        let free = Availability { available: Some(true), why: None, running: Some(0), tasks_remaining: Some(0), ..answer.clone() };
        assert_eq!(row(&free)[3], "would start at once");
        let small = Availability { why: Some(Lack::Cores), detail: Some("4".to_owned()), eta_seconds: None, ..answer.clone() };
        assert_eq!(row(&small)[3], "never: it has 4 cores");
        let silent = Availability { answered: false, running: None, limit: None, tasks_remaining: None, ..answer };
        assert_eq!(row(&silent), ["nikki-pi", "?/?", "?", "did not answer"]);
    }
}
