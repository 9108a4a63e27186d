//! The resource usage of a process: the same keys while it runs and after its end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rusage::{Rusage, whole_micros};
use super::samples::Peaks;
use crate::procfs::{Clock, RawIo, RawPeaks, RawStat};

/// From `/proc/PID/io`: of the process and of the children that it has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IoReport {
    /// Bytes fetched from storage.
    pub read_bytes: u64,
    /// Bytes sent to storage, or waiting to be sent.
    pub write_bytes: u64,
    /// Bytes returned by read and similar calls, from any source.
    pub rchar: u64,
    /// Bytes accepted by write and similar calls, for any destination.
    pub wchar: u64,
    /// Read system calls.
    pub syscr: u64,
    /// Write system calls.
    pub syscw: u64,
    /// Bytes that waited to be sent to storage when their file was truncated.
    pub cancelled_write_bytes: u64,
}

impl From<&RawIo> for IoReport {
    fn from(raw: &RawIo) -> Self {
        IoReport {
            read_bytes: raw.read_bytes,
            write_bytes: raw.write_bytes,
            rchar: raw.rchar,
            wchar: raw.wchar,
            syscr: raw.syscr,
            syscw: raw.syscw,
            cancelled_write_bytes: raw.cancelled_write_bytes,
        }
    }
}

/// Resource usage so far of the process and of the children that it has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// The sum of the CPU times, in seconds: exact at the end, in clock ticks before.
    pub cpu: f64,
    /// Its own CPU time in user mode, in seconds.
    pub utime: f64,
    /// Its own CPU time in the kernel, in seconds.
    pub stime: f64,
    /// CPU time in user mode of children that it has waited for, in seconds.
    pub cutime: f64,
    /// CPU time in the kernel of children that it has waited for, in seconds.
    pub cstime: f64,
    /// Its own page faults that needed no disk.
    pub minflt: u64,
    /// Its own page faults that needed a disk.
    pub majflt: u64,
    /// Page faults that needed no disk, of children that it has waited for.
    pub cminflt: u64,
    /// Page faults that needed a disk, of children that it has waited for.
    pub cmajflt: u64,
    /// Peak resident memory in bytes. After the end it comes from `rusage`: the largest peak of any
    /// one process. Null if the kernel does not report it.
    pub maxrss: Option<u64>,
}

impl Usage {
    /// From the kernel's entry for a process, running or a zombie, and from its usage at the end.
    pub(super) fn new(
        stat: &RawStat,
        peaks: Option<&RawPeaks>,
        rusage: Option<&Rusage>,
        clock: &Clock,
    ) -> Usage {
        let (utime, stime) = (clock.seconds(stat.utime), clock.seconds(stat.stime));
        let (cutime, cstime) =
            (clock.signed_seconds(stat.cutime), clock.signed_seconds(stat.cstime));
        let ticks = utime + stime + cutime + cstime;
        Usage {
            cpu: rusage.and_then(Rusage::cpu).unwrap_or_else(|| whole_micros(ticks)),
            utime,
            stime,
            cutime,
            cstime,
            minflt: stat.minflt,
            majflt: stat.majflt,
            cminflt: stat.cminflt,
            cmajflt: stat.cmajflt,
            maxrss: rusage.map_or(peaks.map(|peaks| peaks.rss), |rusage| rusage.maxrss),
        }
    }
}

/// Observed maxima of the process itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Peak {
    /// Resident memory, in bytes: the kernel's own maximum while it runs; afterwards the highest
    /// sample, null without any.
    pub rss: Option<u64>,
    /// Mapped memory, in bytes; as `rss`.
    pub vsize: Option<u64>,
    /// Threads: the maximum of all samples, or the present number.
    pub threads: Option<u64>,
    /// At the end, the kernel's maximum of resident memory, in bytes, of the process or any child
    /// that it has waited for, or null as in `rusage`; null while it runs.
    pub maxrss: Option<u64>,
}

impl Peak {
    /// From the samples, the kernel's present entry, and the usage at the end.
    pub(super) fn new(
        sampled: Option<Peaks>,
        live: Option<(&RawStat, Option<&RawPeaks>)>,
        rusage: Option<&Rusage>,
        clock: &Clock,
    ) -> Peak {
        let marks = live.and_then(|(_, marks)| marks);
        let stat = live.map(|(stat, _)| Peaks::of(stat));
        let seen = || sampled.into_iter().chain(stat);
        let rss = seen().map(|seen| clock.bytes(seen.rss));
        Peak {
            rss: rss.chain(marks.map(|marks| marks.rss)).max(),
            vsize: seen().map(|seen| seen.vsize).chain(marks.map(|marks| marks.vsize)).max(),
            threads: seen().map(|seen| seen.threads).max(),
            maxrss: rusage.and_then(|rusage| rusage.maxrss),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::parse_stat;

    const CLOCK: Clock = Clock { boot_nanos: 0, ticks_per_second: 100, page_size: 4096 };

    fn stat() -> RawStat {
        let line = b"7 (x) S 1 7 7 0 -1 0 11 12 13 14 150 25 300 75 20 0 5 0 99 8192 3 0 1 1 0 0 0 0 0 0 0 0 0 0 17\n";
        parse_stat(line).unwrap()
    }

    #[test]
    fn usage_has_the_same_meaning_before_and_after_the_end() {
        let peaks = RawPeaks { vsize: 9000, rss: 5000 };
        let live = Usage::new(&stat(), Some(&peaks), None, &CLOCK);
        assert_eq!((live.cpu, live.utime, live.stime), (5.5, 1.5, 0.25));
        assert_eq!((live.cutime, live.cstime, live.maxrss), (3.0, 0.75, Some(5000)));
        assert_eq!((live.minflt, live.cminflt, live.majflt, live.cmajflt), (11, 12, 13, 14));
        let rusage =
            Rusage { utime: Some(4.503), stime: Some(1.001), maxrss: Some(6000), ..Rusage::zero() };
        let end = Usage::new(&stat(), None, Some(&rusage), &CLOCK);
        assert_eq!((end.cpu, end.utime, end.maxrss), (5.504, 1.5, Some(6000)));
        assert_eq!(Usage::new(&stat(), None, None, &CLOCK).maxrss, None);
        // Values that are unknown at the end are not derived from earlier ones.
        let unknown = Usage::new(&stat(), Some(&peaks), Some(&Rusage::unknown()), &CLOCK);
        assert_eq!((unknown.cpu, unknown.maxrss), (5.5, None));
    }

    #[test]
    fn a_peak_is_the_maximum_of_samples_kernel_and_usage() {
        let (stat, marks) = (stat(), RawPeaks { vsize: 9000, rss: 20_000 });
        let sampled = Peaks { rss: 4, vsize: 10_000, threads: 3 };
        let of = |sampled, live, rusage| Peak::new(sampled, live, rusage, &CLOCK);
        let peak = |rss, vsize, threads, maxrss| Peak { rss, vsize, threads, maxrss };
        let live = of(Some(sampled), Some((&stat, Some(&marks))), None);
        assert_eq!(live, peak(Some(20_000), Some(10_000), Some(5), None));
        // At a start, before the kernel's maxima are read.
        let start = of(None, Some((&stat, None)), None);
        assert_eq!(start, peak(Some(3 * 4096), Some(8192), Some(5), None));
        let rusage = Rusage { maxrss: Some(30_000), ..Rusage::zero() };
        let end = of(Some(sampled), None, Some(&rusage));
        assert_eq!(end, peak(Some(4 * 4096), Some(10_000), Some(3), Some(30_000)));
        assert_eq!(of(None, None, Some(&rusage)), peak(None, None, None, Some(30_000)));
    }
}
