//! The two ways to clone a child.
//!
//! The usual one shares our memory and stands still until the child has exec'd. The other is for a child that is to get a signal when this
//! program dies. The kernel sends that when the *thread* ends that cloned it: as threads of the pool do when they are not needed any
//! more, and every thread but one when the program replaces itself. So the one thread that lasts clones it, when it is
//! asked to; and as that thread must not stand still, the child gets a copy of our memory, and a pipe tells that it has exec'd.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use super::super::child;
use super::super::faults::{self, Call};
use super::super::plan::LaunchPlan;
use super::super::sys::{self, Stack};
use super::{Child, Shared};

/// A short piece of work for the thread that lasts as long as the process.
pub type Errand = Box<dyn FnOnce() + Send>;

/// Has that thread do an errand soon; where it never will, the errand is dropped.
pub type Errands = Arc<dyn Fn(Errand) + Send + Sync>;

/// Clones a child in this thread, and waits until it has exec'd or ended. Every signal is blocked in this thread.
///
/// # Errors
/// The OS error of cloning.
pub(super) fn here(plan: &LaunchPlan, stack: &Stack) -> io::Result<Child> {
    // SAFETY: CLONE_VFORK keeps this thread, and so the plan and the stack, in place until the child has exec'd or ended. All
    // signals are blocked in this thread, so no handler runs in the child.
    unsafe { clone(plan, stack, libc::CLONE_VM | libc::CLONE_VFORK) }
}

/// Has a child cloned by the thread that lasts, and waits until it has exec'd or ended. The plan's report must be shared.
///
/// # Errors
/// The OS error of cloning, or of the pipe; `ECANCELED` where that thread is gone.
pub(super) fn by_errand(
    plan: &mut LaunchPlan,
    stack: &Stack,
    errands: &Errands,
    shared: &Arc<Shared>,
) -> io::Result<Child> {
    let (reader, writer) = sys::pipe()?;
    plan.hold(writer);
    let (tell, told) = mpsc::channel();
    let (plan_at, stack_at) = (&raw const *plan as usize, &raw const *stack as usize);
    let shared = Arc::clone(shared);
    errands(Box::new(move || {
        // Held until the child is noted as ours: whoever finds it among the main thread's children looks here.
        let mut state = shared.lock();
        let before = sys::block_all_signals();
        // SAFETY: whoever gave these waits for the answer, or for this closure to be dropped, and both live until then. The
        // child has a copy of them, and no signal handler runs in it.
        let child = unsafe {
            let (plan, stack) = (&*(plan_at as *const LaunchPlan), &*(stack_at as *const Stack));
            clone(plan, stack, 0)
        };
        sys::set_signal_mask(before);
        if let Ok(child) = &child {
            state.made.insert(child.pid);
        }
        drop(state);
        // Who asked is there.
        let _ = tell.send(child);
    }));
    let gone = |_| io::Error::from_raw_os_error(libc::ECANCELED);
    let child = told.recv().map_err(gone).and_then(|child| child);
    // Our own copy of the end that the child holds, without which the pipe would never end.
    plan.release();
    let child = child?;
    // Nothing is ever written; an error would only end the wait.
    while let Err(nix::errno::Errno::EINTR) = nix::unistd::read(&reader, &mut [0]) {}
    Ok(child)
}

/// Clones a child that runs [`child::main`].
///
/// # Safety
/// No signal handler may run in this thread. Where the child shares our memory, the plan and the stack must stay as they are until it
/// has exec'd or ended, and nothing else may use the stack.
unsafe fn clone(plan: &LaunchPlan, stack: &Stack, flags: libc::c_int) -> io::Result<Child> {
    faults::pass(Call::Clone)?;
    let flags = flags | libc::CLONE_PIDFD | libc::SIGCHLD;
    let argument = (&raw const *plan).cast_mut().cast::<libc::c_void>();
    let pidfd = plan.report.pidfd();
    // SAFETY: the stack is large enough for `child::main`, which neither recurses nor panics; for the rest the caller
    // answers. The kernel writes the pidfd into the atomic before the child runs.
    let pid = unsafe { libc::clone(child::main, stack.top(), flags, argument, pidfd.as_ptr()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has made this descriptor for us; the engine only ever borrows its number from the report.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd.load(Ordering::Acquire)) };
    debug_assert!(pidfd.as_raw_fd() >= 0);
    Ok(Child { pid, pidfd })
}
