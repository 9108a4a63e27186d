//! `procstar run`: one process in the foreground, from options to a spec, and from its end to an exit code.
//!
//! It is a one-shot of one process: the same keeper and the same worker run it ([`crate::app`]). What differs is here: where the spec comes
//! from, who gets signals, and what the exit code says.

mod values;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueHint};
use indexmap::IndexMap;

use self::values::{Bounds, Label, Variable};
use super::descriptor::{self, Named};
use super::help;
use crate::keeper::ProgramExit;
use crate::quantity::Seconds;
use crate::report::ProcessRecord;
use crate::spec::{
    Account, CaptureSpec, EnvSpec, FdEntry, FdName, FdSpec, Fds, INHERITED_BY_OTHERS, Inherit,
    NullSpec, ProcId, ProcSpec, SignalRef, SpecError, StartRequest, StopSpec, Validated, VarSpec,
};

/// The exit code where the process's time was over, as of timeout(1).
pub const TIMED_OUT: u8 = 124;
/// The exit code where `procstar run` itself fails, or is called wrongly.
pub const EXIT_INTERNAL: u8 = 125;

/// Run one process in the foreground, as a shell would, with all that a spec can ask for.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = help::AFTER_RUN)]
pub struct RunCommand {
    /// The command and its arguments; after it, nothing is an option of procstar's
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,

    /// Run it in this directory
    #[arg(short = 'C', long, value_name = "DIR", help_heading = "Process")]
    #[arg(value_hint = ValueHint::DirPath)]
    cwd: Option<OsString>,

    /// Set a variable, or with the name alone pass ours on; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Process")]
    env: Vec<Variable>,

    /// Pass on none of our variables but those named with -e
    #[arg(long, help_heading = "Process")]
    no_env: bool,

    /// Remove a variable; may be repeated
    #[arg(long, value_name = "NAME", help_heading = "Process")]
    unset: Vec<String>,

    /// Run it as this user, with its groups; a name or a number
    #[arg(short, long, value_name = "USER", value_parser = values::account)]
    #[arg(help_heading = "Process")]
    #[arg(value_hint = ValueHint::Username)]
    user: Option<Account>,

    /// Run it as this group
    #[arg(short, long, value_name = "GROUP", value_parser = values::account)]
    #[arg(help_heading = "Process")]
    group: Option<Account>,

    /// Limit a resource, as `nofile=1024` or `core=0:unlimited`, soft and hard; may be repeated
    #[arg(short, long, value_name = "RESOURCE=N", help_heading = "Process")]
    limit: Vec<Bounds>,

    /// Its file mode creation mask, in octal
    #[arg(long, value_name = "MASK", help_heading = "Process")]
    umask: Option<String>,

    /// Its nice value, -20 to 19
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    #[arg(help_heading = "Process")]
    nice: Option<i32>,

    /// Take CMD for a path, even if it has no slash, instead of looking it up in the process's PATH
    #[arg(long, help_heading = "Process")]
    no_search_path: bool,

    /// Stop it after this time: seconds, or with s, m, h or d
    #[arg(short, long, value_name = "TIME", help_heading = "Stopping")]
    timeout: Option<Seconds>,

    /// How long it then has before it is killed with all its descendants (default: 10)
    #[arg(short = 'k', long, value_name = "TIME", help_heading = "Stopping")]
    grace: Option<Seconds>,

    /// By which signal it is stopped when its time is over (default: TERM)
    #[arg(long, value_name = "SIGNAL", value_parser = values::signal)]
    #[arg(help_heading = "Stopping")]
    signal: Option<SignalRef>,

    /// Write the result as JSON to this file when it has ended; `-` for standard output
    #[arg(short, long, value_name = "PATH", help_heading = "Result")]
    #[arg(value_hint = ValueHint::FilePath)]
    result: Option<PathBuf>,

    /// Have what it writes to standard output and standard error in the result too
    #[arg(long, requires = "result", help_heading = "Result")]
    capture: bool,

    /// Its ID in the result (default: the command's file name)
    #[arg(long, value_name = "ID", help_heading = "Result")]
    id: Option<String>,

    /// A label in the result; may be repeated
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Result")]
    label: Vec<Label>,
}

/// One process in the foreground, checked.
#[derive(Clone, Debug)]
pub struct Foreground {
    /// Its ID.
    pub id: ProcId,
    /// The request of this one process.
    pub request: Validated,
    /// Where the result goes.
    pub result: Option<ResultTo>,
    /// Whether its output is captured, and copied to ours.
    pub capture: bool,
    /// How long it may take to end once it is asked.
    pub grace: Duration,
    /// Whether it is a part of our own job on the terminal, and gets what that sends.
    pub shares_terminal: bool,
}

/// Where a result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultTo {
    /// Standard output.
    Stdout,
    /// A path, which may name a descriptor.
    Path(PathBuf),
}

impl From<PathBuf> for ResultTo {
    fn from(path: PathBuf) -> Self {
        if path == Path::new("-") { ResultTo::Stdout } else { ResultTo::Path(path) }
    }
}

impl Foreground {
    /// The request, its process having these descriptors of ours too, as under a shell; but not the one that the result goes to.
    pub fn with_fds(&self, fds: &[RawFd]) -> Validated {
        let result = match &self.result {
            Some(ResultTo::Path(path)) => descriptor::resolve(path).ok(),
            _ => None,
        };
        let mut request = self.request.clone();
        let passed = fds.iter().copied().filter(|fd| result != Some(Named::Own(*fd)));
        for proc in request.procs.values_mut() {
            proc.passed = passed.clone().collect();
        }
        request
    }
}

impl RunCommand {
    /// What is asked for, as a request of one process. On a terminal the process is a part of our own job there; unless it is another user's, who
    /// could type into the terminal for us. That one does not read from a terminal in whose background it is.
    ///
    /// # Errors
    /// A text that names the option that is wrong.
    pub fn check(self, on: OnTerminal) -> Result<Foreground, String> {
        let result = self.result.clone().map(ResultTo::from);
        let capture = self.capture;
        let id = self.id()?;
        let shares_terminal = on.controlling && self.user.is_none() && self.group.is_none();
        let spec = self.spec(on.in_background && !shares_terminal)?;
        let grace = spec.stop.map_or(StopSpec::GRACE, |stop| stop.grace);
        let specs = IndexMap::from([(id.clone(), spec)]);
        let request = StartRequest { specs, all_or_nothing: false, idempotent: false };
        let mut request = request.validate().map_err(|errors| {
            let errors: Vec<_> = errors.0.iter().map(told).collect();
            errors.join("\n       ")
        })?;
        request.procs.values_mut().for_each(|proc| proc.shares_terminal = shares_terminal);
        Ok(Foreground { id, request, result, capture, grace: grace.duration(), shares_terminal })
    }

    fn id(&self) -> Result<ProcId, String> {
        if let Some(id) = &self.id {
            return Ok(ProcId::from(id.clone()));
        }
        let command = self.command.first().map(OsString::as_os_str).unwrap_or_default();
        let name = Path::new(command).file_name().unwrap_or(OsStr::new("run"));
        Ok(ProcId::from(text("CMD", name.to_owned())?))
    }

    fn spec(self, in_background: bool) -> Result<ProcSpec, String> {
        let mut fds = if self.capture { captures() } else { Vec::new() };
        if in_background {
            fds.push(FdEntry(FdName::STDIN, FdSpec::Null(NullSpec::default())));
        }
        // Another user's process has ours as well: whoever redirects a command's output means it to go there.
        for fd in [FdName::STDIN, FdName::STDOUT, FdName::STDERR] {
            if self.user.is_some() && fds.iter().all(|FdEntry(named, _)| *named != fd) {
                fds.push(FdEntry(fd, FdSpec::Inherit));
            }
        }
        let argv = self.command.into_iter().map(|word| text("CMD", word));
        let stop = StopSpec {
            signal: self.signal.unwrap_or(StopSpec::SIGNAL),
            grace: self.grace.unwrap_or(StopSpec::GRACE),
        };
        Ok(ProcSpec {
            argv: argv.collect::<Result<_, _>>()?,
            env: environment(self.env, self.unset, self.no_env, self.user.is_some()),
            fds: Fds::InOrder(fds),
            lookup_path: !self.no_search_path,
            cwd: self.cwd.map(|cwd| text("--cwd", cwd)).transpose()?,
            umask: self.umask,
            user: self.user,
            group: self.group,
            rlimits: self
                .limit
                .into_iter()
                .map(|Bounds(resource, pair)| (resource, pair))
                .collect(),
            nice: self.nice,
            labels: self.label.into_iter().map(|Label(name, value)| (name, value)).collect(),
            timeout: self.timeout,
            stop: Some(stop),
            ..ProcSpec::default()
        })
    }
}

/// How this program is on a terminal.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnTerminal {
    /// Whether it has a controlling terminal.
    pub controlling: bool,
    /// Whether its standard input is that one, whose foreground is somebody else. A process with a session of its own is not stopped
    /// when it reads from there all the same, and would take what is meant for that one.
    pub in_background: bool,
}

impl OnTerminal {
    /// How it is now.
    pub fn now() -> OnTerminal {
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let terminal = File::options().read(true).custom_flags(flags).open("/dev/tty");
        // An error is that it is not our terminal.
        let foreground = nix::unistd::tcgetpgrp(io::stdin());
        OnTerminal {
            controlling: terminal.is_ok(),
            in_background: foreground.is_ok_and(|group| group != nix::unistd::getpgrp()),
        }
    }
}

/// Specs are JSON, and so is the result: their texts are UTF-8.
fn text(what: &str, value: OsString) -> Result<String, String> {
    value.into_string().map_err(|value| {
        format!("{what}: {value:?} is not UTF-8; give it by a script or a file, which may hold any bytes")
    })
}

/// The environment: that of this program, or, for another user, what it inherits by default, and what is named.
fn environment(set: Vec<Variable>, unset: Vec<String>, none: bool, by_other: bool) -> EnvSpec {
    let named = set.iter().filter_map(|variable| match variable {
        Variable::Inherit(name) => Some(name.clone()),
        Variable::Set(..) => None,
    });
    let named: Vec<String> = named.collect();
    let inherit = match (none, by_other) {
        (true, _) => Some(Inherit::Names(named)),
        (false, true) if !named.is_empty() => {
            let by_default = INHERITED_BY_OTHERS.map(str::to_owned);
            Some(Inherit::Names(named.into_iter().chain(by_default).collect()))
        }
        (false, true) => None,
        (false, false) => Some(Inherit::All),
    };
    let mut vars: IndexMap<String, VarSpec> =
        unset.into_iter().map(|name| (name, VarSpec::Unset)).collect();
    for variable in set {
        if let Variable::Set(name, value) = variable {
            vars.insert(name, VarSpec::Text(value));
        }
    }
    EnvSpec { inherit, vars, in_result: false }
}

/// Both outputs through pipes, which a process that opens `/dev/stderr` anew does not truncate, and with their order.
fn captures() -> Vec<FdEntry> {
    let capture = CaptureSpec {
        encoding: Some(crate::spec::Encoding::Utf8),
        chunk_times: true,
        ..CaptureSpec::default()
    };
    [FdName::STDOUT, FdName::STDERR].map(|fd| FdEntry(fd, FdSpec::Capture(capture.clone()))).into()
}

/// An error of the spec as one of the command line: by the option, not by the place in a document that nobody has written.
fn told(error: &SpecError) -> String {
    use crate::spec::Segment;
    let key = error.place.segments().iter().skip(2).find_map(|segment| match segment {
        Segment::Key(key) => Some(key.as_str()),
        Segment::Index(_) => None,
    });
    let option = match key {
        Some("argv" | "exe") => "CMD",
        Some("cwd") => "--cwd",
        Some("env") => "--env",
        Some("rlimits") => "--limit",
        Some("umask") => "--umask",
        Some("nice") => "--nice",
        Some("labels") => "--label",
        Some("timeout") => "--timeout",
        Some("stop") => "--grace or --signal",
        Some("user") => "--user",
        Some("group") => "--group",
        _ => return error.to_string(),
    };
    format!("{option}: {}", error.message)
}

/// How the program ends after this end of its process: with the process's own exit code; 124 where its time was over; by the signal that has
/// ended it; 127, 126 and 125 where it was not started.
pub fn exit_of(record: &ProcessRecord) -> ProgramExit {
    if record.reason().as_deref() == Some("timeout") {
        return ProgramExit::Code(TIMED_OUT);
    }
    let Some(status) = record.status() else { return ProgramExit::Code(EXIT_INTERNAL) };
    match (status.exit_code, status.signum) {
        (None, Some(signum)) => ProgramExit::Signal(signum),
        (code, _) => ProgramExit::Code(
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_INTERNAL),
        ),
    }
}

#[cfg(test)]
mod tests;
