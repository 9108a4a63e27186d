//! The actor of one process, which holds everything about it: start and end, commands, readers of
//! its output, sampling history and peaks.
//!
//! It commands the engine for its process, and turns the engine's events into [`ProcessRecord`]s.
//! It has no thread and no timer: one [`Watcher`] serves all readers of output, one
//! [`SamplerActor`](super::sampler::SamplerActor) all histories. If a bug ends the actor, the
//! supervisor starts another one with the record that [`Results`](super::results::Results) has.

mod questions;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, Recipient,
    ResponseFuture, WrapFuture,
};
use tokio::sync::oneshot;

use super::engine_link::CommandLink;
use super::messages::{Changed, CommandError, Dated, EngineEvent, Query, Question, Reply};
use super::sampler::SamplingHandle;
use crate::engine::{Event, ProcessCommand, StopFailure};
use crate::output::Watcher;
use crate::report::ProcessRecord;
use crate::report::samples::SampleHistory;
use crate::spec::{Identity, ProcId};
use questions::Waiting;
pub use questions::{Answer, Forward};

/// The shared state of all processes' actors.
#[derive(Clone)]
pub struct ProcessContext {
    /// Runs the processes.
    pub engine: Arc<dyn CommandLink>,
    /// Receives every new record.
    pub results: Recipient<Changed>,
    /// Samples the running processes; none if sampling is off.
    pub sampling: Option<SamplingHandle>,
    /// Watches the files of followed output.
    pub watcher: Arc<Watcher>,
}

/// The actor.
pub struct ProcessActor {
    id: ProcId,
    /// The requested identity; none if an earlier worker started the process and lost it.
    identity: Option<Arc<Identity>>,
    shared: Arc<ProcessContext>,
    /// From the start on, if the process is sampled.
    history: Option<Arc<SampleHistory>>,
    /// The last published record; none until the process has started.
    record: Option<Arc<ProcessRecord>>,
    /// The processes of its tree that a stop could not signal.
    stop_failures: Vec<StopFailure>,
    /// The senders of commands that the engine has not confirmed, by ticket.
    commands: HashMap<u64, oneshot::Sender<Result<(), CommandError>>>,
    /// Questions that wait for the start.
    starting: Vec<Waiting>,
    /// Questions that wait for the end.
    ending: Vec<Answer<Arc<ProcessRecord>>>,
}

impl ProcessActor {
    /// The actor of process `id`.
    pub fn new(id: ProcId, identity: Option<Arc<Identity>>, shared: Arc<ProcessContext>) -> Self {
        ProcessActor {
            id,
            identity,
            shared,
            history: None,
            record: None,
            stop_failures: Vec::new(),
            commands: HashMap::new(),
            starting: Vec::new(),
            ending: Vec::new(),
        }
    }

    /// Starts the actor in place of one that a bug has ended, with the record in `results`.
    pub fn start_restored(self, results: &Recipient<Query>) -> Addr<ProcessActor> {
        let query = results.send(Query(Question::Record(self.id.clone())));
        Self::create(|ctx| {
            let restored = query.into_actor(&self).map(|reply, process, _| {
                if let Ok(Dated { value: Reply::Record(Some(record)), .. }) = reply {
                    process.history = record.history().cloned();
                    process.stop_failures = record.stop_failures().to_vec();
                    process.record = Some(record);
                }
            });
            // Messages wait until then.
            ctx.wait(restored);
            self
        })
    }

    /// The record, if the process has ended.
    fn last_record(&self) -> Option<&Arc<ProcessRecord>> {
        self.record.as_ref().filter(|record| !record.is_running())
    }

    /// Publishes a record, and then answers the questions that waited for it: a client that has
    /// the answer finds the record in the results too.
    fn publish(&mut self, record: ProcessRecord) {
        let record = record
            .with_identity(self.identity.clone())
            .with_history(self.history.clone())
            .with_stop_failures(self.stop_failures.clone());
        let record = Arc::new(record);
        self.record = Some(Arc::clone(&record));
        self.shared.results.do_send(Changed(Arc::clone(&record)));
        for waiting in std::mem::take(&mut self.starting) {
            self.answer_started(waiting, &record);
        }
        if !record.is_running() {
            for answer in std::mem::take(&mut self.ending) {
                // The client may have gone.
                let _ = answer.send(Some(Arc::clone(&record)));
            }
        }
    }
}

impl Actor for ProcessActor {
    type Context = Context<Self>;
}

/// The process is deleted. Sent by the [`Supervisor`](super::supervisor::Supervisor) before it
/// drops the actor: without this message, the waiting queries would be sent again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deleted;

impl Handler<Deleted> for ProcessActor {
    type Result = ();

    fn handle(&mut self, _: Deleted, _: &mut Self::Context) {
        self.starting.drain(..).for_each(Waiting::refuse);
        for answer in self.ending.drain(..) {
            // The client may have gone.
            let _ = answer.send(None);
        }
    }
}

impl Handler<EngineEvent> for ProcessActor {
    type Result = ();

    fn handle(&mut self, EngineEvent(event): EngineEvent, _: &mut Self::Context) {
        match event {
            Event::Started(started) => {
                tracing::debug!(proc_id = %self.id, pid = started.pid, "process started");
                let sampling = self.shared.sampling.as_ref();
                self.history = sampling.map(|sampling| sampling.begin(&started));
                self.publish(ProcessRecord::of_start(*started));
            }
            Event::Ended(ended) => {
                self.history.iter().for_each(|history| history.end());
                tracing::debug!(proc_id = %self.id, pid = ended.pid, status = ended.status,
                    failures = ended.failures.len(), "process ended");
                self.publish(ProcessRecord::of_end(*ended));
            }
            Event::StopFailed { failures, .. } => {
                self.stop_failures.extend(failures);
                if let Some(record) = self.record.as_deref().filter(|record| record.is_running()) {
                    self.publish(record.clone());
                }
            }
            // Only the keeper acts on these.
            Event::Suspended { .. } | Event::Held(_) | Event::Released(_) => {}
            Event::Signaled { ticket, result, .. } => {
                if let Some(waiting) = self.commands.remove(&ticket) {
                    // The client may have gone.
                    let _ = waiting.send(result.map_err(|error| match error.raw_os_error() {
                        Some(libc::ESRCH) => CommandError::Gone,
                        _ => CommandError::Os(error),
                    }));
                }
            }
        }
    }
}

/// A ticket that no other command has had: the outcome of an earlier command, of a lost actor or
/// of a deleted process with the same ID, must not be taken for this one's.
fn fresh_ticket() -> u64 {
    // From a random number on: outcomes of an earlier worker's commands may reach this one.
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(fastrand::u64(..)));
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Carry out a command. Sent by the [`Supervisor`](super::supervisor::Supervisor).
#[derive(Message)]
#[rtype(result = "Result<(), CommandError>")]
pub(super) struct Perform(pub(super) ProcessCommand);

impl Handler<Perform> for ProcessActor {
    type Result = ResponseFuture<Result<(), CommandError>>;

    /// Sends the engine the command with a fresh ticket, and waits for the outcome.
    fn handle(&mut self, Perform(command): Perform, _: &mut Self::Context) -> Self::Result {
        if self.last_record().is_some() {
            return Box::pin(std::future::ready(Err(CommandError::Gone)));
        }
        command.log(&self.id);
        let ticket = fresh_ticket();
        let (reply, outcome) = oneshot::channel();
        self.commands.insert(ticket, reply);
        self.shared.engine.command(self.id.clone(), command, ticket);
        Box::pin(async { outcome.await.unwrap_or(Err(CommandError::Gone)) })
    }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
