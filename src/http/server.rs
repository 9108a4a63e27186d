//! The server: its socket, its threads and limits.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use actix_web::dev::{Server, Service as _};
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpServer, ResponseError, web};
use futures_util::future::{Either, ready};

use super::access::Policy;
use super::failure::Failure;
use super::{guard, handlers};
use crate::actors::messages::{Delete, GetAll, GetOne, Signal, Start};
use crate::report::Sampler;

/// Threads that answer requests: two, so that one is left while another waits for a disk.
const WORKERS: usize = 2;
/// Connections of each thread. More wait until one is closed; a descriptor is kept for the processes' sake.
const CONNECTIONS: usize = 1000;
/// A request's head must have come within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection is kept for this time: longer than clients keep theirs, so that none sends on one that we just closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// After an answer that did not wait for the request's body, what still comes of it is taken for this time, so that
/// the client reads the answer before it sees the end.
const LINGER: Duration = Duration::from_secs(5);
/// What a graceful stop waits for requests that are being answered, in seconds.
const SHUTDOWN_TIMEOUT: u64 = 1;

/// What the HTTP service is made of. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    /// Who starts processes.
    pub start: Recipient<Start>,
    /// Who sends signals.
    pub signal: Recipient<Signal>,
    /// Who deletes processes.
    pub delete: Recipient<Delete>,
    /// Who knows the facts of a process, and answers once it has started.
    pub one: Recipient<GetOne>,
    /// Who knows the facts of all.
    pub all: Recipient<GetAll>,
    /// Looks at running processes.
    pub sampler: Arc<Sampler>,
    /// Who is let in.
    pub policy: Policy,
}

/// Listens on `port` of 127.0.0.1, 0 for any that is free. The port can be bound again at once after a server on it has
/// ended (`SO_REUSEADDR`, which the standard library sets), but not while one listens.
///
/// # Errors
/// The OS error's kind, with a text that names the address.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).map_err(|error| {
        io::Error::new(error.kind(), format!("failed to listen on {address}: {error}"))
    })
}

/// Serves on `listener`, on threads of its own, from this call on. The server handles no signal: whoever runs it stops it, by its
/// [`handle`](Server::handle); a graceful stop gives a second to the requests that are being answered. To be called within a runtime of
/// actix, which the server must be awaited or spawned on.
///
/// # Errors
/// The OS error of using the listener.
pub fn serve(listener: TcpListener, service: Service) -> io::Result<Server> {
    let policy = service.policy.clone();
    let service = web::Data::new(service);
    let server = HttpServer::new(move || {
        let policy = policy.clone();
        App::new()
            .app_data(service.clone())
            .default_service(web::to(handlers::dispatch))
            .wrap_fn(move |request, next| match guard::check(&policy, &request) {
                Ok(()) => Either::Left(next.call(request)),
                Err(refusal) => {
                    let answer = Failure::from(refusal).error_response();
                    Either::Right(ready(Ok(request.into_response(answer))))
                }
            })
            .wrap(headers())
    })
    .workers(WORKERS)
    .worker_max_blocking_threads(1)
    .max_connections(CONNECTIONS)
    .client_request_timeout(HEAD_TIMEOUT)
    .client_disconnect_timeout(LINGER)
    .keep_alive(KEEP_ALIVE)
    .tcp_nodelay(true)
    .shutdown_timeout(SHUTDOWN_TIMEOUT)
    .disable_signals()
    .on_connect(guard::greet)
    .listen(listener)?
    .run();
    Ok(server)
}

/// What every answer carries: results and output change, and a browser shall neither take output for a script or a page
/// nor let another site's page embed it.
fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add(("Cache-Control", "no-store"))
        .add(("X-Content-Type-Options", "nosniff"))
        .add(("Cross-Origin-Resource-Policy", "same-origin"))
}
