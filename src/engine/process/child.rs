//! The data of a process's child, during its life and after its end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::TimePoint;
use crate::engine::owned_child::OwnedChild;
use crate::engine::rusage::no_usage;
use crate::procfs::{RawIo, RawStat, RawStatm};

/// A child with the epoll token of its pidfd; no token if a timer polls it instead.
pub(in crate::engine) struct LiveChild {
    pub(in crate::engine) child: OwnedChild,
    pub(in crate::engine) token: Option<u64>,
    /// Whether an earlier engine has started it.
    pub(in crate::engine) adopted: bool,
    /// The time by which another process must have reaped it, once it is a zombie of which we
    /// cannot read the status.
    pub(in crate::engine) reaped_by: Option<u64>,
}

/// The `/proc` data of a running child for the event of its start.
pub(in crate::engine) struct ChildFacts {
    pub(in crate::engine) pid: i32,
    pub(in crate::engine) stat: Option<RawStat>,
    pub(in crate::engine) statm: Option<RawStatm>,
    /// The directory of its control group.
    pub(in crate::engine) group: Option<PathBuf>,
}

/// The data of a reaped child, or of one that could not be made.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::engine) struct ChildExit {
    pub(in crate::engine) pid: Option<i32>,
    pub(in crate::engine) status: i32,
    #[serde(with = "crate::engine::rusage")]
    pub(in crate::engine) rusage: libc::rusage,
    pub(in crate::engine) stat: Option<RawStat>,
    pub(in crate::engine) stop: TimePoint,
    pub(in crate::engine) lost: bool,
    #[serde(default)]
    pub(in crate::engine) io: Option<RawIo>,
    #[serde(default)]
    pub(in crate::engine) out_of_memory: bool,
    /// Whether another process has reaped it, so that `rusage` is unknown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::engine) unmeasured: bool,
    /// Whether it was outside of its control group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::engine) left_group: bool,
}

impl ChildExit {
    /// The exit of a process that has no child.
    pub(in crate::engine) fn without_child() -> ChildExit {
        ChildExit {
            pid: None,
            status: 0,
            rusage: no_usage(),
            stat: None,
            stop: TimePoint::now(),
            lost: false,
            unmeasured: false,
            left_group: false,
            io: None,
            out_of_memory: false,
        }
    }

    /// The exit of a child whose exit status is lost.
    pub(in crate::engine) fn lost(pid: i32) -> ChildExit {
        ChildExit { pid: Some(pid), lost: true, ..ChildExit::without_child() }
    }
}
