//! Refusals of requests, with remedies.

use std::fmt;
use std::path::{Path, PathBuf};

/// A refusal; its text is the body of the answer, and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `Host` is missing.
    #[error("the request has no Host header: send `Host: 127.0.0.1:{port}`")]
    NoHost {
        /// The port that we listen on.
        port: u16,
    },
    /// `Host` is repeated.
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
        "origin {origin:?} is not this service: \
         use a page that this service serves; programs must omit the Origin header"
    )]
    ForeignOrigin {
        /// The header, at most its first 100 bytes.
        origin: String,
    },
    /// From elsewhere, for a name that our certificate does not have.
    #[error("certificate does not cover host {host:?}: use a host name of the certificate")]
    UncertifiedHost {
        /// The header, at most its first 100 bytes.
        host: String,
    },
    /// A request from another machine, without the token.
    #[error("{}", Elsewhere(*.bearer))]
    NoToken {
        /// The fate of its bearer token.
        bearer: Bearer,
    },
    /// A request from another machine, without a certificate, which alone would admit it.
    #[error("connect with a client certificate that this service trusts")]
    NoCertificate,
    /// The peer has our user's ID or root's, but possibly no process in our own namespaces holds
    /// its socket.
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
        /// The fate of its bearer token.
        bearer: Bearer,
    },
    /// The peer is our user, but connections by TCP need the token.
    #[error("http.require_token is set: {}", Ways(socket.as_deref(), *bearer))]
    TokenRequired {
        /// Our Unix socket.
        socket: Option<PathBuf>,
        /// The fate of its bearer token.
        bearer: Bearer,
    },
    /// A browser sends it for a page of another site, or of another port of this machine.
    #[error(
        "Sec-Fetch-Site is {site:?}: a browser may send requests only for this service's own page, \
         and programs send no Sec-Fetch headers"
    )]
    ForeignSite {
        /// The header, at most its first 100 bytes.
        site: String,
    },
    /// A browser sends it, but not as the page's script does: as a form or a navigation.
    #[error(
        "a browser may change something only by the page's script (fetch), not by a form, a link or a frame"
    )]
    NotByScript,
    /// It requests the script of a service worker.
    #[error(
        "this service has no service workers: an earlier program on this port registered one; clear this site's data in the browser"
    )]
    ServiceWorker,
    /// A browser needs a session for this, and the request has none.
    #[error(
        "a browser needs a session to change anything: run `procstar ui`, which opens the page with one; \
         programs that are no browser send neither Origin nor Sec-Fetch headers"
    )]
    NoSession,
    /// The session is invalid or has expired.
    #[error(
        "the session of this page has ended, or is not for this address: run `procstar ui` again"
    )]
    WrongSession,
    /// The code for a session is invalid or has expired.
    #[error(
        "invalid code: it has been used, or is older than {seconds} s; run `procstar ui` again"
    )]
    WrongCode {
        /// The lifetime of a code.
        seconds: u64,
    },
    /// The peer is another user, and did not present the token.
    #[error("{}; {}", Peer(*.uid), Remedy(*.own_uid, *.bearer))]
    Stranger {
        /// The peer's user ID, if known.
        uid: Option<u32>,
        /// Our user ID.
        own_uid: u32,
        /// The fate of its bearer token.
        bearer: Bearer,
    },
}

impl Refusal {
    /// Whether the request presents no token, and would be answered with the configured one.
    pub(in crate::http) fn is_for_want_of_a_token(&self) -> bool {
        matches!(
            self,
            Refusal::NoToken { bearer: Bearer::Missing }
                | Refusal::Unplaced { bearer: Bearer::Missing, .. }
                | Refusal::TokenRequired { bearer: Bearer::Missing, .. }
                | Refusal::Stranger { bearer: Bearer::Missing, .. }
        )
    }

    /// Whether the request may have guessed at a secret.
    pub(in crate::http) fn is_guess(&self) -> bool {
        self.kind() == Kind::Guess
    }

    /// The kind, for counting.
    pub(in crate::http) fn kind(&self) -> Kind {
        match self {
            Refusal::NoHost { .. }
            | Refusal::SeveralHosts { .. }
            | Refusal::ForeignHost { .. }
            | Refusal::UncertifiedHost { .. } => Kind::Host,
            Refusal::ForeignOrigin { .. }
            | Refusal::ForeignSite { .. }
            | Refusal::NotByScript
            | Refusal::ServiceWorker => Kind::Site,
            Refusal::NoSession => Kind::Session,
            Refusal::WrongSession
            | Refusal::WrongCode { .. }
            | Refusal::NoToken { bearer: Bearer::Wrong }
            | Refusal::Unplaced { bearer: Bearer::Wrong, .. }
            | Refusal::TokenRequired { bearer: Bearer::Wrong, .. }
            | Refusal::Stranger { bearer: Bearer::Wrong, .. } => Kind::Guess,
            Refusal::NoToken { .. }
            | Refusal::NoCertificate
            | Refusal::Unplaced { .. }
            | Refusal::TokenRequired { .. }
            | Refusal::Stranger { .. } => Kind::User,
        }
    }
}

/// The kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Kind {
    /// For the host of another service.
    Host,
    /// From a page of another site.
    Site,
    /// Of a browser without a session.
    Session,
    /// With a wrong token, session or code.
    Guess,
    /// Of another user, without a token.
    User,
}

impl Kind {
    /// All kinds with their names, in order.
    pub(in crate::http) const ALL: [(Kind, &str); 5] = [
        (Kind::Host, "host"),
        (Kind::Site, "site"),
        (Kind::Session, "session"),
        (Kind::Guess, "guess"),
        (Kind::User, "user"),
    ];
}

/// Why a request's bearer token did not admit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearer {
    /// No token is configured: none could match.
    NotConfigured,
    /// The request presents none.
    Missing,
    /// The request presents another one, or several.
    Wrong,
}

struct Elsewhere(Bearer);

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Bearer::Wrong => {
                "the request has another token than http.token: \
                 send the configured HTTP token as `Authorization: Bearer TOKEN`"
            }
            _ => "send the configured HTTP token as `Authorization: Bearer TOKEN`",
        })
    }
}

/// The ways of access for this user's own programs: our Unix socket, and the token. Begins with the
/// fault of the token that was sent, if any.
struct Ways<'a>(Option<&'a Path>, Bearer);

impl fmt::Display for Ways<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1 == Bearer::Wrong {
            f.write_str("the request has another token than http.token: ")?;
        }
        match self.0 {
            Some(socket) => write!(f, "connect to the Unix socket {}, or ", socket.display())?,
            None => f.write_str("connect to its Unix socket, or ")?,
        }
        f.write_str(match self.1 {
            Bearer::NotConfigured => "configure http.token and send it as",
            Bearer::Missing | Bearer::Wrong => "send the configured HTTP token as",
        })?;
        f.write_str(" `Authorization: Bearer TOKEN`")
    }
}

struct Peer(Option<u32>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(uid) => write!(f, "the connection belongs to user ID {uid}"),
            None => f.write_str("the user of the connection is unknown"),
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
                ("it has another token than http.token: ", "send the configured one as")
            }
        };
        write!(
            f,
            "{what}connect as user ID {own_uid} or root, or {how} `Authorization: Bearer TOKEN`"
        )
    }
}
