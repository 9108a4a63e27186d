//! Whether an instance of this user is evidently starting, though it has no entry in the registry
//! yet.
//!
//! `procstar --serve & procstar ps` is two processes that start at once: the second one must not
//! say that there is no instance. So it looks for a process that is about to be one: this program,
//! started a moment ago and meant to serve; or a process of the same shell that has not become the
//! program that it was made for.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::definition::definition_of;
use crate::config::Env;
use crate::procfs::ProcFs;

/// How old an instance may be that has not entered itself. On a machine that is overloaded, that
/// takes its time.
const YOUNG: Duration = Duration::from_secs(10);
/// How long a shell's child takes at most to become another program.
const FORKED: Duration = Duration::from_secs(1);

/// Where an instance enters itself depends on these.
const REGISTRY: [&str; 2] = ["PROCSTAR_RUN_RUNTIME_DIR", "XDG_RUNTIME_DIR"];

/// Whether an instance of this user is about to enter itself; those with the pids of `known` have.
pub(super) fn is_one_starting(env: &Env, known: &[i32]) -> bool {
    let Some(own) = StartingProcess::read(std::process::id() as i32) else { return false };
    let parent = StartingProcess::read(own.ppid);
    let user = nix::unistd::geteuid().as_raw();
    let words: Vec<String> = definition_of::<&str>(&[])
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == user))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own.pid)
        .filter_map(StartingProcess::read)
        .filter(|process| ![process.pid, process.ppid].iter().any(|pid| known.contains(pid)))
        .filter(|process| process.is_starting(&own, parent.as_ref(), &words))
        .any(|process| enters_where_we_look(process.pid, env))
}

/// Whether a process has the environment that leads to our registry; or one that cannot be read.
fn enters_where_we_look(pid: i32, env: &Env) -> bool {
    let its = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    if its.is_empty() {
        // It is just becoming another program.
        return true;
    }
    REGISTRY.iter().all(|name| {
        let prefix = format!("{name}=");
        let its = its.split(|byte| *byte == 0).find_map(|var| var.strip_prefix(prefix.as_bytes()));
        its == env.get(std::ffi::OsStr::new(name)).map(|value| value.as_bytes())
    })
}

/// What tells a process that is about to be an instance.
#[derive(Clone, Debug)]
struct StartingProcess {
    pid: i32,
    ppid: i32,
    age: Duration,
    /// Device and inode of its program.
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

    /// Whether it is about to be an instance; `own` is the process that asks, with its parent, and
    /// `words` name the commands.
    fn is_starting(
        &self,
        own: &StartingProcess,
        parent: Option<&StartingProcess>,
        words: &[String],
    ) -> bool {
        if self.exe.is_some() && self.exe == own.exe {
            return self.age <= YOUNG && serves(&self.args, words);
        }
        let forked = self.ppid == own.ppid && self.age <= FORKED;
        let is_shells = parent.is_some_and(|parent| parent.exe.is_some() && parent.exe == self.exe);
        forked && (is_shells || self.runs(own))
    }

    /// Whether it is to run our program: `nohup procstar --serve`.
    fn runs(&self, own: &StartingProcess) -> bool {
        let file = |arg: &[u8]| {
            Path::new(std::ffi::OsStr::from_bytes(arg)).file_name().map(ToOwned::to_owned)
        };
        let Some(name) = own.args.first().and_then(|arg| file(arg)) else { return false };
        self.args.iter().skip(1).any(|arg| file(arg).as_ref() == Some(&name))
    }
}

/// Whether arguments of this program are no command's, so that it may serve.
fn serves(args: &[Vec<u8>], words: &[String]) -> bool {
    // These two commands are instances.
    let words = words.iter().filter(|word| !matches!(word.as_str(), "serve" | "agent"));
    let own = args.iter().skip(1).take_while(|arg| arg.as_slice() != b"--");
    !own.clone().any(|arg| words.clone().any(|word| word.as_bytes() == arg.as_slice()))
}

/// How long ago a process started, by its start in ticks after boot.
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
    fn who_is_about_to_be_an_instance() {
        let words = ["ps", "run", "serve", "agent"].map(str::to_owned);
        let shell = process(1, 0, 99.0, 2, &["bash"]);
        let own = process(3, 1, 0.1, 3, &["procstar", "ps"]);
        for (starting, why, age, exe, args) in [
            (true, "a service", 0.1, 3, &["procstar", "--serve"][..]),
            (true, "a service by its command", 0.1, 3, &["procstar", "serve"]),
            (true, "one that the configuration has serve", 5.0, 3, &["procstar", "--wait"]),
            (true, "by another path", 0.1, 3, &["./p", "--agent"]),
            (false, "an old one", 11.0, 3, &["procstar", "--serve"]),
            (false, "a command", 0.1, 3, &["procstar", "--config", "x", "ps"]),
            (false, "a foreground process", 0.1, 3, &["procstar", "run", "--", "--serve"]),
            (true, "the shell's child, before it is a program", 0.2, 2, &["bash"]),
            (false, "a subshell", 1.5, 2, &["bash"]),
            (true, "a wrapper", 0.2, 4, &["nohup", "/usr/bin/procstar", "--serve"]),
            (false, "another program", 0.2, 4, &["sleep", "9"]),
        ] {
            let process = process(5, 1, age, exe, args);
            assert_eq!(process.is_starting(&own, Some(&shell), &words), starting, "{why}");
        }
        let elsewhere = process(5, 7, 0.2, 2, &["bash"]);
        assert!(!elsewhere.is_starting(&own, Some(&shell), &words), "another shell's child");
    }

    #[test]
    fn this_process_is_young() {
        let own = StartingProcess::read(std::process::id() as i32).unwrap();
        assert!(own.age < Duration::from_secs(600) && own.exe.is_some());
    }
}
