//! `available [yes|no]` and `inactive [yes|no]`: what this node signals to the others.
//! Knows nothing of who is there. Without a word they print what is signalled now.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::terminal::print;
use super::words::yes_or_no;
use crate::control::api::{Presence, Status};

#[derive(Debug, Args)]
pub(super) struct PresenceArgs {
    /// yes or no; without it, what is signalled now
    #[arg(value_name = "yes|no", value_parser = yes_or_no)]
    to: Option<bool>,
}

pub(super) async fn available(args: PresenceArgs, context: &Context) -> Result<u8, Failure> {
    let now = signal(Presence { available: args.to, inactive: None }, context).await?;
    tell(now, now.available, ["letters and tasks are welcome", "letters wait until you say: node available yes"], context)
}

pub(super) async fn inactive(args: PresenceArgs, context: &Context) -> Result<u8, Failure> {
    let now = signal(Presence { available: None, inactive: args.to }, context).await?;
    tell(now, now.inactive, ["others are told that letters may not be read soon", "others expect you to read soon"], context)
}

async fn signal(wanted: Presence, context: &Context) -> Result<Presence, Failure> {
    if wanted != Presence::default() {
        return Ok(context.client.put("/v1/presence", &wanted).await?);
    }
    let status: Status = context.client.get("/v1/status").await?;
    Ok(Presence { available: Some(status.available), inactive: Some(status.inactive) })
}

fn tell(now: Presence, yes: Option<bool>, meaning: [&str; 2], context: &Context) -> Result<u8, Failure> {
    if context.json {
        context.document(&now)?;
    } else {
        print(&match (yes, context.terminal.is) {
            (Some(true), true) => format!("yes: {}\n", meaning[0]),
            (Some(true), false) => "yes\n".to_owned(),
            (_, true) => format!("no: {}\n", meaning[1]),
            (_, false) => "no\n".to_owned(),
        })?;
    }
    Ok(DONE)
}
