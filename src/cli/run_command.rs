//! `procstar run`: one process in the foreground, from options to a spec, and from its end to an
//! exit code.
//!
//! It is a one-shot of one process: the same keeper and the same worker run it ([`crate::app`]).
//! What differs is here: where the spec comes from, who gets signals, and what the exit code says.

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

    /// What the process has.
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
    /// The request, its process having these descriptors of ours too, as under a shell; but not the
    /// one that the result goes to.
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
    /// What is asked for, as a request of one process. On a terminal the process is a part of our
    /// own job there; unless it is another user's, who could type into the terminal for us. That
    /// one does not read from a terminal in whose background it is.
    ///
    /// # Errors
    /// A text that names the option that is wrong.
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
        // Redirections of a command are meant for its process, another user's too.
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

/// How this program is on a terminal.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnTerminal {
    /// Whether it has a controlling terminal.
    pub controlling: bool,
    /// Whether its standard input is that one, whose foreground is somebody else. A process with a
    /// session of its own is not stopped when it reads from there all the same, and would take what
    /// is meant for that one.
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

/// How the program ends after this end of its process: with the process's own exit code; 124 where
/// its time was over; by the signal that has ended it; 127, 126 and 125 where it was not started.
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
