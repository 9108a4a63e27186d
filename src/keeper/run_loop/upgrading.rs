//! How the keeper becomes another program, and goes on from the state of the one before: see [`upgrade`](super::super::upgrade).

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::super::agent_process::AgentProcess;
use super::super::format::{ProcessEntry, STATE_VERSION, UpgradeState};
use super::super::instance::Instance;
use super::super::listeners::{Listeners, PassedListener};
use super::super::readiness::AwaitedUpgrade;
use super::Keeper;
use crate::engine::{Handover, sys};
use crate::logging;

/// How long an upgrade waits for processes that are just being set up.
const QUIET_TIME: Duration = Duration::from_secs(2);
/// Why there is no upgrade after the agent's goodbye: nothing is left to go on with.
pub(super) const DONE: &str = "all is done, and the program ends";

impl Keeper {
    /// Replaces this program by the one that is now on disk, if that can go on; if not, all stays as it is.
    pub(super) fn upgrade(&mut self) {
        let path = self.program.path().display().to_string();
        if let Err(error) = self.try_upgrade() {
            tracing::error!(%path, "not upgraded: {error}");
            if let Some(instance) = &self.instance {
                instance.answer_reload(&Err(format!("not upgraded: {error}")));
            }
        }
    }

    fn try_upgrade(&mut self) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        if self.bye.is_some() {
            return Err(DONE.to_owned());
        }
        let state = self.state(Handover::default()).ok_or("nothing has been started yet")?;
        let version = self
            .program
            .check(&state.to_file().map_err(text)?, &self.environment.fds)
            .map_err(|error| error.to_string())?;
        tracing::info!(version, "upgrading");
        self.end_agent_for_upgrade()?;
        self.forget_all();
        // From here on an agent is to be started in any case.
        self.next_agent = Some(Instant::now());
        let engine = self.engine.as_ref().ok_or("nothing has been started yet")?;
        let (handover, _standstill) =
            engine.quiesce(QUIET_TIME).map_err(|error| error.to_string())?;
        self.take_events();
        self.write_journal();
        let mut open: Vec<RawFd> = handover.descriptors().collect();
        let state = self.state(handover).ok_or("nothing has been started yet")?;
        open.extend(state.instance.descriptors());
        open.extend(state.listeners.held.iter().map(PassedListener::fd));
        open.extend(state.fds.iter().copied().filter(|fd| sys::is_open(*fd)));
        let file = state.to_file().map_err(text)?;
        Err(text(self.program.exec_successor(&file, &open)))
    }

    /// Ends the agent. If the last it has to say is its goodbye, the program ends instead.
    pub(super) fn end_agent_for_upgrade(&mut self) -> Result<(), String> {
        self.end_agent();
        match self.bye {
            Some(exit) => {
                self.exit = Some(exit);
                Err(DONE.to_owned())
            }
            None => Ok(()),
        }
    }

    /// Ends the agent, as a crash would; what it had said before counts.
    fn end_agent(&mut self) {
        while let Some(agent) = &mut self.agent {
            agent.kill();
            let mut fds = [PollFd::new(agent.pidfd(), PollFlags::POLLIN)];
            // EINTR aside, it dies at once; unless it waits in the kernel, and then so do we.
            let _ = poll(&mut fds, PollTimeout::NONE);
            let messages = agent.receive();
            if agent.ended().is_some() {
                self.agent = None;
            }
            for message in messages {
                self.message(message);
            }
        }
    }

    /// All that another program needs to go on; none before there is anything.
    fn state(&self, handover: Handover) -> Option<UpgradeState> {
        Some(UpgradeState {
            version: STATE_VERSION,
            start: self.environment.start,
            fds: self.environment.fds.clone(),
            nofile: self.environment.nofile,
            settings: self.settings.clone()?,
            instance: self.instance.as_ref()?.handover(),
            records: self.table.iter().cloned().collect(),
            memory: self.memory.clone(),
            orders: self.orders.iter().map(|order| order.kept()).collect(),
            carried: handover.processes,
            mode: self.mode.unwrap_or_default(),
            terminal: self.signals.had_terminal(),
            shared: handover.shared,
            keeper: Some(std::process::id()),
            agent: self.agent.as_ref().map(AgentProcess::pid),
            listeners: self.listeners.handover(),
        })
    }

    /// Goes on from the state of another program.
    pub(super) fn restore(&mut self, state: UpgradeState) -> io::Result<()> {
        // The agent tells the user where the log cannot be had.
        let _ = logging::init(&state.settings.log);
        self.listeners = Listeners::from_handover(state.listeners);
        let instance = Instance::from_handover(state.instance)?;
        for ProcessEntry { id, started, ended, identity, stop_failures } in state.records {
            self.table.insert(&id);
            self.table.stop_failed(&id, stop_failures);
            if let Some(identity) = identity {
                self.table.set_identity(&id, identity);
            }
            if let Some(started) = started {
                self.table.started(started);
            }
            if let Some(ended) = ended {
                self.table.ended(ended);
            }
        }
        let handover = Handover { processes: state.carried, shared: state.shared };
        let engine = self.start_engine(&instance, &state.settings, Some(handover))?;
        let program = self.program.path().display();
        let version = env!("CARGO_PKG_VERSION");
        self.awaited = Some(AwaitedUpgrade::new(format!("{program}, version {version}")));
        self.memory = state.memory;
        logging::set_level(self.memory.log_level);
        self.orders = state.orders;
        self.mode = Some(state.mode);
        self.signals.note_terminal(state.terminal);
        self.journal = self.begin_journal(&instance);
        self.settings = Some(state.settings);
        self.instance = Some(instance);
        self.engine = Some(engine);
        tracing::warn!(path = %self.program.path().display(), version = env!("CARGO_PKG_VERSION"), "upgraded");
        Ok(())
    }

    /// The agent's services listen: an upgrade, if one is awaited, has succeeded.
    pub(super) fn agent_ready(&mut self) {
        if let (Some(awaited), Some(instance)) = (self.awaited.take(), &self.instance) {
            let outcome = awaited.ready(self.listeners.missing());
            match &outcome {
                Ok(_) => tracing::info!("the new agent is ready"),
                Err(text) => tracing::error!("{text}"),
            }
            instance.answer_reload(&outcome);
        }
    }

    /// The agent cannot start, and says why, or is not ready in time.
    pub(super) fn agent_not_ready(&mut self, why: Option<&str>) {
        if let (Some(awaited), Some(instance)) = (self.awaited.take(), &self.instance) {
            let text = awaited.failed(why);
            tracing::error!("{text}");
            instance.answer_reload(&Err(text));
        }
    }
}
