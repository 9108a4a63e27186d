//! Output as it is printed: byte for byte, or with times before lines.

use jiff::Timestamp;

use crate::cli::client::error::ClientError;
use crate::cli::client::out::Out;

/// Prints bytes of several fds.
pub(super) struct Lines<'o> {
    out: &'o mut Out,
    stamped: bool,
    /// Names of the fds, where lines tell whose they are.
    names: Vec<String>,
    /// The fd whose line has begun.
    open: Option<usize>,
    /// Lines that are not printed.
    skip: u64,
}

impl<'o> Lines<'o> {
    /// Prints to `out`; with times, and with the names of fds, if asked to.
    pub(super) fn new(out: &'o mut Out, stamped: bool, names: Vec<String>) -> Self {
        Lines { out, stamped, names, open: None, skip: 0 }
    }

    /// Leaves out so many of the next lines.
    pub(super) fn skip(&mut self, lines: u64) {
        self.skip = lines;
    }

    /// Prints bytes of an fd that were read at `time`, in seconds since the epoch.
    pub(super) fn put(
        &mut self,
        fd: usize,
        time: Option<f64>,
        bytes: &[u8],
    ) -> Result<(), ClientError> {
        let bytes = self.skipped(bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.stamped {
            return self.out.write(bytes);
        }
        let mut text = Vec::with_capacity(bytes.len() + 64);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.open.is_some_and(|open| open != fd) {
                // Another's line that has no end yet.
                text.push(b'\n');
                self.open = None;
            }
            if self.open.is_none() {
                text.extend_from_slice(stamp(time).as_bytes());
                if let Some(name) = self.names.get(fd) {
                    text.extend_from_slice(format!("{name} ").as_bytes());
                }
            }
            text.extend_from_slice(line);
            self.open = (!line.ends_with(b"\n")).then_some(fd);
        }
        self.out.write(text)
    }

    /// What is left behind the lines that are not printed.
    fn skipped<'b>(&mut self, mut bytes: &'b [u8]) -> &'b [u8] {
        while self.skip > 0 {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return &[] };
            bytes = bytes.get(end + 1..).unwrap_or_default();
            self.skip -= 1;
        }
        bytes
    }
}

/// A time in UTC to the microsecond, and a space; a dash where it is not known.
fn stamp(time: Option<f64>) -> String {
    let time = time.and_then(|time| Timestamp::from_microsecond((time * 1e6).round() as i64).ok());
    match time {
        Some(time) => format!("{} ", time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")),
        None => "- ".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        assert_eq!(stamp(Some(1.5)), "1970-01-01T00:00:01.500000Z ");
        assert_eq!(stamp(None), "- ");
    }
}
