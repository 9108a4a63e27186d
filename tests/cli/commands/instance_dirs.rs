//! Directories of instances: how commands find an instance, and what happens to directories that
//! are not UTF-8, missing, removed or left by a killed instance.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

use super::harness::{Instance, Ran, procstar, sockets};
use crate::support::process::kill_instance;
use crate::support::wait::eventually;

/// The name of a change, and the change to the command that starts an instance.
type Change<'a> = (&'a str, &'a dyn Fn(&mut Command));

/// An instance. Dropping it ends it.
struct Service(Child);

impl Service {
    fn start(dir: &TempDir, change: impl FnOnce(&mut Command)) -> Service {
        let mut command = procstar(dir);
        command.args(["--serve", "--serve-port", "0"]).stdout(Stdio::null());
        change(&mut command);
        Service(command.spawn().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        self.0.wait().unwrap();
    }
}

fn ps(dir: &TempDir, args: &[&str]) -> Ran {
    Ran::of(procstar(dir).args(["ps", "-q"]).args(args).output().unwrap())
}

/// The capture directories of this user's instances below a directory.
fn captures_in(place: &Path) -> Vec<PathBuf> {
    let user = place.join(format!("procstar-{}", nix::unistd::geteuid()));
    let entries = std::fs::read_dir(user).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|dir| dir.join("lock").exists()).collect()
}

#[test]
fn commands_find_an_instance_with_other_directories() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let socket = other.path().join("mine.sock");
    let state = other.path().join("unit");
    std::fs::create_dir(&state).unwrap();
    let changes: [Change<'_>; 6] = [
        ("the same directories", &|_| {}),
        ("another TMPDIR", &|command| {
            command.env("TMPDIR", other.path());
        }),
        ("no TMPDIR", &|command| {
            command.env_remove("TMPDIR");
        }),
        ("a missing TMPDIR", &|command| {
            command.env("TMPDIR", "/no/such");
        }),
        ("the state directory of a unit", &|command| {
            command.env("STATE_DIRECTORY", &state);
        }),
        ("another socket", &|command| {
            command.env("PROCSTAR_HTTP_SOCKET", &socket);
        }),
    ];
    for (what, change) in changes {
        // The instance may warn that it uses another directory.
        let service = Service::start(&dir, |command| change(command.stderr(Stdio::null())));
        assert_eq!(ps(&dir, &[]).good(), "", "{what}");
        assert_eq!(ps(&dir, &["--pid", &service.0.id().to_string()]).good(), "", "{what}");
        let mut elsewhere = procstar(&dir);
        elsewhere.env_remove("TMPDIR").args(["ps", "-q"]);
        assert_eq!(Ran::of(elsewhere.output().unwrap()).good(), "", "{what}");
        drop(service);
        assert_eq!(ps(&dir, &[]).code, Some(1), "{what}");
    }
}

/// A script starts an instance and runs a command at once. The command waits only while an instance
/// is starting.
#[test]
fn a_command_waits_for_an_instance_that_is_starting() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (state, sock) = (state.to_str().unwrap(), dir.path().join("s.sock"));
    let sock = sock.to_str().unwrap();
    for (serve, ps) in [
        ("", ""),
        ("", "--pid $!"),
        (&*format!("--state-dir {state}"), &*format!("--state-dir {state}")),
        (&format!("--state-dir {state}"), ""),
        ("", ""),
    ] {
        let script = format!(
            "\"$0\" --serve --serve-port 0 {serve} & \"$0\" ps -q {ps}; code=$?; kill %1; wait; exit $code"
        );
        let shell = procstar(&dir);
        let vars: Vec<_> =
            shell.get_envs().map(|(n, v)| (n.to_owned(), v.map(OsStr::to_owned))).collect();
        let mut command = Command::new("/bin/bash");
        command.env_clear().args(["-c", &script, env!("CARGO_BIN_EXE_procstar")]);
        for (name, value) in vars {
            command.env(name, value.unwrap_or_default());
        }
        let ran = Ran::of(command.stdin(Stdio::null()).output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{serve} / {ps}: {ran:?}");
    }
    let service = Service::start(&dir, |command| {
        command.env("PROCSTAR_HTTP_SOCKET", sock);
    });
    assert_eq!(ps(&dir, &["--socket", sock]).good(), "");
    drop(service);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let service = Service::start(&dir, |command| {
        command.args(["--serve-port", &port.to_string()]);
    });
    let url = format!("http://127.0.0.1:{port}");
    assert_eq!(ps(&dir, &["--url", &url]).good(), "");
    drop(service);
}

/// A foreground `run` has no socket; it must not hide the instance that is starting.
#[test]
fn a_command_waits_for_an_instance_beside_a_foreground_run() {
    let dir = tempfile::tempdir().unwrap();
    let started = dir.path().join("started");
    let script = format!("echo > '{}'; exec sleep 1000", started.display());
    let mut command = procstar(&dir);
    command.args(["run", "--", "sh", "-c", &script]).stdin(Stdio::null());
    let run = Service(command.spawn().unwrap());
    eventually("start of the foreground process", || started.exists());
    for _ in 0..5 {
        let service = Service::start(&dir, |_| {});
        assert_eq!(ps(&dir, &["-q"]).good(), "");
        drop(service);
        let ran = ps(&dir, &["-q"]);
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains("was started without"), "{ran:?}");
    }
    drop(run);
}

#[test]
fn directories_may_have_names_that_are_not_utf8() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join(OsStr::from_bytes(b"\xff\xfe"));
    std::fs::create_dir(&odd).unwrap();
    let state = dir.path().join(OsStr::from_bytes(b"state\xff"));
    // An uncompressed capture in a file, with chunk times, and a compressed one in memory: each
    // passes its own paths.
    let fds = json!([
        ["stdout", {"capture": {"mode": "tempfile", "chunk_times": true}}],
        ["stderr", {"capture": {"mode": "memory", "compress": "gzip"}}],
    ]);
    let spec = dir.path().join("spec.json");
    let proc = json!({"argv": ["/bin/sh", "-c", "echo out; echo err >&2"], "fds": fds});
    std::fs::write(&spec, json!({"specs": {"a": proc}}).to_string()).unwrap();
    let changes: [Change<'_>; 4] = [
        ("TMPDIR", &|command| {
            command.env("TMPDIR", &odd);
        }),
        ("capture.dir", &|command| {
            command.env("PROCSTAR_CAPTURE_DIR", &odd);
        }),
        ("--state-dir", &|command| {
            command.arg("--state-dir").arg(&state);
        }),
        ("run.runtime_dir", &|command| {
            command.env("PROCSTAR_RUN_RUNTIME_DIR", odd.join("run"));
        }),
    ];
    for (what, change) in changes {
        let mut command = procstar(&dir);
        change(command.arg("--print").arg(&spec));
        let printed = Ran::of(command.output().unwrap()).json();
        assert_eq!(printed["a"]["fds"]["stdout"]["data"], "b3V0Cg==", "{what}: {printed}");
        let compressed = &printed["a"]["captures"]["stderr"];
        assert_eq!((&compressed["length"], &compressed["complete"]), (&json!(4), &json!(true)));
        let service = Service::start(&dir, |command| change(command));
        let find = |args: &[&str]| {
            let mut command = procstar(&dir);
            if what == "run.runtime_dir" {
                change(&mut command);
            }
            Ran::of(command.args(args).output().unwrap())
        };
        find(&["start", spec.to_str().unwrap()]).good();
        assert_eq!(find(&["wait", "a"]).code, Some(0), "{what}");
        // The paths also survive an upgrade.
        let upgraded = find(&["upgrade"]);
        assert_eq!(upgraded.code, Some(0), "{what}: {upgraded:?}");
        assert_eq!(find(&["logs", "a", "--stream", "stdout"]).good(), "out\n", "{what}");
        let about = find(&["top", "-o", "json"]).json();
        assert!(about["agent"].is_object(), "{what}: {about}");
        drop(service);
    }
    // The next instance reads the journal of a killed one.
    let mut service = Service::start(&dir, |command| {
        command.arg("--state-dir").arg(&state);
    });
    ps(&dir, &[]).good();
    kill_instance(service.0.id().cast_signed());
    service.0.wait().unwrap();
    let service = Service::start(&dir, |command| {
        command.arg("--state-dir").arg(&state);
    });
    assert_eq!(ps(&dir, &[]).good(), "a\n");
    drop(service);
}

#[test]
fn a_configured_capture_directory_has_no_fallback() {
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("spec.json");
    std::fs::write(
        &spec,
        json!({"specs": {"a": {"argv": ["/bin/touch", dir.path().join("ran")]}}}).to_string(),
    )
    .unwrap();
    let file = dir.path().join("capture.toml");
    std::fs::write(&file, "[capture]\ndir = \"/no/such\"\n").unwrap();
    let run = |args: &[&str]| {
        Ran::of(procstar(&dir).arg("--config").arg(&file).args(args).output().unwrap())
    };
    for (args, code) in [
        (&["--print", spec.to_str().unwrap()][..], 2),
        (&["--serve", "--serve-port", "0"], 2),
        (&["run", "--", "touch", dir.path().join("ran").to_str().unwrap()], 125),
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{ran:?}");
        let wanted = "procstar: capture.dir /no/such cannot be used: ";
        assert!(
            ran.err.contains(wanted) && ran.err.contains("No such file or directory"),
            "{ran:?}"
        );
        assert!(ran.err.contains("; set capture.dir to a directory in which user "), "{ran:?}");
    }
    assert!(!dir.path().join("ran").exists(), "nothing was started");
    let doctor = run(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.out.contains("capture.dir /no/such cannot be used"), "{doctor:?}");
    // TMPDIR was not set for procstar: if it is unusable, procstar takes another directory.
    let mut other = procstar(&dir);
    other.env("TMPDIR", "/no/such").arg("--print").arg(&spec);
    assert_eq!(other.output().unwrap().status.code(), Some(0));
}

/// A cleaner that ignores locks removes directories, and so does the end of a session.
#[test]
fn removed_directories_are_created_again() {
    let instance = Instance::new();
    let capture = |id: &str, mode: &str| {
        let fds = json!([["stdout", {"capture": {"mode": mode}}]]);
        instance.specs(&json!({ id: {"argv": ["/bin/echo", id], "fds": fds} }));
        instance.run(&["wait", id]);
        assert_eq!(instance.run(&["logs", id]).good(), format!("{id}\n"));
    };
    capture("first", "tempfile");
    capture("second", "memory");
    let shown = instance.run(&["show", "first", "-o", "json"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let user = format!("procstar-{}", nix::unistd::geteuid());
    let files = captures_in(instance.dir.path());
    std::fs::remove_dir_all(instance.dir.path().join(&user)).unwrap();
    for memory in captures_in(Path::new("/dev/shm")) {
        if std::fs::read_link(memory.join("files")).is_ok_and(|of| files.contains(&of)) {
            std::fs::remove_dir_all(&memory).unwrap();
        }
    }
    capture("third", "memory");
    capture("fourth", "tempfile");
    assert_eq!(captures_in(instance.dir.path()), files);
    eventually("journal", || files[0].join("journal").exists());
    // The socket is removed with the runtime directory; the next worker creates another one.
    std::fs::remove_dir_all(instance.dir.path().join("run")).unwrap();
    eventually("socket", || !sockets(&instance.dir).is_empty());
    let ids = instance.run(&["ps", "-q"]).good();
    assert_eq!(ids.lines().count(), 4, "{ids}");
}

/// With `TMPDIR=/dev/shm`, the directories for files and for memory captures have the same parent.
#[test]
fn several_instances_share_a_directory_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let services: Vec<Service> = (0..3)
        .map(|_| {
            let service = Service::start(&dir, |command| {
                command.env("TMPDIR", "/dev/shm");
            });
            ps(&dir, &["--pid", &service.0.id().to_string()]).good();
            service
        })
        .collect();
    let several = ps(&dir, &[]);
    assert_eq!(several.code, Some(1));
    let spec = dir.path().join("spec.json");
    let fds = json!([["stdout", {"capture": {"mode": "memory"}}]]);
    std::fs::write(
        &spec,
        json!({"specs": {"a": {"argv": ["/bin/echo", "x"], "fds": fds}}}).to_string(),
    )
    .unwrap();
    for service in &services {
        let pid = service.0.id().to_string();
        assert!(several.err.contains(&format!("--pid {pid} ")), "{several:?}");
        let run = |args: &[&str]| {
            Ran::of(procstar(&dir).args(args).args(["--pid", &pid]).output().unwrap())
        };
        run(&["start", spec.to_str().unwrap()]).good();
        assert_eq!(run(&["wait", "a"]).code, Some(0));
        assert_eq!(run(&["logs", "a"]).good(), "x\n");
    }
}

/// Runs systemd-tmpfiles with a rule by which every file is too old.
#[test]
fn systemd_tmpfiles_leaves_a_live_instance_alone() {
    let instance = Instance::new();
    instance.ended("quiet", "echo kept");
    let place = instance.dir.path();
    let config = tempfile::NamedTempFile::with_suffix(".conf").unwrap();
    let place_name = place.display();
    std::fs::write(config.path(), format!("d {place_name} 0700 - - 0\n")).unwrap();
    std::fs::create_dir(place.join("other")).unwrap();
    std::fs::write(place.join("other/old"), "x").unwrap();
    let cleaned = Command::new("systemd-tmpfiles")
        .args(["--clean", "--prefix"])
        .arg(place)
        .arg(config.path())
        .output();
    let Ok(cleaned) = cleaned else {
        return eprintln!("skipped: systemd-tmpfiles is not installed");
    };
    assert!(cleaned.status.success(), "{cleaned:?}");
    assert!(!place.join("other/old").exists(), "nothing was cleaned: {cleaned:?}");
    assert_eq!(instance.run(&["logs", "quiet"]).good(), "kept\n");
    let captures = captures_in(place);
    assert!(captures[0].join("journal").exists() && captures[0].join("lock").exists());
    assert!(instance.socket.exists() && instance.socket.with_file_name("lock").exists());
}

/// A package installs this configuration of systemd-tmpfiles.
#[test]
fn the_tmpfiles_snippet_creates_the_runtime_directory_and_protects_captures() {
    let root = tempfile::tempdir().unwrap();
    let snippet = concat!(env!("CARGO_MANIFEST_DIR"), "/config/tmpfiles.d/procstar.conf");
    let run = |args: &[&str], config: &Path| {
        let mut command = Command::new("systemd-tmpfiles");
        command.args(args).arg(format!("--root={}", root.path().display())).arg(config);
        command.arg(snippet).output()
    };
    let etc = root.path().join("etc/tmpfiles.d");
    std::fs::create_dir_all(&etc).unwrap();
    let old = root.path().join("tmp/procstar-7/1-00000000");
    std::fs::create_dir_all(&old).unwrap();
    for file in [old.join("1.0"), root.path().join("tmp/other")] {
        std::fs::write(file, "x").unwrap();
    }
    let rule = tempfile::NamedTempFile::with_suffix(".conf").unwrap();
    std::fs::write(rule.path(), "d /tmp 1777 - - 0\n").unwrap();
    let Ok(made) = run(&["--create", "--clean"], rule.path()) else {
        return eprintln!("skipped: systemd-tmpfiles is not installed");
    };
    assert!(made.status.success(), "{made:?}");
    assert!(!root.path().join("tmp/other").exists(), "nothing was cleaned: {made:?}");
    assert!(old.join("1.0").exists(), "{made:?}");
    let meta = root.path().join("run/procstar").metadata().unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777, 0o700);
}

#[test]
fn the_next_start_removes_what_a_killed_instance_left_in_another_tmpdir() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = Service::start(&dir, |_| {});
    ps(&dir, &[]).good();
    let captures = captures_in(dir.path());
    service.0.kill().unwrap();
    service.0.wait().unwrap();
    let other = tempfile::tempdir().unwrap();
    // The worker of the killed keeper may need a moment to end.
    eventually("removal", || {
        let next = Service::start(&dir, |command| {
            command.env("TMPDIR", other.path());
        });
        let found = ps(&dir, &["--pid", &next.0.id().to_string()]);
        assert_eq!(found.code, Some(0), "{found:?}");
        !captures[0].exists()
    });
    assert_eq!(captures.len(), 1);
    assert_eq!(std::fs::read_dir(dir.path().join("run")).unwrap().count(), 0);
}

#[test]
fn a_mistyped_variable_causes_one_warning() {
    let dir = tempfile::tempdir().unwrap();
    let wanted =
        "environment variable PROCSTAR_HTTP_PROT has no effect; did you mean PROCSTAR_HTTP_PORT?";
    for args in [&["ps"][..], &["schema", "spec"], &["--no-such-option"], &["run", "true"]] {
        let mut command = procstar(&dir);
        let ran = Ran::of(command.env("PROCSTAR_HTTP_PROT", "1").args(args).output().unwrap());
        assert_eq!(ran.err.matches(wanted).count(), 1, "{args:?}: {ran:?}");
    }
}
