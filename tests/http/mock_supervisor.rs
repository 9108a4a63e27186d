//! A simple supervisor on a real engine, and the real results actor, for the tests of the service.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message,
    ResponseFuture, WrapFuture,
};
use procstar::actors::CommandLink;
use procstar::actors::messages::{
    Accepted, Announce, AwaitEnd, AwaitStart, CommandError, CommandProcess, Delete, DeleteError,
    EngineEvent, FollowOutput, GetUsage, ProcessQuestion, ReadOutput, Removed, Shutdown,
    ShutdownState, Start, StartAcknowledged, StartError,
};
use procstar::actors::process::{Deleted, Forward, ProcessActor, ProcessContext};
use procstar::actors::results::Results;
use procstar::engine::{Engine, Event, ProcessCommand};
use procstar::spec::ProcId;
use tokio::sync::oneshot;

/// A start with this ID fails, as during a shutdown.
pub const TOO_LATE: &str = "too late";
/// A signal for this process is not permitted.
pub const FORBIDDEN: &str = "forbidden";
/// A signal for this process fails with another error.
pub const BROKEN: &str = "broken";

pub struct Mock {
    engine: Engine,
    procs: HashMap<ProcId, Proc>,
    shared: Arc<ProcessContext>,
    pub results: Addr<Results>,
    tickets: HashMap<u64, oneshot::Sender<io::Result<()>>>,
}

/// A process, and whether it has ended.
struct Proc {
    actor: Addr<ProcessActor>,
    ended: bool,
}

/// The engine of the actors: [`Mock`] commands its own engine itself.
struct NoCommands;

impl CommandLink for NoCommands {
    fn command(&self, _: ProcId, _: ProcessCommand, _: u64) {
        unreachable!("the mock sends no command to an actor");
    }
}

/// Kills all processes and ends this actor.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Die;

impl Mock {
    pub fn start(options: procstar::engine::EngineOptions, results: Addr<Results>) -> Addr<Mock> {
        Mock::create(|ctx| {
            let told = actix::AsyncContext::address(ctx).recipient::<EngineEvent>();
            let engine =
                Engine::start(options, move |event| told.do_send(EngineEvent(event))).unwrap();
            let shared = Arc::new(ProcessContext {
                engine: Arc::new(NoCommands),
                results: results.clone().recipient(),
                sampling: None,
                watcher: Arc::default(),
            });
            Mock { engine, procs: HashMap::new(), shared, results, tickets: HashMap::new() }
        })
    }
}

impl Actor for Mock {
    type Context = Context<Self>;
}

impl Handler<Die> for Mock {
    type Result = ();

    fn handle(&mut self, _: Die, ctx: &mut Self::Context) {
        for (id, proc) in &self.procs {
            if !proc.ended {
                self.engine.command(id.clone(), ProcessCommand::Signal(libc::SIGKILL), 0);
            }
        }
        ctx.stop();
    }
}

impl Handler<EngineEvent> for Mock {
    type Result = ();

    fn handle(&mut self, EngineEvent(event): EngineEvent, ctx: &mut Self::Context) {
        let id = event.id().clone();
        let actor = self.procs.get(&id).map(|proc| proc.actor.clone());
        match event {
            Event::Started(_) => actor.unwrap().do_send(EngineEvent(event)),
            Event::Ended(_) => {
                let published = actor.unwrap().send(EngineEvent(event)).into_actor(self);
                ctx.spawn(published.map(move |_, mock, _| {
                    mock.procs.get_mut(&id).unwrap().ended = true;
                }));
            }
            Event::Signaled { ticket, result, .. } => {
                drop(self.tickets.remove(&ticket).unwrap().send(result));
            }
            Event::StopFailed { .. } | Event::Suspended { .. } => panic!("nobody is stopped"),
            Event::Held(_) | Event::Released(_) => panic!("nothing is shared"),
        }
    }
}

macro_rules! forwards {
    ($($question:ty),* $(,)?) => {$(
        impl Handler<$question> for Mock {
            type Result = Forward<$question>;

            fn handle(&mut self, question: $question, _: &mut Self::Context) -> Self::Result {
                Forward::to(self.procs.get(question.id()).map(|proc| proc.actor.clone()))
            }
        }
    )*};
}

forwards!(AwaitStart, AwaitEnd, GetUsage, ReadOutput, FollowOutput);

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
            request.procs.keys().filter(|id| self.procs.contains_key(*id)).cloned().collect();
        if !used.is_empty() {
            return Err(StartError::InUse(used));
        }
        for id in request.procs.keys() {
            self.results.do_send(Announce(id.clone()));
            let actor = ProcessActor::new(id.clone(), None, Arc::clone(&self.shared)).start();
            self.procs.insert(id.clone(), Proc { actor, ended: false });
        }
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
        let outcome = match (id.as_str(), self.procs.get(&id)) {
            (FORBIDDEN, _) => refused(libc::EPERM),
            (BROKEN, _) => refused(libc::EINVAL),
            (_, None) => Err(CommandError::Unknown),
            (_, Some(Proc { ended: true, .. })) => Err(CommandError::Gone),
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
        match self.procs.get(&id) {
            None => Err(DeleteError::Unknown),
            Some(Proc { ended: true, .. }) => {
                self.procs.remove(&id).unwrap().actor.do_send(Deleted);
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
