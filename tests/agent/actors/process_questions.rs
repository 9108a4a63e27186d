//! Questions about one process, sent through a handle and the supervisor to the process's actor.

use actix::Actor;
use procstar::actors::lifecycle::EndWhen;
use procstar::actors::messages::{CommandProcess, Delete};
use procstar::actors::results::Results;
use procstar::actors::{Handle, Mailboxes};
use procstar::engine::ProcessCommand;

use super::harness::*;

fn agent() -> (Supervised, Handle) {
    tokio::time::pause();
    let results = Results::default().start();
    let supervised = supervise(&results, EndWhen::Never, false);
    let handle = Handle::from(Mailboxes::of(&supervised.supervisor, &results));
    (supervised, handle)
}

#[actix::test]
async fn a_record_waits_for_the_start() {
    let (s, handle) = agent();
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    assert!(handle.await_start("stranger".into()).await.unwrap().is_none());
    let waiting = actix_rt::spawn(handle.await_start("a".into()));
    settle().await;
    assert!(!waiting.is_finished());
    assert!(handle.get_all().await.unwrap().is_empty(), "it has not started");
    assert!(handle.usage("a".into()).await.unwrap().is_none(), "it has not started");
    s.engine.tell(started("a"));
    let record = soon(waiting).await.unwrap().unwrap().unwrap();
    assert!(record.is_running());
    // The record is in the results before the waiter receives it.
    assert_eq!(handle.get_all().await.unwrap().len(), 1);
    s.engine.tell(ended("a", 0));
    soon(handle.await_end("a".into())).await.unwrap().unwrap();
    let record = handle.await_start("a".into()).await.unwrap().unwrap();
    assert!(!record.is_running());
    settle().await;
    s.supervisor.send(Delete("a".into())).await.unwrap().unwrap();
    assert!(handle.await_start("a".into()).await.unwrap().is_none());
    assert!(handle.get_all().await.unwrap().is_empty());
}

#[actix::test]
async fn the_end_is_awaited() {
    let (s, handle) = agent();
    let end = |id: &str| handle.await_end(id.into());
    assert!(end("a").await.unwrap().is_none(), "there is no such process");
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    let before = end("a");
    s.engine.tell(started("a"));
    let (before, after) = tokio::join!(before, async {
        let after = end("a");
        s.engine.tell(ended("a", 0));
        after.await
    });
    for record in [before.unwrap(), after.unwrap(), end("a").await.unwrap()] {
        assert!(!record.unwrap().is_running());
    }
}

#[actix::test]
async fn output_is_read_and_followed_once_the_process_has_started() {
    let (s, handle) = agent();
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    let reader = actix_rt::spawn(handle.read_output("a".into()));
    let follower = actix_rt::spawn(handle.follow_output("a".into()));
    settle().await;
    assert!(!reader.is_finished() && !follower.is_finished());
    s.engine.tell(started("a"));
    assert!(soon(reader).await.unwrap().unwrap().unwrap().record().is_running());
    assert!(soon(follower).await.unwrap().unwrap().unwrap().reader().record().is_running());
    assert!(handle.read_output("b".into()).await.unwrap().is_none());
    assert!(handle.follow_output("b".into()).await.unwrap().is_none());
}

/// The supervisor replaces an actor that panicked. The handle repeats its question.
#[actix::test]
async fn a_question_survives_a_panic_of_the_process_actor() {
    let (s, handle) = agent();
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    s.engine.tell(started("a"));
    soon(handle.await_start("a".into())).await.unwrap().unwrap();
    let end = actix_rt::spawn(handle.await_end("a".into()));
    settle().await;
    s.engine.on_signal(OnSignal::Panic);
    let command = ProcessCommand::Signal(15);
    s.supervisor.send(CommandProcess { id: "a".into(), command }).await.unwrap().unwrap_err();
    settle().await;
    assert!(!end.is_finished(), "it is asked again");
    let record = soon(handle.await_start("a".into())).await.unwrap().unwrap();
    assert!(record.is_running(), "the replacement has the record");
    s.engine.tell(ended("a", 0));
    assert!(!soon(end).await.unwrap().unwrap().unwrap().is_running());
}
