//! Validated requests, which the engine executes.
//!
//! The worker sends these types to the keeper, and the keeper writes some of them to its journal. So
//! new fields are only appended, with a default.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{
    Account, CaptureSpec, EnvSpec, FdName, IoPriority, OpenFlags, ProcId, ResourceLimits, Sandbox,
    SystemdProperties,
};

/// The highest fd number that a spec may name: the kernel's default for `fs.nr_open`, less one.
pub const MAX_FD: i32 = 1_048_575;

/// A request without errors. Starting its processes fails only if a system call fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    /// The processes, in the order of the request.
    pub procs: IndexMap<ProcId, ValidatedProc>,
    /// The number of pipes between them. Each has exactly one [`PipeEnd::Write`] and one [`PipeEnd::Read`]
    /// among the fds.
    pub pipes: usize,
    /// Whether all are stopped if one cannot be started.
    #[serde(default)]
    pub all_or_nothing: bool,
    /// Whether an existing process with the same ID and spec counts as started.
    #[serde(default)]
    pub idempotent: bool,
}

/// One process of a validated request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidatedProc {
    /// The arguments; may be empty if `exe` was given.
    pub argv: Vec<String>,
    /// The path to execute, or, with [`lookup_path`](Self::lookup_path), the name to look up.
    pub exe: String,
    /// The environment.
    pub env: EnvSpec,
    /// The fds in the order of their setup; each fd occurs once.
    pub fds: Vec<(FdName, ValidatedFd)>,
    /// Resource control by systemd.
    pub systemd: SystemdProperties,
    /// Whether an `exe` without a slash is looked up in the PATH of the process's own environment.
    #[serde(default)]
    pub lookup_path: bool,
    /// The attributes that the child sets before it executes the program.
    #[serde(default)]
    pub attributes: Attributes,
    /// The labels, in the order of the request.
    #[serde(default)]
    pub labels: IndexMap<String, String>,
    /// The time after which the process is stopped, in seconds.
    #[serde(default)]
    pub timeout: Option<f64>,
    /// The signal and the grace period of a stop.
    #[serde(default)]
    pub stopping: Stopping,
    /// The digest of the spec.
    #[serde(default)]
    pub digest: Digest,
    /// Fds from 3 up that the process inherits in addition to `fds`, if this program was started with
    /// them.
    #[serde(default)]
    pub passed: Vec<i32>,
    /// Whether the process belongs to our own job on the terminal: it then stays in our session and
    /// process group, and ignores the signals that this program ignored when it started. Specs have no
    /// key for this.
    #[serde(default)]
    pub shares_terminal: bool,
}

/// The first 16 bytes of the SHA-256 of a spec with all defaults filled in; zeros if not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(pub [u8; 16]);

/// Attributes of a process that its child sets before it executes the program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// The working directory.
    pub cwd: Option<String>,
    /// The file mode creation mask, 0 to 0o777.
    pub umask: Option<u32>,
    /// The user.
    pub user: Option<Account>,
    /// The group.
    pub group: Option<Account>,
    /// The supplementary groups.
    pub groups: Option<Vec<Account>>,
    /// Resource limits.
    pub limits: ResourceLimits,
    /// The nice value, -20 to 19.
    pub nice: Option<i32>,
    /// The kernel's OOM score adjustment, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Numbers of CPUs, each below [`MAX_CPUS`](Self::MAX_CPUS); not empty.
    pub cpu_affinity: Option<Vec<u32>>,
    /// The priority of disk access.
    pub io_priority: Option<IoPriority>,
    /// The signal that the kernel sends to the process when this program ends.
    pub pdeath_signal: Option<i32>,
    /// Dispositions and mask of signals.
    pub signals: SignalSets,
    /// Restrictions.
    pub sandbox: Sandbox,
}

impl Attributes {
    /// Numbers of CPUs are lower than this.
    pub const MAX_CPUS: u32 = 8192;
}

macro_rules! attributes {
    ($($(#[$doc:meta])* $variant:ident = $key:literal,)*) => {
        /// An attribute that the child sets for itself: a key of the spec, or an attribute of every
        /// process of another user.
        ///
        /// Journals and handovers of upgrades contain the variant's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Attribute {
            $($(#[$doc])* $variant,)*
        }

        impl Attribute {
            /// Every attribute.
            pub const ALL: &[Attribute] = &[$(Attribute::$variant,)*];

            /// Its name in results: the key of the spec, if it has one.
            pub fn key(self) -> &'static str {
                match self {
                    $(Attribute::$variant => $key,)*
                }
            }
        }
    };
}

attributes! {
    /// The OOM score adjustment.
    OomScoreAdj = "oom_score_adj",
    /// The nice value.
    Nice = "nice",
    /// The priority of disk access.
    IoPriority = "io_priority",
    /// The CPUs.
    CpuAffinity = "cpu_affinity",
    /// A session keyring of its own.
    Keyring = "keyring",
    /// The supplementary groups.
    Groups = "groups",
    /// The group.
    Group = "group",
    /// The user.
    User = "user",
    /// Dropping the capabilities of this program.
    Capabilities = "capabilities",
    /// The signal that is sent when this program ends.
    PdeathSignal = "pdeath_signal",
    /// The working directory, and the file mode creation mask.
    Cwd = "cwd",
    /// A part of the sandbox.
    Sandbox = "sandbox",
}

/// Sets of signals; signal N is bit N - 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSets {
    /// Ignored signals; all others have their default disposition.
    pub ignore: u64,
    /// Blocked signals.
    pub block: u64,
}

/// How a process is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stopping {
    /// The first signal, which is sent to the process group.
    pub signum: i32,
    /// Seconds until the whole tree is killed; finite and not negative.
    pub grace: f64,
    /// Whether the spec has the key `stop`. Without it, a shutdown always sends SIGTERM first.
    #[serde(default)]
    pub given: bool,
}

impl Default for Stopping {
    fn default() -> Self {
        Stopping {
            signum: super::StopSpec::SIGNAL.number(),
            grace: super::StopSpec::GRACE.get(),
            given: false,
        }
    }
}

/// An fd of a process, with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ValidatedFd {
    /// Inherited from this program.
    Inherit,
    /// Closed.
    Close,
    /// A file that the child opens; the flags are never [`OpenFlags::Default`].
    Open {
        /// The path.
        path: String,
        /// The flags.
        flags: OpenFlags,
        /// Permission bits of a new file, from which the umask is subtracted.
        mode: u32,
    },
    /// A duplicate of this fd number in its state at that point of the setup.
    Dup(i32),
    /// Captured.
    Capture(CaptureSpec),
    /// One end of a pipe.
    Pipe(PipeEnd),
    /// A file with these bytes, open for reading.
    Data(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// An end of a pipe. Pipes of a request are numbered from 0, below [`Validated::pipes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PipeEnd {
    /// The writing end.
    Write(usize),
    /// The reading end.
    Read(usize),
}

impl PipeEnd {
    /// The pipe's index.
    pub fn pipe(self) -> usize {
        let (PipeEnd::Write(pipe) | PipeEnd::Read(pipe)) = self;
        pipe
    }

    /// The other end of the same pipe.
    pub fn other(self) -> PipeEnd {
        match self {
            PipeEnd::Write(pipe) => PipeEnd::Read(pipe),
            PipeEnd::Read(pipe) => PipeEnd::Write(pipe),
        }
    }
}
