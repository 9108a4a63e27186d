//! A fake engine whose events the test chooses, and actors that record the messages they receive.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, MessageResult};
use procstar::actors::lifecycle::{EndWhen, Graces};
use procstar::actors::messages::{
    Announce, Change, ChangeKind, Changed, Dated, Query, Removed, Reply, Shutdown, ShutdownChanged,
    Start, Subscribe, Subscribed,
};
use procstar::actors::results::Results;
use procstar::actors::subscription::{Delivery, Next};
use procstar::actors::supervisor::{Supervisor, SupervisorOutputs};
use procstar::actors::{CommandLink, EngineLink};
use procstar::clock::TimePoint;
use procstar::engine::{
    Captures, Ended, Event, ProcessCommand, Resolved, Stage, StartFailure, Started, StopFailure,
    StopOrder, StopPolicy,
};
use procstar::keeper::format::Acceptance;
use procstar::spec::{ProcId, Validated};
use tokio::sync::{mpsc, oneshot};

/// Waits until all actors are idle.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Waits with a timeout, so that a test fails instead of hanging. Virtual time makes it free.
pub async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(secs(1000), what).await.expect("it happens")
}

pub fn started(id: &str) -> Event {
    Event::Started(Box::new(Started {
        id: id.into(),
        pid: 42,
        start: TimePoint::now(),
        stat: None,
        statm: None,
        captures: Captures::none(),
        policy: StopPolicy::default(),
        resolved: Resolved::default(),
        group: None,
    }))
}

/// The end of a process by a raw wait status.
pub fn ended(id: &str, status: i32) -> Event {
    Event::Ended(Box::new(Ended { status, ..end(id) }))
}

/// The end of a process that could not be started.
pub fn failed(id: &str) -> Event {
    let failure =
        StartFailure::new(Stage::Exec { missing: true }, libc::ENOENT, Some("/no/such".into()));
    Event::Ended(Box::new(Ended { failures: vec![failure], ..end(id) }))
}

/// A failure to kill a process of the tree.
pub fn stop_failed(id: &str, pid: i32) -> Event {
    let failure = StopFailure { pid, comm: "su".into(), signum: libc::SIGKILL, errno: libc::EPERM };
    Event::StopFailed { id: id.into(), failures: vec![failure] }
}

pub fn end(id: &str) -> Ended {
    Ended { pid: Some(42), lost: false, ..Ended::unknown(id.into()) }
}

/// A request to start processes of these IDs.
pub fn request(ids: &[&str]) -> Start {
    let specs: serde_json::Map<_, _> = ids
        .iter()
        .map(|id| ((*id).to_owned(), serde_json::json!({"argv": ["/usr/bin/true"]})))
        .collect();
    let text = serde_json::json!({ "specs": specs }).to_string();
    Start(procstar::spec::from_json(text.as_bytes()).unwrap())
}

/// A command that the engine received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Launch(Vec<String>),
    Signal(String, i32),
    Stop(String, StopOrder),
    Forget(String),
}

/// A note that the engine received for later workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    Order(Shutdown),
    Assignment,
}

/// The outcome of a signal.
#[derive(Clone, Copy, Debug)]
pub enum OnSignal {
    /// Reports success, or this errno.
    Tell(Option<i32>),
    /// Reports no outcome.
    Hold,
    /// Panics in the actor that sends the signal.
    Panic,
}

/// An engine that starts nothing.
pub struct FakeEngine {
    calls: Mutex<Vec<Call>>,
    /// The notes for later workers.
    pub notes: Mutex<Vec<Note>>,
    on_signal: Mutex<OnSignal>,
    /// The deletions to be confirmed by the test. `None`: the engine confirms each at once.
    pub held: Mutex<Option<Vec<oneshot::Sender<()>>>>,
    /// Reports the start of every process within the launch call, before another actor can run.
    auto_starts: bool,
    events: Mutex<Option<mpsc::UnboundedSender<Event>>>,
}

impl FakeEngine {
    pub fn tell(&self, event: Event) {
        if let Some(events) = &*self.events.lock().unwrap() {
            let _ = events.send(event);
        }
    }

    /// Ends the engine's thread, which should never happen.
    pub fn die(&self) {
        self.events.lock().unwrap().take();
    }

    pub fn tell_all(&self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.tell(event));
    }

    pub fn on_signal(&self, what: OnSignal) {
        *self.on_signal.lock().unwrap() = what;
    }

    /// The commands received since the last call.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn call(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

impl CommandLink for FakeEngine {
    fn command(&self, id: ProcId, command: ProcessCommand, ticket: u64) {
        self.call(match command {
            ProcessCommand::Signal(signum) => Call::Signal(id.to_string(), signum),
            ProcessCommand::Stop(order) => Call::Stop(id.to_string(), order),
        });
        self.answer(id, ticket);
    }
}

impl EngineLink for FakeEngine {
    fn note(&self, order: Shutdown) {
        self.notes.lock().unwrap().push(Note::Order(order));
    }

    fn note_assignment(&self) {
        self.notes.lock().unwrap().push(Note::Assignment);
    }

    fn launch(&self, request: Validated) {
        self.call(Call::Launch(request.procs.keys().map(ToString::to_string).collect()));
        if self.auto_starts {
            self.tell_all(request.procs.keys().map(|id| started(id.as_str())));
        }
    }

    fn launch_acknowledged(&self, request: Validated) -> oneshot::Receiver<Acceptance> {
        self.launch(request);
        let (tell, told) = oneshot::channel();
        tell.send(Acceptance::Journaled).unwrap();
        told
    }

    fn forget(&self, id: ProcId) -> oneshot::Receiver<()> {
        self.call(Call::Forget(id.to_string()));
        let (tell, told) = oneshot::channel();
        match &mut *self.held.lock().unwrap() {
            Some(held) => held.push(tell),
            None => tell.send(()).unwrap(),
        }
        told
    }
}

impl FakeEngine {
    fn answer(&self, id: ProcId, ticket: u64) {
        let on_signal = *self.on_signal.lock().unwrap();
        match on_signal {
            OnSignal::Tell(errno) => {
                let result = errno.map_or(Ok(()), |e| Err(std::io::Error::from_raw_os_error(e)));
                self.tell(Event::Signaled { id, ticket, result });
            }
            OnSignal::Hold => {}
            OnSignal::Panic => panic!("a bug, as a test of what follows from one"),
        }
    }
}

/// The stop order of a shutdown. `None` sends the signal of the spec.
pub fn shutdown(signum: Option<i32>) -> StopOrder {
    StopOrder { signum, grace: None, shutdown: true }
}

pub const GRACES: Graces = Graces { term: Duration::from_secs(60), kill: Duration::from_secs(5) };

/// A supervisor with a fake engine.
pub struct Supervised {
    pub supervisor: Addr<Supervisor>,
    pub engine: Arc<FakeEngine>,
    pub done: oneshot::Receiver<()>,
}

pub fn supervise<A>(outputs: &Addr<A>, end_when: EndWhen, auto_starts: bool) -> Supervised
where
    A: Actor<Context = Context<A>>
        + Handler<Announce>
        + Handler<Changed>
        + Handler<Removed>
        + Handler<ShutdownChanged>
        + Handler<Query>,
{
    let (events, told) = mpsc::unbounded_channel();
    let engine = Arc::new(FakeEngine {
        calls: Mutex::default(),
        notes: Mutex::default(),
        on_signal: Mutex::new(OnSignal::Tell(None)),
        held: Mutex::default(),
        auto_starts,
        events: Mutex::new(Some(events)),
    });
    let (tell_done, done) = oneshot::channel();
    let outputs = SupervisorOutputs {
        announce: outputs.clone().recipient(),
        changed: outputs.clone().recipient(),
        removed: outputs.clone().recipient(),
        shutdown: outputs.clone().recipient(),
        query: outputs.clone().recipient(),
    };
    let launcher: Arc<dyn EngineLink> = engine.clone();
    let supervisor = Supervisor::create(|ctx| {
        let events = futures_util::stream::unfold(told, |mut told| async {
            told.recv().await.map(|event| (event, told))
        });
        ctx.add_stream(events);
        Supervisor::new(launcher, outputs, end_when, GRACES, tell_done)
    });
    Supervised { supervisor, engine, done }
}

/// Records the supervisor's messages to the results, in the order of arrival.
#[derive(Clone, Default)]
pub struct Journal(Rc<RefCell<Vec<String>>>);

impl Journal {
    /// The messages since the last call.
    pub fn read(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut())
    }

    fn note(&self, what: String) {
        self.0.borrow_mut().push(what);
    }
}

impl Actor for Journal {
    type Context = Context<Self>;
}

impl Handler<Announce> for Journal {
    type Result = ();
    fn handle(&mut self, Announce(id): Announce, _: &mut Self::Context) {
        self.note(format!("announced {id}"));
    }
}

impl Handler<Changed> for Journal {
    type Result = ();
    fn handle(&mut self, Changed(record): Changed, _: &mut Self::Context) {
        let what = if record.is_running() { "started" } else { "ended" };
        self.note(format!("{what} {}", record.id));
    }
}

impl Handler<Removed> for Journal {
    type Result = ();
    fn handle(&mut self, Removed(id): Removed, _: &mut Self::Context) {
        self.note(format!("removed {id}"));
    }
}

impl Handler<ShutdownChanged> for Journal {
    type Result = ();
    fn handle(&mut self, ShutdownChanged(state): ShutdownChanged, _: &mut Self::Context) {
        self.note(format!("shutdown {}", state.as_str()));
    }
}

impl Handler<Query> for Journal {
    type Result = MessageResult<Query>;
    fn handle(&mut self, _: Query, _: &mut Self::Context) -> Self::Result {
        MessageResult(Dated { seq: 0, value: Reply::Record(None) })
    }
}

/// Subscribes to all changes, and records them in a journal.
pub fn subscriber(results: &Addr<Results>) -> (Journal, actix_rt::task::JoinHandle<()>) {
    let journal = Journal::default();
    let subscribed = results.send(Subscribe { after: None, delivery: Delivery::Each });
    let lines = journal.clone();
    let reader = actix_rt::spawn(async move {
        let Ok(Subscribed::From(snapshot, mut changes)) = subscribed.await else { panic!() };
        let ids: Vec<&str> = snapshot.ids.iter().map(ProcId::as_str).collect();
        lines.note(format!("snapshot [{}] {}", ids.join(" "), snapshot.shutdown.as_str()));
        loop {
            match changes.take() {
                Next::Change(change) => told(&change).into_iter().for_each(|line| lines.note(line)),
                Next::Empty => changes.ready().await,
                Next::Lagged | Next::Closed => return,
            }
        }
    });
    (journal, reader)
}

/// A change in the lines that the scheduler receives.
pub fn told(change: &Change) -> Vec<String> {
    match &change.what {
        ChangeKind::Started(record) => vec![format!("started {}", record.id)],
        ChangeKind::Failed(record) => {
            vec![format!("started {}", record.id), format!("ended {}", record.id)]
        }
        ChangeKind::Ended(record) => vec![format!("ended {}", record.id)],
        ChangeKind::Updated(_) => Vec::new(),
        ChangeKind::Deleted(id) => vec![format!("removed {id}")],
        ChangeKind::Shutdown(state) => vec![format!("shutdown {}", state.as_str())],
    }
}
