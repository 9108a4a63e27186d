//! Where an instance is.

use std::path::PathBuf;

use awc::http::Uri;

/// Where an instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceAddress {
    /// Behind a Unix socket.
    Socket(PathBuf),
    /// Behind a URL, with what it takes to be let in.
    Url {
        /// Scheme, host and port.
        base: Uri,
        /// What a request bears.
        token: Option<String>,
        /// Whom to trust besides the system's roots.
        ca: Option<PathBuf>,
    },
}

impl std::fmt::Display for InstanceAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InstanceAddress::Socket(path) => write!(f, "{}", path.display()),
            InstanceAddress::Url { base, .. } => write!(f, "{base}"),
        }
    }
}

/// Whether a host of a URL is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}
