//! Stopping one process: a signal, and SIGKILL when the grace is over.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseActFuture, WrapFuture, fut};

use super::{Owned, Supervisor};
use crate::actors::messages::{SignalError, Stop};
use crate::actors::process::SendSignal;

/// The grace of a stop that names none.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

impl Handler<Stop> for Supervisor {
    type Result = ResponseActFuture<Self, Result<(), SignalError>>;

    fn handle(&mut self, stop: Stop, _: &mut Self::Context) -> Self::Result {
        let Stop { id, signal, grace } = stop;
        let actor = match self.processes.get(&id) {
            None => Err(SignalError::Unknown),
            Some(Owned { ended: true, .. }) => Err(SignalError::Gone),
            Some(_) => self.actor(&id).ok_or(SignalError::Unknown),
        };
        let actor = match actor {
            Ok(actor) => actor,
            Err(error) => return Box::pin(fut::ready(Err(error))),
        };
        let sent = actor.send(SendSignal(signal.unwrap_or(libc::SIGTERM))).into_actor(self);
        Box::pin(sent.map(move |sent, _, ctx: &mut Context<Self>| {
            // The actor is closed only if it is lost to a bug right now, or deleted meanwhile.
            sent.unwrap_or(Err(SignalError::Gone))?;
            ctx.run_later(grace.unwrap_or(DEFAULT_GRACE), move |_, _| {
                // It belongs to that process alone, and knows whether that has ended.
                actor.do_send(SendSignal(libc::SIGKILL));
            });
            Ok(())
        }))
    }
}
