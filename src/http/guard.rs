//! Whether a request is answered: [`access`](super::access)'s questions, put to a connection and a request.

use std::any::Any;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::HttpRequest;
use actix_web::dev::{Extensions, RequestHead};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName};
use actix_web::rt::net::{TcpStream, UnixStream};

use super::access::{
    Act, Facts, Fetch, Header, PeerUser, Policy, Refusal, decide, peer_user, unix_user,
};
use super::route::Place;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SERVICE_WORKER: HeaderName = HeaderName::from_static("service-worker");
const SESSION: HeaderName = HeaderName::from_static("procstar-session");

/// By which way a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Within this machine.
    Local,
    /// By the address for others; with a certificate that we trust, or without.
    Remote { certified: bool },
}

/// What is known of a connection from its beginning to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Who is at the other end; none where that could not be found out.
    user: Option<PeerUser>,
    /// Its address; none on a Unix socket.
    address: Option<IpAddr>,
    /// The port that we listen on; 0 where there is none.
    port: u16,
    door: Door,
    /// Whether it is encrypted.
    tls: bool,
    /// The connection's descriptor, open as long as the connection.
    fd: RawFd,
}

/// Finds out who has connected, and keeps it with the connection. To be called as soon as one is accepted: it costs some
/// microseconds then, and the peer has no time to let another one have its port.
pub(super) fn greet(connection: &dyn Any, data: &mut Extensions) {
    let peer = if let Some(stream) = connection.downcast_ref::<TcpStream>() {
        look(stream)
    } else if let Some(stream) = connection.downcast_ref::<UnixStream>() {
        let user = stream.peer_cred().map(|credentials| unix_user(credentials.uid()));
        let fd = stream.as_raw_fd();
        user.map(|user| Peer {
            user: Some(user),
            address: None,
            port: 0,
            door: Door::Local,
            tls: false,
            fd,
        })
    } else if let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() {
        let (stream, tls) = stream.get_ref();
        let certified = tls.peer_certificates().is_some_and(|chain| !chain.is_empty());
        look(stream).map(|peer| match peer.door {
            Door::Local => Peer { tls: true, ..peer },
            Door::Remote { .. } => Peer { tls: true, door: Door::Remote { certified }, ..peer },
        })
    } else {
        return;
    };
    match peer {
        Ok(peer) => {
            data.insert(peer);
        }
        // It is gone already; if it is not, it counts as a stranger's.
        Err(error) => tracing::debug!(%error, "connection without ends"),
    }
}

fn look(stream: &TcpStream) -> io::Result<Peer> {
    let (local, fd) = (stream.local_addr()?, stream.as_raw_fd());
    let port = local.port();
    let peer = stream.peer_addr()?;
    let address = Some(peer.ip().to_canonical());
    if !local.ip().to_canonical().is_loopback() {
        let door = Door::Remote { certified: false };
        return Ok(Peer { user: None, address, port, door, tls: false, fd });
    }
    let user = peer_user(peer, local, nix::unistd::geteuid().as_raw());
    if let Err(error) = &user {
        tracing::warn!(%error, "failed to tell who is at the other end of a connection");
    }
    Ok(Peer { user: user.unwrap_or(None), address, port, door: Door::Local, tls: false, fd })
}

/// Whether a request is answered, by its head, what is known of its connection, and where its path leads.
///
/// # Errors
/// Why it is not.
pub(super) fn check(
    policy: &Policy,
    head: &RequestHead,
    peer: Option<&Peer>,
    place: Option<Place>,
) -> Result<(), Refusal> {
    let act = act(&head.method, place);
    let facts = Facts {
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
    let decision = match peer.map(|peer| peer.door) {
        Some(Door::Remote { certified }) => policy.decide_remote(&facts, certified, port),
        Some(Door::Local) | None => decide(policy, &facts, port, tls),
    };
    match decision {
        // The page asks for the token then: a browser sends none with what it opens.
        Err(refusal)
            if refusal.is_for_want_of_a_token() && matches!(act, Act::Page | Act::Asset) =>
        {
            Ok(())
        }
        decision => decision,
    }
}

fn act(method: &Method, place: Option<Place>) -> Act {
    match place {
        _ if !method.is_safe() && place != Some(Place::Sessions) => Act::Write,
        Some(Place::Page) => Act::Page,
        Some(Place::Asset) => Act::Asset,
        Some(Place::Sessions) => Act::Trade,
        _ => Act::Read,
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

/// The descriptor of a request's connection, open as long as its handler and the body of its answer live.
pub(super) fn connection(request: &HttpRequest) -> Option<RawFd> {
    request.conn_data::<Peer>().map(|peer| peer.fd)
}
