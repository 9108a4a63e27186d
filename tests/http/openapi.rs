//! The API description, compared with responses.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::harness::TestServer;
use crate::support::engine::sh;

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn results_have_the_keys_that_are_described() {
    let server = TestServer::new();
    let fds = json!([["stdout", {"capture": {"encoding": "utf-8"}}], ["stderr", {"capture": {}}],
                     ["3", {"capture": {"attached": false}}], ["stdin", {"null": {}}]]);
    server
        .post(&json!({
            "ended": sh("echo out; echo err >&2", fds),
            "runs": {"argv": ["sleep", "1000"], "exe": "/bin/sleep"},
            "bad": {"argv": ["/nonexistent"]},
        }))
        .data();
    server.ended("/procs/ended");
    let description = server.ask("GET", "/openapi.json").json();
    let described = &description["components"]["schemas"]["ProcResult"];
    let all = keys(&described["properties"]);
    let schema = |name: &str| {
        let reference = format!("#/components/schemas/{name}");
        let schema = json!({"$ref": reference, "components": description["components"]});
        jsonschema::validator_for(&schema).unwrap()
    };
    let answers = schema("ProcsAnswer");
    for query in ["", "?output=none&limit=10", "?output=tail"] {
        let answer = server.ask("GET", &format!("/procs{query}")).json();
        let errors: Vec<String> = answers
            .iter_errors(&answer)
            .map(|error| format!("{} {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{query}: {errors:#?}");
        for (id, result) in answer["data"]["procs"].as_object().unwrap() {
            let mut expected = all.clone();
            if query != "?output=tail" {
                expected.remove("offsets");
            }
            assert_eq!(keys(result), expected, "{id} {query}");
        }
    }
    // The schema rejects other bodies.
    let empty = json!({"data": {"procs": {"a": {}}}});
    assert!(!answers.is_valid(&empty));
    let specs = schema("SpecsBody");
    assert!(specs.is_valid(&json!({"specs": {"a": {"argv": ["x"]}}})));
    assert!(!specs.is_valid(&json!({"specs": {"a": {"argvv": ["x"]}}})));
    server.ask("POST", "/procs/runs/signals/KILL").data();
}
