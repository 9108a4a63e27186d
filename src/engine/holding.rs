//! The descriptors of processes for a second holder.
//!
//! The keeper's worker holds duplicates, and uses none while the keeper lives. After the keeper's
//! death, the next engine [adopts](super::Engine::adopt) each process with its descriptors: the
//! pidfd shows the exit status, and no pipe has lost its reader.

use std::os::fd::OwnedFd;

use crate::spec::ProcId;

/// The descriptors of one process.
#[derive(Debug)]
pub struct Holding {
    /// The process.
    pub id: ProcId,
    /// Its pidfd, which was opened before the process was reaped; `None` once its end is reported.
    pub pidfd: Option<OwnedFd>,
    /// The captures whose pipes are still read.
    pub captures: Vec<HeldCapture>,
}

impl Holding {
    /// The number of descriptors.
    pub fn descriptors(&self) -> usize {
        let of = |capture: &HeldCapture| {
            1 + usize::from(capture.writer.is_some()) + usize::from(capture.file.is_some())
        };
        usize::from(self.pidfd.is_some()) + self.captures.iter().map(of).sum::<usize>()
    }
}

/// A capture whose pipe is still read.
#[derive(Debug)]
pub struct HeldCapture {
    /// The fd's index in the spec.
    pub index: usize,
    /// The pipe's reading end.
    pub reader: OwnedFd,
    /// The process that reads the pipe; `None` if the engine reads it.
    pub writer: Option<HeldWriter>,
    /// The open file of a capture with limits, which the engine writes: its position shows how many
    /// bytes have left the pipe.
    pub file: Option<OwnedFd>,
}

/// The process that reads the pipe of a capture and writes its file.
#[derive(Debug)]
pub struct HeldWriter {
    /// Its pid.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}
