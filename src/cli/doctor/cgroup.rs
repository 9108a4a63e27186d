//! Checks control groups and the service manager of this user.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::check::{Check, Level};
use crate::cgroup::Layout;
use crate::cgroup::layout::Mount;
use crate::config::Env;

/// All checks of control groups. `proc` is the mount point of the proc file system.
pub(super) fn checks(proc: &Path, env: &Env) -> Vec<Check> {
    let layout = Layout::read(proc);
    let controllers = |place: &Mount| {
        let own = layout.own_group().unwrap_or_else(|| place.at.clone());
        std::fs::read_to_string(own.join("cgroup.controllers")).map(|text| (own, text))
    };
    let v2 = layout.v2().map(controllers);
    vec![control_groups(&layout.mounts, v2), service_manager(env, &reach)]
}

type Controllers = std::io::Result<(PathBuf, String)>;

fn control_groups(mounts: &[Mount], v2: Option<Controllers>) -> Check {
    const NAME: &str = "control groups";
    let remedy = "boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 with its controllers: \
                  limits and statistics per control group need it";
    let v1_memory = mounts.iter().any(|mount| mount.has_memory);
    let (found, has_memory) = match v2 {
        None if mounts.is_empty() => ("not mounted".to_owned(), false),
        None => ("version 1 only".to_owned(), false),
        Some(Err(error)) => (format!("version 2; cannot read its controllers: {error}"), false),
        Some(Ok((place, controllers))) => {
            let names: Vec<_> = controllers.split_whitespace().collect();
            let wanted = ["cpu", "memory", "pids"];
            if wanted.iter().all(|wanted| names.contains(wanted)) {
                let found = format!("version 2 at {}: {}", place.display(), names.join(", "));
                return Check::ok(NAME, found);
            }
            let names = if names.is_empty() { "no controllers".into() } else { names.join(", ") };
            (format!("version 2 at {}: {names}", place.display()), names.contains("memory"))
        }
    };
    let oom = if has_memory || v1_memory {
        "; OOM kills are detected"
    } else {
        "; OOM kills look like any other SIGKILL"
    };
    Check::with(NAME, Level::Note, found + oom, remedy)
}

/// Whether a process listens on a socket.
fn reach(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// systemd's manager of this user, by its private socket.
fn service_manager(env: &Env, reach: &dyn Fn(&Path) -> bool) -> Check {
    const NAME: &str = "systemd of this user";
    let given = env.get(std::ffi::OsStr::new("XDG_RUNTIME_DIR")).filter(|dir| !dir.is_empty());
    let usual = || format!("/run/user/{}", nix::unistd::geteuid()).into();
    let socket = given.map_or_else(usual, PathBuf::from).join("systemd/private");
    if reach(&socket) {
        // The supervisor also warns when a request uses them: see its `Start`.
        let found = "answers; this version of procstar ignores systemd_properties of specs";
        Check::note(NAME, found)
    } else {
        Check::with(
            NAME,
            Level::Note,
            format!("does not answer at {}", socket.display()),
            "run `loginctl enable-linger USER` and set XDG_RUNTIME_DIR, if systemd shall manage this user's services; \
             this version of procstar ignores systemd_properties of specs",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:2 - cgroup2 cgroup2 rw
";

    #[test]
    fn control_groups_report_version_controllers_and_oom_detection() {
        let v2 = |text: &str| Some(Ok((PathBuf::from("/cg"), text.to_owned())));
        for (mounted, v2, level, found) in [
            ("", None, Level::Note, "not mounted; OOM kills look like"),
            (
                HYBRID,
                v2(""),
                Level::Note,
                "version 2 at /cg: no controllers; OOM kills are detected",
            ),
            (
                HYBRID,
                v2("cpu memory pids io\n"),
                Level::Ok,
                "version 2 at /cg: cpu, memory, pids, io",
            ),
            ("", v2("cpu pids"), Level::Note, "version 2 at /cg: cpu, pids; OOM kills look"),
        ] {
            let check = control_groups(&Layout::parse("", mounted).mounts, v2);
            assert_eq!(check.level, level, "{check:?}");
            assert!(check.found.starts_with(found), "{check:?}");
        }
    }

    #[test]
    fn controllers_are_read_from_the_own_group() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, group) = (dir.path().join("proc"), dir.path().join("cg/own"));
        for dir in [proc.join("self"), group.clone()] {
            std::fs::create_dir_all(dir).unwrap();
        }
        std::fs::write(group.join("cgroup.controllers"), "cpu memory pids").unwrap();
        std::fs::write(proc.join("self/cgroup"), "0::/own\n").unwrap();
        let mount = format!("1 2 0:3 / {} rw - cgroup2 none rw\n", dir.path().join("cg").display());
        std::fs::write(proc.join("self/mountinfo"), mount).unwrap();
        let checks = checks(&proc, &Env::default());
        assert_eq!(checks[0].level, Level::Ok, "{checks:?}");
    }

    #[test]
    fn service_manager_is_contacted_in_xdg_runtime_dir() {
        let env = Env::from_iter([("XDG_RUNTIME_DIR".into(), "/there".into())]);
        let there = |path: &Path| path == Path::new("/there/systemd/private");
        assert!(service_manager(&env, &there).found.starts_with("answers"));
        let check = service_manager(&Env::default(), &there);
        assert!(check.found.starts_with("does not answer at /run/user/"), "{check:?}");
    }
}
