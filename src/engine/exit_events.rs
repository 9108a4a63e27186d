//! Exit statuses of processes that are no children of ours, from the process connector: the kernel
//! multicasts the end of each thread of the host on a netlink socket.
//!
//! This is the source for kernels before Linux 6.15, which keep no status for a pidfd. It needs
//! root in the initial namespaces. The kernel queues the event before the pidfd becomes readable:
//! after an end, its status is already in the socket.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recvfrom, send, setsockopt, sockopt};

use crate::engine::sys;

/// The connector's number among the netlink protocols, and the index and value of its processes.
const NETLINK_CONNECTOR: i32 = 11;
const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
/// The operation that subscribes.
const MCAST_LISTEN: u32 = 1;
/// The kinds of events that we read.
const EVENT_EXEC: u32 = 2;
const EVENT_EXIT: u32 = 0x8000_0000;

/// The sizes of netlink's and the connector's header.
const NETLINK_HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;
/// The position of an event, and the position of its data within it.
const EVENT: usize = NETLINK_HEADER + CONNECTOR_HEADER;
const EVENT_DATA: usize = 16;

/// The bytes of events that may wait: a busy host ends thousands of threads between two looks.
const QUEUE: usize = 4 * 1024 * 1024;

/// The inode of the initial PID namespace.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The statuses of watched processes.
pub(super) struct ExitEvents {
    socket: OwnedFd,
    /// By pid.
    watched: HashMap<i32, Seen>,
    /// Whether a lost event was logged.
    overflowed: bool,
}

/// The events of a watched process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    /// Its main thread runs.
    Running,
    /// Its main thread has ended with this raw wait status, and so has each later thread.
    Ended(i32),
    /// A later thread has ended with another status: the events do not show that of the process.
    Ambiguous,
}

/// An event of a thread: a process is the pid of its main thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ThreadEvent {
    Executed { process: i32 },
    Ended { thread: i32, process: i32, status: i32 },
}

impl ExitEvents {
    /// Subscribes to the events of the host.
    ///
    /// # Errors
    /// `EPERM` without the privilege, `EPROTONOSUPPORT` if this kernel or network namespace has no
    /// connector; `Unsupported` in a PID namespace, where the kernel ignores the subscription.
    pub(super) fn open() -> io::Result<ExitEvents> {
        use std::os::unix::fs::MetadataExt;
        if std::fs::metadata("/proc/self/ns/pid")?.ino() != INITIAL_PID_NAMESPACE {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the system call takes no pointer.
        let fd = sys::check(unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_CONNECTOR) })?;
        // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // A shorter queue overflows sooner, and is better than none.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &QUEUE);
        attach_filter(&socket)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, CN_IDX_PROC))?;
        send(socket.as_raw_fd(), &subscription(), MsgFlags::empty())?;
        Ok(ExitEvents { socket, watched: HashMap::new(), overflowed: false })
    }

    /// Watches a process that has not ended, as its pidfd shows.
    pub(super) fn watch(&mut self, pid: i32, pidfd: &OwnedFd) {
        // Of an earlier process with this pid.
        self.read();
        self.watched.insert(pid, Seen::Running);
        if sys::is_readable(pidfd) {
            // Its event may be over, and the next one with this pid is not its own.
            self.watched.remove(&pid);
        }
    }

    /// The raw wait status of a watched process that has ended, if the events show it.
    pub(super) fn status(&mut self, pid: i32) -> Option<i32> {
        self.read();
        match self.watched.get(&pid)? {
            Seen::Ended(status) => Some(*status),
            Seen::Running | Seen::Ambiguous => None,
        }
    }

    /// Watches a process no more; returns whether it was the last one.
    pub(super) fn unwatch(&mut self, pid: i32) -> bool {
        self.watched.remove(&pid);
        self.watched.is_empty()
    }

    /// Readable when [`read`](Self::read) is to be called.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads the queued events.
    pub(super) fn read(&mut self) {
        let mut buffer = [0; 256];
        loop {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, Some(sender))) if sender.pid() == 0 => {
                    let event = buffer.get(..length).and_then(parse);
                    event.into_iter().for_each(|event| self.on(event));
                }
                // Another process than the kernel has sent it.
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => {
                    if !std::mem::replace(&mut self.overflowed, true) {
                        tracing::warn!(
                            "the kernel has dropped exit events: the exit statuses of \
                            adopted processes may be lost"
                        );
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn on(&mut self, event: ThreadEvent) {
        match event {
            // A thread that executes a program takes the place of the main thread, which ends.
            ThreadEvent::Executed { process } => {
                if let Some(seen) = self.watched.get_mut(&process) {
                    *seen = Seen::Running;
                }
            }
            ThreadEvent::Ended { thread, process, status } => {
                let Some(seen) = self.watched.get_mut(&process) else { return };
                *seen = match *seen {
                    Seen::Running if thread == process => Seen::Ended(status),
                    Seen::Ended(before) if before != status => Seen::Ambiguous,
                    same => same,
                };
            }
        }
    }
}

/// The message that subscribes to all events of processes.
fn subscription() -> Vec<u8> {
    let length = (EVENT + 4) as u32;
    let mut message = Vec::new();
    // Netlink's header: length, type and flags, sequence, sender.
    message.extend(length.to_ne_bytes());
    message.extend((libc::NLMSG_DONE as u16).to_ne_bytes());
    message.extend([0; 10]);
    // The connector's header: index, value, sequence, acknowledgement, length and flags.
    message.extend(CN_IDX_PROC.to_ne_bytes());
    message.extend(CN_VAL_PROC.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(4_u16.to_ne_bytes());
    message.extend([0; 2]);
    message.extend(MCAST_LISTEN.to_ne_bytes());
    message
}

/// Lets the kernel drop all events but those that we read.
fn attach_filter(socket: &OwnedFd) -> io::Result<()> {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    // The filter loads a word as big-endian, and the kernel has written a native one.
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, EVENT as u32),
        step(equals, 1, 0, EVENT_EXIT.to_be()),
        step(equals, 0, 1, EVENT_EXEC.to_be()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program and its steps live during the call, and its length is the number of them.
    sys::check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Reads the event of a message.
fn parse(message: &[u8]) -> Option<ThreadEvent> {
    let word = |at: usize| {
        let bytes = message.get(EVENT + at..)?.first_chunk()?;
        Some(i32::from_ne_bytes(*bytes))
    };
    let (thread, process) = (word(EVENT_DATA)?, word(EVENT_DATA + 4)?);
    match word(0)?.cast_unsigned() {
        EVENT_EXEC => Some(ThreadEvent::Executed { process }),
        EVENT_EXIT => Some(ThreadEvent::Ended { thread, process, status: word(EVENT_DATA + 8)? }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::engine::permitted;

    /// `None` where this test has not the privilege.
    fn opened() -> Option<ExitEvents> {
        match ExitEvents::open() {
            Ok(events) => Some(events),
            Err(error) => {
                assert!(!nix::unistd::geteuid().is_root() || is_unsupported(&error), "{error}");
                None
            }
        }
    }

    fn is_unsupported(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::Unsupported
            || error.raw_os_error().is_some_and(|code| {
                [libc::EPERM, libc::EPROTONOSUPPORT, libc::ECONNREFUSED].contains(&code)
            })
    }

    /// Runs a program to its end while it is watched.
    fn status_of(events: &mut ExitEvents, program: &str, script: &str) -> (i32, Option<i32>) {
        use std::os::unix::process::ExitStatusExt;
        let mut child =
            Command::new(program).args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id().cast_signed();
        events.watch(pid, &permitted::handle(pid).unwrap());
        drop(child.stdin.take());
        let status = child.wait().unwrap().into_raw();
        (status, events.status(pid))
    }

    #[test]
    fn statuses_are_those_of_wait() {
        let Some(mut events) = opened() else { return };
        for script in
            ["read x; exit 7", "read x; exit 0", "read x; kill -9 $$", "read x; exec true"]
        {
            let (waited, seen) = status_of(&mut events, "/bin/sh", script);
            assert_eq!(seen, Some(waited), "{script}");
        }
    }

    #[test]
    fn a_process_that_has_ended_is_not_watched() {
        let Some(mut events) = opened() else { return };
        let mut child = Command::new("/bin/true").spawn().unwrap();
        let pid = child.id().cast_signed();
        let pidfd = permitted::handle(pid).unwrap();
        child.wait().unwrap();
        events.watch(pid, &pidfd);
        assert!(events.watched.is_empty());
    }

    #[test]
    fn threads_with_different_statuses_are_ambiguous() {
        let Some(mut events) = opened() else { return };
        events.watched.insert(42, Seen::Running);
        let ended = |thread, status| ThreadEvent::Ended { thread, process: 42, status };
        events.on(ended(43, 5));
        assert_eq!(events.watched[&42], Seen::Running);
        events.on(ended(42, 0));
        assert_eq!(events.watched[&42], Seen::Ended(0));
        events.on(ended(44, 0));
        assert_eq!(events.watched[&42], Seen::Ended(0));
        events.on(ended(45, 0x700));
        events.on(ended(46, 0));
        assert_eq!(events.watched[&42], Seen::Ambiguous);
        events.on(ThreadEvent::Executed { process: 42 });
        assert_eq!(events.watched[&42], Seen::Running);
        assert!(events.unwatch(42));
    }

    #[test]
    fn a_foreign_or_short_message_is_no_event() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0; 76]), None);
        let mut message = vec![0; EVENT];
        message.extend(EVENT_EXIT.to_ne_bytes());
        message.extend([0; 20]);
        assert_eq!(parse(&message), None);
        message.extend(7_i32.to_ne_bytes());
        let event = ThreadEvent::Ended { thread: 0, process: 0, status: 7 };
        assert_eq!(parse(&message), Some(event));
    }
}
