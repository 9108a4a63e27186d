//! The listeners of the worker's services: those passed by the service manager, those that the
//! keeper holds since an earlier worker, and those bound here.
//!
//! If a first start cannot listen on any configured address, it fails, so that the user learns of
//! an occupied port at once. In all other cases a worker continues with the listeners that it has,
//! reports the missing ones, and retries.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::actors::keeper_link::KeeperLink;
use crate::api::ListenerState;
use crate::app::error::RunError;
use crate::app::http_access;
use crate::config::{Env, HttpSettings, Settings};
use crate::http::{self, Listeners, SocketPath};
use crate::keeper::activation::{self, Activated};
use crate::keeper::listeners::{
    self, Address, FileId, Listener, ListenersHandover, MissingListener, file_at,
};
use crate::keeper::registry::{SOCKET, STARTING};
use crate::keeper::variables::LISTENERS;

/// Listeners that this worker was started with.
pub struct Given {
    held: Vec<Listener>,
    /// All descriptors that it was started with.
    fds: Vec<RawFd>,
}

impl Given {
    /// Takes the listeners that the keeper has left open among `fds`, the descriptors that this
    /// worker was started with. The keeper must be its parent. Must be called only once.
    pub fn take(env: &Env, fds: &[RawFd]) -> Given {
        let held = env.get(std::ffi::OsStr::new(LISTENERS)).and_then(|text| text.to_str());
        Given { held: listeners::inherited(held, fds), fds: fds.to_vec() }
    }

    /// For a first worker: the keeper holds no listener yet.
    pub fn first(fds: &[RawFd]) -> Given {
        Given { held: Vec::new(), fds: fds.to_vec() }
    }

    /// Whether the keeper holds a descriptor, so that it is not the user's.
    pub fn is_held(&self, fd: RawFd) -> bool {
        self.held.iter().any(|held| held.fd.as_raw_fd() == fd)
    }

    /// The TCP listeners of the service manager and of the keeper; and the Unix sockets.
    fn sort(self, env: &Env) -> (Vec<TcpListener>, Vec<TcpListener>, Vec<UnixSocket>) {
        let (mut passed, mut held, mut sockets) = (Vec::new(), Vec::new(), Vec::new());
        for Activated { name, address, fd } in activated(env, &self.fds) {
            tracing::info!(name, %address, "using a listener of the service manager");
            match address {
                Address::Tcp(_) => passed.push(fd.into()),
                Address::Unix(path) => sockets.push(UnixSocket {
                    file: file_at(&path),
                    path,
                    listener: fd.into(),
                    is_passed: true,
                }),
            }
        }
        for Listener { address, file, fd } in self.held {
            match address {
                Address::Tcp(_) => held.push(fd.into()),
                Address::Unix(path) => {
                    sockets.push(UnixSocket { path, file, listener: fd.into(), is_passed: false });
                }
            }
        }
        (passed, held, sockets)
    }
}

fn activated(env: &Env, fds: &[RawFd]) -> Vec<Activated> {
    activation::listeners_for(env, std::os::unix::process::parent_id(), fds)
}

/// A Unix socket that listens.
pub(super) struct UnixSocket {
    /// Its absolute path.
    pub(super) path: PathBuf,
    file: Option<FileId>,
    pub(super) listener: UnixListener,
    /// Whether the service manager has created it, and so removes it.
    pub(super) is_passed: bool,
}

/// The open listeners, and the missing ones.
pub(super) struct Listening {
    pub(super) listeners: Listeners,
    pub(super) sockets: Vec<UnixSocket>,
    /// Inherited Unix sockets of which the settings have not been consulted yet.
    given: Vec<UnixSocket>,
    pub(super) missing: Vec<MissingListener>,
}

/// Listens on the network, if the service is enabled there; `first` marks the first worker.
///
/// # Errors
/// The service would admit clients that must not be admitted; or a first worker cannot listen, and
/// has nothing else to do.
pub(super) fn on_network(
    settings: &Settings,
    env: &Env,
    given: Given,
    first: bool,
) -> Result<Listening, RunError> {
    let (passed, held, given) = given.sort(env);
    let mut listening = Listening {
        listeners: Listeners::default(),
        sockets: Vec::new(),
        given,
        missing: Vec::new(),
    };
    let http = &settings.http;
    if !http.enabled {
        if !passed.is_empty() {
            tracing::warn!(
                "not listening on the TCP sockets of LISTEN_FDS: http.enabled is not set"
            );
        }
        return Ok(listening);
    }
    let (listeners, missing) = if passed.is_empty() {
        listening.listeners.tls = http_access::admission(http, &[http.bind])?;
        let bound = http::listen_on(SocketAddr::new(http.bind, http.port), held);
        (bound.listeners, bound.missing)
    } else {
        listening.listeners.tls = http_access::admission(http, &addresses(&passed))?;
        passed.iter().for_each(http::relisten);
        (passed, Vec::new())
    };
    let has_other_work = settings.agent.enabled || http.socket.is_some();
    let must = first && !has_other_work;
    for (address, source) in missing {
        if must {
            return Err(RunError::Listen(source));
        }
        listening.miss(Address::Tcp(address), &source);
    }
    listening.listeners.tcp = listeners;
    Ok(listening)
}

fn addresses(listeners: &[TcpListener]) -> Vec<std::net::IpAddr> {
    listeners.iter().filter_map(|one| one.local_addr().ok()).map(|own| own.ip()).collect()
}

impl Listening {
    fn miss(&mut self, address: Address, error: &io::Error) {
        tracing::warn!("{error}; going on without, and trying again");
        self.missing.push(MissingListener { address, error: error.to_string() });
    }

    /// Opens the Unix socket: at the configured path, else in the instance's directory, `dir`.
    /// Opens none if the service manager has passed one.
    ///
    /// # Errors
    /// A first worker cannot listen on a configured socket, and has nothing else to do.
    pub(super) fn on_unix(
        &mut self,
        settings: &Settings,
        dir: Option<&Path>,
        first: bool,
    ) -> Result<(), RunError> {
        let opened = self.open_unix(settings, dir, first);
        if let (Some(dir), Some(socket)) = (dir, self.sockets.first())
            && socket.path != absolute(&dir.join(SOCKET))
        {
            lead_to(&socket.path, dir);
        }
        if let Some(dir) = dir {
            // Commands stop waiting for it. For a later worker, the file is gone already.
            let _ = std::fs::remove_file(dir.join(STARTING));
        }
        opened
    }

    fn open_unix(
        &mut self,
        settings: &Settings,
        dir: Option<&Path>,
        first: bool,
    ) -> Result<(), RunError> {
        let given = std::mem::take(&mut self.given);
        let (passed, mut held): (Vec<_>, Vec<_>) =
            given.into_iter().partition(|socket| socket.is_passed);
        passed.iter().for_each(|socket| http::relisten(&socket.listener));
        self.sockets = passed;
        if !self.sockets.is_empty() {
            return Ok(());
        }
        if let Some(path) = &settings.http.socket {
            match open(path, &mut held) {
                Ok(socket) => {
                    self.sockets.push(socket);
                    return Ok(());
                }
                Err(error) => {
                    let has_other_work = settings.agent.enabled || !self.listeners.tcp.is_empty();
                    if first && !has_other_work {
                        return Err(RunError::Socket(error));
                    }
                    self.miss(Address::Unix(absolute(path)), &error);
                }
            }
        }
        let Some(path) = dir.map(|dir| dir.join(SOCKET)) else { return Ok(()) };
        if path.is_symlink() {
            // The link leads to the socket that could not be opened.
            let _ = std::fs::remove_file(&path);
        }
        match open(&path, &mut held) {
            Ok(socket) => self.sockets.push(socket),
            Err(error) => self.miss(Address::Unix(absolute(&path)), &error),
        }
        Ok(())
    }

    /// Passes the TCP listeners to the keeper, for later workers.
    pub(super) fn hold_network(&self, link: &KeeperLink) {
        for listener in &self.listeners.tcp {
            hold_tcp(link, listener);
        }
    }

    /// Passes the Unix sockets to the keeper, for later workers.
    pub(super) fn hold_unix(&self, link: &KeeperLink) {
        self.sockets.iter().for_each(|socket| hold_unix(link, socket));
    }

    /// The addresses of all listeners.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let tcp = self.listeners.tcp.iter().filter_map(|listener| listener.local_addr().ok());
        let unix = self.sockets.iter().map(|socket| Address::Unix(socket.path.clone()));
        tcp.map(Address::Tcp).chain(unix).collect()
    }
}

/// Passes a TCP listener to the keeper, and returns its address.
pub(super) fn hold_tcp(link: &KeeperLink, listener: &TcpListener) -> Option<Address> {
    let address = Address::Tcp(listener.local_addr().ok()?);
    note_hold(link.hold(address.clone(), None, listener));
    Some(address)
}

/// Passes a Unix socket to the keeper.
pub(super) fn hold_unix(link: &KeeperLink, socket: &UnixSocket) {
    note_hold(link.hold(Address::Unix(socket.path.clone()), socket.file, &socket.listener));
}

fn note_hold(held: io::Result<()>) {
    if let Err(error) = held {
        tracing::warn!(%error, "the keeper cannot hold a listener for later workers");
    }
}

/// The absolute form of a path.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Listens on a socket in the file system, by the held listener if its file still exists.
pub(super) fn open(path: &Path, held: &mut Vec<UnixSocket>) -> io::Result<UnixSocket> {
    let place = absolute(path);
    let file = file_at(&place);
    if let Some(at) =
        held.iter().position(|one| one.path == place && one.file.is_some() && one.file == file)
    {
        let socket = held.swap_remove(at);
        http::relisten(&socket.listener);
        return Ok(socket);
    }
    let listener = http::listen_unix(path)?;
    Ok(UnixSocket { file: file_at(&place), path: place, listener, is_passed: false })
}

/// Links a socket elsewhere into the instance's directory, where commands look for it.
pub(super) fn lead_to(socket: &Path, dir: &Path) {
    let beside = dir.join("http.sock.new");
    let _ = std::fs::remove_file(&beside);
    let linked = std::os::unix::fs::symlink(socket, &beside)
        .and_then(|()| std::fs::rename(&beside, dir.join(SOCKET)));
    if let Err(error) = linked {
        tracing::warn!(%error, "commands find this instance only by --socket");
    }
}

/// Listeners as clients see them.
pub(super) fn states(on: &[Address], missing: &[MissingListener]) -> Vec<ListenerState> {
    let on = on.iter().map(|one| ListenerState { address: one.to_string(), error: None });
    let missing = missing.iter().map(|MissingListener { address, error }| ListenerState {
        address: address.to_string(),
        error: Some(error.clone()),
    });
    on.chain(missing).collect()
}

/// The listeners in the handover of a keeper that is to be replaced.
pub struct Before<'a> {
    /// The pid of its worker.
    pub worker: Option<u32>,
    /// The listeners that it holds, and those that its worker misses.
    pub listeners: &'a ListenersHandover,
}

impl Before<'_> {
    /// Whether an address is held for the next worker, or missed by this one already.
    fn knows(&self, address: &Address) -> bool {
        let held = self.listeners.held.iter().map(listeners::PassedListener::address);
        held.chain(self.listeners.missing.iter().map(|one| &one.address)).any(|one| one == address)
    }
}

/// Whether a worker could listen once the worker of the keeper `before` has ended; `fds` are the
/// descriptors that this process was started with. Changes nothing.
///
/// # Errors
/// As [`on_network`] and [`Listening::on_unix`] of a worker that has nothing else to do.
pub(super) fn rehearse(
    settings: &HttpSettings,
    env: &Env,
    fds: &[RawFd],
    before: &Before<'_>,
) -> Result<(), RunError> {
    let activated = activated(env, fds);
    let tcp: Vec<SocketAddr> = activated
        .iter()
        .filter_map(
            |one| if let Address::Tcp(address) = &one.address { Some(*address) } else { None },
        )
        .collect();
    if let Some(path) = &settings.socket
        && activated.len() == tcp.len()
        && !before.knows(&Address::Unix(absolute(path)))
    {
        rehearse_unix(path, before.worker).map_err(RunError::Socket)?;
    }
    if !settings.enabled {
        return Ok(());
    }
    if !tcp.is_empty() {
        let addresses: Vec<_> = tcp.iter().map(SocketAddr::ip).collect();
        return http_access::admission(settings, &addresses).map(drop);
    }
    http_access::admission(settings, &[settings.bind])?;
    let address = SocketAddr::new(settings.bind, settings.port);
    let bound = http::listen_on(address, Vec::new());
    let refused = bound.missing.into_iter().find(|(missing, error)| {
        let is_free_later = error.kind() == io::ErrorKind::AddrInUse
            && before.worker.is_some_and(|pid| http::listens(pid, missing.port()));
        !is_free_later && !before.knows(&Address::Tcp(*missing))
    });
    refused.map_or(Ok(()), |(_, source)| Err(RunError::Listen(source)))
}

fn rehearse_unix(path: &Path, predecessor: Option<u32>) -> io::Result<()> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("failed to listen on {}: {error}", path.display()))
    };
    SocketPath::new(path).map_err(named)?;
    match http::listener_of(path) {
        Some(pid) if Some(pid) != predecessor => Err(named(io::ErrorKind::AddrInUse.into())),
        _ => Ok(()),
    }
}
