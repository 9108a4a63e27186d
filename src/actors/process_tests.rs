use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use actix::{Addr, MessageResult};
use futures_util::StreamExt;
use proptest::prelude::*;

use super::questions::QueryClient;
use super::*;
use crate::actors::messages::{
    AwaitEnd, AwaitStart, FollowOutput, GetUsage, ProcessQuestion, ReadOutput,
};
use crate::actors::sampler::WatchProcess;
use crate::clock::TimePoint;
use crate::engine::{Captures, Ended, Resolved, Started, StopPolicy};
use crate::output::follow::FollowOptions;
use crate::output::{OutputError, OutputReader};
use crate::procfs::{Clock, ProcFs};
use crate::report::ResultContext;
use crate::spec::FdName;

/// The mailbox of the results, and that of the sampler.
#[derive(Clone, Default)]
struct Mailbox {
    /// Whether each record was of a running process.
    changed: Rc<RefCell<Vec<bool>>>,
    watched: Rc<RefCell<usize>>,
    /// The record that the results return.
    record: Rc<RefCell<Option<Arc<ProcessRecord>>>>,
}

impl Actor for Mailbox {
    type Context = Context<Self>;
}

impl Handler<Changed> for Mailbox {
    type Result = ();
    fn handle(&mut self, Changed(record): Changed, _: &mut Self::Context) {
        self.changed.borrow_mut().push(record.is_running());
    }
}

impl Handler<Query> for Mailbox {
    type Result = MessageResult<Query>;
    fn handle(&mut self, _: Query, _: &mut Self::Context) -> Self::Result {
        let value = Reply::Record(self.record.borrow().clone());
        MessageResult(Dated { seq: 1, value })
    }
}

impl Handler<WatchProcess> for Mailbox {
    type Result = ();
    fn handle(&mut self, _: WatchProcess, _: &mut Self::Context) {
        *self.watched.borrow_mut() += 1;
    }
}

/// Records commands.
#[derive(Default)]
struct Engine(Mutex<Vec<(ProcessCommand, u64)>>);

impl CommandLink for Engine {
    fn command(&self, _: ProcId, command: ProcessCommand, ticket: u64) {
        self.0.lock().unwrap().push((command, ticket));
    }
}

/// An actor between mock mailboxes.
struct Fixture {
    process: Addr<ProcessActor>,
    mailbox: Mailbox,
    peers: Addr<Mailbox>,
    engine: Arc<Engine>,
}

impl Fixture {
    fn new() -> Fixture {
        let (mailbox, engine) = (Mailbox::default(), Arc::new(Engine::default()));
        let peers = mailbox.clone().start();
        let sampling = SamplingHandle { sampler: peers.clone().recipient(), count: 4 };
        let process = Fixture::actor(&peers, &engine, Some(sampling)).start();
        Fixture { process, mailbox, peers, engine }
    }

    fn actor(
        peers: &Addr<Mailbox>,
        engine: &Arc<Engine>,
        sampling: Option<SamplingHandle>,
    ) -> ProcessActor {
        let shared = ProcessContext {
            engine: Arc::clone(engine) as Arc<dyn CommandLink>,
            results: peers.clone().recipient(),
            sampling,
            watcher: Arc::default(),
        };
        ProcessActor::new("a".into(), None, Arc::new(shared))
    }

    /// Sends a query as the supervisor does.
    fn query<Q: ProcessQuestion>(&self) -> oneshot::Receiver<Option<Q::Answer>>
    where
        ProcessActor: Handler<QueryClient<Q>>,
    {
        let (answer, answered) = oneshot::channel();
        self.process.do_send(QueryClient::<Q>(answer));
        answered
    }

    fn event(&self, event: Event) {
        self.process.do_send(EngineEvent(event));
    }
}

fn started() -> Event {
    let own = ProcFs::default().read_stat(std::process::id() as i32).unwrap();
    Event::Started(Box::new(Started {
        id: "a".into(),
        pid: std::process::id() as i32,
        start: TimePoint::now(),
        stat: Some(own),
        statm: None,
        captures: Captures::none(),
        policy: StopPolicy::default(),
        resolved: Resolved::default(),
        group: None,
    }))
}

fn ended() -> Event {
    Event::Ended(Box::new(Ended::unknown("a".into())))
}

/// Fails the test instead of hanging it.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what).await.expect("an answer")
}

/// Lets the actors handle every message that is queued.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn await_start_is_answered_once_the_record_is_published() {
    let fixture = Fixture::new();
    let mut before = fixture.query::<AwaitStart>();
    settle().await;
    assert!(before.try_recv().is_err(), "the process has not started");
    fixture.event(started());
    assert!(soon(before).await.unwrap().unwrap().is_running());
    assert_eq!(*fixture.mailbox.changed.borrow(), [true]);
    assert!(soon(fixture.query::<AwaitStart>()).await.unwrap().unwrap().is_running());
    fixture.event(ended());
    let record = soon(fixture.query::<AwaitStart>()).await.unwrap().unwrap();
    assert!(!record.is_running(), "the latest record");
}

#[actix::test]
async fn a_failed_start_answers_await_start_and_await_end() {
    let fixture = Fixture::new();
    let (start, end) = (fixture.query::<AwaitStart>(), fixture.query::<AwaitEnd>());
    fixture.event(ended());
    for answer in [start, end] {
        assert!(!soon(answer).await.unwrap().unwrap().is_running());
    }
}

#[actix::test]
async fn await_end_is_answered_with_the_last_record() {
    let fixture = Fixture::new();
    let early = fixture.query::<AwaitEnd>();
    fixture.event(started());
    let mut late = fixture.query::<AwaitEnd>();
    settle().await;
    assert!(late.try_recv().is_err(), "the process runs");
    fixture.event(ended());
    for answer in [early, late, fixture.query::<AwaitEnd>()] {
        assert!(!soon(answer).await.unwrap().unwrap().is_running());
    }
    assert_eq!(*fixture.mailbox.changed.borrow(), [true, false]);
}

#[actix::test]
async fn a_deletion_ends_waiting_queries() {
    let fixture = Fixture::new();
    let (start, end) = (fixture.query::<AwaitStart>(), fixture.query::<AwaitEnd>());
    let (reader, follower) = (fixture.query::<ReadOutput>(), fixture.query::<FollowOutput>());
    fixture.process.do_send(Deleted);
    drop(fixture.process);
    assert!(soon(start).await.unwrap().is_none());
    assert!(soon(end).await.unwrap().is_none());
    assert!(soon(reader).await.unwrap().is_none());
    assert!(soon(follower).await.unwrap().is_none());
}

#[actix::test]
async fn withdrawn_questions_are_dropped_at_the_next_one() {
    let fixture = Fixture::new();
    for _ in 0..100 {
        drop((fixture.query::<AwaitStart>(), fixture.query::<AwaitEnd>()));
        settle().await;
    }
    /// Counts what waits.
    #[derive(Message)]
    #[rtype(result = "(usize, usize)")]
    struct Count;
    impl Handler<Count> for ProcessActor {
        type Result = MessageResult<Count>;
        fn handle(&mut self, _: Count, _: &mut Self::Context) -> Self::Result {
            MessageResult((self.starting.len(), self.ending.len()))
        }
    }
    assert_eq!(fixture.process.send(Count).await.unwrap(), (1, 1));
}

#[actix::test]
async fn usage_has_the_sampling_history_and_its_peaks() {
    let fixture = Fixture::new();
    assert!(soon(fixture.query::<GetUsage>()).await.unwrap().is_none(), "it does not wait");
    fixture.event(started());
    let usage = soon(fixture.query::<GetUsage>()).await.unwrap().unwrap();
    assert_eq!(*fixture.mailbox.watched.borrow(), 1, "the sampler watches the process");
    let history = usage.history.unwrap();
    assert!(history.peaks().is_none(), "no sample yet");
    // Adds a sample as the sampler does.
    let now = ProcFs::default().read_stat(std::process::id() as i32).unwrap();
    history.add(TimePoint::now(), &now);
    let usage = soon(fixture.query::<GetUsage>()).await.unwrap().unwrap();
    let history = usage.history.unwrap();
    assert_eq!(history.peaks().unwrap().rss, now.rss);
    assert_eq!(history.samples(&Clock::of(TimePoint::now())).len(), 1);
    let context = ResultContext::default();
    assert!(usage.record.stats(&context).is_some());
    fixture.event(ended());
    let usage = soon(fixture.query::<GetUsage>()).await.unwrap().unwrap();
    assert!(usage.history.unwrap().has_ended(), "the sampler watches it no longer");
}

#[actix::test]
async fn without_a_sampler_there_is_no_history() {
    let Fixture { mailbox, peers, engine, .. } = Fixture::new();
    let process = Fixture::actor(&peers, &engine, None).start();
    let fixture = Fixture { process, mailbox, peers, engine };
    fixture.event(started());
    let usage = soon(fixture.query::<GetUsage>()).await.unwrap().unwrap();
    assert!(usage.history.is_none() && *fixture.mailbox.watched.borrow() == 0);
}

#[actix::test]
async fn a_reader_has_the_captures_of_the_latest_record() {
    let fixture = Fixture::new();
    let early = fixture.query::<ReadOutput>();
    fixture.event(started());
    let context = ResultContext::default();
    let check = |reader: OutputReader, running| {
        assert_eq!(reader.record().is_running(), running);
        let error = reader.range(FdName::STDOUT, &context).err();
        assert_eq!(error, Some(OutputError::NotCaptured));
    };
    check(soon(early).await.unwrap().unwrap(), true);
    check(soon(fixture.query::<ReadOutput>()).await.unwrap().unwrap(), true);
    fixture.event(ended());
    check(soon(fixture.query::<ReadOutput>()).await.unwrap().unwrap(), false);
}

#[actix::test]
async fn a_follower_ends_with_the_process() {
    let fixture = Fixture::new();
    let early = fixture.query::<FollowOutput>();
    fixture.event(started());
    let early = soon(early).await.unwrap().unwrap();
    let late = soon(fixture.query::<FollowOutput>()).await.unwrap().unwrap();
    assert!(early.reader().record().is_running());
    let options = FollowOptions { fd: FdName::STDOUT, from: 0, chars: false };
    let followed = early.follow(options, Box::pin(std::future::pending()));
    let (mut followed, mut merged) = (pin!(followed.stream()), pin!(late.merge()));
    tokio::select! {
        biased;
        _ = followed.next() => panic!("the process runs"),
        () = settle() => {}
    }
    fixture.event(ended());
    assert!(soon(followed.next()).await.is_none());
    assert!(soon(merged.next()).await.is_none());
}

#[actix::test]
async fn a_follower_whose_actor_is_lost_reports_an_error() {
    /// Ends the actor as a bug would.
    #[derive(Message)]
    #[rtype(result = "()")]
    struct Panic;
    impl Handler<Panic> for ProcessActor {
        type Result = ();
        fn handle(&mut self, _: Panic, _: &mut Self::Context) {
            panic!("a bug, as a test of its consequences");
        }
    }
    let fixture = Fixture::new();
    fixture.event(started());
    let follower = soon(fixture.query::<FollowOutput>()).await.unwrap().unwrap();
    let end = fixture.query::<AwaitEnd>();
    fixture.process.do_send(Panic);
    assert!(soon(end).await.is_err(), "the supervisor gets the query again");
    let mut merged = pin!(follower.merge());
    let error = soon(merged.next()).await.unwrap().unwrap_err();
    assert!(error.to_string().starts_with("cannot follow the output"), "{error}");
}

#[actix::test]
async fn commands_go_to_the_engine_until_the_end() {
    let fixture = Fixture::new();
    fixture.event(started());
    let command = ProcessCommand::Signal(15);
    let sent = fixture.process.send(Perform(command));
    let other = fixture.process.send(Perform(command));
    settle().await;
    let tickets: Vec<u64> =
        fixture.engine.0.lock().unwrap().drain(..).map(|(_, ticket)| ticket).collect();
    assert_ne!(tickets[0], tickets[1]);
    let refused = Err(std::io::Error::from_raw_os_error(libc::EPERM));
    fixture.event(Event::Signaled { id: "a".into(), ticket: tickets[1], result: refused });
    fixture.event(Event::Signaled { id: "a".into(), ticket: tickets[0], result: Ok(()) });
    assert!(soon(sent).await.unwrap().is_ok());
    assert!(matches!(soon(other).await.unwrap(), Err(CommandError::Os(_))));
    fixture.event(ended());
    let late = soon(fixture.process.send(Perform(command))).await.unwrap();
    assert!(matches!(late, Err(CommandError::Gone)));
    assert!(fixture.engine.0.lock().unwrap().is_empty());
}

#[actix::test]
async fn a_replacement_knows_the_last_record() {
    let Fixture { process, mailbox, peers, engine } = Fixture::new();
    process.do_send(EngineEvent(started()));
    let (answer, record) = oneshot::channel();
    process.do_send(QueryClient::<AwaitStart>(answer));
    *mailbox.record.borrow_mut() = soon(record).await.unwrap();
    let process = Fixture::actor(&peers, &engine, None).start_restored(&peers.clone().recipient());
    let fixture = Fixture { process, mailbox, peers, engine };
    let usage = soon(fixture.query::<GetUsage>()).await.unwrap().unwrap();
    assert!(usage.history.is_some() && usage.record.is_running());
    fixture.event(ended());
    assert!(!soon(fixture.query::<AwaitEnd>()).await.unwrap().unwrap().is_running());
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Start,
    End,
    QueryStart,
    QueryEnd,
    QueryReader,
    QueryFollower,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_question_is_answered(
        acts in prop::collection::vec(prop_oneof![
            Just(Act::Start), Just(Act::End), Just(Act::QueryStart), Just(Act::QueryEnd),
            Just(Act::QueryReader), Just(Act::QueryFollower),
        ], 1..30),
    ) {
        actix::System::new().block_on(async {
            let fixture = Fixture::new();
            let (mut state, mut answers) = (0, Vec::new());
            let some = |answer: oneshot::Receiver<Option<Arc<ProcessRecord>>>| {
                actix_rt::spawn(async { answer.await.map(|answer| answer.is_some()) })
            };
            for act in acts {
                match (act, state) {
                    (Act::Start, 0) => { fixture.event(started()); state = 1; }
                    (Act::End, 0 | 1) => { fixture.event(ended()); state = 2; }
                    (Act::QueryStart, _) => answers.push(some(fixture.query::<AwaitStart>())),
                    (Act::QueryEnd, _) => answers.push(some(fixture.query::<AwaitEnd>())),
                    (Act::QueryReader, _) => drop(fixture.query::<ReadOutput>()),
                    (Act::QueryFollower, _) => drop(fixture.query::<FollowOutput>()),
                    _ => {}
                }
            }
            let over = state == 2;
            settle().await;
            fixture.process.do_send(Deleted);
            drop(fixture);
            for answer in answers {
                let known = soon(answer).await.unwrap();
                prop_assert!(known.is_ok() && (known.unwrap() || !over));
            }
            Ok(())
        })?;
    }
}

/// Ten thousand processes have as many actors.
#[test]
fn an_actor_is_small() {
    assert!(size_of::<ProcessActor>() <= 192, "{}", size_of::<ProcessActor>());
}
