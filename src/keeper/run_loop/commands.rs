//! The shutdown commands: those that the workers remember, and those that none remembers yet.

use crate::keeper::format::{ShutdownCommand, WorkerState};

/// What workers leave to each other, and the commands that none of them has taken in.
#[derive(Default)]
pub(super) struct Commands {
    state: WorkerState,
    /// Commands that no worker has told us to remember: each worker hears of them until one does.
    pending: Vec<ShutdownCommand>,
}

impl Commands {
    /// Goes on with what was left, and with commands that no worker remembers.
    pub(super) fn new(state: WorkerState, pending: Vec<ShutdownCommand>) -> Commands {
        Commands { state, pending }
    }

    /// What the last worker has left.
    pub(super) fn state(&self) -> &WorkerState {
        &self.state
    }

    /// The commands that a new worker is told of.
    pub(super) fn pending(&self) -> &[ShutdownCommand] {
        &self.pending
    }

    /// Keeps a command until a worker remembers it. Of those that mean the same, the first counts.
    pub(super) fn add(&mut self, command: ShutdownCommand) {
        let known = |known: &ShutdownCommand| known.kept() == command.kept();
        if !self.pending.iter().any(known) && !self.state.orders.iter().any(known) {
            self.pending.push(command);
        }
    }

    /// A worker leaves this to the next one.
    pub(super) fn remember(&mut self, state: WorkerState) {
        self.pending.retain(|command| !state.orders.contains(&command.kept()));
        self.state = state;
    }

    /// Whether the program is to end, whatever still runs.
    pub(super) fn is_shutting_down(&self) -> bool {
        self.pending.iter().chain(&self.state.orders).any(|o| *o != ShutdownCommand::Idle)
    }

    /// Whether there is a command to kill that no worker has taken in.
    pub(super) fn is_kill_pending(&self) -> bool {
        self.pending.contains(&ShutdownCommand::Kill)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the orders that mean the same, a worker that comes later hears of the first, and that one is enough for all.
    #[test]
    fn an_interrupt_is_kept_as_what_it_orders() {
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
            // It stays so when a worker remembers it; then that worker sees to the killing.
            let orders = vec![command.kept()];
            commands.remember(WorkerState { orders, ..WorkerState::default() });
            assert_eq!(commands.is_shutting_down(), command != Idle);
            assert!(!commands.is_kill_pending() && commands.pending().is_empty());
        }
    }
}
