//! Why a process was not started as specified, in types.

use std::borrow::Cow;

use nix::errno::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::{Stage, StartFailure, StopFailure};
use crate::signal::signal_name;
use crate::spec::FdName;

/// One failure, in the array `failures` of a result; `errors` has its message too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureReport {
    /// The step of the start that failed.
    pub stage: Cow<'static, str>,
    /// The fd concerned, as in `fds`; null if the step concerns no fd.
    pub fd: Option<String>,
    /// The system's error number; null if the cause is no system error.
    pub errno: Option<i32>,
    /// The name of that error, such as `ENOENT`.
    pub error: Option<String>,
    /// The path concerned, or the name of the user or group; null if there is none.
    pub path: Option<String>,
    /// A cause that the OS error does not name, such as the missing interpreter of a script; or
    /// null.
    pub detail: Option<String>,
    /// What went wrong, as in `errors`.
    pub message: String,
}

impl From<&StartFailure> for FailureReport {
    fn from(failure: &StartFailure) -> Self {
        let errno = (failure.errno != 0).then_some(failure.errno);
        FailureReport {
            stage: failure.stage.name().into(),
            fd: failure.stage.fd().and_then(FdName::from_number).map(|fd| fd.to_string()),
            errno,
            error: errno.and_then(error_name),
            // A proc ID is not a path; the message contains it.
            path: failure.path.clone().filter(|_| failure.stage != Stage::Sibling),
            detail: failure.detail.clone(),
            message: failure.to_string(),
        }
    }
}

/// One process that could not be signaled, in the array `stop_failures` of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopFailureReport {
    /// Its pid.
    pub pid: i32,
    /// The name of its executable, at most 15 bytes of it.
    pub comm: String,
    /// The name of the signal.
    pub signal: Option<String>,
    /// The number of the OS error.
    pub errno: i32,
    /// The name of that error, such as `EPERM`.
    pub error: Option<String>,
    /// The whole as a sentence.
    pub message: String,
}

impl From<&StopFailure> for StopFailureReport {
    fn from(failure: &StopFailure) -> Self {
        StopFailureReport {
            pid: failure.pid,
            comm: failure.comm.clone(),
            signal: signal_name(failure.signum).map(str::to_owned),
            errno: failure.errno,
            error: error_name(failure.errno),
            message: failure.to_string(),
        }
    }
}

/// The name of a system error; `None` if the number is unknown.
fn error_name(errno: i32) -> Option<String> {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => None,
        known => Some(format!("{known:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_failures_name_process_signal_and_error() {
        let failure = StopFailure { pid: 7, comm: "su".into(), signum: 9, errno: libc::EPERM };
        let report = StopFailureReport::from(&failure);
        assert_eq!((report.pid, report.comm.as_str()), (7, "su"));
        assert_eq!(report.signal.as_deref(), Some("SIGKILL"));
        assert_eq!((report.errno, report.error.as_deref()), (1, Some("EPERM")));
        let text = "cannot send SIGKILL to process 7 (su): Operation not permitted (os error 1)";
        assert_eq!(report.message, text);
    }

    #[test]
    fn failures_have_a_stage_an_error_and_a_path() {
        let report = |stage, errno, path: Option<&str>| {
            FailureReport::from(&StartFailure::new(stage, errno, path.map(str::to_owned)))
        };
        let exec = report(Stage::Exec { missing: true }, libc::ENOENT, Some("/nope"));
        assert_eq!((exec.stage.as_ref(), exec.fd, exec.errno), ("exec", None, Some(2)));
        assert_eq!((exec.error.as_deref(), exec.path.as_deref()), (Some("ENOENT"), Some("/nope")));
        assert!(exec.message.starts_with("execve failed: /nope: "), "{}", exec.message);
        for (number, name) in [(1, "stdout"), (7, "7")] {
            let fd = report(Stage::Fd(number), libc::EACCES, None);
            assert_eq!((fd.stage.as_ref(), fd.fd.as_deref()), ("fd", Some(name)));
            assert_eq!((fd.error.as_deref(), fd.path), (Some("EACCES"), None));
        }
        let peer = report(Stage::Sibling, 0, Some("other"));
        assert!(peer.path.is_none() && peer.message.contains("other"), "{peer:?}");
        let restrict = report(Stage::NotAllowed, 0, Some("/x"));
        assert_eq!((restrict.errno, restrict.error), (None, None));
        assert_eq!(report(Stage::Fork, 100_000, None).error, None);
    }
}
