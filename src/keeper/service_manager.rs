//! The service manager whose unit this program is: whether it is, and messages to it, as
//! sd_notify(3) describes them.
//!
//! No message blocks: the service manager serves the whole host, and may be busy.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{activation, descriptors};
use crate::config::Env;

/// The variable with the pid of the unit's main process, which systemd sets since version 248.
const MAIN_PROCESS: &str = "SYSTEMD_EXEC_PID";
/// The variable with the address of the service manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Whether the process with this pid is the main process of a unit.
pub fn is_main_process(pid: u32) -> bool {
    activation::is_for(std::env::var_os(MAIN_PROCESS).as_deref(), pid)
}

/// A message with the descriptors that accompany it.
struct Notification {
    text: String,
    fds: Vec<Arc<OwnedFd>>,
}

/// The messages to the service manager, in their order.
pub struct Notifier {
    socket: UnixDatagram,
    queue: VecDeque<Notification>,
    /// Whether a failure was logged.
    failed: bool,
}

impl Notifier {
    /// Connects to the socket that `env` names; `None` without one.
    ///
    /// # Errors
    /// The OS error; `InvalidInput` if it is not the address of a Unix socket.
    pub fn connect(env: &Env) -> io::Result<Option<Notifier>> {
        let Some(address) = env.get(OsStr::new(SOCKET)) else { return Ok(None) };
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(ErrorKind::InvalidInput.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        Notifier::new(socket).map(Some)
    }

    fn new(socket: UnixDatagram) -> io::Result<Notifier> {
        socket.set_nonblocking(true)?;
        Ok(Notifier { socket, queue: VecDeque::new(), failed: false })
    }

    /// Queues a message, for the next [`send`](Self::send).
    pub fn queue(&mut self, text: String, fds: Vec<Arc<OwnedFd>>) {
        self.queue.push_back(Notification { text, fds });
    }

    /// Sends the queued messages, as far as the service manager has room for them. A message that
    /// cannot be sent for another reason is dropped.
    pub fn send(&mut self) {
        while let Some(Notification { text, fds }) = self.queue.front() {
            let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            match descriptors::send_with_all(self.socket.as_fd(), text.as_bytes(), &fds) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The service manager has not received earlier descriptors yet.
                Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if !std::mem::replace(&mut self.failed, true) => {
                    tracing::warn!(%error, "cannot send a message to the service manager");
                }
                Ok(_) | Err(_) => {}
            }
            self.queue.pop_front();
        }
        self.queue.shrink_to(16);
    }

    /// Sends the queued messages; waits for room until `timeout` has passed.
    pub fn send_all(&mut self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        self.send();
        while self.is_waiting() && Instant::now() < deadline {
            let mut fds = [PollFd::new(self.fd(), PollFlags::POLLOUT)];
            // A short wait, because the end of ETOOMANYREFS wakes nobody.
            let _ = poll(&mut fds, PollTimeout::from(20u8));
            self.send();
        }
    }

    /// Whether messages wait for room.
    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Writable once the service manager has room.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::path::Path;

    use crate::keeper::descriptors::{MAX_SENT, receive_with};

    /// A service manager's socket at this path, and the environment that names it.
    pub(in crate::keeper) fn service_manager(path: &Path) -> (UnixDatagram, Env) {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket, Env::from([(SOCKET.into(), path.into())]))
    }

    /// The messages that have arrived, with their descriptors.
    pub(in crate::keeper) fn received(socket: &UnixDatagram) -> Vec<(String, Vec<OwnedFd>)> {
        let mut messages = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            let mut fds = VecDeque::with_capacity(MAX_SENT);
            match receive_with(socket.as_fd(), &mut bytes, &mut fds) {
                Ok(receipt) => {
                    let text = String::from_utf8(bytes[..receipt.bytes].to_vec()).unwrap();
                    messages.push((text, fds.into()));
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    return messages;
                }
            }
        }
    }

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let (manager, env) = service_manager(&dir.path().join("notify"));
        let mut notifier = Notifier::connect(&env).unwrap().unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        notifier.queue("FDSTORE=1\nFDNAME=x".into(), vec![Arc::new(reader.into())]);
        notifier.queue("FDSTOREREMOVE=1\nFDNAME=x".into(), Vec::new());
        assert!(notifier.is_waiting());
        notifier.send();
        assert!(!notifier.is_waiting());
        writer.write_all(b"kept").unwrap();
        drop(writer);
        let [(stored, fds), (removed, none)] = received(&manager).try_into().unwrap();
        assert_eq!(stored, "FDSTORE=1\nFDNAME=x");
        assert_eq!((removed.as_str(), none.len()), ("FDSTOREREMOVE=1\nFDNAME=x", 0));
        let mut text = String::new();
        let [fd] = fds.try_into().unwrap();
        std::fs::File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept");
    }

    #[test]
    fn messages_wait_while_the_service_manager_is_busy() {
        let (ours, manager) = UnixDatagram::pair().unwrap();
        manager.set_nonblocking(true).unwrap();
        let mut notifier = Notifier::new(ours).unwrap();
        let texts: Vec<String> = (0..2000).map(|n| format!("STATUS={n}")).collect();
        texts.iter().for_each(|text| notifier.queue(text.clone(), Vec::new()));
        notifier.send();
        assert!(notifier.is_waiting(), "the socket has room for all");
        let mut arrived = Vec::new();
        while arrived.len() < texts.len() {
            notifier.send();
            arrived.extend(received(&manager).into_iter().map(|(text, _)| text));
        }
        assert_eq!(arrived, texts);
    }

    #[test]
    fn the_socket_may_be_abstract_and_must_be_an_address() {
        let name = format!("procstar-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _manager = UnixDatagram::bind_addr(&address).unwrap();
        let connect = |text: &str| Notifier::connect(&Env::from([(SOCKET.into(), text.into())]));
        assert!(connect(&format!("@{name}")).unwrap().is_some());
        assert_eq!(connect("relative").err().unwrap().kind(), ErrorKind::InvalidInput);
        assert_eq!(connect("vsock:2:1").err().unwrap().kind(), ErrorKind::InvalidInput);
        assert_eq!(connect("/nowhere/notify").err().unwrap().kind(), ErrorKind::NotFound);
        assert!(Notifier::connect(&Env::new()).unwrap().is_none());
    }
}
