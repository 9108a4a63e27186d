//! Whether a request is answered: [`access`](super::access)'s questions, put to a connection and a request.

use std::any::Any;
use std::io;

use actix_web::dev::{Extensions, ServiceRequest};
use actix_web::http::header::{self, HeaderName};
use actix_web::rt::net::TcpStream;

use super::access::{Facts, Header, Policy, Refusal, decide, peer_uid};

/// What is known of a connection from its beginning to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    /// Who is at the other end; none where that could not be found out.
    uid: Option<u32>,
    /// The port that we listen on.
    port: u16,
}

/// Finds out who has connected, and keeps it with the connection. To be called as soon as one is accepted: it costs some
/// microseconds then, and the peer has no time to let another one have its port.
pub(super) fn greet(connection: &dyn Any, data: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TcpStream>() else { return };
    match look(stream) {
        Ok(peer) => {
            data.insert(peer);
        }
        // It is gone already; if it is not, it counts as a stranger's.
        Err(error) => tracing::debug!(%error, "connection without ends"),
    }
}

fn look(stream: &TcpStream) -> io::Result<Peer> {
    let local = stream.local_addr()?;
    let uid = peer_uid(stream.peer_addr()?, local);
    if let Err(error) = &uid {
        tracing::warn!(%error, "failed to tell who is at the other end of a connection");
    }
    Ok(Peer { uid: uid.unwrap_or(None), port: local.port() })
}

/// Whether a request is answered.
///
/// # Errors
/// Why it is not.
pub(super) fn check(policy: &Policy, request: &ServiceRequest) -> Result<(), Refusal> {
    let peer = request.conn_data::<Peer>().copied();
    let port = peer.map_or_else(|| request.app_config().local_addr().port(), |peer| peer.port);
    let facts = Facts {
        peer_uid: peer.and_then(|peer| peer.uid),
        host: collect(request, &header::HOST),
        origin: collect(request, &header::ORIGIN),
        authorization: collect(request, &header::AUTHORIZATION),
    };
    decide(policy, &facts, port).inspect_err(|refusal| tracing::info!(%refusal, "request refused"))
}

fn collect<'a>(request: &'a ServiceRequest, name: &HeaderName) -> Header<'a> {
    Header::collect(request.headers().get_all(name).map(|value| value.as_bytes()))
}
