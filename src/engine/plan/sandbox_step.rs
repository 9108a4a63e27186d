//! One step into a sandbox, as the child takes it.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

/// The remedy for a refused system call.
pub(super) const POLICY: &str = "a security policy of this host or container refuses it (seccomp; for an instance that is \
     not root, kernel.apparmor_restrict_unprivileged_userns); allow it, run procstar as root, or leave the key out";

/// One step into a sandbox.
pub(in crate::engine) enum SandboxStep {
    /// Make the namespaces of these clone flags.
    Namespaces(libc::c_int),
    /// Write a text to a file of the child's own in `/proc`.
    UserMap(&'static std::ffi::CStr, String),
    /// Receive later mounts and unmounts of the host, and send none to it.
    ReceiveMounts,
    /// Clone the mounts at the path of a tree.
    Clone(Arc<MountTree>),
    /// Make all mounts read-only.
    ReadOnlyRoot,
    /// Attach the clone of a tree at its path.
    Attach(Arc<MountTree>),
    /// Mount an empty directory for temporary files. With `optional`, a missing path is no error.
    Tmp { path: CString, optional: bool },
    /// Cover a path with an empty directory or file.
    Hide(CString),
    /// Enter this directory again, to see it through the new mounts.
    Enter(CString),
    /// Enable the loopback interface.
    Loopback,
    /// Keep the permitted capabilities when the user changes.
    KeepCapabilities,
    /// Set all capability sets.
    Capabilities(CapabilitySets),
    /// Let no exec grant privileges.
    NoNewPrivileges,
}

/// A tree of mounts that is cloned, and attached at the same path.
pub(in crate::engine) struct MountTree {
    pub(in crate::engine) path: CString,
    pub(in crate::engine) read_only: bool,
    /// Whether a missing path is no error.
    pub(in crate::engine) optional: bool,
    /// The child's descriptor of the clone; -1 without one.
    pub(in crate::engine) clone: AtomicI32,
}

/// Sets of capabilities, a bit for each capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct CapabilitySets {
    pub(in crate::engine) permitted: u64,
    pub(in crate::engine) inheritable: u64,
    pub(in crate::engine) ambient: u64,
}

impl SandboxStep {
    /// The remedy for a failure of this step.
    pub(in crate::engine) fn remedy(&self, errno: i32) -> &'static str {
        match (self, errno) {
            (SandboxStep::Namespaces(flags), libc::EPERM | libc::EACCES)
                if flags & libc::CLONE_NEWUSER != 0 =>
            {
                "procstar is not root, and this host or container allows no user namespaces \
                 (kernel.unprivileged_userns_clone, seccomp); allow them, run procstar as root, or leave the key out"
            }
            (SandboxStep::Namespaces(_), libc::EPERM | libc::EACCES) => {
                "a security policy of this host or container refuses namespaces (seccomp); allow unshare(2), or leave the key out"
            }
            (SandboxStep::Namespaces(_), libc::ENOSPC | libc::EUSERS) => {
                "this host allows no further namespaces; raise user.max_user_namespaces, user.max_mnt_namespaces \
                 and user.max_net_namespaces"
            }
            (SandboxStep::Namespaces(_), libc::EINVAL | libc::ENOSYS) => {
                "the kernel is built without these namespaces; use another, or leave the key out"
            }
            (_, libc::ENOSYS) => {
                "it needs Linux 5.12 or later; update the kernel, or leave the key out"
            }
            (SandboxStep::Enter(_), _) => {
                "it is not accessible in the sandbox; set cwd to a directory that is"
            }
            (_, libc::EPERM | libc::EACCES) => POLICY,
            (_, libc::ENOENT) => "create it, or remove it from the list",
            (SandboxStep::ReadOnlyRoot, libc::EINVAL) => {
                "procstar's root directory is not a mount point; mount it onto itself, or list the directories below /"
            }
            _ => "leave the key out, or correct the cause",
        }
    }
}
