//! Launches whose acceptance the worker waits for.

use super::harness::*;
use procstar::keeper::format::{ToWorker, VERSION};
use procstar::keeper::journal;
use serde_json::json;
use std::os::unix::fs::DirBuilderExt;

#[test]
fn the_answer_comes_once_the_journal_holds_the_launch() {
    let keeper = TestKeeper::with_state_dir();
    let (mut worker, _) = keeper.welcomed();
    let path = keeper.dir.path().join("state/journal");
    for ticket in 0..50 {
        let (one, other) = (format!("a{ticket}"), format!("b{ticket}"));
        worker.launch_acknowledged(json!({ &one: sh(""), &other: sh("exit 3") }), ticket);
        worker.until(&format!("accepted {ticket} Journaled"));
        let entries = journal::read(&path).unwrap();
        for id in [one, other] {
            let entry = entries.iter().find(|entry| entry.id.as_str() == id).unwrap();
            assert!(entry.identity.is_some());
        }
    }
}

#[test]
fn an_acknowledged_launch_outlives_the_keeper() {
    let mut keeper = TestKeeper::with_state_dir();
    let (mut worker, _) = keeper.welcomed();
    let gate = keeper.dir.path().join("gate");
    worker.launch_acknowledged(json!({"a": until_exists(&gate, "")}), 9);
    assert_eq!(worker.until("accepted 9 Journaled"), ["accepted 9 Journaled"]);
    keeper.restart_keeper();
    let (_worker, welcome) = keeper.welcomed();
    let ids: Vec<&str> = welcome.records.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, ["a"]);
    std::fs::write(gate, "").unwrap();
}

#[test]
fn an_id_in_use_is_not_accepted_and_nothing_of_the_request_starts() {
    let keeper = TestKeeper::new();
    let (mut worker, _) = keeper.welcomed();
    worker.launch_acknowledged(json!({"a": sh("")}), 1);
    assert_eq!(
        worker.until("ended a 0"),
        ["accepted 1 Journaled", "started a", "ended a 0"],
        "accepted before it starts"
    );
    worker.launch_acknowledged(json!({"a": sh("exit 9"), "b": sh("exit 9")}), 2);
    assert_eq!(brief(&worker.next()), "accepted 2 InUse");
    worker.heard();
    worker.die();
    let (_, welcome) = keeper.welcomed();
    assert_eq!(welcome.brief(), ["a: ended 0"]);
}

#[test]
fn without_a_journal_the_answer_says_so() {
    let keeper = TestKeeper::with_state_dir();
    let state = keeper.dir.path().join("state");
    std::fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
    // Where the journal would be written first.
    std::fs::create_dir(state.join("journal.new")).unwrap();
    let (mut worker, _) = keeper.welcomed();
    worker.launch_acknowledged(json!({"a": sh("exit 3")}), 7);
    let told = worker.until("ended a 768");
    assert_eq!(told, ["accepted 7 NotJournaled", "started a", "ended a 768"]);
}

/// It does not know the answer, and does not ask for it.
#[test]
fn a_worker_of_the_version_before_gets_no_such_answer() {
    let keeper = TestKeeper::new();
    let mut worker = keeper.worker();
    worker.tell(&worker.greeting(VERSION - 1, None));
    assert!(matches!(worker.next(), ToWorker::Welcome { .. }));
    worker.launch(json!({"a": sh("exit 3")}));
    assert_eq!(worker.until("ended a 768"), ["started a", "ended a 768"]);
}
