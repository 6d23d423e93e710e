//! The outcome of an order in the inbox, in words for people.
//! Knows nothing of how it came about. What a program wrote is told as it wrote it; whoever prints this escapes it.

use serde::Deserialize as _;

use crate::control::api::{Encoding, Envelope, OutcomePayload, Task, TaskState};

/// Characters of the output that a line of the inbox shows.
const BEGINNING: usize = 200;

/// The order that an event of this node tells the end of; none for anything else that is in an inbox.
pub(super) fn of(envelope: &Envelope) -> Option<Task> {
    if envelope.kind != "event" || envelope.payload["event"] != "outcome" {
        return None;
    }
    OutcomePayload::deserialize(&envelope.payload).ok().map(|outcome| outcome.task)
}

/// In one line, with the beginning of what it wrote: `order 17 coffee: done at nikki-pi: one latte`.
pub(super) fn brief(task: &Task) -> String {
    let output = output(task).trim_start();
    let first = output.lines().next().unwrap_or_default();
    let beginning: String = first.chars().take(BEGINNING).collect();
    let more = beginning.len() < output.trim_end().len();
    let more = if more && !beginning.is_empty() { " …" } else { "" };
    if beginning.is_empty() { head(task) } else { format!("{}: {beginning}{more}", head(task)) }
}

/// In full: the line, what it wrote as far as it came here, and where the rest is.
pub(super) fn full(task: &Task) -> String {
    let mut text = head(task);
    for (what, cut) in [(&task.stdout, task.stdout_truncated), (&task.stderr, task.stderr_truncated)] {
        let Some(what) = what.as_deref().filter(|what| !what.is_empty()) else { continue };
        match task.encoding {
            Encoding::Utf8 => text += &format!("\n{}", what.trim_end_matches('\n')),
            Encoding::Base64 => text += &format!("\n(bytes that are no text: node task {} --stdout)", task.id),
        }
        if cut {
            text += &format!("\n(this is not all: node task {})", task.id);
        }
    }
    text
}

fn head(task: &Task) -> String {
    let at = task.worker.as_ref().map(|worker| format!(" at {worker}")).unwrap_or_default();
    let of_many = match task.units.total {
        0 | 1 => String::new(),
        total if task.state == TaskState::Done => format!(", all {total} units"),
        _ => String::new(),
    };
    // Of a cancelled order one knows why.
    let why = task.why.as_ref().filter(|_| task.state != TaskState::Done).map(|why| format!(" ({why})")).unwrap_or_default();
    format!("order {} {}: {}{at}{of_many}{why}", task.order, task.service, task.state.word())
}

/// What tells most of it: of what failed, what it complained of.
fn output(task: &Task) -> &str {
    if task.encoding == Encoding::Base64 {
        return "";
    }
    let (stdout, stderr) = (task.stdout.as_deref().unwrap_or_default(), task.stderr.as_deref().unwrap_or_default());
    if task.state != TaskState::Done && !stderr.trim().is_empty() { stderr } else { stdout }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::Units;

    fn task(state: TaskState, stdout: &str, stderr: &str) -> Task {
        Task {
            id: "17".to_owned(),
            order: 17,
            service: "coffee".to_owned(),
            state,
            done: true,
            worker: Some("nikki-pi".to_owned()),
            stdout: Some(stdout.to_owned()),
            stderr: Some(stderr.to_owned()),
            units: Units { total: 1, ..Units::default() },
            ..Task::default()
        }
    }

    #[test]
    fn an_outcome_is_told_in_a_line_with_the_beginning_of_its_output() {
        let check = |task: &Task, expected: &str| assert_eq!(brief(task), expected);
        check(&task(TaskState::Done, "one latte\n", "noise"), "order 17 coffee: done at nikki-pi: one latte");
        check(&task(TaskState::Done, "one\ntwo\n", ""), "order 17 coffee: done at nikki-pi: one …");
        check(&task(TaskState::Done, "", ""), "order 17 coffee: done at nikki-pi");
        let failed = Task { why: Some("exit 3".to_owned()), ..task(TaskState::Failed, "half a cup", "no milk\n") };
        check(&failed, "order 17 coffee: failed at nikki-pi (exit 3): no milk");
        let cancelled = Task { worker: None, stdout: None, stderr: None, ..task(TaskState::Cancelled, "", "") };
        check(&cancelled, "order 17 coffee: cancelled");
        let units = Units { total: 100, done: 100, ..Units::default() };
        check(&Task { units, ..cancelled.clone() }, "order 17 coffee: cancelled");
        check(&Task { units, state: TaskState::Done, ..cancelled }, "order 17 coffee: done, all 100 units");
        let long = "x".repeat(300);
        assert_eq!(brief(&task(TaskState::Done, &long, "")).chars().filter(|c| *c == 'x').count(), BEGINNING);
    }

    #[test]
    fn in_full_it_tells_all_that_came_and_where_the_rest_is() {
        let mut all = task(TaskState::Done, "one\ntwo\n", "warned\n");
        assert_eq!(full(&all), "order 17 coffee: done at nikki-pi\none\ntwo\nwarned");
        all.stdout_truncated = true;
        assert!(full(&all).contains("\n(this is not all: node task 17)\nwarned"));
        all.encoding = Encoding::Base64;
        assert!(!full(&all).contains("two"));
    }
}
