//! Standard error as an output that can neither fail nor block the program.
//!
//! A pipe that nobody reads is full after 64 KiB, and a write to it would stop the thread, and with
//! it every actor, for ever. So each piece is written only when the kernel reports that the write
//! would not block. If that takes longer than [`PATIENCE`], the line is lost, and later lines are
//! lost without another wait until there is room. Then a line reports the number of lost lines.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing_subscriber::fmt::MakeWriter;

/// How long a reader may make a line wait, once, before lines are lost.
const PATIENCE: Duration = Duration::from_millis(50);
/// A pipe that is writable has room for this much, so that such a write does not block.
const PIECE: usize = 4096;

/// Erases from the cursor to the end of its line.
pub(crate) const ERASE: &[u8] = b"\x1b[K";

/// Creates writers to standard error with a common state.
#[derive(Clone)]
pub(super) struct Stderr {
    one_line: bool,
    /// The bytes before each line.
    before: &'static [u8],
    state: Arc<Mutex<LineState>>,
}

#[derive(Default)]
struct LineState {
    /// Lines lost since the last written one. While it is not zero, no write waits.
    lost: u64,
    /// Whether the last line written lacks its end.
    torn: bool,
}

impl Stderr {
    /// With `one_line`, line breaks within an event are escaped, so that no outside text can begin
    /// a log line. JSON has no line breaks.
    pub(super) fn new(one_line: bool) -> Self {
        Self { one_line, before: b"", state: Arc::default() }
    }

    /// The same, for a terminal that may show progress: each log line erases the progress line, at
    /// whose beginning the cursor waits.
    pub(super) fn erasing(self) -> Self {
        Self { before: ERASE, ..self }
    }
}

impl<'w> MakeWriter<'w> for Stderr {
    type Writer = Writer<'w, io::Stderr>;

    fn make_writer(&'w self) -> Self::Writer {
        Writer { out: io::stderr(), to: self }
    }
}

/// Accepts one whole event with each write, as tracing's formatter writes it; never fails.
pub(super) struct Writer<'w, O> {
    out: O,
    to: &'w Stderr,
}

impl<O: Write + AsFd> Write for Writer<'_, O> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let event_line = if self.to.one_line { unbroken(event) } else { event.to_vec() };
        let line = [self.to.before, &event_line].concat();
        let mut state = self.to.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.line(&mut self.out, &line);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LineState {
    fn line(&mut self, out: &mut (impl Write + AsFd), line: &[u8]) {
        let patience = if self.lost == 0 { PATIENCE } else { Duration::ZERO };
        let deadline = Instant::now() + patience;
        let mut prefix = Vec::new();
        if self.torn {
            prefix.push(b'\n');
        }
        if self.lost > 0 {
            let lost = format!("(lost {} log lines: nobody read them)\n", self.lost);
            prefix.extend_from_slice(lost.as_bytes());
        }
        match send(out, &prefix, deadline) {
            Sent::All => {
                (self.lost, self.torn) = (0, false);
            }
            Sent::Nothing => {
                self.lost += 1;
                return;
            }
            Sent::Part => {
                (self.lost, self.torn) = (self.lost + 1, true);
                return;
            }
        }
        match send(out, line, deadline) {
            Sent::All => {}
            Sent::Nothing => self.lost += 1,
            Sent::Part => (self.lost, self.torn) = (self.lost + 1, true),
        }
    }
}

enum Sent {
    All,
    Part,
    Nothing,
}

/// Writes `bytes`, or as many as possible before `deadline`. A closed output counts as written,
/// because it has no reader.
fn send(out: &mut (impl Write + AsFd), bytes: &[u8], deadline: Instant) -> Sent {
    let mut rest = bytes;
    while !rest.is_empty() {
        if !writable(out.as_fd(), deadline) {
            return unsent(rest, bytes);
        }
        let piece = rest.get(..PIECE).unwrap_or(rest);
        match out.write(piece) {
            Ok(written) => rest = rest.get(written.max(1)..).unwrap_or_default(),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                // The description is shared: another program may have made it non-blocking.
                io::ErrorKind::WouldBlock if Instant::now() < deadline => {}
                io::ErrorKind::WouldBlock => return unsent(rest, bytes),
                _ => return Sent::All,
            },
        }
    }
    Sent::All
}

fn unsent(rest: &[u8], bytes: &[u8]) -> Sent {
    if rest.len() == bytes.len() { Sent::Nothing } else { Sent::Part }
}

/// Whether a write would not block, or would fail at once.
fn writable(fd: BorrowedFd<'_>, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
        match poll(&mut fds, timeout) {
            Ok(0) => return false,
            Err(Errno::EINTR) => {}
            // If poll fails, the write reports the error.
            Ok(_) | Err(_) => return true,
        }
    }
}

/// The event with its inner line breaks escaped. The formatter has already escaped control
/// characters in outside text.
fn unbroken(event: &[u8]) -> Vec<u8> {
    let body = event.strip_suffix(b"\n").unwrap_or(event);
    let mut line = Vec::with_capacity(event.len());
    for byte in body {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            _ => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use super::*;

    fn pipe() -> (File, File) {
        let (read, write): (OwnedFd, OwnedFd) = nix::unistd::pipe().unwrap();
        (File::from(read), File::from(write))
    }

    fn log(to: &Stderr, out: &File, text: &str) {
        let mut writer = Writer { out: out.try_clone().unwrap(), to };
        assert_eq!(writer.write(text.as_bytes()).unwrap(), text.len());
    }

    #[test]
    fn an_unread_pipe_loses_lines_and_says_so() {
        let (mut read, write) = pipe();
        let to = Stderr::new(true);
        // Far more than a pipe holds: this returns only if nothing blocks.
        let line = format!("{}\n", "x".repeat(9_999));
        let start = Instant::now();
        for _ in 0..1_000 {
            log(&to, &write, &line);
        }
        assert!(start.elapsed() < 20 * PATIENCE, "only the first lost line waits");
        let lost = to.state.lock().unwrap().lost;
        assert!((900..1_000).contains(&lost), "{lost}");

        let mut buffer = vec![0; 1 << 20];
        let count = read.read(&mut buffer).unwrap();
        let before = String::from_utf8_lossy(&buffer[..count]).into_owned();
        log(&to, &write, "again\n");
        drop(write);
        let mut after = String::new();
        read.read_to_string(&mut after).unwrap();
        let all = before + &after;
        assert!(all.ends_with(&format!("\n(lost {lost} log lines: nobody read them)\nagain\n")));
        let whole = all.lines().filter(|line| line.len() == 9_999).count();
        assert_eq!(whole as u64, 1_000 - lost, "what was not lost is whole");
    }

    #[test]
    fn a_log_line_erases_the_line_of_progress() {
        let (mut read, write) = pipe();
        log(&Stderr::new(true).erasing(), &write, "a\n");
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\u{1b}[Ka\n");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let (read, write) = pipe();
        drop(read);
        let to = Stderr::new(true);
        for _ in 0..3 {
            log(&to, &write, "nobody hears\n");
        }
        assert_eq!(to.state.lock().unwrap().lost, 0);
    }

    #[test]
    fn an_event_is_one_line() {
        let (mut read, write) = pipe();
        log(&Stderr::new(true), &write, "a\nINFO forged\r\n\n");
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a\\nINFO forged\\r\\n\n");
    }
}
