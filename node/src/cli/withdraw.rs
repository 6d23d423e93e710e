//! `withdraw NAME`: a service that is offered no more.
//! Stops nothing: what runs goes on.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::terminal::{line, print};
use crate::control::client::quoted;

#[derive(Debug, Args)]
pub(super) struct WithdrawArgs {
    /// The service
    #[arg(value_name = "NAME")]
    service: String,
}

pub(super) async fn execute(args: WithdrawArgs, context: &Context) -> Result<u8, Failure> {
    context.client.delete(&format!("/v1/offers/{}", quoted(&args.service))).await?;
    if !context.json {
        print(&format!("{} is not offered any more; what runs of it goes on\n", line(&args.service)))?;
    }
    Ok(DONE)
}
