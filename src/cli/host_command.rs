//! The arguments of the commands that concern this host and the program itself.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum, ValueHint};

use crate::cli::help;
use crate::cli::output_format::ReportFormat;

/// The name of the hidden command that completes a command line.
pub(super) const COMPLETE: &str = "__complete";

/// A command.
#[derive(Subcommand, Clone, Debug)]
pub enum HostCommand {
    /// Check which features this host supports, and print remedies
    #[command(after_long_help = help::AFTER_DOCTOR)]
    Doctor {
        /// Output format
        #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
        format: ReportFormat,
        /// Check access by other users and machines instead: files, tokens, listeners, kernel
        #[arg(long)]
        security: bool,
    },

    /// Print the completion script of a shell
    #[command(after_long_help = help::AFTER_COMPLETIONS)]
    Completions {
        /// Shell
        shell: Shell,
    },

    /// Print candidates for the last of the words; the scripts of `completions` call it
    #[command(name = COMPLETE, hide = true)]
    Complete {
        /// The words of the command line, the program's name first
        #[arg(value_name = "WORD", allow_hyphen_values = true, trailing_var_arg = true)]
        words: Vec<String>,
    },

    /// Print a manual page, or write all pages into a directory
    #[command(after_long_help = help::AFTER_MAN)]
    Man {
        /// Command (default: the whole program)
        #[arg(value_name = "COMMAND")]
        of: Vec<String>,
        /// Write all pages into this directory; it is created if missing
        #[arg(long, value_name = "DIR", conflicts_with = "of", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// Shells with a completion script.
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
            HostCommand::Complete { .. } => COMPLETE,
            HostCommand::Man { .. } => "man",
        }
    }
}
