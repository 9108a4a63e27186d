//! Captured bytes by range, in every content coding, cut between characters, and during the run.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::client::Client;
use super::harness::TestServer;
use crate::support::engine::sh;
use crate::support::wait::eventually;

const PATH: &str = "/procs/a/output/stdout/data";
const FOLLOW: &str = "/procs/a/output/stdout/follow";

fn capture(mode: &str, encoding: &Value) -> Value {
    json!([["stdout", {"capture": {"mode": mode, "encoding": encoding}}]])
}

/// A process that copies a FIFO to its output, until the FIFO is closed.
struct Writer {
    fifo: PathBuf,
    end: Option<File>,
    _dir: tempfile::TempDir,
}

impl Writer {
    fn start(server: &TestServer, mode: &str, encoding: &Value) -> Writer {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = format!("exec cat < {}", fifo.display());
        server.post(&json!({"a": sh(&script, capture(mode, encoding))})).data();
        let end = Some(File::options().write(true).open(&fifo).unwrap());
        Writer { fifo, end, _dir: dir }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.end.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn close(&mut self) {
        self.end = None;
    }

    fn path(&self) -> &Path {
        &self.fifo
    }
}

fn until_length(server: &TestServer, length: usize) {
    let length = length.to_string();
    eventually(&format!("{length} bytes"), || {
        server.ask("HEAD", PATH).header("content-length") == Some(&*length)
    });
}

/// Numbers, one per line.
fn numbers(count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| format!("{n}\n").into_bytes()).collect()
}

#[test]
fn ranges_while_written_and_after() {
    for mode in ["tempfile", "memory"] {
        let server = TestServer::new();
        let mut writer = Writer::start(&server, mode, &Value::Null);
        assert_eq!(writer.path().file_name().unwrap(), "fifo");
        let mut written = Vec::new();
        let all = numbers(10_000);
        for (i, piece) in all.chunks(all.len() / 2 + 1).enumerate() {
            writer.write(piece);
            written.extend_from_slice(piece);
            until_length(&server, written.len());
            ranges(&server, &written);
            if i == 1 {
                writer.close();
                server.until_ended("/procs/a");
                ranges(&server, &written);
            }
        }
    }
}

/// Checks valid and invalid ranges of these bytes.
fn ranges(server: &TestServer, bytes: &[u8]) {
    let length = bytes.len();
    for (range, part) in [
        ("0-0".to_owned(), 0..1),
        ("7-99".to_owned(), 7..100),
        (format!("{}-", length - 3), length - 3..length),
        ("-5".to_owned(), length - 5..length),
        (format!("-{}", length * 2), 0..length),
        (format!("5-{}", length * 2), 5..length),
        ("100-40000".to_owned(), 100..length.min(40_001)),
    ] {
        let headers = [("Range", &*format!("bytes={range}")), ("Accept-Encoding", "gzip")];
        let answer = server.send("GET", PATH, &headers, b"");
        assert_eq!(answer.status, 206, "{range}");
        assert!(answer.body == bytes[part.clone()], "{range}");
        let told = format!("bytes {}-{}/{length}", part.start, part.end - 1);
        assert_eq!(answer.header("content-range"), Some(&*told));
        assert_eq!(answer.header("content-encoding"), None);
        let head = server.send("HEAD", PATH, &headers, b"");
        // HEAD ignores ranges; see `semantics`.
        assert_eq!((head.status, head.header("content-range")), (200, None));
    }
    for range in [format!("{length}-"), "-0".to_owned(), "99999999999999999999-".to_owned()] {
        let answer = server.send("GET", PATH, &[("Range", &*format!("bytes={range}"))], b"");
        assert_eq!(answer.header("content-range"), Some(&*format!("bytes */{length}")));
        answer.errors(416);
    }
    for range in ["bytes=0-1,3-4", "bytes=5-2", "lines=1-2", "bytes=x", ""] {
        let answer = server.send("GET", PATH, &[("Range", range)], b"");
        assert!(answer.status == 200 && answer.body == bytes, "{range}");
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    }
}

#[test]
fn a_range_with_an_outdated_tag_returns_the_whole_output() {
    let server = TestServer::new();
    let mut writer = Writer::start(&server, "tempfile", &Value::Null);
    writer.write(b"abc");
    until_length(&server, 3);
    assert_eq!(server.ask("GET", PATH).header("etag"), None);
    writer.close();
    server.until_ended("/procs/a");
    let tag = server.ask("GET", PATH).header("etag").unwrap().to_owned();
    for (known, status, body) in [(&*tag, 206, &b"b"[..]), ("\"other\"", 200, b"abc")] {
        let headers = [("Range", "bytes=1-1"), ("If-Range", known)];
        let answer = server.send("GET", PATH, &headers, b"");
        assert_eq!((answer.status, &*answer.body), (status, body), "{known}");
    }
}

pub fn decode(coding: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        None => out.extend_from_slice(body),
        Some("gzip") => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut out).unwrap()),
        Some("br") => drop(brotli::Decompressor::new(body, 4096).read_to_end(&mut out).unwrap()),
        Some("zstd") => out = zstd::stream::decode_all(body).unwrap(),
        Some(other) => panic!("{other}"),
    }
    out
}

#[test]
fn codings_while_written_and_after() {
    let server = TestServer::new();
    let mut writer = Writer::start(&server, "tempfile", &json!("utf-8"));
    let mut written = Vec::new();
    for _ in 0..2 {
        let piece = numbers(50_000);
        writer.write(&piece);
        written.extend_from_slice(&piece);
        until_length(&server, written.len());
        for (accept, coding) in [
            ("gzip", Some("gzip")),
            ("br", Some("br")),
            ("zstd", Some("zstd")),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("zstd;q=0.2, br;q=0.3, gzip;q=0.1", Some("br")),
            ("deflate", None),
            ("gzip;q=0", None),
            ("identity, gzip;q=0.5", None),
        ] {
            let headers = [("Accept-Encoding", accept)];
            let answer = server.send("GET", PATH, &headers, b"");
            assert_eq!(answer.header("content-encoding"), coding, "{accept}");
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
            assert!(decode(coding, &answer.body) == written, "{accept}");
            assert!(coding.is_none() || answer.body.len() < written.len() / 2, "{accept}");
            let head = server.send("HEAD", PATH, &headers, b"");
            assert_eq!(head.header("content-encoding"), coding, "{accept}");
        }
        server.send("GET", PATH, &[("Accept-Encoding", "*;q=0")], b"").errors(406);
    }
    writer.close();
    server.until_ended("/procs/a");
    let tag = |accept| {
        let answer = server.send("GET", PATH, &[("Accept-Encoding", accept)], b"");
        answer.header("etag").unwrap().to_owned()
    };
    let tags = [tag("gzip"), tag("br"), tag("zstd"), tag("identity")];
    assert!(tags.iter().all(|one| tags.iter().filter(|tag| *tag == one).count() == 1), "{tags:?}");
}

/// Small output, or output that does not compress.
#[test]
fn output_that_does_not_shrink_is_not_compressed() {
    let server = TestServer::new();
    for script in ["head -c 1000 /dev/zero", "head -c 100000 /dev/urandom"] {
        server.post(&json!({"a": sh(script, capture("tempfile", &Value::Null))})).data();
        server.until_ended("/procs/a");
        let answer = server.send("GET", PATH, &[("Accept-Encoding", "gzip, br, zstd")], b"");
        assert_eq!(answer.header("content-encoding"), None, "{script}");
        assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
        server.ask("DELETE", "/procs/a").data();
    }
}

#[test]
fn characters_are_not_split() {
    let server = TestServer::new();
    let mut writer = Writer::start(&server, "memory", &json!("utf-8"));
    // `ä` has two bytes, `€` three; only two bytes of the last one are written.
    writer.write(b"a\xc3\xa4\xe2\x82\xac!\xe2\x82");
    until_length(&server, 9);
    let ask = |range: &str| {
        let range = format!("bytes={range}");
        let headers: &[_] = if range == "bytes=" { &[] } else { &[("Range", &*range)] };
        server.send("GET", &format!("{PATH}?utf8=true"), headers, b"")
    };
    let check = |range: &str, body: &[u8], told: Option<&str>| {
        let answer = ask(range);
        assert_eq!((&*answer.body, answer.header("content-range")), (body, told), "{range}");
    };
    check("", b"a\xc3\xa4\xe2\x82\xac!", None);
    check("0-1", b"a", Some("bytes 0-0/9"));
    check("0-2", b"a\xc3\xa4", Some("bytes 0-2/9"));
    check("2-6", b"\xe2\x82\xac!", Some("bytes 3-6/9"));
    check("4-8", b"!", Some("bytes 6-6/9"));
    for range in ["1-1", "2-2", "4-5", "7-8"] {
        let answer = ask(range);
        assert_eq!(answer.header("content-range"), Some("bytes */9"), "{range}");
        assert_eq!(answer.errors(416), ["no whole character within the range"]);
    }
    writer.close();
    server.until_ended("/procs/a");
    // At the end of the output, the incomplete character is returned, too.
    check("", b"a\xc3\xa4\xe2\x82\xac!\xe2\x82", None);
    check("7-8", b"\xe2\x82", Some("bytes 7-8/9"));
    server.ask("GET", &format!("{PATH}?utf8=maybe")).errors(400);
}

fn follow(server: &TestServer, path: &str) -> (Client, String) {
    let mut client = server.client();
    client.request("GET", path, &[], b"");
    let head = client.head();
    assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
    let offset = head.header("procstar-offset").unwrap().to_owned();
    (client, offset)
}

/// Reads `length` bytes of followed output.
fn read(client: &mut Client, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        bytes.extend(client.chunk().expect("more bytes"));
    }
    bytes
}

#[test]
fn followers_receive_the_output_until_its_end() {
    for mode in ["tempfile", "memory"] {
        let server = TestServer::new();
        let mut writer = Writer::start(&server, mode, &Value::Null);
        let (mut first, offset) = follow(&server, FOLLOW);
        assert_eq!(offset, "0");
        for text in ["one ", "two ", "three"] {
            writer.write(text.as_bytes());
            assert_eq!(read(&mut first, text.len()), text.as_bytes(), "{mode}");
        }
        let (mut late, offset) = follow(&server, &format!("{FOLLOW}?from=-5"));
        assert_eq!((offset.as_str(), read(&mut late, 5)), ("8", b"three".to_vec()));
        let (mut ahead, offset) = follow(&server, &format!("{FOLLOW}?from=15"));
        assert_eq!(offset, "15");
        writer.write(b", four");
        assert_eq!(read(&mut first, 6), b", four");
        assert_eq!(read(&mut late, 6), b", four");
        assert_eq!(read(&mut ahead, 4), b"four");
        // Output of more than one block, then its end.
        let many = numbers(20_000);
        writer.write(&many);
        writer.close();
        for client in [&mut first, &mut late, &mut ahead] {
            assert!(read(client, many.len()) == many, "{mode}");
            assert_eq!(client.chunk(), None);
        }
        // After the end of the process, the response is complete at once.
        let (mut after, _) = follow(&server, &format!("{FOLLOW}?from=-6"));
        assert_eq!((read(&mut after, 6), after.chunk()), (b"19999\n".to_vec(), None));
        let (mut beyond, offset) = follow(&server, &format!("{FOLLOW}?from=99999999"));
        assert_eq!((offset.as_str(), beyond.chunk()), ("99999999", None));
    }
}

#[test]
fn followers_of_text_get_whole_characters() {
    let server = TestServer::new();
    let mut writer = Writer::start(&server, "tempfile", &json!("utf-8"));
    writer.write("ä€".as_bytes());
    until_length(&server, 5);
    let (mut client, offset) = follow(&server, &format!("{FOLLOW}?utf8=true&from=-4"));
    assert_eq!((offset.as_str(), read(&mut client, 3)), ("2", "€".as_bytes().to_vec()));
    writer.write(b"x\xe2\x82");
    assert_eq!(read(&mut client, 1), b"x");
    writer.write(b"\xac\xf0\x9f");
    assert_eq!(read(&mut client, 3), "€".as_bytes());
    writer.close();
    assert_eq!(read(&mut client, 2), b"\xf0\x9f");
    assert_eq!(client.chunk(), None);
}

/// A follower receives the whole output even if the process is deleted.
#[test]
fn followers_receive_the_whole_output_of_a_deleted_process() {
    let server = TestServer::new();
    let mut writer = Writer::start(&server, "tempfile", &Value::Null);
    let (mut client, _) = follow(&server, FOLLOW);
    let (gone, _) = follow(&server, FOLLOW);
    drop(gone);
    let many = numbers(200_000);
    writer.write(&many);
    writer.close();
    server.until_ended("/procs/a");
    server.ask("DELETE", "/procs/a").data();
    assert!(read(&mut client, many.len()) == many);
    assert_eq!(client.chunk(), None);
    server.ask("GET", FOLLOW).problem(404);
}

/// The service notices a disconnected client even without new output.
#[test]
fn the_connection_of_a_disconnected_follower_is_closed() {
    let server = TestServer::new();
    let _writer = Writer::start(&server, "tempfile", &Value::Null);
    let (mut client, _) = follow(&server, FOLLOW);
    client.finish();
    assert!(client.is_closed());
}

#[test]
fn requests_to_follow_other_fds_fail() {
    let server = TestServer::new();
    server.post(&json!({"a": sh("true", json!([["stdin", {"null": {}}]]))})).data();
    for fd in ["stdin", "stdout", "x"] {
        let detail = server.ask("GET", &format!("/procs/a/output/{fd}/follow")).problem(404);
        assert_eq!(detail, [format!("fd not captured: {fd} of a")]);
    }
    server.ask("GET", "/procs/b/output/stdout/follow").problem(404);
    server.ask("GET", "/procs/a/output/stdin/follow?from=x").problem(400);
    server.ask("GET", "/procs/a/output/stdin/follow?form=1").problem(400);
}
