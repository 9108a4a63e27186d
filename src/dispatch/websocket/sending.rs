//! Sends to the scheduler: the registration, then answers and changes as the socket has room.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use bytes::Bytes;
use tokio::sync::mpsc::OwnedPermit;

use super::Connection;
use super::end::End;
use super::session::{Phase, Pumped, SessionId};
use crate::actors::messages::{Snapshot, Subscribed};
use crate::actors::subscription::Subscription;
use crate::dispatch::core::call::Lookup;
use crate::dispatch::core::outbox::Body;
use crate::net::outbound::Payload;
use crate::report::ResultStream;
use crate::wire::Register;

/// A result stream as a payload of the socket.
struct Streamed(ResultStream);

impl Payload for Streamed {
    fn fill(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        self.0.fill(out)
    }
}

impl From<Body> for Box<dyn Payload> {
    fn from(body: Body) -> Self {
        match body {
            Body::Bytes(bytes) => Box::new(bytes),
            Body::Stream(stream) => Box::new(Streamed(stream)),
        }
    }
}

impl Connection {
    /// The subscription has begun: registers with its snapshot.
    pub(super) fn subscribed(
        &mut self,
        id: SessionId,
        subscribed: Option<Subscribed>,
        ctx: &mut Context<Self>,
    ) {
        if let Some(Subscribed::From(snapshot, subscription)) = subscribed {
            self.register(id, &snapshot, subscription);
            self.send_on(ctx);
        }
    }

    fn register(&mut self, id: SessionId, snapshot: &Snapshot, subscription: Subscription) {
        let proc_ids: Vec<String> = snapshot.ids.iter().map(ToString::to_string).collect();
        let token = self.options.token.get();
        let register = Register {
            conn: &self.options.conn,
            proc: &self.options.proc,
            proc_ids: &proc_ids,
            access_token: token.expose(),
            shutdown_state: snapshot.shutdown.as_str(),
        };
        let message = register.encode();
        if let Some(session) = self.session_of(id) {
            session.registering(subscription, message);
        }
    }

    /// Pushes the results of running processes, unless the scheduler is behind.
    pub(super) fn push(&mut self, id: SessionId, interval: Duration, ctx: &mut Context<Self>) {
        let Some(session) = self.session_of(id) else { return };
        if session.is_idle() && !session.is_over() {
            self.look_up(vec![Lookup::Running], Bytes::new(), ctx);
        }
        ctx.run_later(interval, move |connection, ctx| connection.push(id, interval, ctx));
    }

    /// Continues the session: takes changes and answers, sends the next message as soon as the
    /// socket has room, and reads the next request. Closes after the last message of the worker's
    /// life.
    pub(super) fn send_on(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = self.session() else { return };
        match session.pump() {
            Pumped::Lagged => {
                let end = "the scheduler does not read the messages of this agent".to_owned();
                return self.lost(&End::Lost(end), ctx);
            }
            Pumped::Empty => self.await_change(ctx),
            Pumped::Full => {}
        }
        self.send_next(ctx);
        self.read_on(ctx);
    }

    /// Continues at the next change.
    fn await_change(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = self.session().filter(|session| session.waiting.is_none()) else {
            return;
        };
        let id = session.id;
        let Some(next) = session.next_change() else { return };
        let waiting = ctx.spawn(next.into_actor(self).map(move |(), connection, ctx| {
            if let Some(session) = connection.session_of(id) {
                session.waiting = None;
                connection.send_on(ctx);
            }
        }));
        if let Some(session) = self.session() {
            session.waiting = Some(waiting);
        }
    }

    fn send_next(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = self.session() else { return };
        if session.outbox.is_empty() {
            if matches!(session.phase, Phase::Finishing { .. }) && session.sender.is_some() {
                session.outbound.close(Some(1000), "done");
            }
            return;
        }
        let Some(sender) = session.sender.take() else { return };
        let id = session.id;
        let room = sender.reserve_owned();
        ctx.spawn(room.into_actor(self).map(move |room, connection, ctx| match room {
            Ok(room) => connection.make(id, room, ctx),
            Err(_) => {
                // The reader reports how the socket ended: so it is read even while answers are
                // due.
                if let Some(session) = connection.session_of(id) {
                    session.broken();
                    connection.read_on(ctx);
                }
            }
        }));
    }

    /// The socket has room: makes a message.
    fn make(
        &mut self,
        id: SessionId,
        room: OwnedPermit<Box<dyn Payload>>,
        ctx: &mut Context<Self>,
    ) {
        let context = Arc::clone(&self.context);
        let Some(message) = self.session_of(id).and_then(|session| session.outbox.pop()) else {
            return;
        };
        ctx.spawn(message.make(context).into_actor(self).map(move |made, connection, ctx| {
            let sender = match made {
                Ok(body) => room.send(body.into()),
                // Only this message is lost: its captures cannot be read.
                Err(error) => {
                    let conn_id = connection.conn_id();
                    tracing::error!(conn_id, %error, "cannot make a result");
                    room.release()
                }
            };
            if let Some(session) = connection.session_of(id) {
                session.sender = Some(sender);
                connection.send_on(ctx);
            }
        }));
    }
}
