//! Streaming encoders of captured bytes: each takes pieces as they come, and appends their
//! encoding.

/// The replacement of an invalid sequence.
const REPLACEMENT: &str = "\u{fffd}";

/// Converts bytes that come in pieces to valid UTF-8, as [`String::from_utf8_lossy`] converts the
/// whole.
#[derive(Default)]
pub(crate) struct LossyUtf8 {
    /// The beginning of a sequence whose rest is missing: at most 3 bytes.
    partial: Vec<u8>,
}

impl LossyUtf8 {
    /// Passes the text of the next piece to `out`, part by part.
    pub(crate) fn push(&mut self, piece: &[u8], mut out: impl FnMut(&str)) {
        let mut rest = piece;
        // A sequence that began in an earlier piece is completed, or found invalid, byte by byte.
        while !self.partial.is_empty() {
            let Some((byte, after)) = rest.split_first() else { return };
            self.partial.push(*byte);
            match std::str::from_utf8(&self.partial) {
                Ok(text) => {
                    out(text);
                    self.partial.clear();
                    rest = after;
                }
                Err(error) if error.error_len().is_none() => rest = after,
                Err(_) => {
                    // The partial sequence is invalid; this byte may begin another.
                    out(REPLACEMENT);
                    self.partial.clear();
                }
            }
        }
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out(text);
                    return;
                }
                Err(error) => {
                    let (valid, tail) = rest.split_at(error.valid_up_to());
                    if let Ok(text) = std::str::from_utf8(valid) {
                        out(text);
                    }
                    match error.error_len() {
                        Some(invalid) => {
                            out(REPLACEMENT);
                            rest = tail.get(invalid..).unwrap_or_default();
                        }
                        None => {
                            self.partial.extend_from_slice(tail);
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Ends the text.
    pub(crate) fn finish(&mut self, mut out: impl FnMut(&str)) {
        if !self.partial.is_empty() {
            self.partial.clear();
            out(REPLACEMENT);
        }
    }
}

/// Appends `text` as the inside of a JSON string.
pub(crate) fn escape_json(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x00..=0x1f => 0,
            _ => continue,
        };
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        from = at + 1;
        if short != 0 {
            out.extend_from_slice(&[b'\\', short]);
        } else {
            let hex = |digit: u8| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
}

/// Base64 of bytes that come in pieces.
#[derive(Default)]
pub(crate) struct Base64 {
    /// Bytes that do not fill a group of three: at most 2.
    partial: Vec<u8>,
}

impl Base64 {
    /// Appends the next piece.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut rest = piece;
        if !self.partial.is_empty() {
            let missing = (3 - self.partial.len()).min(rest.len());
            let (head, tail) = rest.split_at(missing);
            self.partial.extend_from_slice(head);
            rest = tail;
            if self.partial.len() < 3 {
                return;
            }
            append(&self.partial, out);
            self.partial.clear();
        }
        let (groups, tail) = rest.split_at(rest.len() - rest.len() % 3);
        append(groups, out);
        self.partial.extend_from_slice(tail);
    }

    /// Appends the last group, with its padding.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        append(&self.partial, out);
        self.partial.clear();
    }

    /// The encoded length of `length` bytes.
    pub(crate) fn encoded_len(length: u64) -> u64 {
        length.div_ceil(3).saturating_mul(4)
    }
}

/// Base2048 of bytes that come in pieces, as UTF-8: 11 bytes are 8 characters.
#[derive(Default)]
pub(crate) struct Base2048 {
    /// Bytes that do not fill a group of eleven: at most 10.
    partial: Vec<u8>,
}

impl Base2048 {
    const GROUP: usize = 11;

    /// Appends the next piece.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut rest = piece;
        if !self.partial.is_empty() {
            let missing = (Self::GROUP - self.partial.len()).min(rest.len());
            let (head, tail) = rest.split_at(missing);
            self.partial.extend_from_slice(head);
            rest = tail;
            if self.partial.len() < Self::GROUP {
                return;
            }
            self.finish(out);
        }
        let (groups, tail) = rest.split_at(rest.len() - rest.len() % Self::GROUP);
        out.extend_from_slice(base2048::encode(groups).as_bytes());
        self.partial.extend_from_slice(tail);
    }

    /// Appends the last group, which may be a shorter one.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(base2048::encode(&self.partial).as_bytes());
        self.partial.clear();
    }
}

fn append(bytes: &[u8], out: &mut Vec<u8>) {
    use base64_simd::AsOut;
    let at = out.len();
    let length = base64_simd::STANDARD.encoded_length(bytes.len());
    out.resize(at + length, 0);
    if let Some(room) = out.get_mut(at..) {
        let _ = base64_simd::STANDARD.encode(bytes, room.as_out());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pieces of a byte string that has valid, invalid and cut sequences.
    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let part = prop_oneof![
            any::<Vec<u8>>(),
            ".{0,5}".prop_map(String::into_bytes),
            Just(vec![0xf0, 0x9f]),
            Just(vec![0x98]),
            Just(vec![0xe2, 0x82]),
            Just(vec![0xed, 0xa0, 0x80]),
        ];
        prop::collection::vec(part, 0..8)
    }

    proptest! {
        #[test]
        fn lossy_as_std(pieces in pieces()) {
            let mut lossy = LossyUtf8::default();
            let mut text = String::new();
            for piece in &pieces {
                lossy.push(piece, |t| text.push_str(t));
            }
            lossy.finish(|t| text.push_str(t));
            let whole = pieces.concat();
            prop_assert_eq!(&text, &*String::from_utf8_lossy(&whole));
        }

        #[test]
        fn escapes_as_serde_json(text: String) {
            let mut out = vec![b'"'];
            escape_json(&text, &mut out);
            out.push(b'"');
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn base2048_of_pieces(pieces in pieces()) {
            let mut base2048 = Base2048::default();
            let mut out = Vec::new();
            for piece in &pieces {
                base2048.push(piece, &mut out);
            }
            base2048.finish(&mut out);
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(base2048::decode(&text), Some(pieces.concat()));
            prop_assert_eq!(text, base2048::encode(&pieces.concat()));
        }

        #[test]
        fn base64_of_pieces(pieces in pieces()) {
            let mut base64 = Base64::default();
            let mut out = Vec::new();
            for piece in &pieces {
                base64.push(piece, &mut out);
            }
            base64.finish(&mut out);
            let whole = pieces.concat();
            prop_assert_eq!(out.len() as u64, Base64::encoded_len(whole.len() as u64));
            prop_assert_eq!(base64_simd::STANDARD.decode_to_vec(&out).unwrap(), whole);
        }
    }

    #[test]
    fn control_characters() {
        let mut out = Vec::new();
        escape_json("a\u{1}\"\\\n\u{1f}\u{7f}ä", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a\\u0001\\\"\\\\\\n\\u001f\u{7f}ä");
    }
}
