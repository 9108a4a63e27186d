//! The order and time of chunks of output: a file of records beside a capture, one per read.
//!
//! Consecutive chunks of one fd become one within a time that grows with the number of records: at
//! first a millisecond, and twice as long after each thousand. So a day of output has some tens of
//! thousands of records; beyond [`MOST`], all output joins the last one.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The size of a record in bytes.
const SIZE: usize = 24;
/// Most records of one capture.
const MOST: u64 = 16 * 1024;
/// Time, from the beginning of a chunk, within which later output joins it, in nanoseconds; doubled
/// every [`STEP`] records.
const TOGETHER: u64 = 1_000_000;
const STEP: u64 = 1000;

/// A chunk of one capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The time of reading, by the monotonic clock in nanoseconds.
    pub(super) time: u64,
    /// The offset in the output.
    pub(super) offset: u64,
    /// The length in bytes.
    pub(super) length: u64,
}

impl Chunk {
    fn to_bytes(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let words = [self.time, self.offset, self.length];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Chunk> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(Chunk { time: word(0)?, offset: word(8)?, length: word(16)? })
    }
}

/// Writes the records of a capture.
pub(in crate::engine) struct ChunkLog {
    file: File,
    count: u64,
    last: Option<Chunk>,
}

impl ChunkLog {
    /// Begins a file of records, or continues an existing one.
    ///
    /// # Errors
    /// The OS error of reading the file.
    pub(super) fn new(file: File) -> io::Result<ChunkLog> {
        let count = file.metadata()?.len() / SIZE as u64;
        let mut last = None;
        if let Some(at) = count.checked_sub(1) {
            let mut bytes = [0; SIZE];
            file.read_exact_at(&mut bytes, at * SIZE as u64)?;
            last = Chunk::from_bytes(&bytes);
        }
        Ok(ChunkLog { file, count, last })
    }

    /// Records what an earlier writer stored without a record, up to the stored `length`.
    ///
    /// # Errors
    /// The OS error of writing.
    pub(super) fn catch_up(&mut self, time: u64, length: u64) -> io::Result<()> {
        let recorded = self.last.map_or(0, |last| last.offset + last.length);
        match length.checked_sub(recorded) {
            None | Some(0) => Ok(()),
            Some(missing) => self.add(time, missing, false),
        }
    }

    /// Records that `length` bytes were read at `time`; `follows` if no other fd was read since the
    /// last chunk.
    ///
    /// # Errors
    /// The OS error of writing.
    pub(in crate::engine) fn add(
        &mut self,
        time: u64,
        length: u64,
        follows: bool,
    ) -> io::Result<()> {
        let next = self.last.map_or(0, |last| last.offset + last.length);
        let window = TOGETHER << (self.count / STEP);
        let chunk = match self.last {
            Some(last)
                if self.count >= MOST || (follows && time.saturating_sub(last.time) < window) =>
            {
                Chunk { length: last.length + length, ..last }
            }
            _ => {
                self.count += 1;
                Chunk { time, offset: next, length }
            }
        };
        self.last = Some(chunk);
        self.file.write_all_at(&chunk.to_bytes(), (self.count - 1) * SIZE as u64)
    }
}

/// The number of records of a capture.
///
/// # Errors
/// The OS error of reading the file's metadata.
pub(super) fn count(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.len() / SIZE as u64)
}

/// Reads the records of a capture, from one on.
///
/// # Errors
/// The OS error of reading the file.
pub(super) fn read(path: &Path, from: u64) -> io::Result<Vec<Chunk>> {
    let mut file = super::open_to_read(path)?;
    file.seek(SeekFrom::Start(from * SIZE as u64))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes.chunks_exact(SIZE).filter_map(Chunk::from_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The records cover the output without a gap, in order, and within their limit.
        #[test]
        fn records_cover_all(
            adds in prop::collection::vec((0u64..3_000_000, 1u64..1000, any::<bool>()), 1..200),
            from in 0usize..50,
        ) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let log = || ChunkLog::new(file.reopen().unwrap()).unwrap();
            let mut current = log();
            let (mut time, mut written) = (0, 0);
            for (i, (pause, length, follows)) in adds.iter().enumerate() {
                if i % 50 == 49 {
                    current = log();
                }
                time += pause;
                written += length;
                current.add(time, *length, *follows).unwrap();
            }
            let chunks = read(file.path(), 0).unwrap();
            let mut at = 0;
            let mut before = 0;
            for chunk in &chunks {
                prop_assert_eq!(chunk.offset, at);
                prop_assert!(chunk.time >= before);
                at += chunk.length;
                before = chunk.time;
            }
            prop_assert_eq!(at, written);
            prop_assert_eq!(count(file.path()).unwrap(), chunks.len() as u64);
            let rest = chunks.get(from..).unwrap_or_default();
            prop_assert_eq!(read(file.path(), from as u64).unwrap(), rest);
        }
    }

    #[test]
    fn without_end_there_are_not_more_records() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut log = ChunkLog::new(file.reopen().unwrap()).unwrap();
        for i in 0..2 * MOST {
            log.add(i * 1_000_000_000_000, 1, false).unwrap();
        }
        let chunks = read(file.path(), 0).unwrap();
        assert_eq!(chunks.len() as u64, MOST);
        assert_eq!(chunks.iter().map(|chunk| chunk.length).sum::<u64>(), 2 * MOST);
    }
}
