//! The rules of HTTP: versions, conditions, content codings, unwanted bodies.

use std::io::{Read, Write};
use std::time::Duration;

use procstar::http::HttpLimits;
use serde_json::{Value, json};

use super::client::{Answer, Client, tcp};
use super::harness::TestServer;
use super::listeners::limited;
use super::output::decode;
use crate::support::engine::sh;
use crate::support::wait::eventually;

const DATA: &str = "/procs/a/output/stdout/data";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A service with a process that has written `length` bytes.
fn with_output(length: usize) -> TestServer {
    let server = TestServer::new();
    let fds = json!([["stdout", {"capture": {"encoding": "utf-8"}}]]);
    let script = format!("head -c {length} /dev/zero | tr '\\0' x");
    server.post(&json!({"a": sh(&script, fds)})).data();
    server.until_ended("/procs/a");
    server
}

/// Sends an HTTP/1.0 request and reads to the end of the connection. Returns the head and the body.
fn old(server: &TestServer, method: &str, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = tcp(server.address);
    let request = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    (String::from_utf8(all[..end].to_vec()).unwrap().to_lowercase(), all[end + 4..].to_vec())
}

#[test]
fn clients_of_http_1_0_get_no_chunks() {
    let server = with_output(100_000);
    for (path, headers) in [
        ("/procs", ""),
        ("/procs/a", ""),
        ("/procs/a", "Accept-Encoding: gzip\r\n"),
        (DATA, "Accept-Encoding: gzip\r\n"),
        (DATA, ""),
        ("/procs/a/output/stdout/follow", ""),
        ("/procs?output=none&limit=5", "Connection: keep-alive\r\nX: close\r\n"),
        ("/healthz", ""),
        ("/procs/none", ""),
    ] {
        // With keep-alive, the read would last until the deadline.
        let headers = headers.replace("Connection: keep-alive\r\n", "");
        let (head, body) = old(&server, "GET", path, &headers);
        assert!(head.starts_with("http/1.0 "), "{head}");
        assert!(!head.contains("transfer-encoding"), "{path}: {head}");
        let gzip = head.contains("content-encoding: gzip").then_some("gzip");
        let plain = decode(gzip, &body);
        match path {
            "/healthz" => assert_eq!(plain, b"ok\n"),
            path if path.contains("output/") => assert!(plain == vec![b'x'; 100_000], "{path}"),
            _ => drop(serde_json::from_slice::<Value>(&plain).unwrap()),
        }
        let (head, body) = old(&server, "HEAD", path, &headers);
        assert!(!head.contains("transfer-encoding") && body.is_empty(), "{path}: {head}");
    }
    // A response without a length ends the connection, even with keep-alive.
    let mut client = server.client();
    let request =
        |path| format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
    for _ in 0..2 {
        client.send(request("/procs?state=running"));
        let answer = client.answer();
        assert_eq!((answer.header("connection"), answer.status), (Some("keep-alive"), 200));
    }
    client.send(request("/procs/a/output/stdout/follow"));
    assert_eq!(client.head().header("connection"), None);
    assert!(client.raw(100_000) == vec![b'x'; 100_000] && client.is_closed());
    // A WebSocket needs HTTP/1.1.
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let (head, _) = old(&server, "GET", "/events/ws", upgrade);
    assert!(head.starts_with("http/1.0 400 "), "{head}");
}

#[test]
fn conditions_on_output() {
    let server = with_output(5000);
    let ask = |method: &str, headers: &[(&str, &str)]| server.send(method, DATA, headers, b"");
    let plain = ask("GET", &[]).header("etag").unwrap().to_owned();
    let packed = ask("GET", &[("Accept-Encoding", "gzip")]).header("etag").unwrap().to_owned();
    assert_ne!(plain, packed);
    for method in ["GET", "HEAD"] {
        for (headers, status, tag) in [
            (vec![("If-None-Match", &*plain)], 304, Some(&plain)),
            (vec![("If-None-Match", &*format!("\"x\", W/{plain}"))], 304, Some(&plain)),
            (vec![("If-None-Match", "*")], 304, Some(&plain)),
            (vec![("If-None-Match", &*packed)], 200, Some(&plain)),
            (vec![("If-None-Match", &*packed), ("Accept-Encoding", "gzip")], 304, Some(&packed)),
            (vec![("If-None-Match", &*plain), ("Accept-Encoding", "gzip")], 200, Some(&packed)),
            (vec![("If-None-Match", &*plain), ("Range", "bytes=0-1")], 304, Some(&plain)),
            (vec![("If-None-Match", &*plain), ("Range", "bytes=9999-")], 304, Some(&plain)),
            (vec![("If-Match", &*plain)], 200, Some(&plain)),
            (vec![("If-Match", "*")], 200, Some(&plain)),
            (vec![("If-Match", "\"x\"")], 412, None),
            (vec![("If-Match", "\"x\""), ("Range", "bytes=0-1")], 412, None),
            (vec![("If-Match", &*format!("W/{plain}"))], 412, None),
        ] {
            let answer = ask(method, &headers);
            let told = (answer.status, answer.header("etag"));
            assert_eq!(told, (status, tag.map(String::as_str)), "{method} {headers:?}");
            if status != 412 {
                assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
            }
        }
    }
    // A weak tag does not match in `If-Range`.
    let weak = format!("W/{plain}");
    assert_eq!(ask("GET", &[("Range", "bytes=0-1"), ("If-Range", &weak)]).status, 200);
    assert_eq!(ask("GET", &[("Range", "bytes=0-1"), ("If-Range", &plain)]).status, 206);
}

#[test]
fn conditions_on_results_and_deletions() {
    let server = with_output(0);
    let tag = server.ask("GET", "/procs/a").header("etag").unwrap().to_owned();
    for (name, value, read, deleted) in [
        // A weak tag never matches in `If-Match`.
        ("If-Match", &*tag, 412, 412),
        ("If-Match", "\"x\"", 412, 412),
        ("If-None-Match", "*", 304, 412),
        ("If-None-Match", &tag, 304, 412),
        ("If-Match", "*", 200, 200),
    ] {
        let ask = |method| server.send(method, "/procs/a", &[(name, value)], b"").status;
        assert_eq!((ask("GET"), ask("DELETE")), (read, deleted), "{name}: {value}");
    }
    let none = server.send("DELETE", "/procs/a", &[("If-Match", "*")], b"");
    assert_eq!(none.errors(404), ["unknown process: a; list processes with 'procstar ps'"]);
}

#[test]
fn head_ignores_a_range() {
    let server = with_output(5000);
    for range in ["bytes=0-1", "bytes=9999-"] {
        let answer = server.send("HEAD", DATA, &[("Range", range)], b"");
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("5000")));
        assert_eq!(answer.header("content-range"), None);
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    }
}

/// CaptureDirs, and whether their answers are there in a coding.
const PLACES: [(&str, bool); 12] = [
    ("/procs", true),
    ("/procs?output=none", true),
    ("/procs/a", true),
    (DATA, true),
    ("/status", true),
    ("/healthz", true),
    ("/readyz", true),
    ("/metrics", true),
    ("/openapi.json", true),
    ("/", true),
    ("/procs/a/output/stdout/follow", false),
    ("/events", false),
];

#[test]
fn a_client_that_does_not_take_bytes_as_they_are_gets_none() {
    for length in [10, 100_000] {
        let server = with_output(length);
        for (path, coded) in PLACES {
            for method in ["GET", "HEAD"] {
                for nothing in
                    ["identity;q=0", "*;q=0", "deflate, identity;q=0.0", "gzip;q=0, *;q=0"]
                {
                    let answer = server.send(method, path, &[("Accept-Encoding", nothing)], b"");
                    assert_eq!(answer.status, 406, "{method} {path} {nothing}");
                }
                let only = [("Accept-Encoding", "gzip, identity;q=0"), ("Range", "bytes=0-1")];
                let answer = server.send(method, path, &only, b"");
                let told = (answer.status, answer.header("content-encoding"));
                let expected = if coded { (200, Some("gzip")) } else { (406, None) };
                assert_eq!(told, expected, "{method} {path}");
                if coded && method == "GET" {
                    assert!(!decode(Some("gzip"), &answer.body).is_empty(), "{path}");
                }
            }
        }
        let answer = server.send("DELETE", "/procs/a", &[("Accept-Encoding", "*;q=0")], b"");
        assert_eq!(answer.status, 406);
        // The request had no effect.
        assert_eq!(server.ask("GET", "/procs/a").status, 200);
    }
}

#[test]
fn results_are_compressed_if_the_client_accepts_it() {
    let server = with_output(100_000);
    server.post(&json!({"b": sh("true", json!([]))})).data();
    server.ended("/procs/b");
    let stripped = |mut value: Value| {
        for result in value["data"]["procs"].as_object_mut().unwrap().values_mut() {
            result["times"].take();
        }
        value
    };
    for path in [
        "/procs",
        "/procs/a",
        "/procs/b",
        "/procs?output=none&limit=10",
        "/openapi.json",
        "/metrics",
    ] {
        let plain = server.ask("GET", path);
        assert_eq!(plain.header("content-encoding"), None, "{path}");
        assert_eq!(plain.header("vary"), Some("Accept-Encoding"), "{path}");
        for coding in ["gzip", "br", "zstd"] {
            let headers = [("Accept-Encoding", coding)];
            let answer = server.send("GET", path, &headers, b"");
            assert_eq!(answer.header("content-encoding"), Some(coding), "{path}");
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{path}");
            assert_eq!(answer.header("content-type"), plain.header("content-type"));
            assert_eq!(answer.header("etag"), plain.header("etag"), "weak: of whichever coding");
            assert!(answer.body.len() * 2 < plain.body.len(), "{path} {coding}");
            let body = decode(Some(coding), &answer.body);
            if path.starts_with("/procs") {
                let read = |body: &[u8]| stripped(serde_json::from_slice(body).unwrap());
                assert_eq!(read(&body), read(&plain.body), "{path} {coding}");
            }
            let head = server.send("HEAD", path, &headers, b"");
            assert_eq!(head.header("content-encoding"), Some(coding), "{path}");
            if let Some(tag) = plain.header("etag") {
                let known = [("Accept-Encoding", coding), ("If-None-Match", tag)];
                assert_eq!(server.send("GET", path, &known, b"").status, 304, "{path}");
            }
        }
    }
    // Too small for compression.
    let small = server.send("GET", "/procs?state=running", &[("Accept-Encoding", "gzip")], b"");
    assert_eq!((small.header("content-encoding"), small.data()), (None, json!({"procs": {}})));
}

/// Sends a head, then chunks until the connection ends. Returns the response.
fn endless(mut client: Client, head: &str) -> Answer {
    client.send(format!("{head}Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"));
    // More than the service drains to keep the connection.
    let chunk = [b"4000\r\n".as_slice(), &[b' '; 1 << 14], b"\r\n"].concat();
    for _ in 0..8 {
        client.try_send(&chunk);
    }
    let answer = client.answer();
    eventually(&format!("the end of reading after {head}"), || {
        !client.try_send(&chunk) || client.ends_within(Duration::from_millis(20))
    });
    answer
}

/// The service closes the connection some seconds after the response, even if bytes still arrive.
#[test]
fn an_endless_unwanted_body_is_not_read_to_its_end() {
    let server = limited(HttpLimits { body: 1000, ..HttpLimits::default() });
    std::thread::scope(|scope| {
        for (head, status) in [
            ("POST /procs HTTP/1.1\r\nContent-Type: application/json\r\n", 413),
            ("POST /procs HTTP/1.1\r\nContent-Type: text/plain\r\n", 415),
            ("POST /procs/a/signals/9 HTTP/1.1\r\n", 404),
            ("POST /none HTTP/1.1\r\n", 404),
            ("GET /procs HTTP/1.1\r\n", 200),
            ("GET /procs HTTP/1.1\r\nOrigin: http://elsewhere\r\n", 403),
        ] {
            let client = server.client();
            scope.spawn(move || {
                let answer = endless(client, head);
                assert_eq!(answer.status, status, "{head}");
                assert_eq!(answer.header("connection"), Some("close"), "{head}");
            });
        }
    });
    assert_eq!(server.ask("GET", "/procs").data(), json!({"procs": {}}));
}

/// A short unwanted body does not end the connection.
#[test]
fn a_body_that_has_come_keeps_the_connection() {
    let server = TestServer::new();
    let mut client = server.client();
    for (head, body, status) in [
        ("POST /none HTTP/1.1\r\nContent-Length: 2\r\n", "{}", 404),
        (
            "POST /procs/a/signals/9 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
            "2\r\n{}\r\n0\r\n\r\n",
            404,
        ),
        (
            "POST /procs HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 13\r\n",
            "{\"specs\": {}}",
            200,
        ),
        ("GET /healthz HTTP/1.1\r\n", "", 200),
    ] {
        client.send(format!("{head}Host: localhost\r\n\r\n{body}"));
        assert_eq!(client.answer().status, status, "{head}");
    }
}

/// A request with `Expect: 100-continue` is rejected before its body.
#[test]
fn expectations() {
    let server = limited(HttpLimits { body: 1000, ..HttpLimits::default() });
    let post = "POST /procs HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n";
    let json = "Content-Type: application/json\r\n";
    for (head, status) in [
        (format!("{post}{json}Content-Length: 1001\r\n"), 413),
        (format!("{post}Content-Type: text/plain\r\nContent-Length: 10\r\n"), 415),
        (format!("{post}{json}Content-Length: 10\r\nOrigin: http://elsewhere\r\n"), 403),
        (format!("{}{json}Content-Length: 10\r\n", post.replace("/procs", "/none")), 404),
        (format!("{}{json}Content-Length: 10\r\n", post.replace("POST", "PUT")), 405),
        (format!("{}{json}Content-Length: 4097\r\n", post.replace("/procs", "/procs/a/stop")), 413),
        (post.replace("POST /procs", "PUT /log-level") + json + "Content-Length: 1025\r\n", 413),
        (format!("{post}Content-Type: x\r\nTransfer-Encoding: chunked\r\n"), 415),
    ] {
        let mut client = server.client();
        client.send(format!("{head}\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, status, "{head}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{head}");
        assert_eq!(answer.header("connection"), Some("close"), "{head}");
    }
    let mut client = server.client();
    let body = r#"{"specs": {"a": {"argv": ["/bin/true"]}}}"#;
    client.send(format!("{post}{json}Content-Length: {}\r\n\r\n", body.len()));
    assert_eq!(client.head().status, 100);
    client.send(body);
    assert_eq!(client.answer().data(), json!({"proc_ids": ["a"]}));
    client.request("GET", "/healthz", &[JSON], b"");
    assert_eq!(client.answer().status, 200);
}

/// Each error has its place.
#[test]
fn all_errors_of_a_request_are_returned_at_once() {
    let server = TestServer::new();
    let body = "{\"specs\": {\n\"a\": {\"argvv\": [], \"argv\": [\"x\"], \"cwd\": 7},\n\"b\": 7,\n\
                \"\": {\"argv\": [\"x\"]}}}";
    let answer = server.send("POST", "/procs", &[JSON], body.as_bytes());
    let errors = answer.errors(400);
    for (error, (start, end)) in errors.iter().zip([
        ("2:7: ", "specs.a.argvv: unknown key `argvv`; did you mean `argv`?"),
        ("2:42: ", "specs.a.cwd: invalid type: integer `7`, expected a string"),
        ("3:6: ", "specs.b: invalid type: integer `7`, expected an object"),
        ("4:5: ", "specs[\"\"]: invalid process ID of 0 bytes: expected 1 to 4096 bytes"),
    ]) {
        assert!(error.strip_prefix(start).is_some_and(|rest| rest.starts_with(end)), "{error}");
    }
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert_eq!(server.ask("GET", "/procs").data(), json!({"procs": {}}));
}
