//! The part of a spec that is kept as long as its process is known.

use indexmap::IndexMap;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::{Digest, Sandbox, ValidatedProc};

/// The identity of a process: the part of its spec that results contain, and with which a second
/// start with the same ID is compared.
///
/// The worker sends it to the keeper, which writes it to the journal and sends it to later workers.
/// So new fields are only appended, with a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
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
    #[serde(default)]
    pub systemd: bool,
    /// The sandbox.
    #[serde(default)]
    pub sandbox: Sandbox,
}

/// Leaves the last fields out if they have their defaults, so that an identity without them has the
/// form of earlier versions. In an array, no field before another can be left out.
impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Identity { argv, exe, cwd, labels, report_env, digest, systemd, sandbox } = self;
        let has_sandbox = !sandbox.is_none();
        let has_systemd = *systemd || has_sandbox;
        let count = 6 + usize::from(has_systemd) + usize::from(has_sandbox);
        let mut fields = serializer.serialize_struct("Identity", count)?;
        fields.serialize_field("argv", argv)?;
        fields.serialize_field("exe", exe)?;
        fields.serialize_field("cwd", cwd)?;
        fields.serialize_field("labels", labels)?;
        fields.serialize_field("report_env", report_env)?;
        fields.serialize_field("digest", digest)?;
        if has_systemd {
            fields.serialize_field("systemd", systemd)?;
        }
        if has_sandbox {
            fields.serialize_field("sandbox", sandbox)?;
        }
        fields.end()
    }
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
            sandbox: proc.attributes.sandbox.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_identity_is_read_as_it_was_written() {
        let hidden_paths = vec!["/h".to_owned()];
        let boxed = Sandbox { hidden_paths, ..Sandbox::default() };
        for sandbox in [Sandbox::default(), boxed] {
            for systemd in [false, true] {
                let exe = "/x".to_owned();
                let sandbox = sandbox.clone();
                let identity = Identity { exe, systemd, sandbox, ..Identity::default() };
                for bytes in [rmp_serde::to_vec(&identity), rmp_serde::to_vec_named(&identity)] {
                    let read: Identity = rmp_serde::from_slice(&bytes.unwrap()).unwrap();
                    assert_eq!(read, identity);
                }
            }
        }
    }
}
