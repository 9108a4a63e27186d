//! The counters of a capture whose data file alone does not show its contents. They are in a file
//! beside it, which the capture's writer writes and any reader reads.
//!
//! The file holds one record of a few words, always written whole. A reader may still see one half
//! old and the other new, so the record has a checksum, and readers retry if it does not match. The
//! file outlives its writer, so the next keeper finds the last counts.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The record's size in bytes.
const SIZE: usize = 40;
/// Attempts to read a record with a matching checksum; a write takes less than a microsecond.
const TRIES: u32 = 10_000;

/// The progress of a capture's writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// More may come.
    #[default]
    Open,
    /// All output is read, but not all is stored.
    Finishing,
    /// All output is stored.
    Ended,
    /// Storing has failed; bytes counted before are intact.
    Failed,
}

/// The counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Bytes of output so far; readable as far as they are kept.
    pub(super) written: u64,
    /// Bytes of output after the write in progress, which overwrites older ones.
    pub(super) announced: u64,
    /// Valid bytes in the file: fewer than written if compressed.
    pub(super) stored: u64,
    /// The writer's progress.
    pub(super) phase: Phase,
}

impl Counters {
    /// Writes the record.
    ///
    /// # Errors
    /// The OS error.
    pub(super) fn write(&self, file: &File) -> io::Result<()> {
        let words = [self.written, self.announced, self.stored, self.phase as u64];
        let mut bytes = [0; SIZE];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words.iter().chain([&check(&words)])) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        file.write_all_at(&bytes, 0)
    }

    /// Reads the record; all zero before the first write.
    ///
    /// # Errors
    /// The OS error, or an invalid record.
    pub(super) fn read(file: &File) -> io::Result<Counters> {
        for tried in 0..TRIES {
            let mut bytes = [0; SIZE];
            match file.read_at(&mut bytes, 0) {
                Ok(0) => return Ok(Counters::default()),
                Ok(SIZE) => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if let Some(counters) = parse(&bytes) {
                return Ok(counters);
            }
            if tried > 10 {
                std::thread::yield_now();
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the counters of a capture are damaged"))
    }
}

fn parse(bytes: &[u8; SIZE]) -> Option<Counters> {
    let mut words = [0; 5];
    for (word, place) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(place.try_into().ok()?);
    }
    let [written, announced, stored, phase, sum] = words;
    let phase = match phase {
        0 => Phase::Open,
        1 => Phase::Finishing,
        2 => Phase::Ended,
        3 => Phase::Failed,
        _ => return None,
    };
    (sum == check(&[written, announced, stored, phase as u64])).then_some(Counters {
        written,
        announced,
        stored,
        phase,
    })
}

/// A checksum that detects a partly old record; FNV-1a over words, with the high bits folded in.
fn check(words: &[u64; 4]) -> u64 {
    words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| {
        let mixed = (sum ^ word).wrapping_mul(0x0100_0000_01b3);
        mixed ^ (mixed >> 29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_written_and_a_torn_one_never() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Counters::read(&file).unwrap(), Counters::default());
        let old = Counters { written: 1, announced: 2, stored: 3, phase: Phase::Open };
        let new = Counters { written: 300, announced: 400, stored: 500, phase: Phase::Ended };
        new.write(&file).unwrap();
        assert_eq!(Counters::read(&file).unwrap(), new);
        let image = |counters: &Counters| {
            counters.write(&file).unwrap();
            let mut bytes = [0; SIZE];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        let (old, new) = (image(&old), image(&new));
        for cut in 1..SIZE {
            let mut torn = new;
            torn[cut..].copy_from_slice(&old[cut..]);
            assert!(torn == new || torn == old || parse(&torn).is_none(), "{cut}");
        }
    }
}
