//! Large bodies in both directions, slow clients, and the end of the service.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use base64_simd::STANDARD;
use procstar::http::{access::Policy, listen};
use serde_json::{Value, json};

use super::harness::{TestServer, own_uid};
use crate::support::engine::sh;
use crate::support::wait::eventually;

/// More bytes than the buffers of all sockets.
const SIZE: usize = 50_000_000;

/// The numbers with eight digits whose lines have `size` bytes.
fn numbers(size: usize) -> std::ops::Range<usize> {
    10_000_000..10_000_000 + size / 8
}

/// Writes `size` bytes of numbers, and a newline.
fn counter(size: usize, mode: &str, encoding: &Value) -> Value {
    let capture = json!({"capture": {"mode": mode, "encoding": encoding}});
    let (first, last) = (numbers(size).start.to_string(), (numbers(size).end - 1).to_string());
    json!({
        "argv": ["seq", "-s", "", first, last],
        "exe": "/usr/bin/seq",
        "fds": [["stdout", capture]],
    })
}

/// The output of [`counter`].
fn counted(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 1);
    for number in numbers(size) {
        bytes.extend_from_slice(number.to_string().as_bytes());
    }
    bytes.push(b'\n');
    bytes
}

/// Opens connections, one after another, which are spread over all threads of the service.
fn asked_again_and_again(server: &TestServer) {
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(server.ask("GET", "/procs/small").status, 200);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[test]
fn large_captures_while_others_are_answered() {
    let server = TestServer::new();
    server.post(&json!({"small": sh("true", json!([]))})).data();
    for (size, mode, encoding) in
        [(50_000_000, "tempfile", Value::Null), (10_000_000, "memory", json!("utf-8"))]
    {
        let expected = counted(size);
        server.post(&json!({"large": counter(size, mode, &encoding)})).data();
        server.until_ended("/procs/large");
        // Four clients that do not read: at least one for each thread.
        let mut stalled: Vec<_> = (0..4).map(|_| server.client()).collect();
        let mut heads = Vec::new();
        for (i, client) in stalled.iter_mut().enumerate() {
            let path = ["/procs/large", "/procs/large/output/stdout/data"][i % 2];
            client.request("GET", path, &[], b"");
            heads.push(client.head());
        }
        asked_again_and_again(&server);
        let reading = std::thread::spawn(move || {
            for (client, head) in stalled.iter_mut().zip(&mut heads) {
                client.body(head);
            }
            heads
        });
        while !reading.is_finished() {
            asked_again_and_again(&server);
        }
        for (i, answer) in reading.join().unwrap().into_iter().enumerate() {
            let output = if i % 2 == 0 {
                assert!(answer.chunks.len() > size / (256 * 1024), "{}", answer.chunks.len());
                assert!(answer.chunks.iter().all(|chunk| *chunk <= 256 * 1024));
                let fd = &answer.data()["procs"]["large"]["fds"]["stdout"];
                match fd["type"].as_str().unwrap() {
                    "data" => STANDARD.decode_to_vec(fd["data"].as_str().unwrap()).unwrap(),
                    _ => fd["text"].as_str().unwrap().as_bytes().to_vec(),
                }
            } else {
                assert_eq!(answer.header("content-length"), Some(&*(size + 1).to_string()));
                answer.body
            };
            assert!(output == expected, "{mode} {i}");
        }
        server.ask("DELETE", "/procs/large").data();
    }
}

/// Later output is not part of the response.
#[test]
fn the_length_is_that_of_the_request() {
    let server = TestServer::new();
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script =
        format!("head -c 30000000 /dev/zero | tr '\\0' x; read -r < {}; echo more", fifo.display());
    server.post(&json!({"a": sh(&script, json!([["stdout", {"capture": {}}]]))})).data();
    let path = "/procs/a/output/stdout/data";
    eventually("all of the output", || {
        server.ask("HEAD", path).header("content-length") == Some("30000000")
    });
    let mut client = server.client();
    client.request("GET", path, &[], b"");
    let mut answer = client.head();
    std::fs::write(&fifo, "\n").unwrap();
    server.ended("/procs/a");
    client.body(&mut answer);
    assert!(answer.body.len() == 30_000_000 && answer.body.iter().all(|byte| *byte == b'x'));
    let whole = server.ask("GET", path).body;
    assert!(whole.len() == 30_000_005 && whole.ends_with(b"xmore\n"));
}

#[test]
fn many_results_in_few_blocks() {
    let server = TestServer::new();
    let specs: serde_json::Map<_, _> =
        (0..300).map(|i| (format!("p{i:03}"), sh("true", json!([])))).collect();
    let ids: Vec<_> = specs.keys().cloned().collect();
    server.post(&specs.into()).data();
    let answer = server.ask("GET", "/procs");
    assert!(answer.chunks.len() < 60, "{}", answer.chunks.len());
    let procs = answer.data()["procs"].take();
    assert_eq!(procs.as_object().unwrap().keys().cloned().collect::<Vec<_>>(), ids);
}

/// The client receives the response while it still sends.
#[test]
fn a_body_that_is_too_large() {
    let server = TestServer::new();
    let detail = "request body larger than 67108864 bytes (http.max_body)";
    let head = "POST /procs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let mut client = server.client();
    // The length alone is enough, without the body.
    client.send(format!("{head}Content-Length: 67108865\r\n\r\n"));
    assert_eq!(client.answer().errors(413), [detail]);
    // While the body arrives.
    let mut client = server.client();
    client.send(format!("{head}Content-Length: 67108865\r\n\r\n"));
    client.send(vec![b' '; 67_108_865]);
    assert_eq!(client.answer().errors(413), [detail]);
    // Without a length.
    let mut client = server.client();
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
    for _ in 0..65 {
        client.send([b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat());
    }
    assert_eq!(client.answer().errors(413), [detail]);
    // A body of the maximum size.
    let spec = br#"{"specs": {"a": {"argv": ["/bin/true"]}}}"#;
    let mut body = vec![b' '; 67_108_864 - spec.len()];
    body.extend_from_slice(spec);
    let mut client = server.client();
    client.request("POST", "/procs", &[("Content-Type", "application/json")], &body);
    assert_eq!(client.answer().data(), json!({"proc_ids": ["a"]}));
}

#[test]
fn a_disconnected_client_affects_no_other_client() {
    let server = TestServer::new();
    server
        .post(&json!({"small": sh("true", json!([])), "large": counter(SIZE, "tempfile", &Value::Null)}))
        .data();
    let half = b"POST /procs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"s";
    for _ in 0..10 {
        server.client().request("GET", "/procs", &[], b"");
        server.client().request("GET", "/procs/large/output/1/data", &[], b"");
        server.client().send(half);
        server.client().send(b"GET /procs HT");
        server.client().send(b"\0\xff\r\n\r\n");
        drop(server.client());
    }
    asked_again_and_again(&server);
    // A client that has shut down its sending direction still gets its response.
    let body = br#"{"specs": {"late": {"argv": ["/bin/true"]}}}"#;
    let mut client = server.client();
    client.request("POST", "/procs", &[("Content-Type", "application/json")], body);
    client.finish();
    assert_eq!(client.answer().data(), json!({"proc_ids": ["late"]}));
    assert!(client.is_closed());
}

#[test]
fn a_stop_does_not_wait_for_slow_clients_and_frees_the_port() {
    let mut server = TestServer::new();
    let port = server.address.port();
    server.post(&json!({"large": counter(SIZE, "tempfile", &Value::Null)})).data();
    server.until_ended("/procs/large");
    let mut idle = server.client();
    idle.request("GET", "/procs/x", &[], b"");
    assert_eq!(idle.answer().status, 404);
    let mut stalled = server.client();
    stalled.request("GET", "/procs/large/output/1/data", &[], b"");
    assert_eq!(stalled.head().status, 200);
    assert_eq!(
        listen((Ipv4Addr::LOCALHOST, port).into()).unwrap_err().kind(),
        std::io::ErrorKind::AddrInUse
    );
    let began = Instant::now();
    server.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(idle.is_closed());
    // The kernel still has connections of the old service.
    let again = TestServer::with(Policy::new(own_uid(), None), port);
    assert_eq!(again.ask("GET", "/procs").data(), json!({"procs": {}}));
}

/// The service closes an idle connection at once.
#[test]
fn a_stop_does_not_wait_for_idle_connections() {
    let mut server = TestServer::new();
    let mut idle = server.client();
    idle.request("GET", "/procs", &[], b"");
    idle.answer().data();
    let began = Instant::now();
    server.stop();
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(idle.is_closed());
}

#[test]
fn a_port_in_use_is_named() {
    let server = TestServer::new();
    let error = listen(server.address).unwrap_err().to_string();
    let expected = format!("failed to listen on 127.0.0.1:{}: ", server.address.port());
    assert!(error.starts_with(&expected), "{error}");
}
