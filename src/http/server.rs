//! The server: what it is made of, its threads and limits.

use std::any::Any;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use actix::Recipient;
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

use super::about::About;
use super::access::Policy;
use super::doors::Doors;
use super::log_level::LogControl;
use super::page_at::PageAt;
use super::refusals::Refusals;
use super::watcher::Watcher;
use super::{answer, guard, handlers};
use crate::actors::messages::{
    AwaitEnd, Delete, GetAll, GetChanges, GetOne, GetPage, GetPosition, GetSnapshot, GetTally,
    Signal, Start, Stop,
};
use crate::net::keep_alive::keep_alive;
use crate::net::tls_server::ServerTls;
use crate::report::Sampler;
use crate::rotating::Rotating;

/// Threads that answer requests: two, so that one is left while another waits for a disk.
const WORKERS: usize = 2;
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
    /// Who stops processes.
    pub stop: Recipient<Stop>,
    /// Who deletes processes.
    pub delete: Recipient<Delete>,
    /// Who knows the facts of a process, and answers once it has started.
    pub one: Recipient<GetOne>,
    /// Who knows the facts of all.
    pub all: Recipient<GetAll>,
    /// The same, by page.
    pub page: Recipient<GetPage>,
    /// The same, with the position of the last change.
    pub snapshot: Recipient<GetSnapshot>,
    /// Who knows every change.
    pub changes: Recipient<GetChanges>,
    /// Who tells of a process's end.
    pub end: Recipient<AwaitEnd>,
    /// Who knows how many there are.
    pub tally: Recipient<GetTally>,
    /// Who knows where the changes have come to.
    pub position: Recipient<GetPosition>,
    /// Looks at running processes.
    pub sampler: Arc<Sampler>,
    /// Who is let in.
    pub policy: Policy,
    /// Who we are.
    pub about: Arc<About>,
    /// Who sets the level of the log.
    pub log: Arc<dyn LogControl>,
    /// What a client may cost.
    pub limits: Limits,
}

/// What a client may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time. More wait until one is closed; descriptors are kept for the processes' sake.
    pub connections: usize,
    /// The time within which a request's head must have come.
    pub head_timeout: Duration,
    /// The longest body of a request, in bytes.
    pub body: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 2000, head_timeout: Duration::from_secs(5), body: 64 << 20 }
    }
}

/// The service with what its threads share.
pub(super) struct Site {
    pub(super) service: Service,
    pub(super) watcher: Arc<Watcher>,
    /// Requests answered so far, by the first digit of their status, from 1 on.
    pub(super) answered: [AtomicU64; 5],
    pub(super) refusals: Refusals,
    pub(super) page_at: PageAt,
}

/// HTTP/1.1 on connections of whichever kind: within a macro, for what it makes has a name for each kind.
macro_rules! http1 {
    ($site:expr, $ending:expr, $limits:expr) => {{
        let (ending, site) = ($ending.clone(), $site.clone());
        HttpService::build()
            .expect(fn_service(move |request: Request| {
                answer::unless_refused(site.clone(), request)
            }))
            .graceful_shutdown_signal(move || {
                let ending = ending.clone();
                async move { ending.notified().await }
            })
            .client_request_timeout($limits.head_timeout)
            .client_disconnect_timeout(LINGER)
            .keep_alive(KEEP_ALIVE)
            .tcp_nodelay(true)
            .on_connect_ext(greet)
            .h1(app($site.clone()))
    }};
}

fn greet<T: Any>(stream: &T, data: &mut Extensions) {
    guard::greet(stream, data);
}

/// Serves at these doors, on threads of its own, from this call on. The server handles no signal: whoever runs it stops it, by its
/// [`handle`](Server::handle); a graceful stop gives a second to the requests that are being answered. To be called within a runtime of
/// actix, which the server must be awaited or spawned on.
///
/// # Errors
/// The OS error of using a listener.
pub fn serve(doors: Doors, service: Service) -> io::Result<Server> {
    let limits = service.limits;
    let addresses = doors.tcp.iter().filter_map(|tcp| tcp.local_addr().ok()).collect();
    let site = web::Data::new(Site {
        service,
        watcher: Arc::default(),
        answered: Default::default(),
        refusals: Refusals::default(),
        page_at: PageAt::new(addresses, doors.tls.is_some()),
    });
    let builder = Server::build()
        .workers(WORKERS)
        .worker_max_blocking_threads(1)
        .max_concurrent_connections(limits.connections.div_ceil(WORKERS).max(1))
        .shutdown_timeout(SHUTDOWN_TIMEOUT)
        .disable_signals();
    let ending = builder.graceful_shutdown_signal();
    let Doors { tcp, tls, unix, .. } = doors;
    tcp.iter().for_each(keep_alive);
    let builder = tcp.into_iter().try_fold(builder, |builder, listener| {
        let (site, ending) = (site.clone(), ending.clone());
        match tls.clone() {
            None => builder.listen("http", listener, move || http1!(site, ending, limits).tcp()),
            Some(tls) => builder.listen("https", listener, move || {
                let tls = tls.clone();
                fn_service(move |stream| encrypt(tls.clone(), stream))
                    .map_err(TlsError::into_service_error)
                    .and_then(http1!(site, ending, limits).map_err(TlsError::Service))
            }),
        }
    })?;
    let builder = match unix {
        None => builder,
        Some(listener) => builder.listen_uds("http-unix", listener, move || {
            fn_service(|stream: UnixStream| ready(Ok((stream, None))))
                .and_then(http1!(site, ending, limits))
        })?,
    };
    Ok(builder.run())
}

/// Does the TLS handshake of a connection, with the certificate as it is now; also tells who has connected.
async fn encrypt(
    tls: Rotating<ServerTls>,
    stream: TcpStream,
) -> Result<(TlsStream<TcpStream>, Option<SocketAddr>), TlsError<io::Error, Infallible>> {
    let config = Arc::clone(&tls.get().config);
    let factory = Acceptor::new(Arc::unwrap_or_clone(config));
    let made = ServiceFactory::<TcpStream>::new_service(&factory, ()).await;
    let acceptor = made.map_err(|()| TlsError::Tls(io::ErrorKind::Other.into()))?;
    // It holds back more handshakes at a time than it is made for.
    std::future::poll_fn(|cx| {
        <AcceptorService as ActixService<TcpStream>>::poll_ready(&acceptor, cx)
    })
    .await?;
    let stream = acceptor.call(stream).await?;
    let address = stream.get_ref().0.peer_addr().ok();
    Ok((stream, address))
}

/// What answers requests.
fn app(
    site: web::Data<Site>,
) -> impl ServiceFactory<
    Request,
    Config = (),
    Response = ServiceResponse<impl MessageBody + 'static>,
    Error = actix_web::HttpResponse,
    InitError = (),
    Future: 'static,
    Service: 'static,
> {
    let app = App::new().app_data(site).default_service(web::to(handlers::dispatch));
    let app = app.into_factory().map_err(|error: actix_web::Error| error.error_response());
    map_config(app, |()| AppConfig::default())
}
