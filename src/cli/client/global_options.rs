//! The client commands among those of the program, without the global options that do not apply to
//! them.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, FromArgMatches, Subcommand};

use super::options::ClientCommand;

/// [`ClientCommand`] without the program's options that configure an instance. The help omits these
/// options, the parser rejects them, and their letters are free.
#[derive(Clone, Debug)]
pub struct InstanceCommand(pub ClientCommand);

/// The program's options that say where instances are.
const MEANT: [&str; 2] = ["config", "state_dir"];

impl InstanceCommand {
    /// Overrides the program's global options by hidden ones.
    fn hide_global_options(command: Command) -> Command {
        let globals = command.get_arguments().filter(|arg| arg.is_global_set());
        let hidden: Vec<_> = globals
            .filter(|arg| !MEANT.contains(&arg.get_id().as_str()))
            .map(|arg| arg.clone().short(None).hide(true))
            .collect();
        command.mut_subcommands(|sub| {
            if ClientCommand::has_subcommand(sub.get_name()) {
                sub.args(hidden.clone())
            } else {
                sub
            }
        })
    }

    /// Rejects options that the command does not have.
    fn check(matches: &ArgMatches) -> Result<(), clap::Error> {
        let Some((name, given)) = matches.subcommand() else { return Ok(()) };
        let own = ClientCommand::augment_subcommands(Command::new("procstar"));
        let Some(own) = own.find_subcommand(name) else { return Ok(()) };
        let foreign = given.ids().find(|id| {
            given.value_source(id.as_str()) == Some(ValueSource::CommandLine)
                && !MEANT.contains(&id.as_str())
                && !own.get_arguments().any(|arg| arg.get_id() == *id)
                && !own.get_groups().any(|group| group.get_id() == *id)
        });
        match foreign {
            None => Ok(()),
            Some(id) => Err(clap::Error::raw(
                ErrorKind::UnknownArgument,
                format!(
                    "'{name}' takes no --{}, an option of the program that serves; see 'procstar {name} --help'",
                    id.as_str().replace('_', "-")
                ),
            )),
        }
    }
}

impl FromArgMatches for InstanceCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::check(matches)?;
        ClientCommand::from_arg_matches(matches).map(InstanceCommand)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        Self::check(matches)?;
        self.0.update_from_arg_matches(matches)
    }
}

impl Subcommand for InstanceCommand {
    fn augment_subcommands(command: Command) -> Command {
        Self::hide_global_options(ClientCommand::augment_subcommands(command))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::hide_global_options(ClientCommand::augment_subcommands_for_update(command))
    }

    fn has_subcommand(name: &str) -> bool {
        ClientCommand::has_subcommand(name)
    }
}
