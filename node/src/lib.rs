//! A peer of a swarm with a network, a disk, a clock and faces.
//!
//! Reading order: [`control`] (the API on the unix socket), [`cli`] (the command line, which knows nothing but that API).

pub mod cli;
pub mod control;
