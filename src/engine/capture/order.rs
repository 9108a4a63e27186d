//! The chunks of several captures in the order of reading, also while more arrive.
//!
//! The engine writes one record at a time, but a reader reads one file at a time. A chunk in a
//! later file may precede a chunk that the reader has just missed in an earlier file. So the reader
//! first counts the records of all files, and then reads them. A record beyond its file's count is
//! newer than the count, so chunks at or after the first such record are not certain yet.

use std::collections::HashMap;
use std::io;

use super::chunk_times::Chunk;
use super::{Capture, Captures};
use crate::spec::FdName;

/// The position of a reader of chunks, per fd.
#[derive(Default)]
pub struct ChunkCursor(HashMap<FdName, Position>);

/// The position in one capture.
#[derive(Clone, Copy, Default)]
struct Position {
    /// The last record that was read: it may still grow.
    record: u64,
    /// The offset of the next bytes.
    offset: u64,
}

/// A part of the output: its time of reading (monotonic clock, in nanoseconds), its fd, offset and
/// length.
pub type ChunkTime = (u64, FdName, u64, u64);

impl ChunkCursor {
    /// The bytes of an fd before this position.
    pub fn length(&self, fd: FdName) -> u64 {
        self.0.get(&fd).map_or(0, |position| position.offset)
    }
}

impl Captures {
    /// All chunks of the output, in the order of reading. `None` if no fd has recorded chunks.
    pub fn chunk_times(&self) -> Option<Vec<ChunkTime>> {
        self.with_chunk_times().next()?;
        Some(self.take_chunks(&mut ChunkCursor::default()).unwrap_or_default())
    }

    /// The chunks since `taken`, in the order of reading; a later call returns those that are not
    /// certain yet.
    ///
    /// # Errors
    /// The OS error of reading the records.
    pub fn take_chunks(&self, taken: &mut ChunkCursor) -> io::Result<Vec<ChunkTime>> {
        let of = |fd| taken.0.get(&fd).copied().unwrap_or_default();
        let mut counts = Vec::new();
        for (_, capture) in self.with_chunk_times() {
            counts.push(capture.count_chunks()?);
        }
        let mut read = Vec::new();
        for (fd, capture) in self.with_chunk_times() {
            read.push((fd, of(fd), capture.read_chunks(of(fd).record)?));
        }
        let newer = read.iter().zip(counts).filter_map(|((_, position, chunks), count)| {
            let at = usize::try_from(count.saturating_sub(position.record)).ok()?;
            chunks.get(at).map(|chunk| chunk.time)
        });
        let certain_before = newer.min().unwrap_or(u64::MAX);
        let mut parts = Vec::new();
        for (fd, position, chunks) in read {
            // The engine stores bytes after their record, so the length is read last.
            let end = self.get(fd).map_or(0, Capture::written);
            let position =
                parts_of(&chunks, position, certain_before, end, |time, offset, length| {
                    parts.push((time, fd, offset, length));
                });
            taken.0.insert(fd, position);
        }
        // A stable sort: two chunks of one fd never have the same time.
        parts.sort_by_key(|(time, ..)| *time);
        Ok(parts)
    }

    fn with_chunk_times(&self) -> impl Iterator<Item = (FdName, &Capture)> {
        self.iter()
            .filter_map(|(fd, capture)| Some((fd, capture.filter(|one| one.spec.chunk_times)?)))
    }
}

/// Appends the new and certain parts of one capture's chunks; returns the position behind them.
fn parts_of(
    chunks: &[Chunk],
    mut position: Position,
    certain_before: u64,
    end: u64,
    mut pass: impl FnMut(u64, u64, u64),
) -> Position {
    let certain = chunks.iter().take_while(|chunk| chunk.time < certain_before);
    for (record, chunk) in (position.record..).zip(certain) {
        position.record = record;
        let whole = chunk.offset + chunk.length;
        let stop = whole.min(end);
        if stop > position.offset {
            let start = position.offset.max(chunk.offset);
            pass(chunk.time, start, stop - start);
            position.offset = stop;
        }
        if stop < whole {
            break;
        }
    }
    position
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_piece_that_may_not_be_the_next_waits() {
        let chunk = |time, offset, length| Chunk { time, offset, length };
        let chunks = [chunk(1, 0, 3), chunk(5, 3, 2), chunk(9, 5, 4)];
        let taken = |position, before, end| {
            let mut parts = Vec::new();
            let position = parts_of(&chunks, position, before, end, |time, at, length| {
                parts.push((time, at, length));
            });
            (parts, position.record, position.offset)
        };
        let none = Position::default();
        assert_eq!(taken(none, u64::MAX, 9), (vec![(1, 0, 3), (5, 3, 2), (9, 5, 4)], 2, 9));
        assert_eq!(taken(none, 9, 9), (vec![(1, 0, 3), (5, 3, 2)], 1, 5));
        assert_eq!(taken(none, 1, 9), (vec![], 0, 0));
        // The bytes of the last chunk are not stored yet.
        assert_eq!(taken(none, u64::MAX, 6), (vec![(1, 0, 3), (5, 3, 2), (9, 5, 1)], 2, 6));
        // The last record has grown.
        let half = Position { record: 0, offset: 2 };
        assert_eq!(taken(half, u64::MAX, 9), (vec![(1, 2, 1), (5, 3, 2), (9, 5, 4)], 2, 9));
    }

    proptest! {
        /// Each byte comes once and in order, however often the reader polls.
        #[test]
        fn all_comes_once(lengths in prop::collection::vec(1u64..9, 1..50), ends in prop::collection::vec(0u64..400, 0..20)) {
            let mut chunks = Vec::new();
            let mut offset = 0;
            for (time, length) in (1u64..).zip(&lengths) {
                chunks.push(Chunk { time, offset, length: *length });
                offset += length;
            }
            let mut ends = ends;
            ends.sort_unstable();
            ends.push(offset);
            let (mut position, mut at) = (Position::default(), 0);
            for end in ends {
                let rest = &chunks[position.record as usize..];
                position = parts_of(rest, position, u64::MAX, end, |_, start, length| {
                    assert_eq!(start, at);
                    at += length;
                });
            }
            prop_assert_eq!(at, offset);
        }
    }
}
