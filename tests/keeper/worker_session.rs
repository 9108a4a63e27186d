//! One worker: from its introduction to its goodbye.

use super::harness::*;
use crate::support::process::is_running;
use crate::support::wait::eventually;
use nix::sys::signal::Signal;
use procstar::keeper::format::{ToKeeper, ToWorker, WorkerState};
use serde_json::json;

#[test]
fn a_process_from_its_launch_until_it_is_forgotten() {
    for mode in ["tempfile", "memory"] {
        let mut keeper = TestKeeper::new();
        let mut worker = keeper.worker();
        assert!(!worker.again);
        let welcome = worker.hello(None);
        assert!(welcome.first && welcome.records.is_empty());
        assert_eq!(welcome.memory, WorkerState::default());
        assert_eq!((welcome.pid, welcome.ppid), (keeper.pid(), std::process::id()));
        assert_eq!(keeper.remains(), 1);
        worker.launch(json!({"a": captured("echo out; exit 3", mode)}));
        let started = worker.next_captures();
        let ended = worker.next_captures();
        assert_eq!((stdout(&started), stdout(&ended)), ("out\n".into(), "out\n".into()));
        let path = ended.iter().find_map(|(_, capture)| capture).unwrap().path().to_owned();
        assert!(path.exists());
        // It is gone, and its ID is free.
        worker.tell(&ToKeeper::Signal { id: "a".into(), signum: 15, ticket: 5 });
        assert_eq!(brief(&worker.next()), format!("signaled a 5 {}", libc::ESRCH));
        worker.forget("a");
        worker.launch(json!({"a": captured("kill -9 $$", mode)}));
        assert_eq!(worker.until("ended a 9"), ["started a", "ended a 9"]);
        assert!(!path.exists());
        worker.bye(7);
        assert_eq!(keeper.ended(), Some(7));
        assert_eq!(keeper.remains(), 0);
    }
}

#[test]
fn signals_reach_processes_and_their_outcomes_come_back() {
    let (keeper, gate) = (TestKeeper::new(), "gate");
    let (mut worker, _) = keeper.welcomed();
    worker.launch(json!({"a": until_exists(&keeper.dir.path().join(gate), "")}));
    worker.until("started a");
    worker.tell(&ToKeeper::Signal { id: "a".into(), signum: 0, ticket: u64::MAX });
    worker.tell(&ToKeeper::Signal { id: "a".into(), signum: 99, ticket: 1 });
    worker.tell(&ToKeeper::Signal { id: "nobody".into(), signum: 15, ticket: 2 });
    worker.tell(&ToKeeper::Signal { id: "a".into(), signum: 15, ticket: 3 });
    assert_eq!(
        worker.until("ended a 15"),
        [
            format!("signaled a {} 0", u64::MAX),
            format!("signaled a 1 {}", libc::EINVAL),
            format!("signaled nobody 2 {}", libc::ESRCH),
            "signaled a 3 0".into(),
            "ended a 15".into(),
        ]
    );
}

#[test]
fn running_and_unknown_processes_are_not_deleted() {
    let keeper = TestKeeper::new();
    let gate = keeper.dir.path().join("gate");
    let (mut worker, _) = keeper.welcomed();
    worker.launch(json!({"a": until_exists(&gate, "echo end")}));
    worker.until("started a");
    worker.tell(&ToKeeper::Forget("a".into()));
    worker.forget("nobody");
    // Nor is it started a second time while it is there, whatever a worker says.
    worker.launch(json!({"a": sh("exit 9"), "b": sh("exit 9")}));
    std::fs::write(gate, "").unwrap();
    assert_eq!(worker.until("ended a 0"), ["ended a 0"]);
    worker.die();
    let (_, welcome) = keeper.welcomed();
    assert_eq!(welcome.brief(), ["a: ended 0"]);
    assert_eq!(stdout(&welcome.records[0].ended.as_ref().unwrap().captures), "end\n");
}

#[test]
fn a_goodbye_leaves_running_processes() {
    let mut keeper = TestKeeper::new();
    let gate = keeper.dir.path().join("gate");
    let (mut worker, _) = keeper.welcomed();
    worker.launch(json!({"a": until_exists(&gate, "")}));
    let ToWorker::Started(started) = worker.next() else { panic!("no start") };
    worker.bye(0);
    assert_eq!(keeper.ended(), Some(0));
    assert_eq!(keeper.remains(), 0);
    assert!(is_running(started.pid));
    std::fs::write(gate, "").unwrap();
    eventually("its end", || !is_running(started.pid));
}

#[test]
fn a_stopped_worker_delays_nothing_and_gets_all() {
    // The events of so many processes exceed the buffers between keeper and worker.
    const COUNT: usize = 300;
    let keeper = TestKeeper::new();
    let (gate, marks) = (keeper.dir.path().join("gate"), keeper.dir.path().join("marks"));
    let (mut worker, _) = keeper.welcomed();
    let mut specs = serde_json::Map::new();
    for n in 0..COUNT {
        let script = format!("echo {n}; echo x >> {}", marks.display());
        specs.insert(format!("{n}"), sh(&script));
    }
    specs.insert("last".into(), until_exists(&gate, "echo last"));
    worker.launch(specs.clone().into());
    let mut told = worker.until("started 0");
    worker.signal(Signal::SIGSTOP);
    let lines = || std::fs::read(&marks).map_or(0, |marks| marks.len() / 2);
    eventually("the end of all", || lines() == COUNT);
    keeper.signal(Signal::SIGUSR1);
    std::fs::write(gate, "").unwrap();
    worker.signal(Signal::SIGCONT);
    let mut orders = 0;
    // On a busy machine the order may come after the last end.
    while told.len() < 2 * (COUNT + 1) || orders == 0 {
        match worker.next() {
            ToWorker::Order(_) => orders += 1,
            message => {
                if let ToWorker::Ended(ended) = &message {
                    assert_eq!(stdout(&ended.captures), format!("{}\n", ended.id));
                }
                told.push(brief(&message));
            }
        }
    }
    let mut wanted: Vec<String> =
        specs.keys().flat_map(|id| [format!("started {id}"), format!("ended {id} 0")]).collect();
    for id in specs.keys() {
        let at = |what: String| told.iter().position(|told| *told == what);
        assert!(at(format!("started {id}")) < at(format!("ended {id} 0")));
    }
    told.sort();
    wanted.sort();
    assert_eq!((told, orders), (wanted, 1));
}
