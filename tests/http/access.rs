//! Access control, over real connections.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use procstar::http::access::Policy;
use serde_json::json;

use super::harness::{TestServer, own_uid};

/// A user ID that needs no account.
const OTHER_UID: u32 = 45_678;
const TOKEN: &str = "8ePqYiqbZ4AnXB2hWx8WQg";

fn refusal(server: &TestServer, host: &str, headers: &[(&str, &str)]) -> Option<String> {
    let mut client = server.client();
    let mut text = format!("GET /procs HTTP/1.1\r\n{host}");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    client.send(text + "\r\n");
    let answer = client.answer();
    if answer.status == 200 {
        return None;
    }
    let errors = answer.errors(403);
    assert_eq!(errors.len(), 1);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed());
    errors.into_iter().next()
}

#[test]
fn hosts_and_origins() {
    let server = TestServer::new();
    let port = server.address.port();
    let same = format!("http://localhost:{port}");
    for (host, origin, text) in [
        (format!("Host: localhost:{port}\r\n"), None, None),
        (format!("Host: 127.0.0.1:{port}\r\n"), None, None),
        ("Host: [::1]:3000\r\n".to_owned(), None, None),
        (format!("Host: localhost:{port}\r\n"), Some(&*same), None),
        (
            "Host: evil.example\r\n".to_owned(),
            None,
            Some(format!(
                "host \"evil.example\" is not this machine's loopback: use http://127.0.0.1:{port}"
            )),
        ),
        (
            format!("Host: localhost.evil.example:{port}\r\n"),
            None,
            Some("is not this machine's loopback".to_owned()),
        ),
        (
            format!("Host: localhost:{port}\r\n"),
            Some("https://evil.example"),
            Some("origin \"https://evil.example\" is not this service".to_owned()),
        ),
        (
            format!("Host: localhost:{port}\r\n"),
            Some("http://localhost:1"),
            Some("origin \"http://localhost:1\"".to_owned()),
        ),
        (format!("Host: localhost:{port}\r\n"), Some("null"), Some("origin \"null\"".to_owned())),
    ] {
        let origin: Vec<_> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
        match (refusal(&server, &host, &origin), text) {
            (None, None) => {}
            (Some(detail), Some(text)) => assert!(detail.contains(&text), "{host}: {detail}"),
            other => panic!("{host} {origin:?}: {other:?}"),
        }
    }
}

/// The HTTP library rejects invalid requests itself, without a body. Only HTTP/1.0 allows a request
/// without a host.
#[test]
fn requests_without_a_host_or_with_several_are_rejected() {
    let server = TestServer::new();
    for head in
        ["GET /procs HTTP/1.1\r\n", "GET /procs HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n"]
    {
        let mut client = server.client();
        client.send(format!("{head}\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.body.len()), (400, 0), "{head}");
        assert!(client.is_closed());
    }
    let mut client = server.client();
    client.send("GET /procs HTTP/1.0\r\n\r\n");
    let port = server.address.port();
    let expected = format!("the request has no Host header: send `Host: 127.0.0.1:{port}`");
    assert_eq!(client.answer().errors(403), [expected]);
}

/// No response shows whether the resource exists, and no request has an effect.
#[test]
fn forbidden_requests_have_no_effect_and_reveal_nothing() {
    let server = TestServer::new();
    server.post(&json!({"a": json!({"argv": ["sleep", "1000"], "exe": "/bin/sleep"})})).data();
    let body = r#"{"specs": {"b": {"argv": ["/bin/true"]}}}"#;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/procs"),
        ("GET", "/procs/a"),
        ("GET", "/procs/%FF"),
        ("DELETE", "/procs/a"),
        ("POST", "/procs"),
        ("POST", "/procs/a/signals/9"),
        ("GET", "/procs/a/output/1/data"),
        ("BREW", "/procs"),
    ] {
        let mut client = server.client();
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        client.answer().errors(403);
    }
    let procs = server.ask("GET", "/procs").data()["procs"].take();
    assert_eq!(procs.as_object().unwrap().keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(procs["a"]["state"], "running");
    server.ask("POST", "/procs/a/signals/KILL").data();
}

/// The client is another user, not root.
#[test]
fn the_token_authorizes_another_user() {
    let answered = as_other(Some(TOKEN), &[&format!("Authorization: Bearer {TOKEN}")]);
    let Some(answered) = answered else { return };
    assert!(answered.starts_with("HTTP/1.1 200 OK\r\n"), "{answered}");
    for (token, header, text) in [
        (None, format!("Authorization: Bearer {TOKEN}"), "configure an HTTP token"),
        (
            Some(TOKEN),
            "Authorization: Bearer wrong".to_owned(),
            "it has another token than http.token",
        ),
        (Some(TOKEN), "Accept: */*".to_owned(), "send the configured HTTP token"),
        (Some(TOKEN), "Origin: http://evil.example".to_owned(), "origin"),
    ] {
        let answer = as_other(token, &[&header]).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        assert!(answer.contains("\r\ncontent-type: application/json\r\n"), "{answer}");
        assert!(answer.contains(text) && !answer.contains(TOKEN), "{answer}");
        if text != "origin" {
            assert!(answer.contains("the connection belongs to user ID 45678; "), "{answer}");
        }
    }
    // Each request on a keep-alive connection needs the token.
    let good = format!("Authorization: Bearer {TOKEN}");
    let twice = as_other(Some(TOKEN), &[&good, "Accept: */*"]).unwrap();
    assert_eq!(twice.matches("HTTP/1.1 200 OK\r\n").count(), 1, "{twice}");
    assert_eq!(twice.matches("HTTP/1.1 403 Forbidden\r\n").count(), 1, "{twice}");
}

/// A client that lacks only the token gets the page, which asks for the token, and no other
/// resource. A request from the page of another origin is forbidden.
#[test]
fn the_page_needs_no_token() {
    let Some(page) = other_asks(Some(TOKEN), "/", &["Accept: */*"]) else { return };
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("<!doctype html>"), "{page}");
    let file = other_asks(Some(TOKEN), "/ui/app.js", &["Accept: */*"]).unwrap();
    assert!(file.starts_with("HTTP/1.1 200 OK\r\n"), "{file}");
    for (token, path, header) in [
        (Some(TOKEN), "/procs", "Accept: */*"),
        (Some(TOKEN), "/events", "Accept: */*"),
        (Some(TOKEN), "/status", "Accept: */*"),
        (Some(TOKEN), "/openapi.json", "Accept: */*"),
        (Some(TOKEN), "/ui", "Accept: */*"),
        (Some(TOKEN), "/", "Origin: http://evil.example"),
        (Some(TOKEN), "/", "Authorization: Bearer wrong"),
        (None, "/", "Accept: */*"),
    ] {
        let answer = other_asks(token, path, &[header]).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{path} {header}: {answer}");
    }
}

/// Returns the responses of a service with this token to another user: one request for each of
/// these headers, all on one connection. `None` if the test cannot become another user.
fn as_other(token: Option<&str>, headers: &[&str]) -> Option<String> {
    other_asks(token, "/procs", headers)
}

/// Like [`as_other`], but for any path.
fn other_asks(token: Option<&str>, path: &str, headers: &[&str]) -> Option<String> {
    if own_uid() != 0 || !Path::new("/bin/bash").exists() {
        eprintln!("left out: only root can become another user, and bash connects for it");
        return None;
    }
    let server = TestServer::with(Policy::new(own_uid(), token.map(str::to_owned)), 0);
    let mut requests = String::new();
    for (i, header) in headers.iter().enumerate() {
        let last = if i + 1 == headers.len() { "Connection: close\r\n" } else { "" };
        requests += &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n{last}\r\n");
    }
    let mut bash = Command::new("/bin/bash");
    bash.uid(OTHER_UID).gid(OTHER_UID);
    Some(answer_to(bash, &server, &requests))
}

/// Returns the response of a service to these bytes, sent by `bash`: a command that starts bash
/// with further arguments.
fn answer_to(mut bash: Command, server: &TestServer, requests: &str) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{} && printf %s \"$0\" >&3 && cat <&3",
        server.address.port()
    );
    let mut child = bash
        .args(["-c", &script, requests])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answer = String::new();
    child.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    assert!(child.wait().unwrap().success());
    answer
}

/// A sandbox that shares the network has the user ID of the service, perhaps root, but other namespaces.
#[test]
fn a_sandbox_of_the_same_user_is_refused_without_the_token() {
    if own_uid() != 0 || !Path::new("/bin/bash").exists() {
        eprintln!("left out: only root makes every namespace, and bash connects from within");
        return;
    }
    let no_capabilities = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let post = |header: &str| {
        let body = r#"{"specs": {"intruder": {"argv": ["/bin/true"]}}}"#;
        format!(
            "POST /procs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for (flags, dropped) in [
        (&["-mpiu", "--fork"][..], &no_capabilities[..]),
        (&["--mount"], &[]),
        (&["--pid", "--fork"], &[]),
        (&["--user"], &[]),
        (&["--user", "--map-root-user"], &[]),
    ] {
        let server = TestServer::with(Policy::new(own_uid(), Some(TOKEN.to_owned())), 0);
        let sandbox = || {
            let mut command = Command::new("unshare");
            command.args(flags).args(dropped).arg("/bin/bash");
            command
        };
        let answer = answer_to(sandbox(), &server, &post(""));
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{flags:?}: {answer}");
        assert!(answer.contains("user, mount and pid namespaces"), "{flags:?}: {answer}");
        assert!(answer.contains("Unix socket") && answer.contains("HTTP token"), "{answer}");
        assert!(server.ask("GET", "/procs").data()["procs"].as_object().unwrap().is_empty());
        let token = format!("Authorization: Bearer {TOKEN}\r\n");
        let answer = answer_to(sandbox(), &server, &post(&token));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{flags:?}: {answer}");
    }
}
