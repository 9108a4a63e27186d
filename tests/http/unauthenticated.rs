//! Connections without authentication, and their limits.
//!
//! Connections of this user stand in for those of another user: the token is required.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use procstar::http::access::Policy;
use procstar::http::{HttpLimits, Listeners, UnauthenticatedLimits, listen_unix};
use serde_json::json;

use super::client::{Client, tcp};
use super::harness::{TestServer, own_uid};
use super::listeners::{Authority, connect, limited, loopback_tls};
use crate::support::wait::DEADLINE;

const TOKEN: &str = "correct horse battery staple";
/// A timeout that expires in this test, and one that does not.
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(1000);

fn with(per_source: usize, timeout: Duration) -> HttpLimits {
    let unauthenticated = UnauthenticatedLimits { connections: 64, per_source, timeout };
    HttpLimits {
        unauthenticated,
        head_timeout: LONG,
        handshake_timeout: LONG,
        ..HttpLimits::DEFAULT
    }
}

fn policy() -> Policy {
    Policy::new(own_uid(), Some(TOKEN.into())).requiring_the_token(true)
}

/// A service that always requires the token.
fn wary(limits: HttpLimits) -> TestServer {
    let doors = Listeners { tcp: super::listeners::loopback(), ..Listeners::default() };
    TestServer::at(doors, policy(), limits)
}

fn ask(client: &mut Client, path: &str, token: Option<&str>) -> u16 {
    let bearer = format!("Bearer {}", token.unwrap_or_default());
    let headers = [("Authorization", bearer.as_str())];
    client.request("GET", path, if token.is_some() { &headers } else { &[] }, b"");
    client.answer().status
}

fn figure(server: &TestServer, name: &str) -> f64 {
    let bearer = format!("Bearer {TOKEN}");
    let answer = server.send("GET", "/metrics", &[("Authorization", &bearer)], b"");
    let text = String::from_utf8(answer.body).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_connection_without_authentication_lasts_only_a_moment() {
    let server = wary(with(64, SHORT));
    let mut silent = server.client();
    let mut slow = server.client();
    slow.send("GET /procs HTTP/1.1\r\nHost: loc");
    // The connection is closed at once.
    let mut refused = server.client();
    assert_eq!(ask(&mut refused, "/procs", Some("wrong")), 403);
    // The page needs no token, so its request is no authentication.
    let mut page = server.client();
    assert_eq!(ask(&mut page, "/", None), 200);
    let mut ours = server.client();
    assert_eq!(ask(&mut ours, "/procs", Some(TOKEN)), 200);
    for client in [&mut silent, &mut slow, &mut refused, &mut page] {
        assert!(client.ends_within(DEADLINE));
    }
    assert_eq!(ask(&mut ours, "/procs", Some(TOKEN)), 200, "this one stays");
    assert_eq!(figure(&server, "procstar_http_unauthenticated_expired_total"), 3.0);
}

#[test]
fn a_source_has_few_connections_without_authentication() {
    let server = wary(with(2, LONG));
    let mut kept = [server.client(), server.client()];
    // The service has accepted both before the next one, which it closes without a response.
    for client in &mut kept {
        assert_eq!(ask(client, "/", None), 200);
    }
    assert!(server.client().ends_within(DEADLINE));
    // An authenticated connection no longer counts.
    assert_eq!(ask(&mut kept[0], "/procs", Some(TOKEN)), 200);
    let mut another = server.client();
    assert_eq!(ask(&mut another, "/procs", Some(TOKEN)), 200);
    assert_eq!(ask(&mut kept[0], "/procs", Some(TOKEN)), 200);
    assert_eq!(
        figure(&server, "procstar_http_unauthenticated_refused_total{limit=\"source\"}"),
        1.0
    );
    assert_eq!(
        figure(&server, "procstar_http_unauthenticated_refused_total{limit=\"total\"}"),
        0.0
    );
    // The connection of this request is authenticated.
    assert_eq!(figure(&server, "procstar_http_unauthenticated_connections"), 1.0);
}

#[test]
fn connections_of_this_user_need_no_slot() {
    let server = limited(with(1, SHORT));
    let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
    std::thread::sleep(2 * SHORT);
    for client in &mut clients {
        assert_eq!(ask(client, "/healthz", None), 200);
    }
}

/// Before the handshake, the peer is unknown: the short timeout also applies to this user's
/// connections.
#[test]
fn a_tls_handshake_has_a_deadline() {
    let authority = Authority::new();
    for (policy, limits, expired) in [
        (
            Policy::new(own_uid(), None),
            HttpLimits { handshake_timeout: SHORT, ..with(64, LONG) },
            false,
        ),
        (policy(), HttpLimits { handshake_timeout: SHORT, ..with(64, LONG) }, true),
    ] {
        let server = TestServer::at(loopback_tls(&authority), policy, limits);
        assert_eq!(tcp(server.address).read(&mut [0]).unwrap(), 0, "it is closed");
        if expired {
            let bearer = format!("Authorization: Bearer {TOKEN}");
            let mut client = Client::over(connect(&server, &authority, None));
            client.send(format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n\r\n"));
            let text = String::from_utf8(client.answer().body).unwrap();
            assert!(text.contains("\nprocstar_http_unauthenticated_expired_total 1\n"), "{text}");
        }
    }
    // After the handshake, a silent connection has the timeout of all unauthenticated ones.
    let server = TestServer::at(loopback_tls(&authority), policy(), with(64, SHORT));
    let mut stream = connect(&server, &authority, None);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    let ended = stream.sock.read(&mut [0; 4096]).and_then(|_| stream.sock.read(&mut [0; 4096]));
    assert!(!ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "it is closed");
}

/// Each listener has its own threads and limits: a client that takes all TCP connections does not
/// delay clients of the Unix socket.
#[test]
fn a_full_tcp_listener_does_not_delay_the_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http.sock");
    let mut doors = Listeners { tcp: super::listeners::loopback(), ..Listeners::default() };
    doors.unix = Some(listen_unix(&path).unwrap());
    let limits = HttpLimits { connections: 2, ..HttpLimits::DEFAULT };
    let server = TestServer::at(doors, Policy::new(own_uid(), None), limits);
    let mut kept = [server.client(), server.client()];
    for client in &mut kept {
        assert_eq!(ask(client, "/healthz", None), 200);
    }
    let mut waiting = server.client();
    waiting.request("GET", "/healthz", &[], b"");
    let mut client = Client::connect_unix(&path);
    client.request("GET", "/procs", &[], b"");
    assert_eq!(client.answer().data(), json!({"procs": {}}));
    assert!(waiting.is_silent());
}
