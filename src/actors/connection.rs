//! The actor that keeps the connection to the server: dials, registers, pings, notices silence, dials again.
//!
//! It keeps no state of processes. While it is connected it is a subscriber of the results: every update becomes a message, in
//! order. Requests are taken one after another, and each is answered before the next is looked at; while the server does not
//! take what is queued, no more requests are read, so a server that stops reading costs little memory and stops nobody
//! else. With a lost connection everything that was queued for it is dropped.

mod end;
mod health;
mod loss;
mod outgoing;
mod requests;
mod session;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient,
    SpawnHandle, WrapFuture,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::messages::{
    Ask, CommandProcess, Delete, Shutdown, Start, Subscribe, SubscriberId, Unsubscribe, Update,
};
use super::status::{LinkState, LinkStatus};
use crate::config::{ConnectSettings, Secret};
use crate::net::dial::{Dial, DialError};
use crate::net::socket::{Inbound, Link};
use crate::report::ResultContext;
use crate::rotating::Rotating;
use crate::wire::{ConnInfo, ProcInfo};
use end::End;
use health::{Health, Recovery};
use session::Session;

/// How the connection is kept.
pub struct ConnectionOptions {
    /// Who we are to the server.
    pub conn: ConnInfo,
    /// The process that the user launched.
    pub proc: ProcInfo,
    /// What lets us in.
    pub token: Rotating<Secret>,
    /// The waits between attempts, and their number.
    pub connect: ConnectSettings,
    /// How long the server may take to answer our registration.
    pub register_timeout: Duration,
    /// From one ping to the next.
    pub ping_interval: Duration,
    /// Silence after which the connection counts as lost.
    pub read_timeout: Duration,
    /// How often to push the results of running processes; none: never.
    pub push_interval: Option<Duration>,
}

/// Whom the connection works with.
pub struct Peers {
    /// Starts processes.
    pub start: Recipient<Start>,
    /// Signals them.
    pub command: Recipient<CommandProcess>,
    /// Deletes them.
    pub delete: Recipient<Delete>,
    /// Shuts the agent down when the connection is given up.
    pub shutdown: Recipient<Shutdown>,
    /// Tells of every change.
    pub subscribe: Recipient<Subscribe>,
    /// Stops telling.
    pub unsubscribe: Recipient<Unsubscribe>,
    /// Answers questions.
    pub ask: Recipient<Ask>,
}

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to.
    Finished,
    /// The server could not be reached in as many attempts as are allowed.
    GaveUp,
}

/// The actor.
pub struct Connection {
    options: ConnectionOptions,
    peers: Peers,
    context: Arc<ResultContext>,
    dialer: Rc<dyn Dial>,
    health: Health,
    phase: Phase,
    finishing: bool,
    gave_up: bool,
    outcome: Option<oneshot::Sender<Outcome>>,
    status: Arc<LinkStatus>,
}

enum Phase {
    /// Before the first attempt, or after the last.
    Idle,
    /// Waiting for the next attempt.
    Waiting(SpawnHandle),
    /// Connecting.
    Dialing(SpawnHandle),
    /// Connected; registered or about to be.
    Connected(Box<Session>),
}

impl Connection {
    /// A connection that dials with `dialer`. How it ends is told to `outcome`.
    pub fn new(
        options: ConnectionOptions,
        peers: Peers,
        context: Arc<ResultContext>,
        dialer: Rc<dyn Dial>,
        outcome: oneshot::Sender<Outcome>,
    ) -> Self {
        Connection {
            health: Health::new(&options.connect, fastrand::u64(..)),
            options,
            peers,
            context,
            dialer,
            phase: Phase::Idle,
            finishing: false,
            gave_up: false,
            outcome: Some(outcome),
            status: Arc::default(),
        }
    }

    /// Where it tells how it is.
    pub fn status(&self) -> Arc<LinkStatus> {
        Arc::clone(&self.status)
    }

    fn conn_id(&self) -> &str {
        &self.options.conn.conn_id
    }

    fn session(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Connected(session) => Some(session),
            _ => None,
        }
    }

    /// The session `id`, unless it is over: what was begun for an old session must not touch a new one.
    fn session_of(&mut self, id: SubscriberId) -> Option<&mut Session> {
        self.session().filter(|session| session.id == id)
    }

    fn dial(&mut self, ctx: &mut Context<Self>) {
        tracing::debug!(conn_id = self.conn_id(), "connecting");
        self.status.enter(LinkState::Connecting);
        let dial = self.dialer.dial().into_actor(self);
        let handle = ctx.spawn(dial.map(|result, connection, ctx| connection.dialed(result, ctx)));
        self.phase = Phase::Dialing(handle);
    }

    fn dialed(&mut self, result: Result<Link, DialError>, ctx: &mut Context<Self>) {
        match result {
            Ok(link) => self.connected(link, ctx),
            Err(error) => self.attempt_failed(&error, ctx),
        }
    }

    /// The socket is there: subscribe, so that nothing is missed, then register with what the snapshot says.
    fn connected(&mut self, link: Link, ctx: &mut Context<Self>) {
        self.status.enter(LinkState::Registering);
        let Link { inbound, outbound, activity } = link;
        let session = Session::new(outbound, activity);
        let id = session.id;
        self.phase = Phase::Connected(Box::new(session));
        self.peers.subscribe.do_send(Subscribe { id, to: ctx.address().recipient() });
        self.read(id, inbound, ctx);
        ctx.run_later(self.options.register_timeout, move |connection, ctx| {
            let late = connection.session_of(id).is_some_and(|session| !session.registered);
            if late {
                let limit = connection.options.register_timeout;
                connection.lost(&End::Unanswered(limit), ctx);
            }
        });
        self.keep_alive(id, ctx);
    }

    /// Takes the next thing that the server says. It is called again when the next one can be dealt with.
    fn read(
        &mut self,
        id: SubscriberId,
        mut inbound: tokio::sync::mpsc::Receiver<Inbound>,
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

    /// Reads on, unless a request is being answered or the server does not take its answers.
    fn read_on(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = self.session() else { return };
        if session.can_take_more()
            && let Some(inbound) = session.inbound.take()
        {
            let id = session.id;
            self.read(id, inbound, ctx);
        }
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

    /// Pings, and notices silence. Judged by instants: a timer that comes late must not come twice.
    fn keep_alive(&mut self, id: SubscriberId, ctx: &mut Context<Self>) {
        let (ping_interval, read_timeout) = (self.options.ping_interval, self.options.read_timeout);
        let Some(session) = self.session_of(id) else { return };
        let now = Instant::now();
        let silent_at = session.last_sign() + read_timeout;
        if silent_at <= now {
            self.lost(&End::Silent(read_timeout), ctx);
            return;
        }
        if session.last_ping + ping_interval <= now {
            session.keep_pinging(now);
        }
        let ping_at = (session.last_ping + ping_interval).max(now + Duration::from_millis(1));
        let wait = ping_at.min(silent_at).saturating_duration_since(now);
        ctx.run_later(wait, move |connection, ctx| connection.keep_alive(id, ctx));
    }

    /// The server has accepted us.
    fn registered(&mut self, ctx: &mut Context<Self>) {
        let recovery = self.health.registered(Instant::now());
        let failures = self.health.failures();
        self.status.enter(LinkState::Registered);
        self.status.change(|link| {
            link.failures = failures;
            link.registrations += 1;
        });
        match recovery {
            Some(Recovery { failures, after }) => tracing::info!(
                conn_id = self.conn_id(),
                group_id = self.options.conn.group_id,
                failed_attempts = failures,
                ?after,
                "registered again"
            ),
            None => tracing::info!(
                conn_id = self.conn_id(),
                group_id = self.options.conn.group_id,
                "registered"
            ),
        }
        let (push, lasting) = (self.options.push_interval, self.health.lasting());
        let Some(session) = self.session() else { return };
        session.registered = true;
        session.registered_at = Instant::now();
        let id = session.id;
        if let Some(interval) = push {
            ctx.run_later(interval, move |connection, ctx| connection.push(id, interval, ctx));
        }
        ctx.run_later(lasting, move |connection, _| {
            if connection.session_of(id).is_some() {
                connection.lasted();
            }
        });
        self.send_on(ctx);
    }

    fn wait(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if self.finishing {
            return self.finish(ctx);
        }
        self.status.enter(LinkState::Waiting);
        let handle = ctx.run_later(wait, |connection, ctx| connection.dial(ctx));
        self.phase = Phase::Waiting(handle);
    }

    /// Ends the actor.
    fn finish(&mut self, ctx: &mut Context<Self>) {
        self.status.enter(LinkState::Closed);
        if let Some(outcome) = self.outcome.take() {
            // Nobody may be waiting, in a test.
            let _ = outcome.send(if self.gave_up { Outcome::GaveUp } else { Outcome::Finished });
        }
        ctx.stop();
    }
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.dial(ctx);
    }
}

impl Handler<Update> for Connection {
    type Result = ();

    fn handle(&mut self, update: Update, ctx: &mut Self::Context) {
        self.update(update, ctx);
        self.read_on(ctx);
    }
}

/// End: once the server has been told `done`, or at once where there is no connection.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Finish;

impl Handler<Finish> for Connection {
    type Result = ();

    fn handle(&mut self, _: Finish, ctx: &mut Self::Context) {
        self.finishing = true;
        match &self.phase {
            Phase::Connected(session) if session.registered => {}
            Phase::Waiting(handle) | Phase::Dialing(handle) => {
                ctx.cancel_future(*handle);
                self.finish(ctx);
            }
            _ => self.finish(ctx),
        }
    }
}
