//! One attribute of a process, as the child sets it on itself.

use std::ffi::CString;
use std::os::fd::RawFd;

use crate::engine::failure::Stage;

/// One thing that the child sets of itself; what it needs is made before it is cloned.
pub(in crate::engine) struct ChildAttribute {
    /// What has failed if this fails.
    pub(in crate::engine) stage: Stage,
    /// What the failure is about: a path, a user.
    pub(in crate::engine) path: Option<String>,
    pub(in crate::engine) what: AttributeValue,
}

/// What is set.
pub(in crate::engine) enum AttributeValue {
    /// A limit: the resource's number.
    Limit(u32, libc::rlimit64),
    /// The text for `/proc/self/oom_score_adj`.
    OomScoreAdj(String),
    Nice(i32),
    /// As ioprio_set(2) takes it.
    IoPriority(i32),
    /// A bit for each CPU.
    CpuAffinity(Vec<u64>),
    Groups(Vec<libc::gid_t>),
    Group(libc::gid_t),
    User(libc::uid_t),
    /// A session keyring that nobody else has.
    Keyring,
    /// Capabilities to take out of the bounding set, a bit for each.
    Bounding(u64),
    /// No capability in any set; and whether execution may grant none either.
    NoCapabilities {
        no_new_privileges: bool,
    },
    /// `/dev/null` at this number, opened with these flags.
    Null(RawFd, libc::c_int),
    /// The signal, and the pid of whose death it is to tell.
    DeathSignal(i32, libc::pid_t),
    Umask(libc::mode_t),
    Cwd(CString),
}
