//! Parsing of the command line: accepted runs, printed answers and usage errors.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use procstar::cli::invocation::{Input, Invocation};
use procstar::cli::parse::parse;
use procstar::config::keys::KEYS;
use procstar::config::{Env, Kind, LogFormat, LogLevel, Settings};

use super::harness::{FakeHost, SYSTEM, seconds};

#[test]
fn flags_reach_their_settings() {
    let args = "-s --http-port 0 --http-bind ::1 -a --agent-host h --agent-port 1 --group-id g --conn-id c --agent-ca /ca \
                --connect-interval-start .5 --connect-interval-mult 1.5 --connect-interval-max 9 \
                --connect-count-max 4 --agent-read-timeout 0.25 --restrict-exe /e --state-dir /d --wait-timeout 0 \
                --log-level trace --log-format json";
    let args: Vec<_> = args.split_whitespace().collect();
    let settings = FakeHost::default().settings(&args);
    let mut expected = Settings::default();
    (expected.http.enabled, expected.http.port) = (true, 0);
    expected.http.bind = "::1".parse().unwrap();
    (expected.agent.enabled, expected.agent.host) = (true, Some("h".into()));
    (expected.agent.port, expected.agent.group_id) = (1, "g".into());
    (expected.agent.conn_id, expected.agent.read_timeout) = (Some("c".into()), seconds(0.25));
    expected.agent.ca = Some("/ca".into());
    expected.agent.connect.interval_start = seconds(0.5);
    expected.agent.connect.interval_mult = 1.5;
    expected.agent.connect.interval_max = seconds(9.0);
    expected.agent.connect.count_max = Some(4);
    expected.run.allowed_executables = vec!["/e".into()];
    expected.run.state_dir = Some("/d".into());
    expected.run.wait_timeout = Duration::ZERO;
    (expected.log.level, expected.log.format) = (LogLevel::Trace, LogFormat::Json);
    assert_eq!(settings, expected);
    let used = args.iter().filter(|arg| arg.starts_with("--")).count() + 2;
    assert_eq!(used, KEYS.iter().filter(|key| key.flag.is_some()).count(), "all flags are tried");
    // A port or host alone enables neither the HTTP service nor the agent.
    let settings = FakeHost::default().settings(&["--serve-port", "1", "--agent-host", "h"]);
    assert!(!settings.http.enabled && !settings.agent.enabled);
}

#[test]
fn options_and_input_select_the_mode() {
    let host = FakeHost::default();
    let run = host.run(&["-p", "spec.json"]);
    assert_eq!(run.input, Some(Input::File("spec.json".into())));
    assert!(run.print && run.exit && !run.wait);
    let run = host.run(&["-o", "out", "-"]);
    assert_eq!((run.input, run.output), (Some(Input::Stdin), Some("out".into())));
    assert!(run.exit && !run.print);
    assert!(host.run(&["-x"]).exit && host.run(&["--wait", "--serve"]).wait);
    assert!(host.run(&["-s"]).settings.http.enabled);
    assert!(!host.run(&["-s"]).exit);
    let odd = OsString::from_vec(b"\xfe.json".to_vec());
    let args = [OsString::from("-x"), odd.clone(), "--output".into(), odd.clone()];
    match host.invoke(&args).unwrap() {
        Invocation::Run(run) => {
            assert_eq!(run.input, Some(Input::File(odd.clone().into())));
            assert_eq!(run.output, Some(odd.clone().into()));
        }
        other => panic!("{other:?}"),
    }
    let args = [OsString::from("-x"), "--restrict-exe".into(), odd.clone()];
    match host.invoke(&args).unwrap() {
        Invocation::Run(run) => {
            assert_eq!(run.settings.run.allowed_executables, [PathBuf::from(odd)])
        }
        other => panic!("{other:?}"),
    }
    let run = host.run(&["-x", "--agent-port", "1", "--agent-port", "2"]);
    assert_eq!(run.settings.agent.port, 2, "the last one wins");
}

#[test]
fn wrong_usage_is_refused() {
    let host = FakeHost::default();
    for args in ["", "spec.json", "--serve-port 3000", "--agent-host h", "-"] {
        let args: Vec<_> = args.split_whitespace().collect();
        let text = host.refused(&args);
        assert!(text.contains("--print") && text.contains("--agent"), "{text}");
    }
    for args in [["-x", "-w"], ["-p", "-w"], ["-w", "-o=x"]] {
        assert!(host.refused(&args).contains("cannot be used with"), "{args:?}");
    }
    for args in [
        &["-x", "--http-port", "-1"][..],
        &["-x", "--http-port", "65536"],
        &["-x", "--agent-port", "0"],
        &["-x", "--wait-timeout", "-0.5"],
        &["-x", "--connect-interval-mult", "0.9"],
        &["-x", "--log-level", "loud"],
        &["-x", "--agent-host", ""],
        &["-x", "--agent-host", "wss://h:1/p"],
    ] {
        let text = host.refused(args);
        assert!(text.contains(args[1]) && text.contains("expected"), "{text}");
    }
    for args in [&["-x", "a", "b"][..], &["--frobnicate"], &["-x", "--output"], &["config"]] {
        host.refused(args);
    }
}

#[test]
fn a_url_or_a_port_in_place_of_a_host_is_refused_everywhere_with_the_remedy() {
    for (given, host) in [
        ("wss://h.test:7000/path", "h.test"),
        ("h.test:7000", "h.test"),
        ("[::1]:7000", "[::1]"),
        (" h.test:7000", "h.test"),
    ] {
        let by_file = format!("[agent]\nenabled = true\nhost = {given:?}");
        for (text, place) in [
            (FakeHost::default().refused(&["--agent", "--agent-host", given]), "--agent-host"),
            (
                FakeHost::default().env("PROCSTAR_AGENT_HOST", given).refused(&["--agent"]),
                "environment variable PROCSTAR_AGENT_HOST",
            ),
            (
                FakeHost::default().file(SYSTEM, by_file).refused::<&str>(&[]),
                "procstar.toml:3:8: agent.host",
            ),
        ] {
            let remedy = format!("write the host alone, {host:?}, and its port 7000 as agent.port");
            assert!(text.contains(place) && text.contains(&remedy), "{text}");
        }
    }
    let host = FakeHost::default();
    for given in ["a b", "h/../x", "host,other", "é"] {
        let text = host.refused(&["--agent", "--agent-host", given]);
        assert!(text.contains("expected a host name or an IP address"), "{text}");
    }
}

#[test]
fn an_agent_needs_a_host() {
    let host = FakeHost::default();
    let text = host.refused(&["--agent"]);
    assert!(text.contains("--agent-host") && text.contains("PROCSTAR_AGENT_HOST"), "{text}");
    host.refused(&["--agent", "--wait"]);
    FakeHost::default().env("PROCSTAR_AGENT_HOST", "").refused(&["--agent"]);
    FakeHost::default().file(SYSTEM, "agent.enabled = true").refused(&["--exit"]);
    assert!(host.run(&["--agent", "--agent-host", "h"]).settings.agent.enabled);
    // A scheduler in the same environment may set `PROCSTAR_AGENT_HOST` to a listen address. Only
    // agent mode rejects it.
    let every = FakeHost::default().env("PROCSTAR_AGENT_HOST", "*");
    assert!(every.refused(&["--agent"]).contains("every interface"));
    assert!(!every.run(&["--exit"]).settings.agent.enabled);
    assert!(every.run(&["--agent", "--agent-host", "h"]).settings.agent.enabled);
    let host = FakeHost::default().env("PROCSTAR_AGENT_HOST", "h");
    assert_eq!(host.run(&["-a"]).settings.agent.host.as_deref(), Some("h"));
    let host = FakeHost::default().file(SYSTEM, "[agent]\nenabled = true\nhost = \"h\"");
    assert!(host.run(&[]).settings.agent.enabled, "the file gives the reason to run");
    assert!(FakeHost::default().env("PROCSTAR_HTTP_ENABLED", "1").run(&[]).settings.http.enabled);
}

#[test]
fn help_and_version_are_answers() {
    let answer = |args: &[&str]| {
        let error = FakeHost::default().invoke(args).map(|_| ()).unwrap_err();
        assert!(error.is_answer() && error.exit_code() == 0);
        error.text().to_owned()
    };
    assert_eq!(answer(&["--version"]), format!("procstar {}\n", env!("CARGO_PKG_VERSION")));
    let help = answer(&["--help"]);
    for key in KEYS {
        let hidden = matches!(key.flag, Some("--conn-id" | "--agent-read-timeout"));
        if let Some(flag) = key.flag {
            assert_eq!(
                help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")),
                !hidden,
                "{flag}"
            );
        }
    }
    for key in KEYS.iter().filter(|key| key.kind != Kind::Switch) {
        let default = Settings::default().shown(key.path);
        let Some(at) = key.flag.and_then(|flag| help.find(&format!("{flag} <"))) else { continue };
        let text = help[at..].split("\n\n").next().unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = match &default {
            serde_json::Value::String(text) => text.clone(),
            value => value.to_string().replace(".0", ""),
        };
        assert!(default.is_null() || text.contains(&format!("(default: {shown}")), "{text}");
    }
    for part in ["Examples:", "Exit codes:", "PROCSTAR_AGENT_TOKEN_FILE", "--config <FILE>"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
}

#[test]
fn this_machines_own_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.toml");
    std::fs::write(&path, "[log]\nlevel = \"info\"\n").unwrap();
    let args = ["procstar", "-x", "--config", path.to_str().unwrap()].map(OsString::from);
    match parse(args.into_iter(), &Env::new()).unwrap() {
        Invocation::Run(run) => assert_eq!(run.settings.log.level, LogLevel::Info),
        other => panic!("{other:?}"),
    }
    for path in ["/dev/zero", directory.path().to_str().unwrap()] {
        let args = ["procstar", "-x", "--config", path].map(OsString::from);
        let error = parse(args.into_iter(), &Env::new()).map(|_| ()).unwrap_err();
        assert!(error.exit_code() == 2 && error.text().contains(path), "{error}");
    }
}
