//! The order and times of the chunks of output.

use serde_json::{Value, json};

use crate::support::engine::*;
use crate::support::wait::eventually;

fn fds(more: &Value) -> Value {
    let capture = |more: &Value| {
        let mut capture = json!({"mode": "memory", "chunk_times": true});
        for (key, value) in more.as_object().unwrap() {
            capture[key] = value.clone();
        }
        json!({"capture": capture})
    };
    json!([["stdout", capture(more)], ["stderr", capture(more)]])
}

/// Interleaves the outputs of both fds in the order of their chunks.
fn interleaved(ended: &procstar::engine::Ended) -> String {
    let mut text = String::new();
    for (_, fd, offset, length) in ended.captures.chunk_times().unwrap() {
        let bytes = output(&ended.captures, &fd.to_string());
        let part = &bytes[offset as usize..(offset + length) as usize];
        text.push_str(std::str::from_utf8(part).unwrap());
    }
    text
}

#[test]
fn chunk_times_interleave_both_fds_in_the_order_of_writing() {
    // A pause, so that the engine reads each chunk before the next one is written.
    let script =
        "for i in 1 2 3 4 5 6 7 8; do echo out$i; sleep 0.03; echo err$i >&2; sleep 0.03; done";
    let (ended, harness) = run(sh(script, fds(&json!({}))));
    let wanted: String = (1..=8).map(|i| format!("out{i}\nerr{i}\n")).collect();
    assert_eq!(interleaved(&ended), wanted);
    let chunks = ended.captures.chunk_times().unwrap();
    assert_eq!(chunks.len(), 16);
    let start = ended.start.monotonic_nanos;
    let times: Vec<u64> = chunks.iter().map(|(time, ..)| time - start).collect();
    // Each chunk is read after its writing; on a busy machine, much later.
    let pauses = (0..).map(|n| n * 30_000_000);
    assert!(times.is_sorted() && times.iter().zip(pauses).all(|(at, n)| *at >= n), "{times:?}");
    harness.engine.forget("a".into());
    eventually("no file of ours", || harness.files() == 0);
}

#[test]
fn chunk_times_cover_the_whole_output() {
    let script = "for i in {1..300}; do echo $i; echo $i >&2; done; head -c 3000000 /dev/zero";
    for more in [json!({}), json!({"keep": {"head": 10, "tail": 10}})] {
        let (ended, _harness) = run(sh(script, fds(&more)));
        let mut ends = std::collections::HashMap::new();
        for (_, fd, offset, length) in ended.captures.chunk_times().unwrap() {
            let end = ends.entry(fd).or_insert(0);
            assert_eq!(*end, offset);
            *end += length;
        }
        for (fd, capture) in ended.captures.iter() {
            let size = capture.unwrap().size();
            assert_eq!(ends[&fd], size.length + size.dropped);
        }
    }
    let (ended, _harness) = run(sh("echo", json!([["stdout", {"capture": {}}]])));
    assert!(ended.captures.chunk_times().is_none());
}

/// Capture writers write these files, and record the times.
#[test]
fn named_files_have_chunk_times() {
    let dir = tempfile::tempdir().unwrap();
    let mut fds = fds(&json!({}));
    for (i, fd) in fds.as_array_mut().unwrap().iter_mut().enumerate() {
        fd[1]["capture"]["file"] = json!({"path": dir.path().join(i.to_string())});
    }
    let script = "for i in 1 2 3; do echo out$i; sleep 0.2; echo err$i >&2; sleep 0.2; done";
    let (ended, _harness) = run(sh(script, fds));
    assert_eq!(interleaved(&ended), "out1\nerr1\nout2\nerr2\nout3\nerr3\n");
}
