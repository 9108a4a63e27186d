//! What the service is made of, and what its threads share.

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

/// What the HTTP service is made of. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    /// The actors, which know and do everything.
    pub actors: Handle,
    /// Looks at running processes.
    pub context: Arc<ResultContext>,
    /// Who is let in.
    pub policy: Policy,
    /// Who we are.
    pub status: Arc<AgentStatus>,
    /// Who sets the level of the log.
    pub log: Arc<dyn LogControl>,
    /// What a client may cost.
    pub limits: HttpLimits,
}

/// What a client may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at a time, of each of the two kinds: by TCP, and over the Unix socket. More wait until one is closed; descriptors are
    /// kept for the processes' sake.
    pub connections: usize,
    /// Those by TCP whose peers have not authenticated.
    pub unauthenticated: UnauthenticatedLimits,
    /// The time within which a TLS handshake must be done.
    pub handshake_timeout: Duration,
    /// The time within which a request's head must have come.
    pub head_timeout: Duration,
    /// The longest body of a request, in bytes.
    pub body: u64,
}

impl HttpLimits {
    /// As they are where nothing is configured.
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

/// The service with what its threads share.
pub(super) struct AppState {
    pub(super) service: Service,
    /// Requests answered so far, by the first digit of their status, from 1 on.
    pub(super) answered: [AtomicU64; 5],
    pub(super) refusals: Refusals,
    /// Where browsers can connect.
    addresses: Mutex<Vec<SocketAddr>>,
    encrypts: bool,
    pub(super) unauthenticated: Arc<Unauthenticated>,
}

impl AppState {
    /// That of a service which encrypts connections by TCP, or does not.
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

    /// The service accepts connections on `listener`.
    pub(super) fn opened(&self, listener: &Listener) {
        if let Listener::Tcp(listeners) = listener {
            let own = listeners.iter().filter_map(|listener| listener.local_addr().ok());
            self.addresses().extend(own);
        }
    }

    /// Where browsers reach the page.
    pub(super) fn page_at(&self) -> PageUrl {
        PageUrl::new(self.addresses().clone(), self.encrypts)
    }

    /// Finds out who has connected by TCP.
    pub(super) fn meet(&self, stream: &TcpStream) -> io::Result<Peer> {
        // What cannot be set delays answers, and no more.
        let _ = stream.set_nodelay(true);
        let Service { policy, limits, .. } = &self.service;
        Peer::meet(stream, policy, &self.unauthenticated, limits.unauthenticated)
    }
}
