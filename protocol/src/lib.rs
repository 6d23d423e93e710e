//! One participant of a swarm, complete, without I/O.
//!
//! The door is [`Peer`]: facts go in through [`Peer::handle`] as [`Input`]s, orders come out as
//! [`Effect`]s. The crate never asks for the time, a random number, a file or a socket: time and
//! chance are arguments, and the same seed and inputs give the same effects, byte for byte.
//!
//! Reading order: [`id`], [`ranges`], [`name`] (values); [`contact`], [`envelope`], [`bundle`],
//! [`receipt`], [`mail`], [`beacon`], [`segment`], [`message`] (what is written, signed and sent);
//! [`codec`], [`sign`], [`edge`] (bytes to values and back, run outside the machines);
//! [`input`], [`effect`] (the door); [`log`] (questions to the record); then the machines `myself`, `presence`, `outbox`, `inbox`, `custody`,
//! `pickup`, `logger`, `election`, `orders`, `dispatcher`, `worker`, `record`; last [`peer`], the page on which they hang together.

pub mod beacon;
pub mod bundle;
mod catalog;
pub mod codec;
pub mod config;
pub mod contact;
pub mod copies;
mod custody;
mod dispatcher;
pub mod edge;
pub mod effect;
mod election;
pub mod envelope;
pub mod id;
mod inbox;
pub mod input;
pub mod log;
mod logger;
mod lookups;
pub mod mail;
pub mod message;
mod myself;
pub mod name;
pub mod now;
pub mod order;
mod orders;
mod outbox;
pub mod peer;
mod pickup;
mod placement;
mod presence;
pub mod proven;
mod questions;
pub mod ranges;
pub mod receipt;
mod record;
mod report_letter;
mod returns;
mod search;
pub mod segment;
pub mod service;
pub mod sign;
mod sums;
pub mod work;
mod worker;

pub use config::Config;
pub use effect::{Answer, Change, Effect, Kept, Notice, Refusal};
pub use id::{BundleId, Epoch, LetterId, RequestId};
pub use input::{Command, Input};
pub use libp2p_identity::PeerId;
pub use now::{Now, Timestamp};
pub use peer::{Deadline, Identity, Peer, PeerStatus, Status};
pub use ranges::Ranges;
