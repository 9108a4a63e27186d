//! Configuration and command line as a user meets them: files, environment and arguments in,
//! settings, texts and exit codes out. The world is a map of files; nothing global is touched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use procstar::cli::logging;
use procstar::cli::options::{Input, Invocation, Run, UsageError, parse, parse_with};
use procstar::cli::show;
use procstar::config::keys::{KEYS, find};
use procstar::config::{
    Env, Kind, Layer, LogFormat, LogLevel, LogSettings, SECRET_VARS, Secret, Settings, Sources,
    load,
};

const SYSTEM: &str = "/etc/procstar/procstar.toml";
const USER: &str = "/home/me/.config/procstar/procstar.toml";
const SHIPPED: &str = include_str!("../config/procstar.toml");

/// Files by path; `Err` is what reading one fails with.
#[derive(Default)]
struct World {
    env: Env,
    files: BTreeMap<PathBuf, Result<Vec<u8>, io::ErrorKind>>,
}

impl World {
    fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.into(), value.as_ref().into());
        self
    }

    fn file(mut self, path: &str, text: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.into(), Ok(text.as_ref().to_vec()));
        self
    }

    fn failing(mut self, path: &str, error: io::ErrorKind) -> Self {
        self.files.insert(path.into(), Err(error));
        self
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.files.get(path).cloned().unwrap_or(Err(io::ErrorKind::NotFound));
        Ok(file?)
    }

    fn invoke<A: AsRef<OsStr>>(&self, args: &[A]) -> Result<Invocation, UsageError> {
        let args = args.iter().map(|arg| arg.as_ref().to_owned());
        let sources = Sources {
            env: &self.env,
            system_file: Path::new(SYSTEM),
            read: &|path| self.read(path),
        };
        parse_with(std::iter::once(OsString::from("procstar")).chain(args), &sources)
    }

    fn run(&self, args: &[&str]) -> Run {
        match self.invoke(args) {
            Ok(Invocation::Run(run)) => *run,
            Ok(other) => panic!("not a run: {other:?}"),
            Err(error) => panic!("{args:?}: {error}"),
        }
    }

    /// The settings with `--exit`, which only gives a reason to run.
    fn settings(&self, args: &[&str]) -> Settings {
        self.run(&[&["--exit"], args].concat()).settings
    }

    /// The text of an error that ends with exit code 2.
    fn refused<A: AsRef<OsStr>>(&self, args: &[A]) -> String {
        let error = self.invoke(args).map(|_| ()).expect_err("this must be refused");
        assert_eq!(error.exit_code(), 2);
        assert!(!error.is_answer() && error.text().ends_with('\n'));
        error.text().to_owned()
    }

    fn shown(&self, args: &[&str]) -> String {
        match self.invoke(args) {
            Ok(Invocation::ConfigShow { loaded, json }) => show::render(&loaded, json),
            other => panic!("{other:?}"),
        }
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

// The shipped file -------------------------------------------------------------------------------

/// The keys of a TOML text, dotted.
fn keys_of(text: &str) -> BTreeSet<String> {
    fn walk(prefix: &str, table: &toml::Table, into: &mut BTreeSet<String>) {
        for (name, value) in table {
            match value {
                toml::Value::Table(table) => walk(&format!("{prefix}{name}."), table, into),
                _ => assert!(into.insert(format!("{prefix}{name}"))),
            }
        }
    }
    let mut keys = BTreeSet::new();
    walk("", &text.parse().unwrap(), &mut keys);
    keys
}

/// The text with each line `MARK key = value` uncommented.
fn uncomment(text: &str, mark: &str) -> String {
    let is_setting = |line: &str| {
        line.split_once(" = ").is_some_and(|(key, _)| {
            key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !key.is_empty()
        })
    };
    let lines = text.lines().map(|line| match line.strip_prefix(mark) {
        Some(rest) if is_setting(rest) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_file_is_the_defaults_and_changes_nothing() {
    let defaults = uncomment(SHIPPED, "# ");
    assert_eq!(World::default().file(SYSTEM, &defaults).settings(&[]), Settings::default());
    assert_eq!(World::default().file(SYSTEM, SHIPPED).settings(&[]), Settings::default());
    assert_eq!(keys_of(SHIPPED), BTreeSet::new());
}

#[test]
fn the_shipped_file_lists_every_setting_and_its_names() {
    let defaults = keys_of(&uncomment(SHIPPED, "# "));
    let examples = keys_of(&uncomment(SHIPPED, "#"));
    let both = uncomment(&uncomment(SHIPPED, "# "), "#");
    let all: BTreeSet<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(keys_of(&both), all);
    World::default().file(SYSTEM, &both).settings(&[]);
    for key in KEYS {
        let unset = Settings::default().shown(key.path).is_null();
        assert_eq!(examples.contains(key.path), unset, "{}", key.path);
        assert_eq!(defaults.contains(key.path), !unset, "{}", key.path);
        assert!(SHIPPED.contains(key.variable), "{}", key.variable);
        assert!(key.flag.is_none_or(|flag| SHIPPED.contains(flag)), "{}", key.path);
    }
}

// Layers -----------------------------------------------------------------------------------------

#[test]
fn an_empty_environment_gives_the_defaults() {
    let run = World::default().run(&["--exit"]);
    assert_eq!(run.settings, Settings::default());
    assert!(run.warnings.is_empty() && run.input.is_none() && !run.wait && !run.print);
    let settings = Settings::default();
    assert_eq!(settings.log.level, LogLevel::Warn);
    assert_eq!((settings.http.port, settings.agent.port), (3000, 59789));
    assert_eq!(settings.run.wait_timeout, seconds(600.0));
    assert_eq!(settings.capture.directory(&Env::new()), Path::new("/tmp"));
    let env = World::default().env("TMPDIR", "/var/tmp").env;
    assert_eq!(settings.capture.directory(&env), Path::new("/var/tmp"));
}

#[test]
fn each_layer_beats_the_former_ones() {
    let port = |world: &World, args: &[&str]| world.settings(args).agent.port;
    let mut world = World::default().env("HOME", "/home/me");
    assert_eq!(port(&world, &[]), 59789);
    world = world.file(SYSTEM, "[agent]\nport = 1\ngroup_id = \"system\"");
    assert_eq!(port(&world, &[]), 1);
    world = world.file(USER, "agent.port = 2");
    assert_eq!(port(&world, &[]), 2);
    world = world.file("/c", "agent = { port = 3 }");
    assert_eq!(port(&world, &["--config", "/c"]), 3);
    world = world.env("PROCSTAR_AGENT_PORT", "4");
    assert_eq!(port(&world, &["--config", "/c"]), 4);
    assert_eq!(port(&world, &["--config", "/c", "--agent-port", "5"]), 5);
    assert_eq!(world.settings(&[]).agent.group_id, "system");
    assert_eq!(world.settings(&["--group-id", "g"]).agent.group_id, "g");
}

#[test]
fn the_users_file_is_found_by_the_xdg_rules() {
    let level = |world: World| {
        let xdg = "/xdg/procstar/procstar.toml";
        let world = world.file(xdg, "log.level = \"debug\"").file(USER, "log.level = \"error\"");
        world.file("rel/procstar/procstar.toml", "log.level = \"trace\"").settings(&[]).log.level
    };
    let home = || World::default().env("HOME", "/home/me");
    assert_eq!(level(World::default()), LogLevel::Warn);
    assert_eq!(level(World::default().env("HOME", "")), LogLevel::Warn);
    assert_eq!(level(home()), LogLevel::Error);
    assert_eq!(level(home().env("XDG_CONFIG_HOME", "")), LogLevel::Error);
    assert_eq!(level(home().env("XDG_CONFIG_HOME", "rel")), LogLevel::Error);
    assert_eq!(level(home().env("XDG_CONFIG_HOME", "/xdg")), LogLevel::Debug);
}

#[test]
fn files_that_cannot_be_read() {
    let world = World::default().env("HOME", "/home/me");
    let text = world.refused(&["--exit", "--config", "/nowhere"]);
    assert!(text.starts_with("error: cannot read configuration file /nowhere: "), "{text}");
    let denied = world.failing(USER, io::ErrorKind::PermissionDenied);
    let run = denied.run(&["--exit"]);
    assert_eq!(run.warnings, [format!("skipped configuration file {USER}: permission denied")]);
    for error in [io::ErrorKind::PermissionDenied, io::ErrorKind::IsADirectory] {
        let text = World::default().failing(SYSTEM, error).refused(&["--exit"]);
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
            Kind::Count | Kind::Port | Kind::ListenPort => ("7", "7"),
            _ => ("/text", "\"/text\""),
        };
        let host = World::default().env("PROCSTAR_AGENT_HOST", "/text");
        let by_variable = host.env(key.variable, text).settings(&[]);
        let (section, name) = key.path.rsplit_once('.').unwrap();
        let file = format!("agent.host = \"/text\"\n[{section}]\n{name} = {toml}");
        let file = if key.path == "agent.host" { "agent.host = \"/text\"".into() } else { file };
        let file = file.replace("agent.host = \"/text\"\n[agent]", "[agent]\nhost = \"/text\"");
        let by_file = World::default().file(SYSTEM, file).settings(&[]);
        assert_eq!(by_variable, by_file, "{}", key.path);
        assert_ne!(by_file.shown(key.path), Settings::default().shown(key.path), "{}", key.path);
    }
}

#[test]
fn bad_values_name_their_place_even_when_overridden() {
    let world = World::default().file(SYSTEM, "[http]\nprot = 1\n[agent]\nport = 0\n");
    let text = world.env("PROCSTAR_AGENT_PORT", "5").refused(&["--exit"]);
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
        ("PROCSTAR_HTTP_SERVE", "maybe"),
        ("PROCSTAR_RUN_WAIT_TIMEOUT", "nan"),
        ("PROCSTAR_RUN_WAIT_TIMEOUT", "-1"),
        ("PROCSTAR_RUN_WAIT_TIMEOUT", "inf"),
        ("PROCSTAR_AGENT_CONNECT_INTERVAL_MULT", "0.5"),
        ("PROCSTAR_AGENT_CONNECT_COUNT_MAX", "0"),
    ] {
        let text = World::default().env(name, value).refused(&["--exit"]);
        let start = format!("error: environment variable {name}: expected ");
        assert!(text.starts_with(&start) && text.contains(value), "{text}");
    }
}

#[test]
fn empty_and_odd_variables() {
    for key in KEYS {
        let settings = World::default().env(key.variable, "").settings(&[]);
        assert_eq!(settings, Settings::default(), "empty {} counts as unset", key.variable);
    }
    let odd = OsStr::from_bytes(b"/\xff");
    let text = World::default().env("PROCSTAR_GROUP_ID", odd).refused(&["--exit"]);
    assert!(text.contains("PROCSTAR_GROUP_ID: is not valid UTF-8"), "{text}");
    let settings = World::default().env("PROCSTAR_AGENT_CERT", odd).settings(&[]);
    assert_eq!(settings.agent.cert.unwrap().as_os_str(), odd, "paths need not be UTF-8");
}

// Secrets ----------------------------------------------------------------------------------------

#[test]
fn secrets_come_from_the_nearest_place() {
    let agent = |world: &World| world.settings(&[]).agent.token.expose().to_owned();
    let mut world = World::default().file(SYSTEM, "agent.token = \"file\"");
    assert_eq!(agent(&world), "file");
    world = world.env("CREDENTIALS_DIRECTORY", "/cred");
    assert_eq!(agent(&world), "file");
    world = world.file("/cred/procstar-agent-token", "credential\n");
    assert_eq!(agent(&world), "credential");
    world = world.env("PROCSTAR_AGENT_TOKEN_FILE", "/t").file("/t", "secret file\r\n");
    assert_eq!(agent(&world), "secret file");
    world = world.env("PROCSTAR_AGENT_TOKEN", "direct");
    assert_eq!(agent(&world), "direct");
    world = world.env("PROCSTAR_AGENT_TOKEN_FILE", "/nowhere");
    assert_eq!(agent(&world), "direct", "what is not needed is not read");
    world = world.env("PROCSTAR_AGENT_TOKEN", "");
    assert_eq!(agent(&world), "", "an empty token is one");

    let world = World::default().env("CREDENTIALS_DIRECTORY", "/cred");
    let http = world.file("/cred/procstar-http-token", "a\n\n").settings(&[]).http.token;
    assert_eq!(http, Some(Secret::new("a\n")), "one newline is stripped");
}

#[test]
fn secrets_that_cannot_be_had_are_errors_without_the_secret() {
    let file = |name: &str, text: &[u8]| World::default().env(name, "/t").file("/t", text);
    for (world, expected) in [
        (World::default().env("PROCSTAR_AGENT_TOKEN_FILE", "/t"), "PROCSTAR_AGENT_TOKEN_FILE: "),
        (file("PROCSTAR_HTTP_TOKEN_FILE", b"\n"), "PROCSTAR_HTTP_TOKEN_FILE: expected"),
        (file("PROCSTAR_HTTP_TOKEN_FILE", b"hunter2\xff"), "is not valid UTF-8"),
        (
            World::default()
                .env("CREDENTIALS_DIRECTORY", "/c")
                .failing("/c/procstar-agent-token", io::ErrorKind::PermissionDenied),
            "/c/procstar-agent-token",
        ),
        (World::default().file(SYSTEM, "agent.token = [\"hunter2\"]"), "agent.token: expected"),
        (World::default().file(SYSTEM, "agent.token = \"hunter2\" x"), ":1:25: "),
    ] {
        let text = world.refused(&["--exit"]);
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn secret_variables_are_all_listed() {
    for key in KEYS.iter().filter(|key| key.kind.is_secret()) {
        assert!(SECRET_VARS.contains(&key.variable));
        assert!(SECRET_VARS.contains(&format!("{}_FILE", key.variable).as_str()));
    }
    assert!(SECRET_VARS.contains(&"PROCSTAR_AGENT_KEY"));
}

// Command line -----------------------------------------------------------------------------------

#[test]
fn flags_reach_their_settings() {
    let args = "-s --serve-port 0 -a --agent-host h --agent-port 1 --group-id g --conn-id c \
                --connect-interval-start .5 --connect-interval-mult 1.5 --connect-interval-max 9 \
                --connect-count-max 4 --agent-read-timeout 0.25 --restrict-exe /e --wait-timeout 0 \
                --log-level trace --log-format json";
    let args: Vec<_> = args.split_whitespace().collect();
    let settings = World::default().settings(&args);
    let mut expected = Settings::default();
    (expected.http.serve, expected.http.port) = (true, 0);
    (expected.agent.enabled, expected.agent.host) = (true, Some("h".into()));
    (expected.agent.port, expected.agent.group_id) = (1, "g".into());
    (expected.agent.conn_id, expected.agent.read_timeout) = (Some("c".into()), seconds(0.25));
    expected.agent.connect.interval_start = seconds(0.5);
    expected.agent.connect.interval_mult = 1.5;
    expected.agent.connect.interval_max = seconds(9.0);
    expected.agent.connect.count_max = Some(4);
    expected.run.restrict_exe = Some("/e".into());
    expected.run.wait_timeout = Duration::ZERO;
    (expected.log.level, expected.log.format) = (LogLevel::Trace, LogFormat::Json);
    assert_eq!(settings, expected);
    let used = args.iter().filter(|arg| arg.starts_with("--")).count() + 2;
    assert_eq!(used, KEYS.iter().filter(|key| key.flag.is_some()).count(), "all flags are tried");
    // Ports and hosts do not switch anything on.
    let settings = World::default().settings(&["--serve-port", "1", "--agent-host", "h"]);
    assert!(!settings.http.serve && !settings.agent.enabled);
}

#[test]
fn what_to_do() {
    let world = World::default();
    let run = world.run(&["-p", "spec.json"]);
    assert_eq!(run.input, Some(Input::File("spec.json".into())));
    assert!(run.print && run.exit && !run.wait);
    let run = world.run(&["-o", "out", "-"]);
    assert_eq!((run.input, run.output), (Some(Input::Stdin), Some("out".into())));
    assert!(run.exit && !run.print);
    assert!(world.run(&["-x"]).exit && world.run(&["--wait", "--serve"]).wait);
    assert!(world.run(&["-s"]).settings.http.serve);
    assert!(!world.run(&["-s"]).exit);
    let odd = OsString::from_vec(b"\xfe.json".to_vec());
    let args = [OsString::from("-x"), odd.clone(), "--output".into(), odd.clone()];
    match world.invoke(&args).unwrap() {
        Invocation::Run(run) => {
            assert_eq!(run.input, Some(Input::File(odd.clone().into())));
            assert_eq!(run.output, Some(odd.clone().into()));
        }
        other => panic!("{other:?}"),
    }
    let args = [OsString::from("-x"), "--restrict-exe".into(), odd.clone()];
    match world.invoke(&args).unwrap() {
        Invocation::Run(run) => assert_eq!(run.settings.run.restrict_exe, Some(odd.into())),
        other => panic!("{other:?}"),
    }
    let run = world.run(&["-x", "--agent-port", "1", "--agent-port", "2"]);
    assert_eq!(run.settings.agent.port, 2, "the last one wins");
}

#[test]
fn wrong_usage_is_refused() {
    let world = World::default();
    for args in ["", "spec.json", "--serve-port 3000", "--agent-host h", "-"] {
        let args: Vec<_> = args.split_whitespace().collect();
        let text = world.refused(&args);
        assert!(text.contains("--print") && text.contains("--agent"), "{text}");
    }
    for args in [["-x", "-w"], ["-p", "-w"], ["-w", "-o=x"]] {
        assert!(world.refused(&args).contains("cannot be used with"), "{args:?}");
    }
    for args in [
        &["-x", "--serve-port", "-1"][..],
        &["-x", "--serve-port", "65536"],
        &["-x", "--agent-port", "0"],
        &["-x", "--wait-timeout", "-0.5"],
        &["-x", "--connect-interval-mult", "0.9"],
        &["-x", "--log-level", "loud"],
        &["-x", "--agent-host", ""],
    ] {
        let text = world.refused(args);
        assert!(text.contains(args[1]) && text.contains("expected"), "{text}");
    }
    for args in [&["-x", "a", "b"][..], &["--frobnicate"], &["-x", "--output"], &["config"]] {
        world.refused(args);
    }
}

#[test]
fn an_agent_needs_a_host() {
    let world = World::default();
    let text = world.refused(&["--agent"]);
    assert!(text.contains("--agent-host") && text.contains("PROCSTAR_AGENT_HOST"), "{text}");
    world.refused(&["--agent", "--wait"]);
    World::default().env("PROCSTAR_AGENT_HOST", "").refused(&["--agent"]);
    World::default().file(SYSTEM, "agent.enabled = true").refused(&["--exit"]);
    assert!(world.run(&["--agent", "--agent-host", "h"]).settings.agent.enabled);
    let world = World::default().env("PROCSTAR_AGENT_HOST", "h");
    assert_eq!(world.run(&["-a"]).settings.agent.host.as_deref(), Some("h"));
    let world = World::default().file(SYSTEM, "[agent]\nenabled = true\nhost = \"h\"");
    assert!(world.run(&[]).settings.agent.enabled, "the file gives the reason to run");
    assert!(World::default().env("PROCSTAR_HTTP_SERVE", "1").run(&[]).settings.http.serve);
}

#[test]
fn help_and_version_are_answers() {
    let answer = |args: &[&str]| {
        let error = World::default().invoke(args).map(|_| ()).unwrap_err();
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

// config show ------------------------------------------------------------------------------------

fn showing() -> World {
    World::default()
        .file(SYSTEM, "[log]\nlevel = \"info\"\n[agent]\ntoken = \"hunter2\"\n")
        .env("PROCSTAR_AGENT_HOST", "h\u{1b}".replace('\u{1b}', "\""))
        .env("PROCSTAR_HTTP_TOKEN_FILE", "/t")
        .file("/t", "hunter2")
}

#[test]
fn config_show_tells_values_and_origins() {
    let text = showing().shown(&["--agent-port", "7", "config", "show"]);
    let line = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).expect(name);
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("log.level"), format!("log.level = \"info\" # {SYSTEM}:2"));
    assert_eq!(line("agent.token"), format!("agent.token = \"***\" # {SYSTEM}:4"));
    assert_eq!(
        line("agent.host"),
        "agent.host = \"h\\\"\" # environment variable PROCSTAR_AGENT_HOST"
    );
    assert_eq!(line("agent.port"), "agent.port = 7 # flag --agent-port");
    assert_eq!(line("agent.cert"), "agent.cert = (unset) # default");
    assert_eq!(line("shutdown.term_grace"), "shutdown.term_grace = 60 # default");
    assert_eq!(
        line("http.token"),
        "http.token = \"***\" # /t, named by environment variable PROCSTAR_HTTP_TOKEN_FILE"
    );
    assert!(!text.contains("hunter2"));
    let columns: BTreeSet<_> =
        text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.find(" = ")).collect();
    assert_eq!(columns.len(), 1, "names are aligned: {text}");
}

#[test]
fn config_show_speaks_json() {
    let text = showing().shown(&["config", "show", "--json", "--wait-timeout", "0.5"]);
    assert!(!text.contains("hunter2"));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let settings = json["settings"].as_object().unwrap();
    assert_eq!(settings.len(), KEYS.len());
    assert!(settings.keys().all(|name| find(name).is_some()));
    assert_eq!(
        settings["log.level"],
        serde_json::json!({"value": "info", "source": "file", "path": SYSTEM, "line": 2})
    );
    assert_eq!(
        settings["run.wait_timeout"],
        serde_json::json!({"value": 0.5, "source": "flag", "name": "--wait-timeout"})
    );
    assert_eq!(settings["agent.conn_id"], serde_json::json!({"value": null, "source": "default"}));
    assert_eq!(json["files"], serde_json::json!([{"path": SYSTEM, "state": "read"}]));
}

#[test]
fn config_show_runs_nothing_and_checks_all() {
    showing().refused(&["-x", "config", "show"]);
    showing().refused(&["config", "show", "spec.json"]);
    World::default().file(SYSTEM, "x = 1").refused(&["config", "show"]);
    World::default().shown(&["--agent", "config", "show"]);
}

#[test]
fn nothing_prints_a_secret() {
    let world = showing();
    let run = world.run(&["-x"]);
    assert_eq!(run.settings.agent.token.expose(), "hunter2");
    assert!(!format!("{run:?}").contains("hunter2"));
    let sources =
        Sources { env: &world.env, system_file: Path::new(SYSTEM), read: &|p| world.read(p) };
    let loaded = load(&sources, None, Layer::default()).unwrap();
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

// The log ----------------------------------------------------------------------------------------

/// Not a test by itself: what the next ones run as a process of its own, whose log they read.
#[test]
#[ignore = "run by the tests of the log"]
fn logging_child() {
    let Some(format) = std::env::var_os("LOGGING_CHILD_FORMAT") else { return };
    let format = if format == "json" { LogFormat::Json } else { LogFormat::Auto };
    logging::init(&LogSettings { level: LogLevel::Info, format }).unwrap();
    assert!(logging::init(&LogSettings::default()).is_err(), "there is one log");
    for _ in 0..1_000 {
        tracing::info!(target: "procstar::main", conn_id = "c\nforged", "started processes from specs");
    }
    tracing::debug!(target: "procstar::main", "too much");
    println!("\nsurvived");
}

/// Runs [`logging_child`] with that standard error.
fn logging_process(format: &str, stderr: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "logging_child", "--ignored", "--nocapture"])
        .env("LOGGING_CHILD_FORMAT", format)
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap()
}

#[test]
fn the_log_is_plain_lines_on_standard_error() {
    for format in ["auto", "json"] {
        let output = logging_process(format, Stdio::piped()).wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        assert_eq!(text.matches("started processes from specs").count(), 1_000);
        assert!(!text.contains('\u{1b}') && !text.contains("too much"));
        let ours = text.lines().filter(|line| line.contains("started processes from specs"));
        for line in ours {
            if format == "json" {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["conn_id"], "c\nforged");
            } else {
                assert!(line.contains("procstar::main: started") && line.contains("forged"));
            }
        }
    }
}

#[test]
fn a_log_that_nobody_takes_ends_nothing() {
    // A pipe whose reader is gone, one whose reader does not read, and a full device.
    let (reader, gone) = io::pipe().unwrap();
    drop(reader);
    let (_unread, stuck) = io::pipe().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for stderr in [Stdio::from(gone), Stdio::from(stuck), Stdio::from(full)] {
        let output = logging_process("auto", stderr).wait_with_output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("survived"));
    }
}
