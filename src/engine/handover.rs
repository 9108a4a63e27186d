//! The state that an engine hands over to the engine of another program in this same process.

use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use crate::engine::capture::HandoverFile;
use crate::engine::containment::{HandoverOomKills, HandoverOrphans};
use crate::engine::process::handover::HandoverProcess;

/// The whole state.
#[derive(Default, Serialize, Deserialize)]
pub struct Handover {
    /// The processes that have not ended, or have a survivor whose output is still read.
    pub processes: Vec<HandoverProcess>,
    /// The state of no single process.
    pub shared: HandoverShared,
}

/// The state that belongs to no single process. Older programs hand over none.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct HandoverShared {
    pub(in crate::engine) orphans: HandoverOrphans,
    /// The capture writers of deleted processes.
    #[serde(rename = "filters")]
    pub(in crate::engine) capture_writers: Vec<HandoverCaptureWriter>,
    pub(in crate::engine) kills: Option<HandoverOomKills>,
    /// The named files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::engine) files: Vec<HandoverFile>,
}

impl Handover {
    /// The descriptors that must stay open.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let capture_writers =
            self.shared.capture_writers.iter().filter_map(HandoverCaptureWriter::descriptor);
        let files = self.shared.files.iter().flat_map(HandoverFile::descriptors);
        self.processes
            .iter()
            .flat_map(HandoverProcess::descriptors)
            .chain(capture_writers)
            .chain(files)
    }
}

/// A capture writer, as an upgrade hands it over.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(in crate::engine) struct HandoverCaptureWriter {
    pub(in crate::engine) pid: i32,
    /// `None` from an older program.
    pub(in crate::engine) pidfd: Option<RawFd>,
}

impl HandoverCaptureWriter {
    pub(in crate::engine) fn new(pid: i32, pidfd: Option<RawFd>) -> Self {
        HandoverCaptureWriter { pid, pidfd }
    }

    /// The descriptor that must stay open.
    pub(in crate::engine) fn descriptor(&self) -> Option<RawFd> {
        self.pidfd
    }
}

#[cfg(test)]
impl HandoverShared {
    /// One of each kind, for the fixtures of states.
    pub(crate) fn sample() -> HandoverShared {
        HandoverShared {
            orphans: HandoverOrphans::sample(),
            capture_writers: vec![HandoverCaptureWriter::new(47, Some(22))],
            kills: Some(HandoverOomKills::sample()),
            files: Vec::new(),
        }
    }
}
