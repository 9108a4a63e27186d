//! Precedence of the layers of configuration, the files that are found, and the positions in the
//! errors of each layer.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use procstar::config::keys::KEYS;
use procstar::config::{Env, Kind, LogLevel, Settings};

use super::harness::{FakeHost, SYSTEM, USER, seconds};

#[test]
fn settings_without_environment_are_the_defaults() {
    let run = FakeHost::default().run(&["--exit"]);
    assert_eq!(run.settings, Settings::default());
    assert!(run.warnings.is_empty() && run.input.is_none() && !run.wait && !run.print);
    let settings = Settings::default();
    assert_eq!(settings.log.level, LogLevel::Warn);
    assert_eq!((settings.http.port, settings.agent.port), (3000, 59789));
    assert_eq!(settings.run.wait_timeout, seconds(600.0));
    assert_eq!(settings.capture.directory(&Env::new()), Path::new("/tmp"));
    let env = FakeHost::default().env("TMPDIR", "/var/tmp").env;
    assert_eq!(settings.capture.directory(&env), Path::new("/var/tmp"));
}

#[test]
fn each_layer_overrides_the_previous_ones() {
    let port = |host: &FakeHost, args: &[&str]| host.settings(args).agent.port;
    let mut host = FakeHost::default().env("HOME", "/home/me");
    assert_eq!(port(&host, &[]), 59789);
    host = host.file(SYSTEM, "[agent]\nport = 1\ngroup_id = \"system\"");
    assert_eq!(port(&host, &[]), 1);
    host = host.file(USER, "agent.port = 2");
    assert_eq!(port(&host, &[]), 2);
    host = host.file("/c", "agent = { port = 3 }");
    assert_eq!(port(&host, &["--config", "/c"]), 3);
    host = host.env("PROCSTAR_AGENT_PORT", "4");
    assert_eq!(port(&host, &["--config", "/c"]), 4);
    assert_eq!(port(&host, &["--config", "/c", "--agent-port", "5"]), 5);
    assert_eq!(host.settings(&[]).agent.group_id, "system");
    assert_eq!(host.settings(&["--group-id", "g"]).agent.group_id, "g");
}

#[test]
fn the_users_file_is_found_by_the_xdg_rules() {
    let level = |host: FakeHost| {
        let xdg = "/xdg/procstar/procstar.toml";
        let host = host.file(xdg, "log.level = \"debug\"").file(USER, "log.level = \"error\"");
        host.file("rel/procstar/procstar.toml", "log.level = \"trace\"").settings(&[]).log.level
    };
    let home = || FakeHost::default().env("HOME", "/home/me");
    assert_eq!(level(FakeHost::default()), LogLevel::Warn);
    assert_eq!(level(FakeHost::default().env("HOME", "")), LogLevel::Warn);
    assert_eq!(level(home()), LogLevel::Error);
    assert_eq!(level(home().env("XDG_CONFIG_HOME", "")), LogLevel::Error);
    assert_eq!(level(home().env("XDG_CONFIG_HOME", "rel")), LogLevel::Error);
    assert_eq!(level(home().env("XDG_CONFIG_HOME", "/xdg")), LogLevel::Debug);
}

#[test]
fn unreadable_files_are_errors_except_the_users_own() {
    let host = FakeHost::default().env("HOME", "/home/me");
    let text = host.refused(&["--exit", "--config", "/nowhere"]);
    assert!(text.starts_with("error: cannot read configuration file /nowhere: "), "{text}");
    let denied = host.failing(USER, io::ErrorKind::PermissionDenied);
    let run = denied.run(&["--exit"]);
    assert_eq!(run.warnings, [format!("skipped configuration file {USER}: permission denied")]);
    for error in [io::ErrorKind::PermissionDenied, io::ErrorKind::IsADirectory] {
        let text = FakeHost::default().failing(SYSTEM, error).refused(&["--exit"]);
        assert!(text.contains(SYSTEM), "{text}");
    }
}

#[test]
fn every_setting_has_a_variable_and_a_file_key() {
    for key in KEYS {
        let (text, toml) = match key.kind {
            Kind::Level => ("INFO", "\"info\""),
            Kind::Format => ("json", "\"json\""),
            Kind::Switch => ("yes", "true"),
            Kind::Seconds | Kind::Period | Kind::Factor => ("2.5", "2.5"),
            Kind::Count | Kind::Bytes | Kind::Size | Kind::Port | Kind::ListenPort => ("7", "7"),
            Kind::Address => ("::", "\"::\""),
            Kind::HttpToken => ("8ePqYiqbZ4AnXB2hWx8WQg", "\"8ePqYiqbZ4AnXB2hWx8WQg\""),
            Kind::Directories => ("/text", "\"/text\""),
            _ => ("text", "\"text\""),
        };
        let host = FakeHost::default().env("PROCSTAR_AGENT_HOST", "text");
        let by_variable = host.env(key.variable, text).settings(&[]);
        let (section, name) = key.path.rsplit_once('.').unwrap();
        let file = format!("agent.host = \"text\"\n[{section}]\n{name} = {toml}");
        let file = if key.path == "agent.host" { "agent.host = \"text\"".into() } else { file };
        let file = file.replace("agent.host = \"text\"\n[agent]", "[agent]\nhost = \"text\"");
        let by_file = FakeHost::default().file(SYSTEM, file).settings(&[]);
        assert_eq!(by_variable, by_file, "{}", key.path);
        assert_ne!(by_file.shown(key.path), Settings::default().shown(key.path), "{}", key.path);
    }
}

#[test]
fn invalid_values_are_reported_with_their_position_even_if_overridden() {
    let host = FakeHost::default().file(SYSTEM, "[http]\nprot = 1\n[agent]\nport = 0\n");
    let text = host.env("PROCSTAR_AGENT_PORT", "5").refused(&["--exit"]);
    assert_eq!(
        text,
        format!(
            "error: {SYSTEM}:2:1: unknown key http.prot; did you mean http.port?\n\
             {SYSTEM}:4:8: agent.port: expected a port from 1 to 65535, found 0\n"
        )
    );
    for (name, value) in [
        ("PROCSTAR_AGENT_PORT", "70000"),
        ("PROCSTAR_AGENT_PING_INTERVAL", "0"),
        ("PROCSTAR_LOG_LEVEL", "loud"),
        ("PROCSTAR_HTTP_ENABLED", "maybe"),
        ("PROCSTAR_RUN_WAIT_TIMEOUT", "nan"),
        ("PROCSTAR_RUN_WAIT_TIMEOUT", "-1"),
        ("PROCSTAR_RUN_WAIT_TIMEOUT", "inf"),
        ("PROCSTAR_AGENT_CONNECT_INTERVAL_MULT", "0.5"),
        ("PROCSTAR_AGENT_CONNECT_COUNT_MAX", "0"),
    ] {
        let text = FakeHost::default().env(name, value).refused(&["--exit"]);
        let start = format!("error: environment variable {name}: expected ");
        assert!(text.starts_with(&start) && text.contains(value), "{text}");
    }
}

#[test]
fn durations_and_sizes_can_have_units() {
    let text = "[http]\nheader_timeout = \"500ms\"\nmax_body = \"64M\"\n\
                [capture]\nkeep_tail = \"1GiB\"\n[run]\nwait_timeout = \"1h30m\"";
    let by_file = FakeHost::default().file(SYSTEM, text).settings(&[]);
    let by_variable = FakeHost::default()
        .env("PROCSTAR_HTTP_HEADER_TIMEOUT", "500ms")
        .env("PROCSTAR_HTTP_MAX_BODY", "64M")
        .env("PROCSTAR_CAPTURE_KEEP_TAIL", "1GiB")
        .settings(&["--wait-timeout", "1h30m"]);
    assert_eq!(by_file, by_variable);
    assert_eq!(by_file.http.max_body, 64 << 20);
    assert_eq!(by_file.capture.keep_tail, Some(1 << 30));
    assert_eq!(by_file.run.wait_timeout, std::time::Duration::from_secs(5400));
}

#[test]
fn the_older_name_of_allowed_executables_still_works() {
    let by_file = FakeHost::default().file(SYSTEM, "[run]\nrestrict_exe = \"/bin/true\"");
    let by_variable = FakeHost::default().env("PROCSTAR_RUN_RESTRICT_EXE", "/bin/true");
    for host in [by_file, by_variable] {
        assert_eq!(host.settings(&[]).run.allowed_executables, [PathBuf::from("/bin/true")]);
    }
    let both = FakeHost::default()
        .env("PROCSTAR_RUN_RESTRICT_EXE", "/a")
        .env("PROCSTAR_RUN_ALLOWED_EXECUTABLES", "/b");
    let text = both.refused(&["--exit"]);
    assert!(text.contains("PROCSTAR_RUN_ALLOWED_EXECUTABLES is set too"), "{text}");
    // A later layer wins over an earlier one by either name.
    let later = FakeHost::default()
        .file(SYSTEM, "[run]\nallowed_executables = \"/a\"")
        .env("PROCSTAR_RUN_RESTRICT_EXE", "/b");
    assert_eq!(later.settings(&[]).run.allowed_executables, [PathBuf::from("/b")]);
}

#[test]
fn former_names_of_settings_are_errors_that_suggest_the_present_names() {
    for (former, present) in [
        ("http.serve = true", "http.enabled"),
        ("http.connections = 3", "http.max_connections"),
        ("http.head_timeout = 3", "http.header_timeout"),
        ("http.body_limit = 3", "http.max_body"),
        ("capture.drain_grace = 3", "capture.drain_timeout"),
        ("capture.limit_head = 3", "capture.keep_head"),
        ("sampling.count = 3", "sampling.max_samples"),
    ] {
        let text = FakeHost::default().file(SYSTEM, former).refused(&["--exit"]);
        assert!(text.ends_with(&format!("; did you mean {present}?\n")), "{text}");
    }
}

#[test]
fn empty_variables_count_as_unset_and_paths_need_not_be_utf8() {
    for key in KEYS {
        let settings = FakeHost::default().env(key.variable, "").settings(&[]);
        assert_eq!(settings, Settings::default(), "empty {} counts as unset", key.variable);
    }
    let odd = OsStr::from_bytes(b"/\xff");
    let text = FakeHost::default().env("PROCSTAR_GROUP_ID", odd).refused(&["--exit"]);
    assert!(text.contains("PROCSTAR_GROUP_ID: is not valid UTF-8"), "{text}");
    let settings = FakeHost::default().env("PROCSTAR_AGENT_CERT", odd).settings(&[]);
    assert_eq!(settings.agent.cert.unwrap().as_os_str(), odd, "paths need not be UTF-8");
}
