//! One keeper after another, on a lasting directory.

use super::harness::*;
use crate::support::wait::eventually;
use procstar::keeper::format::{ShutdownCommand, ToKeeper, ToWorker, VERSION, WorkerState};
use procstar::keeper::journal::{self, Journal};
use procstar::keeper::process_table::ProcessTable;
use procstar::procfs::ProcFs;
use serde_json::json;

#[test]
fn the_next_keeper_adopts_the_processes_of_the_journal() {
    let mut keeper = TestKeeper::with_state_dir();
    let gate = keeper.dir.path().join("gate");
    let (mut worker, _) = keeper.welcomed();
    worker.launch(json!({"gone": sh("exit 1")}));
    worker.until("ended gone 256");
    worker.forget("gone");
    worker.launch(json!({"ended": sh("echo out; exit 2")}));
    worker.until("ended ended 512");
    worker.launch(json!({"runs": until_exists(&gate, "echo runs")}));
    worker.until("started runs");
    worker.launch(json!({"dies": captured("echo dies; sleep 60", "memory")}));
    let ToWorker::Started(dies) = worker.next() else { panic!("no start") };
    eventually("its output", || stdout(&dies.captures) == "dies\n");
    worker.tell(&ToKeeper::Remember(WorkerState {
        conn_id: Some("me".into()),
        orders: vec![ShutdownCommand::Terminate],
        any: true,
        ..WorkerState::default()
    }));
    worker.heard();
    let journal = keeper.settings.state_dir.as_ref().unwrap().join("journal");
    let (records, memory) = journal::read_all(&journal).unwrap();
    assert_eq!((records.len(), memory.any), (3, true));
    assert!(journal::is_alive(&records[1], &ProcFs::default()));
    keeper.restart_keeper();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(dies.pid), nix::sys::signal::SIGKILL)
        .unwrap();
    // A zombie would still show its status.
    let directory = std::path::PathBuf::from(format!("/proc/{}", dies.pid));
    eventually("its reaping", || !directory.exists());
    let (mut worker, welcome) = keeper.welcomed();
    assert_eq!(welcome.brief(), ["ended: ended 512", "runs: running", "dies: lost"]);
    let ended = welcome.records[0].ended.as_ref().unwrap();
    assert_eq!(stdout(&ended.captures), "out\n");
    let lost = welcome.records[2].ended.as_ref().unwrap();
    assert_eq!(stdout(&lost.captures), "dies\n");
    assert_eq!(lost.cut_short.len(), 1, "a pipe's last bytes may be missing");
    // The orders of that life do not end this one.
    let memory = WorkerState { conn_id: Some("me".into()), ..WorkerState::default() };
    assert_eq!(welcome.memory, memory);
    std::fs::write(gate, "").unwrap();
    let ToWorker::Ended(runs) = worker.next() else { panic!("no end") };
    assert!(!runs.lost && runs.is_unmeasured() && runs.id.as_str() == "runs");
    assert_eq!(runs.status, 0);
    assert_eq!(stdout(&runs.captures), "runs\n");
    for id in ["ended", "runs", "dies"] {
        worker.forget(id);
    }
    worker.bye(0);
    assert_eq!(keeper.ended(), Some(0));
    let (records, _) = journal::read_all(&journal).unwrap();
    assert!(records.is_empty());
}

#[test]
fn a_process_that_was_only_launched_is_said_to_be_lost() {
    let keeper = TestKeeper::with_state_dir();
    let dir = keeper.settings.state_dir.clone().unwrap();
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut table = ProcessTable::default();
    table.insert(&"a".into());
    drop(Journal::begin(&dir.join("journal"), &table, &WorkerState::default()).unwrap());
    let (_, welcome) = keeper.welcomed();
    assert_eq!(welcome.brief(), ["a: lost"]);
}

#[test]
fn a_journal_of_another_version_is_refused_and_left_alone() {
    for journal in [&b"\0\0\0\x0a\x81\xa7Version\x63"[..], b"\0\0\0\x02{}", b"\0\0\0\x05[1,2]"] {
        let mut keeper = TestKeeper::with_state_dir();
        let dir = keeper.settings.state_dir.clone().unwrap();
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        std::fs::write(dir.join("journal"), journal).unwrap();
        let mut worker = keeper.worker();
        worker.tell(&worker.greeting(VERSION, None));
        let refused = brief(&worker.next());
        assert!(refused.starts_with("refused: cannot read"), "{refused}");
        worker.exit(2);
        assert_eq!(keeper.ended(), Some(2));
        assert_eq!(std::fs::read(dir.join("journal")).unwrap(), journal);
    }
}
