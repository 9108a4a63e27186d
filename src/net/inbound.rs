//! The events of a connection for its owner: the scheduler's messages, and the end of the
//! connection.

use std::{io, time::Duration};

use bytes::Bytes;
use thiserror::Error;

use super::frames::FrameError;

/// An event from a scheduler.
#[derive(Debug)]
pub enum Inbound {
    /// A whole binary message. (Text messages, which the protocol does not have, are ignored.)
    Message(Bytes),
    /// A ping. The connection answers it by itself.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// The server closed the connection, or answered our Close. Its Close was answered, and TCP is
    /// closed.
    Close {
        /// The status code, if there was one.
        code: Option<u16>,
        /// The reason, often empty.
        reason: String,
    },
    /// The connection ended in another way.
    Lost(SocketError),
}

/// How a connection ended without the scheduler's Close frame.
#[derive(Debug, Error)]
pub enum SocketError {
    /// TCP or TLS ended.
    #[error("connection ended without a close frame")]
    Eof,
    /// The system, or TLS, failed to read.
    #[error("failed to read from the scheduler")]
    Read(#[source] io::Error),
    /// The system, or TLS, failed to write.
    #[error("failed to write to the scheduler")]
    Write(#[source] io::Error),
    /// The scheduler violated the protocol, or our limit; we sent it a Close frame with the reason.
    #[error("scheduler broke the websocket protocol: {0}{setting}", setting = setting(.0))]
    Protocol(#[source] FrameError),
    /// A message of ours could not be completed.
    #[error("failed to complete a message to the scheduler")]
    Payload(#[source] io::Error),
    /// We closed, and the scheduler did not answer in time.
    #[error("scheduler did not answer the close frame within {0:?}")]
    CloseTimeout(Duration),
    /// The owner called [`Outbound::abort`](super::outbound::Outbound::abort).
    #[error("connection aborted")]
    Aborted,
}

/// The setting that an error concerns.
fn setting(error: &FrameError) -> &'static str {
    match error {
        FrameError::TooLarge { .. } => " (agent.max_message)",
        _ => "",
    }
}
