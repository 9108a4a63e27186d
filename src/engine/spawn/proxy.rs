//! A process that clones children in the stead of a thread.
//!
//! The kernel sends a child the signal of its parent's death when the *thread* ends that is its parent: as threads of the pool do when they
//! are not needed any more, and every thread but the main one when the program replaces itself. So the main thread must be the parent, and it
//! has other things to do than to stand still for each child.
//!
//! A proxy is a process that shares memory and descriptors with us, and is a child of the main thread; so its siblings are, and what
//! it clones can be made one. It becomes the main thread's child as an orphan: a go-between clones it and ends, and the kernel gives it to
//! the subreaper, which we are, and there to the first thread that lives. Each thread that has to do with such children has a proxy of its own,
//! from the first of them on until the thread ends, or the program is about to replace itself. A proxy does not outlive us.
//!
//! Go-between, proxy and child run on the thread's own `errno` and the like, as every child that shares our memory does. So while one of them
//! may be running, the thread makes no call but raw ones that cannot fail; and while the thread runs, so does its proxy.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, pipe2};

use super::super::child;
use super::super::faults::{self, Call};
use super::super::plan::LaunchPlan;
use super::super::sys::{self, Stack};
use super::Child;

/// What a proxy shares with us.
const SHARED: libc::c_int = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS;

/// What tells the proxy that the go-between has ended. Like every signal it is blocked there, and can be waited for.
const ORPHANED: libc::c_int = libc::SIGUSR1;

/// A process that waits to clone the next child for one thread, the one that has made it. Dropping it ends it.
pub(super) struct Proxy {
    desk: Arc<Desk>,
}

/// Why a proxy has cloned no child.
pub(super) enum NotCloned {
    /// The kernel's reason.
    Refused(io::Error),
    /// The proxy is dead, by no deed of ours.
    Dead,
}

/// What a thread and its proxy tell each other.
pub(super) struct Desk {
    /// What the proxy runs on. The go-between and the children run on the thread's.
    stack: Stack,
    /// Our pid, and the go-between's.
    keeper: libc::pid_t,
    go_between: AtomicI32,
    /// What came of cloning the proxy: 0, or the errno; and its pidfd.
    made: AtomicI32,
    pidfd: AtomicI32,
    /// Whether somebody has killed it.
    dead: AtomicBool,
    /// Wakes the proxy: there is a child to be cloned.
    wanted: Bell,
    plan: AtomicPtr<LaunchPlan>,
    child_stack: AtomicPtr<libc::c_void>,
    /// Wakes the thread: the proxy is ready for orders, or what it has cloned has exec'd or ended.
    done: Bell,
    /// What came of cloning the child: its pid, or the negative errno.
    child: AtomicI32,
    /// The kernel makes it 0 when the child has exec'd or ended.
    in_memory: AtomicI32,
}

impl Proxy {
    /// Makes a proxy for this thread, in which every signal is blocked.
    ///
    /// # Errors
    /// The OS error; `ECHILD` where this process is no subreaper.
    pub(super) fn new(stack: &Stack) -> io::Result<Proxy> {
        faults::pass(Call::Proxy)?;
        let desk = Arc::new(Desk {
            stack: Stack::new()?,
            keeper: std::process::id().cast_signed(),
            go_between: AtomicI32::new(0),
            made: AtomicI32::new(libc::ECHILD),
            pidfd: AtomicI32::new(-1),
            dead: AtomicBool::new(false),
            wanted: Bell::new()?,
            plan: AtomicPtr::default(),
            child_stack: AtomicPtr::default(),
            done: Bell::new()?,
            child: AtomicI32::new(0),
            in_memory: AtomicI32::new(0),
        });
        let argument = Arc::as_ptr(&desk).cast_mut().cast();
        let flags = SHARED | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: CLONE_VFORK keeps this thread, and so the stack and the desk, in place until the go-between has ended. All
        // signals are blocked in this thread, so no handler runs in what it clones.
        let pid = unsafe { libc::clone(go_between, stack.top(), flags, argument) };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        // When it can be reaped it has been rid of its child.
        let reaped = waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED);
        let errno = desk.made.load(Ordering::Acquire);
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let proxy = Proxy { desk };
        reaped?;
        // Nobody else looks after it yet.
        let [ready, _] = wait_for_either([proxy.desk.done.reader.as_raw_fd(), proxy.pidfd()]);
        if !ready {
            return Err(io::Error::from_raw_os_error(libc::ECHILD));
        }
        proxy.desk.done.hear();
        Ok(proxy)
    }

    /// By which to see whether it [lives](Desk::see_whether_it_lives).
    pub(super) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    fn pidfd(&self) -> RawFd {
        self.desk.pidfd.load(Ordering::Acquire)
    }

    /// Clones a child, and waits until it has exec'd or ended. To be called by the thread that has made the proxy.
    ///
    /// # Errors
    /// Why there is no child.
    pub(super) fn clone_child(&self, plan: &LaunchPlan, stack: &Stack) -> Result<Child, NotCloned> {
        faults::pass(Call::Clone).map_err(NotCloned::Refused)?;
        let desk = &self.desk;
        if desk.dead.load(Ordering::Acquire) {
            return Err(NotCloned::Dead);
        }
        desk.plan.store((&raw const *plan).cast_mut(), Ordering::Relaxed);
        desk.child_stack.store(stack.top(), Ordering::Relaxed);
        desk.in_memory.store(1, Ordering::Relaxed);
        desk.wanted.ring();
        desk.done.hear();
        if desk.dead.load(Ordering::Acquire) {
            return self.after_death(plan);
        }
        match desk.child.load(Ordering::Acquire) {
            pid if pid > 0 => Ok(Child::of(pid, plan)),
            errno => Err(NotCloned::Refused(io::Error::from_raw_os_error(-errno))),
        }
    }

    /// Somebody has killed the proxy, with an order to clone. A child that it had cloned goes on, in our memory.
    fn after_death(&self, plan: &LaunchPlan) -> Result<Child, NotCloned> {
        let pid = || plan.report.pid().load(Ordering::Acquire);
        let pidfd = plan.report.pidfd().load(Ordering::Acquire);
        // The number is written before it is sure that there will be a child.
        if pidfd < 0 || (pid() == 0 && has_ended(pidfd).is_none()) {
            return Err(NotCloned::Dead);
        }
        wait_for_zero(&self.desk.in_memory);
        match pid() {
            // Killed before it could do anything.
            0 => {
                let _ = waitid(Id::PIDFd(Child::of(0, plan).pidfd.as_fd()), WaitPidFlag::WEXITED);
                Err(NotCloned::Dead)
            }
            pid => Ok(Child::of(pid, plan)),
        }
    }
}

impl Desk {
    /// Wakes the thread if its proxy is dead, which else would wait for ever. To be called when some child of ours has ended, while the proxy is there.
    pub(super) fn see_whether_it_lives(&self) {
        let ended = has_ended(self.pidfd.load(Ordering::Acquire)) == Some(true);
        if ended && !self.dead.swap(true, Ordering::AcqRel) {
            self.done.ring();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // SAFETY: the kernel has made this descriptor for us as it cloned the proxy, and others only borrow it by its desk.
        let pidfd = unsafe { OwnedFd::from_raw_fd(self.pidfd()) };
        // A dead one that was not reaped can be signaled, too.
        let _ = sys::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL);
        while let Err(Errno::EINTR) = waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED) {}
    }
}

/// Whether a child of ours has ended that was not reaped; none where the number is not that of a descriptor of a child.
fn has_ended(pidfd: RawFd) -> Option<bool> {
    // SAFETY: an all-zero siginfo is a valid value of that plain C struct.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel writes one siginfo, of a child's end, if it has ended.
    unsafe {
        let told = libc::waitid(libc::P_PIDFD, pidfd.cast_unsigned(), &raw mut info, flags);
        (told == 0).then(|| info.si_pid() != 0)
    }
}

/// Clones the proxy and ends. Runs on the thread's stack, while the thread stands still.
extern "C" fn go_between(desk: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the thread passes its desk, which outlives this process.
    let it = unsafe { &*desk.cast::<Desk>() };
    // SAFETY: a plain system call.
    it.go_between.store(unsafe { libc::getpid() }, Ordering::Release);
    let flags = SHARED | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the proxy's stack and desk are dropped only once it is dead. No signal handler runs in it.
    let pid = unsafe { libc::clone(proxy, it.stack.top(), flags, desk, it.pidfd.as_ptr()) };
    it.made.store(if pid < 0 { child::errno() } else { 0 }, Ordering::Release);
    // SAFETY: ends only this process; no destructor or exit handler of ours may run in it.
    unsafe { libc::_exit(0) }
}

/// The proxy's life. Like a child's set-up it allocates nothing, takes no lock and cannot panic.
extern "C" fn proxy(desk: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the desk is dropped only once this process is dead.
    let desk = unsafe { &*desk.cast::<Desk>() };
    if !live_and_die_with_us(desk) {
        // SAFETY: as for the go-between.
        unsafe { libc::_exit(1) };
    }
    loop {
        desk.done.ring();
        desk.wanted.hear();
        let plan = desk.plan.load(Ordering::Relaxed);
        let stack = desk.child_stack.load(Ordering::Relaxed);
        // The score for the OOM killer can be set for the child alone only while somebody waits for it as vfork does.
        let flags = libc::CLONE_VM
            | libc::CLONE_VFORK
            | libc::CLONE_PARENT
            | libc::CLONE_PIDFD
            | libc::CLONE_CHILD_CLEARTID
            | libc::SIGCHLD;
        // SAFETY: the thread keeps the plan and its own stack in place until the child has exec'd or ended, and stands still.
        // The kernel writes the pidfd into the report, and 0 into the desk, both of which last longer.
        let pid = unsafe {
            let pidfd = (*plan).report.pidfd().as_ptr();
            let none = std::ptr::null_mut::<libc::c_void>();
            libc::clone(
                child::main,
                stack,
                flags,
                plan.cast(),
                pidfd,
                none,
                desk.in_memory.as_ptr(),
            )
        };
        desk.child.store(if pid < 0 { -child::errno() } else { pid }, Ordering::Release);
    }
}

/// Waits until this process is a child of ours, and has it killed when we die; gives whether it is one.
fn live_and_die_with_us(desk: &Desk) -> bool {
    let go_between = desk.go_between.load(Ordering::Acquire);
    // SAFETY: plain system calls; the kernel reads a set of 8 bytes.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, ORPHANED as libc::c_ulong);
        // Where it has ended before, nobody tells.
        if libc::getppid() == go_between {
            let set = 1u64 << (ORPHANED - 1);
            let none = std::ptr::null_mut::<libc::c_void>();
            libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, none, none, size_of_val(&set));
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
        libc::getppid() == desk.keeper
    }
}

/// What one waits for and the other rings. A pipe, for it tells the kernel that who writes is about to wait: then who is woken stays on its CPU.
struct Bell {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Bell {
    fn new() -> io::Result<Bell> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        Ok(Bell { reader, writer })
    }

    fn ring(&self) {
        let byte = 0u8;
        // SAFETY: the kernel reads one byte.
        unsafe { libc::syscall(libc::SYS_write, self.writer.as_raw_fd(), &raw const byte, 1) };
    }

    /// Waits until it is rung.
    fn hear(&self) {
        let mut byte = 0u8;
        // SAFETY: the kernel writes one byte.
        unsafe { libc::syscall(libc::SYS_read, self.reader.as_raw_fd(), &raw mut byte, 1) };
    }
}

/// Waits until one of two descriptors is readable, or both.
fn wait_for_either(fds: [RawFd; 2]) -> [bool; 2] {
    let mut fds = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let none = std::ptr::null_mut::<libc::c_void>();
    loop {
        // SAFETY: the kernel reads and writes as many entries as there are.
        let found =
            unsafe { libc::syscall(libc::SYS_ppoll, fds.as_mut_ptr(), fds.len(), none, none, 0) };
        if found > 0 {
            return fds.map(|fd| fd.revents != 0);
        }
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
