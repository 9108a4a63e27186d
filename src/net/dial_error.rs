//! Errors of connecting: each problem with a remedy of its own is a variant, and one line in the
//! log.

use std::{fmt, io, net::SocketAddr, time::Duration};

use rustls::CertificateError;
use thiserror::Error;

use super::answer::Refusal;
use super::tls_reason;

/// The settings of the certificates that an agent trusts.
const TRUST: &str = "PROCSTAR_AGENT_CERT, or PROCSTAR_AGENT_CA where that is set";

/// Why an attempt to connect failed. `target` is `HOST:PORT`.
#[derive(Debug, Error)]
pub enum DialError {
    /// The name has no address, or could not be looked up.
    #[error("cannot resolve host name {host:?}: {source}; correct the name, or DNS")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's reason.
        #[source]
        source: io::Error,
    },
    /// No address of the host accepted a TCP connection.
    #[error("cannot connect to {target}: {failures}")]
    Connect {
        /// The target.
        target: String,
        /// Every address, with its reason.
        failures: Failures,
    },
    /// The server's certificate is not trusted, not current, or not for this host.
    #[error("server certificate of {target} refused: {}", tls_reason::certificate(reason, TRUST))]
    Certificate {
        /// The target.
        target: String,
        /// rustls' reason.
        reason: CertificateError,
    },
    /// TLS failed in another way: the server may not speak it.
    #[error("tls handshake with {target} failed: {}", tls_reason::handshake(source, TRUST))]
    Tls {
        /// The target.
        target: String,
        /// The reason of rustls, or of the system.
        #[source]
        source: io::Error,
    },
    /// The server, or a gateway before it, answered in HTTP and did not switch to a WebSocket.
    #[error("cannot connect to {target}: {refusal}")]
    Status {
        /// The target.
        target: String,
        /// Its answer.
        refusal: Refusal,
    },
    /// The scheduler's answer to the upgrade was invalid.
    #[error("websocket upgrade with {target} failed: {reason}")]
    Upgrade {
        /// The target.
        target: String,
        /// The fault.
        reason: String,
    },
    /// A step took too long.
    #[error("{phase} {target} timed out after {after:?}")]
    Timeout {
        /// The target.
        target: String,
        /// The step.
        phase: DialPhase,
        /// Its timeout.
        after: Duration,
    },
}

/// A step of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialPhase {
    /// Name to addresses.
    Resolve,
    /// TCP to every address.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The WebSocket upgrade.
    Upgrade,
}

impl fmt::Display for DialPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the host name of",
            Self::Connect => "connecting to",
            Self::Tls => "tls handshake with",
            Self::Upgrade => "websocket upgrade with",
        })
    }
}

/// The addresses that did not accept a connection, in the order tried.
#[derive(Debug)]
pub struct Failures(pub Vec<(SocketAddr, io::Error)>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (addr, err)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{addr}: {}", Reason(err))?;
        }
        Ok(())
    }
}

/// An OS error in lower case if Rust has a name for it, in its own words otherwise.
struct Reason<'a>(&'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            io::ErrorKind::ConnectionRefused => f.write_str("connection refused"),
            io::ErrorKind::HostUnreachable => f.write_str("host unreachable"),
            io::ErrorKind::NetworkUnreachable => f.write_str("network unreachable"),
            _ => write!(f, "{}", self.0),
        }
    }
}

impl DialError {
    /// Classifies the error of a TLS handshake.
    pub(super) fn of_tls(target: String, source: io::Error) -> Self {
        match tls_reason::rustls_error(&source) {
            Some(rustls::Error::InvalidCertificate(reason)) => {
                Self::Certificate { target, reason: reason.clone() }
            }
            _ => Self::Tls { target, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_the_log() {
        let target = || "host:59789".to_owned();
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let other = io::Error::new(io::ErrorKind::TimedOut, "timed out");
        let failures = Failures(vec![
            (([127, 0, 0, 1], 59789).into(), refused),
            (([127, 0, 0, 2], 59789).into(), other),
        ]);
        let refusal = Refusal { status: 404, reason: "Not Found".to_owned(), location: None };
        let lines = [
            DialError::Connect { target: target(), failures }.to_string(),
            DialError::Certificate { target: target(), reason: CertificateError::UnknownIssuer }
                .to_string(),
            DialError::Status { target: target(), refusal }.to_string(),
            DialError::Timeout {
                target: target(),
                phase: DialPhase::Tls,
                after: Duration::from_secs(10),
            }
            .to_string(),
        ];
        assert_eq!(
            lines,
            [
                "cannot connect to host:59789: 127.0.0.1:59789: connection refused, \
                 127.0.0.2:59789: timed out",
                "server certificate of host:59789 refused: its issuer is not trusted; if it is self-signed or \
                 issued by a private authority, name the PEM file in PROCSTAR_AGENT_CERT, or \
                 PROCSTAR_AGENT_CA where that is set",
                "cannot connect to host:59789: server answered 404 Not Found; it is not a websocket server: check \
                 agent.host and agent.port",
                "tls handshake with host:59789 timed out after 10s",
            ]
        );
    }
}
