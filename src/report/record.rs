//! The facts about a process, and the result made from them.

mod summary;

pub use summary::{Stats, Summary};

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use indexmap::IndexMap;

use super::body::{FdResult, Reason, ResultBody};
use super::capture::{CaptureReason, CaptureReport};
use super::cgroup::CgroupAccounting;
use super::context::ResultContext;
use super::failure::{FailureReport, StopFailureReport};
use super::proc_stat::{ProcStat, ProcStatm};
use super::resources::{IoReport, Peak, Usage};
use super::rusage::Rusage;
use super::samples::SampleHistory;
use super::status::{ProcState, Status};
use super::times::Times;
use super::word::Word;
use crate::cgroup;
use crate::clock::TimePoint;
use crate::engine::GroupEnd;
use crate::engine::{
    Capture, CaptureSize, Captures, Ended, Loss, Relation, Resolved, StartFailure, Started,
    StopCause, StopFailure, Survivor, Survivors, Truncation,
};
use crate::procfs::{RawIo, RawStat, RawStatm};
use crate::sampler::ProcSnapshot;
use crate::spec::{FdName, Identity, ProcId};

/// The facts about a process at one point in time. A record does not change; later points have
/// their own records.
#[derive(Clone)]
pub struct ProcessRecord {
    /// The process.
    pub id: ProcId,
    /// Whether the process runs, has ended, or was not started as specified.
    pub state: ProcState,
    /// Why it was not started as specified.
    pub errors: Vec<String>,
    /// The pid; `None` if there was no child.
    pub pid: Option<i32>,
    /// The captures of its fds.
    pub captures: Arc<Captures>,
    /// The identity from its spec; `None` if it is no longer known.
    identity: Option<Arc<Identity>>,
    /// The samples; `None` if the process is not sampled.
    history: Option<Arc<SampleHistory>>,
    failures: Vec<StartFailure>,
    start: TimePoint,
    /// The time of this record; for the final one, of the end.
    made: TimePoint,
    /// The facts of the end. Boxed, because most records describe a start.
    ending: Option<Box<Ending>>,
    stat: Option<RawStat>,
    statm: Option<RawStatm>,
    io: Option<RawIo>,
    resolved: Resolved,
    /// The directory of its control group, while it runs.
    group: Option<PathBuf>,
    stop_failures: Vec<StopFailure>,
}

/// Facts that are known only after the end.
#[derive(Clone)]
struct Ending {
    reason: Reason,
    status: Status,
    rusage: Rusage,
    cut_short: Vec<(FdName, Truncation)>,
    survivors: Survivors,
    group: Option<Box<GroupEnd>>,
}

/// The error of a process whose exit status was never read.
const LOST: &str = "exit status lost: the keeper died before the process ended";

/// The exit code of such a process, for clients that always read one.
const LOST_CODE: i32 = 125;

/// The point in time that a result describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The time of the record: for the first result of a process, made at its start.
    AtStart,
    /// Now: the state of a running process is read again.
    Now,
}

impl ProcessRecord {
    /// The record of a start.
    pub fn of_start(started: Started) -> ProcessRecord {
        ProcessRecord {
            id: started.id,
            state: ProcState::Running,
            errors: Vec::new(),
            pid: Some(started.pid),
            captures: started.captures,
            identity: None,
            history: None,
            failures: Vec::new(),
            start: started.start,
            made: TimePoint::now(),
            ending: None,
            stat: started.stat,
            statm: started.statm,
            io: None,
            resolved: started.resolved,
            group: started.group,
            stop_failures: Vec::new(),
        }
    }

    /// The record of an end.
    pub fn of_end(ended: Ended) -> ProcessRecord {
        // If a process was not started as specified, the status of its set-up child is meaningless.
        let (state, status) = match ended.failures.first() {
            Some(failure) => (ProcState::Error, Status::from_exit_code(failure.exit_code())),
            None if ended.lost => (ProcState::Error, Status::from_exit_code(LOST_CODE)),
            None => (ProcState::Terminated, Status::from_raw(ended.status)),
        };
        let reason = match (ended.cause, state, status.signum) {
            (Some(StopCause::Timeout), ..) => Reason::Timeout,
            (Some(StopCause::Stopped), ..) => Reason::Stopped,
            _ if ended.lost => Reason::Lost,
            (None, ProcState::Terminated, _) if ended.out_of_memory => Reason::OutOfMemory,
            (None, ProcState::Terminated, Some(_)) => Reason::Signaled,
            (None, ProcState::Terminated, None) => Reason::Exited,
            _ => Reason::Error,
        };
        let is_measured = !(ended.lost || ended.is_unmeasured());
        let mut errors: Vec<String> = ended.failures.iter().map(ToString::to_string).collect();
        if ended.lost {
            errors.push(LOST.to_owned());
        }
        ProcessRecord {
            id: ended.id,
            state,
            errors,
            pid: ended.pid,
            captures: ended.captures,
            identity: None,
            history: None,
            failures: ended.failures,
            start: ended.start,
            made: ended.stop,
            ending: Some(Box::new(Ending {
                reason,
                status,
                rusage: match is_measured {
                    true => Rusage::from(&ended.rusage),
                    false => Rusage::unknown(),
                },
                cut_short: ended.cut_short,
                survivors: ended.survivors,
                group: ended.group,
            })),
            stat: ended.stat,
            statm: None,
            io: ended.io,
            resolved: ended.resolved,
            group: None,
            stop_failures: Vec::new(),
        }
    }

    /// The same record with this identity.
    pub fn with_identity(self, identity: Option<Arc<Identity>>) -> ProcessRecord {
        ProcessRecord { identity, ..self }
    }

    /// The same record with these samples.
    pub fn with_history(self, history: Option<Arc<SampleHistory>>) -> ProcessRecord {
        ProcessRecord { history, ..self }
    }

    /// The same record with these failures to signal processes.
    pub fn with_stop_failures(self, stop_failures: Vec<StopFailure>) -> ProcessRecord {
        // While the process runs, additional failures make another record.
        let new = self.ending.is_none() && stop_failures.len() != self.stop_failures.len();
        let made = if new { TimePoint::now() } else { self.made };
        ProcessRecord { made, stop_failures, ..self }
    }

    /// The identity of the process; `None` if it is no longer known.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// The samples; `None` if the process is not sampled.
    pub fn history(&self) -> Option<&Arc<SampleHistory>> {
        self.history.as_ref()
    }

    /// The processes of its tree that a stop could not signal.
    pub fn stop_failures(&self) -> &[StopFailure] {
        &self.stop_failures
    }

    /// Whether another program has removed the file of a capture. Every running process has the
    /// file, even if it is empty. After the end, procstar itself removes an empty file.
    pub fn has_lost(&self, capture: &Capture, context: &ResultContext) -> bool {
        if !self.is_running() {
            return capture.loss() == Some(Loss::Gone);
        }
        let alive = |pid| context.reader.stat(pid, self.stat.as_ref()).is_some();
        capture.is_missing() && self.pid.is_some_and(alive)
    }

    /// Whether the process has not ended.
    pub fn is_running(&self) -> bool {
        self.ending.is_none()
    }

    /// The reason of the end, as in the result; `None` while the process runs.
    pub fn reason(&self) -> Option<String> {
        let reason = self.ending.as_ref().map(|ending| ending.reason)?;
        serde_json::to_value(reason).ok()?.as_str().map(str::to_owned)
    }

    /// The outcome, for counters; `None` while the process runs.
    pub fn outcome(&self) -> Option<&'static str> {
        let ending = self.ending.as_ref()?;
        Some(match (ending.reason, self.state) {
            (Reason::Lost, _) => "lost",
            (_, ProcState::Error) => "start_error",
            (Reason::OutOfMemory, _) => "oom",
            (Reason::Timeout, _) => "timeout",
            (Reason::Stopped, _) => "stopped",
            (Reason::Signaled, _) => "signal",
            (Reason::Exited | Reason::Error, _) if ending.status.exit_code == Some(0) => "success",
            (Reason::Exited | Reason::Error, _) => "failure",
        })
    }

    /// The exit status; `None` while the process runs.
    pub fn status(&self) -> Option<&Status> {
        self.ending.as_ref().map(|ending| &ending.status)
    }

    /// The time of the end; `None` while the process runs.
    pub fn stop(&self) -> Option<TimePoint> {
        self.ending.as_ref().map(|_| self.made)
    }

    /// The labels of its spec.
    pub fn labels(&self) -> &IndexMap<String, String> {
        self.identity.as_ref().map_or(&NO_LABELS, |identity| &identity.labels)
    }

    /// A number that differs between different records of a process. While the process runs, it
    /// also differs when /proc or a capture has changed, but does not change with time alone.
    pub fn fingerprint(&self, context: &ResultContext) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.start.unix_nanos, self.made.monotonic_nanos, self.state as u8).hash(&mut hasher);
        if let Some(pid) = self.pid.filter(|_| self.is_running()) {
            let seen = context.reader.snapshot(pid, self.stat.as_ref());
            // Serialization of these plain values cannot fail.
            serde_json::to_string(&(seen.stat, seen.statm)).unwrap_or_default().hash(&mut hasher);
            for (_, capture) in self.captures.iter() {
                capture.map(|capture| capture.len()).hash(&mut hasher);
            }
        }
        if !self.is_running() {
            // A file can be changed or removed after the end.
            for (_, capture) in self.captures.iter() {
                capture.and_then(Capture::loss).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// The present result, without output.
    pub fn without_output<'a>(&'a self, context: &'a ResultContext) -> ResultBody<'a, String> {
        let fds = self.captures.iter().map(|(fd, capture)| {
            let length = |capture: &Capture| FdResult::detached(capture.spec(), capture.len());
            (fd.to_string(), capture.map(length))
        });
        self.body(AsOf::Now, context, &[], fds.collect(), None)
    }

    /// The result with these `fds`, and with `notices` among its warnings.
    pub(super) fn body<'a, T>(
        &'a self,
        as_of: AsOf,
        context: &'a ResultContext,
        notices: &'a [String],
        fds: IndexMap<String, Option<FdResult<T>>>,
        offsets: Option<IndexMap<String, u64>>,
    ) -> ResultBody<'a, T> {
        let live = self.is_running() && as_of == AsOf::Now;
        let now = if live || as_of == AsOf::Now { TimePoint::now() } else { self.made };
        let seen = match (live, self.pid) {
            (true, Some(pid)) => context.reader.snapshot(pid, self.stat.as_ref()),
            _ => ProcSnapshot::default(),
        };
        let clock = &context.reader.clock().at(self.start);
        let stat = seen.stat.as_ref().or(self.stat.as_ref());
        let statm = seen.statm.as_ref().or(self.statm.as_ref());
        let io = seen.io.as_ref().or(self.io.as_ref());
        let ending = self.ending.as_ref();
        let rusage = ending.map(|ending| &ending.rusage);
        // The final resource usage of a lost process is unknown.
        let used = stat.filter(|_| ending.is_none_or(|ending| ending.reason != Reason::Lost));
        let (exe, cwd, env) = self.resolved();
        let identity = self.identity.as_deref();
        let history = self.history.as_deref();
        let running = stat.filter(|_| self.is_running()).map(|stat| (stat, seen.peaks.as_ref()));
        ResultBody {
            state: self.state.into(),
            reason: ending.map(|ending| ending.reason.into()),
            errors: Cow::from(&self.errors),
            failures: self.failures.iter().map(FailureReport::from).collect(),
            pid: self.pid,
            status: ending.map(|ending| ending.status.clone()),
            times: Times {
                start: self.start.into(),
                now: now.into(),
                stop: ending.map(|_| self.made.into()),
                elapsed: if ending.is_some() { self.made } else { now }.seconds_since(self.start),
            },
            rusage: rusage.copied(),
            proc_stat: stat.map(|stat| ProcStat::new(stat, clock)),
            proc_statm: statm.map(|statm| ProcStatm::new(statm, clock)),
            cgroup_accounting: self.group_usage().as_ref().map(CgroupAccounting::from),
            usage: used.map(|stat| Usage::new(stat, seen.peaks.as_ref(), rusage, clock)),
            io: io.map(IoReport::from),
            peak: stat
                .map(|_| Peak::new(history.and_then(SampleHistory::peaks), running, rusage, clock)),
            samples: history.map(|history| history.samples(clock)),
            argv: identity.map(|identity| Cow::from(&identity.argv)),
            exe: exe.map(Cow::from),
            cwd: cwd.map(Cow::from),
            env: env.map(Cow::Borrowed),
            labels: Cow::Borrowed(self.labels()),
            sandbox: identity
                .map(|identity| Cow::Borrowed(&identity.sandbox))
                .filter(|sandbox| !sandbox.is_none()),
            warnings: self.warnings(notices),
            group_id: Cow::from(&context.group_id),
            agent: Cow::Borrowed(&context.agent),
            captures: self.capture_reports(as_of),
            survivors: ending.and_then(|ending| known_survivors(&ending.survivors)),
            survivor_count: ending.and_then(|ending| count_survivors(&ending.survivors)),
            chunk_times: self.chunk_times(as_of),
            stop_failures: self.stop_failures.iter().map(StopFailureReport::from).collect(),
            fds,
            offsets,
        }
    }

    /// The figures of its control group: current while it runs, as of its end afterwards.
    fn group_usage(&self) -> Option<cgroup::Usage> {
        match &self.ending {
            Some(ending) => ending.group.as_ref()?.usage.clone(),
            None => Some(cgroup::Usage::read(&cgroup::Group::open(self.group.as_ref()?).ok()?)),
        }
    }

    /// Executable, working directory and environment, as resolved; otherwise as requested.
    fn resolved(&self) -> (Option<&str>, Option<&str>, Option<&IndexMap<String, String>>) {
        let Resolved { exe, cwd, env, .. } = &self.resolved;
        let identity = self.identity.as_deref();
        let exe = exe.as_deref().or(identity.map(|identity| identity.exe.as_str()));
        let asked = identity.and_then(|identity| identity.cwd.as_deref());
        (exe, cwd.as_deref().or(asked), env.as_ref())
    }

    /// The warnings about its spec, and these notices.
    fn warnings<'a>(&'a self, notices: &'a [String]) -> Vec<Cow<'a, str>> {
        let of_spec = self.identity.as_deref().map_or(Vec::new(), Identity::warnings);
        let dropped = match self.resolved.dropped.as_slice() {
            [] => None,
            names => Some(format!(
                "env: not passed on: {}; under run.allowed_executables, a variable that a loader or an interpreter obeys is passed on only \
                 if run.allowed_variables lists it",
                names.join(", ")
            )),
        };
        let of_spec = of_spec.into_iter().map(Cow::Borrowed).chain(dropped.map(Cow::Owned));
        of_spec.chain(notices.iter().map(|notice| Cow::Borrowed(notice.as_str()))).collect()
    }

    fn chunk_times(&self, as_of: AsOf) -> Option<Vec<(f64, String, u64, u64)>> {
        let chunks = self.captures.chunk_times()?;
        if self.is_running() && as_of == AsOf::AtStart {
            return Some(Vec::new());
        }
        let relative = |(time, fd, offset, length): (u64, FdName, u64, u64)| {
            let since = time.saturating_sub(self.start.monotonic_nanos) as f64 / 1e9;
            (since, fd.to_string(), offset, length)
        };
        Some(chunks.into_iter().map(relative).collect())
    }

    fn capture_reports(&self, as_of: AsOf) -> IndexMap<String, CaptureReport> {
        let cut_short = |fd| {
            let found = self.ending.iter().flat_map(|e| &e.cut_short).find(|(cut, _)| *cut == fd);
            found.map(|(_, why)| match why {
                Truncation::HeldOpen => CaptureReason::HeldOpen,
                Truncation::NotStarted => CaptureReason::NotStarted,
                Truncation::Error => CaptureReason::Error,
            })
        };
        let lost = |capture: &Capture| {
            capture.loss().map(|loss| match loss {
                Loss::Truncated => CaptureReason::Overwritten,
                Loss::Gone => CaptureReason::Gone,
                Loss::Changed => CaptureReason::Changed,
            })
        };
        let nothing = self.is_running() && as_of == AsOf::AtStart;
        self.captures
            .iter()
            .filter_map(|(fd, capture)| {
                let capture = capture?;
                let size = if nothing { CaptureSize::default() } else { capture.size() };
                let limit = (size.dropped > 0).then_some(CaptureReason::Truncated);
                let reason = match (self.is_running(), cut_short(fd)) {
                    (true, _) => None,
                    (false, setup @ Some(CaptureReason::NotStarted)) => setup,
                    (false, cut) => lost(capture).or(cut).or(limit),
                };
                let spec = capture.spec();
                let report = CaptureReport {
                    length: size.length,
                    dropped: size.dropped,
                    complete: !self.is_running() && reason.is_none(),
                    reason: reason.map(Word::Known),
                    sha256: capture.sha256().map(|sha256| sha256.to_string()),
                    path: spec.file.as_ref().map(|file| file.path.clone()),
                    compression: spec.compress.map(Word::Known),
                    compressed_bytes: spec.compress.map(|_| size.stored),
                };
                Some((fd.to_string(), report))
            })
            .collect()
    }
}

/// The known survivors; `None` if unknown ones may exist.
fn known_survivors(survivors: &Survivors) -> Option<Vec<Survivor<Word<Relation>>>> {
    let Survivors { listed, unknown, .. } = survivors;
    let report = |survivor: &Survivor| {
        let Survivor { pid, comm, session, relation } = survivor.clone();
        Survivor { pid, comm, session, relation: relation.into() }
    };
    (!unknown || !listed.is_empty()).then(|| listed.iter().map(report).collect())
}

/// The number of survivors, if it is known.
fn count_survivors(survivors: &Survivors) -> Option<u64> {
    let Survivors { listed, more, unknown } = survivors;
    (!unknown).then(|| listed.len() as u64 + u64::from(*more))
}

/// The labels of a process without labels.
static NO_LABELS: LazyLock<IndexMap<String, String>> = LazyLock::new(IndexMap::new);
