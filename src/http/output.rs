//! A capture's bytes as a body.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::blocks::Blocks;
use crate::engine::{Capture, Captures};
use crate::spec::{Encoding, FdName};

/// How many bytes go into one block.
const BLOCK: usize = 32 * 1024;

/// Makes the body: what was captured when it was asked for, as it was captured.
pub(super) struct Output {
    /// Keeps the file open, so that its bytes outlast the process's deletion; none where there are none to read.
    _held: Option<Arc<std::fs::File>>,
    captures: Arc<Captures>,
    fd: FdName,
    at: u64,
    end: u64,
}

impl Output {
    /// What is captured of `fd` so far; none where it is not captured.
    pub(super) fn new(captures: &Arc<Captures>, fd: FdName) -> Option<Output> {
        let capture = captures.get(fd)?;
        let end = capture.len();
        let held = if end > 0 { capture.hold().ok() } else { None };
        Some(Output { _held: held, captures: Arc::clone(captures), fd, at: 0, end })
    }

    /// The length of the body, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// The type of the body.
    pub(super) fn content_type(&self) -> &'static str {
        match self.captures.get(self.fd).map(Capture::spec).and_then(|spec| spec.encoding) {
            Some(Encoding::Utf8) => "text/plain; charset=utf-8",
            None | Some(Encoding::Base64 | Encoding::Base2048) => "application/octet-stream",
        }
    }
}

impl Blocks for Output {
    fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        let room = (self.end - self.at).min(BLOCK as u64) as usize;
        if room == 0 {
            return Ok(None);
        }
        let mut block = BytesMut::zeroed(room);
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = match self.captures.get(self.fd) {
                Some(capture) => capture.read_at(self.at + filled as u64, rest)?,
                None => 0,
            };
            if read == 0 {
                // The process has shortened its file since its length was told; as in results, and as a hole in a
                // file would, the rest reads as zeros.
                break;
            }
            filled += read;
        }
        self.at += room as u64;
        Ok(Some(block.freeze()))
    }
}
