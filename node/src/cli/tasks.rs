//! `tasks [--running|--mine|--all]`: orders, and how far each is.
//! Knows nothing of why. Orders of others are shown as the dispatcher knows them.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::places::typed;
use super::sent::time;
use super::terminal::{line, print};
use crate::control::api::{Dispatcher, Task, TaskState};

/// Orders shown to a person who asks for no more.
const SCREEN: usize = 50;

#[derive(Debug, Args)]
pub(super) struct TasksArgs {
    /// What has not ended, of everyone
    #[arg(long, group = "which")]
    running: bool,
    /// Those of this node, ended or not; so it is without an option
    #[arg(long, group = "which")]
    mine: bool,
    /// Those of this node, and those of others that have not ended
    #[arg(long, group = "which")]
    all: bool,
}

/// What a row tells.
pub(super) const HEADS: [&str; 5] = ["ID", "STATE", "WORKER", "PLACED", "ORDER"];

pub(super) async fn execute(args: TasksArgs, context: &Context) -> Result<u8, Failure> {
    let screen = context.terminal.is && !context.json && !args.running && !args.all && !args.mine;
    let tasks: Vec<Task> = if screen {
        let mut newest: Vec<Task> = context.client.get(&format!("/v1/tasks?which=mine&newest=true&limit={SCREEN}")).await?;
        newest.reverse();
        newest
    } else {
        let which = match (args.running, args.all) {
            (true, _) => "running",
            (_, true) => "all",
            _ => "mine",
        };
        context.client.all(&format!("/v1/tasks?which={which}&limit=1000")).await?
    };
    if context.json {
        context.document(&tasks)?;
        return Ok(DONE);
    }
    let mut text = String::new();
    if tasks.is_empty() {
        if context.terminal.is {
            text = nothing(args.running).to_owned();
        }
    } else {
        let rows: Vec<[String; 5]> = tasks.iter().map(row).collect();
        text = context.terminal.table(HEADS, &rows);
        if screen && tasks.len() == SCREEN {
            text += &format!("the newest {SCREEN}; all of them: --mine\n");
        }
    }
    if (args.running || args.all) && context.terminal.is {
        let dispatcher: Option<Dispatcher> = context.client.get("/v1/dispatcher").await?;
        if dispatcher.is_none() {
            text += "nobody is dispatcher now, so only orders of this node are known\n";
        }
    }
    print(&text)?;
    Ok(DONE)
}

/// What a person is told where there is no table.
fn nothing(running: bool) -> String {
    typed(if running {
        "nothing is in progress\n  what has ended of yours: node tasks\n"
    } else {
        "no orders yet\n  what can be ordered: node services\n"
    })
}

pub(super) fn row(task: &Task) -> [String; 5] {
    let units = &task.units;
    let state = if units.total > 1 {
        format!("{} {}/{}", task.state.word(), units.done, units.total)
    } else {
        match (&task.progress, task.position, task.exit_code) {
            (Some(progress), ..) => format!("{} {}/{}", task.state.word(), progress.done, progress.of),
            (None, Some(position), _) if task.state == TaskState::Queued => format!("queued at {position}"),
            (None, _, Some(code)) if task.state == TaskState::Failed => format!("failed: exit {code}"),
            (None, ..) if task.state == TaskState::Failed => {
                task.why.as_deref().map_or_else(|| "failed".to_owned(), |why| format!("failed: {}", line(why)))
            }
            _ => task.state.word().to_owned(),
        }
    };
    let worker = task.worker.as_deref().map_or_else(|| "-".to_owned(), line);
    [line(&task.id), state, worker, time(&task.placed_at), ordered(task)]
}

/// `coffee latte --no-milk`.
pub(super) fn ordered(task: &Task) -> String {
    let mut text = line(&task.service);
    for arg in &task.args {
        text.push(' ');
        text += &line(arg);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::task::tests::task;
    use crate::control::api::Units;

    #[test]
    fn a_row_says_how_far_it_is() {
        assert_eq!(row(&task()), ["1", "running 3/5", "nikki-pi", "1970-01-01", "coffee latte --no-milk"]);
        let check = |task: Task, expected: &str| assert_eq!(row(&task)[1], expected);
        check(Task { state: TaskState::Queued, position: Some(4), progress: None, ..task() }, "queued at 4");
        check(Task { state: TaskState::Failed, exit_code: Some(1), progress: None, ..task() }, "failed: exit 1");
        check(
            Task { state: TaskState::Failed, why: Some("crashed its workers".to_owned()), progress: None, ..task() },
            "failed: crashed its workers",
        );
        check(Task { units: Units { total: 40, done: 32, ..Units::default() }, ..task() }, "running 32/40");
        assert_eq!(
            row(&Task { args: vec!["\u{1b}[2J\n".to_owned()], worker: None, ..task() })[2..],
            ["-", "1970-01-01", "coffee \\u{1b}[2J"]
        );
    }
}
