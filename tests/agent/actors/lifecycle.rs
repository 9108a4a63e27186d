//! The end of the worker, by shutdown orders or by itself, in virtual time.

use std::time::Duration;

use actix::Actor;
use procstar::actors::lifecycle::EndWhen;
use procstar::actors::messages::{Delete, Shutdown};
use procstar::actors::supervisor::Ready;
use tokio::time::{Instant, sleep};

use super::harness::*;

/// A supervisor with these processes running, and an empty journal.
async fn running(end_when: EndWhen, ids: &[&str]) -> (Supervised, Journal) {
    tokio::time::pause();
    let journal = Journal::default();
    let s = supervise(&journal.clone().start(), end_when, true);
    if !ids.is_empty() {
        s.supervisor.send(request(ids)).await.unwrap().unwrap();
    }
    settle().await;
    journal.read();
    s.engine.calls();
    (s, journal)
}

/// Checks that exactly these processes were stopped, by this signal or by the one of their spec.
fn stops(s: &Supervised, ids: &[&str], signum: Option<i32>) {
    let mut calls = s.engine.calls();
    calls.sort_by_key(|call| format!("{call:?}"));
    let expected: Vec<_> =
        ids.iter().map(|id| Call::Stop((*id).into(), shutdown(signum))).collect();
    assert_eq!(calls, expected);
}

fn is_done(s: &mut Supervised) -> bool {
    s.done.try_recv().is_ok()
}

#[actix::test]
async fn sigterm_then_sigkill_after_60_s_then_the_end_after_5() {
    let (mut s, journal) = running(EndWhen::Never, &["a", "b"]).await;
    s.supervisor.send(Shutdown::Terminate).await.unwrap();
    settle().await;
    stops(&s, &["a", "b"], None);
    assert_eq!(journal.read(), ["shutdown idling"]);
    s.engine.tell(ended("a", 15));
    sleep(Duration::from_millis(59_990)).await;
    stops(&s, &[], None);
    sleep(Duration::from_millis(20)).await;
    stops(&s, &["b"], Some(libc::SIGKILL));
    assert_eq!(journal.read(), ["ended a"]);
    s.engine.tell(ended("b", 9));
    sleep(Duration::from_millis(4_900)).await;
    assert!(!is_done(&mut s), "clients may still ask, and delete");
    sleep(Duration::from_millis(200)).await;
    assert!(is_done(&mut s));
    assert_eq!(journal.read(), ["ended b", "shutdown done"]);
}

#[actix::test]
async fn sigterm_ends_the_agent_when_all_processes_are_deleted() {
    let (mut s, journal) = running(EndWhen::Never, &["a"]).await;
    s.supervisor.send(Shutdown::Terminate).await.unwrap();
    s.engine.tell(ended("a", 15));
    settle().await;
    assert!(!is_done(&mut s));
    let begin = Instant::now();
    s.supervisor.send(Delete("a".into())).await.unwrap().unwrap();
    settle().await;
    assert!(is_done(&mut s) && begin.elapsed() < secs(1));
    assert_eq!(journal.read(), ["shutdown idling", "ended a", "removed a", "shutdown done"]);
}

#[actix::test]
async fn sigquit_kills_at_once_even_during_sigterm() {
    let (mut s, journal) = running(EndWhen::Never, &["a"]).await;
    s.supervisor.send(Shutdown::Terminate).await.unwrap();
    settle().await;
    stops(&s, &["a"], None);
    s.supervisor.send(Shutdown::Kill).await.unwrap();
    settle().await;
    stops(&s, &["a"], Some(libc::SIGKILL));
    // The shutdown does not wait longer for a process that SIGKILL does not end.
    sleep(Duration::from_millis(5_010)).await;
    assert!(is_done(&mut s));
    assert_eq!(journal.read(), ["shutdown idling", "shutdown done"]);
    // Later orders change nothing.
    s.supervisor.send(Shutdown::Terminate).await.unwrap();
    sleep(secs(100)).await;
    assert!(journal.read().is_empty());
}

#[actix::test]
async fn sigusr1_waits_for_the_last_deletion() {
    let (mut s, journal) = running(EndWhen::Never, &["a"]).await;
    s.supervisor.send(Shutdown::Idle).await.unwrap();
    sleep(secs(86_400)).await;
    stops(&s, &[], None);
    s.engine.tell(ended("a", 0));
    sleep(secs(86_400)).await;
    assert!(!is_done(&mut s));
    s.supervisor.send(Delete("a".into())).await.unwrap().unwrap();
    settle().await;
    assert!(is_done(&mut s));
    assert_eq!(journal.read(), ["shutdown idling", "ended a", "removed a", "shutdown done"]);
}

#[actix::test]
async fn any_order_ends_a_worker_without_processes_at_once() {
    for order in [Shutdown::Idle, Shutdown::Terminate, Shutdown::Kill, Shutdown::GiveUp] {
        let (mut s, journal) = running(EndWhen::Never, &[]).await;
        s.supervisor.send(order).await.unwrap();
        settle().await;
        assert!(is_done(&mut s), "{order:?}");
        assert_eq!(journal.read(), ["shutdown idling", "shutdown done"]);
        tokio::time::resume();
    }
}

#[actix::test]
async fn without_a_scheduler_no_deletion_is_awaited() {
    let (mut s, _journal) = running(EndWhen::Never, &["a"]).await;
    s.supervisor.send(Shutdown::GiveUp).await.unwrap();
    settle().await;
    stops(&s, &["a"], None);
    s.engine.tell(ended("a", 15));
    settle().await;
    assert!(is_done(&mut s));
}

#[actix::test]
async fn exit_comes_after_the_last_result() {
    let (mut s, journal) = running(EndWhen::NoneRuns, &["a", "b"]).await;
    s.supervisor.send(Ready).await.unwrap();
    s.engine.tell(ended("a", 0));
    settle().await;
    assert!(!is_done(&mut s));
    s.engine.tell(failed("b"));
    settle().await;
    assert!(is_done(&mut s));
    assert_eq!(journal.read(), ["ended a", "ended b", "shutdown done"]);
}

#[actix::test]
async fn exit_during_a_shutdown_does_not_wait_for_deletions() {
    for order in [Shutdown::Idle, Shutdown::Terminate, Shutdown::Kill] {
        let (mut s, journal) = running(EndWhen::NoneRuns, &["a"]).await;
        s.supervisor.send(order).await.unwrap();
        settle().await;
        assert!(!is_done(&mut s));
        s.engine.tell(ended("a", 9));
        settle().await;
        assert!(is_done(&mut s), "{order:?}");
        assert_eq!(journal.read(), ["shutdown idling", "ended a", "shutdown done"]);
        tokio::time::resume();
    }
}

#[actix::test]
async fn the_agent_does_not_end_before_its_input_is_started() {
    let (mut s, journal) = running(EndWhen::NoneRuns, &["a"]).await;
    s.engine.tell(ended("a", 0));
    sleep(secs(100)).await;
    assert!(!is_done(&mut s));
    s.supervisor.send(Ready).await.unwrap();
    settle().await;
    assert!(is_done(&mut s));
    assert_eq!(journal.read(), ["ended a", "shutdown done"]);
}

#[actix::test]
async fn wait_stays_active_until_done() {
    let (mut s, journal) = running(EndWhen::Idle { unassigned_until: None }, &["a"]).await;
    s.supervisor.send(Ready).await.unwrap();
    s.engine.tell(ended("a", 0));
    sleep(secs(86_400)).await;
    assert!(!is_done(&mut s));
    s.supervisor.send(Delete("a".into())).await.unwrap().unwrap();
    settle().await;
    assert!(is_done(&mut s));
    assert_eq!(journal.read(), ["ended a", "removed a", "shutdown done"]);
}

fn wait_600_s() -> EndWhen {
    EndWhen::Idle { unassigned_until: Some(Instant::now() + secs(600)) }
}

#[actix::test]
async fn the_timeout_of_wait_counts_only_until_the_first_process() {
    let (mut s, journal) = running(wait_600_s(), &[]).await;
    s.supervisor.send(Ready).await.unwrap();
    sleep(Duration::from_millis(599_900)).await;
    assert!(!is_done(&mut s));
    sleep(Duration::from_millis(200)).await;
    assert!(is_done(&mut s));
    assert_eq!(journal.read(), ["shutdown done"]);
    tokio::time::resume();

    let (mut s, journal) = running(wait_600_s(), &[]).await;
    s.supervisor.send(Ready).await.unwrap();
    sleep(secs(300)).await;
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    sleep(secs(86_400)).await;
    assert!(!is_done(&mut s), "only idleness counts");
    s.engine.tell(ended("a", 0));
    settle().await;
    s.supervisor.send(Delete("a".into())).await.unwrap().unwrap();
    settle().await;
    assert!(is_done(&mut s));
    let expected = ["announced a", "started a", "ended a", "removed a", "shutdown done"];
    assert_eq!(journal.read(), expected);
}
