//! `restore FILE`: a backup becomes a node's directory again, elsewhere or here.
//! The one command that works on a directory itself: no node runs there yet, and none is started.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Which;
use super::backup::Of;
use super::bar::{Bar, meter};
use super::failure::{DISK, DONE, Failure, REFUSED, USAGE};
use super::places::{self, Environment};
use super::terminal::{Terminal, line, print};
use crate::control::time::{for_people, now};
use crate::net;
use crate::store::backup::Header;
use crate::store::restore::{RestoreError, inspect, restore};
use crate::store::{DirectoryError, OpenError};

#[derive(Debug, Args)]
#[command(
    after_help = "The directory is the one that --data-dir or --name names, or that of the node's own name; it must be empty or not there. \
    The node goes on under a new epoch: what it wrote after the backup was made is not mistaken for what it writes now. It must not run \
    elsewhere at the same time. A private swarm's key file is not in a backup."
)]
pub(super) struct RestoreArgs {
    /// What `node backup` made
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
struct Restored<'a> {
    data_dir: String,
    #[serde(flatten)]
    of: Of<'a>,
}

pub(super) fn execute(args: &RestoreArgs, which: &Which, environment: &Environment) -> Result<u8, Failure> {
    let RestoreArgs { file } = args;
    let bytes = file.metadata().map_or(0, |file| file.len());
    let mut bar = Bar::new(!which.json);
    let header = inspect(file, &mut |read| bar.show(&format!("{} checking", meter(read, bytes)))).map_err(failed)?;
    let dir = places::for_restore(which.data_dir.as_deref(), which.name.as_deref(), environment, &header.name)?;
    bar.clear();
    refuse_if_alive(&header)?;
    let header = restore(file, &dir, &mut |read| bar.show(&format!("{} writing", meter(read, bytes)))).map_err(failed)?;
    bar.clear();
    if which.json {
        let restored = Restored { data_dir: dir.display().to_string(), of: Of::new(&header) };
        let text = serde_json::to_string(&restored).expect("texts and numbers");
        print(&(text + "\n"))?;
    } else {
        let key =
            if header.open { String::new() } else { " --swarm-key FILE (the swarm is private, and its key is not in a backup)".to_owned() };
        let text = format!(
            "{} is in {}, as it was on {}; it goes on under a new epoch\n",
            line(&protocol::name::distinct(&header.name, &header.peer)),
            line(&dir.display().to_string()),
            for_people(header.made, now()),
        );
        let next = format!("  start it with: {}{key}\n", line(&places::start(&dir, environment)));
        print(&if Terminal::stdout().is { text + &next } else { text })?;
    }
    Ok(DONE)
}

/// With the node of this backup still running there would be two of it. A private swarm's are found when the restored one starts: here
/// its key is not known.
fn refuse_if_alive(header: &Header) -> Result<(), Failure> {
    if !header.open {
        return Ok(());
    }
    let addresses = header.addresses.iter().filter_map(|address| address.parse().ok()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(net::found_at(header.peer, addresses, None)) {
        Some(address) => Err(Failure::new(REFUSED, format!("{} is running, at {address}: there would be two of it", header.name))
            .next("nothing was put back; to go back to this backup, stop that node first: node stop")
            .next("to move it as it is now, stop it and copy its whole directory")),
        None => Ok(()),
    }
}

fn failed(error: RestoreError) -> Failure {
    let exit = match &error {
        RestoreError::Bad { .. } | RestoreError::NotEmpty { .. } => REFUSED,
        RestoreError::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound => USAGE,
        RestoreError::Io { .. } | RestoreError::Directory(DirectoryError::Io { .. } | DirectoryError::Key { .. }) => DISK,
        RestoreError::Database(OpenError::Newer { .. } | OpenError::Busy { .. }) | RestoreError::Directory(_) => REFUSED,
        RestoreError::Database(_) => DISK,
    };
    let failure = Failure::new(exit, error.to_string());
    match error {
        RestoreError::NotEmpty { .. } => failure.next("name another one: node restore FILE --data-dir DIR"),
        RestoreError::Bad { .. } => failure.next("nothing was put back; is there another copy of it?"),
        _ => failure.next("nothing was put back"),
    }
}
