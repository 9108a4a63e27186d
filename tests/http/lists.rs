//! Lists by state and page, tags, waits, stops, and deletion of many processes.

use serde_json::{Value, json};

use super::harness::TestServer;
use crate::support::engine::sh;
use crate::support::wait::eventually;

fn captured() -> Value {
    json!([["stdout", {"capture": {"encoding": "utf-8"}}], ["stdin", {"null": {}}],
           ["3", {"capture": {"encoding": null, "attached": false}}]])
}

fn sleeper() -> Value {
    json!({"argv": ["sleep", "1000"], "exe": "/bin/sleep"})
}

fn ids(data: &Value) -> Vec<String> {
    data["procs"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn by_state() {
    let server = TestServer::new();
    server
        .post(&json!({"a": sh("true", json!([])), "b": {"argv": ["/nonexistent"]}, "c": sleeper()}))
        .data();
    server.ended("/procs/a");
    for (query, expected) in [
        ("", "a b c"),
        ("state=running", "c"),
        ("state=terminated", "a"),
        ("state=error", "b"),
        ("state=error,running", "b c"),
        ("state=error&state=terminated", "a b"),
        ("older_than=0", "a b"),
        ("older_than=1000", ""),
        ("label=x", ""),
        ("label=x=y&state=running", ""),
        ("something=else", "a b c"),
    ] {
        let data = server.ask("GET", &format!("/procs?{query}")).data();
        assert_eq!(ids(&data).join(" "), expected, "{query}");
        assert_eq!(data.as_object().unwrap().len(), 1, "{query}");
    }
    for (query, detail) in [
        ("state=gone", "state: expected running, terminated or error, found \"gone\""),
        ("limit=0", "limit: expected a number from 1 to 10000"),
        ("limit=1&cursor=1", "cursor: expected what an earlier answer gave as `next`, found \"1\""),
        (
            "limit=1&cursor=1-1",
            "cursor of an earlier run of the worker: restart the list without a cursor",
        ),
        ("output=half", "output: expected inline, none or tail, found \"half\""),
        (
            "state=%FF",
            "malformed query: it is not UTF-8 once decoded; percent-encode the text as UTF-8",
        ),
    ] {
        assert_eq!(server.ask("GET", &format!("/procs?{query}")).errors(400), [detail], "{query}");
    }
}

/// Between pages, processes start and are deleted. All that exist the whole time are listed once,
/// in order.
#[test]
fn pages_list_each_process_once_and_in_order() {
    let server = TestServer::new();
    for n in 0..10 {
        server.post(&json!({ format!("p{n}"): sh("true", json!([])) })).data();
        server.ended(&format!("/procs/p{n}"));
    }
    let page = |cursor: &Value| {
        let cursor = cursor.as_str().map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        server.ask("GET", &format!("/procs?limit=3&output=none{cursor}")).data()
    };
    let first = page(&Value::Null);
    assert_eq!(ids(&first), ["p0", "p1", "p2"]);
    // The last listed process, the next one, and one whose ID is used again.
    for gone in ["p2", "p3", "p0"] {
        server.ask("DELETE", &format!("/procs/{gone}")).data();
    }
    server.post(&json!({"p0": sh("true", json!([]))})).data();
    let second = page(&first["next"]);
    assert_eq!(ids(&second), ["p4", "p5", "p6"]);
    assert_eq!(ids(&page(&first["next"])), ids(&second));
    let third = page(&second["next"]);
    assert_eq!(ids(&third), ["p7", "p8", "p9"]);
    let last = page(&third["next"]);
    assert_eq!((ids(&last), &last["next"]), (vec!["p0".to_owned()], &Value::Null));
    // A full last page has no `next`.
    let data = server.ask("GET", "/procs?limit=8").data();
    assert_eq!((ids(&data).len(), &data["next"]), (8, &Value::Null));
    let data = server.ask("GET", "/procs?limit=5&state=error").data();
    assert_eq!(data, json!({"procs": {}, "next": null}));
}

#[test]
fn how_much_of_the_output() {
    let server = TestServer::new();
    let script = "printf 'abcdef\u{20ac}12'; printf xyz >&3";
    server.post(&json!({"a": sh(script, captured())})).data();
    let whole = server.ended("/procs/a");
    let look = |query: &str| {
        let mut of_one =
            server.ask("GET", &format!("/procs/a?{query}")).data()["procs"]["a"].take();
        let mut of_all = server.ask("GET", &format!("/procs?{query}")).data()["procs"]["a"].take();
        for result in [&mut of_one, &mut of_all] {
            result["times"]["now"].take();
        }
        assert_eq!(of_one, of_all);
        of_one
    };
    let text = |text: &str| json!({"type": "text", "text": text, "encoding": "utf-8"});
    let detached =
        |length, encoding| json!({"type": "detached", "length": length, "encoding": encoding});
    let inline = look("output=inline");
    assert_eq!(inline["fds"], whole["fds"]);
    assert_eq!(inline.get("offsets"), None);
    let none = look("output=none");
    assert_eq!(
        none["fds"],
        json!({"stdout": detached(11, "utf-8"), "stdin": null, "3": detached(3, "base64")})
    );
    assert_eq!(none["captures"], whole["captures"]);
    for (tail, shown, at, data, data_at) in [
        ("100", "abcdef\u{20ac}12", 0, "eHl6", 0),
        ("11", "abcdef\u{20ac}12", 0, "eHl6", 0),
        ("5", "\u{20ac}12", 6, "eHl6", 0),
        // A tail does not begin within a character.
        ("4", "12", 9, "eHl6", 0),
        ("3", "12", 9, "eHl6", 0),
        ("2", "12", 9, "eXo=", 1),
        ("0", "", 11, "", 3),
    ] {
        let result = look(&format!("output=tail&tail={tail}"));
        let data = json!({"type": "data", "data": data, "encoding": "base64"});
        assert_eq!(
            result["fds"],
            json!({"stdout": text(shown), "stdin": null, "3": data}),
            "{tail}"
        );
        assert_eq!(result["offsets"], json!({"stdout": at, "3": data_at}), "{tail}");
    }
}

#[test]
fn tags() {
    let server = TestServer::new();
    server.post(&json!({"a": sh("read x < /dev/null", json!([])), "b": sleeper()})).data();
    server.ended("/procs/a");
    let ask = |path: &str, known: &str| server.send("GET", path, &[("If-None-Match", known)], b"");
    let first = server.ask("GET", "/procs/a");
    let tag = first.header("etag").unwrap();
    assert!(tag.starts_with("W/\""), "{tag}");
    for known in [tag, &tag[2..], "*", &format!("\"x\", {tag}")] {
        let answer = ask("/procs/a", known);
        assert_eq!((answer.status, answer.header("etag")), (304, Some(tag)), "{known}");
    }
    for known in ["\"x\"", "W/\"0000000000000000\"", ""] {
        assert_eq!(ask("/procs/a", known).status, 200, "{known}");
    }
    // An event changes the tag of a running process.
    let running = server.ask("GET", "/procs/b").header("etag").unwrap().to_owned();
    server.ask("POST", "/procs/b/signals/KILL").data();
    server.ended("/procs/b");
    assert_eq!(ask("/procs/b", &running).status, 200);
    assert_eq!(server.send("HEAD", "/procs/a", &[], b"").header("etag"), Some(tag));
}

#[test]
fn the_tag_of_a_busy_process_changes_with_its_samples() {
    let server = TestServer::new();
    server.post(&json!({"a": sh("while :; do :; done", json!([]))})).data();
    let tag = || server.ask("GET", "/procs/a").header("etag").unwrap().to_owned();
    let first = tag();
    eventually("another tag", || tag() != first);
    server.ask("POST", "/procs/a/signals/KILL").data();
}

#[test]
fn waits() {
    let server = TestServer::new();
    server.post(&json!({"a": sleeper()})).data();
    assert_eq!(server.ask("GET", "/procs/a?wait=0.01").data()["procs"]["a"]["state"], "running");
    let mut client = server.client();
    client.request("GET", "/procs/a?wait=3600", &[], b"");
    server.ask("POST", "/procs/a/signals/KILL").data();
    assert_eq!(client.answer().data()["procs"]["a"]["status"]["signal"], "SIGKILL");
    assert_eq!(server.ask("GET", "/procs/a?wait=3600").data()["procs"]["a"]["state"], "terminated");
    server.ask("GET", "/procs/b?wait=3600").errors(404);
    for wait in ["-1", "x", "3601", "inf"] {
        server.ask("GET", &format!("/procs/a?wait={wait}")).errors(400);
    }
}

#[test]
fn stops() {
    let server = TestServer::new();
    const JSON: (&str, &str) = ("Content-Type", "application/json");
    for (body, signal) in [
        ("", "SIGTERM"),
        ("{}", "SIGTERM"),
        (r#"{"signal": "INT"}"#, "SIGINT"),
        (r#"{"signal": 10, "grace": 0.5}"#, "SIGUSR1"),
        (r#"{"signal": null, "grace": null}"#, "SIGTERM"),
    ] {
        server.post(&json!({"a": sleeper()})).data();
        let headers: &[_] = if body.is_empty() { &[] } else { &[JSON] };
        let answer = server.send("POST", "/procs/a/stop", headers, body.as_bytes());
        assert_eq!(answer.data(), json!({}), "{body}");
        assert_eq!(server.ended("/procs/a")["status"]["signal"], signal, "{body}");
        let detail = server.ask("POST", "/procs/a/stop").problem(409);
        assert_eq!(detail, ["process has ended: a"]);
        server.ask("DELETE", "/procs/a").data();
    }
    server.post(&json!({"a": sleeper()})).data();
    for (body, status) in [
        (r#"{"signal": "NO"}"#, 400),
        (r#"{"signal": 65}"#, 400),
        (r#"{"grace": -1}"#, 400),
        (r#"{"grace": 1e11}"#, 400),
        (r#"{"grace": "1"}"#, 400),
        (r#"{"sig": 1}"#, 400),
        ("[]x", 400),
        (&" ".repeat(5000), 413),
    ] {
        server.send("POST", "/procs/a/stop", &[JSON], body.as_bytes()).problem(status);
    }
    server.send("POST", "/procs/a/stop", &[("Content-Type", "text/plain")], b"{}").problem(415);
    server.ask("POST", "/procs/a/stop?x=1").problem(400);
    server.ask("POST", "/procs/b/stop").problem(404);
    assert_eq!(server.ask("GET", "/procs/a").data()["procs"]["a"]["state"], "running");
}

#[test]
fn clearing_away() {
    let server = TestServer::new();
    server
        .post(&json!({"a": sh("true", json!([])), "b": {"argv": ["/nonexistent"]}, "c": sleeper(), "d": sh("true", json!([]))}))
        .data();
    server.ended("/procs/a");
    server.ended("/procs/d");
    for query in ["", "?x=1", "?state=", "?older_than=-1"] {
        server.ask("DELETE", &format!("/procs{query}")).problem(400);
    }
    for (query, deleted) in [
        ("label=x", json!([])),
        ("older_than=1000", json!([])),
        ("state=running", json!([])),
        ("state=terminated", json!(["a", "d"])),
        ("state=terminated", json!([])),
        ("older_than=0", json!(["b"])),
    ] {
        let answer = server.ask("DELETE", &format!("/procs?{query}"));
        assert_eq!(answer.data(), json!({ "proc_ids": deleted }), "{query}");
    }
    assert_eq!(ids(&server.ask("GET", "/procs").data()), ["c"]);
}

#[test]
fn the_agent_itself() {
    let server = TestServer::new();
    server.post(&json!({"a": sh("echo hi", captured()), "c": sleeper()})).data();
    server.ended("/procs/a");
    let agent = server.ask("GET", "/status").data()["status"].take();
    assert_eq!(agent["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(agent["worker_pid"], std::process::id());
    assert_eq!(agent["shutdown_state"], "active");
    assert_eq!(agent["counts"], json!({"running": 1, "terminated": 1, "error": 0, "present": 2}));
    assert_eq!(agent["connection"], Value::Null);
    for path in ["/healthz", "/readyz"] {
        let answer = server.ask("GET", path);
        assert_eq!((answer.status, &*answer.body), (200, &b"ok\n"[..]), "{path}");
    }
    let metrics = String::from_utf8(server.ask("GET", "/metrics").body).unwrap();
    for line in [
        "procstar_processes{state=\"running\"} 1",
        "procstar_processes{state=\"terminated\"} 1",
        "procstar_process_starts_total{result=\"success\"} 2",
        "procstar_process_starts_total{result=\"error\"} 0",
        "procstar_process_ends_total{outcome=\"success\"} 1",
        "procstar_process_ends_total{outcome=\"oom\"} 0",
        "procstar_captured_bytes_total 3",
    ] {
        assert!(metrics.lines().any(|told| told == line), "{line}\n{metrics}");
    }
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let known = name.starts_with("procstar_") || name.starts_with("process_");
        assert!(known && value.parse::<f64>().is_ok(), "{line}");
    }
    server.ask("GET", "/status?x=1").problem(400);
    assert_eq!(server.ask("POST", "/status").problem(405).len(), 1);
}
