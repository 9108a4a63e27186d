//! What can be wrong with a configuration, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::trust::Exposure;

/// Why there are no settings. Every text says where, and none holds a secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file is there but cannot be read, or one that was asked for is not there.
    #[error("cannot read configuration file {}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// Other users may change a file.
    #[error("refusing configuration file {}: {exposure}{remedy}", path.display())]
    ExposedFile {
        /// The file.
        path: PathBuf,
        /// How.
        exposure: Exposure,
        /// What else to do about it, as the end of the sentence.
        remedy: &'static str,
    },

    /// Other users may read a file with a token.
    #[error("refusing configuration file {}, which holds {setting}: {exposure}", path.display())]
    ExposedToken {
        /// The file.
        path: PathBuf,
        /// The setting.
        setting: &'static str,
        /// How.
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
        /// What was expected, and what was found unless that is a secret.
        problem: String,
    },

    /// A file that holds a secret cannot be read.
    #[error("cannot read secret file {}, {named_by}", path.display())]
    ReadSecret {
        /// The file.
        path: PathBuf,
        /// What led to it: "named by environment variable PROCSTAR_AGENT_TOKEN_FILE".
        named_by: String,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// Other users may read or change a file that holds a secret.
    #[error("refusing secret file {}, {named_by}: {exposure}", path.display())]
    ExposedSecret {
        /// The file.
        path: PathBuf,
        /// What led to it.
        named_by: String,
        /// How.
        exposure: Exposure,
    },

    /// A file that holds a secret holds none that can be used.
    #[error("secret file {}, {named_by}: {problem}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What led to it.
        named_by: String,
        /// What is wrong; never the content.
        problem: String,
    },

    /// The checked layers do not make settings: a defect of this program.
    #[error("cannot merge configuration layers")]
    Merge(#[from] config::ConfigError),
}

/// One error in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The key and what is wrong with it.
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
