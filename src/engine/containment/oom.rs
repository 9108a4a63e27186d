//! Detection of OOM kills by the counter of the memory control group of new processes.
//!
//! The wait status of an OOM kill is that of any SIGKILL. The difference: no sender of ours, and a
//! higher count of OOM kills in the group. In cgroup v2 (`memory.events`) the count includes the
//! groups below; in v1 (`memory.oom_control`) it does not. The counter is read after a death by
//! SIGKILL, and now and then at a start: an ordinary process costs no read.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cgroup::Layout;

/// The least age of a reading that precedes a kill. Seconds can pass between the kernel's decision
/// and the visible end, because a large process's memory is freed first.
const SETTLED: Duration = Duration::from_secs(10);

/// The counter, as an upgrade hands it over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct HandoverOomKills {
    file: PathBuf,
    before: u64,
}

/// The counter's past and present values.
pub(super) struct OomWatch {
    /// The path of the proc file system.
    procfs: PathBuf,
    /// The counter's file; `None` without a memory control group.
    file: Option<PathBuf>,
    /// A reading that is at least [`SETTLED`] old, or the first one, plus the attributed kills
    /// since.
    before: u64,
    /// The last reading.
    latest: u64,
    /// The time of the last reading.
    at: Instant,
}

impl OomWatch {
    /// Watches the present group of this process, by a proc file system.
    pub(super) fn new(procfs: impl Into<PathBuf>) -> OomWatch {
        let procfs = procfs.into();
        let mut watch = OomWatch { procfs, file: None, before: 0, latest: 0, at: Instant::now() };
        watch.find();
        watch
    }

    /// Finds the present group of this process.
    fn find(&mut self) {
        self.file = counter_of(&self.procfs);
        let count = self.read();
        (self.before, self.latest) = (count, count);
    }

    /// The state for the next program.
    pub(super) fn kills(&self) -> Option<HandoverOomKills> {
        self.file.clone().map(|file| HandoverOomKills { file, before: self.before })
    }

    /// Restores the state of an earlier program: a process may have been killed since.
    pub(super) fn go_on_from(&mut self, kills: Option<HandoverOomKills>) {
        if let Some(HandoverOomKills { file, before }) = kills
            && self.file.as_ref() == Some(&file)
        {
            self.before = self.before.min(before);
        }
    }

    fn read(&self) -> u64 {
        let text = self.file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        text.and_then(|text| kills(&text)).unwrap_or(0)
    }

    /// Notes the start of a process: a reading that is old enough precedes it.
    pub(super) fn born(&mut self, now: Instant) {
        if self.file.is_some() && now.saturating_duration_since(self.at) >= SETTLED {
            self.before = self.before.max(self.latest);
            self.latest = self.read();
            self.at = now;
        }
    }

    /// Whether the last death by SIGKILL without a sender of ours was an OOM kill. Each kill is
    /// attributed to one process.
    pub(super) fn has_killed(&mut self) -> bool {
        let risen = self.read() > self.before;
        self.before += u64::from(risen);
        risen
    }
}

/// The file that counts kills in this process's memory control group.
fn counter_of(procfs: &Path) -> Option<PathBuf> {
    let layout = Layout::read(procfs);
    let v1 = layout.own_memory_group().map(|group| group.join("memory.oom_control"));
    v1.or_else(|| layout.own_group().map(|group| group.join("memory.events")))
}

/// The count in a counter's file: `oom_kill N`.
fn kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

#[cfg(test)]
impl HandoverOomKills {
    /// For the fixtures of states.
    pub(in crate::engine) fn sample() -> HandoverOomKills {
        HandoverOomKills { file: "/sys/fs/cgroup/memory.events".into(), before: 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_either_version_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("self");
        std::fs::create_dir(&own).unwrap();
        let mounts = "32 30 0:28 /a /memory rw - cgroup cgroup rw,cpu,memory\n\
            33 30 0:29 / /unified rw - cgroup2 cgroup2 rw\n";
        std::fs::write(own.join("mountinfo"), mounts).unwrap();
        for (cgroup, wanted) in [
            ("4:cpu,memory:/a/b c\n0::/u\n", Some("/memory/b c/memory.oom_control")),
            ("5:devices:/\n0::/u\n", Some("/unified/u/memory.events")),
            ("5:devices:/\n", None),
        ] {
            std::fs::write(own.join("cgroup"), cgroup).unwrap();
            assert_eq!(counter_of(dir.path()), wanted.map(PathBuf::from), "{cgroup}");
        }
    }

    #[test]
    fn each_kill_is_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("self");
        std::fs::create_dir(&own).unwrap();
        let root = dir.path().display();
        std::fs::write(own.join("cgroup"), "0::/\n").unwrap();
        let mount = format!("1 1 0:1 / {root} rw - cgroup2 cgroup2 rw\n");
        std::fs::write(own.join("mountinfo"), mount).unwrap();
        let count = |n| {
            let text = format!("low 0\noom 9\noom_kill {n}\noom_group_kill 7\n");
            std::fs::write(dir.path().join("memory.events"), text).unwrap();
        };
        count(3);
        let mut watch = OomWatch::new(dir.path());
        assert!(!watch.has_killed());
        count(5);
        // Recent kills do not count as earlier than a process that starts now.
        watch.born(watch.at + Duration::from_secs(1));
        watch.born(watch.at + SETTLED);
        assert_eq!([(); 3].map(|()| watch.has_killed()), [true, true, false]);
        // A kill during the upgrade.
        count(6);
        let kills = watch.kills();
        watch = OomWatch::new(dir.path());
        watch.go_on_from(kills);
        assert_eq!([(); 2].map(|()| watch.has_killed()), [true, false]);
        watch.go_on_from(Some(HandoverOomKills { file: "/elsewhere".into(), before: 0 }));
        assert!(!watch.has_killed());
        // Kills that no process has claimed in time are in the past.
        count(7);
        watch.born(watch.at + SETTLED);
        watch.born(watch.at + SETTLED);
        assert!(!watch.has_killed());
        std::fs::remove_file(dir.path().join("memory.events")).unwrap();
        assert!(!watch.has_killed());
    }
}
