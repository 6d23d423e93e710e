//! The directories of tasks: of a node, of one run of it, of each try; and their end.
//! Knows nothing of processes. What a program made in its own directory goes with it, however it guarded it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

const TASKS: &str = "tasks";
const OUTPUT: &str = "output";

/// Where all tasks of a node are, and within it where outputs are kept; made if they are not there.
///
/// # Errors
/// They cannot be made.
pub(super) fn of_node(data: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let tasks = data.canonicalize()?.join(TASKS);
    let output = tasks.join(OUTPUT);
    private(&tasks)?;
    private(&output)?;
    Ok((tasks, output))
}

/// A new directory for a run.
///
/// # Errors
/// It cannot be made, or there is no randomness for its name.
pub(super) fn of_run(tasks: &Path) -> io::Result<PathBuf> {
    let mut token = [0; 8];
    getrandom::fill(&mut token).map_err(io::Error::other)?;
    let path = tasks.join(format!("{:016x}", u64::from_be_bytes(token)));
    private(&path)?;
    Ok(path)
}

/// The directories of earlier runs.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn of_earlier_runs(tasks: &Path) -> io::Result<Vec<PathBuf>> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(tasks)? {
        let entry = entry?;
        if entry.file_name() != OUTPUT && entry.file_type()?.is_dir() {
            runs.push(entry.path());
        }
    }
    Ok(runs)
}

fn private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The own directory of a try: that of an earlier one, as new, or one that is made. Making and removing directories costs
/// milliseconds where they are on a disk.
///
/// # Errors
/// It cannot be made.
pub(super) fn of_try(path: &Path) -> io::Result<()> {
    if path.is_dir() { Ok(()) } else { DirBuilder::new().mode(0o700).create(path) }
}

/// Whether the directory of a try that has ended is as if it were new: nothing is in it, and nobody else may use it.
pub(super) fn is_as_new(path: &Path) -> bool {
    let private = fs::symlink_metadata(path).is_ok_and(|data| data.is_dir() && data.permissions().mode() & 0o7777 == 0o700);
    private && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes a directory with all that is in it. What cannot be removed is said, and tried again at the next start.
pub(super) fn remove(path: &Path) {
    let Err(error) = fs::remove_dir_all(path) else { return };
    if error.kind() == io::ErrorKind::NotFound {
        return;
    }
    // Programs guard what they made, also from themselves: package managers make their caches unwritable.
    open_up(path);
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(%error, path = %path.display(), "the directory of a task could not be removed");
    }
}

fn open_up(path: &Path) {
    let mut next = vec![path.to_path_buf()];
    while let Some(directory) = next.pop() {
        // What cannot be changed cannot be removed either, and is said then.
        let _ = fs::set_permissions(&directory, Permissions::from_mode(0o700));
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        // A link is not followed: it is no directory here.
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        next.extend(directories.map(|entry| entry.path()));
    }
}
