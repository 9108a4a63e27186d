//! The last lines, read from the end backwards, only as far as needed.

use super::Logs;
use super::plan::Chunk;
use crate::cli::client::error::ClientError;

/// Number of bytes of the first read; each further read is four times as large, until the lines
/// suffice.
const FIRST: u64 = 64 * 1024;

/// The end of `chunk_times` that contains `count` lines, and the number of surplus lines at its
/// beginning.
pub(super) async fn last_lines(
    logs: &Logs<'_>,
    chunks: Vec<Chunk>,
    count: u64,
) -> Result<(Vec<Chunk>, u64), ClientError> {
    if count == 0 {
        return Ok((Vec::new(), 0));
    }
    let mut room = FIRST;
    loop {
        let (last, whole) = suffix(&chunks, room);
        // With times, each fd has its own lines, which are printed whole.
        let mut counted = Counted::new(if logs.args.timestamps { logs.plan.fds.len() } else { 1 });
        logs.each(&last, |chunk, bytes| {
            counted.add(if logs.args.timestamps { chunk.fd } else { 0 }, bytes);
            Ok(())
        })
        .await?;
        let (lines, torn) = counted.end();
        let surplus = lines.saturating_sub(count);
        // The first line of each fd may lack its beginning.
        if whole || surplus >= torn {
            return Ok((last, surplus));
        }
        room = room.saturating_mul(4);
    }
}

/// Counts lines in the order in which they end.
struct Counted {
    lines: u64,
    /// The number of lines up to the last that was the first of its fd.
    torn: u64,
    /// For each fd, whether its first line has ended, and whether a line has begun.
    each: Vec<(bool, bool)>,
}

impl Counted {
    fn new(fds: usize) -> Counted {
        Counted { lines: 0, torn: 0, each: vec![(false, false); fds] }
    }

    fn add(&mut self, fd: usize, bytes: &[u8]) {
        let Some((first_ended, begun)) = self.each.get_mut(fd) else { return };
        let ends = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        if ends > 0 && !*first_ended {
            *first_ended = true;
            self.torn = self.lines + 1;
        }
        self.lines += ends;
        *begun = bytes.last().map_or(*begun, |last| *last != b'\n');
    }

    /// The number of lines, unfinished ones included, and the number of the last line that may lack
    /// its beginning.
    fn end(mut self) -> (u64, u64) {
        for (first_ended, begun) in self.each {
            self.lines += u64::from(begun);
            if begun && !first_ended {
                self.torn = self.lines;
            }
        }
        (self.lines, self.torn)
    }
}

/// The last `room` bytes of chunks, and whether these are all bytes.
fn suffix(chunks: &[Chunk], room: u64) -> (Vec<Chunk>, bool) {
    let mut left = room;
    let mut last = Vec::new();
    for chunk in chunks.iter().rev() {
        let length = chunk.length.min(left);
        last.push(Chunk { offset: chunk.offset + (chunk.length - length), length, ..*chunk });
        left -= length;
        if left == 0 {
            break;
        }
    }
    let whole = last.iter().map(|chunk| chunk.length).sum::<u64>()
        == chunks.iter().map(|chunk| chunk.length).sum::<u64>();
    last.reverse();
    (last, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_fds_are_counted_as_they_end() {
        let count = |fds, parts: &[(usize, &str)]| {
            let mut counted = Counted::new(fds);
            parts.iter().for_each(|(fd, text)| counted.add(*fd, text.as_bytes()));
            counted.end()
        };
        assert_eq!(count(1, &[(0, "a\nb\nc")]), (3, 1));
        assert_eq!(count(1, &[(0, "a"), (0, "b"), (0, "c\n")]), (1, 1));
        // The first line of the second fd is the third line that ends.
        assert_eq!(count(2, &[(0, "a\n"), (1, "b"), (0, "c\nd"), (1, "e\nf")]), (5, 3));
        assert_eq!(count(2, &[(0, "a\nb\n"), (1, "c")]), (3, 3));
        assert_eq!(count(2, &[]), (0, 0));
    }

    #[test]
    fn suffixes() {
        let chunk = |fd, offset, length| Chunk { time: None, fd, offset, length };
        let chunks = [chunk(0, 0, 10), chunk(1, 0, 5), chunk(0, 10, 3)];
        assert_eq!(suffix(&chunks, 100), (chunks.to_vec(), true));
        assert_eq!(suffix(&chunks, 18), (chunks.to_vec(), true));
        assert_eq!(suffix(&chunks, 4), (vec![chunk(1, 4, 1), chunk(0, 10, 3)], false));
        assert_eq!(suffix(&[], 4), (vec![], true));
    }
}
