//! User IDs, as the kernel shows them in this user namespace.

use std::fs;

use nix::unistd::{Group, Uid, User};

/// The user map of a user namespace in which every user has a number.
const WHOLE_MAP: [&str; 3] = ["0", "0", "4294967295"];

/// Whether users without a number in our user namespace share this one: the kernel shows them all
/// as the overflow user.
pub fn is_ambiguous(uid: u32) -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    is_ambiguous_in(uid, &read("/proc/sys/kernel/overflowuid"), &read("/proc/self/uid_map"))
}

/// The same, by the texts of `overflowuid` and `uid_map`.
fn is_ambiguous_in(uid: u32, overflow: &str, map: &str) -> bool {
    /// The kernel's default.
    const OVERFLOW: u32 = 65_534;
    uid == overflow.trim().parse().unwrap_or(OVERFLOW)
        && !map.split_ascii_whitespace().eq(WHOLE_MAP)
}

/// A user's name and number, for messages: `mallory (1001)`.
pub(crate) fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => format!("{} ({uid})", user.name),
        _ => format!("user {uid}"),
    }
}

/// A group's name and number, for messages.
pub(crate) fn group_name(gid: u32) -> String {
    match Group::from_gid(gid.into()) {
        Ok(Some(group)) => format!("{} ({gid})", group.name),
        _ => gid.to_string(),
    }
}

/// Whether a group is the user's private one: it has the user's name, and no other member.
pub(crate) fn is_private_group(gid: u32, uid: u32) -> bool {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return false };
    let Ok(Some(group)) = Group::from_gid(gid.into()) else { return false };
    user.gid == group.gid
        && user.name == group.name
        && group.mem.iter().all(|member| *member == user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overflow_user_is_ambiguous_unless_every_user_has_a_number() {
        let whole = "         0          0 4294967295\n";
        let mapped = "         0       1000          1\n";
        for (uid, overflow, map, expected) in [
            (65_534, "65534\n", whole, false),
            (65_534, "65534\n", mapped, true),
            (65_534, "65534\n", "", true),
            (65_534, "", mapped, true),
            (0, "65534\n", mapped, false),
            (65_534, "4000\n", mapped, false),
            (4000, "4000\n", mapped, true),
        ] {
            assert_eq!(is_ambiguous_in(uid, overflow, map), expected, "{uid} {overflow} {map}");
        }
    }

    #[test]
    fn names_have_their_numbers() {
        assert_eq!(user_name(0), "root (0)");
        assert_eq!(user_name(4_000_000_000), "user 4000000000");
        assert_eq!(group_name(4_000_000_000), "4000000000");
    }

    #[test]
    fn a_group_with_other_members_or_another_name_is_not_private() {
        // Root's own group is, on every system.
        assert!(is_private_group(0, 0));
        assert!(!is_private_group(1, 0) && !is_private_group(0, 4_000_000_000));
    }
}
