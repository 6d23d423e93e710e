//! `wait ID…`: until all of these have ended.
//! Ends nothing. Each is told when it ends; the exit code says whether all ended well.

use std::time::{Duration, Instant};

use clap::Args;

use super::Context;
use super::bar::Bar;
use super::failure::{DONE, Failure, USAGE};
use super::places::typed;
use super::terminal::{line, print};
use super::watch::{ended, exit, until_ended};
use super::words::some_time;
use crate::control::api::Task;

#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// Like 17, nikki-pi/17 or 17.3
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// How long to wait for all of them: 30s, 5m, 2h, 1d
    #[arg(long, value_name = "D", value_parser = some_time)]
    timeout: Option<Duration>,
}

pub(super) async fn execute(args: WaitArgs, context: &Context) -> Result<u8, Failure> {
    // What is not known is said before anything is waited for, and keeps nobody from hearing of the rest.
    let (mut known, mut unknown) = (Vec::new(), DONE);
    for id in &args.ids {
        match super::watch::look(context, id).await {
            Ok(task) => known.push((id, task.order)),
            Err(failure) if failure.exit() == USAGE && args.ids.len() > 1 => {
                unknown = USAGE;
                let said = if context.json { failure.for_programs() } else { failure.for_people() };
                eprintln!("{}", said.unwrap_or_default());
            }
            Err(failure) => return Err(failure),
        }
    }
    let began = Instant::now();
    let (goes, again) = if args.ids.len() == 1 { ("goes", "see it") } else { ("go", "see them") };
    context.farewell.set(format!("order {} {goes} on; {again} with: node tasks", line(&args.ids.join(", "))));
    let mut bar = Bar::new(!context.json);
    let (mut code, mut tasks) = (DONE, Vec::new());
    for (id, number) in known {
        let patience = args.timeout.map(|all| all.saturating_sub(began.elapsed()));
        let waited = until_ended(context, id, patience, &mut bar, |_, _| Ok(())).await;
        let task = waited.map_err(|failure| failure.of_order(number, id))?;
        code = code.max(exit(&task));
        if !context.json {
            print(&format!("{}\n", ended(&task)))?;
        }
        tasks.push(task);
    }
    if context.json {
        context.document(&tasks)?;
    }
    Ok(if unknown == DONE { code } else { unknown })
}

/// `  3.17 cat.png on nikki-pi: exit 1: not a PNG       node task 3.17 --stderr`.
pub(super) fn failed_unit(unit: &Task) -> String {
    let item = unit.item.as_deref().map(|item| format!(" {}", line(item))).unwrap_or_default();
    let worker = unit.worker.as_deref().map(|worker| format!(" on {}", line(worker))).unwrap_or_default();
    let why = line(unit.why.as_deref().unwrap_or(unit.state.word()));
    let said = unit.stderr.as_deref().map(line).filter(|said| !said.is_empty()).map(|said| format!(": {said}")).unwrap_or_default();
    let more = if unit.stderr_bytes.is_some_and(|bytes| bytes > 0) {
        typed(&format!("       node task {} --stderr", line(&unit.id)))
    } else {
        String::new()
    };
    format!("  {}{item}{worker}: {why}{said}{more}", line(&unit.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::task::tests::task;
    use crate::control::api::TaskState;

    #[test]
    fn a_unit_that_failed_is_one_line_with_its_last_words() {
        let unit = Task {
            id: "3.17".to_owned(),
            item: Some("cat.png".to_owned()),
            state: TaskState::Failed,
            why: Some("exit 1".to_owned()),
            stderr: Some("not a PNG\u{1b}".to_owned()),
            stderr_bytes: Some(10),
            ..task()
        };
        assert_eq!(failed_unit(&unit), "  3.17 cat.png on nikki-pi: exit 1: not a PNG\\u{1b}       node task 3.17 --stderr");
        let mute = Task { stderr: None, stderr_bytes: Some(0), worker: None, why: Some("crashed its workers".to_owned()), ..unit };
        assert_eq!(failed_unit(&mute), "  3.17 cat.png: crashed its workers");
    }

    #[test]
    fn an_end_is_told_in_a_line() {
        let failed = Task { state: TaskState::Failed, why: Some("39 done, 1 failed".to_owned()), ..task() };
        assert_eq!((ended(&failed).as_str(), exit(&failed)), ("order 1 failed: 39 done, 1 failed", 5));
        let done = Task { state: TaskState::Done, ..failed };
        assert_eq!((ended(&done).as_str(), exit(&done)), ("order 1 done", 0));
    }
}
