//! The actor of one process: what is known of it, and what can be done to it.
//!
//! It drives the engine for its process, and makes [`ProcessRecord`] of what the engine tells. All that it knows came with the
//! engine's events, so one that was lost to a bug is replaced by a new one at the next event.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use actix::{Actor, Context, Handler, Message, Recipient, ResponseFuture};
use tokio::sync::oneshot;

use super::EngineLink;
use super::messages::{Changed, CommandError, EngineEvent};
use super::sampler::SamplingHandle;
use crate::engine::{Event, ProcessCommand, StopFailure};
use crate::report::ProcessRecord;
use crate::report::samples::SampleHistory;
use crate::spec::{Identity, ProcId};

/// The actor.
pub struct ProcessActor {
    id: ProcId,
    /// What it was asked to be, if that is known.
    identity: Option<Arc<Identity>>,
    engine: Arc<dyn EngineLink>,
    results: Recipient<Changed>,
    /// How it is sampled, if it is.
    sampling: Option<SamplingHandle>,
    /// Its history, from its start on.
    history: Option<Arc<SampleHistory>>,
    ended: bool,
    /// What was published last.
    record: Option<Arc<ProcessRecord>>,
    /// Who of its tree could not be signaled when it was stopped.
    stop_failures: Vec<StopFailure>,
    /// Who waits for the outcome of a command.
    commands: HashMap<u64, oneshot::Sender<Result<(), CommandError>>>,
}

impl ProcessActor {
    /// The actor of process `id`, which `engine` starts, and whose changes go to `results`.
    pub fn new(
        id: ProcId,
        identity: Option<Arc<Identity>>,
        engine: Arc<dyn EngineLink>,
        results: Recipient<Changed>,
    ) -> Self {
        ProcessActor {
            id,
            identity,
            engine,
            results,
            sampling: None,
            history: None,
            ended: false,
            record: None,
            stop_failures: Vec::new(),
            commands: HashMap::new(),
        }
    }

    /// The same, sampled while it runs.
    pub fn sampled(self, sampling: Option<SamplingHandle>) -> Self {
        ProcessActor { sampling, ..self }
    }

    /// Has record go where all see them.
    fn publish(&mut self, record: ProcessRecord) {
        let record = record
            .with_identity(self.identity.clone())
            .with_history(self.history.clone())
            .with_stop_failures(self.stop_failures.clone());
        let record = Arc::new(record);
        self.record = Some(Arc::clone(&record));
        self.results.do_send(Changed(record));
    }
}

impl Actor for ProcessActor {
    type Context = Context<Self>;
}

impl Handler<EngineEvent> for ProcessActor {
    type Result = ();

    fn handle(&mut self, EngineEvent(event): EngineEvent, _: &mut Self::Context) {
        match event {
            Event::Started(started) => {
                tracing::debug!(proc_id = %self.id, pid = started.pid, "process started");
                self.history = self.sampling.as_ref().map(|sampling| sampling.begin(&started));
                self.publish(ProcessRecord::of_start(*started));
            }
            Event::Ended(ended) => {
                self.ended = true;
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
            // The launched process is what the shell sees.
            Event::Suspended { .. } => {}
            Event::Signaled { ticket, result, .. } => {
                if let Some(waiting) = self.commands.remove(&ticket) {
                    // Whoever asked may have gone.
                    let _ = waiting.send(result.map_err(|error| match error.raw_os_error() {
                        Some(libc::ESRCH) => CommandError::Gone,
                        _ => CommandError::Os(error),
                    }));
                }
            }
        }
    }
}

/// A number that no signal has had: what the engine tells of one must not be taken for another's, also where an
/// actor has taken the place of one that was lost, or a process the ID of one deleted.
fn fresh_ticket() -> u64 {
    // Drawn at random: what an earlier worker asked for may be told to this one.
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(fastrand::u64(..)));
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Do this to the process. Sent by the [`Supervisor`](super::supervisor::Supervisor).
#[derive(Message)]
#[rtype(result = "Result<(), CommandError>")]
pub(super) struct Perform(pub(super) ProcessCommand);

impl Handler<Perform> for ProcessActor {
    type Result = ResponseFuture<Result<(), CommandError>>;

    /// Has the engine do it, by a fresh ticket, and waits for the outcome.
    fn handle(&mut self, Perform(command): Perform, _: &mut Self::Context) -> Self::Result {
        if self.ended {
            return Box::pin(std::future::ready(Err(CommandError::Gone)));
        }
        command.log(&self.id);
        let ticket = fresh_ticket();
        let (reply, outcome) = oneshot::channel();
        self.commands.insert(ticket, reply);
        self.engine.command(self.id.clone(), command, ticket);
        Box::pin(async { outcome.await.unwrap_or(Err(CommandError::Gone)) })
    }
}
