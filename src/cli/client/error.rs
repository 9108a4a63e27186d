//! Why a command did not do what was asked.

use std::io;

use crate::cli::printing::CLOSED_PIPE;

/// Why, with its place, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// What is asked makes no sense; nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// There is no instance to ask, or no telling which.
    #[error("{0}")]
    Nowhere(String),
    /// An instance cannot be reached.
    #[error("cannot reach procstar at {place}: {reason}")]
    Unreachable {
        /// Its socket or URL.
        place: String,
        /// Why not.
        reason: String,
    },
    /// The connection broke off within an answer.
    #[error("lost the connection to procstar at {place}: {reason}")]
    Lost {
        /// Its socket or URL.
        place: String,
        /// Why.
        reason: String,
    },
    /// The instance has refused; one text for each thing that is wrong.
    #[error("{}", .details.join("\nprocstar: "))]
    Refused {
        /// The answer's status.
        status: u16,
        /// What is wrong.
        details: Vec<String>,
    },
    /// The answer is not what was asked for: something else listens there.
    #[error("unexpected response from {place}: {reason}; check that it is procstar 2.0 or later")]
    Nonsense {
        /// The socket or URL.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A command's own failure, told in its words.
    #[error("{0}")]
    Failed(String),
    /// A file of the command line cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The answer cannot be written.
    #[error("cannot write to standard output: {0}")]
    Write(io::Error),
    /// Nobody reads the answer any more: there is nothing to say, and nobody to say it to.
    #[error("standard output is closed")]
    Unread,
}

impl ClientError {
    /// The exit code that tells of it.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Usage(_) | ClientError::Read { .. } => 2,
            ClientError::Unread => CLOSED_PIPE,
            _ => 1,
        }
    }
}
