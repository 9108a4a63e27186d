//! Changes of the log level of a running instance.

use std::fs::File;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::harness::{Instance, procstar};
use crate::support::wait::eventually;

/// An instance started with `--log-level warn`, and its log.
fn logging() -> (Instance, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut command = procstar(&dir);
    command.args(["--serve", "--serve-port", "0", "--log-level", "warn", "--log-format", "json"]);
    command.stderr(File::create(&log).unwrap());
    (Instance::start(dir, command), log)
}

/// Deletes a process, which the worker logs at level debug; returns whether the log has that line.
fn debugs(instance: &Instance, log: &Path, id: &str) -> bool {
    instance.ended(id, "true");
    instance.run(&["rm", id]).good();
    let line = format!("\"proc_id\":\"{id}\"");
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().any(|text| text.contains("process deleted") && text.contains(&line))
}

#[test]
fn the_log_level_can_be_changed_even_if_an_option_sets_it() {
    let (instance, log) = logging();
    assert_eq!(instance.run(&["log-level"]).good(), "warn\n");
    assert!(!debugs(&instance, &log, "a"));
    assert_eq!(instance.run(&["log-level", "debug"]).good(), "debug (configured: warn)\n");
    assert!(debugs(&instance, &log, "b"));
    // The next worker, which reads the same option, has the changed level.
    let worker = instance.worker_pid();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    eventually("another worker", || {
        let level = instance.run(&["log-level"]);
        (level.code == Some(0)).then(|| assert_eq!(level.out, "debug (configured: warn)\n"))
    });
    assert_ne!(instance.worker_pid(), worker);
    assert!(debugs(&instance, &log, "c"));
    assert_eq!(instance.run(&["log-level", "configured"]).good(), "warn\n");
    assert!(!debugs(&instance, &log, "d"));
    let refused = instance.run(&["log-level", "loud"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("trace, debug, info, warn, error, configured"), "{refused:?}");
}

#[test]
fn the_keeper_changes_its_level_too_and_an_upgrade_keeps_it() {
    let (instance, log) = logging();
    instance.run(&["log-level", "info"]).good();
    let text = || std::fs::read_to_string(&log).unwrap();
    // Keeper and worker each log the change.
    eventually("the keeper's line", || text().matches("the log level was changed").count() == 2);
    kill(Pid::from_raw(instance.pid() as i32), Signal::SIGHUP).unwrap();
    eventually("the upgrade", || text().contains("\"upgraded\""));
    eventually("the worker of the new program", || {
        let level = instance.run(&["log-level"]);
        level.code == Some(0) && level.out == "info (configured: warn)\n"
    });
}

#[test]
fn http_changes_and_resets_the_log_level() {
    let (instance, _log) = logging();
    let ask = |body: &str| {
        let socket = instance.socket.to_str().unwrap();
        let script = format!(
            "curl -s --unix-socket {socket} -X PUT -H 'Content-Type: application/json' -d '{body}' http://localhost/log-level"
        );
        serde_json::from_str::<serde_json::Value>(&instance.shell(&script).out).unwrap()
    };
    let set = ask("{\"level\": \"trace\"}");
    assert_eq!(set, json!({"data": {"log_level": {"level": "trace", "configured": "warn"}}}));
    let set = ask("{\"level\": null}");
    assert_eq!(set, json!({"data": {"log_level": {"level": "warn", "configured": "warn"}}}));
    for wrong in ["{\"level\": \"loud\"}", "{}", "{\"level\": \"info\", \"x\": 1}"] {
        let refused = ask(wrong);
        assert!(refused["data"].is_null(), "{refused}");
    }
}
