//! The worker's end of the keeper's socket, with the test as the keeper. The tests use real time
//! because virtual time does not wait for a socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, AsyncContext};
use procstar::actors::keeper_link::{
    KeeperLink, KeeperSocket, LinkError, Streams, Welcome, introduce,
};
use procstar::actors::lifecycle::EndWhen;
use procstar::actors::messages::{
    CommandError, CommandProcess, Delete, DeleteError, GetAll, ResumeShutdown, Shutdown,
};
use procstar::actors::results::Results;
use procstar::actors::supervisor::{Ready, Supervisor, SupervisorOutputs};
use procstar::actors::{CommandLink, EngineLink};
use procstar::clock::TimePoint;
use procstar::config::LogSettings;
use procstar::engine::{Ended, Event, ProcessCommand, Started};
use procstar::keeper::ProgramExit;
use procstar::keeper::format::ProcessEntry;
use procstar::keeper::format::{
    Acceptance, Decoder, KeeperSettings, Opening, ShutdownCommand, ToKeeper, ToWorker, VERSION,
    WorkerState, encode,
};
use tokio::sync::oneshot;

use super::harness::{Journal, end, request, started, subscriber};
use crate::support::wait::{DEADLINE, eventually_async, soon};

fn settings() -> KeeperSettings {
    KeeperSettings {
        state_dir: None,
        base_dir: "/tmp".into(),
        conn_id: Some("c".into()),
        drain_timeout: Duration::ZERO,
        setup_timeout: Duration::ZERO,
        allowed: Default::default(),
        limits: Default::default(),
        log: LogSettings::default(),
    }
}

fn frames(messages: impl IntoIterator<Item = ToWorker>) -> Vec<u8> {
    let mut bytes = Vec::new();
    messages.into_iter().for_each(|message| encode(&message, &mut bytes).unwrap());
    bytes
}

fn start_of(id: &str) -> Box<Started> {
    match started(id) {
        Event::Started(started) => started,
        _ => unreachable!(),
    }
}

fn end_of(id: &str, status: i32) -> Ended {
    Ended { status, ..end(id) }
}

fn welcome(first: bool, memory: WorkerState, records: Vec<ProcessEntry>) -> ToWorker {
    let start = TimePoint::now();
    ToWorker::Welcome { pid: 7, ppid: 6, start, first, memory, records, dir: None }
}

/// The keeper's end.
struct Keeper {
    socket: UnixStream,
    decoder: Decoder,
}

impl Keeper {
    fn pair() -> (Keeper, UnixStream) {
        let (socket, worker) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        (Keeper { socket, decoder: Decoder::default() }, worker)
    }

    fn tell(&mut self, messages: impl IntoIterator<Item = ToWorker>) {
        self.socket.write_all(&frames(messages)).unwrap();
    }

    /// Reads the next message. Blocks the runtime, so the message must have been sent already.
    fn heard(&mut self) -> Option<ToKeeper> {
        let mut buf = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            match self.socket.read(&mut buf).unwrap() {
                0 => return None,
                n => self.decoder.push(&buf[..n]),
            }
        }
    }

    /// Waits for the next message, and returns it in one line.
    async fn hear(&mut self) -> String {
        self.socket.set_nonblocking(true).unwrap();
        let mut buf = [0; 4096];
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(message) = self.decoder.next_message::<ToKeeper>().unwrap() {
                self.socket.set_nonblocking(false).unwrap();
                return brief(&message);
            }
            match self.socket.read(&mut buf) {
                Ok(n) => self.decoder.push(&buf[..n]),
                Err(_) => tokio::task::yield_now().await,
            }
            assert!(Instant::now() < deadline, "nothing is said");
        }
    }

    /// Reads all messages up to the end of the stream.
    fn all(mut self) -> Vec<String> {
        std::iter::from_fn(|| self.heard()).map(|message| brief(&message)).collect()
    }
}

fn signal(id: &str, signum: i32) -> CommandProcess {
    CommandProcess { id: id.into(), command: ProcessCommand::Signal(signum) }
}

fn brief(message: &ToKeeper) -> String {
    match message {
        ToKeeper::Hello { version, input, .. } => {
            format!("hello {version} {}", input.as_ref().map_or(0, |input| input.procs.len()))
        }
        ToKeeper::Launch(request) => {
            let ids: Vec<&str> = request.procs.keys().map(|id| id.as_str()).collect();
            format!("launch {}", ids.join(" "))
        }
        ToKeeper::LaunchAcknowledged { request, ticket } => {
            let ids: Vec<&str> = request.procs.keys().map(|id| id.as_str()).collect();
            format!("launch {} acknowledged {ticket}", ids.join(" "))
        }
        ToKeeper::Signal { id, signum, .. } => format!("signal {id} {signum}"),
        ToKeeper::Stop { id, order, .. } => format!("stop {id} {:?}", order.signum),
        ToKeeper::Forget(id) => format!("forget {id}"),
        ToKeeper::Remember(WorkerState { conn_id, orders, any, .. }) => {
            format!("remember {conn_id:?} {orders:?} {any}")
        }
        ToKeeper::Mode(mode) => format!("mode {mode:?}"),
        ToKeeper::Bye { code, signal } => format!("bye {code} {signal:?}"),
        ToKeeper::Ready => "ready".into(),
        ToKeeper::Failed { message } => format!("failed {message}"),
        ToKeeper::ReadUp { fd, bytes } => format!("read up {fd} {}", bytes.len()),
        ToKeeper::Hold { address, descriptor, .. } => {
            format!("hold {address} {}", descriptor.is_some())
        }
        ToKeeper::Listening { on, missing } => format!("listening {} {}", on.len(), missing.len()),
    }
}

/// Introduces a worker to a keeper that answers with these bytes.
fn introduced(answer: Vec<u8>) -> (Result<Welcome, LinkError>, Keeper) {
    let (mut keeper, worker) = Keeper::pair();
    let keeper = std::thread::spawn(move || {
        let hello = brief(&keeper.heard().unwrap());
        assert_eq!(hello, format!("hello {VERSION} 2"));
        // Written in pieces, which the worker joins to one message.
        for piece in answer.chunks(7) {
            // The worker may close the socket before the last piece.
            let _ = keeper.socket.write_all(piece);
        }
        if answer.is_empty() {
            keeper.socket.shutdown(std::net::Shutdown::Both).unwrap();
        }
        keeper
    });
    let answer = introduce(worker, settings(), Opening::default(), Some(request(&["a", "b"]).0));
    (answer, keeper.join().unwrap())
}

#[test]
fn a_welcome() {
    let memory = WorkerState {
        conn_id: Some("x".into()),
        orders: vec![ShutdownCommand::Idle],
        any: true,
        ..WorkerState::default()
    };
    let record = ProcessEntry { started: Some(*start_of("a")), ..ProcessEntry::new("a".into()) };
    let answer = welcome(false, memory.clone(), vec![record]);
    let (welcome, _keeper) = introduced(frames([answer]));
    let welcome = welcome.ok().unwrap();
    assert_eq!((welcome.pid, welcome.ppid, welcome.first), (7, 6, false));
    assert_eq!((welcome.memory, welcome.records.len()), (memory, 1));
}

#[test]
fn no_welcome() {
    let refused = ToWorker::Refused { message: "in use".into() };
    let too_early = ToWorker::Started(start_of("a"));
    for (answer, what) in [
        (frames([refused]), "in use"),
        (frames([too_early]), "lost the keeper: the keeper sent events before its welcome"),
        (b"\0\0\0\x02\xc1\xc1".to_vec(), "lost the keeper: invalid message on the keeper's socket"),
        (Vec::new(), "lost the keeper: unexpected end of file"),
    ] {
        let error = introduced(answer).0.err().unwrap();
        assert!(error.to_string().starts_with(what), "{error}");
        assert_eq!(matches!(error, LinkError::Refused(_)), what == "in use");
    }
}

/// A link whose keeper is the test, with the worker state that the keeper holds.
fn link(memory: WorkerState) -> (KeeperLink, Streams, Keeper) {
    let (keeper, worker) = Keeper::pair();
    let (link, streams) = KeeperLink::start(KeeperSocket::new(worker), memory).unwrap();
    (link, streams, keeper)
}

#[actix::test]
async fn messages_with_the_welcome_are_not_lost() {
    let events = [ToWorker::Started(start_of("a")), ToWorker::Order(ShutdownCommand::Kill)];
    let answer = std::iter::once(welcome(true, WorkerState::default(), Vec::new())).chain(events);
    let (welcome, _keeper) = introduced(frames(answer));
    let (socket, memory, _) = welcome.ok().unwrap().into_parts();
    let (_link, mut streams) = KeeperLink::start(socket, memory).unwrap();
    assert_eq!(soon(streams.events.recv()).await.unwrap().id().as_str(), "a");
    assert_eq!(soon(streams.orders.recv()).await, Some(Shutdown::Kill));
}

#[actix::test]
async fn events_and_orders_come_in_their_order() {
    let (_link, mut streams, mut keeper) = link(WorkerState::default());
    keeper.tell([
        ToWorker::Started(start_of("a")),
        ToWorker::Order(ShutdownCommand::Idle),
        ToWorker::Signaled { id: "a".into(), ticket: 3, errno: Some(libc::EPERM) },
        ToWorker::Order(ShutdownCommand::Terminate),
        ToWorker::StopFailed { id: "a".into(), failures: Vec::new() },
        ToWorker::Ended(Box::new(end_of("a", 9))),
    ]);
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(match soon(streams.events.recv()).await.unwrap() {
            Event::Started(started) => format!("started {}", started.id),
            Event::Ended(ended) => format!("ended {} {}", ended.id, ended.status),
            Event::StopFailed { id, .. } => format!("stop failed {id}"),
            Event::Suspended { id, .. } => format!("suspended {id}"),
            Event::Held(_) | Event::Released(_) => panic!("events of the keeper only"),
            Event::Signaled { ticket, result, .. } => {
                format!("signaled {ticket} {:?}", result.unwrap_err().raw_os_error())
            }
        });
    }
    assert_eq!(told, ["started a", "signaled 3 Some(1)", "stop failed a", "ended a 9"]);
    assert_eq!(soon(streams.orders.recv()).await, Some(Shutdown::Idle));
    assert_eq!(soon(streams.orders.recv()).await, Some(Shutdown::Terminate));
    // The keeper's death ends both streams, and is reported.
    drop(keeper);
    assert!(soon(streams.events.recv()).await.is_none());
    soon(&mut streams.gone).await.unwrap();
}

#[actix::test]
async fn an_invalid_frame_ends_the_link() {
    let (link, mut streams, mut keeper) = link(WorkerState::default());
    keeper.socket.write_all(b"\0\0\0\x02\xc1\xc1").unwrap();
    soon(&mut streams.gone).await.unwrap();
    drop(keeper);
    // Requests after the loss return at once.
    assert!(soon(link.forget("a".into())).await.is_err());
    soon(link.bye(ProgramExit::Code(0))).await;
}

#[test]
fn commands_are_sent_in_their_order_and_all_before_the_goodbye_is_done() {
    // More messages than the socket buffers hold.
    const COUNT: usize = 20_000;
    let (keeper, worker) = Keeper::pair();
    let heard = std::thread::spawn(move || keeper.all());
    // When the runtime ends, its tasks end and the socket is closed, as at the program's exit.
    actix::System::new().block_on(async {
        let (link, _streams) =
            KeeperLink::start(KeeperSocket::new(worker), WorkerState::default()).unwrap();
        link.launch(request(&["a", "b"]).0);
        link.command("a".into(), ProcessCommand::Signal(15), 1);
        (0..COUNT).for_each(|n| drop(link.forget(format!("{n}").into())));
        soon(link.bye(ProgramExit::Signal(3))).await;
    });
    let mut wanted = vec!["launch a b".to_owned(), "signal a 15".into()];
    wanted.extend((0..COUNT).map(|n| format!("forget {n}")));
    wanted.push("bye 131 Some(3)".into());
    assert!(heard.join().unwrap() == wanted);
}

#[actix::test]
async fn each_launch_gets_its_own_answer() {
    let (link, mut streams, mut keeper) = link(WorkerState::default());
    let mut first = link.launch_acknowledged(request(&["a", "b"]).0);
    let second = link.launch_acknowledged(request(&["c"]).0);
    let third = link.launch_acknowledged(request(&["d"]).0);
    assert_eq!(keeper.hear().await, "launch a b acknowledged 0");
    assert_eq!(keeper.hear().await, "launch c acknowledged 1");
    assert_eq!(keeper.hear().await, "launch d acknowledged 2");
    keeper.tell([
        // No launch has this ticket.
        ToWorker::Accepted { ticket: 77, acceptance: Acceptance::InUse },
        ToWorker::Accepted { ticket: 1, acceptance: Acceptance::InUse },
    ]);
    assert_eq!(soon(second).await, Ok(Acceptance::InUse));
    assert!(first.try_recv().is_err(), "it has no answer yet");
    keeper.tell([ToWorker::Accepted { ticket: 0, acceptance: Acceptance::Journaled }]);
    assert_eq!(soon(first).await, Ok(Acceptance::Journaled));
    // After the keeper's death, every pending launch fails.
    drop(keeper);
    assert!(soon(third).await.is_err());
    soon(&mut streams.gone).await.unwrap();
    assert!(soon(link.launch_acknowledged(request(&["e"]).0)).await.is_err());
}

#[actix::test]
async fn only_changes_are_remembered() {
    let (link, _streams, mut keeper) =
        link(WorkerState { orders: vec![ShutdownCommand::Idle], ..WorkerState::default() });
    link.note_assignment();
    link.note_assignment();
    link.remember(|memory| memory.conn_id = Some("x".into()));
    link.remember(|memory| memory.conn_id = Some("x".into()));
    // This order is in the state already, so it is not sent again.
    link.note(Shutdown::Idle);
    link.note(Shutdown::GiveUp);
    link.note(Shutdown::GiveUp);
    drop(link.forget("end".into()));
    for wanted in [
        "remember None [Idle] true",
        "remember Some(\"x\") [Idle] true",
        "remember Some(\"x\") [Idle, GiveUp] true",
        "forget end",
    ] {
        assert_eq!(keeper.hear().await, wanted);
    }
}

/// A worker that replaces an earlier one.
struct Later {
    supervisor: Addr<Supervisor>,
    results: Addr<Results>,
    journal: Journal,
    done: oneshot::Receiver<()>,
    keeper: Keeper,
}

impl Later {
    /// Deletes a process, and checks that the deletion waits for the keeper's confirmation.
    async fn delete(&mut self, id: &str) {
        let deleted = self.supervisor.send(Delete(id.into()));
        let deleted = actix_rt::spawn(deleted);
        assert_eq!(self.keeper.hear().await, format!("forget {id}"));
        let again = actix_rt::spawn(self.supervisor.send(Delete(id.into())));
        let used = self.supervisor.send(request(&[id])).await.unwrap().unwrap_err();
        assert_eq!(
            used.to_string(),
            format!(
                "process ID already in use: {id}; delete the process first, or choose another ID"
            )
        );
        assert!(!deleted.is_finished() && !again.is_finished());
        assert!(!self.journal.read().contains(&format!("removed {id}")));
        self.keeper.tell([ToWorker::Forgotten(id.into())]);
        soon(deleted).await.unwrap().unwrap().unwrap();
        let again = soon(again).await.unwrap().unwrap();
        assert_eq!(again, Err(DeleteError::Unknown));
    }
}

fn later(records: Vec<ProcessEntry>, memory: WorkerState, end_when: EndWhen) -> Later {
    let (link, streams, keeper) = link(memory.clone());
    let results = Results::default().start();
    let outputs = SupervisorOutputs {
        announce: results.clone().recipient(),
        changed: results.clone().recipient(),
        removed: results.clone().recipient(),
        shutdown: results.clone().recipient(),
        query: results.clone().recipient(),
    };
    let (tell_done, done) = oneshot::channel();
    let engine: Arc<dyn EngineLink> = Arc::new(link);
    let supervisor = Supervisor::create(|ctx| {
        ctx.add_stream(futures_util::stream::unfold(streams.events, |mut events| async {
            events.recv().await.map(|event| (event, events))
        }));
        let mut supervisor =
            Supervisor::new(engine, outputs, end_when, super::harness::GRACES, tell_done);
        supervisor.adopt(records, memory.any, ctx);
        supervisor
    });
    // Subscribes before `Ready`, as the connection does.
    let (journal, _) = subscriber(&results);
    for (order, age) in memory.orders_by_age() {
        supervisor.do_send(ResumeShutdown { order: order.into(), age });
    }
    supervisor.do_send(Ready);
    Later { supervisor, results, journal, done, keeper }
}

/// The entries left by an earlier worker: ended, running, launched, failed.
fn left() -> Vec<ProcessEntry> {
    let record = |id: &str, started, ended: Option<Ended>| ProcessEntry {
        started,
        ended: ended.map(Box::new),
        ..ProcessEntry::new(id.into())
    };
    vec![
        record("z", Some(*start_of("z")), Some(end_of("z", 256))),
        record("run", Some(*start_of("run")), None),
        record("new", None, None),
        record("fail", None, Some(end_of("fail", 127 << 8))),
    ]
}

#[actix::test]
async fn a_later_worker_adopts_the_recorded_processes() {
    let mut later = later(left(), WorkerState::default(), EndWhen::Never);
    assert_eq!(later.keeper.hear().await, "remember None [] true", "there has been a process");
    // The snapshot lists processes in launch order, with or without a result.
    let mut told = Vec::new();
    eventually_async("all results", || {
        told.extend(later.journal.read());
        told.iter().any(|line| line == "ended fail")
    })
    .await;
    assert!(told.contains(&"snapshot [z run new fail] active".to_owned()), "{told:?}");
    let states = |all: &[Arc<procstar::report::ProcessRecord>]| -> Vec<String> {
        all.iter().map(|record| format!("{} {}", record.id, record.is_running())).collect()
    };
    let all = later.results.send(GetAll).await.unwrap();
    assert_eq!(states(&all), ["z false", "run true", "fail false"]);
    // Later events of the adopted processes are handled.
    later
        .keeper
        .tell([ToWorker::Started(start_of("new")), ToWorker::Ended(Box::new(end_of("run", 9)))]);
    eventually_async("the end", || {
        told.extend(later.journal.read());
        told.iter().any(|line| line == "ended run")
    })
    .await;
    for line in ["started z", "ended z", "started run", "ended run", "started new", "ended fail"] {
        let count = told.iter().filter(|told| *told == line).count();
        // The events of z may come before the subscription, which then has z in its snapshot.
        assert!(count == 1 || (count == 0 && line.ends_with('z')), "{line} {count}: {told:?}");
    }
    let all = later.results.send(GetAll).await.unwrap();
    assert_eq!(states(&all), ["z false", "run false", "new true", "fail false"]);
    // The IDs are in use, and the ended processes can be deleted.
    let used = later.supervisor.send(request(&["z", "x"])).await.unwrap().unwrap_err();
    assert_eq!(
        used.to_string(),
        "process ID already in use: z; delete the process first, or choose another ID"
    );
    for id in ["z", "fail", "run"] {
        later.delete(id).await;
    }
    assert!(later.supervisor.send(Delete("new".into())).await.unwrap().is_err());
    later.supervisor.send(request(&["z"])).await.unwrap().unwrap();
    assert_eq!(later.keeper.hear().await, "launch z");
}

#[actix::test]
async fn signal_outcomes_of_another_worker_are_ignored() {
    let memory = WorkerState { any: true, ..WorkerState::default() };
    let mut later = later(left(), memory, EndWhen::Never);
    let sent = later.supervisor.send(signal("run", 15));
    let sent = actix_rt::spawn(sent);
    eventually_async("the signal", || {
        let mut buf = [0; 4096];
        later.keeper.socket.set_nonblocking(true).unwrap();
        let n = later.keeper.socket.read(&mut buf).unwrap_or(0);
        later.keeper.decoder.push(&buf[..n]);
        n > 0
    })
    .await;
    let Ok(Some(ToKeeper::Signal { ticket, .. })) = later.keeper.decoder.next_message() else {
        panic!("no signal")
    };
    // Each worker's tickets start at a random number: these belong to an earlier worker.
    let stranger = |ticket| ToWorker::Signaled { id: "run".into(), ticket, errno: None };
    later.keeper.tell((0..10).chain([ticket.wrapping_sub(1)]).map(stranger));
    later.keeper.tell([ToWorker::Signaled { id: "run".into(), ticket, errno: Some(libc::EPERM) }]);
    let outcome = soon(sent).await.unwrap().unwrap();
    assert!(matches!(outcome, Err(CommandError::Os(_))));
}

#[actix::test]
async fn a_later_worker_follows_recorded_shutdown_commands() {
    let orders = vec![ShutdownCommand::Idle, ShutdownCommand::Terminate];
    let memory = WorkerState { orders, any: true, ..WorkerState::default() };
    let mut later = later(left(), memory, EndWhen::NoneRuns);
    // Only unfinished processes are stopped, and the known orders are not sent to the keeper again.
    let mut stopped = [later.keeper.hear().await, later.keeper.hear().await];
    stopped.sort();
    // The list may include a process whose end is still on the way to the results.
    assert!(stopped.iter().all(|line| line.starts_with("stop ") && line.ends_with(" None")));
    let refused = later.supervisor.send(request(&["x"])).await.unwrap().unwrap_err();
    assert_eq!(refused.to_string(), "agent shutting down: idling");
    later.keeper.tell([
        ToWorker::Ended(Box::new(end_of("run", 15))),
        ToWorker::Ended(Box::new(end_of("new", 15))),
    ]);
    soon(later.done).await.unwrap();
}

#[actix::test]
async fn waiting_counts_processes_of_workers_before() {
    let far = tokio::time::Instant::now() + Duration::from_secs(1000);
    let end_when = EndWhen::Idle { unassigned_until: Some(far) };
    // An earlier worker had processes, all deleted: the worker is done.
    let memory = WorkerState { any: true, ..WorkerState::default() };
    soon(later(Vec::new(), memory, end_when).done).await.unwrap();
    // No process so far: the worker waits for the first.
    let mut waiting = later(Vec::new(), WorkerState::default(), end_when);
    waiting.supervisor.send(request(&["a"])).await.unwrap().unwrap();
    assert!(waiting.done.try_recv().is_err());
    assert_eq!(waiting.keeper.hear().await, "remember None [] true");
    assert_eq!(waiting.keeper.hear().await, "launch a");
    // Processes remain: the worker waits for their deletion.
    let mut one = later(left(), WorkerState::default(), end_when);
    one.keeper.tell([
        ToWorker::Ended(Box::new(end_of("run", 0))),
        ToWorker::Ended(Box::new(end_of("new", 0))),
    ]);
    assert_eq!(one.keeper.hear().await, "remember None [] true");
    let mut told = Vec::new();
    eventually_async("the ends", || {
        told.extend(one.journal.read());
        ["ended run", "ended new"].iter().all(|end| told.iter().any(|line| line == end))
    })
    .await;
    for id in ["z", "run", "new", "fail"] {
        assert!(one.done.try_recv().is_err());
        one.delete(id).await;
    }
    soon(one.done).await.unwrap();
}

/// The grace of an order counts from the time of the order, not from the start of a later worker.
#[actix::test]
async fn the_grace_period_continues_with_the_next_worker() {
    let grace = super::harness::GRACES.term.as_nanos() as u64;
    let now = TimePoint::now().monotonic_nanos;
    let signals = |given| async move {
        let memory = WorkerState {
            orders: vec![ShutdownCommand::Terminate],
            any: true,
            given,
            ..WorkerState::default()
        };
        let mut later = later(left(), memory, EndWhen::Never);
        let mut heard = Vec::new();
        // Further stop orders come before this signal, so the list is complete after it.
        heard.push(later.keeper.hear().await);
        while heard.last().is_none_or(|line| !line.starts_with("signal run 10")) {
            if heard.iter().any(|line| line.starts_with("stop run ")) {
                later.supervisor.do_send(signal("run", 10));
            }
            heard.push(later.keeper.hear().await);
        }
        heard.retain(|line| line.starts_with("stop run "));
        heard
    };
    // An older version's order has no time, so its grace restarts. A recent order has grace left.
    for given in [vec![], vec![now]] {
        assert_eq!(signals(given).await, ["stop run None"]);
    }
    let Some(long_ago) = now.checked_sub(grace) else { return };
    assert_eq!(signals(vec![long_ago]).await, ["stop run None", "stop run Some(9)"]);
}

#[test]
fn a_shutdown_command_is_recorded_with_its_time() {
    let mut memory = WorkerState::default();
    let before = TimePoint::now().monotonic_nanos;
    memory.note(ShutdownCommand::Idle);
    let noted = memory.clone();
    memory.note(ShutdownCommand::Idle);
    assert_eq!(memory, noted);
    memory.note(ShutdownCommand::Kill);
    assert_eq!(memory.orders, [ShutdownCommand::Idle, ShutdownCommand::Kill]);
    assert!(memory.given.iter().all(|at| (before..=TimePoint::now().monotonic_nanos).contains(at)));
    assert_eq!(memory.given.len(), 2);
    // The command of an older version has no time, and gets none.
    let mut memory = WorkerState { orders: vec![ShutdownCommand::Idle], ..WorkerState::default() };
    memory.note(ShutdownCommand::Kill);
    assert!(memory.given.is_empty());
    assert_eq!(memory.orders_by_age().map(|(order, _)| order).collect::<Vec<_>>(), memory.orders);
}
