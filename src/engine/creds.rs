//! The user and groups of a process, as credentials for a thread that works with its files.
//!
//! A thread switches to them for the rest of its life: there is no way back to get wrong, and a
//! thread that fails halfway does no work.

use std::collections::BTreeSet;
use std::io;

use serde::{Deserialize, Serialize};

/// The user and groups of a process, as far as they differ from ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Creds {
    pub(super) user: Option<libc::uid_t>,
    pub(super) group: Option<libc::gid_t>,
    pub(super) groups: Option<BTreeSet<libc::gid_t>>,
}

/// The version of the structures of capset(2), as in the kernel's `capability.h`.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

impl Creds {
    /// Whether they equal our own.
    pub(crate) fn are_ours(&self) -> bool {
        *self == Creds::default()
    }

    /// Switches the calling thread to this user, without our privileges, for its file operations
    /// until it ends.
    ///
    /// # Errors
    /// The OS error, usually `EPERM`; the thread must then not go on.
    pub(super) fn take_on(&self) -> io::Result<()> {
        if let Some(groups) = &self.groups {
            let groups: Vec<libc::gid_t> = groups.iter().copied().collect();
            // The C library's function would change every thread.
            // SAFETY: the kernel reads as many numbers as the list has.
            let ret = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
            check(ret)?;
        }
        if let Some(gid) = self.group {
            // SAFETY: the raw calls take no pointer; the second one changes nothing, and returns
            // the value that the first has set for this thread.
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

    /// Switches this whole single-threaded process to that user, without our privileges, for good.
    /// Unless we are root, we stay its saved user, so that we can still signal it.
    ///
    /// # Errors
    /// The OS error, usually `EPERM`; the process must then not go on.
    pub(super) fn become_for_good(&self) -> io::Result<()> {
        if let Some(groups) = &self.groups {
            let groups: Vec<libc::gid_t> = groups.iter().copied().collect();
            // SAFETY: the kernel reads as many numbers as the list has.
            check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
        }
        if let Some(gid) = self.group {
            // SAFETY: the raw call takes no pointer, and changes the credentials of this thread
            // alone.
            check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
        }
        if let Some(uid) = self.user {
            let ours = nix::unistd::geteuid();
            let saved = if ours.is_root() { uid } else { ours.as_raw() };
            // SAFETY: the raw call takes no pointer, and changes the credentials of this thread
            // alone.
            check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, saved) })?;
        }
        drop_capabilities()
    }
}

/// Removes every capability from the calling thread. The kernel itself removes only some, and only
/// from root.
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
