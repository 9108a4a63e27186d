//! Captures that a process has extended by `truncate`: their size in results is bounded, and holes
//! cost nothing.

use procstar::report::{
    AsOf, OutputView, ProcessRecord, ResultContext, ResultFormat, ResultStream,
};
use procstar::sampler::ProcReader;
use serde_json::{Value, json};

use crate::support::engine::{run, sh};

const TERABYTES: u64 = 10 << 40;

fn made(mut stream: ResultStream) -> Vec<u8> {
    let mut out = Vec::new();
    while stream.fill(&mut out).unwrap() {}
    out
}

fn record(
    script: &str,
    encoding: &Value,
) -> (ProcessRecord, crate::support::engine::EngineHarness) {
    let fds = json!([["stdout", {"capture": {"encoding": encoding}}]]);
    let (ended, harness) = run(sh(script, fds));
    (ProcessRecord::of_end(ended), harness)
}

fn context(max_inline: u64) -> ResultContext {
    ResultContext::new(ProcReader::default()).with_max_inline(max_inline)
}

#[test]
fn results_in_both_formats_contain_the_length_and_a_notice() {
    for encoding in [json!("utf-8"), json!("base64"), json!("base2048")] {
        let (record, _harness) = record("truncate -s 10T /dev/stdout; printf end", &encoding);
        let context = context(1 << 30);
        let stream =
            |format| made(ResultStream::new(&record, AsOf::Now, &context, format).unwrap());
        let packed: Value = rmp_serde::from_slice(&stream(ResultFormat::MessagePack)).unwrap();
        let json: Value = serde_json::from_slice(&stream(ResultFormat::Json)).unwrap();
        let length = TERABYTES - 16 + 3;
        for result in [packed, json] {
            let shown = json!({"type": "detached", "length": length, "encoding": encoding});
            assert_eq!(result["fds"]["stdout"], shown);
            assert_eq!(result["captures"]["stdout"]["length"], length);
            let notice = result["warnings"][0].as_str().unwrap();
            assert!(notice.starts_with("the output of stdout, 10995116277747 bytes,"), "{notice}");
        }
    }
}

#[test]
fn a_tail_contains_no_more_than_a_result_may() {
    let (record, _harness) = record("truncate -s 10T /dev/stdout; printf end", &json!("utf-8"));
    let json = ResultStream::json(&record, &context(5), OutputView::Tail(u64::MAX)).unwrap();
    let json: Value = serde_json::from_slice(&made(json)).unwrap();
    assert_eq!(json["fds"]["stdout"]["text"], "\0\0end");
    assert_eq!(json["offsets"]["stdout"], TERABYTES - 16 - 2);
}

/// MessagePack needs the length of a text: it equals that of reading the hole, which cuts a
/// character off.
#[test]
fn a_hole_counts_as_the_zeros_that_it_is() {
    let script = "printf 'a\\303'; truncate -s 20M /dev/stdout; printf '\\244z'";
    let (record, _harness) = record(script, &json!("utf-8"));
    let stream =
        ResultStream::new(&record, AsOf::Now, &context(1 << 30), ResultFormat::MessagePack);
    let packed: Value = rmp_serde::from_slice(&made(stream.unwrap())).unwrap();
    let text = packed["fds"]["stdout"]["text"].as_str().unwrap();
    let zeros = (20 << 20) - 16 - 2;
    assert_eq!(text, format!("a\u{fffd}{}\u{fffd}z", "\0".repeat(zeros)));
}
