//! Cloning a child by the thread itself.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Release;

use super::{child_of, clone_into};
use crate::cgroup::Group;
use crate::engine::child;
use crate::engine::failpoints::{self, Call};
use crate::engine::owned_child::OwnedChild;
use crate::engine::plan::LaunchPlan;
use crate::engine::sys::Stack;

/// Clones a child in this thread, into its control group if it is to have one, and waits until it
/// has exec'd or ended. Every signal is blocked in this thread.
///
/// # Errors
/// The OS error of cloning.
pub(super) fn here(
    plan: &mut LaunchPlan,
    stack: &Stack,
    group: Option<&Group>,
) -> io::Result<OwnedChild> {
    failpoints::check(Call::Clone)?;
    if let Some(group) = group {
        match into_group(plan, stack, group) {
            Err(error) if !is_shortage(&error) => plan.group_procs = procs_of(group),
            done => return done,
        }
    }
    plainly(plan, stack)
}

/// The file by which a child enters a group.
pub(super) fn procs_of(group: &Group) -> Option<OwnedFd> {
    group.entrance().ok()
}

/// Whether another way to clone would meet the same error.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM))
}

/// Clones a child into a group.
fn into_group(plan: &LaunchPlan, stack: &Stack, group: &Group) -> io::Result<OwnedChild> {
    failpoints::check_clone_into()?;
    let argument = (&raw const *plan).cast_mut().cast::<libc::c_void>();
    plan.status.in_group().store(1, Release);
    // SAFETY: as for the clone below.
    let pid = unsafe {
        clone_into::clone_into(group.as_fd(), stack, plan.status.pidfd(), child::main, argument)
    };
    match pid {
        Ok(pid) => Ok(child_of(pid, plan)),
        Err(error) => {
            plan.status.in_group().store(0, Release);
            Err(error)
        }
    }
}

/// Clones a child into the group of this process.
fn plainly(plan: &LaunchPlan, stack: &Stack) -> io::Result<OwnedChild> {
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
