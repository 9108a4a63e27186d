//! The actor that owns the processes: only it starts and deletes them, and decides when the worker
//! ends.

mod idempotent;
mod progress;
mod questions;

use std::collections::HashMap;
use std::sync::{Arc, Once};
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Recipient,
    ResponseActFuture, ResponseFuture, SpawnHandle, StreamHandler, WrapFuture, fut,
};
use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::engine_link::EngineLink;
use super::lifecycle::{Counts, EndWhen, Graces, Lifecycle, LifecycleStep};
use super::messages::{
    Accepted, Announce, Changed, CommandError, CommandProcess, Delete, DeleteError, EngineEvent,
    Query, Removed, ResumeShutdown, Shutdown, ShutdownChanged, ShutdownState, Start,
    StartAcknowledged, StartError,
};
use super::process::{Deleted, Perform, ProcessActor, ProcessContext};
use super::quota::{self, Present, Quota};
use super::sampler::SamplingHandle;
use crate::engine::{Captures, Event, ProcessCommand, StopOrder};
use crate::keeper::format::ProcessEntry;
use crate::mem::shrink::Shrink;
use crate::spec::{Identity, ProcId, SYSTEMD_UNAPPLIED, Validated};
use progress::Progress;

/// The mailboxes of the results, which the supervisor writes to.
pub struct SupervisorOutputs {
    /// Every accepted process.
    pub announce: Recipient<Announce>,
    /// Every new record; used by the process's actor.
    pub changed: Recipient<Changed>,
    /// Every deletion.
    pub removed: Recipient<Removed>,
    /// Every state of shutdown.
    pub shutdown: Recipient<ShutdownChanged>,
    /// The last record of a process whose actor is lost.
    pub query: Recipient<Query>,
}

/// The actor. When the worker must end, it sends on `done`.
pub struct Supervisor {
    engine: Arc<dyn EngineLink>,
    outputs: SupervisorOutputs,
    /// Shared with the actors of the processes.
    shared: Arc<ProcessContext>,
    processes: HashMap<ProcId, Owned>,
    running: usize,
    any: bool,
    lifecycle: Lifecycle,
    /// Whether the worker may end by itself: not before it has started the processes of INPUT.
    ready: bool,
    alarm: Option<(Instant, SpawnHandle)>,
    /// The condition that the worker waits for, as logged.
    progress: Option<Progress>,
    done: Option<oneshot::Sender<()>>,
    /// The bounds on started and kept processes.
    quota: Quota,
    /// The bytes in captures of running processes, and the time of that measurement.
    taken_by_running: Option<(Instant, u64)>,
    /// The bytes in captures of ended processes.
    taken_by_ended: u64,
}

/// The validity of a measurement of running processes' captures: measuring thousands takes
/// milliseconds.
const BELIEVED: Duration = Duration::from_secs(1);

struct Owned {
    actor: Addr<ProcessActor>,
    /// The captures while the process runs, if a quota counts them.
    captures: Option<Arc<Captures>>,
    /// The bytes in its captures since its end.
    taken: u64,
    /// The requested identity; none if an earlier worker lost it.
    identity: Option<Arc<Identity>>,
    /// Whether the process's actor has published the end: consequences must reach the results after
    /// it.
    ended: bool,
    /// Resolves, with an error, at the deletion; none until a deletion begins.
    deletion: Option<Shared<oneshot::Receiver<()>>>,
}

impl Supervisor {
    /// A supervisor of processes that `engine` runs.
    pub fn new(
        engine: Arc<dyn EngineLink>,
        outputs: SupervisorOutputs,
        end_when: EndWhen,
        graces: Graces,
        done: oneshot::Sender<()>,
    ) -> Self {
        let shared = Arc::new(ProcessContext {
            engine: engine.clone(),
            results: outputs.changed.clone(),
            sampling: None,
            watcher: Arc::default(),
        });
        Supervisor {
            engine,
            outputs,
            shared,
            processes: HashMap::new(),
            running: 0,
            any: false,
            lifecycle: Lifecycle::new(end_when, graces),
            ready: false,
            alarm: None,
            progress: None,
            done: Some(done),
            quota: Quota::default(),
            taken_by_running: None,
            taken_by_ended: 0,
        }
    }

    /// The same with a quota.
    pub fn bounded(self, quota: Quota) -> Self {
        Supervisor { quota, ..self }
    }

    /// The same with sampling of running processes.
    pub fn sampled(self, sampling: Option<SamplingHandle>) -> Self {
        let shared = ProcessContext { sampling, ..(*self.shared).clone() };
        Supervisor { shared: Arc::new(shared), ..self }
    }

    /// Adopts the processes of an earlier worker; `any` is whether that one ever had a process.
    pub fn adopt(&mut self, records: Vec<ProcessEntry>, any: bool, ctx: &mut Context<Self>) {
        self.any = any || !records.is_empty();
        if self.any && !any {
            self.engine.note_assignment();
        }
        for ProcessEntry { id, started, ended, identity, stop_failures } in records {
            self.outputs.announce.do_send(Announce(id.clone()));
            let owned = self.own(&id, identity);
            self.processes.insert(id.clone(), owned);
            self.running += 1;
            let failed = (!stop_failures.is_empty())
                .then_some(Event::StopFailed { id, failures: stop_failures });
            let started = started.map(|started| Event::Started(Box::new(started)));
            let events = [started, failed, ended.map(Event::Ended)];
            for event in events.into_iter().flatten() {
                StreamHandler::handle(self, event, ctx);
            }
        }
    }

    fn own(&self, id: &ProcId, identity: Option<Arc<Identity>>) -> Owned {
        let shared = Arc::clone(&self.shared);
        let actor = ProcessActor::new(id.clone(), identity.clone(), shared).start();
        Owned { actor, captures: None, taken: 0, identity, ended: false, deletion: None }
    }

    /// The actor of a process. An actor lost to a bug is replaced by one with the last record.
    fn actor(&mut self, id: &ProcId) -> Option<Addr<ProcessActor>> {
        let owned = self.processes.get(id)?;
        if !owned.actor.connected() {
            tracing::error!(proc_id = %id, "process actor lost, starting another");
            let (identity, shared) = (owned.identity.clone(), Arc::clone(&self.shared));
            let fresh = ProcessActor::new(id.clone(), identity, shared);
            let fresh = fresh.start_restored(&self.outputs.query);
            if let Some(owned) = self.processes.get_mut(id) {
                owned.actor = fresh;
            }
        }
        self.processes.get(id).map(|owned| owned.actor.clone())
    }

    /// The process's actor has published the end.
    fn ended(&mut self, id: &ProcId, ctx: &mut Context<Self>) {
        if let Some(owned) = self.processes.get_mut(id)
            && !std::mem::replace(&mut owned.ended, true)
        {
            self.running = self.running.saturating_sub(1);
            self.advance(ctx);
        }
    }

    /// The amounts that the quota bounds.
    fn present(&mut self) -> Present {
        let captures = match self.quota.captures {
            Some(_) => self.taken_by_ended.saturating_add(self.taken_by_running()),
            None => 0,
        };
        Present { running: self.running, kept: self.processes.len(), captures }
    }

    fn taken_by_running(&mut self) -> u64 {
        let now = Instant::now();
        if let Some((at, taken)) = self.taken_by_running
            && now.duration_since(at) < BELIEVED
        {
            return taken;
        }
        let running = self.processes.values().filter_map(|owned| owned.captures.as_deref());
        let taken = running.map(quota::taken).sum();
        self.taken_by_running = Some((now, taken));
        taken
    }

    /// Records the bytes of a process's captures, if a quota counts them.
    fn note_captures(&mut self, id: &ProcId, event: &Event) {
        let Some(owned) = self.processes.get_mut(id).filter(|_| self.quota.captures.is_some())
        else {
            return;
        };
        match event {
            Event::Started(started) => owned.captures = Some(Arc::clone(&started.captures)),
            Event::Ended(ended) => {
                owned.captures = None;
                let before = std::mem::replace(&mut owned.taken, quota::taken(&ended.captures));
                self.taken_by_ended =
                    self.taken_by_ended.saturating_sub(before).saturating_add(owned.taken);
            }
            _ => {}
        }
    }

    /// Follows an order that came some time ago.
    fn follow(&mut self, order: Shutdown, age: Duration, ctx: &mut Context<Self>) {
        tracing::info!(?order, "shutting down");
        self.ready = true;
        let now = Instant::now();
        let given = now.checked_sub(age).unwrap_or(now);
        let steps = self.lifecycle.order(order, given);
        if !steps.is_empty() {
            self.engine.note(order);
        }
        self.take(steps);
        self.advance_since(given, ctx);
    }

    /// Advances the worker's life after a change.
    fn advance(&mut self, ctx: &mut Context<Self>) {
        self.advance_since(Instant::now(), ctx);
    }

    /// The same after an order that came at this time.
    fn advance_since(&mut self, since: Instant, ctx: &mut Context<Self>) {
        if !self.ready {
            return;
        }
        let counts = Counts { running: self.running, present: self.processes.len(), any: self.any };
        let steps = self.lifecycle.advance(counts, Instant::now());
        if steps.contains(&LifecycleStep::Kill) {
            self.report_overdue();
        }
        self.take(steps);
        self.follow_progress(since, ctx);
        self.set_alarm(ctx);
        if self.lifecycle.state() == ShutdownState::Done
            && let Some(done) = self.done.take()
        {
            tracing::info!("done");
            // A test may have no receiver.
            let _ = done.send(());
        }
    }

    fn take(&mut self, steps: Vec<LifecycleStep>) {
        for step in steps {
            match step {
                LifecycleStep::Announce(state) => {
                    tracing::info!(
                        state = state.as_str(),
                        running = self.running,
                        present = self.processes.len(),
                        "shutdown state"
                    );
                    self.outputs.shutdown.do_send(ShutdownChanged(state));
                }
                LifecycleStep::StopAll => self.stop_all(None),
                LifecycleStep::Kill => self.stop_all(Some(libc::SIGKILL)),
            }
        }
    }

    /// Stops every running process: by this signal, or as its spec says.
    fn stop_all(&mut self, signum: Option<i32>) {
        tracing::info!(signum, running = self.running, "stopping every running process");
        let running = self.processes.iter().filter(|(_, owned)| !owned.ended);
        for id in running.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            if let Some(actor) = self.actor(&id) {
                // A process that has just ended is not an error.
                let order = StopOrder { signum, grace: None, shutdown: true };
                actor.do_send(Perform(ProcessCommand::Stop(order)));
            }
        }
    }

    /// Sets the timer for the next deadline of the worker's life, if that has changed.
    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let deadline = self.lifecycle.deadline().filter(|at| *at > Instant::now());
        if self.alarm.map(|(at, _)| at) == deadline {
            return;
        }
        if let Some((_, handle)) = self.alarm.take() {
            ctx.cancel_future(handle);
        }
        if let Some(at) = deadline {
            let wait = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            let handle = ctx.run_later(wait, |supervisor, ctx| {
                supervisor.alarm = None;
                supervisor.advance(ctx);
            });
            self.alarm = Some((at, handle));
        }
    }
}

/// Logs, once, that procstar does not apply the systemd settings of a request. The results say it
/// for each process.
pub fn warn_of_systemd(request: &Validated) {
    static ONCE: Once = Once::new();
    if request.procs.values().any(|proc| !proc.systemd.is_empty()) {
        ONCE.call_once(|| tracing::warn!("{SYSTEMD_UNAPPLIED}"));
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;
}

impl Supervisor {
    /// Accepts a request and announces its processes, or refuses it whole. Returns the processes to
    /// launch, and the IDs of those that were started already.
    fn accept(&mut self, mut request: Validated) -> Result<(Validated, Vec<ProcId>), StartError> {
        let state = self.lifecycle.state();
        if state != ShutdownState::Active {
            return Err(StartError::ShuttingDown(state));
        }
        let present: Vec<ProcId> =
            request.procs.keys().filter(|id| self.processes.contains_key(*id)).cloned().collect();
        if !present.is_empty() {
            self.leave_out(&mut request, &present)?;
        }
        let there = self.present();
        self.quota.check(&request, there)?;
        warn_of_systemd(&request);
        for (id, proc) in &request.procs {
            self.outputs.announce.do_send(Announce(id.clone()));
            let owned = self.own(id, Some(Arc::new(Identity::from(proc))));
            self.processes.insert(id.clone(), owned);
        }
        self.running += request.procs.len();
        if !request.procs.is_empty() && !std::mem::replace(&mut self.any, true) {
            self.engine.note_assignment();
        }
        Ok((request, present))
    }

    /// A request was launched.
    fn launched(&mut self, ctx: &mut Context<Self>) {
        if self.ready {
            self.follow_progress(Instant::now(), ctx);
        }
    }
}

impl Handler<Start> for Supervisor {
    type Result = Result<Vec<ProcId>, StartError>;

    fn handle(&mut self, Start(request): Start, ctx: &mut Self::Context) -> Self::Result {
        let (request, present) = self.accept(request)?;
        if !request.procs.is_empty() {
            self.engine.launch(request);
        }
        self.launched(ctx);
        Ok(present)
    }
}

impl Handler<StartAcknowledged> for Supervisor {
    type Result = ResponseFuture<Result<Accepted, StartError>>;

    fn handle(
        &mut self,
        StartAcknowledged(request): StartAcknowledged,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        let (request, present) = match self.accept(request) {
            Ok(accepted) => accepted,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let launch = (!request.procs.is_empty()).then(|| self.engine.launch_acknowledged(request));
        self.launched(ctx);
        Box::pin(async move {
            let acceptance = match launch {
                Some(acceptance) => acceptance.await.ok(),
                None => None,
            };
            Ok(Accepted { present, acceptance })
        })
    }
}

impl Handler<CommandProcess> for Supervisor {
    type Result = ResponseFuture<Result<(), CommandError>>;

    fn handle(
        &mut self,
        CommandProcess { id, command }: CommandProcess,
        _: &mut Self::Context,
    ) -> Self::Result {
        let sent = match self.processes.get(&id) {
            None => Err(CommandError::Unknown),
            Some(Owned { ended: true, .. }) => Err(CommandError::Gone),
            Some(_) => match self.actor(&id) {
                Some(actor) => Ok(actor.send(Perform(command))),
                None => Err(CommandError::Unknown),
            },
        };
        Box::pin(async move {
            // The actor is closed only if a bug has just ended it, or the process was deleted
            // meanwhile.
            sent?.await.unwrap_or(Err(CommandError::Gone))
        })
    }
}

impl Handler<Delete> for Supervisor {
    type Result = ResponseActFuture<Self, Result<(), DeleteError>>;

    fn handle(&mut self, Delete(id): Delete, _: &mut Self::Context) -> Self::Result {
        let owned = match self.processes.get_mut(&id) {
            None => return Box::pin(fut::ready(Err(DeleteError::Unknown))),
            Some(Owned { ended: false, .. }) => {
                return Box::pin(fut::ready(Err(DeleteError::Running)));
            }
            Some(owned) => owned,
        };
        if let Some(deletion) = owned.deletion.clone() {
            // Another request to delete it came first.
            return Box::pin(deletion.into_actor(self).map(|_, _, _| Err(DeleteError::Unknown)));
        }
        let (held, deletion) = oneshot::channel();
        owned.deletion = Some(deletion.shared());
        let forgotten = self.engine.forget(id.clone());
        let forgotten = async move {
            if forgotten.await.is_err() {
                // Without a keeper the deletion is unknown, and this worker is about to end.
                std::future::pending().await
            }
        };
        Box::pin(forgotten.into_actor(self).map(move |(), supervisor, ctx| {
            if let Some(owned) = supervisor.processes.remove(&id) {
                supervisor.taken_by_ended = supervisor.taken_by_ended.saturating_sub(owned.taken);
                // The actor stops after this message, with its last address.
                owned.actor.do_send(Deleted);
            }
            supervisor.processes.shrink_if_sparse();
            tracing::debug!(proc_id = %id, "process deleted");
            supervisor.outputs.removed.do_send(Removed(id));
            supervisor.advance(ctx);
            drop(held);
            Ok(())
        }))
    }
}

impl Handler<Shutdown> for Supervisor {
    type Result = ();

    fn handle(&mut self, order: Shutdown, ctx: &mut Self::Context) {
        self.follow(order, Duration::ZERO, ctx);
    }
}

impl Handler<ResumeShutdown> for Supervisor {
    type Result = ();

    fn handle(&mut self, ResumeShutdown { order, age }: ResumeShutdown, ctx: &mut Self::Context) {
        self.follow(order, age, ctx);
    }
}

/// The processes of INPUT are started, or there is no INPUT: the worker may end by itself.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct Ready;

impl Handler<Ready> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Ready, ctx: &mut Self::Context) {
        self.ready = true;
        self.advance(ctx);
    }
}

impl StreamHandler<Event> for Supervisor {
    fn handle(&mut self, event: Event, ctx: &mut Context<Self>) {
        let id = event.id().clone();
        let Some(actor) = self.actor(&id) else { return };
        self.note_captures(&id, &event);
        match event {
            Event::Ended(_) => {
                // Even if the event ends the actor: the end of the worker must not wait forever.
                let delivered = actor.send(EngineEvent(event)).into_actor(self);
                ctx.spawn(delivered.map(move |_, supervisor, ctx| supervisor.ended(&id, ctx)));
            }
            Event::Started(_)
            | Event::Signaled { .. }
            | Event::StopFailed { .. }
            | Event::Suspended { .. }
            | Event::Held(_)
            | Event::Released(_) => {
                actor.do_send(EngineEvent(event));
            }
        }
    }

    /// The engine's thread has ended, which it does only without an owner.
    fn finished(&mut self, ctx: &mut Context<Self>) {
        tracing::error!("the engine has ended");
        self.done = None;
        ctx.stop();
    }
}
