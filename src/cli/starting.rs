//! The search for instances of this user that are starting and have no entry in the registry yet.
//!
//! `procstar --serve & procstar ps` starts two processes at once, and the second one must not
//! report that no instance runs. So it searches `/proc` for a process that will become an instance:
//! a young process of this program whose arguments may make it serve, or a child of the same shell
//! that has not called exec yet.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::definition::NAMES;
use crate::config::Env;
use crate::procfs::ProcFs;

/// Maximum age of an instance that is not in the registry yet. Registration is slow on an
/// overloaded machine.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time between the fork of a shell's child and its exec.
const EXEC_TIMEOUT: Duration = Duration::from_secs(1);

/// The environment variables that select the directory of the registry.
const REGISTRY_VARIABLES: [&str; 2] = ["PROCSTAR_RUN_RUNTIME_DIR", "XDG_RUNTIME_DIR"];

/// Whether an instance of this user is about to register itself. The pids in `known` are registered
/// already.
pub(super) fn is_one_unregistered(env: &Env, known: &[i32]) -> bool {
    let Some(own) = StartingProcess::read(std::process::id() as i32) else { return false };
    let parent = StartingProcess::read(own.ppid);
    let user = nix::unistd::geteuid().as_raw();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == user))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own.pid)
        .filter_map(StartingProcess::read)
        .filter(|process| ![process.pid, process.ppid].iter().any(|pid| known.contains(pid)))
        .filter(|process| process.is_starting(&own, parent.as_ref()))
        .any(|process| shares_our_registry(process.pid, env))
}

/// Whether the process's environment selects our registry; true if its environment is unreadable.
fn shares_our_registry(pid: i32, env: &Env) -> bool {
    let its = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    if its.is_empty() {
        // It is in the middle of an exec.
        return true;
    }
    REGISTRY_VARIABLES.iter().all(|name| {
        let prefix = format!("{name}=");
        let its = its.split(|byte| *byte == 0).find_map(|var| var.strip_prefix(prefix.as_bytes()));
        its == env.get(std::ffi::OsStr::new(name)).map(|value| value.as_bytes())
    })
}

/// The properties of a process by which an instance that is starting is recognized.
#[derive(Clone, Debug)]
struct StartingProcess {
    pid: i32,
    ppid: i32,
    age: Duration,
    /// Device and inode of its executable; `None` if unreadable.
    exe: Option<(u64, u64)>,
    args: Vec<Vec<u8>>,
}

impl StartingProcess {
    fn read(pid: i32) -> Option<StartingProcess> {
        let stat = ProcFs::default().read_stat(pid).ok()?;
        let exe = std::fs::metadata(format!("/proc/{pid}/exe")).ok();
        let args = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(StartingProcess {
            pid,
            ppid: stat.ppid,
            age: age(stat.starttime)?,
            exe: exe.map(|meta| (meta.dev(), meta.ino())),
            args: args.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect(),
        })
    }

    /// Whether it will become an instance. `own` is the process that searches, `parent` its parent.
    fn is_starting(&self, own: &StartingProcess, parent: Option<&StartingProcess>) -> bool {
        if self.exe.is_some() && self.exe == own.exe {
            return self.age <= REGISTRATION_TIMEOUT && may_serve(&self.args);
        }
        let forked = self.ppid == own.ppid && self.age <= EXEC_TIMEOUT;
        let is_shell = parent.is_some_and(|parent| parent.exe.is_some() && parent.exe == self.exe);
        forked && (is_shell || self.wraps(own))
    }

    /// Whether its arguments name our program, as in `nohup procstar --serve`.
    fn wraps(&self, own: &StartingProcess) -> bool {
        let file = |arg: &[u8]| {
            Path::new(std::ffi::OsStr::from_bytes(arg)).file_name().map(ToOwned::to_owned)
        };
        let Some(name) = own.args.first().and_then(|arg| file(arg)) else { return false };
        self.args.iter().skip(1).any(|arg| file(arg).as_ref() == Some(&name))
    }
}

/// Whether arguments of this program contain no client command, so that it may serve.
fn may_serve(args: &[Vec<u8>]) -> bool {
    // These two commands start an instance.
    let is_client = |arg: &&Vec<u8>| {
        !matches!(arg.as_slice(), b"serve" | b"agent")
            && NAMES.iter().any(|name| name.as_bytes() == arg.as_slice())
    };
    args.iter().skip(1).take_while(|arg| arg.as_slice() != b"--").all(|arg| !is_client(&arg))
}

/// The age of a process that started `start` ticks after boot.
fn age(start: u64) -> Option<Duration> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?;
    let start = start as f64 / ::procfs::ticks_per_second().max(1) as f64;
    let since_boot = Duration::from(now).as_secs_f64();
    Duration::try_from_secs_f64((since_boot - start).max(0.0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, ppid: i32, age: f64, exe: u64, args: &[&str]) -> StartingProcess {
        let args = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        StartingProcess { pid, ppid, age: Duration::from_secs_f64(age), exe: Some((1, exe)), args }
    }

    #[test]
    fn starting_instances_are_recognized_by_program_age_and_arguments() {
        let shell = process(1, 0, 99.0, 2, &["bash"]);
        let own = process(3, 1, 0.1, 3, &["procstar", "ps"]);
        for (starting, why, age, exe, args) in [
            (true, "a service", 0.1, 3, &["procstar", "--serve"][..]),
            (true, "a service by its command", 0.1, 3, &["procstar", "serve"]),
            (true, "a service enabled by the configuration", 5.0, 3, &["procstar", "--wait"]),
            (true, "an agent run by another path", 0.1, 3, &["./p", "--agent"]),
            (false, "an old process", 11.0, 3, &["procstar", "--serve"]),
            (false, "a command", 0.1, 3, &["procstar", "--config", "x", "ps"]),
            (false, "a command by its alias", 0.1, 3, &["procstar", "ls"]),
            (false, "a foreground process", 0.1, 3, &["procstar", "run", "--", "--serve"]),
            (true, "the shell's child before its exec", 0.2, 2, &["bash"]),
            (false, "a subshell", 1.5, 2, &["bash"]),
            (true, "a wrapper", 0.2, 4, &["nohup", "/usr/bin/procstar", "--serve"]),
            (false, "another program", 0.2, 4, &["sleep", "9"]),
        ] {
            let process = process(5, 1, age, exe, args);
            assert_eq!(process.is_starting(&own, Some(&shell)), starting, "{why}");
        }
        let elsewhere = process(5, 7, 0.2, 2, &["bash"]);
        assert!(!elsewhere.is_starting(&own, Some(&shell)), "another shell's child");
    }

    #[test]
    fn this_process_has_an_age_and_an_executable() {
        let own = StartingProcess::read(std::process::id() as i32).unwrap();
        assert!(own.age < Duration::from_secs(600) && own.exe.is_some());
    }
}
