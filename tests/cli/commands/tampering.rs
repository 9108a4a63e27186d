//! A descendant reopens the captured output of an ended process and writes to it, as procstar's
//! user and as another user.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::harness::{Instance, Ran, procstar, sockets};
use crate::support::process::kill_instance;
use crate::support::wait::eventually;

/// Another user. Only root can start processes as this user.
const BATCH: u32 = 65001;

/// A script that writes, and leaves a descendant. The descendant waits for a file `go`, overwrites
/// the beginning of the output, and records in `done` whether it could. Meanwhile it has no
/// descriptor to write to the output, only one to read it.
fn attack(dir: &str) -> String {
    format!(
        "printf 'what was written'; exec 9</proc/self/fd/1
        (exec >&- 2>/dev/null </dev/null; until [ -e {dir}/go ]; do sleep 0.01; done
         if printf XXXXXXXXXXXXXXXXXXXXXXXX 1<>/proc/self/fd/9; then echo yes > {dir}/new; else echo no > {dir}/new; fi
         mv {dir}/new {dir}/done) &"
    )
}

/// Runs [`attack`] to the end of its process, with output through a pipe or directly into a file,
/// and returns the result before the descendant writes.
fn ended(instance: &Instance, mode: &str, user: Option<u32>, dir: &str) -> Value {
    let mut job = json!({"argv": ["/bin/sh", "-c", attack(dir)],
        "fds": [["stdout", {"capture": {"mode": mode, "encoding": "utf-8"}}]]});
    if let Some(user) = user {
        (job["user"], job["group"]) = (user.into(), user.into());
    }
    instance.specs(&json!({ "a": job }));
    instance.run(&["wait", "a"]);
    let mut result = instance.run(&["show", "-o", "json", "--captures", "inline", "a"]).json();
    let result = result["a"].take();
    assert_eq!(result["fds"]["stdout"]["text"], "what was written", "{result}");
    assert_eq!(result["captures"]["stdout"]["complete"], true, "{result}");
    result
}

/// Lets the descendant write, and returns whether it could.
fn attacked(dir: &std::path::Path) -> bool {
    std::fs::write(dir.join("go"), "").unwrap();
    eventually("the attack", || std::fs::read_to_string(dir.join("done")).ok()) == "yes\n"
}

fn assert_refused(instance: &Instance, before: &Value) {
    let Ran { code, out, err } = instance.run(&["logs", "a"]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("captured output was changed: stdout of a"), "{err}");
    let shown = instance.run(&["show", "a"]).good();
    assert!(shown.contains("not complete: changed"), "{shown}");
    let result = &instance.run(&["show", "-o", "json", "--captures", "inline", "a"]).json()["a"];
    assert_eq!(result["fds"]["stdout"]["text"], "");
    let report = &result["captures"]["stdout"];
    assert_eq!((&report["complete"], &report["reason"]), (&json!(false), &json!("changed")));
    assert_eq!(report["sha256"], before["captures"]["stdout"]["sha256"]);
}

#[test]
fn every_worker_refuses_output_that_a_descendant_has_changed() {
    let instance = Instance::new();
    let dir = instance.dir.path().to_owned();
    let before = ended(&instance, "tempfile", None, dir.to_str().unwrap());
    assert!(attacked(&dir) || !nix::unistd::Uid::effective().is_root());
    assert_refused(&instance, &before);
    let worker = instance.worker_pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::SIGKILL).unwrap();
    eventually("another worker", || instance.worker_pid() != worker);
    assert_refused(&instance, &before);
    instance.run(&["upgrade", &instance.pid().to_string()]).good();
    assert_refused(&instance, &before);
}

#[test]
fn changed_output_is_refused_after_the_instance_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let command = || {
        let mut command = procstar(&dir);
        command.args(["--serve", "--serve-port", "0", "--state-dir"]).arg(dir.path().join("state"));
        command
    };
    let start = || {
        let child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        eventually("a socket", || sockets(&dir).into_iter().find(|(own, _)| *own == pid));
        child
    };
    let run = |args: &[&str]| {
        let mut command = procstar(&dir);
        Ran::of(command.args(args).output().unwrap())
    };
    let mut first = start();
    let job = json!({"argv": ["/bin/sh", "-c", attack(dir.path().to_str().unwrap())],
        "fds": [["stdout", {"capture": {"encoding": "utf-8"}}]]});
    let file = dir.path().join("spec.json");
    std::fs::write(&file, json!({"specs": {"a": job}}).to_string()).unwrap();
    run(&["start", file.to_str().unwrap()]).good();
    run(&["wait", "a"]);
    assert_eq!(run(&["logs", "a"]).good(), "what was written");
    kill_instance(first.id().cast_signed());
    first.wait().unwrap();
    assert!(attacked(dir.path()));
    let second = start();
    let Ran { code, err, .. } = run(&["logs", "a"]);
    assert!(code == Some(1) && err.contains("captured output was changed: stdout of a"), "{err}");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(second.id() as i32),
        nix::sys::signal::SIGTERM,
    )
    .unwrap();
    { second }.wait().unwrap();
}

#[test]
fn a_descendant_of_another_user_cannot_write_later() {
    let instance = Instance::new();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    ended(&instance, "tempfile", Some(BATCH), dir.path().to_str().unwrap());
    assert!(!attacked(dir.path()), "the descendant could write");
    assert_eq!(instance.run(&["logs", "a"]).good(), "what was written");
}

/// The descendant has a descriptor of the pipe, not of the file.
#[test]
fn output_that_came_through_a_pipe_cannot_be_changed() {
    for user in [None, Some(BATCH)] {
        let instance = Instance::new();
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        ended(&instance, "memory", user, dir.path().to_str().unwrap());
        attacked(dir.path());
        assert_eq!(instance.run(&["logs", "a"]).good(), "what was written");
        let shown = instance.run(&["show", "a"]).good();
        assert!(!shown.contains("not complete"), "{shown}");
    }
}

/// The keeper's user is not root: it cannot open the files for writing that it has made read-only.
#[test]
fn a_survivor_can_write_after_an_upgrade() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(BATCH), Some(BATCH)).unwrap();
    let ours = |mut command: Command| {
        command.uid(BATCH).gid(BATCH);
        command
    };
    let mut command = procstar(&dir);
    command.args(["--serve", "--serve-port", "0"]);
    let log = dir.path().join("log");
    command.stderr(std::fs::File::create(&log).unwrap());
    let instance = Instance::start(dir, ours(command));
    let run = |args: &[&str]| Ran::of(ours(instance.command(args)).output().unwrap());
    let path = instance.dir.path().display();
    let script = format!(
        "(until [ -e {path}/go ]; do sleep 0.01; done; echo more; touch {path}/done; exec sleep 600) & echo $!"
    );
    let job = json!({"argv": ["/bin/sh", "-c", script],
        "fds": [["stdout", {"capture": {"mode": "memory", "encoding": "utf-8"}}]]});
    let file = instance.dir.path().join("spec.json");
    std::fs::write(&file, json!({"specs": {"a": job}}).to_string()).unwrap();
    run(&["start", file.to_str().unwrap()]).good();
    run(&["wait", "a"]);
    run(&["upgrade", &instance.pid().to_string()]).good();
    std::fs::write(instance.dir.path().join("go"), "").unwrap();
    // The survivor neither blocks on its pipe nor gets SIGPIPE.
    eventually("the survivor", || instance.dir.path().join("done").exists());
    let printed = run(&["logs", "a"]).out;
    let survivor: i32 = printed.trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(survivor), nix::sys::signal::SIGKILL)
        .unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("cannot resume"), "{log}");
}
