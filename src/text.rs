//! The encoding of texts that users write: specs and configuration files are UTF-8.

/// The mark that some editors put at the beginning.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What is wrong with a text in UTF-16.
pub(crate) const UTF_16: &str = "the text is UTF-16: convert it to UTF-8";

/// A text without the byte order mark that it may begin with; its first character is that of a spec or a configuration file, which is ASCII.
///
/// # Errors
/// [`UTF_16`], where that is what it is in.
pub(crate) fn utf8(text: &[u8]) -> Result<&[u8], &'static str> {
    match text {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(UTF_16),
        // Without a mark: an ASCII character of two bytes.
        [0, 1..=0x7f, ..] | [1..=0x7f, 0, ..] => Err(UTF_16),
        _ => Ok(text.strip_prefix(MARK).unwrap_or(text)),
    }
}
