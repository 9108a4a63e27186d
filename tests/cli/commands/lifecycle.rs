//! Processes of an instance, from `start` to `prune`.

use std::time::Instant;

use serde_json::{Value, json};

use super::harness::{Instance, words};
use crate::support::wait::eventually;

#[test]
fn commands_show_and_stop_one_process_from_start_to_deletion() {
    let instance = Instance::new();
    let ps = |args: &[&str]| instance.run(&[&["ps"], args].concat()).good();
    assert_eq!(ps(&[]), "ID  STATE  STATUS  PID  AGE  TIME  COMMAND\n");
    assert_eq!(ps(&["-o", "json"]), "{}\n");
    let started = instance.run(&[
        "start", "--id", "nap", "-l", "team=a", "--env", "X=y z", "--cwd", "/", "--", "sleep",
        "1000",
    ]);
    assert_eq!(started.good(), "nap\n");
    let out = ps(&["--state", "running"]);
    let lines = words(&out);
    assert_eq!((lines.len(), &lines[1][..3]), (2, &["nap", "running", "-"][..]), "{out}");
    assert!(out.ends_with("  sleep 1000\n"), "{out}");
    let wide = ps(&["-o", "wide", "-l", "team=a"]);
    assert!(wide.lines().next().unwrap().contains("LABELS  COMMAND"), "{wide}");
    assert!(wide.contains("  team=a  sleep 1000"), "{wide}");
    assert_eq!(ps(&["-q", "-l", "team=b"]), "");
    let shown = instance.run(&["show", "nap"]).good();
    for line in ["ID          nap", "state       running", "directory   /", "labels      team=a"] {
        assert!(shown.lines().any(|own| own == line), "{line}: {shown}");
    }
    let still = instance.run(&["wait", "--timeout", "50ms", "nap"]);
    assert_eq!((still.code, still.out.as_str()), (Some(124), ""));
    assert_eq!(still.err, "procstar: process still running after 0.05 s: nap\n");
    let refused = instance.run(&["rm", "nap"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("stop it first (procstar stop nap), or use rm --force"));
    assert_eq!(instance.run(&["stop", "nap"]).good(), "nap\n");
    // `stop` returns after the end of the process.
    assert_eq!(words(&ps(&[]))[1][..4], ["nap", "terminated", "SIGTERM,", "stopped"]);
    assert_eq!(instance.run(&["wait", "nap"]).code, Some(143));
    assert_eq!(instance.run(&["rm", "nap"]).good(), "nap\n");
    assert_eq!(ps(&["-q"]), "");
}

#[test]
fn json_has_exact_values_and_tables_escape_control_characters() {
    let instance = Instance::new();
    instance.ended("a", "printf 'x\\033y'; exit 3");
    instance.ended("b\u{1b}[2J", "true");
    let all = instance.run(&["ps", "-o", "json"]).json();
    assert_eq!(all.as_object().unwrap().keys().collect::<Vec<_>>(), ["a", "b\u{1b}[2J"]);
    assert_eq!(
        all["a"]["fds"]["stdout"],
        json!({"type": "detached", "length": 3, "encoding": "utf-8"})
    );
    let one = instance.run(&["show", "a", "-o", "json", "--captures", "inline"]).json();
    assert_eq!(one["a"]["fds"]["stdout"]["text"], "x\u{1b}y");
    for key in ["status", "usage", "rusage", "captures", "chunk_times", "pid"] {
        assert_eq!(one["a"][key], all["a"][key], "{key}");
    }
    let lines = instance.run(&["ps", "-o", "jsonl"]).good();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["id"], "a");
    assert_eq!(lines[0]["result"]["status"]["exit_code"], 3);
    // A table contains no control sequence that a terminal would execute.
    let table = instance.run(&["ps"]).good();
    assert!(table.contains("b\\x1b[2J") && !table.contains('\u{1b}'), "{table:?}");
    assert!(instance.run(&["show", "a", "--captures", "tail"]).err.contains("procstar logs ID"));
}

#[test]
fn wait_exits_with_the_status_of_the_process() {
    let instance = Instance::new();
    instance.ended("seven", "exit 7");
    instance.ended("killed", "kill -9 $$");
    instance.ended("good", "true");
    instance.run(&["start", "--id", "none", "--", "/no/such/program"]).good();
    let code = |ids: &[&str]| instance.run(&[&["wait"], ids].concat()).code.unwrap();
    assert_eq!(code(&["seven"]), 7);
    assert_eq!(code(&["killed"]), 137);
    assert_eq!(code(&["none"]), 125);
    assert_eq!(code(&["good", "killed", "seven"]), 137);
    let unknown = instance.run(&["wait", "unknown"]);
    assert_eq!(
        (unknown.code, unknown.err.as_str()),
        (Some(125), "procstar: unknown process: unknown; list processes with 'procstar ps'\n")
    );
    assert_eq!(instance.run(&["wait"]).code, Some(2));
    // `wait` returns only after the end of the process.
    instance.run(&["start", "--id", "slow", "--", "sh", "-c", "sleep 0.5; exit 9"]).good();
    let begin = Instant::now();
    let waited = instance.run(&["wait", "slow", "-o", "jsonl"]);
    assert!(begin.elapsed().as_secs_f64() > 0.2);
    assert_eq!(waited.code, Some(9));
    assert_eq!(
        serde_json::from_str::<Value>(&waited.out).unwrap()["result"]["state"],
        "terminated"
    );
}

#[test]
fn kill_and_stop_signal_processes_and_report_failures() {
    let instance = Instance::new();
    let trap = "trap 'echo got it' USR1; trap '' TERM; echo ready; while :; do sleep 0.05; done";
    instance.run(&["start", "--id", "tough", "--", "sh", "-c", trap]).good();
    let log = |wanted: &str| {
        eventually(wanted, || instance.run(&["logs", "tough"]).good().contains(wanted));
    };
    log("ready");
    assert_eq!(instance.run(&["kill", "-s", "usr1", "tough"]).good(), "tough\n");
    log("got it");
    let bad = instance.run(&["kill", "-s", "NOSUCH", "tough"]);
    assert_eq!(bad.code, Some(1));
    assert!(bad.err.contains("NOSUCH"), "{bad:?}");
    // A failure for one process does not keep the others from their signal.
    let both = instance.run(&["kill", "nobody", "tough"]);
    assert_eq!((both.code, both.out.as_str()), (Some(1), "tough\n"));
    assert_eq!(both.err, "procstar: unknown process: nobody; list processes with 'procstar ps'\n");
    let begin = Instant::now();
    assert_eq!(
        instance.run(&["stop", "--grace", "200ms", "--signal", "15", "tough"]).good(),
        "tough\n"
    );
    assert!(begin.elapsed().as_millis() >= 200);
    assert_eq!(instance.run(&["wait", "tough"]).code, Some(137));
    assert_eq!(instance.run(&["stop", "tough"]).code, Some(1));
    instance.run(&["start", "--id", "rest", "--", "sleep", "1000"]).good();
    assert_eq!(instance.run(&["rm", "-f", "rest", "tough"]).good(), "rest\ntough\n");
    assert_eq!(instance.run(&["ps", "-q"]).good(), "");
}

/// The kernel's state T is shown as `suspended` until SIGCONT; the `state` of a result is still
/// `running`.
#[test]
fn a_process_stopped_by_a_signal_is_shown_as_suspended() {
    let instance = Instance::new();
    instance.run(&["start", "--id", "nap", "--", "sleep", "1000"]).good();
    for (signal, state) in [("STOP", "suspended"), ("CONT", "running")] {
        instance.run(&["kill", "-s", signal, "nap"]).good();
        eventually(state, || {
            let table = instance.run(&["ps"]).good();
            words(&table)[1][..2] == ["nap", state]
        });
        let shown = instance.run(&["show", "nap"]).good();
        assert!(shown.lines().any(|line| line == format!("state       {state}")), "{shown}");
        let top = instance.run(&["top", "--once"]).good();
        let row = top.lines().find(|line| line.starts_with("nap ")).unwrap().to_owned();
        assert!(row.split_whitespace().any(|word| word == state), "{top}");
        let top = instance.run(&["top", "--once", "-o", "json"]).json();
        assert_eq!(top["processes"][0]["state"], state);
        assert_eq!(instance.run(&["show", "nap", "-o", "json"]).json()["nap"]["state"], "running");
    }
}

#[test]
fn an_invalid_spec_is_reported_with_its_position() {
    let instance = Instance::new();
    let file = instance.dir.path().join("spec.json");
    std::fs::write(&file, "{\"specs\": {\"a\": {\"argv\": [\"x\"],\n \"cwd\": 7}}}").unwrap();
    let path = file.to_str().unwrap();
    let refused = instance.run(&["start", path]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    let start = format!("procstar: {path}:2:9: specs.a.cwd: ");
    assert!(refused.err.starts_with(&start), "{refused:?}");
    let absent = instance.run(&["start", "/no/such/file"]);
    assert_eq!(absent.code, Some(2));
    assert!(absent.err.starts_with("procstar: cannot read /no/such/file: No such file"));
    assert_eq!(instance.run(&["start", path, "--", "true"]).code, Some(2));
    assert_eq!(instance.run(&["start"]).code, Some(2));
    let piped = instance.shell(
        r#"echo '{"specs": {"p": {"argv": ["/bin/true"]}, "q": {"argv": ["/bin/true"]}}}' | procstar start - -o json"#,
    );
    assert_eq!(piped.json(), json!({"proc_ids": ["p", "q"]}));
    let again = instance.run(&["start", "--id", "p", "--", "true"]);
    assert_eq!(again.code, Some(1));
    assert_eq!(
        again.err,
        "procstar: process ID already in use: p; delete the process first, or choose another ID\n"
    );
}

#[test]
fn prune_deletes_only_selected_ended_processes() {
    let instance = Instance::new();
    instance.run(&["start", "--id", "a1", "-l", "job=a", "--", "true"]).good();
    instance.run(&["start", "--id", "b1", "-l", "job=b", "--", "false"]).good();
    instance.run(&["start", "--id", "none", "-l", "job=b", "--", "/no/such"]).good();
    instance.run(&["start", "--id", "run", "-l", "job=b", "--", "sleep", "1000"]).good();
    instance.run(&["wait", "a1", "b1"]);
    let prune = |args: &[&str]| instance.run(&[&["prune"], args].concat());
    let nothing = prune(&[]);
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(2), ""));
    assert!(nothing.err.contains("--all for all ended processes"));
    assert_eq!(prune(&["--older-than", "1h"]).good(), "");
    assert_eq!(prune(&["-l", "job=b", "--dry-run"]).good(), "b1\nnone\n");
    assert_eq!(prune(&["-l", "job=b", "--state", "error"]).good(), "none\n");
    assert_eq!(prune(&["--all", "-n"]).good(), "a1\nb1\n");
    assert_eq!(prune(&["--all", "-o", "json"]).json(), json!({"proc_ids": ["a1", "b1"]}));
    assert_eq!(instance.run(&["ps", "-q"]).good(), "run\n");
    let bad = prune(&["--state", "dead"]);
    assert_eq!(bad.code, Some(2));
    assert!(bad.err.contains("possible values: running, terminated, error"), "{bad:?}");
    assert!(prune(&["--older-than", "soon"]).err.contains("invalid duration \"soon\""));
}

#[test]
fn ps_lists_more_processes_than_one_page() {
    let instance = Instance::new();
    let ids: Vec<String> = (0..1203).map(|n| format!("p{n}")).collect();
    let specs = ids.iter().map(|id| (id.clone(), json!({"argv": ["/bin/true"]}))).collect();
    instance.specs(&Value::Object(specs));
    let shown = instance.run(&["ps", "-q"]).good();
    let mut shown: Vec<&str> = shown.lines().collect();
    let mut lines: Vec<String> = instance
        .run(&["ps", "-o", "jsonl"])
        .good()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().into())
        .collect();
    shown.sort_unstable();
    lines.sort_unstable();
    let mut wanted = ids;
    wanted.sort_unstable();
    assert_eq!(shown, wanted);
    assert_eq!(lines, wanted);
}
