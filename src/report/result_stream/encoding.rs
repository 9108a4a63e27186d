//! The encoding of a range of a capture in a stream, and the length of the encoded text.

use std::io;

use super::format::{LONGEST, PIECE, ResultFormat};
use super::part::Part;
use super::range::CaptureRange;
use crate::report::encode::{Base64, Base2048, LossyUtf8};
use crate::report::fd_encoding::FdEncoding;

/// The part of a stream that encodes `range` with `encoding`.
pub(super) fn part(encoding: FdEncoding, format: ResultFormat, range: CaptureRange) -> Part {
    match (format, encoding) {
        (ResultFormat::Json, FdEncoding::Text) => Part::JsonText(range, LossyUtf8::default()),
        (ResultFormat::MessagePack, FdEncoding::Text) => Part::Text(range, LossyUtf8::default()),
        (_, FdEncoding::Base64) => Part::Base64(range, Base64::default()),
        (_, FdEncoding::Base2048) => Part::Base2048(range, Base2048::default()),
    }
}

/// The length of an encoded range in bytes; `None` if it exceeds the maximum length of a string.
pub(super) fn length(encoding: FdEncoding, range: &CaptureRange) -> io::Result<Option<u32>> {
    if range.len() > LONGEST {
        return Ok(None);
    }
    let mut length = 0u64;
    match encoding {
        FdEncoding::Base64 => length = Base64::encoded_len(range.len()),
        FdEncoding::Text => {
            let mut lossy = LossyUtf8::default();
            let mut range = range.clone();
            let mut buf = vec![0; PIECE];
            loop {
                let zeros = range.skip_hole();
                if zeros > 0 {
                    // The first zero ends an incomplete character. Each zero is one byte of text.
                    lossy.push(&[0], |text| length += text.len() as u64);
                    length += zeros - 1;
                    continue;
                }
                match range.next(&mut buf)? {
                    [] => break,
                    piece => lossy.push(piece, |text| length += text.len() as u64),
                }
            }
            lossy.finish(|text| length += text.len() as u64);
        }
        FdEncoding::Base2048 => {
            let mut base2048 = Base2048::default();
            let mut text = Vec::new();
            range.clone().for_each(|piece| {
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
