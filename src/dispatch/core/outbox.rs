//! Messages to be sent, in order. Those with results are made when there is room.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::mem::shrink::Shrink;
use crate::report::{AsOf, ProcessRecord, ResultContext, ResultFormat, ResultStream};
use crate::wire::outgoing;

/// The number of messages of a full outbox.
const MAX_QUEUED: usize = 64;
/// The bytes in ready messages of a full outbox; refused requests are the largest.
const MAX_QUEUED_BYTES: usize = 16 << 20;
/// The maximum size of captures that are encoded on this thread: for a larger message the bytes
/// must be scanned first, on another thread.
const AT_ONCE: u64 = 256 * 1024;

/// A message to be sent.
pub enum OutMessage {
    /// Encoded already.
    Ready(Bytes),
    /// A process's result.
    Result(Arc<ProcessRecord>, AsOf),
    /// A stream of a result or of captured bytes.
    Stream(ResultStream),
}

impl From<Vec<u8>> for OutMessage {
    fn from(message: Vec<u8>) -> Self {
        OutMessage::Ready(message.into())
    }
}

impl OutMessage {
    /// Its own bytes in memory, if they can be many.
    fn bytes(&self) -> usize {
        match self {
            OutMessage::Ready(message) => message.len(),
            OutMessage::Result(..) | OutMessage::Stream(_) => 0,
        }
    }

    /// Makes the body, on another thread if that may take long.
    ///
    /// # Errors
    /// The captures cannot be read. Only this message is lost.
    pub async fn make(self, context: Arc<ResultContext>) -> io::Result<Body> {
        match self {
            OutMessage::Ready(bytes) => Ok(Body::Bytes(bytes)),
            OutMessage::Stream(stream) => Ok(Body::Stream(stream)),
            OutMessage::Result(record, as_of) if is_large(&record) => {
                let make = move || result(&record, as_of, &context);
                let made = actix_rt::task::spawn_blocking(make).await;
                Ok(Body::Stream(made.unwrap_or_else(|error| Err(io::Error::other(error)))?))
            }
            OutMessage::Result(record, as_of) => {
                Ok(Body::Stream(result(&record, as_of, &context)?))
            }
        }
    }
}

/// The body of a message, as a transport sends it.
pub enum Body {
    /// As they are.
    Bytes(Bytes),
    /// To be read in blocks.
    Stream(ResultStream),
}

fn is_large(record: &ProcessRecord) -> bool {
    record
        .captures
        .iter()
        .filter_map(|(_, capture)| capture)
        .any(|capture| capture.spec().attached && capture.len() > AT_ONCE)
}

fn result(
    record: &ProcessRecord,
    as_of: AsOf,
    context: &ResultContext,
) -> io::Result<ResultStream> {
    let prefix = outgoing::proc_result_prefix(record.id.as_str());
    Ok(ResultStream::new(record, as_of, context, ResultFormat::MessagePack)?.with_prefix(prefix))
}

/// The waiting messages.
#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<OutMessage>,
    /// The bytes in ready messages.
    bytes: usize,
}

impl Outbox {
    /// Appends a message.
    pub fn push(&mut self, message: impl Into<OutMessage>) {
        let message = message.into();
        self.bytes += message.bytes();
        self.queue.push_back(message);
    }

    /// Takes the first message.
    pub fn pop(&mut self) -> Option<OutMessage> {
        let message = self.queue.pop_front()?;
        self.queue.shrink_if_sparse();
        self.bytes -= message.bytes();
        Some(message)
    }

    /// The number of waiting messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the transport must send before more is added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queue.len() >= MAX_QUEUED || self.bytes >= MAX_QUEUED_BYTES
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
