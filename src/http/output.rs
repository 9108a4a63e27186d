//! A capture's bytes as a body.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::body_stream::BodySource;
use crate::engine::{Capture, Captures, View};
use crate::output::BLOCK;
use crate::report::utf8::boundary;
use crate::spec::{Encoding, FdName};

/// Makes the body: what was captured when it was asked for, as it was captured.
pub(super) struct Output {
    /// None where the file cannot be opened, which shows when the body is made.
    view: Option<View>,
    captures: Arc<Captures>,
    fd: FdName,
    at: u64,
    end: u64,
}

impl Output {
    /// What is captured of `fd` so far; none where it is not captured.
    pub(super) fn new(captures: &Arc<Captures>, fd: FdName) -> Option<Output> {
        let capture = captures.get(fd)?;
        let view = capture.view().ok();
        let end = view.as_ref().map_or_else(|| capture.len(), View::len);
        Some(Output { view, captures: Arc::clone(captures), fd, at: 0, end })
    }

    /// The length of the body, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.end - self.at
    }

    /// Keeps only these of the bytes.
    pub(super) fn cut(&mut self, part: &Range<u64>) {
        let (from, end) = (self.at, self.end);
        self.at = (from + part.start).min(end);
        self.end = (from + part.end).clamp(self.at, end);
    }

    /// The nearest part within `part` that tears no character; `growing` while more may be captured.
    ///
    /// # Errors
    /// The OS error of reading the capture.
    pub(super) fn whole_chars(&self, part: Range<u64>, growing: bool) -> io::Result<Range<u64>> {
        let mut view = self.look()?;
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

    /// The type of the body.
    pub(super) fn content_type(&self) -> &'static str {
        match self.captures.get(self.fd).map(Capture::spec).and_then(|spec| spec.encoding) {
            Some(Encoding::Utf8) => "text/plain; charset=utf-8",
            None | Some(Encoding::Base64 | Encoding::Base2048) => "application/octet-stream",
        }
    }

    /// The first bytes of the body, no more than a block.
    ///
    /// # Errors
    /// The OS error of reading the capture.
    pub(super) fn sample(&self) -> io::Result<Vec<u8>> {
        let mut sample = vec![0; self.len().min(BLOCK as u64) as usize];
        fill(&mut self.look()?, self.at, &mut sample)?;
        Ok(sample)
    }

    /// Reads captured bytes into all of `buf`; see [`fill`].
    fn read(&mut self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        fill(self.view.as_mut().ok_or(io::ErrorKind::NotFound)?, at, buf)
    }

    /// Another look at the same bytes.
    fn look(&self) -> io::Result<View> {
        Ok(self.view.clone().ok_or(io::ErrorKind::NotFound)?)
    }
}

/// Reads captured bytes. Where the process has shortened its file since its length was told, the rest is left as it is:
/// as in results, and as a hole in a file would, it reads as zeros.
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

impl BodySource for Output {
    fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        let room = self.len().min(BLOCK as u64) as usize;
        if room == 0 {
            return Ok(None);
        }
        let mut block = BytesMut::zeroed(room);
        self.read(self.at, &mut block)?;
        self.at += room as u64;
        Ok(Some(block.freeze()))
    }
}
