//! The writing of texts and results to standard output and to files.

mod results;
mod target;
mod writer;

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

pub use self::results::write_results;
pub use self::target::{check, check_stdout, keep, save, write_public};
pub(crate) use self::writer::{Counted, Patient, passed_on};
use crate::cli::printable::printable_json;
use crate::report::{ProcessRecord, ResultContext};

/// The exit code after the reader of standard output has closed it, as a shell reports SIGPIPE.
pub const CLOSED_PIPE: u8 = 128 + libc::SIGPIPE as u8;

/// The remedy for an output that cannot be written, as the end of the sentence.
pub fn unwritten_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "free space on its disk, or redirect it",
        Some(libc::EBADF) => "it is closed: open it, or redirect it",
        _ => "redirect it to a file that this user can write",
    }
}

/// Writes a text to standard output.
///
/// # Errors
/// The OS error of writing.
pub fn print_text(text: &str) -> io::Result<()> {
    Patient::new(&io::stdout())?.write_all(text.as_bytes())
}

/// Writes the results to standard output, on one line.
///
/// # Errors
/// As [`write_results`].
pub fn print(results: &[Arc<ProcessRecord>], context: &ResultContext) -> io::Result<()> {
    print_to(&io::stdout(), results, context)
}

/// Writes the results to standard output or standard error, on one line.
///
/// # Errors
/// As [`write_results`].
pub fn print_to(
    to: &impl AsFd,
    results: &[Arc<ProcessRecord>],
    context: &ResultContext,
) -> io::Result<()> {
    // Unbuffered: the pieces are large enough, and the program's end loses nothing.
    let mut out = Patient::new(to)?;
    if to.as_fd().is_terminal() {
        write_results(results, context, &mut Escaping { to: &mut out, cut: Vec::new() })?;
    } else {
        write_results(results, context, &mut out)?;
    }
    out.write_all(b"\n")
}

/// Writes equivalent JSON that cannot control a terminal.
struct Escaping<'a, W> {
    to: &'a mut W,
    /// The beginning of a character whose rest is missing.
    cut: Vec<u8>,
}

impl<W: Write> Write for Escaping<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.cut.extend_from_slice(bytes);
        // JSON is UTF-8, but for a character that is cut.
        let text = self.cut.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let (shown, length) = (printable_json(text), text.len());
        self.cut.drain(..length);
        self.to.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
