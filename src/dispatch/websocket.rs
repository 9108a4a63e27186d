//! The actor that keeps a WebSocket to the scheduler: it dials, registers, pings, notices silence,
//! and dials again.
//!
//! It has no state of processes. While it is connected it reads a subscription to the changes, and
//! turns each change into a message, in order. It answers each request before it reads the next
//! one. While the scheduler does not take the queued messages, the actor takes neither requests nor
//! changes: a scheduler that stops reading costs a bounded amount and delays nobody. The loss of a
//! connection drops its queued messages.

mod end;
mod health;
mod loss;
mod receiving;
mod sending;
mod session;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle,
    WrapFuture,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::actors::Handle;
use crate::actors::status::{LinkState, LinkStatus};
use crate::actors::subscription::Delivery;
use crate::config::{ConnectSettings, Secret};
use crate::net::dial::{Dial, DialError};
use crate::net::socket::Link;
use crate::report::ResultContext;
use crate::rotating::Rotating;
use crate::wire::{ConnInfo, ProcInfo};
use end::End;
use health::{Health, Recovery};
use session::{Session, SessionId};

/// The settings of the connection.
pub struct ConnectionOptions {
    /// This agent's identity for the scheduler.
    pub conn: ConnInfo,
    /// The keeper.
    pub proc: ProcInfo,
    /// The credentials.
    pub token: Rotating<Secret>,
    /// The waits between attempts, and the maximum number of attempts.
    pub connect: ConnectSettings,
    /// The timeout of the registration.
    pub register_timeout: Duration,
    /// The interval of pings.
    pub ping_interval: Duration,
    /// The silence after which the connection counts as lost.
    pub read_timeout: Duration,
    /// The interval at which results of running processes are pushed; none: never.
    pub push_interval: Option<Duration>,
}

/// The final outcome of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The worker has ended it.
    Finished,
    /// The maximum number of attempts has failed.
    GaveUp,
}

/// The actor.
pub struct Connection {
    options: ConnectionOptions,
    agent: Handle,
    context: Arc<ResultContext>,
    dialer: Rc<dyn Dial>,
    health: Health,
    link: LinkPhase,
    finishing: bool,
    gave_up: bool,
    outcome: Option<oneshot::Sender<Outcome>>,
    status: Arc<LinkStatus>,
}

enum LinkPhase {
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
    /// A connection that dials with `dialer`, and sends its outcome to `outcome`.
    pub fn new(
        options: ConnectionOptions,
        agent: Handle,
        context: Arc<ResultContext>,
        dialer: Rc<dyn Dial>,
        outcome: oneshot::Sender<Outcome>,
    ) -> Self {
        Connection {
            health: Health::new(&options.connect, fastrand::u64(..)),
            options,
            agent,
            context,
            dialer,
            link: LinkPhase::Idle,
            finishing: false,
            gave_up: false,
            outcome: Some(outcome),
            status: Arc::default(),
        }
    }

    /// The state of the connection, for status reports.
    pub fn status(&self) -> Arc<LinkStatus> {
        Arc::clone(&self.status)
    }

    fn conn_id(&self) -> &str {
        &self.options.conn.conn_id
    }

    fn session(&mut self) -> Option<&mut Session> {
        match &mut self.link {
            LinkPhase::Connected(session) => Some(session),
            _ => None,
        }
    }

    /// The session `id`, unless it is over: tasks of an old session must not touch a new one.
    fn session_of(&mut self, id: SessionId) -> Option<&mut Session> {
        self.session().filter(|session| session.id == id)
    }

    fn dial(&mut self, ctx: &mut Context<Self>) {
        tracing::debug!(conn_id = self.conn_id(), "connecting");
        self.status.enter(LinkState::Connecting);
        let dial = self.dialer.dial().into_actor(self);
        let handle = ctx.spawn(dial.map(|result, connection, ctx| connection.dialed(result, ctx)));
        self.link = LinkPhase::Dialing(handle);
    }

    fn dialed(&mut self, result: Result<Link, DialError>, ctx: &mut Context<Self>) {
        match result {
            Ok(link) => self.connected(link, ctx),
            Err(error) => self.attempt_failed(&error, ctx),
        }
    }

    /// The socket is connected: subscribe first, so that no change is missed, and then register
    /// with the snapshot.
    fn connected(&mut self, link: Link, ctx: &mut Context<Self>) {
        self.status.enter(LinkState::Registering);
        let session = Session::new(link);
        let id = session.id;
        self.link = LinkPhase::Connected(Box::new(session));
        let agent = self.agent.clone();
        let subscribed = async move { agent.subscribe(None, Delivery::Each).await.ok() };
        ctx.spawn(subscribed.into_actor(self).map(move |subscribed, connection, ctx| {
            connection.subscribed(id, subscribed, ctx);
        }));
        self.read_on(ctx);
        ctx.run_later(self.options.register_timeout, move |connection, ctx| {
            let late = connection
                .session_of(id)
                .is_some_and(|session| session.registered_since().is_none());
            if late {
                let limit = connection.options.register_timeout;
                connection.lost(&End::Unanswered(limit), ctx);
            }
        });
        self.keep_alive(id, ctx);
    }

    /// Pings, and notices silence. Compares instants, so that a late timer does not ping twice.
    fn keep_alive(&mut self, id: SessionId, ctx: &mut Context<Self>) {
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

    /// The scheduler has accepted the registration.
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
        session.registered();
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
        self.link = LinkPhase::Waiting(handle);
    }

    /// Ends the actor.
    fn finish(&mut self, ctx: &mut Context<Self>) {
        self.status.enter(LinkState::Closed);
        if let Some(outcome) = self.outcome.take() {
            // A test may have no receiver.
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

/// End once the scheduler has got `done`, or at once without a connection.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Finish;

impl Handler<Finish> for Connection {
    type Result = ();

    fn handle(&mut self, _: Finish, ctx: &mut Self::Context) {
        self.finishing = true;
        match &self.link {
            LinkPhase::Connected(session) if session.registered_since().is_some() => {}
            LinkPhase::Waiting(handle) | LinkPhase::Dialing(handle) => {
                ctx.cancel_future(*handle);
                self.finish(ctx);
            }
            _ => self.finish(ctx),
        }
    }
}
