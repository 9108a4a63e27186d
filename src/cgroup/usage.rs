//! The figures of a control group. Each is `None` if the kernel or the group's controllers lack it.
//!
//! They are read before the group is removed: afterwards every read fails.

use serde::{Deserialize, Serialize};

use super::Group;

/// The figures of one group and the groups below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processes and threads.
    pub pids: Pids,
    /// CPU time.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Memory,
    /// I/O by device. A lower bound: buffered writes are counted when they reach the device.
    pub io: Vec<Io>,
    /// Time lost by waiting.
    pub pressure: Pressure,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pids {
    /// Their number now.
    pub current: Option<u64>,
    /// The highest number so far.
    pub peak: Option<u64>,
    /// The forks that the limit refused.
    pub refused: Option<u64>,
}

/// CPU time, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// All CPU time.
    pub usage: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// The periods of the quota; these and the following need the controller.
    pub periods: Option<u64>,
    /// The periods in which the quota was used up.
    pub throttled_periods: Option<u64>,
    /// The time for which members were throttled.
    pub throttled: Option<u64>,
    /// The periods with a burst.
    pub bursts: Option<u64>,
    /// The time used by bursts.
    pub burst: Option<u64>,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The amount now, page cache included.
    pub current: Option<u64>,
    /// The highest amount so far.
    pub peak: Option<u64>,
    /// The swap space now.
    pub swap_current: Option<u64>,
    /// The highest swap space so far.
    pub swap_peak: Option<u64>,
    /// The events of the limits.
    pub events: Option<MemoryEvents>,
}

/// How often a limit of memory took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEvents {
    /// Reclaimed below the protected amount.
    pub low: u64,
    /// Slowed down beyond the high mark.
    pub high: u64,
    /// Reclaimed at the limit.
    pub max: u64,
    /// Out of memory at the limit.
    pub oom: u64,
    /// Members killed by the OOM killer. In a group that is killed as a whole, the first victim
    /// counts twice.
    pub oom_kill: u64,
    /// The times that the group was killed as a whole.
    pub oom_group_kill: u64,
}

/// I/O on one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Io {
    /// The device's numbers, major and minor.
    pub device: (u32, u32),
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub read_operations: u64,
    /// Write operations.
    pub write_operations: u64,
}

/// The time in microseconds in which some member waited for a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// For a CPU.
    pub cpu: Option<u64>,
    /// For memory.
    pub memory: Option<u64>,
    /// For I/O.
    pub io: Option<u64>,
}

impl Usage {
    /// Reads all figures of a group.
    #[must_use]
    pub fn read(group: &Group) -> Usage {
        Usage::from_files(&|file| group.read(file).ok())
    }

    /// The figures of the files that `text` returns.
    fn from_files(text: &dyn Fn(&str) -> Option<String>) -> Usage {
        let number = |file: &str| text(file)?.trim().parse().ok();
        let pressure = |file: &str| some_total(&text(file)?);
        Usage {
            pids: Pids {
                current: number("pids.current"),
                peak: number("pids.peak"),
                refused: text("pids.events").and_then(|text| value(&text, "max")),
            },
            cpu: text("cpu.stat").and_then(|text| cpu(&text)),
            memory: Memory {
                current: number("memory.current"),
                peak: number("memory.peak"),
                swap_current: number("memory.swap.current"),
                swap_peak: number("memory.swap.peak"),
                events: text("memory.events").map(|text| events(&text)),
            },
            io: text("io.stat")
                .map(|text| text.lines().filter_map(io).collect())
                .unwrap_or_default(),
            pressure: Pressure {
                cpu: pressure("cpu.pressure"),
                memory: pressure("memory.pressure"),
                io: pressure("io.pressure"),
            },
        }
    }
}

/// The value of a key in a file of lines `KEY VALUE`.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        (found == key).then(|| value.trim().parse().ok()).flatten()
    })
}

fn cpu(text: &str) -> Option<Cpu> {
    let value = |key| value(text, key);
    Some(Cpu {
        usage: value("usage_usec")?,
        user: value("user_usec")?,
        system: value("system_usec")?,
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled: value("throttled_usec"),
        bursts: value("nr_bursts"),
        burst: value("burst_usec"),
    })
}

fn events(text: &str) -> MemoryEvents {
    let value = |key| value(text, key).unwrap_or_default();
    MemoryEvents {
        low: value("low"),
        high: value("high"),
        max: value("max"),
        oom: value("oom"),
        oom_kill: value("oom_kill"),
        oom_group_kill: value("oom_group_kill"),
    }
}

/// A line of `io.stat`: `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N ...`.
fn io(line: &str) -> Option<Io> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let mut io = Io { device: (major.parse().ok()?, minor.parse().ok()?), ..Io::default() };
    for word in words {
        let Some((key, value)) = word.split_once('=') else { continue };
        let Ok(value) = value.parse() else { continue };
        match key {
            "rbytes" => io.read_bytes = value,
            "wbytes" => io.write_bytes = value,
            "rios" => io.read_operations = value,
            "wios" => io.write_operations = value,
            _ => {}
        }
    }
    Some(io)
}

/// The total of the line `some` of a pressure file.
fn some_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    line.split(' ').find_map(|word| word.strip_prefix("total=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_read() {
        let usage = Usage::from_files(&|file| {
            let text = match file {
                "pids.current" => "2\n",
                "pids.peak" => "7\n",
                "pids.events" => "max 3\n",
                "cpu.stat" => {
                    "usage_usec 900\nuser_usec 600\nsystem_usec 300\nnr_periods 4\n\
                     nr_throttled 1\nthrottled_usec 50\nnr_bursts 0\nburst_usec 0\n"
                }
                "memory.current" => "4096\n",
                "memory.peak" => "8192\n",
                "memory.events" => "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\n",
                "io.stat" => "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 \n",
                "cpu.pressure" => "some avg10=0.00 avg60=0.00 avg300=0.00 total=77\nfull total=5\n",
                _ => return None,
            };
            Some(text.to_owned())
        });
        let io = Io {
            device: (8, 0),
            read_bytes: 1,
            write_bytes: 2,
            read_operations: 3,
            write_operations: 4,
        };
        let wanted = Usage {
            pids: Pids { current: Some(2), peak: Some(7), refused: Some(3) },
            cpu: Some(Cpu {
                usage: 900,
                user: 600,
                system: 300,
                periods: Some(4),
                throttled_periods: Some(1),
                throttled: Some(50),
                bursts: Some(0),
                burst: Some(0),
            }),
            memory: Memory {
                current: Some(4096),
                peak: Some(8192),
                swap_current: None,
                swap_peak: None,
                events: Some(MemoryEvents {
                    low: 0,
                    high: 1,
                    max: 2,
                    oom: 3,
                    oom_kill: 4,
                    oom_group_kill: 5,
                }),
            },
            io: vec![io, Io { device: (8, 16), ..Io::default() }],
            pressure: Pressure { cpu: Some(77), memory: None, io: None },
        };
        assert_eq!(usage, wanted);
    }

    #[test]
    fn a_group_without_controllers_has_cpu_time_without_throttling() {
        let text = "usage_usec 9\nuser_usec 6\nsystem_usec 3\n";
        let usage = Usage::from_files(&|file| (file == "cpu.stat").then(|| text.to_owned()));
        let cpu = Cpu { usage: 9, user: 6, system: 3, ..Cpu::default() };
        assert_eq!(usage, Usage { cpu: Some(cpu), ..Usage::default() });
    }
}
