//! The limits of a control group, and the file that the kernel keeps each of them in.

use std::io;

use super::Group;

/// The period of a CPU quota in microseconds; the kernel's default.
pub const CPU_PERIOD: u64 = 100_000;

/// The limits of one group; `None` leaves the kernel's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes beyond which the OOM killer ends members.
    pub memory_max: Option<Limit>,
    /// Memory in bytes beyond which members are slowed down and their memory is reclaimed.
    pub memory_high: Option<Limit>,
    /// Memory in bytes that is protected from reclaim as far as possible.
    pub memory_low: Option<Limit>,
    /// Memory in bytes that is never reclaimed.
    pub memory_min: Option<Limit>,
    /// Swap space in bytes.
    pub swap_max: Option<Limit>,
    /// CPU time in microseconds for each [`CPU_PERIOD`].
    pub cpu_max: Option<Limit>,
    /// The share of CPU time, 1 to 10,000.
    pub cpu_weight: Option<u64>,
    /// The number of processes and threads.
    pub pids_max: Option<Limit>,
    /// The share of I/O, 1 to 10,000.
    pub io_weight: Option<u64>,
    /// Limits of I/O by device.
    pub io_max: Vec<IoMax>,
    /// Whether the OOM killer ends all members together.
    pub oom_group: Option<bool>,
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// At most this amount.
    At(u64),
    /// No limit.
    Unlimited,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Limit::At(amount) => amount.fmt(f),
            Limit::Unlimited => f.write_str("max"),
        }
    }
}

/// The limits of I/O on one device; `None` leaves the kernel's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoMax {
    /// The device's numbers, major and minor.
    pub device: (u32, u32),
    /// Bytes read in a second.
    pub read_bytes: Option<Limit>,
    /// Bytes written in a second.
    pub write_bytes: Option<Limit>,
    /// Read operations in a second.
    pub read_operations: Option<Limit>,
    /// Write operations in a second.
    pub write_operations: Option<Limit>,
}

/// A limit that cannot be applied.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {file} to {value}: {error}")]
pub struct LimitError {
    /// The file in the group.
    pub file: &'static str,
    /// The refused value.
    pub value: String,
    /// The kernel's error; ENOENT if the group has no such controller.
    #[source]
    pub error: io::Error,
}

impl LimitError {
    /// The controller of the file.
    #[must_use]
    pub fn controller(&self) -> &'static str {
        self.file.split('.').next().unwrap_or(self.file)
    }

    /// Whether the group lacks the controller, or the kernel lacks the file.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.error.raw_os_error() == Some(libc::ENOENT)
    }
}

impl Limits {
    /// The files and their values, in the order in which they are written.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let Limits { memory_max, memory_high, memory_low, memory_min, swap_max, .. } = self;
        let text = |limit: &Option<Limit>| limit.as_ref().map(Limit::to_string);
        let cpu_max = self.cpu_max.map(|quota| format!("{quota} {CPU_PERIOD}"));
        let oom_group = self.oom_group.map(|all| u8::from(all).to_string());
        let single = [
            ("memory.min", text(memory_min)),
            ("memory.low", text(memory_low)),
            ("memory.high", text(memory_high)),
            ("memory.swap.max", text(swap_max)),
            ("memory.max", text(memory_max)),
            ("memory.oom.group", oom_group),
            ("pids.max", text(&self.pids_max)),
            ("cpu.max", cpu_max),
            ("cpu.weight", self.cpu_weight.map(|weight| weight.to_string())),
            ("io.weight", self.io_weight.map(|weight| format!("default {weight}"))),
        ];
        let devices = self.io_max.iter().map(|device| ("io.max", device.line()));
        let single = single.into_iter().filter_map(|(file, value)| Some((file, value?)));
        single.chain(devices).collect()
    }

    /// Whether there is no limit at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    /// The controllers that the limits need.
    #[must_use]
    pub fn controllers(&self) -> Vec<&'static str> {
        let mut names: Vec<_> =
            self.files().iter().filter_map(|(file, _)| file.split('.').next()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Writes every limit to a group.
    ///
    /// # Errors
    /// Each limit that the kernel refuses; the others are applied.
    pub fn apply(&self, group: &Group) -> Result<(), Vec<LimitError>> {
        let failed: Vec<_> = self
            .files()
            .into_iter()
            .filter_map(|(file, value)| match group.write(file, &value) {
                Ok(()) => None,
                Err(error) => Some(LimitError { file, value, error }),
            })
            .collect();
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }
}

impl IoMax {
    /// The line for `io.max`.
    fn line(&self) -> String {
        let (major, minor) = self.device;
        let values = [
            ("rbps", self.read_bytes),
            ("wbps", self.write_bytes),
            ("riops", self.read_operations),
            ("wiops", self.write_operations),
        ];
        let values = values.iter().filter_map(|(key, limit)| Some(format!(" {key}={}", (*limit)?)));
        values.fold(format!("{major}:{minor}"), |line, value| line + &value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_file_and_the_kernels_words() {
        let limits = Limits {
            memory_max: Some(Limit::At(20 << 20)),
            swap_max: Some(Limit::At(0)),
            cpu_max: Some(Limit::At(150_000)),
            pids_max: Some(Limit::Unlimited),
            io_weight: Some(50),
            io_max: vec![IoMax {
                device: (98, 0),
                read_bytes: Some(Limit::At(1024)),
                write_operations: Some(Limit::Unlimited),
                ..IoMax::default()
            }],
            oom_group: Some(true),
            ..Limits::default()
        };
        let files = limits.files();
        let files: Vec<_> = files.iter().map(|(file, value)| (*file, value.as_str())).collect();
        let wanted = [
            ("memory.swap.max", "0"),
            ("memory.max", "20971520"),
            ("memory.oom.group", "1"),
            ("pids.max", "max"),
            ("cpu.max", "150000 100000"),
            ("io.weight", "default 50"),
            ("io.max", "98:0 rbps=1024 wiops=max"),
        ];
        assert_eq!(files, wanted);
        assert_eq!(limits.controllers(), ["cpu", "io", "memory", "pids"]);
        assert!(Limits::default().is_empty());
    }
}
