//! `task [ID]`: one order or one unit of it: how far it is, why not farther, what it wrote.
//! Knows nothing but what the node says. What the service wrote is escaped on a terminal, and raw where it is asked for.

use clap::Args;

use super::Context;
use super::bar::{Bar, meter};
use super::failure::{DONE, Failure, REFUSED};
use super::places::typed;
use super::sent::time;
use super::tasks::ordered;
use super::terminal::{Spout, block, line, print};
use super::watch::{exit, look, of_many, shown, took, until_ended};
use super::who::lacks;
use super::words::about;
use super::{log, order};
use crate::control::api::{Encoding, Task, TaskState};
use crate::control::client::quoted;

/// Lines of an output that are shown without being asked for (guess: half a screen).
const LINES: usize = 12;
/// Characters of a label: the longest is `cancelling`, which sticks out.
const LABEL: usize = 9;
/// Workers whose lack is listed (guess: half a screen).
const LACKING: usize = 12;

#[derive(Debug, Args)]
pub(super) struct TaskArgs {
    /// Like 17, nikki-pi/17 or 17.3; without it, the latest of this node
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Go on showing it until it has ended
    #[arg(long, group = "what")]
    follow: bool,
    /// Its units, one by one
    #[arg(long, group = "what")]
    units: bool,
    /// What everybody wrote down of it: who queued, ran and ended it, and when
    #[arg(long, group = "what")]
    history: bool,
    /// What it wrote to standard output, as it is; of more than 1 MiB the beginning and the end
    #[arg(long, group = "what")]
    stdout: bool,
    /// What it wrote to standard error, as it is; of more than 1 MiB the beginning and the end
    #[arg(long, group = "what")]
    stderr: bool,
}

pub(super) async fn execute(args: TaskArgs, context: &Context) -> Result<u8, Failure> {
    let id = match args.id {
        Some(id) => id,
        None => latest(context).await?,
    };
    if context.json && (args.stdout || args.stderr) {
        return Err(Failure::usage("what a service wrote is bytes, not JSON: leave out --json")
            .next(format!("what of it is text is in: node task {id} --json")));
    }
    if args.stdout || args.stderr {
        return output(&id, if args.stdout { "stdout" } else { "stderr" }, context).await;
    }
    if args.history {
        return log::history(Some(id), None, context).await;
    }
    if args.units {
        return units(&id, context).await;
    }
    if args.follow {
        return follow(&id, context).await;
    }
    let task = look(context, &id).await?;
    if context.json {
        context.document(&task)?;
    } else {
        print(&full(&task))?;
    }
    Ok(DONE)
}

async fn latest(context: &Context) -> Result<String, Failure> {
    let newest: Vec<Task> = context.client.get("/v1/tasks?which=mine&newest=true&limit=1").await?;
    newest.into_iter().next().map(|task| task.id).ok_or_else(|| {
        Failure::new(REFUSED, "this node has placed no order yet")
            .next("what can be ordered: node services")
            .next("like this: node order SERVICE")
    })
}

async fn output(id: &str, which: &str, context: &Context) -> Result<u8, Failure> {
    let task = look(context, id).await?;
    if !task.done && task.started_at.is_none() && task.units.done + task.units.failed == 0 {
        let why = task.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        return Err(Failure::new(REFUSED, format!("there is no output yet: {id} is {}{why}", task.state.word()))
            .next(format!("wait for its end: node wait {id}")));
    }
    order::copy(id, which, Spout::stdout(), context).await?;
    Ok(DONE)
}

async fn units(id: &str, context: &Context) -> Result<u8, Failure> {
    let units: Vec<Task> = context.client.all(&format!("/v1/tasks/{}/units?limit=1000", quoted(id))).await?;
    if context.json {
        context.document(&units)?;
        return Ok(DONE);
    }
    let row = |unit: &Task| {
        let worker = unit.worker.as_deref().map_or_else(|| "-".to_owned(), line);
        let item = unit.item.as_deref().map_or_else(|| ordered(unit), line);
        let took = unit.started_at.as_deref().zip(unit.ended_at.as_deref()).and_then(|(from, to)| took(from, to)).unwrap_or_default();
        let why = unit.why.as_deref().filter(|_| unit.state != TaskState::Done && !waits(unit)).map(line);
        [
            line(&unit.id),
            why.map_or_else(|| unit.state.word().to_owned(), |why| format!("{}: {why}", unit.state.word())),
            worker,
            took,
            item,
        ]
    };
    let rows: Vec<[String; 5]> = units.iter().map(row).collect();
    print(&context.terminal.table(["ID", "STATE", "WORKER", "TOOK", "ITEM"], &rows))?;
    Ok(DONE)
}

fn waits(task: &Task) -> bool {
    matches!(task.state, TaskState::Accepted | TaskState::Queued)
}

async fn follow(id: &str, context: &Context) -> Result<u8, Failure> {
    context.farewell.set(format!("order {} goes on; see it again with: node task {} --follow", line(id), line(id)));
    let mut bar = Bar::new(!context.json);
    let mut told: Option<String> = None;
    let task = until_ended(context, id, None, &mut bar, |task, bar| {
        if context.json {
            let now = serde_json::to_string(task).unwrap_or_default();
            if told.as_ref() != Some(&now) {
                context.document(task)?;
                told = Some(now);
            }
            return Ok(());
        }
        // A line for each step; what changes within one is the bar's.
        let now = format!("{:?}{:?}{:?}", task.state, task.worker, task.attempt);
        if !task.done && told.as_ref() != Some(&now) {
            bar.clear();
            print(&format!("{}\n", shown(task)))?;
            told = Some(now);
        }
        Ok(())
    })
    .await?;
    if !context.json {
        print(&full(&task))?;
    }
    Ok(exit(&task))
}

/// All of it.
fn full(task: &Task) -> String {
    let place = match task.priority {
        1 => "front",
        2 => "middle",
        _ => "end",
    };
    let mut text = format!("order {}   {}   priority {} ({place} of queue)\n", line(&task.id), ordered(task), task.priority);
    let mut say = |label: &str, what: &str| text += &format!("{label:<LABEL$} {what}\n");
    say(task.state.word(), &standing(task));
    if task.units.total > 1 {
        say("units", &of_many(task));
    }
    if let Some(progress) = &task.progress {
        let runs = if task.eta_basis > 0 { format!(" ({} runs measured)", task.eta_basis) } else { String::new() };
        let left = task.eta_seconds.map(|left| format!("   {} left{runs}", about(left))).unwrap_or_default();
        say(
            "progress",
            &format!("{}  {}/{} {}{left}", meter(progress.done, progress.of), progress.done, progress.of, line(&progress.note)),
        );
    }
    if let Some(why) = task.why.as_deref().filter(|why| !why.is_empty()) {
        say("why", &line(why));
    }
    for one in task.lacks.iter().take(LACKING) {
        say("", &format!("{}: {}", line(&one.worker), lacks(one.lack, one.detail.as_deref())));
    }
    if task.lacks.len() > LACKING {
        say("", &format!("and {} more workers", task.lacks.len() - LACKING));
    }
    if let Some(at) = task.expires_at.as_deref().filter(|_| !task.done) {
        say("expires", &time(at));
    }
    let failed = task.units.total > 1 && task.units.failed > 0;
    if failed {
        say("see", &typed(&format!("node task {} --units", line(&task.id))));
    }
    let (out, err) = ((&task.stdout, task.stdout_bytes, task.stdout_truncated), (&task.stderr, task.stderr_bytes, task.stderr_truncated));
    text + &wrote("stdout", task, out) + &wrote("stderr", task, err)
}

/// `on nikki-pi since 15:16:11, attempt 1, held by 2 other machines`.
fn standing(task: &Task) -> String {
    let mut parts = Vec::new();
    let worker = task.worker.as_deref().map(|worker| format!("on {}", line(worker)));
    match (&task.started_at, &task.ended_at) {
        (Some(from), Some(to)) => {
            let took = took(from, to).map(|took| format!(" ({took})")).unwrap_or_default();
            parts.push(format!("{}{}{took}", worker.map(|worker| worker + ", ").unwrap_or_default(), time(to)));
        }
        (None, Some(to)) => parts.push(format!("{}{}", worker.map(|worker| worker + ", ").unwrap_or_default(), time(to))),
        (Some(from), None) => parts.push(format!("{}since {}", worker.map(|worker| worker + " ").unwrap_or_default(), time(from))),
        (None, None) => parts.extend(worker),
    }
    if waits(task) {
        parts.push(match task.position {
            Some(position) => format!("at {position}, since {}", time(&task.placed_at)),
            None => format!("since {}", time(&task.placed_at)),
        });
        if let Some(eta) = task.eta_seconds {
            let runs = match task.eta_basis {
                0 => String::new(),
                1 => " (1 run measured)".to_owned(),
                runs => format!(" ({runs} runs measured)"),
            };
            parts.push(format!("{} until it starts{runs}", about(eta)));
        }
    }
    parts.extend(task.attempt.map(|attempt| format!("attempt {attempt}")));
    match (task.done, task.held_by) {
        (true, _) => {}
        (false, 0) => parts.push("held here only: keep this machine on".to_owned()),
        (false, 1) => parts.push("held by another machine".to_owned()),
        (false, more) => parts.push(format!("held by {more} other machines")),
    }
    parts.join(", ")
}

fn wrote(label: &str, task: &Task, (text, bytes, cut): (&Option<String>, Option<u64>, bool)) -> String {
    let (Some(text), Some(bytes @ 1..)) = (text, bytes) else { return String::new() };
    let id = line(&task.id);
    let lines: Vec<&str> = text.lines().collect();
    if task.encoding != Encoding::Utf8 {
        return typed(&format!("{label:<10}{bytes} bytes that are no text: node task {id} --{label}\n"));
    }
    let some = block(&lines.iter().take(LINES).copied().collect::<Vec<_>>().join("\n"), "          ");
    let some = some.strip_prefix("          ").unwrap_or(&some);
    let more = if cut || lines.len() > LINES {
        typed(&format!("          … {bytes} bytes in all: node task {id} --{label}\n"))
    } else {
        String::new()
    };
    format!("{label:<10}{some}{more}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::api::{Lack, Lacking, Progress, Units};

    pub(in crate::cli) fn task() -> Task {
        Task {
            id: "1".to_owned(),
            order: 1,
            unit: None,
            item: None,
            orderer: "markus".to_owned(),
            orderer_id: "12D3".to_owned(),
            service: "coffee".to_owned(),
            args: vec!["latte".to_owned(), "--no-milk".to_owned()],
            priority: 3,
            state: TaskState::Running,
            done: false,
            worker: Some("nikki-pi".to_owned()),
            worker_id: Some("12D4".to_owned()),
            attempt: Some(1),
            progress: Some(Progress { done: 3, of: 5, note: "grinding".to_owned() }),
            units: Units { total: 1, running: 1, ..Units::default() },
            position: None,
            held_by: 2,
            eta_seconds: Some(8.0),
            eta_basis: 4,
            why: None,
            lacks: Vec::new(),
            placed_at: "1970-01-01T00:00:00.000Z".to_owned(),
            started_at: Some("1970-01-01T00:00:01.000Z".to_owned()),
            ..Task::default()
        }
    }

    #[test]
    fn a_running_task_is_told_with_its_progress() {
        assert_eq!(
            full(&task()),
            "order 1   coffee latte --no-milk   priority 3 (end of queue)\n\
             running   on nikki-pi since 1970-01-01, attempt 1, held by 2 other machines\n\
             progress  ######....  3/5 grinding   about 8 s left (4 runs measured)\n"
        );
    }

    #[test]
    fn a_long_state_and_what_it_is_about_are_two_words() {
        let stopping = Task { state: TaskState::Cancelling, progress: None, started_at: None, ..task() };
        assert!(full(&stopping).contains("\ncancelling on nikki-pi, attempt 1"), "{}", full(&stopping));
    }

    #[test]
    fn a_waiting_task_says_why_and_what_each_worker_lacks() {
        let lack = |worker: &str, lack, detail: Option<&str>| Lacking {
            worker: worker.to_owned(),
            worker_id: "x".to_owned(),
            lack,
            detail: detail.map(str::to_owned),
        };
        let task = Task {
            state: TaskState::Queued,
            worker: None,
            attempt: None,
            progress: None,
            started_at: None,
            position: Some(4),
            held_by: 0,
            why: Some("ada is busy; needs 16 cores, largest worker (nikki-pi) has 4".to_owned()),
            lacks: vec![lack("ada", Lack::Full, None), lack("nikki-pi", Lack::Cores, Some("4"))],
            ..task()
        };
        assert_eq!(
            full(&task),
            "order 1   coffee latte --no-milk   priority 3 (end of queue)\n\
             queued    at 4, since 1970-01-01, about 8 s until it starts (4 runs measured), held here only: keep this machine on\n\
             why       ada is busy; needs 16 cores, largest worker (nikki-pi) has 4\n          \
             ada: as many run as may\n          \
             nikki-pi: never: it has 4 cores\n"
        );
    }

    #[test]
    fn an_ended_task_shows_what_it_wrote_escaped_and_short() {
        let ended = Task {
            state: TaskState::Failed,
            done: true,
            progress: None,
            why: Some("exit 1".to_owned()),
            ended_at: Some("1970-01-01T00:00:03.500Z".to_owned()),
            stdout: Some("one latte\n".to_owned()),
            stdout_bytes: Some(10),
            stderr: Some("x\n".repeat(20) + "\u{1b}[2J"),
            stderr_bytes: Some(45),
            ..task()
        };
        let text = full(&ended);
        assert!(text.contains("failed    on nikki-pi, 1970-01-01 (2.5 s), attempt 1\nwhy       exit 1\nstdout    one latte\n"), "{text}");
        assert!(text.ends_with("          … 45 bytes in all: node task 1 --stderr\n") && !text.contains('\u{1b}'), "{text}");
        let binary = Task { encoding: Encoding::Base64, ..ended };
        assert!(full(&binary).contains("stdout    10 bytes that are no text: node task 1 --stdout\n"));
    }

    #[test]
    fn a_batch_is_told_by_its_units() {
        let units = Units { total: 40, done: 32, failed: 1, cancelled: 0, running: 3, waiting: 4 };
        let batch = Task { units, worker: None, attempt: None, progress: None, eta_seconds: Some(6.0), ..task() };
        assert!(full(&batch).contains("units     ########..  32/40 done, 1 failed, 3 running, 4 waiting, about 6 s\n"), "{}", full(&batch));
        assert_eq!(shown(&batch), "order 1  ########..  32/40 done, 1 failed, 3 running, 4 waiting, about 6 s");
    }
}
