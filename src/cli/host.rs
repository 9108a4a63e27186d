//! The commands that tell of this host and of the program itself: `doctor`, `completions`, `man`. No instance is asked.

mod man;

use std::io;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum, ValueHint};

use super::definition::definition;
use super::doctor;
use super::help;
use super::options::ReportFormat;
use crate::config::{Env, Loaded};

/// A command.
#[derive(Subcommand, Clone, Debug)]
pub enum HostCommand {
    /// Tell what this host supports, and the remedy for what it does not
    #[command(after_long_help = help::AFTER_DOCTOR)]
    Doctor {
        /// ReportFormat of the answer
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

/// What is told.
pub struct Answer {
    /// For standard output.
    pub text: String,
    /// The program's exit code.
    pub code: u8,
}

/// Why nothing is told.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no such command.
    #[error("no command is called `{0}`; `procstar --help` lists them")]
    NoCommand(String),
    /// The manual pages cannot be written.
    #[error("cannot write manual pages to {}: {source}", dir.display())]
    Write {
        /// Where to.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A text that cannot be made.
    #[error("cannot make a manual page: {0}")]
    Make(#[source] io::Error),
}

/// Does what a command says. `loaded` are the settings, or why there are none.
///
/// # Errors
/// What the user has to know.
pub fn perform(
    command: &HostCommand,
    loaded: Result<Loaded, String>,
    env: &Env,
) -> Result<Answer, HostError> {
    match command {
        HostCommand::Doctor { output_format, security: true } => {
            let report = doctor::examine_security(&loaded, env);
            let text = match output_format {
                ReportFormat::Text => report.security_text(),
                ReportFormat::Json => report.security_json(),
            };
            Ok(Answer { text, code: u8::from(!report.is_safe()) })
        }
        HostCommand::Doctor { output_format, security: false } => {
            let report = doctor::examine(loaded, env);
            let text = match output_format {
                ReportFormat::Text => report.text(),
                ReportFormat::Json => report.json(),
            };
            Ok(Answer { text, code: u8::from(!report.is_well()) })
        }
        HostCommand::Completions { shell } => Ok(Answer { text: completions(*shell), code: 0 }),
        HostCommand::Man { dir: Some(dir), .. } => {
            let written = man::write_all(&definition(), dir);
            let names = written.map_err(|source| HostError::Write { dir: dir.clone(), source })?;
            let lines: Vec<_> = names.iter().map(|name| format!("{}\n", name.display())).collect();
            Ok(Answer { text: lines.concat(), code: 0 })
        }
        HostCommand::Man { dir: None, of } => {
            let command =
                man::find(&definition(), of).ok_or_else(|| HostError::NoCommand(of.join(" ")))?;
            let text = man::page(&command).map_err(HostError::Make)?;
            Ok(Answer { text, code: 0 })
        }
    }
}

fn completions(shell: Shell) -> String {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition(), "procstar", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
