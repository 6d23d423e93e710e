//! `stop [--drain]`: the node stops in order, and this returns when it has.
//! Kills nothing. What was accepted is on the disk and goes on after the next start.

use std::time::Duration;

use clap::Args;

use super::Context;
use super::bar::Bar;
use super::failure::{DONE, Failure, PENDING};
use super::terminal::print;
use super::words::duration;
use crate::control::api::{Drain, Draining, Status, Stopping};

/// Between two looks (guess).
const LOOK: Duration = Duration::from_millis(20);
/// Between two looks at what still runs (guess: as often as anyone looks).
const GLANCE: Duration = Duration::from_millis(250);
/// How long the end of the node is waited for if nothing is said: its tasks have 5 s, then it hands over what it holds.
const ENDING: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    /// First finish what runs here, taking nothing new
    #[arg(long)]
    drain: bool,
    /// How long to wait for its end: 30s, 5m, 2h, 1d; 30s if nothing is said, and with --drain for as long as something runs
    #[arg(long, value_name = "D", value_parser = duration)]
    timeout: Option<Duration>,
}

pub(super) async fn execute(args: StopArgs, context: &Context) -> Result<u8, Failure> {
    if args.drain {
        drained(args.timeout, context).await?;
    }
    let stopping: Stopping = context.client.tell("/v1/stop").await?;
    let gone = async {
        while context.client.answers().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(args.timeout.unwrap_or(ENDING), gone).await.is_err() {
        return Err(Failure::new(PENDING, "the node was told to stop and is still there").next("see what it says where it runs"));
    }
    if context.json {
        context.document(&stopping)?;
    } else if context.terminal.is {
        print("stopped\n")?;
    }
    Ok(DONE)
}

/// Returns when nothing runs any more; what the node takes after its next start is as it was before.
async fn drained(patience: Option<Duration>, context: &Context) -> Result<(), Failure> {
    let before: Status = context.client.get("/v1/status").await?;
    context
        .farewell
        .set("the node goes on: it finishes what runs and takes nothing new; to take orders again: node drain --off".to_owned());
    let began = tokio::time::Instant::now();
    let mut bar = Bar::new(!context.json);
    let mut said = None;
    loop {
        // Saying it again changes nothing, and tells how much is left.
        let now: Draining = context.client.post("/v1/drain", &Drain { draining: true }).await?;
        let left = now.running + now.queued;
        if left == 0 {
            break;
        }
        if patience.is_some_and(|patience| began.elapsed() >= patience) {
            return Err(Failure::new(PENDING, format!("{} still running; the node was not stopped, and takes nothing new", units(left)))
                .next("wait on: node stop --drain; stop all the same: node stop; take orders again: node drain --off"));
        }
        if bar.is_seen() {
            bar.show(&format!("{} to finish before the node stops", units(left)));
        } else if !context.json && said.replace(left) != Some(left) {
            eprintln!("{} to finish before the node stops", units(left));
        }
        tokio::time::sleep(GLANCE).await;
    }
    bar.clear();
    drop(context.farewell.take());
    if !before.orders.draining {
        let _: Draining = context.client.post("/v1/drain", &Drain { draining: false }).await?;
    }
    Ok(())
}

fn units(count: u32) -> String {
    if count == 1 { "1 unit".to_owned() } else { format!("{count} units") }
}
