//! The printing of output: byte for byte, or with times before lines; on a terminal
//! [cleaned](crate::cli::client::clean).

use jiff::Timestamp;

use crate::cli::client::clean::Cleaner;
use crate::cli::client::error::ClientError;
use crate::cli::client::out::Out;

/// Maximum length of a line that waits for its end.
const LONGEST: usize = 64 * 1024;

/// Prints bytes of several fds.
pub(super) struct Lines<'o> {
    out: &'o mut Out,
    /// Number of lines still to skip.
    skip: u64,
    /// Whole lines with their times; `None` to print bytes as they come.
    stamped: Option<Stamped>,
    /// One for each fd; empty if output is not cleaned.
    cleaners: Vec<Cleaner>,
}

impl<'o> Lines<'o> {
    /// Prints bytes of `count` fds to `out`, cleaned on a terminal unless `raw` is set.
    pub(super) fn plain(out: &'o mut Out, count: usize, raw: bool) -> Self {
        let cleaned = if out.terminal && !raw { count } else { 0 };
        let cleaners = (0..cleaned).map(|_| Cleaner::default()).collect();
        Lines { out, skip: 0, stamped: None, cleaners }
    }

    /// Prints lines with their times, and with the names of the fds if `names` has any.
    pub(super) fn stamped(self, count: usize, names: Vec<String>) -> Self {
        let cleans = !self.cleaners.is_empty();
        Lines { stamped: Some(Stamped { cleans, ..Stamped::new(count, names) }), ..self }
    }

    /// Skips this number of the next lines.
    pub(super) fn skip(&mut self, lines: u64) {
        self.skip = lines;
    }

    /// Prints bytes of an fd that were read at `time`, in seconds since the epoch. With times, a
    /// line waits for its end.
    pub(super) fn put(
        &mut self,
        fd: usize,
        time: Option<f64>,
        bytes: &[u8],
    ) -> Result<(), ClientError> {
        match &mut self.stamped {
            Some(stamped) => {
                let text = stamped.put(fd, time, bytes, &mut self.skip);
                self.out.write(text)
            }
            None => match (skipped(bytes, &mut self.skip), self.cleaners.get_mut(fd)) {
                ([], _) => Ok(()),
                (bytes, Some(cleaner)) => self.out.write(cleaner.clean(bytes)),
                (bytes, None) => self.out.write(bytes),
            },
        }
    }

    /// Prints the lines that have no end.
    pub(super) fn end(&mut self) -> Result<(), ClientError> {
        match &mut self.stamped {
            Some(stamped) => self.out.write(stamped.end(&mut self.skip)),
            None => {
                let rest: Vec<u8> = self.cleaners.iter_mut().flat_map(Cleaner::end).collect();
                self.out.write(rest)
            }
        }
    }
}

/// The bytes after the skipped lines.
fn skipped<'b>(mut bytes: &'b [u8], skip: &mut u64) -> &'b [u8] {
    while *skip > 0 {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return &[] };
        bytes = bytes.get(end + 1..).unwrap_or_default();
        *skip -= 1;
    }
    bytes
}

/// Assembles whole lines, each with the time of its beginning; bytes of other fds may come between.
pub(super) struct Stamped {
    /// Names of the fds, if lines show them.
    names: Vec<String>,
    /// For each fd, the beginning of a line that has no end yet.
    open: Vec<Option<Line>>,
    /// Whether lines are cleaned.
    cleans: bool,
}

/// A line that has no end yet.
struct Line {
    time: Option<f64>,
    bytes: Vec<u8>,
}

impl Stamped {
    fn new(count: usize, names: Vec<String>) -> Stamped {
        Stamped { names, open: (0..count).map(|_| None).collect(), cleans: false }
    }

    /// The lines that end with these bytes of an fd, without the skipped ones.
    fn put(&mut self, fd: usize, time: Option<f64>, bytes: &[u8], skip: &mut u64) -> Vec<u8> {
        let mut text = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(open) = self.open.get_mut(fd) else { break };
            let line = open.get_or_insert_with(|| Line { time, bytes: Vec::new() });
            line.bytes.extend_from_slice(part);
            if part.ends_with(b"\n") || line.bytes.len() >= LONGEST {
                self.close(fd, skip, &mut text);
            }
        }
        text
    }

    /// The lines that have no end, without the skipped ones.
    fn end(&mut self, skip: &mut u64) -> Vec<u8> {
        let mut text = Vec::new();
        for fd in 0..self.open.len() {
            self.close(fd, skip, &mut text);
        }
        // Only the last line keeps its missing end.
        text.pop_if(|last| *last == b'\n');
        text
    }

    /// Appends the open line of an fd to `text`.
    fn close(&mut self, fd: usize, skip: &mut u64, text: &mut Vec<u8>) {
        let Some(mut line) = self.open.get_mut(fd).and_then(Option::take) else { return };
        if *skip > 0 {
            *skip -= 1;
            return;
        }
        text.extend_from_slice(stamp(line.time).as_bytes());
        if let Some(name) = self.names.get(fd) {
            text.extend_from_slice(format!("{name} ").as_bytes());
        }
        if self.cleans {
            line.bytes = Cleaner::whole(&line.bytes);
        }
        text.extend_from_slice(&line.bytes);
        if !line.bytes.ends_with(b"\n") {
            text.push(b'\n');
        }
    }
}

/// A time in UTC to the microsecond, and a space; a dash if it is unknown.
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
    fn no_line_is_split_by_another() {
        let mut lines = Stamped::new(2, vec!["out".into(), "err".into()]);
        let mut skip = 0;
        let mut put = |fd, time, bytes: &str| {
            let text = lines.put(fd, Some(time), bytes.as_bytes(), &mut skip);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(put(0, 1.0, "one, "), "");
        assert_eq!(put(1, 2.0, "other\nmo"), "1970-01-01T00:00:02.000000Z err other\n");
        assert_eq!(
            put(0, 3.0, "two\n\n"),
            "1970-01-01T00:00:01.000000Z out one, two\n1970-01-01T00:00:03.000000Z out \n"
        );
        assert_eq!(put(0, 4.0, "last"), "");
        assert_eq!(put(1, 5.0, "re"), "");
        let end = String::from_utf8(lines.end(&mut 1)).unwrap();
        assert_eq!(end, "1970-01-01T00:00:02.000000Z err more");
    }

    #[test]
    fn a_line_without_end_is_not_held_for_ever() {
        let mut lines = Stamped::new(1, vec![]);
        let text = lines.put(0, None, &[b'x'; LONGEST], &mut 0);
        assert_eq!(text.len(), "- ".len() + LONGEST + 1);
        assert_eq!(lines.put(0, None, b"y\n", &mut 0), b"- y\n");
    }

    #[test]
    fn stamps() {
        assert_eq!(stamp(Some(1.5)), "1970-01-01T00:00:01.500000Z ");
        assert_eq!(stamp(None), "- ");
    }
}
