//! `procstar run`: runs one process in the foreground. This module converts the options to a spec,
//! and the process's result to an exit code.
//!
//! The keeper and the worker are those of a one-shot of one process ([`crate::app`]). Only the
//! source of the spec, the handling of signals, and the exit code differ.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueHint};
use indexmap::IndexMap;

use super::descriptor::{self, Named};
use super::help;
use super::process_options::{Environment, ProcessOptions, option_error, text};
use crate::keeper::ProgramExit;
use crate::report::ProcessRecord;
use crate::spec::{
    CaptureSpec, FdEntry, FdName, FdSpec, Fds, NullSpec, ProcId, ProcSpec, StartRequest, StopSpec,
    Validated,
};

/// The exit code if the process's timeout expired, as of timeout(1).
pub const TIMED_OUT: u8 = 124;
/// The exit code if `procstar run` itself fails, or its arguments are invalid.
pub const EXIT_INTERNAL: u8 = 125;

/// Run one process in the foreground, as a shell would, with all that a spec can ask for.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = help::AFTER_RUN)]
pub struct RunCommand {
    /// The command and its arguments; after it, nothing is an option of procstar's
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,

    /// The attributes of the process.
    #[command(flatten)]
    options: ProcessOptions,

    /// Write the result as JSON to FILE when the process has ended; `-` for standard output
    #[arg(short, long, value_name = "FILE", help_heading = "Result")]
    #[arg(value_hint = ValueHint::FilePath)]
    results: Option<PathBuf>,

    /// Include standard output and standard error in the result
    #[arg(long, requires = "results", help_heading = "Result")]
    capture: bool,
}

/// A validated request for one process in the foreground.
#[derive(Clone, Debug)]
pub struct Foreground {
    /// Its ID.
    pub id: ProcId,
    /// The request of this one process.
    pub request: Validated,
    /// The destination of the result, if one was requested.
    pub result: Option<ResultTo>,
    /// Whether its output is captured and also copied to our own output.
    pub capture: bool,
    /// Time between the stop signal and SIGKILL.
    pub grace: Duration,
    /// Whether it belongs to our own job on the terminal, and gets the signals that the terminal
    /// sends to the job.
    pub shares_terminal: bool,
}

/// The destination of a result.
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
    /// The request, with `fds` added to the descriptors that its process inherits, as from a shell.
    /// The descriptor that the result is written to is left out.
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
    /// Converts the options to a request of one process, and validates it.
    ///
    /// On a terminal the process belongs to our own job, unless it runs as another user or group:
    /// such a process could insert input into our terminal. It also does not read from the terminal
    /// if we run in the background there.
    ///
    /// # Errors
    /// A text that names the invalid option.
    pub fn check(self, on: OnTerminal) -> Result<Foreground, String> {
        let result = self.results.clone().map(ResultTo::from);
        let capture = self.capture;
        let id = self.id()?;
        let shares_terminal = on.controlling && !self.options.has_account();
        let spec = self.spec(on.in_background && !shares_terminal)?;
        let grace = spec.stop.map_or(StopSpec::GRACE, |stop| stop.grace);
        let specs = IndexMap::from([(id.clone(), spec)]);
        let request = StartRequest { specs, all_or_nothing: false, idempotent: false };
        let mut request = request.validate().map_err(|errors| {
            let errors: Vec<_> = errors.0.iter().map(option_error).collect();
            errors.join("\n       ")
        })?;
        request.procs.values_mut().for_each(|proc| proc.shares_terminal = shares_terminal);
        Ok(Foreground { id, request, result, capture, grace: grace.duration(), shares_terminal })
    }

    fn id(&self) -> Result<ProcId, String> {
        if let Some(id) = self.options.id() {
            return Ok(ProcId::from(id.to_owned()));
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
        let other_user = self.options.has_user();
        // By default, another user's process has /dev/null as standard streams. But redirections
        // on our command line are meant for it.
        for fd in [FdName::STDIN, FdName::STDOUT, FdName::STDERR] {
            if other_user && fds.iter().all(|FdEntry(named, _)| *named != fd) {
                fds.push(FdEntry(fd, FdSpec::Inherit));
            }
        }
        let argv = self.command.into_iter().map(|word| text("CMD", word));
        let argv = argv.collect::<Result<_, _>>()?;
        let spec = self.options.spec(Environment::OfThisProgram)?;
        let stop = Some(
            spec.stop.unwrap_or(StopSpec { signal: StopSpec::SIGNAL, grace: StopSpec::GRACE }),
        );
        Ok(ProcSpec { argv, fds: Fds::InOrder(fds), stop, ..spec })
    }
}

/// The relation of this program to a terminal.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnTerminal {
    /// Whether it has a controlling terminal.
    pub controlling: bool,
    /// Whether its standard input is that terminal, and another job is in the foreground there. A
    /// process in a session of its own is not stopped by SIGTTIN when it reads from the terminal,
    /// so it would take the input of the foreground job.
    pub in_background: bool,
}

impl OnTerminal {
    /// The present relation.
    pub fn now() -> OnTerminal {
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let terminal = File::options().read(true).custom_flags(flags).open("/dev/tty");
        // An error means that standard input is not our controlling terminal.
        let foreground = nix::unistd::tcgetpgrp(io::stdin());
        OnTerminal {
            controlling: terminal.is_ok(),
            in_background: foreground.is_ok_and(|group| group != nix::unistd::getpgrp()),
        }
    }
}

/// Captures stdout and stderr through pipes and keeps their order. Reopening `/dev/stderr` does not
/// truncate a pipe.
fn captures() -> Vec<FdEntry> {
    let capture = CaptureSpec {
        encoding: Some(crate::spec::Encoding::Utf8),
        chunk_times: true,
        ..CaptureSpec::default()
    };
    [FdName::STDOUT, FdName::STDERR].map(|fd| FdEntry(fd, FdSpec::Capture(capture.clone()))).into()
}

/// The way in which this program exits for the result of its process: with the process's own exit
/// code, by the signal that ended the process, with 124 if its timeout expired, or with 127, 126 or
/// 125 if it was not started.
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
