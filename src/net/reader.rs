//! The reading half of a connection: bytes to events, no faster than the owner takes them.

use std::{io, rc::Rc};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc::{self, error::TrySendError},
};

use super::{
    activity::Activity,
    decoder::{Decoder, Event},
    inbound::{Inbound, SocketError},
    outbound::Control,
};

/// Number of bytes of one read.
const READ: usize = 64 << 10;

/// Why the reader stopped.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// The server sent a Close frame.
    Close { code: Option<u16>, reason: String },
    /// The connection ended or broke, or the server broke the protocol.
    Lost(SocketError),
    /// The owner has dropped its end.
    Dropped,
}

/// The reader of one connection.
pub(super) struct Reader<R> {
    pub(super) io: R,
    pub(super) decoder: Decoder,
    pub(super) inbound: mpsc::Sender<Inbound>,
    pub(super) control: Rc<Control>,
    pub(super) activity: Activity,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads until the connection ends; `early` is what came together with the upgrade's answer.
    pub(super) async fn run(&mut self, early: Bytes) -> ReadEnd {
        if let Some(end) = self.consume(&early).await {
            return end;
        }
        drop(early);
        let mut buf = vec![0; READ];
        loop {
            let count = match self.io.read(&mut buf).await {
                Ok(0) => return ReadEnd::Lost(SocketError::Eof),
                Ok(count) => count,
                // TLS without its closing alert counts as a plain end.
                Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => {
                    return ReadEnd::Lost(SocketError::Eof);
                }
                Err(err) => return ReadEnd::Lost(SocketError::Read(err)),
            };
            self.activity.touch();
            if let Some(end) = self.consume(buf.get(..count).unwrap_or_default()).await {
                return end;
            }
        }
    }

    /// Decodes the bytes and passes the events on. While the owner has no room, waits and reads
    /// nothing.
    async fn consume(&mut self, mut input: &[u8]) -> Option<ReadEnd> {
        loop {
            let event = match self.decoder.next_event(&mut input) {
                Ok(Some(event)) => event,
                Ok(None) => return None,
                Err(err) => return Some(ReadEnd::Lost(SocketError::Protocol(err))),
            };
            let inbound = match event {
                Event::Binary(data) => Inbound::Message(data),
                Event::Text(data) => {
                    tracing::debug!(bytes = data.len(), "ignoring a text message of the scheduler");
                    continue;
                }
                Event::Ping(payload) => {
                    self.control.answer_ping(payload.clone());
                    Inbound::Ping(payload)
                }
                Event::Pong(payload) => Inbound::Pong(payload),
                Event::Close { code, reason } => return Some(ReadEnd::Close { code, reason }),
            };
            if !self.deliver(inbound).await {
                return Some(ReadEnd::Dropped);
            }
        }
    }

    /// Passes an event on; false when the owner is gone.
    async fn deliver(&mut self, inbound: Inbound) -> bool {
        match self.inbound.try_send(inbound) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(inbound)) => {
                let delivered = self.inbound.send(inbound).await.is_ok();
                self.activity.touch();
                delivered
            }
        }
    }
}
