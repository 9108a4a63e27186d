//! Access control of requests: applies [`access`](super::access) to a connection and a request.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::dev::RequestHead;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName};
use actix_web::rt::net::{TcpStream, UnixStream};

use super::access::{
    AccessRequest, Act, Fetch, Header, PeerUser, Policy, Refusal, decide, peer_user, unix_user,
};

use super::unauthenticated::{PeerSource, Probation, Unauthenticated, UnauthenticatedLimits};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SERVICE_WORKER: HeaderName = HeaderName::from_static("service-worker");
const SESSION: HeaderName = HeaderName::from_static("procstar-session");

/// The part of the service that a request is for: browsers may open the page itself, but not the
/// API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// For programs, and for requests of the page's script.
    Api,
    /// The page.
    Page,
    /// A file of the page.
    Asset,
    /// The trade of a code for a session.
    Trade,
}

/// The origin of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    /// This machine.
    Local,
    /// Another machine; with a certificate that we trust, or without.
    Remote { certified: bool },
}

/// The facts about a connection, from its beginning to its end.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The user at the other end; `None` if unknown.
    user: Option<PeerUser>,
    /// Its address; `None` on a Unix socket.
    address: Option<IpAddr>,
    /// The port that we listen on; 0 on a Unix socket.
    port: u16,
    transport: Transport,
    /// Whether it is encrypted.
    tls: bool,
    /// The connection's descriptor, open as long as the connection.
    fd: RawFd,
    /// `None` if its user is known to be authorized.
    probation: Option<Arc<Probation>>,
}

impl Peer {
    /// Identifies the peer of a TCP connection. Must be called as soon as the connection is
    /// accepted: it costs some microseconds then, and the peer has no time to let another process
    /// get its port. A peer that is not known to be authorized takes one of the slots for such
    /// peers.
    ///
    /// # Errors
    /// The peer has closed the connection already, or no slot is free.
    pub(super) fn meet(
        stream: &TcpStream,
        policy: &Policy,
        slots: &Arc<Unauthenticated>,
        limits: UnauthenticatedLimits,
    ) -> io::Result<Peer> {
        let (remote, peer) = (stream.peer_addr()?, identify(stream)?);
        if peer.transport == Transport::Local && policy.trusts(peer.user) {
            return Ok(peer);
        }
        let source = PeerSource::of(peer.user.map(|user| user.uid), remote.ip());
        match slots.admit(source, limits) {
            Ok(probation) => Ok(Peer { probation: Some(probation), ..peer }),
            Err(_) => Err(io::ErrorKind::QuotaExceeded.into()),
        }
    }

    /// Identifies the peer of a connection to the Unix socket.
    ///
    /// # Errors
    /// The peer has closed the connection already.
    pub(super) fn on_unix(stream: &UnixStream) -> io::Result<Peer> {
        let user = Some(unix_user(stream.peer_cred()?.uid()));
        let fd = stream.as_raw_fd();
        Ok(Peer {
            user,
            address: None,
            port: 0,
            transport: Transport::Local,
            tls: false,
            fd,
            probation: None,
        })
    }

    /// The same peer after the TLS handshake; `certified` says whether it has a certificate that we
    /// trust.
    pub(super) fn over_tls(self, certified: bool) -> Peer {
        let transport = match self.transport {
            Transport::Local => Transport::Local,
            Transport::Remote { .. } => Transport::Remote { certified },
        };
        let peer = Peer { tls: true, transport, ..self };
        if peer.transport == (Transport::Remote { certified: true }) {
            peer.authenticated();
        }
        peer
    }

    /// Its probation, until it has authenticated.
    pub(super) fn probation(&self) -> Option<&Probation> {
        self.probation.as_deref()
    }

    fn authenticated(&self) {
        if let Some(probation) = &self.probation {
            probation.end();
        }
    }
}

fn identify(stream: &TcpStream) -> io::Result<Peer> {
    let (local, fd) = (stream.local_addr()?, stream.as_raw_fd());
    let port = local.port();
    let remote = stream.peer_addr()?;
    let peer = Peer {
        user: None,
        address: Some(remote.ip().to_canonical()),
        port,
        transport: Transport::Remote { certified: false },
        tls: false,
        fd,
        probation: None,
    };
    if !local.ip().to_canonical().is_loopback() {
        return Ok(peer);
    }
    let user = peer_user(remote, local, nix::unistd::geteuid().as_raw());
    if let Err(error) = &user {
        tracing::warn!(%error, "failed to find the user of a connection");
    }
    Ok(Peer { user: user.unwrap_or(None), transport: Transport::Local, ..peer })
}

/// Checks a request by its head, its connection, and its route.
///
/// # Errors
/// The refusal.
pub(super) fn check(
    policy: &Policy,
    head: &RequestHead,
    peer: Option<&Peer>,
    surface: Option<Surface>,
) -> Result<(), Refusal> {
    let act = act(&head.method, surface);
    let facts = AccessRequest {
        peer: peer.and_then(|peer| peer.user),
        host: collect(head, &header::HOST),
        origin: collect(head, &header::ORIGIN),
        authorization: collect(head, &header::AUTHORIZATION),
        fetch: Fetch {
            site: collect(head, &FETCH_SITE),
            mode: collect(head, &FETCH_MODE),
            dest: collect(head, &FETCH_DEST),
            service_worker: collect(head, &SERVICE_WORKER),
        },
        session: collect(head, &SESSION),
        act,
    };
    let port = peer.map_or(0, |peer| peer.port);
    let tls = peer.is_some_and(|peer| peer.tls);
    let decision = match peer.map(|peer| peer.transport) {
        Some(Transport::Remote { certified }) => policy.decide_remote(&facts, certified, port),
        Some(Transport::Local) | None => decide(policy, &facts, port, tls),
    };
    match decision {
        Ok(()) => {
            peer.into_iter().for_each(Peer::authenticated);
            Ok(())
        }
        // The page then asks for the token: a browser sends none when it opens the page.
        Err(refusal)
            if refusal.is_for_want_of_a_token() && matches!(act, Act::Page | Act::Asset) =>
        {
            Ok(())
        }
        decision => decision,
    }
}

fn act(method: &Method, surface: Option<Surface>) -> Act {
    match surface {
        Some(Surface::Trade) => Act::Trade,
        _ if !method.is_safe() => Act::Write,
        Some(Surface::Page) => Act::Page,
        Some(Surface::Asset) => Act::Asset,
        Some(Surface::Api) | None => Act::Read,
    }
}

fn collect<'a>(head: &'a RequestHead, name: &HeaderName) -> Header<'a> {
    Header::collect(head.headers().get_all(name).map(|value| value.as_bytes()))
}

impl Peer {
    /// Its address and user, as far as they are known.
    pub(super) fn who(&self) -> (Option<IpAddr>, Option<u32>) {
        (self.address, self.user.map(|user| user.uid))
    }

    /// Whether the connection is encrypted, and whether it came by TCP.
    pub(super) fn tls_and_tcp(&self) -> (bool, bool) {
        (self.tls, self.port != 0)
    }
}

/// The descriptor of a request's connection, open as long as its handler and the body of its answer
/// live.
pub(super) fn connection(request: &HttpRequest) -> Option<RawFd> {
    request.conn_data::<Peer>().map(|peer| peer.fd)
}
