//! One attribute of a process, as the child sets it on itself.

use std::ffi::CString;
use std::os::fd::RawFd;

use super::sandbox_step::{POLICY, SandboxStep};
use crate::engine::failure::{Stage, StartFailure};
use crate::spec::Attribute;

/// One attribute, with all that the child needs to set it.
pub(in crate::engine) struct ChildAttribute {
    /// The stage of a failure.
    pub(in crate::engine) stage: Stage,
    /// The subject of a failure: a path, a user.
    pub(in crate::engine) path: Option<String>,
    pub(in crate::engine) what: AttributeValue,
}

impl ChildAttribute {
    /// The failure of setting it.
    pub(in crate::engine) fn failure(&self, errno: i32) -> StartFailure {
        let detail = self.remedy(errno).map(str::to_owned);
        StartFailure { detail, ..StartFailure::new(self.stage, errno, self.path.clone()) }
    }

    /// The remedy for a failure, if the error alone does not show it.
    fn remedy(&self, errno: i32) -> Option<&'static str> {
        match &self.what {
            AttributeValue::Sandbox(step) => Some(step.remedy(errno)),
            AttributeValue::Bounding(_) if self.stage == Stage::Attribute(Attribute::Sandbox) => {
                Some(POLICY)
            }
            _ => None,
        }
    }
}

/// The value of an attribute.
pub(in crate::engine) enum AttributeValue {
    /// A limit: the resource's number.
    Limit(u32, libc::rlimit64),
    /// The text for `/proc/self/oom_score_adj`.
    OomScoreAdj(String),
    Nice(i32),
    /// In the format of ioprio_set(2).
    IoPriority(i32),
    /// A bit for each CPU.
    CpuAffinity(Vec<u64>),
    Groups(Vec<libc::gid_t>),
    Group(libc::gid_t),
    User(libc::uid_t),
    /// A new session keyring.
    Keyring,
    /// Capabilities to remove from the bounding set, a bit for each.
    Bounding(u64),
    /// Empty all capability sets, and optionally set `no_new_privs`.
    NoCapabilities {
        no_new_privileges: bool,
    },
    /// `/dev/null` at this number, opened with these flags.
    Null(RawFd, libc::c_int),
    /// The death signal, and the pid of the expected parent.
    DeathSignal(i32, libc::pid_t),
    /// A step into the sandbox.
    Sandbox(SandboxStep),
    Umask(libc::mode_t),
    Cwd(CString),
}
