//! Output whose file changes after the end of its process: no response contains its bytes or its
//! tag.

use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};

use serde_json::{Value, json};

use super::harness::TestServer;
use crate::support::engine::sh;

const DATA: &str = "/procs/a/output/stdout/data";

/// The output file of process `a`, which prints its path.
fn file_of(server: &TestServer) -> std::path::PathBuf {
    let result = server.ended("/procs/a");
    std::path::PathBuf::from(result["fds"]["stderr"]["text"].as_str().unwrap().trim_end())
}

fn change(path: &std::path::Path) {
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    File::options().write(true).open(path).unwrap().write_all_at(b"X", 20).unwrap();
}

#[test]
fn a_change_after_the_end_is_an_error_everywhere() {
    for count in [100, 100_000] {
        let server = TestServer::new();
        let script = format!("readlink /proc/$$/fd/1 >&2; head -c {count} /dev/zero | tr '\\0' x");
        let text = json!({"capture": {"encoding": "utf-8"}});
        let fds = json!([["stdout", text], ["stderr", text]]);
        let other = sh("echo other", json!([["stdout", text]]));
        server.post(&json!({"a": sh(&script, fds), "b": other})).data();
        server.ended("/procs/b");
        let path = file_of(&server);
        let before = server.ask("GET", DATA);
        assert_eq!((before.status, before.body.len()), (200, count));
        let tag = before.header("etag").unwrap().to_owned();
        let weak = server.ask("GET", "/procs/a").header("etag").unwrap().to_owned();
        let result = server.ended("/procs/a");
        assert_eq!(result["captures"]["stdout"]["complete"], true);
        let sha256 = result["captures"]["stdout"]["sha256"].clone();
        assert!(tag.contains(sha256.as_str().unwrap()), "{tag}");
        change(&path);
        for headers in [
            &[][..],
            &[("Range", "bytes=0-4")],
            &[("If-None-Match", tag.as_str())],
            &[("Range", "bytes=0-4"), ("If-Range", tag.as_str())],
        ] {
            let answer = server.send("GET", DATA, headers, b"");
            assert_eq!(answer.status, 410, "{headers:?}");
            let text = String::from_utf8(answer.body).unwrap();
            assert!(text.contains("captured output was changed: stdout of a"), "{text}");
        }
        assert_eq!(server.ask("GET", "/procs/a/output/stdout/follow").status, 410);
        let answer = server.send("GET", "/procs/a", &[("If-None-Match", weak.as_str())], b"");
        assert_eq!(answer.status, 200, "the result has changed");
        let result = &answer.data()["procs"]["a"];
        let report = &result["captures"]["stdout"];
        assert_eq!((&report["complete"], &report["reason"]), (&json!(false), &json!("changed")));
        assert_eq!(report["sha256"], sha256, "as it was at the end");
        assert_eq!(result["fds"]["stdout"]["text"], "");
        // Other processes are listed unchanged.
        let list: Value = server.ask("GET", "/procs?output=tail").data();
        assert_eq!(list["procs"]["b"]["fds"]["stdout"]["text"], "other\n");
        assert_eq!(list["procs"]["a"]["fds"]["stdout"]["text"], "");
    }
}
