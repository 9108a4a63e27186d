//! Removes the directories of crashed instances.
//!
//! A directory is removed only if its lock is free and none of its processes lives, because they
//! may still write. A directory without a lock is being created or removed, or is an empty
//! leftover; an instance that is creating it creates it again.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::journal;
use super::private_dir::InstanceError;
use super::private_dir::{
    GONE, LOCK, is_in, is_ours, is_random_name, lock, make, out_of_the_way, owner_and_mode, remove,
};
use super::registry::running_in;
use crate::engine::sys;
use crate::procfs::{self, ProcFs};

/// The journal's name in the directory of captures.
pub(super) const JOURNAL: &str = "journal";
/// A link to the directory of captures, in the other directories of the instance.
pub(super) const FILES: &str = "files";
/// Where memory captures go, if it is there.
pub(super) const SHARED_MEMORY: &str = "/dev/shm";

/// The name of the user's directory in one that everybody uses.
fn user_name(uid: u32) -> String {
    format!("procstar-{uid}")
}

/// The user's parent directories of instances: the usual one, and those created while another user
/// had its name.
fn bases(location: &Path, uid: u32) -> Vec<PathBuf> {
    let usual = user_name(uid);
    let other = format!("{usual}-");
    let is_base =
        |name: &OsStr| name == usual.as_str() || name.as_bytes().starts_with(other.as_bytes());
    let entries = std::fs::read_dir(location).into_iter().flatten().flatten();
    let mut bases: Vec<PathBuf> = entries
        .filter(|entry| is_base(&entry.file_name()))
        .map(|entry| entry.path())
        .filter(|dir| dir.symlink_metadata().is_ok_and(|meta| is_ours(&meta)))
        .collect();
    bases.sort_unstable();
    bases
}

/// The parent of the instances' directories in `location`; one with another name if another user
/// has taken the usual one.
///
/// # Errors
/// It cannot be created.
pub(super) fn base(location: &Path, uid: u32) -> Result<PathBuf, InstanceError> {
    let wanted = location.join(user_name(uid));
    make(&wanted).map_err(|source| InstanceError::io(&wanted, source))?;
    // Usually it is ours, and a shared directory, which may have many entries, need not be
    // searched.
    let ours = wanted.symlink_metadata().is_ok_and(|meta| is_ours(&meta));
    let found = if ours { Some(wanted.clone()) } else { bases(location, uid).into_iter().next() };
    let dir = match found {
        Some(dir) => dir,
        None => {
            let other = location.join(format!("{}-{:016x}", user_name(uid), fastrand::u64(..)));
            make(&other).map_err(|source| InstanceError::io(&other, source))?;
            other
        }
    };
    if dir == wanted {
        sys::spread_below(&dir);
    } else {
        let found = wanted.symlink_metadata().map(|meta| owner_and_mode(&meta));
        tracing::warn!(
            taken = %wanted.display(),
            found = found.unwrap_or_default(),
            instead = %dir.display(),
            "the usual directory of captures is not this user's alone; remove it, or set capture.dir"
        );
    }
    Ok(dir)
}

/// Sweeps all directories of instances at a location.
pub(super) fn sweep_location(location: &Path, uid: u32) {
    let usual = location.join(user_name(uid));
    for base in bases(location, uid) {
        sweep(&base);
        if base != usual {
            // An instance that needs it creates it again.
            let _ = std::fs::remove_dir(base);
        }
    }
}

/// Sweeps a registry: links to ended instances, and homes of crashed ones. The directory may also
/// hold other files.
pub(super) fn sweep_registry(location: &Path) {
    if !procfs::is_ours() {
        // Without our `/proc`, live processes cannot be recognized.
        return;
    }
    let Ok(entries) = std::fs::read_dir(location) else { return };
    let procfs = ProcFs::default();
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        if name.as_bytes().starts_with(GONE.as_bytes()) || is_home(&path) {
            sweep_entry(&path, &procfs);
        } else if is_random_name(&name)
            && let Ok(target) = std::fs::read_link(&path)
            && running_in(&target).is_none()
        {
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Whether a directory is the home of an instance.
fn is_home(dir: &Path) -> bool {
    dir.join(LOCK).exists() && std::fs::read_link(dir.join(FILES)).is_ok()
}

/// Sweeps the directories of one that has only ours.
fn sweep(base: &Path) {
    if !procfs::is_ours() {
        // Without our `/proc`, live processes cannot be recognized.
        return;
    }
    let Ok(entries) = std::fs::read_dir(base) else { return };
    let procfs = ProcFs::default();
    for entry in entries.flatten() {
        sweep_entry(&entry.path(), &procfs);
    }
}

fn sweep_entry(dir: &Path, procfs: &ProcFs) {
    let is_gone = |name: &OsStr| name.as_bytes().starts_with(GONE.as_bytes());
    if dir.file_name().is_some_and(is_gone) {
        // Its removal is in progress, or was interrupted.
        remove(dir);
    } else {
        sweep_dir(dir, procfs);
    }
}

fn sweep_dir(dir: &Path, procfs: &ProcFs) {
    if !dir.join(LOCK).exists() {
        let _ = std::fs::remove_dir(dir);
        return;
    }
    // The lock is held during the removal. A starting instance does not wait for it, but takes
    // another name.
    let Ok(locked) = lock(dir) else { return };
    if !is_in(&locked, dir) {
        return;
    }
    let files = std::fs::read_link(dir.join(FILES)).ok();
    let captures = files.as_deref().unwrap_or(dir);
    match journal::read(&captures.join(JOURNAL)) {
        Ok(records) if records.iter().any(|record| journal::is_alive(record, procfs)) => return,
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // It may be of a newer version, so its processes may still live.
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "keeping files of a crashed instance: cannot read its journal");
            return;
        }
    }
    tracing::info!(dir = %dir.display(), "removing files of a crashed instance");
    // First the directories that only this one links to.
    match files {
        Some(files) if files != dir => sweep_dir(&files, procfs),
        _ => sweep_memory_of(dir, procfs),
    }
    remove(&out_of_the_way(dir));
}

/// Removes the memory captures of a dead directory of captures.
fn sweep_memory_of(dir: &Path, procfs: &ProcFs) {
    let user = dir.parent().and_then(Path::file_name);
    let Some((user, name)) = user.zip(memory_name(dir)) else { return };
    let memory = Path::new(SHARED_MEMORY).join(user).join(name);
    if memory.join(LOCK).exists() {
        sweep_dir(&memory, procfs);
    } else {
        // Versions before 2.1 made it without a lock.
        remove(&memory);
    }
}

/// The name of an instance's directory for memory captures. It differs for directories of the same
/// name below different parents.
pub(super) fn memory_name(dir: &Path) -> Option<OsString> {
    let meta = dir.symlink_metadata().ok()?;
    let mut name = dir.file_name()?.to_owned();
    name.push(format!("-{:x}-{:x}", meta.dev(), meta.ino()));
    Some(name)
}
