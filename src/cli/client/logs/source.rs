//! Captured bytes in their order, read as a stream.

use bytes::Bytes;

use super::plan::Piece;
use crate::cli::client::api::Api;
use crate::cli::client::error::ClientError;
use crate::cli::client::transport::Answer;

/// A stream for each fd, asked for when its first piece is wanted.
pub(super) struct Sources<'a> {
    api: &'a Api,
    id: &'a str,
    fds: &'a [String],
    each: Vec<Source>,
}

#[derive(Default)]
struct Source {
    /// Where the stream begins and ends; none once it is asked for.
    range: Option<(u64, u64)>,
    answer: Option<Answer>,
    rest: Bytes,
}

impl<'a> Sources<'a> {
    /// Those of pieces that follow each other without a gap in each fd.
    pub(super) fn new(api: &'a Api, id: &'a str, fds: &'a [String], pieces: &[Piece]) -> Self {
        let source = |at: usize| {
            let mut own = pieces.iter().filter(|piece| piece.fd == at);
            let range = own.next().map(|first| {
                let last = own.next_back().unwrap_or(first);
                (first.offset, last.offset + last.length)
            });
            Source { range, ..Source::default() }
        };
        Sources { api, id, fds, each: (0..fds.len()).map(source).collect() }
    }

    /// The next bytes of an fd, `most` of them; none at its end.
    pub(super) async fn next(&mut self, fd: usize, most: u64) -> Result<Bytes, ClientError> {
        let (Some(source), Some(name)) = (self.each.get_mut(fd), self.fds.get(fd)) else {
            return Ok(Bytes::new());
        };
        if let Some((from, end)) = source.range.take() {
            source.answer = self.api.data(self.id, name, from, end).await?;
        }
        if source.rest.is_empty()
            && let Some(answer) = &mut source.answer
        {
            source.rest = answer.chunk().await?.unwrap_or_default();
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(source.rest.len());
        Ok(source.rest.split_to(most))
    }
}
