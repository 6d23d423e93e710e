//! `block [PEER] [--off]`: from whom nothing is taken.
//! Knows nothing of what is refused. Without a name it lists those who are blocked.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::terminal::{line, print};
use crate::control::api::{Block, Peer};
use crate::control::client::quoted;

#[derive(Debug, Args)]
#[command(
    after_help = "Letters of a blocked peer stay with it, and it is told why; nothing is held for it either, and nothing that it orders is\n\
                  begun here. You can still write to it, and order of it."
)]
pub(super) struct BlockArgs {
    /// Whom; without it those who are blocked are listed
    #[arg(value_name = "PEER", required_if_eq("off", "true"))]
    peer: Option<String>,
    /// Take letters from it again
    #[arg(long)]
    off: bool,
}

pub(super) async fn execute(args: BlockArgs, context: &Context) -> Result<u8, Failure> {
    let blocked: Vec<Peer> = match &args.peer {
        Some(peer) => context.client.put(&format!("/v1/blocks/{}", quoted(peer)), &Block { blocked: !args.off }).await?,
        None => context.client.get("/v1/blocks").await?,
    };
    if context.json {
        context.document(&blocked)?;
    } else {
        match &args.peer {
            Some(peer) if args.off => print(&format!("{} may write to you again\n", line(peer)))?,
            Some(peer) => print(&format!("{} is blocked: its letters stay with it, and its orders are not begun here\n", line(peer)))?,
            None if blocked.is_empty() && context.terminal.is => print("nobody is blocked\n")?,
            None => print(&blocked.iter().map(|peer| format!("{}  {}\n", line(&peer.name), peer.id)).collect::<String>())?,
        }
    }
    Ok(DONE)
}
