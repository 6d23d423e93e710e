//! A node of a swarm: the network, the disk, the clock and the doors around [`protocol::Peer`].
//!
//! Reading order: [`node`] (how the loops are joined), [`driver`] (the only owner of the peer), [`workers`], [`store`],
//! [`net`].

pub mod driver;
pub mod net;
pub mod node;
pub mod store;
pub mod workers;
