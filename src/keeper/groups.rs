//! The control group of an instance, below which each of its processes gets one.
//!
//! It is `procstar-NAME` below the group that the user has configured, and locked while a keeper
//! uses it. The next start of any instance removes those of killed ones, once they have no members.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cgroup::Group;

/// The prefix of the names.
const PREFIX: &str = "procstar-";

/// Why an instance has no control group.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot create a control group below {parent}: {error}; set run.cgroup_parent to a directory of cgroup v2 that this user can write, or remove the setting"
)]
pub struct GroupError {
    parent: PathBuf,
    error: io::Error,
}

/// Opens or creates the group of the instance with these directories of captures.
///
/// # Errors
/// It cannot be created, or the configured directory is no group of version 2.
pub(super) fn open(parent: &Path, captures: &Path) -> Result<Arc<Group>, GroupError> {
    let failed = |error| GroupError { parent: parent.to_path_buf(), error };
    let above = Group::open(parent).map_err(failed)?;
    above.controllers().map_err(failed)?;
    sweep(&above);
    let name = name(captures);
    let group = match above.create(&name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => above.child(&name),
        done => done,
    };
    let group = group.map_err(failed)?;
    if !group.lock() {
        tracing::debug!(group = %group.path().display(), "an earlier keeper still has its control group");
    }
    Ok(Arc::new(group))
}

/// Removes the group of an instance at its ordered end. One with survivors stays until a later
/// start.
pub(super) fn remove(parent: &Path, captures: &Path) {
    if let Ok(above) = Group::open(parent)
        && let Err(error) = above.remove_all(&name(captures))
    {
        tracing::info!(parent = %parent.display(), %error, "leaving the control group of this instance");
    }
}

/// Removes the groups of killed instances that have no members.
fn sweep(above: &Group) {
    let names = above.names().unwrap_or_default();
    for name in names.iter().filter(|name| name.starts_with(PREFIX)) {
        if above.child(name).is_ok_and(|group| group.lock()) {
            let _ = above.remove_all(name);
        }
    }
}

/// The name of the group. Every keeper of an instance finds the same one.
fn name(captures: &Path) -> String {
    let bytes = captures.as_os_str().as_encoded_bytes();
    // FNV-1a: the path itself may be too long for a name.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{PREFIX}{hash:016x}")
}
