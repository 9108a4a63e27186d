//! Writing results to a path that another user has prepared. The tests with another user need root;
//! without it they do nothing.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Output;

use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use serde_json::{Value, json};

use super::{procstar, run_with, stderr};

const MALLORY: u32 = 65_001;

/// Runs one process and has the results written to `path`; its trace shows whether it was started.
fn results_to(path: &Path, trace: &Path) -> Output {
    let spec = json!({"specs": {"a": {"argv": ["/usr/bin/touch", trace]}}});
    let mut command = procstar();
    command.arg("--output").arg(path).arg("-");
    run_with(command, &spec.to_string())
}

fn assert_results(path: &Path) {
    let results: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(results["a"]["state"], "terminated");
}

fn sticky() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    dir
}

/// Needs root. Mallory's link in /tmp must not redirect root's results to a file of her choice.
#[test]
fn a_link_that_another_user_has_planted_is_refused() {
    if !geteuid().is_root() {
        return;
    }
    let (dir, safe) = (sticky(), tempfile::tempdir().unwrap());
    let trace = safe.path().join("trace");
    let victim = safe.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    let at = |name: &str| dir.path().join(name);
    let plant = |name: &str, target: &Path| {
        symlink(target, at(name)).unwrap();
        lchown(at(name), Some(MALLORY), Some(MALLORY)).unwrap();
    };
    plant("link", &victim);
    plant("nothing", &safe.path().join("new"));
    plant("directory", safe.path());
    mkfifo(&at("fifo"), Mode::from_bits_truncate(0o666)).unwrap();
    chown(at("fifo"), Some(MALLORY), None).unwrap();
    for (place, said) in [
        ("link", "belongs to user 65001"),
        ("nothing", "belongs to user 65001"),
        ("directory/new", "belongs to user 65001"),
        ("fifo", "it belongs to user 65001 in a directory in which every user may make files"),
    ] {
        let output = results_to(&at(place), &trace);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{place}: {text}");
        let named = format!("procstar: cannot write results to {}: ", at(place).display());
        assert!(text.starts_with(&named) && text.contains(said), "{text}");
        assert!(!trace.exists(), "{place}: nothing is started");
    }
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert!(!safe.path().join("new").exists());
    // A file of mallory is replaced, including its mode.
    std::fs::write(at("file"), "x").unwrap();
    chown(at("file"), Some(MALLORY), None).unwrap();
    std::fs::set_permissions(at("file"), PermissionsExt::from_mode(0o666)).unwrap();
    assert!(results_to(&at("file"), &trace).status.success());
    let meta = at("file").metadata().unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o777), (0, 0o600));
    assert_results(&at("file"));
}

#[test]
fn results_replace_a_link_and_those_of_root_are_private() {
    let dir = sticky();
    let at = |name: &str| dir.path().join(name);
    let trace = at("trace");
    std::fs::write(at("target"), "old").unwrap();
    symlink("target", at("link")).unwrap();
    symlink("no such file", at("dangling")).unwrap();
    for name in ["link", "dangling", "new"] {
        assert!(results_to(&at(name), &trace).status.success(), "{name}");
        let meta = at(name).symlink_metadata().unwrap();
        assert!(meta.is_file(), "{name}");
        if geteuid().is_root() {
            assert_eq!(meta.mode() & 0o777, 0o600, "{name}");
        }
        assert_results(&at(name));
    }
    assert_eq!(std::fs::read_to_string(at("target")).unwrap(), "old");
    // An existing file keeps its permissions.
    std::fs::set_permissions(at("target"), PermissionsExt::from_mode(0o640)).unwrap();
    assert!(results_to(&at("target"), &trace).status.success());
    assert_eq!(at("target").metadata().unwrap().mode() & 0o777, 0o640);
    // Links to devices are followed.
    symlink("/dev/null", at("null")).unwrap();
    assert!(results_to(&at("null"), &trace).status.success());
    assert!(at("null").is_symlink());
}

#[test]
fn manual_pages_replace_links() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    symlink(&victim, dir.path().join("procstar.1")).unwrap();
    let output = procstar().args(["man", "--dir"]).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    let meta = dir.path().join("procstar.1").symlink_metadata().unwrap();
    assert!(meta.is_file() && meta.mode() & 0o444 == 0o444);
}
