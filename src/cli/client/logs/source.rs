//! Captured bytes in their order, read as a stream.

use bytes::Bytes;

use super::plan::Chunk;
use crate::cli::client::api::Api;
use crate::cli::client::error::ClientError;
use crate::cli::client::persist::{PATIENCE, Persistence, Repeat};
use crate::cli::client::transport::Answer;

/// A stream for each fd, requested when its first chunk is needed.
pub(super) struct Sources<'a> {
    api: &'a Api,
    id: &'a str,
    fds: &'a [String],
    each: Vec<Source>,
}

#[derive(Default)]
struct Source {
    /// The begin and end of the bytes still to come; `None` if the fd has none.
    range: Option<(u64, u64)>,
    /// The response with these bytes, once requested.
    answer: Option<Answer>,
    rest: Bytes,
}

impl<'a> Sources<'a> {
    /// The streams of chunks that follow each other without a gap in each fd.
    pub(super) fn new(api: &'a Api, id: &'a str, fds: &'a [String], chunks: &[Chunk]) -> Self {
        let source = |at: usize| {
            let mut own = chunks.iter().filter(|chunk| chunk.fd == at);
            let range = own.next().map(|first| {
                let last = own.next_back().unwrap_or(first);
                (first.offset, last.offset + last.length)
            });
            Source { range, ..Source::default() }
        };
        Sources { api, id, fds, each: (0..fds.len()).map(source).collect() }
    }

    /// The next bytes of an fd, at most `most`; empty at its end.
    pub(super) async fn next(&mut self, fd: usize, most: u64) -> Result<Bytes, ClientError> {
        let (Some(source), Some(name)) = (self.each.get_mut(fd), self.fds.get(fd)) else {
            return Ok(Bytes::new());
        };
        let mut attempts = Persistence::new(Repeat::Safe, PATIENCE);
        while source.rest.is_empty() {
            let Some((from, end)) = source.range else { break };
            if source.answer.is_none() {
                source.answer = self.api.data(self.id, name, from, end).await?;
            }
            let Some(answer) = &mut source.answer else { break };
            match answer.chunk().await {
                Ok(Some(bytes)) => {
                    source.range = Some((from + bytes.len() as u64, end));
                    source.rest = bytes;
                }
                Ok(None) => source.range = None,
                // The worker has gone; the next one serves the rest.
                Err(error) => {
                    source.answer = None;
                    attempts.pause(error, true).await?;
                }
            }
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(source.rest.len());
        Ok(source.rest.split_to(most))
    }
}
