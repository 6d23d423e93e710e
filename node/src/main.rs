//! The program. Everything is decided elsewhere: in [`node::cli`] and [`node::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    node::cli::main(node::run::run)
}
