//! The command line's definition as a whole: what is parsed, what help and manual pages tell of, and what is completed.

use clap::{Command, CommandFactory};

use crate::cli::arguments::CommandLine;

/// The options of the whole program that a command takes, for they are settings, but has no use for.
const NOT_FOR_COMMANDS: [&str; 12] = [
    "wait_timeout",
    "serve",
    "http_port",
    "http_bind",
    "agent",
    "agent_host",
    "agent_port",
    "group_id",
    "connect_interval_start",
    "connect_interval_mult",
    "connect_interval_max",
    "connect_count_max",
];

/// The commands that have nothing to do with instances, and so none with where these are.
const WITHOUT_INSTANCES: [&str; 5] = ["validate", "schema", "run", "completions", "man"];

/// The command line, as it is parsed, told of in help and manual pages, and completed.
pub(super) fn definition() -> Command {
    // CommandLine of the whole program are with its commands once it is built.
    let mut root = CommandLine::command();
    root.build();
    let commands = root.get_subcommands().map(|command| command.get_name().to_owned());
    // That one shows all settings.
    let tidied = commands.filter(|name| name != "config").collect::<Vec<_>>();
    tidied.into_iter().fold(root, |root, name| {
        let alone = WITHOUT_INSTANCES.contains(&name.as_str());
        root.mut_subcommand(name, |command| {
            command.mut_args(|arg| {
                let id = arg.get_id().as_str();
                let hidden = NOT_FOR_COMMANDS.contains(&id) || (alone && id == "state_dir");
                if hidden { arg.hide(true) } else { arg }
            })
        })
    })
}
