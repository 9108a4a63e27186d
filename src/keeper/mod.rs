//! The keeper: a small process that keeps processes, exit statuses and output while its worker dies
//! and restarts.
//!
//! It is the process that the user launched. It owns the [`engine`](crate::engine), and so every
//! child. It starts the worker, a separate process of the same program with the actors and the
//! network, and restarts it when it dies. A socket with typed messages ([`format`](mod@format))
//! connects the two. The keeper writes each event of the engine into its [`process_table`] and
//! journal, and sends it to the worker. A new worker receives the whole table, and continues from
//! there. Captures are files in the instance's directory ([`instance`]), which the worker reads
//! itself. For captures in files that specs name, it receives the keeper's descriptors ([`files`]).
//!
//! Neither process waits for the other. A stopped worker costs the keeper a queue of at most a few
//! events per process; a busy keeper costs the worker only the delay of an answer.
//!
//! When the keeper dies, its children live on, and the worker becomes the next keeper
//! ([`succession`]): it holds a duplicate of each descriptor that is needed to read the exit status
//! and the output of a process. If both die, the next start on the same directory reads the
//! journal. It restores ended processes from their entries, and adopts running ones: with their
//! descriptors, if the service manager has [stored](descriptor_store) them, else by their pid and
//! start time.
//!
//! This module contains no actor, no network and no TLS.

pub mod activation;
pub mod check;
pub mod descriptor_store;
pub mod descriptors;
pub mod files;
pub mod format;
mod groups;
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
pub mod service_manager;
pub mod signals;
mod stored_name;
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
        let mut used = vec![crate::engine::CAPTURE_WRITER, AGAIN, KEEPER_FD, CHECK_FD, STATE_FD];
        used.extend([LISTENERS, FILES_FD, SUCCESSION_FD]);
        used.sort_unstable();
        assert_eq!(INTERNAL_VARIABLES, used);
    }
}
