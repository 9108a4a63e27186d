//! `procstar config show`, as text and as JSON.

use std::collections::BTreeSet;
use std::path::Path;

use procstar::config::keys::{KEYS, find};
use procstar::config::{Layer, Sources, load};

use super::harness::{FakeHost, SYSTEM};

fn showing() -> FakeHost {
    FakeHost::default()
        .file(SYSTEM, "[log]\nlevel = \"info\"\n[agent]\ntoken = \"hunter2\"\n")
        .env("PROCSTAR_AGENT_HOST", "h.test")
        .env("PROCSTAR_GROUP_ID", "g\"")
        .env("PROCSTAR_HTTP_TOKEN_FILE", "/t")
        .file("/t", "8ePqYiqbZ4AnXB2hWx8WQg")
}

#[test]
fn config_show_prints_values_and_origins() {
    let text = showing().shown(&["--agent-port", "7", "config", "show"]);
    let line = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).expect(name);
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("log.level"), format!("log.level = \"info\" # {SYSTEM}:2"));
    assert_eq!(line("agent.token"), format!("agent.token = \"***\" # {SYSTEM}:4"));
    assert_eq!(
        line("agent.host"),
        "agent.host = \"h.test\" # environment variable PROCSTAR_AGENT_HOST"
    );
    assert_eq!(
        line("agent.group_id"),
        "agent.group_id = \"g\\\"\" # environment variable PROCSTAR_GROUP_ID"
    );
    assert_eq!(line("agent.port"), "agent.port = 7 # flag --agent-port");
    assert_eq!(line("agent.cert"), "agent.cert = (unset) # default");
    assert_eq!(line("shutdown.term_grace"), "shutdown.term_grace = 60 # default");
    assert_eq!(
        line("http.token"),
        "http.token = \"***\" # /t, named by environment variable PROCSTAR_HTTP_TOKEN_FILE"
    );
    assert!(!text.contains("hunter2"));
    let columns: BTreeSet<_> =
        text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.find(" = ")).collect();
    assert_eq!(columns.len(), 1, "names are aligned: {text}");
}

#[test]
fn config_show_prints_json() {
    let text = showing().shown(&["config", "show", "-o", "json", "--wait-timeout", "0.5"]);
    assert!(!text.contains("hunter2"));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let settings = json["settings"].as_object().unwrap();
    assert_eq!(settings.len(), KEYS.len());
    assert!(settings.keys().all(|name| find(name).is_some()));
    assert_eq!(
        settings["log.level"],
        serde_json::json!({"value": "info", "source": "file", "path": SYSTEM, "line": 2})
    );
    assert_eq!(
        settings["run.wait_timeout"],
        serde_json::json!({"value": 0.5, "source": "flag", "name": "--wait-timeout"})
    );
    assert_eq!(settings["agent.conn_id"], serde_json::json!({"value": null, "source": "default"}));
    assert_eq!(json["files"], serde_json::json!([{"path": SYSTEM, "state": "read"}]));
}

#[test]
fn config_show_starts_nothing_and_checks_the_whole_configuration() {
    showing().refused(&["-x", "config", "show"]);
    showing().refused(&["config", "show", "spec.json"]);
    FakeHost::default().file(SYSTEM, "x = 1").refused(&["config", "show"]);
    FakeHost::default().shown(&["--agent", "config", "show"]);
}

#[test]
fn nothing_prints_a_secret() {
    let host = showing();
    let run = host.run(&["-x"]);
    assert_eq!(run.settings.agent.token.expose(), "hunter2");
    assert!(!format!("{run:?}").contains("hunter2"));
    let sources = Sources {
        env: &host.env,
        system_file: Path::new(SYSTEM),
        read: &|p| host.read(p),
        trust: &|_, _| Ok(()),
    };
    let loaded = load(&sources, None, Layer::default()).unwrap();
    assert!(!format!("{loaded:?}").contains("hunter2"));
}
