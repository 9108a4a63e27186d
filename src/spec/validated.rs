//! A request in which nothing is left to object to: what the engine plans from.
//!
//! These cross from the worker to the keeper, and some of them stay in its journal: fields are only
//! ever appended, with a default.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{
    Account, CaptureSpec, EnvSpec, FdName, IoPriority, OpenFlags, ProcId, ResourceLimits,
    SystemdProperties,
};

/// The highest fd number that a spec may name: the kernel's default for `fs.nr_open`, less one.
pub const MAX_FD: i32 = 1_048_575;

/// A request in which nothing is left to object to; what remains can fail only at the system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    /// The processes, in the order given.
    pub procs: IndexMap<ProcId, ValidatedProc>,
    /// How many pipes join them; each has exactly one [`PipeEnd::Write`] and one [`PipeEnd::Read`]
    /// among the fds.
    pub pipes: usize,
    /// Whether all are stopped where one cannot be started.
    #[serde(default)]
    pub all_or_nothing: bool,
    /// Whether a process that is there already with the same spec is as good as started.
    #[serde(default)]
    pub idempotent: bool,
}

/// One process of a validated request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidatedProc {
    /// The arguments; may be empty where `exe` was given.
    pub argv: Vec<String>,
    /// The path to execute, or the name to look up where [`lookup_path`](Self::lookup_path).
    pub exe: String,
    /// The environment.
    pub env: EnvSpec,
    /// The fds in the order of their set-up; no fd is twice among them.
    pub fds: Vec<(FdName, ValidatedFd)>,
    /// Resource control by systemd.
    pub systemd: SystemdProperties,
    /// Whether an `exe` without a slash is looked up in the PATH of the process's own environment.
    #[serde(default)]
    pub lookup_path: bool,
    /// What is set of the process before it executes.
    #[serde(default)]
    pub attributes: Attributes,
    /// Labels, in the order given.
    #[serde(default)]
    pub labels: IndexMap<String, String>,
    /// Seconds after which it is stopped.
    #[serde(default)]
    pub timeout: Option<f64>,
    /// How it is stopped.
    #[serde(default)]
    pub stopping: Stopping,
    /// What tells its spec from every other.
    #[serde(default)]
    pub digest: Digest,
    /// Fds from 3 up that it has from the program besides those of `fds`, where the program was
    /// started with them.
    #[serde(default)]
    pub passed: Vec<i32>,
    /// Whether it is a part of our own job on the terminal: it then stays in our session and
    /// process group, and ignores the signals that this program was started with as ignored. No
    /// spec asks for it.
    #[serde(default)]
    pub shares_terminal: bool,
}

/// The first 16 bytes of the SHA-256 of a spec as it is written with every default; all zero where
/// none was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(pub [u8; 16]);

/// Attributes of a process that its child sets before it executes.
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
    /// Priority in disk access.
    pub io_priority: Option<IoPriority>,
    /// The signal that it gets when the program that started it dies.
    pub pdeath_signal: Option<i32>,
    /// Dispositions and mask of signals.
    pub signals: SignalSets,
}

impl Attributes {
    /// CPUs have lower numbers than this.
    pub const MAX_CPUS: u32 = 8192;
}

macro_rules! attributes {
    ($($(#[$doc:meta])* $variant:ident = $key:literal,)*) => {
        /// An attribute that the child of a process sets of itself, one by one: a key of the spec,
        /// or what every process of another user gets.
        ///
        /// It is kept in journals, and crosses in upgrades, by its variant's name.
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
    /// The priority in disk access.
    IoPriority = "io_priority",
    /// The CPUs.
    CpuAffinity = "cpu_affinity",
    /// A session keyring that no other process has.
    Keyring = "keyring",
    /// The supplementary groups.
    Groups = "groups",
    /// The group.
    Group = "group",
    /// The user, or what goes with it.
    User = "user",
    /// No capability of this program.
    Capabilities = "capabilities",
    /// The signal at this program's death.
    PdeathSignal = "pdeath_signal",
    /// The working directory, and the file mode creation mask.
    Cwd = "cwd",
}

/// Sets of signals; signal N is bit N - 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSets {
    /// Those that are ignored; all others have their default.
    pub ignore: u64,
    /// Those that are blocked.
    pub block: u64,
}

/// How a process is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stopping {
    /// The signal that its process group is asked by.
    pub signum: i32,
    /// Seconds until its whole tree is killed; not negative, and finite.
    pub grace: f64,
    /// Whether the spec says so: the shutdown stops a process whose spec says nothing by SIGTERM
    /// alone.
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

/// What an fd shall be, defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ValidatedFd {
    /// As the worker has it.
    Inherit,
    /// Closed.
    Close,
    /// A file to open in the process; the flags are never [`OpenFlags::Default`].
    Open {
        /// The path.
        path: String,
        /// How.
        flags: OpenFlags,
        /// Permission bits of a new file, less the umask.
        mode: u32,
    },
    /// A duplicate of fd number `0` as it then stands.
    Dup(i32),
    /// Captured.
    Capture(CaptureSpec),
    /// One end of a pipe.
    Pipe(PipeEnd),
    /// A file open for reading that holds these bytes.
    Data(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// An end of one of the request's pipes, by the pipe's index below [`Validated::pipes`].
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
