//! `workers`: who offers services, and how busy they are.
//! Knows nothing of single services. What runs at a worker that did not answer is not made up.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::places::typed;
use super::status::size;
use super::terminal::{line, print};
use crate::control::api::Worker;

#[derive(Debug, Args)]
pub(super) struct WorkersArgs {}

/// What a row tells.
pub(super) const HEADS: [&str; 6] = ["NAME", "STATE", "RUNNING", "CORES FREE", "MEMORY FREE", "SERVICES"];

pub(super) async fn execute(_: WorkersArgs, context: &Context) -> Result<u8, Failure> {
    let workers: Vec<Worker> = context.client.get("/v1/workers").await?;
    if context.json {
        context.document(&workers)?;
    } else if !workers.is_empty() {
        let rows: Vec<[String; 6]> = workers.iter().map(row).collect();
        print(&context.terminal.table(HEADS, &rows))?;
    } else if context.terminal.is {
        print(&typed("nobody here offers anything\n  to offer something: node offer NAME --allow anyone -- CMD\n"))?;
    }
    Ok(DONE)
}

pub(super) fn row(worker: &Worker) -> [String; 6] {
    let state = match worker {
        Worker { answered: false, .. } => "no answer",
        Worker { draining: true, .. } => "draining",
        Worker { available: false, .. } => "not available",
        Worker { inactive: true, .. } => "inactive",
        Worker { running: Some(running), limit, .. } if running >= limit => "busy",
        _ => "available",
    };
    let running = worker.running.map_or_else(|| "?".to_owned(), |running| running.to_string());
    let waiting = worker.queued.filter(|queued| *queued > 0).map(|queued| format!(" (+{queued} waiting)")).unwrap_or_default();
    [
        line(&worker.name),
        state.to_owned(),
        format!("{running}/{}{waiting}", worker.limit),
        format!("{:.1} of {}", worker.cores.free, worker.cores.total),
        format!("{} of {}", size(worker.memory.free_bytes), size(worker.memory.total_bytes)),
        line(&worker.services.join(", ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::{Cores, Memory};

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let worker = Worker {
            id: "12D3".to_owned(),
            name: "nikki-pi".to_owned(),
            available: true,
            inactive: false,
            draining: false,
            answered: true,
            last_seen_at: None,
            services: vec!["coffee".to_owned(), "tea".to_owned()],
            running: Some(1),
            limit: 2,
            queued: Some(3),
            cores: Cores { total: 4, free: 2.5 },
            memory: Memory { total_bytes: 4 << 30, free_bytes: 1 << 30 },
            software: Vec::new(),
        };
        assert_eq!(row(&worker), ["nikki-pi", "available", "1/2 (+3 waiting)", "2.5 of 4", "1.0 GiB of 4.0 GiB", "coffee, tea"]);
        assert_eq!(row(&Worker { running: Some(2), queued: Some(0), ..worker.clone() })[1..3], ["busy", "2/2"]);
        assert_eq!(row(&Worker { answered: false, running: None, queued: None, ..worker.clone() })[1..3], ["no answer", "?/2"]);
        assert_eq!(row(&Worker { draining: true, available: false, ..worker })[1], "draining");
    }
}
