//! Waiting for orders to end: woken by the node's events, and by the clock only where somebody watches.
//! Ends no order. Whoever stops watching is told that the order goes on.

use std::time::Duration;

use super::Context;
use super::bar::{Bar, meter};
use super::failure::{DONE, ENDED_BADLY, Failure, PENDING, USAGE};
use super::terminal::line;
use super::words::{about, brief};
use crate::control::api::{Task, TaskState, What};
use crate::control::client::{Events, quoted};

/// Between two looks while somebody watches (as smooth as a bar needs to be).
const LOOK: Duration = Duration::from_millis(250);
/// Between two looks when only events count (guess: what is not told by them is seldom, and nobody looks).
const GLANCE: Duration = Duration::from_secs(2);

/// Whoever keeps the record has the end of an order of another node within this (it has it in a third of a second, if it hears its author).
const WRITTEN_WITHIN: Duration = Duration::from_secs(3);

/// How long the last look may take when patience has ended (guess: the node is on this machine).
const LAST_LOOK: Duration = Duration::from_millis(500);

/// The task as it is.
pub(super) async fn look(context: &Context, id: &str) -> Result<Task, Failure> {
    Ok(context.client.get(&format!("/v1/tasks/{}", quoted(id))).await?)
}

/// Watches until the task has ended, for as long as there is patience, which is for ever if none is given. `changed` hears
/// of each new state.
pub(super) async fn until_ended(
    context: &Context,
    id: &str,
    patience: Option<Duration>,
    bar: &mut Bar,
    mut changed: impl FnMut(&Task, &mut Bar) -> Result<(), Failure>,
) -> Result<Task, Failure> {
    let (mut latest, mut missing_since) = (None, None);
    let watching = async {
        // First the events, then the look: what happens between them is told.
        let mut events = context.client.events(None).await?;
        loop {
            let task = match look(context, id).await {
                // How it ended is in the record a moment later.
                Err(Failure::Said { exit: USAGE, .. }) if latest.is_some() => {
                    let missing = *missing_since.get_or_insert_with(tokio::time::Instant::now);
                    if missing.elapsed() < WRITTEN_WITHIN {
                        tokio::time::sleep(LOOK).await;
                        continue;
                    }
                    return Err(ended_elsewhere(id));
                }
                looked => looked?,
            };
            missing_since = None;
            bar.show(&shown(&task));
            let ended = task.done;
            // Only of orders of this node events tell all.
            let own = task.unit.is_none() && !task.id.contains('/');
            changed(&task, bar)?;
            let task = latest.insert(task);
            if ended {
                return Ok::<(), Failure>(());
            }
            let pause = if bar.is_seen() || !own { LOOK } else { GLANCE };
            if let Ok(news) = tokio::time::timeout(pause, news_of(task.order, &mut events)).await {
                news.map_err(|failure| still(id, failure))?;
            }
        }
    };
    let ended = match patience {
        None => Ok(watching.await),
        Some(patience) => tokio::time::timeout(patience, watching).await,
    };
    bar.clear();
    match (ended, latest) {
        (Ok(result), Some(task)) => result.map(|()| task),
        (Ok(result), None) => Err(result.err().unwrap_or_else(|| unseen(id))),
        // What was seen last may be seconds old.
        (Err(_), seen) => match tokio::time::timeout(LAST_LOOK, look(context, id)).await.ok().and_then(Result::ok).or(seen) {
            Some(task) if task.done => Ok(task),
            Some(task) => Err(pending(&task)),
            None => Err(unseen(id)),
        },
    }
}

fn unseen(id: &str) -> Failure {
    Failure::new(PENDING, format!("how far {id} is was not told in time")).next(format!("see how far it is: node task {id}"))
}

/// An order of another node was seen to go on, and is not known any more.
fn ended_elsewhere(id: &str) -> Failure {
    let (whose, number) = id.split_once('/').unwrap_or(("its orderer", id));
    Failure::new(PENDING, format!("order {} has ended; how, only its own node tells", line(id))).next(format!(
        "ask at the node of {}: its task {}",
        line(whose),
        line(number)
    ))
}

/// The node went away while somebody waited; the order does not.
fn still(id: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Said { what, .. } => {
            Failure::new(PENDING, format!("the end of {id} is not known: {what}")).next(format!("when the node runs again: node task {id}"))
        }
        quiet => quiet,
    }
}

/// Patience has ended before the order.
pub(super) fn pending(task: &Task) -> Failure {
    let why = task.why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    Failure::new(PENDING, format!("order {} has not ended in time: {}{why}", task.id, task.state.word()))
        .next(format!("it goes on; see how far it is: node task {}", task.id))
}

async fn news_of(order: u64, events: &mut Events) -> Result<(), Failure> {
    while let Some(event) = events.next().await? {
        match event.what {
            What::OrderEnded { order: which, .. } | What::OrderCancelled { order: which, .. } if which == order => return Ok(()),
            What::Gap { .. } | What::Elected { .. } => return Ok(()),
            _ => {}
        }
    }
    Err(Failure::new(PENDING, "the node stopped"))
}

/// The exit code of who waited for it.
#[must_use]
pub(super) fn exit(task: &Task) -> u8 {
    if task.state == TaskState::Done { DONE } else { ENDED_BADLY }
}

/// `order 3 failed: 39 done, 1 failed`.
#[must_use]
pub(super) fn ended(task: &Task) -> String {
    let why = task.why.as_deref().filter(|_| task.state != TaskState::Done).map(|why| format!(": {}", line(why))).unwrap_or_default();
    format!("order {} {}{why}", line(&task.id), task.state.word())
}

/// A task in the line of a bar.
#[must_use]
pub(super) fn shown(task: &Task) -> String {
    let id = line(&task.id);
    if task.units.total > 1 {
        return format!("order {id}  {}", of_many(task));
    }
    if let Some(progress) = &task.progress {
        let left = task.eta_seconds.map(|left| format!("   {} left", about(left))).unwrap_or_default();
        let note = line(&progress.note);
        return format!("order {id}  {}  {}/{} {note}{left}", meter(progress.done, progress.of), progress.done, progress.of);
    }
    let place = match (&task.worker, task.state) {
        (Some(worker), TaskState::Running | TaskState::Assigned) => format!(" on {}", line(worker)),
        _ => task.position.map(|position| format!(" at {position}")).unwrap_or_default(),
    };
    let why = task.why.as_deref().map(|why| format!(": {}", line(why))).unwrap_or_default();
    let eta = task.eta_seconds.map(|eta| format!(", {}", about(eta))).unwrap_or_default();
    format!("order {id}  {}{place}{eta}{why}", task.state.word())
}

/// `########..  32/40 done, 1 failed, 3 running, 4 waiting, about 6 s`.
#[must_use]
pub(super) fn of_many(task: &Task) -> String {
    let units = &task.units;
    let ended = units.done + units.failed + units.cancelled;
    let mut text = format!("{}  {}/{} done", meter(u64::from(ended), u64::from(units.total)), units.done, units.total);
    for (count, word) in [(units.failed, "failed"), (units.cancelled, "cancelled"), (units.running, "running"), (units.waiting, "waiting")]
    {
        if count > 0 {
            text += &format!(", {count} {word}");
        }
    }
    match (task.eta_seconds, task.done) {
        (Some(left), false) => text + &format!(", {}", about(left)),
        _ => text,
    }
}

/// How long something took that ran from one instant of the API to another.
pub(super) fn took(from: &str, to: &str) -> Option<String> {
    let (from, to) = (crate::control::time::parse(from)?, crate::control::time::parse(to)?);
    Some(brief(Duration::from_millis(to.0.checked_sub(from.0)?)))
}
