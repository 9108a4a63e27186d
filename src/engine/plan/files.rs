//! The restriction of a process's files to the configured directories.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicI32, Ordering};

use super::cwd;
use super::fd_action::FdAction;
use crate::engine::restriction::Restriction;
use crate::spec::{ValidatedFd, ValidatedProc};

/// The file that every process may open.
const NULL: &str = "/dev/null";

/// The reasons why files of a process are refused, by the index of their fds; `cwd` is the
/// process's working directory.
pub(super) fn refused(
    proc: &ValidatedProc,
    cwd: Option<&str>,
    restriction: Option<&Restriction>,
) -> Vec<(usize, String)> {
    let Some(restriction) = restriction else { return Vec::new() };
    let reason = |fd: &ValidatedFd| match fd {
        ValidatedFd::Open { path, .. } if path != NULL => {
            let path = cwd::below(cwd, path);
            restriction.below(&path).is_none().then(|| restriction.refusal(&path))
        }
        ValidatedFd::Capture(spec) => {
            let path = &spec.file.as_ref()?.path;
            (!restriction.holds(path)).then(|| restriction.refusal(path))
        }
        _ => None,
    };
    let fds = proc.fds.iter().enumerate();
    fds.filter_map(|(index, (_, fd))| Some((index, reason(fd)?))).collect()
}

/// The same action with a file that must be below an allowed directory; a failing action if it is
/// below none.
pub(super) fn confine(
    action: FdAction,
    cwd: Option<&str>,
    restriction: Option<&Restriction>,
    errno: &AtomicI32,
) -> FdAction {
    match (action, restriction) {
        (FdAction::Open { target, path, flags, mode, .. }, Some(restriction))
            if path.as_bytes() != NULL.as_bytes() =>
        {
            let absolute = cwd::below(cwd, &path.to_string_lossy());
            let below = restriction.below(&absolute).and_then(|below| {
                let c_string = |path: &std::path::Path| {
                    std::ffi::CString::new(path.as_os_str().as_bytes()).ok()
                };
                Some((c_string(&below.directory)?, c_string(&below.rest)?))
            });
            match below {
                Some((directory, path)) => {
                    FdAction::Open { target, directory: Some(directory), path, flags, mode }
                }
                None => {
                    errno.store(libc::EPERM, Ordering::Relaxed);
                    FdAction::Failed { target }
                }
            }
        }
        (action, _) => action,
    }
}
