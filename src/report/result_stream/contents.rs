//! The content of captures in a result: the captured bytes, or only their number.

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

/// The content of a capture in a result.
pub(super) struct FdContent {
    encoding: FdEncoding,
    /// The compression of inline data that is sent as it is stored.
    compression: Option<Compression>,
    shown: Shown,
}

enum Shown {
    /// Only the length.
    Detached(u64),
    /// These bytes, and the length of their string if the format needs it.
    Inline(CaptureRange, u32),
}

/// Captured bytes that a result contains.
pub(super) struct Inline {
    pub(super) encoding: FdEncoding,
    pub(super) range: CaptureRange,
    /// The length of their string, if the format needs it.
    pub(super) length: u32,
}

impl FdContent {
    fn detached(capture: &Capture, length: u64) -> FdContent {
        let encoding = FdEncoding::of(capture.spec());
        FdContent { encoding, compression: None, shown: Shown::Detached(length) }
    }

    /// The entry for the result, with `hole` instead of captured bytes, and these bytes.
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

/// The content of all captures in a result, with notices.
pub(super) struct FdContents {
    /// By fd; `None` for an fd that is not captured.
    pub(super) fds: Vec<(FdName, Option<FdContent>)>,
    /// The output that is omitted from the result, and the reasons.
    pub(super) notices: Vec<String>,
    /// By fd, the offset of the first byte in the capture; only if the result shall contain
    /// offsets.
    pub(super) offsets: Option<IndexMap<String, u64>>,
    /// The number of captured bytes that still fit into the result.
    room: u64,
    most: u64,
    format: ResultFormat,
}

impl FdContents {
    pub(super) fn new(format: ResultFormat, most: u64) -> FdContents {
        let (fds, notices) = (Vec::new(), Vec::new());
        FdContents { fds, notices, offsets: None, room: most, most, format }
    }

    /// Adds the captures inline, except those that are detached or too large.
    ///
    /// # Errors
    /// A capture cannot be read, so the length of its text is unknown.
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

    /// Adds a capture inline if it fits, or else detached with a notice.
    fn fit(&mut self, fd: FdName, capture: &Capture, nothing: bool) -> io::Result<FdContent> {
        let encoding = FdEncoding::of(capture.spec());
        let is_text = encoding == FdEncoding::Text;
        // Text is decompressed. Data is sent as it is stored.
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

    /// Adds only the lengths of the captures.
    pub(super) fn detached(mut self, record: &ProcessRecord) -> FdContents {
        self.fds.extend(record.captures.iter().map(|(fd, capture)| {
            (fd, capture.map(|capture| FdContent::detached(capture, capture.len())))
        }));
        self
    }

    /// Adds the last bytes of each capture, at most `most`, and their offset.
    pub(super) fn tails(mut self, record: &ProcessRecord, most: u64) -> FdContents {
        let mut offsets = IndexMap::new();
        for (fd, capture) in record.captures.iter() {
            let content = capture.map(|capture| {
                // If one cannot be read, the others are still shown.
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
