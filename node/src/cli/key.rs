//! `key new FILE`: the file that makes a swarm closed.
//! Needs no node. What is there already is never written over: whoever lost a swarm's key has lost the swarm.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::failure::{DONE, Failure, REFUSED};
use super::terminal::{Terminal, line, print};

/// The format that go-libp2p introduced: two lines of header, then 64 hexadecimal digits.
pub(crate) const HEADER: [&str; 2] = ["/key/swarm/psk/1.0.0/", "/base16/"];

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// Make a key for a swarm of your own: only nodes that have this file can join it
    New {
        /// Where; it must not be there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(super) fn execute(args: &KeyArgs, json: bool, called: &str) -> Result<u8, Failure> {
    let Deed::New { file } = &args.deed;
    make(file)?;
    let shown = file.display().to_string();
    if json {
        print(&format!("{}\n", serde_json::json!({ "file": shown })))?;
    } else if Terminal::stdout().is {
        print(&format!(
            "made {0}; take it to each machine by a way that you trust (like scp), and start the nodes there with:\n  \
             {called} run --swarm-key {0}\n",
            line(&shown)
        ))?;
    }
    Ok(DONE)
}

fn make(file: &Path) -> Result<(), Failure> {
    let shown = file.display();
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| Failure::new(REFUSED, format!("the system gives no random numbers: {error}")))?;
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut opened = made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::new(REFUSED, format!("{shown} is there already, and is left as it is"))
            .next("name a file that is not there yet: node key new FILE"),
        io::ErrorKind::NotFound => Failure::new(REFUSED, format!("{shown} cannot be made: its directory is not there"))
            .next("make the directory first, or name another file"),
        _ => Failure::new(REFUSED, format!("{shown} cannot be made: {error}")),
    })?;
    let [first, second] = HEADER;
    let written = opened.write_all(format!("{first}\n{second}\n{digits}\n").as_bytes()).and_then(|()| opened.sync_all());
    written.map_err(|error| {
        // Half a key is none; nobody has seen it.
        let _ = std::fs::remove_file(file);
        Failure::from(error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_for_its_user_alone_and_never_made_over_another() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let file = dir.path().join("swarm.key");
        make(&file).expect("nothing is there");
        let text = std::fs::read_to_string(&file).expect("it is there");
        assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[..2] == HEADER && lines[2].len() == 64 && lines.len() == 3, "{lines:?}");
        let failure = make(&file).expect_err("it is there");
        assert_eq!(failure.exit(), REFUSED);
        assert_eq!(std::fs::read_to_string(&file).expect("it is there"), text);
        assert!(make(&dir.path().join("nowhere/key")).is_err());
    }
}
