//! The seam at which tests fail the system calls of a start, one by one.
//!
//! Every call of a start that can fail passes by [`injected`], in the parent and in the child: debug builds ask there whether it is this
//! one's turn, release builds ask nothing. Calls that cannot fail with the arguments they get (close, umask, a signal's disposition),
//! and those without whose effect a start goes on (close_range, getcwd), are not among them.

use crate::spec::Attribute;

/// A system call of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// A capture's file is made.
    CaptureFile,
    /// A pipe is made.
    Pipe,
    /// A pipe's reading end is made one that does not block.
    Nonblocking,
    /// Epoll is to watch a pipe.
    Watch,
    /// A file of given data is made.
    DataFile,
    /// The data is written to it.
    DataWrite,
    /// It is opened for the child.
    DataOpen,
    /// A variable's file is opened and read.
    EnvFile,
    /// A user or a group is looked up.
    Account,
    /// The executable is opened, to be checked.
    OpenExe,
    /// A clone helper is made, which is to clone the child.
    CloneHelper,
    /// The child is cloned.
    Clone,
    /// In the child: a session of its own.
    Session,
    /// A limit.
    Limit,
    /// The file of the OOM score is written.
    OomWrite,
    /// Capabilities are taken out of the bounding set.
    Bounding,
    /// Another attribute is set; of the OOM score adjustment, its file is opened.
    Attribute(Attribute),
    /// A source is moved out of the way.
    MoveSource,
    /// A file is opened.
    Open,
    /// An fd is put in its place.
    Place,
    /// The program is executed.
    Exec,
}

#[cfg(debug_assertions)]
pub use armed::{arm, disarm, injected};

#[cfg(debug_assertions)]
mod armed {
    use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, Ordering::SeqCst};

    use super::Call;

    /// How many calls pass before the one that fails; negative once it has failed, and before.
    static LEFT: AtomicI64 = AtomicI64::new(-1);
    static ERRNO: AtomicI32 = AtomicI32::new(0);
    static HIT: AtomicU8 = AtomicU8::new(0);

    /// Has one call fail with `errno`, after `passing` others. For tests that run one process at a time.
    pub fn arm(passing: u32, errno: i32) {
        HIT.store(0, SeqCst);
        ERRNO.store(errno, SeqCst);
        LEFT.store(passing.into(), SeqCst);
    }

    /// Has no call fail any more; gives the one that has.
    pub fn disarm() -> Option<Call> {
        LEFT.store(-1, SeqCst);
        let hit = HIT.load(SeqCst);
        super::calls().nth(usize::from(hit).checked_sub(1)?)
    }

    /// The error that this call is to fail with now, if any. Safe in a child: it allocates nothing, and takes no lock.
    pub fn injected(call: Call) -> Option<i32> {
        if LEFT.load(SeqCst) < 0 || LEFT.fetch_sub(1, SeqCst) != 0 {
            return None;
        }
        let at = super::calls().position(|one| one == call).unwrap_or_default();
        HIT.store(u8::try_from(at + 1).unwrap_or_default(), SeqCst);
        Some(ERRNO.load(SeqCst))
    }
}

/// No call fails in a release build but by itself.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn injected(_: Call) -> Option<i32> {
    None
}

/// The calls that set no attribute, in the order of a start.
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

/// The seam in the parent.
///
/// # Errors
/// The error that this call is to fail with.
pub(super) fn check(call: Call) -> std::io::Result<()> {
    injected(call).map_or(Ok(()), |errno| Err(std::io::Error::from_raw_os_error(errno)))
}
