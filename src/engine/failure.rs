//! Why a process was not started as specified.

use std::fmt;
use std::io;

use crate::spec::{Attribute, Resource};

/// The step of starting a process that failed.
///
/// Journals and upgrades store it: the names of variants in them never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Stage {
    /// The executable is not allowed; nothing was tried.
    #[serde(rename = "Restrict")]
    NotAllowed,
    /// The child could not be cloned.
    Fork,
    /// An fd could not be set up.
    Fd(i32),
    /// A signal ended the set-up before exec.
    #[serde(rename = "Setup")]
    KilledInSetup,
    /// The program could not be executed.
    Exec {
        /// Whether the executable is missing.
        missing: bool,
    },
    /// Another process of the same all-or-nothing request failed; nothing was tried.
    #[serde(rename = "Peer")]
    Sibling,
    /// The child could not get its own session.
    Session,
    /// A variable could not be read from its file.
    Env,
    /// A limit could not be set.
    Limits(Resource),
    /// An attribute could not be set, or its user or group is unknown. On disk, it is the attribute
    /// alone.
    #[serde(untagged)]
    Attribute(Attribute),
}

impl Stage {
    /// Its name in results: for an attribute, the key of the spec.
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

    /// Whether the step sets an attribute of the process by a key of the spec.
    fn is_attribute(self) -> bool {
        matches!(self, Stage::Attribute(_) | Stage::Env | Stage::Limits(_))
    }

    /// The fd of the step, if any.
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
    /// The failed step.
    pub stage: Stage,
    /// The OS error number; 0 without an OS error. `ENOENT` for an unknown user or group.
    pub errno: i32,
    /// The path, user or group, if any; for [`Stage::Sibling`], the other process's ID.
    pub path: Option<String>,
    /// Details that the OS error lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl StartFailure {
    /// A failure that the OS error describes fully.
    pub fn new(stage: Stage, errno: i32, path: Option<String>) -> StartFailure {
        StartFailure { stage, errno, path, detail: None }
    }

    /// The exit code in the result: 127 for a missing executable, 126 for one that cannot be
    /// executed, 125 otherwise.
    pub fn exit_code(&self) -> i32 {
        match self.stage {
            Stage::Exec { missing: true } => 127,
            Stage::Exec { missing: false } | Stage::NotAllowed => 126,
            _ => 125,
        }
    }

    /// The reason, if the OS has no error number for it, or one with a misleading text.
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
    /// Clients match the beginnings of these texts, so they must not change.
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
        // Without an OS error, the detail is the reason for an attribute's failure.
        let said = self.errno == 0 && self.stage.is_attribute();
        let detail = self.detail.iter().filter(|_| !said);
        detail.into_iter().try_for_each(|detail| write!(f, ": {detail}"))
    }
}

/// A process that could not be signaled when its tree was stopped.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StopFailure {
    /// Its pid.
    pub pid: i32,
    /// The name of its executable, cut to 15 bytes.
    pub comm: String,
    /// The signal.
    pub signum: i32,
    /// The OS error number; usually `EPERM`, if it runs as another user.
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

    /// Journals and states of earlier versions store each attribute as its own stage.
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
