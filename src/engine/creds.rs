//! The user and groups of a process, taken on by a thread that works with that process's files.
//!
//! A thread takes them on for good, for what is left of its life: nothing is to be undone, and no error leaves it half changed with work to do.

use std::collections::BTreeSet;
use std::io;

use serde::{Deserialize, Serialize};

/// The user and groups that a process has, as far as they differ from ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Creds {
    pub(super) user: Option<libc::uid_t>,
    pub(super) group: Option<libc::gid_t>,
    pub(super) groups: Option<BTreeSet<libc::gid_t>>,
}

/// The version of the structures of capset(2), as in the kernel's `capability.h`.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

impl Creds {
    /// Whether they are our own.
    pub(crate) fn are_ours(&self) -> bool {
        *self == Creds::default()
    }

    /// Has the calling thread open, make and remove files as this user, and with no privilege of ours, until it ends.
    ///
    /// # Errors
    /// The OS error, as a rule `EPERM`; the thread must not go on then.
    pub(super) fn take_on(&self) -> io::Result<()> {
        if let Some(groups) = &self.groups {
            let groups: Vec<libc::gid_t> = groups.iter().copied().collect();
            // The C library's function would have every thread change.
            // SAFETY: the kernel reads as many numbers as the list has.
            let ret = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
            check(ret)?;
        }
        if let Some(gid) = self.group {
            // SAFETY: the raw calls take no pointer; the second one changes nothing, and returns what the first has set for this thread.
            let now = unsafe {
                libc::syscall(libc::SYS_setfsgid, gid);
                libc::syscall(libc::SYS_setfsgid, -1)
            };
            is(now, gid)?;
        }
        let Some(uid) = self.user else { return Ok(()) };
        // SAFETY: the same holds for the user.
        let now = unsafe {
            libc::syscall(libc::SYS_setfsuid, uid);
            libc::syscall(libc::SYS_setfsuid, -1)
        };
        is(now, uid)?;
        if uid == 0 { Ok(()) } else { drop_capabilities() }
    }

    /// Has this whole process, of one thread, be of that user, with no privilege of ours, for good. Where we are not root, we stay its saved
    /// user, so that we can still signal it.
    ///
    /// # Errors
    /// The OS error, as a rule `EPERM`; the process must not go on then.
    pub(super) fn become_for_good(&self) -> io::Result<()> {
        if let Some(groups) = &self.groups {
            let groups: Vec<libc::gid_t> = groups.iter().copied().collect();
            // SAFETY: the kernel reads as many numbers as the list has.
            check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
        }
        if let Some(gid) = self.group {
            // SAFETY: the raw call takes no pointer, and changes the credentials of this thread alone.
            check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
        }
        if let Some(uid) = self.user {
            let ours = nix::unistd::geteuid();
            let saved = if ours.is_root() { uid } else { ours.as_raw() };
            // SAFETY: the raw call takes no pointer, and changes the credentials of this thread alone.
            check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, saved) })?;
        }
        drop_capabilities()
    }
}

/// Takes every capability from the calling thread. The kernel itself takes only some, and only from root.
fn drop_capabilities() -> io::Result<()> {
    let header = [CAPABILITY_VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: the kernel reads the header, and two structures of three words each.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) })
}

fn check(ret: libc::c_long) -> io::Result<()> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn is(now: libc::c_long, wanted: u32) -> io::Result<()> {
    if now as u32 == wanted { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}
