//! A capture's bytes as a body.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::blocks::Blocks;
use crate::engine::{Capture, Captures, View};
use crate::spec::{Encoding, FdName};

/// How many bytes go into one block.
const BLOCK: usize = 32 * 1024;

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
            let view = self.view.as_mut().ok_or(io::ErrorKind::NotFound)?;
            let read = view.read_at(self.at + filled as u64, rest)?;
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
