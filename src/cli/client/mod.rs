//! The commands that address a running instance, over its HTTP service.
//!
//! They are ordinary clients without keeper and actors. One thread has a runtime of its own, which
//! [`run`] sets up for one command and shuts down. [`find`] finds the target instance,
//! [`transport`] speaks HTTP to it, and [`api`] contains its paths and responses; each command has
//! a file. [`out`] prints the instance's data, and passes no control character to a terminal; only
//! `logs` writes bytes unchanged.

mod address;
pub mod api;
pub mod error;
pub mod find;
pub mod global_options;
pub mod humanize;
pub mod options;
pub mod out;
pub mod proc;
pub mod table;
pub mod transport;

mod clean;
mod each;
mod events;
mod examples;
mod format;
mod kill;
mod log_level;
mod logs;
mod message;
mod peer;
mod persist;
mod prune;
mod ps;
mod rm;
mod show;
mod sse;
mod start;
mod stop;
mod top;
mod ui;
mod wait;

use self::api::Api;
use self::error::ClientError;
use self::message::print_message;
use self::options::ClientCommand;
use self::out::Out;
use self::transport::Transport;
use crate::config::{Env, Settings};

/// A command for a running instance.
#[derive(Clone, Debug)]
pub struct Client {
    /// The command.
    pub asked: ClientCommand,
    /// The settings that say where instances are, and the credentials.
    pub settings: Settings,
}

/// Carries out the command; returns the exit code. Prints errors on standard error.
pub fn run(client: &Client, env: &Env) -> u8 {
    let mut out = match Out::stdout(env) {
        Ok(out) => out,
        Err(error) => return report_error(client, &error),
    };
    match actix_rt::Runtime::new() {
        Ok(runtime) => {
            let asked = runtime.block_on(ask(client, env, &mut out));
            // Dropping it would wait for the thread of a name lookup, which may never return.
            std::mem::forget(runtime);
            asked.unwrap_or_else(|error| report_error(client, &error))
        }
        Err(error) => report_error(client, &ClientError::Failed(format!("cannot start: {error}"))),
    }
}

fn report_error(client: &Client, error: &ClientError) -> u8 {
    if !matches!(error, ClientError::Unread) {
        print_message(&error.to_string());
    }
    match (&client.asked, error) {
        (_, ClientError::Usage(_) | ClientError::Read { .. } | ClientError::Unread) => {
            error.exit_code()
        }
        // A lower code may be the process's own.
        (ClientCommand::Wait(_), _) => wait::FAILED,
        _ => error.exit_code(),
    }
}

async fn ask(client: &Client, env: &Env, out: &mut Out) -> Result<u8, ClientError> {
    let place = find::find(client.asked.target(), &client.settings, env)?;
    let api = Api::new(Transport::new(&place)?, &place);
    match &client.asked {
        ClientCommand::Start(args) => start::start(args, &api, out).await,
        ClientCommand::Ps(args) => ps::ps(args, &api, out).await,
        ClientCommand::Show(args) => show::show(args, &api, out).await,
        ClientCommand::Logs(args) => logs::logs(args, &api, out).await,
        ClientCommand::Wait(args) => wait::wait(args, &api, out).await,
        ClientCommand::Stop(args) => stop::stop(args, &api, out).await,
        ClientCommand::Kill(args) => kill::kill(args, &api, out).await,
        ClientCommand::Rm(args) => rm::rm(args, &api, out).await,
        ClientCommand::Prune(args) => prune::prune(args, &api, out).await,
        ClientCommand::Events(args) => events::events(args, &api, out).await,
        ClientCommand::Top(args) => top::top(args, &api, out).await,
        ClientCommand::LogLevel(args) => log_level::log_level(args, &api, out).await,
        ClientCommand::Ui(args) => ui::ui(args, &api, env, out).await,
    }
}
