//! The parts of the service, and the state that its threads share.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::rt::net::TcpStream;

use super::access::Policy;
use super::guard::Peer;
use super::listeners::Listener;
use super::log_level::LogControl;
use super::page_url::PageUrl;
use super::refusals::Refusals;
use super::status::AgentStatus;
use super::unauthenticated::{Unauthenticated, UnauthenticatedLimits};
use crate::actors::Handle;
use crate::report::ResultContext;

/// The parts of the HTTP service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    /// The actors, which answer and carry out all requests.
    pub actors: Handle,
    /// The context of results.
    pub context: Arc<ResultContext>,
    /// The access policy.
    pub policy: Policy,
    /// The instance's status.
    pub status: Arc<AgentStatus>,
    /// The control of the log level.
    pub log: Arc<dyn LogControl>,
    /// The limits of clients.
    pub limits: HttpLimits,
}

/// The limits of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Maximum number of connections of each of the two kinds: TCP, and the Unix socket. Further
    /// ones wait until one is closed, because processes need the other descriptors.
    pub connections: usize,
    /// Limits of TCP connections whose peers have not authenticated.
    pub unauthenticated: UnauthenticatedLimits,
    /// Maximum time of a TLS handshake.
    pub handshake_timeout: Duration,
    /// Maximum time until a request's head has arrived.
    pub head_timeout: Duration,
    /// Maximum length of a request's body, in bytes.
    pub body: u64,
}

impl HttpLimits {
    /// The defaults.
    pub const DEFAULT: HttpLimits = HttpLimits {
        connections: 2000,
        unauthenticated: UnauthenticatedLimits::DEFAULT,
        handshake_timeout: Duration::from_secs(5),
        head_timeout: Duration::from_secs(5),
        body: 64 << 20,
    };
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits::DEFAULT
    }
}

/// The service, with the state that its threads share.
pub(super) struct AppState {
    pub(super) service: Service,
    /// Number of answered requests, by the first digit of their status, from 1 on.
    pub(super) answered: [AtomicU64; 5],
    pub(super) refusals: Refusals,
    /// The addresses at which browsers can connect.
    addresses: Mutex<Vec<SocketAddr>>,
    encrypts: bool,
    pub(super) unauthenticated: Arc<Unauthenticated>,
}

impl AppState {
    /// The state of a service that encrypts TCP connections, or does not.
    pub(super) fn new(service: Service, encrypts: bool) -> AppState {
        AppState {
            service,
            answered: Default::default(),
            refusals: Refusals::default(),
            addresses: Mutex::default(),
            encrypts,
            unauthenticated: Arc::default(),
        }
    }

    fn addresses(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the service accepts connections on `listener`.
    pub(super) fn opened(&self, listener: &Listener) {
        if let Listener::Tcp(listeners) = listener {
            let own = listeners.iter().filter_map(|listener| listener.local_addr().ok());
            self.addresses().extend(own);
        }
    }

    /// The addresses at which browsers reach the page.
    pub(super) fn page_at(&self) -> PageUrl {
        PageUrl::new(self.addresses().clone(), self.encrypts)
    }

    /// Identifies the peer of a TCP connection.
    pub(super) fn meet(&self, stream: &TcpStream) -> io::Result<Peer> {
        // A failure only delays answers.
        let _ = stream.set_nodelay(true);
        let Service { policy, limits, .. } = &self.service;
        Peer::meet(stream, policy, &self.unauthenticated, limits.unauthenticated)
    }
}
