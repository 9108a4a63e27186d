//! Processes that extend their output to ten terabytes with `truncate`: results stay small, and the
//! size of files can be limited.

use serde_json::{Value, json};

use super::{print, procstar, run_with, stderr};

const SIZE: u64 = 10 << 40;

fn sparse(script: &str) -> Value {
    json!({"argv": ["/bin/sh", "-c", script], "fds": [["stdout", {"capture": {"encoding": "utf-8"}}]]})
}

#[test]
fn ten_terabytes_of_zeros_are_reported_as_a_length_with_a_warning() {
    let mut job = sparse("echo first; truncate -s 10T /dev/stdout");
    job["fds"].as_array_mut().unwrap().push(json!(["stderr", {"capture": {"encoding": "utf-8"}}]));
    let result = &print(&json!({"specs": {"a": job}}))["a"];
    let length = result["captures"]["stdout"]["length"].as_u64().unwrap();
    assert!(SIZE - length <= 16, "{length}");
    let shown = json!({"type": "detached", "length": length, "encoding": "utf-8"});
    assert_eq!(result["fds"]["stdout"], shown);
    // Another fd of the same result still fits.
    assert_eq!(result["fds"]["stderr"], json!({"type": "text", "text": "", "encoding": "utf-8"}));
    let notice = format!(
        "the output of stdout, {length} bytes, is detached: one result contains at most 1073741824 bytes of output \
         (capture.max_inline); read it by range"
    );
    assert_eq!(result["warnings"], json!([notice]));
}

#[test]
fn fds_share_the_maximum_output_of_one_result() {
    let mut command = procstar();
    command.args(["--print", "-"]).env("PROCSTAR_CAPTURE_MAX_INLINE", "10");
    let text = json!({"capture": {"encoding": "utf-8"}});
    let job = json!({"argv": ["/bin/sh", "-c", "printf 123456; printf 123456 >&2; printf 1234 >&3"],
        "fds": [["stdout", text], ["stderr", text], ["3", text]]});
    let output = run_with(command, &json!({"specs": {"a": job}}).to_string());
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fds = &results["a"]["fds"];
    assert_eq!(fds["stdout"]["text"], "123456");
    assert_eq!(fds["stderr"], json!({"type": "detached", "length": 6, "encoding": "utf-8"}));
    assert_eq!(fds["3"]["text"], "1234");
    assert_eq!(results["a"]["warnings"].as_array().unwrap().len(), 1);
}

#[test]
fn sigxfsz_kills_a_process_that_exceeds_the_maximum_file_size() {
    let run = |limits: &Value, script: &str| {
        let mut command = procstar();
        command.args(["--print", "-"]).env("PROCSTAR_RUN_MAX_FILE_SIZE", "1000");
        let mut job = sparse(script);
        job["rlimits"] = limits.clone();
        let output = run_with(command, &json!({"specs": {"a": job}}).to_string());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["a"].take()
    };
    let result = run(&json!({}), "ulimit -f; ulimit -Hf; exec truncate -s 10T /dev/stdout");
    assert_eq!(result["status"]["signal"], "SIGXFSZ", "{result}");
    // ulimit prints units of 512 bytes.
    assert_eq!(result["fds"]["stdout"]["text"], "1\n1\n");
    let result = run(&json!({"fsize": 512}), "exec head -c 1000 /dev/zero");
    assert_eq!(result["status"]["signal"], "SIGXFSZ", "{result}");
    assert_eq!(result["captures"]["stdout"]["length"], 512);
    let refused = run(&json!({"fsize": [10, "unlimited"]}), "echo never");
    assert_eq!(refused["state"], "error");
    assert_eq!(
        refused["errors"],
        json!([
            "failed to set limits: fsize: above run.max_file_size, 1000 bytes: ask for no more, or raise that setting"
        ])
    );
    assert_eq!(refused["failures"][0]["errno"], Value::Null);
}
