//! The events of the engine: the start of a process, its end, and events between.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::cgroup::Usage;
use crate::clock::TimePoint;
use crate::engine::capture::{Captures, SealGate, Truncation};
use crate::engine::failure::{StartFailure, StopFailure};
use crate::engine::holding::Holding;
use crate::engine::rusage::{self, no_usage};
use crate::engine::stop::{StopCause, StopPolicy};
use crate::path_bytes;
use crate::procfs::{RawIo, RawStat, RawStatm};
use crate::spec::{FdName, ProcId};

/// An event that the engine reports.
pub enum Event {
    /// The process runs the program of its spec, or is still on its way there after
    /// [`EngineOptions::setup_timeout`](super::EngineOptions::setup_timeout).
    Started(Box<Started>),
    /// The process has ended, or was not started as specified; nothing about it changes any more.
    Ended(Box<Ended>),
    /// A signal has been sent, or could not be.
    Signaled {
        /// The process.
        id: ProcId,
        /// As given to [`Engine::command`](super::Engine::command).
        ticket: u64,
        /// The OS error; `ESRCH` if the process is gone.
        result: io::Result<()>,
    },
    /// A process is being stopped, and these of its tree could not be signaled.
    StopFailed {
        /// The process.
        id: ProcId,
        /// The failures that were not reported before.
        failures: Vec<StopFailure>,
    },
    /// A process of our own job on the terminal has been stopped by a signal, as job control does.
    Suspended {
        /// The process.
        id: ProcId,
        /// Its pid.
        pid: i32,
        /// The signal.
        signum: i32,
    },
    /// Duplicates of a process's descriptors, for a second holder. Reported as soon as the child
    /// exists, and again after [`Engine::share_holdings`](super::Engine::share_holdings); only if
    /// [`EngineOptions::share_holdings`](super::EngineOptions::share_holdings) is set.
    Held(Box<Holding>),
    /// The second holder can close its descriptors of a process: the end of the process is
    /// reported, and none of its pipes is read any more.
    Released(ProcId),
}

impl Event {
    /// The ID of the event's process.
    pub fn id(&self) -> &ProcId {
        match self {
            Event::Started(started) => &started.id,
            Event::Ended(ended) => &ended.id,
            Event::Held(holding) => &holding.id,
            Event::Released(id) => id,
            Event::Signaled { id, .. }
            | Event::StopFailed { id, .. }
            | Event::Suspended { id, .. } => id,
        }
    }
}

/// The properties of a spec that were resolved on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The executable's path, as given or as found by lookup. A relative path is below the working
    /// directory. `None` if the start failed before the lookup.
    pub exe: Option<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// The environment of the process, if the spec asks for it: secrets are masked, and invalid
    /// UTF-8 is replaced.
    pub env: Option<IndexMap<String, String>>,
    /// The variables that a [`Restriction`](super::Restriction) has removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
}

/// The start of a process.
#[derive(Clone, Serialize, Deserialize)]
pub struct Started {
    /// The process.
    pub id: ProcId,
    /// The child's pid.
    pub pid: i32,
    /// The time when the start began.
    pub start: TimePoint,
    /// Its `/proc/PID/stat` just after the start.
    pub stat: Option<RawStat>,
    /// Its `/proc/PID/statm` just after the start.
    pub statm: Option<RawStatm>,
    /// Its fds.
    pub captures: Arc<Captures>,
    /// Its stop policy and its timeout.
    #[serde(default, rename = "terms")]
    pub policy: StopPolicy,
    /// The resolved properties of its spec; as specified if the set-up is not over.
    #[serde(default)]
    pub resolved: Resolved,
    /// The directory of its control group; `None` if it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "path_bytes::optional")]
    pub group: Option<PathBuf>,
}

/// The end of a process.
#[derive(Clone, Serialize, Deserialize)]
pub struct Ended {
    /// The process.
    pub id: ProcId,
    /// The child's pid; `None` if there was no child.
    pub pid: Option<i32>,
    /// Why it was not started as specified; empty if it was.
    pub failures: Vec<StartFailure>,
    /// The raw wait status; 0 if there was no child.
    pub status: i32,
    /// Its resource usage, including the children that it waited for; all zero if there was no
    /// child, or it is lost or `unmeasured`. `ru_maxrss` is negative if unknown, because the
    /// kernel's count starts with the memory of the cloning process: see `mem::text_pages`.
    #[serde(with = "rusage")]
    pub rusage: libc::rusage,
    /// Its last `/proc/PID/stat`, as a zombie.
    pub stat: Option<RawStat>,
    /// The time when the start began.
    pub start: TimePoint,
    /// The time of its end.
    pub stop: TimePoint,
    /// Its fds; the captures are frozen.
    pub captures: Arc<Captures>,
    /// The captures that may be incomplete, and why.
    pub cut_short: Vec<(FdName, Truncation)>,
    /// Whether its exit status is unknown, because the process that waited for it died.
    pub lost: bool,
    /// Its last `/proc/PID/io`, as a zombie; `None` if there was no child, or the kernel does not
    /// report it.
    #[serde(default)]
    pub io: Option<RawIo>,
    /// Whether the kernel's OOM killer has killed it.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Why it was stopped; `None` if it was not.
    #[serde(default)]
    pub cause: Option<StopCause>,
    /// Its known survivors.
    #[serde(default)]
    pub survivors: Survivors,
    /// The resolved properties of its spec.
    #[serde(default)]
    pub resolved: Resolved,
    // Last: frames hold no names, and an omitted field must not shift others.
    /// Whether another process has reaped it, so that `rusage` is unknown and all zero. Written
    /// also if false, but only with a field that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmeasured: Option<bool>,
    /// What its control group shows; `None` if it had none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Box<GroupEnd>>,
}

/// The control group of an ended process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEnd {
    /// Whether the process was outside of it at its end.
    pub left: bool,
    /// The figures of the group at the end of the process, with all of its members; `None` if they
    /// cannot be read.
    pub usage: Option<Usage>,
}

/// Descendants that outlive their process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivors {
    /// Some of them, ordered by pid.
    pub listed: Vec<Survivor>,
    /// The number of further survivors.
    pub more: u32,
    /// Whether there may be others of unknown origin.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}

impl Survivors {
    /// The survivors of a process whose descendants are unknown.
    pub fn unknown() -> Survivors {
        Survivors { unknown: true, ..Survivors::default() }
    }
}

/// A descendant that outlives its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "Survivor")]
pub struct Survivor<R = Relation> {
    /// Its pid.
    pub pid: i32,
    /// The name of its executable, cut to 15 bytes.
    pub comm: String,
    /// Its session ID: the pid of the session leader.
    pub session: i32,
    /// The evidence that it comes from the process.
    #[serde(alias = "how")]
    pub relation: R,
}

/// The evidence that a survivor comes from a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// It is in the process's group.
    Group,
    /// It is in the session of the process, or of another survivor of the process.
    Session,
    /// It descends from another survivor, or was found as a descendant when the process was
    /// stopped.
    Descendant,
    /// It is in its own session, and only this process can have started it.
    #[serde(alias = "alone")]
    Inferred,
}

impl Ended {
    /// Whether another process has reaped it, so that `rusage` is unknown and all zero.
    pub fn is_unmeasured(&self) -> bool {
        self.unmeasured == Some(true)
    }

    /// The end of a process that is gone, and whose exit status is lost.
    pub fn lost(started: Started) -> Ended {
        let mut cut_short = Vec::new();
        for (fd, capture) in started.captures.iter() {
            let Some(capture) = capture else { continue };
            capture.freeze();
            if capture.is_sealed_quickly() {
                capture.seal(&SealGate::default());
            }
            if capture.is_orphaned() {
                cut_short.push((fd, Truncation::Error));
            }
        }
        Ended {
            id: started.id,
            pid: Some(started.pid),
            failures: Vec::new(),
            status: 0,
            rusage: no_usage(),
            // The data of the start say nothing about the end.
            stat: None,
            start: started.start,
            stop: TimePoint::now(),
            captures: started.captures,
            cut_short,
            lost: true,
            unmeasured: None,
            group: None,
            io: None,
            out_of_memory: false,
            cause: None,
            survivors: Survivors::unknown(),
            resolved: started.resolved,
        }
    }

    /// The end of a process whose start is not known either.
    pub fn unknown(id: ProcId) -> Ended {
        let now = TimePoint::now();
        let captures = Captures::new(Vec::new());
        let policy = StopPolicy::default();
        Ended {
            pid: None,
            ..Ended::lost(Started {
                id,
                pid: 0,
                start: now,
                stat: None,
                statm: None,
                captures,
                policy,
                resolved: Resolved::default(),
                group: None,
            })
        }
    }
}
