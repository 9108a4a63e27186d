//! Output that its job has extended to ten terabytes by `truncate`.

use serde_json::json;

use super::harness::TestServer;
use crate::support::engine::sh;

const PATH: &str = "/procs/a/output/stdout/data";

#[test]
fn ten_terabytes_are_detached_from_the_result_and_read_by_range() {
    let server = TestServer::new();
    // Written bytes at the beginning and the end, and a hole between them.
    let script = "printf first; truncate -s 10T /dev/stdout; printf last";
    let fds = json!([["stdout", {"capture": {"encoding": "utf-8"}}]]);
    server.post(&json!({"a": sh(script, fds)})).data();
    server.until_ended("/procs/a");
    let result = server.ended("/procs/a");
    let length = result["fds"]["stdout"]["length"].as_u64().unwrap();
    assert_eq!(length, (10 << 40) - 16 + 4);
    assert_eq!(result["fds"]["stdout"]["type"], "detached");
    assert!(result["warnings"][0].as_str().unwrap().contains("capture.max_inline"), "{result}");
    let data = server.ask("GET", "/procs?output=tail&tail=6").data();
    assert_eq!(data["procs"]["a"]["fds"]["stdout"]["text"], "\0\0last");
}

#[test]
fn ranges_of_a_sparse_capture_contain_written_bytes_and_zeros() {
    let server = TestServer::new();
    let script = "printf first; truncate -s 10T /dev/stdout; printf last";
    let fds = json!([["stdout", {"capture": {"encoding": null}}]]);
    server.post(&json!({"a": sh(script, fds)})).data();
    server.until_ended("/procs/a");
    let length: u64 = (10 << 40) - 16 + 4;
    let range = |range: String| {
        let answer =
            server.send("GET", PATH, &[("Range", &range), ("Accept-Encoding", "identity")], b"");
        assert_eq!(answer.status, 206, "{range}");
        answer.body
    };
    assert_eq!(range("bytes=0-6".into()), b"first\0\0");
    assert_eq!(range(format!("bytes={}-", length - 5)), b"\0last");
    assert_eq!(range("bytes=-4".into()), b"last");
    let middle = range(format!("bytes={}-{}", 5u64 << 40, (5u64 << 40) + 99_999));
    assert!(middle.len() == 100_000 && middle.iter().all(|byte| *byte == 0));
    // A compressed response would be small for the client, and endless work for the service.
    let answer = server.send("HEAD", PATH, &[("Accept-Encoding", "gzip, identity;q=0.5")], b"");
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(server.ask("HEAD", PATH).header("content-length"), Some(&*length.to_string()));
}
