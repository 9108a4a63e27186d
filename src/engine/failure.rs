//! Why a process was not started as specified.

use std::fmt;
use std::io;

/// The step of starting a process that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Stage {
    /// The executable is not the one this agent is restricted to; nothing was tried.
    Restrict,
    /// The process could not be made.
    Fork,
    /// An fd could not be set up.
    Fd(i32),
    /// The set-up ended before exec, by a signal.
    Setup,
    /// The program could not be executed.
    Exec {
        /// Whether there is no such executable.
        missing: bool,
    },
    /// Another process of the same request failed, and all or none were to be started; nothing was tried.
    Peer,
}

impl Stage {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Restrict => "restrict",
            Stage::Fork => "fork",
            Stage::Fd(_) => "fd",
            Stage::Setup => "setup",
            Stage::Exec { .. } => "exec",
            Stage::Peer => "peer",
        }
    }

    /// The fd concerned, where it is about one.
    pub fn fd(self) -> Option<i32> {
        match self {
            Stage::Fd(fd) => Some(fd),
            _ => None,
        }
    }
}

/// One failure; a process can have several, one for each fd.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StartFailure {
    /// Which step.
    pub stage: Stage,
    /// The OS error number; 0 where none is behind it.
    pub errno: i32,
    /// The path concerned, where there is one; of [`Stage::Peer`], the other process's ID.
    pub path: Option<String>,
}

impl StartFailure {
    /// The exit code that stands in the result: 127 no such executable, 126 not executable, 125 anything else.
    pub fn exit_code(&self) -> i32 {
        match self.stage {
            Stage::Exec { missing: true } => 127,
            Stage::Exec { missing: false } | Stage::Restrict => 126,
            Stage::Fork | Stage::Fd(_) | Stage::Setup | Stage::Peer => 125,
        }
    }
}

impl fmt::Display for StartFailure {
    /// The texts that the contract fixes: clients match their beginnings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_deref().unwrap_or_default();
        let error = io::Error::from_raw_os_error(self.errno);
        match self.stage {
            Stage::Restrict => write!(f, "restricted executable: {path}"),
            Stage::Fork => write!(f, "fork failed: {error}"),
            Stage::Fd(fd) => write!(f, "failed to set up fd {fd}: {error}"),
            Stage::Setup => f.write_str("the set-up was ended by a signal before execve"),
            Stage::Peer => write!(f, "not started: process {path:?} of the same request failed"),
            Stage::Exec { .. } => write!(f, "execve failed: {path}: {error}"),
        }
    }
}
