//! One worker after another.

use super::harness::*;
use crate::support::process::is_running;
use crate::support::wait::eventually;
use procstar::keeper::format::{
    MAX_FRAME, Printing, ShutdownCommand, ToKeeper, ToWorker, VERSION, WorkerState,
};
use procstar::page_key::PageKey;
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn the_next_worker_gets_all() {
    let mut keeper = TestKeeper::new();
    let gate = keeper.dir.path().join("gate");
    let mut worker = keeper.worker();
    let input = || Some(request(json!({"i": sh("echo input"), "j": sh("exit 1")})));
    let welcome = worker.hello(input());
    assert_eq!(welcome.brief().len(), 2);
    let told = [
        brief(&worker.next()),
        brief(&worker.next()),
        brief(&worker.next()),
        brief(&worker.next()),
    ];
    assert!(told.contains(&"ended i 0".into()) && told.contains(&"ended j 256".into()), "{told:?}");
    // Out of the order of their ends and of the alphabet.
    worker.launch(json!({"z": until_exists(&gate, "echo z")}));
    for (id, code) in [("a", 2), ("gone", 0), ("m", 3)] {
        worker.launch(json!({id: sh(&format!("exit {code}"))}));
        worker.until(&format!("ended {id} {}", code << 8));
    }
    let memory = WorkerState {
        conn_id: Some("me".into()),
        orders: vec![ShutdownCommand::Idle, ShutdownCommand::GiveUp],
        any: true,
        given: vec![1, 2],
        printing: Printing::Begun,
        log_level: None,
        page_key: Some(PageKey::random()),
    };
    worker.tell(&ToKeeper::Remember(WorkerState::default()));
    worker.tell(&ToKeeper::Remember(memory.clone()));
    worker.forget("gone");
    worker.heard();
    let before = worker.pid;
    worker.die();
    let mut worker = keeper.worker();
    assert!(worker.again && worker.pid != before);
    // INPUT is not started again, though this one names it.
    let welcome = worker.hello(input());
    assert!(!welcome.first);
    assert_eq!(welcome.memory, memory);
    let brief_of = welcome.brief();
    assert_eq!(brief_of[2..], ["z: running", "a: ended 512", "m: ended 768"]);
    assert_eq!(brief_of[..2], ["i: ended 0", "j: ended 256"]);
    let i = welcome.records[0].ended.as_ref().unwrap();
    assert_eq!(stdout(&i.captures), "input\n");
    std::fs::write(gate, "").unwrap();
    let ToWorker::Ended(z) = worker.next() else { panic!("no end") };
    assert_eq!((z.id.as_str(), stdout(&z.captures)), ("z", "z\n".into()));
    worker.bye(0);
    assert_eq!(keeper.ended(), Some(0));
}

#[test]
fn an_unreported_end_is_reported_once_to_the_next_worker() {
    let keeper = TestKeeper::new();
    let gate = keeper.dir.path().join("gate");
    let (mut worker, _) = keeper.welcomed();
    worker.launch(json!({"a": until_exists(&gate, "exit 4"), "b": until_exists(&gate, "exit 5")}));
    worker.until("started b");
    worker.die();
    let mut worker = keeper.worker();
    std::fs::write(gate, "").unwrap();
    let welcome = worker.hello(None);
    let mut known: Vec<String> = welcome.brief();
    known.retain(|record| record.contains("ended"));
    while known.len() < 2 {
        match worker.next() {
            ToWorker::Ended(ended) => known.push(format!("{}: ended {}", ended.id, ended.status)),
            other => panic!("{} once more", brief(&other)),
        }
    }
    known.sort();
    assert_eq!(known, ["a: ended 1024", "b: ended 1280"]);
    // And nothing else.
    worker.heard();
}

#[test]
fn workers_that_die_young_come_back_later_and_later() {
    let keeper = TestKeeper::new();
    let (worker, _) = keeper.welcomed();
    worker.die();
    let waits: Vec<Duration> = (0..4)
        .map(|_| {
            let died = Instant::now();
            let (worker, _) = keeper.welcomed();
            let wait = died.elapsed();
            worker.die();
            wait
        })
        .collect();
    // How long a process takes to start comes on top.
    for (wait, least) in waits.iter().zip([50, 100, 200, 400]) {
        assert!(*wait >= Duration::from_millis(least - 5), "{waits:?}");
    }
}

#[test]
fn a_worker_that_ends_before_its_introduction_ends_the_keeper() {
    let mut keeper = TestKeeper::new();
    keeper.worker().exit(42);
    assert_eq!(keeper.ended(), Some(42));
    assert_eq!(keeper.remains(), 0);
}

#[test]
fn workers_that_never_say_a_word_are_given_up() {
    let mut keeper = TestKeeper::new();
    for _ in 0..5 {
        keeper.worker().die();
    }
    assert_eq!(keeper.ended(), Some(1));
}

#[test]
fn another_version_is_refused() {
    let mut keeper = TestKeeper::new();
    let mut worker = keeper.worker();
    worker.tell(&worker.greeting(VERSION + 1, None));
    let refused = brief(&worker.next());
    assert!(refused.starts_with("refused: the keeper speaks version"), "{refused}");
    worker.exit(2);
    assert_eq!(keeper.ended(), Some(2));
    assert_eq!(keeper.remains(), 0);
}

#[test]
fn another_version_later_costs_no_process() {
    let keeper = TestKeeper::new();
    let gate = keeper.dir.path().join("gate");
    let (mut worker, _) = keeper.welcomed();
    worker.launch(json!({"a": until_exists(&gate, "exit 4")}));
    worker.until("started a");
    worker.die();
    let mut worker = keeper.worker();
    worker.tell(&worker.greeting(VERSION + 1, None));
    assert!(brief(&worker.next()).starts_with("refused"));
    worker.exit(2);
    let (mut worker, welcome) = keeper.welcomed();
    assert_eq!(welcome.brief(), ["a: running"]);
    std::fs::write(gate, "").unwrap();
    worker.until("ended a 1024");
}

#[test]
fn a_directory_that_cannot_be_used_is_said() {
    let mut keeper = TestKeeper::new();
    keeper.settings.state_dir = Some(keeper.dir.path().join("no/such"));
    let mut worker = keeper.worker();
    worker.tell(&worker.greeting(VERSION, Some(request(json!({"a": sh("")})))));
    let refused = brief(&worker.next());
    assert!(refused.starts_with("refused: cannot use state directory"), "{refused}");
    worker.exit(2);
    assert_eq!(keeper.ended(), Some(2));
}

#[test]
fn workers_that_talk_nonsense_are_replaced_and_no_process_is_lost() {
    let keeper = TestKeeper::new();
    let gate = keeper.dir.path().join("gate");
    let (mut worker, _) = keeper.welcomed();
    worker.launch(json!({"a": until_exists(&gate, "exit 4")}));
    worker.until("started a");
    let launch = frame(&ToKeeper::Launch(request(json!({"b": sh("")}))));
    let too_large = u32::try_from(MAX_FRAME + 1).unwrap().to_be_bytes();
    // Garbage with a plausible length; no map at all; a frame too large.
    for nonsense in [&b"\0\0\0\x04zzzz"[..], b"\0\0\0\0", &too_large] {
        worker.raw(nonsense);
        assert!(worker.try_next().is_none(), "it is killed");
        let welcome;
        (worker, welcome) = keeper.welcomed();
        assert_eq!(welcome.brief(), ["a: running"]);
    }
    // Cut off in the header, in the body, before the last byte: it never was.
    for cut in [2, launch.len() - 1] {
        worker.raw(&launch[..cut]);
        worker.exit(0);
        let welcome;
        (worker, welcome) = keeper.welcomed();
        assert_eq!(welcome.brief(), ["a: running"]);
    }
    std::fs::write(gate, "").unwrap();
    worker.until("ended a 1024");
}

#[test]
fn a_worker_that_closes_its_socket_is_replaced() {
    let keeper = TestKeeper::new();
    let (worker, _) = keeper.welcomed();
    let pid = worker.pid;
    worker.close();
    let (_, welcome) = keeper.welcomed();
    assert!(!welcome.first && !is_running(pid.as_raw()));
}

#[test]
fn messages_before_the_introduction_are_ignored() {
    let keeper = TestKeeper::new();
    let mut worker = keeper.worker();
    worker.launch(json!({"a": sh("")}));
    worker.tell(&ToKeeper::Forget("a".into()));
    worker.tell(&ToKeeper::Remember(WorkerState { any: true, ..WorkerState::default() }));
    let welcome = worker.hello(None);
    assert!(welcome.first && welcome.records.is_empty() && !welcome.memory.any);
}

/// After the confirmation, no later worker and no journal lists the process. A running one stays.
#[test]
fn deleted_processes_leave_table_and_journal() {
    let mut keeper = TestKeeper::with_state_dir();
    let gate = keeper.dir.path().join("gate");
    let (mut worker, _) = keeper.welcomed();
    worker.launch(json!({"runs": until_exists(&gate, ""), "gone": sh("")}));
    worker.until("ended gone 0");
    worker.tell(&ToKeeper::Forget("runs".into()));
    worker.tell(&ToKeeper::Forget("gone".into()));
    worker.until("forgotten gone");
    let journal = keeper.settings.state_dir.as_ref().unwrap().join("journal");
    let ids = |records: &[procstar::keeper::format::ProcessEntry]| {
        records.iter().map(|record| record.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&procstar::keeper::journal::read(&journal).unwrap()), ["runs"]);
    worker.die();
    let (mut worker, welcome) = keeper.welcomed();
    assert_eq!(welcome.brief(), ["runs: running"]);
    // An earlier worker may have requested the deletion.
    worker.tell(&ToKeeper::Forget("gone".into()));
    assert_eq!(brief(&worker.next()), "forgotten gone");
    worker.die();
    keeper.restart_keeper();
    let (mut worker, welcome) = keeper.welcomed();
    assert_eq!(ids(&welcome.records), ["runs"]);
    std::fs::write(gate, "").unwrap();
    assert!(brief(&worker.next()).starts_with("ended runs"));
}

/// A goodbye stands, though a request to upgrade comes between it and the worker's end.
#[test]
fn an_upgrade_does_not_take_back_a_goodbye() {
    let mut keeper = TestKeeper::with_state_dir();
    let (mut worker, _) = keeper.welcomed();
    worker.launch(json!({"a": sh("exit 3")}));
    worker.until("ended a 768");
    worker.tell(&ToKeeper::Bye { code: 5, signal: None });
    worker.heard();
    // Not by us: from the leader of our session it would be the terminal's hangup.
    let pid = keeper.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    eventually("the refusal", || keeper.log().contains("all is done, and the program ends"));
    worker.exit(0);
    assert_eq!(keeper.ended(), Some(5));
}
