//! Captures that an engine hands over to another one while they grow.

use procstar::engine::{Engine, EngineOptions, Event};
use proptest::prelude::*;
use serde_json::json;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::support::engine::*;
use crate::support::wait::DEADLINE;

/// The captures of this test, and the part of `n` bytes that each keeps.
fn kinds(dir: &std::path::Path) -> Vec<(serde_json::Value, usize, usize)> {
    let all = usize::MAX;
    vec![
        (json!({"mode": "memory"}), all, 0),
        (json!({"mode": "tempfile"}), all, 0),
        (json!({"mode": "memory", "keep": {"head": 1000, "tail": 100_000}}), 1000, 100_000),
        (json!({"mode": "tempfile", "keep": {"tail": 5000}, "chunk_times": true}), 0, 5000),
        (json!({"mode": "memory", "compress": "zstd"}), all, 0),
        (json!({"mode": "tempfile", "compress": "gzip", "keep": {"head": 70_000}}), 70_000, 0),
        (
            json!({"mode": "memory", "keep": {"head": 9, "tail": 9},
            "file": {"path": dir.join("named")}}),
            9,
            9,
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// At a random moment, in the format of an upgrade: no byte is lost or duplicated.
    #[test]
    fn nothing_is_lost(moments in prop::collection::vec(0u64..80, 1..4)) {
        let dir = tempfile::tempdir().unwrap();
        let kinds = kinds(dir.path());
        let mut fds = vec![];
        let mut script = String::new();
        for (i, (capture, ..)) in kinds.iter().enumerate() {
            fds.push(json!([(i + 3).to_string(), {"capture": capture}]));
            script.push_str(&format!("(seq 0 30000; sleep 0.1; seq 30001 60000) >&{} & ", i + 3));
        }
        script.push_str("wait; exit 3");
        let mut harness = EngineHarness::new(options());
        harness.launch(json!({"a": sh(&script, fds.into())}));
        harness.pid("a");
        let (tell, told) = mpsc::channel();
        let mut engines: Vec<Engine> = Vec::new();
        for moment in moments {
            std::thread::sleep(Duration::from_millis(moment));
            let current = engines.last().unwrap_or(&harness.engine);
            let (handover, standstill) = current.quiesce(DEADLINE).unwrap();
            // It stays paused for ever, as if it had become another program.
            std::mem::forget(standstill);
            let options = EngineOptions { capture_dirs: harness.capture_dirs(), ..options() };
            let next = resume(options, &handover, tell.clone());
            engines.push(next);
        }
        // A process that ended before the first pause was reported to the harness.
        let ended = loop {
            match told.recv_timeout(DEADLINE).unwrap() {
                Event::Ended(ended) => break ended,
                _ => continue,
            }
        };
        prop_assert_eq!(ended.status, 3 << 8);
        prop_assert!(ended.cut_short.is_empty(), "{:?}", ended.cut_short);
        let whole: Vec<u8> = (0..=60_000).flat_map(|i| format!("{i}\n").into_bytes()).collect();
        for (i, (capture, head, tail)) in kinds.iter().enumerate() {
            let head = (*head).min(whole.len());
            let tail = (*tail).min(whole.len() - head);
            let kept = [&whole[..head], &whole[whole.len() - tail..]].concat();
            let found = super::capture(&ended.captures, &(i + 3).to_string());
            prop_assert_eq!(found.size().dropped, (whole.len() - kept.len()) as u64, "{}", capture);
            prop_assert!(all(found.view().unwrap()) == kept, "{}", capture);
        }
        let named = std::fs::read(dir.path().join("named")).unwrap();
        prop_assert!(named == [&whole[..9], &whole[whole.len() - 9..]].concat());
    }
}
