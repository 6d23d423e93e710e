//! Rows of services, orders and tasks: what each durable word about them does to the tables.
//! Knows nothing of threads or files. What a batch says of one row more than once is written once, as it was said last; the
//! body of an order is written when it is placed or queued, and never again.

use std::collections::BTreeMap;

use protocol::effect::{OrderState, QueueState, Queued};
use protocol::{Change, Epoch, Ranges, codec};
use redb::{ReadableTable, Table, WriteTransaction};

use crate::store::fault::Fault;
use crate::store::rows::work as rows;
use crate::store::tables;

/// Whom this node obeys, what it offers, and whether it takes anything new.
pub(super) fn write_services(txn: &WriteTransaction, changes: &[&Change]) -> Result<(), Fault> {
    let (mut fence, mut offers) = (txn.open_table(tables::FENCE)?, txn.open_table(tables::OFFERS)?);
    let mut draining = txn.open_table(tables::DRAINING)?;
    for change in changes {
        match change {
            Change::Fence(row) => drop(fence.insert((), codec::encode(row).as_slice())?),
            Change::Offer(offering) => drop(offers.insert(offering.card.name.as_str(), codec::encode(offering).as_slice())?),
            Change::DropOffer(name) => drop(offers.remove(name.as_str())?),
            Change::Drain(true) => drop(draining.insert((), ())?),
            Change::Drain(false) => drop(draining.remove(())?),
            _ => {}
        }
    }
    Ok(())
}

/// Orders of this node.
pub(super) fn write_orders(txn: &WriteTransaction, changes: &[&Change]) -> Result<(), Fault> {
    let (mut orders, mut bodies) = (txn.open_table(tables::ORDERS)?, txn.open_table(tables::ORDER_BODIES)?);
    let (mut ends, mut keys) = (txn.open_table(tables::UNIT_ENDS)?, txn.open_table(tables::ORDER_KEYS)?);
    let mut states: BTreeMap<u64, &OrderState> = BTreeMap::new();
    for change in changes {
        match change {
            Change::Order(order) => {
                orders.insert(order.number, rows::order(order).as_slice())?;
                if let Some(body) = rows::body(order) {
                    bodies.insert(order.number, body.as_slice())?;
                }
            }
            Change::OrderState(state) => drop(states.insert(state.number, state)),
            Change::UnitEnd { number, unit, report } => drop(ends.insert((*number, *unit), rows::unit_end(report).as_slice())?),
            Change::OrderKey { key, number, digest } => drop(keys.insert(key.as_str(), (*number, digest))?),
            _ => {}
        }
    }
    write_order_states(txn, &states)
}

fn write_order_states(txn: &WriteTransaction, states: &BTreeMap<u64, &OrderState>) -> Result<(), Fault> {
    let (mut table, mut open) = (txn.open_table(tables::ORDER_STATES)?, txn.open_table(tables::OPEN_ORDERS)?);
    let mut closed: BTreeMap<(Epoch, u8), Ranges> = BTreeMap::new();
    for (number, state) in states {
        table.insert(number, rows::order_state(state).as_slice())?;
        if let Some(outcome) = &state.outcome {
            open.remove(number)?;
            closed.entry((state.epoch, rows::end(outcome.end))).or_default().insert(*number);
        } else {
            open.insert(number, ())?;
        }
    }
    if closed.is_empty() {
        return Ok(());
    }
    let mut table = txn.open_table(tables::CLOSED_OWN)?;
    for ((epoch, end), ranges) in closed {
        ranges.iter().try_for_each(|(first, last)| close(&mut table, (epoch.0, end), first, last))?;
    }
    Ok(())
}

/// Adds `first..=last`, joining what touches: however many have ended before, only the neighbours are looked at.
fn close(table: &mut Table<'_, (u64, u8, u64), u64>, (epoch, end): (u64, u8), mut first: u64, mut last: u64) -> Result<(), Fault> {
    let before = table.range((epoch, end, 0)..=(epoch, end, first))?.next_back().transpose()?;
    if let Some((begin, upto)) = before.map(|(key, upto)| (key.value().2, upto.value()))
        && upto >= first.saturating_sub(1)
    {
        (first, last) = (begin, last.max(upto));
    }
    let mut joined = Vec::new();
    for row in table.range((epoch, end, first)..=(epoch, end, u64::MAX))? {
        let (key, upto) = row?;
        if key.value().2 > last.saturating_add(1) {
            break;
        }
        last = last.max(upto.value());
        joined.push(key.value());
    }
    joined.into_iter().filter(|key| key.2 != first).try_for_each(|key| table.remove(key).map(drop))?;
    table.insert((epoch, end, first), last)?;
    Ok(())
}

/// What a batch makes of one row of the queue.
#[derive(Default)]
struct Place<'a> {
    /// What was there before is gone.
    cleared: bool,
    queued: Option<&'a Queued>,
    state: Option<&'a QueueState>,
}

/// Orders in the queue of this node, and what it knows of those that have left it.
pub(super) fn write_queue(txn: &WriteTransaction, changes: &[&Change]) -> Result<(), Fault> {
    let (mut queue, mut states) = (txn.open_table(tables::QUEUE)?, txn.open_table(tables::QUEUE_STATES)?);
    let mut closed = txn.open_table(tables::CLOSED)?;
    let mut places: BTreeMap<Vec<u8>, Place<'_>> = BTreeMap::new();
    for change in changes {
        match change {
            Change::Queue(queued) => places.entry(rows::order_key(queued.order.value.key())).or_default().queued = Some(queued),
            Change::QueueState(state) => places.entry(rows::order_key(state.order)).or_default().state = Some(state),
            Change::Unqueue(order) => {
                places.insert(rows::order_key(*order), Place { cleared: true, ..Place::default() });
            }
            Change::Closed { orderer, epoch, closed: ranges } => {
                closed.insert(rows::memory(*orderer, *epoch).as_slice(), codec::encode(&(orderer, epoch, ranges)).as_slice())?;
            }
            _ => {}
        }
    }
    for (key, Place { cleared, queued, state }) in &places {
        if *cleared {
            queue.remove(key.as_slice())?;
            states.remove(key.as_slice())?;
        }
        if let Some(queued) = queued {
            queue.insert(key.as_slice(), rows::queued(queued).as_slice())?;
        }
        // The state of what is not in the queue would never be read, and never be taken away.
        if let Some(state) = state
            && (queued.is_some() || queue.get(key.as_slice())?.is_some())
        {
            states.insert(key.as_slice(), rows::queue_state(state).as_slice())?;
        }
    }
    Ok(())
}

/// Tries of this node: of each the last word counts.
pub(super) fn write_tries(txn: &WriteTransaction, changes: &[&Change]) -> Result<(), Fault> {
    let mut tries: BTreeMap<Vec<u8>, &Change> = BTreeMap::new();
    for change in changes {
        let task = match change {
            Change::TryStarted { task, .. } | Change::DropTry(task) => *task,
            Change::TryEnded(report) => report.of,
            _ => continue,
        };
        tries.insert(rows::try_key(task), change);
    }
    let mut table = txn.open_table(tables::TRIES)?;
    for (key, change) in &tries {
        match change {
            Change::TryStarted { task, at } => drop(table.insert(key.as_slice(), rows::started(*task, *at).as_slice())?),
            Change::TryEnded(report) => drop(table.insert(key.as_slice(), rows::ended(report).as_slice())?),
            _ => drop(table.remove(key.as_slice())?),
        }
    }
    Ok(())
}
