use std::sync::Arc;

use protocol::Kept;
use protocol::effect::{BundleIndex, Head, Known, Recent};
use protocol::id::MachineId;
use protocol::input::{Earlier, Recall, Recalled};
use protocol::mail::{Holder, Slot};
use protocol::receipt::Receipt;
use redb::backends::InMemoryBackend;

use super::super::{CommitError, Content, InboxLetter, InboxQuery, Reader, State};
use super::*;

/// Commits each batch over a file and over memory, opens both again, and has `check` look at what comes back.
pub(super) fn check(batches: &[Batch], check: impl Fn(Kept, Reader)) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let memory = Arc::new(InMemoryBackend::new());
    let open = |file: bool| {
        let backend: Arc<dyn redb::StorageBackend> = memory.clone();
        if file { Store::open(dir.path()) } else { Store::over(backend) }.expect("the store opens")
    };
    for file in [true, false] {
        let (store, kept) = open(file);
        assert_eq!(kept, Kept { next_letter: 1, next_n: 1, next_order: 1, ..Kept::default() });
        batches.iter().for_each(|batch| assert!(!commit(&store, batch.clone()).recovered));
        let id = store.database_id();
        drop(store);
        let (store, kept) = open(file);
        assert_eq!(store.database_id(), id);
        check(kept, store.reader());
    }
}

#[test]
fn own_facts_and_peers_come_back_as_last_said() {
    let known = |seed: u8, sequence| {
        let secrets = protocol::bundle::Secrets::from_seeds(&[seed; 32], &[seed; 32]);
        let contact = protocol::contact::Contact {
            id: secrets.id(),
            name: "bea".parse().expect("a name"),
            machine: protocol::id::MachineId::new([seed; 16]),
            suite: 1,
            encryption_key: secrets.encryption_key().into(),
            key: secrets.key_id(),
            addresses: Vec::new(),
            sequence,
        };
        Known { contact: Signed::unchecked(&contact), first_seen: Timestamp(1), last_seen: Timestamp(sequence), beacon: None }
    };
    let first = batch([Change::Me(Me { boot: 2, ..me() }), Change::Known(known(2, 1).into()), Change::Known(known(4, 1).into())]);
    check(&[first, batch([Change::Known(known(2, 2).into()), Change::Me(me())])], |kept, _| {
        assert_eq!(kept.me, Some(me()));
        assert_eq!(kept.known.len(), 2);
        assert!(kept.known.contains(&known(2, 2)) && kept.known.contains(&known(4, 1)));
    });
}

#[test]
fn a_letter_comes_back_with_what_became_of_each_copy() {
    let mut all = letter(4, "to three");
    all.in_reply_to = Some(id(1));
    all.to.extend([Copy { name: "carl".parse().expect("a name"), place: None }]);
    let stream = OutStream { delivered: Ranges::of(1, 3), read: Ranges::of(1, 1), receipt: Some((Epoch(8), 5)), ..out_stream(5) };
    let batches = [
        batch((1..=3).map(|k| Change::Letter(letter(k, "hi").into()))),
        batch([Change::Letter(all.clone().into()), Change::Waiting { k: 4, waits: true }, Change::Waiting { k: 2, waits: true }]),
        batch([
            Change::Waiting { k: 2, waits: false },
            Change::OutStream(stream.clone()),
            Change::Delivered { stream: 1, first: 1, last: 2, at: Timestamp(50) },
            Change::ReadBy { stream: 1, first: 1, last: 1, at: Timestamp(60) },
        ]),
    ];
    check(&batches, |kept, reader| {
        assert_eq!((kept.next_letter, &kept.waiting, &kept.out_streams), (5, &vec![all.clone()], &vec![stream.clone()]));
        let views = reader.sent(0, 10, false).expect("letters");
        assert_eq!(views.iter().map(|view| view.letter.clone()).take(3).collect::<Vec<_>>(), [1, 2, 3].map(|k| letter(k, "hi")));
        let states = |k: usize| views[k - 1].deliveries.iter().map(|to| (to.state, to.at.map(|at| at.0))).collect::<Vec<_>>();
        assert_eq!(states(1), [(State::Read, Some(60))]);
        assert_eq!(states(2), [(State::Delivered, Some(50))]);
        assert_eq!(states(3), [(State::Delivered, None)], "delivered by the stream, at a time not noted");
        assert_eq!(states(4), [(State::Accepted, Some(1_004)), (State::Accepted, Some(1_004))]);
        assert_eq!(views[3].letter, all);
        let ks = |views: Vec<super::super::SentView>| views.into_iter().map(|view| view.letter.k).collect::<Vec<_>>();
        assert_eq!(ks(reader.sent(1, 2, false).expect("letters")), [2, 3]);
        assert_eq!(ks(reader.sent(1, 2, true).expect("letters")), [3, 4]);
        assert_eq!(ks(reader.sent_by_id(&id(3).to_string()[..4].to_uppercase()).expect("letters")), [3]);
        assert_eq!(reader.sent_k(4).expect("a letter"), Some(views[3].clone()));
        assert_eq!(reader.sent_k(5).expect("no letter"), None);
        assert_eq!(reader.delivered_ids(peer(2), Epoch(7), 2, 9, 2).expect("ids"), [id(2), id(3)]);
        assert_eq!(reader.delivered_ids(peer(2), Epoch(8), 2, 9, 2).expect("ids"), []);
    });
}

#[test]
fn bundles_come_back_until_they_are_dropped() {
    let (kept_one, dropped) = (bundle(3, 2, 500), bundle(1, 2, 100));
    let changes = [Change::Bundle(kept_one.clone().into()), Change::Bundle(dropped.into())];
    check(&[batch(changes), batch([Change::DropBundle { stream: 1, first: 1 }])], |kept, reader| {
        let index =
            BundleIndex { stream: 1, first: 3, ids: kept_one.ids.clone(), id: kept_one.bundle.id(), size: 590, holders: Vec::new() };
        assert_eq!(kept.bundles, [index]);
        assert_eq!(reader.bundle(1, 3).expect("a bundle"), Some(kept_one.bundle.clone()));
        assert_eq!(reader.bundle(1, 1).expect("no bundle"), None);
        assert_eq!(reader.bundles(&[(1, 1), (1, 3), (2, 3)]).expect("bundles"), std::slice::from_ref(&kept_one.bundle));
    });
}

#[test]
fn holders_come_back_with_their_bundle_and_go_with_it() {
    let holder = |seed: u8| Holder { peer: peer(seed), machine: MachineId::new([seed; 16]), epoch: Epoch(3), at: Timestamp(seed.into()) };
    let holders = |first, seeds: &[u8]| Change::Holders { stream: 1, first, holders: seeds.iter().copied().map(holder).collect() };
    let letters = (1..=8).map(|k| Change::Letter(letter(k, "hi").into()));
    let bundles = [1, 3, 5, 7].map(|first| Change::Bundle(bundle(first, 2, 10).into()));
    let batches = [
        batch(letters.chain(bundles)),
        batch([holders(1, &[5]), holders(3, &[5]), holders(5, &[5]), holders(7, &[6])]),
        batch([holders(1, &[5, 6]), holders(5, &[]), Change::DropBundle { stream: 1, first: 7 }]),
        // Nothing of a dropped bundle stays for the next one under its number.
        batch([Change::Bundle(bundle(7, 1, 10).into())]),
    ];
    check(&batches, |kept, reader| {
        let found: Vec<(u64, Vec<Holder>)> = kept.bundles.iter().map(|index| (index.first, index.holders.clone())).collect();
        assert_eq!(found, [(1, vec![holder(5), holder(6)]), (3, vec![holder(5)]), (5, vec![]), (7, vec![])]);
        let views = reader.sent(0, 10, false).expect("letters");
        let counts: Vec<usize> = views.iter().map(|view| view.deliveries[0].holders.len()).collect();
        assert_eq!(counts, [2, 2, 1, 1, 0, 0, 0, 0]);
    });
}

#[test]
fn mail_held_for_others_comes_back_until_it_is_let_go() {
    let (one, two, three) = (held(1, 40), held(2, 500), held(7, 60));
    let changes = [&one, &two, &three].map(|bundle| Change::Hold(Box::new(bundle.clone())));
    check(&[batch(changes), batch([Change::Unhold { no: 2 }, Change::Unhold { no: 99 }])], |kept, reader| {
        assert_eq!(kept.held, [one.index, three.index]);
        let parcels = reader.held(&[7, 2, 1, 99]).expect("parcels");
        assert_eq!(parcels, [three.parcel.clone(), one.parcel.clone()]);
    });
}

#[test]
fn receipts_kept_for_others_come_back_one_for_each_slot() {
    let receipt = |author: u8, epoch: u64, number: u64| {
        let value = Receipt {
            recipient: peer(9),
            recipient_epoch: Epoch(4),
            number,
            author: peer(author),
            epoch: Epoch(epoch),
            floor: 1,
            taken: Ranges::of(1, number),
            digest: protocol::receipt::Sum::default(),
            read: Ranges::default(),
        };
        (Slot::of(&value), Signed::unchecked(&value))
    };
    let keep = |(slot, receipt): (Slot, Signed<Receipt>)| Change::KeepReceipt { slot, receipt };
    let batches = [
        batch([keep(receipt(1, 7, 1)), keep(receipt(1, 8, 1)), keep(receipt(2, 7, 1))]),
        batch([keep(receipt(1, 7, 5)), Change::DropReceipt { slot: receipt(2, 7, 1).0 }]),
    ];
    check(&batches, |kept, _| assert_eq!(kept.receipts, [receipt(1, 7, 5).1, receipt(1, 8, 1).1]));
}

#[test]
fn what_was_written_is_recalled_by_number() {
    let other = |k: u64| {
        let place = Some(CopyPlace { peer: peer(3), stream: 2, seq: k });
        SentLetter { to: vec![Copy { name: "carl".parse().expect("a name"), place }], ..letter(10 + k, "hi") }
    };
    let letters = (1..=6).map(|k| letter(k, "hi")).chain([1, 2].map(other)).map(|letter| Change::Letter(letter.into()));
    check(&[batch(letters)], |_, reader| {
        let mut numbers = Ranges::of(2, 3);
        numbers.insert_range(6, 900);
        let recalled = reader.recall(&Recall::Written { stream: 1, numbers, token: 4 }).expect("an answer");
        assert_eq!(recalled, Recalled::Written { token: 4, found: vec![(2, id(2)), (3, id(3)), (6, id(6))] });
    });
}

#[test]
fn a_key_is_remembered_with_its_letter() {
    let change = Change::Key { key: "a".to_owned(), letter: id(1), k: 1, digest: [5; 32] };
    check(&[batch([change])], |_, reader| {
        let recall = |key: &str| reader.recall(&Recall::Key { key: key.to_owned() }).expect("an answer");
        assert_eq!(recall("a"), Recalled::Key { key: "a".to_owned(), found: Some(Earlier { letter: id(1), k: 1, digest: [5; 32] }) });
        assert_eq!(recall("b"), Recalled::Key { key: "b".to_owned(), found: None });
    });
}

#[test]
fn letters_are_recalled_by_number_with_their_twins() {
    let twin = Taken { twin: 1, envelope: Envelope { id: id(77), ..taken(1, 2, "").envelope }, ..taken(1, 2, "") };
    let changes = (1..=4).map(|seq| Change::Taken(taken(1, seq, "hi").into())).chain([Change::Taken(twin.into())]);
    check(&[batch(changes)], |_, reader| {
        let mut numbers = Ranges::of(2, 2);
        numbers.insert_range(4, 90);
        let found = vec![(2, id(1_002)), (2, id(77)), (4, id(1_004))];
        let recalled = reader.recall(&Recall::Letters { stream: 1, numbers, token: 8 }).expect("an answer");
        assert_eq!(recalled, Recalled::Letters { token: 8, found });
    });
}

#[test]
fn only_letters_still_of_interest_come_back_at_the_start() {
    let recent = |stream, seq, unshown| Recent { stream, seq, letter: id(1_000 * u64::from(stream) + seq), unshown };
    let mut first: Vec<Change> = (1..=5).map(|seq| Change::Taken(taken(1, seq, "hi").into())).collect();
    first.extend([shown(1, 1, 1), shown(1, 3, 2), shown(1, 4, 3), Change::Taken(taken(2, 1, "hi").into())]);
    let streams = [in_stream(1, 3, 4), in_stream(2, 4, 2)];
    let later = [Change::InStream(streams[0].clone()), Change::InStream(streams[1].clone())];
    check(&[batch(first), batch(later)], |kept, _| {
        assert_eq!(kept.in_streams, streams);
        // Of stream 1 all from 4 on, and 2 because it has no place yet; 1 and 3 are history. Of stream 2 the unshown one.
        assert_eq!(kept.recent, [recent(1, 2, true), recent(1, 4, false), recent(1, 5, true), recent(2, 1, true)]);
        assert_eq!(kept.next_n, 4);
    });
}

#[test]
fn the_inbox_is_listed_as_asked() {
    let mut first = vec![Change::InStream(in_stream(1, 3, 9)), Change::InStream(in_stream(2, 4, 9))];
    first.extend((1..=3).map(|seq| Change::Taken(taken(1, seq, "one").into())));
    first.extend((1..=2).map(|seq| Change::Taken(taken(2, seq, "two").into())));
    first.extend([shown(1, 1, 1), shown(2, 1, 2), shown(1, 2, 3)]);
    // The last two get their places in a later batch.
    let later = [shown(2, 2, 4), shown(1, 3, 5), Change::Read { n: 1, at: Timestamp(0) }, Change::Read { n: 4, at: Timestamp(70) }];
    check(&[batch(first), batch(later), batch([Change::Read { n: 99, at: Timestamp(1) }])], |kept, reader| {
        assert_eq!(kept.recent, []);
        let query = InboxQuery::default();
        let ns = |query: InboxQuery| reader.inbox(&query).expect("letters").iter().map(|letter| letter.n).collect::<Vec<_>>();
        assert_eq!(ns(query.clone()), [1, 2, 3, 4, 5]);
        assert_eq!(ns(InboxQuery { after: 1, before: Some(5), limit: 2, ..query.clone() }), [2, 3]);
        assert_eq!(ns(InboxQuery { after: 1, before: Some(5), limit: 2, newest: true, ..query.clone() }), [3, 4]);
        assert_eq!(ns(InboxQuery { unread: true, ..query.clone() }), [2, 3, 5]);
        assert_eq!(ns(InboxQuery { unread: true, newest: true, limit: 2, ..query.clone() }), [3, 5]);
        assert_eq!(ns(InboxQuery { unread: true, from: Some(peer(3)), limit: 1, newest: true, ..query.clone() }), [5]);
        assert_eq!(ns(InboxQuery { from: Some(peer(4)), ..query.clone() }), [2, 4]);
        assert_eq!(ns(InboxQuery { from: Some(peer(9)), ..query.clone() }), [0u64; 0]);
        assert_eq!(ns(InboxQuery { limit: 0, ..query.clone() }), [0u64; 0]);
        assert_eq!(ns(InboxQuery { after: u64::MAX, before: Some(0), ..query.clone() }), [0u64; 0]);
        let letter = reader.inbox_n(4).expect("a letter").expect("it is there");
        assert_eq!(
            (letter.read, letter.received, letter.place),
            (Some(Timestamp(70)), Timestamp(6), Place { stream: 2, seq: 2, twin: 0, n: 4 })
        );
        assert_eq!(letter.content, Content::Letter(taken(2, 2, "two").envelope));
        assert!(reader.inbox_n(1).expect("a letter").expect("it is there").read.is_some(), "also by a clock that says 1970");
        assert_eq!(reader.inbox_n(6).expect("no letter"), None);
        let by_id = |prefix: &str| reader.inbox_by_id(prefix).expect("letters").iter().map(|letter| letter.n).collect::<Vec<_>>();
        let shown = id(1_003).to_string();
        assert_eq!((by_id(&shown), by_id(&shown[..5].to_uppercase())), (vec![5], vec![5]));
        assert_eq!((by_id(""), by_id("u"), by_id("é"), by_id(&"0".repeat(27))), (vec![], vec![], vec![], vec![]));
        let counts = reader.counts().expect("counts");
        assert_eq!((counts.inbox, counts.unread, counts.sent), (5, 3, 0));
        assert!(counts.database_bytes > 0 && counts.room.is_none_or(|room| room.total > 0));
    });
}

#[test]
fn every_kind_of_payload_comes_back() {
    let dict = [("a".to_owned(), protocol::codec::decode(&[0x81, 0x01]).expect("a list"))];
    let payloads = [Payload::Number(7), Payload::Nothing, Payload::List(Vec::new()), Payload::Dict(dict.into_iter().collect())];
    let letters: Vec<Taken> = (1..)
        .zip(payloads)
        .map(|(seq, payload)| Taken {
            envelope: Envelope { payload, seq: None, in_reply_to: None, ..taken(1, seq, "").envelope },
            ..taken(1, seq, "")
        })
        .collect();
    let changes = letters.iter().flat_map(|letter| [Change::Taken(letter.clone().into()), shown(1, letter.seq, letter.seq)]);
    check(&[batch(changes)], |_, reader| {
        let found = reader.inbox(&InboxQuery::default()).expect("letters");
        assert!(found.iter().filter_map(InboxLetter::envelope).eq(letters.iter().map(|letter| &letter.envelope)));
    });
}

#[test]
fn the_record_is_read_by_sequence_across_segments_and_chains() {
    let ((one, _), (two, _), (three, last)) = (segment(50, 1, 1, 2), segment(50, 2, 3, 3), segment(20, 1, 6, 1));
    check(&[Batch { changes: vec![one, two] }, Batch { changes: vec![three] }], |kept, reader| {
        assert_eq!(kept.head, Some(Head { chain: 20, number: 1, hash: protocol::segment::hash(&last), next_entry: 7 }));
        let read = |after, limit| {
            reader.entries(after, limit).expect("entries").into_iter().map(|(seq, chain, _)| (seq, chain)).collect::<Vec<_>>()
        };
        assert_eq!(read(0, 10), [(1, 50), (2, 50), (3, 50), (4, 50), (5, 50), (6, 20)]);
        assert_eq!(read(3, 2), [(4, 50), (5, 50)]);
        assert_eq!(read(5, 10), [(6, 20)]);
        assert_eq!((read(6, 10), read(0, 0)), (vec![], vec![]));
    });
}

#[test]
fn a_batch_is_kept_as_a_whole_or_not_at_all() {
    let (store, _) = Store::memory();
    let unsigned = Change::Segment { chain: 1, number: 1, first: 1, entries: 0, body: Vec::new() };
    let refused = runtime().block_on(store.commit(batch([Change::Me(me()), unsigned])));
    assert!(matches!(refused, Err(CommitError::Unsigned)));
    let nowhere = runtime().block_on(store.commit(batch([Change::Taken(taken(1, 1, "hi").into()), shown(1, 1, 1), shown(1, 2, 2)])));
    assert!(matches!(nowhere, Err(CommitError::Damaged(_))), "{nowhere:?}");
    assert_eq!(store.reader().counts().expect("counts").inbox, 0);
    assert_eq!(commit(&store, Batch::default()), Committed { recovered: false, room: None });
}
