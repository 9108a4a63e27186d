//! Bodies that are made block by block, while they are sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use futures_util::Stream;

/// After so many bytes a body lets the other connections of its thread have their turn. The connection alone would go on as
/// long as the client takes what comes, until tokio interrupts it after some megabytes.
const TURN: usize = 256 * 1024;

/// Makes a body.
pub(super) trait Blocks: Unpin {
    /// The next block, not empty and some tens of kilobytes long; none after the last.
    ///
    /// # Errors
    /// What makes the rest of the body impossible; the connection is then cut, so that the client notices.
    fn next_block(&mut self) -> io::Result<Option<Bytes>>;
}

/// The body that something makes, as a stream.
pub(super) struct BlockStream<B> {
    blocks: B,
    /// Bytes since others had their turn.
    given: usize,
}

impl<B> BlockStream<B> {
    pub(super) fn new(blocks: B) -> Self {
        BlockStream { blocks, given: 0 }
    }
}

impl<B: Blocks> Stream for BlockStream<B> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.given >= TURN {
            self.given = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let block = self.blocks.next_block();
        if let Ok(Some(block)) = &block {
            self.given += block.len();
        }
        Poll::Ready(block.transpose())
    }
}

/// The body of an answer to `HEAD`: of the length that `GET` would give, and nothing of it is made.
pub(super) struct Unsent(pub(super) BodySize);

impl MessageBody for Unsent {
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

    /// Blocks of 64 KiB, then an error or the end.
    struct Countdown(usize, bool);

    impl Blocks for Countdown {
        fn next_block(&mut self) -> io::Result<Option<Bytes>> {
            match self.0.checked_sub(1) {
                Some(left) => {
                    self.0 = left;
                    Ok(Some(Bytes::from(vec![1; 64 * 1024])))
                }
                None if self.1 => Err(io::ErrorKind::Other.into()),
                None => Ok(None),
            }
        }
    }

    #[actix::test]
    async fn others_have_their_turn() {
        let mut stream = BlockStream::new(Countdown(9, false));
        let (mut blocks, mut turns) = (0, 0);
        let woken = futures_util::task::noop_waker_ref();
        loop {
            match stream.poll_next_unpin(&mut Context::from_waker(woken)) {
                Poll::Ready(Some(block)) => blocks += block.map(|_| 1).unwrap(),
                Poll::Ready(None) => break,
                Poll::Pending => turns += 1,
            }
        }
        assert_eq!((blocks, turns), (9, 2));
        // It wakes itself: nobody else would.
        assert_eq!(BlockStream::new(Countdown(100, false)).count().await, 100);
    }

    #[actix::test]
    async fn an_error_ends_the_body() {
        let all: Vec<_> = BlockStream::new(Countdown(2, true)).take(3).collect().await;
        assert_eq!(all.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    }
}
