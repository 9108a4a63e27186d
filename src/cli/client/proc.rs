//! A process as tables show it: what they need of a result.
//!
//! The schema of a result is [`ResultBody`](crate::report::ResultBody). What is read here is a view of
//! it: few of its keys, and those of an older or a newer instance, too, so words are text. A test holds
//! it to real results.

use indexmap::IndexMap;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::humanize;
use super::out::Style;
use super::table::Cell;

/// What tables need of a result. Keys that an older instance does not have are as empty ones.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Proc {
    /// `running`, `terminated` or `error`.
    pub state: String,
    /// What went wrong.
    pub errors: Vec<String>,
    /// Its pid.
    pub pid: Option<i64>,
    /// How it ended.
    pub status: Option<Status>,
    /// When.
    pub times: Times,
    /// What it has used.
    pub usage: Option<Usage>,
    /// Of /proc.
    pub proc_stat: Option<Stat>,
    /// Why it no longer runs.
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
    /// How many descendants outlive it; none where that is not known.
    pub survivor_count: Option<u64>,
    /// Those that are known; none where it is not known whether there are any.
    #[serde(skip_serializing)]
    pub survivors: Option<Vec<IgnoredAny>>,
    /// Who of its tree could not be signaled.
    pub stop_failures: Vec<StopFailure>,
}

/// A process that could not be signaled.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct StopFailure {
    /// Selector, and why not.
    pub message: String,
}

/// How a process ended.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Status {
    /// Where no signal did it.
    pub exit_code: Option<u8>,
    /// The signal's number,
    pub signum: Option<u8>,
    /// and name.
    pub signal: Option<String>,
    /// Whether it dumped core.
    pub core_dump: bool,
}

/// When a process began and ended.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Times {
    /// Began.
    pub start: Option<String>,
    /// The result was made.
    pub now: Option<String>,
    /// Ended.
    pub stop: Option<String>,
    /// Seconds in between.
    pub elapsed: Option<f64>,
}

/// What a process has used.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Usage {
    /// Seconds of CPU time.
    pub cpu: f64,
    /// The most bytes resident.
    pub maxrss: Option<u64>,
}

/// What /proc tells of a process.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Stat {
    /// Bytes resident.
    pub rss: u64,
    /// The kernel's letter.
    pub state: String,
    /// Threads.
    pub num_threads: i64,
}

/// How complete a capture is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Captured {
    /// Bytes kept.
    pub length: u64,
    /// Bytes dropped.
    pub dropped: u64,
    /// Whether that is all.
    pub complete: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The file that the spec names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Proc {
    /// Reads a result.
    ///
    /// # Errors
    /// What it is instead of one.
    pub fn of(result: &RawValue) -> Result<Proc, String> {
        serde_json::from_str(result.get()).map_err(|error| error.to_string())
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// Its state in a word: of one that runs, whether it is suspended (the kernel's state T) or held by a debugger.
    pub fn state_name(&self) -> &str {
        let kernel = self.proc_stat.as_ref().map(|stat| stat.state.as_str());
        match kernel.filter(|_| self.is_running()) {
            Some("T") => "suspended",
            Some("t") => "traced",
            _ => &self.state,
        }
    }

    /// Its state, coloured by how well it is.
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

    /// How it ended, in a word or two.
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

    /// Its arguments, those that need it quoted.
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

    /// Bytes resident: now, or the most that there were.
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

    /// Bytes captured.
    pub fn captured(&self) -> String {
        match self.captures.len() {
            0 => "-".into(),
            _ => humanize::bytes(self.captures.values().map(|capture| capture.length).sum()),
        }
    }
}

/// A text, or a dash for none.
pub fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

/// An argument as a shell would take it back.
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
