//! Serializes a result by its own type, with holes for captured bytes, which are inserted while it
//! is sent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

use serde::{Serialize, Serializer};

use super::contents::{FdContents, Inline};
use super::encoding;
use super::format::ResultFormat;
use super::part::Part;
use crate::report::context::ResultContext;
use crate::report::record::{AsOf, ProcessRecord};

/// The offsets of the holes in the text. Text and holes share this: when a hole is serialized, it
/// records the length of the text before it.
#[derive(Default)]
struct Holes {
    written: Cell<usize>,
    at: RefCell<Vec<usize>>,
}

/// A placeholder for captured bytes, serialized as an empty string.
struct Hole<'h>(&'h Holes);

impl Serialize for Hole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.at.borrow_mut().push(self.0.written.get());
        serializer.serialize_str("")
    }
}

/// The text written so far.
struct Text<'h> {
    bytes: Vec<u8>,
    holes: &'h Holes,
}

impl io::Write for Text<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        self.holes.written.set(self.bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The parts of a result's stream.
///
/// # Errors
/// The result cannot be serialized. This does not happen.
pub(super) fn write(
    record: &ProcessRecord,
    as_of: AsOf,
    context: &ResultContext,
    contents: FdContents,
    format: ResultFormat,
) -> io::Result<VecDeque<Part>> {
    let holes = Holes::default();
    let mut inline = Vec::new();
    let fds = contents.fds.into_iter().map(|(fd, content)| {
        let content = content.map(|content| {
            let (result, bytes) = content.into_result(|| Hole(&holes));
            inline.extend(bytes);
            result
        });
        (fd.to_string(), content)
    });
    let fds = fds.collect();
    let body = record.body(as_of, context, &contents.notices, fds, contents.offsets);
    let mut text = Text { bytes: Vec::new(), holes: &holes };
    match format {
        ResultFormat::Json => serde_json::to_writer(&mut text, &body)?,
        ResultFormat::MessagePack => {
            let mut serializer = rmp_serde::Serializer::new(&mut text).with_struct_map();
            body.serialize(&mut serializer).map_err(io::Error::other)?;
        }
    }
    let bytes = text.bytes;
    let holes = holes.at.into_inner();
    Ok(put_in(&bytes, holes.into_iter().zip(inline), format))
}

/// Splits the text at the holes, and inserts the captured bytes.
fn put_in(
    text: &[u8],
    holes: impl Iterator<Item = (usize, Inline)>,
    format: ResultFormat,
) -> VecDeque<Part> {
    let mut parts = VecDeque::new();
    let mut from = 0;
    for (hole, Inline { encoding, range, length }) in holes {
        // JSON: between the quotes. MessagePack: the header of the empty string is one byte.
        let end = match format {
            ResultFormat::Json => hole + 1,
            ResultFormat::MessagePack => hole,
        };
        let mut before = text.get(from..end).unwrap_or_default().to_vec();
        if format == ResultFormat::MessagePack {
            string_header(length, &mut before);
        }
        parts.push_back(Part::Bytes(before));
        parts.push_back(encoding::part(encoding, format, range));
        from = hole + 1;
    }
    parts.push_back(Part::Bytes(text.get(from..).unwrap_or_default().to_vec()));
    parts
}

/// Appends the MessagePack header of a string of `length` bytes.
fn string_header(length: u32, out: &mut Vec<u8>) {
    match length {
        0..32 => out.push(0xa0 | length as u8),
        32..0x100 => out.extend_from_slice(&[0xd9, length as u8]),
        0x100..0x1_0000 => {
            out.push(0xda);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdb);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}
