//! The end of a connection: `ShutDown done`, and [`Finish`] in every phase.

use procstar::actors::lifecycle::EndWhen;
use procstar::actors::messages::{CommandError, CommandProcess, Shutdown};
use procstar::actors::supervisor::Ready;
use procstar::dispatch::websocket::{Finish, Outcome};
use procstar::net::inbound::Inbound;
use serde_json::json;

use super::harness::*;
use super::mock_scheduler::*;

#[actix::test]
async fn pending_messages_are_sent_before_done_and_close() {
    let (mut agent, mut scheduler) = Agent::registered().await;
    let ids: Vec<String> = (0..20).map(|i| format!("p{i:02}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    agent.start(&ids).await;
    agent.order(Shutdown::Idle);
    agent.supervised.engine.tell_all(ids.iter().map(|id| ended(id, 0)));
    settle().await;
    for id in &ids[1..] {
        agent.delete(id).await;
    }
    // A request deletes the last process. The requests after it come too late.
    scheduler.ask("ProcResultRequest", ids[0]).await;
    scheduler.ask("ProcDeleteRequest", ids[0]).await;
    scheduler.ask("ProcResultRequest", "stranger").await;
    scheduler.start(&["late"]).await;
    soon(&mut agent.supervised.done).await.unwrap();
    agent.conn.do_send(Finish);
    let heard = scheduler.heard().await;
    let expected = [
        ids.iter().map(|id| format!("ProcResult {id} running")).collect(),
        vec!["ShutDown idling".to_owned()],
        ids.iter().map(|id| format!("ProcResult {id} terminated")).collect(),
        ids[1..].iter().map(|id| format!("ProcDelete {id}")).collect(),
        vec![
            "ProcResult p00 terminated".into(),
            "ProcDelete p00".into(),
            "ShutDown done".into(),
            "close 1000".into(),
        ],
    ]
    .concat();
    assert_eq!(heard, expected);
    assert!(agent.ended().is_none(), "it waits for the scheduler's answer");
    let close = Inbound::Close { code: Some(1000), reason: String::new() };
    scheduler.to_agent.send(close).await.unwrap();
    assert_eq!(soon(&mut agent.outcome).await.unwrap(), Outcome::Finished);
    tokio::time::sleep(secs(100)).await;
    assert_eq!(agent.dialled().len(), 1);
}

#[actix::test]
async fn with_exit_the_last_result_comes_before_done() {
    let mut agent = Agent::with(options(), &[], EndWhen::NoneRuns, |_| ());
    agent.start(&["a"]).await;
    let mut scheduler = agent.welcomed().await;
    agent.supervised.supervisor.do_send(Ready);
    agent.tell(ended("a", 0));
    settle().await;
    agent.conn.do_send(Finish);
    let expected =
        ["ProcResult a running", "ProcResult a terminated", "ShutDown done", "close 1000"];
    assert_eq!(scheduler.heard().await, expected);
}

/// Answers each signal after a second.
struct Slow;

impl actix::Actor for Slow {
    type Context = actix::Context<Self>;
}

impl actix::Handler<CommandProcess> for Slow {
    type Result = actix::ResponseFuture<Result<(), CommandError>>;
    fn handle(&mut self, _: CommandProcess, _: &mut Self::Context) -> Self::Result {
        Box::pin(async {
            tokio::time::sleep(secs(1)).await;
            Err(CommandError::Gone)
        })
    }
}

#[actix::test]
async fn nothing_follows_done() {
    let mut agent = Agent::with(options(), &[], EndWhen::Never, |peers| {
        peers.command = actix::Actor::start(Slow).recipient();
    });
    let mut scheduler = agent.welcomed().await;
    scheduler.say(json!({"type": "ProcSignalRequest", "proc_id": "a", "signum": 15})).await;
    settle().await;
    agent.order(Shutdown::Idle);
    assert_eq!(scheduler.heard().await, ["ShutDown idling", "ShutDown done", "close 1000"]);
    tokio::time::sleep(secs(2)).await;
    assert_eq!(scheduler.heard().await, ["close 1000"], "as before, and no answer behind it");
}

#[actix::test]
async fn the_agent_does_not_reconnect_if_the_scheduler_hangs_up_after_done() {
    let (mut agent, mut scheduler) = Agent::registered().await;
    agent.order(Shutdown::Idle);
    assert_eq!(scheduler.heard().await, ["ShutDown idling", "ShutDown done", "close 1000"]);
    // The connection ends before `Finish` arrives.
    drop(scheduler);
    assert_eq!(soon(&mut agent.outcome).await.unwrap(), Outcome::Finished);
    agent.conn.do_send(Finish);
    tokio::time::sleep(secs(100)).await;
    assert_eq!(agent.dialled().len(), 1);
}

#[actix::test]
async fn a_connection_lost_during_the_last_message_is_not_replaced() {
    let (mut agent, scheduler) = Agent::registered().await;
    agent.start(&["a"]).await;
    agent.conn.do_send(Finish);
    settle().await;
    assert!(agent.ended().is_none(), "done has not been sent");
    scheduler.lose().await;
    assert_eq!(soon(&mut agent.outcome).await.unwrap(), Outcome::Finished);
}

#[actix::test]
async fn finish_without_a_registered_connection_ends_at_once() {
    for phase in ["waiting", "dialing", "registering"] {
        let plan: &[Plan] = match phase {
            "waiting" => &[Plan::Refuse],
            "dialing" => &[Plan::Hang],
            _ => &[],
        };
        let mut agent = Agent::new(options(), plan);
        settle().await;
        agent.conn.do_send(Finish);
        settle().await;
        assert_eq!(agent.ended(), Some(Outcome::Finished), "{phase}");
        tokio::time::sleep(secs(100)).await;
        assert_eq!(agent.dialled().len(), 1, "{phase}");
        tokio::time::resume();
    }
}
