//! `procstar events` and `procstar top`.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::harness::{Instance, Running, words};
use crate::support::wait::eventually;

#[test]
fn events_reports_every_change() {
    let instance = Instance::new();
    instance.ended("old", "true");
    let mut all = Running::new(instance.command(&["events", "-o", "jsonl"]));
    let mut people = Running::new(instance.command(&["events"]));
    let mut one = Running::new(instance.command(&["events", "b"]));
    all.until("snapshot");
    people.until("1 process\n");
    instance.ended("a", "exit 3");
    // `events b` prints no snapshot, so it may not have connected yet: repeat until it prints.
    eventually("b", || {
        instance.ended("b", "true");
        instance.run(&["rm", "b"]).good();
        let mut ready = [nix::poll::PollFd::new(
            std::os::fd::AsFd::as_fd(one.child.stdout.as_ref().unwrap()),
            nix::poll::PollFlags::POLLIN,
        )];
        nix::poll::poll(&mut ready, nix::poll::PollTimeout::ZERO).unwrap() > 0
    });
    one.until("deleted   b\n");
    all.until("\"event\":\"deleted\"");
    people.until("deleted   b\n");
    let events: Vec<Value> =
        all.text.lines().take(4).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["procs"]["old"]["state"], "terminated");
    assert_eq!((&events[1]["event"], &events[1]["id"]), (&"started".into(), &"a".into()));
    assert_eq!(events[2]["result"]["status"]["exit_code"], 3);
    let lines = words(&people.text);
    assert_eq!(lines[0][1..], ["snapshot", "1", "process"]);
    assert_eq!(lines[1][1..4], ["started", "a", "pid"]);
    assert_eq!(lines[2][1..], ["ended", "a", "exit", "3"]);
    assert!(!one.text.contains("  a  "), "{}", one.text);
    // `--after CURSOR` continues after that event, without a snapshot.
    let cursor = events[2]["cursor"].as_str().unwrap();
    let mut rest = Running::new(instance.command(&["events", "--after", cursor]));
    rest.until("b");
    assert!(!rest.text.contains("snapshot"), "{}", rest.text);
    drop(instance);
    let (code, text) = people.end();
    assert!(code == Some(0) && text.contains("shutdown  done"), "{code:?} {text}");
}

#[test]
fn events_outlive_the_worker() {
    let instance = Instance::new();
    let mut events = Running::new(instance.command(&["events"]));
    events.until("snapshot");
    kill(Pid::from_raw(instance.worker_pid()), Signal::SIGKILL).unwrap();
    // The next worker does not know the cursors of the killed one, so the stream is reset.
    events.until("reset");
    events.until_times("snapshot", 2);
    instance.ended("after", "true");
    events.until("ended     after  exit 0\n");
}

#[test]
fn top_prints_once_into_a_pipe() {
    let instance = Instance::new();
    instance.run(&["start", "--id", "busy", "--", "sh", "-c", "while :; do :; done"]).good();
    instance.run(&["start", "--id", "idle", "--", "sleep", "1000"]).good();
    instance.ended("gone", "true");
    let lines = eventually("share", || {
        let out = instance.run(&["top"]).good();
        let busy = words(&out).into_iter().find(|line| line.first() == Some(&"busy"))?;
        (busy[3].parse::<f64>().unwrap() > 5.0).then_some(out)
    });
    let lines = words(&lines);
    assert_eq!(lines[0][..2], ["procstar", "2.0.0"]);
    assert_eq!(lines[1][..4], ["2", "running,", "1", "terminated,"]);
    assert_eq!(lines[3][..4], ["ID", "PID", "STATE", "CPU%"]);
    assert_eq!((lines[4][0], lines[5][0], lines.len()), ("busy", "idle", 6));
    let json = instance.run(&["top", "-o", "json", "-n", "1"]).json();
    assert_eq!(json["processes"].as_array().unwrap().len(), 1);
    assert_eq!(json["processes"][0]["id"], "busy");
    assert!(json["processes"][0]["rss"].as_u64().unwrap() > 100_000);
}
