//! The reference pages have every option, setting, key, route, metric and error text of the program, and no other.
//!
//! Parts of the pages between `<!-- generated: NAME -->` and `<!-- end -->` are made here, of what the program says of itself.
//! Run with `PROCSTAR_PUBLISH=1` to write what has changed.

mod doctor;
mod errors;
mod options;
mod pages;
mod remedies;
mod source;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use super::commands::harness::{Instance, Ran, procstar};
use crate::support::wait::eventually;
use pages::{backticked, page, publish, root, tables};

/// What a command prints, without an instance.
fn printed(args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    Ran::of(procstar(&dir).args(args).output().unwrap()).good()
}

fn printed_json(args: &[&str]) -> Value {
    serde_json::from_str(&printed(args)).unwrap()
}

/// What the service of an instance answers. HTTP/1.0 has no chunks.
pub fn body(instance: &Instance, path: &str) -> String {
    // The file of a socket appears a moment before its listener.
    let mut socket = eventually("listener", || UnixStream::connect(&instance.socket).ok());
    write!(socket, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Comments of `config/procstar.toml`, by setting: those above it.
fn comments() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("config/procstar.toml")).unwrap();
    let (mut section, mut comment, mut done) = (String::new(), String::new(), false);
    let mut all = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            (section, comment) = (name.trim_end_matches(']').to_owned(), String::new());
        } else if let Some((key, _)) = line.trim_start_matches(['#', ' ']).split_once(" = ")
            && line.starts_with('#')
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            all.insert(format!("{section}.{key}"), comment.trim().to_owned());
            done = true;
        } else if let Some(words) = line.strip_prefix("# ") {
            if std::mem::take(&mut done) {
                comment.clear();
            }
            comment = format!("{comment} {}", words.trim());
        } else {
            (comment, done) = (String::new(), false);
        }
    }
    all
}

/// A setting's variable.
fn variable(setting: &str) -> String {
    match setting {
        "agent.group_id" => "PROCSTAR_GROUP_ID".to_owned(),
        other => format!("PROCSTAR_{}", other.replace('.', "_").to_uppercase()),
    }
}

#[test]
fn the_settings_are_in_the_reference() {
    let shown = printed_json(&["config", "show", "-o", "json"]);
    let comments = comments();
    let mut table =
        "| setting | default | variable | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for (name, setting) in shown["settings"].as_object().unwrap() {
        let meaning = comments.get(name).unwrap_or_else(|| panic!("no comment for {name}"));
        // The variable has a column of its own.
        let meaning = meaning.split(" PROCSTAR_").next().unwrap().replace('|', "\\|");
        let default = match &setting["value"] {
            Value::Null => "unset".to_owned(),
            // The test sets it.
            _ if setting["source"] != "default" => "unset".to_owned(),
            value => format!("`{value}`"),
        };
        let variable = variable(name);
        writeln!(table, "| `{name}` | {default} | `{variable}` | {} |", meaning.trim()).unwrap();
    }
    publish("reference/configuration.md", "settings", &table);
}

#[test]
fn the_options_are_in_the_reference() {
    publish("reference/cli.md", "options", &options::tables(printed));
}

#[test]
fn the_metrics_are_in_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = procstar(&dir);
    command.args(["--serve", "--serve-port", "0", "--agent", "--agent-host", "127.0.0.1"]);
    command.args(["--agent-port", "1", "--log-level", "error"]);
    let instance = Instance::start(dir, command);
    instance.ended("a", "exit 3");
    let text = eventually("metrics", || {
        let text = body(&instance, "/metrics");
        text.contains("# TYPE").then_some(text)
    });
    let mut table = "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for family in text.split("# HELP ").skip(1) {
        let (name, help) = family.lines().next().unwrap().split_once(' ').unwrap();
        let kind = family.lines().nth(1).unwrap().rsplit(' ').next().unwrap();
        let samples = family.lines().skip(2).filter_map(|line| line.split_once('{'));
        let labels: BTreeSet<&str> = samples
            .flat_map(|(_, labels)| labels.split('"').step_by(2))
            .filter_map(|label| label.trim_start_matches(',').strip_suffix('='))
            .filter(|label| *label != "le")
            .collect();
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(table, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
    publish("reference/metrics.md", "metrics", &table);
    let known: BTreeSet<&str> = backticked(&table);
    for file in ["prometheus/alerts.yml", "grafana/procstar.json"] {
        let text = std::fs::read_to_string(root().join("examples").join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let metrics = words.filter(|word| word.starts_with("procstar_"));
        let unknown: BTreeSet<&str> = metrics.filter(|word| !known.contains(word)).collect();
        assert!(unknown.is_empty(), "examples/{file} has metrics that do not exist: {unknown:?}");
    }
}

/// Every key of a schema is in its page; a table of keys has none that the schema has not.
#[test]
fn the_keys_of_specs_and_results_are_in_the_reference() {
    for (what, file) in [("specs", "spec"), ("results", "result")] {
        let schema = printed_json(&["schema", what]);
        let definitions = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        let mut keys = BTreeSet::new();
        for definition in definitions {
            keys_of(definition, &mut keys);
        }
        let text = page(&format!("reference/{file}.md"));
        let named = backticked(&text);
        let missing: Vec<_> = keys.iter().filter(|key| !named.contains(key.as_str())).collect();
        assert!(missing.is_empty(), "reference/{file}.md has no {missing:?}");
        let listed = tables(&text, &["key", "key of `stop`"]);
        let listed: Vec<&str> = listed.iter().flat_map(|cell| cell.rsplit('.')).collect();
        let unknown: Vec<_> =
            listed.iter().filter(|key| !keys.contains(**key) && !key.is_empty()).collect();
        assert!(unknown.is_empty(), "reference/{file}.md has keys that do not exist: {unknown:?}");
    }
}

/// The names of all properties of a schema, nested ones included.
fn keys_of(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(entries) => {
            for (name, value) in entries {
                if name == "properties" {
                    keys.extend(value.as_object().unwrap().keys().cloned());
                }
                keys_of(value, keys);
            }
        }
        Value::Array(all) => all.iter().for_each(|one| keys_of(one, keys)),
        _ => {}
    }
}

/// Every route and query parameter is in the page of the HTTP service, and no other.
#[test]
fn the_routes_are_in_the_reference() {
    let instance = Instance::new();
    let api: Value = serde_json::from_str(&body(&instance, "/openapi.json")).unwrap();
    let (mut routes, mut parameters) = (BTreeSet::new(), BTreeSet::new());
    for (path, methods) in api["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "ID").replace("{fd}", "FD").replace("{signal}", "SIGNAL");
        let path = path.replace("{file}", "FILE");
        for (method, operation) in methods.as_object().unwrap() {
            routes.insert(format!("{} {path}", method.to_uppercase()));
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if parameter["in"] == "query" {
                    parameters.insert(parameter["name"].as_str().unwrap().to_owned());
                }
            }
        }
    }
    let text = page("reference/http.md");
    let listed: BTreeSet<String> = tables(&text, &["request"]).into_iter().collect();
    assert_eq!(listed, routes);
    let listed: BTreeSet<String> = tables(&text, &["parameter"]).into_iter().collect();
    assert_eq!(listed, parameters);
}

#[test]
fn the_errors_are_in_the_reference() {
    publish("reference/errors.md", "errors", &errors::page());
}

#[test]
fn the_findings_of_doctor_are_in_the_reference() {
    publish("reference/cli.md", "doctor", &doctor::tables());
    let page = page("reference/cli.md");
    let dir = tempfile::tempdir().unwrap();
    for security in [&[][..], &["--security"]] {
        let mut command = procstar(&dir);
        let ran = command.args(["doctor", "-o", "json"]).args(security).output().unwrap();
        let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
        for check in report["checks"].as_array().unwrap() {
            let name = check["name"].as_str().unwrap();
            let name = name.strip_prefix("strength of ").unwrap_or(name);
            assert!(page.contains(name), "reference/cli.md has no check {name:?}");
        }
    }
}

#[test]
fn the_hidden_options_are_in_the_reference() {
    publish("reference/cli.md", "hidden options", &options::hidden());
}

#[test]
fn the_usage_errors_are_in_the_reference() {
    publish("reference/errors.md", "usage errors", &usage::examples());
}
