//! A worker's access to the files that specs name: by the keeper's descriptors.
//!
//! Such a file may be removed from its path, and another file take its place. So the worker opens
//! none by path. It requests the file from the keeper on a separate socket, by the key of the
//! capture, and receives a copy of the keeper's descriptor. A thread of the keeper answers; it
//! touches no file system and waits for nothing else. A later worker repeats its requests, so a
//! worker's death loses nothing.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, setsockopt, socketpair, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::{getpid, gettid};

use crate::engine::{held_file, sys};

/// The stack of the thread that answers.
const STACK: usize = 64 * 1024;
/// Timeout for an answer: a keeper without CPU time, or in a debugger, must not block a worker for
/// ever.
const PATIENCE: Duration = Duration::from_secs(5);
/// The size of a key.
const SIZE: usize = size_of::<u64>();

/// Creates a pair of sockets: the keeper's, and the worker's.
///
/// # Errors
/// The OS error.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// Starts the thread that answers the worker at the other end of this socket. The thread ends with
/// the worker.
///
/// # Errors
/// The OS error of creating the thread.
pub(super) fn serve(ours: OwnedFd) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("files".into()).stack_size(STACK);
    let answering = thread.spawn(move || {
        sys::block_all_signals();
        while let Ok((key, _)) = receive(&ours) {
            let file = held_file(key);
            match send(&ours, key, file.as_deref()) {
                Ok(()) | Err(Errno::EAGAIN) => {}
                Err(_) => return,
            }
        }
    });
    match answering {
        // If no thread may be created, no process can be started, so there is no file to request.
        // The worker still prints help and errors.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        answering => answering.map(drop),
    }
}

/// From now on, this worker requests the files of its keeper behind `socket`.
pub fn request_from(socket: OwnedFd) {
    let client = Mutex::new(Client::new(socket));
    crate::engine::request_files_from(Box::new(move |key| {
        let answer = client.lock().unwrap_or_else(PoisonError::into_inner).request(key);
        answer.inspect_err(await_own_end)
    }));
}

/// After the keeper's death, waits for the end of this worker's program, which is near: it becomes
/// the keeper, or ends. A client would otherwise read that a file is gone that is there.
fn await_own_end(error: &io::Error) {
    let is_end = [io::ErrorKind::UnexpectedEof, io::ErrorKind::BrokenPipe].contains(&error.kind())
        || error.raw_os_error() == Some(libc::ECONNRESET);
    // The main thread is the one that notices the keeper's death.
    if is_end && gettid() != getpid() {
        std::thread::park_timeout(PATIENCE);
    }
}

/// Requests files, one after another.
struct Client(OwnedFd);

impl Client {
    fn new(socket: OwnedFd) -> Client {
        let patience = TimeVal::new(PATIENCE.as_secs().cast_signed(), 0);
        // If this fails, the worker waits as long as the keeper lives.
        let _ = setsockopt(&socket, sockopt::ReceiveTimeout, &patience);
        let _ = sys::set_cloexec(&socket, true);
        Client(socket)
    }

    /// Requests a copy of the keeper's descriptor of the file with this key; `None` if the keeper
    /// has none.
    fn request(&self, key: u64) -> io::Result<Option<OwnedFd>> {
        send(&self.0, key, None)?;
        loop {
            // Skip a late answer to an earlier request.
            match receive(&self.0)? {
                (answered, file) if answered == key => return Ok(file),
                _ => {}
            }
        }
    }
}

fn send(socket: &OwnedFd, key: u64, file: Option<&File>) -> nix::Result<()> {
    let bytes = key.to_ne_bytes();
    let fds: Vec<RawFd> = file.iter().map(|file| file.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], rights, flags, None).map(drop)
}

/// Receives the next key and its descriptor. The end of the socket is an error.
fn receive(socket: &OwnedFd) -> io::Result<(u64, Option<OwnedFd>)> {
    let mut bytes = [0; SIZE];
    let mut room = nix::cmsg_space!(RawFd);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), flags) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(message) => {
                let fd = message.cmsgs()?.find_map(|message| match message {
                    ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                    _ => None,
                });
                break (message.bytes, fd);
            }
        }
    };
    // SAFETY: the kernel has just created the descriptor for this process.
    let file = received.1.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    if received.0 == SIZE {
        Ok((u64::from_ne_bytes(bytes), file))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
