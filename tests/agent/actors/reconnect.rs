//! Connection attempts, the waits between them, registration, and reconnection after a loss.

use std::time::Duration;

use procstar::actors::lifecycle::EndWhen;
use procstar::actors::messages::{
    Announce, Change, ChangeKind, Cursor, Removed, ShutdownState, Snapshot, Subscribe, Subscribed,
};
use procstar::actors::subscription::{Delivery, subscription};
use procstar::dispatch::websocket::Outcome;
use procstar::net::inbound::{Inbound, SocketError};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::harness::*;
use super::mock_scheduler::*;

/// The waits between attempts.
fn waits(agent: &Agent) -> Vec<f64> {
    agent.dialled().windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
}

fn assert_waits(agent: &Agent, bounds: &[(f64, f64)]) {
    let waits = waits(agent);
    assert_eq!(waits.len(), bounds.len(), "{waits:?}");
    for (wait, (low, high)) in waits.iter().zip(bounds) {
        // Timers tick in milliseconds.
        assert!(low - 0.002 <= *wait && *wait <= high + 0.005, "{waits:?} within {bounds:?}");
    }
}

#[actix::test]
async fn the_registration_lists_the_snapshot_and_comes_first() {
    let mut agent = Agent::new(options(), &[Plan::Refuse]);
    settle().await;
    agent.start(&["b", "a"]).await;
    agent.tell(ended("b", 0));
    let mut scheduler = agent.scheduler().await;
    // Changes after the snapshot are sent after the registration.
    agent.tell(ended("a", 0));
    settle().await;
    agent.start(&["c"]).await;
    let register = scheduler.message().await;
    assert_eq!(register.r#type, "Register");
    assert_eq!(register.proc_ids, ["a", "b"], "in the order of their request");
    assert_eq!(register.access_token, "s3cret");
    assert_eq!(register.shutdown_state, "active");
    let conn = json!({"conn_id": "the-conn", "group_id": "the-group", "restricted_exe": null});
    assert_eq!(register.conn, conn);
    let mut keys: Vec<_> = register.proc.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    let mut expected =
        ["pid", "ppid", "uid", "euid", "username", "gid", "egid", "groupname", "hostname"];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert!(scheduler.heard().await.is_empty(), "nothing before the answer");
    scheduler.say(json!({"type": "Registered"})).await;
    assert_eq!(scheduler.heard().await, ["ProcResult a terminated", "ProcResult c running"]);
}

#[actix::test]
async fn a_registration_includes_the_shutdown_state() {
    let mut agent = Agent::new(options(), &[Plan::Refuse]);
    agent.start(&["a"]).await;
    agent.order(procstar::actors::messages::Shutdown::Idle);
    let mut scheduler = agent.scheduler().await;
    assert_eq!(scheduler.welcome().await, "Register a idling");
    assert!(scheduler.heard().await.is_empty());
}

/// A subscription that the test answers.
type Held = oneshot::Sender<Subscribed>;

/// Receives subscriptions, which the test answers.
struct Silent(mpsc::UnboundedSender<Held>);

impl actix::Actor for Silent {
    type Context = actix::Context<Self>;
}

impl actix::Handler<Subscribe> for Silent {
    type Result = actix::ResponseFuture<Subscribed>;
    fn handle(&mut self, _: Subscribe, _: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).unwrap();
        Box::pin(async { answered.await.unwrap() })
    }
}

#[actix::test]
async fn registration_follows_the_snapshot_and_later_changes_are_sent() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut agent = Agent::with(options(), &[], EndWhen::Never, |peers| {
        peers.subscribe = actix::Actor::start(Silent(tell)).recipient();
    });
    let mut scheduler = agent.scheduler().await;
    let answer = soon(told.recv()).await.unwrap();
    assert!(scheduler.heard().await.is_empty(), "no registration without the snapshot");
    let (publisher, changes) = subscription(Delivery::Each);
    let snapshot = Snapshot {
        cursor: Cursor::default(),
        ids: vec!["b".into()],
        procs: Vec::new(),
        shutdown: ShutdownState::Idling,
    };
    assert!(answer.send(Subscribed::From(snapshot, changes)).is_ok());
    assert!(publisher.push(Change { seq: 1, what: ChangeKind::Deleted("b".into()) }));
    assert_eq!(scheduler.welcome().await, "Register b idling");
    assert_eq!(scheduler.heard().await, ["ProcDelete b"]);
    // A lost connection drops its subscription.
    scheduler.lose().await;
    settle().await;
    assert!(!publisher.push(Change { seq: 2, what: ChangeKind::Deleted("c".into()) }));
}

#[actix::test]
async fn a_scheduler_too_far_behind_is_reconnected() {
    let mut agent = Agent::new(options(), &[]);
    let scheduler = agent.welcomed().await;
    // The scheduler reads no messages, so the changes pile up: each deletion must be sent.
    for n in 0..20_000 {
        agent.results.do_send(Announce(format!("p{n}").as_str().into()));
        agent.results.do_send(super::answer_order::changed(started(&format!("p{n}"))));
        agent.results.do_send(Removed(format!("p{n}").as_str().into()));
    }
    settle().await;
    assert!(scheduler.from_agent.is_aborted());
    let mut scheduler = agent.scheduler().await;
    assert_eq!(scheduler.welcome().await, "Register  active");
    assert!(scheduler.heard().await.is_empty());
}

#[actix::test]
async fn an_unanswered_registration_fails_after_10_s() {
    let mut agent = Agent::new(options(), &[]);
    let mut scheduler = agent.scheduler().await;
    scheduler.message().await;
    sleep(Duration::from_millis(9_990)).await;
    assert!(!scheduler.from_agent.is_aborted());
    sleep(Duration::from_millis(20)).await;
    assert!(scheduler.from_agent.is_aborted());
    agent.welcomed().await;
    assert_waits(&agent, &[(10.5, 11.0)]);
}

#[actix::test]
async fn waits_grow_up_to_the_ceiling() {
    let mut settings = options();
    settings.connect.interval_start = secs(2);
    settings.connect.interval_mult = 3.0;
    settings.connect.interval_max = secs(10);
    let mut agent = Agent::new(settings, &[Plan::Refuse; 5]);
    agent.scheduler().await;
    assert_waits(&agent, &[(1.0, 2.0), (3.0, 6.0), (5.0, 10.0), (5.0, 10.0), (5.0, 10.0)]);
}

#[actix::test]
async fn the_agent_gives_up_after_the_maximum_of_failures_in_a_row() {
    let mut settings = options();
    settings.connect.count_max = Some(3);
    let mut agent = Agent::new(settings, &[Plan::Refuse, Plan::Refuse]);
    agent.start(&["a"]).await;
    // The third attempt succeeds, which resets the count and the waits.
    let scheduler = agent.welcomed().await;
    agent.plan(&[Plan::Refuse, Plan::Refuse]);
    scheduler.lose().await;
    let refused = agent.scheduler().await;
    assert!(agent.ended().is_none());
    assert_waits(&agent, &[(0.5, 1.0), (1.0, 2.0), (0.1, 0.3), (0.5, 1.0), (1.0, 2.0)]);
    assert!(agent.supervised.engine.calls().iter().all(|call| !matches!(call, Call::Stop(..))));
    // A Close before the registration is the third failure in a row.
    let close = Inbound::Close { code: Some(1000), reason: String::new() };
    refused.to_agent.send(close).await.unwrap();
    assert_eq!(soon(&mut agent.outcome).await.unwrap(), Outcome::GaveUp);
    settle().await;
    assert_eq!(agent.supervised.engine.calls(), [Call::Stop("a".into(), shutdown(None))]);
    sleep(secs(1000)).await;
    assert_eq!(agent.dialled().len(), 6);
}

#[actix::test]
async fn the_agent_reconnects_soon_with_the_same_identity() {
    let (mut agent, mut scheduler) = Agent::registered().await;
    for i in 0..20 {
        agent.start(&[&format!("p{i}")]).await;
        scheduler.lives(secs(65)).await;
        let lost_at = Instant::now();
        match i % 3 {
            0 => scheduler.lose().await,
            1 => drop(scheduler),
            _ => {
                let close = Inbound::Close { code: Some(1001), reason: "going away".into() };
                scheduler.to_agent.send(close).await.unwrap();
            }
        }
        scheduler = agent.scheduler().await;
        let wait = lost_at.elapsed().as_secs_f64();
        assert!((0.1..0.305).contains(&wait), "{wait}");
        let register = scheduler.message().await;
        assert_eq!(register.conn["conn_id"], "the-conn");
        assert_eq!(register.proc_ids.len(), i + 1);
        scheduler.say(json!({"type": "Registered"})).await;
        settle().await;
    }
}

#[actix::test]
async fn nothing_queued_for_the_old_connection_goes_to_the_new_one() {
    let (mut agent, scheduler) = Agent::registered().await;
    // More messages than the socket's queue holds, and the scheduler reads none.
    let ids: Vec<String> = (0..50).map(|i| format!("p{i:02}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    agent.start(&ids).await;
    agent.tell(ended("p00", 0));
    settle().await;
    agent.delete("p00").await;
    scheduler.start(&["p01"]).await;
    settle().await;
    scheduler.lose().await;
    let mut scheduler = agent.scheduler().await;
    agent.tell(ended("p01", 0));
    let register = scheduler.message().await;
    assert_eq!(register.proc_ids, ids[1..]);
    scheduler.say(json!({"type": "Registered"})).await;
    assert_eq!(scheduler.heard().await, ["ProcResult p01 terminated"]);
}

#[actix::test]
async fn changes_while_disconnected_are_sent_on_request() {
    let (mut agent, mut scheduler) = Agent::registered().await;
    agent.start(&["ends", "goes", "stays"]).await;
    assert_eq!(scheduler.heard().await.len(), 3);
    agent.plan(&[Plan::Refuse, Plan::Refuse]);
    scheduler.lose().await;
    sleep(secs(1)).await;
    agent.tell(ended("ends", 0));
    agent.tell(ended("goes", 0));
    settle().await;
    agent.delete("goes").await;
    agent.start(&["new"]).await;
    let mut scheduler = agent.scheduler().await;
    assert_eq!(scheduler.welcome().await, "Register ends stays new active");
    assert!(scheduler.heard().await.is_empty(), "the scheduler asks for what it wants");
    for id in ["ends", "goes", "stays", "new"] {
        scheduler.ask("ProcResultRequest", id).await;
    }
    let expected = [
        "ProcResult ends terminated",
        "ProcUnknown goes",
        "ProcResult stays running",
        "ProcResult new running",
    ];
    assert_eq!(scheduler.heard().await, expected);
}

#[actix::test]
async fn a_reply_for_the_old_connection_does_not_touch_the_new_one() {
    let (mut agent, scheduler) = Agent::registered().await;
    agent.start(&["a"]).await;
    agent.supervised.engine.on_signal(OnSignal::Hold);
    scheduler.say(json!({"type": "ProcSignalRequest", "proc_id": "a", "signum": 15})).await;
    settle().await;
    // The connection is lost during a request, and the loss is handled after the request.
    drop(scheduler);
    agent.tell(ended("a", 15));
    settle().await;
    agent.delete("a").await;
    let mut scheduler = agent.welcomed().await;
    assert!(scheduler.heard().await.is_empty());
}

#[actix::test]
async fn a_loss_is_handled_while_the_scheduler_reads_nothing() {
    let (mut agent, scheduler) = Agent::registered().await;
    let ids: Vec<String> = (0..100).map(|i| format!("p{i}")).collect();
    agent.start(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // Requests are queued as well, and remain unanswered.
    for _ in 0..3 {
        scheduler.ask("ProcResultRequest", "p1").await;
    }
    let begin = Instant::now();
    let Scheduler { to_agent, from_agent, activity: _ } = scheduler;
    drop(from_agent);
    to_agent.send(Inbound::Lost(SocketError::Eof)).await.unwrap();
    agent.scheduler().await;
    assert!(begin.elapsed() < secs(1), "{:?}", begin.elapsed());
}
