//! The sources of secrets, and errors that never print one.

use std::io;

use procstar::config::keys::KEYS;
use procstar::config::{NEVER_INHERITED, Secret};

use super::harness::{FakeHost, SYSTEM};

/// 16 random bytes.
const STRONG: &str = "8ePqYiqbZ4AnXB2hWx8WQg";

#[test]
fn secrets_have_an_order_of_sources() {
    let agent = |host: &FakeHost| host.settings(&[]).agent.token.expose().to_owned();
    let mut host = FakeHost::default().file(SYSTEM, "agent.token = \"file\"");
    assert_eq!(agent(&host), "file");
    host = host.env("CREDENTIALS_DIRECTORY", "/cred");
    assert_eq!(agent(&host), "file");
    host = host.file("/cred/procstar-agent-token", "credential\n");
    assert_eq!(agent(&host), "credential");
    host = host.env("PROCSTAR_AGENT_TOKEN_FILE", "/t").file("/t", "secret file\r\n");
    assert_eq!(agent(&host), "secret file");
    host = host.env("PROCSTAR_AGENT_TOKEN", "direct");
    assert_eq!(agent(&host), "direct");
    host = host.env("PROCSTAR_AGENT_TOKEN_FILE", "/nowhere");
    assert_eq!(agent(&host), "direct", "what is not needed is not read");
    host = host.env("PROCSTAR_AGENT_TOKEN", "");
    assert_eq!(agent(&host), "", "an empty token is one");

    let host = FakeHost::default().env("CREDENTIALS_DIRECTORY", "/cred");
    let token = format!("{STRONG}\n");
    let http =
        host.file("/cred/procstar-http-token", format!("{token}\n")).settings(&[]).http.token;
    assert_eq!(http, Some(Secret::new(token)), "one newline is stripped");
}

#[test]
fn errors_about_secrets_do_not_contain_the_secret() {
    let file = |name: &str, text: &[u8]| FakeHost::default().env(name, "/t").file("/t", text);
    for (host, expected) in [
        (FakeHost::default().env("PROCSTAR_AGENT_TOKEN_FILE", "/t"), "PROCSTAR_AGENT_TOKEN_FILE: "),
        (file("PROCSTAR_HTTP_TOKEN_FILE", b"\n"), "PROCSTAR_HTTP_TOKEN_FILE: expected"),
        (file("PROCSTAR_HTTP_TOKEN_FILE", b"hunter2\xff"), "is not valid UTF-8"),
        (file("PROCSTAR_HTTP_TOKEN_FILE", b"hunter2\n"), "found another string of 42 bits at most"),
        (
            FakeHost::default().env("PROCSTAR_HTTP_TOKEN", "hunter2"),
            "environment variable PROCSTAR_HTTP_TOKEN: expected a token of at least 128 random bits, such as \
             `openssl rand -base64 24` prints, found",
        ),
        (
            FakeHost::default().file(SYSTEM, "http.token = \"hunter2\""),
            "http.token: expected a token of at least",
        ),
        (
            FakeHost::default()
                .env("CREDENTIALS_DIRECTORY", "/c")
                .failing("/c/procstar-agent-token", io::ErrorKind::PermissionDenied),
            "/c/procstar-agent-token",
        ),
        (FakeHost::default().file(SYSTEM, "agent.token = [\"hunter2\"]"), "agent.token: expected"),
        (FakeHost::default().file(SYSTEM, "agent.token = \"hunter2\" x"), ":1:25: "),
    ] {
        let text = host.refused(&["--exit"]);
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn secret_variables_are_all_listed() {
    for key in KEYS.iter().filter(|key| key.kind.is_secret()) {
        assert!(NEVER_INHERITED.contains(&key.variable));
        assert!(NEVER_INHERITED.contains(&format!("{}_FILE", key.variable).as_str()));
    }
    assert!(NEVER_INHERITED.contains(&"PROCSTAR_AGENT_KEY"));
}
