//! Clients that disconnect before their response: the service frees the connection, on each kind of
//! listener.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};

use procstar::http::access::Policy;
use procstar::http::{HttpLimits, Listeners, listen, listen_unix};
use serde_json::{Value, json};

use super::client::Client;
use super::harness::{TestServer, own_uid};
use super::listeners::{Authority, connect, loopback_tls};
use crate::support::wait::eventually;

/// One connection for each thread of the service.
const FEW: HttpLimits = HttpLimits { connections: 2, ..HttpLimits::DEFAULT };

fn sleeper() -> Value {
    json!({"argv": ["sleep", "1000"], "exe": "/bin/sleep"})
}

/// A service with a limit of few connections.
struct Few {
    server: TestServer,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

impl Few {
    fn new() -> Few {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("http.sock");
        let tcp = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let doors = Listeners { tcp, unix: Some(listen_unix(&socket).unwrap()), tls: None };
        Few { server: TestServer::at(doors, Policy::new(own_uid(), None), FEW), socket, _dir: dir }
    }

    fn unix(&self) -> Client {
        Client::connect_unix(&self.socket)
    }
}

/// Abandons many more requests than the limit, one after another; then one more gets a response.
fn abandoned(connect: impl Fn() -> Client, path: &str) {
    for _ in 0..20 {
        connect().request("GET", path, &[], b"");
    }
    let mut last = connect();
    last.request("GET", "/healthz", &[], b"");
    assert_eq!(last.answer().status, 200, "{path}");
}

#[test]
fn abandoned_waits_free_their_connections() {
    let few = Few::new();
    few.server.post(&json!({"a": sleeper()})).data();
    for path in ["/procs/a?wait=3600", "/events", "/events?stats=3600"] {
        abandoned(|| few.unix(), path);
        abandoned(|| few.server.client(), path);
    }
    let captured = json!([["stdout", {"capture": {"mode": "memory"}}]]);
    few.server.post(&json!({"b": crate::support::engine::sh("exec sleep 1000", captured)})).data();
    abandoned(|| few.unix(), "/procs/b/output/stdout/follow");
    abandoned(|| few.server.client(), "/procs/b/output/stdout/follow");
}

#[test]
fn abandoned_waits_over_tls_free_their_connections() {
    let authority = Authority::new();
    let doors = loopback_tls(&authority);
    let server = TestServer::at(doors, Policy::new(own_uid(), None), FEW);
    let client = || Client::over(connect(&server, &authority, None));
    let mut first = client();
    let body = json!({"specs": {"a": sleeper()}}).to_string();
    first.request("POST", "/procs", &[("Content-Type", "application/json")], body.as_bytes());
    first.answer().data();
    drop(first);
    abandoned(client, "/procs/a?wait=3600");
    abandoned(client, "/events");
}

/// A process whose setup blocks until the test opens a FIFO; so do the responses to its start and
/// for its result.
fn stuck(fifo: &Path) -> String {
    nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let file = json!({"file": {"path": fifo, "flags": "Read"}});
    json!({"specs": {"stuck": {"argv": ["/bin/true"], "fds": [["stdin", file]]}}}).to_string()
}

/// A request for a process in setup waits, even without `wait=`.
#[test]
fn abandoned_starts_free_their_connections() {
    let few = Few::new();
    let fifo = few.socket.with_file_name("fifo");
    let body = stuck(&fifo);
    let headers = [("Content-Type", "application/json")];
    few.unix().request("POST", "/procs", &headers, body.as_bytes());
    // The start continues without its client: the process is in setup.
    eventually("the process", || few.server.ask("DELETE", "/procs/stuck").status == 409);
    for _ in 0..5 {
        let body = body.replace("stuck", "other");
        few.unix().request("POST", "/procs", &headers, body.as_bytes());
    }
    abandoned(|| few.unix(), "/procs/stuck");
    // A TCP client may only have shut down its sending direction, so the service waits some
    // seconds.
    abandoned(|| few.server.client(), "/procs/stuck");
    // The process is still in setup: no request got its response because of an end of the setup.
    assert_eq!(few.server.ask("GET", "/procs").data(), json!({"procs": {}}));
    // Each of the processes reads the FIFO.
    let _writer = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
    few.server.ended("/procs/stuck");
}

/// A client that only shuts down its sending direction gets its response; with `wait=`, it gets the
/// present state at once.
#[test]
fn half_closed_connections_get_their_response() {
    let server = TestServer::new();
    server.post(&json!({"a": sleeper()})).data();
    for path in ["/procs/a", "/procs/a?wait=3600", "/procs?state=running"] {
        let mut client = server.client();
        client.request("GET", path, &[], b"");
        client.finish();
        assert_eq!(client.answer().data()["procs"]["a"]["state"], "running", "{path}");
        assert!(client.is_closed());
    }
    let mut events = server.client();
    events.request("GET", "/events", &[], b"");
    assert_eq!(events.head().status, 200);
    events.finish();
    while events.chunk().is_some() {}
    assert!(events.is_closed());
}

/// Unread bytes of the body do not hide the end of the connection.
#[test]
fn a_disconnect_after_unread_bytes_frees_the_connection() {
    let few = Few::new();
    few.server.post(&json!({"a": sleeper()})).data();
    let wait = || {
        let mut client = few.server.client();
        let request = "GET /procs/a?wait=3600 HTTP/1.1\r\nHost: localhost\r\n";
        client.send(format!("{request}Content-Length: 400000\r\n\r\n"));
        client.send(vec![b'x'; 300_000]);
    };
    (0..5).for_each(|_| wait());
    assert_eq!(few.server.ask("GET", "/healthz").status, 200);
}

/// A peer whose machine has vanished sends no FIN: TCP keep-alive detects it.
#[test]
fn accepted_connections_are_kept_alive() {
    let server = TestServer::new();
    let client = TcpStream::connect(server.address).unwrap();
    let port = client.local_addr().unwrap().port();
    let mut asking = Client::over(client);
    asking.request("GET", "/healthz", &[], b"");
    asking.answer();
    // Only the accepted end of the connection has a timer.
    let shown = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let accepted = shown.lines().find(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = format!(":{:04X}", server.address.port());
        let remote = format!(":{port:04X}");
        fields.next().is_some_and(|own| own.ends_with(&local))
            && fields.next().is_some_and(|other| other.ends_with(&remote))
    });
    let timer = accepted.unwrap().split_whitespace().nth(5).unwrap();
    assert!(timer.starts_with("02:"), "{timer}");
}
