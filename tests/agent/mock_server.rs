//! The scheduler's WebSocket server for tests: TLS on the loopback with a generated certificate. It
//! records the messages it receives, and sends the messages that the test requests.
//!
//! [`MockServer`] runs on actix-web with actix-web-actors, so that independent code also
//! checks our frames. [`RawServer`] returns the bare TLS stream, for servers that misbehave.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use crate::support::wait::soon;
use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use actix::{Actor, ActorContext, StreamHandler};
use actix_http::ws::{CloseCode, CloseReason, Item, Message, ProtocolError, hash_key};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, web};
use actix_web_actors::ws::{WebsocketContext, WsResponseBuilder};
use bytes::{Bytes, BytesMut};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A TLS certificate and its key.
#[derive(Clone)]
pub struct Identity {
    cert: CertificateDer<'static>,
    key: Vec<u8>,
    pem: String,
}

impl Identity {
    /// A self-signed CA certificate for `names`, like the output of `openssl req -x509`.
    pub fn new(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self { cert: cert.der().clone(), key: key.serialize_der(), pem: cert.pem() }
    }

    /// A certificate for `localhost` issued by a CA, and the file of the CA's certificate.
    pub fn issued() -> (Self, NamedTempFile) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "some authority");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &ca).unwrap();
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(ca.pem().as_bytes()).unwrap();
        let (key, pem) = (key.serialize_der(), cert.pem());
        (Self { cert: cert.der().clone(), key, pem }, file)
    }

    /// A self-signed certificate for the names and addresses of the loopback.
    pub fn loopback() -> Self {
        Self::new(&["localhost", "127.0.0.1", "::1"])
    }

    /// A PEM file with the certificate, for `PROCSTAR_AGENT_CERT`.
    pub fn pem_file(&self) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(self.pem.as_bytes()).unwrap();
        file
    }

    /// The TLS configuration of a server with this certificate.
    pub fn server_config(&self) -> ServerConfig {
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![self.cert.clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone())),
            )
            .unwrap()
    }
}

/// An event on the server's side of a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// A whole binary message.
    Message {
        data: Bytes,
        /// The number of frames of the message.
        frames: usize,
        /// The number of pings and pongs between those frames.
        controls: usize,
    },
    Text(String),
    Ping(Bytes),
    Pong(Bytes),
    /// A Close frame, with its code.
    Close(Option<u16>),
    /// The connection ended, or the codec reported an error. The last event of a session.
    Gone,
}

/// A message that the test makes the server send.
#[derive(Debug)]
pub enum Say {
    /// A message as one frame.
    Binary(Bytes),
    /// A message in fragments, with a ping before each fragment after the first.
    Fragments(Vec<Bytes>),
    Text(String),
    Ping(Bytes),
    Close(u16, String),
    /// Ends the session without a close frame.
    Hangup,
}

/// How the server behaves.
#[derive(Clone, Copy)]
pub struct Behaviour {
    /// Answers every request with this HTTP status instead of upgrading.
    pub status: Option<u16>,
    /// Answers pings.
    pub pongs: bool,
    /// Answers a Close with a Close, and ends the session.
    pub closes: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { status: None, pongs: true, closes: true }
    }
}

/// One connection, from the server's side.
pub struct Session {
    seen: UnboundedReceiver<Seen>,
    say: UnboundedSender<Say>,
}

impl Session {
    /// Waits for the next thing that the client sends.
    pub async fn seen(&mut self) -> Seen {
        soon(self.seen.recv()).await.unwrap_or(Seen::Gone)
    }

    /// The next event already received, or `None`.
    pub fn seen_now(&mut self) -> Option<Seen> {
        self.seen.try_recv().ok()
    }

    /// Sends a message to the client.
    pub fn say(&self, say: Say) {
        // An ended session reports `Seen::Gone`.
        let _ = self.say.send(say);
    }
}

/// A running server; dropping it stops it.
pub struct MockServer {
    pub addr: SocketAddr,
    pub identity: Identity,
    sessions: UnboundedReceiver<Session>,
    handle: ServerHandle,
}

impl MockServer {
    /// Starts a server on a free port.
    pub fn start(behaviour: Behaviour) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), Identity::loopback(), behaviour)
    }

    /// Starts a server on this address, such as the address of an earlier server.
    pub fn start_on(addr: SocketAddr, identity: Identity, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        let addr = listener.local_addr().unwrap();
        let (accepted, sessions) = unbounded_channel();
        let state = web::Data::new((behaviour, accepted));
        let server = HttpServer::new(move || {
            App::new().app_data(state.clone()).default_service(web::to(accept))
        })
        .workers(1)
        .disable_signals()
        .listen_rustls_0_23(listener, identity.server_config())
        .unwrap()
        .run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Self { addr, identity, sessions, handle }
    }

    /// Waits for the next connection.
    pub async fn accept(&mut self) -> Session {
        soon(self.sessions.recv()).await.expect("the server runs")
    }

    /// Whether no session waits to be accepted.
    pub fn has_no_session(&mut self) -> bool {
        self.sessions.try_recv().is_err()
    }

    /// Stops the server; its port is free afterwards.
    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

impl Drop for MockServer {
    fn drop(&mut self) {
        // The call itself sends the stop; its future only waits for the end.
        drop(self.handle.stop(false));
    }
}

type State = web::Data<(Behaviour, UnboundedSender<Session>)>;

async fn accept(
    req: HttpRequest,
    stream: web::Payload,
    state: State,
) -> actix_web::Result<HttpResponse> {
    let (behaviour, accepted) = state.get_ref();
    if let Some(status) = behaviour.status {
        return Ok(HttpResponse::build(status.try_into().unwrap()).finish());
    }
    let (seen_tx, seen) = unbounded_channel();
    let (say, say_rx) = unbounded_channel();
    let actor = Speaker {
        behaviour: *behaviour,
        seen: seen_tx,
        say: Some(say_rx),
        message: BytesMut::new(),
        frames: 0,
        controls: 0,
    };
    let response = WsResponseBuilder::new(actor, &req, stream).frame_size(1 << 30).start()?;
    let _ = accepted.send(Session { seen, say });
    Ok(response)
}

/// The actor of one session.
struct Speaker {
    behaviour: Behaviour,
    seen: UnboundedSender<Seen>,
    say: Option<UnboundedReceiver<Say>>,
    message: BytesMut,
    frames: usize,
    controls: usize,
}

impl Actor for Speaker {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let say = self.say.take().unwrap();
        <Self as StreamHandler<Say>>::add_stream(
            futures_util::stream::unfold(say, |mut say| async {
                say.recv().await.map(|next| (next, say))
            }),
            ctx,
        );
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.see(Seen::Gone);
    }
}

impl Speaker {
    fn see(&self, seen: Seen) {
        let _ = self.seen.send(seen);
    }

    fn see_control(&mut self, seen: Seen) {
        self.controls += usize::from(self.frames > 0);
        self.see(seen);
    }

    fn fragment(&mut self, data: &[u8], last: bool) {
        self.message.extend_from_slice(data);
        self.frames += 1;
        if last {
            let data = self.message.split().freeze();
            let (frames, controls) = (self.frames, self.controls);
            (self.frames, self.controls) = (0, 0);
            self.see(Seen::Message { data, frames, controls });
        }
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for Speaker {
    fn handle(&mut self, item: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        let Ok(message) = item else { return ctx.stop() };
        match message {
            Message::Binary(data) => self.fragment(&data, true),
            Message::Continuation(
                Item::FirstBinary(data) | Item::FirstText(data) | Item::Continue(data),
            ) => self.fragment(&data, false),
            Message::Continuation(Item::Last(data)) => self.fragment(&data, true),
            Message::Text(text) => self.see(Seen::Text(text.to_string())),
            Message::Ping(data) => {
                if self.behaviour.pongs {
                    ctx.pong(&data);
                }
                self.see_control(Seen::Ping(data));
            }
            Message::Pong(data) => self.see_control(Seen::Pong(data)),
            Message::Close(reason) => {
                self.see(Seen::Close(reason.as_ref().map(|reason| reason.code.into())));
                if self.behaviour.closes {
                    ctx.close(reason);
                    ctx.stop();
                }
            }
            Message::Nop => {}
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl StreamHandler<Say> for Speaker {
    fn handle(&mut self, say: Say, ctx: &mut Self::Context) {
        match say {
            Say::Binary(data) => ctx.binary(data),
            Say::Text(text) => ctx.text(text),
            Say::Ping(data) => ctx.ping(&data),
            Say::Close(code, reason) => {
                let reason = CloseReason { code: CloseCode::from(code), description: Some(reason) };
                ctx.close(Some(reason));
            }
            Say::Fragments(pieces) => {
                let last = pieces.len() - 1;
                for (i, piece) in pieces.into_iter().enumerate() {
                    if i > 0 {
                        ctx.ping(b"between");
                    }
                    ctx.write_raw(Message::Continuation(match i {
                        0 => Item::FirstBinary(piece),
                        i if i == last => Item::Last(piece),
                        _ => Item::Continue(piece),
                    }));
                }
            }
            Say::Hangup => ctx.stop(),
        }
    }

    fn finished(&mut self, _: &mut Self::Context) {
        // The default would end the connection when the test drops its `Session`.
    }
}

/// A listener whose connections the test handles byte by byte.
pub struct RawServer {
    pub addr: SocketAddr,
    pub identity: Identity,
    listener: tokio::net::TcpListener,
}

impl RawServer {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { addr, identity: Identity::loopback(), listener }
    }

    /// The next TCP connection, before its TLS handshake.
    pub async fn tcp(&self) -> TcpStream {
        soon(self.listener.accept()).await.unwrap().0
    }

    /// The next connection, after its TLS handshake.
    pub async fn tls(&self) -> TlsStream<TcpStream> {
        let acceptor = TlsAcceptor::from(Arc::new(self.identity.server_config()));
        soon(acceptor.accept(self.tcp().await)).await.unwrap()
    }

    /// The next connection after its upgrade request, and the response that accepts it.
    pub async fn request(&self) -> (TlsStream<TcpStream>, Vec<u8>) {
        let mut stream = self.tls().await;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(soon(stream.read_buf(&mut request)).await.unwrap() > 0, "{request:?}");
        }
        let request = String::from_utf8(request).unwrap();
        let key = request
            .lines()
            .find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
            })
            .expect("an upgrade request");
        let accept = hash_key(key.as_bytes());
        let accept = std::str::from_utf8(&accept).unwrap();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        );
        (stream, answer.into_bytes())
    }

    /// The next connection, upgraded.
    pub async fn websocket(&self) -> TlsStream<TcpStream> {
        let (mut stream, answer) = self.request().await;
        stream.write_all(&answer).await.unwrap();
        stream.flush().await.unwrap();
        stream
    }
}
