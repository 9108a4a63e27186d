//! The keeper's part of the configuration, which the first worker sends: the keeper reads no
//! configuration.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::LogSettings;
use crate::engine::{Allowlist, Restriction};
use crate::path_bytes;
use crate::spec::KeepSpec;

/// The settings that the keeper needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeeperSettings {
    /// The state directory of the instance; `None` for temporary directories.
    #[serde(with = "path_bytes::optional")]
    pub state_dir: Option<PathBuf>,
    /// The parent of temporary directories.
    #[serde(with = "path_bytes")]
    pub base_dir: PathBuf,
    /// The name of the instance, if the user has given one.
    pub conn_id: Option<String>,
    /// How long after a process's end a survivor may still hold its captures.
    #[serde(rename = "drain_grace")]
    pub drain_timeout: Duration,
    /// How long a child's set-up may take before the process is reported as running.
    #[serde(rename = "setup_patience")]
    pub setup_timeout: Duration,
    /// The restriction of specs.
    #[serde(with = "allowed", rename = "restrict_exe")]
    pub allowed: Allowed,
    /// The log settings.
    pub log: LogSettings,
    /// The limits of every process.
    #[serde(default, skip_serializing_if = "ProcessLimits::is_none", rename = "limit")]
    pub limits: ProcessLimits,
}

/// The limits of every process, in bytes; `None` means no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessLimits {
    /// How many of the first bytes to keep of captures whose spec sets no limit.
    pub head: Option<u64>,
    /// How many of the last bytes to keep.
    pub tail: Option<u64>,
    /// The largest file that a process may write.
    pub max_file_size: Option<u64>,
    /// Whether processes of other users may gain privileges by executing.
    pub gain_privileges: bool,
    /// The control group below which each process gets one of its own.
    #[serde(skip_serializing_if = "Option::is_none", with = "path_bytes::optional")]
    pub cgroup_parent: Option<PathBuf>,
}

impl ProcessLimits {
    fn is_none(&self) -> bool {
        *self == ProcessLimits::default()
    }

    /// The limits of captures whose spec sets none.
    pub(in crate::keeper) fn of_captures(&self) -> KeepSpec {
        KeepSpec { head: self.head, tail: self.tail }
    }
}

/// The restriction of specs, in the form that is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// The allowed executables, as paths and globs. Empty means any; the other fields have no
    /// effect then.
    pub executables: Vec<String>,
    /// Variables that are passed on despite the restriction.
    pub variables: Vec<String>,
    /// Directories below which specs may name files.
    #[serde(with = "path_bytes::list")]
    pub directories: Vec<PathBuf>,
}

impl Allowed {
    /// The restriction; `None` if every executable is allowed.
    ///
    /// # Errors
    /// A glob is invalid; the message is for the user.
    pub fn restriction(&self) -> Result<Option<Restriction>, String> {
        if self.executables.is_empty() {
            return Ok(None);
        }
        let restriction = Restriction::new(Allowlist::new(self.executables.clone())?)
            .allow_variables(self.variables.clone())
            .allow_directories(self.directories.clone());
        Ok(Some(restriction))
    }
}

/// The settings of the first worker that the keeper needs only to open the instance's directories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The possible locations of the registry, the best one first.
    #[serde(with = "path_bytes::list", rename = "places")]
    pub registries: Vec<PathBuf>,
    /// Whether the user has configured [`KeeperSettings::base_dir`], so that no other directory may
    /// replace it.
    pub captures_chosen: bool,
    /// Whether the worker will have a socket for commands.
    pub serves: bool,
}

/// [`Allowed`] in the format that once held one executable at most: nothing, a string, a list, or
/// all fields.
mod allowed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Allowed;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum AllowedForm {
        One(String),
        More(Vec<String>),
        All(Allowed),
    }

    pub(super) fn serialize<S: Serializer>(allowed: &Allowed, to: S) -> Result<S::Ok, S::Error> {
        let Allowed { executables, variables, directories } = allowed;
        match executables.as_slice() {
            _ if !(variables.is_empty() && directories.is_empty()) => allowed.serialize(to),
            [] => to.serialize_none(),
            [one] => to.serialize_some(one),
            more => more.serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Allowed, D::Error> {
        let only = |executables| Allowed { executables, ..Allowed::default() };
        Ok(match Option::<AllowedForm>::deserialize(from)? {
            None => Allowed::default(),
            Some(AllowedForm::One(one)) => only(vec![one]),
            Some(AllowedForm::More(more)) => only(more),
            Some(AllowedForm::All(all)) => all,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A restriction of executables only has the format that older programs know. With other
    /// fields, both kinds of MessagePack round-trip.
    #[test]
    fn restrictions_cross() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Holder(#[serde(with = "allowed")] Allowed, u8);
        let only = |executables: &[&str]| Allowed {
            executables: executables.iter().map(|exe| (*exe).to_owned()).collect(),
            ..Allowed::default()
        };
        let full = Allowed {
            variables: vec!["TMPDIR".into()],
            directories: vec!["/srv".into(), "/\u{e4}".into()],
            ..only(&["/bin/true"])
        };
        for allowed in [only(&[]), only(&["/a"]), only(&["/a", "/b/*"]), full] {
            let holder = Holder(allowed, 7);
            let compact = rmp_serde::to_vec(&holder).unwrap();
            let named = rmp_serde::to_vec_named(&holder).unwrap();
            assert_eq!(rmp_serde::from_slice::<Holder>(&compact).unwrap(), holder);
            assert_eq!(rmp_serde::from_slice::<Holder>(&named).unwrap(), holder);
        }
        let older = rmp_serde::to_vec(&("/a", 7)).unwrap();
        assert_eq!(rmp_serde::to_vec(&Holder(only(&["/a"]), 7)).unwrap(), older);
    }
}
