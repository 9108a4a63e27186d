//! The result as clients see it. One type: the stream of a result is written by it, and the published
//! schemas are made of it.

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
use crate::engine::Survivor;
use crate::spec::{CaptureSpec, Compression};

/// A result. `T` is what stands for captured bytes: in a stream, the place where they are put in.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Result", description = "A result.")]
pub struct ResultBody<'a, T> {
    /// How far it is.
    pub(super) state: ProcState,
    /// Why it no longer runs; null while it does.
    pub(super) reason: Option<Reason>,
    /// What went wrong, for people.
    pub(super) errors: &'a [String],
    /// Why it was not started as specified, in types; empty where it was.
    pub(super) failures: Vec<FailureReport>,
    /// The process ID; null where there never was a process.
    pub(super) pid: Option<i32>,
    /// How it ended; null while it runs.
    pub(super) status: Option<&'a Status>,
    /// When.
    pub(super) times: Times,
    /// What it and the children that it has waited for have used; null while it runs.
    pub(super) rusage: Option<&'a Rusage>,
    /// The kernel's view of it: current while it runs, as of its end after.
    pub(super) proc_stat: Option<ProcStat>,
    /// Its memory; null once it has ended.
    pub(super) proc_statm: Option<ProcStatm>,
    /// What its control group has used; null where it has none of its own.
    pub(super) cgroup_accounting: Option<CgroupAccounting>,
    /// What it has used so far; null where there never was a process.
    pub(super) usage: Option<Usage>,
    /// Bytes that it has read and written; null if the kernel does not report them.
    pub(super) io: Option<IoReport>,
    /// The most it has had at one time; null where there never was a process.
    pub(super) peak: Option<Peak>,
    /// Its history, oldest first; null where nothing is sampled.
    pub(super) samples: Option<Vec<Sample>>,
    /// The arguments; null where they are not known any more, as what follows.
    pub(super) argv: Option<&'a [String]>,
    /// The executable.
    pub(super) exe: Option<&'a str>,
    /// The working directory.
    pub(super) cwd: Option<&'a str>,
    /// The environment, secrets masked; null unless asked for.
    pub(super) env: Option<&'a IndexMap<String, String>>,
    /// Labels, as given.
    pub(super) labels: &'a IndexMap<String, String>,
    /// What its spec asks for that was not done, though it was started; and which output this result does not contain, as it is too
    /// large.
    pub(super) warnings: Vec<Cow<'a, str>>,
    /// The group of the agent that reports this result.
    pub(super) group_id: &'a str,
    /// That agent.
    pub(super) agent: &'a AgentInfo,
    /// How complete the captures are, by fd.
    pub(super) captures: IndexMap<String, CaptureReport>,
    /// Descendants that outlive it; null while it runs, and where it is not known whether there are any.
    pub(super) survivors: Option<&'a [Survivor]>,
    /// How many there are, the unlisted ones too; null while it runs, and where there may be others, or more than are counted.
    pub(super) survivor_count: Option<u64>,
    /// The chunks of output in the order in which they were read: seconds since the start, the fd, the offset of the chunk in the
    /// output of that fd, and its length in bytes; null unless a capture asks for `chunk_times`.
    pub(super) chunk_times: Option<Vec<(f64, String, u64, u64)>>,
    /// Who of its tree could not be signaled when it was stopped; empty where all were.
    pub(super) stop_failures: Vec<StopFailureReport>,
    /// Every fd of its spec; null for one that is not captured.
    pub(super) fds: IndexMap<String, Option<FdResult<T>>>,
    /// Where in its capture what is shown of an fd begins; only there where `output=tail` is asked for over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offsets: Option<IndexMap<String, u64>>,
}

/// What was captured of an fd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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
        /// What the data is compressed with; only there where the spec asks for it.
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
    /// That so many bytes are captured, by this spec.
    pub(super) fn detached(spec: &CaptureSpec, length: u64) -> FdResult<T> {
        FdResult::Detached { length, encoding: FdEncoding::of(spec).name().into() }
    }
}

/// Why a process is no longer running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It ended by itself, with an exit code.
    Exited,
    /// A signal ended it.
    Signaled,
    /// The kernel's OOM killer has killed it.
    OutOfMemory,
    /// It was stopped, for its time was over.
    Timeout,
    /// It was stopped, for somebody asked for that.
    Stopped,
    /// It was not started as specified.
    Error,
    /// Its exit status is unknown: the process that waited for it died.
    Lost,
}
