//! Reads the kernel's data of a running process for [`report`](crate::report). Uses the clock and
//! the parsers of /proc, nothing above them.

use crate::clock::TimePoint;
use crate::procfs::{Clock, ProcFs, RawIo, RawPeaks, RawStat, RawStatm};

/// A reader of /proc.
pub struct ProcReader {
    procfs: ProcFs,
    clock: Clock,
}

/// The kernel's data of a process at one moment; each part is none if it cannot be read.
#[derive(Default)]
pub struct ProcSnapshot {
    /// From `stat`.
    pub stat: Option<RawStat>,
    /// From `statm`.
    pub statm: Option<RawStatm>,
    /// From `io`.
    pub io: Option<RawIo>,
    /// From `status`: the most memory so far.
    pub peaks: Option<RawPeaks>,
}

impl Default for ProcReader {
    /// A reader of the system's own /proc.
    fn default() -> Self {
        ProcReader::new(ProcFs::default())
    }
}

impl ProcReader {
    /// A reader of the processes in `procfs`.
    pub fn new(procfs: ProcFs) -> ProcReader {
        ProcReader { procfs, clock: Clock::of(TimePoint::now()) }
    }

    /// The kernel's units, and the time of the boot.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The `stat` of `pid` if that is still the process of `known`: the pid may be reused after the
    /// end.
    pub fn stat(&self, pid: i32, known: Option<&RawStat>) -> Option<RawStat> {
        let same = |stat: &RawStat| known.is_none_or(|known| known.starttime == stat.starttime);
        self.procfs.read_stat(pid).ok().filter(same)
    }

    /// All data of `pid`; nothing if that is not the process of `known` any more.
    pub fn snapshot(&self, pid: i32, known: Option<&RawStat>) -> ProcSnapshot {
        let Some(stat) = self.stat(pid, known) else { return ProcSnapshot::default() };
        ProcSnapshot {
            stat: Some(stat),
            statm: self.procfs.read_statm(pid).ok(),
            io: self.procfs.read_io(pid).ok().flatten(),
            peaks: self.procfs.read_peaks(pid).ok().flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_of_the_same_pid_is_not_reported() {
        let (reader, own) = (ProcReader::default(), std::process::id() as i32);
        let stat = reader.stat(own, None).unwrap();
        assert!(reader.snapshot(own, Some(&stat)).statm.is_some());
        let another = RawStat { starttime: stat.starttime + 1, ..stat };
        assert!(reader.stat(own, Some(&another)).is_none());
        let nothing = reader.snapshot(own, Some(&another));
        assert!(nothing.stat.is_none() && nothing.statm.is_none() && nothing.io.is_none());
    }
}
