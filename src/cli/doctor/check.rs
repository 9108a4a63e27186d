//! The result of a check.

use serde::Serialize;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Available and sufficient.
    Ok,
    /// For information, or a missing feature that few users need.
    Note,
    /// Something works less well, or for fewer processes.
    Warn,
    /// The program cannot work.
    Fail,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The subject.
    pub name: &'static str,
    /// The severity.
    pub level: Level,
    /// The finding.
    pub found: String,
    /// The remedy; `None` if nothing needs to be done.
    pub remedy: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, level: Level::Ok, found: found.into(), remedy: None }
    }

    pub(super) fn with(
        name: &'static str,
        level: Level,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Check {
        Check { name, level, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// Information without a remedy.
    pub(super) fn note(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, level: Level::Note, found: found.into(), remedy: None }
    }
}
