//! Results as streams, generated while they are sent, so that a large capture is never completely
//! in memory.
//!
//! serde serializes a result by its type, with a hole for each capture. The stream reads and
//! encodes the captures piece by piece. The range of each capture is fixed when the stream is
//! created. JSON needs no lengths in advance. MessagePack does, so for MessagePack the stream reads
//! text twice.

mod contents;
mod encoding;
mod format;
mod part;
mod range;
mod template;

use std::collections::VecDeque;
use std::io;

use contents::FdContents;
use format::PIECE;
pub use format::ResultFormat;
use part::Part;
use range::CaptureRange;

use super::context::ResultContext;
use super::record::{AsOf, ProcessRecord};
use crate::engine::View;

/// How much captured output a result contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputView {
    /// All output that the spec does not detach.
    #[default]
    Inline,
    /// None, as if the spec detached all captures.
    None,
    /// At most this many last bytes of each capture. Text begins with a whole character.
    Tail(u64),
}

/// A result, or bytes around one, generated while it is sent.
pub struct ResultStream {
    parts: VecDeque<Part>,
    buf: Vec<u8>,
}

impl ResultStream {
    /// A result.
    ///
    /// # Errors
    /// A capture cannot be read, so its length in MessagePack is unknown.
    pub fn new(
        record: &ProcessRecord,
        as_of: AsOf,
        context: &ResultContext,
        format: ResultFormat,
    ) -> io::Result<ResultStream> {
        let contents = FdContents::new(format, context.max_inline()).inline(record, as_of)?;
        let parts = template::write(record, as_of, context, contents, format)?;
        Ok(ResultStream { parts, buf: Vec::new() })
    }

    /// The present result in JSON, with captured output according to `view`. A result that shows
    /// their last bytes has one key more, `offsets`: by fd, where in the capture these begin.
    ///
    /// # Errors
    /// A capture cannot be read.
    pub fn json(
        record: &ProcessRecord,
        context: &ResultContext,
        view: OutputView,
    ) -> io::Result<ResultStream> {
        let contents = FdContents::new(ResultFormat::Json, context.max_inline());
        let contents = match view {
            OutputView::Inline => contents.inline(record, AsOf::Now)?,
            OutputView::None => contents.detached(record),
            OutputView::Tail(most) => contents.tails(record, most),
        };
        let parts = template::write(record, AsOf::Now, context, contents, ResultFormat::Json)?;
        Ok(ResultStream { parts, buf: Vec::new() })
    }

    /// The captured bytes from `from` to `to` of a view, unencoded.
    pub fn raw(view: View, from: u64, to: u64) -> ResultStream {
        let range = CaptureRange::range(view, from, to);
        ResultStream { parts: VecDeque::from([Part::Raw(range)]), buf: Vec::new() }
    }

    /// The same stream after `prefix`.
    pub fn with_prefix(mut self, prefix: Vec<u8>) -> ResultStream {
        self.parts.push_front(Part::Bytes(prefix));
        self
    }

    /// Appends the next piece, some tens of kilobytes at most, to `out`. Returns false after
    /// the last one.
    ///
    /// # Errors
    /// The OS error of reading a capture.
    pub fn fill(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let enough = out.len() + PIECE;
        while out.len() < enough {
            let Some(part) = self.parts.front_mut() else { return Ok(false) };
            if part.fill(&mut self.buf, out)? {
                self.parts.pop_front();
            }
        }
        Ok(!self.parts.is_empty())
    }
}
