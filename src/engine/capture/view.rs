//! What a capture holds at one moment, to be read in pieces: neither its length nor its bytes change, whatever is written
//! meanwhile.

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

/// A tail up to this size is copied when a view of a running capture is made, for it is overwritten soon. Of a larger one, what
/// has been overwritten by the time it is read reads as zeros.
const COPIED: u64 = 1024 * 1024;
/// How often a tail is copied anew that has been overwritten meanwhile.
const TRIES: u32 = 100;

/// Bytes of a capture as of one moment.
#[derive(Clone)]
pub struct View {
    length: u64,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Empty,
    /// As they are in the file.
    Plain(Plain),
    /// Both ends of a stream.
    Limited {
        held: Arc<Held>,
        limits: Limits,
        kept: Kept,
        /// The tail, where it was copied; none where nothing overwrites it any more, or where it is large.
        tail: Option<Arc<[u8]>>,
        /// Whether more is written.
        live: bool,
    },
    /// Compressed in the file.
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

/// Where compressed output is being read; a copy of a view begins anew.
#[derive(Default)]
struct Reading(Option<Decoder>);

impl Clone for Reading {
    fn clone(&self) -> Self {
        Reading::default()
    }
}

impl View {
    /// A view of what is captured, uncompressed.
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
        let Some(held) = capture.hold_if_there()? else { return Ok(View::empty()) };
        let kind = match capture.layout() {
            Layout::Plain => Plain::kind(held, 0),
            Layout::Compressed(compression) => {
                Kind::Decoded { held, compression, stored, decoder: Reading::default() }
            }
            Layout::Limited(limits) => return View::limited(capture, held, limits),
        };
        Ok(View { length, kind })
    }

    /// A view of a file that is the capture.
    fn plain(capture: &Capture) -> io::Result<View> {
        let end = capture.frozen();
        match end {
            Some(CaptureSize { loss: Some(Loss::Gone), .. }) => return Err(intact::gone()),
            Some(CaptureSize { length: 0, .. }) => return Ok(View::empty()),
            _ if capture.path().as_os_str().is_empty() => return Ok(View::empty()),
            _ => {}
        }
        let Some(held) = capture.hold_if_there()? else { return Ok(View::empty()) };
        // As of now where it grows: the same look tells where the bytes begin.
        let size = end.map_or_else(|| capture.look_in(&held), Ok)?;
        let kind = Plain::kind(held, capture.base(&size));
        Ok(View { length: size.length, kind })
    }

    /// A view of the bytes in the file, compressed where they are.
    ///
    /// # Errors
    /// The OS error of opening the file.
    pub(super) fn stored(capture: &Capture) -> io::Result<View> {
        match capture.layout() {
            Layout::Compressed(_) => {
                let length = capture.size().stored;
                let held = if length == 0 { None } else { capture.hold_if_there()? };
                let view = |held| View { length, kind: Plain::kind(held, 0) };
                Ok(held.map_or_else(View::empty, view))
            }
            _ => View::of(capture),
        }
    }

    /// A view of what is stored in the open files of a capture that has ended.
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

    /// A view of nothing.
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

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many bytes from `offset` on are a hole in the file, and so zeros that need not be read.
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

    /// Reads from `offset` on into `buf`; gives how many, 0 at the end. Reading forward costs least: of compressed output, a step
    /// back is a new beginning. 0 before the end means that the process itself has shortened its file.
    ///
    /// # Errors
    /// The OS error of reading; that compressed output is damaged; that somebody has changed the file since the end.
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
        // What was overwritten while it was copied does not count.
        let from = first_whole(limits, &kept, &held.counters()?);
        tries += 1;
        if from == kept.from || tries == TRIES {
            tail.drain(..(from - kept.from).min(length) as usize);
            return Ok((kept, Some(tail.into())));
        }
    }
}

/// From where on bytes that were read before these counters are not overwritten.
fn first_whole(limits: Limits, kept: &Kept, after: &Counters) -> u64 {
    limits.whole_from(after).clamp(kept.from, kept.to)
}

/// Makes zeros of what was overwritten before it was read.
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
