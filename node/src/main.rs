//! The program. Everything is decided elsewhere: in [`node::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    node::cli::main(|_options| async { anyhow::bail!("this build cannot run a node yet") })
}
