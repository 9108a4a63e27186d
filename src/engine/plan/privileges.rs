//! The capabilities of this program, and those that a process must drop.
//!
//! A process gets the privileges of its user, and none that this program has for its own work: a
//! process that root starts as another user has no capabilities, neither in its set-up nor by
//! inheritance.
//!
//! Nor can it regain them. Set-user-ID programs and file capabilities grant at most the bounding
//! set, so that is emptied. Without `CAP_SETPCAP`, which this takes, `no_new_privs` is set instead,
//! so that no exec grants anything. Both disable `sudo` in such a process, so a setting turns them
//! off. A program without capabilities changes nothing: its processes have the rights of its user.

use std::io;

/// The bit of `CAP_SETPCAP`.
const SETPCAP: u64 = 1 << 8;
/// `_LINUX_CAPABILITY_VERSION_3` of the kernel's `capability.h`: sets of 64 bits.
pub(in crate::engine) const VERSION: u32 = 0x2008_0522;

/// The privileges of this program, which it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Privileges {
    /// Whether its user is root.
    root: bool,
    sets: Sets,
    bounding: u64,
    /// The capabilities that the kernel has.
    known: u64,
    /// Whether processes may gain privileges by exec.
    gain: bool,
}

/// Its effective capabilities, and those that its processes could inherit, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

/// The privileges that a process drops before and after it changes to its user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shed {
    /// Capabilities to remove from the bounding set, before.
    pub(super) bounding: u64,
    /// Whether to empty all sets, after.
    pub(super) sets: bool,
    /// Whether to set `no_new_privs`, after.
    pub(super) no_new_privileges: bool,
}

impl Privileges {
    /// The present privileges. With `gain`, processes may gain privileges by executing set-user-ID
    /// programs.
    pub(in crate::engine) fn now(gain: bool) -> Privileges {
        Privileges {
            root: nix::unistd::geteuid().is_root(),
            // If the sets cannot be read, assume all capabilities: then all are dropped.
            sets: Sets::now().unwrap_or(Sets { effective: !0, permitted: !0, inheritable: !0 }),
            bounding: capabilities(|bounding| bounding == 1),
            known: capabilities(|bounding| bounding >= 0),
            gain,
        }
    }

    /// The privileges of root.
    #[cfg(test)]
    pub(super) fn of_root() -> Privileges {
        let sets = Sets { effective: !0, permitted: !0, inheritable: 0 };
        Privileges { root: true, sets, bounding: !0, known: !0, gain: false }
    }

    /// Whether this program has these effective capabilities.
    pub(super) fn has(&self, capabilities: u64) -> bool {
        self.sets.effective & capabilities == capabilities
    }

    /// The permitted capabilities of this program.
    pub(super) fn permitted(&self) -> u64 {
        self.sets.permitted
    }

    /// The bounding set of this program.
    pub(super) fn bounding(&self) -> u64 {
        self.bounding
    }

    /// The capabilities that the kernel has.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// Whether the user of this program is root.
    pub(super) fn is_root(&self) -> bool {
        self.root
    }

    /// The privileges that a process drops when it changes to this user, or keeps ours.
    pub(super) fn shed(&self, user: Option<libc::uid_t>) -> Shed {
        let Sets { effective, permitted, inheritable } = self.sets;
        let root_by_root = self.root && user.is_none_or(|uid| uid == 0);
        // Ambient capabilities are also permitted and inheritable.
        if root_by_root || effective | permitted | inheritable == 0 {
            return Shed::default();
        }
        let can_empty = effective & SETPCAP != 0;
        Shed {
            bounding: if can_empty && !self.gain { self.bounding } else { 0 },
            sets: true,
            no_new_privileges: !can_empty && !self.gain,
        }
    }
}

impl Sets {
    /// The sets of the calling thread.
    ///
    /// # Errors
    /// The OS error.
    fn now() -> io::Result<Sets> {
        // The kernel's layout: the lower halves of the three sets, then the upper ones.
        let mut words = [0u32; 6];
        let mut header = [VERSION, 0];
        // SAFETY: the kernel reads a header of two words, whose first it may rewrite for another
        // version, and writes six words for this version.
        let ret =
            unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), words.as_mut_ptr()) };
        if ret < 0 {
            return Err(io::Error::last_os_error());
        }
        let [effective, permitted, inheritable, more @ ..] = words;
        let [effective, permitted, inheritable] =
            [(effective, more[0]), (permitted, more[1]), (inheritable, more[2])]
                .map(|(low, high)| u64::from(low) | u64::from(high) << 32);
        Ok(Sets { effective, permitted, inheritable })
    }
}

/// The capabilities for which PR_CAPBSET_READ returns a fitting value, a bit for each: 1 for those in
/// the bounding set of the calling thread, negative for those that the kernel does not have.
fn capabilities(fits: impl Fn(libc::c_int) -> bool) -> u64 {
    // SAFETY: PR_CAPBSET_READ takes no pointer and changes nothing.
    let read = |capability: u64| unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability) };
    let fitting = (0..64).filter(|capability| fits(read(*capability)));
    fitting.fold(0, |set, capability| set | 1 << capability)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privileges(root: bool, set: u64, gain: bool) -> Privileges {
        let sets = Sets { effective: set, permitted: set, inheritable: 0 };
        Privileges { root, sets, bounding: 0x1ff, known: 0x1ff, gain }
    }

    #[test]
    fn only_existing_capabilities_are_dropped() {
        let (all, some) = (0x1ff, 0xe0);
        let emptied = Shed { bounding: 0x1ff, sets: true, no_new_privileges: false };
        let held = Shed { bounding: 0, sets: true, no_new_privileges: true };
        let sets_alone = Shed { no_new_privileges: false, ..held };
        for (root, set, user, gain, shed) in [
            // A process of root keeps root's privileges, even if root has only some.
            (true, all, None, false, Shed::default()),
            (true, all, Some(0), false, Shed::default()),
            (true, some, None, false, Shed::default()),
            // Another user gets none of root's privileges.
            (true, all, Some(7), false, emptied),
            (true, some, Some(7), false, held),
            (true, all, Some(7), true, sets_alone),
            // Nor does any process of a user with capabilities, including root's.
            (false, some, None, false, held),
            (false, some, Some(0), false, held),
            (false, all, None, false, emptied),
            (false, all, Some(0), false, emptied),
            (false, some, None, true, sets_alone),
            // A program without capabilities passes none on.
            (false, 0, None, false, Shed::default()),
            (true, 0, Some(7), false, Shed::default()),
        ] {
            let found = privileges(root, set, gain).shed(user);
            assert_eq!(found, shed, "{root} {set:x} {user:?} {gain}");
        }
        let inherits = Sets { effective: 0, permitted: 0, inheritable: 1 };
        let inherits = Privileges { sets: inherits, ..privileges(false, 0, false) };
        assert!(inherits.shed(None).sets);
    }
}
