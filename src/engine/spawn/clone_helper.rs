//! A process that clones children in our stead.
//!
//! The kernel sends a child the signal of its parent's death when the *thread* ends that is its parent: as threads of the pool do when they
//! are not needed any more, and every thread but the main one when the program replaces itself. So the main thread must be the parent, and it
//! has other things to do than to stand still for each child.
//!
//! A clone helper is a process that shares memory and descriptors with us, and is a child of the main thread; so its siblings are, and what
//! it clones can be made one. It becomes the main thread's child as an orphan: an intermediate process clones it and ends, and the kernel gives it to
//! the subreaper, which we are, and there to the first thread that lives. It takes [requests](super::helper_pool) until it is shut down, and does not
//! outlive us.
//!
//! Intermediate, helper and children run on the `errno` and the like of the thread that has made the helper, its owner: so that thread
//! does nothing but wait while one of them may be running. (Where somebody kills the helper just as its child's set-up ends, the child may tell
//! another errno.)

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

/// What a helper shares with us.
const SHARED: libc::c_int = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS;

/// What tells the helper that the intermediate has ended. Like every signal it is blocked there, and can be waited for.
const ORPHANED: libc::c_int = libc::SIGUSR1;

/// A child to be cloned. It stays where it is until its number is told.
pub(super) struct SpawnRequest {
    pub(super) plan: LaunchPlan,
    /// Whether some helper has begun it, or none may any more.
    pub(super) begun: AtomicBool,
    /// What came of cloning it: its pid, which the kernel writes as soon as it is sure that there is a child, or the negative errno; 0 before.
    pub(super) child: AtomicI32,
}

impl SpawnRequest {
    pub(super) fn new(plan: LaunchPlan) -> SpawnRequest {
        SpawnRequest { plan, begun: AtomicBool::new(false), child: AtomicI32::new(0) }
    }
}

/// What goes through the pipe of requests: one request, or none for the helper to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The request's number; [`SHUTDOWN`](Self::SHUTDOWN) has one that no request has.
    pub(super) number: u64,
    request: u64,
}

impl Message {
    /// Its bytes. No piece of a pipe's memory holds a part of one.
    pub(super) const SIZE: usize = 16;
    /// Whoever reads this ends.
    pub(super) const SHUTDOWN: Message = Message { number: u64::MAX, request: 0 };
    /// No request was taken.
    const NONE: Message = Message { number: 0, request: 0 };

    /// Asks for an request to be carried out, which must stay in place from now on.
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
    /// The request must not have been told of.
    unsafe fn request<'a>(self) -> Option<&'a SpawnRequest> {
        let request = std::ptr::with_exposed_provenance::<SpawnRequest>(self.request as usize);
        // SAFETY: the caller says that it is still there.
        unsafe { request.as_ref() }
    }
}

/// Where a message is read to.
///
/// In one page, so that it is there or not when the helper is killed meanwhile.
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

/// What a helper has left behind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HelperExit {
    /// It was shut down.
    Shutdown,
    /// Somebody has killed it, before it had taken any request.
    Idle,
    /// Somebody has killed it: this request it has carried out, and has perhaps not told of.
    Completed(u64),
    /// Somebody has killed it, and this request is still to be carried out. Whether it was its first.
    Interrupted {
        /// The request.
        message: Message,
        /// Whether it was the first that it had taken.
        first: bool,
    },
}

/// What a helper needs, and what it reports to its owner thread.
struct HelperShared {
    /// What the helper runs on, which the intermediate has done before it; and what its children run on, one at a time.
    stack: Stack,
    other_stack: Stack,
    /// Our pid, and the intermediate's.
    keeper: libc::pid_t,
    intermediate: AtomicI32,
    /// The helper's pid, which the kernel writes as soon as it is sure that there is a helper; 0 before. The errno where there is none.
    helper: AtomicI32,
    errno: AtomicI32,
    /// The kernel makes it 0 when the helper has ended.
    helper_in_memory: AtomicI32,
    /// Whether the helper has come to somebody else than the main thread.
    disowned: AtomicBool,
    /// Where requests come from, and where their numbers go when they are carried out.
    requests: RawFd,
    done: RawFd,
    /// The message that was read last.
    taken: Claimed,
    /// The number of the request that was carried out last.
    finished: AtomicU64,
    /// The kernel makes it 0 when the child has exec'd or ended.
    in_memory: AtomicI32,
}

/// Makes a helper, and waits until it ends; gives what it has left. The thread, in which every signal is blocked, must have nothing else to do.
///
/// # Errors
/// Why there was none: the OS error; `ECHILD` where this process is no subreaper.
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
    // SAFETY: this struct stays in place until this function returns, which is after intermediate, helper and child have left our memory. All
    // signals are blocked in this thread, so no handler runs in what it clones.
    let pid = unsafe { libc::clone(intermediate, shared.other_stack.top(), flags, argument) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // When it can be reaped it is rid of its child.
    reap(pid);
    let helper = shared.helper.load(Ordering::Acquire);
    if helper == 0 {
        return match shared.errno.load(Ordering::Acquire) {
            // Somebody has killed the intermediate.
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
    /// What a dead helper has left. A child that it had cloned goes on, in our memory, until it has exec'd or ended.
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
        // SAFETY: what has not finished is not told of.
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

/// Waits until a child has ended, and reaps it; one that is not ours is let be.
fn reap(pid: libc::pid_t) {
    let flags = WaitPidFlag::WEXITED;
    while let Err(Errno::EINTR) = waitid(Id::Pid(Pid::from_raw(pid)), flags) {}
}

/// Clones the helper and ends. The owner thread stands still meanwhile.
extern "C" fn intermediate(shared: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the owner thread passes its `HelperShared`, which outlives this process.
    let it = unsafe { &*shared.cast::<HelperShared>() };
    // SAFETY: getpid takes no pointer.
    it.intermediate.store(unsafe { libc::getpid() }, Ordering::Release);
    let flags = SHARED | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    // SAFETY: the helper's stack and the struct that it shares, to which the kernel writes, are dropped only once it is dead. No signal handler runs in it.
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

/// The helper's life. Like a child's set-up it allocates nothing, takes no lock and cannot panic.
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
    // SAFETY: as for the intermediate.
    unsafe { libc::_exit(0) }
}

impl HelperShared {
    /// Waits for the next request, which goes straight to where it can be found if this process is killed; none to end.
    fn take(&self) -> Option<(&SpawnRequest, u64)> {
        let words = (&raw const self.taken).cast_mut();
        // SAFETY: the kernel writes as many bytes as there are, to memory made of atomics.
        let read = unsafe { libc::syscall(libc::SYS_read, self.requests, words, Message::SIZE) };
        if read != Message::SIZE as libc::c_long {
            return None;
        }
        let message = self.taken.message();
        // SAFETY: it was not carried out, so it is not told of.
        unsafe { message.request() }.map(|request| (request, message.number))
    }

    /// Clones a child, and waits until it has exec'd or ended.
    fn carry_out(&self, request: &SpawnRequest) {
        // Not with a pidfd: the kernel writes its number before it is sure that there will be a child, and then gives it to others, so that
        // whoever sees to what this process leaves behind could not tell. The score for the OOM killer can be set for the child alone only while somebody waits for it as vfork does.
        let flags = libc::CLONE_VM
            | libc::CLONE_VFORK
            | libc::CLONE_PARENT
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID
            | libc::SIGCHLD;
        self.in_memory.store(1, Ordering::Release);
        // SAFETY: the request stays in place until it is told of, and the stack as long as this process or its child lives. The
        // kernel writes the pid into the request, and 0 into the shared struct.
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

/// Waits until this process is a child of ours, and has it killed when we die; gives whether it is one.
fn bind_lifetime_to_parent(shared: &HelperShared) -> bool {
    let intermediate = shared.intermediate.load(Ordering::Acquire);
    // SAFETY: the kernel reads a set of 8 bytes, which lives here; no other call takes a pointer, and all concern this process alone.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, ORPHANED as libc::c_ulong);
        // Where it has ended before, nobody tells.
        while libc::getppid() == intermediate {
            let set = 1u64 << (ORPHANED - 1);
            let none = std::ptr::null_mut::<libc::c_void>();
            libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, none, none, size_of_val(&set));
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
        libc::getppid() == shared.keeper
    }
}

/// Waits until the kernel has made a word 0, which it does as it clears a child's TID.
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
