//! How a worker tells an orderer who is away: a letter of type `event` that holds the report.
//! Knows nothing of who writes or reads it. The letter's own signature, its author being the worker, is what proves the report.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use serde_cbor::Value;

use crate::codec;
use crate::envelope::{Envelope, Kind, Payload};
use crate::order::{Ended, Report};
use crate::proven::Proven;

/// The content of the letter: words for people and programs, and the report itself.
pub(crate) fn payload(report: &Report) -> Payload {
    let number = |n: u64| Value::Integer(n.into());
    let ended = match &report.ended {
        Ended::Exited(code) => format!("exit {code}"),
        Ended::TimedOut => "time limit".to_owned(),
        Ended::NotStarted(why) => format!("could not be started: {why}"),
        Ended::Cancelled => "cancelled".to_owned(),
    };
    Payload::Dict(BTreeMap::from([
        ("event".to_owned(), Value::Text("ended".to_owned())),
        ("order".to_owned(), number(report.of.order.number)),
        ("unit".to_owned(), number(report.of.unit.into())),
        ("ended".to_owned(), Value::Text(ended)),
        ("report".to_owned(), Value::Bytes(codec::encode(report))),
    ]))
}

/// Whether a letter tells `me` how a unit of its own order ended: the order's outcome says it, once and for all units.
pub(crate) fn is_for(me: &PeerId, envelope: &Envelope) -> bool {
    report(&envelope.author, envelope).is_some_and(|report| report.of.order.orderer == *me)
}

/// The reports in the letters of `author`, which has signed them all. What is no report of its own is left out.
pub(crate) fn reports(author: &PeerId, envelopes: &[Envelope]) -> Vec<Proven<Report>> {
    envelopes.iter().filter_map(|envelope| report(author, envelope)).map(Proven::own).collect()
}

fn report(author: &PeerId, envelope: &Envelope) -> Option<Report> {
    let Payload::Dict(dict) = &envelope.payload else { return None };
    let Some(Value::Bytes(bytes)) = dict.get("report").filter(|_| envelope.kind == Kind::Event.as_str()) else { return None };
    let report: Report = codec::decode(bytes).ok()?;
    (report.worker == *author && report.within_limits()).then_some(report)
}
