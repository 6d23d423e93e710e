//! A node of a swarm: the network, the disk, the clock and the doors around [`protocol::Peer`].
//!
//! Reading order: [`run`] and [`node`] (how the loops are joined), [`driver`] (the only owner of the peer), [`workers`],
//! [`store`], [`net`], [`runner`]; then the doors: [`control`] (the API) and [`cli`] (the commands, which know nothing but the API).

pub mod cli;
pub mod control;
pub mod driver;
pub mod net;
pub mod node;
pub mod run;
pub mod runner;
mod search;
pub mod store;
pub mod workers;
