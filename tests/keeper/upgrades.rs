//! What happens in the middle of an upgrade: after the keeper has handed over, and before the next one knows of anything.

use std::path::Path;

use super::harness::*;
use crate::support::process::is_running;
use crate::support::wait::{DEADLINE, eventually};
use nix::sys::signal::Signal;
use procstar::keeper::format::{ToKeeper, ToWorker};
use serde_json::json;

/// A shell command that waits until a child of the keeper has ended and is not reaped.
fn is_zombie(pid: i32) -> String {
    format!("until grep -q ') Z ' /proc/{pid}/stat; do sleep 0.01; done\n")
}

fn pid_of(message: &ToWorker) -> (String, i32) {
    match message {
        ToWorker::Started(started) => (started.id.to_string(), started.pid),
        other => panic!("no start but {}", brief(other)),
    }
}

fn path(keeper: &TestKeeper, name: &str) -> std::path::PathBuf {
    keeper.dir.path().join(name)
}

/// Exit codes, signals, captured output of both kinds, and the resources used.
#[test]
fn a_process_that_ends_in_the_middle_keeps_its_status() {
    let keeper = TestKeeper::new();
    let (mut worker, _) = keeper.welcomed();
    let gate = path(&keeper, "gate");
    let waits = |then: &str| {
        format!(
            "for _ in $(seq 3000); do [ -e {} ] && break; sleep 0.01; done; {then}",
            gate.display()
        )
    };
    worker.launch(json!({
        "file": captured(&waits("echo end; exit 7"), "tempfile"),
        "pipe": captured(&waits("echo end; exit 8"), "memory"),
        "killed": captured(&waits("kill -9 $$"), "memory"),
    }));
    let pids = [(); 3].map(|()| pid_of(&worker.next()).1);
    let zombies = pids.map(is_zombie).concat();
    keeper.upgrade(&format!("touch {}\n{zombies}", gate.display()));
    let (mut next, welcome) = keeper.welcomed();
    assert!(!welcome.first);
    let mut ended: Vec<_> =
        welcome.records.iter().filter_map(|record| record.ended.clone()).collect();
    while ended.len() < 3 {
        match next.next() {
            ToWorker::Ended(end) => ended.push(end),
            other => panic!("no end but {}", brief(&other)),
        }
    }
    ended.sort_by(|a, b| a.id.as_ref().cmp(b.id.as_ref()));
    let told: Vec<_> = ended
        .iter()
        .map(|end| (end.id.as_ref(), end.status, end.lost, stdout(&end.captures)))
        .collect();
    let end = || "end\n".to_owned();
    assert_eq!(
        told,
        [
            ("file", 7 << 8, false, end()),
            ("killed", libc::SIGKILL, false, String::new()),
            ("pipe", 8 << 8, false, end()),
        ]
    );
    assert!(ended.iter().all(|end| end.rusage.ru_minflt > 0 && end.cut_short.is_empty()));
}

/// What a descendant writes counts up to the end of the grace that has begun before the upgrade, however many follow.
#[test]
fn the_grace_of_a_survivor_is_not_begun_again() {
    let mut keeper = TestKeeper::new();
    keeper.settings.drain_timeout = std::time::Duration::from_millis(1500);
    let (mut worker, _) = keeper.welcomed();
    worker.launch(json!({"a": captured("sleep 1000 & echo $!; exit 3", "memory")}));
    worker.until("started a");
    let begun = std::time::Instant::now();
    let mut ended = None;
    let mut rounds = 0;
    while ended.is_none() {
        assert!(begun.elapsed() < DEADLINE, "the grace is begun again with each upgrade");
        keeper.upgrade("");
        let (next, welcome) = keeper.welcomed();
        ended = welcome.records[0].ended.clone();
        worker = next;
        rounds += 1;
    }
    let ended = ended.unwrap();
    assert_eq!((ended.status, ended.cut_short.len()), (3 << 8, 1));
    let survivor: i32 = stdout(&ended.captures).trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(survivor), Signal::SIGKILL).unwrap();
    assert!(rounds > 1, "{rounds}");
    drop(worker);
}

/// A shell command that leaves an orphan in a session of its own, whose pid it writes into a file.
fn leave_orphan(file: &Path) -> String {
    let file = file.display();
    format!("setsid sh -c '(exec sleep 1000) & echo $! > {file}.new; mv {file}.new {file}'; ")
}

fn orphan_in(file: &Path) -> i32 {
    eventually("an orphan", || file.exists());
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// A field of a process's `/proc/PID/stat`, counted from its state.
fn stat_of(pid: i32, field: usize) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(field).unwrap().to_owned()
}

/// The time since the machine has started, in the unit of start times.
fn ticks() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    (uptime.split(' ').next().unwrap().parse::<f64>().unwrap() * 100.0) as u64
}

fn kill_tree(worker: &mut Worker, id: &str) {
    let order = procstar::engine::StopOrder { signum: Some(libc::SIGKILL), ..Default::default() };
    worker.tell(&ToKeeper::Stop { id: id.into(), order, ticket: 1 });
    worker.until(&format!("ended {id} 9"));
}

fn kill_now(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// An orphan whose origin has ended before the upgrade is not taken for that of a process that runs on.
#[test]
fn an_orphan_is_not_killed_with_another_process() {
    let keeper = TestKeeper::new();
    let (mut worker, _) = keeper.welcomed();
    let file = path(&keeper, "orphan");
    worker.launch(json!({"there": sh("sleep 1000")}));
    worker.until("started there");
    worker.launch(json!({"past": sh(&leave_orphan(&file))}));
    worker.until("ended past 0");
    let orphan = orphan_in(&file);
    keeper.upgrade("");
    let (mut next, _) = keeper.welcomed();
    kill_tree(&mut next, "there");
    assert!(is_running(orphan));
    kill_now(orphan);
}

/// An orphan whose origin was found out before the upgrade is still killed with it, although others have ended since.
#[test]
fn an_orphan_is_killed_with_its_process() {
    let keeper = TestKeeper::new();
    let (mut worker, _) = keeper.welcomed();
    let file = path(&keeper, "orphan");
    worker.launch(json!({"there": sh(&format!("{}sleep 1000", leave_orphan(&file)))}));
    worker.until("started there");
    let orphan = orphan_in(&file);
    // It has lost its parent, and a process that starts now cannot have started it.
    eventually("an orphan", || stat_of(orphan, 1) == keeper.pid().to_string());
    let born: u64 = stat_of(orphan, 19).parse().unwrap();
    eventually("the next tick", || ticks() > born);
    // With the end of another process, the engine looks for orphans.
    worker.launch(json!({"other": sh("true")}));
    worker.until("ended other 0");
    keeper.upgrade("");
    let (mut next, _) = keeper.welcomed();
    kill_tree(&mut next, "there");
    eventually("the end of the orphan", || !is_running(orphan));
}

/// The file system that holds the journal may be full, or gone: that costs no process.
#[test]
fn an_upgrade_without_room_for_a_journal_goes_on() {
    let mut keeper = TestKeeper::new();
    let (mut worker, welcome) = keeper.welcomed();
    let gate = path(&keeper, "gate");
    worker.launch(json!({"a": until_exists(&gate, "exit 5")}));
    worker.until("started a");
    let dir = std::fs::read_link(welcome.dir.clone().unwrap().join("files")).unwrap();
    let away = path(&keeper, "away");
    keeper.upgrade(&format!("mv {} {}\n", dir.display(), away.display()));
    let (mut next, welcome) = keeper.welcomed();
    assert_eq!((welcome.pid, welcome.brief()), (keeper.pid(), vec!["a: running".to_owned()]));
    assert!(keeper.log().contains("cannot write the journal"), "{}", keeper.log());
    std::fs::rename(away, dir).unwrap();
    std::fs::write(gate, "").unwrap();
    assert_eq!(next.until("ended a 1280").len(), 1);
    next.bye(0);
    assert_eq!(keeper.ended(), Some(0));
}

fn is_one_line(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.lines().count() == 2)
}

/// The requester is answered once the new worker is ready, or cannot start.
#[test]
fn an_upgrade_is_answered_when_its_worker_is_ready_or_fails() {
    let keeper = TestKeeper::new();
    let (_worker, welcome) = keeper.welcomed();
    let answer = welcome.dir.clone().unwrap().join(procstar::keeper::instance::UPGRADED);
    let outcome = || {
        eventually("an answer", || is_one_line(&answer));
        let text = std::fs::read_to_string(&answer).unwrap();
        std::fs::remove_file(&answer).unwrap();
        text.lines().nth(1).unwrap().to_owned()
    };
    keeper.upgrade("");
    let (mut next, _) = keeper.welcomed();
    next.heard();
    assert!(!answer.exists(), "answered before the worker is ready");
    next.tell(&ToKeeper::Ready);
    assert!(outcome().starts_with("now runs "));
    // A worker that is started later has nothing to answer.
    next.die();
    let (mut next, _) = keeper.welcomed();
    next.tell(&ToKeeper::Ready);
    next.heard();
    assert!(!answer.exists());
    keeper.upgrade("");
    let mut failing = keeper.worker();
    drop(next);
    failing.tell(&ToKeeper::Failed { message: "no port".into() });
    let text = outcome();
    assert!(
        text.starts_with("error: now runs ") && text.contains("its worker cannot start: no port;"),
        "{text}"
    );
    failing.exit(1);
    // The keeper goes on with the next one.
    keeper.welcomed();
}
