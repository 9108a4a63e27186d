//! What keeper, worker and children have of each other.

use super::harness::*;
use crate::support::process::open_fds;
use procstar::keeper::format::ToWorker;
use serde_json::json;

#[test]
fn children_have_nothing_of_the_keepers() {
    let keeper = TestKeeper::new();
    let (mut worker, _) = keeper.welcomed();
    // Its fds, and the variables that the keeper and its workers know each other by.
    worker.launch(json!({
        "fds": sh("ls /proc/self/fd | tr '\\n' ' '"),
        "env": sh("env | grep -c PROCSTAR_KEEPER"),
    }));
    let mut texts = std::collections::HashMap::new();
    while texts.len() < 2 {
        if let ToWorker::Ended(ended) = worker.next() {
            texts.insert(ended.id.to_string(), stdout(&ended.captures));
        }
    }
    // 3 is the directory that ls reads.
    assert_eq!(texts["fds"], "0 1 2 3 ");
    assert_eq!(texts["env"], "0\n");
}

#[test]
fn a_worker_has_its_socket_and_nothing_else() {
    let keeper = TestKeeper::new();
    let first = keeper.welcomed().0;
    let pid = first.pid;
    let fds = || {
        let dir = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let links = dir.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links.map(|link| link.display().to_string()).collect::<Vec<_>>()
    };
    let foreign: Vec<String> = fds()
        .into_iter()
        .filter(|link| link.contains("eventfd") || link.contains("signalfd"))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    // The locks were sent, once each: it needs them if the keeper is killed.
    let mut locks: Vec<String> = fds().into_iter().filter(|link| link.ends_with("/lock")).collect();
    let sent = locks.len();
    locks.sort();
    locks.dedup();
    assert_eq!(locks.len(), sent, "{locks:?}");
}

#[test]
fn the_keeper_holds_nothing_of_workers_that_have_died() {
    let keeper = TestKeeper::new();
    let count = || open_fds(keeper.pid());
    let settled = || {
        let (mut worker, _) = keeper.welcomed();
        // By then the keeper has closed the descriptors that it sent with its welcome.
        worker.heard();
        (worker, count())
    };
    let (worker, before) = settled();
    worker.die();
    for _ in 0..3 {
        keeper.welcomed().0.die();
    }
    let (_worker, after) = settled();
    assert_eq!(after, before);
}
