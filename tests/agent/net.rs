//! The network layer with real servers on the loopback: connecting, TLS, and messages of any size.

mod answers;
mod in_memory;

use std::{cell::Cell, io, rc::Rc, time::Duration};

use crate::mock_server::{Behaviour, Identity, MockServer, RawServer, Say, Seen};
use crate::support::wait::soon;
use bytes::Bytes;
use procstar::net::{
    dial::{Dial, DialError, DialPhase, Timeouts, WssDialer},
    inbound::{Inbound, SocketError},
    outbound::{Outbound, Payload},
    socket::Link,
    tls::{Trust, client_config},
};
use rustls::CertificateError;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

const LARGE: usize = 70 << 20;

fn dialer(host: &str, port: u16, identity: &Identity) -> WssDialer {
    let cert = identity.pem_file();
    WssDialer::new(host, port, client_config(&Trust::also(cert.path())).unwrap())
}

async fn link(server: &MockServer) -> Link {
    soon(dialer("127.0.0.1", server.addr.port(), &server.identity).dial()).await.unwrap()
}

/// A link to a raw server, and the server's stream, to which the test writes bytes.
async fn raw_link(
    server: &RawServer,
) -> (Link, tokio_rustls::server::TlsStream<tokio::net::TcpStream>) {
    let dial = dialer("127.0.0.1", server.addr.port(), &server.identity).dial();
    let (link, stream) = soon(async { tokio::join!(dial, server.websocket()) }).await;
    (link.unwrap(), stream)
}

async fn next(link: &mut Link) -> Inbound {
    soon(link.inbound.recv()).await.expect("the link's last item ends it")
}

async fn message(link: &mut Link) -> Bytes {
    loop {
        match next(link).await {
            Inbound::Message(data) => return data,
            Inbound::Ping(_) | Inbound::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn send(link: &Link, data: impl Into<Bytes>) {
    let data = Box::new(data.into());
    assert!(soon(link.outbound.data.send(data)).await.is_ok(), "the writer runs");
}

fn bytes(len: usize) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(len as u64);
    let block: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(65_521).collect();
    block.iter().copied().cycle().take(len).collect::<Vec<_>>().into()
}

async fn failure(dialer: WssDialer) -> DialError {
    soon(dialer.dial()).await.unwrap_err()
}

fn short() -> Timeouts {
    let step = Duration::from_millis(200);
    Timeouts { resolve: Duration::from_secs(5), connect: step, tls: step, upgrade: step }
}

#[actix_rt::test]
async fn small_messages_are_one_frame_and_keep_their_order() {
    let mut server = MockServer::start(Behaviour::default());
    let mut link = link(&server).await;
    let mut session = server.accept().await;
    for len in [0, 1, 125, 126, 65_535] {
        send(&link, bytes(len)).await;
        let expected = Seen::Message { data: bytes(len), frames: 1, controls: 0 };
        assert_eq!(session.seen().await, expected);
        session.say(Say::Binary(bytes(len)));
    }
    for len in [0, 1, 125, 126, 65_535] {
        assert_eq!(message(&mut link).await, bytes(len));
    }
}

#[actix_rt::test]
async fn large_messages_come_as_one_frame_and_in_fragments() {
    let mut server = MockServer::start(Behaviour::default());
    let mut link = link(&server).await;
    let mut session = server.accept().await;
    let large = bytes(LARGE);
    session.say(Say::Binary(large.clone()));
    assert!(message(&mut link).await == large);
    let pieces: Vec<_> =
        (0..10).map(|i| large.slice(i * (LARGE / 10)..(i + 1) * (LARGE / 10))).collect();
    session.say(Say::Fragments(pieces));
    session.say(Say::Text("no part of the protocol".into()));
    session.say(Say::Binary("after".into()));
    for _ in 0..9 {
        assert!(matches!(next(&mut link).await, Inbound::Ping(data) if data == "between"));
    }
    assert!(message(&mut link).await == large);
    assert_eq!(message(&mut link).await, "after");
    // The client answers pings. RFC 6455 requires an answer to the newest only.
    assert_eq!(session.seen().await, Seen::Pong("between".into()));
}

/// A message that sends a ping after half of its data.
struct PingsInside {
    data: Bytes,
    outbound: Outbound,
}

impl Payload for PingsInside {
    fn fill(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        if self.data.len() == LARGE / 2 {
            self.outbound.ping("inside".into());
        }
        self.data.fill(out)
    }
}

#[actix_rt::test]
async fn a_ping_overtakes_the_rest_of_a_large_message() {
    let mut server = MockServer::start(Behaviour::default());
    let mut link = link(&server).await;
    let mut session = server.accept().await;
    let large = bytes(LARGE);
    let payload = PingsInside { data: large.clone(), outbound: link.outbound.clone() };
    assert!(link.outbound.data.try_send(Box::new(payload)).is_ok());
    assert_eq!(session.seen().await, Seen::Ping("inside".into()));
    let Seen::Message { data, frames, controls } = session.seen().await else { panic!() };
    assert!(data == large);
    assert_eq!(controls, 1);
    assert!((500..1200).contains(&frames), "{frames}");
    assert!(matches!(next(&mut link).await, Inbound::Pong(data) if data == "inside"));
}

#[actix_rt::test]
async fn a_close_is_answered_with_a_close() {
    let mut server = MockServer::start(Behaviour::default());
    let mut link = link(&server).await;
    let mut session = server.accept().await;
    session.say(Say::Binary("last".into()));
    session.say(Say::Close(1001, "restart".into()));
    assert_eq!(message(&mut link).await, "last");
    let Inbound::Close { code, reason } = next(&mut link).await else { panic!() };
    assert_eq!((code, reason.as_str()), (Some(1001), "restart"));
    assert!(soon(link.inbound.recv()).await.is_none());
    // actix ends its session with its own Close, before or after it receives the client's answer.
    // The raw server below checks the answer.
    let mut last = session.seen().await;
    if last == Seen::Close(Some(1001)) {
        last = session.seen().await;
    }
    assert_eq!(last, Seen::Gone);
    assert!(link.outbound.data.is_closed());

    let server = RawServer::start().await;
    let (mut link, mut stream) = raw_link(&server).await;
    stream.write_all(b"\x88\x05\x03\xe9bye").await.unwrap();
    assert!(matches!(next(&mut link).await, Inbound::Close { code: Some(1001), .. }));
    // The client closes TCP after its answer.
    let (_, answer) = opened(&rest_of(stream).await);
    assert_eq!(answer, [(0x88, b"\x03\xe9".to_vec())]);
}

/// Reads up to the end of the stream, which may be a reset or lack the TLS close_notify.
async fn rest_of(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
    rest
}

/// Parses a client's short frames. Returns the unparsed rest, and the first byte and the unmasked
/// payload of each frame.
fn opened(mut bytes: &[u8]) -> (&[u8], Vec<(u8, Vec<u8>)>) {
    let mut frames = Vec::new();
    while let [first, len @ 0x80..=0xfd, k0, k1, k2, k3, rest @ ..] = bytes {
        let Some((payload, rest)) = rest.split_at_checked(usize::from(len & 0x7f)) else { break };
        let key = [k0, k1, k2, k3].into_iter().cycle();
        frames.push((*first, payload.iter().zip(key).map(|(byte, key)| byte ^ key).collect()));
        bytes = rest;
    }
    (bytes, frames)
}

#[actix_rt::test]
async fn a_close_is_sent_after_queued_messages() {
    let mut server = MockServer::start(Behaviour::default());
    let mut link = link(&server).await;
    let mut session = server.accept().await;
    send(&link, bytes(1 << 20)).await;
    send(&link, "last").await;
    link.outbound.close(Some(1000), "done");
    assert!(matches!(next(&mut link).await, Inbound::Close { code: Some(1000), .. }));
    assert!(matches!(session.seen().await, Seen::Message { data, .. } if data.len() == 1 << 20));
    assert!(matches!(session.seen().await, Seen::Message { data, .. } if data == "last"));
    assert_eq!(session.seen().await, Seen::Close(Some(1000)));
    assert_eq!(session.seen().await, Seen::Gone);
}

#[actix_rt::test]
async fn dropping_or_aborting_closes_tcp_at_once() {
    let server = RawServer::start().await;
    let (link, stream) = raw_link(&server).await;
    let outbound = link.outbound.clone();
    drop(link);
    assert_eq!(rest_of(stream).await, b"");
    soon(outbound.data.closed()).await;

    let (mut link, stream) = raw_link(&server).await;
    send(&link, bytes(1 << 20)).await;
    link.outbound.abort();
    assert!(matches!(next(&mut link).await, Inbound::Lost(SocketError::Aborted)));
    assert!(rest_of(stream).await.len() < 1 << 20);
}

#[actix_rt::test]
async fn a_server_that_hangs_up_is_reported_as_lost() {
    let server = RawServer::start().await;
    let (mut link, stream) = raw_link(&server).await;
    drop(stream);
    assert!(matches!(
        next(&mut link).await,
        Inbound::Lost(SocketError::Eof | SocketError::Read(_))
    ));
    assert!(soon(link.inbound.recv()).await.is_none());
}

/// An endless message that counts its bytes.
struct Endless(Rc<Cell<usize>>);

impl Payload for Endless {
    fn fill(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        self.0.set(self.0.get() + 65_536);
        out.resize(out.len() + 65_536, 7);
        Ok(true)
    }
}

/// Waits until `count` has not changed for 300 ms, and returns it.
async fn stalls(count: &Cell<usize>) -> usize {
    let mut last = usize::MAX;
    while last != count.get() {
        last = count.get();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    last
}

#[actix_rt::test]
async fn a_scheduler_that_does_not_read_costs_little_and_blocks_no_other() {
    let server = RawServer::start().await;
    let (mut link, mut stream) = raw_link(&server).await;
    let made = Rc::new(Cell::new(0));
    assert!(link.outbound.data.try_send(Box::new(Endless(Rc::clone(&made)))).is_ok());
    let total = soon(stalls(&made)).await;
    assert!(total < 32 << 20, "{total} bytes made for a server that reads none");
    let mut queued = 0;
    while link.outbound.data.try_send(Box::new(Bytes::new())).is_ok() {
        queued += 1;
    }
    assert!(queued <= 4, "{queued} messages queued");
    // The client still reads, and handles a Close although its writer is blocked.
    stream.write_all(b"\x82\x02hi").await.unwrap();
    assert_eq!(message(&mut link).await, "hi");
    stream.write_all(b"\x88\x00").await.unwrap();
    assert!(matches!(next(&mut link).await, Inbound::Close { code: None, .. }));
}

#[actix_rt::test]
async fn an_owner_that_reads_no_messages_blocks_the_sender() {
    let server = RawServer::start().await;
    let (mut link, mut stream) = raw_link(&server).await;
    let written = Rc::new(Cell::new(0));
    let frame = [&[0x82, 126, 0xff, 0xff][..], &vec![5; 65_535]].concat();
    let count = Rc::clone(&written);
    let server = actix_rt::spawn(async move {
        for _ in 0..2000 {
            stream.write_all(&frame).await.unwrap();
            count.set(count.get() + frame.len());
        }
        stream.flush().await.unwrap();
        stream
    });
    let total = soon(stalls(&written)).await;
    assert!(total < 32 << 20, "{total} bytes taken for an owner that takes none");
    for _ in 0..2000 {
        assert_eq!(message(&mut link).await.len(), 65_535);
    }
    soon(server).await.unwrap();
}

/// A message that fails after this number of pieces.
struct Fails(u32);

impl Payload for Fails {
    fn fill(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.resize(out.len() + 65_536, 7);
        Ok(true)
    }
}

#[actix_rt::test]
async fn a_message_that_fails_halfway_ends_the_connection() {
    let mut server = MockServer::start(Behaviour::default());
    let mut link = link(&server).await;
    let mut session = server.accept().await;
    assert!(link.outbound.data.try_send(Box::new(Fails(3))).is_ok());
    assert!(matches!(next(&mut link).await, Inbound::Lost(SocketError::Payload(_))));
    assert_eq!(session.seen().await, Seen::Gone, "no message was completed");
}

#[actix_rt::test]
async fn data_with_the_upgrade_response_is_not_lost() {
    let server = RawServer::start().await;
    let dial = dialer("127.0.0.1", server.addr.port(), &server.identity).dial();
    let serve = async {
        let (mut stream, answer) = server.request().await;
        stream.write_all(&[&answer[..], b"\x82\x05early\x02\x02ha"].concat()).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let (link, mut stream) = soon(async { tokio::join!(dial, serve) }).await;
    let mut link = link.unwrap();
    assert_eq!(message(&mut link).await, "early");
    stream.write_all(b"\x80\x02lf").await.unwrap();
    assert_eq!(message(&mut link).await, "half");
}

#[actix_rt::test]
async fn frames_that_come_byte_by_byte_are_joined() {
    let server = RawServer::start().await;
    let dial = dialer("127.0.0.1", server.addr.port(), &server.identity).dial();
    let serve = async {
        let (mut stream, answer) = server.request().await;
        for byte in [&answer[..], b"\x82\x7e\x00\x05hello\x89\x01p"].concat() {
            stream.write_all(&[byte]).await.unwrap();
            stream.flush().await.unwrap();
        }
        stream
    };
    let (link, mut stream) = soon(async { tokio::join!(dial, serve) }).await;
    let mut link = link.unwrap();
    assert_eq!(message(&mut link).await, "hello");
    assert!(matches!(next(&mut link).await, Inbound::Ping(_)));
    let mut pong = [0; 7];
    soon(stream.read_exact(&mut pong)).await.unwrap();
    assert_eq!(opened(&pong).1, [(0x8a, b"p".to_vec())]);
}

#[actix_rt::test]
async fn connects_by_host_name_and_by_address() {
    let mut server = MockServer::start(Behaviour::default());
    // On most hosts `localhost` also has an IPv6 address, where the server does not listen.
    for host in ["localhost", "127.0.0.1"] {
        let link = soon(dialer(host, server.addr.port(), &server.identity).dial()).await;
        assert!(link.is_ok(), "{host}: {link:?}");
        server.accept().await;
    }
}

#[actix_rt::test]
async fn connects_to_an_ipv6_literal() {
    let Ok(probe) = std::net::TcpListener::bind("[::1]:0") else {
        return eprintln!("skipped: this host has no ipv6 loopback");
    };
    drop(probe);
    let addr = "[::1]:0".parse().unwrap();
    let mut server = MockServer::start_on(addr, Identity::loopback(), Behaviour::default());
    for host in ["::1", "[::1]"] {
        let link = soon(dialer(host, server.addr.port(), &server.identity).dial()).await;
        assert!(link.is_ok(), "{host}: {link:?}");
        server.accept().await;
    }
}

#[actix_rt::test]
async fn an_unknown_host_name_is_a_resolve_error() {
    let err = failure(dialer("no-such-host.invalid", 1, &Identity::loopback())).await;
    assert!(matches!(err, DialError::Resolve { .. }), "{err}");
    assert!(err.to_string().starts_with("cannot resolve host name \"no-such-host.invalid\": "));
}

#[actix_rt::test]
async fn a_closed_port_is_a_connect_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let err = failure(dialer("127.0.0.1", port, &Identity::loopback())).await;
    assert!(matches!(err, DialError::Connect { .. }), "{err}");
    assert_eq!(
        err.to_string(),
        format!("cannot connect to 127.0.0.1:{port}: 127.0.0.1:{port}: connection refused")
    );
}

#[actix_rt::test]
async fn untrusted_and_mismatched_certificates_are_refused() {
    let server = MockServer::start(Behaviour::default());
    let port = server.addr.port();
    let stranger = WssDialer::new("127.0.0.1", port, client_config(&Default::default()).unwrap());
    let err = failure(stranger).await;
    assert!(matches!(err, DialError::Certificate { .. }), "{err}");
    assert!(err.to_string().contains("PROCSTAR_AGENT_CERT"), "{err}");

    let identity = Identity::new(&["other.test"]);
    let addr = "127.0.0.1:0".parse().unwrap();
    let server = MockServer::start_on(addr, identity, Behaviour::default());
    let err = failure(dialer("localhost", server.addr.port(), &server.identity)).await;
    let DialError::Certificate { reason, .. } = &err else { panic!("{err}") };
    assert!(matches!(reason, CertificateError::NotValidForNameContext { .. }), "{err}");
    assert!(err.to_string().contains("other.test"), "{err}");
}

#[actix_rt::test]
async fn a_server_without_tls_is_a_tls_error() {
    let server = RawServer::start().await;
    let dial = failure(dialer("127.0.0.1", server.addr.port(), &server.identity));
    let (err, _) = tokio::join!(dial, async {
        let mut tcp = server.tcp().await;
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        tcp
    });
    assert!(matches!(err, DialError::Tls { .. }), "{err}");

    let dial = failure(dialer("127.0.0.1", server.addr.port(), &server.identity));
    let (err, ()) = tokio::join!(dial, async { drop(server.tcp().await) });
    assert!(matches!(err, DialError::Tls { .. }), "{err}");
}

#[actix_rt::test]
async fn a_server_without_websocket_is_a_status_or_upgrade_error() {
    let behaviour = Behaviour { status: Some(403), ..Behaviour::default() };
    let server = MockServer::start(behaviour);
    let err = failure(dialer("127.0.0.1", server.addr.port(), &server.identity)).await;
    let DialError::Status { refusal, .. } = &err else { panic!("{err}") };
    assert_eq!(refusal.status, 403);

    let server = RawServer::start().await;
    let answer = |answer: &'static [u8]| {
        let dial = failure(dialer("127.0.0.1", server.addr.port(), &server.identity));
        let server = &server;
        async move {
            let (err, ()) = tokio::join!(dial, async {
                let (mut stream, _) = server.request().await;
                stream.write_all(answer).await.unwrap();
                stream.shutdown().await.unwrap();
            });
            err
        }
    };
    for wrong in [
        &b""[..],
        b"220 mail.test ESMTP\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
          sec-websocket-accept: wrong\r\n\r\n",
    ] {
        let err = soon(answer(wrong)).await;
        assert!(matches!(err, DialError::Upgrade { .. }), "{err}");
        assert!(!err.to_string().contains('\n'), "{err}");
    }
}

#[actix_rt::test]
async fn a_silent_server_is_a_timeout() {
    let server = RawServer::start().await;
    let dialer = || dialer("127.0.0.1", server.addr.port(), &server.identity).timeouts(short());
    let (err, _) = tokio::join!(failure(dialer()), server.tcp());
    assert!(matches!(err, DialError::Timeout { phase: DialPhase::Tls, .. }), "{err}");
    let (err, _) = tokio::join!(failure(dialer()), server.request());
    assert!(matches!(err, DialError::Timeout { phase: DialPhase::Upgrade, .. }), "{err}");
}

#[actix_rt::test]
async fn a_full_backlog_is_a_connect_timeout() {
    // With a full backlog, the kernel drops new connections.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(tcp)) =
        timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(addr)).await
    {
        held.push(tcp);
        assert!(held.len() < 100, "the backlog never fills");
    }
    let err =
        failure(dialer("127.0.0.1", addr.port(), &Identity::loopback()).timeouts(short())).await;
    assert!(matches!(err, DialError::Timeout { phase: DialPhase::Connect, .. }), "{err}");
}

/// TCP keepalive detects a server whose machine has vanished.
#[actix::test]
async fn the_connection_uses_tcp_keepalive() {
    let server = MockServer::start(Behaviour::default());
    let link = link(&server).await;
    let port = format!(":{:04X}", server.addr.port());
    let of_ours = |line: &&str| line.split_whitespace().nth(2).is_some_and(|r| r.ends_with(&port));
    // The timer field is 02 for keepalive, and 01 while data waits for an acknowledgement.
    soon(async {
        loop {
            let shown = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let line = shown.lines().find(of_ours).unwrap();
            if line.split_whitespace().nth(5).unwrap().starts_with("02:") {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(link);
}
