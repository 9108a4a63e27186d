//! Captures with `file`: the user chooses the path.

use procstar::engine::{Loss, Stage, Truncation};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::engine::*;
use crate::support::wait::eventually;

fn named(path: &Path, more: Value) -> Value {
    let mut capture = json!({"mode": "tempfile", "file": {"path": path, "mode": 0o640}});
    for (key, value) in more.as_object().unwrap() {
        match (key.as_str(), value) {
            ("delete_with_process", value) => {
                capture["file"]["delete_with_process"] = value.clone();
            }
            (key, value) => capture[key] = value.clone(),
        }
    }
    json!([["stdout", {"capture": capture}]])
}

/// For each kind of writer.
#[test]
fn a_named_file_has_its_mode_and_is_kept_or_deleted_with_the_process() {
    let kinds = [
        (json!({}), "0123456789abcdef"),
        (json!({"mode": "memory"}), "0123456789abcdef"),
        (json!({"keep": {"head": 4}}), "0123"),
        (json!({"keep": {"tail": 4}}), "cdef"),
        (json!({"mode": "memory", "keep": {"head": 3, "tail": 4}}), "012cdef"),
        (json!({"pipe_size": 4096}), "0123456789abcdef"),
    ];
    for (more, kept) in kinds {
        for keep in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("out");
            // Earlier content is removed.
            std::fs::write(&path, "older and longer than what comes").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            let mut more = more.clone();
            more["delete_with_process"] = (!keep).into();
            let (ended, harness) = run(sh("echo -n 0123456789abcdef", named(&path, more.clone())));
            assert!(ended.failures.is_empty() && ended.cut_short.is_empty(), "{more}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), kept, "{more}");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
            assert_eq!(text(&ended, "stdout"), kept, "{more}");
            harness.engine.forget("a".into());
            if keep {
                harness.settle();
            } else {
                eventually("its removal", || !path.exists());
            }
            assert_eq!(path.exists(), keep, "{more}");
            eventually("no file of ours", || harness.files() == 0);
        }
    }
}

#[test]
fn a_failure_to_create_a_named_file_is_reported_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("dir")).unwrap();
    std::os::unix::fs::symlink(at("target"), at("link")).unwrap();
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (path, errno) in [
        (at("dir"), libc::EISDIR),
        (at("link"), libc::ELOOP),
        (at("fifo"), libc::ENXIO),
        (at("no/such"), libc::ENOENT),
        ("/dev/null".into(), libc::EINVAL),
    ] {
        for more in [json!({}), json!({"mode": "memory"}), json!({"keep": {"tail": 4}})] {
            let mut more = more.clone();
            more["delete_with_process"] = true.into();
            let (ended, harness) = run(sh("echo hi", named(&path, more)));
            let failure = &ended.failures[0];
            assert_eq!(failure.errno, errno, "{}", path.display());
            assert!(matches!(failure.stage, Stage::Fd(1)));
            assert_eq!(failure.path.as_deref(), path.to_str());
            let why: Vec<Truncation> = ended.cut_short.iter().map(|(_, why)| *why).collect();
            assert_eq!(why, [Truncation::NotStarted]);
            assert_eq!(text(&ended, "stdout"), "");
            harness.engine.forget("a".into());
            eventually("no file of ours", || harness.files() == 0);
            // Existing files are not changed.
            assert!(path.exists() || path == at("link") || path == at("no/such"));
            assert!(at("link").symlink_metadata().is_ok() && !at("target").exists());
        }
    }
}

/// The kinds of captures whose bytes are in the named file itself: written by the process, or by a
/// capture writer.
fn kinds() -> [Value; 3] {
    [json!({}), json!({"mode": "memory"}), json!({"keep": {"head": 100}})]
}

/// A process whose file was replaced must run to its end, and so must the next one.
fn swapped(
    script: &str,
    more: &Value,
) -> (tempfile::TempDir, procstar::engine::Ended, EngineHarness) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    let mut more = more.clone();
    more["delete_with_process"] = true.into();
    let script = format!("cd {}; echo mine; {script}", dir.path().display());
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({"a": sh(&script, named(&dir.path().join("d/o"), more))}));
    harness.end("a");
    harness.launch(json!({"next": sh("true", json!([]))}));
    harness.end("next");
    let ended = harness.ended.remove("a").unwrap();
    (dir, ended, harness)
}

/// Waits until the engine has completed a deletion.
fn forget(harness: &EngineHarness) {
    harness.engine.forget("a".into());
    harness.settle();
}

#[test]
fn a_fifo_at_the_path_blocks_neither_the_engine_nor_a_reader() {
    for more in kinds() {
        let (dir, ended, harness) = swapped("mv d/o d/o2; mkfifo d/o", &more);
        assert!(ended.failures.is_empty() && ended.cut_short.is_empty(), "{more}");
        assert_eq!(text(&ended, "stdout"), "mine\n", "{more}");
        assert_eq!(super::capture(&ended.captures, "stdout").loss(), None, "{more}");
        // The same for a file that appears after the end.
        std::fs::remove_file(dir.path().join("d/o")).unwrap();
        std::fs::rename(dir.path().join("d/o2"), dir.path().join("d/o3")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("d/o"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(text(&ended, "stdout"), "mine\n", "{more}");
        forget(&harness);
        assert!(dir.path().join("d/o").exists() && dir.path().join("d/o3").exists(), "{more}");
    }
}

#[test]
fn a_deletion_removes_only_the_created_file() {
    for more in kinds() {
        // Another file at its path stays, and so does the created file at its new path.
        let (dir, _, harness) = swapped("mv d/o d/o2; echo other >d/o", &more);
        forget(&harness);
        let read = |path: &str| std::fs::read_to_string(dir.path().join(path)).unwrap_or_default();
        assert_eq!((read("d/o"), read("d/o2")), ("other\n".into(), "mine\n".into()), "{more}");
        // The removal uses the directory of the creation, even if that was renamed.
        let (dir, ended, harness) = swapped("mv d d2; mkdir e; echo other >e/o; ln -s e d", &more);
        assert_eq!(text(&ended, "stdout"), "mine\n", "{more}");
        forget(&harness);
        eventually("its removal", || !dir.path().join("d2/o").exists());
        assert!(dir.path().join("e/o").exists(), "{more}");
    }
}

#[test]
fn an_unlinked_file_is_reported_as_lost() {
    for more in kinds() {
        let (_dir, ended, _harness) = swapped("rm d/o", &more);
        assert_eq!(super::capture(&ended.captures, "stdout").loss(), Some(Loss::Gone), "{more}");
    }
}

/// Processes of another user; needs root.
mod of_another_user {
    use super::*;
    use std::os::unix::fs::{MetadataExt, chown, symlink};
    use std::path::PathBuf;

    const BATCH: u32 = 65001;

    /// A directory of root's, with `d`, a directory of batch's, and `root`, which only root may
    /// read, with a file `o`.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        for (name, mode) in [("d", 0o755), ("root", 0o700)] {
            std::fs::create_dir(path.join(name)).unwrap();
            std::fs::set_permissions(path.join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        std::fs::write(path.join("root/o"), "secret").unwrap();
        chown(path.join("d"), Some(BATCH), Some(BATCH)).unwrap();
        (dir, path)
    }

    fn by_batch(script: &str, fds: Value) -> Value {
        let mut proc = sh(script, fds);
        proc["user"] = BATCH.into();
        proc["group"] = BATCH.into();
        proc
    }

    fn files(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_file_is_created_with_the_rights_of_the_user() {
        for more in kinds() {
            let (_dir, path) = place();
            let (ended, _harness) =
                run(by_batch("echo hi", named(&path.join("d/o"), more.clone())));
            assert!(ended.failures.is_empty(), "{:?}", ended.failures);
            assert_eq!(text(&ended, "stdout"), "hi\n");
            let meta = path.join("d/o").metadata().unwrap();
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (BATCH, BATCH, 0o640));
            // Without the permission to create a file, none is created.
            for forbidden in ["root/new", "root/o", "new"] {
                let fds = named(&path.join(forbidden), more.clone());
                let (ended, _harness) = run(by_batch("echo hi", fds));
                assert_eq!(ended.failures[0].errno, libc::EACCES, "{forbidden} {more}");
            }
            assert_eq!(files(&path.join("root")), ["o"]);
            assert_eq!(std::fs::read_to_string(path.join("root/o")).unwrap(), "secret");
        }
    }

    /// Batch's directory is a link to root's: no file appears there.
    #[test]
    fn a_link_of_that_user_is_not_followed() {
        for more in kinds() {
            let (_dir, path) = place();
            // A link into a directory in which batch may write is not followed either.
            for (link, target) in [("d/root", path.join("root")), ("d/own", path.join("d"))] {
                symlink(&target, path.join(link)).unwrap();
                let fds = named(&path.join(link).join("new"), more.clone());
                let (ended, _harness) = run(by_batch("echo hi", fds));
                let failure = &ended.failures[0];
                assert_eq!(failure.errno, libc::ELOOP, "{link} {more}");
                let text = failure.to_string();
                let link =
                    format!("{} is a symbolic link in a directory", path.join(link).display());
                assert!(
                    text.starts_with("failed to set up fd 1: ") && text.contains(&link),
                    "{text}"
                );
            }
            assert_eq!(files(&path.join("root")), ["o"]);
            assert!(!path.join("d/new").exists());
        }
    }

    /// A link in a directory of root's is part of the host's configuration, like `/var/run`.
    #[test]
    fn a_link_of_root_is_followed() {
        let (_dir, path) = place();
        symlink("d", path.join("link")).unwrap();
        let (ended, _harness) = run(by_batch("echo hi", named(&path.join("link/o"), json!({}))));
        assert!(ended.failures.is_empty(), "{:?}", ended.failures);
        assert_eq!(std::fs::read_to_string(path.join("d/o")).unwrap(), "hi\n");
    }

    /// During the run, batch replaces its directory by a link to root's: nothing there is read,
    /// measured, or removed.
    #[test]
    fn a_symlink_made_during_the_run_is_not_followed() {
        for more in kinds() {
            let (_dir, path) = place();
            std::fs::create_dir(path.join("d/e")).unwrap();
            chown(path.join("d/e"), Some(BATCH), Some(BATCH)).unwrap();
            let mut more = more.clone();
            more["delete_with_process"] = true.into();
            let at = path.display();
            let script = format!("echo mine; mv {at}/d/e {at}/d/f; ln -s {at}/root {at}/d/e");
            let (ended, harness) = run(by_batch(&script, named(&path.join("d/e/o"), more.clone())));
            assert!(ended.failures.is_empty() && ended.cut_short.is_empty(), "{more}");
            assert_eq!(text(&ended, "stdout"), "mine\n", "{more}");
            assert_eq!(super::super::capture(&ended.captures, "stdout").loss(), None, "{more}");
            forget(&harness);
            eventually("its removal", || !path.join("d/f/o").exists());
            assert_eq!(std::fs::read_to_string(path.join("root/o")).unwrap(), "secret");
        }
    }

    /// Nothing in a directory of root is removed.
    #[test]
    fn a_deletion_uses_the_rights_of_the_user() {
        let (_dir, path) = place();
        std::fs::write(path.join("o"), "").unwrap();
        chown(path.join("o"), Some(BATCH), Some(BATCH)).unwrap();
        let fds = named(&path.join("o"), json!({"delete_with_process": true}));
        let (ended, harness) = run(by_batch("echo hi", fds));
        assert_eq!(text(&ended, "stdout"), "hi\n");
        forget(&harness);
        drop(ended);
        assert_eq!(std::fs::read_to_string(path.join("o")).unwrap(), "hi\n");
    }
}
