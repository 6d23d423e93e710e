//! Figures, not gates: `cargo test --release -p node --lib store::tests::speed -- --ignored --nocapture --test-threads 1`.

use std::time::Instant;

use super::*;

const BATCHES: u64 = 100;
const TEXT: usize = 256;

/// A store in the directory that holds what is built, not in a memory file system.
fn place() -> tempfile::TempDir {
    let executable = std::env::current_exe().expect("a test has a file");
    tempfile::tempdir_in(executable.parent().expect("in a directory")).expect("a temporary directory")
}

fn measure(name: &str, per_batch: u64, make: impl Fn(u64) -> Batch) {
    let dir = place();
    let (store, _) = Store::open(dir.path()).expect("the store opens");
    let batches: Vec<Batch> = (0..BATCHES).map(make).collect();
    let begin = Instant::now();
    runtime().block_on(async {
        for batch in batches {
            store.commit(batch).await.expect("the commit succeeds");
        }
    });
    let took = begin.elapsed().as_secs_f64();
    let letters = BATCHES * per_batch;
    let bytes = store.reader().counts().expect("counts").database_bytes;
    println!("{name}: {:.0} letters/s, {:.0} commits/s, {} bytes a letter", letters as f64 / took, BATCHES as f64 / took, bytes / letters);
}

#[test]
#[ignore = "a measurement"]
fn letters_taken_and_shown() {
    let text = "x".repeat(TEXT);
    for per_batch in [1, 100, 1_000] {
        measure(&format!("Taken+Shown, {per_batch} a batch"), per_batch, |number| {
            let seqs = (1..=per_batch).map(|i| number * per_batch + i);
            let mut changes: Vec<Change> = seqs.clone().map(|seq| Change::Taken(taken(1, seq, &text).into())).collect();
            changes.extend(seqs.map(|seq| shown(1, seq, seq)));
            changes.push(Change::InStream(in_stream(1, 3, 1)));
            let mut batch = batch(changes);
            batch.changes.push(segment(1, number + 1, number + 1, 1).0);
            batch
        });
    }
}

#[test]
#[ignore = "a measurement"]
fn letters_sent() {
    let text = "x".repeat(TEXT);
    for bundles in [1, 16] {
        measure(&format!("Letter+Bundle, {bundles} of 64 a batch"), bundles * 64, |number| {
            let seqs = (1..=bundles * 64).map(|i| number * bundles * 64 + i);
            let mut changes: Vec<Change> = seqs.clone().map(|k| Change::Letter(letter(k, &text).into())).collect();
            changes.extend(seqs.step_by(64).map(|first| Change::Bundle(bundle(first, 64, 64 * 400).into())));
            changes.push(Change::OutStream(out_stream(number)));
            let mut batch = batch(changes);
            batch.changes.push(segment(1, number + 1, number + 1, 1).0);
            batch
        });
    }
}

#[test]
#[ignore = "a measurement"]
fn opening_and_searching_a_hundred_thousand_letters() {
    let text = "x".repeat(TEXT);
    for waiting in [false, true] {
        let dir = place();
        let (store, _) = Store::open(dir.path()).expect("the store opens");
        for number in 0..100 {
            let ks = number * 1_000 + 1..=number * 1_000 + 1_000;
            let mut changes: Vec<Change> = ks.clone().map(|k| Change::Letter(letter(k, &text).into())).collect();
            changes.extend(ks.clone().map(|seq| Change::Taken(taken(1, seq, &text).into())));
            changes.extend(ks.clone().flat_map(|n| [shown(1, n, n), Change::Read { n, at: Timestamp(1) }]));
            if waiting {
                changes.extend(ks.map(|first| Change::Bundle(bundle(first, 1, 600).into())));
            }
            changes.push(Change::InStream(in_stream(1, 3, number * 1_000 + 900)));
            changes.push(Change::OutStream(OutStream { delivered: Ranges::of(1, number * 1_000), ..out_stream(number * 1_000 + 1) }));
            commit(&store, batch(changes));
        }
        drop(store);
        let begin = Instant::now();
        let (store, kept) = Store::open(dir.path()).expect("the store opens");
        println!("open with {} waiting bundles: {:?}", kept.bundles.len(), begin.elapsed());
        let reader = store.reader();
        let timed = |name: &str, read: &dyn Fn() -> usize| {
            let begin = Instant::now();
            let found = read();
            println!("  {name}: {found} in {:?}", begin.elapsed());
        };
        timed("sent by id, oldest", &|| reader.sent_by_id(&id(1).to_string()).expect("letters").len());
        timed("inbox by id, oldest", &|| reader.inbox_by_id(&id(1_001).to_string()).expect("letters").len());
        timed("unread", &|| reader.inbox(&super::super::InboxQuery { unread: true, ..Default::default() }).expect("letters").len());
        timed("newest 100", &|| reader.inbox(&super::super::InboxQuery { newest: true, ..Default::default() }).expect("letters").len());
        timed("sent, newest 100", &|| reader.sent(0, 100, true).expect("letters").len());
    }
}
