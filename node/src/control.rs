//! The HTTP API on the node's unix socket, and the client that speaks to it.
//! Knows nothing of redb or libp2p: the node is reached through one [`desk::Desk`]. Only the node's own user gets an answer.

pub mod address;
pub mod api;
mod backup;
mod batch;
pub mod client;
pub mod desk;
mod dispatcher;
mod drain;
mod events;
mod extract;
mod guests;
mod json;
mod log;
mod names;
mod openapi;
mod orders;
mod output;
pub mod problem;
mod queries;
mod read;
pub mod server;
mod services;
pub mod socket;
mod task;
pub mod time;
mod why;
mod write;

pub use services::configured;

#[cfg(test)]
mod tests;
