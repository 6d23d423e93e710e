//! Where a node's socket is, and who may speak through it.
//! Knows nothing of what is said. Node and command line compute the path alike; a socket is only ever in a directory of ours.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The longest path that every unix takes (macOS: 104 with the final zero).
const PATH_MAX: usize = 100;

/// Why there is no socket. Nothing was changed unless said.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("a node is already running in this directory: {0}")]
    Running(PathBuf),
    /// Something that is not a socket, or a directory of somebody else, is in the way.
    #[error("{0} is in the way: {1}")]
    InTheWay(PathBuf, &'static str),
    /// The system refused. A stale socket may have been removed.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
}

/// Where the node of this data directory is reached.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    let dir = fs::canonicalize(data_dir).or_else(|_| std::path::absolute(data_dir)).unwrap_or_else(|_| data_dir.to_owned());
    let plain = dir.join("control.sock");
    if plain.as_os_str().len() <= PATH_MAX {
        return plain;
    }
    let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    PathBuf::from(format!("/tmp/swarm-{}", own_uid())).join(format!("{hash}.sock"))
}

/// The user we are.
#[must_use]
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether this user may steer our node: we ourselves, or root.
#[must_use]
pub fn may_steer(uid: u32) -> bool {
    uid == own_uid() || uid == 0
}

/// Listens there, in place of a socket that a dead node left behind.
///
/// # Errors
/// See [`BindError`].
pub fn bind(path: &Path) -> Result<tokio::net::UnixListener, BindError> {
    let failed = |error| BindError::Io(path.to_owned(), error);
    if let Some(dir) = path.parent().filter(|dir| dir.starts_with("/tmp") && dir.ends_with(format!("swarm-{}", own_uid()))) {
        own_directory(dir)?;
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::InTheWay(path.to_owned(), "it is not a socket")),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(BindError::Running(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        },
    }
    let listener = tokio::net::UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Which socket stands there: device and inode.
///
/// # Errors
/// There is nothing, or the system does not say.
pub fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// In `/tmp` anyone could have been there before us.
fn own_directory(dir: &Path) -> Result<(), BindError> {
    let failed = |error| BindError::Io(dir.to_owned(), error);
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    if trusted(dir).map_err(failed)? {
        Ok(())
    } else {
        Err(BindError::InTheWay(dir.to_owned(), "it is not a directory that is ours alone"))
    }
}

fn trusted(dir: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(dir)?;
    Ok(found.is_dir() && found.uid() == own_uid() && found.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_replaced_by_a_short_one_of_our_own() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let short = path(dir.path());
        assert!(short.ends_with("control.sock") && short.is_absolute());
        let long = dir.path().join("x".repeat(90));
        let found = path(&long);
        assert!(found.starts_with(format!("/tmp/swarm-{}", own_uid())), "{found:?}");
        assert_ne!(found, path(&dir.path().join("y".repeat(90))), "two directories never share one");
        assert!(found.as_os_str().len() <= PATH_MAX);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let path = path(dir.path());
        let first = bind(&path).expect("nothing is in the way");
        assert!(matches!(bind(&path), Err(BindError::Running(_))));
        drop(first);
        let again = bind(&path).expect("the first is dead");
        assert_eq!(fs::metadata(&path).expect("it was bound").mode() & 0o777, 0o600);
        drop(again);
        fs::remove_file(&path).expect("it is there");
        fs::write(&path, "").expect("the directory is ours");
        assert!(matches!(bind(&path), Err(BindError::InTheWay(..))));
    }

    #[test]
    fn only_we_and_root_may_steer() {
        assert!(may_steer(own_uid()) && may_steer(0));
        assert!(!may_steer(own_uid().wrapping_add(1)) || own_uid() == u32::MAX);
    }
}
