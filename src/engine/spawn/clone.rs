//! Cloning a child: as a rule by the thread itself; by its [proxy](super::proxy) where it matters who the parent is.

use std::io;
use std::sync::Arc;

use super::super::child;
use super::super::faults::{self, Call};
use super::super::plan::LaunchPlan;
use super::super::sys::Stack;
use super::proxy::{NotCloned, Proxy};
use super::{Child, Shared};

/// Clones a child in this thread, and waits until it has exec'd or ended. Every signal is blocked in this thread.
///
/// # Errors
/// The OS error of cloning.
pub(super) fn here(plan: &LaunchPlan, stack: &Stack) -> io::Result<Child> {
    faults::pass(Call::Clone)?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let argument = (&raw const *plan).cast_mut().cast::<libc::c_void>();
    let pidfd = plan.report.pidfd();
    // SAFETY: CLONE_VFORK keeps this thread, and so the plan and the stack, in place until the child has exec'd or ended. The
    // stack is large enough for `child::main`, which neither recurses nor panics. All signals are blocked in this thread, so
    // no handler runs in the child. The kernel writes the pidfd into the atomic before the child runs.
    let pid = unsafe { libc::clone(child::main, stack.top(), flags, argument, pidfd.as_ptr()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Child::of(pid, plan))
}

/// Has a child cloned whose parent is the main thread, and waits until it has exec'd or ended. Every signal is blocked in this thread.
///
/// # Errors
/// The OS error of cloning, or of making a proxy.
pub(super) fn for_main_thread(
    plan: &LaunchPlan,
    stack: &Stack,
    shared: &Shared,
) -> io::Result<Child> {
    // From the first on: whoever finds it among the main thread's children looks there.
    shared.lock().making.push(Arc::clone(&plan.report));
    let child = by_proxy(plan, stack, shared);
    let mut state = shared.lock();
    state.making.retain(|report| !Arc::ptr_eq(report, &plan.report));
    if let Ok(child) = &child {
        state.made.insert(child.pid);
    }
    child
}

fn by_proxy(plan: &LaunchPlan, stack: &Stack, shared: &Shared) -> io::Result<Child> {
    let thread = std::thread::current().id();
    let mut kept = shared.lock().proxies.remove(&thread);
    loop {
        let fresh = kept.is_none();
        let proxy = match kept.take() {
            Some(proxy) => proxy,
            None => {
                let proxy = Proxy::new(stack)?;
                shared.lock().desks.push(Arc::clone(proxy.desk()));
                proxy
            }
        };
        let child = match proxy.clone_child(plan, stack) {
            Ok(child) => Ok(child),
            Err(NotCloned::Refused(error)) => Err(error),
            // Somebody has killed it: another one takes its place.
            Err(NotCloned::Dead) => {
                shared.lock().forget(&proxy);
                if fresh {
                    return Err(io::Error::from_raw_os_error(libc::ECHILD));
                }
                continue;
            }
        };
        shared.lock().proxies.insert(thread, proxy);
        return child;
    }
}
