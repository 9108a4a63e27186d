//! Results as streams: made while they are sent, so that a large capture is never in memory as a whole.
//!
//! A result's `fds` come last in its map, and each captured one is encoded from the capture itself, a piece at a
//! time. How much of a capture a result shows is fixed when the stream is made. JSON needs no lengths beforehand;
//! MessagePack does, so there the bytes of a text are looked at twice.

use std::collections::VecDeque;
use std::io;

use super::encode::{Base64, Base2048, LossyUtf8, escape_json};
use super::record::{AsOf, ProcessRecord, ResultBody, ResultContext};
use super::utf8::boundary;
use crate::engine::{Capture, View};
use crate::spec::{CaptureSpec, Encoding, FdName};

/// How many captured bytes go into one piece.
const PIECE: usize = 32 * 1024;
/// The longest string of MessagePack; a longer capture is not shown inline.
const LONGEST: u64 = u32::MAX as u64;

/// The formats of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultFormat {
    /// JSON, on one line.
    Json,
    /// MessagePack, maps with strings for keys.
    MessagePack,
}

/// How much of its captures a result shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputView {
    /// All, where the spec does not detach it.
    #[default]
    Inline,
    /// None: every capture is shown as one that is not attached.
    None,
    /// The last bytes of every capture, so many at most; a text is not cut within a character.
    Tail(u64),
}

/// A stretch of a capture.
#[derive(Clone)]
struct CaptureRange {
    view: View,
    at: u64,
    end: u64,
}

impl CaptureRange {
    /// The bytes of a view from `at` to `end`.
    fn range(view: View, at: u64, end: u64) -> Self {
        let end = end.min(view.len());
        CaptureRange { view, at: at.min(end), end }
    }

    /// All bytes of a view; none where there is none to be had: a user may have taken a named file away.
    fn whole(view: io::Result<View>) -> Self {
        let view = view.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read captured output");
            View::empty()
        });
        let end = view.len();
        CaptureRange { view, at: 0, end }
    }

    /// The next bytes, none at the end. What the process itself has taken away from its file in the meantime
    /// reads as zeros, like a hole: lengths have been told already.
    fn next<'b>(&mut self, buf: &'b mut [u8]) -> io::Result<&'b [u8]> {
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
    fn tail(capture: &Capture, most: u64) -> io::Result<Self> {
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

    /// Passes over a hole in the file that begins here; returns how many zeros it was.
    fn skip_hole(&mut self) -> u64 {
        let zeros = self.view.zeros_at(self.at).min(self.end - self.at);
        self.at += zeros;
        zeros
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
    JsonText(CaptureRange, LossyUtf8),
    /// A capture as valid UTF-8.
    Text(CaptureRange, LossyUtf8),
    /// A capture in base64.
    Base64(CaptureRange, Base64),
    /// A capture in base2048.
    Base2048(CaptureRange, Base2048),
    /// A capture as it is.
    Raw(CaptureRange),
}

/// A result, or some bytes around one, that is made while it is sent.
pub struct ResultStream {
    parts: VecDeque<Part>,
    buf: Vec<u8>,
}

/// What a result shows of one fd.
enum FdContent {
    NotCaptured,
    /// The length alone.
    Detached(u64),
    /// These bytes, with the length of the string that shows them, where the format has to know it.
    Inline(CaptureRange, u32),
}

/// The entries of a result, and what there is to say of them.
struct FdContents {
    entries: Vec<(FdName, FdContent)>,
    notices: Vec<String>,
    /// How many captured bytes still fit into the result.
    room: u64,
    most: u64,
    format: ResultFormat,
}

impl FdContents {
    fn new(format: ResultFormat, most: u64) -> FdContents {
        FdContents { entries: Vec::new(), notices: Vec::new(), room: most, most, format }
    }

    /// The captures inline, but for those that are detached, or too large.
    fn inline(mut self, record: &ProcessRecord, as_of: AsOf) -> io::Result<FdContents> {
        let nothing = as_of == AsOf::AtStart && record.is_running();
        for (fd, capture) in record.captures.iter() {
            let entry = match capture {
                None => FdContent::NotCaptured,
                Some(capture) if !capture.spec().attached => {
                    FdContent::Detached(if nothing { 0 } else { capture.len() })
                }
                Some(_) if nothing => FdContent::Inline(CaptureRange::whole(Ok(View::empty())), 0),
                Some(capture) => {
                    // As text it is what was written; as data, what is stored of it.
                    let text = FdEncoding::of(capture.spec()) == FdEncoding::Text;
                    let view = if text { capture.view() } else { capture.stored() };
                    self.fit(fd, capture, CaptureRange::whole(view))?
                }
            };
            self.entries.push((fd, entry));
        }
        Ok(self)
    }

    /// A capture inline if it fits; else detached, with a notice.
    fn fit(
        &mut self,
        fd: FdName,
        capture: &Capture,
        window: CaptureRange,
    ) -> io::Result<FdContent> {
        let bytes = window.end - window.at;
        if bytes <= self.room {
            let encoded = match self.format {
                ResultFormat::Json => Some(0),
                ResultFormat::MessagePack => FdEncoding::of(capture.spec()).length(&window)?,
            };
            if let Some(encoded) = encoded {
                self.room -= bytes;
                return Ok(FdContent::Inline(window, encoded));
            }
        }
        let most = self.most.min(LONGEST);
        self.notices.push(format!(
            "the output of {fd}, {bytes} bytes, is detached: one result contains at most {most} bytes of output \
             (capture.max_inline); read it by range"
        ));
        Ok(FdContent::Detached(capture.len()))
    }

    /// The length of every capture alone.
    fn detached(mut self, record: &ProcessRecord) -> FdContents {
        self.entries.extend(record.captures.iter().map(|(fd, capture)| match capture {
            Some(capture) => (fd, FdContent::Detached(capture.len())),
            None => (fd, FdContent::NotCaptured),
        }));
        self
    }

    /// The last bytes of every capture, so many at most.
    fn tails(mut self, record: &ProcessRecord, most: u64) -> FdContents {
        for (fd, capture) in record.captures.iter() {
            let entry = match capture {
                Some(capture) => {
                    // One that cannot be read must not take the others with it.
                    let window = CaptureRange::tail(capture, most.min(self.room))
                        .unwrap_or_else(|error| CaptureRange::whole(Err(error)));
                    self.room -= window.end - window.at;
                    FdContent::Inline(window, 0)
                }
                None => FdContent::NotCaptured,
            };
            self.entries.push((fd, entry));
        }
        self
    }

    /// Where in their captures those begin that are shown.
    fn offsets(&self) -> Vec<(FdName, u64)> {
        let at = |(fd, entry): &(FdName, FdContent)| match entry {
            FdContent::Inline(window, _) => Some((*fd, window.at)),
            _ => None,
        };
        self.entries.iter().filter_map(at).collect()
    }
}

impl ResultStream {
    /// A result.
    ///
    /// # Errors
    /// Where a capture's length in MessagePack cannot be found, for it cannot be read.
    pub fn new(
        record: &ProcessRecord,
        as_of: AsOf,
        context: &ResultContext,
        format: ResultFormat,
    ) -> io::Result<ResultStream> {
        let entries = FdContents::new(format, context.max_inline()).inline(record, as_of)?;
        let mut writer = Writer::begin(record, as_of, context, format, &entries)?;
        writer.captures(record, entries.entries);
        writer.close_fds();
        Ok(writer.finish())
    }

    /// The present result in JSON, with as much of the captures as `view` says. Where it shows their last bytes, it has one key more,
    /// `offsets`, which tells by fd where in the capture these begin.
    ///
    /// # Errors
    /// Where a capture cannot be read.
    pub fn json(
        record: &ProcessRecord,
        context: &ResultContext,
        view: OutputView,
    ) -> io::Result<ResultStream> {
        let entries = FdContents::new(ResultFormat::Json, context.max_inline());
        let entries = match view {
            OutputView::Inline => {
                return ResultStream::new(record, AsOf::Now, context, ResultFormat::Json);
            }
            OutputView::None => entries.detached(record),
            OutputView::Tail(most) => entries.tails(record, most),
        };
        let mut writer = Writer::begin(record, AsOf::Now, context, ResultFormat::Json, &entries)?;
        let offsets = entries.offsets();
        writer.decoded = true;
        writer.captures(record, entries.entries);
        if matches!(view, OutputView::Tail(_)) {
            writer.text.extend_from_slice(b"},\"offsets\":{");
            for (i, (fd, at)) in offsets.into_iter().enumerate() {
                writer.key(i, &fd.to_string());
                writer.integer(at);
            }
        }
        writer.close_fds();
        Ok(writer.finish())
    }

    /// Captured bytes as they are: those from `from` to `to` of a view.
    pub fn raw(view: View, from: u64, to: u64) -> ResultStream {
        let window = CaptureRange::range(view, from, to);
        ResultStream { parts: VecDeque::from([Part::Raw(window)]), buf: Vec::new() }
    }

    /// The same with `prefix` before it.
    pub fn with_prefix(mut self, prefix: Vec<u8>) -> ResultStream {
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
            Part::Base2048(window, base2048) => match window.next(buf)? {
                [] => base2048.finish(out),
                piece => {
                    base2048.push(piece, out);
                    return Ok(false);
                }
            },
        }
        Ok(true)
    }
}

/// Writes a stream in either format.
struct Writer {
    format: ResultFormat,
    /// What has been written since the last capture.
    text: Vec<u8>,
    parts: VecDeque<Part>,
    /// Whether data is shown as it was before any compression.
    decoded: bool,
}

impl Writer {
    /// Everything up to the first fd.
    fn begin(
        record: &ProcessRecord,
        as_of: AsOf,
        context: &ResultContext,
        format: ResultFormat,
        entries: &FdContents,
    ) -> io::Result<Writer> {
        let mut writer =
            Writer { format, text: Vec::new(), parts: VecDeque::new(), decoded: false };
        writer.head(&record.head(as_of, context, &entries.notices))?;
        writer.open_fds(entries.entries.len());
        Ok(writer)
    }

    /// The entries of all fds.
    fn captures(&mut self, record: &ProcessRecord, entries: Vec<(FdName, FdContent)>) {
        let specs = record.captures.iter().map(|(_, capture)| capture.map(Capture::spec));
        for (i, ((fd, entry), spec)) in entries.into_iter().zip(specs).enumerate() {
            self.key(i, &fd.to_string());
            match spec {
                Some(spec) => self.capture(spec, entry),
                None => self.null(),
            }
        }
    }

    /// The head's entries, in a map that stays open for one more.
    fn head(&mut self, head: &ResultBody<'_>) -> io::Result<()> {
        match self.format {
            ResultFormat::Json => {
                serde_json::to_writer(&mut self.text, head)?;
                // The closing brace.
                self.text.pop();
                self.text.extend_from_slice(b",\"fds\":");
            }
            ResultFormat::MessagePack => {
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
            ResultFormat::Json => self.text.push(b'{'),
            ResultFormat::MessagePack => {
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
        if self.format == ResultFormat::Json && index > 0 {
            self.text.push(b',');
        }
        self.string(key);
        if self.format == ResultFormat::Json {
            self.text.push(b':');
        }
    }

    fn null(&mut self) {
        match self.format {
            ResultFormat::Json => self.text.extend_from_slice(b"null"),
            ResultFormat::MessagePack => self.text.push(0xc0),
        }
    }

    fn string(&mut self, text: &str) {
        match self.format {
            ResultFormat::Json => {
                self.text.push(b'"');
                escape_json(text, &mut self.text);
                self.text.push(b'"');
            }
            ResultFormat::MessagePack => {
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

    /// The entry of a captured fd: three keys, whichever kind it is, and one more for compressed data.
    fn capture(&mut self, spec: &CaptureSpec, entry: FdContent) {
        let shown = FdEncoding::of(spec);
        let as_stored =
            matches!(entry, FdContent::Inline(..)) && !self.decoded && shown != FdEncoding::Text;
        let compression = spec.compress.filter(|_| as_stored);
        match self.format {
            ResultFormat::Json => self.text.push(b'{'),
            ResultFormat::MessagePack => self.text.push(0x83 + u8::from(compression.is_some())),
        }
        self.key(0, "type");
        match entry {
            FdContent::NotCaptured => self.detached(0),
            FdContent::Detached(length) => self.detached(length),
            FdContent::Inline(window, length) => self.inline(shown, window, length),
        }
        self.key(2, "encoding");
        self.string(shown.name());
        if let Some(compression) = compression {
            self.key(3, "compression");
            self.string(compression.name());
        }
        if self.format == ResultFormat::Json {
            self.text.push(b'}');
        }
    }

    fn detached(&mut self, length: u64) {
        self.string("detached");
        self.key(1, "length");
        self.integer(length);
    }

    fn inline(&mut self, shown: FdEncoding, window: CaptureRange, length: u32) {
        let name = if shown == FdEncoding::Text { "text" } else { "data" };
        self.string(name);
        self.key(1, name);
        self.quote_or_header(length);
        self.parts.push_back(Part::Bytes(std::mem::take(&mut self.text)));
        self.parts.push_back(match (self.format, shown) {
            (ResultFormat::Json, FdEncoding::Text) => Part::JsonText(window, LossyUtf8::default()),
            (ResultFormat::MessagePack, FdEncoding::Text) => {
                Part::Text(window, LossyUtf8::default())
            }
            (_, FdEncoding::Base64) => Part::Base64(window, Base64::default()),
            (_, FdEncoding::Base2048) => Part::Base2048(window, Base2048::default()),
        });
        if self.format == ResultFormat::Json {
            self.text.push(b'"');
        }
    }

    fn quote_or_header(&mut self, length: u32) {
        match self.format {
            ResultFormat::Json => self.text.push(b'"'),
            ResultFormat::MessagePack => self.string_header(length),
        }
    }

    fn integer(&mut self, value: u64) {
        match self.format {
            ResultFormat::Json => self.text.extend_from_slice(value.to_string().as_bytes()),
            ResultFormat::MessagePack => {
                self.text.push(0xcf);
                self.text.extend_from_slice(&value.to_be_bytes());
            }
        }
    }

    /// Closes `fds`, and the result.
    fn close_fds(&mut self) {
        if self.format == ResultFormat::Json {
            self.text.extend_from_slice(b"}}");
        }
    }

    fn finish(mut self) -> ResultStream {
        if !self.text.is_empty() {
            self.parts.push_back(Part::Bytes(self.text));
        }
        ResultStream { parts: self.parts, buf: Vec::new() }
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

/// How captured bytes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FdEncoding {
    Text,
    Base64,
    Base2048,
}

impl FdEncoding {
    fn of(spec: &CaptureSpec) -> FdEncoding {
        match spec.encoding {
            Some(Encoding::Utf8) => FdEncoding::Text,
            None | Some(Encoding::Base64) => FdEncoding::Base64,
            Some(Encoding::Base2048) => FdEncoding::Base2048,
        }
    }

    fn name(self) -> &'static str {
        match self {
            FdEncoding::Text => "utf-8",
            FdEncoding::Base64 => "base64",
            FdEncoding::Base2048 => "base2048",
        }
    }

    /// The length of a window shown so, in bytes; none if it is beyond what a string can be.
    fn length(self, window: &CaptureRange) -> io::Result<Option<u32>> {
        if window.end > LONGEST {
            return Ok(None);
        }
        let mut length = 0u64;
        match self {
            FdEncoding::Base64 => length = Base64::encoded_len(window.end),
            FdEncoding::Text => {
                let mut lossy = LossyUtf8::default();
                let mut window = window.clone();
                let mut buf = vec![0; PIECE];
                loop {
                    let zeros = window.skip_hole();
                    if zeros > 0 {
                        // The first one ends what was a character's beginning; each is one byte of text.
                        lossy.push(&[0], |text| length += text.len() as u64);
                        length += zeros - 1;
                        continue;
                    }
                    match window.next(&mut buf)? {
                        [] => break,
                        piece => lossy.push(piece, |text| length += text.len() as u64),
                    }
                }
                lossy.finish(|text| length += text.len() as u64);
            }
            FdEncoding::Base2048 => {
                let mut base2048 = Base2048::default();
                let mut text = Vec::new();
                window.clone().for_each(|piece| {
                    base2048.push(piece, &mut text);
                    length += text.len() as u64;
                    text.clear();
                })?;
                base2048.finish(&mut text);
                length += text.len() as u64;
            }
        }
        Ok(u32::try_from(length).ok())
    }
}
