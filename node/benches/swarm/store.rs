//! Our rows through our store: what a letter costs the disk of its author and of its recipient, and opening a long history.
//! Knows nothing of nodes. Batches are such as a driver commits.

use std::time::Instant;

use node::store::{Batch, InboxQuery, Store, Write};
use protocol::bundle::{Bundle, Secrets};
use protocol::effect::{Change, Copy, CopyPlace, InStream, KeptBundle, OutStream, SentLetter, Taken};
use protocol::envelope::{Envelope, Payload};
use protocol::input::Place;
use protocol::{Epoch, LetterId, PeerId, Ranges, Timestamp};

use crate::floors::{TEXT, rows_now};
use crate::rows::Bench;
use crate::table::Figure;

/// Sealed bytes of a letter in a full bundle (measured).
const SEALED: usize = 400;
/// Letters of a full bundle.
const BUNDLE: u64 = 64;
const COMMITS: u64 = 100;

/// Commits of what is sent, of what is taken and shown; then a long history.
pub(crate) fn store(bench: &mut Bench) -> Vec<Figure> {
    let mut figures = Vec::new();
    type Make = fn(u64, u64) -> Vec<Change>;
    let kinds: [(&str, u64, Make); 4] = [
        ("taken and shown", 1, arrived),
        ("taken and shown", 1024, arrived),
        ("written and sealed", BUNDLE, written),
        ("written and sealed", 1024, written),
    ];
    for (name, letters, make) in kinds {
        let runs = bench.repeat(|place| {
            let floor = rows_now(place);
            let (store, _) = Store::open(place).expect("the store opens");
            let batches: Vec<Batch> = (0..COMMITS).map(|number| batch(make(number * letters + 1, letters))).collect();
            let begin = Instant::now();
            commit(&store, batches);
            let rate = (COMMITS * letters) as f64 / begin.elapsed().as_secs_f64();
            (rate, store.reader().counts().expect("it can be read").database_bytes as f64 / (COMMITS * letters) as f64, floor)
        });
        let floors: Vec<f64> = runs.iter().map(|run| run.2).collect();
        let figure = Figure::new("store", format!("{name}, {letters} a commit"), "letters/s", runs.iter().map(|run| run.0).collect());
        figures.push(if letters < 1000 { figure } else { figure.beside_each("redb, 1,000 rows a commit", &floors) });
        figures.push(Figure::new("store", format!("{name}, {letters} a commit: disk"), "B/letter", runs.iter().map(|run| run.1).collect()));
    }
    let opened = bench.repeat(|place| {
        let (store, _) = Store::open(place).expect("the store opens");
        commit(
            &store,
            (0..100).map(|number| batch([written(number * 1024 + 1, 1024), arrived(number * 1024 + 1, 1024)].concat())).collect(),
        );
        drop(store);
        let begin = Instant::now();
        let (store, _kept) = Store::open(place).expect("the store opens");
        let opened = begin.elapsed();
        let begin = Instant::now();
        let newest = store.reader().inbox(&InboxQuery { newest: true, ..InboxQuery::default() }).expect("it can be read");
        assert!(!newest.is_empty());
        (opened.as_secs_f64() * 1e3, begin.elapsed().as_secs_f64() * 1e3)
    });
    figures.push(Figure::new("store", "open with 100,000 taken, 100,000 waiting", "ms", opened.iter().map(|run| run.0).collect()));
    figures.push(Figure::new("store", "the newest page of that inbox", "ms", opened.iter().map(|run| run.1).collect()));
    figures
}

fn commit(store: &Store, batches: Vec<Batch>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        for batch in batches {
            store.commit(batch).await.expect("the disk is well");
        }
    });
}

fn batch(changes: Vec<Change>) -> Batch {
    Batch { changes: changes.into_iter().map(Write::Change).collect() }
}

fn peer(seed: u8) -> PeerId {
    Secrets::from_seeds(&[seed; 32], &[seed; 32]).id()
}

/// Ids are random: their numbers are spread over their beginning.
fn id(number: u64) -> LetterId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    LetterId::new(bytes)
}

fn text() -> Payload {
    Payload::Text("x".repeat(TEXT))
}

/// Letters as their author writes them down: each, and its bundles, and the stream.
fn written(first: u64, letters: u64) -> Vec<Change> {
    let (me, numbers) = (peer(2), first..first + letters);
    let letter = |k| SentLetter {
        k,
        id: id(k),
        kind: "message".to_owned(),
        payload: text(),
        timestamp: Timestamp(k),
        in_reply_to: None,
        to: vec![Copy { name: "bea".parse().expect("a name"), place: Some(CopyPlace { peer: me, stream: 1, seq: k }) }],
    };
    let bundle = |from: u64| {
        let until = (from + BUNDLE).min(first + letters);
        let bundle = Bundle { header: vec![1; 90].into(), sealed: vec![2; SEALED * (until - from) as usize].into() };
        KeptBundle { stream: 1, first: from, ids: (from..until).map(id).collect(), bundle, withdrawal: [3; 32].into() }
    };
    let mut changes: Vec<Change> = numbers.clone().map(|k| Change::Letter(letter(k).into())).collect();
    changes.extend(numbers.step_by(BUNDLE as usize).map(|from| Change::Bundle(bundle(from).into())));
    let delivered = Ranges::default();
    let stream = OutStream { next: first + letters, delivered, ..OutStream::new(1, me, Epoch(7)) };
    changes.push(Change::OutStream(stream));
    changes
}

/// Letters as their recipient takes them: each, its place in the inbox, and the stream.
fn arrived(first: u64, letters: u64) -> Vec<Change> {
    let (me, author) = (peer(1), peer(3));
    let envelope = |seq| Envelope {
        kind: "message".to_owned(),
        author,
        recipients: vec![me],
        payload: text(),
        timestamp: Timestamp(5),
        id: id(1_000_000 + seq),
        seq: Some(seq),
        in_reply_to: None,
    };
    let numbers = first..first + letters;
    let taken = |seq| Taken { stream: 1, seq, twin: 0, received: Timestamp(6), silent: false, envelope: envelope(seq) };
    let mut changes: Vec<Change> = numbers.clone().map(|seq| Change::Taken(taken(seq).into())).collect();
    changes.extend(numbers.map(|seq| Change::Shown { place: Place { stream: 1, seq, twin: 0, n: seq }, missing_before: 0 }));
    changes.push(Change::InStream(InStream {
        no: 1,
        author,
        epoch: Epoch(9),
        floor: first,
        taken: Ranges::of(1, first + letters - 1),
        read: Ranges::default(),
        shown: first + letters,
        last: first + letters - 1,
        receipt: (Epoch(0), 0),
        unread_bytes: 0,
        twins: std::collections::BTreeSet::new(),
    }));
    changes
}
