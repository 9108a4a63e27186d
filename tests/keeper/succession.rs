//! The keeper is killed, and its worker becomes the keeper.

use std::collections::BTreeMap;
use std::path::Path;

use super::harness::*;
use crate::support::process::is_running;
use crate::support::wait::eventually;
use procstar::engine::Ended;
use procstar::keeper::format::{ShutdownCommand, ToKeeper, ToWorker};
use procstar::keeper::meaning::Mode;
use serde_json::json;

/// The ends of `count` processes: those that the welcome has, and those that come later.
pub fn ends(worker: &mut Worker, welcome: Welcome, count: usize) -> BTreeMap<String, Box<Ended>> {
    let known = welcome.records.into_iter().filter_map(|record| record.ended);
    let mut ended: BTreeMap<_, _> = known.map(|end| (end.id.to_string(), end)).collect();
    while ended.len() < count {
        match worker.next() {
            ToWorker::Ended(end) => drop(ended.insert(end.id.to_string(), end)),
            ToWorker::Started(_) => {}
            other => panic!("no end but {}", brief(&other)),
        }
    }
    ended
}

/// A script that writes, waits for a file, and writes again; a broken pipe ends it by SIGPIPE.
pub fn waits(gate: &Path, then: &str) -> String {
    let gate = gate.display();
    format!(
        "echo begun; for _ in $(seq 3000); do [ -e {gate} ] && break; sleep 0.01; done; echo went on; {then}"
    )
}

pub fn start(worker: &mut Worker, specs: serde_json::Value) -> Vec<i32> {
    let count = specs.as_object().unwrap().len();
    worker.launch(specs);
    (0..count)
        .map(|_| match worker.next() {
            ToWorker::Started(started) => started.pid,
            other => panic!("no start but {}", brief(&other)),
        })
        .collect()
}

fn check(ended: &BTreeMap<String, Box<Ended>>, id: &str, status: i32, output: &str) {
    let end = &ended[id];
    assert!(!end.lost, "{id} is lost");
    assert_eq!((end.status, stdout(&end.captures)), (status, output.to_owned()), "{id}");
    assert!(end.cut_short.is_empty(), "{id}");
}

/// Processes that end while nobody is there, and such that end later.
#[test]
fn statuses_and_output_survive_the_keeper() {
    let mut keeper = TestKeeper::new();
    let (mut worker, _) = keeper.welcomed();
    let (early, late) = (keeper.dir.path().join("early"), keeper.dir.path().join("late"));
    let pids = start(
        &mut worker,
        json!({
            "file": captured(&waits(&early, "exit 7"), "tempfile"),
            "pipe": captured(&waits(&early, "exit 8"), "memory"),
            "killed": captured(&waits(&early, "kill -9 $$"), "memory"),
        }),
    );
    start(
        &mut worker,
        json!({
            "late file": captured(&waits(&late, "exit 9"), "tempfile"),
            "late pipe": captured(&waits(&late, "exit 10"), "memory"),
        }),
    );
    worker.heard();
    let gone = pids.iter().map(|pid| format!("while kill -0 {pid}; do sleep 0.01; done\n"));
    let between = format!("touch {}\n{}", early.display(), gone.collect::<String>());
    let died = worker.pid;
    keeper.succeed(&worker, &between);
    let (mut worker, welcome) = keeper.welcomed();
    assert!(worker.again && !welcome.first);
    assert_eq!(welcome.pid as i32, died.as_raw(), "the worker's pid is now the keeper's");
    let lock = std::fs::read_to_string(welcome.dir.as_ref().unwrap().join("lock")).unwrap();
    assert_eq!(lock, welcome.pid.to_string());
    std::fs::write(late, "").unwrap();
    let ended = ends(&mut worker, welcome, 5);
    let both = "begun\nwent on\n";
    check(&ended, "file", 7 << 8, both);
    check(&ended, "pipe", 8 << 8, both);
    check(&ended, "killed", libc::SIGKILL, both);
    check(&ended, "late file", 9 << 8, both);
    check(&ended, "late pipe", 10 << 8, both);
    worker.bye(0);
    eventually("the end of the next keeper", || !is_running(died.as_raw()));
}

/// The second holder is another one each time, after the first one's death too.
#[test]
fn the_next_keeper_may_be_killed_too() {
    let mut keeper = TestKeeper::new();
    let (worker, _) = keeper.welcomed();
    worker.die();
    let (mut worker, _) = keeper.welcomed();
    let gate = keeper.dir.path().join("gate");
    start(&mut worker, json!({"a": captured(&waits(&gate, "exit 3"), "memory")}));
    worker.die();
    let (mut worker, _) = keeper.welcomed();
    worker.heard();
    keeper.succeed(&worker, "");
    let (mut worker, welcome) = keeper.welcomed();
    assert_eq!(welcome.brief(), ["a: running"]);
    worker.heard();
    // Its adoption is in the way of no other one.
    worker.launch(json!({"b": captured("echo b; exit 4", "memory")}));
    worker.until("ended b 1024");
    keeper.succeed(&worker, "");
    let (mut worker, welcome) = keeper.welcomed();
    assert_eq!(welcome.brief(), ["a: running", "b: ended 1024"]);
    std::fs::write(gate, "").unwrap();
    let ended = ends(&mut worker, welcome, 2);
    check(&ended, "a", 3 << 8, "begun\nwent on\n");
    check(&ended, "b", 4 << 8, "b\n");
    worker.bye(0);
}

#[test]
fn a_run_that_is_no_service_is_stopped_and_says_so() {
    let mut keeper = TestKeeper::new();
    let mut worker = keeper.worker();
    worker.tell(&ToKeeper::Mode(Mode::OneShot));
    worker.hello(None);
    start(&mut worker, json!({"a": sh("sleep 60"), "b": sh("sleep 60")}));
    let before = keeper.pid();
    keeper.succeed(&worker, "");
    let (mut worker, welcome) = keeper.welcomed();
    assert_eq!(welcome.brief(), ["a: running", "b: running"]);
    assert_eq!(brief(&worker.next()), "order Terminate");
    let order = worker_order();
    for id in ["a", "b"] {
        worker.tell(&ToKeeper::Stop { id: id.into(), order, ticket: 1 });
    }
    let ended = ends_of_stopped(&mut worker);
    assert_eq!(ended, [("a".to_owned(), libc::SIGTERM), ("b".to_owned(), libc::SIGTERM)]);
    let line = format!("procstar: its process {before} was killed; stopping 2 processes\n");
    assert!(keeper.log().contains(&line), "{}", keeper.log());
    worker.bye(0);
}

fn worker_order() -> procstar::engine::StopOrder {
    procstar::engine::StopOrder { shutdown: true, ..Default::default() }
}

fn ends_of_stopped(worker: &mut Worker) -> Vec<(String, i32)> {
    let mut ended = Vec::new();
    while ended.len() < 2 {
        match worker.next() {
            ToWorker::Ended(end) => ended.push((end.id.to_string(), end.status)),
            ToWorker::Signaled { errno: None, .. } => {}
            other => panic!("no end but {}", brief(&other)),
        }
    }
    ended.sort();
    ended
}

/// Orders that the workers have taken in, or that came last, hold for the next keeper.
#[test]
fn orders_survive_the_keeper() {
    let mut keeper = TestKeeper::new();
    let (mut worker, _) = keeper.welcomed();
    start(&mut worker, json!({"a": sh("sleep 60")}));
    keeper.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(brief(&worker.next()), "order Terminate");
    keeper.succeed(&worker, "");
    let (mut worker, _) = keeper.welcomed();
    assert_eq!(brief(&worker.next()), format!("order {:?}", ShutdownCommand::Terminate));
    worker.bye(0);
}

/// An older worker gets no descriptors, and ends as it always did.
#[test]
fn an_older_worker_does_not_become_the_keeper() {
    let mut keeper = TestKeeper::new();
    let mut worker = keeper.worker();
    worker.tell(&worker.greeting(5, None));
    assert_eq!(brief(&worker.next()), "welcome");
    worker.heard();
    keeper.succeed(&worker, "");
    assert!(worker.try_next().is_none());
    let why = "no succession: the keeper has not shared its state";
    eventually("the reason", || keeper.log().contains(why));
}
