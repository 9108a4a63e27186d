//! The worker's continuation as the keeper: see [`succession`](crate::keeper::succession).

use std::io;

use super::running::Running;
use super::{Keeper, Phase};
use crate::engine::Holding;
use crate::engine::death_points::{self, DeathPoint};
use crate::keeper::format::{ShutdownCommand, SuccessionState};

impl Keeper {
    /// Continues with the instance of a keeper that has died, and with the `holdings` of its
    /// processes. A run that is not a service is stopped, because the process that its user
    /// launched is gone.
    pub(super) fn adopt(
        &mut self,
        mut state: SuccessionState,
        holdings: Vec<Holding>,
    ) -> io::Result<()> {
        self.signals.note_terminal(state.estate.terminal);
        death_points::reach(DeathPoint::SuccessionExecuted);
        let (keeper, is_service) = (state.keeper, state.estate.mode.is_service());
        if !is_service {
            state.orders.push(ShutdownCommand::Terminate);
        }
        let running = Running::adopt(&self.environment, state, holdings)?;
        let alive = running.table.iter().filter(|entry| entry.ended.is_none()).count();
        if is_service {
            tracing::warn!(
                keeper,
                pid = std::process::id(),
                processes = alive,
                "the keeper was killed, this is the next one"
            );
        } else {
            eprint(&format!(
                "procstar: its process {keeper} was killed; stopping {alive} processes\n"
            ));
        }
        self.phase = Phase::Running(Box::new(running));
        death_points::reach(DeathPoint::SuccessionAdopted);
        Ok(())
    }
}

/// Writes a message for the user. If this fails, no other way to the user is left.
fn eprint(text: &str) {
    use std::io::Write;
    let _ = io::stderr().write_all(text.as_bytes());
}
