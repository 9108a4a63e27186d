//! The arguments of the commands that concern this host and the program itself.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum, ValueHint};

use crate::cli::help;
use crate::cli::output_format::ReportFormat;

/// A command.
#[derive(Subcommand, Clone, Debug)]
pub enum HostCommand {
    /// Tell what this host supports, and the remedy for what it does not
    #[command(after_long_help = help::AFTER_DOCTOR)]
    Doctor {
        /// Output format
        #[arg(short, long = "output", value_name = "FORM", default_value = "text")]
        output_format: ReportFormat,
        /// Check instead what other users and machines could do: files, tokens, listeners, kernel
        #[arg(long)]
        security: bool,
    },

    /// Print the completion script of a shell
    #[command(after_long_help = help::AFTER_COMPLETIONS)]
    Completions {
        /// Of which
        shell: Shell,
    },

    /// Print a manual page, or write those of all commands into a directory
    #[command(after_long_help = help::AFTER_MAN)]
    Man {
        /// Of this command, with its parents' names before it; the whole program's if left out
        #[arg(value_name = "COMMAND")]
        of: Vec<String>,
        /// Write all of them into this directory, which is made where it is not there
        #[arg(long, value_name = "DIR", conflicts_with = "of", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// Shells that can be told how to complete our command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// Fish
    Fish,
}

impl HostCommand {
    /// Its name on the command line.
    pub(super) fn name(&self) -> &'static str {
        match self {
            HostCommand::Doctor { .. } => "doctor",
            HostCommand::Completions { .. } => "completions",
            HostCommand::Man { .. } => "man",
        }
    }
}
