//! The result as clients see it. One type serves the stream of a result and the published schemas.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agent::AgentInfo;
use super::capture::CaptureReport;
use super::cgroup::CgroupAccounting;
use super::failure::{FailureReport, StopFailureReport};
use super::fd_encoding::FdEncoding;
use super::proc_stat::{ProcStat, ProcStatm};
use super::resources::{IoReport, Peak, Usage};
use super::rusage::Rusage;
use super::samples::Sample;
use super::status::{ProcState, Status};
use super::times::Times;
use super::word::Word;
use crate::engine::{Relation, Survivor};
use crate::spec::{CaptureSpec, Compression, Sandbox};

/// A result. `T` represents captured bytes: in a stream, the place at which they are inserted.
///
/// A reader ignores unknown keys, and reads a list or an object that is absent as empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Result", description = "A result.")]
pub struct ResultBody<'a, T> {
    /// Its state.
    pub state: Word<ProcState>,
    /// The reason why it no longer runs; null while it runs.
    pub reason: Option<Word<Reason>>,
    /// Errors, for people.
    #[serde(default)]
    #[schemars(!default)]
    pub errors: Cow<'a, [String]>,
    /// Why it was not started as specified, in types; empty if it was.
    #[serde(default)]
    #[schemars(!default)]
    pub failures: Vec<FailureReport>,
    /// The process ID; null if no process ever existed.
    pub pid: Option<i32>,
    /// The exit status; null while it runs.
    pub status: Option<Status>,
    /// The times of its start, its end and this result.
    pub times: Times,
    /// Resource usage of the process and of the children that it has waited for; null while it
    /// runs.
    pub rusage: Option<Rusage>,
    /// The kernel's view of the process: current while it runs, as of its end afterwards.
    pub proc_stat: Option<ProcStat>,
    /// Its memory; null once it has ended.
    pub proc_statm: Option<ProcStatm>,
    /// Resource usage of its control group; null if it has none of its own.
    pub cgroup_accounting: Option<CgroupAccounting>,
    /// Its resource usage so far; null if no process ever existed.
    pub usage: Option<Usage>,
    /// Bytes that it has read and written; null if the kernel does not report them.
    pub io: Option<IoReport>,
    /// Maxima of its resource usage; null if no process ever existed.
    pub peak: Option<Peak>,
    /// Its history, oldest first; null if it is not sampled.
    pub samples: Option<Vec<Sample>>,
    /// The arguments. They and the next keys are null if they are no longer known.
    pub argv: Option<Cow<'a, [String]>>,
    /// The executable.
    pub exe: Option<Cow<'a, str>>,
    /// The working directory.
    pub cwd: Option<Cow<'a, str>>,
    /// The environment, secrets masked; null unless asked for.
    pub env: Option<Cow<'a, IndexMap<String, String>>>,
    /// Labels, as given.
    #[serde(default)]
    #[schemars(!default)]
    pub labels: Cow<'a, IndexMap<String, String>>,
    /// The sandbox, with the values of its profile; null without one.
    pub sandbox: Option<Cow<'a, Sandbox>>,
    /// Requests of its spec that were not fulfilled although it was started; and output that is too
    /// large for this result.
    #[serde(default)]
    #[schemars(!default)]
    pub warnings: Vec<Cow<'a, str>>,
    /// The group of the agent that reports this result.
    pub group_id: Cow<'a, str>,
    /// That agent.
    pub agent: Cow<'a, AgentInfo>,
    /// How complete the captures are, by fd.
    #[serde(default)]
    #[schemars(!default)]
    pub captures: IndexMap<String, CaptureReport>,
    /// Descendants that outlive it; null while it runs, and if it is unknown whether any exist.
    pub survivors: Option<Vec<Survivor<Word<Relation>>>>,
    /// The number of these descendants, unlisted ones included; null while it runs, and if there
    /// may be others, or more than are counted.
    pub survivor_count: Option<u64>,
    /// The chunks of output in the order in which they were read: seconds since the start, the fd,
    /// the offset of the chunk in the output of that fd, and its length in bytes; null unless a
    /// capture asks for `chunk_times`.
    pub chunk_times: Option<Vec<(f64, String, u64, u64)>>,
    /// Processes of its tree that could not be signaled when it was stopped; empty if all were.
    #[serde(default)]
    #[schemars(!default)]
    pub stop_failures: Vec<StopFailureReport>,
    /// Every fd of its spec; null for one that is not captured.
    pub fds: IndexMap<String, Option<FdResult<T>>>,
    /// For each fd, the offset of the output shown here in its capture; only present for
    /// `output=tail` over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offsets: Option<IndexMap<String, u64>>,
}

/// The captured output of an fd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Fd")]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FdResult<T> {
    /// As text, invalid bytes replaced.
    Text {
        /// The text.
        text: T,
        /// `utf-8`.
        encoding: Cow<'static, str>,
    },
    /// As data.
    Data {
        /// The data, encoded.
        data: T,
        /// `base64` or `base2048`.
        encoding: Cow<'static, str>,
        /// The compression of the data; only present if the spec asks for it.
        #[serde(skip_serializing_if = "Option::is_none")]
        compression: Option<Compression>,
    },
    /// Not part of the result.
    Detached {
        /// Bytes captured.
        length: u64,
        /// How it would be shown: `utf-8`, `base64` or `base2048`.
        encoding: Cow<'static, str>,
    },
}

impl<T> FdResult<T> {
    /// A detached output of this length, with the encoding of this spec.
    pub(super) fn detached(spec: &CaptureSpec, length: u64) -> FdResult<T> {
        FdResult::Detached { length, encoding: FdEncoding::of(spec).name().into() }
    }
}

/// The reason why a process no longer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It ended by itself, with an exit code.
    Exited,
    /// A signal ended it.
    Signaled,
    /// The kernel's OOM killer has killed it.
    OutOfMemory,
    /// It was stopped because its timeout expired.
    Timeout,
    /// It was stopped on request.
    Stopped,
    /// It was not started as specified.
    Error,
    /// Its exit status is unknown: the process that waited for it died.
    Lost,
}
