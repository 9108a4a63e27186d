//! Cloning a child by the thread itself.

use std::io;

use super::child_of;
use crate::engine::child;
use crate::engine::failpoints::{self, Call};
use crate::engine::owned_child::OwnedChild;
use crate::engine::plan::LaunchPlan;
use crate::engine::sys::Stack;

/// Clones a child in this thread, and waits until it has exec'd or ended. Every signal is blocked
/// in this thread.
///
/// # Errors
/// The OS error of cloning.
pub(super) fn here(plan: &LaunchPlan, stack: &Stack) -> io::Result<OwnedChild> {
    failpoints::check(Call::Clone)?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let argument = (&raw const *plan).cast_mut().cast::<libc::c_void>();
    let pidfd = plan.status.pidfd();
    // SAFETY: CLONE_VFORK keeps this thread, and so the plan and the stack, in place until the
    // child has exec'd or ended. The stack is large enough for `child::main`, which neither
    // recurses nor panics. All signals are blocked in this thread, so no handler runs in the child.
    // The kernel writes the pidfd into the atomic before the child runs.
    let pid = unsafe { libc::clone(child::main, stack.top(), flags, argument, pidfd.as_ptr()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(child_of(pid, plan))
}
