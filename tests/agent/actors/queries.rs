//! Subscriptions to the results, pages, counts, and stops of processes.

use actix::{Actor, Addr};
use procstar::actors::lifecycle::EndWhen;
use procstar::actors::messages::{
    Announce, CommandError, CommandProcess, Cursor, GetCursor, GetPage, GetProcessCounts, Removed,
    ShutdownChanged, ShutdownState, Subscribe, Subscribed,
};
use procstar::actors::results::Results;
use procstar::actors::subscription::{Delivery, Next, Subscription};
use procstar::engine::{ProcessCommand, StopOrder};

use super::answer_order::changed;
use super::harness::*;
use super::mock_scheduler::Agent;
use procstar::actors::status::LinkState;

fn results() -> Addr<Results> {
    tokio::time::pause();
    Results::default().start()
}

async fn subscribe(results: &Addr<Results>, after: Option<Cursor>) -> Subscribed {
    soon(results.send(Subscribe { after, delivery: Delivery::Latest })).await.unwrap()
}

/// A subscription that resumes after a cursor.
async fn resumed(results: &Addr<Results>, after: Cursor) -> Subscription {
    let Subscribed::After(changes) = subscribe(results, Some(after)).await else { panic!() };
    changes
}

/// The pending changes with their sequence numbers.
fn waiting(changes: &mut Subscription) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    while let Next::Change(change) = changes.take() {
        all.extend(told(&change).into_iter().map(|line| (change.seq, line)));
    }
    all
}

#[actix::test]
async fn changes_after_a_snapshot() {
    let results = results();
    results.do_send(changed(started("a")));
    results.do_send(Announce("b".into()));
    let Subscribed::From(snapshot, mut changes) = subscribe(&results, None).await else { panic!() };
    let ids: Vec<_> = snapshot.procs.iter().map(|record| record.id.to_string()).collect();
    // An accepted process without a start has no record yet.
    assert_eq!((ids, snapshot.shutdown), (vec!["a".to_owned()], ShutdownState::Active));
    assert_eq!(snapshot.ids, ["a".into(), "b".into()]);
    let after = snapshot.cursor;
    // A cancelled wait loses no change.
    tokio::select! {
        biased;
        () = changes.ready() => panic!("nothing has changed"),
        () = settle() => {}
    }
    let ready = changes.ready();
    tokio::join!(soon(ready), async { results.do_send(changed(started("b"))) });
    assert_eq!(waiting(&mut changes), [(2, "started b".to_owned())]);
    for event in [ended("a", 0), failed("c")] {
        results.do_send(changed(event));
    }
    results.do_send(Removed("a".into()));
    results.do_send(Removed("never there".into()));
    results.do_send(ShutdownChanged(ShutdownState::Idling));
    settle().await;
    let line = |seq, text: &str| (seq, text.to_owned());
    let expected = [
        line(3, "ended a"),
        line(4, "started c"),
        line(4, "ended c"),
        line(5, "removed a"),
        line(6, "shutdown idling"),
    ];
    assert_eq!(waiting(&mut changes), expected);
    // A resumed subscription continues after the cursor.
    let mut back = resumed(&results, Cursor { at: 3, ..after }).await;
    assert_eq!(waiting(&mut back), expected[1..]);
    results.do_send(Removed("b".into()));
    settle().await;
    assert_eq!(waiting(&mut back), [(7, "removed b".to_owned())]);
    let now = results.send(GetCursor).await.unwrap();
    assert_eq!(now, Cursor { at: 7, ..after });
    assert!(waiting(&mut resumed(&results, now).await).is_empty());
    for unknown in [Cursor { at: 8, ..now }, Cursor { run: !now.run, ..now }] {
        assert!(matches!(subscribe(&results, Some(unknown)).await, Subscribed::Reset));
    }
}

#[actix::test]
async fn pages_in_the_order_of_acceptance() {
    let results = results();
    for id in ["c", "a", "b", "d"] {
        results.do_send(Announce(id.into()));
    }
    for id in ["b", "c", "d"] {
        results.do_send(changed(started(id)));
    }
    let page = async |after, max| {
        let page = results.send(GetPage { after, max }).await.unwrap().unwrap();
        let ids: Vec<_> = page.procs.iter().map(|(_, record)| record.id.to_string()).collect();
        (ids.join(" "), page.next)
    };
    let (ids, next) = page(None, 2).await;
    assert_eq!(ids, "c");
    results.do_send(Removed("b".into()));
    results.do_send(changed(started("a")));
    let (ids, last) = page(next, 1).await;
    assert_eq!((ids.as_str(), last), ("d", None));
    assert_eq!(page(None, 9).await.0, "c a d");
    let other = next.map(|next| Cursor { run: !next.run, ..next });
    assert!(results.send(GetPage { after: other, max: 1 }).await.unwrap().is_none());
}

#[actix::test]
async fn counts_of_processes_by_state_and_end() {
    let results = results();
    results.do_send(changed(started("a")));
    results.do_send(changed(started("b")));
    results.do_send(changed(ended("a", 9)));
    results.do_send(changed(failed("c")));
    let tally = results.send(GetProcessCounts).await.unwrap();
    assert_eq!((tally.running, tally.terminated, tally.error, tally.started), (1, 1, 1, 3));
    let ended: Vec<_> = tally.ended.into_iter().collect();
    assert_eq!(ended, [("signal", 1), ("start_error", 1)]);
    for id in ["a", "c"] {
        results.do_send(Removed(id.into()));
    }
    let tally = results.send(GetProcessCounts).await.unwrap();
    assert_eq!((tally.present(), tally.started, tally.ended.len()), (1, 3, 2));
}

fn stop(signum: Option<i32>, grace: Option<u64>) -> CommandProcess {
    let order = StopOrder { signum, grace: grace.map(secs), shutdown: false };
    CommandProcess { id: "a".into(), command: ProcessCommand::Stop(order) }
}

#[actix::test]
async fn stop_requests_reach_the_engine() {
    tokio::time::pause();
    let s = supervise(&Journal::default().start(), EndWhen::Never, true);
    let stopped = |signum, grace: Option<u64>| {
        let grace = grace.map(std::time::Duration::from_secs);
        Call::Stop("a".into(), StopOrder { signum, grace, shutdown: false })
    };
    assert!(matches!(
        s.supervisor.send(stop(None, None)).await.unwrap(),
        Err(CommandError::Unknown)
    ));
    s.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    settle().await;
    s.engine.calls();
    for (signum, grace) in [(None, None), (Some(libc::SIGINT), Some(3))] {
        s.supervisor.send(stop(signum, grace)).await.unwrap().unwrap();
        assert_eq!(s.engine.calls(), [stopped(signum, grace)]);
    }
    s.engine.tell(ended("a", 15));
    settle().await;
    assert!(matches!(s.supervisor.send(stop(None, None)).await.unwrap(), Err(CommandError::Gone)));
    assert_eq!(s.engine.calls(), []);
}

#[actix::test]
async fn the_connection_reports_its_state() {
    let (mut agent, scheduler) = Agent::registered().await;
    settle().await;
    let link = agent.status.get();
    assert_eq!((link.state, link.registrations, link.last_error), (LinkState::Registered, 1, None));
    scheduler.lose().await;
    settle().await;
    let link = agent.status.get();
    assert_eq!((link.state, link.failures), (LinkState::Waiting, 0));
    assert!(link.last_error.is_some());
    let mut scheduler = agent.scheduler().await;
    settle().await;
    assert_eq!(agent.status.get().state, LinkState::Registering);
    scheduler.welcome().await;
    settle().await;
    let link = agent.status.get();
    assert_eq!((link.state, link.registrations), (LinkState::Registered, 2));
}
