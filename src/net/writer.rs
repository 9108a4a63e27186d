//! The writing half of a connection: outgoing items to masked frames, to bytes.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{
    activity::Activity,
    frames::{FrameBuf, Opcode, close_payload},
    inbound::SocketError,
    outbound::{CloseFrame, ControlFrame, OutboundRx, Outgoing, Payload},
};

/// Size that a message's first fragments reach before they go out, in bytes.
const FRAGMENT: usize = 64 << 10;

/// After this number of fragments of one message, the next ones are twice as large. Python's
/// `websockets` accepts at most 4,096 fragments for a message: this way, they hold 7 GiB.
const FRAGMENTS_PER_SIZE: u32 = 512;

/// Why the writer stopped without an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WriteEnd {
    /// A Close frame is sent and flushed.
    Closed,
    /// Every handle of the owner is gone.
    Dropped,
}

/// The writer of one connection.
pub(super) struct Writer<W> {
    io: W,
    outbound: OutboundRx,
    activity: Activity,
    frame: FrameBuf,
    /// The source of mask keys: scripts in a browser must not be able to predict them.
    rng: fastrand::Rng,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(io: W, outbound: OutboundRx, activity: Activity) -> Self {
        Self { io, outbound, activity, frame: FrameBuf::new(), rng: fastrand::Rng::new() }
    }

    /// Sends the owner's items, until a Close or an error.
    pub(super) async fn run(&mut self) -> Result<WriteEnd, SocketError> {
        while let Some(next) = self.outbound.next().await {
            let closed = match next {
                Outgoing::Data(payload) => self.message(payload).await?,
                Outgoing::Control(frame) => self.control(frame).await?,
            };
            if closed {
                return Ok(WriteEnd::Closed);
            }
        }
        Ok(WriteEnd::Dropped)
    }

    /// Sends one message, in as many frames as it needs. True if a Close interrupted it, so that
    /// the rest is not sent.
    async fn message(&mut self, mut payload: Box<dyn Payload>) -> Result<bool, SocketError> {
        let mut opcode = Opcode::Binary;
        let mut sent = 0u32;
        while self.fill(payload.as_mut(), fragment_size(sent))? {
            self.send(opcode, false).await?;
            opcode = Opcode::Continuation;
            sent = sent.saturating_add(1);
            while let Some(frame) = self.outbound.try_control() {
                if self.control(frame).await? {
                    return Ok(true);
                }
            }
            // A fast peer never makes a write wait; the other tasks of this thread run here.
            tokio::task::yield_now().await;
        }
        self.send(opcode, true).await?;
        self.frame.trim();
        Ok(false)
    }

    /// Collects pieces up to a fragment's size. False if this completes the message.
    fn fill(&mut self, payload: &mut dyn Payload, size: usize) -> Result<bool, SocketError> {
        self.frame.begin();
        while self.frame.payload_len() < size {
            if !payload.fill(self.frame.append()).map_err(SocketError::Payload)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends a control frame. True for a Close.
    async fn control(&mut self, frame: ControlFrame) -> Result<bool, SocketError> {
        let (opcode, payload) = match frame {
            ControlFrame::Ping(payload) => (Opcode::Ping, payload),
            ControlFrame::Pong(payload) => (Opcode::Pong, payload),
            ControlFrame::Close(CloseFrame { code, reason }) => {
                (Opcode::Close, close_payload(code, &reason).into())
            }
        };
        self.frame.begin().extend_from_slice(&payload);
        self.send(opcode, true).await?;
        Ok(opcode == Opcode::Close)
    }

    /// Sends the frame whose payload is in the buffer.
    async fn send(&mut self, opcode: Opcode, fin: bool) -> Result<(), SocketError> {
        let key = self.rng.u32(..).to_ne_bytes();
        let mut left = self.frame.seal(opcode, fin, key);
        while !left.is_empty() {
            let written = self.io.write(left).await.map_err(SocketError::Write)?;
            if written == 0 {
                return Err(SocketError::Write(io::ErrorKind::WriteZero.into()));
            }
            self.activity.touch_write();
            left = left.get(written..).unwrap_or_default();
        }
        self.io.flush().await.map_err(SocketError::Write)
    }
}

/// The size of a message's next fragment after `sent` others, in bytes.
fn fragment_size(sent: u32) -> usize {
    FRAGMENT << (sent / FRAGMENTS_PER_SIZE).min(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_of_a_message_stay_below_what_websockets_takes() {
        for (size, most) in [(32u64 << 20, 512), (100 << 20, 1600), (7 << 30, 4096)] {
            let (mut total, mut fragments) = (0, 0);
            while total < size {
                total += fragment_size(fragments) as u64;
                fragments += 1;
            }
            assert!(fragments <= most, "{fragments} fragments for {size} bytes");
        }
        assert_eq!(fragment_size(0), 64 << 10);
        assert!(fragment_size(511) <= 64 << 10, "large frames are for large messages only");
        assert!(fragment_size(u32::MAX) <= 8 << 20, "one frame is all that is held");
    }
}
