//! The actions of the fd set-up.

use std::ffi::CString;
use std::os::fd::RawFd;

/// One action of the fd set-up, in the order of the spec.
pub(in crate::engine) enum FdAction {
    /// Put source number `source` at `target`.
    Put {
        /// The fd's number in the child.
        target: RawFd,
        /// Index among [`LaunchPlan::sources`](super::LaunchPlan::sources).
        source: usize,
    },
    /// Open a file at `target`.
    Open {
        /// The fd's number in the child.
        target: RawFd,
        /// The directory that must contain the file, and that `path` is relative to; `None` for any
        /// path.
        directory: Option<CString>,
        /// The path.
        path: CString,
        /// Flags of open(2).
        flags: libc::c_int,
        /// Mode of a new file.
        mode: libc::mode_t,
    },
    /// Duplicate the current `from` at `target`.
    Dup {
        /// The fd's number in the child.
        target: RawFd,
        /// The fd to duplicate.
        from: RawFd,
    },
    /// Close `target`.
    Close {
        /// The fd's number in the child.
        target: RawFd,
    },
    /// Keep `target` as the keeper has it.
    Inherit {
        /// The fd's number in the child.
        target: RawFd,
    },
    /// The parent could not make this fd; the error is in the status already.
    Failed {
        /// The fd's number in the child.
        target: RawFd,
    },
}

impl FdAction {
    /// The number in the child of the fd that this action sets up.
    pub(in crate::engine) fn target(&self) -> RawFd {
        match self {
            FdAction::Put { target, .. }
            | FdAction::Open { target, .. }
            | FdAction::Dup { target, .. }
            | FdAction::Close { target }
            | FdAction::Inherit { target }
            | FdAction::Failed { target } => *target,
        }
    }
}
