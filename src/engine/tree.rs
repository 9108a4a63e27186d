//! A process with all its descendants, and how all of them are killed.
//!
//! Whoever is killed leaves children behind, and whoever is not may make new ones meanwhile. So they are stopped first, from the
//! roots on, until nobody new is found: a stopped process makes no children and reaps none. Then all are killed. A process is told
//! from a later one of its pid by its start time, and signaled through a pidfd that was opened before that was read.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::procfs::{ProcFs, RawStat};
use super::sys;

/// How many processes are taken for one tree; of a larger one, the rest is left to whoever is told of survivors.
const MAX_MEMBERS: usize = 4096;
/// How many killed ones can be waited for.
const HELD: usize = 64;
/// How often the whole tree is gone through, before it is killed as it is.
const MAX_PASSES: usize = 16;

/// Processes that stand still.
#[derive(Default)]
pub(super) struct Tree {
    /// Each with its start time.
    members: HashMap<i32, u64>,
}

impl Tree {
    /// Stops these processes, which must be ours to reap, or known to live, and all their descendants.
    pub(super) fn freeze(procfs: &ProcFs, roots: impl IntoIterator<Item = i32>) -> Tree {
        let mut tree = Tree::default();
        for root in roots {
            tree.take(procfs, root, |_| true);
        }
        for _ in 0..MAX_PASSES {
            // One that was found while it ran may have made more before it stood still.
            let before = tree.members.len();
            tree.pass(procfs);
            if tree.members.len() == before {
                break;
            }
        }
        tree
    }

    /// Goes through the tree once, as deep as it is.
    fn pass(&mut self, procfs: &ProcFs) {
        let mut todo: Vec<i32> = self.members.keys().copied().collect();
        while let Some(parent) = todo.pop() {
            for child in procfs.children(parent) {
                let known = self.members.contains_key(&child);
                let is_ours = |stat: &RawStat| stat.ppid == parent;
                if !known && self.members.len() < MAX_MEMBERS && self.take(procfs, child, is_ours) {
                    todo.push(child);
                }
            }
        }
    }

    /// Stops a process, if it is the one that was meant; tells whether.
    fn take(&mut self, procfs: &ProcFs, pid: i32, meant: impl Fn(&RawStat) -> bool) -> bool {
        let Ok(pidfd) = sys::pidfd_open(pid) else { return false };
        match procfs.read_stat(pid) {
            Ok(stat) if meant(&stat) => {
                // One that may not be signaled stays in the tree: its children may.
                let _ = sys::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGSTOP);
                self.members.insert(pid, stat.starttime);
                true
            }
            _ => false,
        }
    }

    /// Kills all of them; gives pidfds of those that were killed, [`HELD`] at most.
    pub(super) fn kill(&self, procfs: &ProcFs) -> Vec<OwnedFd> {
        let kill = |(pid, starttime): (&i32, &u64)| -> io::Result<OwnedFd> {
            let pidfd = sys::pidfd_open(*pid)?;
            let stat = procfs.read_stat(*pid).map_err(io::Error::other)?;
            if stat.starttime != *starttime {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            sys::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL)?;
            Ok(pidfd)
        };
        let mut held = Vec::new();
        for pidfd in self.members.iter().filter_map(|member| kill(member).ok()) {
            if held.len() < HELD {
                held.push(pidfd);
            }
        }
        held
    }

    /// Its processes, each with its start time.
    pub(super) fn into_members(self) -> HashMap<i32, u64> {
        self.members
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    /// Everybody below a shell, those too that have gone into sessions of their own.
    #[test]
    fn nobody_is_left() {
        let procfs = ProcFs::default();
        let script = "for i in 1 2 3; do setsid sh -c 'sleep 600 & sleep 600' & done; sleep 600";
        let mut root =
            Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).spawn().unwrap();
        let pid = root.id() as i32;
        let below = |pid: i32| {
            let mut all = vec![pid];
            let mut at = 0;
            while let Some(pid) = all.get(at).copied() {
                all.extend(procfs.children(pid));
                at += 1;
            }
            all
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while below(pid).len() < 11 {
            assert!(Instant::now() < deadline, "{:?}", below(pid));
            std::thread::yield_now();
        }
        let tree = Tree::freeze(&procfs, [pid]);
        assert_eq!(tree.members.len(), 11);
        let killed = tree.kill(&procfs);
        assert_eq!(killed.len(), 11);
        for pidfd in killed {
            let mut fds = [nix::poll::PollFd::new(
                std::os::fd::AsFd::as_fd(&pidfd),
                nix::poll::PollFlags::POLLIN,
            )];
            assert_eq!(nix::poll::poll(&mut fds, 30_000u16), Ok(1), "it dies");
        }
        root.wait().unwrap();
    }
}
