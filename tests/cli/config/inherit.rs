//! Environment variables that processes never inherit: the program and the documentation agree.

use std::process::{Command, Stdio};

use procstar::config::NEVER_INHERITED;
use serde_json::{Value, json};

/// Returns the names of the variables of a process with the spec `env`. The program itself has all
/// variables of [`NEVER_INHERITED`], and `PLAIN`.
fn environment(env: &Value) -> Vec<String> {
    let spec = json!({"specs": {"p": {
        "argv": ["/usr/bin/env"],
        "env": env,
        "fds": [["stdout", {"capture": {"encoding": "utf-8"}}]],
    }}});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), spec.to_string()).unwrap();
    let empty = tempfile::NamedTempFile::new().unwrap();
    let value = |name: &&str| match *name {
        // The program itself reads these.
        "PROCSTAR_AGENT_TOKEN_FILE" | "PROCSTAR_HTTP_TOKEN_FILE" => empty.path().to_owned(),
        "PROCSTAR_HTTP_TOKEN" => "8ePqYiqbZ4AnXB2hWx8WQg".into(),
        "CREDENTIALS_DIRECTORY" => "/nowhere".into(),
        _ => "1".into(),
    };
    let output = Command::new(env!("CARGO_BIN_EXE_procstar"))
        .arg("--print")
        .arg(file.path())
        .env_clear()
        .envs(NEVER_INHERITED.iter().map(|name| (name, value(name))))
        .env("PLAIN", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = results["p"]["fds"]["stdout"]["text"].as_str().unwrap();
    text.lines().map(|line| line.split('=').next().unwrap().to_owned()).collect()
}

#[test]
fn processes_inherit_neither_secrets_nor_the_service_managers_channels() {
    assert_eq!(environment(&json!({"inherit": true})), ["PLAIN"]);
    let names = [NEVER_INHERITED, &["PLAIN"]].concat();
    assert_eq!(environment(&json!({"inherit": names})), ["PLAIN"], "not by name either");
    let own = json!({"inherit": false, "vars": {"NOTIFY_SOCKET": "own"}});
    assert_eq!(environment(&own), ["NOTIFY_SOCKET"], "a spec can set one of its own");
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"] {
        assert!(NEVER_INHERITED.contains(&name), "{name}");
    }
}

#[test]
fn the_documentation_lists_the_variables_that_are_never_inherited() {
    let docs = std::fs::read_to_string("docs/reference/configuration.md").unwrap();
    let (_, section) = docs.split_once("### Variables that processes never inherit").unwrap();
    let (section, _) = section.split_once("Other variables of a service manager").unwrap();
    let mut listed: Vec<&str> = section
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    let mut code = NEVER_INHERITED.to_vec();
    listed.sort_unstable();
    code.sort_unstable();
    assert_eq!(listed, code);
}
