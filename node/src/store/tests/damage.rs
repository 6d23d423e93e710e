use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::super::open::{DATABASE, SENTINEL};
use super::super::{CommitError, Fault, OpenError, ReadError};
use super::*;

/// Memory whose next so many flushes fail, and all writes after the first failure until it is opened again.
#[derive(Debug, Default)]
struct Failing {
    bytes: InMemoryBackend,
    flushes: AtomicU32,
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let take = |left: u32| left.checked_sub(1);
        match self.flushes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(_) => Err(io::Error::other("no space left on device")),
            Err(_) => self.bytes.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.bytes.write(offset, data)
    }
}

#[test]
fn a_disk_that_fails_once_is_opened_again_and_nothing_is_lost() {
    let disk = Arc::new(Failing::default());
    let (store, _) = Store::over(disk.clone()).expect("the store opens");
    let reader = store.reader();
    commit(&store, batch([Change::Letter(letter(1, "before").into())]));
    disk.flushes.store(1, Ordering::SeqCst);
    let changes = [Change::Letter(letter(2, "meanwhile").into()), Change::Taken(taken(1, 1, "hi").into()), shown(1, 1, 1)];
    assert_eq!(commit(&store, batch(changes)), Committed { recovered: true, room: None });
    assert_eq!(commit(&store, batch([Change::Letter(letter(3, "after").into())])), Committed { recovered: false, room: None });
    let letters = reader.sent(0, 10, false).expect("the reader goes on").into_iter().map(|view| view.letter);
    assert!(letters.eq([letter(1, "before"), letter(2, "meanwhile"), letter(3, "after")]));
    let counts = reader.counts().expect("counts");
    assert_eq!((counts.inbox, counts.unread), (1, 1));
}

#[test]
fn a_disk_that_goes_on_failing_is_said_to_and_what_was_committed_stays() {
    let disk = Arc::new(Failing::default());
    let (store, _) = Store::over(disk.clone()).expect("the store opens");
    commit(&store, batch([Change::Me(me())]));
    disk.flushes.store(u32::MAX, Ordering::SeqCst);
    let refused = runtime().block_on(store.commit(batch([Change::Letter(letter(1, "hi").into())])));
    assert!(matches!(refused, Err(CommitError::Disk(_))), "{refused:?}");
    drop(store);
    disk.flushes.store(0, Ordering::SeqCst);
    let (_, kept) = Store::over(disk).expect("the store opens");
    assert_eq!(kept.me, Some(me()));
}

#[test]
fn a_reader_left_over_says_that_the_store_is_closed() {
    let (store, _) = Store::memory();
    let reader = store.reader();
    drop(store);
    assert!(matches!(reader.sent(0, 1, false), Err(ReadError::Closed)));
}

/// Makes a database with data, lets `harm` change the directory, and opens it again.
fn reopened(harm: impl FnOnce(&Path)) -> Result<Store, OpenError> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = Store::open(dir.path()).expect("the store opens");
    commit(&store, batch([Change::Me(me())]));
    drop(store);
    harm(dir.path());
    let before = fs::read(dir.path().join(DATABASE)).ok();
    let opened = Store::open(dir.path()).map(|(store, _)| store);
    if let Err(error) = &opened {
        // The library gives pages at the end back to the file system when it closes a file.
        let after = fs::read(dir.path().join(DATABASE)).ok().map(|bytes| bytes.len());
        let before = before.map(|bytes| bytes.len());
        assert!(after <= before && after.is_some() == before.is_some(), "{error}");
        assert!(error.to_string().contains("from a copy") && error.to_string().contains("run --start-over"), "{error}");
    }
    opened
}

#[test]
fn a_lost_or_damaged_database_is_never_taken_for_a_new_one() {
    let overwrite = |dir: &Path, from: usize, byte: u8| {
        let mut bytes = fs::read(dir.join(DATABASE)).expect("the database");
        let end = bytes.len().min(from + 4096);
        bytes[from..end].fill(byte);
        fs::write(dir.join(DATABASE), bytes).expect("the database is changed");
    };
    let lost = reopened(|dir| fs::remove_file(dir.join(DATABASE)).expect("removed"));
    assert!(matches!(lost, Err(OpenError::Lost { .. })), "{lost:?}");
    let unmarked = reopened(|dir| fs::remove_file(dir.join(SENTINEL)).expect("removed"));
    assert!(matches!(unmarked, Err(OpenError::Unmarked { .. })), "{unmarked:?}");
    let other = reopened(|dir| {
        let second = tempfile::tempdir().expect("a temporary directory");
        drop(Store::open(second.path()).expect("the store opens"));
        fs::copy(second.path().join(DATABASE), dir.join(DATABASE)).expect("copied");
    });
    assert!(matches!(other, Err(OpenError::Another { .. })), "{other:?}");
    for byte in [0, 0xff] {
        let header = reopened(|dir| overwrite(dir, 0, byte));
        assert!(matches!(header, Err(OpenError::Damaged { .. })), "{header:?}");
    }
    let empty = reopened(|dir| fs::write(dir.join(DATABASE), []).expect("emptied"));
    assert!(matches!(empty, Err(OpenError::Damaged { .. })), "{empty:?}");
    let mark = reopened(|dir| fs::write(dir.join(SENTINEL), [0xff; 9]).expect("changed"));
    assert!(matches!(mark, Err(OpenError::Another { .. })), "{mark:?}");
    assert!(reopened(|_| {}).is_ok());
}

#[test]
fn a_database_that_is_deleted_or_replaced_while_it_is_open_is_noticed_before_anything_is_promised() {
    type Harm = fn(&Path);
    let deleted: Harm = |database| fs::remove_file(database).expect("removed");
    let replaced: Harm = |database| {
        let aside = database.with_extension("aside");
        fs::copy(database, &aside).expect("copied");
        fs::rename(&aside, database).expect("put in its place");
    };
    for harm in [deleted, replaced] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (store, _) = Store::open(dir.path()).expect("the store opens");
        assert!(runtime().block_on(store.measure()).expect("it is there").is_some());
        harm(&dir.path().join(DATABASE));
        let found = runtime().block_on(store.measure());
        assert!(matches!(found, Err(CommitError::Damaged(Fault::Gone(_)))), "{found:?}");
        let refused = runtime().block_on(store.commit(batch([Change::Me(me())])));
        assert!(matches!(refused, Err(CommitError::Damaged(Fault::Gone(_)))), "{refused:?}");
    }
}

#[test]
fn every_commit_says_what_room_is_left_and_measuring_sets_the_reserve_aside_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = Store::open(dir.path()).expect("the store opens");
    assert!(commit(&store, batch([Change::Me(me())])).room.is_some_and(|room| room.total > 0));
    let reserve = dir.path().join("reserve");
    fs::remove_file(&reserve).expect("given up");
    runtime().block_on(store.measure()).expect("it is there");
    assert_eq!(fs::metadata(&reserve).map(|file| file.len()).ok(), Some(super::super::RESERVE_BYTES));
}

#[test]
fn a_damaged_row_is_named_and_nothing_panics() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    drop(Store::open(dir.path()).expect("the store opens"));
    let database = redb::Database::open(dir.path().join(DATABASE)).expect("it opens");
    let txn = database.begin_write().expect("a transaction");
    txn.open_table(super::super::tables::SENT).expect("the table").insert(7, [1u8; 20].as_slice()).expect("inserted");
    txn.commit().expect("committed");
    drop(database);
    let (store, kept) = Store::open(dir.path()).expect("the rest is whole");
    assert_eq!(kept.next_letter, 8);
    let error = store.reader().sent(0, 10, false).expect_err("a damaged row").to_string();
    assert!(error.contains("table sent, key 7"), "{error}");
}

#[test]
fn a_database_of_another_format_is_refused() {
    let open = |format: u32| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        drop(Store::open(dir.path()).expect("the store opens"));
        let database = redb::Database::open(dir.path().join(DATABASE)).expect("it opens");
        let txn = database.begin_write().expect("a transaction");
        txn.open_table(super::super::tables::FORMAT).expect("the table").insert((), format).expect("inserted");
        txn.commit().expect("committed");
        drop(database);
        Store::open(dir.path()).map(drop)
    };
    let newer = open(99);
    assert!(matches!(newer, Err(OpenError::Newer { found: 99, .. })), "{newer:?}");
    let older = open(1);
    assert!(matches!(older, Err(OpenError::Older { found: 1, .. })), "{older:?}");
}

/// Makes of the database in `dir` what format 2 would have made: the streams `out` and `incoming` are all that it says of them.
fn downgrade(dir: &Path, out: &OutStream, incoming: &InStream) {
    use super::super::tables;
    #[derive(serde::Serialize)]
    struct OldOut<'a> {
        no: u32,
        peer: &'a PeerId,
        epoch: Epoch,
        next: u64,
        delivered: &'a Ranges,
        read: &'a Ranges,
        receipt: Option<(Epoch, u64)>,
    }
    #[derive(serde::Serialize)]
    struct OldIn<'a> {
        no: u32,
        author: &'a PeerId,
        epoch: Epoch,
        floor: u64,
        taken: &'a Ranges,
        read: &'a Ranges,
        shown: u64,
        last: u64,
        receipt: (Epoch, u64),
        twins: &'a std::collections::BTreeSet<(u64, LetterId)>,
    }
    let OutStream { no, peer, epoch, next, delivered, read, receipt, .. } = out;
    let old_out = OldOut { no: *no, peer, epoch: *epoch, next: *next, delivered, read, receipt: *receipt };
    let InStream { no, author, epoch, floor, taken, read, shown, last, receipt, twins, .. } = incoming;
    let (floor, shown, last) = (*floor, *shown, *last);
    let old_in = OldIn { no: *no, author, epoch: *epoch, floor, taken, read, shown, last, receipt: *receipt, twins };

    let database = redb::Database::open(dir.join(DATABASE)).expect("it opens");
    let txn = database.begin_write().expect("a transaction");
    macro_rules! delete {
        ($($table:ident)*) => { $( assert!(txn.delete_table(tables::$table).expect("deleted")); )* };
    }
    delete!(DISCARDED BLOCKED FENCE OFFERS DRAINING ORDERS ORDER_BODIES ORDER_STATES OPEN_ORDERS CLOSED_OWN UNIT_ENDS ORDER_KEYS);
    delete!(QUEUE QUEUE_STATES CLOSED TRIES);
    let (out, incoming) = (protocol::codec::encode(&old_out), protocol::codec::encode(&old_in));
    txn.open_table(tables::OUT_STREAMS).expect("the table").insert(old_out.no, out.as_slice()).expect("inserted");
    txn.open_table(tables::IN_STREAMS).expect("the table").insert(old_in.no, incoming.as_slice()).expect("inserted");
    txn.open_table(tables::FORMAT).expect("the table").insert((), 2).expect("inserted");
    txn.commit().expect("committed");
}

#[test]
fn a_database_of_the_format_before_is_brought_to_this_one_and_keeps_what_it_had() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = Store::open(dir.path()).expect("the store opens");
    let out = OutStream { delivered: Ranges::of(1, 3), receipt: Some((Epoch(4), 5)), ..out_stream(7) };
    let incoming = InStream { taken: Ranges::of(1, 2), last: 2, ..in_stream(1, 3, 1) };
    commit(&store, batch([Change::Me(me()), Change::Letter(letter(1, "kept").into()), Change::Bundle(bundle(1, 1, 100).into())]));
    let id = store.database_id();
    drop(store);
    downgrade(dir.path(), &out, &incoming);
    for _ in 0..2 {
        let (store, kept) = Store::open(dir.path()).expect("the store opens");
        assert_eq!((store.database_id(), kept.me, kept.next_letter, kept.bundles.len()), (id, Some(me()), 2, 1));
        assert_eq!((kept.out_streams, kept.in_streams), (vec![out.clone()], vec![incoming.clone()]));
        assert!(kept.blocked.is_empty() && kept.next_order == 1);
        assert_eq!(store.reader().counts().expect("counts").orders, 0);
        assert_eq!(store.reader().sent(0, 9, false).expect("letters").len(), 1);
    }
    let (store, _) = Store::open(dir.path()).expect("the store opens");
    let discarded = Change::Discarded { stream: 1, first: 1, last: 1, at: Timestamp(9) };
    commit(&store, batch([Change::Blocked { peer: peer(9), on: true }, Change::Drain(true), discarded]));
    assert_eq!(store.reader().sent(0, 9, false).expect("letters").len(), 1);
    drop(store);
    let kept = Store::open(dir.path()).expect("the store opens").1;
    assert!(kept.blocked.contains(&peer(9)) && kept.draining);
}

/// What a node of this version had on its disk: letters both ways, one of them read, one that waits for its recipient and one for a
/// name, a service, an order that is done and one that waits. (A backup of it is beside it.)
#[test]
fn a_database_kept_from_an_earlier_version_opens_with_all_that_was_in_it() {
    let kept_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kept");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (copied, restored) = (dir.path().join("copied"), dir.path().join("restored"));
    fs::create_dir(&copied).expect("it is ours");
    for file in [DATABASE, SENTINEL] {
        fs::copy(kept_from.join("format-5").join(file), copied.join(file)).expect("it is kept");
    }
    super::super::restore::restore(&kept_from.join("format-5.backup"), &restored, &mut |_| {}).expect("it is put back");
    for (dir, was_restored) in [(copied, false), (restored, true)] {
        let (store, kept) = Store::open(&dir).expect("it opens");
        let me = kept.me.expect("its node's row");
        assert_eq!((me.name.as_str(), me.restored), ("ann", was_restored));
        assert_eq!((kept.next_letter, kept.waiting.len(), kept.next_order, kept.open_orders.len()), (4, 1, 3, 1));
        assert_eq!((kept.offers.len(), kept.bundles.len(), kept.known.len()), (1, 1, 1));
        let counts = store.reader().counts().expect("counts");
        assert_eq!((counts.inbox, counts.sent, counts.orders), (2, 3, 2));
        let letters = store.reader().sent(0, 9, false).expect("letters");
        let texts = letters.iter().map(|view| view.letter.payload.clone());
        assert!(texts.eq(["to bea", "waits for a name", "waits for bea"].map(|text| Payload::Text(text.to_owned()))));
    }
}

#[test]
fn a_database_of_the_format_before_that_does_not_belong_here_is_not_changed() {
    type Harm = fn(&Path) -> io::Result<()>;
    let unmarked: Harm = |sentinel| fs::remove_file(sentinel);
    let another: Harm = |sentinel| fs::write(sentinel, format!("swarm database 1 {}\n", "0".repeat(32)));
    for harm in [unmarked, another] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (store, _) = Store::open(dir.path()).expect("the store opens");
        commit(&store, batch([Change::Me(me())]));
        drop(store);
        downgrade(dir.path(), &out_stream(1), &in_stream(1, 3, 1));
        harm(&dir.path().join(SENTINEL)).expect("changed");
        let refused = Store::open(dir.path()).map(drop);
        assert!(matches!(refused, Err(OpenError::Unmarked { .. } | OpenError::Another { .. })), "{refused:?}");
        let database = redb::Database::open(dir.path().join(DATABASE)).expect("it opens");
        let txn = redb::ReadableDatabase::begin_read(&database).expect("a transaction");
        assert_eq!(super::super::tables::format(&txn).expect("a format"), Some(2));
    }
}

#[test]
fn a_first_start_that_was_cut_off_begins_again() {
    for leftover in [None, Some(vec![]), Some(vec![0; 8192])] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let text = format!("{leftover:?}").len();
        if let Some(bytes) = leftover {
            fs::write(dir.path().join(DATABASE), bytes).expect("written");
        }
        let (store, _) = Store::open(dir.path()).unwrap_or_else(|error| panic!("{text}: {error}"));
        drop(store);
        // The database was made, and the power went before the sentinel was.
        fs::remove_file(dir.path().join(SENTINEL)).expect("removed");
        let (_, kept) = Store::open(dir.path()).expect("the store opens");
        assert_eq!(kept.me, None);
    }
}

#[test]
fn a_database_is_open_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(dir.path()).expect("the store opens");
    let second = Store::open(dir.path());
    assert!(matches!(second, Err(OpenError::Busy { .. })), "{second:?}");
    drop(store);
    assert!(Store::open(dir.path()).is_ok());
}
