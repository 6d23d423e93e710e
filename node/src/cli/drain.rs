//! `drain [--off]`: finish what runs here, and take nothing new.
//! Stops nothing. Outlives restarts.

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::places::typed;
use super::terminal::print;
use crate::control::api::{Drain, Draining};

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// Take orders again
    #[arg(long)]
    off: bool,
}

pub(super) async fn execute(args: DrainArgs, context: &Context) -> Result<u8, Failure> {
    let now: Draining = context.client.post("/v1/drain", &Drain { draining: !args.off }).await?;
    if context.json {
        context.document(&now)?;
    } else {
        print(&told(now))?;
    }
    Ok(DONE)
}

fn told(now: Draining) -> String {
    if !now.draining {
        return "orders are taken again\n".to_owned();
    }
    // What has not begun is given back.
    let left = match now.running {
        0 => "nothing runs here".to_owned(),
        1 => "1 unit goes on".to_owned(),
        many => format!("{many} units go on"),
    };
    typed(&format!("nothing new is taken; {left}\n  to take orders again: node drain --off\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_counted() {
        let check = |draining, running, queued, expected: &str| assert!(told(Draining { draining, running, queued }).contains(expected));
        check(true, 0, 0, "nothing runs here");
        check(true, 1, 0, "1 unit goes on");
        check(true, 2, 3, "2 units go on");
        check(false, 2, 0, "taken again");
    }
}
