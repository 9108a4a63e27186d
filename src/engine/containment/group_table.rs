//! The control groups of processes: the directory of each, and the process of each directory.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::tree::Root;
use crate::cgroup::{Group, Layout};
use crate::engine::group_order::{GroupOrder, group_name};
use crate::procfs::ProcFs;
use crate::spec::ProcId;

/// The groups of an engine's processes.
pub(super) struct GroupTable {
    /// The group below which each process gets its own; `None` if processes get none.
    parent: Option<Arc<Group>>,
    groups: HashMap<u64, PathBuf>,
    serials: HashMap<PathBuf, u64>,
    /// The mounted hierarchies, from the first use on.
    layout: OnceLock<Layout>,
}

impl GroupTable {
    pub(super) fn new(parent: Option<Arc<Group>>) -> GroupTable {
        let (groups, serials) = (HashMap::new(), HashMap::new());
        GroupTable { parent, groups, serials, layout: OnceLock::new() }
    }

    /// Chooses the name of a new process's group.
    pub(super) fn order(&mut self, serial: u64, id: &ProcId) -> Option<GroupOrder> {
        let parent = Arc::clone(self.parent.as_ref()?);
        // A deleted process of this ID may have left a populated group.
        let names = (0u64..).map(|again| group_name(id.as_str(), again));
        let name = names.into_iter().find(|name| {
            let path = parent.path().join(name);
            !self.serials.contains_key(&path) && !path.exists()
        })?;
        self.insert(serial, parent.path().join(&name));
        Some(GroupOrder { parent, name })
    }

    /// Adds the group of a process.
    pub(super) fn insert(&mut self, serial: u64, path: PathBuf) {
        self.serials.insert(path.clone(), serial);
        self.groups.insert(serial, path);
    }

    /// Forgets the group of a process; returns its directory.
    pub(super) fn take(&mut self, serial: u64) -> Option<PathBuf> {
        let path = self.groups.remove(&serial)?;
        self.serials.remove(&path);
        Some(path)
    }

    /// The directory of a process's group.
    pub(super) fn path(&self, serial: u64) -> Option<&Path> {
        self.groups.get(&serial).map(PathBuf::as_path)
    }

    /// The open group of a process; `None` if it has none, or it was removed.
    pub(super) fn open(&self, serial: u64) -> Option<Group> {
        Group::open(self.path(serial)?).ok()
    }

    /// The members of a process's group, each with its start time: a later process with the same pid
    /// is not meant.
    pub(super) fn roots(&self, procfs: &ProcFs, serial: u64) -> Vec<Root> {
        let Some(group) = self.open(serial) else { return Vec::new() };
        let started = |pid: i32| Some((pid, procfs.read_stat(pid).ok()?.starttime));
        let seen: Vec<_> =
            group.all_members().unwrap_or_default().into_iter().filter_map(started).collect();
        // A pid is reused only after its process has left the list. So a pid that is in the list
        // after its start time was read is the process with that time, or a younger one.
        let still = group.all_members().unwrap_or_default();
        let members = seen.into_iter().filter(|(pid, _)| still.contains(pid));
        members.map(|(pid, starttime)| Root { pid, starttime: Some(starttime) }).collect()
    }

    /// The process in whose group, or in a group below it, another process is.
    pub(super) fn owner_of(&self, procfs: &ProcFs, pid: i32) -> Option<u64> {
        if self.groups.is_empty() {
            return None;
        }
        let group = self.group_of(procfs, pid)?;
        group.ancestors().find_map(|path| self.serials.get(path).copied())
    }

    /// Whether a process is outside of the group of the process with this number.
    pub(super) fn has_left(&self, procfs: &ProcFs, serial: u64, pid: i32) -> bool {
        let Some(path) = self.path(serial) else { return false };
        self.group_of(procfs, pid).is_some_and(|group| !group.starts_with(path))
    }

    fn group_of(&self, procfs: &ProcFs, pid: i32) -> Option<PathBuf> {
        let layout = self.layout.get_or_init(|| Layout::read(Path::new("/proc")));
        layout.directory_in(&procfs.read_cgroup(pid).ok()?)
    }

    /// Removes the group of a process; without an error, it is forgotten.
    ///
    /// # Errors
    /// EBUSY while it has members.
    pub(super) fn remove(&mut self, serial: u64) -> io::Result<()> {
        let Some(path) = self.path(serial) else { return Ok(()) };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let name = name.to_string_lossy().into_owned();
        match Group::open(parent).and_then(|parent| parent.remove_all(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                self.take(serial);
                Ok(())
            }
        }
    }
}
