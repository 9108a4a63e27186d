//! Who the agent is: what it tells the server about itself when it registers.

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgid, getppid, getuid};

/// The connection, in a registration. The server refuses any other key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnInfo {
    /// Stays the same over reconnects.
    pub conn_id: String,
    /// The group that the agent joins.
    pub group_id: String,
    /// The only executable that may be started, if there is such a limit; several are joined by `:`.
    pub restricted_exe: Option<String>,
}

/// The agent's process, in a registration. The server refuses any other key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcInfo {
    /// The process that the user launched.
    pub pid: u32,
    /// Its parent.
    pub ppid: u32,
    /// Real user ID.
    pub uid: u32,
    /// Effective user ID.
    pub euid: u32,
    /// Name of the real user; the ID in digits where it has none.
    pub username: String,
    /// Real group ID.
    pub gid: u32,
    /// Effective group ID.
    pub egid: u32,
    /// Name of the real group; the ID in digits where it has none.
    pub groupname: String,
    /// What gethostname says.
    pub hostname: String,
}

impl ProcInfo {
    /// This process, asked of the system now. Needs no environment. What is no UTF-8 is replaced.
    #[must_use]
    pub fn current() -> Self {
        let (uid, gid) = (getuid(), getgid());
        Self {
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
        let info = ProcInfo::current();
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
