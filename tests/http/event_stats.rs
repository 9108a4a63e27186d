//! The options of events for the page: summaries, and stats at an interval.

use serde_json::{Value, json};

use super::events::{Events, Sse};
use super::harness::TestServer;
use crate::support::engine::sh;

fn sleeper() -> Value {
    json!({"argv": ["sleep", "1000"], "exe": "/bin/sleep"})
}

/// Returns the next event other than stats, and the stats events before it.
fn change(events: &mut Sse) -> (Value, Vec<Value>) {
    let mut stats = Vec::new();
    loop {
        match events.event() {
            event if event["event"] == "stats" => stats.push(event),
            event => return (event, stats),
        }
    }
}

#[test]
fn results_in_brief() {
    let server = TestServer::new();
    let mut spec = sh("echo out; exit 3", json!([["stdout", {"capture": {}}]]));
    spec["labels"] = json!({"b": "1", "a": "2"});
    server.post(&json!({"before": spec})).data();
    let whole = server.ended("/procs/before");
    let mut events = Sse::open(&server, "/events?summary=true", &[]);
    let snapshot = events.event();
    let summary = &snapshot["procs"]["before"];
    for key in ["state", "reason", "errors", "pid", "status", "labels"] {
        assert_eq!(summary[key], whole[key], "{key}");
    }
    for key in ["start", "stop", "elapsed"] {
        assert_eq!(summary["times"][key], whole["times"][key], "{key}");
    }
    assert_eq!(summary["cpu"], whole["usage"]["cpu"]);
    assert_eq!(summary["maxrss"], whole["rusage"]["maxrss"]);
    assert_eq!(summary["history"], Value::Null);
    for key in ["fds", "captures", "proc_stat", "argv", "env"] {
        assert_eq!(summary.get(key), None, "{key}");
    }
    server.post(&json!({"run": sleeper()})).data();
    let started = events.event();
    assert_eq!((&started["event"], &started["id"]), (&json!("started"), &json!("run")));
    assert_eq!(started["result"]["cpu"], Value::Null);
    assert_eq!(started["result"]["state"], "running");
    // Without `summary`, events contain whole results.
    let mut others = Sse::open(&server, "/events", &[]);
    assert!(others.event()["procs"]["run"]["proc_stat"].is_object());
    server.ask("POST", "/procs/run/signals/KILL").data();
    assert_eq!(events.event()["result"]["status"]["signal"], "SIGKILL");
}

#[test]
fn stats_contain_only_the_requested_processes() {
    let server = TestServer::new();
    let busy = sh("while :; do echo line; done", json!([["stdout", {"capture": {}}]]));
    server.post(&json!({"a/b c": busy, "idle": sleeper(), "other": sleeper()})).data();
    let path = "/events?summary&stats=0.2&id=a%2Fb+c&id=idle&id=unknown";
    let mut events = Sse::open(&server, path, &[]);
    let (snapshot, early) = change(&mut events);
    // The snapshot precedes all stats.
    assert_eq!((&snapshot["event"], early.len()), (&json!("snapshot"), 0));
    // Before its program runs, the kernel may report 0 bytes of memory.
    while events.event()["procs"]["a/b c"]["captured"]["stdout"] == 0 {}
    let mut last = Value::Null;
    for round in 0..4 {
        let stats = events.event();
        assert_eq!((&stats["event"], &stats["cursor"]), (&json!("stats"), &Value::Null));
        assert_eq!(stats["counts"]["running"], 3);
        assert_eq!(stats["connection"], Value::Null);
        let procs = stats["procs"].as_object().unwrap();
        assert_eq!(procs.keys().collect::<Vec<_>>(), ["a/b c", "idle"]);
        let now = procs["a/b c"].clone();
        assert!(now["rss"].as_u64().unwrap() > 0 && now["threads"] == 1, "{now}");
        if round > 0 {
            let more = |key: &str| now[key].as_f64() > last[key].as_f64();
            assert!(more("elapsed") && now["cpu"].as_f64() >= last["cpu"].as_f64());
            assert!(now["captured"]["stdout"].as_u64() > last["captured"]["stdout"].as_u64());
        }
        last = now;
    }
    // Changes arrive between the stats, which do not contain ended processes.
    server.ask("POST", "/procs/idle/signals/KILL").data();
    let (ended, _) = change(&mut events);
    assert_eq!(ended["event"], "ended");
    let after = events.event();
    assert_eq!(after["procs"].as_object().unwrap().keys().collect::<Vec<_>>(), ["a/b c"]);
    assert_eq!((&after["counts"]["running"], &after["counts"]["present"]), (&json!(2), &json!(3)));
    // Stats have no cursor: a client resumes after the last change.
    let cursor = snapshot["cursor"].as_str().unwrap();
    let mut resumed = Sse::open(&server, "/events?stats=0.2", &[("Last-Event-ID", cursor)]);
    assert_eq!(change(&mut resumed).0["event"], "ended");
    assert_eq!(resumed.event()["procs"], json!({}));
    server.ask("POST", "/procs/a%2Fb%20c/signals/KILL").data();
}

#[test]
fn invalid_queries_of_stats_are_rejected() {
    let server = TestServer::new();
    let many = format!("/events?stats=1{}", "&id=x".repeat(201));
    for (path, told) in [
        ("/events?id=a", "id: only with `stats`"),
        ("/events?stats=0.1", "stats: expected at least 0.2 seconds"),
        ("/events?stats=-1", "stats: invalid duration -1"),
        ("/events?stats=x", "stats: invalid duration \"x\""),
        ("/events?stats=1&stats=2", "\"stats\" is given twice"),
        ("/events?summary=maybe", "summary: expected true or false"),
        (many.as_str(), "id: given more than 200 times"),
        ("/events/ws?stats=1", "unknown query parameter \"stats\""),
    ] {
        let problems = server.ask("GET", path).problem(400);
        assert!(problems[0].contains(told), "{problems:?}");
    }
}
