//! The doors of the service: where it listens, and whom each door may let in.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use futures_util::future::select_all;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::net::tls_server::ServerTls;

/// The longest path that the kernel takes for a socket, in bytes.
const SOCKET_PATH: usize = 107;

/// The Unix socket's name in an instance's directory.
pub const SOCKET: &str = "http.sock";

/// Where to listen.
#[derive(Default)]
pub struct Doors {
    /// On an address of the network.
    pub tcp: Option<TcpListener>,
    /// How to encrypt there; always, where others than this machine can connect.
    pub tls: Option<ServerTls>,
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
/// # Errors
/// The OS error's kind, with a text that names the address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        io::Error::new(error.kind(), format!("failed to listen on {address}: {error}"))
    })
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
        let tcp = self.tcp.as_ref().map(AsFd::as_fd);
        let unix = self.unix.as_ref().map(AsFd::as_fd);
        let waiting: Vec<_> =
            tcp.into_iter().chain(unix).map(|fd| Box::pin(readable(fd))).collect();
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
