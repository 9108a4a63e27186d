//! What the server asks for: one function for each kind of request.

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use bytes::Bytes;

use super::Connection;
use super::session::Asked;
use crate::actors::messages::{
    Ask, CommandError, CommandProcess, Delete, DeleteError, Question, Start,
};
use crate::engine::ProcessCommand;
use crate::spec::{self, ProcId};
use crate::wire::{self, Parsed, Request, StartOptions, outgoing as message};

/// What an actor that is gone is to whoever asked it: the agent is about to end.
const NO_ANSWER: &str = "the agent is shutting down";

impl Connection {
    /// Deals with one message; each kind answers in its own way.
    pub(super) fn message(&mut self, raw: Bytes, ctx: &mut Context<Self>) {
        let registered = self.session().is_some_and(|session| session.registered);
        let over = self.session().is_some_and(|session| session.is_over());
        match wire::parse(&raw) {
            Parsed::Registered if !registered => self.registered(ctx),
            Parsed::Registered => {}
            Parsed::NotAMessage(why) => {
                tracing::warn!(conn_id = self.conn_id(), why, "ignoring what is no message");
            }
            _ if !registered => {
                tracing::warn!(
                    conn_id = self.conn_id(),
                    "ignoring a request before the registration"
                );
            }
            // The server learns that nobody answers by the connection's end.
            _ if over => {}
            Parsed::Bad { err } => self.refuse(&raw, &err, ctx),
            Parsed::Request(request) => match request {
                Request::Start { specs, options } => self.start(&raw, specs, options, ctx),
                Request::ProcidList => self.ask(Question::Ids, Asked::Ids),
                Request::Result { proc_id } => {
                    let id = ProcId::from(proc_id);
                    self.ask(Question::Record(id.clone()), Asked::Result(id));
                }
                Request::Signal { proc_id, signum } => {
                    self.command(raw.clone(), proc_id.into(), ProcessCommand::Signal(signum), ctx);
                }
                Request::FdData { proc_id, fd, start, stop } => {
                    let proc_id = ProcId::from(proc_id);
                    let question = Question::Record(proc_id.clone());
                    let request = raw.clone();
                    self.ask(question, Asked::FdData { request, proc_id, fd, start, stop });
                }
                Request::Delete { proc_id } => self.delete(raw.clone(), proc_id.into(), ctx),
            },
        }
    }

    /// Answers a request with an error, and its whole text.
    fn refuse(&mut self, raw: &[u8], err: &str, ctx: &mut Context<Self>) {
        tracing::info!(conn_id = self.conn_id(), err, "refusing a request");
        self.queue(message::request_error(raw, err).into());
        self.send_on(ctx);
    }

    /// Asks the results; the answer comes in its place among the updates.
    fn ask(&mut self, question: Question, asked: Asked) {
        let Some(session) = self.session() else { return };
        session.asked.push_back(asked);
        let id = session.id;
        self.peers.ask.do_send(Ask { id, question });
    }

    fn start(&mut self, raw: &Bytes, specs: &[u8], options: StartOptions, ctx: &mut Context<Self>) {
        let StartOptions { all_or_nothing, idempotent } = options;
        let request = match spec::from_msgpack(specs, all_or_nothing, idempotent) {
            Ok(request) => request,
            Err(errors) => return self.refuse(raw, &errors.to_string(), ctx),
        };
        if let Some(session) = self.session().filter(|_| idempotent) {
            session.begin_repeat(request.procs.keys().cloned());
        }
        let started = self.peers.start.send(Start(request));
        self.then(started, ctx, {
            let raw = raw.clone();
            move |connection, result, ctx| match result {
                // Every process that is started tells of itself.
                Ok(Ok(present)) => {
                    for id in present {
                        connection.ask(Question::Present(id.clone()), Asked::Repeat(id));
                    }
                }
                Ok(Err(error)) => connection.refuse(&raw, &error.to_string(), ctx),
                Err(_) => connection.refuse(&raw, NO_ANSWER, ctx),
            }
        });
    }

    fn command(
        &mut self,
        raw: Bytes,
        id: ProcId,
        command: ProcessCommand,
        ctx: &mut Context<Self>,
    ) {
        let done = self.peers.command.send(CommandProcess { id: id.clone(), command });
        self.then(done, ctx, move |connection, result, ctx| match result {
            Ok(Ok(())) => {}
            Ok(Err(CommandError::Unknown)) => connection.unknown(&id),
            Ok(Err(error)) => connection.refuse(&raw, &error.to_string(), ctx),
            Err(_) => connection.refuse(&raw, NO_ANSWER, ctx),
        });
    }

    fn delete(&mut self, raw: Bytes, id: ProcId, ctx: &mut Context<Self>) {
        let deleted = self.peers.delete.send(Delete(id.clone()));
        self.then(deleted, ctx, move |connection, result, ctx| match result {
            // The deletion itself is the answer, and comes as an update; the next request must not overtake it.
            Ok(Ok(())) => connection.ask(Question::Barrier, Asked::Barrier),
            Ok(Err(DeleteError::Unknown)) => connection.unknown(&id),
            Ok(Err(error @ DeleteError::Running)) => {
                connection.refuse(&raw, &error.to_string(), ctx)
            }
            Err(_) => connection.refuse(&raw, NO_ANSWER, ctx),
        });
    }

    /// Waits for another actor's reply, and holds further requests until then.
    fn then<F: Future + 'static>(
        &mut self,
        reply: F,
        ctx: &mut Context<Self>,
        deal: impl FnOnce(&mut Self, F::Output, &mut Context<Self>) + 'static,
    ) {
        let Some(session) = self.session() else { return };
        session.busy = true;
        let id = session.id;
        ctx.spawn(reply.into_actor(self).map(move |reply, connection, ctx| {
            let Some(session) = connection.session_of(id) else { return };
            session.busy = false;
            deal(connection, reply, ctx);
            connection.send_on(ctx);
            connection.read_on(ctx);
        }));
    }
}
