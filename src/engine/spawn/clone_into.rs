//! Cloning a child as a member of a control group, by `clone3`.
//!
//! The C library has no function for it. The child runs on a stack of its own, so the instructions
//! from the system call to the child's entry point must not use the parent's stack frame: they are
//! written in assembly. Other architectures have no such instructions here, and report `ENOSYS`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicI32;

use crate::engine::sys::Stack;

/// A child's entry point.
pub(super) type Entry = extern "C" fn(*mut libc::c_void) -> libc::c_int;

/// Create the child in the group of [`CloneArgs::cgroup`]; from the kernel's `sched.h`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The kernel's `struct clone_args`, up to the last member that this program uses.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Clones a child of this thread into a control group, and waits until it has exec'd or ended; the
/// kernel writes the pidfd before the child runs. Returns the pid.
///
/// # Errors
/// The OS error of cloning. `ENOSYS`: a kernel before 5.7, or a seccomp filter of a container.
/// `EACCES`: the group is not ours to write. `EBUSY`: the group has controllers for groups below
/// it. `EAGAIN`: its limit of processes.
///
/// # Safety
/// As for `clone` with `CLONE_VM | CLONE_VFORK`: every signal is blocked in this thread, and `entry`
/// may only do what is safe in such a child, on this stack, with this argument.
pub(super) unsafe fn clone_into(
    group: BorrowedFd<'_>,
    stack: &Stack,
    pidfd: &AtomicI32,
    entry: Entry,
    argument: *mut libc::c_void,
) -> io::Result<libc::pid_t> {
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64;
    let (lowest, size) = stack.range();
    let args = CloneArgs {
        flags: flags | CLONE_INTO_CGROUP,
        pidfd: pidfd.as_ptr() as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: lowest as u64,
        stack_size: size as u64,
        cgroup: group.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    // SAFETY: by the caller's promise; the struct has the size that is passed on.
    match unsafe { clone3(&args, entry, argument) } {
        error if error < 0 => Err(io::Error::from_raw_os_error(-error as i32)),
        pid => Ok(pid as libc::pid_t),
    }
}

/// The system call. In the parent it returns the pid or a negative errno; in the child it calls
/// `entry` and ends the child with its result.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(args: &CloneArgs, entry: Entry, argument: *mut libc::c_void) -> i64 {
    let returned: i64;
    // SAFETY: the kernel reads one struct at rdi, and preserves every register but rax, rcx and
    // r11. Parent and child share the memory, but the child returns from the call with rsp at the
    // top of its own stack, which is aligned to a page, as the call of a function requires. It never
    // leaves this block, and touches no frame of the parent.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit,
            inlateout("rax") libc::SYS_clone3 => returned,
            in("rdi") &raw const *args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") argument,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    returned
}

/// The same.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(args: &CloneArgs, entry: Entry, argument: *mut libc::c_void) -> i64 {
    let returned: i64;
    // SAFETY: as above: the kernel preserves every register but x0, and the child's sp is the top of
    // its own stack.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "mov x8, {exit}",
            "svc 0",
            "brk 1",
            "2:",
            exit = const libc::SYS_exit,
            in("x8") libc::SYS_clone3,
            inlateout("x0") &raw const *args => returned,
            in("x1") size_of::<CloneArgs>(),
            in("x20") argument,
            in("x21") entry,
            options(nostack),
        );
    }
    returned
}

/// No such instructions for this architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3(_: &CloneArgs, _: Entry, _: *mut libc::c_void) -> i64 {
    -i64::from(libc::ENOSYS)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::sync::atomic::Ordering;

    use nix::sys::signal::{SigSet, SigmaskHow};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::*;
    use crate::cgroup::Group;

    /// The result of a child that adds one to its argument.
    extern "C" fn add_one(argument: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the test passes a live number, and waits for this child.
        unsafe { *argument.cast::<i32>() += 1 };
        7
    }

    /// Runs `add_one` in a group.
    fn run_in(group: &Group) -> io::Result<(i32, WaitStatus)> {
        let stack = Stack::new().unwrap();
        let (pidfd, mut number) = (AtomicI32::new(-1), 41);
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap();
        let argument = (&raw mut number).cast();
        // SAFETY: the signals are blocked, and `add_one` touches only its argument.
        let pid = unsafe { clone_into(group.as_fd(), &stack, &pidfd, add_one, argument) };
        before.thread_set_mask().unwrap();
        let pid = pid?;
        // SAFETY: the kernel has opened it for this call.
        drop(unsafe { OwnedFd::from_raw_fd(pidfd.load(Ordering::Acquire)) });
        Ok((number, waitpid(Pid::from_raw(pid), None).unwrap()))
    }

    #[test]
    fn a_child_runs_in_the_group_on_its_own_stack() {
        let Some(test) = crate::cgroup::group::tests::TestGroup::new("clone") else { return };
        let (number, status) = run_in(test.group()).unwrap();
        assert_eq!(number, 42);
        assert!(matches!(status, WaitStatus::Exited(_, 7)), "{status:?}");
        let used = crate::cgroup::Usage::read(test.group()).cpu.unwrap();
        assert!(used.usage > 0, "the child was no member: {used:?}");
    }

    #[test]
    fn a_removed_group_is_an_error_of_the_clone() {
        let Some(test) = crate::cgroup::group::tests::TestGroup::new("gone") else { return };
        let gone = test.group().create("gone").unwrap();
        test.group().remove("gone").unwrap();
        assert_eq!(run_in(&gone).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
