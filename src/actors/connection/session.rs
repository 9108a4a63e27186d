//! The state of one connection, from its socket to its loss.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::outgoing::Item;
use crate::actors::messages::SubscriberId;
use crate::mem::shrink::Shrink;
use crate::net::activity::Activity;
use crate::net::outbound::Outbound;
use crate::net::socket::Inbound;
use crate::spec::ProcId;
use crate::wire::Fd;

/// Requests are read only while fewer messages than this wait to be sent.
const MAX_QUEUED: usize = 64;
/// And only while those that are held as they are, refused requests above all, have fewer bytes than this.
const MAX_QUEUED_BYTES: usize = 16 << 20;
/// How many IDs are remembered as told gone. A server that asks for more unknown processes than this is told some twice.
const MAX_GONE: usize = 100_000;

/// A connection. All of it is dropped with its loss.
pub(super) struct Session {
    /// Its subscription to the results.
    pub(super) id: SubscriberId,
    pub(super) outbound: Outbound,
    activity: Activity,
    /// What the server says, while nobody is waiting for it.
    pub(super) inbound: Option<mpsc::Receiver<Inbound>>,
    /// Whether the snapshot has come. What comes before it was meant for an earlier connection.
    pub(super) subscribed: bool,
    /// Whether the server has accepted us. Nothing but the registration is sent before.
    pub(super) registered: bool,
    /// When it did.
    pub(super) registered_at: Instant,
    /// Whether the last message of the agent's life is queued.
    pub(super) said_done: bool,
    /// Whether the socket takes nothing any more; why, it says in `inbound`.
    pub(super) broken: bool,
    /// What is to be sent, in order.
    queue: VecDeque<Item>,
    /// The bytes in there.
    queued_bytes: usize,
    /// Whether something waits for room in the socket's own queue.
    pub(super) sending: bool,
    /// Whether a request is being carried out by another actor.
    pub(super) busy: bool,
    /// The questions that have been asked and not answered, oldest first.
    pub(super) asked: VecDeque<Asked>,
    /// The hashes of IDs that were told gone: so many strings that outlive their processes would hold pages of memory here and there.
    gone: HashSet<u64>,
    hasher: RandomState,
    /// While an idempotent start is carried out: its processes, and how many results of each have been queued since it came.
    repeated: HashMap<ProcId, usize>,
    /// When a ping was last due.
    pub(super) last_ping: Instant,
    pings: u64,
}

/// Why a question was asked.
pub(super) enum Asked {
    /// For a list of processes.
    Ids,
    /// For a result.
    Result(ProcId),
    /// For a range of output.
    FdData {
        /// The request as it came.
        request: Bytes,
        proc_id: ProcId,
        fd: Fd,
        start: u64,
        stop: Option<u64>,
    },
    /// To go on only when all that came before has been told.
    Barrier,
    /// To push the results of running processes.
    Push,
    /// To answer a start with a process that is there already.
    Repeat(ProcId),
}

impl Session {
    pub(super) fn new(outbound: Outbound, activity: Activity) -> Self {
        Session {
            id: SubscriberId::fresh(),
            outbound,
            activity,
            inbound: None,
            subscribed: false,
            registered: false,
            registered_at: Instant::now(),
            said_done: false,
            broken: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sending: false,
            busy: false,
            asked: VecDeque::new(),
            gone: HashSet::new(),
            hasher: RandomState::new(),
            repeated: HashMap::new(),
            last_ping: Instant::now(),
            pings: 0,
        }
    }

    /// Puts a message at the end of what is to be sent. Nothing follows the last one of the agent's life.
    pub(super) fn queue(&mut self, item: Item) {
        if !self.said_done {
            self.queued_bytes += item.bytes();
            self.queue.push_back(item);
        }
    }

    /// Takes the next message that is to be sent.
    pub(super) fn next(&mut self) -> Option<Item> {
        let item = self.queue.pop_front()?;
        self.queue.shrink_if_sparse();
        self.queued_bytes -= item.bytes();
        Some(item)
    }

    /// How many messages are to be sent.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether requests are not answered any more: what the server says is read to hear it hang up.
    pub(super) fn is_over(&self) -> bool {
        self.said_done || self.broken
    }

    /// Whether the next request can be looked at.
    pub(super) fn can_take_more(&self) -> bool {
        let answering = self.asked.iter().any(|asked| !matches!(asked, Asked::Push));
        self.is_over() || (!self.busy && !answering && !self.is_full())
    }

    fn is_full(&self) -> bool {
        self.queue.len() >= MAX_QUEUED || self.queued_bytes >= MAX_QUEUED_BYTES
    }

    /// The last sign of life. While we do not read, be it that the server does not take our answers or that one
    /// takes long, that it takes any bytes is one.
    pub(super) fn last_sign(&self) -> Instant {
        let read = self.activity.last_byte();
        if self.can_take_more() { read } else { read.max(self.activity.last_write()) }
    }

    /// Notes that an idempotent start of these processes has come.
    pub(super) fn begin_repeat(&mut self, ids: impl IntoIterator<Item = ProcId>) {
        self.repeated = ids.into_iter().map(|id| (id, 0)).collect();
    }

    /// Notes that a result was queued that tells of a start or an end.
    pub(super) fn told(&mut self, id: &ProcId) {
        if let Some(told) = self.repeated.get_mut(id) {
            *told += 1;
        }
    }

    /// How many results of a process are to be queued as the answer to its idempotent start. A start has two: of a process that
    /// runs, the second comes at its end; of what was queued since the request came, nothing is queued again.
    pub(super) fn repeats_due(&mut self, id: &ProcId, running: bool) -> usize {
        let told = self.repeated.remove(id).unwrap_or(0);
        if running { 1usize.saturating_sub(told) } else { 2usize.saturating_sub(told) }
    }

    /// Notes that an ID is told gone; false if it had been already.
    pub(super) fn tell_gone(&mut self, id: &ProcId) -> bool {
        if self.gone.len() >= MAX_GONE {
            self.gone.clear();
        }
        self.gone.insert(self.hasher.hash_one(id))
    }

    /// Notes that a process of this ID exists.
    pub(super) fn exists(&mut self, id: &ProcId) {
        self.gone.remove(&self.hasher.hash_one(id));
    }

    /// Sends a ping, which bears its number. Before the registration its turn is passed over.
    pub(super) fn keep_pinging(&mut self, now: Instant) {
        self.last_ping = now;
        if !self.registered {
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
