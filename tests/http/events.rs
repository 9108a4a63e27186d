//! Every change, once and in order, by server-sent events and WebSocket: resumed, coalesced, reset.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use procstar::http::access::Policy;
use procstar::http::{HttpLimits, Listeners, listen, listen_unix};
use serde_json::{Value, json};

use super::client::Client;
use super::harness::{TestServer, own_uid};
use crate::support::engine::sh;

fn sleeper() -> Value {
    json!({"argv": ["sleep", "1000"], "exe": "/bin/sleep"})
}

/// A stream of events.
pub trait Events {
    /// The data of the next event.
    fn event(&mut self) -> Value;

    /// A short text of the next event.
    fn short(&mut self) -> String {
        short(&self.event())
    }
}

fn short(event: &Value) -> String {
    let mut text = event["event"].as_str().unwrap().to_owned();
    for key in ["id", "skipped", "shutdown_state"] {
        if let Some(value) = event.get(key) {
            text += &format!(" {}", value.to_string().trim_matches('"'));
        }
    }
    if let Some(procs) = event.get("procs") {
        let ids: Vec<_> = procs.as_object().unwrap().keys().map(String::as_str).collect();
        text += &format!(" [{}]", ids.join(" "));
    }
    text
}

/// Server-sent events.
pub struct Sse {
    client: Client,
    text: String,
}

impl Sse {
    pub fn open(server: &TestServer, path: &str, headers: &[(&str, &str)]) -> Sse {
        Sse::over(server.client(), path, headers)
    }

    fn over(mut client: Client, path: &str, headers: &[(&str, &str)]) -> Sse {
        client.request("GET", path, headers, b"");
        let head = client.head();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        Sse { client, text: String::new() }
    }
}

impl Events for Sse {
    fn event(&mut self) -> Value {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.starts_with(':') {
                    continue;
                }
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                let data: Value = serde_json::from_str(field("data: ").unwrap()).unwrap();
                assert_eq!(data["event"], field("event: ").unwrap());
                assert_eq!(data["cursor"].as_str(), field("id: "));
                return data;
            }
            let chunk = self.client.chunk().expect("another event");
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }
}

/// Messages of a WebSocket.
pub struct Socket(pub Client);

impl Socket {
    pub fn over(mut client: Client, path: &str) -> Socket {
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        client.request("GET", path, &headers, b"");
        let head = client.head();
        assert_eq!(head.status, 101);
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Socket(client)
    }

    /// Reads the next frame; returns its opcode and payload.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.0.raw(2);
        assert_eq!(head[0] & 0x70, 0);
        let length = match head[1] {
            126 => u16::from_be_bytes(self.0.raw(2).try_into().unwrap()).into(),
            127 => u64::from_be_bytes(self.0.raw(8).try_into().unwrap()) as usize,
            length => usize::from(length),
        };
        (head[0] & 0x0f, self.0.raw(length))
    }
}

impl Events for Socket {
    fn event(&mut self) -> Value {
        loop {
            match self.frame() {
                (1, text) => return serde_json::from_slice(&text).unwrap(),
                (9, _) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn by_sse(client: Client, query: &str) -> Box<dyn Events> {
    Box::new(Sse::over(client, &format!("/events{query}"), &[]))
}

fn by_socket(client: Client, query: &str) -> Box<dyn Events> {
    Box::new(Socket::over(client, &format!("/events/ws{query}")))
}

/// Runs a test with both kinds of streams.
fn both(test: impl Fn(&TestServer, &dyn Fn(&TestServer, &str) -> Box<dyn Events>)) {
    test(&TestServer::new(), &|server, query| by_sse(server.client(), query));
    test(&TestServer::new(), &|server, query| by_socket(server.client(), query));
}

#[test]
fn each_change_once_and_in_order() {
    both(|server, open| {
        server.post(&json!({"before": sh("echo hi", json!([["stdout", {"capture": {}}]]))})).data();
        server.ended("/procs/before");
        let mut events = open(server, "");
        let snapshot = events.event();
        assert_eq!(short(&snapshot), "snapshot active [before]");
        assert_eq!(snapshot["more"], false);
        let before = &snapshot["procs"]["before"];
        assert_eq!(before["fds"]["stdout"]["type"], "detached");
        for id in ["a", "b"] {
            server.post(&json!({ id: sleeper() })).data();
            let started = events.event();
            assert_eq!(short(&started), format!("started {id}"));
            assert_eq!(started["result"]["state"], "running");
        }
        server.ask("POST", "/procs/a/signals/KILL").data();
        let ended = events.event();
        assert_eq!(short(&ended), "ended a");
        assert_eq!(ended["result"]["status"]["signal"], "SIGKILL");
        server.ask("DELETE", "/procs/a").data();
        assert_eq!(events.short(), "deleted a");
        // The start fails.
        server.post(&json!({"c": {"argv": ["/nonexistent"]}})).data();
        let ended = events.event();
        assert_eq!(
            (short(&ended), &ended["result"]["state"]),
            ("ended c".to_owned(), &json!("error"))
        );
        // A client can resume, even several times from one cursor.
        for _ in 0..2 {
            let cursor = ended["cursor"].as_str().unwrap();
            let mut resumed = open(server, &format!("?after={cursor}"));
            let mut again =
                open(server, &format!("?after={}", snapshot["cursor"].as_str().unwrap()));
            let told: Vec<_> = (0..5).map(|_| again.short()).collect();
            assert_eq!(told, ["started a", "started b", "ended a", "deleted a", "ended c"]);
            server.ask("POST", "/procs/b/signals/CONT").data();
            server.post(&json!({"d": sleeper()})).data();
            for events in [&mut events, &mut resumed, &mut again] {
                assert_eq!(events.short(), "started d");
            }
            server.ask("POST", "/procs/d/signals/KILL").data();
            assert_eq!([events.short(), resumed.short()], ["ended d", "ended d"]);
            server.ask("DELETE", "/procs/d").data();
            assert_eq!(events.short(), "deleted d");
        }
    });
}

#[test]
fn an_unknown_cursor_gets_a_reset_and_a_snapshot() {
    both(|server, open| {
        server.post(&json!({"a": sleeper()})).data();
        for cursor in ["0000000000000001-1", "nonsense", "ffffffffffffffff-ffffffffffffffff"] {
            let mut events = open(server, &format!("?after={cursor}"));
            let reset = events.event();
            assert_eq!((short(&reset), &reset["cursor"]), ("reset".to_owned(), &Value::Null));
            assert_eq!(events.short(), "snapshot active [a]", "{cursor}");
        }
    });
    let server = TestServer::new();
    // The later of both wins.
    let mut first = Sse::open(&server, "/events", &[]);
    let cursor = first.event()["cursor"].as_str().unwrap().to_owned();
    server.post(&json!({"a": sleeper()})).data();
    let mut resumed = Sse::open(&server, "/events?after=nonsense", &[("Last-Event-ID", &cursor)]);
    assert_eq!(resumed.short(), "started a");
    server.ask("GET", "/events?since=1").problem(400);
    server.ask("GET", "/events/ws").problem(400);
}

/// The snapshot of many processes has several parts. Only the last one has a cursor.
#[test]
fn a_snapshot_in_parts() {
    both(|server, open| {
        let specs: serde_json::Map<_, _> =
            (0..250).map(|n| (format!("p{n:03}"), json!({"argv": ["/nonexistent"]}))).collect();
        let ids: Vec<String> = specs.keys().cloned().collect();
        server.post(&specs.into()).data();
        let mut events = open(server, "");
        let mut seen = Vec::new();
        for (length, more) in [(100, true), (100, true), (50, false)] {
            let part = events.event();
            assert_eq!((&part["event"], &part["more"]), (&json!("snapshot"), &json!(more)));
            assert_eq!(part["cursor"].is_null(), more);
            let procs = part["procs"].as_object().unwrap();
            assert_eq!(procs.len(), length);
            seen.extend(procs.keys().cloned());
        }
        assert_eq!(seen, ids);
    });
}

/// A client that does not read delays no other client. It receives the number of skipped events,
/// and the final state of each process. The test uses a Unix socket, whose buffer is small.
#[test]
fn a_slow_reader_receives_the_number_of_skipped_events() {
    for open in [by_sse, by_socket] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("http.sock");
        let tcp = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let doors = Listeners { tcp, unix: Some(listen_unix(&path).unwrap()), tls: None };
        let server = TestServer::at(doors, Policy::new(own_uid(), None), HttpLimits::default());
        let mut slow = open(Client::connect_unix(&path), "");
        let mut quick = open(server.client(), "");
        assert_eq!(slow.short(), "snapshot active []");
        assert_eq!(quick.short(), "snapshot active []");
        let batches: u64 = 10;
        for batch in 0..batches {
            let specs: serde_json::Map<_, _> =
                (0..100).map(|n| (format!("{batch}-{n}"), sh("true", json!([])))).collect();
            server.post(&specs.into()).data();
            let mut ended = 0;
            while ended < 100 {
                ended += usize::from(quick.event()["event"] == "ended");
            }
            let answer = server.ask("DELETE", "/procs?state=terminated");
            assert_eq!(answer.data()["proc_ids"].as_array().unwrap().len(), 100);
            for _ in 0..100 {
                assert!(quick.short().starts_with("deleted "));
            }
        }
        let (mut told, mut skipped, mut there) = (0, 0, std::collections::BTreeSet::new());
        while told + skipped < batches * 300 {
            let event = slow.event();
            told += 1;
            skipped += event.get("skipped").map_or(0, |skipped| skipped.as_u64().unwrap());
            let id = event["id"].as_str().unwrap().to_owned();
            match event["event"].as_str().unwrap() {
                "deleted" => drop(there.remove(&id)),
                _ => drop(there.insert(id)),
            }
        }
        assert_eq!((told + skipped, there.len()), (batches * 300, 0));
        assert!(skipped > 0, "{told} told");
    }
}

#[test]
fn the_end_of_the_actors_ends_the_stream() {
    let server = TestServer::new();
    let mut events = Sse::open(&server, "/events", &[]);
    assert_eq!(events.short(), "snapshot active []");
    server.kill_mock();
    assert_eq!(events.client.chunk(), None);
}

/// Every kind of event with results or stats matches the API description and the documentation.
#[test]
fn events_are_as_described() {
    let world = TestServer::new();
    world.post(&json!({"a": sleeper()})).data();
    let description = world.ask("GET", "/openapi.json").json();
    let schema =
        json!({"$ref": "#/components/schemas/EventBody", "components": description["components"]});
    let validator = jsonschema::validator_for(&schema).unwrap();
    let properties = &description["components"]["schemas"]["EventBody"]["properties"];
    let described: BTreeSet<&str> =
        properties.as_object().unwrap().keys().map(String::as_str).collect();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/http.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let table = docs.split("| key | in | meaning |").nth(1).unwrap().split("\n\n").next().unwrap();
    let first = table.lines().filter_map(|line| line.split('|').nth(1));
    let listed = first.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    assert_eq!(listed.collect::<BTreeSet<_>>(), described);
    let whole = Sse::open(&world, "/events", &[]);
    let brief = Sse::open(&world, "/events?summary=true&stats=0.2&id=a", &[]);
    let (mut whole, mut brief) = (whole, brief);
    let check = |events: &mut Sse, wanted: &[&str]| {
        let mut missing: BTreeSet<&str> = wanted.iter().copied().collect();
        while !missing.is_empty() {
            let event = events.event();
            let errors: Vec<String> = validator
                .iter_errors(&event)
                .map(|error| format!("{} {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{event}: {errors:#?}");
            let keys = event.as_object().unwrap().keys();
            assert!(keys.into_iter().all(|key| described.contains(&**key)), "{event}");
            missing.remove(event["event"].as_str().unwrap());
        }
    };
    check(&mut whole, &["snapshot"]);
    check(&mut brief, &["snapshot", "stats"]);
    world.ask("POST", "/procs/a/signals/KILL").data();
    check(&mut whole, &["ended"]);
    check(&mut brief, &["ended"]);
    world.ask("DELETE", "/procs/a").data();
    check(&mut whole, &["deleted"]);
    let other = json!({"event": "started", "cursor": null, "result": {"state": "running"}});
    assert!(!validator.is_valid(&other));
}
