//! Rows of orders and tasks: bytes from our words and back.
//! Knows nothing of transactions. Keys of one order lie together, those of one orderer ascend as it counts; values say all
//! that their keys say, so that keys are never taken apart.

use protocol::effect::{OrderState, Outcome, QueueState, Queued};
use protocol::order::{Attempt, Cancel, End, Order, OrderKey, Priority, Report, Try};
use protocol::proven::Proven;
use protocol::service::{Needs, ServiceName};
use protocol::{Epoch, PeerId, Ranges, Timestamp, codec};
use redb::TableHandle;

use crate::store::fault::Fault;
use crate::store::tables;

use super::cbor;

/// First byte of a row that holds what its table is for …
const WHOLE: u8 = 0;
/// … and of one that holds what stands in its place.
const INSTEAD: u8 = 1;

/// An order of this node without its items and its input, and how much of them there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OrderHead {
    /// Without items and input.
    pub(crate) order: Order,
    /// How many items it has.
    pub(crate) items: u32,
    /// Bytes of its input, if it has one.
    pub(crate) stdin: Option<u64>,
}

/// CBOR of the list `[orderer, epoch, service, args, priority, [cores, memory, software], once, placed, items, bytes of input]`,
/// the last two as counts.
pub(crate) fn order(order: &Order) -> Vec<u8> {
    let Order { orderer, epoch, service, args, items, stdin, priority, needs, once, placed, .. } = order;
    let needs = (needs.cores, needs.memory_bytes, &needs.software);
    let stdin = stdin.as_ref().map(|stdin| stdin.len() as u64);
    codec::encode(&(orderer, epoch, service, args, priority, needs, once, placed, items.len() as u64, stdin))
}

/// The order in a row of [`tables::ORDERS`].
pub(crate) fn read_order(number: u64, bytes: &[u8]) -> Result<OrderHead, Fault> {
    type NeedsRow = (u32, u64, std::collections::BTreeSet<String>);
    type Row = (PeerId, Epoch, ServiceName, Vec<String>, Priority, NeedsRow, bool, Timestamp, u32, Option<u64>);
    let row: Row = cbor(&tables::ORDERS, &number, bytes)?;
    let (orderer, epoch, service, args, priority, (cores, memory_bytes, software), once, placed, items, stdin) = row;
    let needs = Needs { cores, memory_bytes, software };
    let order = Order { orderer, epoch, number, service, args, items: Vec::new(), stdin: None, priority, needs, once, placed };
    Ok(OrderHead { order, items, stdin })
}

/// CBOR of the list `[items, input]`; none if there is neither.
pub(crate) fn body(order: &Order) -> Option<Vec<u8>> {
    let empty = order.items.is_empty() && order.stdin.is_none();
    (!empty).then(|| codec::encode(&(&order.items, &order.stdin)))
}

/// Puts items and input in a row of [`tables::ORDER_BODIES`] back into their order.
pub(crate) fn read_body(order: &mut Order, bytes: &[u8]) -> Result<(), Fault> {
    (order.items, order.stdin) = cbor(&tables::ORDER_BODIES, &order.number, bytes)?;
    Ok(())
}

/// CBOR of the list `[epoch, expires at, [cancelled at, time was up], done, failed, dropped, [end, why, at]]`.
pub(crate) fn order_state(state: &OrderState) -> Vec<u8> {
    let OrderState { epoch, expires_at, cancelled, done, failed, dropped, outcome, .. } = state;
    let outcome = outcome.as_ref().map(|Outcome { end, why, at }| (end, why, at));
    codec::encode(&(epoch, expires_at, cancelled, done, failed, dropped, outcome))
}

/// The state in a row of [`tables::ORDER_STATES`].
pub(crate) fn read_order_state(number: u64, bytes: &[u8]) -> Result<OrderState, Fault> {
    type Row = (Epoch, Option<Timestamp>, Option<(Timestamp, bool)>, Ranges, Ranges, Ranges, Option<(End, Option<String>, Timestamp)>);
    let (epoch, expires_at, cancelled, done, failed, dropped, outcome): Row = cbor(&tables::ORDER_STATES, &number, bytes)?;
    let outcome = outcome.map(|(end, why, at)| Outcome { end, why, at });
    Ok(OrderState { number, epoch, expires_at, cancelled, done, failed, dropped, outcome })
}

/// How an order ended, in a key.
pub(crate) fn end(end: End) -> u8 {
    match end {
        End::Done => 0,
        End::Failed => 1,
        End::Cancelled => 2,
        End::Expired => 3,
        End::Unknown => 4,
    }
}

/// The end in a key of [`tables::CLOSED_OWN`].
pub(crate) fn read_end(key: (u64, u8, u64)) -> Result<End, Fault> {
    let ends = [End::Done, End::Failed, End::Cancelled, End::Expired, End::Unknown];
    ends.into_iter().find(|found| end(*found) == key.1).ok_or_else(|| Fault::row(&tables::CLOSED_OWN, &key, "of an unknown end"))
}

/// [`WHOLE`] and CBOR of the `Proven<Report>`, or [`INSTEAD`] and why nobody could run the unit.
pub(crate) fn unit_end(end: &Result<Box<Proven<Report>>, String>) -> Vec<u8> {
    match end {
        Ok(report) => tagged(WHOLE, &codec::encode(&**report)),
        Err(why) => tagged(INSTEAD, why.as_bytes()),
    }
}

/// The end in a row of [`tables::UNIT_ENDS`].
pub(crate) fn read_unit_end(key: (u64, u32), bytes: &[u8]) -> Result<Result<Report, String>, Fault> {
    let table = &tables::UNIT_ENDS;
    match untagged(table, &key, bytes)? {
        (true, report) => Ok(Ok(cbor::<Proven<Report>>(table, &key, report)?.value)),
        (false, why) => Ok(Err(String::from_utf8(why.to_vec()).map_err(|error| Fault::row(table, &key, error))?)),
    }
}

/// Orderer and epoch. The bytes of an id say how long they are.
pub(crate) fn memory(orderer: PeerId, epoch: Epoch) -> Vec<u8> {
    let mut bytes = orderer.to_bytes();
    bytes.extend_from_slice(&epoch.0.to_be_bytes());
    bytes
}

/// As [`memory`], and the number.
pub(crate) fn order_key(OrderKey { orderer, epoch, number }: OrderKey) -> Vec<u8> {
    let mut bytes = memory(orderer, epoch);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes
}

/// As [`order_key`], then unit, term, leader and number of the attempt.
pub(crate) fn try_key(Try { order, unit, attempt: Attempt { term, leader, number } }: Try) -> Vec<u8> {
    let mut bytes = order_key(order);
    bytes.extend_from_slice(&unit.to_be_bytes());
    bytes.extend_from_slice(&term.to_be_bytes());
    bytes.extend(leader.to_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes
}

/// CBOR of the list `[order, sort key, when it came]`, the order as a `Proven<Order>`.
pub(crate) fn queued(Queued { order, sort, at }: &Queued) -> Vec<u8> {
    codec::encode(&(order, sort, at))
}

/// The order in a row of [`tables::QUEUE`].
pub(crate) fn read_queued(key: &[u8], bytes: &[u8]) -> Result<Queued, Fault> {
    let (order, sort, at) = cbor(&tables::QUEUE, &key, bytes)?;
    Ok(Queued { order, sort, at })
}

/// CBOR of the list `[order, sort key, cancel, ended, given up, [[unit, attempt, worker]], [[unit, attempts, died]]]`, where an order
/// is `[orderer, epoch, number]` and an attempt `[term, leader, number]`.
pub(crate) fn queue_state(state: &QueueState) -> Vec<u8> {
    let QueueState { order, sort, cancel, ended, given_up, tries, tried } = state;
    let order = (order.orderer, order.epoch, order.number);
    let tries: Vec<_> = tries.iter().map(|(unit, by, worker)| (unit, (by.term, by.leader, by.number), worker)).collect();
    codec::encode(&(order, sort, cancel, ended, given_up, tries, tried))
}

/// The state in a row of [`tables::QUEUE_STATES`].
pub(crate) fn read_queue_state(key: &[u8], bytes: &[u8]) -> Result<QueueState, Fault> {
    type TryRow = (u32, (u64, PeerId, u32), PeerId);
    type Row = ((PeerId, Epoch, u64), u64, Option<Proven<Cancel>>, Ranges, Ranges, Vec<TryRow>, Vec<(u32, u32, u32)>);
    let ((orderer, epoch, number), sort, cancel, ended, given_up, tries, tried): Row = cbor(&tables::QUEUE_STATES, &key, bytes)?;
    let tries = tries.into_iter().map(|(unit, (term, leader, number), worker)| (unit, Attempt { term, leader, number }, worker));
    Ok(QueueState { order: OrderKey { orderer, epoch, number }, sort, cancel, ended, given_up, tries: tries.collect(), tried })
}

/// What a row of [`tables::TRIES`] says.
pub(crate) enum TryRow {
    /// It began then, and has not ended.
    Started(Try, Timestamp),
    /// It ended so.
    Ended(Report),
}

/// [`INSTEAD`] and CBOR of the list `[try, when]`: it began, and has not ended.
pub(crate) fn started(task: Try, at: Timestamp) -> Vec<u8> {
    tagged(INSTEAD, &codec::encode(&(task, at)))
}

/// [`WHOLE`] and CBOR of the `Report`.
pub(crate) fn ended(report: &Report) -> Vec<u8> {
    tagged(WHOLE, &codec::encode(report))
}

/// The try in a row of [`tables::TRIES`].
pub(crate) fn read_try(key: &[u8], bytes: &[u8]) -> Result<TryRow, Fault> {
    match untagged(&tables::TRIES, &key, bytes)? {
        (true, report) => Ok(TryRow::Ended(cbor(&tables::TRIES, &key, report)?)),
        (false, start) => cbor(&tables::TRIES, &key, start).map(|(task, at)| TryRow::Started(task, at)),
    }
}

fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + rest.len());
    bytes.push(tag);
    bytes.extend_from_slice(rest);
    bytes
}

/// Whether it is [`WHOLE`], and the rest.
fn untagged<'a>(table: &impl TableHandle, key: &impl std::fmt::Debug, bytes: &'a [u8]) -> Result<(bool, &'a [u8]), Fault> {
    match bytes.split_first() {
        Some((&WHOLE, rest)) => Ok((true, rest)),
        Some((&INSTEAD, rest)) => Ok((false, rest)),
        _ => Err(Fault::row(table, key, "of an unknown kind")),
    }
}
