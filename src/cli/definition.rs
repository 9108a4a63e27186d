//! The definition of the whole command line, for parsing, help, manual pages and completion.

use std::ffi::OsStr;
use std::iter;

use clap::builder::Resettable;
use clap::{Arg, Command, CommandFactory, Subcommand};

use crate::cli::arguments::{self, CommandLine};
use crate::cli::host_command::COMPLETE;

/// Options of the HTTP service. Together with [`OF_AGENTS`] they describe an instance: only commands
/// that start or describe one accept them.
const OF_SERVICES: [&str; 3] = ["serve", "http_port", "http_bind"];

/// Options of an agent.
const OF_AGENTS: [&str; 10] = [
    "wait_timeout",
    "agent",
    "agent_host",
    "agent_port",
    "agent_ca",
    "group_id",
    "connect_interval_start",
    "connect_interval_mult",
    "connect_interval_max",
    "connect_count_max",
];

/// Short names of options within `serve` and `agent`: long alias and option.
const SERVE_ALIASES: [(&str, &str); 2] = [("port", "http_port"), ("bind", "http_bind")];
const AGENT_ALIASES: [(&str, &str); 3] =
    [("host", "agent_host"), ("port", "agent_port"), ("ca", "agent_ca")];

/// Commands that start no lasting instance and address none.
const WITHOUT_INSTANCES: [&str; 8] =
    ["validate", "schema", "run", "completions", "man", "help", "version", COMPLETE];

/// The names and aliases of all commands, for those who need not define them.
pub(super) const NAMES: [&str; 29] = [
    COMPLETE,
    "agent",
    "completions",
    "config",
    "doctor",
    "events",
    "help",
    "inspect",
    "kill",
    "log",
    "log-level",
    "logs",
    "ls",
    "man",
    "prune",
    "ps",
    "rm",
    "run",
    "schema",
    "serve",
    "show",
    "start",
    "stop",
    "top",
    "ui",
    "upgrade",
    "validate",
    "version",
    "wait",
];

/// Whether a word may name a command.
pub(super) fn may_name_command<W: AsRef<OsStr>>(words: &[W]) -> bool {
    words.iter().any(|word| NAMES.iter().any(|name| word.as_ref() == *name))
}

/// The command line without commands.
pub(super) fn options() -> Command {
    CommandLine::command()
}

/// The command line, complete with the options that commands inherit.
pub(super) fn definition() -> Command {
    let mut root = definition_for(|_| true);
    root.build();
    root
}

/// The command line for these words, with the inherited options of no other commands: completing
/// all of them takes most of the time of a short command.
pub(super) fn definition_of<W: AsRef<OsStr>>(words: &[W]) -> Command {
    definition_for(|command| {
        let names = || iter::once(command.get_name()).chain(command.get_all_aliases());
        words.iter().any(|word| names().any(|name| word.as_ref() == name))
    })
}

fn definition_for(is_needed: impl Fn(&Command) -> bool) -> Command {
    let root = options();
    // The comments of the enums that group commands are not about the program.
    let about = Resettable::from(root.get_about().cloned());
    let long_about = Resettable::from(root.get_long_about().cloned());
    let root = arguments::Command::augment_subcommands(root).about(about).long_about(long_about);
    let globals = globals(&root);
    root.mut_subcommands(|command| {
        if is_needed(&command) {
            return scoped(command, &globals);
        }
        // Clap completes all commands for a suggestion, and letters must be unique.
        command.mut_args(|arg| arg.short(None))
    })
}

/// The options that commands inherit.
fn globals(root: &Command) -> Vec<Arg> {
    root.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect()
}

/// A command with its own version of the program's options: hidden, and without a short name, if
/// the command has no use for them.
fn scoped(command: Command, globals: &[Arg]) -> Command {
    match command.get_name() {
        // It shows all settings.
        "config" => command,
        "serve" => {
            let hidden = |id: &str| id == "serve" || OF_AGENTS.contains(&id);
            command.args(globals.iter().map(|arg| covered(arg, hidden, &SERVE_ALIASES)))
        }
        "agent" => {
            let hidden = |id: &str| id == "agent";
            command.args(globals.iter().map(|arg| covered(arg, hidden, &AGENT_ALIASES)))
        }
        name => {
            let alone = WITHOUT_INSTANCES.contains(&name);
            let hidden = |id: &str| {
                OF_SERVICES.contains(&id) || OF_AGENTS.contains(&id) || (alone && id == "state_dir")
            };
            let own: Vec<String> =
                command.get_arguments().map(|arg| arg.get_id().to_string()).collect();
            let missing = globals.iter().filter(|arg| own.iter().all(|id| arg.get_id() != id));
            let args: Vec<Arg> = missing.map(|arg| covered(arg, hidden, &[])).collect();
            command.args(args)
        }
    }
}

fn covered(arg: &Arg, hidden: impl Fn(&str) -> bool, aliases: &[(&'static str, &str)]) -> Arg {
    let arg = arg.clone();
    let id = arg.get_id().to_string();
    if hidden(&id) {
        return arg.short(None).hide(true);
    }
    match aliases.iter().find(|(_, of)| *of == id) {
        Some((alias, _)) => arg.visible_alias(*alias),
        None => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_described_with_and_without_commands() {
        let description =
            "Run Linux processes from declarative specs, and report exactly how each one ended";
        for root in [options(), definition()] {
            assert_eq!(root.get_about().unwrap().to_string(), description);
            assert!(root.get_long_about().is_none());
        }
    }

    #[test]
    fn names_are_those_of_the_definition() {
        let root = definition();
        let mut names: Vec<&str> = root
            .get_subcommands()
            .flat_map(|command| iter::once(command.get_name()).chain(command.get_all_aliases()))
            .collect();
        names.sort_unstable();
        assert_eq!(NAMES.to_vec(), names);
    }
}
