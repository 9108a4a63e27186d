//! Checks limits: descriptors, processes, pipes, watches.

use std::io;
use std::path::Path;
use std::str::FromStr;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::resource::{Resource, getrlimit};

use super::check::{Check, Level};
use crate::procfs::ProcFs;

/// A limit of at least this many processes is sufficient.
const MANY: u64 = 4096;
/// The size to which the engine enlarges a full pipe, if permitted.
const LARGE_PIPE: u64 = 1 << 20;

/// All checks of limits. `proc` is the mount point of the proc file system.
pub(super) fn checks(proc: &Path) -> Vec<Check> {
    let limit = |resource| getrlimit(resource).map_or(0, |(_, hard)| hard);
    vec![
        open_files(limit(Resource::RLIMIT_NOFILE)),
        processes(proc, limit(Resource::RLIMIT_NPROC)),
        children(proc, std::process::id() as i32),
        pipe_size(proc),
        pipe_pages(proc),
        inotify(proc, watch()),
    ]
}

/// Reads a number from a file below `sys` of the proc file system.
fn number<T: FromStr>(proc: &Path, name: &str) -> io::Result<T> {
    let text = std::fs::read_to_string(proc.join("sys").join(name))?;
    text.trim().parse().map_err(|_| io::Error::other(format!("invalid number {:?}", text.trim())))
}

/// Checks the hard limit of descriptors. The program raises the soft limit to it.
fn open_files(hard: u64) -> Check {
    const NAME: &str = "open files";
    let found = format!("{hard}, for about {} processes with two piped captures", hard / 5);
    if hard >= MANY * 5 {
        Check::ok(NAME, format!("{hard}"))
    } else {
        let level = if hard < 1024 { Level::Warn } else { Level::Note };
        let remedy = "to run more at a time, raise the hard limit: LimitNOFILE= in a systemd unit, \
                      or `nofile` in limits.conf; until then, further processes wait for free descriptors";
        Check::with(NAME, level, found, remedy)
    }
}

fn processes(proc: &Path, hard: u64) -> Check {
    const NAME: &str = "processes";
    let known = ["kernel/pid_max", "kernel/threads-max"].map(|name| number::<u64>(proc, name));
    let limits = known.iter().filter_map(|known| known.as_ref().ok()).copied().chain([hard]);
    match limits.min() {
        Some(most) if most < MANY => Check::with(
            NAME,
            Level::Note,
            format!("{most} at a time, all processes of the host or user included"),
            "raise the lowest of kernel.pid_max, kernel.threads-max and `nproc` (LimitNPROC=)",
        ),
        Some(most) => Check::ok(NAME, format!("{most} at a time")),
        None => Check::note(NAME, "the kernel reports no limit"),
    }
}

/// Checks the list of a thread's children. The engine needs it to find orphans and to stop trees.
fn children(proc: &Path, pid: i32) -> Check {
    const NAME: &str = "children of a process";
    let file = proc.join(format!("{pid}/task/{pid}/children"));
    match (ProcFs::new(proc).read_stat(pid), std::fs::read(&file)) {
        (Err(error), _) => Check::with(
            NAME,
            Level::Warn,
            error.to_string(),
            "mount the proc file system at /proc: results and stops need it",
        ),
        (Ok(_), Err(error)) => Check::with(
            NAME,
            Level::Warn,
            format!("{}: {error}", file.display()),
            "use a kernel with CONFIG_PROC_CHILDREN; until then, a stop reaches only the process group, \
             and results list no survivors",
        ),
        (Ok(_), Ok(_)) => Check::ok(NAME, "listed"),
    }
}

fn pipe_size(proc: &Path) -> Check {
    const NAME: &str = "size of a pipe";
    match number::<u64>(proc, "fs/pipe-max-size") {
        Ok(most) if most >= LARGE_PIPE => Check::ok(NAME, format!("up to {most} bytes")),
        Ok(most) => Check::with(
            NAME,
            Level::Note,
            format!("up to {most} bytes"),
            format!(
                "run `sysctl -w fs.pipe-max-size={LARGE_PIPE}`, for faster output through pipes"
            ),
        ),
        Err(error) => Check::note(NAME, format!("fs/pipe-max-size: {error}")),
    }
}

/// Checks how many pages a user's pipes may have. Beyond that, every new pipe has a single page.
fn pipe_pages(proc: &Path) -> Check {
    const NAME: &str = "memory of pipes";
    match number::<u64>(proc, "fs/pipe-user-pages-soft") {
        Ok(0) => Check::ok(NAME, "unlimited"),
        Ok(pages) if pages < MANY => Check::with(
            NAME,
            Level::Note,
            format!("{pages} pages, for {} pipes of this user", pages / 16),
            "run `sysctl -w fs.pipe-user-pages-soft=16384`: further pipes have a single page and are slow",
        ),
        Ok(pages) => Check::ok(NAME, format!("{pages} pages, for {} pipes of a user", pages / 16)),
        Err(error) => Check::note(NAME, format!("fs/pipe-user-pages-soft: {error}")),
    }
}

/// Tries to watch a file.
fn watch() -> io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    inotify.add_watch("/", AddWatchFlags::IN_MODIFY)?;
    Ok(())
}

/// Checks whether files can be watched. The program watches captures that a client follows or a
/// survivor holds open.
fn inotify(proc: &Path, watched: io::Result<()>) -> Check {
    const NAME: &str = "watched files";
    let limit = |name: &str| number::<u64>(proc, &format!("fs/inotify/{name}"));
    let limits = (limit("max_user_instances"), limit("max_user_watches"));
    let remedy = "run `sysctl -w fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=65536`; \
                  without watches, the end of a capture that a survivor holds open is noticed late";
    match (watched, limits) {
        (Err(error), _) => Check::with(NAME, Level::Warn, error.to_string(), remedy),
        (Ok(()), (Ok(instances), Ok(watches))) => {
            let found = format!("{watches}, by {instances} instances of this user");
            if instances < 16 || watches < MANY {
                Check::with(NAME, Level::Note, found, remedy)
            } else {
                Check::ok(NAME, found)
            }
        }
        (Ok(()), _) => Check::ok(NAME, "works"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proc file system with these files.
    fn proc(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn few_open_files_are_a_note_or_a_warning() {
        for (hard, level) in [
            (256, Level::Warn),
            (1024, Level::Note),
            (20_000, Level::Note),
            (1 << 20, Level::Ok),
            (u64::MAX, Level::Ok),
        ] {
            assert_eq!(open_files(hard).level, level, "{hard}");
        }
    }

    #[test]
    fn processes_are_limited_by_the_lowest_limit() {
        let files = [("sys/kernel/pid_max", "32768\n"), ("sys/kernel/threads-max", "96268\n")];
        let proc = proc(&files);
        let check = processes(proc.path(), u64::MAX);
        assert_eq!((check.level, check.found.as_str()), (Level::Ok, "32768 at a time"));
        assert_eq!(processes(proc.path(), 100).level, Level::Note);
        assert_eq!(processes(self::proc(&[]).path(), 5000).level, Level::Ok);
    }

    #[test]
    fn missing_children_files_are_a_warning() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let with = proc(&[("7/stat", &stat), ("7/task/7/children", "")]);
        assert_eq!(children(with.path(), 7).level, Level::Ok);
        let without = proc(&[("7/stat", &stat)]);
        let check = children(without.path(), 7);
        assert_eq!(check.level, Level::Warn);
        assert!(check.remedy.unwrap().contains("CONFIG_PROC_CHILDREN"));
        assert_eq!(children(proc(&[]).path(), 7).level, Level::Warn);
    }

    #[test]
    fn low_limits_of_pipes_are_notes() {
        let proc_of = |size: &str, pages: &str| {
            proc(&[("sys/fs/pipe-max-size", size), ("sys/fs/pipe-user-pages-soft", pages)])
        };
        for (size, pages, levels) in [
            ("1048576\n", "16384\n", [Level::Ok, Level::Ok]),
            ("4194304", "0", [Level::Ok, Level::Ok]),
            ("65536\n", "64\n", [Level::Note, Level::Note]),
            ("many\n", "", [Level::Note, Level::Note]),
        ] {
            let proc = proc_of(size, pages);
            let found = [pipe_size(proc.path()).level, pipe_pages(proc.path()).level];
            assert_eq!(found, levels, "{size:?} {pages:?}");
        }
    }

    #[test]
    fn watches_are_tried_and_their_limits_read() {
        let files = |instances| {
            proc(&[
                ("sys/fs/inotify/max_user_instances", instances),
                ("sys/fs/inotify/max_user_watches", "192536"),
            ])
        };
        let full = || Err(io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(inotify(files("128").path(), Ok(())).level, Level::Ok);
        assert_eq!(inotify(files("8").path(), Ok(())).level, Level::Note);
        let check = inotify(files("128").path(), full());
        assert_eq!(check.level, Level::Warn);
        assert!(check.found.contains("Too many open files"), "{check:?}");
    }
}
