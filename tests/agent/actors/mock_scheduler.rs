//! A mock scheduler: the test reads the messages that the connection sends, and sends the
//! scheduler's messages, without a socket.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use procstar::actors::lifecycle::EndWhen;
use procstar::actors::results::Results;
use procstar::actors::status::LinkStatus;
use procstar::actors::{Handle, Mailboxes};
use procstar::app::own_process::proc_info;
use procstar::config::{ConnectSettings, Secret};
use procstar::dispatch::websocket::{Connection, ConnectionOptions, Outcome};
use procstar::net::activity::Activity;
use procstar::net::dial::{Dial, DialError, Refusal};
use procstar::net::inbound::{Inbound, SocketError};
use procstar::net::outbound::{ControlFrame, OutboundRx, Outgoing, Payload, outbound};
use procstar::net::socket::Link;
use procstar::report::ResultContext;
use procstar::sampler::ProcReader;
use procstar::wire::ConnInfo;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::harness::*;
use crate::message::Message;

/// The outcome of an attempt to connect. An attempt without a plan succeeds.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    Refuse,
    Hang,
}

/// Connects to mock schedulers.
#[derive(Clone)]
pub struct FakeDial(Rc<Dialled>);

struct Dialled {
    plan: RefCell<VecDeque<Plan>>,
    at: RefCell<Vec<Instant>>,
    schedulers: mpsc::UnboundedSender<Scheduler>,
}

impl Dial for FakeDial {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Link, DialError>> {
        self.0.at.borrow_mut().push(Instant::now());
        match self.0.plan.borrow_mut().pop_front() {
            Some(Plan::Refuse) => {
                let refusal = Refusal { status: 404, reason: "Not Found".into(), location: None };
                let error = DialError::Status { target: "server:1".into(), refusal };
                Box::pin(async { Err(error) })
            }
            Some(Plan::Hang) => Box::pin(std::future::pending()),
            None => {
                let (to_agent, inbound) = mpsc::channel(4);
                let (out, from_agent) = outbound(4);
                let activity = Activity::new();
                let link = Link { inbound, outbound: out, activity: activity.clone() };
                let _ = self.0.schedulers.send(Scheduler { to_agent, from_agent, activity });
                Box::pin(async { Ok(link) })
            }
        }
    }
}

/// The scheduler's end of one connection.
pub struct Scheduler {
    pub to_agent: mpsc::Sender<Inbound>,
    pub from_agent: OutboundRx,
    pub activity: Activity,
}

/// All bytes of a message.
pub fn bytes(mut payload: Box<dyn Payload>) -> Vec<u8> {
    let mut out = Vec::new();
    while payload.fill(&mut out).unwrap() {}
    out
}

impl Scheduler {
    /// Returns the bytes of the next message, and skips pings.
    pub async fn raw(&mut self) -> Vec<u8> {
        loop {
            match soon(self.from_agent.next()).await {
                Some(Outgoing::Data(payload)) => return bytes(payload),
                Some(Outgoing::Control(ControlFrame::Ping(_))) => {}
                other => panic!("no message: {other:?}"),
            }
        }
    }

    pub async fn message(&mut self) -> Message {
        rmp_serde::from_slice(&self.raw().await).unwrap()
    }

    /// Returns all messages until the agent is idle, in one line each. The last may be a Close.
    pub async fn heard(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(next) = timeout(Duration::from_millis(1), self.from_agent.next()).await {
            all.push(match next {
                Some(Outgoing::Data(payload)) => {
                    let message: Message = rmp_serde::from_slice(&bytes(payload)).unwrap();
                    message.brief()
                }
                Some(Outgoing::Control(ControlFrame::Close(close))) => {
                    format!("close {}", close.code.unwrap())
                }
                Some(Outgoing::Control(ControlFrame::Ping(_))) => "ping".into(),
                Some(Outgoing::Control(ControlFrame::Pong(_))) => "pong".into(),
                None => "gone".into(),
            });
            if all.last().is_some_and(|last| last == "gone" || last.starts_with("close")) {
                break;
            }
        }
        all
    }

    /// Sends a message; waits until the agent's queue has room for it.
    pub async fn say_raw(&self, message: impl Into<Bytes>) {
        self.activity.touch();
        soon(self.to_agent.send(Inbound::Message(message.into()))).await.unwrap();
    }

    pub async fn say(&self, message: Value) {
        self.say_raw(rmp_serde::to_vec(&message).unwrap()).await;
    }

    /// Accepts the registration, and returns it in one line.
    pub async fn welcome(&mut self) -> String {
        let register = self.message().await;
        self.say(json!({"type": "Registered"})).await;
        settle().await;
        register.brief()
    }

    /// Keeps the connection alive for this time, with activity every ten seconds.
    pub async fn lives(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.activity.touch();
            tokio::time::sleep(secs(10).min(until - Instant::now())).await;
        }
    }

    /// The scheduler closes the connection.
    pub async fn close(self, code: u16, reason: &str) {
        let close = Inbound::Close { code: Some(code), reason: reason.into() };
        self.to_agent.send(close).await.unwrap();
    }

    /// The connection breaks.
    pub async fn lose(self) {
        let _ = self.to_agent.send(Inbound::Lost(SocketError::Eof)).await;
    }

    pub async fn start(&self, ids: &[&str]) {
        let proc = json!({"argv": ["/usr/bin/true"]});
        let specs: serde_json::Map<_, _> =
            ids.iter().map(|id| ((*id).to_owned(), proc.clone())).collect();
        self.say(json!({"type": "ProcStartRequest", "specs": specs})).await;
    }

    pub async fn ask(&self, kind: &str, id: &str) {
        self.say(json!({"type": kind, "proc_id": id})).await;
    }
}

/// An agent with a fake engine and no socket.
pub struct Agent {
    pub conn: Addr<Connection>,
    pub supervised: Supervised,
    pub results: Addr<Results>,
    pub status: Arc<LinkStatus>,
    pub outcome: oneshot::Receiver<Outcome>,
    dial: FakeDial,
    schedulers: mpsc::UnboundedReceiver<Scheduler>,
}

pub fn options() -> ConnectionOptions {
    ConnectionOptions {
        conn: ConnInfo {
            conn_id: "the-conn".into(),
            group_id: "the-group".into(),
            restricted_exe: None,
        },
        proc: proc_info(),
        token: Arc::new(Secret::new("s3cret")).into(),
        connect: ConnectSettings {
            interval_start: secs(1),
            interval_mult: 2.0,
            interval_max: secs(60),
            count_max: None,
        },
        register_timeout: secs(10),
        ping_interval: secs(20),
        read_timeout: secs(60),
        push_interval: None,
    }
}

impl Agent {
    pub fn new(options: ConnectionOptions, plan: &[Plan]) -> Agent {
        Agent::with(options, plan, EndWhen::Never, |_| ())
    }

    /// An agent whose engine reports a start only if the test sends the event.
    pub fn with_manual_starts(options: ConnectionOptions) -> Agent {
        Agent::made(options, &[], EndWhen::Never, false, |_| ())
    }

    /// An agent with some of its mailboxes replaced.
    pub fn with(
        options: ConnectionOptions,
        plan: &[Plan],
        end_when: EndWhen,
        replace: impl FnOnce(&mut Mailboxes),
    ) -> Agent {
        Agent::made(options, plan, end_when, true, replace)
    }

    fn made(
        options: ConnectionOptions,
        plan: &[Plan],
        end_when: EndWhen,
        auto_starts: bool,
        replace: impl FnOnce(&mut Mailboxes),
    ) -> Agent {
        tokio::time::pause();
        let results = Results::default().start();
        let supervised = supervise(&results, end_when, auto_starts);
        let supervisor = &supervised.supervisor;
        let mut peers = Mailboxes::of(supervisor, &results);
        replace(&mut peers);
        let (accepted, schedulers) = mpsc::unbounded_channel();
        let dial = FakeDial(Rc::new(Dialled {
            plan: RefCell::new(plan.iter().copied().collect()),
            at: RefCell::default(),
            schedulers: accepted,
        }));
        let (tell, outcome) = oneshot::channel();
        let context = Arc::new(ResultContext::new(ProcReader::default()));
        let handle = Handle::from(peers);
        let conn = Connection::new(options, handle, context, Rc::new(dial.clone()), tell);
        let status = conn.status();
        let conn = conn.start();
        Agent { conn, status, supervised, results, outcome, dial, schedulers }
    }

    /// A registered agent and its scheduler.
    pub async fn registered() -> (Agent, Scheduler) {
        let mut agent = Agent::new(options(), &[]);
        let scheduler = agent.welcomed().await;
        (agent, scheduler)
    }

    /// Waits for the next connection.
    pub async fn scheduler(&mut self) -> Scheduler {
        soon(self.schedulers.recv()).await.unwrap()
    }

    /// Waits for the next connection, and accepts its registration.
    pub async fn welcomed(&mut self) -> Scheduler {
        let mut scheduler = self.scheduler().await;
        scheduler.welcome().await;
        scheduler
    }

    /// Plans the outcomes of the next attempts to connect.
    pub fn plan(&self, plan: &[Plan]) {
        self.dial.0.plan.borrow_mut().extend(plan);
    }

    /// The times of all attempts so far.
    pub fn dialled(&self) -> Vec<Instant> {
        self.dial.0.at.borrow().clone()
    }

    pub fn tell(&self, event: procstar::engine::Event) {
        self.supervised.engine.tell(event);
    }

    pub fn tell_all(&self, events: impl IntoIterator<Item = procstar::engine::Event>) {
        self.supervised.engine.tell_all(events);
    }

    /// Starts processes through the supervisor, not through the connection.
    pub async fn start(&self, ids: &[&str]) {
        self.supervised.supervisor.send(request(ids)).await.unwrap().unwrap();
        settle().await;
    }

    pub async fn delete(&self, id: &str) {
        let delete = procstar::actors::messages::Delete(id.into());
        self.supervised.supervisor.send(delete).await.unwrap().unwrap();
        settle().await;
    }

    pub fn order(&self, order: procstar::actors::messages::Shutdown) {
        self.supervised.supervisor.do_send(order);
    }

    /// The outcome, or `None` while the connection runs.
    pub fn ended(&mut self) -> Option<Outcome> {
        self.outcome.try_recv().ok()
    }
}
