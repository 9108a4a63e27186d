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

/// The phase of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The session waits for the snapshot, which the registration needs.
    Subscribing,
    /// The scheduler has not accepted the registration. No other message is sent before.
    Registering,
    /// The scheduler has accepted the registration.
    Registered {
        /// The time of the acceptance.
        since: Instant,
    },
    /// The last message of the worker's life is queued.
    Finishing {
        /// The time of the acceptance.
        since: Instant,
    },
    /// The socket takes no more messages; the reason comes from `inbound`.
    Broken {
        /// The time of the acceptance.
        since: Instant,
    },
}

/// The state of a session after its pump has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// No change waits: wait for the next one.
    Empty,
    /// Continue when a message was sent or an answer was looked up.
    Full,
    /// The scheduler is so far behind that changes are lost.
    Lagged,
}

/// The identity of a session: tasks of an old one must not touch a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionId(u64);

impl SessionId {
    fn fresh() -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        SessionId(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}

/// A connection. Its loss drops everything.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) phase: Phase,
    pub(super) outbound: Outbound,
    /// Where messages go; none while one is made or waits for room.
    pub(super) sender: Option<mpsc::Sender<Box<dyn Payload>>>,
    activity: Activity,
    /// The socket's events, unless a task waits for them.
    pub(super) inbound: Option<mpsc::Receiver<Inbound>>,
    /// The changes, from the snapshot on.
    subscription: Option<Subscription>,
    /// The wait for the next change.
    pub(super) waiting: Option<SpawnHandle>,
    /// The task that carries out a request.
    pub(super) call: Option<SpawnHandle>,
    /// The number of lookups under way. Meanwhile no changes are taken, because an answer would be
    /// older than they.
    looking_up: usize,
    /// Answers that come after changes that were not taken yet, in order.
    answers: VecDeque<Dated<CallAnswer>>,
    conversation: Conversation,
    pub(super) outbox: Outbox,
    /// The last time at which a ping was due.
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

    /// The time of the acceptance; none before.
    pub(super) fn registered_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Subscribing | Phase::Registering => None,
            Phase::Registered { since } | Phase::Finishing { since } | Phase::Broken { since } => {
                Some(since)
            }
        }
    }

    /// The snapshot has come, and the registration is sent.
    pub(super) fn registering(&mut self, subscription: Subscription, register: Vec<u8>) {
        self.phase = Phase::Registering;
        self.subscription = Some(subscription);
        // There is room, because this is the first message, unless the connection is lost.
        let _ = self.outbound.data.try_send(Box::new(Bytes::from(register)));
    }

    /// The scheduler has accepted the registration.
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

    /// Whether requests are not answered any more: messages are read only to notice the hangup.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Finishing { .. } | Phase::Broken { .. })
    }

    /// Whether the next request can be read.
    pub(super) fn can_take_more(&self) -> bool {
        let answering = self.call.is_some() || self.looking_up > 0 || !self.answers.is_empty();
        self.is_over() || (!answering && !self.outbox.is_full())
    }

    /// Whether all messages have been sent.
    pub(super) fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.answers.is_empty()
    }

    /// The last sign of life. While this side does not read, because the scheduler does not take
    /// answers or because one takes long, bytes that it takes are one too.
    pub(super) fn last_sign(&self) -> Instant {
        let read = self.activity.last_byte();
        if self.can_take_more() { read } else { read.max(self.activity.last_write()) }
    }

    /// Begins an idempotent start of these processes.
    pub(super) fn begin_repeat(&mut self, ids: impl IntoIterator<Item = ProcId>) {
        self.conversation.begin_repeat(ids);
    }

    /// Records that a lookup is under way.
    pub(super) fn look_up(&mut self) {
        self.looking_up += 1;
    }

    /// Records the answers of a lookup, which come after the changes that they contain.
    pub(super) fn looked_up(&mut self, answers: Vec<Dated<CallAnswer>>) {
        self.looking_up -= 1;
        self.answers.extend(answers);
    }

    /// Turns changes and answers into messages while there is room.
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

    /// Sends a ping with its number. Before the registration none is sent.
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

/// The unsent parts of a session, for tests and logs.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queued = self.outbox.len();
        f.debug_struct("Session")
            .field("phase", &self.phase)
            .field("queued", &queued)
            .finish_non_exhaustive()
    }
}
