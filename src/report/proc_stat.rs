//! The kernel's view of a process, in seconds, bytes and names instead of ticks, pages and bits.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::times::Rfc3339;
use crate::procfs::{Clock, RawStat, RawStatm};
use crate::signal::{SignalName, signal_name, signal_set};

/// From `/proc/PID/stat`: current while the process runs, as of its termination after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcStat {
    /// The process.
    pub pid: i32,
    /// Name of the executable, its first 15 bytes; bytes that are not UTF-8 are replaced.
    pub comm: String,
    /// One letter as proc(5) has it: `R`, `S`, `D`, `Z`, `T`, `t`, `I`, `X`.
    pub state: char,
    /// Parent.
    pub ppid: i32,
    /// Process group.
    pub pgrp: i32,
    /// Session.
    pub session: i32,
    /// Device of the controlling terminal, major and minor number; `[0, 0]` for none.
    pub tty_nr: [u32; 2],
    /// Foreground process group of that terminal; null without one.
    pub tpgid: Option<i32>,
    /// The kernel's `PF_*` flags.
    pub flags: u32,
    /// Page faults that needed no disk.
    pub minflt: u64,
    /// The same, of children that were waited for.
    pub cminflt: u64,
    /// Page faults that needed a disk.
    pub majflt: u64,
    /// The same, of children that were waited for.
    pub cmajflt: u64,
    /// CPU time in user mode, in seconds.
    pub utime: f64,
    /// CPU time in the kernel, in seconds.
    pub stime: f64,
    /// CPU time in user mode of children that were waited for, in seconds.
    pub cutime: f64,
    /// CPU time in the kernel of children that were waited for, in seconds.
    pub cstime: f64,
    /// Priority as the kernel counts it.
    pub priority: i64,
    /// Niceness, 19 to -20.
    pub nice: i64,
    /// Threads.
    pub num_threads: i64,
    /// When the process started; exact to a second, as the time of boot is.
    pub starttime: Rfc3339,
    /// Mapped memory, in bytes.
    pub vsize: u64,
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Soft limit of resident memory, in bytes; 2^64 - 1 for none.
    pub rsslim: u64,
    /// Pending signals, by name; the kernel shows no real-time signals here, nor in the next three.
    pub signal: Vec<SignalName>,
    /// Blocked signals, by name.
    pub blocked: Vec<SignalName>,
    /// Ignored signals, by name.
    pub sigignore: Vec<SignalName>,
    /// Caught signals, by name.
    pub sigcatch: Vec<SignalName>,
    /// 1 if the process waits in the kernel, else 0; an address on old kernels.
    pub wchan: u64,
    /// Name of the signal that its death sends to its parent; null for none.
    pub exit_signal: Option<SignalName>,
    /// CPU it last ran on. This key and all that follow are null if the kernel is too old to report
    /// them.
    pub processor: Option<i32>,
    /// Real-time priority 1 to 99, 0 for none.
    pub rt_priority: Option<u32>,
    /// Scheduling policy, `SCHED_*`.
    pub policy: Option<u32>,
    /// Time waiting for block devices, in clock ticks, as its name says.
    pub delayacct_blkio_ticks: Option<u64>,
    /// Time spent running a virtual CPU, in seconds.
    pub guest_time: Option<f64>,
    /// The same of children that were waited for, in seconds.
    pub cguest_time: Option<f64>,
    /// The raw wait status of a process that has ended; 0 before, or if the kernel hides it from
    /// us.
    pub exit_code: Option<i32>,
}

impl ProcStat {
    /// Converts the kernel's fields to the units of results.
    pub fn new(raw: &RawStat, clock: &Clock) -> Self {
        Self {
            pid: raw.pid,
            comm: raw.comm.clone(),
            state: raw.state,
            ppid: raw.ppid,
            pgrp: raw.pgrp,
            session: raw.session,
            tty_nr: device(raw.tty_nr),
            tpgid: (raw.tpgid != -1).then_some(raw.tpgid),
            flags: raw.flags,
            minflt: raw.minflt,
            cminflt: raw.cminflt,
            majflt: raw.majflt,
            cmajflt: raw.cmajflt,
            utime: clock.seconds(raw.utime),
            stime: clock.seconds(raw.stime),
            cutime: clock.signed_seconds(raw.cutime),
            cstime: clock.signed_seconds(raw.cstime),
            priority: raw.priority,
            nice: raw.nice,
            num_threads: raw.num_threads,
            starttime: clock.after_boot(raw.starttime).into(),
            vsize: raw.vsize,
            rss: clock.bytes(raw.rss),
            rsslim: raw.rsslim,
            signal: signal_set(raw.signal),
            blocked: signal_set(raw.blocked),
            sigignore: signal_set(raw.sigignore),
            sigcatch: signal_set(raw.sigcatch),
            wchan: raw.wchan,
            exit_signal: raw.exit_signal.and_then(signal_name).map(Cow::Borrowed),
            processor: raw.processor,
            rt_priority: raw.rt_priority,
            policy: raw.policy,
            delayacct_blkio_ticks: raw.delayacct_blkio_ticks,
            guest_time: raw.guest_time.map(|ticks| clock.seconds(ticks)),
            cguest_time: raw.cguest_time.map(|ticks| clock.signed_seconds(ticks)),
            exit_code: raw.exit_code,
        }
    }
}

/// Major and minor number as the kernel packs them into 32 bits: the minor's low 8, the major's 12,
/// the minor's high 12.
fn device(packed: i32) -> [u32; 2] {
    let packed = packed.cast_unsigned();
    [(packed >> 8) & 0xfff, (packed & 0xff) | ((packed >> 12) & 0xf_ff00)]
}

/// From `/proc/PID/statm`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcStatm {
    /// Mapped memory.
    pub size: u64,
    /// The part of it that is in memory.
    pub resident: u64,
    /// The part of that which is backed by files or shared memory.
    pub shared: u64,
    /// Code.
    pub text: u64,
    /// Data and stack.
    pub data: u64,
}

impl ProcStatm {
    /// Converts the kernel's pages to bytes.
    pub fn new(raw: &RawStatm, clock: &Clock) -> Self {
        Self {
            size: clock.bytes(raw.size),
            resident: clock.bytes(raw.resident),
            shared: clock.bytes(raw.shared),
            text: clock.bytes(raw.text),
            data: clock.bytes(raw.data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::device;

    #[test]
    fn devices_are_unpacked_as_the_kernel_packs_them() {
        assert_eq!(device(0), [0, 0]);
        assert_eq!(device(0x8801), [136, 1]);
        assert_eq!(device(0x0450), [4, 80]);
        // The encoding of major 4095 and minor 1048575 by the kernel's new_encode_dev(); as a
        // 32-bit number it is negative.
        assert_eq!(device(-1), [0xfff, 0xf_ffff]);
        assert_eq!(device(0x0010_8800), [136, 256]);
    }
}
