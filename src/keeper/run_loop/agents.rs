//! Agents as they come and go: the start of one, what it says, its end.

use std::io::{self, Write};
use std::time::Instant;

use super::agent_slot::AgentEnd;
use super::last_resort::NextStep;
use super::wait::Woken;
use super::{Keeper, Phase};
use crate::keeper::agent_process::AgentProcess;
use crate::keeper::listeners::Listeners;
use crate::keeper::meaning::{Meaning, Terminal, meaning};
use crate::keeper::signals::ProgramExit;

impl Keeper {
    pub(super) fn start_agent(&mut self) {
        let again = self.phase.is_running();
        let fds = &self.environment.fds;
        let started = match self.phase.running() {
            Some(running) => AgentProcess::start(&self.agents, again, fds, &running.listeners),
            None => AgentProcess::start(&self.agents, again, fds, &Listeners::default()),
        };
        match started {
            Ok(agent) => self.slot.started(agent, Instant::now()),
            Err(error) => {
                tracing::error!(%error, "cannot start the agent");
                if self.slot.start_failed(again, Instant::now()) == AgentEnd::GiveUp {
                    self.phase.exit(ProgramExit::Code(1));
                    // Nobody else can: no agent has ever run, and no log is set up.
                    let text =
                        format!("procstar: cannot start a process of this program: {error}\n");
                    let _ = io::stderr().write_all(text.as_bytes());
                }
            }
        }
    }

    /// Takes what the agent says; notices its end.
    pub(super) fn handle_agent(&mut self, woken: Woken) {
        let leaving = self.slot.is_leaving();
        let Some(agent) = self.slot.agent_mut() else { return };
        // In this order: what it said last, its goodbye too, is there once it has ended.
        let ended = if woken.ended { agent.ended() } else { None };
        let messages = if woken.said || ended.is_some() { agent.receive() } else { Vec::new() };
        agent.kill_if_overdue(leaving);
        for message in messages {
            self.message(message);
        }
        let Some(status) = ended else { return };
        match self.slot.ended(status, self.phase.is_running(), Instant::now()) {
            AgentEnd::Exit(exit) => self.phase.exit(exit),
            AgentEnd::GiveUp => {
                tracing::warn!(%status, "the agent has died, starting it again; no process is lost");
                self.phase.exit(ProgramExit::Code(1));
            }
            AgentEnd::Restart { died_of } => {
                tracing::warn!(%status, "the agent has died, starting it again; no process is lost");
                if let (Some(signum), Some(running)) = (died_of, self.phase.running()) {
                    // The command came before the agent handled any.
                    if let Meaning::ShutDown(command) =
                        meaning(signum, running.mode, Terminal::None)
                    {
                        running.shut_down(command, &mut self.slot);
                    }
                }
            }
        }
    }

    /// The agent has said goodbye. After a command to end, whatever it still writes for the user is
    /// not waited for long.
    pub(super) fn goodbye(&mut self, exit: ProgramExit) {
        self.slot.goodbye(exit);
        let ordered = self.phase.running().is_some_and(|running| running.is_shutting_down());
        if let (true, Some(agent)) = (ordered, self.slot.agent_mut()) {
            agent.end_soon();
        }
    }

    /// Where no agent can be started, and the program is to end: kills what runs, and ends once it
    /// is gone.
    pub(super) fn shut_down_without_agent(&mut self) {
        let Phase::Running(running) = &mut self.phase else { return };
        match running.next_step_without_agent(&self.slot) {
            NextStep::Wait => {}
            NextStep::KillAll => running.kill_all(),
            NextStep::Exit => self.phase.exit(ProgramExit::Code(1)),
        }
    }
}
