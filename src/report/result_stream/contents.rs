//! What a result shows of each fd: the captured bytes, or their number alone.

use std::borrow::Cow;
use std::io;

use indexmap::IndexMap;

use super::encoding;
use super::format::{LONGEST, ResultFormat};
use super::range::CaptureRange;
use crate::engine::{Capture, View};
use crate::report::body::FdResult;
use crate::report::fd_encoding::FdEncoding;
use crate::report::record::{AsOf, ProcessRecord};
use crate::spec::{Compression, FdName};

/// What a result shows of a captured fd.
pub(super) struct FdContent {
    encoding: FdEncoding,
    /// Of inline data that is shown as it is stored.
    compression: Option<Compression>,
    shown: Shown,
}

enum Shown {
    /// The length alone.
    Detached(u64),
    /// These bytes, with the length of the string that shows them, if the format needs to know it.
    Inline(CaptureRange, u32),
}

/// Captured bytes that a result contains.
pub(super) struct Inline {
    pub(super) encoding: FdEncoding,
    pub(super) range: CaptureRange,
    /// The length of the string that shows them, if the format needs to know it.
    pub(super) length: u32,
}

impl FdContent {
    fn detached(capture: &Capture, length: u64) -> FdContent {
        let encoding = FdEncoding::of(capture.spec());
        FdContent { encoding, compression: None, shown: Shown::Detached(length) }
    }

    /// As the result has it, with `hole` in place of captured bytes, and these bytes.
    pub(super) fn into_result<T>(self, hole: impl FnOnce() -> T) -> (FdResult<T>, Option<Inline>) {
        let FdContent { encoding, compression, shown } = self;
        let name = Cow::Borrowed(encoding.name());
        let (range, length) = match shown {
            Shown::Detached(length) => {
                return (FdResult::Detached { length, encoding: name }, None);
            }
            Shown::Inline(range, length) => (range, length),
        };
        let result = match encoding {
            FdEncoding::Text => FdResult::Text { text: hole(), encoding: name },
            FdEncoding::Base64 | FdEncoding::Base2048 => {
                FdResult::Data { data: hole(), encoding: name, compression }
            }
        };
        (result, Some(Inline { encoding, range, length }))
    }
}

/// What a result shows of all fds, and its notices about them.
pub(super) struct FdContents {
    /// None for an fd that is not captured.
    pub(super) fds: Vec<(FdName, Option<FdContent>)>,
    /// Which output is left out of the result, and why.
    pub(super) notices: Vec<String>,
    /// By fd, where in its capture the shown bytes begin; only if the result shall say so.
    pub(super) offsets: Option<IndexMap<String, u64>>,
    /// How many captured bytes still fit into the result.
    room: u64,
    most: u64,
    format: ResultFormat,
}

impl FdContents {
    pub(super) fn new(format: ResultFormat, most: u64) -> FdContents {
        let (fds, notices) = (Vec::new(), Vec::new());
        FdContents { fds, notices, offsets: None, room: most, most, format }
    }

    /// The captures inline, but for those that are detached, or too large.
    ///
    /// # Errors
    /// A capture cannot be read, and so the length of its text cannot be counted.
    pub(super) fn inline(mut self, record: &ProcessRecord, as_of: AsOf) -> io::Result<FdContents> {
        let nothing = as_of == AsOf::AtStart && record.is_running();
        for (fd, capture) in record.captures.iter() {
            let content = match capture {
                None => None,
                Some(capture) if !capture.spec().attached => {
                    let length = if nothing { 0 } else { capture.len() };
                    Some(FdContent::detached(capture, length))
                }
                Some(capture) => Some(self.fit(fd, capture, nothing)?),
            };
            self.fds.push((fd, content));
        }
        Ok(self)
    }

    /// A capture inline if it fits; else detached, with a notice.
    fn fit(&mut self, fd: FdName, capture: &Capture, nothing: bool) -> io::Result<FdContent> {
        let encoding = FdEncoding::of(capture.spec());
        let is_text = encoding == FdEncoding::Text;
        // Text is shown as it was written; data as it is stored.
        let compression = capture.spec().compress.filter(|_| !is_text);
        let range = CaptureRange::whole(match (nothing, is_text) {
            (true, _) => Ok(View::empty()),
            (false, true) => capture.view(),
            (false, false) => capture.stored(),
        });
        let bytes = range.len();
        if bytes <= self.room {
            let encoded = match self.format {
                ResultFormat::Json => Some(0),
                ResultFormat::MessagePack => encoding::length(encoding, &range)?,
            };
            if let Some(encoded) = encoded {
                self.room -= bytes;
                let shown = Shown::Inline(range, encoded);
                return Ok(FdContent { encoding, compression, shown });
            }
        }
        let most = self.most.min(LONGEST);
        self.notices.push(format!(
            "the output of {fd}, {bytes} bytes, is detached: one result contains at most {most} bytes of output \
             (capture.max_inline); read it by range"
        ));
        Ok(FdContent::detached(capture, capture.len()))
    }

    /// The length of every capture alone.
    pub(super) fn detached(mut self, record: &ProcessRecord) -> FdContents {
        self.fds.extend(record.captures.iter().map(|(fd, capture)| {
            (fd, capture.map(|capture| FdContent::detached(capture, capture.len())))
        }));
        self
    }

    /// The last bytes of every capture, at most `most` of each, and where they begin.
    pub(super) fn tails(mut self, record: &ProcessRecord, most: u64) -> FdContents {
        let mut offsets = IndexMap::new();
        for (fd, capture) in record.captures.iter() {
            let content = capture.map(|capture| {
                // One that cannot be read must not take the others with it.
                let range = CaptureRange::tail(capture, most.min(self.room))
                    .unwrap_or_else(|error| CaptureRange::whole(Err(error)));
                self.room -= range.len();
                offsets.insert(fd.to_string(), range.start());
                let encoding = FdEncoding::of(capture.spec());
                FdContent { encoding, compression: None, shown: Shown::Inline(range, 0) }
            });
            self.fds.push((fd, content));
        }
        self.offsets = Some(offsets);
        self
    }
}
