//! The parts of a stream: literal bytes, and captures with their encoders.

use std::io;

use super::format::PIECE;
use super::range::CaptureRange;
use crate::report::encode::{Base64, Base2048, LossyUtf8, escape_json};

/// A part of a stream.
pub(super) enum Part {
    /// Literal bytes.
    Bytes(Vec<u8>),
    /// A capture as the inside of a JSON string.
    JsonText(CaptureRange, LossyUtf8),
    /// A capture as valid UTF-8.
    Text(CaptureRange, LossyUtf8),
    /// A capture in base64.
    Base64(CaptureRange, Base64),
    /// A capture in base2048.
    Base2048(CaptureRange, Base2048),
    /// A capture without encoding.
    Raw(CaptureRange),
}

impl Part {
    /// Appends the next piece to `out`. Returns true after the last one.
    pub(super) fn fill(&mut self, buf: &mut Vec<u8>, out: &mut Vec<u8>) -> io::Result<bool> {
        buf.resize(PIECE, 0);
        match self {
            Part::Bytes(bytes) => {
                out.extend_from_slice(bytes);
                return Ok(true);
            }
            Part::JsonText(range, lossy) => match range.next(buf)? {
                [] => lossy.finish(|text| escape_json(text, out)),
                piece => {
                    lossy.push(piece, |text| escape_json(text, out));
                    return Ok(false);
                }
            },
            Part::Text(range, lossy) => match range.next(buf)? {
                [] => lossy.finish(|text| out.extend_from_slice(text.as_bytes())),
                piece => {
                    lossy.push(piece, |text| out.extend_from_slice(text.as_bytes()));
                    return Ok(false);
                }
            },
            Part::Raw(range) => match range.next(buf)? {
                [] => {}
                piece => {
                    out.extend_from_slice(piece);
                    return Ok(false);
                }
            },
            Part::Base64(range, base64) => match range.next(buf)? {
                [] => base64.finish(out),
                piece => {
                    base64.push(piece, out);
                    return Ok(false);
                }
            },
            Part::Base2048(range, base2048) => match range.next(buf)? {
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
