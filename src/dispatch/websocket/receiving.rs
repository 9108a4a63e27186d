//! Receives from the scheduler: requests, one after another, and control frames.

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::Connection;
use super::end::End;
use super::session::{Phase, SessionId};
use crate::actors::messages::Dated;
use crate::dispatch::core::call::{Call, CallAnswer, Lookup};
use crate::net::inbound::Inbound;
use crate::wire::{self, Parsed, outgoing::MAX_FD_DATA};

impl Connection {
    /// Reads on, unless a request is being answered or the scheduler does not take answers.
    pub(super) fn read_on(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = self.session() else { return };
        if session.can_take_more()
            && let Some(inbound) = session.inbound.take()
        {
            let id = session.id;
            self.read(id, inbound, ctx);
        }
    }

    /// Handles the next event of the socket.
    fn read(
        &mut self,
        id: SessionId,
        mut inbound: mpsc::Receiver<Inbound>,
        ctx: &mut Context<Self>,
    ) {
        let next = async move { (inbound.recv().await, inbound) };
        ctx.spawn(next.into_actor(self).map(move |(item, inbound), connection, ctx| {
            let Some(session) = connection.session_of(id) else { return };
            session.inbound = Some(inbound);
            match item {
                Some(item) => connection.inbound(item, ctx),
                None => connection.lost(&End::Lost("connection ended".to_owned()), ctx),
            }
            connection.read_on(ctx);
        }));
    }

    fn inbound(&mut self, item: Inbound, ctx: &mut Context<Self>) {
        match item {
            Inbound::Message(message) => self.message(message, ctx),
            // The socket has answered it.
            Inbound::Ping(_) => {}
            Inbound::Pong(payload) => {
                if let Some(session) = self.session()
                    && let Some(round_trip) = session.pong(&payload)
                {
                    tracing::debug!(conn_id = self.conn_id(), ?round_trip, "pong");
                    self.status.change(|link| link.round_trip = Some(round_trip));
                }
            }
            Inbound::Close { code, reason } => {
                self.lost(&End::Closed { code, reason }, ctx);
            }
            Inbound::Lost(error) => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
                self.lost(&End::Lost(format!("{error}{}", source.unwrap_or_default())), ctx);
            }
        }
    }

    /// Handles one message.
    fn message(&mut self, raw: Bytes, ctx: &mut Context<Self>) {
        let registered = self.session().is_some_and(|s| s.registered_since().is_some());
        let over = self.session().is_some_and(|session| session.is_over());
        match wire::parse(&raw) {
            Parsed::Registered => {
                if self.session().is_some_and(|session| session.phase == Phase::Registering) {
                    self.registered(ctx);
                }
            }
            Parsed::NotAMessage(why) => {
                tracing::warn!(conn_id = self.conn_id(), why, "ignoring malformed message");
            }
            _ if !registered => {
                tracing::warn!(
                    conn_id = self.conn_id(),
                    "ignoring a request before the registration"
                );
            }
            // The end of the connection shows the scheduler that no answer follows.
            _ if over => {}
            Parsed::Bad { err } => self.refuse(raw.clone(), err, ctx),
            Parsed::Request(request) => match Call::of(request) {
                Ok(call) => self.call(call, raw.clone(), ctx),
                Err(error) => self.refuse(raw.clone(), error, ctx),
            },
        }
    }

    /// Answers a request with an error and the whole request.
    fn refuse(&mut self, request: Bytes, error: String, ctx: &mut Context<Self>) {
        self.answer(CallAnswer::Refused { request, error }, ctx);
    }

    /// Carries a request out, and holds the next ones until it is answered.
    fn call(&mut self, call: Call, raw: Bytes, ctx: &mut Context<Self>) {
        let agent = self.agent.clone();
        let Some(session) = self.session() else { return };
        if let Call::Start(specs) = &call
            && specs.idempotent
        {
            session.begin_repeat(specs.procs.keys().cloned());
        }
        let id = session.id;
        let carried_out = call.carry_out(raw.clone(), agent).into_actor(self);
        let call = ctx.spawn(carried_out.map(move |carried_out, connection, ctx| {
            if let Some(session) = connection.session_of(id) {
                session.call = None;
                match carried_out {
                    Ok(lookups) => connection.look_up(lookups, raw, ctx),
                    Err(answer) => connection.answer(answer, ctx),
                }
            }
        }));
        if let Some(session) = self.session() {
            session.call = Some(call);
        }
    }

    /// Answers independently of changes.
    fn answer(&mut self, answer: CallAnswer, ctx: &mut Context<Self>) {
        if let Some(session) = self.session() {
            session.look_up();
        }
        self.looked_up(vec![Dated { seq: 0, value: answer }], ctx);
    }

    /// Looks an answer up. No change is taken meanwhile.
    pub(super) fn look_up(
        &mut self,
        lookups: Vec<Lookup>,
        request: Bytes,
        ctx: &mut Context<Self>,
    ) {
        let most = self.context.max_inline().min(MAX_FD_DATA);
        let agent = self.agent.clone();
        let Some(session) = self.session() else { return };
        session.look_up();
        let id = session.id;
        let answers = async move {
            let mut answers = Vec::with_capacity(lookups.len());
            for lookup in lookups {
                answers.push(lookup.answer(request.clone(), agent.clone(), most).await);
            }
            answers
        };
        ctx.spawn(answers.into_actor(self).map(move |answers, connection, ctx| {
            if connection.session_of(id).is_some() {
                connection.looked_up(answers, ctx);
            }
        }));
    }

    fn looked_up(&mut self, answers: Vec<Dated<CallAnswer>>, ctx: &mut Context<Self>) {
        for answer in &answers {
            if let CallAnswer::Refused { error, .. } = &answer.value {
                tracing::info!(conn_id = self.conn_id(), err = error, "refusing a request");
            }
        }
        if let Some(session) = self.session() {
            session.looked_up(answers);
        }
        self.send_on(ctx);
    }
}
