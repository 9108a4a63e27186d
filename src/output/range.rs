//! A range of a capture's bytes, as captured at the time of the request.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::BLOCK;
use crate::engine::{Capture, Captures, View};
use crate::report::utf8::boundary;
use crate::spec::{Encoding, FdName};

/// The bytes, read in blocks.
pub struct OutputRange {
    /// None if the file cannot be opened: reading it is the error.
    view: Option<View>,
    captures: Arc<Captures>,
    fd: FdName,
    at: u64,
    end: u64,
}

impl OutputRange {
    /// Everything that `capture`, that of `fd`, holds in `view`.
    pub(super) fn new(
        captures: &Arc<Captures>,
        fd: FdName,
        capture: &Capture,
        view: Option<View>,
    ) -> OutputRange {
        let end = view.as_ref().map_or_else(|| capture.len(), View::len);
        OutputRange { view, captures: Arc::clone(captures), fd, at: 0, end }
    }

    /// The length, in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.at
    }

    /// Whether nothing is captured.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Narrows the range to a part of it.
    pub fn cut(&mut self, part: &Range<u64>) {
        let (from, end) = (self.at, self.end);
        self.at = (from + part.start).min(end);
        self.end = (from + part.end).clamp(self.at, end);
    }

    /// The largest part within `part` that splits no character; `growing` while more may be
    /// captured.
    ///
    /// # Errors
    /// The OS error of reading the capture.
    pub fn whole_chars(&self, part: Range<u64>, growing: bool) -> io::Result<Range<u64>> {
        let mut view = self.reopened()?;
        let mut torn_at = |at: u64| {
            let mut around = [0; 6];
            let from = at.saturating_sub(3);
            let room = (self.end - from).min(around.len() as u64) as usize;
            let around = around.get_mut(..room).unwrap_or_default();
            fill(&mut view, from, around)?;
            let (before, after) = around.split_at((at - from) as usize);
            Ok::<_, io::Error>(boundary(
                before,
                after.get(..after.len().min(3)).unwrap_or(after),
                growing,
            ))
        };
        let start = match part.start {
            0 => 0,
            start => start + torn_at(start)?.map_or(0, |(_, rest)| rest as u64),
        };
        let end = part.end - torn_at(part.end)?.map_or(0, |(back, _)| back as u64);
        Ok(start.min(end)..end)
    }

    /// The media type.
    pub fn content_type(&self) -> &'static str {
        match self.captures.get(self.fd).map(Capture::spec).and_then(|spec| spec.encoding) {
            Some(Encoding::Utf8) => "text/plain; charset=utf-8",
            None | Some(Encoding::Base64 | Encoding::Base2048) => "application/octet-stream",
        }
    }

    /// The first bytes, at most a block.
    ///
    /// # Errors
    /// The OS error of reading the capture.
    pub fn sample(&self) -> io::Result<Vec<u8>> {
        let mut sample = vec![0; self.len().min(BLOCK as u64) as usize];
        fill(&mut self.reopened()?, self.at, &mut sample)?;
        Ok(sample)
    }

    fn read(&mut self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        fill(self.view.as_mut().ok_or(io::ErrorKind::NotFound)?, at, buf)
    }

    /// The next bytes, at most a block; none after the last.
    ///
    /// # Errors
    /// The OS error of reading the capture.
    pub fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        let room = self.len().min(BLOCK as u64) as usize;
        if room == 0 {
            return Ok(None);
        }
        let mut block = BytesMut::zeroed(room);
        self.read(self.at, &mut block)?;
        self.at += room as u64;
        Ok(Some(block.freeze()))
    }

    /// A second view of the same bytes.
    fn reopened(&self) -> io::Result<View> {
        Ok(self.view.clone().ok_or(io::ErrorKind::NotFound)?)
    }
}

/// Reads captured bytes into `buf`. If the process has truncated its file meanwhile, the rest of
/// `buf` stays as it is: zeros, as in results and as in a hole of a file.
fn fill(view: &mut View, at: u64, buf: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let read = view.read_at(at + filled as u64, rest)?;
        if read == 0 {
            break;
        }
        filled += read;
    }
    Ok(())
}
