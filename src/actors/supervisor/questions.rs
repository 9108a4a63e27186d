//! Questions about one process: forwarded to its actor, with the client that waits for the answer.

use actix::dev::MessageResponse;
use actix::{Context, Handler};

use super::Supervisor;
use crate::actors::messages::ProcessQuestion;
use crate::actors::process::Forward;

impl<Q> Handler<Q> for Supervisor
where
    Q: ProcessQuestion,
    Forward<Q>: MessageResponse<Supervisor, Q>,
{
    type Result = Forward<Q>;

    fn handle(&mut self, question: Q, _: &mut Context<Self>) -> Forward<Q> {
        Forward::to(self.actor(question.id()))
    }
}
