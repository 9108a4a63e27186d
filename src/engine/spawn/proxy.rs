//! A process that clones children in our stead.
//!
//! The kernel sends a child the signal of its parent's death when the *thread* ends that is its parent: as threads of the pool do when they
//! are not needed any more, and every thread but the main one when the program replaces itself. So the main thread must be the parent, and it
//! has other things to do than to stand still for each child.
//!
//! A proxy is a process that shares memory and descriptors with us, and is a child of the main thread; so its siblings are, and what
//! it clones can be made one. It becomes the main thread's child as an orphan: a go-between clones it and ends, and the kernel gives it to
//! the subreaper, which we are, and there to the first thread that lives. It takes [orders](super::orders) until it is dismissed, and does not
//! outlive us.
//!
//! Go-between, proxy and children run on the `errno` and the like of the thread that has made the proxy, its guardian: so that thread
//! does nothing but wait while one of them may be running. (Where somebody kills the proxy just as its child's set-up ends, the child may tell
//! another errno.)

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::engine::child;
use crate::engine::faults::{self, Call};
use crate::engine::plan::LaunchPlan;
use crate::engine::sys::Stack;

/// What a proxy shares with us.
const SHARED: libc::c_int = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS;

/// What tells the proxy that the go-between has ended. Like every signal it is blocked there, and can be waited for.
const ORPHANED: libc::c_int = libc::SIGUSR1;

/// A child to be cloned. It stays where it is until its number is told.
pub(super) struct Order {
    pub(super) plan: LaunchPlan,
    /// Whether some proxy has begun it, or none may any more.
    pub(super) begun: AtomicBool,
    /// What came of cloning it: its pid, which the kernel writes as soon as it is sure that there is a child, or the negative errno; 0 before.
    pub(super) child: AtomicI32,
}

impl Order {
    pub(super) fn new(plan: LaunchPlan) -> Order {
        Order { plan, begun: AtomicBool::new(false), child: AtomicI32::new(0) }
    }
}

/// What goes through the pipe of orders: one order, or none for the proxy to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The order's number; [`DISMISSED`](Self::DISMISSED) has one that no order has.
    pub(super) number: u64,
    order: u64,
}

impl Message {
    /// Its bytes. No piece of a pipe's memory holds a part of one.
    pub(super) const SIZE: usize = 16;
    /// Whoever reads this ends.
    pub(super) const DISMISSED: Message = Message { number: u64::MAX, order: 0 };
    /// No order was taken.
    const NONE: Message = Message { number: 0, order: 0 };

    /// Asks for an order to be carried out, which must stay in place from now on.
    pub(super) fn of(order: &Order, number: u64) -> Message {
        Message { number, order: (&raw const *order).expose_provenance() as u64 }
    }

    pub(super) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (number, order) = bytes.split_at_mut(8);
        number.copy_from_slice(&self.number.to_ne_bytes());
        order.copy_from_slice(&self.order.to_ne_bytes());
        bytes
    }

    /// # Safety
    /// The order must not have been told of.
    unsafe fn order<'a>(self) -> Option<&'a Order> {
        let order = std::ptr::with_exposed_provenance::<Order>(self.order as usize);
        // SAFETY: the caller says that it is still there.
        unsafe { order.as_ref() }
    }
}

/// Where a message is read to.
///
/// In one page, so that it is there or not when the proxy is killed meanwhile.
#[derive(Default)]
#[repr(C, align(16))]
struct Taken {
    number: AtomicU64,
    order: AtomicU64,
}

impl Taken {
    fn message(&self) -> Message {
        let [number, order] = [&self.number, &self.order].map(|word| word.load(Ordering::Acquire));
        Message { number, order }
    }
}

/// What a proxy has left behind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It was dismissed.
    Dismissed,
    /// Somebody has killed it, before it had taken any order.
    Untouched,
    /// Somebody has killed it: this order it has carried out, and has perhaps not told of.
    Done(u64),
    /// Somebody has killed it, and this order is still to be carried out. Whether it was its first.
    Undone {
        /// The order.
        message: Message,
        /// Whether it was the first that it had taken.
        first: bool,
    },
}

/// What a proxy needs, and what it tells its guardian.
struct Desk {
    /// What the proxy runs on, which the go-between has done before it; and what its children run on, one at a time.
    stack: Stack,
    other_stack: Stack,
    /// Our pid, and the go-between's.
    keeper: libc::pid_t,
    go_between: AtomicI32,
    /// The proxy's pid, which the kernel writes as soon as it is sure that there is a proxy; 0 before. The errno where there is none.
    proxy: AtomicI32,
    errno: AtomicI32,
    /// The kernel makes it 0 when the proxy has ended.
    proxy_in_memory: AtomicI32,
    /// Whether the proxy has come to somebody else than the main thread.
    disowned: AtomicBool,
    /// Where orders come from, and where their numbers go when they are carried out.
    orders: RawFd,
    done: RawFd,
    /// The message that was read last.
    taken: Taken,
    /// The number of the order that was carried out last.
    finished: AtomicU64,
    /// The kernel makes it 0 when the child has exec'd or ended.
    in_memory: AtomicI32,
}

/// Makes a proxy, and waits until it ends; gives what it has left. The thread, in which every signal is blocked, must have nothing else to do.
///
/// # Errors
/// Why there was none: the OS error; `ECHILD` where this process is no subreaper.
pub(super) fn make_and_outlive(orders: BorrowedFd<'_>, done: BorrowedFd<'_>) -> io::Result<Left> {
    faults::pass(Call::Proxy)?;
    let desk = Desk {
        stack: Stack::new()?,
        other_stack: Stack::new()?,
        keeper: std::process::id().cast_signed(),
        go_between: AtomicI32::new(0),
        proxy: AtomicI32::new(0),
        errno: AtomicI32::new(0),
        proxy_in_memory: AtomicI32::new(1),
        disowned: AtomicBool::new(false),
        orders: orders.as_raw_fd(),
        done: done.as_raw_fd(),
        taken: Taken::default(),
        finished: AtomicU64::new(0),
        in_memory: AtomicI32::new(0),
    };
    let argument = (&raw const desk).cast_mut().cast();
    let flags = SHARED | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the desk stays in place until this function returns, which is after go-between, proxy and child have left our memory. All
    // signals are blocked in this thread, so no handler runs in what it clones.
    let pid = unsafe { libc::clone(go_between, desk.other_stack.top(), flags, argument) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // When it can be reaped it is rid of its child.
    reap(pid);
    let proxy = desk.proxy.load(Ordering::Acquire);
    if proxy == 0 {
        return match desk.errno.load(Ordering::Acquire) {
            // Somebody has killed the go-between.
            0 => Ok(Left::Untouched),
            errno => Err(io::Error::from_raw_os_error(errno)),
        };
    }
    wait_for_zero(&desk.proxy_in_memory);
    reap(proxy);
    if desk.disowned.load(Ordering::Acquire) {
        return Err(io::Error::from_raw_os_error(libc::ECHILD));
    }
    Ok(desk.what_is_left())
}

impl Desk {
    /// What a dead proxy has left. A child that it had cloned goes on, in our memory, until it has exec'd or ended.
    fn what_is_left(&self) -> Left {
        let message = self.taken.message();
        let finished = self.finished.load(Ordering::Acquire);
        let number = message.number;
        match message {
            Message::DISMISSED => return Left::Dismissed,
            Message::NONE => return Left::Untouched,
            _ if number == finished => return Left::Done(number),
            _ => {}
        }
        // SAFETY: what has not finished is not told of.
        let Some(order) = (unsafe { message.order() }) else { return Left::Untouched };
        let child = order.child.load(Ordering::Acquire);
        if child == 0 {
            return Left::Undone { message, first: finished == 0 };
        }
        if child > 0 {
            wait_for_zero(&self.in_memory);
        }
        Left::Done(number)
    }
}

/// Waits until a child has ended, and reaps it; one that is not ours is let be.
fn reap(pid: libc::pid_t) {
    let flags = WaitPidFlag::WEXITED;
    while let Err(Errno::EINTR) = waitid(Id::Pid(Pid::from_raw(pid)), flags) {}
}

/// Clones the proxy and ends. The guardian stands still meanwhile.
extern "C" fn go_between(desk: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the guardian passes its desk, which outlives this process.
    let it = unsafe { &*desk.cast::<Desk>() };
    // SAFETY: a plain system call.
    it.go_between.store(unsafe { libc::getpid() }, Ordering::Release);
    let flags = SHARED | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    // SAFETY: the proxy's stack and desk, to which the kernel writes, are dropped only once it is dead. No signal handler runs in it.
    let pid = unsafe {
        libc::clone(
            proxy,
            it.stack.top(),
            flags,
            desk,
            it.proxy.as_ptr(),
            std::ptr::null_mut::<libc::c_void>(),
            it.proxy_in_memory.as_ptr(),
        )
    };
    if pid < 0 {
        it.errno.store(child::errno(), Ordering::Release);
    }
    // SAFETY: ends only this process; no destructor or exit handler of ours may run in it.
    unsafe { libc::_exit(0) }
}

/// The proxy's life. Like a child's set-up it allocates nothing, takes no lock and cannot panic.
extern "C" fn proxy(desk: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the desk is dropped only once this process is dead.
    let desk = unsafe { &*desk.cast::<Desk>() };
    if live_and_die_with_us(desk) {
        while let Some((order, number)) = desk.take() {
            if !order.begun.swap(true, Ordering::AcqRel) {
                desk.carry_out(order);
            }
            desk.finished.store(number, Ordering::Release);
            // SAFETY: the kernel reads the number.
            unsafe {
                libc::syscall(libc::SYS_write, desk.done, &raw const number, size_of_val(&number))
            };
        }
    } else {
        desk.disowned.store(true, Ordering::Release);
    }
    // SAFETY: as for the go-between.
    unsafe { libc::_exit(0) }
}

impl Desk {
    /// Waits for the next order, which goes straight to where it can be found if this process is killed; none to end.
    fn take(&self) -> Option<(&Order, u64)> {
        let words = (&raw const self.taken).cast_mut();
        // SAFETY: the kernel writes as many bytes as there are, to memory made of atomics.
        let read = unsafe { libc::syscall(libc::SYS_read, self.orders, words, Message::SIZE) };
        if read != Message::SIZE as libc::c_long {
            return None;
        }
        let message = self.taken.message();
        // SAFETY: it was not carried out, so it is not told of.
        unsafe { message.order() }.map(|order| (order, message.number))
    }

    /// Clones a child, and waits until it has exec'd or ended.
    fn carry_out(&self, order: &Order) {
        // Not with a pidfd: the kernel writes its number before it is sure that there will be a child, and then gives it to others, so that
        // whoever sees to what this process leaves behind could not tell. The score for the OOM killer can be set for the child alone only while somebody waits for it as vfork does.
        let flags = libc::CLONE_VM
            | libc::CLONE_VFORK
            | libc::CLONE_PARENT
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID
            | libc::SIGCHLD;
        self.in_memory.store(1, Ordering::Release);
        // SAFETY: the order stays in place until it is told of, and the stack as long as this process or its child lives. The
        // kernel writes the pid into the order, and 0 into the desk.
        let pid = unsafe {
            libc::clone(
                child::main,
                self.other_stack.top(),
                flags,
                (&raw const order.plan).cast_mut().cast::<libc::c_void>(),
                order.child.as_ptr(),
                std::ptr::null_mut::<libc::c_void>(),
                self.in_memory.as_ptr(),
            )
        };
        if pid < 0 {
            order.child.store(-child::errno(), Ordering::Release);
        }
    }
}

/// Waits until this process is a child of ours, and has it killed when we die; gives whether it is one.
fn live_and_die_with_us(desk: &Desk) -> bool {
    let go_between = desk.go_between.load(Ordering::Acquire);
    // SAFETY: plain system calls; the kernel reads a set of 8 bytes.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, ORPHANED as libc::c_ulong);
        // Where it has ended before, nobody tells.
        while libc::getppid() == go_between {
            let set = 1u64 << (ORPHANED - 1);
            let none = std::ptr::null_mut::<libc::c_void>();
            libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, none, none, size_of_val(&set));
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
        libc::getppid() == desk.keeper
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
