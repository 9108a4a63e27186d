//! Captures in files that the user has named.

use procstar::engine::{CutShort, Stage};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::rig::*;

fn named(path: &Path, more: Value) -> Value {
    let mut capture = json!({"mode": "tempfile", "file": {"path": path, "mode": 0o640}});
    for (key, value) in more.as_object().unwrap() {
        match (key.as_str(), value) {
            ("keep", keep) => capture["file"]["keep"] = keep.clone(),
            (key, value) => capture[key] = value.clone(),
        }
    }
    json!([["stdout", {"capture": capture}]])
}

/// Whoever writes it, the file has the output, its mode, and stays or goes as asked.
#[test]
fn every_way_to_a_named_file() {
    let kinds = [
        (json!({}), "0123456789abcdef"),
        (json!({"mode": "memory"}), "0123456789abcdef"),
        (json!({"limit": {"head": 4}}), "0123"),
        (json!({"limit": {"tail": 4}}), "cdef"),
        (json!({"mode": "memory", "limit": {"head": 3, "tail": 4}}), "012cdef"),
        (json!({"pipe_size": 4096}), "0123456789abcdef"),
    ];
    for (more, kept) in kinds {
        for keep in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("out");
            // What was there goes.
            std::fs::write(&path, "older and longer than what comes").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            let mut more = more.clone();
            more["keep"] = keep.into();
            let (ended, rig) = run(sh("echo -n 0123456789abcdef", named(&path, more.clone())));
            assert!(ended.failures.is_empty() && ended.cut_short.is_empty(), "{more}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), kept, "{more}");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
            assert_eq!(text(&ended, "stdout"), kept, "{more}");
            rig.engine.forget("a".into());
            if keep {
                rig.settle();
            } else {
                eventually("its removal", || !path.exists());
            }
            assert_eq!(path.exists(), keep, "{more}");
            eventually("no file of ours", || rig.files() == 0);
        }
    }
}

#[test]
fn a_file_that_cannot_be_made_is_told_with_its_path() {
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
        for more in [json!({}), json!({"mode": "memory"}), json!({"limit": {"tail": 4}})] {
            let mut more = more.clone();
            more["keep"] = false.into();
            let (ended, rig) = run(sh("echo hi", named(&path, more)));
            let failure = &ended.failures[0];
            assert_eq!(failure.errno, errno, "{}", path.display());
            assert!(matches!(failure.stage, Stage::Fd(1)));
            assert_eq!(failure.path.as_deref(), path.to_str());
            let why: Vec<CutShort> = ended.cut_short.iter().map(|(_, why)| *why).collect();
            assert_eq!(why, [CutShort::Setup]);
            assert_eq!(text(&ended, "stdout"), "");
            rig.engine.forget("a".into());
            eventually("no file of ours", || rig.files() == 0);
            // Nothing that was there is touched.
            assert!(path.exists() || path == at("link") || path == at("no/such"));
            assert!(at("link").symlink_metadata().is_ok() && !at("target").exists());
        }
    }
}
