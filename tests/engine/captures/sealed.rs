//! Output that is changed after the end of its process: a later read returns the original, or an
//! error.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};

use procstar::engine::{Capture, Captures, Ended, Loss, Truncation};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{all, capture};
use crate::support::engine::{EngineHarness, options, run, sh, text};
use crate::support::wait::eventually;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The capture as in another process: a worker, or a keeper that has read the journal.
fn elsewhere(captures: &Captures) -> Captures {
    rmp_serde::from_slice(&rmp_serde::to_vec(captures).unwrap()).unwrap()
}

fn ended(script: &str, keys: &Value) -> (Ended, EngineHarness) {
    run(sh(script, json!([["stdout", {"capture": keys}]])))
}

/// Checks whether it can still be read, here and elsewhere, and the reported loss.
fn readable(ended: &Ended) -> Vec<(bool, Option<Loss>)> {
    let other = elsewhere(&ended.captures);
    [capture(&ended.captures, "stdout"), capture(&other, "stdout")]
        .map(|capture| {
            let view = capture.view();
            if let Err(error) = &view {
                assert!(Capture::is_changed(error), "{error}");
            }
            let read = view.and_then(|mut view| view.read_at(0, &mut [0; 100]));
            (read.is_ok(), capture.loss())
        })
        .into()
}

/// For every writer, and for hashing at once or on another thread.
#[test]
fn the_hash_of_the_stored_bytes_is_recorded() {
    for count in [0, 5, 70_000, 3_000_000] {
        let dir = tempfile::tempdir().unwrap();
        for keys in [
            json!({}),
            json!({"mode": "memory"}),
            json!({"keep": {"head": 10, "tail": 20}}),
            json!({"compress": "zstd"}),
            json!({"file": {"path": dir.path().join("named")}}),
        ] {
            let (ended, _harness) = ended(&super::write_numbers(count), &keys);
            let other = elsewhere(&ended.captures);
            for capture in [capture(&ended.captures, "stdout"), capture(&other, "stdout")] {
                let stored = all(capture.stored().unwrap());
                let recorded = capture.sha256().map(|sha256| sha256.to_string());
                assert_eq!(recorded, Some(sha256(&stored)), "{count} {keys}");
                assert_eq!(capture.loss(), None, "{count} {keys}");
            }
        }
    }
}

#[test]
fn a_capture_file_is_read_only_after_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let named = json!({"file": {"path": dir.path().join("named"), "mode": 0o640}});
    for (keys, mode) in [
        (json!({}), 0o400),
        (json!({"mode": "memory"}), 0o400),
        (json!({"compress": "gzip"}), 0o400),
        (named, 0o640),
    ] {
        let (ended, _harness) = ended("echo one", &keys);
        let meta = std::fs::metadata(capture(&ended.captures, "stdout").path()).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{keys}");
    }
}

/// For every way to change a file, and every size and kind.
#[test]
fn a_change_after_the_end_makes_reading_fail() {
    type Change = fn(&File, u64);
    let over: Change = |file, _| file.write_all_at(b"X", 20).unwrap();
    let more: Change = |file, length| file.write_all_at(b"more", length).unwrap();
    let shorter: Change = |file, length| file.set_len(length - 1).unwrap();
    let same_time: Change = |file, _| {
        let times = file.metadata().unwrap();
        file.write_all_at(b"X", 20).unwrap();
        let times = std::fs::FileTimes::new().set_modified(times.modified().unwrap());
        file.set_times(times).unwrap();
    };
    let changes = [("over", over), ("more", more), ("shorter", shorter), ("same time", same_time)];
    let limit = json!({"keep": {"head": 100, "tail": 200}});
    for (name, change) in changes {
        for count in [30, 70_000, 3_000_000] {
            for keys in [json!({}), json!({"mode": "memory"}), limit.clone()] {
                let (ended, _harness) = ended(&super::write_numbers(count), &keys);
                let path = capture(&ended.captures, "stdout").path().to_owned();
                std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
                let file = File::options().write(true).open(&path).unwrap();
                change(&file, file.metadata().unwrap().len());
                for (read, loss) in readable(&ended) {
                    assert!(!read, "{name} {count} {keys}");
                    let truncated = loss == Some(Loss::Truncated) && name == "shorter";
                    assert!(truncated || loss == Some(Loss::Changed), "{name} {count} {loss:?}");
                }
            }
        }
    }
}

/// Others may read a named file, change its mode and rename it: only its content counts.
#[test]
fn a_named_file_may_have_another_mode_but_no_other_content() {
    for count in [30, 70_000] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("named");
        let (ended, _harness) =
            ended(&super::write_numbers(count), &json!({"file": {"path": path}}));
        let file = File::options().write(true).open(&path).unwrap();
        file.set_permissions(Permissions::from_mode(0o604)).unwrap();
        file.set_modified(std::time::SystemTime::now()).unwrap();
        assert_eq!(readable(&ended), [(true, None), (true, None)], "{count}");
        file.write_all_at(b"X", 20).unwrap();
        assert_eq!(readable(&ended), [(false, Some(Loss::Changed)); 2], "{count}");
    }
}

/// A reader that began before a change also gets an error, and no changed byte.
#[test]
fn a_change_while_reading_makes_the_reader_fail() {
    let (ended, _harness) = ended(&super::write_numbers(3_000_000), &json!({}));
    let capture = capture(&ended.captures, "stdout");
    let mut view = capture.view().unwrap();
    let mut buf = [0; 1000];
    assert_eq!(view.read_at(0, &mut buf).unwrap(), 1000);
    std::fs::set_permissions(capture.path(), Permissions::from_mode(0o600)).unwrap();
    let file = File::options().write(true).open(capture.path()).unwrap();
    file.write_all_at(b"X", 2_000_000).unwrap();
    let error = view.read_at(1000, &mut buf).unwrap_err();
    assert!(Capture::is_changed(&error), "{error}");
}

/// A survivor may continue to write to an fd that it held at the end: it is reported as a survivor,
/// and the captured output stays the same.
#[test]
fn appending_by_a_survivor_is_no_change_but_overwriting_is() {
    let mut harness = EngineHarness::new(options());
    let dir = tempfile::tempdir().unwrap();
    let [more, done] = ["more", "done"].map(|name| dir.path().join(name));
    let script = format!(
        "(until [ -e {} ]; do sleep 0.01; done; echo more; touch {}; exec sleep 600) & echo $!",
        more.display(),
        done.display()
    );
    harness.launch(json!({"a": sh(&script, json!([["stdout", {"capture": {}}]]))}));
    let ended = harness.end("a");
    assert_eq!(ended.cut_short, [("stdout".parse().unwrap(), Truncation::HeldOpen)]);
    let told = text(ended, "stdout");
    File::create(&more).unwrap();
    eventually("more output", || done.exists());
    assert_eq!(readable(ended), [(true, None); 2]);
    assert_eq!(text(ended, "stdout"), told);
    let file = capture(&ended.captures, "stdout").path();
    std::fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    // After the guarded beginning.
    File::options().write(true).open(file).unwrap().write_all_at(b"X", 16).unwrap();
    assert!(readable(ended).iter().all(|(read, _)| !read));
    let survivor: i32 = told.trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(survivor), nix::sys::signal::SIGKILL)
        .unwrap();
}

/// The length of a file costs no time.
#[test]
fn sparse_terabytes_are_not_hashed_and_changes_are_detected() {
    let (ended, _harness) = ended("truncate -s 10T /dev/stdout", &json!({}));
    let capture = capture(&ended.captures, "stdout");
    assert_eq!((capture.sha256(), capture.loss()), (None, None));
    assert!(capture.tag().is_some());
    std::fs::set_permissions(capture.path(), Permissions::from_mode(0o600)).unwrap();
    let mut file = File::options().append(true).open(capture.path()).unwrap();
    file.write_all(b"X").unwrap();
    assert_eq!(readable(&ended), [(false, Some(Loss::Changed)); 2]);
}

#[test]
fn captures_of_many_simultaneous_ends_are_all_hashed() {
    let mut harness = EngineHarness::new(options());
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = format!("{}; read -r < {}", super::write_numbers(70_000), go.display());
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let ids: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    let proc = sh(&script, json!([["stdout", {"capture": {}}]]));
    harness.launch(Value::Object(ids.iter().map(|id| (id.clone(), proc.clone())).collect()));
    for id in &ids {
        harness.pid(id);
    }
    // One line for each, as they open it.
    let mut fifo = File::options().read(true).write(true).open(&go).unwrap();
    fifo.write_all("\n".repeat(ids.len()).as_bytes()).unwrap();
    for id in &ids {
        harness.end(id);
    }
    for id in &ids {
        let capture = capture(&harness.ended[id].captures, "stdout");
        let recorded = capture.sha256().map(|sha256| sha256.to_string());
        assert_eq!(recorded, Some(sha256(super::numbers(70_000))), "{id}");
    }
}
