//! A process with all its descendants: how to signal all of them, and how to kill all of them.
//!
//! A killed process leaves children behind, and a running one can fork meanwhile. So all processes
//! are stopped first, from the roots down, until no new one is found: a stopped process neither
//! forks nor reaps. Then all get the signal and, unless that was SIGKILL, continue, children before
//! their parents: no parent sees a stopped child. The start time distinguishes a process from a
//! later one with the same pid. Signals go through a pidfd that was opened before the start time
//! was read.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use indexmap::IndexMap;

use crate::engine::{permitted, sys};
use crate::procfs::{ProcFs, RawStat};

/// Most processes of one tree; the rest of a larger tree is reported as survivors.
const MAX_MEMBERS: usize = 4096;
/// Most processes that are waited for at once.
const HELD: usize = 64;
/// Most passes through the whole tree before it is taken as complete.
const MAX_PASSES: usize = 16;

/// Signals after which a process is not continued: SIGCONT has no effect, or the process is to stay
/// stopped.
const NO_CONT: [i32; 5] =
    [libc::SIGKILL, libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Whether SIGCONT follows this signal: a stopped process handles a signal only after it continues.
pub(super) fn is_continued_after(signum: i32) -> bool {
    !NO_CONT.contains(&signum)
}

/// A root of a tree.
#[derive(Clone, Copy)]
pub(super) struct Root {
    pub(super) pid: i32,
    /// The start time; `None` if the pid cannot have been reused.
    pub(super) starttime: Option<u64>,
}

impl Root {
    /// A child of ours that is not reaped.
    pub(super) fn ours(pid: i32) -> Root {
        Root { pid, starttime: None }
    }
}

#[derive(Clone, Copy)]
struct Member {
    starttime: u64,
    pgrp: i32,
    /// Whether the process is a zombie.
    ended: bool,
}

/// The processes of a tree, each after its parent.
#[derive(Default)]
pub(super) struct Tree {
    members: IndexMap<i32, Member>,
    /// Whether processes are stopped as they are found.
    freezes: bool,
}

/// A process that could not be signaled.
pub(super) struct Refusal {
    pub(super) pid: i32,
    /// The name of its executable.
    pub(super) comm: String,
    pub(super) errno: i32,
}

impl Tree {
    /// Finds these processes and all their descendants without stopping them: some may come or go
    /// meanwhile.
    pub(super) fn survey(procfs: &ProcFs, roots: impl IntoIterator<Item = Root>) -> Tree {
        let mut tree = Tree::default();
        tree.take_roots(procfs, roots);
        tree.pass(procfs);
        tree
    }

    /// Stops these processes and all their descendants.
    pub(super) fn freeze(procfs: &ProcFs, roots: impl IntoIterator<Item = Root>) -> Tree {
        let mut tree = Tree { freezes: true, ..Tree::default() };
        tree.take_roots(procfs, roots);
        for _ in 0..MAX_PASSES {
            // A process that ran until it was found may have forked before it stopped.
            let before = tree.members.len();
            tree.pass(procfs);
            if tree.members.len() == before {
                break;
            }
        }
        tree
    }

    fn take_roots(&mut self, procfs: &ProcFs, roots: impl IntoIterator<Item = Root>) {
        for Root { pid, starttime } in roots {
            self.take(procfs, pid, |stat| starttime.is_none_or(|then| then == stat.starttime));
        }
    }

    /// Walks through the tree once, to its full depth.
    fn pass(&mut self, procfs: &ProcFs) {
        let mut at = 0;
        while let Some((&parent, _)) = self.members.get_index(at) {
            at += 1;
            for child in procfs.children(parent) {
                if self.members.len() < MAX_MEMBERS {
                    self.take(procfs, child, |stat| stat.ppid == parent);
                }
            }
        }
    }

    /// Adds a process to the tree if `meant` accepts it.
    fn take(&mut self, procfs: &ProcFs, pid: i32, meant: impl Fn(&RawStat) -> bool) {
        if self.members.contains_key(&pid) {
            return;
        }
        let Ok(pidfd) = permitted::handle(pid) else { return };
        let Ok(stat) = procfs.read_stat(pid) else { return };
        if !meant(&stat) {
            return;
        }
        if self.freezes {
            // A process that may not be signaled stays in the tree: its children may be signaled.
            let _ = sys::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGSTOP);
        }
        // If only the main thread has ended, the process goes on.
        let ended = matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1;
        let RawStat { starttime, pgrp, .. } = stat;
        self.members.insert(pid, Member { starttime, pgrp, ended });
    }

    /// Whether all live processes are in this group.
    pub(super) fn is_within(&self, pgrp: i32) -> bool {
        self.living().all(|(_, member)| member.pgrp == pgrp)
    }

    /// Whether a live process is in this group: then the number has not been reused.
    pub(super) fn holds(&self, pgrp: i32) -> bool {
        self.living().any(|(_, member)| member.pgrp == pgrp)
    }

    fn living(&self) -> impl Iterator<Item = (i32, &Member)> {
        self.members.iter().filter(|(_, member)| !member.ended).map(|(pid, member)| (*pid, member))
    }

    /// Sends a signal to each process, and then continues each.
    pub(super) fn signal(&self, procfs: &ProcFs, signum: i32) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let mut signaled = Vec::new();
        for (pid, member) in self.living() {
            let Ok((pidfd, stat)) = find(procfs, pid, member.starttime) else { continue };
            match sys::pidfd_send_signal(pidfd.as_raw_fd(), signum) {
                Ok(()) => signaled.push((pid, member.starttime)),
                Err(error) => refusals.extend(Refusal::of(pid, stat.comm, &error)),
            }
        }
        if is_continued_after(signum) {
            for (pid, starttime) in signaled.into_iter().rev() {
                if let Ok((pidfd, _)) = find(procfs, pid, starttime) {
                    let _ = sys::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGCONT);
                }
            }
        }
        refusals
    }

    /// The processes that we may not signal.
    pub(super) fn out_of_reach(&self, procfs: &ProcFs) -> Vec<Refusal> {
        self.living()
            .filter_map(|(pid, member)| {
                let (pidfd, stat) = find(procfs, pid, member.starttime).ok()?;
                let error = sys::pidfd_send_signal(pidfd.as_raw_fd(), 0).err()?;
                Refusal::of(pid, stat.comm, &error)
            })
            .collect()
    }

    /// Kills all processes; returns pidfds of at most [`HELD`] killed ones, and the failures.
    pub(super) fn kill(&self, procfs: &ProcFs) -> (Vec<OwnedFd>, Vec<Refusal>) {
        let mut held = Vec::new();
        let mut refusals = Vec::new();
        for (pid, member) in self.living() {
            let Ok((pidfd, stat)) = find(procfs, pid, member.starttime) else { continue };
            match sys::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL) {
                Ok(()) if held.len() < HELD => held.push(pidfd),
                Ok(()) => {}
                Err(error) => refusals.extend(Refusal::of(pid, stat.comm, &error)),
            }
        }
        (held, refusals)
    }

    /// Pidfds of at most [`HELD`] live processes.
    pub(super) fn held(&self, procfs: &ProcFs) -> Vec<OwnedFd> {
        let found = self.living().filter_map(|(pid, m)| find(procfs, pid, m.starttime).ok());
        found.map(|(pidfd, _)| pidfd).take(HELD).collect()
    }

    /// The tree without one process.
    pub(super) fn without(mut self, pid: i32) -> Tree {
        self.members.shift_remove(&pid);
        self
    }

    /// The processes, each with its start time.
    pub(super) fn into_members(self) -> impl Iterator<Item = (i32, u64)> {
        self.members.into_iter().map(|(pid, member)| (pid, member.starttime))
    }
}

impl Refusal {
    /// `None` if the process is gone.
    fn of(pid: i32, comm: String, error: &io::Error) -> Option<Refusal> {
        let errno = error.raw_os_error().filter(|errno| *errno != libc::ESRCH)?;
        Some(Refusal { pid, comm, errno })
    }
}

/// Finds the process with this pid and start time.
///
/// # Errors
/// The process is gone.
fn find(procfs: &ProcFs, pid: i32, starttime: u64) -> io::Result<(OwnedFd, RawStat)> {
    let pidfd = permitted::handle(pid)?;
    let stat = procfs.read_stat(pid).map_err(io::Error::other)?;
    if stat.starttime != starttime {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok((pidfd, stat))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    /// All processes below a shell die, also those in their own sessions.
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
        let tree = Tree::freeze(&procfs, [Root::ours(pid)]);
        assert_eq!(tree.members.len(), 11);
        let (killed, refused) = tree.kill(&procfs);
        assert_eq!((killed.len(), refused.len()), (11, 0));
        for pidfd in killed {
            let mut fds = [nix::poll::PollFd::new(
                std::os::fd::AsFd::as_fd(&pidfd),
                nix::poll::PollFlags::POLLIN,
            )];
            assert_eq!(nix::poll::poll(&mut fds, 30_000u16), Ok(1), "it dies");
        }
        root.wait().unwrap();
    }

    /// A stopped process handles the signal, and a shell with job control sees no stopped child.
    #[test]
    fn all_get_the_signal_and_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let procfs = ProcFs::default();
        let script = "cd \"$0\"; set -m; trap 'echo asked > parent; exit' USR1
            (trap 'echo asked > child; exit' USR1; touch ready; while :; do sleep 0.01; done) &
            wait; echo stopped > parent; exit";
        let mut root =
            Command::new("/bin/bash").args(["-c", script]).arg(dir.path()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let content = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
        while content("ready").is_none() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        let tree = Tree::freeze(&procfs, [Root::ours(root.id() as i32)]);
        assert!(tree.signal(&procfs, libc::SIGUSR1).is_empty());
        assert!(root.wait().unwrap().success());
        while content("child").is_none() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert_eq!(content("parent").as_deref(), Some("asked\n"));
    }

    #[test]
    fn a_later_process_with_the_same_pid_is_not_stopped() {
        let procfs = ProcFs::default();
        let pid = std::process::id() as i32;
        let starttime = procfs.read_stat(pid).unwrap().starttime;
        let root = |starttime| Root { pid, starttime: Some(starttime) };
        assert!(Tree::survey(&procfs, [root(starttime - 1)]).members.is_empty());
        assert!(Tree::survey(&procfs, [root(starttime)]).members.contains_key(&pid));
    }
}
