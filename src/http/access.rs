//! Access control of the HTTP service: it admits this user, root and clients that present the
//! token, and no web page but its own.
//!
//! Four checks, all of which must pass:
//!
//! 1. Does `Host` name this machine's loopback? A page whose name was rebound to 127.0.0.1 still
//!    sends its own name here.
//! 2. Is `Origin`, if a browser sends one, that of this service? A page of another port may belong
//!    to another user.
//! 3. Does the peer's socket belong to our user or to root, and does a process in our own
//!    namespaces hold it ([`peer_user`])? Or does the request have the configured token?
//!
//! 4. If a browser requests a change: does the request have a session, or the token? Any
//!    program that once had our port may have left a service worker in the browser, whose requests
//!    look like our page's; see [`session`].
//!
//! [`decide`] is pure: it knows no sockets and no HTTP library. [`peer_user`] is called once, when
//! a connection is accepted, and its result is kept for that connection: that costs least, and it
//! leaves a peer no time to close its socket and let another process get the same port.

mod authority;
mod browser;
mod cpu_budget;
mod holder;
pub mod listening;
mod peer;
mod proc_net_tcp;
mod refusal;
mod remote;
mod request;
pub mod session;
mod session_check;
mod sock_diag;
mod tcp_socket;

pub use peer::{PeerUser, listening_user, peer_user, server_user, unix_user};
pub(super) use refusal::Kind;
pub use refusal::{Bearer, Refusal};
pub use remote::Remote;
use request::quote;
pub use request::{AccessRequest, Act, Fetch, Header};

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Secret;
use crate::page_key::PageKey;
use crate::rotating::Rotating;
use authority::{Authority, origin_authority};
use session::Sessions;

/// The access policy.
#[derive(Clone)]
pub struct Policy {
    own_uid: u32,
    /// Never empty: an empty token would prove nothing.
    token: Option<Rotating<Secret>>,
    /// Whether a TCP connection needs the token even if it comes from this user.
    token_required: bool,
    /// The path of our Unix socket, for the texts of refusals.
    socket: Option<PathBuf>,
    /// The rules for other machines, if they are admitted.
    remote: Option<Remote>,
    /// The sessions of the page.
    sessions: Arc<Sessions>,
}

impl Policy {
    /// Admits `own_uid`, root, and clients that present `token`; an empty token counts as none.
    pub fn new(own_uid: u32, token: Option<String>) -> Self {
        let token = token.filter(|token| !token.is_empty());
        Self {
            own_uid,
            token: token.map(|token| Arc::new(Secret::new(token)).into()),
            token_required: false,
            socket: None,
            remote: None,
            sessions: Arc::new(Sessions::new(&PageKey::default())),
        }
    }

    /// Enables sessions of the page, with this key.
    #[must_use]
    pub fn with_page_key(self, key: &PageKey) -> Self {
        Self { sessions: Arc::new(Sessions::new(key)), ..self }
    }

    /// Admits clients that present this token, in its version at the time of the request.
    #[must_use]
    pub fn with_token(self, token: Option<Rotating<Secret>>) -> Self {
        Self { token, ..self }
    }

    /// Requires the token of every TCP connection, even of our own user.
    #[must_use]
    pub fn requiring_the_token(self, required: bool) -> Self {
        Self { token_required: required, ..self }
    }

    /// Names our Unix socket in refusals: it needs no token.
    #[must_use]
    pub fn with_socket(self, socket: Option<PathBuf>) -> Self {
        Self { socket, ..self }
    }

    /// Whether a TCP connection from this machine is admitted for its user alone, without a token.
    pub fn trusts(&self, peer: Option<PeerUser>) -> bool {
        let ours = |peer: PeerUser| peer.uid == self.own_uid || peer.uid == 0;
        !self.token_required && peer.is_some_and(|peer| peer.is_here && ours(peer))
    }

    /// Admits other machines too: over TLS, with a certificate or the token. See
    /// [`Policy::decide_remote`].
    #[must_use]
    pub fn with_remote(self, remote: Remote) -> Self {
        Self { remote: Some(remote), ..self }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("own_uid", &self.own_uid)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("token_required", &self.token_required)
            .field("remote", &self.remote.is_some())
            .finish()
    }
}

/// Decides whether a request from within this machine is answered. `port`, the one that we listen
/// on, is for the texts of refusals; `tls` says whether the connection is encrypted.
///
/// # Errors
/// The refusal, for the body of a 403.
pub fn decide(
    policy: &Policy,
    request: &AccessRequest<'_>,
    port: u16,
    tls: bool,
) -> Result<(), Refusal> {
    let host = check_host(policy, request.host, port)?;
    check_origin(policy, request.origin, &host, tls)?;
    browser::check(request)?;
    check_user(policy, request, port)?;
    let site = host.session_site(tls);
    policy.check_session(request, site.as_deref())
}

/// Whether the peer is our user or root, or presents the token.
fn check_user(policy: &Policy, request: &AccessRequest<'_>, port: u16) -> Result<(), Refusal> {
    let ours = request.peer.filter(|peer| peer.uid == policy.own_uid || peer.uid == 0);
    // A connection to the Unix socket has port 0.
    let token_required = policy.token_required && port != 0;
    if ours.is_some_and(|peer| peer.is_here) && !token_required {
        return Ok(());
    }
    check_bearer(policy, request.authorization).map_err(|bearer| {
        let socket = policy.socket.clone();
        match ours {
            Some(PeerUser { is_here: true, .. }) => Refusal::TokenRequired { socket, bearer },
            Some(PeerUser { uid, .. }) => Refusal::Unplaced { uid, socket, bearer },
            None => {
                let uid = request.peer.map(|peer| peer.uid);
                Refusal::Stranger { uid, own_uid: policy.own_uid, bearer }
            }
        }
    })
}

fn check_host(policy: &Policy, host: Header<'_>, port: u16) -> Result<Authority, Refusal> {
    match host {
        Header::Absent => Err(Refusal::NoHost { port }),
        Header::Several => Err(Refusal::SeveralHosts { port }),
        Header::One(text) => Authority::parse_loopback(text, &policy.sessions)
            .ok_or_else(|| Refusal::ForeignHost { host: quote(text), port }),
    }
}

fn check_origin(
    policy: &Policy,
    origin: Header<'_>,
    host: &Authority,
    tls: bool,
) -> Result<(), Refusal> {
    let text = match origin {
        Header::Absent => return Ok(()),
        Header::One(text) => text,
        Header::Several => b"(several)",
    };
    match origin_authority(text, tls, &policy.sessions) {
        Some(authority) if authority.is_same_service(host, tls) => Ok(()),
        _ => Err(Refusal::ForeignOrigin { origin: quote(text) }),
    }
}

fn check_bearer(policy: &Policy, authorization: Header<'_>) -> Result<(), Bearer> {
    let Some(token) = &policy.token else { return Err(Bearer::NotConfigured) };
    let given = match authorization {
        Header::Absent => return Err(Bearer::Missing),
        Header::One(text) => bearer_token(text).ok_or(Bearer::Missing)?,
        Header::Several => return Err(Bearer::Wrong),
    };
    // Takes constant time for all tokens of one length; the length itself is not secret.
    let token = token.get();
    if !token.is_empty() && token.matches(given) { Ok(()) } else { Err(Bearer::Wrong) }
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter.
fn bearer_token(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(b"bearer".len())?;
    let token = rest.trim_ascii_start();
    (scheme.eq_ignore_ascii_case(b"bearer") && token.len() < rest.len()).then_some(token)
}

#[cfg(test)]
mod tests;
