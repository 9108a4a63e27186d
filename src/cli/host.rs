//! The commands that concern this host and the program itself: `doctor`, `completions`, `man`. They
//! contact no instance.

mod man;

use std::io;
use std::path::PathBuf;

use crate::cli::definition::definition;
use crate::cli::host_command::HostCommand;
use crate::cli::output_format::ReportFormat;
use crate::cli::{complete, doctor};
use crate::config::{Env, Loaded};

/// The output of a command.
pub struct Answer {
    /// For standard output.
    pub text: String,
    /// The program's exit code.
    pub code: u8,
}

/// The error of a command.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Unknown command.
    #[error("no command '{0}'; 'procstar help' lists the commands")]
    NoCommand(String),
    /// The manual pages cannot be written.
    #[error("cannot write manual pages to {}: {source}", dir.display())]
    Write {
        /// The directory.
        dir: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A page cannot be rendered.
    #[error("cannot make a manual page: {0}")]
    Make(#[source] io::Error),
}

/// Carries out a command. `loaded` are the settings, or the error of loading them.
///
/// # Errors
/// A message for the user.
pub fn perform(
    command: &HostCommand,
    loaded: Result<Loaded, String>,
    env: &Env,
) -> Result<Answer, HostError> {
    match command {
        HostCommand::Doctor { format, security: true } => {
            let report = doctor::examine_security(&loaded, env);
            let text = match format {
                ReportFormat::Text => report.security_text(),
                ReportFormat::Json => report.security_json(),
            };
            Ok(Answer { text, code: u8::from(!report.is_safe()) })
        }
        HostCommand::Doctor { format, security: false } => {
            let report = doctor::examine(loaded, env);
            let text = match format {
                ReportFormat::Text => report.text(),
                ReportFormat::Json => report.json(),
            };
            Ok(Answer { text, code: u8::from(!report.is_well()) })
        }
        HostCommand::Completions { shell } => {
            Ok(Answer { text: complete::script(*shell).to_owned(), code: 0 })
        }
        HostCommand::Complete { words } => {
            Ok(Answer { text: complete::candidates(&definition(), words), code: 0 })
        }
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
