//! A process as tables show it.
//!
//! The schema of a result is [`ResultBody`](crate::report::ResultBody). This module reads a view of
//! it: a few of its keys, as strings, so that it accepts the results of older and newer instances.
//! A test compares it with real results.

use indexmap::IndexMap;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::humanize;
use super::out::Style;
use super::table::Cell;

/// The parts of a result that tables need. A missing key, from an older instance, reads as an empty
/// one.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Proc {
    /// `running`, `terminated` or `error`.
    pub state: String,
    /// Errors.
    pub errors: Vec<String>,
    /// Its pid.
    pub pid: Option<i64>,
    /// Its exit status.
    pub status: Option<Status>,
    /// Its times.
    pub times: Times,
    /// Its resource usage.
    pub usage: Option<Usage>,
    /// Its entry in /proc.
    pub proc_stat: Option<Stat>,
    /// The reason for its end.
    pub reason: Option<String>,
    /// Its arguments.
    pub argv: Option<Vec<String>>,
    /// Its executable.
    pub exe: Option<String>,
    /// Its working directory.
    pub cwd: Option<String>,
    /// Its labels.
    pub labels: IndexMap<String, String>,
    /// Its captures, by fd.
    pub captures: IndexMap<String, Captured>,
    /// The number of descendants that outlive it; `None` if unknown.
    pub survivor_count: Option<u64>,
    /// The known ones; `None` if it is unknown whether any exist.
    #[serde(skip_serializing)]
    pub survivors: Option<Vec<IgnoredAny>>,
    /// The processes of its tree that could not be signaled.
    pub stop_failures: Vec<StopFailure>,
}

/// A process that could not be signaled.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct StopFailure {
    /// The process, and the reason.
    pub message: String,
}

/// An exit status.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Status {
    /// `None` if a signal ended it.
    pub exit_code: Option<u8>,
    /// The signal's number.
    pub signum: Option<u8>,
    /// The signal's name.
    pub signal: Option<String>,
    /// Whether it dumped core.
    pub core_dump: bool,
}

/// The times of a process and its result.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Times {
    /// The start.
    pub start: Option<String>,
    /// The time of the result.
    pub now: Option<String>,
    /// The end.
    pub stop: Option<String>,
    /// Seconds from start to end.
    pub elapsed: Option<f64>,
}

/// Resource usage.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Usage {
    /// Seconds of CPU time.
    pub cpu: f64,
    /// Maximum of resident bytes.
    pub maxrss: Option<u64>,
}

/// An entry of /proc.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Stat {
    /// Resident bytes.
    pub rss: u64,
    /// The kernel's letter for the state.
    pub state: String,
    /// Threads.
    pub num_threads: i64,
}

/// The completeness of a capture.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Captured {
    /// Bytes kept.
    pub length: u64,
    /// Bytes dropped.
    pub dropped: u64,
    /// Whether no byte is missing.
    pub complete: bool,
    /// The reason for missing bytes.
    pub reason: Option<String>,
    /// The file named in the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
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
        self.state == "running"
    }

    /// Its state in a word; a running process may be suspended (the kernel's state T) or held by a
    /// debugger.
    pub fn state_name(&self) -> &str {
        let kernel = self.proc_stat.as_ref().map(|stat| stat.state.as_str());
        match kernel.filter(|_| self.is_running()) {
            Some("T") => "suspended",
            Some("t") => "traced",
            _ => &self.state,
        }
    }

    /// Its state, in a colour for success or failure.
    pub fn state(&self) -> Cell {
        let failed = self.status.as_ref().is_some_and(|status| status.exit_code != Some(0));
        let style = match self.state_name() {
            "running" => Style::Green,
            "suspended" | "traced" => Style::Yellow,
            "error" => Style::Red,
            _ if failed => Style::Yellow,
            _ => Style::Plain,
        };
        Cell::styled(self.state_name(), style)
    }

    /// Its exit status, in a word or two.
    pub fn ending(&self) -> String {
        let Some(status) = &self.status else { return "-".into() };
        let how = match (&status.signal, status.exit_code) {
            (Some(signal), _) => signal.clone(),
            (None, Some(code)) => format!("exit {code}"),
            (None, None) => "unknown".into(),
        };
        match self.reason.as_deref() {
            None | Some("exited" | "signaled" | "error") => how,
            Some(reason) => format!("{how}, {}", reason.replace('_', " ")),
        }
    }

    /// Its arguments, quoted if necessary.
    pub fn command(&self) -> String {
        let argv = self.argv.as_deref().unwrap_or_default();
        match (argv, &self.exe) {
            ([], exe) => exe.clone().unwrap_or_else(|| "-".into()),
            (argv, _) => argv.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" "),
        }
    }

    /// Seconds since its start.
    pub fn age(&self) -> Option<f64> {
        humanize::between(self.times.start.as_deref()?, self.times.now.as_deref()?)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn proc(json: serde_json::Value) -> Proc {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_process_that_does_not_go_on_is_no_running_one() {
        for (state, kernel, told) in [
            ("running", "S", "running"),
            ("running", "T", "suspended"),
            ("running", "t", "traced"),
            ("terminated", "T", "terminated"),
        ] {
            let proc = proc(serde_json::json!({"state": state, "proc_stat": {"state": kernel}}));
            assert_eq!((proc.state_name(), proc.state()), (told, proc.state()), "{state} {kernel}");
        }
        assert_eq!(proc(serde_json::json!({"state": "running"})).state_name(), "running");
    }

    #[test]
    fn endings() {
        let ending = |json| proc(json).ending();
        assert_eq!(ending(serde_json::json!({"state": "running", "status": null})), "-");
        let status = |code: Option<u8>, signal: Option<&str>| serde_json::json!({"status": 0, "exit_code": code, "signum": null, "signal": signal, "core_dump": false});
        for (reason, code, signal, told) in [
            ("exited", Some(3), None, "exit 3"),
            ("signaled", None, Some("SIGSEGV"), "SIGSEGV"),
            ("timeout", Some(0), None, "exit 0, timeout"),
            ("out_of_memory", None, Some("SIGKILL"), "SIGKILL, out of memory"),
            ("error", Some(127), None, "exit 127"),
        ] {
            let json = serde_json::json!({"reason": reason, "status": status(code, signal)});
            assert_eq!(ending(json), told);
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
