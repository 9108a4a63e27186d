//! The seam at which tests inject failures into the system calls of a start, one by one.
//!
//! Every call of a start that can fail first calls [`injected`], in the parent and in the child:
//! debug builds check there for an injected failure, release builds do nothing. Exceptions are
//! calls that cannot fail with their arguments (close, umask, a signal's disposition), and calls
//! whose failure does not fail a start (close_range, getcwd).

use crate::spec::Attribute;

/// A system call of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Create a capture's file.
    CaptureFile,
    /// Create a pipe.
    Pipe,
    /// Make a pipe's reading end non-blocking.
    Nonblocking,
    /// Watch a pipe by epoll.
    Watch,
    /// Create a file of given data.
    DataFile,
    /// Write the data.
    DataWrite,
    /// Open the data for the child.
    DataOpen,
    /// Open and read a variable's file.
    EnvFile,
    /// Look up a user or a group.
    Account,
    /// Open the executable for a check.
    OpenExe,
    /// Make a clone helper, which is to clone the child.
    CloneHelper,
    /// Clone the child.
    Clone,
    /// In the child: create a session.
    Session,
    /// Set a limit.
    Limit,
    /// Write the OOM score.
    OomWrite,
    /// Remove capabilities from the bounding set.
    Bounding,
    /// Set another attribute; for the OOM score adjustment, open its file.
    Attribute(Attribute),
    /// Move a source.
    MoveSource,
    /// Open a file.
    Open,
    /// Put an fd in its place.
    Place,
    /// Execute the program.
    Exec,
}

#[cfg(debug_assertions)]
pub use armed::{arm, disarm, forget_exit_statuses, injected, refuse_clone_into};

#[cfg(debug_assertions)]
mod armed {
    use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU8, Ordering::SeqCst};

    use super::Call;

    /// Calls before the failing one; negative without a pending failure.
    static LEFT: AtomicI64 = AtomicI64::new(-1);
    static ERRNO: AtomicI32 = AtomicI32::new(0);
    static HIT: AtomicU8 = AtomicU8::new(0);
    static NO_EXIT_STATUS: AtomicBool = AtomicBool::new(false);
    static NO_CLONE_INTO: AtomicBool = AtomicBool::new(false);

    /// Sets whether the kernel appears not to know how to clone a child into a control group.
    pub fn refuse_clone_into(yes: bool) {
        NO_CLONE_INTO.store(yes, SeqCst);
    }

    /// Whether it appears to know it.
    pub(in crate::engine) fn clones_into_groups() -> bool {
        !NO_CLONE_INTO.load(SeqCst)
    }

    /// Sets whether the kernel appears to keep no exit status for pidfds, as before Linux 6.15, and
    /// to hide the status of a zombie, as if it was reaped at once.
    pub fn forget_exit_statuses(yes: bool) {
        NO_EXIT_STATUS.store(yes, SeqCst);
    }

    /// Whether it appears so.
    pub(in crate::engine) fn keeps_exit_statuses() -> bool {
        !NO_EXIT_STATUS.load(SeqCst)
    }

    /// Makes one call fail with `errno`, after `passing` others. For tests that run one process at
    /// a time.
    pub fn arm(passing: u32, errno: i32) {
        HIT.store(0, SeqCst);
        ERRNO.store(errno, SeqCst);
        LEFT.store(passing.into(), SeqCst);
    }

    /// Cancels a pending failure; returns the call that failed.
    pub fn disarm() -> Option<Call> {
        LEFT.store(-1, SeqCst);
        let hit = HIT.load(SeqCst);
        super::calls().nth(usize::from(hit).checked_sub(1)?)
    }

    /// The error that this call must return now, if any. Safe in a child: it allocates nothing, and
    /// takes no lock.
    pub fn injected(call: Call) -> Option<i32> {
        if LEFT.load(SeqCst) < 0 || LEFT.fetch_sub(1, SeqCst) != 0 {
            return None;
        }
        let at = super::calls().position(|one| one == call).unwrap_or_default();
        HIT.store(u8::try_from(at + 1).unwrap_or_default(), SeqCst);
        Some(ERRNO.load(SeqCst))
    }
}

/// Release builds inject no failures.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn injected(_: Call) -> Option<i32> {
    None
}

/// The calls that do not set attributes, in the order of a start.
const OTHERS: [Call; 20] = [
    Call::CaptureFile,
    Call::Pipe,
    Call::Nonblocking,
    Call::Watch,
    Call::DataFile,
    Call::DataWrite,
    Call::DataOpen,
    Call::EnvFile,
    Call::Account,
    Call::OpenExe,
    Call::CloneHelper,
    Call::Clone,
    Call::Session,
    Call::Limit,
    Call::OomWrite,
    Call::Bounding,
    Call::MoveSource,
    Call::Open,
    Call::Place,
    Call::Exec,
];

/// Every call.
pub fn calls() -> impl Iterator<Item = Call> {
    OTHERS.iter().copied().chain(Attribute::ALL.iter().map(|attribute| Call::Attribute(*attribute)))
}

/// Checks whether the kernel is to appear as one that keeps no exit status.
///
/// # Errors
/// `ENOTTY` if it is.
pub(super) fn check_exit_status() -> std::io::Result<()> {
    #[cfg(debug_assertions)]
    if !armed::keeps_exit_statuses() {
        return Err(std::io::Error::from_raw_os_error(libc::ENOTTY));
    }
    Ok(())
}

/// Checks whether the kernel is to appear as one that clones no child into a control group.
///
/// # Errors
/// `ENOSYS` if it is.
pub(super) fn check_clone_into() -> std::io::Result<()> {
    #[cfg(debug_assertions)]
    if !armed::clones_into_groups() {
        return Err(std::io::Error::from_raw_os_error(libc::ENOSYS));
    }
    Ok(())
}

/// Checks for an injected failure in the parent.
///
/// # Errors
/// The injected error.
pub(super) fn check(call: Call) -> std::io::Result<()> {
    injected(call).map_or(Ok(()), |errno| Err(std::io::Error::from_raw_os_error(errno)))
}
