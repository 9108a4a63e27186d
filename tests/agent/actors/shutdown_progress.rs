//! The log messages of a worker that waits for its processes before it exits.

use actix::Actor;
use procstar::actors::lifecycle::EndWhen;
use procstar::actors::messages::{Delete, Shutdown};
use procstar::actors::supervisor::Ready;
use tokio::time::{Instant, sleep};

use super::harness::*;
use super::log::Log;

/// A supervisor with the `running` processes and an ended process `c`.
async fn new(end_when: EndWhen, running: &[&str]) -> Supervised {
    tokio::time::pause();
    let supervised = supervise(&Journal::default().start(), end_when, true);
    supervised.supervisor.do_send(Ready);
    supervised.supervisor.send(request(&[running, &["c"]].concat())).await.unwrap().unwrap();
    settle().await;
    supervised.engine.tell(ended("c", 0));
    settle().await;
    supervised
}

#[actix::test]
async fn a_drain_reports_at_once_and_again_what_is_left() {
    let s = new(EndWhen::Never, &["a", "b"]).await;
    let log = Log::new();
    s.supervisor.do_send(Shutdown::Idle);
    settle().await;
    let lines = log.lines("draining");
    assert_eq!(lines.len(), 1);
    let left = "3 left, 2 running: a, b; 1 ended and not deleted: c";
    assert!(lines[0].starts_with("INFO") && lines[0].contains(left), "{}", lines[0]);
    sleep(secs(11)).await;
    let lines = log.lines("draining");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("WARN") && lines[0].contains(left), "{}", lines[0]);
    assert!(lines[0].contains("elapsed=10s"), "{}", lines[0]);
    s.engine.tell(ended("a", 0));
    settle().await;
    s.supervisor.send(Delete("a".into())).await.unwrap().unwrap();
    s.supervisor.send(Delete("c".into())).await.unwrap().unwrap();
    sleep(secs(3600)).await;
    let lines = log.lines("draining");
    assert!((10..20).contains(&lines.len()), "{}", lines.len());
    assert!(lines.iter().all(|line| line.contains("; 1 left, 1 running: b")), "{lines:?}");
    s.engine.tell(ended("b", 0));
    settle().await;
    s.supervisor.send(Delete("b".into())).await.unwrap().unwrap();
    soon(s.done).await.unwrap();
    log.lines("");
    sleep(secs(3600)).await;
    assert!(log.lines("draining").is_empty());
}

#[actix::test]
async fn a_shutdown_reports_its_awaited_processes_in_each_phase() {
    let s = new(EndWhen::Never, &["a"]).await;
    let log = Log::new();
    s.supervisor.do_send(Shutdown::Terminate);
    settle().await;
    let lines = log.lines("shutting down: running processes are killed in ");
    assert!(lines[0].contains("2 left, 1 running: a; 1 ended and not deleted: c"), "{lines:?}");
    sleep(secs(50)).await;
    let lines = log.lines("shutting down: running processes are killed in ");
    assert!(lines.iter().all(|line| line.starts_with("WARN")) && lines.len() == 2, "{lines:?}");
    assert!(lines[0].contains("elapsed=10s") && lines[1].contains("elapsed=30s"), "{lines:?}");
    sleep(secs(11)).await;
    let lines = log.lines("");
    let overdue: Vec<_> =
        lines.iter().filter(|line| line.contains("did not end in time")).collect();
    assert!(overdue[0].starts_with("WARN") && overdue[0].ends_with("killing them: a"), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("the program ends in ")), "{lines:?}");
    soon(s.done).await.unwrap();
}

#[actix::test]
async fn a_worker_that_waits_for_processes_logs_it_without_a_warning() {
    let unassigned_until = Some(Instant::now() + secs(600));
    let _s = new(EndWhen::Idle { unassigned_until }, &["a"]).await;
    let log = Log::new();
    sleep(secs(3600)).await;
    let lines = log.lines("waiting for all processes to be deleted (--wait)");
    assert!((10..20).contains(&lines.len()), "{}", lines.len());
    assert!(lines.iter().all(|line| line.starts_with("INFO")), "{lines:?}");
    assert!(lines[0].contains("2 left, 1 running: a; 1 ended and not deleted: c"), "{lines:?}");
}

#[actix::test]
async fn a_worker_that_runs_on_reports_nothing() {
    let s = new(EndWhen::Never, &["a"]).await;
    let log = Log::new();
    sleep(secs(3600)).await;
    assert!(log.lines("left").is_empty());
    drop(s);
}
