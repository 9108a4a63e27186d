//! Checks whether the proc file system is mounted and has the files that the program reads.

use std::path::Path;

use super::check::{Check, Level};
use crate::procfs::is_ours_at;

/// The restrictions without a proc file system.
const WITHOUT: &str = "processes run, but results have no proc_stat, usage, io and peak, a stop does not reach descendants that have left the \
                       process group, and processes that outlive procstar are reported as lost";

/// All checks of the proc file system at `proc`.
pub(super) fn checks(proc: &Path) -> Vec<Check> {
    vec![own(proc)]
}

fn own(proc: &Path) -> Check {
    const NAME: &str = "proc file system";
    let lacking = |found: String, remedy: &str| {
        Check::with(NAME, Level::Warn, found, format!("{remedy}; until then {WITHOUT}"))
    };
    match std::fs::read_link(proc.join("self")) {
        Ok(_) if is_ours_at(proc) && proc.join("stat").exists() => Check::ok(NAME, "works"),
        Ok(_) if is_ours_at(proc) => {
            Check::note(NAME, "works; it contains only processes (subset=pid), which is sufficient")
        }
        Ok(_) => lacking(
            "belongs to another pid namespace, and is not used".to_owned(),
            "mount that of this namespace (`mount -t proc proc /proc`, or `unshare --mount-proc`)",
        ),
        Err(error) => lacking(
            format!("cannot read {}: {error}", proc.display()),
            "mount it (`mount -t proc proc /proc`)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_of_another_pid_namespace_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let check = || own(dir.path());
        assert_eq!(check().level, Level::Warn, "{:?}", check());
        let link = dir.path().join("self");
        std::os::unix::fs::symlink((std::process::id() + 1).to_string(), &link).unwrap();
        assert!(check().found.contains("another pid namespace"), "{:?}", check());
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(std::process::id().to_string(), &link).unwrap();
        assert!(check().found.contains("subset=pid"), "{:?}", check());
        std::fs::write(dir.path().join("stat"), "").unwrap();
        assert_eq!(check(), Check::ok("proc file system", "works"));
    }
}
