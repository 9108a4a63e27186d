//! Access control and limits of the HTTP service, from the settings.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::app::error::RunError;
use crate::app::token::rotating_token;
use crate::config::HttpSettings;
use crate::http::access::{Policy, Remote};
use crate::http::{self, HttpLimits, UnauthenticatedLimits};
use crate::net::tls_server::{ServerTls, rotating_server_tls};
use crate::rotating::Rotating;

/// The encryption of connections at these addresses, if clients may be admitted there at all.
///
/// # Errors
/// The settings admit clients that must not be admitted, or the TLS files are unusable.
pub(super) fn admission(
    settings: &HttpSettings,
    addresses: &[IpAddr],
) -> Result<Option<Rotating<ServerTls>>, RunError> {
    if settings.require_token && settings.token.is_none() {
        return Err(RunError::NoToken);
    }
    let tls = tls(settings)?;
    let now = tls.as_ref().map(Rotating::get);
    for address in addresses {
        http::may_listen(*address, now.as_deref(), settings.token.is_some())?;
    }
    Ok(tls)
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

/// The access policy of the service; `socket` is the path of its Unix socket.
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

/// The limits of clients.
pub(super) fn limits(settings: &HttpSettings) -> HttpLimits {
    let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    HttpLimits {
        connections: count(settings.max_connections),
        unauthenticated: UnauthenticatedLimits {
            // At most half of all connections, so that the other half remains for authorized
            // clients.
            connections: count(settings.unauthenticated_connections)
                .min(count(settings.max_connections).div_ceil(2)),
            per_source: count(settings.unauthenticated_per_source),
            timeout: settings.unauthenticated_timeout,
        },
        handshake_timeout: settings.handshake_timeout,
        head_timeout: settings.header_timeout,
        body: settings.max_body,
    }
}
