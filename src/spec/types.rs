//! The spec format as serde reads and writes it.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::ProcId;
use super::attributes::{Account, IoPriority, ResourceLimits, SignalRef, SignalsSpec, StopSpec};
use super::environment::EnvSpec;
use super::fds::Fds;
use super::unique_keys::{unique_keys, unique_keys_up_to};
use crate::quantity::Seconds;

/// A request to start processes: `{"specs": {PROC_ID: PROC, ...}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "Request")]
pub struct StartRequest {
    /// The processes in the order given; the key is the process's ID, and may not be given twice.
    #[serde(deserialize_with = "processes")]
    #[schemars(schema_with = "super::schema::processes")]
    pub specs: IndexMap<ProcId, ProcSpec>,
    /// Whether all are stopped where one cannot be started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_or_nothing: bool,
    /// Whether a process that is there already with the same spec is as good as started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
}

impl StartRequest {
    /// So many processes one request may have.
    pub const MAX_PROCESSES: usize = 65_536;
    /// So many values and keys one request may have: the least of them takes a hundred times the
    /// room that it has in a text.
    pub const MAX_VALUES: usize = 1_000_000;
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct ProcSpec {
    /// The arguments, the program's own name first. Executed as a path unless `exe` is given; no
    /// PATH is searched.
    pub argv: Vec<String>,
    /// The path to execute instead of `argv[0]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Accepted for compatibility; the key in the map of specs is the process's ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The environment.
    #[serde(default)]
    pub env: EnvSpec,
    /// The fds: an array, set up in its order, or an object, whose order is of no matter.
    #[serde(default)]
    pub fds: Fds,
    /// Resource control by systemd: checked, and not applied, which the result's `warnings` say.
    #[serde(default)]
    pub systemd_properties: SystemdProperties,
    /// Whether an executable without a slash is looked up in the PATH of the process's own
    /// environment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lookup_path: bool,
    /// The working directory; relative to procstar's own, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The file mode creation mask, as an octal string (`"0027"`); procstar's own if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<String>,
    /// The user it runs as; its group and groups are then that user's own, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Account>,
    /// The group it runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Account>,
    /// Its supplementary groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Account>>,
    /// Resource limits.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty", deserialize_with = "unique_keys")]
    #[schemars(schema_with = "super::schema::limits")]
    pub rlimits: ResourceLimits,
    /// Its nice value, -20 to 19; procstar's own if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// How readily the kernel kills it where memory runs out, -1000 to 1000; procstar's own if left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// The numbers of the CPUs it may run on; procstar's own if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_affinity: Option<Vec<u32>>,
    /// Its priority in disk access; procstar's own if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// The signal that it gets when the program that started it dies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdeath_signal: Option<SignalRef>,
    /// Its dispositions and mask of signals.
    #[serde(default, skip_serializing_if = "is_default")]
    pub signals: SignalsSpec,
    /// Labels, to be shown and to be filtered by.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty", deserialize_with = "unique_keys")]
    pub labels: IndexMap<String, String>,
    /// The time after which it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Seconds>,
    /// How it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopSpec>,
}

/// Whether a value is its type's default, and need not be written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `systemd_properties`: unit properties, which are checked, and not applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct SystemdProperties {
    /// Of the scope that holds the process.
    pub scope: Option<ScopeProperties>,
    /// Of the slice that holds the scope.
    pub slice: Option<SliceProperties>,
}

impl SystemdProperties {
    /// Whether nothing at all is asked for.
    pub fn is_empty(&self) -> bool {
        self.scope.as_ref().is_none_or(|s| *s == ScopeProperties::default())
            && self.slice.as_ref().is_none_or(|s| *s == SliceProperties::default())
    }
}

/// systemd's action on a scope after the kernel's OOM killer has killed one of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OomPolicy {
    /// Nothing more.
    Continue,
    /// End the others in order.
    Stop,
    /// Kill the others.
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

/// Reads processes in their order, refusing an ID given twice, and too many: each takes some
/// hundred times the room that it has in a text.
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
