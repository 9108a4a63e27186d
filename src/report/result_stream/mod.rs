//! Results as streams: made while they are sent, so that a large capture is never in memory as a
//! whole.
//!
//! serde writes a result by its type, with a hole for each capture that is shown; the stream
//! encodes these from the captures themselves, a piece at a time. How much of a capture a result
//! shows is fixed when the stream is made. JSON needs no lengths beforehand; MessagePack does, so a
//! text's bytes are read twice for it.

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

/// How much of its captures a result shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputView {
    /// All, where the spec does not detach it.
    #[default]
    Inline,
    /// None: every capture is shown as one that is not attached.
    None,
    /// The last bytes of every capture, so many at most; a text is not cut within a character.
    Tail(u64),
}

/// A result, or some bytes around one, that is made while it is sent.
pub struct ResultStream {
    parts: VecDeque<Part>,
    buf: Vec<u8>,
}

impl ResultStream {
    /// A result.
    ///
    /// # Errors
    /// A capture cannot be read, and so its length in MessagePack cannot be counted.
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

    /// The present result in JSON, with as much of the captures as `view` says. A result that shows
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

    /// Captured bytes as they are: those from `from` to `to` of a view.
    pub fn raw(view: View, from: u64, to: u64) -> ResultStream {
        let range = CaptureRange::range(view, from, to);
        ResultStream { parts: VecDeque::from([Part::Raw(range)]), buf: Vec::new() }
    }

    /// The same with `prefix` before it.
    pub fn with_prefix(mut self, prefix: Vec<u8>) -> ResultStream {
        self.parts.push_front(Part::Bytes(prefix));
        self
    }

    /// Appends the next piece, some tens of kilobytes at most, to `out`. Gives false when it was
    /// the last.
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
