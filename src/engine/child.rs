//! The code that runs in the child between clone and exec.
//!
//! The child shares our memory. Its cloner, a thread or a clone helper, waits meanwhile, but our
//! other threads run on. So the child allocates nothing, takes no lock, cannot panic, and calls
//! only functions that POSIX lists as async-signal-safe. It reads the [`LaunchPlan`], and writes
//! the plan's [`ChildStatus`](super::plan::ChildStatus) and scratch space, which are atomics.
//!
//! The order: own control group, unless it was cloned into it, own session (except in our own job on the terminal), signals default and unblocked,
//! sources moved, every other fd closed, the attributes of the spec (see [`plan`](super::plan)),
//! its fds, the open-file limit, signals ignored and blocked, exec. The first failed attribute ends
//! the child, so that no file is opened as a wrong user or in a wrong directory. Every fd is tried.

mod attempt;
mod attributes;
mod own_file;
mod sandbox;

use attempt::attempt;
pub(super) use attempt::errno;
pub(super) use attributes::first_failure;

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::engine::failpoints::Call;
use crate::engine::plan::{Executable, FdAction, LaunchPlan, SetupFailure};

/// The entry point of a cloned child; `plan` points to a [`LaunchPlan`] that outlives the child's
/// set-up.
pub(super) extern "C" fn main(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the cloning thread passes a pointer to the plan that it keeps alive until this child
    // has exec'd or ended, and does not touch it meanwhile.
    let plan = unsafe { &*plan.cast::<LaunchPlan>() };
    let code = run(plan);
    // SAFETY: ends only this child; no destructor or exit handler of ours may run in it.
    unsafe { libc::_exit(code) }
}

/// Sets up and execs; returns only if that failed, with the exit code.
fn run(plan: &LaunchPlan) -> libc::c_int {
    let status = &plan.status;
    // SAFETY: the call takes no pointer, and changes nothing but this child.
    status.pid().store(unsafe { libc::getpid() }, Relaxed);
    enter_group(plan);
    if !plan.shares_terminal {
        // SAFETY: the call takes no pointer, and changes nothing but this child.
        if let Err(errno) = attempt(Call::Session, || unsafe { libc::setsid() }.into()) {
            status.fail(SetupFailure::Session, errno);
            return 125;
        }
    }
    default_signals();
    if plan.shares_terminal {
        // Before Linux 5.16 a core dump kills all processes that share our memory, and a terminal
        // may send this signal now.
        set_disposition(libc::SIGQUIT, libc::SIG_IGN);
    }
    set_signal_mask(0);
    move_sources(plan);
    close_others(plan);
    let late = plan.attributes.len();
    if !attributes::apply(status, &plan.attributes, 0)
        || !run_fd_actions(plan)
        || !attributes::apply(status, &plan.late_attributes, late)
    {
        return 125;
    }
    pass_on(plan);
    report_cwd(plan);
    set_signals(plan);
    exec(plan)
}

/// Enters the control group, unless the child was cloned into it. Without it, the process runs as
/// one without a group of its own.
fn enter_group(plan: &LaunchPlan) {
    if let Some(procs) = &plan.group_procs {
        // SAFETY: the kernel reads one byte of a constant; the plan holds the file open.
        let written = unsafe { libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) };
        plan.status.in_group().store(if written == 1 { 1 } else { -errno() }, Relaxed);
    }
}

/// Runs every action, also after one that failed; returns whether all succeeded.
fn run_fd_actions(plan: &LaunchPlan) -> bool {
    let mut good = true;
    for (action, error) in plan.actions.iter().zip(plan.status.action_errnos()) {
        if error.load(Relaxed) == 0
            && let Err(errno) = run_fd_action(plan, action)
        {
            error.store(errno, Relaxed);
        }
        good &= error.load(Relaxed) == 0;
    }
    good
}

/// Keeps the fds that are passed on besides those of the spec open.
fn pass_on(plan: &LaunchPlan) {
    for fd in &plan.passed {
        // SAFETY: F_SETFD takes no pointer, and acts on the child's own table. If the program has
        // closed the fd since, there is none to pass on.
        unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) };
    }
}

/// The signals that this program ignores or handles, as a mask: bit 0 is signal 1. All signals
/// until it is known.
static NOT_DEFAULT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Records which signals this program ignores or handles, so that a child need not query each. No
/// code of ours changes a disposition after the engine has started.
pub(super) fn note_dispositions() {
    let changed = (1..=64).filter(|signal| !super::sys::is_default(*signal));
    NOT_DEFAULT.store(changed.fold(0, |mask, signal| mask | 1 << (signal - 1)), Relaxed);
}

/// Sets the default disposition of every signal: exec would keep the ignored ones ignored.
fn default_signals() {
    let changed = NOT_DEFAULT.load(Relaxed);
    for signal in (1..=64).filter(|signal| changed >> (signal - 1) & 1 == 1) {
        set_disposition(signal, libc::SIG_DFL);
    }
}

/// Ignores and blocks signals as the spec asks for.
fn set_signals(plan: &LaunchPlan) {
    let signals = &plan.signals;
    if plan.shares_terminal {
        set_disposition(libc::SIGQUIT, libc::SIG_DFL);
    }
    if signals.ignore != 0 {
        for signal in (1..=64).filter(|signal| signals.ignore >> (signal - 1) & 1 != 0) {
            set_disposition(signal, libc::SIG_IGN);
        }
    }
    if signals.block != 0 {
        set_signal_mask(signals.block);
    }
}

/// Ignores a signal, or sets its default disposition.
fn set_disposition(signal: libc::c_int, disposition: libc::sighandler_t) {
    // The kernel's own struct: the handler, no flags, no restorer, empty mask.
    let action = [disposition as u64, 0, 0, 0];
    // SAFETY: the kernel reads one struct at `action`. The child's table of handlers is its own
    // copy. For SIGKILL and SIGSTOP the call fails, which changes nothing.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            action.as_ptr(),
            std::ptr::null_mut::<u64>(),
            8usize,
        );
    }
}

/// Moves every source to a number that no action uses, in rising order.
fn move_sources(plan: &LaunchPlan) {
    let mut least = 3;
    for (source, moved) in plan.sources.iter().zip(&plan.moved) {
        loop {
            // SAFETY: F_DUPFD_CLOEXEC takes no pointer, on the child's own table; the plan holds
            // the source open.
            let number = attempt(Call::MoveSource, || unsafe {
                libc::fcntl(source.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least).into()
            });
            let number = match number {
                Ok(number) => number as RawFd,
                Err(errno) => {
                    // All numbers below the limit are in use: then the requested minimum is
                    // invalid.
                    let error = if errno == libc::EINVAL { libc::EMFILE } else { errno };
                    moved.store(-error, Relaxed);
                    break;
                }
            };
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

/// Closes every fd from 3 up, except the moved sources and inherited fds that actions refer to.
///
/// Exec would close them too. But a child that waits in its set-up (opening a FIFO, say) must not
/// hold the ends of its siblings' pipes.
fn close_others(plan: &LaunchPlan) {
    let mut moved = plan.moved.iter().map(|m| m.load(Relaxed)).filter(|m| *m >= 0).peekable();
    let mut kept = plan.kept.iter().copied().peekable();
    let mut from: RawFd = 3;
    loop {
        // Both lists rise: take the smaller head.
        let next = match (moved.peek(), kept.peek()) {
            (Some(a), Some(b)) if a < b => moved.next(),
            (Some(_), None) => moved.next(),
            (_, Some(_)) => kept.next(),
            (None, None) => None,
        };
        let to = next.unwrap_or(RawFd::MAX);
        if from < to {
            // SAFETY: closes only fds of the child's own table. Kernels without the call leave it
            // to exec.
            unsafe { libc::syscall(libc::SYS_close_range, from, to - 1, 0) };
        }
        match next {
            Some(fd) => from = fd + 1,
            None => break,
        }
    }
}

/// The number to which the child has moved a source.
///
/// # Errors
/// The errno of moving it.
fn moved(plan: &LaunchPlan, source: usize) -> Result<RawFd, i32> {
    match plan.moved.get(source).map(|moved| moved.load(Relaxed)) {
        Some(number) if number >= 0 => Ok(number),
        Some(errno) => Err(-errno),
        None => Err(libc::EBADF),
    }
}

/// Runs one action.
///
/// # Errors
/// Its errno.
fn run_fd_action(plan: &LaunchPlan, action: &FdAction) -> Result<(), i32> {
    match action {
        FdAction::Put { target, source } => place(moved(plan, *source)?, *target),
        FdAction::Open { target, directory: Some(directory), path, flags, mode } => {
            put(open_below(directory, path, *flags, *mode)?, *target)
        }
        FdAction::Open { target, directory: None, path, flags, mode } => {
            put_opened(path, *flags, *mode, *target)
        }
        FdAction::Dup { target, from } => place(*from, *target),
        FdAction::Close { target } => {
            // SAFETY: it acts on the child's own table. An fd that is not open needs no close.
            unsafe { libc::close(*target) };
            Ok(())
        }
        FdAction::Inherit { target } => {
            if plan.is_inheritable(*target) {
                // SAFETY: F_SETFD takes no pointer, and acts on the child's own table. An fd that
                // the keeper does not have is not inherited.
                unsafe { libc::fcntl(*target, libc::F_SETFD, 0) };
            }
            Ok(())
        }
        FdAction::Failed { .. } => Err(libc::EBADF),
    }
}

/// Opens a file at `target`.
///
/// # Errors
/// The errno.
fn put_opened(
    path: &CStr,
    flags: libc::c_int,
    mode: libc::mode_t,
    target: RawFd,
) -> Result<(), i32> {
    // SAFETY: `path` is a live C string.
    let number = attempt(Call::Open, || unsafe {
        libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode as libc::c_uint).into()
    })? as RawFd;
    put(number, target)
}

/// Moves an opened file to `target`.
///
/// # Errors
/// The errno.
fn put(number: RawFd, target: RawFd) -> Result<(), i32> {
    let placed = place(number, target);
    if number != target {
        // SAFETY: the number is the child's own.
        unsafe { libc::close(number) };
    }
    placed
}

/// Opens a file below a directory; no link and no `..` may lead out.
///
/// # Errors
/// The errno; `EXDEV` for a path that leads out.
fn open_below(
    directory: &CString,
    path: &CString,
    flags: libc::c_int,
    mode: libc::mode_t,
) -> Result<RawFd, i32> {
    let as_directory = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: `directory` is a live C string.
    let within =
        attempt(Call::Open, || unsafe { libc::open(directory.as_ptr(), as_directory).into() })?
            as RawFd;
    // SAFETY: an all-zero struct of numbers is a valid one.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    // A mode without O_CREAT is an error.
    how.mode = if flags & libc::O_CREAT == 0 { 0 } else { u64::from(mode) };
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: `path` is a live C string, and the kernel reads one struct at `how`.
    let opened = attempt(Call::Open, || unsafe {
        let size = size_of::<libc::open_how>();
        libc::syscall(libc::SYS_openat2, within, path.as_ptr(), &raw const how, size)
    });
    // SAFETY: the child's own descriptor, from the call above.
    unsafe { libc::close(within) };
    opened.map(|number| number as RawFd)
}

/// Makes `target` a copy of `number` that survives exec.
///
/// # Errors
/// The errno.
fn place(number: RawFd, target: RawFd) -> Result<(), i32> {
    // SAFETY: the calls take no pointer, and change the child's own table of descriptors.
    attempt(Call::Place, || unsafe {
        if number == target {
            libc::fcntl(target, libc::F_SETFD, 0).into()
        } else {
            libc::dup2(number, target).into()
        }
    })?;
    Ok(())
}

/// Sets the signal mask. It is empty before any call that can block: a child that blocks in its
/// set-up can be killed.
fn set_signal_mask(mask: u64) {
    // SAFETY: the kernel reads 8 bytes at `mask`.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            std::ptr::null_mut::<u64>(),
            8usize,
        );
    }
}

/// Reports the working directory, if there is room for it. Without a report, it is the requested
/// one.
fn report_cwd(plan: &LaunchPlan) {
    if let Some((room, length)) = plan.status.cwd_room() {
        // SAFETY: the kernel writes at most `length` bytes to memory of the status's, which is made
        // of atomics.
        unsafe { libc::syscall(libc::SYS_getcwd, room, length) };
    }
}

/// Execs; returns only if that failed, with the exit code.
fn exec(plan: &LaunchPlan) -> libc::c_int {
    let status = &plan.status;
    status.reached_exec().store(1, Relaxed);
    let (errno, missing) = match &plan.executable {
        Executable::Paths(paths) => exec_first(plan, paths),
        Executable::Opened { source, path, .. } => exec_opened(plan, *source, path),
        Executable::Missing(errno) => (*errno, matches!(*errno, libc::ENOENT | libc::ENOTDIR)),
    };
    status.exe_missing().store(i32::from(missing), Relaxed);
    status.exec_errno().store(errno, Relaxed);
    if missing { 127 } else { 126 }
}

/// Executes the first executable path of these, like execvp(3), but without a fallback to a shell;
/// returns the errno, and whether no path exists.
fn exec_first(plan: &LaunchPlan, paths: &[CString]) -> (i32, bool) {
    let mut last = libc::ENOENT;
    let mut best = None;
    for (index, path) in paths.iter().enumerate() {
        plan.status.candidate().store(index as i32, Relaxed);
        last = exec_path(plan, path);
        match last {
            // A missing interpreter also causes ENOENT, though the executable exists.
            libc::ENOENT | libc::ENOTDIR if !exists(path) => {}
            libc::ENOENT | libc::ENOTDIR | libc::EACCES => {
                best.get_or_insert(last);
            }
            libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
            errno => return (errno, false),
        }
    }
    match best {
        Some(errno) => (errno, false),
        None => (last, matches!(last, libc::ENOENT | libc::ENOTDIR)),
    }
}

fn exists(path: &CString) -> bool {
    // SAFETY: the path is a live C string.
    unsafe { libc::access(path.as_ptr(), libc::F_OK) == 0 }
}

/// Executes the opened file; if an interpreter has to open it again, its real path.
fn exec_opened(plan: &LaunchPlan, source: usize, path: &CString) -> (i32, bool) {
    let number = match moved(plan, source) {
        Ok(number) => number,
        Err(errno) => return (errno, false),
    };
    // SAFETY: the null-terminated arrays of C strings are kept alive by the plan.
    let result = attempt(Call::Exec, || unsafe {
        libc::syscall(
            libc::SYS_execveat,
            number,
            c"".as_ptr(),
            plan.argv.as_ptr(),
            plan.envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    });
    match result {
        // Exec closes the descriptor, so an interpreter could not open it.
        Err(libc::ENOENT) => (exec_path(plan, path), false),
        Err(errno) => (errno, false),
        Ok(_) => (0, false),
    }
}

/// Executes a path; returns the errno.
fn exec_path(plan: &LaunchPlan, path: &CString) -> i32 {
    // SAFETY: the path and the null-terminated arrays of C strings are kept alive by the plan.
    let result = attempt(Call::Exec, || unsafe {
        libc::execve(path.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr()).into()
    });
    result.err().unwrap_or(0)
}
