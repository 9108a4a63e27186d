//! The doors of the service: where it listens, and whom each door may let in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use futures_util::future::select_all;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::access;
use crate::net::tls_server::ServerTls;
use crate::rotating::Rotating;

/// How often a port that is free on both loopback addresses is tried for.
const PAIR_ATTEMPTS: u32 = 16;

/// The longest path that the kernel takes for a socket, in bytes.
const SOCKET_PATH: usize = 107;

/// Where to listen.
#[derive(Default)]
pub struct Doors {
    /// On addresses of the network.
    pub tcp: Vec<TcpListener>,
    /// How to encrypt there; always, where others than this machine can connect.
    pub tls: Option<Rotating<ServerTls>>,
    /// In the file system, for programs of this user.
    pub unix: Option<UnixListener>,
}

/// Why the service may not listen where it is told to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "refusing to serve on {address}, where other machines can connect: {}",
    .missing.join(", and ")
)]
pub struct Exposed {
    /// The address.
    pub address: IpAddr,
    /// What would have to be configured.
    pub missing: Vec<&'static str>,
}

/// Whether the service may listen on an address: on the loopback always, elsewhere only encrypted, and only where not everybody
/// gets in.
///
/// # Errors
/// What is missing.
pub fn may_listen(
    address: IpAddr,
    tls: Option<&ServerTls>,
    has_token: bool,
) -> Result<(), Exposed> {
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
    if missing.is_empty() { Ok(()) } else { Err(Exposed { address, missing }) }
}

/// Listens on an address, port 0 for any that is free. The port can be bound again at once after a server on it has
/// ended (`SO_REUSEADDR`, which the standard library sets), but not while one listens.
///
/// `localhost` names two addresses, and clients try `[::1]` first. So 127.0.0.1 and `[::1]` are bound together, where the machine has both:
/// nobody else can answer in our place.
///
/// # Errors
/// The OS error's kind, with a text that names the address, and who listens there already.
pub fn listen(address: SocketAddr) -> io::Result<Vec<TcpListener>> {
    for _ in 1..PAIR_ATTEMPTS {
        match listen_on_both(address) {
            // The kernel chose the port for the one address; on the other it may be taken.
            Err(error) if address.port() == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            listeners => return listeners,
        }
    }
    listen_on_both(address)
}

fn listen_on_both(address: SocketAddr) -> io::Result<Vec<TcpListener>> {
    let first = TcpListener::bind(address).map_err(|error| not_listening(address, &error))?;
    let twin = match address.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => return Ok(vec![first]),
    };
    let twin = SocketAddr::new(twin, first.local_addr()?.port());
    match TcpListener::bind(twin) {
        Ok(second) => Ok(vec![first, second]),
        Err(error) if is_without_such_addresses(&error) => Ok(vec![first]),
        Err(error) => Err(not_listening(twin, &error)),
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

/// A path that the kernel takes for a socket, as long as this lives: one that is too long is short from its directory on.
pub struct SocketPath {
    short: PathBuf,
    _dir: std::fs::File,
}

impl SocketPath {
    /// The path of a socket that is there or is to be.
    ///
    /// # Errors
    /// The OS error of its directory; `InvalidInput` where it has no name.
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

    /// What to bind or connect to.
    pub fn path(&self) -> &Path {
        &self.short
    }
}

/// Listens on a socket in the file system, which only this user may connect to. A socket that is there already, and that nobody
/// listens on any more, is replaced.
///
/// # Errors
/// The OS error's kind, with a text that names the path; `AddrInUse` where somebody listens there.
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
    // Until here whoever may search the directory could connect; who that is, is asked of every connection all the same.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(named)?;
    Ok(listener)
}

impl Doors {
    /// Waits until somebody knocks: until then no thread is needed.
    ///
    /// # Errors
    /// The OS error of watching a listener.
    pub async fn knock(&self) -> io::Result<()> {
        let tcp = self.tcp.iter().map(AsFd::as_fd);
        let unix = self.unix.as_ref().map(AsFd::as_fd);
        let waiting: Vec<_> = tcp.chain(unix).map(|fd| Box::pin(readable(fd))).collect();
        if waiting.is_empty() {
            std::future::pending::<()>().await;
        }
        select_all(waiting).await.0
    }
}

async fn readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: what is borrowed has the same descriptor, and keeps it open, as long as it is borrowed.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(io::Error::from)?.readable().await.map(drop)
}
