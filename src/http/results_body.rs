//! The body `{"data": {"procs": {ID: RESULT, ...}}}`, one result after another.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::body_stream::BodySource;
use crate::actors::messages::Cursor;
use crate::report::{OutputView, ProcessRecord, ResultContext, ResultStream};

/// Minimum length of a block, except the last one: small results share a block.
const BLOCK: usize = 16 * 1024;

/// The source of the body. Every result describes the moment at which its turn comes.
pub(super) struct ResultsBody {
    procs: std::vec::IntoIter<Arc<ProcessRecord>>,
    context: Arc<ResultContext>,
    output: OutputView,
    /// For a page, the position of the next one; `None` within if it is the last.
    page: Option<Option<Cursor>>,
    /// The result in progress.
    stream: Option<ResultStream>,
    /// The text before the next result.
    before: &'static [u8],
    ended: bool,
}

impl ResultsBody {
    /// The results of these processes, in their order; the IDs must be unique.
    pub(super) fn new(
        procs: Vec<Arc<ProcessRecord>>,
        context: Arc<ResultContext>,
        output: OutputView,
    ) -> ResultsBody {
        ResultsBody {
            procs: procs.into_iter(),
            context,
            output,
            page: None,
            stream: None,
            before: br#"{"data":{"procs":{"#,
            ended: false,
        }
    }

    /// Adds to the body that this is a page, and the position of the next one.
    pub(super) fn page(self, next: Option<Cursor>) -> ResultsBody {
        ResultsBody { page: Some(next), ..self }
    }

    /// Whether the body is complete.
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }

    /// Begins the next result, or ends the body.
    fn begin(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(record) = self.procs.next() else {
            // Without any process, the beginning has not been written yet.
            if self.before != b"," {
                out.extend_from_slice(self.before);
            }
            match self.page {
                None => out.extend_from_slice(b"}}}"),
                Some(None) => out.extend_from_slice(br#"},"next":null}}"#),
                Some(Some(next)) => {
                    out.extend_from_slice(format!(r#"}},"next":"{next}"}}}}"#).as_bytes());
                }
            }
            self.ended = true;
            return Ok(());
        };
        out.extend_from_slice(std::mem::replace(&mut self.before, b","));
        serde_json::to_writer(&mut *out, &record.id)?;
        out.push(b':');
        self.stream = Some(ResultStream::json(&record, &self.context, self.output)?);
        Ok(())
    }
}

impl BodySource for ResultsBody {
    fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        let mut out = Vec::new();
        while out.len() < BLOCK && !self.ended {
            match &mut self.stream {
                Some(stream) => {
                    if !stream.fill(&mut out)? {
                        self.stream = None;
                    }
                }
                None => self.begin(&mut out)?,
            }
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }
}
