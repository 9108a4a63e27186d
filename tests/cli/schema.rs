//! The published schemas: they are what the program prints, and what it prints of processes is valid by them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use procstar::report::ResultBody;
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
        with("rlimits", json!({"cpus": 1})),
        json!({"specs": {"a": {}}}),
        json!({}),
    ] {
        assert!(!validator.is_valid(&bad), "{bad}");
    }
}

/// A spec with every key, in every form.
fn wide() -> Value {
    serde_json::from_str(include_str!("../fixtures/every_key.json")).unwrap()
}

/// Every place of a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(i, v)| places(v, &format!("{at}/{i}"), found));
        }
        Value::Object(entries) => {
            entries.iter().for_each(|(key, v)| places(v, &format!("{at}/{key}"), found));
        }
        _ => {}
    }
}

/// Whatever stands in whatever place: what the parser accepts, the schema does.
#[test]
fn the_schema_accepts_what_the_parser_accepts() {
    let validator = jsonschema::validator_for(&printed("specs")).unwrap();
    let parses = |spec: &Value| procstar::spec::from_json(spec.to_string().as_bytes());
    let spec = wide();
    parses(&spec).unwrap();
    assert!(validator.is_valid(&spec));
    let mut found = Vec::new();
    places(&spec, "", &mut found);
    let values: Vec<Value> = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(7),
        json!(1.5),
        json!(1e30),
        json!(u64::MAX),
        json!(""),
        json!("x"),
        json!("1"),
        json!("TERM"),
        json!("9"),
        json!("unlimited"),
        json!([]),
        json!([1, 2]),
        json!(["x"]),
        json!(["x", null]),
        json!([["1", "close"]]),
        json!({}),
        json!({"x": 1}),
        json!({"x": "y"}),
        json!("close"),
        json!({"null": {}}),
        json!({"capture": {}}),
    ];
    let mut accepted = 0;
    for at in &found {
        // An array of the same values in the same order, too.
        let fields = match spec.pointer(at) {
            Some(Value::Object(entries)) => Some(Value::Array(entries.values().cloned().collect())),
            _ => None,
        };
        for value in values.iter().chain(&fields) {
            let mut changed = spec.clone();
            *changed.pointer_mut(at).unwrap() = value.clone();
            if parses(&changed).is_ok() {
                accepted += 1;
                assert!(validator.is_valid(&changed), "{at}: {value}");
            }
        }
    }
    assert!(accepted > found.len(), "{accepted} of {}", found.len());
}

/// Serde would deserialize a struct from an array of its values in order.
#[test]
fn arrays_are_rejected_where_objects_are_expected() {
    for (spec, place) in [
        (json!([{}]), ""),
        (json!({"specs": {"a": [["x"]]}}), "specs.a"),
        (json!({"specs": {"a": {"argv": ["x"], "env": [true]}}}), "specs.a.env"),
        (
            json!({"specs": {"a": {"argv": ["x"], "env": {"vars": {"V": ["v"]}}}}}),
            "specs.a.env.vars.V",
        ),
        (
            json!({"specs": {"a": {"argv": ["x"], "fds": [["1", {"capture": ["memory"]}]]}}}),
            "specs.a.fds[0]",
        ),
        (json!({"specs": {"a": {"argv": ["x"], "stop": ["TERM", 1]}}}), "specs.a.stop"),
    ] {
        let errors =
            procstar::spec::from_json(spec.to_string().as_bytes()).unwrap_err().to_string();
        assert!(errors.contains(place) && errors.contains("type: array"), "{spec}: {errors}");
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
    for (id, result) in results.as_object().unwrap() {
        // The client reads all that is written.
        let read: ResultBody<'static, String> = serde_json::from_value(result.clone()).unwrap();
        assert_eq!(&serde_json::to_value(read).unwrap(), result, "{id}");
    }
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

/// Every key of a result, and of its parts, is in its documentation; and the table of a result's keys
/// has these and no others.
#[test]
fn the_documentation_of_results_has_their_keys() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/result.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let words: BTreeSet<&str> =
        docs.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let schema = printed("results");
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        for key in definition["properties"].as_object().into_iter().flat_map(|all| all.keys()) {
            let found = words.contains(key.as_str());
            assert!(found, "{name} has {key}");
        }
    }
    let described = schema["$defs"]["Result"]["properties"].as_object().unwrap();
    let table =
        docs.split("| key | type | meaning |").nth(1).unwrap().split("\n\n").next().unwrap();
    let listed = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<&str> = listed.collect();
    let keys = described.keys().map(String::as_str).filter(|key| *key != "offsets");
    assert_eq!(listed, keys.collect());
}
