//! What stands behind the service in these tests: one actor on a real engine for the supervisor, without what makes that one hard, and
//! the real results.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use actix::{Actor, ActorContext, Addr, Context, Handler, Message, ResponseFuture};
use procstar::actors::messages::{
    Accepted, Announce, Changed, CommandError, CommandProcess, Delete, DeleteError, EngineEvent,
    Removed, Shutdown, ShutdownState, Start, StartAcknowledged, StartError,
};
use procstar::actors::results::Results;
use procstar::engine::{Engine, Event, ProcessCommand};
use procstar::report::ProcessRecord;
use procstar::spec::ProcId;
use tokio::sync::oneshot;

/// A request for this process comes too late: no new ones are accepted.
pub const TOO_LATE: &str = "too late";
/// A signal for this process is not permitted.
pub const FORBIDDEN: &str = "forbidden";
/// A signal for this process is refused otherwise.
pub const BROKEN: &str = "broken";

pub struct Mock {
    engine: Engine,
    /// In the order of acceptance; none before the start.
    procs: Vec<(ProcId, Option<Arc<ProcessRecord>>)>,
    pub results: Addr<Results>,
    tickets: HashMap<u64, oneshot::Sender<io::Result<()>>>,
}

/// Kill every process and end this actor: from now on nobody answers.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Die;

impl Mock {
    pub fn start(options: procstar::engine::EngineOptions, results: Addr<Results>) -> Addr<Mock> {
        Mock::create(|ctx| {
            let told = actix::AsyncContext::address(ctx).recipient::<EngineEvent>();
            let engine =
                Engine::start(options, move |event| told.do_send(EngineEvent(event))).unwrap();
            Mock { engine, procs: Vec::new(), results, tickets: HashMap::new() }
        })
    }

    fn find(&mut self, id: &ProcId) -> Option<&mut Option<Arc<ProcessRecord>>> {
        self.procs.iter_mut().find(|(known, _)| known == id).map(|(_, record)| record)
    }

    fn learn(&mut self, record: ProcessRecord) {
        let record = Arc::new(record);
        if let Some(known) = self.find(&record.id) {
            *known = Some(Arc::clone(&record));
        }
        self.results.do_send(Changed(record));
    }
}

impl Actor for Mock {
    type Context = Context<Self>;
}

impl Handler<Die> for Mock {
    type Result = ();

    fn handle(&mut self, _: Die, ctx: &mut Self::Context) {
        for (id, record) in &self.procs {
            if record.as_ref().is_some_and(|record| record.is_running()) {
                self.engine.command(id.clone(), ProcessCommand::Signal(libc::SIGKILL), 0);
            }
        }
        ctx.stop();
    }
}

impl Handler<EngineEvent> for Mock {
    type Result = ();

    fn handle(&mut self, EngineEvent(event): EngineEvent, _: &mut Self::Context) {
        match event {
            Event::Started(started) => self.learn(ProcessRecord::of_start(*started)),
            Event::Ended(ended) => self.learn(ProcessRecord::of_end(*ended)),
            Event::Signaled { ticket, result, .. } => {
                drop(self.tickets.remove(&ticket).unwrap().send(result));
            }
            Event::StopFailed { .. } | Event::Suspended { .. } => panic!("nobody is stopped"),
        }
    }
}

/// HTTP does not ask for it.
impl Handler<StartAcknowledged> for Mock {
    type Result = Result<Accepted, StartError>;

    fn handle(&mut self, _: StartAcknowledged, _: &mut Self::Context) -> Self::Result {
        Err(StartError::ShuttingDown(ShutdownState::Idling))
    }
}

impl Handler<Start> for Mock {
    type Result = Result<Vec<ProcId>, StartError>;

    fn handle(&mut self, Start(request): Start, _: &mut Self::Context) -> Self::Result {
        if request.procs.contains_key(TOO_LATE) {
            return Err(StartError::ShuttingDown(ShutdownState::Idling));
        }
        let used: Vec<ProcId> =
            request.procs.keys().filter(|id| self.find(id).is_some()).cloned().collect();
        if !used.is_empty() {
            return Err(StartError::InUse(used));
        }
        for id in request.procs.keys() {
            self.results.do_send(Announce(id.clone()));
        }
        self.procs.extend(request.procs.keys().map(|id| (id.clone(), None)));
        self.engine.launch(request);
        Ok(Vec::new())
    }
}

/// The grace is not over in any test here: what follows from it is the supervisor's.
impl Handler<CommandProcess> for Mock {
    type Result = ResponseFuture<Result<(), CommandError>>;

    fn handle(&mut self, message: CommandProcess, _: &mut Self::Context) -> Self::Result {
        let CommandProcess { id, command } = message;
        let signum = match command {
            ProcessCommand::Signal(signum) => signum,
            ProcessCommand::Stop(order) => order.signum.unwrap_or(libc::SIGTERM),
        };
        let refused = |errno| Err(CommandError::Os(io::Error::from_raw_os_error(errno)));
        let outcome = match (id.as_str(), self.find(&id)) {
            (FORBIDDEN, _) => refused(libc::EPERM),
            (BROKEN, _) => refused(libc::EINVAL),
            (_, None) => Err(CommandError::Unknown),
            (_, Some(Some(record))) if !record.is_running() => Err(CommandError::Gone),
            _ => Ok(()),
        };
        let (reply, result) = oneshot::channel();
        if outcome.is_ok() {
            let ticket = self.tickets.len() as u64 + 1;
            self.tickets.insert(ticket, reply);
            self.engine.command(id, ProcessCommand::Signal(signum), ticket);
        }
        Box::pin(async move {
            outcome?;
            result.await.unwrap().map_err(CommandError::Os)
        })
    }
}

impl Handler<Delete> for Mock {
    type Result = Result<(), DeleteError>;

    fn handle(&mut self, Delete(id): Delete, _: &mut Self::Context) -> Self::Result {
        match self.find(&id) {
            None => Err(DeleteError::Unknown),
            Some(Some(record)) if !record.is_running() => {
                self.procs.retain(|(known, _)| *known != id);
                self.engine.forget(id.clone());
                self.results.do_send(Removed(id));
                Ok(())
            }
            Some(_) => Err(DeleteError::Running),
        }
    }
}

impl Handler<Shutdown> for Mock {
    type Result = ();

    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) {
        unreachable!("no request over HTTP ends the agent");
    }
}
