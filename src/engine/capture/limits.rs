//! Output of which only the beginning and the end are kept.
//!
//! The file holds the head, and behind it a ring for the rest of the stream. The ring is larger
//! than the kept tail by some slack: a write of up to that size overwrites no kept byte, and a
//! reader has time to read what the counters promised. The writer announces each overwriting write
//! in the [`Counters`], and counts it afterwards. So the counters show which bytes are intact at
//! any moment, even if the writer dies during a write.
//!
//! The engine moves bytes from a pipe to the file within the kernel, and the file's position with
//! them: see [`sys::splice`]. If the engine is killed before it has counted them, the next writer
//! reads from the position, of which a second holder has a duplicate, how many they were.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use super::counters::{Counters, Phase};
use crate::engine::death_points::{self, DeathPoint};
use crate::engine::sys;
use crate::spec::KeepSpec;

/// The least slack of a ring.
const LEAST_SLACK: u64 = 64 * 1024;
const MOST_SLACK: u64 = 1024 * 1024;
/// The largest limit: file offsets end not far above.
const LARGEST: u64 = 1 << 60;

/// The kept lengths of both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    head: u64,
    tail: u64,
}

/// The kept part of a stream at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The number of kept bytes at the beginning.
    pub(super) head: u64,
    /// The offset of the tail in the stream.
    pub(super) from: u64,
    /// The end of the tail: the stream's length.
    pub(super) to: u64,
}

impl Kept {
    /// The number of kept bytes.
    pub(super) fn length(&self) -> u64 {
        self.head + (self.to - self.from)
    }

    /// The number of bytes dropped between head and tail.
    pub(super) fn dropped(&self) -> u64 {
        self.from - self.head
    }

    /// The kept part of a stream that has ended, by its final counts.
    pub(super) fn frozen(limits: Limits, length: u64, dropped: u64) -> Kept {
        let to = length.saturating_add(dropped);
        let head = length.min(limits.head);
        Kept { head, from: head.saturating_add(dropped), to }
    }
}

impl From<KeepSpec> for Limits {
    fn from(KeepSpec { head, tail }: KeepSpec) -> Limits {
        Limits::new(head.unwrap_or(0), tail.unwrap_or(0))
    }
}

impl Limits {
    /// Limits of this head and this tail.
    pub(super) fn new(head: u64, tail: u64) -> Limits {
        Limits { head: head.min(LARGEST), tail: tail.min(LARGEST) }
    }

    /// The lengths of head and tail.
    pub(super) fn ends(self) -> (u64, u64) {
        (self.head, self.tail)
    }

    /// Whether a tail is kept.
    pub(super) fn has_tail(self) -> bool {
        self.tail > 0
    }

    fn slack(self) -> u64 {
        self.tail.clamp(LEAST_SLACK, MOST_SLACK)
    }

    /// The most bytes of one write to the ring: fewer than the ring's size, so that the position
    /// behind the write differs from that before it.
    fn most_written(self) -> u64 {
        if self.has_tail() { self.slack() } else { LEAST_SLACK / 2 }
    }

    /// The length of the stream behind the last write, whose end is at this position of the file;
    /// `counted` is the length before that write.
    fn reached(self, counted: u64, position: u64) -> u64 {
        if counted < self.head {
            // A write ends at the end of the head at the latest.
            return position.clamp(counted, self.head);
        }
        let (before, ring) = (self.place(counted).0, self.ring());
        counted + (position.saturating_sub(self.head) + ring - (before - self.head)) % ring
    }

    /// The size of the ring.
    fn ring(self) -> u64 {
        self.tail + self.slack()
    }

    /// The kept part by these counters.
    pub(super) fn kept(self, counters: &Counters) -> Kept {
        let written = counters.written;
        let head = written.min(self.head);
        let tail = (written - head).min(self.tail);
        let from = (written - tail).max(self.whole_from(counters)).max(head).min(written);
        Kept { head, from, to: written }
    }

    /// The first stream offset that is intact in the ring: bytes before it are, or are just being,
    /// overwritten.
    pub(super) fn whole_from(self, counters: &Counters) -> u64 {
        counters.announced.saturating_sub(self.ring())
    }

    /// The file offset of a byte of the stream, and the number of contiguous bytes from there.
    fn place(self, offset: u64) -> (u64, u64) {
        if offset < self.head {
            return (offset, self.head - offset);
        }
        let at = (offset - self.head) % self.ring();
        (self.head + at, self.ring() - at)
    }

    /// Reads kept bytes from `offset` on, counted without the dropped ones; returns their number, 0
    /// at the end.
    ///
    /// # Errors
    /// The OS error, or a file that is shorter than the counters say.
    pub(super) fn read(
        self,
        file: &File,
        kept: &Kept,
        offset: u64,
        buf: &mut [u8],
    ) -> io::Result<usize> {
        let (stream, part) = if offset < kept.head {
            (offset, kept.head - offset)
        } else {
            let stream = offset.saturating_add(kept.dropped());
            (stream, kept.to.saturating_sub(stream))
        };
        let (at, together) = self.place(stream);
        let room = part.min(together).min(buf.len() as u64) as usize;
        let Some(buf) = buf.get_mut(..room) else { return Ok(0) };
        file.read_exact_at(buf, at)?;
        Ok(room)
    }
}

/// Stores a stream within limits.
pub(in crate::engine) struct LimitedWriter {
    limits: Limits,
    file: File,
    /// The position of `file`.
    position: u64,
    counters: File,
    written: u64,
}

impl LimitedWriter {
    /// Begins a stream, or continues one of a writer that has counted all its bytes.
    ///
    /// # Errors
    /// The OS error of reading the counters, or of setting the file's position.
    pub(super) fn new(limits: Limits, mut file: File, counters: File) -> io::Result<LimitedWriter> {
        let written = Counters::read(&counters)?.written;
        let position = file.seek(SeekFrom::Start(limits.place(written).0))?;
        Ok(LimitedWriter { limits, file, position, counters, written })
    }

    /// Continues the stream of a writer that was killed, with a duplicate of its `file`.
    ///
    /// # Errors
    /// The OS error of reading or writing the counters, or of reading the file's position.
    pub(super) fn resume(
        limits: Limits,
        mut file: File,
        counters: File,
    ) -> io::Result<LimitedWriter> {
        let position = file.stream_position()?;
        let written = limits.reached(Counters::read(&counters)?.written, position);
        let writer = LimitedWriter { limits, file, position, counters, written };
        writer.count(written)?;
        Ok(writer)
    }

    /// The number of bytes of the stream so far, dropped ones included.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// The data file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Moves the next bytes of a pipe to the file, at most `room`; returns their number, 0 at the
    /// end.
    ///
    /// # Errors
    /// `EAGAIN` if the pipe is empty, or the OS error of storing the bytes.
    pub(super) fn splice(&mut self, reader: &OwnedFd, room: usize) -> io::Result<usize> {
        let mut total = 0;
        while total < room {
            match self.splice_some(reader, room - total) {
                Ok(0) => break,
                Ok(moved) => total += moved,
                // The next call returns the error again.
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// As [`splice`](Self::splice), up to the end of the head, or what one write to the ring may
    /// overwrite.
    fn splice_some(&mut self, reader: &OwnedFd, room: usize) -> io::Result<usize> {
        let (at, together) = self.limits.place(self.written);
        let mut most = together.min(room as u64);
        if self.written >= self.limits.head {
            most = most.min(self.limits.most_written());
            if self.limits.has_tail() {
                most = most.min(sys::bytes_in_pipe(reader)? as u64);
                if most == 0 {
                    return Ok(0);
                }
                self.count(self.written + most)?;
            }
        }
        self.go_to(at)?;
        let moved = sys::splice(reader, &self.file, most as usize)?;
        death_points::reach(DeathPoint::OutputMoved);
        self.position += moved as u64;
        self.written += moved as u64;
        self.count(self.written)?;
        Ok(moved)
    }

    /// Sets the file's position.
    fn go_to(&mut self, at: u64) -> io::Result<()> {
        if self.position != at {
            self.position = self.file.seek(SeekFrom::Start(at))?;
        }
        Ok(())
    }

    /// Stores the next bytes.
    ///
    /// # Errors
    /// The OS error of storing them; bytes counted before stay intact.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let head = self.limits.head.saturating_sub(self.written).min(bytes.len() as u64) as usize;
        let (head, rest) = bytes.split_at(head);
        self.store(head)?;
        self.written += head.len() as u64;
        for piece in rest.chunks(self.limits.most_written() as usize) {
            if self.limits.has_tail() {
                self.count(self.written + piece.len() as u64)?;
                self.store(piece)?;
            }
            self.written += piece.len() as u64;
            // Before the count, as if the bytes were stored.
            self.go_to(self.limits.place(self.written).0)?;
            self.count(self.written)?;
        }
        if rest.is_empty() { self.count(self.written) } else { Ok(()) }
    }

    /// Puts a piece into the head, or into the ring in at most two parts.
    fn store(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut offset = self.written;
        let mut piece = piece;
        while !piece.is_empty() {
            let (at, together) = self.limits.place(offset);
            let (part, rest) = piece.split_at((piece.len() as u64).min(together) as usize);
            self.go_to(at)?;
            self.file.write_all(part)?;
            self.position += part.len() as u64;
            offset += part.len() as u64;
            piece = rest;
        }
        Ok(())
    }

    fn count(&self, announced: u64) -> io::Result<()> {
        self.counters(announced, Phase::Open).write(&self.counters)
    }

    fn counters(&self, announced: u64, phase: Phase) -> Counters {
        Counters { written: self.written, announced, stored: 0, phase }
    }

    /// Records the current counts; after the end, nothing is written.
    ///
    /// # Errors
    /// The OS error.
    pub(super) fn note(&self, phase: Phase) -> io::Result<()> {
        self.counters(self.written, phase).write(&self.counters)
    }

    /// Appends the kept bytes to `to`.
    ///
    /// # Errors
    /// The OS error of reading or writing.
    pub(super) fn copy(&self, to: &mut impl io::Write) -> io::Result<()> {
        let kept = self.limits.kept(&self.counters(self.written, Phase::Open));
        let mut buf = vec![0; 256 * 1024];
        let mut offset = 0;
        loop {
            let n = self.limits.read(&self.file, &kept, offset, &mut buf)?;
            if n == 0 {
                return Ok(());
            }
            to.write_all(buf.get(..n).unwrap_or_default())?;
            offset += n as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(head: Option<u64>, tail: Option<u64>) -> Limits {
        KeepSpec { head, tail }.into()
    }

    fn stream(length: usize) -> Vec<u8> {
        let mut state = 12345u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    fn read_all(limits: Limits, file: &File, kept: &Kept) -> Vec<u8> {
        let mut out = Vec::new();
        let mut buf = [0; 999];
        loop {
            match limits.read(file, kept, out.len() as u64, &mut buf).unwrap() {
                0 => return out,
                n => out.extend_from_slice(&buf[..n]),
            }
        }
    }

    /// Limits around the critical sizes: zero, less than a write, about the slack, more than the
    /// stream.
    fn limit() -> impl Strategy<Value = Option<u64>> {
        prop_oneof![
            Just(None),
            Just(Some(0)),
            (0u64..300).prop_map(Some),
            (60_000u64..70_000).prop_map(Some),
            (0u64..500_000).prop_map(Some),
            Just(Some(u64::MAX)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// After every write, head and tail equal the model's; a new writer continues.
        #[test]
        fn keeps_both_ends(
            head in limit(),
            tail in limit(),
            writes in prop::collection::vec(prop_oneof![0usize..100, 0usize..300_000], 0..12),
            anew in any::<u16>(),
        ) {
            let limits = limits(head, tail);
            let (file, counters) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
            let all = stream(writes.iter().sum());
            let writer = || LimitedWriter::new(
                limits, file.try_clone().unwrap(), counters.try_clone().unwrap()).unwrap();
            let mut current = writer();
            let mut written = 0;
            for (i, length) in writes.iter().enumerate() {
                if anew & (1 << i) != 0 {
                    current = writer();
                }
                current.write(&all[written..written + length]).unwrap();
                written += length;
                let kept = limits.kept(&Counters::read(&counters).unwrap());
                let first = (limits.head.min(written as u64)) as usize;
                let last = (limits.tail.min((written - first) as u64)) as usize;
                let model = [&all[..first], &all[written - last..written]].concat();
                prop_assert_eq!(kept.length(), model.len() as u64);
                prop_assert_eq!(kept.dropped(), (written - model.len()) as u64);
                prop_assert_eq!(Kept::frozen(limits, kept.length(), kept.dropped()), kept);
                prop_assert!(read_all(limits, &file, &kept) == model);
                let mut copy = Vec::new();
                current.copy(&mut copy).unwrap();
                prop_assert!(copy == model);
            }
            // The file's size is bounded by the kept bytes and the slack.
            let room = limits.head.saturating_add(limits.ring());
            prop_assert!(file.metadata().unwrap().len() <= room);
        }

        /// The position behind a write of any allowed length shows that length.
        #[test]
        fn the_position_shows_what_is_not_counted(
            head in limit(), tail in limit(), counted in 0u64..1_000_000, more in 0u64..1_200_000,
        ) {
            let limits = limits(head, tail);
            let (at, together) = limits.place(counted);
            let most = if counted < limits.head { together } else { limits.most_written() };
            let more = more.min(together).min(most);
            prop_assert_eq!(limits.reached(counted, at + more), counted + more);
            // The next write may have begun to set its position.
            prop_assert_eq!(limits.reached(counted + more, at + more), counted + more);
            let next = limits.place(counted + more).0;
            prop_assert_eq!(limits.reached(counted, next), counted + more);
        }

        /// After the death of a writer during a write, its counters cover no byte that it may have
        /// overwritten.
        #[test]
        fn announced_bytes_are_not_counted_as_stored(
            head in 0u64..1000, tail in 1u64..200_000, written in 0u64..1_000_000, more in 0u64..1_200_000,
        ) {
            let limits = limits(Some(head), Some(tail));
            let announced = written + more;
            let counters = Counters { written, announced, ..Counters::default() };
            let kept = limits.kept(&counters);
            prop_assert!(kept.head <= kept.from && kept.from <= kept.to && kept.to == written);
            prop_assert!(kept.from == kept.to || kept.from + limits.ring() >= announced);
            if more <= limits.slack() {
                prop_assert_eq!(kept, limits.kept(&Counters { announced: written, ..counters }));
            }
        }
    }
}
