//! A control group for each process, in a real hierarchy of version 2.
//!
//! Orphans of these tests become children of another process: the engine knows them only by their
//! groups.

mod harness;

use crate::support::engine::*;
use crate::support::process::is_running;
use crate::support::wait::eventually;
use harness::Parent;
use procstar::cgroup::Group;
use procstar::engine::{
    EngineOptions, ProcessCommand, Relation, StopCause, StopOrder, become_subreaper,
};
use serde_json::{Value, json};
use std::time::Duration;

/// A daemon that leaves the process tree and its session twice, changes its user, and ignores
/// SIGTERM; it writes its pid to the file `$0`.
const DAEMON: &str = r#"setsid -f setsid -f setpriv --reuid=65534 --regid=65534 --clear-groups \
    bash -c 'trap "" TERM; echo $$ >&3; exec 3>&-; while :; do sleep 600; done' 3> "$0" > /dev/null 2>&1
    until [ -s "$0" ]; do sleep 0.01; done"#;

/// A spec that runs a script whose `$0` is this file.
fn script(script: &str, file: &std::path::Path) -> Value {
    json!({"argv": ["/bin/bash", "-c", script, file], "fds": [["stdin", {"null": {}}]]})
}

fn stop_within(seconds: f64) -> ProcessCommand {
    let grace = Some(Duration::from_secs_f64(seconds));
    ProcessCommand::Stop(StopOrder { grace, ..StopOrder::default() })
}

fn pid_in(file: &std::path::Path) -> i32 {
    eventually("the daemon's pid", || {
        std::fs::read_to_string(file).is_ok_and(|t| t.ends_with('\n'))
    });
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

#[test]
fn a_process_runs_in_a_group_of_its_own_until_its_end() {
    let Some(parent) = Parent::new() else { return };
    let mut harness = EngineHarness::new(parent.options());
    let proc = sh("cat /proc/self/cgroup", json!([["stdout", {"capture": {}}]]));
    harness.launch(json!({"a/b": proc}));
    let ended = harness.end("a/b");
    assert!(text(ended, "stdout").contains("/job-a%2Fb\n"), "{}", text(ended, "stdout"));
    let group = ended.group.as_ref().unwrap();
    assert!(!group.left);
    assert!(group.usage.as_ref().unwrap().cpu.unwrap().usage > 0);
    assert!(ended.survivors == procstar::engine::Survivors::default());
    assert!(harness.started["a/b"].group.as_ref().unwrap().ends_with("job-a%2Fb"));
    parent.await_groups(&[]);
}

#[test]
fn a_daemon_of_another_user_dies_with_the_stop_of_its_process() {
    let Some(parent) = Parent::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut harness = EngineHarness::new(parent.options());
    harness.launch(json!({"a": script(&format!("{DAEMON}\nexec sleep 600"), &file)}));
    harness.pid("a");
    let daemon = pid_in(&file);
    assert!(parent.members("job-a").contains(&daemon));
    harness.engine.command("a".into(), stop_within(0.2), 1);
    let ended = harness.end("a");
    assert_eq!(ended.cause, Some(StopCause::Stopped));
    assert!(ended.survivors.listed.is_empty() && !ended.survivors.unknown);
    assert!(!is_running(daemon));
    assert!(harness.stop_failures.is_empty(), "{:?}", harness.stop_failures);
    parent.await_groups(&[]);
}

#[test]
fn a_daemon_that_outlives_its_process_is_listed_exactly_and_keeps_the_group() {
    let Some(parent) = Parent::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut harness = EngineHarness::new(parent.options());
    harness.launch(json!({"a": script(DAEMON, &file), "b": sh("exit 3", json!([]))}));
    let daemon = pid_in(&file);
    let survivors = harness.end("a").survivors.clone();
    // The daemon may be between two runs of `sleep`.
    let listed = survivors.listed.iter().find(|survivor| survivor.pid == daemon).unwrap();
    assert_eq!((listed.relation, survivors.unknown), (Relation::Descendant, false));
    assert!(survivors.listed.len() <= 2, "{survivors:?}");
    let other = harness.end("b");
    assert!(other.survivors == procstar::engine::Survivors::default(), "{:?}", other.survivors);
    parent.await_groups(&["job-a"]);
    // The next process of this ID has another group.
    harness.engine.forget("a".into());
    harness.ended.clear();
    harness.started.clear();
    harness.launch(json!({"a": sh("sleep 600", json!([]))}));
    harness.pid("a");
    parent.await_groups(&["job-a", "job-a~1"]);
    parent.group().child("job-a").unwrap().kill().unwrap();
    eventually("the daemon's end", || !is_running(daemon));
    parent.await_groups(&["job-a~1"]);
    harness.engine.command("a".into(), ProcessCommand::Signal(9), 1);
    harness.end("a");
    parent.await_groups(&[]);
}

#[test]
fn a_process_that_leaves_its_group_is_reported() {
    let Some(parent) = Parent::new() else { return };
    let elsewhere = parent.group().create("elsewhere").unwrap();
    let entrance = elsewhere.path().join("cgroup.procs");
    let mut harness = EngineHarness::new(parent.options());
    harness.launch(json!({"a": script("echo $$ > \"$0\"", &entrance)}));
    let ended = harness.end("a");
    assert_eq!(ended.status, 0);
    assert!(ended.group.as_ref().unwrap().left);
    parent.await_groups(&["elsewhere"]);
}

#[test]
fn groups_that_a_process_makes_in_its_own_are_part_of_it() {
    let Some(parent) = Parent::new() else { return };
    let own = parent.group().path().join("job-a");
    let inner = "mkdir \"$0/x\" \"$0/x/y\"; (echo $BASHPID > \"$0/x/y/cgroup.procs\"
        exec setsid sleep 600) & until read -r < \"$0/x/y/cgroup.procs\"; do :; done";
    let mut harness = EngineHarness::new(parent.options());
    harness.launch(json!({"a": script(inner, &own)}));
    let survivors = harness.end("a").survivors.clone();
    assert_eq!((survivors.listed.len(), survivors.unknown), (1, false), "{survivors:?}");
    assert!(!harness.ended["a"].group.as_ref().unwrap().left);
    Group::open(&own).unwrap().kill().unwrap();
    parent.await_groups(&[]);
}

#[test]
fn a_hundred_processes_have_a_group_each() {
    let Some(parent) = Parent::new() else { return };
    let mut harness = EngineHarness::new(parent.options());
    let specs: serde_json::Map<String, Value> =
        (0..100).map(|n| (format!("p{n}"), json!({"argv": ["/bin/sleep", "600"]}))).collect();
    harness.launch(Value::Object(specs));
    harness.until("all starts", |harness| harness.started.len() == 100);
    for (id, started) in &harness.started {
        assert_eq!(parent.members(&format!("job-{id}")), [started.pid]);
    }
    for n in 0..100 {
        harness.engine.command(format!("p{n}").into(), stop_within(60.0), n);
    }
    harness.until("all ends", |harness| harness.ended.len() == 100);
    assert!(harness.ended.values().all(|ended| ended.status == libc::SIGTERM));
    parent.await_groups(&[]);
}

#[cfg(debug_assertions)]
#[test]
fn without_clone3_the_child_enters_its_group_itself() {
    procstar::engine::failpoints::refuse_clone_into(true);
    // A process with a death signal needs a helper that is a child of this program.
    become_subreaper().unwrap();
    let Some(parent) = Parent::new() else { return };
    let mut harness = EngineHarness::new(parent.options());
    let proc = sh("cat /proc/self/cgroup", json!([["stdout", {"capture": {}}]]));
    let mut signaled = proc.clone();
    signaled["pdeath_signal"] = json!("SIGTERM");
    harness.launch(json!({"a": proc, "b": signaled}));
    for id in ["a", "b"] {
        let ended = harness.end(id);
        let shown = text(ended, "stdout");
        assert!(shown.contains(&format!("/job-{id}\n")), "{id}: {:?}", ended.failures);
        assert!(ended.group.is_some());
    }
    parent.await_groups(&[]);
}

#[test]
fn a_process_without_a_child_leaves_no_group() {
    let Some(parent) = Parent::new() else { return };
    let mut harness = EngineHarness::new(parent.options());
    harness.launch(json!({
        "missing": {"argv": ["/no/such/program"]},
        "no-user": {"argv": ["/bin/true"], "user": "no-such-user"},
    }));
    for id in ["missing", "no-user"] {
        assert!(!harness.end(id).failures.is_empty());
    }
    parent.await_groups(&[]);
}

#[test]
fn a_removed_parent_group_leaves_the_process_tree() {
    let Some(parent) = Parent::new() else { return };
    let gone = parent.group().create("gone").unwrap();
    parent.group().remove("gone").unwrap();
    let groups = Some(std::sync::Arc::new(gone));
    let mut harness = EngineHarness::new(EngineOptions { groups, ..options() });
    harness.launch(json!({"a": sh("exit 3", json!([]))}));
    let ended = harness.end("a");
    assert_eq!((ended.status, ended.group.is_none()), (3 << 8, true));
    assert!(harness.started["a"].group.is_none());
}

#[test]
fn groups_cross_an_upgrade_and_an_adoption() {
    let Some(parent) = Parent::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut harness = EngineHarness::new(parent.options());
    harness.launch(json!({"a": script(&format!("{DAEMON}\nexec sleep 600"), &file)}));
    harness.pid("a");
    let daemon = pid_in(&file);
    let (next, events) = harness.successor();
    let mut harness = harness.continued(next, events);
    harness.engine.command("a".into(), stop_within(0.2), 1);
    let ended = harness.end("a");
    assert!(ended.group.as_ref().unwrap().usage.is_some());
    assert!(!is_running(daemon));
    parent.await_groups(&[]);
}

#[test]
fn an_adopted_process_keeps_its_group() {
    let Some(parent) = Parent::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut harness = EngineHarness::new(parent.options());
    harness.launch(json!({"a": script(&format!("{DAEMON}\nexec sleep 600"), &file)}));
    harness.pid("a");
    let daemon = pid_in(&file);
    let frame = rmp_serde::to_vec(&harness.started["a"]).unwrap();
    // This engine stays paused, as if its program had been killed.
    let (_, pause) = harness.engine.quiesce(crate::support::wait::DEADLINE).unwrap();
    std::mem::forget(pause);
    let mut next = EngineHarness::new(EngineOptions { epoch: 1, ..options() });
    next.engine.adopt(rmp_serde::from_slice(&frame).unwrap(), None);
    next.engine.command("a".into(), stop_within(0.2), 1);
    let ended = next.end("a");
    assert!(ended.group.is_some() && ended.survivors.listed.is_empty());
    assert!(!is_running(daemon));
    let frame = rmp_serde::to_vec(ended).unwrap();
    let read: procstar::engine::Ended = rmp_serde::from_slice(&frame).unwrap();
    assert_eq!((read.group, read.unmeasured), (ended.group.clone(), ended.unmeasured));
    parent.await_groups(&[]);
}
