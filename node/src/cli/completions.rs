//! `completions SHELL`, and the manual pages: what is made from the grammar alone.
//! Needs no node. Words of people and services are completed by nobody: they may be anyone's.

use std::io;
use std::path::PathBuf;

use clap::Args;
use clap_complete::{Shell, generate};

use super::failure::{DONE, Failure};
use super::terminal::print;

#[derive(Debug, Args)]
#[command(
    after_help = "For bash: put it into ~/.local/share/bash-completion/completions/NAME, where NAME is what the program is called.\n\
                        For zsh: into _NAME in a directory of $fpath. For fish: into ~/.config/fish/completions/NAME.fish.\n\
                        scripts/install does this for bash, zsh and fish."
)]
pub(super) struct CompletionsArgs {
    /// Which
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

pub(super) fn execute(args: &CompletionsArgs, mut grammar: clap::Command, called: &str) -> Result<u8, Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut grammar, called, &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(DONE)
}

/// Where the manual is written; for `scripts/install`.
#[derive(Debug, Args)]
pub(super) struct ManualArgs {
    /// A directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// A page for the program and one for each command, as `NAME.1` and `NAME-COMMAND.1`.
pub(super) fn manual(args: &ManualArgs, grammar: clap::Command, called: &str) -> Result<u8, Failure> {
    // The pages and all in them bear the name under which the program is installed.
    let grammar = grammar.name(called.to_owned()).display_name(called.to_owned());
    clap_mangen::generate_to(grammar, &args.dir).map_err(|error: io::Error| {
        Failure::new(super::failure::REFUSED, format!("the manual cannot be written to {}: {error}", args.dir.display()))
    })?;
    Ok(DONE)
}
