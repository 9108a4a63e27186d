//! A supervisor without processes, for tests: the ID in a message decides the answer.

use actix::{Actor, ActorContext, Context, Handler};

use super::messages::{
    Accepted, AwaitEnd, AwaitStart, CommandError, CommandProcess, Delete, DeleteError,
    FollowOutput, GetUsage, ReadOutput, Shutdown, Start, StartAcknowledged, StartError,
};
use super::process::Forward;
use crate::spec::ProcId;

/// The actor. Process `a` runs, `ended` has ended, all others are unknown.
pub(crate) struct MockSupervisor;

impl Actor for MockSupervisor {
    type Context = Context<Self>;
}

impl Handler<CommandProcess> for MockSupervisor {
    type Result = Result<(), CommandError>;

    fn handle(&mut self, message: CommandProcess, _: &mut Self::Context) -> Self::Result {
        match message.id.as_str() {
            "a" => Ok(()),
            "ended" => Err(CommandError::Gone),
            _ => Err(CommandError::Unknown),
        }
    }
}

impl Handler<Start> for MockSupervisor {
    type Result = Result<Vec<ProcId>, StartError>;

    /// Idempotent requests find all their processes; others may not start `a`.
    fn handle(&mut self, Start(request): Start, _: &mut Self::Context) -> Self::Result {
        let ids: Vec<ProcId> = request.procs.keys().cloned().collect();
        match request.idempotent {
            true => Ok(ids),
            false if ids.contains(&"a".into()) => Err(StartError::InUse(ids)),
            false => Ok(Vec::new()),
        }
    }
}

impl Handler<StartAcknowledged> for MockSupervisor {
    type Result = Result<Accepted, StartError>;

    fn handle(&mut self, _: StartAcknowledged, _: &mut Self::Context) -> Self::Result {
        Ok(Accepted { present: Vec::new(), acceptance: None })
    }
}

impl Handler<Delete> for MockSupervisor {
    type Result = Result<(), DeleteError>;

    fn handle(&mut self, Delete(id): Delete, _: &mut Self::Context) -> Self::Result {
        match id.as_str() {
            "a" => Err(DeleteError::Running),
            "ended" => Ok(()),
            _ => Err(DeleteError::Unknown),
        }
    }
}

impl Handler<Shutdown> for MockSupervisor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

macro_rules! unknown {
    ($($question:ty),* $(,)?) => {$(
        impl Handler<$question> for MockSupervisor {
            type Result = Forward<$question>;

            fn handle(&mut self, _: $question, _: &mut Self::Context) -> Self::Result {
                Forward::to(None)
            }
        }
    )*};
}

unknown!(AwaitStart, AwaitEnd, GetUsage, ReadOutput, FollowOutput);
