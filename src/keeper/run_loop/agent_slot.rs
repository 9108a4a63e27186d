//! The agent's place: whether one runs and has introduced itself, when the next one is started, and
//! what the end of one means for the program.
//!
//! The transitions are data: an agent is any value, time is an argument, and what follows is
//! returned. Only the last part of this file talks to a real [`AgentProcess`].

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::keeper::agent_process::AgentProcess;
use crate::keeper::format::ToAgent;
use crate::keeper::signals::ProgramExit;

/// An agent that has lived this long, and has introduced itself, has not crashed young.
pub(super) const MIN_UPTIME: Duration = Duration::from_secs(1);
/// The wait after the first crash of a young agent. It doubles with each, up to [`MAX_BACKOFF`].
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest wait.
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// So many young agents may crash in a row before the keeper does without.
pub(super) const MAX_CRASHES: u32 = 5;

/// The agent's place. `crashes` counts the agents that have crashed young in a row.
pub(super) enum AgentSlot<A> {
    /// No agent runs; the next one is started at this time.
    Backoff { until: Instant, crashes: u32 },
    /// One runs and has not introduced itself.
    Starting { agent: A, since: Instant, crashes: u32 },
    /// One runs, has introduced itself, and receives events.
    Up { agent: A, since: Instant, crashes: u32 },
    /// One runs that has nothing left to do. The program ends when it has ended. Until then it
    /// receives events if it has introduced itself.
    Leaving { agent: A, goodbye: Goodbye, introduced: bool },
    /// No agent runs, and none is started any more.
    Empty,
}

/// How the program ends once a leaving agent has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// As the agent has said.
    Said(ProgramExit),
    /// The keeper has refused the first agent, which tells the user and knows the exit code. This
    /// one counts if it ends without a code.
    Refused(ProgramExit),
}

/// What follows from the end of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AgentEnd {
    /// The program ends.
    Exit(ProgramExit),
    /// Another agent is started. The one that ended died of this shutdown signal, if of one.
    Restart { died_of: Option<i32> },
    /// Nothing was ever started, and no agent stays alive: the program ends.
    GiveUp,
}

/// Whether a signal that an agent dies of, before it handles any, is a shutdown command.
fn is_command(signum: &i32) -> bool {
    [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM].contains(signum)
}

/// How long to wait after so many crashes in a row.
pub(super) fn backoff(crashes: u32) -> Duration {
    match crashes {
        0 => Duration::ZERO,
        n => (FIRST_BACKOFF * 2u32.saturating_pow(n.min(20) - 1)).min(MAX_BACKOFF),
    }
}

impl<A> AgentSlot<A> {
    /// The first agent is started at once.
    pub(super) fn new(now: Instant) -> AgentSlot<A> {
        AgentSlot::Backoff { until: now, crashes: 0 }
    }

    /// Whether the next agent is to be started now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self, AgentSlot::Backoff { until, .. } if *until <= now)
    }

    /// When the next agent is to be started.
    pub(super) fn start_at(&self) -> Option<Instant> {
        if let AgentSlot::Backoff { until, .. } = self { Some(*until) } else { None }
    }

    /// An agent was started.
    pub(super) fn started(&mut self, agent: A, now: Instant) {
        let crashes = self.crashes();
        *self = AgentSlot::Starting { agent, since: now, crashes };
    }

    /// An agent could not be started. `running` says whether processes may have been started.
    pub(super) fn start_failed(&mut self, running: bool, now: Instant) -> AgentEnd {
        self.crashed(self.crashes() + 1, running, None, now)
    }

    /// The agent has introduced itself.
    pub(super) fn welcome(&mut self) {
        *self = match std::mem::replace(self, AgentSlot::Empty) {
            AgentSlot::Starting { agent, since, crashes } => {
                AgentSlot::Up { agent, since, crashes }
            }
            other => other,
        };
    }

    /// The agent has said that everything is done.
    pub(super) fn goodbye(&mut self, exit: ProgramExit) {
        let goodbye = match self {
            AgentSlot::Leaving { goodbye: Goodbye::Refused(_), .. } => Goodbye::Refused(exit),
            _ => Goodbye::Said(exit),
        };
        self.leave(goodbye);
    }

    /// The first agent was refused.
    pub(super) fn refuse(&mut self, exit: ProgramExit) {
        self.leave(Goodbye::Refused(exit));
    }

    fn leave(&mut self, goodbye: Goodbye) {
        let introduced = self.up().is_some();
        if let Some(agent) = self.take() {
            *self = AgentSlot::Leaving { agent, goodbye, introduced };
        }
    }

    /// The agent has ended. `running` says whether processes may have been started.
    pub(super) fn ended(&mut self, status: ExitStatus, running: bool, now: Instant) -> AgentEnd {
        let code = status.code().map(|code| u8::try_from(code).ok());
        let died_of = status.signal().filter(is_command);
        let crashes = match std::mem::replace(self, AgentSlot::Empty) {
            AgentSlot::Leaving { goodbye: Goodbye::Said(exit), .. } => {
                return AgentEnd::Exit(exit);
            }
            AgentSlot::Leaving { goodbye: Goodbye::Refused(exit), .. } => {
                return AgentEnd::Exit(code.flatten().map_or(exit, ProgramExit::Code));
            }
            AgentSlot::Up { since, .. } if now.duration_since(since) >= MIN_UPTIME => 0,
            AgentSlot::Up { crashes, .. }
            | AgentSlot::Starting { crashes, .. }
            | AgentSlot::Backoff { crashes, .. } => crashes + 1,
            AgentSlot::Empty => return AgentEnd::Restart { died_of },
        };
        match (running, died_of, code) {
            // It was still reading what to start.
            (false, Some(signum), _) => AgentEnd::Exit(ProgramExit::Signal(signum)),
            // It has told the user what is wrong, or what was asked for; nothing was started.
            (false, None, Some(code)) => AgentEnd::Exit(ProgramExit::Code(code.unwrap_or(1))),
            _ => self.crashed(crashes, running, died_of, now),
        }
    }

    fn crashed(
        &mut self,
        crashes: u32,
        running: bool,
        died_of: Option<i32>,
        now: Instant,
    ) -> AgentEnd {
        if !running && crashes >= MAX_CRASHES {
            *self = AgentSlot::Empty;
            return AgentEnd::GiveUp;
        }
        *self = AgentSlot::Backoff { until: now + backoff(crashes), crashes };
        AgentEnd::Restart { died_of }
    }

    /// The agent was ended on purpose: another one is due at once. Returns how the program ends
    /// instead, if the agent was leaving.
    pub(super) fn vacate(&mut self, now: Instant) -> Option<ProgramExit> {
        let crashes = self.crashes();
        match std::mem::replace(self, AgentSlot::Empty) {
            AgentSlot::Leaving {
                goodbye: Goodbye::Said(exit) | Goodbye::Refused(exit), ..
            } => Some(exit),
            _ => {
                *self = AgentSlot::Backoff { until: now, crashes };
                None
            }
        }
    }

    /// Whether no agent stays alive, so that the keeper follows shutdown commands itself. One that
    /// is still starting may be well, but a command to kill does not wait for it.
    pub(super) fn is_hopeless(&self, kill: bool) -> bool {
        match self {
            AgentSlot::Backoff { crashes, .. } => *crashes >= MAX_CRASHES,
            AgentSlot::Starting { crashes, .. } => kill && *crashes >= MAX_CRASHES,
            AgentSlot::Up { .. } | AgentSlot::Leaving { .. } | AgentSlot::Empty => false,
        }
    }

    /// Whether the agent has nothing left to do.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self, AgentSlot::Leaving { .. })
    }

    /// The agent, if one runs.
    pub(super) fn agent(&self) -> Option<&A> {
        match self {
            AgentSlot::Starting { agent, .. }
            | AgentSlot::Up { agent, .. }
            | AgentSlot::Leaving { agent, .. } => Some(agent),
            AgentSlot::Backoff { .. } | AgentSlot::Empty => None,
        }
    }

    /// As [`agent`](Self::agent).
    pub(super) fn agent_mut(&mut self) -> Option<&mut A> {
        match self {
            AgentSlot::Starting { agent, .. }
            | AgentSlot::Up { agent, .. }
            | AgentSlot::Leaving { agent, .. } => Some(agent),
            AgentSlot::Backoff { .. } | AgentSlot::Empty => None,
        }
    }

    /// The agent, if it has introduced itself and receives events.
    pub(super) fn up(&mut self) -> Option<&mut A> {
        match self {
            AgentSlot::Up { agent, .. } | AgentSlot::Leaving { agent, introduced: true, .. } => {
                Some(agent)
            }
            _ => None,
        }
    }

    /// Takes the agent out, and leaves the place empty; without an agent, all stays as it is.
    pub(super) fn take(&mut self) -> Option<A> {
        self.agent()?;
        match std::mem::replace(self, AgentSlot::Empty) {
            AgentSlot::Starting { agent, .. }
            | AgentSlot::Up { agent, .. }
            | AgentSlot::Leaving { agent, .. } => Some(agent),
            AgentSlot::Backoff { .. } | AgentSlot::Empty => None,
        }
    }

    /// How many young agents have crashed in a row.
    pub(super) fn crashes(&self) -> u32 {
        match self {
            AgentSlot::Backoff { crashes, .. }
            | AgentSlot::Starting { crashes, .. }
            | AgentSlot::Up { crashes, .. } => *crashes,
            AgentSlot::Leaving { .. } | AgentSlot::Empty => 0,
        }
    }
}

/// The place of a real agent.
pub(super) type Agents = AgentSlot<AgentProcess>;

impl Agents {
    /// Queues a message for an agent that has introduced itself.
    pub(super) fn tell(&mut self, message: &ToAgent) {
        if let Some(agent) = self.up() {
            agent.tell(message);
        }
    }

    /// Queues whole messages for an agent that has introduced itself.
    pub(super) fn tell_encoded(&mut self, messages: &[u8]) {
        if let Some(agent) = self.up() {
            agent.tell_encoded(messages);
        }
    }

    /// When something is to be done about the agent: one is to be started or to be killed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.start_at().or_else(|| self.agent().and_then(AgentProcess::deadline))
    }
}

#[cfg(test)]
mod tests;
