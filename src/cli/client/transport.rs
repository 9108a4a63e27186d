//! HTTP to an instance: over its Unix socket, or to a URL.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use actix_http::error::ParseError;
use actix_rt::net::UnixStream;
use actix_service::{Service as _, fn_service};
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use awc::error::SendRequestError;
use awc::http::{Method, Uri, header};
use awc::{Client, ClientResponse, Connector};
use bytes::Bytes;
use futures_util::StreamExt;

use super::address::{InstanceAddress, is_loopback};
use super::error::ClientError;
use super::peer::PeerCheck;
use crate::error_chain::chain;
use crate::http::SocketPath;
use crate::net::keep_alive::keep_alive;
use crate::net::{tls, tls_reason};

/// Maximum time to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// Sends requests to one instance.
pub struct Transport {
    client: Client,
    base: String,
    /// The peer's check, and the confidentiality of the next request.
    peer: Rc<PeerCheck>,
    token: Option<String>,
    /// The address, for messages.
    pub place: String,
}

/// A response whose body has not been read.
///
/// The library reports a broken connection as the end of the body. If the response has a length,
/// this type detects that; else its reader must recognise the end of the content.
pub struct Answer {
    response: ClientResponse,
    /// The number of bytes still to come, if the response has a length.
    left: Option<u64>,
    place: String,
}

impl Transport {
    /// Whether the instance may be on another machine.
    pub fn is_remote(&self) -> bool {
        let base: Option<Uri> = self.base.parse().ok();
        !base.as_ref().and_then(Uri::host).is_some_and(is_loopback)
    }

    /// Creates a client without connecting.
    ///
    /// # Errors
    /// An invalid certificate.
    pub fn new(place: &InstanceAddress) -> Result<Transport, ClientError> {
        let named = place.to_string();
        let peer = Rc::default();
        match place {
            InstanceAddress::Socket(path) => Ok(Transport {
                client: over_socket(path, Rc::clone(&peer)),
                base: "http://localhost".into(),
                peer,
                token: None,
                place: named,
            }),
            InstanceAddress::Url { base, token, ca } => Ok(Transport {
                client: over_network(base, ca.as_deref(), Rc::clone(&peer))?,
                peer,
                base: base.to_string().trim_end_matches('/').to_owned(),
                token: token.clone(),
                place: named,
            }),
        }
    }

    /// Sends a request; returns the response once its head has arrived, if it reports success.
    ///
    /// # Errors
    /// No connection, or a refusal.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, String)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, ClientError> {
        self.announce(self.token.is_some())?;
        self.request(method, path, headers, body).await
    }

    /// Sends a request whose body only this user and root may read.
    ///
    /// # Errors
    /// As [`send`](Transport::send); another user listens there.
    pub async fn send_confidential(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Answer, ClientError> {
        self.announce(true)?;
        self.request(method, path, &[], Some(body)).await
    }

    fn announce(&self, confidential: bool) -> Result<(), ClientError> {
        self.peer.announce(confidential).map_err(|stranger| ClientError::Unreachable {
            place: self.place.clone(),
            reason: stranger.to_string(),
        })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, String)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, ClientError> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.insert_header((name.clone(), value.as_str()));
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let sent = match body {
            Some(body) => request.content_type("application/json").send_body(body).await,
            None => request.send().await,
        };
        let response = sent.map_err(|error| self.unreachable(&error))?;
        let length = response.headers().get(header::CONTENT_LENGTH);
        let left = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let answer = Answer { response, left, place: self.place.clone() };
        if answer.response.status().is_success() { Ok(answer) } else { Err(answer.refusal().await) }
    }

    fn unreachable(&self, error: &SendRequestError) -> ClientError {
        let place = self.place.clone();
        match error {
            // The library's error for a connection that broke before a response: the request may
            // have been carried out.
            SendRequestError::Connect(awc::error::ConnectError::Disconnected) => {
                ClientError::Lost { place, reason: "no answer".into() }
            }
            SendRequestError::Connect(error) => {
                ClientError::Unreachable { place, reason: connecting(error) }
            }
            SendRequestError::Send(_)
            | SendRequestError::Response(ParseError::Incomplete | ParseError::Io(_))
            | SendRequestError::Body(_) => ClientError::Lost { place, reason: chain(error) },
            error => ClientError::Unreachable { place, reason: chain(error) },
        }
    }
}

fn connecting(error: &awc::error::ConnectError) -> String {
    use awc::error::ConnectError as E;
    match error {
        E::Io(error) => match error.kind() {
            std::io::ErrorKind::NotFound => {
                "there is no such socket; see procstar ps without --socket for those that run"
                    .into()
            }
            std::io::ErrorKind::ConnectionRefused => {
                "nobody listens there; does the instance run?".into()
            }
            std::io::ErrorKind::PermissionDenied => {
                "it is another user's; use --url and a token".into()
            }
            // The library reports TLS errors by this kind.
            std::io::ErrorKind::InvalidData => tls_reason::handshake(error, "--ca"),
            _ => error.to_string(),
        },
        E::Timeout => format!("no connection within {} s", CONNECT.as_secs()),
        error => chain(error),
    }
}

impl Answer {
    /// The next bytes of the body; `None` after the last.
    ///
    /// # Errors
    /// The connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        let reason = match self.response.next().await {
            Some(Ok(bytes)) => {
                self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
                return Ok(Some(bytes));
            }
            None if self.left.is_none_or(|left| left == 0) => return Ok(None),
            None => "the answer is cut short".to_owned(),
            Some(Err(error)) => chain(&error),
        };
        Err(ClientError::Lost { place: self.place.clone(), reason })
    }

    /// The whole body.
    ///
    /// # Errors
    /// The connection breaks.
    pub async fn bytes(mut self) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The whole body, as JSON.
    ///
    /// # Errors
    /// The connection breaks, or the body is something else.
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, ClientError> {
        let place = self.place.clone();
        let body = self.bytes().await?;
        serde_json::from_slice(&body)
            .map_err(|error| ClientError::Nonsense { place, reason: error.to_string() })
    }

    /// The error for a refusal.
    async fn refusal(self) -> ClientError {
        #[derive(serde::Deserialize)]
        struct Problem {
            errors: Vec<Detail>,
        }
        #[derive(serde::Deserialize)]
        struct Detail {
            detail: String,
        }
        let (status, place) = (self.response.status(), self.place.clone());
        let problem: Result<Problem, _> = self.json().await;
        match problem {
            Ok(problem) if !problem.errors.is_empty() => ClientError::Refused {
                status: status.as_u16(),
                details: problem.errors.into_iter().map(|error| error.detail).collect(),
            },
            _ => ClientError::Nonsense { place, reason: format!("status {status}") },
        }
    }
}

fn over_socket(path: &Path, peer: Rc<PeerCheck>) -> Client {
    let path = path.to_path_buf();
    let connect = fn_service(move |request: ConnectInfo<Uri>| {
        let (path, peer) = (path.clone(), Rc::clone(&peer));
        async move {
            // The descriptor in the shortened form of a long path must stay open until the
            // connection exists.
            let short = SocketPath::new(&path).map_err(ConnectError::Io)?;
            let stream = UnixStream::connect(short.path()).await.map_err(ConnectError::Io)?;
            peer.unix(&stream).map_err(ConnectError::Io)?;
            Ok(Connection::new(request.request().clone(), stream))
        }
    });
    let connector = Connector::new().connector(connect).timeout(CONNECT);
    Client::builder().connector(connector).disable_timeout().disable_redirects().finish()
}

fn over_network(base: &Uri, ca: Option<&Path>, peer: Rc<PeerCheck>) -> Result<Client, ClientError> {
    // A token must not reach a server that another authority has certified.
    let trust = ca.map_or_else(tls::Trust::default, tls::Trust::only);
    let config = tls::client_config(&trust).map_err(|error| {
        let ca = ca.map(|ca| ca.as_os_str().as_bytes()).unwrap_or_default();
        ClientError::Usage(format!("--ca {}: {error}", String::from_utf8_lossy(ca)))
    })?;
    // With TLS, the certificate identifies the server.
    let is_encrypted = base.scheme_str() == Some("https");
    let tcp = actix_tls::connect::Connector::default().service();
    let connect = fn_service(move |request: ConnectInfo<Uri>| {
        let (connecting, peer) = (tcp.call(request), Rc::clone(&peer));
        async move {
            let connection = connecting.await?;
            keep_alive(connection.io_ref());
            if !is_encrypted {
                peer.tcp(connection.io_ref()).map_err(ConnectError::Io)?;
            }
            Ok(connection)
        }
    });
    let connector = Connector::new()
        .connector(connect)
        .rustls_0_23(config)
        .timeout(CONNECT)
        .handshake_timeout(CONNECT);
    Ok(Client::builder().connector(connector).disable_timeout().disable_redirects().finish())
}
