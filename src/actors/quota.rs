//! Bounds on the processes that a worker starts and keeps. A request that exceeds one is refused as
//! a whole; the error names the setting.

use crate::engine::Captures;
use crate::spec::{CaptureSpec, FdName, KeepSpec, ProcId, Validated, ValidatedFd};

/// The bounds. None means unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Running processes, with those about to start.
    pub running: Option<u64>,
    /// Processes that are not deleted.
    pub kept: Option<u64>,
    /// Bytes that the captures of all these occupy in the instance's directories.
    pub captures: Option<u64>,
    /// The maximum size of one capture; a spec's limit may not exceed head and tail together.
    pub capture: KeepSpec,
}

/// The amounts before a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    pub(super) running: usize,
    pub(super) kept: usize,
    pub(super) captures: u64,
}

/// The bound that a request exceeds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaExceeded {
    /// [`Quota::running`].
    #[error(
        "cannot start {requested} more processes: {running} are running, and run.max_running is {max}; wait until some have ended"
    )]
    Running {
        /// The number of processes in the request.
        requested: u64,
        /// The number of running processes.
        running: u64,
        /// The bound.
        max: u64,
    },
    /// [`Quota::kept`].
    #[error(
        "cannot start {requested} more processes: {kept} are kept, and run.max_processes is {max}; delete ended ones"
    )]
    Kept {
        /// The number of processes in the request.
        requested: u64,
        /// The number of processes that are not deleted.
        kept: u64,
        /// The bound.
        max: u64,
    },
    /// [`Quota::captures`].
    #[error(
        "cannot start processes: captured output occupies {taken} bytes, and capture.max_total is {max}; delete ended processes"
    )]
    Captures {
        /// The bytes occupied now.
        taken: u64,
        /// The bound.
        max: u64,
    },
    /// [`Quota::capture`].
    #[error(
        "invalid limit of {fd} of process {id:?}: head and tail are {requested} bytes together, and \
         capture.keep_head and capture.keep_tail are {max}; ask for less, or raise these settings"
    )]
    Limit {
        /// The process.
        id: ProcId,
        /// The fd.
        fd: FdName,
        /// The limit in the spec.
        requested: u64,
        /// The bound.
        max: u64,
    },
}

impl Quota {
    /// Checks a request beside the present amounts.
    ///
    /// # Errors
    /// The bound that it exceeds.
    pub(super) fn check(&self, request: &Validated, present: Present) -> Result<(), QuotaExceeded> {
        let requested = request.procs.len() as u64;
        if requested == 0 {
            return Ok(());
        }
        let Present { running, kept, captures: taken } = present;
        let (running, kept) = (running as u64, kept as u64);
        if let Some(max) = self.running.filter(|max| running.saturating_add(requested) > *max) {
            return Err(QuotaExceeded::Running { requested, running, max });
        }
        if let Some(max) = self.kept.filter(|max| kept.saturating_add(requested) > *max) {
            return Err(QuotaExceeded::Kept { requested, kept, max });
        }
        if let Some(max) = self.captures.filter(|max| taken >= *max) {
            return Err(QuotaExceeded::Captures { taken, max });
        }
        self.check_limits(request)
    }

    /// Checks the first request of a worker.
    ///
    /// # Errors
    /// The bound that it exceeds.
    pub fn check_first(&self, request: &Validated) -> Result<(), QuotaExceeded> {
        self.check(request, Present::default())
    }

    fn check_limits(&self, request: &Validated) -> Result<(), QuotaExceeded> {
        if self.capture.is_none() {
            return Ok(());
        }
        let max = both(self.capture);
        for (id, proc) in &request.procs {
            for (fd, what) in &proc.fds {
                if let ValidatedFd::Capture(CaptureSpec { keep: Some(limit), .. }) = what
                    && both(*limit) > max
                {
                    return Err(QuotaExceeded::Limit {
                        id: id.clone(),
                        fd: *fd,
                        requested: both(*limit),
                        max,
                    });
                }
            }
        }
        Ok(())
    }
}

fn both(KeepSpec { head, tail }: KeepSpec) -> u64 {
    head.unwrap_or(0).saturating_add(tail.unwrap_or(0))
}

/// The bytes that these captures occupy in the instance's directories.
pub(super) fn taken(captures: &Captures) -> u64 {
    captures.iter().filter_map(|(_, capture)| capture).map(|capture| capture.taken()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(limits: &[&str]) -> Validated {
        let procs: Vec<String> = (limits.iter().enumerate())
            .map(|(n, limit)| {
                format!(r#""{n}": {{"argv": ["x"], "fds": [["2", {{"capture": {{{limit}}}}}]]}}"#)
            })
            .collect();
        let text = format!(r#"{{"specs": {{{}}}}}"#, procs.join(","));
        crate::spec::from_json(text.as_bytes()).unwrap()
    }

    #[test]
    fn each_maximum_is_the_last_that_is_allowed() {
        let quota =
            Quota { running: Some(4), kept: Some(10), captures: Some(100), ..Quota::default() };
        let two = request(&["", ""]);
        let check = |running, kept, captures| {
            let checked = quota.check(&two, Present { running, kept, captures });
            checked.map_err(|beyond| beyond.to_string())
        };
        assert_eq!(check(2, 8, 99), Ok(()));
        for (refused, words) in [
            (check(3, 8, 99), ["run.max_running", "4", "2 more processes: 3 are running"]),
            (check(2, 9, 99), ["run.max_processes", "10", "2 more processes: 9 are kept"]),
            (check(2, 8, 100), ["capture.max_total", "100", "delete ended processes"]),
        ] {
            let error = refused.unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        // An empty request exceeds nothing.
        let full = Present { running: 9, kept: 99, captures: 999 };
        assert_eq!(quota.check(&request(&[]), full), Ok(()));
        assert_eq!(Quota::default().check(&two, full), Ok(()));
    }

    #[test]
    fn a_spec_does_not_raise_the_configured_limit() {
        let capture = KeepSpec { head: Some(100), tail: Some(50) };
        let quota = Quota { capture, ..Quota::default() };
        let check = |limit: &str| quota.check_first(&request(&["", limit]));
        for within in [
            "",
            r#""keep": {"head": 10}"#,
            r#""keep": {"head": 0, "tail": 150}"#,
            r#""keep": {"head": 150}, "compress": "zstd""#,
        ] {
            assert_eq!(check(within), Ok(()), "{within}");
        }
        for beyond in [
            r#""keep": {"head": 101, "tail": 50}"#,
            r#""keep": {"tail": 18446744073709551615, "head": 1}"#,
            r#""keep": {"head": 151}, "compress": "zstd""#,
        ] {
            let error = check(beyond).unwrap_err().to_string();
            assert!(
                error.starts_with("invalid limit of stderr of process \"1\": head and tail are 1"),
                "{error}"
            );
            assert!(error.contains("capture.keep_head and capture.keep_tail are 150;"));
        }
        // Without a configured limit every spec's limit is valid.
        let largest = request(&[r#""keep": {"head": 18446744073709551615}"#]);
        assert_eq!(Quota::default().check_first(&largest), Ok(()));
    }
}
