//! The worker's composition root: from options to an exit code.
//!
//! In this order: steps that may fail without harm (`prepare`), the introduction to the keeper,
//! which starts INPUT's processes (`introduction`), the actors and signals (`wiring`), the service
//! and the connection, and the end that the life cycle requests (`course`). Only this module
//! depends on all actors at once; `cli` parses options and prints, and does not depend on it.

mod connecting;
mod course;
mod error;
mod foreground;
mod http_access;
mod introduction;
mod listening;
pub mod own_process;
mod patience;
mod prepare;
mod progress;
pub mod rehearse;
mod runtime;
mod service;
mod supervision;
mod token;
mod wiring;
mod worker;
mod writing;

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::actors::keeper_link::{self, LinkError, introduce, leave_read, report_mode};
use crate::actors::signals;
use crate::cli::descriptor;
use crate::cli::invocation::Run;
use crate::config::Env;
pub use error::RunError;
use error::system;
use introduction::{agent_info, keeper_settings, mode, opening};
pub use listening::{Before, Given};
use prepare::{Prepared, prepare};

/// Runs the worker until the end, over the keeper behind `socket`; returns the program's exit code.
///
/// # Errors
/// Messages for the user. All processes have ended by then, unless none had been started.
pub fn run(run: &Run, env: &Env, socket: UnixStream, given: Given) -> Result<u8, RunError> {
    report_mode(&socket, mode(run)).map_err(LinkError::Io)?;
    if run.foreground.as_ref().is_some_and(|one| one.shares_terminal) {
        signals::leave_job_control().map_err(system("handle signals"))?;
    }
    for (fd, bytes) in descriptor::take_read_up() {
        leave_read(&socket, fd, bytes).map_err(LinkError::Io)?;
    }
    let prepared = prepare(run, env, given).inspect_err(|error| {
        keeper_link::report_failure(&socket, &error.to_string());
    })?;
    let Prepared { dialer, context, listening, input } = prepared;
    let welcome = introduce(socket, keeper_settings(run, env), opening(run, env), input)?;
    let context = context.with_agent(agent_info(welcome.pid), run.settings.agent.group_id.clone());
    let system = actix::System::new();
    let ended = system.block_on(async move {
        let (worker, ends) = wiring::start(run, welcome, Arc::new(context))?;
        worker.run(run, ends, listening, dialer).await
    });
    runtime::leave(system);
    ended
}
