//! Errors, each with the place that it names.

use super::*;

/// Specs, and the errors of each.
const ERRORS: &[(&str, &str)] = &[
    (
        r#"{"specs": {"a": {"argv": ["x"], "fds": [["stdout", "close"], ["1", "close"]]}}}"#,
        "1:62: specs.a.fds[1]: fd stdout given twice; remove one",
    ),
    (r#"{"specs": {"a": {"argv": []}}}"#, "specs.a.argv: nothing to execute"),
    (r#"{"specs": {"a": {"argv": ["a\u0000b"]}}}"#, "specs.a.argv[0]: the argument contains a NUL"),
    (
        r#"{"specs": {"a": {"argv": ["x"], "exe": "\u0000"}}}"#,
        "specs.a.exe: the path contains a NUL",
    ),
    (
        r#"{"specs": {"a b": {"argv": ["x"], "env": {"vars": {"A=B": "1"}}}}}"#,
        "specs[\"a b\"].env.vars[\"A=B\"]: the variable's name contains '='",
    ),
    (
        r#"{"specs": {"a": {"argv": ["x"], "env": {"vars": {"": "1"}}}}}"#,
        "the variable's name is empty",
    ),
    (
        r#"{"specs": {"a": {"argv": ["x"], "env": {"vars": {"A": "\u0000"}}}}}"#,
        "specs.a.env.vars.A: the value contains a NUL",
    ),
    (
        r#"{"specs": {"a": {"argv": ["x"], "env": {"inherit": ["A", "="]}}}}"#,
        "specs.a.env.inherit[1]: the variable's name contains '='",
    ),
    (
        r#"{"specs": {"a": {"argv": ["x"], "fds": [["1048576", "close"]]}}}"#,
        "specs.a.fds[0]: fd 1048576 is out of range",
    ),
    (
        r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", {"dup": {"fd": -1}}]]}}}"#,
        "specs.a.fds[0]: fd -1 to duplicate is out of range",
    ),
    (
        r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", {"file": {"path": "\u0000"}}]]}}}"#,
        "specs.a.fds[0]: the file's path contains a NUL",
    ),
    (
        r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", {"file": {"path": "x", "mode": 4096}}]]}}}"#,
        "specs.a.fds[0]: mode 4096 (0o10000) is out of range",
    ),
    (
        r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", "pipe-write"]]}}}"#,
        "specs.a.fds[0]: no process of this request reads",
    ),
    (
        r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", {"pipe-read": {"proc_id": "b", "fd": "1"}}]]}}}"#,
        "specs.a.fds[0]: fd stdout of process \"b\" of this request is not a pipe",
    ),
    (
        r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", "pipe-write"], ["0", {"pipe-read": {"proc_id": "a", "fd": "1"}}]]}}}"#,
        "specs.a.fds[1]: pipe-read from the process itself",
    ),
    // Of the wrong kind or shape.
    (r#"{"specs": {"a": {"argv": ["x"], "cdw": "/"}}}"#, "specs.a.cdw: unknown key `cdw`"),
    (r#"{"specs": {}, "x": 1}"#, "x: unknown key `x`"),
    (r#"{"specs": {"a": {"argv": ["x"]}, "a": {"argv": ["y"]}}}"#, "specs: key \"a\" given twice"),
    (
        r#"{"specs": {"a": {"argv": "x"}}}"#,
        "specs.a.argv: invalid type: string \"x\", expected an array",
    ),
    (r#"{"specs": {"a": {"argv": ["x"], "fds": [["out", "close"]]}}}"#, "invalid fd name \"out\""),
    (r#"{"specs": {"a": {"argv": ["x"], "fds": [["-1", "close"]]}}}"#, "invalid fd name \"-1\""),
    (r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", "capture"]]}}}"#, "specs.a.fds[0][1]"),
    (
        r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", {"capture": {"encoding": "latin-1"}}]]}}}"#,
        "unknown variant `latin-1`, expected one of `utf-8`",
    ),
    (
        r#"{"specs": {"a": {"argv": ["x"], "env": {"inherit": 1}}}}"#,
        "specs.a.env.inherit: invalid type: integer `1`, expected true, false or an array of variable names",
    ),
    ("{\n  \"specs\": {\n", "EOF while parsing"),
    ("[]", "invalid type: array, expected an object"),
    ("{\"specs\": {}} x", "1:15: invalid JSON: trailing characters"),
    ("", "1:1: invalid JSON: expected an object"),
];

#[test]
fn errors_name_their_place() {
    for (text, message) in ERRORS {
        let errors = errors(text);
        assert!(errors[0].contains(message), "{text}\n{errors:?}\nexpected {message}");
    }
}

/// Keys of a process, and the errors of each.
const ERRORS_OF_KEYS: &[(&str, &str)] = &[
    (r#""umask": "8""#, "umask: invalid umask \"8\""),
    (r#""umask": "+7""#, "umask: invalid umask \"+7\""),
    (r#""nice": 20"#, "nice: 20 is out of range: expected -20 to 19"),
    (r#""oom_score_adj": -1001"#, "oom_score_adj: -1001 is out of range"),
    (r#""cpu_affinity": []"#, "cpu_affinity: no CPU is given"),
    (r#""cpu_affinity": [0, 8192]"#, "cpu_affinity[1]: CPU 8192 is out of range"),
    (r#""io_priority": {"class": "idle", "level": 1}"#, "io_priority.level: the idle class"),
    (r#""io_priority": {"class": "best-effort", "level": 8}"#, "io_priority.level: 8 is out"),
    (r#""sandbox": {"profile": "lax"}"#, "sandbox.profile: unknown variant `lax`"),
    (r#""sandbox": {"pid_namespace": true}"#, "sandbox.pid_namespace: unknown key"),
    (
        r#""sandbox": {"capabilities": ["CAP_MAGIC"]}"#,
        "sandbox.capabilities[0]: unknown capability \"CAP_MAGIC\": expected a name such as CAP_NET_RAW, or a number from 0 to 63",
    ),
    (
        r#""sandbox": {"capabilities": ["chown", 64]}"#,
        "sandbox.capabilities[1]: unknown capability 64: ",
    ),
    (
        r#""sandbox": {"hidden_paths": ["x"]}"#,
        "sandbox.hidden_paths[0]: path \"x\" is not absolute",
    ),
    (
        r#""sandbox": {"hidden_paths": ["/a/../b"]}"#,
        "sandbox.hidden_paths[0]: path \"/a/../b\" has the component . or ..",
    ),
    (r#""sandbox": {"hidden_paths": ["/"]}"#, "sandbox.hidden_paths[0]: / cannot be hidden"),
    (
        r#""sandbox": {"hidden_paths": ["/a", "/a//b"]}"#,
        "sandbox.hidden_paths[1]: /a/b is below /a, which is hidden",
    ),
    (
        r#""sandbox": {"read_only_paths": ["/a"], "hidden_paths": ["/a/"]}"#,
        "sandbox.hidden_paths[0]: /a is also in read_only_paths; list it once",
    ),
    (
        r#""sandbox": {"profile": "basic", "read_only_paths": ["/var/tmp/x"]}"#,
        "sandbox.read_only_paths[0]: /var/tmp/x is in /var/tmp, which private_tmp replaces",
    ),
    (
        r#""sandbox": {"writable_paths": ["/a"], "read_only_paths": ["/ab"]}"#,
        "sandbox.writable_paths[0]: /a is below none of read_only_paths",
    ),
    (r#""rlimits": {"cpu": [2, 1]}"#, "rlimits.cpu: the soft limit is above the hard one"),
    (r#""rlimits": {"cpu": ["unlimited", 1]}"#, "rlimits.cpu: the soft limit is above"),
    (r#""rlimits": {"cpu": -1}"#, "rlimits.cpu: invalid limit -1: expected 0 or more"),
    (r#""rlimits": {"cpu": "much"}"#, "rlimits.cpu: invalid limit \"much\""),
    (r#""rlimits": {"cpus": 1}"#, "rlimits.cpus: unknown resource \"cpus\"; did you mean `cpu`?"),
    (r#""rlimits": {"cpu": [1]}"#, "rlimits.cpu: invalid length 1"),
    (r#""rlimits": {"cpu": 1, "cpu": 2}"#, "rlimits: key \"cpu\" given twice"),
    (r#""user": """#, "user: the name is empty"),
    (r#""groups": ["a", 4294967295]"#, "groups[1]: invalid user or group ID 4294967295: expected"),
    (r#""user": -1"#, "user: invalid user or group ID -1: expected"),
    (r#""signals": {"ignore": ["KILL"]}"#, "signals.ignore: SIGKILL cannot be ignored"),
    (r#""signals": {"block": ["STOP"]}"#, "signals.block: SIGSTOP cannot be blocked"),
    (
        r#""signals": {"ignore": ["INT"], "default": [2]}"#,
        "signals.ignore: SIGINT is also in default",
    ),
    (r#""pdeath_signal": "SIGFOO""#, "pdeath_signal: unknown signal \"SIGFOO\""),
    (r#""pdeath_signal": 65"#, "pdeath_signal: unknown signal \"65\": expected"),
    (r#""timeout": 0"#, "timeout: invalid timeout 0: expected more than 0 seconds"),
    (r#""stop": {"grace": -1}"#, "stop.grace: invalid duration -1: expected 0 to 1e10 seconds"),
    (r#""labels": {"": "x"}"#, "labels[\"\"]: the label's name is empty"),
    (r#""cwd": """#, "cwd: the path is empty"),
    (
        r#""env": {"vars": {"A": {}}}"#,
        "env.vars.A: expected exactly one of the keys `value` and `file`",
    ),
    (r#""env": {"vars": {"A": 1}}"#, "env.vars.A: invalid type: integer `1`, expected a string"),
    (
        r#""fds": {"1": {"data": {}}}"#,
        "fds.1: expected exactly one of the keys `text` and `base64`",
    ),
    (r#""fds": {"1": {"data": {"base64": "x"}}}"#, "fds.1.data.base64: invalid base64"),
    (r#""fds": {"1": {"dup": {"fd": 2}}, "2": {"dup": {"fd": 1}}}"#, "fds.1: duplicates itself"),
    (r#""fds": {"1": "close", "stdout": "close"}"#, "fds: key \"stdout\" given twice"),
    (
        r#""fds": [["1", {"capture": {"keep": {}}}]]"#,
        "fds[0][1].capture.keep: neither head nor tail",
    ),
    (
        r#""fds": [["1", {"capture": {"keep": {"tail": 1}, "compress": "zstd"}}]]"#,
        "fds[0][1].capture.keep: the tail of compressed output",
    ),
    (
        r#""fds": [["1", {"capture": {"file": {"path": "x"}}}]]"#,
        "fds[0][1].capture.file.path: path \"x\" is not",
    ),
    (r#""fds": [["1", {"capture": {"encoding": "latin1"}}]]"#, "unknown variant `latin1`"),
];

#[test]
fn errors_of_attributes_and_fds_name_their_place() {
    for (keys, wanted) in ERRORS_OF_KEYS {
        let text = format!(r#"{{"specs": {{"a": {{"argv": ["x"], {keys}}}}}}}"#);
        let found = errors(&text);
        assert!(found[0].contains(wanted), "{keys}: {found:?}");
    }
}
