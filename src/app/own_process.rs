//! This process, as it appears in the registration with a scheduler and in results.

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgid, getppid, getuid};

use crate::wire::ProcInfo;

/// Returns this process's description for a registration, read from the system now, without
/// environment variables. Bytes that are not UTF-8 are replaced.
#[must_use]
pub fn proc_info() -> ProcInfo {
    let (uid, gid) = (getuid(), getgid());
    ProcInfo {
        pid: std::process::id(),
        ppid: getppid().as_raw().unsigned_abs(),
        uid: uid.as_raw(),
        euid: geteuid().as_raw(),
        username: username(uid),
        gid: gid.as_raw(),
        egid: getegid().as_raw(),
        groupname: groupname(gid),
        hostname: nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
    }
}

fn username(uid: Uid) -> String {
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

fn groupname(gid: Gid) -> String {
    let group = Group::from_gid(gid).ok().flatten();
    group.map_or_else(|| gid.to_string(), |group| group.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let info = proc_info();
        assert_eq!(info.pid, std::process::id());
        assert_eq!(info.ppid, std::os::unix::process::parent_id());
        let id = |args: &[&str]| {
            let out = std::process::Command::new("id").args(args).output().unwrap();
            String::from_utf8(out.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(info.username, id(&["-un"]));
        assert_eq!(info.groupname, id(&["-gn"]));
        assert_eq!(info.euid.to_string(), id(&["-u"]));
        assert!(!info.hostname.is_empty());
    }

    #[test]
    fn ids_without_a_name_are_digits() {
        assert_eq!(username(Uid::from_raw(3_999_999_999)), "3999999999");
        assert_eq!(groupname(Gid::from_raw(3_999_999_999)), "3999999999");
    }
}
