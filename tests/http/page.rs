//! The files of the page and their headers.

use std::io::Read;

use super::harness::TestServer;

/// The files to which a text of the page refers.
fn named(text: &str) -> Vec<String> {
    let ends = |part: &str| part.split('"').next().unwrap().to_owned();
    let named = text.split("\"/ui/").skip(1).chain(text.split("\"./").skip(1));
    named.map(ends).collect()
}

/// Each file to which the page refers exists, with its type and a strict security policy.
#[test]
fn the_page_and_all_its_files() {
    let server = TestServer::new();
    let mut todo = vec!["/".to_owned()];
    let mut seen = Vec::new();
    while let Some(path) = todo.pop() {
        if seen.contains(&path) {
            continue;
        }
        let answer = server.ask("GET", &path);
        assert_eq!(answer.status, 200, "{path}");
        let kind = answer.header("content-type").unwrap();
        assert_eq!(
            kind,
            match path.rsplit_once('.') {
                None => "text/html; charset=utf-8",
                Some((_, "js")) => "text/javascript; charset=utf-8",
                Some((_, "css")) => "text/css; charset=utf-8",
                Some((_, "svg")) => "image/svg+xml",
                other => panic!("{other:?}"),
            }
        );
        let policy = answer.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|found| found == part), "{part}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
        assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        let text = String::from_utf8(answer.body).unwrap();
        todo.extend(named(&text).into_iter().map(|name| format!("/ui/{name}")));
        seen.push(path);
    }
    assert!(seen.len() > 15 && seen.contains(&"/ui/text.js".to_owned()), "{seen:?}");
    // Other responses may load nothing.
    for path in ["/procs", "/status", "/openapi.json", "/procs/x", "/nowhere", "/ui/nothing.js"] {
        let answer = server.ask("GET", path);
        let policy = answer.header("content-security-policy");
        assert_eq!(policy, Some("default-src 'none'; frame-ancestors 'none'"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
}

#[test]
fn tags_and_codings() {
    let server = TestServer::new();
    for path in ["/", "/ui/style.css", "/ui/app.js"] {
        let plain = server.ask("GET", path);
        let tag = plain.header("etag").unwrap().to_owned();
        assert_eq!(plain.header("vary"), Some("Accept-Encoding"));
        assert_eq!(plain.header("content-encoding"), None);
        let packed = server.send("GET", path, &[("Accept-Encoding", "gzip, br")], b"");
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert!(packed.body.len() < plain.body.len());
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(&*packed.body).read_to_end(&mut text).unwrap();
        assert!(text == plain.body, "{path}");
        let packed_tag = packed.header("etag").unwrap().to_owned();
        assert!(tag.starts_with('"') && packed_tag != tag, "{tag} {packed_tag}");

        for (coding, tag, answer) in [("identity", &tag, &plain), ("gzip", &packed_tag, &packed)] {
            let coding = ("Accept-Encoding", coding);
            let head = server.send("HEAD", path, &[coding], b"");
            assert_eq!((head.status, head.body.len()), (200, 0));
            let length = answer.body.len().to_string();
            assert_eq!(head.header("content-length"), Some(&*length));
            for name in ["content-type", "content-encoding", "etag", "content-security-policy"] {
                assert_eq!(head.header(name), answer.header(name), "{name}");
            }
            for (known, status) in [
                (tag.clone(), 304),
                (format!("W/{tag}"), 304),
                (format!("\"other\", {tag}"), 304),
                ("*".to_owned(), 304),
                ("\"other\"".to_owned(), 200),
            ] {
                for method in ["GET", "HEAD"] {
                    let known = ("If-None-Match", &*known);
                    let answer = server.send(method, path, &[coding, known], b"");
                    assert_eq!(answer.status, status, "{method} {known:?}");
                    assert_eq!(answer.header("etag"), Some(&**tag));
                    assert!(status == 200 || answer.body.is_empty());
                }
            }
        }
        let neither = [("Accept-Encoding", "br, *;q=0")];
        assert_eq!(server.send("GET", path, &neither, b"").problem(406).len(), 1);
    }
}

#[test]
fn unknown_files_and_other_methods_of_the_page_are_rejected() {
    let server = TestServer::new();
    for name in ["nothing.js", "..%2Fmod.rs", "%2E%2E", "", "App.js", "index.html%00"] {
        let problems = server.ask("GET", &format!("/ui/{name}")).problem(404);
        assert!(problems[0].starts_with("the page has no file "), "{problems:?}");
    }
    for path in ["/", "/ui/app.js"] {
        for method in ["POST", "PUT", "DELETE"] {
            let answer = server.ask(method, path);
            assert_eq!(answer.header("allow"), Some("GET, HEAD"));
            answer.problem(405);
        }
    }
    // The service ignores a query, which only the page uses.
    assert_eq!(server.ask("GET", "/?anything=1").status, 200);
    assert!(server.ask("GET", "/").body.starts_with(b"<!doctype html>"));
}
