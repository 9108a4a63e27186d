//! Results as streams: made while they are sent, so that a large capture is never in memory as a whole.
//!
//! A result's `fds` come last in its map, and each captured one is encoded from the capture itself, a piece at a
//! time. How much of a capture a result shows is fixed when the stream is made. JSON needs no lengths beforehand;
//! MessagePack does, so there the bytes of a text are looked at twice.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::encode::{Base64, LossyUtf8, escape_json};
use super::facts::{AsOf, Facts, Head, Sampler};
use crate::engine::Captures;
use crate::spec::{CaptureSpec, Encoding, FdName};

/// How many captured bytes go into one piece.
const PIECE: usize = 32 * 1024;
/// The longest string of MessagePack; a longer capture is shown as if it were not attached.
const LONGEST: u64 = u32::MAX as u64;

/// The formats of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, on one line.
    Json,
    /// MessagePack, maps with strings for keys.
    MessagePack,
}

/// A stretch of a capture.
#[derive(Clone)]
struct Window {
    /// Keeps the file open, so that its bytes outlast the process's deletion; none where there are none to read.
    _held: Option<Arc<std::fs::File>>,
    captures: Arc<Captures>,
    fd: FdName,
    at: u64,
    end: u64,
}

impl Window {
    /// The first `length` bytes of a capture.
    fn new(captures: &Arc<Captures>, fd: FdName, length: u64) -> Self {
        Window::range(captures, fd, 0, length)
    }

    /// The bytes of a capture from `at` to `end`. One that cannot be opened shows its error when it is read.
    fn range(captures: &Arc<Captures>, fd: FdName, at: u64, end: u64) -> Self {
        let held = captures.get(fd).filter(|_| at < end).and_then(|capture| capture.hold().ok());
        Window { _held: held, captures: Arc::clone(captures), fd, at, end }
    }

    /// The next bytes, none at the end. What the process itself has taken away from its file in the meantime
    /// reads as zeros, like a hole: lengths have been told already.
    fn next<'b>(&mut self, buf: &'b mut [u8]) -> io::Result<&'b [u8]> {
        let room = (self.end - self.at).min(buf.len() as u64) as usize;
        let buf = buf.get_mut(..room).unwrap_or_default();
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = match self.captures.get(self.fd) {
                Some(capture) => capture.read_at(self.at + filled as u64, rest)?,
                None => 0,
            };
            if read == 0 {
                rest.fill(0);
                break;
            }
            filled += read;
        }
        self.at += room as u64;
        Ok(buf)
    }

    /// Calls `each` with every piece from here to the end.
    fn for_each(mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buf = vec![0; PIECE];
        loop {
            match self.next(&mut buf)? {
                [] => return Ok(()),
                piece => each(piece),
            }
        }
    }
}

/// A part of a stream.
enum Part {
    /// As it is.
    Bytes(Vec<u8>),
    /// A capture as the inside of a JSON string.
    JsonText(Window, LossyUtf8),
    /// A capture as valid UTF-8.
    Text(Window, LossyUtf8),
    /// A capture in base64.
    Base64(Window, Base64),
    /// A capture as it is.
    Raw(Window),
}

/// A result, or some bytes around one, that is made while it is sent.
pub struct Document {
    parts: VecDeque<Part>,
    buf: Vec<u8>,
}

impl Document {
    /// A result.
    ///
    /// # Errors
    /// Where a capture's length in MessagePack cannot be found, for it cannot be read.
    pub fn new(
        facts: &Facts,
        as_of: AsOf,
        sampler: &Sampler,
        format: Format,
    ) -> io::Result<Document> {
        let head = facts.head(as_of, sampler);
        let mut writer = Writer { format, text: Vec::new(), parts: VecDeque::new() };
        writer.head(&head)?;
        let shown = |captured: u64| match as_of {
            AsOf::Then if facts.is_running() => 0,
            _ => captured,
        };
        let count = facts.captures.iter().count();
        writer.open_fds(count);
        for (i, (fd, capture)) in facts.captures.iter().enumerate() {
            writer.key(i, &fd.to_string());
            match capture {
                None => writer.null(),
                Some(capture) => {
                    let window = Window::new(&facts.captures, fd, shown(capture.len()));
                    writer.capture(capture.spec(), window)?;
                }
            }
        }
        writer.close_fds();
        Ok(writer.finish())
    }

    /// Captured bytes as they are: those from `from` to `to` of what an fd has captured.
    pub fn raw(captures: &Arc<Captures>, fd: FdName, from: u64, to: u64) -> Document {
        let window = Window::range(captures, fd, from.min(to), to);
        Document { parts: VecDeque::from([Part::Raw(window)]), buf: Vec::new() }
    }

    /// The same with `prefix` before it.
    pub fn with_prefix(mut self, prefix: Vec<u8>) -> Document {
        self.parts.push_front(Part::Bytes(prefix));
        self
    }

    /// Appends the next piece, some tens of kilobytes at most, to `out`. Gives false when it was the last.
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

impl Part {
    /// Appends the next piece to `out`; true when it was the last.
    fn fill(&mut self, buf: &mut Vec<u8>, out: &mut Vec<u8>) -> io::Result<bool> {
        buf.resize(PIECE, 0);
        match self {
            Part::Bytes(bytes) => {
                out.extend_from_slice(bytes);
                return Ok(true);
            }
            Part::JsonText(window, lossy) => match window.next(buf)? {
                [] => lossy.finish(|text| escape_json(text, out)),
                piece => {
                    lossy.push(piece, |text| escape_json(text, out));
                    return Ok(false);
                }
            },
            Part::Text(window, lossy) => match window.next(buf)? {
                [] => lossy.finish(|text| out.extend_from_slice(text.as_bytes())),
                piece => {
                    lossy.push(piece, |text| out.extend_from_slice(text.as_bytes()));
                    return Ok(false);
                }
            },
            Part::Raw(window) => match window.next(buf)? {
                [] => {}
                piece => {
                    out.extend_from_slice(piece);
                    return Ok(false);
                }
            },
            Part::Base64(window, base64) => match window.next(buf)? {
                [] => base64.finish(out),
                piece => {
                    base64.push(piece, out);
                    return Ok(false);
                }
            },
        }
        Ok(true)
    }
}

/// Writes a document in either format.
struct Writer {
    format: Format,
    /// What has been written since the last capture.
    text: Vec<u8>,
    parts: VecDeque<Part>,
}

impl Writer {
    /// The head's entries, in a map that stays open for one more.
    fn head(&mut self, head: &Head<'_>) -> io::Result<()> {
        match self.format {
            Format::Json => {
                serde_json::to_writer(&mut self.text, head)?;
                // The closing brace.
                self.text.pop();
                self.text.extend_from_slice(b",\"fds\":");
            }
            Format::MessagePack => {
                let map = rmp_serde::to_vec_named(head).map_err(io::Error::other)?;
                let (count, entries) = open_map(&map);
                self.text.push(0xde);
                self.text.extend_from_slice(&(count + 1).to_be_bytes());
                self.text.extend_from_slice(entries);
                self.string("fds");
            }
        }
        Ok(())
    }

    fn open_fds(&mut self, count: usize) {
        match self.format {
            Format::Json => self.text.push(b'{'),
            Format::MessagePack => {
                if count < 16 {
                    self.text.push(0x80 | count as u8);
                } else {
                    self.text.push(0xdf);
                    self.text.extend_from_slice(&(count as u32).to_be_bytes());
                }
            }
        }
    }

    fn key(&mut self, index: usize, key: &str) {
        if self.format == Format::Json && index > 0 {
            self.text.push(b',');
        }
        self.string(key);
        if self.format == Format::Json {
            self.text.push(b':');
        }
    }

    fn null(&mut self) {
        match self.format {
            Format::Json => self.text.extend_from_slice(b"null"),
            Format::MessagePack => self.text.push(0xc0),
        }
    }

    fn string(&mut self, text: &str) {
        match self.format {
            Format::Json => {
                self.text.push(b'"');
                escape_json(text, &mut self.text);
                self.text.push(b'"');
            }
            Format::MessagePack => {
                self.string_header(text.len() as u32);
                self.text.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// MessagePack's header of a string of `length` bytes.
    fn string_header(&mut self, length: u32) {
        match length {
            0..32 => self.text.push(0xa0 | length as u8),
            32..0x100 => self.text.extend_from_slice(&[0xd9, length as u8]),
            0x100..0x1_0000 => {
                self.text.push(0xda);
                self.text.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                self.text.push(0xdb);
                self.text.extend_from_slice(&length.to_be_bytes());
            }
        }
    }

    /// The entry of a captured fd: three keys, whichever kind it is.
    fn capture(&mut self, spec: &CaptureSpec, window: Window) -> io::Result<()> {
        let text = spec.encoding == Some(Encoding::Utf8);
        let encoding = if text { "utf-8" } else { "base64" };
        let encoded = match (spec.attached, self.format, text) {
            (false, _, _) => None,
            // Its length need not be known.
            (true, Format::Json, _) => Some(0),
            (true, Format::MessagePack, true) => lossy_length(&window)?,
            (true, Format::MessagePack, false) => {
                u32::try_from(Base64::encoded_len(window.end)).ok()
            }
        };
        match self.format {
            Format::Json => self.text.push(b'{'),
            Format::MessagePack => self.text.push(0x83),
        }
        self.key(0, "type");
        match encoded {
            None => {
                self.string("detached");
                self.key(1, "length");
                self.integer(window.end);
            }
            Some(length) => {
                let name = if text { "text" } else { "data" };
                self.string(name);
                self.key(1, name);
                self.quote_or_header(length);
                self.parts.push_back(Part::Bytes(std::mem::take(&mut self.text)));
                self.parts.push_back(match (self.format, text) {
                    (Format::Json, true) => Part::JsonText(window, LossyUtf8::default()),
                    (Format::MessagePack, true) => Part::Text(window, LossyUtf8::default()),
                    (_, false) => Part::Base64(window, Base64::default()),
                });
                if self.format == Format::Json {
                    self.text.push(b'"');
                }
            }
        }
        self.key(2, "encoding");
        self.string(encoding);
        if self.format == Format::Json {
            self.text.push(b'}');
        }
        Ok(())
    }

    fn quote_or_header(&mut self, length: u32) {
        match self.format {
            Format::Json => self.text.push(b'"'),
            Format::MessagePack => self.string_header(length),
        }
    }

    fn integer(&mut self, value: u64) {
        match self.format {
            Format::Json => self.text.extend_from_slice(value.to_string().as_bytes()),
            Format::MessagePack => {
                self.text.push(0xcf);
                self.text.extend_from_slice(&value.to_be_bytes());
            }
        }
    }

    /// Closes `fds`, and the result.
    fn close_fds(&mut self) {
        if self.format == Format::Json {
            self.text.extend_from_slice(b"}}");
        }
    }

    fn finish(mut self) -> Document {
        if !self.text.is_empty() {
            self.parts.push_back(Part::Bytes(self.text));
        }
        Document { parts: self.parts, buf: Vec::new() }
    }
}

/// How many entries a map of MessagePack has, fewer than 65,536, and the entries themselves.
fn open_map(map: &[u8]) -> (u16, &[u8]) {
    match map {
        [0xde, high, low, entries @ ..] => (u16::from_be_bytes([*high, *low]), entries),
        [first, entries @ ..] => (u16::from(first & 0x0f), entries),
        [] => (0, map),
    }
}

/// The length of a capture as valid UTF-8; none if it is beyond what a string can be.
fn lossy_length(window: &Window) -> io::Result<Option<u32>> {
    if window.end > LONGEST {
        return Ok(None);
    }
    let mut length = 0u64;
    let mut lossy = LossyUtf8::default();
    window.clone().for_each(|piece| lossy.push(piece, |text| length += text.len() as u64))?;
    lossy.finish(|text| length += text.len() as u64);
    Ok(u32::try_from(length).ok())
}
