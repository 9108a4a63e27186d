//! From a host and a port to a [`Link`]: name, TCP, TLS, WebSocket upgrade.
//!
//! awc could do all of it, but reports only "I/O error" or "timeout" for problems with different
//! remedies, and it cannot pass an IPv6 literal to TLS. So this module connects to each address,
//! actix-tls' connector does TLS, and `upgrade` requests the WebSocket. Bytes beyond the
//! scheduler's answer are returned with the stream.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use actix_tls::connect::{
    Connection, Host,
    rustls_0_23::{TlsConnector, reexports::AsyncTlsStream},
};
use actix_web::dev::Service;
use futures_util::future::LocalBoxFuture;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};

use crate::rotating::Rotating;

pub use super::answer::Refusal;
pub use super::dial_error::{DialError, DialPhase, Failures};
use super::{
    keep_alive::keep_alive,
    socket::{self, Link, SocketLimits},
    upgrade::upgrade,
};

/// Makes connections to the scheduler. Tests replace it by a server of their own.
pub trait Dial {
    /// Makes one attempt, with every address of the host.
    fn dial(&self) -> LocalBoxFuture<'static, Result<Link, DialError>>;
}

/// How long the steps of an attempt may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name to addresses.
    pub resolve: Duration,
    /// TCP, for all addresses of the host together.
    pub connect: Duration,
    /// The TLS handshake, for each address that accepted TCP.
    pub tls: Duration,
    /// The WebSocket upgrade, for each address that completed TLS.
    pub upgrade: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let step = Duration::from_secs(10);
        Self { resolve: step, connect: step, tls: step, upgrade: step }
    }
}

/// Dials `wss://HOST:PORT/`.
#[derive(Clone, Debug)]
pub struct WssDialer {
    target: Rc<Target>,
}

impl WssDialer {
    /// A dialer with default timeouts and limits. `host` is a name or an address; an IPv6 address
    /// may stand in brackets. `tls` is made by [`client_config`](super::tls::client_config).
    #[must_use]
    pub fn new(host: &str, port: u16, tls: impl Into<Rotating<ClientConfig>>) -> Self {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let target = Target {
            host: bare.to_owned(),
            port,
            tls: tls.into(),
            timeouts: Timeouts::default(),
            limits: SocketLimits::default(),
        };
        Self { target: Rc::new(target) }
    }

    /// The same dialer with other timeouts.
    #[must_use]
    pub fn timeouts(self, timeouts: Timeouts) -> Self {
        Self { target: Rc::new(Target { timeouts, ..Rc::unwrap_or_clone(self.target) }) }
    }

    /// The same dialer with other limits for its connections.
    #[must_use]
    pub fn limits(self, limits: SocketLimits) -> Self {
        Self { target: Rc::new(Target { limits, ..Rc::unwrap_or_clone(self.target) }) }
    }
}

impl Dial for WssDialer {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Link, DialError>> {
        let target = Rc::clone(&self.target);
        Box::pin(async move { target.dial().await })
    }
}

/// The target, and the settings of the connection.
#[derive(Clone, Debug)]
struct Target {
    /// Without brackets.
    host: String,
    port: u16,
    tls: Rotating<ClientConfig>,
    timeouts: Timeouts,
    limits: SocketLimits,
}

impl Target {
    /// `HOST:PORT`, in the spelling of a URL.
    fn authority(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    async fn dial(&self) -> Result<Link, DialError> {
        let mut refused = Vec::new();
        // The error of the first address that accepted TCP: it says more than a refusal by another
        // one.
        let mut failed = None;
        let mut budget = self.timeouts.connect;
        let addrs = self.resolve().await?;
        for (i, &addr) in addrs.iter().enumerate() {
            // Each address has its share of the time, so that a dead one leaves some for the
            // others.
            let left = u32::try_from(addrs.len() - i).unwrap_or(u32::MAX);
            let begin = Instant::now();
            match connect(addr, budget / left.max(1)).await {
                Err(err) => refused.push((addr, err)),
                Ok(tcp) => match self.open(tcp).await {
                    Ok(link) => return Ok(link),
                    Err(err) => failed = failed.or(Some(err)),
                },
            }
            budget = budget.saturating_sub(begin.elapsed());
        }
        Err(failed.unwrap_or_else(|| self.not_connected(refused)))
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, DialError> {
        let resolve = |source| DialError::Resolve { host: self.host.clone(), source };
        let lookup = lookup_host((self.host.as_str(), self.port));
        let mut addrs: Vec<_> = timeout(self.timeouts.resolve, lookup)
            .await
            .map_err(|_| self.timed_out(DialPhase::Resolve, self.timeouts.resolve))?
            .map_err(resolve)?
            .collect();
        if addrs.is_empty() {
            return Err(resolve(io::Error::new(io::ErrorKind::NotFound, "name has no address")));
        }
        let mut seen = std::collections::HashSet::new();
        addrs.retain(|addr| seen.insert(*addr));
        Ok(addrs)
    }

    /// TLS and upgrade on an open TCP connection.
    async fn open(&self, tcp: TcpStream) -> Result<Link, DialError> {
        let limit = self.timeouts.tls;
        let stream = timeout(limit, self.secure(tcp))
            .await
            .map_err(|_| self.timed_out(DialPhase::Tls, limit))?
            .map_err(|err| DialError::of_tls(self.authority(), err))?;
        let limit = self.timeouts.upgrade;
        let (stream, early) = timeout(limit, upgrade(&self.authority(), stream))
            .await
            .map_err(|_| self.timed_out(DialPhase::Upgrade, limit))??;
        Ok(socket::start(stream, early, self.limits))
    }

    async fn secure(&self, tcp: TcpStream) -> io::Result<AsyncTlsStream<TcpStream>> {
        // Pongs and short answers must not wait for the acknowledgement of earlier data.
        tcp.set_nodelay(true)?;
        keep_alive(&tcp);
        let name = TlsName::of(&self.host)?;
        let tls = self.tls.clone();
        // It may have to read a file.
        let tls = tokio::task::spawn_blocking(move || tls.get()).await.map_err(io::Error::other)?;
        let connector = TlsConnector::service(tls);
        let (stream, _) = connector.call(Connection::new(name, tcp)).await?.into_parts();
        Ok(stream)
    }

    fn timed_out(&self, phase: DialPhase, after: Duration) -> DialError {
        DialError::Timeout { target: self.authority(), phase, after }
    }

    /// The error if no address accepted a connection.
    fn not_connected(&self, refused: Vec<(SocketAddr, io::Error)>) -> DialError {
        if refused.iter().all(|(_, err)| err.kind() == io::ErrorKind::TimedOut) {
            return self.timed_out(DialPhase::Connect, self.timeouts.connect);
        }
        DialError::Connect { target: self.authority(), failures: Failures(refused) }
    }
}

async fn connect(addr: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    match timeout(limit, TcpStream::connect(addr)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")),
    }
}

/// The name that the scheduler's certificate must cover.
#[derive(Debug)]
struct TlsName(String);

impl TlsName {
    /// A link-local address loses its zone, which only this host knows.
    fn of(host: &str) -> io::Result<Self> {
        let name = match host.split_once('%') {
            Some((address, _)) if address.contains(':') => address,
            _ => host,
        };
        match ServerName::try_from(name) {
            Ok(_) => Ok(Self(name.to_owned())),
            Err(err) => Err(io::Error::new(io::ErrorKind::InvalidInput, err)),
        }
    }
}

impl Host for TlsName {
    fn hostname(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn names_for_tls_and_for_the_url() {
        let tls = crate::net::tls::client_config(&Default::default()).unwrap();
        for (host, name, authority) in [
            ("example.com", "example.com", "example.com:59789"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.1:59789"),
            ("::1", "::1", "[::1]:59789"),
            ("[::1]", "::1", "[::1]:59789"),
            ("fe80::1%2", "fe80::1", "[fe80::1%2]:59789"),
        ] {
            let dialer = WssDialer::new(host, 59789, Arc::clone(&tls));
            assert_eq!(dialer.target.authority(), authority);
            assert_eq!(TlsName::of(&dialer.target.host).unwrap().hostname(), name);
        }
        assert!(TlsName::of("no spaces").is_err());
    }
}
