//! `procstar ui`: opens the page's URL, with its code, in a browser, or prints it.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::harness::{Instance, Ran, procstar};
use crate::support::wait::eventually;

/// Writes a fake browser that records its arguments and exits with this code.
fn browser(instance: &Instance, name: &str, code: i32) -> String {
    let path = instance.dir.path().join(name);
    let script =
        format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > {}.args\nexit {code}\n", path.display());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn noted(path: &str) -> String {
    std::fs::read_to_string(format!("{path}.args")).unwrap()
}

fn ui(instance: &Instance, args: &[&str], env: &[(&str, &str)]) -> Ran {
    let mut command = instance.command(&["ui"]);
    Ran::of(command.args(args).envs(env.iter().copied()).output().unwrap())
}

/// Host, port and code of a URL.
fn parts(url: &str) -> (String, String, String) {
    let rest = url.trim_end().strip_prefix("http://").unwrap();
    let (authority, code) = rest.split_once("/#session=").unwrap();
    let (host, port) = authority.rsplit_once(':').unwrap();
    (host.to_owned(), port.to_owned(), code.to_owned())
}

/// What a browser is answered that sends this to a host of this machine.
fn fetch(url: &str, path: &str, body: &Value, session: &str) -> (String, Value) {
    let (host, port, _) = parts(url);
    let output = std::process::Command::new("curl")
        .args(["-s", "-w", "%{http_code}", "-H", "Content-Type: application/json"])
        .args([
            "-H",
            "Sec-Fetch-Site: same-origin",
            "-H",
            "Sec-Fetch-Mode: cors",
            "-H",
            "Sec-Fetch-Dest: empty",
        ])
        .args([
            "-H",
            &format!("Host: {host}:{port}"),
            "-H",
            &format!("Origin: http://{host}:{port}"),
        ])
        .args(["-H", &format!("Procstar-Session: {session}"), "-d", &body.to_string()])
        .arg(format!("http://127.0.0.1:{port}{path}"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.split_at(text.len() - 3);
    (
        status.to_owned(),
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}")),
    )
}

#[test]
fn the_url_opens_a_session_once() {
    let instance = Instance::new();
    let url = ui(&instance, &["--print"], &[("BROWSER", "/bin/false")]).good();
    let (host, _, code) = parts(&url);
    let label = host.strip_suffix(".localhost").unwrap();
    assert!(label.len() == 62 && label.bytes().all(|b| b.is_ascii_hexdigit()), "{url}");
    assert_eq!(code.len(), 32, "128 bits");
    let spec = json!({"specs": {"a": {"argv": ["/bin/true"]}}});
    let (status, refused) = fetch(&url, "/procs", &spec, "");
    assert_eq!(status, "403", "{refused}");
    let (status, traded) = fetch(&url, "/sessions", &json!({ "code": code }), "");
    assert_eq!((status.as_str(), &traded["data"]["expires_in"]), ("200", &json!(86_400)));
    let session = traded["data"]["session"].as_str().unwrap();
    assert_eq!(fetch(&url, "/procs", &spec, session).0, "200");
    let (status, again) = fetch(&url, "/sessions", &json!({ "code": code }), "");
    assert_eq!(status, "403");
    assert!(again["detail"].as_str().unwrap().contains("run `procstar ui` again"), "{again}");
    // The session is for its own address, and holds for a later worker.
    let other = ui(&instance, &["--print"], &[]).good();
    assert_ne!(parts(&other).0, host);
    let (status, refused) = fetch(&other, "/procs", &spec, session);
    assert_eq!(status, "403", "{refused}");
    let worker = instance.worker_pid();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    let spec = json!({"specs": {"b": {"argv": ["/bin/true"]}}});
    eventually("another worker", || instance.worker_pid() != worker);
    // It may have another port.
    let port = parts(&ui(&instance, &["--print"], &[]).good()).1;
    let url = format!("http://{host}:{port}/#session=");
    assert_eq!(fetch(&url, "/procs", &spec, session).0, "200");
}

#[test]
fn ui_opens_a_browser_or_prints_the_url() {
    let instance = Instance::new();
    let (good, bad) = (browser(&instance, "good", 0), browser(&instance, "bad", 3));
    let ran = ui(&instance, &[], &[("BROWSER", &format!("/no/such:{bad}:{good} --new %s"))]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
    let opened = noted(&good);
    let url = opened.strip_prefix("--new\n").unwrap();
    let (host, port, code) = parts(url);
    assert!(ran.err.contains("cannot open") && ran.err.contains("/no/such"), "{ran:?}");
    assert!(ran.err.contains(&format!("opened http://{host}:{port}/ with {good}")), "{ran:?}");
    assert!(!ran.err.contains(&code), "the code is in no log of a terminal: {ran:?}");
    assert_eq!(noted(&bad), url);
    for env in [&[("BROWSER", bad.as_str())][..], &[]] {
        let ran = ui(&instance, &[], env);
        assert_eq!(ran.code, Some(0));
        assert!(ran.err.contains("open this URL within 60 s"), "{ran:?}");
        parts(&ran.out);
    }
}

#[test]
fn ui_reports_an_instance_without_tcp() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = procstar(&dir);
    command.args(["--agent", "--agent-host", "127.0.0.1", "--agent-port", "1"]);
    let instance = Instance::start(dir, command);
    let ran = ui(&instance, &["--print"], &[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.err.contains("start it with --serve"), "{ran:?}");
}
