use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::open::{DATABASE, SENTINEL};
use super::super::{Directory, DirectoryError};
use super::*;

/// A place for a directory, and the directory after its first whole start.
fn started() -> (tempfile::TempDir, PathBuf, PeerId) {
    let base = tempfile::tempdir().expect("a temporary directory");
    let path = base.path().join("swarm/ann");
    let directory = Directory::open(&path, false).expect("it is new");
    assert!(directory.is_new());
    let (store, _) = Store::open(&path).expect("the store opens");
    commit(&store, batch([Change::Me(me())]));
    let id = directory.secrets().id();
    (base, path, id)
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o777
}

#[test]
fn a_directory_keeps_its_key_and_is_closed_to_others() {
    let (_base, path, id) = started();
    assert_eq!(mode(&path), 0o700);
    for file in fs::read_dir(&path).expect("a directory") {
        let file = file.expect("a file").path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let directory = Directory::open(&path, false).expect("it opens again");
    assert_eq!((directory.secrets().id(), directory.is_new(), directory.path()), (id, false, path.as_path()));
}

#[test]
fn what_others_could_read_is_refused_with_the_command_that_helps() {
    let (_base, path, _) = started();
    let refused = |what: &str| {
        let error = Directory::open(&path, false).expect_err("too wide").to_string();
        assert!(error.contains(what), "{error}");
    };
    fs::set_permissions(&path, Permissions::from_mode(0o750)).expect("changed");
    refused(&format!("chmod 700 {}", path.display()));
    fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("changed");
    fs::set_permissions(path.join("key"), Permissions::from_mode(0o644)).expect("changed");
    refused(&format!("chmod 600 {}", path.join("key").display()));
    fs::set_permissions(path.join("key"), Permissions::from_mode(0o400)).expect("changed");
    assert!(Directory::open(&path, false).is_ok(), "narrower is well");
}

#[test]
fn a_lock_that_a_dying_node_still_holds_is_waited_for() {
    let (_base, path, _) = started();
    let dying = Directory::open(&path, false).expect("it opens");
    let (began, begun) = std::sync::mpsc::channel();
    let opening = std::thread::spawn(move || {
        began.send(()).expect("the test waits for it");
        Directory::open(&path, false).map(drop)
    });
    begun.recv().expect("it begins");
    drop(dying);
    assert!(opening.join().expect("it does not panic").is_ok());
}

#[test]
fn one_process_has_a_directory() {
    let (_base, path, _) = started();
    let first = Directory::open(&path, false).expect("it opens");
    let me = std::process::id();
    match Directory::open(&path, false) {
        Err(error @ DirectoryError::Locked { pid, .. }) => {
            assert_eq!(pid, Some(me));
            assert!(error.to_string().contains(&format!("process {me}")), "{error}");
        }
        other => panic!("{other:?}"),
    }
    drop(first);
    assert!(Directory::open(&path, false).is_ok());
}

#[test]
fn a_key_that_is_not_one_is_refused() {
    let (_base, path, id) = started();
    let key = path.join("key");
    let whole = fs::read_to_string(&key).expect("a key");
    let broken = [
        String::new(),
        whole.replace("key 1", "key 2"),
        whole.replace("signing", "singing"),
        whole[..whole.len() - 2].to_owned(),
        whole.replace("encryption ", "encryption é"),
        format!("{whole}more\n"),
    ];
    for text in broken {
        fs::write(&key, &text).expect("written");
        let error = Directory::open(&path, false).expect_err("no key");
        assert!(matches!(error, DirectoryError::Key { .. }), "{error}");
    }
    fs::write(&key, whole).expect("written");
    assert_eq!(Directory::open(&path, false).expect("it opens").secrets().id(), id);
}

#[test]
fn a_key_without_database_and_a_database_without_key_are_refused_until_told_to_start_over() {
    for (lost, keeps_key) in [(vec![DATABASE, SENTINEL], true), (vec!["key"], false), (vec![], true)] {
        let (_base, path, id) = started();
        for file in &lost {
            fs::remove_file(path.join(file)).expect("removed");
        }
        if !lost.is_empty() {
            let error = Directory::open(&path, false).expect_err("half of it is lost").to_string();
            assert!(error.contains("from a copy") && error.contains("run --start-over"), "{error}");
        }
        let directory = Directory::open(&path, true).expect("it starts over");
        assert!(directory.is_new());
        assert_eq!(directory.secrets().id() == id, keeps_key);
        let (_, kept) = Store::open(&path).expect("a new database");
        assert_eq!(kept.me, None);
        let aside = |name: &str| {
            fs::read_dir(&path).expect("a directory").any(|file| file.expect("a file").file_name().to_string_lossy().starts_with(name))
        };
        assert_eq!(aside("swarm.redb.old-"), !lost.contains(&DATABASE), "nothing is deleted");
        assert_eq!(aside("swarm.created.old-"), !lost.contains(&SENTINEL));
    }
}

#[test]
fn a_first_start_that_was_cut_off_keeps_its_key() {
    let base = tempfile::tempdir().expect("a temporary directory");
    let path = base.path().join("ann");
    let id = Directory::open(&path, false).expect("it is new").secrets().id();
    let again = Directory::open(&path, false).expect("no database was made yet");
    assert!(again.is_new());
    assert_eq!(again.secrets().id(), id);
}

#[test]
fn a_directory_belongs_to_one_swarm() {
    let (_base, path, _) = started();
    let directory = Directory::open(&path, false).expect("it opens");
    directory.remember_swarm("lan").expect("the first");
    directory.remember_swarm("lan").expect("the same");
    let error = directory.remember_swarm("other").expect_err("another").to_string();
    assert!(error.contains("\"lan\"") && error.contains("--swarm lan"), "{error}");
}
