//! A result as tables show it.

use std::ops::Deref;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::humanize;
use super::out::Style;
use super::table::Cell;
use crate::report::status::ProcState;
use crate::report::{Reason, ResultBody, Word};

/// A result, read by the type that the instance writes it by.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Proc(ResultBody<'static, String>);

impl Deref for Proc {
    type Target = ResultBody<'static, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Proc {
    /// Reads a result.
    ///
    /// # Errors
    /// The reason why it is invalid.
    pub fn of(result: &RawValue) -> Result<Proc, String> {
        serde_json::from_str(result.get()).map_err(|error| error.to_string())
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.state == ProcState::Running
    }

    /// Its state in a word; a running process may be suspended (the kernel's state T) or held by a
    /// debugger.
    pub fn state_name(&self) -> String {
        let kernel = self.proc_stat.as_ref().map(|stat| stat.state);
        match kernel.filter(|_| self.is_running()) {
            Some('T') => "suspended".into(),
            Some('t') => "traced".into(),
            _ => self.state.to_string(),
        }
    }

    /// Its state, in a colour for success or failure.
    pub fn state(&self) -> Cell {
        let failed = self.status.as_ref().is_some_and(|status| status.exit_code != Some(0));
        let name = self.state_name();
        let style = match name.as_str() {
            "running" => Style::Green,
            "suspended" | "traced" => Style::Yellow,
            "error" => Style::Red,
            _ if failed => Style::Yellow,
            _ => Style::Plain,
        };
        Cell::styled(&name, style)
    }

    /// Its exit status, in a word or two.
    pub fn ending(&self) -> String {
        let Some(status) = &self.status else { return "-".into() };
        let how = match (&status.signal, status.exit_code) {
            (Some(signal), _) => signal.to_string(),
            (None, Some(code)) => format!("exit {code}"),
            (None, None) => "unknown".into(),
        };
        match &self.reason {
            None | Some(Word::Known(Reason::Exited | Reason::Signaled | Reason::Error)) => how,
            Some(reason) => format!("{how}, {}", reason.to_string().replace('_', " ")),
        }
    }

    /// Its arguments, quoted if necessary.
    pub fn command(&self) -> String {
        let argv = self.argv.as_deref().unwrap_or_default();
        match (argv, &self.exe) {
            ([], exe) => exe.as_deref().unwrap_or("-").to_owned(),
            (argv, _) => argv.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" "),
        }
    }

    /// Seconds since its start.
    pub fn age(&self) -> f64 {
        humanize::between(self.times.start, self.times.now)
    }

    /// Resident bytes: at present, or the maximum.
    pub fn memory(&self) -> Option<u64> {
        let now = self.proc_stat.as_ref().map(|stat| stat.rss);
        let most = self.usage.as_ref().and_then(|usage| usage.maxrss);
        if self.is_running() { now } else { most }
    }

    /// Its labels.
    pub fn labels(&self) -> String {
        let pairs = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        or_dash(pairs.collect::<Vec<_>>().join(","))
    }

    /// Captured bytes.
    pub fn captured(&self) -> String {
        match self.captures.len() {
            0 => "-".into(),
            _ => humanize::bytes(self.captures.values().map(|capture| capture.length).sum()),
        }
    }
}

/// A text, or a dash if it is empty.
pub fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

/// An argument, quoted for a shell.
fn quoted(arg: &str) -> String {
    let plain = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "%+,-./:=@_^".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.to_owned();
    }
    format!("'{}'", arg.replace('\'', r"'\''"))
}

/// A result of a running process that has only the required keys, with these changes: a key of a
/// part replaces that key alone.
#[cfg(test)]
pub fn sample_json(changes: &serde_json::Value) -> serde_json::Value {
    use serde_json::{Value, json};
    let time = "2026-03-01T12:00:00.000000+00:00";
    let parts = json!({
        "status": {"status": 0, "exit_code": null, "signum": null, "signal": null, "core_dump": false},
        "usage": {"cpu": 0.0, "utime": 0.0, "stime": 0.0, "cutime": 0.0, "cstime": 0.0, "minflt": 0, "majflt": 0,
            "cminflt": 0, "cmajflt": 0, "maxrss": null},
        "proc_stat": {"pid": 7, "comm": "x", "state": "S", "ppid": 1, "pgrp": 7, "session": 7, "tty_nr": [0, 0],
            "tpgid": null, "flags": 0, "minflt": 0, "cminflt": 0, "majflt": 0, "cmajflt": 0, "utime": 0.0, "stime": 0.0,
            "cutime": 0.0, "cstime": 0.0, "priority": 20, "nice": 0, "num_threads": 1, "starttime": time, "vsize": 0,
            "rss": 0, "rsslim": 0, "signal": [], "blocked": [], "sigignore": [], "sigcatch": [], "wchan": 0},
    });
    let mut whole = json!({
        "state": "running",
        "times": {"start": time, "now": time, "stop": null, "elapsed": 0.0},
        "group_id": "default",
        "agent": {"pid": 1, "host": "h", "user": "u", "version": "2"},
        "fds": {},
    });
    for (key, value) in changes.as_object().unwrap() {
        let part = if whole[key].is_object() { &whole[key] } else { &parts[key] };
        let mut part = part.clone();
        match (&mut part, value) {
            (Value::Object(part), Value::Object(changes)) => part.extend(changes.clone()),
            _ => part = value.clone(),
        }
        whole[key] = part;
    }
    whole
}

/// [`sample_json`], read.
#[cfg(test)]
pub fn sample(changes: &serde_json::Value) -> Proc {
    serde_json::from_value(sample_json(changes)).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proc(json: serde_json::Value) -> Proc {
        sample(&json)
    }

    /// A client goes on working with an instance of another version.
    #[test]
    fn other_keys_and_words_are_no_mistakes() {
        let proc = proc(serde_json::json!({
            "state": "terminated",
            "reason": "stolen_away",
            "novelty": {"x": 1},
            "times": {"novelty": 1},
            "status": {"exit_code": 0, "novelty": 1},
            "captures": {"1": {"length": 7, "dropped": 0, "complete": false, "reason": "burnt", "compression": "lzma"}},
            "survivors": [{"pid": 7, "comm": "x", "session": 7, "relation": "cousin"}],
        }));
        assert_eq!(
            (proc.ending().as_str(), proc.captured().as_str()),
            ("exit 0, stolen away", "7 B")
        );
        assert_eq!(
            (proc.errors.len(), proc.stop_failures.len(), proc.labels().as_str()),
            (0, 0, "-")
        );
        let other = sample(&serde_json::json!({"state": "frozen"}));
        assert_eq!((other.state_name().as_str(), other.is_running()), ("frozen", false));
    }

    #[test]
    fn a_process_that_does_not_go_on_is_no_running_one() {
        for (state, kernel, text) in [
            ("running", "S", "running"),
            ("running", "T", "suspended"),
            ("running", "t", "traced"),
            ("terminated", "T", "terminated"),
        ] {
            let proc = proc(serde_json::json!({"state": state, "proc_stat": {"state": kernel}}));
            assert_eq!(
                (proc.state_name(), proc.state()),
                (text.to_owned(), proc.state()),
                "{state} {kernel}"
            );
        }
        assert_eq!(proc(serde_json::json!({"state": "running"})).state_name(), "running");
    }

    #[test]
    fn endings() {
        let ending = |json| proc(json).ending();
        assert_eq!(ending(serde_json::json!({"state": "running", "status": null})), "-");
        let status = |code: Option<u8>, signal: Option<&str>| serde_json::json!({"status": 0, "exit_code": code, "signum": null, "signal": signal, "core_dump": false});
        for (reason, code, signal, text) in [
            ("exited", Some(3), None, "exit 3"),
            ("signaled", None, Some("SIGSEGV"), "SIGSEGV"),
            ("timeout", Some(0), None, "exit 0, timeout"),
            ("out_of_memory", None, Some("SIGKILL"), "SIGKILL, out of memory"),
            ("error", Some(127), None, "exit 127"),
        ] {
            let json = serde_json::json!({"reason": reason, "status": status(code, signal)});
            assert_eq!(ending(json), text);
        }
    }

    #[test]
    fn commands_can_be_pasted() {
        let argv = proc(serde_json::json!({"argv": ["sh", "-c", "echo 'a b'", ""]}));
        assert_eq!(argv.command(), r"sh -c 'echo '\''a b'\''' ''");
        assert_eq!(proc(serde_json::json!({"argv": [], "exe": "/bin/x"})).command(), "/bin/x");
        assert_eq!(proc(serde_json::json!({})).command(), "-");
    }
}
