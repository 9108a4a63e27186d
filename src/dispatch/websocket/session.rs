//! The state of one connection, from its socket to its loss.

use std::collections::VecDeque;
use std::time::Duration;

use actix::SpawnHandle;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::actors::messages::{Change, ChangeKind, Dated};
use crate::actors::shutdown::ShutdownState;
use crate::actors::subscription::{Next, Subscription};
use crate::dispatch::core::call::CallAnswer;
use crate::dispatch::core::conversation::Conversation;
use crate::dispatch::core::outbox::Outbox;
use crate::net::activity::Activity;
use crate::net::inbound::Inbound;
use crate::net::outbound::{Outbound, Payload};
use crate::net::socket::Link;
use crate::spec::ProcId;

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The snapshot is awaited, of which the registration is made.
    Subscribing,
    /// The server is to accept the registration. Nothing else is sent before.
    Registering,
    /// The server has accepted us.
    Registered {
        /// When.
        since: Instant,
    },
    /// The last message of the agent's life is queued.
    Finishing {
        /// When the server had accepted us.
        since: Instant,
    },
    /// The socket takes nothing any more; why, it says in `inbound`.
    Broken {
        /// When the server had accepted us.
        since: Instant,
    },
}

/// What a session's pump has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// No change waits: the next one is to be awaited.
    Empty,
    /// It goes on when something was sent or looked up.
    Full,
    /// The server has not taken so much that changes are lost.
    Lagged,
}

/// Which session: what was begun for an old one must not touch a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionId(u64);

impl SessionId {
    fn fresh() -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        SessionId(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}

/// A connection. All of it is dropped with its loss.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) phase: Phase,
    pub(super) outbound: Outbound,
    /// Where messages go; none while one waits for room there, or is made.
    pub(super) sender: Option<mpsc::Sender<Box<dyn Payload>>>,
    activity: Activity,
    /// What the server says, while nobody waits for it.
    pub(super) inbound: Option<mpsc::Receiver<Inbound>>,
    /// The changes, from the snapshot on.
    subscription: Option<Subscription>,
    /// The wait for the next change.
    pub(super) waiting: Option<SpawnHandle>,
    /// The request that is being carried out.
    pub(super) call: Option<SpawnHandle>,
    /// How many answers are being looked up: meanwhile no changes are taken, or an answer would be
    /// older than they.
    looking_up: usize,
    /// Answers that come after changes which were not taken yet, in their order.
    answers: VecDeque<Dated<CallAnswer>>,
    conversation: Conversation,
    pub(super) outbox: Outbox,
    /// When a ping was last due.
    pub(super) last_ping: Instant,
    pings: u64,
}

impl Session {
    pub(super) fn new(Link { inbound, outbound, activity }: Link) -> Self {
        Session {
            id: SessionId::fresh(),
            phase: Phase::Subscribing,
            sender: Some(outbound.data.clone()),
            outbound,
            activity,
            inbound: Some(inbound),
            subscription: None,
            waiting: None,
            call: None,
            looking_up: 0,
            answers: VecDeque::new(),
            conversation: Conversation::default(),
            outbox: Outbox::default(),
            last_ping: Instant::now(),
            pings: 0,
        }
    }

    /// When the server accepted us, if it has.
    pub(super) fn registered_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Subscribing | Phase::Registering => None,
            Phase::Registered { since } | Phase::Finishing { since } | Phase::Broken { since } => {
                Some(since)
            }
        }
    }

    /// The snapshot is there, and the registration is sent.
    pub(super) fn registering(&mut self, subscription: Subscription, register: Vec<u8>) {
        self.phase = Phase::Registering;
        self.subscription = Some(subscription);
        // Nothing was sent before, so there is room; if not, the connection is lost already.
        let _ = self.outbound.data.try_send(Box::new(Bytes::from(register)));
    }

    /// The server has accepted us.
    pub(super) fn registered(&mut self) {
        if self.phase == Phase::Registering {
            self.phase = Phase::Registered { since: Instant::now() };
        }
    }

    /// The socket has ended.
    pub(super) fn broken(&mut self) {
        if let Phase::Registered { since } = self.phase {
            self.phase = Phase::Broken { since };
        }
    }

    /// Whether requests are not answered any more: what the server says is read to hear it hang up.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Finishing { .. } | Phase::Broken { .. })
    }

    /// Whether the next request can be looked at.
    pub(super) fn can_take_more(&self) -> bool {
        let answering = self.call.is_some() || self.looking_up > 0 || !self.answers.is_empty();
        self.is_over() || (!answering && !self.outbox.is_full())
    }

    /// Whether all that is known has been sent.
    pub(super) fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.answers.is_empty()
    }

    /// The last sign of life. While we do not read, be it that the server does not take our answers
    /// or that one takes long, that it takes any bytes is one.
    pub(super) fn last_sign(&self) -> Instant {
        let read = self.activity.last_byte();
        if self.can_take_more() { read } else { read.max(self.activity.last_write()) }
    }

    /// Notes that an idempotent start of these processes has come.
    pub(super) fn begin_repeat(&mut self, ids: impl IntoIterator<Item = ProcId>) {
        self.conversation.begin_repeat(ids);
    }

    /// Notes that an answer is being looked up.
    pub(super) fn look_up(&mut self) {
        self.looking_up += 1;
    }

    /// Notes the answers of one lookup, which come after the changes that are in them.
    pub(super) fn looked_up(&mut self, answers: Vec<Dated<CallAnswer>>) {
        self.looking_up -= 1;
        self.answers.extend(answers);
    }

    /// Turns changes and answers into messages, as long as there is room for them.
    pub(super) fn pump(&mut self) -> Pumped {
        let Some(subscription) = &mut self.subscription else { return Pumped::Full };
        if self.looking_up > 0 {
            return Pumped::Full;
        }
        while matches!(self.phase, Phase::Registered { .. }) && !self.outbox.is_full() {
            let until = self.answers.front().map_or(u64::MAX, |answer| answer.seq);
            match subscription.take_until(until) {
                Next::Change(Change { what, .. }) => {
                    let done = matches!(what, ChangeKind::Shutdown(ShutdownState::Done));
                    self.conversation.change(what, &mut self.outbox);
                    if let (true, Phase::Registered { since }) = (done, self.phase) {
                        self.phase = Phase::Finishing { since };
                    }
                }
                Next::Lagged => return Pumped::Lagged,
                Next::Empty | Next::Closed => match self.answers.pop_front() {
                    Some(answer) => self.conversation.answer(answer.value, &mut self.outbox),
                    None => return Pumped::Empty,
                },
            }
        }
        Pumped::Full
    }

    /// Resolves with the next change.
    pub(super) fn next_change(&self) -> Option<impl Future<Output = ()> + use<>> {
        self.subscription.as_ref().map(Subscription::ready)
    }

    /// Sends a ping, which bears its number. Before the registration its turn is passed over.
    pub(super) fn keep_pinging(&mut self, now: Instant) {
        self.last_ping = now;
        if self.registered_since().is_none() {
            return;
        }
        self.pings += 1;
        self.outbound.ping(Bytes::copy_from_slice(&self.pings.to_be_bytes()));
    }

    /// The round trip, if a pong answers the last ping.
    pub(super) fn pong(&self, payload: &[u8]) -> Option<Duration> {
        (payload == self.pings.to_be_bytes()).then(|| self.last_ping.elapsed())
    }
}

/// What a session still has to send, for tests and logs.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queued = self.outbox.len();
        f.debug_struct("Session")
            .field("phase", &self.phase)
            .field("queued", &queued)
            .finish_non_exhaustive()
    }
}
