//! `withdraw NAME`: a service that is offered no more.
//! Stops nothing: what runs goes on. What stands in node.toml comes back at the next start, and that is said.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::terminal::{line, print};
use crate::control::api::Offer;
use crate::control::client::quoted;

#[derive(Debug, Args)]
pub(super) struct WithdrawArgs {
    /// The service
    #[arg(value_name = "NAME", value_parser = super::words::service)]
    service: String,
}

pub(super) async fn execute(args: WithdrawArgs, context: &Context) -> Result<u8, Failure> {
    let offers: Vec<Offer> = context.client.get("/v1/offers").await?;
    context.client.delete(&format!("/v1/offers/{}", quoted(&args.service))).await?;
    if !context.json {
        let mut said = format!("{} is not offered any more; what runs of it goes on\n", line(&args.service));
        if offers.iter().any(|offer| offer.name == args.service && offer.configured) {
            let file = context.client.data_dir().join("node.toml");
            said += &format!(
                "  it stands in {} and is offered again at the next start, until it is taken out there\n",
                line(&file.display().to_string())
            );
        }
        print(&said)?;
    }
    Ok(DONE)
}
