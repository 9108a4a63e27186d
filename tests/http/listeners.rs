//! The listeners: a Unix socket, TLS with a token or certificates, and limits.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use procstar::config::read_secret_file;
use procstar::http::access::{Policy, Remote};
use procstar::http::{HttpLimits, Listeners, listen, listen_on, listen_unix, may_listen};
use procstar::net::tls_server::{rotating_server_tls, server_tls};
use procstar::rotating::Rotating;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use super::client::{Answer, Client, tcp};
use super::harness::{TestServer, own_uid};
use crate::support::private::write_secret;

const TOKEN: &str = "8ePqYiqbZ4AnXB2hWx8WQg";
const OTHER_UID: u32 = 45_678;

pub fn loopback() -> Vec<TcpListener> {
    listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

fn with_socket(path: &Path) -> TestServer {
    let doors = Listeners { tcp: loopback(), unix: Some(listen_unix(path).unwrap()), tls: None };
    TestServer::at(doors, Policy::new(own_uid(), None), HttpLimits::default())
}

fn over(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    client.request("GET", path, headers, b"");
    client.answer()
}

#[test]
fn this_user_is_authorized_at_the_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http.sock");
    let server = with_socket(&path);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = Client::connect_unix(&path);
    assert_eq!(over(&mut client, "/procs", &[]).data(), json!({"procs": {}}));
    // Browsers do not use Unix sockets, but the same rules apply.
    let origin = [("Origin", "http://evil.example")];
    over(&mut client, "/procs", &origin).errors(403);
    let mut client = Client::connect_unix(&path);
    client.send("GET /procs HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    client.answer().errors(403);
    // The path is in use until the service ends.
    assert_eq!(listen_unix(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(server);
    drop(with_socket(&path));
}

#[test]
fn a_socket_with_a_long_path() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("x".repeat(100)).join("y".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let path = deep.join("http.sock");
    let server = with_socket(&path);
    let here = std::fs::File::open(&deep).unwrap();
    let short = format!("/proc/self/fd/{}/http.sock", here.as_raw_fd());
    let mut client = Client::connect_unix(Path::new(&short));
    assert_eq!(over(&mut client, "/healthz", &[]).status, 200);
    drop(server);
}

/// The file mode grants access by mistake; the service still rejects another user.
#[test]
fn another_user_is_forbidden_at_the_unix_socket() {
    if own_uid() != 0 || !Path::new("/usr/bin/python3").exists() {
        eprintln!("left out: only root can become another user, and python3 connects for it");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let path = dir.path().join("http.sock");
    let server = with_socket(&path);
    let ask = |path: &Path| {
        let script = "import socket, sys\n\
            s = socket.socket(socket.AF_UNIX)\n\
            s.connect(sys.argv[1])\n\
            s.sendall(b'GET /procs HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n')\n\
            sys.stdout.buffer.write(s.makefile('rb').read())";
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", script])
            .arg(path)
            .current_dir("/")
            .uid(OTHER_UID)
            .gid(OTHER_UID)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        child.wait().unwrap();
        (out, err)
    };
    let (_, error) = ask(&path);
    assert!(error.contains("PermissionError"), "{error}");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let (answer, error) = ask(&path);
    assert!(answer.starts_with("HTTP/1.0 403 Forbidden\r\n"), "{answer}{error}");
    assert!(answer.contains("the connection belongs to user ID 45678; "), "{answer}");
    drop(server);
}

/// A certificate and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate authority, and the directory of its certificates.
pub struct Authority {
    ca: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        Authority { ca, dir }
    }

    /// Issues a certificate for a name, to `NAME.pem` and `NAME.key`.
    fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.ca).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), cert.pem()).unwrap();
        write_secret(self.path(&format!("{name}.key")), key.serialize_pem());
        (vec![cert.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        roots
    }
}

/// An address of this machine other than the loopback; `None` if there is none.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // No packet is sent: `connect` only chooses a route. The address is reserved for documentation.
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

/// A service on a network address, over TLS.
fn remote(authority: &Authority, token: Option<&str>, certificates: bool) -> Option<TestServer> {
    let address = own_address().or_else(|| {
        eprintln!("left out: this machine has no address but its loopback");
        None
    })?;
    authority.issue("agent.example");
    let ca = authority.path("ca.pem");
    let tls = server_tls(
        &authority.path("agent.example.pem"),
        &authority.path("agent.example.key"),
        certificates.then_some(&*ca),
    )
    .unwrap();
    may_listen(address, Some(&tls), token.is_some()).unwrap();
    let policy = Policy::new(own_uid(), token.map(str::to_owned))
        .with_remote(Remote::new(tls.certificate.clone()));
    let tcp = listen((address, 0).into()).unwrap();
    let tls = Some(std::sync::Arc::new(tls).into());
    Some(TestServer::at(Listeners { tcp, tls, unix: None }, policy, HttpLimits::default()))
}

pub fn connect(
    server: &TestServer,
    authority: &Authority,
    identity: Option<Identity>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots());
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
    };
    let name = ServerName::try_from("agent.example").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, tcp(server.address))
}

/// Sends a request over TLS with these headers.
fn secure(server: &TestServer, authority: &Authority, headers: &str) -> Answer {
    let mut client = Client::over(connect(server, authority, None));
    client.send(format!("GET /procs HTTP/1.1\r\n{headers}\r\n"));
    client.answer()
}

#[test]
fn other_machines_need_tls_and_the_token() {
    let authority = Authority::new();
    let Some(server) = remote(&authority, Some(TOKEN), false) else { return };
    let good = format!("Host: agent.example\r\nAuthorization: Bearer {TOKEN}\r\n");
    assert_eq!(secure(&server, &authority, &good).data(), json!({"procs": {}}));
    for (headers, told) in [
        ("Host: agent.example\r\n".to_owned(), "send the configured HTTP token"),
        (
            "Host: agent.example\r\nAuthorization: Bearer 8ePqYiqb\r\n".to_owned(),
            "another token than http.token",
        ),
        (good.replace("agent.example", "localhost"), "certificate does not cover host"),
        (good.replace("agent.example", "evil.example"), "certificate does not cover host"),
        (format!("{good}Origin: https://evil.example\r\n"), "origin \"https://evil.example\""),
    ] {
        let errors = secure(&server, &authority, &headers).errors(403);
        assert!(errors[0].contains(told) && !errors[0].contains(TOKEN), "{headers}: {errors:?}");
    }
    let own = format!("{good}Origin: https://agent.example\r\n");
    assert_eq!(secure(&server, &authority, &own).status, 200);
}

#[test]
fn plain_http_to_the_tls_port_is_not_answered() {
    let authority = Authority::new();
    let Some(server) = remote(&authority, Some(TOKEN), false) else { return };
    let mut stream = tcp(server.address);
    let request = format!(
        "GET /procs HTTP/1.1\r\nHost: agent.example\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // The service may close the connection first.
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[test]
fn certificates_of_clients() {
    let authority = Authority::new();
    let Some(server) = remote(&authority, None, true) else { return };
    let identity = authority.issue("client.example");
    let mut client = Client::over(connect(&server, &authority, Some(identity)));
    client.send("GET /procs HTTP/1.1\r\nHost: agent.example\r\n\r\n");
    assert_eq!(client.answer().data(), json!({"procs": {}}));
    // No certificate, and one of another authority.
    for identity in [None, Some(Authority::new().issue("client.example"))] {
        let mut stream = connect(&server, &authority, identity);
        let sent = stream.write_all(b"GET /procs HTTP/1.1\r\nHost: agent.example\r\n\r\n");
        let mut answer = Vec::new();
        let read = sent.and_then(|()| stream.read_to_end(&mut answer));
        assert!(read.is_err() && answer.is_empty(), "{read:?} {answer:?}");
    }
}

/// Returns the certificate that the service presents to a new connection.
fn shown(server: &TestServer, authority: &Authority) -> CertificateDer<'static> {
    let mut stream = connect(server, authority, None);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn a_replaced_certificate_is_presented_to_the_next_connection() {
    let authority = Authority::new();
    let (first, _) = authority.issue("agent.example");
    let (cert, key) = (authority.path("agent.example.pem"), authority.path("agent.example.key"));
    let tls = rotating_server_tls(&cert, &key, None).unwrap();
    let doors = Listeners { tcp: loopback(), tls: Some(tls), unix: None };
    let server = TestServer::at(doors, Policy::new(own_uid(), None), HttpLimits::default());
    assert_eq!(shown(&server, &authority), first[0]);
    let mut held = Client::over(connect(&server, &authority, None));
    let (second, _) = authority.issue("agent.example");
    assert_ne!(first[0], second[0]);
    assert_eq!(shown(&server, &authority), second[0]);
    // A pair that does not match, and one that cannot be read, change nothing.
    let good = std::fs::read(&key).unwrap();
    write_secret(&key, KeyPair::generate().unwrap().serialize_pem());
    assert_eq!(shown(&server, &authority), second[0]);
    std::fs::remove_file(&key).unwrap();
    assert_eq!(shown(&server, &authority), second[0]);
    write_secret(&key, good);
    assert_eq!(shown(&server, &authority), second[0]);
    // Open connections continue.
    held.send("GET /procs HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(held.answer().status, 200);
}

#[test]
fn a_replaced_token_applies_to_the_next_request() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let (first, second) = (TOKEN, "d83ffb8e5b2d4a0f9c1e7a6042b913ce");
    let write = |token: &str| write_secret(&file, format!("{token}\n"));
    write(first);
    let path = file.clone();
    let token = Rotating::new("http.token", vec![file.clone()], move || {
        read_secret_file("http.token", &path).map_err(|error| error.to_string())
    });
    let policy = Policy::new(own_uid(), None).with_token(Some(token.unwrap()));
    let server = TestServer::with(policy.requiring_the_token(true), 0);
    let status = |token: &str| {
        let bearer = format!("Bearer {token}");
        over(&mut server.client(), "/procs", &[("Authorization", &bearer)]).status
    };
    assert_eq!((status(first), status(second)), (200, 403));
    write(second);
    assert_eq!((status(first), status(second)), (403, 200));
    // A file with no token or with a weak one is ignored: the previous token remains valid.
    for bad in ["", "guess me"] {
        write(bad);
        assert_eq!((status(second), status(bad)), (200, 403), "{bad:?}");
    }
}

/// A TLS listener on the loopback, as `agent.example`.
pub fn loopback_tls(authority: &Authority) -> Listeners {
    authority.issue("agent.example");
    let (cert, key) = (authority.path("agent.example.pem"), authority.path("agent.example.key"));
    let tls = server_tls(&cert, &key, None).unwrap();
    Listeners { tcp: loopback(), tls: Some(Arc::new(tls).into()), unix: None }
}

/// On the loopback, TLS does not change access control.
#[test]
fn the_loopback_over_tls() {
    let authority = Authority::new();
    let doors = loopback_tls(&authority);
    let server = TestServer::at(doors, Policy::new(own_uid(), None), HttpLimits::default());
    assert_eq!(secure(&server, &authority, "Host: localhost\r\n").data(), json!({"procs": {}}));
    secure(&server, &authority, "Host: agent.example\r\n").errors(403);
    let origin = |scheme| format!("Host: localhost:1\r\nOrigin: {scheme}://localhost:1\r\n");
    assert_eq!(secure(&server, &authority, &origin("https")).status, 200);
    secure(&server, &authority, &origin("http")).errors(403);
}

#[test]
fn what_may_be_served_where() {
    let authority = Authority::new();
    authority.issue("agent.example");
    let (cert, key) = (authority.path("agent.example.pem"), authority.path("agent.example.key"));
    let ca = authority.path("ca.pem");
    let tls = server_tls(&cert, &key, None).unwrap();
    let with_ca = server_tls(&cert, &key, Some(&ca)).unwrap();
    for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(may_listen(local.parse().unwrap(), None, false), Ok(()), "{local}");
    }
    for address in ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"] {
        let address = address.parse().unwrap();
        assert_eq!(may_listen(address, Some(&tls), true), Ok(()));
        assert_eq!(may_listen(address, Some(&with_ca), false), Ok(()));
        for (tls, token, missing) in [
            (None, false, &["http.tls_cert", "http.token"][..]),
            (None, true, &["http.tls_cert"]),
            (Some(&tls), false, &["http.token"]),
        ] {
            let refusal = may_listen(address, tls, token).unwrap_err();
            assert_eq!(refusal.missing.len(), missing.len());
            assert!(missing.iter().all(|name| refusal.to_string().contains(name)), "{refusal}");
        }
    }
    // The key of another certificate.
    authority.issue("other.example");
    assert!(server_tls(&cert, &authority.path("other.example.key"), None).is_err());
    assert!(server_tls(&cert, &cert, None).is_err());
    assert!(server_tls(&key, &key, None).is_err());
}

#[test]
fn limits_of_bodies_and_heads() {
    let head_timeout = Duration::from_millis(300);
    let server = limited(HttpLimits { head_timeout, body: 100, ..HttpLimits::default() });
    let spec = format!(r#"{{"specs": {{}}}}{}"#, " ".repeat(100));
    let headers = [("Content-Type", "application/json")];
    let answer = server.send("POST", "/procs", &headers, spec.as_bytes());
    assert_eq!(answer.errors(413), ["request body larger than 100 bytes (http.max_body)"]);
    // A request whose head does not arrive.
    let mut client = server.client();
    client.send("GET /procs HTTP/1.1\r\nHost: loc");
    assert_eq!(client.answer().status, 408);
    assert!(client.is_closed());
}

pub fn limited(limits: HttpLimits) -> TestServer {
    let doors = Listeners { tcp: loopback(), ..Listeners::default() };
    TestServer::at(doors, Policy::new(own_uid(), None), limits)
}

/// The limit is one for each thread. Further connections get a response when these are closed.
#[test]
fn a_limit_of_connections() {
    let server = limited(HttpLimits { connections: 2, ..HttpLimits::default() });
    let mut kept: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = server.client();
            client.request("GET", "/healthz", &[], b"");
            assert_eq!(client.answer().status, 200);
            client
        })
        .collect();
    let mut waiting = server.client();
    waiting.request("GET", "/healthz", &[], b"");
    // The kept connections get many responses, the waiting one none.
    for _ in 0..50 {
        for client in &mut kept {
            client.request("GET", "/healthz", &[], b"");
            assert_eq!(client.answer().status, 200);
        }
    }
    assert!(waiting.is_silent());
    drop(kept);
    assert_eq!(waiting.answer().status, 200);
}

/// Clients try `[::1]` first for `localhost`: another user who listened there could pose as the
/// service.
#[test]
fn both_loopback_addresses_are_bound_or_none() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("left out: no IPv6 here");
        return;
    }
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let listeners = listen((address, 0).into()).unwrap();
        let addresses: Vec<_> = listeners.iter().map(|one| one.local_addr().unwrap()).collect();
        let port = addresses[0].port();
        let mut bound: Vec<_> = addresses.iter().map(SocketAddr::ip).collect();
        assert_eq!(bound[0], address);
        bound.sort_unstable();
        assert_eq!(bound, [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        assert!(addresses.iter().all(|one| one.port() == port));
    }
    // Other addresses are bound alone.
    assert_eq!(listen((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap().len(), 1);

    let squatter = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let port = squatter.local_addr().unwrap().port();
    let error = listen((Ipv4Addr::LOCALHOST, port).into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(
        error.to_string(),
        format!(
            "failed to listen on [::1]:{port}: Address already in use (os error 98): user ID {} listens there; choose another port, or end that program",
            own_uid()
        )
    );
    // The other address is free again.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
}

#[test]
fn both_loopback_addresses_are_served() {
    let doors = Listeners { tcp: loopback(), ..Listeners::default() };
    let addresses: Vec<_> = doors.tcp.iter().map(|one| one.local_addr().unwrap()).collect();
    let _world = TestServer::at(doors, Policy::new(own_uid(), None), HttpLimits::default());
    for address in addresses {
        let mut client = Client::connect(address);
        client.send("GET /procs HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(client.answer().status, 200, "{address}");
    }
}

/// Listeners of a previous worker are reused. Other addresses on the same port are bound before the
/// old listener is closed.
#[test]
fn given_listeners_are_taken_and_overlapping_addresses_are_bound_beside_them() {
    let first = loopback();
    let addresses: Vec<_> = first.iter().map(|one| one.local_addr().unwrap()).collect();
    let port = addresses[0].port();
    // The listeners of the keeper.
    let held = |listeners: &[TcpListener]| -> Vec<TcpListener> {
        listeners.iter().map(|one| one.try_clone().unwrap()).collect()
    };
    for wanted in [port, 0] {
        let bound = listen_on((Ipv4Addr::LOCALHOST, wanted).into(), held(&first));
        let found: Vec<_> = bound.listeners.iter().map(|one| one.local_addr().unwrap()).collect();
        assert_eq!((found, bound.missing.len()), (addresses.clone(), 0), "{wanted}");
    }
    let every = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    assert_eq!(listen(every).unwrap_err().kind(), ErrorKind::AddrInUse, "nobody else can");
    let bound = listen_on(every, held(&first));
    assert_eq!((bound.listeners.len(), bound.missing.len()), (1, 0), "{:?}", bound.missing);
    drop(first);
    assert_eq!(listen(every).unwrap_err().kind(), ErrorKind::AddrInUse, "and nobody still");
    // The reverse change.
    let back = listen_on(addresses[0], held(&bound.listeners));
    assert_eq!((back.listeners.len(), back.missing.len()), (2, 0), "{:?}", back.missing);
    drop(bound);
    let client = TcpStream::connect(addresses[0]).unwrap();
    let (_, peer) = back.listeners[0].accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
}

/// If an address is not available, or is in use, the others are still bound.
#[test]
fn an_unavailable_address_is_reported_and_the_others_are_bound() {
    let squatter = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = squatter.local_addr().unwrap();
    let bound = listen_on(taken, Vec::new());
    assert_eq!(bound.missing.len(), 1);
    assert_eq!((bound.missing[0].0, bound.missing[0].1.kind()), (taken, ErrorKind::AddrInUse));
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let twin = bound.listeners[0].local_addr().unwrap();
        assert_eq!(twin, (Ipv6Addr::LOCALHOST, taken.port()).into());
    }
    // An address reserved for documentation.
    let bound = listen_on("192.0.2.1:3000".parse().unwrap(), Vec::new());
    assert_eq!(bound.missing[0].1.kind(), ErrorKind::AddrNotAvailable);
    assert!(bound.listeners.is_empty());
}
