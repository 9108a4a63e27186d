//! The specs of `examples/` are valid, and their processes succeed, except for the one that is
//! stopped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The specs of a directory of `examples/`.
fn specs(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension() == Some("json".as_ref())).collect();
    paths.sort();
    paths
}

fn procstar(args: &[&str], path: &Path) -> (Option<i32>, Vec<u8>, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_procstar"));
    command.args(args).arg(path).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/").env("TMPDIR", dir.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn every_example_is_valid() {
    for path in ["examples", "examples/specs", "examples/service"].into_iter().flat_map(specs) {
        let (code, _, errors) = procstar(&["validate"], &path);
        assert_eq!(code, Some(0), "{errors}");
    }
}

#[test]
fn every_example_of_a_feature_runs() {
    let paths = specs("examples/specs");
    assert!(paths.len() > 10);
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "user" && !nix::unistd::geteuid().is_root() {
            continue;
        }
        let (code, results, errors) = procstar(&["--print"], &path);
        assert_eq!(code, Some(0), "{name}: {errors}");
        let results: Value = serde_json::from_slice(&results).unwrap();
        for (id, result) in results.as_object().unwrap() {
            let wanted = if name == "stop" { "timeout" } else { "exited" };
            assert_eq!(result["reason"], wanted, "{name}: {id}: {}", result["errors"]);
            assert!(result["status"]["exit_code"] == 0 || name == "stop", "{name}: {result}");
        }
    }
}
