//! What a process used up, as the kernel counted it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a process and those of its descendants that were waited for used up, from `getrusage` or `wait4`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rusage {
    /// CPU time in user mode, in seconds.
    pub utime: f64,
    /// CPU time in the kernel, in seconds.
    pub stime: f64,
    /// The most memory that any one of these processes had resident, in bytes.
    pub maxrss: u64,
    /// Page faults that needed no disk.
    pub minflt: u64,
    /// Page faults that needed a disk.
    pub majflt: u64,
    /// Swaps; Linux leaves it 0.
    pub nswap: u64,
    /// Reads from block devices, in blocks of 512 bytes.
    pub inblock: u64,
    /// Writes to block devices, in blocks of 512 bytes.
    pub oublock: u64,
    /// Switches away as the process waited for something.
    pub nvcsw: u64,
    /// Switches away as its time was up, or for something of higher priority.
    pub nivcsw: u64,
}

impl Rusage {
    /// What a process that was never started used up.
    pub const fn zero() -> Self {
        Self {
            utime: 0.0,
            stime: 0.0,
            maxrss: 0,
            minflt: 0,
            majflt: 0,
            nswap: 0,
            inblock: 0,
            oublock: 0,
            nvcsw: 0,
            nivcsw: 0,
        }
    }
}

impl From<&libc::rusage> for Rusage {
    fn from(raw: &libc::rusage) -> Self {
        Self {
            utime: seconds(&raw.ru_utime),
            stime: seconds(&raw.ru_stime),
            // In the kernel's hands it is in KiB.
            maxrss: count(raw.ru_maxrss).saturating_mul(1024),
            minflt: count(raw.ru_minflt),
            majflt: count(raw.ru_majflt),
            nswap: count(raw.ru_nswap),
            inblock: count(raw.ru_inblock),
            oublock: count(raw.ru_oublock),
            nvcsw: count(raw.ru_nvcsw),
            nivcsw: count(raw.ru_nivcsw),
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
