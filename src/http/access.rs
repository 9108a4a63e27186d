//! Who may use the HTTP service: this user and root, or who bears the token, and no web page but our own.
//!
//! Three questions, all of which must be answered well:
//!
//! 1. Does `Host` name this machine's loopback? A page whose name was rebound to 127.0.0.1 still sends its
//!    own name here.
//! 2. Is `Origin`, where a browser sends one, that of this very service? A page of another port may belong
//!    to another user.
//! 3. Does the peer's socket belong to our user or to root, and does a process in our own namespaces hold it ([`peer_user`])? Or does the
//!    request have the configured token?
//!
//! [`decide`] is pure: it knows no sockets and no HTTP library. [`peer_user`] is called once, when a connection is accepted, and its
//! result is kept for that connection: that costs least, and it leaves a peer no time to close its socket and have somebody else get
//! the same port.

mod authority;
mod diag;
mod holder;
pub mod listening;
mod peer;
mod remote;
mod table;

pub use peer::{PeerUser, listening_user, peer_user, server_user, unix_user};
pub use remote::Remote;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Secret;
use crate::rotating::Rotating;
use authority::{Authority, origin_authority};

/// How much of a bad header an answer repeats, in bytes.
const QUOTE_MAX: usize = 100;

/// Who is let in.
#[derive(Clone)]
pub struct Policy {
    own_uid: u32,
    /// Never empty: whoever sends an empty one knows nothing.
    token: Option<Rotating<Secret>>,
    /// Whether a connection by TCP needs the token, though it comes from this user.
    token_required: bool,
    /// The path of our Unix socket, for the texts of refusals.
    socket: Option<PathBuf>,
    /// Where others than this machine's users are let in.
    remote: Option<Remote>,
}

impl Policy {
    /// Lets in `own_uid`, root, and who bears `token`; an empty token counts as none.
    pub fn new(own_uid: u32, token: Option<String>) -> Self {
        let token = token.filter(|token| !token.is_empty());
        Self {
            own_uid,
            token: token.map(|token| Arc::new(Secret::new(token)).into()),
            token_required: false,
            socket: None,
            remote: None,
        }
    }

    /// Lets in who bears this token, as it is at the time of the request.
    #[must_use]
    pub fn with_token(self, token: Option<Rotating<Secret>>) -> Self {
        Self { token, ..self }
    }

    /// Requires the token of every connection by TCP, also of our own user's.
    #[must_use]
    pub fn requiring_the_token(self, required: bool) -> Self {
        Self { token_required: required, ..self }
    }

    /// Names our Unix socket in refusals: over it, no token is needed.
    #[must_use]
    pub fn with_socket(self, socket: Option<PathBuf>) -> Self {
        Self { socket, ..self }
    }

    /// Lets in from elsewhere too: over TLS, with a certificate or the token. See [`Policy::decide_remote`].
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

/// The values of one header of a request; that a header came twice must not be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header<'a> {
    /// Not sent.
    Absent,
    /// Sent once.
    One(&'a [u8]),
    /// Sent more than once.
    Several,
}

impl<'a> Header<'a> {
    /// Collects the values of a header, each as its line gave it.
    pub fn collect(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::One(value),
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

/// What a decision rests upon.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The user at the other end, as [`peer_user`] found it; `None` where that is not known.
    pub peer: Option<PeerUser>,
    /// The header `Host`.
    pub host: Header<'a>,
    /// The header `Origin`.
    pub origin: Header<'a>,
    /// The header `Authorization`. This type has no `Debug`, as it may hold the token.
    pub authorization: Header<'a>,
}

/// Why a request is refused, and what to do about it; the text is the answer's, and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `Host` is missing.
    #[error("the request has no Host header: send `Host: 127.0.0.1:{port}`")]
    NoHost {
        /// The port that we listen on.
        port: u16,
    },
    /// `Host` came more than once.
    #[error("the request has several Host headers: send only `Host: 127.0.0.1:{port}`")]
    SeveralHosts {
        /// The port that we listen on.
        port: u16,
    },
    /// `Host` names another machine, or a web page's site by DNS rebinding.
    #[error("host {host:?} is not this machine's loopback: use http://127.0.0.1:{port}")]
    ForeignHost {
        /// The header, at most its first 100 bytes.
        host: String,
        /// The port that we listen on.
        port: u16,
    },
    /// A web page of another site, or of another port of this machine.
    #[error(
        "origin {origin:?} is not the one that the request goes to: \
         pages from elsewhere are not let in, and programs send no Origin header"
    )]
    ForeignOrigin {
        /// The header, at most its first 100 bytes.
        origin: String,
    },
    /// From elsewhere, for a name that our certificate does not have.
    #[error("host {host:?} is none that this service's certificate is for")]
    UncertifiedHost {
        /// The header, at most its first 100 bytes.
        host: String,
    },
    /// From elsewhere, without the token.
    #[error("{}", Elsewhere(*.bearer))]
    NoToken {
        /// What became of its bearer token.
        bearer: Bearer,
    },
    /// From elsewhere, without a certificate, where nothing else lets in.
    #[error("connect with a client certificate that this service trusts")]
    NoCertificate,
    /// The peer has our user's ID or root's, but is not known to be a process in our own namespaces.
    #[error(
        "the connection belongs to user ID {uid}, but no process of that user in this service's own user, mount and pid \
         namespaces holds it, as far as the service may inspect them: {}",
        Ways(socket.as_deref(), *bearer)
    )]
    Unplaced {
        /// The peer's user ID.
        uid: u32,
        /// Our Unix socket.
        socket: Option<PathBuf>,
        /// What became of its bearer token.
        bearer: Bearer,
    },
    /// The peer is our user, but connections by TCP need the token.
    #[error("http.require_token is set: {}", Ways(socket.as_deref(), *bearer))]
    TokenRequired {
        /// Our Unix socket.
        socket: Option<PathBuf>,
        /// What became of its bearer token.
        bearer: Bearer,
    },
    /// The peer is somebody else, and did not bear the token.
    #[error("{}; {}", Peer(*.uid), Remedy(*.own_uid, *.bearer))]
    Stranger {
        /// The peer's user ID, where it is known.
        uid: Option<u32>,
        /// Ours.
        own_uid: u32,
        /// What became of its bearer token.
        bearer: Bearer,
    },
}

impl Refusal {
    /// Whether the request would be answered if it bore the token that is configured, and bears none.
    pub(super) fn is_for_want_of_a_token(&self) -> bool {
        matches!(
            self,
            Refusal::NoToken { bearer: Bearer::Missing }
                | Refusal::Unplaced { bearer: Bearer::Missing, .. }
                | Refusal::TokenRequired { bearer: Bearer::Missing, .. }
                | Refusal::Stranger { bearer: Bearer::Missing, .. }
        )
    }
}

/// What became of a request's bearer token that did not let it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearer {
    /// No token is configured: none could match.
    NotConfigured,
    /// The request bears none.
    Missing,
    /// The request bears another one, or several.
    Wrong,
}

struct Elsewhere(Bearer);

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Bearer::Wrong => "the request's token is not the configured one",
            _ => "send the configured HTTP token as `Authorization: Bearer TOKEN`",
        })
    }
}

/// The ways in for this user's own programs: our Unix socket, and the token.
struct Ways<'a>(Option<&'a Path>, Bearer);

impl fmt::Display for Ways<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(socket) => write!(f, "connect to the Unix socket {}, or ", socket.display())?,
            None => f.write_str("connect to its Unix socket, or ")?,
        }
        f.write_str(match self.1 {
            Bearer::NotConfigured => "configure http.token and send it as",
            Bearer::Missing => "send the configured HTTP token as",
            Bearer::Wrong => "send the configured HTTP token, which the request's is not, as",
        })?;
        f.write_str(" `Authorization: Bearer TOKEN`")
    }
}

struct Peer(Option<u32>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(uid) => write!(f, "the connection belongs to user ID {uid}"),
            None => f.write_str("the user at the other end of the connection cannot be told"),
        }
    }
}

struct Remedy(u32, Bearer);

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(own_uid, bearer) = self;
        let (what, how) = match bearer {
            Bearer::NotConfigured => ("", "configure an HTTP token and send it as"),
            Bearer::Missing => ("", "send the configured HTTP token as"),
            Bearer::Wrong => {
                ("its token is not the configured one: ", "send the configured one as")
            }
        };
        write!(
            f,
            "{what}connect as user ID {own_uid} or root, or {how} `Authorization: Bearer TOKEN`"
        )
    }
}

/// Decides whether a request from within this machine is answered; `port` is the one that we listen on, for the texts of refusals, and
/// `tls` tells whether its connection is encrypted.
///
/// # Errors
/// The refusal, for the body of a 403.
pub fn decide(policy: &Policy, facts: &Facts<'_>, port: u16, tls: bool) -> Result<(), Refusal> {
    let host = check_host(facts.host, port)?;
    check_origin(facts.origin, &host, tls)?;
    let ours = facts.peer.filter(|peer| peer.uid == policy.own_uid || peer.uid == 0);
    // A connection without a port is one to the Unix socket.
    let token_required = policy.token_required && port != 0;
    if ours.is_some_and(|peer| peer.is_here) && !token_required {
        return Ok(());
    }
    check_bearer(policy, facts.authorization).map_err(|bearer| {
        let socket = policy.socket.clone();
        match ours {
            Some(PeerUser { is_here: true, .. }) => Refusal::TokenRequired { socket, bearer },
            Some(PeerUser { uid, .. }) => Refusal::Unplaced { uid, socket, bearer },
            None => {
                let uid = facts.peer.map(|peer| peer.uid);
                Refusal::Stranger { uid, own_uid: policy.own_uid, bearer }
            }
        }
    })
}

fn check_host(host: Header<'_>, port: u16) -> Result<Authority, Refusal> {
    match host {
        Header::Absent => Err(Refusal::NoHost { port }),
        Header::Several => Err(Refusal::SeveralHosts { port }),
        Header::One(text) => Authority::parse_loopback(text)
            .ok_or_else(|| Refusal::ForeignHost { host: quote(text), port }),
    }
}

fn check_origin(origin: Header<'_>, host: &Authority, tls: bool) -> Result<(), Refusal> {
    let text = match origin {
        Header::Absent => return Ok(()),
        Header::One(text) => text,
        Header::Several => b"(several)",
    };
    match origin_authority(text, tls) {
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
    // Of constant time for all tokens of one length; the length itself is no secret worth keeping.
    let token = token.get();
    if !token.is_empty() && token.matches(given) { Ok(()) } else { Err(Bearer::Wrong) }
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter.
fn bearer_token(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(b"bearer".len())?;
    let token = rest.trim_ascii_start();
    (scheme.eq_ignore_ascii_case(b"bearer") && token.len() < rest.len()).then_some(token)
}

fn quote(text: &[u8]) -> String {
    String::from_utf8_lossy(text.get(..QUOTE_MAX).unwrap_or(text)).into_owned()
}

#[cfg(test)]
mod tests;
