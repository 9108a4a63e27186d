//! The resource usage of a process's control group, with all of its descendants.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cgroup::Usage;

/// From the files of the process's scope in cgroup v2; each part is null if its controller is not
/// enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CgroupAccounting {
    /// Tasks.
    pub pids: Option<CgroupPids>,
    /// CPU time.
    pub cpu_stat: Option<CgroupCpuStat>,
    /// Memory.
    pub memory: Option<CgroupMemory>,
}

/// Numbers of tasks, threads included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CgroupPids {
    /// Tasks at present; from `pids.current`.
    pub current: u64,
    /// The most at any time, null before Linux 6.1; from `pids.peak`.
    pub peak: Option<u64>,
}

/// From `cpu.stat`; times are in microseconds. Without the cpu controller, only the first three
/// keys are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CgroupCpuStat {
    /// CPU time.
    pub usage_usec: u64,
    /// CPU time in user mode.
    pub user_usec: u64,
    /// CPU time in the kernel.
    pub system_usec: u64,
    /// Periods of bandwidth control that have passed.
    pub nr_periods: Option<u64>,
    /// Periods in which the group was throttled.
    pub nr_throttled: Option<u64>,
    /// Time for which it was throttled.
    pub throttled_usec: Option<u64>,
    /// Periods in which it ran beyond its quota, null before Linux 5.15.
    pub nr_bursts: Option<u64>,
    /// Time that it ran beyond its quota, null before Linux 5.15.
    pub burst_usec: Option<u64>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CgroupMemory {
    /// Memory at present; from `memory.current`.
    pub current: u64,
    /// The most at any time, null before Linux 5.19; from `memory.peak`.
    pub peak: Option<u64>,
    /// Swap at present, null if the kernel does not account for swap; from `memory.swap.current`.
    pub swap_current: Option<u64>,
    /// The most swap at any time, null before Linux 6.5; from `memory.swap.peak`.
    pub swap_peak: Option<u64>,
}

impl From<&Usage> for CgroupAccounting {
    fn from(usage: &Usage) -> CgroupAccounting {
        let Usage { pids, cpu, memory, .. } = usage;
        CgroupAccounting {
            pids: pids.current.map(|current| CgroupPids { current, peak: pids.peak }),
            cpu_stat: cpu.map(|cpu| CgroupCpuStat {
                usage_usec: cpu.usage,
                user_usec: cpu.user,
                system_usec: cpu.system,
                nr_periods: cpu.periods,
                nr_throttled: cpu.throttled_periods,
                throttled_usec: cpu.throttled,
                nr_bursts: cpu.bursts,
                burst_usec: cpu.burst,
            }),
            memory: memory.current.map(|current| CgroupMemory {
                current,
                peak: memory.peak,
                swap_current: memory.swap_current,
                swap_peak: memory.swap_peak,
            }),
        }
    }
}
