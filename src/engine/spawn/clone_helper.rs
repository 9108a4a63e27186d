//! A process that clones children on behalf of this one.
//!
//! The kernel sends a child its parent-death signal when the parent *thread* ends. Threads of the
//! pool end when they are idle, and all threads but the main one end when the program replaces
//! itself. So the main thread must be the parent, but it cannot block for each child.
//!
//! A clone helper is a process that shares memory and descriptors with us, and is a child of the
//! main thread. So it can make its own children siblings, which have the same parent. The helper
//! becomes the main thread's child as an orphan: an intermediate process clones it and ends, and
//! the kernel gives it to the subreaper, which is this process, and there to the first live thread.
//! It serves [requests](super::helper_pool) until it is shut down, and does not outlive us.
//!
//! Intermediate, helper and children use the thread-local data, such as `errno`, of the thread that
//! made the helper, its owner: so the owner only waits while one of them may be running. (If a
//! process kills the helper just as its child's set-up ends, the child may report a wrong errno.)

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::engine::child;
use crate::engine::failpoints::{self, Call};
use crate::engine::plan::LaunchPlan;
use crate::engine::sys::Stack;

/// The resources that a helper shares with us.
const SHARED: libc::c_int = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS;

/// The signal that notifies the helper of the intermediate's end. It is blocked in the helper,
/// which waits for it.
const ORPHANED: libc::c_int = libc::SIGUSR1;

/// A request to clone a child. Its address stays the same until its number is reported.
pub(super) struct SpawnRequest {
    pub(super) plan: LaunchPlan,
    /// Whether a helper has begun it, or none may begin it any more.
    pub(super) begun: AtomicBool,
    /// The result of cloning: the pid, which the kernel writes as soon as there is a child, or the
    /// negative errno; 0 before.
    pub(super) child: AtomicI32,
}

impl SpawnRequest {
    pub(super) fn new(plan: LaunchPlan) -> SpawnRequest {
        SpawnRequest { plan, begun: AtomicBool::new(false), child: AtomicI32::new(0) }
    }
}

/// A message in the pipe of requests: one request, or none to shut a helper down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The request's number; [`SHUTDOWN`](Self::SHUTDOWN) has one that no request has.
    pub(super) number: u64,
    request: u64,
}

impl Message {
    /// Size in bytes. It divides the size of a pipe's buffers, so none holds half a message.
    pub(super) const SIZE: usize = 16;
    /// Shuts down the helper that reads it.
    pub(super) const SHUTDOWN: Message = Message { number: u64::MAX, request: 0 };
    /// No message was read.
    const NONE: Message = Message { number: 0, request: 0 };

    /// A message for a request, which must stay in place from now on.
    pub(super) fn of(request: &SpawnRequest, number: u64) -> Message {
        Message { number, request: (&raw const *request).expose_provenance() as u64 }
    }

    pub(super) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (number, request) = bytes.split_at_mut(8);
        number.copy_from_slice(&self.number.to_ne_bytes());
        request.copy_from_slice(&self.request.to_ne_bytes());
        bytes
    }

    /// # Safety
    /// The completion of the request must not have been reported.
    unsafe fn request<'a>(self) -> Option<&'a SpawnRequest> {
        let request = std::ptr::with_exposed_provenance::<SpawnRequest>(self.request as usize);
        // SAFETY: by the caller's promise, the request is still there.
        unsafe { request.as_ref() }
    }
}

/// The buffer for a message.
///
/// It is within one page, so that it is written whole or not at all if the helper is killed
/// meanwhile.
#[derive(Default)]
#[repr(C, align(16))]
struct Claimed {
    number: AtomicU64,
    request: AtomicU64,
}

impl Claimed {
    fn message(&self) -> Message {
        let [number, request] =
            [&self.number, &self.request].map(|word| word.load(Ordering::Acquire));
        Message { number, request }
    }
}

/// The state that a dead helper has left.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HelperExit {
    /// It was shut down.
    Shutdown,
    /// It was killed before its first request.
    Idle,
    /// It was killed after it completed this request, but may not have reported that.
    Completed(u64),
    /// It was killed, and this request is still to be carried out.
    Interrupted {
        /// The request.
        message: Message,
        /// Whether this was the helper's first request.
        first: bool,
    },
}

/// The memory that a helper and its owner thread share.
struct HelperShared {
    /// The stack of the helper, and of the intermediate before it; and the one of the helper's
    /// children, one at a time.
    stack: Stack,
    other_stack: Stack,
    /// Our pid, and the intermediate's.
    keeper: libc::pid_t,
    intermediate: AtomicI32,
    /// The helper's pid, which the kernel writes as soon as there is a helper; 0 before. `errno` is
    /// set if the helper could not be made.
    helper: AtomicI32,
    errno: AtomicI32,
    /// The kernel zeroes it when the helper has ended.
    helper_in_memory: AtomicI32,
    /// Whether the helper has got another parent than the main thread.
    disowned: AtomicBool,
    /// The pipe of requests, and the pipe for the numbers of completed ones.
    requests: RawFd,
    done: RawFd,
    /// The last message that was read.
    taken: Claimed,
    /// The number of the last completed request.
    finished: AtomicU64,
    /// The kernel zeroes it when the child has exec'd or ended.
    in_memory: AtomicI32,
}

/// Makes a helper, and waits until it ends; returns its final state. In the calling thread every
/// signal must be blocked.
///
/// # Errors
/// The OS error of making the helper; `ECHILD` if this process is no subreaper.
pub(super) fn run_to_exit(
    requests: BorrowedFd<'_>,
    done: BorrowedFd<'_>,
) -> io::Result<HelperExit> {
    failpoints::check(Call::CloneHelper)?;
    let shared = HelperShared {
        stack: Stack::new()?,
        other_stack: Stack::new()?,
        keeper: std::process::id().cast_signed(),
        intermediate: AtomicI32::new(0),
        helper: AtomicI32::new(0),
        errno: AtomicI32::new(0),
        helper_in_memory: AtomicI32::new(1),
        disowned: AtomicBool::new(false),
        requests: requests.as_raw_fd(),
        done: done.as_raw_fd(),
        taken: Claimed::default(),
        finished: AtomicU64::new(0),
        in_memory: AtomicI32::new(0),
    };
    let argument = (&raw const shared).cast_mut().cast();
    let flags = SHARED | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: this struct stays in place until this function returns, after intermediate, helper
    // and child have left our memory. All signals are blocked in this thread, so no handler runs in
    // its clones.
    let pid = unsafe { libc::clone(intermediate, shared.other_stack.top(), flags, argument) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // Once the intermediate can be reaped, the helper has left it.
    reap(pid);
    let helper = shared.helper.load(Ordering::Acquire);
    if helper == 0 {
        return match shared.errno.load(Ordering::Acquire) {
            // The intermediate was killed.
            0 => Ok(HelperExit::Idle),
            errno => Err(io::Error::from_raw_os_error(errno)),
        };
    }
    wait_for_zero(&shared.helper_in_memory);
    reap(helper);
    if shared.disowned.load(Ordering::Acquire) {
        return Err(io::Error::from_raw_os_error(libc::ECHILD));
    }
    Ok(shared.exit())
}

impl HelperShared {
    /// The final state of a dead helper. A child of the helper may still run in our memory, until
    /// it has exec'd or ended.
    fn exit(&self) -> HelperExit {
        let message = self.taken.message();
        let finished = self.finished.load(Ordering::Acquire);
        let number = message.number;
        match message {
            Message::SHUTDOWN => return HelperExit::Shutdown,
            Message::NONE => return HelperExit::Idle,
            _ if number == finished => return HelperExit::Completed(number),
            _ => {}
        }
        // SAFETY: the request is not completed, so it was not reported.
        let Some(request) = (unsafe { message.request() }) else { return HelperExit::Idle };
        let child = request.child.load(Ordering::Acquire);
        if child == 0 {
            return HelperExit::Interrupted { message, first: finished == 0 };
        }
        if child > 0 {
            wait_for_zero(&self.in_memory);
        }
        HelperExit::Completed(number)
    }
}

/// Waits until a child has ended, and reaps it; ignores processes that are not our children.
fn reap(pid: libc::pid_t) {
    let flags = WaitPidFlag::WEXITED;
    while let Err(Errno::EINTR) = waitid(Id::Pid(Pid::from_raw(pid)), flags) {}
}

/// Clones the helper and ends. The owner thread waits meanwhile.
extern "C" fn intermediate(shared: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the owner thread passes its `HelperShared`, which outlives this process.
    let it = unsafe { &*shared.cast::<HelperShared>() };
    // SAFETY: getpid takes no pointer.
    it.intermediate.store(unsafe { libc::getpid() }, Ordering::Release);
    let flags = SHARED | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    // SAFETY: the helper's stack and the shared struct, to which the kernel writes, are dropped
    // only after its death. No signal handler runs in it.
    let pid = unsafe {
        libc::clone(
            helper,
            it.stack.top(),
            flags,
            shared,
            it.helper.as_ptr(),
            std::ptr::null_mut::<libc::c_void>(),
            it.helper_in_memory.as_ptr(),
        )
    };
    if pid < 0 {
        it.errno.store(child::errno(), Ordering::Release);
    }
    // SAFETY: ends only this process; no destructor or exit handler of ours may run in it.
    unsafe { libc::_exit(0) }
}

/// The main function of a helper. Like a child's set-up it allocates nothing, takes no lock and
/// cannot panic.
extern "C" fn helper(shared: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the struct is dropped only once this process is dead.
    let shared = unsafe { &*shared.cast::<HelperShared>() };
    if bind_lifetime_to_parent(shared) {
        while let Some((request, number)) = shared.take() {
            if !request.begun.swap(true, Ordering::AcqRel) {
                shared.carry_out(request);
            }
            shared.finished.store(number, Ordering::Release);
            // SAFETY: the kernel reads the number.
            unsafe {
                libc::syscall(libc::SYS_write, shared.done, &raw const number, size_of_val(&number))
            };
        }
    } else {
        shared.disowned.store(true, Ordering::Release);
    }
    // SAFETY: the call ends only this process; no destructor or exit handler of ours may run in it.
    unsafe { libc::_exit(0) }
}

impl HelperShared {
    /// Waits for the next request; `None` is a shutdown. The message is read directly into the
    /// shared memory, where the owner finds it if this process is killed.
    fn take(&self) -> Option<(&SpawnRequest, u64)> {
        let words = (&raw const self.taken).cast_mut();
        // SAFETY: the kernel writes at most the buffer's length, to memory made of atomics.
        let read = unsafe { libc::syscall(libc::SYS_read, self.requests, words, Message::SIZE) };
        if read != Message::SIZE as libc::c_long {
            return None;
        }
        let message = self.taken.message();
        // SAFETY: the request is not completed, so it was not reported.
        unsafe { message.request() }.map(|request| (request, message.number))
    }

    /// Clones a child, and waits until it has exec'd or ended.
    fn carry_out(&self, request: &SpawnRequest) {
        // Without a pidfd: the kernel writes its number before it is sure of the child, and then
        // reuses the number, so the owner of a killed helper could not rely on it. And the OOM
        // score of the child alone can be set only while its parent waits as in vfork.
        let flags = libc::CLONE_VM
            | libc::CLONE_VFORK
            | libc::CLONE_PARENT
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID
            | libc::SIGCHLD;
        self.in_memory.store(1, Ordering::Release);
        // SAFETY: the request stays in place until it is reported, and the stack as long as this
        // process or its child lives. The kernel writes the pid into the request, and 0 into the
        // shared struct.
        let pid = unsafe {
            libc::clone(
                child::main,
                self.other_stack.top(),
                flags,
                (&raw const request.plan).cast_mut().cast::<libc::c_void>(),
                request.child.as_ptr(),
                std::ptr::null_mut::<libc::c_void>(),
                self.in_memory.as_ptr(),
            )
        };
        if pid < 0 {
            request.child.store(-child::errno(), Ordering::Release);
        }
    }
}

/// Waits until this process is our child, and asks to be killed when we die; returns whether it is
/// our child.
fn bind_lifetime_to_parent(shared: &HelperShared) -> bool {
    let intermediate = shared.intermediate.load(Ordering::Acquire);
    // SAFETY: the kernel reads a set of 8 bytes, which lives here; no other call takes a pointer,
    // and all concern this process alone.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, ORPHANED as libc::c_ulong);
        // If the intermediate ended before, there was no signal: poll.
        while libc::getppid() == intermediate {
            let set = 1u64 << (ORPHANED - 1);
            let none = std::ptr::null_mut::<libc::c_void>();
            libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, none, none, size_of_val(&set));
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
        libc::getppid() == shared.keeper
    }
}

/// Waits until the kernel zeroes a word, as it does when it clears a child's TID.
fn wait_for_zero(word: &AtomicI32) {
    let none = std::ptr::null_mut::<libc::c_void>();
    loop {
        let now = word.load(Ordering::Acquire);
        if now == 0 {
            return;
        }
        // SAFETY: the kernel only compares the word, which is alive.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, now, none) };
    }
}
