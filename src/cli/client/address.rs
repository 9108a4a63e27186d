//! The address of an instance.

use std::path::PathBuf;

use awc::http::Uri;

/// The address of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceAddress {
    /// A Unix socket.
    Socket(PathBuf),
    /// A URL, with the credentials for it.
    Url {
        /// Scheme, host and port.
        base: Uri,
        /// The token that requests present.
        token: Option<String>,
        /// A file of roots to trust instead of the system's.
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

/// Whether a host of a URL names this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}
