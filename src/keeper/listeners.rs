//! The listening sockets of the worker's services, which the keeper holds too. So while no worker
//! lives, and during upgrades, nobody else can bind their addresses, and connections wait in their
//! backlogs.
//!
//! A worker binds, and sends each listener to the keeper
//! ([`ToKeeper::Hold`](super::format::ToKeeper::Hold)). The keeper never accepts. It passes the
//! listeners to the next worker, under the numbers in the variable [`LISTENERS`], and to the
//! program that replaces it in an upgrade. Once a worker serves, it reports its addresses, and the
//! keeper closes the other listeners.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::descriptors;
use super::variables::LISTENERS;
use crate::engine::sys::{is_open, set_cloexec};
use crate::path_bytes;

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// An address and port.
    Tcp(SocketAddr),
    /// A socket in the file system, by its absolute path.
    Unix(#[serde(with = "path_bytes")] PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Device and inode of a socket's file.
pub type FileId = (u64, u64);

/// Device and inode of the file at a path.
pub fn file_at(path: &Path) -> Option<FileId> {
    path.symlink_metadata().ok().map(|meta| (meta.dev(), meta.ino()))
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    /// Its address.
    pub address: Address,
    /// The file of a Unix socket: once another file has its path, nobody can connect to this one.
    pub file: Option<FileId>,
    /// The socket.
    pub fd: OwnedFd,
}

/// A configured address on which the worker could not listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingListener {
    /// The address.
    pub address: Address,
    /// The reason, for the user; it names the address.
    pub error: String,
}

/// A listener in the handover to another program of ours, which has the descriptor under the same
/// number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedListener {
    address: Address,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<FileId>,
    fd: RawFd,
}

impl PassedListener {
    /// Its address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The descriptor's number.
    pub fn fd(&self) -> RawFd {
        self.fd
    }
}

/// The listeners in the handover of an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenersHandover {
    /// The held listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<PassedListener>,
    /// The addresses on which the worker could not listen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingListener>,
}

impl ListenersHandover {
    /// Whether there is neither a held listener nor a missing one.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.missing.is_empty()
    }
}

/// The listeners that the keeper holds; and those that a worker holds in case it becomes the
/// keeper.
#[derive(Default)]
pub(super) struct Listeners {
    held: Vec<Listener>,
    missing: Vec<MissingListener>,
}

impl Listeners {
    /// Adds a listener, in place of one at the same address.
    pub(super) fn hold(&mut self, listener: Listener) {
        self.held.retain(|held| held.address != listener.address);
        self.held.push(listener);
    }

    /// Keeps the listeners of the addresses that the worker has reported, and closes the others.
    pub(super) fn agree(&mut self, on: &[Address], missing: Vec<MissingListener>) {
        self.held.retain(|held| on.contains(&held.address));
        self.missing = missing;
    }

    /// The addresses on which the worker could not listen.
    pub(super) fn missing(&self) -> &[MissingListener] {
        &self.missing
    }

    /// Lets the worker that `command` starts inherit the listeners.
    pub(super) fn pass_on(&self, command: &mut Command) -> io::Result<()> {
        let passed = serde_json::to_string(&self.passed()).map_err(io::Error::other)?;
        command.env(LISTENERS, passed);
        self.held.iter().for_each(|listener| descriptors::pass_on(command, &listener.fd));
        Ok(())
    }

    /// The handover to the next program in this process.
    pub(super) fn handover(&self) -> ListenersHandover {
        ListenersHandover { held: self.passed(), missing: self.missing.clone() }
    }

    fn passed(&self) -> Vec<PassedListener> {
        let pass = |Listener { address, file, fd }: &Listener| PassedListener {
            address: address.clone(),
            file: *file,
            fd: fd.as_raw_fd(),
        };
        self.held.iter().map(pass).collect()
    }

    /// Takes the listeners that the previous program left in this process. If one was not left
    /// open, the next worker binds it again.
    pub(super) fn from_handover(handover: ListenersHandover) -> Listeners {
        let take = |passed| {
            let taken = take(passed).and_then(|listener| {
                set_cloexec(&listener.fd, true)?;
                Ok(listener)
            });
            taken
                .inspect_err(|error| tracing::error!(%error, "cannot hold a listener any more"))
                .ok()
        };
        let held = handover.held.into_iter().filter_map(take).collect();
        Listeners { held, missing: handover.missing }
    }
}

/// Takes a descriptor that the previous program, or the keeper, left open for us.
fn take(PassedListener { address, file, fd }: PassedListener) -> io::Result<Listener> {
    // SAFETY: the descriptor is open, and no value here owns it, so nothing closes it meanwhile.
    let is_ours = is_open(fd) && is_listener(unsafe { BorrowedFd::borrow_raw(fd) });
    if !is_ours {
        return Err(io::Error::other(format!("descriptor {fd} is not a listener for {address}")));
    }
    // SAFETY: the descriptor is an open listener, left for this call, which is made once for each:
    // no other value owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(Listener { address, file, fd })
}

/// Whether a descriptor is a listening stream socket.
pub fn is_listener(fd: BorrowedFd<'_>) -> bool {
    use nix::sys::socket::{SockType, getsockopt, sockopt};
    getsockopt(&fd, sockopt::AcceptConn) == Ok(true)
        && getsockopt(&fd, sockopt::SockType) == Ok(SockType::Stream)
}

/// Takes the listeners that the keeper has passed to this worker, from the value of [`LISTENERS`].
/// Each must be one of `inherited`, the descriptors that this process was started with. Call it
/// only once, because it takes ownership, and only if our parent is known to be the keeper, because
/// anybody else may set the variable.
pub fn inherited(text: Option<&str>, inherited: &[RawFd]) -> Vec<Listener> {
    let passed: Vec<PassedListener> =
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let ours = passed.into_iter().filter(|passed| inherited.contains(&passed.fd));
    ours.filter_map(|passed| {
        take(passed).inspect_err(|error| tracing::warn!(%error, "cannot keep a listener")).ok()
    })
    .collect()
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn tcp() -> Listener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Listener {
            address: Address::Tcp(listener.local_addr().unwrap()),
            file: None,
            fd: listener.into(),
        }
    }

    #[test]
    fn only_listeners_of_the_worker_stay_held() {
        let mut listeners = Listeners::default();
        let (first, second) = (tcp(), tcp());
        let (kept, gone) = (first.address.clone(), second.address.clone());
        listeners.hold(first);
        listeners.hold(second);
        // The same address again takes the place of the one before.
        let again = listeners.held[0].fd.try_clone().unwrap();
        listeners.hold(Listener { address: kept.clone(), file: None, fd: again });
        assert_eq!(listeners.held.len(), 2);
        let missing = vec![MissingListener { address: gone.clone(), error: "in use".into() }];
        listeners.agree(&[kept.clone(), gone.clone()], missing.clone());
        assert_eq!(listeners.held.len(), 2);
        listeners.agree(std::slice::from_ref(&kept), Vec::new());
        assert_eq!(
            listeners.handover().held.iter().map(PassedListener::address).collect::<Vec<_>>(),
            [&kept]
        );
        let Address::Tcp(gone) = gone else { panic!() };
        TcpListener::bind(gone).unwrap();
    }

    #[test]
    fn only_inherited_listeners_are_taken_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s\u{f6}cket");
        let unix = UnixListener::bind(&path).unwrap().into_raw_fd();
        let tcp = tcp();
        let (stream, _other) = UnixStream::pair().unwrap();
        let passed = [
            PassedListener { address: Address::Unix(path.clone()), file: file_at(&path), fd: unix },
            PassedListener { address: tcp.address.clone(), file: None, fd: tcp.fd.as_raw_fd() },
            PassedListener { address: tcp.address.clone(), file: None, fd: stream.as_raw_fd() },
            PassedListener { address: tcp.address.clone(), file: None, fd: 999_999 },
        ];
        let text = serde_json::to_string(&passed).unwrap();
        // The second one was not inherited, the third one does not listen, and the last one is not
        // open.
        let found = inherited(Some(&text), &[unix, stream.as_raw_fd(), 999_999]);
        let found: Vec<_> = found.iter().map(|one| (&one.address, one.file)).collect();
        assert_eq!(found, [(&Address::Unix(path.clone()), file_at(&path))]);
        for nothing in [None, Some(""), Some("[]"), Some("{}"), Some("[7]")] {
            assert!(inherited(nothing, &[unix]).is_empty());
        }
    }
}
