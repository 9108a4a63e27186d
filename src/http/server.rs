//! The server: its parts, its threads and its limits.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Request};
use actix_server::Server;
use actix_service::{
    IntoServiceFactory as _, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config,
};
use actix_tls::accept::TlsError;
use actix_tls::accept::rustls_0_23::{Acceptor, AcceptorService, TlsStream};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Extensions, Service as ActixService, ServiceResponse};
use actix_web::rt::net::{TcpStream, UnixStream};
use actix_web::{App, web};
use futures_util::future::ready;

use super::accepted_connection::AcceptedConnection;
use super::app_state::AppState;
use super::guard::Peer;
use super::listeners::Listener;
use super::{dispatch, response};
use crate::net::tls_server::ServerTls;
use crate::rotating::Rotating;

/// Threads that answer requests: two, so that one is left while another waits for a disk.
const WORKERS: usize = 2;
/// Lifetime of an idle connection: longer than clients keep theirs, so that no client sends on one
/// that we just closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// After an answer that did not wait for the request's body, the server reads the rest for this
/// time, so that the client reads the answer before it sees the end.
const LINGER: Duration = Duration::from_secs(5);
/// Seconds for which a graceful stop waits for pending requests.
const SHUTDOWN_TIMEOUT: u64 = 1;

/// HTTP/1.1 on connections of any kind: a macro, because each kind has a type of its own.
macro_rules! http1 {
    ($state:expr, $ending:expr, $limits:expr) => {{
        let (ending, state) = ($ending.clone(), $state.clone());
        HttpService::build()
            .expect(fn_service(move |request: Request| {
                response::unless_refused(state.clone(), request)
            }))
            .graceful_shutdown_signal(move || {
                let ending = ending.clone();
                async move { ending.notified().await }
            })
            .client_request_timeout($limits.head_timeout)
            .client_disconnect_timeout(LINGER)
            .keep_alive(KEEP_ALIVE)
            .on_connect_ext(on_connect)
            .h1(app($state.clone()))
    }};
}

fn on_connect<S>(connection: &AcceptedConnection<S>, data: &mut Extensions) {
    data.insert(connection.peer().clone());
}

/// Serves on a listener from now on, with threads and limits of its own. The server handles no
/// signal: its owner stops it, by its [`handle`](Server::handle); a graceful stop waits a second
/// for pending requests. Must be called within a runtime of actix, and the server must be awaited
/// or spawned on it.
///
/// # Errors
/// The OS error of using a listener.
pub(super) fn serve(
    listener: Listener,
    tls: Option<Rotating<ServerTls>>,
    state: &web::Data<AppState>,
) -> io::Result<Server> {
    let limits = state.service.limits;
    let builder = Server::build()
        .workers(WORKERS)
        .worker_max_blocking_threads(1)
        .max_concurrent_connections(limits.connections.div_ceil(WORKERS).max(1))
        .shutdown_timeout(SHUTDOWN_TIMEOUT)
        .disable_signals();
    let ending = builder.graceful_shutdown_signal();
    let builder = match listener {
        Listener::Tcp(listeners) => {
            listeners.into_iter().try_fold(builder, |builder, listener| {
                let (state, ending) = (state.clone(), ending.clone());
                match tls.clone() {
                    None => builder.listen("http", listener, move || {
                        let met = state.clone();
                        fn_service(move |stream| ready(accept(&met, stream)))
                            .and_then(http1!(state, ending, limits))
                    }),
                    Some(tls) => builder.listen("https", listener, move || {
                        let (met, tls) = (state.clone(), tls.clone());
                        fn_service(move |stream| encrypt(met.clone(), tls.clone(), stream))
                            .map_err(TlsError::into_service_error)
                            .and_then(http1!(state, ending, limits).map_err(TlsError::Service))
                    }),
                }
            })?
        }
        Listener::Unix(listener) => {
            let state = state.clone();
            builder.listen_uds("http-unix", listener, move || {
                fn_service(|stream| ready(accept_unix(stream)))
                    .and_then(http1!(state, ending, limits))
            })?
        }
    };
    Ok(builder.run())
}

/// A connection, and the address of its peer.
type Accepted<S> = (AcceptedConnection<S>, Option<SocketAddr>);

/// Identifies the peer.
fn accept(state: &AppState, stream: TcpStream) -> Result<Accepted<TcpStream>, DispatchError> {
    let peer = state.meet(&stream)?;
    let address = stream.peer_addr().ok();
    Ok((AcceptedConnection::new(stream, peer), address))
}

fn accept_unix(stream: UnixStream) -> Result<Accepted<UnixStream>, DispatchError> {
    let peer = Peer::on_unix(&stream)?;
    Ok((AcceptedConnection::new(stream, peer), None))
}

/// Identifies the peer, and does the TLS handshake, with the present certificate.
async fn encrypt(
    state: web::Data<AppState>,
    tls: Rotating<ServerTls>,
    stream: TcpStream,
) -> Result<Accepted<TlsStream<TcpStream>>, TlsError<io::Error, Infallible>> {
    let peer = state.meet(&stream).map_err(TlsError::Tls)?;
    let config = Arc::clone(&tls.get().config);
    let mut factory = Acceptor::new(Arc::unwrap_or_clone(config));
    factory.set_handshake_timeout(state.service.limits.handshake_timeout);
    let made = ServiceFactory::<TcpStream>::new_service(&factory, ()).await;
    let acceptor = made.map_err(|()| TlsError::Tls(io::ErrorKind::Other.into()))?;
    // The acceptor delays handshakes beyond its maximum number.
    std::future::poll_fn(|cx| {
        <AcceptorService as ActixService<TcpStream>>::poll_ready(&acceptor, cx)
    })
    .await?;
    let stream = acceptor.call(stream).await.inspect_err(|error| {
        if matches!(error, TlsError::Timeout) && peer.probation().is_some() {
            state.unauthenticated.expire();
        }
    })?;
    let (socket, session) = stream.get_ref();
    let address = socket.peer_addr().ok();
    let certified = session.peer_certificates().is_some_and(|chain| !chain.is_empty());
    Ok((AcceptedConnection::new(stream, peer.over_tls(certified)), address))
}

/// The application that answers requests.
fn app(
    state: web::Data<AppState>,
) -> impl ServiceFactory<
    Request,
    Config = (),
    Response = ServiceResponse<impl MessageBody + 'static>,
    Error = actix_web::HttpResponse,
    InitError = (),
    Future: 'static,
    Service: 'static,
> {
    let app = App::new().app_data(state).default_service(web::to(dispatch::dispatch));
    let app = app.into_factory().map_err(|error: actix_web::Error| error.error_response());
    map_config(app, |()| AppConfig::default())
}
