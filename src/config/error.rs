//! Errors of a configuration, with their places.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::error_chain::chain;
use crate::trust::Exposure;

/// An error of the configuration. Every text names the place, and none holds a secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file exists but cannot be read, or an explicitly named one is missing.
    #[error("cannot read configuration file {}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },

    /// Other users may change a file.
    #[error("refusing configuration file {}: {exposure}{remedy}", path.display())]
    ExposedFile {
        /// The file.
        path: PathBuf,
        /// The kind of access.
        exposure: Exposure,
        /// Another remedy, as the end of the sentence.
        remedy: &'static str,
    },

    /// Other users may read a file with a token.
    #[error("refusing configuration file {}, which holds {setting}: {exposure}", path.display())]
    ExposedToken {
        /// The file.
        path: PathBuf,
        /// The setting.
        setting: &'static str,
        /// The kind of access.
        exposure: Exposure,
    },

    /// A file has errors: all of them, in the order of their places.
    #[error("{}", list(path, problems))]
    File {
        /// The file.
        path: PathBuf,
        /// Its errors; not empty.
        problems: Vec<Problem>,
    },

    /// An environment variable's value does not suit the setting.
    #[error("environment variable {name}: {problem}")]
    Variable {
        /// The variable.
        name: String,
        /// The expected value, and the one found unless that is a secret.
        problem: String,
    },

    /// A file that holds a secret cannot be read.
    #[error("cannot read secret file {}, {named_by}", path.display())]
    ReadSecret {
        /// The file.
        path: PathBuf,
        /// Its origin: "named by environment variable PROCSTAR_AGENT_TOKEN_FILE".
        named_by: String,
        /// The reason.
        #[source]
        source: io::Error,
    },

    /// Other users may read or change a file that holds a secret.
    #[error("refusing secret file {}, {named_by}: {exposure}", path.display())]
    ExposedSecret {
        /// The file.
        path: PathBuf,
        /// Its origin.
        named_by: String,
        /// The kind of access.
        exposure: Exposure,
    },

    /// A secret's file has no usable content.
    #[error("secret file {}, {named_by}: {problem}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// Its origin.
        named_by: String,
        /// The fault; never the content.
        problem: String,
    },

    /// Errors of several files or variables: at least two.
    #[error("{}", lines(.0))]
    Several(Vec<ConfigError>),

    /// The checked layers do not make settings: a bug of this program.
    #[error("cannot merge configuration layers")]
    Merge(#[from] config::ConfigError),
}

impl From<Vec<ConfigError>> for ConfigError {
    fn from(mut errors: Vec<ConfigError>) -> Self {
        match errors.pop() {
            Some(error) if errors.is_empty() => error,
            last => {
                errors.extend(last);
                ConfigError::Several(errors)
            }
        }
    }
}

fn lines(errors: &[ConfigError]) -> String {
    let lines: Vec<String> = errors.iter().map(|error| chain(error)).collect();
    lines.join("\n")
}

/// One error in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The key and its fault.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

fn list(path: &std::path::Path, problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(|p| format!("{}:{p}", path.display())).collect();
    lines.join("\n")
}
