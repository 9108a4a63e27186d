//! How a command chooses its instance and connects to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rcgen::generate_simple_self_signed;

use super::harness::{Instance, Ran, procstar};
use crate::support::private::write_secret;
use crate::support::wait::eventually;

#[test]
fn the_only_instance_is_found_and_several_need_a_choice() {
    let dir = tempfile::tempdir().unwrap();
    let ps = |args: &[&str]| Ran::of(procstar(&dir).arg("ps").args(args).output().unwrap());
    let none = ps(&[]);
    assert_eq!((none.code, none.out.as_str()), (Some(1), ""));
    let place = dir.path().join("run").display().to_string();
    assert!(
        none.err
            .starts_with(&format!("procstar: no instance of this user runs in {place}; start one"))
    );
    let mut first = Instance::new();
    // Start the second instance with the same runtime directory.
    let dir = std::mem::replace(&mut first.dir, tempfile::tempdir().unwrap());
    let mut command = procstar(&dir);
    command.args(["--serve", "--serve-port", "0"]);
    let second = Instance::start(dir, command);
    second.run(&["start", "--pid", &second.pid().to_string(), "--id", "b", "--", "true"]).good();
    let several = second.run(&["ps", "-q"]);
    assert_eq!(several.code, Some(1));
    assert!(
        several
            .err
            .starts_with("procstar: multiple instances of this user are running; choose one:\n")
    );
    for instance in [&first, &second] {
        let line =
            format!("  --pid {}  or  --socket {}", instance.pid(), instance.socket.display());
        assert!(several.err.contains(&line), "{several:?}");
    }
    let by = |args: &[&str]| second.run(&[&["ps", "-q"], args].concat());
    assert_eq!(by(&["--pid", &first.pid().to_string()]).good(), "");
    assert_eq!(by(&["--socket", second.socket.to_str().unwrap()]).good(), "b\n");
    assert_eq!(by(&["--pid", "1"]).code, Some(1));
    // A socket in the configuration needs no option.
    let mut configured = second.command(&["ps", "-q"]);
    configured.env("PROCSTAR_HTTP_SOCKET", &second.socket);
    assert_eq!(Ran::of(configured.output().unwrap()).good(), "b\n");
    let gone = by(&["--socket", "/no/such.sock"]);
    assert_eq!(gone.code, Some(1));
    assert!(
        gone.err.contains("cannot reach procstar at /no/such.sock: there is no such socket"),
        "{gone:?}"
    );
    drop(second);
    drop(first);
}

#[test]
fn an_instance_without_a_socket_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = procstar(&dir);
    command.args(["--exit", "-"]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let spec = br#"{"specs": {"a": {"argv": ["/bin/sleep", "1000"]}}}"#;
    child.stdin.take().unwrap().write_all(spec).unwrap();
    let told = eventually("instance", || {
        let ran = Ran::of(procstar(&dir).arg("ps").output().unwrap());
        ran.err.contains("can be reached").then_some(ran)
    });
    assert_eq!(told.code, Some(1));
    let wanted =
        format!("no instance of this user can be reached: pid {} was started without", child.id());
    assert!(told.err.contains(&wanted), "{told:?}");
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    child.wait().unwrap();
}

#[test]
fn a_state_directory_names_its_instance() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("x".repeat(120));
    let mut command = procstar(&dir);
    command.args(["--serve", "--serve-port", "0", "--state-dir"]).arg(&state);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    // The path is longer than the kernel accepts for a socket address.
    eventually("socket", || state.join("http.sock").exists());
    let ps = procstar(&dir).args(["ps", "-q", "--state-dir"]).arg(&state).output().unwrap();
    assert_eq!(Ran::of(ps).good(), "");
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    child.wait().unwrap();
}

/// 16 random bytes.
const TOKEN: &str = "8ePqYiqbZ4AnXB2hWx8WQg";

#[test]
fn a_token_is_sent_to_a_url_but_not_unencrypted_to_another_host() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let heads = (0..3).map(|_| {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert_ne!(reader.read_line(&mut head).unwrap(), 0);
            }
            let body = r#"{"data": {"procs": {}}, "next": null}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            head.to_lowercase()
        });
        heads.collect::<Vec<String>>()
    });
    let file = dir.path().join("token");
    write_secret(&file, "of a file\n");
    let run = |name: &str, value: &str, args: &[&str]| {
        let mut command = procstar(&dir);
        command.env(name, value).args(["ps", "-q"]).args(args);
        Ran::of(command.output().unwrap())
    };
    run("PROCSTAR_HTTP_TOKEN", TOKEN, &["--url", &url]).good();
    run("PROCSTAR_URL", &url, &["--token-file", file.to_str().unwrap()]).good();
    run("PROCSTAR_URL", &url, &[]).good();
    let heads = server.join().unwrap();
    let wanted = format!("authorization: bearer {}\r\n", TOKEN.to_lowercase());
    assert!(heads[0].contains(&wanted), "{}", heads[0]);
    assert!(heads[1].contains("authorization: bearer of a file\r\n"), "{}", heads[1]);
    assert!(!heads[2].contains("authorization"), "{}", heads[2]);
    let far = run("PROCSTAR_HTTP_TOKEN", TOKEN, &["--url", "http://192.0.2.1:3000"]);
    assert_eq!(far.code, Some(2));
    assert!(far.err.contains("refusing to send a token to 192.0.2.1 unencrypted"), "{far:?}");
}

#[test]
fn tls_connects_only_to_trusted_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    write_secret(path("key.pem"), made.signing_key.serialize_pem());
    let mut command = procstar(&dir);
    command
        .args(["--serve", "--serve-port", "0", "--log-level", "info", "--log-format", "json"])
        .env("PROCSTAR_HTTP_TLS_CERT", path("cert.pem"))
        .env("PROCSTAR_HTTP_TLS_KEY", path("key.pem"))
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut lines = String::new();
    let port = loop {
        lines.clear();
        assert_ne!(log.read_line(&mut lines).unwrap(), 0, "the log ends without a port");
        let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
        if let Some(port) = line["port"].as_u64() {
            break port;
        }
    };
    let drain = std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let url = format!("https://localhost:{port}");
    let ca = path("cert.pem");
    let run = |args: &[&str]| Ran::of(procstar(&dir).args(args).output().unwrap());
    assert_eq!(
        run(&["start", "--url", &url, "--ca", ca.to_str().unwrap(), "--id", "a", "--", "true"])
            .good(),
        "a\n"
    );
    assert_eq!(run(&["ps", "-q"]).good(), "a\n");
    let refused = run(&["ps", "--url", &url]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("name the PEM file in --ca"), "{refused:?}");
    // A certificate among the system's roots is trusted, unless --ca names another one.
    let by_system = |args: &[&str]| {
        Ran::of(procstar(&dir).args(args).env("SSL_CERT_FILE", &ca).output().unwrap())
    };
    assert_eq!(by_system(&["ps", "-q", "--url", &url]).good(), "a\n");
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(path("other.pem"), other.cert.pem()).unwrap();
    let stranger = by_system(&["ps", "--url", &url, "--ca", path("other.pem").to_str().unwrap()]);
    assert_eq!(stranger.code, Some(1), "{stranger:?}");
    let missing = run(&["ps", "--url", &url, "--ca", "/no/such.pem"]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.err.contains("--ca /no/such.pem"), "{missing:?}");
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    drain.join().unwrap().unwrap();
}

#[test]
fn another_http_server_is_recognized() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        assert!(stream.read(&mut head).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    });
    let ran = Ran::of(procstar(&dir).args(["ps", "--url", &url]).output().unwrap());
    server.join().unwrap();
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("check that it is procstar"), "{ran:?}");
}

#[test]
fn commands_reject_foreign_options_and_start_quickly() {
    let instance = Instance::new();
    for (args, told) in [
        (&["ps", "--serve"][..], "'ps' takes no --serve"),
        (&["--agent", "ps"], "'ps' takes no --agent"),
        (&["--print", "ps"], "'ps' takes neither INPUT nor --print"),
        (&["ps", "--token", "x"], "--token needs a URL; add --url"),
        (&["ps", "--socket", "a", "--url", "b"], "cannot be used with"),
        (&["logs"], "<ID>"),
    ] {
        let ran = instance.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{args:?}");
        assert!(ran.err.contains(told), "{args:?}: {}", ran.err);
    }
    for name in
        ["start", "ps", "show", "logs", "wait", "stop", "kill", "rm", "prune", "events", "top"]
    {
        let help = instance.run(&[name, "--help"]).good();
        assert!(
            help.contains("Examples:\n") && help.contains(&format!("procstar {name}")),
            "{help}"
        );
        assert!(!help.contains("--agent-host"), "{help}");
    }
    // A command needs neither keeper nor worker. Measure CPU time, which concurrent tests do not
    // inflate as they do elapsed time, and take the minimum.
    let quickest = (0..10).map(|_| {
        let (begin, before) = (Instant::now(), children_cpu());
        instance.run(&["ps", "-q"]).good();
        eprintln!("ps in {:?}", begin.elapsed());
        children_cpu() - before
    });
    let quickest = quickest.min().unwrap();
    assert!(quickest.as_millis() < 100, "{quickest:?}");
}

/// The CPU time of all reaped children.
fn children_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap())
}
