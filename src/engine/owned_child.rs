//! A child of ours that is not yet reaped.

use std::os::fd::OwnedFd;

/// A child of ours that is not yet reaped: the number is its own, and the descriptor refers to it.
pub(super) struct OwnedChild {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
}
