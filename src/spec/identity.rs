//! The part of a spec that is kept as long as its process is known.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Digest, ValidatedProc};

/// Who a process is: the part of its spec that results show, and that a second start with the same
/// ID is compared by.
///
/// It goes from the worker to the keeper and its journal, and back to later workers: fields are
/// only ever appended, with a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The arguments.
    pub argv: Vec<String>,
    /// The executable as asked for: a path, or a name to look up.
    pub exe: String,
    /// The working directory as asked for; none for the worker's own.
    pub cwd: Option<String>,
    /// Labels, in the order given.
    pub labels: IndexMap<String, String>,
    /// Whether results show the environment.
    pub report_env: bool,
    /// The digest that distinguishes the spec from every other.
    pub digest: Digest,
    /// Whether it asks for properties of systemd, which are not applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub systemd: bool,
}

/// The warning about `systemd_properties`, in results and in the log.
pub const SYSTEMD_UNAPPLIED: &str =
    "systemd_properties: not applied; this version does not set any property of systemd";

impl Identity {
    /// Its requests that are not fulfilled.
    pub fn warnings(&self) -> Vec<&'static str> {
        self.systemd.then_some(SYSTEMD_UNAPPLIED).into_iter().collect()
    }
}

impl From<&ValidatedProc> for Identity {
    fn from(proc: &ValidatedProc) -> Self {
        Identity {
            argv: proc.argv.clone(),
            exe: proc.exe.clone(),
            cwd: proc.attributes.cwd.clone(),
            labels: proc.labels.clone(),
            report_env: proc.env.in_result,
            digest: proc.digest,
            systemd: !proc.systemd.is_empty(),
        }
    }
}
