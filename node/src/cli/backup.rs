//! `backup FILE`: the whole node in one file, while it runs.
//! Writes the file as who types it. Either all of it is there, checked and flushed, or nothing.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::Context;
use super::bar::{Bar, meter};
use super::failure::{DISK, DONE, Failure, REFUSED, USAGE};
use super::terminal::{line, print};
use crate::control::client;
use crate::control::time::rfc3339;
use crate::store::backup::{BadBackup, Header, Parser};

#[derive(Debug, Args)]
#[command(
    after_help = "In it are the node's keys, its whole memory and its node.toml, for `node restore`: keep it as safe as the node itself. \
    Not in it are the key file of a private swarm (--swarm-key) and what is kept of long outputs of services that ran here."
)]
pub(super) struct BackupArgs {
    /// Where to put it; of mode 600
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    replace: bool,
}

/// What was made.
#[derive(Serialize)]
struct Made<'a> {
    file: String,
    bytes: u64,
    #[serde(flatten)]
    of: Of<'a>,
}

/// What a backup is of.
#[derive(Serialize)]
pub(super) struct Of<'a> {
    peer: Peer<'a>,
    swarm: &'a str,
    open: bool,
    made_at: String,
    rows: u64,
    version: &'a str,
}

#[derive(Serialize)]
struct Peer<'a> {
    id: String,
    name: &'a str,
}

impl<'a> Of<'a> {
    pub(super) fn new(header: &'a Header) -> Of<'a> {
        let Header { program, peer, name, swarm, open, made, rows, .. } = header;
        let peer = Peer { id: peer.to_string(), name: name.as_str() };
        Of { peer, swarm, open: *open, made_at: rfc3339(*made), rows: *rows, version: program }
    }
}

pub(super) async fn execute(args: BackupArgs, context: &Context) -> Result<u8, Failure> {
    let BackupArgs { file, replace } = args;
    let shown = file.display().to_string();
    let there = || Failure::new(REFUSED, format!("{shown} is there already")).next("name another file, or add --replace");
    if file.is_dir() {
        return Err(Failure::new(USAGE, format!("{shown} is a directory")).next("name a file in it"));
    }
    if !replace && file.symlink_metadata().is_ok() {
        return Err(there());
    }
    let failed = |error: std::io::Error| {
        // The library adds the name of its temporary file, which nobody has typed.
        let why = error.to_string();
        let why = why.split(" at path ").next().unwrap_or_default();
        Failure::new(DISK, format!("the backup was not made: {shown} cannot be written: {why}")).next("nothing was left there")
    };
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !dir.is_dir() {
        return Err(Failure::new(USAGE, format!("there is no directory {}", dir.display())).next("make it first, or name another"));
    }
    // It goes with whatever ends this command, but for SIGKILL; its mode is 600 from the beginning.
    let mut part = tempfile::Builder::new().prefix(".swarm-backup-").tempfile_in(dir).map_err(failed)?;
    let mut pieces = context.client.bytes_of_deed("/v1/backup").await?;
    let (mut parser, mut bar) = (Parser::default(), Bar::new(!context.json));
    loop {
        let piece = match pieces.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(client::Error::Broken(why)) => {
                return Err(Failure::new(DISK, format!("the backup was not made: the node broke off ({why})"))
                    .next("nothing was left there; look at what the node itself says, and try again"));
            }
            Err(error) => return Err(error.into()),
        };
        parser.check(&piece).map_err(spoilt)?;
        part.write_all(&piece).map_err(failed)?;
        if let Some(header) = parser.header() {
            bar.show(&format!("{} {} of {} rows", meter(parser.rows(), header.rows), parser.rows(), header.rows));
        }
    }
    let bytes = parser.bytes();
    let header = parser.end().map_err(spoilt)?;
    part.as_file().sync_all().map_err(failed)?;
    let kept = if replace { part.persist(&file) } else { part.persist_noclobber(&file) };
    match kept {
        Ok(_) => {}
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => return Err(there()),
        Err(error) => return Err(failed(error.error)),
    }
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    bar.clear();
    if context.json {
        context.document(&Made { file: shown, bytes, of: Of::new(&header) })?;
    } else if context.terminal.is {
        print(&format!(
            "{} is in {} ({bytes} bytes), with its keys: keep it as safe as the node itself\n  to put it back: node restore {}\n",
            line(header.name.as_str()),
            line(&shown),
            line(&shown)
        ))?;
    }
    Ok(DONE)
}

/// What the node sent is not what it made.
fn spoilt(why: BadBackup) -> Failure {
    Failure::new(DISK, format!("the backup was not made: {why}")).next("nothing was left there; try again")
}
