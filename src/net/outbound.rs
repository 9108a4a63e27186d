//! The frames that the owner of a connection sends: a bounded queue of messages, and beside it one
//! slot each for ping, pong and Close, so that these never wait behind data and never pile up.
//!
//! [`OutboundRx`] is the other end, which returns everything in the order in which it has to be
//! sent. Its user is the writer, or a test in its place.

use std::{cell::Cell, io, rc::Rc};

use bytes::{Buf, Bytes};
use tokio::sync::{Notify, mpsc};

use super::frames::MAX_CONTROL;

/// A piece of a message held in memory, in bytes.
const PIECE: usize = 64 << 10;

/// One message, created piece by piece while it is being sent, so that a large one is never in
/// memory as a whole.
pub trait Payload {
    /// Appends the next piece, of about 16 to 64 KiB, to `out`, and does not change the existing
    /// bytes. `Ok(false)` means that this was the last piece.
    ///
    /// # Errors
    /// The message cannot be completed. Half of it may have been sent already, so the connection is
    /// then dropped.
    fn fill(&mut self, out: &mut Vec<u8>) -> io::Result<bool>;
}

/// A message that is in memory. A `Vec<u8>` becomes one without copying: `Bytes::from(vec)`.
impl Payload for Bytes {
    fn fill(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        out.extend_from_slice(&self.split_to(self.len().min(PIECE)));
        Ok(self.has_remaining())
    }
}

/// The next item to send.
pub enum Outgoing {
    /// A binary message.
    Data(Box<dyn Payload>),
    /// A frame that may stand between the fragments of a message.
    Control(ControlFrame),
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data(_) => f.write_str("Data(..)"),
            Self::Control(frame) => f.debug_tuple("Control").field(frame).finish(),
        }
    }
}

/// A control frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlFrame {
    /// A ping with this payload.
    Ping(Bytes),
    /// A pong with this payload.
    Pong(Bytes),
    /// A Close frame; nothing follows it.
    Close(CloseFrame),
}

/// The content of a Close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The status code; `None` sends a frame without code and reason.
    pub code: Option<u16>,
    /// The reason; cut to 123 bytes when sent.
    pub reason: String,
}

/// The owner's end. Clones send to the same connection, which ends when the last one is dropped.
#[derive(Clone)]
pub struct Outbound {
    /// Messages, sent in this order. The queue is short: waiting for room in it means waiting for
    /// the scheduler to accept the queued ones.
    pub data: mpsc::Sender<Box<dyn Payload>>,
    control: Rc<Control>,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").field("room", &self.data.capacity()).finish_non_exhaustive()
    }
}

/// The two ends of a new outbound path whose queue holds `queue` messages (at least one).
#[must_use]
pub fn outbound(queue: usize) -> (Outbound, OutboundRx) {
    let (data, rx) = mpsc::channel(queue.max(1));
    let control = Rc::new(Control::default());
    (Outbound { data, control: Rc::clone(&control) }, OutboundRx { data: rx, control })
}

impl Outbound {
    /// Sends a ping, before all data; of several unsent pings, only the last. The payload is cut to
    /// 125 bytes.
    pub fn ping(&self, payload: Bytes) {
        self.control.set(&self.control.ping, fit(payload));
    }

    /// Sends a pong, as [`ping`](Self::ping) does. The reader answers the scheduler's pings itself:
    /// this is for additional pongs.
    pub fn pong(&self, payload: Bytes) {
        self.control.set(&self.control.pong, fit(payload));
    }

    /// Sends a Close frame after everything that is queued; messages queued later are refused.
    pub fn close(&self, code: Option<u16>, reason: impl Into<String>) {
        self.control.set(&self.control.close, CloseFrame { code, reason: reason.into() });
    }

    /// Closes TCP at once. Queued messages are lost.
    pub fn abort(&self) {
        self.control.aborted.set(true);
        self.control.abort.notify_one();
    }

    pub(super) fn control(&self) -> Rc<Control> {
        Rc::clone(&self.control)
    }
}

fn fit(mut payload: Bytes) -> Bytes {
    payload.truncate(MAX_CONTROL);
    payload
}

/// The slots beside the queue. One for each kind, because only the newest of each needs to be sent.
#[derive(Default)]
pub(super) struct Control {
    ping: Cell<Option<Bytes>>,
    pong: Cell<Option<Bytes>>,
    /// Ends the connection at once, even between two fragments of a message: the answer to a
    /// scheduler's Close, or to its violation of the protocol.
    last_word: Cell<Option<CloseFrame>>,
    /// Ends the connection after the queued messages.
    close: Cell<Option<CloseFrame>>,
    /// Wakes the writer. Its permit is kept while the writer is busy, so no wake-up is lost.
    changed: Notify,
    aborted: Cell<bool>,
    abort: Notify,
}

impl Control {
    fn set<T>(&self, slot: &Cell<Option<T>>, value: T) {
        slot.set(Some(value));
        self.changed.notify_one();
    }

    /// Answers a ping.
    pub(super) fn answer_ping(&self, payload: Bytes) {
        self.set(&self.pong, payload);
    }

    /// Sends a Close frame before anything else, even inside a message.
    pub(super) fn last_word(&self, code: Option<u16>) {
        self.set(&self.last_word, CloseFrame { code, reason: String::new() });
    }

    /// Resolves once the owner has called [`Outbound::abort`].
    pub(super) async fn aborted(&self) {
        while !self.aborted.get() {
            self.abort.notified().await;
        }
    }

    fn next(&self) -> Option<ControlFrame> {
        let close = self.last_word.take().map(ControlFrame::Close);
        close
            .or_else(|| self.pong.take().map(ControlFrame::Pong))
            .or_else(|| self.ping.take().map(ControlFrame::Ping))
    }

    fn is_closing(&self) -> Option<CloseFrame> {
        let close = self.close.take();
        self.close.set(close.clone());
        close
    }
}

/// The writer's end.
pub struct OutboundRx {
    data: mpsc::Receiver<Box<dyn Payload>>,
    control: Rc<Control>,
}

impl std::fmt::Debug for OutboundRx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboundRx").field("queued", &self.data.len()).finish_non_exhaustive()
    }
}

impl OutboundRx {
    /// Waits for the next item to send; `None` once every [`Outbound`] is dropped and the queue is
    /// empty. Nothing follows a Close. Dropping the future early loses nothing.
    pub async fn next(&mut self) -> Option<Outgoing> {
        loop {
            if let Some(control) = self.try_control() {
                return Some(Outgoing::Control(control));
            }
            if let Some(close) = self.control.is_closing() {
                self.data.close();
                let data = self.data.try_recv().ok().map(Outgoing::Data);
                return Some(data.unwrap_or(Outgoing::Control(ControlFrame::Close(close))));
            }
            tokio::select! {
                biased;
                () = self.control.changed.notified() => {}
                data = self.data.recv() => return data.map(Outgoing::Data),
            }
        }
    }

    /// A control frame to send between two fragments of a message, if there is any.
    pub fn try_control(&self) -> Option<ControlFrame> {
        self.control.next()
    }

    /// Whether the owner has called [`Outbound::abort`].
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.control.aborted.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(data: &'static [u8]) -> Box<dyn Payload> {
        Box::new(Bytes::from_static(data))
    }

    /// All items, until a Close or the end.
    async fn drain(rx: &mut OutboundRx) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(next) = rx.next().await {
            let close = matches!(next, Outgoing::Control(ControlFrame::Close(_)));
            all.push(match next {
                Outgoing::Data(mut payload) => {
                    let mut out = Vec::new();
                    while payload.fill(&mut out).unwrap() {}
                    format!("data {}", String::from_utf8(out).unwrap())
                }
                Outgoing::Control(ControlFrame::Ping(payload)) => format!("ping {payload:?}"),
                Outgoing::Control(ControlFrame::Pong(payload)) => format!("pong {payload:?}"),
                Outgoing::Control(ControlFrame::Close(close)) => {
                    format!("close {:?} {}", close.code, close.reason)
                }
            });
            if close {
                break;
            }
        }
        all
    }

    #[tokio::test]
    async fn control_overtakes_data_and_close_does_not() {
        let (out, mut rx) = outbound(4);
        out.data.try_send(message(b"one")).unwrap();
        out.close(Some(1000), "done");
        out.data.try_send(message(b"two")).unwrap();
        out.ping("old".into());
        out.ping("new".into());
        out.pong("p".into());
        let expected =
            ["pong b\"p\"", "ping b\"new\"", "data one", "data two", "close Some(1000) done"];
        assert_eq!(drain(&mut rx).await, expected);
        assert!(out.data.try_send(message(b"three")).is_err(), "nothing is queued after a close");
    }

    #[tokio::test]
    async fn the_last_word_goes_before_everything() {
        let (out, mut rx) = outbound(4);
        out.data.try_send(message(b"one")).unwrap();
        out.ping("p".into());
        out.control().last_word(Some(1001));
        assert_eq!(drain(&mut rx).await, ["close Some(1001) "]);
    }

    #[tokio::test]
    async fn what_is_queued_is_kept_when_the_owner_goes() {
        let (out, mut rx) = outbound(4);
        out.data.try_send(message(b"one")).unwrap();
        out.clone().ping("p".into());
        drop(out);
        assert_eq!(drain(&mut rx).await, ["ping b\"p\"", "data one"]);
        assert!(rx.next().await.is_none());
    }

    #[test]
    fn a_message_in_memory_comes_in_pieces() {
        let data: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let mut payload = Bytes::from(data.clone());
        let (mut out, mut pieces, mut more) = (b"before".to_vec(), 0, true);
        while more {
            let len = out.len();
            more = payload.fill(&mut out).unwrap();
            assert!(out.len() - len <= PIECE);
            pieces += 1;
        }
        assert_eq!(pieces, 4);
        assert_eq!(out[6..], data);
        assert!(!Bytes::new().fill(&mut out).unwrap(), "an empty message is one empty piece");
    }
}
