//! `stop`: the node stops in order, and this returns when it has.
//! Kills nothing. What was accepted is on the disk and goes on after the next start.

use std::time::Duration;

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure, PENDING};
use super::terminal::print;
use super::words::duration;
use crate::control::api::Stopping;

/// Between two looks (guess).
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    /// How long to wait for its end: 30s, 5m, 2h, 1d
    #[arg(long, value_name = "D", value_parser = duration, default_value = "30s")]
    timeout: Duration,
}

pub(super) async fn execute(args: StopArgs, context: &Context) -> Result<u8, Failure> {
    let stopping: Stopping = context.client.post("/v1/stop", &serde_json::json!({})).await?;
    let gone = async {
        while context.client.answers().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(args.timeout, gone).await.is_err() {
        return Err(Failure::new(PENDING, "the node was told to stop and is still there").next("see what it says where it runs"));
    }
    if context.json {
        context.document(&stopping)?;
    } else if context.terminal.is {
        print("stopped\n")?;
    }
    Ok(DONE)
}
