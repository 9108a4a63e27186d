//! One WebSocket connection, from the upgrade on: a [`Link`] for its owner, and one task that reads
//! and writes.
//!
//! Reader and writer are two futures of that task over the two halves of the stream. When either
//! ends the connection, both halves are dropped, which closes TCP; only then the owner receives the
//! last item of `inbound`. Dropping `inbound` (with the whole `Link`, or alone) ends the task at
//! once, without a Close frame; dropping every [`Outbound`] ends it after the queued messages.
//!
//! Memory: one message under assembly (up to [`SocketLimits::max_message`]), `inbound_queue` whole
//! ones, one read buffer, one frame buffer. The reader stops reading while the queue is full, and
//! TCP slows the scheduler down.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::timeout,
};

use super::{
    activity::Activity,
    decoder::Decoder,
    inbound::{Inbound, SocketError},
    outbound::{Control, Outbound, OutboundRx, outbound},
    reader::{ReadEnd, Reader},
    writer::{WriteEnd, Writer},
};

/// The limits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketLimits {
    /// Maximum size of a message from the scheduler, in bytes.
    pub max_message: u64,
    /// Maximum number of received messages that wait for the owner.
    pub inbound_queue: usize,
    /// Maximum number of the owner's messages that wait for the writer.
    pub outbound_queue: usize,
    /// Timeout of sending a last Close frame, once the connection is ending anyway.
    pub last_word: Duration,
    /// Timeout of the scheduler's answer to our Close.
    pub close_answer: Duration,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            max_message: 1 << 30,
            inbound_queue: 4,
            outbound_queue: 4,
            last_word: Duration::from_secs(1),
            close_answer: Duration::from_secs(10),
        }
    }
}

/// A connection to a server, as its owner holds it.
#[derive(Debug)]
pub struct Link {
    /// The scheduler's events. [`Inbound::Close`] or [`Inbound::Lost`] is the last item, and TCP is
    /// closed by then.
    pub inbound: mpsc::Receiver<Inbound>,
    /// The messages to the scheduler.
    pub outbound: Outbound,
    /// The times of the last bytes in either direction.
    pub activity: Activity,
}

/// Runs a WebSocket connection on `stream`, after its upgrade; `early` are the bytes that were read
/// from it already. Must be called in an actix runtime or a tokio `LocalSet`.
pub fn start<S>(stream: S, early: Bytes, limits: SocketLimits) -> Link
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (inbound_tx, inbound) = mpsc::channel(limits.inbound_queue.max(1));
    let (outbound, outbound_rx) = outbound(limits.outbound_queue);
    let activity = Activity::new();
    let task = Task {
        limits,
        inbound: inbound_tx,
        control: outbound.control(),
        activity: activity.clone(),
    };
    actix_rt::spawn(task.run(stream, early, outbound_rx));
    Link { inbound, outbound, activity }
}

/// The parts of the connection's task besides the stream.
struct Task {
    limits: SocketLimits,
    inbound: mpsc::Sender<Inbound>,
    control: Rc<Control>,
    activity: Activity,
}

impl Task {
    async fn run<S>(self, stream: S, early: Bytes, outbound: OutboundRx)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (read, write) = tokio::io::split(stream);
        let mut reader = Reader {
            io: read,
            decoder: Decoder::new(self.limits.max_message),
            inbound: self.inbound.clone(),
            control: Rc::clone(&self.control),
            activity: self.activity.clone(),
        };
        let mut writer = Writer::new(write, outbound, self.activity.clone());
        let last = tokio::select! {
            biased;
            () = self.inbound.closed() => None,
            () = self.control.aborted() => Some(Inbound::Lost(SocketError::Aborted)),
            last = self.converse(&mut reader, early, &mut writer) => last,
        };
        // TCP is closed before the owner receives the last item, which may take long.
        drop((reader, writer));
        if let Some(last) = last {
            // An owner that is gone needs no last item.
            let _ = self.inbound.send(last).await;
        }
    }

    /// Runs both directions until the connection is over; returns the last item for the owner.
    async fn converse<R, W>(
        &self,
        reader: &mut Reader<R>,
        early: Bytes,
        writer: &mut Writer<W>,
    ) -> Option<Inbound>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (read, write) = (reader.run(early), writer.run());
        tokio::pin!(read, write);
        tokio::select! {
            end = &mut read => {
                let code = match &end {
                    ReadEnd::Close { code, .. } => Some(*code),
                    ReadEnd::Lost(SocketError::Protocol(err)) => Some(Some(err.close_code())),
                    _ => None,
                };
                if let Some(code) = code {
                    self.control.last_word(code);
                    // The next steps are the same if it was not sent.
                    let _ = timeout(self.limits.last_word, write).await;
                }
                last_message(end)
            }
            end = &mut write => match end {
                Ok(WriteEnd::Dropped) => None,
                Ok(WriteEnd::Closed) => match timeout(self.limits.close_answer, read).await {
                    Ok(end) => last_message(end),
                    Err(_) => {
                        Some(Inbound::Lost(SocketError::CloseTimeout(self.limits.close_answer)))
                    }
                },
                // The scheduler may have sent a reason before it closed the connection: that reason
                // says more.
                Err(SocketError::Write(err)) => match timeout(self.limits.last_word, read).await {
                    Ok(end @ ReadEnd::Close { .. }) => last_message(end),
                    _ => Some(Inbound::Lost(SocketError::Write(err))),
                },
                Err(err) => Some(Inbound::Lost(err)),
            },
        }
    }
}

/// The message about an end; `None` if nobody receives it.
fn last_message(end: ReadEnd) -> Option<Inbound> {
    match end {
        ReadEnd::Close { code, reason } => Some(Inbound::Close { code, reason }),
        ReadEnd::Lost(err) => Some(Inbound::Lost(err)),
        ReadEnd::Dropped => None,
    }
}
