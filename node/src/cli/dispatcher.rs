//! `dispatcher [--transfer PEER]`: who hands out the orders, and handing that over.
//! Elects nobody. That nobody is dispatcher is an answer.

use std::time::Duration;

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure, PENDING};
use super::sent::time;
use super::terminal::{line, print};
use crate::control::api::{Dispatcher, Transfer, Transferring, What};

/// How long the other is waited for (guess: it takes over in half a second).
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct DispatcherArgs {
    /// Let this peer be it; only the dispatcher itself can hand over
    #[arg(long, value_name = "PEER")]
    transfer: Option<String>,
}

pub(super) async fn execute(args: DispatcherArgs, context: &Context) -> Result<u8, Failure> {
    if let Some(to) = args.transfer {
        return transfer(to, context).await;
    }
    let dispatcher: Option<Dispatcher> = context.client.get("/v1/dispatcher").await?;
    if context.json {
        context.document(&dispatcher)?;
    } else {
        print(&match &dispatcher {
            Some(dispatcher) => format!("{}\n", told(dispatcher)),
            None => "nobody is dispatcher now; orders wait at their own nodes until one is elected\n".to_owned(),
        })?;
    }
    Ok(DONE)
}

/// `nikki-pi (term 1) since 15:12:42; standbys: ada, markus-thinkpad`.
pub(super) fn told(dispatcher: &Dispatcher) -> String {
    let standbys: Vec<_> = dispatcher.standbys.iter().map(|standby| line(&standby.name)).collect();
    let standbys = if standbys.is_empty() { "no standbys".to_owned() } else { format!("standbys: {}", standbys.join(", ")) };
    format!("{} (term {}) since {}; {standbys}", line(&dispatcher.name), dispatcher.term, time(&dispatcher.since_at))
}

async fn transfer(to: String, context: &Context) -> Result<u8, Failure> {
    let mut events = context.client.events(None).await?;
    let asked: Transferring = context.client.post("/v1/dispatcher/transfer", &Transfer { to }).await?;
    let taken = async {
        loop {
            let now: Option<Dispatcher> = context.client.get("/v1/dispatcher").await?;
            if let Some(now) = now.filter(|now| now.id == asked.to_id) {
                return Ok::<Dispatcher, Failure>(now);
            }
            loop {
                match events.next().await? {
                    Some(event) if matches!(event.what, What::Elected { .. } | What::Gap { .. }) => break,
                    Some(_) => {}
                    None => return Err(Failure::new(PENDING, "the node stopped before the other took over")),
                }
            }
        }
    };
    let Ok(now) = tokio::time::timeout(PATIENCE, taken).await else {
        return Err(Failure::new(PENDING, format!("{} was asked and has not taken over yet", asked.to)).next("see who is: node dispatcher"));
    };
    let now = now?;
    if context.json {
        context.document(&now)?;
    } else {
        print(&format!("{}\n", told(&now)))?;
    }
    Ok(DONE)
}
