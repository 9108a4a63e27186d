//! What is known of a process, and the result made of it.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::Serialize;

use super::capture::{CaptureReason, CaptureReport};
use super::cgroup::CgroupAccounting;
use super::proc_stat::{ProcStat, ProcStatm};
use super::rusage::Rusage;
use super::status::{ProcState, Status};
use super::times::{Rfc3339, Times};
use crate::engine::procfs::{Clock, ProcFs, RawStat, RawStatm, ReadError};
use crate::engine::{Captures, CutShort, Ended, Extent, Moment, Started};
use crate::spec::{FdName, ProcId};

/// What is known of a process at one point of its life. It does not change; a later point has facts of its own.
pub struct Facts {
    /// The process.
    pub id: ProcId,
    /// Whether it runs, has ended, or was not started as specified.
    pub state: ProcState,
    /// Why it was not started as specified.
    pub errors: Vec<String>,
    /// Its pid; none where there was no child.
    pub pid: Option<i32>,
    /// Its fds.
    pub captures: Arc<Captures>,
    start: Moment,
    /// When these facts were made, for the end the end itself.
    made: Moment,
    ending: Option<Ending>,
    stat: Option<RawStat>,
    statm: Option<RawStatm>,
}

/// What is known only after the end.
struct Ending {
    reason: Reason,
    status: Status,
    rusage: Rusage,
    cut_short: Vec<(FdName, CutShort)>,
}

/// What is said of a process whose exit nobody has waited for.
const LOST: &str = "exit status lost: the keeper died before the process ended";

/// Why a process is no longer running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reason {
    /// It ended by itself, with an exit code.
    Exited,
    /// A signal ended it.
    Signaled,
    /// It was not started as specified.
    Error,
    /// How it ended is not known: whoever waited for it died.
    Lost,
}

/// When a result speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The moment the facts were made: the first result of a process, made at its start.
    Then,
    /// Now: a running process is looked at again.
    Now,
}

impl Facts {
    /// The facts of a start.
    pub fn of_start(started: Started) -> Facts {
        Facts {
            id: started.id,
            state: ProcState::Running,
            errors: Vec::new(),
            pid: Some(started.pid),
            captures: started.captures,
            start: started.start,
            made: Moment::now(),
            ending: None,
            stat: started.stat,
            statm: started.statm,
        }
    }

    /// The facts of an end.
    pub fn of_end(ended: Ended) -> Facts {
        // Of a process that was not started as specified, what its child's set-up came to tells nothing.
        let (state, status) = match ended.failures.first() {
            Some(failure) => (ProcState::Error, Status::from_exit_code(failure.exit_code())),
            None if ended.lost => (ProcState::Error, Status::from_exit_code(125)),
            None => (ProcState::Terminated, Status::from_raw(ended.status)),
        };
        let reason = match (state, status.signum) {
            _ if ended.lost => Reason::Lost,
            (ProcState::Terminated, Some(_)) => Reason::Signaled,
            (ProcState::Terminated, None) => Reason::Exited,
            _ => Reason::Error,
        };
        let mut errors: Vec<String> = ended.failures.iter().map(ToString::to_string).collect();
        if ended.lost {
            errors.push(LOST.to_owned());
        }
        Facts {
            id: ended.id,
            state,
            errors,
            pid: ended.pid,
            captures: ended.captures,
            start: ended.start,
            made: ended.stop,
            ending: Some(Ending {
                reason,
                status,
                rusage: Rusage::from(&ended.rusage),
                cut_short: ended.cut_short,
            }),
            stat: ended.stat,
            statm: None,
        }
    }

    /// Whether the process has not ended.
    pub fn is_running(&self) -> bool {
        self.ending.is_none()
    }

    /// The result, but for its `fds`.
    pub(super) fn head(&self, as_of: AsOf, sampler: &Sampler) -> Head<'_> {
        let live = self.is_running() && as_of == AsOf::Now;
        let now = if live || as_of == AsOf::Now { Moment::now() } else { self.made };
        let (stat, statm) = match (live, self.pid) {
            (true, Some(pid)) => sampler.sample(pid, self.stat.as_ref()),
            _ => (None, None),
        };
        let ending = self.ending.as_ref();
        Head {
            state: self.state,
            errors: &self.errors,
            pid: self.pid,
            proc_stat: stat
                .as_ref()
                .or(self.stat.as_ref())
                .map(|stat| ProcStat::new(stat, &sampler.clock)),
            proc_statm: statm
                .as_ref()
                .or(self.statm.as_ref())
                .map(|statm| ProcStatm::new(statm, &sampler.clock)),
            cgroup_accounting: None,
            times: Times {
                start: rfc3339(self.start),
                now: rfc3339(now),
                stop: ending.map(|_| rfc3339(self.made)),
                elapsed: if ending.is_some() { self.made } else { now }.seconds_since(self.start),
            },
            reason: ending.map(|ending| ending.reason),
            status: ending.map(|ending| &ending.status),
            rusage: ending.map(|ending| &ending.rusage),
            captures: self.capture_reports(as_of),
        }
    }

    fn capture_reports(&self, as_of: AsOf) -> IndexMap<String, CaptureReport> {
        let cut_short = |fd| {
            let found = self.ending.iter().flat_map(|e| &e.cut_short).find(|(cut, _)| *cut == fd);
            found.map(|(_, why)| match why {
                CutShort::Survivor => CaptureReason::Survivor,
                CutShort::Setup => CaptureReason::Setup,
                CutShort::Error => CaptureReason::Error,
            })
        };
        let nothing = self.is_running() && as_of == AsOf::Then;
        self.captures
            .iter()
            .filter_map(|(fd, capture)| {
                let capture = capture?;
                let extent = if nothing { Extent::default() } else { capture.extent() };
                let limit = (extent.dropped > 0).then_some(CaptureReason::Limit);
                let reason = cut_short(fd).or(limit.filter(|_| !self.is_running()));
                let spec = capture.spec();
                let report = CaptureReport {
                    length: extent.length,
                    dropped: extent.dropped,
                    complete: !self.is_running() && reason.is_none(),
                    reason,
                    path: spec.file.as_ref().map(|file| file.path.clone()),
                    compression: spec.compress,
                    stored: spec.compress.map(|_| extent.stored),
                };
                Some((fd.to_string(), report))
            })
            .collect()
    }
}

fn rfc3339(moment: Moment) -> Rfc3339 {
    // Nanoseconds in an i64 are within what a timestamp can hold.
    jiff::Timestamp::from_nanosecond(i128::from(moment.unix_nanos)).unwrap_or_default().into()
}

/// A result but for its `fds`, as clients see it.
#[derive(Serialize)]
pub(super) struct Head<'a> {
    state: ProcState,
    errors: &'a [String],
    pid: Option<i32>,
    proc_stat: Option<ProcStat>,
    proc_statm: Option<ProcStatm>,
    cgroup_accounting: Option<CgroupAccounting>,
    times: Times,
    reason: Option<Reason>,
    status: Option<&'a Status>,
    rusage: Option<&'a Rusage>,
    captures: IndexMap<String, CaptureReport>,
}

impl Head<'_> {
    /// How many keys it has.
    pub(super) const KEYS: u8 = 11;
}

/// Looks at running processes.
pub struct Sampler {
    procfs: ProcFs,
    clock: Clock,
}

impl Sampler {
    /// A sampler of the processes in `procfs`.
    ///
    /// # Errors
    /// Where the clock's figures cannot be read.
    pub fn new(procfs: ProcFs) -> Result<Sampler, ReadError> {
        let clock = procfs.clock()?;
        Ok(Sampler { procfs, clock })
    }

    /// What the kernel says of `pid` now, if that is still the process of `known`: once it has ended, its pid
    /// may be another's.
    fn sample(&self, pid: i32, known: Option<&RawStat>) -> (Option<RawStat>, Option<RawStatm>) {
        let same = |stat: &RawStat| known.is_none_or(|known| known.starttime == stat.starttime);
        match self.procfs.read_stat(pid) {
            Ok(stat) if same(&stat) => (Some(stat), self.procfs.read_statm(pid).ok()),
            _ => (None, None),
        }
    }
}
