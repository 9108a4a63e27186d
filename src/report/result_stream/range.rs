//! A range of a capture, read piece by piece.

use std::io;

use super::format::PIECE;
use crate::engine::{Capture, View};
use crate::report::fd_encoding::FdEncoding;
use crate::report::utf8::boundary;

/// A range of a capture.
#[derive(Clone)]
pub(super) struct CaptureRange {
    view: View,
    at: u64,
    end: u64,
}

impl CaptureRange {
    /// The bytes of a view from `at` to `end`.
    pub(super) fn range(view: View, at: u64, end: u64) -> Self {
        let end = end.min(view.len());
        CaptureRange { view, at: at.min(end), end }
    }

    /// All bytes of a view; no bytes if there is no view, because a user has removed a named file.
    pub(super) fn whole(view: io::Result<View>) -> Self {
        let view = view.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read captured output");
            View::empty()
        });
        let end = view.len();
        CaptureRange { view, at: 0, end }
    }

    /// The offset of its first byte in the capture.
    pub(super) fn start(&self) -> u64 {
        self.at
    }

    /// The number of remaining bytes.
    pub(super) fn len(&self) -> u64 {
        self.end - self.at
    }

    /// The next bytes; none at the end. If the process has truncated its file in the meantime, the
    /// missing bytes are zeros, like a hole, because the length has already been sent.
    pub(super) fn next<'b>(&mut self, buf: &'b mut [u8]) -> io::Result<&'b [u8]> {
        let room = (self.end - self.at).min(buf.len() as u64) as usize;
        let buf = buf.get_mut(..room).unwrap_or_default();
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = self.view.read_at(self.at + filled as u64, rest)?;
            if read == 0 {
                rest.fill(0);
                break;
            }
            filled += read;
        }
        self.at += room as u64;
        Ok(buf)
    }

    /// The last `most` bytes of a capture, as they were before any compression.
    pub(super) fn tail(capture: &Capture, most: u64) -> io::Result<Self> {
        let text = FdEncoding::of(capture.spec()) == FdEncoding::Text;
        let mut view = capture.view()?;
        let end = view.len();
        let at = end.saturating_sub(most);
        if !text || at == 0 || at == end {
            return Ok(CaptureRange { view, at, end });
        }
        let mut around = [0; 6];
        let from = at.saturating_sub(3);
        let room = (end - from).min(around.len() as u64) as usize;
        let read = view.read_at(from, around.get_mut(..room).unwrap_or_default())?;
        let (before, after) = around.split_at((at - from) as usize);
        let after = after.get(..read.saturating_sub(before.len()).min(3)).unwrap_or_default();
        let inside = boundary(before, after, false);
        Ok(CaptureRange { view, at: at + inside.map_or(0, |(_, rest)| rest as u64), end })
    }

    /// Skips a hole of the file that begins here. Returns its length.
    pub(super) fn skip_hole(&mut self) -> u64 {
        let zeros = self.view.zeros_at(self.at).min(self.end - self.at);
        self.at += zeros;
        zeros
    }

    /// Calls `each` with every piece up to the end.
    pub(super) fn for_each(mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buf = vec![0; PIECE];
        loop {
            match self.next(&mut buf)? {
                [] => return Ok(()),
                piece => each(piece),
            }
        }
    }
}
