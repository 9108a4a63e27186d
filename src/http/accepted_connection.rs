//! A connection and its peer. It fails if its peer does not authenticate in time (see
//! `unauthenticated`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use super::guard::Peer;

/// A connection. It fails after its probation, unless its peer has authenticated.
pub(super) struct AcceptedConnection<S> {
    stream: S,
    peer: Peer,
    /// Expires with the probation.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> AcceptedConnection<S> {
    pub(super) fn new(stream: S, peer: Peer) -> AcceptedConnection<S> {
        let timer = peer.probation().map(|probation| Box::pin(sleep_until(probation.until)));
        AcceptedConnection { stream, peer, timer }
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the probation has expired.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let (Some(timer), Some(probation)) = (&mut self.timer, self.peer.probation()) else {
            return false;
        };
        if probation.is_over() {
            self.timer = None;
            return false;
        }
        let overdue = timer.as_mut().poll(cx).is_ready();
        if overdue {
            probation.expire();
            self.timer = None;
        }
        overdue
    }

    /// The result of a poll of the stream; an error instead of pending, once it is overdue.
    fn in_time<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_pending() && self.is_overdue(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AcceptedConnection<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.in_time(polled, cx)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AcceptedConnection<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.in_time(polled, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.in_time(polled, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.in_time(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
