//! What is sent to the server: messages that are made when there is room for them.

use std::io;
use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use bytes::Bytes;

use super::Connection;
use super::session::{Asked, Session};
use crate::actors::messages::{Answer, Ask, Question, ShutdownState, SubscriberId, Update};
use crate::engine::{Capture, View};
use crate::net::outbound::Payload;
use crate::report::{AsOf, ProcessRecord, ResultContext, ResultFormat, ResultStream};
use crate::spec::{Encoding, ProcId};
use crate::wire::{Register, outgoing as message};

/// Captures up to this many bytes are encoded at once; to begin a larger message, its bytes have to be looked at first, which
/// is done on another thread.
const AT_ONCE: u64 = 256 * 1024;

/// A message to be sent.
pub(super) enum Item {
    /// As it is.
    Ready(Bytes),
    /// A process's result.
    Result(Arc<ProcessRecord>, AsOf),
    /// A result, or captured bytes, made already.
    Stream(ResultStream),
}

impl Item {
    /// What it holds in memory of its own, in bytes, as far as that can be much.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Item::Ready(message) => message.len(),
            Item::Result(..) | Item::Stream(_) => 0,
        }
    }
}

impl From<Vec<u8>> for Item {
    fn from(message: Vec<u8>) -> Self {
        Item::Ready(message.into())
    }
}

/// A result stream as what the socket sends.
struct Streamed(ResultStream);

impl Payload for Streamed {
    fn fill(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        self.0.fill(out)
    }
}

impl Connection {
    /// Makes messages of what the results tell.
    pub(super) fn update(&mut self, update: Update, ctx: &mut Context<Self>) {
        let first = matches!(update, Update::Snapshot { .. });
        if !self.session().is_some_and(|session| session.subscribed || first) {
            return;
        }
        match update {
            Update::Snapshot { ids, shutdown } => self.register(&ids, shutdown),
            Update::Started(record) => {
                if let Some(session) = self.session() {
                    session.exists(&record.id);
                    session.told(&record.id);
                    session.queue(Item::Result(record, AsOf::AtStart));
                }
            }
            Update::Ended(record) => {
                if let Some(session) = self.session() {
                    session.told(&record.id);
                    session.queue(Item::Result(record, AsOf::Now));
                }
            }
            Update::Removed(id) => {
                if let Some(session) = self.session()
                    && session.tell_gone(&id)
                {
                    session.queue(message::proc_delete(id.as_str()).into());
                }
            }
            Update::Shutdown(state) => {
                self.queue(message::shut_down(state).into());
                if let Some(session) = self.session() {
                    session.said_done |= state == ShutdownState::Done;
                }
            }
            Update::Answer(answer) => self.answered(answer),
        }
        self.send_on(ctx);
    }

    fn register(&mut self, ids: &[ProcId], shutdown_state: ShutdownState) {
        let proc_ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let token = self.options.token.get();
        let register = Register {
            conn: &self.options.conn,
            proc: &self.options.proc,
            proc_ids: &proc_ids,
            access_token: token.expose(),
            shutdown_state,
        };
        let message = Bytes::from(register.encode());
        if let Some(session) = self.session() {
            session.subscribed = true;
            // Nothing has been sent before, so there is room; if not, the connection is lost already.
            let _ = session.outbound.data.try_send(Box::new(message));
        }
    }

    pub(super) fn queue(&mut self, item: Item) {
        if let Some(session) = self.session() {
            session.queue(item);
        }
    }

    /// An answer to the oldest question.
    fn answered(&mut self, answer: Answer) {
        let Some(asked) = self.session().and_then(|session| session.asked.pop_front()) else {
            return;
        };
        match (asked, answer) {
            (Asked::Ids, Answer::Ids(ids)) => self.queue(message::procid_list(&ids).into()),
            (Asked::Result(_), Answer::Record(Some(record))) => {
                self.queue(Item::Result(record, AsOf::Now));
            }
            (Asked::Repeat(id), Answer::Record(Some(record))) => {
                if let Some(session) = self.session() {
                    for _ in 0..session.repeats_due(&id, record.is_running()) {
                        session.queue(Item::Result(Arc::clone(&record), AsOf::Now));
                    }
                }
            }
            // It has not started, and its start will be told; or it has just been deleted, which is told.
            (Asked::Repeat(_), Answer::Record(None)) => {}
            (Asked::Result(id) | Asked::FdData { proc_id: id, .. }, Answer::Record(None)) => {
                self.unknown(&id);
            }
            (Asked::FdData { request, proc_id, fd, start, stop }, Answer::Record(Some(record))) => {
                let most = self.context.max_inline().min(message::MAX_FD_DATA);
                let item = fd_data(&record, &proc_id, &fd, start..stop.unwrap_or(u64::MAX), most)
                    .unwrap_or_else(|err| message::request_error(&request, &err).into());
                self.queue(item);
            }
            (Asked::Push, Answer::Running(running)) => {
                for record in running {
                    self.queue(Item::Result(record, AsOf::Now));
                }
            }
            // A barrier; others do not occur, for answers come in the order of their questions.
            _ => {}
        }
    }

    /// Tells that a process is unknown, once.
    pub(super) fn unknown(&mut self, id: &ProcId) {
        if let Some(session) = self.session()
            && session.tell_gone(id)
        {
            session.queue(message::proc_unknown(id.as_str()).into());
        }
    }

    /// Pushes the results of running processes, unless the server is behind with what it was sent.
    pub(super) fn push(
        &mut self,
        id: SubscriberId,
        interval: std::time::Duration,
        ctx: &mut Context<Self>,
    ) {
        let Some(session) = self.session_of(id) else { return };
        if session.queued() == 0 && !session.said_done {
            session.asked.push_back(Asked::Push);
            self.peers.ask.do_send(Ask { id, question: Question::Running });
        }
        ctx.run_later(interval, move |connection, ctx| connection.push(id, interval, ctx));
    }

    /// Sends the next message as soon as the socket has room; after the last one of all, closes.
    pub(super) fn send_on(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = self.session() else { return };
        if !session.registered || session.sending {
            return;
        }
        if session.queued() == 0 {
            if session.said_done {
                session.outbound.close(Some(1000), "done");
            }
            return;
        }
        session.sending = true;
        let id = session.id;
        let room = session.outbound.data.clone().reserve_owned();
        ctx.spawn(room.into_actor(self).map(move |room, connection, ctx| {
            let Ok(room) = room else { return connection.broken(id, ctx) };
            let context = Arc::clone(&connection.context);
            let Some(item) = connection.session_of(id).and_then(Session::next) else { return };
            match item {
                Item::Result(record, as_of) if !is_large(&record) => {
                    let made = result(&record, as_of, &context);
                    connection.made(id, made, room, ctx);
                }
                Item::Result(record, as_of) => {
                    let making =
                        actix_rt::task::spawn_blocking(move || result(&record, as_of, &context));
                    ctx.spawn(making.into_actor(connection).map(move |made, connection, ctx| {
                        let made = made.unwrap_or_else(|error| Err(io::Error::other(error)));
                        connection.made(id, made, room, ctx);
                    }));
                }
                Item::Stream(stream) => connection.made(id, Ok(stream), room, ctx),
                Item::Ready(bytes) => {
                    room.send(Box::new(bytes));
                    connection.sent(id, ctx);
                }
            }
        }));
    }

    /// The socket has ended. The reader tells how, so it is read on, whatever is still to be answered.
    fn broken(&mut self, id: SubscriberId, ctx: &mut Context<Self>) {
        if let Some(session) = self.session_of(id) {
            session.broken = true;
            self.read_on(ctx);
        }
    }

    fn made(
        &mut self,
        id: SubscriberId,
        made: io::Result<ResultStream>,
        room: tokio::sync::mpsc::OwnedPermit<Box<dyn Payload>>,
        ctx: &mut Context<Self>,
    ) {
        match made {
            Ok(stream) => {
                room.send(Box::new(Streamed(stream)));
            }
            // Only this message is lost: its captures cannot be read.
            Err(error) => {
                tracing::error!(conn_id = self.conn_id(), %error, "cannot make a result");
            }
        }
        self.sent(id, ctx);
    }

    fn sent(&mut self, id: SubscriberId, ctx: &mut Context<Self>) {
        if let Some(session) = self.session_of(id) {
            session.sending = false;
            self.send_on(ctx);
            self.read_on(ctx);
        }
    }
}

fn is_large(record: &ProcessRecord) -> bool {
    record
        .captures
        .iter()
        .filter_map(|(_, capture)| capture)
        .any(|capture| capture.spec().attached && capture.len() > AT_ONCE)
}

fn result(
    record: &ProcessRecord,
    as_of: AsOf,
    context: &ResultContext,
) -> io::Result<ResultStream> {
    let prefix = message::proc_result_prefix(record.id.as_str());
    Ok(ResultStream::new(record, as_of, context, ResultFormat::MessagePack)?.with_prefix(prefix))
}

/// The answer to a request for a range of output, with `most` of its bytes: an error where there is no such captured fd.
fn fd_data(
    record: &ProcessRecord,
    proc_id: &ProcId,
    fd: &crate::wire::Fd,
    range: std::ops::Range<u64>,
    most: u64,
) -> Result<Item, String> {
    let name = fd.name();
    let number = name.parse::<crate::spec::FdName>().map_err(|error| error.to_string())?;
    let capture = record
        .captures
        .get(number)
        .ok_or_else(|| format!("fd {name} of process {proc_id} is not captured"))?;
    let view = match capture.view() {
        Ok(view) => view,
        Err(error) if Capture::is_changed(&error) => {
            return Err(format!("cannot read fd {name} of process {proc_id}: {error}"));
        }
        // One that cannot be opened has nothing to read.
        Err(error) => {
            tracing::warn!(%proc_id, %error, "cannot read captured output");
            View::empty()
        }
    };
    let end = view.len();
    let start = range.start;
    let length = range.end.min(end).saturating_sub(start).min(most);
    let encoding = (capture.spec().encoding == Some(Encoding::Utf8)).then_some("utf-8");
    let prefix = message::proc_fd_data_prefix(proc_id.as_str(), fd, start, encoding, length)
        .map_err(|error| error.to_string())?;
    let data = ResultStream::raw(view, start, start.saturating_add(length));
    Ok(Item::Stream(data.with_prefix(prefix)))
}

/// What a session still has to send, for tests and logs.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("queued", &self.queued()).finish_non_exhaustive()
    }
}
