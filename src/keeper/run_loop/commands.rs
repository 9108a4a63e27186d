//! The shutdown commands: those that a worker has acknowledged, and those still pending.

use crate::keeper::format::{ShutdownCommand, WorkerState};

/// The state that workers hand to their successors, and the commands not yet acknowledged.
#[derive(Default)]
pub(super) struct Commands {
    state: WorkerState,
    /// Commands that no worker has acknowledged: each new worker receives them until one does.
    pending: Vec<ShutdownCommand>,
}

impl Commands {
    /// Continues with the last worker's state, and with the pending commands.
    pub(super) fn new(state: WorkerState, pending: Vec<ShutdownCommand>) -> Commands {
        Commands { state, pending }
    }

    /// The state that the last worker handed over.
    pub(super) fn state(&self) -> &WorkerState {
        &self.state
    }

    /// The commands that a new worker receives.
    pub(super) fn pending(&self) -> &[ShutdownCommand] {
        &self.pending
    }

    /// Keeps a command until a worker acknowledges it. Of equivalent commands, the first is kept.
    pub(super) fn add(&mut self, command: ShutdownCommand) {
        let known = |known: &ShutdownCommand| known.kept() == command.kept();
        if !self.pending.iter().any(known) && !self.state.orders.iter().any(known) {
            self.pending.push(command);
        }
    }

    /// Stores the state that a worker hands to the next one.
    pub(super) fn remember(&mut self, state: WorkerState) {
        self.pending.retain(|command| !state.orders.contains(&command.kept()));
        self.state = state;
    }

    /// Whether the program is to end, whatever still runs.
    pub(super) fn is_shutting_down(&self) -> bool {
        self.pending.iter().chain(&self.state.orders).any(|o| *o != ShutdownCommand::Idle)
    }

    /// Whether a command to kill is pending.
    pub(super) fn is_kill_pending(&self) -> bool {
        self.pending.contains(&ShutdownCommand::Kill)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A later worker receives only the first of several equivalent commands.
    #[test]
    fn an_interrupt_is_kept_as_its_command() {
        use ShutdownCommand::{Interrupt, Kill, Terminate};
        let mut commands = Commands::default();
        for command in [Interrupt, Terminate, Interrupt, Kill] {
            commands.add(command);
        }
        assert_eq!(commands.pending(), [Interrupt, Kill]);
        assert_eq!(Interrupt.kept(), Terminate);
        let state = WorkerState { orders: vec![Terminate], ..WorkerState::default() };
        commands.remember(state.clone());
        assert_eq!(commands.pending(), [Kill]);
        let mut commands = Commands::new(state, Vec::new());
        commands.add(Interrupt);
        assert!(commands.pending().is_empty());
    }

    #[test]
    fn every_command_but_one_shuts_down() {
        use ShutdownCommand::{GiveUp, Idle, Interrupt, Kill, Terminate};
        for command in [Idle, Terminate, Kill, GiveUp, Interrupt] {
            let mut commands = Commands::default();
            commands.add(command);
            assert_eq!(commands.is_shutting_down(), command != Idle);
            assert_eq!(commands.is_kill_pending(), command == Kill);
            // Once a worker acknowledges the command, that worker kills the processes.
            let orders = vec![command.kept()];
            commands.remember(WorkerState { orders, ..WorkerState::default() });
            assert_eq!(commands.is_shutting_down(), command != Idle);
            assert!(!commands.is_kill_pending() && commands.pending().is_empty());
        }
    }
}
