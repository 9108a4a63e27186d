//! Which capabilities this program has, and what a process must shed of them.
//!
//! A process gets what its user has, and nothing of what this program has for its own work: a process that is not root's own, started by root,
//! has no capability at all, neither while it is set up nor by inheriting them.
//!
//! It may not come back to them either. Set-user-ID programs and file capabilities grant at most the bounding set, so that is emptied.
//! That takes `CAP_SETPCAP`; a program without it sets `no_new_privs` instead, with which no execution grants anything. Both end `sudo` in
//! such a process, so a setting leaves them out. A program without any capability changes nothing: its processes can do what its user can.

use std::io;

/// The bit of `CAP_SETPCAP`.
const SETPCAP: u64 = 1 << 8;
/// `_LINUX_CAPABILITY_VERSION_3` of the kernel's `capability.h`: sets of 64 bits.
pub(in crate::engine) const VERSION: u32 = 0x2008_0522;

/// What this program may, which it goes on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Privileges {
    /// Whether it acts as user 0.
    root: bool,
    sets: Sets,
    bounding: u64,
    /// Whether processes may gain privileges by executing.
    gain: bool,
}

/// The capabilities that it can act by, and those that its processes could get of it, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

/// What a process does of itself before it changes to its user, and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shed {
    /// The capabilities to take out of the bounding set, before.
    pub(super) bounding: u64,
    /// Whether all sets are emptied, after.
    pub(super) sets: bool,
    /// Whether it gains nothing by executing, after.
    pub(super) no_new_privileges: bool,
}

impl Privileges {
    /// As they are. Processes `gain` privileges by executing set-user-ID programs only if that is said.
    pub(in crate::engine) fn now(gain: bool) -> Privileges {
        Privileges {
            root: nix::unistd::geteuid().is_root(),
            // A process that cannot read its own sets is given all: then all are shed.
            sets: Sets::now().unwrap_or(Sets { effective: !0, permitted: !0, inheritable: !0 }),
            bounding: bounding_set(),
            gain,
        }
    }

    /// Those of root.
    #[cfg(test)]
    pub(super) fn of_root() -> Privileges {
        let sets = Sets { effective: !0, permitted: !0, inheritable: 0 };
        Privileges { root: true, sets, bounding: !0, gain: false }
    }

    /// What a process sheds that changes to this user, or stays with ours.
    pub(super) fn shed(&self, user: Option<libc::uid_t>) -> Shed {
        let Sets { effective, permitted, inheritable } = self.sets;
        let root_by_root = self.root && user.is_none_or(|uid| uid == 0);
        // What is ambient is permitted and inheritable too.
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
    /// Of the calling thread.
    ///
    /// # Errors
    /// The OS error.
    fn now() -> io::Result<Sets> {
        // As the kernel has it: the lower halves of the three sets, then the upper ones.
        let mut words = [0u32; 6];
        let mut header = [VERSION, 0];
        // SAFETY: the kernel reads a header of two words, of which it may rewrite the first one for another version than this, and writes six
        // words for this one.
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

/// The bounding set of the calling thread, a bit for each capability.
fn bounding_set() -> u64 {
    // SAFETY: PR_CAPBSET_READ takes no pointer and changes nothing.
    let has = |capability: u64| unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability) } == 1;
    (0..64).filter(|capability| has(*capability)).fold(0, |set, capability| set | 1 << capability)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privileges(root: bool, set: u64, gain: bool) -> Privileges {
        let sets = Sets { effective: set, permitted: set, inheritable: 0 };
        Privileges { root, sets, bounding: 0x1ff, gain }
    }

    #[test]
    fn only_what_there_is_is_shed() {
        let (all, some) = (0x1ff, 0xe0);
        let emptied = Shed { bounding: 0x1ff, sets: true, no_new_privileges: false };
        let held = Shed { bounding: 0, sets: true, no_new_privileges: true };
        let sets_alone = Shed { no_new_privileges: false, ..held };
        for (root, set, user, gain, shed) in [
            // Root by root has what root has, also where that is less.
            (true, all, None, false, Shed::default()),
            (true, all, Some(0), false, Shed::default()),
            (true, some, None, false, Shed::default()),
            // Another user has nothing of root's.
            (true, all, Some(7), false, emptied),
            (true, some, Some(7), false, held),
            (true, all, Some(7), true, sets_alone),
            // Nor does anybody of a user's with capabilities, root included.
            (false, some, None, false, held),
            (false, some, Some(0), false, held),
            (false, all, None, false, emptied),
            (false, all, Some(0), false, emptied),
            (false, some, None, true, sets_alone),
            // Whoever has none gives none.
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
