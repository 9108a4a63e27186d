//! The handle to the actors for everything else in the worker: HTTP, the writer of results, the
//! copy of a foreground process's output, the dispatch.
//!
//! It holds mailboxes, not actors: tests put their own there ([`Mailboxes`]).

use std::sync::Arc;

use actix::dev::{RecipientRequest, ToEnvelope};
use actix::{Actor, Addr, Handler, MailboxError, Message, Recipient};
use futures_util::TryFutureExt;
use futures_util::future::MapErr;

use super::messages::Usage;
use super::messages::{
    AwaitEnd, AwaitStart, CommandProcess, Cursor, Delete, FollowOutput, GetAll, GetCursor, GetPage,
    GetProcessCounts, GetUsage, ProcessQuestion, Query, Question, ReadOutput, Shutdown, Start,
    StartAcknowledged, Subscribe,
};
use super::subscription::Delivery;
use crate::engine::ProcessCommand;
use crate::output::{OutputFollower, OutputReader};
use crate::report::ProcessRecord;
use crate::spec::{ProcId, Validated};

/// The actor has ended, and the worker is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "agent shutting down: it may or may not have carried out the request; check when the instance runs again"
)]
pub struct WorkerEnding;

/// The mailboxes behind a [`Handle`].
#[derive(Clone)]
pub struct Mailboxes {
    /// The supervisor's: starts processes.
    pub start: Recipient<Start>,
    /// The supervisor's: starts processes, and answers once the keeper has accepted them.
    pub start_acknowledged: Recipient<StartAcknowledged>,
    /// The supervisor's: commands one process.
    pub command: Recipient<CommandProcess>,
    /// The supervisor's: deletes an ended process.
    pub delete: Recipient<Delete>,
    /// The supervisor's: ends the worker.
    pub shutdown: Recipient<Shutdown>,
    /// The supervisor's, for the process's actor: the start of a process.
    pub await_start: Recipient<AwaitStart>,
    /// The supervisor's, for the process's actor: the end of a process.
    pub await_end: Recipient<AwaitEnd>,
    /// The supervisor's, for the process's actor: resource usage and sampling history.
    pub usage: Recipient<GetUsage>,
    /// The supervisor's, for the process's actor: a reader of the output so far.
    pub read_output: Recipient<ReadOutput>,
    /// The supervisor's, for the process's actor: a follower of the output.
    pub follow_output: Recipient<FollowOutput>,
    /// The results': all processes that have started.
    pub all: Recipient<GetAll>,
    /// The results': the same by pages.
    pub page: Recipient<GetPage>,
    /// The results': a subscription to the changes.
    pub subscribe: Recipient<Subscribe>,
    /// The results': questions whose answers keep the order of changes.
    pub query: Recipient<Query>,
    /// The results': the numbers of processes.
    pub counts: Recipient<GetProcessCounts>,
    /// The results': the cursor of the last change.
    pub cursor: Recipient<GetCursor>,
}

impl Mailboxes {
    /// The mailboxes of a supervisor and of the results, or of their replacements in a test.
    pub fn of<S, R>(supervisor: &Addr<S>, results: &Addr<R>) -> Mailboxes
    where
        S: Actor
            + Handler<Start>
            + Handler<StartAcknowledged>
            + Handler<CommandProcess>
            + Handler<Delete>
            + Handler<Shutdown>
            + Handler<AwaitStart>
            + Handler<AwaitEnd>
            + Handler<GetUsage>
            + Handler<ReadOutput>
            + Handler<FollowOutput>,
        S::Context: ToEnvelope<S, Start>
            + ToEnvelope<S, StartAcknowledged>
            + ToEnvelope<S, CommandProcess>
            + ToEnvelope<S, Delete>
            + ToEnvelope<S, Shutdown>
            + ToEnvelope<S, AwaitStart>
            + ToEnvelope<S, AwaitEnd>
            + ToEnvelope<S, GetUsage>
            + ToEnvelope<S, ReadOutput>
            + ToEnvelope<S, FollowOutput>,
        R: Actor
            + Handler<GetAll>
            + Handler<GetPage>
            + Handler<Subscribe>
            + Handler<Query>
            + Handler<GetProcessCounts>
            + Handler<GetCursor>,
        R::Context: ToEnvelope<R, GetAll>
            + ToEnvelope<R, GetPage>
            + ToEnvelope<R, Subscribe>
            + ToEnvelope<R, Query>
            + ToEnvelope<R, GetProcessCounts>
            + ToEnvelope<R, GetCursor>,
    {
        Mailboxes {
            start: supervisor.clone().recipient(),
            start_acknowledged: supervisor.clone().recipient(),
            command: supervisor.clone().recipient(),
            delete: supervisor.clone().recipient(),
            shutdown: supervisor.clone().recipient(),
            await_start: supervisor.clone().recipient(),
            await_end: supervisor.clone().recipient(),
            usage: supervisor.clone().recipient(),
            read_output: supervisor.clone().recipient(),
            follow_output: supervisor.clone().recipient(),
            all: results.clone().recipient(),
            page: results.clone().recipient(),
            subscribe: results.clone().recipient(),
            query: results.clone().recipient(),
            counts: results.clone().recipient(),
            cursor: results.clone().recipient(),
        }
    }
}

/// The interface of the actors. Cheap to clone; usable on any thread.
///
/// Each method sends its message at once and returns a future of the answer. The future fails if
/// the worker is ending. A refusal is part of the answer.
#[derive(Clone)]
pub struct Handle(Arc<Mailboxes>);

impl From<Mailboxes> for Handle {
    fn from(mailboxes: Mailboxes) -> Handle {
        Handle(Arc::new(mailboxes))
    }
}

/// The future answer to a message. Dropping it withdraws a question, but not a command.
pub type Answer<M> = MapErr<RecipientRequest<M>, fn(MailboxError) -> WorkerEnding>;

/// The answer about one process: none if it is unknown.
pub type ProcessAnswer<T> = Result<Option<T>, WorkerEnding>;

fn send<M>(mailbox: &Recipient<M>, message: M) -> Answer<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    // A handle's mailboxes are unbounded, so the only failure is an actor that has ended.
    mailbox.send(message).map_err(|_| WorkerEnding)
}

/// Sends a query about a process. If a bug has ended the process's actor, the supervisor replaces
/// it, and the second query succeeds.
fn query_process<Q: ProcessQuestion>(
    mailboxes: &Arc<Mailboxes>,
    mailbox: fn(&Mailboxes) -> &Recipient<Q>,
    question: Q,
) -> impl Future<Output = ProcessAnswer<Q::Answer>> + use<Q> {
    let mailboxes = Arc::clone(mailboxes);
    let answer = mailbox(&mailboxes).send(question.clone());
    async move {
        match answer.await {
            Ok(answer) => Ok(answer),
            Err(_) => mailbox(&mailboxes).send(question).await.map_err(|_| WorkerEnding),
        }
    }
}

impl Handle {
    /// Starts every process of a request, or none. Returns the IDs of processes that an idempotent
    /// request found already started.
    pub fn start(&self, request: Validated) -> Answer<Start> {
        send(&self.0.start, Start(request))
    }

    /// The same, but the answer waits until the keeper has accepted the new processes.
    pub fn start_acknowledged(&self, request: Validated) -> Answer<StartAcknowledged> {
        send(&self.0.start_acknowledged, StartAcknowledged(request))
    }

    /// Commands a process; the answer waits for the outcome.
    pub fn command(&self, id: ProcId, command: ProcessCommand) -> Answer<CommandProcess> {
        send(&self.0.command, CommandProcess { id, command })
    }

    /// Commands a process without an answer: the process may just have ended.
    pub fn post_command(&self, id: ProcId, command: ProcessCommand) {
        self.0.command.do_send(CommandProcess { id, command });
    }

    /// Deletes an ended process; the answer waits until no later worker can know it.
    pub fn delete(&self, id: ProcId) -> Answer<Delete> {
        send(&self.0.delete, Delete(id))
    }

    /// Shuts the worker down, or goes further in a shutdown.
    pub fn shut_down(&self, order: Shutdown) {
        self.0.shutdown.do_send(order);
    }

    /// The record of a process, once it has started or failed to start; none if it is unknown.
    pub fn await_start(
        &self,
        id: ProcId,
    ) -> impl Future<Output = ProcessAnswer<Arc<ProcessRecord>>> + use<> {
        query_process(&self.0, |mailboxes| &mailboxes.await_start, AwaitStart(id))
    }

    /// Waits until each of these processes has started or failed to start, or is unknown.
    ///
    /// # Errors
    /// The worker is ending.
    pub async fn await_starts(&self, ids: &[ProcId]) -> Result<(), WorkerEnding> {
        // Several queries at once save most changes of threads.
        for ids in ids.chunks(64) {
            let answers: Vec<_> = ids.iter().map(|id| self.await_start(id.clone())).collect();
            for answer in answers {
                answer.await?;
            }
        }
        Ok(())
    }

    /// The last record of a process, once it has ended; none if it is unknown, or deleted
    /// meanwhile.
    pub fn await_end(
        &self,
        id: ProcId,
    ) -> impl Future<Output = ProcessAnswer<Arc<ProcessRecord>>> + use<> {
        query_process(&self.0, |mailboxes| &mailboxes.await_end, AwaitEnd(id))
    }

    /// The resource usage of a process at present; none if it is unknown or has not started.
    pub fn usage(&self, id: ProcId) -> impl Future<Output = ProcessAnswer<Usage>> + use<> {
        query_process(&self.0, |mailboxes| &mailboxes.usage, GetUsage(id))
    }

    /// A reader of a process's output so far, once it has started; none if it is unknown.
    pub fn read_output(
        &self,
        id: ProcId,
    ) -> impl Future<Output = ProcessAnswer<OutputReader>> + use<> {
        query_process(&self.0, |mailboxes| &mailboxes.read_output, ReadOutput(id))
    }

    /// A follower of a process's output, once it has started; none if it is unknown.
    pub fn follow_output(
        &self,
        id: ProcId,
    ) -> impl Future<Output = ProcessAnswer<OutputFollower>> + use<> {
        query_process(&self.0, |mailboxes| &mailboxes.follow_output, FollowOutput(id))
    }

    /// All processes that have started, in the order of acceptance.
    pub fn get_all(&self) -> Answer<GetAll> {
        send(&self.0.all, GetAll)
    }

    /// The same by pages: at most `max` after a cursor; none if the cursor is of another run.
    pub fn get_page(&self, after: Option<Cursor>, max: usize) -> Answer<GetPage> {
        send(&self.0.page, GetPage { after, max })
    }

    /// The changes after a cursor; without a cursor, all processes and every later change.
    pub fn subscribe(&self, after: Option<Cursor>, delivery: Delivery) -> Answer<Subscribe> {
        send(&self.0.subscribe, Subscribe { after, delivery })
    }

    /// The reply to a question, with the number of the last change that it contains.
    pub fn query(&self, question: Question) -> Answer<Query> {
        send(&self.0.query, Query(question))
    }

    /// The numbers of processes, and the state of shutdown.
    pub fn counts(&self) -> Answer<GetProcessCounts> {
        send(&self.0.counts, GetProcessCounts)
    }

    /// The cursor of the last change.
    pub fn cursor(&self) -> Answer<GetCursor> {
        send(&self.0.cursor, GetCursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::messages::CommandError;
    use crate::actors::mock_supervisor::MockSupervisor;
    use crate::actors::results::Results;

    #[actix_rt::test]
    async fn a_handle_queries_its_mailboxes_until_they_close() {
        let (mock, results) = (MockSupervisor.start(), Results::default().start());
        let handle = Handle::from(Mailboxes::of(&mock, &results));
        let command = ProcessCommand::Signal(15);
        assert!(handle.command("a".into(), command).await.unwrap().is_ok());
        let refused = handle.command("b".into(), command).await.unwrap();
        assert!(matches!(refused, Err(CommandError::Unknown)));
        assert!(handle.await_start("a".into()).await.unwrap().is_none());
        assert_eq!(handle.await_starts(&["a".into(), "b".into()]).await, Ok(()));
        assert!(handle.await_end("a".into()).await.unwrap().is_none());
        assert!(handle.usage("a".into()).await.unwrap().is_none());
        assert!(handle.read_output("a".into()).await.unwrap().is_none());
        assert!(handle.follow_output("a".into()).await.unwrap().is_none());
        assert_eq!(handle.counts().await.unwrap().present(), 0);
        handle.shut_down(Shutdown::Idle);
        while mock.connected() {
            tokio::task::yield_now().await;
        }
        let ended = handle.command("a".into(), command).await;
        assert!(matches!(ended, Err(WorkerEnding)));
        assert_eq!(handle.await_starts(&["a".into()]).await, Err(WorkerEnding));
        assert!(matches!(handle.await_end("a".into()).await, Err(WorkerEnding)));
        assert!(handle.get_all().await.unwrap().is_empty(), "the results are another mailbox");
    }
}
