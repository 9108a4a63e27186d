//! The listeners of the service, on its addresses and its Unix socket, and the access to each.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use futures_util::future::select_all;
use nix::sys::socket::sockopt::{ReuseAddr, ReusePort};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, setsockopt, socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::access;
use crate::net::tls_server::ServerTls;
use crate::rotating::Rotating;

/// Number of attempts to find a port that is free on both loopback addresses.
const PAIR_ATTEMPTS: u32 = 16;

/// Length of the accept queue, as far as the kernel allows.
const BACKLOG: u32 = 1024;

/// Maximum length of a socket's path in the kernel, in bytes.
const SOCKET_PATH: usize = 107;

/// The listeners of a service.
#[derive(Default)]
pub struct Listeners {
    /// TCP sockets.
    pub tcp: Vec<TcpListener>,
    /// Their encryption; mandatory if other machines can connect.
    pub tls: Option<Rotating<ServerTls>>,
    /// A socket in the file system, for programs of this user.
    pub unix: Option<UnixListener>,
}

/// Why the service must not listen on a configured address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "refusing to serve on {address}, where other machines can connect: {}",
    .missing.join(", and ")
)]
pub struct ExposedAddress {
    /// The address.
    pub address: IpAddr,
    /// The settings that are missing.
    pub missing: Vec<&'static str>,
}

/// Checks that the service may listen on an address: on the loopback always, elsewhere only with
/// encryption and access control.
///
/// # Errors
/// The missing settings.
pub fn may_listen(
    address: IpAddr,
    tls: Option<&ServerTls>,
    has_token: bool,
) -> Result<(), ExposedAddress> {
    if address.to_canonical().is_loopback() {
        return Ok(());
    }
    let mut missing = Vec::new();
    if tls.is_none() {
        missing.push("set http.tls_cert and http.tls_key, for TLS");
    }
    if !has_token && !tls.is_some_and(|tls| tls.client_certificates) {
        missing.push("set http.token, or http.client_ca for client certificates");
    }
    if missing.is_empty() { Ok(()) } else { Err(ExposedAddress { address, missing }) }
}

/// The requested addresses that were bound, and the others.
#[derive(Debug, Default)]
pub struct BoundListeners {
    /// The listeners.
    pub listeners: Vec<TcpListener>,
    /// The addresses that could not be bound; each error names the address, and the process that
    /// listens there.
    pub missing: Vec<(SocketAddr, io::Error)>,
    /// The number of inherited listeners.
    adopted: usize,
}

/// Listens on an address, port 0 for any free port. The port can be bound again at once after a
/// server on it has ended (`SO_REUSEADDR`, which the standard library sets), but not while one
/// listens. Uses listeners of `given` instead of binding their addresses; any port of theirs
/// satisfies port 0.
///
/// `localhost` names two addresses, and clients try `[::1]` first. So 127.0.0.1 and `[::1]` are
/// bound together, if the machine has both: no other process can answer in our place.
pub fn listen_on(address: SocketAddr, mut given: Vec<TcpListener>) -> BoundListeners {
    for _ in 1..PAIR_ATTEMPTS {
        let bound = bind_both(address, &mut given);
        // The kernel chose the port for the one address; on the other it may be taken.
        let taken = bound.missing.iter().any(|(_, error)| error.kind() == io::ErrorKind::AddrInUse);
        if address.port() != 0 || bound.adopted > 0 || !taken {
            return bound;
        }
    }
    bind_both(address, &mut given)
}

/// Listens on an address as [`listen_on`] does, but fails unless all its addresses can be bound.
///
/// # Errors
/// The OS error's kind, with a text that names the address, and the process that listens there
/// already.
pub fn listen(address: SocketAddr) -> io::Result<Vec<TcpListener>> {
    let BoundListeners { listeners, missing, .. } = listen_on(address, Vec::new());
    missing.into_iter().next().map_or(Ok(listeners), |(_, error)| Err(error))
}

fn bind_both(address: SocketAddr, given: &mut Vec<TcpListener>) -> BoundListeners {
    let mut bound = BoundListeners::default();
    bound.add(address, given);
    let twin = match address.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => return bound,
    };
    let first = bound.listeners.first().and_then(|first| first.local_addr().ok());
    let port = first.map_or(address.port(), |first| first.port());
    if port != 0 {
        bound.add(SocketAddr::new(twin, port), given);
        bound
            .missing
            .retain(|(address, error)| address.ip() != twin || !is_without_such_addresses(error));
    }
    bound
}

impl BoundListeners {
    fn add(&mut self, address: SocketAddr, given: &mut Vec<TcpListener>) {
        let fits = |listener: &TcpListener| {
            listener.local_addr().is_ok_and(|own| {
                own.ip() == address.ip() && (address.port() == 0 || own.port() == address.port())
            })
        };
        if let Some(at) = given.iter().position(fits) {
            let listener = given.swap_remove(at);
            relisten(&listener);
            self.adopted += 1;
            return self.listeners.push(listener);
        }
        let bound = bind(address).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => bind_beside(address, given).ok_or(error),
            _ => Err(error),
        });
        match bound {
            Ok(listener) => self.listeners.push(listener),
            Err(error) => self.missing.push((address, error)),
        }
    }
}

/// Listens on an address beside inherited listeners with the same port: 0.0.0.0 beside 127.0.0.1,
/// say. Those are closed only once this one listens, so that the port is never free for others.
fn bind_beside(address: SocketAddr, given: &[TcpListener]) -> Option<TcpListener> {
    let has_port =
        |one: &&TcpListener| one.local_addr().is_ok_and(|own| own.port() == address.port());
    let beside: Vec<&TcpListener> = given.iter().filter(has_port).collect();
    if beside.is_empty() {
        return None;
    }
    // Only sockets of the same user can share a port.
    let share = |socket: &dyn AsFd, shared| {
        setsockopt(&socket.as_fd(), ReusePort, &shared).map_err(io::Error::from)
    };
    let bind = || -> io::Result<TcpListener> {
        beside.iter().try_for_each(|one| share(*one, true))?;
        let flags = SockFlag::SOCK_CLOEXEC;
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, flags, None)?;
        setsockopt(&socket, ReuseAddr, &true)?;
        share(&socket, true)?;
        nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
        nix::sys::socket::listen(&socket, Backlog::new(BACKLOG.cast_signed())?)?;
        share(&socket, false)?;
        Ok(socket.into())
    };
    let bound = bind();
    for one in beside {
        // The listener is about to be closed, or remains unchanged.
        let _ = share(one, false);
    }
    bound
        .inspect_err(
            |error| tracing::debug!(%error, %address, "cannot bind beside another listener"),
        )
        .ok()
}

/// Listens on one address, without its twin.
///
/// # Errors
/// The OS error's kind, with a text that names the address, and the process that listens there
/// already.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).map_err(|error| not_listening(address, &error))?;
    relisten(&listener);
    Ok(listener)
}

/// Listens with a queue for all clients that connect while no worker lives. For a Unix socket, this
/// process becomes the peer that clients see.
pub fn relisten(listener: &impl AsFd) {
    let backlog = Backlog::new(BACKLOG.cast_signed());
    let listening =
        backlog.and_then(|backlog| nix::sys::socket::listen(&listener.as_fd(), backlog));
    if let Err(error) = listening {
        tracing::debug!(%error, "cannot change the backlog of a listener");
    }
}

fn not_listening(address: SocketAddr, error: &io::Error) -> io::Error {
    let remedy = match (error.kind(), access::listening_user(address)) {
        (io::ErrorKind::AddrInUse, Some(uid)) => {
            format!(": user ID {uid} listens there; choose another port, or end that program")
        }
        (io::ErrorKind::AddrInUse, None) => "; choose another port".to_owned(),
        _ => String::new(),
    };
    io::Error::new(error.kind(), format!("failed to listen on {address}: {error}{remedy}"))
}

/// Whether the machine has no loopback address of this family.
fn is_without_such_addresses(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}

/// A path of a socket that the kernel accepts, for the lifetime of this value: a long path is
/// shortened by a descriptor of its directory.
pub struct SocketPath {
    short: PathBuf,
    _dir: std::fs::File,
}

impl SocketPath {
    /// The path of an existing or a future socket.
    ///
    /// # Errors
    /// The OS error of its directory; `InvalidInput` if it has no file name.
    pub fn new(path: &Path) -> io::Result<SocketPath> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let held = std::fs::File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(dir)?;
        let short = match path.as_os_str().len() {
            0..=SOCKET_PATH => path.to_path_buf(),
            _ => PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())).join(file),
        };
        Ok(SocketPath { short, _dir: held })
    }

    /// The path to bind or connect to.
    pub fn path(&self) -> &Path {
        &self.short
    }
}

/// Listens on a socket in the file system, to which only this user may connect. Replaces an
/// existing socket without a listener.
///
/// # Errors
/// The OS error's kind, with a text that names the path; `AddrInUse` if a process listens there.
pub fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("failed to listen on {}: {error}", path.display()))
    };
    let short = SocketPath::new(path).map_err(named)?;
    let short = short.path();
    if path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(short).is_ok() {
            return Err(named(io::ErrorKind::AddrInUse.into()));
        }
        std::fs::remove_file(path).map_err(named)?;
    }
    let listener = UnixListener::bind(short).map_err(named)?;
    relisten(&listener);
    // Until here, every user who may search the directory could connect. That is harmless: each
    // connection's user is checked.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(named)?;
    Ok(listener)
}

/// Listeners that are served by threads of their own.
pub enum Listener {
    /// TCP sockets.
    Tcp(Vec<TcpListener>),
    /// A socket in the file system.
    Unix(UnixListener),
}

impl Listener {
    /// Waits for the first client: until then no thread is needed.
    ///
    /// # Errors
    /// The OS error of watching a listener.
    pub(super) async fn connected(&self) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = match self {
            Listener::Tcp(listeners) => listeners.iter().map(AsFd::as_fd).collect(),
            Listener::Unix(listener) => vec![listener.as_fd()],
        };
        let waiting: Vec<_> = fds.into_iter().map(|fd| Box::pin(readable(fd))).collect();
        if waiting.is_empty() {
            std::future::pending::<()>().await;
        }
        select_all(waiting).await.0
    }
}

async fn readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a borrowed listener keeps its descriptor open as long as it is borrowed.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(io::Error::from)?.readable().await.map(drop)
}
