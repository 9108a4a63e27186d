//! The HTTP service's doors, as the settings have them.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::RunError;
use crate::cli::chain;
use crate::config::{HttpSettings, Secret, read_secret_file};
use crate::http::access::{Policy, Remote};
use crate::http::{self, Doors, Limits, SocketPath};
use crate::keeper::registry::{SOCKET, STARTING};
use crate::net::tls_server::{ServerTls, rotating_server_tls};
use crate::rotating::Rotating;

/// The door to the network, open, where there shall be one.
///
/// # Errors
/// Where it would let in whom it must not, or cannot be opened.
pub(super) fn network(settings: &HttpSettings) -> Result<Doors, RunError> {
    if !settings.serve {
        return Ok(Doors::default());
    }
    if settings.require_token && settings.token.is_none() {
        return Err(RunError::NoToken);
    }
    let tls = tls(settings)?;
    let now = tls.as_ref().map(Rotating::get);
    http::may_listen(settings.bind, now.as_deref(), settings.token.is_some())?;
    let address = SocketAddr::new(settings.bind, settings.port);
    let tcp = http::listen(address).map_err(|source| RunError::Listen { address, source })?;
    Ok(Doors { tcp, tls, unix: None })
}

/// Whether these doors could be opened once the agent with pid `predecessor` has ended. None of them is.
///
/// # Errors
/// As [`network`] and [`unix`].
pub(super) fn rehearse(settings: &HttpSettings, predecessor: Option<u32>) -> Result<(), RunError> {
    if let Some(path) = &settings.socket {
        rehearse_unix(path, predecessor).map_err(RunError::Socket)?;
    }
    match network(settings) {
        Err(RunError::Listen { address, source })
            if source.kind() == io::ErrorKind::AddrInUse
                && predecessor.is_some_and(|pid| http::listens(pid, address.port())) =>
        {
            Ok(())
        }
        opened => opened.map(drop),
    }
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

fn tls(settings: &HttpSettings) -> Result<Option<Rotating<ServerTls>>, RunError> {
    let half = |given, missing| Err(RunError::HalfTls { given, missing });
    match (&settings.tls_cert, &settings.tls_key, &settings.client_ca) {
        (None, None, None) => Ok(None),
        (Some(_), None, _) => half("tls_cert", "tls_key"),
        (None, Some(_), _) => half("tls_key", "tls_cert"),
        (None, None, Some(_)) => half("client_ca", "tls_cert and http.tls_key"),
        (Some(cert), Some(key), ca) => {
            rotating_server_tls(cert, key, ca.as_deref()).map(Some).map_err(RunError::HttpTls)
        }
    }
}

/// Opens the Unix socket: where the settings say, or in the instance's directory, `dir`. Gives its path.
///
/// # Errors
/// Where one that is asked for cannot be had. That there can be none in the instance's directory is only a warning: it
/// must not cost the processes.
pub(super) fn unix(
    settings: &HttpSettings,
    dir: Option<&Path>,
    doors: &mut Doors,
) -> Result<Option<PathBuf>, RunError> {
    let own = dir.map(|dir| dir.join(SOCKET));
    let Some(path) = settings.socket.clone().or(own) else { return Ok(None) };
    let listening = http::listen_unix(&path);
    if let (Some(dir), Some(path)) = (dir, &settings.socket)
        && listening.is_ok()
    {
        lead_to(path, dir);
    }
    if let Some(dir) = dir {
        // Commands wait for it no longer. A later agent finds this gone.
        let _ = std::fs::remove_file(dir.join(STARTING));
    }
    match listening {
        Ok(listener) => {
            doors.unix = Some(listener);
            Ok(Some(path))
        }
        Err(error) if settings.socket.is_some() => Err(RunError::Socket(error)),
        Err(error) => {
            tracing::warn!(%error, "no http service on a unix socket");
            Ok(None)
        }
    }
}

/// Has commands that look into the instance's directory find a socket that is elsewhere.
fn lead_to(socket: &Path, dir: &Path) {
    let beside = dir.join("http.sock.new");
    let _ = std::fs::remove_file(&beside);
    let linked = std::path::absolute(socket)
        .and_then(|socket| std::os::unix::fs::symlink(socket, &beside))
        .and_then(|()| std::fs::rename(&beside, dir.join(SOCKET)));
    if let Err(error) = linked {
        tracing::warn!(%error, "commands find this instance only by --socket");
    }
}

/// Who may use the service; `socket` is the path of its Unix socket.
pub(super) fn policy(
    settings: &HttpSettings,
    token_file: Option<&Path>,
    tls: Option<&Rotating<ServerTls>>,
    socket: Option<PathBuf>,
) -> Policy {
    let token = settings.token.clone().map(|token| rotating_token("http.token", token, token_file));
    let policy = Policy::new(nix::unistd::geteuid().as_raw(), None)
        .with_token(token)
        .requiring_the_token(settings.require_token)
        .with_socket(socket);
    match tls {
        Some(tls) => policy.with_remote(Remote::rotating(tls.clone())),
        None => policy,
    }
}

/// A token that is read again when its file changes, where it comes from one.
pub(super) fn rotating_token(
    setting: &'static str,
    token: Secret,
    file: Option<&Path>,
) -> Rotating<Secret> {
    let Some(file) = file.map(Path::to_path_buf) else { return Arc::new(token).into() };
    let files = vec![file.clone()];
    Rotating::made_before(token, setting, files, move || {
        read_secret_file(setting, &file).map_err(|error| chain(&error))
    })
}

/// What a client may cost.
pub(super) fn limits(settings: &HttpSettings) -> Limits {
    Limits {
        connections: usize::try_from(settings.connections).unwrap_or(usize::MAX),
        head_timeout: settings.head_timeout,
        body: settings.body_limit,
    }
}
