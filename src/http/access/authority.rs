//! Hosts and ports in the headers `Host` and `Origin`; only those of the loopback are valid.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::session::Sessions;

/// The default ports of `http://` and `https://`.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// A host of this machine's loopback, and the port after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Localhost,
    Address(IpAddr),
    /// A name below `localhost` that is one of our sessions'; in lower case, without `.localhost`.
    Session(String),
}

impl Authority {
    /// Parses `HOST` or `HOST:PORT`; `None` unless HOST is `localhost`, in 127.0.0.0/8, `[::1]`, or
    /// of one of the sessions.
    ///
    /// Other names below `localhost` are rejected: some resolvers look them up on other machines.
    pub(super) fn parse_loopback(text: &[u8], sessions: &Sessions) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                let address = IpAddr::V6(address.parse::<Ipv6Addr>().ok()?).to_canonical();
                (Host::Address(address), (!port.is_empty()).then_some(port))
            }
            None => {
                let end = text.find(':').unwrap_or(text.len());
                let (name, port) = text.split_at_checked(end)?;
                (Host::parse_name(name, sessions)?, (!port.is_empty()).then_some(port))
            }
        };
        let port = match port {
            Some(port) => Some(parse_port(port.strip_prefix(':')?)?),
            None => None,
        };
        host.is_loopback().then_some(Self { host, port })
    }

    /// The site that a session at this host is bound to. Without TLS only the names of sessions
    /// have one: any other name of the loopback may be the origin of an earlier program on the same
    /// port.
    pub(super) fn session_site(&self, tls: bool) -> Option<String> {
        match (&self.host, tls) {
            (Host::Session(label), _) => Some(label.clone()),
            (Host::Localhost, true) => Some("localhost".to_owned()),
            (Host::Address(address), true) => Some(address.to_string()),
            (_, false) => None,
        }
    }

    /// Whether both are the same service with the scheme `http`, or `https` with `tls`.
    pub(super) fn is_same_service(&self, other: &Self, tls: bool) -> bool {
        let default = if tls { HTTPS_PORT } else { HTTP_PORT };
        self.host == other.host && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

impl Host {
    fn parse_name(name: &str, sessions: &Sessions) -> Option<Self> {
        if let Some((label, "localhost")) = name.split_once('.')
            && sessions.is_label(label)
        {
            return Some(Self::Session(label.to_owned()));
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.eq_ignore_ascii_case("localhost") {
            return Some(Self::Localhost);
        }
        name.parse::<Ipv4Addr>().ok().map(|address| Self::Address(IpAddr::V4(address)))
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Localhost | Self::Session(_) => true,
            Self::Address(address) => address.is_loopback(),
        }
    }
}

/// The authority of an `Origin`, if that is on our loopback and has our scheme: `http`, or `https`
/// with `tls`.
pub(super) fn origin_authority(origin: &[u8], tls: bool, sessions: &Sessions) -> Option<Authority> {
    let ours: &[u8] = if tls { b"https://" } else { b"http://" };
    let (scheme, rest) = origin.split_at_checked(ours.len())?;
    scheme.eq_ignore_ascii_case(ours).then_some(())?;
    Authority::parse_loopback(rest, sessions)
}

/// Digits only: the standard parser would accept a sign too.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
