//! Answers keep the order of their requests, however long each takes.

use std::time::Duration;

use actix::{Actor, Context, Handler, ResponseFuture};
use procstar::actors::lifecycle::EndWhen;
use procstar::actors::messages::{
    Changed, CommandError, CommandProcess, Dated, Delete, DeleteError, Query, Question, Removed,
    Reply, Start, StartError,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::harness::*;
use super::mock_scheduler::*;
use super::requests::registered_with_manual_starts;

/// A supervisor that answers each request faster than the one before.
struct Slow(Duration);

impl Slow {
    fn after<T: 'static>(&mut self, reply: T) -> ResponseFuture<T> {
        self.0 -= Duration::from_millis(10);
        let delay = self.0;
        Box::pin(async move {
            sleep(delay).await;
            reply
        })
    }
}

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<Start> for Slow {
    type Result = ResponseFuture<Result<Vec<procstar::spec::ProcId>, StartError>>;
    fn handle(&mut self, Start(request): Start, _: &mut Self::Context) -> Self::Result {
        self.after(Err(StartError::InUse(request.procs.keys().cloned().collect())))
    }
}

impl Handler<CommandProcess> for Slow {
    type Result = ResponseFuture<Result<(), CommandError>>;
    fn handle(&mut self, _: CommandProcess, _: &mut Self::Context) -> Self::Result {
        self.after(Err(CommandError::Gone))
    }
}

impl Handler<Delete> for Slow {
    type Result = ResponseFuture<Result<(), DeleteError>>;
    fn handle(&mut self, Delete(id): Delete, _: &mut Self::Context) -> Self::Result {
        let unknown = id.as_str() == "stranger";
        self.after(Err(if unknown { DeleteError::Unknown } else { DeleteError::Running }))
    }
}

#[actix::test]
async fn answers_keep_the_order_of_their_requests() {
    let mut agent = Agent::with(options(), &[], EndWhen::Never, |peers| {
        let slow = Slow(Duration::from_secs(1)).start();
        peers.start = slow.clone().recipient();
        peers.command = slow.clone().recipient();
        peers.delete = slow.recipient();
    });
    agent.start(&["a"]).await;
    let mut scheduler = agent.scheduler().await;
    scheduler.welcome().await;
    scheduler.heard().await;
    let kinds = async |scheduler: &Scheduler| {
        scheduler.start(&["a"]).await;
        scheduler.ask("ProcResultRequest", "a").await;
        scheduler.say(json!({"type": "ProcSignalRequest", "proc_id": "a", "signum": 1})).await;
        scheduler.say(json!({"type": "ProcidListRequest"})).await;
        scheduler.ask("ProcDeleteRequest", "a").await;
        scheduler.say(json!({"type": "Nonsense"})).await;
        scheduler.ask("ProcDeleteRequest", "stranger").await;
        scheduler.ask("ProcResultRequest", "stranger").await;
        scheduler.say(json!({"type": "ProcFdDataRequest", "proc_id": "a", "fd": 1})).await;
    };
    kinds(&scheduler).await;
    kinds(&scheduler).await;
    sleep(secs(20)).await;
    let answers = [
        "RequestError \"ProcStartRequest\": process ID already in use: a; delete the process first, or choose another ID",
        "ProcResult a running",
        "RequestError \"ProcSignalRequest\": no process",
        "ProcidList a",
        "RequestError \"ProcDeleteRequest\": process is running",
        "RequestError \"Nonsense\": unknown message type: Nonsense",
        "ProcUnknown stranger",
        "RequestError \"ProcFdDataRequest\": fd 1 of process a is not captured",
    ];
    let second = answers.iter().filter(|answer| !answer.starts_with("ProcUnknown"));
    let expected: Vec<_> = answers.iter().chain(second).copied().collect();
    let heard: Vec<_> =
        scheduler.heard().await.into_iter().filter(|heard| heard != "ping").collect();
    assert_eq!(heard, expected);
}

#[actix::test]
async fn a_result_request_waits_for_the_start_of_its_process() {
    let (agent, mut scheduler) = registered_with_manual_starts().await;
    scheduler.start(&["a"]).await;
    scheduler.ask("ProcResultRequest", "a").await;
    scheduler.say(json!({"type": "ProcidListRequest"})).await;
    assert!(scheduler.heard().await.is_empty());
    agent.tell(started("a"));
    let expected = ["ProcResult a running", "ProcResult a running", "ProcidList a"];
    assert_eq!(scheduler.heard().await, expected);
}

/// Confirms every deletion at once. The test sends the change.
struct Hasty;

impl Actor for Hasty {
    type Context = Context<Self>;
}

impl Handler<Delete> for Hasty {
    type Result = Result<(), DeleteError>;
    fn handle(&mut self, _: Delete, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

/// A question and the channel for its answer.
type Asked = (Question, oneshot::Sender<Dated<Reply>>);

/// Receives questions, which the test answers.
struct Questions(mpsc::UnboundedSender<Asked>);

impl Actor for Questions {
    type Context = Context<Self>;
}

impl Handler<Query> for Questions {
    type Result = ResponseFuture<Dated<Reply>>;
    fn handle(&mut self, Query(question): Query, _: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.0.send((question, answer)).unwrap();
        Box::pin(async { answered.await.unwrap() })
    }
}

/// An agent with an ended process. Its deletions are confirmed at once, and the test answers its
/// questions.
async fn questioned() -> (Agent, Scheduler, mpsc::UnboundedReceiver<Asked>) {
    let (tell, asked) = mpsc::unbounded_channel();
    let mut agent = Agent::with(options(), &[], EndWhen::Never, |peers| {
        peers.delete = Hasty.start().recipient();
        peers.query = Questions(tell).start().recipient();
    });
    let mut scheduler = agent.welcomed().await;
    agent.start(&["a"]).await;
    agent.tell(ended("a", 0));
    assert_eq!(scheduler.heard().await, ["ProcResult a running", "ProcResult a terminated"]);
    (agent, scheduler, asked)
}

#[actix::test]
async fn no_answer_overtakes_a_deletion_confirmed_before_its_change() {
    let (agent, mut scheduler, mut asked) = questioned().await;
    scheduler.ask("ProcDeleteRequest", "a").await;
    scheduler.say(json!({"type": "Nonsense"})).await;
    assert!(scheduler.heard().await.is_empty());
    let (question, answer) = asked.try_recv().unwrap();
    assert_eq!(question, Question::Now);
    agent.results.do_send(Removed("a".into()));
    settle().await;
    let _ = answer.send(Dated { seq: 3, value: Reply::Now });
    let expected = ["ProcDelete a", "RequestError \"Nonsense\": unknown message type: Nonsense"];
    assert_eq!(scheduler.heard().await, expected);
}

#[actix::test]
async fn an_answer_is_sent_between_its_own_and_later_changes() {
    let (agent, mut scheduler, mut asked) = questioned().await;
    // The scheduler reads no messages, so the changes wait in the subscription.
    for n in 0..40 {
        let id = format!("b{n}");
        agent.results.do_send(changed(started(&id)));
        agent.results.do_send(changed(ended(&id, 0)));
    }
    scheduler.say(json!({"type": "ProcidListRequest"})).await;
    settle().await;
    let (_, answer) = asked.try_recv().unwrap();
    // The sequence number of the start of b39: two changes of process a, then 79.
    answer.send(Dated { seq: 2 + 79, value: Reply::Ids(vec!["b39".into()]) }).ok().unwrap();
    let heard = scheduler.heard().await;
    assert_eq!(heard.len(), 81);
    assert_eq!(
        heard[78..],
        ["ProcResult b39 running", "ProcidList b39", "ProcResult b39 terminated"]
    );
}

/// The change that a process's actor publishes for this event.
pub fn changed(event: procstar::engine::Event) -> Changed {
    use procstar::engine::Event;
    use procstar::report::ProcessRecord;
    Changed(match event {
        Event::Started(started) => ProcessRecord::of_start(*started).into(),
        Event::Ended(ended) => ProcessRecord::of_end(*ended).into(),
        _ => panic!("no change"),
    })
}
