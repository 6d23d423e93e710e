//! One participant of a swarm.
