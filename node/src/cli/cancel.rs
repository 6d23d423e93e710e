//! `cancel ID…`: orders that are not wanted any more.
//! Says what became of each: what runs is stopped by its worker, and until that has said so it is being cancelled.

use std::time::Duration;

use clap::Args;

use super::Context;
use super::bar::Bar;
use super::failure::{DONE, Failure};
use super::terminal::{line, print};
use super::watch::until_ended;
use crate::control::api::Task;
use crate::control::client::quoted;

/// How long the end is looked for when somebody watches (guess: a program that obeys ends in less).
const GLANCE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// Orders of this node
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

pub(super) async fn execute(args: CancelArgs, context: &Context) -> Result<u8, Failure> {
    let (mut tasks, mut refused) = (Vec::new(), None);
    for id in &args.ids {
        // One that cannot be cancelled keeps no other from it.
        match context.client.tell::<Task>(&format!("/v1/tasks/{}/cancel", quoted(id))).await.map_err(Failure::from) {
            Ok(task) => tasks.push(task),
            Err(failure) if args.ids.len() == 1 => return Err(failure),
            Err(failure) => {
                eprintln!("{}", failure.for_people().unwrap_or_default());
                refused = Some(refused.map_or(failure.exit(), |code: u8| code.min(failure.exit())));
            }
        }
    }
    if context.json {
        context.document(&tasks)?;
        return Ok(refused.unwrap_or(DONE));
    }
    for task in tasks {
        let mut latest = task;
        if context.terminal.is && !latest.done {
            let mut bar = Bar::new(false);
            // What is not known by then is told as it is.
            if let Ok(ended) = until_ended(context, &latest.id, Some(GLANCE), &mut bar, |_, _| Ok(())).await {
                latest = ended;
            }
        }
        print(&told(&latest))?;
    }
    Ok(refused.unwrap_or(DONE))
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
