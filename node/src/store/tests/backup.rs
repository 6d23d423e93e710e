use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::backup::{BackupError, Origin, Parser};
use super::super::restore::{RestoreError, inspect, restore};
use super::super::{Directory, DirectoryError, Reader};
use super::*;

/// A directory of a node with some of everything.
fn node(dir: &Path) -> (Directory, Store) {
    let directory = Directory::open(dir, false).expect("it is new");
    directory.remember_swarm("lan").expect("the first");
    let (store, _) = Store::open(dir).expect("the store opens");
    let changes = (1..=300).flat_map(|k| {
        let taken = Change::Taken(taken(1, k, "to me").into());
        [Change::Letter(letter(k, "hi").into()), Change::Bundle(bundle(k, 1, 700).into()), taken, shown(1, k, k)]
    });
    let rest = [
        Change::Me(me()),
        Change::OutStream(out_stream(301)),
        Change::InStream(in_stream(1, 3, 200)),
        Change::Hold(held(1, 100).into()),
        Change::Key { key: "é".to_owned(), letter: id(1), k: 1, digest: [5; 32] },
        Change::Blocked { peer: peer(9), on: true },
        Change::Drain(true),
    ];
    commit(&store, batch(changes.chain(rest)));
    commit(&store, Batch { changes: vec![segment(50, 1, 1, 4).0] });
    (directory, store)
}

fn origin(directory: &Directory) -> Origin {
    Origin { program: "9.9".to_owned(), peer: directory.secrets().id(), swarm: "lan".to_owned(), open: true, made: Timestamp(7) }
}

fn back_up(reader: &Reader, origin: &Origin) -> Vec<u8> {
    let mut all = Vec::new();
    let took = reader.back_up(origin, &mut |piece| {
        assert!(piece.len() < 128 * 1024, "it comes in pieces");
        all.extend(piece);
        true
    });
    took.expect("it can be read");
    all
}

fn quiet(_: u64) {}

#[test]
fn a_backup_taken_while_the_node_runs_becomes_the_same_memory_elsewhere() {
    let base = tempfile::tempdir().expect("a temporary directory");
    let dir = base.path().join("ann");
    let (directory, store) = node(&dir);
    fs::write(dir.join("node.toml"), "no_mdns = true\n").expect("the directory is ours");
    let bytes = back_up(&store.reader(), &origin(&directory));
    // What comes later is not in it.
    commit(&store, batch([Change::Letter(letter(301, "later").into())]));
    let file = base.path().join("backup");
    fs::write(&file, &bytes).expect("written");
    let header = inspect(&file, &mut quiet).expect("it is whole");
    assert_eq!((header.peer, header.name.as_str(), header.made), (directory.secrets().id(), "ann", Timestamp(7)));

    let elsewhere = base.path().join("elsewhere/ann");
    let mut read = 0;
    assert_eq!(restore(&file, &elsewhere, &mut |bytes| read = bytes).expect("it is put back"), header);
    assert_eq!(read, bytes.len() as u64);
    for entry in fs::read_dir(&elsewhere).expect("it is there") {
        let file = entry.expect("a file");
        assert_eq!(file.metadata().expect("it is there").permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
    assert_eq!(fs::read_to_string(elsewhere.join("node.toml")).expect("it is there"), "no_mdns = true\n");
    let second = Directory::open(&elsewhere, false).expect("a node's directory");
    assert_eq!((second.secrets().id(), second.swarm().expect("a swarm").as_deref()), (directory.secrets().id(), Some("lan")));
    let (restored, kept) = Store::open(&elsewhere).expect("a whole database");
    assert_ne!(restored.database_id(), store.database_id());
    assert_eq!(kept.me, Some(Me { restored: true, ..me() }));
    assert_eq!((kept.next_letter, kept.next_n, kept.bundles.len(), kept.held.len()), (301, 301, 300, 1));
    assert!(kept.draining && kept.blocked.contains(&peer(9)));
    // All rows of all tables: but for its id and for what tells that it was put back, a backup of it is the same.
    commit(&restored, batch([Change::Me(me())]));
    let again = back_up(&restored.reader(), &origin(&directory));
    let differ = bytes.iter().zip(&again).filter(|(a, b)| a != b).count();
    assert!(bytes.len() == again.len() && differ <= 16 + 32, "{differ} bytes differ");
}

#[test]
fn a_backup_that_is_cut_off_or_changed_anywhere_is_refused_and_leaves_nothing() {
    let base = tempfile::tempdir().expect("a temporary directory");
    let dir = base.path().join("ann");
    let directory = Directory::open(&dir, false).expect("it is new");
    directory.remember_swarm("lan").expect("the first");
    let (store, _) = Store::open(&dir).expect("the store opens");
    commit(&store, batch([Change::Me(me()), Change::Letter(letter(1, "hi").into())]));
    let whole = back_up(&store.reader(), &origin(&directory));
    let (file, elsewhere) = (base.path().join("backup"), base.path().join("elsewhere"));
    let refused = |bytes: &[u8]| {
        let mut parser = Parser::default();
        let said = bytes.chunks(100).try_for_each(|piece| parser.check(piece)).and_then(|()| parser.end().map(drop));
        said.expect_err("it is not whole").to_string()
    };
    for end in 0..whole.len() {
        refused(&whole[..end]);
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        refused(&bytes);
        if at % 16 == 0 {
            fs::write(&file, &bytes).expect("written");
            let error = restore(&file, &elsewhere, &mut quiet).expect_err("it is changed");
            assert!(matches!(error, RestoreError::Bad { .. }), "{error}");
            assert!(!elsewhere.exists(), "{error}");
        }
    }
    refused(&[&whole[..], b"more"].concat());
    assert_eq!(refused(b"something else"), "it is not a backup of a node");
    assert_eq!(refused(b""), "it is not a backup of a node");
    let later = [b"swarm backup 2\n", &whole[15..]].concat();
    assert_eq!(refused(&later), "it was made by a later version of this program: use that one");
}

#[test]
fn nothing_is_put_where_something_is_and_a_restore_that_was_cut_off_is_no_node() {
    let base = tempfile::tempdir().expect("a temporary directory");
    let dir = base.path().join("ann");
    let (directory, store) = node(&dir);
    let file = base.path().join("backup");
    fs::write(&file, back_up(&store.reader(), &origin(&directory))).expect("written");
    let other = base.path().join("other");
    fs::create_dir(&other).expect("it is ours");
    fs::write(other.join("mine"), "x").expect("written");
    let error = restore(&file, &other, &mut quiet).expect_err("it is not empty");
    assert!(matches!(&error, RestoreError::NotEmpty { found, .. } if found == "mine"), "{error}");
    assert_eq!(fs::read_dir(&other).expect("it is there").count(), 1);
    let open = base.path().join("open");
    fs::create_dir(&open).expect("it is ours");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("changed");
    let error = restore(&file, &open, &mut quiet).expect_err("others may read it").to_string();
    assert!(error.contains("chmod 700"), "{error}");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o700)).expect("changed");
    restore(&file, &open, &mut quiet).expect("an empty one");
    fs::write(open.join("restoring"), "").expect("written");
    let error = Directory::open(&open, false).expect_err("it was cut off");
    assert!(matches!(error, DirectoryError::HalfRestored { .. }), "{error}");
}

#[test]
fn a_backup_that_nobody_takes_ends() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("changed");
    let (directory, store) = node(dir.path());
    let mut taken = 0;
    let error = store.reader().back_up(&origin(&directory), &mut |_| {
        taken += 1;
        taken < 3
    });
    assert!(matches!(error, Err(BackupError::Gone)) && taken == 3, "{error:?}");
}
