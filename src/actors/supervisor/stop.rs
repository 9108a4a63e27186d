//! Stopping one process: the engine does it, with all its descendants; see [`Engine::stop`](crate::engine::Engine::stop).

use actix::{Handler, ResponseFuture};

use super::{Owned, Supervisor};
use crate::actors::messages::{SignalError, Stop};
use crate::actors::process::StopProcess;
use crate::engine::StopOrder;

impl Handler<Stop> for Supervisor {
    type Result = ResponseFuture<Result<(), SignalError>>;

    fn handle(&mut self, stop: Stop, _: &mut Self::Context) -> Self::Result {
        let Stop { id, signal, grace } = stop;
        let order = StopOrder { signum: signal, grace, shutdown: false };
        let sent = match self.processes.get(&id) {
            None => Err(SignalError::Unknown),
            Some(Owned { ended: true, .. }) => Err(SignalError::Gone),
            Some(_) => match self.actor(&id) {
                Some(actor) => Ok(actor.send(StopProcess(order))),
                None => Err(SignalError::Unknown),
            },
        };
        Box::pin(async move {
            // As of a signal.
            sent?.await.unwrap_or(Err(SignalError::Gone))
        })
    }
}
