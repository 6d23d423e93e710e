//! `connect ADDR`: reach a node that was not found by itself.
//! Knows nothing of the network. Once reached, it is remembered.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::terminal::{line, print};
use crate::control::api::{Connect, Connected};

#[derive(Debug, Args)]
pub(super) struct ConnectArgs {
    /// HOST, HOST:PORT or a multiaddr
    #[arg(value_name = "ADDR")]
    address: String,
}

pub(super) async fn execute(args: ConnectArgs, context: &Context) -> Result<u8, Failure> {
    let reached: Connected = context.client.post("/v1/connect", &Connect { address: args.address }).await?;
    if context.json {
        context.document(&reached)?;
    } else {
        print(&format!("reached {}\n", line(&reached.reached)))?;
    }
    Ok(DONE)
}
