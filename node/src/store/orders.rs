//! Reading the orders of this node and how their units ended.
//! Knows nothing of what runs now: that is in memory. Lists never touch what can be large: items, inputs, outputs.

use protocol::effect::OrderState;
use protocol::order::{Order, Priority, Report};
use protocol::service::{Needs, ServiceName};
use protocol::{Epoch, Timestamp};
use redb::{ReadOnlyTable, ReadTransaction};

use super::fault::Fault;
use super::inbox::visit;
use super::read::Reader;
use super::rows::work::{self, OrderHead};
use super::{ReadError, tables};

/// Which orders of this node are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderQuery {
    /// Only those with a greater number.
    pub after: u64,
    /// Only those with a lesser number.
    pub before: Option<u64>,
    /// Only those that have not ended.
    pub open: bool,
    /// At most so many …
    pub limit: usize,
    /// … and of more the last instead of the first.
    pub newest: bool,
}

impl Default for OrderQuery {
    /// The first page of everything.
    fn default() -> Self {
        OrderQuery { after: 0, before: None, open: false, limit: 100, newest: false }
    }
}

/// An order of this node, as it was placed and as far as it is, without its items and its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderSummary {
    /// Its number.
    pub number: u64,
    /// In which memory of this node it was placed.
    pub epoch: Epoch,
    /// What was ordered.
    pub service: ServiceName,
    /// What the service is told; `{}` stands for the item.
    pub args: Vec<String>,
    /// Where in the queue it went.
    pub priority: Priority,
    /// What each unit takes.
    pub needs: Needs,
    /// Never to be started twice.
    pub once: bool,
    /// When it was placed.
    pub placed: Timestamp,
    /// How many units it has.
    pub units: u32,
    /// Its units have an item each; otherwise it has one unit without.
    pub has_items: bool,
    /// Bytes of what the service reads, if it reads anything.
    pub stdin_bytes: Option<u64>,
    /// How far it is.
    pub state: OrderState,
}

/// How a unit of an order of this node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitEnd {
    /// Which unit.
    pub unit: u32,
    /// The report that counts, or why nobody could run it.
    pub end: Result<Report, String>,
}

impl Reader {
    /// The orders of this node that `query` asks for, ascending by number.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn orders(&self, query: &OrderQuery) -> Result<Vec<OrderSummary>, ReadError> {
        let first = query.after.saturating_add(1);
        let Some(last) = query.before.unwrap_or(u64::MAX).checked_sub(1).filter(|last| *last >= first) else { return Ok(Vec::new()) };
        self.with(|txn| {
            let tables = Tables::open(txn)?;
            let mut summaries = Vec::new();
            let mut keep = |number: u64, head: OrderHead| -> Result<bool, Fault> {
                if summaries.len() < query.limit {
                    summaries.push(summary(head, tables.state(number)?));
                }
                Ok(summaries.len() < query.limit)
            };
            if query.open {
                let open = txn.open_table(tables::OPEN_ORDERS)?;
                visit(open.range(first..=last)?, query.newest, |number, ()| {
                    keep(number, tables.head(number)?.ok_or_else(|| Fault::row(&tables::ORDERS, &number, "missing"))?)
                })?;
            } else {
                visit(tables.orders.range(first..=last)?, query.newest, |number, row| keep(number, work::read_order(number, row)?))?;
            }
            if query.newest {
                summaries.reverse();
            }
            Ok(summaries)
        })
    }

    /// An order of this node, and the ends of at most `limit` of its units after `after`, ascending by unit.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn order(&self, number: u64, after: u32, limit: usize) -> Result<Option<(OrderSummary, Vec<UnitEnd>)>, ReadError> {
        self.with(|txn| {
            let tables = Tables::open(txn)?;
            let Some(head) = tables.head(number)? else { return Ok(None) };
            let summary = summary(head, tables.state(number)?);
            let Some(first) = after.checked_add(1) else { return Ok(Some((summary, Vec::new()))) };
            let mut ends = Vec::new();
            for row in txn.open_table(tables::UNIT_ENDS)?.range((number, first)..=(number, u32::MAX))?.take(limit) {
                let (key, row) = row?;
                ends.push(UnitEnd { unit: key.value().1, end: work::read_unit_end(key.value(), row.value())? });
            }
            Ok(Some((summary, ends)))
        })
    }

    /// How a unit of an order of this node ended; none if it has not.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn unit_end(&self, number: u64, unit: u32) -> Result<Option<UnitEnd>, ReadError> {
        self.with(|txn| {
            let table = txn.open_table(tables::UNIT_ENDS)?;
            let row = table.get((number, unit))?;
            row.map(|row| Ok(UnitEnd { unit, end: work::read_unit_end((number, unit), row.value())? })).transpose()
        })
    }

    /// An order of this node with its items and its input: up to 6 MiB.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn whole_order(&self, number: u64) -> Result<Option<Order>, ReadError> {
        self.with(|txn| Tables::open(txn)?.whole(number))
    }
}

/// An order that has ended, and how its unit ended if it has only one and that has.
pub(crate) fn outcome(txn: &ReadTransaction, number: u64) -> Result<(OrderSummary, Option<UnitEnd>), Fault> {
    let tables = Tables::open(txn)?;
    let head = tables.head(number)?.ok_or_else(|| Fault::row(&tables::ORDERS, &number, "missing"))?;
    let order = summary(head, tables.state(number)?);
    let ends = txn.open_table(tables::UNIT_ENDS)?;
    let row = if order.units == 1 { ends.get((number, 1))? } else { None };
    let end = row.map(|row| work::read_unit_end((number, 1), row.value())).transpose()?;
    Ok((order, end.map(|end| UnitEnd { unit: 1, end })))
}

/// Where an order of this node is in pieces.
pub(crate) struct Tables {
    orders: ReadOnlyTable<u64, &'static [u8]>,
    bodies: ReadOnlyTable<u64, &'static [u8]>,
    states: ReadOnlyTable<u64, &'static [u8]>,
}

impl Tables {
    pub(crate) fn open(txn: &ReadTransaction) -> Result<Tables, Fault> {
        Ok(Tables {
            orders: txn.open_table(tables::ORDERS)?,
            bodies: txn.open_table(tables::ORDER_BODIES)?,
            states: txn.open_table(tables::ORDER_STATES)?,
        })
    }

    fn head(&self, number: u64) -> Result<Option<OrderHead>, Fault> {
        self.orders.get(number)?.map(|row| work::read_order(number, row.value())).transpose()
    }

    /// The order with its items and its input.
    pub(crate) fn whole(&self, number: u64) -> Result<Option<Order>, Fault> {
        let Some(OrderHead { mut order, items, stdin }) = self.head(number)? else { return Ok(None) };
        if items > 0 || stdin.is_some() {
            let missing = || Fault::row(&tables::ORDER_BODIES, &number, "missing");
            work::read_body(&mut order, self.bodies.get(number)?.ok_or_else(missing)?.value())?;
        }
        Ok(Some(order))
    }

    /// How far an order is: written in the batch that places it.
    pub(crate) fn state(&self, number: u64) -> Result<OrderState, Fault> {
        let row = self.states.get(number)?.ok_or_else(|| Fault::row(&tables::ORDER_STATES, &number, "missing"))?;
        work::read_order_state(number, row.value())
    }
}

fn summary(OrderHead { order, items, stdin }: OrderHead, state: OrderState) -> OrderSummary {
    let Order { epoch, number, service, args, priority, needs, once, placed, .. } = order;
    let (units, has_items, stdin_bytes) = (items.max(1), items > 0, stdin);
    OrderSummary { number, epoch, service, args, priority, needs, once, placed, units, has_items, stdin_bytes, state }
}
