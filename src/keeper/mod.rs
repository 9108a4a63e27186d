//! The keeper: a small process that keeps processes, exit statuses and output while the worker above it dies and comes back.
//!
//! It is the process that the user launched, of the same program. It owns the [`engine`](crate::engine), and so every child; it starts the worker,
//! a process of its own with the actors and the network, and starts it again when it dies. Between them is a socket
//! with typed messages ([`format`](mod@format)). Whatever the engine tells, the keeper writes into its [`process_table`] and journal, and passes on to the
//! worker; a new worker gets the whole table, and goes on from there. Captures are files in the instance's directory
//! ([`instance`]), which the worker reads itself; of those that specs have named it gets the keeper's descriptors ([`files`]).
//!
//! Neither waits for the other. A stopped worker costs the keeper a queue of at most a few events per process; a busy keeper
//! costs the worker nothing but the time of an answer.
//!
//! When the keeper dies, its children live on, and the worker becomes the next keeper ([`succession`]): it holds a duplicate of each
//! descriptor that is needed to read the exit status and the output of a process. If both die, the next start on the same directory takes up
//! what the journal tells: ended processes as they were, running ones by their pid and start time.
//!
//! No actor, no network, no TLS is here.

pub mod activation;
pub mod check;
pub mod descriptors;
pub mod files;
pub mod format;
pub mod instance;
mod job;
pub mod journal;
mod launch_environment;
pub mod listeners;
pub mod meaning;
mod private_dir;
pub mod process_table;
mod read_up;
mod readiness;
pub mod registry;
mod run_loop;
pub mod secrets;
pub mod signals;
pub mod succession;
mod sweep;
mod terminal;
pub mod upgrade;
pub mod variables;
mod worker_pid;
mod worker_process;

pub use launch_environment::LaunchEnvironment;
pub use read_up::put_back;
pub use run_loop::{Kept, keep, keep_and_fork, resume, succeed};
pub use signals::ProgramExit;
pub use worker_process::{KeeperSockets, WorkerCommand};

#[cfg(test)]
mod tests {
    use crate::config::INTERNAL_VARIABLES;

    #[test]
    fn the_configuration_knows_the_variables_of_our_processes() {
        use super::variables::*;
        let mut used = vec![crate::engine::FILTER, AGAIN, KEEPER_FD, CHECK_FD, STATE_FD];
        used.extend([LISTENERS, FILES_FD, SUCCESSION_FD]);
        used.sort_unstable();
        assert_eq!(INTERNAL_VARIABLES, used);
    }
}
