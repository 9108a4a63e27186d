//! Captures with `keep`: only the beginning and the end of the output are stored.

use procstar::engine::{Captures, EngineOptions};
use procstar::spec::KeepSpec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::support::engine::*;

/// The part of `all` that a limit keeps.
fn model(all: &[u8], head: Option<u64>, tail: Option<u64>) -> Vec<u8> {
    let head = (head.unwrap_or(0) as usize).min(all.len());
    let tail = (tail.unwrap_or(0) as usize).min(all.len() - head);
    [&all[..head], &all[all.len() - tail..]].concat()
}

fn limited(mode: &str, head: Option<u64>, tail: Option<u64>) -> serde_json::Value {
    json!({"capture": {"mode": mode, "keep": {"head": head, "tail": tail}}})
}

#[test]
fn heads_and_tails_of_every_size() {
    let sizes = [0, 1, 100, 65_536, 1_500_000];
    let ends = [None, Some(0), Some(10), Some(70_000), Some(1 << 20), Some(u64::MAX)];
    for mode in ["memory", "tempfile"] {
        let mut harness = EngineHarness::new(options());
        let mut specs = serde_json::Map::new();
        for size in sizes {
            for (h, head) in ends.into_iter().enumerate() {
                for (t, tail) in ends.into_iter().enumerate() {
                    if head.is_some() || tail.is_some() {
                        let fds = json!([["stdout", limited(mode, head, tail)]]);
                        let id = format!("{size} {h} {t}");
                        specs.insert(id, sh(&write_numbers(size), fds));
                    }
                }
            }
        }
        harness.launch(specs.clone().into());
        for id in specs.keys() {
            let parts: Vec<usize> = id.split(' ').map(|n| n.parse().unwrap()).collect();
            let (head, tail) = (ends[parts[1]], ends[parts[2]]);
            let whole = numbers(parts[0]);
            let kept = model(whole, head, tail);
            let ended = harness.end(id);
            let capture = capture(&ended.captures, "stdout");
            let size = capture.size();
            assert_eq!(
                (size.length, size.dropped),
                (kept.len() as u64, (whole.len() - kept.len()) as u64),
                "{mode} {head:?} {tail:?} of {}",
                whole.len()
            );
            assert!(all(capture.view().unwrap()) == kept, "{mode} {head:?} {tail:?}");
            assert!(ended.cut_short.is_empty());
        }
    }
}

#[test]
fn the_default_limit_is_for_specs_without_one() {
    let limit = KeepSpec { head: Some(5), tail: Some(3) };
    let mut harness = EngineHarness::new(EngineOptions { limit, ..options() });
    let other = json!({"capture": {"keep": {"head": 100}}});
    harness.launch(json!({
        "default": sh("echo -n 0123456789abcdef", json!([["stdout", {"capture": {}}]])),
        "own": sh("echo -n 0123456789abcdef", json!([["stdout", other]])),
        "packed": sh("echo -n 0123456789abcdef",
            json!([["stdout", {"capture": {"compress": "gzip"}}]])),
    }));
    for (id, kept) in [("default", "01234def"), ("own", "0123456789abcdef"), ("packed", "01234567")]
    {
        let ended = harness.end(id);
        assert_eq!(text(ended, "stdout"), kept);
        let dropped = capture(&ended.captures, "stdout").size().dropped;
        assert_eq!(dropped, 16 - kept.len() as u64);
    }
}

/// The file never exceeds the kept bytes by more than a mebibyte.
#[test]
fn of_a_gigabyte_only_the_limit_is_stored() {
    let mut harness = EngineHarness::new(options());
    const MIB: u64 = 1 << 20;
    let fds = json!([["stdout", limited("memory", Some(MIB), Some(MIB))]]);
    harness.launch(json!({"a": sh("head -c 1073741824 /dev/zero; echo end", fds)}));
    let ended = harness.end("a");
    let capture = capture(&ended.captures, "stdout");
    let size = capture.size();
    assert_eq!((size.length, size.dropped), (2 * MIB, (1 << 30) + 4 - 2 * MIB));
    assert!(all(capture.view().unwrap()).ends_with(b"\0end\n"));
    assert!(std::fs::metadata(capture.path()).unwrap().len() <= 3 * MIB);
}

/// The beginning and the end of a view belong to the same moment. The reader has its own copy of
/// the capture, as in another process.
#[test]
fn each_view_is_a_consistent_snapshot() {
    let mut harness = EngineHarness::new(options());
    const HEAD: u64 = 1000;
    const TAIL: u64 = 300_000;
    let fds = json!([["stdout", limited("memory", Some(HEAD), Some(TAIL))]]);
    let count = 4_000_000;
    // Lines of 10 bytes, each with its number.
    harness.launch(json!({"a": sh(&format!("seq -f %09.0f 0 {}", count - 1), fds)}));
    harness.pid("a");
    let encoded = rmp_serde::to_vec(&*harness.started["a"].captures).unwrap();
    let share: Captures = rmp_serde::from_slice(&encoded).unwrap();
    let capture = capture(&share, "stdout");
    let line = |n: u64| format!("{n:09}\n").into_bytes();
    let mut views = 0;
    let mut last = 0;
    while last < count * 10 {
        let view = capture.view().unwrap();
        let length = view.len();
        let bytes = all(view);
        assert_eq!(bytes.len() as u64, length);
        let (head, tail) = bytes.split_at(bytes.len().min(HEAD as usize));
        let wanted: Vec<u8> = (0..HEAD / 10).flat_map(line).collect();
        assert!(wanted.starts_with(head));
        // From the first whole line to the last one, each number is the previous one plus 1.
        let begin = tail.iter().position(|b| *b == b'\n').map_or(tail.len(), |at| at + 1);
        let lines: Vec<u64> = tail[begin..]
            .chunks_exact(10)
            .map(|line| std::str::from_utf8(&line[..9]).unwrap().parse().unwrap())
            .collect();
        assert!(lines.windows(2).all(|pair| pair[1] == pair[0] + 1), "a view of two moments");
        if let Some(newest) = lines.last() {
            assert!((newest + 1) * 10 >= last, "a later view contains less");
            last = (newest + 1) * 10;
            assert!(last < HEAD + TAIL + 10 || tail.len() as u64 > TAIL - 300_000);
        }
        views += 1;
    }
    assert!(views > 1);
    harness.end("a");
    assert_eq!(capture.len(), HEAD + TAIL);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Random limits and writes, by changing writers: the kept bytes are those of the model.
    #[test]
    fn random_limits(
        head in prop::option::of(0u64..200_000),
        tail in prop::option::of(0u64..200_000),
        writes in prop::collection::vec(0usize..150_000, 1..8),
    ) {
        prop_assume!(head.is_some() || tail.is_some());
        let mut script = String::new();
        let mut whole = Vec::new();
        for length in writes {
            script.push_str(&format!("({}); ", write_numbers(length)));
            whole.extend(numbers(length));
        }
        let (ended, _harness) = run(sh(&script, json!([["stdout", limited("memory", head, tail)]])));
        let capture = capture(&ended.captures, "stdout");
        let kept = model(&whole, head, tail);
        prop_assert_eq!(capture.size().dropped, (whole.len() - kept.len()) as u64);
        prop_assert!(all(capture.view().unwrap()) == kept);
        // By a range, too.
        let mut view = capture.view().unwrap();
        for at in [0, kept.len() / 3, kept.len().saturating_sub(1), kept.len()] {
            let mut buf = vec![0; 5];
            let n = view.read_at(at as u64, &mut buf).unwrap();
            prop_assert!(n > 0 || at == kept.len());
            prop_assert_eq!(&buf[..n], &kept[at..at + n]);
        }
    }
}
