//! The part of a spec that is kept as long as its process is known.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Digest, ValidatedProc};

/// The identity of a process: the part of its spec that results contain, and with which a second
/// start with the same ID is compared.
///
/// The worker sends it to the keeper, which writes it to the journal and sends it to later workers.
/// So new fields are only appended, with a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The arguments.
    pub argv: Vec<String>,
    /// The executable as in the spec: a path, or a name to look up.
    pub exe: String,
    /// The working directory as in the spec; `None` for that of the worker.
    pub cwd: Option<String>,
    /// The labels, in the order of the spec.
    pub labels: IndexMap<String, String>,
    /// Whether results contain the environment.
    pub report_env: bool,
    /// The digest of the spec.
    pub digest: Digest,
    /// Whether the spec sets properties of systemd, which are not applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub systemd: bool,
}

/// The warning about `systemd_properties`, in results and in the log.
pub const SYSTEMD_UNAPPLIED: &str =
    "systemd_properties: not applied; this version does not set any property of systemd";

impl Identity {
    /// Warnings about keys of the spec that are not applied.
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
