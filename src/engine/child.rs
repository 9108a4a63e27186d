//! What runs in the child between clone and exec.
//!
//! The child shares our memory while the thread that cloned it stands still, and every other thread of ours runs on.
//! So it allocates nothing, takes no lock, cannot panic, and calls only what POSIX calls async-signal-safe. It reads
//! the [`LaunchPlan`] and writes the plan's [`Report`](super::plan::Report) and scratch space, which are atomics.
//!
//! The order: own session, signals default and unblocked, sources out of the way, every other fd closed, the steps
//! of the spec, the open-file limit given back, exec.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::plan::{LaunchPlan, Step};

/// The entry point of a cloned child; `plan` points to a [`LaunchPlan`] that outlives the child's set-up.
pub(super) extern "C" fn main(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the cloning thread passes a pointer to the plan that it keeps alive until this child has
    // exec'd or ended, and does not touch it meanwhile.
    let plan = unsafe { &*plan.cast::<LaunchPlan>() };
    let code = run(plan);
    // SAFETY: ends only this child; no destructor or exit handler of ours may run in it.
    unsafe { libc::_exit(code) }
}

/// Sets up and execs; returns only if that failed, with the exit code.
fn run(plan: &LaunchPlan) -> libc::c_int {
    // SAFETY: plain system calls without pointers.
    unsafe {
        plan.report.pid.store(libc::getpid(), Relaxed);
        libc::setsid();
    }
    default_signals();
    unblock_signals();
    move_sources(plan);
    close_others(plan);
    let mut failed = false;
    for (step, error) in plan.steps.iter().zip(&plan.report.step_errnos) {
        if error.load(Relaxed) == 0 {
            error.store(take_step(plan, step), Relaxed);
        }
        failed |= error.load(Relaxed) != 0;
    }
    if failed {
        return 125;
    }
    if let Some(nofile) = &plan.nofile {
        // SAFETY: the pointer is to a live rlimit. Lowering one's own limit cannot fail.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, nofile) };
    }
    exec(plan)
}

/// The signals that this program ignores or handles, as a mask: bit 0 is signal 1. All of them before it is known.
static NOT_DEFAULT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Finds out which signals this program ignores or handles, so that a child need not ask for each. Nothing of ours changes any
/// after the engine has started.
pub(super) fn note_dispositions() {
    let changed = (1..=64).filter(|signal| !super::sys::is_default(*signal));
    NOT_DEFAULT.store(changed.fold(0, |mask, signal| mask | 1 << (signal - 1)), Relaxed);
}

/// Gives every signal its default disposition: exec would keep the ignored ones ignored.
fn default_signals() {
    // The kernel's own struct, all zero: SIG_DFL, no flags, no restorer, empty mask.
    let default = [0u64; 4];
    let changed = NOT_DEFAULT.load(Relaxed);
    for signal in (1..=64).filter(|signal| changed >> (signal - 1) & 1 == 1) {
        // SAFETY: the kernel reads one struct at `default`. The child's table of handlers is its own copy. For
        // SIGKILL and SIGSTOP the call fails, which changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8usize,
            );
        }
    }
}

/// Moves every source to a number that no step uses, in rising order.
fn move_sources(plan: &LaunchPlan) {
    let mut least = 3;
    for (source, moved) in plan.sources.iter().zip(&plan.moved) {
        loop {
            // SAFETY: plain fcntl without pointers.
            let number = unsafe { libc::fcntl(source.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
            if number < 0 {
                // All below the limit are taken or needed: then the least number is invalid.
                let error = if errno() == libc::EINVAL { libc::EMFILE } else { errno() };
                moved.store(-error, Relaxed);
                break;
            }
            least = number + 1;
            if plan.reserved.binary_search(&number).is_err() {
                moved.store(number, Relaxed);
                break;
            }
            // SAFETY: the number is the child's own, from the call above.
            unsafe { libc::close(number) };
        }
    }
}

/// Closes every fd from 3 up but the moved sources and the agent's inherited ones that steps refer to.
///
/// Exec would close them too. But a child that waits in its set-up (opening a FIFO, say) must not
/// hold the ends of its siblings' pipes.
fn close_others(plan: &LaunchPlan) {
    let mut moved = plan.moved.iter().map(|m| m.load(Relaxed)).filter(|m| *m >= 0).peekable();
    let mut kept = plan.kept.iter().copied().peekable();
    let mut from: RawFd = 3;
    loop {
        // The lesser of the two heads: both lists rise.
        let next = match (moved.peek(), kept.peek()) {
            (Some(a), Some(b)) if a < b => moved.next(),
            (Some(_), None) => moved.next(),
            (_, Some(_)) => kept.next(),
            (None, None) => None,
        };
        let to = next.unwrap_or(RawFd::MAX);
        if from < to {
            // SAFETY: closes only fds of the child's own table. Kernels without the call leave it to exec.
            unsafe { libc::syscall(libc::SYS_close_range, from, to - 1, 0) };
        }
        match next {
            Some(fd) => from = fd + 1,
            None => break,
        }
    }
}

/// Does one step; gives its errno, or 0.
fn take_step(plan: &LaunchPlan, step: &Step) -> i32 {
    match step {
        Step::Put { target, source } => match plan.moved.get(*source).map(|m| m.load(Relaxed)) {
            Some(number) if number >= 0 => place(number, *target),
            Some(errno) => -errno,
            None => libc::EBADF,
        },
        Step::Open { target, path, flags, mode } => {
            // SAFETY: `path` is a live C string.
            let number = unsafe {
                libc::open(path.as_ptr(), *flags | libc::O_CLOEXEC, *mode as libc::c_uint)
            };
            if number < 0 {
                return errno();
            }
            let error = place(number, *target);
            if number != *target {
                // SAFETY: the number is the child's own, from the call above.
                unsafe { libc::close(number) };
            }
            error
        }
        Step::Dup { target, from } => place(*from, *target),
        Step::Close { target } => {
            // SAFETY: the child's own table. That it was not open is as good as closed.
            unsafe { libc::close(*target) };
            0
        }
        Step::Inherit { target } => {
            if plan.is_inheritable(*target) {
                // SAFETY: plain fcntl without pointers. An fd that the agent has not is not inherited.
                unsafe { libc::fcntl(*target, libc::F_SETFD, 0) };
            }
            0
        }
        Step::Failed { .. } => libc::EBADF,
    }
}

/// Makes `target` a copy of `number` that survives exec; gives the errno, or 0.
fn place(number: RawFd, target: RawFd) -> i32 {
    // SAFETY: plain system calls without pointers, on the child's own table.
    let ret = unsafe {
        if number == target {
            libc::fcntl(target, libc::F_SETFD, 0)
        } else {
            libc::dup2(number, target)
        }
    };
    if ret < 0 { errno() } else { 0 }
}

/// Empties the signal mask, before anything that can block: a child that waits in its set-up can be ended.
fn unblock_signals() {
    let none = 0u64;
    // SAFETY: the kernel reads 8 bytes at `none`.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null_mut::<u64>(),
            8usize,
        );
    }
}

/// Execs; returns only if that failed.
fn exec(plan: &LaunchPlan) -> libc::c_int {
    plan.report.reached_exec.store(true, Relaxed);
    // SAFETY: the path and the null-terminated arrays of C strings are kept alive by the plan.
    let errno = unsafe {
        libc::execve(plan.exe.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr());
        errno()
    };
    plan.report.exec_errno.store(errno, Relaxed);
    // A missing interpreter gives ENOENT too, though the executable exists.
    // SAFETY: the path is a live C string.
    let missing = matches!(errno, libc::ENOENT | libc::ENOTDIR)
        && unsafe { libc::access(plan.exe.as_ptr(), libc::F_OK) } != 0;
    plan.report.exe_missing.store(missing, Relaxed);
    if missing { 127 } else { 126 }
}

fn errno() -> i32 {
    // SAFETY: the location is that of the cloning thread, which stands still.
    unsafe { *libc::__errno_location() }
}
