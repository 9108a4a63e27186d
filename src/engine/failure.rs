//! Why a process was not started as specified.

use std::fmt;
use std::io;

use crate::spec::{Attribute, Resource};

/// The step of starting a process that failed.
///
/// Journals and upgrades keep it: the name of a variant there never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Stage {
    /// The executable is not one that procstar is restricted to; nothing was tried.
    #[serde(rename = "Restrict")]
    NotAllowed,
    /// The process could not be made.
    Fork,
    /// An fd could not be set up.
    Fd(i32),
    /// The set-up ended before exec, by a signal.
    #[serde(rename = "Setup")]
    KilledInSetup,
    /// The program could not be executed.
    Exec {
        /// Whether there is no such executable.
        missing: bool,
    },
    /// Another process of the same request failed, and all or none were to be started; nothing was tried.
    #[serde(rename = "Peer")]
    Sibling,
    /// It could not have a session of its own.
    Session,
    /// A variable could not be read from its file.
    Env,
    /// A limit could not be set.
    Limits(Resource),
    /// An attribute could not be set; of users and groups, also if one is unknown. Its form on disk is that of the attribute alone.
    #[serde(untagged)]
    Attribute(Attribute),
}

impl Stage {
    /// Its name in results: of an attribute, the key of the spec.
    pub fn name(self) -> &'static str {
        match self {
            Stage::NotAllowed => "not_allowed",
            Stage::Fork => "fork",
            Stage::Fd(_) => "fd",
            Stage::KilledInSetup => "killed_in_setup",
            Stage::Exec { .. } => "exec",
            Stage::Sibling => "sibling",
            Stage::Session => "session",
            Stage::Env => "env",
            Stage::Limits(_) => "limits",
            Stage::Attribute(attribute) => attribute.key(),
        }
    }

    /// Whether it is about a key of the spec that sets something of the process.
    fn is_attribute(self) -> bool {
        matches!(self, Stage::Attribute(_) | Stage::Env | Stage::Limits(_))
    }

    /// The fd concerned, where it is about one.
    pub fn fd(self) -> Option<i32> {
        match self {
            Stage::Fd(fd) => Some(fd),
            _ => None,
        }
    }
}

/// One failure; a process can have several, one for each fd.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StartFailure {
    /// Which step.
    pub stage: Stage,
    /// The OS error number; 0 where none is behind it. `ENOENT` for a user or a group that is unknown.
    pub errno: i32,
    /// The path concerned, or the user or group, where there is one; of [`Stage::Sibling`], the other process's ID.
    pub path: Option<String>,
    /// What the OS error leaves out, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl StartFailure {
    /// A failure of which the OS error says all.
    pub fn new(stage: Stage, errno: i32, path: Option<String>) -> StartFailure {
        StartFailure { stage, errno, path, detail: None }
    }

    /// The exit code that stands in the result: 127 no such executable, 126 not executable, 125 anything else.
    pub fn exit_code(&self) -> i32 {
        match self.stage {
            Stage::Exec { missing: true } => 127,
            Stage::Exec { missing: false } | Stage::NotAllowed => 126,
            _ => 125,
        }
    }

    /// What is wrong, where the OS has no number for it, or one whose text would mislead.
    fn reason(&self) -> String {
        match (self.stage, self.errno) {
            (Stage::Attribute(Attribute::User), libc::ENOENT) => "no such user".to_owned(),
            (Stage::Attribute(Attribute::Group | Attribute::Groups), libc::ENOENT) => "no such group".to_owned(),
            (Stage::Env, libc::EINVAL) => "not a regular file".to_owned(),
            (Stage::Attribute(Attribute::Keyring), libc::EDQUOT) => "the program's user has as many keys as it may: raise \
                 kernel.keys.maxkeys and kernel.keys.maxbytes (root_maxkeys and root_maxbytes for root)"
                .to_owned(),
            (Stage::Env, libc::EILSEQ) => "a NUL byte in the file".to_owned(),
            (Stage::Env, libc::E2BIG) => "larger than the kernel's limit of 128 KiB".to_owned(),
            (_, 0) if self.detail.is_some() => self.detail.clone().unwrap_or_default(),
            _ => io::Error::from_raw_os_error(self.errno).to_string(),
        }
    }
}

impl fmt::Display for StartFailure {
    /// The texts that clients match by their beginnings: they must stay as they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason();
        let path = self.path.as_deref().unwrap_or_default();
        match self.stage {
            Stage::NotAllowed => write!(f, "restricted executable: {path}")?,
            Stage::Fork => write!(f, "fork failed: {reason}")?,
            Stage::Fd(fd) => write!(f, "failed to set up fd {fd}: {reason}")?,
            Stage::KilledInSetup => {
                f.write_str("the set-up was ended by a signal before execve")?
            }
            Stage::Sibling => {
                write!(f, "not started: process {path:?} of the same request failed")?
            }
            Stage::Session => write!(f, "failed to make a session: {reason}")?,
            Stage::Exec { .. } => write!(f, "execve failed: {path}: {reason}")?,
            attribute => {
                write!(f, "failed to set {}: ", attribute.name())?;
                let subject = match attribute {
                    Stage::Limits(resource) => Some(resource.name()),
                    _ => self.path.as_deref(),
                };
                if let Some(subject) = subject {
                    write!(f, "{subject}: ")?;
                }
                f.write_str(&reason)?;
            }
        }
        // Without an OS error, the detail is the reason of an attribute.
        let said = self.errno == 0 && self.stage.is_attribute();
        let detail = self.detail.iter().filter(|_| !said);
        detail.into_iter().try_for_each(|detail| write!(f, ": {detail}"))
    }
}

/// A process of a tree that could not be signaled when that was stopped.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StopFailure {
    /// Its pid.
    pub pid: i32,
    /// The name of its executable, at most 15 bytes of it.
    pub comm: String,
    /// The signal.
    pub signum: i32,
    /// The OS error number; as a rule `EPERM`, where it runs as another user.
    pub errno: i32,
}

impl fmt::Display for StopFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StopFailure { pid, comm, signum, errno } = self;
        let signal = crate::signal::signal_name(*signum).unwrap_or("a signal");
        let reason = io::Error::from_raw_os_error(*errno);
        write!(f, "cannot send {signal} to process {pid} ({comm}): {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Journals and states of earlier versions have each attribute as a stage of its own.
    #[test]
    fn a_stage_has_on_disk_the_form_that_it_always_had() {
        let attribute = Stage::Attribute;
        for (stage, json) in [
            (attribute(Attribute::OomScoreAdj), "\"OomScoreAdj\""),
            (attribute(Attribute::PdeathSignal), "\"PdeathSignal\""),
            (Stage::NotAllowed, "\"Restrict\""),
            (Stage::KilledInSetup, "\"Setup\""),
            (Stage::Sibling, "\"Peer\""),
            (Stage::Fd(3), "{\"Fd\":3}"),
            (Stage::Exec { missing: true }, "{\"Exec\":{\"missing\":true}}"),
            (Stage::Limits(Resource::Core), "{\"Limits\":\"core\"}"),
        ] {
            assert_eq!(serde_json::to_string(&stage).unwrap(), json);
            assert_eq!(serde_json::from_str::<Stage>(json).unwrap(), stage);
            for bytes in [rmp_serde::to_vec(&stage), rmp_serde::to_vec_named(&stage)] {
                assert_eq!(rmp_serde::from_slice::<Stage>(&bytes.unwrap()).unwrap(), stage);
            }
        }
        for attribute in Attribute::ALL {
            let bytes = rmp_serde::to_vec(&Stage::Attribute(*attribute)).unwrap();
            assert_eq!(bytes, rmp_serde::to_vec(&format!("{attribute:?}")).unwrap());
        }
        assert!(serde_json::from_str::<Stage>("\"Nonsense\"").is_err());
    }
}
