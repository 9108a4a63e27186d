//! Results as one JSON object, written as a stream: no result is held as a whole.

mod target;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use self::target::{check, check_stdout, keep, save, write_public};
use crate::cli::printable::printable_json;
use crate::report::{AsOf, ProcessRecord, ResultContext, ResultFormat, ResultStream};

/// How many bytes have been written to whoever reads our output.
static PASSED_ON: AtomicU64 = AtomicU64::new(0);

/// How many bytes of output and results this program has written: who waits for a reader sees by it whether that takes anything.
pub(crate) fn passed_on() -> u64 {
    PASSED_ON.load(Ordering::Relaxed)
}

/// Counts what is written.
pub(crate) struct Counted<'a, W>(pub(crate) &'a mut W);

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        PASSED_ON.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes `{ID: result, ...}` to `out`, without a newline at the end.
///
/// # Errors
/// The OS error of reading a capture or of writing.
pub fn write_results(
    results: &[Arc<ProcessRecord>],
    context: &ResultContext,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut out = Counted(out);
    let mut piece = Vec::new();
    for (i, record) in results.iter().enumerate() {
        piece.push(if i == 0 { b'{' } else { b',' });
        serde_json::to_writer(&mut piece, &record.id)?;
        piece.push(b':');
        let mut stream = ResultStream::new(record, AsOf::Now, context, ResultFormat::Json)?;
        while stream.fill(&mut piece)? {
            out.write_all(&piece)?;
            piece.clear();
        }
        // Small results gather, up to what a pipe takes at once.
        if piece.len() >= 32 * 1024 {
            out.write_all(&piece)?;
            piece.clear();
        }
    }
    piece.extend_from_slice(if results.is_empty() { b"{}" } else { b"}" });
    out.write_all(&piece)?;
    out.flush()
}

/// Waits where a write would block: a child that shares our standard output may have made it non-blocking.
pub(crate) struct Patient(File);

impl Patient {
    /// Writes to what a descriptor is open to.
    ///
    /// # Errors
    /// The OS error of duplicating the descriptor.
    pub(crate) fn new(to: &impl AsFd) -> io::Result<Patient> {
        Ok(Patient(File::from(to.as_fd().try_clone_to_owned()?)))
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut wanted = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
                    match poll(&mut wanted, PollTimeout::NONE) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The exit code where the reader of standard output has closed it, as a shell reports SIGPIPE.
pub const CLOSED_PIPE: u8 = 128 + libc::SIGPIPE as u8;

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
    // Unbuffered: the pieces are large enough, and nothing is left behind by the end of the program.
    let mut out = Patient::new(to)?;
    if to.as_fd().is_terminal() {
        write_results(results, context, &mut Escaping { to: &mut out, cut: Vec::new() })?;
    } else {
        write_results(results, context, &mut out)?;
    }
    out.write_all(b"\n")
}

/// Writes JSON that a terminal takes no orders from, and that means the same.
struct Escaping<'a, W> {
    to: &'a mut W,
    /// The beginning of a character whose rest has not come.
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
