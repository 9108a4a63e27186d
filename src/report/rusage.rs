//! What a process used up, as the kernel counted it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a process and those of its descendants that were waited for used up, from `getrusage` or `wait4`. All is null where the
/// process was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rusage {
    /// CPU time in user mode, in seconds.
    pub utime: Option<f64>,
    /// CPU time in the kernel, in seconds.
    pub stime: Option<f64>,
    /// The most memory that any one of these processes had resident, in bytes. Null also where the kernel's figure may be that of the
    /// process that has made it: of one that has had little more than that.
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
    /// Switches away as the process waited for something.
    pub nvcsw: Option<u64>,
    /// Switches away as its time was up, or for something of higher priority.
    pub nivcsw: Option<u64>,
}

impl Rusage {
    /// What a process that was never started used up.
    pub fn zero() -> Self {
        Self::from(&crate::engine::no_usage())
    }

    /// What a process used up of which that is not known.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// The CPU time of all, in seconds.
    pub fn cpu(&self) -> Option<f64> {
        Some(self.utime? + self.stime?)
    }
}

impl From<&libc::rusage> for Rusage {
    /// A negative `ru_maxrss` is one that is not known.
    fn from(raw: &libc::rusage) -> Self {
        Self {
            utime: Some(seconds(&raw.ru_utime)),
            stime: Some(seconds(&raw.ru_stime)),
            // In the kernel's hands it is in KiB.
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
    // From whole microseconds, so that there is one rounding only.
    (time.tv_sec * 1_000_000 + time.tv_usec) as f64 / 1e6
}

/// The kernel's counters are never negative, though their type could be.
fn count(value: libc::c_long) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
