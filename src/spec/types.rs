//! The spec format as serde reads and writes it.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::ProcId;
use super::attributes::{Account, IoPriority, ResourceLimits, SignalRef, SignalsSpec, StopSpec};
use super::environment::EnvSpec;
use super::fds::Fds;
use super::sandbox::SandboxSpec;
use super::unique_keys::{unique_keys, unique_keys_up_to};
use crate::quantity::Seconds;

/// A request to start processes: `{"specs": {PROC_ID: PROC, ...}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "Request")]
pub struct StartRequest {
    /// The processes, by ID; an ID must not occur twice.
    #[serde(deserialize_with = "processes")]
    #[schemars(schema_with = "super::schema::processes")]
    pub specs: IndexMap<ProcId, ProcSpec>,
    /// Whether all processes are stopped if one cannot be started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_or_nothing: bool,
    /// Whether an existing process with the same ID and spec counts as started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
}

impl StartRequest {
    /// Maximum number of processes in a request.
    pub const MAX_PROCESSES: usize = 65_536;
    /// Maximum number of values and keys in a request: even the smallest takes a hundred times as much
    /// memory as text.
    pub const MAX_VALUES: usize = 1_000_000;
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct ProcSpec {
    /// The arguments, beginning with the program. Unless `exe` is given, the first one is the path to
    /// execute; PATH is not searched.
    pub argv: Vec<String>,
    /// The path to execute instead of `argv[0]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Ignored, for compatibility; the process's ID is the key in `specs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The environment.
    #[serde(default)]
    pub env: EnvSpec,
    /// The fds: an array, set up in its order, or an object, whose order does not matter.
    #[serde(default)]
    pub fds: Fds,
    /// Resource control by systemd. It is checked but not applied, as the result's `warnings` report.
    #[serde(default)]
    pub systemd_properties: SystemdProperties,
    /// Whether an executable without a slash is looked up in the PATH of the process's own
    /// environment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lookup_path: bool,
    /// The working directory, relative to procstar's, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The file mode creation mask, as an octal string (`"0027"`); by default procstar's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<String>,
    /// The user that the process runs as, with that user's group and groups unless they are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Account>,
    /// The group that the process runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Account>,
    /// The supplementary groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Account>>,
    /// Resource limits.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty", deserialize_with = "unique_keys")]
    #[schemars(schema_with = "super::schema::limits")]
    pub rlimits: ResourceLimits,
    /// The nice value, -20 to 19; by default procstar's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// The kernel's preference for killing the process when memory runs out, -1000 to 1000; by default
    /// procstar's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// The numbers of the CPUs on which the process may run; by default procstar's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_affinity: Option<Vec<u32>>,
    /// The priority of disk access; by default procstar's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// The signal that the kernel sends to the process when procstar ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdeath_signal: Option<SignalRef>,
    /// The dispositions and the mask of signals.
    #[serde(default, skip_serializing_if = "is_default")]
    pub signals: SignalsSpec,
    /// Labels, by which clients can filter processes.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty", deserialize_with = "unique_keys")]
    pub labels: IndexMap<String, String>,
    /// The time after which the process is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Seconds>,
    /// How the process is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopSpec>,
    /// Restrictions of the process; by default none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sandbox: SandboxSpec,
}

/// Whether a value is its type's default and can be omitted.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `systemd_properties`: unit properties, which are checked but not applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct SystemdProperties {
    /// Properties of the scope of the process.
    pub scope: Option<ScopeProperties>,
    /// Properties of the slice of the scope.
    pub slice: Option<SliceProperties>,
}

impl SystemdProperties {
    /// Whether no property is set.
    pub fn is_empty(&self) -> bool {
        self.scope.as_ref().is_none_or(|s| *s == ScopeProperties::default())
            && self.slice.as_ref().is_none_or(|s| *s == SliceProperties::default())
    }
}

/// systemd's action on a scope after the kernel's OOM killer has killed one of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OomPolicy {
    /// No action.
    Continue,
    /// Stop the other processes.
    Stop,
    /// Kill the other processes.
    Kill,
}

/// Properties of a scope; times in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
#[expect(missing_docs, reason = "systemd documents each by this very name")]
pub struct ScopeProperties {
    pub oom_policy: Option<OomPolicy>,
    pub runtime_max_usec: Option<u64>,
    pub runtime_randomized_extra_usec: Option<u64>,
}

/// Properties of a slice; memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
#[expect(missing_docs, reason = "systemd documents each by this very name")]
pub struct SliceProperties {
    pub memory_accounting: Option<bool>,
    pub memory_min: Option<u64>,
    pub memory_low: Option<u64>,
    pub memory_high: Option<u64>,
    pub memory_max: Option<u64>,
    pub memory_swap_max: Option<u64>,
    pub tasks_accounting: Option<bool>,
    pub tasks_max: Option<u64>,
}

/// Reads processes in their order. Rejects duplicate IDs, and too many processes: each takes about a
/// hundred times as much memory as text.
pub(super) fn processes<'de, D>(deserializer: D) -> Result<IndexMap<ProcId, ProcSpec>, D::Error>
where
    D: Deserializer<'de>,
{
    unique_keys_up_to(deserializer, Some(StartRequest::MAX_PROCESSES))
}

super::object::only_objects!(
    StartRequest,
    ProcSpec,
    SystemdProperties,
    ScopeProperties,
    SliceProperties
);
