//! Errors of client commands.

use std::io;

use crate::cli::printing::{CLOSED_PIPE, unwritten_remedy};

/// An error, with its place and a remedy.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An invalid request; nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// No instance was found, or several.
    #[error("{0}")]
    Nowhere(String),
    /// An instance cannot be reached.
    #[error("cannot reach procstar at {place}: {reason}")]
    Unreachable {
        /// Its socket or URL.
        place: String,
        /// The reason.
        reason: String,
    },
    /// The connection broke within a response.
    #[error("lost the connection to procstar at {place}: {reason}")]
    Lost {
        /// Its socket or URL.
        place: String,
        /// The reason.
        reason: String,
    },
    /// The instance refused the request; one text for each error.
    #[error("{}", .details.join("\nprocstar: "))]
    Refused {
        /// The response's status.
        status: u16,
        /// The errors.
        details: Vec<String>,
    },
    /// An unexpected response: something else listens there.
    #[error("unexpected response from {place}: {reason}; check that it is procstar 2.0 or later")]
    Nonsense {
        /// The socket or URL.
        place: String,
        /// The fault.
        reason: String,
    },
    /// A command's own failure, in its own words.
    #[error("{0}")]
    Failed(String),
    /// A file of the command line cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write to standard output: {0}; {remedy}", remedy = unwritten_remedy(.0))]
    Write(io::Error),
    /// Nobody reads the output any more, so no message is printed either.
    #[error("standard output is closed")]
    Unread,
}

impl ClientError {
    /// The exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Usage(_) | ClientError::Read { .. } => 2,
            ClientError::Unread => CLOSED_PIPE,
            _ => 1,
        }
    }
}
