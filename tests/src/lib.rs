//! Proof that the promises hold: the simulator and the tests of whole swarms.
//! Knows the protocol, never the node's insides. Nothing here is shipped.

pub mod sim;
