//! The start of the engine: in a new directory, in that of a keeper that died, and after an
//! upgrade.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::commands::Commands;
use super::running::{Running, RunningParts};
use crate::clock::TimePoint;
use crate::config::process_env;
use crate::engine::mailbox::Mailbox;
use crate::engine::permitted;
use crate::engine::{Captures, Ended, Engine, EngineOptions, Event, Handover, Holding};
use crate::keeper::descriptor_store::{self, DescriptorStore, StoredDescriptors};
use crate::keeper::format::{
    Estate, KeeperSettings, Opening, ProcessEntry, SuccessionState, UpgradeState, WorkerState,
};
use crate::keeper::groups;
use crate::keeper::instance::Instance;
use crate::keeper::journal;
use crate::keeper::launch_environment::LaunchEnvironment;
use crate::keeper::listeners::Listeners;
use crate::keeper::meaning::Mode;
use crate::keeper::process_table::ProcessTable;
use crate::keeper::secrets;
use crate::keeper::service_manager::{self, Notifier};
use crate::logging;
use crate::procfs::ProcFs;
use crate::spec::ProcId;

/// How long the search for files that an earlier keeper's specs named may delay the start.
const FIND_FILES_TIMEOUT: Duration = Duration::from_secs(3);

/// The mailbox of the engine's events.
type Events = Arc<Mailbox<Event>>;

impl Running {
    /// Takes the instance's directory, adopts the processes of its journal, and starts the engine.
    ///
    /// # Errors
    /// The reason, for the user.
    pub(super) fn begin(
        environment: &LaunchEnvironment,
        mode: Mode,
        settings: &KeeperSettings,
        opening: &Opening,
        mut stored: StoredDescriptors,
    ) -> Result<Running, String> {
        // The worker reports to the user if the log is not available.
        let _ = logging::init(&settings.log);
        let instance = Instance::open(settings, opening).map_err(|error| error.to_string())?;
        // Not earlier: until its registration, commands recognize a starting instance by its
        // executable. No process is started yet.
        secrets::protect();
        let started = |error| format!("cannot start the engine: {error}");
        let events = Arc::new(Mailbox::new().map_err(started)?);
        let engine = start_engine(environment, &instance, settings, None, &events, false)
            .map_err(started)?;
        let (table, state) = recover(&instance, &engine, |id| stored.remove(id))?;
        let ids = table.iter().map(|entry| &entry.id);
        let store = store_of(environment, mode, &instance, &stored.names(), ids);
        // The journal's orders were for the keeper that has ended.
        let state = WorkerState { conn_id: state.conn_id, ..WorkerState::default() };
        Running::new(RunningParts {
            engine,
            events,
            settings: settings.clone(),
            instance,
            table,
            commands: Commands::new(state, Vec::new()),
            mode,
            listeners: Listeners::default(),
            awaited: None,
            store,
        })
        .map_err(started)
    }

    /// Continues from the state of the previous program.
    ///
    /// # Errors
    /// The system lacks a feature that the keeper needs.
    pub(super) fn restore(
        environment: &LaunchEnvironment,
        program: String,
        state: UpgradeState,
    ) -> io::Result<Running> {
        // The worker reports to the user if the log is not available.
        let _ = logging::init(&state.settings.log);
        let listeners = Listeners::from_handover(state.listeners);
        let instance = Instance::from_handover(state.instance)?;
        let mut table = ProcessTable::default();
        state.records.into_iter().for_each(|entry| table.restore(entry));
        let events = Arc::new(Mailbox::new()?);
        let carried = state.carried.iter().map(|process| &process.id);
        let store = store_of(environment, state.mode, &instance, &state.stored, carried);
        let handover = Handover { processes: state.carried, shared: state.shared };
        let engine =
            start_engine(environment, &instance, &state.settings, Some(handover), &events, true)?;
        if store.is_some() {
            // At once, because the worker asks for them later, and processes may end before.
            engine.share_holdings();
        }
        logging::set_level(state.memory.log_level);
        Running::new(RunningParts {
            engine,
            events,
            settings: state.settings,
            instance,
            table,
            commands: Commands::new(state.memory, state.orders),
            mode: state.mode,
            listeners,
            awaited: Some(program),
            store,
        })
    }
}

impl Running {
    /// Continues with the instance of a keeper that has died, whose worker this process was.
    ///
    /// # Errors
    /// The system lacks a feature that the keeper needs, or the instance's directory is unusable.
    pub(super) fn adopt(
        environment: &LaunchEnvironment,
        state: SuccessionState,
        holdings: Vec<Holding>,
    ) -> io::Result<Running> {
        let Estate { settings, instance, mode, .. } = state.estate;
        // The worker reports to the user if the log is not available.
        let _ = logging::init(&settings.log);
        let listeners = Listeners::from_handover(state.listeners);
        let instance = Instance::from_handover(instance)?;
        let events = Arc::new(Mailbox::new()?);
        let engine = start_engine(environment, &instance, &settings, None, &events, true)?;
        let mut holdings: HashMap<ProcId, Holding> =
            holdings.into_iter().map(|holding| (holding.id.clone(), holding)).collect();
        let (table, _) =
            recover(&instance, &engine, |id| holdings.remove(id)).map_err(io::Error::other)?;
        logging::set_level(state.memory.log_level);
        let mut commands = Commands::new(state.memory, Vec::new());
        state.orders.into_iter().for_each(|order| commands.add(order));
        Running::new(RunningParts {
            engine,
            events,
            settings,
            instance,
            table,
            commands,
            mode,
            listeners,
            awaited: None,
            // A unit's next start is the successor of its main process, not this process.
            store: None,
        })
    }
}

/// The descriptor store of our unit, which has descriptors with these `names`, and keeps those of
/// `processes`. `None` if it is of no use: if the next start would not find the journal, or nobody
/// makes a next start.
fn store_of<'a>(
    environment: &LaunchEnvironment,
    mode: Mode,
    instance: &Instance,
    names: &[String],
    processes: impl Iterator<Item = &'a ProcId>,
) -> Option<DescriptorStore> {
    let is_unit = service_manager::is_main_process(std::process::id());
    if !(is_unit && mode.is_service() && instance.is_lasting()) {
        return None;
    }
    match Notifier::connect(&process_env()) {
        Ok(Some(notifier)) => {
            let open_files = environment.soft_open_file_limit();
            return Some(DescriptorStore::new(notifier, open_files, names, processes));
        }
        Ok(None) => descriptor_store::log_missing(),
        Err(error) => tracing::warn!(%error, "cannot connect to the service manager"),
    }
    None
}

/// Starts the engine, or restores it from the handover of the previous program.
fn start_engine(
    environment: &LaunchEnvironment,
    instance: &Instance,
    settings: &KeeperSettings,
    handover: Option<Handover>,
    events: &Events,
    has_processes: bool,
) -> io::Result<Engine> {
    let restriction = settings.allowed.restriction().map_err(io::Error::other)?.map(Arc::new);
    let parent = settings.limits.cgroup_parent.as_deref();
    let groups = parent.map(|parent| groups::open(parent, &instance.capture_dirs().files));
    let groups = match groups.transpose() {
        // A keeper with processes goes on without.
        Err(error) if has_processes => {
            tracing::error!(%error, "new processes have no control group");
            None
        }
        groups => groups.map_err(io::Error::other)?,
    };
    let options = EngineOptions {
        capture_dirs: instance.capture_dirs(),
        epoch: TimePoint::now().unix_nanos.unsigned_abs(),
        drain_timeout: settings.drain_timeout,
        setup_timeout: settings.setup_timeout,
        restriction,
        inherited: environment.inherited(),
        capture_writer: permitted::own_program(),
        limit: settings.limits.of_captures(),
        max_file_size: settings.limits.max_file_size,
        gain_privileges: settings.limits.gain_privileges,
        restore: Some(Arc::new(instance.restorer())),
        share_holdings: true,
        groups,
    };
    let post = Arc::clone(events);
    let sink = move |events: &mut Vec<Event>| post.put_all(events);
    match handover {
        Some(handover) => Engine::resume(options, handover, sink),
        None => Engine::start_batched(options, sink),
    }
}

/// Restores the processes of the journal in the instance's directory. The engine adopts those that
/// are alive, or whose descriptors are held; the others have ended.
fn recover(
    instance: &Instance,
    engine: &Engine,
    mut holding_of: impl FnMut(&ProcId) -> Option<Holding>,
) -> Result<(ProcessTable, WorkerState), String> {
    let mut table = ProcessTable::default();
    match journal::read_all(&instance.journal()) {
        Ok((entries, state)) => {
            let deadline = Instant::now() + FIND_FILES_TIMEOUT;
            Captures::find_named(entries.iter().flat_map(ProcessEntry::captures), deadline);
            for entry in entries {
                let holding = holding_of(&entry.id);
                adopt(&mut table, engine, entry, holding, deadline);
            }
            let known = table.iter().flat_map(ProcessEntry::captures);
            Captures::remove_unknown(&instance.capture_dirs(), known);
            Ok((table, state))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok((table, WorkerState::default()))
        }
        Err(error) => Err(format!("cannot read {}: {error}", instance.journal().display())),
    }
}

/// Adopts a process of a keeper that died.
fn adopt(
    table: &mut ProcessTable,
    engine: &Engine,
    entry: ProcessEntry,
    holding: Option<Holding>,
    deadline: Instant,
) {
    let ProcessEntry { id, started, ended, identity, .. } = entry;
    table.insert(&id);
    if let Some(identity) = identity {
        table.set_identity(&id, identity);
    }
    match (started, ended) {
        (Some(started), None) => {
            let entry = ProcessEntry { started: Some(started.clone()), ..ProcessEntry::new(id) };
            table.started(started.clone());
            let is_held = holding.as_ref().is_some_and(|holding| holding.pidfd.is_some());
            if is_held || journal::is_unreaped(&entry, &ProcFs::default()) {
                tracing::warn!(proc_id = %entry.id, pid = started.pid, "adopting a process that has outlived its keeper");
                engine.adopt(started, holding);
            } else {
                started.captures.see_named(deadline);
                if let Some(holding) = holding {
                    engine.adopt_ended(Arc::clone(&started.captures), holding);
                }
                table.ended(Box::new(Ended::lost(started)));
            }
        }
        (started, Some(ended)) => {
            if let Some(started) = started {
                table.started(started);
            }
            if let Some(holding) = holding {
                engine.adopt_ended(Arc::clone(&ended.captures), holding);
            }
            table.ended(ended);
        }
        (None, None) => table.ended(Box::new(Ended::unknown(id))),
    }
}
