//! The resource usage of a process, as counted by the kernel.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Resource usage of a process and of those descendants that were waited for, from `getrusage` or
/// `wait4`. All keys are null if the process was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rusage {
    /// CPU time in user mode, in seconds.
    pub utime: Option<f64>,
    /// CPU time in the kernel, in seconds.
    pub stime: Option<f64>,
    /// Maximum of the resident memory of any one of these processes, in bytes. Null also if the
    /// kernel's value is so small that it may be the parent's at the time of the clone.
    pub maxrss: Option<u64>,
    /// Page faults that needed no disk.
    pub minflt: Option<u64>,
    /// Page faults that needed a disk.
    pub majflt: Option<u64>,
    /// Swaps; Linux leaves it 0.
    pub nswap: Option<u64>,
    /// Reads from block devices, in blocks of 512 bytes.
    pub inblock: Option<u64>,
    /// Writes to block devices, in blocks of 512 bytes.
    pub oublock: Option<u64>,
    /// Voluntary context switches: the process waited for something.
    pub nvcsw: Option<u64>,
    /// Involuntary context switches: its time slice ended, or something had higher priority.
    pub nivcsw: Option<u64>,
}

impl Rusage {
    /// The resource usage of a process that was never started.
    pub fn zero() -> Self {
        Self::from(&crate::engine::no_usage())
    }

    /// An unknown resource usage.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// The sum of the CPU times, in seconds.
    pub fn cpu(&self) -> Option<f64> {
        Some(whole_micros(self.utime? + self.stime?))
    }
}

/// A sum of seconds in whole microseconds, the kernel's precision: 0.001413, not
/// 0.0014130000000000002.
pub(super) fn whole_micros(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

impl From<&libc::rusage> for Rusage {
    /// A negative `ru_maxrss` marks an unknown one.
    fn from(raw: &libc::rusage) -> Self {
        Self {
            utime: Some(seconds(&raw.ru_utime)),
            stime: Some(seconds(&raw.ru_stime)),
            // The kernel counts in KiB.
            maxrss: u64::try_from(raw.ru_maxrss).ok().map(|kib| kib.saturating_mul(1024)),
            minflt: Some(count(raw.ru_minflt)),
            majflt: Some(count(raw.ru_majflt)),
            nswap: Some(count(raw.ru_nswap)),
            inblock: Some(count(raw.ru_inblock)),
            oublock: Some(count(raw.ru_oublock)),
            nvcsw: Some(count(raw.ru_nvcsw)),
            nivcsw: Some(count(raw.ru_nivcsw)),
        }
    }
}

fn seconds(time: &libc::timeval) -> f64 {
    // From whole microseconds, to round only once.
    (time.tv_sec * 1_000_000 + time.tv_usec) as f64 / 1e6
}

/// The kernel's counters are never negative, in spite of their signed type.
fn count(value: libc::c_long) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
