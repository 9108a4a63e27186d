//! The state of a process, and its exit status.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::signal::{SignalName, signal_name};

/// The state of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProcState {
    /// It was started, and its result will still change.
    Running,
    /// It was started as specified and has ended; its result is final.
    Terminated,
    /// It was not started as specified; its result is final.
    Error,
}

impl ProcState {
    /// Whether a result in this state never changes again.
    pub fn is_final(self) -> bool {
        self != Self::Running
    }
}

/// The exit status of a process. Clients compare it as a whole: it has exactly these keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Status {
    /// The raw wait status, as returned by wait(2).
    pub status: i32,
    /// The argument of its exit(2), 0 to 255; null if a signal ended it.
    pub exit_code: Option<i32>,
    /// Number of the signal that ended it, or null.
    pub signum: Option<i32>,
    /// Name of that signal, as returned by [`signal_name`], or null.
    pub signal: Option<SignalName>,
    /// Whether the kernel wrote, or tried to write, a core dump; false if it exited.
    pub core_dump: bool,
}

impl Status {
    /// Decodes a raw wait status. The status of a stopped process, which waiting for ends never
    /// returns, has neither an exit code nor a signal.
    pub fn from_raw(status: i32) -> Self {
        let (exited, signaled) = (libc::WIFEXITED(status), libc::WIFSIGNALED(status));
        let signum = signaled.then(|| libc::WTERMSIG(status));
        Self {
            status,
            exit_code: exited.then(|| libc::WEXITSTATUS(status)),
            signum,
            signal: signum.map(|number| match signal_name(number) {
                Some(name) => Cow::Borrowed(name),
                None => Cow::Owned(format!("SIG{number}")),
            }),
            core_dump: signaled && libc::WCOREDUMP(status),
        }
    }

    /// The status of a process that exits with `code`, of which the low eight bits count, as in
    /// exit(2): for results of processes that were never started, 127, 126 or 125.
    pub fn from_exit_code(code: i32) -> Self {
        Self::from_raw((code & 0xff) << 8)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exits_have_only_a_code() {
        for code in 0..=255 {
            let status = Status::from_raw(code << 8);
            assert_eq!(status, Status::from_exit_code(code));
            assert_eq!((status.status, status.exit_code), (code * 256, Some(code)));
            assert_eq!((status.signum, status.signal, status.core_dump), (None, None, false));
        }
    }

    #[test]
    fn deaths_by_signal_have_only_a_signal() {
        for signum in 1..=64 {
            for core_dump in [false, true] {
                let raw = signum | if core_dump { 0x80 } else { 0 };
                let status = Status::from_raw(raw);
                assert_eq!((status.status, status.exit_code), (raw, None));
                assert_eq!((status.signum, status.core_dump), (Some(signum), core_dump));
                assert_eq!(status.signal.as_deref(), signal_name(signum));
            }
        }
        assert_eq!(Status::from_raw(100).signal.unwrap(), "SIG100");
    }

    #[test]
    fn a_stopped_process_has_neither_code_nor_signal() {
        let status = Status::from_raw(0x137f);
        assert_eq!((status.exit_code, status.signum, status.core_dump), (None, None, false));
    }

    #[test]
    fn every_state_but_running_is_final() {
        assert!(!ProcState::Running.is_final());
        assert!(ProcState::Terminated.is_final() && ProcState::Error.is_final());
    }

    proptest! {
        #[test]
        fn no_status_has_both_a_code_and_a_signal(raw in any::<i32>()) {
            let status = Status::from_raw(raw);
            prop_assert!(status.exit_code.is_none() || status.signum.is_none());
            prop_assert_eq!(status.signum.is_some(), status.signal.is_some());
            prop_assert!(!status.core_dump || status.signum.is_some());
        }
    }
}
