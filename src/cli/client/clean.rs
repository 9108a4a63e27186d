//! A process's output as a terminal may show it: text and colours.
//!
//! A program that writes to a terminal can set its title, move its cursor, have it type answers, or
//! write to the clipboard. So only text, tabs, line ends and colours (SGR, `ESC [ ... m`) of a
//! process's output reach the terminal. Everything else is shown as the escapes of
//! [`printable`](crate::cli::printable::printable): `\x1b[2J`. A carriage return counts as a line
//! end only before a newline.

use crate::cli::printable::{is_order, printable};

/// The longest sequence that counts as a colour.
const LONGEST: usize = 64;
const ESCAPE: u8 = 0x1b;

/// Cleans one stream of bytes, which may be cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// An incomplete sequence, character or line end, which needs more bytes.
    rest: Vec<u8>,
    /// Whether a colour was set and not reset.
    coloured: bool,
}

/// The kind of the first bytes.
enum First {
    /// This number of bytes may be shown unchanged.
    Shown(usize),
    /// This number of bytes is a colour.
    Colour(usize),
    /// This number of bytes is shown as escapes.
    Escaped(usize),
    /// Incomplete: more bytes are needed.
    Cut,
}

impl Cleaner {
    /// The next bytes, cleaned, after earlier ones that were incomplete.
    pub(super) fn clean(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut shown = Vec::with_capacity(all.len());
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let length = match first(rest) {
                First::Cut => break,
                First::Escaped(length) => {
                    escape(rest.get(..length).unwrap_or_default(), &mut shown);
                    length
                }
                First::Colour(length) => {
                    let colour = rest.get(..length).unwrap_or_default();
                    self.coloured = !matches!(colour, b"\x1b[m" | b"\x1b[0m");
                    shown.extend_from_slice(colour);
                    length
                }
                First::Shown(length) => {
                    shown.extend_from_slice(rest.get(..length).unwrap_or_default());
                    length
                }
            };
            rest = rest.get(length..).unwrap_or_default();
        }
        self.rest = rest.to_vec();
        shown
    }

    /// At the end: the incomplete bytes, and a reset of the colour.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let mut shown = Vec::new();
        escape(&std::mem::take(&mut self.rest), &mut shown);
        if std::mem::take(&mut self.coloured) {
            shown.extend_from_slice(b"\x1b[0m");
        }
        shown
    }

    /// A whole text, cleaned.
    pub(super) fn whole(bytes: &[u8]) -> Vec<u8> {
        let mut cleaner = Cleaner::default();
        let mut shown = cleaner.clean(bytes);
        // A colour ends with its line, before our own output.
        let newline = shown.pop_if(|last| *last == b'\n' && cleaner.rest.is_empty());
        shown.extend(cleaner.end());
        shown.extend(newline);
        shown
    }
}

fn first(bytes: &[u8]) -> First {
    match bytes {
        [ESCAPE, ..] => colour(bytes),
        [b'\r', b'\n', ..] => First::Shown(2),
        [b'\r'] => First::Cut,
        [b'\t' | b'\n' | b' '..=b'~', ..] => {
            let plain = |byte: &u8| matches!(byte, b'\t' | b'\n' | b' '..=b'~');
            First::Shown(bytes.iter().position(|byte| !plain(byte)).unwrap_or(bytes.len()))
        }
        [..0x80, ..] => First::Escaped(1),
        _ => character(bytes),
    }
}

/// The kind of an escape sequence.
fn colour(bytes: &[u8]) -> First {
    let is_parameter = |byte: &u8| matches!(byte, b'0'..=b'9' | b';' | b':');
    match bytes {
        [_] | [_, b'['] => First::Cut,
        [_, b'[', rest @ ..] => {
            match rest.iter().take(LONGEST).position(|byte| !is_parameter(byte)) {
                Some(end) if rest.get(end) == Some(&b'm') => First::Colour(end + 3),
                None if rest.len() < LONGEST => First::Cut,
                _ => First::Escaped(1),
            }
        }
        _ => First::Escaped(1),
    }
}

/// The kind of a character of several bytes.
fn character(bytes: &[u8]) -> First {
    let head = bytes.get(..bytes.len().min(4)).unwrap_or_default();
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => head
            .get(..error.valid_up_to())
            .map_or("", |text| std::str::from_utf8(text).unwrap_or("")),
        Err(error) => return error.error_len().map_or(First::Cut, First::Escaped),
    };
    match valid.chars().next() {
        Some(c) if is_order(c) => First::Escaped(c.len_utf8()),
        Some(c) => First::Shown(c.len_utf8()),
        None => First::Escaped(1),
    }
}

/// Shows bytes as escapes: characters by their code points, invalid UTF-8 by its bytes.
fn escape(bytes: &[u8], shown: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        shown.extend_from_slice(printable(chunk.valid()).as_bytes());
        for byte in chunk.invalid() {
            shown.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cleaned(bytes: &[u8]) -> String {
        let mut cleaner = Cleaner::default();
        let mut shown = cleaner.clean(bytes);
        shown.extend(cleaner.end());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn text_and_colours_pass_and_orders_are_shown() {
        for (bytes, wanted) in [
            (&b"plain\ttext\r\n"[..], "plain\ttext\r\n"),
            ("\u{e4}\u{65e5}\u{1f980}".as_bytes(), "\u{e4}\u{65e5}\u{1f980}"),
            (b"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            (b"\x1b[38:2::1:2:3mred\x1b[m", "\x1b[38:2::1:2:3mred\x1b[m"),
            // A colour does not last beyond the output.
            (b"\x1b[31mred", "\x1b[31mred\x1b[0m"),
            (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            (b"\x1b]52;c;cm0=\x1b\\", "\\x1b]52;c;cm0=\\x1b\\"),
            (b"\x1b[2J\x1b[H\x1b[6n", "\\x1b[2J\\x1b[H\\x1b[6n"),
            (b"\x1b[?1m\x1b[>4m\x1bc", "\\x1b[?1m\\x1b[>4m\\x1bc"),
            (b"good\rbad\x08\x7f\x00", "good\\rbad\\x08\\x7f\\x00"),
            ("\u{9b}2J\u{202e}x".as_bytes(), "\\x9b2J\\u{202e}x"),
            (b"\x9b2J\xff\xc3(", "\\x9b2J\\xff\\xc3("),
            (b"cut \xe6\x97", "cut \\xe6\\x97"),
            (b"cut \x1b[1;3", "cut \\x1b[1;3"),
            (b"cut \x1b", "cut \\x1b"),
            (b"cut \r", "cut \\r"),
        ] {
            assert_eq!(cleaned(bytes), wanted);
        }
        let long = [b"\x1b[".as_slice(), &[b'1'; 1000], b"m"].concat();
        assert!(cleaned(&long).starts_with("\\x1b[111"));
    }

    #[test]
    fn a_colour_ends_with_a_line_that_is_alone() {
        assert_eq!(Cleaner::whole(b"\x1b[31mred\n"), b"\x1b[31mred\x1b[0m\n");
        assert_eq!(Cleaner::whole(b"a\x1b"), b"a\\x1b");
        assert_eq!(Cleaner::whole(b"a\r\n"), b"a\r\n");
    }

    proptest! {
        /// The output is the same however it is cut, and never controls a terminal.
        #[test]
        fn any_bytes_in_any_pieces(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x1b), Just(b'['), Just(b'm'), Just(b'\r'), Just(0xc2)], 0..60),
            size in 1usize..8,
        ) {
            let mut cleaner = Cleaner::default();
            let mut shown: Vec<u8> = bytes.chunks(size).flat_map(|piece| cleaner.clean(piece)).collect();
            shown.extend(cleaner.end());
            let shown = String::from_utf8(shown).unwrap();
            prop_assert_eq!(&shown, &cleaned(&bytes));
            let mut rest = shown.as_str();
            while let Some(at) = rest.find(|c: char| is_order(c) && !matches!(c, '\n' | '\t')) {
                rest = &rest[at..];
                let end = rest.find('m').map_or(rest.len(), |end| end + 1);
                let order = &rest[..end.min(2)];
                prop_assert!(
                    rest.starts_with("\r\n")
                        || rest.strip_prefix("\x1b[").is_some_and(|rest| {
                            rest.trim_start_matches(|c: char| c.is_ascii_digit() || ";:".contains(c)).starts_with('m')
                        }),
                    "{order:?}"
                );
                rest = &rest[1..];
                rest = rest.strip_prefix('\n').unwrap_or(rest);
            }
        }
    }
}
