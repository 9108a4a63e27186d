//! Which processes a stop reaches, and how it reports the ones that it cannot signal.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A bash without a trap; its subshell handles SIGTERM by exiting half a second later. Not dash,
/// which may lose a signal that arrives while it starts a command.
const SAVES: &str =
    "(trap 'sleep 0.5; echo saved; exit' TERM; echo ready; while :; do sleep .05; done); true";

#[test]
fn the_tree_has_its_grace_when_the_leader_ends_first() {
    let output = output(&["-t", "1", "-k", "600", "bash", "-c", SAVES]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(124), "ready\nsaved\n".into()));
}

#[test]
fn a_suspended_process_receives_the_stop_signal() {
    let script = "trap 'echo saved; exit 3' TERM; kill -STOP $$; while :; do sleep 0.05; done";
    let output = output(&["-t", "0.5", "-k", "600", "sh", "-c", script]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(124), "saved\n".into()));
}

#[test]
fn the_shutdown_of_a_one_shot_waits_for_the_tree() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let specs = json!({"specs": {"a": {"argv": ["/bin/bash", "-c", SAVES], "fds": [["stderr", "close"]]}}});
        let mut child = Command::new(env!("CARGO_BIN_EXE_procstar"))
            .args(["--print", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        write!(child.stdin.take().unwrap(), "{specs}").unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "saved", "{signal}");
        let results: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let result = &results["a"];
        assert_eq!((&result["reason"], &result["survivors"]), (&"stopped".into(), &json!([])));
        assert!(child.wait().unwrap().success());
    }
}

/// A set-user-ID program may switch to a user whose processes procstar may not signal.
#[test]
fn stop_failures_are_reported_at_once_and_in_the_result() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(dir.path(), 0o777);
    // That user may not be able to access the directory of the built binary.
    let (tool, program) = (dir.path().join("become"), dir.path().join("procstar"));
    std::fs::copy("/usr/bin/setpriv", &tool).unwrap();
    mode(&tool, 0o4755);
    std::fs::copy(env!("CARGO_BIN_EXE_procstar"), &program).unwrap();
    mode(&program, 0o755);
    let result = dir.path().join("result.json");
    let mut child = Command::new("/usr/bin/setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["run", "-t", "0.3", "-k", "0.2", "--id", "x", "-r"])
        .arg(&result)
        .arg(&tool)
        .args(["--reuid=0", "cat"])
        .env("TMPDIR", dir.path())
        .env("HOME", dir.path())
        .env_remove("XDG_CONFIG_HOME")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    for signal in ["SIGTERM", "SIGKILL"] {
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains(&format!("cannot send {signal} to process ")), "{line}");
        assert!(line.contains("(cat): Operation not permitted"), "{line}");
    }
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(124));
    let results: Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    let failures = results["x"]["stop_failures"].as_array().unwrap();
    let told: Vec<_> = failures.iter().map(|failure| &failure["signal"]).collect();
    assert_eq!(told, ["SIGTERM", "SIGKILL"]);
    assert_eq!(failures[0]["pid"], results["x"]["pid"]);
    assert_eq!(
        (&failures[0]["error"], &results["x"]["reason"]),
        (&"EPERM".into(), &"timeout".into())
    );
}
