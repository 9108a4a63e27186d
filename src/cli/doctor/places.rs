//! Checks this user and the settings: configuration, directories, privileges, certificates.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::check::{Check, Level};
use crate::config::{Env, FileState, Loaded, Settings};
use crate::engine::CaptureDirs;
use crate::engine::sys::{self, Writers};
use crate::keeper::instance::Instance;
use crate::keeper::{format, registry};
use crate::net::tls;

/// Free space below which a warning is printed.
const LITTLE_ROOM: u64 = 64 << 20;

/// Checks the configuration. Returns its settings, or the defaults if it is invalid.
pub(super) fn configuration(loaded: Result<Loaded, String>) -> (Check, Settings) {
    const NAME: &str = "configuration";
    match loaded {
        Err(error) => {
            let remedy = "correct the file; `procstar config show` reports the same error";
            (Check::with(NAME, Level::Fail, error, remedy), Settings::default())
        }
        Ok(Loaded { settings, files, .. }) => {
            let in_state = |wanted| files.iter().filter(move |(_, state)| *state == wanted);
            let names = |wanted| {
                let names: Vec<_> =
                    in_state(wanted).map(|(p, _)| p.display().to_string()).collect();
                names.join(", ")
            };
            let read = names(FileState::Read);
            let check = match (read.is_empty(), in_state(FileState::Denied).count()) {
                (_, 1..) => Check::with(
                    NAME,
                    Level::Warn,
                    format!("this user has no permission to read {}", names(FileState::Denied)),
                    "grant this user read permission, or set HOME or XDG_CONFIG_HOME",
                ),
                (true, 0) => Check::ok(NAME, "no files; defaults, environment and options apply"),
                (false, 0) => Check::ok(NAME, format!("read {read}")),
            };
            (check, settings)
        }
    }
}

/// All checks of directories, privileges and certificates.
pub(super) fn checks(settings: &Settings, env: &Env) -> Vec<Check> {
    let mut checks = instance(settings, env);
    if let Some(dir) = &settings.run.state_dir {
        checks.push(state_dir(dir, nix::unistd::geteuid().as_raw()));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    checks.push(privileges(&status));
    if settings.agent.enabled || settings.agent.cert.is_some() || settings.agent.ca.is_some() {
        checks.push(certificate(settings));
    }
    checks
}

/// Creates an instance's directories as every start does, uses them, and removes them.
fn instance(settings: &Settings, env: &Env) -> Vec<Check> {
    const NAME: &str = "capture directory";
    let base = settings.capture.directory(env);
    let wanted = format::KeeperSettings {
        state_dir: None,
        base_dir: base.clone(),
        conn_id: None,
        drain_timeout: settings.capture.drain_timeout,
        setup_timeout: std::time::Duration::ZERO,
        allowed: Default::default(),
        log: settings.log.clone(),
        limits: format::ProcessLimits::default(),
    };
    let remedy =
        "set capture.dir or TMPDIR to a directory in which this user can create directories";
    let opening = format::Opening {
        registries: registry::candidates_of(settings, env),
        captures_chosen: settings.capture.dir.is_some(),
        serves: false,
    };
    let instance = match Instance::open(&wanted, &opening) {
        Ok(instance) => instance,
        Err(error) => return vec![Check::with(NAME, Level::Fail, error.to_string(), remedy)],
    };
    let CaptureDirs { files: dir, memory: in_memory } = instance.capture_dirs();
    let base = std::path::absolute(&base).unwrap_or(base);
    let mut checks = vec![if dir.starts_with(&base) {
        room(NAME, &base)
    } else {
        let found =
            format!("cannot create one in {}; {} is used instead", base.display(), dir.display());
        Check::with(NAME, Level::Warn, found, remedy)
    }];
    checks.push(runtime(&instance.dir(), opening.registries.first()));
    checks.push(leases(writers_are_seen(&dir)));
    checks.push(memory(&in_memory, &dir));
    instance.close();
    checks
}

/// Checks the directory in which commands find instances.
fn runtime(home: &Path, best: Option<&PathBuf>) -> Check {
    const NAME: &str = "runtime directory";
    let place = home.parent().unwrap_or(home);
    let found = place.display().to_string();
    let lasts = best.is_some_and(|best| place == best) || place.starts_with("/run");
    if lasts {
        return Check::ok(NAME, found);
    }
    let remedy = "set XDG_RUNTIME_DIR, or set run.runtime_dir to a directory of this user from which no program removes old files";
    Check::with(NAME, Level::Note, format!("{found}; old files in it may be removed"), remedy)
}

fn room(name: &'static str, dir: &Path) -> Check {
    match nix::sys::statvfs::statvfs(dir) {
        Ok(stat) => {
            let room = stat.blocks_available() * stat.fragment_size();
            let found = format!("{}, with {} MiB free", dir.display(), room >> 20);
            if room < LITTLE_ROOM {
                let remedy = "free disk space, or set capture.dir to another file system: output that does not fit is lost";
                Check::with(name, Level::Warn, found, remedy)
            } else {
                Check::ok(name, found)
            }
        }
        Err(errno) => Check::note(name, format!("{}: {errno}", dir.display())),
    }
}

/// Whether the kernel reports that a file is open for writing. The file has a writer first, and
/// then none.
fn writers_are_seen(dir: &Path) -> io::Result<bool> {
    let path = dir.join("doctor");
    let writer = File::create_new(&path)?;
    let reader = File::open(&path)?;
    let with = sys::writers(&reader);
    drop(writer);
    let without = sys::writers(&reader);
    std::fs::remove_file(&path)?;
    Ok((with, without) == (Writers::Some, Writers::None))
}

fn leases(seen: io::Result<bool>) -> Check {
    const NAME: &str = "file leases";
    let remedy = "set capture.dir to a directory on a local file system; on this one, procstar cannot detect that a survivor \
                  still writes to a capture, and ends the capture with the process";
    match seen {
        Ok(true) => Check::ok(NAME, "granted"),
        Ok(false) => Check::with(NAME, Level::Warn, "not granted", remedy),
        Err(error) => Check::with(NAME, Level::Warn, error.to_string(), remedy),
    }
}

fn memory(place: &Path, files: &Path) -> Check {
    const NAME: &str = "captures in memory";
    if place == files {
        Check::with(
            NAME,
            Level::Warn,
            "/dev/shm is not a tmpfs in which this user can create files",
            "mount a tmpfs at /dev/shm with mode 1777; until then, `memory` captures are files on disk",
        )
    } else {
        // The directory itself is removed right after this check.
        Check::ok(NAME, "/dev/shm")
    }
}

/// Checks a state directory without changing it, because a running instance may be using it.
pub(super) fn state_dir(dir: &Path, uid: u32) -> Check {
    const NAME: &str = "state directory";
    let at = dir.display();
    let remedy = format!("give it to this user: `install -d -m 0700 -o {uid} {at}`");
    match dir.symlink_metadata() {
        Ok(meta) if meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0 => {
            match access(dir, AccessFlags::W_OK | AccessFlags::X_OK) {
                Ok(()) => Check::ok(NAME, format!("{at}; only this user has access")),
                Err(errno) => Check::with(NAME, Level::Fail, format!("{at}: {errno}"), remedy),
            }
        }
        Ok(_) => {
            let found = format!("{at} is not a directory of user {uid} with mode 0700");
            Check::with(NAME, Level::Fail, found, remedy)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            match access(parent, AccessFlags::W_OK | AccessFlags::X_OK) {
                Ok(()) => Check::ok(NAME, format!("{at} does not exist, and can be created")),
                Err(errno) => {
                    let found = format!(
                        "{at} does not exist, and cannot be created in {}: {errno}",
                        parent.display()
                    );
                    Check::with(NAME, Level::Fail, found, remedy)
                }
            }
        }
        Err(error) => Check::with(NAME, Level::Fail, format!("{at}: {error}"), remedy),
    }
}

/// Keys and features of specs that need a capability, with the capability's number.
const POWERS: [(u32, &str); 5] = [
    (7, "user"),
    (6, "group, groups"),
    (23, "a lower nice value"),
    (24, "rlimits above the hard limit"),
    (5, "signals to other users' processes"),
];

/// CAP_SETUID and CAP_SETGID.
const SWITCHING: u64 = 1 << 7 | 1 << 6;

/// Checks the privileges of this user. `status` is the text of `/proc/self/status`.
fn privileges(status: &str) -> Check {
    const NAME: &str = "privileges";
    let line = |name| status.lines().find_map(|line| line.strip_prefix(name));
    let set = line("CapEff:").and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    let Some(set) = set else {
        return Check::note(NAME, "/proc/self/status has no capabilities");
    };
    // The real user, and then the effective one.
    let uid = line("Uid:").and_then(|uids| uids.split_whitespace().nth(1)?.parse::<u32>().ok());
    let root = uid.is_none_or(|uid| uid == 0);
    if !root && set & SWITCHING != 0 {
        return Check::with(
            NAME,
            Level::Warn,
            "this user is not root but can switch users: any process of this user can start another one as root through this procstar",
            "run procstar as root and set `user` in each spec; or run it without capabilities \
             (no AmbientCapabilities= in a systemd unit, no file capabilities)",
        );
    }
    let lacks: Vec<_> =
        POWERS.iter().filter(|(bit, _)| set & (1 << bit) == 0).map(|(_, power)| *power).collect();
    if lacks.is_empty() {
        return Check::ok(NAME, "every key of a spec is permitted, also to switch users");
    }
    Check::with(
        NAME,
        Level::Note,
        format!("not permitted in specs: {}", lacks.join("; ")),
        "to permit them, run procstar as root and set `user` in each spec, so that the process has no privileges. \
         Do not give capabilities to another user than root (AmbientCapabilities= in a systemd unit): they let every process of \
         that user become root",
    )
}

fn certificate(settings: &Settings) -> Check {
    const NAME: &str = "certificate of the scheduler";
    let trust = tls::Trust { cert: settings.agent.cert.clone(), ca: settings.agent.ca.clone() };
    if let Err(error) = tls::client_config(&trust) {
        let remedy = match trust.setting_of(&error) {
            "agent.ca" => {
                "set agent.ca (PROCSTAR_AGENT_CA) to a PEM file with the only roots to trust, or with the scheduler's certificate"
            }
            _ => {
                "set agent.cert (PROCSTAR_AGENT_CERT) to a PEM file with the scheduler's certificate or its root"
            }
        };
        return Check::with(NAME, Level::Fail, error.to_string(), remedy);
    }
    let shown = |path: &std::path::Path| path.display().to_string();
    match (trust.cert.as_deref(), trust.ca.as_deref()) {
        (Some(cert), Some(ca)) => {
            Check::ok(NAME, format!("verified only with {} and {}", shown(ca), shown(cert)))
        }
        (None, Some(ca)) => Check::ok(NAME, format!("verified only with {}", shown(ca))),
        (Some(cert), None) => {
            Check::ok(NAME, format!("verified with {} and the system's roots", shown(cert)))
        }
        (None, None) => Check::ok(NAME, "verified with the system's roots"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn loaded(files: &[(&str, FileState)]) -> Loaded {
        let files = files.iter().map(|(path, state)| (PathBuf::from(path), *state)).collect();
        Loaded { settings: Settings::default(), origins: BTreeMap::new(), files }
    }

    #[test]
    fn configuration_reports_errors_and_the_files_read() {
        let (check, _) = configuration(Err("/etc/p.toml:3: unknown key".into()));
        assert_eq!(
            (check.level, check.found.as_str()),
            (Level::Fail, "/etc/p.toml:3: unknown key")
        );
        for (files, level, found) in [
            (&[("/a", FileState::Absent)][..], Level::Ok, "no files"),
            (&[("/a", FileState::Absent), ("/b", FileState::Read)], Level::Ok, "read /b"),
            (&[("/b", FileState::Denied)], Level::Warn, "this user has no permission to read /b"),
        ] {
            let (check, _) = configuration(Ok(loaded(files)));
            assert_eq!(check.level, level, "{check:?}");
            assert!(check.found.starts_with(found), "{check:?}");
        }
    }

    #[test]
    fn instance_directories_are_tried_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let run = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.run.runtime_dir = Some(run.path().to_path_buf());
        settings.capture.dir = Some(dir.path().to_path_buf());
        let checks = instance(&settings, &Env::default());
        assert_eq!(checks[0].level, Level::Ok, "{checks:?}");
        assert!(checks[0].found.starts_with(&dir.path().display().to_string()));
        assert_eq!((checks.len(), checks[1].level), (4, Level::Ok));
        assert_eq!(checks[1].found, run.path().display().to_string());
        for dir in [&dir, &run] {
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
        }
        let missing = dir.path().join("no/such");
        settings.capture.dir = Some(missing.clone());
        let checks = instance(&settings, &Env::default());
        assert_eq!(
            (checks.len(), checks[0].level),
            (1, Level::Fail),
            "no start would succeed: {checks:?}"
        );
        assert!(checks[0].found.starts_with("capture.dir "), "{checks:?}");
        settings.capture.dir = None;
        let env = Env::from([("TMPDIR".into(), missing.into())]);
        let checks = instance(&settings, &env);
        assert_eq!(checks[0].level, Level::Warn, "{checks:?}");
        assert!(checks[0].found.contains("no/such; /"), "{checks:?}");
        assert!(checks[0].found.ends_with(" is used instead"), "{checks:?}");
    }

    #[test]
    fn state_dir_checks_owner_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let mode = |mode| {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o700);
        assert_eq!(state_dir(dir.path(), uid).level, Level::Ok);
        assert_eq!(state_dir(&dir.path().join("new"), uid).level, Level::Ok);
        assert_eq!(state_dir(dir.path(), uid + 1).level, Level::Fail);
        assert_eq!(state_dir(&dir.path().join("no/such"), uid).level, Level::Fail);
        mode(0o750);
        let check = state_dir(dir.path(), uid);
        assert_eq!(check.level, Level::Fail);
        assert!(check.remedy.unwrap().contains("install -d -m 0700"));
    }

    #[test]
    fn privileges_follow_from_capabilities() {
        for (set, level, found) in [
            (
                "CapPrm:\t00\nCapEff:\t000001ffffffffff\n",
                Level::Ok,
                "every key of a spec is permitted",
            ),
            (
                "CapEff:\t0000000000000000\n",
                Level::Note,
                "not permitted in specs: user; group, groups;",
            ),
            (
                "Uid:\t0\t0\t0\t0\nCapEff:\t00000000000000c0\n",
                Level::Note,
                "not permitted in specs: a lower nice value;",
            ),
            (
                "Uid:\t0\t1000\t0\t0\nCapEff:\t00000000000000c0\n",
                Level::Warn,
                "this user is not root but can switch users",
            ),
            (
                "Uid:\t1000\t1000\t0\t0\nCapEff:\t0000000000800000\n",
                Level::Note,
                "not permitted in specs: user; group, groups; rlimits above the hard limit;",
            ),
            ("Name:\tx\n", Level::Note, "/proc/self/status has no capabilities"),
        ] {
            let check = privileges(set);
            assert_eq!(check.level, level, "{set:?}");
            assert!(check.found.starts_with(found), "{check:?}");
            // A remedy must not suggest to give capabilities to a user.
            let remedy = check.remedy.unwrap_or_default();
            assert!(!remedy.contains("with CAP_"), "{remedy}");
        }
    }

    #[test]
    fn leases_are_tried() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(leases(writers_are_seen(dir.path())).level, Level::Ok);
        assert_eq!(leases(Ok(false)).level, Level::Warn);
        assert_eq!(leases(writers_are_seen(&dir.path().join("no"))).level, Level::Warn);
    }
}
