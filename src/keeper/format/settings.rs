//! What the first worker brings of its configuration: the keeper reads none itself.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::LogSettings;
use crate::engine::{Allowlist, Restriction};
use crate::path_bytes;
use crate::spec::KeepSpec;

/// What the keeper has to know of the settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeeperSettings {
    /// The lasting directory of the instance; none for one that goes with it.
    #[serde(with = "path_bytes::optional")]
    pub state_dir: Option<PathBuf>,
    /// Where directories of instances are made otherwise.
    #[serde(with = "path_bytes")]
    pub base_dir: PathBuf,
    /// Names the instance, where the user has given one.
    pub conn_id: Option<String>,
    /// How long after a process's end a survivor may still hold its captures.
    pub drain_grace: Duration,
    /// How long a child's set-up may take before the process is reported as running.
    pub setup_patience: Duration,
    /// What specs are restricted to.
    #[serde(with = "allowed")]
    pub restrict_exe: Allowed,
    /// How to log.
    pub log: LogSettings,
    /// What every process is limited to.
    #[serde(default, skip_serializing_if = "ProcessLimits::is_none", rename = "limit")]
    pub limits: ProcessLimits,
}

/// What every process is limited to, sizes in bytes; none: not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessLimits {
    /// How many of the first bytes are kept of captures whose spec sets no limit.
    pub head: Option<u64>,
    /// How many of the last.
    pub tail: Option<u64>,
    /// The largest file that a process may make.
    pub max_file_size: Option<u64>,
    /// Whether processes of other users may gain privileges by executing.
    pub gain_privileges: bool,
}

impl ProcessLimits {
    fn is_none(&self) -> bool {
        *self == ProcessLimits::default()
    }

    /// Of captures whose spec sets none.
    pub(in crate::keeper) fn of_captures(&self) -> KeepSpec {
        KeepSpec { head: self.head, tail: self.tail }
    }
}

/// What specs are restricted to, as it crosses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// The executables that may be started, paths and globs; none: any, and then the rest does not matter.
    pub executables: Vec<String>,
    /// Variables that are passed on all the same.
    pub variables: Vec<String>,
    /// Directories below which specs may name files.
    #[serde(with = "path_bytes::list")]
    pub directories: Vec<PathBuf>,
}

impl Allowed {
    /// The restriction; none where every executable may be started.
    ///
    /// # Errors
    /// What is wrong with a glob, for the user.
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

/// What the keeper has to know only to open the instance's directories, of the first worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Where the registry may be, the best place first.
    #[serde(with = "path_bytes::list")]
    pub places: Vec<PathBuf>,
    /// Whether [`KeeperSettings::base_dir`] was chosen, so that no other will do.
    pub captures_chosen: bool,
    /// Whether the worker will have a socket that commands can ask at.
    pub serves: bool,
}

/// [`Allowed`] in the form that held one executable at most: nothing, a text, several, or all of it.
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

    /// A restriction without more has the form that older programs know; with more, it comes back from either kind of MessagePack.
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
