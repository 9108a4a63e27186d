//! Every route with every status.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::harness::TestServer;
use super::mock_supervisor::{BROKEN, FORBIDDEN, TOO_LATE};
use crate::support::engine::sh;

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A process that runs until a signal.
fn sleeper() -> Value {
    json!({"argv": ["sleep", "1000"], "exe": "/bin/sleep"})
}

fn captured(encoding: Value) -> Value {
    json!([["stdout", {"capture": {"mode": "memory", "encoding": encoding}}]])
}

#[test]
fn a_process_from_start_to_deletion() {
    let server = TestServer::new();
    assert_eq!(server.ask("GET", "/procs").data(), json!({"procs": {}}));
    // A text, because a JSON value would change the order.
    let specs = format!(
        r#"{{"specs": {{"b": {}, "a": {}}}}}"#,
        sleeper(),
        sh("echo out", captured(json!("utf-8")))
    );
    let started = server.send("POST", "/procs", &[JSON], specs.as_bytes());
    assert_eq!(started.data(), json!({"proc_ids": ["b", "a"]}));

    let procs = server.ask("GET", "/procs").data()["procs"].take();
    assert_eq!(procs.as_object().unwrap().len(), 2);
    assert_eq!(procs["b"]["state"], "running");
    let one = server.ask("GET", "/procs/b").data()["procs"].take();
    assert_eq!(one.as_object().unwrap().len(), 1);
    assert_eq!(one["b"]["pid"], procs["b"]["pid"]);
    assert_eq!(one["b"]["proc_stat"]["pid"], one["b"]["pid"]);
    assert_eq!(one["b"]["status"], Value::Null);

    let ended = server.ended("/procs/a");
    assert_eq!(ended["status"]["exit_code"], 0);
    let text = json!({"type": "text", "text": "out\n", "encoding": "utf-8"});
    assert_eq!(ended["fds"], json!({ "stdout": text }));

    assert_eq!(
        server.ask("DELETE", "/procs/b").errors(409),
        ["process is running: b; stop it first (POST /procs/ID/stop), and delete it after its end"]
    );
    assert_eq!(server.ask("POST", "/procs/b/signals/SIGTERM").data(), json!({}));
    assert_eq!(server.ended("/procs/b")["status"]["signal"], "SIGTERM");
    assert_eq!(server.ask("POST", "/procs/b/signals/9").errors(409), ["process has ended: b"]);
    assert_eq!(server.ask("DELETE", "/procs/b").data(), json!({}));
    for (method, path) in [
        ("GET", "/procs/b"),
        ("DELETE", "/procs/b"),
        ("POST", "/procs/b/signals/TERM"),
        ("GET", "/procs/b/output/stdout/data"),
    ] {
        assert_eq!(
            server.ask(method, path).errors(404),
            ["unknown process: b; list processes with 'procstar ps'"],
            "{method} {path}"
        );
    }
    let left = server.ask("GET", "/procs").data()["procs"].take();
    assert_eq!(left.as_object().unwrap().keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn signals_by_name_and_number() {
    let server = TestServer::new();
    for (i, (sent, name)) in [
        ("SIGKILL", "SIGKILL"),
        ("kill", "SIGKILL"),
        ("15", "SIGTERM"),
        ("SIGRTMIN%2B3", "SIGRTMIN+3"),
        ("RTMIN+3", "SIGRTMIN+3"),
    ]
    .into_iter()
    .enumerate()
    {
        server.post(&json!({ i.to_string(): sleeper() })).data();
        server.ask("POST", &format!("/procs/{i}/signals/{sent}")).data();
        assert_eq!(server.ended(&format!("/procs/{i}"))["status"]["signal"], name, "{sent}");
    }
    server.post(&json!({"a": sleeper(), FORBIDDEN: sleeper(), BROKEN: sleeper()})).data();
    for bad in ["SIGNOSUCH", "0", "65", "-9", "%20", ""] {
        let text = bad.replace("%20", " ");
        let answer = server.ask("POST", &format!("/procs/a/signals/{bad}"));
        assert_eq!(
            answer.errors(400),
            [format!(
                "unknown signal {text:?}: expected a name such as TERM or SIGTERM ('kill -l' lists them), or a number from 1 to 64"
            )]
        );
    }
    server.ask("POST", &format!("/procs/{FORBIDDEN}/signals/9")).errors(403);
    server.ask("POST", &format!("/procs/{BROKEN}/signals/9")).errors(500);
    assert_eq!(server.ask("GET", "/procs/a").data()["procs"]["a"]["state"], "running");
    server.ask("POST", "/procs/a/signals/KILL").data();
    server.ended("/procs/a");
}

/// Headers, body, and the expected status and error texts.
type BadRequest<'a> = (&'a [(&'a str, &'a str)], &'a str, u16, &'a [&'a str]);

/// No process is started, the response contains each error with its place, and the next request
/// succeeds.
#[test]
fn requests_that_are_not_accepted() {
    let server = TestServer::new();
    server.post(&json!({"used": sh("true", json!([]))})).data();
    let good = r#"{"specs": {"new": {"argv": ["/bin/true"]}}}"#;
    let spec = |spec: &str| format!(r#"{{"specs": {{"new": {{"argv": ["/bin/true"]}}, {spec}}}}}"#);
    let twice = r#"{"specs": {
        "new": {"argv": ["/bin/true"],
          "fds": [["1", "close"], ["stdout", "close"]]},
        "x": {"argv": []}
    }}"#;
    let used = spec(r#""used": {"argv": ["/bin/true"]}"#);
    let unknown = spec(r#""b": {"argv": ["x"], "colour": 1}"#);
    let late = spec(&format!(r#""{TOO_LATE}": {{"argv": ["/bin/true"]}}"#));
    let table: [BadRequest<'_>; 14] = [
        (&[JSON], "", 400, &["1:1: invalid JSON: expected an object"]),
        (&[JSON], "{\"specs\":\n  {]", 400, &["2:4: "]),
        (&[JSON], "{}", 400, &["missing key `specs`"]),
        (&[JSON], "[1]", 400, &["1:1: invalid type: array, expected an object"]),
        (&[JSON], "{\"specs\": {}} x", 400, &["1:15: invalid JSON: trailing characters"]),
        (&[JSON], &unknown, 400, &["colour"]),
        (&[JSON], twice, 400, &["specs.new.fds[1]: fd stdout given twice; remove one", "specs.x"]),
        (&[JSON], &used, 409, &["process ID already in use: used"]),
        (&[JSON], &late, 503, &["agent shutting down: idling"]),
        (&[], good, 415, &["unsupported content type (none): "]),
        (
            &[("Content-Type", "text/plain")],
            good,
            415,
            &["unsupported content type \"text/plain\""],
        ),
        (
            &[("Content-Type", "application/x-www-form-urlencoded")],
            good,
            415,
            &["send `Content-Type: application/json`"],
        ),
        (&[JSON, ("Content-Encoding", "gzip")], good, 415, &["content encoding"]),
        (&[JSON, ("Content-Encoding", "gzip")], "", 415, &["content encoding"]),
    ];
    for (headers, body, status, texts) in table {
        let mut client = server.client();
        client.request("POST", "/procs", headers, body.as_bytes());
        let errors = client.answer().errors(status);
        assert_eq!(errors.len(), texts.len(), "{body}: {errors:?}");
        for (error, text) in errors.iter().zip(texts) {
            assert!(error.contains(text), "{body}: {error}");
        }
        server.ask("GET", "/procs/new").errors(404);
    }
    let parameter = ("Content-Type", "application/json; charset=utf-8");
    for (headers, body) in [
        ([parameter], good),
        ([JSON], r#"{"specs": {}}"#),
        ([("Content-Type", "application/JSON")], r#"{"specs":{}}"#),
    ] {
        server.send("POST", "/procs", &headers, body.as_bytes()).data();
    }
    assert_eq!(server.ended("/procs/new")["status"]["exit_code"], 0);
}

#[test]
fn paths_and_methods_that_there_are_not() {
    let server = TestServer::new();
    for path in [
        "/ui",
        "/proc",
        "/PROCS",
        "/procs/a/",
        "/procs/a/b",
        "/procs/a/signals",
        "/procs/a/signals/9/x",
        "/procs/a/output",
        "/procs/a/output/stdout",
        "/procs/a/output/stdout/data/",
        "/procs%2Fa",
        "//procs",
        "/procs/a%2Foutput%2F1%2Fdata/x",
    ] {
        for method in ["GET", "POST", "DELETE", "BREW"] {
            let errors = server.ask(method, path).errors(404);
            assert!(errors[0].starts_with("unknown path: "), "{method} {path}: {errors:?}");
        }
    }
    for (path, methods, allow) in [
        ("/procs", ["PUT", "BREW", "OPTIONS", "PATCH"], "GET, HEAD, POST, DELETE"),
        ("/procs/a", ["PUT", "POST", "OPTIONS", "BREW"], "GET, HEAD, DELETE"),
        ("/procs/a/signals/9", ["GET", "PUT", "DELETE", "OPTIONS"], "POST"),
        ("/procs/a/output/1/data", ["POST", "PUT", "DELETE", "TRACE"], "GET, HEAD"),
    ] {
        for method in methods {
            let answer = server.ask(method, path);
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
            let expected = format!("method not allowed here: {method}; allowed: {allow}");
            assert_eq!(answer.errors(405), [expected]);
        }
    }
    assert_eq!(server.ask("HEAD", "/procs/a/signals/9").status, 405);
    for path in ["/procs/%FF", "/procs/%", "/procs/%4", "/procs/%zz", "/procs/a/output/%FF/data"] {
        let errors = server.ask("GET", path).errors(400);
        assert!(errors[0].starts_with("malformed path: "), "{path}: {errors:?}");
    }
}

#[test]
fn ids_of_any_text() {
    let server = TestServer::new();
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    for id in [
        "a/b",
        "/",
        "%",
        "%2F",
        "%252F",
        "a b",
        "a+b",
        "ä\u{1F600}",
        "..",
        ".",
        "a?b#c&d",
        "\"\\\n\t",
        "procs",
        "signals",
        "</script>",
        &"x".repeat(3000),
        &"\u{e9}".repeat(2048),
    ] {
        let path = format!("/procs/{}", encode(id));
        let started = server.post(&json!({ id: sh("echo -n $0", captured(Value::Null)) })).data();
        assert_eq!(started, json!({"proc_ids": [id]}));
        let found = server.ask("GET", &path).data()["procs"].take();
        assert_eq!(found.as_object().unwrap().keys().collect::<Vec<_>>(), [id]);
        server.ended(&path);
        assert_eq!(server.ask("GET", &format!("{path}/output/stdout/data")).body, b"/bin/bash");
        assert_eq!(server.ask("GET", &format!("{path}/output/%73tdout/data?x=/y")).status, 200);
        server.ask("POST", &format!("{path}/signals/9")).errors(409);
        assert_eq!(server.ask("DELETE", &path).data(), json!({}), "{id}");
        assert_eq!(
            server.ask("GET", &path).errors(404),
            [format!("unknown process: {id}; list processes with 'procstar ps'")]
        );
    }
    // The service decodes an ID only once, after it has split the path.
    server.post(&json!({"a/b": sleeper(), "%2F": sleeper()})).data();
    server.ask("GET", "/procs/a/b").errors(404);
    server.ask("GET", "/procs/%2F").errors(404);
    server.ask("GET", "/procs/%252F").data();
}

/// After the response to a start, the results exist: no process is still starting.
#[test]
fn the_answer_comes_when_every_process_has_started_or_failed_to() {
    let server = TestServer::new();
    let mut specs = serde_json::Map::new();
    for i in 0..50 {
        specs.insert(format!("good{i}"), sleeper());
        specs.insert(format!("bad{i}"), json!({"argv": ["/no/such/program"]}));
    }
    server.post(&specs.into()).data();
    let procs = server.ask("GET", "/procs").data()["procs"].take();
    assert_eq!(procs.as_object().unwrap().len(), 100);
    for i in 0..50 {
        assert!(procs[format!("good{i}")]["pid"].is_i64());
        let bad = &procs[format!("bad{i}")];
        assert_eq!(bad["state"], "error");
        assert_eq!(bad["status"]["exit_code"], 127);
        assert!(
            bad["errors"][0].as_str().unwrap().starts_with("execve failed: /no/such/program: ")
        );
    }
    for i in 0..50 {
        server.ask("POST", &format!("/procs/good{i}/signals/KILL")).data();
    }
}

#[test]
fn captured_bytes_as_they_were_captured() {
    let server = TestServer::new();
    // Invalid UTF-8, and a zero byte.
    let script = r"printf 'a\377\0b'; printf three >&3";
    let fds = |mode: &str, encoding: Value| {
        json!([
            ["stdin", {"null": {}}],
            ["stdout", {"capture": {"mode": mode, "encoding": encoding}}],
            ["stderr", {"capture": {"mode": mode, "encoding": encoding, "attached": false}}],
            ["3", {"capture": {"mode": mode, "encoding": encoding, "attached": false}}],
        ])
    };
    for mode in ["memory", "tempfile"] {
        for (encoding, content_type) in [
            (json!("utf-8"), "text/plain; charset=utf-8"),
            (Value::Null, "application/octet-stream"),
        ] {
            server.post(&json!({"a": sh(script, fds(mode, encoding))})).data();
            server.ended("/procs/a");
            let outputs: [(&str, &[u8]); 5] = [
                ("stdout", b"a\xff\0b"),
                ("1", b"a\xff\0b"),
                ("stderr", b""),
                ("3", b"three"),
                ("%33", b"three"),
            ];
            for (fd, bytes) in outputs {
                let path = format!("/procs/a/output/{fd}/data");
                let answer = server.ask("GET", &path);
                assert_eq!((answer.status, &*answer.body), (200, bytes), "{fd}");
                let length = bytes.len().to_string();
                assert_eq!(answer.header("content-length"), Some(&*length));
                assert_eq!(answer.header("content-type"), Some(content_type));
                assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
                let head = server.ask("HEAD", &path);
                assert_eq!(head.status, 200);
                for name in ["content-length", "content-type"] {
                    assert_eq!(head.header(name), answer.header(name));
                }
            }
            for fd in ["stdin", "0", "4", "-1", "", "stdlog", "1%20", "01%2F"] {
                let answer = server.ask("GET", &format!("/procs/a/output/{fd}/data"));
                let fd = fd.replace("%20", " ").replace("%2F", "/");
                assert_eq!(answer.errors(404), [format!("fd not captured: {fd} of a")]);
            }
            server.ask("DELETE", "/procs/a").data();
        }
    }
}

/// One request of each kind; the connection continues after each.
#[test]
fn one_connection_for_many_requests() {
    let server = TestServer::new();
    server.post(&json!({"a": sh("echo out", captured(Value::Null))})).data();
    server.ended("/procs/a");
    let mut client = server.client();
    for _ in 0..3 {
        for (method, path, status) in [
            ("GET", "/procs", 200),
            ("GET", "/procs/a/output/1/data", 200),
            ("GET", "/procs/b", 404),
            ("PUT", "/procs", 405),
            ("POST", "/procs", 415),
            ("POST", "/procs/a/signals/9", 409),
        ] {
            client.request(method, path, &[], b"");
            assert_eq!(client.answer().status, status);
        }
        for path in ["/procs", "/procs/a", "/procs/a/output/1/data", "/procs/b"] {
            client.request("HEAD", path, &[], b"");
            assert_eq!(client.head().status, if path == "/procs/b" { 404 } else { 200 });
        }
    }
    // Pipelined requests get their responses in order.
    let one = "GET /procs/a/output/1/data HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let other = "GET /procs/b HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.send([one, other, one].concat());
    for status in [200, 404, 200] {
        assert_eq!(client.answer().status, status);
    }
}

#[test]
fn requests_fail_after_the_end_of_the_actors() {
    let server = TestServer::new();
    server.kill_mock();
    let wanted = [
        "agent shutting down: it may or may not have carried out the request; check when the instance runs again",
    ];
    for (method, path) in [
        ("GET", "/procs"),
        ("GET", "/procs/a"),
        ("DELETE", "/procs/a"),
        ("POST", "/procs/a/signals/9"),
        ("GET", "/procs/a/output/1/data"),
    ] {
        assert_eq!(server.ask(method, path).errors(503), wanted);
    }
    assert_eq!(server.post(&json!({"a": sleeper()})).errors(503), wanted);
}
