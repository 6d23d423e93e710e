//! The program. Everything is decided elsewhere: in [`node::cli`] and [`node::run`].

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// The system's allocator keeps what a burst needed. Measured, 900,000 letters to a peer that was away and came back: glibc
/// 132 MB at the author and 148 MB at the recipient in the end, this one 67 and 48.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    if let Some(code) = node::runner::be_reaper_if_told() {
        return code;
    }
    node::cli::main(node::run::run)
}
