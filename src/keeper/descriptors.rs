//! Descriptors that one process of this program leaves open for the next one. An environment
//! variable passes their numbers.
//!
//! Anybody can set such a variable, and the number may belong to any file. So each descriptor is
//! checked to be ours before it is used, and a foreign one stays unchanged.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockType, getsockopt, recvmsg, sendmsg, sockopt,
};

use crate::engine::sys;

/// The names of a state's memory file: in versions 1 and 2 of the state, and in later ones.
const STATE_FILES: [&str; 2] = ["/memfd:procstar (deleted)", "/memfd:procstar data (deleted)"];
/// The largest state: more than a million processes need.
const MAX_STATE: u64 = 1 << 32;

/// The descriptor in an environment variable is not ours.
#[derive(Debug, thiserror::Error)]
#[error("{variable} is reserved for procstar itself; unset it")]
pub struct Foreign {
    /// The variable.
    pub variable: &'static str,
}

/// Opens the state file whose descriptor has this `number`, the value of the environment variable
/// `variable`. The file's position stays unchanged.
///
/// # Errors
/// The number is that of another file, or of none.
pub fn state_file(variable: &'static str, number: &str) -> Result<File, Foreign> {
    let foreign = Foreign { variable };
    let Ok(fd) = number.parse::<RawFd>() else { return Err(foreign) };
    let name = std::fs::read_link(PathBuf::from(format!("/proc/self/fd/{fd}")));
    let ours = name.is_ok_and(|name| STATE_FILES.iter().any(|ours| name.as_os_str() == *ours));
    if !ours {
        return Err(foreign);
    }
    // SAFETY: the descriptor is open, because its name could be read. This process has one thread
    // so far, so nothing closes it during this call.
    let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
    copy.map(File::from).map_err(|_| foreign)
}

/// Reads all bytes of a state file.
///
/// # Errors
/// The OS error; `InvalidData` if the file is too large for a state.
pub fn read_state(file: &File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    if length > MAX_STATE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    // By offset, because the process that left the file open shares its position.
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Takes the socket to the keeper that started this process, whose descriptor has this number, the
/// value of `variable`. It must be one of `inherited`, the descriptors that this process was
/// started with.
///
/// # Errors
/// The number is that of another file.
pub fn keeper_socket(
    variable: &'static str,
    number: &str,
    inherited: &[RawFd],
) -> Result<UnixStream, Foreign> {
    from_keeper(variable, number, inherited, SockType::Stream).map(UnixStream::from)
}

/// Takes the socket on which this process requests [files](super::files) from its keeper, by the
/// number in `variable`.
///
/// # Errors
/// As [`keeper_socket`].
pub fn files_socket(
    variable: &'static str,
    number: &str,
    inherited: &[RawFd],
) -> Result<OwnedFd, Foreign> {
    from_keeper(variable, number, inherited, SockType::SeqPacket)
}

fn from_keeper(
    variable: &'static str,
    number: &str,
    inherited: &[RawFd],
    kind: SockType,
) -> Result<OwnedFd, Foreign> {
    let foreign = Foreign { variable };
    let Some(fd) = number.parse().ok().filter(|fd| inherited.contains(fd)) else {
        return Err(foreign);
    };
    // SAFETY: it was open when this process started, and nothing has closed it since.
    if !is_from_parent(unsafe { BorrowedFd::borrow_raw(fd) }, kind) {
        return Err(foreign);
    }
    // SAFETY: as above; the keeper has made it for this process alone, and nothing else here uses
    // it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether this is an end of a pair of Unix sockets of this kind that our parent created.
fn is_from_parent(fd: BorrowedFd<'_>, kind: SockType) -> bool {
    let is_it = getsockopt(&fd, sockopt::SockType) == Ok(kind);
    let maker = getsockopt(&fd, sockopt::PeerCredentials);
    let parent = std::os::unix::process::parent_id();
    is_it && maker.is_ok_and(|maker| u32::try_from(maker.pid()) == Ok(parent))
}

/// Makes the descriptor with this number close-on-exec; returns whether it is open.
pub fn close_on_exec(number: RawFd) -> bool {
    sys::set_cloexec_of(number, true).is_ok()
}

/// The most descriptors that the kernel accepts with one message.
pub(super) const MAX_SENT: usize = 253;

/// Sends bytes, and a descriptor with the first of them; returns the number of bytes sent.
///
/// # Errors
/// The OS error; nothing was sent.
pub fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
    send_with_all(socket, bytes, &[fd.as_raw_fd()])
}

/// As [`send_with`], with up to [`MAX_SENT`] descriptors.
///
/// # Errors
/// The OS error; nothing was sent.
pub(super) fn send_with_all(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[RawFd],
) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], rights, flags, None)?)
}

/// The result of one receive call.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    /// The number of bytes; 0 at the end of the stream.
    pub bytes: usize,
    /// Whether descriptors were lost, because this process has reached its open-file limit.
    pub incomplete: bool,
}

/// Receives bytes, and the descriptors that came with them, which are close-on-exec.
///
/// # Errors
/// The OS error.
pub fn receive_with(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    fds: &mut VecDeque<OwnedFd>,
) -> io::Result<Receipt> {
    let mut space = nix::cmsg_space!([RawFd; MAX_SENT]);
    let mut buffers = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just opened them for this process.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let incomplete = message.flags.contains(MsgFlags::MSG_CTRUNC);
    Ok(Receipt { bytes: message.bytes, incomplete })
}

/// Duplicates the descriptor with this number, close-on-exec.
///
/// # Errors
/// The OS error; EBADF if it is not open.
pub(super) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for this value alone.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Takes ownership of a descriptor that the previous program left open in this process for one
/// purpose.
///
/// # Errors
/// It is not open, or it is one of the three standard descriptors.
pub(super) fn claim(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    sys::set_cloexec_of(fd, true)?;
    // SAFETY: the descriptor is open, was left open for this call, and no value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets the child of `command` inherit this descriptor under its own number. It stays close-on-exec
/// in this process, so that no other child started meanwhile inherits it too.
pub(super) fn pass_on(command: &mut std::process::Command, fd: &impl AsFd) {
    use std::os::unix::process::CommandExt;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: between fork and exec the closure makes one system call, which is safe there, on the
    // child's own table of descriptors. The caller keeps `fd` open until the child is started.
    unsafe {
        command.pre_exec(move || sys::set_cloexec_of(fd, false));
    }
}

/// Lets the child of `command` inherit these descriptors of the user's, because its command line
/// may name them.
pub(super) fn pass_on_inherited(command: &mut std::process::Command, fds: &[RawFd]) {
    use std::os::unix::process::CommandExt;
    if fds.is_empty() {
        return;
    }
    let fds = fds.to_vec();
    // SAFETY: between fork and exec the closure makes system calls only, which are safe there, on
    // the child's own table of descriptors. A number that is no longer open fails, and is skipped.
    unsafe {
        command.pre_exec(move || {
            for fd in &fds {
                let _ = sys::set_cloexec_of(*fd, false);
            }
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom, Write};

    const NAME: &str = "PROCSTAR_TEST";

    #[test]
    fn a_foreign_file_is_refused_and_stays_as_it_is() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        for number in [file.as_raw_fd().to_string(), "-1".into(), "99999".into(), "x".into()] {
            let error = state_file(NAME, &number).unwrap_err().to_string();
            assert_eq!(error, "PROCSTAR_TEST is reserved for procstar itself; unset it");
        }
        assert_eq!(file.stream_position().unwrap(), 3);
        // A file on a disk with the name of a memory file.
        let dir = tempfile::tempdir().unwrap();
        let lookalike = File::create(dir.path().join("memfd:procstar")).unwrap();
        assert!(state_file(NAME, &lookalike.as_raw_fd().to_string()).is_err());
    }

    #[test]
    fn a_state_is_read_wherever_its_position_is() {
        let mut ours = File::from(sys::sealable_memory_file().unwrap());
        ours.write_all(b"state").unwrap();
        let read = state_file(NAME, &ours.as_raw_fd().to_string()).unwrap();
        assert_eq!(read_state(&read).unwrap(), b"state");
        assert_eq!(ours.stream_position().unwrap(), 5);
        ours.seek(SeekFrom::Start(2)).unwrap();
        let mut rest = String::new();
        ours.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "ate");
    }

    #[test]
    fn only_a_pair_of_the_parent_is_a_keepers_socket() {
        // A pair created by this process, which is not its own parent.
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let inherited = [ours.as_raw_fd(), file.as_raw_fd()];
        for fd in inherited.into_iter().chain([1, -1]) {
            assert!(keeper_socket(NAME, &fd.to_string(), &inherited).is_err());
        }
        assert!(ours.peer_addr().is_ok());
    }
}
