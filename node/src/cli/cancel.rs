//! `cancel ID…`: orders that are not wanted any more.
//! Says what became of each: what runs is stopped by its worker, and until that has said so it is being cancelled.

use std::time::{Duration, Instant};

use clap::Args;
use futures::StreamExt;

use super::Context;
use super::bar::Bar;
use super::failure::{DONE, Failure, REFUSED};
use super::terminal::{line, print};
use super::watch::until_ended;
use crate::control::api::Task;
use crate::control::client::quoted;

/// How long the ends are looked for when somebody watches (guess: a program that obeys ends in less).
const GLANCE: Duration = Duration::from_secs(1);
/// Cancelled at once (guess: a quarter of the connections that a node serves).
const AT_ONCE: usize = 16;

#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// Orders of this node
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

pub(super) async fn execute(args: CancelArgs, context: &Context) -> Result<u8, Failure> {
    let (mut tasks, mut refused) = (Vec::new(), None);
    let cancels = args.ids.iter().map(|id| async move { context.client.tell::<Task>(&format!("/v1/tasks/{}/cancel", quoted(id))).await });
    // Told in the order in which they were named.
    let mut cancelled = futures::stream::iter(cancels).buffered(AT_ONCE);
    while let Some(answer) = cancelled.next().await {
        // One that cannot be cancelled keeps no other from it.
        match answer.map_err(Failure::from) {
            Ok(task) => tasks.push(task),
            Err(failure) if args.ids.len() == 1 => return Err(failure),
            Err(failure) => {
                let said = if context.json { failure.for_programs() } else { failure.for_people() };
                eprintln!("{}", said.unwrap_or_default());
                refused = Some(refused.map_or(failure.exit(), |code: u8| code.min(failure.exit())));
            }
        }
    }
    let rc = match refused {
        // Not all, whatever was wrong with the others.
        Some(_) if !tasks.is_empty() => REFUSED,
        refused => refused.unwrap_or(DONE),
    };
    if context.json {
        context.document(&tasks)?;
        return Ok(rc);
    }
    let began = Instant::now();
    for task in tasks {
        let mut latest = task;
        let patience = GLANCE.saturating_sub(began.elapsed());
        if context.terminal.is && !latest.done && !patience.is_zero() {
            let mut bar = Bar::new(false);
            // What is not known by then is told as it is.
            if let Ok(ended) = until_ended(context, &latest.id, Some(patience), &mut bar, |_, _| Ok(())).await {
                latest = ended;
            }
        }
        print(&told(&latest))?;
    }
    Ok(rc)
}

fn told(task: &Task) -> String {
    let why = task.why.as_deref().filter(|why| !why.is_empty()).map(|why| format!(": {}", line(why))).unwrap_or_default();
    format!("order {} {}{why}\n", line(&task.id), task.state.word())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::task::tests::task;
    use crate::control::api::TaskState;

    #[test]
    fn a_cancel_tells_what_it_came_to() {
        let running = Task { state: TaskState::Cancelling, why: Some("it is being stopped at nikki-pi".to_owned()), ..task() };
        assert_eq!(told(&running), "order 1 cancelling: it is being stopped at nikki-pi\n");
        assert_eq!(told(&Task { state: TaskState::Cancelled, why: None, ..running }), "order 1 cancelled\n");
    }
}
