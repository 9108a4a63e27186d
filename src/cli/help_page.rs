//! The page of `--help`, from the definition of the command line.

use crate::cli::definition::{definition, definition_of};
use crate::cli::invocation::UsageError;

/// The long help of a command, given by its names; without names, of the program.
///
/// # Errors
/// No command has these names.
pub(super) fn page(of: &[String]) -> Result<String, UsageError> {
    // A command's page shows options of the program too; the program's has none of its commands.
    let mut root = if of.is_empty() { definition_of(of) } else { definition() };
    let mut command = &mut root;
    for name in of {
        command = command.find_subcommand_mut(name).ok_or_else(|| {
            UsageError::usage(&format!("no command '{name}'; 'procstar help' lists the commands"))
        })?;
    }
    // Clap would wrap examples too, which are pasted line by line.
    let after = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let mut command = command.clone().after_long_help("");
    let help = command.render_long_help().to_string();
    let help = help.trim_end();
    let after = after.trim_end();
    Ok(if after.is_empty() { format!("{help}\n") } else { format!("{help}\n\n{after}\n") })
}
