//! Small files that must be whole or absent, also after a power cut.
//! Knows nothing of their content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Puts `bytes` in `path`, readable by its owner only: either all of them are there for good, or what was before.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    remove(&fresh)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_parent(path)
}

/// Removes a file for good; it may be gone already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The text in `path`; none if there is no such file. What is not UTF-8 comes back as text that nothing accepts.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Renames `path` to `path.old-<unix seconds>`, or with a further number if that is taken. Nothing is ever overwritten. Returns
/// its new name; none if there was nothing.
pub(crate) fn move_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    if !path.try_exists()? {
        return Ok(None);
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut old = path.with_added_extension(format!("old-{seconds}"));
    for further in 1.. {
        if !old.try_exists()? {
            break;
        }
        old = path.with_added_extension(format!("old-{seconds}-{further}"));
    }
    fs::rename(path, &old)?;
    sync_parent(path)?;
    Ok(Some(old))
}

/// Makes what was created, renamed or removed beside `path` outlive a power cut.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
