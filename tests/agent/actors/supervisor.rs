//! The supervisor: acceptance, recipients and order of its messages, signals and deletions.

use actix::Actor;
use procstar::actors::lifecycle::EndWhen;
use procstar::actors::messages::{
    CommandError, CommandProcess, Delete, DeleteError, Shutdown, ShutdownState, Start, StartError,
};

use super::harness::*;
use procstar::engine::{ProcessCommand, StopOrder};

fn new(auto_starts: bool) -> (Supervised, Journal) {
    tokio::time::pause();
    let journal = Journal::default();
    (supervise(&journal.clone().start(), EndWhen::Never, auto_starts), journal)
}

fn signal(id: &str, signum: i32) -> CommandProcess {
    CommandProcess { id: id.into(), command: ProcessCommand::Signal(signum) }
}

#[actix::test]
async fn a_process_from_its_acceptance_to_its_deletion() {
    let (s, journal) = new(true);
    s.supervisor.send(request(&["a", "b"])).await.unwrap().unwrap();
    settle().await;
    assert_eq!(s.engine.calls(), [Call::Launch(vec!["a".into(), "b".into()])]);
    // The engine reported the starts within the launch call, but they come after the announcements.
    assert_eq!(journal.read(), ["announced a", "announced b", "started a", "started b"]);
    assert_eq!(s.supervisor.send(Delete("a".into())).await.unwrap(), Err(DeleteError::Running));
    s.engine.tell(ended("a", 0));
    settle().await;
    assert_eq!(journal.read(), ["ended a"]);
    assert_eq!(s.supervisor.send(Delete("a".into())).await.unwrap(), Ok(()));
    assert_eq!(journal.read(), ["removed a"], "told before it is confirmed");
    assert_eq!(s.engine.calls(), [Call::Forget("a".into())]);
    assert_eq!(s.supervisor.send(Delete("a".into())).await.unwrap(), Err(DeleteError::Unknown));
    // Late events, and events of unknown processes, are ignored.
    s.engine.tell_all([ended("a", 0), started("stranger")]);
    settle().await;
    assert!(journal.read().is_empty() && s.engine.calls().is_empty());
    // The ID is free again.
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    settle().await;
    assert_eq!(journal.read(), ["announced a", "started a"]);
}

#[actix::test]
async fn nothing_of_a_request_with_a_used_id_is_started() {
    let (s, journal) = new(false);
    s.supervisor.send(request(&["a", "b"])).await.unwrap().unwrap();
    settle().await;
    journal.read();
    s.engine.calls();
    let refused = s.supervisor.send(request(&["x", "b", "a"])).await.unwrap();
    assert_eq!(refused, Err(StartError::InUse(vec!["a".into(), "b".into()])));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "process ID already in use: a, b; delete the process first, or choose another ID"
    );
    settle().await;
    assert!(journal.read().is_empty() && s.engine.calls().is_empty());
    // An exited process keeps its ID until it is deleted.
    s.engine.tell(failed("a"));
    settle().await;
    assert!(s.supervisor.send(request(&["a"])).await.unwrap().is_err());
    s.supervisor.send(Delete("a".into())).await.unwrap().unwrap();
    s.supervisor.send(request(&["x", "a"])).await.unwrap().unwrap();
}

/// An idempotent request for processes with this argument. `piped` connects each to the next.
fn idempotent(ids: &[&str], arg: &str, piped: bool) -> Start {
    let mut specs = serde_json::Map::new();
    for (i, id) in ids.iter().enumerate() {
        let mut fds = serde_json::Map::new();
        if piped && i > 0 {
            fds.insert(
                "0".into(),
                serde_json::json!({"pipe-read": {"proc_id": ids[i - 1], "fd": "1"}}),
            );
        }
        if piped && i + 1 < ids.len() {
            fds.insert("1".into(), "pipe-write".into());
        }
        let argv = ["/usr/bin/true", arg];
        specs.insert((*id).to_owned(), serde_json::json!({"argv": argv, "fds": fds}));
    }
    let text = serde_json::json!({"specs": specs, "idempotent": true}).to_string();
    Start(procstar::spec::from_json(text.as_bytes()).unwrap())
}

#[actix::test]
async fn an_idempotent_request_starts_missing_processes() {
    let (s, journal) = new(true);
    let present = s.supervisor.send(idempotent(&["a"], "1", false)).await.unwrap().unwrap();
    assert!(present.is_empty());
    settle().await;
    s.engine.calls();
    journal.read();
    let present = s.supervisor.send(idempotent(&["b", "a"], "1", false)).await.unwrap().unwrap();
    assert_eq!(present, ["a".into()]);
    settle().await;
    assert_eq!(s.engine.calls(), [Call::Launch(vec!["b".into()])]);
    assert_eq!(journal.read(), ["announced b", "started b"]);
    let present = s.supervisor.send(idempotent(&["b", "a"], "1", false)).await.unwrap().unwrap();
    assert_eq!(present, ["a".into(), "b".into()], "in the order of the request");
    assert!(s.engine.calls().is_empty(), "nothing is missing");
    // An ended process is present too, until it is deleted.
    s.engine.tell(ended("a", 0));
    settle().await;
    assert_eq!(
        s.supervisor.send(idempotent(&["a"], "1", false)).await.unwrap(),
        Ok(vec!["a".into()])
    );
    s.supervisor.send(Delete("a".into())).await.unwrap().unwrap();
    assert_eq!(s.supervisor.send(idempotent(&["a"], "1", false)).await.unwrap(), Ok(vec![]));
}

#[actix::test]
async fn an_idempotent_request_that_is_refused_starts_nothing() {
    let (s, _journal) = new(true);
    s.supervisor.send(idempotent(&["a", "b", "c"], "1", true)).await.unwrap().unwrap();
    settle().await;
    s.engine.calls();
    let error = s.supervisor.send(idempotent(&["a", "x", "b"], "2", false)).await.unwrap();
    assert_eq!(
        error.unwrap_err().to_string(),
        "process ID already in use with another spec: a, b; delete the process first, or choose another ID"
    );
    // Without `idempotent`, an ID in use is an error even if the spec is the same.
    let Start(mut plain) = idempotent(&["a", "b", "c"], "1", true);
    plain.idempotent = false;
    let error = s.supervisor.send(Start(plain)).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "process ID already in use: a, b, c; delete the process first, or choose another ID"
    );
    // An existing process has no open pipe end for a new process.
    s.engine.tell(ended("b", 0));
    settle().await;
    s.supervisor.send(Delete("b".into())).await.unwrap().unwrap();
    s.engine.calls();
    let error = s.supervisor.send(idempotent(&["a", "b", "c"], "1", true)).await.unwrap();
    assert_eq!(error.unwrap_err().to_string(), "pipe to a process that exists already: b");
    assert!(s.engine.calls().is_empty());
}

/// A failure to stop updates the record of a running process, and not of an ended one.
#[actix::test]
async fn failures_to_stop_are_published() {
    let (s, journal) = new(true);
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    settle().await;
    journal.read();
    for _ in 0..2 {
        s.engine.tell(stop_failed("a", 7));
        settle().await;
        assert_eq!(journal.read(), ["started a"]);
    }
    s.engine.tell(ended("a", 0));
    settle().await;
    assert_eq!(journal.read(), ["ended a"]);
    s.engine.tell(stop_failed("a", 7));
    settle().await;
    assert!(journal.read().is_empty(), "nothing changes any more");
}

#[actix::test]
async fn no_process_starts_during_a_shutdown() {
    let (s, journal) = new(true);
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    s.supervisor.send(Shutdown::Idle).await.unwrap();
    settle().await;
    let refused = s.supervisor.send(request(&["b"])).await.unwrap().unwrap_err();
    assert_eq!(refused, StartError::ShuttingDown(ShutdownState::Idling));
    assert_eq!(refused.to_string(), "agent shutting down: idling");
    assert!(!journal.read().contains(&"announced b".to_owned()));
    assert_eq!(s.engine.calls().len(), 1, "one launch, of the first request");
}

#[actix::test]
async fn outcomes_of_a_signal() {
    let (s, _journal) = new(true);
    let send = |id: &'static str, signum| s.supervisor.send(signal(id, signum));
    let error = send("a", 15).await.unwrap().unwrap_err();
    assert!(matches!(error, CommandError::Unknown));
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    settle().await;
    s.engine.calls();
    send("a", 15).await.unwrap().unwrap();
    assert_eq!(s.engine.calls(), [Call::Signal("a".into(), 15)]);
    s.engine.on_signal(OnSignal::Tell(Some(libc::EPERM)));
    let error = send("a", 9).await.unwrap().unwrap_err();
    assert!(matches!(error, CommandError::Os(_)));
    let text = "failed to send signal: Operation not permitted (os error 1)";
    assert_eq!(error.to_string(), text);
    // The process has ended, but the engine has not reported it yet.
    s.engine.on_signal(OnSignal::Tell(Some(libc::ESRCH)));
    let error = send("a", 9).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "no process");
    s.engine.tell(ended("a", 0));
    settle().await;
    s.engine.calls();
    let error = send("a", 9).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "no process");
    assert!(s.engine.calls().is_empty(), "nobody is there to be signaled");
}

#[actix::test]
async fn outcomes_of_a_stop() {
    let (s, _journal) = new(true);
    let stop = |signum, grace| CommandProcess {
        id: "a".into(),
        command: ProcessCommand::Stop(StopOrder { signum, grace, shutdown: false }),
    };
    let error = s.supervisor.send(stop(None, None)).await.unwrap().unwrap_err();
    assert!(matches!(error, CommandError::Unknown));
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    settle().await;
    s.engine.calls();
    for (signal, grace) in [(None, None), (Some(2), Some(secs(3)))] {
        s.supervisor.send(stop(signal, grace)).await.unwrap().unwrap();
        let order = StopOrder { signum: signal, grace, shutdown: false };
        assert_eq!(s.engine.calls(), [Call::Stop("a".into(), order)]);
    }
    s.engine.on_signal(OnSignal::Tell(Some(libc::EPERM)));
    let error = s.supervisor.send(stop(None, None)).await.unwrap().unwrap_err();
    assert!(matches!(error, CommandError::Os(_)));
    s.engine.tell(ended("a", 15));
    settle().await;
    s.engine.calls();
    let error = s.supervisor.send(stop(None, None)).await.unwrap().unwrap_err();
    assert!(matches!(error, CommandError::Gone) && s.engine.calls().is_empty());
}

#[actix::test]
async fn a_slow_signal_delays_no_other_request() {
    let (s, journal) = new(true);
    s.supervisor.send(request(&["a", "b"])).await.unwrap().unwrap();
    s.engine.on_signal(OnSignal::Hold);
    let held = s.supervisor.send(signal("a", 15));
    let held = actix_rt::spawn(held);
    settle().await;
    s.engine.on_signal(OnSignal::Tell(None));
    s.supervisor.send(signal("b", 15)).await.unwrap().unwrap();
    s.supervisor.send(request(&["c"])).await.unwrap().unwrap();
    s.engine.tell(ended("a", 15));
    settle().await;
    assert!(journal.read().contains(&"ended a".to_owned()));
    s.supervisor.send(Delete("a".into())).await.unwrap().unwrap();
    // The process is deleted, so the outcome will never come: the waiter gets an error.
    let answer = soon(held).await.unwrap().unwrap();
    assert_eq!(answer.unwrap_err().to_string(), "no process");
}

#[actix::test]
async fn a_process_actor_that_panicked_is_replaced() {
    let (s, journal) = new(true);
    s.supervisor.send(request(&["a", "b"])).await.unwrap().unwrap();
    settle().await;
    journal.read();
    for id in ["a", "b"] {
        s.engine.on_signal(OnSignal::Panic);
        let error = s.supervisor.send(signal(id, 15)).await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "no process");
    }
    s.engine.on_signal(OnSignal::Tell(None));
    s.engine.calls();
    // A new actor is created by the next command (a) or event (b).
    s.supervisor.send(signal("a", 2)).await.unwrap().unwrap();
    assert_eq!(s.engine.calls(), [Call::Signal("a".into(), 2)]);
    s.engine.tell_all([ended("b", 0), ended("a", 0)]);
    settle().await;
    assert_eq!(journal.read(), ["ended b", "ended a"]);
    assert_eq!(s.supervisor.send(Delete("a".into())).await.unwrap(), Ok(()));
    assert_eq!(s.supervisor.send(Delete("b".into())).await.unwrap(), Ok(()));
}

#[actix::test]
async fn a_shutdown_stops_a_process_whose_actor_panicked() {
    let (s, _journal) = new(true);
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    s.engine.on_signal(OnSignal::Panic);
    s.supervisor.send(signal("a", 1)).await.unwrap().unwrap_err();
    s.engine.on_signal(OnSignal::Tell(None));
    s.engine.calls();
    s.supervisor.send(Shutdown::Kill).await.unwrap();
    settle().await;
    assert_eq!(s.engine.calls(), [Call::Stop("a".into(), shutdown(Some(libc::SIGKILL)))]);
}

#[actix::test]
async fn a_deletion_is_reported_after_a_simultaneous_end() {
    let (s, journal) = new(true);
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    settle().await;
    journal.read();
    // Both messages wait when the supervisor wakes. Retries until it has handled the end.
    s.engine.tell(ended("a", 0));
    while s.supervisor.send(Delete("a".into())).await.unwrap().is_err() {}
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    settle().await;
    assert_eq!(journal.read(), ["ended a", "removed a", "announced a", "started a"]);
}

#[actix::test]
async fn without_an_engine_the_supervisor_ends() {
    let (s, _journal) = new(true);
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    settle().await;
    s.engine.die();
    // A waiter for the end gets an error at once.
    assert!(soon(s.done).await.is_err());
    settle().await;
    assert!(!s.supervisor.connected());
}
