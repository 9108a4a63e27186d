//! The published schemas: they are what the program prints, and what it prints of processes is valid by them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

fn procstar(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procstar"));
    command.args(args).stdin(Stdio::null());
    command
}

fn printed(what: &str) -> Value {
    let output = procstar(&["schema", what]).output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Run with `PROCSTAR_PUBLISH=1` to publish what has changed.
#[test]
fn the_published_schemas_are_what_the_program_prints() {
    for (what, file) in [("specs", "spec"), ("results", "result")] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{file}.schema.json"));
        let output = procstar(&["schema", what]).output().unwrap().stdout;
        if std::env::var_os("PROCSTAR_PUBLISH").is_some() {
            std::fs::write(&path, &output).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == output, "{} is out of date", path.display());
        assert!(jsonschema::meta::is_valid(&serde_json::from_slice(&output).unwrap()));
    }
}

#[test]
fn the_examples_are_valid() {
    let validator = jsonschema::validator_for(&printed("specs")).unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let spec = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert!(validator.is_valid(&spec), "{}", path.display());
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn specs_that_the_parser_refuses_for_their_form_are_not_valid() {
    let validator = jsonschema::validator_for(&printed("specs")).unwrap();
    let with = |key: &str, value: Value| json!({"specs": {"a": {"argv": ["x"], key: value}}});
    assert!(validator.is_valid(&with("cwd", json!("/tmp"))));
    for bad in [
        with("argvv", json!([])),
        with("cwd", json!(7)),
        with("fds", json!([["x1", "close"]])),
        with("fds", json!([["1", {"capture": {"mode": "memry"}}]])),
        with("limits", json!({"cpus": 1})),
        json!({"specs": {"a": {}}}),
        json!({}),
    ] {
        assert!(!validator.is_valid(&bad), "{bad}");
    }
}

#[test]
fn results_are_valid() {
    let capture = |encoding: Value, attached: bool| json!({"capture": {"encoding": encoding, "attached": attached}});
    let specs = json!({"specs": {
        "ends": {"argv": ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], "labels": {"team": "a"}, "fds": [
            ["stdin", {"null": {}}], ["stdout", capture(json!("utf-8"), true)], ["stderr", capture(json!(null), true)],
            ["5", capture(json!(null), false)]]},
        "dies": {"argv": ["/bin/sh", "-c", "kill -34 $$"]},
        "missing": {"argv": ["/no/such/program"], "fds": [["1", capture(json!("utf-8"), true)]]},
        "no fd": {"argv": ["/bin/true"], "fds": [["0", {"file": {"path": "/no/such/file"}}]]},
    }});
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("specs.json");
    std::fs::write(&path, specs.to_string()).unwrap();
    let output = procstar(&["--print", path.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results.as_object().unwrap().len(), 4);
    let validator = jsonschema::validator_for(&printed("results")).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&results)
        .map(|error| format!("{} {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    // It says something: neither a missing key nor another type passes.
    for (key, value) in [("usage", None), ("pid", Some(json!("7"))), ("state", Some(json!("gone")))]
    {
        let mut bad = results.clone();
        let result = bad["ends"].as_object_mut().unwrap();
        match value {
            None => drop(result.remove(key)),
            Some(value) => drop(result.insert(key.to_owned(), value)),
        }
        assert!(!validator.is_valid(&bad), "{key}");
    }
    let mut bad = results.clone();
    bad["ends"]["status"]["more"] = json!(1);
    assert!(!validator.is_valid(&bad));
}
