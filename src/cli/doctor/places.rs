//! Checks of this user and these settings: configuration, directories, privileges, certificates.

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

/// Whether the configuration is valid; and the settings, or the defaults if it is not.
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
                    format!("this user may not read {}", names(FileState::Denied)),
                    "let it be read by this user, or set HOME or XDG_CONFIG_HOME",
                ),
                (true, 0) => Check::ok(NAME, "no files; defaults, environment and options"),
                (false, 0) => Check::ok(NAME, format!("read {read}")),
            };
            (check, settings)
        }
    }
}

/// All checks of places and privileges.
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

/// Creates a directory as every start does, uses it, and removes it.
fn instance(settings: &Settings, env: &Env) -> Vec<Check> {
    const NAME: &str = "directory of captures";
    let base = settings.capture.directory(env);
    let wanted = format::KeeperSettings {
        state_dir: None,
        base_dir: base.clone(),
        conn_id: None,
        drain_grace: settings.capture.drain_timeout,
        setup_patience: std::time::Duration::ZERO,
        restrict_exe: Default::default(),
        log: settings.log.clone(),
        limits: format::ProcessLimits::default(),
    };
    let remedy = "set capture.dir or TMPDIR to a directory in which this user may make others";
    let opening = format::Opening {
        places: registry::places_of(settings, env),
        captures_chosen: settings.capture.dir.is_some(),
        serves: false,
    };
    let instance = match Instance::open(&wanted, &opening) {
        Ok(instance) => instance,
        Err(error) => return vec![Check::with(NAME, Level::Fail, error.to_string(), remedy)],
    };
    let CaptureDirs { files: dir, memory: in_memory } = instance.places();
    let base = std::path::absolute(&base).unwrap_or(base);
    let mut checks = vec![if dir.starts_with(&base) {
        room(NAME, &base)
    } else {
        let found = format!("cannot make one in {}, uses {}", base.display(), dir.display());
        Check::with(NAME, Level::Warn, found, remedy)
    }];
    checks.push(runtime(&instance.dir(), opening.places.first()));
    checks.push(leases(writers_are_seen(&dir)));
    checks.push(memory(&in_memory, &dir));
    instance.close();
    checks
}

/// The directory in which commands find instances.
fn runtime(home: &Path, best: Option<&PathBuf>) -> Check {
    const NAME: &str = "runtime directory";
    let place = home.parent().unwrap_or(home);
    let found = place.display().to_string();
    let lasts = best.is_some_and(|best| place == best) || place.starts_with("/run");
    if lasts {
        return Check::ok(NAME, found);
    }
    let remedy = "set XDG_RUNTIME_DIR, or run.runtime_dir to a directory of this user that is not cleaned by age";
    Check::with(NAME, Level::Note, format!("{found}; no lasting directory is available"), remedy)
}

fn room(name: &'static str, dir: &Path) -> Check {
    match nix::sys::statvfs::statvfs(dir) {
        Ok(stat) => {
            let room = stat.blocks_available() * stat.fragment_size();
            let found = format!("{}, with {} MiB free", dir.display(), room >> 20);
            if room < LITTLE_ROOM {
                let remedy = "make room, or set capture.dir to another place: output that finds none is lost";
                Check::with(name, Level::Warn, found, remedy)
            } else {
                Check::ok(name, found)
            }
        }
        Err(errno) => Check::note(name, format!("{}: {errno}", dir.display())),
    }
}

/// Whether the kernel reports that a file is open for writing: first it has a writer, then none.
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
    let remedy = "set capture.dir to a local file system: on this one nobody sees whether a survivor still \
                  holds a captured file, and it counts as complete when the process has ended";
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
            "/dev/shm is no file system in memory that this user may use",
            "mount a tmpfs at /dev/shm with mode 1777: until then `memory` captures are files on disk",
        )
    } else {
        // The directory itself is gone in a moment.
        Check::ok(NAME, "/dev/shm")
    }
}

/// A state directory, which a running instance may be using.
pub(super) fn state_dir(dir: &Path, uid: u32) -> Check {
    const NAME: &str = "state directory";
    let at = dir.display();
    let remedy = format!("make it this user's: install -d -m 0700 -o {uid} {at}");
    match dir.symlink_metadata() {
        Ok(meta) if meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0 => {
            match access(dir, AccessFlags::W_OK | AccessFlags::X_OK) {
                Ok(()) => Check::ok(NAME, format!("{at}, this user's alone")),
                Err(errno) => Check::with(NAME, Level::Fail, format!("{at}: {errno}"), remedy),
            }
        }
        Ok(_) => {
            let found = format!("{at} is no directory of user {uid} with mode 0700");
            Check::with(NAME, Level::Fail, found, remedy)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            match access(parent, AccessFlags::W_OK | AccessFlags::X_OK) {
                Ok(()) => Check::ok(NAME, format!("{at} is not there, and can be made")),
                Err(errno) => {
                    let found = format!("{at} is not there, {}: {errno}", parent.display());
                    Check::with(NAME, Level::Fail, found, remedy)
                }
            }
        }
        Err(error) => Check::with(NAME, Level::Fail, format!("{at}: {error}"), remedy),
    }
}

/// Features of specs that need a capability, with its number.
const POWERS: [(u32, &str); 5] = [
    (7, "user"),
    (6, "group, groups"),
    (23, "lower nice"),
    (24, "higher limits"),
    (5, "signals to other users' processes"),
];

/// CAP_SETUID and CAP_SETGID.
const SWITCHING: u64 = 1 << 7 | 1 << 6;

/// The privileges of this user, from `/proc/self/status`.
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
            "this user is not root but may switch users: processes get none of procstar's capabilities, yet each process of this \
             user can ask this procstar for one that runs as root",
            "run it as root, and name a user of its own for each process by `user` of its spec; or run it without capabilities \
             (no AmbientCapabilities= in a systemd unit, no file capabilities)",
        );
    }
    let lacks: Vec<_> =
        POWERS.iter().filter(|(bit, _)| set & (1 << bit) == 0).map(|(_, power)| *power).collect();
    if lacks.is_empty() {
        return Check::ok(NAME, "may switch users, and all else that specs can ask for");
    }
    Check::with(
        NAME,
        Level::Note,
        format!("specs may not ask for: {}", lacks.join("; ")),
        "if they shall, run it as root, and name a user for each process by `user` of its spec: such a process has no privileges. \
         Capabilities for another user than root (AmbientCapabilities= of a systemd unit) would let every process of that user \
         become root",
    )
}

fn certificate(settings: &Settings) -> Check {
    const NAME: &str = "server's certificate";
    let trust = tls::Trust { cert: settings.agent.cert.clone(), ca: settings.agent.ca.clone() };
    if let Err(error) = tls::client_config(&trust) {
        let remedy = match trust.setting_of(&error) {
            "agent.ca" => {
                "set agent.ca (PROCSTAR_AGENT_CA) to a PEM file with the only roots, or the server's certificate"
            }
            _ => {
                "set agent.cert (PROCSTAR_AGENT_CERT) to a PEM file with the server's certificate or its root"
            }
        };
        return Check::with(NAME, Level::Fail, error.to_string(), remedy);
    }
    let shown = |path: &std::path::Path| path.display().to_string();
    match (trust.cert.as_deref(), trust.ca.as_deref()) {
        (Some(cert), Some(ca)) => {
            Check::ok(NAME, format!("only by {} and {}", shown(ca), shown(cert)))
        }
        (None, Some(ca)) => Check::ok(NAME, format!("only by {}", shown(ca))),
        (Some(cert), None) => Check::ok(NAME, format!("by {} and the system's roots", shown(cert))),
        (None, None) => Check::ok(NAME, "by the system's roots"),
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
    fn configurations() {
        let (check, _) = configuration(Err("/etc/p.toml:3: unknown key".into()));
        assert_eq!(
            (check.level, check.found.as_str()),
            (Level::Fail, "/etc/p.toml:3: unknown key")
        );
        for (files, level, found) in [
            (&[("/a", FileState::Absent)][..], Level::Ok, "no files"),
            (&[("/a", FileState::Absent), ("/b", FileState::Read)], Level::Ok, "read /b"),
            (&[("/b", FileState::Denied)], Level::Warn, "this user may not read /b"),
        ] {
            let (check, _) = configuration(Ok(loaded(files)));
            assert_eq!(check.level, level, "{check:?}");
            assert!(check.found.starts_with(found), "{check:?}");
        }
    }

    #[test]
    fn the_directory_is_tried_and_given_back() {
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
            "no start would do: {checks:?}"
        );
        assert!(checks[0].found.starts_with("capture.dir "), "{checks:?}");
        settings.capture.dir = None;
        let env = Env::from([("TMPDIR".into(), missing.into())]);
        let checks = instance(&settings, &env);
        assert_eq!(checks[0].level, Level::Warn, "{checks:?}");
        assert!(checks[0].found.contains("no/such, uses /"), "{checks:?}");
    }

    #[test]
    fn state_directories() {
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
    fn privileges_by_capabilities() {
        for (set, level, found) in [
            ("CapPrm:\t00\nCapEff:\t000001ffffffffff\n", Level::Ok, "may switch users"),
            (
                "CapEff:\t0000000000000000\n",
                Level::Note,
                "specs may not ask for: user; group, groups;",
            ),
            (
                "Uid:\t0\t0\t0\t0\nCapEff:\t00000000000000c0\n",
                Level::Note,
                "specs may not ask for: lower nice;",
            ),
            (
                "Uid:\t0\t1000\t0\t0\nCapEff:\t00000000000000c0\n",
                Level::Warn,
                "this user is not root but may switch users",
            ),
            (
                "Uid:\t1000\t1000\t0\t0\nCapEff:\t0000000000800000\n",
                Level::Note,
                "specs may not ask for: user; group, groups; higher limits;",
            ),
            ("Name:\tx\n", Level::Note, "/proc/self/status has no capabilities"),
        ] {
            let check = privileges(set);
            assert_eq!(check.level, level, "{set:?}");
            assert!(check.found.starts_with(found), "{check:?}");
            // No user should be given capabilities.
            let remedy = check.remedy.unwrap_or_default();
            assert!(!remedy.contains("with CAP_"), "{remedy}");
        }
    }

    #[test]
    fn leases_by_trial() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(leases(writers_are_seen(dir.path())).level, Level::Ok);
        assert_eq!(leases(Ok(false)).level, Level::Warn);
        assert_eq!(leases(writers_are_seen(&dir.path().join("no"))).level, Level::Warn);
    }
}
