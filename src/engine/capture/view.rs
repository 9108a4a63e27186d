//! A snapshot of a capture, to be read in pieces: later writes change neither its length nor its
//! bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::codec::Decoder;
use super::counters::Counters;
use super::holes::{Holes, Stretch};
use super::limits::{Kept, Limits};
use super::{Capture, CaptureSize, Held, Layout, Loss, intact};
use crate::spec::Compression;

/// Largest tail that a view of a running capture copies, because the writer soon overwrites it. In
/// a larger tail, bytes overwritten before they are read appear as zeros.
const COPIED: u64 = 1024 * 1024;
/// Attempts to copy a tail that the writer overwrites meanwhile.
const TRIES: u32 = 100;

/// The bytes of a capture at one moment.
#[derive(Clone)]
pub struct View {
    length: u64,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Empty,
    /// The bytes as they are in the file.
    Plain(Plain),
    /// Both ends of a stream.
    Limited {
        held: Arc<Held>,
        limits: Limits,
        kept: Kept,
        /// A copy of the tail; `None` if the tail is final or too large.
        tail: Option<Arc<[u8]>>,
        /// Whether the writer still writes.
        live: bool,
    },
    /// Bytes that are compressed in the file.
    Decoded {
        held: Arc<Held>,
        compression: Compression,
        stored: u64,
        decoder: Reading,
    },
}

/// The bytes of a file from `base` on.
#[derive(Clone)]
struct Plain {
    held: Arc<Held>,
    base: u64,
    holes: Holes,
}

impl Plain {
    fn kind(held: Arc<Held>, base: u64) -> Kind {
        Kind::Plain(Plain { held, base, holes: Holes::default() })
    }

    fn stretch(&mut self, offset: u64) -> Stretch {
        self.holes.at(self.held.data(), self.base + offset)
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match self.stretch(offset) {
            Stretch::Hole(length) => {
                let zeros = length.min(buf.len() as u64) as usize;
                buf.get_mut(..zeros).unwrap_or_default().fill(0);
                Ok(zeros)
            }
            Stretch::Data => read(self.held.data(), self.base + offset, buf),
        }
    }
}

/// The position of the decoder; a clone of a view starts from the beginning.
#[derive(Default)]
struct Reading(Option<Decoder>);

impl Clone for Reading {
    fn clone(&self) -> Self {
        Reading::default()
    }
}

impl View {
    /// A view of the captured bytes, uncompressed.
    ///
    /// # Errors
    /// The OS error of opening or reading a file.
    pub(super) fn of(capture: &Capture) -> io::Result<View> {
        if capture.layout() == Layout::Plain {
            return View::plain(capture);
        }
        let size = capture.size();
        let CaptureSize { length, stored, .. } = size;
        if size.loss.is_some() && capture.frozen().is_some() {
            return Err(intact::gone());
        }
        if length == 0 {
            return Ok(View::empty());
        }
        let Some(held) = capture.hold_existing()? else { return Ok(View::empty()) };
        let kind = match capture.layout() {
            Layout::Plain => Plain::kind(held, 0),
            Layout::Compressed(compression) => {
                Kind::Decoded { held, compression, stored, decoder: Reading::default() }
            }
            Layout::Limited(limits) => return View::limited(capture, held, limits),
        };
        Ok(View { length, kind })
    }

    /// A view of a file that holds the plain bytes.
    fn plain(capture: &Capture) -> io::Result<View> {
        let end = capture.frozen();
        match end {
            Some(CaptureSize { loss: Some(Loss::Gone), .. }) => return Err(intact::gone()),
            Some(CaptureSize { length: 0, .. }) => return Ok(View::empty()),
            _ if capture.path().as_os_str().is_empty() => return Ok(View::empty()),
            _ => {}
        }
        let Some(held) = capture.hold_existing()? else { return Ok(View::empty()) };
        // A single examination of a growing file yields both its length and the start of its bytes.
        let size = end.map_or_else(|| capture.size_of_held(&held), Ok)?;
        let kind = Plain::kind(held, capture.base(&size));
        Ok(View { length: size.length, kind })
    }

    /// A view of the stored bytes, compressed if the capture is.
    ///
    /// # Errors
    /// The OS error of opening the file.
    pub(super) fn stored(capture: &Capture) -> io::Result<View> {
        match capture.layout() {
            Layout::Compressed(_) => {
                let length = capture.size().stored;
                let held = if length == 0 { None } else { capture.hold_existing()? };
                let view = |held| View { length, kind: Plain::kind(held, 0) };
                Ok(held.map_or_else(View::empty, view))
            }
            _ => View::of(capture),
        }
    }

    /// A view of the stored bytes of a capture that has ended.
    pub(super) fn frozen(capture: &Capture, held: Arc<Held>) -> View {
        let end = capture.size();
        match capture.layout() {
            Layout::Plain => {
                View { length: end.length, kind: Plain::kind(held, capture.base(&end)) }
            }
            Layout::Compressed(_) => View { length: end.stored, kind: Plain::kind(held, 0) },
            Layout::Limited(limits) => {
                let kept = Kept::frozen(limits, end.length, end.dropped);
                let length = kept.length();
                let kind = Kind::Limited { held, limits, kept, tail: None, live: false };
                View { length, kind }
            }
        }
    }

    /// An empty view.
    pub fn empty() -> View {
        View { length: 0, kind: Kind::Empty }
    }

    fn limited(capture: &Capture, held: Arc<Held>, limits: Limits) -> io::Result<View> {
        let (mut kept, tail, live) = match capture.frozen() {
            Some(end) => (Kept::frozen(limits, end.length, end.dropped), None, false),
            None => {
                let (kept, tail) = copy_tail(&held, limits)?;
                (kept, tail, true)
            }
        };
        if let Some(tail) = &tail {
            kept.from = kept.to - tail.len() as u64;
        }
        let length = kept.length();
        Ok(View { length, kind: Kind::Limited { held, limits, kept, tail, live } })
    }

    /// The length of the view in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether the view is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The length of the hole in the file at `offset`: zeros that need not be read.
    pub fn zeros_at(&mut self, offset: u64) -> u64 {
        let left = self.length.saturating_sub(offset);
        match &mut self.kind {
            Kind::Plain(plain) if left > 0 => match plain.stretch(offset) {
                Stretch::Hole(length) => length.min(left),
                Stretch::Data => 0,
            },
            _ => 0,
        }
    }

    /// Reads from `offset` on into `buf`; returns the number of bytes, 0 at the end. Read forward:
    /// stepping back in compressed output decodes it from the start. 0 before the end means that
    /// the process has truncated its own file.
    ///
    /// # Errors
    /// The OS error of reading; damaged compressed output; a file that was changed after the end.
    pub fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let room = self.length.saturating_sub(offset).min(buf.len() as u64) as usize;
        let Some(buf) = buf.get_mut(..room).filter(|buf| !buf.is_empty()) else { return Ok(0) };
        let read = self.kind.read_at(offset, buf)?;
        if let Some(held) = self.kind.held() {
            held.check_unchanged()?;
        }
        Ok(read)
    }
}

impl Kind {
    fn held(&self) -> Option<&Held> {
        match self {
            Kind::Empty => None,
            Kind::Plain(plain) => Some(&plain.held),
            Kind::Limited { held, .. } | Kind::Decoded { held, .. } => Some(held),
        }
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Kind::Empty => Ok(0),
            Kind::Plain(plain) => plain.read(offset, buf),
            Kind::Limited { held, limits, kept, tail, live } => {
                if let Some(tail) = tail
                    && offset >= kept.head
                {
                    let at = (offset - kept.head) as usize;
                    let there = tail.get(at..at + buf.len()).unwrap_or_default();
                    buf.copy_from_slice(there);
                    return Ok(there.len());
                }
                let n = limits.read(held.data(), kept, offset, buf)?;
                if *live && offset >= kept.head {
                    blank_overwritten(held, *limits, kept, offset, buf)?;
                }
                Ok(n)
            }
            Kind::Decoded { held, compression, stored, decoder: Reading(decoder) } => {
                if decoder.as_ref().is_some_and(|decoder| decoder.at() > offset) {
                    *decoder = None;
                }
                let decoder = match decoder {
                    Some(decoder) => decoder,
                    None => decoder.insert(Decoder::new(*compression, Arc::clone(held), *stored)?),
                };
                decoder.skip_to(offset)?;
                decoder.read(buf)
            }
        }
    }
}

fn read(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read_at(buf, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Copies the tail of a stream that may still be written, unless it is large.
fn copy_tail(held: &Held, limits: Limits) -> io::Result<(Kept, Option<Arc<[u8]>>)> {
    let mut tries = 0;
    loop {
        let kept = limits.kept(&held.counters()?);
        let length = kept.to - kept.from;
        if length > COPIED {
            return Ok((kept, None));
        }
        let mut tail = vec![0; length as usize];
        let mut filled = 0;
        while let Some(rest) = tail.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled += limits.read(held.data(), &kept, kept.head + filled as u64, rest)?;
        }
        // Bytes that were overwritten during the copy do not count.
        let from = first_whole(limits, &kept, &held.counters()?);
        tries += 1;
        if from == kept.from || tries == TRIES {
            tail.drain(..(from - kept.from).min(length) as usize);
            return Ok((kept, Some(tail.into())));
        }
    }
}

/// The first offset whose bytes, read before these counters, are not overwritten.
fn first_whole(limits: Limits, kept: &Kept, after: &Counters) -> u64 {
    limits.whole_from(after).clamp(kept.from, kept.to)
}

/// Zeroes the bytes that were overwritten before they were read.
fn blank_overwritten(
    held: &Held,
    limits: Limits,
    kept: &Kept,
    offset: u64,
    buf: &mut [u8],
) -> io::Result<()> {
    let from = first_whole(limits, kept, &held.counters()?);
    let gone = from.saturating_sub(offset + kept.dropped()).min(buf.len() as u64) as usize;
    buf.get_mut(..gone).unwrap_or_default().fill(0);
    Ok(())
}
