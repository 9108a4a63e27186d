//! The worker's end of the socket to its keeper: the engine as the actors see it.
//!
//! Before the actors start, [`introduce`] exchanges the introduction. From then on, one task sends
//! commands to the keeper; another one passes the keeper's messages to two streams, the engine's
//! events and the orders of signals.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncWriteExt, Interest};
use tokio::sync::{Notify, mpsc, oneshot};

use super::engine_link::{CommandLink, EngineLink};
use super::shutdown::Shutdown;
use crate::clock::TimePoint;
use crate::engine::{Event, ProcessCommand};
use crate::keeper::descriptors::{self, Receipt};
use crate::keeper::format::ProcessEntry;
use crate::keeper::format::{
    Acceptance, Decoder, KeeperSettings, Opening, ShutdownCommand, ToKeeper, ToWorker, VERSION,
    WorkerState, encode,
};
use crate::keeper::listeners::Listener;
use crate::keeper::listeners::{Address, FileId, MissingListener};
use crate::keeper::meaning::Mode;
use crate::keeper::succession::Holder;
use crate::keeper::{ProgramExit, put_back};
use crate::mem::trim;
use crate::spec::{ProcId, Validated};

/// The size of one read, in bytes.
const READ: usize = 64 * 1024;

/// The reason for which the worker cannot work with the keeper.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The keeper has refused, with a reason.
    #[error("{0}")]
    Refused(String),
    /// The socket has failed.
    #[error("lost the keeper: {0}")]
    Io(#[from] io::Error),
}

/// The keeper's answer to the introduction.
pub struct Welcome {
    /// The keeper's pid, which the user knows.
    pub pid: u32,
    /// The pid of the keeper's parent.
    pub ppid: u32,
    /// The keeper's start.
    pub start: TimePoint,
    /// Whether this worker is the first.
    pub first: bool,
    /// The state that the last worker left.
    pub memory: WorkerState,
    /// Every process, in the order of launch.
    pub records: Vec<ProcessEntry>,
    /// The instance's directory.
    pub dir: Option<PathBuf>,
    socket: KeeperSocket,
}

/// The socket to the keeper, with the received bytes and descriptors.
pub struct KeeperSocket {
    socket: UnixStream,
    decoder: Decoder,
    holder: Holder,
}

impl KeeperSocket {
    /// A socket of which nothing has been read.
    pub fn new(socket: UnixStream) -> KeeperSocket {
        KeeperSocket { socket, decoder: Decoder::default(), holder: Holder::default() }
    }

    /// The next message; waits for it.
    fn next_message(&mut self) -> io::Result<ToWorker> {
        let mut buf = vec![0; READ];
        loop {
            if let Some(message) = self.decoder.next_message().map_err(io::Error::other)? {
                return Ok(message);
            }
            let fds = self.holder.received();
            let received = match descriptors::receive_with(self.socket.as_fd(), &mut buf, fds) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            if received.incomplete {
                self.holder.lose();
            }
            match received.bytes {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.decoder.push(buf.get(..n).unwrap_or_default()),
            }
        }
    }
}

/// Reports the kind of run to the keeper behind `socket`. It decides the meaning of signals from
/// then on, even while INPUT is read.
///
/// # Errors
/// The keeper is gone.
pub fn report_mode(mut socket: &UnixStream, mode: Mode) -> io::Result<()> {
    let mut message = Vec::new();
    encode(&ToKeeper::Mode(mode), &mut message)?;
    socket.write_all(&message)
}

/// Leaves the bytes read from a descriptor, which can be read only once, to later workers.
///
/// # Errors
/// The keeper is gone.
pub fn leave_read(mut socket: &UnixStream, fd: RawFd, bytes: Vec<u8>) -> io::Result<()> {
    let mut message = Vec::new();
    // This process too may become the keeper of later workers.
    put_back(fd, &bytes);
    encode(&ToKeeper::ReadUp { fd, bytes }, &mut message)?;
    socket.write_all(&message)
}

/// Introduces this worker to the keeper behind `socket`, and waits for the answer.
///
/// # Errors
/// The keeper refuses, or is gone.
pub fn introduce(
    mut socket: UnixStream,
    settings: KeeperSettings,
    opening: Opening,
    input: Option<Validated>,
) -> Result<Welcome, LinkError> {
    let (settings, opening) = (Box::new(settings), Box::new(opening));
    let mut hello = Vec::new();
    encode(&ToKeeper::Hello { version: VERSION, settings, opening, input }, &mut hello)?;
    socket.write_all(&hello)?;
    let mut socket = KeeperSocket::new(socket);
    match socket.next_message()? {
        ToWorker::Welcome { pid, ppid, start, first, memory, records, dir } => {
            Ok(Welcome { pid, ppid, start, first, memory, records, dir, socket })
        }
        ToWorker::Refused { message } => Err(LinkError::Refused(message)),
        _ => Err(io::Error::other("the keeper sent events before its welcome").into()),
    }
}

/// Reports to the keeper behind `socket`, before any introduction, why this worker cannot start.
/// Standard error shows it too: a keeper that ignores it does no harm.
pub fn report_failure(mut socket: &UnixStream, message: &str) {
    let mut frame = Vec::new();
    if encode(&ToKeeper::Failed { message: message.to_owned() }, &mut frame).is_ok() {
        let _ = socket.write_all(&frame);
    }
}

/// The streams of the keeper's messages.
pub struct Streams {
    /// The engine's events.
    pub events: mpsc::UnboundedReceiver<Event>,
    /// Orders of signals.
    pub orders: mpsc::UnboundedReceiver<Shutdown>,
    /// Resolves when the keeper is gone.
    pub gone: oneshot::Receiver<()>,
}

/// The engine, behind the keeper.
pub struct KeeperLink {
    /// Commands and requests to flush.
    commands: mpsc::UnboundedSender<Outgoing>,
    holder: SharedHolder,
    answers: Answers,
    /// The ticket of the next acknowledged launch.
    next_ticket: AtomicU64,
    up: Arc<AtomicBool>,
}

/// What this worker needs to become the keeper.
type SharedHolder = Arc<Mutex<Holder>>;

fn lock(holder: &SharedHolder) -> MutexGuard<'_, Holder> {
    holder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tasks that wait for an answer of the keeper; none if the keeper is gone.
struct Waiters<K, V>(Mutex<Option<HashMap<K, Vec<oneshot::Sender<V>>>>>);

impl<K: Eq + Hash, V: Clone> Waiters<K, V> {
    fn new() -> Arc<Self> {
        Arc::new(Waiters(Mutex::new(Some(HashMap::new()))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<K, Vec<oneshot::Sender<V>>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves with the answer; fails if the keeper is gone.
    fn wait(&self, key: K) -> oneshot::Receiver<V> {
        let (answer, answered) = oneshot::channel();
        if let Some(waiting) = &mut *self.lock() {
            waiting.entry(key).or_default().push(answer);
        }
        answered
    }

    fn answer(&self, key: &K, value: V) {
        let waiting = self.lock().as_mut().and_then(|waiting| waiting.remove(key));
        for waiting in waiting.into_iter().flatten() {
            // The waiting task may have gone.
            let _ = waiting.send(value.clone());
        }
    }

    /// The keeper is gone: no answer will come.
    fn close(&self) {
        self.lock().take();
    }
}

/// The keeper's answers: to deletions by process, to acknowledged launches by ticket.
#[derive(Clone)]
struct Answers {
    forgotten: Arc<Waiters<ProcId, ()>>,
    accepted: Arc<Waiters<u64, Acceptance>>,
}

/// The work of the sending task.
enum Outgoing {
    Command(Box<ToKeeper>),
    /// A request to report when the system has taken all earlier messages.
    Flush(oneshot::Sender<()>),
}

impl KeeperLink {
    /// Starts to pass messages, in an actix or tokio runtime.
    ///
    /// # Errors
    /// The OS error of making the socket asynchronous.
    pub fn start(socket: KeeperSocket, memory: WorkerState) -> io::Result<(KeeperLink, Streams)> {
        let KeeperSocket { socket, decoder, mut holder } = socket;
        *holder.memory() = memory;
        socket.set_nonblocking(true)?;
        let (reader, writer) = tokio::net::UnixStream::from_std(socket)?.into_split();
        let (commands, to_send) = mpsc::unbounded_channel();
        let (event_sender, events) = mpsc::unbounded_channel();
        let (order_sender, orders) = mpsc::unbounded_channel();
        let (gone_sender, gone) = oneshot::channel();
        let busy = Arc::new(Notify::new());
        actix_rt::spawn(trim_when_idle(Arc::clone(&busy)));
        busy.notify_one();
        let answers = Answers { forgotten: Waiters::new(), accepted: Waiters::new() };
        actix_rt::spawn(send(writer, to_send));
        let waiting = answers.clone();
        let up = Arc::new(AtomicBool::new(true));
        let until_now = Arc::clone(&up);
        let holder = Arc::new(Mutex::new(holder));
        let receiver = Receiver {
            events: event_sender,
            orders: order_sender,
            answers: waiting.clone(),
            holder: Arc::clone(&holder),
        };
        actix_rt::spawn(async move {
            if let Err(error) = receiver.receive(reader, decoder, &busy).await {
                tracing::error!(%error, "lost the keeper");
            }
            // It returns only if this process does not become the keeper.
            let reason = lock(&receiver.holder).succeed();
            tracing::info!(%reason, "not becoming the keeper");
            until_now.store(false, Ordering::Relaxed);
            waiting.forgotten.close();
            waiting.accepted.close();
            // The receiver may have gone.
            let _ = gone_sender.send(());
        });
        let next_ticket = AtomicU64::new(0);
        let link = KeeperLink { commands, holder, answers, next_ticket, up };
        Ok((link, Streams { events, orders, gone }))
    }

    /// Changes the state that is left to the next worker.
    pub fn remember(&self, change: impl FnOnce(&mut WorkerState)) {
        let mut holder = lock(&self.holder);
        let memory = holder.memory();
        let before = memory.clone();
        change(memory);
        if *memory != before {
            self.enqueue(ToKeeper::Remember(memory.clone()));
        }
    }

    /// A flag that shows whether the keeper is connected.
    pub fn is_up(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.up)
    }

    /// Reports that the services of this worker listen.
    pub fn ready(&self) {
        self.enqueue(ToKeeper::Ready);
    }

    /// Asks the keeper to hold a listener.
    ///
    /// # Errors
    /// The OS error of duplicating the descriptor.
    pub fn hold(&self, address: Address, file: Option<FileId>, fd: &impl AsFd) -> io::Result<()> {
        let descriptor = Some(fd.as_fd().try_clone_to_owned()?);
        let own = fd.as_fd().try_clone_to_owned()?;
        lock(&self.holder).hold_listener(Listener { address: address.clone(), file, fd: own });
        self.enqueue(ToKeeper::Hold { address, file, descriptor });
        Ok(())
    }

    /// Reports the listeners of this worker, and the missing ones.
    pub fn listening(&self, on: Vec<Address>, missing: Vec<MissingListener>) {
        lock(&self.holder).agree(&on, missing.clone());
        self.enqueue(ToKeeper::Listening { on, missing });
    }

    /// Reports why this worker cannot start; waits until the system has taken the message.
    pub async fn failed(&self, message: String) {
        self.enqueue(ToKeeper::Failed { message });
        self.flush().await;
    }

    /// Reports that all is done, and the exit of the program; waits until the system has taken the
    /// message.
    pub async fn bye(&self, exit: ProgramExit) {
        let (code, signal) = match exit {
            ProgramExit::Code(code) => (code, None),
            ProgramExit::Signal(signum) => {
                (u8::try_from(128 + signum).unwrap_or(u8::MAX), Some(signum))
            }
        };
        lock(&self.holder).finish();
        self.enqueue(ToKeeper::Bye { code, signal });
        self.flush().await;
    }

    /// Waits until the system has taken all messages: the keeper receives them even if this worker
    /// dies.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        // An error, here or below, means that the sending task has ended: the keeper is gone.
        let _ = self.commands.send(Outgoing::Flush(done));
        let _ = flushed.await;
    }

    /// Queues a message. If the keeper is gone, the worker is about to end, and the message is
    /// dropped.
    fn enqueue(&self, message: ToKeeper) {
        let _ = self.commands.send(Outgoing::Command(Box::new(message)));
    }
}

impl Welcome {
    /// Takes the socket out, for [`KeeperLink::start`].
    pub fn into_parts(self) -> (KeeperSocket, WorkerState, Vec<ProcessEntry>) {
        (self.socket, self.memory, self.records)
    }
}

/// Sends commands in their order, several at once if they wait.
async fn send(
    mut writer: tokio::net::unix::OwnedWriteHalf,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
) {
    let mut frames = Vec::new();
    let mut flushed = Vec::new();
    while let Some(first) = outgoing.recv().await {
        let mut next = Some(first);
        let mut beside = None;
        while let Some(item) = next.take() {
            match item {
                Outgoing::Flush(done) => flushed.push(done),
                Outgoing::Command(mut command) => {
                    if let Err(error) = encode(&*command, &mut frames) {
                        tracing::error!(%error, "cannot encode a message to the keeper");
                    } else if let ToKeeper::Hold { descriptor, .. } = &mut *command {
                        beside = descriptor.take();
                    }
                }
            }
            // One descriptor at a time.
            if frames.len() < READ && beside.is_none() {
                next = outgoing.try_recv().ok();
            }
        }
        if write(&mut writer, &frames, beside).await.is_err() {
            return;
        }
        frames.clear();
        for done in flushed.drain(..) {
            // The waiting task may have gone.
            let _ = done.send(());
        }
    }
}

/// Writes frames, and a descriptor with them.
async fn write(
    writer: &mut tokio::net::unix::OwnedWriteHalf,
    frames: &[u8],
    beside: Option<OwnedFd>,
) -> io::Result<()> {
    let Some(fd) = beside else { return writer.write_all(frames).await };
    let socket = writer.as_ref();
    let sent = loop {
        socket.writable().await?;
        let send = || descriptors::send_with(socket.as_fd(), frames, fd.as_fd());
        match socket.try_io(Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => break sent?,
        }
    };
    writer.write_all(frames.get(sent..).unwrap_or_default()).await
}

/// The destinations of the keeper's messages.
struct Receiver {
    events: mpsc::UnboundedSender<Event>,
    orders: mpsc::UnboundedSender<Shutdown>,
    answers: Answers,
    holder: SharedHolder,
}

impl Receiver {
    /// Passes the keeper's messages on, until the end of the socket, which is an error.
    async fn receive(
        &self,
        reader: tokio::net::unix::OwnedReadHalf,
        mut decoder: Decoder,
        busy: &Notify,
    ) -> io::Result<()> {
        let socket = reader.as_ref();
        let mut buf = vec![0; READ];
        loop {
            while let Some(message) = decoder.next_message().map_err(io::Error::other)? {
                self.pass_on(message);
            }
            socket.readable().await?;
            let read = || {
                let mut holder = lock(&self.holder);
                descriptors::receive_with(socket.as_fd(), &mut buf, holder.received())
            };
            let Receipt { bytes, incomplete } = match socket.try_io(Interest::READABLE, read) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                received => received?,
            };
            if incomplete {
                lock(&self.holder).lose();
            }
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            decoder.push(buf.get(..bytes).unwrap_or_default());
            busy.notify_one();
        }
    }

    fn pass_on(&self, message: ToWorker) {
        let Some(message) = lock(&self.holder).take(message) else { return };
        let event = match message {
            ToWorker::Started(started) => Event::Started(started),
            ToWorker::Ended(ended) => Event::Ended(ended),
            ToWorker::Signaled { id, ticket, errno } => {
                let result = errno.map_or(Ok(()), |e| Err(io::Error::from_raw_os_error(e)));
                Event::Signaled { id, ticket, result }
            }
            ToWorker::StopFailed { id, failures } => Event::StopFailed { id, failures },
            ToWorker::Order(order) => {
                // The receiver lives as long as the worker.
                lock(&self.holder).note_order(order);
                let _ = self.orders.send(order.into());
                return;
            }
            ToWorker::Forgotten(id) => return self.answers.forgotten.answer(&id, ()),
            ToWorker::Accepted { ticket, acceptance } => {
                return self.answers.accepted.answer(&ticket, acceptance);
            }
            ToWorker::Welcome { .. } | ToWorker::Refused { .. } => return,
            // The holder has taken these.
            ToWorker::Estate(_) | ToWorker::Held(_) | ToWorker::Released(_) => return,
        };
        // The receiver lives as long as the worker.
        let _ = self.events.send(event);
    }
}

/// Returns memory to the system when the worker is idle after some work.
async fn trim_when_idle(busy: Arc<Notify>) {
    loop {
        busy.notified().await;
        while tokio::time::timeout(trim::IDLE, busy.notified()).await.is_ok() {
            // Checks once in a while, not at each event.
            tokio::time::sleep(trim::IDLE).await;
        }
        trim::trim_memory();
    }
}

impl CommandLink for KeeperLink {
    fn command(&self, id: ProcId, command: ProcessCommand, ticket: u64) {
        self.enqueue(ToKeeper::process(id, command, ticket));
    }
}

impl EngineLink for KeeperLink {
    fn launch(&self, request: Validated) {
        self.enqueue(ToKeeper::Launch(request));
    }

    fn launch_acknowledged(&self, request: Validated) -> oneshot::Receiver<Acceptance> {
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let accepted = self.answers.accepted.wait(ticket);
        self.enqueue(ToKeeper::LaunchAcknowledged { request, ticket });
        accepted
    }

    fn forget(&self, id: ProcId) -> oneshot::Receiver<()> {
        let forgotten = self.answers.forgotten.wait(id.clone());
        self.enqueue(ToKeeper::Forget(id));
        forgotten
    }

    fn note(&self, order: Shutdown) {
        // The keeper has recorded those of an earlier worker already.
        self.remember(|memory| memory.note(order.into()));
    }

    fn note_assignment(&self) {
        self.remember(|memory| memory.any = true);
    }
}

impl From<ShutdownCommand> for Shutdown {
    fn from(order: ShutdownCommand) -> Self {
        match order {
            ShutdownCommand::Terminate => Shutdown::Terminate,
            ShutdownCommand::Kill => Shutdown::Kill,
            ShutdownCommand::Idle => Shutdown::Idle,
            ShutdownCommand::GiveUp => Shutdown::GiveUp,
            ShutdownCommand::Interrupt => Shutdown::Interrupt,
        }
    }
}

impl From<Shutdown> for ShutdownCommand {
    fn from(order: Shutdown) -> Self {
        match order {
            Shutdown::Terminate | Shutdown::Interrupt => ShutdownCommand::Terminate,
            Shutdown::Kill => ShutdownCommand::Kill,
            Shutdown::Idle => ShutdownCommand::Idle,
            Shutdown::GiveUp => ShutdownCommand::GiveUp,
        }
    }
}
