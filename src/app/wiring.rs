//! The start of the actors: their order, and their handles of each other.

use std::sync::Arc;

use actix::{Actor, Addr, StreamHandler};
use tokio::sync::{mpsc, oneshot};

use crate::actors::keeper_link::{KeeperLink, Streams, Welcome};
use crate::actors::lifecycle::Graces;
use crate::actors::messages::{ResumeShutdown, Shutdown};
use crate::actors::results::Results;
use crate::actors::signals::Signals;
use crate::actors::supervisor::{Supervisor, SupervisorOutputs};
use crate::actors::{Handle, Mailboxes};
use crate::app::error::{RunError, system};
use crate::app::patience::{self, Patience};
use crate::app::supervision::{end_when, quota, sampling};
use crate::app::worker::{Ends, Worker};
use crate::cli::invocation::Run;
use crate::clock::TimePoint;
use crate::engine::Event;
use crate::keeper::format::ProcessEntry;
use crate::keeper::format::WorkerState;
use crate::logging;
use crate::page_key::PageKey;
use crate::report::ResultContext;

/// Starts the actors, and handles signals from now on.
///
/// # Errors
/// The system lacks a feature that the actors need.
pub(super) fn start(
    run: &Run,
    welcome: Welcome,
    context: Arc<ResultContext>,
) -> Result<(Worker, Ends), RunError> {
    let launched = (welcome.pid, welcome.ppid);
    let (start, first) = (welcome.start, welcome.first);
    let dir = welcome.dir.clone();
    let (socket, memory, records) = welcome.into_parts();
    let (link, streams) =
        KeeperLink::start(socket, memory.clone()).map_err(system("talk to the keeper"))?;
    let link = Arc::new(link);
    let Streams { events, orders, gone } = streams;
    let results = Results::default().start();
    let count = records.len();
    let input =
        if first { records.iter().map(|record| record.id.clone()).collect() } else { Vec::new() };
    let supervised = Supervised { events, records, any: memory.any };
    let (supervisor, done) = supervise(run, start, Arc::clone(&link), &results, supervised);
    for (order, age) in memory.orders_by_age() {
        supervisor.do_send(ResumeShutdown { order: order.into(), age });
    }
    let actors = Handle::from(Mailboxes::of(&supervisor, &results));
    let patience = handle_signals(run, &supervisor, &actors, orders)?;
    // A changed level holds until the program ends, for later workers too.
    logging::set_level(memory.log_level);
    let printing = memory.printing;
    let (conn_id, page_key) = identify(run, memory, &link);
    let worker = Worker {
        supervisor,
        actors,
        link,
        launched,
        start,
        first,
        dir,
        input,
        count,
        conn_id,
        page_key,
        printing,
        context,
        patience,
    };
    Ok((worker, Ends { done, gone }))
}

/// The keeper's data for the supervisor.
struct Supervised {
    events: mpsc::UnboundedReceiver<Event>,
    /// The processes that exist already.
    records: Vec<ProcessEntry>,
    /// Whether any process has ever existed.
    any: bool,
}

/// Starts the supervisor; returns it, and a receiver of its end.
fn supervise(
    run: &Run,
    start: TimePoint,
    engine: Arc<KeeperLink>,
    results: &Addr<Results>,
    from_keeper: Supervised,
) -> (Addr<Supervisor>, oneshot::Receiver<()>) {
    let settings = &run.settings;
    let outputs = SupervisorOutputs {
        announce: results.clone().recipient(),
        changed: results.clone().recipient(),
        removed: results.clone().recipient(),
        shutdown: results.clone().recipient(),
        query: results.clone().recipient(),
    };
    let graces = Graces { term: settings.shutdown.term_grace, kill: settings.shutdown.kill_grace };
    let (done_sender, done) = oneshot::channel();
    let end_when = end_when(run, start);
    let Supervised { events, records, any } = from_keeper;
    let supervisor = Supervisor::create(|ctx| {
        let events = futures_util::stream::unfold(
            events,
            |mut events: mpsc::UnboundedReceiver<Event>| async {
                events.recv().await.map(|event| (event, events))
            },
        );
        <Supervisor as StreamHandler<Event>>::add_stream(events, ctx);
        let mut supervisor = Supervisor::new(engine, outputs, end_when, graces, done_sender)
            .sampled(sampling(&settings.sampling))
            .bounded(quota(settings));
        supervisor.adopt(records, any, ctx);
        supervisor
    });
    (supervisor, done)
}

/// Starts the actor that receives signals; returns how long the end waits for the senders of
/// signals.
fn handle_signals(
    run: &Run,
    supervisor: &Addr<Supervisor>,
    actors: &Handle,
    orders: mpsc::UnboundedReceiver<Shutdown>,
) -> Result<Patience, RunError> {
    let signals =
        Signals::new(supervisor.clone().recipient(), orders).map_err(system("handle signals"))?;
    let grace = run.foreground.as_ref().map(|one| one.grace);
    let patience = Patience::new(signals.orders(), patience::recent(grace));
    let signals = match &run.foreground {
        Some(one) => signals.in_foreground(one.id.clone(), actors.clone(), one.shares_terminal),
        None => signals,
    };
    signals.start();
    Ok(patience)
}

/// The connection's ID and the key of the page's sessions: from an earlier worker by way of the
/// keeper, which keeps them for later ones.
fn identify(run: &Run, memory: WorkerState, link: &KeeperLink) -> (String, PageKey) {
    let settings = &run.settings;
    let conn_id = settings
        .agent
        .conn_id
        .clone()
        .or(memory.conn_id)
        .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let page_key = memory.page_key.unwrap_or_else(PageKey::random);
    link.remember(|memory| {
        memory.conn_id = Some(conn_id.clone());
        memory.page_key = settings.http.enabled.then(|| page_key.clone());
    });
    (conn_id, page_key)
}
