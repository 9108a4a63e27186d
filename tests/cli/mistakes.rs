//! Typical mistakes, and the messages that name cause and remedy: a snapshot in `mistakes.txt`.
//!
//! A mistake in a spec has the same messages from `validate`, `--print`, `start` and HTTP, all at once. Run with `PROCSTAR_PUBLISH=1` to
//! write the snapshot anew; its difference is a decision.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::commands::harness::{Instance, Ran, procstar};

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/mistakes.txt");

/// Mistakes in a spec.
const SPECS: &[(&str, &str)] = &[
    ("typo in a key", r#"{"specs": {"a": {"argvv": ["true"]}}}"#),
    ("argv as a string", r#"{"specs": {"a": {"argv": "ls -l"}}}"#),
    ("number in quotes", r#"{"specs": {"a": {"argv": ["true"], "nice": "5"}}}"#),
    ("wrong type", r#"{"specs": {"a": {"argv": ["true"], "labels": ["x"]}}}"#),
    ("unknown unit", r#"{"specs": {"a": {"argv": ["true"], "timeout": "5 minuts"}}}"#),
    ("negative time", r#"{"specs": {"a": {"argv": ["true"], "timeout": -1}}}"#),
    ("missing argv", r#"{"specs": {"a": {}}}"#),
    ("empty argv", r#"{"specs": {"a": {"argv": []}}}"#),
    ("number in argv", r#"{"specs": {"a": {"argv": ["sleep", 5]}}}"#),
    ("bad signal", r#"{"specs": {"a": {"argv": ["true"], "stop": {"signal": "SIGFOO"}}}}"#),
    ("nice out of range", r#"{"specs": {"a": {"argv": ["true"], "nice": 30}}}"#),
    ("umask in decimal", r#"{"specs": {"a": {"argv": ["true"], "umask": "99"}}}"#),
    ("variable with =", r#"{"specs": {"a": {"argv": ["true"], "env": {"vars": {"A=B": "c"}}}}}"#),
    ("unknown fd name", r#"{"specs": {"a": {"argv": ["true"], "fds": [["out", "close"]]}}}"#),
    (
        "unknown kind of fd",
        r#"{"specs": {"a": {"argv": ["true"], "fds": [["stdout", "captured"]]}}}"#,
    ),
    (
        "an fd twice",
        r#"{"specs": {"a": {"argv": ["true"], "fds": [["stdout", "close"], ["1", "close"]]}}}"#,
    ),
    (
        "pipe without its other end",
        r#"{"specs": {"a": {"argv": ["true"], "fds": [["stdout", "pipe-write"]]}}}"#,
    ),
    (
        "mode of a capture",
        r#"{"specs": {"a": {"argv": ["true"], "fds": [["stdout", {"capture": {"mode": "memry"}}]]}}}"#,
    ),
    ("procs instead of specs", r#"{"procs": {"a": {"argv": ["true"]}}}"#),
    ("comma at the end", "{\"specs\": {\"a\": {\"argv\": [\"true\"],}}}"),
    ("YAML instead of JSON", "specs:\n  a:\n    argv: [true]\n"),
    ("TOML instead of JSON", "[specs.a]\nargv = [\"true\"]\n"),
    ("empty text", ""),
    ("comment in JSON", "{\"specs\": { // all\n\"a\": {\"argv\": [\"true\"]}}}\n"),
    ("unknown key unlike any other", r#"{"specs": {"a": {"argv": ["true"], "colour": 1}}}"#),
    ("an ID twice", r#"{"specs": {"a": {"argv": ["true"]}, "a": {"argv": ["false"]}}}"#),
    (
        "several at once",
        r#"{"specs": {"a": {"argv": "true", "nic": 5}, "b": {"argv": ["x"], "timeout": "soon"}}}"#,
    ),
];

/// Mistakes in a configuration file.
const CONFIGS: &[(&str, &str)] = &[
    ("typo in a setting", "[http]\nprot = 3000\n"),
    ("former name of a setting", "[http]\nserve = true\n"),
    ("port out of range", "[http]\nport = 70000\n"),
    ("text instead of a switch", "[http]\nenabled = \"maybe\"\n"),
    (
        "unknown unit in a setting",
        "[run]\nwait_timeout = \"5 minuts\"\n[http]\nmax_body = \"5 apples\"\n",
    ),
    ("weak token", "[http]\ntoken = \"secret\"\n"),
    ("URL instead of a host", "[agent]\nhost = \"wss://scheduler.example.com:59789\"\n"),
    (
        "several settings at once",
        "[log]\nlevel = \"loud\"\n[agent]\nprot = 1\n[http]\nbind = \"localhost\"\n",
    ),
    ("no TOML", "[http\nport = 1\n"),
    ("other machines without TLS", "[http]\nenabled = true\nbind = \"0.0.0.0\"\n"),
];

/// Mistakes in environment variables.
const VARIABLES: &[(&str, &[(&str, &str)])] = &[
    ("bad variable", &[("PROCSTAR_HTTP_PORT", "70000")]),
    (
        "several bad variables, and a bad file",
        &[
            ("PROCSTAR_HTTP_PORT", "http"),
            ("PROCSTAR_LOG_LEVEL", "loud"),
            ("PROCSTAR_HTTP_ENABLED", "maybe"),
            ("PROCSTAR_HTTP_TOKEN_FILE", "/no/such/token"),
        ],
    ),
];

/// Mistakes on the command line; `{port}` is in use, and `job` runs.
const LINES: &[(&str, &str)] = &[
    ("missing spec file", "--print missing.json"),
    ("directory instead of a spec file", "--print ."),
    ("missing configuration file", "--config missing.toml --exit"),
    ("port in use", "serve --port {port} --exit"),
    ("nothing to do", ""),
    ("unknown command", "lst"),
    ("unknown option", "ps --stat running"),
    ("unknown ID", "show jbo"),
    ("unknown ID to delete", "rm jbo"),
    ("running process to delete", "rm job"),
    ("unknown signal", "kill -s FOO job"),
    ("unknown state", "ps --state dead"),
    ("unknown unit on the command line", "wait -t 5x job"),
    ("no filter", "prune"),
    ("unknown fd", "logs --stream 7 job"),
    ("ID in use", "start --id job -- true"),
    ("command not found", "run no-such-command"),
    ("unknown resource", "run --rlimit files=1 true"),
    ("URL without a scheme", "ps --url localhost:3000"),
    ("no instance with this pid", "ps --pid 1"),
    ("no scheduler", "agent"),
];

/// The messages without the file's name, which HTTP does not know: `LINE:COLUMN: ...`.
fn messages(text: &str, file: &str) -> Vec<String> {
    let without_file = |line: &str| {
        let line = line.strip_prefix("procstar: ").unwrap_or(line);
        let rest = line.strip_prefix(file).and_then(|rest| rest.strip_prefix(':'));
        rest.unwrap_or_else(|| panic!("{line}")).trim_start().to_owned()
    };
    text.lines().map(without_file).collect()
}

fn http_messages(instance: &Instance, spec: &str) -> Vec<String> {
    let mut socket = UnixStream::connect(&instance.socket).unwrap();
    let head = "POST /procs HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    write!(socket, "{head}Content-Length: {}\r\n\r\n{spec}", spec.len()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let errors = body["errors"].as_array().unwrap_or_else(|| panic!("{spec}: {body}"));
    errors.iter().map(|error| error["detail"].as_str().unwrap().to_owned()).collect()
}

fn spec_mistakes(instance: &Instance, text: &mut String) {
    let file = instance.dir.path().join("spec.json");
    let name = file.to_str().unwrap();
    for (title, spec) in SPECS {
        std::fs::write(&file, spec).unwrap();
        let validated = instance.run(&["validate", name]);
        assert_eq!(validated.code, Some(2), "{title}: {validated:?}");
        let wanted = messages(&validated.out, name);
        let printed = instance.run(&["--print", name]);
        assert_eq!(printed.code, Some(2), "{title}: {printed:?}");
        assert_eq!(messages(&printed.err, name), wanted, "{title}: --print");
        let started = instance.run(&["start", name]);
        assert_eq!(started.code, Some(1), "{title}: {started:?}");
        assert_eq!(messages(&started.err, name), wanted, "{title}: start");
        assert_eq!(http_messages(instance, spec), wanted, "{title}: HTTP");
        writeln!(text, "## {title}\n{}\n{}\n", spec.trim_end(), wanted.join("\n")).unwrap();
    }
}

fn shown(title: &str, given: &str, ran: &Ran, hidden: &[(String, &str)]) -> String {
    assert!(ran.code != Some(0), "{title}: {ran:?}");
    let mut err = ran.err.trim_end().to_owned();
    for (from, to) in hidden {
        err = err.replace(from, to);
    }
    format!("## {title}\n{given}\n(exit {}) {err}\n\n", ran.code.unwrap())
}

fn config_mistakes(instance: &Instance, text: &mut String) {
    let path = |name: &str| instance.dir.path().join(name);
    let config = path("mistake.toml");
    let hidden = [(instance.dir.path().display().to_string(), "DIR")];
    for (title, toml) in CONFIGS {
        std::fs::write(&config, toml).unwrap();
        let ran = instance.run(&["--config", config.to_str().unwrap(), "--exit"]);
        assert_eq!(ran.code, Some(2), "{title}: {ran:?}");
        text.push_str(&shown(title, toml.trim_end(), &ran, &hidden));
    }
}

fn variable_mistakes(instance: &Instance, text: &mut String) {
    let config = instance.dir.path().join("mistake.toml");
    let hidden = [(instance.dir.path().display().to_string(), "DIR")];
    for (title, variables) in VARIABLES {
        let file = if variables.len() > 1 { "[agent]\nprot = 1\n" } else { "" };
        std::fs::write(&config, file).unwrap();
        let mut command = procstar(&instance.dir);
        command.args(["--config", config.to_str().unwrap(), "--exit"]);
        let ran = Ran::of(command.envs(variables.iter().copied()).output().unwrap());
        assert_eq!(ran.code, Some(2), "{title}: {ran:?}");
        let given: Vec<String> =
            variables.iter().map(|(n, value)| format!("{n}={value}")).collect();
        let given = format!("{file}{}", given.join(" "));
        text.push_str(&shown(title, &given, &ran, &hidden));
    }
}

fn line_mistakes(instance: &Instance, text: &mut String) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let hidden = [
        (instance.dir.path().display().to_string(), "DIR"),
        (format!(":{port}"), ":PORT"),
        (port.clone(), "PORT"),
    ];
    for (title, line) in LINES {
        let line = line.replace("{port}", &port);
        let mut command = procstar(&instance.dir);
        command.current_dir(instance.dir.path()).args(line.split_whitespace());
        let ran = Ran::of(command.output().unwrap());
        let given = format!("$ procstar {}", line.replace(&port, "PORT"));
        text.push_str(&shown(title, given.trim_end(), &ran, &hidden));
    }
}

#[test]
fn mistakes_have_messages_that_say_what_to_do() {
    let instance = Instance::new();
    instance.run(&["start", "--id", "job", "--", "sleep", "1000"]).good();
    let mut text = String::new();
    spec_mistakes(&instance, &mut text);
    config_mistakes(&instance, &mut text);
    variable_mistakes(&instance, &mut text);
    line_mistakes(&instance, &mut text);
    let path = Path::new(SNAPSHOT);
    if std::env::var_os("PROCSTAR_PUBLISH").is_some() {
        std::fs::write(path, &text).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(path).unwrap_or_default();
    for (new, old) in text.split("\n\n").zip(wanted.split("\n\n")) {
        assert_eq!(new, old, "if the new message is better, run with PROCSTAR_PUBLISH=1");
    }
    assert_eq!(text, wanted, "run with PROCSTAR_PUBLISH=1");
}
