//! Bodies that are created block by block, while they are sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use futures_util::Stream;
use tokio::task::yield_now;

/// After this number of bytes, a body yields to the other connections of its thread. A connection
/// alone would continue as long as the client reads, until tokio interrupts it after some
/// megabytes.
///
/// It yields by [`yield_now`]: a stream that merely woke itself would be polled some sixty times
/// more before tokio looks for new connections.
const TURN: usize = 64 * 1024;

/// The source of a body.
pub(super) trait BodySource: Unpin {
    /// The next block, some tens of kilobytes long; `None` after the last. An empty block means
    /// that work was done without output so far.
    ///
    /// # Errors
    /// The rest of the body cannot be created; the connection is then cut, so that the client
    /// notices.
    fn next_block(&mut self) -> io::Result<Option<Bytes>>;
}

/// A body's source, as a stream.
pub(super) struct BodyStream<B> {
    blocks: B,
    /// Number of bytes since it last yielded.
    given: usize,
    /// The yield, until it is over.
    turn: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<B> BodyStream<B> {
    pub(super) fn new(blocks: B) -> Self {
        BodyStream { blocks, given: 0, turn: None }
    }
}

impl<B: BodySource> Stream for BodyStream<B> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.given >= TURN {
            self.given = 0;
            self.turn = Some(Box::pin(yield_now()));
        }
        loop {
            if let Some(turn) = &mut self.turn {
                ready!(turn.as_mut().poll(cx));
                self.turn = None;
            }
            match self.blocks.next_block() {
                // The connection would take an empty block for the end.
                Ok(Some(block)) if block.is_empty() => self.turn = Some(Box::pin(yield_now())),
                block => {
                    if let Err(error) = &block {
                        tracing::error!(%error, "cannot make the rest of an answer: cutting it off");
                    }
                    self.given +=
                        block.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len);
                    return Poll::Ready(block.transpose());
                }
            }
        }
    }
}

/// The body of an answer to `HEAD`: it has the length of the answer to `GET`, and is never created.
pub(super) struct HeadBody(pub(super) BodySize);

impl MessageBody for HeadBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, io::Error>>> {
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    /// Blocks of 32 KiB, then an error or the end.
    struct Countdown(usize, bool);

    impl BodySource for Countdown {
        fn next_block(&mut self) -> io::Result<Option<Bytes>> {
            match self.0.checked_sub(1) {
                Some(left) => {
                    self.0 = left;
                    Ok(Some(Bytes::from(vec![1; 32 * 1024])))
                }
                None if self.1 => Err(io::ErrorKind::Other.into()),
                None => Ok(None),
            }
        }
    }

    #[actix::test]
    async fn others_have_their_turn() {
        let mut stream = BodyStream::new(Countdown(9, false));
        let (mut blocks, mut turns) = (0, 0);
        let woken = futures_util::task::noop_waker_ref();
        loop {
            match stream.poll_next_unpin(&mut Context::from_waker(woken)) {
                Poll::Ready(Some(block)) => blocks += block.map(|_| 1).unwrap(),
                Poll::Ready(None) => break,
                Poll::Pending => turns += 1,
            }
        }
        assert_eq!((blocks, turns), (9, 4));
        // Nothing else would wake it again.
        assert_eq!(BodyStream::new(Countdown(100, false)).count().await, 100);
    }

    #[actix::test]
    async fn an_error_ends_the_body() {
        let all: Vec<_> = BodyStream::new(Countdown(2, true)).take(3).collect().await;
        assert_eq!(all.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    }
}
