//! The tables of the database: every key and every value, in one place.
//! Knows nothing of who reads or writes them. Keys of what grows are in the order of writing: sequential keys are five
//! times as fast as hashes (research/perf.md, learning 7).
//!
//! Integers in values are big-endian unless redb encodes them (tuples). "CBOR of" means [`protocol::codec`].

use redb::{ReadTransaction, TableDefinition, WriteTransaction};

use super::fault::Fault;

/// The format of all tables below. A later one is refused.
pub(crate) const FORMAT_VERSION: u32 = 5;
/// The oldest format that is read; what it lacks is made when it is opened. Format 3 added the tables of services, orders and
/// tasks, of discarded letters and of blocked peers to format 2, and to the rows of streams what is known of discarded and of unread
/// letters: without it there are none. Format 4 added the outcomes of orders to the inbox; those of before are not in it.
/// Format 5 added copies of others' records, what is looked up by, and the order of arrival; that begins with it.
pub(crate) const FORMAT_OLDEST: u32 = 2;

/// Id of a letter in a value: its 16 raw bytes.
pub(crate) type RawId = &'static [u8; 16];

/// () -> the [`FORMAT_VERSION`] of the database.
pub(crate) const FORMAT: TableDefinition<(), u32> = TableDefinition::new("format");
/// () -> the database's random id; the sentinel file beside the database holds it too.
pub(crate) const DATABASE: TableDefinition<(), &[u8; 16]> = TableDefinition::new("database");

/// () -> CBOR of `Me`.
pub(crate) const ME: TableDefinition<(), &[u8]> = TableDefinition::new("me");
/// Bytes of the peer's id -> CBOR of `Known`.
pub(crate) const KNOWN: TableDefinition<&[u8], &[u8]> = TableDefinition::new("known");

/// Bytes of the id of each peer from whom nothing is taken -> ().
pub(crate) const BLOCKED: TableDefinition<&[u8], ()> = TableDefinition::new("blocked");

/// k -> a letter of this node: see [`super::rows::sent`].
pub(crate) const SENT: TableDefinition<u64, &[u8]> = TableDefinition::new("sent");
/// (outgoing stream, number) -> k: which letter that number is.
pub(crate) const COPIES: TableDefinition<(u32, u64), u64> = TableDefinition::new("copies");
/// k of each letter that waits for a name -> ().
pub(crate) const WAITING: TableDefinition<u64, ()> = TableDefinition::new("waiting");
/// Idempotency key -> (letter, its k, digest of the request).
pub(crate) const KEYS: TableDefinition<&str, (RawId, u64, &[u8; 32])> = TableDefinition::new("keys");

/// (outgoing stream, first number) -> what is known of a waiting bundle without its bytes: see [`super::rows::bundle_index`].
pub(crate) const BUNDLES: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("bundles");
/// (outgoing stream, first number) -> the bundle's bytes: see [`super::rows::sealed`].
pub(crate) const SEALED: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("sealed");
/// (outgoing stream, first number) of a waiting bundle -> CBOR of the list of `Holder`s that have acknowledged a copy, 1 or more.
pub(crate) const HOLDERS: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("holders");

/// Number of a bundle held for others, in the order of taking -> what is known of it without its bytes: see [`super::rows::held`].
pub(crate) const HELD: TableDefinition<u64, &[u8]> = TableDefinition::new("held");
/// The same number -> slip and bundle: see [`super::rows::parcel`].
pub(crate) const HELD_PARCELS: TableDefinition<u64, &[u8]> = TableDefinition::new("held_parcels");
/// Author, its epoch, signer, its epoch: see [`super::rows::slot`] -> CBOR of the `Signed<Receipt>` kept for that author.
pub(crate) const RECEIPTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("receipts");

/// Outgoing stream -> CBOR of `OutStream`.
pub(crate) const OUT_STREAMS: TableDefinition<u32, &[u8]> = TableDefinition::new("out_streams");
/// (outgoing stream, first number) -> (last number, wall clock in ms): receipted then.
pub(crate) const DELIVERED: TableDefinition<(u32, u64), (u64, u64)> = TableDefinition::new("delivered");
/// (outgoing stream, first number) -> (last number, wall clock in ms): discarded, and since then sure not to arrive.
pub(crate) const DISCARDED: TableDefinition<(u32, u64), (u64, u64)> = TableDefinition::new("discarded");
/// (outgoing stream, first number) -> (last number, wall clock in ms): read then.
pub(crate) const READ_BY: TableDefinition<(u32, u64), (u64, u64)> = TableDefinition::new("read_by");

/// Incoming stream -> CBOR of `InStream`.
pub(crate) const IN_STREAMS: TableDefinition<u32, &[u8]> = TableDefinition::new("in_streams");
/// (incoming stream, number, twin) -> a letter to this node: see [`super::rows::taken`].
pub(crate) const TAKEN: TableDefinition<(u32, u64, u8), &[u8]> = TableDefinition::new("taken");
/// (incoming stream, number, twin) of each letter taken and without a place in the inbox -> ().
pub(crate) const UNSHOWN: TableDefinition<(u32, u64, u8), ()> = TableDefinition::new("unshown");
/// n -> (incoming stream, number, twin, letters missing before it, wall clock in ms when it was read or 0, letter); of the outcome of an
/// order of this node: (0, number of the order, 0, 0, as before, its id).
pub(crate) const INBOX: TableDefinition<u64, InboxRow<'static>> = TableDefinition::new("inbox");
/// n of each inbox letter that was not read -> ().
pub(crate) const UNREAD: TableDefinition<u64, ()> = TableDefinition::new("unread");

/// The value of [`INBOX`].
pub(crate) type InboxRow<'a> = (u32, u64, u8, u64, u64, &'a [u8; 16]);

/// Ordinal, from 0 in the order in which chains were begun -> chain.
pub(crate) const CHAINS: TableDefinition<u32, u64> = TableDefinition::new("chains");
/// (ordinal of the chain, number) -> a signed segment: see [`super::rows::segment`].
pub(crate) const SEGMENTS: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("segments");
/// Sequence of a segment's first entry -> (ordinal of the chain, number). Sequences go on from one chain to the next.
pub(crate) const ENTRIES: TableDefinition<u64, (u32, u64)> = TableDefinition::new("entries");

/// Ordinal, from 0 in the order in which they came -> CBOR of the list `[author, chain, branch]`: a chain of somebody's record of
/// which this node keeps a copy. Branches from 1 on are other segments under numbers of the same chain.
pub(crate) const COPY_CHAINS: TableDefinition<u32, &[u8]> = TableDefinition::new("copy_chains");
/// (ordinal of the copied chain, number) -> as in [`SEGMENTS`].
pub(crate) const COPIED: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("copied");
/// From 1, in the order in which segments came here -> (0 of this node itself or 1 of a copy, ordinal of the chain, number).
pub(crate) const ARRIVALS: TableDefinition<u64, (u8, u32, u64)> = TableDefinition::new("arrivals");
/// (0 or 1, ordinal of the chain, first number) -> what is in some segments, for look-ups: see [`super::blocks`]. Derived from them.
pub(crate) const BLOCKS: TableDefinition<(u8, u32, u64), &[u8]> = TableDefinition::new("blocks");

/// () -> CBOR of `FenceRow`.
pub(crate) const FENCE: TableDefinition<(), &[u8]> = TableDefinition::new("fence");
/// Name of a service of this node -> CBOR of its `Offering`.
pub(crate) const OFFERS: TableDefinition<&str, &[u8]> = TableDefinition::new("offers");
/// () while this node takes nothing new -> ().
pub(crate) const DRAINING: TableDefinition<(), ()> = TableDefinition::new("draining");

/// Number of an order of this node -> the order without what can be large: see [`super::rows::work::order`].
pub(crate) const ORDERS: TableDefinition<u64, &[u8]> = TableDefinition::new("orders");
/// The same number -> its items and its standard input, if it has either: see [`super::rows::work::body`]. Written once.
pub(crate) const ORDER_BODIES: TableDefinition<u64, &[u8]> = TableDefinition::new("order_bodies");
/// The same number -> how far it is: see [`super::rows::work::order_state`].
pub(crate) const ORDER_STATES: TableDefinition<u64, &[u8]> = TableDefinition::new("order_states");
/// Number of each order of this node that has not ended -> ().
pub(crate) const OPEN_ORDERS: TableDefinition<u64, ()> = TableDefinition::new("open_orders");
/// (epoch of this node, how, first number) -> last number: these orders have ended so, see [`super::rows::work::end`]. Ranges of one
/// epoch and one end never touch.
pub(crate) const CLOSED_OWN: TableDefinition<(u64, u8, u64), u64> = TableDefinition::new("closed_own");
/// (number of an order of this node, unit) -> how it ended: see [`super::rows::work::unit_end`].
pub(crate) const UNIT_ENDS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("unit_ends");
/// Idempotency key -> (number of the order, digest of the request).
pub(crate) const ORDER_KEYS: TableDefinition<&str, (u64, &[u8; 32])> = TableDefinition::new("order_keys");

// The keys below begin with orderer, epoch and number: see `rows::work::order_key`. They are not in the order of all writing, but
// each orderer counts its orders upwards, so that its rows are added at the end of its own range: as many places as there are
// orderers, not as many as there are orders. An ordinal of our own would need an index with just these keys beside it.

/// Key of an order in the queue of this node -> the order as it was signed: see [`super::rows::work::queued`].
pub(crate) const QUEUE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("queue");
/// The same key, if anything happened to its units -> where they are: see [`super::rows::work::queue_state`].
pub(crate) const QUEUE_STATES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("queue_states");
/// Orderer and epoch: see [`super::rows::work::memory`] -> CBOR of the list `[orderer, epoch, ranges]`: these orders have ended.
pub(crate) const CLOSED: TableDefinition<&[u8], &[u8]> = TableDefinition::new("closed");
/// Key of an order, unit and attempt: see [`super::rows::work::try_key`] -> when the try began here, or how it ended: see
/// [`super::rows::work::started`].
pub(crate) const TRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("tries");

/// Says `$verb! { … }` of all tables: a new one is added here, or no reader finds it and no backup holds it.
macro_rules! every_table {
    ($verb:ident) => {
        $verb! {
            FORMAT DATABASE ME KNOWN SENT COPIES WAITING KEYS BUNDLES SEALED OUT_STREAMS DELIVERED DISCARDED READ_BY
            IN_STREAMS TAKEN UNSHOWN INBOX UNREAD CHAINS SEGMENTS ENTRIES HOLDERS HELD HELD_PARCELS RECEIPTS BLOCKED
            FENCE OFFERS DRAINING ORDERS ORDER_BODIES ORDER_STATES OPEN_ORDERS CLOSED_OWN UNIT_ENDS ORDER_KEYS
            QUEUE QUEUE_STATES CLOSED TRIES COPY_CHAINS COPIED ARRIVALS BLOCKS
        }
    };
}
pub(crate) use every_table;

/// Makes every table that is not there, so that no reader meets a missing one.
pub(crate) fn create(txn: &WriteTransaction) -> Result<(), Fault> {
    macro_rules! create {
        ($($table:ident)*) => { $( txn.open_table($table)?; )* };
    }
    every_table!(create);
    Ok(())
}

/// The format of a database; none while nothing was ever committed to it.
pub(crate) fn format(txn: &ReadTransaction) -> Result<Option<u32>, Fault> {
    match txn.open_table(FORMAT) {
        Ok(table) => Ok(table.get(())?.map(|version| version.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
