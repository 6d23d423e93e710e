//! `rename NEW`: what this node is called from now on.
//! Knows nothing of who is told: the node tells everybody who is here at once. The key, which is who the node is, stays.

use clap::Args;
use protocol::name::PeerName;

use super::Context;
use super::failure::{DONE, Failure};
use super::terminal::{line, print};
use crate::control::api::{Me, Peer, Rename};

#[derive(Debug, Args)]
#[command(
    after_help = "The node stays the same for all who know it: letters that wait for it still come. Its directory keeps the name that it was\n\
                        first started under, and so does --name."
)]
pub(super) struct RenameArgs {
    /// 1 to 64 bytes without spaces, / : and @
    #[arg(value_name = "NEW", value_parser = name)]
    new: PeerName,
}

fn name(text: &str) -> Result<PeerName, String> {
    text.parse().map_err(|error: protocol::name::NameError| error.to_string())
}

pub(super) async fn execute(args: RenameArgs, context: &Context) -> Result<u8, Failure> {
    let me: Me = context.client.put("/v1/name", &Rename { name: args.new.to_string() }).await?;
    if context.json {
        context.document(&me)?;
        return Ok(DONE);
    }
    print(&format!("this node is called {} now\n", line(&me.name)))?;
    let others: Vec<Peer> = context.client.all("/v1/peers?all=true").await?;
    if let Some(other) = others.iter().find(|peer| peer.name == me.name) {
        let tail = |id: &str| id.get(id.len().saturating_sub(8)..).unwrap_or_default().to_owned();
        let (name, theirs, ours) = (line(&me.name), tail(&other.id), tail(&me.id));
        eprintln!(
            "warning: another peer bears that name: {name}@{theirs}\n  \
             whoever writes to {name} is asked which is meant; this node is {name}@{ours}"
        );
    }
    Ok(DONE)
}
