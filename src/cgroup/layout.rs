//! The mounted hierarchies of control groups, and the groups of this process in them.

use std::path::{Path, PathBuf};

use procfs::process::MountInfo;
use procfs::{FromBufRead, ProcessCGroups};

/// The version of a hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy of its own for each controller.
    V1,
    /// One hierarchy for all controllers.
    V2,
}

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its version.
    pub version: Version,
    /// The group that is visible at the mount point.
    root: PathBuf,
    /// The mount point.
    pub at: PathBuf,
    /// Whether it is a hierarchy of version 1 with the memory controller.
    pub has_memory: bool,
    /// Whether nothing can be written below the mount point.
    pub read_only: bool,
}

impl Mount {
    /// The directory of a group; `None` if the mount does not show the group.
    fn directory(&self, group: &Path) -> Option<PathBuf> {
        // Joining an empty path would append a slash.
        let below = group.strip_prefix(&self.root).ok()?;
        Some(if below.as_os_str().is_empty() { self.at.clone() } else { self.at.join(below) })
    }
}

/// The mounts, and the groups of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The mounted hierarchies.
    pub mounts: Vec<Mount>,
    own: Option<PathBuf>,
    own_memory: Option<PathBuf>,
}

impl Layout {
    /// Reads the layout from a proc file system. Unreadable files count as empty.
    #[must_use]
    pub fn read(proc: &Path) -> Layout {
        let text = |name: &str| std::fs::read_to_string(proc.join("self").join(name));
        let (cgroup, mountinfo) = (text("cgroup"), text("mountinfo"));
        Layout::parse(&cgroup.unwrap_or_default(), &mountinfo.unwrap_or_default())
    }

    /// The layout of a `/proc/self/cgroup` and a `/proc/self/mountinfo`. Invalid lines are left out.
    #[must_use]
    pub fn parse(cgroup: &str, mountinfo: &str) -> Layout {
        let groups = ProcessCGroups::from_buf_read(cgroup.as_bytes());
        let groups =
            groups.map(|groups| groups.into_iter().collect()).unwrap_or_else(|_| Vec::new());
        let of = |wanted: &dyn Fn(&procfs::ProcessCGroup) -> bool| {
            groups.iter().find(|group| wanted(group)).map(|group| PathBuf::from(&group.pathname))
        };
        Layout {
            mounts: mounts(mountinfo),
            own: of(&|group| group.hierarchy == 0),
            own_memory: of(&|group| group.controllers.iter().any(|name| name == "memory")),
        }
    }

    /// The mount of version 2.
    #[must_use]
    pub fn v2(&self) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.version == Version::V2)
    }

    /// Whether the group of this process is outside of its control group namespace.
    #[must_use]
    pub fn is_outside_namespace(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.starts_with("/.."))
    }

    /// The directory of this process's group of version 2, if a mount shows it.
    #[must_use]
    pub fn own_group(&self) -> Option<PathBuf> {
        let own = self.own.as_ref().filter(|_| !self.is_outside_namespace())?;
        self.directory(own)
    }

    /// The directory of the group of version 2 in the text of a `/proc/PID/cgroup`, if a mount shows
    /// it.
    #[must_use]
    pub fn directory_in(&self, cgroup: &str) -> Option<PathBuf> {
        let name = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
        self.directory(Path::new(name))
    }

    /// The directory of a group of version 2, if a mount shows it.
    fn directory(&self, name: &Path) -> Option<PathBuf> {
        self.mounts
            .iter()
            .filter(|mount| mount.version == Version::V2)
            .find_map(|mount| mount.directory(name))
    }

    /// The directory of this process's group in the hierarchy of version 1 that has the memory
    /// controller.
    #[must_use]
    pub fn own_memory_group(&self) -> Option<PathBuf> {
        let own = self.own_memory.as_ref()?;
        self.mounts.iter().filter(|mount| mount.has_memory).find_map(|mount| mount.directory(own))
    }
}

fn mounts(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| MountInfo::from_line(line).ok())
        .filter_map(|info| {
            let version = match info.fs_type.as_str() {
                "cgroup" => Version::V1,
                "cgroup2" => Version::V2,
                _ => return None,
            };
            let is_v1_memory = info.super_options.contains_key("memory");
            Some(Mount {
                version,
                root: unescaped(&info.root).into(),
                at: unescaped(&info.mount_point.to_string_lossy()).into(),
                has_memory: version == Version::V1 && is_v1_memory,
                read_only: info.mount_options.contains_key("ro")
                    || info.super_options.contains_key("ro"),
            })
        })
        .collect()
}

/// A path of mountinfo. The kernel writes blanks and backslashes as octal numbers, and the crate
/// leaves them as they are.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "30 29 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        31 30 0:27 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n\
        32 30 0:28 /a /sys/fs/cgroup/mem\\040ory rw shared:3 - cgroup cgroup rw,cpu,memory\n\
        33 30 0:29 / /sys/fs/cgroup/unified ro,nosuid - cgroup2 cgroup2 rw\n";

    fn of(cgroup: &str) -> Layout {
        Layout::parse(cgroup, MOUNTS)
    }

    #[test]
    fn the_own_groups_of_both_versions_are_found() {
        let layout = of("5:devices:/\n4:cpu,memory:/a/b c\n0::/u/x:y\n");
        assert_eq!(layout.own_group(), Some("/sys/fs/cgroup/unified/u/x:y".into()));
        assert_eq!(layout.own_memory_group(), Some("/sys/fs/cgroup/mem ory/b c".into()));
        assert_eq!(of("0::/\n").own_group(), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(of("4:memory:/a\n").own_memory_group(), Some("/sys/fs/cgroup/mem ory".into()));
    }

    #[test]
    fn a_group_that_no_mount_shows_has_no_directory() {
        assert_eq!(of("5:devices:/\n").own_group(), None);
        assert_eq!(of("4:memory:/elsewhere\n").own_memory_group(), None);
        let outside = of("0::/../other\n");
        assert!(outside.is_outside_namespace());
        assert_eq!(outside.own_group(), None);
    }

    #[test]
    fn a_read_only_mount_is_reported() {
        let mounts = of("").mounts;
        let read_only: Vec<_> = mounts.iter().map(|mount| mount.read_only).collect();
        assert_eq!(read_only, [false, false, true]);
        let memory: Vec<_> = mounts.iter().map(|mount| mount.has_memory).collect();
        assert_eq!(memory, [false, true, false]);
    }
}
