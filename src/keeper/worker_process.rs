//! The worker as the keeper's child: its start, its socket, its end.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, ErrorKind, PipeReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::descriptors::Receipt;
use super::format::{Decoder, FrameError, ToKeeper, ToWorker, encode};
use super::listeners::Listeners;
use super::variables::{AGAIN, FILES_FD, KEEPER_FD, STATE_FD};
use super::worker_pid::WorkerPid;
use super::{descriptors, files, secrets};
use crate::engine::permitted;
use crate::engine::permitted::pidfd_open;

/// The number of bytes read by one call.
const READ: usize = 64 * 1024;

/// How long a worker may live on after its socket is closed: it may still have a message for the
/// user.
const CLOSED_GRACE: Duration = Duration::from_secs(5);

/// The pause before descriptors are sent again, when too many are in flight.
const CROWDED_PAUSE: Duration = Duration::from_millis(20);

/// The command that starts workers.
pub struct WorkerCommand {
    /// The executable.
    pub exe: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<OsString>,
}

impl WorkerCommand {
    /// This very program, with our own arguments.
    pub fn this_program() -> Self {
        WorkerCommand { exe: permitted::own_program(), args: std::env::args_os().skip(1).collect() }
    }
}

/// A worker's sockets to its keeper.
pub struct KeeperSockets {
    /// For messages.
    pub messages: UnixStream,
    /// For requests of [`files`].
    pub files: OwnedFd,
}

/// The two processes after a [fork](WorkerProcess::fork).
pub(super) enum Forked {
    /// This is the keeper, with its worker.
    Keeper(WorkerProcess),
    /// This is the worker.
    Worker(KeeperSockets),
}

/// A running worker.
pub(super) struct WorkerProcess {
    child: WorkerPid,
    /// Readable once the worker has ended: its pidfd, or a pipe.
    pidfd: OwnedFd,
    /// `None` once all its messages are read, or none can be read any more.
    socket: Option<UnixStream>,
    /// Whether the worker accepts no more messages. Earlier messages of it may still be unread.
    write_closed: bool,
    decoder: Decoder,
    /// Received descriptors whose messages are not decoded yet.
    received: VecDeque<OwnedFd>,
    /// The receive buffer; only pages that were once used cost memory.
    buf: Box<[u8]>,
    /// The bytes to send, and the number of those already sent.
    out: Vec<u8>,
    sent: usize,
    /// Descriptors to send, in order, each group with the position in `out` where its message
    /// begins. They may arrive before their message, never after it.
    attached: VecDeque<(usize, Vec<Arc<OwnedFd>>)>,
    /// When to send again, if too many descriptors are in flight.
    send_at: Option<Instant>,
    /// Whether the worker holds the descriptors of processes, in case the keeper dies.
    is_holder: bool,
    /// When to kill the worker if it has not ended: its socket is closed.
    deadline: Option<Instant>,
}

impl WorkerProcess {
    /// Starts a worker. It inherits `fds`, which its command line may name, and the `listeners` of
    /// the previous worker. An environment variable marks a worker that is not the first.
    ///
    /// # Errors
    /// The OS error of creating the socket or the process.
    pub(super) fn start(
        workers: &WorkerCommand,
        again: bool,
        fds: &[RawFd],
        listeners: &Listeners,
    ) -> io::Result<WorkerProcess> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&workers.exe);
        command
            .arg0("procstar-worker")
            .args(&workers.args)
            .env_remove(STATE_FD)
            .env_remove(AGAIN)
            .env(KEEPER_FD, theirs.as_raw_fd().to_string());
        if again {
            command.env(AGAIN, "1");
        }
        let (answering, files) = files::pair()?;
        files::serve(answering)?;
        command.env(FILES_FD, files.as_raw_fd().to_string());
        descriptors::pass_on(&mut command, &files);
        descriptors::pass_on(&mut command, &theirs);
        descriptors::pass_on_inherited(&mut command, fds);
        let _secrets = secrets::hand_over(&mut command)?;
        listeners.pass_on(&mut command)?;
        // Without a pidfd: a pipe whose other end only the worker holds, and which ends with it.
        let own = std::process::id().cast_signed();
        let pipe = if pidfd_open(own).is_err() { Some(std::io::pipe()?) } else { None };
        if let Some((_, writer)) = &pipe {
            descriptors::pass_on(&mut command, writer);
        }
        let child = WorkerPid::of(permitted::spawn(&mut command)?.id().cast_signed());
        drop(theirs);
        let reader = pipe.map(|(reader, _)| reader);
        WorkerProcess::of(child, reader, ours)
    }

    /// Creates the first worker as a copy of this process, which takes a tenth of the time of
    /// executing the program again, because code is mapped and linked already. This process must
    /// have one thread.
    ///
    /// # Errors
    /// The OS error of creating the sockets or the process; there is no worker then.
    pub(super) fn fork() -> io::Result<Forked> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (answering, files) = files::pair()?;
        // Without pidfds, the caller starts a worker by executing the program.
        drop(pidfd_open(std::process::id().cast_signed())?);
        let Some(child) = WorkerPid::fork()? else {
            return Ok(Forked::Worker(KeeperSockets { messages: theirs, files }));
        };
        drop((theirs, files));
        files::serve(answering).or_else(|error| child.abandon(error))?;
        WorkerProcess::of(child, None, ours).map(Forked::Keeper)
    }

    /// A worker that was just created. Without pidfds, `pipe` ends with it.
    fn of(child: WorkerPid, pipe: Option<PipeReader>, ours: UnixStream) -> io::Result<Self> {
        let pidfd = match pipe {
            Some(reader) => OwnedFd::from(reader),
            // Without a pidfd, the keeper would not notice its end.
            None => pidfd_open(child.pid()).or_else(|error| child.abandon(error))?,
        };
        Ok(WorkerProcess::new(child, pidfd, ours))
    }

    /// A running worker: its process, a descriptor that is readable once it has ended, and our end
    /// of the socket.
    fn new(child: WorkerPid, pidfd: OwnedFd, socket: UnixStream) -> Self {
        WorkerProcess {
            child,
            pidfd,
            socket: Some(socket),
            write_closed: false,
            decoder: Decoder::default(),
            received: VecDeque::new(),
            buf: vec![0; READ].into_boxed_slice(),
            out: Vec::new(),
            sent: 0,
            attached: VecDeque::new(),
            send_at: None,
            is_holder: false,
            deadline: None,
        }
    }

    /// Its pid.
    pub(super) fn pid(&self) -> u32 {
        self.child.pid().cast_unsigned()
    }

    /// Readable once the worker has ended.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its socket, while it is open.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Whether messages wait to be sent.
    pub(super) fn wants_to_send(&self) -> bool {
        !self.write_closed && self.send_at.is_none() && self.sent < self.out.len()
    }

    /// From now on, the worker holds the descriptors of processes.
    pub(super) fn make_holder(&mut self) {
        self.is_holder = true;
    }

    /// Queues a message with its descriptors, if the worker is a holder.
    pub(super) fn queue_for_holder(&mut self, message: &ToWorker, fds: Vec<Arc<OwnedFd>>) {
        if !self.is_holder || self.socket.is_none() || self.write_closed {
            return;
        }
        if !fds.is_empty() {
            self.attached.push_back((self.out.len(), fds));
        }
        self.queue(message);
    }

    /// Whether descriptors wait to be sent.
    pub(super) fn has_unsent_descriptors(&self) -> bool {
        !self.attached.is_empty()
    }

    /// Queues a message, for the next [`send`](Self::send).
    pub(super) fn queue(&mut self, message: &ToWorker) {
        if self.socket.is_none() || self.write_closed {
            return;
        }
        if let Err(error) = encode(message, &mut self.out) {
            // The worker would never receive this message; a new one starts from the complete
            // state.
            tracing::error!(%error, "cannot encode a message to the worker, restarting it");
            self.kill();
        }
    }

    /// Queues complete encoded messages.
    pub(super) fn queue_encoded(&mut self, messages: &[u8]) {
        if self.socket.is_some() && !self.write_closed {
            self.out.extend_from_slice(messages);
        }
    }

    /// Sends as much as the socket accepts.
    pub(super) fn send(&mut self) {
        if self.send_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.send_at = None;
        while let (false, Some(socket)) = (self.write_closed, &self.socket) {
            if self.sent >= self.out.len() {
                self.out.clear();
                self.out.shrink_to(READ);
                self.sent = 0;
                return;
            }
            let (groups, fds, end) = self.next_descriptors();
            let bytes = self.out.get(self.sent..end).unwrap_or_default();
            match descriptors::send_with_all(socket.as_fd(), bytes, &fds) {
                Ok(n) => {
                    self.sent += n;
                    self.attached.drain(..groups);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The worker has not received the earlier descriptors yet.
                Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => {
                    self.send_at = Some(Instant::now() + CROWDED_PAUSE);
                    return;
                }
                Err(_) => {
                    self.write_closed = true;
                    self.deadline = Some(Instant::now() + CLOSED_GRACE);
                }
            }
        }
    }

    /// The groups of descriptors that one call can send, their number, and the position up to which
    /// bytes may be sent with them.
    fn next_descriptors(&self) -> (usize, Vec<RawFd>, usize) {
        let (mut groups, mut fds) = (0, Vec::new());
        for (position, group) in &self.attached {
            if !fds.is_empty() && fds.len() + group.len() > descriptors::MAX_SENT {
                return (groups, fds, *position);
            }
            fds.extend(group.iter().map(AsRawFd::as_raw_fd));
            groups += 1;
        }
        (groups, fds, self.out.len())
    }

    /// Receives messages. An error or the end of the socket counts as the worker's end.
    pub(super) fn receive(&mut self) -> Vec<ToKeeper> {
        let mut messages = Vec::new();
        while let Some(socket) = &self.socket {
            match descriptors::receive_with(socket.as_fd(), &mut self.buf, &mut self.received) {
                Ok(Receipt { bytes: 0, .. }) => self.close(),
                Ok(Receipt { bytes: n, .. }) => {
                    self.decoder.push(self.buf.get(..n).unwrap_or_default());
                    if let Err(error) = self.decode(&mut messages) {
                        tracing::error!(%error, "invalid message from the worker, restarting it");
                        self.kill();
                        self.socket = None;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.close(),
            }
        }
        messages
    }

    fn decode(&mut self, messages: &mut Vec<ToKeeper>) -> Result<(), FrameError> {
        while let Some(mut message) = self.decoder.next_message()? {
            if let ToKeeper::Hold { descriptor, .. } = &mut message {
                *descriptor = self.received.pop_front();
            }
            messages.push(message);
        }
        Ok(())
    }

    fn close(&mut self) {
        self.socket = None;
        self.deadline = Some(Instant::now() + CLOSED_GRACE);
    }

    /// When to call [`kill_if_overdue`](Self::kill_if_overdue) or [`send`](Self::send).
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.send_at).min()
    }

    /// Lets the worker end within the grace period: its work is done.
    pub(super) fn end_soon(&mut self) {
        self.deadline = self.deadline.or(Some(Instant::now() + CLOSED_GRACE));
    }

    /// Kills the worker if its time is over. `done` is true if it has sent its goodbye; otherwise
    /// its socket was closed, and it is lost.
    pub(super) fn kill_if_overdue(&mut self, done: bool) {
        if self.deadline.is_some_and(|at| at <= Instant::now()) {
            if !done {
                tracing::error!("the worker has closed its socket, starting another");
            }
            self.kill();
            self.deadline = None;
        }
    }

    /// The exit status, if the worker has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.ended()
    }

    /// Kills the worker, and waits for its end.
    pub(super) fn end(mut self) {
        self.child.end();
    }

    /// Kills the worker.
    pub(super) fn kill(&mut self) {
        self.child.kill();
    }
}

#[cfg(test)]
pub(super) mod tests;
