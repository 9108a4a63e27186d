//! Acknowledged starts for a scheduler: when the start resolves, and when it must fail.

use actix::{Actor, Context, Handler, ResponseFuture};
use procstar::actors::lifecycle::EndWhen;
use procstar::actors::messages::{Accepted, Shutdown, StartAcknowledged, StartError};
use procstar::actors::results::Results;
use procstar::actors::{Handle, Mailboxes};
use procstar::dispatch::core::accept::{NotAccepted, start};
use procstar::keeper::format::Acceptance;
use tokio::sync::{mpsc, oneshot};

use super::harness::*;

/// The channel for the answer to a start.
type Held = oneshot::Sender<Result<Accepted, StartError>>;

/// Receives starts, which the test answers.
struct Slow(mpsc::UnboundedSender<Held>);

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<StartAcknowledged> for Slow {
    type Result = ResponseFuture<Result<Accepted, StartError>>;
    fn handle(&mut self, _: StartAcknowledged, _: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).unwrap();
        Box::pin(async { answered.await.unwrap() })
    }
}

#[actix::test]
async fn a_start_resolves_when_the_journal_has_it() {
    tokio::time::pause();
    let results = Results::default().start();
    let supervised = supervise(&results, EndWhen::Never, false);
    let (tell, mut held) = mpsc::unbounded_channel();
    let mut mailboxes = Mailboxes::of(&supervised.supervisor, &results);
    mailboxes.start_acknowledged = Slow(tell).start().recipient();
    let agent = Handle::from(mailboxes);
    let all = vec!["a".into()];
    for (present, acceptance, expected) in [
        (vec![], Some(Acceptance::Journaled), Ok(vec![])),
        (all.clone(), None, Ok(all)),
        (vec![], Some(Acceptance::NotJournaled), Err(NotAccepted::NotJournaled)),
        (vec![], Some(Acceptance::InUse), Err(NotAccepted::InUse)),
        (vec![], None, Err(NotAccepted::Ending)),
    ] {
        let agent = agent.clone();
        let started = actix_rt::spawn(async move { start(&agent, request(&["a"]).0).await });
        let answer = soon(held.recv()).await.unwrap();
        settle().await;
        assert!(!started.is_finished(), "nothing is acknowledged before it is accepted");
        answer.send(Ok(Accepted { present, acceptance })).unwrap();
        assert_eq!(soon(started).await.unwrap(), expected);
    }
}

#[actix::test]
async fn the_supervisor_answers_after_the_keepers_acknowledgement() {
    tokio::time::pause();
    let results = Results::default().start();
    let supervised = supervise(&results, EndWhen::Never, true);
    let agent = Handle::from(Mailboxes::of(&supervised.supervisor, &results));
    assert_eq!(start(&agent, request(&["a"]).0).await, Ok(vec![]));
    assert!(supervised.engine.calls().contains(&Call::Launch(vec!["a".into()])));
    let used = start(&agent, request(&["a"]).0).await;
    assert_eq!(used, Err(NotAccepted::Refused(StartError::InUse(vec!["a".into()]))));
    agent.shut_down(Shutdown::Idle);
    let late = start(&agent, request(&["b"]).0).await;
    assert!(matches!(late, Err(NotAccepted::Refused(StartError::ShuttingDown(_)))), "{late:?}");
}
