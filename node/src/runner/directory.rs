//! The directories of tasks: of a node, of one run of it, of each try; and their end.
//! Knows nothing of processes. What a program made in its own directory goes with it, however it guarded it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{IFlags, Mode, OFlags, ioctl_getflags, llistxattr};

const TASKS: &str = "tasks";
const OUTPUT: &str = "output";
/// Changes of a file within this time may bear one time (Linux: a tick of the kernel, 10 ms at most; some file systems are coarser,
/// none of Linux's own).
const TICK: Duration = Duration::from_millis(50);

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

/// What can be set of a directory beside its mode, where its file system knows it.
const SETTABLE: IFlags = IFlags::APPEND
    .union(IFlags::IMMUTABLE)
    .union(IFlags::DIRSYNC)
    .union(IFlags::SYNC)
    .union(IFlags::NOATIME)
    .union(IFlags::NODUMP)
    .union(IFlags::NOCOW)
    .union(IFlags::COMPRESSED)
    .union(IFlags::JOURNALING)
    .union(IFlags::NOTAIL)
    .union(IFlags::TOPDIR)
    .union(IFlags::SECURE_REMOVAL)
    .union(IFlags::UNRM)
    .union(IFlags::PROJECT_INHERIT);

/// When a directory was changed last, by the file system: whatever is made or removed in it, or done to it, changes that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    at: (i64, i64),
    /// A change after it was seen bears another time.
    settled: bool,
}

/// The directory of a try that has ended, if it is as if it were new: nothing is in it, and nobody else may use it. It is read
/// only if it was changed since it was seen `before`.
pub(super) fn as_new(path: &Path, before: Option<Changed>) -> Option<Changed> {
    let data = fs::symlink_metadata(path).ok().filter(|data| data.is_dir() && data.permissions().mode() & 0o7777 == 0o700)?;
    let at = (data.ctime(), data.ctime_nsec());
    if before.is_some_and(|before| before.settled && before.at == at) {
        return before;
    }
    let clean = data.uid() == rustix::process::geteuid().as_raw() && flags(path) == flags(path.parent()?) && has_no_attributes(path);
    let empty = clean && fs::read_dir(path).ok()?.next().is_none();
    let then = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| now.checked_sub(TICK));
    let settled = then.is_some_and(|then| (then.as_secs() as i64, i64::from(then.subsec_nanos())) > at);
    empty.then_some(Changed { at, settled })
}

/// What the file system keeps of a directory beside its mode: that it may not be changed, say. None where it keeps none.
fn flags(path: &Path) -> Option<IFlags> {
    let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, open, Mode::empty()).ok().and_then(|directory| ioctl_getflags(directory).ok()).map(|flags| flags & SETTABLE)
}

/// Whether nobody has put a note on it, nor rules for what is made in it.
fn has_no_attributes(path: &Path) -> bool {
    // Security modules put theirs on everything.
    let ours = |names: &[u8]| names.split(|byte| *byte == 0).all(|name| name.is_empty() || name.starts_with(b"security."));
    let mut names = [0; 4_096];
    match llistxattr(path, &mut names) {
        Ok(length) => names.get(..length).is_some_and(ours),
        // It keeps none, or more than are looked at.
        Err(error) => error == rustix::io::Errno::NOTSUP,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn seen_settled(path: &Path) -> Changed {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let changed = as_new(path, None).expect("it is as new");
            assert!(Instant::now() < until, "no time goes by");
            if changed.settled {
                return changed;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_directory_is_as_new_while_nothing_is_in_it_and_nobody_was_let_in() {
        let base = tempfile::tempdir().expect("a directory");
        let (path, file) = (base.path().join("own"), base.path().join("own/file"));
        of_try(&path).expect("it is made");
        let fresh = as_new(&path, None);
        assert!(fresh.is_some_and(|changed| !changed.settled), "what comes now may bear the same time");
        fs::write(&file, "x").expect("written");
        assert_eq!(as_new(&path, fresh), None);
        fs::remove_file(&file).expect("removed");
        let before = seen_settled(&path);
        assert_eq!(as_new(&path, Some(before)), Some(before));
        fs::write(&file, "x").expect("written");
        assert_eq!(as_new(&path, Some(before)), None);
        fs::remove_file(&file).expect("removed");
        assert!(as_new(&path, Some(before)).is_some_and(|changed| changed != before));
        let before = seen_settled(&path);
        if rustix::fs::lsetxattr(&path, "user.note", b"x", rustix::fs::XattrFlags::empty()).is_ok() {
            assert_eq!(as_new(&path, Some(before)), None, "a note for whoever comes next");
            rustix::fs::lremovexattr(&path, "user.note").expect("it can be removed, too");
        }
        if let Some(flags) = flags(&path) {
            let directory = rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("it is there");
            if rustix::fs::ioctl_setflags(&directory, flags | IFlags::NODUMP).is_ok() {
                assert_eq!(as_new(&path, Some(before)), None);
                rustix::fs::ioctl_setflags(&directory, flags).expect("as it was");
            }
        }
        assert!(as_new(&path, Some(before)).is_some());
        let before = seen_settled(&path);
        fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("changed");
        assert_eq!(as_new(&path, Some(before)), None);
    }
}
