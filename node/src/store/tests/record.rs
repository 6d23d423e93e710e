use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::bundle::Secrets;
use protocol::codec;
use protocol::edge::Edge;
use protocol::effect::{Copied, Pruned};
use protocol::log::{About, Cursor, Logged, Question};
use protocol::order::{Attempt, End, OrderKey, Try};
use redb::backends::InMemoryBackend;
use redb::{ReadableTable as _, ReadableTableMetadata as _};
use sha2::{Digest, Sha256};

use super::super::medium::Medium;
use super::super::{FlawKind, Reader, RecordLimits, Verification, tables};
use super::*;

/// Writes a chain as a node does.
struct Author {
    edge: Edge,
    me: PeerId,
    chain: u64,
    number: u64,
    hash: [u8; 32],
    next: u64,
}

impl Author {
    fn new(seed: u8, chain: u64) -> Author {
        let secrets = Secrets::from_seeds(&[seed; 32], &[seed; 32]);
        Author { me: secrets.id(), edge: Edge::new(secrets, "lan".to_owned()), chain, number: 0, hash: [0; 32], next: 1 }
    }

    fn write(&mut self, entries: Vec<(u64, What)>) -> Write {
        let count = entries.len();
        let entries = entries.into_iter().map(|(time, what)| Entry { time: Timestamp(time), what }).collect();
        let first = self.next;
        let segment = Segment { author: self.me, chain: self.chain, number: self.number + 1, previous: self.hash.into(), first, entries };
        let body = codec::encode(&segment);
        (self.number, self.hash, self.next) = (segment.number, Sha256::digest(&body).into(), first + count as u64);
        let signed = codec::encode(&self.edge.sign_segment(body));
        Write::Segment { chain: self.chain, number: self.number, first, signed, entries: u32::try_from(count).expect("few") }
    }

    /// What is written of one order; its time is its number in seconds.
    fn order(&mut self, number: u64) -> Write {
        let attempt = Attempt { term: 1, leader: self.me, number: 1 };
        let of = Try { order: OrderKey { orderer: self.me, epoch: Epoch(7), number }, unit: 1, attempt };
        let time = 1_000 * number;
        self.write(vec![
            (time, What::OrdersPlaced { first: number, last: number }),
            (time, What::UnitStarted { of }),
            (time + 1, What::OrderEnded { number, end: End::Done }),
        ])
    }
}

fn ask() -> Question {
    Question { limit: 100, ..Question::default() }
}

/// All pages.
fn all(reader: &Reader, mut question: Question) -> Vec<Logged> {
    let mut entries = Vec::new();
    loop {
        let mut page = reader.log(&question).expect("it can be read");
        let end = page.next.is_none() || (question.arrivals && page.entries.is_empty());
        entries.append(&mut page.entries);
        if end {
            return entries;
        }
        assert_ne!(page.next, question.after, "it goes on");
        question.after = page.next;
    }
}

fn blocks(store: &Store) -> u64 {
    store.reader().with(|txn| Ok(txn.open_table(tables::BLOCKS)?.len()?)).expect("they can be counted")
}

/// Waits until the disk has had nothing else to do.
fn indexed(store: &Store, least: u64) {
    let begin = Instant::now();
    while blocks(store) < least {
        assert!(begin.elapsed() < Duration::from_secs(20), "{} blocks", blocks(store));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn filled(orders: u64) -> (Store, Author) {
    let (store, _) = Store::memory();
    let mut author = Author::new(1, 11);
    for chunk in (1..=orders).collect::<Vec<_>>().chunks(500) {
        let changes = chunk.iter().map(|number| author.order(*number)).collect();
        commit(&store, Batch { changes });
    }
    (store, author)
}

#[test]
fn every_entry_is_told_once_whatever_the_pages() {
    let (store, author) = filled(1_000);
    for limit in [7, 100, 1_000] {
        let entries = all(&store.reader(), Question { limit, newest: true, ..ask() });
        assert!(entries.iter().map(|entry| entry.seq).eq((1..=3_000).rev()), "{limit}");
        let entries = all(&store.reader(), Question { limit, ..ask() });
        assert!(entries.iter().map(|entry| entry.seq).eq(1..=3_000), "{limit}");
        let entries = all(&store.reader(), Question { limit, arrivals: true, ..ask() });
        assert!(entries.iter().map(|entry| entry.seq).eq(1..=3_000), "{limit}");
    }
    indexed(&store, 2);
    let entries = all(&store.reader(), Question { limit: 13, ..ask() });
    assert!(entries.iter().map(|entry| entry.seq).eq(1..=3_000), "with an index");
    let entries = all(&store.reader(), Question { limit: 13, newest: true, ..ask() });
    assert!(entries.iter().map(|entry| entry.seq).eq((1..=3_000).rev()), "from the end, with an index");
    assert!(entries.iter().all(|entry| (entry.author, entry.chain) == (author.me, 11)));
}

#[test]
fn an_order_is_found_with_and_without_an_index() {
    let (store, author) = filled(1_000);
    let about = |number| Some(About::Order { orderer: author.me, number, unit: None });
    let check = || {
        for number in [1, 500, 1_000] {
            let found = all(&store.reader(), Question { about: about(number), ..ask() });
            let first = 3 * (number - 1) + 1;
            assert!(found.iter().map(|entry| entry.seq).eq(first..first + 3), "{number}: {found:?}");
        }
        assert!(all(&store.reader(), Question { about: about(1_001), ..ask() }).is_empty());
    };
    check();
    indexed(&store, 2);
    check();
}

#[test]
fn times_and_kinds_are_told_apart_though_a_clock_jumps() {
    let (store, mut author) = filled(1_000);
    // Its clock goes back by more than there is.
    let changes = (1_001..=1_400).map(|number| author.write(vec![(5, What::OrdersPlaced { first: number, last: number })])).collect();
    commit(&store, Batch { changes });
    for _ in 0..2 {
        let early = Question { until: Some(Timestamp(10)), ..ask() };
        assert_eq!(all(&store.reader(), early).len(), 400);
        let late = Question { since: Some(Timestamp(999_000)), ..ask() };
        assert_eq!(all(&store.reader(), late).len(), 6);
        let placed = Question { what: vec!["orders".to_owned()], limit: 9, ..ask() };
        let placed = all(&store.reader(), placed);
        assert_eq!(placed.len(), 1_400);
        // From the end it is the same, the other way round.
        let mut newest = all(&store.reader(), Question { what: vec!["orders".to_owned()], limit: 9, newest: true, ..ask() });
        newest.reverse();
        assert_eq!(newest, placed);
        indexed(&store, 3);
    }
}

#[test]
fn who_follows_is_told_what_comes_and_nothing_twice() {
    let (store, mut author) = filled(10);
    let now = Question { arrivals: true, after: Some(Cursor::Arrival { no: u64::MAX, told: 0 }), ..ask() };
    let page = store.reader().log(&now).expect("it can be read");
    assert_eq!(page.entries, []);
    commit(&store, Batch { changes: vec![author.order(11), author.order(12)] });
    let page = store.reader().log(&Question { after: page.next, limit: 4, ..now.clone() }).expect("it can be read");
    assert!(page.entries.iter().map(|entry| entry.seq).eq(31..35), "{page:?}");
    let page = store.reader().log(&Question { after: page.next, ..now.clone() }).expect("it can be read");
    assert!(page.entries.iter().map(|entry| entry.seq).eq(35..37), "{page:?}");
    let page = store.reader().log(&Question { after: page.next, ..now }).expect("it can be read");
    assert_eq!(page.entries, []);
}

#[test]
fn a_letter_is_found_by_the_beginning_of_its_id() {
    let (store, _) = Store::memory();
    let mut author = Author::new(1, 11);
    let accepted = |k: u64| What::LetterAccepted { letter: id(k), to: vec![(peer(2), k)], epoch: Epoch(7) };
    let mut entries: Vec<(u64, What)> = (1..=100).map(|k| (k, accepted(k))).collect();
    entries.push((200, What::LettersDelivered { to: peer(2), epoch: Epoch(7), first: 1, last: 50 }));
    let changes = vec![author.write(entries)];
    commit(&store, Batch { changes });
    let ask = |prefix: &str| Question { about: Some(About::Letter { prefix: prefix.to_owned() }), ..ask() };
    let found = |k: u64| all(&store.reader(), ask(&id(k).to_string()[..6])).iter().map(|entry| entry.seq).collect::<Vec<_>>();
    assert_eq!(found(3), [3, 101]);
    assert_eq!(found(99), [99]);
    assert_eq!(all(&store.reader(), ask("zzzz")), []);
}

/// The same bytes again, after `change` was done to the database behind the store's back.
fn tampered(segments: u64, change: impl FnOnce(&redb::Database)) -> Verification {
    let backend = Arc::new(InMemoryBackend::new());
    let (store, _) = Store::over(backend.clone()).expect("it opens");
    let mut author = Author::new(1, 11);
    let changes = (1..=segments).map(|number| author.order(number)).collect();
    commit(&store, Batch { changes });
    drop(store);
    let medium = Medium::Backend(backend.clone());
    let database = medium.open(true).expect("it opens");
    change(&database);
    drop(database);
    let (store, _) = Store::over(backend).expect("it opens");
    store.reader().verify(&author.me, "lan").expect("it can be read")
}

fn with_row(database: &redb::Database, number: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let txn = database.begin_write().expect("it begins");
    {
        let mut table = txn.open_table(tables::SEGMENTS).expect("it is there");
        let mut row = table.get((0, number)).expect("it can be read").expect("it is there").value().to_vec();
        change(&mut row);
        table.insert((0, number), row.as_slice()).expect("it can be written");
    }
    txn.commit().expect("it is committed");
}

#[test]
fn what_was_changed_is_told_with_a_doubt() {
    let (store, _) = tampered_with_blocks(|txn| {
        let mut table = txn.open_table(tables::SEGMENTS).expect("it is there");
        let mut row = table.get((0, 500)).expect("it can be read").expect("it is there").value().to_vec();
        // In the time of its first entry: 500,000 in five bytes, of which the last counts least.
        let time = row.windows(5).position(|bytes| bytes == b"dtime").expect("it has one") + 9;
        row[time] ^= 1;
        table.insert((0, 500), row.as_slice()).expect("it can be written");
    });
    for newest in [false, true] {
        let entries = all(&store.reader(), Question { limit: 7, newest, ..ask() });
        let mut doubted: Vec<u64> = entries.iter().filter(|entry| entry.doubtful).map(|entry| entry.seq).collect();
        doubted.sort_unstable();
        assert_eq!((entries.len(), doubted), (3_000, (1_498..=1_503).collect()), "newest: {newest}");
    }
    let about = |number| Some(About::Order { orderer: peer(1), number, unit: None });
    let doubted = |number| all(&store.reader(), Question { about: about(number), ..ask() }).iter().filter(|entry| entry.doubtful).count();
    assert_eq!((doubted(499), doubted(500), doubted(501)), (0, 3, 3));
}

#[test]
fn a_whole_record_verifies() {
    let found = tampered(20, |_| {});
    assert_eq!((found.flaws_in_all, found.chains.len()), (0, 1));
    let chain = &found.chains[0];
    assert_eq!((chain.first, chain.last, chain.first_entry, chain.last_entry, chain.good), (1, 20, 1, 60, true));
}

#[test]
fn each_flipped_byte_of_a_row_is_found_and_named() {
    let mut length = 0;
    tampered(5, |database| with_row(database, 3, |row| length = row.len()));
    for at in (0..length).step_by(7) {
        let found = tampered(5, |database| with_row(database, 3, |row| row[at] ^= 0x10));
        assert!(found.flaws_in_all > 0 && !found.chains[0].good, "byte {at}");
        let named = found.flaws.iter().all(|flaw| flaw.author == peer(1) && flaw.chain == 11 && flaw.first <= 4 && flaw.last >= 3);
        assert!(named, "byte {at}: {:?}", found.flaws);
    }
}

#[test]
fn a_missing_and_a_misplaced_segment_are_named() {
    let remove = |database: &redb::Database| {
        let txn = database.begin_write().expect("it begins");
        txn.open_table(tables::SEGMENTS).expect("it is there").remove((0, 3)).expect("it can be removed");
        txn.commit().expect("it is committed");
    };
    let found = tampered(5, remove);
    let missing = found.flaws.iter().find(|flaw| flaw.kind == FlawKind::Missing).expect("it is found");
    assert_eq!((missing.first, missing.last), (3, 3));
    let exchange = |database: &redb::Database| {
        let mut two = Vec::new();
        with_row(database, 2, |row| two = row.clone());
        with_row(database, 4, |row| *row = two);
    };
    let found = tampered(5, exchange);
    let kinds: BTreeSet<String> = found.flaws.iter().map(|flaw| format!("{:?} {}", flaw.kind, flaw.first)).collect();
    assert!(kinds.contains("Misplaced 4"), "{kinds:?}");
}

#[test]
fn a_new_chain_says_from_which_it_goes_on() {
    let (store, mut author) = filled(3);
    let (hash, next) = (author.hash, author.next);
    let mut anew = Author::new(1, 12);
    (anew.hash, anew.next) = (hash, next);
    let changes = vec![anew.order(9)];
    commit(&store, Batch { changes });
    let found = store.reader().verify(&author.me, "lan").expect("it can be read");
    assert_eq!(found.flaws_in_all, 0, "{:?}", found.flaws);
    assert_eq!(found.chains[1].follows, Some((11, 3, false)));
    // The other kind of break: the chain before goes on.
    let _ = author.order(10);
}

/// Copies of what somebody else wrote.
fn copies(author: &mut Author, orders: std::ops::RangeInclusive<u64>, branch: u8) -> Vec<Write> {
    let me = author.me;
    let copied = |write| {
        let Write::Segment { chain, number, first, signed, entries } = write else { panic!("a segment") };
        Write::Change(Change::Copied(Box::new(Copied { author: me, chain, branch, number, first, entries, signed })))
    };
    let segments: Vec<Write> = orders.map(|number| author.order(number)).collect();
    segments.into_iter().map(copied).collect()
}

#[test]
fn the_records_of_several_are_told_as_one_by_time() {
    let (store, mut ann) = filled(3);
    let mut bea = Author::new(2, 22);
    let changes = copies(&mut bea, 1..=5, 0);
    commit(&store, Batch { changes });
    let entries = all(&store.reader(), Question { limit: 4, ..ask() });
    assert_eq!(entries.len(), 24);
    assert!(entries.is_sorted_by_key(|entry| entry.time), "{entries:?}");
    let mut newest = all(&store.reader(), Question { limit: 4, newest: true, ..ask() });
    newest.reverse();
    assert_eq!(newest, entries);
    let of_bea = all(&store.reader(), Question { peer: Some(bea.me), ..ask() });
    assert!(of_bea.iter().all(|entry| entry.author == bea.me) && of_bea.len() == 15);
    let of_ann = all(&store.reader(), Question { peer: Some(ann.me), ..ask() });
    assert!(of_ann.iter().all(|entry| entry.author == ann.me) && of_ann.len() == 9);
    let found = store.reader().verify(&ann.me, "lan").expect("it can be read");
    assert_eq!((found.flaws_in_all, found.chains.len(), found.chains[1].copy), (0, 2, true));
    // Whoever has the same segments is given them as they were signed.
    let page = store.reader().segments(Some((bea.me, 0)), 22, 3).expect("it can be read");
    assert_eq!(page.iter().map(|signed| signed.check("lan").expect("signed").number).collect::<Vec<_>>(), [4, 5]);
    let _ = ann.order(9);
}

#[test]
fn two_segments_of_one_number_are_both_told_and_what_they_share_once() {
    let (store, ann) = filled(1);
    let (mut one, mut two) = (Author::new(2, 22), Author::new(2, 22));
    let mut changes = copies(&mut one, 1..=3, 0);
    changes.extend(copies(&mut two, 1..=2, 1));
    let other = two.order(7);
    let Write::Segment { chain, number, first, signed, entries } = other else { panic!("a segment") };
    let other = Copied { author: two.me, chain, branch: 1, number, first, entries, signed };
    changes.push(Write::Change(Change::Copied(Box::new(other))));
    commit(&store, Batch { changes });
    let told = all(&store.reader(), Question { peer: Some(one.me), ..ask() });
    assert_eq!(told.len(), 12, "three, and the third again as it also was");
    assert_eq!(told.iter().map(|entry| entry.branch).filter(|branch| *branch == 1).count(), 3, "and said to be of another line");
    let found = store.reader().verify(&ann.me, "lan").expect("it can be read");
    assert!(found.flaws.iter().all(|flaw| flaw.kind == FlawKind::Forked) && found.flaws_in_all == 1, "{:?}", found.flaws);
}

#[test]
fn a_restored_backup_leaves_lines_that_all_verify_and_a_break_that_is_named() {
    // Others have what it wrote before as the first line, it itself what it wrote after.
    for (before, after) in [(0, 1), (1, 0)] {
        let (store, ann) = filled(1);
        let (mut one, mut two) = (Author::new(2, 22), Author::new(2, 22));
        let mut changes = copies(&mut one, 1..=5, before);
        // Put back to after the second, it writes one more, and then learns of what it has forgotten.
        changes.extend(copies(&mut two, 1..=2, after));
        let mut beside = Author { number: 2, hash: two.hash, next: two.next, ..Author::new(2, 22) };
        changes.extend(copies(&mut beside, 9..=9, after));
        let mut anew = Author { hash: beside.hash, next: beside.next, ..Author::new(2, 33) };
        changes.extend(copies(&mut anew, 10..=12, 0));
        commit(&store, Batch { changes });
        let found = store.reader().verify(&ann.me, "lan").expect("it can be read");
        assert_eq!(found.flaws, []);
        let of = |chain, branch| found.chains.iter().find(|seen| (seen.chain, seen.branch) == (chain, branch)).expect("it is there");
        assert_eq!((of(22, before).last, of(22, after).last, of(33, 0).follows), (5, 3, Some((22, 3, true))));
        assert!(found.chains.iter().all(|seen| seen.good));
    }
}

#[test]
fn what_is_too_much_goes_oldest_first_and_what_is_left_still_proves_itself() {
    let (store, mut ann) = filled(1_500);
    let mut bea = Author::new(2, 22);
    let changes = copies(&mut bea, 1..=1_500, 0);
    commit(&store, Batch { changes });
    indexed(&store, 4);
    let reader = store.reader();
    let size = reader.record_size().expect("it can be read");
    assert_eq!((size.segments, size.oldest), (3_000, Some((Timestamp(1_000), None))));
    let limits = RecordLimits { bytes: size.bytes / 2, ..RecordLimits::default() };
    let overdue = reader.overdue(&limits, Timestamp(2_000_000)).expect("it can be read");
    assert_eq!(overdue.len(), 2);
    assert!(overdue.iter().all(|one| one.gone && (700..900).contains(&one.through)), "{overdue:?}");
    let gone = |one: &Pruned| Write::Change(Change::Prune(Box::new(*one)));
    commit(&store, Batch { changes: overdue.iter().map(gone).collect() });
    let found = reader.verify(&ann.me, "lan").expect("it can be read");
    let missing = found.flaws.iter().map(|flaw| (flaw.kind, flaw.first, flaw.last)).collect::<Vec<_>>();
    assert_eq!(missing, [0, 1].map(|n: usize| (FlawKind::Missing, 1, overdue[n].through)), "nobody has signed for that");
    let summary = |one: &Pruned| {
        let Pruned { author: of, chain, branch, through, last_entry, hash, .. } = *one;
        (2_000_000, What::RecordPruned { of, chain, branch, through, last_entry, hash: hash.into() })
    };
    let changes = vec![ann.write(overdue.iter().map(summary).collect())];
    commit(&store, Batch { changes });
    let found = reader.verify(&ann.me, "lan").expect("it can be read");
    assert_eq!((found.flaws_in_all, found.chains[0].good, found.chains[1].good), (0, true, true), "{:?}", found.flaws);
    let size = reader.record_size().expect("it can be read");
    assert!(size.bytes <= limits.bytes && size.bytes > limits.bytes * 8 / 10, "{size:?} of {limits:?}");
    let whole = |question: &Question| reader.log(question).expect("it can be read").whole_since;
    let begin = Timestamp(1_000 * (1 + overdue.iter().map(|one| one.through).max().expect("two")));
    assert_eq!(whole(&ask()), Some(begin), "what is missing is said");
    assert_eq!(whole(&Question { since: Some(begin), ..ask() }), None, "but not to who does not ask for it");
    let told = all(&reader, ask());
    assert_eq!(told.len() as u64, 3 * (3_000 - overdue.iter().map(|one| one.through).sum::<u64>()) + 2);
    assert_eq!(all(&reader, Question { arrivals: true, ..ask() }).len(), told.len());
    // Age alone makes old ones go, too, but never the end of a chain.
    let limits = RecordLimits { age: Duration::from_secs(1), ..RecordLimits::default() };
    let overdue = reader.overdue(&limits, Timestamp(9_000_000)).expect("it can be read");
    assert_eq!(overdue.iter().map(|one| one.through).collect::<Vec<_>>(), [1_500, 1_499]);
    assert_eq!(reader.overdue(&RecordLimits::default(), Timestamp(9_000_000)).expect("it can be read"), []);
}

/// A record of two chains, the first with blocks of look-ups, after `change` was done to the database behind the store's back.
fn tampered_with_blocks(change: impl FnOnce(&redb::WriteTransaction)) -> (Store, Author) {
    let backend = Arc::new(InMemoryBackend::new());
    let (store, _) = Store::over(backend.clone()).expect("it opens");
    let mut author = Author::new(1, 11);
    let changes = (1..=1_000).map(|number| author.order(number)).collect();
    commit(&store, Batch { changes });
    indexed(&store, 2);
    drop(store);
    let database = Medium::Backend(backend.clone()).open(true).expect("it opens");
    let txn = database.begin_write().expect("it begins");
    change(&txn);
    txn.commit().expect("it is committed");
    drop(database);
    (Store::over(backend).expect("it opens").0, author)
}

#[test]
fn what_look_ups_may_miss_is_found_by_verification() {
    let (store, author) = tampered_with_blocks(|_| {});
    assert_eq!(store.reader().verify(&author.me, "lan").expect("it can be read").flaws_in_all, 0);
    drop(store);
    for at in [0, 15, 23, 31, 39, 47, 48, 60] {
        let flip = |txn: &redb::WriteTransaction| {
            let mut table = txn.open_table(tables::BLOCKS).expect("it is there");
            let (key, mut row) = {
                let (key, row) = table.iter().expect("it can be read").next_back().expect("two").expect("it can be read");
                (key.value(), row.value().to_vec())
            };
            row[at] ^= 0x40;
            table.insert(key, row.as_slice()).expect("it can be written");
        };
        let (store, author) = tampered_with_blocks(flip);
        let found = store.reader().verify(&author.me, "lan").expect("it can be read");
        assert!(found.flaws.iter().any(|flaw| flaw.kind == FlawKind::Index), "byte {at}: {found:?}");
    }
}

#[test]
fn a_damaged_row_keeps_no_other_chain_from_being_looked_up() {
    let backend = Arc::new(InMemoryBackend::new());
    let (store, _) = Store::over(backend.clone()).expect("it opens");
    let mut author = Author::new(1, 11);
    commit(&store, Batch { changes: (1..=10).map(|number| author.order(number)).collect() });
    drop(store);
    let database = Medium::Backend(backend.clone()).open(true).expect("it opens");
    with_row(&database, 1, |row| row.truncate(3));
    drop(database);
    let (store, _) = Store::over(backend).expect("it opens");
    let mut bea = Author::new(2, 22);
    commit(&store, Batch { changes: copies(&mut bea, 1..=1_000, 0) });
    indexed(&store, 2);
}

#[test]
fn what_is_missing_in_one_line_and_turned_up_later_is_not_missing() {
    let (store, ann) = filled(1);
    let mut changes = copies(&mut Author::new(2, 22), 1..=6, 0);
    changes.drain(2..4);
    commit(&store, Batch { changes });
    let verified = || store.reader().verify(&ann.me, "lan").expect("it can be read");
    assert_eq!(verified().flaws.iter().map(|flaw| (flaw.kind, flaw.first, flaw.last)).collect::<Vec<_>>(), [(FlawKind::Missing, 3, 4)]);
    // Of another line of the same number that does not go on so it is not found.
    let mut other = Author::new(2, 22);
    commit(&store, Batch { changes: copies(&mut other, 7..=12, 1) });
    assert!(verified().flaws.iter().any(|flaw| flaw.kind == FlawKind::Missing));
    let found = copies(&mut Author::new(2, 22), 1..=6, 2);
    commit(&store, Batch { changes: found });
    assert!(verified().flaws.iter().all(|flaw| flaw.kind == FlawKind::Forked), "{:?}", verified().flaws);
}

/// Run by hand, in release: `cargo test --release -p node a_million_entries -- --ignored --nocapture`.
#[test]
#[ignore = "takes a minute; measured by hand"]
fn of_a_million_entries_those_of_one_order_are_found_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, _) = Store::open(dir.path()).expect("it opens");
    let mut author = Author::new(1, 11);
    let orders = 333_334;
    for chunk in (1..=orders).collect::<Vec<u64>>().chunks(2_000) {
        let changes = chunk.iter().map(|number| author.order(*number)).collect();
        commit(&store, Batch { changes });
    }
    let about = Some(About::Order { orderer: author.me, number: 250_000, unit: None });
    let timed = |what: &str| {
        let begin = Instant::now();
        let found = all(&store.reader(), Question { about: about.clone(), ..ask() });
        println!("{what}: {} entries in {:?}", found.len(), begin.elapsed());
        assert_eq!(found.len(), 3);
    };
    timed("without an index");
    let begin = Instant::now();
    indexed(&store, 900);
    println!("indexed in {:?}", begin.elapsed());
    timed("with an index");
    timed("again");
    let begin = Instant::now();
    let found = store.reader().verify(&author.me, "lan").expect("it can be read");
    println!("verified in {:?}: {} flaws", begin.elapsed(), found.flaws_in_all);
}
